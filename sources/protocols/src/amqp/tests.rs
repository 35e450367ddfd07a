//! Frames as bytes in, rows as text out; whatever is done to them.

use weir_types::random::SplitMix;

use super::PROTOCOL;
use crate::Side;
use crate::protocol::Verdict;
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised,
    check_recovery, lines_of, verdict,
};

const GREETING: &[u8] = b"AMQP\0\0\x09\x01";

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&[kind][..], &channel.to_be_bytes(), &size, payload, &[0xce]].concat()
}

fn method(channel: u16, class_id: u16, method_id: u16, arguments: &[u8]) -> Vec<u8> {
    let numbers = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
    frame(1, channel, &[&numbers, arguments].concat())
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn long(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text].concat()
}

/// A content's header without properties, and its body in frames.
fn content(channel: u16, body: &[u8]) -> Vec<u8> {
    let head = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), &[0, 0]].concat();
    let mut frames = frame(2, channel, &head);
    body.chunks(4_000).for_each(|part| frames.extend(frame(3, channel, part)));
    frames
}

fn publish(channel: u16, key: &str, body: &[u8]) -> Vec<u8> {
    let arguments = [&[0, 0][..], &short("x"), &short(key), &[0]].concat();
    [method(channel, 60, 40, &arguments), content(channel, body)].concat()
}

fn deliver(channel: u16, tag: u8, body: &[u8]) -> Vec<u8> {
    let numbers = [0, 0, 0, 0, 0, 0, 0, tag, 1];
    let arguments = [&short("ct")[..], &numbers, &short("x"), &short("k")].concat();
    [method(channel, 60, 60, &arguments), content(channel, body)].concat()
}

fn declare(channel: u16, queue: &str) -> Vec<u8> {
    method(channel, 50, 10, &[&[0, 0][..], &short(queue), &[0b10], &[0; 4]].concat())
}

fn declared(channel: u16, queue: &str) -> Vec<u8> {
    method(channel, 50, 11, &[&short(queue)[..], &[0, 0, 0, 3, 0, 0, 0, 1]].concat())
}

fn table(members: &[(&str, &[u8])]) -> Vec<u8> {
    long(
        &members
            .iter()
            .flat_map(|(name, value)| [short(name), value.to_vec()].concat())
            .collect::<Vec<_>>(),
    )
}

fn ask(bytes: Vec<u8>) -> Call {
    (Side::Request, bytes)
}

fn answer(bytes: Vec<u8>) -> Call {
    (Side::Response, bytes)
}

/// How a connection and a channel are opened.
fn opening() -> Vec<Call> {
    let capabilities = [&b"F"[..], &table(&[("confirms", b"t\x01")])].concat();
    let product = [&b"S"[..], &long(b"R\"M")].concat();
    let properties = table(&[("product", &product), ("capabilities", &capabilities)]);
    let start = [&[0, 9][..], &properties, &long(b"PLAIN"), &long(b"en_US")].concat();
    let client = table(&[("n", b"I\xff\xff\xff\xfe"), ("a", b"A\x00\x00\x00\x03b\xffV")]);
    let start_ok = [&client[..], &short("PLAIN"), &long(b"\0user\0pw1"), &short("en_US")].concat();
    let tune = [0x07, 0xff, 0, 2, 0, 0, 0, 60];
    vec![
        ask(GREETING.to_vec()),
        answer(method(0, 10, 10, &start)),
        ask(method(0, 10, 11, &start_ok)),
        answer(method(0, 10, 30, &tune)),
        ask([method(0, 10, 31, &tune), method(0, 10, 40, &[&short("/")[..], &[0, 0]].concat())]
            .concat()),
        answer(method(0, 10, 41, &[0])),
        ask(method(1, 20, 10, &[0])),
        answer(method(1, 20, 11, &[0; 4])),
    ]
}

