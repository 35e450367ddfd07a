//! The node part of every query, without threads or clocks of its own: rows are admitted, ticks are
//! closed, queries are installed (replayed from history, then live) and removed, and what the engine
//! hands out goes on the bus. The server drives it from the node's thread, the offline driver from
//! its loop.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tracing::{debug, warn};
use weir_engine::history::{Cursor, History};
use weir_engine::{Engine, EngineEvent, Install};
use weir_proto::bus::NodeSender;
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{FromNode, NodeInfo, QueryId, ToNode};
use weir_types::acc::Acc;
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::plan::{OpKind, StartBound};
use weir_types::source::TableCounters;
use weir_types::split::{Change, Fragment, FragmentKind};
use weir_types::{PackedRow, RecordBatch};

use crate::agent::Agent;

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
}

pub struct NodeCore {
    info: NodeInfo,
    engine: Arc<Engine>,
    history: Option<History>,
    sender: NodeSender,
    queries: HashMap<QueryId, Query>,
    rows_total: BTreeMap<String, u64>,
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
        NodeCore {
            info,
            engine,
            history,
            sender,
            queries: HashMap::new(),
            rows_total: BTreeMap::new(),
            open_samples: Vec::new(),
            started_unix_ns,
            last_tick_ms: 0,
            answers: BTreeMap::new(),
            settle_ns,
        }
    }

    /// Goes on with a new engine, on which nothing is installed. What was admitted is still in the history;
    /// the cluster part installs its queries again once the node has registered.
    pub fn start_over(&mut self, engine: Arc<Engine>) {
        self.engine = engine;
        self.queries.clear();
        self.answers.clear();
        self.open_samples.clear();
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
            ToNode::Install { query, fragment, refresh_ms } => {
                self.install(query, fragment, refresh_ms, now_ms);
            }
            ToNode::Remove { query } => {
                self.queries.remove(&query);
                self.engine.remove(query);
            }
            // Nothing was answered yet, even of what was asked for before: who asks may have lost it.
            ToNode::Answer { functions } => {
                self.answers = functions.into_iter().map(|name| (name, None)).collect();
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

    fn install(&mut self, query: QueryId, fragment: Fragment, refresh_ms: u64, now_ms: u64) {
        let tables = fragment.scanned_tables();
        let fragment = Arc::new(fragment);
        let start_tick_ms = now_ms / refresh_ms * refresh_ms;
        let mut replay = VecDeque::new();
        let mut covers_from_unix_ns = self.started_unix_ns;
        if let Some(history) = &self.history {
            for table in &tables {
                let from_unix_ns = replay_from(&fragment, table, now_ms);
                let cursor = history.cursor(table, from_unix_ns);
                if !cursor.is_done() {
                    replay.push_back((table.clone(), cursor));
                }
                let covered = history.covers_from(table).unwrap_or(self.started_unix_ns);
                covers_from_unix_ns = covers_from_unix_ns.max(covered);
            }
        }
        let live = replay.is_empty();
        self.engine.install(Install::new(query, fragment, refresh_ms, start_tick_ms));
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
        if batch.num_rows() == 0 {
            return;
        }
        *self.rows_total.entry(table.to_string()).or_default() += batch.num_rows() as u64;
        if let Some(history) = &mut self.history {
            history.push(table, batch.clone());
        }
        self.engine.push_rows(table, batch);
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
            while budget_rows > 0 && self.engine.backlog_bytes() < REPLAY_BACKLOG_BYTES_MAX {
                let Some((table, cursor)) = cursors.front_mut() else { break };
                let slice = history.next_slice(cursor, budget_rows.min(BATCH_ROWS_MAX));
                if slice.is_empty() {
                    if cursor.missed_batches > 0 {
                        let covered = history.covers_from(table).unwrap_or(self.started_unix_ns);
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
        self.last_tick_ms = tick_ms;
        for (table, time_unix_ns) in self.open_samples.drain(..) {
            #[expect(clippy::iter_over_hash_type, reason = "every query gets its own sample")]
            for query in self.queries.values_mut() {
                if query.tables.contains(&table) && query.samples.len() < EVENT_SAMPLES_MAX {
                    query.samples.push_back((tick_ms, time_unix_ns));
                }
            }
        }
        self.engine.close_tick(tick_ms);
    }

    /// Sends on what the engine handed out.
    pub fn on_event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Changes { query, exchange, tick_ms, changes } => {
                self.send_changes(query, exchange, tick_ms, changes);
            }
            EngineEvent::Frontier { query, tick_ms } => self.send_progress(query, tick_ms),
            EngineEvent::Failed { query, message } => {
                self.queries.remove(&query);
                self.send(&FromNode::Failed { query, message });
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
        self.send(&FromNode::Failed { query, message: message.to_string() });
    }

    fn send_progress(&mut self, query: QueryId, tick_ms: u64) {
        let settle_ns = self.settle_ns;
        let Some(entry) = self.queries.get_mut(&query) else { return };
        let mut samples = Vec::new();
        while let Some(&(sampled_ms, time_unix_ns)) = entry.samples.front()
            && sampled_ms <= tick_ms
        {
            samples.push(time_unix_ns);
            entry.samples.pop_front();
        }
        let tick_unix_ns = i64::try_from(tick_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let progress = FromNode::Progress {
            query,
            tick_ms,
            complete_to_unix_ns: tick_unix_ns.saturating_sub(settle_ns),
            covers_from_unix_ns: entry.covers_from_unix_ns,
            event_samples_unix_ns: samples,
        };
        self.send(&progress);
    }

    /// Sends the node's counters.
    pub fn send_status(
        &self,
        counters: &BTreeMap<String, TableCounters>,
        sources: Vec<SourceStatus>,
    ) {
        let mut names: Vec<&String> = self.rows_total.keys().chain(counters.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let held: BTreeMap<String, u64> =
            self.history.as_ref().map_or_else(BTreeMap::new, |history| {
                history.stats().into_iter().map(|stats| (stats.table, stats.bytes)).collect()
            });
        let tables = names
            .into_iter()
            .map(|table| {
                let counter = counters.get(table).cloned().unwrap_or_default();
                let history = self.history.as_ref();
                TableStatus {
                    rows_total: self.rows_total.get(table).copied().unwrap_or(0),
                    history_bytes: held.get(table).copied().unwrap_or(0),
                    covers_from_unix_ns: history
                        .and_then(|h| h.covers_from(table))
                        .unwrap_or(self.started_unix_ns),
                    lost_total: counter.lost_total.into_iter().collect(),
                    unpaired_total: counter.unpaired_total,
                    metadata_held_count: counter.metadata_held_count,
                    table: table.clone(),
                }
            })
            .collect();
        self.send(&FromNode::Status { tick_ms: self.last_tick_ms, tables, sources });
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
fn replay_from(fragment: &Fragment, table: &str, now_ms: u64) -> i64 {
    let now_unix_ns = i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let scans = fragment.ops.iter().filter_map(|op| match &op.kind {
        FragmentKind::Plan(OpKind::Scan { table: scanned, window, .. }) if scanned == table => {
            Some(match window.start {
                StartBound::Beginning => i64::MIN,
                StartBound::Absolute { start_unix_ns } => start_unix_ns,
                StartBound::Relative { .. } => {
                    window.sliding(None).map_or(i64::MIN, |sliding| sliding.start_at(now_unix_ns))
                }
            })
        }
        _ => None,
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
