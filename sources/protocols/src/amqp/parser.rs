//! The parser of one connection: frames off both streams, into rows.

use weir_types::BatchBuilder;
use weir_types::tables::AmqpEventsRow;

use super::parse::{Frames, body_bytes, frame_head, method, payload};
use super::stitch::{Done, Pairing};
use super::table::told;
use super::types::{FrameType, METHOD_FRAME, Said, Told};
use crate::frames::{Frame, FrameReader, Next};
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
pub(super) struct Amqp {
    readers: [FrameReader; 2],
    /// What a side says is read: of a connection that was joined, from its first message on.
    is_begun: [bool; 2],
    pairing: Pairing,
    is_closing: bool,
}

/// What a frame says.
enum Says<'a> {
    /// And its arguments, which are read when they are wanted.
    Method(Said, &'a [u8]),
    Content {
        channel: u16,
        body_bytes: u64,
    },
    /// Nothing that rows show.
    Nothing,
}

impl Amqp {
    pub(super) fn new(from_start: bool) -> Amqp {
        let readers =
            [Side::Request, Side::Response].map(|side| FrameReader::new(side, from_start));
        Amqp {
            readers,
            is_begun: [from_start; 2],
            pairing: Pairing::new(from_start),
            is_closing: false,
        }
    }

    /// Reads one frame of a side. False if there is none.
    fn step(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &mut Context<'_>) -> bool {
        let stream = of_side(streams, side);
        let reader = &mut self.readers[side as usize];
        let OfThread { done } = shared_as::<OfThread>(ctx.shared);
        let frame = match reader.next(stream, &Frames, ctx.now_unix_ns) {
            Next::Wait => return false,
            Next::Lost(loss) => {
                self.pairing.lost(side, loss.to_unix_ns, done);
                return true;
            }
            Next::Frame(frame) => frame,
        };
        if !std::mem::replace(&mut self.is_begun[side as usize], true) {
            self.pairing.unsure_until(frame.time_unix_ns);
        }
        let Some(says) = says(&stream.unread()[..frame.seen_bytes], frame) else {
            let loss = reader.refuse(stream, ctx.now_unix_ns);
            self.pairing.lost(side, loss.to_unix_ns, done);
            return true;
        };
        match says {
            Says::Method(said, arguments) => {
                // What it answers may still come: events of two directions overtake each other.
                let may_come = !self.is_closing
                    && ctx.now_unix_ns.saturating_sub(said.time_unix_ns) < REORDER_GRACE_NS;
                if may_come && !self.pairing.expects(side, &said) {
                    return false;
                }
                let (text, no_wait) = told(said.method, arguments, ctx.config);
                ctx.config.check_fault(&text);
                self.pairing.method(side, Told { said, text, no_wait }, done);
            }
            Says::Content { channel, body_bytes } => {
                self.pairing.content(side, channel, body_bytes, done);
            }
            Says::Nothing => {}
        }
        reader.take(stream, frame);
        true
    }

    fn write(&mut self, ctx: &mut Context<'_>) {
        let OfThread { done } = shared_as::<OfThread>(ctx.shared);
        for row in done.drain(..) {
            self.pairing.counters.exchanges += 1;
            write_row(&row, ctx.rows);
        }
    }
}

/// Class and method, in front of its arguments.
const METHOD_NUMBERS_BYTES: usize = 4;

/// `None`: it is no frame after all, or nobody knows what it says.
fn says(bytes: &[u8], frame: Frame) -> Option<Says<'_>> {
    let head = frame_head(bytes).ok()?;
    if head.frame_type == FrameType::ProtocolHeader {
        return Some(Says::Nothing);
    }
    let payload = payload(bytes, &head)?;
    Some(match head.frame_type {
        FrameType::Method => {
            if payload.len() < METHOD_NUMBERS_BYTES {
                return None;
            }
            // Of an extension that is not known.
            let Some((method, arguments)) = method(&head, payload) else {
                return Some(Says::Nothing);
            };
            let (time_unix_ns, channel) = (frame.time_unix_ns, head.channel);
            Says::Method(Said { time_unix_ns, channel, method }, arguments)
        }
        FrameType::ContentHeader => match body_bytes(payload) {
            Some(body_bytes) => Says::Content { channel: head.channel, body_bytes },
            None => Says::Nothing,
        },
        _ => Says::Nothing,
    })
}

fn write_row(row: &Done, rows: &mut dyn crate::protocol::Rows) {
    let Done { request, response } = row;
    let (asked, answer) = (&request.said, response.as_ref().map(|told| told.said));
    let time_unix_ns = answer.map_or(asked.time_unix_ns, |said| said.time_unix_ns);
    let latency_ns = time_unix_ns.saturating_sub(asked.time_unix_ns).max(0);
    let numbers = |said: &Said| (i64::from(said.method.class_id), i64::from(said.method.method_id));
    let (req_class_id, req_method_id) = numbers(asked);
    let (resp_class_id, resp_method_id) = answer.as_ref().map_or((0, 0), numbers);
    let of = RowOf { table: 0, time_unix_ns, requests: None, peer: None };
    rows.row(&of, &mut |builder: &mut BatchBuilder| {
        let row = AmqpEventsRow {
            frame_type: METHOD_FRAME,
            channel: i64::from(asked.channel),
            req_class_id,
            req_method_id,
            resp_class_id,
            resp_method_id,
            req_msg: &request.text,
            resp_msg: response.as_ref().map_or(b"", |told| &told.text),
            latency: latency_ns,
        };
        row.write(builder);
    });
}

impl Parser for Amqp {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_by_time(streams, ctx, |side, streams, ctx| {
            let has_read = self.step(side, streams, ctx);
            self.write(ctx);
            has_read
        });
        self.pairing.pass_time(ctx.now_unix_ns);
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
