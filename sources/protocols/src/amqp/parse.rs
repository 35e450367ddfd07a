//! Frames, and methods off their payloads.

use super::methods::find;
use super::types::{END, FrameType, HEAD_BYTES, Method, PAYLOAD_BYTES_MAX, PROTOCOL_HEADER};
use crate::Side;
use crate::cursor::Cursor;
use crate::frames::{Framing, Head};

/// Of a content's header: class, weight and the body's size.
const CONTENT_HEAD_BYTES: usize = 12;

/// What a frame's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) frame_type: FrameType,
    pub(super) channel: u16,
    payload_bytes: u64,
}

impl FrameHead {
    pub(super) fn total_bytes(self) -> u64 {
        match self.frame_type {
            FrameType::ProtocolHeader => PROTOCOL_HEADER.len() as u64,
            _ => HEAD_BYTES as u64 + self.payload_bytes + 1,
        }
    }
}

/// `Err`: no frame, or too few bytes.
pub(super) fn frame_head(bytes: &[u8]) -> Result<FrameHead, Head> {
    if bytes.first() == Some(&b'A') {
        let begins = &PROTOCOL_HEADER[..bytes.len().min(PROTOCOL_HEADER.len())];
        return match bytes.starts_with(begins) {
            true if begins.len() == PROTOCOL_HEADER.len() => {
                let frame_type = FrameType::ProtocolHeader;
                Ok(FrameHead { frame_type, channel: 0, payload_bytes: 0 })
            }
            true => Err(Head::Short),
            false => Err(Head::Invalid),
        };
    }
    let frame_type = match bytes.first() {
        None => return Err(Head::Short),
        Some(1) => FrameType::Method,
        Some(2) => FrameType::ContentHeader,
        Some(3) => FrameType::ContentBody,
        Some(8) => FrameType::Heartbeat,
        Some(_) => return Err(Head::Invalid),
    };
    let mut cursor = Cursor::new(&bytes[1..]);
    let (Some(channel), Some(size)) = (cursor.u16_be(), cursor.u32_be()) else {
        return Err(Head::Short);
    };
    let payload_bytes = u64::from(size);
    let fits = match frame_type {
        FrameType::Method => payload_bytes >= 4,
        FrameType::ContentHeader => channel > 0 && payload_bytes >= 14,
        FrameType::ContentBody => channel > 0,
        FrameType::Heartbeat => channel == 0 && payload_bytes == 0,
        FrameType::ProtocolHeader => false,
    };
    match fits && payload_bytes <= PAYLOAD_BYTES_MAX {
        true => Ok(FrameHead { frame_type, channel, payload_bytes }),
        false => Err(Head::Invalid),
    }
}

/// The payload, as far as it is there; `None`: the frame does not end as it should.
pub(super) fn payload<'a>(frame: &'a [u8], head: &FrameHead) -> Option<&'a [u8]> {
    let payload = frame.get(HEAD_BYTES..)?;
    let end = head.payload_bytes as usize;
    match payload.get(end) {
        None => Some(payload),
        Some(&END) => Some(&payload[..end]),
        Some(_) => None,
    }
}

/// The method whose frame has this payload, and its arguments.
pub(super) fn method<'a>(
    head: &FrameHead,
    payload: &'a [u8],
) -> Option<(&'static Method, &'a [u8])> {
    let mut cursor = Cursor::new(payload);
    let method = find(cursor.u16_be()?, cursor.u16_be()?)?;
    // What concerns the connection goes over channel 0, and nothing else does.
    ((method.class_id == 10) == (head.channel == 0)).then_some((method, cursor.rest()))
}

/// How long the body is, by a content's header.
pub(super) fn body_bytes(payload: &[u8]) -> Option<u64> {
    Cursor::new(payload.get(..CONTENT_HEAD_BYTES)?.get(4..)?).u64_be()
}

/// Frames as [`crate::frames`] tells them apart.
#[derive(Debug)]
pub(super) struct Frames;

impl Framing for Frames {
    fn head(&self, _side: Side, bytes: &[u8]) -> Head {
        match frame_head(bytes) {
            Ok(head) => Head::Bytes(head.total_bytes()),
            Err(head) => head,
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        super::recognise::is_frame(side, bytes).then_some(0)
    }
}
