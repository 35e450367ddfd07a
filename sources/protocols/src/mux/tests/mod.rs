//! Messages as bytes in, rows as numbers out: of clients and servers, in fragments, with losses.

use weir_types::random::SplitMix;

use super::PROTOCOL;
use super::types::{GOES_ON, TINIT_CHECK, is_answer, kind::*};
use crate::protocol::Verdict;
use crate::testing::{
    Call, Row, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised,
    check_recovery, lines_of, verdict,
};
use crate::{REORDER_GRACE_NS, Side};

mod pairing;

/// A Thrift call of `ping`, and its reply.
const CALL: &[u8] = b"\x80\x01\0\x01\0\0\0\x04ping\0\0\0\0\0";
const REPLY: &[u8] = b"\x80\x01\0\x02\0\0\0\x04ping\0\0\0\0\0";

fn frame(kind: i8, tag: u32, body: &[u8]) -> Vec<u8> {
    let length = (4 + body.len()) as u32;
    let mut bytes = [&length.to_be_bytes()[..], &tag.to_be_bytes()].concat();
    bytes[4] = kind as u8;
    bytes.extend(body);
    bytes
}

fn short(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text].concat()
}

/// A body with a context, a path and an entry of names, as there are.
fn to(context: Option<&str>, path: &str, names: Option<&str>, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0, u8::from(context.is_some())];
    if let Some(name) = context {
        body.extend([short(name.as_bytes()), short(&[7; 32])].concat());
    }
    body.extend(short(path.as_bytes()));
    body.extend([0, u8::from(names.is_some())]);
    if let Some(name) = names {
        body.extend([short(b"/s"), short(name.as_bytes())].concat());
    }
    [&body, payload].concat()
}

const TRACE: Option<&str> = Some("com.twitter.finagle.tracing.TraceContext");

fn dispatch(tag: u32, payload: &[u8]) -> Vec<u8> {
    frame(TDISPATCH, tag, &to(TRACE, "/", None, payload))
}

fn dispatched(tag: u32, payload: &[u8]) -> Vec<u8> {
    frame(RDISPATCH, tag, &[&[0, 0, 0], payload].concat())
}

/// A message in frames of so many bytes of its body.
fn fragments(kind: i8, tag: u32, body: &[u8], bytes_max: usize) -> Vec<Vec<u8>> {
    let count = body.len().div_ceil(bytes_max);
    let parts = body.chunks(bytes_max).enumerate();
    let more = |idx: usize| if idx + 1 < count { GOES_ON } else { 0 };
    parts.map(|(idx, part)| frame(kind, tag | more(idx), part)).collect()
}

fn tinit(kind: i8) -> Vec<u8> {
    let long = |text: &[u8]| [&(text.len() as u32).to_be_bytes(), text].concat();
    let named = [long(b"mux-framer"), long(&[0x7f, 0xff, 0xff, 0xff])].concat();
    frame(kind, 1, &[&[0, 1][..], &named, &long(b"tls"), &long(b"off")].concat())
}

fn ask(bytes: Vec<u8>) -> Call {
    (Side::Request, bytes)
}

fn answer(bytes: Vec<u8>) -> Call {
    (Side::Response, bytes)
}

fn opening() -> Vec<Call> {
    let check = frame(OLD_RERR, 1, TINIT_CHECK);
    vec![ask(check.clone()), answer(check), ask(tinit(TINIT)), answer(tinit(RINIT))]
}

fn discard(kind: i8, tag: u32) -> Vec<u8> {
    frame(kind, 0, &[&tag.to_be_bytes()[1..], b"timed out"].concat())
}

