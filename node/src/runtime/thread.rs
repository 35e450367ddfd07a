//! The loop of the node's thread, and its generations: what it waits for, when a tick is closed, and how it
//! begins anew.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use tracing::{error, info};
use weir_actors::Part;
use weir_engine::{EngineEvent, Generations, RestartPace};
use weir_proto::ToNode;
use weir_proto::bus::BusError;
use weir_proto::message::SourceStatus;
use weir_types::Clock;
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{NodeLedger, Span};
use weir_types::source::{CaptureFilters, TableBatch, TableCounters};

use super::source_state::{SourceState, State};
use crate::agent::Agent;
use crate::core::NodeCore;
use crate::events::Events;
use crate::host::{Down, FromSource};
use crate::loss_rows;
use crate::metadata::Names;

/// A tick waits this long past its edge for a source that has not flushed yet; its rows then belong
/// to a later tick.
pub(super) const FLUSH_GRACE_NS: i64 = 60_000_000;
/// How often it looks whether names that a tick waits for have come.
const SETTLE_PAUSE: Duration = Duration::from_micros(500);
/// The thread looks at the clock at least so often; what happens wakes it in between.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Pause between two slices of a back-fill while nothing else happens.
const REPLAY_PAUSE: Duration = Duration::from_millis(5);
const STATUS_EVERY_MS: u64 = 500;
/// The source of what the node says of itself.
const NODE_SOURCE: &str = "node";
/// How often table functions that somebody reads are answered anew.
const ANSWERS_EVERY_MS: u64 = 1_000;

/// Why the thread's loop ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    EngineDied,
}

pub(super) struct NodeThread {
    pub(super) core: NodeCore,
    pub(super) engine: Arc<Generations>,
    /// The thread and the engine, as others see them.
    pub(super) part: Part,
    pub(super) engine_part: Part,
    pub(super) pace: RestartPace,
    /// With test faults: the next turn of the loop panics.
    pub(super) panic_asked: Arc<AtomicBool>,
    pub(super) orders: Receiver<Result<ToNode, BusError>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tick_ms: u64,
    pub(super) from_sources: Receiver<FromSource>,
    pub(super) events: Events,
    pub(super) ledger: NodeLedger,
    pub(super) sources: BTreeMap<Arc<str>, SourceState>,
    pub(super) last_tick_ms: u64,
    pub(super) last_status_ms: u64,
    pub(super) agent: Agent,
    pub(super) bus_status: Option<super::TellStatus>,
    pub(super) names: Names,
    pub(super) last_answers_ms: u64,
}

/// Generations.
impl NodeThread {
    pub(super) fn supervise(mut self) {
        loop {
            self.part.running();
            let why = match std::panic::catch_unwind(AssertUnwindSafe(|| self.run())) {
                Ok(End::Stopped) => break,
                Ok(End::EngineDied) => {
                    self.core.tell_death(self.engine.engine().died_of());
                    "an engine worker died"
                }
                Err(_) => "the node's thread panicked",
            };
            let (deaths, wait) = self.pace.died(self.clock.monotonic_ns());
            match self.engine.is_dead() {
                true => self.engine_part.died(why, wait),
                false => self.part.died(why, wait),
            }
            error!(why, deaths, ?wait, "the node starts anew");
            self.wait(wait);
            if self.part.is_stop_requested() {
                break;
            }
            self.start_over();
        }
        self.core.leave();
        self.core.close_store();
        info!("node stopped");
        self.part.stopped();
    }

    fn wait(&self, wait: Duration) {
        let until_ns = self.clock.monotonic_ns() + u64::try_from(wait.as_nanos()).unwrap_or(0);
        while !self.part.is_stop_requested()
            && let Some(left_ns) = until_ns.checked_sub(self.clock.monotonic_ns())
            && left_ns > 0
        {
            std::thread::park_timeout(Duration::from_nanos(left_ns).min(WAIT_MAX));
        }
    }

    fn start_over(&mut self) {
        match self.engine.restart() {
            Ok(engine) => {
                self.engine_part.running();
                self.core.start_over(engine);
            }
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
        while !self.part.is_stop_requested() {
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
        while self.sources.values().any(|source| source.state == State::Starting)
            && !self.part.is_stop_requested()
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
                    self.core.admit_late(&table, batch);
                } else {
                    self.core.admit(&table, batch);
                }
            }
            FromSource::Flushed { source, tick_ms } => {
                if let Some(state) = self.sources.get_mut(&source) {
                    state.flushed_ms = tick_ms;
                }
            }
            FromSource::Counters { source, at_unix_ns, counters, missing, blind, counts } => {
                if let Some(state) = self.sources.get_mut(&source) {
                    state.count(&self.ledger, at_unix_ns, counters);
                    state.reason = missing;
                    state.blind = blind;
                    state.counts = counts;
                }
            }
            FromSource::Running { source, missing, filters } => {
                let now_unix_ns = self.clock.now_unix_ns();
                if let Some(state) = self.sources.get_mut(&source) {
                    state.runs(&self.ledger, missing, now_unix_ns);
                    self.core.source_runs(&state.tables, now_unix_ns);
                }
                self.on_filters(&source, &filters, None);
            }
            FromSource::Filters { source, filters, since_unix_ns } => {
                self.on_filters(&source, &filters, since_unix_ns);
            }
            FromSource::Ordered { source, id, outcome } => {
                self.core.orders.answered(&source, id, outcome);
            }
            FromSource::Down { source, reason, how } => {
                if how != Down::Restarts {
                    self.core.orders.source_gone(&source);
                }
                if let Some(state) = self.sources.get_mut(&source) {
                    state.is_down(reason, how);
                }
            }
        }
    }

    /// What was kept out until now is in its tables from then on only.
    fn on_filters(&mut self, source: &str, filters: &CaptureFilters, since_unix_ns: Option<i64>) {
        let Some(state) = self.sources.get_mut(source) else { return };
        state.filters = filters.texts();
        if let Some(since_unix_ns) = since_unix_ns {
            self.core.source_sees_more(&state.tables, since_unix_ns);
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

    /// The longest wait that misses no tick: sources that flush wake the thread themselves.
    fn until_due(&self) -> Duration {
        let next_ms = self.last_tick_ms + self.tick_ms;
        let awaited = self.sources.values().any(|source| source.is_awaited(next_ms));
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
        let waiting = self.sources.values().any(|source| source.is_awaited(due_ms));
        let unnamed = !(self.names.settled)();
        if (waiting || unnamed) && now_ns < edge_ns + FLUSH_GRACE_NS {
            return;
        }
        let since_ns = tick_unix_ns(self.last_tick_ms);
        (self.names.note_lost)(&self.ledger, Span::new(since_ns, edge_ns));
        self.last_tick_ms = due_ms;
        for source in self.sources.values_mut() {
            source.count_down_time(&self.ledger, now_ns);
            source.closed(due_ms);
        }
        self.core.close_tick(due_ms);
        let has_news = self.core.orders.take_news();
        if has_news || due_ms - self.last_status_ms >= STATUS_EVERY_MS {
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
            tables: loss_rows::TABLES.iter().map(ToString::to_string).collect(),
            ..SourceStatus::default()
        };
        let others = self.sources.iter().map(|(name, source)| source.status(name));
        let store = self.core.keeper().map(|keeper| keeper.stats().status());
        let bus = self.bus_status.as_ref().map(|tell| tell());
        std::iter::once(own).chain(store).chain(bus).chain(others).collect()
    }
}
