//! What is known since pairing became uncertain, and when it proves that all requests before one have
//! been answered. It reads no bytes and holds no messages.
//!
//! Three things prove it:
//! 1. **Counts.** Every request is known, and for certain as many responses are missing as were waited for:
//!    more cannot be, as no response comes before its request. What was read behind the hole counts only
//!    where it cannot have been a part of a response that began in it.
//! 2. **Silence** in both directions for [`QUIET_NS`], behind a response, with nothing known to be
//!    unanswered and nothing missing next to it. The assumption: a server answers within that time, or a
//!    client sends nothing behind what it does not.
//! 3. **Turns.** [`TURNS`] times in a row each call was answered as a whole, at once, and the client was
//!    idle for longer, sometimes for far longer, before the next. Were these answers those of calls
//!    before, the server's haste and delay would follow what the client was about to do.
//!
//! That requests and responses alternate proves nothing: so they do where a client keeps two under way.

use crate::frames::Loss;

/// Silence after which everything that was asked has been answered.
const QUIET_NS: i64 = 1_000_000_000;
/// Turns that prove that a client waits for its answers.
const TURNS: u32 = 16;
/// How many times longer than the longest answer took the client is idle between turns, each time …
const IDLE_EACH: i64 = 2;
/// … and once.
const IDLE_ONCE: i64 = 8;
/// Clocks tell no shorter times apart.
const ANSWER_NS_MIN: i64 = 1_000;

/// When something was last heard, also while pairing is certain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    request_ns: Option<i64>,
    /// When a response was last heard or missing, and when that ended.
    pub(super) response_begin_ns: Option<i64>,
    response_end_ns: Option<i64>,
    pub(super) responses_lost_ns: Option<i64>,
}

impl Activity {
    pub(super) fn is_none(&self) -> bool {
        self.request_ns.is_none() && self.response_begin_ns.is_none()
    }

    pub(super) fn request(&mut self, begin_ns: i64) {
        self.request_ns = self.request_ns.max(Some(begin_ns));
    }

    pub(super) fn response(&mut self, begin_ns: i64, end_ns: i64) {
        self.response_begin_ns = self.response_begin_ns.max(Some(begin_ns));
        self.response_end_ns = self.response_end_ns.max(Some(end_ns));
    }

    pub(super) fn responses_lost(&mut self, loss: Loss) {
        self.responses_lost_ns = self.responses_lost_ns.max(Some(loss.to_unix_ns));
    }

    /// Both sides were silent until then, and the server spoke last.
    pub(super) fn is_silent_until(&self, begin_ns: i64, after_loss: Option<Loss>) -> bool {
        let lost_ns = after_loss.map(|loss| loss.to_unix_ns);
        let asked_ns = self.request_ns.max(lost_ns);
        let heard_ns = self.response_begin_ns.max(self.responses_lost_ns);
        let last_ns = asked_ns.max(heard_ns).max(self.response_end_ns);
        heard_ns >= asked_ns
            && last_ns.is_some_and(|last| begin_ns.saturating_sub(last) >= QUIET_NS)
    }
}

/// Requests by one call, and their responses.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// `None`: no call was told since the last loss.
    begin_ns: Option<i64>,
    asked: u64,
    answered: u64,
    /// Nothing else was under way when it began.
    is_alone: bool,
}

/// Turns in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    count: u32,
    longest_answer_ns: i64,
    shortest_idle_ns: i64,
    longest_idle_ns: i64,
}

impl Turns {
    fn add(&mut self, answer_ns: i64, idle_ns: i64) {
        if self.count == 0 {
            (self.shortest_idle_ns, self.longest_answer_ns) = (i64::MAX, ANSWER_NS_MIN);
        }
        self.count = self.count.saturating_add(1);
        self.longest_answer_ns = self.longest_answer_ns.max(answer_ns);
        self.shortest_idle_ns = self.shortest_idle_ns.min(idle_ns);
        self.longest_idle_ns = self.longest_idle_ns.max(idle_ns);
        if self.shortest_idle_ns < self.longest_answer_ns.saturating_mul(IDLE_EACH) {
            *self = Turns::default();
        }
    }

    fn prove(self) -> bool {
        self.count >= TURNS
            && self.longest_idle_ns >= self.longest_answer_ns.saturating_mul(IDLE_ONCE)
    }
}

/// What was dropped; of most exchanges only one half was seen.
#[derive(Debug, Default)]
struct Dropped {
    requests: u64,
    responses: u64,
    counted: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Evidence {
    /// No request is missing; so it is known how many there are.
    requests_known: bool,
    /// No response is missing.
    responses_known: bool,
    /// Which are missing and which are none can be told.
    is_counted: bool,
    asked: u64,
    answered: u64,
    /// Responses that are missing for certain.
    missing: u64,
    /// What was read as a response is one.
    is_plain: bool,
    /// The first loss was told.
    is_begun: bool,
    turn: Turn,
    turns: Turns,
    dropped: Dropped,
    /// What the requests are that were dropped ([`super::Asked::mark`]).
    pub(super) marks: u32,
}

impl Evidence {
    fn new(requests_known: bool, responses_known: bool) -> Evidence {
        Evidence {
            requests_known,
            responses_known,
            is_counted: true,
            asked: 0,
            answered: 0,
            missing: 0,
            is_plain: true,
            is_begun: responses_known,
            turn: Turn::default(),
            turns: Turns::default(),
            dropped: Dropped::default(),
            marks: 0,
        }
    }

    /// Requests before the connection was watched are not known.
    pub(super) fn joined() -> Evidence {
        Evidence::new(false, true)
    }

