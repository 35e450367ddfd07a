//! One direction of a connection as a byte stream: events in any order in, contiguous bytes out.
//!
//! Events say which positions they cover and carry the first bytes of them. The buffer puts them in
//! order, knows what is missing, and remembers when each byte was moved and where events began (an
//! event is one system call, and messages usually begin where a call does). Of bytes that a call
//! moved but that were not copied the time is known as well; of bytes whose event was lost it is
//! not ([`StreamBuffer::at_unseen`]). It does *not* know any protocol, and it never waits: what is
//! missing for good is the caller's decision ([`StreamBuffer::settle_hole`]).
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

mod parts;

use std::collections::{BTreeMap, VecDeque};

pub use self::parts::Segment;
use self::parts::{Ahead, From, Mark, Part};

/// Default bound of what one direction stores: heads are at most 64 KiB, bodies are consumed as
/// they come, so this is room for a burst that waits for a hole to fill.
pub const STREAM_BYTES_MAX: usize = 256 * 1024;
/// Events that may wait behind a hole; beyond it the hole is given up.
pub const AHEAD_EVENTS_MAX: usize = 512;
/// Event starts that are remembered; beyond it events run together (coarser times, no loss).
pub const MARKS_MAX: usize = 2048;
/// Storage that is kept when everything has been read.
const IDLE_CAPACITY_BYTES: usize = 4096;
/// The same for event starts.
const IDLE_MARKS: usize = 64;
/// What an event ahead costs beside its bytes: its entry, and its share of the map's nodes.
const AHEAD_ENTRY_BYTES: usize = 2 * (size_of::<Ahead>() + size_of::<u64>());

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
    /// Where the part of a call that was not copied ends, and when the call was: its last bytes may
    /// come as a segment of their own.
    cut: Option<(u64, i64)>,
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
            cut: None,
            overflow_bytes: 0,
        }
    }

    /// Takes an event. Bytes that were given before are ignored.
    pub fn push(&mut self, segment: Segment<'_>) {
        let Segment { position, total_bytes, time_unix_ns, payload, tail } = segment;
        let (from, payload_bytes) = (From::Event, payload.len() as u64);
        let tail_bytes = (tail.len() as u64).min(total_bytes.saturating_sub(payload_bytes));
        let total_bytes = total_bytes - tail_bytes;
        self.push_part(Part { position, total_bytes, time_unix_ns, payload, from });
        if tail_bytes > 0 {
            let tail = &tail[tail.len() - tail_bytes as usize..];
            let position = position.saturating_add(total_bytes);
            let (total_bytes, from) = (tail_bytes, From::Tail);
            self.push_part(Part { position, total_bytes, time_unix_ns, payload: tail, from });
        }
    }

    fn push_part(&mut self, mut part: Part<'_>) {
        if self.cut == Some((part.position, part.time_unix_ns)) {
            part.from = From::Tail;
        }
        // Of a call that is a gap as a whole nothing more comes.
        if !part.payload.is_empty() && (part.payload.len() as u64) < part.total_bytes {
            self.cut = Some((part.position.saturating_add(part.total_bytes), part.time_unix_ns));
        }
        let Some(part) = self.behind_frontier(part) else { return };
        let fits = self.lost_bytes == 0 || part.payload.is_empty();
        if part.position == self.frontier() && fits {
            self.append(part);
            self.take_ahead();
        } else {
            self.put_ahead(part);
        }
    }

    /// Cuts off what lies before the frontier. `None` if nothing is left.
    fn behind_frontier<'a>(&self, mut part: Part<'a>) -> Option<Part<'a>> {
        let payload_max = usize::try_from(part.total_bytes).unwrap_or(usize::MAX);
        part.payload = &part.payload[..part.payload.len().min(payload_max)];
        let end = part.position.checked_add(part.total_bytes)?;
        let known = self.frontier().saturating_sub(part.position);
        if end <= self.frontier() || part.total_bytes == 0 {
            return None;
        }
        if known > 0 {
            let cut = usize::try_from(known).unwrap_or(usize::MAX).min(part.payload.len());
            part.payload = &part.payload[cut..];
            part.position += known;
            part.total_bytes -= known;
            part.from = From::Tail;
        }
        Some(part)
    }

    fn append(&mut self, part: Part<'_>) {
        let Part { position, time_unix_ns, from, .. } = part;
        self.mark(Mark { position, time_unix_ns, from });
        let room = self.bytes_max.saturating_sub(self.unread().len() + self.ahead_bytes);
        let kept = part.payload.len().min(room);
        self.overflow_bytes += (part.payload.len() - kept) as u64;
        self.bytes.extend_from_slice(&part.payload[..kept]);
        self.lost_bytes += part.total_bytes - kept as u64;
        self.drop_old_marks();
    }

    fn mark(&mut self, mark: Mark) {
        if self.marks.len() < MARKS_MAX {
            self.marks.push_back(mark);
        } else if mark.from == From::Unseen
            && let Some(last) = self.marks.back_mut()
        {
            // Events run together: of none of these bytes is the time known any more.
            last.from = From::Unseen;
        }
    }

    fn put_ahead(&mut self, part: Part<'_>) {
        if self.ahead.len() >= AHEAD_EVENTS_MAX {
            self.settle_hole();
        }
        if self.ahead.len() > AHEAD_EVENTS_MAX {
            // Nobody steps over what is lost: forget the newest rather than grow.
            self.overflow_bytes += part.payload.len() as u64;
            return;
        }
        let room = self.bytes_max.saturating_sub(self.unread().len() + self.ahead_bytes);
        let kept = part.payload.len().min(room);
        self.overflow_bytes += (part.payload.len() - kept) as u64;
        let payload = part.payload[..kept].to_vec();
        let Part { total_bytes, time_unix_ns, from, .. } = part;
        self.ahead_bytes += kept;
        if let Some(old) =
            self.ahead.insert(part.position, Ahead { total_bytes, time_unix_ns, payload, from })
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
            let Some((_, Ahead { total_bytes, time_unix_ns, payload, from })) =
                self.ahead.pop_first()
            else {
                return;
            };
            self.ahead_bytes -= payload.len();
            let part = Part { position, total_bytes, time_unix_ns, payload: &payload, from };
            if let Some(part) = self.behind_frontier(part) {
                self.append(part);
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
        if let Some((&position, ahead)) = self.ahead.first_key_value() {
            let (frontier, behind_ns) = (self.frontier(), ahead.time_unix_ns);
            let missing = position.saturating_sub(frontier);
            if missing > 0 {
                let before_ns = self.marks.back().map(|mark| mark.time_unix_ns);
                let time_unix_ns = before_ns.or(self.last_read_ns).unwrap_or(behind_ns);
                self.mark(Mark { position: frontier, time_unix_ns, from: From::Unseen });
                self.lost_bytes += missing;
                self.drop_old_marks();
            }
            self.take_ahead();
        }
    }

    /// The bytes of holes that were noticed until then will not come.
    pub fn settle_holes_before(&mut self, time_unix_ns: i64) {
        while let Some(since_ns) = self.hole_since_ns()
            && since_ns <= time_unix_ns
        {
            let before = self.frontier();
            self.settle_hole();
            if self.frontier() == before {
                return;
            }
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
        let starts = |mark: &Mark| mark.position == self.position && mark.from == From::Event;
        self.marks.front().is_some_and(starts)
    }

    /// Whether the next byte is missing because its event was lost: nobody knows when it was moved,
    /// but that it was between what is before the hole and [`StreamBuffer::behind_hole_ns`].
    #[must_use]
    pub fn at_unseen(&self) -> bool {
        self.unread().is_empty()
            && self.lost_bytes > 0
            && self.marks.front().is_some_and(|mark| mark.from == From::Unseen)
    }

    /// Whether what is missing behind the unread bytes begins with bytes whose event was lost.
    #[must_use]
    pub fn behind_unread_is_unseen(&self) -> bool {
        let end = self.position + self.unread().len() as u64;
        self.marks.iter().any(|mark| mark.position == end && mark.from == From::Unseen)
    }

    /// Whether bytes whose event was lost come before the next event begins: of them nobody knows
    /// when they were moved.
    #[must_use]
    pub fn is_unseen_before_event(&self) -> bool {
        let mut marks = self.marks.iter();
        let is_unseen = |mark: &Mark| mark.from == From::Unseen;
        marks.next().is_some_and(is_unseen)
            || marks.take_while(|mark| mark.from != From::Event).any(is_unseen)
    }

    /// When the first event behind what is unread and lost was seen. `None` if there is none yet.
    #[must_use]
    pub fn behind_hole_ns(&self) -> Option<i64> {
        let next = self
            .marks
            .iter()
            .find(|mark| mark.position > self.position && mark.from == From::Event);
        let ahead = self.ahead.first_key_value().map(|(_, ahead)| ahead.time_unix_ns);
        next.map(|mark| mark.time_unix_ns).or(ahead)
    }

    /// When the next byte, seen or not, was moved. `None` if there is none.
    #[must_use]
    pub fn next_byte_ns(&self) -> Option<i64> {
        if self.unread().is_empty() && self.lost_bytes == 0 {
            return None;
        }
        self.marks.front().map(|mark| mark.time_unix_ns)
    }

    /// How many bytes, all seen or all lost, come next before an event or a part of one ends.
    #[must_use]
    pub fn run_bytes(&self) -> u64 {
        let unread = self.unread().len() as u64;
        let run = if unread > 0 { unread } else { self.lost_bytes };
        let to_mark = self.marks.get(1).map_or(run, |mark| mark.position - self.position);
        run.min(to_mark)
    }

    /// Whether everything that came of the event before the next byte has been read.
    #[must_use]
    pub fn at_event_end(&self) -> bool {
        self.at_event_start() || (self.unread().is_empty() && self.lost_bytes == 0)
    }

    /// When the first unread byte was seen. `None` if there is none.
    #[must_use]
    pub fn unread_since_ns(&self) -> Option<i64> {
        if self.unread().is_empty() {
            return None;
        }
        self.marks.front().map(|mark| mark.time_unix_ns)
    }

    /// When that byte of the unread ones was moved.
    #[must_use]
    pub fn time_of_unread(&self, at: usize) -> Option<i64> {
        let position = self.position + at as u64;
        let behind = self.marks.partition_point(|mark| mark.position <= position);
        Some(self.marks.get(behind.checked_sub(1)?)?.time_unix_ns)
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
            if self.marks.capacity() > IDLE_MARKS {
                self.marks.shrink_to(IDLE_MARKS);
            }
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

    /// Whether the end of a call begins here whose middle was not copied.
    #[must_use]
    pub fn at_end_of_cut(&self) -> bool {
        let starts = |mark: &Mark| mark.position == self.position && mark.from == From::Tail;
        !self.unread().is_empty() && self.marks.front().is_some_and(starts)
    }

    /// Steps to the start of the next event, over everything lost in between, or to the frontier.
    pub fn skip_to_event(&mut self) {
        self.skip_to(|from| from == From::Event);
    }

    /// The same, or to the end of a call whose middle was not copied.
    pub fn skip_to_seen(&mut self) {
        self.skip_to(|from| from != From::Unseen);
    }

    fn skip_to(&mut self, is_it: impl Fn(From) -> bool) {
        let starts = |mark: &&Mark| mark.position > self.position && is_it(mark.from);
        let next = self.marks.iter().find(starts).map(|mark| mark.position);
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
        self.bytes.capacity()
            + self.ahead_bytes
            + self.ahead.len() * AHEAD_ENTRY_BYTES
            + self.marks.capacity() * size_of::<Mark>()
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
mod tests;
