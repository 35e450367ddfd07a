//! Parquet files written by the library itself, in the forms that other writers use, against the
//! same rows as JSON.

use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType as ParquetType, DoubleType, FixedLenByteArray,
    FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96, Int96Type,
};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::parser::parse_message_type;
use weir_types::{Column, SemanticType, Upid};

use super::*;

/// Writes the values of one column of one row group.
type Write<'a> = Box<dyn Fn(&mut SerializedColumnWriter<'_>) + 'a>;

/// Writes these seconds as `time_`.
type Times<'a> = fn(&[i64]) -> Write<'a>;

/// `levels`: 1 where there is a value; `None` for a required column.
fn column<'a, T: ParquetType>(values: Vec<T::T>, levels: Option<Vec<i16>>) -> Write<'a> {
    Box::new(move |writer| {
        writer.typed::<T>().write_batch(&values, levels.as_deref(), None).unwrap();
    })
}

fn texts(texts: &[&str]) -> Vec<ByteArray> {
    texts.iter().map(|text| ByteArray::from(*text)).collect()
}

/// Every row group has the same columns.
fn write(path: &Path, schema: &str, compression: Compression, groups: &[Vec<Write<'_>>]) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for write in columns {
            let mut column = group.next_column().unwrap().unwrap();
            write(&mut column);
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn relation() -> Relation {
    let column = |name: &str, data_type| Column::new(name, data_type, SemanticType::None);
    Relation::new(vec![
        column("time_", DataType::Time64Ns),
        column("i", DataType::Int64),
        column("f", DataType::Float64),
        column("b", DataType::Boolean),
        column("s", DataType::String),
        column("u", DataType::Uint128),
        column("not_there", DataType::String),
    ])
}

const JSONL: &str = r#"
{"time_":"2026-01-01T00:00:02Z","_arrival_":1767225603000000000,"i":-1,"f":0.5,"b":true,"s":"é","u":"00000007-0000-0064-0000-000000000001"}
{"time_":"2026-01-01T00:00:01Z","i":7,"f":1.25}
{"time_":"2026-01-01T00:01:00Z","_arrival_":1767225600000000000,"s":"of the future"}
"#;

/// The rows of `JSONL`, in two row groups.
fn groups<'a>(times: Times<'a>, upid: Write<'a>) -> Vec<Vec<Write<'a>>> {
    let second = 1_767_225_600;
    let first = vec![
        times(&[second + 2]),
        column::<Int64Type>(vec![(second + 3) * 1_000_000_000], Some(vec![1])),
        column::<Int32Type>(vec![-1], Some(vec![1])),
        column::<DoubleType>(vec![0.5], Some(vec![1])),
        column::<BoolType>(vec![true], Some(vec![1])),
        column::<ByteArrayType>(texts(&["é"]), Some(vec![1])),
        upid,
    ];
    let rest = vec![
        times(&[second + 1, second + 60]),
        column::<Int64Type>(vec![second * 1_000_000_000], Some(vec![0, 1])),
        column::<Int32Type>(vec![7], Some(vec![1, 0])),
        column::<DoubleType>(vec![1.25], Some(vec![1, 0])),
        column::<BoolType>(vec![], Some(vec![0, 0])),
        column::<ByteArrayType>(texts(&["of the future"]), Some(vec![0, 1])),
        column::<FixedLenByteArrayType>(vec![], Some(vec![0, 0])),
    ];
    vec![first, rest]
}

fn scaled<'a>(times: &[i64], units_per_second: i64) -> Write<'a> {
    column::<Int64Type>(times.iter().map(|time| time * units_per_second).collect(), None)
}

/// The same rows, whether as JSON or as Parquet, in every unit of time, compressed or not: catches
/// a wrong unit, nulls that shift values, and row groups that are left out.
#[test]
fn parquet_equals_jsonl() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("json.jsonl"), JSONL).unwrap();
    let want = read_table(dir.path(), "json", &relation()).unwrap();
    assert_eq!((want.rows.len(), want.future.len()), (2, 1));
    let int96 = |times: &[i64]| {
        let value = |time: &i64| {
            let (day, nanos) = (time / 86_400 + 2_440_588, (time % 86_400) * 1_000_000_000);
            Int96::from(vec![nanos as u32, (nanos >> 32) as u32, day as u32])
        };
        column::<Int96Type>(times.iter().map(value).collect(), None)
    };
    let cases: [(&str, Times<'_>, Compression); 6] = [
        ("INT64 time_ (TIMESTAMP(NANOS,true))", |t| scaled(t, 1_000_000_000), Compression::SNAPPY),
        (
            "INT64 time_ (TIMESTAMP(MICROS,false))",
            |t| scaled(t, 1_000_000),
            Compression::UNCOMPRESSED,
        ),
        (
            "INT64 time_ (TIMESTAMP_MILLIS)",
            |t| scaled(t, 1_000),
            Compression::ZSTD(Default::default()),
        ),
        ("INT64 time_", |t| scaled(t, 1_000_000_000), Compression::SNAPPY),
        ("INT96 time_", int96, Compression::SNAPPY),
        (
            "BYTE_ARRAY time_ (STRING)",
            |t| {
                let text = |t: &i64| weir_types::json::time_text(t * 1_000_000_000);
                let values: Vec<String> = t.iter().map(text).collect();
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                column::<ByteArrayType>(texts(&values), None)
            },
            Compression::SNAPPY,
        ),
    ];
    for (time, times, compression) in cases {
        let schema = format!(
            "message schema {{ REQUIRED {time}; OPTIONAL INT64 _arrival_; OPTIONAL INT32 i (INTEGER(16,true)); \
             OPTIONAL DOUBLE f; OPTIONAL BOOLEAN b; OPTIONAL BYTE_ARRAY s (UTF8); \
             OPTIONAL FIXED_LEN_BYTE_ARRAY(16) u; }}"
        );
        let upid = Upid::new(7, 100, 1).0.to_be_bytes().to_vec();
        let upid = FixedLenByteArray::from(ByteArray::from(upid));
        let upid = column::<FixedLenByteArrayType>(vec![upid], Some(vec![1]));
        write(&dir.path().join("p.parquet"), &schema, compression, &groups(times, upid));
        let have = read_table(dir.path(), "p", &relation()).unwrap();
        assert_eq!(have.rows, want.rows, "{time}");
        assert_eq!(have.future, want.future, "{time}");
    }
}

/// One column of one row, read as the type that the table declares.
fn read_one(schema: &str, write_column: Write<'_>, data_type: DataType) -> Result<Value, String> {
    let dir = tempfile::tempdir().unwrap();
    let schema = format!("message schema {{ {schema} }}");
    write(&dir.path().join("F.parquet"), &schema, Compression::UNCOMPRESSED, &[vec![write_column]]);
    let relation = Relation::new(vec![Column::new("c", data_type, SemanticType::None)]);
    let rows = read_table_function(dir.path(), "F", &relation);
    let rows = rows.map_err(|error| {
        let text = error.to_string();
        text.split_once("F.parquet").map_or(text.clone(), |(_, rest)| rest.to_string())
    })?;
    Ok(rows[0].unpack(&[data_type]).unwrap().remove(0))
}

/// Types that fit, by physical type and annotation: catches a sign lost and bytes read as text.
#[test]
fn types_are_mapped() {
    let uuid = "00000007-0000-0064-0000-000000000001";
    let ok = |schema, column, data_type, want: Value| {
        assert_eq!(read_one(schema, column, data_type), Ok(want), "{schema}");
    };
    ok(
        "REQUIRED FLOAT c;",
        column::<FloatType>(vec![0.5], None),
        DataType::Float64,
        Value::Float64(0.5),
    );
    ok(
        "REQUIRED INT64 c;",
        column::<Int64Type>(vec![3], None),
        DataType::Float64,
        Value::Float64(3.0),
    );
    ok(
        "REQUIRED INT32 c (UINT_32);",
        column::<Int32Type>(vec![-1], None),
        DataType::Int64,
        Value::Int64(4_294_967_295),
    );
    ok(
        "REQUIRED BYTE_ARRAY c;",
        column::<ByteArrayType>(vec![ByteArray::from(vec![0xff_u8])], None),
        DataType::String,
        Value::String(vec![0xff]),
    );
    ok(
        "REQUIRED BYTE_ARRAY c (UTF8);",
        column::<ByteArrayType>(texts(&[uuid]), None),
        DataType::Uint128,
        Value::Uint128(Upid::new(7, 100, 1).0),
    );
    ok(
        "OPTIONAL INT64 c;",
        column::<Int64Type>(vec![], Some(vec![0])),
        DataType::Int64,
        Value::Int64(0),
    );
}

/// Types that do not fit are named with what they are, values that do not with their row.
#[test]
fn wrong_types_are_named() {
    let wrong = |schema, column, data_type, want: &str| {
        let message = read_one(schema, column, data_type).unwrap_err();
        assert_eq!(message, want, "{schema}");
    };
    wrong(
        "REQUIRED DOUBLE c;",
        column::<DoubleType>(vec![1.0], None),
        DataType::Int64,
        ": column `c` is DOUBLE, not a INT64",
    );
    wrong(
        "REQUIRED INT32 c (DATE);",
        column::<Int32Type>(vec![1], None),
        DataType::Time64Ns,
        ": column `c` is INT32 (Date), not a TIME64NS",
    );
    wrong(
        "REQUIRED INT64 c (UINT_64);",
        column::<Int64Type>(vec![-1], None),
        DataType::Int64,
        ":1: `c` is greater than an INT64: 18446744073709551615",
    );
    wrong(
        "REQUIRED BYTE_ARRAY c (UTF8);",
        column::<ByteArrayType>(texts(&["x"]), None),
        DataType::Uint128,
        ":1: `c` is not a UINT128: \"x\"",
    );
    wrong(
        "REQUIRED group c { REQUIRED INT64 d; }",
        column::<Int64Type>(vec![1], None),
        DataType::Int64,
        ": column `c` is nested, not a INT64",
    );
}

/// Two files for one table, a table without `time_`, a null `time_`, and what is no Parquet at all.
#[test]
fn wrong_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let check = |want: &str| {
        let error = read_table(dir.path(), "t", &relation()).unwrap_err();
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text.push_str(&format!(": {source}"));
        }
        assert!(text.contains(want), "{text}");
    };
    let path = dir.path().join("t.parquet");
    std::fs::write(&path, "PAR1 it is not").unwrap();
    check("t.parquet: ");
    let integers = |name: &str, levels| {
        let schema = format!("message schema {{ OPTIONAL INT64 {name}; }}");
        let columns = vec![column::<Int64Type>(vec![1], Some(levels))];
        write(&path, &schema, Compression::UNCOMPRESSED, &[columns]);
    };
    integers("i", vec![1]);
    check("t.parquet: column `time_` is missing");
    integers("time_", vec![1, 0]);
    check("t.parquet:2: the row has no `time_`");
    // The column's codec in the footer: 0 is none, 2 (zigzag 4) is gzip.
    integers("time_", vec![1]);
    let mut bytes = std::fs::read(&path).unwrap();
    let codec = bytes.windows(7).position(|window| window == b"time_\x15\x00").unwrap() + 6;
    bytes[codec] = 4;
    std::fs::write(&path, bytes).unwrap();
    check("t.parquet: column `time_` is compressed with gzip, which is not read: write the file");
    std::fs::write(dir.path().join("t.jsonl"), "").unwrap();
    check("t.jsonl is there and t.parquet too");
}

