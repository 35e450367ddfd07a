//! The recent past of each table, as the batches that came, within a byte budget: what a new query
//! is back-filled from.
//!
//! Batches have sequence numbers per table. A [`Cursor`] covers the batches that exist when it is
//! made; rows that come later reach the query live, so a back-fill neither misses nor repeats any.
//! The oldest batches are dropped when a table is over its budget; what that costs is counted and
//! told ([`History::covers_from`]). It does no locking and knows nothing of queries.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use weir_types::batch::RecordBatch;
use weir_types::clock::tick_unix_ns;
use weir_types::tables;

use crate::queue::PushedBatch;

/// Default for all tables together.
pub const HISTORY_BYTES_DEFAULT: u64 = 512 << 20;

/// How much a table holds and lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableHistoryStats {
    pub table: String,
    pub rows: u64,
    pub bytes: u64,
    pub budget_bytes: u64,
    pub dropped_rows: u64,
    /// Rows that could not be kept at all: they have no event time.
    pub refused_rows: u64,
    /// Batches that are there.
    pub batches: u64,
    pub batches_added: u64,
    pub batches_dropped: u64,
    pub bytes_added: u64,
    /// The smallest event time that is there.
    pub time_min_unix_ns: Option<i64>,
}

#[derive(Default)]
struct TableHistory {
    /// With the tick that admitted them.
    batches: VecDeque<(u64, PushedBatch)>,
    /// Of the oldest batch.
    first_sequence: u64,
    bytes: u64,
    bytes_added: u64,
    rows: u64,
    dropped_rows: u64,
    refused_rows: u64,
    /// The greatest event time of a dropped row.
    dropped_until_unix_ns: Option<i64>,
    /// The last tick that admitted a dropped batch.
    dropped_admitted_ms: u64,
}

impl TableHistory {
    fn shrink(&mut self, budget_bytes: u64) {
        while self.bytes > budget_bytes
            && let Some((admitted_ms, batch)) = self.batches.pop_front()
        {
            self.dropped_admitted_ms = self.dropped_admitted_ms.max(admitted_ms);
            let rows = batch.rows.num_rows() as u64;
            self.first_sequence += 1;
            self.bytes -= batch.bytes;
            self.rows -= rows;
            self.dropped_rows += rows;
            let until = self.dropped_until_unix_ns.unwrap_or(i64::MIN);
            self.dropped_until_unix_ns = Some(until.max(batch.time_max_unix_ns));
        }
    }

    fn next_sequence(&self) -> u64 {
        self.first_sequence + self.batches.len() as u64
    }

    fn has_all_after(&self, tick_ms: u64) -> bool {
        let until = self.dropped_until_unix_ns;
        until.is_none_or(|until| {
            until <= tick_unix_ns(tick_ms) && self.dropped_admitted_ms <= tick_ms
        })
    }
}

/// A back-fill in progress over one table.
#[derive(Clone, Debug)]
pub struct Cursor {
    table: Arc<str>,
    next_sequence: u64,
    /// Exclusive.
    end_sequence: u64,
    from_unix_ns: i64,
    /// What was admitted up to this tick, with event times up to it, is had from elsewhere.
    had_to_ms: u64,
    /// Batches that were dropped before the cursor came to them.
    pub missed_batches: u64,
}

impl Cursor {
    /// The same without what was admitted up to a tick and had its time come by then: it is had from elsewhere.
    /// What is dropped of that meanwhile is not missed.
    #[must_use]
    pub fn after(self, had_to_ms: u64) -> Cursor {
        Cursor { had_to_ms, ..self }
    }

    fn wants(&self, admitted_ms: u64, batch: &PushedBatch) -> bool {
        let is_had =
            admitted_ms <= self.had_to_ms && batch.time_max_unix_ns <= tick_unix_ns(self.had_to_ms);
        batch.time_max_unix_ns >= self.from_unix_ns && !(self.had_to_ms > 0 && is_had)
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        self.next_sequence >= self.end_sequence
    }
}

/// All tables of a node.
pub struct History {
    total_bytes: u64,
    tables: BTreeMap<Arc<str>, TableHistory>,
}

impl History {
    /// A history of `total_bytes` in all. `tables` that are expected share it from the start; others
    /// may come later and take their share then.
    #[must_use]
    pub fn new(total_bytes: u64, tables: &[&str]) -> History {
        let tables = tables.iter().map(|&name| (name.into(), TableHistory::default())).collect();
        History { total_bytes, tables }
    }

