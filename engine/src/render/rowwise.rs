//! Filters and maps: on batches in the node part, on changes of packed rows in the cluster part.
//!
//! An expression over the row alone maps a retraction to what it mapped the insertion to. One that reads metadata or
//! the clock does not: [`super::recompute`] remembers what each live row became.
//!
//! What a row costs is not known before: a slice has as many rows as the last ones suggest. If that was
//! too much ([`weir_functions::work`]), what was made of it is thrown away and fewer are tried in the next slice.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_select::filter::filter_record_batch;
use timely::dataflow::channels::pact::Pipeline;
use weir_functions::{EvalCtx, work};
use weir_types::batch::{RecordBatch, batch_of, pack_rows, unpack_rows};
use weir_types::metadata::reads;
use weir_types::{Clock, PackedRow};

use super::between::between;
use super::recompute::Recompute;
use super::sliced::sliced;
use super::tick::tick_operator;
use super::{BatchStream, NodeBatch, RowStream, route};
use crate::api::TEST_PANIC_LITERAL;
use crate::budget::Pace;
use crate::prepare::{Depends, RowSpec};
use crate::query::{Env, OpError, TestDeath};
use crate::weigh;

impl RowSpec {
    pub(super) fn name(&self) -> &'static str {
        if self.steps().all(|step| step.filter) { "Filter" } else { "Map" }
    }

    fn check_fault(&self) {
        static HAS_KILLED: AtomicBool = AtomicBool::new(false);
        assert!(!self.panics, "test fault: {TEST_PANIC_LITERAL}");
        let kills_once = self.kills && !HAS_KILLED.swap(true, Ordering::Relaxed);
        if kills_once || self.kills_each_time {
            std::panic::panic_any(TestDeath);
        }
    }

    /// The batch filtered or mapped; `None` if nothing is left of it.
    fn batch(&self, ctx: &EvalCtx, batch: NodeBatch) -> Result<Option<NodeBatch>, OpError> {
        self.check_fault();
        if self.filter {
            let keep = self.exprs[0].eval_filter(ctx, &batch.rows)?;
            return Ok(batch.kept(&keep));
        }
        Ok(Some(batch.with(self.map(ctx, &batch.rows)?)))
    }

    fn map(&self, ctx: &EvalCtx, batch: &RecordBatch) -> Result<RecordBatch, OpError> {
        let arrays: Result<Vec<_>, _> =
            self.exprs.iter().map(|expr| expr.eval(ctx, batch)).collect();
        Ok(batch_of(&self.output, arrays?, batch.num_rows()))
    }

    /// What each row becomes; `None` for a row that a filter leaves out. What was asked for is put down row by row.
    pub(super) fn rows<'a>(
        &self,
        ctx: &EvalCtx,
        rows: impl Iterator<Item = &'a PackedRow> + Clone,
    ) -> Result<Vec<Option<PackedRow>>, OpError> {
        let mut batch = unpack_rows(&self.input, rows.clone()).ok_or(OpError::Row("Map"))?;
        // Which of the rows are left in the batch.
        let mut left: Vec<usize> = (0..batch.num_rows()).collect();
        let mut results = vec![None; left.len()];
        for step in self.steps() {
            step.check_fault();
            if !step.filter {
                let (mapped, asked) = reads::during(|| step.map(ctx, &batch));
                put_for_left(asked, &left);
                batch = mapped?;
                continue;
            }
            let (keep, asked) = reads::during(|| step.exprs[0].eval_filter(ctx, &batch));
            put_for_left(asked, &left);
            let keep = keep?;
            if keep.true_count() < left.len() {
                batch = filter_record_batch(&batch, &keep)?;
                let mut is_kept = keep.values().iter();
                left.retain(|_| is_kept.next().unwrap_or(false));
            }
        }
        match self.steps().filter(|step| !step.filter).last() {
            Some(last) => {
                let packed = pack_rows(&batch, &last.output.types());
                left.into_iter().zip(packed).for_each(|(at, row)| results[at] = Some(row));
            }
            None => {
                let mut left = left.into_iter().peekable();
                for (at, row) in rows.enumerate() {
                    results[at] = left.next_if_eq(&at).map(|_| row.clone());
                }
            }
        }
        Ok(results)
    }
}

