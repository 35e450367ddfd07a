//! The greatest n rows by (event time, row), or without an event time the smallest n by row. All
//! rows are kept in order on one worker, since any of them can move up when others leave.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use differential_dataflow::consolidation::consolidate;
use timely::dataflow::channels::pact::Exchange;
use weir_types::PackedRow;

use super::RowStream;
use super::aggregate::pick;
use super::tick::{Emit, TickLogic, tick_operator};
use crate::prepare::LimitSpec;
use crate::query::{Env, OpError};

pub(super) fn limit<'s>(
    env: &Rc<Env>,
    stream: RowStream<'s>,
    spec: &LimitSpec,
    hash: u64,
) -> RowStream<'s> {
    let exchange = Exchange::new(move |_: &(PackedRow, u64, i64)| hash);
    let (spec, bytes) = (spec.clone(), 0);
    if spec.time.is_some() {
        let (rows, top) = (BTreeMap::new(), Vec::new());
        tick_operator(env, stream, exchange, "Limit", Limit::<Newest> { spec, rows, top, bytes })
    } else {
        let (rows, top) = (BTreeMap::new(), Vec::new());
        tick_operator(env, stream, exchange, "Limit", Limit::<Least> { spec, rows, top, bytes })
    }
}

/// The order of rows: the first n are wanted.
trait Rank: Ord + Clone + 'static {
    fn new(spec: &LimitSpec, row: PackedRow) -> Option<Self>;
    fn row(&self) -> &PackedRow;
}

/// Packed bytes sort like values, so the packed time ranks as the time does.
type Newest = Reverse<(Vec<u8>, PackedRow)>;
type Least = PackedRow;

impl Rank for Newest {
    fn new(spec: &LimitSpec, row: PackedRow) -> Option<Newest> {
        let time = pick(&row, &spec.types, spec.time.as_slice())?;
        Some(Reverse((time, row)))
    }
    fn row(&self) -> &PackedRow {
        &self.0.1
    }
}

impl Rank for Least {
    fn new(_spec: &LimitSpec, row: PackedRow) -> Option<Least> {
        Some(row)
    }
    fn row(&self) -> &PackedRow {
        self
    }
}

struct Limit<R> {
    spec: LimitSpec,
    rows: BTreeMap<R, i64>,
    /// What was told last, in order.
    top: Vec<(R, i64)>,
    bytes: usize,
}

const ROW_BYTES: usize = 80;

impl<R: Rank> Limit<R> {
    /// True if a change at `rank` can change the first n.
    fn matters(&self, rank: &R) -> bool {
        let told: i64 = self.top.iter().map(|(_, count)| count).sum();
        let is_full = u64::try_from(told).is_ok_and(|told| told >= self.spec.rows_max);
        !is_full || self.top.last().is_some_and(|(last, _)| rank <= last)
    }

    fn first_rows(&self) -> Vec<(R, i64)> {
        let mut left = i64::try_from(self.spec.rows_max).unwrap_or(i64::MAX);
        let mut top = Vec::new();
        for (rank, &count) in &self.rows {
            if left <= 0 {
                break;
            }
            let taken = count.min(left);
            if taken > 0 {
                top.push((rank.clone(), taken));
                left -= taken;
            }
        }
        top
    }
}

impl<R: Rank> TickLogic for Limit<R> {
    type Item = (PackedRow, i64);

    fn run(
        &mut self,
        _tick_ms: u64,
        mut input: Vec<(PackedRow, i64)>,
        emit: &mut Emit,
    ) -> Result<(), OpError> {
        consolidate(&mut input);
        let mut changes = Vec::with_capacity(input.len());
        for (row, diff) in input {
            changes.push((R::new(&self.spec, row).ok_or(OpError::Row("Limit"))?, diff));
        }
        // The least rank decides whether anything can change at all.
        let least = changes.iter().map(|(rank, _)| rank).min();
        let matters = least.is_some_and(|least| self.matters(least));
        for (rank, diff) in changes {
            let row_bytes = ROW_BYTES + rank.row().0.len();
            let count = self.rows.entry(rank.clone()).or_insert(0);
            let was = *count;
            *count += diff;
            let is = *count;
            if is == 0 {
                self.rows.remove(&rank);
            }
            match (was, is) {
                (0, _) => self.bytes += row_bytes,
                (_, 0) => self.bytes -= row_bytes,
                _ => {}
            }
        }
        if matters {
            let new = self.first_rows();
            let gone = self.top.drain(..).map(|(rank, count)| (rank, -count));
            let mut changed: Vec<(R, i64)> = gone.chain(new.iter().cloned()).collect();
            consolidate(&mut changed);
            changed.into_iter().for_each(|(rank, diff)| emit.row(rank.row().clone(), diff));
            self.top = new;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }
}
