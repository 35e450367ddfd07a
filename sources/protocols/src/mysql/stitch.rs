//! Which response answers which command: the first one the first.
//!
//! A response begins with the number behind its command's last one, and each of its packets has the next
//! number: where that is not so, something is missing, and nothing is paired until it is certain again. Some
//! commands are never answered; they are rows at once.

mod requests;
mod responses;

use super::login::Abilities;
use super::packed::Unpacker;
use super::parse::Packet;
use super::place::Behind;
use super::results::Results;
use super::session::Session;
use super::types::{Command, status};
use crate::frames::FrameReader;
use crate::in_order::InOrder;
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::turns::{by_time, of_side, read_to_end_and_begun, settle_both};
use crate::{Counters, REORDER_GRACE_NS, Side};

/// What the server's next packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    /// The front command's response, which has begun.
    Response,
    /// What is nobody's.
    Skipped {
        begin_ns: i64,
    },
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
    /// Where the server's last packet ended, and what is known of what was lost behind it.
    known_to: u64,
    behind: Option<Behind>,
    /// When the last packet of the server's came that was taken for more of the one before.
    passed_ns: Option<i64>,
    /// A login is under way.
    logs_in: bool,
    /// The client has not said yet who it is.
    is_new: bool,
    /// Nothing that the client has said is missing.
    is_whole: bool,
    is_done: bool,
    is_encrypted: bool,
    counters: Counters,
}

impl Mysql {
    pub(super) fn new(from_start: bool) -> Mysql {
        Mysql {
            requests: FrameReader::new(Side::Request, from_start),
            responses: FrameReader::new(Side::Response, from_start),
            packed: None,
            queue: InOrder::new(from_start),
            session: Session::default(),
            last_prepared: Vec::new(),
            abilities: Abilities::default(),
            results: Results::default(),
            reading: Reading::Nothing,
            last_request: Last::default(),
            last_number: None,
            is_end_known: false,
            known_to: 0,
            behind: None,
            passed_ns: None,
            logs_in: false,
            is_new: from_start,
            is_whole: from_start,
            is_done: false,
            is_encrypted: false,
            counters: Counters::default(),
        }
    }

    fn read(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        settle_both(streams, ctx.now_unix_ns);
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
        let stream = of_side(streams, side);
        let turn = match side {
            Side::Request => self.next_request(stream, None, ctx),
            Side::Response => self.next_response(stream, None, ctx),
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
            let fills = |side: &Side| {
                let stream = of_side(streams, *side);
                match side {
                    Side::Request => requests.fill(stream, ctx.now_unix_ns),
                    // What is there is read first.
                    Side::Response => turn == Turn::Over && responses.fill(stream, ctx.now_unix_ns),
                }
            };
            match order.into_iter().find(fills) {
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

/// How many commands there are that wait for the end of a login, which has not come.
fn commands_in(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let Some((packet, rest)) = Packet::split(bytes) {
        count += u64::from(packet.number == 0);
        bytes = rest;
    }
    count
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

impl Parser for Mysql {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.read(streams, ctx);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_to_end_and_begun(self, streams, ctx);
        ctx.now_unix_ns = ctx.now_unix_ns.saturating_add(REORDER_GRACE_NS);
        self.advance(streams, ctx);
        match self.reading {
            Reading::Nothing => {}
            Reading::Response => {
                self.results.status = status::UNKNOWN;
                self.end_response(ctx);
            }
            Reading::Skipped { begin_ns } => self.queue.unowned(begin_ns, self.results.end_ns),
        }
        self.reading = Reading::Nothing;
        if self.logs_in && !self.is_done {
            self.counters.gap += commands_in(streams.requests.unread());
        }
        self.queue.close();
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn is_handed_over(&self) -> bool {
        self.is_encrypted
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
            + self.session.held_bytes()
            + self.last_prepared.capacity()
            + self.results.text.capacity()
            + self.packed.as_deref().map_or(0, packed)
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.queue.give_up();
        self.last_request = Last::default();
        self.session.clear();
        if self.reading == Reading::Response {
            self.reading = Reading::Skipped { begin_ns: self.results.begin_ns };
        }
    }
}
