//! The parser of one connection: frames off both streams, or off segments in them, into rows.

use super::fits::{Fit, fit_as};
use super::parse::{Body, Frames, Wire, frame_head};
use super::requests::{Reading, packing};
use super::responses::{prepared, text};
use super::segments::{SEGMENT_BYTES_MAX, SegmentHead, Unpacked};
use super::session::{Known, OfThread, Statement, Statements};
use super::stitch::{Pairing, pairing};
use super::table::write_row;
use super::types::{Head, Said, flag, opcode};
use super::unpack::Packing;
use super::values::Type;
use crate::frames::{Frame, FrameReader, Next};
use crate::protocol::{Context, Parser, Shared, Streams, shared_as};
use crate::stream::StreamBuffer;
use crate::turns::{of_side, read_to_end, settle_both};
use crate::{Counters, REORDER_GRACE_NS, Side};

#[derive(Debug)]
pub(super) struct Cql {
    readers: [FrameReader; 2],
    wires: [Wire; 2],
    /// What segments have brought, of either side.
    unpacked: [Option<Box<Unpacked>>; 2],
    /// Everything of a side was read so far.
    is_all_read: [bool; 2],
    packing: Option<Packing>,
    statements: Statements,
    pairing: Pairing,
    is_closing: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Yes,
    Later,
    /// It is none.
    No,
}

const SIDES: [Side; 2] = [Side::Request, Side::Response];

impl Cql {
    pub(super) fn new(from_start: bool) -> Cql {
        let reader = |side| FrameReader::new(side, from_start).seeing(SEGMENT_BYTES_MAX);
        Cql {
            readers: SIDES.map(reader),
            wires: [Wire::Either; 2],
            unpacked: [None, None],
            is_all_read: [from_start; 2],
            packing: None,
            statements: Statements::own(),
            pairing: pairing(from_start),
            is_closing: false,
        }
    }

    /// The sides, that of the earlier next byte first.
    fn by_time(&self, streams: &mut Streams<'_>) -> [Side; 2] {
        let [requests, responses] = SIDES.map(|side| {
            let unpacked = self.unpacked[side as usize].as_ref();
            let inner_ns = unpacked.and_then(|unpacked| unpacked.next_ns());
            inner_ns.or(of_side(streams, side).next_byte_ns()).unwrap_or(i64::MAX)
        });
        match responses < requests {
            true => [Side::Response, Side::Request],
            false => SIDES,
        }
    }

    /// Reads one frame of a side, or a segment. False if there is none.
    fn step(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &mut Context<'_>) -> bool {
        if let Some(mut unpacked) = self.unpacked[side as usize].take() {
            let Unpacked { stream, reader, wants_more, .. } = unpacked.as_mut();
            let next = reader.next(stream, &Frames(Wire::Frames), ctx.now_unix_ns);
            let is_over = match next {
                Next::Wait => {
                    *wants_more = true;
                    None
                }
                Next::Lost(loss) => {
                    self.pairing.lost(side, loss.to_unix_ns);
                    Some(true)
                }
                Next::Frame(frame) => Some(self.frame(side, stream, reader, frame, ctx)),
            };
            self.unpacked[side as usize] = Some(unpacked);
            if let Some(is_over) = is_over {
                return is_over;
            }
        }
        let (stream, wire) = (of_side(streams, side), self.wires[side as usize]);
        let mut reader = self.readers[side as usize];
        let is_read = match reader.next(stream, &Frames(wire), ctx.now_unix_ns) {
            Next::Wait => false,
            Next::Lost(loss) => {
                self.lost(side, loss.to_unix_ns);
                true
            }
            Next::Frame(frame) => {
                let bytes = &stream.unread()[..frame.seen_bytes];
                match wire.segment(bytes) {
                    Some(head) => {
                        self.segment(side, &head, bytes, frame);
                        reader.take(stream, frame);
                        true
                    }
                    None => self.frame(side, stream, &mut reader, frame, ctx),
                }
            }
        };
        self.readers[side as usize] = reader;
        is_read
    }

    fn lost(&mut self, side: Side, at_unix_ns: i64) {
        self.is_all_read[side as usize] = false;
        self.pairing.lost(side, at_unix_ns);
        if let Some(unpacked) = &mut self.unpacked[side as usize] {
            unpacked.lose(at_unix_ns);
        }
    }

    fn segment(&mut self, side: Side, head: &SegmentHead, bytes: &[u8], frame: Frame) {
        self.wires[side as usize] = Wire::Segments(Some(head.shape));
        // One that is joined may begin within a frame.
        let from_start = self.is_all_read[side as usize] || head.is_self_contained;
        let unpacked = self.unpacked[side as usize]
            .get_or_insert_with(|| Box::new(Unpacked::new(side, from_start)));
        unpacked.fill(head, bytes, frame);
    }

    /// Reads the frame in front of a stream. False if that has to be done later.
    fn frame(
        &mut self,
        side: Side,
        stream: &mut StreamBuffer,
        reader: &mut FrameReader,
        frame: Frame,
        ctx: &mut Context<'_>,
    ) -> bool {
        match self.read(&stream.unread()[..frame.seen_bytes], frame.time_unix_ns, ctx) {
            Read::Later => return false,
            Read::Yes => {
                reader.take(stream, frame);
            }
            Read::No => {
                let loss = reader.refuse(stream, ctx.now_unix_ns);
                self.pairing.lost(side, loss.to_unix_ns);
            }
        }
        true
    }

