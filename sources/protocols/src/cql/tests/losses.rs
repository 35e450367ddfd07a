//! Whatever is lost: no request has another's response, and afterwards everything is read again.

use weir_types::random::SplitMix;

use super::wires::segment;
use super::*;
use crate::testing::{check_any_bytes, check_random_gaps, check_recovery};
use crate::trials::{Client, Exchange, Faults, Pace, everybody, number, sum, trial};

/// Asks with a word, and is answered with it; a stream is used again by the ninth request.
fn exchange(version: u8, n: usize, random: &mut SplitMix) -> [Vec<u8>; 2] {
    let stream = (n % 9) as i16;
    let word = format!("w{n}-{}", "y".repeat(random.below(40) as usize));
    let asked = query(version, stream, &format!("SELECT {word}"));
    let answer = match random.below(3) {
        0 => error(version, stream, 0x2200, &word),
        1 => frame(version, stream, opcode::RESULT, &[&[0, 0, 0, 3][..], &string(&word)].concat()),
        _ => {
            let rows = rows(&[(word.as_str(), 13)], random.below(300) as u32);
            frame(version, stream, opcode::RESULT, &rows)
        }
    };
    match version {
        5 => [asked, answer].map(|bytes| segment(&bytes, true, "plain")),
        _ => [asked, answer],
    }
}

fn of_row(row: &crate::testing::Row) -> [Option<usize>; 2] {
    // The first word of all has its letter in it.
    let answer = row.cells[3].replace("rows", "");
    [number(&row.cells[1]), number(&answer)]
}

pub(super) fn is_right(cells: &[String]) -> bool {
    match (number(&cells[1]), number(&cells[3])) {
        (Some(asked), Some(answered)) => asked == answered,
        _ => true,
    }
}

/// How many rows there are, of those that could be. A wrong one panics.
fn run(version: u8, seeds: u64, who: (Client, Pace), faults: Faults) -> (usize, usize) {
    sum(seeds, |seed| {
        let mut random = SplitMix(seed ^ 0xabcd);
        let one = |n| {
            let [asked, answer] = exchange(version, n, &mut random);
            Exchange { asked, answer, rows: 1 }
        };
        let exchanges: Vec<Exchange> = (0..120).map(one).collect();
        trial(&PROTOCOL, seed, who, &faults, &exchanges).shown(&exchanges, of_row)
    })
}

/// Without losses every row is there, whoever sends how.
#[test]
fn without_losses() {
    for who in everybody() {
        for version in [4, 5] {
            let found = run(version, 10, who, Faults::one_in(0));
            assert_eq!(found, (10 * 120, 10 * 120), "{who:?} {version}");
        }
    }
}

/// Lost requests, lost responses, both, few and many, and a connection that is joined midway: whatever the
/// client does, no row is wrong, and most of what was seen is shown.
#[test]
fn no_loss_makes_a_wrong_pair() {
    let (mut shown, mut there) = (0, 0);
    for who in everybody() {
        for faults in [
            Faults::one_in(30),
            Faults::one_in(8),
            Faults { responses: false, ..Faults::one_in(30) },
            Faults { requests: false, ..Faults::one_in(30) },
            Faults { copied_bytes_max: 300, ..Faults::one_in(50) },
            Faults { copied_bytes_max: 300, has_tails: false, ..Faults::one_in(0) },
            Faults { joined_at: 31, ..Faults::one_in(60) },
        ] {
            for version in [4, 5] {
                let found = run(version, 6, who, faults);
                (shown, there) = (shown + found.0, there + found.1);
            }
        }
    }
    assert!(shown * 100 >= there * 80, "{shown} of {there}");
}

fn conversation(random: &mut SplitMix) -> Vec<Call> {
    let version = if random.below(2) == 0 { 4 } else { 5 };
    let [start, ready] = plain_startup(version);
    let mut calls: Vec<Call> = pair(start, ready).to_vec();
    let mut next = 0;
    while next < 60 {
        let count = 1 + random.below(5) as usize;
        let pairs: Vec<_> = (0..count).map(|n| exchange(version, next + n, random)).collect();
        next += count;
        calls.extend(pairs.iter().map(|[asked, _]| (Side::Request, asked.clone())));
        let answers = pairs.into_iter().map(|[_, answer]| answer);
        match random.below(2) {
            0 => calls.extend(answers.rev().map(|answer| (Side::Response, answer))),
            _ => calls.push((Side::Response, answers.collect::<Vec<_>>().concat())),
        }
    }
    calls
}

#[test]
fn random_losses() {
    for one_in in [4, 8, 20] {
        let right = check_random_gaps(&PROTOCOL, 200, one_in, conversation, is_right);
        assert!(right > 200 * 5, "{right} rows");
    }
    for seed in [1, 2, 3, 4] {
        let calls = conversation(&mut SplitMix(seed)).split_off(2);
        let [asked, answer] =
            exchange(if calls[0].1[0] == 4 { 4 } else { 5 }, 99, &mut SplitMix(0));
        check_recovery(&PROTOCOL, 60, &calls, &pair(asked, answer), 10_000_000_000);
    }
}

