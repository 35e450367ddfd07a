//! How frames travel: packed one by one, or in segments.

use super::*;
use crate::cql::segments::SegmentHead;

/// LZ4 of literals only.
fn lz4(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if text.len() < 15 {
        out.push((text.len() as u8) << 4);
    } else {
        out.push(0xf0);
        out.extend(vec![255; (text.len() - 15) / 255]);
        out.push(((text.len() - 15) % 255) as u8);
    }
    out.extend(text);
    out
}

fn packed(version: u8, stream: i16, opcode: u8, body: &[u8], packing: &str) -> Vec<u8> {
    let body = match packing {
        "lz4" => [&(body.len() as u32).to_be_bytes()[..], &lz4(body)].concat(),
        _ => snap::raw::Encoder::new().compress_vec(body).unwrap(),
    };
    flagged(version, 1, stream, opcode, &body)
}

fn head(numbers: u64, bytes: usize) -> Vec<u8> {
    let numbers = &numbers.to_le_bytes()[..bytes];
    [numbers, &crc24(numbers).to_le_bytes()[..3]].concat()
}

/// A segment; of the shape for LZ4 it is packed, if that is wanted.
pub(super) fn segment(payload: &[u8], is_self_contained: bool, shape: &str) -> Vec<u8> {
    let flag = u64::from(is_self_contained);
    let (head, payload) = match shape {
        "plain" => (head(payload.len() as u64 | flag << 17, 3), payload.to_vec()),
        "lz4" => {
            let packed = lz4(payload);
            let lengths = packed.len() as u64 | (payload.len() as u64) << 17;
            (head(lengths | flag << 34, 5), packed)
        }
        _ => (head(payload.len() as u64 | flag << 34, 5), payload.to_vec()),
    };
    let end = crc32(&payload).to_le_bytes();
    [head, payload, end.to_vec()].concat()
}

const SHAPES: [&str; 3] = ["plain", "lz4", "unpacked"];

/// Heads and ends as Cassandra's client and server write them.
#[test]
fn checksums() {
    assert_eq!(crc24(&[]), 0x87_5060);
    let whole = segment(&[1, 2, 3], true, "plain");
    assert_eq!(SegmentHead::of_any(&whole).map(|head| head.total_bytes()), Some(13));
    for at in 0..6 {
        let mut wrong = whole.clone();
        wrong[at] ^= 4;
        assert_eq!(SegmentHead::of_any(&wrong), None, "{at}");
    }
}

/// Bodies that are packed by either library, from where both ends agree on it; joined midway as well.
#[test]
fn packed_bodies() {
    for packing in ["lz4", "snappy"] {
        let options = [("CQL_VERSION", "3.0.0"), ("COMPRESSION", packing)];
        let mut calls: Vec<Call> =
            pair(startup(4, &options), frame(4, 0, opcode::READY, b"")).to_vec();
        let text = "SELECT name FROM orders WHERE id = 7 AND name = 'nuts and bolts'";
        let body = query_body(4, text);
        let answer = packed(4, 1, opcode::RESULT, &rows(&[("name", 13)], 2), packing);
        calls.extend(pair(packed(4, 1, opcode::QUERY, &body, packing), answer));
        let want = format!(
            "7 | {text} | 8 | Response type = ROWS\nNumber of columns = 1\n[\"name\"]\nNumber of rows = 2"
        );
        assert_eq!(lines_of(&PROTOCOL, &calls)[1], want);
        check_every_split(&PROTOCOL, &calls);
        for (side, bytes) in &calls[2..] {
            assert_eq!(verdict(&PROTOCOL, bytes, false), Verdict::Is(*side));
        }
        let mut wire = Wire::begun(&PROTOCOL, false);
        calls[2..].iter().for_each(|(side, bytes)| wire.call(*side, bytes));
        wire.close();
        assert_eq!(wire.lines(), [want]);
    }
    // A long one is read as far as a row shows, and what is none is an empty text of a whole row.
    let options = [("CQL_VERSION", "3.0.0"), ("COMPRESSION", "lz4")];
    let mut calls: Vec<Call> = pair(startup(4, &options), frame(4, 0, opcode::READY, b"")).to_vec();
    let large = rows(&[("name", 13)], 100_000);
    calls.extend(pair(query(4, 1, "SELECT 1"), packed(4, 1, opcode::RESULT, &large, "lz4")));
    let broken = flagged(4, 1, 2, opcode::RESULT, &[0xff; 40]);
    calls.extend(pair(query(4, 2, "SELECT 2"), broken));
    let lines = lines_of(&PROTOCOL, &calls);
    assert!(lines[1].ends_with("Number of rows = 100000"), "{lines:?}");
    assert_eq!(lines[2], "7 | SELECT 2 | 8 | ");
}

