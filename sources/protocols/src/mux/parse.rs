//! Frames: their heads, and how they are found again behind a loss.

use super::shape::{Shape, shape};
use super::types::{
    FRAME_BYTES_MAX, GOES_ON, HEAD_BYTES, LENGTH_BYTES, has_fragments, is_one_way, is_sent_by, kind,
};
use crate::Side;
use crate::cursor::Cursor;
use crate::frames::{Framing, Head, SEEN_BYTES_MAX};

/// What a frame's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: i8,
    pub(super) tag: u32,
    /// The message goes on in another frame.
    pub(super) goes_on: bool,
    pub(super) total_bytes: u64,
}

impl FrameHead {
    fn body_bytes(&self) -> u64 {
        self.total_bytes - HEAD_BYTES as u64
    }

    /// Its length, and its fragments, are such as its type has.
    fn is_one(&self) -> bool {
        use kind::*;
        let fits = match self.kind {
            TDRAIN | RDRAIN | TPING | RPING | RDISCARDED => self.body_bytes() == 0,
            TLEASE => self.body_bytes() == 9,
            TDISCARDED | OLD_TDISCARDED => self.body_bytes() >= 3,
            TINIT | RINIT => self.body_bytes() >= 2,
            TREQ | RREQ | TDISPATCH | RDISPATCH => self.tag > 0,
            _ => true,
        };
        fits && (!self.goes_on || has_fragments(self.kind))
    }

    /// What follows the head, of bytes that begin with it, as far as it is there; and whether that is all.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], bool) {
        let end = usize::try_from(self.total_bytes).unwrap_or(usize::MAX).min(bytes.len());
        let body = bytes.get(HEAD_BYTES..end).unwrap_or_default();
        (body, body.len() as u64 == self.body_bytes())
    }

    /// What this body looks like; what follows in other frames counts as not there.
    pub(super) fn shape(&self, body: &[u8], is_whole: bool) -> Shape {
        shape(self.kind, body, is_whole && !self.goes_on)
    }

    /// Tag 0 is that of what nothing answers.
    pub(super) fn tag_fits(&self) -> bool {
        (self.tag == 0) == is_one_way(self.kind)
    }
}

/// `Err`: no frame of that side, or too few bytes.
pub(super) fn frame_head(side: Side, bytes: &[u8]) -> Result<FrameHead, Head> {
    let mut cursor = Cursor::new(bytes);
    let length = u64::from(cursor.u32_be().ok_or(Head::Short)?);
    if !((HEAD_BYTES - LENGTH_BYTES) as u64..=FRAME_BYTES_MAX).contains(&length) {
        return Err(Head::Invalid);
    }
    let kind = cursor.u8().ok_or(Head::Short)? as i8;
    if !is_sent_by(side, kind) {
        return Err(Head::Invalid);
    }
    let tag = cursor.bytes(3).ok_or(Head::Short)?;
    let tag = u32::from_be_bytes([0, tag[0], tag[1], tag[2]]);
    let (goes_on, tag) = (tag & GOES_ON != 0, tag & !GOES_ON);
    let head = FrameHead { kind, tag, goes_on, total_bytes: length + LENGTH_BYTES as u64 };
    if head.is_one() { Ok(head) } else { Err(Head::Invalid) }
}

/// Frames as [`crate::frames`] tells them apart.
#[derive(Debug)]
pub(super) struct Frames;

impl Framing for Frames {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        match frame_head(side, bytes) {
            Ok(head) => Head::Bytes(head.total_bytes),
            Err(head) => head,
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let head = frame_head(side, bytes).ok()?;
        let (body, is_whole) = head.body(bytes);
        let is_certain = match head.shape(body, is_whole) {
            Shape::Certain => true,
            // It ends with the call, or another one follows.
            Shape::Fits if is_whole => {
                let rest = &bytes[HEAD_BYTES + body.len()..];
                head.tag_fits() && (rest.is_empty() || frame_head(side, rest).is_ok())
            }
            Shape::Fits | Shape::SoFar | Shape::None => false,
        };
        is_certain.then_some(0)
    }

    fn may_find(&self, side: Side, bytes: &[u8]) -> bool {
        match frame_head(side, bytes) {
            Err(head) => head == Head::Short && !bytes.is_empty(),
            Ok(head) => {
                let (body, is_whole) = head.body(bytes);
                let is_short = !is_whole && head.total_bytes <= SEEN_BYTES_MAX as u64;
                is_short && head.shape(body, is_whole) == Shape::SoFar
            }
        }
    }
}
