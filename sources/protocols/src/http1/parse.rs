//! Slice in, borrowed frame out: heads (by `httparse`), how a body is framed, chunked bodies.
//!
//! The chunked decoder is incremental and knows how many bytes it could do without: a gap that lies
//! inside a chunk's data is stepped over, one that touches a size line is not.

use httparse::Header;

use super::types::{HEADERS_MAX, Method};
use crate::{Parsed, Recognised, Side};

/// Longest start line that is looked at to recognise the protocol.
const START_LINE_BYTES_MAX: usize = 16 * 1024;
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
/// Longest chunk size line or trailer line.
const CHUNK_LINE_BYTES_MAX: u32 = 8192;

#[derive(Debug)]
pub struct RequestHead<'h, 'b> {
    pub method: &'b str,
    pub path: &'b str,
    pub minor_version: u8,
    pub headers: &'h [Header<'b>],
}

#[derive(Debug)]
pub struct ResponseHead<'h, 'b> {
    pub status: u16,
    pub reason: &'b str,
    pub minor_version: u8,
    pub headers: &'h [Header<'b>],
}

/// Room for a head's headers.
#[must_use]
pub fn header_space<'b>() -> [Header<'b>; HEADERS_MAX] {
    [httparse::EMPTY_HEADER; HEADERS_MAX]
}

/// Parses a request's start line and headers.
pub fn parse_request<'h, 'b>(
    bytes: &'b [u8],
    space: &'h mut [Header<'b>],
) -> Parsed<RequestHead<'h, 'b>> {
    let mut request = httparse::Request::new(space);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => {
            let (Some(method), Some(path), Some(minor_version)) =
                (request.method, request.path, request.version)
            else {
                return Parsed::Invalid;
            };
            let frame = RequestHead { method, path, minor_version, headers: request.headers };
            Parsed::Frame { frame, bytes: used }
        }
        Ok(httparse::Status::Partial) => Parsed::Incomplete { needed_bytes: 1 },
        Err(_) => Parsed::Invalid,
    }
}

/// Parses a response's start line and headers. Lenient where clients are.
pub fn parse_response<'h, 'b>(
    bytes: &'b [u8],
    space: &'h mut [Header<'b>],
) -> Parsed<ResponseHead<'h, 'b>> {
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    let mut response = httparse::Response::new(space);
    match config.parse_response(&mut response, bytes) {
        Ok(httparse::Status::Complete(used)) => {
            let (Some(status), Some(minor_version)) = (response.code, response.version) else {
                return Parsed::Invalid;
            };
            let reason = response.reason.unwrap_or("");
            let frame = ResponseHead { status, reason, minor_version, headers: response.headers };
            Parsed::Frame { frame, bytes: used }
        }
        Ok(httparse::Status::Partial) => Parsed::Incomplete { needed_bytes: 1 },
        Err(_) => Parsed::Invalid,
    }
}

/// Whether a message of this side begins here, by its whole start line (so that a body that begins
/// with `GET ` is rarely taken for one).
#[must_use]
pub fn recognise(side: Side, bytes: &[u8]) -> Recognised {
    let bytes = without_empty_lines(bytes);
    let line_end = memchr::memchr(b'\n', &bytes[..bytes.len().min(START_LINE_BYTES_MAX)]);
    let line = bytes[..line_end.unwrap_or(bytes.len())].trim_ascii_end();
    let fits = match side {
        Side::Request => request_line_fits(line, line_end.is_some()),
        Side::Response => response_line_fits(line, line_end.is_some()),
    };
    match (fits, line_end) {
        (false, _) => Recognised::No,
        (true, Some(_)) => Recognised::Yes,
        (true, None) if bytes.len() < START_LINE_BYTES_MAX => Recognised::Unsure,
        (true, None) => Recognised::No,
    }
}

/// Empty lines in front of a start line are allowed (RFC 9112 2.2).
fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    &bytes[empty..]
}

fn request_line_fits(line: &[u8], whole: bool) -> bool {
    let method = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let text = &line[..method];
    if method == line.len() {
        return !whole && METHODS.iter().any(|known| known.as_bytes().starts_with(text));
    }
    if !METHODS.iter().any(|known| known.as_bytes() == text) {
        return false;
    }
    let target = &line[method + 1..];
    if !whole {
        return target.iter().all(|byte| !byte.is_ascii_control());
    }
    let Some(space) = memchr::memrchr(b' ', target) else { return false };
    space > 0 && matches!(&target[space + 1..], b"HTTP/1.1" | b"HTTP/1.0")
}

fn response_line_fits(line: &[u8], whole: bool) -> bool {
    let pattern = b"HTTP/1.# ###";
    let fits = line.iter().zip(pattern).all(|(byte, want)| match want {
        b'#' => byte.is_ascii_digit(),
        _ => byte == want,
    });
    fits && (line.len() >= pattern.len() || !whole)
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
    /// The head contradicts itself.
    Invalid,
}

