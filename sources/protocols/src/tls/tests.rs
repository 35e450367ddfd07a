//! Handshakes as bytes, against the rows that they have to give.

use super::PROTOCOL;
use crate::Side::{Request, Response};
use crate::protocol::Verdict;
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, lines_of, verdict,
};

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&(u32::from(kind) << 24 | body.len() as u32).to_be_bytes()[..], body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), body].concat()
}

fn sized(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes()[..], body].concat()
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> =
        names.iter().flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat()).collect();
    extension(16, &sized(&list))
}

fn client_hello(name: &str, names: &[&str], versions: &[u16]) -> Vec<u8> {
    let mut extensions = Vec::new();
    // One that says nothing here, with a number that is none.
    extensions.extend(extension(0x2a2a, &[0]));
    if !name.is_empty() {
        let entry = [&[0][..], &sized(name.as_bytes())].concat();
        extensions.extend(extension(0, &sized(&entry)));
    }
    if !names.is_empty() {
        extensions.extend(alpn(names));
    }
    if !versions.is_empty() {
        let list: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
        extensions.extend(extension(43, &[&[list.len() as u8][..], &list].concat()));
    }
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[32],
        &[9; 32],
        &sized(&[0x13, 0x01, 0xc0, 0x2f]),
        &[1, 0],
        &sized(&extensions),
    ];
    record(0x16, &message(1, &body.concat()))
}

const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

fn server_hello(random: [u8; 32], cipher: u16, extensions: &[u8]) -> Vec<u8> {
    let body =
        [&[3, 3][..], &random, &[0], &cipher.to_be_bytes(), &[0], &sized(extensions)].concat();
    message(2, &body)
}

fn tls13(random: [u8; 32]) -> Vec<u8> {
    record(0x16, &server_hello(random, 0x1301, &extension(43, &[3, 4])))
}

fn tls12() -> Vec<u8> {
    let more =
        [server_hello([1; 32], 0xc02f, &alpn(&["h2"])), message(11, &[5; 3_000]), message(14, &[])];
    record(0x16, &more.concat())
}

fn change_cipher() -> Vec<u8> {
    record(0x14, &[1])
}

const ASKS: &str = r#"22 | {"version":"TLS1.2","sni":"a.example","alpn":["h2","http/1.1"],"versions":["TLS1.3","TLS1.2"]}"#;

fn hello() -> Vec<u8> {
    client_hello("a.example", &["h2", "http/1.1"], &[0x0304, 0x0303])
}

