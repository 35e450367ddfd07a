//! Batches as rows that a test can compare.

use weir_types::batch::value_at;
use weir_types::{RecordBatch, Value, tables};

/// The rows of a table in batches of several.
pub(crate) struct Rows {
    table: &'static str,
    rows: Vec<Vec<Value>>,
}

impl Rows {
    pub(crate) fn of(table: &'static str, batches: &[(&'static str, RecordBatch)]) -> Rows {
        let relation = tables::relation(table).unwrap();
        let mut rows = Vec::new();
        for (_, batch) in batches.iter().filter(|(name, _)| *name == table) {
            assert_eq!(batch.num_columns(), relation.len());
            for row in 0..batch.num_rows() {
                let value = |idx: usize| {
                    value_at(batch.column(idx), relation.columns[idx].data_type, row).unwrap()
                };
                rows.push((0..relation.len()).map(value).collect());
            }
        }
        Rows { table, rows }
    }
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
    fn value(&self, row: usize, column: &str) -> &Value {
        let idx = tables::relation(self.table).unwrap().index_of(column).unwrap();
        &self.rows[row][idx]
    }
    pub(crate) fn int(&self, row: usize, column: &str) -> i64 {
        match self.value(row, column) {
            Value::Int64(value) | Value::Time64Ns(value) => *value,
            other => panic!("{column} is {other:?}"),
        }
    }
    pub(crate) fn bool(&self, row: usize, column: &str) -> bool {
        match self.value(row, column) {
            Value::Boolean(value) => *value,
            other => panic!("{column} is {other:?}"),
        }
    }
    pub(crate) fn text(&self, row: usize, column: &str) -> String {
        match self.value(row, column) {
            Value::String(value) => String::from_utf8(value.clone()).unwrap(),
            other => panic!("{column} is {other:?}"),
        }
    }
    /// Text that may have been cut within a character.
    pub(crate) fn text_lossy(&self, row: usize, column: &str) -> String {
        match self.value(row, column) {
            Value::String(value) => String::from_utf8_lossy(value).into_owned(),
            other => panic!("{column} is {other:?}"),
        }
    }
    /// A number in decimal, or text that may have been cut within a character.
    pub(crate) fn shown(&self, row: usize, column: &str) -> String {
        match self.value(row, column) {
            Value::Int64(_) => self.int(row, column).to_string(),
            _ => self.text_lossy(row, column),
        }
    }
    pub(crate) fn upid(&self, row: usize) -> weir_types::Upid {
        match self.value(row, "upid") {
            Value::Uint128(value) => weir_types::Upid(*value),
            other => panic!("upid is {other:?}"),
        }
    }
    pub(crate) fn texts(&self, column: &str) -> Vec<String> {
        (0..self.len()).map(|row| self.text(row, column)).collect()
    }
    pub(crate) fn ints(&self, column: &str) -> Vec<i64> {
        (0..self.len()).map(|row| self.int(row, column)).collect()
    }
}
