//! One direction of a connection as a byte stream: events in any order in, contiguous bytes out.
//!
//! Events say which positions they cover and carry the first bytes of them. The buffer puts them in
//! order, knows what is missing, and remembers when each byte was seen and where events began (an
//! event is one system call, and messages usually begin where a call does). It does *not* know any
//! protocol, and it never waits: what is missing for good is the caller's decision
//! ([`StreamBuffer::settle_hole`]).
//!
//! ```text
//!   position              frontier
//!      │ unread bytes │ lost │   hole   │ ahead: events that came early
//!      ▼──────────────┼──────┤··········├──────┤···┌──────┐
//!        given to the   never  may still
//!        parser         comes  come
//! ```
//! Invariants over the private fields:
//! 1. `position + unread + lost_bytes == frontier`; the first unread byte is at `position`.
//! 2. Every event ahead starts at or behind the frontier; one starts *at* it only if bytes are lost
//!    in front of it (they have to be stepped over first).
//! 3. Marks ascend; the first mark covers `position` unless nothing was ever appended.
//! 4. At most `bytes_max` bytes are stored; what does not fit becomes lost bytes and is counted.

use std::collections::{BTreeMap, VecDeque};

/// Default bound of what one direction stores: heads are at most 64 KiB, bodies are consumed as
/// they come, so this is room for a burst that waits for a hole to fill.
pub const STREAM_BYTES_MAX: usize = 256 * 1024;
/// Events that may wait behind a hole; beyond it the hole is given up.
pub const AHEAD_EVENTS_MAX: usize = 512;
/// Event starts that are remembered; beyond it events run together (coarser times, no loss).
pub const MARKS_MAX: usize = 4096;
/// Storage that is kept when everything has been read.
const IDLE_CAPACITY_BYTES: usize = 4096;

/// Bytes of one event of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub position: u64,
    pub total_bytes: u64,
    pub time_unix_ns: i64,
    /// The first of `total_bytes`; the others are lost.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    position: u64,
    time_unix_ns: i64,
}

#[derive(Debug)]
struct Ahead {
    total_bytes: u64,
    time_unix_ns: i64,
    payload: Vec<u8>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct StreamBuffer {
    position: u64,
    bytes: Vec<u8>,
    /// Where the unread bytes begin in `bytes`.
    start: usize,
    lost_bytes: u64,
    marks: VecDeque<Mark>,
    ahead: BTreeMap<u64, Ahead>,
    ahead_bytes: usize,
    bytes_max: usize,
    last_read_ns: Option<i64>,
    /// Bytes that did not fit (invariant 4), ever.
    overflow_bytes: u64,
}

impl Default for StreamBuffer {
    fn default() -> StreamBuffer {
        StreamBuffer::new(STREAM_BYTES_MAX)
    }
}

impl StreamBuffer {
    /// An empty stream whose next byte is at position 0.
    #[must_use]
    pub fn new(bytes_max: usize) -> StreamBuffer {
        StreamBuffer {
            position: 0,
            bytes: Vec::new(),
            start: 0,
            lost_bytes: 0,
            marks: VecDeque::new(),
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            bytes_max,
            last_read_ns: None,
            overflow_bytes: 0,
        }
    }

    /// Takes an event. Bytes that were given before are ignored.
    pub fn push(&mut self, segment: Segment<'_>) {
        let Some(segment) = self.behind_frontier(segment) else { return };
        let fits = self.lost_bytes == 0 || segment.payload.is_empty();
        if segment.position == self.frontier() && fits {
            self.append(segment);
            self.take_ahead();
        } else {
            self.put_ahead(segment);
        }
    }

