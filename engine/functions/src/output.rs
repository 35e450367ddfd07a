//! Arrays from results: builders for each type, constants spread over rows, results spread over the
//! keys of a dictionary.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, TimestampNanosecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use weir_types::Value;

use crate::cuts::{self, Cut};
use crate::operand::Prim;
use crate::work;

/// Longest text that a function makes; longer ones are cut. A column that is joined with itself in each
/// line would take all memory otherwise, and nothing that is captured is as long.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// Texts of one array: 8,192 rows of the longest bodies that are captured. Offsets have 32 bits.
const TEXT_BYTES_MAX: usize = 256 << 20;

pub(crate) fn ints(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::new(values.into(), None))
}
pub(crate) fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::new(values.into(), None))
}
/// NaNs come out as one NaN: which bits an operation leaves depends on the instruction chosen, and
/// equal rows must be equal to the bit.
pub(crate) fn floats(mut values: Vec<f64>) -> ArrayRef {
    for value in &mut values {
        if value.is_nan() {
            *value = f64::NAN;
        }
    }
    Arc::new(Float64Array::new(values.into(), None))
}
pub(crate) fn bits(values: BooleanBuffer) -> ArrayRef {
    Arc::new(BooleanArray::new(values, None))
}
pub(crate) fn bools(rows: usize, value: impl FnMut(usize) -> bool) -> ArrayRef {
    bits(BooleanBuffer::collect_bool(rows, value))
}
pub(crate) fn u128s(rows: usize, mut value: impl FnMut(usize) -> u128) -> ArrayRef {
    let mut bytes = Vec::with_capacity(rows * 16);
    for row in 0..rows {
        bytes.extend_from_slice(&value(row).to_be_bytes());
    }
    u128_array(bytes, rows)
}
fn u128_array(bytes: Vec<u8>, rows: usize) -> ArrayRef {
    Arc::new(
        FixedSizeBinaryArray::try_new_with_len(16, Buffer::from_vec(bytes), None, rows)
            .expect("sixteen bytes were written per row"),
    )
}

/// `write` appends the text of a row. What is above [`VALUE_BYTES_MAX`] is cut off; texts that would
/// take the array above [`TEXT_BYTES_MAX`] are left empty; both are counted.
pub(crate) fn strings(rows: usize, write: impl FnMut(usize, &mut Vec<u8>)) -> ArrayRef {
    Arc::new(plain_strings(rows, write))
}

pub(crate) fn plain_strings(
    rows: usize,
    mut write: impl FnMut(usize, &mut Vec<u8>),
) -> BinaryArray {
    let mut bytes = Vec::new();
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0i32);
    for row in 0..rows {
        let before = bytes.len();
        if !work::is_wasted() {
            write(row, &mut bytes);
        }
        if bytes.len() - before > VALUE_BYTES_MAX {
            bytes.truncate(before + VALUE_BYTES_MAX);
            cuts::note(Cut::TextBytes, 1);
        }
        if bytes.len() > TEXT_BYTES_MAX || !work::spend_made((bytes.len() - before) as u64) {
            bytes.truncate(before);
            cuts::note(Cut::ColumnBytes, 1);
        }
        offsets.push(i32::try_from(bytes.len()).expect("the text was cut to fit"));
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    BinaryArray::new(offsets, Buffer::from_vec(bytes), None)
}

/// A dictionary column. Every key must be the position of a value.
pub(crate) fn dictionary(keys: Vec<i32>, values: ArrayRef) -> ArrayRef {
    let keys = Int32Array::new(keys.into(), None);
    Arc::new(
        DictionaryArray::<Int32Type>::try_new(keys, values)
            .expect("every key is the position of a value"),
    )
}

/// `f` of every row, in tight loops for each shape of arguments.
#[inline]
pub(crate) fn zip2<A: Copy, B: Copy, O: Clone>(
    a: Prim<'_, A>,
    b: Prim<'_, B>,
    rows: usize,
    f: impl Fn(A, B) -> O,
) -> Vec<O> {
    match (a, b) {
        (Prim::Slice(a), Prim::Slice(b)) => a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect(),
        (Prim::Slice(a), Prim::Const(b)) => a.iter().map(|&a| f(a, b)).collect(),
        (Prim::Const(a), Prim::Slice(b)) => b.iter().map(|&b| f(a, b)).collect(),
        (Prim::Const(a), Prim::Const(b)) => vec![f(a, b); rows],
    }
}

