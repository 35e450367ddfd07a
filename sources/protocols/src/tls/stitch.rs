//! Which answer a ClientHello has, and when no alert in the clear can follow it any more.
//!
//! Hellos are answered in their order: by a ServerHello, or by an alert instead of one. Where one may be
//! missing, those that wait are given up; where more wait than a handshake has, the connection is.

use std::collections::VecDeque;

use super::parse::{
    MESSAGE_HEAD_BYTES, RECORD_HEAD_BYTES, Records, client_hello, hello_side, old_hello,
    server_hello,
};
use super::table::{client_text, server_members, write_columns};
use super::types::{
    ALERT, APPLICATION, CHANGE_CIPHER, CLIENT_HELLO, ClientHello, HANDSHAKE, HELLO_BYTES_MAX,
    Request, Response, SERVER_HELLO,
};
use crate::frames::{Frame, FrameReader, Next};
use crate::protocol::{Context, Parser, RowOf, Shared, Streams};
use crate::stream::StreamBuffer;
use crate::turns::{read_to_end, settle_both};
use crate::{Counters, Side};

/// Hellos that wait for an answer; a handshake has two at the most. Beyond it nothing more is read.
const REQUESTS_MAX: usize = 4;
/// So long a row waits for an alert: handshakes take far less.
const ALERT_WITHIN_NS: i64 = 5_000_000_000;
/// Warnings do not end a handshake.
const FATAL: u8 = 2;

/// One direction.
#[derive(Debug)]
struct Half {
    reader: FrameReader,
    /// The handshake message that is being put together.
    message: Vec<u8>,
    message_ns: i64,
    /// Its hello was read: what else it says of the handshake does not matter.
    is_past_hello: bool,
    is_encrypted: bool,
}

/// What a record says.
enum Said {
    Nothing,
    Client(Request),
    /// Its hello, or an answer that cannot be read.
    Server {
        response: Option<Response>,
        is_retry: bool,
    },
    Alert {
        level: u8,
        alert: Alert,
    },
    /// A hello of which bytes are missing.
    Cut(Side),
    /// No record of a handshake that is known.
    Wrong,
}

#[derive(Clone, Copy, Debug)]
struct Alert {
    side: Side,
    what: u8,
    begin_ns: i64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Tls {
    halves: [Half; 2],
    /// `None`: one that could not be read.
    waiting: VecDeque<Option<Request>>,
    /// An alert that a side gave before the hello that it is about was answered.
    early_alert: Option<Alert>,
    /// Answered, but for an alert that may follow.
    answered: Option<(Request, Response)>,
    /// The server has asked for another hello.
    is_retrying: bool,
    /// Nothing more is read.
    is_given_up: bool,
    is_wrong: bool,
    counters: Counters,
}

impl Half {
    fn new(side: Side, from_start: bool) -> Half {
        Half {
            reader: FrameReader::new(side, from_start),
            message: Vec::new(),
            message_ns: 0,
            is_past_hello: false,
            is_encrypted: false,
        }
    }

    /// Reads a record of which `bytes` are there.
    fn record(&mut self, side: Side, bytes: &[u8], frame: &Frame) -> Said {
        if let (Side::Request, Some(Some(hello))) = (side, old_hello(bytes)) {
            self.forget();
            (self.is_past_hello, self.is_encrypted) = (true, false);
            let hello = ClientHello { version: hello.version, ..ClientHello::default() };
            return Said::Client(Request {
                body: client_text(&hello),
                begin_ns: frame.time_unix_ns,
            });
        }
        let Some((head, body)) = bytes.split_at_checked(RECORD_HEAD_BYTES) else {
            return Said::Nothing;
        };
        match head[0] {
            CHANGE_CIPHER | APPLICATION => {
                // Between the two hellos of a client these say nothing yet.
                self.is_encrypted |= self.is_past_hello || head[0] == APPLICATION;
                Said::Nothing
            }
            ALERT if frame.total_bytes == 7 && !self.is_encrypted => match body {
                &[level @ 1..=2, what] => {
                    let alert = Alert { side, what, begin_ns: frame.time_unix_ns };
                    Said::Alert { level, alert }
                }
                _ => Said::Nothing,
            },
            // Behind the end of clear text it may be anything, but a client's second hello.
            HANDSHAKE if !self.is_encrypted || hello_side(bytes) == Some(Some(side)) => {
                self.is_encrypted = false;
                self.handshake(side, body, frame)
            }
            _ => Said::Nothing,
        }
    }

