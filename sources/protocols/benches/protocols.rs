//! What each parser makes of its protocol a second, from two streams of bytes to rows: small exchanges, of
//! which messages are counted, and large answers, of which bytes are.
//!
//! `cargo bench -p weir-protocols --bench protocols [NAME…]` prints, in CPU time of its thread, the best of the
//! rounds: what others do on the machine makes a round longer, never shorter. It asserts only that the rows are
//! there.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]

use rustix::time::{ClockId, clock_gettime};
use weir_protocols::protocol::{
    Context, Datagram, Opening, Parser, ProtocolDef, RowOf, Rows, Shared, Streams, Way,
};
use weir_protocols::stream::{Segment, StreamBuffer};
use weir_protocols::{Config, PROTOCOLS};
use weir_types::tables::Endpoints;
use weir_types::{BatchBuilder, tables};

const EXCHANGES: usize = 4_000;
const LARGE_ANSWERS: usize = 32;
const LARGE_BYTES: usize = 1 << 20;
/// What one call moves of a large answer.
const CALL_BYTES: usize = 64 * 1024;
/// The first one thrown away.
const ROUNDS: usize = 12;

/// What each side sends in one exchange; a side may send nothing.
type Messages = [Vec<u8>; 2];

/// How a protocol is spoken here.
struct Spoken {
    name: &'static str,
    /// Before all exchanges.
    opening: Vec<Messages>,
    small: fn(usize) -> Messages,
    /// With an answer, or a request, of [`LARGE_BYTES`].
    large: Option<fn(usize) -> Messages>,
    /// Each exchange has a connection of its own.
    is_short: bool,
}

fn be<const N: usize>(value: usize) -> [u8; N] {
    let bytes = (value as u64).to_be_bytes();
    std::array::from_fn(|at| bytes[8 - N + at])
}

fn le<const N: usize>(value: usize) -> [u8; N] {
    let bytes = (value as u64).to_le_bytes();
    std::array::from_fn(|at| bytes[at])
}

fn large_text() -> Vec<u8> {
    vec![b'x'; LARGE_BYTES]
}

fn http1(idx: usize, body: &[u8]) -> Messages {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let request = format!("GET /item/{idx} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    [request.into_bytes(), [head.as_bytes(), body].concat()]
}

fn http2_frame(kind: u8, flags: u8, stream: usize, body: &[u8]) -> Vec<u8> {
    [&be::<3>(body.len())[..], &[kind, flags], &be::<4>(stream), body].concat()
}

fn http2(idx: usize, body: &[u8]) -> Messages {
    let stream = 2 * idx + 1;
    let asked = http2_frame(1, 5, stream, b"\x82\x86\x84\x41\x09a.example");
    let mut answer = http2_frame(1, if body.is_empty() { 5 } else { 4 }, stream, b"\x88");
    let pieces = body.chunks(16_384).enumerate();
    for (at, piece) in pieces {
        let is_last = (at + 1) * 16_384 >= body.len();
        answer.extend(http2_frame(0, u8::from(is_last), stream, piece));
    }
    [asked, answer]
}

fn redis(idx: usize, value: &[u8]) -> Messages {
    let key = format!("key:{idx}");
    let asked = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).into_bytes();
    let head = format!("${}\r\n", value.len());
    [asked, [head.as_bytes(), value, b"\r\n"].concat()]
}

fn mysql_packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    [&le::<3>(body.len())[..], &[sequence], body].concat()
}

fn mysql_query(idx: usize) -> Vec<u8> {
    mysql_packet(0, format!("\x03SELECT a FROM t WHERE id = {idx}").as_bytes())
}

fn mysql_small(idx: usize) -> Messages {
    [mysql_query(idx), mysql_packet(1, &[0, 1, 0, 2, 0, 0, 0])]
}

fn mysql_large(idx: usize) -> Messages {
    let text = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
    let names = [b"def".as_slice(), b"d", b"t", b"t", b"a", b"a"].map(text).concat();
    let column = [&names[..], &[0x0c, 0x21, 0, 0, 0, 0, 1, 0xfd, 0, 0, 0, 0, 0]].concat();
    let row = [&[0xfd][..], &le::<3>(LARGE_BYTES), &large_text()].concat();
    let end = [0xfe, 0, 0, 2, 0];
    let bodies: [&[u8]; 5] = [&[1], &column, &end, &row, &end];
    let answer = bodies.iter().zip(1..).flat_map(|(body, at)| mysql_packet(at, body)).collect();
    [mysql_query(idx), answer]
}

fn pgsql_message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &be::<4>(body.len() + 4), body].concat()
}

