//! All connections, by socket: creates them, feeds them, ends them, and keeps them within bounds.

mod bytes;
mod lifetime;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hashbrown::{HashMap, HashSet};
use weir_protocols::protocol::Shared;
use weir_protocols::{Config, Counters, PROTOCOLS};

use super::connection::{Connection, Emit, Look, Outcome};
use super::ends::{EndOf, Ends};
use super::infer::ProtocolIdx;
use super::losses::LossBook;
use super::stats::{ConnStats, StatsEntry, StatsKey};
use crate::capture::{
    CaptureEvent, ConnKey, IN_PROGRESS, Opened, Process, Socket, SocketEvent, SocketLoss,
    SocketType,
};
use weir_types::text::panic_text;

pub use lifetime::Ask;

/// Bounds of a tracker.
#[derive(Clone, Copy, Debug)]
pub struct TrackerLimits {
    /// Connections; beyond it one that was not used lately is dropped.
    pub connections_max: usize,
    /// Unread bytes and waiting requests of all connections; beyond it the growing connection's are
    /// forgotten.
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
/// Connects that are under way; beyond it the oldest ones are forgotten (their first bytes or their
/// end tell the rest).
const CONNECTING_MAX: usize = 16_384;

/// What a tracker counted; all of it only grows, but for the first two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerCounters {
    /// Now.
    pub connections: u64,
    /// Now: bytes that wait in streams, and what parsers hold.
    pub held_bytes: u64,
    pub events: u64,
    /// Dropped after a long silence.
    pub connections_idle: u64,
    /// Ends of connections of which there was no room to tell whose they are.
    pub ends_untold: u64,
}

/// A socket whose payload is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopCopying {
    pub key: ConnKey,
    /// Neither is what is said over TLS; else that may still be.
    pub encrypted: bool,
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
    pub end: EndOf,
    /// Inode of the network namespace, 0 if not known.
    pub netns: u32,
    pub process: Process,
    pub opened: Opened,
    /// When it was first seen with it; or last, if it `ended`.
    pub at_unix_ns: i64,
    pub ended: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Tracker {
    limits: TrackerLimits,
    config: Config,
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    by_key: HashMap<ConnKey, u32, foldhash::fast::FixedState>,
    /// Slots to look at again when time has passed.
    attention: Vec<u32>,
    /// Slots of which the source is to be asked whether anybody holds them, since their last known
    /// holder has ended; and when it did.
    doubtful: Vec<(u32, i64)>,
    /// Slots that the statistics have to look at.
    active: Vec<u32>,
    /// Where the search for a connection to evict goes on.
    hand: usize,
    /// Where [`Tracker::on_time`] goes on looking for silent connections.
    patrol: usize,
    /// The slots of each process that is known to hold a connection. As long as a connection lives,
    /// its slot is in the set of each of its holders, and in no other.
    held: HashMap<Process, HashSet<u32, foldhash::fast::FixedState>, foldhash::fast::FixedState>,
    /// Connects that have not succeeded yet.
    connecting: HashMap<ConnKey, SocketEvent, foldhash::fast::FixedState>,
    /// What the parsers of each protocol share; `None` for those that are not read.
    shared: Vec<Option<Box<dyn Shared>>>,
    parsed: Vec<Counters>,
    losses: LossBook,
    stats: ConnStats,
    stop_copying: VecDeque<StopCopying>,
    panics: Vec<ParserPanic>,
    sockets: Vec<SocketOwner>,
    /// On the events' clock: it follows the kernel's, whatever is done to the wall clock.
    now_unix_ns: i64,
    /// The caller's clock when it called last.
    wall_unix_ns: Option<i64>,
    /// The newest event since then.
    newest_event_ns: Option<i64>,
    last_stats_ns: i64,
    counters: TrackerCounters,
}

