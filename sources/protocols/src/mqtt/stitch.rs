//! Which answer is whose: by packet id and direction, since both ends ask; pings in their order.
//!
//! Ids are 16 bits and free again as soon as they were answered. So behind lost packets of a side nothing is
//! paired that it may have answered before. An id that is used again while its first use waits, and nothing
//! is missing, was sent anew: which of the two an answer is for nobody knows.

use std::collections::VecDeque;

use super::types::*;
use crate::by_id::{ById, Limits};
use crate::frames::Loss;
use crate::in_order::{Asked, InOrder, Owner};
use crate::{Counters, REORDER_GRACE_NS, Side};

/// What waits on one connection, a direction; ends have at most 65,535 packets under way, and mostly 20.
const LIMITS: Limits = Limits {
    requests_max: 8_192,
    bytes_max: 1 << 20,
    answer_within_ns: 3_600_000_000_000,
    ids_repeat: true,
};
/// Ids that were sent anew, and for how long answers to both may come.
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

impl At {
    /// Whether what was before it may still come: events of two directions overtake each other.
    fn may_come(self) -> bool {
        !self.is_closing && self.now_unix_ns.saturating_sub(self.begin_ns) < REORDER_GRACE_NS
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pairing {
    /// Requests of the client, and of the server.
    asked: [ById<Key, Kept, Kept>; 2],
    pings: InOrder<Ping>,
    /// By who asks, and until when.
    sent_anew: VecDeque<(Side, Key, i64)>,
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
        let book = || ById::new(from_start, LIMITS);
        Pairing {
            asked: [book(), book()],
            pings: InOrder::new(from_start),
            sent_anew: VecDeque::new(),
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

    /// Takes a packet of a side. False: not yet, as one that is before it may still come.
    pub(super) fn take(
        &mut self,
        side: Side,
        packet: Packet,
        at: At,
        done: &mut Vec<Done>,
    ) -> bool {
        let Packet { kind, role, body } = packet;
        let kept = Kept { kind, body };
        match role {
            Role::OneWay => {
                self.own.exchanges += 1;
                done.push(Done { request: kept, begin_ns: at.begin_ns, answer: None });
                true
            }
            Role::Request(key) => self.request(side, key, kept, at, done),
            Role::Answer(key) => self.answer(side, key, kept, at, done),
            Role::Ping => {
                self.pings.push(Ping { kept, begin_ns: at.begin_ns }, at.begin_ns);
                true
            }
            Role::Pong => self.pong(kept, at, done),
            Role::Auth => {
                // While a client connects the server asks, later the client does.
                let is_connecting = self.asked[0].waiting(&(CONNACK, 0)).is_some();
                match is_connecting == (side == Side::Response) {
                    true => self.request(side, (AUTH, 0), kept, at, done),
                    false => self.answer(side, (AUTH, 0), kept, at, done),
                }
            }
        }
    }

    fn request(&mut self, side: Side, key: Key, kept: Kept, at: At, done: &mut Vec<Done>) -> bool {
        let book = &mut self.asked[side as usize];
        let is_taken = book.is_taken(&key);
        if is_taken && at.may_come() {
            return false;
        }
        if is_taken {
            book.forget(&key);
            if self.sent_anew.len() >= SENT_ANEW_MAX {
                self.sent_anew.pop_front();
            }
            let until_ns = at.begin_ns.saturating_add(SENT_ANEW_NS);
            self.sent_anew.push_back((side, key, until_ns));
        }
        if self.is_sent_anew(side, key, at) {
            self.own.given_up += 1;
            return true;
        }
        let book = &mut self.asked[side as usize];
        if let Some((request, answer, answer_ns)) = book.request(key, kept, at.begin_ns) {
            let begin_ns = at.begin_ns;
            done.push(Done { request, begin_ns, answer: Some((answer, answer_ns)) });
        }
        true
    }

    fn answer(&mut self, side: Side, key: Key, kept: Kept, at: At, done: &mut Vec<Done>) -> bool {
        let asks = other(side);
        // Its request is counted.
        if self.is_sent_anew(asks, key, at) {
            return true;
        }
        let book = &mut self.asked[asks as usize];
        if let Some((request, answer, begin_ns)) = book.response(key, kept, at.begin_ns) {
            done.push(Done { request, begin_ns, answer: Some((answer, at.begin_ns)) });
        }
        true
    }

    fn is_sent_anew(&self, side: Side, key: Key, at: At) -> bool {
        let is_it = |anew: &(Side, Key, i64)| (anew.0, anew.1) == (side, key) && anew.2 > at.begin_ns;
        self.sent_anew.iter().any(is_it)
    }

    fn pong(&mut self, kept: Kept, at: At, done: &mut Vec<Done>) -> bool {
        let now_unix_ns = if at.is_closing { i64::MAX } else { at.now_unix_ns };
        match self.pings.owner(at.begin_ns, now_unix_ns) {
            Owner::Wait => return false,
            Owner::Nobody => self.pings.unowned(at.begin_ns, at.begin_ns),
            Owner::Front => {
                if let Some(ping) = self.pings.answered(at.begin_ns, at.begin_ns) {
                    let Ping { kept: request, begin_ns } = ping;
                    done.push(Done { request, begin_ns, answer: Some((kept, at.begin_ns)) });
                }
            }
        }
        true
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