fn pgsql(idx: usize, value: &[u8]) -> Messages {
    let asked = pgsql_message(b'Q', format!("SELECT a FROM t WHERE id = {idx}\0").as_bytes());
    let column =
        [&[0, 1][..], b"a\0", &[0; 6], &[0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]];
    let row = [&[0, 1][..], &be::<4>(value.len()), value].concat();
    let answer = [
        pgsql_message(b'T', &column.concat()),
        pgsql_message(b'D', &row),
        pgsql_message(b'C', b"SELECT 1\0"),
        pgsql_message(b'Z', b"I"),
    ];
    [asked, answer.concat()]
}

fn cql(idx: usize, value: &[u8]) -> Messages {
    let stream = be::<2>(idx % 30_000);
    let text = format!("SELECT a FROM t WHERE id = {idx}");
    let body = [&be::<4>(text.len())[..], text.as_bytes(), &[0, 1, 0]].concat();
    let asked = [&[4, 0][..], &stream, &[7], &be::<4>(body.len()), &body].concat();
    let rows = match value {
        [] => be::<4>(1).to_vec(),
        value => {
            let column = [&[0, 1][..], b"k", &[0, 1], b"t", &[0, 1], b"a", &[0, 13]].concat();
            [
                &be::<4>(2)[..],
                &be::<4>(1),
                &be::<4>(1),
                &column,
                &be::<4>(1),
                &be::<4>(value.len()),
                value,
            ]
            .concat()
        }
    };
    [asked, [&[0x84, 0][..], &stream, &[8], &be::<4>(rows.len()), &rows].concat()]
}

fn kafka_small(idx: usize) -> Messages {
    let text = |text: &[u8]| [&be::<2>(text.len())[..], text].concat();
    let body = [
        &be::<2>(12)[..],
        &be::<2>(0),
        &be::<4>(idx),
        &text(b"client-1"),
        &text(b"group-1"),
        &be::<4>(7),
        &text(b"member-1"),
    ]
    .concat();
    let answer = [be::<4>(idx).as_slice(), &[0, 0]].concat();
    [[&be::<4>(body.len())[..], &body].concat(), [&be::<4>(answer.len())[..], &answer].concat()]
}

fn nats(idx: usize, payload: &[u8]) -> Messages {
    let head = format!("PUB orders.{idx} {}\r\n", payload.len());
    [[head.as_bytes(), payload, b"\r\n"].concat(), Vec::new()]
}

fn amqp_frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 1][..], &be::<4>(body.len()), body, &[0xce]].concat()
}

fn amqp(idx: usize, payload: &[u8]) -> Messages {
    let key = format!("orders.{idx}");
    let method = [&[0, 60, 0, 40, 0, 0, 2][..], b"ex", &[key.len() as u8], key.as_bytes(), &[0]];
    let header = [&[0, 60, 0, 0][..], &be::<8>(payload.len()), &[0, 0]].concat();
    let mut asked = [amqp_frame(1, &method.concat()), amqp_frame(2, &header)].concat();
    payload.chunks(131_000).for_each(|piece| asked.extend(amqp_frame(3, piece)));
    [asked, Vec::new()]
}

fn bson(fields: &[u8]) -> Vec<u8> {
    [&le::<4>(fields.len() + 5)[..], fields, &[0]].concat()
}

fn mongodb_message(id: usize, answers: usize, fields: &[u8]) -> Vec<u8> {
    let body = [&[0; 5][..], &bson(fields)].concat();
    let head = [le::<4>(body.len() + 16), le(id), le(answers), le(2_013)].concat();
    [head, body].concat()
}

fn mongodb(idx: usize, value: &[u8]) -> Messages {
    let asked = b"\x02find\0\x02\0\0\0t\0\x02$db\0\x02\0\0\0d\0";
    let mut answer = b"\x01ok\0\0\0\0\0\0\0\xf0\x3f".to_vec();
    if !value.is_empty() {
        answer.extend(b"\x02v\0");
        answer.extend(le::<4>(value.len() + 1));
        answer.extend(value);
        answer.push(0);
    }
    [mongodb_message(2 * idx + 1, 0, asked), mongodb_message(2 * idx + 2, 2 * idx + 1, &answer)]
}

fn mux(idx: usize, body: &[u8]) -> Messages {
    let message = |kind: u8, body: &[u8]| {
        let tag = be::<3>(idx % 1_000 + 1);
        [&be::<4>(body.len() + 4)[..], &[kind], &tag, body].concat()
    };
    [
        message(2, &[&[0, 0, 0, 2][..], b"/s", &[0, 0], b"hello"].concat()),
        message(0xfe, &[&[0, 0, 0][..], body].concat()),
    ]
}

fn mqtt_packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut head, mut left) = (vec![first], body.len());
    loop {
        head.push((left % 128) as u8 | if left >= 128 { 128 } else { 0 });
        left /= 128;
        if left == 0 {
            break;
        }
    }
    [head, body.to_vec()].concat()
}

