//! Whether bytes are PostgreSQL: by what a connection opens with, or by messages one behind the other.

use super::parse::{HEAD_BYTES, Opening, head, opening};
use super::types::{request, response};
use crate::cursor::Cursor;
use crate::frames::Head;
use crate::protocol::{Beginning, Verdict};
use crate::{Recognised, Side};

/// Messages that are looked at.
const MESSAGES_MAX: usize = 64;

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let Beginning { bytes, at_start, is_datagram, .. } = *beginning;
    if is_datagram || bytes.is_empty() {
        return Verdict::IsNot;
    }
    match is_opening(bytes) {
        Recognised::Yes => return Verdict::Is(Side::Request),
        Recognised::Unsure if at_start => return Verdict::Unsure,
        Recognised::Unsure | Recognised::No => {}
    }
    let of = |side| match is_chain(side, bytes) {
        true => Recognised::Yes,
        false if at_start && may_become(side, bytes) => Recognised::Unsure,
        false => Recognised::No,
    };
    Verdict::of(of(Side::Request), of(Side::Response))
}

fn is_opening(bytes: &[u8]) -> Recognised {
    match opening(bytes) {
        Err(()) => Recognised::No,
        Ok(None) => Recognised::Unsure,
        Ok(Some((length, Opening::Startup))) => {
            let end = bytes.len().min(length as usize);
            is_startup(&bytes[8..end], end == length as usize)
        }
        Ok(Some((length, _))) if bytes.len() < length as usize => Recognised::Unsure,
        Ok(Some((length, _))) if bytes.len() == length as usize => Recognised::Yes,
        Ok(Some(_)) => Recognised::No,
    }
}

/// Names with values, and a zero: one is `user`.
fn is_startup(pairs: &[u8], is_whole: bool) -> Recognised {
    let mut cursor = Cursor::new(pairs);
    let mut has_user = false;
    while !cursor.is_empty() {
        let Some(name) = cursor.until_zero() else { break };
        if name.is_empty() {
            let is_it = has_user && is_whole && cursor.is_empty();
            return if is_it { Recognised::Yes } else { Recognised::No };
        }
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
        if !name.iter().all(is_name) {
            return Recognised::No;
        }
        has_user |= name == b"user";
        if cursor.until_zero().is_none() {
            break;
        }
    }
    match (is_whole, has_user) {
        (true, _) => Recognised::No,
        (false, true) => Recognised::Yes,
        (false, false) => Recognised::Unsure,
    }
}

/// Too short to tell, and nothing against it.
fn may_become(side: Side, bytes: &[u8]) -> bool {
    bytes.len() < HEAD_BYTES && head(side, bytes) == Head::Short && bytes.first() != Some(&b'S')
}

/// Whether these bytes are messages up to their end, or up to one that is not all there, and at least one
/// of them can hardly be anything else.
pub(super) fn is_chain(side: Side, bytes: &[u8]) -> bool {
    chain(side, bytes) == Recognised::Yes
}

/// The same; unsure where none of the messages is one of which that can be said.
pub(super) fn chain(side: Side, bytes: &[u8]) -> Recognised {
    let (mut rest, mut is_sure) = (bytes, false);
    for _ in 0..MESSAGES_MAX {
        let length = match head(side, rest) {
            _ if rest.is_empty() => break,
            Head::Bytes(length) => length,
            Head::Short => break,
            Head::Invalid => return Recognised::No,
        };
        let end = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        let is_whole = end as u64 == length;
        match content(side, rest[0], &rest[HEAD_BYTES.min(end)..end], is_whole) {
            Recognised::Yes => is_sure = true,
            Recognised::Unsure => {}
            Recognised::No => return Recognised::No,
        }
        rest = &rest[end..];
    }
    if is_sure { Recognised::Yes } else { Recognised::Unsure }
}

fn content(side: Side, tag: u8, payload: &[u8], is_whole: bool) -> Recognised {
    let of = |fits: Option<bool>| match fits {
        Some(true) => Recognised::Yes,
        Some(false) => Recognised::No,
        None if is_whole => Recognised::No,
        None => Recognised::Unsure,
    };
    match side {
        Side::Request => of_request(tag, payload, is_whole).map_or_else(|| Recognised::Unsure, of),
        Side::Response => {
            of_response(tag, payload, is_whole).map_or_else(|| Recognised::Unsure, of)
        }
    }
}

