//! Both streams of a connection, read in the order in which their bytes were moved: what is answered
//! is read before its answer, also when both have waited.

use crate::Side;
use crate::protocol::Streams;
use crate::stream::StreamBuffer;

/// The sides, that of the earlier next byte first.
pub(crate) fn by_time(streams: &Streams<'_>) -> [Side; 2] {
    let ns = |stream: &StreamBuffer| stream.next_byte_ns().unwrap_or(i64::MAX);
    match ns(streams.responses) < ns(streams.requests) {
        true => [Side::Response, Side::Request],
        false => [Side::Request, Side::Response],
    }
}

/// The stream of a side.
pub(crate) fn of_side<'s>(streams: &'s mut Streams<'_>, side: Side) -> &'s mut StreamBuffer {
    match side {
        Side::Request => streams.requests,
        Side::Response => streams.responses,
    }
}