/// What a client and a server say in version 5: from the answer to STARTUP on in segments.
fn in_segments(shape: &str) -> Vec<Call> {
    let (calls, _) = session(5);
    let started = |(_, bytes): &Call| matches!(bytes[4], 1 | 3 | 5 | 6);
    let wrap = |call: Call| match started(&call) {
        true => call,
        false => (call.0, segment(&call.1, true, shape)),
    };
    calls.into_iter().map(wrap).collect()
}

/// Segments of all shapes, in pieces of any length, and joined midway.
#[test]
fn segments() {
    for shape in SHAPES {
        let (calls, lines) = (in_segments(shape), session(5).1);
        assert_eq!(lines_of(&PROTOCOL, &calls), lines, "{shape}");
        check_every_split(&PROTOCOL, &calls);
        for (side, bytes) in &calls[4..] {
            assert_eq!(verdict(&PROTOCOL, bytes, false), Verdict::Is(*side), "{shape}");
            assert!(!matches!(verdict(&PROTOCOL, bytes, true), Verdict::Is(_)));
        }
        let mut wire = Wire::begun(&PROTOCOL, false);
        wire.answer(&segment(b"the middle of a frame", false, shape));
        calls[4..].iter().for_each(|(side, bytes)| wire.call(*side, bytes));
        wire.settle();
        wire.close();
        assert_eq!(wire.lines(), lines[2..], "{shape}");
    }
}

/// Several frames in a segment, and one over several; what is missing of them is known.
#[test]
fn frames_and_segments() {
    let asked: Vec<u8> = (0..4).flat_map(|n| query(5, n, &format!("SELECT w{n}-"))).collect();
    let large = frame(5, 0, opcode::RESULT, &rows(&[("name", 13)], 60_000));
    let parts: Vec<Vec<u8>> =
        large.chunks(100_000).map(|part| segment(part, false, "plain")).collect();
    let rest: Vec<u8> = (1..4).flat_map(|n| error(5, n, 0x2200, &format!("w{n}-"))).collect();
    let full = |lost: Option<usize>| {
        let mut wire = Wire::new(&PROTOCOL);
        let [start, ready] = plain_startup(5);
        wire.ask(&start);
        wire.answer(&ready);
        wire.ask(&segment(&asked, true, "plain"));
        for (idx, part) in parts.iter().enumerate() {
            match lost == Some(idx) {
                true => {
                    wire.lose(Side::Response, part.len() as u64);
                }
                false => wire.answer(part),
            }
        }
        wire.answer(&segment(&rest, true, "plain"));
        wire.settle();
        wire.ask(&segment(&query(5, 9, "SELECT 9"), true, "plain"));
        wire.answer(&segment(&void(5, 9), true, "plain"));
        wire.settle();
        wire.close();
        wire
    };
    assert_eq!(parts.len(), 3);
    let lines = full(None).lines();
    assert!(lines[1].starts_with("7 | SELECT w0- | 8 | ") && lines[1].ends_with("rows = 60000"));
    assert_eq!(lines[3], "7 | SELECT w2- | 0 | [8704] w2-");
    assert_eq!(lines.len(), 6);
    // Whose answers are missing nobody knows; what is asked afterwards is answered.
    for lost in [0, 1, 2] {
        let wire = full(Some(lost));
        assert_eq!(wire.lines().last().unwrap(), "7 | SELECT 9 | 8 | Response type = VOID");
        assert!(wire.rows().iter().all(|row| super::losses::is_right(&row.cells)));
        assert_eq!(wire.rows().len() as u64 + wire.counters().gap, 6, "{lost}");
    }
}

