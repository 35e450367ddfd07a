//! Filters and maps: on batches in the node part, on changes of packed rows in the cluster part.
//!
//! An expression over the row alone maps a retraction to what it mapped the insertion to. One that
//! reads metadata or the clock does not, so `Recompute` remembers what each live row became, and
//! looks at all rows again when the metadata or the clock have moved.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_select::filter::filter_record_batch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use weir_functions::EvalCtx;
use weir_types::PackedRow;
use weir_types::batch::{BATCH_ROWS_MAX, RecordBatch, batch_of, pack_rows, unpack_rows};
use weir_types::metadata::MetadataSnapshot;

use super::tick::{Emit, TickLogic, tick_operator};
use super::{BatchStream, RowStream};
use crate::api::TEST_PANIC_LITERAL;
use crate::prepare::{Depends, RowSpec};
use crate::query::{Env, OpError, TestDeath};

impl RowSpec {
    fn name(&self) -> &'static str {
        if self.filter { "Filter" } else { "Map" }
    }

    fn check_fault(&self) {
        static HAS_KILLED: AtomicBool = AtomicBool::new(false);
        assert!(!self.panics, "test fault: {TEST_PANIC_LITERAL}");
        if self.kills && !HAS_KILLED.swap(true, Ordering::Relaxed) {
            std::panic::panic_any(TestDeath);
        }
    }

    /// The batch filtered or mapped; `None` if nothing is left of it.
    fn batch(
        &self,
        ctx: &EvalCtx,
        batch: &Rc<RecordBatch>,
    ) -> Result<Option<Rc<RecordBatch>>, OpError> {
        self.check_fault();
        if self.filter {
            let keep = self.exprs[0].eval_filter(ctx, batch)?;
            return Ok(match keep.true_count() {
                0 => None,
                all if all == batch.num_rows() => Some(Rc::clone(batch)),
                _ => Some(Rc::new(filter_record_batch(batch, &keep)?)),
            });
        }
        Ok(Some(Rc::new(self.map(ctx, batch)?)))
    }

    fn map(&self, ctx: &EvalCtx, batch: &RecordBatch) -> Result<RecordBatch, OpError> {
        let arrays: Result<Vec<_>, _> =
            self.exprs.iter().map(|expr| expr.eval(ctx, batch)).collect();
        Ok(batch_of(&self.output, arrays?, batch.num_rows()))
    }

    /// What each row becomes; `None` for a row that the filter leaves out.
    fn rows<'a>(
        &self,
        ctx: &EvalCtx,
        rows: impl Iterator<Item = &'a PackedRow> + Clone,
    ) -> Result<Vec<Option<PackedRow>>, OpError> {
        self.check_fault();
        let batch = unpack_rows(&self.input, rows.clone()).ok_or(OpError::Row("Map"))?;
        if self.filter {
            let keep = self.exprs[0].eval_filter(ctx, &batch)?;
            let kept = rows.enumerate().map(|(idx, row)| keep.value(idx).then(|| row.clone()));
            return Ok(kept.collect());
        }
        let mapped = self.map(ctx, &batch)?;
        Ok(pack_rows(&mapped, &self.output.types()).into_iter().map(Some).collect())
    }
}

pub(super) fn on_batches<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    spec: &RowSpec,
) -> BatchStream<'s> {
    let (env, spec) = (Rc::clone(env), spec.clone());
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        spec.name(),
        move |capability, _| {
            drop(capability);
            move |input, output| {
                input.for_each(|stamp, data| {
                    let Some(&tick_ms) = stamp.least().filter(|_| env.is_live()) else { return };
                    env.guard(spec.name(), || {
                        let ctx = env.ctx(tick_ms);
                        let mut done = Vec::with_capacity(data.len());
                        for batch in data.drain(..) {
                            done.extend(spec.batch(&ctx, &batch)?);
                        }
                        if !done.is_empty() {
                            output.session(&stamp).give_container(&mut done);
                        }
                        Ok(())
                    });
                });
            }
        },
    )
}

