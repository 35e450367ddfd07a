//! A store for tests, in memory: it does what a disk would not do when asked. It checks nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use weir_types::split::Change;

use super::{Addition, Dropped, Identity, Pages, PaneStore, StoreError, Stored};

/// What it is to do, and what was done to it.
#[derive(Default)]
pub(crate) struct Script {
    /// Additions are refused.
    pub(crate) refuses: bool,
    /// Each source takes more than there is room for.
    pub(crate) is_over_budget: bool,
    /// Its thread dies while it reads: before it says that there is something, or after.
    pub(crate) dies: Option<Dies>,
    /// Pages of one reading.
    pub(crate) pages: usize,
    /// Up to which tick, and what.
    pub(crate) held: BTreeMap<Identity, (u64, Vec<Change>)>,
    /// The most additions that were to be written at once.
    pub(crate) additions_max: usize,
    /// Pages of each reading that is over.
    pub(crate) read_pages: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dies {
    Unopened,
    Opened,
}

#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PaneStore for Scripted {
    fn open(&mut self, _now_ms: u64) -> Result<(Vec<Stored>, Dropped), StoreError> {
        Ok((Vec::new(), Dropped::default()))
    }

    fn add(&mut self, additions: &[Addition]) -> Result<(), StoreError> {
        self.with(|script| {
            script.additions_max = script.additions_max.max(additions.len());
            if script.refuses {
                return Err(StoreError::Unwritable("a test says so".to_string()));
            }
            for Addition { identity, afresh, changes, to_ms, .. } in additions {
                if *afresh {
                    script.held.remove(identity);
                }
                let held = script.held.entry(Arc::clone(identity)).or_default();
                held.0 = *to_ms;
                held.1.extend(changes.iter().cloned());
            }
            Ok(())
        })
    }

    fn read(
        &mut self,
        identity: &[u8],
        _first_pane: i64,
        opened: &mut dyn FnMut(Option<u64>),
        pages: Pages<'_>,
    ) -> Result<(), StoreError> {
        let (dies, count) = self.with(|script| (script.dies, script.pages));
        let held = self.with(|script| script.held.get(identity).cloned());
        assert_ne!(dies, Some(Dies::Unopened), "a test asked for it");
        opened(held.as_ref().map(|(to_ms, _)| *to_ms));
        assert_ne!(dies, Some(Dies::Opened), "a test asked for it");
        let page = held.map(|(_, changes)| changes).unwrap_or_default();
        let read = (0..count).take_while(|_| pages(page.clone())).count();
        self.with(|script| script.read_pages.push(read));
        Ok(())
    }

    fn forget(&mut self, identity: &[u8]) -> Result<(), StoreError> {
        self.with(|script| script.held.remove(identity));
        Ok(())
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.with(|script| script.held.clear());
        Ok(())
    }

    fn sizes(&mut self) -> Result<Vec<(Identity, u64, u64)>, StoreError> {
        self.with(|script| {
            let bytes = if script.is_over_budget { u64::MAX / 64 } else { 1 };
            let all = script.held.keys();
            Ok(all.map(|identity| (Arc::clone(identity), 0, bytes)).collect())
        })
    }
}
