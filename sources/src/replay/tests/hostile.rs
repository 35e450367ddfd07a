//! Files that lie.

use super::packets::*;
use super::*;

fn file(is_new: bool) -> Vec<u8> {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", [1, 1], START_NS);
    talk.open();
    (0..4).for_each(|number| {
        talk.exchange(number, 50);
    });
    talk.close();
    if is_new { pcapng(true, 1, &talk.packets) } else { pcap(1, &talk.packets) }
}

/// Bytes changed at random places, parts taken out or doubled: no panic, no endless loop, no wrong
/// pair that is not in the bytes.
#[test]
fn damaged_files() {
    for seed in 0..600_u64 {
        let mut random = SplitMix(seed);
        let mut bytes = file(seed % 2 == 0);
        for _ in 0..1 + random.below(8) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] = random.next_u64() as u8,
                1 => bytes[at] = 0xff,
                2 => drop(bytes.drain(at..(at + random.below(40) as usize).min(bytes.len()))),
                _ => {
                    let again = bytes[at..(at + 60).min(bytes.len())].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        if let Some(mut replay) = opened(&bytes, ReplayConfig::default()) {
            let mut steps = 0;
            while replay.step().unwrap() {
                steps += 1;
            }
            assert!(steps <= bytes.len() / 12);
            replay.finish();
        }
    }
}

/// Lengths of gigabytes, of nothing, and ones that contradict each other: the file ends there, and
/// nothing of that size is taken.
#[test]
fn lengths_that_lie() {
    let word = |value: u32| value.to_le_bytes();
    let old = pcap(1, &[]);
    for claimed in [u32::MAX, 1 << 31, 300 << 20] {
        let header: Vec<u8> = [0, 0, claimed, claimed].into_iter().flat_map(word).collect();
        let found = replay(&[&old[..], &header, &[0; 100]].concat());
        assert!(matches!(found.ending, Ending::Damaged { at: 24, .. }), "{:?}", found.ending);
    }
    let header: Vec<u8> = [0, 0, 200 << 20, 60].into_iter().flat_map(word).collect();
    let found = replay(&[&old[..], &header, &[0; 100]].concat());
    assert_eq!(found.ending, Ending::Truncated { at: 24 });
    let new = pcapng(true, 1, &[]);
    let at = new.len() as u64;
    for length in [0, 4, 11] {
        let found = replay(&[&new[..], &word(6), &word(length), &[0; 100]].concat());
        assert!(matches!(found.ending, Ending::Damaged { at: from, .. } if from == at));
    }
    let huge = [&new[..], &word(6), &word(u32::MAX - 3), &[0xff; 300]].concat();
    assert!(matches!(replay(&huge).ending, Ending::Damaged { .. } | Ending::Truncated { .. }));
    let differ = [&new[..], &word(9), &word(16), &[0; 4], &word(20)].concat();
    assert!(matches!(replay(&differ).ending, Ending::Damaged { .. }));
    // A packet that is longer than its block.
    let head: Vec<u8> = [1, 0, 0, 4_000, 4_000].into_iter().flat_map(word).collect();
    let longer = [new, block(true, 6, &[&head[..], &[0; 64]].concat())].concat();
    assert!(matches!(replay(&longer).ending, Ending::Damaged { .. }));
}

/// Sequence numbers and acknowledgements of nobody do not hide a connection's own bytes for ever, and
/// do not fill memory.
#[test]
fn numbers_that_lie() {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", [1, 1], START_NS);
    talk.open().exchange(1, 1_000);
    let (client, server) = (talk.client, talk.server);
    let mut random = SplitMix(3);
    for _ in 0..6_000 {
        let numbers = (random.next_u64() as u32, random.next_u64() as u32 | 1 << 31);
        let packet = tcp(client, server, numbers, PSH, &[b'x'; 900]);
        talk.packets.push((talk.now_ns, ethernet(&[], &packet)));
    }
    let found = replay_packets(&talk.packets);
    assert_eq!(numbers(&found.rows), [1]);
}

/// Times at the ends of what a file can say.
#[test]
fn times_that_lie() {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", [1, 1], START_NS);
    talk.open().exchange(1, 1_000).exchange(2, 1_000);
    let mut random = SplitMix(9);
    for (time, _) in &mut talk.packets {
        *time = random.next_u64().cast_signed() >> random.below(60);
    }
    drop(replay(&pcapng(true, 1, &talk.packets)));
}
