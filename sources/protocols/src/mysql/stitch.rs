//! Which response answers which command: the first one the first.
//!
//! A response begins with the number behind its command's last one, and each of its packets has the next
//! number: where that is not so, something is missing, and nothing is paired until it is certain again. Some
//! commands are never answered; they are rows at once.

use super::command::{Reading as CommandReading, login_text};
use super::login::{Abilities, Hello};
use super::packed::Unpacker;
use super::parse::{PAYLOAD_BYTES_MAX, Packet, Packets};
use super::place::{Pack, Place};
use super::results::{Results, Step};
use super::session::Session;
use super::table::write_row;
use super::types::{Command, command, is_command, is_one_way, status};
use crate::frames::{Frame, FrameReader, Loss, Next, settle, settle_first_holes};
use crate::in_order::{InOrder, Owner};
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::stream::StreamBuffer;
use crate::turns::by_time;
use crate::{Counters, REORDER_GRACE_NS, Side};

/// What commands that wait may show in all; those beyond it get no row.
const WAITING_TEXT_BYTES_MAX: usize = 1 << 20;

/// What the server's next packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    /// The front command's response, which has begun.
    Response,
    /// What is nobody's.
    Skipped,
}

/// The client's last packet.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    number: u8,
    payload_bytes: u64,
    /// What it belongs to waits for an answer, and is the last that does.
    is_queued: bool,
}

