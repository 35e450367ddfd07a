//! Which response answers which request.
//!
//! HTTP/1 has no message ids: the k-th final response answers the k-th request, also when requests
//! are pipelined. That is certain as long as every byte is known. When a gap may have held a
//! message's head, the count is off by an unknown number, so what is pending is dropped and
//! counted, and pairing begins again only at a request of which it is certain that nothing is
//! outstanding before it ([`Uncertain::certain`]):
//!
//! * the client has not been seen to pipeline, a final response ended after the bytes before this
//!   request and before this request began, and the connection has shown by complete exchanges
//!   that it alternates, or what is missing has room for one request only; or
//! * all requests are known, and as many responses were seen, or must have been in the gap; or
//! * everything was answered and both directions have been silent for a while.
//!
//! The assumption behind it, in one sentence: a client that does not pipeline while it is watched
//! does not begin to inside a gap. A connection that was open before capture is taken to alternate.
//!
//! A message whose end cannot be seen (`read`) is paired like any other; what the other direction
//! does shows when it is over. What comes of a connection's end is a row as well: a body that was
//! broken off, an answer to half a request. Requests wait for their response as long as the
//! connection lives, within the bounds of `types`.
//!
//! Times decide what came before what between the directions (events are delivered in no certain
//! order between them); positions decide within one.

use std::collections::VecDeque;

use super::certain::{History, RequestSizes, Uncertain};
use super::parse::recognise;
use super::read::{Input, Over, Reader, Ready, Step};
use super::types::{
    Exchange, Message, Method, PIPELINE_BYTES_MAX, PIPELINE_MAX, PIPELINE_SHRINKS, Pool,
};
use crate::stream::StreamBuffer;
use crate::{Config, Counters, REORDER_GRACE_NS, Recognised, Side};

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
    /// Request bytes are missing here. How many were before, if they are missing between messages.
    Loss {
        lost_bytes_before: Option<u64>,
    },
}

/// Whose answer the response being read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Front,
    Nobody,
}

/// The HTTP/1 parser of one connection.
#[derive(Debug)]
pub struct Http1 {
    requests: Reader,
    responses: Reader,
    queue: VecDeque<Item>,
    /// Memory that the queue's messages hold.
    queue_bytes: usize,
    /// The request being read is to be dropped when it is complete.
    drop_partial: bool,
    owner: Owner,
    /// A complete response to the front request, which is itself not complete yet.
    answer: Option<Box<Message>>,
    /// `None`: the next response answers the front request.
    uncertain: Option<Uncertain>,
    /// Response heads were lost before what is read next.
    response_loss: bool,
    /// The loss began where a response had to.
    response_loss_at_head: bool,
    pipelined: bool,
    clean_pairs: u32,
    /// When the response of the last pair began, until it is known whether it was a clean one.
    unjudged_ns: Option<i64>,
    request_sizes: RequestSizes,
    last_response_ns: Option<i64>,
    /// The last one that answered no known request.
    last_unowned_ns: Option<i64>,
    /// Responses without a request while pairing is certain: nobody asked for them, unless a loss
    /// turns out to have come before them.
    unowned: u64,
    /// Where one of them ended was guessed.
    unowned_guessed: bool,
    /// It was watched from its first byte on.
    from_start: bool,
    opaque: bool,
    closing: bool,
    counters: Counters,
}

impl Default for Http1 {
    fn default() -> Http1 {
        Http1::new(false)
    }
}

enum Front<'a> {
    Request(&'a Message),
    Loss,
    Nothing,
}