/// Each kind of message, and what comes of it: types of both halves, and the tag.
fn session() -> (Vec<Call>, Vec<[i64; 3]>) {
    let mut calls = opening();
    let lease = frame(TLEASE, 0, &[0, 0, 0, 0, 0, 0, 0, 3, 232]);
    let [begun, ended] = [6, 7].map(|tag| {
        let body = to(TRACE, "/svc", Some("/host"), &[CALL, &[9; 50]].concat());
        fragments(TDISPATCH, tag, &body, 100)
    });
    let [slow, fast] =
        [6, 7].map(|tag| fragments(RDISPATCH, tag, &[&[0, 0, 0], REPLY, &[0; 40]].concat(), 25));
    let mixed = |one: &[Vec<u8>], two: &[Vec<u8>]| -> Vec<u8> {
        one.iter().zip(two).flat_map(|(one, two)| [one.clone(), two.clone()].concat()).collect()
    };
    calls.extend([
        ask(dispatch(2, CALL)),
        answer(dispatched(2, REPLY)),
        ask(frame(TPING, 1, b"")),
        answer(frame(RPING, 1, b"")),
        answer(frame(TPING, 2, b"")),
        ask([dispatch(2, CALL), frame(RPING, 2, b"")].concat()),
        answer([lease, dispatched(2, REPLY)].concat()),
        ask([dispatch(2, CALL), dispatch(3, CALL)].concat()),
        answer([frame(RERR, 3, b"no"), dispatched(2, REPLY)].concat()),
        ask([frame(TREQ, 4, &[0]), frame(TREQ, 5, &[&[1, 1, 24][..], &[5; 24], CALL].concat())]
            .concat()),
        answer([frame(RREQ, 5, &[&[0], REPLY].concat()), frame(RREQ, 4, &[2])].concat()),
        ask([dispatch(5, CALL), discard(OLD_TDISCARDED, 5)].concat()),
        answer(frame(RDISCARDED, 5, b"")),
        ask([dispatch(5, CALL), discard(TDISCARDED, 5)].concat()),
        answer(frame(OLD_RERR, 5, b"late")),
        ask(mixed(&begun, &ended)),
        answer(mixed(&fast, &slow)),
        answer(frame(TDRAIN, 3, b"")),
        ask(frame(RDRAIN, 3, b"")),
    ]);
    let rows = vec![
        [127, 127, 1],
        [68, -68, 1],
        [2, -2, 2],
        [65, -65, 1],
        [65, -65, 2],
        [67, 0, 0],
        [2, -2, 2],
        [2, -128, 3],
        [2, -2, 2],
        [1, -1, 5],
        [1, -1, 4],
        [-62, 0, 0],
        [2, -66, 5],
        [66, 0, 0],
        [2, 127, 5],
        [2, -2, 7],
        [2, -2, 6],
        [64, -64, 3],
    ];
    (calls, rows)
}

fn number(row: &Row, at: usize) -> i64 {
    row.cells[at].parse().unwrap()
}

/// Of a row, in the order of its columns.
fn numbers(row: &Row) -> [i64; 4] {
    [0, 1, 2, 3].map(|at| number(row, at))
}

/// Both types and the tag.
fn kinds(row: &Row) -> [i64; 3] {
    let [asked, _, answer, tag] = numbers(row);
    [asked, answer, tag]
}

/// Each kind of message is a row with the types of both halves and their tag, whoever asks. Catches columns in the
/// wrong places, fragments that are rows of their own, and errors that answer nothing.
#[test]
fn messages_are_rows() {
    let (calls, want) = session();
    let mut wire = Wire::new(&PROTOCOL);
    for (side, bytes) in &calls {
        wire.call(*side, bytes);
    }
    wire.close();
    let have: Vec<_> = wire.rows().iter().map(kinds).collect();
    assert_eq!(have, want);
    let counters = wire.counters();
    assert_eq!((counters.exchanges, counters.gap, counters.unanswered), (18, 0, 0));
    assert_eq!((counters.unasked, counters.resyncs), (0, 0));
}

