//! What functions left out of a query's values: on nodes, for all that read the feed, and in the engine here.
//! It stands in the answer as a loss of the pseudo-table `functions`, for as long as the window reaches back
//! to when it was noticed. What it counts is the functions' business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use weir_engine::Cuts;
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{Ledger, Loss, Reach, Span};

/// What stands for functions where a loss names its table.
pub const FUNCTIONS: &str = "functions";

/// By reason, of all queries there have been. It outlives the coordinator.
#[derive(Clone, Default)]
pub struct CutTotals(Arc<Mutex<BTreeMap<String, u64>>>);

impl CutTotals {
    fn add(&self, reason: &str, count: u64) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *totals.entry(reason.to_string()).or_default() += count;
    }

    #[must_use]
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Of one query or feed.
#[derive(Default)]
pub(super) struct CutLedger {
    ledger: Ledger,
    /// What an engine has told of.
    seen: Cuts,
}

impl CutLedger {
    /// What an engine counts since it began.
    pub(super) fn note_new(&mut self, tick_ms: u64, cuts: Cuts, totals: &CutTotals) {
        let new = cuts.since(&self.seen);
        let new: Vec<(String, u64)> =
            new.iter().map(|(reason, count)| (reason.to_string(), count)).collect();
        self.note(tick_ms, &new, totals);
        self.seen = cuts;
    }

    pub(super) fn note(&mut self, tick_ms: u64, cuts: &[(String, u64)], totals: &CutTotals) {
        let at_unix_ns = tick_unix_ns(tick_ms);
        for (reason, count) in cuts {
            self.ledger.note(&Loss {
                table: FUNCTIONS.to_string(),
                reason: reason.clone(),
                reach: Reach::Everybody,
                span: Span::new(at_unix_ns, at_unix_ns),
                count: *count,
            });
            totals.add(reason, *count);
        }
    }

    /// By reason, within a window.
    pub(super) fn within(&self, window: &Span, cut: &mut BTreeMap<String, u64>) {
        self.ledger.lost_within(FUNCTIONS, window, i64::MIN, cut);
    }
}