fn session() -> Vec<Call> {
    let mut calls = opening();
    let consume = [&[0, 0][..], &short("q"), &short("ct"), &[0b10, 0, 0, 0, 0]].concat();
    let get = [&[0, 0][..], &short("q"), &[1]].concat();
    let got = [&[0, 0, 0, 0, 0, 0, 0, 9, 0][..], &short("x"), &short("k"), &[0, 0, 0, 2]].concat();
    let ack = [0, 0, 0, 0, 0, 0, 0, 9, 1];
    let close = [&[0, 200][..], &short("bye \u{e9}"), &[0, 0, 0, 0]].concat();
    calls.extend([
        ask(declare(1, "q")),
        answer(declared(1, "q")),
        ask(method(1, 85, 10, &[0])),
        answer(method(1, 85, 11, &[])),
        ask(publish(1, "k", &[b'b'; 9_000])),
        answer([method(1, 60, 80, &ack), frame(8, 0, &[])].concat()),
        ask([method(1, 60, 20, &consume), frame(8, 0, &[])].concat()),
        answer([method(1, 60, 21, &short("ct")), deliver(1, 9, b"hello")].concat()),
        ask([method(1, 60, 80, &ack), method(1, 60, 70, &get), method(1, 60, 70, &get)].concat()),
        answer([method(1, 60, 71, &got), content(1, b""), method(1, 60, 72, &[0])].concat()),
        answer(method(0, 10, 50, &close)),
        ask(method(0, 10, 51, &[])),
    ]);
    calls
}

