//! Rows from files instead of a kernel: `DIR/<table>.jsonl` or `.parquet`, for testing scripts and
//! rules offline; or the many files that a sink wrote of a table, for asking about yesterday.
//!
//! A row is an object; `time_` is required, `_arrival_` (ns, default `time_`) says when the row was
//! admitted, a column that it lacks is its type's zero, unknown fields are ignored. A table without
//! a file is empty. Wrong input is an error with file and line. Reading is eager: these are test
//! inputs, not archives.

mod entities;
mod parquet;
#[cfg(test)]
mod parquet_tests;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use weir_types::clock::FUTURE_NS_MAX;
use weir_types::json::value_from_json;
use weir_types::schema::Relation;
use weir_types::text::{BOM, without_bom};
use weir_types::{DataType, PackedRow, Value};

pub use entities::read_entities;

use crate::metadata::k8s::list::message_of;

/// Longest line that is read.
const LINE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    /// In a Parquet file `line` is the row, from 1.
    #[error("{path}:{line}: {message}")]
    Row { path: PathBuf, line: usize, message: String },
    #[error("could not read {path}")]
    Parquet { path: PathBuf, source: ::parquet::errors::ParquetError },
    #[error("{path}: column `{column}` {message}")]
    Column { path: PathBuf, column: String, message: String },
    #[error("{path} is there and {other} too: which of them holds the table?")]
    TwoFiles { path: PathBuf, other: String },
    #[error("{path} is not a directory of <table>.jsonl or .parquet files")]
    NotADirectory { path: PathBuf },
}

/// One table's rows, ascending by arrival (file order where equal).
#[derive(Debug, Default)]
pub struct TableRows {
    pub rows: Vec<(i64, PackedRow)>,
    /// Arrivals of rows dropped as too far in the future of them, ascending.
    pub future: Vec<i64>,
}

/// Takes a row's arrival, where it has one, and its values in the relation's order. What it says is
/// wrong becomes an error with the row's place.
type TakeRow<'a> = dyn FnMut(Option<i64>, &[Value]) -> Result<(), String> + 'a;

/// Reads `DIR/<table>.jsonl` or `.parquet`. Without either the table is empty.
pub fn read_table(dir: &Path, table: &str, relation: &Relation) -> Result<TableRows, RowsError> {
    let time_idx = relation.time_idx();
    let mut found = TableRows::default();
    for_each_row(dir, table, relation, &mut |arrival, values| {
        let time = match time_idx.and_then(|idx| values.get(idx)) {
            Some(Value::Time64Ns(time)) => *time,
            _ => return Err("the row has no `time_`".to_string()),
        };
        let arrival = arrival.unwrap_or(time);
        if time.saturating_sub(arrival) > FUTURE_NS_MAX {
            found.future.push(arrival);
        } else {
            found.rows.push((arrival, PackedRow::pack(values)));
        }
        Ok(())
    })?;
    found.rows.sort_by_key(|(arrival, _)| *arrival);
    found.future.sort_unstable();
    Ok(found)
}

/// Reads `DIR/<Name>.jsonl` or `.parquet`, what a table function answers: rows without time or
/// arrival.
pub fn read_table_function(
    dir: &Path,
    name: &str,
    relation: &Relation,
) -> Result<Vec<PackedRow>, RowsError> {
    let mut rows = Vec::new();
    for_each_row(dir, name, relation, &mut |_, values| {
        rows.push(PackedRow::pack(values));
        Ok(())
    })?;
    Ok(rows)
}

