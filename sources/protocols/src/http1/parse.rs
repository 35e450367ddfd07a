//! Slice in, borrowed parts out: start lines, header lines, how a body is framed.
//!
//! Nothing here refuses what a server may answer: bytes above 127 and blanks in targets, any method,
//! any header name, line ends without `\r`. What does not fit is empty, or framing that cannot be
//! told ([`Framing::Unknown`]); whether it was acceptable is the server's to say, and its status
//! tells. Each function is linear in what it is given.

use super::types::Method;
use crate::{Recognised, Side};

/// Longest start line that is waited for to recognise the protocol; a longer one is taken for one
/// if its beginning fits.
const START_LINE_BYTES_MAX: usize = 16 * 1024;
/// Longest method that is taken for one.
const METHOD_BYTES_MAX: usize = 64;
/// A stream is recognised, or found again after a loss, by these methods only: the tail of a method
/// whose first bytes were lost (`OST`) must not be taken for one. In a stream that is being read
/// any token is a method.
const METHODS: [&str; 33] = [
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SUBSCRIBE",
    "UNBIND",
    "UNLOCK",
    "UNSUBSCRIBE",
];
/// How a response begins; `#` is a digit.
const STATUS_LINE: &[u8; 12] = b"HTTP/1.# ###";

/// A request's start line, as far as it is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLine<'b> {
    /// Empty if the line does not begin with a token and a blank.
    pub method: &'b [u8],
    /// What is between the method and the version, blanks included.
    pub target: &'b [u8],
    pub minor_version: u8,
}

impl<'b> RequestLine<'b> {
    /// Reads a line without its end.
    #[must_use]
    pub fn of(line: &'b [u8]) -> RequestLine<'b> {
        let line = line.trim_ascii_end();
        let method_bytes = memchr::memchr(b' ', line).unwrap_or(0);
        let method = &line[..method_bytes];
        if !is_method(method) {
            return RequestLine::default();
        }
        let rest = line[method_bytes..].trim_ascii_start();
        let version = memchr::memrchr(b' ', rest).map_or(0, |blank| blank + 1);
        let (target, minor_version) = match rest[version..].strip_prefix(b"HTTP/") {
            Some(number) => (rest[..version].trim_ascii_end(), minor_version(number)),
            None => (rest, 0),
        };
        RequestLine { method, target, minor_version }
    }
}

/// A response's start line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLine<'b> {
    pub status: u16,
    pub reason: &'b [u8],
    pub minor_version: u8,
}

impl<'b> StatusLine<'b> {
    /// Reads a line without its end; `None` if it is none of HTTP/1.
    #[must_use]
    pub fn of(line: &'b [u8]) -> Option<StatusLine<'b>> {
        if line.len() < STATUS_LINE.len() || !response_line_fits(line, true) {
            return None;
        }
        let digit = |idx: usize| u16::from(line[idx] - b'0');
        let status = digit(9) * 100 + digit(10) * 10 + digit(11);
        let reason = line[STATUS_LINE.len()..].trim_ascii();
        Some(StatusLine { status, reason, minor_version: line[7] - b'0' })
    }
}

/// `1.1` → 1
fn minor_version(number: &[u8]) -> u8 {
    match number {
        [_, b'.', digit @ b'0'..=b'9'] => digit - b'0',
        _ => 0,
    }
}

fn is_method(text: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    (1..=METHOD_BYTES_MAX).contains(&text.len()) && text.iter().all(is_token)
}

/// Where a header line's name and value are in its head, in bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    name: (u32, u32),
    value: (u32, u32),
    /// The head was cut within this line.
    pub cut: bool,
}

impl HeaderLine {
    /// Of texts that are somewhere in some bytes; these have less than 4 GiB.
    pub(crate) fn at(name: std::ops::Range<usize>, value: std::ops::Range<usize>) -> HeaderLine {
        let range = |range: std::ops::Range<usize>| (range.start as u32, range.end as u32);
        HeaderLine { name: range(name), value: range(value), cut: false }
    }

    #[must_use]
    pub fn name<'b>(&self, head: &'b [u8]) -> &'b [u8] {
        &head[self.name.0 as usize..self.name.1 as usize]
    }

    /// Without blanks around it; a folded value holds its line ends.
    #[must_use]
    pub fn value<'b>(&self, head: &'b [u8]) -> &'b [u8] {
        &head[self.value.0 as usize..self.value.1 as usize]
    }
}

