//! What nodes and the cluster part say to each other.

use serde::{Deserialize, Serialize};
use weir_types::PackedRow;
use weir_types::ledger::Loss;
use weir_types::source::BlindProcess;
use weir_types::split::{Change, ExchangeId, NodePlan};

/// Number of an installed query, unique within a cluster process's life.
pub type QueryId = u64;

/// Who a node is. A restarted node has a new incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    pub name: String,
    /// When it started, Unix ns: later lives have greater ones.
    pub incarnation: u64,
    pub asid: u32,
    pub hostname: String,
    pub version: String,
}

impl NodeInfo {
    /// The agent's id in tables: the short id of the node and its life.
    #[must_use]
    pub fn agent_id(&self) -> u128 {
        (u128::from(self.asid) << 96) | u128::from(self.incarnation)
    }
}

/// State of a source on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub name: String,
    /// `running`, `reduced` or `refused`.
    pub state: String,
    /// Why it does not run, or what is missing.
    pub reason: String,
    pub tables: Vec<String>,
    /// Processes of which it sees nothing or not all.
    pub blind: Vec<BlindProcess>,
}

/// Counters of one table on a node since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    pub table: String,
    pub rows_total: u64,
    pub history_bytes: u64,
    pub covers_from_unix_ns: i64,
    /// Reason → what was lost of the table, in the reason's unit.
    pub lost_total: Vec<(String, u64)>,
    /// Requests that the peer never answered: not lost.
    pub unanswered_total: u64,
    /// Responses that nobody had asked for: not lost.
    pub unasked_total: u64,
    /// Rows that wait for metadata now.
    pub metadata_held_count: u64,
}

/// Cluster part → node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToNode {
    /// Run `plan`: replay what history covers of it, then go live. Refresh in milliseconds.
    Install {
        query: QueryId,
        plan: NodePlan,
        refresh_ms: u64,
    },
    Remove {
        query: QueryId,
    },
    /// Answer these table functions from now on, in place of the former ones: at once, then about
    /// every second what changed.
    Answer {
        functions: Vec<String>,
    },
    /// Tell all losses that you know of, not only those that are new: they are not known here.
    TellLosses,
}

/// Node → cluster part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromNode {
    Register {
        info: NodeInfo,
        sources: Vec<SourceStatus>,
    },
    /// One refresh of one exchange. `sequence` counts per (node incarnation, query) from 0, so that
    /// a redelivery is applied once.
    Update {
        query: QueryId,
        exchange: ExchangeId,
        sequence: u64,
        tick_ms: u64,
        changes: Vec<Change>,
    },
    /// Everything that the node admitted for the query up to `tick_ms` has been sent.
    Progress {
        query: QueryId,
        tick_ms: u64,
        complete_to_unix_ns: i64,
        covers_from_unix_ns: i64,
        /// Event times of some rows admitted since the last progress: what freshness is measured by.
        event_samples_unix_ns: Vec<i64>,
    },
    /// About once a second: the node lives, and these are its counters.
    Status {
        tick_ms: u64,
        tables: Vec<TableStatus>,
        sources: Vec<SourceStatus>,
        /// What → how often a queue of the node refused it. Whoever was concerned was told.
        refused_total: Vec<(String, u64)>,
    },
    /// What was lost, before the `Progress` of the tick in which it was noticed. `sequence` counts
    /// per node incarnation from 0; `whole`: everything since the node's start, in place of what was
    /// told before.
    Losses {
        sequence: u64,
        whole: bool,
        losses: Vec<Loss>,
    },
    /// The query cannot go on on this node.
    Failed {
        query: QueryId,
        message: String,
    },
    /// The node stops in an orderly way.
    Leave,
    /// What the node knows of a table function now, in place of what it said before.
    Answer {
        function: String,
        rows: Vec<PackedRow>,
    },
    /// Functions left something out of what the query showed at `tick_ms` and before: reason and count, more
    /// than was told. Comes before the `Progress` of that tick.
    Cuts {
        query: QueryId,
        tick_ms: u64,
        cuts: Vec<(String, u64)>,
    },
    /// The node's engine has died, of `query` if it was working on one. Everything is installed again
    /// once the node has registered anew.
    EngineDied {
        query: Option<QueryId>,
    },
}