/// Files of a sink are one table, in the order of their numbers; what says that rows are missing is no row, and a file
/// of changes is refused. Catches files that are taken for others' because their names begin alike.
#[test]
fn parts_are_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let part = |table: &str, number: u64, op: &str| {
        let path = dir.path().join(format!("{table}-{number:020}-{number:020}.parquet"));
        let columns = vec![
            column::<ByteArrayType>(texts(&[op, "lost"]), None),
            column::<Int64Type>(vec![number as i64], Some(vec![1, 0])),
        ];
        let schema = "message schema { REQUIRED BYTE_ARRAY _op (UTF8); OPTIONAL INT64 time_; }";
        write(&path, schema, Compression::SNAPPY, &[columns]);
    };
    part("t", 2, "append");
    part("t", 11, "final");
    part("t-2", 5, "append");
    std::fs::write(dir.path().join("t-2.parquet"), "another table's").unwrap();
    let have = read_table(dir.path(), "t", &relation()).unwrap();
    assert_eq!(have.rows.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 11]);
    part("t", 12, "delete");
    let error = read_table(dir.path(), "t", &relation()).unwrap_err().to_string();
    assert!(error.ends_with(".parquet:1: `_op` is `delete`: of what a sink wrote, rows of the modes `append` and `final` are read"), "{error}");
    std::fs::write(dir.path().join("t.jsonl"), "").unwrap();
    let error = read_table(dir.path(), "t", &relation()).unwrap_err().to_string();
    assert!(error.contains("t.jsonl is there and t-00000000000000000002-"), "{error}");
}
