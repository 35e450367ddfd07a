//! What is cut, lost, hostile or somebody else's: no row is wrong, and what is missing is counted.

use super::*;

/// The word of the request is that of the response, as far as both are there.
pub(super) fn is_right(cells: &[String]) -> bool {
    match [&cells[1], &cells[3]].map(|text| number(text)) {
        [Some(asked), Some(answered)] => asked == answered,
        _ => true,
    }
}

/// However calls are split into pieces, the rows are the same.
#[test]
fn splits() {
    let mut calls: Vec<Call> = (1..4).flat_map(|n| find(n, n as i32)).collect();
    let one = doc(&[int("a", 1)]);
    let many = [body(&[text("insert", "c")]), sequence("documents", &[one.clone(), one.clone()])];
    calls.extend([
        (Side::Request, sections(7, 0, MORE, &many)),
        (Side::Request, update(8, "shop.c", 3, &one, &one)),
        (Side::Request, query(9, 0, "shop.c", 0, 0, &one)),
        (Side::Response, reply(70, 9, 8, 0, &[one.clone(), one])),
        (Side::Request, packed(&find(6, 10)[0].1, 1)),
        (Side::Response, packed(&find(6, 10)[1].1, 2)),
    ]);
    check_every_split(&PROTOCOL, &calls);
}

/// Of a message that is cut anywhere what is there is shown, in valid JSON; what follows it is right. Where
/// not even its command is there, it is no row and counted once.
#[test]
fn cut_anywhere() {
    let long = "ü".repeat(300);
    let filter = sub("filter", &[text("t", "w5-"), text("long", &long), long_list()]);
    let request = asked(5, 0, &[text("find", "lines"), filter]);
    let [_, (_, answer)] = find(5, 5);
    let shown = |requests: &[u8], seen: [usize; 2]| {
        let mut wire = Wire::new(&PROTOCOL);
        wire.cut_call(Side::Request, requests, seen[0]);
        wire.cut_call(Side::Response, &answer, seen[1]);
        find(6, 6).into_iter().for_each(|(side, bytes)| wire.call(side, &bytes));
        wire.settle();
        wire.close();
        let counters = wire.counters();
        let lost = counters.gap + counters.given_up + counters.unpaired;
        let rows: Vec<Cells> = wire.rows().iter().map(|row| cells(&row.cells)).collect();
        assert!(wire.rows().iter().all(|row| is_right(&row.cells)));
        assert_eq!(rows.last().unwrap().1["filter"]["t"], "w6-", "{seen:?}");
        assert!(rows.len() == 2 || lost >= 1, "{seen:?}: {counters:?}");
        assert!(rows.len() == 1 || lost == 0, "{seen:?}: {counters:?}");
        rows
    };
    for seen in 1..request.len() {
        let rows = shown(&request, [seen, answer.len()]);
        assert_eq!(rows.len() == 2, seen >= 31, "{seen}");
        if rows.len() == 2 {
            assert_eq!(rows[0].0, "find");
        }
    }
    for seen in 1..answer.len() {
        let rows = shown(&request, [request.len(), seen]);
        assert_eq!(rows.len() == 2, seen >= 25, "{seen}");
        if rows.len() == 2 {
            // What it is says the cursor, or its end.
            assert_eq!(rows[0].2, if seen >= 37 { "ok" } else { "" }, "{seen}");
        }
    }
    for compressor in 0..=3 {
        let request = packed(&request, compressor);
        for seen in (20..request.len()).step_by(7) {
            shown(&request, [seen, answer.len()]);
        }
    }
}

fn long_list() -> Vec<u8> {
    array("l", &vec![doc(&[int("a", 1)]); 20])
}

