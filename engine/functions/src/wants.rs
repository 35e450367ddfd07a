//! What functions were asked and somebody else has to find out, because a kernel must not wait: names of
//! addresses (`nslookup`), libraries of processes (`shared_libraries`). It is noted with the evaluation,
//! known or not, since what is known may be fresh no longer. Whoever keeps the engine takes the notes, and
//! what is found out comes with the metadata.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_types::Upid;
use weir_types::metadata::Wanted;
use weir_types::source::ORDER_ITEMS_MAX;

/// So many of a kind are noted until they are taken, as many as one order may name; more are left out,
/// counted, and noted when they are asked for again.
pub const WANTED_MAX: usize = ORDER_ITEMS_MAX;

/// The notes of one engine.
#[derive(Debug, Default)]
pub struct Wants {
    noted: Mutex<Noted>,
    left_out: AtomicU64,
}

#[derive(Debug, Default)]
struct Noted {
    addresses: BTreeSet<IpAddr>,
    processes: BTreeSet<Upid>,
}

impl Wants {
    /// Held for some insertions only.
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add<T: Ord + Copy>(&self, noted: &mut BTreeSet<T>, things: &[T]) {
        for &thing in things {
            if noted.len() < WANTED_MAX {
                noted.insert(thing);
            } else if !noted.contains(&thing) {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn names_of(&self, addresses: &[IpAddr]) {
        if !addresses.is_empty() {
            self.add(&mut self.lock().addresses, addresses);
        }
    }

    pub(crate) fn libraries_of(&self, processes: &[Upid]) {
        if !processes.is_empty() {
            self.add(&mut self.lock().processes, processes);
        }
    }

    /// What was noted since the last time.
    #[must_use]
    pub fn take(&self) -> Wanted {
        let Noted { addresses, processes } = std::mem::take(&mut *self.lock());
        Wanted {
            addresses: addresses.into_iter().collect(),
            processes: processes.into_iter().collect(),
        }
    }

    /// How much was left out since the start.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}
