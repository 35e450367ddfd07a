//! What goes into an engine and what comes out. Plain data; no timely or differential types.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_functions::cuts::Cuts;
use weir_types::PackedRow;
use weir_types::split::{Change, ClusterPlan, ExchangeId, NodePlan, Source, SplitPlan};

pub use crate::budget::Unread;
use crate::mesh::Mesh;

/// A query's number. It may be used again after `Removed` or `Failed`.
pub type QueryId = u64;

/// With [`EngineConfig::test_faults`], a filter or map that holds this string literal panics when it
/// is evaluated.
pub const TEST_PANIC_LITERAL: &str = "__weir_test_panic__";

/// With [`EngineConfig::test_faults`], a filter or map that holds this string literal kills its worker
/// thread when it is evaluated, and so the engine. Once in the life of a process: the query can be
/// installed again on the engine that comes after.
pub const TEST_DEATH_LITERAL: &str = "__weir_test_death__";

/// The same, each time that it is evaluated.
pub const TEST_DEATHS_LITERAL: &str = "__weir_test_deaths__";

/// Bounds of one engine. Each says what happens when it is reached.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes that one query may hold: operator state, rows that wait and what was handed out and is not
    /// let go. Above: the query fails, with the code `state_budget`, or `backlog` if most of it waits.
    pub query_state_bytes_max: u64,
    /// Bytes that all queries may hold together. Above: the query that holds most fails, with the code
    /// `engine_budget`.
    pub state_bytes_max: u64,
    /// Groups that one aggregate over a table holds. Above, and when bytes are short, rows of further groups
    /// are counted in a row of their own, `__overflow__`, and the answer says so. Must be the same in
    /// the node and the cluster part.
    pub query_groups_max: u64,
    /// Bytes of pushed rows that wait for a tick to close. Above: the batch is dropped and counted
    /// as [`TableStats::queue_full_rows`].
    pub pending_bytes_max: u64,
    /// Bytes of history that wait to be seen by new queries, of all together: more is replayed when it is less,
    /// or to a query for which none waits ([`crate::Engine::takes_replay`]). They are no part of what
    /// queries hold, and live rows do not count here.
    pub replayed_bytes_max: u64,
    /// Bytes that one query's operators have before them: above, rows are not taken up that have only arrived.
    pub under_way_bytes_max: u64,
    /// Bytes of a query that were handed out and not let go by the receiver ([`Unread`]). Above: its
    /// last operators wait, and so does its frontier.
    pub unread_bytes_max: u64,
    /// Bytes of rows that wait in one process on their way to or from others. Above: the query that holds most
    /// fails, with the code `backlog`.
    pub between_bytes_max: u64,
    /// In a round of a worker, queries that have more to do share so much time; then the others come
    /// round. How late a query can be because of others: about one round for each of its operators.
    pub round_ns: u64,
    /// However many share a round, each has so much: less is spent on going round.
    pub slice_ns_min: u64,
    /// Rows and bytes that an operator works on, or hands out in one event, before it looks at the clock.
    pub slice_rows_max: usize,
    pub slice_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            query_state_bytes_max: 1 << 30,
            state_bytes_max: 2 << 30,
            // What a second's bins of five minutes need with 1,700 groups each; at 600 bytes, 300 MiB.
            query_groups_max: 1 << 19,
            pending_bytes_max: 256 << 20,
            replayed_bytes_max: 64 << 20,
            under_way_bytes_max: 16 << 20,
            unread_bytes_max: 16 << 20,
            between_bytes_max: 1 << 30,
            round_ns: 10_000_000,
            slice_ns_min: 500_000,
            slice_rows_max: 2048,
            slice_bytes_max: 256 << 10,
        }
    }
}

impl Limits {
    /// For a process with two engines, by the memory of this machine or of its control group.
    #[must_use]
    pub fn of_this_process() -> Limits {
        crate::memory::usable_bytes().map_or_else(Limits::default, Limits::for_memory)
    }