/// The line that begins at `from`, without its end, and where the next one begins (`None`: its end
/// is not in `head`).
pub(super) fn line_at(head: &[u8], from: usize) -> (&[u8], Option<usize>) {
    match memchr::memchr(b'\n', &head[from..]) {
        Some(newline) => {
            let line = &head[from..from + newline];
            (line.strip_suffix(b"\r").unwrap_or(line), Some(from + newline + 1))
        }
        None => (&head[from..], None),
    }
}

/// Finds the header lines of `head` from `from` on, up to the empty line or the end of what is
/// there; `lines` gets them. Returns where the body begins (`None`: the head was cut).
pub(super) fn header_lines(head: &[u8], from: usize, lines: &mut Vec<HeaderLine>) -> Option<usize> {
    let mut at = from;
    lines.clear();
    while at < head.len() {
        let (line, next) = line_at(head, at);
        let end = at + line.len();
        if line.is_empty() && next.is_some() {
            return next;
        }
        if let b' ' | b'\t' = line.first().unwrap_or(&0) {
            // A value goes on in the next line (obs-fold).
            if let Some(last) = lines.last_mut() {
                last.value.1 = (at + line.trim_ascii_end().len()) as u32;
                last.cut = next.is_none();
            }
        } else if let Some(colon) = memchr::memchr(b':', line) {
            let name = line[..colon].trim_ascii_end().len();
            let value = line[colon + 1..].trim_ascii();
            let blank = line[colon + 1..].len() - line[colon + 1..].trim_ascii_start().len();
            let begin = (at + colon + 1 + blank).min(end);
            lines.push(HeaderLine {
                name: (at as u32, (at + name) as u32),
                value: (begin as u32, (begin + value.len()) as u32),
                cut: next.is_none(),
            });
        }
        // A line without a colon is no header: servers refuse or ignore it.
        at = next?;
    }
    None
}

/// Whether a message of this side begins here, by its whole start line (so that a body that begins
/// with `GET ` is rarely taken for one). For places where the bytes before are not known: methods
/// are those of the list.
#[must_use]
pub fn recognise(side: Side, bytes: &[u8]) -> Recognised {
    recognise_by(side, bytes, Methods::Listed)
}

/// The same where a message is known to begin, if this protocol is spoken at all: any token is a
/// method.
#[must_use]
pub fn recognise_first(side: Side, bytes: &[u8]) -> Recognised {
    recognise_by(side, bytes, Methods::Any)
}

/// What passes for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Methods {
    Listed,
    Any,
}

impl Methods {
    fn has(self, text: &[u8]) -> bool {
        match self {
            Methods::Listed => METHODS.iter().any(|known| known.as_bytes() == text),
            Methods::Any => is_method(text),
        }
    }

    fn may_have(self, begin: &[u8]) -> bool {
        match self {
            Methods::Listed => METHODS.iter().any(|known| known.as_bytes().starts_with(begin)),
            Methods::Any => begin.is_empty() || is_method(begin),
        }
    }
}

fn recognise_by(side: Side, bytes: &[u8], methods: Methods) -> Recognised {
    let bytes = without_empty_lines(bytes);
    let line_end = memchr::memchr(b'\n', &bytes[..bytes.len().min(START_LINE_BYTES_MAX)]);
    let line = bytes[..line_end.unwrap_or(bytes.len())].trim_ascii_end();
    let fits = match side {
        Side::Request => request_line_fits(line, line_end.is_some(), methods),
        Side::Response => response_line_fits(line, line_end.is_some()),
    };
    match (fits, line_end) {
        (false, _) => Recognised::No,
        (true, Some(_)) => Recognised::Yes,
        (true, None) if bytes.len() < START_LINE_BYTES_MAX => Recognised::Unsure,
        // A longer target than servers take: they answer 414.
        (true, None) => Recognised::Yes,
    }
}

/// Empty lines in front of a start line are allowed (RFC 9112 2.2).
fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    &bytes[empty..]
}

/// How a PROXY header of version 2 begins.
const PROXY_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes behind a PROXY header, of version 1 or 2, which balancers put in front of a connection.
#[must_use]
pub fn without_proxy_header(bytes: &[u8]) -> &[u8] {
    match proxy_header_bytes(bytes) {
        Some(header) => bytes.get(header..).unwrap_or(bytes),
        None => bytes,
    }
}