fn mqtt(idx: usize, payload: &[u8]) -> Messages {
    let topic = format!("sensors/{idx}");
    let body = [&be::<2>(topic.len())[..], topic.as_bytes(), payload].concat();
    [mqtt_packet(0x30, &body), Vec::new()]
}

fn tls_hello(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind][..], &be::<3>(body.len()), body].concat();
    [&[0x16, 3, 1][..], &be::<2>(message.len()), &message].concat()
}

fn tls_small(_: usize) -> Messages {
    let name = b"\0\0\0\x0e\0\x0c\0\0\x09a.example";
    let client = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &be::<2>(name.len()), name];
    let server = [&[3, 3][..], &[8; 32], &[0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]].concat();
    [tls_hello(1, &client.concat()), tls_hello(2, &server)]
}

fn dns_small(idx: usize) -> Messages {
    let name = b"\x01a\x07example\0\0\x01\0\x01";
    let id = be::<2>(idx);
    let asked = [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name].concat();
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x01\x02\x03\x04";
    [asked, [&id[..], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], name, record].concat()]
}

/// A protocol whose exchanges need nothing before them.
fn plain(
    name: &'static str,
    small: fn(usize) -> Messages,
    large: Option<fn(usize) -> Messages>,
) -> Spoken {
    Spoken { name, opening: Vec::new(), small, large, is_short: false }
}

fn spoken() -> Vec<Spoken> {
    let preface =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), http2_frame(4, 0, 0, &[])].concat();
    let startup = b"\0\0\0\x10\0\x03\0\0user\0u\0\0".to_vec();
    let ready = [pgsql_message(b'R', &[0; 4]), pgsql_message(b'Z', b"I")].concat();
    let connect = mqtt_packet(0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\x01c");
    vec![
        plain("http1", |idx| http1(idx, b"hello"), Some(|idx| http1(idx, &large_text()))),
        Spoken {
            opening: vec![[preface, http2_frame(4, 0, 0, &[])]],
            ..plain("http2", |idx| http2(idx, b""), Some(|idx| http2(idx, &large_text())))
        },
        plain("redis", |idx| redis(idx, b"hello"), Some(|idx| redis(idx, &large_text()))),
        plain("mysql", mysql_small, Some(mysql_large)),
        Spoken {
            opening: vec![[startup, ready]],
            ..plain("pgsql", |idx| pgsql(idx, b"hello"), Some(|idx| pgsql(idx, &large_text())))
        },
        plain("cql", |idx| cql(idx, b""), Some(|idx| cql(idx, &large_text()))),
        plain("kafka", kafka_small, None),
        plain("nats", |idx| nats(idx, b"hello"), Some(|idx| nats(idx, &large_text()))),
        plain("amqp", |idx| amqp(idx, b"hello"), Some(|idx| amqp(idx, &large_text()))),
        plain("mongodb", |idx| mongodb(idx, b""), Some(|idx| mongodb(idx, &large_text()))),
        plain("mux", |idx| mux(idx, b"hello"), Some(|idx| mux(idx, &large_text()))),
        Spoken {
            opening: vec![[connect, mqtt_packet(0x20, &[0, 0])]],
            ..plain("mqtt", |idx| mqtt(idx, b"hello"), Some(|idx| mqtt(idx, &large_text())))
        },
        Spoken { is_short: true, ..plain("tls", tls_small, None) },
        plain("dns", dns_small, None),
    ]
}

/// Writes rows as a tracer does.
struct Sink {
    builder: BatchBuilder,
    has_encrypted: bool,
    rows: u64,
}

impl Rows for Sink {
    fn row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder)) {
        self.rows += 1;
        let endpoints = Endpoints {
            time_unix_ns: of.time_unix_ns,
            upid: 1,
            remote_addr: "127.0.0.1",
            remote_port: 4_000,
            local_addr: "127.0.0.1",
            local_port: 80,
            trace_role: 2,
            encrypted: false,
        };
        match self.has_encrypted {
            true => endpoints.write(&mut self.builder),
            false => endpoints.write_without_encrypted(&mut self.builder),
        }
        write(&mut self.builder);
        self.builder.end_row();
        if self.rows.is_multiple_of(1_024) {
            self.builder.finish();
        }
    }
}

/// A protocol being read.
struct Reading {
    def: &'static ProtocolDef,
    parser: Box<dyn Parser>,
    shared: Box<dyn Shared>,
    streams: [StreamBuffer; 2],
    positions: [u64; 2],
    now_unix_ns: i64,
    config: Config,
    sink: Sink,
}

