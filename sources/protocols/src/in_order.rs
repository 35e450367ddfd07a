//! Which response answers which request, where nothing but their order tells: for all protocols that
//! answer first come, first served.
//!
//! While every byte is known, the k-th response answers the k-th request: pairing is *certain*. Where
//! messages are missing, the count is off by an unknown number, and pairing is *uncertain* until there is
//! proof ([`Evidence`]) that all requests before one have been answered. How a client used to behave is
//! none: one that waits for answers may begin to send meanwhile within the very gap. What is not certain
//! is dropped and counted, never guessed.
//!
//! The parser reads requests first, then asks for each response whose it is ([`InOrder::owner`]). It
//! does *not* hold responses: one that comes before its request stays in its stream for a moment.

mod evidence;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::evidence::{Activity, Evidence};
use super::frames::Loss;
use crate::{Counters, REORDER_GRACE_NS};

/// Requests that wait; beyond it pairing begins anew. Pipelines of ten thousand commands are seen.
const REQUESTS_MAX: usize = 65_536;
/// What they may hold together; those beyond it keep their place and what they are, and get no row.
const REQUESTS_BYTES_MAX: usize = 1 << 20;
/// Storage kept when nothing waits.
const IDLE_REQUESTS: usize = 64;

/// What waits for its answer.
pub(crate) trait Asked {
    /// Memory beside the value itself.
    fn held_bytes(&self) -> usize;

    /// Forgets what its row would show, for want of room: it gets none. What it is stays known.
    fn forget_text(&mut self);

    /// It gets a row if it is answered: without one it is a loss.
    fn is_owed(&self) -> bool;

    /// How many of the responses that are told one by one it has; `None`: nobody knows.
    fn responses(&self) -> Option<u64> {
        Some(1)
    }

    /// What it is, one bit of many.
    fn mark(&self) -> u32 {
        0
    }

    /// Its response has no parts that could be taken for responses.
    fn is_plain(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Waiting<Q> {
    request: Q,
    /// Never before the request in front of it.
    begin_ns: i64,
    /// Requests are missing between the one before and this one.
    after_loss: Option<Loss>,
}

/// Whose a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The front request's.
    Front,
    /// Its request may still come.
    Wait,
    /// Nobody's: it is to be stepped over.
    Nobody,
}

/// Whether the next response is the front request's.
#[derive(Debug)]
enum Pairing {
    Certain,
    Uncertain(Evidence),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct InOrder<Q> {
    waiting: VecDeque<Waiting<Q>>,
    held_bytes: usize,
    pairing: Pairing,
    activity: Activity,
    /// Requests are missing behind the last one.
    requests_lost: Option<Loss>,
    /// When the last response of nobody's began.
    unowned_ns: Option<i64>,
    /// Responses without a request, of which the next request tells whether one was missing.
    unclaimed: u64,
    /// Joined midway, and nothing is missing since.
    joined: bool,
    /// The response that is being read is the front request's.
    reads_front: bool,
    pub(crate) counters: Counters,
}

impl<Q: Asked> InOrder<Q> {
    /// `from_start`: no request was sent before those that are told.
    pub(crate) fn new(from_start: bool) -> InOrder<Q> {
        InOrder {
            waiting: VecDeque::new(),
            held_bytes: 0,
            pairing: match from_start {
                true => Pairing::Certain,
                false => Pairing::Uncertain(Evidence::joined()),
            },
            activity: Activity::default(),
            requests_lost: None,
            unowned_ns: None,
            unclaimed: 0,
            joined: !from_start,
            reads_front: false,
            counters: Counters::default(),
        }
    }

