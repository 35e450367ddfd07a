//! What nodes and the cluster part say to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_types::PackedRow;
use weir_types::figures::QueryFigures;
use weir_types::ledger::Loss;
use weir_types::metadata::{EntityChange, Machine};
use weir_types::source::{BlindProcess, OrderId, OrderOutcome, SourceOrder};
use weir_types::split::{Change, ExchangeId, NodePlan};

/// Partial results of windows longer than this may be kept by nodes over their lives.
pub const KEPT_FROM_NS: i64 = 300_000_000_000;

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
    /// A node on the machine of its name.
    #[must_use]
    pub fn named(name: &str, incarnation: u64, asid: u32) -> NodeInfo {
        NodeInfo {
            name: name.to_string(),
            incarnation,
            asid,
            hostname: name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }

    /// The agent's id in tables: the short id of the node and its life.
    #[must_use]
    pub fn agent_id(&self) -> u128 {
        (u128::from(self.asid) << 96) | u128::from(self.incarnation)
    }
}

/// State of a source on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub name: String,
    /// `starting`, `running`, `reduced`, `restarting`, `failed` or `refused`.
    pub state: String,
    /// Why it does not run, or what is missing.
    pub reason: String,
    pub tables: Vec<String>,
    /// Processes of which it sees nothing or not all.
    pub blind: Vec<BlindProcess>,
    /// What it was told to look at (`pid:7`, `port:80`, `cgroup:4711`); empty: everything.
    pub filters: Vec<String>,
    /// What it counts beside losses, since its start.
    pub counts: BTreeMap<String, u64>,
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

/// Operators of which a node tells figures in one status: some hundred bytes each, once a second.
pub const FIGURES_OPERATORS_MAX: usize = 4_096;

/// Number of one installation of a feed on one node. Never used twice, ascending over all lives of the
/// cluster part: what belongs to another installation is told by it.
pub type Epoch = u64;

/// Where changes wait that one of several processes of the cluster part has read: the process, and their number
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    pub process: usize,
    pub number: u64,
}

/// Cluster part → node. Each may be lost, repeated or late: what a node does of it is the same the second
/// time, and its [`FromNode::Status`] says what it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToNode {
    /// Run `plan`: replay what history covers of it, then go live. Refresh in milliseconds. In place
    /// of an earlier epoch of the query; never run again with an epoch not above the greatest seen.
    Install { query: QueryId, epoch: Epoch, plan: NodePlan, refresh_ms: u64 },
    /// This installation, or an earlier one, is not wanted any more.
    Remove { query: QueryId, epoch: Epoch },
    /// Answer these table functions from now on, in place of the former ones: at once, then about
    /// every second what changed.
    Answer { functions: Vec<String> },
    /// Tell all losses that you know of, not only those that are new: they are not known here.
    TellLosses,
    /// Tell all entities that you know of: they are not known here.
    TellEntities,
    /// You are not known here: register.
    Introduce,
    /// For your sources. Done once, however often it comes; what became of it is in the status.
    Order { id: OrderId, order: SourceOrder },
}

/// What a node is asked that has just joined.
pub(crate) fn who_are_you() -> ToNode {
    ToNode::Introduce
}

/// Which life of a node something is of: its process's, and how often it began anew within. Later ones are
/// greater.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Life {
    pub incarnation: u64,
    pub generation: u64,
}

/// What a node says, and which life of it says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub life: Life,
    pub message: FromNode,
}

/// Where in a feed's stream from one node a message stands: updates, cuts and progress count together, from 0
/// in each epoch, so that progress over a missing update is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub epoch: Epoch,
    pub sequence: u64,
}

/// What a message tells of a node's entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entities {
    /// What changed.
    Changes,
    /// A part of all that there is. With the first one it begins anew; the last one makes it whole.
    Whole { first: bool, last: bool },
}

/// Node → cluster part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromNode {
    Register {
        info: NodeInfo,
        sources: Vec<SourceStatus>,
        /// The greatest that it has seen.
        epoch_max: Epoch,
    },
    /// One refresh of one exchange, or a part of it.
    Update {
        query: QueryId,
        place: Place,
        exchange: ExchangeId,
        tick_ms: u64,
        changes: Vec<Change>,
    },
    /// Everything that the node admitted for the query up to `tick_ms` has been sent.
    Progress {
        query: QueryId,
        place: Place,
        tick_ms: u64,
        complete_to_unix_ns: i64,
        covers_from_unix_ns: i64,
        /// Event times of some rows admitted since the last progress: what freshness is measured by.
        event_samples_unix_ns: Vec<i64>,
        /// How many `Losses` were told before.
        losses_told: u64,
        /// How many `Entities`.
        entities_told: u64,
    },
    /// About once a second: the node lives, and these are its counters.
    Status {
        tick_ms: u64,
        tables: Vec<TableStatus>,
        sources: Vec<SourceStatus>,
        /// What → how often a queue of the node refused it. Whoever was concerned was told.
        refused_total: Vec<(String, u64)>,
        /// What runs on it, so that orders that were lost can be given again.
        running: Vec<(QueryId, Epoch)>,
        /// Table functions that it answers.
        functions: Vec<String>,
        epoch_max: Epoch,
        losses_told: u64,
        entities_told: u64,
        /// What became of the last orders to its sources.
        ordered: Vec<(OrderId, OrderOutcome)>,
        /// What the operators of the feeds that run on it have done; of more than
        /// [`FIGURES_OPERATORS_MAX`] the rest is left out, and counted.
        figures: Vec<QueryFigures>,
        figures_left_out: u64,
    },
    /// What was lost, before the `Progress` of the tick in which it was noticed. `sequence` counts
    /// per node incarnation from 0; `whole`: everything since the node's start, in place of what was
    /// told before.
    Losses { sequence: u64, whole: bool, losses: Vec<Loss> },
    /// Entities that the node knew before the `Progress` of a tick, bounded in bytes. `sequence` counts per
    /// node incarnation from 0. `machine`: if that is new.
    Entities { sequence: u64, part: Entities, machine: Option<Machine>, changes: Vec<EntityChange> },
    /// The query cannot go on on this node.
    Failed { query: QueryId, epoch: Epoch, message: String },
    /// The node stops in an orderly way.
    Leave,
    /// What the node knows of a table function now, in place of what it said before. `sequence` counts
    /// the answers of a life, so that one that is late is not taken for the newest.
    Answer { sequence: u64, function: String, rows: Vec<PackedRow> },
    /// Functions left something out of what the query showed at `tick_ms` and before: reason and count, more
    /// than was told. Comes before the `Progress` of that tick.
    Cuts { query: QueryId, place: Place, tick_ms: u64, cuts: Vec<(String, u64)> },
    /// The node's engine has died, of `query` if it was working on one. Everything is installed again
    /// once the node has registered anew.
    EngineDied { query: Option<QueryId> },
    /// An [`FromNode::Update`] whose changes were left in the process of the cluster part that read it. No node says
    /// this: that process tells the first one ([`crate::relay`]).
    Deposited { query: QueryId, place: Place, exchange: ExchangeId, tick_ms: u64, at: Deposit },
}
