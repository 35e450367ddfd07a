//! Connections as frames, against the rows that they have to give.

use super::PROTOCOL;
use super::types::PREFACE;
use crate::Side::{self, Request, Response};
use crate::protocol::Verdict;
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, lines_of, verdict,
};
use weir_types::random::SplitMix;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 127);
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// A field that goes into the table.
fn kept(name: &str, value: &str) -> Vec<u8> {
    [&[0x40][..], &text(name), &text(value)].concat()
}

/// A field that does not.
fn plain(name: &str, value: &str) -> Vec<u8> {
    [&[0x00][..], &text(name), &text(value)].concat()
}

const SETTINGS: [u8; 6] = [0, 3, 0, 0, 0, 100];
const GET: u8 = 0x82;
const HTTP: u8 = 0x86;
const OK: u8 = 0x88;
/// The newest field of the table, and the ones before.
const NEWEST: u8 = 0xbe;

fn start() -> Vec<u8> {
    [PREFACE.to_vec(), frame(4, 0, 0, &SETTINGS)].concat()
}

fn started() -> Vec<u8> {
    [frame(4, 0, 0, &SETTINGS), frame(4, 1, 0, &[])].concat()
}

fn request(stream: u32, path: &str) -> Vec<u8> {
    let block = [&[GET, HTTP][..], &plain(":path", path), &plain(":authority", "a.example")];
    frame(1, 5, stream, &block.concat())
}

fn response(stream: u32, body: &str) -> Vec<u8> {
    let block = [&[OK][..], &plain("content-type", "text/plain")].concat();
    [frame(1, 4, stream, &block), frame(0, 1, stream, body.as_bytes())].concat()
}

fn cells(path: &str, body: &str) -> String {
    let asked = format!(
        r#"{{":method":"GET",":scheme":"http",":path":"{path}",":authority":"a.example"}}"#
    );
    let answered = r#"{":status":"200","content-type":"text/plain"}"#;
    let size = body.len();
    format!("2 | 0 | 0 | {asked} | GET | {path} |  | 0 | {answered} | 200 |  | {body} | {size}")
}

/// Exchanges on several streams at once, answered in another order, with control frames between: a row
/// each, when it has ended; its times are those of the first bytes of both heads.
#[test]
fn exchanges() {
    let control = [frame(6, 0, 0, &[7; 8]), frame(8, 0, 0, &[0, 0, 1, 0]), frame(2, 0, 1, &[0; 5])];
    let calls = [
        (Request, [start(), request(1, "/one")].concat()),
        (Response, started()),
        (Request, [control.concat(), request(3, "/two"), frame(0x0b, 0, 0, b"unknown")].concat()),
        (Response, [response(3, "second"), control.concat()].concat()),
        (Response, response(1, "first")),
    ];
    assert_eq!(lines_of(&PROTOCOL, &calls), [cells("/two", "second"), cells("/one", "first")]);
    check_every_split(&PROTOCOL, &calls);
    let mut wire = Wire::new(&PROTOCOL);
    for (side, bytes) in &calls {
        wire.call(*side, bytes);
    }
    let row = &wire.rows()[1];
    assert_eq!((row.time_ns, row.cells.last().map(String::as_str)), (6_000, Some("4000")));
    assert!(!wire.parser.is_waiting());
}