/// What was asked for rows of a batch was asked for those that they were made of.
fn put_for_left(asked: Option<Vec<reads::Read>>, left: &[usize]) {
    let number = |row: usize| u32::try_from(row).unwrap_or(reads::ALL_ROWS);
    for (row, key) in asked.into_iter().flatten() {
        match left.get(row as usize) {
            Some(&row) => reads::put([(number(row), key)]),
            None => reads::put(left.iter().map(|&row| (number(row), key))),
        }
    }
}

pub(super) fn on_batches<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    spec: &RowSpec,
) -> BatchStream<'s> {
    let (there, spec) = (Rc::clone(env), spec.clone());
    let mut pace = Pace::new(env.limits());
    sliced(env, stream, spec.name(), NodeBatch::bytes, move |tick_ms, batches, done| {
        let Some(batch) = batches.pop_front() else { return Ok(()) };
        let limits = there.limits();
        let rows = batch.rows.num_rows();
        let count = rows.min(pace.rows(batch.bytes() / rows.max(1), limits));
        let ctx = there.ctx(tick_ms);
        let result = paced(
            &there,
            &mut pace,
            count,
            || spec.batch(&ctx, batch.slice(0, count)),
            |result| result.as_ref().map_or(0, NodeBatch::bytes),
        )?;
        let done_rows = if result.is_some() { count } else { 0 };
        if done_rows < rows {
            batches.push_front(batch.slice(done_rows, rows - done_rows));
        }
        done.extend(result.flatten());
        Ok(())
    })
}

pub(super) fn on_rows<'s>(env: &Rc<Env>, stream: RowStream<'s>, spec: &RowSpec) -> RowStream<'s> {
    if spec.depends != Depends::RowOnly {
        let logic = Recompute::new(env, spec);
        let config = &env.engine.config;
        if config.processes() > 1 {
            // Names are known to the first process alone, and who reads the clock may read them, too.
            let knowing = config.workers as u64;
            let to =
                between(env, move |(row, _, _): &(PackedRow, u64, i64)| route(&row.0) % knowing);
            return tick_operator(env, stream, to, spec.name(), logic);
        }
        return tick_operator(env, stream, Pipeline, spec.name(), logic);
    }
    let (there, spec) = (Rc::clone(env), spec.clone());
    let mut pace = Pace::new(env.limits());
    let weigh = |(row, _, diff): &(PackedRow, u64, i64)| weigh::row_change(row, *diff);
    sliced(env, stream, spec.name(), weigh, move |tick_ms, rows, done| {
        let bytes = rows.iter().map(|(row, _, _)| row.0.len());
        let count = pace.count(bytes, there.limits()).min(rows.len());
        let ctx = there.ctx(tick_ms);
        let evaluate = || spec.rows(&ctx, rows.iter().take(count).map(|(row, _, _)| row));
        let results = paced(&there, &mut pace, count, evaluate, |results| packed_bytes(results))?;
        let Some(results) = results else { return Ok(()) };
        let mapped = results.into_iter().zip(rows.drain(..count));
        done.extend(mapped.filter_map(|(row, (_, tick_ms, diff))| Some((row?, tick_ms, diff))));
        Ok(())
    })
}

pub(super) fn packed_bytes(results: &[Option<PackedRow>]) -> usize {
    results.iter().flatten().map(|row| row.0.len()).sum()
}

/// Evaluates so many rows, and learns from it how many the next ones should be. `None`: these were too many.
pub(super) fn paced<T>(
    env: &Env,
    pace: &mut Pace,
    count: usize,
    evaluate: impl FnOnce() -> Result<T, OpError>,
    made_bytes: impl FnOnce(&T) -> usize,
) -> Result<Option<T>, OpError> {
    let start_ns = env.engine.clock.monotonic_ns();
    let Some((result, spent)) = work::within(work::AT_ONCE, count, evaluate) else {
        pace.was_too_much(count);
        return Ok(None);
    };
    let result = result?;
    let spent_ns = env.engine.clock.monotonic_ns().saturating_sub(start_ns);
    pace.learn(count, spent_ns, made_bytes(&result), spent.is_half, env.limits());
    Ok(Some(result))
}
