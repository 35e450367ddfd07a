//! The parser of one connection: packets off both streams, into rows.

use super::packet::packet;
use super::parse::{NoPacket, Packets};
use super::session::Session;
use super::stitch::{At, Pairing};
use super::table::write_row;
use super::types::CONNECT;
use crate::frames::{FrameReader, Loss, Next};
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::turns::{of_side, read_by_time, read_to_end};
use crate::{Counters, Side};

#[derive(Debug)]
pub(super) struct Mqtt {
    readers: [FrameReader; 2],
    /// What a side says is read: of a connection that was joined, from its first packet on.
    is_begun: [bool; 2],
    session: Session,
    pairing: Pairing,
    /// A packet has to wait.
    is_stalled: bool,
    is_closing: bool,
}

impl Mqtt {
    pub(super) fn new(from_start: bool) -> Mqtt {
        let readers =
            [Side::Request, Side::Response].map(|side| FrameReader::new(side, from_start));
        Mqtt {
            readers,
            is_begun: [from_start; 2],
            session: Session::default(),
            pairing: Pairing::new(from_start),
            is_stalled: false,
            is_closing: false,
        }
    }

    /// Reads one packet of a side. False if there is none.
    fn step(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &mut Context<'_>) -> bool {
        let stream = of_side(streams, side);
        let reader = &mut self.readers[side as usize];
        let framing = Packets { level: self.session.level() };
        let frame = match reader.next(stream, &framing, ctx.now_unix_ns) {
            Next::Wait => return false,
            Next::Lost(loss) => {
                self.lost(side, loss);
                return true;
            }
            Next::Frame(frame) => frame,
        };
        // Before that packet there is none: whenever the connection was joined, this is its beginning.
        let is_first = side == Side::Request && stream.unread()[0] >> 4 == CONNECT;
        if is_first && self.is_begun == [false; 2] && self.pairing.counters() == Counters::default()
        {
            self.pairing = Pairing::new(true);
            self.is_begun = [true; 2];
        }
        if !std::mem::replace(&mut self.is_begun[side as usize], true) {
            self.pairing.unsure_until(side, frame.time_unix_ns);
        }
        let bytes = &stream.unread()[..frame.seen_bytes];
        match packet(bytes, side, &mut self.session, ctx.config) {
            Ok(packet) => {
                let (begin_ns, now_unix_ns) = (frame.time_unix_ns, ctx.now_unix_ns);
                let at = At { begin_ns, now_unix_ns, is_closing: self.is_closing };
                if !self.pairing.is_ready(packet.role, at) {
                    self.is_stalled = true;
                    return false;
                }
                ctx.config.check_fault(&packet.body);
                reader.take(stream, frame);
                if let Some(row) = self.pairing.take(side, packet, at) {
                    write_row(&row, ctx.rows);
                }
            }
            Err(NoPacket::Invalid) => {
                let loss = reader.refuse(stream, ctx.now_unix_ns);
                self.lost(side, loss);
            }
            Err(NoPacket::Cut) => {
                // One packet of which too little is there; the next begins behind it.
                let loss = Loss::at(stream, ctx.now_unix_ns);
                reader.take(stream, frame);
                self.lost(side, loss);
            }
        }
        true
    }

    fn lost(&mut self, side: Side, loss: Loss) {
        self.session.lost(side);
        self.pairing.lost(side, loss);
    }
}

impl Parser for Mqtt {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.is_stalled = false;
        read_by_time(streams, ctx, |side, streams, ctx| self.step(side, streams, ctx));
        self.pairing.pass_time(ctx.now_unix_ns);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.is_closing = true;
        read_to_end(self, streams, ctx);
        self.is_stalled = false;
        self.pairing.close();
    }

    fn is_wrong(&self) -> bool {
        self.readers.iter().any(FrameReader::is_wrong)
    }

    fn is_waiting(&self) -> bool {
        self.is_stalled || self.pairing.is_waiting()
    }

    fn counters(&self) -> Counters {
        self.pairing.counters()
    }

    fn held_bytes(&self) -> usize {
        self.session.held_bytes() + self.pairing.held_bytes()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.pairing.give_up();
    }
}
