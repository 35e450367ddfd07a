//! Filters and maps: on batches in the node part, on changes of packed rows in the cluster part.
//!
//! An expression over the row alone maps a retraction to what it mapped the insertion to. One that
//! reads metadata or the clock does not, so `Recompute` remembers what each live row became, and
//! looks at all rows again when the metadata or the clock have moved.
//!
//! What a row costs is not known before: a slice has as many rows as the last ones suggest. If that was
//! too much ([`weir_functions::work`]), what was made of it is thrown away and fewer are tried in the next slice.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_select::filter::filter_record_batch;
use timely::dataflow::channels::pact::Pipeline;
use weir_functions::{EvalCtx, work};
use weir_types::batch::{RecordBatch, batch_of, pack_rows, unpack_rows};
use weir_types::metadata::MetadataSnapshot;
use weir_types::{Clock, PackedRow};

use super::runs::{Runs, Waiting};
use super::sliced::sliced;
use super::tick::{Emit, Progress, TickLogic, tick_operator};
use super::{BatchStream, NodeBatch, RowStream};
use crate::api::TEST_PANIC_LITERAL;
use crate::budget::{Fuel, Pace};
use crate::prepare::{Depends, RowSpec};
use crate::query::{Env, OpError, TestDeath};
use crate::weigh;

impl RowSpec {
    fn name(&self) -> &'static str {
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
            return Ok(match keep.true_count() {
                0 => None,
                all if all == batch.rows.num_rows() => Some(batch),
                _ => Some(batch.with(filter_record_batch(&batch.rows, &keep)?)),
            });
        }
        Ok(Some(batch.with(self.map(ctx, &batch.rows)?)))
    }

    fn map(&self, ctx: &EvalCtx, batch: &RecordBatch) -> Result<RecordBatch, OpError> {
        let arrays: Result<Vec<_>, _> =
            self.exprs.iter().map(|expr| expr.eval(ctx, batch)).collect();
        Ok(batch_of(&self.output, arrays?, batch.num_rows()))
    }

    /// What each row becomes; `None` for a row that a filter leaves out.
    fn rows<'a>(
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
                batch = step.map(ctx, &batch)?;
                continue;
            }
            let keep = step.exprs[0].eval_filter(ctx, &batch)?;
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

fn packed_bytes(results: &[Option<PackedRow>]) -> usize {
    results.iter().flatten().map(|row| row.0.len()).sum()
}

/// Evaluates so many rows, and learns from it how many the next ones should be. `None`: these were too many.
fn paced<T>(
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
    pace: Pace,
    /// The tick that is being worked on.
    current: Option<Walk>,
    bytes: usize,
    last_ms: Option<u64>,
}

/// A tick: all rows are looked at anew with the same clock and metadata.
struct Walk {
    ctx: EvalCtx,
    /// The last row that was; `None` before the first.
    after: Option<PackedRow>,
    is_through: bool,
    /// Changes that are to be taken in next.
    part: VecDeque<(PackedRow, i64)>,
}

fn live_bytes(row: &PackedRow, result: Option<&PackedRow>) -> usize {
    (size_of::<PackedRow>() + size_of::<Live>()) * 3 / 2
        + weigh::HEAP_BYTES
        + row.0.len()
        + result.map_or(0, |result| weigh::HEAP_BYTES + result.0.len())
}

impl Recompute {
    fn new(env: &Rc<Env>, spec: &RowSpec) -> Recompute {
        Recompute {
            env: Rc::clone(env),
            spec: spec.clone(),
            rows: BTreeMap::new(),
            metadata: env.metadata(),
            pace: Pace::new(env.limits()),
            current: None,
            bytes: 0,
            last_ms: None,
        }
    }

    fn metadata_moved(&self) -> bool {
        !Arc::ptr_eq(&self.metadata, &self.env.metadata())
    }

    fn begin(&mut self, tick_ms: u64) -> Walk {
        self.last_ms = Some(tick_ms);
        let moves = self.spec.depends == Depends::Clock || self.metadata_moved();
        let ctx = self.env.ctx(tick_ms);
        self.metadata = Arc::clone(&ctx.metadata);
        Walk { ctx, after: None, is_through: !moves, part: VecDeque::new() }
    }

