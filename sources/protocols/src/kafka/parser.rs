//! The parser of one connection: frames off both streams, into rows.

use weir_types::BatchBuilder;
use weir_types::tables::KafkaEventsBetaRow;

use super::decode::Topics;
use super::parse::{Frames, Pairing, correlation_id, header};
use super::stitch::pairing;
use super::table::Maker;
use super::types::Asked;
use crate::frames::{Frame, FrameReader, Next};
use crate::protocol::{Context, Parser, RowOf, Shared, Streams, shared_as};
use crate::stream::StreamBuffer;
use crate::turns::{of_side, read_by_time, read_to_end};
use crate::{Counters, Side};

/// What the parsers of a thread share: names of topics, which have ids of their own.
#[derive(Debug, Default)]
pub(super) struct OfThread {
    topics: Topics,
}

impl Shared for OfThread {
    fn held_bytes(&self) -> usize {
        self.topics.held_bytes()
    }
}

#[derive(Debug)]
pub(super) struct Kafka {
    readers: [FrameReader; 2],
    pairing: Pairing,
    is_closing: bool,
}

impl Kafka {
    pub(super) fn new(from_start: bool) -> Kafka {
        let readers =
            [Side::Request, Side::Response].map(|side| FrameReader::new(side, from_start));
        Kafka { readers, pairing: pairing(from_start), is_closing: false }
    }

    /// Reads one frame of a side. False if there is none.
    fn step(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &mut Context<'_>) -> bool {
        let stream = of_side(streams, side);
        let reader = &mut self.readers[side as usize];
        let frame = match reader.next(stream, &Frames(&self.pairing), ctx.now_unix_ns) {
            Next::Wait => return false,
            Next::Lost(loss) => {
                self.pairing.lost(side, loss.to_unix_ns);
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
                self.pairing.lost(side, loss.to_unix_ns);
            }
        }
        true
    }

    fn request(&mut self, stream: &StreamBuffer, frame: Frame, ctx: &mut Context<'_>) -> Read {
        let bytes = &stream.unread()[..frame.seen_bytes];
        let Some(header) = header(bytes) else { return Read::No };
        let OfThread { topics } = shared_as::<OfThread>(ctx.shared);
        let mut maker = Maker { topics, redactor: &ctx.config.redactor };
        let (body, is_one_way) = maker.request(bytes, &header);
        ctx.config.check_fault(&body);
        let asked = Asked {
            api_key: header.api_key,
            api_version: header.api_version,
            client_id: header.client_id.to_vec(),
            body,
        };
        if is_one_way {
            self.pairing.counters.exchanges += 1;
            write_row(&asked, b"", frame.time_unix_ns, 0, ctx);
        } else {
            let pair = self.pairing.request(header.correlation_id, asked, frame.time_unix_ns);
            if let Some((asked, response, response_ns)) = pair {
                let latency_ns = response_ns.saturating_sub(frame.time_unix_ns);
                write_row(&asked, &response, response_ns, latency_ns, ctx);
            }
        }
        Read::Yes
    }

    fn response(&mut self, stream: &StreamBuffer, frame: Frame, ctx: &mut Context<'_>) -> Read {
        let bytes = &stream.unread()[..frame.seen_bytes];
        let response_ns = frame.time_unix_ns;
        let Some(id) = correlation_id(bytes) else {
            // Where it ends is known, not whose it is.
            self.pairing.lost(Side::Response, response_ns);
            return Read::Yes;
        };
        // How it is to be read the request says, which may still come.
        if !self.is_closing && !self.pairing.is_known_or_late(&id, response_ns, ctx.now_unix_ns) {
            return Read::Later;
        }
        let body = match self.pairing.waiting(&id) {
            Some(asked) => {
                let OfThread { topics } = shared_as::<OfThread>(ctx.shared);
                Maker { topics, redactor: &ctx.config.redactor }.response(bytes, asked)
            }
            None => Vec::new(),
        };
        let pair = self.pairing.response(id, body, response_ns);
        if let Some((asked, body, request_ns)) = pair {
            let latency_ns = response_ns.saturating_sub(request_ns);
            write_row(&asked, &body, response_ns, latency_ns, ctx);
        }
        Read::Yes
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Yes,
    Later,
    /// It is none.
    No,
}

fn write_row(
    asked: &Asked,
    response: &[u8],
    time_unix_ns: i64,
    latency_ns: i64,
    ctx: &mut Context<'_>,
) {
    let of = RowOf { table: 0, time_unix_ns, requests: None, peer: None };
    ctx.rows.row(&of, &mut |builder: &mut BatchBuilder| {
        let row = KafkaEventsBetaRow {
            req_cmd: i64::from(asked.api_key),
            client_id: &asked.client_id,
            req_body: &asked.body,
            resp: response,
            latency: latency_ns,
        };
        row.write(builder);
    });
}

impl Parser for Kafka {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_by_time(streams, ctx, |side, streams, ctx| self.step(side, streams, ctx));
        self.pairing.pass_time(ctx.now_unix_ns);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.is_closing = true;
        read_to_end(self, streams, ctx);
        self.pairing.close();
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
