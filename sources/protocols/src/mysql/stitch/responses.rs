//! What the server says: whose response it is, and where that ends.

use super::{Mysql, Reading, Turn};
use crate::frames::{Frame, Loss, Next};
use crate::in_order::Owner;
use crate::mysql::packed::Unpacker;
use crate::mysql::parse::{Packet, Packets};
use crate::mysql::place::{Pack, Place};
use crate::mysql::results::Step;
use crate::mysql::table::write_row;
use crate::mysql::types::{Command, command, status};
use crate::protocol::Context;
use crate::stream::StreamBuffer;
use crate::{REORDER_GRACE_NS, Side};

/// What became of a packet of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Wait,
    Taken,
    Over(Step),
    Wrong,
}

impl Mysql {
    /// Reads a packet of the server's.
    pub(super) fn next_response(
        &mut self,
        stream: &mut StreamBuffer,
        pack: Option<Pack>,
        ctx: &mut Context<'_>,
    ) -> Turn {
        let frame = match self.responses.next(stream, &Packets, ctx.now_unix_ns) {
            Next::Wait => return Turn::Over,
            Next::Lost(loss) => {
                self.responses_lost(pack.map_or(loss, |pack| pack.loss(loss)), ctx);
                return Turn::Taken;
            }
            Next::Frame(frame) => frame,
        };
        let bytes = &stream.unread()[..frame.seen_bytes];
        let Some(packet) = Packet::of(bytes, frame.total_bytes) else {
            let loss = Loss::at(stream, ctx.now_unix_ns);
            self.responses.take(stream, frame);
            self.responses_lost(loss, ctx);
            return Turn::Taken;
        };
        let place = match pack {
            Some(pack) => pack.place(stream.position()),
            None => Place::of_packet(&packet, self.last_number),
        };
        let heard = self.response(&packet, place, pack.is_some(), &frame, ctx);
        match heard {
            Heard::Wait => return Turn::Waits,
            Heard::Wrong => {
                let loss = self.responses.refuse(stream, ctx.now_unix_ns);
                self.responses_lost(loss, ctx);
                return Turn::Taken;
            }
            Heard::Taken | Heard::Over(_) => {}
        }
        // Behind a greeting any number may come.
        let has_number = packet.number > 0 || self.reading != Reading::Nothing;
        self.last_number = has_number.then_some(packet.number);
        self.results.end_ns = self.responses.take(stream, frame);
        if let Heard::Over(step) = heard {
            self.over(step, ctx);
        }
        Turn::Taken
    }

    /// A packet of the server's.
    fn response(
        &mut self,
        packet: &Packet<'_>,
        place: Place,
        is_packed: bool,
        frame: &Frame,
        ctx: &mut Context<'_>,
    ) -> Heard {
        let at_ns = frame.time_unix_ns;
        let code = self.queue.front().map_or(0, |front| front.code);
        if self.reading == Reading::Response && place.begins() {
            let interleaves = self.results.may_interleave(code);
            if !interleaves && !is_packed {
                return Heard::Wrong;
            }
            if !interleaves || !self.expects(place) {
                if interleaves && may_come(at_ns, ctx) {
                    return Heard::Wait;
                }
                // Another one begins: the end of this one could not be told.
                let loss =
                    Loss { from_unix_ns: self.results.begin_ns, to_unix_ns: self.results.end_ns };
                self.responses_lost(loss, ctx);
            }
        }
        if self.reading != Reading::Response
            && let Some(heard) = self.outside(packet, place, is_packed, at_ns, ctx)
        {
            return heard;
        }
        let Some(code) = self.queue.front().map(|front| front.code) else { return Heard::Wrong };
        if code == command::CONNECT || !self.results.has_begun {
            // Logged in, or not, with the last word; and what says how far it is, is no answer.
            self.results.begin_ns = at_ns;
        }
        match self.results.packet(code, packet, self.abilities) {
            Step::Goes => Heard::Taken,
            Step::Wrong => Heard::Wrong,
            step @ (Step::Over | Step::Prepared { .. }) => Heard::Over(step),
        }
    }