/// `None`: such a message proves nothing. `Some(None)`: it is not all there.
fn of_request(tag: u8, payload: &[u8], is_whole: bool) -> Option<Option<bool>> {
    use request as is;
    let mut cursor = Cursor::new(payload);
    Some(match tag {
        is::QUERY if is_whole => payload.split_last().map(|(end, text)| *end == 0 && is_sql(text)),
        is::QUERY => (payload.len() >= 16).then(|| is_sql(payload)),
        is::PARSE => {
            let is_parse = |cursor: &mut Cursor<'_>| {
                let (name, text) = (cursor.until_zero()?, cursor.until_zero()?);
                let count = cursor.u16_be()?;
                Some(is_name(name) && is_sql(text) && cursor.rest().len() == 4 * usize::from(count))
            };
            is_parse(&mut cursor)
        }
        is::BIND => super::parse::Bind::of(payload).and_then(|bind| {
            let fits = is_name(bind.portal) && is_name(bind.statement);
            bind.values(|_, _, _| ()).map(|_| fits)
        }),
        is::DESCRIBE | is::CLOSE if is_whole => {
            let (kind, name) = payload.split_first()?;
            let is_it = b"SP".contains(kind)
                && name.split_last().is_some_and(|(end, name)| *end == 0 && is_name(name));
            return if is_it { None } else { Some(Some(false)) };
        }
        is::EXECUTE if is_whole => {
            let is_it = cursor.until_zero().is_some_and(is_name) && cursor.rest().len() == 4;
            return if is_it { None } else { Some(Some(false)) };
        }
        _ => return None,
    })
}

fn of_response(tag: u8, payload: &[u8], is_whole: bool) -> Option<Option<bool>> {
    use response as is;
    let mut cursor = Cursor::new(payload);
    Some(match tag {
        is::READY => Some(is_whole),
        is::COLUMNS => (|| {
            let count = cursor.u16_be()?;
            for _ in 0..count {
                let name = cursor.until_zero()?;
                let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, 0, 0 | 1] =
                    *cursor.bytes(18)?
                else {
                    return Some(false);
                };
                if name.len() > 256 {
                    return Some(false);
                }
            }
            Some(count > 0 && cursor.is_empty())
        })(),
        is::ERROR | is::NOTICE => {
            let is_field = payload.first().is_some_and(|field| b"SVCM".contains(field));
            Some(is_field && memchr::memmem::find(payload, b"\0C").is_some())
        }
        is::COMPLETE if is_whole => {
            let text = payload.strip_suffix(b"\0").unwrap_or_default();
            let is_tag =
                |byte: &u8| byte.is_ascii_uppercase() || *byte == b' ' || byte.is_ascii_digit();
            let fits = text.first().is_some_and(u8::is_ascii_uppercase) && text.iter().all(is_tag);
            return if fits { None } else { Some(Some(false)) };
        }
        is::ROW => {
            let mut whole = || {
                let count = cursor.u16_be()?;
                for _ in 0..count {
                    if let Ok(length) = usize::try_from(cursor.i32_be()?) {
                        cursor.skip(length)?;
                    }
                }
                Some(cursor.is_empty())
            };
            return match whole() {
                Some(false) => Some(Some(false)),
                None if is_whole => Some(Some(false)),
                Some(true) | None => None,
            };
        }
        _ => return None,
    })
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= 256 && name.iter().all(|byte| !byte.is_ascii_control())
}

/// Text that begins as statements do; empty ones are sent to see whether the server is there.
fn is_sql(text: &[u8]) -> bool {
    let begin = text.trim_ascii_start();
    let begins =
        begin.first().is_none_or(|first| first.is_ascii_alphabetic() || b"(/-;".contains(first));
    let is_text = |byte: &u8| *byte >= b' ' || byte.is_ascii_whitespace();
    begins && text.iter().take(512).all(is_text) && memchr::memchr(0, text).is_none()
}
