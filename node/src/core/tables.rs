//! What is told of each table, and the samples that freshness is measured by.

use std::collections::{BTreeMap, BTreeSet};

use weir_proto::message::TableStatus;
use weir_types::RecordBatch;
use weir_types::source::TableCounters;

use super::NodeCore;

/// Event times sampled per refresh, for measuring freshness.
const EVENT_SAMPLES_PER_REFRESH: usize = 16;
/// Samples of not yet closed ticks.
pub(super) const EVENT_SAMPLES_MAX: usize = 1_024;

impl NodeCore {
    pub(super) fn sample(&mut self, table: &str, batch: &RecordBatch) {
        use weir_types::batch::value_at;
        let Some(time) = batch.column_by_name("time_") else { return };
        let room = EVENT_SAMPLES_PER_REFRESH.saturating_sub(self.open_samples.len());
        let step = (batch.num_rows() / room.max(1)).max(1);
        for row in (0..batch.num_rows()).step_by(step).take(room) {
            if let Some(weir_types::Value::Time64Ns(at)) =
                value_at(time, weir_types::DataType::Time64Ns, row)
            {
                self.open_samples.push((table.to_string(), at));
            }
        }
    }

    /// Rows, bytes and losses of each table. Reasons are told before anything is lost for them.
    pub(super) fn table_statuses(
        &self,
        counters: &BTreeMap<String, TableCounters>,
    ) -> Vec<TableStatus> {
        let losses = self.ledger.totals();
        let named = self.rows_total.keys().chain(counters.keys()).chain(losses.keys());
        let names: BTreeSet<&String> = named.collect();
        let held: BTreeMap<String, u64> =
            self.history.as_ref().map_or_else(BTreeMap::new, |history| {
                history.stats().into_iter().map(|stats| (stats.table, stats.bytes)).collect()
            });
        names
            .into_iter()
            .map(|table| {
                let counter = counters.get(table).cloned().unwrap_or_default();
                // Reasons are told before anything is lost for them.
                let mut lost_total: BTreeMap<String, u64> =
                    counter.lost_total.into_keys().map(|reason| (reason, 0)).collect();
                lost_total.extend(losses.get(table).cloned().unwrap_or_default());
                TableStatus {
                    rows_total: self.rows_total.get(table).copied().unwrap_or(0),
                    history_bytes: held.get(table).copied().unwrap_or(0),
                    covers_from_unix_ns: self.covers_from(table),
                    lost_total: lost_total.into_iter().collect(),
                    unanswered_total: counter.unanswered_total,
                    unasked_total: counter.unasked_total,
                    metadata_held_count: counter.metadata_held_count,
                    table: table.clone(),
                }
            })
            .collect()
    }
}
