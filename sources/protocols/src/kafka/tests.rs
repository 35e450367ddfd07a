//! Requests and responses as bytes in, rows as text out: real ones, made ones, and what is done to them.

use weir_types::random::SplitMix;

use super::PROTOCOL;
use super::decode::{Decoder, Fit};
use super::parse::{behind_header, header, missing_bytes};
use super::recognise::{is_odd_metadata, is_request, is_response};
use super::schema::api;
use super::table::Layout;
use super::types::Asked;
use crate::protocol::Verdict;
use crate::redact::{Mode, Redactor};
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recovery, lines_of,
    verdict,
};
use crate::{REORDER_GRACE_NS, Recognised, Side};

const CAPTURED: &str = include_str!("captured.txt");

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes(), message].concat()
}

/// Of real clients and brokers: API key, version, request and response.
fn captured() -> Vec<(i16, i16, Vec<u8>, Vec<u8>)> {
    let bytes = |hex: &str| -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    };
    let lines = CAPTURED.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [key, version] = [0, 1].map(|at| words[at].parse().unwrap());
        let [request, response] = [2, 3].map(|at| framed(&bytes(words[at])));
        (key, version, request, response)
    };
    lines.map(pair).collect()
}

fn captured_of(key: i16, version: i16) -> [Vec<u8>; 2] {
    let found = captured().into_iter().find(|(k, v, ..)| (*k, *v) == (key, version));
    let (_, _, request, response) = found.unwrap();
    [request, response]
}

/// The calls with another correlation id.
fn numbered(mut pair: [Vec<u8>; 2], id: i32) -> [Call; 2] {
    pair[0][8..12].copy_from_slice(&id.to_be_bytes());
    pair[1][4..8].copy_from_slice(&id.to_be_bytes());
    let [request, response] = pair;
    [(Side::Request, request), (Side::Response, response)]
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn request_head(key: i16, version: i16, id: i32, client: &str) -> Vec<u8> {
    let numbers = [&key.to_be_bytes()[..], &version.to_be_bytes(), &id.to_be_bytes()].concat();
    [numbers, string(client)].concat()
}

/// FindCoordinator of a group `g{n}`, answered with a host `h{n}`.
fn find_coordinator(n: i32, id: i32) -> [Call; 2] {
    let asked = [request_head(10, 1, id, "c"), string(&format!("g{n}")), vec![0]].concat();
    let host = string(&format!("h{n}"));
    let head = [&id.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1]].concat();
    let answer = [head, host, 9092i32.to_be_bytes().to_vec()].concat();
    [(Side::Request, framed(&asked)), (Side::Response, framed(&answer))]
}

/// Produce in version 7 to topic `t`, with `acks`, of batches that are no batches.
fn produce(id: i32, acks: i16, records: usize) -> Vec<u8> {
    let mut asked = request_head(0, 7, id, "c");
    asked.extend([0xff, 0xff]);
    asked.extend(acks.to_be_bytes());
    asked.extend([0, 0, 0, 9, 0, 0, 0, 1]);
    asked.extend(string("t"));
    asked.extend([0, 0, 0, 1, 0, 0, 0, 5]);
    asked.extend((records as u32).to_be_bytes());
    asked.extend(vec![7; records]);
    framed(&asked)
}

fn asked_of(request: &[u8]) -> Asked {
    let header = header(request).unwrap();
    let (client_id, body) = (header.client_id.to_vec(), Vec::new());
    Asked { api_key: header.api_key, api_version: header.api_version, client_id, body }
}

fn fit(body: &[u8], missing: u64, layout: &Layout) -> Fit {
    Decoder::checking(body, missing, layout, &Redactor::default()).fit(layout)
}

