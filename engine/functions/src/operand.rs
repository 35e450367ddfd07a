//! What a kernel sees: its arguments as columns or constants, and the context.
//!
//! The evaluator has checked types before a kernel runs, so typed access cannot fail; a panic here
//! would be a bug in the registry, which a test over all overloads rules out.

use std::any::Any;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType};
use arrow_array::{ArrayRef, FixedSizeBinaryArray};
use arrow_buffer::BooleanBuffer;
use weir_types::Value;
use weir_types::batch::StrColumn;

use crate::EvalCtx;

/// What was made of literal arguments once, such as a compiled pattern.
pub(crate) type Constants = Arc<dyn Any + Send + Sync>;

/// One argument or result: the same value for all rows, or one value a row.
#[derive(Clone)]
pub(crate) enum Operand {
    Scalar(Value),
    Array(ArrayRef),
}

/// A column of plain numbers, or one number for all rows.
#[derive(Clone, Copy)]
pub(crate) enum Prim<'a, T> {
    Const(T),
    Slice(&'a [T]),
}

impl<T: Copy> Prim<'_, T> {
    #[inline]
    pub(crate) fn get(self, row: usize) -> T {
        match self {
            Prim::Const(value) => value,
            Prim::Slice(values) => values[row],
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum BoolCol<'a> {
    Const(bool),
    Bits(&'a BooleanBuffer),
}

impl BoolCol<'_> {
    #[inline]
    pub(crate) fn get(self, row: usize) -> bool {
        match self {
            BoolCol::Const(value) => value,
            BoolCol::Bits(bits) => bits.value(row),
        }
    }
    pub(crate) fn to_buffer(self, rows: usize) -> BooleanBuffer {
        match self {
            BoolCol::Const(true) => BooleanBuffer::new_set(rows),
            BoolCol::Const(false) => BooleanBuffer::new_unset(rows),
            BoolCol::Bits(bits) => bits.clone(),
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum StrCol<'a> {
    Const(&'a [u8]),
    Column(StrColumn<'a>),
}

impl<'a> StrCol<'a> {
    #[inline]
    pub(crate) fn get(self, row: usize) -> &'a [u8] {
        match self {
            StrCol::Const(value) => value,
            StrCol::Column(column) => column.value(row),
        }
    }
    pub(crate) fn constant(self) -> Option<&'a [u8]> {
        match self {
            StrCol::Const(value) => Some(value),
            StrCol::Column(_) => None,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum U128Col<'a> {
    Const(u128),
    Array(&'a FixedSizeBinaryArray),
}

impl U128Col<'_> {
    #[inline]
    pub(crate) fn get(self, row: usize) -> u128 {
        match self {
            U128Col::Const(value) => value,
            U128Col::Array(array) => array.value(row).try_into().map_or(0, u128::from_be_bytes),
        }
    }
}

/// One call of a kernel.
pub(crate) struct Call<'a> {
    pub(crate) ctx: &'a EvalCtx,
    pub(crate) args: &'a [Operand],
    pub(crate) rows: usize,
    pub(crate) prepared: Option<&'a Constants>,
}

const CHECKED: &str = "the evaluator checks argument types against the overload";

impl<'a> Call<'a> {
    /// INT64 or TIME64NS.
    pub(crate) fn int(&self, idx: usize) -> Prim<'a, i64> {
        match &self.args[idx] {
            Operand::Scalar(Value::Int64(v) | Value::Time64Ns(v)) => Prim::Const(*v),
            Operand::Scalar(_) => unreachable!("{CHECKED}"),
            Operand::Array(array) => Prim::Slice(int_slice(array).expect(CHECKED)),
        }
    }
    pub(crate) fn float(&self, idx: usize) -> Prim<'a, f64> {
        match &self.args[idx] {
            Operand::Scalar(Value::Float64(v)) => Prim::Const(*v),
            Operand::Scalar(_) => unreachable!("{CHECKED}"),
            Operand::Array(array) => Prim::Slice(array.as_primitive::<Float64Type>().values()),
        }
    }
    pub(crate) fn bool(&self, idx: usize) -> BoolCol<'a> {
        match &self.args[idx] {
            Operand::Scalar(Value::Boolean(v)) => BoolCol::Const(*v),
            Operand::Scalar(_) => unreachable!("{CHECKED}"),
            Operand::Array(array) => BoolCol::Bits(array.as_boolean().values()),
        }
    }
    pub(crate) fn str(&self, idx: usize) -> StrCol<'a> {
        match &self.args[idx] {
            Operand::Scalar(Value::String(v)) => StrCol::Const(v),
            Operand::Scalar(_) => unreachable!("{CHECKED}"),
            Operand::Array(array) => StrCol::Column(StrColumn::of(array).expect(CHECKED)),
        }
    }
    pub(crate) fn u128(&self, idx: usize) -> U128Col<'a> {
        match &self.args[idx] {
            Operand::Scalar(Value::Uint128(v)) => U128Col::Const(*v),
            Operand::Scalar(_) => unreachable!("{CHECKED}"),
            Operand::Array(array) => U128Col::Array(array.as_fixed_size_binary()),
        }
    }
    /// What the overload's `prepare` made.
    pub(crate) fn prepared<T: Any>(&self) -> &'a T {
        self.prepared
            .and_then(|prepared| prepared.downcast_ref::<T>())
            .expect("the evaluator prepares what the function asks for")
    }
}

/// The numbers of an INT64 or TIME64NS array.
pub(crate) fn int_slice(array: &ArrayRef) -> Option<&[i64]> {
    if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
        return Some(ints.values());
    }
    Some(array.as_primitive_opt::<TimestampNanosecondType>()?.values())
}
