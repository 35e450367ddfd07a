//! Datagrams that did not come.

use weir_protocols::REORDER_GRACE_NS;

use crate::capture::DataEvent;

/// Bytes of datagrams that are missing between those that came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Missing {
    /// Behind the last datagram.
    position: u64,
    bytes: u64,
    since_unix_ns: i64,
}

impl Missing {
    /// Whether datagrams are missing for good before this one: others of its way may come late.
    pub(super) fn before(&mut self, event: &DataEvent<'_>) -> bool {
        let (begins, bytes) = (event.position, u64::from(event.total_bytes));
        if begins < self.position {
            self.bytes = self.bytes.saturating_sub(bytes);
        } else {
            if begins > self.position && self.bytes == 0 {
                self.since_unix_ns = event.time_unix_ns;
            }
            self.bytes += begins - self.position;
            self.position = begins.saturating_add(bytes);
        }
        let passed_ns = event.time_unix_ns.saturating_sub(self.since_unix_ns);
        let is_gap = self.bytes > 0 && passed_ns >= REORDER_GRACE_NS;
        if is_gap {
            self.bytes = 0;
        }
        is_gap
    }
}
