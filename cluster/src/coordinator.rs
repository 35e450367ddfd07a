//! Which query runs where and how far it is: nodes, their progress, and the frontier of every query
//! as the minimum over its feeds and the nodes that live. Plain data and calls: the server drives it
//! from an actor, the offline driver from a loop. It knows nothing of rows, views or subscribers.
//!
//! What nodes say comes in through [`inbound`], over a bus that may lose, repeat and reorder; their
//! entities are put together in [`entities`], what functions want to know goes out by [`wanted`]; how
//! complete answers are is written down in [`completeness`].

mod answers;
mod completeness;
mod cuts;
mod entities;
mod frontiers;
mod inbound;
mod located;
mod membership;
mod orders;
mod ready;
mod wanted;
mod windows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tracing::warn;
use weir_engine::{Engine, FeedExchange, Install, Intake, Part, ReadyProgram};
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{Epoch, Life, NodeInfo, NodeLink, QueryId, ToNode};
use weir_sinks::delivery::Completeness;
use weir_types::PackedRow;
use weir_types::clock::tick_unix_ns;
use weir_types::plan::OpKind;
use weir_types::source::OrderId;
use weir_types::split::{Source, SplitPlan};

pub use answers::Identity;
pub use completeness::{Book, OVERFLOW};
pub use cuts::{CutTotals, FUNCTIONS};
pub(crate) use inbound::taken_figures;
pub use inbound::{BusCounters, Outcome};
pub use located::LocatedSource;
pub use ready::ReadyPlan;

use self::answers::Readers;
use self::completeness::Covered;
use self::entities::Merged;
use self::inbound::Pace;
use self::wanted::Recent;
use self::windows::Windows;
pub use crate::feed::FeedInfo;
use crate::feed::{self, Feed, Progress};

/// A node that is silent for longer no longer holds frontiers.
pub const NODE_LAG_MAX_MS: u64 = 3_000;
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error("node `{node}` cannot be reached")]
    Node { node: String, source: weir_proto::BusError },
    #[error("there is no node `{node}`")]
    NoNode { node: String },
    #[error("the order is refused: {reason}")]
    Order { reason: String },
    #[error("node `{node}` has not done the last {max} orders yet")]
    Orders { node: String, max: usize },
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
    life: Life,
    /// When it was asked for all its losses, monotonic; until it has answered.
    losses_asked_ms: Option<u64>,
    /// It told that its engine died; that ends a life.
    engine_died: bool,
    /// Table function → what it said last, and the number of that answer.
    answers: BTreeMap<String, (u64, Vec<PackedRow>)>,
    /// To its sources.
    orders: orders::Orders,
    link: NodeLink,
}

struct Query {
    /// What it reads; none if it reads table functions only.
    feeds: BTreeSet<QueryId>,
    refresh_ms: u64,
    closed_ms: u64,
    readers: Readers,
}

pub struct Coordinator {
    engine: Arc<Engine>,
    nodes: BTreeMap<String, Node>,
    queries: BTreeMap<QueryId, Query>,
    feeds: BTreeMap<QueryId, Feed>,
    /// By how often they refresh.
    by_source: HashMap<Source, BTreeMap<u64, FeedExchange>>,
    /// Of queries and feeds: nodes and engines know both by the same numbers.
    next_query: QueryId,
    next_epoch: Epoch,
    next_order: OrderId,
    lag_max_ms: u64,
    /// A node that is silent for longer is not waited for any more.
    forget_ms: u64,
    /// The monotonic clock when it was looked at last.
    mono_ms: Option<u64>,
    /// When it was looked at first, monotonic and Unix.
    began_ms: Option<(u64, u64)>,
    book: Arc<Book>,
    counters: Arc<BusCounters>,
    pace: Pace,
    /// Whoever speaks without being known → when it was told to introduce itself, monotonic.
    strangers: BTreeMap<String, u64>,
    /// Offline, no table function is answered.
    offline: bool,
    /// Rows of table functions that no registry answers.
    table_functions: BTreeMap<String, Vec<PackedRow>>,
    identity: Identity,
    /// Table functions that agents are asked for.
    asked: BTreeSet<&'static str>,
    entities: Merged,
    /// What functions here wanted to know and nodes were asked for.
    recent: Recent,
}

