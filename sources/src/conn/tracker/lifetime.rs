//! The ends of connections: as they are told, and as time passes. Holes are settled, what is closed ends,
//! what nobody holds any more is found out, and what goes for room.
//!
//! A source tells most ends at once. For the rest ([`Liveness`]) connections are asked about: at once
//! if their last known holder has ended, and all silent ones in turn, a few at a time. So no call
//! costs more for what is remembered.

use hashbrown::{HashMap, HashSet};
use weir_protocols::REORDER_GRACE_NS;

use super::Tracker;
use crate::capture::{ConnKey, Direction, Liveness, Process, SocketEvent};
use crate::conn::connection::{Connection, Emit, Outcome};

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
/// Slots that the search for a connection to evict looks at; the one that was silent longest among
/// them goes if all were used lately.
const EVICT_LOOKS: usize = 64;
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

    /// Nothing more comes of a socket: its connection ends now.
    pub fn over(&mut self, key: ConnKey, emit: &mut Emit<'_>) {
        if let Some(&slot) = self.by_key.get(&key) {
            self.end(slot, emit);
        }
    }

    /// Ends every connection: the input is over.
    pub fn finish(&mut self, emit: &mut Emit<'_>) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                self.end(slot as u32, emit);
            }
        }
    }

    /// Once no response can come any more, the parser need not wait for the close.
    pub(super) fn direction_ended(&mut self, at: &SocketEvent, direction: Direction) {
        let Some(&slot) = self.by_key.get(&at.socket.key) else { return };
        let Some(conn) = self.conn_mut(slot) else { return };
        if conn.responses_end_since(direction, at.time_unix_ns) {
            self.attend(slot);
        }
    }

    pub(super) fn closed(
        &mut self,
        at: &SocketEvent,
        last: bool,
        egress_bytes: u64,
        ingress_bytes: u64,
    ) {
        if last {
            self.connecting.remove(&at.socket.key);
        }
        let Some(&slot) = self.by_key.get(&at.socket.key) else { return };
        let Some(conn) = self.conn_mut(slot) else { return };
        conn.last_event_ns = conn.last_event_ns.max(at.time_unix_ns);
        conn.bytes_sent = conn.bytes_sent.max(egress_bytes);
        conn.bytes_received = conn.bytes_received.max(ingress_bytes);
        if last {
            conn.closing_since_ns = Some(at.time_unix_ns);
            self.attend(slot);
        } else {
            // Whoever it is that still holds it: perhaps the same process by another descriptor,
            // perhaps one that has not used it yet.
            conn.let_go_by(at.process);
            unhold(&mut self.held, at.process, slot);
        }
        self.is_active(slot);
    }

    pub(super) fn exited(&mut self, process: Process) {
        for slot in self.held.remove(&process).into_iter().flatten() {
            let Some(conn) = self.slots[slot as usize].as_deref_mut() else { continue };
            // Counted under its process, before that is forgotten.
            self.stats.take(conn, false);
            if conn.released_by(process) && !std::mem::replace(&mut conn.is_doubtful, true) {
                self.doubtful.push((slot, self.now_unix_ns));
            }
        }
        self.stats.process_gone(process);
    }

    /// Second chance: the first one under the hand that was not used since it came by last, or of
    /// those that it came by the one that was silent longest.
    pub(super) fn evict(&mut self) {
        let mut oldest: Option<(i64, u32)> = None;
        let mut looks = 0;
        while looks < EVICT_LOOKS.min(self.by_key.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = self.hand as u32;
            let Some(conn) = &mut self.slots[self.hand] else { continue };
            looks += 1;
            let candidate = (conn.last_event_ns, slot);
            if !std::mem::take(&mut conn.touched) {
                oldest = Some(candidate);
                break;
            }
            oldest = oldest.min(Some(candidate)).or(Some(candidate));
        }
        if let Some((_, slot)) = oldest {
            if let Some(conn) = &self.slots[slot as usize] {
                self.losses.of(conn).connections_evicted += 1;
            }
            self.remove(slot);
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(conn) = self.conn_mut(slot) {
            let until_unix_ns = conn.closing_since_ns.unwrap_or(conn.last_event_ns);
            let process = conn.ends.process;
            self.tell(slot, process, until_unix_ns, true);
        }
        self.take_parsed(slot);
        let Some(mut conn) = self.slots[slot as usize].take() else { return };
        self.stats.take(&mut conn, true);
        self.counters.held_bytes =
            self.counters.held_bytes.saturating_sub(conn.held_bytes() as u64);
        self.losses.of(&conn).stream_overflow_bytes += conn.overflow_bytes();
        self.by_key.remove(&conn.ends.socket.key);
        for holder in conn.holders() {
            unhold(&mut self.held, holder, slot);
        }
        self.free.push(slot);
    }
}

/// Takes a slot out of a process's set, and the set away when it is empty.
fn unhold<S: std::hash::BuildHasher, T: std::hash::BuildHasher>(
    held: &mut HashMap<Process, HashSet<u32, S>, T>,
    process: Process,
    slot: u32,
) {
    if let Some(slots) = held.get_mut(&process) {
        slots.remove(&slot);
        if slots.is_empty() {
            held.remove(&process);
        }
    }
}
