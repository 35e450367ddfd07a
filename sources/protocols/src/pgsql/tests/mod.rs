//! Conversations as bytes in, rows as text out.

mod pairing;

use weir_types::random::SplitMix;

use super::PROTOCOL;
use crate::protocol::Verdict;
use crate::redact::{Mode, Redactor};
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised, verdict,
};
use crate::{Counters, Side};

fn message(tag: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32 + 4).to_be_bytes();
    [&[tag], &length[..], payload].concat()
}

fn text(tag: u8, text: &str) -> Vec<u8> {
    message(tag, format!("{text}\0").as_bytes())
}

fn query(sql: &str) -> Vec<u8> {
    text(b'Q', sql)
}

fn startup(pairs: &str) -> Vec<u8> {
    let body = [&[0, 3, 0, 0], pairs.replace(['=', ' '], "\0").as_bytes(), b"\0\0"].concat();
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let types: Vec<u8> = types.iter().flat_map(|id| id.to_be_bytes()).collect();
    let count = (types.len() as u16 / 4).to_be_bytes();
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0", &count, &types].concat())
}

/// Values begin with `=` if they are binary.
fn bind(portal: &str, statement: &str, values: &[Option<&[u8]>], results: u16) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0").into_bytes();
    body.extend((values.len() as u16).to_be_bytes());
    let plain = |value: Option<&[u8]>| value.is_none_or(|value| !value.starts_with(b"="));
    values.iter().for_each(|value| body.extend(u16::from(!plain(*value)).to_be_bytes()));
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        let value = value.map(|value| value.strip_prefix(b"=").unwrap_or(value));
        body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    body.extend([0, 1]);
    body.extend(results.to_be_bytes());
    message(b'B', &body)
}

fn execute(portal: &str) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), &[0; 5]].concat())
}

fn describe(kind: &str, name: &str) -> Vec<u8> {
    text(b'D', &format!("{kind}{name}"))
}

fn close(kind: &str, name: &str) -> Vec<u8> {
    text(b'C', &format!("{kind}{name}"))
}

