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
    /// What something of the server is; a later one takes its place.
    Status {
        id: String,
        /// `alerts` or `sinks`.
        status: String,
        value: Json,
    },
    End {
        id: String,
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Severity;
    use crate::testing::misfits;

    fn messages() -> Vec<LiveMessage> {
        let id = || "q1".to_string();
        let column = ColumnInfo {
            name: "n".to_string(),
            data_type: "INT64".to_string(),
            semantic: "NONE".to_string(),
            desc: String::new(),
        };
        let window = WindowInfo { from: "-5m".to_string(), pane_ms: 1000 };
        let widget = json!({"name": "w", "position": {"x": 0, "w": 6}, "displaySpec": {"@type": "T", "title": "t"}});
        let schema = |window, widgets| LiveMessage::Schema {
            id: id(),
            table: "t".to_string(),
            columns: vec![column.clone()],
            key: vec!["n".to_string()],
            window,
            widgets,
        };
        let diagnostic = Diagnostic {
            code: "column_not_found".to_string(),
            severity: Severity::Error,
            message: "m".to_string(),
            file: "f".to_string(),
            line: 1,
            column: 2,
            end_line: 1,
            end_column: 3,
            label: "l".to_string(),
            hint: "h".to_string(),
        };
        let lost = serde_json::Map::from_iter([("t".to_string(), json!({"ring_full": 3}))]);
        let error = |table, diagnostics| LiveMessage::Error {
            id: id(),
            table,
            code: "c".to_string(),
            message: "m".to_string(),
            diagnostics,
        };
        vec![
            schema(Some(window), vec![widget]),
            schema(None, Vec::new()),
            LiveMessage::Changes {
                id: id(),
                table: "t".to_string(),
                tick: "2026-01-01T00:00:00.000000000Z".to_string(),
                rows: vec![(-1, json!({"n": i64::MAX, "x": "NaN", "b": true}))],
                snapshot: true,
            },
            LiveMessage::Progress {
                id: id(),
                completeness: Completeness { lost, ..Completeness::default() },
            },
            error(Some("t".to_string()), vec![diagnostic]),
            error(None, Vec::new()),
            LiveMessage::Status {
                id: id(),
                status: "sinks".to_string(),
                value: json!({"sinks": [{"name": "n", "type": "file", "state": "running"}]}),
            },
            LiveMessage::End { id: id(), reason: "r".to_string() },
        ]
    }

    /// Everything that is sent is published as it is sent, and nothing else is published: the page's types
    /// are made from the schema. Catches a member that was renamed on one side.
    #[test]
    fn messages_are_what_is_published() {
        let text = include_str!("../../../docs/api/messages.schema.json");
        let schema: Json = serde_json::from_str(text).unwrap();
        let mut sent = std::collections::BTreeSet::new();
        for message in messages() {
            let message = serde_json::to_value(message).unwrap();
            assert_eq!(misfits(&schema, &schema, &message), [""; 0], "{message}");
            let of = message["type"].as_str().unwrap().to_string();
            sent.extend(message.as_object().unwrap().keys().map(|key| (of.clone(), key.clone())));
        }
        for part in schema["$defs"].as_object().unwrap().values() {
            let Some(of) = part["properties"]["type"]["const"].as_str() else { continue };
            for member in part["properties"].as_object().unwrap().keys() {
                assert!(sent.remove(&(of.to_string(), member.clone())), "{of} never has {member}");
            }
        }
        assert_eq!(sent.len(), 0);
        let wrong = json!({"type": "end", "id": "q1", "reason": 3, "why": "x"});
        assert_eq!(misfits(&schema, &schema, &wrong).len(), 2);
    }
}
