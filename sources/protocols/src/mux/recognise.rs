//! Whether bytes are Mux. A length, a type and a tag fit much, Thrift's frames among others: so there has to be a
//! handshake, or a dispatch with names, paths or a Thrift message where they belong. Pings, and the question
//! whether Tinit is known, look the same from both sides: what follows them decides.

use super::parse::{FrameHead, frame_head};
use super::shape::Shape;
use super::stitch::other;
use super::types::{HEAD_BYTES, TINIT_CHECK, is_error, is_sent_by, kind};
use crate::Side;
use crate::frames::Head;
use crate::protocol::{Beginning, Verdict};

/// Messages that decide nothing, in front of one that does.
const UNDECIDED_MAX: usize = 16;

/// What a message says of who speaks.
enum Said {
    By(Side),
    /// Either; it is so long.
    Anyone(usize),
    Short,
    Nothing,
}

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let mut bytes = beginning.bytes;
    // Cheapest first: the length's first byte is at most that of the longest frame.
    if beginning.is_datagram || bytes.first().is_none_or(|byte| *byte > 0x10) {
        return Verdict::IsNot;
    }
    for _ in 0..UNDECIDED_MAX {
        match said(bytes) {
            Said::By(side) => return Verdict::Is(side),
            Said::Anyone(length) => bytes = &bytes[length..],
            Said::Short if beginning.at_start => return Verdict::Unsure,
            Said::Short | Said::Nothing => return Verdict::IsNot,
        }
    }
    Verdict::IsNot
}

fn said(bytes: &[u8]) -> Said {
    let heads = [Side::Request, Side::Response].map(|side| (side, frame_head(side, bytes)));
    let Some((side, head)) = heads.iter().find_map(|(side, head)| Some((*side, head.ok()?))) else {
        let is_short = heads.iter().any(|(_, head)| *head == Err(Head::Short));
        return if is_short { Said::Short } else { Said::Nothing };
    };
    if !head.tag_fits() {
        return Said::Nothing;
    }
    let (body, is_whole) = head.body(bytes);
    let is_one_sided = !is_sent_by(other(side), head.kind);
    match head.shape(body, is_whole) {
        Shape::None => Said::Nothing,
        Shape::Certain if is_one_sided => Said::By(side),
        Shape::SoFar => Said::Short,
        Shape::Fits if is_one_sided && !is_whole => Said::Short,
        Shape::Certain | Shape::Fits if !decides_nothing(&head, body, is_whole) => Said::Nothing,
        Shape::Certain | Shape::Fits if !is_whole => Said::Short,
        Shape::Certain | Shape::Fits => Said::Anyone(HEAD_BYTES + body.len()),
    }
}

/// What it is, is plain; who sends it is not, or it alone is too little to say.
fn decides_nothing(head: &FrameHead, body: &[u8], is_whole: bool) -> bool {
    use kind::*;
    match head.kind {
        TPING | RPING | TDRAIN | RDRAIN | RDISCARDED | TLEASE => true,
        TDISCARDED | OLD_TDISCARDED => body.get(3..).is_some_and(|why| why.is_ascii()),
        kind if is_error(kind) && is_whole => body == TINIT_CHECK,
        kind => is_error(kind) && TINIT_CHECK.starts_with(body),
    }
}
