//! The parser of one connection: messages off both streams, into rows.

use weir_types::BatchBuilder;
use weir_types::tables::MongodbEventsRow;

use super::parse::{Messages, head};
use super::stitch::{Pair, Stitch};
use super::table::Maker;
use super::types::{Answer, Asked};
use crate::frames::{Frame, FrameReader, Next};
use crate::protocol::{Context, Parser, RowOf, Shared, Streams};
use crate::stream::StreamBuffer;
use crate::turns::{of_side, read_by_time, read_to_end};
use crate::{Counters, Side};

#[derive(Debug)]
pub(super) struct Mongodb {
    readers: [FrameReader; 2],
    stitch: Stitch,
    is_closing: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Yes,
    Later,
    /// It is none.
    No,
}

impl Mongodb {
    pub(super) fn new(from_start: bool) -> Mongodb {
        let readers =
            [Side::Request, Side::Response].map(|side| FrameReader::new(side, from_start));
        Mongodb { readers, stitch: Stitch::new(from_start), is_closing: false }
    }

    /// Reads one message of a side. False if there is none.
    fn step(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &mut Context<'_>) -> bool {
        let stream = of_side(streams, side);
        let reader = &mut self.readers[side as usize];
        let frame = match reader.next(stream, &Messages, ctx.now_unix_ns) {
            Next::Wait => return false,
            Next::Lost(loss) => {
                self.stitch.lost(side, loss.to_unix_ns);
                return true;
            }
            Next::Frame(frame) => frame,
        };
        let is_read = match side {
            Side::Request => self.request(stream, frame, ctx),
            Side::Response => self.response(stream, frame, ctx),
        };
        match is_read {
            Read::Later => return false,
            Read::Yes => {
                self.readers[side as usize].take(stream, frame);
            }
            Read::No => {
                let loss = self.readers[side as usize].refuse(stream, ctx.now_unix_ns);
                self.stitch.lost(side, loss.to_unix_ns);
            }
        }
        true
    }

    fn request(&mut self, stream: &StreamBuffer, frame: Frame, ctx: &mut Context<'_>) -> Read {
        let bytes = &stream.unread()[..frame.seen_bytes];
        let Some(head) = head(bytes) else { return Read::No };
        let maker = Maker { config: ctx.config };
        let Some(asked) = maker.request(&head, bytes) else { return Read::No };
        ctx.config.check_fault(&asked.body);
        if asked.is_one_way {
            if self.stitch.one_way(&asked) {
                write_row(&asked, &Answer::default(), frame.time_unix_ns, 0, ctx);
            }
        } else {
            let pair = self.stitch.request(head.request_id, asked, frame.time_unix_ns);
            self.write(pair, ctx);
        }
        Read::Yes
    }

    fn response(&mut self, stream: &StreamBuffer, frame: Frame, ctx: &mut Context<'_>) -> Read {
        let bytes = &stream.unread()[..frame.seen_bytes];
        let (Some(head), response_ns) = (head(bytes), frame.time_unix_ns) else {
            return Read::No;
        };
        // How it is to be read the request says, which may still come.
        let to = head.response_to;
        let is_ready = self.stitch.is_known_or_late(to, response_ns, ctx.now_unix_ns);
        if !self.is_closing && !is_ready {
            return Read::Later;
        }
        let maker = Maker { config: ctx.config };
        let Some(answer) = maker.response(&head, bytes, self.stitch.asked(to)) else {
            return Read::No;
        };
        let pair = self.stitch.response(to, answer, response_ns);
        self.write(pair, ctx);
        Read::Yes
    }

    fn write(&mut self, pair: Option<Pair>, ctx: &mut Context<'_>) {
        if let Some(pair) = pair {
            let Pair { asked, answer, begin_ns, time_unix_ns } = &pair;
            let latency_ns = time_unix_ns.saturating_sub(*begin_ns);
            write_row(asked, answer, *time_unix_ns, latency_ns, ctx);
            self.stitch.written(pair);
        }
    }
}

fn write_row(
    asked: &Asked,
    answer: &Answer,
    time_unix_ns: i64,
    latency_ns: i64,
    ctx: &mut Context<'_>,
) {
    ctx.rows.row(&RowOf::at(time_unix_ns), &mut |builder: &mut BatchBuilder| {
        let row = MongodbEventsRow {
            req_cmd: &asked.command,
            req_body: &asked.body,
            resp_status: answer.status.as_bytes(),
            resp_body: &answer.body,
            latency: latency_ns,
        };
        row.write(builder);
    });
}

impl Parser for Mongodb {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_by_time(streams, ctx, |side, streams, ctx| self.step(side, streams, ctx));
        self.stitch.pass_time(ctx.now_unix_ns);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.is_closing = true;
        read_to_end(self, streams, ctx);
        self.stitch.close();
    }

    fn is_wrong(&self) -> bool {
        self.readers.iter().any(FrameReader::is_wrong)
    }

    fn is_waiting(&self) -> bool {
        self.stitch.is_waiting()
    }

    fn counters(&self) -> Counters {
        self.stitch.counters()
    }

    fn held_bytes(&self) -> usize {
        self.stitch.held_bytes()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.stitch.give_up();
    }
}
