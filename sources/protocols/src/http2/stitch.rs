//! Frames of both directions, in the order in which they were moved, become exchanges by stream.
//!
//! A row is written when both messages have ended, or the stream was reset, or the connection is over. A
//! response that ended before its request waits for a moment for the rest of it.

use std::collections::BTreeMap;

use super::exchange::{Exchange, Fields, Message};
use super::half::{Block, Half};
use super::hpack::Decoder;
use super::memo::BlockHead;
use super::parse::{FrameHead, Frames, content};
use super::table::write_columns;
use super::types::{
    BLOCK_BYTES_MAX, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_HEAD_BYTES, HEADERS,
    PREFACE, PUSH_PROMISE, RST_STREAM, STREAMS_BYTES_MAX, STREAMS_MAX,
};
use crate::frames::{Frame, Next};
use crate::protocol::{Context, Parser, RowOf, Shared, Streams};
use crate::redact::HeaderKind;
use crate::turns::{of_side, read_to_end, settle_both};
use crate::{Config, Counters, REORDER_GRACE_NS, Side};

/// How long a response that has ended waits for the end of its request.
const LINGER_NS: i64 = 1_000_000_000;
/// How long an exchange of which frames may be lost waits for others.
const AFTER_LOSS_NS: i64 = 10_000_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Http2 {
    halves: [Half; 2],
    streams: BTreeMap<u32, Exchange>,
    held_bytes: usize,
    /// The newest stream that a client began.
    newest: u32,
    is_joined: bool,
    had_loss: bool,
    /// Exchanges of which time decides; looked at again then.
    limbo: usize,
    next_look_ns: i64,
    counters: Counters,
}

impl Http2 {
    pub(super) fn new(from_start: bool) -> Http2 {
        Http2 {
            halves: [Half::new(Side::Request, from_start), Half::new(Side::Response, from_start)],
            streams: BTreeMap::new(),
            held_bytes: 0,
            newest: 0,
            is_joined: !from_start,
            had_loss: false,
            limbo: 0,
            next_look_ns: 0,
            counters: Counters::default(),
        }
    }

    /// Reads frames in the order of their times; of one time a request's first.
    fn read(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        let mut next = [Side::Request, Side::Response].map(|side| self.look(side, streams, ctx));
        loop {
            let side = match next {
                [Next::Lost(_), _] => Side::Request,
                [_, Next::Lost(_)] => Side::Response,
                [Next::Frame(one), Next::Frame(other)] => {
                    if other.time_unix_ns < one.time_unix_ns {
                        Side::Response
                    } else {
                        Side::Request
                    }
                }
                [Next::Frame(_), Next::Wait] => Side::Request,
                [Next::Wait, Next::Frame(_)] => Side::Response,
                [Next::Wait, Next::Wait] => return,
            };
            match next[side as usize] {
                Next::Frame(frame) => self.frame(side, frame, streams, ctx),
                _ => self.lost(side),
            }
            next[side as usize] = self.look(side, streams, ctx);
        }
    }

    fn look(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &Context<'_>) -> Next {
        let (half, stream) = (&mut self.halves[side as usize], of_side(streams, side));
        match half.reader.next(stream, &Frames, ctx.now_unix_ns) {
            Next::Frame(frame) => {
                half.look_at_memo(stream);
                match half.holds(stream.unread(), &frame, ctx.now_unix_ns) {
                    true => Next::Wait,
                    false => Next::Frame(frame),
                }
            }
            next => next,
        }
    }

    fn frame(
        &mut self,
        side: Side,
        frame: Frame,
        streams: &mut Streams<'_>,
        ctx: &mut Context<'_>,
    ) {
        let stream = of_side(streams, side);
        let bytes = &stream.unread()[..frame.seen_bytes];
        if bytes.starts_with(&PREFACE[..1]) && bytes == PREFACE {
            self.begins();
        } else if let Some(head) = FrameHead::of(bytes) {
            self.take(side, head, &bytes[FRAME_HEAD_BYTES..], &frame, ctx);
        }
        self.halves[side as usize].reader.take(stream, frame);
    }

