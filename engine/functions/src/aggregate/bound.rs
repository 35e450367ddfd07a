//! An aggregate over one batch: columns looked up once, rows added one by one, or all in one loop.

use std::cell::RefCell;
use std::cmp::Ordering;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_buffer::BooleanBuffer;
use weir_types::acc::{self, Acc};
use weir_types::batch::{StrColumn, push_packed, value_at};
use weir_types::{DataType, RecordBatch, Value, row};

use super::column::Accs;
use super::{AggFn, AggKind};
use crate::operand::int_slice;
use crate::scalar::request_path;

/// Adds the rows of one batch.
pub struct BoundAgg<'a>(Bound<'a>);

enum Bound<'a> {
    Rows,
    Ints(&'a [i64]),
    Times(&'a [i64]),
    Floats(&'a [f64]),
    Bools(&'a BooleanBuffer),
    Any {
        times: Option<&'a [i64]>,
        values: &'a ArrayRef,
        data_type: DataType,
    },
    Bag(Bag<'a>),
    /// The batch is not what the call says, which a compiled plan rules out: nothing is added.
    Misfit,
}

/// Argument tuples; `text` is set in place of `columns` for request paths, which are cut first.
struct Bag<'a> {
    columns: Vec<(&'a ArrayRef, DataType)>,
    /// NaN is not a number that `min` and `max` could give.
    numbers: Option<&'a [f64]>,
    paths: Option<StrColumn<'a>>,
    scratch: RefCell<Vec<u8>>,
}

impl<'a> BoundAgg<'a> {
    pub(super) fn new(agg: &'a AggFn, batch: &'a RecordBatch) -> BoundAgg<'a> {
        let bound = bind(agg, batch).unwrap_or(Bound::Misfit);
        debug_assert!(!matches!(bound, Bound::Misfit), "batch does not fit {agg:?}");
        BoundAgg(bound)
    }

    /// Adds every row of the batch, row *i* to the accumulator `slots[i]`: one tight loop a kind.
    pub(super) fn add_rows(&self, column: &mut Accs, slots: &[u32]) {
        match (&self.0, column) {
            (Bound::Rows, Accs::Counts(counts)) => {
                slots.iter().for_each(|&slot| counts[slot as usize] += 1);
            }
            (Bound::Bools(bits), Accs::Counts(counts)) => {
                let rows = slots.iter().zip(bits.iter());
                rows.for_each(|(&slot, bit)| counts[slot as usize] += i64::from(bit));
            }
            (Bound::Ints(values), Accs::Sums(sums)) => {
                for (&slot, &value) in slots.iter().zip(*values) {
                    let sum = &mut sums[slot as usize];
                    *sum = sum.wrapping_add(value);
                }
            }
            (Bound::Ints(values), Accs::Quantiles(sketches)) => {
                let rows = slots.iter().zip(*values);
                rows.for_each(|(&slot, &value)| sketches[slot as usize].add_i64(value));
            }
            (Bound::Floats(values), Accs::Quantiles(sketches)) => {
                let rows = slots.iter().zip(*values);
                rows.for_each(|(&slot, &value)| sketches[slot as usize].add_f64(value));
            }
            (_, Accs::Others(accs)) => {
                for (row, &slot) in slots.iter().enumerate() {
                    self.add(&mut accs[slot as usize], row, 1);
                }
            }
            _ => debug_assert!(false, "the accumulators are of another call"),
        }
    }

    /// Adds the row `diff` times (negative: takes it back, which `Min`, `Max` and `Any` cannot).
    #[inline]
    pub fn add(&self, acc: &mut Acc, row: usize, diff: i64) {
        match (&self.0, acc) {
            (Bound::Rows, Acc::Count(count)) => *count += diff,
            (Bound::Bools(bits), Acc::Count(count)) => *count += i64::from(bits.value(row)) * diff,
            (Bound::Ints(values), Acc::SumInt(sum)) => {
                *sum = sum.wrapping_add(values[row].wrapping_mul(diff));
            }
            (Bound::Ints(values), Acc::Quantiles(sketch)) => sketch.add_i64(values[row], diff),
            (Bound::Ints(values), Acc::MeanInt { sum, count }) => {
                *sum += i128::from(values[row]) * i128::from(diff);
                *count += diff;
            }
            (Bound::Bools(bits), Acc::MeanInt { sum, count }) => {
                *sum += i128::from(bits.value(row)) * i128::from(diff);
                *count += diff;
            }
            (Bound::Floats(values), Acc::SumFloat(sum)) => sum.add_times(values[row], diff),
            (Bound::Floats(values), Acc::MeanFloat { sum, count }) => {
                sum.add_times(values[row], diff);
                *count += diff;
            }
            (Bound::Floats(values), Acc::Quantiles(sketch)) => sketch.add_f64(values[row], diff),
            (bound, Acc::Min(best)) => bound.keep_best(best, row, Ordering::Less),
            (bound, Acc::Max(best)) => bound.keep_best(best, row, Ordering::Greater),
            (Bound::Any { times, values, data_type }, Acc::Any(first)) => {
                keep_first(first, times.map_or(0, |times| times[row]), || {
                    value_at(values, *data_type, row)
                });
            }
            (Bound::Bag(bag), Acc::Bag(tuples)) => bag.add(tuples, row, diff),
            _ => debug_assert!(false, "the accumulator is of another call"),
        }
    }
}

impl Bound<'_> {
    #[inline]
    fn keep_best(&self, best: &mut Option<Value>, row: usize, wanted: Ordering) {
        let better = match (self, &*best) {
            (Bound::Ints(values), Some(Value::Int64(best)))
            | (Bound::Times(values), Some(Value::Time64Ns(best))) => {
                values[row].cmp(best) == wanted
            }
            (Bound::Floats(values), Some(Value::Float64(best))) => {
                !values[row].is_nan() && values[row].total_cmp(best) == wanted
            }
            (Bound::Floats(values), None) => !values[row].is_nan(),
            (_, have) => have.is_none(),
        };
        if better {
            *best = match self {
                Bound::Ints(values) => Some(Value::Int64(values[row])),
                Bound::Times(values) => Some(Value::Time64Ns(values[row])),
                Bound::Floats(values) => Some(Value::Float64(values[row])),
                _ => None,
            };
        }
    }
}

/// The value is looked at only where the time does not decide.
#[inline]
fn keep_first(first: &mut Option<(i64, Value)>, time: i64, value: impl FnOnce() -> Option<Value>) {
    let order = first.as_ref().map_or(Ordering::Less, |(have, _)| time.cmp(have));
    if order == Ordering::Greater {
        return;
    }
    if let Some(value) = value()
        && (order == Ordering::Less || first.as_ref().is_none_or(|(_, have)| value < *have))
    {
        *first = Some((time, value));
    }
}

impl Bag<'_> {
    fn add(&self, tuples: &mut acc::Bag, row: usize, diff: i64) {
        if self.numbers.is_some_and(|numbers| numbers[row].is_nan()) {
            return;
        }
        let mut tuple = self.scratch.borrow_mut();
        tuple.clear();
        if let Some(paths) = self.paths {
            row::push_str(&mut tuple, request_path::cut(paths.value(row)));
        } else {
            for (array, data_type) in &self.columns {
                push_packed(&mut tuple, array, *data_type, row);
            }
        }
        tuples.add(&tuple, diff);
    }
}

fn bind<'a>(agg: &'a AggFn, batch: &'a RecordBatch) -> Option<Bound<'a>> {
    let column = |idx: usize| batch.columns().get(idx);
    let first = || column(*agg.args.first()?);
    if agg.bag {
        let mut columns = Vec::with_capacity(agg.args.len() + 1);
        if let Some(time) = agg.time {
            columns.push((column(time)?, DataType::Time64Ns));
        }
        for (&arg, &data_type) in agg.args.iter().zip(&agg.arg_types) {
            columns.push((column(arg)?, data_type));
        }
        let best = matches!(agg.kind, AggKind::Min | AggKind::Max);
        let numbers = match agg.value_type() {
            DataType::Float64 if best => Some(floats(first()?)?),
            _ => None,
        };
        let paths = match agg.kind {
            AggKind::RequestPaths => Some(StrColumn::of(first()?)?),
            _ => None,
        };
        return Some(Bound::Bag(Bag { columns, numbers, paths, scratch: RefCell::default() }));
    }
    Some(match agg.kind {
        AggKind::Count => Bound::Rows,
        AggKind::SumBool | AggKind::MeanBool => Bound::Bools(first()?.as_boolean_opt()?.values()),
        AggKind::SumInt | AggKind::MeanInt | AggKind::QuantilesInt => {
            Bound::Ints(int_slice(first()?)?)
        }
        AggKind::SumFloat | AggKind::MeanFloat | AggKind::QuantilesFloat => {
            Bound::Floats(floats(first()?)?)
        }
        AggKind::Min | AggKind::Max => match agg.value_type() {
            DataType::Float64 => Bound::Floats(floats(first()?)?),
            DataType::Time64Ns => Bound::Times(int_slice(first()?)?),
            _ => Bound::Ints(int_slice(first()?)?),
        },
        AggKind::Any => {
            let times = match agg.time {
                Some(time) => Some(int_slice(column(time)?)?),
                None => None,
            };
            Bound::Any { times, values: first()?, data_type: agg.value_type() }
        }
        AggKind::Pprof | AggKind::RequestPaths | AggKind::Kmeans => return None,
    })
}

fn floats(array: &ArrayRef) -> Option<&[f64]> {
    Some(array.as_primitive_opt::<Float64Type>()?.values())
}