    /// For a process that may use `memory_bytes` and has two engines in it, among other things: an eighth
    /// for one query, a quarter for all of an engine; never more than the defaults.
    #[must_use]
    pub fn for_memory(memory_bytes: u64) -> Limits {
        let limits = Limits::default();
        Limits {
            query_state_bytes_max: limits.query_state_bytes_max.min(memory_bytes / 8),
            state_bytes_max: limits.state_bytes_max.min(memory_bytes / 4),
            pending_bytes_max: limits.pending_bytes_max.min(memory_bytes / 16),
            replayed_bytes_max: limits.replayed_bytes_max.min(memory_bytes / 32),
            under_way_bytes_max: limits.under_way_bytes_max.min(memory_bytes / 64),
            ..limits
        }
    }
}

/// Codes of what a limit ends, as they stand at the beginning of a failure's message.
const LIMIT_CODES: [&str; 3] = ["state_budget", "backlog", "engine_budget"];

/// The code of a failed query by its message, wherever it failed: a limit's own, else `query_failed`.
#[must_use]
pub fn failure_code(message: &str) -> &'static str {
    let code = message.split(':').next().unwrap_or_default();
    LIMIT_CODES.into_iter().find(|known| *known == code).unwrap_or("query_failed")
}

#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// For thread names and messages.
    pub name: String,
    /// Worker threads of this process; at least 1.
    pub workers: usize,
    /// The processes that are one engine together; `None`: this one alone. All have as many workers. Queries are
    /// installed, removed, held and closed in process 0, and the others follow; rows and changes may be pushed in
    /// each. Results and frontiers are told in process 0, which looks up all names; figures and budgets are each
    /// process's own, and so is what [`crate::Engine::next_due`] says.
    pub mesh: Option<Mesh>,
    /// Bounds scans without a start (they slide by it). `None`: such rows never expire. Must be the
    /// same in the node and the cluster part of a query: both cut time into panes by it.
    pub retention_ns: Option<i64>,
    /// Lets [`TEST_PANIC_LITERAL`] panic.
    pub test_faults: bool,
    pub limits: Limits,
}

impl EngineConfig {
    #[must_use]
    pub fn new(name: impl Into<String>) -> EngineConfig {
        EngineConfig {
            name: name.into(),
            workers: 1,
            mesh: None,
            retention_ns: None,
            test_faults: false,
            limits: Limits::default(),
        }
    }
}

/// An exchange of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FeedExchange {
    pub feed: QueryId,
    pub exchange: ExchangeId,
}

/// What to keep true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Part {
    /// Of a node: hands out what changes in its sources. Without any it says only that it is up to date.
    Node(#[serde(with = "shared")] Arc<NodePlan>),
    /// A *feed*, in the cluster part: keeps the windows of these sources, which any number of queries of the
    /// same engine read. Nothing of it is handed out.
    Feed(Vec<Source>),
    /// A query in the cluster part: hands out what changes in its outputs. `sources`: by the numbers that the
    /// plan scans them by.
    Query {
        #[serde(with = "shared")]
        plan: Arc<ClusterPlan>,
        sources: Vec<Intake>,
    },
}

impl Part {
    /// A query that receives all of its sources itself.
    #[must_use]
    pub fn alone(split: &SplitPlan) -> Part {
        let sources = split.sources.iter().cloned().map(Intake::Own).collect();
        Part::Query { plan: Arc::new(split.cluster.clone()), sources }
    }
}

/// Where a query has a source from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Intake {
    /// The feed must be installed; if it goes, so does the query, with `Failed`.
    Feed(FeedExchange),
    /// It is received for this query alone.
    Own(Source),
}

/// A part to install.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Install {
    pub query: QueryId,
    pub part: Part,
    /// False: rows that are pushed are not for it before [`crate::Engine::go_live`]; it gets them by replay.
    pub is_live: bool,
    /// At least 1. Results change only at multiples of it.
    pub refresh_ms: u64,
    /// Of a node part, per exchange: up to this tick, and up to its event time, rows are already in the partial
    /// results that the receiver has from elsewhere, and are not told again. Missing or 0: none are.
    pub had_to_ms: Vec<u64>,
    /// The first tick at which results may appear; rounded up to a multiple of the refresh. Later for
    /// a query over feeds: the last tick that is closed for all of them.
    pub start_tick_ms: u64,
}

/// An `Arc` as what it holds.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        T::serialize(value, serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

impl Install {
    /// Of a part that is fed from the beginning.
    #[must_use]
    pub fn new(query: QueryId, part: Part, refresh_ms: u64, start_tick_ms: u64) -> Install {
        Install { query, part, is_live: true, refresh_ms, start_tick_ms, had_to_ms: Vec::new() }
    }
}

