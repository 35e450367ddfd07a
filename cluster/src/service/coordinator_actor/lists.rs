//! What the coordinator answers about itself: tables, nodes, queries and feeds. It changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use serde::Serialize;
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{QueryId, Report};
use weir_types::canonical::PlanIdentity;
use weir_types::split::SplitPlan;

use super::CoordinatorActor;
use crate::coordinator::LocatedSource;
use crate::coordinator::taken_figures;

/// Tables that some node produces, and table functions that are answered.
#[derive(Message)]
#[rtype(result = "Vec<String>")]
pub struct AvailableTables;

#[derive(Clone, Debug, Serialize)]
pub struct NodeRow {
    pub name: String,
    pub hostname: String,
    pub version: String,
    pub asid: u32,
    /// When this life of it began, Unix ns: a node that restarted has another one.
    pub incarnation: u64,
    pub lagging: bool,
    /// How far behind now is what it has delivered for the queries that run on it; null while none does.
    pub lag_ms: Option<u64>,
    pub last_heard_ms_ago: u64,
    #[serde(skip)]
    pub sources: Vec<SourceStatus>,
    #[serde(skip)]
    pub tables: Vec<TableStatus>,
    /// What → how often a queue of the node refused it.
    #[serde(skip)]
    pub refused_total: Vec<(String, u64)>,
}

#[derive(Message)]
#[rtype(result = "Vec<NodeRow>")]
pub struct ListNodes;

#[derive(Clone, Debug, Serialize)]
pub struct QueryRow {
    pub query: QueryId,
    pub name: String,
    pub refresh_ms: u64,
    pub subscribers: usize,
    pub outputs: Vec<String>,
    pub installed_unix_ns: i64,
    /// The feeds that it reads, shared with every other query that names them.
    pub feeds: Vec<QueryId>,
}

#[derive(Message)]
#[rtype(result = "Vec<QueryRow>")]
pub struct ListQueries;

/// What nodes and the cluster engine maintain for one or more queries.
#[derive(Clone, Debug, Serialize)]
pub struct FeedRow {
    pub feed: QueryId,
    pub tables: Vec<String>,
    pub exchanges: usize,
    pub refresh_ms: u64,
    pub readers: Vec<QueryId>,
    /// Of its windows, in the cluster part.
    pub state_bytes: u64,
    /// Changes that came from nodes.
    pub rows_in: u64,
    /// And those of them that came when their window was past: no answer from then on has a place for them.
    pub late_rows: u64,
    /// Rows that are counted as `__overflow__` now: their groups found no room.
    pub overflow_rows: u64,
}

#[derive(Message)]
#[rtype(result = "Vec<FeedRow>")]
pub struct ListFeeds;

/// Which running query is meant.
#[derive(Clone, Debug)]
pub enum Sought {
    Number(QueryId),
    /// The one that refreshes most often of this plan; with a refresh, that one.
    Plan(Arc<PlanIdentity>, Option<u64>),
}

/// The plan of a running query, and where its sources run.
#[derive(Message)]
#[rtype(result = "Option<Located>")]
pub struct Locate(pub Sought);

#[derive(Clone)]
pub struct Located {
    pub row: QueryRow,
    pub split: Arc<SplitPlan>,
    /// By the numbers of the plan's sources.
    pub sources: Vec<Option<LocatedSource>>,
}

impl Handler<Locate> for CoordinatorActor {
    type Result = MessageResult<Locate>;
    fn handle(&mut self, Locate(sought): Locate, _ctx: &mut Self::Context) -> Self::Result {
        let (row, split) = {
            let registry = self.registry();
            let view = match &sought {
                Sought::Number(query) => registry.by_run(*query),
                Sought::Plan(plan, None) => registry.find_quickest(plan),
                Sought::Plan(plan, Some(refresh_ms)) => registry.find(plan, *refresh_ms),
            };
            let Some(entry) = view.and_then(|view| registry.get(view)) else {
                return MessageResult(None);
            };
            let row = QueryRow { subscribers: entry.subscribers.len(), ..entry.row.clone() };
            (row, Arc::clone(&entry.ready.split))
        };
        let sources = self.core.located(row.query, &split);
        MessageResult(Some(Located { row, split, sources }))
    }
}