impl Coordinator {
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Coordinator {
        let book = Arc::new(Book::new(engine.retention_ns()));
        let entities = Merged::new(engine.retention_ns());
        Coordinator {
            engine,
            nodes: BTreeMap::new(),
            queries: BTreeMap::new(),
            feeds: BTreeMap::new(),
            by_source: HashMap::new(),
            next_query: 1,
            next_epoch: 1,
            next_order: 1,
            lag_max_ms: NODE_LAG_MAX_MS,
            forget_ms: u64::MAX,
            mono_ms: None,
            began_ms: None,
            book,
            counters: Arc::default(),
            pace: Pace::default(),
            strangers: BTreeMap::new(),
            offline: false,
            table_functions: BTreeMap::new(),
            identity: Identity::default(),
            asked: BTreeSet::new(),
            entities,
            recent: Recent::default(),
        }
    }

    /// For a running server: the process that it is.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Coordinator {
        Coordinator { identity, ..self }
    }

    /// Writes into a book that others read, and goes on with what was lost before.
    #[must_use]
    pub fn with_book(self, book: Arc<Book>) -> Coordinator {
        book.clear();
        Coordinator { book, ..self }
    }

    /// Counts what the bus did where others read it.
    #[must_use]
    pub fn with_counters(self, counters: Arc<BusCounters>) -> Coordinator {
        Coordinator { counters, ..self }
    }

    /// Begins with an epoch, and with a number of an order, above all that former coordinators gave: the
    /// time will do.
    #[must_use]
    pub fn with_epochs_from(self, next_epoch: Epoch) -> Coordinator {
        Coordinator { next_epoch, next_order: next_epoch, ..self }
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
            book: Arc::new(Book::offline()),
            offline: true,
            table_functions,
            ..Coordinator::new(engine)
        }
    }

    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    #[must_use]
    pub fn counters(&self) -> &BusCounters {
        &self.counters
    }

    /// How complete the query's answer at `frontier_ms` is.
    #[must_use]
    pub fn completeness(&self, query: QueryId, frontier_ms: u64) -> Completeness {
        self.book.note_overflow(query, self.engine.overflow(query, frontier_ms));
        self.book.completeness(query, frontier_ms)
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
        self.engine.set_metadata(self.entities.snapshot());
        self.recent = Recent::default();
    }

    /// True if some node is there, and each of its sources runs or was refused for good: a table that
    /// nothing produces now will not come by waiting.
    #[must_use]
    pub fn sources_are_settled(&self) -> bool {
        let starts = |source: &SourceStatus| source.state == "starting";
        !self.nodes.is_empty() && !self.nodes.values().flat_map(|node| &node.sources).any(starts)
    }

    /// As [`Coordinator::install_ready`], for callers that have the time to compile.
    pub fn install(
        &mut self,
        query: QueryId,
        split: Arc<SplitPlan>,
        refresh_ms: u64,
        now_ms: u64,
    ) -> Result<(), CoordinatorError> {
        let ready = ReadyPlan::new(split, &self.engine);
        self.install_ready(query, &ready, refresh_ms, now_ms)
    }

    /// Installs a query over the feeds that are there, and feeds for what is not.
    pub fn install_ready(
        &mut self,
        query: QueryId,
        ready: &ReadyPlan,
        refresh_ms: u64,
        now_ms: u64,
    ) -> Result<(), CoordinatorError> {
        let split = &ready.split;
        let refresh_ms = refresh_ms.max(1);
        let start_tick_ms = now_ms / refresh_ms * refresh_ms;
        let (intakes, new) = self.intakes(ready, refresh_ms, now_ms);
        let program = ready.programs.query(&intakes);
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
        self.engine.install_ready(Install::new(query, part, refresh_ms, start_tick_ms), program);
        self.fill_table_functions(query, ready);
        let readers = match self.offline {
            true => Readers::default(),
            false => Readers::of(split, now_ms),
        };
        let reads_names = split.calls(&weir_engine::reads_names);
        self.book.query_began(query, feeds.clone(), Windows::of(&split.sources), reads_names);
        self.queries.insert(query, Query { feeds, refresh_ms, closed_ms: 0, readers });
        self.ask_agents();
        self.push_answers(now_ms);
        // Nodes last, so that no change comes too early.
        new.into_iter().try_for_each(|feed| self.install_on_nodes(feed))
    }

    /// Where the query's sources are to be had, in their order, and the feeds that were installed for it.
    fn intakes(
        &mut self,
        ReadyPlan { split, programs, .. }: &ReadyPlan,
        refresh_ms: u64,
        now_ms: u64,
    ) -> (Vec<FeedExchange>, Vec<QueryId>) {
        let is_missing = |source: &&Source| self.readable(source, refresh_ms).is_none();
        let missing: Vec<Source> = split.sources.iter().filter(is_missing).cloned().collect();
        let mut new = Vec::new();
        for sources in feed::by_feed(missing) {
            let program = programs.feed(&sources);
            new.push(self.start_feed(sources, program, refresh_ms, now_ms));
        }
        let at = |source: &Source| {
            let found = self.readable(source, refresh_ms);
            found.expect("its feed was there, or has just been started")
        };
        (split.sources.iter().map(at).collect(), new)
    }

    /// Where a new reader finds what it would miss nothing of: in the feed that refreshes least often of those
    /// that refresh often enough.
    fn readable(&self, source: &Source, refresh_ms: u64) -> Option<FeedExchange> {
        let often_enough = self.by_source.get(source)?.range(..=refresh_ms).rev();
        let is_new = |at: FeedExchange| self.feeds.get(&at.feed).is_some_and(|f| f.closed_ms == 0);
        let readable = |&at: &FeedExchange| is_new(at) || self.engine.holds(at);
        let serving = often_enough.filter(|(feed_ms, _)| feed::serves(**feed_ms, refresh_ms));
        serving.map(|(_, at)| *at).find(readable)
    }

    fn start_feed(
        &mut self,
        sources: Vec<Source>,
        program: ReadyProgram,
        refresh_ms: u64,
        now_ms: u64,
    ) -> QueryId {
        let start_ms = now_ms / refresh_ms * refresh_ms;
        let id = self.new_query_id();
        let part = Part::Feed(sources.clone());
        self.engine.install_ready(Install::new(id, part, refresh_ms, start_ms), program);
        let feed = Feed::new(sources, refresh_ms, start_ms);
        self.book.feed_began(id, feed.tables.clone(), tick_unix_ns(now_ms));
        for (source, at) in feed.exchanges(id) {
            self.by_source.entry(source.clone()).or_default().insert(refresh_ms, at);
        }
        self.feeds.insert(id, feed);
        id
    }

    /// What these table functions answer is constant: their rows are given once.
    fn fill_table_functions(&self, query: QueryId, ready: &ReadyPlan) {
        for (idx, op) in ready.split.cluster.ops.iter().enumerate() {
            let OpKind::TableFunction { name, .. } = &op.kind else { continue };
            if let Some(rows) = self.table_functions.get(name) {
                self.engine.push_table_function(query, idx, rows.clone());
            } else if let Some((_, rows)) = ready.constants.iter().find(|(at, _)| *at == idx) {
                self.engine.push_table_function(query, idx, rows.clone());
            }
        }
    }

    fn install_on_nodes(&mut self, feed: QueryId) -> Result<(), CoordinatorError> {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        names.iter().try_for_each(|name| self.install_on(name, feed))
    }

    /// Gives a node the order to run a feed, under an epoch of its own.
    fn install_on(&mut self, name: &str, feed: QueryId) -> Result<(), CoordinatorError> {
        let (Some(node), Some(entry)) = (self.nodes.get(name), self.feeds.get_mut(&feed)) else {
            return Ok(());
        };
        if entry.broken_ms.is_some() || !node.may_have(&entry.tables) {
            return Ok(());
        }
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        let ordered_ms = self.mono_ms.unwrap_or(0);
        entry.nodes.insert(name.to_string(), Progress { epoch, ordered_ms, ..Progress::default() });
        self.book.covers(feed, name, Covered::default());
        // What is closed already knows nothing of it.
        self.book.feed_owes(feed, entry.closed_ms);
        let (plan, refresh_ms) = (entry.node.clone(), entry.refresh_ms);
        node.link
            .send(&ToNode::Install { query: feed, epoch, plan, refresh_ms })
            .map_err(|source| CoordinatorError::Node { node: name.to_string(), source })
    }

    /// Removes a query, and the feeds that nobody else reads.
    pub fn remove(&mut self, query: QueryId) {
        let Some(entry) = self.queries.remove(&query) else { return };
        self.book.query_ended(query);
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
        self.book.feed_ended(id);
        self.engine.remove(id);
        for (name, progress) in &feed.nodes {
            let remove = ToNode::Remove { query: id, epoch: progress.epoch };
            if let Some(node) = self.nodes.get(name)
                && let Err(error) = node.link.send(&remove)
            {
                // Its next status tells that it runs still.
                warn!(node = name, feed = id, %error, "could not remove a feed from a node");
            }
        }
    }

    /// No further query reads the feed.
    fn close_to_readers(&mut self, id: QueryId) {
        self.by_source.retain(|_, by_refresh| {
            by_refresh.retain(|_, at| at.feed != id);
            !by_refresh.is_empty()
        });
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
#[cfg(test)]
mod membership_tests;
