//! Which response answers which request.
//!
//! HTTP/1 has no message ids: the k-th final response answers the k-th request, also when requests
//! are pipelined. That is certain as long as every byte is known. When a gap may have held a
//! message's head, the count is off by an unknown number, so everything pending is dropped and
//! counted, and pairing begins again only at a request of which it is certain that nothing is
//! outstanding before it ([`Http1::certain`]):
//!
//! * the client has not been seen to pipeline, a final response ended after the bytes before this
//!   request and before this request began, and the connection has shown by complete exchanges
//!   that it alternates; or
//! * everything was answered and both directions have been silent for a while.
//!
//! The assumption behind it, in one sentence: a client that does not pipeline while it is watched
//! does not begin to inside a gap. A connection that was open before capture is taken to alternate.
//!
//! Times decide what came before what between the directions (events are delivered in no certain
//! order between them); positions decide within one.

use std::collections::VecDeque;

use super::read::{Reader, Ready, Step};
use super::types::{Config, Exchange, Message, Method, PIPELINE_MAX, Pool};
use crate::Side;
use crate::stream::StreamBuffer;

/// A response whose request has not come, and a hole that has not been filled, are given so long:
/// events of two CPUs overtake each other by microseconds, a drain of the ring takes ≤ 20 ms.
pub const REORDER_GRACE_NS: i64 = 100_000_000;
/// A request without a response is dropped after this ("about a minute" in Pixie).
pub const REQUEST_TIMEOUT_NS: i64 = 60_000_000_000;
/// Silence in both directions after which an answered connection is taken to be idle.
const QUIET_NS: i64 = 5_000_000_000;
/// Complete exchanges without overlap that show that a client does not pipeline.
const PROVEN_PAIRS: u32 = 4;
/// Alternations after a loss that show the same when there were too few exchanges before it.
const PROVEN_ALTERNATIONS: u32 = 64;

/// What the parser counts; all of it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub exchanges: u64,
    /// Requests that were seen and gave no row.
    pub unpaired_requests: u64,
    /// Final responses that were seen and gave no row.
    pub unpaired_responses: u64,
    /// Times that pairing became uncertain.
    pub resyncs: u64,
}

impl Counters {
    /// Adds another count to this one.
    pub fn add(&mut self, other: Counters) {
        self.exchanges += other.exchanges;
        self.unpaired_requests += other.unpaired_requests;
        self.unpaired_responses += other.unpaired_responses;
        self.resyncs += other.resyncs;
    }
}

/// What a call needs from outside.
pub struct Context<'a> {
    /// Of the newest event, or of the wall clock when that is later.
    pub now_unix_ns: i64,
    pub config: &'a Config,
    pub pool: &'a mut Pool,
    /// Gets every exchange, in the order of the responses.
    pub emit: &'a mut dyn FnMut(Exchange<'_>),
}

#[derive(Debug)]
enum Item {
    Request(Box<Message>),
    /// Request bytes are missing here.
    Loss,
}

/// Whose answer the response being read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Front,
    Nobody,
}

/// What is known since pairing became uncertain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uncertain {
    /// Requests that were read and dropped.
    requests: u64,
    /// Places where request bytes were lost or skipped.
    request_losses: u64,
    /// Some of those bytes were never seen: any number of requests may have been in them.
    requests_unseen: bool,
    /// Final responses that were read and dropped.
    responses: u64,
    /// Other responses may have been lost.
    responses_lost: bool,
    /// Requests in a row that alternated with responses.
    alternations: u32,
}