/// How long the PROXY header is that these bytes begin with, as far as that can be told; `None`: it is none.
pub(super) fn proxy_header_bytes(bytes: &[u8]) -> Option<usize> {
    /// The longest line of version 1 that there is.
    const LINE_BYTES_MAX: usize = 107;
    /// Of version 2, behind the length: addresses, and what else a balancer tells.
    const DATA_BYTES_MAX: usize = 4_096;
    if bytes.starts_with(b"PROXY ") {
        let newline = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES_MAX)])?;
        return Some(newline + 1);
    }
    let signature = bytes.len().min(PROXY_SIGNATURE.len());
    if bytes.is_empty() || bytes[..signature] != PROXY_SIGNATURE[..signature] {
        return None;
    }
    let fixed = PROXY_SIGNATURE.len() + 4;
    let Some(fields) = bytes.get(PROXY_SIGNATURE.len()..fixed) else { return Some(fixed) };
    let data = usize::from(u16::from_be_bytes([fields[2], fields[3]]));
    let fits = fields[0] >> 4 == 2 && data <= DATA_BYTES_MAX;
    fits.then_some(fixed + data)
}

fn request_line_fits(line: &[u8], whole: bool, methods: Methods) -> bool {
    let Some(method) = memchr::memchr(b' ', &line[..line.len().min(METHOD_BYTES_MAX + 1)]) else {
        return !whole && methods.may_have(line);
    };
    if !methods.has(&line[..method]) {
        return false;
    }
    let target = &line[method + 1..];
    if !whole {
        return true;
    }
    let Some(space) = memchr::memrchr(b' ', target) else { return false };
    space > 0 && matches!(&target[space + 1..], b"HTTP/1.1" | b"HTTP/1.0")
}

fn response_line_fits(line: &[u8], whole: bool) -> bool {
    let fits = line.iter().zip(STATUS_LINE).all(|(byte, want)| match want {
        b'#' => byte.is_ascii_digit(),
        _ => byte == want,
    });
    fits && (line.len() >= STATUS_LINE.len() || !whole)
}

/// How the bytes after a head belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
    /// The connection carries something else from here on.
    Tunnel,
    /// The head contradicts itself: there may be a body, and its end cannot be told.
    Unknown,
}

/// What the headers say of the body's end; fed with one header after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Declared {
    length: Option<u64>,
    coding: Coding,
    contradicts: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Identity,
    Chunked,
    Other,
}

impl Declared {
    pub(super) fn content_length(&mut self, value: &[u8]) {
        // A list of equal values is allowed (RFC 9112 6.3).
        for value in value.split(|byte| *byte == b',') {
            let parsed = parse_decimal(value.trim_ascii());
            self.contradicts |=
                parsed.is_none() || (self.length.is_some() && self.length != parsed);
            self.length = parsed;
        }
    }

    pub(super) fn transfer_encoding(&mut self, value: &[u8]) {
        let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        self.coding = if last.eq_ignore_ascii_case(b"chunked") {
            Coding::Chunked
        } else if last.eq_ignore_ascii_case(b"identity") {
            Coding::Identity
        } else {
            Coding::Other
        };
    }

    /// Transfer-Encoding goes before Content-Length; `None` if there is neither.
    fn framing(self) -> Framing {
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Framing::Chunked,
            (Coding::Other, _) => Framing::UntilClose,
            (Coding::Identity, _) if self.contradicts => Framing::Unknown,
            (Coding::Identity, Some(length)) => Framing::Length(length),
            (Coding::Identity, None) => Framing::None,
        }
    }
}

pub(super) fn request_framing(declared: Declared) -> Framing {
    match declared.framing() {
        // A request cannot last until close (RFC 9112 6.3).
        Framing::UntilClose => Framing::Unknown,
        framing => framing,
    }
}

pub(super) fn response_framing(status: u16, method: Method, declared: Declared) -> Framing {
    let success = (200..300).contains(&status);
    match (status, method) {
        (101, _) => Framing::Tunnel,
        (_, Method::Connect) if success => Framing::Tunnel,
        (100..=199 | 204 | 304, _) | (_, Method::Head) => Framing::None,
        _ => match declared.framing() {
            Framing::None => Framing::UntilClose,
            framing => framing,
        },
    }
}

fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
