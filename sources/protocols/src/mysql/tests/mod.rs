//! Conversations as bytes in, rows as text out.

mod hostile;
mod pairing;

use std::io::Write as _;

use weir_types::random::SplitMix;

use super::PROTOCOL;
use crate::redact::{Mode, Redactor};
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised,
};
use crate::{Counters, Side};

/// What clients can do: protocol 4.1, secure passwords, a database.
const PLAIN: u32 = 0x0000_8208 | 1;
const COMPRESS: u32 = 1 << 5;
const DEPRECATE_EOF: u32 = 1 << 24;
const ZSTD: u32 = 1 << 26;
const ATTRIBUTES: u32 = 1 << 27;

fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&length[..3], &[number], payload].concat()
}

/// Packets numbered from one on.
fn packets(payloads: &[Vec<u8>]) -> Vec<u8> {
    payloads
        .iter()
        .zip(1..)
        .flat_map(|(payload, number): (_, u32)| packet(number as u8, payload))
        .collect()
}

fn command(code: u8, payload: &[u8]) -> Vec<u8> {
    packet(0, &[&[code], payload].concat())
}

fn query(sql: &str) -> Vec<u8> {
    command(3, sql.as_bytes())
}

fn greeting() -> Vec<u8> {
    let mut payload = b"\x0a5.5.5-10.11.19-MariaDB\0\x07\0\0\0abcdefgh\0".to_vec();
    payload.extend([0xff, 0xff, 45, 2, 0, 0xff, 0xff, 21]);
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0mysql_native_password\0");
    packet(0, &payload)
}

fn login(bits: u32) -> Vec<u8> {
    let mut payload = [&bits.to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23]].concat();
    payload.extend(b"bob\0\x14s3cr3ts3cr3ts3cr3t!!shop\0mysql_native_password\0");
    packet(1, &payload)
}

fn ok(affected: u8, status: u16) -> Vec<u8> {
    [&[0, affected, 0][..], &status.to_le_bytes(), &[0, 0]].concat()
}

fn eof(status: u16) -> Vec<u8> {
    [&[0xfe, 0, 0][..], &status.to_le_bytes()].concat()
}

/// An OK packet in the place of one.
fn end(status: u16) -> Vec<u8> {
    [&[0xfe, 0, 0][..], &status.to_le_bytes(), &[0, 0]].concat()
}

fn error(code: u16, text: &str) -> Vec<u8> {
    [&[0xff][..], &code.to_le_bytes(), b"#42S02", text.as_bytes()].concat()
}

fn column(name: &str) -> Vec<u8> {
    let name = [&[name.len() as u8], name.as_bytes()].concat();
    [b"\x03def\0\0\0", &name[..], b"\0\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0"].concat()
}

fn row(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// A result of one column, and its state.
fn results(rows: &[&str], status: u16) -> Vec<Vec<u8>> {
    let mut all = vec![vec![1], column("a"), eof(2)];
    all.extend(rows.iter().map(|text| row(text)));
    all.push(eof(status));
    all
}

fn wire() -> Wire {
    Wire::new(&PROTOCOL)
}

/// A session that has begun: its row is the first one.
fn logged_in(bits: u32) -> Wire {
    let mut wire = wire();
    wire.answer(&greeting());
    wire.ask(&login(bits));
    wire.answer(&packet(2, &ok(0, 2)));
    wire
}

/// The rows behind the login's.
fn lines(wire: &Wire) -> Vec<String> {
    wire.lines().split_off(1)
}

/// The row of one command with its response.
fn line(asked: &[u8], answer: &[Vec<u8>]) -> String {
    let mut wire = logged_in(PLAIN);
    wire.ask(asked);
    wire.answer(&packets(answer));
    wire.ask(&command(0x0e, b""));
    wire.answer(&packets(&[ok(0, 2)]));
    let lines = lines(&wire);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1], "14 |  | 2 | affected_rows = 0");
    lines[0].clone()
}

