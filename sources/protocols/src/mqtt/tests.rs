//! Conversations as bytes in, rows as text out.

use weir_types::random::SplitMix;

use super::PROTOCOL;
use super::types::*;
use crate::protocol::{Beginning, Verdict};
use crate::redact::{Mode, Redactor};
use crate::testing::{
    Call, Row, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised,
    check_recovery, verdict,
};
use crate::trials::{Exchange, Faults, everybody, number, sum, trial};
use crate::{Counters, REORDER_GRACE_NS, Side};

fn packet(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind << 4 | flags];
    let mut left = body.len();
    loop {
        let more = left > 127;
        bytes.push((left & 127) as u8 | u8::from(more) << 7);
        left >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn connect(level: u8) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[5, 0x11, 0, 0, 0, 9] } else { &[] };
    let head = [string("MQTT"), vec![level, 0xc2, 0, 60], properties.to_vec()];
    packet(CONNECT, 0, &[head.concat(), string("me"), string("user"), string("secret")].concat())
}

fn connack(level: u8, code: u8) -> Vec<u8> {
    packet(CONNACK, 0, &[&[0, code], none(level)].concat())
}

/// No properties where the level has them.
fn none(level: u8) -> &'static [u8] {
    if level == 5 { &[0] } else { &[] }
}

fn publish(level: u8, qos: u8, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id = if qos > 0 { &id[..] } else { &[] };
    packet(PUBLISH, qos << 1, &[&string(topic), id, none(level), payload].concat())
}

fn ack(kind: u8, id: u16) -> Vec<u8> {
    packet(kind, if kind == PUBREL { 2 } else { 0 }, &id.to_be_bytes())
}

fn subscribe(level: u8, id: u16, topics: &[(&str, u8)]) -> Vec<u8> {
    let topics = topics.iter().flat_map(|(topic, qos)| [string(topic), vec![*qos]].concat());
    let body = [&id.to_be_bytes(), none(level), &topics.collect::<Vec<u8>>()].concat();
    packet(SUBSCRIBE, 2, &body)
}

fn suback(level: u8, id: u16, codes: &[u8]) -> Vec<u8> {
    packet(SUBACK, 0, &[&id.to_be_bytes(), none(level), codes].concat())
}

/// A whole session: each side's calls.
fn session(level: u8) -> Vec<Call> {
    use Side::{Request, Response};
    vec![
        (Request, connect(level)),
        (Response, connack(level, 0)),
        (Request, subscribe(level, 1, &[("a/#", 1), ("b/+", 2)])),
        (Response, suback(level, 1, &[1, 2])),
        (Request, publish(level, 0, 0, "a/x", b"zero")),
        (Request, publish(level, 1, 2, "a/y", b"one")),
        (Response, [publish(level, 1, 2, "a/y", b"one"), ack(PUBACK, 2)].concat()),
        (Request, ack(PUBACK, 2)),
        (Request, publish(level, 2, 3, "b/z", b"\xfftwo")),
        (Response, ack(PUBREC, 3)),
        (Request, ack(PUBREL, 3)),
        (Response, ack(PUBCOMP, 3)),
        (Request, packet(PINGREQ, 0, &[])),
        (Response, packet(PINGRESP, 0, &[])),
        (Request, packet(DISCONNECT, 0, &[])),
    ]
}

fn play(wire: &mut Wire, calls: &[Call]) -> Vec<String> {
    calls.iter().for_each(|(side, bytes)| wire.call(*side, bytes));
    wire.settle();
    wire.close();
    wire.lines()
}

