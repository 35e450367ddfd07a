//! Whether bytes are MQTT: packets that are whole and well formed, one behind the other.
//!
//! A `CONNECT` is certain by itself. In the middle of a connection a list of topics is, or a message next
//! to a packet that one side only sends; on a port of MQTT's any packet that one side only sends. Messages
//! alone are not read: both sides send them, and nothing tells which one this is.

use super::parse::{NoPacket, is_of, sender, split};
use super::properties::{properties, string};
use super::types::*;
use crate::cursor::Cursor;
use crate::protocol::{Beginning, Verdict};
use crate::{Recognised, Side};

/// The registered ports, without and with TLS.
const PORTS: [u16; 2] = [1883, 8883];
/// Packets that are longer are not waited for to see whether they are some.
const AWAITED_BYTES_MAX: u64 = 4 * 1024;
/// Names of the protocol and its levels, as `CONNECT` has them.
const NAMES: [(&[u8], &[u8]); 2] = [(b"\0\x04MQTT", &[4, 5]), (b"\0\x06MQIsdp", &[3])];

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let Beginning { bytes, at_start, is_datagram, ports, .. } = *beginning;
    if is_datagram || bytes.is_empty() {
        return Verdict::IsNot;
    }
    let (fixed, body) = match split(bytes) {
        Ok((fixed, body, _)) => (fixed, body),
        Err(NoPacket::Cut) if at_start && bytes[0] == CONNECT << 4 => return Verdict::Unsure,
        Err(_) => return Verdict::IsNot,
    };
    if fixed.kind == CONNECT {
        return match connect(body) {
            Recognised::Yes => Verdict::Is(Side::Request),
            Recognised::Unsure if at_start => Verdict::Unsure,
            _ => Verdict::IsNot,
        };
    }
    let Some(told) = told(bytes) else { return Verdict::IsNot };
    let is_port = ports.iter().any(|port| PORTS.contains(port));
    match told.side {
        Some(side) if told.has_topics || told.has_message || is_port => Verdict::Is(side),
        _ => Verdict::IsNot,
    }
}

/// What whole packets tell.
#[derive(Debug, Default)]
struct Told {
    /// The only one that sends some of them.
    side: Option<Side>,
    has_topics: bool,
    has_message: bool,
}

/// `None`: these bytes are anything but whole packets of one side.
fn told(bytes: &[u8]) -> Option<Told> {
    let (mut told, mut rest) = (Told::default(), bytes);
    while !rest.is_empty() {
        let (fixed, body, behind) = split(rest).ok()?;
        let is_whole = body.len() as u64 == fixed.body_bytes;
        if !is_whole || well_formed(fixed, body, None) != Recognised::Yes {
            return None;
        }
        let side = sender(fixed.kind);
        if told.side.is_some() && side.is_some() && told.side != side {
            return None;
        }
        told.side = told.side.or(side);
        told.has_topics |= matches!(fixed.kind, SUBSCRIBE | UNSUBSCRIBE);
        told.has_message |= fixed.kind == PUBLISH;
        rest = behind;
    }
    Some(told)
}

/// Whether a side's packets begin here, behind a loss.
pub(super) fn begin_packets(side: Side, bytes: &[u8], level: Option<u8>) -> Recognised {
    let mut rest = bytes;
    let mut found = Recognised::Unsure;
    while !rest.is_empty() {
        let (fixed, body, behind) = match split(rest) {
            Ok(parts) => parts,
            Err(NoPacket::Cut) => return found,
            Err(NoPacket::Invalid) => return Recognised::No,
        };
        if !is_of(side, fixed.kind) {
            return Recognised::No;
        }
        match well_formed(fixed, body, level) {
            Recognised::Yes => found = Recognised::Yes,
            Recognised::Unsure if found == Recognised::Yes => {}
            Recognised::Unsure if fixed.total_bytes() <= AWAITED_BYTES_MAX => {}
            Recognised::Unsure | Recognised::No => return Recognised::No,
        }
        rest = behind;
    }
    found
}

/// Whether this is the body of a packet with that fixed header, or its beginning.
fn well_formed(fixed: Fixed, body: &[u8], level: Option<u8>) -> Recognised {
    let is_whole = body.len() as u64 == fixed.body_bytes;
    let by = |is_one: bool| if is_one { Recognised::Yes } else { Recognised::No };
    match fixed.kind {
        CONNECT => connect(body),
        PUBLISH => publish(fixed, body, is_whole, level),
        SUBSCRIBE | UNSUBSCRIBE => match Cursor::new(body).u16_be() {
            Some(0) => Recognised::No,
            Some(_) if is_whole => by(topics_level(fixed.kind, &body[2..], level).is_some()),
            _ => Recognised::Unsure,
        },
        _ if !is_whole => Recognised::Unsure,
        CONNACK => by(body[0] < 2 && reason(CONNACK, &body[1..])),
        PUBACK | PUBREC | PUBREL | PUBCOMP => {
            by(body[..2] != [0, 0] && reason(fixed.kind, &body[2..]))
        }
        SUBACK | UNSUBACK => by(body[..2] != [0, 0] && reasons(fixed.kind, &body[2..], level)),
        DISCONNECT | AUTH => by(reason(fixed.kind, body)),
        _ => Recognised::Yes,
    }
}