/// A login is one row from what the client says to the server's last word, whatever it is asked in
/// between; nothing of a password is shown. One that is refused, and one that goes on encrypted.
#[test]
fn logins() {
    let mut switched = wire();
    switched.answer(&greeting());
    switched.ask(&login(PLAIN));
    switched.answer(&packet(2, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0"));
    switched.ask(&packet(3, b"s3cr3t"));
    switched.answer(&packet(4, b"\x01\x04"));
    switched.ask(&packet(5, b"s3cr3t\0"));
    switched.answer(&packet(6, &ok(0, 2)));
    switched.ask(&query("SELECT 1"));
    switched.answer(&packets(&results(&["1"], 2)));
    assert_eq!(
        switched.lines(),
        ["11 | user=bob db=shop | 2 | affected_rows = 0", "3 | SELECT 1 | 2 | Resultset rows = 1"]
    );
    assert_eq!(
        (switched.rows()[0].time_ns, switched.rows()[0].cells[4].as_str()),
        (1_000 + 7_000, "5000")
    );
    let mut refused = wire();
    refused.answer(&greeting());
    refused.ask(&login(PLAIN));
    refused.answer(&packet(2, &error(1045, "Access denied for user 'bob'")));
    assert_eq!(refused.lines(), ["11 | user=bob db=shop | 3 | 1045 Access denied for user 'bob'"]);
    let mut secret = wire();
    secret.answer(&greeting());
    let hello = [&(PLAIN | 0x800).to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23]].concat();
    secret.ask(&packet(1, &hello));
    secret.ask(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    assert!(secret.parser.is_done() && !secret.parser.is_wrong() && secret.close().is_empty());
    let mut changed = logged_in(PLAIN);
    changed.ask(&command(0x11, b"eve\0\x06s3cr3tother\0\x2d\0mysql_native_password\0"));
    changed.answer(&packet(1, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0"));
    changed.ask(&packet(2, b"s3cr3t"));
    changed.answer(&packet(3, &ok(0, 2)));
    assert_eq!(lines(&changed), ["17 | user=eve db=other | 2 | affected_rows = 0"]);
}

/// MariaDB says how far it has come before it answers, which is no answer: not in front of a plain one,
/// nor while a file is taken, nor between rows.
#[test]
fn progress_is_no_answer() {
    let progress = b"\xff\xff\xff\x01\x01\x02\x10\x27\0\x0fcopy to tmp tab".to_vec();
    let answers = [
        (vec![progress.clone(), progress.clone(), ok(5, 2)], "2 | affected_rows = 5"),
        (vec![progress.clone(), error(1146, "no table")], "3 | 1146 no table"),
        (
            vec![vec![1], column("a"), eof(2), progress.clone(), row("x"), eof(2)],
            "2 | Resultset rows = 1",
        ),
    ];
    for (answer, want) in answers {
        assert_eq!(line(&query("ALTER"), &answer), format!("3 | ALTER | {want}"));
    }
    let mut wire = logged_in(PLAIN);
    wire.ask(&query("LOAD DATA"));
    wire.answer(&packet(1, b"\xfbfile"));
    wire.ask(&[packet(2, b"1\n2\n"), packet(3, b"")].concat());
    wire.answer(&[packet(4, &progress), packet(5, &progress)].concat());
    wire.answer(&packet(6, &ok(2, 2)));
    assert_eq!(lines(&wire), ["3 | LOAD DATA | 2 | affected_rows = 2"]);
    // Of one that is cut it cannot be told.
    for seen in 1..4 {
        let mut cut = logged_in(PLAIN);
        cut.ask(&query("ALTER"));
        cut.cut_call(Side::Response, &packet(1, &progress), 4 + seen);
        cut.answer(&packet(2, &ok(3, 2)));
        cut.settle();
        cut.close();
        let want = if seen < 3 { "0 | " } else { "2 | affected_rows = 3" };
        assert_eq!(lines(&cut), [format!("3 | ALTER | {want}")]);
    }
    // A response begins with its answer.
    let mut slow = logged_in(PLAIN);
    slow.ask(&query("ALTER"));
    slow.answer(&packet(1, &progress));
    slow.answer(&packet(2, &ok(0, 2)));
    assert_eq!(slow.rows()[1].cells[4], "2000");
}

/// What is asked, what is answered, and the row.
type Case = (Vec<u8>, Vec<Vec<u8>>, &'static str);

/// Commands of text, and what becomes of them: rows, none, several results, a procedure's, an error, also
/// behind rows; a file of the client's.
#[test]
fn text_commands() {
    let with_more = |rows: &[&str]| results(rows, 2 | 8);
    let procedure = {
        let mut all = with_more(&["1", "2"]);
        all.extend(with_more(&[]));
        all.push(ok(0, 2));
        all
    };
    let mixed = [vec![ok(3, 2 | 8)], results(&["x"], 2)].concat();
    let broken =
        [vec![vec![1], column("a"), eof(2), row("x")], vec![error(1317, "interrupted")]].concat();
    let cases: [Case; 14] = [
        (query("SELECT a"), results(&["x", "y"], 2), "3 | SELECT a | 2 | Resultset rows = 2"),
        (query("SELECT a"), results(&[], 2), "3 | SELECT a | 2 | Resultset rows = 0"),
        (query("INSERT"), vec![ok(5, 2)], "3 | INSERT | 2 | affected_rows = 5"),
        (query("CALL p()"), procedure, "3 | CALL p() | 2 | Resultset rows = 2, Resultset rows = 0"),
        (
            query("UPDATE; SELECT"),
            mixed,
            "3 | UPDATE; SELECT | 2 | affected_rows = 3, Resultset rows = 1",
        ),
        (
            query("SELECT * FROM x"),
            vec![error(1146, "Table 'x' doesn't exist")],
            "3 | SELECT * FROM x | 3 | 1146 Table 'x' doesn't exist",
        ),
        (query("SELECT a"), broken, "3 | SELECT a | 3 | 1317 interrupted"),
        (command(2, b"shop"), vec![ok(0, 2)], "2 | shop | 2 | affected_rows = 0"),
        (
            command(9, b""),
            vec![b"Uptime: 5  Threads: 1".to_vec()],
            "9 |  | 2 | Uptime: 5  Threads: 1",
        ),
        (command(4, b"items\0"), vec![column("a"), column("b"), eof(2)], "4 | items | 2 | "),
        (command(0x0a, b""), results(&["1"], 2), "10 |  | 2 | Resultset rows = 1"),
        (command(0x1b, &[0, 0]), vec![eof(2)], "27 |  | 2 | "),
        (command(0x1f, b""), vec![ok(0, 2)], "31 |  | 2 | affected_rows = 0"),
        (query("/* é */ SELECT 1"), vec![ok(0, 2)], "3 | /* é */ SELECT 1 | 2 | affected_rows = 0"),
    ];
    for (asked, answer, want) in cases {
        assert_eq!(line(&asked, &answer), want);
    }
    let mut file = logged_in(PLAIN);
    file.ask(&query("LOAD DATA LOCAL INFILE 'f'"));
    file.answer(&packets(&[b"\xfb/tmp/f".to_vec()]));
    for number in 2..=600u32 {
        file.ask(&packet(number as u8, b"\x03SELECT 1"));
    }
    file.ask(&packet(601u32 as u8, b""));
    file.answer(&packet(602u32 as u8, &ok(7, 2)));
    file.ask(&query("SELECT 1"));
    file.answer(&packets(&results(&["1"], 2)));
    assert_eq!(
        lines(&file),
        [
            "3 | LOAD DATA LOCAL INFILE 'f' | 2 | affected_rows = 7",
            "3 | SELECT 1 | 2 | Resultset rows = 1"
        ]
    );
}

/// An execution with one text, one number and one null, of the statement with this number.
fn execution(id: u32) -> Vec<u8> {
    let values = b"\x04\x01\xfd\0\x08\x80\x06\0\x05hello\x07\0\0\0\0\0\0\0";
    command(0x17, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0], values].concat())
}

fn prepared(id: u32, columns: u16, parameters: u16) -> Vec<Vec<u8>> {
    let head = [
        &[0][..],
        &id.to_le_bytes(),
        &columns.to_le_bytes(),
        &parameters.to_le_bytes(),
        &[0, 0, 0],
    ];
    let mut all = vec![head.concat()];
    for count in [parameters, columns] {
        all.extend((0..count).map(|_| column("?")));
        all.extend((count > 0).then(|| eof(2)));
    }
    all
}

fn binary_rows(count: usize) -> Vec<Vec<u8>> {
    let mut all = vec![vec![1], column("a"), eof(2)];
    all.extend((0..count).map(|_| b"\0\0\x05hello".to_vec()));
    all.push(eof(2));
    all
}

/// Prepared statements: with their text and values, with types from before, with a value sent in pieces,
/// with a cursor, and joined midway: then what can be told of the values is told.
#[test]
fn prepared_statements() {
    let mut wire = logged_in(PLAIN);
    wire.ask(&command(0x16, b"SELECT ?, ?, ?"));
    wire.answer(&packets(&prepared(9, 1, 3)));
    wire.ask(&execution(9));
    wire.answer(&packets(&binary_rows(2)));
    // Types as before; the first value was sent in pieces.
    wire.ask(&command(0x18, b"\x09\0\0\0\0\0lo"));
    wire.ask(&command(0x18, b"\x09\0\0\0\0\0ng"));
    wire.ask(&command(0x17, b"\x09\0\0\0\0\x01\0\0\0\x04\0\x08\0\0\0\0\0\0\0"));
    wire.answer(&packets(&[ok(1, 2)]));
    wire.ask(&command(0x1a, &9u32.to_le_bytes()));
    wire.answer(&packets(&[ok(0, 2)]));
    // With a cursor no rows come until they are fetched.
    wire.ask(&execution(9));
    wire.answer(&packets(&[vec![1], column("a"), eof(2 | 0x40)]));
    wire.ask(&command(0x1c, b"\x09\0\0\0\x02\0\0\0"));
    wire.answer(&packets(&[b"\0\0\x01a".to_vec(), b"\0\0\x01b".to_vec(), eof(2 | 0x80)]));
    wire.ask(&[command(0x19, &9u32.to_le_bytes()), execution(9)].concat());
    wire.answer(&packets(&[error(1243, "Unknown prepared statement handler")]));
    wire.ask(&command(1, b""));
    wire.close();
    let values = "query=[SELECT ?, ?, ?] params=[hello, 7, NULL]";
    let want = [
        "22 | SELECT ?, ?, ? | 2 | ".to_string(),
        format!("23 | {values} | 2 | Resultset rows = 2"),
        "24 |  | 1 | ".to_string(),
        "24 |  | 1 | ".to_string(),
        "23 | query=[SELECT ?, ?, ?] params=[long, 8, NULL] | 2 | affected_rows = 1".to_string(),
        "26 |  | 2 | affected_rows = 0".to_string(),
        format!("23 | {values} | 2 | Resultset rows = 0"),
        "28 |  | 2 | Resultset rows = 2".to_string(),
        "25 |  | 1 | ".to_string(),
        "23 | query=[] params=[hello, 7, NULL] | 3 | 1243 Unknown prepared statement handler"
            .to_string(),
        "1 |  | 1 | ".to_string(),
    ];
    assert_eq!(lines(&wire), want);
    assert_eq!(wire.counters(), Counters { exchanges: 12, ..Counters::default() });
    let mut joined = Wire::begun(&PROTOCOL, false);
    for _ in 0..2 {
        joined.ask(&execution(5));
        joined.answer(&packets(&binary_rows(1)));
        joined.settle();
        // Whether more was asked before is certain behind a silence.
        joined.wait(1_000_000_000);
    }
    assert_eq!(joined.lines(), ["23 | query=[] params=[hello, 7, NULL] | 2 | Resultset rows = 1"]);
    // Prepared and executed at once, as MariaDB's clients do: the statement is the last one.
    let mut at_once = logged_in(PLAIN);
    at_once.ask(&[command(0x16, b"SELECT ?, ?, ?"), execution(u32::MAX)].concat());
    at_once.answer(&[packets(&prepared(3, 1, 3)), packets(&binary_rows(1))].concat());
    assert_eq!(lines(&at_once)[1], format!("23 | {values} | 2 | Resultset rows = 1"));
}

/// Clients that want no EOF packets, and those that send attributes with a query.
#[test]
fn other_abilities() {
    let mut wire = logged_in(PLAIN | DEPRECATE_EOF | ATTRIBUTES);
    wire.ask(&command(3, b"\0\x01SELECT 1"));
    wire.answer(&packets(&[vec![1], column("a"), row("x"), end(2)]));
    wire.ask(&command(3, b"\x01\x01\0\x01\xfd\0\x03key\x05valueSELECT 2"));
    wire.answer(&packets(&[
        vec![1],
        column("a"),
        end(2 | 8),
        vec![1],
        column("a"),
        row("x"),
        end(2),
    ]));
    wire.ask(&command(0x16, b"SELECT ?"));
    let described =
        prepared(4, 1, 1).into_iter().filter(|payload| payload[0] != 0xfe).collect::<Vec<_>>();
    wire.answer(&packets(&described));
    wire.ask(&command(0x17, b"\x04\0\0\0\x08\x01\0\0\0\x01\0\x01\x08\0\0\x05\0\0\0\0\0\0\0"));
    wire.answer(&packets(&[ok(1, 2)]));
    let want = [
        "3 | SELECT 1 | 2 | Resultset rows = 1",
        "3 | SELECT 2 | 2 | Resultset rows = 0, Resultset rows = 1",
        "22 | SELECT ? | 2 | ",
        "23 | query=[SELECT ?] params=[5] | 2 | affected_rows = 1",
    ];
    assert_eq!(lines(&wire), want);
}

/// Packs bytes as a side does; small ones stay as they are.
fn pack(bytes: &[u8], number: u8, is_zstd: bool) -> Vec<u8> {
    let head = |packed: usize, whole: usize| {
        [&(packed as u32).to_le_bytes()[..3], &[number], &(whole as u32).to_le_bytes()[..3]]
            .concat()
    };
    if bytes.len() < 50 {
        return [head(bytes.len(), 0), bytes.to_vec()].concat();
    }
    let packed = if is_zstd {
        zstd::stream::encode_all(bytes, 3).unwrap()
    } else {
        let mut encoder =
            flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    [head(packed.len(), bytes.len()), packed].concat()
}

/// Packed sessions give the same rows, also where a pack holds a part of a packet or many, where one is
/// lost, and where one unpacks to more than is kept.
#[test]
fn packed_sessions() {
    let select = |n: usize| query(&format!("SELECT {n} /* {} */", "x".repeat(n * 10)));
    let answer = |n: usize| packets(&results(&vec!["some text"; n], 2));
    for (bits, is_zstd) in [(COMPRESS, false), (ZSTD, true)] {
        let mut wire = logged_in(PLAIN | bits);
        let want = |n: usize| {
            format!("3 | SELECT {n} /* {} */ | 2 | Resultset rows = {n}", "x".repeat(n * 10))
        };
        for n in 0..30 {
            wire.ask(&pack(&select(n), 0, is_zstd));
            for (bytes, number) in answer(n).chunks(100).zip(1..) {
                wire.answer(&pack(bytes, number, is_zstd));
            }
        }
        assert_eq!(lines(&wire), (0..30).map(want).collect::<Vec<_>>());
        wire.ask(&pack(&select(3), 0, is_zstd));
        let lost = pack(&answer(3), 1, is_zstd);
        wire.lose(Side::Response, lost.len() as u64);
        for n in [4, 5] {
            wire.ask(&pack(&select(n), 0, is_zstd));
            wire.answer(&pack(&answer(n), 1, is_zstd));
            wire.settle();
            wire.wait(1_000_000_000);
        }
        let large = packets(&[vec![1], column("a"), eof(2), vec![b'y'; 3_000_000], eof(2)]);
        wire.ask(&pack(&select(1), 0, is_zstd));
        wire.answer(&pack(&large, 1, is_zstd));
        wire.settle();
        wire.wait(1_000_000_000);
        wire.ask(&pack(&select(6), 0, is_zstd));
        wire.answer(&pack(&answer(6), 1, is_zstd));
        wire.settle();
        wire.close();
        let lines = lines(&wire);
        assert_eq!(lines[lines.len() - 1], want(6));
        assert!(lines.contains(&want(5)), "{lines:?}");
    }
}

/// Packets of a response of which the first has this number.
fn packets_from(first: u8, payloads: &[Vec<u8>]) -> Vec<u8> {
    let numbers = (0..).map(|idx: u32| first.wrapping_add(idx as u8));
    payloads.iter().zip(numbers).flat_map(|(payload, number)| packet(number, payload)).collect()
}

/// A statement that takes several packs, or several packets: its response begins with the number behind
/// theirs. Catches one that is taken for the rest of what has ended, and the next response in its place.
#[test]
fn statements_in_several_parts() {
    let sql = |n: usize| format!("SELECT {n} /* {} */", "zyx".repeat(10_000));
    let want = |n: usize| format!("3 | {} | 2 | Resultset rows = {n}", &sql(n)[..512]);
    for parts in [1, 2, 3, 7, 300] {
        let mut wire = logged_in(PLAIN | COMPRESS);
        for n in [2, 3] {
            let asked = query(&sql(n));
            let piece = asked.len().div_ceil(parts);
            for (bytes, number) in asked.chunks(piece).zip(0u32..) {
                wire.ask(&pack(bytes, number as u8, false));
            }
            let parts = asked.chunks(piece).count();
            let answer = packets_from(parts as u8, &results(&vec!["a row"; n], 2));
            for (bytes, number) in answer.chunks(40).zip(parts..) {
                wire.answer(&pack(bytes, number as u8, false));
            }
            // One that begins with the number behind the last one's.
            wire.ask(&pack(&query("SELECT 1"), 0, false));
            wire.answer(&pack(&packets(&results(&["1"], 2)), 1, false));
            wire.ask(
                &[pack(&query("DO")[..3], 0, false), pack(&query("DO")[3..], 1, false)].concat(),
            );
            wire.answer(&pack(&packets_from(2, &[ok(9, 2)]), 2, false));
        }
        let one = "3 | SELECT 1 | 2 | Resultset rows = 1".to_string();
        let other = "3 | DO | 2 | affected_rows = 9".to_string();
        let want = [want(2), one.clone(), other.clone(), want(3), one, other];
        assert_eq!(lines(&wire), want, "{parts} packs");
        assert_eq!(wire.counters(), Counters { exchanges: 7, ..Counters::default() });
    }
    let mut wire = logged_in(PLAIN);
    let large = |last: usize| {
        let mut payload = b"\x03INSERT ".to_vec();
        payload.resize(0xff_ffff, b'x');
        [packet(0, &payload), packet(1, &vec![b'x'; last])].concat()
    };
    let shown = format!("INSERT {}", "x".repeat(505));
    for last in [0, 10] {
        large(last).chunks(60_000).for_each(|bytes| wire.ask(bytes));
        wire.answer(&packets_from(2, &[ok(4, 2)]));
        wire.ask(&query("SELECT 1"));
        wire.answer(&packets(&results(&["1"], 2)));
    }
    let want =
        [&*format!("3 | {shown} | 2 | affected_rows = 4"), "3 | SELECT 1 | 2 | Resultset rows = 1"];
    assert_eq!(lines(&wire), [want, want].concat());
}

/// Large rows and statements; what is cut costs the message that it is in, and the next exchange is right.
#[test]
fn large_packets_and_holes() {
    let value = "v".repeat(3_000_000);
    let one = packets(&[
        vec![1],
        column("a"),
        eof(2),
        [b"\xfd\xc0\xc6\x2d".to_vec(), value.clone().into_bytes()].concat(),
        eof(2),
    ]);
    let many = packets(&results(&vec!["a row"; 20_000], 2));
    let sql = format!("INSERT '{value}'");
    for seen in [usize::MAX, 30_720, 600, 90] {
        let mut wire = logged_in(PLAIN);
        wire.cut_call(Side::Request, &query(&sql), seen.min(sql.len() + 5));
        wire.answer(&packets(&[ok(1, 2)]));
        for answer in [&one, &many] {
            wire.ask(&query("SELECT a"));
            match seen == usize::MAX {
                true => answer.chunks(60_000).for_each(|bytes| wire.answer(bytes)),
                false => wire.cut_call(Side::Response, answer, seen.min(answer.len())),
            }
        }
        wire.ask(&query("SELECT b"));
        wire.answer(&packets(&results(&["b"], 2)));
        wire.settle();
        wire.close();
        let lines = lines(&wire);
        let shown = &sql[..512.min(seen - 5)];
        assert_eq!(lines[0], format!("3 | {shown} | 2 | affected_rows = 1"));
        assert_eq!(lines.last().map(String::as_str), Some("3 | SELECT b | 2 | Resultset rows = 1"));
        if seen == usize::MAX {
            assert_eq!(
                lines[1..3],
                [
                    "3 | SELECT a | 2 | Resultset rows = 1",
                    "3 | SELECT a | 2 | Resultset rows = 20000"
                ]
            );
        }
    }
    // A row that needs two packets.
    let mut wire = logged_in(PLAIN);
    wire.ask(&query("SELECT a"));
    let mut parts = vec![vec![1], column("a"), eof(2)];
    parts.extend([vec![b'x'; 0xff_ffff], b"\xfe\0\0\0\0".to_vec(), eof(2)]);
    packets(&parts).chunks(60_000).for_each(|bytes| wire.answer(bytes));
    assert_eq!(lines(&wire), ["3 | SELECT a | 2 | Resultset rows = 1"]);
}

/// Passwords within statements are hidden, and everything where bodies are not kept.
#[test]
fn passwords_are_hidden() {
    let with = |mode| {
        let mut wire = logged_in(PLAIN);
        wire.config.redactor = Redactor::new(mode, &[], None);
        wire.ask(&query("ALTER USER bob IDENTIFIED BY 's3'"));
        wire.answer(&packets(&[ok(0, 2)]));
        lines(&wire)[0].clone()
    };
    assert_eq!(
        with(Mode::Secrets),
        "3 | ALTER USER bob IDENTIFIED BY '<REDACTED>' | 2 | affected_rows = 0"
    );
    assert_eq!(with(Mode::Off), "3 | ALTER USER bob IDENTIFIED BY 's3' | 2 | affected_rows = 0");
    assert_eq!(with(Mode::Bodies), "3 | <REDACTED> | 2 | <REDACTED>");
}

/// What a session remembers and what waits is bounded; pairs stay right when room ends.
#[test]
fn room_ends() {
    let mut wire = logged_in(PLAIN);
    let sql = "x".repeat(500);
    for _ in 0..10_000 {
        wire.ask(&query(&sql));
    }
    for _ in 0..10_000 {
        wire.answer(&packets(&[ok(1, 2)]));
    }
    for id in 0..10_000u32 {
        wire.ask(&command(0x16, sql.as_bytes()));
        wire.answer(&packets(&prepared(id, 0, 0)));
        wire.ask(&command(0x18, &[&id.to_le_bytes()[..], &[0, 0], sql.as_bytes()].concat()));
    }
    wire.ask(&query("SELECT 1"));
    wire.answer(&packets(&results(&["1"], 2)));
    wire.close();
    assert_eq!(
        lines(&wire).last().map(String::as_str),
        Some("3 | SELECT 1 | 2 | Resultset rows = 1")
    );
    let counters = wire.counters();
    assert_eq!(counters.exchanges + counters.given_up, 1 + 10_000 + 20_000 + 1);
    assert!(counters.given_up > 0);
}

/// MySQL is told from others by its first packets and in the middle, on either side.
#[test]
fn mysql_is_recognised() {
    check_recognised(
        &PROTOCOL,
        &[
            (Side::Response, &greeting()),
            (Side::Request, &login(PLAIN)),
            (Side::Request, &query("SELECT 1")),
            (Side::Request, &query(&"SELECT 1 ".repeat(10_000))[..30_720]),
            (Side::Request, &command(0x16, b"SELECT ?")),
            (Side::Request, &execution(5)),
            (Side::Request, &command(0x0e, b"")),
            (Side::Response, &packets(&results(&["x"], 2))),
            (Side::Response, &packets(&[ok(0, 2)])),
            (Side::Response, &packets(&[error(1146, "no table")])),
            (Side::Response, &packets(&prepared(4, 1, 2))),
        ],
    );
}

/// A conversation whose rows can be told right from wrong: a response's count of rows is its command's.
fn counts(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = vec![
        (Side::Response, greeting()),
        (Side::Request, login(PLAIN)),
        (Side::Response, packet(2, &ok(0, 2))),
    ];
    for n in 1..50u64 {
        let count = (random.next_u64() % 100) as usize + 1;
        if random.next_u64().is_multiple_of(8) {
            // A file of the client's.
            calls.push((Side::Request, query(&format!("c{count} {n}"))));
            calls.push((Side::Response, packet(1, b"\xfbfile")));
            let parts = 2 + (random.next_u64() % 300) as u32;
            let file = |number: u32| packet(number as u8, b"\x03one line of it");
            calls.extend((2..parts).map(|number| (Side::Request, file(number))));
            calls.push((Side::Request, packet(parts as u8, b"")));
            calls.push((Side::Response, packet((parts + 1) as u8, &ok(count as u8, 2))));
            continue;
        }
        let (asked, answer) = match random.next_u64() % 4 {
            0 => (query(&format!("c{count} {n}")), vec![error(1_000 + count as u16, "no")]),
            1 => (query(&format!("c{count} {n}")), vec![ok(count as u8, 2)]),
            2 => (command(0x16, format!("c{count} {n}").as_bytes()), prepared(count as u32, 1, 1)),
            _ => (query(&format!("c{count} {n}")), results(&vec!["row of text"; count], 2)),
        };
        calls.push((Side::Request, asked));
        calls.push((Side::Response, packets(&answer)));
    }
    calls
}

/// Of a greeting, or of the answer to a login, nothing but its head is seen: the answers behind it are
/// their own commands' or nobody's. Catches one that is taken for the login's, and moves all behind it.
#[test]
fn heads_alone_move_no_pair() {
    for (greeting_seen, ok_seen) in [(4, 11), (99, 4), (4, 4)] {
        let mut wire = wire();
        wire.cut_call(Side::Response, &greeting(), greeting_seen.min(greeting().len()));
        wire.ask(&login(PLAIN));
        wire.cut_call(Side::Response, &packet(2, &ok(0, 2)), ok_seen);
        for n in 1..20u8 {
            wire.ask(&query(&format!("INSERT {n}")));
            wire.answer(&packets(&[ok(n, 2)]));
            wire.settle();
            wire.wait(1_000_000_000);
        }
        wire.settle();
        wire.close();
        let lines = wire.lines();
        let want = |n| format!("3 | INSERT {n} | 2 | affected_rows = {n}");
        let right = lines.iter().filter(|line| (1..20).any(|n| **line == want(n))).count();
        assert!(right >= 18 && right + 1 >= lines.len(), "{lines:?}");
    }
}

/// The same over a packed session: commands and responses in any number of packs, of which a response's go on
/// with the numbers of its command's; inner numbers are the packs', as MariaDB has them, or begin with one.
fn packed_counts(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = vec![
        (Side::Response, greeting()),
        (Side::Request, login(PLAIN | COMPRESS)),
        (Side::Response, packet(2, &ok(0, 2))),
    ];
    let is_synced = random.next_u64().is_multiple_of(2);
    for n in 1..50u64 {
        let count = (random.next_u64() % 100) as usize + 1;
        let filling = match random.next_u64() % 4 {
            0 => "some text ".repeat(random.next_u64() as usize % 900),
            _ => String::new(),
        };
        let asked = query(&format!("c{count} {n} {filling}"));
        let parts = if filling.is_empty() { 1 } else { 1 + random.next_u64() as usize % 5 };
        let mut number = 0u8;
        let mut send = |side: Side, bytes: &[u8], parts: usize, random: &mut SplitMix| {
            let mut all = Vec::new();
            for piece in bytes.chunks(bytes.len().div_ceil(parts)) {
                all.push(pack(piece, number, false));
                number += 1;
            }
            match random.next_u64().is_multiple_of(2) {
                true => calls.push((side, all.concat())),
                false => calls.extend(all.into_iter().map(|bytes| (side, bytes))),
            }
            number
        };
        let first = send(Side::Request, &asked, parts, random);
        let answer = match random.next_u64() % 3 {
            0 => vec![error(1_000 + count as u16, "no")],
            1 => vec![ok(count as u8, 2)],
            _ => results(&vec!["row of text"; count], 2),
        };
        let answer = packets_from(if is_synced { first } else { 1 }, &answer);
        send(Side::Response, &answer, 1 + random.next_u64() as usize % 3, random);
    }
    calls
}

/// Whether a response's number is that of its command, as far as either is there.
fn is_right(cells: &[String]) -> bool {
    let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    let asked = digits(cells[1].split(' ').next().unwrap_or_default());
    let shown = digits(cells[3].split(" no").next().unwrap_or_default());
    let shown = if cells[2] == "3" {
        format!("{}", shown.parse::<u64>().unwrap_or(0).saturating_sub(1_000))
    } else {
        shown
    };
    let is_empty =
        cells[3].is_empty() || cells[0] == "11" || !cells[1].contains(' ') || shown == "0";
    is_empty || asked == shown
}

/// Whatever is lost, no response is another command's.
#[test]
fn no_gap_makes_a_wrong_pair() {
    for (conversation, one_in, least) in [
        (counts as fn(&mut SplitMix) -> Vec<Call>, 16, 1),
        (packed_counts, 16, 1),
        (counts, 200, 7),
        (packed_counts, 200, 15),
    ] {
        let right = check_random_gaps(&PROTOCOL, 600, one_in, conversation, is_right);
        assert!(right > 600 * least, "{right} pairs were found");
    }
}

/// However a conversation is split, and whatever bytes come, nothing else comes of it.
#[test]
fn any_pieces_and_any_bytes() {
    let calls = counts(&mut SplitMix(1));
    check_every_split(&PROTOCOL, &calls[..20]);
    check_any_bytes(&PROTOCOL, 600, &calls);
    let packed = packed_counts(&mut SplitMix(1));
    check_every_split(&PROTOCOL, &packed[..40]);
    check_any_bytes(&PROTOCOL, 600, &packed);
}