#[inline]
pub(crate) fn map1<A: Copy, O: Clone>(a: Prim<'_, A>, rows: usize, f: impl Fn(A) -> O) -> Vec<O> {
    match a {
        Prim::Slice(a) => a.iter().map(|&a| f(a)).collect(),
        Prim::Const(a) => vec![f(a); rows],
    }
}

/// As [`zip2`], packed 64 answers a word.
#[inline]
pub(crate) fn zip2_bits<A: Copy, B: Copy>(
    a: Prim<'_, A>,
    b: Prim<'_, B>,
    rows: usize,
    f: impl Fn(A, B) -> bool,
) -> BooleanBuffer {
    match (a, b) {
        (Prim::Slice(a), Prim::Slice(b)) => {
            let words = a.chunks(64).zip(b.chunks(64)).map(|(a, b)| {
                a.iter()
                    .zip(b)
                    .enumerate()
                    .fold(0u64, |word, (bit, (&a, &b))| word | (u64::from(f(a, b)) << bit))
            });
            words_to_bits(words.collect(), rows)
        }
        (Prim::Slice(a), Prim::Const(b)) => map1_bits(a, |a| f(a, b)),
        (Prim::Const(a), Prim::Slice(b)) => map1_bits(b, |b| f(a, b)),
        (Prim::Const(a), Prim::Const(b)) => {
            if f(a, b) {
                BooleanBuffer::new_set(rows)
            } else {
                BooleanBuffer::new_unset(rows)
            }
        }
    }
}

#[inline]
pub(crate) fn map1_bits<A: Copy>(a: &[A], f: impl Fn(A) -> bool) -> BooleanBuffer {
    let words = a.chunks(64).map(|a| {
        a.iter().enumerate().fold(0u64, |word, (bit, &a)| word | (u64::from(f(a)) << bit))
    });
    words_to_bits(words.collect(), a.len())
}

fn words_to_bits(words: Vec<u64>, rows: usize) -> BooleanBuffer {
    // Bit i of the buffer is bit i % 8 of byte i / 8: words must be little-endian.
    let words: Vec<u64> = words.into_iter().map(u64::to_le).collect();
    BooleanBuffer::new(Buffer::from_vec(words), 0, rows)
}

/// The value in every row.
pub(crate) fn broadcast(value: &Value, rows: usize) -> ArrayRef {
    match value {
        Value::Boolean(true) => bits(BooleanBuffer::new_set(rows)),
        Value::Boolean(false) => bits(BooleanBuffer::new_unset(rows)),
        Value::Int64(v) => ints(vec![*v; rows]),
        Value::Float64(v) => floats(vec![*v; rows]),
        Value::Time64Ns(v) => times(vec![*v; rows]),
        Value::Uint128(v) => u128s(rows, |_| *v),
        Value::String(v) => {
            let values = strings(1, |_, out| out.extend_from_slice(v));
            dictionary(vec![0; rows], values)
        }
    }
}

/// `results[keys[row]]` for every row.
pub(crate) fn spread(results: &ArrayRef, keys: &Int32Array) -> ArrayRef {
    let keys_slice: &[i32] = keys.values();
    let at = |key: &i32| usize::try_from(*key).expect("dictionary keys are positions");
    if let Some(array) = results.as_primitive_opt::<Int64Type>() {
        let values = array.values();
        return ints(keys_slice.iter().map(|key| values[at(key)]).collect());
    }
    if let Some(array) = results.as_primitive_opt::<TimestampNanosecondType>() {
        let values = array.values();
        return times(keys_slice.iter().map(|key| values[at(key)]).collect());
    }
    if let Some(array) = results.as_primitive_opt::<Float64Type>() {
        let values = array.values();
        return floats(keys_slice.iter().map(|key| values[at(key)]).collect());
    }
    if let Some(array) = results.as_boolean_opt() {
        let values = array.values();
        return bools(keys.len(), |row| values.value(at(&keys_slice[row])));
    }
    if let Some(array) = results.as_dictionary_opt::<Int32Type>() {
        let inner = array.keys().values();
        let composed = keys_slice.iter().map(|key| inner[at(key)]).collect();
        return dictionary(composed, array.values().clone());
    }
    if let Some(array) = results.as_fixed_size_binary_opt() {
        let mut bytes = Vec::with_capacity(keys.len() * 16);
        for key in keys_slice {
            bytes.extend_from_slice(array.value(at(key)));
        }
        return u128_array(bytes, keys.len());
    }
    Arc::new(
        DictionaryArray::<Int32Type>::try_new(keys.clone(), results.clone())
            .expect("there is a result for every value that a key points at"),
    )
}
