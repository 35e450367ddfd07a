//! Which response answers which request, where nothing but their order tells: for all protocols that
//! answer first come, first served.
//!
//! While every byte is known, the k-th response answers the k-th request. Where messages are missing,
//! the count is off by an unknown number; then times decide. The assumption, in one sentence: a client
//! that was never seen to send while it waited for an answer, does not begin to inside a gap; so when a
//! call of requests begins, all before it has been answered, and its first request is answered by the
//! first response after it. A client that does send meanwhile (it *overlaps*) is paired again only after
//! both directions were silent for [`QUIET_NS`]; if it is seen to only after pairing was taken up again
//! by the assumption, pairing ends at once. Where a response may be missing behind a call, the next one
//! is not taken for it: a later call may be missing as well. What does not fit is dropped and counted,
//! never guessed.
//!
//! The parser reads requests first, then asks for each response whose it is ([`InOrder::owner`]). It
//! does *not* hold responses: one that comes before its request stays in its stream for a moment.

use std::collections::VecDeque;

use super::by_id::Held;
use super::frames::Loss;
use crate::{Counters, REORDER_GRACE_NS};

/// Silence after which everything that was asked has been answered.
const QUIET_NS: i64 = 1_000_000_000;
/// Requests that wait, counting those of which nothing is kept; beyond it pairing begins anew.
/// Pipelines of ten thousand commands are seen.
const REQUESTS_MAX: usize = 65_536;
/// What the kept ones may hold together; of those beyond it only their place is kept.
const REQUESTS_BYTES_MAX: usize = 1 << 20;
/// Storage kept when nothing waits.
const IDLE_REQUESTS: usize = 64;

#[derive(Debug)]
struct Waiting<Q> {
    /// `None`: given up for room, only its place counts.
    request: Option<Q>,
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

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct InOrder<Q> {
    waiting: VecDeque<Waiting<Q>>,
    held_bytes: usize,
    /// The next response is the front request's.
    certain: bool,
    /// It is so by the assumption, not since the beginning or after silence.
    assumed: bool,
    /// Requests are missing behind the last one.
    requests_lost: Option<Loss>,
    /// Until when responses are missing, since pairing was certain last.
    responses_lost_ns: Option<i64>,
    /// Bytes were missing, other than those from before it was watched.
    had_loss: bool,
    /// When the last response that was read began, and when it ended.
    last_begin_ns: Option<i64>,
    last_end_ns: Option<i64>,
    /// When the last response of nobody's began.
    unowned_ns: Option<i64>,
    /// The client sent while it waited, by a later call.
    overlaps: bool,
    joined: bool,
    pub(crate) counters: Counters,
}

impl<Q: Held> InOrder<Q> {
    /// `from_start`: no request was sent before those that are told.
    pub(crate) fn new(from_start: bool) -> InOrder<Q> {
        InOrder {
            waiting: VecDeque::new(),
            held_bytes: 0,
            certain: from_start,
            assumed: false,
            requests_lost: None,
            responses_lost_ns: None,
            had_loss: false,
            last_begin_ns: None,
            last_end_ns: None,
            unowned_ns: None,
            overlaps: false,
            joined: !from_start,
            counters: Counters::default(),
        }
    }

    /// Takes a request, which began then.
    pub(crate) fn push(&mut self, request: Q, begin_ns: i64) {
        if self.waiting.len() >= REQUESTS_MAX {
            self.counters.given_up += self.waiting.len() as u64;
            self.clear();
            self.uncertain();
            self.requests_lost = Some(Loss { from_unix_ns: begin_ns, to_unix_ns: begin_ns });
        }
        // Its end was waited for in vain: what came meanwhile may have been its answer.
        if self.unowned_ns >= Some(begin_ns) {
            self.uncertain();
        }
        let after_loss = self.requests_lost.take();
        let bytes = request.held_bytes();
        let fits = self.held_bytes + bytes <= REQUESTS_BYTES_MAX;
        if fits {
            self.held_bytes += bytes;
        } else {
            self.counters.given_up += 1;
        }
        let request = fits.then_some(request);
        self.waiting.push_back(Waiting { request, begin_ns, after_loss });
    }

