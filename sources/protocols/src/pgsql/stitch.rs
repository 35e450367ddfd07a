//! Which response answers which request: the first one the first.
//!
//! A query, a login and a Sync are answered up to ReadyForQuery; messages of the extended protocol by one
//! or more of their own, and after an error by nothing until the next Sync. What the server says of its
//! own accord comes between and is nobody's response.

mod answers;

use std::sync::Arc;

use super::fits::{Broken, is_single};
use super::parse::{Bind, HEAD_BYTES, Messages, Opening, opening};
use super::reply::{Reply, type_ids};
use super::session::{Portal, Session};
use super::types::{Kind, Request, request};
use super::values::{NULL, push_binary};
use crate::cursor::Cursor;
use crate::frames::{Frame, FrameReader, Next};
use crate::in_order::InOrder;
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::stream::StreamBuffer;
use crate::turns::{settle, settle_first_holes};
use crate::{Config, Counters, REORDER_GRACE_NS, Side};

/// What the server's next message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    /// The front request's response, which has begun.
    Response,
    /// What is nobody's, from then on, up to ReadyForQuery.
    Skipped {
        begin_ns: i64,
    },
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pgsql {
    requests: FrameReader,
    responses: FrameReader,
    queue: InOrder<Request>,
    session: Session,
    reply: Reply,
    reading: Reading,
    /// The client's next message is the first of a session.
    opens: bool,
    /// Questions for encryption that are not answered.
    asks_encryption: u32,
    /// An error was sent: nothing is answered up to the next Sync.
    failed: bool,
    /// The response that the last loss began in.
    broken: Option<Broken>,
    /// When the server spoke of its own accord, since the last response.
    noticed_ns: Option<i64>,
    copies_ended: u32,
    is_done: bool,
    is_encrypted: bool,
    counters: Counters,
}

impl Pgsql {
    pub(super) fn new(from_start: bool) -> Pgsql {
        Pgsql {
            requests: FrameReader::new(Side::Request, from_start),
            responses: FrameReader::new(Side::Response, from_start),
            queue: InOrder::new(from_start),
            session: Session::default(),
            reply: Reply::default(),
            reading: Reading::Nothing,
            opens: from_start,
            asks_encryption: 0,
            failed: false,
            broken: None,
            noticed_ns: None,
            copies_ended: 0,
            is_done: false,
            is_encrypted: false,
            counters: Counters::default(),
        }
    }

    fn read_requests(&mut self, stream: &mut StreamBuffer, ctx: &Context<'_>) {
        while self.asks_encryption == 0 && !self.is_done {
            settle(stream, ctx.now_unix_ns);
            let messages = Messages { opens: self.opens };
            match self.requests.next(stream, &messages, ctx.now_unix_ns) {
                Next::Wait => return,
                Next::Lost(loss) => {
                    self.opens = false;
                    self.session.requests_lost();
                    self.queue.requests_lost(loss);
                }
                Next::Frame(frame) => {
                    let bytes = &stream.unread()[..frame.seen_bytes];
                    match self.opens {
                        true => self.first_request(bytes, &frame, ctx.config),
                        false => self.request(bytes, &frame, ctx.config),
                    }
                    self.requests.take(stream, frame);
                }
            }
        }
    }

    fn first_request(&mut self, bytes: &[u8], frame: &Frame, config: &Config) {
        match opening(bytes) {
            Ok(Some((_, Opening::Encryption))) => self.asks_encryption += 1,
            // Of a connection of its own, which is never answered.
            Ok(Some((_, Opening::Cancel))) => self.is_done = true,
            Ok(Some((_, Opening::Startup))) => {
                self.opens = false;
                let mut cursor = Cursor::new(&bytes[8..]);
                let mut text = Vec::new();
                while let (Some(name), Some(value)) = (cursor.until_zero(), cursor.until_zero()) {
                    text.extend_from_slice(if text.is_empty() { b"" } else { b" " });
                    text.extend_from_slice(name);
                    text.push(b'=');
                    text.extend_from_slice(value);
                }
                let shown = crate::json_text::cut(&text, config.body_bytes_max);
                self.push(Kind::Startup, shown.into(), 0, frame);
            }
            Ok(None) | Err(()) => {}
        }
    }