/// A message that is larger than what is looked at, or of which little was copied, and what follows it.
#[test]
fn large_messages() {
    let documents: Vec<Vec<u8>> =
        (0..3_000).map(|n| doc(&[int("_id", n), text("text", &"x".repeat(200))])).collect();
    let head = body(&[text("insert", "c"), text("$db", "shop")]);
    let request = sections(5, 0, 0, &[head, sequence("documents", &documents)]);
    let cursor = [array("firstBatch", &documents), long("id", 4)];
    let answer = answered(6, 5, 0, &[sub("cursor", &cursor)]);
    for seen in [usize::MAX, 30_720, 200] {
        let mut wire = Wire::new(&PROTOCOL);
        for (side, bytes) in [(Side::Request, &request), (Side::Response, &answer)] {
            match seen {
                usize::MAX => bytes.chunks(10_000).for_each(|part| wire.call(side, part)),
                seen => wire.cut_call(side, bytes, seen),
            }
        }
        find(6, 7).into_iter().for_each(|(side, bytes)| wire.call(side, &bytes));
        wire.settle();
        let rows: Vec<Cells> = wire.close().iter().map(|row| cells(&row.cells)).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].2.as_str(), rows[1].2.as_str()), ("ok", "ok"));
        let inserted = rows[0].1["documents"].as_array().unwrap();
        assert!(inserted.len() > if seen > 30_000 { 100 } else { 0 }, "{}", inserted.len());
        assert!(inserted[0]["text"].as_str().unwrap().len() >= 100);
        let bytes = wire.rows()[0].cells[1].len();
        assert!(bytes < 80 << 10, "{bytes}");
    }
}

/// Texts are cut, numbers and names are not.
#[test]
fn what_is_cut() {
    let request = asked(5, 0, &[text("a", &"ü".repeat(400)), text("b", "x"), int("c", 7)]);
    let bytes = vec![1; 900];
    let rows = rows_of(&[request], &[answered(6, 5, 0, &[binary("b", 0, &bytes)])]);
    assert_eq!(rows[0].1, json!({"a": "ü".repeat(256), "b": "", "c": 7, "$db": ""}));
    let shown = rows[0].3["b"]["$binary"]["base64"].as_str().unwrap();
    assert_eq!((shown.len(), rows[0].3["ok"].as_f64()), (512, Some(1.0)));
}

/// Documents within documents, as deep as bytes go: no stack is used up, and the text is JSON.
#[test]
fn deep_documents() {
    for levels in [DEPTH_MAX / 2, DEPTH_MAX + 50, 6_000] {
        let inner = (0..levels).fold(doc(&[]), |inner, _| doc(&[element(0x03, "a", &inner)]));
        let request = asked(5, 0, &[element(0x03, "a", &inner)]);
        let mut wire = Wire::new(&PROTOCOL);
        wire.ask(&request);
        wire.answer(&answered(6, 5, 0, &[]));
        let line = &wire.lines()[0];
        let open = line.matches('{').count();
        assert_eq!(open, line.matches('}').count());
        assert!(open <= DEPTH_MAX + 8, "{open}");
        assert!(line.contains("\"$db\":\"shop\""));
    }
}

/// Lengths that promise more than there is, or less than they may, in every place: no panic, no memory, and
/// what follows is read.
#[test]
fn hostile_lengths() {
    let [(_, request), _] = find(1, 1);
    let many = [body(&[text("insert", "c")]), sequence("documents", &[doc(&[])])];
    let samples = [
        request.clone(),
        sections(1, 0, 0, &many),
        query(1, 0, "shop.c", 0, 0, &doc(&[binary("b", 2, b"abcdef")])),
        packed(&request, 1),
        packed(&request, 3),
        kill_cursors(1, &[4, 5]),
    ];
    for sample in samples {
        for at in 16..sample.len() - 3 {
            for value in [0, 1, 3, 4, 0x7fff_ffff, 0x8000_0000, u32::MAX, 50_000_000] {
                let mut bytes = sample.clone();
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                let mut wire = Wire::new(&PROTOCOL);
                wire.ask(&bytes);
                find(2, 2).into_iter().for_each(|(side, bytes)| wire.call(side, &bytes));
                wire.settle();
                let rows = wire.close();
                assert!(rows.iter().any(|row| row.cells[1].contains("w2-")), "{at} {value:x}");
                rows.iter().for_each(|row| _ = cells(&row.cells));
            }
        }
    }
    for length in [0, 15, 23, 50_000_001, u32::MAX] {
        let mut bytes = request.clone();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        assert_eq!(verdict(&PROTOCOL, &bytes, true), Verdict::IsNot);
    }
}

