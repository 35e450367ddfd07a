//! Packets: where they end, what they say, and whether bytes are MQTT at all.

use super::types::*;
use crate::cursor::Cursor;
use crate::frames::{Framing, Head};
use crate::json_text::JsonText;
use crate::protocol::{Beginning, Verdict};
use crate::redact::{REDACTED, Text};
use crate::{Config, Side};

/// Topics that a subscription's row shows at the most; the length of JSON bounds it as well.
const TOPICS_MAX: usize = 1_024;
/// Reason codes shown.
const REASONS_MAX: usize = 1_024;

/// Why there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPacket {
    /// Its beginning is missing or cut where it matters.
    Cut,
    /// It is none.
    Invalid,
}

/// The fixed header, as far as it is one of any packet.
fn fixed(bytes: &[u8]) -> Result<Fixed, NoPacket> {
    let Some(&first) = bytes.first() else { return Err(NoPacket::Cut) };
    let (kind, flags) = (first >> 4, first & 0xf);
    let flags_fit = match kind {
        0 => false,
        PUBLISH => flags & 6 != 6,
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => flags == 2,
        _ => flags == 0,
    };
    if !flags_fit {
        return Err(NoPacket::Invalid);
    }
    let mut body_bytes = 0;
    for (idx, byte) in bytes[1..].iter().take(4).enumerate() {
        body_bytes |= u64::from(byte & 0x7f) << (7 * idx);
        if byte & 0x80 == 0 {
            // Longer than it need be is wrong.
            let is_short = idx == 0 || *byte != 0;
            let fixed = Fixed { kind, flags, bytes: idx + 2, body_bytes };
            return if is_short && length_fits(kind, body_bytes) {
                Ok(fixed)
            } else {
                Err(NoPacket::Invalid)
            };
        }
    }
    Err(if bytes.len() < 5 { NoPacket::Cut } else { NoPacket::Invalid })
}

fn length_fits(kind: u8, body_bytes: u64) -> bool {
    let least = match kind {
        CONNECT => 12,
        PUBLISH => 2,
        SUBSCRIBE => 5,
        UNSUBSCRIBE => 4,
        SUBACK => 3,
        CONNACK | PUBACK | PUBREC | PUBREL | PUBCOMP | UNSUBACK => 2,
        _ => 0,
    };
    body_bytes >= least && (!matches!(kind, PINGREQ | PINGRESP) || body_bytes == 0)
}

/// Whether that side sends packets of this type.
fn is_of(side: Side, kind: u8) -> bool {
    match side {
        Side::Request => !matches!(kind, CONNACK | SUBACK | UNSUBACK | PINGRESP),
        Side::Response => !matches!(kind, CONNECT | SUBSCRIBE | UNSUBSCRIBE | PINGREQ),
    }
}

pub(super) struct Packets;

impl Framing for Packets {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        match fixed(bytes) {
            Ok(fixed) if is_of(side, fixed.kind) => {
                Head::Bytes(fixed.bytes as u64 + fixed.body_bytes)
            }
            Err(NoPacket::Cut) => Head::Short,
            Ok(_) | Err(NoPacket::Invalid) => Head::Invalid,
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let fixed = fixed(bytes).ok().filter(|fixed| is_of(side, fixed.kind))?;
        is_plausible(fixed, bytes).then_some(0)
    }
}

/// Whether a packet can hardly be anything else: what it says of itself fits, and so does what follows.
fn is_plausible(fixed: Fixed, bytes: &[u8]) -> bool {
    let body = &bytes[fixed.bytes..];
    let end = usize::try_from(fixed.body_bytes).unwrap_or(usize::MAX);
    let (body, rest) = body.split_at(end.min(body.len()));
    let is_whole = body.len() == end;
    if is_whole && !rest.is_empty() && self::fixed(rest) == Err(NoPacket::Invalid) {
        return false;
    }
    let mut cursor = Cursor::new(body);
    match fixed.kind {
        CONNECT => level(&mut cursor).is_some(),
        PUBLISH => cursor.u16_be().is_some_and(|length| {
            length > 0 && cursor.bytes(length.into()).is_some_and(|topic| is_topic(topic, false))
        }),
        SUBSCRIBE | UNSUBSCRIBE => {
            let id = cursor.u16_be().unwrap_or(0);
            // Version 5 has the length of its properties first: mostly none.
            let begins = |mut cursor: Cursor<'_>| {
                string(&mut cursor).is_some_and(|topic| is_topic(topic, true))
            };
            let behind = Cursor::new(cursor.rest().get(1..).unwrap_or_default());
            id > 0 && (begins(cursor) || begins(behind))
        }
        CONNACK => is_whole && body[0] < 2 && (body.len() == 2 && body[1] < 6 || body.len() > 2),
        PUBACK | PUBREC | PUBREL | PUBCOMP | SUBACK | UNSUBACK => {
            is_whole && body.len() < 64 && cursor.u16_be() != Some(0)
        }
        _ => is_whole && body.len() < 3,
    }
}

