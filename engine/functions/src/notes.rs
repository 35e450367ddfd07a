//! Notes of what functions were asked and somebody else has to find out: a kernel must not wait.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// At most `max` things at a time; more are left out, counted, and noted when they are asked for
/// again.
pub(crate) struct Notes<T> {
    wanted: Mutex<BTreeSet<T>>,
    left_out: AtomicU64,
    max: usize,
}

impl<T: Ord + Copy> Notes<T> {
    pub(crate) const fn new(max: usize) -> Notes<T> {
        Notes { wanted: Mutex::new(BTreeSet::new()), left_out: AtomicU64::new(0), max }
    }

    /// Never waits: when another thread is at it, the next batch asks again.
    pub(crate) fn add(&self, things: &[T]) {
        if things.is_empty() {
            return;
        }
        let Ok(mut wanted) = self.wanted.try_lock() else { return };
        for &thing in things {
            if wanted.len() < self.max {
                wanted.insert(thing);
            } else if !wanted.contains(&thing) {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What was noted since the last time.
    pub(crate) fn take(&self) -> Vec<T> {
        let mut wanted = self.wanted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut *wanted).into_iter().collect()
    }

    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}
