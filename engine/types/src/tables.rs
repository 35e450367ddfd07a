//! The table registry: every table that PxL knows, declared once, with a description, unit and
//! semantic type per column. The same declaration drives record builders, the compiler's schema,
//! `weir schema` and the docs.

mod declared;

use std::sync::OnceLock;

pub use declared::TABLES;

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
    pub columns: &'static [ColumnDef],
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