/// Hands on each row of the table's file.
fn for_each_row(
    dir: &Path,
    table: &str,
    relation: &Relation,
    take: &mut TakeRow<'_>,
) -> Result<(), RowsError> {
    if !dir.is_dir() {
        return Err(RowsError::NotADirectory { path: dir.to_path_buf() });
    }
    let path = dir.join(format!("{table}.jsonl"));
    let parquet = dir.join(format!("{table}.parquet"));
    let parts = parts_of(dir, table)?;
    let there = [&path, &parquet].into_iter().filter(|path| path.is_file()).chain(parts.first());
    if let [path, other, ..] = there.collect::<Vec<_>>().as_slice() {
        let other = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(RowsError::TwoFiles { path: path.to_path_buf(), other });
    }
    if parquet.is_file() {
        return parquet::for_each_row(&parquet, false, relation, take);
    }
    if !parts.is_empty() {
        return parts.iter().try_for_each(|part| parquet::for_each_row(part, true, relation, take));
    }
    for line in lines_of(&path)? {
        let (number, line) = line?;
        let wrong = |message: String| RowsError::Row { path: path.clone(), line: number, message };
        let object: Map<String, Json> = serde_json::from_str(&line)
            .map_err(|error| wrong(format!("not a JSON object: {}", message_of(&error))))?;
        let (arrival, values) = read_row(&object, relation).map_err(wrong)?;
        take(arrival, &values).map_err(wrong)?;
    }
    Ok(())
}

/// Files of a sink with `codec: parquet`, `<table>-FIRST-LAST.parquet` with twenty digits each, in their order.
fn parts_of(dir: &Path, table: &str) -> Result<Vec<PathBuf>, RowsError> {
    let unread = |source| RowsError::Read { path: dir.to_path_buf(), source };
    let is_part = |name: &str| {
        let middle = name.strip_prefix(table).and_then(|rest| rest.strip_suffix(".parquet"));
        let numbers = middle.and_then(|middle| middle.strip_prefix('-')?.split_once('-'));
        let is_number =
            |text: &str| text.len() == 20 && text.bytes().all(|digit| digit.is_ascii_digit());
        numbers.is_some_and(|(first, last)| is_number(first) && is_number(last))
    };
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        if entry.file_name().to_str().is_some_and(is_part) {
            parts.push(entry.path());
        }
    }
    parts.sort();
    Ok(parts)
}

/// The whole text of a file; `None` if there is none.
fn read_if_there(path: &Path) -> Result<Option<String>, RowsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(without_bom(&text).to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RowsError::Read { path: path.to_path_buf(), source }),
    }
}

/// The lines that are not blank, numbered from 1. An absent file has none.
fn lines_of(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(usize, String), RowsError>>, RowsError> {
    let path = path.to_path_buf();
    let mut reader = match std::fs::File::open(&path) {
        Ok(file) => Some(std::io::BufReader::new(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(RowsError::Read { path, source }),
    };
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        let open = reader.as_mut()?;
        loop {
            number += 1;
            let mut line = String::new();
            let limit = LINE_BYTES_MAX as u64 + 1;
            match std::io::Read::take(&mut *open, limit).read_line(&mut line) {
                Err(source) => {
                    reader = None;
                    return Some(Err(RowsError::Read { path: path.clone(), source }));
                }
                Ok(0) => return None,
                Ok(bytes) if bytes > LINE_BYTES_MAX => {
                    reader = None;
                    let message = format!("line is longer than {LINE_BYTES_MAX} bytes");
                    return Some(Err(RowsError::Row { path: path.clone(), line: number, message }));
                }
                Ok(_) => {
                    if number == 1 && line.starts_with(BOM) {
                        line.drain(..BOM.len_utf8());
                    }
                    if !line.trim().is_empty() {
                        return Some(Ok((number, line)));
                    }
                }
            }
        }
    }))
}

fn read(name: &str, data_type: DataType, json: &Json) -> Result<Value, String> {
    value_from_json(json, data_type).ok_or_else(|| format!("`{name}` is not a {data_type}: {json}"))
}