    /// What a table may hold, as its declaration says; those that are not declared take a share.
    #[must_use]
    pub fn budget_bytes(&self, table: &str) -> u64 {
        self.own_budget_bytes(table).unwrap_or_else(|| self.rest_share_bytes(table))
    }

    fn own_budget_bytes(&self, table: &str) -> Option<u64> {
        tables::find(table)?.history.bytes(self.total_bytes)
    }

    fn rest_share_bytes(&self, table: &str) -> u64 {
        let is_rest = |name: &&Arc<str>| self.own_budget_bytes(name).is_none();
        let known = self.tables.keys().filter(is_rest).count() as u64;
        let sharers = known + u64::from(!self.tables.contains_key(table));
        // Whether they are there or not: none takes what others have already.
        let declared = tables::TABLES.iter();
        let taken: u64 = declared.filter_map(|def| def.history.bytes(self.total_bytes)).sum();
        self.total_bytes.saturating_sub(taken) / sharers.max(1)
    }

    /// Keeps a batch, admitted at a tick, and drops the oldest ones that no longer fit.
    pub fn push(&mut self, table: &str, admitted_ms: u64, batch: RecordBatch) {
        let rows = batch.num_rows() as u64;
        if rows == 0 {
            return;
        }
        let is_new = !self.tables.contains_key(table);
        let history = self.tables.entry(table.into()).or_default();
        match PushedBatch::new(batch) {
            Some(batch) => {
                history.bytes += batch.bytes;
                history.bytes_added += batch.bytes;
                history.rows += rows;
                history.batches.push_back((admitted_ms, batch));
            }
            None => history.refused_rows += rows,
        }
        if is_new {
            // Everybody's share has become smaller.
            let names: Vec<Arc<str>> = self.tables.keys().cloned().collect();
            names.iter().for_each(|name| self.shrink(name));
        } else {
            self.shrink(table);
        }
    }

    fn shrink(&mut self, table: &str) {
        let budget_bytes = self.budget_bytes(table);
        if let Some(history) = self.tables.get_mut(table) {
            history.shrink(budget_bytes);
        }
    }

    /// The event time from which on no row of the table was dropped; `None`: none ever was.
    #[must_use]
    pub fn covers_from(&self, table: &str) -> Option<i64> {
        let until = self.tables.get(table)?.dropped_until_unix_ns?;
        Some(until.saturating_add(1))
    }

    /// True if all is there that was admitted after a tick, or had its time after it.
    #[must_use]
    pub fn has_all_after(&self, table: &str, tick_ms: u64) -> bool {
        self.tables.get(table).is_none_or(|history| history.has_all_after(tick_ms))
    }

    /// A cursor over what is there now of a table, from an event time on.
    #[must_use]
    pub fn cursor(&self, table: &str, from_unix_ns: i64) -> Cursor {
        let (next, end) = self
            .tables
            .get(table)
            .map_or((0, 0), |history| (history.first_sequence, history.next_sequence()));
        Cursor {
            table: table.into(),
            next_sequence: next,
            end_sequence: end,
            from_unix_ns,
            had_to_ms: 0,
            missed_batches: 0,
        }
    }

    /// Lets a cursor go on over what has come since it was made.
    pub fn extend(&self, cursor: &mut Cursor) {
        let end = self.tables.get(&*cursor.table).map_or(0, TableHistory::next_sequence);
        cursor.end_sequence = cursor.end_sequence.max(end);
    }

    /// The cursor's next batches with the ticks that admitted them, at least one and about so many rows or
    /// bytes. Batches that lie wholly before the cursor's event time are passed over; others come whole.
    /// Empty: it is done.
    #[must_use]
    pub fn next_slice(
        &self,
        cursor: &mut Cursor,
        rows_max: usize,
        bytes_max: u64,
    ) -> Vec<(u64, RecordBatch)> {
        let mut slice = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let Some(history) = self.tables.get(&*cursor.table) else { return slice };
        let first = history.first_sequence.min(cursor.end_sequence);
        if cursor.next_sequence < first {
            if !history.has_all_after(cursor.had_to_ms) {
                cursor.missed_batches += first - cursor.next_sequence;
            }
            cursor.next_sequence = first;
        }
        while !cursor.is_done() && rows < rows_max && bytes < bytes_max {
            let at = cursor.next_sequence - history.first_sequence;
            cursor.next_sequence += 1;
            let batch = usize::try_from(at).ok().and_then(|at| history.batches.get(at));
            let Some((admitted_ms, batch)) = batch else { continue };
            if cursor.wants(*admitted_ms, batch) {
                rows += batch.rows.num_rows();
                bytes += batch.bytes;
                slice.push((*admitted_ms, batch.rows.clone()));
            }
        }
        slice
    }