    /// A packet that is not within a response that is known. `None`: one begins with it.
    fn outside(
        &mut self,
        packet: &Packet<'_>,
        place: Place,
        is_packed: bool,
        at_ns: i64,
        ctx: &mut Context<'_>,
    ) -> Option<Heard> {
        // No response begins so: a greeting, also one of which too little was seen to tell.
        if !is_packed && packet.number == 0 {
            return Some(Heard::Taken);
        }
        if !place.begins() && (self.reading == Reading::Skipped || !self.is_end_known) {
            // More of what has ended or is nobody's; or the answer to what was asked, or is still to be read.
            self.queue.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
            return Some(Heard::Taken);
        }
        let logs_in = |front: &Command| front.code == command::CONNECT;
        if place.number == 1 && self.queue.front().is_some_and(logs_in) {
            // A login is packet 1 itself: its answer went by unseen, and this is a later one's.
            self.login_lost(ctx);
        }
        match self.queue.owner(at_ns, ctx.now_unix_ns) {
            Owner::Wait => Some(Heard::Wait),
            Owner::Front if self.expects(place) => {
                self.reading = Reading::Response;
                self.results.begin(at_ns);
                None
            }
            // The rest of its command may still come.
            Owner::Front if may_come(at_ns, ctx) => Some(Heard::Wait),
            owner => {
                if owner == Owner::Front {
                    self.queue.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
                }
                self.reading = Reading::Skipped;
                self.queue.unowned(at_ns, at_ns);
                Some(Heard::Taken)
            }
        }
    }

    /// Whether the front command's response begins, or goes on behind the client's last packet, so.
    fn expects(&self, place: Place) -> bool {
        let next = |front: &Command| front.last_number.wrapping_add(1) == place.number;
        place.is_first && self.queue.front().is_some_and(next)
    }

    /// The response that is being read has ended.
    fn over(&mut self, step: Step, ctx: &mut Context<'_>) {
        self.is_end_known = self.results.is_end_known;
        if let (Step::Prepared { id, parameters }, Some(front)) = (step, self.queue.front()) {
            let text = front.body.clone();
            self.session.prepare(id, text, Some(parameters));
        }
        let is_login = self.queue.front().is_some_and(|front| front.code == command::CONNECT);
        if is_login {
            self.logs_in = false;
            let packing = self.abilities.packing().filter(|_| self.results.status == status::OK);
            self.packed = packing.map(|packing| {
                Box::new([Side::Request, Side::Response].map(|side| Unpacker::new(side, packing)))
            });
        }
        self.end_response(ctx);
    }

    /// It has ended, or no more of it will be known.
    pub(super) fn end_response(&mut self, ctx: &mut Context<'_>) {
        self.reading = Reading::Nothing;
        let (begin_ns, end_ns) =
            (self.results.begin_ns, self.results.end_ns.max(self.results.begin_ns));
        let Some(front) = self.queue.front() else { return };
        self.waiting_text_bytes = self.waiting_text_bytes.saturating_sub(front.body.capacity());
        if front.is_given_up {
            self.queue.drop_front();
            return;
        }
        let Some((command, _)) = self.queue.answered(begin_ns, end_ns) else { return };
        let response = (self.results.status, self.results.text.as_slice());
        write_row(ctx.rows, ctx.config, &command, response, begin_ns);
    }

    /// The answer to the login, which is the front command, will not come.
    fn login_lost(&mut self, ctx: &mut Context<'_>) {
        let Some((command, at_ns)) = self.queue.drop_front() else { return };
        self.waiting_text_bytes = self.waiting_text_bytes.saturating_sub(command.body.capacity());
        self.counters.gap += 1;
        self.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns }, ctx);
    }

    fn responses_lost(&mut self, loss: Loss, ctx: &mut Context<'_>) {
        if self.reading == Reading::Response {
            self.results.status = status::UNKNOWN;
            self.end_response(ctx);
        }
        self.reading = Reading::Nothing;
        (self.last_number, self.is_end_known) = (None, false);
        self.logs_in = false;
        self.queue.responses_lost(loss);
    }
}

/// What this may depend on can still come: events of two directions overtake each other.
fn may_come(at_ns: i64, ctx: &Context<'_>) -> bool {
    ctx.now_unix_ns.saturating_sub(at_ns) < REORDER_GRACE_NS
}
