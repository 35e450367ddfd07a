//! What a packet holds, from the link up to TCP and UDP: borrowed, bounded in nesting, and with what
//! headers say of lengths held against what is there.
//!
//! Checksums are not looked at: captures of a sender are made before its card fills them in. What
//! cannot be read is skipped with a reason, which is counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::tunnels::{gre, labelled, of_udp};

/// Why a packet is not looked at further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// The capture's kind of link is not known.
    LinkType,
    /// Neither IPv4 nor IPv6, as ARP.
    NotIp,
    /// Neither TCP nor UDP, as ICMP.
    NotTcpOrUdp,
    /// A header is cut, or says what cannot be.
    Header,
    /// More headers within one another than [`NESTING_MAX`].
    Nesting,
}

impl Skip {
    /// As counters name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Skip::LinkType => "link_type",
            Skip::NotIp => "not_ip",
            Skip::NotTcpOrUdp => "not_tcp_or_udp",
            Skip::Header => "header",
            Skip::Nesting => "nesting",
        }
    }
}

/// Headers of one kind within one another: tags of a link, extensions of IPv6, tunnels.
pub(super) const NESTING_MAX: usize = 16;

/// Ethernet, as GRE and overlays number it.
pub(super) const ETHERNET_IN_GRE: u16 = 0x6558;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;

/// Bytes, and how many they were on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) wire_bytes: usize,
}

impl<'a> Cut<'a> {
    /// What is behind so many bytes, which are there.
    pub(super) fn behind(self, count: usize) -> Result<Cut<'a>, Skip> {
        let bytes = self.bytes.get(count..).ok_or(Skip::Header)?;
        Ok(Cut { bytes, wire_bytes: self.wire_bytes.saturating_sub(count) })
    }

    /// No more than so many bytes: links pad, and some capture what is behind.
    pub(super) fn at_most(self, wire_bytes: usize) -> Cut<'a> {
        let wire_bytes = self.wire_bytes.min(wire_bytes);
        Cut { bytes: &self.bytes[..self.bytes.len().min(wire_bytes)], wire_bytes }
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, Skip> {
        let bytes = self.bytes.get(at..at + 2).ok_or(Skip::Header)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, Skip> {
        let bytes = self.bytes.get(at..at + 4).ok_or(Skip::Header)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, Skip> {
        self.bytes.get(at).copied().ok_or(Skip::Header)
    }
}

/// Which datagram a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentKey {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) id: u32,
    pub(super) protocol: u8,
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) key: FragmentKey,
    pub(super) at: usize,
    pub(super) is_last: bool,
    pub(super) bytes: Cut<'a>,
}

/// A segment of TCP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tcp<'a> {
    pub(super) ports: [u16; 2],
    pub(super) sequence: u32,
    pub(super) acknowledged: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) payload: Cut<'a>,
}

