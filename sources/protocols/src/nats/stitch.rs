//! Which answer belongs to which operation: answers come in the order of the operations.
//!
//! Whether a connection is verbose its CONNECT says; of one that was joined later its first `+OK` does.
//! After a loss nothing waits and nothing is paired until the answers to what was sent before have
//! certainly come: an operation then is a row without its answer, never with another's.

use std::collections::VecDeque;

use super::types::Kind;
use crate::{Counters, Side};

/// Operations that wait for their answer; beyond it all that wait are given up.
const WAITING_MAX: usize = 4_096;
/// What their texts may hold together.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Servers answer at once, and drop clients that do not.
const ANSWER_WITHIN_NS: i64 = 60_000_000_000;
/// What a server says of a message of a verbose and pedantic connection beside its `+OK`, not instead.
const NOT_THE_ANSWER: &[u8] = b"-ERR 'Invalid Publish Subject'";
/// After a loss: answers to what was sent before have come by then.
const SETTLES_WITHIN_NS: i64 = 2_000_000_000;

/// An operation as rows show it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) time_unix_ns: i64,
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
    /// What is wrong with it, though it is going to be accepted.
    pub(super) fault: Vec<u8>,
}

/// A row.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) time_unix_ns: i64,
    pub(super) told: Told,
    pub(super) response: Vec<u8>,
}

