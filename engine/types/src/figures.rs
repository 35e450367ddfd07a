//! What operators of a running dataflow have done, counted: plain values, which cross the bus with a node's
//! status. Who counts them is the engine; nothing here reads a clock or computes a rate.

use serde::{Deserialize, Serialize};

use crate::plan::OpId;
use crate::split::ExchangeId;

/// Where an operator stands in its part of a plan.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum OperatorPlace {
    /// An operator of a node's plan, or of a query's.
    Op(OpId),
    /// The sending end of an exchange on a node, or the window that receives it in a feed.
    Exchange(ExchangeId),
    /// The end of a query: the output of this number.
    Output(usize),
    /// None of the plan's.
    #[default]
    Elsewhere,
}

/// One operator, over all workers of a process, since it was installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorFigures {
    pub place: OperatorPlace,
    /// What it does, as the engine calls it: `Scan`, `Join`, `PaneWindow`.
    pub kind: String,
    /// Rows, or changes of rows or groups, that it has taken.
    pub rows_in: u64,
    pub rows_out: u64,
    /// Bytes that it keeps, and that wait for it.
    pub held_bytes: u64,
    /// Time spent in it.
    pub busy_ns: u64,
    /// How often it was at work.
    pub runs: u64,
}

/// What one query or feed does on one engine, operator by operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryFigures {
    pub query: u64,
    pub refresh_ms: u64,
    pub refreshes: RefreshFigures,
    /// In the order of their places.
    pub operators: Vec<OperatorFigures>,
}

/// How a query or feed keeps its refreshes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshFigures {
    /// Refreshes that were closed since it was installed.
    pub refreshes: u64,
    /// How long after its time the last one was done.
    pub late_ns: u64,
    /// The sum of that over all refreshes.
    pub late_ns_total: u64,
    /// The last one.
    pub frontier_tick_ms: Option<u64>,
}

impl RefreshFigures {
    /// How late it is at a time: as late as its last refresh was, or more if the next one is overdue by more.
    #[must_use]
    pub fn lateness_ns(&self, refresh_ms: u64, now_unix_ns: i64) -> u64 {
        let Some(tick_ms) = self.frontier_tick_ms else { return self.late_ns };
        let due_ns = crate::clock::tick_unix_ns(tick_ms.saturating_add(refresh_ms));
        self.late_ns.max(u64::try_from(now_unix_ns.saturating_sub(due_ns)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query that stands still grows later, one that is on time is as late as its last refresh: catches a
    /// lateness that stays small because nothing is measured any more.
    #[test]
    fn a_query_that_stands_still_grows_later() {
        let figures = RefreshFigures {
            refreshes: 3,
            late_ns: 2_000_000,
            late_ns_total: 5_000_000,
            frontier_tick_ms: Some(10_000),
        };
        assert_eq!(figures.lateness_ns(1_000, 10_002_000_000), 2_000_000);
        assert_eq!(figures.lateness_ns(1_000, 10_999_000_000), 2_000_000, "the next is not due");
        assert_eq!(figures.lateness_ns(1_000, 14_000_000_000), 3_000_000_000);
        assert_eq!(RefreshFigures::default().lateness_ns(1_000, i64::MAX), 0, "it has not begun");
    }
}
