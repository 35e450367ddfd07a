//! Tunnels over UDP and in GRE, labels, and what switches put in front of frames.

use std::net::SocketAddr;

use super::file::PACKET_BYTES_MAX;
use super::links::{asks, dns, is_answered};
use super::packets::*;
use super::*;

const OUTER: [&str; 2] = ["9.9.9.9:40000", "8.8.8.8:1"];

/// In datagrams to (or, if it says so, from) a port.
fn over_udp(port: u16, is_from: bool, packets: &[Vec<u8>; 2], front: &[u8]) -> [Vec<u8>; 2] {
    let [one, mut other]: [SocketAddr; 2] = OUTER.map(|end| end.parse().unwrap());
    other.set_port(port);
    let (from, to) = if is_from { (other, one) } else { (one, other) };
    packets.each_ref().map(|packet| udp(from, to, &[front, packet].concat()))
}

/// A kind of tunnel: its port, and what it puts in front.
type Kind<'a> = (u16, &'a [u8]);

/// Of tunnels that hold IP as it is.
fn of_ip(ethertype: [u8; 2]) -> Vec<(u16, Vec<u8>)> {
    let kinds: [Kind<'_>; 7] = [
        (6_081, &[&[0x02, 0x40][..], &ethertype, &[0, 0, 9, 0], &[7; 8]].concat()),
        (4_790, &[0x0c, 0, 0, if ethertype[0] == 8 { 1 } else { 2 }, 0, 0, 9, 0]),
        (2_152, &[]),
        (4_754, &[&[0x20, 0][..], &ethertype, &[0, 0, 0, 9]].concat()),
        (6_635, &[0, 0, 0x10, 64, 0, 0, 0x11, 64]),
        (5_072, &[&[0x44, 0x52, 0x11, 0][..], &[0; 4], &[5; 16], &[6; 20]].concat()),
        (5_072, &[]),
    ];
    kinds.iter().map(|(port, front)| (*port, front.to_vec())).collect()
}

/// Each tunnel over UDP gives the rows of what it holds, at the ends that are within.
#[test]
fn tunnels_over_udp() {
    for (client, server) in
        [("10.0.0.9:53001", "10.0.0.1:53"), ("[2001:db8::9]:1053", "[2001:db8::1]:53")]
    {
        let packets = asks(client, server);
        let is_6 = client.starts_with('[');
        for (port, mut front) in of_ip(if is_6 { [0x86, 0xdd] } else { [8, 0] }) {
            if front.is_empty() {
                continue;
            }
            if port == 5_072 {
                front[3] = if is_6 { 41 } else { 4 };
            }
            is_answered(101, &over_udp(port, false, &packets, &front), server);
        }
        let frames = packets.each_ref().map(|packet| ethernet(&[0x8100], packet));
        for (port, front) in [
            (4_789, [0x08, 0, 0, 0, 0, 1, 2, 0]),
            // With a policy of a group, as in VXLAN-GBP.
            (4_789, [0x88, 0, 0, 7, 0, 1, 2, 0]),
            // And with what is to be ignored.
            (4_789, [0x3a, 9, 9, 9, 0, 1, 2, 9]),
            (8_472, [0x08, 0, 0, 0, 0, 1, 2, 0]),
            (4_790, [0x0c, 0, 0, 3, 0, 1, 2, 0]),
            (6_081, [0, 0, 0x65, 0x58, 0, 1, 2, 0]),
        ] {
            is_answered(101, &over_udp(port, false, &frames, &front), server);
        }
        // Of mobile networks: as it is, numbered, and with a header that says more.
        let in_gtp = |own: &[u8]| {
            let flags = if own.is_empty() { 0x30 } else { 0x34 };
            packets.each_ref().map(|packet| {
                let bytes = ((packet.len() + own.len()) as u16).to_be_bytes();
                [&[flags, 0xff][..], &bytes, &[0, 0, 0, 9], own, packet].concat()
            })
        };
        for own in [&[][..], &[0, 1, 0, 0], &[0, 1, 0, 0x85, 1, 0x10, 9, 0x85, 1, 0, 9, 0]] {
            is_answered(101, &over_udp(2_152, true, &in_gtp(own), &[]), server);
        }
    }
    let server = "[2001:db8::1]:53";
    let packets = asks("[2001:0:1:2::9]:1053", server);
    let seen = [&[0, 1, 0, 0][..], &[3; 9], &[0, 0, 0x11, 0x22, 1, 2, 3, 4]].concat();
    for front in [&[][..], &seen[13..], &seen] {
        is_answered(101, &over_udp(3_544, true, &packets, front), server);
    }
}

