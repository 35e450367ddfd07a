//! Joins: both sides' rows by their packed key columns, and what a tick's changes make of them.
//!
//! With `l`, `r` the changes of a key's sides and `L`, `R` what was there before, the result changes by
//! `l × R + (L + l) × r`. A left or outer join adds the rows of a side whose key has no row on the other
//! side, with zeros for the missing columns.
//!
//! This is an operator of our own rather than differential's join: a key that many rows share makes a
//! product, which must be made a slice at a time, in bytes, and given up in the middle when the query ends.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use timely::dataflow::operators::Concatenate;
use weir_types::PackedRow;
use weir_types::plan::{JoinKind, Side};
use weir_types::row::RowReader;
use weir_types::value::DataType;

use super::aggregate::pick;
use super::between::between;
use super::runs::{Runs, Waiting};
use super::sliced::sliced;
use super::tick::{Emit, Progress, TickLogic, Timed, tick_operator};
use super::{RowStream, route};
use crate::budget::Fuel;
use crate::prepare::{JoinSpec, packed_zeros};
use crate::query::{Env, OpError};
use crate::weigh;

/// A row of one side with its key: (key, whether it is of the right side, row). In that order a key's changes
/// come together.
type Sided = (PackedRow, bool, PackedRow);

impl Timed for (Sided, u64, i64) {
    type Item = (Sided, i64);
    fn split(self, _least_ms: u64) -> (u64, (Sided, i64)) {
        (self.1, (self.0, self.2))
    }
}

pub(super) fn join<'s>(
    env: &Rc<Env>,
    left: RowStream<'s>,
    right: RowStream<'s>,
    spec: &JoinSpec,
) -> RowStream<'s> {
    let scope = left.scope();
    let left = keyed(env, left, false, &spec.left_types, &spec.left_on);
    let right = keyed(env, right, true, &spec.right_types, &spec.right_on);
    let both = scope.concatenate([left, right]);
    let exchange = between(env, |(sided, _, _): &(Sided, u64, i64)| route(&sided.0.0));
    tick_operator(env, both, exchange, "Join", Join::new(spec))
}

type SidedStream<'s> = timely::dataflow::Stream<'s, u64, Vec<(Sided, u64, i64)>>;

fn keyed<'s>(
    env: &Rc<Env>,
    rows: RowStream<'s>,
    is_right: bool,
    types: &[DataType],
    on: &[usize],
) -> SidedStream<'s> {
    let (types, on, limits) = (types.to_vec(), on.to_vec(), env.limits().clone());
    let weigh = |(row, _, diff): &(PackedRow, u64, i64)| weigh::row_change(row, *diff);
    sliced(env, rows, "JoinKeys", weigh, move |_, rows, keyed| {
        let mut fuel = Fuel::new(&limits);
        while !fuel.is_empty()
            && let Some((row, tick_ms, diff)) = rows.pop_front()
        {
            fuel.burn(row.0.len());
            let key = PackedRow(pick(&row, &types, &on).ok_or(OpError::Row("Join"))?);
            keyed.push(((key, is_right, row), tick_ms, diff));
        }
        Ok(())
    })
}

/// The rows of one side, by key.
#[derive(Default)]
struct Rows {
    rows: BTreeMap<(PackedRow, PackedRow), i64>,
    bytes: usize,
}

fn entry_bytes(key: &PackedRow, row: &PackedRow) -> usize {
    (size_of::<(PackedRow, PackedRow, i64)>()) * 3 / 2
        + key.0.len()
        + row.0.len()
        + 2 * weigh::HEAP_BYTES
}