/// What a client and a server of Finagle 22.7 have said to each other: they discard, and take the tag again at once.
#[test]
fn of_finagle() {
    let context = [
        b"\0\x02\0(com.twitter.finagle.tracing.TraceContext\0 ".to_vec(),
        b"bg\"\x97\x82\xac\xc3\x0b".repeat(3),
        vec![0; 8],
        b"\0\x1bcom.twitter.finagle.Retries\0\x04\0\0\0\0\0\0\0\0".to_vec(),
    ];
    let asked = |tag| frame(TDISPATCH, tag, &[&context.concat(), CALL].concat());
    assert_eq!(asked(2).len(), 142);
    let discard = frame(OLD_TDISCARDED, 0, b"\0\0\x02java.lang.RuntimeException: cancelled");
    let mut calls = opening();
    calls.extend([
        ask(frame(TPING, 1, b"")),
        answer(frame(RPING, 1, b"")),
        ask(asked(2)),
        ask(asked(3)),
        answer(dispatched(3, REPLY)),
        ask(discard),
        answer(frame(RDISCARDED, 2, b"")),
        ask(asked(2)),
        answer(dispatched(2, REPLY)),
        answer(frame(TDRAIN, 1, b"")),
        ask(frame(RDRAIN, 1, b"")),
    ]);
    let want = [
        "127 | 127 | 1",
        "68 | -68 | 1",
        "65 | -65 | 1",
        "2 | -2 | 3",
        "-62 | 0 | 0",
        "2 | -66 | 2",
        "2 | -2 | 2",
        "64 | -64 | 1",
    ];
    assert_eq!(lines_of(&PROTOCOL, &calls), want);
    assert_eq!(verdict(&PROTOCOL, &asked(2), false), Verdict::Is(Side::Request));
}

/// Time is that of the response's first byte, latency counts from the request's; of fragments the first ones are
/// these. A message that nothing answers has none.
#[test]
fn times() {
    let mut wire = Wire::new(&PROTOCOL);
    let body = to(TRACE, "/", None, CALL);
    let asked = fragments(TDISPATCH, 2, &body, 40);
    assert!(asked.len() > 2);
    for part in &asked {
        wire.ask(part);
    }
    let asked_ns = wire.now_ns - 1_000 * (asked.len() as i64 - 1);
    wire.wait(700_000);
    let answered = dispatched(2, REPLY);
    wire.answer(&answered[..9]);
    let answered_ns = wire.now_ns;
    wire.answer(&answered[9..]);
    wire.ask(&discard(TDISCARDED, 9));
    let discarded_ns = wire.now_ns;
    wire.answer(&frame(TPING, 1, b""));
    wire.ask(&frame(RPING, 1, b""));
    let rows = wire.close();
    assert_eq!(
        (rows[0].time_ns, numbers(&rows[0])),
        (answered_ns, [2, answered_ns - asked_ns, -2, 2])
    );
    assert_eq!((rows[1].time_ns, numbers(&rows[1])), (discarded_ns, [66, 0, 0, 0]));
    assert_eq!((rows[2].time_ns, numbers(&rows[2])), (discarded_ns + 2_000, [65, 1_000, -65, 1]));
    assert!(rows.iter().all(|row| !row.is_push && row.of.requests.is_none()));
}

/// An answer may be seen before its request, by a moment; so may a request with a tag before the answer that
/// freed it.
#[test]
fn events_overtake_each_other() {
    let mut wire = Wire::new(&PROTOCOL);
    let push = |wire: &mut Wire, side, time_unix_ns, bytes: &[u8]| {
        let (position, total_bytes) = (wire.lose(side, bytes.len() as u64), bytes.len() as u64);
        wire.now_ns = wire.now_ns.max(time_unix_ns);
        let segment = crate::stream::Segment {
            position,
            total_bytes,
            time_unix_ns,
            payload: bytes,
            tail: &[],
        };
        wire.push(side, segment);
    };
    push(&mut wire, Side::Response, 20_000, &dispatched(2, REPLY));
    push(&mut wire, Side::Request, 10_000, &dispatch(2, CALL));
    push(&mut wire, Side::Request, 30_000, &dispatch(2, CALL));
    push(&mut wire, Side::Request, 50_000, &dispatch(2, CALL));
    push(&mut wire, Side::Request, 70_000, &dispatch(2, CALL));
    for answered_ns in [45_000, 65_000, 85_000] {
        push(&mut wire, Side::Response, answered_ns, &dispatched(2, REPLY));
    }
    let rows: Vec<_> = wire.close().iter().map(|row| (row.time_ns, number(row, 1))).collect();
    assert_eq!(rows, [(20_000, 10_000), (45_000, 15_000), (65_000, 15_000), (85_000, 15_000)]);
}

