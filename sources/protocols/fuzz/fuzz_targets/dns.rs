//! DNS: any bytes as datagrams and on both streams, in any pieces, with any losses.
//!
//! The input is a list of events: a byte of flags, a byte of length, the bytes. What must hold: no
//! panic, bounded memory, and every exchange counted once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_protocols::protocol::{Context, Datagram, Opening, RowOf, Rows, Streams, Way};
use weir_protocols::stream::{Segment, StreamBuffer};
use weir_protocols::{Config, PROTOCOLS, REORDER_GRACE_NS};
use weir_types::{BatchBuilder, tables};

const STREAM_BYTES_MAX: usize = 64 * 1024;

/// Counts rows, and writes them as the registry declares them.
struct Sink {
    builder: BatchBuilder,
    rows: u64,
}

impl Rows for Sink {
    fn row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder)) {
        assert_eq!(of.table, 0);
        self.rows += 1;
        for column in [0, 3, 5, 6] {
            self.builder.int64(column, 0);
        }
        self.builder.uint128(1, 0);
        self.builder.string(2, b"-");
        self.builder.string(4, b"-");
        self.builder.boolean(7, false);
        write(&mut self.builder);
        self.builder.end_row();
        if self.rows % 64 == 0 {
            self.builder.finish();
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let def = PROTOCOLS.iter().find(|def| def.name == "dns").expect("it is one of them");
    let parsing = def.parsing.as_ref().expect("it is read");
    let Some((first, mut rest)) = input.split_first() else { return };
    let mut parser = (parsing.new)(&Opening { from_start: first & 1 == 0 });
    let (mut shared, config) = ((parsing.shared)(), Config::default());
    let mut streams = [StreamBuffer::new(STREAM_BYTES_MAX), StreamBuffer::new(STREAM_BYTES_MAX)];
    let mut positions = [0u64; 2];
    let table = tables::find(def.tables[0]).expect("it is declared");
    let mut sink = Sink { builder: table.builder(), rows: 0 };
    let mut now_unix_ns = 0i64;
    while let [flags, length, tail @ ..] = rest {
        let (payload, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        let side = usize::from(flags & 1);
        now_unix_ns += if flags & 8 == 0 { 1_000 } else { REORDER_GRACE_NS };
        let [requests, responses] = &mut streams;
        if flags & 32 == 0 {
            let missing = u64::from(flags >> 1 & 3) * 7;
            positions[side] += u64::from(flags >> 4 & 1) * 5;
            let (position, total_bytes) = (positions[side], payload.len() as u64 + missing);
            positions[side] += total_bytes;
            let stream = if side == 0 { &mut *requests } else { &mut *responses };
            let tail = &[];
            stream.push(Segment { position, total_bytes, time_unix_ns: now_unix_ns, payload, tail });
        }
        let shared = shared.as_mut();
        let mut ctx = Context { now_unix_ns, config: &config, shared, rows: &mut sink };
        if flags & 32 != 0 {
            let way = if side == 0 { Way::In } else { Way::Out };
            let peer = (flags & 64 == 0).then(|| ([127, 0, 0, 1], 53).into());
            let after_gap = flags & 16 != 0;
            let bytes = payload;
            let datagram = Datagram { way, peer, time_unix_ns: now_unix_ns, bytes, after_gap };
            parser.datagram(&datagram, &mut ctx);
        }
        parser.advance(&mut Streams { requests, responses }, &mut ctx);
    }
    let [requests, responses] = &mut streams;
    let shared = shared.as_mut();
    let mut ctx = Context { now_unix_ns, config: &config, shared, rows: &mut sink };
    parser.close(&mut Streams { requests, responses }, &mut ctx);
    assert_eq!(parser.counters().exchanges, sink.rows);
    assert!(parser.held_bytes() <= parsing.parser_bytes_max);
    assert!(!parser.is_waiting());
});
