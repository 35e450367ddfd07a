//! Frames as bytes in, rows as text out: each kind of message in each version, and what is done to them.

mod losses;
mod wires;

use super::PROTOCOL;
use super::segments::{crc24, crc32};
use super::types::{opcode, side_of};
use crate::Side;
use crate::protocol::Verdict;
use crate::redact::{Mode, Redactor};
use crate::testing::{Call, Wire, check_every_split, lines_of, verdict};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (16 * pair[0] + pair[1]) as u8).collect()
}

fn flagged(version: u8, flags: u8, stream: i16, opcode: u8, body: &[u8]) -> Vec<u8> {
    let direction = if side_of(opcode) == Some(Side::Response) { 0x80 } else { 0 };
    let [high, low] = stream.to_be_bytes();
    let head = [version | direction, flags, high, low, opcode];
    [&head[..], &(body.len() as u32).to_be_bytes(), body].concat()
}

fn frame(version: u8, stream: i16, opcode: u8, body: &[u8]) -> Vec<u8> {
    flagged(version, 0, stream, opcode, body)
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn long(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text].concat()
}

fn startup(version: u8, options: &[(&str, &str)]) -> Vec<u8> {
    let mut body = (options.len() as u16).to_be_bytes().to_vec();
    options.iter().for_each(|(name, text)| body.extend([string(name), string(text)].concat()));
    frame(version, 0, opcode::STARTUP, &body)
}

fn plain_startup(version: u8) -> [Vec<u8>; 2] {
    [startup(version, &[("CQL_VERSION", "3.4.5")]), frame(version, 0, opcode::READY, b"")]
}

fn query_body(version: u8, text: &str) -> Vec<u8> {
    let parameters: &[u8] = if version == 5 { &[0, 1, 0, 0, 0, 0x20] } else { &[0, 1, 0x20] };
    [&long(text.as_bytes()), parameters, &[0, 5, 0x9d, 0xaf, 0x91, 0xd4, 0xc0, 0x5c]].concat()
}

fn query(version: u8, stream: i16, text: &str) -> Vec<u8> {
    frame(version, stream, opcode::QUERY, &query_body(version, text))
}

fn void(version: u8, stream: i16) -> Vec<u8> {
    frame(version, stream, opcode::RESULT, &[0, 0, 0, 1])
}

fn error(version: u8, stream: i16, code: u32, text: &str) -> Vec<u8> {
    frame(version, stream, opcode::ERROR, &[&code.to_be_bytes()[..], &string(text)].concat())
}

/// A result of columns with their types, in one table, and rows of empty values.
fn rows(columns: &[(&str, u8)], count: u32) -> Vec<u8> {
    let head = [2, 1, columns.len() as u32].map(u32::to_be_bytes).concat();
    let mut body = [head, string("shop"), string("orders")].concat();
    columns.iter().for_each(|(name, of)| body.extend([string(name), vec![0, *of]].concat()));
    body.extend(count.to_be_bytes());
    body.extend(vec![0; 4 * columns.len() * count as usize]);
    body
}

const ID: [u8; 16] = *b"\x5c\x6e\x15\xd4\x08\x4b\x0f\xd0\xd5\x5a\x6e\x4b\x16\x48\x92\x7c";

fn short(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// What was prepared: parameters by name and type.
fn prepared(version: u8, id: &[u8], parameters: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = [&[0, 0, 0, 4][..], &short(id)].concat();
    if version == 5 {
        body.extend(short(&[7; 16]));
    }
    body.extend([1, parameters.len() as u32].map(u32::to_be_bytes).concat());
    if version >= 4 {
        body.extend([0, 0, 0, 1, 0, 0]);
    }
    body.extend([string("shop"), string("orders")].concat());
    parameters.iter().for_each(|(name, of)| body.extend([&string(name)[..], of].concat()));
    body.extend([4, 0].map(u32::to_be_bytes).concat());
    body
}

fn execution(version: u8, id: &[u8], values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = short(id);
    if version == 5 {
        body.extend(short(&[7; 16]));
    }
    body.extend([0, 1]);
    body.extend(if version == 5 { &[0, 0, 0, 0x25][..] } else { &[0x25] });
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        body.extend(value.map_or(vec![0xff; 4], long));
    }
    body.extend([0, 0, 0x13, 0x88, 0, 5, 0x9d, 0xaf, 0x91, 0xd4, 0xc0, 0x5c]);
    body
}

