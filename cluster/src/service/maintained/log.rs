//! What a view delivered lately, for readers that come back. Bounded in bytes; the oldest goes first.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_sinks::delivery::Delivery;

/// What one view keeps: minutes of a quiet view, seconds of a busy one. Who was away for longer gets a
/// snapshot, which is then hardly more.
const LOG_BYTES_MAX: u64 = if cfg!(test) { 6_000 } else { 1 << 20 };

#[derive(Default)]
pub(super) struct Log {
    entries: VecDeque<Arc<Delivery>>,
    bytes: u64,
    /// The frontier from which on everything is here.
    from_ms: u64,
    /// The last frontier that was reached.
    reached_ms: Option<u64>,
}

impl Log {
    pub(super) fn push(&mut self, delivery: Arc<Delivery>) {
        if delivery.changes.is_empty() {
            return;
        }
        self.bytes += delivery.bytes();
        self.entries.push_back(delivery);
        while self.bytes > LOG_BYTES_MAX
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.bytes();
            // A part of its tick is missing now.
            self.from_ms = self.from_ms.max(oldest.tick_ms);
        }
    }

    /// The view's frontier has moved.
    pub(super) fn reached(&mut self, frontier_ms: u64) {
        if self.reached_ms.replace(frontier_ms).is_none() {
            // All that was delivered until here is the first snapshot.
            self.from_ms = self.from_ms.max(frontier_ms);
        }
    }

    /// More was delivered at a frontier that was reached before: who came as far as that may lack it.
    pub(super) fn forget(&mut self, frontier_ms: u64) {
        self.from_ms = self.from_ms.max(frontier_ms.saturating_add(1));
    }

    /// What was delivered after a frontier. `None`: some of it is not here any more, or it is not a
    /// frontier that this view has reached.
    pub(super) fn since(
        &self,
        since_ms: u64,
        frontier_ms: Option<u64>,
    ) -> Option<impl Iterator<Item = &Arc<Delivery>>> {
        let reached = frontier_ms.is_some_and(|frontier_ms| since_ms <= frontier_ms);
        let later = move |delivery: &&Arc<Delivery>| delivery.tick_ms > since_ms;
        (reached && since_ms >= self.from_ms).then(|| self.entries.iter().filter(later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has come as far as a frontier at which more was delivered later gets a snapshot, as it cannot
    /// be told what it lacks; who comes as far as the next one is told everything. Catches a view that was
    /// installed anew and reached the same frontier again.
    #[test]
    fn a_frontier_reached_twice_is_forgotten() {
        let mut log = Log::default();
        log.reached(100);
        log.reached(200);
        assert!(log.since(200, Some(200)).is_some());
        log.forget(200);
        log.reached(200);
        assert!(log.since(200, Some(200)).is_none() && log.since(100, Some(200)).is_none());
        log.reached(300);
        assert!(log.since(300, Some(300)).is_some());
    }
}
