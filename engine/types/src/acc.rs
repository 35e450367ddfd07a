//! Accumulators: the mergeable state of aggregates, as it stands in panes and travels on exchanges.
//!
//! Wherever they can they form a group, so that expiry is subtraction: counts, sums (floats exactly,
//! see [`FloatSum`]), means, quantile sketches. `Min`, `Max` and `Any` only merge: a window of them
//! is recombined from its panes. `Bag` keeps whole argument tuples with their counts, for inputs
//! that are themselves retracted and for aggregates that must see every value.
//!
//! Which function uses which accumulator, how a row is added and how the result is read is
//! `weir-functions`; this module is arithmetic only.

mod bag;
mod float_sum;
mod sketch;
mod sketch_builder;

use serde::{Deserialize, Serialize};

pub use bag::Bag;
pub use float_sum::FloatSum;
pub use sketch::{Sketch, bucket_midpoint, bucket_of_f64, bucket_of_i64};
pub use sketch_builder::SketchBuilder;

use crate::value::Value;

/// A tuple of a bag is found, read or compared in the time in which so many bytes are copied.
const TUPLE_WALK_BYTES: usize = 64;

/// One aggregate's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Acc {
    /// Rows, or trues.
    Count(i64),
    /// Wrapping.
    SumInt(i64),
    SumFloat(FloatSum),
    /// Exact sum of integers and how many.
    MeanInt {
        sum: i128,
        count: i64,
    },
    MeanFloat {
        sum: FloatSum,
        count: i64,
    },
    Quantiles(Sketch),
    Min(Option<Value>),
    Max(Option<Value>),
    /// The value of the row with the smallest (`time_`, value); time 0 where rows have none.
    Any(Option<(i64, Value)>),
    /// Packed argument tuples (`time_` first where the call has one) → count.
    Bag(Bag),
}

impl Acc {
    /// True if what was merged can be taken away again by [`Acc::subtract`].
    #[must_use]
    pub fn is_group(&self) -> bool {
        !matches!(self, Acc::Min(_) | Acc::Max(_) | Acc::Any(_))
    }

    /// Adds `other`, which must be of the same kind (a plan guarantees it; else nothing happens).
    pub fn merge(&mut self, other: &Acc) {
        self.combine(other, false);
    }

    /// Takes away what an earlier merge of `other` added. Only for groups.
    pub fn subtract(&mut self, other: &Acc) {
        debug_assert!(self.is_group(), "only groups can be subtracted from");
        self.combine(other, true);
    }

    fn combine(&mut self, other: &Acc, take: bool) {
        let sign = if take { -1 } else { 1 };
        match (self, other) {
            (Acc::Count(a), Acc::Count(b)) => *a += sign * b,
            (Acc::SumInt(a), Acc::SumInt(b)) => {
                *a = if take { a.wrapping_sub(*b) } else { a.wrapping_add(*b) };
            }
            (Acc::SumFloat(a), Acc::SumFloat(b)) => a.combine(b, take),
            (Acc::MeanInt { sum, count }, Acc::MeanInt { sum: s, count: c }) => {
                *sum += i128::from(sign) * s;
                *count += sign * c;
            }
            (Acc::MeanFloat { sum, count }, Acc::MeanFloat { sum: s, count: c }) => {
                sum.combine(s, take);
                *count += sign * c;
            }
            (Acc::Quantiles(a), Acc::Quantiles(b)) => a.combine(b, take),
            (Acc::Min(a), Acc::Min(b)) => keep(a, b, std::cmp::Ordering::Less),
            (Acc::Max(a), Acc::Max(b)) => keep(a, b, std::cmp::Ordering::Greater),
            (Acc::Any(a), Acc::Any(b)) => keep(a, b, std::cmp::Ordering::Less),
            (Acc::Bag(a), Acc::Bag(b)) => {
                for (tuple, count) in b.tuples() {
                    a.add(tuple, sign * count);
                }
            }
            (a, b) => debug_assert!(false, "cannot combine {a:?} with {b:?}"),
        }
    }

    /// What walking through it costs, as bytes that are copied: nothing but for those that keep what they
    /// were given. Known without walking.
    #[must_use]
    pub fn walk_bytes(&self) -> usize {
        match self {
            Acc::Bag(bag) => bag.tuples().len() * TUPLE_WALK_BYTES,
            _ => 0,
        }
    }

    /// Bytes that it holds, roughly: for state budgets.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        size_of::<Acc>()
            + match self {
                Acc::SumFloat(sum) | Acc::MeanFloat { sum, .. } => sum.heap_bytes(),
                Acc::Quantiles(sketch) => sketch.heap_bytes(),
                Acc::Min(Some(Value::String(s)))
                | Acc::Max(Some(Value::String(s)))
                | Acc::Any(Some((_, Value::String(s)))) => s.capacity(),
                Acc::Bag(bag) => bag.heap_bytes(),
                _ => 0,
            }
    }
}

fn keep<T: Clone + Ord>(have: &mut Option<T>, new: &Option<T>, wanted: std::cmp::Ordering) {
    if let Some(new) = new
        && have.as_ref().is_none_or(|have| new.cmp(have) == wanted)
    {
        *have = Some(new.clone());
    }
}
