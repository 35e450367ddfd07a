//! The node's own thread: it takes rows from the sources, closes ticks, serves installs, and sends
//! what the engine hands out. It never waits for one source longer than [`FLUSH_GRACE_NS`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use tracing::info;
use weir_engine::history::History;
use weir_engine::{Engine, EngineConfig, EngineError, EngineEvent};
use weir_proto::NodeInfo;
use weir_proto::ToNode;
use weir_proto::bus::{BusError, NodePort};
use weir_proto::message::SourceStatus;
use weir_types::Clock;
use weir_types::source::{TableBatch, TableCounters};

use crate::agent::Agent;
use crate::core::NodeCore;
use crate::host::{Feed, FromSource, SourceSpec};
use crate::metadata::Settled;

/// A tick waits this long past its edge for a source that has not flushed yet; its rows then belong
/// to a later tick.
const FLUSH_GRACE_NS: i64 = 60_000_000;
/// How often it looks whether names that a tick waits for have come.
const SETTLE_PAUSE: Duration = Duration::from_micros(500);
/// The thread looks at the clock at least so often; what happens wakes it in between.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Pause between two slices of a back-fill while nothing else happens.
const REPLAY_PAUSE: Duration = Duration::from_millis(5);
/// Orders from the cluster part that may wait; the bus keeps the others.
const ORDERS_MAX: usize = 64;
/// Messages from sources that may wait; a source then waits for the node.
const FROM_SOURCES_MAX: usize = 1_024;
/// Engine events that may wait: the engine's thread never blocks on it.
const ENGINE_EVENTS_MAX: usize = 262_144;
const STATUS_EVERY_MS: u64 = 500;
/// How often table functions that somebody reads are answered anew.
const ANSWERS_EVERY_MS: u64 = 1_000;

pub struct NodeConfig {
    pub info: NodeInfo,
    pub tick_ms: u64,
    pub workers: usize,
    pub retention_ns: i64,
    pub history_bytes: u64,
    pub test_faults: bool,
    /// Answers table functions about this node.
    pub agent: Agent,
    /// Whether the names are known that the rows taken in so far need.
    pub settled: Settled,
}

#[derive(Default)]
struct SourceState {
    state: &'static str,
    reason: String,
    tables: Vec<String>,
    counters: BTreeMap<String, TableCounters>,
    flushed_ms: u64,
}

/// The running node.
pub struct NodeRuntime {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub engine: Arc<Engine>,
    pub feed: Feed,
}

struct NodeThread {
    core: NodeCore,
    orders: Receiver<Result<ToNode, BusError>>,
    clock: Arc<dyn Clock>,
    tick_ms: u64,
    from_sources: Receiver<FromSource>,
    events: Receiver<EngineEvent>,
    sources: BTreeMap<&'static str, SourceState>,
    last_tick_ms: u64,
    last_status_ms: u64,
    agent: Agent,
    settled: Settled,
    last_answers_ms: u64,
    stop: Arc<AtomicBool>,
}

