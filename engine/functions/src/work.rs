//! How much evaluating may take at a stretch. A worker cannot be interrupted, and what a row costs is not
//! known before it is looked at; so functions say what they do while they do it, on the thread that
//! evaluates, and whoever evaluates says how much there may be.
//!
//! What is too much for several rows is thrown away, to be done with fewer. What is too much for one row is cut,
//! and counted ([`crate::cuts`]): a row of its own is never cut where it would not be among others. Counted are
//! steps and bytes, not time: a row is worth the same on every machine, today and when it is taken back.

use std::cell::Cell;

use crate::cuts;

/// An amount of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Steps of patterns through texts, of about 3 ns.
    pub steps: u64,
    /// Bytes that functions read, each as often as it is read and as many times over as the function is
    /// slower than a copy with a condition, which takes 0.7 ns.
    pub read_bytes: u64,
    /// Bytes of texts that functions make.
    pub made_bytes: u64,
}

/// For what an operator evaluates at once: some 20 ms of patterns, more than one text may take; some 12 ms of
/// everything else. A text of a megabyte may be read sixteen times.
pub const AT_ONCE: Work = Work { steps: 7_000_000, read_bytes: 16 << 20, made_bytes: 16 << 20 };

/// Nobody has said how much there may be: constants, and whoever has time.
const UNBOUNDED: Work = Work { steps: u64::MAX, read_bytes: u64::MAX, made_bytes: u64::MAX };

#[derive(Clone, Copy)]
struct Meter {
    left: Work,
    /// Something did not fit.
    is_over: bool,
    is_one_row: bool,
}

const UNMETERED: Meter = Meter { left: UNBOUNDED, is_over: false, is_one_row: true };

thread_local! {
    static METER: Cell<Meter> = const { Cell::new(UNMETERED) };
}

/// Puts back what was there, also when a function panics.
struct Restore(Meter);

impl Drop for Restore {
    fn drop(&mut self) {
        METER.set(self.0);
    }
}

/// What was spent, of what was allowed.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// More than half: with twice as many rows it may be too much.
    pub is_half: bool,
}

/// Evaluates so many rows. `None`: it was too much for several rows at once; nothing of it counts, cuts
/// neither.
pub fn within<T>(allowed: Work, rows: usize, evaluate: impl FnOnce() -> T) -> Option<(T, Spent)> {
    let before = cuts::so_far();
    let restore =
        Restore(METER.replace(Meter { left: allowed, is_over: false, is_one_row: rows <= 1 }));
    let result = evaluate();
    let Meter { left, is_over, .. } = METER.get();
    drop(restore);
    if is_over && rows > 1 {
        cuts::reset(before);
        return None;
    }
    let is_half = left.steps < allowed.steps / 2
        || left.read_bytes < allowed.read_bytes / 2
        || left.made_bytes < allowed.made_bytes / 2;
    Some((result, Spent { is_half }))
}

/// Steps that a pattern may still take.
pub(crate) fn steps_left() -> u64 {
    METER.get().left.steps
}

/// Takes from one of the amounts; false: there is less than that, and it is not to be done.
fn spend(of: impl FnOnce(&mut Work) -> &mut u64, amount: u64) -> bool {
    let mut meter = METER.get();
    let left = of(&mut meter.left);
    let fits = amount <= *left;
    if !fits {
        meter.is_over = true;
    } else if *left != u64::MAX {
        *left -= amount;
    }
    METER.set(meter);
    fits
}

pub(crate) fn spend_steps(steps: u64) -> bool {
    spend(|left| &mut left.steps, steps)
}
pub(crate) fn spend_read(bytes: u64) -> bool {
    spend(|left| &mut left.read_bytes, bytes)
}
pub(crate) fn spend_made(bytes: u64) -> bool {
    spend(|left| &mut left.made_bytes, bytes)
}

/// Something was given up that had taken all steps that were left.
pub(crate) fn out_of_steps() {
    let mut meter = METER.get();
    meter.left.steps = 0;
    meter.is_over = true;
    METER.set(meter);
}

/// Several rows are too much already: whatever is made of them now is thrown away.
pub(crate) fn is_wasted() -> bool {
    let meter = METER.get();
    meter.is_over && !meter.is_one_row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuts::Cut;

    const LITTLE: Work = Work { steps: 10, read_bytes: 10, made_bytes: 10 };

    /// What is too much for several rows leaves no trace, for one it stands, what is smaller still fits, and a
    /// panic takes the bound with it.
    #[test]
    fn what_is_too_much() {
        let _ = cuts::take();
        let too_much = || {
            assert!(spend_steps(6));
            assert!(!spend_steps(5));
            assert_eq!(steps_left(), 4);
            assert!(spend_read(10));
            cuts::note(Cut::RegexWork, 1);
        };
        assert!(within(LITTLE, 2, too_much).is_none());
        assert!(cuts::take().is_empty());
        assert!(within(LITTLE, 1, too_much).is_some_and(|(_, spent)| spent.is_half));
        assert_eq!(cuts::take().get(Cut::RegexWork), 1);
        let little = within(LITTLE, 2, || assert!(spend_made(5)));
        assert!(little.is_some_and(|(_, spent)| !spent.is_half));
        let panics = || within(LITTLE, 1, || panic!("of a function"));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(spend_made(u64::MAX) && spend_made(1) && !is_wasted());
    }
}
