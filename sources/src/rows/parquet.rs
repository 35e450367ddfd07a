//! `DIR/<table>.parquet`, as pandas, Polars, DuckDB and Spark write it: flat columns of the usual
//! physical types, each mapped to the type that the table declares.
//!
//! | table | file |
//! |---|---|
//! | TIME64NS | timestamps of any unit, INT96, integer nanoseconds, RFC 3339 text |
//! | INT64 | integers of any width that fit |
//! | FLOAT64 | float, double, integers |
//! | BOOLEAN | boolean |
//! | STRING | text, JSON, enum or plain bytes (dictionary or not) |
//! | UINT128 | UUID text, or 16 bytes, high byte first |
//!
//! A null is the type's zero. Columns that the table does not have are not read. Not here: nested
//! columns, decimals, dates and half floats, which are errors where the table wants the column.

use std::path::Path;

use parquet::basic::{Compression, ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType as ParquetType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use weir_types::json::{parse_time, parse_uuid};
use weir_types::schema::Relation;
use weir_types::{DataType, Value};

use super::{RowsError, TakeRow};

/// What the values of a column stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Boolean,
    Signed,
    Unsigned,
    Float,
    /// Units since the epoch.
    Time {
        unit_ns: i64,
    },
    /// 12 bytes: nanoseconds of a day and its Julian number.
    Int96,
    /// Any bytes, text or not.
    Bytes,
    /// Exactly 16 bytes, high byte first.
    Uuid,
    Other,
}

fn meaning(column: &ColumnDescriptor) -> Meaning {
    let physical = column.physical_type();
    let annotation = annotation(column);
    match (physical, annotation) {
        (Physical::BOOLEAN, None) => Meaning::Boolean,
        (Physical::INT96, None) => Meaning::Int96,
        (Physical::FLOAT | Physical::DOUBLE, None) => Meaning::Float,
        (Physical::INT32 | Physical::INT64, None) => Meaning::Signed,
        (
            Physical::INT32 | Physical::INT64,
            Some(found @ (Meaning::Signed | Meaning::Unsigned)),
        ) => found,
        (Physical::INT64, Some(found @ Meaning::Time { .. })) => found,
        (Physical::BYTE_ARRAY, None | Some(Meaning::Bytes)) => Meaning::Bytes,
        (Physical::FIXED_LEN_BYTE_ARRAY, None | Some(Meaning::Uuid))
            if column.type_length() == 16 =>
        {
            Meaning::Uuid
        }
        _ => Meaning::Other,
    }
}

/// What the schema says beyond the physical type, in the new form or in the old.
fn annotation(column: &ColumnDescriptor) -> Option<Meaning> {
    let time = |unit_ns| Some(Meaning::Time { unit_ns });
    match column.logical_type_ref() {
        Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) => {
            return Some(Meaning::Bytes);
        }
        Some(LogicalType::Integer(int)) => {
            return Some(if int.is_signed { Meaning::Signed } else { Meaning::Unsigned });
        }
        Some(LogicalType::Timestamp(timestamp)) => {
            return time(match timestamp.unit {
                TimeUnit::MILLIS => 1_000_000,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1,
            });
        }
        Some(LogicalType::Uuid) => return Some(Meaning::Uuid),
        // A column of nulls alone.
        Some(LogicalType::Unknown) => return None,
        Some(_) => return Some(Meaning::Other),
        None => {}
    }
    match column.converted_type() {
        ConvertedType::NONE => None,
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => Some(Meaning::Bytes),
        ConvertedType::TIMESTAMP_MILLIS => time(1_000_000),
        ConvertedType::TIMESTAMP_MICROS => time(1_000),
        ConvertedType::INT_8
        | ConvertedType::INT_16
        | ConvertedType::INT_32
        | ConvertedType::INT_64 => Some(Meaning::Signed),
        ConvertedType::UINT_8
        | ConvertedType::UINT_16
        | ConvertedType::UINT_32
        | ConvertedType::UINT_64 => Some(Meaning::Unsigned),
        _ => Some(Meaning::Other),
    }
}

fn fits(wanted: DataType, meaning: Meaning) -> bool {
    match wanted {
        DataType::Boolean => meaning == Meaning::Boolean,
        DataType::Int64 => matches!(meaning, Meaning::Signed | Meaning::Unsigned),
        DataType::Float64 => {
            matches!(meaning, Meaning::Float | Meaning::Signed | Meaning::Unsigned)
        }
        DataType::String => meaning == Meaning::Bytes,
        DataType::Time64Ns => matches!(
            meaning,
            Meaning::Time { .. }
                | Meaning::Int96
                | Meaning::Signed
                | Meaning::Unsigned
                | Meaning::Bytes
        ),
        DataType::Uint128 => matches!(meaning, Meaning::Uuid | Meaning::Bytes),
    }
}

/// A column of the file that the table wants.
struct Wanted<'a> {
    /// Position among the file's columns.
    leaf: usize,
    name: &'a str,
    data_type: DataType,
    meaning: Meaning,
}

