//! Which response answers which request: the first one the first.
//!
//! A query, a login and a Sync are answered up to ReadyForQuery; messages of the extended protocol by one
//! or more of their own, and after an error by nothing until the next Sync. What the server says of its
//! own accord comes between and is nobody's response.

use std::sync::Arc;

use super::parse::{Bind, HEAD_BYTES, Messages, Opening, opening};
use super::reply::{Reply, type_ids};
use super::session::{Portal, Session};
use super::table::{push_statement, write_notification, write_row};
use super::types::{Kind, Request, request, response};
use super::values::{NULL, push_binary};
use crate::cursor::Cursor;
use crate::frames::{Frame, FrameReader, Loss, Next, settle, settle_first_holes};
use crate::in_order::{InOrder, Owner};
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::stream::StreamBuffer;
use crate::{Config, Counters, REORDER_GRACE_NS, Side};

/// What requests that wait may show in all; those beyond it get no row.
const WAITING_TEXT_BYTES_MAX: usize = 1 << 20;

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
    waiting_text_bytes: usize,
    session: Session,
    reply: Reply,
    reading: Reading,
    /// The client's next message is the first of a session.
    opens: bool,
    /// Questions for encryption that are not answered.
    asks_encryption: u32,
    /// An error was sent: nothing is answered up to the next Sync.
    failed: bool,
    /// The end of a cycle is wanted, behind a loss.
    resyncs: bool,
    /// When the server spoke of its own accord, since the last response.
    noticed_ns: Option<i64>,
    copies_ended: u32,
    is_done: bool,
    counters: Counters,
}

impl Pgsql {
    pub(super) fn new(from_start: bool) -> Pgsql {
        Pgsql {
            requests: FrameReader::new(Side::Request, from_start),
            responses: FrameReader::new(Side::Response, from_start),
            queue: InOrder::new(from_start),
            waiting_text_bytes: 0,
            session: Session::default(),
            reply: Reply::default(),
            reading: Reading::Nothing,
            opens: from_start,
            asks_encryption: 0,
            failed: false,
            resyncs: !from_start,
            noticed_ns: None,
            copies_ended: 0,
            is_done: false,
            counters: Counters::default(),
        }
    }

