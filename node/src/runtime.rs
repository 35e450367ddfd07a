//! The node's own thread: it takes rows from the sources, closes ticks, serves installs, and sends
//! what the engine hands out. It never waits for one source longer than [`FLUSH_GRACE_NS`].
//!
//! Thread and engine live in *generations*. When the thread panics or an engine worker dies, both start
//! anew after a short wait: the history, the sources and what waits from them stay, the node registers
//! again, and the cluster part installs its queries anew, filled from the history.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use tracing::{error, info};
use weir_engine::history::History;
use weir_engine::{EngineConfig, EngineError, EngineEvent, Generations, Limits, RestartPace};
use weir_proto::NodeInfo;
use weir_proto::ToNode;
use weir_proto::bus::{BusError, NodePort};
use weir_proto::message::SourceStatus;
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{Meter, NodeLedger, Reach, Span};
use weir_types::source::{BlindProcess, CaptureFilters, TableBatch, TableCounters};
use weir_types::{Clock, Upid};

use crate::agent::Agent;
use crate::core::NodeCore;
use crate::entities::NodeEntities;
use crate::events::{Events, engine_events};
use crate::host::{FromSource, SourceFeed, SourceSpec};
use crate::loss_rows;
use crate::metadata::Names;
use crate::orders::{OrderQueue, Orders};

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
/// Messages from sources that may wait. A source then waits for the node: nothing is lost here, and what
/// the source cannot take in meanwhile it counts itself (a full ring, for one).
const FROM_SOURCES_MAX: usize = 1_024;
/// Engine events that may wait: the engine's thread never blocks on it. A query that loses one fails.
const ENGINE_EVENTS_MAX: usize = 262_144;
const STATUS_EVERY_MS: u64 = 500;
/// A source that is down loses what happens meanwhile, of unknown size: it is counted in seconds.
const DOWN_EVERY_NS: i64 = 1_000_000_000;
/// The source of what the node says of itself.
const NODE_SOURCE: &str = "node";
/// How often table functions that somebody reads are answered anew.
const ANSWERS_EVERY_MS: u64 = 1_000;

pub struct NodeConfig {
    pub info: NodeInfo,
    pub tick_ms: u64,
    pub workers: usize,
    pub retention_ns: i64,
    pub history_bytes: u64,
    pub queries: Limits,
    pub test_faults: bool,
    /// Answers table functions about this node.
    pub agent: Agent,
    /// What was lost. It outlives the node's thread: the next one goes on with it.
    pub ledger: NodeLedger,
    /// This process, in rows about its losses.
    pub own_upid: Upid,
    /// Whether the names are known that the rows taken in so far need, and what of them was lost.
    pub names: Names,
    /// What is told of them to the cluster part.
    pub entities: NodeEntities,
}

#[derive(Default)]
struct SourceState {
    state: &'static str,
    reason: String,
    tables: Vec<String>,
    counters: BTreeMap<String, TableCounters>,
    flushed_ms: u64,
    blind: Vec<BlindProcess>,
    filters: Vec<String>,
    meter: Meter,
    /// When its counters were read last.
    counted_unix_ns: i64,
    /// Up to when its being down is in the ledger.
    down_unix_ns: i64,
}

impl SourceState {
    /// Writes down what it lost since its counters were read last.
    fn count(
        &mut self,
        ledger: &NodeLedger,
        at_unix_ns: i64,
        counters: BTreeMap<String, TableCounters>,
    ) {
        let span = Span::new(self.counted_unix_ns.min(at_unix_ns), at_unix_ns);
        for (table, counted) in &counters {
            for (reason, &total) in &counted.lost_total {
                let count = self.meter.added(table, reason, total);
                ledger.note(table, reason, Reach::Everybody, span, count);
            }
        }
        self.counted_unix_ns = at_unix_ns;
        self.counters = counters;
    }

    /// Writes down that it is down, if it is.
    fn count_down_time(&mut self, ledger: &NodeLedger, now_unix_ns: i64) {
        let passed_ns = now_unix_ns.saturating_sub(self.down_unix_ns);
        if self.state != RESTARTING || passed_ns < DOWN_EVERY_NS {
            return;
        }
        let count = u64::try_from(passed_ns / DOWN_EVERY_NS).unwrap_or(0);
        let span = Span::new(self.down_unix_ns, now_unix_ns);
        for table in &self.tables {
            ledger.note(table, "source_down", Reach::Everybody, span, count);
        }
        self.down_unix_ns = now_unix_ns;
    }
}

