//! The node part of every query, without threads or clocks of its own: rows are admitted, ticks are
//! closed, queries are installed (replayed from history, then live) and removed, and what the engine
//! hands out goes on the bus. What it could not take in or hand on is in the node's ledger before the
//! tick is closed. The server drives it from the node's thread, the offline driver from its loop.

mod answers;
mod backfill;
mod changes;
mod config;
mod figures;
mod kept;
mod names;
mod queries;
mod tables;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::warn;
use weir_engine::history::History;
use weir_engine::{Engine, EngineEvent};
use weir_proto::bus::NodeSender;
use weir_proto::message::SourceStatus;
use weir_proto::{Epoch, FromNode, Life, NodeInfo, Place, QueryId, ToNode};
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{Meter, NodeLedger, Reach, Span, Told};
use weir_types::source::TableCounters;
use weir_types::{PackedRow, RecordBatch};

pub use self::config::CoreConfig;
pub use self::kept::KEEP_EVERY_MS;

use self::kept::Keeping;
use self::queries::Query;
use self::tables::EVENT_SAMPLES_MAX;
use crate::admission::{Admission, Admitted, OPEN_BYTES_MAX};
use crate::entities::NodeEntities;
use crate::loss_rows::LossRows;
use crate::orders::Orders;

pub struct NodeCore {
    /// To the sources of this node.
    pub(crate) orders: Orders,
    info: NodeInfo,
    engine: Arc<Engine>,
    history: Option<History>,
    sender: NodeSender,
    life: Life,
    /// As it told it last.
    sources: Vec<SourceStatus>,
    /// By the engine's numbers.
    queries: HashMap<QueryId, Query>,
    next_installation: QueryId,
    epoch_max: Epoch,
    /// The greatest epoch that has ended here: what is not above it is never run again.
    ended_max: Epoch,
    rows_total: BTreeMap<String, u64>,
    admission: Admission,
    /// Rows of the tick that is being closed.
    closing: VecDeque<(String, RecordBatch)>,
    /// What a panic would take along.
    in_hand: Option<(String, u64)>,
    ledger: NodeLedger,
    loss_rows: Option<LossRows>,
    entities: NodeEntities,
    engine_meter: Meter,
    /// Of names that got lost, whatever engine runs.
    names_meter: Meter,
    /// Failures that the bus had no room for.
    untold: BTreeMap<(QueryId, Epoch), String>,
    /// Since when a table's source runs.
    covers_from_unix_ns: BTreeMap<String, i64>,
    /// Admitted since the last tick: event times to sample.
    open_samples: Vec<(String, i64)>,
    started_unix_ns: i64,
    last_tick_ms: u64,
    /// Table functions that are asked for, with what was answered last.
    answers: BTreeMap<String, Option<Vec<PackedRow>>>,
    answers_told: u64,
    /// When all of them were told last.
    answers_whole_ms: u64,
    /// How far behind the tick a row's event time may still be when everything is in order.
    settle_ns: i64,
    keeping: Keeping,
}

impl NodeCore {
    #[must_use]
    pub fn new(config: CoreConfig, engine: Arc<Engine>, sender: NodeSender) -> NodeCore {
        let CoreConfig { info, history_bytes, tables, started_unix_ns, settle_ns, ledger } = config;
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let history = history_bytes.map(|bytes| History::new(bytes, &tables));
        let open_bytes_max = if history.is_some() { OPEN_BYTES_MAX } else { u64::MAX };
        let (ledger, own) = ledger.unzip();
        NodeCore {
            orders: Orders::default(),
            life: Life { incarnation: info.incarnation, generation: 0 },
            info,
            engine,
            history,
            sender,
            sources: Vec::new(),
            queries: HashMap::new(),
            next_installation: 1,
            epoch_max: 0,
            ended_max: 0,
            rows_total: BTreeMap::new(),
            admission: Admission::new(open_bytes_max),
            closing: VecDeque::new(),
            in_hand: None,
            ledger: ledger.unwrap_or_default(),
            loss_rows: own.map(|own| LossRows::new(own, started_unix_ns)),
            entities: NodeEntities::default(),
            engine_meter: Meter::default(),
            names_meter: Meter::default(),
            untold: BTreeMap::new(),
            covers_from_unix_ns: BTreeMap::new(),
            open_samples: Vec::new(),
            started_unix_ns,
            last_tick_ms: 0,
            answers: BTreeMap::new(),
            answers_told: 0,
            answers_whole_ms: 0,
            settle_ns,
            keeping: Keeping::default(),
        }
    }

