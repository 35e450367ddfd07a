//! What is known of one stream: a request, its response, and how far they are.

use super::types::{FIELDS_BYTES_MAX, FIELDS_MAX, UNKNOWN};
use crate::Config;
use crate::http1::{Body, ContentKind, Encoding, HeaderLine};
use crate::redact::REDACTED;

/// Types of gRPC begin so.
const GRPC_TYPE: &[u8] = b"application/grpc";

/// A header block, read.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// All names and values, one behind the other.
    pub(super) text: Vec<u8>,
    pub(super) lines: Vec<HeaderLine>,
    /// Some had no room.
    is_cut: bool,
    /// The first one is not known: it may be any of those that come first.
    begins_unknown: bool,
    has_unknown: bool,
}

impl Fields {
    /// `hides`: a value whose name is not known may be a secret.
    pub(super) fn push(&mut self, name: Option<&[u8]>, value: Option<&[u8]>, hides: bool) {
        self.begins_unknown |= self.lines.is_empty() && name.is_none();
        self.has_unknown |= name.is_none();
        let value = match (name, value) {
            (None, Some(_)) if hides => REDACTED.as_bytes(),
            (_, value) => value.unwrap_or(UNKNOWN),
        };
        self.add(name.unwrap_or(UNKNOWN), value);
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        let bytes = self.text.len() + name.len() + value.len();
        if bytes > FIELDS_BYTES_MAX || self.lines.len() >= FIELDS_MAX {
            self.is_cut = true;
            return;
        }
        let from = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        let middle = from + name.len();
        self.lines.push(HeaderLine::at(from..middle, middle..self.text.len()));
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let line = self.lines.iter().find(|line| line.name(&self.text) == name)?;
        Some(line.value(&self.text))
    }

    /// The value of a field that each such message has; what stands for it if it is among those that are
    /// not known.
    fn known(&self, name: &[u8]) -> &[u8] {
        self.get(name).unwrap_or(if self.has_unknown { UNKNOWN } else { b"" })
    }

    /// Whether these can be the first of a message: those that begin with a colon come first.
    pub(super) fn begin_message(&self) -> bool {
        let first = self.lines.first().map(|line| line.name(&self.text));
        self.begins_unknown || first.is_some_and(|name| name.starts_with(b":"))
    }

    /// Of a response; 0 where it is not known.
    pub(super) fn status(&self) -> u16 {
        let status = self.get(b":status").and_then(|status| std::str::from_utf8(status).ok());
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn held_bytes(&self) -> usize {
        self.text.capacity() + self.lines.capacity() * size_of::<HeaderLine>()
    }
}

/// A request or a response.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) fields: Fields,
    pub(super) body: Body,
    pub(super) begin_ns: i64,
    pub(super) is_ended: bool,
}

impl Message {
    pub(super) fn new(fields: Fields, begin_ns: i64, config: &Config) -> Message {
        let kind = match fields.get(b"content-type") {
            // Messages with their lengths, whatever they are written in.
            Some(value) if value.starts_with(GRPC_TYPE) => ContentKind::Other,
            Some(value) => ContentKind::of(value),
            None => ContentKind::Missing,
        };
        let encoding = fields.get(b"content-encoding").map_or(Encoding::Identity, Encoding::of);
        let mut body = Body::default();
        body.begin(kind, encoding, config.body_bytes_max);
        Message { fields, body, begin_ns, is_ended: false }
    }

    /// By its type; where that is not known, by fields that only gRPC has.
    pub(super) fn is_grpc(&self) -> bool {
        let is_named = |line: &HeaderLine| line.name(&self.fields.text).starts_with(b"grpc-");
        match self.fields.get(b"content-type") {
            Some(value) => value.starts_with(GRPC_TYPE),
            None => self.fields.has_unknown && self.fields.lines.iter().any(is_named),
        }
    }

    /// Fields behind the body.
    pub(super) fn add_trailers(&mut self, trailers: &Fields) {
        for line in &trailers.lines {
            self.fields.add(line.name(&trailers.text), line.value(&trailers.text));
        }
        self.fields.has_unknown |= trailers.has_unknown;
    }

    pub(super) fn method(&self) -> &[u8] {
        self.fields.known(b":method")
    }

    pub(super) fn path(&self) -> &[u8] {
        self.fields.known(b":path")
    }

    fn held_bytes(&self) -> usize {
        self.fields.held_bytes() + self.body.capacity()
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) request: Option<Message>,
    pub(super) response: Option<Message>,
    /// Its request's fields could not be read.
    pub(super) is_lost: bool,
    /// Frames were lost on the connection since it began.
    pub(super) after_loss: bool,
    /// Some of them may have been of its bodies: its row is there, and tells less.
    pub(super) may_lack: bool,
    /// When something of it came last.
    pub(super) last_ns: i64,
    pub(super) counted_bytes: usize,
}

/// What an exchange takes beside its texts, with its place in the map.
const EXCHANGE_BYTES: usize = size_of::<Exchange>() + 64;

impl Exchange {
    pub(super) fn held_bytes(&self) -> usize {
        let message = |message: &Option<Message>| message.as_ref().map_or(0, Message::held_bytes);
        EXCHANGE_BYTES + message(&self.request) + message(&self.response)
    }

    pub(super) fn message(&mut self, side: crate::Side) -> &mut Option<Message> {
        match side {
            crate::Side::Request => &mut self.request,
            crate::Side::Response => &mut self.response,
        }
    }

    /// Nothing more comes of it.
    pub(super) fn is_over(&self) -> bool {
        let ended = |message: &Option<Message>| message.as_ref().is_some_and(|one| one.is_ended);
        ended(&self.response) && (ended(&self.request) || self.is_lost)
    }

    /// Only time tells what becomes of it: its request is to come, or need not be sent to its end, or what
    /// it waits for was lost.
    pub(super) fn is_in_limbo(&self) -> bool {
        let is_answered = self.response.as_ref().is_some_and(|response| response.is_ended);
        is_answered || (self.request.is_none() && !self.is_lost) || self.after_loss
    }
}
