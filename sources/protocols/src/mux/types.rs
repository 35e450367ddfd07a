//! Types of messages, who sends them, and what answers what.

use crate::Side;
use crate::by_id::Held;

/// The length in front of a frame, which counts what follows it.
pub(super) const LENGTH_BYTES: usize = 4;
/// With the type and the tag.
pub(super) const HEAD_BYTES: usize = 8;
/// Longest frame. Finagle's are as long as what it is given to send, and that is rarely more than some MiB.
pub(super) const FRAME_BYTES_MAX: u64 = 256 << 20;
/// More of the message follows in another frame.
pub(super) const GOES_ON: u32 = 1 << 23;
/// What a client asks first: whether its server knows Tinit. A server answers what it cannot read with an Rerr,
/// and this with the same text.
pub(super) const TINIT_CHECK: &[u8] = b"tinit check";

/// Types as they are sent, and as the columns have them.
pub(super) mod kind {
    pub(crate) const TREQ: i8 = 1;
    pub(crate) const RREQ: i8 = -1;
    pub(crate) const TDISPATCH: i8 = 2;
    pub(crate) const RDISPATCH: i8 = -2;
    pub(crate) const TDRAIN: i8 = 64;
    pub(crate) const RDRAIN: i8 = -64;
    pub(crate) const TPING: i8 = 65;
    pub(crate) const RPING: i8 = -65;
    pub(crate) const TDISCARDED: i8 = 66;
    pub(crate) const RDISCARDED: i8 = -66;
    pub(crate) const TLEASE: i8 = 67;
    pub(crate) const TINIT: i8 = 68;
    pub(crate) const RINIT: i8 = -68;
    pub(crate) const RERR: i8 = -128;
    /// What Finagle sends to this day for these, so that its old versions understand it.
    pub(crate) const OLD_RERR: i8 = 127;
    pub(crate) const OLD_TDISCARDED: i8 = -62;
}

/// Of a row that has no response.
pub(super) const NO_ANSWER: i8 = 0;

/// Whether that side sends messages of this type.
pub(super) fn is_sent_by(side: Side, kind: i8) -> bool {
    use kind::*;
    match kind {
        TREQ | TDISPATCH | TINIT | TDISCARDED | OLD_TDISCARDED => side == Side::Request,
        RREQ | RDISPATCH | RINIT | RDISCARDED | TLEASE => side == Side::Response,
        TDRAIN | RDRAIN | TPING | RPING | RERR | OLD_RERR => true,
        _ => false,
    }
}

/// Whether it asks, answered or not.
pub(super) fn asks(kind: i8) -> bool {
    use kind::*;
    matches!(kind, TREQ | TDISPATCH | TDRAIN | TPING | TINIT) || is_one_way(kind)
}

pub(super) fn is_one_way(kind: i8) -> bool {
    is_discard(kind) || kind == kind::TLEASE
}

/// The client does not want an answer any more.
pub(super) fn is_discard(kind: i8) -> bool {
    matches!(kind, kind::TDISCARDED | kind::OLD_TDISCARDED)
}

pub(super) fn is_error(kind: i8) -> bool {
    matches!(kind, kind::RERR | kind::OLD_RERR)
}

/// Whether messages of this type may come in fragments.
pub(super) fn has_fragments(kind: i8) -> bool {
    use kind::*;
    matches!(kind, TREQ | RREQ | TDISPATCH | RDISPATCH)
}

/// Whether a message of the second type answers one of the first.
pub(super) fn is_answer(asked: i8, answer: i8) -> bool {
    match is_error(asked) {
        // Whether Tinit is known.
        true => is_error(answer),
        false => answer == -asked || is_error(answer) || answer == kind::RDISCARDED,
    }
}

/// Types wait by themselves: columns have nothing of what messages carry.
impl Held for i8 {
    fn held_bytes(&self) -> usize {
        0
    }
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) asked: i8,
    pub(super) answer: i8,
    pub(super) tag: u32,
    pub(super) time_unix_ns: i64,
    pub(super) latency_ns: i64,
}
