//! How much the store may hold: panes that have left their windows go first, then whole sources.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::info;

use super::{KeeperStats, Writer};
use crate::store::{Addition, Identity};

impl Writer {
    /// Panes that have left stay, as long as there is room.
    pub(super) fn with_past(&mut self, mut addition: Addition) -> Addition {
        if let Some(past) = &mut self.past {
            let Addition { to_ms, used_ms, first_pane, past_panes, .. } = addition;
            let identity = Arc::clone(&addition.identity);
            let (afresh, changes) = (false, Vec::new());
            let without =
                Addition { identity, afresh, changes, to_ms, used_ms, first_pane, past_panes };
            past.insert(Arc::clone(&addition.identity), without);
            addition.first_pane = addition.first_pane.saturating_sub(addition.past_panes);
        }
        addition
    }

    pub(super) fn forget_past(&mut self, identity: &Identity) {
        if let Some(past) = &mut self.past {
            past.remove(identity);
        }
    }

    /// Takes away what has left. False: that was done before, or is not to be.
    fn drop_past(&mut self) -> bool {
        let Some(past) = self.past.take() else { return false };
        let additions: Vec<Addition> = past.into_values().collect();
        if additions.is_empty() {
            // Nothing was sealed yet: what is there may still be shortened.
            self.past = Some(BTreeMap::new());
            return false;
        }
        // Said first: whoever hears of a reading later knows of it.
        self.stats.without_past.store(true, Ordering::Release);
        info!("the store is full: panes that have left their windows are kept no longer");
        match self.store.add(&additions) {
            Ok(()) => true,
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// What was least used goes until the rest fits; of equally used ones the largest.
    pub(super) fn keep_to_budget(&mut self) {
        loop {
            let sizes = match self.store.sizes() {
                Ok(sizes) => sizes,
                Err(error) => return self.failed(&error),
            };
            let bytes: u64 = sizes.iter().map(|(_, _, bytes)| bytes).sum();
            self.stats.sources.store(sizes.len() as u64, Ordering::Relaxed);
            self.stats.bytes.store(bytes, Ordering::Relaxed);
            if bytes <= self.bytes_max {
                return;
            }
            if self.drop_past() {
                continue;
            }
            let least = sizes.into_iter().min_by_key(|(_, used_ms, bytes)| {
                // Within seconds of each other they are in use alike.
                (used_ms / 60_000, std::cmp::Reverse(*bytes))
            });
            let Some((identity, _, bytes)) = least else { return };
            info!(bytes, max = self.bytes_max, "the store is full: a source is kept no longer");
            KeeperStats::count(&self.stats.over_budget_total, 1);
            if let Err(error) = self.store.forget(&identity) {
                return self.failed(&error);
            }
            self.gone(identity, false);
        }
    }
}
