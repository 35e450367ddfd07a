//! What sources hand out, count and are told: plain values, of which many cross the bus. What a source does
//! is `weir_sources::source`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::Upid;

/// What a source counts of one table, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableCounters {
    /// Reason → what we failed to see or to keep, in the reason's unit ([`crate::ledger::REASONS`]);
    /// `unpaired` counts the exchanges of which we lost one half.
    pub lost_total: BTreeMap<String, u64>,
    /// Requests that the peer never answered: not lost, there was nothing to see.
    pub unanswered_total: u64,
    /// Responses that nobody had asked for (a server's 408 before it closes): not lost either.
    pub unasked_total: u64,
    /// Rows that wait for metadata now.
    pub metadata_held_count: u64,
}

impl TableCounters {
    /// Adds what another source counts of the table.
    pub fn add(&mut self, other: &TableCounters) {
        for (reason, count) in &other.lost_total {
            *self.lost_total.entry(reason.clone()).or_default() += count;
        }
        self.unanswered_total += other.unanswered_total;
        self.unasked_total += other.unasked_total;
        self.metadata_held_count += other.metadata_held_count;
    }
}

/// A process whose bytes pass by capture: they are lost, and this says whose they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindProcess {
    pub pid: u32,
    /// `io_uring`, `compat32` or `unseen`.
    pub reason: String,
    pub bytes: u64,
}

/// Number of an order to a node's sources: ascending over all lives of whoever gives it, never used twice.
pub type OrderId = u64;

/// Addresses, processes or filters of one kind that an order may name: as many as the kernel's lists of
/// filters have room for.
pub const ORDER_ITEMS_MAX: usize = 1_024;

/// What a node's sources are told while they run. Each is the same the second time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceOrder {
    /// Capture this from now on, in place of what was captured before.
    SetFilters(CaptureFilters),
    /// Find out what these addresses are called.
    Resolve { addresses: Vec<IpAddr> },
    /// Find out which libraries these processes have.
    ListLibraries { processes: Vec<Upid> },
}

impl SourceOrder {
    /// Why nobody would take it: it names too much.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let items = match self {
            SourceOrder::SetFilters(filters) => {
                filters.pids.len().max(filters.ports.len()).max(filters.cgroup_ids.len())
            }
            SourceOrder::Resolve { addresses } => addresses.len(),
            SourceOrder::ListLibraries { processes } => processes.len(),
        };
        (items > ORDER_ITEMS_MAX)
            .then(|| format!("it names {items} of a kind, {ORDER_ITEMS_MAX} are allowed"))
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderOutcome {
    Done,
    Refused {
        reason: String,
    },
    /// Something that others do.
    NotMine,
}

impl OrderOutcome {
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> OrderOutcome {
        OrderOutcome::Refused { reason: reason.into() }
    }
}

/// What to capture: what matches any of the lists; all empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureFilters {
    pub pids: BTreeSet<u32>,
    /// Local or remote.
    pub ports: BTreeSet<u16>,
    /// cgroup v2 ids, not their descendants.
    pub cgroup_ids: BTreeSet<u64>,
}

impl CaptureFilters {
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.pids.is_empty() && self.ports.is_empty() && self.cgroup_ids.is_empty()
    }

    /// Whether something passes that these former ones kept out.
    #[must_use]
    pub fn passes_more_than(&self, former: &CaptureFilters) -> bool {
        !former.is_everything()
            && (self.is_everything()
                || !self.pids.is_subset(&former.pids)
                || !self.ports.is_subset(&former.ports)
                || !self.cgroup_ids.is_subset(&former.cgroup_ids))
    }

    /// As `--trace` takes them, but for control groups, which are told by their ids.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let pids = self.pids.iter().map(|pid| format!("pid:{pid}"));
        let ports = self.ports.iter().map(|port| format!("port:{port}"));
        let cgroups = self.cgroup_ids.iter().map(|id| format!("cgroup:{id}"));
        pids.chain(ports).chain(cgroups).collect()
    }
}

/// Rows of one table, handed on whole.
pub struct TableBatch {
    pub table: String,
    pub batch: RecordBatch,
    /// They were held back for metadata: their age says nothing about the way they came.
    pub waited: bool,
}