/// A tag that is used while its answer is out is no client's that keeps to the protocol: nobody can say whose the
/// next answer is. All is counted, and what comes then is right.
#[test]
fn a_tag_that_was_not_free() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&dispatch(2, CALL));
    wire.ask(&dispatch(2, CALL));
    wire.answer(&dispatched(2, REPLY));
    wire.answer(&dispatched(2, REPLY));
    wire.settle();
    let counters = wire.counters();
    assert_eq!((counters.exchanges, counters.unanswered, counters.unasked), (0, 2, 2));
    wire.ask(&dispatch(2, CALL));
    wire.answer(&dispatched(2, REPLY));
    // Nothing that answers a ping.
    wire.ask(&frame(TPING, 3, b""));
    wire.answer(&dispatched(3, REPLY));
    assert_eq!(wire.close().len(), 1);
    let counters = wire.counters();
    assert_eq!((counters.unanswered, counters.unasked), (3, 3));
}

/// An answer that breaks off is still the row's; a call that is not sent to its end may be discarded, and its tag
/// is used again.
#[test]
fn what_breaks_off() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&dispatch(2, CALL));
    let parts = fragments(RDISPATCH, 2, &[&[0, 0, 0], REPLY].concat(), 10);
    wire.answer(&parts[0]);
    wire.answer(&frame(RERR, 2, b"broken"));
    wire.ask(&dispatch(2, CALL));
    wire.answer(&dispatched(2, REPLY));
    let asked = fragments(TDISPATCH, 3, &to(TRACE, "/", None, CALL), 20);
    wire.ask(&[asked[0].clone(), discard(OLD_TDISCARDED, 3)].concat());
    wire.answer(&frame(RDISCARDED, 3, b""));
    wire.ask(&dispatch(3, CALL));
    wire.answer(&dispatched(3, REPLY));
    let have: Vec<_> = wire.close().iter().map(kinds).collect();
    assert_eq!(have, [[2, -2, 2], [2, -2, 2], [-62, 0, 0], [2, -66, 3], [2, -2, 3]]);
    assert_eq!(wire.counters().unasked, 0);
}

/// However calls are split into pieces, the rows are the same.
#[test]
fn splits() {
    check_every_split(&PROTOCOL, &session().0);
}

/// Messages of which the kernel copied the beginning only cost nothing; nor do such as are longer than what is looked
/// at.
#[test]
fn large_messages() {
    let big = vec![b'x'; 300_000];
    for seen in [300_000, 30_720, 200, 90] {
        let mut wire = Wire::new(&PROTOCOL);
        wire.cut_call(Side::Request, &dispatch(2, &big), seen);
        wire.cut_call(Side::Response, &dispatched(2, &big), seen);
        wire.ask(&dispatch(2, CALL));
        wire.answer(&dispatched(2, REPLY));
        wire.settle();
        assert_eq!(wire.close().len(), 2, "{seen}");
        assert_eq!(wire.counters().gap, 0);
    }
}

/// Lengths and counts that are only claimed: nothing is read by them, and nothing is held.
#[test]
fn claims() {
    for body in [vec![0xff; 40], [&[0xff, 0xff][..], &short(b"name"), &[0xff, 0xff]].concat()] {
        for length in [4u32, 44, 70_000, 256 << 20, (256 << 20) + 1, u32::MAX] {
            for kind in [TREQ, TDISPATCH, TINIT, RDISPATCH, RINIT, RERR] {
                let mut bytes = frame(kind, 2, &body);
                bytes[..4].copy_from_slice(&length.to_be_bytes());
                for side in [Side::Request, Side::Response] {
                    let mut wire = Wire::new(&PROTOCOL);
                    for _ in 0..20 {
                        wire.call(side, &bytes);
                    }
                    wire.settle();
                    assert!(wire.close().is_empty() && wire.parser.held_bytes() < 10_000);
                }
            }
        }
    }
    // A message for each tag, none of which ends.
    let mut wire = Wire::new(&PROTOCOL);
    let body = to(TRACE, "/", None, CALL);
    for tag in 1..10_000 {
        wire.ask(&frame(TDISPATCH, tag | GOES_ON, &body));
    }
    wire.close();
    let counters = wire.counters();
    assert_eq!(counters.gap + counters.given_up + counters.unanswered, 9_999, "{counters:?}");
}

