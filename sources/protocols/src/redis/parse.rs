//! Tokens of RESP, and whether bytes are Redis at all.

use super::types::{DEPTH_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, is_command};
use crate::Side;
use crate::protocol::{Beginning, Verdict};

/// Most elements that an array or map is taken to have; servers refuse a million in a command.
const ELEMENTS_MAX: u64 = 1 << 31;
/// Largest string: servers refuse half a GiB unless told otherwise.
const STRING_BYTES_MAX: u64 = 1 << 40;

/// Where lines that are commands are Redis'.
const PORT: u16 = 6379;

/// Longer numbers do not fit into what counts them.
const COUNT_DIGITS_MAX: usize = 19;

/// One token: a line, without what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `*`, `~`, `%`, `>`, `|` of so many elements (of maps, keys and values).
    Open { kind: u8, elements: u64 },
    /// `$`, `!`, `=`, whose bytes follow, and a line end.
    String { kind: u8, bytes: u64 },
    /// A null of any kind.
    Null,
    /// `+`, `-`, `:`, `,`, `#`, `(` with its text.
    Scalar { kind: u8, text: &'a [u8] },
}

/// A token and how many bytes it takes, or none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read<T> {
    Short,
    Invalid,
    Is(T, usize),
}

/// The line that begins here, without its end, and how long it is with it.
pub(super) fn line(bytes: &[u8]) -> Read<&[u8]> {
    match memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES_MAX)]) {
        Some(end) if end > 0 && bytes[end - 1] == b'\r' => Read::Is(&bytes[..end - 1], end + 1),
        Some(_) => Read::Invalid,
        None if bytes.len() >= LINE_BYTES_MAX => Read::Invalid,
        None => Read::Short,
    }
}

pub(super) fn token(bytes: &[u8]) -> Read<Token<'_>> {
    let Some(&kind) = bytes.first() else { return Read::Short };
    if !b"*~%>|$!=_+-:,#(".contains(&kind) {
        return Read::Invalid;
    }
    let (text, used) = match line(bytes) {
        Read::Is(text, used) => (&text[1..], used),
        Read::Short if !b"_+-:,#(".contains(&kind) && !may_be_count(&bytes[1..]) => {
            return Read::Invalid;
        }
        Read::Short => return Read::Short,
        Read::Invalid => return Read::Invalid,
    };
    let found = match kind {
        b'*' | b'$' if text == b"-1" => Some(Token::Null),
        b'*' | b'~' | b'%' | b'>' | b'|' => elements(kind, text),
        b'$' | b'!' | b'=' => number(text)
            .filter(|bytes| *bytes <= STRING_BYTES_MAX)
            .map(|bytes| Token::String { kind, bytes }),
        b'_' => text.is_empty().then_some(Token::Null),
        b':' => is_int(text).then_some(Token::Scalar { kind, text }),
        b'#' => matches!(text, b"t" | b"f").then_some(Token::Scalar { kind, text }),
        b'(' => is_int(text).then_some(Token::Scalar { kind, text }),
        b',' => is_double(text).then_some(Token::Scalar { kind, text }),
        _ => Some(Token::Scalar { kind, text }),
    };
    found.map_or(Read::Invalid, |token| Read::Is(token, used))
}

/// Whether a line that has not ended may be a count.
fn may_be_count(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    text.len() < COUNT_DIGITS_MAX && text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
}

fn elements(kind: u8, text: &[u8]) -> Option<Token<'static>> {
    let count = number(text).filter(|count| *count <= ELEMENTS_MAX)?;
    let elements = if matches!(kind, b'%' | b'|') { 2 * count } else { count };
    Some(Token::Open { kind, elements })
}

pub(super) fn number(text: &[u8]) -> Option<u64> {
    let is_number =
        !text.is_empty() && text.len() < COUNT_DIGITS_MAX && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |n, digit| 10 * n + u64::from(digit - b'0')))
}

fn is_int(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn is_double(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| b"0123456789+-.eEinfa".contains(byte))
}

/// What is at the beginning of a message: its first token, and its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening<'a> {
    pub(super) kind: u8,
    pub(super) elements: u64,
    pub(super) word: &'a [u8],
}

/// The first word of an array or push.
pub(super) fn opening(bytes: &[u8]) -> Read<Opening<'_>> {
    let (kind, elements, used) = match token(bytes) {
        Read::Is(Token::Open { kind, elements }, used) if elements > 0 => (kind, elements, used),
        Read::Short => return Read::Short,
        Read::Is(..) | Read::Invalid => return Read::Invalid,
    };
    let (length, to) = match token(&bytes[used..]) {
        Read::Is(Token::String { kind: b'$', bytes }, length) => (bytes, used + length),
        Read::Is(Token::Scalar { kind: b'+', text: word }, length) => {
            return Read::Is(Opening { kind, elements, word }, used + length);
        }
        Read::Short => return Read::Short,
        Read::Is(..) | Read::Invalid => return Read::Invalid,
    };
    if length > NAME_BYTES_MAX as u64 {
        return Read::Invalid;
    }
    let end = to + length as usize;
    match bytes.get(to..end + 2) {
        Some(text) if text.ends_with(b"\r\n") => {
            Read::Is(Opening { kind, elements, word: &bytes[to..end] }, end + 2)
        }
        Some(_) => Read::Invalid,
        None => Read::Short,
    }
}