/// Bodies on both sides in several padded frames, trailers, an interim response, repeated fields, secrets.
#[test]
fn bodies_trailers_and_padding() {
    let asked = [
        &[0x83, HTTP][..],
        &plain(":path", "/up?token=abc"),
        &plain("content-type", "application/json"),
        &plain("authorization", "Bearer abc"),
        &plain("accept", "a"),
        &plain("accept", "b"),
    ];
    // Padding, and priority in front.
    let block = [&[3][..], &[0, 0, 0, 0, 16], &asked.concat(), &[0; 3]].concat();
    let data = [&[5][..], br#"{"a":1}"#, &[0; 5]].concat();
    let answered = [
        &[OK][..],
        &plain("content-type", "text/plain"),
        &plain("set-cookie", "a=1"),
        &plain("set-cookie", "b=2"),
    ];
    let calls = [
        (Request, [start(), frame(1, 4 | 8 | 0x20, 1, &block)].concat()),
        (Response, [started(), frame(1, 4, 1, &plain(":status", "103"))].concat()),
        (Request, frame(0, 1 | 8, 1, &data)),
        (Response, frame(1, 4, 1, &answered.concat())),
        (Response, [frame(0, 8, 1, b"\x02one\0\0"), frame(0, 0, 1, b" two")].concat()),
        (Response, frame(1, 5, 1, &plain("checksum", "77"))),
    ];
    let lines = lines_of(&PROTOCOL, &calls);
    let headers = r#"{":method":"POST",":scheme":"http",":path":"/up?token=<REDACTED>","content-type":"application/json","authorization":"<REDACTED>","accept":"a, b"}"#;
    let answered = r#"{":status":"200","content-type":"text/plain","set-cookie":"<REDACTED>","checksum":"77"}"#;
    let expected = format!(
        r#"2 | 0 | 0 | {headers} | POST | /up?token=<REDACTED> | {{"a":1}} | 7 | {answered} | 200 |  | one two | 7"#
    );
    assert_eq!(lines, [expected]);
    check_every_split(&PROTOCOL, &calls);
}

/// gRPC: its type, its status in trailers, or in the only block of its answer; bodies are no text.
#[test]
fn grpc() {
    let asked = [
        &[0x83, HTTP][..],
        &plain(":path", "/pkg.Svc/Do"),
        &plain("content-type", "application/grpc+proto"),
        &plain("te", "trailers"),
    ];
    let call = |stream| {
        [frame(1, 4, stream, &asked.concat()), frame(0, 1, stream, b"\0\0\0\0\x03abc")].concat()
    };
    let head = [&[OK][..], &plain("content-type", "application/grpc")].concat();
    let trailers = [plain("grpc-status", "0"), plain("grpc-message", "")].concat();
    let only = [&head[..], &plain("grpc-status", "5")].concat();
    let calls = [
        (Request, [start(), call(1), call(3)].concat()),
        (Response, [started(), frame(1, 5, 3, &only), frame(1, 4, 1, &head)].concat()),
        (Response, [frame(0, 0, 1, b"\0\0\0\0\x01x"), frame(1, 5, 1, &trailers)].concat()),
    ];
    let lines = lines_of(&PROTOCOL, &calls);
    assert_eq!(lines.len(), 2);
    for (line, answered) in lines.iter().zip([
        r#"{":status":"200","content-type":"application/grpc","grpc-status":"5"} | 200 |  |  | 0"#,
        r#"{":status":"200","content-type":"application/grpc","grpc-status":"0","grpc-message":""} | 200 |  | <removed: non-text content-type> | 6"#,
    ]) {
        assert!(line.starts_with("2 | 0 | 2 | "), "{line}");
        assert!(line.contains("POST | /pkg.Svc/Do | <removed: non-text content-type> | 8 | "), "{line}");
        assert!(line.ends_with(answered), "{line}");
    }
}

/// Header blocks in parts; a frame between the parts is an error, and the block is none.
#[test]
fn continuations() {
    let block = [&[GET, HTTP][..], &plain(":path", "/long")].concat();
    let parts =
        [frame(1, 1, 1, &block[..1]), frame(9, 0, 1, &block[1..4]), frame(9, 4, 1, &block[4..])];
    let calls = [(Request, [start(), parts.concat()].concat()), (Response, response(1, "x"))];
    let lines = lines_of(&PROTOCOL, &calls);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains(r#"":path":"/long""#), "{lines:?}");
    check_every_split(&PROTOCOL, &calls);
    let broken =
        [start(), parts[0].clone(), frame(6, 0, 0, &[0; 8]), parts[1].clone(), parts[2].clone()];
    let calls =
        [(Request, [broken.concat(), request(3, "/next")].concat()), (Response, response(3, "x"))];
    assert_eq!(lines_of(&PROTOCOL, &calls), [cells("/next", "x")]);
}

/// A flood of parts without an end, and of fields from the table: bounded, and others go on.
#[test]
fn header_floods() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&[start(), frame(1, 1, 1, &[GET, HTTP])].concat());
    for _ in 0..2_000 {
        wire.ask(&frame(9, 0, 1, &[b'x'; 8_000]));
    }
    wire.ask(&frame(9, 4, 1, &[]));
    wire.ask(&request(3, "/next"));
    wire.answer(&[started(), response(3, "x")].concat());
    // One long field, named again and again.
    let long =
        [&[GET, HTTP, 0x84, 0x40][..], &text("a"), &[0x7f, 0x81, 0x17], &[b'v'; 3_072]].concat();
    let bomb = [&long[..], &[NEWEST; 30_000]].concat();
    wire.ask(&[frame(1, 4, 5, &bomb[..16_000]), frame(0, 1, 5, b"")].concat());
    wire.answer(&response(5, "y"));
    wire.close();
    assert_eq!(wire.rows().len(), 2);
    let headers: usize = wire.rows().iter().map(|row| row.cells[3].len()).max().unwrap();
    assert!((3_000..200_000).contains(&headers), "{headers}");
}

