//! What the HTTP parser makes: messages and exchanges.

use super::body::Body;
use super::parse::HeaderLine;
use crate::stream::StreamBuffer;

/// Longest head (start line and headers) that is read; of a longer one the row holds what is in its
/// beginning. Servers refuse more than 8 to 64 KiB.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest text of all headers of a message in a row: a head of plain text fits, one of control
/// bytes, which JSON writes with six, may not.
pub(super) const HEADERS_TEXT_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
/// Requests that wait for their response on one connection; beyond it those waiting are given up.
pub(super) const PIPELINE_MAX: usize = 1024;
/// What requests that wait for their response on one connection may hold; beyond it they are given
/// up. Enough for 1,024 requests of ordinary size.
pub(super) const PIPELINE_BYTES_MAX: usize = 1 << 20;
/// Waiting requests from which on each is given the storage it needs and no more.
pub(super) const PIPELINE_SHRINKS: usize = 4;
/// Messages that are kept for reuse.
const POOL_MAX: usize = 64;
/// Storage above this is given back instead of being kept with a pooled message.
const POOLED_CAPACITY_BYTES: usize = 4096;

/// The methods that change how a response is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    Head,
    Connect,
    /// Any other.
    Other,
    /// The request is not known: the response may lack the body that it promises.
    #[default]
    Unknown,
}

impl Method {
    #[must_use]
    pub fn of(text: &[u8]) -> Method {
        match text {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }
}

/// A request or a response; the fields of the other kind are empty.
#[derive(Debug, Default)]
pub struct Message {
    /// Request: method as sent; empty if what was sent is no request line.
    pub method: Vec<u8>,
    /// Request: target as sent.
    pub path: Vec<u8>,
    /// Response: status code.
    pub status: u16,
    /// Response: reason phrase.
    pub reason: Vec<u8>,
    pub minor_version: u8,
    /// Flat JSON object: names as sent, in their order; values of one name joined by `, `; secrets
    /// replaced by `<REDACTED>`.
    pub headers: Vec<u8>,
    pub body: Body,
    /// When its first byte was seen.
    pub first_unix_ns: i64,
    /// When its last byte was seen.
    pub last_unix_ns: i64,

    /// When the byte before it in its direction was seen; `None` for the first one.
    pub(super) before_unix_ns: Option<i64>,
    /// It begins where an event begins.
    pub(super) at_event_start: bool,
    /// Bytes in front of it were lost or skipped.
    pub(super) after_loss: bool,
    /// Some of them were never seen.
    pub(super) after_gap: bool,
    /// Request: an interim response may come before the final one.
    pub(super) expects: bool,
    /// It is all that one event moved.
    pub(super) is_one_event: bool,
    /// Its bytes on the wire, seen or not.
    pub(super) wire_bytes: u64,
    /// Response: after it the connection carries something else.
    pub(super) opens_tunnel: bool,
    /// Response: taken for one without the body that it promises.
    pub(super) end_is_guessed: bool,
}

/// What a connection carries that has ended to be HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tunnel {
    /// Nothing that is looked at.
    Opaque,
    /// Bytes of another protocol, perhaps: they are left for it.
    HandedOver,
}

impl Message {
    /// A response that another one to the same request follows.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Of a response: what the connection carries after it, if that is not HTTP. Through a proxy anything may follow, an
    /// upgrade names what does.
    pub(super) fn tunnel(&self) -> Option<Tunnel> {
        let names_http2 = |headers: &[u8]| {
            let headers = headers.to_ascii_lowercase();
            memchr::memmem::find(&headers, b"\"upgrade\":\"h2c\"").is_some()
        };
        let is_known = || self.status != 101 || names_http2(&self.headers);
        let tunnel = || if is_known() { Tunnel::HandedOver } else { Tunnel::Opaque };
        self.opens_tunnel.then(tunnel)
    }

    /// Its last byte has just been read.
    pub(super) fn note_end(&mut self, stream: &StreamBuffer) {
        let is_one = self.first_unix_ns == self.last_unix_ns && stream.at_event_end();
        self.is_one_event = self.at_event_start && is_one;
    }

    fn clear(&mut self) {
        self.method.clear();
        self.path.clear();
        self.status = 0;
        self.reason.clear();
        self.minor_version = 0;
        self.headers.clear();
        self.body.clear();
        self.before_unix_ns = None;
        self.at_event_start = false;
        self.after_loss = false;
        self.after_gap = false;
        self.expects = false;
        self.is_one_event = false;
        self.wire_bytes = 0;
        self.opens_tunnel = false;
        self.end_is_guessed = false;
    }

    fn capacity(&self) -> usize {
        self.method.capacity()
            + self.path.capacity()
            + self.reason.capacity()
            + self.headers.capacity()
            + self.body.capacity()
    }

    /// Memory that it holds, for budgets.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Message>() + self.capacity()
    }

    /// Gives back what its texts do not need.
    pub(super) fn shrink(&mut self) {
        self.method.shrink_to_fit();
        self.path.shrink_to_fit();
        self.reason.shrink_to_fit();
        self.headers.shrink_to_fit();
        self.body.shrink();
    }
}

/// A request and the response to it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    pub request: &'a Message,
    pub response: &'a Message,
}

impl Exchange<'_> {
    /// From the request's first byte to the response's first; never negative, also if a clock is.
    #[must_use]
    pub fn latency_ns(&self) -> i64 {
        self.time_unix_ns().saturating_sub(self.request.first_unix_ns).max(0)
    }

    /// When the response began.
    #[must_use]
    pub fn time_unix_ns(&self) -> i64 {
        self.response.first_unix_ns
    }
}

/// Messages to use again, shared by all connections of a thread.
#[derive(Debug, Default)]
pub struct Pool {
    #[expect(clippy::vec_box, reason = "messages move between queues; the box is what is reused")]
    free: Vec<Box<Message>>,
    /// Where the header lines of a head are noted.
    pub(super) lines: Vec<HeaderLine>,
}

/// Header lines of which the storage is kept.
const POOLED_LINES: usize = 256;

impl Pool {
    pub(super) fn take(&mut self) -> Box<Message> {
        self.free.pop().unwrap_or_default()
    }

    /// Gives back what a long head needed.
    pub(super) fn trim(&mut self) {
        if self.lines.capacity() > POOLED_LINES {
            self.lines = Vec::new();
        }
    }

    /// Memory that it holds, for budgets.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.free.iter().map(|message| message.held_bytes()).sum::<usize>()
            + self.lines.capacity() * size_of::<HeaderLine>()
    }

    pub(super) fn give(&mut self, mut message: Box<Message>) {
        if self.free.len() < POOL_MAX && message.capacity() <= POOLED_CAPACITY_BYTES {
            message.clear();
            self.free.push(message);
        }
    }
}
