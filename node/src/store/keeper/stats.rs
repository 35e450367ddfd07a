//! What a store says of itself: counts since the start, how much it holds, and how it is, as one of a node's sources.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tracing::warn;
use weir_proto::message::SourceStatus;

use super::super::Dropped;

/// The source that the store is among the sources of a node.
pub const STORE_SOURCE: &str = "store";

/// What a store did, since the start.
#[derive(Debug, Default)]
pub struct KeeperStats {
    pub sources: AtomicU64,
    pub bytes: AtomicU64,
    pub waiting_bytes: AtomicU64,
    pub additions_total: AtomicU64,
    pub damaged_total: AtomicU64,
    pub foreign_total: AtomicU64,
    pub unused_total: AtomicU64,
    pub over_budget_total: AtomicU64,
    pub overrun_total: AtomicU64,
    pub failed_total: AtomicU64,
    pub refused_total: AtomicU64,
    pub errors_total: AtomicU64,
    /// Why it does not write; empty if it does.
    reason: Mutex<String>,
    /// There was no room for panes that have left their windows: they are kept no longer.
    pub(super) without_past: AtomicBool,
    /// Its thread died: nothing is kept any more.
    pub(super) has_died: AtomicBool,
}

impl KeeperStats {
    pub(super) fn count(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn set_reason(&self, reason: String) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// As one of a node's sources.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let state = match (self.has_died.load(Ordering::Relaxed), reason.is_empty()) {
            (true, _) => "failed",
            (false, true) => "running",
            (false, false) => "reduced",
        };
        let counts = [
            ("kept_sources", &self.sources),
            ("kept_bytes", &self.bytes),
            ("waiting_bytes", &self.waiting_bytes),
            ("additions", &self.additions_total),
            ("dropped_damaged", &self.damaged_total),
            ("dropped_foreign", &self.foreign_total),
            ("dropped_unused", &self.unused_total),
            ("dropped_over_budget", &self.over_budget_total),
            ("dropped_overrun", &self.overrun_total),
            ("dropped_failed", &self.failed_total),
            ("refused", &self.refused_total),
            ("errors", &self.errors_total),
        ];
        SourceStatus {
            name: STORE_SOURCE.to_string(),
            state: state.to_string(),
            reason,
            counts: counts
                .map(|(name, count)| (name.to_string(), count.load(Ordering::Relaxed)))
                .into(),
            ..SourceStatus::default()
        }
    }
}

pub(super) fn note_dropped(stats: &KeeperStats, dropped: Dropped) {
    if dropped != Dropped::default() {
        warn!(?dropped, "something of the store cannot be used and is dropped");
    }
    KeeperStats::count(&stats.damaged_total, dropped.damaged);
    KeeperStats::count(&stats.foreign_total, dropped.foreign);
    KeeperStats::count(&stats.unused_total, dropped.unused);
}
