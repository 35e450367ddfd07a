//! Whatever a client does and whatever is lost: no response is another request's, and behind results that
//! are larger than what is copied of a call nearly everything is shown.

use super::*;
use crate::trials::{Client, Exchange, Faults, PACES, Pace, everybody, number, sum, trial};

/// Copied of a call, in these trials.
const COPIED_BYTES: usize = 2_000;

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// Parse, Bind, Describe, Execute and Sync by one call, or Parse, Describe and Sync.
    Extended,
    /// Simple queries as well, and such as fail.
    Mixed,
}

/// Exchanges that can be told right from wrong: each response repeats its request's word. One result in
/// four is larger than what is copied.
fn exchanges(random: &mut SplitMix, count: usize, speech: Speech) -> Vec<Exchange> {
    let one = |n: usize| {
        let word = format!("w{n}-{}", "y".repeat(random.below(40) as usize));
        let sql = format!("SELECT '{word}'");
        let rows_count = if random.below(4) == 0 { 14 + random.below(20) } else { random.below(4) };
        let line = format!("{word} {}", "z".repeat(100 + random.below(100) as usize));
        let rows = row(&[Some(line.as_bytes())]).repeat(rows_count as usize);
        let done = tag(&format!("SELECT {rows_count}"));
        let names = columns(&[(&word, 25)]);
        let kinds = if speech == Speech::Extended { 5 } else { 8 };
        let (asked, answer, rows) = match random.below(kinds) {
            0..4 => (
                [
                    parse("", &sql, &[]),
                    bind("", "", &[], 0),
                    describe("P", ""),
                    execute(""),
                    sync(),
                ],
                [PARSED.to_vec(), BOUND.to_vec(), names, [rows, done].concat(), ready()],
                4,
            ),
            4 => (
                [parse("", &sql, &[]), describe("S", ""), sync(), vec![], vec![]],
                [PARSED.to_vec(), message(b't', &[0, 0]), names, vec![], ready()],
                2,
            ),
            5 => (
                [query(&format!("SELEC {word}")), vec![], vec![], vec![], vec![]],
                [error("42601", &word), vec![], vec![], vec![], ready()],
                1,
            ),
            _ => (
                [query(&sql), vec![], vec![], vec![], vec![]],
                [names, rows, done, vec![], ready()],
                1,
            ),
        };
        Exchange { asked: asked.concat(), answer: answer.concat(), rows }
    };
    (0..count).map(one).collect()
}

/// How many rows there are, of those that could be. A wrong one panics.
fn run(seeds: u64, who: (Client, Pace), speech: Speech, faults: Faults) -> (usize, usize) {
    sum(seeds, |seed| run_one(seed, who, speech, faults))
}

fn run_one(seed: u64, who: (Client, Pace), speech: Speech, faults: Faults) -> (usize, usize) {
    let exchanges = exchanges(&mut SplitMix(seed ^ 0xabcd), 120, speech);
    let begin = Exchange {
        asked: startup("user=w0-"),
        answer: [message(b'R', &[0; 4]), ready()].concat(),
        rows: 1,
    };
    let exchanges: Vec<Exchange> = std::iter::once(begin).chain(exchanges).collect();
    let outcome = trial(&PROTOCOL, seed, who, &faults, &exchanges);
    let of = |text: &str| number(text).map(|n| n + 1);
    outcome.shown(&exchanges, |row| match row.cells[0].as_str() {
        "Startup" => [Some(0), None],
        // A portal without a name is told from another by its neighbours only.
        "Describe" => [None, of(&row.cells[2])],
        _ => [of(&row.cells[1]), of(&row.cells[2])],
    })
}

fn cut() -> Faults {
    Faults { copied_bytes_max: COPIED_BYTES, ..Faults::one_in(0) }
}

/// Without losses every row is there, whoever sends how.
#[test]
fn without_losses() {
    for who in everybody() {
        let (right, seen) = run(10, who, Speech::Mixed, Faults::one_in(0));
        assert_eq!(right, seen, "{who:?}");
    }
}

/// Lost requests, lost responses, both, cut calls with and without their ends, and a connection that is
/// joined midway: whatever the client does, no row is wrong.
#[test]
fn no_loss_makes_a_wrong_pair() {
    for who in everybody() {
        for faults in [
            cut(),
            Faults { has_tails: false, ..cut() },
            Faults { copied_bytes_max: COPIED_BYTES, ..Faults::one_in(30) },
            Faults { responses: false, ..Faults::one_in(30) },
            Faults { requests: false, ..Faults::one_in(12) },
            Faults { joined_at: 7, ..Faults::one_in(50) },
        ] {
            run(20, who, Speech::Mixed, faults);
        }
    }
}

/// Results that are larger than what is copied of a call cost nearly nothing but what is missing of them:
/// their end tells that the cycle is over, and without it the next answer mostly does. Catches a client
/// that is dropped for good behind its first large result.
#[test]
fn certain_behind_cut_results() {
    let share = |who, speech, faults| {
        let (right, seen) = run(30, who, speech, faults);
        assert!(seen > 1_000);
        100.0 * right as f64 / seen as f64
    };
    let no_ends = Faults { has_tails: false, ..cut() };
    for pace in PACES {
        let who = (Client::Waits, pace);
        let shares = [
            share(who, Speech::Mixed, cut()),
            share(who, Speech::Extended, no_ends),
            share(who, Speech::Mixed, no_ends),
        ];
        let [with_ends, extended, mixed] = shares;
        assert!(with_ends >= 99.0 && extended >= 97.0 && mixed >= 80.0, "{pace:?}: {shares:?}");
    }
}