impl Tracker {
    #[must_use]
    pub fn new(limits: TrackerLimits, config: Config) -> Tracker {
        Tracker {
            limits,
            config,
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::default(),
            attention: Vec::new(),
            doubtful: Vec::new(),
            active: Vec::new(),
            hand: 0,
            patrol: 0,
            held: HashMap::default(),
            connecting: HashMap::default(),
            shared: PROTOCOLS
                .iter()
                .map(|def| def.parsing.as_ref().map(|parsing| (parsing.shared)()))
                .collect(),
            parsed: vec![Counters::default(); PROTOCOLS.len()],
            losses: LossBook::default(),
            stats: ConnStats::default(),
            stop_copying: VecDeque::new(),
            panics: Vec::new(),
            sockets: Vec::new(),
            now_unix_ns: 0,
            wall_unix_ns: None,
            newest_event_ns: None,
            last_stats_ns: 0,
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
            CaptureEvent::Plain(data) => self.plain(data, emit),
            CaptureEvent::Connect { at, error } => self.connect(at, *error),
            CaptureEvent::Accept { at } => self.opened(at),
            CaptureEvent::UnixNames { at, local, remote, peer_inode } => {
                self.named(at, local, remote, *peer_inode);
            }
            CaptureEvent::End { at, direction, .. } => self.direction_ended(at, *direction),
            CaptureEvent::Fork { .. } | CaptureEvent::Exec { .. } => {}
            CaptureEvent::Close { at, last, egress_bytes, ingress_bytes } => {
                self.closed(at, *last, *egress_bytes, *ingress_bytes);
            }
            CaptureEvent::Gap { at, direction, position, bytes } => {
                self.gap(at, *direction, *position, *bytes, emit);
            }
            CaptureEvent::Memo { at, direction, position, bytes } => {
                self.memo(at, *direction, *position, bytes, emit);
            }
            CaptureEvent::Exit { at, .. } => self.exited(at.process),
        }
    }

    /// A connect that is under way is no connection yet; one that has failed never was.
    fn connect(&mut self, at: &SocketEvent, error: i32) {
        let key = at.socket.key;
        let before = self.connecting.remove(&key);
        match error {
            // Told of the kernel's doing, it has no process: that of the call is meant.
            0 if at.process == Process::default() => {
                let Some(before) = before else { return };
                self.opened(&SocketEvent { socket: at.socket, ..before });
            }
            0 => self.opened(at),
            IN_PROGRESS => {
                if self.connecting.len() >= CONNECTING_MAX {
                    self.connecting.clear();
                }
                self.connecting.insert(key, *at);
            }
            _ => {}
        }
    }

    fn opened(&mut self, at: &SocketEvent) {
        if at.socket.socket_type == SocketType::Datagram {
            return;
        }
        let slot = self.slot_of(&at.socket, at.process, at.time_unix_ns);
        if let Some(conn) = self.conn_mut(slot) {
            conn.seen(&at.socket, at.process, at.time_unix_ns);
        }
        self.take_new_holder(slot);
    }

    fn named(&mut self, at: &SocketEvent, local: &[u8], remote: &[u8], peer_inode: u64) {
        let slot = self.slot_of(&at.socket, at.process, at.time_unix_ns);
        let Some(conn) = self.conn_mut(slot) else { return };
        conn.ends.set_unix_names(local, remote);
        conn.ends.unix_peer_inode = peer_inode;
        self.tell(slot, at.process, at.time_unix_ns, false);
    }

    fn take_new_holder(&mut self, slot: u32) {
        if let Some(conn) = self.conn_mut(slot)
            && let Some(process) = conn.take_new_holder()
        {
            self.held.entry(process).or_default().insert(slot);
        }
    }

    /// The statistics are to look at this connection.
    fn is_active(&mut self, slot: u32) {
        if let Some(conn) = self.conn_mut(slot)
            && !std::mem::replace(&mut conn.is_active, true)
        {
            self.active.push(slot);
        }
    }

