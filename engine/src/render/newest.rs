//! Which rows can still be among the newest n of a window, for a `Limit` that follows: the rule that a
//! node goes by when it sends rows, and the window that receives them when it keeps them.
//!
//! Panes are in the order of event times and the oldest expire first. So once n rows are newer than a row,
//! they stay as long as it would: it can never be among the newest n again. Nobody has to be told that it
//! is gone; both sides drop it by themselves. Rows of equal time go together: how they rank among each
//! other is for the limit to say.
//!
//! It keeps times, no rows.

use std::collections::BTreeMap;

/// The least event time that is not outdone.
pub(super) struct Floor {
    rows_max: u64,
    /// Event time → rows that are certain to reach the limit, from the floor on.
    certain: BTreeMap<i64, u64>,
    count: u128,
    least_ns: i64,
}

/// An event time in the map.
const ENTRY_BYTES: usize = 24;

impl Floor {
    pub(super) fn new(rows_max: u64) -> Floor {
        Floor { rows_max, certain: BTreeMap::new(), count: 0, least_ns: i64::MIN }
    }

    /// False for a row that is outdone.
    pub(super) fn admits(&self, time_unix_ns: i64) -> bool {
        self.rows_max > 0 && time_unix_ns >= self.least_ns
    }

    /// Copies of a row have come that are certain to reach the limit.
    pub(super) fn add(&mut self, time_unix_ns: i64, copies: u64) {
        if copies == 0 || !self.admits(time_unix_ns) {
            return;
        }
        let wanted = u128::from(self.rows_max);
        let here = self.certain.entry(time_unix_ns).or_default();
        let sum = here.saturating_add(copies);
        self.count += u128::from(sum - *here);
        *here = sum;
        while let Some(oldest) = self.certain.first_entry()
            && self.count - u128::from(*oldest.get()) >= wanted
        {
            self.count -= u128::from(oldest.remove());
        }
        if self.count >= wanted
            && let Some((&oldest_ns, _)) = self.certain.first_key_value()
        {
            self.least_ns = oldest_ns;
        }
    }

    /// Rows before this have left the window. What was outdone has left it, too: the floor stays.
    pub(super) fn expire(&mut self, first_unix_ns: i64) {
        while let Some(oldest) = self.certain.first_entry()
            && *oldest.key() < first_unix_ns
        {
            self.count -= u128::from(oldest.remove());
        }
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.certain.len() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use weir_types::random::SplitMix;

    use super::*;

    /// Rows come in any order; the newest three by sorting are never refused, and what is refused is not
    /// among them: catches a floor that is too high, or none at all.
    #[test]
    fn only_what_is_outdone_is_refused() {
        let mut floor = Floor::new(3);
        for time in [10, 30, 20] {
            assert!(floor.admits(time));
            floor.add(time, 1);
        }
        assert!(!floor.admits(9) && floor.admits(10), "an equal time may rank before it");
        floor.add(30, 2);
        assert!(!floor.admits(29) && floor.admits(30));
        assert_eq!(floor.certain.len(), 1);
        assert!(!Floor::new(0).admits(i64::MAX), "of no rows none is wanted");
    }

    /// A floor does not sink when the rows that made it have left: what they outdid left before them.
    #[test]
    fn expiry_does_not_lower_it() {
        let mut floor = Floor::new(2);
        floor.add(10, 1);
        floor.add(20, 1);
        floor.expire(21);
        assert_eq!((floor.count, floor.state_bytes()), (0, 0));
        assert!(!floor.admits(9));
        floor.add(30, 1);
        assert!(floor.admits(25), "only one is newer");
    }

    /// More copies than a counter holds do not turn it round.
    #[test]
    fn counts_do_not_overflow() {
        let mut floor = Floor::new(u64::MAX);
        floor.add(1, u64::MAX);
        floor.add(1, u64::MAX);
        floor.add(2, u64::MAX);
        assert!(floor.admits(1) || floor.admits(2));
        floor.expire(5);
    }

    /// By the definition: a row is outdone when n that have come are newer. Two thousand random feeds.
    #[test]
    fn equals_the_definition() {
        let mut random = SplitMix(7);
        let mut below = |end: u64| random.below(end);
        for _ in 0..2_000 {
            let n = below(5);
            let mut floor = Floor::new(n);
            let mut times: Vec<i64> = Vec::new();
            for _ in 0..below(40) {
                let time = below(8) as i64;
                let newer = times.iter().filter(|&&other| other > time).count() as u64;
                assert_eq!(floor.admits(time), newer < n, "{n} of {times:?}, {time}");
                floor.add(time, 1);
                times.push(time);
            }
        }
    }
}