    /// The client begins: nothing was sent before.
    fn begins(&mut self) {
        for half in &mut self.halves {
            if !half.has_blocks {
                half.decoder = Decoder::new(true);
            }
        }
        self.is_joined = false;
    }

    fn take(
        &mut self,
        side: Side,
        head: FrameHead,
        payload: &[u8],
        frame: &Frame,
        ctx: &mut Context<'_>,
    ) {
        let half = &mut self.halves[side as usize];
        if head.kind != CONTINUATION && half.block.is_some() {
            // Nothing may come between the parts of a block.
            half.forget();
        }
        match head.kind {
            DATA => self.data(side, head, payload, frame, ctx),
            HEADERS | PUSH_PROMISE => {
                let is_promise = head.kind == PUSH_PROMISE;
                let Some(mut bytes) = content(head, payload) else { return half.forget() };
                let mut stream = head.stream;
                if is_promise {
                    let Some((number, rest)) = bytes.split_first_chunk::<4>() else {
                        return half.forget();
                    };
                    (stream, bytes) = (u32::from_be_bytes(*number) & 0x7fff_ffff, rest);
                }
                half.block = Some(Block {
                    stream,
                    is_promise,
                    ends_stream: head.has(END_STREAM) && !is_promise,
                    begin_ns: frame.time_unix_ns,
                    bytes: Vec::new(),
                    is_cut: false,
                });
                self.more(side, head, bytes, frame, ctx);
            }
            CONTINUATION => match &half.block {
                Some(block) if block.stream == head.stream || block.is_promise => {
                    self.more(side, head, payload, frame, ctx);
                }
                _ => half.forget(),
            },
            RST_STREAM => self.end(head.stream, ctx),
            _ => {}
        }
    }

    /// A part of a header block.
    fn more(
        &mut self,
        side: Side,
        head: FrameHead,
        bytes: &[u8],
        frame: &Frame,
        ctx: &mut Context<'_>,
    ) {
        let half = &mut self.halves[side as usize];
        let Some(block) = &mut half.block else { return };
        let room = BLOCK_BYTES_MAX - block.bytes.len();
        block.is_cut |= !frame.is_whole() || bytes.len() > room;
        if !block.is_cut {
            block.bytes.extend_from_slice(bytes);
        }
        if head.has(END_HEADERS)
            && let Some(block) = half.block.take()
        {
            let is_known = !block.is_cut;
            half.last = is_known.then(|| [BlockHead::of(&block.bytes), BlockHead::of(bytes)]);
            self.block(side, block, ctx);
        }
    }

    fn block(&mut self, side: Side, block: Block, ctx: &mut Context<'_>) {
        let half = &mut self.halves[side as usize];
        half.has_blocks = true;
        let hides = ctx.config.redactor.header(b"authorization") == HeaderKind::Secret;
        let mut fields = Fields::default();
        let is_read = !block.is_cut
            && half
                .decoder
                .decode(&block.bytes, |field| fields.push(field.name, field.value, hides))
                .is_ok();
        if !is_read {
            half.decoder.forget();
            self.had_loss = true;
        }
        let fields = is_read.then_some(fields);
        let side = if block.is_promise { Side::Request } else { side };
        match side {
            Side::Request => self.request(&block, fields, ctx),
            Side::Response => self.response(&block, fields, ctx),
        }
        self.settle_stream(block.stream, ctx);
    }

