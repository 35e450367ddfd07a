//! One direction of a TCP connection: sequence numbers as offsets that do not wrap, what was handed on,
//! what waits, and what the other end says that it has.
//!
//! Offsets count from an arbitrary number; [`Half::position`] is what consumers know.

use std::collections::BTreeMap;

/// The offset of the first number that is seen: far from zero, since older numbers may come.
const ORIGIN: u64 = 1 << 33;
/// Nobody acknowledges more than a window that was never seen: what is further ahead is no number of
/// this connection.
pub(super) const AHEAD_MAX: u64 = 1 << 30;
/// What a segment that waits takes beside its bytes, about.
pub(super) const HELD_COST_BYTES: usize = 128;

/// A segment that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) time_unix_ns: i64,
    pub(super) wire_bytes: u64,
    pub(super) payload: Vec<u8>,
    /// The offset up to which its sender had the other direction.
    pub(super) needs: u64,
}

impl Held {
    fn cost_bytes(&self) -> usize {
        HELD_COST_BYTES + self.payload.len()
    }
}

#[derive(Debug, Default)]
pub(super) struct Half {
    /// An offset and its sequence number, not far from those that come.
    near: Option<(u64, u32)>,
    start: Option<u64>,
    /// Where the next byte is that was not handed on, or given up.
    pub(super) frontier: u64,
    pub(super) ahead: BTreeMap<u64, Held>,
    pub(super) held_bytes: usize,
    /// What the other end has.
    pub(super) acked: u64,
    /// Where it ends.
    pub(super) fin: Option<u64>,
    pub(super) fin_told: bool,
}

impl Half {
    pub(super) fn is_begun(&self) -> bool {
        self.start.is_some()
    }

    /// Its first byte has this number.
    pub(super) fn begin(&mut self, sequence: u32) {
        self.near = Some((ORIGIN, sequence));
        self.start = Some(ORIGIN);
        (self.frontier, self.acked) = (ORIGIN, ORIGIN);
    }

    pub(super) fn begins_with(&self, sequence: u32) -> bool {
        self.start.is_some_and(|start| self.offset(sequence) == Some(start))
    }

    /// The offset of a number; `None` before it has begun.
    pub(super) fn offset(&self, sequence: u32) -> Option<u64> {
        let (offset, near) = self.near?;
        Some(offset.saturating_add_signed(i64::from(sequence.wrapping_sub(near).cast_signed())))
    }

    pub(super) fn position(&self) -> u64 {
        self.frontier - self.start.unwrap_or(self.frontier)
    }

    /// Everything up to there was handed on or is given up.
    pub(super) fn move_to(&mut self, offset: u64) {
        if let Some((at, sequence)) = self.near {
            self.near = Some((offset, sequence.wrapping_add(offset.wrapping_sub(at) as u32)));
        }
        self.frontier = offset;
    }

    /// The other end has everything up to this number. Its offset, unless that cannot be.
    pub(super) fn acknowledge(&mut self, sequence: u32) -> Option<u64> {
        let offset = self.offset(sequence)?;
        if offset > self.frontier.saturating_add(AHEAD_MAX) {
            return None;
        }
        self.acked = self.acked.max(offset);
        Some(self.fin.map_or(offset, |fin| offset.min(fin)))
    }

    /// Whether a reset with this number is one of this connection.
    pub(super) fn takes_reset(&self, sequence: u32) -> bool {
        self.offset(sequence).is_none_or(|offset| offset.abs_diff(self.frontier) < AHEAD_MAX)
    }

    pub(super) fn first_held(&self) -> Option<(u64, &Held)> {
        self.ahead.first_key_value().map(|(at, held)| (*at, held))
    }

    pub(super) fn pop_held(&mut self) -> Option<(u64, Held)> {
        let (at, held) = self.ahead.pop_first()?;
        self.held_bytes -= held.cost_bytes();
        Some((at, held))
    }

    /// Keeps a segment; of two at one place the longer one.
    pub(super) fn hold(&mut self, at: u64, held: Held) {
        if let Some(there) = self.ahead.get(&at)
            && (there.wire_bytes, there.payload.len()) >= (held.wire_bytes, held.payload.len())
        {
            return;
        }
        self.held_bytes += held.cost_bytes();
        if let Some(old) = self.ahead.insert(at, held) {
            self.held_bytes -= old.cost_bytes();
        }
    }

    /// Bytes that the other end has and that were never seen: up to which offset.
    pub(super) fn missing_to(&self) -> Option<u64> {
        let first = self.first_held().map(|(at, _)| at);
        let end = self.fin.map_or(self.acked, |fin| self.acked.min(fin));
        let to = first.map_or(end, |first| first.min(end));
        (to > self.frontier).then_some(to)
    }

    /// An end that was not seen: one number more is acknowledged than there are bytes.
    pub(super) fn note_unseen_end(&mut self) {
        if self.fin.is_none() && self.ahead.is_empty() && self.acked == self.frontier + 1 {
            self.fin = Some(self.frontier);
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.frontier >= fin)
    }

    /// Forgets what waits.
    pub(super) fn forget(&mut self) {
        self.ahead = BTreeMap::new();
        self.held_bytes = 0;
    }
}