fn sync() -> Vec<u8> {
    message(b'S', &[])
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn tag(name: &str) -> Vec<u8> {
    text(b'C', name)
}

fn columns(names: &[(&str, u32)]) -> Vec<u8> {
    let mut body = (names.len() as u16).to_be_bytes().to_vec();
    for (name, id) in names {
        body.extend([name.as_bytes(), &[0; 7], &id.to_be_bytes(), &[0; 6], &[0; 2]].concat());
    }
    message(b'T', &body)
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    message(b'D', &body)
}

fn error(code: &str, words: &str) -> Vec<u8> {
    text(b'E', &format!("SERROR\0VERROR\0C{code}\0M{words}\0Fparse.c\0L1\0Rx\0"))
}

const PARSED: &[u8] = b"1\0\0\0\x04";
const BOUND: &[u8] = b"2\0\0\0\x04";
const CLOSED: &[u8] = b"3\0\0\0\x04";

fn wire() -> Wire {
    Wire::new(&PROTOCOL)
}

/// A session that has begun: its row is the first one.
fn logged_in() -> Wire {
    let mut wire = wire();
    wire.ask(&startup("user=bob database=shop"));
    wire.answer(
        &[message(b'R', &[0; 4]), text(b'S', "TimeZone\0UTC"), message(b'K', &[7; 8]), ready()]
            .concat(),
    );
    wire
}

/// The rows behind the login's.
fn lines(wire: &Wire) -> Vec<String> {
    wire.lines().split_off(1)
}

/// A login is one row, whatever is asked for in between; its password is nowhere. Encryption that was
/// refused changes nothing, one that was agreed to ends reading without rows of noise.
#[test]
fn logins() {
    let ask_tls = [0, 0, 0, 8, 4, 210, 22, 47];
    let ask_gss = [0, 0, 0, 8, 4, 210, 22, 48];
    let mut plain = wire();
    plain.ask(&ask_gss);
    plain.answer(b"N");
    plain.ask(&ask_tls);
    plain.answer(b"N");
    plain.ask(&startup("user=bob database=shop application_name=psql"));
    plain.answer(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"));
    plain.ask(&message(b'p', b"SCRAM-SHA-256\0\0\0\0\x05s3cr3"));
    plain.answer(&message(b'R', b"\0\0\0\x0br=x"));
    plain.ask(&message(b'p', b"s3cr3"));
    plain.answer(&[message(b'R', b"\0\0\0\x0cv=x"), message(b'R', &[0; 4]), ready()].concat());
    plain.ask(&query("SELECT 1"));
    plain.answer(&[columns(&[("a", 23)]), row(&[Some(b"1")]), tag("SELECT 1"), ready()].concat());
    let want = [
        "Startup | user=bob database=shop application_name=psql | AUTHENTICATION OK",
        "Query | SELECT 1 | a\n1\nSELECT 1",
    ];
    assert_eq!(plain.lines(), want);
    assert_eq!(plain.rows()[0].time_ns, 1_000 + 6_000);
    let mut refused = wire();
    refused.ask(&startup("user=eve"));
    refused.answer(&error("28P01", "password authentication failed"));
    refused.close();
    assert_eq!(
        refused.lines(),
        [
            "Startup | user=eve | ERROR RESPONSE [Severity=ERROR Code=28P01 Message=password authentication failed]"
        ]
    );
    for (asked, answer) in [(ask_tls, b"S"), (ask_gss, b"G")] {
        let mut secret = wire();
        secret.ask(&asked);
        secret.answer(answer);
        for _ in 0..20 {
            secret.ask(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
            secret.answer(&query("SELECT 1"));
        }
        assert!(secret.parser.is_done() && !secret.parser.is_wrong());
        assert!(secret.close().is_empty());
    }
    let mut cancel = wire();
    cancel.ask(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert!(cancel.parser.is_done() && cancel.close().is_empty());
}

/// Simple queries: rows, nulls, no rows, none at all, several statements in one, an error behind others.
#[test]
fn simple_queries() {
    let cases: [(&str, Vec<Vec<u8>>, &str); 6] = [
        (
            "SELECT a, b",
            vec![
                columns(&[("a", 25), ("b", 25)]),
                row(&[Some(b"x"), None]),
                row(&[Some(b""), Some(b"y")]),
                tag("SELECT 2"),
            ],
            "a,b\nx,[NULL]\n,y\nSELECT 2",
        ),
        ("SELECT a WHERE f", vec![columns(&[("a", 25)]), tag("SELECT 0")], "a\nSELECT 0"),
        ("", vec![message(b'I', &[])], ""),
        (
            "INSERT; SELECT 1",
            vec![tag("INSERT 0 1"), columns(&[("c", 23)]), row(&[Some(b"1")]), tag("SELECT 1")],
            "INSERT 0 1\nc\n1\nSELECT 1",
        ),
        (
            "CREATE; DROP x",
            vec![tag("CREATE TABLE"), error("42P01", "no \"x\"")],
            "CREATE TABLE\nERROR RESPONSE [Severity=ERROR Code=42P01 Message=no \"x\"]",
        ),
        (
            "DROP x",
            vec![text(b'N', "SNOTICE\0C00000\0Mskipped\0"), tag("DROP TABLE")],
            "DROP TABLE",
        ),
    ];
    let mut wire = logged_in();
    let mut want = Vec::new();
    for (sql, answers, shown) in cases {
        wire.ask(&query(sql));
        wire.answer(&[answers.concat(), ready()].concat());
        want.push(format!("Query | {sql} | {shown}"));
    }
    wire.close();
    assert_eq!(lines(&wire), want);
    assert_eq!(wire.counters(), Counters { exchanges: 7, ..Counters::default() });
}

/// A statement that is prepared, described, and executed in parts; and the answers.
fn in_parts() -> ([Vec<u8>; 7], [Vec<u8>; 10]) {
    let values: [Option<&[u8]>; 3] = [Some(b"=\0\0\0\x07"), Some(b"x"), None];
    let asked = [
        parse("s1", "SELECT $1, $2", &[23, 25, 25]),
        describe("S", "s1"),
        bind("p", "s1", &values, 1),
        execute("p"),
        execute("p"),
        close("P", "p"),
        sync(),
    ];
    let answers = [
        PARSED.to_vec(),
        message(b't', &[0, 2, 0, 0, 0, 23, 0, 0, 0, 25]),
        columns(&[("n", 23), ("t", 25)]),
        BOUND.to_vec(),
        row(&[Some(&[0, 0, 0, 7]), Some(b"x")]),
        message(b's', &[]),
        row(&[Some(&[0, 0, 0, 8]), Some(b"y")]),
        tag("SELECT 2"),
        CLOSED.to_vec(),
        ready(),
    ];
    (asked, answers)
}

/// The extended protocol in one segment, and one message a call; binary values by their types; a portal
/// that is executed in parts.
#[test]
fn extended_queries() {
    let (asked, answers) = in_parts();
    let want = [
        "Parse | SELECT $1, $2 | PARSE COMPLETE",
        "Describe | type=kStatement name=s1 | n,t",
        "Bind | query=[SELECT $1, $2] params=[7, x, [NULL]] | BIND COMPLETE",
        "Execute | query=[SELECT $1, $2] params=[7, x, [NULL]] | 7,x",
        "Execute | query=[SELECT $1, $2] params=[7, x, [NULL]] | 8,y\nSELECT 2",
        "Close | type=kPortal name=p | CLOSE COMPLETE",
    ];
    let mut at_once = logged_in();
    at_once.ask(&asked.concat());
    at_once.answer(&answers.concat());
    assert_eq!(lines(&at_once), want);
    let mut one_by_one = logged_in();
    asked.iter().for_each(|bytes| one_by_one.ask(bytes));
    answers.iter().for_each(|bytes| one_by_one.answer(bytes));
    assert_eq!(lines(&one_by_one), want);
    let begin = [message(b'R', &[0; 4]), ready()].concat();
    let calls = [
        (Side::Request, startup("user=bob")),
        (Side::Response, begin),
        (Side::Request, asked.concat()),
        (Side::Response, answers.concat()),
    ];
    check_every_split(&PROTOCOL, &calls);
}

/// Behind an error the server passes messages over up to the next Sync; those behind it have their own
/// answers.
#[test]
fn failed_extended_queries() {
    let mut failed = logged_in();
    failed.ask(
        &[
            parse("", "SELEC", &[]),
            bind("", "", &[], 0),
            execute(""),
            sync(),
            parse("", "SELECT 2", &[]),
            bind("", "", &[], 0),
            execute(""),
            sync(),
        ]
        .concat(),
    );
    failed.answer(
        &[
            error("42601", "syntax error"),
            ready(),
            PARSED.to_vec(),
            BOUND.to_vec(),
            row(&[Some(b"2")]),
            tag("SELECT 1"),
            ready(),
        ]
        .concat(),
    );
    let want = [
        "Parse | SELEC | ERROR RESPONSE [Severity=ERROR Code=42601 Message=syntax error]",
        "Parse | SELECT 2 | PARSE COMPLETE",
        "Bind | query=[SELECT 2] params=[] | BIND COMPLETE",
        "Execute | query=[SELECT 2] params=[] | 2\nSELECT 1",
    ];
    assert_eq!(lines(&failed), want);
    failed.close();
    assert_eq!(failed.counters(), Counters { exchanges: 5, unanswered: 2, ..Counters::default() });
}

/// A statement whose preparation was not seen has no text, and one that was refused has none either: the
/// one that had its name before still has it.
#[test]
fn statements_that_are_not_known() {
    let mut joined = Wire::begun(&PROTOCOL, false);
    joined.answer(&[tag("SELECT 9"), ready()].concat());
    joined.wait(1_200_000_000);
    let run = |wire: &mut Wire, name: &str| {
        wire.ask(&[bind("", name, &[Some(b"5")], 0), execute(""), sync()].concat());
        wire.answer(&[BOUND.to_vec(), tag("UPDATE 1"), ready()].concat());
        wire.settle();
    };
    run(&mut joined, "S_1");
    joined.ask(&[parse("S_2", "UPDATE t", &[]), sync()].concat());
    joined.answer(&[PARSED.to_vec(), ready()].concat());
    run(&mut joined, "S_2");
    joined.ask(&[parse("S_2", "other", &[]), sync()].concat());
    joined.answer(&[error("42P05", "exists"), ready()].concat());
    run(&mut joined, "S_2");
    let want = [
        "Bind | query=[] params=[5] | BIND COMPLETE",
        "Execute | query=[] params=[5] | UPDATE 1",
        "Parse | UPDATE t | PARSE COMPLETE",
        "Bind | query=[UPDATE t] params=[5] | BIND COMPLETE",
        "Execute | query=[UPDATE t] params=[5] | UPDATE 1",
        "Parse | other | ERROR RESPONSE [Severity=ERROR Code=42P05 Message=exists]",
        "Bind | query=[UPDATE t] params=[5] | BIND COMPLETE",
        "Execute | query=[UPDATE t] params=[5] | UPDATE 1",
    ];
    assert_eq!(joined.lines(), want);
}

/// COPY in both directions and protocols; a Sync that the server did not hear while it took the copy is
/// not waited for.
#[test]
fn copies() {
    let mut wire = logged_in();
    let data = |text: &str| message(b'd', text.as_bytes());
    let done = || message(b'c', &[]);
    wire.ask(&query("COPY t FROM STDIN"));
    wire.answer(&message(b'G', &[0, 0, 0]));
    wire.ask(&[data("1\tQ\n"), data("2\n"), done()].concat());
    wire.answer(&[tag("COPY 2"), ready()].concat());
    wire.ask(&query("COPY t TO STDOUT"));
    wire.answer(
        &[message(b'H', &[0, 0, 0]), data("1\n"), data("2\n"), done(), tag("COPY 2"), ready()]
            .concat(),
    );
    wire.ask(&[parse("c", "COPY t FROM STDIN", &[]), sync()].concat());
    wire.answer(&[PARSED.to_vec(), ready()].concat());
    wire.ask(&[bind("", "c", &[], 0), execute(""), sync()].concat());
    wire.answer(&[BOUND.to_vec(), message(b'G', &[0, 0, 0])].concat());
    wire.ask(&[data("3\n"), done(), sync()].concat());
    wire.answer(&[tag("COPY 1"), ready()].concat());
    wire.ask(&query("COPY t FROM STDIN"));
    wire.answer(&message(b'G', &[0, 0, 0]));
    wire.ask(&text(b'f', "no more"));
    wire.answer(&[error("57014", "COPY failed"), ready()].concat());
    wire.ask(&query("SELECT"));
    wire.answer(&[tag("SELECT 1"), ready()].concat());
    wire.close();
    let want = [
        "Query | COPY t FROM STDIN | COPY 2",
        "Query | COPY t TO STDOUT | COPY 2",
        "Parse | COPY t FROM STDIN | PARSE COMPLETE",
        "Bind | query=[COPY t FROM STDIN] params=[] | BIND COMPLETE",
        "Execute | query=[COPY t FROM STDIN] params=[] | COPY 1",
        "Query | COPY t FROM STDIN | ERROR RESPONSE [Severity=ERROR Code=57014 Message=COPY failed]",
        "Query | SELECT | SELECT 1",
    ];
    assert_eq!(lines(&wire), want);
    assert_eq!(wire.counters(), Counters { exchanges: 8, ..Counters::default() });
    // A replica's stream is left alone.
    wire = logged_in();
    wire.ask(&query("START_REPLICATION 0/1"));
    wire.answer(&message(b'W', &[0, 0, 0]));
    assert!(wire.parser.is_done());
}

/// Notifications come at any time, also within a response, and are rows of their own.
#[test]
fn notifications() {
    let mut wire = logged_in();
    let notify = message(b'A', b"\0\0\0\x09news\0hello\0");
    wire.ask(&query("LISTEN news"));
    wire.answer(&[notify.clone(), tag("LISTEN"), ready()].concat());
    wire.answer(&notify);
    let want = [
        "NotificationResponse |  | pid=9 channel=news payload=hello",
        "Query | LISTEN news | LISTEN",
        "NotificationResponse |  | pid=9 channel=news payload=hello",
    ];
    assert_eq!(lines(&wire), want);
    assert!(wire.rows()[1].is_push && !wire.rows()[2].is_push);
}

/// Large results: what is behind the limit is not shown; of one that is cut or has a hole, what came first
/// is, and the next exchange is right. Pipelined cycles of a call behind the hole are not guessed.
#[test]
fn large_results_and_holes() {
    let value = "v".repeat(3_000_000);
    let whole =
        [columns(&[("a", 25)]), row(&[Some(value.as_bytes())]), tag("SELECT 1"), ready()].concat();
    let rows: Vec<u8> =
        (0..20_000).flat_map(|n| row(&[Some(format!("row {n}").as_bytes())])).collect();
    let many = [columns(&[("a", 25)]), rows, tag("SELECT 20000"), ready()].concat();
    for answer in [&whole, &many] {
        for seen in [answer.len(), 30_720, 40] {
            let mut wire = logged_in();
            wire.ask(&query("SELECT a"));
            wire.cut_call(Side::Response, answer, seen);
            wire.wait(1_000_000_000);
            wire.ask(&query("SELECT b"));
            wire.answer(&[tag("SELECT 7"), ready()].concat());
            wire.settle();
            wire.close();
            let lines = lines(&wire);
            assert_eq!(lines.len(), 2, "{seen}: {lines:?}");
            assert!(lines[0].starts_with("Query | SELECT a | a\n"));
            assert!(lines[0].len() == 19 + 512 || seen == 40, "{}", lines[0].len());
            assert_eq!(lines[1], "Query | SELECT b | SELECT 7");
        }
    }
    // Events of which some in the middle were lost, which begin within rows.
    let mut wire = logged_in();
    wire.ask(&query("SELECT a"));
    for (idx, bytes) in many.chunks(8_192).enumerate() {
        if idx % 7 == 3 {
            wire.lose(Side::Response, bytes.len() as u64);
            wire.wait(1_000);
        } else {
            wire.answer(bytes);
        }
    }
    wire.settle();
    wire.wait(1_000_000_000);
    for n in 0..3 {
        wire.ask(&query(&format!("SELECT {n}")));
        wire.answer(
            &[
                columns(&[("n", 23)]),
                row(&[Some(n.to_string().as_bytes())]),
                tag("SELECT 1"),
                ready(),
            ]
            .concat(),
        );
    }
    wire.settle();
    wire.close();
    let lines = lines(&wire);
    assert!(lines[0].starts_with("Query | SELECT a | a\nrow 0\nrow 1\n"));
    assert_eq!(
        lines[1..],
        [
            "Query | SELECT 0 | n\n0\nSELECT 1",
            "Query | SELECT 1 | n\n1\nSELECT 1",
            "Query | SELECT 2 | n\n2\nSELECT 1"
        ]
    );
}

/// A request that is cut is shown as far as it came.
#[test]
fn large_requests() {
    let sql = format!("INSERT INTO t VALUES ('{}')", "y".repeat(3_000_000));
    for seen in [sql.len() + 6, 30_720, 600, 30] {
        let mut wire = logged_in();
        wire.cut_call(Side::Request, &query(&sql), seen);
        wire.answer(&[tag("INSERT 0 1"), ready()].concat());
        wire.ask(&query("SELECT 1"));
        wire.answer(&[tag("SELECT 1"), ready()].concat());
        wire.settle();
        wire.close();
        let shown = &sql[..512.min(seen - 5)];
        assert_eq!(
            lines(&wire),
            [format!("Query | {shown} | INSERT 0 1"), "Query | SELECT 1 | SELECT 1".to_string()]
        );
    }
}

/// A Bind that is cut before its values, or within its names: what is executed then is not what the portal
/// held before.
#[test]
fn a_bind_that_is_cut() {
    for seen in [5, 6, 9, 12] {
        let mut wire = logged_in();
        wire.ask(&[parse("", "SELECT 1", &[]), bind("", "", &[], 0), execute(""), sync()].concat());
        wire.answer(&[PARSED, BOUND, &tag("SELECT 1"), &ready()].concat());
        let values: [Option<&[u8]>; 1] = [Some(b"value")];
        let bound = bind("", "s2", &values, 0);
        wire.cut_call(Side::Request, &bound, seen);
        wire.ask(&[execute(""), sync()].concat());
        wire.answer(&[BOUND, &tag("UPDATE 2"), &ready()].concat());
        wire.settle();
        wire.close();
        let of_second: Vec<_> =
            lines(&wire).into_iter().filter(|line| line.ends_with("UPDATE 2")).collect();
        assert!(of_second.iter().all(|line| !line.contains("SELECT 1")), "{seen}: {of_second:?}");
    }
}

/// A Bind may ask for formats of more columns than there are: what is kept of it has a bound.
#[test]
fn formats_are_bounded() {
    let mut wire = logged_in();
    let mut body = b"\0s\0\0\0\0\0".to_vec();
    body.extend(30_000u16.to_be_bytes());
    body.extend([0, 1].repeat(30_000));
    for _ in 0..400 {
        wire.ask(&[message(b'B', &body), execute(""), sync()].concat());
    }
    let held = wire.parser.held_bytes();
    assert!(held < 4 << 20, "{held}");
    wire.close();
    assert!(wire.counters().given_up > 0, "{:?}", wire.counters());
}

/// Passwords within statements are hidden, and everything where bodies are not kept.
#[test]
fn passwords_are_hidden() {
    let with = |mode| {
        let mut wire = logged_in();
        wire.config.redactor = Redactor::new(mode, &[], None);
        wire.ask(&query("ALTER ROLE bob PASSWORD 's3'"));
        wire.answer(&[tag("ALTER ROLE"), ready()].concat());
        wire.ask(
            &[parse("", "ALTER ROLE bob PASSWORD 's3'", &[]), bind("", "", &[], 0), sync()]
                .concat(),
        );
        wire.answer(&[PARSED, BOUND, &ready()].concat());
        lines(&wire).join("\n")
    };
    let shown = with(Mode::Secrets);
    assert_eq!(
        (shown.matches("s3").count(), shown.matches("PASSWORD '<REDACTED>'").count()),
        (0, 3),
        "{shown}"
    );
    assert_eq!(with(Mode::Off).matches("PASSWORD 's3'").count(), 3);
    assert_eq!(
        with(Mode::Bodies),
        "Query | <REDACTED> | <REDACTED>\nParse | <REDACTED> | <REDACTED>\nBind | <REDACTED> | <REDACTED>"
    );
}

/// What a session remembers and what waits is bounded; pairs stay right when room ends.
#[test]
fn room_ends() {
    let mut wire = logged_in();
    let sql = "x".repeat(5_000);
    for n in 0..10_000 {
        wire.ask(
            &[
                parse(&format!("s{n}"), &sql, &[0; 50]),
                bind(&format!("p{n}"), &format!("s{n}"), &[Some(b"1")], 1),
            ]
            .concat(),
        );
    }
    wire.ask(&sync());
    wire.answer(&[[PARSED, BOUND].concat().repeat(10_000), ready()].concat());
    wire.ask(&query("SELECT 1"));
    wire.answer(&[tag("SELECT 1"), ready()].concat());
    wire.settle();
    wire.close();
    let lines = lines(&wire);
    assert!(lines.len() > 1_500 && lines.len() < 10_000, "{}", lines.len());
    assert_eq!(lines.last().map(String::as_str), Some("Query | SELECT 1 | SELECT 1"));
    let counters = wire.counters();
    assert_eq!(counters.given_up + counters.exchanges - 2, 20_000);
}

/// PostgreSQL is told from others by its first bytes and in the middle, on either side.
#[test]
fn pgsql_is_recognised() {
    let begin = startup("user=bob database=shop");
    let extended = [parse("", "SELECT 1", &[]), bind("", "", &[], 0), execute(""), sync()].concat();
    let answer = [columns(&[("a", 23)]), row(&[Some(b"1")]), tag("SELECT 1"), ready()].concat();
    check_recognised(
        &PROTOCOL,
        &[
            (Side::Request, &begin),
            (Side::Request, &[0, 0, 0, 8, 4, 210, 22, 47]),
            (Side::Request, &query("SELECT 1")),
            (Side::Request, &query("  -- c\nSELECT 1")),
            (Side::Request, &query(&"SELECT 1 ".repeat(10_000))[..30_720]),
            (Side::Request, &extended),
            (Side::Request, &[bind("", "S_1", &[Some(b"5")], 0), execute(""), sync()].concat()),
            (Side::Response, &answer),
            (Side::Response, &[tag("INSERT 0 1"), ready()].concat()),
            (Side::Response, &[PARSED, BOUND, &tag("BEGIN"), &ready()].concat()),
            (Side::Response, &[error("42P01", "x"), ready()].concat()),
            (Side::Response, &answer[..answer.len() - 20]),
        ],
    );
    for cut in 1..begin.len() - 1 {
        let found = verdict(&PROTOCOL, &begin[..cut], true);
        assert!(
            found == Verdict::Unsure || (cut > 8 && found == Verdict::Is(Side::Request)),
            "{cut}: {found:?}"
        );
    }
    // A connection that is joined within a large result.
    let mut joined = Wire::begun(&PROTOCOL, false);
    joined
        .answer(&[&b"rest of a row"[..], &row(&[Some(b"1")]), &tag("SELECT 9"), &ready()].concat());
    joined.wait(1_000_000_000);
    joined.ask(&query("SELECT 2"));
    joined.answer(&[tag("SELECT 2"), ready()].concat());
    joined.settle();
    joined.close();
    assert_eq!(joined.lines(), ["Query | SELECT 2 | SELECT 2"]);
}

/// A conversation whose rows can be told right from wrong: each response repeats its request's word.
fn echoes(random: &mut SplitMix) -> Vec<Call> {
    let is_pipelined = random.next_u64().is_multiple_of(3);
    let begin = [message(b'R', &[0; 4]), ready()].concat();
    let mut calls = vec![(Side::Request, startup("user=w0")), (Side::Response, begin)];
    let mut n = 0;
    for _ in 0..25 {
        let batch = if is_pipelined { 1 + random.next_u64() % 4 } else { 1 };
        let (mut asked, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..batch {
            n += 1;
            let word = format!("w{n}-{}", "y".repeat((random.next_u64() % 40) as usize));
            match random.next_u64() % 4 {
                0 => {
                    asked.extend(
                        [parse("", &word, &[]), bind("", "", &[], 0), execute(""), sync()].concat(),
                    );
                    answers.extend(
                        [PARSED, BOUND, &row(&[Some(word.as_bytes())]), &tag(&word), &ready()]
                            .concat(),
                    );
                }
                1 => {
                    asked.extend(
                        [
                            parse(&word, &word, &[]),
                            describe("S", &word),
                            bind("", &word, &[], 0),
                            sync(),
                            execute(""),
                            sync(),
                        ]
                        .concat(),
                    );
                    answers.extend(
                        [PARSED, &columns(&[(&word, 23)]), BOUND, &ready(), &tag(&word), &ready()]
                            .concat(),
                    );
                }
                2 => {
                    asked.extend(query(&word));
                    answers.extend([error("42601", &word), ready()].concat());
                }
                _ => {
                    asked.extend(query(&word));
                    let rows =
                        row(&[Some(word.as_bytes())]).repeat((random.next_u64() % 9) as usize);
                    answers.extend([columns(&[(&word, 25)]), rows, tag(&word), ready()].concat());
                }
            }
        }
        calls.push((Side::Request, asked));
        calls.push((Side::Response, answers));
    }
    calls
}

/// The word of a text, which may have been cut.
fn word(text: &str) -> &str {
    let at = ["query=[", "Message=", "name="]
        .into_iter()
        .find_map(|mark| Some(text.find(mark)? + mark.len()));
    let rest = &text[at.unwrap_or(0)..];
    rest.split(['\n', ']', ' ', ',']).next().unwrap_or_default()
}

/// Whatever is lost, no response is another request's, and no statement another's.
#[test]
fn no_gap_makes_a_wrong_pair() {
    let right = check_random_gaps(&PROTOCOL, 600, 16, echoes, |cells| {
        let (asked, shown) = (word(&cells[1]), word(&cells[2]));
        let is_plain = ["PARSE", "BIND", "", "AUTHENTICATION"].contains(&shown);
        let is_cut = cells[2].starts_with("ERROR") && !cells[2].contains("Message=w");
        is_plain
            || is_cut
            || asked.is_empty()
            || asked.starts_with(shown)
            || shown.starts_with(asked)
    });
    assert!(right > 600 * 5, "{right} pairs were found");
}

/// Any bytes: no panic, bounded memory.
#[test]
fn any_bytes_do_no_harm() {
    check_any_bytes(&PROTOCOL, 600, &echoes(&mut SplitMix(1)));
}