fn pair(asked: Vec<u8>, answer: Vec<u8>) -> [Call; 2] {
    [(Side::Request, asked), (Side::Response, answer)]
}

/// A request, its response, and the row that they are.
type Add<'a> = dyn FnMut(Vec<u8>, Vec<u8>, &str) + 'a;

/// A session of all kinds of messages, and the rows it is.
fn session(version: u8) -> (Vec<Call>, Vec<String>) {
    let mut calls: Vec<Call> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    let mut add = |asked: Vec<u8>, answer: Vec<u8>, line: &str| {
        calls.extend(pair(asked, answer));
        lines.push(line.to_string());
    };
    opening(version, &mut add);
    queries(version, &mut add);
    statements(version, &mut add);
    (calls, lines)
}

fn opening(version: u8, add: &mut Add<'_>) {
    let ask = |code, body: &[u8]| frame(version, 3, code, body);
    let answer = ask;
    let multimap = [
        vec![0, 2],
        [string("COMPRESSION"), vec![0, 2], string("snappy"), string("lz4")].concat(),
        [string("CQL_VERSION"), vec![0, 1], string("3.4.5")].concat(),
    ];
    add(
        ask(opcode::OPTIONS, b""),
        answer(opcode::SUPPORTED, &multimap.concat()),
        r#"5 |  | 6 | {"COMPRESSION":["snappy","lz4"],"CQL_VERSION":["3.4.5"]}"#,
    );
    add(
        startup(version, &[("CQL_VERSION", "3.4.5"), ("DRIVER_NAME", "a \"b\"")]),
        frame(
            version,
            0,
            opcode::AUTHENTICATE,
            &string("org.apache.cassandra.auth.PasswordAuthenticator"),
        ),
        r#"1 | {"CQL_VERSION":"3.4.5","DRIVER_NAME":"a \"b\""} | 3 | org.apache.cassandra.auth.PasswordAuthenticator"#,
    );
    add(
        ask(opcode::AUTH_RESPONSE, &long(b"\0bob\0s3cret")),
        answer(opcode::AUTH_CHALLENGE, &long(b"more")),
        "15 | <REDACTED> | 14 | <REDACTED>",
    );
    add(
        ask(opcode::AUTH_RESPONSE, &long(b"\0bob\0s3cret")),
        answer(opcode::AUTH_SUCCESS, &[0xff; 4]),
        "15 | <REDACTED> | 16 | ",
    );
    let events = [vec![0, 2], string("SCHEMA_CHANGE"), string("STATUS_CHANGE")].concat();
    add(
        ask(opcode::REGISTER, &events),
        answer(opcode::READY, b""),
        r#"11 | ["SCHEMA_CHANGE","STATUS_CHANGE"] | 2 | "#,
    );
}

fn queries(version: u8, add: &mut Add<'_>) {
    let answer = |code, body: &[u8]| frame(version, 3, code, body);
    add(
        query(version, 3, "USE shop"),
        answer(opcode::RESULT, &[&[0, 0, 0, 3][..], &string("shop")].concat()),
        "7 | USE shop | 8 | Response type = SET_KEYSPACE\nKeyspace = shop",
    );
    add(
        query(version, 3, "SELECT id, name FROM orders"),
        answer(opcode::RESULT, &rows(&[("id", 9), ("name", 13)], 3)),
        "7 | SELECT id, name FROM orders | 8 | Response type = ROWS\nNumber of columns = 2\n[\"id\",\"name\"]\nNumber of rows = 3",
    );
    add(
        query(version, 3, "SELECT * FROM nothing"),
        error(version, 3, 0x2200, "unconfigured table nothing"),
        "7 | SELECT * FROM nothing | 0 | [8704] unconfigured table nothing",
    );
    let change = [string("CREATED"), string("TABLE"), string("shop"), string("t")].concat();
    add(
        query(version, 3, "CREATE TABLE t (id int PRIMARY KEY)"),
        answer(opcode::RESULT, &[&[0, 0, 0, 5][..], &change].concat()),
        "7 | CREATE TABLE t (id int PRIMARY KEY) | 8 | Response type = SCHEMA_CHANGE",
    );
}

