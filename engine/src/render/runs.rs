//! What waits for a tick: in the order it came, or sorted and consolidated.
//!
//! Sorting everything when a tick closes would keep a worker busy for as long as the tick is large. So
//! changes are sorted in runs as they come, and the runs are merged one change at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use differential_dataflow::consolidation::consolidate;

use crate::weigh::{self, Weigh};

/// What an operator collects for a tick.
pub(super) trait Waiting: Default + Send + 'static {
    type Item: 'static;
    fn push(&mut self, item: Self::Item);
    /// No more is pushed.
    fn seal(&mut self);
    fn pop(&mut self) -> Option<Self::Item>;
    fn bytes(&self) -> usize;
}

/// In the order in which it came.
pub(super) struct Queue<I> {
    items: VecDeque<I>,
    bytes: usize,
}

impl<I> Default for Queue<I> {
    fn default() -> Queue<I> {
        Queue { items: VecDeque::new(), bytes: 0 }
    }
}

impl<I> Queue<I> {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

impl<I: Weigh + Send + 'static> Waiting for Queue<I> {
    type Item = I;

    fn push(&mut self, item: I) {
        self.bytes += weigh::item(&item);
        self.items.push_back(item);
    }
    fn seal(&mut self) {}
    fn pop(&mut self) -> Option<I> {
        // An equal share, so that nothing is weighed twice.
        self.bytes -= self.bytes.checked_div(self.items.len()).unwrap_or(0);
        self.items.pop_front()
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Changes in order, equal ones added up, none of them zero.
pub(super) struct Runs<T> {
    /// What came since the last run; not sorted.
    open: Vec<(T, i64)>,
    runs: Vec<std::vec::IntoIter<(T, i64)>>,
    /// With several runs that are sealed: the first change of each.
    heads: BinaryHeap<Reverse<(T, i64, usize)>>,
    len: usize,
    bytes: usize,
}

/// Sorting so many takes about two milliseconds.
const RUN_LEN: usize = 8192;

impl<T: Ord> Default for Runs<T> {
    fn default() -> Runs<T> {
        let (open, runs, heads) = (Vec::new(), Vec::new(), BinaryHeap::new());
        Runs { open, runs, heads, len: 0, bytes: 0 }
    }
}

impl<T: Ord + Weigh> Runs<T> {
    /// Adds up what is open.
    fn consolidate_open(&mut self) {
        let len = self.open.len();
        consolidate(&mut self.open);
        let gone = len - self.open.len();
        if gone > 0 {
            // What is left of what came: by an equal share.
            let gone_bytes = self.bytes / self.len.max(1) * gone;
            self.bytes -= gone_bytes.min(self.bytes);
            self.len -= gone;
        }
    }

    fn close_run(&mut self) {
        if !self.open.is_empty() {
            self.runs.push(std::mem::take(&mut self.open).into_iter());
        }
    }

    fn next_of(&mut self, run: usize) {
        if let Some((item, diff)) = self.runs[run].next() {
            self.heads.push(Reverse((item, diff, run)));
        }
    }

    fn least(&mut self) -> Option<(T, i64)> {
        if self.runs.len() == 1 {
            return self.runs[0].next();
        }
        let Reverse((item, diff, run)) = self.heads.pop()?;
        self.next_of(run);
        Some((item, diff))
    }

    fn count_out(&mut self) {
        self.bytes -= self.bytes.checked_div(self.len).unwrap_or(0);
        self.len = self.len.saturating_sub(1);
    }
}

impl<T: Ord + Weigh + Send + 'static> Waiting for Runs<T> {
    type Item = (T, i64);

    fn push(&mut self, item: (T, i64)) {
        self.bytes += weigh::item(&item);
        self.len += 1;
        self.open.push(item);
        if self.open.len() >= RUN_LEN {
            self.consolidate_open();
            // A run keeps all the room that it was collected in: with less in it, it is filled up first.
            if self.open.len() > RUN_LEN / 2 {
                self.close_run();
            }
        }
    }

    fn seal(&mut self) {
        self.consolidate_open();
        self.close_run();
        if self.runs.len() > 1 {
            (0..self.runs.len()).for_each(|run| self.next_of(run));
        }
    }

    fn pop(&mut self) -> Option<(T, i64)> {
        loop {
            let (item, mut sum) = self.least()?;
            self.count_out();
            while self.heads.peek().is_some_and(|Reverse((next, _, _))| *next == item) {
                let Some((_, diff)) = self.least() else { break };
                self.count_out();
                sum += diff;
            }
            if sum != 0 {
                return Some((item, sum));
            }
        }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use weir_types::random::SplitMix;

    use super::*;

    /// Runs that are merged give what sorting everything gives: catches a change that is lost, told twice
    /// or out of order where runs meet, and bytes that do not come back to nothing.
    #[test]
    fn merged_runs_are_sorted_and_consolidated() {
        for count in [0, 1, 100, RUN_LEN, 3 * RUN_LEN + 7] {
            let mut runs = Runs::default();
            let mut all = Vec::new();
            let mut random = SplitMix(7);
            for _ in 0..count {
                let change = (random.below(5_000) as i64, random.below(3) as i64 - 1);
                runs.push(change);
                all.push(change);
            }
            consolidate(&mut all);
            runs.seal();
            let popped: Vec<_> = std::iter::from_fn(|| runs.pop()).collect();
            assert_eq!(popped, all);
            assert_eq!((runs.len, runs.bytes()), (0, 0));
        }
    }

    /// A million changes of five rows take the room of one run: catches runs that keep the room of what was
    /// added up, which nobody counts. A join on a frequent key took gigabytes so.
    #[test]
    fn what_adds_up_takes_no_room() {
        let mut runs = Runs::default();
        (0..1_000_000_i64).for_each(|at| runs.push((at % 5, 1)));
        assert!(runs.runs.is_empty() && runs.open.capacity() <= 2 * RUN_LEN);
        runs.seal();
        let popped: Vec<_> = std::iter::from_fn(|| runs.pop()).collect();
        assert_eq!(popped, (0..5).map(|row| (row, 200_000)).collect::<Vec<_>>());
    }
}
