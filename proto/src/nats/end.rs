//! One end of a session between a node and the cluster part, over a bus that loses, repeats and reorders:
//! what it has sent and the other end has not done yet is kept, within a bound, and sent again when it was
//! lost; what it receives is handed on once and in order. Nothing of what the bus server says of a message
//! counts: only the other end's own word frees what is kept.
//!
//! A pure machine: bytes in, bytes out, the time is handed in. When what is kept outgrows its bound the
//! session is over ([`Over`]): both ends begin another one, and what was lost by that is noticed by the
//! messages themselves ([`crate::message`]).

use std::collections::VecDeque;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::frame::{Body, DEFLATED, Frame, MORE};
use crate::envelope::MESSAGE_BYTES_MAX;

/// Sent and not known to have been received: more waits, so that a slow server or reader is not flooded.
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// An acknowledgement is sent for so much at the latest, else with each ping.
const ACK_EVERY_BYTES: usize = 1 << 20;
/// How often an end says that it lives and how much it has sent: what is lost at the end of a burst is
/// noticed after this, and who is silent for several of them is not there.
pub(super) const PING_EVERY_MS: u64 = 500;
/// Whoever was not heard for so many pings may be gone.
const HEARD_MS: u64 = 6 * PING_EVERY_MS;
/// A frame costs so much beside its bytes while it is kept.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Over {
    #[error("more than {max} bytes wait for the other end")]
    Full { max: usize },
    #[error("the other end is silent")]
    Silent,
    #[error("the other end sent what cannot be put together")]
    Garbled,
}

/// What it counts since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) frames_resent: u64,
    pub(super) frames_repeated: u64,
    pub(super) gaps: u64,
}

struct Kept {
    flags: u8,
    part: Vec<u8>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.part.len() + FRAME_OVERHEAD_BYTES
    }
}

struct Outgoing {
    kept: VecDeque<Kept>,
    /// Of the first that is kept.
    first: u64,
    /// The next to be sent.
    cursor: u64,
    /// All before has been received.
    received: u64,
    kept_bytes: usize,
    in_flight_bytes: usize,
    sent_max: u64,
    attempt: u32,
    /// The other end has no room.
    paused: bool,
    bytes_max: usize,
    part_bytes_max: usize,
}

struct Incoming {
    next: u64,
    /// Parts of a message that is not whole.
    partial: Vec<u8>,
    /// Messages that were handed on and not done yet: what follows each.
    handed_on: VecDeque<u64>,
    applied_to: u64,
    /// How many messages were known to be done when something was taken off `handed_on` last.
    applied_count: u64,
    saw_attempt: u32,
    saw_to: u64,
    gap_told: Option<u32>,
    unacknowledged_bytes: usize,
    busy: bool,
}

pub(super) struct End {
    pub(super) session: u64,
    out: Outgoing,
    inc: Incoming,
    deflate_from_bytes: usize,
    owes_ack: bool,
    pinged_ms: Option<u64>,
    pub(super) heard_ms: u64,
    pub(super) counts: Counts,
}

/// What a session is bounded by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// What may be kept for the other end.
    pub(super) kept_bytes_max: usize,
    /// Of a message in one frame.
    pub(super) part_bytes_max: usize,
    /// Smaller messages go as they are.
    pub(super) deflate_from_bytes: usize,
}

impl End {
    /// `applied_count`: messages of former sessions that whoever takes them has done by now, or will have.
    pub(super) fn new(session: u64, bounds: Bounds, applied_count: u64, now_ms: u64) -> End {
        let out = Outgoing {
            kept: VecDeque::new(),
            first: 0,
            cursor: 0,
            received: 0,
            kept_bytes: 0,
            in_flight_bytes: 0,
            sent_max: 0,
            attempt: 0,
            paused: false,
            bytes_max: bounds.kept_bytes_max,
            part_bytes_max: bounds.part_bytes_max.max(1),
        };
        let inc = Incoming {
            next: 0,
            partial: Vec::new(),
            handed_on: VecDeque::new(),
            applied_to: 0,
            applied_count,
            saw_attempt: 0,
            saw_to: 0,
            gap_told: None,
            unacknowledged_bytes: 0,
            busy: false,
        };
        let counts = Counts::default();
        End {
            session,
            out,
            inc,
            deflate_from_bytes: bounds.deflate_from_bytes,
            owes_ack: false,
            pinged_ms: None,
            heard_ms: now_ms,
            counts,
        }
    }

