//! Whatever a client does and whatever is lost: no answer is another request's, and what is certain is shown.

use super::*;
use crate::trials::{Client, Exchange, Faults, Outcome, Pace, everybody, sum, trial};

/// More than are ever under way.
const TAGS: usize = 9;

fn tag(exchange: usize) -> u32 {
    2 + (exchange % TAGS) as u32
}

/// Dispatches with and without fragments, whose tags are used again as soon as they can be; pings.
fn exchanges(random: &mut SplitMix, count: usize) -> Vec<Exchange> {
    let one = |n: usize| {
        let payload = [CALL, &vec![0; random.below(90) as usize]].concat();
        let reply = [&[0, 0, 0], REPLY, &vec![0; random.below(90) as usize]].concat();
        let body = to(TRACE, "/", None, &payload);
        let tag = tag(n);
        let (asked, answer) = match random.below(6) {
            0 => (frame(TPING, tag, b""), frame(RPING, tag, b"")),
            1 => (frame(TDISPATCH, tag, &body), frame(RERR, tag, b"no")),
            2 => (
                fragments(TDISPATCH, tag, &body, 80).concat(),
                fragments(RDISPATCH, tag, &reply, 30).concat(),
            ),
            _ => (frame(TDISPATCH, tag, &body), frame(RDISPATCH, tag, &reply)),
        };
        Exchange { asked, answer, rows: 1 }
    };
    (0..count).map(one).collect()
}

/// Of which exchange each half of a row is, by its times and its tag.
fn of_row(row: &Row, outcome: &Outcome) -> [Option<usize>; 2] {
    let [_, latency_ns, _, row_tag] = numbers(row);
    [0, 1].map(|half| {
        let at_ns = row.time_ns - if half == 0 { latency_ns } else { 0 };
        let is_it =
            |n: &usize| outcome.begun_ns[*n][half] == at_ns && i64::from(tag(*n)) == row_tag;
        let found = (0..outcome.begun_ns.len()).find(is_it);
        assert!(found.is_some(), "{row:?} begins with no message");
        found
    })
}

/// How many rows there are, of those that could be. A wrong one panics.
fn run(seeds: u64, who: (Client, Pace), faults: Faults) -> (usize, usize) {
    sum(seeds, |seed| {
        let exchanges = exchanges(&mut SplitMix(seed ^ 0xabcd), 120);
        let outcome = trial(&PROTOCOL, seed, who, &faults, &exchanges);
        outcome.shown(&exchanges, |row| of_row(row, &outcome))
    })
}

/// Without losses every row is there, whoever sends how.
#[test]
fn without_losses() {
    for who in everybody() {
        assert_eq!(run(20, who, Faults::one_in(0)), (20 * 120, 20 * 120), "{who:?}");
    }
}

/// Lost requests, lost answers, both, few and many, and a connection that is joined midway: whatever the client does,
/// no row is wrong.
#[test]
fn no_loss_makes_a_wrong_pair() {
    for who in everybody() {
        for faults in [
            Faults::one_in(30),
            Faults::one_in(8),
            Faults { responses: false, ..Faults::one_in(30) },
            Faults { requests: false, ..Faults::one_in(30) },
            Faults { copied_bytes_max: 100, ..Faults::one_in(50) },
            Faults { copied_bytes_max: 100, has_tails: false, ..Faults::one_in(0) },
            Faults { joined_at: 7, ..Faults::one_in(0) },
            Faults { joined_at: 8, ..Faults::one_in(50) },
        ] {
            run(30, who, faults);
        }
    }
}

/// What a loss costs is what was under way.
#[test]
fn certainty_comes_back() {
    for client in [Client::Waits, Client::Keeps(5), Client::Anytime] {
        let share = |faults| {
            let (right, seen) = run(60, (client, Pace::Any), faults);
            100 * right / seen
        };
        let few = share(Faults::one_in(100));
        let many = share(Faults::one_in(20));
        let joined = share(Faults { joined_at: 7, ..Faults::one_in(0) });
        assert!(few >= 90 && many >= 60 && joined >= 90, "{client:?}: {few} {many} {joined} %");
    }
}

/// A message that is still to be answered, or was: when, and with which tag.
struct Sent {
    tag: u32,
    asked_ns: i64,
    answered_ns: Option<i64>,
    is_seen: [bool; 2],
}

/// Sends a call, or loses it, or a part of it. Whether all of it was seen.
fn send(wire: &mut Wire, random: &mut SplitMix, side: Side, bytes: &[u8], one_in: u64) -> bool {
    if one_in == 0 || random.below(one_in) > 0 {
        wire.call(side, bytes);
        return true;
    }
    match random.below(3) {
        0 => {
            wire.now_ns += 1_000;
            wire.lose(side, bytes.len() as u64);
        }
        1 => wire.cut_call(side, bytes, 0),
        _ => wire.cut_call(side, bytes, random.below(bytes.len() as u64) as usize),
    }
    false
}

/// Answers in any order, tags that are used again at once, the lowest first, as Finagle does. How many rows there are,
/// and how many were seen; no row is wrong.
fn in_any_order(seed: u64, one_in: u64) -> (usize, usize) {
    let mut random = SplitMix(seed);
    let mut wire = Wire::begun(&PROTOCOL, seed % 4 != 3);
    let (mut sent, mut waiting): (Vec<Sent>, Vec<usize>) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        if waiting.is_empty() || (waiting.len() < 6 && random.below(2) == 0) {
            let tag = (2..).find(|tag| waiting.iter().all(|at| sent[*at].tag != *tag)).unwrap();
            let is_seen = send(&mut wire, &mut random, Side::Request, &dispatch(tag, CALL), one_in);
            waiting.push(sent.len());
            let asked_ns = wire.now_ns;
            sent.push(Sent { tag, asked_ns, answered_ns: None, is_seen: [is_seen, false] });
        } else {
            let at = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
            let answer = dispatched(sent[at].tag, REPLY);
            sent[at].is_seen[1] = send(&mut wire, &mut random, Side::Response, &answer, one_in);
            sent[at].answered_ns = Some(wire.now_ns);
        }
        if random.below(10) == 0 {
            wire.wait(random.below(300_000_000) as i64);
        }
    }
    wire.settle();
    let rows = wire.close().to_vec();
    for row in &rows {
        let [_, latency_ns, _, tag] = numbers(row);
        let one = sent.iter().find(|one| one.asked_ns == row.time_ns - latency_ns).unwrap();
        assert_eq!(
            (one.answered_ns, i64::from(one.tag)),
            (Some(row.time_ns), tag),
            "{seed}: {row:?}"
        );
    }
    (rows.len(), sent.iter().filter(|one| one.is_seen == [true; 2]).count())
}

#[test]
fn answers_in_any_order() {
    let (rows, seen) = sum(100, |seed| in_any_order(4 * seed, 0));
    assert_eq!(rows, seen);
    for one_in in [5, 20, 100] {
        let (rows, seen) = sum(300, |seed| in_any_order(seed, one_in));
        let least = [40, 70, 90][[5, 20, 100].iter().position(|n| *n == one_in).unwrap()];
        assert!(100 * rows >= least * seen, "one in {one_in}: {rows} of {seen}");
    }
}