    /// Tells that the engine has died, and of what.
    pub fn tell_death(&mut self, installation: Option<QueryId>) {
        if let Some(id) = installation {
            self.keeping_killed(id);
        }
        let query = installation.and_then(|id| Some(self.queries.get(&id)?.name));
        self.send(FromNode::EngineDied { query });
    }

    /// Goes on with a new engine, on which nothing is installed. What was admitted is still in the history,
    /// and what waits for its tick still waits; the cluster part installs its queries again once the
    /// node has registered.
    pub fn start_over(&mut self, engine: Arc<Engine>) {
        self.engine = engine;
        self.life.generation += 1;
        self.ended_max = self.epoch_max;
        self.queries.clear();
        self.answers.clear();
        self.open_samples.clear();
        self.engine_meter.restart();
        if let Some((table, rows)) = self.in_hand.take() {
            let at_unix_ns = tick_unix_ns(self.last_tick_ms);
            let span = Span::new(at_unix_ns, at_unix_ns);
            self.ledger.note(&table, "node_restart", Reach::Everybody, span, rows);
        }
        self.keep_on();
    }

    /// Tells of entities that others keep.
    #[must_use]
    pub fn with_entities(self, entities: NodeEntities) -> NodeCore {
        NodeCore { entities, ..self }
    }

    /// Hands orders on to sources; without, nobody does them.
    #[must_use]
    pub fn with_orders(self, orders: Orders) -> NodeCore {
        NodeCore { orders, ..self }
    }

    /// From now on more of the tables is seen than before: answers cover it since then only.
    pub fn source_sees_more(&mut self, tables: &[String], since_unix_ns: i64) {
        for table in tables {
            self.covers_from_unix_ns.insert(table.clone(), since_unix_ns);
        }
        self.keep_seeing_more(tables, since_unix_ns);
        #[expect(clippy::iter_over_hash_type, reason = "each for itself")]
        for query in self.queries.values_mut() {
            if query.tables.iter().any(|table| tables.contains(table)) {
                query.covers_from_unix_ns = query.covers_from_unix_ns.max(since_unix_ns);
            }
        }
    }

    /// The tables' source runs from now on. What one misses that ran before is a loss.
    pub fn source_runs(&mut self, tables: &[String], now_unix_ns: i64) {
        for table in tables {
            self.covers_from_unix_ns.entry(table.clone()).or_insert(now_unix_ns);
        }
    }

    /// The event time from which on nothing of a table was dropped.
    fn covers_from(&self, table: &str) -> i64 {
        let since = self.covers_from_unix_ns.get(table).copied().unwrap_or(self.started_unix_ns);
        let kept = self.history.as_ref().and_then(|history| history.covers_from(table));
        kept.map_or(since, |kept| kept.max(since))
    }

    /// Announces the node on the bus.
    pub fn register(&mut self, sources: Vec<SourceStatus>) {
        self.sources = sources;
        self.introduce();
    }

    fn introduce(&self) {
        let (info, sources) = (self.info.clone(), self.sources.clone());
        self.send(FromNode::Register { info, sources, epoch_max: self.epoch_max });
    }

