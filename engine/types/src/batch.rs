//! Arrow batches of PxL values: which array stands for which data type, a builder for sources, and
//! the way between arrays, values and packed rows.
//!
//! | PxL | Arrow |
//! |---|---|
//! | BOOLEAN | `BooleanArray` |
//! | INT64 | `Int64Array` |
//! | FLOAT64 | `Float64Array` |
//! | STRING | `BinaryArray`, or `DictionaryArray<Int32, Binary>` for low cardinality |
//! | TIME64NS | `TimestampNanosecondArray` without a zone |
//! | UINT128 | `FixedSizeBinaryArray(16)`, big-endian |
//!
//! Arrays never hold nulls.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int64Builder,
    TimestampNanosecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int32Array,
};
use arrow_schema::{DataType as ArrowType, Field, Schema, TimeUnit};
use hashbrown::HashMap;

pub use arrow_array::RecordBatch;

use crate::row::{self, PackedRow};
use crate::schema::Relation;
use crate::value::{DataType, Value};

/// A source hands on at most this many rows at once.
pub const BATCH_ROWS_MAX: usize = 8192;

/// The Arrow type of a plain (not dictionary-encoded) column.
#[must_use]
pub fn arrow_type(data_type: DataType) -> ArrowType {
    match data_type {
        DataType::Boolean => ArrowType::Boolean,
        DataType::Int64 => ArrowType::Int64,
        DataType::Float64 => ArrowType::Float64,
        DataType::String => ArrowType::Binary,
        DataType::Time64Ns => ArrowType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Uint128 => ArrowType::FixedSizeBinary(16),
    }
}

/// A batch from arrays that fit the relation (lengths and types are checked by Arrow).
///
/// # Panics
/// If an array has another length than `rows`: a bug in the caller, never caused by data.
#[must_use]
pub fn batch_of(relation: &Relation, arrays: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let fields: Vec<Field> = relation
        .columns
        .iter()
        .zip(&arrays)
        .map(|(column, array)| Field::new(&column.name, array.data_type().clone(), false))
        .collect();
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .expect("arrays are built to the relation's types and one length")
}

/// A STRING column, whichever way it is encoded.
#[derive(Clone, Copy)]
pub enum StrColumn<'a> {
    Plain(&'a BinaryArray),
    Dictionary { keys: &'a Int32Array, values: &'a BinaryArray },
}

impl<'a> StrColumn<'a> {
    /// `None` if the array is not a STRING column.
    #[must_use]
    pub fn of(array: &'a ArrayRef) -> Option<StrColumn<'a>> {
        if let Some(plain) = array.as_binary_opt::<i32>() {
            return Some(StrColumn::Plain(plain));
        }
        let dictionary = array.as_dictionary_opt::<Int32Type>()?;
        let values = dictionary.values().as_binary_opt::<i32>()?;
        Some(StrColumn::Dictionary { keys: dictionary.keys(), values })
    }
    #[must_use]
    pub fn value(&self, row: usize) -> &'a [u8] {
        match self {
            StrColumn::Plain(array) => array.value(row),
            StrColumn::Dictionary { keys, values } => values.value(keys.value(row) as usize),
        }
    }
}

/// The value at a row. `None` if the array is of no PxL type.
#[must_use]
pub fn value_at(array: &ArrayRef, data_type: DataType, row: usize) -> Option<Value> {
    Some(match data_type {
        DataType::Boolean => Value::Boolean(array.as_boolean_opt()?.value(row)),
        DataType::Int64 => Value::Int64(array.as_primitive_opt::<Int64Type>()?.value(row)),
        DataType::Float64 => Value::Float64(array.as_primitive_opt::<Float64Type>()?.value(row)),
        DataType::String => Value::String(StrColumn::of(array)?.value(row).to_vec()),
        DataType::Time64Ns => {
            Value::Time64Ns(array.as_primitive_opt::<TimestampNanosecondType>()?.value(row))
        }
        DataType::Uint128 => Value::Uint128(u128_at(array, row)?),
    })
}

/// The UINT128 at a row.
#[must_use]
pub fn u128_at(array: &ArrayRef, row: usize) -> Option<u128> {
    let bytes = array.as_fixed_size_binary_opt()?.value(row);
    Some(u128::from_be_bytes(bytes.try_into().ok()?))
}

