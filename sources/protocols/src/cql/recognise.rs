//! Whether bytes are CQL: a frame of a known version and kind whose body is what its kind says, or a
//! segment with such a frame in it, whose head has its checksum.

use super::fits::{Fit, fit};
use super::parse::frame_head;
use super::segments::SegmentHead;
use super::types::{HEAD_BYTES, Head as FrameHead};
use crate::frames::Head;
use crate::protocol::{Beginning, Verdict};
use crate::{Recognised, Side};

/// Of a frame that is not all there: less is no proof.
const PROOF_BYTES_MIN: usize = 32;
/// What is looked at of a segment.
const CONTENT_BYTES_MAX: usize = 4 * 1024;

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let Beginning { bytes, at_start, opened, is_datagram, .. } = *beginning;
    if is_datagram || bytes.is_empty() {
        return Verdict::IsNot;
    }
    // No connection begins with one.
    let may_be_segment = !(opened && at_start);
    if may_be_segment && let Some(side) = side_of_segment(bytes) {
        return Verdict::Is(side);
    }
    match of_frame(bytes, None) {
        (Recognised::Yes, Some(side)) => Verdict::Is(side),
        (Recognised::Unsure, _) if at_start => Verdict::Unsure,
        _ => Verdict::IsNot,
    }
}

/// Whether these bytes begin with a request, as far as they go.
pub(super) fn is_request(bytes: &[u8]) -> Recognised {
    of_frame(bytes, Some(Side::Request)).0
}

/// The same with a response.
pub(super) fn is_response(bytes: &[u8]) -> Recognised {
    of_frame(bytes, Some(Side::Response)).0
}

/// Whether they begin with a frame, of that side if one is given; and whose it is.
fn of_frame(bytes: &[u8], side: Option<Side>) -> (Recognised, Option<Side>) {
    let head = match frame_head(bytes) {
        Ok(head) if side.is_none_or(|side| side == head.side) => head,
        Err(Head::Short) => return (Recognised::Unsure, None),
        Ok(_) | Err(_) => return (Recognised::No, None),
    };
    let (frame, rest) = split(&head, bytes);
    let found = match fit(&head, frame) {
        Fit::Whole if is_next(&head, rest) => Recognised::Yes,
        Fit::SoFar if frame.len() >= PROOF_BYTES_MIN => Recognised::Yes,
        Fit::SoFar => Recognised::Unsure,
        Fit::Whole | Fit::No => Recognised::No,
    };
    (found, Some(head.side))
}

/// A frame as far as it is here, and what follows it.
fn split<'a>(head: &FrameHead, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let end = usize::try_from(head.total_bytes()).unwrap_or(usize::MAX);
    bytes.split_at(end.min(bytes.len()))
}

/// What follows a frame is another one of its side and version, if it is anything.
fn is_next(head: &FrameHead, rest: &[u8]) -> bool {
    match frame_head(rest) {
        Ok(next) => (next.side, next.version) == (head.side, head.version),
        Err(Head::Short) => rest.len() < HEAD_BYTES,
        Err(_) => head.version.may_have_segments() && SegmentHead::of_any(rest).is_some(),
    }
}

/// Who sends the segment that begins here, if one does and it begins with a frame.
fn side_of_segment(bytes: &[u8]) -> Option<Side> {
    let segment = SegmentHead::of_any(bytes)?;
    let content = segment.content(bytes, CONTENT_BYTES_MAX);
    let head = frame_head(&content).ok().filter(|head| head.version.may_have_segments())?;
    let (frame, _) = split(&head, &content);
    let is_within = !segment.is_self_contained || head.total_bytes() <= segment.brings_bytes();
    (is_within && fit(&head, frame) != Fit::No).then_some(head.side)
}