/// The reply that begins here.
pub(super) fn one_reply(bytes: &[u8]) -> Read<()> {
    let mut open: Vec<u64> = Vec::new();
    let mut at = 0;
    loop {
        let (token, used) = match token(&bytes[at..]) {
            Read::Is(token, used) => (token, used),
            Read::Short => return Read::Short,
            Read::Invalid => return Read::Invalid,
        };
        at += used;
        match token {
            Token::Open { elements, .. } if elements > 0 => {
                if open.len() == DEPTH_MAX {
                    return Read::Invalid;
                }
                open.push(elements);
                continue;
            }
            Token::String { bytes: length, .. } => {
                let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
                let Some(end) = end.filter(|end| *end < bytes.len()) else { return Read::Short };
                match &bytes[end..bytes.len().min(end + 2)] {
                    b"\r\n" => at = end + 2,
                    b"\r" => return Read::Short,
                    _ => return Read::Invalid,
                }
            }
            _ => {}
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return Read::Is((), at);
        }
    }
}

/// Whether bytes are replies one behind the other, and how many bytes the whole ones take.
fn whole_replies(bytes: &[u8]) -> Read<()> {
    let mut at = 0;
    while at < bytes.len() {
        match one_reply(&bytes[at..]) {
            Read::Is((), used) => at += used,
            Read::Short => return Read::Short,
            Read::Invalid => return Read::Invalid,
        }
    }
    Read::Is((), at)
}

/// Replies to inline commands, of which several may have been in one call: to `PING`, or a status and behind it a reply
/// with a length. Other servers say `+OK`, too.
fn answers_lines(bytes: &[u8]) -> bool {
    let Read::Is(Token::Scalar { kind: b'+', text }, used) = token(bytes) else { return false };
    let rest = &bytes[used..];
    let are_replies = matches!(whole_replies(rest), Read::Is(..));
    let has_length = || {
        let mut at = 0;
        while let Read::Is((), used) = one_reply(&rest[at..]) {
            if rest[at] == b'$' {
                return true;
            }
            at += used;
        }
        false
    };
    match text {
        b"PONG" | b"QUEUED" => are_replies,
        b"OK" => are_replies && has_length(),
        _ => false,
    }
}

/// What a reply that can hardly be anything else begins with.
pub(super) fn is_reply(bytes: &[u8]) -> bool {
    match token(bytes) {
        Read::Is(Token::Scalar { kind: b'+', text }, _) => {
            matches!(text, b"OK" | b"PONG" | b"QUEUED" | b"RESET")
        }
        Read::Is(Token::Scalar { kind: b'-', text }, _) => is_error(text),
        Read::Is(Token::String { kind: b'$', bytes: length }, used) => {
            let end = usize::try_from(length).ok().and_then(|length| used.checked_add(length));
            end.is_some_and(|end| bytes.get(end..end + 2).is_none_or(|text| text == b"\r\n"))
        }
        Read::Is(Token::Open { .. }, _) => true,
        Read::Is(Token::Scalar { kind: b':', .. } | Token::Null, used) => used == bytes.len(),
        Read::Is(..) | Read::Short | Read::Invalid => false,
    }
}

/// Errors begin with a word in capitals.
fn is_error(text: &[u8]) -> bool {
    let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    word.len() >= 3 && word.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
}

/// A command as clients send it, whole up to its name.
pub(super) fn is_request(bytes: &[u8]) -> bool {
    matches!(opening(bytes), Read::Is(Opening { kind: b'*', word, .. }, _) if is_command(word))
}

fn is_word(word: &[u8]) -> bool {
    let mut bytes = word.iter();
    bytes.next().is_some_and(u8::is_ascii_alphabetic)
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-|".contains(byte))
}

/// Whether bytes are whole lines of which each is a command. Other protocols' are, too: some share a word, as
/// memcached's `get`.
fn are_lines_of_commands(bytes: &[u8]) -> bool {
    let Some(lines) = bytes.strip_suffix(b"\n") else { return false };
    lines.split(|byte| *byte == b'\n').all(|line| {
        let mut words = line.split(u8::is_ascii_whitespace);
        line.len() < LINE_BYTES_MAX && words.next().is_some_and(is_command)
    })
}

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let Beginning { bytes, at_start, opened, is_datagram, ports } = *beginning;
    if is_datagram {
        return Verdict::IsNot;
    }
    let first = bytes.first().copied().unwrap_or_default();
    match opening(bytes) {
        Read::Is(Opening { kind: b'*', word, .. }, _) if is_command(word) => {
            return Verdict::Is(Side::Request);
        }
        // At a connection's beginning nobody else has asked yet.
        Read::Is(Opening { kind: b'*', word, .. }, _) if opened && at_start && is_word(word) => {
            return Verdict::Is(Side::Request);
        }
        Read::Short if at_start && first == b'*' => return Verdict::Unsure,
        Read::Is(..) | Read::Short | Read::Invalid => {}
    }
    if opened && at_start && answers_lines(bytes) {
        return Verdict::Is(Side::Response);
    }
    if opened && at_start && ports.contains(&PORT) && are_lines_of_commands(bytes) {
        return Verdict::Is(Side::Request);
    }
    if !b"*$%~>".contains(&first) {
        return Verdict::IsNot;
    }
    match whole_replies(bytes) {
        Read::Is(..) => Verdict::Is(Side::Response),
        Read::Short if at_start => Verdict::Unsure,
        Read::Short | Read::Invalid => Verdict::IsNot,
    }
}
