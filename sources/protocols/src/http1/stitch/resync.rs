//! What happens to pairing when something is missing: whose answer a response is then, what is dropped and
//! counted, and when requests and responses are pairs again.
//!
//! What may be concluded from what was seen is [`super::super::certain`]'s; nothing here reads a body.

use super::{Context, Front, Http1, Item, Owner};
use crate::http1::certain::{History, Uncertain};
use crate::http1::parse::recognise;
use crate::http1::read::Step;
use crate::http1::types::{Message, Pool};
use crate::stream::StreamBuffer;
use crate::{REORDER_GRACE_NS, Recognised, Side};

impl Http1 {
    /// Forgets the requests that wait, for room.
    pub fn give_up(&mut self, pool: &mut Pool) {
        let mut count = 0;
        for item in std::mem::take(&mut self.queue) {
            if let Item::Request(request) = item {
                count += 1;
                pool.give(request);
            }
        }
        self.queue_bytes = 0;
        self.owner = Owner::Nobody;
        self.counters.given_up += count;
        self.lose_sync().gave_up(count);
        if let Some(answer) = self.answer.take() {
            self.lose_sync().response(&answer);
            self.count_lost();
            pool.give(answer);
        }
    }

    /// Whether the request after the front one began before the front one's response, which is
    /// what begins here: nothing is missing in between.
    pub(super) fn overlaps_next(&self, requests: &StreamBuffer, responses: &StreamBuffer) -> bool {
        let next_ns = match self.queue.get(1) {
            Some(Item::Request(next)) => Some(next.first_unix_ns),
            None if self.queue.len() == 1 => self.partial_since_ns(requests),
            Some(Item::Loss { .. }) | None => None,
        };
        next_ns.zip(responses.unread_since_ns()).is_some_and(|(next, answer)| next < answer)
    }

    /// Whose answer the response that begins here is. `None`: too early to say.
    pub(super) fn choose_owner(
        &mut self,
        requests: &mut StreamBuffer,
        responses: &StreamBuffer,
        ctx: &mut Context<'_>,
    ) -> Option<Owner> {
        let begins_ns = responses.unread_since_ns()?;
        if std::mem::take(&mut self.response_loss) {
            self.responses_lost(begins_ns, responses, ctx);
        }
        loop {
            let request = match self.front() {
                Front::Request(request) => request,
                Front::Loss => {
                    self.pop_loss();
                    continue;
                }
                Front::Nothing => {
                    let late = ctx.now_unix_ns.saturating_sub(begins_ns) >= REORDER_GRACE_NS;
                    if !late && !self.closing {
                        return None;
                    }
                    if self.cut_half_request(begins_ns, requests, ctx) {
                        continue;
                    }
                    return Some(Owner::Nobody);
                }
            };
            if begins_ns < request.first_unix_ns {
                return Some(Owner::Nobody);
            }
            let Some(mut uncertain) = self.uncertain else { return Some(Owner::Front) };
            uncertain.requests_unseen |= request.after_gap;
            // All responses up to here are known, and fewer than the requests before this one.
            let overlaps = !uncertain.responses_lost && uncertain.requests > uncertain.responses;
            // Behind a gap with room for more it may be a part of a request, and only look like one.
            let whole = !request.after_gap || uncertain.fits_one_request(self.history());
            let alternates = !overlaps && whole && self.alternates(request);
            if uncertain.certain(request, alternates, self.history()) {
                self.uncertain = None;
                return Some(Owner::Front);
            }
            self.pipelined |= overlaps;
            self.uncertain = Some(uncertain);
            self.reject_front(alternates, ctx);
        }
    }

    /// A response is there, and what there is of a request, which began before it, is less than a
    /// head: the server did not wait for the rest (408, or what it read was none of HTTP).
    pub(super) fn cut_half_request(
        &mut self,
        begins_ns: i64,
        requests: &mut StreamBuffer,
        ctx: &mut Context<'_>,
    ) -> bool {
        let began = requests.unread_since_ns().is_some_and(|since_ns| since_ns <= begins_ns);
        if self.uncertain.is_some() || self.drop_partial || !self.requests.is_at_head() || !began {
            return false;
        }
        let mut input = self.request_input(ctx);
        if let Some(Step::Lost { message }) = self.requests.cut_head(requests, &mut input) {
            self.request_lost(message, ctx);
        }
        true
    }

