//! A message that is larger than what is copied of a call: in every protocol it costs itself at the most, whether
//! what is missing of it is known to belong to the call or was never seen at all. Only of an answer by PostgreSQL or
//! MySQL the latter costs more: what follows is shown as soon as it is certain again.
//!
//! Each protocol says a conversation of its own ([`Sample`]); one that has none fails the test.

use crate::Side;
use crate::testing::{Call, Wire};
use crate::{PROTOCOLS, ProtocolDef};

/// What the large messages carry.
const LARGE_BYTES: usize = 60_000;

/// What is missing of a large call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// It has such a size; its first bytes are there.
    Told,
    /// Its first part is there; whether another call followed nobody has seen.
    Unseen,
}

/// An exchange by its number, with a word and text in it: its halves.
type Exchange = fn(u32, &str, &[u8]) -> [Vec<u8>; 2];
/// One of which a half is large; the other may be none.
type Large = fn(u32, &[u8]) -> [Vec<u8>; 2];

/// What a protocol's client and server say.
struct Sample {
    opening: Vec<Call>,
    exchange: Exchange,
    large: Large,
    /// With a large answer, if there are any.
    answers: Option<Large>,
}

fn of(
    opening: Vec<Call>,
    exchange: Exchange,
    large: Large,
    answers: Option<Large>,
) -> Option<Sample> {
    Some(Sample { opening, exchange, large, answers })
}

fn be32(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

fn http1(path: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let (asks, answers) = (asked.len(), answer.len());
    let head = format!("POST /{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {asks}\r\n\r\n");
    let answer_head = format!("HTTP/1.1 200 OK\r\nContent-Length: {answers}\r\n\r\n");
    [[head.as_bytes(), asked].concat(), [answer_head.as_bytes(), answer].concat()]
}

fn http2(id: u32, path: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let id = 2 * id + 1;
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = be32(payload.len() as u32);
        [&length[1..], &[kind, flags], &be32(id), payload].concat()
    };
    let literal = |name: &str, value: &str| {
        let (names, values) = (name.len() as u8, value.len() as u8);
        [&[0, names][..], name.as_bytes(), &[values], value.as_bytes()].concat()
    };
    let path = format!("/{path}");
    let head = [literal(":method", "POST"), literal(":path", &path), literal(":scheme", "http")];
    let data = |bytes: &[u8]| {
        let frames: Vec<&[u8]> = bytes.chunks(16_384).collect();
        let last = frames.len().saturating_sub(1);
        let one = |(idx, bytes): (usize, &&[u8])| frame(0, u8::from(idx == last), bytes);
        frames.iter().enumerate().flat_map(one).collect::<Vec<u8>>()
    };
    [
        [frame(1, 4, &head.concat()), data(asked)].concat(),
        [frame(1, 4, &literal(":status", "200")), data(answer)].concat(),
    ]
}

fn bson(members: &[(&str, &[u8])]) -> Vec<u8> {
    let text = |name: &str, value: &[u8]| {
        let length = (value.len() as u32 + 1).to_le_bytes();
        [&[2][..], name.as_bytes(), &[0], &length[..], value, &[0]].concat()
    };
    let members: Vec<u8> = members.iter().flat_map(|(name, value)| text(name, value)).collect();
    [&(members.len() as u32 + 5).to_le_bytes()[..], &members, &[0]].concat()
}

fn mongodb(id: u32, name: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let message = |id: u32, to: u32, document: Vec<u8>| {
        let length = 21 + document.len() as u32;
        let head = [length, id, to, 2_013, 0].map(u32::to_le_bytes).concat();
        [head, vec![0], document].concat()
    };
    let asks = bson(&[("distinct", name.as_bytes()), ("$db", b"d"), ("x", asked)]);
    [message(id, 0, asks), message(id + 5_000, id, bson(&[("x", answer)]))]
}

