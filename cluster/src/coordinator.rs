//! Which query runs where and how far it is: nodes, their progress, and the frontier of every query
//! as the minimum over its feeds and the nodes that live. Plain data and calls: the server drives it
//! from an actor, the offline driver from a loop. It knows nothing of rows, views or subscribers.

mod answers;
mod completeness;
mod cuts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tracing::warn;
use weir_engine::{Engine, FeedExchange, Install, Intake, Part};
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{FromNode, NodeInfo, NodeLink, QueryId, ToNode};
use weir_pxl::table_functions::Answered;
use weir_types::PackedRow;
use weir_types::batch::pack_rows;
use weir_types::clock::tick_unix_ns;
use weir_types::plan::OpKind;
use weir_types::split::{Source, SplitPlan};

pub use answers::Identity;
pub use completeness::{PastLosses, QueryCompleteness};
pub(crate) use cuts::CutLedger;
pub use cuts::{CutTotals, FUNCTIONS};

use self::answers::Readers;
use self::completeness::{NodeLosses, Windows};
pub use crate::feed::FeedInfo;
use crate::feed::{self, Feed, Progress, Shared};

/// A node that is silent for longer no longer holds frontiers.
pub const NODE_LAG_MAX_MS: u64 = 3_000;
/// A node is silent for no longer than this between two looks at the clock: if more has passed, it was
/// this process that stood still.
const CLOCK_STEP_MAX_MS: u64 = 1_000;
/// Freshness samples that wait for their frontier, per query.
const EVENT_SAMPLES_MAX: usize = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error("node `{node}` cannot be reached")]
    Node { node: String, source: weir_proto::BusError },
}

/// A registered node.
pub struct Node {
    pub info: NodeInfo,
    pub sources: Vec<SourceStatus>,
    pub tables: Vec<TableStatus>,
    /// What → how often a queue of the node refused it.
    pub refused_total: Vec<(String, u64)>,
    pub last_heard_ms: u64,
    /// For how long nothing was heard of it, on the monotonic clock.
    silent_ms: u64,
    pub lagging: bool,
    heard: bool,
    losses: NodeLosses,
    /// Table function → what it said last.
    answers: BTreeMap<String, Vec<PackedRow>>,
    link: NodeLink,
}

struct Query {
    /// What it reads; none if it reads table functions only.
    feeds: BTreeSet<QueryId>,
    windows: Windows,
    /// It asks what processes, connections or addresses are called.
    reads_names: bool,
    refresh_ms: u64,
    closed_ms: u64,
    /// (tick, event time) of rows on their way to the view. A set: two feeds may tell of the same
    /// row.
    samples: BTreeSet<(u64, i64)>,
    readers: Readers,
    cuts: CutLedger,
}

impl Query {
    /// Moves its frontier, never back.
    fn close(&mut self, id: QueryId, tick_ms: u64, engine: &Engine) {
        if tick_ms > self.closed_ms {
            self.closed_ms = tick_ms;
            engine.close_query_tick(id, tick_ms);
        }
    }
}

pub struct Coordinator {
    engine: Arc<Engine>,
    nodes: BTreeMap<String, Node>,
    queries: BTreeMap<QueryId, Query>,
    feeds: BTreeMap<QueryId, Feed>,
    by_source: HashMap<Shared, FeedExchange>,
    /// Of queries and feeds: nodes and engines know both by the same numbers.
    next_query: QueryId,
    lag_max_ms: u64,
    /// The monotonic clock when it was looked at last.
    mono_ms: Option<u64>,
    past_losses: PastLosses,
    cut_totals: CutTotals,
    /// Offline, a window never reaches before what is covered, and table functions are not
    /// answered.
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
    /// All of them, for the same reason.
    QueryFailed {
        queries: Vec<QueryId>,
        message: String,
    },
}

