//! Which response answers which request, where both carry an id: for all protocols that do.
//!
//! Clients count their requests, so that a loss mismatches nothing. One that does not may use an id again
//! as soon as it was answered: where an answer *and* a later request with its id are missing, the later
//! answer would be taken for the first one's. So of a client that was seen to go back, or of which the
//! protocol says so, nothing is paired that was asked before responses were lost, also if we come to know
//! of the request behind the loss. A response may come to us before its request, when two CPUs saw them; it
//! waits for a moment.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

use crate::{Counters, REORDER_GRACE_NS, Side};

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
    /// Ids are used again as soon as they are free: nobody has to be seen to do so.
    pub(crate) ids_repeat: bool,
}

impl Default for Limits {
    /// Clients have some hundreds of requests under way, rarely thousands; servers end what takes an
    /// hour (a consumer's poll, a large migration).
    fn default() -> Limits {
        Limits {
            requests_max: 8_192,
            bytes_max: 2 << 20,
            answer_within_ns: 3_600_000_000_000,
            ids_repeat: false,
        }
    }
}

/// Responses that wait for their requests, and such that may have been of one that is not known yet.
const EARLY_MAX: usize = 256;

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
    early: VecDeque<(K, R, i64)>,
    early_bytes: usize,
    /// Responses that an older request with their id may have had.
    spent: VecDeque<(K, i64)>,
    /// When the last of the responses was that were dropped: those of requests that were not known.
    dropped_ns: Option<i64>,
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
            early: VecDeque::new(),
            early_bytes: 0,
            spent: VecDeque::new(),
            dropped_ns: None,
            next_number: 0,
            highest: None,
            ids_repeat: limits.ids_repeat,
            missing_ns: [None; 2],
            joined: !from_start,
            counters: Counters::default(),
        }
    }

    /// Messages of a side are missing, until then at the latest.
    pub(crate) fn lost(&mut self, side: Side, to_unix_ns: i64) {
        let missing = &mut self.missing_ns[side as usize];
        *missing = (*missing).max(Some(to_unix_ns));
        self.counters.resyncs += 1;
    }

    /// Takes a request. The pair, if its response was here before; with the response's time.
    pub(crate) fn request(&mut self, key: K, request: Q, begin_ns: i64) -> Option<(Q, R, i64)> {
        self.ids_repeat |= self.highest >= Some(key);
        self.highest = self.highest.max(Some(key));
        if self.limits.ids_repeat && self.is_spent(key, begin_ns) {
            self.counters.gap += 1;
            return None;
        }
        if let Some(at) =
            self.early.iter().position(|(early, _, ns)| *early == key && *ns >= begin_ns)
        {
            let (_, response, response_ns) = self.early.remove(at)?;
            self.early_bytes -= response.held_bytes();
            return self.is_pair(begin_ns).then_some((request, response, response_ns));
        }
        let number = self.next_number;
        self.next_number += 1;
        if self.order.len() > 2 * self.limits.requests_max {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(key, number)| self.is_pending(key, *number));
            self.order = order;
        }
        self.order.push_back((key, number));
        self.pending_bytes += request.held_bytes();
        if let Some(before) = self.pending.insert(key, Waiting { request, number, begin_ns }) {
            // Its id is used again: nobody waits for it any more.
            self.pending_bytes -= before.request.held_bytes();
            self.unanswered(before.begin_ns);
        }
        while self.pending.len() > self.limits.requests_max
            || self.pending_bytes > self.limits.bytes_max
        {
            if self.drop_oldest().is_none() {
                break;
            }
            self.counters.given_up += 1;
        }
        None
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

    /// Nobody waits for the answer of the request with this id any more.
    pub(crate) fn forget(&mut self, key: &K) {
        if let Some(waiting) = self.pending.remove(key) {
            self.pending_bytes -= waiting.request.held_bytes();
            self.unanswered(waiting.begin_ns);
        }
    }

    /// The request that a response answers, with its time; without one it waits.
    pub(crate) fn response(&mut self, key: K, response: R, begin_ns: i64) -> Option<(Q, R, i64)> {
        // An answer from before the request is of an earlier one with its id.
        let is_known = self.pending.get(&key).is_some_and(|waiting| waiting.begin_ns <= begin_ns);
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
        if !self.is_pair(found.begin_ns) {
            if self.spent.len() >= EARLY_MAX
                && let Some((_, ns)) = self.spent.pop_front()
            {
                self.dropped_ns = self.dropped_ns.max(Some(ns));
            }
            self.spent.push_back((key, begin_ns));
            return None;
        }
        Some((found.request, response, found.begin_ns))
    }

    /// Whether the response of a request that comes to be known now may be gone: taken for that of an older
    /// one, or because it waited for too long.
    fn is_spent(&mut self, key: K, begin_ns: i64) -> bool {
        if self.dropped_ns >= Some(begin_ns) {
            return true;
        }
        let is_it = |(spent, ns): &(K, i64)| *spent == key && *ns >= begin_ns;
        let at = self.spent.iter().position(is_it);
        at.and_then(|at| self.spent.remove(at)).is_some()
    }

    /// Whether a response with the id of a request that began then is its own; counts it, or the loss.
    fn is_pair(&mut self, begin_ns: i64) -> bool {
        let is_pair = !self.ids_repeat || !self.is_missing(Side::Response, begin_ns);
        match is_pair {
            true => self.counters.exchanges += 1,
            false => self.counters.gap += 1,
        }
        is_pair
    }

    /// Whether a request waits whose id is not known to be free.
    pub(crate) fn is_taken(&self, key: &K) -> bool {
        let waiting = self.pending.get(key);
        waiting.is_some_and(|waiting| !self.is_missing(Side::Response, waiting.begin_ns))
    }

    /// Messages of that side are missing since then.
    fn is_missing(&self, side: Side, since_unix_ns: i64) -> bool {
        self.missing_ns[side as usize].is_some_and(|at| at >= since_unix_ns)
    }

    /// Drops what waited too long.
    pub(crate) fn pass_time(&mut self, now_unix_ns: i64) {
        let is_over = |since: i64, ns| now_unix_ns.saturating_sub(since) >= ns;
        while let Some((_, ns)) =
            self.spent.front().filter(|(_, ns)| is_over(*ns, REORDER_GRACE_NS))
        {
            self.dropped_ns = self.dropped_ns.max(Some(*ns));
            self.spent.pop_front();
        }
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
        let spent_ns = self.spent.iter().map(|(_, ns)| *ns).max();
        self.dropped_ns = self.dropped_ns.max(spent_ns);
        self.spent = VecDeque::new();
        while let Some(since) = self.drop_oldest() {
            self.unanswered(since);
        }
        self.order = VecDeque::new();
    }

    /// Forgets everything for room.
    pub(crate) fn give_up(&mut self) {
        let waiting = self.pending.len() + self.early.len();
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
            + self.early.capacity() * size_of::<(K, R, i64)>()
            + self.spent.capacity() * size_of::<(K, i64)>()
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
        let Some((_, response, ns)) = self.early.pop_front() else { return };
        self.early_bytes -= response.held_bytes();
        // Its request may still be known: one of which the end is missing.
        self.dropped_ns = self.dropped_ns.max(Some(ns));
        if !self.limits.ids_repeat {
            let missing = &mut self.missing_ns[Side::Response as usize];
            *missing = (*missing).max(Some(ns));
        }
        match self.missing_ns[Side::Request as usize] {
            Some(_) => self.counters.gap += 1,
            None if self.joined => self.counters.unpaired += 1,
            None => self.counters.unasked += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = ById<u16, Vec<u8>, ()>;

    /// Of a client that counts, whose ids come but once, a pair is one whatever is missing; of one that goes
    /// back, an answer behind missing ones may be that of a request that is missing. Catches the answer to a
    /// request that was not seen given to an older one.
    #[test]
    fn ids_that_come_again() {
        let both = [Side::Request, Side::Response];
        for repeats in [false, true] {
            for (lost, may_be_wrong) in
                [(&both[..], true), (&both[1..], true), (&both[..1], false), (&[], false)]
            {
                let mut ids = Pairs::new(true, Limits::default());
                for id in [5, if repeats { 5 } else { 6 }] {
                    assert!(ids.request(id, Vec::new(), 1).is_none());
                    assert!(ids.response(id, (), 2).is_some());
                }
                assert!(ids.request(7, b"first".to_vec(), 10).is_none());
                for side in lost {
                    ids.lost(*side, 20);
                }
                let found = ids.response(7, (), 30).map(|(request, (), _)| request);
                let is_pair = !(repeats && may_be_wrong);
                assert_eq!(found, is_pair.then(|| b"first".to_vec()), "{lost:?} {repeats}");
                let lost = u64::from(!is_pair);
                assert_eq!((ids.counters.exchanges, ids.counters.gap), (3 - lost, lost));
                assert!(ids.request(8, Vec::new(), 40).is_none());
                assert!(ids.response(8, (), 50).is_some());
            }
        }
    }

    /// Of ids that are used again as soon as they are free, the first request is no exception, nor is one
    /// that is known only after the answer that came early: behind lost responses it is no pair.
    #[test]
    fn ids_of_a_protocol_that_repeats_them() {
        let limits = Limits { ids_repeat: true, ..Limits::default() };
        for is_early in [false, true] {
            let mut ids = Pairs::new(true, limits);
            if !is_early {
                assert!(ids.request(7, Vec::new(), 10).is_none() && ids.is_taken(&7));
            }
            ids.lost(Side::Response, 20);
            assert!(!ids.is_taken(&7));
            assert!(ids.response(7, (), 30).is_none());
            if is_early {
                assert!(ids.request(7, Vec::new(), 10).is_none());
            }
            assert!(ids.request(7, Vec::new(), 40).is_none());
            assert!(ids.response(7, (), 50).is_some());
            assert_eq!((ids.counters.exchanges, ids.counters.gap), (1, 1), "{is_early}");
            assert!(!ids.is_waiting());
        }
    }

    /// A response that is taken for that of an older request, which it may not be, is that of a request that
    /// is known later. Catches the next response with that id given to it.
    #[test]
    fn a_response_that_an_older_request_took() {
        let limits = Limits { ids_repeat: true, ..Limits::default() };
        for passes in [false, true] {
            let mut ids = Pairs::new(true, limits);
            assert!(ids.request(7, b"old".to_vec(), 10).is_none());
            ids.lost(Side::Response, 20);
            assert!(ids.response(7, (), 50).is_none(), "of that which began at 40");
            assert!(ids.response(7, (), 70).is_none(), "of a third one, which is lost");
            if passes {
                ids.pass_time(REORDER_GRACE_NS + 80);
            }
            assert!(ids.request(7, b"late".to_vec(), 40).is_none());
            ids.pass_time(REORDER_GRACE_NS + 80);
            assert_eq!((ids.counters.exchanges, ids.counters.gap), (0, 2), "{passes}");
            let begin_ns = REORDER_GRACE_NS + 90;
            assert!(ids.request(7, Vec::new(), begin_ns).is_none());
            assert!(ids.response(7, (), begin_ns).is_some());
        }
    }

    /// A response from before its request is of an earlier one with that id, and waits in vain.
    #[test]
    fn a_response_is_not_before_its_request() {
        let mut ids = Pairs::new(true, Limits::default());
        assert!(ids.request(7, Vec::new(), 10).is_none());
        assert!(ids.response(7, (), 9).is_none());
        assert!(ids.response(7, (), 11).is_some());
        ids.pass_time(REORDER_GRACE_NS + 9);
        assert_eq!((ids.counters.exchanges, ids.counters.unasked), (1, 1));
        assert!(!ids.is_waiting());
    }

    /// What waits is bounded in number and bytes; what is given up is counted.
    #[test]
    fn what_waits_is_bounded() {
        let limits =
            Limits { requests_max: 10, bytes_max: 1_000, answer_within_ns: 1, ..Limits::default() };
        let mut ids = Pairs::new(false, limits);
        for id in 0..100 {
            assert!(ids.request(id, vec![0; 150], 0).is_none());
        }
        assert_eq!((ids.pending.len(), ids.counters.given_up), (6, 94));
        for id in 200..1_000 {
            assert!(ids.response(id, (), 0).is_none());
        }
        assert_eq!((ids.early.len(), ids.counters.unpaired), (EARLY_MAX, 800 - 256));
        ids.give_up();
        assert!(!ids.is_waiting() && ids.pending_bytes == 0);
    }
}