fn statements(version: u8, add: &mut Add<'_>) {
    let ask = |code, body: &[u8]| frame(version, 3, code, body);
    let answer = ask;
    let text = "INSERT INTO orders (id, name, at) VALUES (?, ?, ?)";
    let flags: &[u8] = if version == 5 { &[0; 4] } else { &[] };
    let types: [(&str, &[u8]); 3] = [("id", &[0, 9]), ("name", &[0, 13]), ("at", &[0, 11])];
    add(
        ask(opcode::PREPARE, &[&long(text.as_bytes()), flags].concat()),
        answer(opcode::RESULT, &prepared(version, &ID, &types)),
        &format!("9 | {text} | 8 | Response type = PREPARED"),
    );
    let at = 1_709_208_001_000i64.to_be_bytes();
    let values = [Some(&[0, 0, 0, 7][..]), Some(b"nuts"), Some(&at)];
    add(
        ask(opcode::EXECUTE, &execution(version, &ID, &values)),
        answer(opcode::RESULT, &[0, 0, 0, 1]),
        &format!(
            "10 | query=[{text}] params=[7, nuts, 2024-02-29 12:00:01.000+0000] | 8 | Response type = VOID"
        ),
    );
    add(
        ask(opcode::EXECUTE, &execution(version, &ID, &[Some(&[0xff; 4]), None])),
        answer(opcode::RESULT, &[0, 0, 0, 1]),
        &format!("10 | query=[{text}] params=[-1, NULL] | 8 | Response type = VOID"),
    );
    let first = [&[0][..], &long(b"DELETE FROM a"), &[0, 0]].concat();
    let second = [&[1][..], &short(&ID), &[0, 1], &long(b"x")].concat();
    let end: &[u8] = if version == 5 { &[0, 1, 0, 0, 0, 0] } else { &[0, 1, 0] };
    add(
        ask(opcode::BATCH, &[&[0, 0, 2][..], &first, &second, end].concat()),
        answer(opcode::RESULT, &[0, 0, 0, 1]),
        r#"13 | [{"query":"DELETE FROM a"},{"id":"5c6e15d4084b0fd0d55a6e4b1648927c"}] | 8 | Response type = VOID"#,
    );
}

/// Every kind of message, in every version, with every field; the time is that of the response.
#[test]
fn kinds_of_messages() {
    for version in [3, 4, 5] {
        let (calls, lines) = session(version);
        assert_eq!(lines_of(&PROTOCOL, &calls), lines, "{version}");
        let mut wire = Wire::new(&PROTOCOL);
        calls.iter().for_each(|(side, bytes)| wire.call(*side, bytes));
        wire.wait(5_000);
        for (idx, row) in wire.rows().iter().enumerate() {
            assert_eq!((row.time_ns, row.cells[4].as_str()), (3_000 + 2_000 * idx as i64, "1000"));
            assert!(!row.is_push && row.of.table == 0);
        }
        assert_eq!(wire.close().len(), lines.len());
        check_every_split(&PROTOCOL, &calls);
    }
}

/// What a server says of its own accord is a row at once, and answers nothing.
#[test]
fn events() {
    let [asked, ready] = plain_startup(4);
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&asked);
    wire.answer(&ready);
    wire.ask(&query(4, 0, "SELECT 1"));
    let address = [&[4, 10, 0, 0, 7][..], &9_042u32.to_be_bytes()].concat();
    let status = [string("STATUS_CHANGE"), string("UP"), address].concat();
    let table = ["SCHEMA_CHANGE", "UPDATED", "TABLE", "shop", "orders"].map(string).concat();
    let keyspace = ["SCHEMA_CHANGE", "DROPPED", "KEYSPACE", "shop"].map(string).concat();
    for body in [status, table, keyspace] {
        wire.answer(&frame(4, -1, opcode::EVENT, &body));
    }
    let row = &wire.rows()[1];
    assert_eq!((row.time_ns, row.cells[4].as_str(), row.is_push), (5_000, "0", false));
    wire.answer(&void(4, 0));
    wire.close();
    let want = [
        "11 |  | 12 | STATUS_CHANGE UP 10.0.0.7",
        "11 |  | 12 | SCHEMA_CHANGE UPDATED keyspace=shop name=orders",
        "11 |  | 12 | SCHEMA_CHANGE DROPPED keyspace=shop name=",
        "7 | SELECT 1 | 8 | Response type = VOID",
    ];
    assert_eq!(wire.lines()[1..], want);
}