/// Real messages are what the table of fields says, to the last byte; all their beginnings fit so far, and no
/// byte more or less does. Catches a wrong field, version or type.
#[test]
fn real_messages_fit_the_table() {
    let captured = captured();
    assert!(captured.len() >= 25);
    for (key, version, request, response) in captured {
        let header = header(&request).unwrap();
        let layout = Layout::of_request(api(key).unwrap(), &header).unwrap();
        let body = behind_header(&request, &header);
        let is_odd = is_odd_metadata(&header, body);
        let want = if is_odd { Fit::No } else { Fit::Whole };
        assert_eq!(fit(body, 0, &layout), want, "{key} {version}: request");
        assert_eq!(fit(&[body, &[0]].concat(), 0, &layout), Fit::No, "{key} {version}");
        let asked = asked_of(&request);
        let body = &response[8..];
        let answer = Layout::of_response(api(key).unwrap(), &asked, body).unwrap();
        assert_eq!(fit(body, 0, &answer), Fit::Whole, "{key} {version}: response");
        for at in 0..body.len() {
            assert_eq!(fit(&body[..at], 0, &answer), Fit::No, "{key} {version} at {at}");
            let fits = fit(&body[..at], (body.len() - at) as u64, &answer);
            assert_eq!(fits, Fit::SoFar, "{key} {version} at {at}");
        }
        assert_eq!(missing_bytes(&request[..10]), request.len() as u64 - 10);
        assert!(is_response(&response, &asked));
    }
}

/// Rows of real exchanges, as scripts read them.
#[test]
fn rows_of_real_exchanges() {
    let row = |key, version| {
        let calls = numbered(captured_of(key, version), 7);
        let lines = lines_of(&PROTOCOL, &calls);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        let cells: Vec<&str> = line.split(" | ").collect();
        let json = |at: usize| serde_json::from_str::<serde_json::Value>(cells[at]).unwrap();
        assert!(cells[2].starts_with("{\"correlation_id\":7,\"api_version\":"), "{line}");
        assert_eq!(json(2)["api_version"], i64::from(version));
        assert_eq!(cells[0], key.to_string());
        (cells[1].to_string(), json(2), json(3))
    };
    let (client, asked, answered) = row(0, 10);
    assert!(!client.is_empty());
    let (topic, partition) = (&asked["topics"][0], &asked["topics"][0]["partitions"][0]);
    assert_eq!(topic["name"], "orders");
    assert!(partition["message_set"]["size"].as_i64().unwrap() > 60, "{asked}");
    assert!(partition["message_set"]["records"].as_i64().unwrap() >= 1, "{asked}");
    // The broker is not yet the partition's leader.
    let refused = &answered["topics"][0]["partitions"][0];
    assert_eq!((&refused["error_code"], &refused["index"]), (&6.into(), &partition["index"]));
    assert_eq!(refused["base_offset"], -1);
    let stored = &row(0, 7).2["topics"][0]["partitions"][0];
    assert_eq!((&stored["error_code"], &stored["base_offset"]), (&0.into(), &1.into()));
    let (_, joined, answered) = row(11, 5);
    assert_eq!((&joined["group_id"], &answered["error_code"]), (&"g2".into(), &0.into()));
    assert!(answered["generation_id"].is_i64() && answered["member_id"].is_string());
    let (_, versions, answered) = row(18, 4);
    assert!(versions["client_software_name"].is_string());
    assert_eq!(answered["error_code"], 0);
    assert!(answered["api_keys"].as_array().unwrap().len() > 50, "{answered}");
}

/// Fetch names topics by ids: what Metadata said of them before is known, on other connections as well.
#[test]
fn fetch_with_topic_ids() {
    let [_, (_, fetched)] = numbered(captured_of(1, 16), 3);
    let [(_, asked), _] = numbered(captured_of(1, 16), 3);
    let mut wire = Wire::new(&PROTOCOL);
    let [metadata, answer] = numbered(captured_of(3, 12), 2);
    wire.call(metadata.0, &metadata.1);
    wire.call(answer.0, &answer.1);
    wire.ask(&asked);
    wire.answer(&fetched);
    let cells = &wire.rows()[1].cells;
    let json = |at: usize| serde_json::from_str::<serde_json::Value>(&cells[at]).unwrap();
    for body in [json(2), json(3)] {
        let topic = &body["topics"][0];
        assert_eq!(topic["name"], "orders", "{body}");
        assert_eq!(topic["topic_id"].as_str().unwrap().len(), 22);
        assert!(topic["partitions"][0]["index"].is_i64());
    }
    assert_eq!(json(3)["error_code"], 0);
    // Nobody has said the names: the ids alone.
    let calls = [(Side::Request, asked), (Side::Response, fetched)];
    let alone = &lines_of(&PROTOCOL, &calls)[0];
    assert!(alone.contains("\"topic_id\":") && !alone.contains("\"name\":"), "{alone}");
}

