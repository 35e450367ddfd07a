//! Changes that a process that follows has read from the bus: they wait here until the first process, which is told
//! of them by number, says where they belong or that nobody wants them. They are of one generation. Who reads the
//! bus and what is told is not decided here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_types::split::Change;

use crate::weigh;

/// Above this there is no room: whoever reads waits. One message may go beyond it.
const BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
struct Held {
    /// False while no generation stands: then nobody will ask for them.
    is_open: bool,
    changes: BTreeMap<u64, (Vec<Change>, usize)>,
    bytes: usize,
    next: u64,
}

#[derive(Default)]
pub struct Deposits {
    held: Mutex<Held>,
    read_bytes: AtomicU64,
}

impl Deposits {
    /// Whoever panicked left whole values.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Their number.
    ///
    /// # Errors
    /// There is no room now: they are given back.
    pub fn put(&self, changes: Vec<Change>) -> Result<u64, Vec<Change>> {
        let bytes = weigh::changes(&changes);
        let mut held = self.lock();
        if held.bytes > 0 && held.bytes + bytes > BYTES_MAX {
            return Err(changes);
        }
        let number = held.next;
        held.next += 1;
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if held.is_open {
            held.bytes += bytes;
            held.changes.insert(number, (changes, bytes));
        }
        Ok(number)
    }

    /// Each once. `None`: they are of a generation that is over.
    pub(crate) fn take(&self, number: u64) -> Option<Vec<Change>> {
        let mut held = self.lock();
        let (changes, bytes) = held.changes.remove(&number)?;
        held.bytes -= bytes;
        Some(changes)
    }

    /// What comes from now on is of the next generation.
    pub(crate) fn open(&self) {
        let mut held = self.lock();
        held.is_open = true;
        held.bytes = 0;
        let former = std::mem::take(&mut held.changes);
        drop(held);
        drop(former);
    }

    /// The generation is over.
    pub(crate) fn close(&self) {
        self.open();
        self.lock().is_open = false;
    }

    /// Bytes that were read, in all.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use weir_types::PackedRow;

    use super::*;

    fn changes(bytes: usize) -> Vec<Change> {
        vec![Change::Row { row: PackedRow(vec![0; bytes]), pane: 0, diff: 1 }]
    }

    /// Each is taken once, in any order; there is room for one whatever its size and then for no more before it is
    /// taken; what is of a generation that is over is not there any more, and what comes before the next is not kept.
    #[test]
    fn they_wait_and_are_bounded() {
        let deposits = Deposits::default();
        let lost = deposits.put(changes(8)).unwrap();
        assert_eq!(deposits.take(lost), None);
        deposits.open();
        let (first, second) =
            (deposits.put(changes(8)).unwrap(), deposits.put(changes(9)).unwrap());
        assert_eq!(deposits.take(second), Some(changes(9)));
        assert_eq!(deposits.take(second), None);
        assert_eq!(deposits.take(first), Some(changes(8)));
        let large = deposits.put(changes(BYTES_MAX + 1)).unwrap();
        assert_eq!(deposits.put(changes(8)), Err(changes(8)));
        assert!(deposits.take(large).is_some());
        let former = deposits.put(changes(8)).unwrap();
        deposits.open();
        assert_eq!(deposits.take(former), None);
        let last = deposits.put(changes(8)).unwrap();
        deposits.close();
        assert_eq!(deposits.take(last), None);
        assert!(deposits.read_bytes() > BYTES_MAX as u64);
    }
}
