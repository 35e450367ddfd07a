//! Where a running source puts what it has, and what becomes of that on its thread: rows wait a moment for
//! the names that they need, in this one place; observations go to whoever keeps the names at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_sources::metadata::{Found, Observation};
use weir_sources::source::Output;
use weir_types::RecordBatch;
use weir_types::ledger::METADATA;
use weir_types::source::{TableBatch, TableCounters};

use crate::grace::Grace;
use crate::metadata::{Metadata, Observer};

/// Bytes of rows that a source may hand out between two flushes: what a node admits in a tick. Beyond it
/// batches are dropped and counted.
const ROWS_BYTES_MAX: usize = 256 << 20;

/// See the module's documentation.
pub(super) struct Outlet {
    /// `None`: nobody keeps names, and no row waits for any.
    metadata: Option<(Arc<Metadata>, Observer)>,
    grace: Grace,
    rows: Vec<(String, RecordBatch)>,
    rows_bytes: usize,
    /// Of each table that there were rows of: those that found no room.
    dropped: BTreeMap<String, u64>,
    counters: BTreeMap<String, TableCounters>,
    /// Something was observed since the last mark.
    observed: bool,
}

impl Outlet {
    pub(super) fn new(metadata: Option<Arc<Metadata>>) -> Outlet {
        Outlet {
            metadata: metadata.map(|metadata| (metadata.clone(), metadata.observer())),
            grace: Grace::default(),
            rows: Vec::new(),
            rows_bytes: 0,
            dropped: BTreeMap::new(),
            counters: BTreeMap::new(),
            observed: false,
        }
    }

    /// What goes on to the node after a flush: what was counted, and the rows that need not wait for more
    /// names. Those of the others are asked for.
    pub(super) fn take(
        &mut self,
        now_unix_ns: i64,
    ) -> (BTreeMap<String, TableCounters>, Vec<TableBatch>) {
        if let Some((_, observer)) = &self.metadata
            && std::mem::take(&mut self.observed)
        {
            observer.mark();
        }
        self.rows_bytes = 0;
        let mut out = Vec::new();
        if !self.rows.is_empty() || !self.grace.is_empty() {
            let rows = std::mem::take(&mut self.rows);
            let observer = self.metadata.as_ref().map(|(_, observer)| observer);
            let published = observer.map(Observer::published);
            let observed = &mut self.observed;
            let mut awaits = |upid| {
                let awaits = published.as_ref().is_some_and(|published| published.awaits(upid));
                if let (true, Some(observer)) = (awaits, observer) {
                    observer.observe(Observation::Mentioned(upid));
                    *observed = true;
                }
                awaits
            };
            self.grace.pass(rows, now_unix_ns, &mut awaits, &mut out);
        }
        (self.count(), out)
    }

    /// Adds to what the source counts what happened to its rows here.
    fn count(&mut self) -> BTreeMap<String, TableCounters> {
        let mut counters = std::mem::take(&mut self.counters);
        // Also of tables that the source counts nothing of.
        for table in self.dropped.keys() {
            counters.entry(table.clone()).or_default();
        }
        for (table, counted) in &mut counters {
            if table == METADATA {
                continue;
            }
            let lost = &mut counted.lost_total;
            let dropped = self.dropped.get(table).copied().unwrap_or(0);
            *lost.entry("batches_full".to_string()).or_default() += dropped;
            lost.insert("metadata_grace_full".to_string(), self.grace.passed_full(table));
            counted.metadata_held_count = self.grace.held_rows(table);
        }
        counters
    }
}

impl Output for Outlet {
    fn rows(&mut self, table: &str, batch: RecordBatch) {
        let bytes = batch.get_array_memory_size();
        let fits = self.rows_bytes.saturating_add(bytes) <= ROWS_BYTES_MAX;
        let dropped = if fits { 0 } else { batch.num_rows() as u64 };
        match self.dropped.get_mut(table) {
            Some(before) => *before += dropped,
            None => drop(self.dropped.insert(table.to_string(), dropped)),
        }
        if !fits {
            return;
        }
        self.rows_bytes += bytes;
        self.rows.push((table.to_string(), batch));
    }

    fn counted(&mut self, table: &str, counters: TableCounters) {
        self.counters.insert(table.to_string(), counters);
    }

    fn observe(&mut self, observation: Observation) {
        if let Some((_, observer)) = &self.metadata {
            self.observed = true;
            observer.observe(observation);
        }
    }

    fn found(&mut self, found: Found) {
        if let Some((metadata, _)) = &self.metadata {
            metadata.found(found);
        }
    }
}
