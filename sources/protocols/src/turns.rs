//! Both streams of a connection, read in the order in which their bytes were moved: what is answered
//! is read before its answer, also when both have waited; and read to their ends, hole by hole.

use crate::Side;
use crate::protocol::{Context, Parser, Streams};
use crate::stream::{Segment, StreamBuffer};

/// Stands for what will not come any more: more than any message claims.
const MISSING_BYTES: u64 = 1 << 40;

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

/// Cuts a loop over both streams short: holes that are old enough will not be filled.
pub(crate) fn settle(stream: &mut StreamBuffer, now_unix_ns: i64) {
    stream.settle_holes_before(now_unix_ns.saturating_sub(crate::REORDER_GRACE_NS));
}

/// The same of both streams.
pub(crate) fn settle_both(streams: &mut Streams<'_>, now_unix_ns: i64) {
    settle(streams.requests, now_unix_ns);
    settle(streams.responses, now_unix_ns);
}

/// Reads what both sides have said, the earlier first: `step` reads one message of a side, and says whether there was
/// one. Behind one hole another may have been there for long enough, too.
pub(crate) fn read_by_time(
    streams: &mut Streams<'_>,
    ctx: &mut Context<'_>,
    mut step: impl FnMut(Side, &mut Streams<'_>, &mut Context<'_>) -> bool,
) {
    let mut has_read = true;
    while has_read {
        has_read = false;
        settle_both(streams, ctx.now_unix_ns);
        while by_time(streams).into_iter().any(|side| step(side, streams, ctx)) {
            has_read = true;
        }
    }
}

/// Whether holes are left; those in front are given up. For the end of a connection.
pub(crate) fn settle_first_holes(streams: &mut Streams<'_>) -> bool {
    let holes = [&streams.requests, &streams.responses].map(|stream| stream.hole_since_ns());
    streams.requests.settle_hole();
    streams.responses.settle_hole();
    holes != [None, None]
}

/// Reads all there is, and gives up hole by hole; for the end of a connection.
pub(crate) fn read_to_end(
    parser: &mut impl Parser,
    streams: &mut Streams<'_>,
    ctx: &mut Context<'_>,
) {
    parser.advance(streams, ctx);
    while settle_first_holes(streams) {
        parser.advance(streams, ctx);
    }
}

/// The same; and of what has begun and did not end, what there is.
pub(crate) fn read_to_end_and_begun(
    parser: &mut impl Parser,
    streams: &mut Streams<'_>,
    ctx: &mut Context<'_>,
) {
    read_to_end(parser, streams, ctx);
    let both = [&mut *streams.requests, &mut *streams.responses];
    if both.map(|stream| end(stream, ctx.now_unix_ns)).contains(&true) {
        parser.advance(streams, ctx);
    }
}

/// Nothing follows what is unread, if anything is.
fn end(stream: &mut StreamBuffer, time_unix_ns: i64) -> bool {
    let has_begun = !stream.unread().is_empty() && stream.lost_bytes() == 0;
    if has_begun {
        let (position, total_bytes) = (stream.frontier(), MISSING_BYTES);
        stream.push(Segment { position, total_bytes, time_unix_ns, payload: &[], tail: &[] });
    }
    has_begun
}
