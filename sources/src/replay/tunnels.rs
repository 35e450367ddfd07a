//! Links and tunnels within a packet: what GRE, labels, and the ports of UDP that tunnels have, hold.
//!
//! A datagram is taken for a tunnel's only where its port is the tunnel's, its header is as the tunnel
//! writes it, and an IP packet that fits is in it; it is a datagram like others elsewhere.

use super::packet::{Cut, ETHERNET_IN_GRE, Found, NESTING_MAX, Skip, ethernet, ethertype, ip, ppp};

const VXLAN: [u16; 2] = [4_789, 8_472];
const VXLAN_GPE: u16 = 4_790;
const GENEVE: u16 = 6_081;
const GTP_USER: u16 = 2_152;
const TEREDO: u16 = 3_544;
const AYIYA: u16 = 5_072;
const GRE_IN_UDP: u16 = 4_754;
const MPLS_IN_UDP: u16 = 6_635;

/// What a datagram to or from a tunnel's port holds; an error where it is no tunnel's.
pub(super) fn of_udp(ports: [u16; 2], payload: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    let is_of = |port: u16| ports.contains(&port);
    match ports[1] {
        _ if depth > NESTING_MAX => Err(Skip::Nesting),
        _ if is_of(TEREDO) => teredo(payload, depth),
        _ if is_of(GTP_USER) => gtp(payload, depth),
        _ if is_of(AYIYA) => ayiya(payload, depth),
        port if VXLAN.contains(&port) => vxlan(payload, depth),
        VXLAN_GPE => vxlan_gpe(payload, depth),
        GENEVE => geneve(payload, depth),
        GRE_IN_UDP => gre(payload, depth),
        MPLS_IN_UDP => labelled(payload, depth),
        _ => Err(Skip::NotIp),
    }
}

/// Of kinds that overlays carry; others, as ARP, are no traffic.
fn overlaid(kind: u16, rest: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    match kind {
        ETHERNET_IN_GRE => ethernet(rest, depth),
        0x0800 | 0x86dd => ip(rest, depth),
        _ => Err(Skip::NotIp),
    }
}

fn vxlan(payload: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    // The bit that says that there is a network's number. What is reserved is ignored, as it is to be:
    // policies of groups are there, and what some senders put.
    if payload.u8(0)? & 0x08 == 0 {
        return Err(Skip::NotIp);
    }
    ethernet(payload.behind(8)?, depth)
}

fn vxlan_gpe(payload: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    if payload.u8(0)? & 0xfc != 0x0c || payload.u16(1)? != 0 {
        return Err(Skip::NotIp);
    }
    let rest = payload.behind(8)?;
    match payload.u8(3)? {
        1 | 2 => ip(rest, depth),
        3 => ethernet(rest, depth),
        _ => Err(Skip::NotIp),
    }
}

fn geneve(payload: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    let (first, flags) = (payload.u8(0)?, payload.u8(1)?);
    if first >> 6 != 0 || flags & 0x3f != 0 {
        return Err(Skip::NotIp);
    }
    let options = usize::from(first & 0x3f) * 4;
    overlaid(payload.u16(2)?, payload.behind(8 + options)?, depth)
}

fn gtp(payload: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    const USER_PACKET: u8 = 0xff;
    let flags = payload.u8(0)?;
    let bytes = usize::from(payload.u16(2)?);
    if flags & 0xf0 != 0x30 || payload.u8(1)? != USER_PACKET || bytes + 8 > payload.wire_bytes {
        return Err(Skip::NotIp);
    }
    let mut rest = payload.at_most(bytes + 8).behind(8)?;
    if flags & 7 != 0 {
        let mut next = if flags & 4 == 0 { 0 } else { rest.u8(3)? };
        rest = rest.behind(4)?;
        for _ in 0..NESTING_MAX {
            let bytes = usize::from(if next == 0 { 0 } else { rest.u8(0)? }) * 4;
            if bytes == 0 {
                break;
            }
            next = rest.u8(bytes - 1)?;
            rest = rest.behind(bytes)?;
        }
    }
    ip(rest, depth)
}

/// IPv6 through translators of IPv4 addresses, behind what servers say of whom they saw.
fn teredo(payload: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    let mut rest = payload;
    if rest.u16(0)? == 1 {
        let (client, authentication) = (usize::from(rest.u8(2)?), usize::from(rest.u8(3)?));
        rest = rest.behind(13 + client + authentication)?;
    }
    if rest.u16(0)? == 0 {
        rest = rest.behind(8)?;
    }
    let is_teredo = |at: usize| rest.u32(at).map(|prefix| prefix == 0x2001_0000);
    if rest.u8(0)? >> 4 != 6 || !(is_teredo(8)? || is_teredo(24)?) {
        return Err(Skip::NotIp);
    }
    ip(rest, depth)
}

fn ayiya(payload: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    let (identity, signed, kind) = (payload.u8(0)?, payload.u8(1)?, payload.u8(3)?);
    if payload.u8(2)? & 0xf != 1 || !matches!(kind, 4 | 41) {
        return Err(Skip::NotIp);
    }
    let bytes = 8 + (1_usize << (identity >> 4)) + usize::from(signed >> 4) * 4;
    ip(payload.behind(bytes)?, depth)
}

/// Behind labels of MPLS: IP, or a frame behind the four bytes that begin with zeros.
pub(super) fn labelled(mut rest: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    for _ in 0..NESTING_MAX {
        let is_last = rest.u8(2)? & 1 == 1;
        rest = rest.behind(4)?;
        if is_last {
            return match rest.u8(0)? >> 4 {
                0 => ethernet(rest.behind(4)?, depth + 1),
                _ => ip(rest, depth),
            };
        }
    }
    Err(Skip::Nesting)
}

pub(super) fn gre(packet: Cut<'_>, depth: usize) -> Result<Found<'_>, Skip> {
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGED: u16 = 0x0080;
    if depth > NESTING_MAX {
        return Err(Skip::Nesting);
    }
    let (flags, kind) = (packet.u16(0)?, packet.u16(2)?);
    let field = |bit: u16| if flags & bit == 0 { 0 } else { 4 };
    // Checksum, key and sequence number, where they are said to be there.
    let front = 4 + field(0x8000) + field(0x2000) + field(SEQUENCE);
    match (flags & 7, kind) {
        // Version 1: of PPTP, with a number of its own of what was received.
        (1, 0x880b) => ppp(packet.behind(8 + field(SEQUENCE) + field(ACKNOWLEDGED))?, depth),
        (_, 0x880b) => ppp(packet.behind(front)?, depth),
        (_, ETHERNET_IN_GRE) => ethernet(packet.behind(front)?, depth),
        // Mirrored frames, the first two kinds told apart by whether they are numbered.
        (_, 0x88be) => {
            let own = if flags & SEQUENCE == 0 { 0 } else { 8 };
            ethernet(packet.behind(front + own)?, depth)
        }
        (_, 0x22eb) => {
            let own = 12 + 8 * usize::from(packet.u8(front + 11)? & 1);
            ethernet(packet.behind(front + own)?, depth)
        }
        _ => ethertype(kind, packet.behind(front)?, depth),
    }
}
