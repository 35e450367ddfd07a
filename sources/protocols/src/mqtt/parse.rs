//! Fixed headers: where packets end.

use super::recognise::begin_packets;
use super::types::*;
use crate::frames::{Framing, Head};
use crate::{Recognised, Side};

/// Longest packet that no message or list of topics makes long.
const SHORT_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a length, at the most.
const LENGTH_BYTES_MAX: usize = 4;

/// Why there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPacket {
    /// Its beginning is missing or cut where it matters.
    Cut,
    /// It is none.
    Invalid,
}

/// The fixed header, as far as it is one of any packet.
pub(super) fn fixed(bytes: &[u8]) -> Result<Fixed, NoPacket> {
    let Some(&first) = bytes.first() else { return Err(NoPacket::Cut) };
    let (kind, flags) = (first >> 4, first & 0xf);
    let flags_fit = match kind {
        0 => false,
        PUBLISH => flags & 6 != 6,
        // Duplicates are of 3.1.
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => flags & 7 == 2,
        _ => flags == 0,
    };
    if !flags_fit {
        return Err(NoPacket::Invalid);
    }
    let mut body_bytes = 0;
    for (idx, byte) in bytes[1..].iter().take(LENGTH_BYTES_MAX).enumerate() {
        body_bytes |= u64::from(byte & 0x7f) << (7 * idx);
        if byte & 0x80 == 0 {
            // Longer than it need be is wrong.
            let is_short = idx == 0 || *byte != 0;
            let fixed = Fixed { kind, flags, bytes: idx + 2, body_bytes };
            return match is_short && length_fits(kind, body_bytes) {
                true => Ok(fixed),
                false => Err(NoPacket::Invalid),
            };
        }
    }
    Err(if bytes.len() <= LENGTH_BYTES_MAX { NoPacket::Cut } else { NoPacket::Invalid })
}

fn length_fits(kind: u8, body_bytes: u64) -> bool {
    let (least, most) = match kind {
        CONNECT => (12, SHORT_BYTES_MAX),
        CONNACK => (2, SHORT_BYTES_MAX),
        PUBLISH => (2, u64::MAX),
        SUBSCRIBE => (6, u64::MAX),
        UNSUBSCRIBE => (5, u64::MAX),
        SUBACK => (3, SHORT_BYTES_MAX),
        PUBACK | PUBREC | PUBREL | PUBCOMP | UNSUBACK => (2, SHORT_BYTES_MAX),
        PINGREQ | PINGRESP => (0, 0),
        _ => (0, SHORT_BYTES_MAX),
    };
    (least..=most).contains(&body_bytes)
}

/// Which side alone sends packets of this type; `None`: both do.
pub(super) fn sender(kind: u8) -> Option<Side> {
    match kind {
        CONNECT | SUBSCRIBE | UNSUBSCRIBE | PINGREQ => Some(Side::Request),
        CONNACK | SUBACK | UNSUBACK | PINGRESP => Some(Side::Response),
        _ => None,
    }
}

pub(super) fn is_of(side: Side, kind: u8) -> bool {
    sender(kind).is_none_or(|sender| sender == side)
}

/// The fixed header and as much of the body as there is, and what is behind it.
pub(super) fn split(bytes: &[u8]) -> Result<(Fixed, &[u8], &[u8]), NoPacket> {
    let fixed = fixed(bytes)?;
    let rest = &bytes[fixed.bytes..];
    let end = usize::try_from(fixed.body_bytes).unwrap_or(usize::MAX);
    let (body, behind) = rest.split_at(end.min(rest.len()));
    Ok((fixed, body, behind))
}

/// Packets as [`crate::frames`] tells them apart.
#[derive(Debug)]
pub(super) struct Packets {
    pub(super) level: Option<u8>,
}

impl Framing for Packets {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        match fixed(bytes) {
            Ok(fixed) if is_of(side, fixed.kind) => Head::Bytes(fixed.total_bytes()),
            Err(NoPacket::Cut) => Head::Short,
            Ok(_) | Err(NoPacket::Invalid) => Head::Invalid,
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        (begin_packets(side, bytes, self.level) == Recognised::Yes).then_some(0)
    }

    fn may_find(&self, side: Side, bytes: &[u8]) -> bool {
        begin_packets(side, bytes, self.level) == Recognised::Unsure
    }
}
