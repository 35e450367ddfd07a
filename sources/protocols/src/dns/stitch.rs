//! Which response answers which query: the one with its id, from where it was sent.
//!
//! A query that is repeated (nothing came, and the resolver tries again) is one query, since its first
//! sending. A response may come to us before its query, when two CPUs saw them; it waits for a moment.

use std::collections::VecDeque;
use std::net::SocketAddr;

use hashbrown::HashMap;

use crate::Counters;
use crate::protocol::{REORDER_GRACE_NS, Way};

/// Queries that wait on one socket; beyond it the oldest is given up. A resolver has some thousands
/// outstanding at the most, of ports of its own mostly.
const PENDING_MAX: usize = 4_096;
/// What their texts may hold together.
const PENDING_BYTES_MAX: usize = 2 << 20;
/// Resolvers have given up long before.
const ANSWER_WITHIN_NS: i64 = 60_000_000_000;
/// Responses that wait for their queries.
const EARLY_MAX: usize = 256;
const EARLY_BYTES_MAX: usize = 2 << 20;

/// What a message is paired by. Both sides of an exchange have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) id: u16,
    /// Which way the query goes.
    pub(super) requests: Way,
    pub(super) peer: Option<SocketAddr>,
}

/// A message as rows show it, with its time.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) time_unix_ns: i64,
    /// Where it came from or went to, if that was told.
    pub(super) peer: Option<SocketAddr>,
    /// Its first question as a hash, whatever the letters' case.
    pub(super) asked: Option<u64>,
    pub(super) header: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Told {
    fn held_bytes(&self) -> usize {
        self.header.capacity() + self.body.capacity()
    }

    /// Ids come again: a response repeats the question that it answers, if it is well made.
    fn asks_the_same(&self, other: &Told) -> bool {
        self.asked.is_none() || other.asked.is_none() || self.asked == other.asked
    }
}

#[derive(Debug)]
struct Waiting {
    told: Told,
    /// Bytes of the question, as they were sent.
    question: u64,
    number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Pairing {
    pending: HashMap<Key, Waiting, foldhash::fast::RandomState>,
    /// In the order in which they came; those that were answered meanwhile are stepped over.
    order: VecDeque<(Key, u64, i64)>,
    pending_bytes: usize,
    early: VecDeque<(Key, Told)>,
    early_bytes: usize,
    next_number: u64,
    queries: u64,
    /// When it was last noticed that messages of a side are missing.
    pub(super) requests_missing_ns: Option<i64>,
    pub(super) responses_missing_ns: Option<i64>,
    pub(super) counters: Counters,
}

impl Pairing {
    /// Takes a query. Its response, if that was here before.
    pub(super) fn query(&mut self, key: Key, told: Told, question: u64) -> Option<(Told, Told)> {
        self.queries += 1;
        let mut early = self.early.iter();
        if let Some(at) =
            early.position(|(early, response)| fits(early, &key) && told.asks_the_same(response))
        {
            let (_, response) = self.early.remove(at)?;
            self.early_bytes -= response.held_bytes();
            self.counters.exchanges += 1;
            return Some((told, response));
        }
        if let Some(before) = self.pending.get(&key)
            && before.question == question
        {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        if self.order.len() > 2 * PENDING_MAX {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(key, number, _)| self.is_pending(key, *number));
            self.order = order;
        }
        self.order.push_back((key, number, told.time_unix_ns));
        self.pending_bytes += told.held_bytes();
        if let Some(before) = self.pending.insert(key, Waiting { told, question, number }) {
            // Its id is used again: nobody waits for it any more.
            self.pending_bytes -= before.told.held_bytes();
            self.unanswered(before.told.time_unix_ns);
        }
        while self.pending.len() > PENDING_MAX || self.pending_bytes > PENDING_BYTES_MAX {
            if self.drop_oldest().is_none() {
                break;
            }
            self.counters.given_up += 1;
        }
        None
    }

    /// The query that a response answers; without one it waits, made by `told`.
    pub(super) fn response(&mut self, key: Key, told: Told) -> Option<(Told, Told)> {
        if let Some(query) = self.take(&key, &told) {
            self.counters.exchanges += 1;
            return Some((query, told));
        }
        while self.early.len() >= EARLY_MAX || self.early_bytes > EARLY_BYTES_MAX {
            self.drop_early();
        }
        self.early_bytes += told.held_bytes();
        self.early.push_back((key, told));
        None
    }

