//! Whatever a client does and whatever is lost: no response is another command's, and what is certain is shown.

use super::*;
use crate::trials::{Client, Exchange, Faults, Pace, everybody, number, sum, trial};

/// Exchanges that can be told right from wrong: each response says its command's number, one way or another.
fn exchanges(random: &mut SplitMix, count: usize) -> Vec<Exchange> {
    let one = |n: usize| {
        let word = format!("w{n}-{}", "y".repeat(random.below(40) as usize));
        let (asked, answer) = match random.below(5) {
            0 => (query(&word), vec![error(1_146, &word)]),
            1 => (query(&word), vec![ok(n as u8, 2)]),
            2 => {
                let broken =
                    [vec![vec![1], column("a"), eof(2), row("x")], vec![error(1_317, &word)]];
                (query(&word), broken.concat())
            }
            3 => (command(0x16, word.as_bytes()), vec![error(1_064, &word)]),
            _ => (query(&word), results(&vec!["a row of some length"; n], 2)),
        };
        Exchange { asked, answer: packets(&answer), rows: 1 }
    };
    (0..count).map(one).collect()
}

fn of_row(row: &crate::testing::Row) -> [Option<usize>; 2] {
    let answer = &row.cells[3];
    let count = ["affected_rows = ", "Resultset rows = "].into_iter();
    let count = count.filter_map(|begin| answer.strip_prefix(begin)?.parse().ok()).next();
    [number(&row.cells[1]), count.or_else(|| number(answer))]
}

/// How many rows there are, of those that could be. A wrong one, or a loss that is counted twice, panics.
fn run(seeds: u64, who: (Client, Pace), faults: Faults) -> (usize, usize) {
    sum(seeds, |seed| {
        let exchanges = exchanges(&mut SplitMix(seed ^ 0xabcd), 120);
        trial(&PROTOCOL, seed, who, &faults, &exchanges).shown(&exchanges, of_row)
    })
}

/// Without losses every row is there, whoever sends how.
#[test]
fn without_losses() {
    for who in everybody() {
        assert_eq!(run(20, who, Faults::one_in(0)), (20 * 120, 20 * 120), "{who:?}");
    }
}

/// Lost commands, lost responses, both, few and many, and a connection that is joined midway: whatever the
/// client does, no row is wrong.
#[test]
fn no_loss_makes_a_wrong_pair() {
    for who in everybody() {
        for faults in [
            Faults::one_in(30),
            Faults::one_in(8),
            Faults { responses: false, ..Faults::one_in(30) },
            Faults { requests: false, ..Faults::one_in(30) },
            Faults { copied_bytes_max: 600, ..Faults::one_in(50) },
            Faults { copied_bytes_max: 600, has_tails: false, ..Faults::one_in(0) },
            Faults { joined_at: 7, ..Faults::one_in(0) },
            Faults { joined_at: 8, ..Faults::one_in(50) },
        ] {
            run(30, who, faults);
        }
    }
}

/// What a loss costs: where a client rests now and then most of what was seen is shown, also on a connection
/// that is joined midway; and behind results that are larger than what is copied of a call.
#[test]
fn certainty_comes_back() {
    let share = |who, faults| {
        let (right, seen) = run(60, who, faults);
        100 * right / seen
    };
    let who = (Client::Waits, Pace::Rests);
    let few = share(who, Faults::one_in(100));
    let joined = share(who, Faults { joined_at: 7, ..Faults::one_in(0) });
    let cut = share(who, Faults { copied_bytes_max: 600, ..Faults::one_in(0) });
    let busy =
        share((Client::Waits, Pace::Busy), Faults { copied_bytes_max: 600, ..Faults::one_in(0) });
    assert!(few >= 80 && joined >= 80 && cut >= 80 && busy >= 80, "{few} {joined} {cut} {busy} %");
}
