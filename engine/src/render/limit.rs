//! The greatest n rows by (event time, row), or without an event time the smallest n by row. All
//! rows are kept in order on one worker, since any of them can move up when others leave: the first n in one
//! map, the others in another, and rows move between the two.

use std::cmp::Reverse;
use std::collections::{BTreeMap, btree_map};
use std::rc::Rc;

use weir_types::PackedRow;

use super::RowStream;
use super::between::between;
use super::runs::{Runs, Waiting};
use super::tick::{Emit, Progress, TickLogic, tick_operator};
use crate::budget::Fuel;
use crate::prepare::LimitSpec;
use crate::query::{Env, OpError};
use crate::weigh::{HEAP_BYTES, Weigh};

pub(super) fn limit<'s>(
    env: &Rc<Env>,
    stream: RowStream<'s>,
    spec: &LimitSpec,
    worker: u64,
) -> RowStream<'s> {
    let exchange = between(env, move |_: &(PackedRow, u64, i64)| worker);
    let spec = spec.clone();
    if spec.time.is_some() {
        tick_operator(env, stream, exchange, "Limit", Limit::<Newest>::new(spec))
    } else {
        tick_operator(env, stream, exchange, "Limit", Limit::<Least>::new(spec))
    }
}

/// The order of rows: the first n are wanted.
trait Rank: Ord + Clone + 'static {
    fn new(spec: &LimitSpec, row: PackedRow) -> Option<Self>;
    fn row(&self) -> &PackedRow;
}

type Newest = Reverse<(i64, PackedRow)>;
type Least = PackedRow;

impl Weigh for Newest {
    fn heap_bytes(&self) -> usize {
        self.0.1.0.len() + HEAP_BYTES
    }
}

impl Rank for Newest {
    fn new(spec: &LimitSpec, row: PackedRow) -> Option<Newest> {
        let time_unix_ns = row.i64_at(&spec.types, spec.time?)?;
        Some(Reverse((time_unix_ns, row)))
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
    /// The first n rows: all of them before all others, but for copies of the last, of which some may be
    /// outside.
    inside: BTreeMap<R, i64>,
    inside_count: i64,
    outside: BTreeMap<R, i64>,
    /// How the first n have changed in this tick.
    changed: Runs<PackedRow>,
    /// All input of the tick is in.
    is_sealed: bool,
    bytes: usize,
}

impl<R: Rank + Weigh> Limit<R> {
    fn new(spec: LimitSpec) -> Limit<R> {
        Limit {
            spec,
            inside: BTreeMap::new(),
            inside_count: 0,
            outside: BTreeMap::new(),
            changed: Runs::default(),
            is_sealed: false,
            bytes: 0,
        }
    }

    fn rows_max(&self) -> i64 {
        i64::try_from(self.spec.rows_max).unwrap_or(i64::MAX)
    }

    /// Changes how often a row is there, on the side where it belongs.
    fn apply(&mut self, rank: R, diff: i64) {
        if diff > 0 {
            let is_full = self.inside_count >= self.rows_max();
            let first = self.inside.last_key_value().is_some_and(|(last, _)| rank < *last);
            // Others may have left before, and nobody moved up yet: those outside come first.
            let is_behind = self.outside.first_key_value().is_some_and(|(next, _)| *next <= rank);
            if (is_full && !first) || is_behind {
                self.change_outside(rank, diff);
            } else {
                self.change_inside(rank, diff);
            }
            return;
        }
        // Copies outside go first: that changes nothing for the reader.
        let outside = self.outside.get(&rank).copied().unwrap_or(0).min(-diff).max(0);
        let inside = self.inside.get(&rank).copied().unwrap_or(0).min(-diff - outside);
        if inside > 0 {
            self.change_inside(rank.clone(), -inside);
        }
        if diff + inside != 0 {
            self.change_outside(rank, diff + inside);
        }
    }

    fn change_inside(&mut self, rank: R, diff: i64) {
        self.changed.push((rank.row().clone(), diff));
        self.inside_count += diff;
        change(&mut self.inside, rank, diff, &mut self.bytes);
    }
    fn change_outside(&mut self, rank: R, diff: i64) {
        change(&mut self.outside, rank, diff, &mut self.bytes);
    }

    /// Moves rows until the first n are inside. True: they are.
    fn balance(&mut self, fuel: &mut Fuel) -> bool {
        while !fuel.is_empty() {
            let excess = self.inside_count - self.rows_max();
            if excess > 0 {
                let Some((rank, &count)) = self.inside.last_key_value() else { return true };
                let (rank, moved) = (rank.clone(), count.min(excess));
                fuel.burn(rank.row().0.len());
                self.change_inside(rank.clone(), -moved);
                self.change_outside(rank, moved);
                continue;
            }
            let next = self.outside.iter().find(|&(_, &count)| count > 0);
            let Some((rank, &count)) = next.filter(|_| excess < 0) else { return true };
            let (rank, moved) = (rank.clone(), count.min(-excess));
            fuel.burn(rank.row().0.len());
            self.change_outside(rank.clone(), -moved);
            self.change_inside(rank, moved);
        }
        false
    }
}

fn change<R: Rank + Weigh>(rows: &mut BTreeMap<R, i64>, rank: R, diff: i64, bytes: &mut usize) {
    let entry_bytes = entry_bytes(&rank);
    match rows.entry(rank) {
        btree_map::Entry::Occupied(mut have) => {
            *have.get_mut() += diff;
            if *have.get() == 0 {
                *bytes -= entry_bytes;
                have.remove();
            }
        }
        btree_map::Entry::Vacant(slot) => {
            *bytes += entry_bytes;
            slot.insert(diff);
        }
    }
}

/// By length: what is taken away must be what was added, whichever copy of the row it is asked of.
fn entry_bytes<R: Rank + Weigh>(rank: &R) -> usize {
    (size_of::<R>() + size_of::<i64>()) * 3 / 2 + rank.heap_bytes()
}

impl<R: Rank + Weigh + Send> TickLogic for Limit<R> {
    type Waiting = Runs<PackedRow>;

    fn work(
        &mut self,
        _tick_ms: u64,
        input: &mut Runs<PackedRow>,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        while !fuel.is_empty() && !self.is_sealed {
            match input.pop() {
                Some((row, diff)) => {
                    fuel.burn(row.0.len());
                    let rank = R::new(&self.spec, row).ok_or(OpError::Row("Limit"))?;
                    self.apply(rank, diff);
                }
                None if self.balance(fuel) => {
                    self.changed.seal();
                    self.is_sealed = true;
                }
                None => {}
            }
        }
        while !fuel.is_empty() && self.is_sealed {
            let Some((row, diff)) = self.changed.pop() else {
                self.changed = Runs::default();
                self.is_sealed = false;
                return Ok(Progress::Done);
            };
            fuel.burn(row.0.len());
            emit.row(row, diff);
        }
        Ok(Progress::More)
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.changed.bytes()
    }

    fn give_up(self) -> Box<dyn Send> {
        Box::new((self.inside, self.outside, self.changed))
    }
}
