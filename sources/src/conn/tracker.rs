//! All connections, by socket: creates them, feeds them, ends them, and keeps them within bounds.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hashbrown::{HashMap, HashSet};
use weir_protocols::http1::{self, Exchange, REORDER_GRACE_NS};

use super::connection::{Connection, Ends, Look, Outcome, Role};
use super::stats::{ConnStats, StatsEntry, StatsKey};
use crate::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Opened, Process, Socket, SocketEvent, SocketType,
};

/// Bounds of a tracker.
#[derive(Clone, Copy, Debug)]
pub struct TrackerLimits {
    /// Connections; beyond it one that was not used lately is dropped.
    pub connections_max: usize,
    /// Unread bytes of all connections; beyond it the growing connection's are forgotten.
    pub bytes_max: usize,
    /// A connection without events for so long is dropped.
    pub idle_ns: i64,
    pub stats_interval_ns: i64,
}

impl Default for TrackerLimits {
    fn default() -> TrackerLimits {
        TrackerLimits {
            connections_max: 65_536,
            bytes_max: 64 << 20,
            idle_ns: 3_600_000_000_000,
            stats_interval_ns: 10_000_000_000,
        }
    }
}

/// Keys to stop copying that nobody fetched; beyond it the oldest is forgotten (copying goes on).
const STOP_COPYING_MAX: usize = 65_536;
/// Sockets that nobody fetched; beyond it they are not told (a refresh finds them if they last).
const SOCKETS_MAX: usize = 16_384;
/// Panics that nobody fetched.
const PANICS_MAX: usize = 64;
/// The caller's clock moves by no more than this between two calls of [`Tracker::on_time`]; when it
/// does, it was set, and no time has passed for connections.
const CLOCK_STEP_MAX_NS: i64 = 10_000_000_000;
/// Events are no older than this when they come; when they are, the caller's clock is ahead.
const EVENT_AGE_MAX_NS: i64 = 1_000_000_000;
/// Idle connections are looked for this often.
const IDLE_SCAN_NS: i64 = 10_000_000_000;

/// What a tracker counted; all of it only grows, but for the first two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerCounters {
    /// Now.
    pub connections: u64,
    /// Now: bytes that wait in streams.
    pub held_bytes: u64,
    pub events: u64,
    /// Dropped while open, for room.
    pub connections_evicted: u64,
    /// Dropped after a long silence.
    pub connections_idle: u64,
    /// Payload bytes that did not fit a stream.
    pub stream_overflow_bytes: u64,
    /// Times that a connection's bytes were forgotten for room.
    pub bytes_forgotten: u64,
    /// Connections dropped because their parser panicked.
    pub parser_panics: u64,
    /// Ends of connections of which there was no room to tell whose they are.
    pub ends_untold: u64,
    pub http1: http1::Counters,
}

/// A connection whose parser panicked.
#[derive(Clone, Debug)]
pub struct ParserPanic {
    pub time_unix_ns: i64,
    pub ends: Ends,
    pub message: String,
}

/// One end of a connection, and who uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Inode of the network namespace, 0 if not known.
    pub netns: u32,
    pub process: Process,
    pub opened: Opened,
    /// When it was first seen with it; or last, if it `ended`.
    pub at_unix_ns: i64,
    pub ended: bool,
}

/// Where exchanges go.
pub type Emit<'a> = dyn FnMut(&Ends, Role, Exchange<'_>) + 'a;

/// See the module's documentation.
#[derive(Debug)]
pub struct Tracker {
    limits: TrackerLimits,
    config: http1::Config,
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    by_key: HashMap<ConnKey, u32, foldhash::fast::FixedState>,
    /// Slots to look at again when time has passed.
    attention: Vec<u32>,
    /// Where the search for a connection to evict goes on.
    hand: usize,
    /// Processes that hold or held a connection: most exiting processes never did.
    holders: HashSet<Process, foldhash::fast::FixedState>,
    pool: http1::Pool,
    stats: ConnStats,
    stop_copying: VecDeque<ConnKey>,
    panics: Vec<ParserPanic>,
    sockets: Vec<SocketOwner>,
    /// On the events' clock: it follows the kernel's, whatever is done to the wall clock.
    now_unix_ns: i64,
    /// The caller's clock when it called last.
    wall_unix_ns: Option<i64>,
    /// The newest event since then.
    newest_event_ns: Option<i64>,
    last_stats_ns: i64,
    last_idle_scan_ns: i64,
    counters: TrackerCounters,
}

