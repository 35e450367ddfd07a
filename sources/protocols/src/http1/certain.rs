//! What is known since pairing became uncertain, and when it is enough to pair again.
//!
//! Nothing here reads bytes or holds messages; it counts what was seen and dropped, and what may
//! have been missing, and draws the conclusions that `stitch` names.

use super::types::Message;
use crate::Counters;

/// Silence in both directions after which an answered connection is taken to be idle.
const QUIET_NS: i64 = 5_000_000_000;
/// Complete exchanges without overlap that show that a client does not pipeline.
const PROVEN_PAIRS: u32 = 4;
/// Alternations after a loss that show the same when there were too few exchanges before it.
const PROVEN_ALTERNATIONS: u32 = 32;
/// Alternations after a loss of request bytes that were too few for two requests.
const PROVEN_AFTER_ONE: u32 = 4;
/// Requests that show what a request of this connection is like: with fewer, two short ones may have
/// been lost where all that were seen were long.
const ALIKE_REQUESTS: u32 = 8;

/// What is known since pairing became uncertain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Uncertain {
    /// Requests that were read and dropped.
    pub(super) requests: u64,
    /// Places where request bytes were lost or skipped.
    pub(super) request_losses: u64,
    /// Some of those bytes were never seen: any number of requests may have been in them.
    pub(super) requests_unseen: bool,
    /// What the request reader had lost between messages before the first of those places.
    pub(super) lost_bytes_before: Option<u64>,
    /// Final responses that were read and dropped.
    pub(super) responses: u64,
    /// Other responses may have been lost.
    pub(super) responses_lost: bool,
    /// Requests that began before may have been answered by them.
    pub(super) responses_lost_until_ns: Option<i64>,
    /// Final responses that were lost for certain: the loss began where a response had to.
    pub(super) responses_lost_min: u64,
    /// What was read as a response may have been a part of a lost one.
    pub(super) responses_unsure: bool,
    /// Where one of them ended was guessed: the one behind it may be its body.
    pub(super) responses_guessed: bool,
    /// Requests in a row that alternated with responses.
    pub(super) alternations: u32,
    /// Capture began in the middle of the connection: nothing was lost.
    joined: bool,
    /// Exchanges that are counted already.
    counted: u64,
}

/// What is known of a connection's client and requests, whatever was lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    pub(super) clean_pairs: u32,
    pub(super) last_response_ns: Option<i64>,
    /// What the request reader has lost between messages.
    pub(super) lost_bytes: u64,
    pub(super) sizes: RequestSizes,
}

/// How long a connection's requests are, as far as they were seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestSizes {
    count: u32,
    bytes_min: u64,
    bytes_max: u64,
}

impl Default for RequestSizes {
    fn default() -> RequestSizes {
        RequestSizes { count: 0, bytes_min: u64::MAX, bytes_max: 0 }
    }
}

impl RequestSizes {
    pub(super) fn add(&mut self, bytes: u64) {
        self.count = self.count.saturating_add(1);
        self.bytes_min = self.bytes_min.min(bytes);
        self.bytes_max = self.bytes_max.max(bytes);
    }

    /// So many bytes are no more than one request like the others.
    fn fit_one(self, bytes: u64) -> bool {
        self.count > 0 && bytes.saturating_mul(8) <= self.bytes_min.saturating_mul(9)
    }

    /// Enough were seen, and all are of nearly the same length.
    fn are_alike(self) -> bool {
        self.count >= ALIKE_REQUESTS && self.fit_one(self.bytes_max)
    }
}

impl Uncertain {
    pub(super) fn new(joined: bool) -> Uncertain {
        Uncertain { joined, ..Uncertain::default() }
    }

    /// Counts what was dropped, each exchange once: of most only one half was seen.
    pub(super) fn count(&mut self, counters: &mut Counters) {
        let dropped = self.requests.max(self.responses);
        let lost = dropped.saturating_sub(self.counted);
        self.counted += lost;
        match self.joined {
            true => counters.unpaired += lost,
            false => counters.gap += lost,
        }
    }

    /// `count` requests were given up and counted as such.
    pub(super) fn gave_up(&mut self, count: u64) {
        self.requests += count;
        self.counted += count;
    }

    /// A response was read that answers no known request.
    pub(super) fn response(&mut self, response: &Message) {
        self.responses += 1;
        self.responses_unsure |= response.after_gap && !response.is_one_event;
        self.responses_guessed |= response.end_is_guessed;
    }

    /// All requests are known, and all of them were answered: one way or the other each response
    /// was seen or is the one that the loss began with.
    fn all_answered(&self) -> bool {
        let lost_min = if self.responses_unsure { 0 } else { self.responses_lost_min };
        let known = !self.responses_lost || (lost_min > 0 && !self.responses_unsure);
        known
            && !self.responses_guessed
            && !self.requests_unseen
            && self.requests + self.request_losses <= self.responses + lost_min
    }

    /// The request bytes that are missing are too few for more than one request like the others.
    pub(super) fn fits_one_request(&self, history: History) -> bool {
        let Some(before) = self.lost_bytes_before else { return false };
        let lost = history.lost_bytes.saturating_sub(before);
        self.request_losses == 1 && history.sizes.fit_one(lost)
    }

    /// One request was lost, and all were answered. That the client takes turns since then shows
    /// nothing by itself: one that keeps two requests outstanding does so as well.
    fn one_request_lost(&self, history: History) -> bool {
        self.requests < self.responses
            && !self.responses_lost
            && !self.responses_guessed
            && self.fits_one_request(history)
    }

    /// The connection has shown that its client waits for answers.
    fn waits(&self, history: History) -> bool {
        let one_lost = self.one_request_lost(history);
        let begins = history.clean_pairs > 0 || self.joined || one_lost;
        history.clean_pairs >= PROVEN_PAIRS
            || (begins && self.alternations >= PROVEN_ALTERNATIONS)
            || (one_lost && history.sizes.are_alike() && self.alternations >= PROVEN_AFTER_ONE)
    }

    /// Whether nothing can be outstanding before this request. `alternates`: it came after a
    /// response, and that after the request before it.
    pub(super) fn certain(&self, request: &Message, alternates: bool, history: History) -> bool {
        if self.responses_lost_until_ns.is_some_and(|until| request.first_unix_ns < until) {
            return false;
        }
        let proven = self.waits(history);
        let last_ns = history.last_response_ns.max(request.before_unix_ns);
        let silent_ns = last_ns.map_or(0, |last| request.first_unix_ns.saturating_sub(last));
        let is_next = !request.after_loss && history.last_response_ns >= request.before_unix_ns;
        let quiet = silent_ns >= QUIET_NS && is_next;
        // Behind lost responses a part of one may look like one; a client that waits for answers
        // has had the whole of it, another may not.
        let known = !self.responses_lost && self.all_answered();
        let idle = silent_ns > 0 && is_next && request.at_event_start && known;
        (alternates && (proven || self.all_answered())) || quiet || idle
    }
}