impl NodeRuntime {
    /// Starts the engine and the node's thread; sources are started by whoever has an actor system,
    /// with [`NodeRuntime::feed`].
    pub fn start(
        config: NodeConfig,
        specs: &[SourceSpec],
        port: NodePort,
        clock: Arc<dyn Clock>,
    ) -> Result<NodeRuntime, EngineError> {
        let (emit, events): (Sender<EngineEvent>, _) = bounded(ENGINE_EVENTS_MAX);
        let engine = Engine::start(
            EngineConfig {
                workers: config.workers,
                retention_ns: Some(config.retention_ns),
                test_faults: config.test_faults,
                ..EngineConfig::new("node")
            },
            Arc::new(move |event| {
                if emit.try_send(event).is_err() {
                    tracing::error!(max = ENGINE_EVENTS_MAX, "the node lost an engine event");
                }
            }),
        )?;
        let engine = Arc::new(engine);
        let now_unix_ns = clock.now_unix_ns();
        // A row is whole at the latest one flush after its event, and admitted one tick later.
        let settle_ns = i64::try_from(config.tick_ms).unwrap_or(0) * 1_000_000;
        let tables: Vec<&str> = specs.iter().flat_map(|spec| spec.tables).copied().collect();
        let core = NodeCore::new(
            config.info,
            engine.clone(),
            Some(History::new(config.history_bytes, &tables)),
            port.sender.clone(),
            now_unix_ns,
            settle_ns,
        );
        let (rows, from_sources) = bounded(FROM_SOURCES_MAX);
        let feed = Feed { clock: clock.clone(), tick_ms: config.tick_ms, rows };
        let stop = Arc::new(AtomicBool::new(false));
        let sources = specs.iter().map(|spec| {
            let tables = spec.tables.iter().map(ToString::to_string).collect();
            let starting = SourceState { state: "starting", tables, ..SourceState::default() };
            (spec.name, starting)
        });
        let thread = NodeThread {
            core,
            orders: receive_orders(port)?,
            tick_ms: config.tick_ms,
            from_sources,
            events,
            sources: sources.collect(),
            last_tick_ms: u64::try_from(now_unix_ns / 1_000_000).unwrap_or(0) / config.tick_ms
                * config.tick_ms,
            last_status_ms: 0,
            agent: config.agent,
            settled: config.settled,
            last_answers_ms: 0,
            stop: stop.clone(),
            clock,
        };
        let thread = std::thread::Builder::new()
            .name("node".to_string())
            .spawn(move || thread.run())
            .map_err(|error| EngineError::Start(error.to_string()))?;
        Ok(NodeRuntime { stop, thread: Some(thread), engine, feed })
    }