impl Rows {
    /// The rows of a key, after one of them.
    fn of<'a>(
        &'a self,
        key: &'a PackedRow,
        after: Option<PackedRow>,
    ) -> impl Iterator<Item = (&'a PackedRow, i64)> {
        let from = match after {
            Some(row) => Bound::Excluded((key.clone(), row)),
            None => Bound::Included((key.clone(), PackedRow::default())),
        };
        let rows = self.rows.range((from, Bound::Unbounded));
        rows.take_while(move |((of, _), _)| of == key).map(|((_, row), &count)| (row, count))
    }

    /// The key's row before one of them: going on after it begins with that one.
    fn before(&self, key: &PackedRow, row: &PackedRow) -> Option<PackedRow> {
        let before = self.rows.range(..(key.clone(), row.clone())).next_back();
        before.filter(|((of, _), _)| of == key).map(|((_, row), _)| row.clone())
    }

    fn has(&self, key: &PackedRow) -> bool {
        self.of(key, None).next().is_some()
    }

    fn change(&mut self, key: &PackedRow, row: &PackedRow, diff: i64) {
        let entry = (key.clone(), row.clone());
        if let Some(count) = self.rows.get_mut(&entry) {
            *count += diff;
            if *count == 0 {
                self.rows.remove(&entry);
                self.bytes -= entry_bytes(key, row);
            }
        } else {
            self.bytes += entry_bytes(key, row);
            self.rows.insert(entry, diff);
        }
    }
}

/// What is left to do for a change of one row.
enum Step {
    /// Pair it with the other side's rows, after one of them.
    Pair(Option<PackedRow>),
    /// The other side's rows are no longer alone, or are now, after one of them.
    Alone { after: Option<PackedRow>, sign: i64 },
}

/// A change that is being worked on.
struct Current {
    sided: Sided,
    diff: i64,
    step: Step,
}

struct Join {
    spec: JoinSpec,
    /// Zeros for a row's missing left columns, in an outer join, and right columns, unless it is an inner one.
    zeros: [Option<PackedRow>; 2],
    /// Left and right.
    sides: [Rows; 2],
    current: Option<Current>,
    /// Rows of a key's side that go: after those that come, so that a row that is replaced does not leave the
    /// other side alone in between.
    gone: Vec<(Sided, i64)>,
    gone_bytes: usize,
    /// The first change after those.
    next: Option<(Sided, i64)>,
}

impl Join {
    fn new(spec: &JoinSpec) -> Join {
        let zeros =
            |types: &[DataType], is_needed: bool| is_needed.then(|| PackedRow(packed_zeros(types)));
        let of_left = zeros(&spec.left_types, matches!(spec.how, JoinKind::Outer));
        let of_right =
            zeros(&spec.right_types, matches!(spec.how, JoinKind::Left | JoinKind::Outer));
        Join {
            spec: spec.clone(),
            zeros: [of_left, of_right],
            sides: Default::default(),
            current: None,
            gone: Vec::new(),
            gone_bytes: 0,
            next: None,
        }
    }

    fn pop(&mut self, input: &mut Runs<Sided>) -> Option<(Sided, i64)> {
        while let Some((sided, diff)) = self.next.take().or_else(|| input.pop()) {
            let belongs = self
                .gone
                .last()
                .is_none_or(|(other, _)| (&other.0, other.1) == (&sided.0, sided.1));
            if !belongs {
                self.next = Some((sided, diff));
                break;
            }
            if diff > 0 {
                return Some((sided, diff));
            }
            let gone = (sided, diff);
            self.gone_bytes += weigh::item(&gone);
            self.gone.push(gone);
        }
        let gone = self.gone.pop();
        if self.gone.is_empty() {
            self.gone_bytes = 0;
        }
        gone
    }

    /// Begins with a changed row: alone if it is, else with its pairs.
    fn begin(&mut self, sided: Sided, diff: i64, emit: &mut Emit) -> Result<(), OpError> {
        let (key, is_right, row) = &sided;
        let (own, other) = (usize::from(*is_right), usize::from(!is_right));
        if !self.sides[other].has(key)
            && let Some(zeros) = &self.zeros[other]
        {
            emit.row(self.glue(own, row, zeros)?, diff);
        }
        self.current = Some(Current { sided, diff, step: Step::Pair(None) });
        Ok(())
    }