/// What GRE holds beside IP, and what stands between a frame and its packet.
#[test]
fn frames_within_links() {
    let server = "10.0.0.1:53";
    let packets = asks("10.0.0.9:53001", server);
    let [outer, other]: [SocketAddr; 2] = OUTER.map(|end| end.parse().unwrap());
    let in_gre = |front: &[u8], held: &[Vec<u8>; 2]| {
        held.each_ref().map(|held| ip(outer.ip(), other.ip(), 47, &[front, held].concat()))
    };
    let frames = packets.each_ref().map(|packet| ethernet(&[], packet));
    // PPP of PPTP: acknowledged, and with its zero left out.
    let numbered = [&[0x30, 0x81, 0x88, 0x0b, 0, 9, 0, 1][..], &[0; 8], &[0x21]].concat();
    is_answered(101, &in_gre(&numbered, &packets), server);
    is_answered(101, &in_gre(&[0, 0, 0x88, 0x0b, 0xff, 3, 0, 0x21], &packets), server);
    // Mirrored frames, of each kind.
    is_answered(101, &in_gre(&[0, 0, 0x88, 0xbe], &frames), server);
    let second = [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1][..], &[0x10, 1, 0, 1, 0, 0, 0, 0]].concat();
    is_answered(101, &in_gre(&second, &frames), server);
    let third = [&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1][..], &[0x20; 11], &[1], &[0; 8]].concat();
    is_answered(101, &in_gre(&third, &frames), server);
    let wrapped = |front: &[u8], held: &[Vec<u8>; 2]| {
        held.each_ref().map(|held| [&[2; 12][..], front, held].concat())
    };
    is_answered(1, &wrapped(&[0x89, 0x26, 0, 0, 0, 1, 8, 0], &packets), server);
    is_answered(1, &wrapped(&[0x89, 0x3f, 0, 0, 0, 1, 0, 0, 8, 0], &packets), server);
    is_answered(1, &wrapped(&[0x88, 0xe7, 0, 0, 0, 1], &frames), server);
    // A pseudowire behind a label, and PPP with its zero left out in a session.
    is_answered(1, &wrapped(&[0x88, 0x47, 0, 1, 1, 64, 0, 0, 0, 1], &frames), server);
    is_answered(1, &wrapped(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 90, 0x21], &packets), server);
    is_answered(104, &packets.each_ref().map(|p| [&[15, 0, 8, 0][..], p].concat()), server);
    let fddi = [&[0x50][..], &[2; 12], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]].concat();
    is_answered(10, &packets.each_ref().map(|p| [&fddi[..], p].concat()), server);
}

/// In a session of PPPoE, packets that count the frame's padding in their length hold no more than the session
/// says. Catches bytes that nobody sent in a stream.
#[test]
fn padding_that_packets_count_in() {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", [1_000, 9_000], START_NS);
    talk.open();
    (0..3).for_each(|number| {
        talk.exchange(number, 999).send(true, ACK, b"");
    });
    let wrapped = talk.packets.iter().map(|(time_ns, frame)| {
        let mut packet = frame[14..].to_vec();
        let bytes = ((packet.len() + 2) as u16).to_be_bytes();
        // An acknowledgment alone.
        if packet.len() == 40 {
            packet[3] += 6;
            packet.extend([0; 6]);
        }
        let session = [&[2; 12][..], &[0x88, 0x64, 0x11, 0, 0, 1], &bytes, &[0, 0x21]].concat();
        (*time_ns, [session, packet].concat())
    });
    let found = replay_packets(&wrapped.collect::<Vec<Timed>>());
    assert_eq!((numbers(&found.rows), found.counted("http_events")), (vec![0, 1, 2], 0));
    assert_eq!(found.counters.tcp.retransmitted_segments, 0);
}