    /// A message of the client's, of which so many bytes are there.
    fn request(&mut self, bytes: &[u8], frame: &Frame, config: &Config) {
        let payload = &bytes[HEAD_BYTES..];
        let mut cursor = Cursor::new(payload);
        match bytes[0] {
            request::QUERY => {
                let mut text = Vec::new();
                config.push_statement(&mut text, payload.strip_suffix(b"\0").unwrap_or(payload));
                self.push(Kind::Query, text.into(), 0, frame);
                if let Some(last) = self.queue.last_mut() {
                    last.is_single = frame.is_whole() && is_single(payload);
                }
            }
            request::PARSE => self.parse(payload, frame, config),
            request::BIND => self.bind(payload, frame, config),
            request::EXECUTE => {
                let portal =
                    cursor.until_zero().and_then(|name| self.session.portal(name)).cloned();
                let portal = portal.unwrap_or_else(|| Portal {
                    text: (*b"query=[] params=[]").into(),
                    statement: 0,
                    formats: [].into(),
                });
                let Portal { text, statement, formats } = portal;
                self.push_with(Kind::Execute, text, statement, formats, frame);
            }
            tag @ (request::DESCRIBE | request::CLOSE) => {
                let is_portal = cursor.u8() == Some(b'P');
                let whole_name = cursor.until_zero();
                let statement = match (is_portal, whole_name) {
                    (true, Some(name)) => {
                        self.session.portal(name).map_or(0, |portal| portal.statement)
                    }
                    (false, Some(name)) => self.session.number(name),
                    (_, None) => 0,
                };
                let name = whole_name.unwrap_or_default();
                let kind = if is_portal { "type=kPortal name=" } else { "type=kStatement name=" };
                let name_shown = crate::json_text::cut(name, config.body_bytes_max);
                let text = [kind.as_bytes(), name_shown].concat();
                match (tag, is_portal) {
                    (request::DESCRIBE, _) => {
                        self.push(Kind::Describe, text.into(), statement, frame)
                    }
                    (_, true) => {
                        self.session.unbind(name);
                        self.push(Kind::Close, text.into(), 0, frame);
                    }
                    (_, false) => {
                        self.session.close(name);
                        self.push(Kind::Close, text.into(), 0, frame);
                    }
                }
            }
            request::SYNC => self.push(Kind::Sync, [].into(), 0, frame),
            request::FUNCTION_CALL => self.push(Kind::FunctionCall, [].into(), 0, frame),
            request::COPY_DONE | request::COPY_FAIL => {
                self.copies_ended = self.copies_ended.wrapping_add(1);
                // Sent while the server took the copy, it was passed over.
                if let Some(last) = self.queue.last_mut() {
                    last.may_be_unheard |= last.kind == Kind::Sync;
                }
            }
            // Flush, CopyData, passwords, Terminate.
            _ => {}
        }
    }

    fn parse(&mut self, payload: &[u8], frame: &Frame, config: &Config) {
        let mut cursor = Cursor::new(payload);
        let name = cursor.until_zero();
        let rest = cursor.rest();
        let statement = cursor.until_zero();
        let mut text = Vec::new();
        config.push_statement(&mut text, statement.unwrap_or(rest));
        let types = if statement.is_some() { type_ids(&mut cursor) } else { Vec::new() };
        let number = match name {
            Some(name) => self.session.prepare(name, text.clone(), types),
            None => {
                self.session.clear();
                0
            }
        };
        self.push(Kind::Parse, text.into(), number, frame);
    }