pub(super) fn request_framing(headers: &[Header<'_>]) -> Framing {
    match declared_framing(headers) {
        // A request cannot last until close (RFC 9112 6.3).
        Framing::UntilClose => Framing::Invalid,
        framing => framing,
    }
}

pub(super) fn response_framing(status: u16, method: Method, headers: &[Header<'_>]) -> Framing {
    let success = (200..300).contains(&status);
    match (status, method) {
        (101, _) => Framing::Tunnel,
        (_, Method::Connect) if success => Framing::Tunnel,
        (100..=199 | 204 | 304, _) | (_, Method::Head) => Framing::None,
        _ => match declared_framing(headers) {
            Framing::None => Framing::UntilClose,
            framing => framing,
        },
    }
}

/// Transfer-Encoding goes before Content-Length; `None` if there is neither.
fn declared_framing(headers: &[Header<'_>]) -> Framing {
    let mut length = None;
    let mut coding: Option<&[u8]> = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            // A list of equal values is allowed (RFC 9112 6.3).
            for value in header.value.split(|byte| *byte == b',') {
                let parsed = parse_decimal(value.trim_ascii());
                if parsed.is_none() || (length.is_some() && length != parsed) {
                    return Framing::Invalid;
                }
                length = parsed;
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            coding = header.value.rsplit(|byte| *byte == b',').next();
        }
    }
    match (coding.map(<[u8]>::trim_ascii), length) {
        (Some(last), _) if last.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (Some(last), _) if !last.eq_ignore_ascii_case(b"identity") => Framing::UntilClose,
        (_, Some(length)) => Framing::Length(length),
        (_, None) => Framing::None,
    }
}

fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Incremental decoder of the chunked coding (RFC 9112 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkedDecoder {
    state: ChunkState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// In a size line: value so far, whether a digit came, whether an extension began.
    Size {
        value: u64,
        digits: bool,
        extension: bool,
        line_bytes: u32,
    },
    Data {
        left: u64,
    },
    /// Behind the data: `\r\n` or `\n`.
    DataEnd,
    /// In the lines behind the last chunk; an empty one ends the body.
    Trailer {
        line_bytes: u32,
    },
    Done,
}

/// What one step of the decoder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// So many bytes of framing were used.
    Framing(usize),
    /// The first so many bytes are body.
    Data(usize),
    /// The body ended after so many bytes of framing.
    Done(usize),
    Invalid,
}

impl Default for ChunkedDecoder {
    fn default() -> ChunkedDecoder {
        ChunkedDecoder { state: ChunkState::size_line() }
    }
}

impl ChunkState {
    fn size_line() -> ChunkState {
        ChunkState::Size { value: 0, digits: false, extension: false, line_bytes: 0 }
    }
}

impl ChunkedDecoder {
    /// Looks at the next bytes (at least one) and takes a run of body or of framing.
    pub fn step(&mut self, bytes: &[u8]) -> ChunkStep {
        if let ChunkState::Data { left } = self.state {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.take_data(count as u64);
            return ChunkStep::Data(count);
        }
        for (idx, &byte) in bytes.iter().enumerate() {
            self.state = match self.framing_byte(byte) {
                Some(ChunkState::Done) => {
                    self.state = ChunkState::Done;
                    return ChunkStep::Done(idx + 1);
                }
                Some(state) => state,
                None => return ChunkStep::Invalid,
            };
            if matches!(self.state, ChunkState::Data { .. }) {
                return ChunkStep::Framing(idx + 1);
            }
        }
        ChunkStep::Framing(bytes.len())
    }

    fn framing_byte(&self, byte: u8) -> Option<ChunkState> {
        match self.state {
            ChunkState::Size { value, digits, extension, line_bytes } => {
                if line_bytes >= CHUNK_LINE_BYTES_MAX {
                    return None;
                }
                let line_bytes = line_bytes + 1;
                match (byte, char::from(byte).to_digit(16)) {
                    (b'\n', _) if digits && value == 0 => {
                        Some(ChunkState::Trailer { line_bytes: 0 })
                    }
                    (b'\n', _) if digits => Some(ChunkState::Data { left: value }),
                    (b'\n', _) => None,
                    (_, Some(digit)) if !extension => {
                        let value = value.checked_mul(16)?.checked_add(u64::from(digit))?;
                        Some(ChunkState::Size { value, digits: true, extension, line_bytes })
                    }
                    (b';' | b'\r' | b' ' | b'\t', _) if digits => {
                        Some(ChunkState::Size { value, digits, extension: true, line_bytes })
                    }
                    _ if extension => {
                        Some(ChunkState::Size { value, digits, extension, line_bytes })
                    }
                    _ => None,
                }
            }
            ChunkState::DataEnd => match byte {
                b'\r' => Some(ChunkState::DataEnd),
                b'\n' => Some(ChunkState::size_line()),
                _ => None,
            },
            ChunkState::Trailer { line_bytes } => match (byte, line_bytes) {
                (b'\n', 0) => Some(ChunkState::Done),
                (b'\n', _) => Some(ChunkState::Trailer { line_bytes: 0 }),
                (b'\r', _) => Some(ChunkState::Trailer { line_bytes }),
                (_, CHUNK_LINE_BYTES_MAX..) => None,
                (_, _) => Some(ChunkState::Trailer { line_bytes: line_bytes + 1 }),
            },
            ChunkState::Data { .. } | ChunkState::Done => None,
        }
    }

    fn take_data(&mut self, count: u64) {
        if let ChunkState::Data { left } = self.state {
            let left = left.saturating_sub(count);
            self.state = if left == 0 { ChunkState::DataEnd } else { ChunkState::Data { left } };
        }
    }

    /// How many of the next bytes may be missing without harm to the framing.
    #[must_use]
    pub fn skippable_bytes(&self) -> u64 {
        match self.state {
            ChunkState::Data { left } => left,
            _ => 0,
        }
    }

    /// Steps over missing bytes of data, at most [`ChunkedDecoder::skippable_bytes`].
    pub fn skip(&mut self, count: u64) {
        self.take_data(count);
    }
}
