//! A connection on which tests speak a protocol: messages as bytes in, rows as text out.

use weir_types::batch::value_at;
use weir_types::random::SplitMix;
use weir_types::{BatchBuilder, Value, tables};

use crate::corpus::Conversation;
use crate::protocol::{
    Beginning, Context, Datagram, Opening, Parser, ProtocolDef, RowOf, Rows, Shared, Streams,
    Verdict, Way,
};
use crate::stream::{Segment, StreamBuffer};
use crate::{Config, Counters, Side};

/// A row: whose it is, and its protocol's own columns as text, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) time_ns: i64,
    pub(crate) of: RowOf,
    pub(crate) is_push: bool,
    pub(crate) cells: Vec<String>,
}

struct Sink {
    def: &'static ProtocolDef,
    rows: Vec<Row>,
}

impl Sink {
    fn take(&mut self, of: &RowOf, is_push: bool, write: &mut dyn FnMut(&mut BatchBuilder)) {
        let table = tables::find(self.def.tables[of.table]).unwrap();
        let mut builder = table.builder();
        let endpoints = crate::columns::Endpoints {
            time_unix_ns: of.time_unix_ns,
            upid: 1,
            remote_addr: "-",
            remote_port: -1,
            local_addr: "-",
            local_port: -1,
            trace_role: 4,
            encrypted: false,
        };
        let own = match table.has_encrypted() {
            true => {
                endpoints.write(&mut builder);
                tables::ENDPOINT_COLUMNS
            }
            false => {
                endpoints.write_without_encrypted(&mut builder);
                tables::ENDPOINT_COLUMNS - 1
            }
        };
        write(&mut builder);
        builder.end_row();
        let (batch, relation) = (builder.finish(), table.relation());
        let cells = (own..relation.columns.len()).map(|idx| {
            match value_at(batch.column(idx), relation.columns[idx].data_type, 0).unwrap() {
                Value::String(text) => String::from_utf8_lossy(&text).into_owned(),
                Value::Int64(number) => number.to_string(),
                other => panic!("{other:?}"),
            }
        });
        let cells = cells.collect();
        self.rows.push(Row { time_ns: of.time_unix_ns, of: *of, is_push, cells });
    }
}

impl Rows for Sink {
    fn row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder)) {
        self.take(of, false, write);
    }
    fn push_row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder)) {
        self.take(of, true, write);
    }
}

/// A parser, its two streams, and a clock that ticks with every event.
pub(crate) struct Wire {
    def: &'static ProtocolDef,
    pub(crate) parser: Box<dyn Parser>,
    shared: Box<dyn Shared>,
    streams: [StreamBuffer; 2],
    positions: [u64; 2],
    pub(crate) now_ns: i64,
    pub(crate) config: Config,
    sink: Sink,
    conversation: Conversation,
}

