//! An operation's line, and how long what belongs to it is. Nothing is copied.

use super::types::{Kind, LINE_BYTES_MAX, Line, PAYLOAD_BYTES_MAX};
use crate::frames::{Framing, Head};
use crate::{Parsed, Side};

/// Most words behind an operation's name.
const WORDS_MAX: usize = 5;
/// Line ends of a call that are looked behind for an operation.
const CANDIDATES_MAX: usize = 1_024;
/// Behind a payload.
const END: &[u8] = b"\r\n";

/// The line at the beginning of `bytes`.
pub(super) fn line(bytes: &[u8]) -> Parsed<Line<'_>> {
    let Some((kind, name_bytes)) = kind_of(bytes) else {
        let begins = |kind: &Kind| {
            let name = kind.name().as_bytes();
            bytes.len() <= name.len() && name[..bytes.len()].eq_ignore_ascii_case(bytes)
        };
        return match Kind::ALL.iter().any(begins) {
            true => Parsed::Incomplete { needed_bytes: 1 },
            false => Parsed::Invalid,
        };
    };
    let searched = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', searched) else {
        return match bytes.len() < LINE_BYTES_MAX {
            true => Parsed::Incomplete { needed_bytes: 1 },
            false => Parsed::Invalid,
        };
    };
    let rest = bytes[name_bytes..end].trim_ascii();
    match of_words(kind, rest, end + 1) {
        Some(line) => Parsed::Frame { frame: line, bytes: end + 1 },
        None => Parsed::Invalid,
    }
}

/// The line of an operation whose line is there.
pub(super) fn whole_line(bytes: &[u8]) -> Option<Line<'_>> {
    match line(bytes) {
        Parsed::Frame { frame, .. } => Some(frame),
        Parsed::Incomplete { .. } | Parsed::Invalid => None,
    }
}

/// The operation that is named here, and how long its name is: a blank or the line's end follows.
fn kind_of(bytes: &[u8]) -> Option<(Kind, usize)> {
    let fits = |kind: &Kind| {
        let name = kind.name().as_bytes();
        let begin = bytes.get(..name.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(name))
            && matches!(bytes.get(name.len()), Some(b' ' | b'\t' | b'\r' | b'\n'))
    };
    let kind = Kind::ALL.into_iter().find(fits)?;
    Some((kind, kind.name().len()))
}

fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 9 {
        return None;
    }
    word.iter().try_fold(0u64, |sum, byte| {
        byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0'))
    })
}

fn of_words(kind: Kind, rest: &[u8], line_bytes: usize) -> Option<Line<'_>> {
    let mut line = Line {
        kind,
        rest,
        subject: None,
        reply_to: None,
        sid: None,
        queue_group: None,
        messages_max: None,
        line_bytes,
        header_bytes: 0,
        payload_bytes: 0,
    };
    match kind {
        Kind::Info | Kind::Connect => return rest.starts_with(b"{").then_some(line),
        Kind::Err => return Some(line),
        Kind::Ping | Kind::Pong | Kind::Ok => return rest.is_empty().then_some(line),
        _ => {}
    }
    let mut storage: [&[u8]; WORDS_MAX] = [b""; WORDS_MAX];
    let mut count = 0;
    let words = rest.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    for word in words {
        *storage.get_mut(count)? = word;
        count += 1;
    }
    let mut words = &storage[..count];
    if kind.has_payload() {
        let (last, before) = words.split_last()?;
        line.payload_bytes = number(last)?;
        words = before;
        if kind.has_headers() {
            let (last, before) = words.split_last()?;
            line.header_bytes = number(last)?;
            words = before;
        }
    }
    match (kind, words) {
        (Kind::Pub | Kind::Hpub, &[subject]) => line.subject = Some(subject),
        (Kind::Pub | Kind::Hpub, &[subject, reply_to]) => {
            (line.subject, line.reply_to) = (Some(subject), Some(reply_to));
        }
        (Kind::Msg | Kind::Hmsg, &[subject, sid]) => {
            (line.subject, line.sid) = (Some(subject), Some(sid));
        }
        (Kind::Msg | Kind::Hmsg, &[subject, sid, reply_to]) => {
            (line.subject, line.sid, line.reply_to) = (Some(subject), Some(sid), Some(reply_to));
        }
        (Kind::Sub, &[subject, sid]) => (line.subject, line.sid) = (Some(subject), Some(sid)),
        (Kind::Sub, &[subject, group, sid]) => {
            (line.subject, line.queue_group, line.sid) = (Some(subject), Some(group), Some(sid));
        }
        (Kind::Unsub, &[sid]) => line.sid = Some(sid),
        (Kind::Unsub, &[sid, messages_max]) => {
            number(messages_max)?;
            (line.sid, line.messages_max) = (Some(sid), Some(messages_max));
        }
        _ => return None,
    }
    let fits = line.payload_bytes <= PAYLOAD_BYTES_MAX && line.header_bytes <= line.payload_bytes;
    fits.then_some(line)
}

/// Operations as [`crate::frames`] tells them apart.
#[derive(Debug)]
pub(super) struct Operations;

impl Framing for Operations {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        match line(bytes) {
            Parsed::Incomplete { .. } => Head::Short,
            Parsed::Frame { frame: line, .. } if is_said_by(line.kind, side) => {
                let end = if line.kind.has_payload() { END.len() as u64 } else { 0 };
                Head::Bytes(line.line_bytes as u64 + line.payload_bytes + end)
            }
            Parsed::Frame { .. } | Parsed::Invalid => Head::Invalid,
        }
    }

    /// Where the call begins, or behind a line's end: if two operations follow each other there, or
    /// one and the end of the bytes.
    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        if is_certain(side, bytes) {
            return Some(0);
        }
        let behind = memchr::memmem::find_iter(bytes, END).map(|at| at + END.len());
        behind.take(CANDIDATES_MAX).find(|&at| is_certain(side, &bytes[at..]))
    }
}

fn is_said_by(kind: Kind, side: Side) -> bool {
    kind.side().is_none_or(|said_by| said_by == side)
}

/// An operation of this side that is all there, or whose payload goes beyond these bytes; in front of
/// another one.
fn is_certain(side: Side, bytes: &[u8]) -> bool {
    let Parsed::Frame { frame: first, .. } = line(bytes) else { return false };
    if !is_said_by(first.kind, side) {
        return false;
    }
    let end = if first.kind.has_payload() { END.len() } else { 0 };
    let total = first.line_bytes + first.payload_bytes as usize + end;
    let Some(behind) = bytes.get(total..) else { return true };
    bytes[..total].ends_with(b"\n")
        && (behind.is_empty() || !matches!(line(behind), Parsed::Invalid))
}
