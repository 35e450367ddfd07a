//! The node part of every query, without threads or clocks of its own: rows are admitted, ticks are
//! closed, queries are installed (replayed from history, then live) and removed, and what the engine
//! hands out goes on the bus. What it could not take in or hand on is in the node's ledger before the
//! tick is closed. The server drives it from the node's thread, the offline driver from its loop.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{debug, warn};
use weir_engine::history::{Cursor, History};
use weir_engine::{Cuts, Engine, EngineEvent, Install, Part};
use weir_proto::bus::NodeSender;
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{Epoch, FromNode, Life, NodeInfo, Place, QueryId, ToNode};
use weir_types::acc::Acc;
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{self, METADATA, Meter, NodeLedger, Reach, Span};
use weir_types::metadata::Wanted;
use weir_types::plan::StartBound;
use weir_types::source::{SourceOrder, TableCounters};
use weir_types::split::{Change, NodePlan};
use weir_types::{PackedRow, RecordBatch, Upid};

use crate::admission::{Admission, Admitted, OPEN_BYTES_MAX};
use crate::agent::Agent;
use crate::entities::{NodeEntities, Told};
use crate::loss_rows::LossRows;
use crate::orders::Orders;

/// History rows that are replayed to new queries between two ticks, so that others keep theirs.
const REPLAY_ROWS_PER_SLICE: usize = 64 * BATCH_ROWS_MAX;
/// And their bytes for one query at a time: a fraction of what all may have (the engine's `replayed_bytes_max`), so
/// that they take turns.
const REPLAY_BYTES_PER_SLICE: u64 = 8 << 20;
/// What comes while a query is being replayed to is history as well. It goes on with that so many times, each
/// shorter than the last if it can keep up at all; then it goes live.
const REPLAY_EXTENSIONS_MAX: u32 = 8;
/// Changes that go into one message.
const CHANGES_PER_MESSAGE: usize = 16_384;
/// And their bytes, well below what a message may have.
const CHANGES_BYTES_PER_MESSAGE: usize = 16 << 20;
/// All answers of table functions are told again so often.
const ANSWERS_WHOLE_EVERY_MS: u64 = 10_000;
/// Event times sampled per refresh, for measuring freshness.
const EVENT_SAMPLES_PER_REFRESH: usize = 16;
/// Samples of not yet closed ticks.
const EVENT_SAMPLES_MAX: usize = 1_024;

/// A query as the node sees it. To its engine it has a number of its own, another one for each
/// installation: so nothing that an engine says of a former one is taken for the present one's.
struct Query {
    /// What the cluster part calls it.
    name: QueryId,
    epoch: Epoch,
    tables: Vec<String>,
    /// Where the answer begins: what history covered when it was installed.
    covers_from_unix_ns: i64,
    /// What is still to be replayed; `None` once live.
    replay: Option<Replay>,
    /// Of the next update or progress.
    sequence: u64,
    samples: VecDeque<(u64, i64)>,
    /// What was told of values that functions left out.
    cuts_told: Cuts,
}

/// A back-fill under way.
struct Replay {
    /// Of each table that the query reads.
    cursors: Vec<(String, Cursor)>,
    extensions: u32,
}

impl Replay {
    fn is_done(&self) -> bool {
        self.cursors.iter().all(|(_, cursor)| cursor.is_done())
    }
}

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
}

