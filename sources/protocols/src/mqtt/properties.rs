//! The properties of version 5: where they end, and whether they are some.

use super::types::*;
use crate::cursor::Cursor;

const TOPIC_ALIAS: u8 = 0x23;

/// What is behind properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) topic_alias: Option<u16>,
}

/// Text or bytes, with their length in front.
pub(super) fn string<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
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

/// Whether a packet of this type may have this property.
fn may_have(kind: u8, property: u8) -> bool {
    let own: &[u8] = match kind {
        CONNECT => &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x27],
        CONNACK => &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x27, 0x28,
            0x29, 0x2a,
        ],
        PUBLISH => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, TOPIC_ALIAS],
        PUBACK | PUBREC | PUBREL | PUBCOMP | SUBACK | UNSUBACK => &[0x1f],
        SUBSCRIBE => &[0x0b],
        DISCONNECT => &[0x11, 0x1c, 0x1f],
        AUTH => &[0x15, 0x16, 0x1f],
        _ => &[],
    };
    // A user's property is in any packet.
    own.contains(&property) || (property == 0x26 && !matches!(kind, PINGREQ | PINGRESP))
}

/// Steps over the properties of a packet of this type. `None`: they are none, or not all there.
pub(super) fn properties(kind: u8, cursor: &mut Cursor<'_>) -> Option<Properties> {
    let length = varint(cursor)?;
    let mut inside = Cursor::new(cursor.bytes(length)?);
    let mut found = Properties { topic_alias: None };
    while let Some(id) = inside.u8() {
        if !may_have(kind, id) {
            return None;
        }
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => inside.skip(1)?,
            TOPIC_ALIAS => found.topic_alias = Some(inside.u16_be()?),
            0x13 | 0x21 | 0x22 => inside.skip(2)?,
            0x02 | 0x11 | 0x18 | 0x27 => inside.skip(4)?,
            0x0b => drop(varint(&mut inside)?),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                string(&mut inside)?;
            }
            0x26 => {
                string(&mut inside)?;
                string(&mut inside)?;
            }
            _ => return None,
        }
    }
    Some(found)
}

/// The properties in front of what the cursor has, if there are any: by the level, or where that is not
/// known by what is there.
pub(super) fn if_any(kind: u8, cursor: &mut Cursor<'_>, level: Option<u8>) -> Option<Properties> {
    const NONE: Properties = Properties { topic_alias: None };
    match level {
        Some(LEVEL_5) => properties(kind, cursor),
        Some(_) => Some(NONE),
        None => {
            let mut behind = *cursor;
            match properties(kind, &mut behind) {
                Some(found) => {
                    *cursor = behind;
                    Some(found)
                }
                None => Some(NONE),
            }
        }
    }
}
