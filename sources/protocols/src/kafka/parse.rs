//! A frame's length and header.

use super::recognise::{is_request, is_response};
use super::types::{
    API_KEY_MAX, API_VERSION_MAX, Asked, CLIENT_ID_BYTES_MAX, FRAME_BYTES_MAX, Header,
    LENGTH_BYTES, REQUEST_HEAD_BYTES, RESPONSE_HEAD_BYTES,
};
use crate::by_id::ById;
use crate::cursor::Cursor;
use crate::frames::{Framing, Head};
use crate::{Recognised, Side};

pub(super) type Pairing = ById<i32, Asked, Vec<u8>>;

/// Frames as [`crate::frames`] tells them apart; of responses those are certain that were asked for.
#[derive(Debug)]
pub(super) struct Frames<'a>(pub(super) &'a Pairing);

impl Framing for Frames<'_> {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        let Some(total_bytes) = total_bytes(side, bytes) else {
            return if bytes.len() < LENGTH_BYTES { Head::Short } else { Head::Invalid };
        };
        match side {
            Side::Response => Head::Bytes(total_bytes),
            Side::Request => match header(bytes) {
                None if bytes.len() < LENGTH_BYTES + REQUEST_HEAD_BYTES => Head::Short,
                None => Head::Invalid,
                Some(_) => Head::Bytes(total_bytes),
            },
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let is_certain = match side {
            Side::Request => is_request(bytes) == Recognised::Yes,
            Side::Response => {
                let asked = correlation_id(bytes).and_then(|id| self.0.waiting(&id));
                asked.is_some_and(|asked| is_response(bytes, asked))
            }
        };
        is_certain.then_some(0)
    }
}

/// How long the frame is that begins here, with its length; `None` if it is none, or too few bytes.
pub(super) fn total_bytes(side: Side, bytes: &[u8]) -> Option<u64> {
    let length = u64::from(Cursor::new(bytes).u32_be()?);
    let least = match side {
        Side::Request => REQUEST_HEAD_BYTES,
        Side::Response => RESPONSE_HEAD_BYTES,
    };
    (least as u64..=FRAME_BYTES_MAX).contains(&length).then_some(length + LENGTH_BYTES as u64)
}

/// How many bytes of a frame are not here.
pub(super) fn missing_bytes(frame: &[u8]) -> u64 {
    let length = Cursor::new(frame).u32_be().unwrap_or_default();
    (u64::from(length) + LENGTH_BYTES as u64).saturating_sub(frame.len() as u64)
}

/// A response's.
pub(super) fn correlation_id(frame: &[u8]) -> Option<i32> {
    Cursor::new(frame.get(LENGTH_BYTES..)?).i32_be()
}

/// The header of a request, known or not; of a client id that is cut, what there is.
pub(super) fn header(frame: &[u8]) -> Option<Header<'_>> {
    let mut cursor = Cursor::new(frame.get(LENGTH_BYTES..)?);
    let (api_key, api_version) = (cursor.i16_be()?, cursor.i16_be()?);
    let correlation_id = cursor.i32_be()?;
    if !(0..=API_KEY_MAX).contains(&api_key) || !(0..=API_VERSION_MAX).contains(&api_version) {
        return None;
    }
    let client_id = match cursor.i16_be()? {
        -1 => &[][..],
        length => {
            let length = usize::try_from(length).ok()?;
            let text = cursor.up_to(length);
            if length > CLIENT_ID_BYTES_MAX || text.iter().any(u8::is_ascii_control) {
                return None;
            }
            text
        }
    };
    Some(Header { api_key, api_version, correlation_id, client_id })
}

/// What follows a request's header: its body, or tagged fields in front of it.
pub(super) fn behind_header<'a>(frame: &'a [u8], header: &Header<'_>) -> &'a [u8] {
    let head = LENGTH_BYTES + REQUEST_HEAD_BYTES + header.client_id.len();
    frame.get(head..).unwrap_or_default()
}