impl Http1 {
    /// `from_start`: the streams begin with the connection's first bytes.
    #[must_use]
    pub fn new(from_start: bool) -> Http1 {
        Http1 {
            requests: Reader::new(Side::Request, from_start),
            responses: Reader::new(Side::Response, from_start),
            queue: VecDeque::new(),
            queue_bytes: 0,
            drop_partial: false,
            owner: Owner::Nobody,
            answer: None,
            uncertain: None,
            response_loss: false,
            response_loss_at_head: false,
            pipelined: false,
            clean_pairs: 0,
            unjudged_ns: None,
            request_sizes: RequestSizes::default(),
            last_response_ns: None,
            last_unowned_ns: None,
            unowned: 0,
            unowned_guessed: false,
            from_start,
            opaque: false,
            closing: false,
            counters: Counters::default(),
        }
    }

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
        self.drop_leading_losses();
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
        let mut input = self.response_input(requests, ctx);
        if let Some(response) = self.responses.end(responses, &mut input) {
            self.response_complete(response, ctx);
        }
        if self.answer.is_some() && matches!(self.front(), Front::Request(_)) {
            if self.queue.is_empty()
                && let Some(mut partial) = self.requests.abandon()
            {
                partial.body.mark_cut();
                self.enqueue(partial);
            }
            self.pair(ctx);
        }
        self.drop_rest(requests, ctx);
    }

    /// What has no answer at the end: the peer gave none, or we have lost it.
    fn drop_rest(&mut self, requests: &StreamBuffer, ctx: &mut Context<'_>) {
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

    /// Memory held, for budgets.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.queue_bytes
            + self.queue.capacity() * size_of::<Item>()
            + self.requests.held_bytes()
            + self.responses.held_bytes()
            + self.answer.as_ref().map_or(0, |answer| answer.held_bytes())
    }

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

    fn enqueue(&mut self, mut request: Box<Message>) {
        if self.queue.len() >= PIPELINE_SHRINKS {
            request.shrink();
        }
        self.request_sizes.add(request.wire_bytes);
        self.judge_pair(request.first_unix_ns, request.after_loss);
        self.queue_bytes += request.held_bytes();
        self.queue.push_back(Item::Request(request));
    }

    fn dequeue(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        if let Item::Request(request) = &item {
            self.queue_bytes -= request.held_bytes();
        }
        if self.queue.is_empty() && self.queue.capacity() > 2 * PIPELINE_SHRINKS {
            self.queue.shrink_to(PIPELINE_SHRINKS);
        }
        Some(item)
    }

    fn front(&self) -> Front<'_> {
        match self.queue.front() {
            Some(Item::Request(request)) => Front::Request(request),
            Some(Item::Loss { .. }) => Front::Loss,
            None if self.drop_partial => Front::Nothing,
            None => self.requests.current().map_or(Front::Nothing, Front::Request),
        }
    }

    fn read_requests(&mut self, stream: &mut StreamBuffer, ctx: &mut Context<'_>) -> bool {
        let mut progress = false;
        loop {
            if self.queue.len() >= PIPELINE_MAX || self.queue_bytes > PIPELINE_BYTES_MAX {
                self.give_up(ctx.pool);
            }
            let mut input = self.request_input(ctx);
            match self.requests.step(stream, &mut input) {
                Step::Wait | Step::Promised => return progress,
                Step::Complete(request) if self.drop_partial => {
                    self.drop_partial = false;
                    ctx.pool.give(request);
                }
                Step::Complete(request) => self.enqueue(request),
                Step::Lost { message } => self.request_lost(message, ctx),
            }
            progress = true;
        }
    }

    fn request_input<'c>(&self, ctx: &'c mut Context<'_>) -> Input<'c> {
        let over = match self.last_response_ns {
            _ if self.pipelined => Over::Untold,
            // An open request is over when it is answered (`end_open`).
            Some(ended_ns) if self.requests.is_at_rest() => Over::After(ended_ns),
            _ => Over::Open,
        };
        let settled_ns = self.settled_ns(ctx);
        Input { method: Method::Other, over, settled_ns, config: ctx.config, pool: ctx.pool }
    }

    fn response_input<'c>(&self, requests: &StreamBuffer, ctx: &'c mut Context<'_>) -> Input<'c> {
        let method = match (self.owner, self.front()) {
            (Owner::Front, Front::Request(request)) => Method::of(&request.method),
            _ => Method::Unknown,
        };
        let (over, settled_ns) = (self.response_over(requests), self.settled_ns(ctx));
        Input { method, over, settled_ns, config: ctx.config, pool: ctx.pool }
    }

    fn settled_ns(&self, ctx: &Context<'_>) -> i64 {
        if self.closing { i64::MAX } else { ctx.now_unix_ns.saturating_sub(REORDER_GRACE_NS) }
    }

    /// When the response that is being read, or that was given last, is over: before the request
    /// after the one that it answers was answered, which is not before that began.
    fn response_over(&self, requests: &StreamBuffer) -> Over {
        let reading = self.responses.current();
        let next = usize::from(self.owner == Owner::Front);
        let next_ns = match self.queue.get(next) {
            Some(Item::Request(next)) => Some(next.first_unix_ns),
            Some(Item::Loss { .. }) => return Over::Untold,
            None if next == self.queue.len() => self.partial_since_ns(requests),
            None => None,
        };
        match (next_ns, reading) {
            _ if self.pipelined => Over::Untold,
            (None, _) => Over::Open,
            (Some(next_ns), Some(reading)) if next_ns <= reading.first_unix_ns => Over::Untold,
            (Some(next_ns), _) => Over::After(next_ns),
        }
    }

    /// When the request that is being read began.
    fn partial_since_ns(&self, requests: &StreamBuffer) -> Option<i64> {
        match self.requests.current() {
            Some(partial) => Some(partial.first_unix_ns),
            None if self.requests.is_at_head() => requests.unread_since_ns(),
            None => None,
        }
    }

    fn request_lost(&mut self, message: bool, ctx: &mut Context<'_>) {
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

    /// One step on the response side. False if there is nothing to do.
    fn match_response(
        &mut self,
        requests: &mut StreamBuffer,
        responses: &mut StreamBuffer,
        ctx: &mut Context<'_>,
    ) -> bool {
        if self.answer.is_some() {
            if self.queue.is_empty()
                && let Some(request) = self.requests.end_open()
            {
                self.enqueue(request);
            }
            let complete = matches!(self.queue.front(), Some(Item::Request(_)));
            if complete {
                self.pair(ctx);
            }
            return complete;
        }
        if self.responses.current().is_none() {
            let (over, settled_ns) = (self.response_over(requests), self.settled_ns(ctx));
            match self.responses.seek(responses, over, settled_ns) {
                Ready::Wait => return false,
                Ready::Lost { at_head } => {
                    self.response_loss_at_head = at_head && !self.response_loss;
                    self.response_loss = true;
                    return true;
                }
                Ready::Yes => {}
            }
            match self.choose_owner(requests, responses, ctx) {
                Some(owner) => self.owner = owner,
                None => return false,
            }
            if self.owner == Owner::Front {
                self.pipelined |= self.overlaps_next(requests, responses);
            }
        }
        self.read_response(requests, responses, ctx)
    }

    /// Whether the request after the front one began before the front one's response, which is
    /// what begins here: nothing is missing in between.
    fn overlaps_next(&self, requests: &StreamBuffer, responses: &StreamBuffer) -> bool {
        let next_ns = match self.queue.get(1) {
            Some(Item::Request(next)) => Some(next.first_unix_ns),
            None if self.queue.len() == 1 => self.partial_since_ns(requests),
            Some(Item::Loss { .. }) | None => None,
        };
        next_ns.zip(responses.unread_since_ns()).is_some_and(|(next, answer)| next < answer)
    }

    /// Whose answer the response that begins here is. `None`: too early to say.
    fn choose_owner(
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
    fn cut_half_request(
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

    /// Response bytes are missing before the response that begins here at `begins_ns`.
    fn responses_lost(&mut self, begins_ns: i64, responses: &StreamBuffer, ctx: &mut Context<'_>) {
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

    fn history(&self) -> History {
        History {
            clean_pairs: self.clean_pairs,
            last_response_ns: self.last_response_ns,
            lost_bytes: self.requests.lost_between_bytes(),
            sizes: self.request_sizes,
        }
    }

    fn pop_loss(&mut self) {
        if let Some(Item::Loss { lost_bytes_before }) = self.dequeue() {
            let uncertain = self.lose_sync();
            uncertain.request_losses += 1;
            uncertain.lost_bytes_before = uncertain.lost_bytes_before.or(lost_bytes_before);
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

    fn reject_front(&mut self, alternates: bool, ctx: &mut Context<'_>) {
        let uncertain = self.lose_sync();
        uncertain.alternations = if alternates { uncertain.alternations + 1 } else { 0 };
        self.drop_front(ctx);
    }

    /// Drops the front request; pairing must be uncertain already.
    fn drop_front(&mut self, ctx: &mut Context<'_>) {
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

    fn count_swallowed(&mut self) {
        self.counters.gap += self.requests.take_swallowed() + self.responses.take_swallowed();
    }

    fn count_lost(&mut self) {
        if let Some(uncertain) = &mut self.uncertain {
            uncertain.count(&mut self.counters);
        }
    }

    /// Pairing is uncertain from here on; what is known since then.
    fn lose_sync(&mut self) -> &mut Uncertain {
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

    /// No loss came before the responses without a request.
    fn settle_unowned(&mut self) {
        let unowned = std::mem::take(&mut self.unowned);
        self.unowned_guessed = false;
        match self.from_start || self.counters.exchanges > 0 {
            true => self.counters.unasked += unowned,
            false => self.counters.unpaired += unowned,
        }
    }

    /// Drops the requests that began before `time_unix_ns`; pairing must be uncertain already. True
    /// if an interim response may have come for one of them.
    fn drop_before(&mut self, time_unix_ns: i64, ctx: &mut Context<'_>) -> bool {
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

    fn read_response(
        &mut self,
        requests: &StreamBuffer,
        responses: &mut StreamBuffer,
        ctx: &mut Context<'_>,
    ) -> bool {
        if self.owner == Owner::Nobody
            && let Some(response) = self.responses.end_bodiless(responses)
        {
            self.response_complete(response, ctx);
            return true;
        }
        let mut input = self.response_input(requests, ctx);
        match self.responses.step(responses, &mut input) {
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
                if message {
                    self.lose_sync().responses += 1;
                    self.count_lost();
                }
                self.response_loss = true;
                self.owner = Owner::Nobody;
                true
            }
        }
    }

    fn response_complete(&mut self, response: Box<Message>, ctx: &mut Context<'_>) {
        self.last_response_ns = Some(response.last_unix_ns);
        self.count_swallowed();
        match std::mem::replace(&mut self.owner, Owner::Nobody) {
            Owner::Front => self.answer = Some(response),
            Owner::Nobody => {
                if self.drop_partial
                    && let Some(request) = self.requests.end_open()
                {
                    self.drop_partial = false;
                    ctx.pool.give(request);
                }
                match &mut self.uncertain {
                    Some(uncertain) => uncertain.response(&response),
                    None => {
                        self.unowned += 1;
                        self.unowned_guessed |= response.end_is_guessed;
                    }
                }
                self.count_lost();
                self.last_unowned_ns = self.last_response_ns;
                self.opaque |= response.opens_tunnel;
                ctx.pool.give(response);
            }
        }
    }

    /// The front request, complete, and its answer become a row.
    fn pair(&mut self, ctx: &mut Context<'_>) {
        let (Some(response), Some(Item::Request(request))) = (self.answer.take(), self.dequeue())
        else {
            return;
        };
        self.unjudged_ns = Some(response.first_unix_ns);
        match self.queue.front() {
            Some(Item::Request(next)) => {
                let (first_unix_ns, after_loss) = (next.first_unix_ns, next.after_loss);
                self.judge_pair(first_unix_ns, after_loss);
            }
            Some(Item::Loss { .. }) => self.unjudged_ns = None,
            None => {}
        }
        self.settle_unowned();
        self.counters.exchanges += 1;
        self.opaque |= response.opens_tunnel;
        (ctx.emit)(Exchange { request: &request, response: &response });
        ctx.pool.give(request);
        ctx.pool.give(response);
    }

    /// A pair is clean if the next request began after its response, and nothing is missing between
    /// the two requests: what was lost may have begun before the response.
    fn judge_pair(&mut self, next_ns: i64, after_loss: bool) {
        if let Some(response_ns) = self.unjudged_ns.take() {
            let clean = next_ns > response_ns && !after_loss && !self.pipelined;
            self.clean_pairs += u32::from(clean);
        }
    }

    /// What is missing before everything that waits makes pairing uncertain also if no response
    /// comes.
    fn drop_leading_losses(&mut self) {
        if self.responses.current().is_some() || self.answer.is_some() {
            return;
        }
        while matches!(self.queue.front(), Some(Item::Loss { .. })) {
            self.pop_loss();
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