/// What was prepared elsewhere, before, or under an id that only its server knows; values of other types;
/// and values of a query, of which nobody says the types.
#[test]
fn values_and_statements() {
    let calls = |id: &[u8]| {
        let body = execution(4, id, &[Some(b"\0\x01")]);
        pair(frame(4, 1, opcode::EXECUTE, &body), void(4, 1))
    };
    let unknown = lines_of(&PROTOCOL, &calls(&ID));
    assert_eq!(unknown, ["10 | query=[] params=[0x0001] | 8 | Response type = VOID"]);
    let list: &[u8] = &[0, 0x20, 0, 0x14];
    for id in [&ID[..], b"short"] {
        let prepare = frame(4, 1, opcode::PREPARE, &long(b"SELECT ?"));
        let answer = frame(4, 1, opcode::RESULT, &prepared(4, id, &[("x", list)]));
        let mut all: Vec<Call> = pair(prepare, answer).to_vec();
        let value = hex("00000002 00000001 05 00000001 fb");
        let body = execution(4, id, &[Some(&value)]);
        all.extend(pair(frame(4, 2, opcode::EXECUTE, &body), void(4, 2)));
        let want = "10 | query=[SELECT ?] params=[[5, -5]] | 8 | Response type = VOID";
        assert_eq!(lines_of(&PROTOCOL, &all)[1], want);
    }
    let body = [&long(b"SELECT ?")[..], &hex("0001 01 0002 00000002 00ff ffffffff")].concat();
    let lines = lines_of(&PROTOCOL, &pair(frame(4, 9, opcode::QUERY, &body), void(4, 9)));
    assert_eq!(lines, ["7 | SELECT ?\n[\"0x00ff\",null] | 8 | Response type = VOID"]);
    let named = [&short(&ID)[..], &hex("0001 41 0001 0001 6b 00000001 61")].concat();
    let lines = lines_of(&PROTOCOL, &pair(frame(4, 9, opcode::EXECUTE, &named), void(4, 9)));
    assert_eq!(lines, ["10 | query=[] params=[k=0x61] | 8 | Response type = VOID"]);
}

/// What flags put in front of a body is stepped over.
#[test]
fn flags_before_bodies() {
    let payload = [&[0, 1][..], &string("key"), &long(b"value")].concat();
    let warnings = [&[0, 2][..], &string("slow"), &string("large")].concat();
    let cases = [
        (0x02, vec![9; 16], vec![]),
        (0x08, warnings.clone(), vec![]),
        (0x04, payload.clone(), payload.clone()),
        (0x0e, [vec![9; 16], warnings, payload.clone()].concat(), payload),
    ];
    for (flags, before_answer, before_query) in cases {
        let body = [before_query, query_body(4, "SELECT 1")].concat();
        let asked = flagged(4, flags & 0x06, 5, opcode::QUERY, &body);
        let body = [before_answer, rows(&[("a", 9)], 0)].concat();
        let answer = flagged(4, flags, 5, opcode::RESULT, &body);
        let want = "7 | SELECT 1 | 8 | Response type = ROWS\nNumber of columns = 1\n[\"a\"]\nNumber of rows = 0";
        assert_eq!(lines_of(&PROTOCOL, &pair(asked, answer)), [want], "{flags}");
    }
}

/// Passwords in statements and logins are not shown; nor is anything, if bodies are to be hidden.
#[test]
fn secrets_are_hidden() {
    let asked = query(4, 1, "CREATE ROLE bob WITH PASSWORD = 's3cret' AND LOGIN = true");
    let login = frame(4, 2, opcode::AUTH_RESPONSE, &long(b"\0bob\0s3cret"));
    for (mode, want) in [
        (Mode::Secrets, "CREATE ROLE bob WITH PASSWORD = '<REDACTED>' AND LOGIN = true"),
        (Mode::Bodies, "<REDACTED>"),
        (Mode::Off, "CREATE ROLE bob WITH PASSWORD = 's3cret' AND LOGIN = true"),
    ] {
        let mut wire = Wire::new(&PROTOCOL);
        wire.config.redactor = Redactor::new(mode, &[], None);
        wire.ask(&asked);
        wire.answer(&void(4, 1));
        wire.ask(&login);
        wire.answer(&frame(4, 2, opcode::AUTH_SUCCESS, &[0xff; 4]));
        wire.close();
        assert_eq!(wire.rows()[0].cells[1], want);
        let token = if mode == Mode::Off { "0x00626f6200733363726574" } else { "<REDACTED>" };
        assert_eq!(wire.rows()[1].cells[1], token);
    }
}