/// Whatever is lost, an answer is of a kind that answers; afterwards everything is read again.
#[test]
fn losses() {
    let (calls, _) = session();
    let is_right = |cells: &[String]| {
        let [asked, answer] = [0, 2].map(|at| cells[at].parse().unwrap());
        answer == 0 || is_answer(asked, answer)
    };
    for one_in in [4, 8, 20] {
        let right = check_random_gaps(&PROTOCOL, 300, one_in, |_| calls.clone(), is_right);
        assert!(right > 300 * 2, "{right} rows");
    }
    let certain: Vec<Call> = calls
        .into_iter()
        .filter(|(_, bytes)| !bytes.windows(4).any(|at| at == [1, 0, 0, 4]))
        .collect();
    let probe = [ask(dispatch(99, CALL)), answer(dispatched(99, REPLY))];
    check_recovery(&PROTOCOL, 200, &certain, &probe, 10_000_000_000);
}

#[test]
fn any_bytes() {
    check_any_bytes(&PROTOCOL, 600, &session().0);
}

/// A connection that was joined within a message: what follows is read, and what was asked before is counted. What is
/// not Mux is given up.
#[test]
fn joined_midway() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(b"\0\0the rest of a message");
    wire.answer(&dispatched(9, REPLY));
    for tag in 2..6 {
        wire.ask(&dispatch(tag, CALL));
        wire.answer(&dispatched(tag, REPLY));
    }
    wire.wait(REORDER_GRACE_NS);
    assert_eq!(wire.close().len(), 4);
    assert_eq!(wire.counters().gap, 1);
    let mut wire = Wire::new(&PROTOCOL);
    for _ in 0..70 {
        wire.ask(b"GET / HTTP/1.1\r\n\r\n");
    }
    assert!(wire.parser.is_wrong() && wire.close().is_empty());
}

/// What a message goes on with is text, and no beginning of another one: whose first frame was not seen has no row.
#[test]
fn text_is_no_beginning() {
    for text in [&b"  "[..], b"a", b"{\"key\": 1}, ", b"/s/a"] {
        let mut wire = Wire::begun(&PROTOCOL, false);
        wire.ask(&dispatch(2, CALL));
        wire.answer(&dispatched(2, REPLY));
        let body = to(TRACE, "/", None, &text.repeat(30_000));
        for frame in &fragments(TDISPATCH, 5, &body, 28_000)[1..] {
            wire.ask(frame);
        }
        wire.answer(&dispatched(5, REPLY));
        wire.close();
        let rows: Vec<_> = wire.rows().iter().map(numbers).map(|row| row[3]).collect();
        assert_eq!(rows, [2], "{}", text.escape_ascii());
    }
}

/// What waits goes for room, and is counted.
#[test]
fn room() {
    let mut wire = Wire::new(&PROTOCOL);
    for tag in 1..10_001 {
        wire.ask(&dispatch(tag, CALL));
    }
    assert_eq!(wire.counters().given_up, 10_000 - 8_192);
    wire.give_up();
    assert_eq!(wire.counters().given_up, 10_000);
    assert!(wire.close().is_empty());
}

