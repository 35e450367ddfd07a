//! Which response answers which command: the first one the first.
//!
//! A response begins with packet number 1, and each of its packets has the next number: where that is not
//! so, something is missing. Some commands are never answered; they are rows at once.

use super::command::{Reading as CommandReading, login_text};
use super::login::{Abilities, Hello, is_greeting};
use super::packed::Unpacker;
use super::parse::{Packet, Packets};
use super::results::{Results, Step};
use super::session::Session;
use super::table::write_row;
use super::types::{Command, command, is_command, is_one_way, status};
use crate::frames::{Frame, FrameReader, Loss, Next, settle, settle_first_holes};
use crate::in_order::{InOrder, Owner};
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::stream::StreamBuffer;
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
    /// It went on with the one before, over the highest number.
    has_wrapped: bool,
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
    /// Packed packets are numbered anew with each flush: their numbers say nothing.
    has_numbers: bool,
    queue: InOrder<Command>,
    waiting_text_bytes: usize,
    session: Session,
    last_prepared: Vec<u8>,
    abilities: Abilities,
    results: Results,
    reading: Reading,
    last_request: Last,
    last_number: u8,
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
            has_numbers: true,
            queue: InOrder::new(from_start),
            waiting_text_bytes: 0,
            session: Session::default(),
            last_prepared: Vec::new(),
            abilities: Abilities::default(),
            results: Results::default(),
            reading: Reading::Nothing,
            last_request: Last::default(),
            last_number: 0,
            logs_in: false,
            is_new: from_start,
            is_done: false,
            counters: Counters::default(),
        }
    }

    fn read_requests(&mut self, stream: &mut StreamBuffer, ctx: &mut Context<'_>) {
        while !self.is_done {
            match self.requests.next(stream, &Packets, ctx.now_unix_ns) {
                Next::Wait => return,
                Next::Lost(loss) => {
                    self.is_new = false;
                    self.last_request = Last::default();
                    self.queue.requests_lost(loss);
                }
                Next::Frame(frame) => {
                    let bytes = &stream.unread()[..frame.seen_bytes];
                    let Some(packet) = Packet::of(bytes, frame.total_bytes) else {
                        // Too little of it is there to say what it is.
                        let loss = Loss::at(stream, ctx.now_unix_ns);
                        self.requests.take(stream, frame);
                        self.queue.requests_lost(loss);
                        continue;
                    };
                    // A command is packed if the login succeeds, which is not known yet.
                    if self.logs_in && packet.number == 0 && self.abilities.packing().is_some() {
                        return;
                    }
                    if self.request(&packet, &frame, ctx) {
                        self.requests.take(stream, frame);
                    } else {
                        let loss = self.requests.refuse(stream, ctx.now_unix_ns);
                        self.queue.requests_lost(loss);
                    }
                }
            }
        }
    }

    /// A packet of the client's. False if it is none.
    fn request(&mut self, packet: &Packet<'_>, frame: &Frame, ctx: &mut Context<'_>) -> bool {
        let before = self.last_request;
        let has_wrapped = before.goes_on(packet);
        self.last_request =
            Last { number: packet.number, payload_bytes: packet.payload_bytes, has_wrapped };
        if self.is_new && packet.number > 0 {
            self.is_new = false;
            return self.hello(packet, frame);
        }
        // What follows a long command, a file, or what is said within a login.
        if packet.number > 0 || has_wrapped {
            return true;
        }
        self.is_new = false;
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
        if is_one_way(code) {
            self.counters.exchanges += 1;
            let command = Command { code, body, is_given_up: false, begin_ns };
            write_row(ctx.rows, ctx.config, &command, (status::NONE, b""), begin_ns);
            return true;
        }
        self.is_done |=
            matches!(code, command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::TABLE_DUMP);
        if !self.is_done {
            self.push(code, body, begin_ns);
        }
        true
    }

    fn hello(&mut self, packet: &Packet<'_>, frame: &Frame) -> bool {
        match Hello::of(packet.payload) {
            Some(Hello::Tls) => self.is_done = true,
            Some(Hello::Login { user, db, abilities }) => {
                self.abilities = abilities;
                self.logs_in = true;
                self.push(command::CONNECT, login_text(user, db), frame.time_unix_ns);
            }
            None => return false,
        }
        true
    }

    fn push(&mut self, code: u8, body: Vec<u8>, begin_ns: i64) {
        let is_given_up = self.waiting_text_bytes + body.capacity() > WAITING_TEXT_BYTES_MAX;
        let body = if is_given_up { Vec::new() } else { body };
        self.waiting_text_bytes += body.capacity();
        self.counters.given_up += u64::from(is_given_up);
        self.queue.push(Command { code, body, is_given_up, begin_ns }, begin_ns);
        if self.queue.waits() == 1 {
            // The queue may have begun anew.
            self.waiting_text_bytes = self.queue.requests().map(|one| one.body.capacity()).sum();
        }
    }

    fn read_responses(&mut self, stream: &mut StreamBuffer, ctx: &mut Context<'_>) {
        while !self.is_done {
            match self.responses.next(stream, &Packets, ctx.now_unix_ns) {
                Next::Wait => return,
                Next::Lost(loss) => self.responses_lost(loss, ctx),
                Next::Frame(frame) => {
                    let bytes = &stream.unread()[..frame.seen_bytes];
                    let Some(packet) = Packet::of(bytes, frame.total_bytes) else {
                        let loss = Loss::at(stream, ctx.now_unix_ns);
                        self.responses.take(stream, frame);
                        self.responses_lost(loss, ctx);
                        continue;
                    };
                    match self.response(&packet, &frame, ctx) {
                        Heard::Wait => return,
                        Heard::Taken => {
                            self.last_number = packet.number;
                            self.results.end_ns = self.responses.take(stream, frame);
                        }
                        Heard::Over(step) => {
                            self.last_number = packet.number;
                            self.results.end_ns = self.responses.take(stream, frame);
                            self.over(step, ctx);
                            if self.packed.is_some() {
                                return;
                            }
                        }
                        Heard::Wrong => {
                            let loss = self.responses.refuse(stream, ctx.now_unix_ns);
                            self.responses_lost(loss, ctx);
                        }
                    }
                }
            }
        }
    }

    /// A packet of the server's.
    fn response(&mut self, packet: &Packet<'_>, frame: &Frame, ctx: &mut Context<'_>) -> Heard {
        let (at_ns, next_number) = (frame.time_unix_ns, self.last_number.wrapping_add(1));
        let code = self.queue.front().map_or(0, |front| front.code);
        let interleaves = self.reading == Reading::Response && self.results.may_interleave(code);
        let begins = self.has_numbers && packet.number == 1 && next_number != 1;
        if interleaves && begins && !self.last_request.has_wrapped {
            // Another one begins: the end of this one could not be told.
            let loss =
                Loss { from_unix_ns: self.results.begin_ns, to_unix_ns: self.results.end_ns };
            self.responses_lost(loss, ctx);
        }
        if self.reading == Reading::Nothing
            || (self.reading == Reading::Skipped && packet.number == 1 && next_number != 1)
        {
            // No response begins so: a greeting, also one of which too little was seen to tell.
            if packet.number == 0 || is_greeting(packet) {
                return Heard::Taken;
            }
            let logs_in = |front: &Command| front.code == command::CONNECT;
            if packet.number == 1 && self.queue.front().is_some_and(logs_in) {
                // A login is packet 1 itself: its answer went by unseen, and this is a later one's.
                self.login_lost(ctx);
            }
            if packet.number != 1 && !self.queue.front().is_some_and(logs_in) {
                // More of what has ended: an end that was not expected.
                return Heard::Taken;
            }
            match self.queue.owner(at_ns, ctx.now_unix_ns) {
                Owner::Wait => return Heard::Wait,
                Owner::Front => {
                    self.reading = Reading::Response;
                    self.results.begin(at_ns);
                }
                Owner::Nobody => {
                    self.reading = Reading::Skipped;
                    self.queue.unowned(at_ns, at_ns);
                }
            }
        } else if self.reading == Reading::Response {
            if self.has_numbers && packet.number != next_number && !interleaves {
                return Heard::Wrong;
            }
        }
        if self.reading == Reading::Skipped {
            return Heard::Taken;
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

    /// The response that is being read has ended.
    fn over(&mut self, step: Step, ctx: &mut Context<'_>) {
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
            self.has_numbers = self.packed.is_none();
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
        self.logs_in = false;
        self.queue.responses_lost(loss);
    }

    fn read(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        settle(streams.requests, ctx.now_unix_ns);
        settle(streams.responses, ctx.now_unix_ns);
        if self.packed.is_none() {
            self.read_requests(streams.requests, ctx);
            self.read_responses(streams.responses, ctx);
            if self.packed.is_none() {
                return;
            }
            self.requests = FrameReader::new(Side::Request, true);
            self.responses = FrameReader::new(Side::Response, true);
        }
        let Some(mut packed) = self.packed.take() else { return };
        loop {
            let [requests, responses] = &mut *packed;
            let more_requests = requests.fill(streams.requests, ctx.now_unix_ns);
            self.read_requests(requests.stream(), ctx);
            let before = responses.stream().position();
            let more_responses = responses.fill(streams.responses, ctx.now_unix_ns);
            self.read_responses(responses.stream(), ctx);
            let reads_on = responses.stream().position() > before;
            if !(more_requests || (more_responses && reads_on)) {
                break;
            }
        }
        self.packed = Some(packed);
    }
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
        self.session.clear();
        self.waiting_text_bytes = 0;
        if self.reading == Reading::Response {
            self.reading = Reading::Skipped;
        }
    }
}
