//! Heads of messages, and their parts.

use super::session::COLUMNS_MAX;
use super::types::{request, response};
use super::values::Seen;
use crate::cursor::Cursor;
use crate::frames::{Framing, Head};
use crate::{Recognised, Side};

/// Before a message: its tag and its length, which counts itself.
pub(super) const HEAD_BYTES: usize = 5;
/// Servers refuse longer messages.
const MESSAGE_BYTES_MAX: u32 = 0x3fff_ffff;
/// Servers refuse longer opening messages.
const STARTUP_BYTES_MAX: u32 = 10_000;
/// ReadyForQuery, up to the status of the transaction.
const READY_HEAD: &[u8] = b"Z\0\0\0\x05";

/// What a connection can begin with, instead of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Protocol 3.
    Startup,
    Cancel,
    /// It asks for TLS or GSSAPI, which is answered by a single byte.
    Encryption,
}

impl Opening {
    pub(super) fn of(code: u32) -> Option<Opening> {
        match code {
            80_877_102 => Some(Opening::Cancel),
            80_877_103 | 80_877_104 => Some(Opening::Encryption),
            code if code >> 16 == 3 => Some(Opening::Startup),
            _ => None,
        }
    }
}

/// What a connection begins with: its length and what it is.
pub(super) fn opening(bytes: &[u8]) -> Result<Option<(u32, Opening)>, ()> {
    let mut cursor = Cursor::new(bytes);
    let (Some(length), Some(code)) = (cursor.u32_be(), cursor.u32_be()) else {
        let is_short = bytes.iter().take(2).all(|byte| *byte == 0);
        return if is_short { Ok(None) } else { Err(()) };
    };
    let opening = Opening::of(code).ok_or(())?;
    let fits = match opening {
        Opening::Startup => (9..=STARTUP_BYTES_MAX).contains(&length),
        // Keys have four bytes, or up to 256 from protocol 3.2 on.
        Opening::Cancel => (13..=268).contains(&length),
        Opening::Encryption => length == 8,
    };
    if fits { Ok(Some((length, opening))) } else { Err(()) }
}

/// The length in a head, if it can be one.
fn length(bytes: &[u8], range: std::ops::RangeInclusive<u32>) -> Option<u64> {
    let length = Cursor::new(bytes.get(1..)?).u32_be()?;
    range.contains(&length).then(|| u64::from(length) + 1)
}

/// How long the client's message is.
fn request_bytes(bytes: &[u8]) -> Option<u64> {
    use request as is;
    match *bytes.first()? {
        is::SYNC | is::FLUSH | is::TERMINATE | is::COPY_DONE => length(bytes, 4..=4),
        is::QUERY | is::COPY_FAIL | is::PASSWORD => length(bytes, 5..=MESSAGE_BYTES_MAX),
        is::DESCRIBE | is::CLOSE => length(bytes, 6..=MESSAGE_BYTES_MAX),
        is::PARSE => length(bytes, 8..=MESSAGE_BYTES_MAX),
        is::EXECUTE => length(bytes, 9..=MESSAGE_BYTES_MAX),
        is::BIND => length(bytes, 12..=MESSAGE_BYTES_MAX),
        is::FUNCTION_CALL => length(bytes, 14..=MESSAGE_BYTES_MAX),
        is::COPY_DATA => length(bytes, 4..=MESSAGE_BYTES_MAX),
        _ => None,
    }
}

/// How long the server's message is.
fn response_bytes(bytes: &[u8]) -> Option<u64> {
    use response as is;
    match *bytes.first()? {
        is::PARSE_COMPLETE | is::BIND_COMPLETE | is::CLOSE_COMPLETE | is::NO_DATA => {
            length(bytes, 4..=4)
        }
        is::SUSPENDED | is::EMPTY_QUERY | is::COPY_DONE => length(bytes, 4..=4),
        is::READY => {
            let is_status = bytes.get(HEAD_BYTES).is_none_or(|status| b"ITE".contains(status));
            length(bytes, 5..=5).filter(|_| is_status)
        }
        is::AUTHENTICATION => length(bytes, 8..=1 << 16),
        is::BACKEND_KEY_DATA => length(bytes, 9..=300),
        is::PARAMETERS | is::COLUMNS | is::ROW => length(bytes, 6..=MESSAGE_BYTES_MAX),
        is::COMPLETE | is::ERROR | is::NOTICE => length(bytes, 5..=MESSAGE_BYTES_MAX),
        is::PARAMETER_STATUS => length(bytes, 6..=MESSAGE_BYTES_MAX),
        is::NOTIFICATION => length(bytes, 10..=MESSAGE_BYTES_MAX),
        is::COPY_IN | is::COPY_OUT | is::COPY_BOTH => length(bytes, 7..=MESSAGE_BYTES_MAX),
        is::COPY_DATA => length(bytes, 4..=MESSAGE_BYTES_MAX),
        is::FUNCTION_RESULT => length(bytes, 8..=MESSAGE_BYTES_MAX),
        is::NEGOTIATE_VERSION => length(bytes, 12..=1 << 16),
        _ => None,
    }
}

