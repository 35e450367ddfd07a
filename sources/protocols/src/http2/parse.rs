//! Frames: how they are told apart, and how HTTP/2 is known from its first bytes or from any later ones.

use super::hpack::Decoder;
use super::types::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_HEAD_BYTES, GOAWAY, HAS_PRIORITY,
    HEADERS, PADDED, PING, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::frames::{Framing, Head};
use crate::protocol::{Beginning, Verdict};
use crate::{Side, http1};

/// Of the preface so much is no other protocol's.
const PREFACE_LINE_BYTES: usize = 14;
/// Longest frame that is believed where it is not known that frames begin there.
const LOOKED_FOR_BYTES_MAX: usize = 1 << 16;

/// A frame's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    pub(super) fn of(bytes: &[u8]) -> Option<FrameHead> {
        let &[high, middle, low, kind, flags, a, b, c, d, ..] = bytes else { return None };
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        Some(FrameHead { length, kind, flags, stream })
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it can be: lengths and streams of frames of a known kind are given.
    fn is_possible(self) -> bool {
        let FrameHead { length, stream, .. } = self;
        match self.kind {
            DATA | CONTINUATION => stream != 0,
            HEADERS => stream != 0 && length > 0,
            PRIORITY => stream != 0 && length == 5,
            RST_STREAM => stream != 0 && length == 4,
            SETTINGS if self.has(ACK) => stream == 0 && length == 0,
            SETTINGS => stream == 0 && length.is_multiple_of(6),
            PUSH_PROMISE => stream != 0 && length > 4,
            PING => stream == 0 && length == 8,
            GOAWAY => stream == 0 && length >= 8,
            WINDOW_UPDATE => length == 4,
            // Extensions, which are to be ignored.
            _ => length <= 1 << 14,
        }
    }

    /// The same where any bytes could be there: flags are those that its kind has.
    fn is_likely(self) -> bool {
        let flags = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | HAS_PRIORITY,
            SETTINGS | PING => ACK,
            PUSH_PROMISE => END_HEADERS | PADDED,
            CONTINUATION => END_HEADERS,
            _ => 0,
        };
        self.kind <= CONTINUATION
            && self.is_possible()
            && self.flags & !flags == 0
            && self.length <= LOOKED_FOR_BYTES_MAX
    }
}

/// What a frame of headers or data holds without padding and priority. `None`: its lengths contradict.
pub(super) fn content(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    let (padding, rest) = match head.has(PADDED) {
        true => {
            let (padding, rest) = payload.split_first()?;
            (usize::from(*padding), rest)
        }
        false => (0, payload),
    };
    let rest = match head.kind == HEADERS && head.has(HAS_PRIORITY) {
        true => rest.get(5..)?,
        false => rest,
    };
    // Of a frame that was cut padding may be what is missing.
    let unseen = head.length - payload.len().min(head.length);
    let padding = padding.saturating_sub(unseen);
    rest.get(..rest.len().checked_sub(padding)?)
}

/// How frames are told apart.
pub(super) struct Frames;

impl Framing for Frames {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        if side == Side::Request && bytes.first() == Some(&PREFACE[0]) {
            return match bytes.get(..PREFACE.len()) {
                Some(bytes) if bytes == PREFACE => Head::Bytes(PREFACE.len() as u64),
                Some(_) => Head::Invalid,
                None if PREFACE.starts_with(bytes) => Head::Short,
                None => Head::Invalid,
            };
        }
        match FrameHead::of(bytes) {
            None => Head::Short,
            Some(head) if head.is_possible() => {
                Head::Bytes((FRAME_HEAD_BYTES + head.length) as u64)
            }
            Some(_) => Head::Invalid,
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let is_preface = side == Side::Request && bytes.starts_with(PREFACE);
        (is_preface || chain(bytes, |_, _| {}).is_some()).then_some(0)
    }
}

/// Goes through frames up to the end of the bytes, the last of which may be cut in its payload. `None`: they
/// are no frames. Whether they end with a frame.
fn chain<'a>(bytes: &'a [u8], mut each: impl FnMut(FrameHead, &'a [u8])) -> Option<bool> {
    let mut rest = bytes;
    let mut frames = 0;
    while !rest.is_empty() {
        let Some(head) = FrameHead::of(rest) else { return (frames > 0).then_some(false) };
        if !head.is_likely() {
            return None;
        }
        frames += 1;
        match rest[FRAME_HEAD_BYTES..].split_at_checked(head.length) {
            Some((payload, behind)) => {
                each(head, payload);
                rest = behind;
            }
            None => return Some(false),
        }
    }
    Some(true)
}

/// Whose a header block is, by the first of its fields, which say so.
fn side_of(head: FrameHead, payload: &[u8]) -> Option<Side> {
    if head.kind != HEADERS || !head.has(END_HEADERS) {
        return None;
    }
    let mut side = None;
    let mut is_first = true;
    let decoded = Decoder::new(false).decode(content(head, payload)?, |field| {
        if std::mem::take(&mut is_first) {
            side = match field.name {
                Some(b":status") => Some(Side::Response),
                Some(b":method" | b":path" | b":scheme" | b":authority") => Some(Side::Request),
                _ => None,
            };
        }
    });
    decoded.ok().and(side)
}

/// Whether a SETTINGS frame holds only settings that there are.
fn are_settings(head: FrameHead, payload: &[u8]) -> bool {
    let is_setting = |setting: &[u8]| {
        let number = u16::from_be_bytes([setting[0], setting[1]]);
        matches!(number, 1..=9) || number & 0x0f0f == 0x0a0a
    };
    head.kind == SETTINGS && !payload.is_empty() && payload.chunks_exact(6).all(is_setting)
}

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let bytes = match beginning.at_start {
        true => http1::without_proxy_header(beginning.bytes),
        false => beginning.bytes,
    };
    if beginning.is_datagram || bytes.is_empty() {
        return Verdict::IsNot;
    }
    if bytes.starts_with(&PREFACE[..PREFACE_LINE_BYTES]) {
        return Verdict::Is(Side::Request);
    }
    if beginning.at_start && PREFACE.starts_with(bytes) {
        return Verdict::Unsure;
    }
    let (mut side, mut settings) = (None, false);
    let is_whole = chain(bytes, |head, payload| {
        side = side.or_else(|| side_of(head, payload));
        settings |= are_settings(head, payload);
    });
    match (is_whole, side) {
        (None, _) => Verdict::IsNot,
        (Some(_), Some(side)) => Verdict::Is(side),
        // A server need not wait for its client, which says something else first.
        (Some(_), None) if settings && beginning.opened && beginning.at_start => {
            Verdict::Is(Side::Response)
        }
        (Some(true), None) => Verdict::Unsure,
        (Some(false), None) => Verdict::IsNot,
    }
}