impl Reading {
    fn new(name: &str) -> Reading {
        let def = PROTOCOLS.iter().find(|def| def.name == name).expect("it is one of them");
        let parsing = def.parsing.as_ref().expect("it is read");
        let table = tables::find(def.tables[0]).expect("it is declared");
        let has_encrypted = table.has_encrypted();
        Reading {
            def,
            parser: (parsing.new)(&Opening { from_start: true }),
            shared: (parsing.shared)(),
            streams: [StreamBuffer::default(), StreamBuffer::default()],
            positions: [0; 2],
            now_unix_ns: 0,
            config: Config::default(),
            sink: Sink { builder: table.builder(), has_encrypted, rows: 0 },
        }
    }

    /// The same, with another connection.
    fn begin(&mut self) {
        let parsing = self.def.parsing.as_ref().expect("it is read");
        self.end();
        self.parser = (parsing.new)(&Opening { from_start: true });
        self.streams = [StreamBuffer::default(), StreamBuffer::default()];
        self.positions = [0; 2];
    }

    fn call(&mut self, side: usize, payload: &[u8]) {
        self.now_unix_ns += 1_000;
        let (now_unix_ns, total_bytes) = (self.now_unix_ns, payload.len() as u64);
        let (config, shared) = (&self.config, self.shared.as_mut());
        let mut ctx = Context { now_unix_ns, config, shared, rows: &mut self.sink };
        if self.def.has_datagrams {
            let way = if side == 0 { Way::In } else { Way::Out };
            let peer = Some(([127, 0, 0, 1], 4_000).into());
            let bytes = payload;
            let told = Datagram { way, peer, time_unix_ns: now_unix_ns, bytes, after_gap: false };
            self.parser.datagram(&told, &mut ctx);
            return;
        }
        let position = self.positions[side];
        self.positions[side] += total_bytes;
        let time_unix_ns = now_unix_ns;
        self.streams[side].push(Segment {
            position,
            total_bytes,
            time_unix_ns,
            payload,
            tail: &[],
        });
        let [requests, responses] = &mut self.streams;
        self.parser.advance(&mut Streams { requests, responses }, &mut ctx);
    }

    fn end(&mut self) {
        let (config, shared) = (&self.config, self.shared.as_mut());
        let now_unix_ns = self.now_unix_ns;
        let mut ctx = Context { now_unix_ns, config, shared, rows: &mut self.sink };
        let [requests, responses] = &mut self.streams;
        self.parser.close(&mut Streams { requests, responses }, &mut ctx);
    }

    fn exchange(&mut self, messages: &Messages) {
        for (side, bytes) in messages.iter().enumerate() {
            bytes.chunks(CALL_BYTES).for_each(|piece| self.call(side, piece));
        }
    }
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The best round's ns, and how many rows each exchange is, which is the same in all of them.
fn measure(spoken: &Spoken, exchanges: &[Messages]) -> (u64, f64) {
    let (mut best_ns, mut rows) = (u64::MAX, 0);
    for round in 0..=ROUNDS {
        let mut reading = Reading::new(spoken.name);
        spoken.opening.iter().for_each(|messages| reading.exchange(messages));
        let (before, begin_ns) = (reading.sink.rows, thread_cpu_ns());
        for messages in exchanges {
            if spoken.is_short {
                reading.begin();
            }
            reading.exchange(messages);
        }
        reading.end();
        let spent_ns = thread_cpu_ns() - begin_ns;
        rows = reading.sink.rows - before;
        if round > 0 {
            best_ns = best_ns.min(spent_ns);
        }
    }
    (best_ns, rows as f64 / exchanges.len() as f64)
}

fn main() {
    let names: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!("best of {ROUNDS} rounds, CPU time of one thread");
    println!("{:<10} {:>12} {:>14} {:>10}", "", "ns an", "messages", "large,");
    println!("{:<10} {:>12} {:>14} {:>10}", "protocol", "exchange", "a second", "GB/s");
    for spoken in
        spoken().iter().filter(|one| names.is_empty() || names.iter().any(|n| n == one.name))
    {
        let small: Vec<Messages> = (0..EXCHANGES).map(spoken.small).collect();
        let messages: usize = small.iter().flatten().filter(|message| !message.is_empty()).count();
        let (ns, rows) = measure(spoken, &small);
        assert!(rows > 0.99, "{}: {rows} rows an exchange", spoken.name);
        let large = spoken.large.map(|large| {
            let large: Vec<Messages> = (0..LARGE_ANSWERS).map(large).collect();
            let bytes: usize = large.iter().flatten().map(Vec::len).sum();
            let (ns, rows) = measure(spoken, &large);
            assert!(rows > 0.9, "{}: {rows} rows a large exchange", spoken.name);
            format!("{:.1}", bytes as f64 / ns as f64)
        });
        println!(
            "{:<10} {:>12} {:>14} {:>10}",
            spoken.name,
            ns / EXCHANGES as u64,
            messages as u64 * 1_000_000_000 / ns.max(1),
            large.unwrap_or_default()
        );
    }
}