    pub(super) fn without_requests() -> Evidence {
        Evidence::new(false, true)
    }

    pub(super) fn without_responses() -> Evidence {
        Evidence::new(true, false)
    }

    /// Nothing is known.
    pub(super) fn unknown() -> Evidence {
        Evidence { is_counted: false, ..Evidence::new(false, false) }
    }

    /// Nothing is known any more but what was counted.
    pub(super) fn forget(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        *self = Evidence { dropped, ..Evidence::unknown() };
    }

    /// Requests are missing.
    pub(super) fn requests_unknown(&mut self) {
        self.requests_known = false;
    }

    /// Whether all requests before this one, the next that is told, have been answered.
    pub(super) fn proves(
        &self,
        (begin_ns, after_loss): (i64, Option<Loss>),
        activity: &Activity,
    ) -> bool {
        let is_unanswered = self.is_counted && self.responses_known && self.asked > self.answered;
        let by_silence = activity.is_silent_until(begin_ns, after_loss) && !is_unanswered;
        if after_loss.is_some() {
            return by_silence;
        }
        // It may be known late, behind its own answer.
        let is_next = activity.response_begin_ns < Some(begin_ns);
        let nothing_lost_since = activity.responses_lost_ns <= Some(begin_ns);
        let are_all_missing = self.requests_known && self.is_counted && self.asked == self.missing;
        let by_count = is_next && nothing_lost_since && (are_all_missing || self.are_answered(0));
        by_silence || by_count || self.turns_with(begin_ns, activity).prove()
    }

    /// Whether as many of all that were told, and so many behind them, have not been answered as responses
    /// are missing.
    pub(super) fn are_answered(&self, more: u64) -> bool {
        let unanswered = (self.asked + more).checked_sub(self.answered);
        let is_counted = self.knows_requests() && self.is_counted && self.is_plain;
        is_counted && unanswered == Some(self.missing)
    }

    /// No request is missing; of the responses some are.
    pub(super) fn knows_requests(&self) -> bool {
        self.requests_known
    }

    /// Some responses are missing for certain.
    pub(super) fn is_any_missing(&self) -> bool {
        self.missing > 0
    }

    /// The turns up to a request that begins the next one; none if it does not.
    fn turns_with(&self, begin_ns: i64, activity: &Activity) -> Turns {
        let Some(end_ns) = activity.response_end_ns else { return Turns::default() };
        let mut turns = self.turns;
        let is_over = self.turn.is_alone && self.turn.asked == self.turn.answered;
        match self.turn.begin_ns {
            Some(from_ns) if is_over && begin_ns > from_ns && begin_ns > end_ns => {
                turns.add(end_ns - from_ns, begin_ns - end_ns);
            }
            _ => turns = Turns::default(),
        }
        turns
    }

    /// The next request, which is not paired, has so many responses.
    pub(super) fn request(
        &mut self,
        (begin_ns, after_loss): (i64, Option<Loss>),
        responses: Option<u64>,
        is_plain: bool,
        activity: &Activity,
    ) {
        self.is_plain &= is_plain;
        let count = responses.unwrap_or_default();
        self.asked(responses);
        self.requests_known &= after_loss.is_none();
        let is_same_call = self.turn.begin_ns == Some(begin_ns);
        if is_same_call && after_loss.is_none() && responses.is_some() {
            self.turn.asked += count;
            return;
        }
        self.turns = match after_loss {
            Some(_) => Turns::default(),
            None => self.turns_with(begin_ns, activity),
        };
        let waiting = self.turn.asked.saturating_sub(self.turn.answered);
        let is_alone = waiting == 0 && after_loss.is_none() && responses.is_some();
        self.turn =
            Turn { begin_ns: Some(begin_ns), asked: waiting + count, answered: 0, is_alone };
    }

    /// So many responses will come, or have.
    pub(super) fn asked(&mut self, responses: Option<u64>) {
        self.asked += responses.unwrap_or_default();
        self.is_counted &= responses.is_some();
    }

    /// A response, which is nobody's.
    pub(super) fn response(&mut self) {
        self.answered += 1;
        self.turn.answered += 1;
        if self.turn.answered > self.turn.asked {
            (self.turn, self.turns) = (Turn::default(), Turns::default());
        }
    }

    /// A request without its response was dropped.
    pub(super) fn dropped_request(&mut self) {
        self.dropped.requests += 1;
    }

    /// A response was.
    pub(super) fn dropped_response(&mut self) {
        self.dropped.responses += 1;
    }

    /// How many exchanges are lost for certain that have not been counted. Behind a hole a part of a
    /// response may have looked like one.
    pub(super) fn take_lost(&mut self) -> u64 {
        let Dropped { requests, responses, counted } = self.dropped;
        let lost = if self.responses_known { requests.max(responses) } else { requests };
        self.dropped.counted = counted.max(lost);
        lost.saturating_sub(counted)
    }

    pub(super) fn responses_lost(&mut self, at_least: Option<u64>) {
        self.responses_known = false;
        self.is_counted &= at_least.is_some();
        // Only what is missing next to what was certain begins where a response does.
        if !std::mem::replace(&mut self.is_begun, true) {
            self.missing += at_least.unwrap_or_default();
        }
        (self.turn, self.turns) = (Turn::default(), Turns::default());
    }

    pub(super) fn has_parts(&mut self) {
        self.is_plain = false;
    }

    /// So many requests were given up, and counted as that; what else waited is not known.
    pub(super) fn gave_up(&mut self, owed: u64) {
        self.requests_known = false;
        self.dropped.requests += owed;
        self.dropped.counted += owed;
        (self.turn, self.turns) = (Turn::default(), Turns::default());
    }
}
