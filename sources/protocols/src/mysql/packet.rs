//! Packets: their heads, commands' numbers, and the parts that results are made of.

use crate::Side;
use crate::cursor::Cursor;
use crate::frames::{Framing, Head};

/// Three bytes of length and one of number.
pub(super) const HEAD_BYTES: usize = 4;
/// The payload of a packet of this size goes on in the next one.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 0xff_ffff;

/// Commands, by the first byte of their packet.
pub(super) mod command {
    pub(crate) const QUIT: u8 = 0x01;
    pub(crate) const INIT_DB: u8 = 0x02;
    pub(crate) const QUERY: u8 = 0x03;
    pub(crate) const FIELD_LIST: u8 = 0x04;
    pub(crate) const CREATE_DB: u8 = 0x05;
    pub(crate) const DROP_DB: u8 = 0x06;
    pub(crate) const STATISTICS: u8 = 0x09;
    pub(crate) const PROCESS_INFO: u8 = 0x0a;
    /// Not sent as a command: stands for a login.
    pub(crate) const CONNECT: u8 = 0x0b;
    pub(crate) const PING: u8 = 0x0e;
    pub(crate) const CHANGE_USER: u8 = 0x11;
    pub(crate) const BINLOG_DUMP: u8 = 0x12;
    pub(crate) const TABLE_DUMP: u8 = 0x13;
    pub(crate) const STMT_PREPARE: u8 = 0x16;
    pub(crate) const STMT_EXECUTE: u8 = 0x17;
    pub(crate) const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub(crate) const STMT_CLOSE: u8 = 0x19;
    pub(crate) const STMT_RESET: u8 = 0x1a;
    pub(crate) const STMT_FETCH: u8 = 0x1c;
    pub(crate) const BINLOG_DUMP_GTID: u8 = 0x1e;
    pub(crate) const RESET_CONNECTION: u8 = 0x1f;
    /// MariaDB's.
    pub(crate) const STMT_BULK_EXECUTE: u8 = 0xfa;
}

/// Whether it is a command that a client sends.
pub(super) fn is_command(byte: u8) -> bool {
    matches!(byte, 0x01..=0x0a | 0x0c..=0x0e | 0x11..=0x1f | command::STMT_BULK_EXECUTE)
}

/// Whether a command is never answered.
pub(super) fn is_one_way(byte: u8) -> bool {
    matches!(byte, command::QUIT | command::STMT_CLOSE | command::STMT_SEND_LONG_DATA)
}

/// First bytes of a response's packets.
pub(super) const OK: u8 = 0x00;
pub(super) const ERR: u8 = 0xff;
pub(super) const EOF: u8 = 0xfe;
pub(super) const LOCAL_INFILE: u8 = 0xfb;

/// Bits of the server's status.
pub(super) const MORE_RESULTS: u16 = 0x08;
pub(super) const CURSOR_EXISTS: u16 = 0x40;

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
}