impl Tracker {
    #[must_use]
    pub fn new(limits: TrackerLimits, config: http1::Config) -> Tracker {
        Tracker {
            limits,
            config,
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::default(),
            attention: Vec::new(),
            hand: 0,
            holders: HashSet::default(),
            pool: http1::Pool::default(),
            stats: ConnStats::default(),
            stop_copying: VecDeque::new(),
            panics: Vec::new(),
            sockets: Vec::new(),
            now_unix_ns: 0,
            wall_unix_ns: None,
            newest_event_ns: None,
            last_stats_ns: 0,
            last_idle_scan_ns: 0,
            counters: TrackerCounters::default(),
        }
    }

    /// Takes an event and emits the exchanges that it completes.
    pub fn on_event(&mut self, event: &CaptureEvent<'_>, emit: &mut Emit<'_>) {
        self.counters.events += 1;
        let time_unix_ns = event.time_unix_ns();
        self.now_unix_ns = self.now_unix_ns.max(time_unix_ns);
        self.newest_event_ns = self.newest_event_ns.max(Some(time_unix_ns));
        match event {
            CaptureEvent::Data(data) => self.data(data, emit),
            CaptureEvent::Connect { at, error: 0 } | CaptureEvent::Accept { at } => {
                self.opened(at);
            }
            CaptureEvent::Connect { .. }
            | CaptureEvent::Fork { .. }
            | CaptureEvent::Exec { .. } => {}
            CaptureEvent::Close { at, last, egress_bytes, ingress_bytes } => {
                self.closed(at, *last, *egress_bytes, *ingress_bytes);
            }
            CaptureEvent::Gap { at, direction, position, bytes } => {
                self.gap(at, *direction, *position, *bytes, emit);
            }
            CaptureEvent::Exit { at, .. } => self.exited(at.process),
        }
    }

    fn data(&mut self, event: &DataEvent<'_>, emit: &mut Emit<'_>) {
        if event.socket.socket_type == SocketType::Datagram {
            return;
        }
        let slot = self.slot_of(&event.socket, event.process, event.time_unix_ns);
        self.look(slot, emit, |conn, look| conn.data(event, look));
    }

    fn gap(
        &mut self,
        at: &SocketEvent,
        direction: Direction,
        position: u64,
        bytes: u64,
        emit: &mut Emit<'_>,
    ) {
        if at.socket.socket_type == SocketType::Datagram {
            return;
        }
        let slot = self.slot_of(&at.socket, at.process, at.time_unix_ns);
        self.look(slot, emit, |conn, look| {
            conn.seen(&at.socket, at.process, at.time_unix_ns);
            conn.gap(direction, position, bytes, at.time_unix_ns);
            conn.advance(look)
        });
    }

    fn opened(&mut self, at: &SocketEvent) {
        if at.socket.socket_type == SocketType::Datagram {
            return;
        }
        let slot = self.slot_of(&at.socket, at.process, at.time_unix_ns);
        if let Some(conn) = self.conn_mut(slot) {
            conn.seen(&at.socket, at.process, at.time_unix_ns);
        }
        self.holders.insert(at.process);
    }

    fn closed(&mut self, at: &SocketEvent, last: bool, egress_bytes: u64, ingress_bytes: u64) {
        let Some(&slot) = self.by_key.get(&at.socket.key) else { return };
        let Some(conn) = self.conn_mut(slot) else { return };
        conn.last_event_ns = conn.last_event_ns.max(at.time_unix_ns);
        conn.bytes_sent = conn.bytes_sent.max(egress_bytes);
        conn.bytes_received = conn.bytes_received.max(ingress_bytes);
        if conn.released_by(at.process) || last {
            conn.closing_since_ns = Some(at.time_unix_ns);
            self.attend(slot);
        }
    }