/// What shells and servers said to each other is known, and counted.
#[test]
fn commands_that_are_not_read() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&message(1, 0, OP_COMMAND, &[b"db\0ping\0", &doc(&[])[..], &doc(&[])].concat()));
    wire.answer(&message(2, 1, OP_COMMAND + 1, &[doc(&[]), doc(&[])].concat()));
    find(3, 3).into_iter().for_each(|(side, bytes)| wire.call(side, &bytes));
    assert_eq!((wire.close().len(), wire.counters().given_up), (1, 1));
}

fn exchanges(random: &mut SplitMix, count: usize) -> Vec<Exchange> {
    let one = |n: usize| {
        let [(_, mut asked), (_, mut answer)] = find(n, n as i32 + 1);
        match random.below(4) {
            0 => asked = packed(&asked, random.below(4) as u8),
            1 => answer = packed(&answer, random.below(4) as u8),
            _ => {}
        }
        Exchange { asked, answer, rows: 1 }
    };
    (0..count).map(one).collect()
}

/// Whatever a client does and whatever is lost: no response is another request's, each loss is counted once,
/// and of what was seen whole most is shown; without losses, all of it.
#[test]
fn trials() {
    for who in everybody() {
        for (faults, least) in [
            (Faults::one_in(0), 100),
            (Faults::one_in(30), 80),
            (Faults::one_in(8), 50),
            (Faults { copied_bytes_max: 90, ..Faults::one_in(30) }, 0),
            (Faults { joined_at: 7, ..Faults::one_in(0) }, 80),
            (Faults { joined_at: 8, ..Faults::one_in(50) }, 80),
        ] {
            let (right, seen) = sum(8, |seed| {
                let exchanges = exchanges(&mut SplitMix(seed ^ 0xabcd), 120);
                let outcome = trial(&PROTOCOL, seed, who, &faults, &exchanges);
                let of = |row: &crate::testing::Row| {
                    [&row.cells[1], &row.cells[3]].map(|text| number(text))
                };
                outcome.shown(&exchanges, of)
            });
            assert!(right * 100 >= seen * least, "{who:?} {faults:?}: {right} of {seen}");
        }
    }
}

/// A conversation in pipelines of random lengths.
fn conversation(random: &mut SplitMix) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut next = 0;
    while next < 60 {
        let count = 1 + random.below(5) as usize;
        let pairs: Vec<_> = (next..next + count).map(|n| find(n, n as i32)).collect();
        next += count;
        let all: Vec<Call> = pairs.into_iter().flatten().collect();
        for side in [Side::Request, Side::Response] {
            let messages = bytes_of(&all, side);
            match random.below(2) {
                0 => calls.extend(messages.into_iter().map(|bytes| (side, bytes))),
                _ => calls.push((side, messages.concat())),
            }
        }
    }
    calls
}

/// Whatever is lost, no request has another's response; afterwards everything is read again.
#[test]
fn losses() {
    for one_in in [4, 8, 20] {
        let right = check_random_gaps(&PROTOCOL, 200, one_in, conversation, is_right);
        assert!(right > 200 * 5, "{right} rows");
    }
    let calls = conversation(&mut SplitMix(3));
    check_recovery(&PROTOCOL, 150, &calls, &find(99, 99), 10_000_000_000);
}

#[test]
fn any_bytes() {
    check_any_bytes(&PROTOCOL, 400, &conversation(&mut SplitMix(1)));
    let one = doc(&[int("a", 1), text("b", "text")]);
    let mut calls = Vec::new();
    for n in 0..20 {
        let [(_, asked), (_, answer)] = find(n, n as i32);
        calls.push((Side::Request, packed(&asked, n as u8 % 4)));
        calls.push((Side::Response, packed(&answer, 3 - n as u8 % 4)));
        calls.push((Side::Request, update(7, "a.b", 0, &one, &one)));
        calls.push((Side::Request, query(800, 64, "a.b", 0, 0, &one)));
        calls.push((Side::Response, reply(9, 800, 0, 4, std::slice::from_ref(&one))));
    }
    check_any_bytes(&PROTOCOL, 400, &calls);
}