    fn handshake(&mut self, side: Side, body: &[u8], frame: &Frame) -> Said {
        let wanted = if side == Side::Request { CLIENT_HELLO } else { SERVER_HELLO };
        // Another hello begins a record of its own.
        if self.is_past_hello && body.first() == Some(&wanted) {
            self.is_past_hello = false;
        }
        if self.is_past_hello {
            return Said::Nothing;
        }
        if self.message.is_empty() {
            self.message_ns = frame.time_unix_ns;
        }
        let room = HELLO_BYTES_MAX - self.message.len();
        self.message.extend_from_slice(&body[..body.len().min(room)]);
        let &[kind, high, middle, low, ..] = self.message.as_slice() else {
            return if frame.is_whole() { Said::Nothing } else { self.cut(side) };
        };
        if kind != wanted {
            self.forget();
            return Said::Wrong;
        }
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match self.message.get(MESSAGE_HEAD_BYTES..MESSAGE_HEAD_BYTES + length) {
            Some(hello) => {
                let said = said(side, hello, self.message_ns);
                self.forget();
                self.is_past_hello = true;
                said
            }
            None if frame.is_whole() && self.message.len() < HELLO_BYTES_MAX => Said::Nothing,
            None => self.cut(side),
        }
    }

    fn cut(&mut self, side: Side) -> Said {
        self.forget();
        self.is_past_hello = true;
        Said::Cut(side)
    }

    fn forget(&mut self) {
        self.message = Vec::new();
    }
}

fn said(side: Side, hello: &[u8], begin_ns: i64) -> Said {
    match side {
        Side::Request => match client_hello(hello) {
            Some(hello) => Said::Client(Request { body: client_text(&hello), begin_ns }),
            None => Said::Cut(side),
        },
        Side::Response => {
            let hello = server_hello(hello);
            let is_retry = hello.is_some_and(|hello| hello.is_retry);
            let members = hello.map(|hello| server_members(&hello));
            let response = members.map(|members| Response { members, alert: None, begin_ns });
            Said::Server { response, is_retry }
        }
    }
}

impl Tls {
    pub(super) fn new(from_start: bool) -> Tls {
        Tls {
            halves: [Half::new(Side::Request, from_start), Half::new(Side::Response, from_start)],
            waiting: VecDeque::new(),
            early_alert: None,
            answered: None,
            is_retrying: false,
            is_given_up: false,
            is_wrong: false,
            counters: Counters::default(),
        }
    }

    fn read(&mut self, side: Side, stream: &mut StreamBuffer, ctx: &mut Context<'_>) -> bool {
        if self.is_given_up {
            stream.skip(u64::MAX);
            return false;
        }
        let half = &mut self.halves[side as usize];
        match half.reader.next(stream, &Records, ctx.now_unix_ns) {
            Next::Wait => false,
            Next::Frame(frame) => {
                let said = half.record(side, &stream.unread()[..frame.seen_bytes], &frame);
                half.reader.take(stream, frame);
                self.take(said, ctx);
                true
            }
            Next::Lost(_) => {
                half.forget();
                self.lost();
                true
            }
        }
    }

    fn take(&mut self, said: Said, ctx: &mut Context<'_>) {
        match said {
            Said::Nothing => {}
            Said::Wrong => self.is_wrong |= self.counters == Counters::default(),
            Said::Client(request) => {
                self.write(ctx);
                self.halves.iter_mut().for_each(|half| half.is_encrypted = false);
                self.wait(Some(request));
            }
            Said::Server { response, is_retry } => {
                self.is_retrying = is_retry;
                self.answer(response, ctx);
            }
            Said::Alert { level, alert } => self.alert(level, alert, ctx),
            Said::Cut(Side::Request) => {
                self.counters.gap += 1;
                self.wait(None);
            }
            Said::Cut(Side::Response) => self.answer(None, ctx),
        }
    }

    /// `None`: a hello that could not be read.
    fn wait(&mut self, request: Option<Request>) {
        self.waiting.push_back(request);
        if self.waiting.len() > REQUESTS_MAX {
            self.end();
        }
    }

    /// Whose answer is whose cannot be told any more.
    fn end(&mut self) {
        let waiting =
            self.waiting.drain(..).flatten().count() + usize::from(self.answered.is_some());
        self.counters.given_up += waiting as u64;
        (self.answered, self.early_alert) = (None, None);
        self.halves.iter_mut().for_each(Half::forget);
        self.is_given_up = true;
    }