const RESTARTING: &str = "restarting";

/// The running node.
pub struct NodeRuntime {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub engine: Arc<Generations>,
    pub feed: SourceFeed,
    panic_asked: Arc<AtomicBool>,
    test_faults: bool,
}

/// Why the thread's loop ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    EngineDied,
}

struct NodeThread {
    core: NodeCore,
    engine: Arc<Generations>,
    pace: RestartPace,
    /// With test faults: the next turn of the loop panics.
    panic_asked: Arc<AtomicBool>,
    orders: Receiver<Result<ToNode, BusError>>,
    clock: Arc<dyn Clock>,
    tick_ms: u64,
    from_sources: Receiver<FromSource>,
    events: Events,
    ledger: NodeLedger,
    sources: BTreeMap<&'static str, SourceState>,
    last_tick_ms: u64,
    last_status_ms: u64,
    agent: Agent,
    names: Names,
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
        let (emit, events) = engine_events(ENGINE_EVENTS_MAX);
        let engine = Generations::start(
            EngineConfig {
                workers: config.workers,
                retention_ns: Some(config.retention_ns),
                test_faults: config.test_faults,
                limits: config.queries,
                ..EngineConfig::new("node")
            },
            emit,
        )?;
        let engine = Arc::new(engine);
        let now_unix_ns = clock.now_unix_ns();
        // A row is whole at the latest one flush after its event, and admitted one tick later.
        let settle_ns = i64::try_from(config.tick_ms).unwrap_or(0) * 1_000_000;
        let tables = specs.iter().flat_map(|spec| spec.tables).chain(loss_rows::TABLES);
        let tables: Vec<&str> = tables.copied().collect();
        let core = NodeCore::new(
            config.info,
            engine.engine(),
            Some(History::new(config.history_bytes, &tables)),
            port.sender.clone(),
            now_unix_ns,
            settle_ns,
        )
        .with_ledger(config.ledger.clone(), config.own_upid)
        .with_entities(config.entities);
        let (rows, from_sources) = bounded(FROM_SOURCES_MAX);
        let queue = |spec: &SourceSpec| (spec.name.to_string(), Arc::<OrderQueue>::default());
        let orders: BTreeMap<String, Arc<OrderQueue>> = specs.iter().map(queue).collect();
        let core = core.with_orders(Orders::new(orders.clone()));
        let orders = Arc::new(orders);
        let feed = SourceFeed { clock: clock.clone(), tick_ms: config.tick_ms, rows, orders };
        let stop = Arc::new(AtomicBool::new(false));
        let sources = specs.iter().map(|spec| {
            let tables = spec.tables.iter().map(ToString::to_string).collect();
            let starting = SourceState { state: "starting", tables, ..SourceState::default() };
            (spec.name, starting)
        });
        let panic_asked = Arc::new(AtomicBool::new(false));
        let thread = NodeThread {
            core,
            engine: engine.clone(),
            pace: RestartPace::default(),
            panic_asked: panic_asked.clone(),
            orders: receive_orders(port)?,
            tick_ms: config.tick_ms,
            from_sources,
            events,
            sources: sources.collect(),
            ledger: config.ledger,
            last_tick_ms: u64::try_from(now_unix_ns / 1_000_000).unwrap_or(0) / config.tick_ms
                * config.tick_ms,
            last_status_ms: 0,
            agent: config.agent,
            names: config.names,
            last_answers_ms: 0,
            stop: stop.clone(),
            clock,
        };
        let thread = std::thread::Builder::new()
            .name("node".to_string())
            .spawn(move || thread.supervise())
            .map_err(|error| EngineError::Start(error.to_string()))?;
        let test_faults = config.test_faults;
        Ok(NodeRuntime { stop, thread: Some(thread), engine, feed, panic_asked, test_faults })
    }

    /// What makes the node's thread panic, with test faults.
    pub fn panic_switch(&self) -> impl Fn() + Send + Sync + use<> {
        let (asked, test_faults) = (self.panic_asked.clone(), self.test_faults);
        move || asked.store(test_faults, Ordering::SeqCst)
    }

    /// Ends the node's thread. Sources have been stopped before.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.engine.stop();
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

