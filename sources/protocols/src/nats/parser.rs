//! The parser of one connection: operations off both streams, into rows.

use weir_types::BatchBuilder;
use weir_types::tables::NatsEventsBetaRow;

use super::parse::{Operations, whole_line};
use super::stitch::{Done, Pairing, Told};
use super::table::{asks_for_answers, push_body};
use super::types::Kind;
use crate::frames::{FrameReader, Next};
use crate::protocol::{Context, Parser, RowOf, Shared, Streams, shared_as};
use crate::turns::{of_side, read_by_time, read_to_end};
use crate::{Counters, REORDER_GRACE_NS, Side};

/// What the parsers of a thread share: rows on their way.
#[derive(Debug, Default)]
pub(super) struct OfThread {
    done: Vec<Done>,
}

impl Shared for OfThread {
    fn held_bytes(&self) -> usize {
        self.done.capacity() * size_of::<Done>()
    }
}

#[derive(Debug)]
pub(super) struct Nats {
    readers: [FrameReader; 2],
    /// What a side says is read: of a connection that was joined, from its first message on.
    is_begun: [bool; 2],
    pairing: Pairing,
    is_closing: bool,
}

impl Nats {
    pub(super) fn new(from_start: bool) -> Nats {
        let readers =
            [Side::Request, Side::Response].map(|side| FrameReader::new(side, from_start));
        Nats {
            readers,
            is_begun: [from_start; 2],
            pairing: Pairing::new(from_start),
            is_closing: false,
        }
    }

    /// Reads one operation of a side. False if there is none.
    fn step(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &mut Context<'_>) -> bool {
        let stream = of_side(streams, side);
        let reader = &mut self.readers[side as usize];
        let OfThread { done } = shared_as::<OfThread>(ctx.shared);
        let frame = match reader.next(stream, &Operations, ctx.now_unix_ns) {
            Next::Wait => return false,
            Next::Lost(loss) => {
                self.pairing.lost(loss.to_unix_ns, done);
                return true;
            }
            Next::Frame(frame) => frame,
        };
        if !std::mem::replace(&mut self.is_begun[side as usize], true) {
            self.pairing.unsure_until(frame.time_unix_ns);
        }
        let unread = &stream.unread()[..frame.seen_bytes];
        let ends_well = !frame.is_whole() || unread.ends_with(b"\n");
        let Some(line) = whole_line(unread).filter(|_| ends_well) else {
            let loss = reader.refuse(stream, ctx.now_unix_ns);
            self.pairing.lost(loss.to_unix_ns, done);
            return true;
        };
        let time_unix_ns = frame.time_unix_ns;
        // What it answers may still come: events of two directions overtake each other.
        let may_come =
            !self.is_closing && ctx.now_unix_ns.saturating_sub(time_unix_ns) < REORDER_GRACE_NS;
        if may_come && !self.pairing.expects(side, line.kind) {
            return false;
        }
        let kind = line.kind;
        let mut told = Told { time_unix_ns, kind, body: Vec::new(), fault: Vec::new() };
        push_body(&line, &unread[line.line_bytes..], ctx.config, &mut told.body);
        ctx.config.check_fault(&told.body);
        match side {
            Side::Request => {
                let asks = (kind == Kind::Connect).then(|| asks_for_answers(line.rest));
                self.pairing.client_says(told, asks, done);
            }
            Side::Response => {
                let answer = match kind {
                    Kind::Err => [b"-ERR ", line.rest].concat(),
                    Kind::Ok => b"+OK".to_vec(),
                    _ => Vec::new(),
                };
                self.pairing.server_says(told, answer, done);
            }
        }
        reader.take(stream, frame);
        true
    }

    fn write(&mut self, ctx: &mut Context<'_>) {
        let OfThread { done } = shared_as::<OfThread>(ctx.shared);
        for Done { time_unix_ns, told, response } in done.drain(..) {
            self.pairing.counters.exchanges += 1;
            let of = RowOf { table: 0, time_unix_ns, requests: None, peer: None };
            ctx.rows.row(&of, &mut |builder: &mut BatchBuilder| {
                let row = NatsEventsBetaRow {
                    cmd: told.kind.name().as_bytes(),
                    body: &told.body,
                    resp: &response,
                };
                row.write(builder);
            });
        }
    }
}

impl Parser for Nats {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_by_time(streams, ctx, |side, streams, ctx| {
            let has_read = self.step(side, streams, ctx);
            self.write(ctx);
            has_read
        });
        let OfThread { done } = shared_as::<OfThread>(ctx.shared);
        self.pairing.pass_time(ctx.now_unix_ns, done);
        self.write(ctx);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.is_closing = true;
        read_to_end(self, streams, ctx);
        self.pairing.close(&mut shared_as::<OfThread>(ctx.shared).done);
        self.write(ctx);
    }

    fn is_wrong(&self) -> bool {
        self.readers.iter().any(FrameReader::is_wrong)
    }

    fn is_waiting(&self) -> bool {
        self.pairing.is_waiting()
    }

    fn counters(&self) -> Counters {
        self.pairing.counters
    }

    fn held_bytes(&self) -> usize {
        self.pairing.held_bytes()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.pairing.give_up();
    }
}
