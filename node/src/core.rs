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
use weir_proto::{FromNode, NodeInfo, QueryId, ToNode};
use weir_types::acc::Acc;
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{Meter, NodeLedger, Reach, Span, Told};
use weir_types::plan::StartBound;
use weir_types::source::TableCounters;
use weir_types::split::{Change, NodePlan};
use weir_types::{PackedRow, RecordBatch, Upid};

use crate::admission::{Admission, Admitted, OPEN_BYTES_MAX};
use crate::agent::Agent;
use crate::loss_rows::LossRows;

/// History rows that are replayed to new queries between two ticks, so that others keep theirs.
const REPLAY_ROWS_PER_SLICE: usize = 64 * BATCH_ROWS_MAX;
/// No more is replayed while this much waits to be seen.
const REPLAY_BACKLOG_BYTES_MAX: u64 = 64 << 20;
/// Changes that go into one message.
const CHANGES_PER_MESSAGE: usize = 16_384;
/// And their bytes, well below what a message may have.
const CHANGES_BYTES_PER_MESSAGE: usize = 16 << 20;
/// Event times sampled per refresh, for measuring freshness.
const EVENT_SAMPLES_PER_REFRESH: usize = 16;
/// Samples of not yet closed ticks.
const EVENT_SAMPLES_MAX: usize = 1_024;

/// A query as the node sees it.
struct Query {
    tables: Vec<String>,
    /// Where the answer begins: what history covered when it was installed.
    covers_from_unix_ns: i64,
    /// What is still to be replayed of each table; `None` once live.
    replay: Option<VecDeque<(String, Cursor)>>,
    sequence: u64,
    samples: VecDeque<(u64, i64)>,
    /// What was told of values that functions left out.
    cuts_told: Cuts,
}

