//! What a connection begins with: the server's greeting, and the client's answer.

use super::parse::{Packet, string};
use crate::cursor::Cursor;

/// What both have agreed to, as far as it changes how packets are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    bits: u32,
    /// MariaDB's, which stand where others have zeros.
    more: u32,
    /// They are from a login, not a guess.
    pub(super) is_known: bool,
}

const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const COMPRESS: u32 = 1 << 5;
const PROTOCOL_41: u32 = 1 << 9;
const TLS: u32 = 1 << 11;
const SECURE_CONNECTION: u32 = 1 << 15;
const AUTH_WITH_LENGTH: u32 = 1 << 21;
const DEPRECATE_EOF: u32 = 1 << 24;
const OPTIONAL_METADATA: u32 = 1 << 25;
const ZSTD: u32 = 1 << 26;
const QUERY_ATTRIBUTES: u32 = 1 << 27;
const CACHE_METADATA: u32 = 1 << 4;

impl Abilities {
    pub(super) fn query_attributes(self) -> bool {
        self.bits & QUERY_ATTRIBUTES != 0
    }

    /// Lists are ended by EOF packets, as far as that is known.
    pub(super) fn has_eof(self) -> bool {
        self.is_known && self.bits & DEPRECATE_EOF == 0
    }

    /// A count of columns is followed by a byte that says whether they are described.
    pub(super) fn may_omit_columns(self) -> bool {
        self.more & CACHE_METADATA != 0
    }

    /// The same byte stands in front of the count.
    pub(super) fn may_omit_columns_before(self) -> bool {
        self.bits & OPTIONAL_METADATA != 0
    }

    /// Both sides pack their bytes from the login on, and how.
    pub(super) fn packing(self) -> Option<super::packed::Packing> {
        match (self.bits & ZSTD != 0, self.bits & COMPRESS != 0) {
            // Servers take the first of both.
            (_, true) => Some(super::packed::Packing::Zlib),
            (true, false) => Some(super::packed::Packing::Zstd),
            (false, false) => None,
        }
    }
}

/// What the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello<'a> {
    /// It goes on encrypted.
    Tls,
    Login {
        user: &'a [u8],
        db: &'a [u8],
        abilities: Abilities,
    },
}

impl<'a> Hello<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Option<Hello<'a>> {
        let mut cursor = Cursor::new(payload);
        let low = cursor.u16_le()?;
        if u32::from(low) & PROTOCOL_41 == 0 {
            return Hello::old(low, &mut cursor);
        }
        let bits = u32::from(low) | u32::from(cursor.u16_le()?) << 16;
        cursor.skip(5)?;
        let (zeros, more) = (cursor.bytes(19)?, cursor.u32_le()?);
        if zeros.iter().any(|byte| *byte != 0) {
            return None;
        }
        let more = if bits & LONG_PASSWORD == 0 { more } else { 0 };
        if bits & TLS != 0 && cursor.is_empty() {
            return Some(Hello::Tls);
        }
        let user = cursor.until_zero()?;
        match () {
            () if bits & AUTH_WITH_LENGTH != 0 => string(&mut cursor).map(|_| ()),
            () if bits & SECURE_CONNECTION != 0 => {
                let length = cursor.u8();
                length.and_then(|length| cursor.skip(usize::from(length)))
            }
            () => cursor.until_zero().map(|_| ()),
        };
        let db = if bits & CONNECT_WITH_DB != 0 { cursor.until_zero() } else { None };
        let abilities = Abilities { bits, more, is_known: true };
        Some(Hello::Login { user, db: db.unwrap_or_default(), abilities })
    }

    /// As clients before version 4.1 do.
    fn old(low: u16, cursor: &mut Cursor<'a>) -> Option<Hello<'a>> {
        cursor.skip(3)?;
        let user = cursor.until_zero()?;
        let has_db = u32::from(low) & CONNECT_WITH_DB != 0;
        let db = if has_db { cursor.until_zero().and_then(|_| cursor.until_zero()) } else { None };
        let abilities = Abilities { bits: u32::from(low), more: 0, is_known: true };
        Some(Hello::Login { user, db: db.unwrap_or_default(), abilities })
    }
}

/// Whether it is the first packet of a server.
pub(super) fn is_greeting(packet: &Packet<'_>) -> bool {
    let mut cursor = Cursor::new(packet.payload);
    let is_version = |text: &[u8]| {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        !text.is_empty() && text[0].is_ascii_digit() && text.iter().all(is_plain)
    };
    packet.number == 0
        && (20..512).contains(&packet.payload_bytes)
        && cursor.u8() == Some(10)
        && cursor.until_zero().is_some_and(is_version)
}

/// Who logs in, and where: COM_CHANGE_USER.
pub(super) fn change_user(payload: &[u8]) -> (&[u8], &[u8]) {
    let mut cursor = Cursor::new(payload);
    let user = cursor.until_zero().unwrap_or_default();
    let length = cursor.u8().unwrap_or_default();
    let db = cursor.skip(usize::from(length)).and_then(|()| cursor.until_zero());
    (user, db.unwrap_or_default())
}
