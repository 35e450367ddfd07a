//! Operations as clients and servers write them, rows as text out; whatever is done to them.

use weir_types::random::SplitMix;

use super::PROTOCOL;
use crate::Side;
use crate::protocol::Verdict;
use crate::redact::{Mode, Redactor};
use crate::testing::{
    Call, Row, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised,
    check_recovery, verdict,
};

const INFO: &str = "INFO {\"server_id\":\"N1\",\"max_payload\":1048576}\r\n";
const QUIET: &str = "CONNECT {\"verbose\":false,\"lang\":\"x\"}\r\n";
const VERBOSE: &str = "CONNECT {\"verbose\":true}\r\n";

fn ask(bytes: impl AsRef<[u8]>) -> Call {
    (Side::Request, bytes.as_ref().to_vec())
}

fn answer(bytes: impl AsRef<[u8]>) -> Call {
    (Side::Response, bytes.as_ref().to_vec())
}

/// Command, body and response.
fn told(row: &Row) -> [&str; 3] {
    [0, 1, 2].map(|idx| row.cells[idx].as_str())
}

fn cmd_and_resp(row: &Row) -> [&str; 2] {
    [0, 2].map(|idx| row.cells[idx].as_str())
}

fn speak(wire: &mut Wire, calls: &[Call]) {
    for (side, bytes) in calls {
        wire.call(*side, bytes);
    }
}

fn rows_of(calls: &[Call]) -> Vec<Row> {
    let mut wire = Wire::new(&PROTOCOL);
    speak(&mut wire, calls);
    wire.close().to_vec()
}

fn quiet() -> Vec<Call> {
    vec![
        answer(INFO),
        ask([QUIET, "PING\r\n"].concat()),
        answer("PONG\r\n"),
        ask("SUB a.* q 7\r\nPUB a.b _INBOX.1 5\r\nhello\r\n"),
        answer("MSG a.b 7 _INBOX.1 5\r\nhello\r\n"),
        ask("HPUB c 24 26\r\nNATS/1.0\r\nA: 1\r\nA: 2\r\n\r\nhi\r\n"),
        answer("HMSG c 9 24 26\r\nNATS/1.0\r\nA: 1\r\nA: 2\r\n\r\nhi\r\nPING\r\n"),
        ask("PONG\r\nUNSUB 7 3\r\n"),
    ]
}

