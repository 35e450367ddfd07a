//! Packets: their heads, and the parts that results are made of.

use super::types::EOF;
use crate::Side;
use crate::cursor::Cursor;
use crate::frames::{Framing, Head};

/// Three bytes of length and one of number.
pub(super) const HEAD_BYTES: usize = 4;
/// The payload of a packet of this size goes on in the next one.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 0xff_ffff;

/// A packet: its number, and as much of its payload as was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) number: u8,
    pub(super) payload: &'a [u8],
    pub(super) payload_bytes: u64,
}

impl<'a> Packet<'a> {
    /// Of bytes that begin with one, of which so many belong to it.
    pub(super) fn of(bytes: &'a [u8], total_bytes: u64) -> Option<Packet<'a>> {
        let payload = bytes.get(HEAD_BYTES..)?;
        Some(Packet { number: bytes[3], payload, payload_bytes: total_bytes - HEAD_BYTES as u64 })
    }

    /// The one that these bytes begin with, and the bytes behind it.
    pub(super) fn split(bytes: &'a [u8]) -> Option<(Packet<'a>, &'a [u8])> {
        let length = u64::from(length(bytes)?);
        let end = bytes.len().min(HEAD_BYTES + length as usize);
        let packet = Packet::of(&bytes[..end], length + HEAD_BYTES as u64)?;
        Some((packet, &bytes[end..]))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.payload.len() as u64 == self.payload_bytes
    }

    pub(super) fn first(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// It ends a list of rows or of columns: an EOF packet, or an OK packet in its place.
    pub(super) fn ends_list(&self) -> bool {
        self.first() == Some(EOF) && self.payload_bytes < PAYLOAD_BYTES_MAX
    }

    /// An EOF packet proper.
    pub(super) fn is_eof(&self) -> bool {
        self.first() == Some(EOF) && self.payload_bytes <= 5
    }
}

fn length(bytes: &[u8]) -> Option<u32> {
    let head = bytes.get(..HEAD_BYTES)?;
    Some(u32::from_le_bytes([head[0], head[1], head[2], 0]))
}

/// An integer that says how long it is.
pub(super) fn varint(cursor: &mut Cursor<'_>) -> Option<u64> {
    match cursor.u8()? {
        0xfc => cursor.u16_le().map(u64::from),
        0xfd => {
            let bytes = cursor.bytes(3)?;
            Some(u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])))
        }
        0xfe => cursor.u64_le(),
        0xfb | 0xff => None,
        small => Some(u64::from(small)),
    }
}

/// Bytes with their length in front; fewer of them where they end before.
pub(super) fn string<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = varint(cursor)?;
    Some(cursor.up_to(usize::try_from(length).unwrap_or(usize::MAX)))
}

/// What an OK packet says, whichever byte it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) affected_rows: u64,
    pub(super) status: u16,
}

impl Done {
    /// Of an OK packet, or an EOF packet.
    pub(super) fn of(packet: &Packet<'_>) -> Option<Done> {
        let mut cursor = Cursor::new(packet.payload);
        cursor.skip(1)?;
        if packet.is_eof() {
            cursor.skip(2)?;
            return Some(Done { affected_rows: 0, status: cursor.u16_le()? });
        }
        let affected_rows = varint(&mut cursor)?;
        varint(&mut cursor)?;
        Some(Done { affected_rows, status: cursor.u16_le()? })
    }
}

/// How packets are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packets;

impl Framing for Packets {
    fn head(&self, _side: Side, bytes: &[u8]) -> Head {
        length(bytes)
            .map_or(Head::Short, |length| Head::Bytes(u64::from(length) + HEAD_BYTES as u64))
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let begins = match side {
            Side::Request => super::recognise::is_command_call(bytes),
            Side::Response => super::recognise::is_response_call(bytes),
        };
        begins.then_some(0)
    }

    fn find_end(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        match side {
            Side::Request => None,
            Side::Response => super::recognise::end_of_rows(bytes),
        }
    }
}