/// The HTTP/1 parser of one connection.
#[derive(Debug)]
pub struct Http1 {
    requests: Reader,
    responses: Reader,
    queue: VecDeque<Item>,
    /// The request being read is to be dropped when it is complete.
    drop_partial: bool,
    owner: Owner,
    /// A complete response to the front request, which is itself not complete yet.
    answer: Option<Box<Message>>,
    /// `None`: the next response answers the front request.
    uncertain: Option<Uncertain>,
    /// Response heads were lost before what is read next.
    response_loss: bool,
    pipelined: bool,
    clean_pairs: u32,
    last_response_ns: Option<i64>,
    /// The last one that answered no known request.
    last_unowned_ns: Option<i64>,
    opaque: bool,
    closing: bool,
    counters: Counters,
}

impl Default for Http1 {
    fn default() -> Http1 {
        Http1 {
            requests: Reader::new(Side::Request),
            responses: Reader::new(Side::Response),
            queue: VecDeque::new(),
            drop_partial: false,
            owner: Owner::Nobody,
            answer: None,
            uncertain: None,
            response_loss: false,
            pipelined: false,
            clean_pairs: 0,
            last_response_ns: None,
            last_unowned_ns: None,
            opaque: false,
            closing: false,
            counters: Counters::default(),
        }
    }
}

enum Front<'a> {
    Request(&'a Message),
    Loss,
    Nothing,
}

impl Http1 {
    /// Reads what the streams have and emits what is complete.
    pub fn advance(
        &mut self,
        requests: &mut StreamBuffer,
        responses: &mut StreamBuffer,
        ctx: &mut Context<'_>,
    ) {
        settle_old_hole(requests, ctx.now_unix_ns);
        settle_old_hole(responses, ctx.now_unix_ns);
        loop {
            if self.opaque {
                skip_all(requests);
                skip_all(responses);
                return;
            }
            let read = self.read_requests(requests, ctx);
            let matched = self.match_response(requests, responses, ctx);
            if !read && !matched {
                break;
            }
        }
        self.expire(ctx);
    }

    /// The connection is closed: finishes what can be, drops and counts the rest.
    pub fn close(
        &mut self,
        requests: &mut StreamBuffer,
        responses: &mut StreamBuffer,
        ctx: &mut Context<'_>,
    ) {
        loop {
            self.advance(requests, responses, ctx);
            if requests.hole_since_ns().is_none() && responses.hole_since_ns().is_none() {
                break;
            }
            requests.settle_hole();
            responses.settle_hole();
        }
        // Only now: as long as a hole may hold requests, a response without one has to wait.
        self.closing = true;
        self.advance(requests, responses, ctx);
        if self.opaque {
            return;
        }
        if let Some(response) = self.responses.end() {
            self.response_complete(response, ctx);
        }
        if self.answer.is_some() && matches!(self.front(), Front::Request(_)) {
            if self.queue.is_empty()
                && let Some(partial) = self.requests.abandon()
            {
                self.queue.push_back(Item::Request(partial));
            }
            self.pair(requests, ctx);
        }
        self.drop_rest(ctx);
    }

    fn drop_rest(&mut self, ctx: &mut Context<'_>) {
        for item in std::mem::take(&mut self.queue) {
            self.drop_item(item, ctx);
        }
        if let Some(request) = self.requests.abandon() {
            // A partial request that was given up before has been counted then.
            self.counters.unpaired_requests += u64::from(!self.drop_partial);
            ctx.pool.give(request);
        }
        for response in self.responses.abandon().into_iter().chain(self.answer.take()) {
            self.counters.unpaired_responses += 1;
            ctx.pool.give(response);
        }
    }

