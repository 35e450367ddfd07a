//! HTTP/1: any bytes, in any pieces, with any losses, in any order.
//!
//! The input is a list of events: a byte of flags, a byte of length, the bytes. What must hold: no
//! panic, bounded memory, and every exchange counted once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_protocols::http1::{Config, Context, Http1, Pool, REORDER_GRACE_NS};
use weir_protocols::stream::{Segment, StreamBuffer};

const STREAM_BYTES_MAX: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    let (mut http, mut pool, config) = (Http1::default(), Pool::default(), Config::default());
    let mut streams = [StreamBuffer::new(STREAM_BYTES_MAX), StreamBuffer::new(STREAM_BYTES_MAX)];
    let mut positions = [0u64; 2];
    let (mut now_unix_ns, mut emitted, mut rest) = (0i64, 0u64, input);
    while let [flags, length, tail @ ..] = rest {
        let (payload, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        let side = usize::from(flags & 1);
        let missing = u64::from(flags >> 1 & 3) * 7;
        now_unix_ns += if flags & 8 == 0 { 1_000 } else { REORDER_GRACE_NS };
        if flags & 16 != 0 {
            positions[side] += 5;
        }
        let total_bytes = payload.len() as u64 + missing;
        let position = positions[side];
        positions[side] += total_bytes;
        streams[side].push(Segment { position, total_bytes, time_unix_ns: now_unix_ns, payload, tail: &[] });
        let [requests, responses] = &mut streams;
        let mut emit = |_: weir_protocols::http1::Exchange<'_>| emitted += 1;
        let mut ctx = Context { now_unix_ns, config: &config, pool: &mut pool, emit: &mut emit };
        http.advance(requests, responses, &mut ctx);
    }
    let [requests, responses] = &mut streams;
    let mut emit = |_: weir_protocols::http1::Exchange<'_>| emitted += 1;
    let mut ctx = Context { now_unix_ns, config: &config, pool: &mut pool, emit: &mut emit };
    http.close(requests, responses, &mut ctx);
    assert_eq!(http.counters().exchanges, emitted);
    assert!(streams.iter().all(|stream| stream.held_bytes() < 8 * STREAM_BYTES_MAX));
});