    fn read_requests(&mut self, stream: &mut StreamBuffer, ctx: &Context<'_>) {
        settle(stream, ctx.now_unix_ns);
        while self.asks_encryption == 0 && !self.is_done {
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
                push_statement(config, &mut text, payload.strip_suffix(b"\0").unwrap_or(payload));
                self.push(Kind::Query, text.into(), 0, frame);
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
                self.push(Kind::Execute, text, statement, frame);
                self.set_formats(formats);
            }
            tag @ (request::DESCRIBE | request::CLOSE) => {
                let is_portal = cursor.u8() == Some(b'P');
                let name = cursor.until_zero().unwrap_or_default();
                let statement = match is_portal {
                    true => self.session.portal(name).map_or(0, |portal| portal.statement),
                    false => self.session.number(name),
                };
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
        push_statement(config, &mut text, statement.unwrap_or(rest));
        let types = if statement.is_some() { type_ids(&mut cursor) } else { Vec::new() };
        let number = match name {
            Some(name) => self.session.prepare(name, text.clone(), types),
            None => 0,
        };
        self.push(Kind::Parse, text.into(), number, frame);
    }

    fn bind(&mut self, payload: &[u8], frame: &Frame, config: &Config) {
        let mut text = b"query=[".to_vec();
        let Some(bind) = Bind::of(payload) else {
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
                    let value = &value[..value.len().min(config.body_bytes_max)];
                    push_binary(&mut text, session.parameter(statement, idx), value);
                }
                Some(value) => text.extend_from_slice(&value[..value.len().min(left)]),
            }
            let shown = crate::json_text::cut(&text[begin..], left).len();
            is_full = shown < text.len() - begin || value.is_some_and(|value| value.len() > left);
            text.truncate(begin + shown);
        });
        text.push(b']');
        let (text, formats): (Arc<[u8]>, Arc<[u16]>) =
            (text.into(), formats.unwrap_or_default().into());
        self.session.bind(portal, Portal { text: text.clone(), statement, formats });
        self.push(Kind::Bind, text, statement, frame);
    }

    fn push(&mut self, kind: Kind, text: Arc<[u8]>, statement: u64, frame: &Frame) {
        let is_given_up = self.waiting_text_bytes + text.len() > WAITING_TEXT_BYTES_MAX;
        let text = if is_given_up { [].into() } else { text };
        self.waiting_text_bytes += text.len();
        self.counters.given_up += u64::from(is_given_up && kind.has_row());
        let (begin_ns, copies_ended) = (frame.time_unix_ns, self.copies_ended);
        let formats = [].into();
        let request =
            Request { kind, text, is_given_up, statement, formats, begin_ns, copies_ended };
        self.queue.push(request, begin_ns);
        if !self.queue.is_waiting() || self.queue.waits() == 1 {
            // The queue may have begun anew.
            self.waiting_text_bytes = self.queue.requests().map(|request| request.text.len()).sum();
        }
    }

    fn set_formats(&mut self, formats: Arc<[u16]>) {
        if let Some(last) = self.queue.last_mut() {
            last.formats = formats;
        }
    }

    fn read_responses(&mut self, stream: &mut StreamBuffer, ctx: &mut Context<'_>) {
        settle(stream, ctx.now_unix_ns);
        while self.asks_encryption == 0 && !self.is_done {
            let messages = Messages { opens: false };
            match self.responses.next(stream, &messages, ctx.now_unix_ns) {
                Next::Wait => return,
                Next::Lost(loss) => self.responses_lost(loss, ctx),
                Next::Frame(frame) => {
                    let bytes = &stream.unread()[..frame.seen_bytes];
                    let is_whole = frame.is_whole();
                    if !self.response(bytes, is_whole, &frame, ctx) {
                        return;
                    }
                    self.reply.end_ns = self.responses.take(stream, frame);
                }
            }
        }
    }

    /// A message of the server's. False if it has to wait.
    fn response(
        &mut self,
        bytes: &[u8],
        is_whole: bool,
        frame: &Frame,
        ctx: &mut Context<'_>,
    ) -> bool {
        let (tag, payload, at_ns) = (bytes[0], &bytes[HEAD_BYTES..], frame.time_unix_ns);
        match tag {
            response::NOTIFICATION => {
                self.notification(payload, at_ns, ctx);
                return true;
            }
            response::NOTICE => {
                self.noticed_ns.get_or_insert(at_ns);
                return true;
            }
            response::PARAMETER_STATUS
            | response::BACKEND_KEY_DATA
            | response::NEGOTIATE_VERSION => {
                return true;
            }
            _ => {}
        }
        if self.reading == Reading::Response
            && !self.queue.front().is_some_and(|front| front.kind.goes_on_with(tag))
        {
            // Something is missing that nobody noticed.
            self.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns }, ctx);
        }
        let begins = self.reading == Reading::Nothing;
        if begins && !self.begin_response(tag, at_ns, ctx) {
            return false;
        }
        match self.reading {
            Reading::Nothing => {}
            Reading::Response => {
                self.front_response(tag, payload, ctx);
                if !is_whole {
                    self.reply.end();
                }
            }
            Reading::Skipped { begin_ns } => {
                if tag == response::PARSE_COMPLETE {
                    // Of a statement whose name is not known.
                    self.session.clear();
                }
                if tag == response::READY {
                    self.reading = Reading::Nothing;
                    self.queue.unowned(begin_ns, at_ns);
                }
            }
        }
        true
    }

    /// Whose the response is that begins with this message. False if it has to wait.
    fn begin_response(&mut self, tag: u8, at_ns: i64, ctx: &Context<'_>) -> bool {
        if self.resyncs && tag == response::READY {
            self.resyncs = false;
            self.queue.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
            return true;
        }
        if self.failed && tag == response::READY {
            return self.end_failed(at_ns, ctx.now_unix_ns);
        }
        let owner = self.queue.owner(at_ns, ctx.now_unix_ns);
        let begin_ns = self.noticed_ns.take();
        let front = self.queue.front();
        match (owner, front) {
            (Owner::Wait, _) => {
                self.noticed_ns = begin_ns;
                return false;
            }
            (Owner::Front, Some(front)) if !self.failed && front.kind.is_answered_by(tag) => {
                let begin_ns = begin_ns.filter(|at| *at >= front.begin_ns).unwrap_or(at_ns);
                self.reply.begin(begin_ns, ctx.config.body_bytes_max);
                if front.kind == Kind::Execute {
                    self.session.columns(front.statement, &front.formats, &mut self.reply.columns);
                }
                self.reading = Reading::Response;
            }
            (Owner::Front, _) => {
                // It is not what the request asks for: one of both was not understood.
                self.queue.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
                self.failed = false;
                self.reading = Reading::Skipped { begin_ns: at_ns };
            }
            (Owner::Nobody, _) => self.reading = Reading::Skipped { begin_ns: at_ns },
        }
        self.resyncs = false;
        true
    }

    /// ReadyForQuery after an error: it answers the next Sync; what is before that was passed over.
    fn end_failed(&mut self, at_ns: i64, now_unix_ns: i64) -> bool {
        let is_there = self.queue.requests().any(|request| request.kind == Kind::Sync);
        if !is_there && now_unix_ns.saturating_sub(at_ns) < REORDER_GRACE_NS {
            return false;
        }
        self.failed = false;
        while let Some(request) = self.drop_front() {
            self.counters.unanswered += u64::from(request.kind.has_row() && !request.is_given_up);
            if request.kind == Kind::Parse {
                self.session.refused(request.statement);
            }
            if request.kind == Kind::Sync {
                break;
            }
        }
        true
    }

    /// A message of the front request's response.
    fn front_response(&mut self, tag: u8, payload: &[u8], ctx: &mut Context<'_>) {
        let Some(front) = self.queue.front() else { return };
        let (kind, statement, copies_ended) = (front.kind, front.statement, front.copies_ended);
        let reply = &mut self.reply;
        match tag {
            response::COLUMNS => {
                reply.column_line(payload);
                if kind == Kind::Describe {
                    self.session.set_columns(statement, &reply.columns);
                }
            }
            response::PARAMETERS => {
                self.session.set_parameters(statement, type_ids(&mut Cursor::new(payload)));
            }
            response::ROW => reply.row_line(payload),
            response::COMPLETE => reply.line(payload.strip_suffix(b"\0").unwrap_or(payload)),
            response::ERROR => reply.error_line(payload),
            response::PARSE_COMPLETE => reply.line(b"PARSE COMPLETE"),
            response::BIND_COMPLETE => reply.line(b"BIND COMPLETE"),
            response::CLOSE_COMPLETE => reply.line(b"CLOSE COMPLETE"),
            response::NO_DATA => reply.line(b"NO DATA"),
            response::AUTHENTICATION if payload == [0; 4] => reply.line(b"AUTHENTICATION OK"),
            // From here on a replica is fed.
            response::COPY_BOTH => self.is_done = true,
            _ => {}
        }
        use response as is;
        let is_over = match (kind, tag) {
            (Kind::Startup, is::ERROR) | (_, is::READY) => true,
            (Kind::Execute, is::COMPLETE | is::SUSPENDED | is::EMPTY_QUERY) => true,
            (Kind::Execute, _) | (Kind::Query | Kind::Sync | Kind::FunctionCall, _) => {
                kind == Kind::Execute && tag == is::ERROR
            }
            (Kind::Startup, _) | (Kind::Describe, is::PARAMETERS) => false,
            (Kind::Parse | Kind::Bind | Kind::Describe | Kind::Close, _) => true,
        };
        if kind.is_extended() && tag == is::ERROR {
            self.failed = true;
            if kind == Kind::Parse {
                self.session.refused(statement);
            }
        }
        let was_copied = self.copies_ended != copies_ended;
        if is_over || self.is_done {
            self.end_response(ctx);
            if kind == Kind::Execute && was_copied {
                self.drop_unheard(copies_ended);
            }
        }
    }

    /// A Sync that was sent while the server took a copy was not heard.
    fn drop_unheard(&mut self, copies_ended: u32) {
        while let Some(front) = self.queue.front()
            && front.kind == Kind::Sync
            && front.copies_ended == copies_ended
        {
            self.drop_front();
        }
    }

    /// The response that is being read has ended, or no more of it will be known.
    fn end_response(&mut self, ctx: &mut Context<'_>) {
        self.reading = Reading::Nothing;
        let (begin_ns, end_ns) = (self.reply.begin_ns, self.reply.end_ns.max(self.reply.begin_ns));
        let Some(front) = self.queue.front() else { return };
        if !front.kind.has_row() || front.is_given_up {
            self.drop_front();
            return;
        }
        let Some((request, _)) = self.queue.answered(begin_ns, end_ns) else { return };
        self.waiting_text_bytes = self.waiting_text_bytes.saturating_sub(request.text.len());
        write_row(ctx.rows, ctx.config, &request, self.reply.text(), begin_ns);
    }

    fn drop_front(&mut self) -> Option<Request> {
        let (request, _) = self.queue.drop_front()?;
        self.waiting_text_bytes = self.waiting_text_bytes.saturating_sub(request.text.len());
        Some(request)
    }

    /// Responses are missing. What has come of one is shown; of those behind it nothing is known.
    fn responses_lost(&mut self, loss: Loss, ctx: &mut Context<'_>) {
        match self.reading {
            Reading::Response => self.end_response(ctx),
            Reading::Skipped { begin_ns } => self.queue.unowned(begin_ns, begin_ns),
            Reading::Nothing => {}
        }
        (self.reading, self.failed, self.resyncs) = (Reading::Nothing, false, true);
        self.noticed_ns = None;
        self.queue.responses_lost(loss);
    }

    fn notification(&mut self, payload: &[u8], at_ns: i64, ctx: &mut Context<'_>) {
        let mut cursor = Cursor::new(payload);
        let process = cursor.u32_be().unwrap_or_default();
        let channel = cursor.until_zero().unwrap_or_default();
        let message = cursor.rest();
        let message = message.strip_suffix(b"\0").unwrap_or(message);
        let mut text = format!("pid={process} channel=").into_bytes();
        text.extend_from_slice(channel);
        text.extend_from_slice(b" payload=");
        text.extend_from_slice(crate::json_text::cut(message, ctx.config.body_bytes_max));
        self.counters.exchanges += 1;
        write_notification(ctx.rows, ctx.config, &text, at_ns);
    }

    /// Takes the answer to a question for encryption. True if anything goes on now.
    fn negotiate(&mut self, streams: &mut Streams<'_>) -> bool {
        if self.asks_encryption == 0 || self.is_done {
            return false;
        }
        // What a TLS client says first; so the answer was yes.
        if streams.requests.unread().first() == Some(&0x16) {
            self.is_done = true;
            return false;
        }
        match streams.responses.unread().first() {
            Some(b'N') => {
                streams.responses.skip(1);
                self.asks_encryption -= 1;
            }
            Some(b'S' | b'G') => self.is_done = true,
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
        self.queue.retain(|request| request.kind.has_row());
        self.queue.close();
    }

    fn is_done(&self) -> bool {
        self.is_done
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
        self.queue.held_bytes()
            + self.waiting_text_bytes
            + self.session.held_bytes()
            + self.reply.held_bytes()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.queue.give_up();
        self.session.clear();
        self.waiting_text_bytes = 0;
        self.failed = false;
        if self.reading == Reading::Response {
            self.reading = Reading::Skipped { begin_ns: self.reply.begin_ns };
        }
    }
}