impl Last {
    /// Whether a packet goes on with what it began: a long command, or a file.
    fn goes_on(self, packet: &Packet<'_>) -> bool {
        self.payload_bytes > 0 && self.number == u8::MAX && packet.number == 0
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Mysql {
    requests: FrameReader,
    responses: FrameReader,
    /// Of either side, once both have agreed to pack.
    packed: Option<Box<[Unpacker; 2]>>,
    queue: InOrder<Command>,
    waiting_text_bytes: usize,
    session: Session,
    last_prepared: Vec<u8>,
    abilities: Abilities,
    results: Results,
    reading: Reading,
    last_request: Last,
    /// Number of the server's last packet; `None` where the next one may have any.
    last_number: Option<u8>,
    /// The last response has ended where it was said to.
    is_end_known: bool,
    /// A login is under way.
    logs_in: bool,
    /// The client has not said yet who it is.
    is_new: bool,
    is_done: bool,
    counters: Counters,
}

impl Mysql {
    pub(super) fn new(from_start: bool) -> Mysql {
        Mysql {
            requests: FrameReader::new(Side::Request, from_start),
            responses: FrameReader::new(Side::Response, from_start),
            packed: None,
            queue: InOrder::new(from_start),
            waiting_text_bytes: 0,
            session: Session::default(),
            last_prepared: Vec::new(),
            abilities: Abilities::default(),
            results: Results::default(),
            reading: Reading::Nothing,
            last_request: Last::default(),
            last_number: None,
            is_end_known: true,
            logs_in: false,
            is_new: from_start,
            is_done: false,
            counters: Counters::default(),
        }
    }

    /// Reads a packet of the client's. `pack`: what the stream brought last, if it is unpacked.
    fn next_request(
        &mut self,
        stream: &mut StreamBuffer,
        pack: Option<Pack>,
        ctx: &mut Context<'_>,
    ) -> Turn {
        let frame = match self.requests.next(stream, &Packets, ctx.now_unix_ns) {
            Next::Wait => return Turn::Over,
            Next::Lost(loss) => {
                self.requests_lost(pack.map_or(loss, |pack| pack.loss(loss)));
                return Turn::Taken;
            }
            Next::Frame(frame) => frame,
        };
        let bytes = &stream.unread()[..frame.seen_bytes];
        let Some(packet) = Packet::of(bytes, frame.total_bytes) else {
            // Too little of it is there to say what it is.
            let loss = Loss::at(stream, ctx.now_unix_ns);
            self.requests.take(stream, frame);
            self.requests_lost(loss);
            return Turn::Taken;
        };
        // A command is packed if the login succeeds, which is not known yet.
        if self.logs_in && packet.number == 0 && self.abilities.packing().is_some() {
            return Turn::Waits;
        }
        let place = match pack {
            Some(pack) => pack.place(stream.position()),
            None => Place::of_packet(&packet, None),
        };
        // A command can begin in one pack and end in the next.
        let last_number = pack.map_or(place.number, Pack::number);
        if self.request(&packet, place, last_number, &frame, ctx) {
            self.requests.take(stream, frame);
        } else {
            let loss = self.requests.refuse(stream, ctx.now_unix_ns);
            self.requests_lost(loss);
        }
        Turn::Taken
    }

    fn requests_lost(&mut self, loss: Loss) {
        self.is_new = false;
        self.last_request = Last::default();
        self.queue.requests_lost(loss);
    }

    /// A packet of the client's. False if it is none.
    fn request(
        &mut self,
        packet: &Packet<'_>,
        place: Place,
        last_number: u8,
        frame: &Frame,
        ctx: &mut Context<'_>,
    ) -> bool {
        let before = self.last_request;
        let goes_on = packet.number > 0 || before.goes_on(packet) || place.continues;
        self.last_request = Last {
            number: packet.number,
            payload_bytes: packet.payload_bytes,
            is_queued: before.is_queued && goes_on,
        };
        if self.is_new && packet.number > 0 {
            self.is_new = false;
            return self.hello(packet, frame);
        }
        // What follows a long command, a file, or what is said within a login.
        if goes_on {
            self.goes_on_to(last_number);
            if before.payload_bytes < PAYLOAD_BYTES_MAX {
                self.check_asked(frame.time_unix_ns);
            }
            return true;
        }
        self.is_new = false;
        // Behind a loss it may be a part of the file that is being sent.
        if self.reading == Reading::Response && self.results.takes_file && !before.is_queued {
            return false;
        }
        let Some(code) = packet.first() else { return packet.payload_bytes > 0 };
        if !is_command(code) {
            return false;
        }
        let mut reading = CommandReading {
            session: &mut self.session,
            abilities: self.abilities,
            last_prepared: &mut self.last_prepared,
            config: ctx.config,
        };
        let body = reading.body(packet);
        let begin_ns = frame.time_unix_ns;
        let command = Command { code, body, is_given_up: false, begin_ns, last_number };
        if is_one_way(code) {
            self.counters.exchanges += 1;
            write_row(ctx.rows, ctx.config, &command, (status::NONE, b""), begin_ns);
            return true;
        }
        self.is_done |=
            matches!(code, command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::TABLE_DUMP);
        if !self.is_done {
            self.push(command);
        }
        true
    }

    /// What the client has begun goes on up to that number.
    fn goes_on_to(&mut self, last_number: u8) {
        if self.last_request.is_queued
            && let Some(command) = self.queue.last_mut()
        {
            command.last_number = last_number;
        }
    }

    /// More comes behind a whole packet: the server has asked for it, or what was taken for a command is a part
    /// of a file.
    fn check_asked(&mut self, at_ns: i64) {
        let is_file = self.reading == Reading::Response && self.results.takes_file;
        let is_file = is_file && self.queue.waits() == 1;
        let Some(last) = self.queue.last_mut().filter(|_| self.last_request.is_queued) else {
            return;
        };
        let is_talk = matches!(last.code, command::CONNECT | command::CHANGE_USER);
        if !is_talk && !is_file && !last.is_given_up {
            last.is_given_up = true;
            self.counters.gap += 1;
            self.queue.requests_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
        }
    }

    fn hello(&mut self, packet: &Packet<'_>, frame: &Frame) -> bool {
        match Hello::of(packet.payload) {
            Some(Hello::Tls) => self.is_done = true,
            Some(Hello::Login { user, db, abilities }) => {
                self.abilities = abilities;
                self.logs_in = true;
                self.push(Command {
                    code: command::CONNECT,
                    body: login_text(user, db),
                    is_given_up: false,
                    begin_ns: frame.time_unix_ns,
                    last_number: packet.number,
                });
            }
            None => return false,
        }
        true
    }

    fn push(&mut self, mut command: Command) {
        command.is_given_up =
            self.waiting_text_bytes + command.body.capacity() > WAITING_TEXT_BYTES_MAX;
        if command.is_given_up {
            command.body = Vec::new();
            self.counters.given_up += 1;
        }
        self.waiting_text_bytes += command.body.capacity();
        let begin_ns = command.begin_ns;
        self.queue.push(command, begin_ns);
        self.last_request.is_queued = true;
        if self.queue.waits() == 1 {
            // The queue may have begun anew.
            self.waiting_text_bytes = self.queue.requests().map(|one| one.body.capacity()).sum();
        }
    }

    /// Reads a packet of the server's.
    fn next_response(
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
            match self.queue.front().is_some_and(|front| front.begin_ns <= at_ns) {
                true => {
                    self.queue.responses_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
                }
                false => self.queue.heard(at_ns),
            }
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
    fn end_response(&mut self, ctx: &mut Context<'_>) {
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

    fn read(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        settle(streams.requests, ctx.now_unix_ns);
        settle(streams.responses, ctx.now_unix_ns);
        if self.packed.is_none() {
            while !self.is_done
                && self.packed.is_none()
                && by_time(streams).into_iter().any(|side| self.step(side, streams, ctx))
            {
            }
            if self.packed.is_some() {
                self.requests = FrameReader::new(Side::Request, true);
                self.responses = FrameReader::new(Side::Response, true);
            }
        }
        if let Some(mut packed) = self.packed.take() {
            self.read_packed(&mut packed, streams, ctx);
            self.packed = Some(packed);
        }
    }

    /// Reads a packet of a side. False if there is none.
    fn step(&mut self, side: Side, streams: &mut Streams<'_>, ctx: &mut Context<'_>) -> bool {
        let turn = match side {
            Side::Request => self.next_request(streams.requests, None, ctx),
            Side::Response => self.next_response(streams.responses, None, ctx),
        };
        turn == Turn::Taken
    }

    /// Reads pack by pack, since packets have their numbers from there.
    fn read_packed(
        &mut self,
        [requests, responses]: &mut [Unpacker; 2],
        streams: &mut Streams<'_>,
        ctx: &mut Context<'_>,
    ) {
        loop {
            let pack = Some(responses.pack());
            let turn = loop {
                match self.next_response(responses.stream(), pack, ctx) {
                    Turn::Taken if !self.is_done => {}
                    turn => break turn,
                }
            };
            let order = by_time(streams);
            let mut fills = |side| match side {
                Side::Request => {
                    let fills = requests.fill(streams.requests, ctx.now_unix_ns);
                    fills.then_some(side)
                }
                // What is there is read first.
                Side::Response => {
                    let fills =
                        turn == Turn::Over && responses.fill(streams.responses, ctx.now_unix_ns);
                    fills.then_some(side)
                }
            };
            match order.into_iter().find_map(&mut fills) {
                None => return,
                Some(Side::Response) => {}
                Some(Side::Request) => self.read_requests(requests, ctx),
            }
        }
    }

    /// Reads what a pack has brought.
    fn read_requests(&mut self, requests: &mut Unpacker, ctx: &mut Context<'_>) {
        let pack = requests.pack();
        while !self.is_done && self.next_request(requests.stream(), Some(pack), ctx) == Turn::Taken
        {
        }
        if pack.continues() && requests.stream().unread().is_empty() {
            self.goes_on_to(pack.number());
        }
    }
}

/// What became of the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Something was read.
    Taken,
    /// Something else has to come first.
    Waits,
    /// There is nothing.
    Over,
}

/// What this may depend on can still come: events of two directions overtake each other.
fn may_come(at_ns: i64, ctx: &Context<'_>) -> bool {
    ctx.now_unix_ns.saturating_sub(at_ns) < REORDER_GRACE_NS
}

/// What became of a packet of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Wait,
    Taken,
    Over(Step),
    Wrong,
}

impl Parser for Mysql {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.read(streams, ctx);
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
        if self.reading == Reading::Response {
            self.results.status = status::UNKNOWN;
            self.end_response(ctx);
        }
        self.reading = Reading::Nothing;
        self.queue.close();
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn is_wrong(&self) -> bool {
        let packed_wrong = |packed: &[Unpacker; 2]| packed.iter().any(Unpacker::is_wrong);
        self.requests.is_wrong()
            || self.responses.is_wrong()
            || self.packed.as_deref().is_some_and(packed_wrong)
    }

    fn is_waiting(&self) -> bool {
        self.queue.is_waiting()
    }

    fn counters(&self) -> Counters {
        let mut counters = self.queue.counters;
        counters.add(self.counters);
        counters
    }

    fn held_bytes(&self) -> usize {
        let packed =
            |packed: &[Unpacker; 2]| packed.iter().map(Unpacker::held_bytes).sum::<usize>();
        self.queue.held_bytes()
            + self.waiting_text_bytes
            + self.session.held_bytes()
            + self.last_prepared.capacity()
            + self.results.text.capacity()
            + self.packed.as_deref().map_or(0, packed)
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.queue.give_up();
        self.last_request = Last::default();
        self.session.clear();
        self.waiting_text_bytes = 0;
        if self.reading == Reading::Response {
            self.reading = Reading::Skipped;
        }
    }
}