    /// Some read without asking who sent it: then the id has to do.
    fn take(&mut self, key: &Key, response: &Told) -> Option<Told> {
        let asks_it = |key: &Key| {
            self.pending.get(key).is_some_and(|waiting| waiting.told.asks_the_same(response))
        };
        let key = if asks_it(key) {
            *key
        } else {
            let others = self.order.iter().map(|(other, ..)| *other);
            let others = others.filter(|other| other.peer.is_none() || key.peer.is_none());
            others.filter(|other| fits(other, key)).find(asks_it)?
        };
        let found = self.pending.remove(&key)?;
        self.pending_bytes -= found.told.held_bytes();
        if self.pending.is_empty() {
            self.order.clear();
        }
        Some(found.told)
    }

    /// Drops what waited too long.
    pub(super) fn pass_time(&mut self, now_unix_ns: i64) {
        let is_over = |since: i64, ns| now_unix_ns.saturating_sub(since) >= ns;
        while let Some((_, early)) = self.early.front()
            && is_over(early.time_unix_ns, REORDER_GRACE_NS)
        {
            self.drop_early();
        }
        while let Some((key, number, since)) = self.order.front() {
            if !self.is_pending(key, *number) {
                self.order.pop_front();
            } else if is_over(*since, ANSWER_WITHIN_NS) {
                if let Some(query) = self.drop_oldest() {
                    self.unanswered(query.time_unix_ns);
                }
            } else {
                return;
            }
        }
    }

    /// Drops everything: nothing more comes.
    pub(super) fn close(&mut self) {
        while !self.early.is_empty() {
            self.drop_early();
        }
        while let Some(query) = self.drop_oldest() {
            self.unanswered(query.time_unix_ns);
        }
        self.order = VecDeque::new();
    }

    pub(super) fn give_up(&mut self) {
        self.counters.given_up += (self.pending.len() + self.early.len()) as u64;
        let counters = self.counters;
        self.close();
        self.counters = counters;
        self.pending.shrink_to_fit();
        self.early = VecDeque::new();
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || !self.early.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.pending_bytes
            + self.early_bytes
            + self.pending.capacity() * (size_of::<Key>() + size_of::<Waiting>() + 1)
            + self.order.capacity() * size_of::<(Key, u64, i64)>()
            + self.early.capacity() * size_of::<(Key, Told)>()
    }

    fn is_pending(&self, key: &Key, number: u64) -> bool {
        self.pending.get(key).is_some_and(|waiting| waiting.number == number)
    }

    /// Whatever came first of what still waits.
    fn drop_oldest(&mut self) -> Option<Told> {
        while let Some((key, number, _)) = self.order.pop_front() {
            if self.is_pending(&key, number) {
                let waiting = self.pending.remove(&key)?;
                self.pending_bytes -= waiting.told.held_bytes();
                return Some(waiting.told);
            }
        }
        None
    }

    /// No response: the peer gave none, or it was among what is missing.
    fn unanswered(&mut self, since_unix_ns: i64) {
        match self.responses_missing_ns {
            Some(at) if at >= since_unix_ns => self.counters.gap += 1,
            _ => self.counters.unanswered += 1,
        }
    }

    /// No query: it was among what is missing, or before capture, or nobody asked.
    fn drop_early(&mut self) {
        let Some((_, told)) = self.early.pop_front() else { return };
        self.early_bytes -= told.held_bytes();
        let since = self.requests_missing_ns.map(|at| told.time_unix_ns.saturating_sub(at));
        match (since, self.queries) {
            (Some(since), _) if since < ANSWER_WITHIN_NS => self.counters.gap += 1,
            (_, 0) => self.counters.unpaired += 1,
            _ => self.counters.unasked += 1,
        }
    }
}

fn fits(one: &Key, other: &Key) -> bool {
    one.id == other.id
        && one.requests == other.requests
        && (one.peer == other.peer || one.peer.is_none() || other.peer.is_none())
}