/// Traffic that uses a tunnel's port, or holds what is no packet that fits, stays what it is: a query
/// from such a port is one of its own ends, and a frame that is cut short gives no rows of its holder's.
#[test]
fn ports_of_tunnels_are_not_enough() {
    for port in [4_789, 8_472, 4_790, 6_081, 2_152, 3_544, 5_072, 4_754, 6_635] {
        let (client, server) = (format!("10.0.0.9:{port}"), "10.0.0.1:53");
        is_answered(101, &asks(&client, server), server);
        let server = format!("10.0.0.1:{port}");
        is_answered(101, &asks("10.0.0.9:53001", &server).map(|packet| packet), &server[..]);
    }
    let inner = asks("10.0.0.9:53001", "10.0.0.1:53");
    let cut = inner.each_ref().map(|packet| packet[..packet.len() - 1].to_vec());
    let frames = cut.each_ref().map(|packet| ethernet(&[], packet));
    let query = dns(7);
    for packets in [
        over_udp(4_789, false, &frames, &[0x08, 0, 0, 0, 0, 1, 2, 0]),
        // Not said to have a network's number.
        over_udp(4_789, false, &inner.each_ref().map(|p| ethernet(&[], p)), &[0; 8]),
        over_udp(6_081, false, &cut, &[0, 0, 8, 0, 0, 1, 2, 0]),
        over_udp(2_152, false, &inner, &[0x30, 0xff, 0xff, 0xff, 0, 0, 0, 9]),
        over_udp(3_544, false, &asks("[2001:db8::9]:1053", "[2001:db8::1]:53"), &[]),
        // From the port alone, which is anybody's.
        over_udp(
            4_789,
            true,
            &inner.each_ref().map(|p| ethernet(&[], p)),
            &[8, 0, 0, 0, 0, 1, 2, 0],
        ),
        // No packet at all.
        over_udp(4_789, false, &query, &[8, 0, 0, 0, 0, 1, 2, 0]),
    ] {
        let timed: Vec<Timed> = packets.map(|packet| (START_NS, packet)).to_vec();
        let found = replay(&pcap(101, &timed));
        assert_eq!(found.rows.len(), 0, "{packets:?}", packets = timed[0].1);
    }
}

/// Tunnels within tunnels end where they may.
#[test]
fn tunnels_within_tunnels() {
    let mut packets = asks("10.0.0.9:53001", "10.0.0.1:53");
    for _ in 0..5 {
        let frames = packets.each_ref().map(|packet| ethernet(&[], packet));
        packets = over_udp(4_789, false, &frames, &[0x08, 0, 0, 0, 0, 1, 2, 0]);
    }
    is_answered(101, &packets, "10.0.0.1:53");
    for _ in 0..40 {
        let frames = packets.each_ref().map(|packet| ethernet(&[], packet));
        packets = over_udp(4_789, false, &frames, &[0x08, 0, 0, 0, 0, 1, 2, 0]);
    }
    let timed: Vec<Timed> = packets.map(|packet| (START_NS, packet)).to_vec();
    assert_eq!(replay(&pcap(101, &timed)).rows.len(), 0);
}

/// Frames within frames by the longest packet that is kept, thousands of them, end where they may. Catches a stack that
/// a packet fills.
#[test]
fn frames_without_end() {
    // A label that is the last one, and the four bytes in front of a frame.
    let level = [&[2; 12][..], &[0x88, 0x47, 0, 1, 1, 64, 0, 0, 0, 0]].concat();
    let packet = level.repeat(PACKET_BYTES_MAX / level.len());
    let found = replay(&pcap(1, &[(START_NS, packet)]));
    assert_eq!((&found.counters.skipped["nesting"], found.rows.len()), (&1, 0));
}
