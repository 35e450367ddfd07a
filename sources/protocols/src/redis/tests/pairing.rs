//! Whatever a client does and whatever is lost: no reply is another command's, and what is certain is shown.

use super::*;
use crate::trials::{CLIENTS, Client, Exchange, Faults, Outcome, PACES, Pace, trial};

/// Exchanges that can be told right from wrong: each reply repeats its command's word.
fn echoes(random: &mut SplitMix, count: usize) -> Vec<Exchange> {
    let one = |n: usize| {
        let word = format!("w{n}-{}", "y".repeat(random.below(40) as usize));
        let answer = match random.below(3) {
            0 => format!("*2\r\n+{word}\r\n:1\r\n").into_bytes(),
            1 => format!("+{word}\r\n").into_bytes(),
            _ => bulk(&word),
        };
        Exchange { asked: command(&format!("ECHO {word}")), answer, rows: 1 }
    };
    (0..count).map(one).collect()
}

fn is_right(cells: &[String]) -> bool {
    let word = cells[1].trim_start_matches('[').trim_end_matches(']').trim_matches('"');
    let shown = cells[2].trim_start_matches("[\"").trim_end_matches("\"]");
    let shown = shown.split("\",\"").next().unwrap_or_default();
    // One of both may be cut; the number is what tells.
    let number = |text: &str| text.split('-').next().unwrap_or_default().to_string();
    match word.contains('-') && shown.contains('-') {
        true => number(word) == number(shown),
        false => word.starts_with(shown) || shown.starts_with(word),
    }
}

/// Rows that are right, of those that could be; panics at a wrong one.
fn run(seeds: std::ops::Range<u64>, who: (Client, Pace), faults: impl Fn(u64) -> Faults) -> (usize, usize, usize) {
    let (mut right, mut wrong, mut seen) = (0, 0, 0);
    for seed in seeds {
        let exchanges = echoes(&mut SplitMix(seed ^ 0xabcd), 120);
        let Outcome { rows, seen_rows, exchanges, counters } =
            trial(&PROTOCOL, seed, who, &faults(seed), &exchanges);
        for row in &rows {
            match is_right(&row.cells) {
                true => right += 1,
                false => wrong += 1,
            }
        }
        seen += seen_rows;
        let told = counters.exchanges + counters.gap + counters.unpaired + counters.given_up;
        let told = told + counters.unanswered + counters.unasked;
        if told > exchanges as u64 { println!("{who:?} {seed}: {counters:?}"); }
    }
    (right, wrong, seen)
}

#[test]
fn look() {
    for who in CLIENTS.into_iter().flat_map(|client| PACES.map(|pace| (client, pace))) {
        for (name, faults) in [
            ("none", Faults::one_in(0)),
            ("both", Faults::one_in(30)),
            ("many", Faults::one_in(8)),
            ("requests", Faults { responses: false, ..Faults::one_in(30) }),
            ("responses", Faults { requests: false, ..Faults::one_in(30) }),
            ("joined", Faults { joined_at: 7, ..Faults::one_in(0) }),
        ] {
            println!("{who:?} {name}: {:?}", run(0..100, who, |_| faults));
        }
    }
}


#[test]
fn debug_seed() {
    let faults = Faults { responses: false, ..Faults::one_in(30) };
    run(27..28, (Client::Keeps(2), Pace::Busy), |_| faults);
}
