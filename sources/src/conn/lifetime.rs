//! Time passes: holes are settled, what is closed ends, what nobody holds any more is found out.
//!
//! A source tells most ends at once. For the rest ([`Liveness`]) connections are asked about: at once
//! if their last known holder has ended, and all silent ones in turn, a few at a time. So no call
//! costs more for what is remembered.

use weir_protocols::REORDER_GRACE_NS;

use super::connection::{Connection, Emit, Outcome};
use super::tracker::Tracker;
use crate::capture::{ConnKey, Liveness};

/// The caller's clock moves by no more than this between two calls of [`Tracker::on_time`]; when it
/// does, it was set, and no time has passed for connections.
const CLOCK_STEP_MAX_NS: i64 = 10_000_000_000;
/// Events are no older than this when they come; when they are, the caller's clock is ahead.
const EVENT_AGE_MAX_NS: i64 = 1_000_000_000;
/// Slots that one call looks at for silent connections: at ten calls a second all 65,536 in 7 s.
const PATROL_SLOTS: usize = 1_024;
/// Silent connections that one call asks about: a system call each.
const PATROL_QUESTIONS: usize = 64;
/// Connections that one call asks about because their last known holder has ended; the others wait
/// for the next call.
const DOUBTFUL_QUESTIONS: usize = 1_024;
/// Silent for so long, a connection is asked about.
const SILENT_NS: i64 = 1_000_000_000;

/// Whoever knows of sockets whether they are held.
pub type Ask<'a> = dyn FnMut(ConnKey) -> Liveness + 'a;

impl Tracker {
    /// Lets time pass: settles holes, drops what waited too long, ends connections that are closed or
    /// that nobody holds.
    pub fn on_time(&mut self, now_unix_ns: i64, ask: &mut Ask<'_>, emit: &mut Emit<'_>) {
        self.pass_time(now_unix_ns);
        self.settle_doubts(ask);
        for slot in std::mem::take(&mut self.attention) {
            self.attended(slot, emit);
        }
        self.patrol(ask, emit);
    }

    fn attended(&mut self, slot: u32, emit: &mut Emit<'_>) {
        let now_unix_ns = self.now_unix_ns;
        let Some(conn) = self.conn_mut(slot) else { return };
        conn.in_attention = false;
        let is_over =
            |since: Option<i64>| since.is_some_and(|ns| now_unix_ns - ns >= REORDER_GRACE_NS);
        let (closing, ending) = (conn.closing_since_ns, conn.responses_end_ns);
        if is_over(closing) {
            self.end(slot, emit);
            return;
        }
        if is_over(ending) {
            self.look(slot, emit, |conn, look| {
                conn.responses_end_ns = None;
                conn.finish(look);
                Outcome::Ignored
            });
        } else {
            self.look(slot, emit, Connection::advance);
        }
        if closing.is_some() || ending.is_some_and(|ns| !is_over(Some(ns))) {
            self.attend(slot);
        }
    }

    /// Time passes as on the caller's clock, but a clock that was set makes no request late, and
    /// events say what time it is.
    fn pass_time(&mut self, wall_unix_ns: i64) {
        let Some(before) = self.wall_unix_ns.replace(wall_unix_ns) else {
            self.now_unix_ns = self.now_unix_ns.max(wall_unix_ns);
            return;
        };
        let passed_ns = wall_unix_ns.saturating_sub(before);
        if (0..=CLOCK_STEP_MAX_NS).contains(&passed_ns) {
            self.now_unix_ns = self.now_unix_ns.saturating_add(passed_ns);
        }
        if let Some(newest) = self.newest_event_ns.take() {
            let latest = newest.saturating_add(EVENT_AGE_MAX_NS);
            self.now_unix_ns = self.now_unix_ns.clamp(newest, latest);
        }
    }

    fn settle_doubts(&mut self, ask: &mut Ask<'_>) {
        let count = self.doubtful.len().min(DOUBTFUL_QUESTIONS);
        let asked: Vec<(u32, i64)> = self.doubtful.drain(..count).collect();
        for (slot, since_unix_ns) in asked {
            let Some(conn) = self.conn_mut(slot) else { continue };
            if !std::mem::take(&mut conn.is_doubtful) {
                continue; // another connection by now
            }
            // Where nobody knows, the last one that was seen is taken for the last one.
            if ask(conn.ends.socket.key) == Liveness::Open {
                conn.has_unknown_holders();
            } else {
                conn.closing_since_ns = Some(since_unix_ns);
                self.attend(slot);
            }
        }
    }

    /// Looks at the next few slots: what was idle too long is dropped, what is silent is asked about.
    fn patrol(&mut self, ask: &mut Ask<'_>, emit: &mut Emit<'_>) {
        let now_unix_ns = self.now_unix_ns;
        let mut questions = PATROL_QUESTIONS;
        for _ in 0..PATROL_SLOTS.min(self.slots.len()) {
            if questions == 0 {
                return;
            }
            self.patrol = (self.patrol + 1) % self.slots.len();
            let Some(conn) = &mut self.slots[self.patrol] else { continue };
            let (slot, silent_ns) =
                (self.patrol as u32, now_unix_ns.saturating_sub(conn.last_event_ns));
            if silent_ns > self.limits.idle_ns {
                self.counters.connections_idle += 1;
                self.end(slot, emit);
            } else if silent_ns > SILENT_NS && conn.closing_since_ns.is_none() {
                questions -= 1;
                if ask(conn.ends.socket.key) == Liveness::Gone {
                    conn.closing_since_ns = Some(now_unix_ns);
                    self.attend(slot);
                }
            }
        }
    }

    fn end(&mut self, slot: u32, emit: &mut Emit<'_>) {
        self.look(slot, emit, |conn, look| {
            conn.finish(look);
            Outcome::Tracked
        });
        self.remove(slot);
    }

    /// Ends every connection: the input is over.
    pub fn finish(&mut self, emit: &mut Emit<'_>) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                self.end(slot as u32, emit);
            }
        }
    }
}