impl NodeCore {
    /// `history`: `None` offline, where every query is installed before the first row.
    #[must_use]
    pub fn new(
        info: NodeInfo,
        engine: Arc<Engine>,
        history: Option<History>,
        sender: NodeSender,
        started_unix_ns: i64,
        settle_ns: i64,
    ) -> NodeCore {
        let open_bytes_max = if history.is_some() { OPEN_BYTES_MAX } else { u64::MAX };
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
            ledger: NodeLedger::default(),
            loss_rows: None,
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
        }
    }

    /// Tells that the engine has died, and of what.
    pub fn tell_death(&self, installation: Option<QueryId>) {
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
    }

    /// Writes into a ledger that others write into, too, and makes rows of it. `own`: the process
    /// that the rows are about.
    #[must_use]
    pub fn with_ledger(self, ledger: NodeLedger, own: Upid) -> NodeCore {
        let loss_rows = Some(LossRows::new(own, self.started_unix_ns));
        NodeCore { ledger, loss_rows, ..self }
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

    /// What functions of this engine asked for and did not know is the sources' to find out.
    fn order_wanted(&mut self) {
        let Wanted { addresses, processes } = self.engine.take_wanted();
        // As many as an order may name.
        if !addresses.is_empty() {
            self.orders.give_unasked(SourceOrder::Resolve { addresses });
        }
        if !processes.is_empty() {
            self.orders.give_unasked(SourceOrder::ListLibraries { processes });
        }
        let total = self.engine.wanted_left_out();
        let left_out = self.engine_meter.added(METADATA, "names_full", total);
        self.note_names("names_full", left_out);
    }

    /// Names that got lost in the tick that is open.
    fn note_names(&self, reason: &str, count: u64) {
        let at_unix_ns = tick_unix_ns(self.last_tick_ms);
        self.ledger.note(
            METADATA,
            reason,
            Reach::Everybody,
            Span::new(at_unix_ns, at_unix_ns),
            count,
        );
    }

    /// Ends what runs of a query up to an epoch; an order for it that is still on its way comes too late.
    fn remove(&mut self, name: QueryId, epoch: Epoch) {
        self.ended_max = self.ended_max.max(epoch);
        let ends = |query: &Query| query.name == name && query.epoch <= epoch;
        let over = self.queries.iter().find(|(_, query)| ends(query)).map(|(&id, _)| id);
        if let Some(id) = over {
            self.queries.remove(&id);
            self.engine.remove(id);
        }
    }

    /// True if a table function was asked for and has not been answered.
    #[must_use]
    pub fn owes_answers(&self) -> bool {
        self.answers.values().any(Option::is_none)
    }

    /// Sends what changed of the table functions that are asked for; now and then all of it, since
    /// what was sent may have been lost.
    pub fn answer(&mut self, agent: &mut Agent, now_ms: u64) {
        let mut answers = std::mem::take(&mut self.answers);
        if now_ms.abs_diff(self.answers_whole_ms) >= ANSWERS_WHOLE_EVERY_MS {
            self.answers_whole_ms = now_ms;
            answers.values_mut().for_each(|last| *last = None);
        }
        let history = self.history.as_ref().map(History::stats).unwrap_or_default();
        for (function, last) in &mut answers {
            let rows = agent.rows(&self.info, function, &history);
            if last.as_ref() == Some(&rows) {
                continue;
            }
            let sequence = self.answers_told;
            let (function, told) = (function.clone(), rows.clone());
            if self.send(FromNode::Answer { sequence, function, rows: told }) {
                self.answers_told += 1;
                *last = Some(rows);
            }
        }
        self.answers = answers;
    }

    fn install(
        &mut self,
        (name, epoch): (QueryId, Epoch),
        plan: NodePlan,
        refresh_ms: u64,
        now_ms: u64,
    ) {
        self.epoch_max = self.epoch_max.max(epoch);
        let same = self.queries.iter().find(|(_, query)| query.name == name);
        let same = same.map(|(&id, query)| (id, query.epoch));
        // A repeat, or overtaken by its own end.
        if epoch <= self.ended_max || same.is_some_and(|(_, running)| epoch <= running) {
            return;
        }
        if let Some((_, former)) = same {
            self.remove(name, former);
        }
        let query = self.next_installation;
        self.next_installation += 1;
        let tables = plan.scanned_tables();
        let start_tick_ms = now_ms / refresh_ms * refresh_ms;
        let mut cursors = Vec::new();
        let mut covers_from_unix_ns = self.started_unix_ns;
        if let Some(history) = &self.history {
            for table in &tables {
                let from_unix_ns = replay_from(&plan, table, now_ms);
                cursors.push((table.clone(), history.cursor(table, from_unix_ns)));
                covers_from_unix_ns = covers_from_unix_ns.max(self.covers_from(table));
            }
        }
        let replay = Replay { cursors, extensions: 0 };
        let is_live = replay.is_done();
        let install = Install::new(query, Part::Node(Arc::new(plan)), refresh_ms, start_tick_ms);
        self.engine.install(Install { is_live, ..install });
        if !is_live {
            self.engine.hold(query, true);
        }
        debug!(query, is_live, "query installed");
        self.queries.insert(
            query,
            Query {
                name,
                epoch,
                tables,
                covers_from_unix_ns,
                replay: (!is_live).then_some(replay),
                sequence: 0,
                samples: VecDeque::new(),
                cuts_told: Cuts::default(),
            },
        );
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

    fn sample(&mut self, table: &str, batch: &RecordBatch) {
        use weir_types::batch::value_at;
        let Some(time) = batch.column_by_name("time_") else { return };
        let room = EVENT_SAMPLES_PER_REFRESH.saturating_sub(self.open_samples.len());
        let step = (batch.num_rows() / room.max(1)).max(1);
        for row in (0..batch.num_rows()).step_by(step).take(room) {
            if let Some(weir_types::Value::Time64Ns(at)) =
                value_at(time, weir_types::DataType::Time64Ns, row)
            {
                self.open_samples.push((table.to_string(), at));
            }
        }
    }

    /// Replays a slice of history to queries that are not yet live. True if some is left.
    pub fn replay_slice(&mut self) -> bool {
        let Some(history) = &self.history else { return false };
        let mut budget_rows = REPLAY_ROWS_PER_SLICE;
        let mut left = false;
        #[expect(clippy::iter_over_hash_type, reason = "the order of back-fills does not matter")]
        for (&id, query) in &mut self.queries {
            let Some(replay) = &mut query.replay else { continue };
            for (table, cursor) in &mut replay.cursors {
                while budget_rows > 0 && !cursor.is_done() && self.engine.takes_replay(id) {
                    let rows_max = budget_rows.min(BATCH_ROWS_MAX);
                    let slice = history.next_slice(cursor, rows_max, REPLAY_BYTES_PER_SLICE);
                    let rows: usize = slice.iter().map(|(_, batch)| batch.num_rows()).sum();
                    budget_rows = budget_rows.saturating_sub(rows);
                    self.engine.replay(id, table, slice);
                }
                if std::mem::take(&mut cursor.missed_batches) > 0 {
                    let covered = history.covers_from(table).unwrap_or(i64::MIN);
                    query.covers_from_unix_ns = query.covers_from_unix_ns.max(covered);
                }
            }
            if replay.is_done() && replay.extensions < REPLAY_EXTENSIONS_MAX {
                replay.extensions += 1;
                replay.cursors.iter_mut().for_each(|(_, cursor)| history.extend(cursor));
            }
            if replay.is_done() {
                query.replay = None;
                self.engine.go_live(id);
                self.engine.hold(id, false);
            } else {
                left = true;
            }
        }
        left
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
        self.ledger.tell(|ledger::Told { sequence, whole, losses }| {
            self.send(FromNode::Losses { sequence, whole, losses })
        });
    }

    /// What rows of the tick are called is known before its progress.
    fn tell_entities(&mut self) {
        self.entities.tell(&mut |told| {
            let Told { sequence, part, machine, changes } = told;
            self.send(FromNode::Entities { sequence, part, machine, changes })
        });
        let total = self.entities.left_out_total();
        let too_large = self.names_meter.added(METADATA, "names_too_large", total);
        self.note_names("names_too_large", too_large);
    }

    /// Whoever reads a query that failed must hear of it, however full the bus was.
    fn tell_failures(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        for (query, message) in untold {
            self.tell_failure(query, message);
        }
    }

    fn tell_failure(&mut self, (query, epoch): (QueryId, Epoch), message: String) {
        if !self.send(FromNode::Failed { query, epoch, message: message.clone() }) {
            self.untold.insert((query, epoch), message);
        }
    }

    /// Ends queries that miss an event of the engine: what follows would be wrong.
    pub fn lost_events(&mut self, queries: impl IntoIterator<Item = QueryId>) {
        for id in queries {
            self.fail(id, "the node could not keep up with the query's changes");
        }
    }

    /// Sends on what the engine handed out.
    pub fn on_event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Changes { query, exchange, tick_ms, changes, .. } => {
                self.send_changes(query, exchange, tick_ms, changes);
            }
            EngineEvent::Frontier { query, tick_ms } => self.send_progress(query, tick_ms),
            EngineEvent::Failed { query, message } => self.end_failed(query, message),
            EngineEvent::Rows { .. } | EngineEvent::Removed { .. } | EngineEvent::Died { .. } => {}
        }
    }

    fn send_changes(&mut self, id: QueryId, exchange: u32, tick_ms: u64, changes: Vec<Change>) {
        let mut rest = changes;
        while !rest.is_empty() {
            let tail = rest.split_off(in_one_message(&rest));
            let Some(entry) = self.queries.get_mut(&id) else { return };
            let place = Place { epoch: entry.epoch, sequence: entry.sequence };
            entry.sequence += 1;
            let query = entry.name;
            let update = FromNode::Update { query, place, exchange, tick_ms, changes: rest };
            if let Err(error) = self.sender.send(self.life, update) {
                self.fail(id, &format!("the node could not send its changes: {error}"));
                return;
            }
            rest = tail;
        }
    }

    /// A view with a hole would be wrong without a word: rather end it.
    fn fail(&mut self, id: QueryId, message: &str) {
        self.engine.remove(id);
        self.end_failed(id, message.to_string());
    }

    fn end_failed(&mut self, id: QueryId, message: String) {
        if let Some(entry) = self.queries.remove(&id) {
            self.ended_max = self.ended_max.max(entry.epoch);
            self.tell_failure((entry.name, entry.epoch), message);
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
        let losses = self.ledger.totals();
        let named = self.rows_total.keys().chain(counters.keys()).chain(losses.keys());
        let names: BTreeSet<&String> = named.collect();
        let held: BTreeMap<String, u64> =
            self.history.as_ref().map_or_else(BTreeMap::new, |history| {
                history.stats().into_iter().map(|stats| (stats.table, stats.bytes)).collect()
            });
        let tables = names
            .into_iter()
            .map(|table| {
                let counter = counters.get(table).cloned().unwrap_or_default();
                // Reasons are told before anything is lost for them.
                let mut lost_total: BTreeMap<String, u64> =
                    counter.lost_total.into_keys().map(|reason| (reason, 0)).collect();
                lost_total.extend(losses.get(table).cloned().unwrap_or_default());
                TableStatus {
                    rows_total: self.rows_total.get(table).copied().unwrap_or(0),
                    history_bytes: held.get(table).copied().unwrap_or(0),
                    covers_from_unix_ns: self.covers_from(table),
                    lost_total: lost_total.into_iter().collect(),
                    unanswered_total: counter.unanswered_total,
                    unasked_total: counter.unasked_total,
                    metadata_held_count: counter.metadata_held_count,
                    table: table.clone(),
                }
            })
            .collect();
        let refused_total = vec![
            ("bus".to_string(), self.sender.stats().refused_total.load(Ordering::Relaxed)),
            ("engine_events".to_string(), engine_events_lost),
            ("orders".to_string(), self.orders.refused_total()),
        ];
        self.sources.clone_from(&sources);
        let mut running: Vec<(QueryId, Epoch)> =
            self.queries.values().map(|query| (query.name, query.epoch)).collect();
        running.sort_unstable();
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
        });
    }

    pub fn leave(&self) {
        self.send(FromNode::Leave);
    }
}