impl Done {
    fn alone(told: Told) -> Done {
        Done { time_unix_ns: told.time_unix_ns, told, response: Vec::new() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Pairing {
    /// The client's operations that wait for the server.
    waiting: VecDeque<Told>,
    waiting_bytes: usize,
    /// The server's PINGs that wait for the client.
    server_pings: VecDeque<Told>,
    /// Whether every operation is answered, if that is known.
    is_verbose: Option<bool>,
    /// Nothing is paired that is from before.
    unsure_until_ns: i64,
    pub(super) counters: Counters,
}

impl Pairing {
    pub(super) fn new(from_start: bool) -> Pairing {
        // A server answers everything until a CONNECT says that it need not.
        Pairing { is_verbose: from_start.then_some(true), ..Pairing::default() }
    }

    /// `is_verbose`: what a CONNECT asks for.
    pub(super) fn client_says(
        &mut self,
        told: Told,
        is_verbose: Option<bool>,
        done: &mut Vec<Done>,
    ) {
        self.is_verbose = is_verbose.or(self.is_verbose);
        let is_sure = told.time_unix_ns >= self.unsure_until_ns;
        match told.kind {
            Kind::Pong => match self.server_ping(told.time_unix_ns).filter(|_| is_sure) {
                Some(ping) => done.push(pong(ping, told.time_unix_ns)),
                None => self.unowned(told.time_unix_ns, done),
            },
            Kind::Ping if !is_sure => self.counters.gap += 1,
            Kind::Ping | Kind::Connect if is_sure => self.wait(told, done),
            _ if is_sure && self.is_verbose == Some(true) => self.wait(told, done),
            _ => done.push(Done::alone(told)),
        }
    }

    pub(super) fn server_says(&mut self, told: Told, answer: Vec<u8>, done: &mut Vec<Done>) {
        let time_unix_ns = told.time_unix_ns;
        let is_sure = time_unix_ns >= self.unsure_until_ns;
        match told.kind {
            Kind::Ping if is_sure => {
                self.server_pings.push_back(told);
                self.keep_bounds(time_unix_ns, done);
            }
            Kind::Ping => self.counters.gap += 1,
            Kind::Pong => {
                let is_asked =
                    |told: &Told| told.kind == Kind::Ping && told.time_unix_ns <= time_unix_ns;
                let at = self.waiting.iter().position(is_asked);
                let Some(at) = at.filter(|_| is_sure) else {
                    return self.unowned(time_unix_ns, done);
                };
                // What was sent before it was not to be answered.
                for _ in 0..at {
                    done.extend(self.take().map(Done::alone));
                }
                done.extend(self.take().map(|ping| pong(ping, time_unix_ns)));
            }
            Kind::Err if answer == NOT_THE_ANSWER && self.is_verbose == Some(true) => {
                match self.waiting.front_mut().filter(|front| front.time_unix_ns <= time_unix_ns) {
                    Some(front) => front.fault = answer,
                    None => self.unowned(time_unix_ns, done),
                }
            }
            Kind::Ok | Kind::Err => match self.answered(told.kind, time_unix_ns) {
                Some(mut request) => {
                    let fault = std::mem::take(&mut request.fault);
                    let response = if fault.is_empty() { answer } else { fault };
                    done.push(Done { time_unix_ns, told: request, response });
                }
                // An error that nobody waits for: of an operation that was not to be answered.
                None if told.kind == Kind::Err && self.is_verbose == Some(false) => {
                    done.push(Done { time_unix_ns, told, response: answer });
                }
                None => {
                    if told.kind == Kind::Ok {
                        self.is_verbose = Some(true);
                    }
                    self.unowned(time_unix_ns, done);
                }
            },
            _ => {
                while self.front_is_accepted(time_unix_ns) {
                    done.extend(self.take().map(Done::alone));
                }
                done.push(Done::alone(told));
            }
        }
    }

    fn server_ping(&mut self, before_unix_ns: i64) -> Option<Told> {
        let front = self.server_pings.front()?;
        if front.time_unix_ns > before_unix_ns {
            return None;
        }
        self.server_pings.pop_front()
    }

    /// A CONNECT that is not to be answered was accepted if the server goes on.
    fn front_is_accepted(&self, time_unix_ns: i64) -> bool {
        self.is_verbose == Some(false)
            && self
                .waiting
                .front()
                .is_some_and(|told| told.kind == Kind::Connect && told.time_unix_ns <= time_unix_ns)
    }

    /// The operation that an `+OK` or an error answers.
    fn answered(&mut self, by: Kind, at_unix_ns: i64) -> Option<Told> {
        let front = self.waiting.front().filter(|told| told.time_unix_ns <= at_unix_ns)?;
        let is_answered = match front.kind {
            Kind::Ping => false,
            Kind::Connect => by == Kind::Err || self.is_verbose == Some(true),
            _ => true,
        };
        if is_answered { self.take() } else { None }
    }

    /// Whether it answers nothing, or what it answers is here.
    pub(super) fn expects(&self, side: Side, kind: Kind) -> bool {
        match (side, kind) {
            (Side::Request, Kind::Pong) => !self.server_pings.is_empty(),
            (Side::Response, Kind::Pong) => self.waiting.iter().any(|told| told.kind == Kind::Ping),
            (Side::Response, Kind::Err) if self.is_verbose == Some(false) => true,
            (Side::Response, Kind::Ok | Kind::Err) => {
                self.waiting.front().is_some_and(|told| told.kind != Kind::Ping)
            }
            _ => true,
        }
    }

    fn wait(&mut self, told: Told, done: &mut Vec<Done>) {
        let time_unix_ns = told.time_unix_ns;
        self.waiting_bytes += told.body.capacity();
        self.waiting.push_back(told);
        self.keep_bounds(time_unix_ns, done);
    }

    /// Where too much waits, behind what came last, all that waits is forgotten.
    fn keep_bounds(&mut self, newest_unix_ns: i64, done: &mut Vec<Done>) {
        let waiting = self.waiting.len().max(self.server_pings.len());
        if waiting > WAITING_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
            self.counters.resyncs += 1;
            self.forget(done);
            self.unsure_until(newest_unix_ns);
        }
    }

    fn take(&mut self) -> Option<Told> {
        let told = self.waiting.pop_front()?;
        self.waiting_bytes -= told.body.capacity();
        Some(told)
    }

    /// An answer to nothing that is known: what it is for may have been lost, or be read later, and then
    /// be taken for what the next answer is for. So nothing is paired for a while.
    fn unowned(&mut self, at_unix_ns: i64, done: &mut Vec<Done>) {
        if at_unix_ns >= self.unsure_until_ns {
            self.counters.unasked += 1;
            self.forget(done);
            self.unsure_until(at_unix_ns);
        } else {
            self.counters.gap += 1;
        }
    }

    /// What was asked until then may be answered for a while.
    pub(super) fn unsure_until(&mut self, lost_at_unix_ns: i64) {
        let settled_ns = lost_at_unix_ns.saturating_add(SETTLES_WITHIN_NS);
        self.unsure_until_ns = self.unsure_until_ns.max(settled_ns);
    }

    /// Operations become rows without an answer; PINGs are given up.
    fn forget(&mut self, done: &mut Vec<Done>) {
        self.counters.given_up += self.server_pings.len() as u64;
        self.server_pings.clear();
        while let Some(told) = self.take() {
            match told.kind {
                Kind::Ping => self.counters.given_up += 1,
                _ => done.push(Done::alone(told)),
            }
        }
    }

    /// Operations of a side are missing, as was noticed at that time.
    pub(super) fn lost(&mut self, at_unix_ns: i64, done: &mut Vec<Done>) {
        self.counters.gap += 1;
        self.counters.resyncs += 1;
        self.forget(done);
        self.unsure_until(at_unix_ns);
    }

    /// What has waited for too long is not answered any more. Should it be all the same, that is not the
    /// answer to what came after it: so nothing is paired for as long again.
    pub(super) fn pass_time(&mut self, now_unix_ns: i64, done: &mut Vec<Done>) {
        let oldest_ns = now_unix_ns.saturating_sub(ANSWER_WITHIN_NS);
        let mut may_be_answered = false;
        while let Some(front) = self.waiting.front()
            && front.time_unix_ns < oldest_ns
        {
            // A CONNECT that is not to be answered never is.
            may_be_answered |= front.kind != Kind::Connect || self.is_verbose != Some(false);
            self.unanswered(done);
        }
        while self.server_pings.front().is_some_and(|told| told.time_unix_ns < oldest_ns) {
            self.server_pings.pop_front();
            self.counters.unanswered += 1;
            may_be_answered = true;
        }
        if may_be_answered {
            self.counters.resyncs += 1;
            self.forget(done);
            let until_ns = now_unix_ns.saturating_add(ANSWER_WITHIN_NS);
            self.unsure_until_ns = self.unsure_until_ns.max(until_ns);
        }
    }

    fn unanswered(&mut self, done: &mut Vec<Done>) {
        match self.take() {
            Some(told) if told.kind == Kind::Ping => self.counters.unanswered += 1,
            told => done.extend(told.map(Done::alone)),
        }
    }

    pub(super) fn close(&mut self, done: &mut Vec<Done>) {
        while !self.waiting.is_empty() {
            self.unanswered(done);
        }
        self.counters.unanswered += self.server_pings.len() as u64;
        self.server_pings.clear();
    }

    /// For room.
    pub(super) fn give_up(&mut self) {
        self.counters.given_up += (self.waiting.len() + self.server_pings.len()) as u64;
        let newest = [self.waiting.back(), self.server_pings.back()].into_iter().flatten();
        self.unsure_until(newest.map(|told| told.time_unix_ns).max().unwrap_or(0));
        self.waiting = VecDeque::new();
        self.server_pings = VecDeque::new();
        self.waiting_bytes = 0;
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.server_pings.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.waiting_bytes
            + (self.waiting.capacity() + self.server_pings.capacity()) * size_of::<Told>()
    }
}

fn pong(ping: Told, time_unix_ns: i64) -> Done {
    Done { time_unix_ns, told: ping, response: b"PONG".to_vec() }
}