/// Responses find their requests by id, in whatever order they come; a connection is its own world; a
/// Produce that wants no answer is a row at once, with none.
#[test]
fn ids_pair_within_a_connection() {
    let mut one = Wire::new(&PROTOCOL);
    let mut other = Wire::new(&PROTOCOL);
    let pairs: Vec<_> = (0..4).map(|n| find_coordinator(n, n)).collect();
    for [(_, asked), _] in &pairs {
        one.ask(asked);
    }
    other.ask(&find_coordinator(9, 2)[0].1);
    for [_, (_, answer)] in pairs.iter().rev() {
        one.answer(answer);
    }
    for (line, n) in one.lines().iter().zip([3, 2, 1, 0]) {
        let want = format!(
            "\"key\":\"g{n}\",\"key_type\":0}} | {{\"throttle_time_ms\":0,\"error_code\":0"
        );
        assert!(line.contains(&want) && line.contains(&format!("\"host\":\"h{n}\"")), "{line}");
    }
    assert_eq!(other.rows().len(), 0);
    let times: Vec<_> = one.rows().iter().map(|row| (row.time_ns, row.cells[4].as_str())).collect();
    assert_eq!(times, [(6_000, "1000"), (7_000, "3000"), (8_000, "5000"), (9_000, "7000")]);
    one.ask(&produce(8, 0, 10));
    let row = one.rows().last().unwrap();
    assert_eq!((row.cells[3].as_str(), row.cells[4].as_str(), row.time_ns), ("", "0", 10_000));
    assert!(row.cells[2].contains("\"acks\":0,") && row.cells[2].contains("{\"size\":10}"));
    one.ask(&produce(9, 1, 10));
    assert_eq!(one.rows().len(), 5);
}

/// What is newer than the table, or not in it, is a row with an id and a version, and an empty response;
/// versions that a broker refuses are answered in the oldest one.
#[test]
fn unknown_versions_and_kinds() {
    for (key, version) in [(3, 40), (200, 0), (4, 5), (62, 1)] {
        let calls = [
            (Side::Request, framed(&[request_head(key, version, 5, "c"), vec![1, 2, 3]].concat())),
            (Side::Response, framed(&[0, 0, 0, 5, 9, 9, 9])),
        ];
        let want = format!("{key} | c | {{\"correlation_id\":5,\"api_version\":{version}}} | {{}}");
        assert_eq!(lines_of(&PROTOCOL, &calls), [want]);
    }
    let [mut asked, _] = captured_of(18, 4);
    asked[7] = 40;
    let id = asked[8..12].to_vec();
    let refused = framed(&[&id[..], &[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5]].concat());
    let lines = lines_of(&PROTOCOL, &[(Side::Request, asked), (Side::Response, refused)]);
    let want = r#"{"error_code":35,"api_keys":[{"api_key":18,"min_version":0,"max_version":5}]}"#;
    assert!(lines[0].ends_with(want), "{lines:?}");
}

/// A Metadata response of many topics is read as far as a row shows, in valid JSON, and what follows it is
/// right; the same where the kernel copied the beginning only, of a Fetch with much in it, and of a Produce.
#[test]
fn large_messages() {
    let mut topics = vec![0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1];
    topics.extend(20_000u32.to_be_bytes());
    for n in 0..20_000 {
        topics.extend([0, 0]);
        topics.extend(string(&format!("topic-{n}")));
        topics.extend([0, 0, 0, 0, 0]);
    }
    let asked = framed(&[request_head(3, 1, 6, "c"), vec![0xff; 4]].concat());
    let answer = framed(&topics);
    for seen in [answer.len(), 30_720, 100, 9, 6, 3] {
        let mut wire = Wire::new(&PROTOCOL);
        wire.ask(&asked);
        match seen == answer.len() {
            true => answer.chunks(10_000).for_each(|part| wire.answer(part)),
            false => wire.cut_call(Side::Response, &answer, seen),
        }
        let big = produce(8, 1, 900_000);
        wire.cut_call(Side::Request, &big, seen.clamp(60, 30_720));
        wire.answer(&framed(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]));
        let [next, answer] = find_coordinator(1, 9);
        wire.ask(&next.1);
        wire.answer(&answer.1);
        wire.settle();
        wire.close();
        let rows = wire.rows();
        let without = usize::from(seen < 8);
        assert_eq!(rows.len(), 3 - without, "{seen}: {rows:?}");
        if without == 0 {
            let json: serde_json::Value = serde_json::from_str(&rows[0].cells[3]).unwrap();
            let shown = json["topics"].as_array().map_or(0, Vec::len);
            assert_eq!(shown > 1_000, seen > 30_000, "{shown}");
        }
        let produced = &rows[1 - without].cells;
        assert!(produced[2].contains("\"message_set\":{\"size\":900000}"), "{produced:?}");
        assert!(rows[2 - without].cells[3].contains("\"host\":\"h1\""));
    }
}