    /// Takes a request, which began then.
    pub(crate) fn push(&mut self, mut request: Q, begin_ns: i64) {
        if self.waiting.len() >= REQUESTS_MAX {
            self.give_up();
        }
        // Its end was waited for in vain: what came meanwhile may have been its answer.
        if self.unowned_ns >= Some(begin_ns) {
            self.uncertain(Evidence::without_requests());
            for _ in 0..std::mem::take(&mut self.unclaimed) {
                self.drop_response();
            }
        }
        let after_loss = self.requests_lost.take();
        match after_loss {
            Some(_) => self.counters.gap += self.unclaimed,
            None => self.counters.unasked += self.unclaimed,
        }
        self.unclaimed = 0;
        if self.held_bytes + request.held_bytes() > REQUESTS_BYTES_MAX {
            self.counters.given_up += u64::from(request.is_owed());
            request.forget_text();
        }
        self.held_bytes += request.held_bytes();
        let begin_ns = self.waiting.back().map_or(begin_ns, |last| last.begin_ns.max(begin_ns));
        self.waiting.push_back(Waiting { request, begin_ns, after_loss });
    }

    /// Requests are missing behind those that were told.
    pub(crate) fn requests_lost(&mut self, loss: Loss) {
        self.had_loss();
        self.requests_lost = Some(self.requests_lost.map_or(loss, |before| before.and(loss)));
    }

    /// Responses are missing behind those that were told: at least so many if pairing was certain, or nobody
    /// can count them.
    pub(crate) fn responses_lost(&mut self, loss: Loss, at_least: Option<u64>) {
        self.had_loss();
        self.reads_front = false;
        self.activity.responses_lost(loss);
        self.uncertain(Evidence::without_responses());
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.responses_lost(at_least);
        }
    }

    /// The same, where a response had begun that counts when it ends, and has been taken.
    pub(crate) fn response_broken(&mut self, loss: Loss, at_least: Option<u64>) {
        self.responses_lost(loss, at_least);
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.asked(Some(1));
        }
    }