/// A segment that was changed on its way brings nothing, and what follows it is read.
#[test]
fn broken_segments() {
    let [start, ready] = plain_startup(5);
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&start);
    wire.answer(&ready);
    let mut broken = segment(&query(5, 1, "SELECT 1"), true, "lz4");
    broken[20] ^= 1;
    wire.ask(&broken);
    wire.ask(&segment(&query(5, 2, "SELECT 2"), true, "lz4"));
    wire.answer(&segment(&[void(5, 1), void(5, 2)].concat(), true, "lz4"));
    wire.settle();
    wire.close();
    assert_eq!(wire.lines()[1..], ["7 | SELECT 2 | 8 | Response type = VOID"]);
}

const CAPTURED: &str = include_str!("captured.txt");

/// A real session, in segments that are packed, and one of the old kind: all fields of all rows.
#[test]
fn a_real_session() {
    const INSERT: &str = "INSERT INTO t (id,name,at,u,d,l,m,b,f,ok) VALUES (?,?,?,?,?,?,?,?,?,?)";
    let rows = "8 | Response type = ROWS\nNumber of columns = 11\n[\"id\",\"a\",\"at\",\"b\",\"d\",\"f\",\"l\",\"m\",\"name\",\"ok\",\"u\"]\nNumber of rows = 1";
    let lines = |id: &str| {
        [
            r#"5 |  | 6 | {"PROTOCOL_VERSIONS":["3/v3","4/v4","5/v5","6/v6-beta"],"COMPRESSION":["snappy","lz4"],"CQL_VERSION":["3.4.6"]}"#.to_string(),
            r#"1 | {"DRIVER_NAME":"Apache Cassandra Python Driver","DRIVER_VERSION":"3.30.1","COMPRESSION":"lz4","CQL_VERSION":"3.4.6"} | 2 | "#.to_string(),
            "7 | USE k5lz4 | 8 | Response type = SET_KEYSPACE\nKeyspace = k5lz4".to_string(),
            format!("9 | {INSERT} | 8 | Response type = PREPARED"),
            format!(
                "10 | query=[{INSERT}] params=[0, name 0, 2024-02-29 12:00:00.000+0000, 00000000-0000-0000-0000-000000000000, 12.34, [1, 0], {{'a': 0}}, 0x00ff, 1.5, true] | 8 | Response type = VOID"
            ),
            "9 | SELECT * FROM t WHERE id = ? | 8 | Response type = PREPARED".to_string(),
            format!("10 | query=[SELECT * FROM t WHERE id = ?] params=[0] | {rows}"),
            "7 | SELECT * FROM nothing | 0 | [8704] table nothing does not exist".to_string(),
            format!(
                r#"13 | [{{"query":"DELETE FROM t WHERE id = 1"}},{{"id":"{id}"}}] | 8 | Response type = VOID"#
            ),
            format!("7 | SELECT * FROM t WHERE id = 3 | {rows}"),
        ]
    };
    let calls = |connection: &str| -> Vec<Call> {
        let call = |line: &str| {
            let (side, bytes) = line.strip_prefix(connection)?.trim_start().split_once(' ')?;
            Some((if side == "q" { Side::Request } else { Side::Response }, hex(bytes)))
        };
        CAPTURED.lines().filter_map(call).collect()
    };
    let first = lines("305e8dbeae0e2e2724c63f3b3f7114b8");
    let second = lines("878e991162a0f58849dd55b86ca04273");
    let second = [1, 3, 4, 7, 8, 9].map(|idx: usize| second[idx].clone());
    for (connection, lines) in [("1", &first[..]), ("2", &second)] {
        let calls = calls(connection);
        assert_eq!(lines_of(&PROTOCOL, &calls), lines);
        check_every_split(&PROTOCOL, &calls);
        for (side, bytes) in &calls {
            assert_eq!(verdict(&PROTOCOL, bytes, false), Verdict::Is(*side));
        }
    }
}