    /// What was counted since this was asked last.
    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Messages that are kept for the other end, and go with the session.
    pub(super) fn kept_messages(&self) -> usize {
        self.out.kept.iter().filter(|kept| kept.flags & MORE == 0).count()
    }

    /// Bytes that were received of a message that is not whole.
    pub(super) fn partial_bytes(&self) -> usize {
        self.inc.partial.len()
    }

    /// Whether the other end was heard lately: what it has no room for it will have room for.
    pub(super) fn is_heard(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_ms) < HEARD_MS
    }

    /// All that was given has been done by the other end.
    pub(super) fn is_done(&self) -> bool {
        self.out.kept.is_empty()
    }

    /// Takes a message on its way, or nothing of it.
    pub(super) fn give(&mut self, message: &[u8]) -> Result<(), Over> {
        let deflated =
            if message.len() >= self.deflate_from_bytes { deflate(message) } else { None };
        let (bytes, flag) = match &deflated {
            Some(smaller) => (smaller.as_slice(), DEFLATED),
            None => (message, 0),
        };
        let out = &mut self.out;
        let parts = bytes.len().div_ceil(out.part_bytes_max).max(1);
        let cost = bytes.len() + parts * FRAME_OVERHEAD_BYTES;
        if out.kept_bytes + cost > out.bytes_max {
            return Err(Over::Full { max: out.bytes_max });
        }
        out.kept_bytes += cost;
        let mut chunks = bytes.chunks(out.part_bytes_max).peekable();
        if chunks.peek().is_none() {
            out.kept.push_back(Kept { flags: flag, part: Vec::new() });
        }
        while let Some(chunk) = chunks.next() {
            let more = if chunks.peek().is_some() { MORE } else { 0 };
            out.kept.push_back(Kept { flags: flag | more, part: chunk.to_vec() });
        }
        Ok(())
    }

    /// The next bytes for the bus, if there is something to say now. `applied_count`: how many messages whoever
    /// takes them has done.
    pub(super) fn next_frame(&mut self, applied_count: u64, now_ms: u64) -> Option<Vec<u8>> {
        self.inc.applied(applied_count);
        if std::mem::take(&mut self.owes_ack) {
            return Some(self.acknowledge());
        }
        let due = self.pinged_ms.is_none_or(|at| now_ms.saturating_sub(at) >= PING_EVERY_MS);
        if due {
            self.pinged_ms = Some(now_ms);
            let body = Body::Ping { sent_to: self.out.cursor };
            return Some(self.frame(self.out.attempt, body));
        }
        self.next_data()
    }

    fn next_data(&mut self) -> Option<Vec<u8>> {
        if !self.out.may_send() {
            return None;
        }
        let at = usize::try_from(self.out.cursor - self.out.first).ok()?;
        let kept = self.out.kept.get(at)?;
        let body = Body::Data { sequence: self.out.cursor, flags: kept.flags, part: &kept.part };
        let bytes = self.frame(self.out.attempt, body);
        self.out.in_flight_bytes += kept.bytes();
        self.out.cursor += 1;
        if self.out.cursor <= self.out.sent_max {
            self.counts.frames_resent += 1;
        }
        self.out.sent_max = self.out.sent_max.max(self.out.cursor);
        Some(bytes)
    }

    fn frame(&self, attempt: u32, body: Body<'_>) -> Vec<u8> {
        Frame { session: self.session, attempt, body }.encode()
    }

    pub(super) fn bye(&self) -> Vec<u8> {
        self.frame(self.out.attempt, Body::Bye)
    }

    fn acknowledge(&mut self) -> Vec<u8> {
        self.inc.unacknowledged_bytes = 0;
        let Incoming { next, applied_to, saw_to, busy, saw_attempt, .. } = self.inc;
        let body = Body::Ack { received_to: next, applied_to, saw_to: saw_to.max(next), busy };
        self.frame(saw_attempt, body)
    }

    /// Takes a frame of this session, and gives the message that is whole with it. `has_room`: whoever takes
    /// messages has room for one; otherwise nothing of any is taken, and it is sent again later.
    pub(super) fn receive(
        &mut self,
        frame: &Frame<'_>,
        now_ms: u64,
        has_room: bool,
    ) -> Result<Option<Vec<u8>>, Over> {
        self.heard_ms = now_ms;
        match frame.body {
            Body::Data { sequence, flags, part } => {
                self.inc.saw(frame.attempt, sequence.saturating_add(1));
                return self.on_data((frame.attempt, sequence), flags, part, has_room);
            }
            Body::Ping { sent_to } => {
                self.inc.saw(frame.attempt, sent_to);
                // There may be room again: what was turned away is asked for.
                self.inc.busy = false;
                self.owes_ack = true;
            }
            Body::Ack { received_to, applied_to, saw_to, busy } => {
                self.out.acknowledged(applied_to, received_to);
                self.out.paused = busy;
                let lost = received_to < saw_to && frame.attempt == self.out.attempt;
                if lost && !busy {
                    self.out.rewind(received_to);
                }
            }
            Body::Unknown | Body::Bye => {}
        }
        Ok(None)
    }

    fn on_data(
        &mut self,
        (attempt, sequence): (u32, u64),
        flags: u8,
        part: &[u8],
        has_room: bool,
    ) -> Result<Option<Vec<u8>>, Over> {
        let inc = &mut self.inc;
        if sequence < inc.next {
            self.counts.frames_repeated += 1;
            return Ok(None);
        }
        if sequence > inc.next {
            // Told once an attempt; what comes after is sent again anyway.
            if !inc.busy && inc.gap_told != Some(attempt) {
                inc.gap_told = Some(attempt);
                self.counts.gaps += 1;
                self.owes_ack = true;
            }
            return Ok(None);
        }
        // Before anything is made of it: what is turned away comes again and again.
        inc.busy = !has_room;
        if inc.busy {
            self.owes_ack = true;
            return Ok(None);
        }
        if inc.partial.len() + part.len() > MESSAGE_BYTES_MAX as usize + 64 {
            return Err(Over::Garbled);
        }
        inc.partial.extend_from_slice(part);
        let mut message = None;
        if flags & MORE == 0 {
            let whole = std::mem::take(&mut inc.partial);
            message = Some(if flags & DEFLATED != 0 { inflate(&whole)? } else { whole });
            inc.handed_on.push_back(sequence + 1);
        }
        inc.next = sequence + 1;
        inc.unacknowledged_bytes += part.len();
        self.owes_ack |= inc.unacknowledged_bytes >= ACK_EVERY_BYTES;
        Ok(message)
    }
}

