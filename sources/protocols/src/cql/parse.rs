//! Frames' heads and bodies off bytes.

use super::recognise::{is_request, is_response};
use super::segments::{SegmentHead, Shape};
use super::types::{
    BODY_BYTES_MAX, HEAD_BYTES, Head as FrameHead, RESPONSE_BIT, Version, flag, opcode, side_of,
};
use super::unpack::Packing;
use super::walk::{Walk, Walked};
use crate::cursor::Cursor;
use crate::frames::{Framing, Head};
use crate::{Recognised, Side};

/// What is unpacked of a body at the most: rows show less.
const UNPACKED_BYTES_MAX: usize = 64 * 1024;

/// `Err`: no frame, or too few bytes.
pub(super) fn frame_head(bytes: &[u8]) -> Result<FrameHead, Head> {
    let mut cursor = Cursor::new(bytes);
    let Some(first) = cursor.u8() else { return Err(Head::Short) };
    let Some(version) = Version::of(first & !RESPONSE_BIT) else { return Err(Head::Invalid) };
    let side = if first & RESPONSE_BIT == 0 { Side::Request } else { Side::Response };
    let Some(flags) = cursor.u8() else { return Err(Head::Short) };
    if flags & !flag::ALL != 0 {
        return Err(Head::Invalid);
    }
    let (Some(stream), Some(opcode), Some(body_bytes)) =
        (cursor.i16_be(), cursor.u8(), cursor.u32_be())
    else {
        return Err(Head::Short);
    };
    let head = FrameHead { side, version, flags, stream, opcode, body_bytes };
    match is_possible(&head) {
        true => Ok(head),
        false => Err(Head::Invalid),
    }
}

fn is_possible(head: &FrameHead) -> bool {
    let is_stream = match head.opcode {
        opcode::EVENT => head.stream == -1,
        // One to bytes that no server understands has no stream of its own.
        opcode::ERROR => head.stream >= -1,
        _ => head.stream >= 0,
    };
    let bodiless = matches!(head.opcode, opcode::OPTIONS | opcode::READY) && head.flags == 0;
    side_of(head.opcode) == Some(head.side)
        && is_stream
        && head.body_bytes <= BODY_BYTES_MAX
        && (!bodiless || head.body_bytes == 0)
}

/// How the frames of one direction come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// One behind the other.
    Frames,
    /// The same so far; segments may begin.
    Either,
    /// In segments, of this shape if it is known.
    Segments(Option<Shape>),
}

impl Wire {
    /// The segment that begins here, if one may and does.
    pub(super) fn segment(self, bytes: &[u8]) -> Option<SegmentHead> {
        match self {
            Wire::Frames => None,
            Wire::Segments(Some(shape)) => SegmentHead::of(bytes, shape),
            Wire::Either | Wire::Segments(None) => SegmentHead::of_any(bytes),
        }
    }
}

/// Frames, and segments, as [`crate::frames`] tells them apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames(pub(super) Wire);

impl Framing for Frames {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        if let Some(segment) = self.0.segment(bytes) {
            return Head::Bytes(segment.total_bytes());
        }
        if self.0 != Wire::Frames && bytes.len() < HEAD_BYTES {
            return Head::Short;
        }
        match frame_head(bytes) {
            _ if matches!(self.0, Wire::Segments(_)) => Head::Invalid,
            Ok(head) if head.side == side => Head::Bytes(head.total_bytes()),
            Ok(_) => Head::Invalid,
            Err(head) => head,
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let is_certain = self.0.segment(bytes).is_some()
            || (!matches!(self.0, Wire::Segments(_)) && of_side(side, bytes) == Recognised::Yes);
        is_certain.then_some(0)
    }

    fn may_find(&self, side: Side, bytes: &[u8]) -> bool {
        match self.0 {
            Wire::Frames => of_side(side, bytes) == Recognised::Unsure,
            Wire::Either => bytes.len() < HEAD_BYTES || of_side(side, bytes) == Recognised::Unsure,
            Wire::Segments(_) => bytes.len() < HEAD_BYTES,
        }
    }
}

fn of_side(side: Side, bytes: &[u8]) -> Recognised {
    match side {
        Side::Request => is_request(bytes),
        Side::Response => is_response(bytes),
    }
}

/// A body as it was before it was packed.
#[derive(Debug)]
pub(super) struct Body<'a> {
    seen: std::borrow::Cow<'a, [u8]>,
    missing: u64,
}

impl<'a> Body<'a> {
    /// Of a frame, as far as it was seen. `None`: it is packed, and not so.
    pub(super) fn of(
        head: &FrameHead,
        frame: &'a [u8],
        packing: Option<Packing>,
    ) -> Option<Body<'a>> {
        let seen = frame.get(HEAD_BYTES..).unwrap_or_default();
        // Segments are packed as a whole: there the flag says nothing, and nobody sets it.
        if !head.has(flag::PACKED) || seen.is_empty() {
            let missing = u64::from(head.body_bytes).saturating_sub(seen.len() as u64);
            return Some(Body { seen: seen.into(), missing });
        }
        let (total, unpacked) = packing?.unpack(seen, UNPACKED_BYTES_MAX)?;
        if total > BODY_BYTES_MAX {
            return None;
        }
        let missing = u64::from(total).saturating_sub(unpacked.len() as u64);
        Some(Body { seen: unpacked.into(), missing })
    }

    /// The same; of a body that cannot be read, nothing, and all of it missing.
    pub(super) fn walk_or_nothing<'b>(body: Option<&'b Body<'_>>, head: &FrameHead) -> Walk<'b> {
        let walk = body.and_then(|body| body.walk(head).ok());
        walk.unwrap_or(Walk::new(&[], u64::from(head.body_bytes)))
    }

    /// What the opcode says is there, behind what flags have put in front of it.
    pub(super) fn walk(&self, head: &FrameHead) -> Walked<Walk<'_>> {
        let mut walk = Walk::new(&self.seen, self.missing);
        if head.side == Side::Response {
            if head.has(flag::TRACING) {
                walk.bytes(16)?;
            }
            if head.has(flag::WARNING) {
                for _ in 0..walk.u16()? {
                    walk.string()?;
                }
            }
        }
        if head.has(flag::PAYLOAD) {
            for _ in 0..walk.u16()? {
                walk.string()?;
                walk.value()?;
            }
        }
        Ok(walk)
    }
}
