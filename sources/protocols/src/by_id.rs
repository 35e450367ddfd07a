//! Which response answers which request, where both carry an id: for all protocols that do.
//!
//! Clients count their requests, so that a loss mismatches nothing. One that does not may use an id again
//! as soon as it was answered: where an answer *and* a later request with its id are missing, the later
//! answer would be taken for the first one's. So of a client that was seen to go back, or of which the
//! protocol says so, nothing is paired that was asked before a loss, also if the request is told behind it.
//! A response may come to us before its request, when two CPUs saw them; it waits for a moment. So may a
//! request before the answer to the one before it that had its id: both wait, and if that answer does not
//! come, nobody knows whose the next one is.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

use crate::{Counters, REORDER_GRACE_NS, Side};

#[cfg(test)]
mod tests;

/// Memory beside the value itself.
pub(crate) trait Held {
    fn held_bytes(&self) -> usize;
}

impl Held for () {
    fn held_bytes(&self) -> usize {
        0
    }
}

impl Held for Vec<u8> {
    fn held_bytes(&self) -> usize {
        self.capacity()
    }
}

/// What may wait on one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Requests; beyond it the oldest is given up.
    pub(crate) requests_max: usize,
    /// What they hold together, and as much again for responses that came early.
    pub(crate) bytes_max: usize,
    /// After that long nobody waits for a response any more.
    pub(crate) answer_within_ns: i64,
}

impl Default for Limits {
    /// Clients have some hundreds of requests under way, rarely thousands; servers end what takes an
    /// hour (a consumer's poll, a large migration).
    fn default() -> Limits {
        Limits { requests_max: 8_192, bytes_max: 2 << 20, answer_within_ns: 3_600_000_000_000 }
    }
}

/// Responses that wait for their requests.
const EARLY_MAX: usize = 256;
/// Requests with the id of one that waits.
const AGAIN_MAX: usize = 256;
/// Requests that were given up, whose answers may come nevertheless.
const DOUBTED_MAX: usize = 256;

#[derive(Debug)]
struct Waiting<Q> {
    request: Q,
    number: u64,
    begin_ns: i64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct ById<K, Q, R> {
    limits: Limits,
    pending: HashMap<K, Waiting<Q>, foldhash::fast::RandomState>,
    /// In the order in which they came; those that were answered meanwhile are stepped over.
    order: VecDeque<(K, u64)>,
    pending_bytes: usize,
    /// With ids of such as wait, in the order in which they came.
    again: VecDeque<(K, Q, i64)>,
    early: VecDeque<(K, R, i64)>,
    early_bytes: usize,
    /// Requests that are counted as lost, though their answers may come: which are not counted again.
    doubted: VecDeque<(K, i64)>,
    next_number: u64,
    highest: Option<K>,
    /// A request had an id that was not higher than all before.
    ids_repeat: bool,
    /// Until when messages of a side are known to be missing.
    missing_ns: [Option<i64>; 2],
    joined: bool,
    pub(crate) counters: Counters,
}

impl<K: Copy + Ord + Hash, Q: Held, R: Held> ById<K, Q, R> {
    /// `from_start`: no request was sent before those that are told.
    pub(crate) fn new(from_start: bool, limits: Limits) -> ById<K, Q, R> {
        ById {
            limits,
            pending: HashMap::default(),
            order: VecDeque::new(),
            pending_bytes: 0,
            again: VecDeque::new(),
            early: VecDeque::new(),
            early_bytes: 0,
            doubted: VecDeque::new(),
            next_number: 0,
            highest: None,
            ids_repeat: false,
            missing_ns: [None; 2],
            joined: !from_start,
            counters: Counters::default(),
        }
    }

    /// For protocols whose ids are few: all clients use them again.
    pub(crate) fn with_ids_again(mut self) -> ById<K, Q, R> {
        self.ids_repeat = true;
        self
    }

    /// Messages of a side are missing, until then at the latest.
    pub(crate) fn lost(&mut self, side: Side, to_unix_ns: i64) {
        self.is_lost(side, to_unix_ns);
        self.counters.resyncs += 1;
        if side == Side::Response && self.ids_repeat {
            self.drop_asked_until(to_unix_ns);
        }
    }

    /// Answers to these may be among what is missing; what was asked later was answered later.
    fn drop_asked_until(&mut self, to_unix_ns: i64) {
        let before = self.pending.len() + self.again.len();
        let (mut bytes, mut freed) = (0, Vec::new());
        self.again.retain(|(key, request, begin_ns)| {
            let stays = *begin_ns > to_unix_ns;
            if !stays {
                bytes += request.held_bytes();
                freed.push((*key, *begin_ns));
            }
            stays
        });
        self.pending.retain(|key, waiting| {
            let stays = waiting.begin_ns > to_unix_ns;
            if !stays {
                bytes += waiting.request.held_bytes();
                freed.push((*key, waiting.begin_ns));
            }
            stays
        });
        self.pending_bytes -= bytes;
        self.counters.gap += (before - self.pending.len() - self.again.len()) as u64;
        for (key, begin_ns) in freed {
            self.next_with(key);
            self.doubt(key, begin_ns);
        }
    }