fn is_topic(topic: &[u8], may_be_filter: bool) -> bool {
    !topic.is_empty()
        && (may_be_filter || !topic.iter().any(|byte| matches!(byte, b'+' | b'#')))
        && std::str::from_utf8(topic).is_ok_and(|text| !text.chars().any(char::is_control))
}

/// The protocol level of a `CONNECT`, behind the protocol's name.
fn level(cursor: &mut Cursor<'_>) -> Option<u8> {
    let name = string(cursor)?;
    let level = cursor.u8()?;
    matches!((name, level), (b"MQTT", 4 | 5) | (b"MQIsdp", 3)).then_some(level)
}

fn string<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = cursor.u16_be()?;
    cursor.bytes(length.into())
}

fn varint(cursor: &mut Cursor<'_>) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = cursor.u8()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Steps over the properties of version 5. `None` if that is what they cannot be.
fn skip_properties(cursor: &mut Cursor<'_>) -> Option<()> {
    let length = varint(cursor)?;
    let mut properties = Cursor::new(cursor.bytes(length)?);
    while let Some(id) = properties.u8() {
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => properties.skip(1)?,
            0x13 | 0x21..=0x23 => properties.skip(2)?,
            0x02 | 0x11 | 0x18 | 0x27 => properties.skip(4)?,
            0x0b => drop(varint(&mut properties)?),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                string(&mut properties)?;
            }
            0x26 => {
                string(&mut properties)?;
                string(&mut properties)?;
            }
            _ => return None,
        }
    }
    Some(())
}

/// Behind properties, if there are any: by the level, or where that is not known by what is there.
fn behind_properties<'a>(cursor: Cursor<'a>, level: Option<u8>) -> Option<Cursor<'a>> {
    let mut behind = cursor;
    match level {
        Some(LEVEL_5) => skip_properties(&mut behind).map(|()| behind),
        Some(_) => Some(cursor),
        None => Some(skip_properties(&mut behind).map_or(cursor, |()| behind)),
    }
}

/// A packet of which so many bytes are there.
pub(super) fn packet(bytes: &[u8], level: Option<u8>, config: &Config) -> Result<Packet, NoPacket> {
    let fixed = fixed(bytes)?;
    let end = usize::try_from(fixed.body_bytes).unwrap_or(usize::MAX);
    let body = &bytes[fixed.bytes..];
    let body = &body[..end.min(body.len())];
    let if_missing = if body.len() < end { NoPacket::Cut } else { NoPacket::Invalid };
    read(fixed, Cursor::new(body), body.len() == end, level, config).ok_or(if_missing)
}

fn read(
    fixed: Fixed,
    mut cursor: Cursor<'_>,
    is_whole: bool,
    level: Option<u8>,
    config: &Config,
) -> Option<Packet> {
    let mut json = JsonText::new(Vec::new(), config.body_bytes_max);
    json.raw("{");
    let mut asked_level = None;
    let role = match fixed.kind {
        CONNECT => {
            asked_level = Some(self::level(&mut cursor)?);
            cursor.skip(3)?;
            let mut cursor = behind_properties(cursor, asked_level)?;
            json.key("client_id").string(string(&mut cursor)?);
            Role::Request((CONNACK, 0))
        }
        PUBLISH => publish(fixed, cursor, level, config, &mut json)?,
        SUBSCRIBE | UNSUBSCRIBE => subscribe(fixed.kind, cursor, level, &mut json)?,
        PUBREL => Role::Request((PUBCOMP, packet_id(&mut cursor, &mut json)?)),
        PINGREQ => Role::Request((PINGRESP, 0)),
        CONNACK => {
            cursor.skip(1)?;
            json.key("reason_code").int(cursor.u8()?);
            Role::Answer((CONNACK, 0))
        }
        PUBACK | PUBREC | PUBCOMP => {
            let id = packet_id(&mut cursor, &mut json)?;
            // Version 5 leaves out the code of success.
            match (cursor.u8(), level) {
                (Some(code), _) => drop(json.key("reason_code").int(code)),
                (None, Some(LEVEL_5)) if is_whole => drop(json.key("reason_code").int(0u8)),
                (None, _) => {}
            }
            Role::Answer((fixed.kind, id))
        }
        SUBACK | UNSUBACK => {
            let id = packet_id(&mut cursor, &mut json)?;
            let cursor = behind_properties(cursor, level)?;
            if !cursor.is_empty() {
                json.key("reason_codes").raw("[");
                for code in cursor.rest().iter().take(REASONS_MAX) {
                    json.comma().int(*code);
                }
                json.raw("]");
            }
            Role::Answer((fixed.kind, id))
        }
        PINGRESP => Role::Answer((PINGRESP, 0)),
        DISCONNECT | AUTH => Role::OneWay,
        _ => return None,
    };
    json.raw("}");
    let mut body = json.finish();
    config.redactor.redact_body(&mut body, 0, Text::Json);
    Some(Packet { kind: fixed.kind, role, body, level: asked_level })
}