/// Generations.
impl NodeThread {
    fn supervise(mut self) {
        loop {
            let why = match std::panic::catch_unwind(AssertUnwindSafe(|| self.run())) {
                Ok(End::Stopped) => break,
                Ok(End::EngineDied) => {
                    self.core.tell_death(self.engine.engine().died_of());
                    "an engine worker died"
                }
                Err(_) => "the node's thread panicked",
            };
            let (deaths, wait) = self.pace.died(self.clock.monotonic_ns());
            error!(why, deaths, ?wait, "the node starts anew");
            self.wait(wait);
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            self.start_over();
        }
        self.core.leave();
        info!("node stopped");
    }

    fn wait(&self, wait: Duration) {
        let until_ns = self.clock.monotonic_ns() + u64::try_from(wait.as_nanos()).unwrap_or(0);
        while !self.stop.load(Ordering::SeqCst)
            && let Some(left_ns) = until_ns.checked_sub(self.clock.monotonic_ns())
            && left_ns > 0
        {
            std::thread::park_timeout(Duration::from_nanos(left_ns).min(WAIT_MAX));
        }
    }

    fn start_over(&mut self) {
        match self.engine.restart() {
            Ok(engine) => self.core.start_over(engine),
            // It is found dead again, and tried again after a longer wait.
            Err(error) => error!(%error, "could not start the node's engine"),
        }
    }
}

