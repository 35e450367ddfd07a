//! What functions left out of a query's values: on nodes, for all that read the feed, and in the engine here.
//! It stands in the answer as a loss of the pseudo-table `functions`, for as long as the window reaches back
//! to when it was noticed. What it counts is the functions' business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use weir_engine::Cuts;
use weir_proto::QueryId;
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{Ledger, Loss, Reach, Span};

use super::{Coordinator, Query};

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
pub(crate) struct CutLedger {
    ledger: Ledger,
    /// What the engine here has told of.
    seen: Cuts,
}

impl CutLedger {
    fn note(&mut self, reason: &str, count: u64, tick_ms: u64) {
        let at_unix_ns = tick_unix_ns(tick_ms);
        self.ledger.note(&Loss {
            table: FUNCTIONS.to_string(),
            reason: reason.to_string(),
            reach: Reach::Everybody,
            span: Span::new(at_unix_ns, at_unix_ns),
            count,
        });
    }
}

impl Coordinator {
    /// Counts what functions leave out where the server shows it.
    #[must_use]
    pub fn with_cut_totals(self, cut_totals: CutTotals) -> Coordinator {
        Coordinator { cut_totals, ..self }
    }

    /// Looks at what the query's functions have left out here up to a frontier; before its completeness.
    pub fn note_cuts(&mut self, query: QueryId, tick_ms: u64) {
        let Some(entry) = self.queries.get_mut(&query) else { return };
        let cuts = self.engine.cuts(query);
        for (reason, count) in cuts.since(&entry.cuts.seen).iter() {
            entry.cuts.note(reason, count, tick_ms);
            self.cut_totals.add(reason, count);
        }
        entry.cuts.seen = cuts;
    }

    /// A node tells of a feed.
    pub(super) fn on_cuts(&mut self, feed: QueryId, tick_ms: u64, cuts: &[(String, u64)]) {
        let Some(feed) = self.feeds.get_mut(&feed) else { return };
        for (reason, count) in cuts {
            feed.cuts.note(reason, *count, tick_ms);
            self.cut_totals.add(reason, *count);
        }
    }

    /// By reason, within a window.
    pub(super) fn cut_within(&self, entry: &Query, window: &Span) -> BTreeMap<String, u64> {
        let mut cut = BTreeMap::new();
        let feeds = entry.feeds.iter().filter_map(|feed| self.feeds.get(feed));
        for CutLedger { ledger, .. } in feeds.map(|feed| &feed.cuts).chain([&entry.cuts]) {
            ledger.lost_within(FUNCTIONS, window, i64::MIN, &mut cut);
        }
        cut
    }
}
