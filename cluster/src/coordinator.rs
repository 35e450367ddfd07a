//! Which query runs where and how far it is: nodes, their progress, and the frontier of every query
//! as the minimum over the nodes that live. Plain data and calls: the server drives it from an
//! actor, the offline driver from a loop. It knows nothing of rows, views or subscribers.

mod answers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tracing::warn;
use weir_engine::{Engine, Install};
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{FromNode, NodeInfo, NodeLink, QueryId, ToNode};
use weir_pxl::table_functions::Answered;
use weir_types::PackedRow;
use weir_types::batch::pack_rows;
use weir_types::plan::OpKind;
use weir_types::split::{FragmentKind, SplitPlan};

pub use answers::Identity;

use self::answers::Readers;
use crate::view::tick_unix_ns;

/// A node that is silent for longer no longer holds frontiers.
pub const NODE_LAG_MAX_MS: u64 = 3_000;
/// Seconds of loss counters that are kept per table: what a window of an hour looks back on.
const LOSS_SAMPLES_MAX: usize = 3_700;
/// Freshness samples that wait for their frontier, per query.
const EVENT_SAMPLES_MAX: usize = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error("node `{node}` cannot be reached")]
    Node { node: String, source: weir_proto::BusError },
}

/// Where a node stands in one query.
#[derive(Clone, Debug, Default)]
struct Progress {
    tick_ms: u64,
    complete_to_unix_ns: i64,
    covers_from_unix_ns: i64,
    next_sequence: u64,
}

/// (tick, table → reason → total) about once a second.
type LossSample = (u64, BTreeMap<(String, String), u64>);

/// A registered node.
pub struct Node {
    pub info: NodeInfo,
    pub sources: Vec<SourceStatus>,
    pub tables: Vec<TableStatus>,
    pub last_heard_ms: u64,
    pub lagging: bool,
    losses: VecDeque<LossSample>,
    /// Table function → what it said last.
    answers: BTreeMap<String, Vec<PackedRow>>,
    link: NodeLink,
}

struct Query {
    split: Arc<SplitPlan>,
    tables: Vec<String>,
    refresh_ms: u64,
    /// Longest sliding window in ns; 0 without one.
    window_ns: i64,
    closed_ms: u64,
    nodes: BTreeMap<String, Progress>,
    /// (tick, event time) of rows on their way to the view.
    samples: VecDeque<(u64, i64)>,
    readers: Readers,
}

/// How complete a query's answer is at a frontier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryCompleteness {
    pub complete_to_unix_ns: i64,
    pub covers_from_unix_ns: i64,
    pub complete: bool,
    pub lagging: Vec<String>,
    /// table → reason → lost within the window
    pub lost: BTreeMap<String, BTreeMap<String, u64>>,
}

pub struct Coordinator {
    engine: Arc<Engine>,
    nodes: BTreeMap<String, Node>,
    queries: BTreeMap<QueryId, Query>,
    next_query: QueryId,
    lag_max_ms: u64,
    /// Offline, a window never reaches before what is covered, and table functions are not answered.
    covers_everything: bool,
    /// Rows of table functions that no registry answers.
    table_functions: BTreeMap<String, Vec<PackedRow>>,
    identity: Identity,
    /// Table functions that agents are asked for.
    asked: BTreeSet<&'static str>,
}

/// What a node's message means for a view.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    QueryFailed { query: QueryId, message: String },
}

impl Coordinator {
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Coordinator {
        Coordinator {
            engine,
            nodes: BTreeMap::new(),
            queries: BTreeMap::new(),
            next_query: 1,
            lag_max_ms: NODE_LAG_MAX_MS,
            covers_everything: false,
            table_functions: BTreeMap::new(),
            identity: Identity::default(),
            asked: BTreeSet::new(),
        }
    }