/// Streams that are opened and reset at once by the ten thousand: no rows, counted, bounded; and streams
/// that are opened and left.
#[test]
fn rapid_resets() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&start());
    for stream in 0..20_000 {
        wire.ask(
            &[request(2 * stream + 1, "/"), frame(3, 0, 2 * stream + 1, &[0, 0, 0, 8])].concat(),
        );
    }
    assert_eq!((wire.rows().len(), wire.counters().unanswered), (0, 20_000));
    // An answer that was on its way is nobody's loss.
    wire.answer(&[started(), response(1, "late")].concat());
    for stream in 20_000..30_000 {
        wire.ask(&request(2 * stream + 1, "/"));
    }
    assert!(wire.counters().given_up >= 10_000 - 4_096);
    wire.close();
    let counters = wire.counters();
    assert_eq!((counters.exchanges, counters.gap, counters.unasked), (0, 0, 0));
    assert_eq!(counters.given_up + counters.unanswered, 30_000);
}

/// A reset after the head of the answer is a row with what came; before it, it is none.
#[test]
fn resets() {
    let head = [&[OK][..], &plain("content-type", "text/plain")].concat();
    let calls = [
        (Request, [start(), request(1, "/cut"), request(3, "/refused")].concat()),
        (Response, [started(), frame(3, 0, 3, &[0, 0, 0, 7])].concat()),
        (Response, [frame(1, 4, 1, &head), frame(0, 0, 1, b"begin")].concat()),
        (Request, frame(3, 0, 1, &[0, 0, 0, 8])),
    ];
    let lines = lines_of(&PROTOCOL, &calls);
    let shown = cells("/cut", "begin... [TRUNCATED]");
    assert_eq!(lines, [format!("{}5", shown.strip_suffix("20").unwrap())]);
}

/// An answer that ends before its request waits for the rest of it, a moment.
#[test]
fn early_answers() {
    let block = [&[0x83, HTTP][..], &plain(":path", "/up"), &plain("content-type", "text/plain")];
    let head = frame(1, 4, 1, &block.concat());
    for is_ended in [true, false] {
        let mut wire = Wire::new(&PROTOCOL);
        wire.ask(&[start(), head.clone(), frame(0, 0, 1, b"part")].concat());
        wire.answer(&[started(), response(1, "no")].concat());
        assert!(wire.rows().is_empty() && wire.parser.is_waiting());
        if is_ended {
            wire.ask(&frame(0, 1, 1, b"rest"));
        } else {
            wire.wait(1_100_000_000);
        }
        assert_eq!(wire.rows().len(), 1, "{is_ended}");
        assert_eq!(wire.rows()[0].cells[7], if is_ended { "8" } else { "4" });
        wire.close();
    }
}

/// What a server makes up: a request of its own with its answer.
#[test]
fn pushes() {
    let promised = [&[0, 0, 0, 2, GET, HTTP][..], &plain(":path", "/style")].concat();
    let calls = [
        (Request, [start(), request(1, "/page")].concat()),
        (Response, [started(), frame(5, 4, 1, &promised), response(1, "page")].concat()),
        (Response, response(2, "style")),
    ];
    let lines = lines_of(&PROTOCOL, &calls);
    assert_eq!((lines.len(), &lines[0]), (2, &cells("/page", "page")));
    assert!(lines[1].contains("GET | /style |"), "{lines:?}");
}

