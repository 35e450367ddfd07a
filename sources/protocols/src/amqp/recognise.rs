//! Whether bytes are AMQP 0-9-1: its greeting, or a method that one side only sends, whole, of exactly
//! its arguments.

use super::parse::{frame_head, method, payload};
use super::table::arguments_end;
use super::types::{By, FrameType, HEAD_BYTES, PROTOCOL_HEADER};
use crate::Side;
use crate::frames::Head;
use crate::protocol::{Beginning, Verdict};

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let bytes = beginning.bytes;
    if beginning.is_datagram || !matches!(bytes.first(), Some(1 | b'A')) {
        return Verdict::IsNot;
    }
    if bytes.starts_with(PROTOCOL_HEADER) {
        return Verdict::Is(Side::Request);
    }
    match frame_head(bytes) {
        Err(Head::Short) if beginning.at_start => return Verdict::Unsure,
        Err(_) => return Verdict::IsNot,
        Ok(_) => {}
    }
    match certain_method(bytes) {
        Some(By::Client) => Verdict::Is(Side::Request),
        Some(By::Server) => Verdict::Is(Side::Response),
        _ => Verdict::IsNot,
    }
}

/// Who sends the method that begins here, if there can hardly be anything else.
fn certain_method(bytes: &[u8]) -> Option<By> {
    let head = frame_head(bytes).ok().filter(|head| head.frame_type == FrameType::Method)?;
    let total_bytes = usize::try_from(head.total_bytes()).ok()?;
    let frame = bytes.get(..total_bytes)?;
    let (method, arguments) = method(&head, payload(frame, &head)?)?;
    arguments_end(method, arguments).then_some(method.by)
}

/// Where a frame of this side certainly begins.
pub(super) fn is_frame(side: Side, bytes: &[u8]) -> bool {
    let Ok(head) = frame_head(bytes) else { return false };
    match head.frame_type {
        FrameType::ProtocolHeader => side == Side::Request,
        FrameType::Method => certain_method(bytes)
            .is_some_and(|by| by == By::Both || (by == By::Client) == (side == Side::Request)),
        // Their ends have to be there, or their beginnings to be long.
        FrameType::ContentHeader | FrameType::ContentBody | FrameType::Heartbeat => {
            bytes.len() as u64 >= head.total_bytes()
                && payload(bytes, &head).is_some_and(|payload| {
                    head.frame_type != FrameType::ContentHeader || payload.starts_with(&[0, 60])
                })
                && bytes.len() >= HEAD_BYTES
        }
    }
}