/// The level that a `CONNECT` says, and whether it is one.
pub(super) fn level(body: &[u8]) -> Option<u8> {
    NAMES.iter().find_map(|(name, levels)| {
        let level = *body.strip_prefix(*name)?.first()?;
        levels.contains(&level).then_some(level)
    })
}

fn connect(body: &[u8]) -> Recognised {
    if level(body).is_some() {
        return Recognised::Yes;
    }
    let begins = |(name, _): &(&[u8], &[u8])| body.len() <= name.len() && name.starts_with(body);
    if NAMES.iter().any(begins) { Recognised::Unsure } else { Recognised::No }
}

/// A topic, or a filter of some.
fn is_topic(topic: &[u8], may_be_filter: bool) -> bool {
    !topic.is_empty()
        && (may_be_filter || !topic.iter().any(|byte| matches!(byte, b'+' | b'#')))
        && std::str::from_utf8(topic).is_ok_and(|text| !text.chars().any(char::is_control))
}

fn publish(fixed: Fixed, body: &[u8], is_whole: bool, level: Option<u8>) -> Recognised {
    let mut cursor = Cursor::new(body);
    let Some(length) = cursor.u16_be() else { return Recognised::Unsure };
    let id_bytes = if fixed.qos() > 0 { 2 } else { 0 };
    if 2 + u64::from(length) + id_bytes > fixed.body_bytes {
        return Recognised::No;
    }
    let Some(topic) = cursor.bytes(length.into()) else { return Recognised::Unsure };
    if (fixed.is_dup() && fixed.qos() == 0) || !(topic.is_empty() || is_topic(topic, false)) {
        return Recognised::No;
    }
    if fixed.qos() > 0 {
        match cursor.u16_be() {
            Some(0) => return Recognised::No,
            Some(_) => {}
            None => return Recognised::Unsure,
        }
    }
    let has_number =
        |mut cursor| properties(PUBLISH, &mut cursor).map(|found| found.topic_alias.is_some());
    match has_number(cursor) {
        Some(true) if level != Some(LEVEL_4) => Recognised::Yes,
        None if is_whole && level == Some(LEVEL_5) => Recognised::No,
        // Only a number can stand for a topic.
        None if topic.is_empty() && !is_whole => Recognised::Unsure,
        _ if topic.is_empty() => Recognised::No,
        _ => Recognised::Yes,
    }
}

/// What a list of topics behind a packet's id is of, if it is one: of version 5, or of what was before.
pub(super) fn topics_level(kind: u8, behind_id: &[u8], level: Option<u8>) -> Option<u8> {
    let before = level != Some(LEVEL_5) && are_topics(kind, Cursor::new(behind_id), 2);
    let mut cursor = Cursor::new(behind_id);
    let may_be_5 = level.is_none_or(|level| level == LEVEL_5);
    let is_5 = may_be_5
        && properties(kind, &mut cursor).is_some()
        && are_topics(kind, cursor, SUBSCRIBE_OPTIONS_MAX);
    match (before, is_5) {
        (true, false) => Some(LEVEL_4),
        (false, true) => Some(LEVEL_5),
        // Of both: rare, and no matter of who it is.
        (true, true) => level.or(Some(LEVEL_4)),
        (false, false) => None,
    }
}

/// Above it bits are reserved.
const SUBSCRIBE_OPTIONS_MAX: u8 = 0x3f;

fn are_topics(kind: u8, mut cursor: Cursor<'_>, options_max: u8) -> bool {
    let mut is_any = false;
    while !cursor.is_empty() {
        let is_one = string(&mut cursor).is_some_and(|topic| is_topic(topic, true))
            && (kind != SUBSCRIBE
                || cursor.u8().is_some_and(|options| options <= options_max && options & 3 < 3));
        if !is_one {
            return false;
        }
        is_any = true;
    }
    is_any
}

fn is_reason(code: u8) -> bool {
    matches!(code, 0..=5 | 0x10 | 0x11 | 0x18 | 0x19 | 0x80..=0xa2)
}

/// A reason code and properties, or less.
fn reason(kind: u8, behind_id: &[u8]) -> bool {
    let Some((code, rest)) = behind_id.split_first() else { return true };
    let mut cursor = Cursor::new(rest);
    is_reason(*code)
        && (rest.is_empty() || properties(kind, &mut cursor).is_some() && cursor.is_empty())
}

/// Reason codes, of version 5 behind properties.
fn reasons(kind: u8, behind_id: &[u8], level: Option<u8>) -> bool {
    let before = match kind {
        SUBACK => {
            !behind_id.is_empty() && behind_id.iter().all(|code| matches!(code, 0..=2 | 0x80))
        }
        _ => behind_id.is_empty(),
    };
    let mut cursor = Cursor::new(behind_id);
    let is_5 = properties(kind, &mut cursor).is_some()
        && !cursor.is_empty()
        && cursor.rest().iter().all(|code| is_reason(*code));
    match level {
        None => before || is_5,
        Some(LEVEL_5) => is_5,
        Some(_) => before,
    }
}
