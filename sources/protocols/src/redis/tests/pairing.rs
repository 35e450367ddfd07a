//! Whatever a client does and whatever is lost: no reply is another command's, and what is certain is shown.

use super::*;
use crate::trials::{CLIENTS, Client, Exchange, Faults, Pace, everybody, number, sum, trial};

/// Exchanges that can be told right from wrong: each reply repeats its command's word, and is one that the command
/// can have; a script's can be anything.
fn echoes(random: &mut SplitMix, count: usize) -> Vec<Exchange> {
    let one = |n: usize| {
        let word = format!("w{n}-{}", "y".repeat(random.below(40) as usize));
        let (name, answer) = match random.below(3) {
            0 => ("EVAL", format!("*2\r\n+{word}\r\n:1\r\n").into_bytes()),
            1 => ("FCALL", format!("+{word}\r\n").into_bytes()),
            _ => ("ECHO", bulk(&word)),
        };
        Exchange { asked: command(&format!("{name} {word}")), answer, rows: 1 }
    };
    (0..count).map(one).collect()
}

/// The commands of an application, each with a reply that it can have.
fn mixed(random: &mut SplitMix, count: usize) -> Vec<Exchange> {
    let one = |n: usize| {
        let word = format!("w{n}-{}", "y".repeat(random.below(30) as usize));
        let list =
            |count: u64| format!("*{count}\r\n") + &format!("+{word}\r\n").repeat(count as usize);
        let list =
            |count| list(count).replace(&format!("+{word}"), &format!("${}\r\n{word}", word.len()));
        let (asked, answer) = match random.below(12) {
            0 | 1 => (format!("SET {word} v"), "+OK\r\n".to_owned()),
            2..5 => (format!("GET {word}"), format!("${}\r\n{word}\r\n", word.len())),
            5 => (format!("GET {word}"), "$-1\r\n".to_owned()),
            6 => (format!("GET {word}"), format!("-WRONGTYPE {word}\r\n")),
            7 => (format!("INCR {word}"), format!(":{n}\r\n")),
            8 => (format!("LPUSH {word} v"), format!(":{n}\r\n")),
            9 => (format!("LRANGE {word} 0 -1"), list(random.below(4))),
            10 => (format!("MGET {word} a b"), list(3)),
            _ => (format!("HGETALL {word}"), list(4)),
        };
        Exchange { asked: command(&asked), answer: answer.into_bytes(), rows: 1 }
    };
    (0..count).map(one).collect()
}

/// The same as [`run`], of an application's commands; pairs are told right by their times, too.
fn run_mixed(seeds: u64, who: (Client, Pace), faults: Faults) -> (usize, usize) {
    sum(seeds, |seed| {
        let exchanges = mixed(&mut SplitMix(seed ^ 0x7777), 300);
        let outcome = trial(&PROTOCOL, seed, who, &faults, &exchanges);
        for row in &outcome.rows {
            let Some(idx) = number(&row.cells[1]) else { continue };
            if outcome.seen[idx] {
                let asked_ns = row.time_ns - row.cells[3].parse::<i64>().unwrap();
                assert_eq!([asked_ns, row.time_ns], outcome.begun_ns[idx], "{seed} {row:?}");
            }
        }
        outcome.shown(&exchanges, |row| {
            let answer = &row.cells[2];
            [number(&row.cells[1]), answer.parse().ok().or_else(|| number(answer))]
        })
    })
}

/// A client that is never at rest loses what a hole has touched, and little else: what follows tells by what it
/// is whose it is. Where both halves are missing at once, a part of an array may be anything: that costs more.
#[test]
fn a_busy_client_loses_what_is_missing() {
    let few = Faults::one_in(100);
    let mut poor = Vec::new();
    for who in CLIENTS.map(|client| (client, Pace::Busy)) {
        for (faults, least) in [
            (few, 80.0),
            (Faults { responses: false, ..few }, 96.0),
            (Faults { requests: false, ..few }, 96.0),
            (Faults::one_in(30), 35.0),
        ] {
            let (right, seen) = run_mixed(40, who, faults);
            let share = 100.0 * right as f64 / seen as f64;
            if share < least {
                poor.push((who, faults.requests, faults.responses, faults.one_in, share));
            }
        }
    }
    assert!(poor.is_empty(), "{poor:#?}");
}