/// TLS 1.3 and 1.2 up to where they are encrypted: a row each, and then nothing is read any more.
#[test]
fn handshakes() {
    let encrypted = record(0x17, &[8; 500]);
    let newer = [
        (Request, hello()),
        (Response, [tls13([1; 32]), change_cipher(), encrypted.clone()].concat()),
        (Request, [change_cipher(), encrypted].concat()),
    ];
    let expected = [format!(r#"{ASKS} | {{"version":"TLS1.3","cipher":"0x1301"}}"#)];
    assert_eq!(lines_of(&PROTOCOL, &newer), expected);
    let finished = record(0x16, &[1; 40]);
    let older = [
        (Request, hello()),
        (Response, tls12()),
        (
            Request,
            [record(0x16, &message(16, &[4; 70])), change_cipher(), finished.clone()].concat(),
        ),
        (Response, [change_cipher(), finished].concat()),
    ];
    let expected = [format!(r#"{ASKS} | {{"version":"TLS1.2","cipher":"0xc02f","alpn":"h2"}}"#)];
    assert_eq!(lines_of(&PROTOCOL, &older), expected);
    let mut wire = Wire::new(&PROTOCOL);
    for (side, bytes) in &older {
        assert!(!wire.parser.is_done());
        wire.call(*side, bytes);
    }
    assert!(wire.parser.is_done() && !wire.parser.is_wrong());
    let row = wire.rows()[0].clone();
    assert_eq!((row.time_ns, row.cells[3].as_str()), (3_000, "1000"));
    for calls in [&newer[..], &older] {
        check_every_split(&PROTOCOL, calls);
    }
}

/// A server that asks for another hello: two hellos, two rows, each with its answer.
#[test]
fn another_hello() {
    let second = client_hello("a.example", &[], &[0x0304]);
    let calls = [
        (Request, hello()),
        (Response, [tls13(RETRY), change_cipher()].concat()),
        (Request, [change_cipher(), second].concat()),
        (Response, [tls13([2; 32]), record(0x17, &[1; 90])].concat()),
        (Request, record(0x17, &[1; 90])),
    ];
    let expected = [
        format!(r#"{ASKS} | {{"version":"TLS1.3","cipher":"0x1301"}}"#),
        r#"22 | {"version":"TLS1.2","sni":"a.example","versions":["TLS1.3"]} | {"version":"TLS1.3","cipher":"0x1301"}"#.to_string(),
    ];
    assert_eq!(lines_of(&PROTOCOL, &calls), expected);
    check_every_split(&PROTOCOL, &calls);
}

/// Alerts in the clear: in place of a hello, behind one from either side, before one; encrypted ones say
/// nothing, and a hello without an answer is no row.
#[test]
fn alerts() {
    let alert = |level: u8, what: u8| record(0x15, &[level, what]);
    let answer = |text: &str| vec![format!("{ASKS} | {text}")];
    let chosen = r#""version":"TLS1.2","cipher":"0xc02f","alpn":"h2""#;
    for (calls, expected) in [
        (vec![(Request, hello()), (Response, alert(2, 40))], answer(r#"{"alert":40}"#)),
        (
            vec![(Request, hello()), (Response, tls12()), (Request, alert(2, 48))],
            answer(&format!(r#"{{{chosen},"alert":48}}"#)),
        ),
        (
            vec![(Request, hello()), (Response, [alert(1, 112), tls12()].concat())],
            answer(&format!(r#"{{{chosen},"alert":112}}"#)),
        ),
        (vec![(Request, hello()), (Response, alert(1, 112))], answer(r#"{"alert":112}"#)),
        (vec![(Request, hello()), (Request, alert(2, 90))], vec![]),
        (
            vec![
                (Request, hello()),
                (Response, tls12()),
                (Request, [change_cipher(), record(0x15, &[7; 26])].concat()),
                (Response, [change_cipher(), record(0x15, &[2, 20])].concat()),
            ],
            answer(&format!("{{{chosen}}}")),
        ),
    ] {
        assert_eq!(lines_of(&PROTOCOL, &calls), expected);
    }
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&hello());
    wire.close();
    assert_eq!(wire.counters().unanswered, 1);
}

/// A hello in several records, without extensions, of an old version, with a name that is no text.
#[test]
fn hellos_of_other_kinds() {
    let whole = hello();
    let body = &whole[5..];
    let parts = [record(0x16, &body[..3]), record(0x16, &body[3..50]), record(0x16, &body[50..])];
    let calls = [(Request, parts.concat()), (Response, tls13([1; 32]))];
    let expected = [format!(r#"{ASKS} | {{"version":"TLS1.3","cipher":"0x1301"}}"#)];
    assert_eq!(lines_of(&PROTOCOL, &calls), expected);
    let bare = [&[3, 1][..], &[7; 32], &[0], &sized(&[0, 5]), &[1, 0]].concat();
    let bare_answer = [&[3, 1][..], &[7; 32], &[0], &[0, 5, 0]].concat();
    let calls = [
        (Request, record(0x16, &message(1, &bare))),
        (Response, record(0x16, &message(2, &bare_answer))),
    ];
    let expected = [r#"22 | {"version":"TLS1.0"} | {"version":"TLS1.0","cipher":"0x0005"}"#];
    assert_eq!(lines_of(&PROTOCOL, &calls), expected);
    let odd = client_hello("a\u{1}\"b", &["\\"], &[0x7f1c, 0x0a0a]);
    let calls = [(Request, odd), (Response, tls13([1; 32]))];
    let lines = lines_of(&PROTOCOL, &calls);
    let asked =
        r#"{"version":"TLS1.2","sni":"a\u0001\"b","alpn":["\\"],"versions":["0x7f1c","0x0a0a"]}"#;
    assert_eq!(lines, [format!(r#"22 | {asked} | {{"version":"TLS1.3","cipher":"0x1301"}}"#)]);
}

/// What is no TLS behind hellos that were answered ends the guess, not their row. Catches a row that goes,
/// uncounted, with a connection that is looked at anew.
#[test]
fn rows_outlast_what_is_none() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&hello());
    wire.answer(&tls12());
    for _ in 0..3 {
        wire.answer(b"none of its records");
    }
    assert!(wire.parser.is_wrong());
    assert_eq!((wire.rows().len(), wire.counters().exchanges), (1, 1));
}

/// A hello in the form of SSL 2.0, of the version that it asks for.
fn old_hello(version: [u8; 2], ciphers: usize, challenge: usize) -> Vec<u8> {
    let word = |value: usize| (value as u16).to_be_bytes();
    let body = [
        &[1][..],
        &version,
        &word(3 * ciphers),
        &[0, 0],
        &word(challenge),
        &vec![5; 3 * ciphers + challenge],
    ]
    .concat();
    [&word(0x8000 | body.len())[..], &body].concat()
}

/// Hellos of older programs, and servers' of TLS 1.3 before it was one, which have fewer fields.
#[test]
fn older_and_earlier_hellos() {
    let calls = [(Request, old_hello([3, 1], 20, 16)), (Response, tls12())];
    let answer = r#"{"version":"TLS1.2","cipher":"0xc02f","alpn":"h2"}"#;
    assert_eq!(lines_of(&PROTOCOL, &calls), [format!(r#"22 | {{"version":"TLS1.0"}} | {answer}"#)]);
    check_every_split(&PROTOCOL, &calls);
    for (version, shown) in [([0x7f, 18], "0x7f12"), ([3, 4], "TLS1.3")] {
        let body = [&version[..], &[7; 32], &[0x13, 1], &sized(&extension(40, &[1; 9]))].concat();
        let calls = [(Request, hello()), (Response, record(0x16, &message(2, &body)))];
        let expected = [format!(r#"{ASKS} | {{"version":"{shown}","cipher":"0x1301"}}"#)];
        assert_eq!(lines_of(&PROTOCOL, &calls), expected);
        assert_eq!(verdict(&PROTOCOL, &calls[1].1, false), Verdict::Is(Response));
    }
}

/// What is like an old hello, but for one number, is none: nor is one of SSL 2.0 itself, whose server
/// answers in another form. Catches foreign traffic that a first byte and a kind would let in.
#[test]
fn neighbours_of_older_hellos() {
    let hello = old_hello([3, 1], 20, 16);
    assert_eq!(verdict(&PROTOCOL, &hello, true), Verdict::Is(Request));
    for short in 1..11 {
        assert_eq!(verdict(&PROTOCOL, &hello[..short], true), Verdict::Unsure);
    }
    let changed = |at: usize, byte: u8| {
        let mut changed = hello.clone();
        changed[at] = byte;
        changed
    };
    for other in [
        changed(0, 0x00),
        changed(1, hello[1] + 1),
        changed(2, 2),
        changed(4, 9),
        changed(6, 61),
        changed(8, 7),
        old_hello([3, 1], 20, 8),
        old_hello([3, 1], 0, 16),
        old_hello([0, 2], 20, 16),
    ] {
        assert_eq!(verdict(&PROTOCOL, &other, true), Verdict::IsNot, "{other:?}");
    }
    let mut early = record(0x16, &server_hello([1; 32], 0x1301, &[]));
    early[9] = 0x7f;
    for (minor, expected) in
        [(0x0d, Verdict::IsNot), (0x12, Verdict::Is(Response)), (0x1d, Verdict::IsNot)]
    {
        early[10] = minor;
        assert_eq!(verdict(&PROTOCOL, &early, false), expected);
    }
}

/// What is cut behind the hellos costs nothing; a cut hello costs its row and no other; a hole costs what
/// is in it, and is counted.
#[test]
fn gaps() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&hello());
    let answer = tls12();
    wire.cut_call(Response, &answer, answer.len() - 2_000);
    wire.close();
    assert_eq!(wire.rows().len(), 1);
    let mut wire = Wire::new(&PROTOCOL);
    wire.cut_call(Request, &hello(), 60);
    wire.answer(&tls13(RETRY));
    wire.ask(&hello());
    wire.answer(&tls13([2; 32]));
    wire.close();
    assert_eq!((wire.rows().len(), wire.counters().gap), (1, 1));
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&hello());
    wire.lose(Response, 900);
    wire.answer(&record(0x17, &[1; 30]));
    wire.settle();
    wire.close();
    assert_eq!((wire.rows().len(), wire.counters().gap), (0, 1));
    // Joined behind the client's hello: an answer to nobody.
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.answer(&tls13([2; 32]));
    wire.settle();
    wire.close();
    assert_eq!((wire.rows().len(), wire.counters().unpaired), (0, 1));
}

/// A row waits for alerts for a moment, not for ever.
#[test]
fn rows_do_not_wait_long() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&hello());
    wire.answer(&tls12());
    assert!(wire.rows().is_empty() && wire.parser.is_waiting());
    wire.wait(5_000_000_000);
    assert_eq!(wire.rows().len(), 1);
    assert!(!wire.parser.is_waiting());
}

/// Hellos are known from either side; other records, and what only looks like one at first, are not.
#[test]
fn recognised() {
    assert_eq!(verdict(&PROTOCOL, &hello(), true), Verdict::Is(Request));
    assert_eq!(verdict(&PROTOCOL, &tls12(), false), Verdict::Is(Response));
    for short in 1..11 {
        assert_eq!(verdict(&PROTOCOL, &hello()[..short], true), Verdict::Unsure);
    }
    for other in [
        record(0x17, &[1; 60]),
        record(0x16, &message(11, &[1; 60])),
        b"\x16\x03\x01\x00\x02\x01\x00\x00\x02\x03\x03".to_vec(),
        b"\x16\x03\x09\x00\xff\x01\x00\x00\xff\x03\x03".to_vec(),
        b"GET / HTTP/1.1\r\n".to_vec(),
    ] {
        assert_eq!(verdict(&PROTOCOL, &other, true), Verdict::IsNot);
    }
}

fn conversation() -> Vec<Call> {
    vec![
        (Request, hello()),
        (Response, [tls13(RETRY), change_cipher()].concat()),
        (Request, [change_cipher(), hello()].concat()),
        (Response, [tls13([2; 32]), record(0x17, &[1; 90])].concat()),
        (Request, [change_cipher(), record(0x17, &[1; 90])].concat()),
    ]
}

/// Random losses cost rows, and make none that is wrong.
#[test]
fn random_gaps() {
    let answer = r#"{"version":"TLS1.3","cipher":"0x1301"}"#;
    let right = check_random_gaps(
        &PROTOCOL,
        2_000,
        8,
        |_| conversation(),
        |cells| format!("22 | {}", cells[1]) == ASKS && cells[2] == answer,
    );
    assert!(right > 1_000, "{right}");
}

/// No panic on any bytes, and no more memory than there may be.
#[test]
fn any_bytes() {
    check_any_bytes(&PROTOCOL, 4_000, &conversation());
}

/// Records without end, hellos that are said to be huge, hellos by the thousand: bounded.
#[test]
fn floods() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&record(0x16, &[&[1, 0xff, 0xff, 0xff, 3, 3][..], &[0; 16_000]].concat()));
    for _ in 0..40 {
        wire.ask(&record(0x16, &[0; 16_000]));
    }
    wire.close();
    let mut wire = Wire::new(&PROTOCOL);
    let many: Vec<String> = (0..3_000).map(|number| format!("name{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    wire.ask(&client_hello("", &many[..1_400], &[]));
    wire.answer(&tls13([1; 32]));
    wire.close();
    let row = &wire.rows()[0];
    assert!(row.cells[1].len() < 4_000 && row.cells[1].ends_with("\"]}"), "{}", row.cells[1]);
}

/// More hellos than a handshake has, whole or cut, are given up with their connection: none gets the answer
/// of another. An answer from before a hello is not its own.
#[test]
fn too_many_hellos() {
    let named = |n: usize| client_hello(&format!("n{n}"), &[], &[0x0304]);
    for is_cut in [false, true] {
        let mut wire = Wire::new(&PROTOCOL);
        (1..5).for_each(|n| wire.ask(&named(n)));
        assert!(!wire.parser.is_done());
        let seen = if is_cut { 60 } else { named(5).len() };
        wire.cut_call(Request, &named(5), seen);
        assert!(wire.parser.is_done() && !wire.parser.is_wrong());
        for n in 6..100 {
            wire.ask(&named(n));
            wire.answer(&tls13([n as u8; 32]));
        }
        wire.close();
        let counters = wire.counters();
        assert_eq!((wire.rows().len(), counters.given_up + counters.gap), (0, 5), "{is_cut}");
    }
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&named(1));
    wire.give_up();
    wire.ask(&named(2));
    wire.answer(&tls13([1; 32]));
    wire.close();
    assert_eq!((wire.rows().len(), wire.counters().given_up), (0, 1));
}