    /// Takes in changed rows: those that are known, and as many others as can be evaluated at once.
    fn apply(&mut self, walk: &mut Walk, emit: &mut Emit) -> Result<(), OpError> {
        let bytes = walk.part.iter().map(|(row, _)| row.0.len());
        let count = self.pace.count(bytes, self.env.limits()).min(walk.part.len());
        let mut new: Vec<(PackedRow, i64)> = Vec::new();
        for (row, diff) in walk.part.drain(..count) {
            if let Some(unknown) = self.apply_known(row, diff, emit) {
                new.push(unknown);
            }
        }
        let evaluate = || self.spec.rows(&walk.ctx, new.iter().map(|(row, _)| row));
        let made = |results: &Vec<_>| packed_bytes(results);
        let results = paced(&self.env, &mut self.pace, new.len(), evaluate, made)?;
        let Some(results) = results else {
            new.into_iter().rev().for_each(|change| walk.part.push_front(change));
            return Ok(());
        };
        for ((row, count), result) in new.into_iter().zip(results) {
            if let Some(result) = &result {
                emit.row(result.clone(), count);
            }
            self.bytes += live_bytes(&row, result.as_ref());
            self.rows.insert(row, Live { count, result });
        }
        Ok(())
    }

    /// Changes how often a row is there; gives it back if it is not known.
    fn apply_known(
        &mut self,
        row: PackedRow,
        diff: i64,
        emit: &mut Emit,
    ) -> Option<(PackedRow, i64)> {
        let mut entry = match self.rows.entry(row) {
            btree_map::Entry::Occupied(entry) => entry,
            btree_map::Entry::Vacant(slot) => return Some((slot.into_key(), diff)),
        };
        entry.get_mut().count += diff;
        if entry.get().count != 0 {
            if let Some(result) = &entry.get().result {
                emit.row(result.clone(), diff);
            }
            return None;
        }
        let (row, live) = entry.remove_entry();
        self.bytes -= live_bytes(&row, live.result.as_ref());
        if let Some(result) = live.result {
            emit.row(result, diff);
        }
        None
    }

    /// Looks at the next rows anew.
    fn recompute(&mut self, walk: &mut Walk, emit: &mut Emit) -> Result<(), OpError> {
        let after = walk.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let bytes = self.rows.range((after, Bound::Unbounded)).map(|(row, _)| row.0.len());
        let count = self.pace.count(bytes, self.env.limits());
        let rest = self.rows.range_mut((after, Bound::Unbounded));
        let mut part: Vec<(&PackedRow, &mut Live)> = rest.take(count).collect();
        let Some((last, _)) = part.last() else {
            walk.is_through = true;
            return Ok(());
        };
        let last = (*last).clone();
        let evaluate = || self.spec.rows(&walk.ctx, part.iter().map(|(row, _)| *row));
        let made = |results: &Vec<_>| packed_bytes(results);
        let results = paced(&self.env, &mut self.pace, part.len(), evaluate, made)?;
        let Some(results) = results else { return Ok(()) };
        walk.after = Some(last);
        for ((row, live), result) in part.iter_mut().zip(results) {
            if live.result == result {
                continue;
            }
            self.bytes += live_bytes(row, result.as_ref());
            self.bytes -= live_bytes(row, live.result.as_ref());
            if let Some(old) = std::mem::replace(&mut live.result, result) {
                emit.row(old, -live.count);
            }
            if let Some(new) = &live.result {
                emit.row(new.clone(), live.count);
            }
        }
        Ok(())
    }
}

impl TickLogic for Recompute {
    type Waiting = Runs<PackedRow>;

    fn work(
        &mut self,
        tick_ms: u64,
        input: &mut Runs<PackedRow>,
        emit: &mut Emit,
        _fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        let mut walk = match self.current.take() {
            Some(walk) => walk,
            None => self.begin(tick_ms),
        };
        if !walk.is_through {
            self.recompute(&mut walk, emit)?;
            if !walk.is_through {
                self.current = Some(walk);
                return Ok(Progress::More);
            }
        }
        let limits = self.env.limits();
        let mut bytes: usize = walk.part.iter().map(|(row, _)| row.0.len()).sum();
        while walk.part.len() < self.pace.rows(0, limits) && bytes < limits.slice_bytes_max {
            let Some((row, diff)) = input.pop() else { break };
            bytes += row.0.len();
            walk.part.push_back((row, diff));
        }
        if walk.part.is_empty() {
            return Ok(Progress::Done);
        }
        self.apply(&mut walk, emit)?;
        self.current = Some(walk);
        Ok(Progress::More)
    }

    fn due(&self) -> Option<u64> {
        let moves = self.spec.depends == Depends::Clock || self.metadata_moved();
        let last_ms = self.last_ms.filter(|_| moves && !self.rows.is_empty())?;
        Some(last_ms + self.env.query.refresh_ms)
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn give_up(self) -> Box<dyn Send> {
        Box::new(self.rows)
    }
}
