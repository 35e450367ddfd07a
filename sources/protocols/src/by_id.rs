//! Which response answers which request, where both carry an id: for all protocols that do.
//!
//! An id can be used again as soon as it was answered. So a loss mismatches nothing, unless an answer
//! *and* a later request with its id are missing: a pair that could be of that kind is none. That requests
//! are missing is known only when the next one comes: so behind missing responses a pair waits for it, and
//! is given by [`ById::settled`]. A response may come to us before its request, when two CPUs saw them; it
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
    /// Ids are used again while the connection lasts.
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
            ids_repeat: true,
        }
    }
}

/// Responses that wait for their requests.
const EARLY_MAX: usize = 256;
/// Pairs that wait for the next request, to know whether one before it is missing.
const UNSURE_MAX: usize = 1_024;
/// And how long they do.
const UNSURE_NS: i64 = 1_000_000_000;

#[derive(Debug)]
struct Waiting<Q> {
    request: Q,
    number: u64,
    begin_ns: i64,
}

/// A request and the response with its id.
#[derive(Debug)]
pub(crate) struct Pair<Q, R> {
    pub(crate) request: Q,
    pub(crate) response: R,
    pub(crate) begin_ns: i64,
    pub(crate) response_ns: i64,
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
    unsure: VecDeque<Pair<Q, R>>,
    unsure_bytes: usize,
    /// When the newest request began: up to there it is known what is missing.
    requests_to_ns: Option<i64>,
    next_number: u64,
    /// Until when messages of a side are known to be missing.
    missing_ns: [Option<i64>; 2],
    joined: bool,
    pub(crate) counters: Counters,
}