#[test]
fn any_bytes() {
    for version in [3, 4, 5] {
        check_any_bytes(&PROTOCOL, 200, &session(version).0);
    }
    check_any_bytes(&PROTOCOL, 200, &conversation(&mut SplitMix(1)));
    check_any_bytes(&PROTOCOL, 200, &conversation(&mut SplitMix(4)));
}

/// A client that uses one stream over and over: an answer that was lost, and the request after it, do not
/// give the first request the second's answer; not even the first time that a stream comes again.
#[test]
fn a_stream_is_used_again() {
    for lost in [0, 1] {
        let mut wire = Wire::new(&PROTOCOL);
        for n in 0..=lost {
            wire.ask(&query(4, 7, &format!("SELECT w{n}-")));
            if n < lost {
                wire.answer(&error(4, 7, 0x2200, &format!("w{n}-")));
            }
        }
        wire.lose(Side::Response, error(4, 7, 0x2200, "w1-").len() as u64);
        wire.lose(Side::Request, query(4, 7, "SELECT w2-").len() as u64);
        wire.answer(&error(4, 7, 0x2200, "w2-"));
        wire.settle();
        wire.ask(&query(4, 7, "SELECT w3-"));
        wire.answer(&error(4, 7, 0x2200, "w3-"));
        wire.settle();
        wire.close();
        assert!(wire.rows().iter().all(|row| is_right(&row.cells)), "{:?}", wire.rows());
        assert_eq!(wire.rows().len(), 1 + lost as usize);
        assert!(wire.counters().gap >= 1);
    }
}

/// Large responses, whole, in pieces, or of which the kernel copied the beginning only; lengths that are lies.
#[test]
fn lengths() {
    let columns: Vec<String> = (0..3_000).map(|n| format!("column-{n}")).collect();
    let columns: Vec<(&str, u8)> = columns.iter().map(|name| (name.as_str(), 13)).collect();
    let answer = frame(4, 1, opcode::RESULT, &rows(&columns, 100));
    for seen in [answer.len(), 30_720, 100, 20, 9, 8, 3] {
        let mut wire = Wire::new(&PROTOCOL);
        wire.ask(&query(4, 1, "SELECT w1-"));
        match seen == answer.len() {
            true => answer.chunks(10_000).for_each(|part| wire.answer(part)),
            false => wire.cut_call(Side::Response, &answer, seen),
        }
        wire.ask(&query(4, 2, "SELECT w2-"));
        wire.answer(&void(4, 2));
        wire.settle();
        wire.close();
        let without = usize::from(seen < 9);
        assert_eq!(wire.rows().len(), 2 - without, "{seen}: {:?}", wire.counters());
        assert_eq!(wire.counters().gap, without as u64);
        let shown = &wire.rows()[0].cells[3];
        assert_eq!(shown.contains("Number of columns = 3000"), seen > 20, "{shown}");
        assert_eq!(shown.contains("Number of rows = 100"), seen == answer.len());
    }
    let all = u32::MAX.to_be_bytes();
    for code in 0..=0x10u8 {
        for body in [all.to_vec(), [&[0, 0, 0, 2][..], &all, &all, &all].concat(), vec![0xff; 40]] {
            let mut wire = Wire::new(&PROTOCOL);
            wire.ask(&query(4, 1, "SELECT 1"));
            wire.call(side_of(code).unwrap_or(Side::Request), &frame(4, 1, code, &body));
            wire.call(Side::Request, &[&[4, 0, 0, 1, code][..], &all, &body].concat());
            wire.settle();
            wire.close();
        }
    }
}

/// A connection that was joined within a frame: what follows is read, also where many requests are under
/// way. What is not CQL is given up.
#[test]
fn joined_midway() {
    let mut random = SplitMix(5);
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.ask(b"\0\0the rest of a frame");
    let pairs: Vec<_> = (0..60).map(|n| exchange(4, n, &mut random)).collect();
    // The first requests were not seen.
    for n in 4..60 {
        wire.ask(&pairs[n][0]);
        wire.answer(&pairs[n - 4][1]);
    }
    wire.settle();
    wire.close();
    assert!(wire.rows().len() >= 50, "{} {:?}", wire.rows().len(), wire.counters());
    assert!(wire.rows().iter().all(|row| is_right(&row.cells)));
    let mut wire = Wire::new(&PROTOCOL);
    for _ in 0..70 {
        wire.ask(b"GET / HTTP/1.1\r\n\r\n");
    }
    assert!(wire.parser.is_wrong());
}

/// For room everything is forgotten and counted; what comes then is read.
#[test]
fn giving_up() {
    for version in [4, 5] {
        let mut random = SplitMix(6);
        let mut wire = Wire::new(&PROTOCOL);
        let [start, ready] = plain_startup(version);
        wire.ask(&start);
        wire.answer(&ready);
        for n in 1..9 {
            wire.ask(&exchange(version, n, &mut random)[0]);
        }
        wire.give_up();
        assert_eq!(wire.counters().given_up, 8);
        let [asked, answer] = exchange(version, 20, &mut random);
        wire.ask(&asked);
        wire.answer(&answer);
        wire.close();
        assert_eq!(wire.rows().len(), 2);
    }
}