    fn conn_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    fn slot_of(&mut self, socket: &Socket, process: Process, time_unix_ns: i64) -> u32 {
        if let Some(&slot) = self.by_key.get(&socket.key) {
            self.is_active(slot);
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
        self.held.entry(process).or_default().insert(slot);
        self.is_active(slot);
        self.tell(slot, process, time_unix_ns, false);
        slot
    }

    /// Tells whose a connection's end is since then, or was until then.
    fn tell(&mut self, slot: u32, process: Process, at_unix_ns: i64, ended: bool) {
        let Some(conn) = self.conn_mut(slot) else { return };
        if conn.is_datagram() {
            // A pair of addresses names a connection; that of a datagram names none.
            return;
        }
        let Some(end) = conn.ends.end() else { return };
        let socket = conn.ends.socket;
        if self.sockets.len() == SOCKETS_MAX {
            self.counters.ends_untold += 1;
            return;
        }
        let Socket { netns, opened, .. } = socket;
        self.sockets.push(SocketOwner { end, netns, process, opened, at_unix_ns, ended });
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
        work: impl FnOnce(&mut Connection, &mut Look<'_, '_>) -> Outcome,
    ) {
        let Some(conn) = self.slots.get_mut(slot as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        let before = conn.held_bytes() as u64;
        let process = conn.ends.process;
        let mut look = Look {
            now_unix_ns: self.now_unix_ns,
            config: &self.config,
            shared: &mut self.shared,
            emit,
        };
        // What the closure touches is the connection, which is given up if it panics, what parsers
        // share, which is storage only, and the caller's sink.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(conn, &mut look)));
        let ignored = !matches!(outcome, Ok(Outcome::Tracked));
        if let Err(panic) = outcome {
            self.losses.of(conn).parser_panics += 1;
            if self.panics.len() < PANICS_MAX {
                self.panics.push(ParserPanic {
                    time_unix_ns: self.now_unix_ns,
                    ends: conn.ends.clone(),
                    message: panic_text(panic.as_ref()),
                });
            }
        }
        for (protocol, counted) in conn.take_counters() {
            self.parsed[protocol].add(counted);
        }
        if ignored && conn.ignore() {
            let (key, encrypted) = (conn.ends.socket.key, conn.is_encrypted);
            push_bounded(&mut self.stop_copying, StopCopying { key, encrypted });
        }
        if let Some(process) = conn.take_new_holder() {
            self.held.entry(process).or_default().insert(slot);
        }
        let (after, waits) = (conn.held_bytes() as u64, conn.needs_time());
        let too_large = conn.is_too_large();
        let process_now = conn.ends.process;
        if process_now != process {
            self.tell(slot, process_now, self.now_unix_ns, false);
        }
        self.counters.held_bytes = (self.counters.held_bytes + after).saturating_sub(before);
        let is_full = after > before && self.counters.held_bytes > self.limits.bytes_max as u64;
        if is_full || too_large {
            self.forget_bytes(slot);
        }
        if waits {
            self.attend(slot);
        }
    }

    fn forget_bytes(&mut self, slot: u32) {
        let Some(conn) = self.slots.get_mut(slot as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        self.losses.of(conn).bytes_forgotten += 1;
        let before = conn.held_bytes();
        conn.forget_unread(&mut self.shared);
        let freed = before.saturating_sub(conn.held_bytes()) as u64;
        self.counters.held_bytes = self.counters.held_bytes.saturating_sub(freed);
        self.take_parsed(slot);
    }

    fn take_parsed(&mut self, slot: u32) {
        let Some(conn) = self.slots.get_mut(slot as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        for (protocol, counted) in conn.take_counters() {
            self.parsed[protocol].add(counted);
        }
    }

    /// Connection statistics that changed, if it is time for them (`None` if not).
    pub fn take_stats(&mut self) -> Option<Vec<(StatsKey, StatsEntry)>> {
        let passed_ns = self.now_unix_ns.saturating_sub(self.last_stats_ns);
        if passed_ns < self.limits.stats_interval_ns {
            return None;
        }
        self.last_stats_ns = self.now_unix_ns;
        for slot in std::mem::take(&mut self.active) {
            if let Some(conn) = self.slots[slot as usize].as_deref_mut()
                && std::mem::take(&mut conn.is_active)
            {
                self.stats.take(conn, false);
            }
        }
        Some(self.stats.take_changed())
    }

    /// Sockets whose payload is of no use since the last call.
    pub fn take_stop_copying(&mut self) -> Vec<StopCopying> {
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

    /// Keys that the statistics hold now.
    #[must_use]
    pub fn stats_keys(&self) -> usize {
        self.stats.keys()
    }

    #[must_use]
    pub fn counters(&self) -> TrackerCounters {
        let shared = self.shared.iter().flatten().map(|shared| shared.held_bytes() as u64);
        let held_bytes = self.counters.held_bytes + shared.sum::<u64>();
        TrackerCounters { connections: self.by_key.len() as u64, held_bytes, ..self.counters }
    }

    /// What the parsers of a protocol counted.
    #[must_use]
    pub fn parsed(&self, protocol: ProtocolIdx) -> Counters {
        self.parsed[protocol]
    }

    /// Takes what the source has lost. After the events of the same time: what its socket speaks is known
    /// then, if ever.
    pub fn lost(&mut self, loss: &SocketLoss) {
        let conn = loss.key.and_then(|key| {
            let slot = *self.by_key.get(&key)?;
            self.slots[slot as usize].as_deref()
        });
        match conn {
            Some(conn) => self.losses.of(conn).before.add(loss.counts),
            None => self.losses.of_nobody(loss.socket_type).before.add(loss.counts),
        }
    }

    /// What was lost, by what it concerns.
    #[must_use]
    pub fn losses(&self) -> &LossBook {
        &self.losses
    }
}

fn push_bounded(queue: &mut VecDeque<StopCopying>, key: StopCopying) {
    if queue.len() >= STOP_COPYING_MAX {
        queue.pop_front();
    }
    queue.push_back(key);
}