/// Long statements and values end where the limit is, and JSON stays JSON.
#[test]
fn limits() {
    let text = format!("SELECT '{}'", "é".repeat(2_000));
    let lines = lines_of(&PROTOCOL, &pair(query(4, 1, &text), void(4, 1)));
    assert_eq!(lines[0].split(" | ").nth(1).unwrap(), &text[..text.floor_char_boundary(512)]);
    let one = [&[0][..], &long(text.as_bytes()), &[0, 0]].concat();
    let body = [&[0, 0, 3][..], &one, &one, &one, &[0, 1, 0]].concat();
    let lines = lines_of(&PROTOCOL, &pair(frame(4, 1, opcode::BATCH, &body), void(4, 1)));
    let json: serde_json::Value =
        serde_json::from_str(lines[0].split(" | ").nth(1).unwrap()).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 3);
    let value = vec![b'v'; 5_000];
    let body = execution(4, &ID, &[Some(&value), Some(&value)]);
    let lines = lines_of(&PROTOCOL, &pair(frame(4, 1, opcode::EXECUTE, &body), void(4, 1)));
    assert!(lines[0].len() < 700 && lines[0].contains("] | 8"), "{}", lines[0]);
}

/// By frames of every kind, of either side, whole or begun; not by what looks like their heads.
#[test]
fn recognised() {
    for version in [3, 4, 5] {
        for (side, bytes) in session(version).0 {
            for opened in [true, false] {
                let shown = bytes.escape_ascii();
                assert_eq!(verdict(&PROTOCOL, &bytes, opened), Verdict::Is(side), "{shown}");
                for at in 1..bytes.len() {
                    let begun = verdict(&PROTOCOL, &bytes[..at], opened);
                    assert_ne!(begun, Verdict::IsNot, "{at} of {shown}");
                    assert!(begun == Verdict::Unsure || at >= 32, "{at} of {shown}");
                }
            }
            let twice = [&bytes[..], &bytes].concat();
            assert_eq!(verdict(&PROTOCOL, &twice, true), Verdict::Is(side));
            let noise = [&bytes[..], b"GET / HTTP/1.1"].concat();
            assert!(!matches!(verdict(&PROTOCOL, &noise, true), Verdict::Is(_)));
        }
    }
    let dse = frame(0x42, 0, opcode::OPTIONS, b"");
    assert_eq!(verdict(&PROTOCOL, &dse, true), Verdict::Is(Side::Request));
    let others = [
        frame(2, 0, opcode::OPTIONS, b""),
        frame(4, -1, opcode::OPTIONS, b""),
        frame(4, 0, opcode::OPTIONS, b"x"),
        flagged(4, 0x20, 0, opcode::OPTIONS, b""),
        frame(4, 0, 0x04, b""),
        frame(4, 0, opcode::QUERY, &[0; 40]),
        frame(4, 0, opcode::QUERY, &[&long(b"SELECT 1\0")[..], &[0, 1, 0]].concat()),
        frame(4, 0, opcode::QUERY, &[&long(b"SELECT 1")[..], &[9, 1, 0]].concat()),
        frame(4, 0, opcode::PREPARE, &[&long(b"SELECT 1")[..], &[0]].concat()),
        frame(4, 0, opcode::RESULT, &[0, 0, 0, 9]),
        frame(4, 0, opcode::RESULT, &[0, 0, 0, 1, 0]),
        frame(4, 0, opcode::ERROR, &[0; 20]),
        [&frame(4, 0, opcode::READY, b"")[..], &[0; 9]].concat(),
        hex("04000000 05000000 00000000"),
        hex("03000000 0a000000 00000000 0000000000000000"),
    ];
    for other in others {
        let taken = verdict(&PROTOCOL, &other, true);
        assert!(!matches!(taken, Verdict::Is(_)), "{}", other.escape_ascii());
    }
}
