//! Finagle's ThriftMux, server and client. What the client does not tell, tags and what it says for its own ends,
//! is read off the wire by frames, here once more and in another way.

use std::collections::{HashMap, HashSet};
use std::net::TcpStream;

use weir_sources::capture::Direction;

use super::*;

const OPERATIONS: u32 = 1_000;
const TDISPATCH: i8 = 2;
const TINIT: i8 = 68;
const TPING: i8 = 65;
/// As it is sent to this day.
const TDISCARDED: i8 = -62;
const RDISPATCH: i8 = -2;
const RDISCARDED: i8 = -66;
const RERR: i8 = 127;
const REFUSED: u8 = 2;
const GOES_ON: u32 = 1 << 23;

fn java(args: &[String]) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(cache("finagle/lib").join("*"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/real/Mux.java")).args(args);
    command
}

/// What a client says of a call.
struct Called {
    kind: String,
    name: String,
    begin_ns: i64,
    end_ns: i64,
    is_answered: bool,
    /// No other was under way.
    is_alone: bool,
}

fn client(port: u16, seed: u32) -> Vec<Called> {
    let numbers = [u32::from(port), seed, OPERATIONS].map(|number| number.to_string());
    let output = java(&[&["ask".to_string()][..], &numbers].concat()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let read = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [kind, name, begin, end, what, beside] = cells[..] else { panic!("{line}") };
        let [begin_ns, end_ns] = [begin, end].map(|text| text.parse().unwrap());
        let [kind, name] = [kind, name].map(str::to_string);
        let (is_answered, is_alone) = (what == "answered", beside == "alone");
        Called { kind, name, begin_ns, end_ns, is_answered, is_alone }
    };
    String::from_utf8(output.stdout).unwrap().lines().map(read).collect()
}

/// A message, put together from its fragments.
#[derive(Debug)]
struct Message {
    client_port: u16,
    direction: Direction,
    time_ns: i64,
    kind: i8,
    tag: u32,
    body: Vec<u8>,
}

impl Message {
    /// The call's, if it has that.
    fn name(&self) -> &str {
        let at = self.body.windows(5).position(|part| part == b"call-");
        let name = &self.body[at.unwrap_or(self.body.len())..];
        let end = name.iter().position(|byte| *byte == b';').map_or(0, |at| at + 1);
        std::str::from_utf8(&name[..end]).unwrap()
    }
}

/// All messages, by their beginnings.
fn messages(wire: &Wire) -> Vec<Message> {
    let mut rest: HashMap<(u16, bool), (Vec<u8>, i64)> = HashMap::new();
    let mut begun: HashMap<(u16, bool, i8, u32), usize> = HashMap::new();
    let mut messages: Vec<Message> = Vec::new();
    for (client_port, direction, at_ns, bytes) in wire.pieces() {
        let is_asked = direction == Direction::Ingress;
        let (stream, began_ns) = rest.entry((client_port, is_asked)).or_default();
        if stream.is_empty() {
            *began_ns = at_ns;
        }
        stream.extend_from_slice(bytes);
        while let Some(length) = stream.first_chunk() {
            let end = 4 + u32::from_be_bytes(*length) as usize;
            if stream.len() < end {
                break;
            }
            let word = u32::from_be_bytes(*stream[4..].first_chunk().unwrap());
            let (kind, tag) = ((word >> 24) as u8 as i8, word & 0xff_ffff);
            let (goes_on, tag) = (tag & GOES_ON != 0, tag & !GOES_ON);
            let key = (client_port, is_asked, kind, tag);
            let at = begun.remove(&key).unwrap_or_else(|| {
                let (time_ns, body) = (*began_ns, Vec::new());
                messages.push(Message { client_port, direction, time_ns, kind, tag, body });
                messages.len() - 1
            });
            messages[at].body.extend_from_slice(&stream[8..end]);
            if goes_on {
                begun.insert(key, at);
            }
            stream.drain(..end);
            *began_ns = at_ns;
        }
    }
    assert!(begun.is_empty() && rest.values().all(|(stream, _)| stream.is_empty()));
    messages
}

/// What was asked, and what answers it.
type Pair<'a> = (&'a Message, Option<&'a Message>);

/// What there has to be in a row: whose it is, when it began and ended, its types and tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Exchange {
    client_port: u16,
    begin_ns: i64,
    end_ns: i64,
    kinds: [i64; 2],
    tag: u32,
}

/// What was asked, and what answers it: the next message of that tag which goes the other way.
fn pairs(messages: &[Message]) -> Vec<Pair<'_>> {
    let mut waiting: HashMap<(u16, u32), usize> = HashMap::new();
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for message in messages {
        let key = (message.client_port, message.tag);
        let is_by_client = message.direction == Direction::Ingress;
        match message.kind {
            TDISCARDED => pairs.push((message, None)),
            TDISPATCH | TINIT | TPING => {
                assert!(waiting.insert(key, pairs.len()).is_none(), "{message:?}");
                pairs.push((message, None));
            }
            RERR if is_by_client => {
                waiting.insert(key, pairs.len());
                pairs.push((message, None));
            }
            _ => pairs[waiting.remove(&key).expect("it was asked")].1 = Some(message),
        }
    }
    assert!(waiting.is_empty());
    pairs
}