pub struct NodeCore {
    info: NodeInfo,
    engine: Arc<Engine>,
    history: Option<History>,
    sender: NodeSender,
    queries: HashMap<QueryId, Query>,
    rows_total: BTreeMap<String, u64>,
    admission: Admission,
    /// Rows of the tick that is being closed.
    closing: VecDeque<(String, RecordBatch)>,
    /// What a panic would take along.
    in_hand: Option<(String, u64)>,
    ledger: NodeLedger,
    loss_rows: Option<LossRows>,
    engine_meter: Meter,
    /// Failures that the bus had no room for.
    untold: BTreeMap<QueryId, String>,
    /// Since when a table's source runs.
    covers_from_unix_ns: BTreeMap<String, i64>,
    /// Admitted since the last tick: event times to sample.
    open_samples: Vec<(String, i64)>,
    started_unix_ns: i64,
    last_tick_ms: u64,
    /// Table functions that are asked for, with what was answered last.
    answers: BTreeMap<String, Option<Vec<PackedRow>>>,
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
            info,
            engine,
            history,
            sender,
            queries: HashMap::new(),
            rows_total: BTreeMap::new(),
            admission: Admission::new(open_bytes_max),
            closing: VecDeque::new(),
            in_hand: None,
            ledger: NodeLedger::default(),
            loss_rows: None,
            engine_meter: Meter::default(),
            untold: BTreeMap::new(),
            covers_from_unix_ns: BTreeMap::new(),
            open_samples: Vec::new(),
            started_unix_ns,
            last_tick_ms: 0,
            answers: BTreeMap::new(),
            settle_ns,
        }
    }

    /// Tells that the engine has died, and of what.
    pub fn tell_death(&self, query: Option<QueryId>) {
        self.send(&FromNode::EngineDied { query });
    }

    /// Goes on with a new engine, on which nothing is installed. What was admitted is still in the history,
    /// and what waits for its tick still waits; the cluster part installs its queries again once the
    /// node has registered.
    pub fn start_over(&mut self, engine: Arc<Engine>) {
        self.engine = engine;
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
    pub fn register(&self, sources: Vec<SourceStatus>) {
        self.send(&FromNode::Register { info: self.info.clone(), sources });
    }

    fn send(&self, message: &FromNode) -> bool {
        match self.sender.send(message) {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, "could not send to the cluster part");
                false
            }
        }
    }

    pub fn handle(&mut self, message: ToNode, now_ms: u64) {
        match message {
            ToNode::Install { query, plan, refresh_ms } => {
                self.install(query, plan, refresh_ms, now_ms);
            }
            ToNode::Remove { query } => {
                self.queries.remove(&query);
                self.engine.remove(query);
            }
            // Nothing was answered yet, even of what was asked for before: who asks may have lost it.
            ToNode::Answer { functions } => {
                self.answers = functions.into_iter().map(|name| (name, None)).collect();
            }
            ToNode::TellLosses => {
                self.ledger.tell_whole();
                self.tell_losses();
            }
        }
    }

    /// True if a table function was asked for and has not been answered.
    #[must_use]
    pub fn owes_answers(&self) -> bool {
        self.answers.values().any(Option::is_none)
    }

    /// Sends what changed of the table functions that are asked for.
    pub fn answer(&mut self, agent: &mut Agent) {
        let mut answers = std::mem::take(&mut self.answers);
        let history = self.history.as_ref().map(History::stats).unwrap_or_default();
        for (function, last) in &mut answers {
            let rows = agent.rows(&self.info, function, &history);
            if last.as_ref() == Some(&rows) {
                continue;
            }
            let message = FromNode::Answer { function: function.clone(), rows: rows.clone() };
            if self.send(&message) {
                *last = Some(rows);
            }
        }
        self.answers = answers;
    }

    fn install(&mut self, query: QueryId, plan: NodePlan, refresh_ms: u64, now_ms: u64) {
        let tables = plan.scanned_tables();
        let start_tick_ms = now_ms / refresh_ms * refresh_ms;
        let mut replay = VecDeque::new();
        let mut covers_from_unix_ns = self.started_unix_ns;
        if let Some(history) = &self.history {
            for table in &tables {
                let from_unix_ns = replay_from(&plan, table, now_ms);
                let cursor = history.cursor(table, from_unix_ns);
                if !cursor.is_done() {
                    replay.push_back((table.clone(), cursor));
                }
                covers_from_unix_ns = covers_from_unix_ns.max(self.covers_from(table));
            }
        }
        let live = replay.is_empty();
        let part = Part::Node(Arc::new(plan));
        self.engine.install(Install { query, part, refresh_ms, start_tick_ms });
        if !live {
            self.engine.hold(query, true);
        }
        debug!(query, tables = replay.len(), "query installed");
        self.queries.insert(
            query,
            Query {
                tables,
                covers_from_unix_ns,
                replay: (!live).then_some(replay),
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
            let Some(cursors) = &mut query.replay else { continue };
            while budget_rows > 0 && self.engine.waiting_bytes(id) < REPLAY_BACKLOG_BYTES_MAX {
                let Some((table, cursor)) = cursors.front_mut() else { break };
                let slice = history.next_slice(cursor, budget_rows.min(BATCH_ROWS_MAX));
                if slice.is_empty() {
                    if cursor.missed_batches > 0 {
                        let covered = history.covers_from(table).unwrap_or(i64::MIN);
                        query.covers_from_unix_ns = query.covers_from_unix_ns.max(covered);
                    }
                    cursors.pop_front();
                    continue;
                }
                let rows: usize = slice.iter().map(RecordBatch::num_rows).sum();
                budget_rows = budget_rows.saturating_sub(rows);
                self.engine.replay(id, table, slice);
            }
            if cursors.is_empty() {
                query.replay = None;
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
                history.push(&table, batch.clone());
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
            self.send(&FromNode::Losses { sequence, whole, losses })
        });
    }

    /// Whoever reads a query that failed must hear of it, however full the bus was.
    fn tell_failures(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        for (query, message) in untold {
            self.tell_failure(query, message);
        }
    }

    fn tell_failure(&mut self, query: QueryId, message: String) {
        let failed = FromNode::Failed { query, message: message.clone() };
        if !self.send(&failed) {
            self.untold.insert(query, message);
        }
    }

    /// Ends queries that miss an event of the engine: what follows would be wrong.
    pub fn lost_events(&mut self, queries: impl IntoIterator<Item = QueryId>) {
        for query in queries {
            if self.queries.contains_key(&query) {
                self.fail(query, "the node could not keep up with the query's changes");
            }
        }
    }

    /// Sends on what the engine handed out.
    pub fn on_event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Changes { query, exchange, tick_ms, changes, .. } => {
                self.send_changes(query, exchange, tick_ms, changes);
            }
            EngineEvent::Frontier { query, tick_ms } => self.send_progress(query, tick_ms),
            EngineEvent::Failed { query, message } => {
                self.queries.remove(&query);
                self.tell_failure(query, message);
            }
            EngineEvent::Rows { .. } | EngineEvent::Removed { .. } | EngineEvent::Died { .. } => {}
        }
    }

    fn send_changes(&mut self, query: QueryId, exchange: u32, tick_ms: u64, changes: Vec<Change>) {
        let mut rest = changes;
        while !rest.is_empty() {
            let tail = rest.split_off(in_one_message(&rest));
            let Some(entry) = self.queries.get_mut(&query) else { return };
            let sequence = entry.sequence;
            entry.sequence += 1;
            let update = FromNode::Update { query, exchange, sequence, tick_ms, changes: rest };
            if let Err(error) = self.sender.send(&update) {
                self.fail(query, &format!("the node could not send its changes: {error}"));
                return;
            }
            rest = tail;
        }
    }

    /// A view with a hole would be wrong without a word: rather end it.
    fn fail(&mut self, query: QueryId, message: &str) {
        self.queries.remove(&query);
        self.engine.remove(query);
        self.tell_failure(query, message.to_string());
    }

    fn send_progress(&mut self, query: QueryId, tick_ms: u64) {
        let settle_ns = self.settle_ns;
        self.send_cuts(query, tick_ms);
        let Some(entry) = self.queries.get_mut(&query) else { return };
        let mut samples = Vec::new();
        while let Some(&(sampled_ms, time_unix_ns)) = entry.samples.front()
            && sampled_ms <= tick_ms
        {
            samples.push(time_unix_ns);
            entry.samples.pop_front();
        }
        let tick_unix_ns = tick_unix_ns(tick_ms);
        let progress = FromNode::Progress {
            query,
            tick_ms,
            complete_to_unix_ns: tick_unix_ns.saturating_sub(settle_ns),
            covers_from_unix_ns: entry.covers_from_unix_ns,
            event_samples_unix_ns: samples,
        };
        self.send(&progress);
    }

    /// Before the progress of a tick what its values lack.
    fn send_cuts(&mut self, query: QueryId, tick_ms: u64) {
        let Some(entry) = self.queries.get(&query) else { return };
        let cuts = self.engine.cuts(query);
        let new = cuts.since(&entry.cuts_told);
        if new.is_empty() {
            return;
        }
        let told = new.iter().map(|(reason, count)| (reason.to_string(), count)).collect();
        if self.send(&FromNode::Cuts { query, tick_ms, cuts: told })
            && let Some(entry) = self.queries.get_mut(&query)
        {
            entry.cuts_told = cuts;
        }
    }

    /// Sends the node's counters. `engine_events_lost`: since its start.
    pub fn send_status(
        &self,
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
        ];
        let tick_ms = self.last_tick_ms;
        self.send(&FromNode::Status { tick_ms, tables, sources, refused_total });
    }

    pub fn leave(&self) {
        self.send(&FromNode::Leave);
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