/// Joined midway: fields that were sent before are unknown and said to be, until they are sent again;
/// values of unknown names are hidden.
#[test]
fn joined_midway() {
    let table = [kept("x-first", "1"), kept("authorization", "secret"), kept(":path", "/old")];
    let first = [&[GET, HTTP][..], &table.concat()].concat();
    let mut calls = vec![
        (Request, [start(), frame(1, 5, 1, &first)].concat()),
        (
            Response,
            [started(), frame(1, 5, 1, &[&[OK][..], &kept("x-kind", "a")].concat())].concat(),
        ),
    ];
    // Everything from the table; the last one has its name from there.
    let again = [&[GET, HTTP, NEWEST, NEWEST + 2, 0x0f, 0x30][..], &text("abc")].concat();
    calls.push((Request, frame(1, 5, 3, &again)));
    calls.push((Response, frame(1, 5, 3, &[OK, NEWEST])));
    calls.push((Request, frame(1, 5, 5, &[&[GET, HTTP][..], &kept(":path", "/new")].concat())));
    calls.push((Response, frame(1, 5, 5, &[OK, NEWEST])));
    calls.push((Request, frame(1, 5, 7, &[GET, HTTP, NEWEST])));
    calls.push((Response, frame(1, 5, 7, &[OK])));
    let whole = lines_of(&PROTOCOL, &calls);
    assert!(
        whole[1].contains(r#"":path":"/old","x-first":"1","authorization":"<REDACTED>""#),
        "{whole:?}"
    );
    let mut wire = Wire::begun(&PROTOCOL, false);
    for (side, bytes) in &calls[2..] {
        wire.call(*side, bytes);
    }
    wire.settle();
    wire.close();
    let joined = wire.lines();
    let unknown =
        r#"{":method":"GET",":scheme":"http","<unknown>":"<unknown>, <unknown>, <REDACTED>"}"#;
    let answered = r#"{":status":"200","<unknown>":"<unknown>"}"#;
    assert_eq!(
        joined[0],
        format!("2 | 0 | 0 | {unknown} | GET | <unknown> |  | 0 | {answered} | 200 |  |  | 0")
    );
    assert!(joined[1].contains("GET | /new |"), "{joined:?}");
    assert_eq!(joined[2], whole[3]);
}

/// gRPC whose type is not known is known by its own fields.
#[test]
fn grpc_when_joined() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(&frame(1, 5, 7, &[&[0x83, HTTP, NEWEST][..], &plain("grpc-timeout", "1S")].concat()));
    wire.answer(
        &[frame(1, 4, 7, &[OK, NEWEST]), frame(1, 5, 7, &plain("grpc-status", "0"))].concat(),
    );
    wire.settle();
    wire.close();
    assert!(wire.lines()[0].starts_with("2 | 0 | 2 | "), "{:?}", wire.lines());
}

/// The preface is seen after all: nothing before it matters. The first frame may be right behind it.
#[test]
fn preface_when_joined() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.answer(&started());
    wire.ask(&[start(), request(1, "/a")].concat());
    let table = [&[OK][..], &kept("x", "1")].concat();
    wire.answer(&frame(1, 5, 1, &table));
    wire.ask(&request(3, "/b"));
    wire.answer(&frame(1, 5, 3, &[OK, NEWEST]));
    wire.settle();
    wire.close();
    assert_eq!(wire.rows().len(), 2);
    assert!(wire.lines()[1].contains(r#"":status":"200","x":"1""#), "{:?}", wire.lines());
}

/// A hole in data costs only bytes of its body; one in a head costs its exchange, and what it may have put
/// into the table is unknown from then on; a lost end is waited for a while.
#[test]
fn gaps() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&[start(), request(1, "/a"), request(3, "/b"), request(5, "/c")].concat());
    let table = [&[OK][..], &plain("content-type", "text/plain"), &kept("x", "1")].concat();
    wire.answer(&[started(), frame(1, 4, 1, &table)].concat());
    let data = frame(0, 1, 1, &[b'd'; 400]);
    wire.cut_call(Response, &data, 100);
    // The head of the second one is cut.
    let cut = frame(1, 5, 3, &[&[OK][..], &kept("y", "2"), &kept("z", "3")].concat());
    wire.cut_call(Response, &cut, 14);
    wire.answer(&frame(1, 5, 5, &[OK, NEWEST + 2]));
    wire.settle();
    wire.close();
    let lines = wire.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("... [TRUNCATED] | 400"), "{}", lines[0]);
    assert!(lines[1].contains(r#"{":status":"200","<unknown>":"<unknown>"}"#), "{}", lines[1]);
    assert_eq!(wire.counters().gap, 1);
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&[start(), request(1, "/a")].concat());
    wire.answer(&[started(), frame(1, 4, 1, &[OK])].concat());
    wire.lose(Response, 300);
    wire.answer(&frame(6, 0, 0, &[0; 8]));
    wire.settle();
    assert!(wire.rows().is_empty() && wire.parser.is_waiting());
    wire.wait(11_000_000_000);
    assert_eq!((wire.rows().len(), wire.counters().gap), (1, 1));
    wire.close();
}