impl Outgoing {
    fn may_send(&self) -> bool {
        let end = self.first + self.kept.len() as u64;
        !self.paused && self.cursor < end && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// A number that was never sent is not believed.
    fn acknowledged(&mut self, applied_to: u64, received_to: u64) {
        let end = self.sent_max;
        while self.first < applied_to.min(end)
            && let Some(done) = self.kept.pop_front()
        {
            self.kept_bytes -= done.bytes();
            self.first += 1;
        }
        self.received = self.received.max(received_to.min(end)).max(self.first);
        self.cursor = self.cursor.max(self.received);
        self.count_in_flight();
    }

    fn rewind(&mut self, received_to: u64) {
        let to = received_to.max(self.first).min(self.cursor);
        if to < self.cursor {
            self.cursor = to;
            self.attempt = self.attempt.wrapping_add(1);
            self.count_in_flight();
        }
    }

    fn count_in_flight(&mut self) {
        let from = usize::try_from(self.received - self.first).unwrap_or(0);
        let to = usize::try_from(self.cursor - self.first).unwrap_or(0);
        self.in_flight_bytes =
            self.kept.range(from.min(to)..to.min(self.kept.len())).map(Kept::bytes).sum();
    }
}

impl Incoming {
    fn saw(&mut self, attempt: u32, to: u64) {
        if attempt > self.saw_attempt {
            self.saw_attempt = attempt;
            self.saw_to = 0;
        }
        if attempt == self.saw_attempt {
            self.saw_to = self.saw_to.max(to);
        }
    }

    fn applied(&mut self, count: u64) {
        while self.applied_count < count
            && let Some(to) = self.handed_on.pop_front()
        {
            self.applied_count += 1;
            self.applied_to = to;
        }
    }
}

/// `None`: it would not be smaller.
fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    let mut encoder =
        DeflateEncoder::new(Vec::with_capacity(message.len() / 2), Compression::fast());
    encoder.write_all(message).ok()?;
    encoder.finish().ok().filter(|deflated| deflated.len() < message.len())
}

/// Never more than a message may have, whatever the bytes claim.
fn inflate(deflated: &[u8]) -> Result<Vec<u8>, Over> {
    let max = MESSAGE_BYTES_MAX + 64;
    let mut message = Vec::new();
    let read = DeflateDecoder::new(deflated).take(max + 1).read_to_end(&mut message);
    match read {
        Ok(bytes) if bytes as u64 <= max => Ok(message),
        _ => Err(Over::Garbled),
    }
}

#[cfg(test)]
#[path = "end_tests.rs"]
mod tests;
