//! Which answer is whose: by packet id and direction, since both ends ask; pings in their order.
//!
//! Ids are 16 bits and free again as soon as they were answered. So behind lost packets of a side nothing is
//! paired that it may have answered before. An id that is used again while its first use waits, and nothing
//! is missing, was sent anew: which of the two an answer is for nobody knows, nor whether a second one comes.

use std::collections::VecDeque;

use super::types::*;
use crate::by_id::{ById, Limits};
use crate::frames::Loss;
use crate::in_order::{Asked, InOrder, Owner};
use crate::{Counters, Side};

/// What waits on one connection, a direction; ends have at most 65,535 packets under way, and mostly 20.
const LIMITS: Limits =
    Limits { requests_max: 8_192, bytes_max: 1 << 20, answer_within_ns: 3_600_000_000_000 };
/// Ids that are used twice, and for how long answers to both may come.
const SENT_ANEW_MAX: usize = 256;
const SENT_ANEW_NS: i64 = 60_000_000_000;

/// A row.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) request: Kept,
    pub(super) begin_ns: i64,
    pub(super) answer: Option<(Kept, i64)>,
}

#[derive(Debug)]
struct Ping {
    kept: Kept,
    begin_ns: i64,
}

impl Asked for Ping {
    type Shape = ();

    fn held_bytes(&self) -> usize {
        self.kept.body.capacity()
    }

    fn forget_text(&mut self) {
        // It is no longer than what it is.
    }

    fn is_owed(&self) -> bool {
        true
    }

    fn is_plain(&self) -> bool {
        true
    }
}

/// When a packet is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    /// When it began.
    pub(super) begin_ns: i64,
    pub(super) now_unix_ns: i64,
    /// Nothing more comes.
    pub(super) is_closing: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pairing {
    /// Requests of the client, and of the server.
    asked: [ById<Key, Kept, Kept>; 2],
    pings: InOrder<Ping>,
    /// By who asks: an answer to one of two packets came, and until then another may come.
    sent_anew: VecDeque<(Side, Key, i64)>,
    /// Whose the answer to a ping is that is taken next.
    pong_owner: Owner,
    own: Counters,
}

fn other(side: Side) -> Side {
    match side {
        Side::Request => Side::Response,
        Side::Response => Side::Request,
    }
}

impl Pairing {
    pub(super) fn new(from_start: bool) -> Pairing {
        let book = || ById::new(from_start, LIMITS).with_ids_again();
        Pairing {
            asked: [book(), book()],
            pings: InOrder::new(from_start),
            sent_anew: VecDeque::new(),
            pong_owner: Owner::Nobody,
            own: Counters::default(),
        }
    }

    /// Packets of a side are missing: what it asks, and what it answers.
    pub(super) fn lost(&mut self, side: Side, loss: Loss) {
        self.own.resyncs += 1;
        self.asked[side as usize].lost(Side::Request, loss.to_unix_ns);
        self.unsure_until(side, loss.to_unix_ns);
        match side {
            Side::Request => self.pings.requests_lost(loss),
            Side::Response => self.pings.responses_lost(loss, None),
        }
    }

    /// What a side answered until then is not known.
    pub(super) fn unsure_until(&mut self, side: Side, to_unix_ns: i64) {
        self.asked[other(side) as usize].lost(Side::Response, to_unix_ns);
    }

    /// Whether a packet can be taken: what is before it may still come.
    pub(super) fn is_ready(&mut self, role: Role, at: At) -> bool {
        if role != Role::Pong {
            return true;
        }
        let now_unix_ns = if at.is_closing { i64::MAX } else { at.now_unix_ns };
        self.pong_owner = self.pings.owner(at.begin_ns, now_unix_ns);
        self.pong_owner != Owner::Wait
    }

    /// Who asks for authentication: while a client connects the server does, later the client.
    fn resolved(&self, side: Side, role: Role) -> Role {
        let is_connecting = || self.asked[0].waiting(&(CONNACK, 0)).is_some();
        match role {
            Role::Auth if is_connecting() == (side == Side::Response) => Role::Request((AUTH, 0)),
            Role::Auth => Role::Answer((AUTH, 0)),
            role => role,
        }
    }