/// How many of the changes go into the next message; at least one.
fn in_one_message(changes: &[Change]) -> usize {
    let mut bytes = 0;
    let fits = |change: &&Change| {
        bytes += match change {
            Change::Row { row, .. } => row.0.len(),
            Change::Partial { key, accs, .. } => {
                key.0.len() + accs.iter().map(Acc::state_bytes).sum::<usize>()
            }
        };
        bytes <= CHANGES_BYTES_PER_MESSAGE
    };
    changes.iter().take(CHANGES_PER_MESSAGE).take_while(fits).count().max(1)
}

/// The earliest event time that a scan of the table can still hold.
fn replay_from(plan: &NodePlan, table: &str, now_ms: u64) -> i64 {
    let now_unix_ns = tick_unix_ns(now_ms);
    let scans =
        plan.scans().filter(|scan| scan.table == table).map(|scan| match scan.window.start {
            StartBound::Beginning => i64::MIN,
            StartBound::Absolute { start_unix_ns } => start_unix_ns,
            StartBound::Relative { .. } => {
                scan.window.sliding(None).map_or(i64::MIN, |sliding| sliding.start_at(now_unix_ns))
            }
        });
    scans.min().unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use weir_types::PackedRow;

    use super::*;

    /// Messages are bounded in bytes too: catches rows with large bodies, sixteen thousand of which
    /// are more than a message may have. A single one goes alone, however large.
    #[test]
    fn large_rows_are_split() {
        let rows = |count: usize, bytes: usize| -> Vec<Change> {
            let row = PackedRow(vec![0; bytes]);
            (0..count).map(|_| Change::Row { row: row.clone(), pane: 0, diff: 1 }).collect()
        };
        assert_eq!(in_one_message(&rows(20_000, 8)), CHANGES_PER_MESSAGE);
        assert_eq!(in_one_message(&rows(100, 1 << 20)), 16);
        assert_eq!(in_one_message(&rows(2, 17 << 20)), 1);
    }
}