/// By its handshake, or by a dispatch with what Finagle puts into it; behind pings as well.
#[test]
fn recognised() {
    let check = frame(OLD_RERR, 1, TINIT_CHECK);
    let ping = frame(TPING, 1, b"");
    let behind = |first: &[u8], bytes: Vec<u8>| [first, &bytes].concat();
    let own = [
        ask(tinit(TINIT)),
        ask(frame(TINIT, 1, &[0, 1])),
        ask(behind(&check, tinit(TINIT))),
        ask(dispatch(2, CALL)),
        ask(dispatch(2, &[b'x'; 9_000])[..3_000].to_vec()),
        ask(frame(TDISPATCH, 2, &to(None, "/s/a", None, b"any"))),
        ask(frame(TDISPATCH, 2, &to(None, "", None, CALL))),
        ask(fragments(TDISPATCH, 2, &to(TRACE, "/", None, CALL), 80)[0].clone()),
        ask(behind(&ping, dispatch(2, CALL))),
        ask(behind(&discard(OLD_TDISCARDED, 5), dispatch(2, CALL))),
        ask(frame(TREQ, 2, &[&[1, 1, 24][..], &[5; 24], CALL].concat())),
        answer(tinit(RINIT)),
        answer(behind(&check, tinit(RINIT))),
        answer(dispatched(2, REPLY)),
        answer(behind(&frame(RPING, 1, b""), dispatched(2, REPLY))),
        answer(frame(
            RDISPATCH,
            2,
            &[&[1, 0, 1][..], &short(b"a.b"), &short(b"c"), b"no"].concat(),
        )),
    ];
    let own: Vec<_> = own.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect();
    check_recognised(&PROTOCOL, &own);
    for (side, bytes) in own {
        assert_eq!(verdict(&PROTOCOL, bytes, false), Verdict::Is(side));
        // Its beginnings are not taken for the other side's, nor for none of it.
        for at in 1..bytes.len() {
            let begun = verdict(&PROTOCOL, &bytes[..at], true);
            assert!(
                matches!(begun, Verdict::Unsure) || begun == Verdict::Is(side),
                "{at}: {begun:?}"
            );
        }
    }
    // Either side says these.
    for bytes in [check.clone(), ping.clone(), frame(RPING, 1, b""), behind(&ping, check)] {
        assert_eq!(verdict(&PROTOCOL, &bytes, true), Verdict::Unsure);
    }
}

/// What begins with a length and small numbers is not taken: Thrift's frames, of any kind, above all.
#[test]
fn others() {
    let framed = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let mut others = vec![
        framed(CALL),
        framed(REPLY),
        [framed(CALL), framed(CALL)].concat(),
        framed(b"\0\0\0\x04ping\x01\0\0\0\x01\0"),
        framed(b"\x82\x21\x01\x04ping\0"),
        framed(b"\x01\0\0\x01\0\0\0\0\0\0"),
        framed(b"\x02\0\0\x01\0\0\0\0\0\0"),
        framed(b"\x02\0\0\x01\0\0\0\0\0\0hello"),
        framed(b"\xfe\0\0\x01\0\0\0hello"),
        framed(b"\x80\0\0\x01tinit check!"),
        framed(b"\x44\0\0\x01\0\x02"),
        framed(b"\x44\0\0\x00\0\x01"),
        framed(b"\x44\0\0\x01\0\x01\0\0\0\x01"),
        framed(b"\x43\0\0\0\0\0\0\0\0\0\0\0\x01"),
        framed(&[1; 40]),
        framed(&[2; 40]),
        vec![0; 64],
    ];
    let mut random = SplitMix(5);
    for _ in 0..200_000 {
        // A length that fits, a type that exists, a small tag, small counts, and noise.
        let count = 12 + random.below(60) as usize;
        let mut body: Vec<u8> = (0..count).map(|_| random.next_u64() as u8).collect();
        body[0] = [1, 2, 64, 65, 68, 0xff, 0xfe, 0xbc, 0x80, 0x7f][random.below(10) as usize];
        body[1..3].fill(0);
        body[4] = 0;
        body[5] %= 3;
        others.push(framed(&body));
    }
    for other in others {
        for opened in [true, false] {
            let taken = verdict(&PROTOCOL, &other, opened);
            assert!(!matches!(taken, Verdict::Is(_)), "{}", other.escape_ascii());
        }
    }
    // A parser that gets Thrift all the same makes nothing of it, and says so.
    let mut wire = Wire::new(&PROTOCOL);
    for _ in 0..20 {
        wire.ask(&framed(CALL));
        wire.answer(&framed(REPLY));
    }
    assert!(wire.close().is_empty());
    assert!(lines_of(&PROTOCOL, &[ask(framed(CALL))]).is_empty());
}