fn find<'a>(
    path: &Path,
    schema: &SchemaDescriptor,
    name: &'a str,
    data_type: DataType,
) -> Result<Option<Wanted<'a>>, RowsError> {
    let in_column = |column: &ColumnDescriptor| {
        column.path().parts().first().is_some_and(|first| first == name)
    };
    let Some(leaf) = schema.columns().iter().position(|column| in_column(column)) else {
        return Ok(None);
    };
    let column = schema.column(leaf);
    let wrong = |message: String| RowsError::Column {
        path: path.to_path_buf(),
        column: name.to_string(),
        message,
    };
    if column.path().parts().len() > 1 || column.max_rep_level() > 0 {
        return Err(wrong(format!("is nested, not a {data_type}")));
    }
    let meaning = meaning(&column);
    if !fits(data_type, meaning) {
        let annotation = match (column.logical_type_ref(), column.converted_type()) {
            (Some(logical), _) => format!(" ({logical:?})"),
            (None, ConvertedType::NONE) => String::new(),
            (None, converted) => format!(" ({converted})"),
        };
        let physical = column.physical_type();
        return Err(wrong(format!("is {physical}{annotation}, not a {data_type}")));
    }
    Ok(Some(Wanted { leaf, name, data_type, meaning }))
}

/// Hands on every row: its arrival, where the file has one, and its values in the relation's order. `is_sinks`: the
/// file is one of those that a sink writes.
pub(super) fn for_each_row(
    path: &Path,
    is_sinks: bool,
    relation: &Relation,
    take: &mut TakeRow<'_>,
) -> Result<(), RowsError> {
    let failed = |source| RowsError::Parquet { path: path.to_path_buf(), source };
    let file = std::fs::File::open(path)
        .map_err(|source| RowsError::Read { path: path.to_path_buf(), source })?;
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let arrival = find(path, schema, "_arrival_", DataType::Time64Ns)?;
    let op = if is_sinks { find(path, schema, "_op", DataType::String)? } else { None };
    let columns = relation
        .columns
        .iter()
        .map(|column| find(path, schema, &column.name, column.data_type))
        .collect::<Result<Vec<_>, RowsError>>()?;
    let time_idx = relation.time_idx();
    if time_idx.is_some_and(|idx| columns[idx].is_none()) {
        let message = "is missing".to_string();
        let column = "time_".to_string();
        return Err(RowsError::Column { path: path.to_path_buf(), column, message });
    }
    let mut first_row = 1;
    for group_idx in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group_idx).map_err(failed)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        for wanted in columns.iter().chain([&arrival, &op]).flatten() {
            let compression = group.metadata().column(wanted.leaf).compression();
            check_compression(compression).map_err(|message| RowsError::Column {
                path: path.to_path_buf(),
                column: wanted.name.to_string(),
                message,
            })?;
        }
        let read = |wanted: &Option<Wanted<'_>>| match wanted {
            Some(wanted) => cells(&*group, wanted, rows).map_err(|error| match error {
                CellError::File(source) => failed(source),
                CellError::Value { row, message } => {
                    let message = format!("`{}` {message}", wanted.name);
                    RowsError::Row { path: path.to_path_buf(), line: first_row + row, message }
                }
            }),
            None => Ok(Vec::new()),
        };
        let (arrivals, ops) = (read(&arrival)?, read(&op)?);
        let mut values = columns.iter().map(read).collect::<Result<Vec<_>, RowsError>>()?;
        for row in 0..rows {
            let wrong = |message: String| RowsError::Row {
                path: path.to_path_buf(),
                line: first_row + row,
                message,
            };
            if !is_row(ops.get(row).and_then(Option::as_ref)).map_err(wrong)? {
                continue;
            }
            let cells = row_of(&mut values, row, relation).map_err(wrong)?;
            let arrival = match arrivals.get(row) {
                Some(Some(Value::Time64Ns(at))) => Some(*at),
                _ => None,
            };
            take(arrival, &cells).map_err(wrong)?;
        }
        first_row += rows;
    }
    Ok(())
}

/// A row of these columns; what is not there is its type's zero.
fn row_of(
    columns: &mut [Vec<Option<Value>>],
    row: usize,
    relation: &Relation,
) -> Result<Vec<Value>, String> {
    let cell = |column: &mut Vec<Option<Value>>| column.get_mut(row).and_then(Option::take);
    let cells: Vec<Option<Value>> = columns.iter_mut().map(cell).collect();
    if relation.time_idx().is_some_and(|idx| cells[idx].is_none()) {
        return Err("the row has no `time_`".to_string());
    }
    let zeros = relation.columns.iter().map(|column| column.data_type.zero());
    Ok(cells.into_iter().zip(zeros).map(|(cell, zero)| cell.unwrap_or(zero)).collect())
}