/// A whole session: every method is a row with what it asks for or tells, and what answers it; contents and
/// heartbeats are none. Catches words in the wrong places and answers that are taken for requests.
#[test]
fn methods_are_rows() {
    let rows = lines_of(&PROTOCOL, &session());
    let tune = r#"{"channel_max":2047,"frame_max":131072,"heartbeat":60}"#;
    let consume = r#"{"queue":"q","consumer_tag":"ct","no_local":false,"no_ack":true,"exclusive":false,"no_wait":false,"arguments":{}}"#;
    let declare = r#"{"queue":"q","passive":false,"durable":true,"exclusive":false,"auto_delete":false,"no_wait":false,"arguments":{}}"#;
    let deliver = r#"{"consumer_tag":"ct","delivery_tag":9,"redelivered":true,"exchange":"x","routing_key":"k","body_size":5}"#;
    let got = r#"{"delivery_tag":9,"redelivered":false,"exchange":"x","routing_key":"k","message_count":2,"body_size":0}"#;
    let start = r#"{"version_major":0,"version_minor":9,"server_properties":{"product":"R\"M","capabilities":{"confirms":true}},"mechanisms":"PLAIN","locales":"en_US"}"#;
    let start_ok = r#"{"client_properties":{"n":-2,"a":[-1,null]},"mechanism":"PLAIN","response":"<REDACTED>","locale":"en_US"}"#;
    let want = [
        format!("1 | 0 | 10 | 10 | 10 | 11 | {start} | {start_ok}"),
        format!("1 | 0 | 10 | 30 | 10 | 31 | {tune} | {tune}"),
        r#"1 | 0 | 10 | 40 | 10 | 41 | {"virtual_host":"/"} | {}"#.to_string(),
        "1 | 1 | 20 | 10 | 20 | 11 | {} | {}".to_string(),
        format!(
            "1 | 1 | 50 | 10 | 50 | 11 | {declare} | {}",
            r#"{"queue":"q","message_count":3,"consumer_count":1}"#
        ),
        r#"1 | 1 | 85 | 10 | 85 | 11 | {"no_wait":false} | {}"#.to_string(),
        r#"1 | 1 | 60 | 40 | 0 | 0 | {"exchange":"x","routing_key":"k","mandatory":false,"immediate":false,"body_size":9000} | "#.to_string(),
        r#"1 | 1 | 60 | 80 | 0 | 0 | {"delivery_tag":9,"multiple":true} | "#.to_string(),
        format!(r#"1 | 1 | 60 | 20 | 60 | 21 | {consume} | {{"consumer_tag":"ct"}}"#),
        format!("1 | 1 | 60 | 60 | 0 | 0 | {deliver} | "),
        r#"1 | 1 | 60 | 80 | 0 | 0 | {"delivery_tag":9,"multiple":true} | "#.to_string(),
        format!(r#"1 | 1 | 60 | 70 | 60 | 71 | {{"queue":"q","no_ack":true}} | {got}"#),
        r#"1 | 1 | 60 | 70 | 60 | 72 | {"queue":"q","no_ack":true} | {}"#.to_string(),
        format!(
            "1 | 0 | 10 | 50 | 10 | 51 | {} | {{}}",
            "{\"reply_code\":200,\"reply_text\":\"bye \u{e9}\",\"class_id\":0,\"method_id\":0}"
        ),
    ];
    assert_eq!(rows.len(), want.len(), "{rows:#?}");
    for (row, want) in rows.iter().zip(&want) {
        assert_eq!(row, want);
    }
}

/// Times are those of first bytes; channels do not disturb each other, nor do contents between them; who asks
/// for no answer waits for none.
#[test]
fn channels_and_times() {
    let mut wire = Wire::new(&PROTOCOL);
    for (side, bytes) in opening() {
        wire.call(side, &bytes);
    }
    let from = wire.rows().len();
    wire.ask(&[declare(1, "a"), declare(2, "b")].concat());
    wire.answer(&declared(2, "b")[..9]);
    wire.answer(&declared(2, "b")[9..]);
    wire.answer(&declared(1, "a"));
    let rows = &wire.rows()[from..];
    let shown: Vec<_> = rows.iter().map(|row| [1, 8].map(|at| row.cells[at].as_str())).collect();
    assert_eq!(shown, [["2", "1000"], ["1", "3000"]]);
    assert_eq!(rows[0].time_ns, 11_000);
    let mut no_wait = declare(3, "c");
    let bits = no_wait.len() - 6;
    no_wait[bits] = 0b1_0000;
    wire.ask(&no_wait);
    let row = wire.rows().last().unwrap();
    assert_eq!(
        (row.cells[1].as_str(), row.cells[7].as_str(), row.cells[8].as_str()),
        ("3", "", "0")
    );
    // Two messages whose frames are mixed.
    let [one, two] = [1, 2].map(|channel| publish(channel, &format!("k{channel}"), b"12345"));
    let head = one.len() - 5 - 8 - 22;
    wire.ask(&[&one[..head], &two[..], &one[head..]].concat());
    let rows = wire.rows();
    let keys: Vec<_> = rows[rows.len() - 2..].iter().map(|row| row.cells[6].as_str()).collect();
    assert!(keys[0].contains("\"k2\"") && keys[1].contains("\"k1\""), "{keys:?}");
    assert!(keys.iter().all(|key| key.ends_with("\"body_size\":5}")), "{keys:?}");
}

/// A large message of which the kernel copied the beginning costs nothing: its size is in its row, and what
/// follows is right. A table that is not all there ends in valid JSON.
#[test]
fn large_messages() {
    let mut wire = Wire::new(&PROTOCOL);
    for (side, bytes) in opening() {
        wire.call(side, &bytes);
    }
    let from = wire.rows().len();
    let body = vec![b'x'; 128 * 1024];
    let head = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), &[0, 0]].concat();
    let arguments = [&[0, 0][..], &short("x"), &short("k"), &[0]].concat();
    let message = [method(1, 60, 40, &arguments), frame(2, 1, &head), frame(3, 1, &body)].concat();
    wire.cut_call(Side::Request, &message, 30_720);
    wire.ask(&publish(1, "next", b"1"));
    let text = [&b"S"[..], &long(&[b'y'; 200])].concat();
    let many: Vec<(&str, &[u8])> = (0..20).map(|_| ("name", text.as_slice())).collect();
    let declare = method(1, 50, 10, &[&[0, 0][..], &short("q"), &[0], &table(&many)].concat());
    wire.cut_call(Side::Request, &declare, 1_000);
    wire.close();
    let rows = wire.rows()[from..].to_vec();
    assert_eq!(rows.len(), 3);
    assert!(rows[0].cells[6].ends_with("\"body_size\":131072}"), "{rows:?}");
    assert!(rows[1].cells[6].contains("\"next\""));
    for row in rows {
        serde_json::from_str::<serde_json::Value>(&row.cells[6]).unwrap();
    }
}

