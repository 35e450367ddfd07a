//! Rows of a process that is not known yet wait for its metadata, but not for long: names are stamped
//! when rows are admitted, and a row without them stays without. All other rows pass at once, also of
//! the same batch. It looks nothing up, and it knows no clock.

use std::collections::BTreeMap;

use arrow_array::BooleanArray;
use arrow_select::filter::filter_record_batch;
use weir_types::batch::u128_at;
use weir_types::source::TableBatch;
use weir_types::{RecordBatch, Upid};

/// How long a row waits at most.
pub(crate) const METADATA_GRACE_NS: i64 = 500_000_000;
/// Rows that wait at most; beyond it rows pass with what is known.
const HELD_ROWS_MAX: usize = 65_536;

struct Held {
    table: String,
    rows: RecordBatch,
    until_unix_ns: i64,
}

#[derive(Default)]
pub(crate) struct Grace {
    held: Vec<Held>,
    /// Table → rows that went on without names because too many waited.
    passed_full: BTreeMap<String, u64>,
}

impl Grace {
    /// Hands out the rows that wait no longer, then those of the new batches that need not wait.
    /// `awaits`: whether a process is still to be known.
    pub(crate) fn pass(
        &mut self,
        batches: Vec<(String, RecordBatch)>,
        now_unix_ns: i64,
        awaits: &mut dyn FnMut(Upid) -> bool,
        out: &mut Vec<TableBatch>,
    ) {
        for held in std::mem::take(&mut self.held) {
            let Held { table, rows, until_unix_ns } = held;
            let over = until_unix_ns <= now_unix_ns;
            let (known, unknown) = if over { (rows, None) } else { split(rows, awaits) };
            if known.num_rows() > 0 {
                out.push(TableBatch { table: table.clone(), batch: known, waited: true });
            }
            self.held.extend(unknown.map(|rows| Held { table, rows, until_unix_ns }));
        }
        let mut room = HELD_ROWS_MAX.saturating_sub(self.rows(|_| true));
        for (table, batch) in batches {
            let (known, unknown) = match split(batch, awaits) {
                (known, Some(unknown)) if unknown.num_rows() > room => {
                    let passed = self.passed_full.entry(table.clone()).or_default();
                    *passed += unknown.num_rows() as u64;
                    out.push(TableBatch { table: table.clone(), batch: unknown, waited: false });
                    (known, None)
                }
                fits => fits,
            };
            if known.num_rows() > 0 {
                out.push(TableBatch { table: table.clone(), batch: known, waited: false });
            }
            if let Some(rows) = unknown {
                room -= rows.num_rows();
                let until_unix_ns = now_unix_ns.saturating_add(METADATA_GRACE_NS);
                self.held.push(Held { table, rows, until_unix_ns });
            }
        }
    }

    /// Whether no row waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Rows of a table that went on without names because too many waited.
    pub(crate) fn passed_full(&self, table: &str) -> u64 {
        self.passed_full.get(table).copied().unwrap_or(0)
    }

    /// Rows of a table that wait now.
    pub(crate) fn held_rows(&self, table: &str) -> u64 {
        self.rows(|held| held == table) as u64
    }

    fn rows(&self, of: impl Fn(&str) -> bool) -> usize {
        self.held.iter().filter(|held| of(&held.table)).map(|held| held.rows.num_rows()).sum()
    }
}

/// The rows that need not wait, and those that do. Tables without processes wait for none.
fn split(
    batch: RecordBatch,
    awaits: &mut dyn FnMut(Upid) -> bool,
) -> (RecordBatch, Option<RecordBatch>) {
    let Some(column) = batch.column_by_name("upid") else { return (batch, None) };
    let mut asked: BTreeMap<Upid, bool> = BTreeMap::new();
    let waits: Vec<bool> = (0..batch.num_rows())
        .map(|row| {
            let upid = u128_at(column, row).map(Upid);
            upid.is_some_and(|upid| *asked.entry(upid).or_insert_with(|| awaits(upid)))
        })
        .collect();
    if !waits.contains(&true) {
        return (batch, None);
    }
    let passes: BooleanArray = waits.iter().map(|waits| Some(!waits)).collect();
    let waits = BooleanArray::from(waits);
    match (filter_record_batch(&batch, &passes), filter_record_batch(&batch, &waits)) {
        (Ok(known), Ok(unknown)) => (known, Some(unknown)),
        // Rows go on without names rather than not at all.
        _ => (batch, None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::errors_at;

    /// Rows of these processes, the k-th with `time_` k.
    fn batch(pids: &[u32]) -> RecordBatch {
        let upids = pids.iter().map(|pid| Upid::new(1, *pid, 1));
        errors_at((0..).zip(upids))
    }

    /// (pid, waited) of what came out.
    fn pass(grace: &mut Grace, pids: &[u32], now: i64, unknown: &[u32]) -> Vec<(u32, bool)> {
        let unknown: BTreeSet<u32> = unknown.iter().copied().collect();
        let mut out = Vec::new();
        let batches = if pids.is_empty() {
            vec![]
        } else {
            vec![("stirling_error".to_string(), batch(pids))]
        };
        grace.pass(batches, now, &mut |upid| unknown.contains(&upid.pid()), &mut out);
        let rows = out.iter().flat_map(|TableBatch { batch, waited, .. }| {
            let upids = batch.column_by_name("upid").unwrap().clone();
            (0..batch.num_rows())
                .map(move |row| (Upid(u128_at(&upids, row).unwrap()).pid(), *waited))
        });
        rows.collect()
    }

    /// A row waits until its process is known or the grace is over, whichever is first, and holds up
    /// no other row; none is lost or doubled. Catches a batch that waits for one of its rows, and
    /// rows of a process that is never known and never come.
    #[test]
    fn rows_wait_for_their_process_only() {
        let mut grace = Grace::default();
        let now = 1_000;
        assert_eq!(pass(&mut grace, &[1, 2, 3, 2], now, &[2, 3]), [(1, false)]);
        assert_eq!(grace.held_rows("stirling_error"), 3);
        assert_eq!(grace.held_rows("http_events"), 0);
        assert_eq!(pass(&mut grace, &[4, 3], now + 10, &[2, 3]), [(4, false)]);
        assert_eq!(pass(&mut grace, &[], now + 20, &[3]), [(2, true), (2, true)]);
        assert_eq!(pass(&mut grace, &[], now + METADATA_GRACE_NS - 1, &[3]), []);
        assert_eq!(pass(&mut grace, &[], now + METADATA_GRACE_NS, &[3]), [(3, true)]);
        assert_eq!(grace.held_rows("stirling_error"), 1);
        assert_eq!(pass(&mut grace, &[], now + METADATA_GRACE_NS + 10, &[3]), [(3, true)]);
        assert_eq!(grace.held_rows("stirling_error"), 0);
    }

    /// No more rows wait than there is room for: others pass with what is known, and are counted.
    #[test]
    fn waiting_rows_are_bounded() {
        let mut grace = Grace::default();
        let many = vec![2; 8_000];
        let mut passed = 0;
        for _ in 0..10 {
            passed += pass(&mut grace, &many, 0, &[2]).len();
        }
        assert_eq!(passed + grace.held_rows("stirling_error") as usize, 80_000);
        assert!(grace.held_rows("stirling_error") as usize <= HELD_ROWS_MAX);
        assert!(passed >= 80_000 - HELD_ROWS_MAX);
        assert_eq!(grace.passed_full("stirling_error") as usize, passed, "each is told");
    }
}