    fn exited(&mut self, process: Process) {
        self.stats.process_gone(process);
        if !self.holders.remove(&process) {
            return;
        }
        for slot in 0..self.slots.len() {
            let now_unix_ns = self.now_unix_ns;
            if let Some(conn) = &mut self.slots[slot]
                && conn.released_by(process)
            {
                conn.closing_since_ns = Some(now_unix_ns);
                self.attend(slot as u32);
            }
        }
    }

    fn conn_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    fn slot_of(&mut self, socket: &Socket, process: Process, time_unix_ns: i64) -> u32 {
        if let Some(&slot) = self.by_key.get(&socket.key) {
            return slot;
        }
        if self.by_key.len() >= self.limits.connections_max {
            self.evict();
        }
        let conn = Some(Box::new(Connection::new(*socket, process, time_unix_ns)));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = conn;
                slot
            }
            None => {
                self.slots.push(conn);
                u32::try_from(self.slots.len() - 1).expect("connections_max is below 2³²")
            }
        };
        self.by_key.insert(socket.key, slot);
        self.holders.insert(process);
        self.tell_owner(socket, process, time_unix_ns);
        slot
    }

    fn tell_owner(&mut self, socket: &Socket, process: Process, since_unix_ns: i64) {
        self.tell(socket, process, since_unix_ns, false);
    }

    fn tell(&mut self, socket: &Socket, process: Process, at_unix_ns: i64, ended: bool) {
        let (Some(local), Some(remote)) = (socket.local, socket.remote) else { return };
        if self.sockets.len() == SOCKETS_MAX {
            self.counters.ends_untold += 1;
            return;
        }
        let Socket { netns, opened, .. } = *socket;
        self.sockets.push(SocketOwner { local, remote, netns, process, opened, at_unix_ns, ended });
    }

    /// Second chance: the first one under the hand that was not used since it came by last.
    fn evict(&mut self) {
        for _ in 0..2 * self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(conn) = &mut self.slots[self.hand] else { continue };
            if !std::mem::take(&mut conn.touched) {
                self.counters.connections_evicted += 1;
                self.remove(self.hand as u32);
                return;
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        let Some(mut conn) = self.slots[slot as usize].take() else { return };
        self.stats.take(&mut conn, true);
        let until_unix_ns = conn.closing_since_ns.unwrap_or(conn.last_event_ns);
        self.tell(&conn.ends.socket, conn.ends.process, until_unix_ns, true);
        self.counters.http1.add(conn.take_counters());
        self.counters.held_bytes =
            self.counters.held_bytes.saturating_sub(conn.held_bytes() as u64);
        self.counters.stream_overflow_bytes += conn.overflow_bytes();
        self.by_key.remove(&conn.ends.socket.key);
        self.free.push(slot);
    }

    fn attend(&mut self, slot: u32) {
        if let Some(conn) = self.conn_mut(slot)
            && !std::mem::replace(&mut conn.in_attention, true)
        {
            self.attention.push(slot);
        }
    }

    /// Lets a connection work; a panic in there ends the connection and nothing else.
    fn look(
        &mut self,
        slot: u32,
        emit: &mut Emit<'_>,
        work: impl FnOnce(&mut Connection, &mut Look<'_>) -> Outcome,
    ) {
        let Some(conn) = self.slots.get_mut(slot as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        let before = conn.held_bytes() as u64;
        let process = conn.ends.process;
        let mut look = Look {
            now_unix_ns: self.now_unix_ns,
            config: &self.config,
            pool: &mut self.pool,
            emit,
        };
        // What the closure touches is the connection, which is given up if it panics, the pool,
        // which holds whole messages only, and the caller's sink.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(conn, &mut look)));
        let ignored = !matches!(outcome, Ok(Outcome::Tracked));
        if let Err(panic) = outcome {
            self.counters.parser_panics += 1;
            if self.panics.len() < PANICS_MAX {
                self.panics.push(ParserPanic {
                    time_unix_ns: self.now_unix_ns,
                    ends: conn.ends.clone(),
                    message: panic_text(panic.as_ref()),
                });
            }
        }
        self.counters.http1.add(conn.take_counters());
        if ignored && conn.ignore() {
            push_bounded(&mut self.stop_copying, conn.ends.socket.key);
        }
        if let Some(process) = conn.take_new_holder() {
            self.holders.insert(process);
        }
        let (after, waits) = (conn.held_bytes() as u64, conn.needs_time());
        let (socket, process_now) = (conn.ends.socket, conn.ends.process);
        if process_now != process {
            self.tell_owner(&socket, process_now, self.now_unix_ns);
        }
        self.counters.held_bytes = (self.counters.held_bytes + after).saturating_sub(before);
        if after > before && self.counters.held_bytes > self.limits.bytes_max as u64 {
            self.forget_bytes(slot);
        }
        if waits {
            self.attend(slot);
        }
    }

    fn forget_bytes(&mut self, slot: u32) {
        self.counters.bytes_forgotten += 1;
        let Some(conn) = self.conn_mut(slot) else { return };
        let before = conn.held_bytes();
        conn.forget_unread();
        let freed = before.saturating_sub(conn.held_bytes()) as u64;
        self.counters.held_bytes = self.counters.held_bytes.saturating_sub(freed);
    }

    /// Lets time pass: settles holes, drops what waited too long, ends closed connections.
    pub fn on_time(&mut self, now_unix_ns: i64, emit: &mut Emit<'_>) {
        self.pass_time(now_unix_ns);
        for slot in std::mem::take(&mut self.attention) {
            let now_unix_ns = self.now_unix_ns;
            let Some(conn) = self.conn_mut(slot) else { continue };
            conn.in_attention = false;
            let closed = conn
                .closing_since_ns
                .is_some_and(|since| now_unix_ns.saturating_sub(since) >= REORDER_GRACE_NS);
            let closing = conn.closing_since_ns.is_some();
            if closed {
                self.end(slot, emit);
            } else {
                self.look(slot, emit, Connection::advance);
                if closing {
                    self.attend(slot);
                }
            }
        }
        if self.now_unix_ns.saturating_sub(self.last_idle_scan_ns) >= IDLE_SCAN_NS {
            self.last_idle_scan_ns = self.now_unix_ns;
            self.drop_idle(emit);
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

    fn end(&mut self, slot: u32, emit: &mut Emit<'_>) {
        self.look(slot, emit, |conn, look| {
            conn.finish(look);
            Outcome::Tracked
        });
        self.remove(slot);
    }

    fn drop_idle(&mut self, emit: &mut Emit<'_>) {
        let since_ns = self.now_unix_ns.saturating_sub(self.limits.idle_ns);
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|conn| conn.last_event_ns < since_ns) {
                self.counters.connections_idle += 1;
                self.end(slot as u32, emit);
            }
        }
        // Processes that exited unseen must not stay.
        if self.holders.len() > 2 * self.limits.connections_max {
            let held = self.slots.iter().flatten().flat_map(|conn| conn.holders());
            self.holders = held.collect();
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

    /// Connection statistics that changed, if it is time for them (`None` if not).
    pub fn take_stats(&mut self) -> Option<Vec<(StatsKey, StatsEntry)>> {
        let passed_ns = self.now_unix_ns.saturating_sub(self.last_stats_ns);
        if passed_ns < self.limits.stats_interval_ns {
            return None;
        }
        self.last_stats_ns = self.now_unix_ns;
        for conn in self.slots.iter_mut().flatten() {
            self.stats.take(conn, false);
        }
        Some(self.stats.take_changed())
    }

    /// Sockets whose payload is of no use since the last call.
    pub fn take_stop_copying(&mut self) -> Vec<ConnKey> {
        self.stop_copying.drain(..).collect()
    }

    /// Local addresses that came into use, or changed hands, since the last call.
    pub fn take_sockets(&mut self) -> Vec<SocketOwner> {
        std::mem::take(&mut self.sockets)
    }

    /// Panics since the last call.
    pub fn take_panics(&mut self) -> Vec<ParserPanic> {
        std::mem::take(&mut self.panics)
    }

    /// Connections that the statistics could not count.
    #[must_use]
    pub fn stats_refused(&self) -> u64 {
        self.stats.refused
    }

    #[must_use]
    pub fn counters(&self) -> TrackerCounters {
        TrackerCounters { connections: self.by_key.len() as u64, ..self.counters }
    }
}

fn push_bounded(queue: &mut VecDeque<ConnKey>, key: ConnKey) {
    if queue.len() >= STOP_COPYING_MAX {
        queue.pop_front();
    }
    queue.push_back(key);
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_string())
}
