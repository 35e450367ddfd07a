//! What an end of the network bus counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Since the start.
#[derive(Debug, Default)]
pub struct BusStats {
    pub connected_total: AtomicU64,
    pub disconnected_total: AtomicU64,
    /// Frames that the library dropped because they were not looked at in time; they are sent again.
    pub slow_consumer_total: AtomicU64,
    /// Sessions that began.
    pub sessions_total: AtomicU64,
    /// Sessions that ended because too much waited, or could not be put together.
    pub sessions_over_total: AtomicU64,
    /// Nodes that were refused.
    pub refused_total: AtomicU64,
    pub frames_resent_total: AtomicU64,
    pub frames_repeated_total: AtomicU64,
    /// Places where frames were found missing.
    pub gaps_total: AtomicU64,
    /// Messages that were given while no session was there to carry them.
    pub unsent_total: AtomicU64,
    /// Messages that were kept for the other end when their session ended, and went with it.
    pub dropped_total: AtomicU64,
    pub bytes_sent_total: AtomicU64,
    pub bytes_received_total: AtomicU64,
    /// Frames of sessions that are over, or of nobody.
    pub strange_frames_total: AtomicU64,
}

impl BusStats {
    pub(super) fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// How often the server was reached, and how often it went.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        let [connected, disconnected] = [&self.connected_total, &self.disconnected_total]
            .map(|counter| counter.load(Ordering::Relaxed));
        (connected, disconnected)
    }

    /// Name → count.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 14] {
        [
            ("connected", &self.connected_total),
            ("disconnected", &self.disconnected_total),
            ("slow_consumer", &self.slow_consumer_total),
            ("sessions", &self.sessions_total),
            ("sessions_over", &self.sessions_over_total),
            ("nodes_refused", &self.refused_total),
            ("frames_resent", &self.frames_resent_total),
            ("frames_repeated", &self.frames_repeated_total),
            ("gaps", &self.gaps_total),
            ("unsent", &self.unsent_total),
            ("dropped", &self.dropped_total),
            ("bytes_sent", &self.bytes_sent_total),
            ("bytes_received", &self.bytes_received_total),
            ("strange_frames", &self.strange_frames_total),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}
