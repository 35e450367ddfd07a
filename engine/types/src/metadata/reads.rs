//! Which keys of the metadata an evaluation asked for, row by row, so that only rows which asked for what changed are
//! evaluated anew. Keys are kept as hashes: where two are alike, a row is looked at once more than it had to be.
//!
//! What is asked for is written down where it is looked up ([`super::SharedMap`]), on the thread that evaluates, while
//! somebody records. Whoever evaluates says for which row it asks; what is asked for without that counts for all.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hash};

/// What changes with everything else: of rows that are to be looked at whenever something changed.
pub const ALWAYS: u64 = 0;
/// In place of a row: all of them.
pub const ALL_ROWS: u32 = u32::MAX;

/// A row, and the key that it asked for.
pub type Read = (u32, u64);

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static ROW: Cell<u32> = const { Cell::new(ALL_ROWS) };
    static READS: RefCell<Vec<Read>> = const { RefCell::new(Vec::new()) };
}

/// Reads are written down as long as it lives.
#[must_use]
pub struct Recording(());

impl Recording {
    pub fn start() -> Recording {
        READS.with_borrow_mut(Vec::clear);
        ROW.set(ALL_ROWS);
        IS_ON.set(true);
        Recording(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        IS_ON.set(false);
    }
}

/// What is asked for from now on is asked for this row of what is being evaluated.
#[inline]
pub fn of_row(row: usize) {
    if IS_ON.get() {
        ROW.set(u32::try_from(row).unwrap_or(ALL_ROWS));
    }
}

/// Rows that this is asked for are looked at whenever something changed.
pub fn note_always() {
    note(|| ALWAYS);
}

/// What `evaluate` asks for, with the numbers that its rows have there; whoever it is written down for puts it back
/// with those that they have elsewhere ([`put`]). `None`: nobody records.
pub fn during<T>(evaluate: impl FnOnce() -> T) -> (T, Option<Vec<Read>>) {
    if !IS_ON.get() {
        return (evaluate(), None);
    }
    let before = READS.take();
    let row = ROW.replace(ALL_ROWS);
    let result = evaluate();
    ROW.set(row);
    (result, Some(READS.replace(before)))
}

/// Adds what was asked for.
pub fn put(reads: impl IntoIterator<Item = Read>) {
    READS.with_borrow_mut(|all| all.extend(reads));
}

#[inline]
pub(super) fn note(key: impl FnOnce() -> u64) {
    if IS_ON.get() {
        READS.with_borrow_mut(|reads| {
            let read = (ROW.get(), key());
            if reads.last() != Some(&read) {
                reads.push(read);
            }
        });
    }
}

/// A key as it is written down: the same in all maps and processes.
pub(super) fn hash_of<Q: Hash + ?Sized>(key: &Q) -> u64 {
    let state = foldhash::fast::FixedState::with_seed(0x7265_6164);
    state.hash_one(key).max(ALWAYS + 1)
}