    /// Cuts off what lies before the frontier. `None` if nothing is left.
    fn behind_frontier<'a>(&self, mut segment: Segment<'a>) -> Option<Segment<'a>> {
        let payload_max = usize::try_from(segment.total_bytes).unwrap_or(usize::MAX);
        segment.payload = &segment.payload[..segment.payload.len().min(payload_max)];
        let end = segment.position.checked_add(segment.total_bytes)?;
        let known = self.frontier().saturating_sub(segment.position);
        if end <= self.frontier() || segment.total_bytes == 0 {
            return None;
        }
        let cut = usize::try_from(known).unwrap_or(usize::MAX).min(segment.payload.len());
        segment.payload = &segment.payload[cut..];
        segment.position += known;
        segment.total_bytes -= known;
        Some(segment)
    }

    fn append(&mut self, segment: Segment<'_>) {
        if self.marks.len() < MARKS_MAX {
            let Segment { position, time_unix_ns, .. } = segment;
            self.marks.push_back(Mark { position, time_unix_ns });
        }
        let room = self.bytes_max.saturating_sub(self.unread().len() + self.ahead_bytes);
        let kept = segment.payload.len().min(room);
        self.overflow_bytes += (segment.payload.len() - kept) as u64;
        self.bytes.extend_from_slice(&segment.payload[..kept]);
        self.lost_bytes += segment.total_bytes - kept as u64;
        self.drop_old_marks();
    }

    fn put_ahead(&mut self, segment: Segment<'_>) {
        if self.ahead.len() >= AHEAD_EVENTS_MAX {
            self.settle_hole();
        }
        if self.ahead.len() > AHEAD_EVENTS_MAX {
            // Nobody steps over what is lost: forget the newest rather than grow.
            self.overflow_bytes += segment.payload.len() as u64;
            return;
        }
        let room = self.bytes_max.saturating_sub(self.unread().len() + self.ahead_bytes);
        let kept = segment.payload.len().min(room);
        self.overflow_bytes += (segment.payload.len() - kept) as u64;
        let payload = segment.payload[..kept].to_vec();
        let Segment { total_bytes, time_unix_ns, .. } = segment;
        self.ahead_bytes += kept;
        if let Some(old) =
            self.ahead.insert(segment.position, Ahead { total_bytes, time_unix_ns, payload })
        {
            self.ahead_bytes -= old.payload.len();
        }
    }

    /// Appends what waited for the frontier to come by.
    fn take_ahead(&mut self) {
        while let Some((&position, ahead)) = self.ahead.first_key_value() {
            let steps_first = self.lost_bytes > 0 && !ahead.payload.is_empty();
            if position > self.frontier() || steps_first {
                return;
            }
            let Some((_, Ahead { total_bytes, time_unix_ns, payload })) = self.ahead.pop_first()
            else {
                return;
            };
            self.ahead_bytes -= payload.len();
            let segment = Segment { position, total_bytes, time_unix_ns, payload: &payload };
            if let Some(segment) = self.behind_frontier(segment) {
                self.append(segment);
            }
        }
    }

    /// The unread bytes up to the first missing one.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Position of the first unread byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes behind the unread ones that will never come.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// The end of what is known, unread or lost.
    #[must_use]
    pub fn frontier(&self) -> u64 {
        self.position + self.unread().len() as u64 + self.lost_bytes
    }

    /// When the event behind a hole was seen: nothing has filled the hole since.
    #[must_use]
    pub fn hole_since_ns(&self) -> Option<i64> {
        let (&position, _) = self.ahead.first_key_value()?;
        if position <= self.frontier() {
            return None;
        }
        self.ahead.values().map(|ahead| ahead.time_unix_ns).min()
    }

    /// The bytes of the first hole will not come: they count as lost from now on.
    pub fn settle_hole(&mut self) {
        if let Some((&position, _)) = self.ahead.first_key_value() {
            self.lost_bytes += position.saturating_sub(self.frontier());
            self.take_ahead();
        }
    }

    /// True if there is nothing to read, nothing lost to step over, and nothing ahead.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unread().is_empty() && self.lost_bytes == 0 && self.ahead.is_empty()
    }

    /// Whether the first unread byte is the first of its event.
    #[must_use]
    pub fn at_event_start(&self) -> bool {
        self.marks.front().is_some_and(|mark| mark.position == self.position)
    }

    /// When the first unread byte was seen. `None` if there is none.
    #[must_use]
    pub fn unread_since_ns(&self) -> Option<i64> {
        if self.unread().is_empty() {
            return None;
        }
        self.marks.front().map(|mark| mark.time_unix_ns)
    }

    /// When the byte that was read or stepped over last was seen.
    #[must_use]
    pub fn last_read_ns(&self) -> Option<i64> {
        self.last_read_ns
    }

    /// Takes `count` unread bytes away and says when the last of them was seen. More than there are
    /// takes all.
    pub fn consume(&mut self, count: usize) -> i64 {
        let count = count.min(self.unread().len());
        self.start += count;
        let time_unix_ns = self.advance_position(count as u64);
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(IDLE_CAPACITY_BYTES);
            self.start = 0;
        } else if self.start > IDLE_CAPACITY_BYTES && self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        time_unix_ns
    }

    /// Steps over `count` bytes, unread ones first, then lost ones; and says when the last of them
    /// was seen (lost ones: the event before them).
    pub fn skip(&mut self, count: u64) -> i64 {
        let unread = usize::try_from(count).unwrap_or(usize::MAX).min(self.unread().len());
        let mut time_unix_ns = self.consume(unread);
        let lost = (count - unread as u64).min(self.lost_bytes);
        if lost > 0 {
            self.lost_bytes -= lost;
            time_unix_ns = self.advance_position(lost);
            if self.lost_bytes == 0 {
                self.take_ahead();
                self.drop_old_marks();
            }
        }
        time_unix_ns
    }

    /// Steps to the start of the next event, over everything lost in between, or to the frontier.
    pub fn skip_to_event(&mut self) {
        let next = self.marks.iter().map(|mark| mark.position).find(|&at| at > self.position);
        let to = next.unwrap_or(self.frontier()).min(self.frontier());
        self.skip(to - self.position);
    }

    fn advance_position(&mut self, count: u64) -> i64 {
        let last = (self.position + count).saturating_sub(1);
        self.position += count;
        if count > 0 {
            let before = self.marks.partition_point(|mark| mark.position <= last);
            let seen = before.checked_sub(1).and_then(|idx| self.marks.get(idx));
            self.last_read_ns = seen.map(|mark| mark.time_unix_ns).or(self.last_read_ns);
            self.drop_old_marks();
        }
        self.last_read_ns.unwrap_or(0)
    }

    fn drop_old_marks(&mut self) {
        while self.marks.get(1).is_some_and(|mark| mark.position <= self.position) {
            self.marks.pop_front();
        }
    }

    /// Memory held, for budgets.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.ahead_bytes + self.marks.len() * size_of::<Mark>()
    }

    /// Payload bytes that came but did not fit, ever.
    #[must_use]
    pub fn overflow_bytes(&self) -> u64 {
        self.overflow_bytes
    }

    /// Forgets every unread byte: they count as lost, so that a parser resyncs behind them.
    pub fn forget_unread(&mut self) {
        while self.hole_since_ns().is_some() || !self.ahead.is_empty() {
            self.settle_hole();
            self.skip(u64::MAX);
        }
        let unread = self.unread().len() as u64;
        self.bytes = Vec::new();
        self.start = 0;
        self.lost_bytes += unread;
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