    fn send(&self, message: FromNode) -> bool {
        match self.sender.send(self.life, message) {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, "could not send to the cluster part");
                false
            }
        }
    }

    pub fn handle(&mut self, message: ToNode, now_ms: u64) {
        match message {
            ToNode::Install { query, epoch, plan, refresh_ms } => {
                self.install((query, epoch), plan, refresh_ms, now_ms);
            }
            ToNode::Remove { query, epoch } => self.remove(query, epoch),
            // Nothing was answered yet, even of what was asked for before: who asks may have lost it.
            ToNode::Answer { functions } => {
                self.answers = functions.into_iter().map(|name| (name, None)).collect();
            }
            ToNode::TellLosses => {
                self.ledger.tell_whole();
                self.tell_losses();
            }
            ToNode::TellEntities => {
                self.entities.tell_whole();
                self.tell_entities();
            }
            ToNode::Introduce => self.introduce(),
            ToNode::Order { id, order } => self.orders.give(id, order),
        }
    }

    /// Takes rows of a table in: they belong to the next tick that closes.
    pub fn admit(&mut self, table: &str, batch: RecordBatch) {
        self.sample(table, &batch);
        self.admit_late(table, batch);
    }

    /// The same for rows that were held back: the time that they took is not measured.
    pub fn admit_late(&mut self, table: &str, batch: RecordBatch) {
        self.admission.take(table, batch);
    }

    /// Everything taken in so far is admitted at `tick_ms`; ticks ascend.
    pub fn close_tick(&mut self, tick_ms: u64) {
        debug_assert!(tick_ms > self.last_tick_ms, "ticks ascend");
        self.admit_open_rows(tick_ms);
        self.last_tick_ms = tick_ms;
        for (table, time_unix_ns) in self.open_samples.drain(..) {
            #[expect(clippy::iter_over_hash_type, reason = "every query gets its own sample")]
            for query in self.queries.values_mut() {
                if query.tables.contains(&table) && query.samples.len() < EVENT_SAMPLES_MAX {
                    query.samples.push_back((tick_ms, time_unix_ns));
                }
            }
        }
        // Before the tick's own progress, so that no answer is out before what it lacks.
        self.tell_failures();
        self.order_wanted();
        self.tell_entities();
        self.tell_losses();
        self.engine.close_tick(tick_ms);
    }

    /// Gives history and engine the rows that belong to the tick, both or neither.
    fn admit_open_rows(&mut self, tick_ms: u64) {
        let at_unix_ns = tick_unix_ns(tick_ms);
        let from_unix_ns = tick_unix_ns(self.last_tick_ms).max(self.started_unix_ns);
        let span = Span::new(from_unix_ns.min(at_unix_ns), at_unix_ns);
        let Admitted { rows, lost } = self.admission.close(at_unix_ns);
        for ((table, reason), count) in lost {
            self.ledger.note(&table, reason, Reach::Everybody, span, count);
        }
        self.closing.extend(rows);
        while let Some((table, batch)) = self.closing.pop_front() {
            let rows = batch.num_rows() as u64;
            *self.rows_total.entry(table.clone()).or_default() += rows;
            self.in_hand = Some((table.clone(), rows));
            if let Some(history) = &mut self.history {
                history.push(&table, tick_ms, batch.clone());
            }
            self.engine.push_rows(&table, batch);
            self.in_hand = None;
        }
        self.note_engine_losses(span);
        let Some(loss_rows) = &mut self.loss_rows else { return };
        for (table, batch) in loss_rows.rows(&self.ledger, at_unix_ns) {
            self.admission.take(table, batch);
        }
    }

    /// History has these rows: a query that begins later finds them there.
    fn note_engine_losses(&mut self, span: Span) {
        for stats in self.engine.table_stats() {
            let table = stats.table.as_str();
            for (reason, total) in [
                ("queue_full", stats.queue_full_rows),
                ("future", stats.future_rows),
                ("no_time", stats.no_time_rows),
            ] {
                let count = self.engine_meter.added(table, reason, total);
                self.ledger.note(table, reason, Reach::Running, span, count);
            }
        }
    }

    fn tell_losses(&self) {
        self.ledger.tell(|Told { sequence, whole, losses }| {
            self.send(FromNode::Losses { sequence, whole, losses })
        });
    }

    /// Sends on what the engine handed out.
    pub fn on_event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Changes { query, tick_ms, changes, .. }
                if self.keeping.is_feeder(query) =>
            {
                self.keep_changes(query, tick_ms, changes);
            }
            EngineEvent::Frontier { query, tick_ms } if self.keeping.is_feeder(query) => {
                self.keep_to(query, tick_ms);
            }
            EngineEvent::Failed { query, message } if self.keeping.is_feeder(query) => {
                self.keeping_failed(query, &message);
            }
            EngineEvent::Changes { query, exchange, tick_ms, changes, .. } => {
                self.send_changes(query, exchange, tick_ms, changes);
            }
            EngineEvent::Frontier { query, tick_ms } => self.send_progress(query, tick_ms),
            EngineEvent::Failed { query, message } => self.end_failed(query, message),
            EngineEvent::Rows { .. } | EngineEvent::Removed { .. } | EngineEvent::Died { .. } => {}
        }
    }

    fn send_progress(&mut self, id: QueryId, tick_ms: u64) {
        let settle_ns = self.settle_ns;
        let losses_told = self.ledger.told_total();
        let entities_told = self.entities.told_total();
        self.send_cuts(id, tick_ms);
        let Some(entry) = self.queries.get_mut(&id) else { return };
        let mut samples = Vec::new();
        while let Some(&(sampled_ms, time_unix_ns)) = entry.samples.front()
            && sampled_ms <= tick_ms
        {
            samples.push(time_unix_ns);
            entry.samples.pop_front();
        }
        let tick_unix_ns = tick_unix_ns(tick_ms);
        let progress = FromNode::Progress {
            query: entry.name,
            place: Place { epoch: entry.epoch, sequence: entry.sequence },
            tick_ms,
            complete_to_unix_ns: tick_unix_ns.saturating_sub(settle_ns),
            covers_from_unix_ns: entry.covers_from_unix_ns,
            event_samples_unix_ns: samples,
            losses_told,
            entities_told,
        };
        match self.sender.send(self.life, progress) {
            Ok(()) => entry.sequence += 1,
            // The next one says what this one does, and more.
            Err(error) => warn!(%error, "could not send to the cluster part"),
        }
    }

    /// Before the progress of a tick what its values lack.
    fn send_cuts(&mut self, id: QueryId, tick_ms: u64) {
        let Some(entry) = self.queries.get_mut(&id) else { return };
        let cuts = self.engine.cuts(id);
        let new = cuts.since(&entry.cuts_told);
        if new.is_empty() {
            return;
        }
        let told = new.iter().map(|(reason, count)| (reason.to_string(), count)).collect();
        let place = Place { epoch: entry.epoch, sequence: entry.sequence };
        let message = FromNode::Cuts { query: entry.name, place, tick_ms, cuts: told };
        match self.sender.send(self.life, message) {
            Ok(()) => {
                entry.sequence += 1;
                entry.cuts_told = cuts;
            }
            // Told with the next tick.
            Err(error) => warn!(%error, "could not send to the cluster part"),
        }
    }

    /// Sends the node's counters. `engine_events_lost`: since its start.
    pub fn send_status(
        &mut self,
        counters: &BTreeMap<String, TableCounters>,
        sources: Vec<SourceStatus>,
        engine_events_lost: u64,
    ) {
        let tables = self.table_statuses(counters);
        let refused_total = vec![
            ("bus".to_string(), self.sender.stats().refused_total.load(Ordering::Relaxed)),
            ("engine_events".to_string(), engine_events_lost),
            ("orders".to_string(), self.orders.refused_total()),
        ];
        self.sources.clone_from(&sources);
        let mut running: Vec<(QueryId, Epoch)> =
            self.queries.values().map(|query| (query.name, query.epoch)).collect();
        running.sort_unstable();
        let (figures, figures_left_out) = self.figures();
        self.send(FromNode::Status {
            tick_ms: self.last_tick_ms,
            tables,
            sources,
            refused_total,
            running,
            functions: self.answers.keys().cloned().collect(),
            epoch_max: self.epoch_max,
            losses_told: self.ledger.told_total(),
            entities_told: self.entities.told_total(),
            ordered: self.orders.outcomes(),
            figures,
            figures_left_out,
        });
    }

    pub fn leave(&self) {
        self.send(FromNode::Leave);
    }
}
