//! A small writer of captures: packets, conversations, files.

use std::net::{IpAddr, SocketAddr};

pub(super) const SYN: u8 = 2;
pub(super) const FIN: u8 = 1;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;
pub(super) const PSH: u8 = 8;
pub(super) const MS: i64 = 1_000_000;
pub(super) const START_NS: i64 = 1_700_000_000_000_000_000;

/// A packet with its time.
pub(super) type Timed = (i64, Vec<u8>);

pub(super) fn tcp(
    from: SocketAddr,
    to: SocketAddr,
    (sequence, ack): (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    ip(from.ip(), to.ip(), 6, &segment)
}

pub(super) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend((payload.len() as u16 + 8).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    ip(from.ip(), to.ip(), 17, &datagram)
}

/// An IP packet, without a link.
pub(super) fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ipv4_part((from.octets(), to.octets()), protocol, 0, 0, false, payload)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(payload);
            packet
        }
        _ => panic!("both ends have one family"),
    }
}

/// A packet of IPv4, which may be a part of a datagram.
pub(super) fn ipv4_part(
    (from, to): ([u8; 4], [u8; 4]),
    protocol: u8,
    id: u16,
    at: usize,
    more: bool,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((payload.len() as u16 + 20).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(((at / 8) as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(payload);
    packet
}

/// In a frame of Ethernet, with these tags in front.
pub(super) fn ethernet(tags: &[u16], ip: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(if ip[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(ip);
    frame
}

/// Both ends of a connection, and how far they are.
pub(super) struct Talk {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) sent: [u32; 2],
    pub(super) now_ns: i64,
    pub(super) packets: Vec<Timed>,
}

impl Talk {
    pub(super) fn new(client: &str, server: &str, first: [u32; 2], now_ns: i64) -> Talk {
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        Talk { client, server, sent: first, now_ns, packets: Vec::new() }
    }

    /// A packet of one side, a tenth of a millisecond after the one before.
    pub(super) fn send(&mut self, is_server: bool, flags: u8, payload: &[u8]) -> &mut Talk {
        self.now_ns += MS / 10;
        let (from, to) = match is_server {
            false => (self.client, self.server),
            true => (self.server, self.client),
        };
        let [mine, other] = [usize::from(is_server), usize::from(!is_server)];
        let numbers = (self.sent[mine], self.sent[other]);
        self.packets.push((self.now_ns, ethernet(&[], &tcp(from, to, numbers, flags, payload))));
        let count = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.sent[mine] = self.sent[mine].wrapping_add(count);
        self
    }

    pub(super) fn open(&mut self) -> &mut Talk {
        self.send(false, SYN, b"").send(true, SYN | ACK, b"").send(false, ACK, b"")
    }

    pub(super) fn close(&mut self) -> &mut Talk {
        self.send(false, FIN | ACK, b"").send(true, FIN | ACK, b"").send(false, ACK, b"")
    }

    /// A request and its answer, which says the number, in segments of so many bytes.
    pub(super) fn exchange(&mut self, number: usize, segment_bytes: usize) -> &mut Talk {
        let (request, response) = (request(number), response(number));
        for (is_server, bytes) in [(false, request), (true, response)] {
            for piece in bytes.chunks(segment_bytes) {
                self.send(is_server, ACK | PSH, piece);
            }
        }
        self.send(false, ACK, b"")
    }
}

pub(super) fn request(number: usize) -> Vec<u8> {
    format!("GET /n/{number} HTTP/1.1\r\nHost: example.org\r\n\r\n").into_bytes()
}

pub(super) fn response(number: usize) -> Vec<u8> {
    let body = format!("answer {number}");
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A file of the older format.
pub(super) fn pcap(link_type: u32, packets: &[Timed]) -> Vec<u8> {
    pcap_as(true, 1_000, link_type, usize::MAX, packets)
}

pub(super) fn pcap_as(
    is_little: bool,
    unit_ns: i64,
    link_type: u32,
    snap_bytes: usize,
    packets: &[Timed],
) -> Vec<u8> {
    let word = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let magic = if unit_ns == 1 { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut file = Vec::new();
    for value in [magic, 0, 0, 0, 262_144, link_type] {
        file.extend(word(value));
    }
    for (time_ns, packet) in packets {
        let kept = packet.len().min(snap_bytes);
        let (seconds, rest) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000 / unit_ns);
        for value in [seconds as u32, rest as u32, kept as u32, packet.len() as u32] {
            file.extend(word(value));
        }
        file.extend(&packet[..kept]);
    }
    file
}

/// A block of the newer format.
pub(super) fn block(is_little: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let word = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let padded = body.len().next_multiple_of(4);
    let length = word(padded as u32 + 12);
    let mut block = word(kind).to_vec();
    block.extend(length);
    block.extend(body);
    block.resize(8 + padded, 0);
    block.extend(length);
    block
}

/// A file of the newer format: times in nanoseconds, with a block nobody knows and an interface that is
/// not used.
pub(super) fn pcapng(is_little: bool, link_type: u16, packets: &[Timed]) -> Vec<u8> {
    let word = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let half = |value: u16| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let section = [&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
    let mut file = block(is_little, 0x0a0d_0d0a, &section);
    file.extend(block(is_little, 1, &[&half(147)[..], &half(0), &word(0)].concat()));
    file.extend(block(is_little, 0x0bad, b"whatever this is"));
    let resolution = [&half(9)[..], &half(1), &[9, 0, 0, 0], &half(0), &half(0)].concat();
    let interface = [&half(link_type)[..], &half(0), &word(0), &resolution].concat();
    file.extend(block(is_little, 1, &interface));
    for (time_ns, packet) in packets {
        let (high, low) = ((time_ns >> 32) as u32, *time_ns as u32);
        let bytes = packet.len() as u32;
        let head: Vec<u8> = [1, high, low, bytes, bytes].into_iter().flat_map(word).collect();
        file.extend(block(is_little, 6, &[&head[..], packet].concat()));
    }
    file
}
