//! Links, tags, tunnels, both versions of IP, fragments, and datagrams.

use std::net::{IpAddr, SocketAddr};

use super::packets::*;
use super::*;
use crate::replay::fragments::Fragments;
use crate::replay::packet::{Fragment, FragmentKey};

/// A query for example.org and its answer.
pub(super) fn dns(id: u16) -> [Vec<u8>; 2] {
    let question = b"\x07example\x03org\x00\x00\x01\x00\x01";
    let head = |flags: u16, answers: u16| {
        [id, flags, 1, answers, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect::<Vec<u8>>()
    };
    let answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\x01\x02\x03\x04";
    [[&head(0x0100, 0)[..], question].concat(), [&head(0x8180, 1)[..], question, answer].concat()]
}

pub(super) fn asks(client: &str, server: &str) -> [Vec<u8>; 2] {
    let (client, server): (SocketAddr, SocketAddr) =
        (client.parse().unwrap(), server.parse().unwrap());
    let [query, answer] = dns(7);
    [udp(client, server, &query), udp(server, client, &answer)]
}

pub(super) fn is_answered(link_type: u32, packets: &[Vec<u8>], server: &str) {
    let timed: Vec<Timed> =
        packets.iter().enumerate().map(|(at, p)| (START_NS + at as i64 * MS, p.clone())).collect();
    let found = replay(&pcap(link_type, &timed));
    assert_eq!(found.rows.len(), 1, "link {link_type}: {:?}", found.counters);
    let (row, server): (_, SocketAddr) = (&found.rows[0], server.parse().unwrap());
    assert_eq!(row.table, "dns_events");
    assert_eq!(
        (row.text("local_addr"), row.int("local_port")),
        (server.ip().to_string(), i64::from(server.port()))
    );
    assert_eq!((row.int("trace_role"), row.int("latency")), (2, MS * (packets.len() as i64 - 1)));
    assert!(row.text("resp_body").contains("1.2.3.4"));
}

/// Every kind of link gives the same rows, for both versions of IP.
#[test]
fn kinds_of_links() {
    for (client, server) in
        [("10.0.0.9:53001", "10.0.0.1:53"), ("[2001:db8::9]:1053", "[2001:db8::1]:53")]
    {
        let packets = asks(client, server);
        let kind = if client.starts_with('[') { [0x86, 0xdd] } else { [0x08, 0x00] };
        let around = |front: &[u8]| packets.each_ref().map(|ip| [front, ip].concat());
        is_answered(1, &packets.each_ref().map(|ip| ethernet(&[], ip)), server);
        is_answered(1, &packets.each_ref().map(|ip| ethernet(&[0x8100], ip)), server);
        is_answered(
            1,
            &packets.each_ref().map(|ip| ethernet(&[0x88a8, 0x8100, 0x9100], ip)),
            server,
        );
        for link_type in [12, 14, 101, 228, 229] {
            is_answered(link_type, &packets, server);
        }
        is_answered(0, &around(&[2, 0, 0, 0]), server);
        is_answered(108, &around(&[0, 0, 0, 30]), server);
        is_answered(113, &around(&[&[0; 14][..], &kind].concat()), server);
        is_answered(276, &around(&[&kind[..], &[0; 18]].concat()), server);
        // What a link puts behind a short packet is no part of it.
        let padded = packets.each_ref().map(|ip| [ethernet(&[], ip), vec![0xee; 30]].concat());
        is_answered(1, &padded, server);
        let ppp = if kind == [0x86, 0xdd] { [0x00, 0x57] } else { [0x00, 0x21] };
        let session = [&[2; 12][..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 200], &ppp].concat();
        is_answered(1, &around(&session), server);
        let labels = [&[2; 12][..], &[0x88, 0x47, 0, 0, 0x10, 64, 0, 0, 0x11, 64]].concat();
        is_answered(1, &around(&labels), server);
        let snap = [0xaa, 0xaa, 3, 0, 0, 0, kind[0], kind[1]];
        let framed = packets.each_ref().map(|ip| {
            let bytes = ((ip.len() + snap.len()) as u16).to_be_bytes();
            [&[2; 12][..], &bytes, &snap, ip, &[0xee; 4]].concat()
        });
        is_answered(1, &framed, server);
        let plain = [&[0x08, 0x01][..], &[2; 22], &snap].concat();
        is_answered(105, &around(&plain), server);
        let quality = [&[0x88, 0x02][..], &[2; 22], &[0, 0], &snap].concat();
        let radio = [&[0, 0, 12, 0][..], &[9; 8], &quality].concat();
        is_answered(127, &around(&radio), server);
        let logged = packets.each_ref().map(|ip| {
            let bytes = (ip.len() as u16 + 4).to_le_bytes();
            [
                &[2, 0, 0, 1, 8, 0, 1, 0, 8, 0, 3, 0, 5, 0, 10, 0, b'x', 0, 0, 0][..],
                &bytes,
                &[9, 0],
                ip,
            ]
            .concat()
        });
        is_answered(239, &logged, server);
        is_answered(109, &around(&[2; 12]), server);
        // In tunnels of other addresses.
        let [outer, other]: [SocketAddr; 2] =
            ["9.9.9.9:1".parse().unwrap(), "8.8.8.8:1".parse().unwrap()];
        let number = if kind == [0x86, 0xdd] { 41 } else { 4 };
        is_answered(
            101,
            &packets.each_ref().map(|p| ip(outer.ip(), other.ip(), number, p)),
            server,
        );
        let gre = around(&[&[0x20, 0][..], &kind, &[0, 0, 0, 5]].concat());
        is_answered(101, &gre.each_ref().map(|p| ip(outer.ip(), other.ip(), 47, p)), server);
    }
}

/// Headers that IPv6 puts in between are stepped over.
#[test]
fn extension_headers() {
    let server = "[2001:db8::1]:53";
    let packets = asks("[2001:db8::9]:1053", server);
    let extended = packets.each_ref().map(|packet| {
        let mut extended = packet[..40].to_vec();
        // Hop by hop, routing, destination, authentication, a fragment that is all, and then UDP.
        let headers: [&[u8]; 5] = [
            &[43, 0, 1, 4, 0, 0, 0, 0],
            &[60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[51, 0, 1, 4, 0, 0, 0, 0],
            &[44, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[17, 0, 0, 0, 0, 0, 0, 9],
        ];
        let headers = headers.concat();
        extended[6] = 0;
        extended[4..6].copy_from_slice(&((packet.len() - 40 + headers.len()) as u16).to_be_bytes());
        [extended, headers, packet[40..].to_vec()].concat()
    });
    is_answered(101, &extended, server);
}

/// A datagram in fragments, in any order and doubled, is one; without one of them it is none, and
/// counted.
#[test]
fn fragments() {
    let server = "10.0.0.1:53";
    let [query, answer] = asks("10.0.0.9:53001", server);
    let ends = ([10, 0, 0, 1], [10, 0, 0, 9]);
    let part = |at: usize, to: usize| {
        let payload = &answer[20..];
        ipv4_part(ends, 17, 77, at, to < payload.len(), &payload[at..to.min(payload.len())])
    };
    let parts = [part(0, 16), part(16, 32), part(32, 999)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut packets = vec![query.clone()];
        packets.extend(order.map(|at| parts[at].clone()));
        is_answered(101, &packets, server);
    }
    let lacking: Vec<Timed> =
        [&query, &parts[0], &parts[0], &parts[2]].map(|packet| (START_NS, packet.clone())).to_vec();
    let found = replay(&pcap(101, &lacking));
    assert_eq!((found.rows.len(), found.counters.fragments_dropped), (0, 1));
    assert_eq!(found.table("dns_events").unanswered, 1);
}

/// Parts that never become whole, that overlap, or come by the million, hold no more than they may, and
/// what is dropped for it is counted.
#[test]
fn fragments_are_bounded() {
    let mut random = SplitMix(5);
    let mut fragments = Fragments::default();
    let part = |id: u32, at: usize, is_last: bool, bytes: &[u8], out: &mut Fragments| {
        let any: IpAddr = "10.0.0.1".parse().unwrap();
        let key = FragmentKey { from: any, to: any, id, protocol: 17 };
        let bytes = Cut { bytes, wire_bytes: bytes.len() };
        out.take(&Fragment { key, at, is_last, bytes }, START_NS).is_some()
    };
    for _ in 0..20_000 {
        let (id, at) = (random.below(3_000) as u32, 8 * random.below(100) as usize);
        part(id, at, false, &[7; 60_000], &mut fragments);
    }
    assert!(fragments.held_bytes() <= (64 << 20) + 60_000, "{}", fragments.held_bytes());
    assert!(fragments.dropped > 10_000);
    let mut fragments = Fragments::default();
    part(0, 8, true, b"never whole", &mut fragments);
    for id in 1..100_000 {
        assert!(!part(id, 0, false, &[1; 8], &mut fragments));
        assert!(part(id, 8, true, &[2; 8], &mut fragments));
    }
    assert!(fragments.waiting_notes() <= 4 * 1_024 + 1);
    assert_eq!(fragments.dropped, 0);
}

/// What is no TCP or UDP is skipped for a reason, and multicast DNS is no DNS.
#[test]
fn others_are_skipped() {
    let [any, other]: [SocketAddr; 2] =
        ["10.0.0.9:5353".parse().unwrap(), "224.0.0.251:5353".parse().unwrap()];
    let arp = [&[2; 12][..], &[0x08, 0x06], &[0; 28]].concat();
    let [query, _] = dns(7);
    let packets = [
        arp,
        ethernet(&[], &ip(any.ip(), other.ip(), 1, &[8; 30])),
        ethernet(&[], &ip(any.ip(), other.ip(), 6, &[8; 3])),
        ethernet(&[], &udp(any, other, &query)),
        ethernet(&[0x8100; 40], &udp(any, other, &query)),
    ];
    let timed: Vec<Timed> = packets.map(|packet| (START_NS, packet)).to_vec();
    let found = replay_packets(&timed);
    let skipped: Vec<(&str, u64)> = found.counters.skipped.clone().into_iter().collect();
    let expected = [("header", 1), ("nesting", 1), ("not_ip", 1), ("not_tcp_or_udp", 1)];
    assert_eq!((skipped.as_slice(), found.rows.len()), (&expected[..], 0));
    let unknown = replay(&pcap(147, &timed));
    assert_eq!(unknown.counters.skipped["link_type"], 5);
}
