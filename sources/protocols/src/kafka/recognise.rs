//! Whether bytes are Kafka. Lengths and small numbers begin many protocols' messages, so a request has
//! to be one to its end: of a known kind and version, with a client id that is text, and a body that its
//! schema reads without a byte left over. A response alone proves nothing.

use super::decode::{Decoder, Fit};
use super::parse::{behind_header, header, missing_bytes, total_bytes};
use super::schema::api;
use super::table::Layout;
use super::types::{
    Asked, Header, LENGTH_BYTES, METADATA, REQUEST_HEAD_BYTES, RESPONSE_HEAD_BYTES,
};
use crate::protocol::{Beginning, Verdict};
use crate::redact::Redactor;
use crate::{Recognised, Side};

/// Of a request that is not all there: less is no proof.
const PROOF_BYTES_MIN: usize = 32;

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let bytes = beginning.bytes;
    // Cheapest first: the length's first byte is at most that of the longest frame.
    if beginning.is_datagram || bytes.first().is_none_or(|byte| *byte > 0x0f) {
        return Verdict::IsNot;
    }
    match is_request(bytes) {
        Recognised::Yes => Verdict::Is(Side::Request),
        Recognised::Unsure if beginning.at_start => Verdict::Unsure,
        Recognised::Unsure | Recognised::No => Verdict::IsNot,
    }
}

/// The first bytes of a frame, as far as they are here.
fn frame_of(side: Side, bytes: &[u8]) -> Option<&[u8]> {
    let total_bytes = total_bytes(side, bytes)?;
    Some(&bytes[..bytes.len().min(usize::try_from(total_bytes).unwrap_or(usize::MAX))])
}

/// Whether these bytes begin with a request, as far as they go.
pub(super) fn is_request(bytes: &[u8]) -> Recognised {
    if bytes.len() < LENGTH_BYTES {
        return Recognised::Unsure;
    }
    let Some(frame) = frame_of(Side::Request, bytes) else { return Recognised::No };
    if bytes.len() < LENGTH_BYTES + REQUEST_HEAD_BYTES {
        return Recognised::Unsure;
    }
    let Some(header) = header(frame) else { return Recognised::No };
    let Some(layout) = api(header.api_key).and_then(|api| Layout::of_request(api, &header)) else {
        return Recognised::No;
    };
    if header.correlation_id < 0 || !header.client_id.is_ascii() {
        return Recognised::No;
    }
    let body = behind_header(frame, &header);
    if is_odd_metadata(&header, body) {
        return Recognised::Yes;
    }
    let missing_bytes = missing_bytes(frame);
    if body.is_empty() && missing_bytes > 0 {
        return Recognised::Unsure;
    }
    match fit(body, missing_bytes, &layout) {
        Fit::Whole => Recognised::Yes,
        Fit::SoFar if frame.len() >= PROOF_BYTES_MIN => Recognised::Yes,
        Fit::SoFar => Recognised::Unsure,
        Fit::No => Recognised::No,
    }
}

/// What librdkafka asks for all topics with, from the first flexible version on: it counts none of them by
/// four bytes instead of one. Brokers read what they expect, and do not look behind it.
pub(super) fn is_odd_metadata(header: &Header<'_>, body: &[u8]) -> bool {
    header.api_key == METADATA
        && body.len() == 8
        && body.starts_with(&[0; 5])
        && body.iter().all(|byte| *byte <= 1)
}

/// Whether these bytes begin with the response to this request: its id is taken as right. Of requests that
/// nobody can read here, the id has to do.
pub(super) fn is_response(bytes: &[u8], asked: &Asked) -> bool {
    let Some(frame) = frame_of(Side::Response, bytes) else { return false };
    let body = &frame[LENGTH_BYTES + RESPONSE_HEAD_BYTES..];
    let Some(layout) = api(asked.api_key).and_then(|api| Layout::of_response(api, asked, body))
    else {
        return true;
    };
    fit(body, missing_bytes(frame), &layout) != Fit::No
}

fn fit(body: &[u8], missing_bytes: u64, layout: &Layout) -> Fit {
    Decoder::checking(body, missing_bytes, layout, &Redactor::default()).fit(layout)
}