    /// After an upgrade or a CONNECT the bytes are no longer HTTP: nothing more will come of them.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// Whether time alone can change anything: requests wait for responses.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty() || self.answer.is_some()
    }

    /// Counted since it was created.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn front(&self) -> Front<'_> {
        match self.queue.front() {
            Some(Item::Request(request)) => Front::Request(request),
            Some(Item::Loss) => Front::Loss,
            None if self.drop_partial => Front::Nothing,
            None => self.requests.current().map_or(Front::Nothing, Front::Request),
        }
    }

    fn read_requests(&mut self, stream: &mut StreamBuffer, ctx: &mut Context<'_>) -> bool {
        let mut progress = false;
        loop {
            if self.queue.len() >= PIPELINE_MAX {
                self.lose_sync();
                self.drop_before(i64::MAX, ctx);
            }
            match self.requests.step(stream, Method::Other, ctx.config, ctx.pool) {
                Step::Wait | Step::Promised => return progress,
                Step::Complete(request) if self.drop_partial => {
                    self.drop_partial = false;
                    ctx.pool.give(request);
                }
                Step::Complete(request) => self.queue.push_back(Item::Request(request)),
                Step::Lost { message } => self.request_lost(message, ctx),
            }
            progress = true;
        }
    }

    fn request_lost(&mut self, message: bool, ctx: &mut Context<'_>) {
        // A partial request that was given up before has been counted then.
        let counted = std::mem::take(&mut self.drop_partial);
        if message && !counted {
            self.counters.unpaired_requests += 1;
            if self.queue.is_empty() {
                // It was the front: its response, read or being read, has lost its request.
                self.owner = Owner::Nobody;
                if let Some(answer) = self.answer.take() {
                    self.counters.unpaired_responses += 1;
                    ctx.pool.give(answer);
                }
            }
        }
        if !matches!(self.queue.back(), Some(Item::Loss)) {
            self.queue.push_back(Item::Loss);
        }
    }

    /// One step on the response side. False if there is nothing to do.
    fn match_response(
        &mut self,
        requests: &StreamBuffer,
        responses: &mut StreamBuffer,
        ctx: &mut Context<'_>,
    ) -> bool {
        if self.answer.is_some() {
            let complete = matches!(self.queue.front(), Some(Item::Request(_)));
            if complete {
                self.pair(requests, ctx);
            }
            return complete;
        }
        if self.responses.current().is_none() {
            match self.responses.seek(responses) {
                Ready::Wait => return false,
                Ready::Lost => {
                    self.response_loss = true;
                    return true;
                }
                Ready::Yes => {}
            }
            match self.choose_owner(responses, ctx) {
                Some(owner) => self.owner = owner,
                None => return false,
            }
            if self.owner == Owner::Front {
                self.pipelined |= self.overlaps_next(requests, responses);
            }
        }
        self.read_response(responses, ctx)
    }

    /// Whether the request after the front one began before the front one's response, which is
    /// what begins here: nothing is missing in between.
    fn overlaps_next(&self, requests: &StreamBuffer, responses: &StreamBuffer) -> bool {
        let next_ns = match self.queue.get(1) {
            Some(Item::Request(next)) => Some(next.first_unix_ns),
            None if self.queue.len() == 1 => {
                let partial = self.requests.current().map(|next| next.first_unix_ns);
                partial.or(requests.unread_since_ns())
            }
            Some(Item::Loss) | None => None,
        };
        next_ns.zip(responses.unread_since_ns()).is_some_and(|(next, answer)| next < answer)
    }

    /// Whose answer the response that begins here is. `None`: too early to say.
    fn choose_owner(&mut self, responses: &StreamBuffer, ctx: &mut Context<'_>) -> Option<Owner> {
        let begins_ns = responses.unread_since_ns()?;
        if std::mem::take(&mut self.response_loss) {
            let ended_ns = self.responses.loss_ended_ns(begins_ns, responses);
            self.drop_before(ended_ns, ctx);
            // The first bytes ever seen were the end of a response: nothing was lost with it.
            let joined = self.last_response_ns.is_none() && ended_ns < begins_ns;
            if !joined {
                self.lose_sync().responses_lost = true;
            }
        }
        loop {
            let request = match self.front() {
                Front::Request(request) => request,
                Front::Loss => {
                    self.queue.pop_front();
                    self.lose_sync().request_losses += 1;
                    continue;
                }
                Front::Nothing => {
                    let late = ctx.now_unix_ns.saturating_sub(begins_ns) >= REORDER_GRACE_NS;
                    return (late || self.closing).then_some(Owner::Nobody);
                }
            };
            if begins_ns < request.first_unix_ns {
                return Some(Owner::Nobody);
            }
            let Some(mut uncertain) = self.uncertain else { return Some(Owner::Front) };
            uncertain.requests_unseen |= request.after_gap;
            // All responses up to here are known, and fewer than the requests before this one.
            let overlaps = !uncertain.responses_lost && uncertain.requests > uncertain.responses;
            let alternates = !overlaps && self.alternates(request);
            if self.certain(request, alternates, uncertain) {
                self.uncertain = None;
                return Some(Owner::Front);
            }
            self.pipelined |= overlaps;
            self.uncertain = Some(uncertain);
            self.reject_front(alternates, ctx);
        }
    }

    /// A final response ended between the bytes before this request and this request. If bytes in
    /// between were not seen it must be one that answers none of the known requests: otherwise
    /// this may be the middle of a request that only looks like one.
    fn alternates(&self, request: &Message) -> bool {
        let last_ns = if request.after_gap { self.last_unowned_ns } else { self.last_response_ns };
        let answered = last_ns.is_some_and(|ended| {
            ended < request.first_unix_ns
                && request.before_unix_ns.is_none_or(|before| before < ended)
        });
        answered && request.at_event_start && !self.pipelined
    }

    /// Whether nothing can be outstanding before this request (see the module's documentation).
    fn certain(&self, request: &Message, alternates: bool, since: Uncertain) -> bool {
        let all_seen = !since.requests_unseen && !since.responses_lost;
        let proven = self.clean_pairs >= PROVEN_PAIRS
            || (all_seen && since.requests + since.request_losses <= since.responses)
            || since.alternations >= PROVEN_ALTERNATIONS;
        let last_ns = self.last_response_ns.max(request.before_unix_ns);
        let quiet = last_ns.is_some_and(|last| request.first_unix_ns - last >= QUIET_NS)
            && !request.after_loss
            && self.last_response_ns >= request.before_unix_ns;
        (alternates && proven) || quiet
    }

    fn reject_front(&mut self, alternates: bool, ctx: &mut Context<'_>) {
        let uncertain = self.lose_sync();
        uncertain.requests += 1;
        uncertain.alternations = if alternates { uncertain.alternations + 1 } else { 0 };
        match self.queue.pop_front() {
            Some(item) => self.drop_item(item, ctx),
            None => self.drop_partial_request(),
        }
    }

    fn drop_partial_request(&mut self) {
        self.drop_partial = true;
        self.counters.unpaired_requests += 1;
    }

    /// Pairing is uncertain from here on; what is known since then.
    fn lose_sync(&mut self) -> &mut Uncertain {
        self.uncertain.get_or_insert_with(|| {
            self.counters.resyncs += 1;
            Uncertain::default()
        })
    }

    /// Drops the requests that began before `time_unix_ns`; pairing must be uncertain already.
    fn drop_before(&mut self, time_unix_ns: i64, ctx: &mut Context<'_>) {
        loop {
            let (begins_ns, is_loss) = match self.front() {
                Front::Request(request) => (request.first_unix_ns, false),
                Front::Loss => (i64::MIN, true),
                Front::Nothing => return,
            };
            if begins_ns >= time_unix_ns {
                return;
            }
            let after_gap = matches!(self.front(), Front::Request(request) if request.after_gap);
            let uncertain = self.lose_sync();
            uncertain.requests += u64::from(!is_loss);
            uncertain.request_losses += u64::from(is_loss);
            uncertain.requests_unseen |= after_gap;
            self.owner = Owner::Nobody;
            match self.queue.pop_front() {
                Some(item) => self.drop_item(item, ctx),
                None => self.drop_partial_request(),
            }
        }
    }

    fn drop_item(&mut self, item: Item, ctx: &mut Context<'_>) {
        if let Item::Request(request) = item {
            self.counters.unpaired_requests += 1;
            ctx.pool.give(request);
        }
    }

    fn read_response(&mut self, stream: &mut StreamBuffer, ctx: &mut Context<'_>) -> bool {
        let method = match (self.owner, self.front()) {
            (Owner::Front, Front::Request(request)) => Method::of(&request.method),
            _ => Method::Unknown,
        };
        if self.owner == Owner::Nobody
            && let Some(response) = self.responses.end_bodiless(stream)
        {
            self.response_complete(response, ctx);
            return true;
        }
        match self.responses.step(stream, method, ctx.config, ctx.pool) {
            Step::Wait => false,
            Step::Promised => true,
            Step::Complete(interim) if interim.is_interim() => {
                ctx.pool.give(interim);
                true
            }
            Step::Complete(response) => {
                self.response_complete(response, ctx);
                true
            }
            Step::Lost { message } => {
                self.counters.unpaired_responses += u64::from(message);
                self.response_loss = true;
                self.owner = Owner::Nobody;
                true
            }
        }
    }

    fn response_complete(&mut self, response: Box<Message>, ctx: &mut Context<'_>) {
        self.last_response_ns = Some(response.last_unix_ns);
        match std::mem::replace(&mut self.owner, Owner::Nobody) {
            Owner::Front => self.answer = Some(response),
            Owner::Nobody => {
                if let Some(uncertain) = &mut self.uncertain {
                    uncertain.responses += 1;
                }
                self.last_unowned_ns = self.last_response_ns;
                self.counters.unpaired_responses += 1;
                self.opaque |= response.opens_tunnel;
                ctx.pool.give(response);
            }
        }
    }

    /// The front request, complete, and its answer become a row.
    fn pair(&mut self, requests: &StreamBuffer, ctx: &mut Context<'_>) {
        let (Some(response), Some(Item::Request(request))) =
            (self.answer.take(), self.queue.pop_front())
        else {
            return;
        };
        let next_ns = match self.front() {
            Front::Request(next) => next.first_unix_ns,
            // What was lost may have begun before the response: this pair shows nothing.
            Front::Loss => i64::MIN,
            Front::Nothing => requests.unread_since_ns().unwrap_or(i64::MAX),
        };
        self.clean_pairs += u32::from(next_ns > response.first_unix_ns && !self.pipelined);
        self.counters.exchanges += 1;
        self.opaque |= response.opens_tunnel;
        (ctx.emit)(Exchange { request: &request, response: &response });
        ctx.pool.give(request);
        ctx.pool.give(response);
    }

    /// Drops requests that nobody answered in time.
    fn expire(&mut self, ctx: &mut Context<'_>) {
        if self.responses.current().is_some() || self.answer.is_some() {
            return;
        }
        loop {
            match self.queue.front() {
                Some(Item::Loss) => {
                    self.queue.pop_front();
                    self.lose_sync().request_losses += 1;
                }
                Some(Item::Request(request))
                    if ctx.now_unix_ns.saturating_sub(request.last_unix_ns)
                        >= REQUEST_TIMEOUT_NS =>
                {
                    let after_gap = request.after_gap;
                    self.lose_sync().requests_unseen |= after_gap;
                    self.reject_front(false, ctx);
                }
                Some(Item::Request(_)) | None => return,
            }
        }
    }
}

fn settle_old_hole(stream: &mut StreamBuffer, now_unix_ns: i64) {
    while let Some(since_ns) = stream.hole_since_ns()
        && now_unix_ns.saturating_sub(since_ns) >= REORDER_GRACE_NS
    {
        let before = stream.frontier();
        stream.settle_hole();
        if stream.frontier() == before {
            return;
        }
    }
}

fn skip_all(stream: &mut StreamBuffer) {
    stream.forget_unread();
    stream.skip(u64::MAX);
}