/// A column, looked at once for all of its rows.
enum Packer<'a> {
    Boolean(&'a BooleanArray),
    Int64(&'a [i64]),
    Float64(&'a [f64]),
    String(StrColumn<'a>),
    Uint128(&'a FixedSizeBinaryArray),
}

impl<'a> Packer<'a> {
    /// # Panics
    /// If the array is not of the type: a bug in the caller, never caused by data.
    fn new(array: &'a ArrayRef, data_type: DataType) -> Packer<'a> {
        match data_type {
            DataType::Boolean => Packer::Boolean(array.as_boolean()),
            DataType::Int64 => Packer::Int64(array.as_primitive::<Int64Type>().values()),
            DataType::Float64 => Packer::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::String => {
                Packer::String(StrColumn::of(array).expect("a STRING column is one of two arrays"))
            }
            DataType::Time64Ns => {
                Packer::Int64(array.as_primitive::<TimestampNanosecondType>().values())
            }
            DataType::Uint128 => Packer::Uint128(array.as_fixed_size_binary()),
        }
    }

    /// Bytes of the packed form at `row`, unless something has to be escaped.
    fn len(&self, row: usize) -> usize {
        match self {
            Packer::Boolean(_) => 1,
            Packer::Int64(_) | Packer::Float64(_) => 8,
            Packer::String(column) => column.value(row).len() + 2,
            Packer::Uint128(_) => 16,
        }
    }

    fn push(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Packer::Boolean(array) => row::push_bool(out, array.value(row)),
            Packer::Int64(values) => row::push_i64(out, values[row]),
            Packer::Float64(values) => row::push_f64(out, values[row]),
            Packer::String(column) => row::push_str(out, column.value(row)),
            Packer::Uint128(array) => out.extend_from_slice(array.value(row)),
        }
    }
}

/// Appends the packed form of column `array` at `row`.
pub fn push_packed(out: &mut Vec<u8>, array: &ArrayRef, data_type: DataType, row: usize) {
    Packer::new(array, data_type).push(out, row);
}

/// The rows of a batch in packed form. `types` are the batch's column types in order.
#[must_use]
pub fn pack_rows(batch: &RecordBatch, types: &[DataType]) -> Vec<PackedRow> {
    let columns = batch.columns().iter().zip(types);
    let columns: Vec<Packer<'_>> = columns.map(|(array, &ty)| Packer::new(array, ty)).collect();
    let pack = |row| {
        let mut bytes = Vec::with_capacity(columns.iter().map(|column| column.len(row)).sum());
        columns.iter().for_each(|column| column.push(&mut bytes, row));
        PackedRow(bytes)
    };
    (0..batch.num_rows()).map(pack).collect()
}

/// A batch of packed rows. `None` if a row does not fit the relation.
#[must_use]
pub fn unpack_rows<'a>(
    relation: &Relation,
    rows: impl Iterator<Item = &'a PackedRow>,
) -> Option<RecordBatch> {
    let types = relation.types();
    let mut builder = BatchBuilder::new(relation);
    for row in rows {
        let mut reader = row::RowReader::new(&row.0);
        for (idx, &data_type) in types.iter().enumerate() {
            let raw = reader.next_raw(data_type)?;
            if data_type == DataType::String {
                builder.string(idx, &row::read_str(raw));
            } else {
                builder.value(idx, &row::decode(data_type, raw)?);
            }
        }
        builder.end_row();
    }
    Some(builder.finish())
}

enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    String(BinaryBuilder),
    Dictionary(DictionaryBuilder),
    Time64Ns(TimestampNanosecondBuilder),
    Uint128(FixedSizeBinaryBuilder),
}

#[derive(Default)]
struct DictionaryBuilder {
    codes: HashMap<Vec<u8>, i32>,
    values: BinaryBuilder,
    keys: Vec<i32>,
}

impl DictionaryBuilder {
    fn push(&mut self, value: &[u8]) {
        let code = match self.codes.get(value) {
            Some(&code) => code,
            None => {
                let code = i32::try_from(self.codes.len()).unwrap_or(i32::MAX);
                self.codes.insert(value.to_vec(), code);
                self.values.append_value(value);
                code
            }
        };
        self.keys.push(code);
    }
    fn finish(&mut self) -> ArrayRef {
        self.codes.clear();
        let keys = Int32Array::from(std::mem::take(&mut self.keys));
        let values: ArrayRef = Arc::new(self.values.finish());
        Arc::new(
            DictionaryArray::<Int32Type>::try_new(keys, values)
                .expect("every key is the position of a value"),
        )
    }
}

/// Builds batches row by row and can be used again after `finish`.
///
/// Fill every column of a row (in any order, once each), then call `end_row`.
pub struct BatchBuilder {
    relation: Relation,
    columns: Vec<ColumnBuilder>,
    rows: usize,
}

impl BatchBuilder {
    #[must_use]
    pub fn new(relation: &Relation) -> BatchBuilder {
        BatchBuilder::with_dictionaries(relation, &[])
    }

    /// `dictionaries`: positions of STRING columns with few distinct values.
    #[must_use]
    pub fn with_dictionaries(relation: &Relation, dictionaries: &[usize]) -> BatchBuilder {
        let columns = relation
            .columns
            .iter()
            .enumerate()
            .map(|(idx, column)| match column.data_type {
                DataType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
                DataType::Int64 => ColumnBuilder::Int64(Int64Builder::new()),
                DataType::Float64 => ColumnBuilder::Float64(Float64Builder::new()),
                DataType::String if dictionaries.contains(&idx) => {
                    ColumnBuilder::Dictionary(DictionaryBuilder::default())
                }
                DataType::String => ColumnBuilder::String(BinaryBuilder::new()),
                DataType::Time64Ns => ColumnBuilder::Time64Ns(TimestampNanosecondBuilder::new()),
                DataType::Uint128 => ColumnBuilder::Uint128(FixedSizeBinaryBuilder::new(16)),
            })
            .collect();
        BatchBuilder { relation: relation.clone(), columns, rows: 0 }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }
    #[must_use]
    pub fn relation(&self) -> &Relation {
        &self.relation
    }

    pub fn boolean(&mut self, idx: usize, value: bool) {
        if let ColumnBuilder::Boolean(builder) = &mut self.columns[idx] {
            builder.append_value(value);
        } else {
            debug_assert!(false, "column {idx} is not BOOLEAN");
        }
    }
    /// INT64 or TIME64NS.
    pub fn int64(&mut self, idx: usize, value: i64) {
        match &mut self.columns[idx] {
            ColumnBuilder::Int64(builder) => builder.append_value(value),
            ColumnBuilder::Time64Ns(builder) => builder.append_value(value),
            _ => debug_assert!(false, "column {idx} is neither INT64 nor TIME64NS"),
        }
    }
    pub fn float64(&mut self, idx: usize, value: f64) {
        if let ColumnBuilder::Float64(builder) = &mut self.columns[idx] {
            builder.append_value(value);
        } else {
            debug_assert!(false, "column {idx} is not FLOAT64");
        }
    }
    pub fn string(&mut self, idx: usize, value: &[u8]) {
        match &mut self.columns[idx] {
            ColumnBuilder::String(builder) => builder.append_value(value),
            ColumnBuilder::Dictionary(builder) => builder.push(value),
            _ => debug_assert!(false, "column {idx} is not STRING"),
        }
    }
    pub fn uint128(&mut self, idx: usize, value: u128) {
        if let ColumnBuilder::Uint128(builder) = &mut self.columns[idx] {
            builder.append_value(value.to_be_bytes()).expect("sixteen bytes fit the width");
        } else {
            debug_assert!(false, "column {idx} is not UINT128");
        }
    }
    pub fn value(&mut self, idx: usize, value: &Value) {
        match value {
            Value::Boolean(v) => self.boolean(idx, *v),
            Value::Int64(v) | Value::Time64Ns(v) => self.int64(idx, *v),
            Value::Float64(v) => self.float64(idx, *v),
            Value::String(v) => self.string(idx, v),
            Value::Uint128(v) => self.uint128(idx, *v),
        }
    }
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    /// The batch of all rows so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        let arrays = self
            .columns
            .iter_mut()
            .map(|column| -> ArrayRef {
                match column {
                    ColumnBuilder::Boolean(builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Int64(builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Float64(builder) => Arc::new(builder.finish()),
                    ColumnBuilder::String(builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Dictionary(builder) => builder.finish(),
                    ColumnBuilder::Time64Ns(builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Uint128(builder) => Arc::new(builder.finish()),
                }
            })
            .collect();
        batch_of(&self.relation, arrays, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Column;
    use crate::value::SemanticType;

    /// Rows survive builder → batch → packed → batch, dictionary-encoded or not.
    #[test]
    fn batches_round_trip() {
        let relation = Relation::new(
            DataType::ALL
                .iter()
                .map(|&ty| Column::new(ty.name(), ty, SemanticType::None))
                .collect(),
        );
        let row = [
            Value::Boolean(true),
            Value::Int64(-5),
            Value::Float64(f64::NAN),
            Value::String(vec![0, 255, 0]),
            Value::Time64Ns(7),
            Value::Uint128(u128::MAX),
        ];
        let mut builder = BatchBuilder::with_dictionaries(&relation, &[3]);
        for _ in 0..2 {
            for (idx, value) in row.iter().enumerate() {
                builder.value(idx, value);
            }
            builder.end_row();
        }
        let batch = builder.finish();
        let packed = pack_rows(&batch, &relation.types());
        assert_eq!(packed, vec![PackedRow::pack(&row), PackedRow::pack(&row)]);
        let again = unpack_rows(&relation, packed.iter()).expect("rows fit");
        assert_eq!(pack_rows(&again, &relation.types()), packed);
        assert_eq!(builder.finish().num_rows(), 0);
    }
}