    fn bind(&mut self, payload: &[u8], frame: &Frame, config: &Config) {
        let mut text = b"query=[".to_vec();
        let Some(bind) = Bind::of(payload) else {
            // What had its portal's name has it no longer.
            match Cursor::new(payload).until_zero() {
                Some(portal) => self.session.unbind(portal),
                None => self.session.requests_lost(),
            }
            text.extend_from_slice(b"] params=[]");
            self.push(Kind::Bind, text.into(), 0, frame);
            return;
        };
        let (portal, session) = (bind.portal, &self.session);
        let statement = session.number(bind.statement);
        text.extend_from_slice(session.text(statement));
        text.extend_from_slice(b"] params=[");
        let (from, mut is_full) = (text.len(), false);
        let formats = bind.values(|idx, is_binary, value| {
            let left = config.body_bytes_max.saturating_sub(text.len() - from);
            if is_full || left == 0 {
                return;
            }
            text.extend_from_slice(if idx > 0 { b", " } else { b"" });
            let begin = text.len();
            match value {
                None => text.extend_from_slice(NULL),
                Some(value) if is_binary => {
                    let seen = value.up_to(config.body_bytes_max);
                    push_binary(&mut text, session.parameter(statement, idx), seen);
                }
                Some(value) => text.extend_from_slice(value.up_to(left).bytes),
            }
            let shown = crate::json_text::cut(&text[begin..], left).len();
            is_full =
                shown < text.len() - begin || value.is_some_and(|value| value.bytes.len() > left);
            text.truncate(begin + shown);
        });
        text.push(b']');
        let (text, formats): (Arc<[u8]>, Arc<[u16]>) =
            (text.into(), formats.unwrap_or_default().into());
        self.session.bind(portal, Portal { text: text.clone(), statement, formats });
        self.push(Kind::Bind, text, statement, frame);
    }

    fn push(&mut self, kind: Kind, text: Arc<[u8]>, statement: u64, frame: &Frame) {
        self.push_with(kind, text, statement, [].into(), frame);
    }

    fn push_with(
        &mut self,
        kind: Kind,
        text: Arc<[u8]>,
        statement: u64,
        formats: Arc<[u16]>,
        frame: &Frame,
    ) {
        let begin_ns = frame.time_unix_ns;
        let request = Request {
            kind,
            text,
            is_given_up: false,
            statement,
            formats,
            begin_ns,
            copies_ended: self.copies_ended,
            may_be_unheard: false,
            is_single: false,
        };
        self.queue.push(request, begin_ns);
    }

    /// Takes the answer to a question for encryption. True if anything goes on now.
    fn negotiate(&mut self, streams: &mut Streams<'_>) -> bool {
        if self.asks_encryption == 0 || self.is_done {
            return false;
        }
        // What a TLS client says first; so the answer was yes.
        if streams.requests.unread().first() == Some(&0x16) {
            self.encrypt();
            return false;
        }
        match streams.responses.unread().first() {
            Some(b'N') => {
                streams.responses.skip(1);
                self.asks_encryption -= 1;
            }
            Some(b'S' | b'G') => {
                streams.responses.skip(1);
                self.encrypt();
            }
            // Refused as a whole, by an error.
            Some(_) => self.asks_encryption = 0,
            None if streams.responses.lost_bytes() > 0 => {
                streams.responses.skip(1);
                self.asks_encryption -= 1;
            }
            None => return false,
        }
        !self.is_done
    }

    fn encrypt(&mut self) {
        self.is_done = true;
        self.is_encrypted = true;
    }
}

impl Parser for Pgsql {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        loop {
            self.read_requests(streams.requests, ctx);
            if !self.negotiate(streams) {
                break;
            }
        }
        self.read_responses(streams.responses, ctx);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        loop {
            self.advance(streams, ctx);
            if !settle_first_holes(streams) {
                break;
            }
        }
        ctx.now_unix_ns = ctx.now_unix_ns.saturating_add(REORDER_GRACE_NS);
        self.advance(streams, ctx);
        if self.reading == Reading::Response {
            self.end_response(ctx);
        }
        self.reading = Reading::Nothing;
        self.queue.close();
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn is_handed_over(&self) -> bool {
        self.is_encrypted
    }

    fn is_wrong(&self) -> bool {
        self.requests.is_wrong() || self.responses.is_wrong()
    }

    fn is_waiting(&self) -> bool {
        self.queue.is_waiting()
    }

    fn counters(&self) -> Counters {
        let mut counters = self.queue.counters;
        counters.add(self.counters);
        counters
    }

    fn held_bytes(&self) -> usize {
        self.queue.held_bytes() + self.session.held_bytes() + self.reply.held_bytes()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.queue.give_up();
        self.session.clear();
        self.failed = false;
        if self.reading == Reading::Response {
            self.reading = Reading::Skipped { begin_ns: self.reply.begin_ns };
        }
    }
}
