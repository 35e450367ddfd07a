//! The parser of one connection: frames off both streams, into rows.

use super::fragments::{Fragments, Part};
use super::parse::{FrameHead, Frames, frame_head};
use super::shape::Shape;
use super::stitch::{Message, Pairing, other};
use super::table::write_row;
use super::types::{
    Done, HEAD_BYTES, TINIT_CHECK, asks, has_fragments, is_discard, is_error, kind,
};
use crate::cursor::Cursor;
use crate::frames::{FrameReader, Loss, Next};
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::turns::{of_side, read_by_time, read_to_end_and_begun};
use crate::{Counters, Side};

#[derive(Debug)]
pub(super) struct Mux {
    readers: [FrameReader; 2],
    fragments: [Fragments; 2],
    pairing: Pairing,
}

impl Mux {
    pub(super) fn new(from_start: bool) -> Mux {
        let sides = [Side::Request, Side::Response];
        Mux {
            readers: sides.map(|side| FrameReader::new(side, from_start)),
            fragments: sides.map(|_| Fragments::new(from_start)),
            pairing: Pairing::new(from_start),
        }
    }

    /// Reads one frame of a side. False if there is none.
    fn step(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &mut Context<'_>) -> bool {
        let stream = of_side(streams, side);
        let reader = &mut self.readers[side as usize];
        let frame = match reader.next(stream, &Frames, ctx.now_unix_ns) {
            Next::Wait => return false,
            Next::Lost(loss) => {
                self.lost(side, loss);
                return true;
            }
            Next::Frame(frame) => frame,
        };
        let bytes = &stream.unread()[..frame.seen_bytes];
        let Some((head, part)) = self.told_apart(side, bytes) else {
            let loss = self.readers[side as usize].refuse(stream, ctx.now_unix_ns);
            self.lost(side, loss);
            return true;
        };
        let (body, at_ns) = (&bytes[HEAD_BYTES..], frame.time_unix_ns);
        if asks(head.kind) {
            ctx.config.check_fault(body);
        }
        if part == Part::Untold {
            self.lost(side, Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
        }
        let message = Message { kind: head.kind, tag: head.tag, time_unix_ns: at_ns };
        match part {
            Part::Begin => {
                if let Some(done) = self.message(side, message, body) {
                    write_row(&done, ctx.rows);
                }
            }
            Part::Unsure | Part::Untold if asks(head.kind) => self.pairing.missed(side),
            Part::Unsure | Part::Untold => self.pairing.may_answer(other(side), message),
            Part::More | Part::Wrong => {}
        }
        self.readers[side as usize].take(of_side(streams, side), frame);
        true
    }

    /// A frame's head, and which part of a message it is; `None`: it is none.
    fn told_apart(&mut self, side: Side, bytes: &[u8]) -> Option<(FrameHead, Part)> {
        let head = frame_head(side, bytes).ok()?;
        let (body, is_whole) = head.body(bytes);
        let shape = head.shape(body, is_whole);
        let part = match (has_fragments(head.kind), shape) {
            (true, shape) => self.fragments[side as usize].frame(&head, shape),
            (false, Shape::None) => Part::Wrong,
            (false, _) => Part::Begin,
        };
        (part != Part::Wrong).then_some((head, part))
    }

    /// A message begins; the row that it completes.
    fn message(&mut self, side: Side, message: Message, body: &[u8]) -> Option<Done> {
        let fragments = &mut self.fragments[side as usize];
        if is_discard(message.kind) {
            // What was to be discarded before all of it was sent.
            let discarded = Cursor::new(body).bytes(3).map(|tag| [0, tag[0], tag[1], tag[2]]);
            let tag = discarded.map_or(0, u32::from_be_bytes);
            fragments.broken_off([kind::TREQ, kind::TDISPATCH], tag);
        }
        if asks(message.kind) || self.is_check(side, message, body) {
            return self.pairing.asks(side, message);
        }
        let fragments = &mut self.fragments[side as usize];
        let breaks_off = is_error(message.kind) || message.kind == kind::RDISCARDED;
        // Its answer had begun, and that was the row.
        if breaks_off && fragments.broken_off([kind::RREQ, kind::RDISPATCH], message.tag) {
            return None;
        }
        self.pairing.answers(other(side), message)
    }

    /// A client asks with an error whether Tinit is known.
    fn is_check(&self, side: Side, message: Message, body: &[u8]) -> bool {
        side == Side::Request
            && is_error(message.kind)
            && body == TINIT_CHECK
            && !self.pairing.is_asked(Side::Response, message.tag)
    }

    fn lost(&mut self, side: Side, loss: Loss) {
        self.fragments[side as usize].lost();
        self.pairing.lost(side, loss.to_unix_ns);
    }
}

impl Parser for Mux {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_by_time(streams, ctx, |side, streams, ctx| self.step(side, streams, ctx));
        self.pairing.pass_time(ctx.now_unix_ns);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_to_end_and_begun(self, streams, ctx);
        self.pairing.close();
    }

    fn is_wrong(&self) -> bool {
        self.readers.iter().any(FrameReader::is_wrong)
    }

    fn is_waiting(&self) -> bool {
        self.pairing.is_waiting()
    }

    fn counters(&self) -> Counters {
        self.pairing.counters()
    }

    fn held_bytes(&self) -> usize {
        let fragments: usize = self.fragments.iter().map(Fragments::held_bytes).sum();
        self.pairing.held_bytes() + fragments
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.pairing.give_up();
    }
}
