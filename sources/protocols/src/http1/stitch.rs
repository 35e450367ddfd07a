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

mod resync;

use std::collections::VecDeque;

use super::certain::{RequestSizes, Uncertain};
use super::read::{Input, Over, Reader, Ready, Step};
use super::types::{
    Exchange, Message, Method, PIPELINE_BYTES_MAX, PIPELINE_MAX, PIPELINE_SHRINKS, Pool, Tunnel,
};
use crate::stream::StreamBuffer;
use crate::{Config, Counters, REORDER_GRACE_NS, Side};

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
    /// An interim answer to the front request has come: its body may follow.
    continued: bool,
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
    tunnel: Option<Tunnel>,
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
            continued: false,
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
            tunnel: None,
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
        let settled_ns = ctx.now_unix_ns.saturating_sub(REORDER_GRACE_NS);
        requests.settle_holes_before(settled_ns);
        responses.settle_holes_before(settled_ns);
        loop {
            if let Some(tunnel) = self.tunnel {
                if tunnel == Tunnel::Opaque {
                    skip_all(requests);
                    skip_all(responses);
                }
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
        if self.tunnel.is_some() {
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

    /// After an upgrade or a CONNECT the bytes are no longer HTTP: nothing more will come of them.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.tunnel.is_some()
    }

    /// What took its place may be known: TLS in a tunnel, HTTP/2.
    pub(super) fn is_handed_over(&self) -> bool {
        self.tunnel == Some(Tunnel::HandedOver)
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
            _ => self.answering_ns().map_or(Over::Open, Over::Answering),
        };
        let settled_ns = self.settled_ns(ctx);
        let refusal = self.answer.as_ref().filter(|_| self.queue.is_empty() && !self.continued);
        let refused_ns = refusal.map(|answer| answer.last_unix_ns);
        let method = Method::Other;
        Input { method, over, refused_ns, settled_ns, config: ctx.config, pool: ctx.pool }
    }

    /// Since when an open request is being answered, by what is open as well: neither shows that the
    /// other is over.
    fn answering_ns(&self) -> Option<i64> {
        let is_both = self.requests.is_open() && self.responses.is_open();
        let is_its = self.queue.is_empty() && self.owner == Owner::Front;
        let answer = self.responses.current().filter(|_| is_both && is_its)?;
        Some(answer.first_unix_ns)
    }

    fn response_input<'c>(&self, requests: &StreamBuffer, ctx: &'c mut Context<'_>) -> Input<'c> {
        let method = match (self.owner, self.front()) {
            (Owner::Front, Front::Request(request)) => Method::of(&request.method),
            _ => Method::Unknown,
        };
        let (over, settled_ns) = (self.response_over(requests), self.settled_ns(ctx));
        let (config, refused_ns) = (ctx.config, None);
        Input { method, over, refused_ns, settled_ns, config, pool: ctx.pool }
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
            let answers_nothing = self.owner == Owner::Nobody && self.uncertain.is_none();
            if answers_nothing && self.responses.skip_excess(responses) {
                return true;
            }
            if self.owner == Owner::Front {
                self.pipelined |= self.overlaps_next(requests, responses);
            }
        }
        self.read_response(requests, responses, ctx)
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
                self.continued |= self.owner == Owner::Front && interim.status == 100;
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
                self.tunnel = self.tunnel.or(response.tunnel());
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
        self.continued = false;
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
        self.tunnel = self.tunnel.or(response.tunnel());
        (ctx.emit)(Exchange { request: &request, response: &response });
        ctx.pool.give(request);
        ctx.pool.give(response);
    }
}

fn skip_all(stream: &mut StreamBuffer) {
    stream.forget_unread();
    stream.skip(u64::MAX);
}