    /// A request is counted as lost: its answer may be missing, or come and be of another one.
    fn doubt(&mut self, key: K, begin_ns: i64) {
        if self.doubted.len() >= DOUBTED_MAX {
            self.doubted.pop_front();
        }
        self.doubted.push_back((key, begin_ns));
    }

    /// Takes a request. The pair, if its response was here before; with the response's time.
    pub(crate) fn request(&mut self, key: K, request: Q, begin_ns: i64) -> Option<(Q, R, i64)> {
        if !self.ids_repeat && self.highest >= Some(key) {
            self.ids_repeat = true;
            if let Some(missing_ns) = self.missing_ns[Side::Response as usize] {
                self.drop_asked_until(missing_ns);
            }
        }
        self.highest = self.highest.max(Some(key));
        if self.ids_repeat && self.is_missing(Side::Response, begin_ns) {
            // Its answer may be.
            self.counters.gap += 1;
            self.doubt(key, begin_ns);
            return None;
        }
        // Its id was free: no more answers to those that had it.
        self.doubted.retain(|(doubted, _)| *doubted != key);
        if let Some(at) =
            self.early.iter().position(|(early, _, ns)| *early == key && *ns >= begin_ns)
        {
            let (_, response, response_ns) = self.early.remove(at)?;
            self.early_bytes -= response.held_bytes();
            self.counters.exchanges += 1;
            return Some((request, response, response_ns));
        }
        self.pending_bytes += request.held_bytes();
        match self.pending.contains_key(&key) {
            true => self.again.push_back((key, request, begin_ns)),
            false => self.insert(key, request, begin_ns),
        }
        while self.again.len() > AGAIN_MAX
            || self.pending.len() + self.again.len() > self.limits.requests_max
            || self.pending_bytes > self.limits.bytes_max
        {
            let given_up = match self.again.front() {
                Some((key, ..)) => self.forget(*key),
                None => u64::from(self.drop_oldest().is_some()),
            };
            if given_up == 0 {
                break;
            }
            self.counters.given_up += given_up;
        }
        None
    }

    fn insert(&mut self, key: K, request: Q, begin_ns: i64) {
        let number = self.next_number;
        self.next_number += 1;
        if self.order.len() > 2 * self.limits.requests_max {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(key, number)| self.is_pending(key, *number));
            self.order = order;
        }
        self.order.push_back((key, number));
        self.pending.insert(key, Waiting { request, number, begin_ns });
    }

    /// The id of a request that waited no longer is free: for the next one that has it.
    fn next_with(&mut self, key: K) {
        if self.again.is_empty() || self.pending.contains_key(&key) {
            return;
        }
        let at = self.again.iter().position(|(again, ..)| *again == key);
        if let Some((key, request, begin_ns)) = at.and_then(|at| self.again.remove(at)) {
            self.insert(key, request, begin_ns);
        }
    }

    /// Forgets whatever waits with this id; how many that were.
    fn forget(&mut self, key: K) -> u64 {
        let mut bytes = 0;
        let before = self.again.len();
        self.again.retain(|(again, request, _)| {
            bytes += if *again == key { request.held_bytes() } else { 0 };
            *again != key
        });
        let mut count = (before - self.again.len()) as u64;
        if let Some(waiting) = self.pending.remove(&key) {
            bytes += waiting.request.held_bytes();
            count += 1;
        }
        self.pending_bytes -= bytes;
        count
    }

    /// What waits with this id, or will when it comes, is answered, and nobody can say by what.
    pub(crate) fn lose(&mut self, key: K, at_unix_ns: i64) {
        self.counters.gap += self.forget(key).max(1);
        self.is_lost(Side::Response, at_unix_ns);
    }

    /// An answer was paired that is no answer to that: whose it was is not known.
    pub(crate) fn mistaken(&mut self, at_unix_ns: i64) {
        self.counters.exchanges -= 1;
        self.counters.unanswered += 1;
        self.counters.unasked += 1;
        self.is_lost(Side::Response, at_unix_ns);
    }

    fn is_lost(&mut self, side: Side, to_unix_ns: i64) {
        let missing = &mut self.missing_ns[side as usize];
        *missing = (*missing).max(Some(to_unix_ns));
    }

    /// What is known of the request with this id.
    pub(crate) fn waiting(&self, key: &K) -> Option<&Q> {
        self.pending.get(key).map(|waiting| &waiting.request)
    }

    /// Whether a response can be read without its request being here: it was, or it will not come.
    pub(crate) fn is_known_or_late(&self, key: &K, response_ns: i64, now_unix_ns: i64) -> bool {
        self.pending.contains_key(key)
            || now_unix_ns.saturating_sub(response_ns) >= REORDER_GRACE_NS
    }

    fn is_asked(&self, key: K, until_ns: i64) -> bool {
        self.pending.get(&key).is_some_and(|waiting| waiting.begin_ns <= until_ns)
    }

