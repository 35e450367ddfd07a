//! Rows between their arrival and the tick that admits them. Here it is decided, once and before
//! history and engine, which rows are taken in: what a running query does not see, a later one does
//! not find in history either.
//!
//! It keeps no time of its own, and does not know who reads the rows.

use std::collections::BTreeMap;

use arrow_array::BooleanArray;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_select::filter::filter_record_batch;
use weir_types::RecordBatch;
use weir_types::clock::FUTURE_NS_MAX;

/// Bytes of rows that wait for their tick: what the engine takes at once at most. Beyond it batches
/// are dropped and counted.
pub(crate) const OPEN_BYTES_MAX: u64 = 256 << 20;

/// What a closed tick admits, and what it does not.
#[derive(Default)]
pub(crate) struct Admitted {
    pub(crate) rows: Vec<(String, RecordBatch)>,
    /// (table, reason) → rows
    pub(crate) lost: BTreeMap<(String, &'static str), u64>,
}

pub(crate) struct Admission {
    open: Admitted,
    open_bytes: u64,
    open_bytes_max: u64,
}

impl Admission {
    pub(crate) fn new(open_bytes_max: u64) -> Admission {
        Admission { open: Admitted::default(), open_bytes: 0, open_bytes_max }
    }

    /// Takes rows in for the next tick.
    pub(crate) fn take(&mut self, table: &str, batch: RecordBatch) {
        if batch.num_rows() == 0 {
            return;
        }
        if times_of(&batch).is_none() {
            self.open.lose(table, "no_time", batch.num_rows());
            return;
        }
        let bytes = batch.get_array_memory_size() as u64;
        if self.open_bytes.saturating_add(bytes) > self.open_bytes_max {
            self.open.lose(table, "admission_full", batch.num_rows());
            return;
        }
        self.open_bytes += bytes;
        self.open.rows.push((table.to_string(), batch));
    }

    /// What came since the last tick, without the rows that are too far ahead of this one.
    pub(crate) fn close(&mut self, tick_unix_ns: i64) -> Admitted {
        self.open_bytes = 0;
        let Admitted { rows, lost } = std::mem::take(&mut self.open);
        let mut admitted = Admitted { rows: Vec::with_capacity(rows.len()), lost };
        let latest_unix_ns = tick_unix_ns.saturating_add(FUTURE_NS_MAX);
        for (table, batch) in rows {
            let rows = batch.num_rows();
            let batch = without_future(batch, latest_unix_ns);
            let kept = batch.as_ref().map_or(0, RecordBatch::num_rows);
            admitted.lose(&table, "future", rows - kept);
            admitted.rows.extend(batch.map(|batch| (table, batch)));
        }
        admitted
    }
}

impl Admitted {
    fn lose(&mut self, table: &str, reason: &'static str, rows: usize) {
        if rows > 0 {
            *self.lost.entry((table.to_string(), reason)).or_default() += rows as u64;
        }
    }
}

fn times_of(batch: &RecordBatch) -> Option<&[i64]> {
    let column = batch.column_by_name("time_")?;
    Some(column.as_primitive_opt::<TimestampNanosecondType>()?.values())
}

/// The rows up to `latest_unix_ns`; `None` if there are none.
fn without_future(batch: RecordBatch, latest_unix_ns: i64) -> Option<RecordBatch> {
    let times = times_of(&batch)?;
    if times.iter().all(|&time| time <= latest_unix_ns) {
        return Some(batch);
    }
    let keep: BooleanArray = times.iter().map(|&time| Some(time <= latest_unix_ns)).collect();
    // A mask of the batch's own length fits.
    filter_record_batch(&batch, &keep).ok().filter(|kept| kept.num_rows() > 0)
}

#[cfg(test)]
mod tests {
    use weir_types::tables;

    use super::*;

    fn batch(times: &[i64]) -> RecordBatch {
        let mut builder = tables::find("stirling_error").unwrap().builder();
        for &time in times {
            builder.int64(0, time);
            builder.uint128(1, 0);
            builder.string(2, b"test");
            builder.int64(3, 0);
            builder.string(4, b"");
            builder.string(5, b"");
            builder.end_row();
        }
        builder.finish()
    }

    /// Rows far ahead of the tick, rows without a time and rows beyond the room are dropped and
    /// counted, all others come out once. Catches what history keeps and the engine drops.
    #[test]
    fn decides_once_what_is_taken_in() {
        const TICK: i64 = 1_000_000_000_000;
        let mut admission = Admission::new(OPEN_BYTES_MAX);
        admission.take("t", batch(&[TICK, TICK + FUTURE_NS_MAX, TICK + FUTURE_NS_MAX + 1]));
        admission.take("t", batch(&[TICK + 2 * FUTURE_NS_MAX]));
        admission.take("u", batch(&[0]).project(&[2, 3]).unwrap());
        let Admitted { rows, lost } = admission.close(TICK);
        assert_eq!(rows.iter().map(|(_, batch)| batch.num_rows()).collect::<Vec<_>>(), [2]);
        let lost: Vec<_> =
            lost.iter().map(|((table, reason), rows)| (table.as_str(), *reason, *rows)).collect();
        assert_eq!(lost, [("t", "future", 2), ("u", "no_time", 1)]);
        let Admitted { rows, lost } = admission.close(TICK + 1);
        assert!(rows.is_empty() && lost.is_empty());

        let bytes = batch(&[0; 100]).get_array_memory_size() as u64;
        let mut admission = Admission::new(3 * bytes);
        (0..5).for_each(|_| admission.take("t", batch(&[0; 100])));
        let Admitted { rows, lost } = admission.close(TICK);
        assert_eq!((rows.len(), lost[&("t".to_string(), "admission_full")]), (3, 200));
        admission.take("t", batch(&[0; 100]));
        assert_eq!(admission.close(TICK).rows.len(), 1, "there is room again");
    }
}