    #[must_use]
    pub fn stats(&self) -> Vec<TableHistoryStats> {
        self.tables
            .iter()
            .map(|(name, history)| TableHistoryStats {
                table: name.to_string(),
                rows: history.rows,
                bytes: history.bytes,
                budget_bytes: self.budget_bytes(name),
                dropped_rows: history.dropped_rows,
                refused_rows: history.refused_rows,
                batches: history.batches.len() as u64,
                batches_added: history.next_sequence(),
                batches_dropped: history.first_sequence,
                bytes_added: history.bytes_added,
                time_min_unix_ns: history.batches.iter().map(|(_, b)| b.time_min_unix_ns).min(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use weir_types::schema::{Column, Relation};
    use weir_types::value::{DataType, SemanticType};
    use weir_types::{BatchBuilder, RecordBatch};

    use super::*;

    fn batch(times: &[i64]) -> RecordBatch {
        let column = Column::new("time_", DataType::Time64Ns, SemanticType::None);
        let mut builder = BatchBuilder::new(&Relation::new(vec![column]));
        for &time in times {
            builder.int64(0, time);
            builder.end_row();
        }
        builder.finish()
    }

    /// The newest batches stay, the loss is counted and told: catches a budget that is not kept, and
    /// a wrong end of coverage.
    #[test]
    fn drops_the_oldest_within_the_budget() {
        let mut history = History::new(1 << 20, &["let_events"]);
        let one = PushedBatch::new(batch(&[0; 1000])).unwrap().bytes;
        let fits = history.budget_bytes("let_events") / one;
        assert!(fits > 3, "the test needs a few batches to fit");
        assert_eq!(history.covers_from("let_events"), None);
        let total = fits as i64 + 2;
        for number in 0..total {
            history.push("let_events", 0, batch(&[number; 1000]));
        }
        let stats = &history.stats()[0];
        assert_eq!((stats.rows, stats.dropped_rows), (fits * 1000, 2000));
        assert_eq!(
            (stats.batches, stats.batches_dropped, stats.batches_added),
            (fits, 2, fits + 2)
        );
        assert_eq!((stats.time_min_unix_ns, stats.bytes_added), (Some(2), (fits + 2) * one));
        assert!(stats.bytes <= stats.budget_bytes);
        assert_eq!(history.covers_from("let_events"), Some(2));
    }

    /// Live rows after the cursor was made are not replayed, older batches than wanted are passed
    /// over, and dropped ones are told: catches a gap or a double count between back-fill and live.
    #[test]
    fn a_cursor_sees_what_was_there() {
        let mut history = History::new(1 << 20, &[]);
        (0..4).for_each(|number| history.push("t", 0, batch(&[number * 10])));
        let mut cursor = history.cursor("t", 15);
        history.push("t", 0, batch(&[99]));
        let first = history.next_slice(&mut cursor, 1, u64::MAX);
        let rest = history.next_slice(&mut cursor, 1000, u64::MAX);
        assert_eq!(first.iter().chain(&rest).count(), 2);
        assert!(cursor.is_done() && history.next_slice(&mut cursor, 1, u64::MAX).is_empty());

        let mut cursor = history.cursor("t", 0);
        let big = history.budget_bytes("t") as usize / 8;
        history.push("t", 0, batch(&vec![100; big]));
        assert!(history.next_slice(&mut cursor, 1000, u64::MAX).is_empty());
        assert_eq!(cursor.missed_batches, 5);
    }

    /// The shares of the design, whatever else is there.
    #[test]
    fn budgets() {
        let history = History::new(1000 << 20, &["http_events", "dns_events", "mysql_events"]);
        assert_eq!(history.budget_bytes("http_events"), 400 << 20);
        assert_eq!(history.budget_bytes("stirling_error"), 1 << 20);
        assert_eq!(history.budget_bytes("proc_exit_events"), 10 << 20);
        assert_eq!(history.budget_bytes("data_loss"), 1 << 20);
        assert_eq!(history.budget_bytes("dns_events"), (563 << 20) / 2);
        let sum: u64 = history.stats().iter().map(|stats| stats.budget_bytes).sum();
        assert!(sum <= 1000 << 20);
    }
}