impl Wire {
    pub(crate) fn new(def: &'static ProtocolDef) -> Wire {
        Wire::begun(def, true)
    }
    /// `from_start`: it is watched from its first byte on.
    pub(crate) fn begun(def: &'static ProtocolDef, from_start: bool) -> Wire {
        let parsing = def.parsing.as_ref().unwrap();
        Wire {
            def,
            parser: (parsing.new)(&Opening { from_start }),
            shared: (parsing.shared)(),
            streams: Default::default(),
            positions: [0; 2],
            now_ns: 1_000,
            config: Config::default(),
            sink: Sink { def, rows: Vec::new() },
            conversation: Conversation::new(def.name, from_start),
        }
    }
    fn run(&mut self, work: impl FnOnce(&mut dyn Parser, &mut Streams<'_>, &mut Context<'_>)) {
        let [requests, responses] = &mut self.streams;
        let mut ctx = Context {
            now_unix_ns: self.now_ns,
            config: &self.config,
            shared: self.shared.as_mut(),
            rows: &mut self.sink,
        };
        work(self.parser.as_mut(), &mut Streams { requests, responses }, &mut ctx);
        let bytes_max = self.def.parsing.as_ref().unwrap().parser_bytes_max;
        let held = self.parser.held_bytes();
        assert!(held <= bytes_max, "{held} bytes are held, {bytes_max} at the most");
    }
    /// A call, all of which is copied.
    pub(crate) fn call(&mut self, side: Side, bytes: &[u8]) {
        self.cut_call(side, bytes, bytes.len());
    }
    /// A call of which the first `seen` bytes are copied.
    pub(crate) fn cut_call(&mut self, side: Side, bytes: &[u8], seen: usize) {
        self.now_ns += 1_000;
        self.conversation.call(side, &bytes[..seen], seen < bytes.len());
        let position = self.step(side, bytes.len() as u64);
        self.streams[side as usize].push(Segment {
            position,
            total_bytes: bytes.len() as u64,
            time_unix_ns: self.now_ns,
            payload: &bytes[..seen],
            tail: &[],
        });
        self.run(|parser, streams, ctx| parser.advance(streams, ctx));
    }
    /// A datagram, all of which is copied, at the present time.
    pub(crate) fn datagram(&mut self, datagram: Datagram<'_>) {
        self.now_ns += 1_000;
        let datagram = Datagram { time_unix_ns: self.now_ns, ..datagram };
        self.conversation.datagram(datagram.way == Way::In, datagram.bytes);
        self.run(|parser, _, ctx| parser.datagram(&datagram, ctx));
    }
    /// An event as it comes, at the present time.
    pub(crate) fn push(&mut self, side: Side, segment: Segment<'_>) {
        let is_cut = segment.total_bytes > segment.payload.len() as u64;
        self.conversation.call(side, segment.payload, is_cut);
        self.streams[side as usize].push(segment);
        self.run(|parser, streams, ctx| parser.advance(streams, ctx));
    }
    /// A call that nobody saw.
    pub(crate) fn lose(&mut self, side: Side, bytes: u64) -> u64 {
        self.conversation.lost(side);
        self.step(side, bytes)
    }
    fn step(&mut self, side: Side, bytes: u64) -> u64 {
        let position = self.positions[side as usize];
        self.positions[side as usize] += bytes;
        position
    }
    pub(crate) fn ask(&mut self, bytes: &[u8]) {
        self.call(Side::Request, bytes);
    }
    pub(crate) fn answer(&mut self, bytes: &[u8]) {
        self.call(Side::Response, bytes);
    }
    /// Time passes.
    pub(crate) fn wait(&mut self, ns: i64) {
        self.conversation.waited();
        self.now_ns += ns;
        self.run(|parser, streams, ctx| parser.advance(streams, ctx));
    }
    /// Everything that may still come has come.
    pub(crate) fn settle(&mut self) {
        self.wait(2 * crate::REORDER_GRACE_NS);
        self.wait(2 * crate::REORDER_GRACE_NS);
    }
    /// Memory is short.
    pub(crate) fn give_up(&mut self) {
        self.parser.give_up(self.shared.as_mut());
    }
    pub(crate) fn close(&mut self) -> &[Row] {
        self.run(|parser, streams, ctx| parser.close(streams, ctx));
        assert!(!self.parser.is_waiting(), "{:?}", self.parser);
        assert_eq!(self.parser.counters().exchanges, self.sink.rows.len() as u64);
        &self.sink.rows
    }
    pub(crate) fn rows(&self) -> &[Row] {
        &self.sink.rows
    }
    /// The columns of all rows but the latency, joined by ` | `.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = tables::find(self.def.tables[0]).unwrap().columns;
        let own = |row: &Row| columns.len() - row.cells.len();
        let line = |row: &Row| {
            let named = columns[own(row)..].iter().zip(&row.cells);
            let shown = named.filter(|(column, _)| column.name != "latency");
            shown.map(|(_, cell)| cell.as_str()).collect::<Vec<_>>().join(" | ")
        };
        self.sink.rows.iter().map(line).collect()
    }
    pub(crate) fn counters(&self) -> Counters {
        self.parser.counters()
    }
}

/// What a side said by one call.
pub(crate) type Call = (Side, Vec<u8>);

/// The rows of a conversation, as lines.
pub(crate) fn lines_of(def: &'static ProtocolDef, calls: &[Call]) -> Vec<String> {
    let mut wire = Wire::new(def);
    for (side, bytes) in calls {
        wire.call(*side, bytes);
    }
    wire.settle();
    wire.close();
    wire.lines()
}

/// However calls are split into pieces, the rows are the same.
pub(crate) fn check_every_split(def: &'static ProtocolDef, calls: &[Call]) {
    let whole = lines_of(def, calls);
    assert!(!whole.is_empty());
    for piece in (1..64).chain([100, 500, 1_000]) {
        let mut wire = Wire::new(def);
        for (side, bytes) in calls {
            bytes.chunks(piece).for_each(|bytes| wire.call(*side, bytes));
        }
        wire.settle();
        wire.close();
        assert_eq!(wire.lines(), whole, "in pieces of {piece}");
    }
}