/// However calls are split into pieces, the rows are the same.
#[test]
fn splits() {
    check_every_split(&PROTOCOL, &session());
}

/// Queues are declared on channels, in pipelines; answers name them. Messages in between.
fn conversation(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = opening();
    for number in 0..40 {
        let count = 1 + random.next_u64() % 4;
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        for n in 0..count {
            let (channel, queue) = (1 + (random.next_u64() % 2) as u16, format!("q{number}-{n}"));
            asked.push(declare(channel, &queue));
            answered.push(declared(channel, &queue));
            if random.next_u64().is_multiple_of(3) {
                asked.push(publish(channel, "k", &vec![b'b'; random.next_u64() as usize % 900]));
                answered.push(deliver(channel, 1, b"body"));
            }
        }
        match random.next_u64() % 2 {
            0 => calls.extend(asked.into_iter().map(ask)),
            _ => calls.push(ask(asked.concat())),
        }
        match random.next_u64() % 2 {
            0 => calls.extend(answered.into_iter().map(answer)),
            _ => calls.push(answer(answered.concat())),
        }
    }
    calls
}

/// Who was answered is who asked, as far as either is there.
fn is_right(cells: &[String]) -> bool {
    let queue = |text: &str| {
        let (_, rest) = text.split_once("\"queue\":\"")?;
        rest.split_once('"').map(|(name, _)| name.to_string())
    };
    match (queue(&cells[6]), queue(&cells[7])) {
        (Some(asked), Some(answered)) => asked == answered,
        _ => true,
    }
}

/// Whatever is lost, no method has another's answer; afterwards everything is read again.
#[test]
fn losses() {
    for one_in in [4, 8, 20] {
        let right = check_random_gaps(&PROTOCOL, 300, one_in, conversation, is_right);
        assert!(right > 300 * 5, "{right} rows");
    }
    let calls = conversation(&mut SplitMix(3)).split_off(opening().len());
    let probe = [ask(publish(9, "p", b"")), answer(deliver(9, 1, b""))];
    check_recovery(&PROTOCOL, 200, &calls, &probe, 10_000_000_000);
}

#[test]
fn any_bytes() {
    check_any_bytes(&PROTOCOL, 600, &session());
    check_any_bytes(&PROTOCOL, 100, &conversation(&mut SplitMix(1)));
}

/// By its greeting, or by whole methods that one side only sends; by nothing of AMQP 1.0 or others.
#[test]
fn recognised() {
    let [start, declare, declared, delivered] =
        [opening()[1].1.clone(), declare(1, "q"), declared(1, "q"), deliver(1, 1, b"x")];
    let own: [(Side, &[u8]); 5] = [
        (Side::Request, GREETING),
        (Side::Response, &start),
        (Side::Request, &declare),
        (Side::Response, &declared),
        (Side::Response, &delivered),
    ];
    check_recognised(&PROTOCOL, &own);
    for (side, bytes) in own {
        assert_eq!(verdict(&PROTOCOL, bytes, false), Verdict::Is(side));
    }
    let others = [
        b"AMQP\0\x01\0\0".to_vec(),
        b"AMQP\x03\x01\0\0".to_vec(),
        frame(8, 0, &[]),
        frame(1, 1, &[0, 50, 0, 10, 0]),
        method(1, 50, 10, &[0; 30]),
        method(0, 50, 11, &[0; 9]),
        method(1, 99, 11, &[0; 9]),
        [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0].to_vec(),
        [1, 0, 0, 0, 0, 0, 0, 0].to_vec(),
        vec![1; 64],
    ];
    for other in others {
        let taken = verdict(&PROTOCOL, &other, true);
        assert!(!matches!(taken, Verdict::Is(_)), "{}", other.escape_ascii());
    }
}