    fn request(&mut self, block: &Block, fields: Option<Fields>, ctx: &Context<'_>) {
        let is_new = block.is_promise || block.stream > self.newest || self.is_joined;
        if !block.is_promise {
            self.newest = self.newest.max(block.stream);
        }
        let exchange = match self.streams.get_mut(&block.stream) {
            Some(exchange) => exchange,
            None if is_new => self.streams.entry(block.stream).or_default(),
            // It was reset.
            None => return,
        };
        exchange.last_ns = block.begin_ns;
        match (&mut exchange.request, fields) {
            (Some(request), fields) => {
                if let Some(trailers) = fields {
                    request.add_trailers(&trailers);
                }
                request.is_ended |= block.ends_stream;
            }
            (None, Some(fields)) if fields.begin_message() => {
                let mut request = Message::new(fields, block.begin_ns, ctx.config);
                // A request that a server makes up is whole.
                request.is_ended = block.ends_stream || block.is_promise;
                exchange.request = Some(request);
            }
            // Of one whose beginning was not seen.
            (None, _) => exchange.is_lost = true,
        }
    }

    fn response(&mut self, block: &Block, fields: Option<Fields>, ctx: &Context<'_>) {
        let may_be_early = block.stream > self.newest && !block.stream.is_multiple_of(2);
        let exchange = match self.streams.get_mut(&block.stream) {
            Some(exchange) => exchange,
            None if may_be_early => self.streams.entry(block.stream).or_default(),
            None => {
                // The answer to what was asked before it was watched, or what was reset.
                let begins = fields.is_some_and(|fields| fields.begin_message());
                self.counters.unpaired += u64::from(self.is_joined && begins);
                self.counters.gap += u64::from(!self.is_joined && self.had_loss && begins);
                return;
            }
        };
        exchange.last_ns = block.begin_ns;
        match (&mut exchange.response, fields) {
            (Some(response), fields) => {
                if let Some(trailers) = fields {
                    response.add_trailers(&trailers);
                }
                response.is_ended |= block.ends_stream;
            }
            (None, Some(fields)) if fields.begin_message() => {
                // One that another follows says nothing yet.
                if !(100..200).contains(&fields.status()) || fields.status() == 101 {
                    let mut response = Message::new(fields, block.begin_ns, ctx.config);
                    response.is_ended = block.ends_stream;
                    exchange.response = Some(response);
                }
            }
            (None, _) => {
                exchange.after_loss = true;
                exchange.is_lost |= block.ends_stream;
            }
        }
    }

    fn data(
        &mut self,
        side: Side,
        head: FrameHead,
        payload: &[u8],
        frame: &Frame,
        ctx: &mut Context<'_>,
    ) {
        let Some(exchange) = self.streams.get_mut(&head.stream) else { return };
        exchange.last_ns = frame.time_unix_ns;
        if let Some(message) = exchange.message(side) {
            let seen = content(head, payload).unwrap_or_default();
            message.body.push(seen);
            let unseen = frame.total_bytes - frame.seen_bytes as u64;
            let padding = match (head.flags & super::types::PADDED, payload.first()) {
                (0, _) | (_, None) => 0,
                (_, Some(padding)) => u64::from(*padding),
            };
            message.body.push_gap(unseen.saturating_sub(padding));
            message.is_ended |= head.has(END_STREAM);
        }
        self.settle_stream(head.stream, ctx);
    }

    /// Frames of a direction are missing.
    fn lost(&mut self, side: Side) {
        self.halves[side as usize].forget();
        self.had_loss = true;
        self.counters.resyncs += 1;
        for exchange in self.streams.values_mut() {
            exchange.after_loss = true;
            if let Some(message) = exchange.message(side)
                && !message.is_ended
            {
                message.body.mark_cut();
                exchange.may_lack = true;
            }
        }
        self.limbo = self.streams.len();
    }

    /// Something has come of a stream: writes it if it is over, and keeps all within their bounds.
    fn settle_stream(&mut self, number: u32, ctx: &mut Context<'_>) {
        let Some(exchange) = self.streams.get_mut(&number) else { return };
        if exchange.is_over() {
            return self.end(number, ctx);
        }
        let now = exchange.held_bytes();
        self.held_bytes = self.held_bytes + now - exchange.counted_bytes;
        exchange.counted_bytes = now;
        self.limbo += usize::from(exchange.is_in_limbo());
        while self.streams.len() > STREAMS_MAX || self.held_bytes > STREAMS_BYTES_MAX {
            let Some((_, exchange)) = self.streams.pop_first() else { return };
            self.held_bytes -= exchange.counted_bytes;
            self.counters.given_up += 1;
        }
    }