    /// What is missing began within a response that was taken, and the rest of it may look like others.
    pub(crate) fn has_parts(&mut self) {
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.has_parts();
        }
    }

    /// The server says what cannot be told from an answer.
    pub(crate) fn is_unsure(&mut self) {
        self.uncertain(Evidence::without_responses());
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.responses_lost(None);
        }
    }

    /// What was lost before anything was told of a connection that was joined midway is no loss.
    fn had_loss(&mut self) {
        self.joined &= self.waiting.is_empty() && self.activity.is_none();
    }

    /// Pairing is uncertain from here on; evidence that there is goes on.
    fn uncertain(&mut self, evidence: Evidence) {
        if self.is_certain() {
            self.counters.resyncs += 1;
            self.pairing = Pairing::Uncertain(evidence);
        }
    }

    /// Whose a response is that began then. [`Owner::Front`] holds until it is answered or something is
    /// lost.
    pub(crate) fn owner(&mut self, begin_ns: i64, now_unix_ns: i64) -> Owner {
        let owner = self.find_owner(begin_ns, now_unix_ns);
        self.reads_front = owner == Owner::Front;
        if owner == Owner::Nobody {
            self.unowned_ns = self.unowned_ns.max(Some(begin_ns));
        }
        owner
    }

    fn find_owner(&mut self, begin_ns: i64, now_unix_ns: i64) -> Owner {
        let may_come = now_unix_ns.saturating_sub(begin_ns) < REORDER_GRACE_NS;
        if self.is_certain() {
            match self.waiting.front() {
                Some(front) if front.after_loss.is_some() => {
                    self.uncertain(Evidence::without_requests());
                }
                Some(front) if front.begin_ns <= begin_ns => return Owner::Front,
                None if may_come => return Owner::Wait,
                // A server's own word, or the answer to what is missing.
                Some(_) | None => return Owner::Nobody,
            }
        }
        let are_told = self.waiting.back().is_some_and(|last| last.begin_ns > begin_ns);
        if may_come && !are_told {
            return Owner::Wait;
        }
        self.prove(begin_ns)
    }

    /// Responses are missing, and no request: looks for proof in what the response is that began then and was
    /// not told yet. It answers the first request behind the loss or one before that; `fits` says whether it
    /// can be that one's, `may_be` whether one before it, `may_be_of` whether one of those that were
    /// dropped.
    pub(crate) fn prove_by(
        &mut self,
        begin_ns: i64,
        fits: impl Fn(&Q) -> bool,
        may_be: impl Fn(&Q) -> bool,
        may_be_of: impl Fn(u32) -> bool,
    ) {
        let Pairing::Uncertain(evidence) = &self.pairing else { return };
        let lost_ns = self.activity.responses_lost_ns.unwrap_or(i64::MAX);
        let idx = self.waiting.partition_point(|waiting| waiting.begin_ns < lost_ns);
        let Some(first) = self.waiting.get(idx) else { return };
        let is_known = evidence.knows_requests()
            && self.waiting.range(..=idx).all(|waiting| waiting.after_loss.is_none());
        let is_next =
            first.begin_ns <= begin_ns && self.activity.response_begin_ns < Some(first.begin_ns);
        let mut before = self.waiting.range(..idx).map(|waiting| &waiting.request);
        if is_known
            && is_next
            && fits(&first.request)
            && !may_be_of(evidence.marks)
            && !before.any(may_be)
        {
            for _ in 0..idx {
                self.drop_uncertain();
            }
            self.pairing = Pairing::Certain;
        }
    }

    /// A part of a response of nobody's was stepped over.
    pub(crate) fn heard(&mut self, at_ns: i64) {
        self.activity.response(at_ns, at_ns);
    }

    pub(crate) fn is_certain(&self) -> bool {
        matches!(self.pairing, Pairing::Certain)
    }

    /// No request is missing since pairing was certain.
    pub(crate) fn knows_requests(&self) -> bool {
        match &self.pairing {
            Pairing::Certain => true,
            Pairing::Uncertain(evidence) => evidence.knows_requests(),
        }
    }

    /// Looks for proof, request by request, that one of them is answered by the response that began then.
    /// Those before it are dropped.
    fn prove(&mut self, begin_ns: i64) -> Owner {
        let count = self.waiting.partition_point(|waiting| waiting.begin_ns <= begin_ns);
        let mut owner_idx = self.owner_by_count(count);
        for _ in 0..count {
            let Pairing::Uncertain(evidence) = &mut self.pairing else { return Owner::Front };
            let Some(front) = self.waiting.front_mut() else { break };
            let at = (front.begin_ns, front.after_loss);
            if owner_idx == Some(0) || evidence.proves(at, &self.activity) {
                front.after_loss = None;
                self.pairing = Pairing::Certain;
                return Owner::Front;
            }
            owner_idx = owner_idx.map(|idx| idx - 1);
            let request = &front.request;
            evidence.request(at, request.responses(), request.is_plain(), &self.activity);
            self.activity.request(front.begin_ns);
            self.drop_uncertain();
        }
        Owner::Nobody
    }

    /// Which of the first `count` requests a response answers that began after them and before the next, if
    /// counts prove it. That no request is missing before the response is told by the next one only.
    fn owner_by_count(&self, count: usize) -> Option<usize> {
        let Pairing::Uncertain(evidence) = &self.pairing else { return None };
        if !evidence.is_any_missing() || self.waiting.len() <= count {
            return None;
        }
        let is_known = |waiting: &Waiting<Q>| waiting.after_loss.is_none();
        let are_plain = self.waiting.range(..count).all(|waiting| waiting.request.is_plain());
        if !are_plain || !self.waiting.range(..=count).all(is_known) {
            return None;
        }
        let each = self.waiting.range(..count).map(|waiting| waiting.request.responses());
        let before = each.sum::<Option<u64>>()?.checked_sub(1)?;
        let mut passed = 0;
        let owner = self.waiting.range(..count).position(|waiting| {
            let is_it = passed == before;
            passed += waiting.request.responses().unwrap_or_default();
            is_it
        });
        owner.filter(|_| evidence.are_answered(before))
    }

    /// Drops the front request, of which it is not known what answered it.
    fn drop_uncertain(&mut self) {
        let Some(front) = self.waiting.pop_front() else { return };
        self.held_bytes -= front.request.held_bytes();
        self.shrink();
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.marks |= front.request.mark();
            if front.request.is_owed() {
                evidence.dropped_request();
            }
        }
        self.count_dropped();
    }

    fn count_dropped(&mut self) {
        let Pairing::Uncertain(evidence) = &mut self.pairing else { return };
        let lost = evidence.take_lost();
        match self.joined {
            true => self.counters.unpaired += lost,
            false => self.counters.gap += lost,
        }
    }

    /// The front request.
    pub(crate) fn front(&self) -> Option<&Q> {
        Some(&self.waiting.front()?.request)
    }

    /// The request that was told last, if it waits.
    pub(crate) fn last_mut(&mut self) -> Option<&mut Q> {
        Some(&mut self.waiting.back_mut()?.request)
    }

    /// All that wait.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Q> {
        self.waiting.iter().map(|waiting| &waiting.request)
    }

    /// The front request was answered, by a response that began and ended then. It, which gets a row if
    /// it is owed one.
    pub(crate) fn answered(&mut self, begin_ns: i64, end_ns: i64) -> Option<Q> {
        if !std::mem::take(&mut self.reads_front) {
            // It was given up meanwhile.
            self.unowned(begin_ns, end_ns);
            return None;
        }
        self.activity.response(begin_ns, end_ns);
        let request = self.pop_front()?;
        self.counters.exchanges += u64::from(request.is_owed());
        Some(request)
    }

    /// The front request is over without a response of its own. `None`: requests are missing before the
    /// next one, or none waits.
    pub(crate) fn drop_front(&mut self) -> Option<Q> {
        self.waiting.front().filter(|front| front.after_loss.is_none())?;
        self.pop_front()
    }

    fn pop_front(&mut self) -> Option<Q> {
        let front = self.waiting.pop_front()?;
        self.shrink();
        self.activity.request(front.begin_ns);
        self.held_bytes -= front.request.held_bytes();
        Some(front.request)
    }

    /// A response of nobody's was stepped over.
    pub(crate) fn unowned(&mut self, begin_ns: i64, end_ns: i64) {
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.response();
        }
        self.unowned_part(begin_ns, end_ns);
    }

    /// The same, and its end is missing.
    pub(crate) fn unowned_part(&mut self, begin_ns: i64, end_ns: i64) {
        self.activity.response(begin_ns, end_ns);
        self.unowned_ns = self.unowned_ns.max(Some(begin_ns));
        match self.pairing {
            Pairing::Certain if self.requests_lost.is_some() => self.counters.gap += 1,
            Pairing::Certain if !self.waiting.is_empty() => self.counters.unasked += 1,
            Pairing::Certain => self.unclaimed += 1,
            Pairing::Uncertain(_) => self.drop_response(),
        }
    }

    fn drop_response(&mut self) {
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.dropped_response();
        }
        self.count_dropped();
    }

    fn shrink(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > IDLE_REQUESTS {
            self.waiting.shrink_to(IDLE_REQUESTS);
        }
    }

    fn owed(&self) -> u64 {
        self.requests().filter(|request| request.is_owed()).count() as u64
    }

    fn clear(&mut self) {
        self.reads_front = false;
        self.waiting = VecDeque::new();
        self.held_bytes = 0;
    }

    /// Drops everything: nothing more comes.
    pub(crate) fn close(&mut self) {
        let is_lost = self.requests_lost.is_some()
            || self.waiting.iter().any(|waiting| waiting.after_loss.is_some());
        match (&self.pairing, is_lost) {
            (Pairing::Certain, false) => self.counters.unanswered += self.owed(),
            (Pairing::Certain, true) => self.counters.gap += self.owed(),
            (Pairing::Uncertain(_), _) => {
                while !self.waiting.is_empty() {
                    self.drop_uncertain();
                }
            }
        }
        self.counters.unasked += std::mem::take(&mut self.unclaimed);
        self.clear();
    }

    /// Forgets everything for room.
    pub(crate) fn give_up(&mut self) {
        let owed = self.owed();
        self.counters.given_up += owed;
        if let Some(last) = self.waiting.back() {
            let at = last.begin_ns;
            self.requests_lost(Loss { from_unix_ns: at, to_unix_ns: at });
            self.uncertain(Evidence::without_requests());
        }
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.gave_up(owed);
        }
        self.clear();
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes + self.waiting.capacity() * size_of::<Waiting<Q>>()
    }
}