/// Every packet of a session with its answer, by versions 3.1.1 and 5: both ends publish with the same
/// packet id, and each is answered by the other.
#[test]
fn sessions() {
    for level in [4, 5] {
        let code = if level == 5 { r#","reason_code":0"# } else { "" };
        let want = [
            r#"1 | {"client_id":"me"} | 2 | {"reason_code":0}"#.to_string(),
            r#"8 | {"topics":["a/#","b/+"],"qos":[1,2],"packet_id":1} | 9 | {"packet_id":1,"reason_codes":[1,2]}"#
                .to_string(),
            r#"3 | {"topic":"a/x","qos":0,"dup":false,"retain":false,"payload":"zero"} | 0 | "#.to_string(),
            format!(r#"3 | {{"topic":"a/y","qos":1,"dup":false,"retain":false,"packet_id":2,"payload":"one"}} | 4 | {{"packet_id":2{code}}}"#),
            format!(r#"3 | {{"topic":"a/y","qos":1,"dup":false,"retain":false,"packet_id":2,"payload":"one"}} | 4 | {{"packet_id":2{code}}}"#),
            format!("3 | {{\"topic\":\"b/z\",\"qos\":2,\"dup\":false,\"retain\":false,\"packet_id\":3,\"payload\":\"\u{fffd}two\"}} | 5 | {{\"packet_id\":3{code}}}"),
            format!(r#"6 | {{"packet_id":3}} | 7 | {{"packet_id":3{code}}}"#),
            "12 | {} | 13 | {}".to_string(),
            "14 | {} | 0 | ".to_string(),
        ];
        let mut wire = Wire::new(&PROTOCOL);
        assert_eq!(play(&mut wire, &session(level)), want);
        assert_eq!(wire.counters(), Counters { exchanges: 9, ..Counters::default() });
        let latencies: Vec<&str> = wire.rows().iter().map(|row| row.cells[4].as_str()).collect();
        assert_eq!(latencies, ["1000", "1000", "0", "1000", "1000", "1000", "1000", "1000", "0"]);
        check_every_split(&PROTOCOL, &session(level));
    }
}

/// Properties of version 5 are stepped over, and codes of failure shown; a session that is joined in the
/// middle is read by what is there.
#[test]
fn version_5_and_joined_sessions() {
    let properties: &[u8] = &[7, 0x26, 0, 1, b'k', 0, 1, b'v'];
    let body = [&string("t")[..], &[0, 9], properties, b"{\"n\":1}"].concat();
    let asked = [publish(5, 1, 8, "t", b"x"), packet(PUBLISH, 0b1011, &body)].concat();
    let answers = [ack(PUBACK, 8), packet(PUBACK, 0, &[0, 9, 0x97, 0])].concat();
    let want = r#"3 | {"topic":"t","qos":1,"dup":true,"retain":true,"packet_id":9,"payload":"{\"n\":1}"} | 4 | {"packet_id":9,"reason_code":151}"#;
    for from_start in [true, false] {
        let mut wire = Wire::begun(&PROTOCOL, from_start);
        if from_start {
            wire.ask(&connect(5));
            wire.answer(&connack(5, 0));
        } else {
            wire.ask(b"the rest of a payload");
            wire.answer(&publish(5, 0, 0, "before", b""));
        }
        wire.ask(&asked);
        wire.answer(&answers);
        wire.settle();
        assert_eq!(wire.lines().last().unwrap(), want, "{from_start}");
    }
}

/// A connection that is joined between a request and the answer to one that nobody saw: what is asked before
/// the first packet of the other side is no pair.
#[test]
fn joined_between() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(&publish(4, 1, 7, "t", b"first"));
    wire.answer(&ack(PUBACK, 7));
    wire.ask(&publish(4, 1, 7, "t", b"second"));
    wire.answer(&ack(PUBACK, 7));
    wire.settle();
    let rows = wire.close();
    assert!(rows.len() == 1 && rows[0].cells[1].contains("second"), "{rows:?}");
    assert_eq!(wire.counters().gap, 1);
}

/// A CONNECT is a connection's first packet, whenever that was joined: nothing behind it is in doubt. One behind
/// what the other side said is no beginning. Catches a first row and pings that count as lost.
#[test]
fn joined_at_the_beginning() {
    let [ping, pong] = [PINGREQ, PINGRESP].map(|kind| packet(kind, 0, &[]));
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(&connect(4));
    wire.answer(&connack(4, 0));
    wire.ask(&ping);
    wire.answer(&pong);
    wire.close();
    assert_eq!(
        wire.rows().iter().map(|row| row.cells[0].as_str()).collect::<Vec<_>>(),
        ["1", "12"]
    );
    assert_eq!(wire.counters(), Counters { exchanges: 2, ..Counters::default() });
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.answer(&[suback(4, 1, &[0]), connack(4, 0)].concat());
    wire.ask(&connect(4));
    wire.settle();
    wire.close();
    assert!(wire.rows().is_empty(), "{:?}", wire.rows());
}

/// What is answered in turn: enhanced authentication while connecting, when the server asks, and later, when
/// the client does; a number stands for a topic; a server says why it leaves.
#[test]
fn authentication_and_numbered_topics() {
    use Side::{Request, Response};
    let auth = |code: u8| packet(AUTH, 0, &[code, 0]);
    let numbered = |topic: &str, payload: &[u8]| {
        packet(PUBLISH, 0, &[&string(topic), &[3, 0x23, 0, 5][..], payload].concat())
    };
    let unsubscribe =
        packet(UNSUBSCRIBE, 2, &[&[0, 4, 0][..], &string("a/#"), &string("b")].concat());
    let calls = vec![
        (Request, connect(5)),
        (Response, auth(0x18)),
        (Request, auth(0x18)),
        (Response, connack(5, 0)),
        (Request, auth(0x19)),
        (Response, auth(0)),
        (Request, numbered("long/topic", b"1")),
        (Request, numbered("", b"2")),
        (Response, numbered("", b"3")),
        (Request, unsubscribe),
        (Response, packet(UNSUBACK, 0, &[0, 4, 0, 0, 0x11])),
        (Response, packet(DISCONNECT, 0, &[0x8e, 0])),
    ];
    let message = |topic: &str, payload: u8| {
        format!(
            r#"3 | {{"topic":"{topic}","qos":0,"dup":false,"retain":false,"payload":"{payload}"}} | 0 | "#
        )
    };
    let want = [
        r#"15 | {"reason_code":24} | 15 | {"reason_code":24}"#.to_string(),
        r#"1 | {"client_id":"me"} | 2 | {"reason_code":0}"#.to_string(),
        r#"15 | {"reason_code":25} | 15 | {"reason_code":0}"#.to_string(),
        message("long/topic", 1),
        message("long/topic", 2),
        message("", 3),
        r#"10 | {"topics":["a/#","b"],"packet_id":4} | 11 | {"packet_id":4,"reason_codes":[0,17]}"#
            .to_string(),
        r#"14 | {"reason_code":142} | 0 | "#.to_string(),
    ];
    let mut wire = Wire::new(&PROTOCOL);
    assert_eq!(play(&mut wire, &calls), want);
    check_every_split(&PROTOCOL, &calls);
    // Behind a loss a number may stand for another topic.
    let mut wire = Wire::new(&PROTOCOL);
    for (side, bytes) in &calls[..7] {
        wire.call(*side, bytes);
    }
    wire.lose(Side::Request, 9);
    wire.ask(&publish(5, 0, 0, "x", b""));
    wire.settle();
    wire.ask(&numbered("", b"2"));
    assert_eq!(*wire.lines().last().unwrap(), message("", 2));
}

/// Of a connection whose beginning is not known, versions are told apart by what fits: in each, topics and
/// codes are where they are.
#[test]
fn versions_are_told_by_what_is_there() {
    for level in [4, 5] {
        let mut wire = Wire::begun(&PROTOCOL, false);
        wire.answer(&packet(PINGRESP, 0, &[]));
        wire.ask(&subscribe(level, 3, &[("a/b", 1)]));
        wire.answer(&suback(level, 3, &[1]));
        wire.ask(&publish(level, 1, 4, "t", b"\0\x01"));
        wire.answer(&ack(PUBACK, 4));
        wire.settle();
        let code = if level == 5 { r#","reason_code":0"# } else { "" };
        let want = [
            r#"8 | {"topics":["a/b"],"qos":[1],"packet_id":3} | 9 | {"packet_id":3,"reason_codes":[1]}"#.to_string(),
            format!(r#"3 | {{"topic":"t","qos":1,"dup":false,"retain":false,"packet_id":4,"payload":"\u0000\u0001"}} | 4 | {{"packet_id":4{code}}}"#),
        ];
        assert_eq!(wire.lines(), want);
    }
}

/// A payload of which the beginning was copied is shown so far, and the next packet is right; one that is
/// lost before its id costs itself.
#[test]
fn cut_payloads() {
    let large = publish(4, 1, 5, "big", &vec![b'x'; 1_000_000]);
    for (seen, rows) in [(large.len(), 2), (30_720, 2), (700, 2), (12, 2), (6, 1)] {
        let mut wire = Wire::new(&PROTOCOL);
        wire.ask(&connect(4));
        wire.answer(&connack(4, 0));
        match seen == large.len() {
            true => large.chunks(16_384).for_each(|bytes| wire.ask(bytes)),
            false => wire.cut_call(Side::Request, &large, seen),
        }
        wire.answer(&ack(PUBACK, 5));
        wire.settle();
        wire.ask(&publish(4, 1, 6, "t", b"after"));
        wire.answer(&ack(PUBACK, 6));
        wire.settle();
        wire.close();
        let lines = wire.lines();
        assert_eq!(lines.len(), 1 + rows, "{seen}: {lines:?}");
        assert!(lines.last().unwrap().contains("after"));
        if rows == 2 {
            assert_eq!(lines[1].matches('x').count(), (seen - 11).min(512), "{seen}");
        }
    }
}

/// Names and passwords are never shown, payloads only where bodies may be, and without their secrets.
#[test]
fn secrets_are_hidden() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.config.redactor = Redactor::new(Mode::Bodies, &[], None);
    let lines = play(&mut wire, &session(4));
    assert!(lines.iter().all(|line| !line.contains("secret") && !line.contains("zero")));
    assert!(lines.iter().any(|line| line.contains(r#""payload":"<REDACTED>""#)));
    for mode in [Mode::Off, Mode::Secrets] {
        let mut wire = Wire::new(&PROTOCOL);
        wire.config.redactor = Redactor::new(mode, &[], None);
        let mut calls = session(5);
        calls[4].1 = publish(5, 0, 0, "a/x", br#"{"password":"pw1","n":1}"#);
        let lines = play(&mut wire, &calls);
        assert!(!lines[0].contains("secret") && !lines[0].contains("user"), "{}", lines[0]);
        assert_eq!(lines[2].contains("pw1"), mode == Mode::Off, "{}", lines[2]);
    }
}

/// Pings have no ids: two under way are answered in their order, each with its own time.
#[test]
fn pings_are_answered_in_order() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&connect(4));
    wire.answer(&connack(4, 0));
    let [ping, pong] = [PINGREQ, PINGRESP].map(|kind| packet(kind, 0, &[]));
    wire.ask(&ping);
    wire.ask(&ping);
    wire.answer(&pong);
    wire.answer(&pong);
    wire.answer(&pong);
    wire.settle();
    let latencies: Vec<_> = wire.close()[1..].iter().map(|row| row.cells[4].clone()).collect();
    assert_eq!(latencies, ["2000", "2000"]);
    assert_eq!(wire.counters().unasked, 1);
}

/// A packet that is sent anew while its first copy waits: nobody knows whose the answers are, and they are not
/// those of the next packet with this id.
#[test]
fn packets_that_are_sent_anew() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&connect(4));
    wire.answer(&connack(4, 0));
    wire.ask(&publish(4, 1, 7, "t", b"one"));
    wire.wait(20_000_000_000);
    let mut again = publish(4, 1, 7, "t", b"one");
    again[0] |= 8;
    wire.ask(&again);
    wire.wait(REORDER_GRACE_NS);
    wire.answer(&ack(PUBACK, 7));
    wire.ask(&publish(4, 1, 7, "t", b"two"));
    wire.answer(&ack(PUBACK, 7));
    wire.answer(&ack(PUBACK, 7));
    wire.ask(&publish(4, 1, 8, "t", b"eight"));
    wire.answer(&ack(PUBACK, 8));
    wire.wait(61_000_000_000);
    wire.ask(&publish(4, 1, 7, "t", b"three"));
    wire.answer(&ack(PUBACK, 7));
    wire.settle();
    let shown: Vec<_> = wire.close()[1..].iter().map(|row| row.cells[1].clone()).collect();
    assert!(
        shown.len() == 2 && shown[0].contains("eight") && shown[1].contains("three"),
        "{shown:?}"
    );
    assert_eq!((wire.counters().unanswered, wire.counters().given_up), (2, 1));
}

/// MQTT is told from others by its first bytes, and in the middle by whole packets that one side sends.
#[test]
fn mqtt_is_recognised() {
    let old = packet(CONNECT, 0, &[string("MQIsdp"), vec![3, 2, 0, 60], string("c")].concat());
    check_recognised(
        &PROTOCOL,
        &[(Side::Request, &connect(4)), (Side::Request, &connect(5)), (Side::Request, &old)],
    );
    for cut in 1..8 {
        assert_eq!(verdict(&PROTOCOL, &connect(4)[..cut], true), Verdict::Unsure, "{cut}");
    }
    let message = publish(4, 0, 0, "sensors/1", b"21.5");
    let [ping, pong] = [PINGREQ, PINGRESP].map(|kind| packet(kind, 0, &[]));
    let joined = [
        (Side::Request, subscribe(5, 4, &[("a/b", 1)])),
        (Side::Request, [&message[..], &ping].concat()),
        (Side::Response, [&suback(4, 1, &[0])[..], &message].concat()),
    ];
    for (side, bytes) in joined {
        assert_eq!(verdict(&PROTOCOL, &bytes, false), Verdict::Is(side));
        assert_eq!(verdict(&PROTOCOL, &bytes[..bytes.len() - 1], false), Verdict::IsNot);
    }
    // Whose these are their port tells, or nobody.
    for (side, bytes) in [(Side::Request, &ping), (Side::Response, &pong)] {
        for (port, want) in [(1883, Verdict::Is(side)), (18_830, Verdict::IsNot)] {
            let ports = [40_000, port];
            let beginning =
                Beginning { bytes, at_start: true, opened: false, is_datagram: false, ports };
            assert_eq!((PROTOCOL.recognise)(&beginning), want);
        }
    }
    let others: [&[u8]; 7] = [
        &message,
        b"\x10\x0e\x00\x04MQTX\x04\x02\x00\x3c",
        b"0\r\n\r\n",
        b"\x20\x02\x00\x00",
        b"\x82\x06\x00\x01\x00\x01\x07\x00",
        b"\x82\x08\x00\x01\x00\x05a\x00\x00\x00",
        b"\x10\xff\xff\xff\xff\x01\x00\x04MQTT\x04",
    ];
    for other in others {
        assert_eq!(verdict(&PROTOCOL, other, true), Verdict::IsNot, "{}", other.escape_ascii());
        assert_eq!(verdict(&PROTOCOL, other, false), Verdict::IsNot, "{}", other.escape_ascii());
    }
    let mut wrong = Wire::new(&PROTOCOL);
    (0..3).for_each(|_| wrong.ask(b"\x00 something else"));
    assert!(wrong.parser.is_wrong());
}

/// Lengths that are only claimed hold nothing up and cost no memory; what is no packet is stepped over.
#[test]
fn hostile_lengths() {
    let huge_topic = [&[0x30, 0xff, 0xff, 0xff, 0x7f][..], &[0xff, 0xff], b"t"].concat();
    for bytes in [
        huge_topic,
        packet(PUBLISH, 2, &[0, 9, b't', 0, 1]),
        packet(PUBLISH, 2, &[0, 1, b't', 0, 0]),
        packet(SUBSCRIBE, 2, &[0, 0, 0, 1, b't', 0]),
        packet(PUBACK, 0, &[0, 0]),
        packet(PUBLISH, 6, b"\0\x01t"),
        vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
        vec![0xc0, 0x01, 0x00],
    ] {
        let mut wire = Wire::new(&PROTOCOL);
        wire.ask(&connect(5));
        wire.answer(&connack(5, 0));
        wire.ask(&bytes);
        wire.close();
        assert_eq!(wire.rows().len(), 1, "{}", bytes.escape_ascii());
    }
}

/// A code that is one of version 5 and tells which of so many packets it answers.
fn code_of(n: usize) -> u8 {
    0x80 + (n % 32) as u8
}

/// Publishing both ways, with few packet ids that come again at once; an answer's code tells whose it is.
fn echoes(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = vec![(Side::Request, connect(5)), (Side::Response, connack(5, 0))];
    for n in 0..32 {
        let (asks, answers) = match random.next_u64().is_multiple_of(3) {
            true => (Side::Response, Side::Request),
            false => (Side::Request, Side::Response),
        };
        let id = 1 + (random.next_u64() % 2) as u16;
        let qos = 1 + (random.next_u64() % 2) as u8;
        let answer = [&id.to_be_bytes()[..], &[code_of(n), 0]].concat();
        calls.push((asks, publish(5, qos, id, "t", format!("w{n}-").as_bytes())));
        calls.push((answers, packet(if qos == 1 { PUBACK } else { PUBREC }, 0, &answer)));
    }
    calls
}

/// The number behind a name.
fn int(text: &str, name: &str) -> Option<usize> {
    let (_, rest) = text.split_once(name)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Of which exchange each half of a row is; that of an answer only if it is another.
fn exchange_of(cells: &[String]) -> [Option<usize>; 2] {
    let asked = number(&cells[1]);
    let code = int(&cells[3], "\"reason_code\":").or(int(&cells[3], "\"reason_codes\":["));
    let id = |text| int(text, "\"packet_id\":");
    assert!(cells[2] == "0" || id(&cells[1]) == id(&cells[3]), "{cells:?}");
    let answered = asked
        .zip(code)
        .map(|(n, code)| if usize::from(code_of(n)) == code { n } else { usize::MAX });
    [asked, answered]
}

fn is_right(cells: &[String]) -> bool {
    let [asked, answered] = exchange_of(cells);
    answered.is_none() || asked == answered
}

/// Whatever is lost, no answer is another packet's; afterwards everything is read again. Catches an answer
/// that an older packet took, whose own packet is known only later, when the next answer is there as well.
#[test]
fn no_gap_makes_a_wrong_pair() {
    for one_in in [4, 8, 30] {
        let right = check_random_gaps(&PROTOCOL, 1_500, one_in, echoes, is_right);
        // Of four calls three are lost or cut, in the worst case.
        assert!(right > 1_500 * one_in as usize / 4, "{right} pairs were found");
    }
    let calls = echoes(&mut SplitMix(3)).split_off(2);
    let first = echoes(&mut SplitMix(3))[..2].to_vec();
    let probe = [
        first,
        vec![
            (Side::Request, publish(5, 0, 0, "p", b"")),
            (Side::Response, publish(5, 0, 0, "p", b"")),
        ],
    ]
    .concat();
    check_recovery(&PROTOCOL, 200, &calls, &probe, 10_000_000_000);
}

/// Exchanges of all kinds with ids, each used again as soon as it can be free, and pings.
fn exchanges(random: &mut SplitMix, count: usize) -> Vec<Exchange> {
    let one = |n: usize| {
        let id = 1 + (n % 9) as u16;
        let word = format!("w{n}-{}", "y".repeat(random.below(40) as usize));
        let ack = |kind| packet(kind, 0, &[&id.to_be_bytes()[..], &[code_of(n), 0]].concat());
        let (asked, answer, rows) = match random.below(5) {
            0 => (subscribe(5, id, &[(&word, 1)]), suback(5, id, &[code_of(n)]), 1),
            1 => (publish(5, 2, id, &word, b"payload"), ack(PUBREC), 1),
            2 => (packet(PINGREQ, 0, &[]), packet(PINGRESP, 0, &[]), 0),
            _ => (publish(5, 1, id, "t", word.as_bytes()), ack(PUBACK), 1),
        };
        Exchange { asked, answer, rows }
    };
    (0..count).map(one).collect()
}

/// How many rows there are, of those that could be. A wrong one panics.
fn run(
    seeds: u64,
    who: (crate::trials::Client, crate::trials::Pace),
    faults: Faults,
) -> (usize, usize) {
    sum(seeds, |seed| {
        let exchanges = exchanges(&mut SplitMix(seed ^ 0xabcd), 120);
        let outcome = trial(&PROTOCOL, seed, who, &faults, &exchanges);
        outcome.shown(&exchanges, |row: &Row| exchange_of(&row.cells))
    })
}

/// Whatever a client does, without losses every row is there, and with them none is wrong; most of what was
/// seen is shown, also of a connection that is joined midway.
#[test]
fn trials() {
    let mut few = Vec::new();
    for who in everybody() {
        let (shown, there) = run(20, who, Faults::one_in(0));
        assert_eq!(shown, there, "{who:?}");
        for (faults, least) in [
            (Faults::one_in(30), 60),
            (Faults::one_in(8), 20),
            (Faults { responses: false, ..Faults::one_in(30) }, 85),
            (Faults { requests: false, ..Faults::one_in(30) }, 60),
            (Faults { joined_at: 7, ..Faults::one_in(0) }, 90),
            (Faults { joined_at: 8, ..Faults::one_in(50) }, 60),
        ] {
            let (shown, there) = run(30, who, faults);
            if 100 * shown < least * there {
                few.push(format!("{who:?} {faults:?}: {} %", 100 * shown / there));
            }
        }
    }
    assert!(few.is_empty(), "{few:#?}");
}

/// Any bytes: no panic, bounded memory.
#[test]
fn any_bytes_do_no_harm() {
    check_any_bytes(&PROTOCOL, 1_000, &echoes(&mut SplitMix(1)));
    check_any_bytes(&PROTOCOL, 1_000, &session(5));
}