impl Handler<AvailableTables> for CoordinatorActor {
    type Result = MessageResult<AvailableTables>;
    fn handle(&mut self, _message: AvailableTables, _ctx: &mut Self::Context) -> Self::Result {
        let tables = weir_types::tables::TABLES.iter().map(|table| table.name);
        let functions = weir_pxl::table_functions::all().map(|function| function.name);
        let names = tables.chain(functions);
        MessageResult(names.filter(|name| self.core.has_table(name)).map(str::to_string).collect())
    }
}

impl Handler<ListNodes> for CoordinatorActor {
    type Result = MessageResult<ListNodes>;
    fn handle(&mut self, _message: ListNodes, _ctx: &mut Self::Context) -> Self::Result {
        let now_ms = self.now_ms();
        let rows = self.core.nodes().iter().map(|(name, node)| NodeRow {
            name: name.clone(),
            hostname: node.info.hostname.clone(),
            version: node.info.version.clone(),
            asid: node.info.asid,
            incarnation: node.life().incarnation,
            lagging: node.lagging,
            lag_ms: self.core.lag_ms(name, now_ms),
            last_heard_ms_ago: now_ms.saturating_sub(node.last_heard_ms),
            sources: node.sources.clone(),
            tables: node.tables.clone(),
            refused_total: node.refused_total.clone(),
        });
        MessageResult(rows.collect())
    }
}

impl Handler<ListQueries> for CoordinatorActor {
    type Result = MessageResult<ListQueries>;
    fn handle(&mut self, _message: ListQueries, _ctx: &mut Self::Context) -> Self::Result {
        let registry = self.registry();
        let mut rows: Vec<QueryRow> = registry
            .values()
            .map(|entry| QueryRow { subscribers: entry.subscribers.len(), ..entry.row.clone() })
            .collect();
        rows.sort_by_key(|row| row.query);
        MessageResult(rows)
    }
}

impl Handler<ListFeeds> for CoordinatorActor {
    type Result = MessageResult<ListFeeds>;
    fn handle(&mut self, _message: ListFeeds, _ctx: &mut Self::Context) -> Self::Result {
        let running = self.shared.generations.engine().stats().queries;
        let running: BTreeMap<QueryId, _> = running.into_iter().map(|q| (q.query, q)).collect();
        let rows = self.core.feeds().map(|info| FeedRow {
            state_bytes: running.get(&info.feed).map_or(0, |stats| stats.state_bytes),
            rows_in: running.get(&info.feed).map_or(0, |stats| stats.rows_in),
            late_rows: running.get(&info.feed).map_or(0, |stats| stats.late_rows),
            overflow_rows: running.get(&info.feed).map_or(0, |stats| stats.overflow_rows),
            feed: info.feed,
            tables: info.tables,
            exchanges: info.exchanges,
            refresh_ms: info.refresh_ms,
            readers: info.readers,
        });
        MessageResult(rows.collect())
    }
}

/// Which feeds there are is told so often to those who look at them from outside.
const FEEDS_TOLD_EVERY_MS: u64 = 500;

impl CoordinatorActor {
    /// What a node's operators have done goes to whoever takes samples; nothing here depends on it.
    pub(super) fn take_figures(&self, name: &str, report: &mut Report) {
        if let Some((figures, left_out)) = taken_figures(&mut report.message) {
            self.shared.figures.heard(name, figures, left_out);
        }
    }

    pub(super) fn tell_feeds(&mut self, mono_ms: u64) {
        let told_ms = self.feeds_told_ms;
        if told_ms.is_none_or(|told_ms| mono_ms.abs_diff(told_ms) >= FEEDS_TOLD_EVERY_MS) {
            self.feeds_told_ms = Some(mono_ms);
            self.shared.figures.set_feeds(self.core.feeds().collect());
        }
    }
}
