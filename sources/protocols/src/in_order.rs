//! Which response answers which request, where nothing but their order tells: for all protocols that
//! answer first come, first served.
//!
//! While every byte is known, the k-th response answers the k-th request: pairing is *certain*. Where
//! messages are missing, the count is off by an unknown number, and pairing is *uncertain*: until what the
//! next responses are leaves one number only ([`Ahead`]), or there is proof ([`Evidence`]) that all requests
//! before one have been answered. How a client used to behave is none: one that waits for answers may begin
//! to send meanwhile within the very gap. What is not certain is dropped and counted, never guessed.
//!
//! The parser reads requests first, then asks for each response whose it is ([`InOrder::owner`]). It
//! does *not* hold responses: one that comes before its request, or of which it is not known yet whose it is,
//! stays in its stream for a moment.

mod ahead;
mod asked;
mod evidence;
mod proof;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::ahead::Ahead;
pub(crate) use self::ahead::{Missing, Unit};
pub(crate) use self::asked::Asked;
use self::evidence::{Activity, Evidence};
use super::frames::Loss;
use crate::{Counters, REORDER_GRACE_NS};

/// Requests that wait; beyond it pairing begins anew. Pipelines of ten thousand commands are seen.
const REQUESTS_MAX: usize = 65_536;
/// What they may hold together; those beyond it keep their place and what they are, and get no row.
const REQUESTS_BYTES_MAX: usize = 1 << 20;
/// Storage kept when nothing waits.
const IDLE_REQUESTS: usize = 64;

#[derive(Debug)]
struct Waiting<Q> {
    request: Q,
    /// Never before the request in front of it.
    begin_ns: i64,
    /// Requests are missing between the one before and this one.
    after_loss: Option<Loss>,
    /// How many, if that is known.
    missing: Option<Missing>,
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
pub(crate) struct InOrder<Q: Asked> {
    waiting: VecDeque<Waiting<Q>>,
    held_bytes: usize,
    pairing: Pairing,
    activity: Activity,
    /// Requests are missing behind the last one.
    requests_lost: Option<Loss>,
    /// How many, if that is known; and how many of their responses came.
    asked_missing: Option<Missing>,
    heard_lost: u64,
    /// What is known of the next responses where pairing is uncertain.
    ahead: Option<Ahead<Q::Shape>>,
    /// So many of the next responses are those to requests that are missing.
    nobodys: u64,
    /// So many of the last of them are of what is counted already.
    counted_else: u64,
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
            asked_missing: None,
            heard_lost: 0,
            ahead: None,
            nobodys: 0,
            counted_else: 0,
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
        let unclaimed = std::mem::take(&mut self.unclaimed);
        match after_loss {
            Some(_) => self.counters.gap += unclaimed,
            None => self.counters.unasked += unclaimed,
        }
        let heard = std::mem::take(&mut self.heard_lost) + unclaimed;
        let mut missing = self.asked_missing.take().filter(|_| after_loss.is_some());
        missing.iter_mut().for_each(|missing| missing.heard(heard));
        if self.held_bytes + request.held_bytes() > REQUESTS_BYTES_MAX {
            self.counters.given_up += u64::from(request.is_owed());
            request.forget_text();
        }
        self.held_bytes += request.held_bytes();
        let begin_ns = self.waiting.back().map_or(begin_ns, |last| last.begin_ns.max(begin_ns));
        self.waiting.push_back(Waiting { request, begin_ns, after_loss, missing });
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
        if std::mem::take(&mut self.nobodys) > 0 {
            self.uncertain(Evidence::unknown());
        }
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
        if self.nobodys > 0 {
            return Owner::Nobody;
        }
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
        if self.nobodys > 0 {
            self.nobodys_heard(begin_ns, end_ns);
            return;
        }
        self.unit_dropped();
        if let Pairing::Uncertain(evidence) = &mut self.pairing {
            evidence.response();
        }
        self.unowned_part(begin_ns, end_ns);
    }

    /// One to a request that is missing was stepped over.
    fn nobodys_heard(&mut self, begin_ns: i64, end_ns: i64) {
        self.nobodys -= 1;
        self.counters.gap += u64::from(self.nobodys >= self.counted_else);
        self.activity.response(begin_ns, end_ns);
    }

    /// The same, and its end is missing.
    pub(crate) fn unowned_part(&mut self, begin_ns: i64, end_ns: i64) {
        if self.nobodys > 0 {
            self.nobodys_heard(begin_ns, end_ns);
            return;
        }
        self.activity.response(begin_ns, end_ns);
        self.unowned_ns = self.unowned_ns.max(Some(begin_ns));
        let is_missing = self.hear_missing();
        match self.pairing {
            Pairing::Certain if is_missing => self.counters.gap += 1,
            Pairing::Certain if !self.waiting.is_empty() => self.counters.unasked += 1,
            Pairing::Certain => self.unclaimed += 1,
            Pairing::Uncertain(_) => self.drop_response(),
        }
    }

    /// A response was heard, to a request that is missing if pairing is certain. True if one is.
    fn hear_missing(&mut self) -> bool {
        if !self.is_certain() {
            return false;
        }
        if self.requests_lost.is_some() && self.waiting.is_empty() {
            self.heard_lost += 1;
        }
        let front = self.waiting.front_mut().filter(|front| front.after_loss.is_some());
        let is_missing = front.is_some() || self.requests_lost.is_some();
        front.and_then(|front| front.missing.as_mut()).into_iter().for_each(|one| one.heard(1));
        is_missing
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
        (self.reads_front, self.ahead) = (false, None);
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
        self.look_no_further();
        if std::mem::take(&mut self.nobodys) > 0 {
            self.uncertain(Evidence::unknown());
        }
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