/// The head of a message, which is not the first one of a connection.
pub(super) fn head(side: Side, bytes: &[u8]) -> Head {
    let found = match side {
        Side::Request => request_bytes(bytes),
        Side::Response => response_bytes(bytes),
    };
    match found {
        Some(bytes) => Head::Bytes(bytes),
        None if bytes.len() >= HEAD_BYTES => Head::Invalid,
        // The tag alone tells much.
        None => {
            let padded = |length: u8| {
                let mut whole = [0, 0, 0, 0, length];
                whole[..bytes.len().min(HEAD_BYTES)].copy_from_slice(bytes);
                whole
            };
            let may_be = |length: u8| match side {
                Side::Request => request_bytes(&padded(length)).is_some(),
                Side::Response => response_bytes(&padded(length)).is_some(),
            };
            match bytes.is_empty() || [4, 5, 30, 255].into_iter().any(may_be) {
                true => Head::Short,
                false => Head::Invalid,
            }
        }
    }
}

/// How messages are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages {
    /// The client's next message has no tag.
    pub(super) opens: bool,
}

impl Framing for Messages {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        if side == Side::Request && self.opens {
            return match opening(bytes) {
                Ok(Some((length, _))) => Head::Bytes(u64::from(length)),
                Ok(None) => Head::Short,
                Err(()) => Head::Invalid,
            };
        }
        head(side, bytes)
    }

    fn may_find(&self, side: Side, bytes: &[u8]) -> bool {
        super::recognise::chain(side, bytes) == Recognised::Unsure
    }

    fn find_end(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let at = bytes.len().checked_sub(READY_HEAD.len() + 1)?;
        let is_ready = bytes[at..].starts_with(READY_HEAD) && b"ITE".contains(bytes.last()?);
        (side == Side::Response && is_ready).then_some(at)
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        if super::recognise::is_chain(side, bytes) {
            return Some(0);
        }
        // The end of a cycle, behind the rest of a message: data would have to imitate it.
        let ends = (side == Side::Response).then(|| memchr::memmem::find_iter(bytes, READY_HEAD));
        ends?.find(|at| {
            let rest = &bytes[at + READY_HEAD.len()..];
            let is_status = rest.first().is_some_and(|status| b"ITE".contains(status));
            is_status && head(Side::Response, &rest[1..]) != Head::Invalid
        })
    }
}

/// The parts of a Bind.
#[derive(Debug)]
pub(super) struct Bind<'a> {
    pub(super) portal: &'a [u8],
    pub(super) statement: &'a [u8],
    formats: &'a [u8],
    count: u16,
    values: Cursor<'a>,
}

impl<'a> Bind<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Option<Bind<'a>> {
        let mut cursor = Cursor::new(payload);
        let (portal, statement) = (cursor.until_zero()?, cursor.until_zero()?);
        let formats = cursor.u16_be()?;
        let formats = cursor.bytes(2 * usize::from(formats))?;
        let count = cursor.u16_be()?;
        Some(Bind { portal, statement, formats, count, values: cursor })
    }

    /// Each value, `None` for null, and whether it is binary. Then the formats of results, of no more
    /// columns than there can be, if all is there.
    pub(super) fn values(
        mut self,
        mut each: impl FnMut(usize, bool, Option<Seen<'a>>),
    ) -> Option<Vec<u16>> {
        for idx in 0..usize::from(self.count) {
            let is_binary = format_of(self.formats, idx) == 1;
            let length = self.values.i32_be()?;
            let value = match usize::try_from(length) {
                Ok(length) if length > self.values.rest().len() => {
                    let seen = Seen { bytes: self.values.rest(), is_whole: false };
                    each(idx, is_binary, Some(seen));
                    return None;
                }
                Ok(length) => Some(Seen { bytes: self.values.bytes(length)?, is_whole: true }),
                Err(_) => None,
            };
            each(idx, is_binary, value);
        }
        let count = usize::from(self.values.u16_be()?).min(COLUMNS_MAX);
        (0..count).map(|_| self.values.u16_be()).collect()
    }
}

/// Of one format for all, one each, or none.
fn format_of(formats: &[u8], idx: usize) -> u16 {
    let at = if formats.len() == 2 { 0 } else { 2 * idx };
    formats.get(at..at + 2).map_or(0, |format| u16::from_be_bytes([format[0], format[1]]))
}
