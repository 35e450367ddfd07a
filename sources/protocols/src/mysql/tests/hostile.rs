//! A client and a server that keep to nothing but the heads of packets: whatever they say, each command that was
//! seen is a row, or is counted.

use super::*;

/// What a server answers: nothing that fits, for the most part.
fn said(random: &mut SplitMix) -> Vec<u8> {
    let count = random.below(120) as usize;
    let any: Vec<u8> = (0..count).map(|_| random.next_u64() as u8).collect();
    let number = random.below(4) as u8;
    match random.below(8) {
        0 => packet(number, &any),
        // The length of the longest packet, and little of it.
        1 => [&[0xff, 0xff, 0xff, number][..], &any].concat(),
        2 => [&[0xff, 0xff, 0xff, 1, [0, 1, 0xfb, 0xfe, 0xff][count % 5]][..], &any].concat(),
        3 => packets(&[ok(1, 2)]),
        4 => packets(&results(&["a", "b"], 2)),
        5 => packets(&[error(1_146, "no")]),
        6 => packet(1, &[[0, 1, 0xfb, 0xfe, 0xff][count % 5]]),
        _ => any,
    }
}

/// A command of any kind, with anything behind it.
fn asked(random: &mut SplitMix) -> Vec<u8> {
    let count = random.below(40) as usize;
    let any: Vec<u8> = (0..count).map(|_| random.next_u64() as u8).collect();
    match random.below(4) {
        0 => query("SELECT 1"),
        1 => command(random.below(0x20) as u8, &any),
        2 => command(random.next_u64() as u8, &any),
        _ => command(0x0e, b""),
    }
}

/// Logs in, and says anything, up to where the parser gives up, as connections do. How many commands that were, and
/// the parser at the end.
fn connection(seed: u64) -> (u64, Wire) {
    let mut random = SplitMix(seed);
    let mut wire = logged_in([PLAIN, PLAIN | DEPRECATE_EOF][seed as usize % 2]);
    let mut commands = 1;
    let is_over = |wire: &Wire| wire.parser.is_wrong() || wire.parser.is_done();
    for _ in 0..60 {
        for _ in 0..1 + random.below(3) {
            if !is_over(&wire) {
                commands += 1;
                wire.ask(&asked(&mut random));
            }
        }
        if !is_over(&wire) && random.below(5) > 0 {
            wire.answer(&said(&mut random));
        }
        if random.below(8) == 0 {
            wire.wait(random.below(300_000_000) as i64);
        }
    }
    if !is_over(&wire) && random.below(2) == 0 {
        // A command that claims to be of the longest packet, and what follows would be its text.
        commands += 1;
        wire.ask(&[&[0xff, 0xff, 0xff, 0, 3][..], b"SELECT 1"].concat());
        wire.ask(&query("SELECT 2"));
    }
    if random.below(2) == 0 {
        wire.settle();
    }
    wire.close();
    (commands, wire)
}

/// Each command is a row, or it is counted as one that has none: over 200 connections nothing goes by in silence.
#[test]
fn each_command_is_a_row_or_counted() {
    for seed in 0..200 {
        let (commands, wire) = connection(seed);
        let Counters { exchanges, gap, unpaired, given_up, unanswered, .. } = wire.counters();
        let told = exchanges + gap + unpaired + given_up + unanswered;
        assert!(told >= commands, "{seed}: {commands} commands, {:?}", wire.counters());
        assert_eq!(exchanges, wire.rows().len() as u64);
    }
}

/// A replica's stream is refused like any command, and the session goes on; where it begins, it is left alone.
#[test]
fn streams_of_replicas() {
    let mut wire = logged_in(PLAIN);
    wire.ask(&command(0x12, &[4, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    wire.answer(&packets(&[error(1_227, "denied")]));
    wire.ask(&query("SELECT 1"));
    wire.answer(&packets(&results(&["a"], 2)));
    assert!(!wire.parser.is_done());
    wire.ask(&command(0x1e, &[0; 22]));
    wire.answer(&packet(1, &[0; 40]));
    assert!(wire.parser.is_done());
    wire.close();
    let want = ["18 |  | 3 | 1227 denied", "3 | SELECT 1 | 2 | Resultset rows = 1", "30 |  | 2 | "];
    assert_eq!(lines(&wire), want);
}