fn packet_id(cursor: &mut Cursor<'_>, json: &mut JsonText) -> Option<u16> {
    let id = cursor.u16_be()?;
    json.key("packet_id").int(id);
    (id > 0).then_some(id)
}

fn publish(
    fixed: Fixed,
    mut cursor: Cursor<'_>,
    level: Option<u8>,
    config: &Config,
    json: &mut JsonText,
) -> Option<Role> {
    let topic = string(&mut cursor)?;
    // Only version 5 has packets without a topic: they have a number for it.
    let is_topic = is_topic(topic, false) || (topic.is_empty() && level != Some(4));
    let qos = fixed.flags >> 1 & 3;
    json.key("topic").string(topic).key("qos").int(qos);
    json.key("dup").bool(fixed.flags & 8 != 0).key("retain").bool(fixed.flags & 1 != 0);
    let role = match qos {
        0 => Role::OneWay,
        1 => Role::Request((PUBACK, packet_id(&mut cursor, json)?)),
        _ => Role::Request((PUBREC, packet_id(&mut cursor, json)?)),
    };
    json.key("payload");
    // Where properties are cut, the payload is as well.
    match behind_properties(cursor, level) {
        _ if config.redactor.hides_bodies() => json.whole(REDACTED.as_bytes()),
        Some(payload) => json.string(payload.rest()),
        None => json.string(b""),
    };
    is_topic.then_some(role)
}

fn subscribe(
    kind: u8,
    mut cursor: Cursor<'_>,
    level: Option<u8>,
    json: &mut JsonText,
) -> Option<Role> {
    let mut id_json = JsonText::new(Vec::new(), 0);
    let id = packet_id(&mut cursor, &mut id_json)?;
    let mut cursor = behind_properties(cursor, level)?;
    let mut qos = Vec::new();
    json.key("topics").raw("[");
    while !cursor.is_empty() && qos.len() < TOPICS_MAX && !json.is_full() {
        let Some(topic) = string(&mut cursor) else { break };
        json.comma().string(topic);
        qos.push(if kind == SUBSCRIBE { cursor.u8().unwrap_or(0) & 3 } else { 0 });
    }
    json.raw("]");
    if kind == SUBSCRIBE {
        json.key("qos").raw("[");
        for qos in qos {
            json.comma().int(qos);
        }
        json.raw("]");
    }
    json.key("packet_id").int(id);
    Some(Role::Request((kind + 1, id)))
}

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let Beginning { bytes, at_start, opened, is_datagram, .. } = *beginning;
    if is_datagram || bytes.is_empty() {
        return Verdict::IsNot;
    }
    let fixed = match fixed(bytes) {
        Ok(fixed) => fixed,
        // A `CONNECT` begins a connection, and nothing else.
        Err(NoPacket::Cut) if at_start && opened && bytes[0] >> 4 == CONNECT => {
            return Verdict::Unsure;
        }
        Err(_) => return Verdict::IsNot,
    };
    let body = &bytes[fixed.bytes..];
    match fixed.kind {
        CONNECT if level(&mut Cursor::new(body)).is_some() => Verdict::Is(Side::Request),
        CONNECT if at_start && is_connect_so_far(body) => Verdict::Unsure,
        SUBSCRIBE | PUBLISH | SUBACK if opened && at_start => Verdict::IsNot,
        // In the middle of a connection: whole packets whose text is text.
        SUBSCRIBE if fills(bytes) && is_plausible(fixed, bytes) => Verdict::Is(Side::Request),
        PUBLISH if fills(bytes) && is_plausible(fixed, bytes) && body[0] == 0 && body.len() > 8 => {
            Verdict::Is(Side::Request)
        }
        _ => Verdict::IsNot,
    }
}

fn is_connect_so_far(body: &[u8]) -> bool {
    [&b"\0\x04MQTT"[..], b"\0\x06MQIsdp"]
        .iter()
        .any(|name| name.starts_with(body) || (body.len() == name.len() && body.starts_with(name)))
}

/// Whether whole packets, and nothing else, are these bytes.
fn fills(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok(fixed) = fixed(rest) else { return false };
        let end =
            usize::try_from(fixed.body_bytes).unwrap_or(usize::MAX).saturating_add(fixed.bytes);
        match rest.get(end..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    true
}