    fn read(&mut self, bytes: &[u8], begin_ns: i64, ctx: &mut Context<'_>) -> Read {
        let Ok(head) = frame_head(bytes) else { return Read::No };
        let is_agreed = !matches!(head.opcode, opcode::OPTIONS | opcode::SUPPORTED | opcode::ERROR);
        if is_agreed && !head.version.may_have_segments() {
            self.wires = [Wire::Frames; 2];
        }
        if head.has(flag::PACKED) && self.packing.is_none() {
            let fits = |packing: &Packing| fit_as(&head, bytes, Some(*packing)) != Fit::No;
            self.packing = [Packing::Lz4, Packing::Snappy].into_iter().find(fits);
        }
        match head.side {
            Side::Request => self.request(&head, bytes, begin_ns, ctx),
            Side::Response => self.response(&head, bytes, begin_ns, ctx),
        }
    }

    fn request(&mut self, head: &Head, bytes: &[u8], begin_ns: i64, ctx: &mut Context<'_>) -> Read {
        // Its stream is free, so there is a response: events of two directions overtake each other.
        let is_early = ctx.now_unix_ns.saturating_sub(begin_ns) < REORDER_GRACE_NS;
        if is_early && !self.is_closing && self.pairing.waiting(&head.stream).is_some() {
            return Read::Later;
        }
        let body = Body::of(head, bytes, self.packing);
        let walk = Body::walk_or_nothing(body.as_ref(), head);
        if head.opcode == opcode::STARTUP {
            self.packing = packing(walk);
        }
        let of_thread = shared_as::<OfThread>(ctx.shared);
        let known = Known { own: &mut self.statements, of_thread };
        let text = Reading { known, config: ctx.config }.text(head, walk);
        ctx.config.check_fault(&text);
        let asked = Said { opcode: head.opcode, text };
        if let Some((asked, answer, response_ns)) =
            self.pairing.request(head.stream, asked, begin_ns)
        {
            write_row(&asked, &answer, (begin_ns, response_ns), ctx);
        }
        Read::Yes
    }

    fn response(
        &mut self,
        head: &Head,
        bytes: &[u8],
        begin_ns: i64,
        ctx: &mut Context<'_>,
    ) -> Read {
        let is_push = head.opcode == opcode::EVENT;
        // Its request may still come.
        let may_read = is_push
            || self.is_closing
            || self.pairing.is_known_or_late(&head.stream, begin_ns, ctx.now_unix_ns);
        if !may_read {
            return Read::Later;
        }
        let body = Body::of(head, bytes, self.packing);
        let walk = Body::walk_or_nothing(body.as_ref(), head);
        let answer = Said { opcode: head.opcode, text: text(head, walk, ctx.config) };
        if is_push {
            self.pairing.counters.exchanges += 1;
            let asked = Said { opcode: opcode::REGISTER, text: Vec::new() };
            write_row(&asked, &answer, (begin_ns, begin_ns), ctx);
            return Read::Yes;
        }
        let Some((asked, answer, request_ns)) =
            self.pairing.response(head.stream, answer, begin_ns)
        else {
            return Read::Yes;
        };
        if asked.opcode == opcode::PREPARE
            && let Some((id, types)) = prepared(head, walk)
        {
            self.remember(id, &asked.text, types, ctx);
        }
        write_row(&asked, &answer, (request_ns, begin_ns), ctx);
        Read::Yes
    }

    fn remember(&mut self, id: &[u8], text: &[u8], types: Vec<Type>, ctx: &mut Context<'_>) {
        let of_thread = shared_as::<OfThread>(ctx.shared);
        let statement = Statement { text: text.to_vec(), types };
        Known { own: &mut self.statements, of_thread }.prepare(id, statement);
    }
}

impl Parser for Cql {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        settle_both(streams, ctx.now_unix_ns);
        while self.by_time(streams).into_iter().any(|side| self.step(side, streams, ctx)) {}
        self.pairing.pass_time(ctx.now_unix_ns);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.is_closing = true;
        read_to_end(self, streams, ctx);
        self.pairing.close();
    }

    fn is_wrong(&self) -> bool {
        let unpacked = self.unpacked.iter().flatten().map(|unpacked| &unpacked.reader);
        self.readers.iter().chain(unpacked).any(FrameReader::is_wrong)
    }

    fn is_waiting(&self) -> bool {
        self.pairing.is_waiting()
    }

    fn counters(&self) -> Counters {
        self.pairing.counters
    }

    fn held_bytes(&self) -> usize {
        let unpacked = self.unpacked.iter().flatten();
        let unpacked = unpacked.map(|one| size_of::<Unpacked>() + one.stream.held_bytes());
        self.pairing.held_bytes() + self.statements.held_bytes() + unpacked.sum::<usize>()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.pairing.give_up();
        self.statements.clear();
        for unpacked in self.unpacked.iter_mut().flatten() {
            unpacked.stream.forget_unread();
        }
    }
}
