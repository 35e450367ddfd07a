//! Drives a protocol's parser with any bytes on both streams, in any pieces, with any losses; also as datagrams
//! where it has those.
//!
//! The input is a list of events: a byte of flags, a byte of length, the bytes. What must hold: no
//! panic, bounded memory, and every exchange counted once.

use weir_protocols::protocol::{Context, Datagram, Opening, RowOf, Rows, Streams, Way};
use weir_protocols::stream::{Segment, StreamBuffer};
use weir_protocols::{Config, PROTOCOLS, REORDER_GRACE_NS};
use weir_types::tables::Endpoints;
use weir_types::{BatchBuilder, tables};

const STREAM_BYTES_MAX: usize = 64 * 1024;

/// Counts rows, and writes them as the registry declares them.
struct Sink {
    builder: BatchBuilder,
    has_encrypted: bool,
    rows: u64,
}

impl Rows for Sink {
    fn row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder)) {
        assert_eq!(of.table, 0);
        self.rows += 1;
        let endpoints = Endpoints {
            time_unix_ns: of.time_unix_ns,
            upid: 0,
            remote_addr: "-",
            remote_port: 0,
            local_addr: "-",
            local_port: 0,
            trace_role: 0,
            encrypted: false,
        };
        match self.has_encrypted {
            true => endpoints.write(&mut self.builder),
            false => endpoints.write_without_encrypted(&mut self.builder),
        }
        write(&mut self.builder);
        self.builder.end_row();
        if self.rows % 64 == 0 {
            self.builder.finish();
        }
    }
}

/// The protocol of that name, with one input.
pub fn drive(protocol: &str, input: &[u8]) {
    let def = PROTOCOLS.iter().find(|def| def.name == protocol).expect("it is one of them");
    let parsing = def.parsing.as_ref().expect("it is read");
    let Some((first, mut rest)) = input.split_first() else { return };
    let mut parser = (parsing.new)(&Opening { from_start: first & 1 == 0 });
    let (mut shared, config) = ((parsing.shared)(), Config::default());
    let mut streams = [StreamBuffer::new(STREAM_BYTES_MAX), StreamBuffer::new(STREAM_BYTES_MAX)];
    let mut positions = [0u64; 2];
    let table = tables::find(def.tables[0]).expect("it is declared");
    let mut sink = Sink { builder: table.builder(), has_encrypted: table.has_encrypted(), rows: 0 };
    let mut now_unix_ns = 0i64;
    while let [flags, length, tail @ ..] = rest {
        let (payload, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        let side = usize::from(flags & 1);
        now_unix_ns += if flags & 8 == 0 { 1_000 } else { REORDER_GRACE_NS };
        let is_datagram = def.has_datagrams && flags & 32 != 0;
        let [requests, responses] = &mut streams;
        if !is_datagram {
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
        if is_datagram {
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
}
