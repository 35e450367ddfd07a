//! The table registry: every table that PxL knows, declared once, with a description, unit and
//! semantic type per column. The same declaration drives record builders, the compiler's schema,
//! `weir schema` and the docs.

mod declared;
mod endpoints;
mod typed;

use std::sync::OnceLock;

pub use declared::*;
pub use endpoints::{ENDPOINT_COLUMNS, Endpoints};
pub use typed::{Table, TableBuilder};

use crate::schema::{Column, Relation};
use crate::value::{DataType, SemanticType};

/// One declared column.
#[derive(Clone, Copy, Debug)]
pub struct ColumnDef {
    pub name: &'static str,
    pub data_type: DataType,
    pub semantic: SemanticType,
    pub desc: &'static str,
    /// STRING with few distinct values: dictionary-encoded by builders.
    pub low_cardinality: bool,
}

/// One declared table.
#[derive(Clone, Copy, Debug)]
pub struct TableDef {
    pub name: &'static str,
    pub desc: &'static str,
    pub history: HistoryBudget,
    pub columns: &'static [ColumnDef],
}

/// How much of a node's memory for recent rows a table may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryBudget {
    /// So much of a hundred.
    Percent(u64),
    /// So many bytes, but no more than so much of a hundred.
    Fixed { bytes: u64, percent_max: u64 },
    /// What these leave, in equal parts.
    Share,
}

impl HistoryBudget {
    /// Of `total_bytes`; `None` for a share.
    #[must_use]
    pub fn bytes(self, total_bytes: u64) -> Option<u64> {
        match self {
            HistoryBudget::Percent(percent) => Some(total_bytes / 100 * percent),
            HistoryBudget::Fixed { bytes, percent_max } => {
                Some(bytes.min(total_bytes / 100 * percent_max))
            }
            HistoryBudget::Share => None,
        }
    }
}

const fn column(
    name: &'static str,
    data_type: DataType,
    semantic: SemanticType,
    desc: &'static str,
) -> ColumnDef {
    ColumnDef { name, data_type, semantic, desc, low_cardinality: false }
}

/// A STRING column with few distinct values.
const fn label(name: &'static str, semantic: SemanticType, desc: &'static str) -> ColumnDef {
    ColumnDef { name, data_type: DataType::String, semantic, desc, low_cardinality: true }
}

impl TableDef {
    #[must_use]
    pub fn relation(&self) -> Relation {
        Relation::new(
            self.columns
                .iter()
                .map(|def| Column {
                    name: def.name.to_string(),
                    data_type: def.data_type,
                    semantic: def.semantic,
                    desc: def.desc.to_string(),
                })
                .collect(),
        )
    }
    /// Positions of the columns that builders encode as dictionaries.
    #[must_use]
    pub fn dictionaries(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|&idx| self.columns[idx].low_cardinality).collect()
    }
    /// Whether its rows say that they were captured above TLS.
    #[must_use]
    pub fn has_encrypted(&self) -> bool {
        self.columns.iter().any(|column| column.name == endpoints::ENCRYPTED.name)
    }
    /// An empty builder of this table's batches.
    #[must_use]
    pub fn builder(&self) -> crate::batch::BatchBuilder {
        crate::batch::BatchBuilder::with_dictionaries(&self.relation(), &self.dictionaries())
    }
}

/// The table of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static TableDef> {
    TABLES.iter().find(|table| table.name == name)
}

/// All relations by table name, made once.
#[must_use]
pub fn relation(name: &str) -> Option<&'static Relation> {
    static RELATIONS: OnceLock<Vec<(&'static str, Relation)>> = OnceLock::new();
    RELATIONS
        .get_or_init(|| TABLES.iter().map(|table| (table.name, table.relation())).collect())
        .iter()
        .find(|(have, _)| *have == name)
        .map(|(_, relation)| relation)
}

#[cfg(test)]
mod tests;
