//! What windows of rows and of accumulators have in common: which panes are inside at a tick, what came too late,
//! and when a pane leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_types::clock::tick_unix_ns;
use weir_types::plan::SlidingWindow;
use weir_types::split::Change;

use super::route;
use crate::query::QueryShared;

/// Equal rows and equal group keys meet on one worker.
pub(super) fn change_route(change: &Change) -> u64 {
    match change {
        Change::Row { row, .. } => route(&row.0),
        Change::Partial { key, .. } => route(&key.0),
    }
}

/// The window of one operator. Without a sliding one, rows never leave.
pub(super) struct Window {
    pub(super) query: Arc<QueryShared>,
    pub(super) sliding: Option<SlidingWindow>,
}

impl Window {
    /// The first pane that is inside at a tick.
    pub(super) fn first_pane(&self, tick_ms: u64) -> Option<i64> {
        self.sliding.map(|sliding| sliding.first_pane_at(tick_unix_ns(tick_ms)))
    }

    /// The least event time that is inside at a tick.
    pub(super) fn first_unix_ns(&self, tick_ms: u64) -> i64 {
        let first = self.sliding.map(|sliding| sliding.first_unix_ns_at(tick_unix_ns(tick_ms)));
        first.unwrap_or(i64::MIN)
    }

    /// True for what came when its pane had left; so many rows, or copies of one, are counted.
    pub(super) fn is_late(&self, first: Option<i64>, pane: i64, diff: i64) -> bool {
        let is_late = first.is_some_and(|first| pane < first);
        if is_late {
            self.query.late_rows.fetch_add(diff.unsigned_abs(), Ordering::Relaxed);
        }
        is_late
    }

    /// The first refresh at which `pane` has left.
    pub(super) fn expiry_tick(&self, pane: i64) -> Option<u64> {
        let sliding = self.sliding?;
        let end_ns = pane.saturating_add(1).saturating_mul(sliding.pane_ns);
        Some(self.query.refresh_from_ns(end_ns.saturating_add(sliding.window_ns)))
    }
}