    pub(super) fn request_lost(&mut self, message: bool, ctx: &mut Context<'_>) {
        // A partial request that was given up before has been counted then.
        let counted = std::mem::take(&mut self.drop_partial);
        if message && !counted {
            self.lose_sync().requests += 1;
            self.count_lost();
            if self.queue.is_empty() {
                // It was the front: its response, read or being read, has lost its request.
                self.owner = Owner::Nobody;
                if let Some(answer) = self.answer.take() {
                    self.lose_sync().response(&answer);
                    self.count_lost();
                    ctx.pool.give(answer);
                }
            }
        }
        self.unjudged_ns = None;
        if !matches!(self.queue.back(), Some(Item::Loss { .. })) {
            let between = self.requests.is_between_messages();
            let lost_bytes_before = between.then(|| self.requests.lost_between_bytes());
            self.queue.push_back(Item::Loss { lost_bytes_before });
        }
    }

    /// Response bytes are missing before the response that begins here at `begins_ns`.
    pub(super) fn responses_lost(
        &mut self,
        begins_ns: i64,
        responses: &StreamBuffer,
        ctx: &mut Context<'_>,
    ) {
        let ended_ns = self.responses.loss_ended_ns(begins_ns, responses);
        let interim = self.drop_before(ended_ns, ctx);
        // The first bytes ever seen were the end of a response: nothing was lost with it.
        let joined = self.last_response_ns.is_none() && ended_ns < begins_ns && !self.from_start;
        if !joined {
            let at_head = std::mem::take(&mut self.response_loss_at_head) && !interim;
            let uncertain = self.lose_sync();
            uncertain.responses_unsure |= uncertain.responses_lost && !at_head;
            uncertain.responses_lost = true;
            uncertain.responses_lost_until_ns =
                Some(ended_ns).max(uncertain.responses_lost_until_ns);
            uncertain.responses_lost_min += u64::from(at_head);
        }
    }

    pub(super) fn history(&self) -> History {
        History {
            clean_pairs: self.clean_pairs,
            last_response_ns: self.last_response_ns,
            lost_bytes: self.requests.lost_between_bytes(),
            sizes: self.request_sizes,
        }
    }

    /// A final response ended between the bytes before this request and this request. If bytes in
    /// between were not seen it must be one that answers none of the known requests: otherwise
    /// this may be the middle of a request that only looks like one.
    pub(super) fn alternates(&self, request: &Message) -> bool {
        let last_ns = if request.after_gap { self.last_unowned_ns } else { self.last_response_ns };
        let answered = last_ns.is_some_and(|ended| {
            ended < request.first_unix_ns
                && request.before_unix_ns.is_none_or(|before| before < ended)
        });
        answered && request.at_event_start && !self.pipelined
    }

    pub(super) fn reject_front(&mut self, alternates: bool, ctx: &mut Context<'_>) {
        let uncertain = self.lose_sync();
        uncertain.alternations = if alternates { uncertain.alternations + 1 } else { 0 };
        self.drop_front(ctx);
    }

    /// Drops the front request; pairing must be uncertain already.
    pub(super) fn drop_front(&mut self, ctx: &mut Context<'_>) {
        match self.dequeue() {
            Some(Item::Request(request)) => {
                self.lose_sync().requests += 1;
                ctx.pool.give(request);
            }
            Some(Item::Loss { .. }) => {}
            None => {
                self.drop_partial = true;
                // Others may be read as a part of it.
                let unseen = self.requests.is_open();
                let uncertain = self.lose_sync();
                uncertain.requests += 1;
                uncertain.requests_unseen |= unseen;
            }
        }
        self.count_lost();
    }