impl<K: Copy + Eq + Hash, Q: Held, R: Held> ById<K, Q, R> {
    /// `from_start`: no request was sent before those that are told.
    pub(crate) fn new(from_start: bool, limits: Limits) -> ById<K, Q, R> {
        ById {
            limits,
            pending: HashMap::default(),
            order: VecDeque::new(),
            pending_bytes: 0,
            early: VecDeque::new(),
            early_bytes: 0,
            unsure: VecDeque::new(),
            unsure_bytes: 0,
            requests_to_ns: None,
            next_number: 0,
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
        self.requests_to_ns = self.requests_to_ns.max(Some(begin_ns));
        if let Some(at) =
            self.early.iter().position(|(early, _, ns)| *early == key && *ns >= begin_ns)
        {
            let (_, response, response_ns) = self.early.remove(at)?;
            self.early_bytes -= response.held_bytes();
            let pair = self.sure(Pair { request, response, begin_ns, response_ns })?;
            return Some((pair.request, pair.response, pair.response_ns));
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
        let pair = Pair {
            request: found.request,
            response,
            begin_ns: found.begin_ns,
            response_ns: begin_ns,
        };
        let pair = self.sure(pair)?;
        Some((pair.request, pair.response, pair.begin_ns))
    }

    /// The pair, if its two halves belong together for certain; if not, it waits.
    fn sure(&mut self, pair: Pair<Q, R>) -> Option<Pair<Q, R>> {
        if !self.is_missing(Side::Response, pair.begin_ns) || !self.limits.ids_repeat {
            self.counters.exchanges += 1;
            return Some(pair);
        }
        self.unsure_bytes += pair.held_bytes();
        self.unsure.push_back(pair);
        while self.unsure.len() > UNSURE_MAX || self.unsure_bytes > self.limits.bytes_max {
            self.drop_unsure();
        }
        None
    }

    /// A pair of which it was not known whether they belong together, and now is. To be asked for until
    /// there is none, after requests have been read.
    pub(crate) fn settled(&mut self) -> Option<Pair<Q, R>> {
        loop {
            let first = self.unsure.front()?;
            if self.is_missing(Side::Request, first.begin_ns) {
                self.drop_unsure();
            } else if self.requests_to_ns >= Some(first.response_ns) {
                let pair = self.unsure.pop_front()?;
                self.unsure_bytes -= pair.held_bytes();
                self.counters.exchanges += 1;
                return Some(pair);
            } else {
                return None;
            }
        }
    }

    /// Messages of that side are missing since then.
    fn is_missing(&self, side: Side, since_unix_ns: i64) -> bool {
        self.missing_ns[side as usize].is_some_and(|at| at >= since_unix_ns)
    }

    fn drop_unsure(&mut self) {
        if let Some(pair) = self.unsure.pop_front() {
            self.unsure_bytes -= pair.held_bytes();
            self.counters.gap += 1;
        }
    }

    /// The newest or another request is no longer waited for, without an answer and without a loss.
    pub(crate) fn forget(&mut self, key: &K) -> Option<Q> {
        let found = self.pending.remove(key)?;
        self.pending_bytes -= found.request.held_bytes();
        Some(found.request)
    }

    /// Drops what waited too long.
    pub(crate) fn pass_time(&mut self, now_unix_ns: i64) {
        let is_over = |since: i64, ns| now_unix_ns.saturating_sub(since) >= ns;
        while self.early.front().is_some_and(|(_, _, ns)| is_over(*ns, REORDER_GRACE_NS)) {
            self.drop_early();
        }
        while self.unsure.front().is_some_and(|pair| is_over(pair.response_ns, UNSURE_NS)) {
            self.drop_unsure();
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
        while !self.unsure.is_empty() {
            self.drop_unsure();
        }
        while let Some(since) = self.drop_oldest() {
            self.unanswered(since);
        }
        self.order = VecDeque::new();
    }

    /// Forgets everything for room.
    pub(crate) fn give_up(&mut self) {
        let waiting = self.pending.len() + self.early.len() + self.unsure.len();
        self.counters.given_up += waiting as u64;
        let counters = self.counters;
        self.close();
        self.counters = counters;
        self.pending.shrink_to_fit();
        self.early = VecDeque::new();
        self.unsure = VecDeque::new();
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || !self.early.is_empty() || !self.unsure.is_empty()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.pending_bytes
            + self.early_bytes
            + self.unsure_bytes
            + self.unsure.capacity() * size_of::<Pair<Q, R>>()
            + self.pending.capacity() * (size_of::<K>() + size_of::<Waiting<Q>>() + 1)
            + self.order.capacity() * size_of::<(K, u64)>()
            + self.early.capacity() * size_of::<(K, R, i64)>()
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
        let missing = &mut self.missing_ns[Side::Response as usize];
        *missing = (*missing).max(Some(ns));
        match self.missing_ns[Side::Request as usize] {
            Some(_) => self.counters.gap += 1,
            None if self.joined => self.counters.unpaired += 1,
            None => self.counters.unasked += 1,
        }
    }
}

impl<Q: Held, R: Held> Held for Pair<Q, R> {
    fn held_bytes(&self) -> usize {
        self.request.held_bytes() + self.response.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = ById<u16, Vec<u8>, ()>;

    /// An id whose answer and whose next request are both missing is no pair; with one of both missing
    /// it is, as soon as that is known. Catches the answer to a request that was not seen given to an
    /// older one.
    #[test]
    fn ids_that_come_again() {
        let both = [Side::Request, Side::Response];
        for (lost, at_once, pairs) in
            [(&both[..], 0, 0), (&both[..1], 1, 1), (&both[1..], 0, 1), (&[], 1, 1)]
        {
            let mut ids = Pairs::new(true, Limits::default());
            assert!(ids.request(7, b"first".to_vec(), 10).is_none());
            for side in lost {
                ids.lost(*side, 20);
            }
            let found = u64::from(ids.response(7, (), 30).is_some());
            assert_eq!(found, at_once, "{lost:?}");
            assert!(ids.settled().is_none());
            assert!(ids.request(8, Vec::new(), 40).is_none());
            let settled = ids.settled().map(|pair| (pair.request, pair.begin_ns, pair.response_ns));
            assert_eq!(settled, (found < pairs).then(|| (b"first".to_vec(), 10, 30)));
            assert_eq!((ids.counters.exchanges, ids.counters.gap), (pairs, 1 - pairs));
        }
        // The hole among the requests is seen only with the request behind it, or never.
        for next in [Some(40), None] {
            let mut ids = Pairs::new(true, Limits::default());
            assert!(ids.request(7, Vec::new(), 10).is_none());
            ids.lost(Side::Response, 30);
            assert!(ids.response(7, (), 30).is_none());
            if let Some(next) = next {
                ids.lost(Side::Request, next);
                assert!(ids.request(7, Vec::new(), next).is_none());
            }
            ids.pass_time(30 + UNSURE_NS);
            assert!(ids.settled().is_none());
            assert_eq!((ids.counters.exchanges, ids.counters.gap), (0, 1));
        }
    }

    /// A request that is known only after a later one's answer came, and whose own is missing.
    #[test]
    fn an_early_answer_of_a_later_request() {
        let mut ids = Pairs::new(true, Limits::default());
        ids.lost(Side::Response, 30);
        assert!(ids.response(7, (), 30).is_none());
        assert!(ids.request(7, Vec::new(), 10).is_none() && ids.settled().is_none());
        ids.lost(Side::Request, 40);
        assert!(ids.request(8, Vec::new(), 40).is_none() && ids.settled().is_none());
        assert_eq!((ids.counters.exchanges, ids.counters.gap), (0, 1));
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
            Limits { requests_max: 10, bytes_max: 1_000, answer_within_ns: 1, ids_repeat: true };
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
