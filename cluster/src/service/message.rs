//! What readers are told, as text: one message without its id, and the bodies of the messages that
//! are not rows. Rows are written by `weir_sinks::json`.

use std::sync::Arc;

use weir_sinks::json::push_string;
use weir_types::clock::tick_unix_ns;
use weir_types::json::time_text;

use crate::coordinator::QueryCompleteness;
use crate::view::OutputInfo;

/// What a waiting message costs beside its text.
const MESSAGE_OVERHEAD_BYTES: u64 = 128;

/// One message for a subscriber, without its id. Encoded once, shared by all its readers.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The message's `type`.
    pub kind: &'static str,
    /// Everything after `"id":…,`.
    pub body: Arc<str>,
    /// For `changes`: the tick, and event times behind it, to measure freshness by.
    pub tick_unix_ns: i64,
    pub events_unix_ns: Arc<[i64]>,
}

impl Outgoing {
    #[must_use]
    pub fn new(kind: &'static str, body: String) -> Outgoing {
        Outgoing { kind, body: body.into(), tick_unix_ns: 0, events_unix_ns: Arc::from([]) }
    }

    /// An `error` message; `members` are appended as they are.
    #[must_use]
    pub fn error(code: &str, message: &str, members: &str) -> Outgoing {
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
        Outgoing::new("error", body)
    }

    #[must_use]
    pub fn end(reason: &str) -> Outgoing {
        let mut body = String::from("\"reason\":");
        push_string(&mut body, reason);
        body.push('}');
        Outgoing::new("end", body)
    }

    /// What it costs while it waits.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.body.len() as u64 + MESSAGE_OVERHEAD_BYTES
    }
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
pub fn completeness_members(frontier_ms: u64, completeness: &QueryCompleteness) -> String {
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
pub fn progress_body(frontier_ms: u64, completeness: &QueryCompleteness) -> String {
    completeness_members(frontier_ms, completeness) + "}"
}