    /// Drops the requests that began before `time_unix_ns`; pairing must be uncertain already. True
    /// if an interim response may have come for one of them.
    pub(super) fn drop_before(&mut self, time_unix_ns: i64, ctx: &mut Context<'_>) -> bool {
        let mut interim = false;
        loop {
            let request = match self.front() {
                Front::Request(request) => request,
                Front::Loss => {
                    self.owner = Owner::Nobody;
                    self.pop_loss();
                    continue;
                }
                Front::Nothing => return interim,
            };
            if request.first_unix_ns >= time_unix_ns {
                return interim;
            }
            interim |= request.expects;
            let after_gap = request.after_gap;
            self.lose_sync().requests_unseen |= after_gap;
            self.owner = Owner::Nobody;
            self.drop_front(ctx);
        }
    }

    pub(super) fn pop_loss(&mut self) {
        if let Some(Item::Loss { lost_bytes_before }) = self.dequeue() {
            let uncertain = self.lose_sync();
            uncertain.request_losses += 1;
            uncertain.lost_bytes_before = uncertain.lost_bytes_before.or(lost_bytes_before);
        }
    }

    /// What is missing before everything that waits makes pairing uncertain also if no response
    /// comes.
    pub(super) fn drop_leading_losses(&mut self) {
        if self.responses.current().is_some() || self.answer.is_some() {
            return;
        }
        while matches!(self.queue.front(), Some(Item::Loss { .. })) {
            self.pop_loss();
        }
    }

    /// Pairing is uncertain from here on; what is known since then.
    pub(super) fn lose_sync(&mut self) -> &mut Uncertain {
        let joined = !self.from_start && self.counters.exchanges == 0;
        let counters = &mut self.counters;
        self.uncertain.get_or_insert_with(|| {
            counters.resyncs += 1;
            let mut uncertain = Uncertain::new(joined);
            // They answered what is missing.
            uncertain.responses = std::mem::take(&mut self.unowned);
            uncertain.responses_guessed = std::mem::take(&mut self.unowned_guessed);
            uncertain.count(counters);
            uncertain
        })
    }

    pub(super) fn count_lost(&mut self) {
        if let Some(uncertain) = &mut self.uncertain {
            uncertain.count(&mut self.counters);
        }
    }

    pub(super) fn count_swallowed(&mut self) {
        self.counters.gap += self.requests.take_swallowed() + self.responses.take_swallowed();
    }

    /// No loss came before the responses without a request.
    pub(super) fn settle_unowned(&mut self) {
        let unowned = std::mem::take(&mut self.unowned);
        self.unowned_guessed = false;
        match self.from_start || self.counters.exchanges > 0 {
            true => self.counters.unasked += unowned,
            false => self.counters.unpaired += unowned,
        }
    }

    /// A pair is clean if the next request began after its response, and nothing is missing between
    /// the two requests: what was lost may have begun before the response.
    pub(super) fn judge_pair(&mut self, next_ns: i64, after_loss: bool) {
        if let Some(response_ns) = self.unjudged_ns.take() {
            let clean = next_ns > response_ns && !after_loss && !self.pipelined;
            self.clean_pairs += u32::from(clean);
        }
    }

    /// What has no answer at the end: the peer gave none, or we have lost it.
    pub(super) fn drop_rest(&mut self, requests: &StreamBuffer, ctx: &mut Context<'_>) {
        let is_loss = |item: &Item| matches!(item, Item::Loss { .. });
        let lost = self.uncertain.is_some() || self.response_loss || self.queue.iter().any(is_loss);
        let mut left = u64::from(
            self.requests.is_at_head()
                && recognise(Side::Request, requests.unread()) == Recognised::Yes,
        );
        if let Some(request) = self.requests.abandon() {
            // A partial request that was given up before has been counted then.
            left += u64::from(!self.drop_partial);
            ctx.pool.give(request);
        }
        for item in std::mem::take(&mut self.queue) {
            if let Item::Request(request) = item {
                left += 1;
                ctx.pool.give(request);
            }
        }
        self.queue_bytes = 0;
        for response in self.responses.abandon().into_iter().chain(self.answer.take()) {
            self.lose_sync().response(&response);
            self.count_lost();
            ctx.pool.give(response);
        }
        if lost {
            self.lose_sync().requests += left;
            self.count_lost();
        } else {
            self.counters.unanswered += left;
        }
        self.settle_unowned();
        self.count_swallowed();
    }
}
