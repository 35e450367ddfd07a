//! What the server says: whose response it is, and where that ends.

use super::{Mysql, Reading, Turn};
use crate::frames::{Frame, Loss, Next};
use crate::in_order::{Asked as _, Owner};
use crate::mysql::packed::Unpacker;
use crate::mysql::parse::{Packet, Packets};
use crate::mysql::place::{Behind, Pack, Place};
use crate::mysql::recognise::is_end_of_rows;
use crate::mysql::results::Step;
use crate::mysql::table::write_row;
use crate::mysql::types::{Command, command, is_stream, status};
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
                // What is missing between two responses is one at least, or the end of one that has begun.
                let at_least = match self.reading {
                    Reading::Response => 1,
                    Reading::Nothing => u64::from(self.is_end_known),
                    Reading::Skipped { .. } => 0,
                };
                let within = match self.reading {
                    Reading::Nothing => None,
                    // Without a number it may have any.
                    Reading::Response | Reading::Skipped { .. } => self.last_number.or(Some(0)),
                };
                self.behind = self.behind.or(Some(Behind { from: self.known_to, within }));
                let loss = pack.map_or(loss, |pack| pack.loss(loss));
                self.responses_lost(loss, Some(at_least), ctx);
                return Turn::Taken;
            }
            Next::Frame(frame) => frame,
        };
        let bytes = &stream.unread()[..frame.seen_bytes];
        let Some(packet) = Packet::of(bytes, frame.total_bytes) else {
            let loss = Loss::at(stream, ctx.now_unix_ns);
            self.responses.take(stream, frame);
            self.responses_lost(loss, None, ctx);
            return Turn::Taken;
        };
        let place = match pack {
            Some(pack) => pack.place(stream.position()),
            None => Place::of_packet(&packet, self.last_number),
        };
        let end = stream.position() + frame.total_bytes;
        if let Some(behind) = self.behind.take() {
            if pack.is_none() && is_end_of_rows(&packet) {
                // Of what is missing; what comes behind it may still belong to that.
                self.behind = Some(Behind { from: end, within: Some(packet.number) });
                self.queue.heard(frame.time_unix_ns);
                self.known_to = end;
                self.responses.take(stream, frame);
                return Turn::Taken;
            }
            if behind.may_be_row(&packet, stream.position()) {
                self.queue.is_unsure();
            }
        }
        let heard = self.response(&packet, place, pack.is_some(), &frame, ctx);
        match heard {
            Heard::Wait => return Turn::Waits,
            Heard::Wrong => {
                // Of one that is cut it is not known what follows; it is passed over, with the response's end.
                let is_cut = !frame.is_whole() && self.reading == Reading::Response;
                self.behind = Some(Behind { from: self.known_to, within: Some(packet.number) });
                let loss = self.responses.refuse(stream, ctx.now_unix_ns);
                self.responses_lost(loss, is_cut.then_some(1), ctx);
                return Turn::Taken;
            }
            Heard::Taken | Heard::Over(_) => {}
        }
        // Behind a greeting any number may come.
        let is_greeting = packet.number == 0 && self.reading == Reading::Nothing;
        self.is_end_known |= is_greeting;
        self.last_number = (!is_greeting).then_some(packet.number);
        self.known_to = end;
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
                self.responses_lost(loss, None, ctx);
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
        let skipped_ns = match self.reading {
            Reading::Skipped { begin_ns } => Some(begin_ns),
            Reading::Nothing | Reading::Response => None,
        };
        if !place.begins() && (skipped_ns.is_some() || !self.is_end_known) {
            // More of what has ended or is nobody's; or the answer to what was asked, or is still to be read.
            self.passed_ns = self.passed_ns.max(Some(at_ns));
            self.queue.heard(at_ns);
            let is_expected = |one: &Command| one.last_number.wrapping_add(1) == place.number;
            let mut asked = self.queue.requests().take_while(|one| one.begin_ns <= at_ns);
            let may_answer = asked.any(is_expected);
            drop(asked);
            if may_answer {
                self.queue.is_unsure();
            }
            return Some(Heard::Taken);
        }
        if let Some(begin_ns) = skipped_ns {
            self.queue.unowned(begin_ns, self.results.end_ns.max(begin_ns));
            self.reading = Reading::Nothing;
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
                    self.queue
                        .responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns }, None);
                }
                self.reading = Reading::Skipped { begin_ns: at_ns };
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
        let code = self.queue.front().map(|front| front.code);
        // What a replica asked for has begun: a stream of its own.
        self.is_done |= code.is_some_and(is_stream) && self.results.status == status::OK;
        if code == Some(command::CONNECT) {
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
        let Some(command) = self.queue.answered(begin_ns, end_ns) else { return };
        if command.is_owed() {
            let response = (self.results.status, self.results.text.as_slice());
            write_row(ctx.rows, ctx.config, &command, response, begin_ns);
        }
    }

    /// The answer to the login, which is the front command, will not come.
    fn login_lost(&mut self, ctx: &mut Context<'_>) {
        let Some(command) = self.queue.drop_front() else { return };
        self.counters.gap += u64::from(command.is_owed());
        let at_ns = command.begin_ns;
        self.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns }, None, ctx);
    }

    /// Responses are missing, at least so many if that is known. What has come of one is shown.
    fn responses_lost(&mut self, loss: Loss, at_least: Option<u64>, ctx: &mut Context<'_>) {
        match std::mem::replace(&mut self.reading, Reading::Nothing) {
            Reading::Nothing => self.queue.responses_lost(loss, at_least),
            Reading::Response => {
                self.results.status = status::UNKNOWN;
                self.end_response(ctx);
                self.queue.response_broken(loss, at_least);
            }
            Reading::Skipped { begin_ns } => {
                self.queue.unowned_part(begin_ns, self.results.end_ns.max(begin_ns));
                self.queue.responses_lost(loss, at_least);
            }
        }
        (self.last_number, self.is_end_known) = (None, false);
        self.logs_in = false;
    }
}

/// What this may depend on can still come: events of two directions overtake each other.
fn may_come(at_ns: i64, ctx: &Context<'_>) -> bool {
    ctx.now_unix_ns.saturating_sub(at_ns) < REORDER_GRACE_NS
}
