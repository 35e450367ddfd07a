//! What the server says: whose it is, and the rows that come of it.

use super::{Pgsql, Reading};
use crate::REORDER_GRACE_NS;
use crate::cursor::Cursor;
use crate::frames::{Frame, Loss, Next};
use crate::in_order::{Asked, Owner};
use crate::pgsql::fits::{Broken, may_have};
use crate::pgsql::parse::{HEAD_BYTES, Messages};
use crate::pgsql::reply::type_ids;
use crate::pgsql::table::{write_notification, write_row};
use crate::pgsql::types::{Kind, Request, response};
use crate::protocol::Context;
use crate::stream::StreamBuffer;
use crate::turns::settle;

impl Pgsql {
    pub(super) fn read_responses(&mut self, stream: &mut StreamBuffer, ctx: &mut Context<'_>) {
        while self.asks_encryption == 0 && !self.is_done {
            settle(stream, ctx.now_unix_ns);
            let messages = Messages { opens: false };
            match self.responses.next(stream, &messages, ctx.now_unix_ns) {
                Next::Wait => return,
                Next::Lost(loss) => self.responses_lost(loss, Some(0), ctx),
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
            self.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns }, None, ctx);
        }
        let begins = self.reading == Reading::Nothing;
        if begins && !self.begin_response(tag, payload, at_ns, ctx) {
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
                if tag == response::PARSE_COMPLETE && !self.queue.knows_requests() {
                    // Of a statement whose name is not known.
                    self.session.clear();
                }
                self.queue.heard(at_ns);
                if tag == response::READY {
                    self.reading = Reading::Nothing;
                    self.queue.unowned(begin_ns, at_ns);
                }
            }
        }
        true
    }

    /// Whose the response is that begins with this message. False if it has to wait.
    fn begin_response(&mut self, tag: u8, payload: &[u8], at_ns: i64, ctx: &Context<'_>) -> bool {
        if self.failed && tag == response::READY {
            return self.end_failed(at_ns, ctx.now_unix_ns);
        }
        self.prove(tag, payload, at_ns);
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
                self.queue.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns }, None);
                self.failed = false;
                self.reading = Reading::Skipped { begin_ns: at_ns };
            }
            (Owner::Nobody, _) => self.reading = Reading::Skipped { begin_ns: at_ns },
        }
        true
    }

    /// Behind a loss: whether this message can answer one request only.
    fn prove(&mut self, tag: u8, payload: &[u8], at_ns: i64) {
        if self.broken.as_ref().is_some_and(|broken| broken.may_have(tag, payload)) {
            return;
        }
        self.queue.prove_by(
            at_ns,
            |request| request.kind.is_answered_by(tag),
            |request| may_have(request, tag, payload),
            |marks| Kind::is_any_of(marks, tag),
        );
    }

    /// ReadyForQuery after an error: it answers the next Sync; what is before that was passed over.
    fn end_failed(&mut self, at_ns: i64, now_unix_ns: i64) -> bool {
        let is_there = self.queue.requests().any(|request| request.kind == Kind::Sync);
        if !is_there && now_unix_ns.saturating_sub(at_ns) < REORDER_GRACE_NS {
            return false;
        }
        self.failed = false;
        // Behind a hole nobody knows which one it answers.
        while let Some(request) = self.queue.drop_front() {
            self.counters.unanswered += u64::from(request.is_owed());
            if request.kind == Kind::Parse {
                self.session.refused(request.statement);
            }
            if request.kind == Kind::Sync {
                return true;
            }
        }
        self.queue.is_unsure();
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
            self.queue.drop_front();
        }
    }

    /// The response that is being read has ended, or no more of it will be known. The request.
    pub(super) fn end_response(&mut self, ctx: &mut Context<'_>) -> Option<Request> {
        self.reading = Reading::Nothing;
        let (begin_ns, end_ns) = (self.reply.begin_ns, self.reply.end_ns.max(self.reply.begin_ns));
        let request = self.queue.answered(begin_ns, end_ns)?;
        if request.is_owed() {
            write_row(ctx.rows, ctx.config, &request, self.reply.text(), begin_ns);
        }
        Some(request)
    }

    /// Responses are missing. What has come of one is shown; of those behind it nothing is known.
    fn responses_lost(&mut self, loss: Loss, at_least: Option<u64>, ctx: &mut Context<'_>) {
        let reading = std::mem::replace(&mut self.reading, Reading::Nothing);
        self.failed = false;
        self.noticed_ns = None;
        if let Reading::Skipped { begin_ns } = reading {
            self.queue.unowned_part(begin_ns, begin_ns);
        }
        let has_columns = !self.reply.columns.is_empty();
        let broken = match reading {
            Reading::Response => self.end_response(ctx),
            Reading::Skipped { .. } | Reading::Nothing => None,
        };
        // Of others it is not known what they belong to.
        let was_certain = self.queue.is_certain();
        match broken.as_ref().and_then(|request| request.responses()) {
            Some(1..) => self.queue.response_broken(loss, at_least),
            _ => self.queue.responses_lost(loss, at_least),
        }
        if was_certain {
            self.broken = broken.map(|request| Broken::new(request, has_columns));
        }
    }

    fn notification(&mut self, payload: &[u8], at_ns: i64, ctx: &mut Context<'_>) {
        let mut cursor = Cursor::new(payload);
        let (Some(process @ 1..), Some(channel)) = (cursor.u32_be(), cursor.until_zero()) else {
            // Its beginning was not seen, or it is none.
            self.counters.gap += 1;
            return;
        };
        let message = cursor.rest();
        let message = message.strip_suffix(b"\0").unwrap_or(message);
        let mut text = format!("pid={process} channel=").into_bytes();
        text.extend_from_slice(channel);
        text.extend_from_slice(b" payload=");
        text.extend_from_slice(crate::json_text::cut(message, ctx.config.body_bytes_max));
        self.counters.exchanges += 1;
        write_notification(ctx.rows, ctx.config, &text, at_ns);
    }
}