fn redis(name: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let string = |text: &[u8]| [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
    let asked = [b"*3\r\n".to_vec(), string(b"GETSET"), string(name.as_bytes()), string(asked)];
    [asked.concat(), string(answer)]
}

fn pgsql(name: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let message =
        |tag: u8, payload: &[u8]| [&[tag][..], &be32(payload.len() as u32 + 4), payload].concat();
    let sql = [&b"SELECT '"[..], name.as_bytes(), b"', '", asked, b"'\0"].concat();
    let column = [&b"c\0"[..], &[0; 6], &be32(25), &[0xff, 0xff], &[0xff; 4], &[0, 0]].concat();
    let row = [&[0, 1][..], &be32(answer.len() as u32), answer].concat();
    let columns = [&[0, 1][..], &column].concat();
    let answer = [
        message(b'T', &columns),
        message(b'D', &row),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ];
    [message(b'Q', &sql), answer.concat()]
}

fn pgsql_opening() -> Vec<Call> {
    let startup = [&be32(16)[..], &be32(196_608), b"user\0u\0\0"].concat();
    let ready = [&b"R"[..], &be32(8), &be32(0), b"Z", &be32(5), b"I"].concat();
    vec![(Side::Request, startup[..].to_vec()), (Side::Response, ready)]
}

fn mysql(name: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let packet = |number: u8, payload: &[u8]| {
        [&(payload.len() as u32).to_le_bytes()[..3], &[number], payload].concat()
    };
    let sql = [&b"\x03SELECT '"[..], name.as_bytes(), b"', '", asked, b"'"].concat();
    let column = b"\x03def\0\0\0\x01c\0\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0";
    let length = (answer.len() as u32).to_le_bytes();
    let answer = [
        packet(1, &[1]),
        packet(2, column),
        packet(3, &[0xfe, 0, 0, 2, 0]),
        packet(4, &[&[0xfd][..], &length[..3], answer].concat()),
        packet(5, &[0xfe, 0, 0, 2, 0]),
    ];
    [packet(0, &sql), answer.concat()]
}

fn amqp(method: [u16; 2], arguments: &[u8], body: &[u8]) -> Vec<u8> {
    let frame = |kind: u8, payload: &[u8]| {
        [&[kind, 0, 1][..], &be32(payload.len() as u32), payload, &[0xce]].concat()
    };
    let numbers = method.map(u16::to_be_bytes).concat();
    let head = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), &[0, 0]].concat();
    [frame(1, &[&numbers[..], arguments].concat()), frame(2, &head), frame(3, body)].concat()
}

fn mqtt(name: &str, id: u32, asked: &[u8]) -> [Vec<u8>; 2] {
    let id = (id as u16).to_be_bytes();
    let payload = [&short(name.as_bytes())[..], &id, asked].concat();
    let mut length = payload.len();
    let mut head = vec![0x32];
    while length > 127 {
        head.push(length as u8 | 0x80);
        length >>= 7;
    }
    head.push(length as u8);
    [[head, payload].concat(), [&[0x40, 2][..], &id].concat()]
}

fn kafka(id: u32, name: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let framed = |bytes: Vec<u8>| [&be32(bytes.len() as u32)[..], &bytes].concat();
    let records = |bytes: &[u8]| [&be32(bytes.len() as u32)[..], bytes].concat();
    let topic =
        |rest: Vec<u8>| [&be32(1)[..], &short(name.as_bytes()), &be32(1), &be32(0), &rest].concat();
    // Produce, version 3; Fetch, version 4.
    if answer.is_empty() {
        let head =
            [&[0, 0, 0, 3][..], &be32(id), &short(b"c"), &[0xff, 0xff, 0, 1], &be32(9)].concat();
        let answer = topic([&[0, 0][..], &[0; 16]].concat());
        let asked = [head, topic(records(asked))].concat();
        return [framed(asked), framed([&be32(id)[..], &answer, &be32(0)].concat())];
    }
    let head =
        [&[0, 1, 0, 4][..], &be32(id), &short(b"c"), &[0xff; 4], &be32(9), &be32(1)].concat();
    let head = [head, be32(1 << 20).to_vec(), vec![0]].concat();
    let asked = [head, topic([&[0; 8][..], &be32(1 << 20)].concat())].concat();
    let part = [&[0; 18][..], &[0xff; 4], &records(answer)].concat();
    [framed(asked), framed([&be32(id)[..], &be32(0), &topic(part)].concat())]
}

fn cql(id: u32, name: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let frame = |version: u8, opcode: u8, body: &[u8]| {
        let stream = (id as u16).to_be_bytes();
        [&[version, 0][..], &stream, &[opcode], &be32(body.len() as u32), body].concat()
    };
    let text = [&b"SELECT '"[..], name.as_bytes(), b"', '", asked, b"'"].concat();
    let query = [&be32(text.len() as u32)[..], &text, &[0, 1, 0]].concat();
    let rows = [2, 4, 1, 1, answer.len() as u32].map(be32).concat();
    [frame(4, 7, &query), frame(0x84, 8, &[&rows, answer].concat())]
}