impl Tcp<'_> {
    /// The same, without the bytes that it carries.
    pub(super) fn without_payload(self) -> Tcp<'static> {
        let payload = Cut { bytes: &[], wire_bytes: self.payload.wire_bytes };
        Tcp { payload, ..self }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Transport<'a> {
    Tcp(Tcp<'a>),
    Udp { ports: [u16; 2], payload: Cut<'a> },
}

/// What a packet is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    Fragment(Fragment<'a>),
    Message { from: IpAddr, to: IpAddr, transport: Transport<'a> },
}

/// Reads a packet of a kind of link.
pub(super) fn of_link(link_type: u32, packet: Cut<'_>) -> Result<Found<'_>, Skip> {
    match link_type {
        // Loopback of BSDs: a family in some byte order, which its packets tell themselves.
        0 | 108 => ip(packet.behind(4)?, 0),
        1 => ethernet(packet, 0),
        // Raw IP, by several names.
        12 | 14 | 101 | 228 | 229 => ip(packet, 0),
        // Linux' cooked captures, the older and the newer.
        113 => ethertype(packet.u16(14)?, packet.behind(16)?, 0),
        276 => ethertype(packet.u16(0)?, packet.behind(20)?, 0),
        // Wireless, with and without what the card says of it.
        105 => wireless(packet),
        127 => wireless(packet.behind(usize::from(packet.u16(2)?.swap_bytes()))?),
        // Packets that a firewall logs, behind what it says of them.
        239 => firewall_log(packet),
        // Of OpenBSD's tunnels, behind what it says of them.
        109 => ip(packet.behind(12)?, 0),
        // PPP, with and without the bytes that it has in front on serial lines.
        9 | 50 => ppp(packet, 0),
        // HDLC of Cisco's: two bytes of an address, and the kind.
        104 => ethertype(packet.u16(2)?, packet.behind(4)?, 0),
        // FDDI.
        10 => logical_link(packet.behind(13)?, 0),
        _ => Err(Skip::LinkType),
    }
}

pub(super) fn ethernet(frame: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    ethertype(frame.u16(12)?, frame.behind(14)?, depth)
}

pub(super) fn ethertype(mut kind: u16, mut rest: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    // Frames may be within frames, without a packet between.
    if depth > NESTING_MAX {
        return Err(Skip::Nesting);
    }
    for _ in 0..NESTING_MAX {
        match kind {
            IPV4 | IPV6 => return ip(rest, depth),
            // VLAN, and VLANs within VLANs.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                kind = rest.u16(2)?;
                rest = rest.behind(4)?;
            }
            // Its length is held against the packet's: some count the link's padding in.
            0x8864 => {
                let bytes = usize::from(rest.u16(4)?);
                return ppp(rest.behind(6)?.at_most(bytes), depth);
            }
            // A length: the kind is told by a header behind it.
            0..=1_500 => return logical_link(rest.at_most(usize::from(kind)), depth),
            0x8847 | 0x8848 => return labelled(rest, depth),
            // What bridges and switches put in front: a port, a port of an extender, a provider's
            // own frame with the customer's in it.
            0x8926 => {
                kind = rest.u16(4)?;
                rest = rest.behind(6)?;
            }
            0x893f => {
                kind = rest.u16(6)?;
                rest = rest.behind(8)?;
            }
            0x88e7 => {
                kind = rest.u16(16)?;
                rest = rest.behind(18)?;
            }
            _ => return Err(Skip::NotIp),
        }
    }
    Err(Skip::Nesting)
}

/// A header that has room for the kind of what is behind it.
fn logical_link(frame: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    match frame.bytes {
        [0xaa, 0xaa, 0x03, 0, 0, 0, ..] => match frame.u16(6)? {
            kind @ (IPV4 | IPV6 | 0x8100) => ethertype(kind, frame.behind(8)?, depth),
            _ => Err(Skip::NotIp),
        },
        _ => Err(Skip::NotIp),
    }
}

/// A frame of IEEE 802.11 that carries data in the clear.
fn wireless(frame: Cut<'_>) -> Result<Found<'_>, Skip> {
    let (kind, flags) = (frame.u8(0)?, frame.u8(1)?);
    let is_data = kind & 0x0c == 0x08 && kind & 0x40 == 0;
    let is_encrypted = flags & 0x40 != 0;
    if !is_data || is_encrypted {
        return Err(Skip::NotIp);
    }
    let between_stations = if flags & 3 == 3 { 6 } else { 0 };
    let quality = match (kind & 0x80 != 0, flags & 0x80 != 0) {
        (true, true) => 6,
        (true, false) => 2,
        _ => 0,
    };
    logical_link(frame.behind(24 + between_stations + quality)?, 0)
}

/// Attributes, of which one is the packet.
fn firewall_log(packet: Cut<'_>) -> Result<Found<'_>, Skip> {
    const PAYLOAD: u16 = 9;
    let mut rest = packet.behind(4)?;
    for _ in 0..4 * NESTING_MAX {
        // These numbers are in the byte order of the machine; those seen are little.
        let (bytes, kind) = (rest.u16(0)?.swap_bytes(), rest.u16(2)?.swap_bytes());
        let bytes = usize::from(bytes);
        if kind == PAYLOAD && bytes >= 4 {
            return ip(rest.behind(4)?.at_most(bytes - 4), 0);
        }
        if bytes < 4 {
            return Err(Skip::Header);
        }
        rest = rest.behind(bytes.next_multiple_of(4))?;
    }
    Err(Skip::Nesting)
}

pub(super) fn ppp(rest: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    match rest.bytes {
        [0xff, 0x03, 0, 0x21 | 0x57, ..] => ip(rest.behind(4)?, depth),
        [0, 0x21 | 0x57, ..] => ip(rest.behind(2)?, depth),
        [2, 0x81 | 0x83, ..] => labelled(rest.behind(2)?, depth),
        // Its zero may be left out.
        [0x21 | 0x57, ..] => ip(rest.behind(1)?, depth),
        _ => Err(Skip::NotIp),
    }
}

pub(super) fn ip(packet: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    match packet.u8(0)? >> 4 {
        _ if depth > NESTING_MAX => Err(Skip::Nesting),
        // Within a tunnel nothing is longer than what holds it.
        4 if depth > 0 && usize::from(packet.u16(2)?) > packet.wire_bytes => Err(Skip::Header),
        6 if depth > 0 && usize::from(packet.u16(4)?) + 40 > packet.wire_bytes => Err(Skip::Header),
        4 => ipv4(packet, depth),
        6 => ipv6(packet, depth),
        _ => Err(Skip::NotIp),
    }
}

fn ipv4(packet: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    let header = usize::from(packet.u8(0)? & 0xf) * 4;
    let total = usize::from(packet.u16(2)?);
    let address = |at: usize| packet.u32(at).map(|bits| IpAddr::V4(Ipv4Addr::from(bits)));
    let (from, to) = (address(12)?, address(16)?);
    // Of a packet that the card is to cut the length may not be filled in yet.
    let total = if total == 0 { packet.wire_bytes } else { total };
    if header < 20 || total < header {
        return Err(Skip::Header);
    }
    let payload = packet.at_most(total).behind(header)?;
    let (fragment, protocol) = (packet.u16(6)?, packet.u8(9)?);
    let (at, is_last) = (usize::from(fragment & 0x1fff) * 8, fragment & 0x2000 == 0);
    if at > 0 || !is_last {
        let key = FragmentKey { from, to, id: u32::from(packet.u16(4)?), protocol };
        return Ok(Found::Fragment(Fragment { key, at, is_last, bytes: payload }));
    }
    of_protocol(from, to, protocol, payload, depth)
}

fn ipv6(packet: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    let address = |at: usize| {
        let bytes: [u8; 16] = packet.bytes.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
    };
    let (from, to) = (address(8).ok_or(Skip::Header)?, address(24).ok_or(Skip::Header)?);
    let (length, mut next) = (usize::from(packet.u16(4)?), packet.u8(6)?);
    let mut rest = packet.behind(40)?;
    if length > 0 {
        rest = rest.at_most(length);
    }
    for _ in 0..NESTING_MAX {
        let bytes = match next {
            // Hop by hop, routing, destination, mobility, HIP, shim6.
            0 | 43 | 60 | 135 | 139 | 140 => usize::from(rest.u8(1)?) * 8 + 8,
            // Authentication.
            51 => usize::from(rest.u8(1)?) * 4 + 8,
            44 => {
                let (protocol, fragment) = (rest.u8(0)?, rest.u16(2)?);
                let (at, is_last) = (usize::from(fragment & 0xfff8), fragment & 1 == 0);
                let key = FragmentKey { from, to, id: rest.u32(4)?, protocol };
                let bytes = rest.behind(8)?;
                if at > 0 || !is_last {
                    return Ok(Found::Fragment(Fragment { key, at, is_last, bytes }));
                }
                // One that is all: an atomic fragment.
                8
            }
            _ => return of_protocol(from, to, next, rest, depth),
        };
        next = rest.u8(0)?;
        rest = rest.behind(bytes)?;
    }
    Err(Skip::Nesting)
}

/// What an IP packet, or all its fragments together, hold.
pub(super) fn of_protocol(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    payload: Cut<'_>,
    depth: usize,
) -> Result<Found<'_>, Skip> {
    let transport = match protocol {
        TCP => Transport::Tcp(tcp(payload)?),
        UDP => {
            let ports = [payload.u16(0)?, payload.u16(2)?];
            let length = usize::from(payload.u16(4)?);
            let whole = if length == 0 { payload } else { payload.at_most(length) };
            let payload = whole.behind(8)?;
            if let Ok(found) = of_udp(ports, payload, depth + 1) {
                return Ok(found);
            }
            Transport::Udp { ports, payload }
        }
        IPV4_IN_IP | IPV6_IN_IP => return ip(payload, depth + 1),
        GRE => return gre(payload, depth + 1),
        _ => return Err(Skip::NotTcpOrUdp),
    };
    Ok(Found::Message { from, to, transport })
}

fn tcp(segment: Cut<'_>) -> Result<Tcp<'_>, Skip> {
    let header = usize::from(segment.u8(12)? >> 4) * 4;
    let flags = segment.u8(13)?;
    if header < 20 || segment.wire_bytes < header {
        return Err(Skip::Header);
    }
    // Of a header whose options are cut off all that matters is there.
    let payload = segment.behind(header.min(segment.bytes.len()))?;
    let wire_bytes = segment.wire_bytes - header;
    let acknowledged = segment.u32(8)?;
    Ok(Tcp {
        ports: [segment.u16(0)?, segment.u16(2)?],
        sequence: segment.u32(4)?,
        acknowledged: (flags & 0x10 != 0).then_some(acknowledged),
        syn: flags & 2 != 0,
        fin: flags & 1 != 0,
        rst: flags & 4 != 0,
        payload: Cut { bytes: payload.bytes, wire_bytes },
    })
}
