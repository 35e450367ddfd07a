//! Files that lie.

use std::net::SocketAddr;

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

/// Two clocks in one file, packet by packet: it is read, and does not begin anew with every packet.
#[test]
fn two_clocks_at_once() {
    let mut first = Talk::new("10.0.0.1:40000", "10.0.0.2:80", [1, 1], START_NS);
    let mut second = Talk::new("10.0.0.3:40000", "10.0.0.4:80", [1, 1], START_NS - 1_000_000 * MS);
    first.open();
    second.open();
    (0..300).for_each(|number| {
        first.exchange(number, 1_000);
        second.exchange(number, 1_000);
    });
    let packets: Vec<Timed> = first
        .packets
        .into_iter()
        .zip(second.packets)
        .flat_map(|(one, other)| [one, other])
        .collect();
    let found = replay_packets(&packets);
    assert!(found.counters.clock_restarts <= 64, "{}", found.counters.clock_restarts);
    assert!(numbers(&found.rows).len() > 400, "{}", found.rows.len());
}

/// Connections that never get further than packets which wait: what they hold is bounded together.
#[test]
fn what_waits_is_bounded() {
    let mut flows = Flows::new();
    let mut events = 0_u64;
    let server: SocketAddr = "10.0.0.2:80".parse().unwrap();
    for number in 0..3_000_u32 {
        let client = SocketAddr::from(([10, 3, (number >> 8) as u8, number as u8], 5_000));
        for at in 0..40_u32 {
            // Without an opening, or behind a hole.
            let sequence = if number % 2 == 0 { at * 2_000 } else { 1_000_000 + at * 2_000 };
            let flags = if at == 0 && number % 2 == 1 { SYN } else { PSH };
            let packet = ethernet(&[], &tcp(client, server, (sequence, 0), flags, &[b'x'; 1_400]));
            let cut = Cut { bytes: &packet, wire_bytes: packet.len() };
            flows.packet(1, cut, START_NS, &mut Counted(&mut events)).unwrap();
        }
    }
    assert!(flows.held_bytes() <= (64 << 20) + (1 << 20), "{}", flows.held_bytes());
    flows.finish(&mut Counted(&mut events));
    assert!(events >= 3_000 * 39, "{events}");
    assert_eq!(flows.held_bytes(), 0);
}

struct Counted<'a>(&'a mut u64);

impl Events for Counted<'_> {
    fn event(&mut self, event: &CaptureEvent<'_>) {
        *self.0 += u64::from(matches!(event, CaptureEvent::Data(_)));
    }
    fn lost(&mut self, _loss: &SocketLoss) {}
    fn over(&mut self, _key: ConnKey) {}
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