/// Messages are told by themselves, whole or begun, from either end.
#[test]
fn recognised() {
    let one = doc(&[int("a", 1)]);
    let [(_, asked), (_, answer)] = find(3, 4);
    let samples = [
        (Side::Request, asked),
        (Side::Response, answer),
        (Side::Request, query(1, 4, "admin.$cmd", 0, -1, &one)),
        (Side::Request, insert(4, "shop.a", &[one.clone(), one.clone()])),
        (Side::Request, update(5, "shop.c", 3, &one, &one)),
        (Side::Request, delete(6, "shop.c", 1, &one)),
        (Side::Request, get_more(3, "shop.a.b", 5, 77)),
        (Side::Request, kill_cursors(7, &[77, -1])),
        (Side::Response, reply(91, 1, 8, 0, &[one])),
    ];
    for (side, bytes) in &samples {
        check_recognised(&PROTOCOL, &[(*side, bytes)]);
        for at in 0..bytes.len() {
            let found = verdict(&PROTOCOL, &bytes[..at], true);
            let is_begun = matches!(found, Verdict::Unsure | Verdict::Is(_)) || at == 0;
            assert!(is_begun, "{at}: {}", bytes.escape_ascii());
            assert!(!matches!(found, Verdict::Is(other) if other != *side), "{at}");
        }
        // Any other kind, and flags that nobody knows.
        for (at, byte) in [(12, 0xdb), (13, 9), (14, 1), (3, 3)] {
            let mut other = bytes.clone();
            other[at] = byte;
            assert_eq!(verdict(&PROTOCOL, &other, true), Verdict::IsNot, "{at}");
        }
    }
    let mut odd = samples[0].1.clone();
    odd[17] = 1;
    assert_eq!(verdict(&PROTOCOL, &odd, true), Verdict::IsNot);
    let mut random = SplitMix(11);
    for _ in 0..100_000 {
        // A length that fits, a kind that there is, and noise.
        let count = 24 + random.below(100) as usize;
        let mut bytes: Vec<u8> = (0..count).map(|_| random.next_u64() as u8).collect();
        let kind = [1, 2001, 2002, 2004, 2005, 2006, 2007, 2012, OP_MSG][random.below(9) as usize];
        bytes[..4].copy_from_slice(&(count as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&kind.to_le_bytes());
        bytes[16..20].fill(0);
        let found = verdict(&PROTOCOL, &bytes, true);
        assert_eq!(found, Verdict::IsNot, "{}", bytes.escape_ascii());
    }
}

/// A connection that was joined within a message: what follows is read. What is not MongoDB is given up.
#[test]
fn joined_midway() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(b"\0\0rest of a message");
    wire.answer(&find(3, 3)[1].1);
    for n in 4..8 {
        for (side, bytes) in find(n, n as i32) {
            // Heads are read by a call of their own.
            wire.call(side, &bytes[..16]);
            wire.call(side, &bytes[16..]);
        }
    }
    wire.wait(REORDER_GRACE_NS);
    wire.settle();
    assert_eq!(wire.rows().len(), 4, "{:?}", wire.counters());
    assert!(wire.rows().iter().all(|row| is_right(&row.cells)));
    assert_eq!(wire.counters().gap + wire.counters().unpaired, 1);
    let mut wire = Wire::new(&PROTOCOL);
    for _ in 0..70 {
        wire.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    assert!(wire.parser.is_wrong() && wire.rows().is_empty());
}

/// An answer in a series was lost: those behind it are nobody's, and counted; what is asked next is right.
#[test]
fn a_series_with_a_hole() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&asked(9, EXHAUST, &[int("hello", 1)]));
    for n in 0..5 {
        let to = if n == 0 { 9 } else { 99 + n };
        let answer = answered(100 + n, to, if n < 4 { MORE } else { 0 }, &[int("n", n)]);
        match n {
            2 => _ = wire.lose(Side::Response, answer.len() as u64),
            _ => wire.answer(&answer),
        }
    }
    wire.wait(REORDER_GRACE_NS);
    find(6, 7).into_iter().for_each(|(side, bytes)| wire.call(side, &bytes));
    // An id that an answer of a series had: nobody can tell.
    wire.ask(&asked(101, 0, &[int("ping", 1)]));
    wire.answer(&answered(900, 101, 0, &[]));
    wire.settle();
    assert_eq!(wire.close().len(), 3);
    let counters = wire.counters();
    assert_eq!((counters.gap + counters.unpaired + counters.unasked, counters.given_up), (2, 1));
}