    /// Requests are missing behind those that were told.
    pub(crate) fn requests_lost(&mut self, loss: Loss) {
        self.had_loss |= self.has_begun();
        self.requests_lost = Some(self.requests_lost.map_or(loss, |before| before.and(loss)));
    }

    /// Responses are missing behind those that were told.
    pub(crate) fn responses_lost(&mut self, loss: Loss) {
        self.had_loss |= self.has_begun();
        self.responses_lost_ns = self.responses_lost_ns.max(Some(loss.to_unix_ns));
        self.uncertain();
    }

    fn has_begun(&self) -> bool {
        self.certain || !self.waiting.is_empty() || self.last_begin_ns.is_some()
    }

    fn uncertain(&mut self) {
        self.counters.resyncs += u64::from(self.certain);
        self.certain = false;
    }

    /// Whose a response is that began then. [`Owner::Front`] holds until it is answered or something is
    /// lost.
    pub(crate) fn owner(&mut self, begin_ns: i64, now_unix_ns: i64) -> Owner {
        let owner = self.find_owner(begin_ns, now_unix_ns);
        if owner == Owner::Nobody {
            self.unowned_ns = self.unowned_ns.max(Some(begin_ns));
        }
        owner
    }

    fn find_owner(&mut self, begin_ns: i64, now_unix_ns: i64) -> Owner {
        let may_come = now_unix_ns.saturating_sub(begin_ns) < REORDER_GRACE_NS;
        if self.certain && self.assumed && self.sends_meanwhile(begin_ns) {
            self.overlaps = true;
            self.uncertain();
        }
        if self.certain {
            match self.waiting.front() {
                Some(front) if front.after_loss.is_some() => self.uncertain(),
                Some(front) if front.begin_ns <= begin_ns => return Owner::Front,
                None if self.requests_lost.is_none() && may_come => return Owner::Wait,
                // A server's own word, or the answer to what is missing.
                Some(_) | None => return Owner::Nobody,
            }
        }
        // Whether more requests came before this response has to be known.
        if may_come {
            return Owner::Wait;
        }
        self.owner_by_time(begin_ns)
    }

    /// A later call than the front request's was seen before this response.
    fn sends_meanwhile(&self, begin_ns: i64) -> bool {
        let Some(front_ns) = self.front_begin_ns() else { return false };
        let next = self.waiting.partition_point(|waiting| waiting.begin_ns <= front_ns);
        self.waiting.get(next).is_some_and(|waiting| waiting.begin_ns < begin_ns)
    }