fn cql_opening() -> Vec<Call> {
    let options = [&[0, 1][..], &short(b"CQL_VERSION"), &short(b"3.0.0")].concat();
    let startup = [&[4, 0, 0, 0, 1][..], &be32(options.len() as u32), &options].concat();
    let ready = vec![0x84, 0, 0, 0, 2, 0, 0, 0, 0];
    vec![(Side::Request, startup), (Side::Response, ready)]
}

fn mux(id: u32, name: &str, asked: &[u8], answer: &[u8]) -> [Vec<u8>; 2] {
    let frame = |kind: u8, body: &[u8]| {
        let tag = be32(id);
        [&be32(body.len() as u32 + 4)[..], &[kind], &tag[1..], body].concat()
    };
    let asked = [&[0, 0][..], &short(name.as_bytes()), &[0, 0], asked].concat();
    [frame(2, &asked), frame(0xfe, &[&[0, 0, 0][..], answer].concat())]
}

fn nats(verb: &str, name: &str, middle: &str, payload: &[u8]) -> Vec<u8> {
    let line = format!("{verb} {name} {middle}{}\r\n", payload.len());
    [line.as_bytes(), payload, b"\r\n"].concat()
}

/// What is said in a protocol; `None`: it has no exchanges that follow each other on a connection.
fn sample(name: &str) -> Option<Sample> {
    let (ask, answer) = (Side::Request, Side::Response);
    match name {
        "http1" => of(
            vec![],
            |_, name, small| http1(name, small, small),
            |_, large| http1("large", large, b"ok"),
            Some(|_, large| http1("large", b"ok", large)),
        ),
        "http2" => of(
            vec![
                (ask, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
                (answer, b"\0\0\0\x04\0\0\0\0\0".to_vec()),
            ],
            |id, name, small| http2(id, name, small, small),
            |id, large| http2(id, "large", large, b"ok"),
            Some(|id, large| http2(id, "large", b"ok", large)),
        ),
        "mongodb" => of(
            vec![],
            |id, name, small| mongodb(id, name, small, small),
            |id, large| mongodb(id, "large", large, b"ok"),
            Some(|id, large| mongodb(id, "large", b"ok", large)),
        ),
        "nats" => of(
            vec![(answer, b"INFO {}\r\n".to_vec()), (ask, b"CONNECT {}\r\n".to_vec())],
            |_, name, small| [nats("PUB", name, "", small), nats("MSG", name, "1 ", small)],
            |_, large| [nats("PUB", "large", "", large), vec![]],
            Some(|_, large| [vec![], nats("MSG", "large", "1 ", large)]),
        ),
        "redis" => of(
            vec![],
            |_, name, small| redis(name, small, small),
            |_, large| redis("large", large, b"ok"),
            Some(|_, large| redis("large", b"ok", large)),
        ),
        // One handshake; and datagrams.
        "tls" | "dns" => None,
        name => binary_sample(name),
    }
}

/// The same, of protocols whose messages have their length in front.
fn binary_sample(name: &str) -> Option<Sample> {
    let (ask, answer) = (Side::Request, Side::Response);
    match name {
        "pgsql" => of(
            pgsql_opening(),
            |_, name, small| pgsql(name, small, small),
            |_, large| pgsql("large", large, b"ok"),
            Some(|_, large| pgsql("large", b"ok", large)),
        ),
        "mysql" => of(
            vec![],
            |_, name, small| mysql(name, small, small),
            |_, large| mysql("large", large, b"ok"),
            Some(|_, large| mysql("large", b"ok", large)),
        ),
        "amqp" => of(
            vec![],
            |_, name, small| {
                let route = [&[1, b'x', name.len() as u8], name.as_bytes()].concat();
                let deliver = [&[1, b't'][..], &[0; 9], &route].concat();
                let publish = [&[0, 0][..], &route, &[0]].concat();
                [amqp([60, 40], &publish, small), amqp([60, 60], &deliver, small)]
            },
            |_, large| [amqp([60, 40], &[0, 0, 1, b'x', 1, b'k', 0], large), vec![]],
            Some(|_, large| {
                let deliver = [&[1, b't'][..], &[0; 9], &[1, b'x', 1, b'k']].concat();
                [vec![], amqp([60, 60], &deliver, large)]
            }),
        ),
        "mqtt" => of(
            vec![
                (ask, b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c".to_vec()),
                (answer, vec![0x20, 2, 0, 0]),
            ],
            |id, name, small| mqtt(name, id, small),
            |id, large| mqtt("large", id, large),
            None,
        ),
        "kafka" => of(
            vec![],
            |id, name, small| kafka(id, name, small, b""),
            |id, large| kafka(id, "large", large, b""),
            Some(|id, large| kafka(id, "large", b"", large)),
        ),
        "cql" => of(
            cql_opening(),
            |id, name, small| cql(id, name, small, small),
            |id, large| cql(id, "large", large, b"ok"),
            Some(|id, large| cql(id, "large", b"ok", large)),
        ),
        "mux" => of(
            vec![],
            |id, name, small| mux(id, name, small, small),
            |id, large| mux(id, "large", large, b"ok"),
            Some(|id, large| mux(id, "large", b"ok", large)),
        ),
        name => panic!("{name} has no sample"),
    }
}

fn say(wire: &mut Wire, [asked, answer]: [Vec<u8>; 2]) {
    for (side, bytes) in [(Side::Request, asked), (Side::Response, answer)] {
        if !bytes.is_empty() {
            wire.call(side, &bytes);
        }
    }
}

/// A call of which `seen` bytes are there.
fn say_cut(wire: &mut Wire, side: Side, bytes: &[u8], seen: usize, cut: Cut) {
    match cut {
        _ if bytes.is_empty() => {}
        Cut::Told => wire.cut_call(side, bytes, seen),
        Cut::Unseen => {
            wire.call(side, &bytes[..seen]);
            wire.lose(side, (bytes.len() - seen) as u64);
        }
    }
}

/// Which of the exchanges around a large one, of which a half is cut, have rows.
fn shown(def: &'static ProtocolDef, sample: &Sample, side: Side, cut: Cut) -> [usize; 5] {
    let mut wire = Wire::new(def);
    let large = vec![b'v'; LARGE_BYTES];
    for (side, bytes) in &sample.opening {
        wire.call(*side, bytes);
    }
    say(&mut wire, (sample.exchange)(1, "k1", b"small"));
    let [asked, answer] = match (side, sample.answers) {
        (Side::Response, Some(answers)) => answers(2, &large),
        _ => (sample.large)(2, &large),
    };
    for (half, bytes) in [(Side::Request, &asked), (Side::Response, &answer)] {
        match half == side {
            true => say_cut(&mut wire, half, bytes, 20_000, cut),
            false if bytes.is_empty() => {}
            false => wire.call(half, bytes),
        }
    }
    for id in 3..7 {
        say(&mut wire, (sample.exchange)(id, &format!("k{id}"), b"small"));
        wire.settle();
    }
    wire.close();
    let lines = wire.lines();
    // Rows of Mux have its tags only.
    let is_of = |line: &str, id: u32| match def.name {
        "mux" => line.ends_with(&format!("| {id}")),
        _ => line.contains(&format!("k{id}")),
    };
    [1, 3, 4, 5, 6].map(|id| lines.iter().filter(|line| is_of(line, id)).count())
}

/// Whatever is missing of a large message, those around it have all their rows.
#[test]
fn a_cut_call_costs_its_message() {
    let mut wrong = Vec::new();
    for def in PROTOCOLS.iter().filter(|def| def.parsing.is_some()) {
        let Some(sample) = sample(def.name) else { continue };
        let sides = [Some(Side::Request), sample.answers.map(|_| Side::Response)];
        for side in sides.into_iter().flatten() {
            for cut in [Cut::Told, Cut::Unseen] {
                let rows = shown(def, &sample, side, cut);
                let is_uncertain = matches!(def.name, "pgsql" | "mysql")
                    && (side, cut) == (Side::Response, Cut::Unseen);
                let is_any_lost = rows.iter().any(|count| *count != rows[0]) && !is_uncertain;
                if rows[0] == 0 || is_any_lost || rows.iter().any(|count| *count > rows[0]) {
                    wrong.push((def.name, side, cut, rows));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "rows of k1, k3, k4, k5, k6: {wrong:#?}");
}