    /// Goes on with the row that is being worked on. True: it is done.
    fn go_on(&mut self, emit: &mut Emit, fuel: &mut Fuel) -> Result<bool, OpError> {
        let Some(mut current) = self.current.take() else { return Ok(true) };
        let own = usize::from(current.sided.1);
        loop {
            let is_through = match &mut current.step {
                Step::Pair(after) => {
                    self.pair(own, &current.sided, current.diff, after, emit, fuel)?
                }
                Step::Alone { after, sign } => {
                    self.alone(1 - own, &current.sided.0, *sign, after, emit, fuel)?
                }
            };
            if !is_through {
                self.current = Some(current);
                return Ok(false);
            }
            if matches!(current.step, Step::Alone { .. }) {
                return Ok(true);
            }
            let (key, _, row) = &current.sided;
            let was = self.sides[own].has(key);
            self.sides[own].change(key, row, current.diff);
            let is = self.sides[own].has(key);
            if was == is || self.zeros[own].is_none() {
                return Ok(true);
            }
            current.step = Step::Alone { after: None, sign: if is { -1 } else { 1 } };
        }
    }

    /// Pairs a changed row with the rows of the other side. True: with all.
    fn pair(
        &self,
        own: usize,
        sided: &Sided,
        diff: i64,
        after: &mut Option<PackedRow>,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<bool, OpError> {
        let (key, _, own_row) = sided;
        for (row, count) in self.sides[1 - own].of(key, after.take()) {
            if fuel.is_empty() {
                // It went one too far, so that it need not copy where it stands for every row.
                *after = self.sides[1 - own].before(key, row);
                return Ok(false);
            }
            let glued = self.glue(own, own_row, row)?;
            fuel.burn(glued.0.len());
            emit.row(glued, diff.checked_mul(count).ok_or(OpError::Copies("Join"))?);
        }
        Ok(true)
    }

    /// Tells that the rows of a key on one side are alone (1) or no longer (-1). True: all are told.
    fn alone(
        &self,
        side: usize,
        key: &PackedRow,
        sign: i64,
        after: &mut Option<PackedRow>,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<bool, OpError> {
        let Some(zeros) = &self.zeros[1 - side] else { return Ok(true) };
        for (row, count) in self.sides[side].of(key, after.take()) {
            if fuel.is_empty() {
                *after = self.sides[side].before(key, row);
                return Ok(false);
            }
            fuel.burn(row.0.len());
            emit.row(self.glue(side, row, zeros)?, sign * count);
        }
        Ok(true)
    }

    /// The chosen columns of a row of a side and one of the other.
    fn glue(&self, own: usize, row: &PackedRow, other: &PackedRow) -> Result<PackedRow, OpError> {
        let (left, right) = if own == 0 { (row, other) } else { (other, row) };
        let glued = || {
            let left = columns_of(&left.0, &self.spec.left_types)?;
            let right = columns_of(&right.0, &self.spec.right_types)?;
            let chosen = |&(side, idx): &(Side, usize)| match side {
                Side::Left => left[idx],
                Side::Right => right[idx],
            };
            let len = self.spec.columns.iter().map(|column| chosen(column).len()).sum();
            let mut out = Vec::with_capacity(len);
            self.spec.columns.iter().for_each(|column| out.extend_from_slice(chosen(column)));
            Some(PackedRow(out))
        };
        glued().ok_or(OpError::Row("Join"))
    }
}

fn columns_of<'a>(row: &'a [u8], types: &[DataType]) -> Option<Vec<&'a [u8]>> {
    let mut reader = RowReader::new(row);
    types.iter().map(|&ty| reader.next_raw(ty)).collect()
}

impl TickLogic for Join {
    type Waiting = Runs<Sided>;

    fn work(
        &mut self,
        _tick_ms: u64,
        input: &mut Runs<Sided>,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        loop {
            if self.current.is_some() && !self.go_on(emit, fuel)? {
                return Ok(Progress::More);
            }
            if fuel.is_empty() {
                return Ok(Progress::More);
            }
            let Some((sided, diff)) = self.pop(input) else { return Ok(Progress::Done) };
            fuel.burn(sided.2.0.len());
            self.begin(sided, diff, emit)?;
        }
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.bytes).sum::<usize>() + self.gone_bytes
    }

    fn give_up(self) -> Box<dyn Send> {
        Box::new((self.sides, self.gone))
    }
}