/// What a random fault does to a conversation.
fn faulty(wire: &mut Wire, random: &mut SplitMix, side: Side, bytes: &[u8], one_in: u64) {
    match random.next_u64() % one_in {
        0 => {
            wire.lose(side, bytes.len() as u64);
            wire.now_ns += 1_000;
        }
        1 => {
            let seen = random.next_u64() as usize % bytes.len().max(1);
            wire.cut_call(side, bytes, seen);
        }
        2 => {
            let at = random.next_u64() as usize % bytes.len().max(1);
            wire.call(side, &bytes[..at]);
            wire.lose(side, (bytes.len() - at) as u64);
        }
        _ => wire.call(side, bytes),
    }
    if random.next_u64().is_multiple_of(4) {
        wire.wait((random.next_u64() % 400_000_000) as i64);
    }
}

/// Random losses in many conversations: no panic, bounded memory, and each row is one that there is
/// without loss, or the beginning of one, in every column: `is_right` says so. How many were right.
pub(crate) fn check_random_gaps(
    def: &'static ProtocolDef,
    seeds: u64,
    one_in: u64,
    conversation: impl Fn(&mut SplitMix) -> Vec<Call>,
    is_right: impl Fn(&[String]) -> bool,
) -> usize {
    let mut right = 0;
    for seed in 0..seeds {
        let mut random = SplitMix(seed);
        let calls = conversation(&mut random);
        let mut wire = Wire::begun(def, seed % 4 != 3);
        for (side, bytes) in &calls {
            faulty(&mut wire, &mut random, *side, bytes, one_in);
        }
        wire.settle();
        for row in wire.close() {
            assert!(is_right(&row.cells), "seed {seed}: {row:?}");
            right += 1;
        }
    }
    right
}

/// Any bytes, or a conversation with some of its bytes changed: no panic, bounded memory.
pub(crate) fn check_any_bytes(def: &'static ProtocolDef, seeds: u64, calls: &[Call]) {
    for seed in 0..seeds {
        let mut random = SplitMix(seed);
        let mut wire = Wire::begun(def, seed % 3 != 2);
        for (side, bytes) in calls {
            let mut bytes = bytes.clone();
            if seed % 5 == 0 {
                let count = random.next_u64() as usize % 200;
                bytes = (0..count).map(|_| random.next_u64() as u8).collect();
            }
            for _ in 0..random.next_u64() % 4 {
                if let Some(len) = std::num::NonZero::new(bytes.len()) {
                    bytes[random.next_u64() as usize % len] = random.next_u64() as u8;
                }
            }
            if random.next_u64().is_multiple_of(6) {
                bytes.truncate(random.next_u64() as usize % (bytes.len() + 1));
            }
            faulty(&mut wire, &mut random, *side, &bytes, 12);
        }
        wire.settle();
        wire.close();
    }
}

/// After any losses, a few calls that show them (`probe`) and a pause, the same conversation gives all
/// its rows again: what was lost does not go on.
pub(crate) fn check_recovery(
    def: &'static ProtocolDef,
    seeds: u64,
    calls: &[Call],
    probe: &[Call],
    pause_ns: i64,
) {
    let whole = lines_of(def, calls);
    for seed in 0..seeds {
        let mut random = SplitMix(seed);
        let mut wire = Wire::begun(def, seed % 4 != 3);
        for (side, bytes) in calls {
            faulty(&mut wire, &mut random, *side, bytes, 6);
        }
        for (side, bytes) in probe {
            wire.call(*side, bytes);
        }
        wire.settle();
        wire.wait(pause_ns);
        let from_ns = wire.now_ns;
        for (side, bytes) in calls {
            wire.call(*side, bytes);
        }
        wire.settle();
        wire.close();
        let lines = wire.lines().into_iter().zip(wire.rows());
        let again: Vec<_> =
            lines.filter(|(_, row)| row.time_ns > from_ns).map(|(line, _)| line).collect();
        assert_eq!(again, whole, "seed {seed}");
    }
}

/// What a protocol says of a connection's first bytes.
pub(crate) fn verdict(def: &ProtocolDef, bytes: &[u8], opened: bool) -> Verdict {
    let beginning =
        Beginning { bytes, at_start: true, opened, is_datagram: false, ports: [40_000, 50_000] };
    (def.recognise)(&beginning)
}

/// Samples are this protocol's, on whatever side they are.
pub(crate) fn check_recognised(def: &ProtocolDef, samples: &[(Side, &[u8])]) {
    for (side, bytes) in samples {
        let found = verdict(def, bytes, true);
        assert_eq!(found, Verdict::Is(*side), "{}", String::from_utf8_lossy(bytes));
    }
}