    fn owner_by_time(&mut self, begin_ns: i64) -> Owner {
        let count = self.waiting.partition_point(|waiting| waiting.begin_ns <= begin_ns);
        let Some(last) = count.checked_sub(1).and_then(|idx| self.waiting.get(idx)) else {
            return Owner::Nobody;
        };
        let call_ns = last.begin_ns;
        let first = self.waiting.partition_point(|waiting| waiting.begin_ns < call_ns);
        let before_ns = first.checked_sub(1).map(|idx| self.waiting[idx].begin_ns);
        let quiet_since_ns = [before_ns, self.last_end_ns, self.responses_lost_ns];
        let quiet_since_ns = quiet_since_ns.into_iter().flatten().max();
        let is_quiet =
            quiet_since_ns.map_or(!self.joined, |at| call_ns.saturating_sub(at) >= QUIET_NS);
        // Calls before it that nothing answered, seen or lost.
        let heard_ns = self.last_begin_ns.max(self.responses_lost_ns);
        self.overlaps |= before_ns.is_some_and(|at| heard_ns.is_none_or(|heard| heard < at));
        let call = self.waiting.range(first..).take_while(|waiting| waiting.begin_ns == call_ns);
        let (mut requests, mut holes, mut lost_in_call) = (0, 0, false);
        for (idx, waiting) in call.enumerate() {
            requests += 1;
            holes += usize::from(idx > 0 && waiting.after_loss.is_some());
            // A hole before the first may be a part of the same call.
            lost_in_call |= idx == 0
                && waiting
                    .after_loss
                    .is_some_and(|loss| loss.to_unix_ns == call_ns && loss.from_unix_ns == call_ns);
        }
        let next_lost = self.waiting.get(first + requests).and_then(|waiting| waiting.after_loss);
        let more_lost = next_lost.or(self.requests_lost);
        let more_lost = more_lost.is_some_and(|loss| loss.from_unix_ns <= begin_ns)
            && first + requests == count;
        let answer_lost = self.responses_lost_ns.is_some_and(|at| at >= call_ns);
        let answered = self.last_begin_ns.is_some_and(|at| at >= call_ns);
        let fits = holes == 0 && !lost_in_call && !more_lost && !answer_lost && !answered;
        if !fits || (self.overlaps && !is_quiet) {
            return Owner::Nobody;
        }
        self.drop_first(first);
        if let Some(front) = self.waiting.front_mut() {
            front.after_loss = None;
        }
        self.certain = true;
        self.assumed = !is_quiet;
        self.responses_lost_ns = None;
        Owner::Front
    }

    /// The front request; `None` if nothing of it is kept.
    pub(crate) fn front(&self) -> Option<&Q> {
        self.waiting.front()?.request.as_ref()
    }

    /// The request that was told last.
    pub(crate) fn last_mut(&mut self) -> Option<&mut Q> {
        self.waiting.back_mut()?.request.as_mut()
    }

    /// Forgets those that need no answer, without counting them; for the end of a connection.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&Q) -> bool) {
        self.waiting.retain(|waiting| waiting.request.as_ref().is_none_or(&is_kept));
    }

    pub(crate) fn front_begin_ns(&self) -> Option<i64> {
        self.waiting.front().map(|waiting| waiting.begin_ns)
    }

    pub(crate) fn waits(&self) -> usize {
        self.waiting.len()
    }