    /// For a running server: the process that it is.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Coordinator {
        Coordinator { identity, ..self }
    }

    /// For offline rows: no node ever lags, nothing was ever dropped. `table_functions`: the rows
    /// of those that no registry answers, in their columns' order.
    #[must_use]
    pub fn offline(
        engine: Arc<Engine>,
        table_functions: BTreeMap<String, Vec<PackedRow>>,
    ) -> Coordinator {
        Coordinator {
            lag_max_ms: u64::MAX,
            covers_everything: true,
            table_functions,
            ..Coordinator::new(engine)
        }
    }

    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// The next free query number.
    pub fn new_query_id(&mut self) -> QueryId {
        self.next_query += 1;
        self.next_query - 1
    }

    /// Never gives out a number up to `query` again.
    pub fn skip_query_id(&mut self, query: QueryId) {
        self.next_query = self.next_query.max(query + 1);
    }

    /// Installs both parts of a query, first the cluster part so that no change comes too early.
    pub fn install(
        &mut self,
        query: QueryId,
        split: Arc<SplitPlan>,
        refresh_ms: u64,
        now_ms: u64,
    ) -> Result<(), CoordinatorError> {
        let start_tick_ms = now_ms / refresh_ms * refresh_ms;
        self.engine.install(Install {
            query,
            fragment: Arc::new(split.cluster.clone()),
            refresh_ms,
            start_tick_ms,
        });
        self.fill_table_functions(query, &split);
        let tables = split.node.scanned_tables();
        let window_ns = longest_window(&split);
        let readers = match self.covers_everything {
            true => Readers::default(),
            false => Readers::of(&split, now_ms),
        };
        self.queries.insert(
            query,
            Query {
                tables,
                refresh_ms,
                window_ns,
                closed_ms: 0,
                nodes: BTreeMap::new(),
                samples: VecDeque::new(),
                readers,
                split,
            },
        );
        self.ask_agents();
        self.push_answers(now_ms);
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            self.install_on(&name, query)?;
        }
        Ok(())
    }

    /// What table functions answer is constant: their rows are given once.
    fn fill_table_functions(&self, query: QueryId, split: &SplitPlan) {
        for (idx, op) in split.cluster.ops.iter().enumerate() {
            let FragmentKind::Plan(OpKind::TableFunction { name, args }) = &op.kind else {
                continue;
            };
            if let Some(rows) = self.table_functions.get(name) {
                self.engine.push_table_function(query, idx, rows.clone());
                continue;
            }
            let found = weir_pxl::table_functions::find(name);
            if found.is_none_or(|def| def.answered != Answered::Registry) {
                continue;
            }
            match weir_pxl::table_functions::evaluate(name, args, &[]) {
                Ok(batch) => {
                    let rows = pack_rows(&batch, &op.relation.types());
                    self.engine.push_table_function(query, idx, rows);
                }
                Err(error) => warn!(query, name, %error, "table function without rows"),
            }
        }
    }

    fn install_on(&mut self, name: &str, query: QueryId) -> Result<(), CoordinatorError> {
        let (Some(node), Some(entry)) = (self.nodes.get(name), self.queries.get_mut(&query)) else {
            return Ok(());
        };
        if entry.split.node.ops.is_empty() {
            return Ok(());
        }
        let fragment = entry.split.node.clone();
        let refresh_ms = entry.refresh_ms;
        node.link
            .send(&ToNode::Install { query, fragment, refresh_ms })
            .map_err(|source| CoordinatorError::Node { node: name.to_string(), source })?;
        entry.nodes.insert(name.to_string(), Progress::default());
        Ok(())
    }

    pub fn remove(&mut self, query: QueryId) {
        let Some(entry) = self.queries.remove(&query) else { return };
        self.engine.remove(query);
        self.ask_agents();
        for name in entry.nodes.keys() {
            if let Some(node) = self.nodes.get(name)
                && let Err(error) = node.link.send(&ToNode::Remove { query })
            {
                warn!(node = name, query, %error, "could not remove a query from a node");
            }
        }
    }

    /// A node's link is up; it is known once it registers.
    pub fn on_message(
        &mut self,
        name: &str,
        link: &NodeLink,
        message: FromNode,
        now_ms: u64,
    ) -> Outcome {
        if let Some(node) = self.nodes.get_mut(name) {
            node.last_heard_ms = now_ms;
        }
        match message {
            FromNode::Register { info, sources } => {
                self.register(name, link, info, sources, now_ms)
            }
            FromNode::Update { query, exchange, sequence, tick_ms, changes } => {
                let Some(progress) = self.progress_mut(name, query) else {
                    return Outcome::Nothing;
                };
                if sequence < progress.next_sequence {
                    return Outcome::Nothing;
                }
                progress.next_sequence = sequence + 1;
                self.engine.push_changes(query, exchange, tick_ms, changes);
            }
            FromNode::Progress {
                query,
                tick_ms,
                complete_to_unix_ns,
                covers_from_unix_ns,
                event_samples_unix_ns,
            } => {
                if let Some(progress) = self.progress_mut(name, query) {
                    progress.tick_ms = progress.tick_ms.max(tick_ms);
                    progress.complete_to_unix_ns = complete_to_unix_ns;
                    progress.covers_from_unix_ns = covers_from_unix_ns;
                }
                if let Some(entry) = self.queries.get_mut(&query) {
                    let room = EVENT_SAMPLES_MAX.saturating_sub(entry.samples.len());
                    let samples = event_samples_unix_ns.into_iter().take(room);
                    entry.samples.extend(samples.map(|time| (tick_ms, time)));
                }
                self.close(query);
            }
            FromNode::Status { tick_ms, tables, sources } => {
                if let Some(node) = self.nodes.get_mut(name) {
                    note_losses(node, tick_ms, &tables);
                    node.tables = tables;
                    node.sources = sources;
                }
            }
            FromNode::Failed { query, message } => {
                return Outcome::QueryFailed { query, message };
            }
            FromNode::Leave => self.leave(name),
            FromNode::Answer { function, rows } => self.on_answer(name, function, rows),
        }
        Outcome::Nothing
    }

    fn progress_mut(&mut self, name: &str, query: QueryId) -> Option<&mut Progress> {
        self.queries.get_mut(&query)?.nodes.get_mut(name)
    }

    fn register(
        &mut self,
        name: &str,
        link: &NodeLink,
        info: NodeInfo,
        sources: Vec<SourceStatus>,
        now_ms: u64,
    ) {
        let node = Node {
            info,
            sources,
            tables: Vec::new(),
            last_heard_ms: now_ms,
            lagging: false,
            losses: VecDeque::new(),
            answers: BTreeMap::new(),
            link: link.clone(),
        };
        self.nodes.insert(name.to_string(), node);
        self.ask_agent(name);
        let queries: Vec<QueryId> = self.queries.keys().copied().collect();
        for query in queries {
            if let Err(error) = self.install_on(name, query) {
                warn!(node = name, query, %error, "could not install a query on a new node");
            }
        }
    }

    fn leave(&mut self, name: &str) {
        self.nodes.remove(name);
        let queries: Vec<QueryId> = self.queries.keys().copied().collect();
        for query in queries {
            if let Some(entry) = self.queries.get_mut(&query) {
                entry.nodes.remove(name);
            }
            self.close(query);
        }
    }

    /// Moves the query's frontier to the minimum over its live nodes.
    fn close(&mut self, query: QueryId) {
        let Some(entry) = self.queries.get_mut(&query).filter(|entry| !entry.readers.wait()) else {
            return;
        };
        let live = entry
            .nodes
            .iter()
            .filter(|(name, _)| self.nodes.get(*name).is_some_and(|node| !node.lagging))
            .map(|(_, progress)| progress.tick_ms);
        if let Some(tick_ms) = live.min()
            && tick_ms > entry.closed_ms
        {
            entry.closed_ms = tick_ms;
            self.engine.close_query_tick(query, tick_ms);
        }
    }

    /// Called about every tick: marks silent nodes, and moves queries that no node holds (table
    /// functions only, or no node at all) along with the clock.
    pub fn on_clock(&mut self, now_ms: u64) {
        let mut changed = false;
        for (name, node) in &mut self.nodes {
            let lagging = now_ms.saturating_sub(node.last_heard_ms) > self.lag_max_ms;
            if lagging != node.lagging {
                node.lagging = lagging;
                changed = true;
                warn!(node = name, lagging, "node changed its lag state");
            }
        }
        self.push_answers(now_ms);
        let queries: Vec<QueryId> = self.queries.keys().copied().collect();
        for query in queries {
            if changed {
                self.close(query);
            }
            let entry = self.queries.get_mut(&query).filter(|entry| !entry.readers.wait());
            let Some(entry) = entry else { continue };
            let held = entry
                .nodes
                .keys()
                .any(|name| self.nodes.get(name).is_some_and(|node| !node.lagging));
            let tick_ms = now_ms / entry.refresh_ms * entry.refresh_ms;
            if !held && tick_ms > entry.closed_ms {
                entry.closed_ms = tick_ms;
                self.engine.close_query_tick(query, tick_ms);
            }
        }
    }

    /// How complete the query's answer at `frontier_ms` is.
    #[must_use]
    pub fn completeness(&self, query: QueryId, frontier_ms: u64) -> QueryCompleteness {
        let frontier_unix_ns = tick_unix_ns(frontier_ms);
        let Some(entry) = self.queries.get(&query) else { return QueryCompleteness::default() };
        if self.covers_everything || entry.tables.is_empty() {
            return QueryCompleteness {
                complete_to_unix_ns: frontier_unix_ns,
                complete: true,
                ..QueryCompleteness::default()
            };
        }
        let lagging: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.lagging)
            .map(|(name, _)| name.clone())
            .collect();
        let live = || entry.nodes.iter().filter(|(name, _)| !lagging.contains(name));
        let complete_to = live().map(|(_, p)| p.complete_to_unix_ns).min();
        let covers_from = live().map(|(_, p)| p.covers_from_unix_ns).max();
        let lost = self.lost_in_window(entry, frontier_ms);
        let window_from = frontier_unix_ns.saturating_sub(entry.window_ns);
        let covers_from_unix_ns = covers_from.unwrap_or(frontier_unix_ns);
        QueryCompleteness {
            complete_to_unix_ns: complete_to.unwrap_or(0).min(frontier_unix_ns),
            covers_from_unix_ns,
            complete: lagging.is_empty()
                && !entry.nodes.is_empty()
                && lost.is_empty()
                && (entry.window_ns == 0 || covers_from_unix_ns <= window_from),
            lagging,
            lost,
        }
    }

    fn lost_in_window(
        &self,
        entry: &Query,
        frontier_ms: u64,
    ) -> BTreeMap<String, BTreeMap<String, u64>> {
        let window_ms = u64::try_from(entry.window_ns / 1_000_000).unwrap_or(0);
        let from_ms = frontier_ms.saturating_sub(window_ms);
        let mut lost: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for node in self.nodes.values() {
            let Some((_, latest)) = node.losses.back() else { continue };
            let before = node.losses.iter().rev().find(|(tick_ms, _)| *tick_ms <= from_ms);
            for ((table, reason), total) in latest {
                let earlier = before
                    .and_then(|(_, totals)| totals.get(&(table.clone(), reason.clone())))
                    .copied()
                    .unwrap_or(0);
                if *total > earlier && entry.tables.contains(table) {
                    *lost.entry(table.clone()).or_default().entry(reason.clone()).or_default() +=
                        total - earlier;
                }
            }
        }
        lost
    }

    /// Event times of rows whose changes are in by `frontier_ms`; each is given once.
    pub fn take_samples(&mut self, query: QueryId, frontier_ms: u64) -> Vec<i64> {
        let Some(entry) = self.queries.get_mut(&query) else { return Vec::new() };
        let (done, waiting) =
            entry.samples.drain(..).partition::<Vec<_>, _>(|(tick_ms, _)| *tick_ms <= frontier_ms);
        entry.samples.extend(waiting);
        done.into_iter().map(|(_, time)| time).collect()
    }

    /// True if some live node produces the table, or it is a table function that is answered.
    #[must_use]
    pub fn has_table(&self, table: &str) -> bool {
        if let Some(function) = weir_pxl::table_functions::find(table) {
            return function.refusal().is_none();
        }
        self.nodes
            .values()
            .flat_map(|node| &node.sources)
            .any(|source| source.state != "refused" && source.tables.iter().any(|t| t == table))
    }
}

fn note_losses(node: &mut Node, tick_ms: u64, tables: &[TableStatus]) {
    let totals: BTreeMap<(String, String), u64> = tables
        .iter()
        .flat_map(|table| {
            let lost = table.lost_total.iter();
            lost.map(|(reason, total)| ((table.table.clone(), reason.clone()), *total))
        })
        .collect();
    node.losses.push_back((tick_ms, totals));
    if node.losses.len() > LOSS_SAMPLES_MAX {
        node.losses.pop_front();
    }
}

fn longest_window(split: &SplitPlan) -> i64 {
    split
        .node
        .ops
        .iter()
        .filter_map(|op| match &op.kind {
            FragmentKind::Send { window, .. } => window.sliding(None).map(|w| w.window_ns),
            _ => None,
        })
        .max()
        .unwrap_or(0)
}
