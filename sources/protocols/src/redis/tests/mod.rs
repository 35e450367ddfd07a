//! Conversations as bytes in, rows as text out.

mod pairing;

use weir_types::random::SplitMix;

use super::PROTOCOL;
use crate::protocol::{Beginning, Verdict};
use crate::redact::{Mode, Redactor};
use crate::stream::Segment;
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised, verdict,
};
use crate::{Counters, Side};

/// A command as clients write it.
fn command(words: &str) -> Vec<u8> {
    let words: Vec<&str> = words.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

fn wire() -> Wire {
    Wire::new(&PROTOCOL)
}

/// The row of one command with its reply.
fn row(asked: &[u8], reply: &[u8]) -> String {
    let mut wire = wire();
    wire.ask(asked);
    wire.answer(reply);
    let lines = wire.lines();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    line.clone()
}

/// Every kind of reply, as rows show it: errors with their sign, nulls, nested arrays, maps flat.
#[test]
fn replies_of_all_kinds() {
    let cases: [(&str, &str); 22] = [
        ("+OK\r\n", "OK"),
        ("-WRONGTYPE Operation\r\n", "-WRONGTYPE Operation"),
        (":-12\r\n", "-12"),
        ("$5\r\nhello\r\n", "hello"),
        ("$0\r\n\r\n", ""),
        ("$-1\r\n", "<NULL>"),
        ("*-1\r\n", "<NULL>"),
        ("*0\r\n", "[]"),
        ("*3\r\n$1\r\na\r\n:5\r\n$-1\r\n", r#"["a","5","<NULL>"]"#),
        ("*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n*0\r\n", r#"["0",["a",[]]]"#),
        ("*2\r\n+OK\r\n-ERR no\r\n", r#"["OK","-ERR no"]"#),
        ("_\r\n", "<NULL>"),
        ("#t\r\n", "true"),
        (",3.25\r\n", "3.25"),
        (
            "(3492890328409238509324850943850943825024385\r\n",
            "3492890328409238509324850943850943825024385",
        ),
        ("!10\r\nSYNTAX bad\r\n", "-SYNTAX bad"),
        ("=7\r\ntxt:abc\r\n", "abc"),
        ("%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n", r#"["a","1","b",["2"]]"#),
        ("~2\r\n+a\r\n+b\r\n", r#"["a","b"]"#),
        ("|1\r\n+ttl\r\n:3\r\n*1\r\n+a\r\n", r#"["a"]"#),
        ("*2\r\n|1\r\n+ttl\r\n:3\r\n+a\r\n+b\r\n", r#"["a","b"]"#),
        ("$4\r\n\"\\\n\x01\r\n", "\"\\\n\x01"),
    ];
    for (reply, want) in cases {
        assert_eq!(row(&command("GET k"), reply.as_bytes()), format!("GET | [\"k\"] | {want}"));
    }
    let odd = row(b"*2\r\n$3\r\nget\r\n$4\r\n\xff\"\\\n\r\n", b"*1\r\n$1\r\n\xfe\r\n");
    assert_eq!(odd, "GET | [\"\u{fffd}\\\"\\\\\\n\"] | [\"\u{fffd}\"]");
}

/// Each command of a pipeline has its reply, in order, whether they come in one call or many; times are
/// those of the first bytes.
#[test]
fn pipelines() {
    let asked: Vec<u8> = (0..100).flat_map(|n| command(&format!("GET k{n}"))).collect();
    let answers: Vec<u8> = (0..100).flat_map(|n| bulk(&format!("v{n}"))).collect();
    let mut wire = wire();
    wire.ask(&asked);
    wire.answer(&answers);
    let want: Vec<String> = (0..100).map(|n| format!("GET | [\"k{n}\"] | v{n}")).collect();
    assert_eq!(wire.lines(), want);
    assert!(wire.rows().iter().all(|row| row.time_ns == 3_000 && row.cells[3] == "1000"));
    check_every_split(&PROTOCOL, &[(Side::Request, asked), (Side::Response, answers)]);
}

/// A value of 3 MB, read in pieces, and one of which the kernel copied the beginning only: rows with what
/// a column shows, both as an argument and as a reply, and what comes next is right.
#[test]
fn large_values() {
    let value = "x".repeat(3_000_000);
    let set = command(&format!("SET k {value}"));
    for seen in [30_720, 600, 30, set.len()] {
        let mut wire = wire();
        wire.cut_call(Side::Request, &set, seen);
        wire.answer(b"+OK\r\n");
        wire.ask(&command("GET k"));
        let reply = bulk(&value);
        match seen == set.len() {
            true => reply.chunks(16_384).for_each(|bytes| wire.answer(bytes)),
            false => wire.cut_call(Side::Response, &reply, seen),
        }
        wire.ask(&command("GET j"));
        wire.answer(&bulk("after"));
        wire.close();
        let lines = wire.lines();
        let shown = lines[0].matches('x').count();
        assert!(lines[0].starts_with("SET | [\"k\",\"") && lines[0].ends_with("\"] | OK"));
        assert!(shown == 511 || shown == seen.saturating_sub(34), "{shown} of {seen}");
        assert_eq!(lines[1].matches('x').count(), 512.min(seen - 10));
        assert_eq!(lines[2], "GET | [\"j\"] | after");
    }
}

/// A hole within a word, with what follows it there already: the command is read to its end at once, and its
/// reply is its own. Catches a reader that waits for the next call.
#[test]
fn a_hole_within_a_word() {
    let mut wire = wire();
    let asked = command("ECHO abcdefgh");
    let (seen, lost) = (20, 4);
    wire.now_ns += 1_000;
    let (total_bytes, time_unix_ns) = (asked.len() as u64, wire.now_ns);
    let tail = &asked[seen + lost..];
    let segment = Segment { position: 0, total_bytes, time_unix_ns, payload: &asked[..seen], tail };
    wire.push(Side::Request, segment);
    wire.answer(&bulk("abcdefgh"));
    assert_eq!(wire.lines(), [r#"ECHO | ["ab"] | abcdefgh"#]);
}

/// Many large values by one call of which little was copied: what is cut is lost with what is in the
/// hole; the next call waits, as more answers may be to come, until silence tells that it was the last one.
#[test]
fn a_pipeline_that_is_cut() {
    let mut wire = wire();
    let asked: Vec<u8> = (0..10).flat_map(|n| command(&format!("GET k{n}"))).collect();
    let answers: Vec<u8> = (0..10).flat_map(|n| bulk(&n.to_string().repeat(10_000))).collect();
    wire.ask(&asked);
    wire.cut_call(Side::Response, &answers, 30_720);
    wire.ask(&command("GET j"));
    wire.answer(&bulk("of j"));
    wire.settle();
    wire.wait(1_000_000_000);
    wire.ask(&command("GET k"));
    wire.answer(&bulk("after"));
    wire.settle();
    wire.close();
    let lines = wire.lines();
    assert_eq!(lines.len(), 4 + 2, "three whole, one cut, and the next calls");
    for (n, line) in lines[..4].iter().enumerate() {
        assert!(line.starts_with(&format!("GET | [\"k{n}\"] | {}", n.to_string().repeat(500))));
    }
    assert_eq!(lines[4..], ["GET | [\"j\"] | of j", "GET | [\"k\"] | after"]);
    assert_eq!(wire.counters().gap, 6);
}

/// Pub/sub with RESP2 and RESP3: one row for a subscription, one for each message, with roles swapped; a
/// list that looks like a message is none.
#[test]
fn publish_and_subscribe() {
    for sign in ["*", ">"] {
        let confirm = |kind: &str, channel: &str, count: u32| {
            format!("{sign}3\r\n{}{}:{count}\r\n", text(kind), text(channel))
        };
        fn text(text: &str) -> String {
            format!("${}\r\n{text}\r\n", text.len())
        }
        let mut wire = wire();
        wire.ask(&command("LRANGE l 0 -1"));
        wire.answer(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n");
        wire.ask(&command("SUBSCRIBE a b"));
        wire.answer(confirm("subscribe", "a", 1).as_bytes());
        wire.answer(confirm("subscribe", "b", 2).as_bytes());
        wire.ask(&command("PSUBSCRIBE n*"));
        wire.answer(confirm("psubscribe", "n*", 3).as_bytes());
        wire.answer(
            format!("{sign}3\r\n{}{}{}", text("message"), text("a"), text("hi")).as_bytes(),
        );
        let pattern = [text("pmessage"), text("n*"), text("news"), text("ho")].concat();
        wire.answer(format!("{sign}4\r\n{pattern}").as_bytes());
        wire.ask(&command("UNSUBSCRIBE"));
        wire.answer(confirm("unsubscribe", "b", 2).as_bytes());
        wire.answer(confirm("unsubscribe", "a", 1).as_bytes());
        wire.ask(&command("PING"));
        wire.answer(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        wire.close();
        let want = [
            r#"LRANGE | ["l","0","-1"] | ["message","a","b"]"#,
            r#"SUBSCRIBE | ["a","b"] | [["subscribe","a","1"],["subscribe","b","2"]]"#,
            r#"PSUBSCRIBE | ["n*"] | [["psubscribe","n*","3"]]"#,
            r#"PUSH | [] | ["message","a","hi"]"#,
            r#"PUSH | [] | ["pmessage","n*","news","ho"]"#,
            r#"UNSUBSCRIBE | [] | [["unsubscribe","b","2"],["unsubscribe","a","1"]]"#,
            r#"PING | [] | ["pong",""]"#,
        ];
        assert_eq!(wire.lines(), want);
        let pushes: Vec<bool> = wire.rows().iter().map(|row| row.is_push).collect();
        assert_eq!(pushes, [false, false, false, true, true, false, false]);
        assert!(wire.rows().iter().all(|row| !row.is_push || row.cells[3] == "0"));
    }
}

/// A push between a command and its reply is not its reply, nor counted.
#[test]
fn pushes_come_between() {
    let mut wire = wire();
    wire.ask(&command("HELLO 3"));
    wire.answer(b"%1\r\n$5\r\nproto\r\n:3\r\n");
    wire.ask(&command("GET k"));
    wire.answer(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n$1\r\nv\r\n");
    let want = [
        r#"HELLO | ["3"] | ["proto","3"]"#,
        r#"PUSH | [] | ["invalidate",["k"]]"#,
        r#"GET | ["k"] | v"#,
    ];
    assert_eq!(wire.lines(), want);
    assert_eq!(wire.counters(), Counters { exchanges: 3, ..Counters::default() });
}

/// Inline commands, also with quotes and blank lines, and answers that were turned off.
#[test]
fn inline_commands_and_answers_turned_off() {
    let mut wire = wire();
    wire.ask(b"\r\nping\r\nset k \"a b\"\r\n");
    wire.answer(b"+PONG\r\n+OK\r\n");
    wire.ask(&[command("CLIENT REPLY SKIP"), command("SET a 1"), command("GET a")].concat());
    wire.answer(&bulk("1"));
    wire.ask(
        &[command("CLIENT REPLY OFF"), command("SET a 2"), command("client reply on")].concat(),
    );
    wire.answer(b"+OK\r\n");
    let want = [
        r"PING | [] | PONG",
        r#"SET | ["k","a b"] | OK"#,
        r#"GET | ["a"] | 1"#,
        r#"CLIENT | ["reply","on"] | OK"#,
    ];
    assert_eq!(wire.lines(), want);
    assert_eq!(wire.counters().unanswered, 4);
}

/// Whole lines that are commands begin a connection on Redis' port; elsewhere, or with a line that is none, as
/// memcached's and mail's, they do not. Catches both pipelines of inline commands whose answers are nothing but
/// `+OK`, and text of others taken for them.
#[test]
fn inline_commands_on_their_port() {
    let on = |bytes: &[u8], port: u16, at_start: bool| {
        let ports = [4_000, port];
        (PROTOCOL.recognise)(&Beginning {
            bytes,
            at_start,
            opened: true,
            is_datagram: false,
            ports,
        })
    };
    for lines in [&b"SET key \"a b\"\r\n"[..], b"set a 1\nGET a\n", b"AUTH secret\r\nSELECT 1\r\n"]
    {
        assert_eq!(on(lines, 6_379, true), Verdict::Is(Side::Request));
        assert_eq!(on(lines, 6_380, true), Verdict::IsNot);
        assert_eq!(on(lines, 6_379, false), Verdict::IsNot);
        assert_eq!(on(&lines[..lines.len() - 1], 6_379, true), Verdict::IsNot);
    }
    for other in [
        &b"set k 0 0 5\r\nworld\r\n"[..],
        b"gets k\r\n",
        b"AUTH x\r\nEHLO a.example\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n",
        b"",
    ] {
        assert_eq!(on(other, 6_379, true), Verdict::IsNot, "{other:?}");
    }
}

/// What `MONITOR` shows is nobody's answer, and a replica's connection is left alone.
#[test]
fn monitors_and_replicas() {
    let mut wire = wire();
    wire.ask(&command("MONITOR"));
    wire.answer(b"+OK\r\n+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n");
    wire.ask(&command("PING"));
    wire.answer(b"+1339518083.107413 [0 127.0.0.1:60866] \"get\"\r\n+PONG\r\n");
    assert_eq!(wire.lines(), ["MONITOR | [] | OK", "PING | [] | PONG"]);
    wire.ask(&command("PSYNC ? -1"));
    wire.answer(b"+FULLRESYNC 8de 1\r\n$5\r\nREDIS*1\r\n$4\r\nPING\r\n");
    assert_eq!(wire.lines().len(), 3);
    assert!(wire.parser.is_done());
}

/// Passwords of logins and settings are in no row, unless it is asked for.
#[test]
fn passwords_are_hidden() {
    let ok = b"+OK\r\n";
    let cases = [
        ("AUTH s3", r#"AUTH | ["<REDACTED>"] | OK"#),
        ("auth user s3", r#"AUTH | ["<REDACTED>"] | OK"#),
        (
            "HELLO 3 AUTH user s3 SETNAME me",
            r#"HELLO | ["3","AUTH","user","<REDACTED>","SETNAME","me"] | OK"#,
        ),
        ("HELLO 3 AUTH auth s3", r#"HELLO | ["3","AUTH","auth","<REDACTED>"] | OK"#),
        ("CONFIG SET requirepass s3", r#"CONFIG | ["SET","requirepass","<REDACTED>"] | OK"#),
        ("ACL SETUSER u on >s3 ~k", r#"ACL | ["SETUSER","u","on","<REDACTED>","~k"] | OK"#),
        (
            "MIGRATE h 1 k 0 9 AUTH2 u s3",
            r#"MIGRATE | ["h","1","k","0","9","AUTH2","u","<REDACTED>"] | OK"#,
        ),
        ("SET password s3", r#"SET | ["password","s3"] | OK"#),
    ];
    for (words, want) in cases {
        assert_eq!(row(&command(words), ok), want);
    }
    let with = |mode| {
        let mut wire = wire();
        wire.config.redactor = Redactor::new(mode, &[], None);
        wire.ask(&command("AUTH a b"));
        wire.answer(ok);
        wire.lines()[0].clone()
    };
    assert_eq!(with(Mode::Off), r#"AUTH | ["a","b"] | OK"#);
    assert_eq!(with(Mode::Bodies), r#"AUTH | ["<REDACTED>"] | <REDACTED>"#);
}

/// Columns are bounded and stay JSON: strings are cut, then empty, then elements left out.
#[test]
fn columns_are_bounded() {
    let words = vec!["abcdefgh"; 50_000].join(" ");
    let mut wire = wire();
    wire.ask(&command(&format!("DEL {words}")));
    let nested = [b"*1\r\n".repeat(30), b":1\r\n".to_vec()].concat();
    wire.answer(&nested);
    let cells = &wire.rows()[0].cells;
    assert!(cells[1].len() < 20_000, "{}", cells[1].len());
    assert!(cells[1].starts_with(r#"["abcdefgh","#) && cells[1].ends_with(r#","",""]"#));
    assert_eq!(cells[2], format!("{}\"1\"{}", "[".repeat(30), "]".repeat(30)));
    // Deeper than anything is: no reply, and no stack.
    wire.ask(&command("GET a"));
    wire.answer(&b"*1\r\n".repeat(100_000));
    wire.settle();
    wire.wait(1_000_000_000);
    wire.ask(&command("GET b"));
    wire.answer(&bulk("b"));
    wire.settle();
    assert_eq!(wire.lines().last().map(String::as_str), Some(r#"GET | ["b"] | b"#));
}

/// A reply before its command (two CPUs) waits; one that nobody asked for, and a command that nobody
/// answers, are counted.
#[test]
fn halves() {
    let mut wire = wire();
    wire.answer(b"-ERR max number of clients reached\r\n");
    wire.settle();
    wire.ask(&command("GET k"));
    wire.close();
    assert_eq!(wire.counters(), Counters { unasked: 1, unanswered: 1, ..Counters::default() });
    // Joined between a command and its reply.
    let mut joined = Wire::begun(&PROTOCOL, false);
    joined.answer(&bulk("of before"));
    joined.wait(1_000_000_000);
    joined.ask(&command("GET k"));
    joined.answer(&bulk("v"));
    joined.settle();
    joined.close();
    assert_eq!(joined.lines(), [r#"GET | ["k"] | v"#]);
    assert_eq!(joined.counters(), Counters { exchanges: 1, unpaired: 1, ..Counters::default() });
}

/// Redis is told from others by its first bytes, on either side.
#[test]
fn redis_is_recognised() {
    check_recognised(
        &PROTOCOL,
        &[
            (Side::Request, b"*1\r\n$4\r\nPING\r\n"),
            (Side::Request, b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$3000000\r\nxxx"),
            (Side::Request, b"*2\r\n$9\r\nFT.SEARCH\r\n$1\r\nk\r\n"),
            (Side::Response, b"$5\r\nhello\r\n"),
            (Side::Response, b"*2\r\n:1\r\n$1\r\na\r\n"),
        ],
    );
    for cut in 1..13 {
        let found = verdict(&PROTOCOL, &b"*1\r\n$4\r\nPING\r\n"[..cut], true);
        assert_eq!(found, Verdict::Unsure, "{cut}");
    }
    for other in
        [&b"$HOME is"[..], b"* OK IMAP4rev1\r\n", b"+OK POP3 ready\r\n", b"$5\r\nhelloX\r\n"]
    {
        assert_eq!(verdict(&PROTOCOL, other, true), Verdict::IsNot);
    }
    for cut in 1..11 {
        let found = verdict(&PROTOCOL, &b"$5\r\nhello\r\n"[..cut], true);
        assert_eq!(found, Verdict::Unsure, "{cut}");
    }
}

/// What was taken for Redis and is not, is given up, on either side; a hole within a large value, or
/// within the calls that it comes by, is no sign of that.
#[test]
fn wrong_guesses_are_given_up() {
    for side in [Side::Request, Side::Response] {
        let mut wrong = wire();
        wrong.ask(&command("GET k"));
        wrong.answer(&bulk("v"));
        for n in 0..3 {
            assert!(!wrong.parser.is_wrong(), "{side:?} {n}");
            wrong.call(side, b"\x01\x02 something else\r\n");
            wrong.settle();
        }
        assert!(wrong.parser.is_wrong(), "{side:?}");
    }
    let mut right = wire();
    right.ask(&command("GET k"));
    let reply = bulk(&"x\r\n".repeat(100_000));
    right.lose(Side::Response, 10);
    reply[10..].chunks(1_000).for_each(|bytes| right.answer(bytes));
    right.settle();
    assert!(!right.parser.is_wrong());
    right.wait(1_000_000_000);
    right.ask(&command("GET j"));
    right.answer(&bulk("v"));
    right.settle();
    assert_eq!(right.lines(), [r#"GET | ["j"] | v"#]);
}

/// Memory is short while a reply is being read: that reply is nobody's then, not the next command's.
#[test]
fn given_up_within_a_reply() {
    let mut wire = wire();
    wire.ask(&command("GET a"));
    wire.answer(b"*2\r\n$1\r\nx\r\n");
    wire.give_up();
    wire.ask(&command("GET b"));
    wire.answer(b"$1\r\ny\r\n");
    wire.answer(&bulk("b"));
    wire.settle();
    assert!(wire.lines().iter().all(|line| line.ends_with("| b")), "{:?}", wire.lines());
    assert_eq!(wire.counters().given_up, 1);
}

/// A conversation whose rows can be told right from wrong: each reply repeats its command's word.
fn echoes(random: &mut SplitMix) -> Vec<Call> {
    let pipelined = random.next_u64().is_multiple_of(2);
    let mut calls = Vec::new();
    let mut n = 0;
    for _ in 0..30 {
        let batch = if pipelined { 1 + random.next_u64() % 5 } else { 1 };
        let (mut asked, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..batch {
            n += 1;
            let word = format!("w{n}-{}", "y".repeat((random.next_u64() % 40) as usize));
            // A script's reply can be anything.
            let (name, answer) = match random.next_u64() % 3 {
                0 => ("EVAL", format!("*2\r\n+{word}\r\n:1\r\n").into_bytes()),
                1 => ("FCALL", format!("+{word}\r\n").into_bytes()),
                _ => ("ECHO", bulk(&word)),
            };
            asked.extend(command(&format!("{name} {word}")));
            answers.extend(answer);
        }
        calls.push((Side::Request, asked));
        calls.push((Side::Response, answers));
    }
    calls
}

/// Whatever is lost, no reply is another command's.
#[test]
fn no_gap_makes_a_wrong_pair() {
    let right = check_random_gaps(&PROTOCOL, 2_000, 8, echoes, |cells| {
        let word = cells[1].trim_start_matches('[').trim_end_matches(']').trim_matches('"');
        let shown = cells[2].trim_start_matches("[\"").trim_end_matches("\"]");
        let shown = shown.split("\",\"").next().unwrap_or_default();
        word.starts_with(shown) || shown.starts_with(word)
    });
    assert!(right > 1_500, "{right} pairs were found");
}

/// Any bytes: no panic, bounded memory.
#[test]
fn any_bytes_do_no_harm() {
    check_any_bytes(&PROTOCOL, 600, &echoes(&mut SplitMix(1)));
}