pub(super) fn on_rows<'s>(env: &Rc<Env>, stream: RowStream<'s>, spec: &RowSpec) -> RowStream<'s> {
    if spec.depends != Depends::RowOnly {
        let logic = Recompute {
            env: Rc::clone(env),
            spec: spec.clone(),
            rows: BTreeMap::new(),
            metadata: env.metadata(),
            bytes: 0,
            last_ms: None,
        };
        return tick_operator(env, stream, Pipeline, spec.name(), logic);
    }
    let (env, spec) = (Rc::clone(env), spec.clone());
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        spec.name(),
        move |capability, _| {
            drop(capability);
            move |input, output| {
                input.for_each(|stamp, data| {
                    let Some(&tick_ms) = stamp.least().filter(|_| env.is_live()) else { return };
                    env.guard(spec.name(), || {
                        let ctx = env.ctx(tick_ms);
                        let mut done = Vec::with_capacity(data.len());
                        for part in data.chunks(BATCH_ROWS_MAX) {
                            let rows = spec.rows(&ctx, part.iter().map(|(row, _, _)| row))?;
                            let mapped = rows.into_iter().zip(part);
                            done.extend(mapped.filter_map(|(row, &(_, tick_ms, diff))| {
                                row.map(|row| (row, tick_ms, diff))
                            }));
                        }
                        if !done.is_empty() {
                            output.session(&stamp).give_container(&mut done);
                        }
                        Ok(())
                    });
                });
            }
        },
    )
}

/// A live row: how often it is there, and what it became.
struct Live {
    count: i64,
    result: Option<PackedRow>,
}

struct Recompute {
    env: Rc<Env>,
    spec: RowSpec,
    rows: BTreeMap<PackedRow, Live>,
    /// What the results were computed with.
    metadata: Arc<MetadataSnapshot>,
    bytes: usize,
    last_ms: Option<u64>,
}

const LIVE_BYTES: usize = 96;

impl Recompute {
    fn metadata_moved(&self) -> bool {
        !Arc::ptr_eq(&self.metadata, &self.env.metadata())
    }

    fn apply(
        &mut self,
        ctx: &EvalCtx,
        changes: &[(PackedRow, i64)],
        emit: &mut Emit,
    ) -> Result<(), OpError> {
        let is_new = |row: &PackedRow| !self.rows.contains_key(row);
        let new: Vec<&PackedRow> =
            changes.iter().map(|(row, _)| row).filter(|row| is_new(row)).collect();
        for part in new.chunks(BATCH_ROWS_MAX) {
            let results = self.spec.rows(ctx, part.iter().copied())?;
            for (&row, result) in part.iter().zip(results) {
                self.bytes += LIVE_BYTES + row.0.len() + result.as_ref().map_or(0, |r| r.0.len());
                self.rows.insert(row.clone(), Live { count: 0, result });
            }
        }
        for (row, diff) in changes {
            let Some(live) = self.rows.get_mut(row) else { continue };
            live.count += diff;
            if let Some(result) = &live.result {
                emit.row(result.clone(), *diff);
            }
            if live.count == 0 {
                self.bytes -=
                    LIVE_BYTES + row.0.len() + live.result.as_ref().map_or(0, |r| r.0.len());
                self.rows.remove(row);
            }
        }
        Ok(())
    }

    fn recompute(&mut self, ctx: &EvalCtx, emit: &mut Emit) -> Result<(), OpError> {
        let mut entries: Vec<(&PackedRow, &mut Live)> = self.rows.iter_mut().collect();
        for part in entries.chunks_mut(BATCH_ROWS_MAX) {
            let results = self.spec.rows(ctx, part.iter().map(|(row, _)| *row))?;
            for ((_, live), result) in part.iter_mut().zip(results) {
                if live.result == result {
                    continue;
                }
                let len = |row: &Option<PackedRow>| row.as_ref().map_or(0, |row| row.0.len());
                self.bytes = self.bytes + len(&result) - len(&live.result);
                if let Some(old) = std::mem::replace(&mut live.result, result) {
                    emit.row(old, -live.count);
                }
                if let Some(new) = &live.result {
                    emit.row(new.clone(), live.count);
                }
            }
        }
        Ok(())
    }
}

impl TickLogic for Recompute {
    type Item = (PackedRow, i64);

    fn run(
        &mut self,
        tick_ms: u64,
        mut input: Vec<(PackedRow, i64)>,
        emit: &mut Emit,
    ) -> Result<(), OpError> {
        self.last_ms = Some(tick_ms);
        differential_dataflow::consolidation::consolidate(&mut input);
        let ctx = self.env.ctx(tick_ms);
        if self.spec.depends == Depends::Clock || self.metadata_moved() {
            self.metadata = Arc::clone(&ctx.metadata);
            self.recompute(&ctx, emit)?;
        }
        self.apply(&ctx, &input, emit)
    }

    fn due(&self) -> Option<u64> {
        let moves = self.spec.depends == Depends::Clock || self.metadata_moved();
        let last_ms = self.last_ms.filter(|_| moves && !self.rows.is_empty())?;
        Some(last_ms + self.env.query.refresh_ms)
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }
}