    /// `None`: an answer that could not be read.
    fn answer(&mut self, response: Option<Response>, ctx: &mut Context<'_>) {
        self.write(ctx);
        if let (Some(Some(request)), Some(response)) = (self.waiting.front(), &response)
            && response.begin_ns < request.begin_ns
        {
            // Of a hello that is missing.
            self.counters.gap += 1;
            return;
        }
        match (self.waiting.pop_front(), response) {
            (Some(Some(request)), Some(mut response)) => {
                if let Some(early) = self.early_alert.take() {
                    response.alert = Some(early.what);
                    if early.side == Side::Response {
                        response.begin_ns = early.begin_ns;
                    }
                }
                self.answered = Some((request, response));
            }
            (Some(Some(_)), None) => self.counters.gap += 1,
            (Some(None), _) => {}
            (None, _) => self.counters.unpaired += 1,
        }
    }

    fn alert(&mut self, level: u8, alert: Alert, ctx: &mut Context<'_>) {
        if let Some((_, response)) = &mut self.answered {
            response.alert = Some(alert.what);
            if level == FATAL {
                self.write(ctx);
            }
        } else if alert.side == Side::Response && level == FATAL {
            self.answer_by(alert, ctx);
        } else if !self.waiting.is_empty() {
            // A server's warning before its hello; a client's that gave up, or whose server's hello is
            // still to be read.
            self.early_alert = Some(alert);
        }
    }

    /// An alert stands where a hello would.
    fn answer_by(&mut self, alert: Alert, ctx: &mut Context<'_>) {
        let Alert { what, begin_ns, .. } = alert;
        self.early_alert = None;
        self.answer(Some(Response { members: Vec::new(), alert: Some(what), begin_ns }), ctx);
        self.write(ctx);
    }

    /// Writes the row that was answered.
    fn write(&mut self, ctx: &mut Context<'_>) {
        let Some((mut request, response)) = self.answered.take() else { return };
        ctx.config.redactor.redact_pii(&mut request.body, 0);
        self.counters.exchanges += 1;
        let of = RowOf { table: 0, time_unix_ns: response.begin_ns, requests: None, peer: None };
        ctx.rows.row(&of, &mut |builder| write_columns(builder, &request, &response));
    }

    /// Records are missing: a hello may be among them.
    fn lost(&mut self) {
        self.counters.resyncs += 1;
        self.counters.gap += self.waiting.drain(..).flatten().count() as u64;
        self.early_alert = None;
    }

    fn is_handshake_over(&self) -> bool {
        let is_encrypted = self.halves.iter().all(|half| half.is_encrypted);
        is_encrypted && self.waiting.is_empty() && !self.is_retrying
    }

    /// Writes what no alert can follow any more.
    fn settle(&mut self, ctx: &mut Context<'_>) {
        let is_late = self.answered.as_ref().is_some_and(|(_, response)| {
            ctx.now_unix_ns.saturating_sub(response.begin_ns) >= ALERT_WITHIN_NS
        });
        // What is none of the protocol's behind an answered hello is no reason to forget that.
        if is_late || self.is_handshake_over() || self.is_wrong() {
            self.write(ctx);
        }
    }
}

impl Parser for Tls {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        settle_both(streams, ctx.now_unix_ns);
        // What a client says first, as far as it is there, then its server: an answer behind its hello.
        loop {
            let asked = self.read(Side::Request, streams.requests, ctx);
            let answered = self.read(Side::Response, streams.responses, ctx);
            if !asked && !answered {
                break;
            }
        }
        self.settle(ctx);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_to_end(self, streams, ctx);
        // A server that warned, and left.
        if let Some(alert) = self.early_alert.filter(|alert| alert.side == Side::Response) {
            self.answer_by(alert, ctx);
        }
        self.write(ctx);
        self.counters.unanswered += self.waiting.drain(..).flatten().count() as u64;
        self.halves.iter_mut().for_each(Half::forget);
    }

    fn is_done(&self) -> bool {
        self.is_given_up || (self.is_handshake_over() && self.answered.is_none())
    }

    fn is_wrong(&self) -> bool {
        self.is_wrong || self.halves.iter().any(|half| half.reader.is_wrong())
    }

    fn is_waiting(&self) -> bool {
        self.answered.is_some()
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn held_bytes(&self) -> usize {
        let waiting = self.waiting.iter().flatten().map(|request| request.body.capacity());
        let answered = self.answered.as_ref();
        let answered = answered
            .map_or(0, |(request, response)| request.body.capacity() + response.members.capacity());
        waiting.sum::<usize>()
            + answered
            + self.halves.iter().map(|half| half.message.capacity()).sum::<usize>()
    }

    fn give_up(&mut self, _: &mut dyn Shared) {
        if self.held_bytes() > 0 {
            self.end();
        }
    }
}
