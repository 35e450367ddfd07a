//! Columns and relations (ordered lists of columns with unique names).

use serde::{Deserialize, Serialize};

use crate::value::{DataType, SemanticType};

/// One column of a table or of a plan operator's output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub semantic: SemanticType,
    /// What it holds and its unit; empty for computed columns.
    pub desc: String,
}

impl Column {
    #[must_use]
    pub fn new(name: impl Into<String>, data_type: DataType, semantic: SemanticType) -> Column {
        Column { name: name.into(), data_type, semantic, desc: String::new() }
    }
}

/// An ordered list of columns. Names are unique (the compiler guarantees it).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Relation {
    pub columns: Vec<Column>,
}

impl Relation {
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Relation {
        Relation { columns }
    }
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
    #[must_use]
    pub fn types(&self) -> Vec<DataType> {
        self.columns.iter().map(|column| column.data_type).collect()
    }
    /// The position of `time_`, if it is a TIME64NS column: the event time.
    #[must_use]
    pub fn time_idx(&self) -> Option<usize> {
        self.index_of("time_").filter(|&idx| self.columns[idx].data_type == DataType::Time64Ns)
    }
}