impl NodeThread {
    fn run(&mut self) -> End {
        self.wait_for_sources();
        self.core.register(self.statuses());
        let mut replays = false;
        while !self.stop.load(Ordering::SeqCst) {
            if self.engine.is_dead() {
                return End::EngineDied;
            }
            assert!(!self.panic_asked.swap(false, Ordering::SeqCst), "a test asked for it");
            select! {
                recv(self.from_sources) -> message => if let Ok(message) = message {
                    self.on_source(message);
                },
                recv(self.events.queue) -> event => if let Ok(event) = event {
                    self.on_event(event);
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
        End::Stopped
    }

    /// What former engines said is of queries that are no more, and so are the failures of a dead one.
    fn on_event(&mut self, (generation, event): (u64, EngineEvent)) {
        if generation == self.engine.generation() && !self.engine.is_dead() {
            self.core.lost_events(self.events.take_lost(generation));
            self.core.on_event(event);
        }
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
        while let Ok(event) = self.events.queue.try_recv() {
            self.on_event(event);
        }
        while let Ok(order) = self.orders.try_recv() {
            self.on_order(order);
        }
    }

    fn on_source(&mut self, message: FromSource) {
        match message {
            FromSource::Batch(TableBatch { table, batch, waited }) => {
                if waited {
                    self.core.admit_late(table, batch);
                } else {
                    self.core.admit(table, batch);
                }
            }
            FromSource::Flushed { source, tick_ms } => {
                if let Some(state) = self.sources.get_mut(source) {
                    state.flushed_ms = tick_ms;
                }
            }
            FromSource::Counters { source, at_unix_ns, counters, missing, blind } => {
                if let Some(state) = self.sources.get_mut(source) {
                    state.count(&self.ledger, at_unix_ns, counters);
                    state.reason = missing;
                    state.blind = blind;
                }
            }
            FromSource::Running { source, missing, filters } => {
                self.on_running(source, missing);
                self.on_filters(source, &filters, None);
            }
            FromSource::Filters { source, filters, since_unix_ns } => {
                self.on_filters(source, &filters, since_unix_ns);
            }
            FromSource::Ordered { source, id, outcome } => {
                self.core.orders.answered(source, id, outcome);
            }
            FromSource::Down { source, reason, again } => {
                if !again {
                    self.core.orders.source_refused(source);
                }
                if let Some(state) = self.sources.get_mut(source) {
                    state.state = if again { RESTARTING } else { "refused" };
                    state.reason = reason;
                    // It counted until then, at the latest.
                    state.down_unix_ns = state.counted_unix_ns;
                }
            }
        }
    }

    /// What was kept out until now is in its tables from then on only.
    fn on_filters(
        &mut self,
        source: &'static str,
        filters: &CaptureFilters,
        since_unix_ns: Option<i64>,
    ) {
        let Some(state) = self.sources.get_mut(source) else { return };
        state.filters = filters.texts();
        if let Some(since_unix_ns) = since_unix_ns {
            self.core.source_sees_more(&state.tables, since_unix_ns);
        }
    }

    fn on_running(&mut self, source: &'static str, missing: String) {
        let now_unix_ns = self.clock.now_unix_ns();
        let Some(state) = self.sources.get_mut(source) else { return };
        if state.state == RESTARTING {
            // The second that it is short of counts, too.
            state.down_unix_ns = state.down_unix_ns.min(now_unix_ns - DOWN_EVERY_NS);
            state.count_down_time(&self.ledger, now_unix_ns);
        }
        state.state = if missing.is_empty() { "running" } else { "reduced" };
        state.reason = missing;
        state.meter.restart();
        state.counted_unix_ns = now_unix_ns;
        self.core.source_runs(&state.tables, now_unix_ns);
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
        let due_ns = tick_unix_ns(next_ms);
        let left_ns = due_ns.saturating_add(grace_ns).saturating_sub(self.clock.now_unix_ns());
        let left = Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0)).min(WAIT_MAX);
        if left.is_zero() && !(self.names.settled)() { SETTLE_PAUSE } else { left }
    }

    /// Closes the latest tick whose edge has passed, once every running source has flushed it or
    /// the grace is over. Ticks that were missed are not made up: their rows are in this one.
    fn close_due_tick(&mut self) {
        let now_ns = self.clock.now_unix_ns();
        let due_ms = u64::try_from(now_ns / 1_000_000).unwrap_or(0) / self.tick_ms * self.tick_ms;
        if due_ms <= self.last_tick_ms {
            return;
        }
        let edge_ns = tick_unix_ns(due_ms);
        let waiting = self.sources.values().any(|source| NodeThread::is_awaited(source, due_ms));
        let unnamed = !(self.names.settled)();
        if (waiting || unnamed) && now_ns < edge_ns + FLUSH_GRACE_NS {
            return;
        }
        let since_ns = tick_unix_ns(self.last_tick_ms);
        (self.names.note_lost)(&self.ledger, Span::new(since_ns, edge_ns));
        self.last_tick_ms = due_ms;
        for source in self.sources.values_mut() {
            source.count_down_time(&self.ledger, now_ns);
        }
        self.core.close_tick(due_ms);
        if due_ms - self.last_status_ms >= STATUS_EVERY_MS || self.core.orders.take_news() {
            self.last_status_ms = due_ms;
            let lost = self.events.lost_total();
            self.core.send_status(&self.counters(), self.statuses(), lost);
        }
    }

    fn answer_functions(&mut self) {
        let now_ms = self.now_ms();
        if self.core.owes_answers() || now_ms.abs_diff(self.last_answers_ms) >= ANSWERS_EVERY_MS {
            self.last_answers_ms = now_ms;
            self.core.answer(&mut self.agent, now_ms);
        }
    }

    fn counters(&self) -> BTreeMap<String, TableCounters> {
        let mut all: BTreeMap<String, TableCounters> = BTreeMap::new();
        for source in self.sources.values() {
            for (table, counters) in &source.counters {
                all.entry(table.clone()).or_default().add(counters);
            }
        }
        all
    }

    fn statuses(&self) -> Vec<SourceStatus> {
        let own = SourceStatus {
            name: NODE_SOURCE.to_string(),
            state: "running".to_string(),
            reason: String::new(),
            tables: loss_rows::TABLES.iter().map(ToString::to_string).collect(),
            blind: Vec::new(),
            filters: Vec::new(),
        };
        let others = self.sources.iter().map(|(name, source)| SourceStatus {
            name: name.to_string(),
            state: source.state.to_string(),
            reason: source.reason.clone(),
            tables: source.tables.clone(),
            blind: source.blind.clone(),
            filters: source.filters.clone(),
        });
        std::iter::once(own).chain(others).collect()
    }
}

#[cfg(test)]
mod tests;