/// Of a file that a sink wrote, what its column `_op` says. A row that was taken away again, or has got another value,
/// is none: what such a file says adds up only in order.
fn is_row(op: Option<&Value>) -> Result<bool, String> {
    let Some(Value::String(op)) = op else { return Ok(true) };
    match op.as_slice() {
        b"append" | b"final" => Ok(true),
        b"reset" | b"lost" => Ok(false),
        op => Err(format!(
            "`_op` is `{}`: of what a sink wrote, rows of the modes `append` and `final` are read",
            String::from_utf8_lossy(op)
        )),
    }
}

/// What writers offer beside these is rare, and each codec is a library more.
fn check_compression(compression: Compression) -> Result<(), String> {
    let (Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)) = compression
    else {
        let name = format!("{compression:?}").to_lowercase();
        let name = name.split('(').next().unwrap_or_default();
        return Err(format!(
            "is compressed with {name}, which is not read: write the file with zstd, snappy or \
             without compression, as `df.to_parquet('x.parquet', compression='zstd')` does"
        ));
    };
    Ok(())
}

enum CellError {
    File(ParquetError),
    Value { row: usize, message: String },
}

/// All values of a column in a row group; `None` for null.
fn cells(
    group: &dyn RowGroupReader,
    wanted: &Wanted<'_>,
    rows: usize,
) -> Result<Vec<Option<Value>>, CellError> {
    let &Wanted { data_type, meaning, .. } = wanted;
    let unsigned = meaning == Meaning::Unsigned;
    match group.get_column_reader(wanted.leaf).map_err(CellError::File)? {
        ColumnReader::BoolColumnReader(column) => {
            convert(column, rows, |value| Ok(Value::Boolean(*value)))
        }
        ColumnReader::Int32ColumnReader(column) => convert(column, rows, |&value| {
            let value = if unsigned { i64::from(value as u32) } else { i64::from(value) };
            integer(data_type, meaning, value)
        }),
        ColumnReader::Int64ColumnReader(column) => convert(column, rows, |&value| {
            if unsigned && value < 0 {
                return Err(format!("is greater than an INT64: {}", value as u64));
            }
            integer(data_type, meaning, value)
        }),
        ColumnReader::Int96ColumnReader(column) => {
            convert(column, rows, |value| Ok(Value::Time64Ns(value.to_nanos())))
        }
        ColumnReader::FloatColumnReader(column) => {
            convert(column, rows, |&value| Ok(Value::Float64(f64::from(value))))
        }
        ColumnReader::DoubleColumnReader(column) => {
            convert(column, rows, |&value| Ok(Value::Float64(value)))
        }
        ColumnReader::ByteArrayColumnReader(column) => {
            convert(column, rows, |value| bytes(data_type, value.data()))
        }
        ColumnReader::FixedLenByteArrayColumnReader(column) => convert(column, rows, |value| {
            let bytes: Result<[u8; 16], _> = value.data().try_into();
            bytes
                .map(|bytes| Value::Uint128(u128::from_be_bytes(bytes)))
                .map_err(|_| "has not 16 bytes".to_string())
        }),
    }
}

fn convert<T: ParquetType>(
    mut column: ColumnReaderImpl<T>,
    rows: usize,
    value: impl Fn(&T::T) -> Result<Value, String>,
) -> Result<Vec<Option<Value>>, CellError> {
    // Level 1: there is a value; a required column has no levels.
    let (mut levels, mut found) = (Vec::new(), Vec::new());
    while levels.len().max(found.len()) < rows {
        let wanted = rows - levels.len().max(found.len());
        let (records, _, _) = column
            .read_records(wanted, Some(&mut levels), None, &mut found)
            .map_err(CellError::File)?;
        if records == 0 {
            let message = format!("column of {} values in {rows} rows", found.len());
            return Err(CellError::File(ParquetError::General(message)));
        }
    }
    let required = levels.is_empty();
    let mut values = found.iter();
    (0..rows)
        .map(|row| {
            let there = required || levels.get(row).is_some_and(|level| *level > 0);
            match there.then(|| values.next()).flatten() {
                Some(raw) => {
                    value(raw).map(Some).map_err(|message| CellError::Value { row, message })
                }
                None => Ok(None),
            }
        })
        .collect()
}

fn integer(wanted: DataType, meaning: Meaning, value: i64) -> Result<Value, String> {
    let unit_ns = match meaning {
        Meaning::Time { unit_ns } => unit_ns,
        _ => 1,
    };
    Ok(match wanted {
        DataType::Float64 => Value::Float64(value as f64),
        DataType::Time64Ns => {
            let time = value.checked_mul(unit_ns);
            Value::Time64Ns(time.ok_or_else(|| format!("is out of range: {value}"))?)
        }
        _ => Value::Int64(value),
    })
}

fn bytes(wanted: DataType, bytes: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(bytes);
    match wanted {
        DataType::Time64Ns => parse_time(&text).map(Value::Time64Ns),
        DataType::Uint128 => parse_uuid(&text).map(Value::Uint128),
        _ => Some(Value::String(bytes.to_vec())),
    }
    .ok_or_else(|| format!("is not a {wanted}: {text:?}"))
}