/// What proves who somebody is, is not shown; nor are texts, if bodies are to be hidden.
#[test]
fn secrets_are_hidden() {
    let token = [request_head(36, 1, 4, "c"), vec![0, 0, 0, 6], b"\0u\0pw1".to_vec()].concat();
    let answer = [&[0, 0, 0, 4, 0, 0, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 8]].concat();
    let calls = [(Side::Request, framed(&token)), (Side::Response, framed(&answer))];
    let line = &lines_of(&PROTOCOL, &calls)[0];
    assert!(line.contains("\"auth_bytes\":\"<REDACTED>\"") && !line.contains("pw1"), "{line}");
    let mut wire = Wire::new(&PROTOCOL);
    wire.config.redactor = Redactor::new(Mode::Bodies, &[], None);
    for (side, bytes) in find_coordinator(1, 9) {
        wire.call(side, &bytes);
    }
    let cells = &wire.rows()[0].cells;
    assert!(cells[2].contains("\"key\":\"<REDACTED>\"") && !cells[3].contains("h1"), "{cells:?}");
}

/// However calls are split into pieces, short ones as well, the rows are the same.
#[test]
fn splits() {
    let mut calls: Vec<Call> = Vec::new();
    for (n, (_, _, request, response)) in captured().into_iter().enumerate() {
        calls.extend(numbered([request, response], n as i32));
    }
    check_every_split(&PROTOCOL, &calls);
}

/// A conversation in pipelines of random lengths; answers come in any order, as some proxies give them.
fn conversation(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut next = 0;
    while next < 60 {
        let count = 1 + random.next_u64() % 5;
        let pairs = (0..count).map(|_| {
            next += 1;
            find_coordinator(next, next)
        });
        let pairs: Vec<_> = pairs.collect();
        let side = |side: usize| pairs.iter().map(move |pair| pair[side].clone());
        let (asked, mut answers): (Vec<Call>, Vec<Call>) = (side(0).collect(), side(1).collect());
        if random.next_u64().is_multiple_of(2) {
            answers.reverse();
        }
        let joined = |calls: Vec<Call>| calls.into_iter().flat_map(|(_, bytes)| bytes).collect();
        match random.next_u64() % 2 {
            0 => calls.extend(asked),
            _ => calls.push((Side::Request, joined(asked))),
        }
        match random.next_u64() % 2 {
            0 => calls.extend(answers),
            _ => calls.push((Side::Response, joined(answers))),
        }
    }
    calls
}

/// The host is that of the group, as far as the response is there.
fn is_right(cells: &[String]) -> bool {
    let number = |text: &str, sign: &str| {
        let (_, rest) = text.split_once(sign)?;
        rest.split('"').next()?.parse::<u32>().ok()
    };
    match (number(&cells[2], "\"key\":\"g"), number(&cells[3], "\"host\":\"h")) {
        (Some(group), Some(host)) => group == host,
        _ => true,
    }
}

/// Whatever is lost, no request has another's response; afterwards everything is read again.
#[test]
fn losses() {
    for one_in in [4, 8, 20] {
        let right = check_random_gaps(&PROTOCOL, 300, one_in, conversation, is_right);
        assert!(right > 300 * 5, "{right} rows");
    }
    let calls = conversation(&mut SplitMix(3));
    let probe = find_coordinator(99, 99);
    check_recovery(&PROTOCOL, 200, &calls, &probe, 10_000_000_000);
}

#[test]
fn any_bytes() {
    check_any_bytes(&PROTOCOL, 600, &conversation(&mut SplitMix(1)));
    let real: Vec<Call> = captured()
        .into_iter()
        .enumerate()
        .flat_map(|(n, (_, _, request, response))| numbered([request, response], n as i32))
        .collect();
    check_any_bytes(&PROTOCOL, 300, &real);
}

