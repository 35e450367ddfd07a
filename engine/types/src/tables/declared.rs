//! The declarations behind the registry: one table after the other, columns in schema order.

mod protocols;
mod system;

use protocols::PROTOCOLS;
use system::SYSTEM;

use super::{ColumnDef, TableDef};
use crate::value::{DataType, SemanticType};

const COUNT: usize = PROTOCOLS.len() + SYSTEM.len();

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

/// Every table.
pub const TABLES: &[TableDef] = &{
    let mut all = [PROTOCOLS[0]; COUNT];
    let mut idx = 0;
    while idx < COUNT {
        all[idx] =
            if idx < PROTOCOLS.len() { PROTOCOLS[idx] } else { SYSTEM[idx - PROTOCOLS.len()] };
        idx += 1;
    }
    all
};
