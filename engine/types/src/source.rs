//! What a source of rows is to the node that runs it. A source has a thread of its own: it may block
//! for some milliseconds, and a panic in it ends nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

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

/// Rows of one table, handed on whole.
pub struct TableBatch {
    pub table: &'static str,
    pub batch: RecordBatch,
    /// They were held back for metadata: their age says nothing about the way they came.
    pub waited: bool,
}

/// A running source.
pub trait Source: Send {
    /// Takes in what is there. Called at least every [`Source::poll_interval`], and right before
    /// every `flush`.
    fn poll(&mut self, now_unix_ns: i64);

    /// Hands out every row that is whole by now.
    fn flush(&mut self, now_unix_ns: i64, out: &mut Vec<TableBatch>);

    /// Per table, what did not become a row.
    fn counters(&self) -> BTreeMap<String, TableCounters>;

    /// Parts of it that do not run, and why; empty if all do.
    fn missing(&self) -> String;

    /// Processes of which it sees nothing or not all; a bounded list.
    fn blind(&self) -> Vec<BlindProcess> {
        Vec::new()
    }

    /// What it counts beside losses, since its start: for those who ask why it costs or shows what it does.
    fn counts(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// What it was told to look at (`pid:7`, `port:80`, `cgroup:4711`); empty: everything.
    fn filters(&self) -> Vec<String> {
        Vec::new()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(20)
    }

    /// Waits for something to take in, `at_most` so long: until the next flush.
    fn wait(&mut self, at_most: Duration) {
        std::thread::park_timeout(self.poll_interval().min(at_most));
    }
}