/// Each operation is a row at once, a PING has its PONG, from either side. Catches words in the wrong
/// places, a CONNECT that waits for ever, and rows of PONGs.
#[test]
fn operations_are_rows() {
    let rows = rows_of(&quiet());
    let options = |line: &str| line.trim_ascii_end().split_once(' ').unwrap().1.to_string();
    let headers = r#""payload":"hi","headers":{"A":"1, 2"}}"#;
    assert_eq!(
        rows.iter().map(told).collect::<Vec<_>>(),
        [
            ["INFO", &options(INFO), ""],
            ["CONNECT", &options(QUIET), ""],
            ["PING", "{}", "PONG"],
            ["SUB", r#"{"subject":"a.*","sid":"7","queue group":"q"}"#, ""],
            ["PUB", r#"{"subject":"a.b","reply-to":"_INBOX.1","payload":"hello"}"#, ""],
            ["MSG", r#"{"subject":"a.b","reply-to":"_INBOX.1","sid":"7","payload":"hello"}"#, ""],
            ["HPUB", &format!("{{\"subject\":\"c\",{}", headers), ""],
            ["HMSG", &format!("{{\"subject\":\"c\",\"sid\":\"9\",{}", headers), ""],
            ["PING", "{}", "PONG"],
            ["UNSUB", r#"{"sid":"7","max_msgs":"3"}"#, ""],
        ]
    );
}

/// Every operation of a verbose connection has its own answer, an error too; refused clients see it at
/// their CONNECT, and an error that nobody waits for is a row of its own.
#[test]
fn answers_belong_to_their_operations() {
    let rows = rows_of(&[
        answer(INFO),
        ask([VERBOSE, "PUB a 1\r\nx\r\nPING\r\nSUB b 1\r\nPUB c 0\r\n\r\n"].concat()),
        answer("+OK\r\n+OK\r\nPONG\r\n-ERR 'no'\r\n+OK\r\n"),
    ]);
    let got: Vec<[&str; 2]> = rows[1..].iter().map(cmd_and_resp).collect();
    let want = [["CONNECT", "+OK"], ["PUB", "+OK"], ["PING", "PONG"], ["SUB", "-ERR 'no'"]];
    assert_eq!(got, [&want[..], &[["PUB", "+OK"]]].concat());
    // A pedantic server finds fault with a subject, and accepts the message all the same.
    let faulty = rows_of(&[
        answer(INFO),
        ask([VERBOSE, "PUB a..b 1\r\nx\r\nPUB b 1\r\nx\r\n"].concat()),
        answer("+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\n+OK\r\n"),
    ]);
    let got: Vec<[&str; 2]> = faulty[1..].iter().map(cmd_and_resp).collect();
    let want = [["CONNECT", "+OK"], ["PUB", "-ERR 'Invalid Publish Subject'"], ["PUB", "+OK"]];
    assert_eq!(got, want);
    let refused = rows_of(&[
        answer(INFO),
        ask([QUIET, "PING\r\n"].concat()),
        answer("-ERR 'Authorization Violation'\r\n"),
    ]);
    assert_eq!(cmd_and_resp(&refused[1]), ["CONNECT", "-ERR 'Authorization Violation'"]);
    assert_eq!(refused.len(), 2);
    let mut wire = Wire::new(&PROTOCOL);
    speak(&mut wire, &quiet()[..3]);
    wire.answer(b"-ERR 'Permissions Violation'\r\n");
    assert_eq!(told(&wire.rows()[3]), ["-ERR", "{}", "-ERR 'Permissions Violation'"]);
}

/// Times are those of first bytes.
#[test]
fn rows_have_the_time_of_their_first_bytes() {
    let mut wire = Wire::new(&PROTOCOL);
    speak(&mut wire, &[answer(INFO), ask(QUIET), ask("PI"), ask("NG\r\n")]);
    speak(&mut wire, &[answer("PO"), answer("NG\r\n")]);
    let times: Vec<i64> = wire.rows().iter().map(|row| row.time_ns).collect();
    // The CONNECT was accepted, as the PONG says.
    assert_eq!(times, [2_000, 3_000, 6_000]);
}

/// What proves who a client is, is not shown; neither are bodies, if they are to be hidden.
#[test]
fn secrets_are_hidden() {
    let connect = r#"CONNECT {"verbose":false,"user":"u","pass":"p1","auth_token":"t1","jwt":"j1","sig":"s1"}"#;
    let publish =
        "HPUB a 49 54\r\nNATS/1.0\r\nAuthorization: Bearer x\r\nB: 1234567\r\n\r\n12345\r\n";
    let calls = [answer(INFO), ask(format!("{connect}\r\n{publish}")), answer("MSG a 1 0\r\n\r\n")];
    let rows = rows_of(&calls);
    let connect = rows.iter().find(|row| row.cells[0] == "CONNECT").unwrap().cells[1].as_str();
    for secret in ["p1", "t1", "j1", "s1"] {
        assert!(!connect.contains(&format!("\"{secret}\"")), "{connect}");
    }
    assert!(connect.contains(r#""user":"u""#) && connect.contains("<REDACTED>"), "{connect}");
    let body = rows.iter().find(|row| row.cells[0] == "HPUB").unwrap().cells[1].as_str();
    assert!(body.contains(r#""Authorization":"<REDACTED>""#) && body.contains("12345"), "{body}");
    let mut wire = Wire::new(&PROTOCOL);
    wire.config.redactor = Redactor::new(Mode::Bodies, &[], None);
    speak(&mut wire, &calls);
    let hidden = wire.rows().iter().find(|row| row.cells[0] == "HPUB").unwrap();
    assert!(hidden.cells[1].contains(r#""payload":"<REDACTED>""#), "{hidden:?}");
}

/// A long payload ends where the limit is, in valid JSON, also if its bytes are no text; what follows it
/// is read though most of it was never copied.
#[test]
fn long_payloads() {
    let mut wire = Wire::new(&PROTOCOL);
    speak(&mut wire, &quiet()[..3]);
    let payload = ["é".repeat(300), "\"".repeat(900_000)].concat();
    let publish = format!("PUB big {}\r\n{payload}\r\n", payload.len());
    wire.cut_call(Side::Request, publish.as_bytes(), 30_720);
    wire.ask(b"PUB next 0\r\n\r\n");
    let rows = wire.close();
    let body: serde_json::Value = serde_json::from_str(&rows[3].cells[1]).unwrap();
    assert_eq!(body["payload"].as_str().unwrap(), "é".repeat(256));
    assert_eq!(rows[4].cells[1], r#"{"subject":"next","payload":""}"#);
    let binary = rows_of(&[answer(INFO), ask(b"PUB a 3\r\n\xff\x00\"\r\n")]);
    let body: serde_json::Value = serde_json::from_str(&binary[1].cells[1]).unwrap();
    assert_eq!(body["payload"], "\u{fffd}\0\"");
}

/// However calls are cut into pieces, the rows are the same.
#[test]
fn splits() {
    check_every_split(&PROTOCOL, &quiet());
    let verbose =
        [answer(INFO), ask([VERBOSE, "PUB a 1\r\nx\r\n"].concat()), answer("+OK\r\n+OK\r\n")];
    check_every_split(&PROTOCOL, &verbose);
}

/// A verbose conversation, in pipelines of random lengths. Answers name what they answer: every third is
/// an error with the subject, so that a wrong pair shows.
fn verbose(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = vec![answer(INFO), ask(VERBOSE), answer("+OK\r\n")];
    let mut number = 0;
    while number < 60 {
        let (mut asked, mut answered) = (String::new(), String::new());
        let count = 1 + random.next_u64() % 4;
        for n in number..number + count {
            let text = "x".repeat(random.next_u64() as usize % 700);
            asked.push_str(&format!("PUB s{n} {}\r\n{text}\r\n", text.len()));
            answered.push_str(&match n % 3 {
                0 => format!("-ERR 's{n}'\r\n"),
                _ => "+OK\r\n".to_string(),
            });
        }
        number += count;
        if random.next_u64().is_multiple_of(3) {
            asked.push_str("PING\r\n");
            answered.push_str("PONG\r\n");
        }
        calls.push(ask(asked));
        calls.push(answer(answered));
    }
    calls
}

/// The row is one that there is without losses, but that its answer may be missing.
fn is_right(cells: &[String]) -> bool {
    let [cmd, body, resp] = [0, 1, 2].map(|idx| cells[idx].as_str());
    let error = resp.strip_prefix("-ERR '").and_then(|rest| rest.strip_suffix('\''));
    match (cmd, error) {
        ("PUB", Some(subject)) => body.contains(&format!("\"{subject}\"")),
        // Nobody's that is known.
        ("-ERR", _) => true,
        ("PUB", None) => {
            let number = body.split('"').nth(3).unwrap()[1..].parse::<u64>();
            let is_accepted = number.is_ok_and(|number| !number.is_multiple_of(3));
            resp.is_empty() || (resp == "+OK" && is_accepted)
        }
        ("PING", _) => resp == "PONG",
        ("CONNECT", _) => resp.is_empty() || resp == "+OK",
        _ => resp.is_empty(),
    }
}

/// Whatever is lost, no operation has another's answer; afterwards everything is read again.
#[test]
fn losses() {
    for one_in in [4, 8, 20] {
        let right = check_random_gaps(&PROTOCOL, 300, one_in, verbose, is_right);
        assert!(right > 300 * 5, "{right} rows");
    }
    let right = check_random_gaps(&PROTOCOL, 300, 6, |_| quiet(), is_right);
    assert!(right > 300 * 3, "{right} rows");
    let probe = [ask("PUB z 0\r\n\r\n"), answer("MSG z 1 0\r\n\r\n")];
    check_recovery(&PROTOCOL, 200, &quiet(), &probe, 10_000_000_000);
}

#[test]
fn any_bytes() {
    check_any_bytes(&PROTOCOL, 600, &quiet());
    check_any_bytes(&PROTOCOL, 100, &verbose(&mut SplitMix(1)));
}

/// By its own operations, from either side, also if joined; and by nothing that others say as well.
#[test]
fn recognised() {
    let own: [(Side, &[u8]); 4] = [
        (Side::Response, INFO.as_bytes()),
        (Side::Request, QUIET.as_bytes()),
        (Side::Request, b"PUB a 5\r\nhello\r\n"),
        (Side::Response, b"MSG a.b 1 _I.2 1000\r\nhello"),
    ];
    check_recognised(&PROTOCOL, &own);
    for (side, bytes) in own {
        assert_eq!(verdict(&PROTOCOL, bytes, false), Verdict::Is(side));
    }
    let others: [&[u8]; 13] = [
        b"INFO\r\n",
        b"INFO server\r\n",
        b"PING\r\n",
        b"+OK\r\n",
        b"+OK POP3 server ready\r\n",
        b"-ERR unknown command\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
        b"PUB a 5\r\nhello world\r\n",
        b"MSG alice :hi\r\n",
        b"SUBSCRIBE\ndestination:/a\n\n\0",
        b"CONNECT\naccept-version:1.2\nhost:h\n\n\0",
        b"PUBLISH a b\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ];
    for other in others {
        for opened in [true, false] {
            let taken = verdict(&PROTOCOL, other, opened);
            assert!(!matches!(taken, Verdict::Is(_)), "{}: {taken:?}", other.escape_ascii());
        }
    }
}

/// A connection that was joined: what came before is left, what follows is read; whether it is verbose
/// shows. The guess is given up if what comes is not NATS.
#[test]
fn joined_midway() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(b"rest of a payload\r\nPUB a 1\r\nx\r\nPUB b 1\r\ny\r\n");
    wire.answer(b"+OK\r\n+OK\r\n");
    wire.wait(5_000_000_000);
    speak(&mut wire, &[ask("PUB c 1\r\nz\r\n"), answer("+OK\r\n")]);
    let got: Vec<[&str; 2]> =
        wire.rows().iter().map(|row| [1, 2].map(|idx| row.cells[idx].as_str())).collect();
    let body =
        |name: &str, payload: &str| format!(r#"{{"subject":"{name}","payload":"{payload}"}}"#);
    let [a, b, c] = [body("a", "x"), body("b", "y"), body("c", "z")];
    assert_eq!(got, [[a.as_str(), ""], [&b, ""], [&c, "+OK"]]);
    let mut wire = Wire::new(&PROTOCOL);
    for _ in 0..70 {
        wire.ask(b"GET / HTTP/1.1\r\n\r\n");
    }
    assert!(wire.parser.is_wrong());
}

/// PINGs beyond those that may wait, and such that time has passed over, can still be answered: their PONGs
/// are not those of later ones, from either side; nor is a late `+OK` a later operation's.
#[test]
fn late_answers_are_no_later_ones() {
    let pairs = |wire: &mut Wire, what: &str| {
        let pairs = wire.close().iter().filter(|row| row.cells[2] == what).count();
        (pairs, wire.counters())
    };
    let mut wire = Wire::new(&PROTOCOL);
    speak(&mut wire, &quiet()[..3]);
    for _ in 0..5_000 {
        wire.answer(b"PING\r\n");
    }
    wire.ask(b"PONG\r\n");
    wire.settle();
    let (found, counters) = pairs(&mut wire, "PONG");
    assert_eq!((found, counters.resyncs > 0), (1, true), "{counters:?}");
    for side in [Side::Response, Side::Request] {
        let other = if side == Side::Request { Side::Response } else { Side::Request };
        let mut wire = Wire::new(&PROTOCOL);
        speak(&mut wire, &quiet()[..3]);
        wire.call(side, b"PING\r\n");
        wire.wait(61_000_000_000);
        wire.call(side, b"PING\r\n");
        wire.call(other, b"PONG\r\n");
        let (found, counters) = pairs(&mut wire, "PONG");
        assert_eq!((found, counters.unanswered), (1, 1), "{side:?}");
        // The same where they are forgotten for room.
        let mut wire = Wire::new(&PROTOCOL);
        speak(&mut wire, &quiet()[..3]);
        wire.call(side, b"PING\r\n");
        wire.give_up();
        wire.call(side, b"PING\r\n");
        wire.call(other, b"PONG\r\n");
        assert_eq!(pairs(&mut wire, "PONG").0, 1, "{side:?}");
    }
    let mut wire = Wire::new(&PROTOCOL);
    speak(&mut wire, &[answer(INFO), ask(VERBOSE), answer("+OK\r\n"), ask("PUB a 1\r\nx\r\n")]);
    wire.wait(61_000_000_000);
    speak(&mut wire, &[ask("PUB b 1\r\nx\r\n"), answer("+OK\r\n"), answer("-ERR 'no'\r\n")]);
    let rows = wire.close();
    let got: Vec<[&str; 2]> = rows[1..].iter().map(cmd_and_resp).collect();
    assert_eq!(got, [["CONNECT", "+OK"], ["PUB", ""], ["PUB", ""]]);
}