/// Arrival and values.
fn read_row(
    object: &Map<String, Json>,
    relation: &Relation,
) -> Result<(Option<i64>, Vec<Value>), String> {
    // As in Parquet, null is no value.
    let get = |name: &str| object.get(name).filter(|json| !json.is_null());
    if relation.time_idx().is_some() && get("time_").is_none() {
        return Err("the row has no `time_`".to_string());
    }
    let arrival = match get("_arrival_") {
        None => None,
        Some(json) => match read("_arrival_", DataType::Time64Ns, json)? {
            Value::Time64Ns(at) => Some(at),
            _ => None,
        },
    };
    let values = relation.columns.iter().map(|column| match get(&column.name) {
        None => Ok(column.data_type.zero()),
        Some(json) => read(&column.name, column.data_type, json),
    });
    Ok((arrival, values.collect::<Result<Vec<_>, String>>()?))
}

#[cfg(test)]
mod tests {
    use weir_types::{Column, SemanticType};

    use super::*;

    fn relation() -> Relation {
        Relation::new(vec![
            Column::new("time_", DataType::Time64Ns, SemanticType::None),
            Column::new("s", DataType::String, SemanticType::None),
            Column::new("f", DataType::Float64, SemanticType::None),
        ])
    }

    fn read(text: &str) -> Result<TableRows, RowsError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.jsonl"), text).unwrap();
        read_table(dir.path(), "t", &relation())
    }

    /// Order by arrival, zeros for missing columns, the future rule, and both forms of time.
    #[test]
    fn reads_rows() {
        let found = read(concat!(
            "{\"time_\": 5, \"_arrival_\": 9, \"s\": \"late\", \"other\": 1}\n\n",
            "{\"time_\": \"1970-01-01T00:00:00.000000007Z\", \"f\": 1}\n",
            "{\"time_\": 20000000000, \"_arrival_\": 1, \"s\": null}\n",
        ))
        .unwrap();
        let types = relation().types();
        let rows: Vec<_> =
            found.rows.iter().map(|(at, row)| (*at, row.unpack(&types).unwrap())).collect();
        let row =
            |time, text: &str, f| vec![Value::Time64Ns(time), Value::str(text), Value::Float64(f)];
        assert_eq!(rows, vec![(7, row(7, "", 1.0)), (9, row(5, "late", 0.0))]);
        assert_eq!(found.future, [1]);
    }

    /// A byte-order mark before the first line, as spreadsheets write it, is no part of it; one that
    /// stands elsewhere is.
    #[test]
    fn takes_a_byte_order_mark() {
        let found = read("\u{feff}{\"time_\": 1, \"s\": \"\u{feff}\"}\n{\"time_\": 2}\n").unwrap();
        let types = relation().types();
        let values = found.rows[0].1.unpack(&types).unwrap();
        assert_eq!(found.rows.len(), 2);
        assert_eq!(values[1], Value::str("\u{feff}"));
        assert!(read("\u{feff}\n{\"time_\": 1}\n").is_ok());
        assert!(read("{\"time_\": 1}\n\u{feff}{\"time_\": 2}\n").is_err());
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("objects.json", "{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[]}"),
            ("processes.jsonl", "{\"upid\":\"00000001-0000-0002-0000-000000000003\"}"),
            ("dns.json", "{\"10.0.0.1\":\"x\"}"),
        ] {
            std::fs::write(dir.path().join(file), format!("\u{feff}{text}\n")).unwrap();
        }
        let known = read_entities(dir.path()).unwrap();
        assert_eq!(known.dns.len(), 1);
    }

    /// Wrong rows are named by file and line.
    #[test]
    fn names_the_line() {
        for (text, part) in [
            ("{\"time_\":1}\n{\"s\":\"x\"}\n", "t.jsonl:2: the row has no `time_`"),
            ("{\"time_\":1,\"f\":\"x\"}\n", "t.jsonl:1: `f` is not a FLOAT64"),
            ("[]\n", "t.jsonl:1: not a JSON object"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(read_table(Path::new("/nonexistent"), "t", &relation()).is_err());
    }
}
