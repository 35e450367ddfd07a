//! Rows from files instead of a kernel: `DIR/<table>.jsonl`, for testing scripts and rules offline.
//!
//! A row is an object; `time_` is required, `_arrival_` (ns, default `time_`) says when the row was
//! admitted, a column that it lacks is its type's zero, unknown fields are ignored. A table without
//! a file is empty. Wrong input is an error with file and line. Reading is eager: these are test
//! inputs, not archives.

mod entities;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use weir_types::json::value_from_json;
use weir_types::schema::Relation;
use weir_types::{DataType, PackedRow, Value};

pub use entities::read_entities;

use crate::metadata::k8s::list::message_of;

/// A row whose `time_` is more than this after its arrival is dropped and counted as `future`.
pub const FUTURE_MAX_NS: i64 = 10_000_000_000;
/// Longest line that is read.
const LINE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}: {message}")]
    Row { path: PathBuf, line: usize, message: String },
    #[error("{path}: parquet rows are not yet supported; convert the table to {table}.jsonl")]
    Parquet { path: PathBuf, table: String },
    #[error("{path} is not a directory of <table>.jsonl or .parquet files")]
    NotADirectory { path: PathBuf },
}

/// One table's rows, ascending by arrival (file order where equal).
#[derive(Debug, Default)]
pub struct TableRows {
    pub rows: Vec<(i64, PackedRow)>,
    /// Rows dropped as too far in the future of their arrival.
    pub future: u64,
}

/// Reads `DIR/<table>.jsonl`. An absent file is an empty table.
pub fn read_table(dir: &Path, table: &str, relation: &Relation) -> Result<TableRows, RowsError> {
    if !dir.is_dir() {
        return Err(RowsError::NotADirectory { path: dir.to_path_buf() });
    }
    let path = dir.join(format!("{table}.jsonl"));
    let parquet = dir.join(format!("{table}.parquet"));
    if !path.is_file() && parquet.is_file() {
        return Err(RowsError::Parquet { path: parquet, table: table.to_string() });
    }
    let mut found = TableRows::default();
    for line in lines_of(&path)? {
        let (number, line) = line?;
        let wrong = |message: String| RowsError::Row { path: path.clone(), line: number, message };
        let object: Map<String, Json> = serde_json::from_str(&line)
            .map_err(|error| wrong(format!("not a JSON object: {}", message_of(&error))))?;
        let (arrival, time, row) = read_row(&object, relation).map_err(wrong)?;
        if time.saturating_sub(arrival) > FUTURE_MAX_NS {
            found.future += 1;
        } else {
            found.rows.push((arrival, row));
        }
    }
    found.rows.sort_by_key(|(arrival, _)| *arrival);
    Ok(found)
}

/// The whole text of a file; `None` if there is none.
fn read_if_there(path: &Path) -> Result<Option<String>, RowsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
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
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => return Some(Ok((number, line))),
            }
        }
    }))
}

/// (arrival, time_, packed row)
fn read_row(
    object: &Map<String, Json>,
    relation: &Relation,
) -> Result<(i64, i64, PackedRow), String> {
    let read = |name: &str, data_type: DataType, json: &Json| {
        value_from_json(json, data_type)
            .ok_or_else(|| format!("`{name}` is not a {data_type}: {json}"))
    };
    let time = match object.get("time_") {
        None => return Err("the row has no `time_`".to_string()),
        Some(json) => read("time_", DataType::Time64Ns, json)?,
    };
    let Value::Time64Ns(time) = time else { return Err("`time_` is not a time".to_string()) };
    let arrival = match object.get("_arrival_") {
        None => time,
        Some(json) => match read("_arrival_", DataType::Time64Ns, json)? {
            Value::Time64Ns(arrival) => arrival,
            _ => time,
        },
    };
    let values = relation
        .columns
        .iter()
        .map(|column| match object.get(&column.name) {
            None => Ok(column.data_type.zero()),
            Some(json) => read(&column.name, column.data_type, json),
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok((arrival, time, PackedRow::pack(&values)))
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
            "{\"time_\": 20000000000, \"_arrival_\": 1}\n",
        ))
        .unwrap();
        let types = relation().types();
        let rows: Vec<_> =
            found.rows.iter().map(|(at, row)| (*at, row.unpack(&types).unwrap())).collect();
        let row =
            |time, text: &str, f| vec![Value::Time64Ns(time), Value::str(text), Value::Float64(f)];
        assert_eq!(rows, vec![(7, row(7, "", 1.0)), (9, row(5, "late", 0.0))]);
        assert_eq!(found.future, 1);
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