    /// Takes a packet of a side, which is ready.
    pub(super) fn take(&mut self, side: Side, packet: Packet, at: At) -> Option<Done> {
        let Packet { kind, role, body } = packet;
        let kept = Kept { kind, body };
        match self.resolved(side, role) {
            Role::OneWay => {
                self.own.exchanges += 1;
                Some(Done { request: kept, begin_ns: at.begin_ns, answer: None })
            }
            Role::Request(key) => self.request(side, key, kept, at),
            Role::Answer(key) => self.answer(side, key, kept, at),
            Role::Pong => self.pong(kept, at),
            Role::Ping | Role::Auth => {
                self.pings.push(Ping { kept, begin_ns: at.begin_ns }, at.begin_ns);
                None
            }
        }
    }

    fn request(&mut self, side: Side, key: Key, kept: Kept, at: At) -> Option<Done> {
        if self.is_sent_anew(side, key, at) {
            self.own.given_up += 1;
            return None;
        }
        let book = &mut self.asked[side as usize];
        let (request, answer, answer_ns) = book.request(key, kept, at.begin_ns)?;
        Some(Done { request, begin_ns: at.begin_ns, answer: Some((answer, answer_ns)) })
    }

    fn answer(&mut self, side: Side, key: Key, kept: Kept, at: At) -> Option<Done> {
        let asks = other(side);
        // Its request is counted.
        if self.is_sent_anew(asks, key, at) {
            return None;
        }
        let book = &mut self.asked[asks as usize];
        if book.is_asked_again(key, at.begin_ns) {
            if self.sent_anew.len() >= SENT_ANEW_MAX {
                self.sent_anew.pop_front();
            }
            self.sent_anew.push_back((asks, key, at.begin_ns.saturating_add(SENT_ANEW_NS)));
        }
        let (request, answer, begin_ns) = book.response(key, kept, at.begin_ns)?;
        Some(Done { request, begin_ns, answer: Some((answer, at.begin_ns)) })
    }

    fn is_sent_anew(&self, side: Side, key: Key, at: At) -> bool {
        let is_it =
            |anew: &(Side, Key, i64)| (anew.0, anew.1) == (side, key) && anew.2 > at.begin_ns;
        self.sent_anew.iter().any(is_it)
    }

    fn pong(&mut self, kept: Kept, at: At) -> Option<Done> {
        if self.pong_owner != Owner::Front {
            self.pings.unowned(at.begin_ns, at.begin_ns);
            return None;
        }
        let Ping { kept: request, begin_ns } = self.pings.answered(at.begin_ns, at.begin_ns)?;
        Some(Done { request, begin_ns, answer: Some((kept, at.begin_ns)) })
    }

    pub(super) fn pass_time(&mut self, now_unix_ns: i64) {
        self.asked.iter_mut().for_each(|book| book.pass_time(now_unix_ns));
        self.sent_anew.retain(|(_, _, until_ns)| *until_ns > now_unix_ns);
    }

    pub(super) fn close(&mut self) {
        self.asked.iter_mut().for_each(ById::close);
        self.pings.close();
    }

    pub(super) fn give_up(&mut self) {
        self.asked.iter_mut().for_each(ById::give_up);
        self.pings.give_up();
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.asked.iter().any(ById::is_waiting) || self.pings.is_waiting()
    }

    pub(super) fn counters(&self) -> Counters {
        let mut counters = self.own;
        self.asked.iter().for_each(|book| counters.add(book.counters));
        counters.add(self.pings.counters);
        // Each loss once, not by book.
        Counters { resyncs: self.own.resyncs, ..counters }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.asked.iter().map(ById::held_bytes).sum::<usize>()
            + self.pings.held_bytes()
            + self.sent_anew.capacity() * size_of::<(Side, Key, i64)>()
    }
}