    /// Whether two requests with this id wait that began until then: whose its next answer is, nobody knows.
    pub(crate) fn is_asked_again(&self, key: K, until_ns: i64) -> bool {
        let is_it = |(again, _, ns): &(K, Q, i64)| *again == key && *ns <= until_ns;
        self.again.iter().any(is_it) && self.is_asked(key, until_ns)
    }

    /// The request that a response answers, with its time; without one it waits.
    pub(crate) fn response(&mut self, key: K, response: R, begin_ns: i64) -> Option<(Q, R, i64)> {
        // An answer from before the request is of an earlier one with its id.
        let is_known = self.is_asked(key, begin_ns);
        if self.is_asked_again(key, begin_ns) {
            // Of the first one no answer came, and this one may be late.
            self.counters.unanswered += self.forget(key);
            self.counters.unasked += 1;
            self.is_lost(Side::Response, begin_ns);
            return None;
        }
        let found = if is_known { self.pending.remove(&key) } else { None };
        let Some(found) = found else {
            while self.early.len() >= EARLY_MAX || self.early_bytes > self.limits.bytes_max {
                self.drop_early();
            }
            self.early_bytes += response.held_bytes();
            self.early.push_back((key, response, begin_ns));
            return None;
        };
        self.pending_bytes -= found.request.held_bytes();
        if self.pending.is_empty() {
            self.order.clear();
        }
        self.next_with(key);
        self.counters.exchanges += 1;
        Some((found.request, response, found.begin_ns))
    }

    /// Messages of that side are missing since then.
    fn is_missing(&self, side: Side, since_unix_ns: i64) -> bool {
        self.missing_ns[side as usize].is_some_and(|at| at >= since_unix_ns)
    }

    /// Drops what waited too long.
    pub(crate) fn pass_time(&mut self, now_unix_ns: i64) {
        let is_over = |since: i64, ns| now_unix_ns.saturating_sub(since) >= ns;
        while self.early.front().is_some_and(|(_, _, ns)| is_over(*ns, REORDER_GRACE_NS)) {
            self.drop_early();
        }
        while let Some((key, number)) = self.order.front() {
            let waiting = self.pending.get(key).filter(|waiting| waiting.number == *number);
            match waiting.map(|waiting| waiting.begin_ns) {
                None => {
                    self.order.pop_front();
                }
                Some(since) if is_over(since, self.limits.answer_within_ns) => {
                    self.drop_oldest();
                    self.unanswered(since);
                }
                Some(_) => return,
            }
        }
    }

    /// Drops everything: nothing more comes.
    pub(crate) fn close(&mut self) {
        while !self.early.is_empty() {
            self.drop_early();
        }
        while let Some(since) = self.drop_oldest() {
            self.unanswered(since);
        }
        self.order = VecDeque::new();
        self.again = VecDeque::new();
        self.doubted = VecDeque::new();
    }

    /// Forgets everything for room.
    pub(crate) fn give_up(&mut self) {
        let waiting = self.pending.len() + self.again.len() + self.early.len();
        self.counters.given_up += waiting as u64;
        let counters = self.counters;
        self.close();
        self.counters = counters;
        self.pending.shrink_to_fit();
        self.early = VecDeque::new();
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || !self.early.is_empty()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.pending_bytes
            + self.early_bytes
            + self.pending.capacity() * (size_of::<K>() + size_of::<Waiting<Q>>() + 1)
            + self.order.capacity() * size_of::<(K, u64)>()
            + self.again.capacity() * size_of::<(K, Q, i64)>()
            + self.early.capacity() * size_of::<(K, R, i64)>()
            + self.doubted.capacity() * size_of::<(K, i64)>()
    }

    fn is_pending(&self, key: &K, number: u64) -> bool {
        self.pending.get(key).is_some_and(|waiting| waiting.number == number)
    }

    /// Whatever came first of what still waits; since when it did.
    fn drop_oldest(&mut self) -> Option<i64> {
        while let Some((key, number)) = self.order.pop_front() {
            if self.is_pending(&key, number) {
                let waiting = self.pending.remove(&key)?;
                self.pending_bytes -= waiting.request.held_bytes();
                self.next_with(key);
                return Some(waiting.begin_ns);
            }
        }
        None
    }

    /// No response: the peer gave none, or it was among what is missing.
    fn unanswered(&mut self, since_unix_ns: i64) {
        match self.is_missing(Side::Response, since_unix_ns) {
            true => self.counters.gap += 1,
            false => self.counters.unanswered += 1,
        }
    }

    /// No request: it was among what is missing, or before capture, or nobody asked.
    fn drop_early(&mut self) {
        let Some((key, response, ns)) = self.early.pop_front() else { return };
        self.early_bytes -= response.held_bytes();
        // Its request may still be known: one of which the end is missing.
        self.is_lost(Side::Response, ns);
        let is_its = |(doubted, begin_ns): &(K, i64)| *doubted == key && *begin_ns <= ns;
        if let Some(at) = self.doubted.iter().position(is_its) {
            self.doubted.remove(at);
            return;
        }
        match self.missing_ns[Side::Request as usize] {
            Some(_) => self.counters.gap += 1,
            None if self.joined => self.counters.unpaired += 1,
            None => self.counters.unasked += 1,
        }
    }
}
