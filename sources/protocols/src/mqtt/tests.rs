//! Conversations as bytes in, rows as text out.

use weir_types::random::SplitMix;

use super::PROTOCOL;
use super::types::*;
use crate::protocol::Verdict;
use crate::redact::{Mode, Redactor};
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised, verdict,
};
use crate::{Counters, Side};

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
        }
        wire.ask(&asked);
        wire.answer(&answers);
        wire.settle();
        assert_eq!(wire.lines().last().unwrap(), want);
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
            assert_eq!(lines[1].matches('x').count(), (seen - 11).min(509), "{seen}");
        }
    }
}

/// Names and passwords are never shown, payloads only where bodies may be.
#[test]
fn secrets_are_hidden() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.config.redactor = Redactor::new(Mode::Bodies, &[], None);
    let lines = play(&mut wire, &session(4));
    assert!(lines.iter().all(|line| !line.contains("secret") && !line.contains("zero")));
    assert!(lines.iter().any(|line| line.contains(r#""payload":"<REDACTED>""#)));
}

/// MQTT is told from others by its first bytes, and in the middle by whole packets.
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
    let joined = [publish(4, 0, 0, "sensors/1", b"21.5"), subscribe(5, 4, &[("a/b", 1)])];
    for bytes in joined {
        assert_eq!(verdict(&PROTOCOL, &bytes, false), Verdict::Is(Side::Request));
        assert_eq!(
            verdict(&PROTOCOL, &bytes, true),
            Verdict::IsNot,
            "nothing comes before CONNECT"
        );
        assert_eq!(verdict(&PROTOCOL, &bytes[..bytes.len() - 1], false), Verdict::IsNot);
    }
    for other in [&b"\x10\x0e\x00\x04MQTX\x04\x02\x00\x3c"[..], b"0\r\n\r\n", b"\x20\x02\x00\x00"] {
        assert_eq!(verdict(&PROTOCOL, other, true), Verdict::IsNot);
        assert_eq!(verdict(&PROTOCOL, other, false), Verdict::IsNot);
    }
    let mut wrong = Wire::new(&PROTOCOL);
    (0..3).for_each(|_| wrong.ask(b"\x00 something else"));
    assert!(wrong.parser.is_wrong());
}

/// Publishing both ways, with few packet ids that come again at once; an answer's code tells whose it is.
fn echoes(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = vec![(Side::Request, connect(5)), (Side::Response, connack(5, 0))];
    for n in 0..40u64 {
        let (asks, answers) = match random.next_u64().is_multiple_of(3) {
            true => (Side::Response, Side::Request),
            false => (Side::Request, Side::Response),
        };
        let id = 1 + (random.next_u64() % 2) as u16;
        let qos = 1 + (random.next_u64() % 2) as u8;
        let code = (n % 251) as u8;
        let answer = [&id.to_be_bytes()[..], &[code, 0]].concat();
        calls.push((asks, publish(5, qos, id, "t", &[b"n", n.to_string().as_bytes()].concat())));
        calls.push((answers, packet(if qos == 1 { PUBACK } else { PUBREC }, 0, &answer)));
    }
    calls
}

/// Whatever is lost, no answer is another packet's.
#[test]
fn no_gap_makes_a_wrong_pair() {
    for one_in in [4, 8, 30] {
        let right = check_random_gaps(&PROTOCOL, 1_500, one_in, echoes, |cells| {
            let number = |text: &str, from: &str| {
                let text = text.split(from).nth(1)?;
                text.chars()
                    .take_while(char::is_ascii_digit)
                    .collect::<String>()
                    .parse::<u64>()
                    .ok()
            };
            if cells[0] != "3" {
                return true;
            }
            let code = number(&cells[3], "\"reason_code\":");
            // A payload that was cut shows the beginning of its number.
            let shown = cells[1].split("\"payload\":\"n").nth(1).unwrap_or_default();
            let shown: String = shown.chars().take_while(char::is_ascii_digit).collect();
            let id = |text| number(text, "\"packet_id\":");
            id(&cells[1]) == id(&cells[3])
                && code.is_none_or(|code| code.to_string().starts_with(&shown))
        });
        assert!(right > 1_500 * 10, "{right} pairs were found");
    }
}

/// Any bytes: no panic, bounded memory.
#[test]
fn any_bytes_do_no_harm() {
    check_any_bytes(&PROTOCOL, 1_000, &echoes(&mut SplitMix(1)));
    check_any_bytes(&PROTOCOL, 1_000, &session(5));
}
