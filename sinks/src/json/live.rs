//! Messages of the live protocol as text, without their type and id: those are each subscription's own,
//! the rest is equal for all and written once.

use weir_types::clock::tick_unix_ns;
use weir_types::json::time_text;

use super::{changes_body, push_string};
use crate::delivery::{Changes, Completeness, OutputInfo};

/// One message: its `type`, and everything after `"id":…,`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveText {
    pub kind: &'static str,
    pub body: String,
}

impl LiveText {
    #[must_use]
    pub fn new(kind: &'static str, body: String) -> LiveText {
        LiveText { kind, body }
    }
}

#[must_use]
pub fn changes_text(changes: &Changes, tick_ms: u64, snapshot: bool) -> LiveText {
    let (writer, at) = (&changes.output.writer, tick_unix_ns(tick_ms));
    LiveText::new("changes", changes_body(writer, changes.table(), at, &changes.rows, snapshot))
}

/// An `error` message; `members` are appended as they are.
#[must_use]
pub fn error_text(code: &str, message: &str, members: &str) -> LiveText {
    let mut body = String::from("\"code\":");
    push_string(&mut body, code);
    body.push_str(",\"message\":");
    push_string(&mut body, message);
    if !members.is_empty() {
        body.push(',');
        body.push_str(members);
    }
    if !members.contains("\"diagnostics\":") {
        body.push_str(",\"diagnostics\":[]");
    }
    body.push('}');
    LiveText::new("error", body)
}

#[must_use]
pub fn end_text(reason: &str) -> LiveText {
    let mut body = String::from("\"reason\":");
    push_string(&mut body, reason);
    body.push('}');
    LiveText::new("end", body)
}

/// The body of a `schema` message.
#[must_use]
pub fn schema_body(info: &OutputInfo) -> String {
    let window = (!info.window_from.is_empty())
        .then(|| serde_json::json!({"from": info.window_from, "pane_ms": info.pane_ms}));
    let mut body = String::from("\"table\":");
    push_string(&mut body, &info.table);
    for (name, value) in [
        ("columns", serde_json::json!(weir_types::live::columns_of(&info.relation))),
        ("key", serde_json::json!(info.key)),
        ("window", window.unwrap_or(serde_json::Value::Null)),
        ("widgets", serde_json::json!(info.widgets)),
    ] {
        body.push_str(&format!(",\"{name}\":{value}"));
    }
    body.push('}');
    body
}

/// The completeness object's members, in the contract's order.
#[must_use]
pub fn completeness_members(frontier_ms: u64, completeness: &Completeness) -> String {
    format!(
        "\"frontier\":\"{}\",\"complete_to\":\"{}\",\"covers_from\":\"{}\",\"complete\":{},\
         \"lagging\":{},\"lost\":{}",
        time_text(tick_unix_ns(frontier_ms)),
        time_text(completeness.complete_to_unix_ns),
        time_text(completeness.covers_from_unix_ns),
        completeness.complete,
        serde_json::json!(completeness.lagging),
        serde_json::json!(completeness.lost),
    )
}

/// The body of a `progress` message.
#[must_use]
pub fn progress_body(frontier_ms: u64, completeness: &Completeness) -> String {
    completeness_members(frontier_ms, completeness) + "}"
}