    /// All that wait, those of which only the place is kept left out.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Q> {
        self.waiting.iter().filter_map(|waiting| waiting.request.as_ref())
    }

    /// The front request was answered, by a response that began and ended then. It, and when it began.
    pub(crate) fn answered(&mut self, begin_ns: i64, end_ns: i64) -> Option<(Q, i64)> {
        self.passed(begin_ns, end_ns);
        let front = self.waiting.pop_front()?;
        if let Some(next) = self.waiting.front()
            && next.after_loss.is_none()
            && next.begin_ns > front.begin_ns
            && next.begin_ns < begin_ns
        {
            self.overlaps = true;
        }
        self.shrink();
        let request = front.request?;
        self.held_bytes -= request.held_bytes();
        self.counters.exchanges += 1;
        Some((request, front.begin_ns))
    }

    /// The front request is over without a pair: it has no response, or a part of that is missing.
    pub(crate) fn drop_front(&mut self) -> Option<(Q, i64)> {
        let front = self.waiting.pop_front()?;
        self.shrink();
        let request = front.request?;
        self.held_bytes -= request.held_bytes();
        Some((request, front.begin_ns))
    }

    /// A response of nobody's was stepped over.
    pub(crate) fn unowned(&mut self, begin_ns: i64, end_ns: i64) {
        self.passed(begin_ns, end_ns);
        match (self.certain && self.requests_lost.is_none(), self.joined) {
            (true, _) => self.counters.unasked += 1,
            (false, true) if !self.had_loss => self.counters.unpaired += 1,
            (false, _) => self.counters.gap += 1,
        }
    }

    fn passed(&mut self, begin_ns: i64, end_ns: i64) {
        self.last_begin_ns = self.last_begin_ns.max(Some(begin_ns));
        self.last_end_ns = self.last_end_ns.max(Some(end_ns));
    }

    fn drop_first(&mut self, count: usize) {
        for waiting in self.waiting.drain(..count) {
            if let Some(request) = waiting.request {
                self.held_bytes -= request.held_bytes();
                self.counters.gap += 1;
            }
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > IDLE_REQUESTS {
            self.waiting.shrink_to(IDLE_REQUESTS);
        }
    }

    fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.held_bytes = 0;
    }

    /// Drops everything: nothing more comes.
    pub(crate) fn close(&mut self) {
        let kept = self.waiting.iter().filter(|waiting| waiting.request.is_some()).count() as u64;
        let is_whole = self.certain && self.requests_lost.is_none();
        if is_whole && self.waiting.iter().all(|waiting| waiting.after_loss.is_none()) {
            self.counters.unanswered += kept;
        } else {
            self.counters.gap += kept;
        }
        self.clear();
    }

    /// Forgets everything for room.
    pub(crate) fn give_up(&mut self) {
        let kept = self.waiting.iter().filter(|waiting| waiting.request.is_some()).count() as u64;
        self.counters.given_up += kept;
        if let Some(last) = self.waiting.back() {
            let at = last.begin_ns;
            self.requests_lost(Loss { from_unix_ns: at, to_unix_ns: at });
            self.uncertain();
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

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLED_NS: i64 = i64::MAX;

    fn queue(from_start: bool) -> InOrder<Vec<u8>> {
        InOrder::new(from_start)
    }

    fn loss(at: i64) -> Loss {
        Loss { from_unix_ns: at, to_unix_ns: at }
    }

    /// The request that a response is paired with, which began then.
    fn answer(queue: &mut InOrder<Vec<u8>>, begin_ns: i64) -> Option<u8> {
        match queue.owner(begin_ns, SETTLED_NS) {
            Owner::Front => queue.answered(begin_ns, begin_ns).map(|(request, _)| request[0]),
            Owner::Nobody => {
                queue.unowned(begin_ns, begin_ns);
                None
            }
            Owner::Wait => panic!("everything has come"),
        }
    }

    /// A lost request costs itself, a lost response itself; the pairs around are right.
    #[test]
    fn a_hole_costs_what_is_in_it() {
        let mut lost_request = queue(true);
        lost_request.push(vec![1], 10);
        lost_request.requests_lost(loss(20));
        lost_request.push(vec![3], 30);
        assert_eq!([15, 25, 35].map(|at| answer(&mut lost_request, at)), [Some(1), None, Some(3)]);
        let mut lost_response = queue(true);
        [10, 20, 30].iter().for_each(|at| lost_response.push(vec![*at as u8], *at));
        assert_eq!(answer(&mut lost_response, 15), Some(10));
        lost_response.responses_lost(loss(25));
        assert_eq!(answer(&mut lost_response, 35), Some(30));
        assert_eq!((lost_response.counters.exchanges, lost_response.counters.gap), (2, 1));
    }

    /// Of a pipeline of which a response is missing, none that follows is paired; the next call is.
    #[test]
    fn a_pipeline_is_not_guessed() {
        let mut pipeline = queue(true);
        for request in 0..4 {
            pipeline.push(vec![request], 10);
        }
        assert_eq!(answer(&mut pipeline, 15), Some(0));
        pipeline.responses_lost(loss(16));
        assert_eq!([17, 18].map(|at| answer(&mut pipeline, at)), [None, None]);
        pipeline.push(vec![9], 20);
        assert_eq!(answer(&mut pipeline, 25), Some(9));
    }

    /// A client that sends while it waits is paired again after silence only.
    #[test]
    fn overlapping_needs_silence() {
        let mut overlap = queue(true);
        for request in 0..4 {
            overlap.push(vec![request], i64::from(request));
        }
        assert_eq!(answer(&mut overlap, 10), Some(0));
        overlap.responses_lost(loss(11));
        overlap.push(vec![5], 20);
        assert_eq!(answer(&mut overlap, 25), None);
        overlap.push(vec![6], 25 + QUIET_NS);
        assert_eq!(answer(&mut overlap, 26 + QUIET_NS), Some(6));
    }

    /// An answer is missing behind a call of one request: what comes next may be a later call's, which is
    /// missing as well. Catches a reply given to a command that was asked long before.
    #[test]
    fn both_halves_are_missing() {
        let mut both = queue(true);
        both.push(vec![1], 10);
        both.responses_lost(Loss { from_unix_ns: 10, to_unix_ns: 35 });
        assert_eq!(answer(&mut both, 35), None, "perhaps of a request at 30");
        both.requests_lost(Loss { from_unix_ns: 10, to_unix_ns: 40 });
        both.push(vec![4], 40);
        assert_eq!(answer(&mut both, 45), Some(4));
    }

    /// A request of which the end is missing, which is known only when the next one comes: its answer is
    /// given up before. Catches the next answer given to it.
    #[test]
    fn a_request_is_known_late() {
        let mut late = queue(true);
        assert_eq!(answer(&mut late, 15), None);
        late.push(vec![1], 10);
        late.push(vec![2], 20);
        assert_eq!(answer(&mut late, 25), Some(2));
    }

    /// A client that is seen to send while it waits, after it was taken for one that does not, is no
    /// longer paired; nor is one that did before the first response was seen.
    #[test]
    fn joined_while_requests_overlap() {
        let mut late = queue(false);
        late.push(vec![2], 10);
        assert_eq!(answer(&mut late, 11), Some(2), "request 1's, which nobody can know");
        late.push(vec![3], 12);
        late.push(vec![4], 13);
        assert_eq!([14, 15, 16].map(|at| answer(&mut late, at)), [None; 3]);
        late.push(vec![5], 16 + QUIET_NS);
        assert_eq!(answer(&mut late, 17 + QUIET_NS), Some(5), "after silence");
        late.push(vec![6], 18 + QUIET_NS);
        late.push(vec![7], 19 + QUIET_NS);
        assert_eq!([20, 21].map(|at| answer(&mut late, at + QUIET_NS)), [Some(6), Some(7)]);
        let mut early = queue(false);
        early.push(vec![2], 10);
        early.push(vec![3], 11);
        assert_eq!([12, 13].map(|at| answer(&mut early, at)), [None; 2]);
    }

    /// Whether a request came before a response has to be certain before either is dropped.
    #[test]
    fn what_may_come_is_waited_for() {
        let mut early = queue(true);
        assert_eq!(early.owner(10, 11), Owner::Wait);
        early.push(vec![1], 9);
        assert_eq!(early.owner(10, 11), Owner::Front);
        let mut nobody = queue(true);
        assert_eq!(nobody.owner(10, 10 + REORDER_GRACE_NS), Owner::Nobody);
    }

    /// Places of requests for which there is no room count, so that pairs stay right.
    #[test]
    fn room_ends_and_pairs_stay_right() {
        let mut full = queue(true);
        for request in 0..20u8 {
            full.push(vec![request; 100_000], 10);
        }
        let answers: Vec<_> = (0..20).map(|at| answer(&mut full, 20 + at)).collect();
        assert!(answers.iter().take(10).enumerate().all(|(idx, got)| *got == Some(idx as u8)));
        assert_eq!(answers.iter().flatten().count(), 10);
        assert_eq!((full.counters.given_up, full.held_bytes), (10, 0));
        for _ in 0..REQUESTS_MAX + 1 {
            full.push(Vec::new(), 100);
        }
        assert_eq!(full.waits(), 1);
        assert_eq!(answer(&mut full, 200), None, "of which request is not known");
    }
}