fn exchange((asked, answer): &Pair<'_>) -> Exchange {
    Exchange {
        client_port: asked.client_port,
        begin_ns: asked.time_ns,
        end_ns: answer.map_or(asked.time_ns, |answer| answer.time_ns),
        kinds: [i64::from(asked.kind), answer.map_or(0, |answer| i64::from(answer.kind))],
        tag: asked.tag,
    }
}

fn seen(wire: &Wire, faults: &Faults) -> Vec<Exchange> {
    let rows = Rows::of("mux_events", &wire.rows(faults));
    let exchange = |row| {
        let end_ns = rows.int(row, "time_");
        Exchange {
            client_port: u16::try_from(rows.int(row, "remote_port")).unwrap(),
            begin_ns: end_ns - rows.int(row, "latency"),
            end_ns,
            kinds: ["req_type", "resp_type"].map(|column| rows.int(row, column)),
            tag: u32::try_from(rows.int(row, "tag")).unwrap(),
        }
    };
    (0..rows.len()).map(exchange).collect()
}

/// A thousand calls from each of two clients, many under way at once: those that are answered in another order, fail,
/// are refused, come in fragments, are not wanted any more; and pings. Every row is as the client and the wire know it,
/// and there is no other. With losses and joined midway none is another's.
#[test]
fn finagle_and_its_client() {
    if is_missing("finagle", &["lib"]) {
        return;
    }
    let port = free_port();
    let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let server =
        Server::start(&mut java(&["serve".to_string(), port.to_string()]), "-TERM", is_ready);
    let relay = Relay::by_calls_of(WHOLE_BYTES, port);
    let logs = [1, 2].map(|seed| client(relay.port, seed));
    drop(server);
    let wire = relay.finish();
    let messages = messages(&wire);
    let pairs = pairs(&messages);
    let apart_ns = check_logs(&logs, &pairs);
    let has = |kind| pairs.iter().filter(|(asked, _)| asked.kind == kind).count();
    assert!([TINIT, TPING, TDISCARDED, RERR].iter().all(|kind| has(*kind) > 0));
    let mut want: Vec<Exchange> = pairs.iter().map(exchange).collect();
    let mut found = seen(&wire, &Faults::default());
    want.sort_unstable();
    found.sort_unstable();
    let [missing, others] = [(&want, &found), (&found, &want)].map(|(these, those)| {
        let those: HashSet<&Exchange> = those.iter().collect();
        these.iter().filter(|one| !those.contains(one)).collect::<Vec<_>>()
    });
    assert!(missing.is_empty() && others.is_empty(), "missing {missing:?}, not there {others:?}");
    assert_eq!(found.len(), want.len());
    check_apart(apart_ns);
    check_with_losses(&wire, &want);
}

/// Each call is on the wire, with its own answer, between the client's times. How far latencies are apart.
fn check_logs(logs: &[Vec<Called>], pairs: &[Pair<'_>]) -> Vec<i64> {
    let mut apart_ns = Vec::new();
    let mut dispatches: HashMap<&str, Vec<Pair<'_>>> = HashMap::new();
    for pair in pairs.iter().filter(|(asked, _)| asked.kind == TDISPATCH) {
        dispatches.entry(pair.0.name()).or_default().push(*pair);
    }
    let mut called = 0;
    for call in logs.iter().flatten() {
        let [(asked, Some(answer))] =
            dispatches.get(call.name.as_str()).map_or(&[][..], Vec::as_slice)
        else {
            assert_eq!(call.kind, "forget", "{} is not there once, with an answer", call.name);
            continue;
        };
        called += 1;
        let is_right = match call.kind.as_str() {
            "refuse" => answer.kind == RDISPATCH && answer.body[0] == REFUSED && !call.is_answered,
            "forget" => answer.kind == RDISCARDED && !call.is_answered,
            _ => answer.kind == RDISPATCH && answer.name() == call.name && call.is_answered,
        };
        assert!(is_right, "{} {} has {answer:?}", call.kind, call.name);
        assert!(call.begin_ns <= asked.time_ns, "{}", call.name);
        if call.kind != "forget" {
            assert!(answer.time_ns <= call.end_ns, "{}", call.name);
        }
        // Where many are under way the client's own times are those of its queues.
        if call.is_alone && !["forget", "large"].contains(&call.kind.as_str()) {
            let latencies = [call.end_ns - call.begin_ns, answer.time_ns - asked.time_ns];
            apart_ns.push((latencies[0] - latencies[1]).abs());
        }
    }
    assert_eq!(called, dispatches.len(), "dispatches of nobody");
    assert!(called > 2 * OPERATIONS as usize * 9 / 10, "{called}");
    apart_ns
}

/// Whatever is lost of what went over the wire, no row is another's.
fn check_with_losses(wire: &Wire, want: &[Exchange]) {
    let all: HashSet<Exchange> = want.iter().copied().collect();
    let mut rows = 0;
    for faults in losses(wire, 20) {
        for row in seen(wire, &faults) {
            assert!(all.contains(&row), "{faults:?}: {row:?} is not so on the wire");
            rows += 1;
        }
    }
    assert!(rows > 20 * want.len() / 4, "{rows} of 20 times {}", want.len());
}
