//! Elements as the columns of a Parquet file, one after another: a row group is at most so many elements, so that what
//! is made of them at a time stays small. Texts are UTF-8; broken ones are cleaned and counted.

use std::io::Write;
use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use ::parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType as ParquetType, DoubleType, FixedLenByteArray,
    FixedLenByteArrayType, Int64Type,
};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::Type;
use weir_types::clock::tick_unix_ns;
use weir_types::{DataType, Value};

use crate::delivery::OutputInfo;
use crate::element::{Body, Described, Element};

/// Ours, before the view's.
const OWN: [(&str, DataType); 3] =
    [("_op", DataType::String), ("_seq", DataType::Int64), ("_tick", DataType::Time64Ns)];
const GROUP_ROWS: usize = 65_536;

pub(super) fn judge(info: &OutputInfo) -> std::result::Result<(), String> {
    let is_own = |name: &str| OWN.iter().any(|(own, _)| *own == name);
    match info.relation.columns.iter().find(|column| is_own(&column.name)) {
        Some(column) => Err(format!("`{}` is a column of the file's own: rename it", column.name)),
        None => Ok(()),
    }
}

fn field(name: &str, data_type: DataType, is_own: bool) -> Result<Arc<Type>> {
    let (physical, logical, len) = match data_type {
        DataType::Boolean => (Physical::BOOLEAN, None, -1),
        DataType::Int64 => (Physical::INT64, None, -1),
        DataType::Float64 => (Physical::DOUBLE, None, -1),
        DataType::String => (Physical::BYTE_ARRAY, Some(LogicalType::String), -1),
        DataType::Time64Ns => {
            (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS)), -1)
        }
        DataType::Uint128 => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), 16),
    };
    let made = Type::primitive_type_builder(name, physical)
        .with_repetition(if is_own { Repetition::REQUIRED } else { Repetition::OPTIONAL })
        .with_logical_type(logical)
        .with_length(len)
        .build()?;
    Ok(Arc::new(made))
}

fn schema(output: &Described) -> Result<Arc<Type>> {
    let own = OWN.iter().map(|(name, data_type)| field(name, *data_type, true));
    let columns = output.info.relation.columns.iter();
    let columns = columns.map(|column| field(&column.name, column.data_type, false));
    let fields = own.chain(columns).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?))
}

/// Writes a whole file; how many texts were cleaned. All elements are of one output.
pub(super) fn write(file: impl Write + Send, elements: &[&Element]) -> std::io::Result<u64> {
    write_groups(file, elements).map_err(|error| match error {
        // What the file system said, so that a full disk is known as one.
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) => *error,
            Err(error) => std::io::Error::other(error),
        },
        error => std::io::Error::other(error),
    })
}

fn write_groups(file: impl Write + Send, elements: &[&Element]) -> Result<u64> {
    let Some(first) = elements.first() else { return Ok(0) };
    let output = &first.output;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(file, schema(output)?, Arc::new(properties))?;
    let mut cleaned = 0;
    for part in elements.chunks(GROUP_ROWS) {
        let rows: Vec<Vec<Option<Value>>> = part.iter().map(|it| values_of(it)).collect();
        let mut group = writer.next_row_group()?;
        let own = OWN.iter().map(|(_, data_type)| *data_type);
        let types = own.chain(output.info.relation.types());
        for (at, data_type) in types.enumerate() {
            let column = rows.iter().map(|row| row.get(at).and_then(Option::as_ref));
            cleaned += write_column(&mut group, data_type, at < OWN.len(), column)?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(cleaned)
}

/// An element as values: ours, and then those of its row that are known.
fn values_of(element: &Element) -> Vec<Option<Value>> {
    let Element { output, op, seq, tick_ms, body } = element;
    let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
    let own = [Value::str(op.name()), Value::Int64(seq), Value::Time64Ns(tick_unix_ns(*tick_ms))];
    let mut values: Vec<Option<Value>> = own.into_iter().map(Some).collect();
    values.resize(OWN.len() + output.info.relation.len(), None);
    let row = &mut values[OWN.len()..];
    match body {
        Body::Row(packed) => {
            for (to, value) in row.iter_mut().zip(output.values(packed)) {
                *to = Some(value);
            }
        }
        Body::Key(_) => {
            for (at, value) in output.key.iter().zip(output.key_values(body)) {
                row[*at] = Some(value);
            }
        }
        Body::Rows(_) | Body::Since(_) | Body::None => {}
    }
    values
}

fn write_column<'a, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    data_type: DataType,
    is_own: bool,
    values: impl Iterator<Item = Option<&'a Value>>,
) -> Result<u64> {
    let mut cleaned = 0;
    match data_type {
        DataType::Boolean => typed::<BoolType, _>(group, is_own, values, |value| match value {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }),
        DataType::Int64 | DataType::Time64Ns => {
            typed::<Int64Type, _>(group, is_own, values, |value| match value {
                Value::Int64(value) | Value::Time64Ns(value) => Some(*value),
                _ => None,
            })
        }
        DataType::Float64 => typed::<DoubleType, _>(group, is_own, values, |value| match value {
            Value::Float64(value) => Some(*value),
            _ => None,
        }),
        DataType::String => typed::<ByteArrayType, _>(group, is_own, values, |value| match value {
            Value::String(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                cleaned += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
                Some(ByteArray::from(text.into_owned().into_bytes()))
            }
            _ => None,
        }),
        DataType::Uint128 => {
            typed::<FixedLenByteArrayType, _>(group, is_own, values, |value| match value {
                Value::Uint128(value) => {
                    let bytes = ByteArray::from(value.to_be_bytes().to_vec());
                    Some(FixedLenByteArray::from(bytes))
                }
                _ => None,
            })
        }
    }?;
    Ok(cleaned)
}

/// The next column. Of ours every value is there; the others say where one is.
fn typed<'a, T: ParquetType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    is_own: bool,
    values: impl Iterator<Item = Option<&'a Value>>,
    mut one: impl FnMut(&Value) -> Option<T::T>,
) -> Result<()> {
    let (mut levels, mut there) = (Vec::new(), Vec::new());
    for value in values {
        let value = value.and_then(&mut one);
        levels.push(i16::from(value.is_some()));
        there.extend(value);
    }
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("a column more than the schema has".to_string()));
    };
    column.typed::<T>().write_batch(&there, (!is_own).then_some(levels.as_slice()), None)?;
    column.close()
}