/// A connection that was joined within a body: what follows is read, from the next method on. What is not AMQP is given up.
#[test]
fn joined_midway() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(b"the rest of a body\xce");
    wire.answer(&declared(1, "before"));
    wire.ask(&publish(1, "k", b"first"));
    wire.wait(6_000_000_000);
    for (side, bytes) in [ask(declare(1, "q")), answer(declared(1, "q"))] {
        wire.call(side, &bytes);
    }
    wire.close();
    assert_eq!(wire.rows().len(), 2, "{:?}", wire.rows());
    assert!(is_right(&wire.rows()[1].cells));
    let mut wire = Wire::new(&PROTOCOL);
    for _ in 0..70 {
        wire.ask(b"GET / HTTP/1.1\r\n\r\n");
    }
    assert!(wire.parser.is_wrong());
}

/// What was not answered within a minute may be answered later, and that is not the answer to another.
#[test]
fn a_late_answer_is_no_later_ones() {
    let mut wire = Wire::new(&PROTOCOL);
    for (side, bytes) in opening() {
        wire.call(side, &bytes);
    }
    let from = wire.rows().len();
    wire.ask(&declare(1, "a"));
    wire.wait(61_000_000_000);
    wire.ask(&declare(1, "b"));
    wire.answer(&declared(1, "a"));
    wire.answer(&declared(1, "b"));
    wire.close();
    assert!(wire.rows()[from..].iter().all(|row| is_right(&row.cells)), "{:?}", wire.rows());
    assert_eq!(wire.counters().unanswered, 1);
}

/// What was asked on a channel is not answered once that is closed: the next of its kind on the channel's successor
/// has its own answer. Other channels do not notice.
#[test]
fn a_closed_channel_answers_nothing() {
    let mut wire = Wire::new(&PROTOCOL);
    for (side, bytes) in opening() {
        wire.call(side, &bytes);
    }
    let from = wire.rows().len();
    let close =
        |channel| method(channel, 20, 40, &[&[1, 148][..], &short("no"), &[0, 50, 0, 10]].concat());
    wire.ask(&[declare(1, "missing"), declare(2, "other")].concat());
    wire.answer(&close(1));
    // Sent before it was known.
    wire.ask(&declare(1, "late"));
    wire.ask(&method(1, 20, 41, &[]));
    wire.ask(&[method(1, 20, 10, &[0]), declare(1, "next")].concat());
    wire.answer(&[method(1, 20, 11, &[0; 4]), declared(1, "next"), declared(2, "other")].concat());
    // Both close it at once.
    wire.ask(&[declare(2, "unanswered"), close(2)].concat());
    wire.answer(&[close(2), method(2, 20, 41, &[])].concat());
    wire.ask(&method(2, 20, 41, &[]));
    wire.close();
    let rows = &wire.rows()[from..];
    let shown: Vec<_> =
        rows.iter().map(|row| [1, 2, 4, 6].map(|at| row.cells[at].as_str())).collect();
    let is_close = |row: &[&str; 4]| row[1] == "20" && row[2] == "20" && row[3].contains("404");
    let asks = |row: &[&str; 4], queue: &str| row[2] == "50" && row[3].contains(queue);
    assert_eq!(shown.len(), 6, "{shown:#?}");
    assert!(is_close(&shown[0]) && is_close(&shown[4]) && is_close(&shown[5]), "{shown:#?}");
    assert!(asks(&shown[2], "next") && asks(&shown[3], "other"), "{shown:#?}");
    assert!(rows.iter().all(|row| is_right(&row.cells)), "{rows:#?}");
    assert_eq!(wire.counters().unanswered, 3);
}