    /// Nothing more comes of a stream.
    fn end(&mut self, number: u32, ctx: &mut Context<'_>) {
        let Some(exchange) = self.streams.remove(&number) else { return };
        self.held_bytes -= exchange.counted_bytes;
        self.finish(exchange, ctx);
    }

    fn finish(&mut self, exchange: Exchange, ctx: &mut Context<'_>) {
        let is_after_loss = exchange.after_loss || exchange.is_lost;
        match (exchange.request, exchange.response) {
            (Some(request), Some(mut response)) => {
                if !response.is_ended {
                    response.body.mark_cut();
                }
                self.counters.gap += u64::from(exchange.may_lack);
                self.write(&request, &response, ctx);
            }
            (None, None) if !exchange.is_lost => {}
            _ if is_after_loss => self.counters.gap += 1,
            (Some(_), None) => self.counters.unanswered += 1,
            (None, _) if self.is_joined => self.counters.unpaired += 1,
            (None, _) if self.had_loss => self.counters.gap += 1,
            (None, _) => self.counters.unasked += 1,
        }
    }

    fn write(&mut self, request: &Message, response: &Message, ctx: &mut Context<'_>) {
        let config: &Config = ctx.config;
        config.check_fault(request.path());
        self.counters.exchanges += 1;
        let of = RowOf { table: 0, time_unix_ns: response.begin_ns, requests: None, peer: None };
        ctx.rows.row(&of, &mut |builder| write_columns(builder, request, response, config));
    }

    /// Ends what time has decided.
    fn pass_time(&mut self, ctx: &mut Context<'_>) {
        if self.limbo == 0 || ctx.now_unix_ns < self.next_look_ns {
            return;
        }
        self.next_look_ns = ctx.now_unix_ns.saturating_add(REORDER_GRACE_NS);
        self.limbo = 0;
        let mut over = Vec::new();
        for (number, exchange) in &self.streams {
            let within_ns = match (&exchange.request, &exchange.response) {
                (Some(_), Some(response)) if response.is_ended => LINGER_NS,
                (None, _) if !exchange.is_lost => REORDER_GRACE_NS,
                _ if exchange.after_loss && exchange.response.is_some() => AFTER_LOSS_NS,
                _ => continue,
            };
            match ctx.now_unix_ns.saturating_sub(exchange.last_ns) >= within_ns {
                true => over.push(*number),
                false => self.limbo += 1,
            }
        }
        over.into_iter().for_each(|number| self.end(number, ctx));
    }
}

impl Parser for Http2 {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        settle_both(streams, ctx.now_unix_ns);
        self.read(streams, ctx);
        self.pass_time(ctx);
    }

    fn memo(&mut self, side: Side, position: u64, bytes: &[u8]) {
        self.halves[side as usize].remember(position, bytes);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.halves.iter_mut().for_each(Half::expect_nothing);
        read_to_end(self, streams, ctx);
        for exchange in std::mem::take(&mut self.streams).into_values() {
            self.finish(exchange, ctx);
        }
        (self.held_bytes, self.limbo) = (0, 0);
    }

    fn is_wrong(&self) -> bool {
        self.halves.iter().any(|half| half.reader.is_wrong())
    }

    fn is_waiting(&self) -> bool {
        self.limbo > 0 || self.halves.iter().any(Half::is_holding)
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes + self.halves.iter().map(Half::held_bytes).sum::<usize>()
    }

    fn give_up(&mut self, _: &mut dyn Shared) {
        self.counters.given_up += self.streams.len() as u64;
        self.streams = BTreeMap::new();
        (self.held_bytes, self.limbo) = (0, 0);
        self.halves.iter_mut().for_each(Half::forget);
        self.had_loss = true;
    }
}
