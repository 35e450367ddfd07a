//! The live messages of the contract, as the server writes them and clients read them.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::diagnostic::Diagnostic;
use crate::schema::Relation;

/// A column as the outside sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
    pub semantic: String,
    pub desc: String,
}

#[must_use]
pub fn columns_of(relation: &Relation) -> Vec<ColumnInfo> {
    relation
        .columns
        .iter()
        .map(|column| ColumnInfo {
            name: column.name.clone(),
            data_type: column.data_type.name().to_string(),
            semantic: column.semantic.name().to_string(),
            desc: column.desc.clone(),
        })
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowInfo {
    /// What the script said, for example `-5m`; empty without a start.
    pub from: String,
    pub pane_ms: u64,
}

/// How complete an answer is. Times are RFC 3339 with nine digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Completeness {
    /// Rows admitted up to here are in.
    pub frontier: String,
    /// Event time below which no live node still owes a row.
    pub complete_to: String,
    /// Event time since which no live node dropped history.
    pub covers_from: String,
    pub complete: bool,
    pub lagging: Vec<String>,
    /// table → reason → count of lost records within the window.
    pub lost: serde_json::Map<String, Json>,
}

/// Server → client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum LiveMessage {
    Schema {
        id: String,
        table: String,
        columns: Vec<ColumnInfo>,
        key: Vec<String>,
        window: Option<WindowInfo>,
        #[serde(default)]
        widgets: Vec<Json>,
    },
    Changes {
        id: String,
        table: String,
        tick: String,
        /// `[diff, row]`
        rows: Vec<(i64, Json)>,
        snapshot: bool,
    },
    Progress {
        id: String,
        #[serde(flatten)]
        completeness: Completeness,
    },
    Error {
        id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        table: Option<String>,
        code: String,
        message: String,
        #[serde(default)]
        diagnostics: Vec<Diagnostic>,
    },
    End {
        id: String,
        reason: String,
    },
}