    /// Ends the node's thread. Sources have been stopped before.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Takes orders off the bus on a thread of their own, which ends with the bus: so the node's thread
/// can wait for them and for everything else at once.
fn receive_orders(mut port: NodePort) -> Result<Receiver<Result<ToNode, BusError>>, EngineError> {
    let (orders, received) = bounded(ORDERS_MAX);
    std::thread::Builder::new()
        .name("node-orders".to_string())
        .spawn(move || {
            while let Some(order) = port.blocking_recv() {
                if orders.send(order).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| EngineError::Start(error.to_string()))?;
    Ok(received)
}

impl NodeThread {
    fn run(mut self) {
        self.wait_for_sources();
        self.core.register(self.statuses());
        let mut replays = false;
        while !self.stop.load(Ordering::SeqCst) {
            select! {
                recv(self.from_sources) -> message => if let Ok(message) = message {
                    self.on_source(message);
                },
                recv(self.events) -> event => if let Ok(event) = event {
                    self.core.on_event(event);
                },
                recv(self.orders) -> order => match order {
                    Ok(order) => self.on_order(order),
                    // The cluster part is gone, and with it all orders.
                    Err(_) => self.orders = crossbeam_channel::never(),
                },
                default(if replays { REPLAY_PAUSE } else { self.until_due() }) => {}
            }
            self.drain_queues();
            replays = self.core.replay_slice();
            self.close_due_tick();
            self.answer_functions();
        }
        self.core.leave();
        info!("node stopped");
    }

    /// Sources attach or are refused with reasons before the node is known: its first answer about
    /// what it can do is the right one.
    fn wait_for_sources(&mut self) {
        while self.sources.values().any(|source| source.state == "starting")
            && !self.stop.load(Ordering::SeqCst)
        {
            if let Ok(message) = self.from_sources.recv_timeout(Duration::from_millis(100)) {
                self.on_source(message);
            }
        }
    }

    fn drain_queues(&mut self) {
        while let Ok(message) = self.from_sources.try_recv() {
            self.on_source(message);
        }
        while let Ok(event) = self.events.try_recv() {
            self.core.on_event(event);
        }
        while let Ok(order) = self.orders.try_recv() {
            self.on_order(order);
        }
    }

    fn on_source(&mut self, message: FromSource) {
        match message {
            FromSource::Batch(TableBatch { table, batch, waited: false }) => {
                self.core.admit(table, batch);
            }
            FromSource::Batch(TableBatch { table, batch, waited: true }) => {
                self.core.admit_late(table, batch);
            }
            FromSource::Flushed { source, tick_ms } => {
                if let Some(state) = self.sources.get_mut(source) {
                    state.flushed_ms = tick_ms;
                }
            }
            FromSource::Counters { source, counters, missing } => {
                if let Some(state) = self.sources.get_mut(source) {
                    state.counters = counters;
                    state.reason = missing;
                }
            }
            FromSource::Running { source, missing } => {
                if let Some(state) = self.sources.get_mut(source) {
                    state.state = if missing.is_empty() { "running" } else { "reduced" };
                    state.reason = missing;
                }
            }
            FromSource::Down { source, reason, again } => {
                if let Some(state) = self.sources.get_mut(source) {
                    state.state = if again { "restarting" } else { "refused" };
                    state.reason = reason;
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now_unix_ns() / 1_000_000).unwrap_or(0)
    }

    fn on_order(&mut self, order: Result<ToNode, BusError>) {
        match order {
            Ok(message) => self.core.handle(message, self.now_ms()),
            Err(error) => tracing::error!(%error, "unreadable message from the cluster part"),
        }
    }

    /// Whether a tick has to wait for this source.
    fn is_awaited(source: &SourceState, tick_ms: u64) -> bool {
        matches!(source.state, "running" | "reduced") && source.flushed_ms < tick_ms
    }

    /// The longest wait that misses no tick: sources that flush wake the thread themselves.
    fn until_due(&self) -> Duration {
        let next_ms = self.last_tick_ms + self.tick_ms;
        let awaited = self.sources.values().any(|source| NodeThread::is_awaited(source, next_ms));
        let grace_ns = if awaited { FLUSH_GRACE_NS } else { 0 };
        let due_ns = i64::try_from(next_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let left_ns = due_ns.saturating_add(grace_ns).saturating_sub(self.clock.now_unix_ns());
        let left = Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0)).min(WAIT_MAX);
        if left.is_zero() && !(self.settled)() { SETTLE_PAUSE } else { left }
    }

    /// Closes the latest tick whose edge has passed, once every running source has flushed it or
    /// the grace is over. Ticks that were missed are not made up: their rows are in this one.
    fn close_due_tick(&mut self) {
        let now_ns = self.clock.now_unix_ns();
        let due_ms = u64::try_from(now_ns / 1_000_000).unwrap_or(0) / self.tick_ms * self.tick_ms;
        if due_ms <= self.last_tick_ms {
            return;
        }
        let edge_ns = i64::try_from(due_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let waiting = self.sources.values().any(|source| NodeThread::is_awaited(source, due_ms));
        let unnamed = !(self.settled)();
        if (waiting || unnamed) && now_ns < edge_ns + FLUSH_GRACE_NS {
            return;
        }
        self.last_tick_ms = due_ms;
        self.core.close_tick(due_ms);
        if due_ms - self.last_status_ms >= STATUS_EVERY_MS {
            self.last_status_ms = due_ms;
            self.core.send_status(&self.counters(), self.statuses());
        }
    }

    fn answer_functions(&mut self) {
        let now_ms = self.now_ms();
        if self.core.owes_answers() || now_ms.abs_diff(self.last_answers_ms) >= ANSWERS_EVERY_MS {
            self.last_answers_ms = now_ms;
            self.core.answer(&mut self.agent);
        }
    }

    fn counters(&self) -> BTreeMap<String, TableCounters> {
        let mut all = BTreeMap::new();
        for source in self.sources.values() {
            all.extend(source.counters.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        all
    }

    fn statuses(&self) -> Vec<SourceStatus> {
        self.sources
            .iter()
            .map(|(name, source)| SourceStatus {
                name: name.to_string(),
                state: source.state.to_string(),
                reason: source.reason.clone(),
                tables: source.tables.clone(),
            })
            .collect()
    }
}