impl Coordinator {
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Coordinator {
        Coordinator {
            engine,
            nodes: BTreeMap::new(),
            queries: BTreeMap::new(),
            feeds: BTreeMap::new(),
            by_source: HashMap::new(),
            next_query: 1,
            lag_max_ms: NODE_LAG_MAX_MS,
            mono_ms: None,
            past_losses: PastLosses::default(),
            cut_totals: CutTotals::default(),
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

    /// Knows what was lost before it came.
    #[must_use]
    pub fn with_past_losses(self, past_losses: PastLosses) -> Coordinator {
        Coordinator { past_losses, ..self }
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

    /// Forgets all queries and feeds, in the engine and on the nodes, and goes on with this engine. What
    /// is known of nodes stays. Whoever knows the queries installs them anew.
    pub fn start_over(&mut self, engine: Arc<Engine>) {
        let queries: Vec<QueryId> = self.queries.keys().copied().collect();
        queries.into_iter().for_each(|query| self.remove(query));
        let feeds: Vec<QueryId> = self.feeds.keys().copied().collect();
        feeds.into_iter().for_each(|feed| self.remove_feed(feed));
        self.engine = engine;
    }

    /// True if some node is there, and each of its sources runs or was refused for good: a table that
    /// nothing produces now will not come by waiting.
    #[must_use]
    pub fn sources_are_settled(&self) -> bool {
        let starts = |source: &SourceStatus| source.state == "starting";
        !self.nodes.is_empty() && !self.nodes.values().flat_map(|node| &node.sources).any(starts)
    }

    /// Installs a query over the feeds that are there, and feeds for what is not.
    pub fn install(
        &mut self,
        query: QueryId,
        split: Arc<SplitPlan>,
        refresh_ms: u64,
        now_ms: u64,
    ) -> Result<(), CoordinatorError> {
        let refresh_ms = refresh_ms.max(1);
        let start_tick_ms = now_ms / refresh_ms * refresh_ms;
        let (intakes, new) = self.intakes(&split, refresh_ms, now_ms);
        let feeds: BTreeSet<QueryId> = intakes.iter().map(|at| at.feed).collect();
        for feed in &feeds {
            if let Some(feed) = self.feeds.get_mut(feed) {
                feed.readers.insert(query);
            }
        }
        let begin_ms = |feed: &Feed| feed.closed_ms.max(feed.start_ms);
        let begin_ms = feeds.iter().filter_map(|feed| self.feeds.get(feed)).map(begin_ms).max();
        let sources = intakes.into_iter().map(Intake::Feed).collect();
        let part = Part::Query { plan: Arc::new(split.cluster.clone()), sources };
        let start_tick_ms = begin_ms.unwrap_or(start_tick_ms);
        self.engine.install(Install { query, part, refresh_ms, start_tick_ms });
        self.fill_table_functions(query, &split);
        let readers = match self.covers_everything {
            true => Readers::default(),
            false => Readers::of(&split, now_ms),
        };
        self.queries.insert(
            query,
            Query {
                feeds,
                windows: Windows::of(&split.sources),
                reads_names: split.calls(&weir_engine::reads_names),
                refresh_ms,
                closed_ms: 0,
                samples: BTreeSet::new(),
                readers,
                cuts: CutLedger::default(),
            },
        );
        self.ask_agents();
        self.push_answers(now_ms);
        // Nodes last, so that no change comes too early.
        new.into_iter().try_for_each(|feed| self.install_on_nodes(feed))
    }

    /// Where the query's sources are to be had, in their order, and the feeds that were installed for it.
    fn intakes(
        &mut self,
        split: &SplitPlan,
        refresh_ms: u64,
        now_ms: u64,
    ) -> (Vec<FeedExchange>, Vec<QueryId>) {
        let shared = |source: &Source| Shared { refresh_ms, source: source.clone() };
        let missing = split.sources.iter().map(shared);
        let missing = missing.filter(|shared| self.readable(shared).is_none());
        let missing: Vec<Source> = missing.map(|shared| shared.source).collect();
        let mut new = Vec::new();
        for sources in feed::by_feed(missing) {
            new.push(self.start_feed(sources, refresh_ms, now_ms));
        }
        let at = |source: &Source| {
            let found = self.by_source.get(&shared(source));
            *found.expect("its feed was there, or has just been started")
        };
        (split.sources.iter().map(at).collect(), new)
    }

    /// Where a new reader finds what it would miss nothing of.
    fn readable(&self, shared: &Shared) -> Option<FeedExchange> {
        let at = *self.by_source.get(shared)?;
        let is_new = self.feeds.get(&at.feed)?.closed_ms == 0;
        (is_new || self.engine.holds(at)).then_some(at)
    }

    fn start_feed(&mut self, sources: Vec<Source>, refresh_ms: u64, now_ms: u64) -> QueryId {
        let start_tick_ms = now_ms / refresh_ms * refresh_ms;
        let query = self.new_query_id();
        let part = Part::Feed(sources.clone());
        self.engine.install(Install { query, part, refresh_ms, start_tick_ms });
        let feed = Feed::new(sources, refresh_ms, start_tick_ms, tick_unix_ns(now_ms));
        self.by_source.extend(feed.exchanges(query));
        self.feeds.insert(query, feed);
        query
    }

    /// What table functions answer is constant: their rows are given once.
    fn fill_table_functions(&self, query: QueryId, split: &SplitPlan) {
        for (idx, op) in split.cluster.ops.iter().enumerate() {
            let OpKind::TableFunction { name, args } = &op.kind else { continue };
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

    fn install_on_nodes(&mut self, feed: QueryId) -> Result<(), CoordinatorError> {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        names.iter().try_for_each(|name| self.install_on(name, feed))
    }

    fn install_on(&mut self, name: &str, feed: QueryId) -> Result<(), CoordinatorError> {
        let (Some(node), Some(entry)) = (self.nodes.get(name), self.feeds.get_mut(&feed)) else {
            return Ok(());
        };
        let (plan, refresh_ms) = (entry.node.clone(), entry.refresh_ms);
        node.link
            .send(&ToNode::Install { query: feed, plan, refresh_ms })
            .map_err(|source| CoordinatorError::Node { node: name.to_string(), source })?;
        entry.nodes.insert(name.to_string(), Progress::default());
        Ok(())
    }

    /// Removes a query, and the feeds that nobody else reads.
    pub fn remove(&mut self, query: QueryId) {
        let Some(entry) = self.queries.remove(&query) else { return };
        self.engine.remove(query);
        self.ask_agents();
        for id in entry.feeds {
            let Some(feed) = self.feeds.get_mut(&id) else { continue };
            feed.readers.remove(&query);
            if feed.readers.is_empty() {
                self.remove_feed(id);
            }
        }
    }

    fn remove_feed(&mut self, id: QueryId) {
        self.close_to_readers(id);
        let Some(feed) = self.feeds.remove(&id) else { return };
        self.engine.remove(id);
        for name in feed.nodes.keys() {
            if let Some(node) = self.nodes.get(name)
                && let Err(error) = node.link.send(&ToNode::Remove { query: id })
            {
                warn!(node = name, feed = id, %error, "could not remove a feed from a node");
            }
        }
    }

    /// No further query reads the feed.
    fn close_to_readers(&mut self, id: QueryId) {
        self.by_source.retain(|_, at| at.feed != id);
    }

    /// A query or a feed has failed, on a node or in the engine. Gives the queries that must be
    /// removed: itself, or all that read it.
    pub fn failed(&mut self, id: QueryId) -> Vec<QueryId> {
        let Some(feed) = self.feeds.get(&id) else { return vec![id] };
        let readers = feed.readers.iter().copied().collect();
        self.close_to_readers(id);
        readers
    }

    /// What runs for the queries, in order.
    pub fn feeds(&self) -> impl Iterator<Item = FeedInfo> {
        self.feeds.iter().map(|(&feed, entry)| FeedInfo {
            feed,
            tables: entry.tables.clone(),
            exchanges: entry.sources.len(),
            refresh_ms: entry.refresh_ms,
            readers: entry.readers.iter().copied().collect(),
        })
    }

    /// The feeds that a query reads.
    #[must_use]
    pub fn feeds_of(&self, query: QueryId) -> Vec<QueryId> {
        let entry = self.queries.get(&query);
        entry.map(|entry| entry.feeds.iter().copied().collect()).unwrap_or_default()
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
            node.heard = true;
            node.last_heard_ms = now_ms;
        }
        match message {
            FromNode::Register { info, sources } => {
                self.register(name, link, info, sources, now_ms);
            }
            FromNode::Update { query: feed, exchange, sequence, tick_ms, changes } => {
                let Some(progress) = self.progress_mut(name, feed) else {
                    return Outcome::Nothing;
                };
                if sequence < progress.next_sequence {
                    return Outcome::Nothing;
                }
                if sequence > progress.next_sequence {
                    let missed = sequence - progress.next_sequence;
                    let message = format!("{missed} updates of node {name} were lost on the way");
                    return Outcome::QueryFailed { queries: self.failed(feed), message };
                }
                progress.next_sequence = sequence + 1;
                self.engine.push_changes(feed, exchange, tick_ms, changes);
            }
            FromNode::Progress {
                query: feed,
                tick_ms,
                complete_to_unix_ns,
                covers_from_unix_ns,
                event_samples_unix_ns,
            } => {
                if let Some(progress) = self.progress_mut(name, feed) {
                    progress.tick_ms = progress.tick_ms.max(tick_ms);
                    progress.complete_to_unix_ns = complete_to_unix_ns;
                    progress.covers_from_unix_ns = covers_from_unix_ns;
                }
                self.note_samples(feed, tick_ms, &event_samples_unix_ns);
                self.close(feed);
            }
            FromNode::Status { tables, sources, refused_total, .. } => {
                if let Some(node) = self.nodes.get_mut(name) {
                    node.tables = tables;
                    node.sources = sources;
                    node.refused_total = refused_total;
                }
            }
            FromNode::Losses { sequence, whole, losses } => {
                if let Some(node) = self.nodes.get_mut(name) {
                    node.on_losses(sequence, whole, &losses);
                }
            }
            FromNode::Failed { query, message } => {
                let queries = self.failed(query);
                return Outcome::QueryFailed { queries, message };
            }
            FromNode::Cuts { query: feed, tick_ms, cuts } => self.on_cuts(feed, tick_ms, &cuts),
            FromNode::Leave => self.leave(name),
            // Whoever installs queries anew decides which.
            FromNode::EngineDied { .. } => {}
            FromNode::Answer { function, rows } => self.on_answer(name, function, rows),
        }
        Outcome::Nothing
    }

    fn progress_mut(&mut self, name: &str, feed: QueryId) -> Option<&mut Progress> {
        self.feeds.get_mut(&feed)?.nodes.get_mut(name)
    }

    fn note_samples(&mut self, feed: QueryId, tick_ms: u64, times_unix_ns: &[i64]) {
        let Some(feed) = self.feeds.get(&feed) else { return };
        for reader in &feed.readers {
            let Some(query) = self.queries.get_mut(reader) else { continue };
            let room = EVENT_SAMPLES_MAX.saturating_sub(query.samples.len());
            query.samples.extend(times_unix_ns.iter().take(room).map(|&time| (tick_ms, time)));
        }
    }

    fn register(
        &mut self,
        name: &str,
        link: &NodeLink,
        info: NodeInfo,
        sources: Vec<SourceStatus>,
        now_ms: u64,
    ) {
        let former = self.nodes.remove(name);
        let tables = former.as_ref().map(|former| former.tables.clone()).unwrap_or_default();
        let mut node = Node {
            info,
            sources,
            tables,
            refused_total: Vec::new(),
            last_heard_ms: now_ms,
            silent_ms: 0,
            lagging: false,
            heard: true,
            losses: NodeLosses::default(),
            answers: BTreeMap::new(),
            link: link.clone(),
        };
        // Before anything is installed on it: its losses are here before its first progress.
        node.ask_for_losses();
        // A life that is over tells nothing any more: what it lost still is lost.
        if let Some(former) =
            former.filter(|former| former.info.incarnation != node.info.incarnation)
        {
            self.past_losses.add(&former.losses.ledger);
        }
        self.nodes.insert(name.to_string(), node);
        self.ask_agent(name);
        let feeds: Vec<QueryId> = self.feeds.keys().copied().collect();
        for feed in feeds {
            if let Err(error) = self.install_on(name, feed) {
                warn!(node = name, feed, %error, "could not install a feed on a new node");
            }
        }
    }

    fn leave(&mut self, name: &str) {
        if let Some(gone) = self.nodes.remove(name) {
            self.past_losses.add(&gone.losses.ledger);
        }
        let feeds: Vec<QueryId> = self.feeds.keys().copied().collect();
        for feed in feeds {
            if let Some(entry) = self.feeds.get_mut(&feed) {
                entry.nodes.remove(name);
            }
            self.close(feed);
        }
    }

    /// Moves a feed's frontier to the minimum over its live nodes.
    fn close(&mut self, feed: QueryId) {
        let Some(entry) = self.feeds.get(&feed) else { return };
        if let Some(tick_ms) = self.live(entry).map(|progress| progress.tick_ms).min() {
            self.close_at(feed, tick_ms);
        }
    }

    /// The progress of a feed's nodes that hold its frontier.
    fn live<'a>(&'a self, feed: &'a Feed) -> impl Iterator<Item = &'a Progress> {
        let is_live = |name: &String| self.nodes.get(name).is_some_and(|node| !node.lagging);
        feed.nodes.iter().filter(move |(name, _)| is_live(name)).map(|(_, progress)| progress)
    }

    fn close_at(&mut self, feed: QueryId, tick_ms: u64) {
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        if tick_ms <= entry.closed_ms {
            return;
        }
        entry.closed_ms = tick_ms;
        self.engine.close_query_tick(feed, tick_ms);
        for reader in entry.readers.clone() {
            let query = self.queries.get_mut(&reader).filter(|query| !query.readers.wait());
            let Some(query) = query else { continue };
            let of_feed = |feed| self.feeds.get(feed).map_or(0, |feed: &Feed| feed.closed_ms);
            // Rows of the feeds follow their own frontiers; this is for table functions.
            let tick_ms = query.feeds.iter().map(of_feed).min().unwrap_or(0);
            query.close(reader, tick_ms, &self.engine);
        }
    }

    /// Called about every tick: marks silent nodes, and moves feeds that no node holds and queries of
    /// table functions only along with the clock. `mono_ms`: what silence is measured by, since the
    /// wall clock may be set.
    pub fn on_clock(&mut self, now_ms: u64, mono_ms: u64) {
        let passed_ms = mono_ms.saturating_sub(self.mono_ms.replace(mono_ms).unwrap_or(mono_ms));
        let passed_ms = passed_ms.min(CLOCK_STEP_MAX_MS);
        let mut changed = false;
        for (name, node) in &mut self.nodes {
            let heard = std::mem::take(&mut node.heard);
            node.silent_ms = if heard { 0 } else { node.silent_ms.saturating_add(passed_ms) };
            let lagging = node.silent_ms > self.lag_max_ms;
            if lagging != node.lagging {
                node.lagging = lagging;
                changed = true;
                warn!(node = name, lagging, "node changed its lag state");
            }
        }
        self.push_answers(now_ms);
        let feeds: Vec<QueryId> = self.feeds.keys().copied().collect();
        for feed in feeds {
            if changed {
                self.close(feed);
            }
            let Some(entry) = self.feeds.get(&feed) else { continue };
            if self.live(entry).next().is_none() {
                self.close_at(feed, now_ms / entry.refresh_ms * entry.refresh_ms);
            }
        }
        let moved_by_clock = |query: &Query| query.feeds.is_empty() && !query.readers.wait();
        for (&id, query) in self.queries.iter_mut().filter(|(_, query)| moved_by_clock(query)) {
            let tick_ms = now_ms / query.refresh_ms * query.refresh_ms;
            query.close(id, tick_ms, &self.engine);
        }
    }

    /// Event times of rows whose changes are in by `frontier_ms`; each is given once.
    pub fn take_samples(&mut self, query: QueryId, frontier_ms: u64) -> Vec<i64> {
        let Some(entry) = self.queries.get_mut(&query) else { return Vec::new() };
        let waiting = entry.samples.split_off(&(frontier_ms.saturating_add(1), i64::MIN));
        let done = std::mem::replace(&mut entry.samples, waiting);
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

#[cfg(test)]
mod completeness_tests;
