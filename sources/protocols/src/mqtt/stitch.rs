//! Which answer is whose: by packet id and direction, since both ends ask.

use super::parse::{NoPacket, Packets, packet};
use super::table::write_row;
use super::types::{Kept, Key, Role};
use crate::by_id::{ById, Limits, Pair};
use crate::frames::{Frame, FrameReader, Loss, Next, settle, settle_first_holes};
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::stream::StreamBuffer;
use crate::{Config, Counters, REORDER_GRACE_NS, Side};

/// What waits on one connection, a direction; clients have at most 65,535 packets under way, and mostly 20.
const LIMITS: Limits = Limits {
    requests_max: 8_192,
    bytes_max: 1 << 20,
    answer_within_ns: 3_600_000_000_000,
    ids_repeat: true,
};

#[derive(Debug)]
pub(super) struct Mqtt {
    readers: [FrameReader; 2],
    /// Requests of the client, and of the server.
    asked: [ById<Key, Kept, Kept>; 2],
    level: Option<u8>,
    /// Rows of packets that nothing answers.
    one_way: u64,
}

impl Mqtt {
    pub(super) fn new(from_start: bool) -> Mqtt {
        let book = || ById::new(from_start, LIMITS);
        Mqtt {
            readers: [Side::Request, Side::Response].map(|side| FrameReader::new(side, from_start)),
            asked: [book(), book()],
            level: None,
            one_way: 0,
        }
    }

    fn read(&mut self, side: Side, stream: &mut StreamBuffer, ctx: &mut Context<'_>) {
        settle(stream, ctx.now_unix_ns);
        loop {
            match self.readers[side as usize].next(stream, &Packets, ctx.now_unix_ns) {
                Next::Frame(frame) => self.packet(side, frame, stream, ctx),
                Next::Lost(loss) => self.lost(side, loss),
                Next::Wait => break,
            }
        }
        for book in &mut self.asked {
            while let Some(Pair { request, response, begin_ns, response_ns }) = book.settled() {
                let answer = Some((&response, response_ns));
                write_row(ctx.rows, ctx.config, &request, begin_ns, answer);
            }
        }
    }

    /// Packets of a side are missing: what it asks, and what it answers.
    fn lost(&mut self, side: Side, loss: Loss) {
        let other = side as usize ^ 1;
        self.asked[side as usize].lost(Side::Request, loss.to_unix_ns);
        self.asked[other].lost(Side::Response, loss.to_unix_ns);
    }

    fn packet(
        &mut self,
        side: Side,
        frame: Frame,
        stream: &mut StreamBuffer,
        ctx: &mut Context<'_>,
    ) {
        let reader = &mut self.readers[side as usize];
        let bytes = &stream.unread()[..frame.seen_bytes];
        let begin_ns = frame.time_unix_ns;
        let packet = match packet(bytes, self.level, ctx.config) {
            Ok(packet) => packet,
            Err(NoPacket::Invalid) => {
                let loss = reader.refuse(stream, ctx.now_unix_ns);
                return self.lost(side, loss);
            }
            Err(NoPacket::Cut) => {
                // One packet of which too little is there; the next begins behind it.
                let loss = Loss::at(stream, ctx.now_unix_ns);
                reader.take(stream, frame);
                return self.lost(side, loss);
            }
        };
        reader.take(stream, frame);
        self.level = packet.level.or(self.level);
        let kept = Kept { kind: packet.kind, body: packet.body };
        self.take(side, packet.role, kept, begin_ns, ctx);
    }

    fn take(&mut self, side: Side, role: Role, kept: Kept, begin_ns: i64, ctx: &mut Context<'_>) {
        let config: &Config = ctx.config;
        match role {
            Role::OneWay => {
                self.one_way += 1;
                write_row(ctx.rows, config, &kept, begin_ns, None);
            }
            Role::Request(key) => {
                let book = &mut self.asked[side as usize];
                if let Some((request, answer, answer_ns)) = book.request(key, kept, begin_ns) {
                    let answer = Some((&answer, answer_ns));
                    write_row(ctx.rows, config, &request, begin_ns, answer);
                }
            }
            Role::Answer(key) => {
                let book = &mut self.asked[side as usize ^ 1];
                if let Some((request, answer, asked_ns)) = book.response(key, kept, begin_ns) {
                    write_row(ctx.rows, config, &request, asked_ns, Some((&answer, begin_ns)));
                }
            }
        }
    }
}

impl Parser for Mqtt {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.read(Side::Request, streams.requests, ctx);
        self.read(Side::Response, streams.responses, ctx);
        for book in &mut self.asked {
            book.pass_time(ctx.now_unix_ns);
        }
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
        self.asked.iter_mut().for_each(ById::close);
    }

    fn is_wrong(&self) -> bool {
        self.readers.iter().any(FrameReader::is_wrong)
    }

    fn is_waiting(&self) -> bool {
        self.asked.iter().any(ById::is_waiting)
    }

    fn counters(&self) -> Counters {
        let mut counters = Counters { exchanges: self.one_way, ..Counters::default() };
        self.asked.iter().for_each(|book| counters.add(book.counters));
        counters
    }

    fn held_bytes(&self) -> usize {
        self.asked.iter().map(ById::held_bytes).sum()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.asked.iter_mut().for_each(ById::give_up);
    }
}