/// Known by the preface, by a server's settings, by any frame with a head; never by what yamux, Kafka, TLS,
/// PostgreSQL or zeros look like.
#[test]
fn recognised() {
    assert_eq!(verdict(&PROTOCOL, &start(), true), Verdict::Is(Request));
    assert_eq!(verdict(&PROTOCOL, &started(), true), Verdict::Is(Response));
    assert_eq!(verdict(&PROTOCOL, b"PRI * HT", true), Verdict::Unsure);
    let dynamic = frame(1, 4, 7, &[0x83, HTTP, NEWEST, NEWEST + 1]);
    assert_eq!(verdict(&PROTOCOL, &dynamic, false), Verdict::Is(Request));
    assert_eq!(verdict(&PROTOCOL, &frame(1, 4, 7, &[OK, NEWEST]), false), Verdict::Is(Response));
    assert_eq!(verdict(&PROTOCOL, &response(9, "x"), false), Verdict::Is(Response));
    let yamux = |kind: u8, flags: u16, stream: u32, length: u32, payload: &[u8]| {
        [
            &[0, kind][..],
            &flags.to_be_bytes(),
            &stream.to_be_bytes(),
            &length.to_be_bytes(),
            payload,
        ]
        .concat()
    };
    for other in [
        yamux(1, 1, 1, 0, &[]),
        yamux(0, 1, 1, 5, b"hello"),
        yamux(2, 1, 0, 1, &[]),
        [yamux(1, 1, 1, 256 * 1024, &[]), yamux(0, 0, 1, 3, b"abc")].concat(),
        [&[0, 0, 0, 9, 0, 0, 0, 1][..], &[0; 5]].concat(),
        b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0; 40],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PRI * HTTP/1.1\r\n".to_vec(),
    ] {
        for opened in [true, false] {
            let found = verdict(&PROTOCOL, &other, opened);
            assert!(!matches!(found, Verdict::Is(_)), "{other:?}: {found:?}");
        }
    }
}

fn conversation(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = vec![(Request, start()), (Response, started())];
    let mut open: Vec<u32> = Vec::new();
    for number in 0..12_u32 {
        let stream = 2 * number + 1;
        let path = format!("/n{stream}");
        let block = [&[GET, HTTP][..], &kept(":path", &path), &plain("x-number", &path)].concat();
        calls.push((Request, frame(1, 5, stream, &block)));
        open.push(stream);
        while !open.is_empty() && (open.len() > 3 || random.next_u64().is_multiple_of(2)) {
            let stream = open.remove(random.below(open.len() as u64) as usize);
            let number = kept("x-number", &format!("/n{stream}"));
            let head = [&[OK][..], &plain("content-type", "text/plain"), &number].concat();
            calls.push((Response, frame(1, 4, stream, &head)));
            calls.push((Response, frame(0, 1, stream, format!("body /n{stream}").as_bytes())));
        }
    }
    calls
}

/// Random losses: no row has the answer of another, and what is shown is what was sent, or unknown.
#[test]
fn random_gaps() {
    let right = check_random_gaps(&PROTOCOL, 3_000, 12, conversation, |cells| {
        let (asked, path, answered, body) = (&cells[3], &cells[5], &cells[8], &cells[11]);
        let number = asked.split(r#""x-number":""#).nth(1).and_then(|rest| rest.split('"').next());
        let Some(number) = number else { return false };
        (path == number || path == "<unknown>")
            && (answered.contains(&format!(r#""{number}""#))
                || answered.contains("<unknown>")
                || !answered.contains("x-number"))
            && (body.is_empty()
                || format!("body {number}").starts_with(body.trim_end_matches("... [TRUNCATED]")))
    });
    assert!(right > 10_000, "{right}");
}

/// No panic on any bytes, and no more memory than there may be.
#[test]
fn any_bytes() {
    check_any_bytes(&PROTOCOL, 3_000, &conversation(&mut SplitMix(1)));
}

/// Most pairs come of either side's first bytes alone: sides are told apart.
#[test]
fn sides() {
    for (bytes, side) in [(request(1, "/"), Side::Request), (response(1, "x"), Side::Response)] {
        assert_eq!(verdict(&PROTOCOL, &bytes, false), Verdict::Is(side));
    }
}