/// How many rows there are, of those that could be. A wrong one, or a loss that is counted twice, panics.
fn run(seeds: u64, who: (Client, Pace), faults: Faults) -> (usize, usize) {
    sum(seeds, |seed| {
        let exchanges = echoes(&mut SplitMix(seed ^ 0xabcd), 120);
        let outcome = trial(&PROTOCOL, seed, who, &faults, &exchanges);
        let counters = outcome.counters;
        let told = counters.exchanges + counters.gap + counters.unpaired + counters.given_up;
        let told = told + counters.unanswered + counters.unasked;
        assert!(told <= exchanges.len() as u64, "{who:?} {faults:?} {seed}: {counters:?}");
        outcome.shown(&exchanges, |row| [&row.cells[1], &row.cells[2]].map(|text| number(text)))
    })
}

/// Without losses every row is there, whoever sends how.
#[test]
fn without_losses() {
    for who in everybody() {
        assert_eq!(run(20, who, Faults::one_in(0)), (20 * 120, 20 * 120), "{who:?}");
    }
}

/// Lost requests, lost responses, both, few and many, and a connection that is joined midway: whatever the
/// client does, no row is wrong. Catches a client that sends while it waits and was not seen to before
/// something was lost.
#[test]
fn no_loss_makes_a_wrong_pair() {
    for who in everybody() {
        for faults in [
            Faults::one_in(30),
            Faults::one_in(8),
            Faults { responses: false, ..Faults::one_in(30) },
            Faults { requests: false, ..Faults::one_in(30) },
            Faults { joined_at: 7, ..Faults::one_in(0) },
            Faults { joined_at: 8, ..Faults::one_in(50) },
        ] {
            run(30, who, faults);
        }
    }
}

/// Threads that share a connection look as if they took turns, for long or for ever: no row is wrong,
/// whether their thinking, the answers or neither takes long, regularly or not. Catches a proof by turns that
/// a second request under way can give.
#[test]
fn threads_are_no_turns() {
    for count in [2, 3, 7] {
        for (think_ns, answer_ns) in [
            (1_000, 100_000),
            (100_000, 100_000),
            (80_000, 100_000),
            (900_000, 1_000_000),
            (5_000_000, 200_000),
        ] {
            for jitter_ns in [1, think_ns / 20 + 1, think_ns / 2 + 1, think_ns, 20 * think_ns] {
                let client = Client::Threads { count, think_ns, answer_ns, jitter_ns };
                for faults in [
                    Faults { joined_at: 5, ..Faults::one_in(0) },
                    Faults { joined_at: 6, ..Faults::one_in(0) },
                    Faults::one_in(20),
                ] {
                    run(12, (client, Pace::Any), faults);
                }
            }
        }
    }
}

/// What a loss costs: where a client rests now and then, or takes its time between prompt answers, most
/// of what was seen is shown, also on a connection that is joined midway.
#[test]
fn certainty_comes_back() {
    let share = |who, faults| {
        let (right, seen) = run(60, who, faults);
        100 * right / seen
    };
    let few = Faults::one_in(100);
    let joined = Faults { joined_at: 7, ..Faults::one_in(0) };
    for (client, of_few, of_joined) in [
        (Client::Waits, 85, 85),
        (Client::Batches, 75, 60),
        (Client::Keeps(2), 60, 60),
        (Client::Anytime, 65, 50),
    ] {
        let who = (client, Pace::Rests);
        let (few, joined) = (share(who, few), share(who, joined));
        assert!(few >= of_few && joined >= of_joined, "{client:?}: {few} % and {joined} %");
    }
    let who = (Client::Waits, Pace::Prompt);
    let (few, joined) = (share(who, few), share(who, joined));
    assert!(few >= 50 && joined >= 50, "{few} % and {joined} %");
}