/// What an engine says. Emitted on worker threads: the receiver must not block.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// Node parts: what a refresh added on an exchange, consolidated per worker (several
    /// workers send one event each). Comes before the `Frontier` of its tick.
    ///
    /// A large tick comes in several events, each within [`Limits::slice_bytes_max`] and a row more.
    Changes {
        query: QueryId,
        exchange: ExchangeId,
        tick_ms: u64,
        changes: Vec<Change>,
        unread: Unread,
    },
    /// Queries: the net change of an output table at a tick, over all workers; never
    /// empty. Comes before the `Frontier` of its tick. A large tick comes in several events, no row in
    /// two of them.
    Rows {
        query: QueryId,
        table: Arc<str>,
        tick_ms: u64,
        rows: Vec<(PackedRow, i64)>,
        unread: Unread,
    },
    /// Everything of the query at ticks ≤ `tick_ms` has been handed out. A multiple of its refresh. Not
    /// of feeds: they hand out nothing.
    Frontier { query: QueryId, tick_ms: u64 },
    /// A panic, a run-time error or a limit. The query is dropped; nothing of it follows.
    Failed { query: QueryId, message: String },
    /// After `remove`: its state is released; nothing of it follows.
    Removed { query: QueryId },
    /// A worker thread died, of `query` if it was working on one: whoever installs that again must expect it
    /// again. All queries have been told `Failed` before; nothing follows, and whatever is installed from
    /// now on is told `Failed` at once. The owner starts a new engine and installs anew.
    Died { query: Option<QueryId>, message: String },
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("could not start the engine's workers: {0}")]
    Start(String),
}

/// One query as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    pub query: QueryId,
    /// Bytes of operator state, over all workers; as are the next two.
    pub state_bytes: u64,
    /// Bytes of rows that wait for an operator or for their tick to close.
    pub waiting_bytes: u64,
    /// Bytes of history that it has not seen yet; no part of the above.
    pub replayed_bytes: u64,
    /// Bytes that were handed out and not let go by the receiver.
    pub unread_bytes: u64,
    /// Rows scanned (node) or changes received (cluster).
    pub rows_in: u64,
    /// Rows or changes that came when their window was already past.
    pub late_rows: u64,
    /// Rows that are counted as `__overflow__` now.
    pub overflow_rows: u64,
    /// Time spent in its operators, over all workers.
    pub cpu_ns: u64,
    /// How often an operator had more to do than its turn allowed.
    pub yields: u64,
    /// Operators over all workers.
    pub operators: u64,
    /// The last reported frontier.
    pub frontier_tick_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// CPU time of the thread.
    pub cpu_ns: u64,
    /// Dataflows that exist: one per installed query, and those that still drain.
    pub dataflows: u64,
}

/// Rows of a table that did not make it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    pub table: String,
    /// Rows pushed.
    pub rows: u64,
    /// More than [`weir_types::clock::FUTURE_NS_MAX`] ahead of their arrival.
    pub future_rows: u64,
    /// Dropped because too much waited for a tick ([`Limits::pending_bytes_max`]).
    pub queue_full_rows: u64,
    /// Of batches without a `time_` column.
    pub no_time_rows: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// What all queries hold together; [`Limits::state_bytes_max`] is its bound.
    pub held_bytes: u64,
    /// Pushed rows that wait for a tick to close; [`Limits::pending_bytes_max`] is its bound.
    pub pending_bytes: u64,
    pub queries: Vec<QueryStats>,
    pub workers: Vec<WorkerStats>,
    pub tables: Vec<TableStats>,
    /// What functions left out, in all.
    pub cuts: Cuts,
    /// Rows that found no group of their own, in all.
    pub overflow_rows_total: u64,
    /// What the other processes of the engine said of themselves last, by number from 1.
    pub processes: Vec<ProcessFigures>,
}

/// What a process of several says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFigures {
    /// What its queries hold.
    pub held_bytes: u64,
    /// Buffers of rows on their way to or from other processes.
    pub between_bytes: u64,
    /// Changes of nodes that it read from the bus, since it began.
    pub read_bytes: u64,
    /// CPU time of its workers.
    pub cpu_ns: u64,
    pub dataflows: u64,
}
