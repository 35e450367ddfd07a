//! Scan: picks a table's columns, keeps what lies in the window, and gives each row the refresh at
//! which it is to be seen: the one that admits it, or a later one if its time has not come yet.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::BooleanArray;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_select::filter::filter_record_batch;
use timely::dataflow::Scope;
use weir_types::batch::RecordBatch;
use weir_types::clock::tick_unix_ns;

use super::source::{Sink, SourceHandle, Took, source};
use super::{BatchStream, NodeBatch};
use crate::prepare::{ScanSpec, absolute_bounds};
use crate::query::{Env, OpError, QueryShared};
use crate::queue::PushedBatch;

/// A table's batch, the tick that admitted it, and how many of its rows have been looked at.
pub(super) struct Arrived {
    pub(super) batch: Arc<PushedBatch>,
    pub(super) admitted_ms: u64,
    pub(super) from: usize,
}

/// So many slices' bytes of a batch are looked at at once: they are neither copied nor computed with.
const SLICES_AT_ONCE: usize = 4;

pub(super) fn scan<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
    spec: &ScanSpec,
    counts: bool,
) -> (BatchStream<'s>, SourceHandle<Arrived>) {
    let (start_unix_ns, end_unix_ns, before_ns) = absolute_bounds(&spec.window);
    let scan = Scan {
        query: Arc::clone(&env.query),
        spec: spec.clone(),
        start_unix_ns: start_unix_ns.unwrap_or(i64::MIN),
        end_unix_ns: end_unix_ns.unwrap_or(i64::MAX),
        before_ns,
        counts,
    };
    let limits = env.limits();
    let under_way_max = limits.under_way_bytes_max.min(limits.query_state_bytes_max / 8);
    let bytes_max = limits.slice_bytes_max.saturating_mul(SLICES_AT_ONCE) as u64;
    source(scope, env, "Scan", move |tick_ms, arrived: &mut Arrived, sink| {
        // What operators have before them goes first, or it would grow without end while a batch of the
        // history costs nothing to take up.
        if scan.query.holdings.under_way() > under_way_max {
            return Ok(Took::Nothing);
        }
        let (batch, from) = (&arrived.batch, arrived.from);
        let rows = batch.rows.num_rows();
        let row_bytes = (batch.bytes / rows.max(1) as u64).max(1);
        let count = usize::try_from(bytes_max / row_bytes).unwrap_or(rows).clamp(1, rows - from);
        let ticks_ms = [tick_ms, arrived.admitted_ms];
        scan.admit(ticks_ms, batch, &batch.rows.slice(from, count), sink)?;
        arrived.from += count;
        Ok(if arrived.from >= rows { Took::All } else { Took::Part })
    })
}

/// No refresh ever shows the row.
const OUTSIDE: u64 = u64::MAX;

struct Scan {
    query: Arc<QueryShared>,
    spec: ScanSpec,
    /// Inclusive.
    start_unix_ns: i64,
    end_unix_ns: i64,
    /// The window ends this long before now.
    before_ns: i64,
    /// It says how many rows were late.
    counts: bool,
}

impl Scan {
    fn count_late(&self, rows: usize) {
        if self.counts {
            self.query.late_rows.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }

    fn admit(
        &self,
        [tick_ms, admitted_ms]: [u64; 2],
        batch: &PushedBatch,
        part: &RecordBatch,
        sink: &mut Sink<'_, NodeBatch>,
    ) -> Result<(), OpError> {
        sink.took(part.num_rows());
        let rows = self.project(part)?;
        let now_ns = tick_unix_ns(tick_ms).saturating_sub(self.before_ns);
        let first_ns = self.first_at(tick_ms);
        let last_ns = now_ns.min(self.end_unix_ns);
        if batch.time_min_unix_ns >= first_ns && batch.time_max_unix_ns <= last_ns {
            sink.give(tick_ms, &mut vec![NodeBatch::new(rows, admitted_ms)]);
            return Ok(());
        }
        if batch.time_max_unix_ns < first_ns || batch.time_min_unix_ns > self.end_unix_ns {
            self.count_late(rows.num_rows());
            return Ok(());
        }
        let times = part.column(batch.time_idx).as_primitive::<TimestampNanosecondType>();
        let rows = NodeBatch::new(rows, admitted_ms);
        self.admit_one_by_one(tick_ms, times.values(), &rows, sink)
    }

    /// The least event time that the window still holds at a tick.
    fn first_at(&self, tick_ms: u64) -> i64 {
        match self.spec.sliding {
            Some(sliding) => {
                sliding.first_unix_ns_at(tick_unix_ns(tick_ms)).max(self.start_unix_ns)
            }
            None => self.start_unix_ns,
        }
    }

    /// A batch with rows outside the window, or ahead of their time.
    fn admit_one_by_one(
        &self,
        tick_ms: u64,
        times: &[i64],
        rows: &NodeBatch,
        sink: &mut Sink<'_, NodeBatch>,
    ) -> Result<(), OpError> {
        // The refresh of each row.
        let mut outside = 0_usize;
        let ticks: Vec<u64> = times
            .iter()
            .map(|&time| {
                let due_ms = self.query.refresh_from_ns(time.saturating_add(self.before_ns));
                let due_ms = due_ms.max(tick_ms);
                let inside = time >= self.first_at(due_ms) && time <= self.end_unix_ns;
                outside += usize::from(!inside);
                if inside { due_ms } else { OUTSIDE }
            })
            .collect();
        self.count_late(outside);
        let mut distinct = ticks.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for due_ms in distinct.into_iter().filter(|&due_ms| due_ms != OUTSIDE) {
            let mask: BooleanArray = ticks.iter().map(|&tick| Some(tick == due_ms)).collect();
            let part = filter_record_batch(&rows.rows, &mask)?;
            sink.give(due_ms, &mut vec![rows.with(part)]);
        }
        Ok(())
    }

    fn project(&self, batch: &RecordBatch) -> Result<RecordBatch, OpError> {
        let schema = batch.schema_ref();
        let mut indices = Vec::with_capacity(self.spec.columns.len());
        for column in &self.spec.columns {
            let idx = schema.index_of(column).map_err(|_| OpError::Column {
                table: self.spec.table.to_string(),
                column: column.clone(),
            })?;
            indices.push(idx);
        }
        Ok(batch.project(&indices)?)
    }
}