/// Requests of all kinds and versions are told by themselves, whole or begun; responses and what other
/// protocols say are not taken, however much looks like a length and small numbers.
#[test]
fn recognised() {
    for (key, version, request, response) in captured() {
        for opened in [true, false] {
            let taken = verdict(&PROTOCOL, &request, opened);
            assert_eq!(taken, Verdict::Is(Side::Request), "{key} {version}");
            let taken = verdict(&PROTOCOL, &response, opened);
            assert!(!matches!(taken, Verdict::Is(_)), "{key} {version}: {taken:?}");
        }
        let odd = header(&request)
            .is_some_and(|header| is_odd_metadata(&header, behind_header(&request, &header)));
        for at in (4..request.len()).filter(|_| !odd) {
            let begun = is_request(&request[..at]);
            assert_ne!(begun, Recognised::No, "{key} {version} at {at}");
            assert!(begun != Recognised::Yes || at >= 32, "{key} {version} at {at}");
        }
    }
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (16 * pair[0] + pair[1]) as u8).collect()
    };
    let others = [
        // ZooKeeper's connect, PostgreSQL's startup, FastCGI, MySQL's greeting, CQL, AMQP, yamux, SMB.
        hex(
            "0000002c 00000000 00000000 00000000 00007530 00000000 00000000 00000010 00000000000000000000000000000000",
        ),
        hex(
            "0000002c 00000000 00000000 00000a01 00007530 01000abc de001234 00000010 00000000000000000000000000000000",
        ),
        [&[0, 0, 0, 41, 0, 3, 0, 0][..], b"user\0postgres\0database\0postgres\0\0\0"].concat(),
        hex(
            "01010001 00080000 00010000 00000000 01040001 00190000 0e035343 52495054 5f46494c 454e414d 45",
        ),
        hex("4a000000 0a382e30 2e333000 0a000000 11223344 55667788 00"),
        hex("04000000 01000000 16000100 0b43514c 5f564552 53494f4e 0005332e 302e30"),
        hex("01000000 0000 0c 000a 000b 00000000 00000000 ce"),
        hex("00000001 00000001 00000000 00020001 00000001 00000000 0000000000000000"),
        hex("00000054 ff534d42 72000000 001853c8 00000000 00000000 00000000 0000feff 00000000"),
        // Thrift and Mux in frames, gRPC's message, an ASN.1 sequence.
        hex("0000001c 80010001 00000004 70696e67 00000001 00000000 00000000 00000000"),
        hex("00000010 02000001 00000000 0474657374 0000 0000 6869 00000000000000000000"),
        hex("00000000 2a0a2868 656c6c6f 2c20776f 726c6421 2068656c 6c6f2c20 776f726c 64210a"),
        vec![0; 64],
    ];
    for other in others {
        let taken = verdict(&PROTOCOL, &other, true);
        assert!(!matches!(taken, Verdict::Is(_)), "{}", other.escape_ascii());
    }
    let mut random = SplitMix(11);
    for _ in 0..100_000 {
        // A length that fits, a key and version that exist, and noise.
        let count = 20 + (random.next_u64() % 100) as usize;
        let mut bytes: Vec<u8> = (0..count).map(|_| random.next_u64() as u8).collect();
        bytes[..3].fill(0);
        bytes[4] = 0;
        bytes[6] = 0;
        bytes[5] %= 20;
        bytes[7] %= 4;
        let taken = verdict(&PROTOCOL, &bytes, true);
        assert!(!matches!(taken, Verdict::Is(_)), "{}", bytes.escape_ascii());
    }
}

/// A connection that was joined within a message: what follows is read. What is not Kafka is given up.
#[test]
fn joined_midway() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(b"\0\0rest of a message");
    wire.answer(&find_coordinator(3, 3)[1].1);
    for n in 4..8 {
        for (side, bytes) in find_coordinator(n, n) {
            wire.call(side, &bytes);
        }
    }
    wire.wait(REORDER_GRACE_NS);
    assert_eq!(wire.rows().len(), 4);
    assert!(wire.rows().iter().all(|row| is_right(&row.cells)));
    let mut wire = Wire::new(&PROTOCOL);
    for _ in 0..70 {
        wire.ask(b"GET / HTTP/1.1\r\n\r\n");
    }
    assert!(wire.parser.is_wrong());
}
