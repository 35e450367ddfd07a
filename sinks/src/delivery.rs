//! What a subscriber of a view receives, whoever it is: a websocket, the answer to `run`, a sink.
//!
//! A [`Delivery`] is shared by all subscribers that are at the same place, and says nothing about how its
//! rows are written: that is decided at the edge, and done once for all who want the same text
//! ([`Delivery::live`]). How deliveries come about is the view's business, not theirs.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use weir_types::PackedRow;
use weir_types::plan::SlidingWindow;
use weir_types::schema::Relation;

use crate::json::RowWriter;
use crate::json::live::{LiveText, changes_text, progress_body};

/// What a row costs in memory beside its bytes.
const ROW_OVERHEAD_BYTES: usize = 48;
/// What a delivery costs beside its rows.
const DELIVERY_OVERHEAD_BYTES: u64 = 192;

/// How complete an answer is at a frontier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completeness {
    pub complete_to_unix_ns: i64,
    pub covers_from_unix_ns: i64,
    pub complete: bool,
    pub lagging: Vec<String>,
    /// table → reason → lost within the window
    pub lost: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What is known of an output before its first row.
#[derive(Clone, Debug)]
pub struct OutputInfo {
    pub table: String,
    pub relation: Relation,
    /// Columns that identify a row, where the output is an aggregate.
    pub key: Vec<String>,
    /// What the script said as start, for example `-5m`.
    pub window_from: String,
    pub pane_ms: u64,
    /// The narrowest sliding window behind it: what leaves that leaves the output.
    pub window: Option<SlidingWindow>,
    /// vis.json widgets that show this table.
    pub widgets: Vec<serde_json::Value>,
}

/// An output of a view, with what writes its rows.
pub struct Output {
    pub info: OutputInfo,
    pub writer: RowWriter,
}

impl Output {
    #[must_use]
    pub fn new(info: OutputInfo) -> Output {
        Output { writer: RowWriter::new(&info.relation), info }
    }

    /// What a row of this output costs while it waits: itself, and the text that may be made of it.
    #[must_use]
    pub fn row_bytes(&self, row: &PackedRow) -> usize {
        let text = self.writer.text_bytes(row);
        row.0.len() + ROW_OVERHEAD_BYTES + text
    }
}

/// Rows of one output that came or went: multiset elements.
pub struct Changes {
    pub output: Arc<Output>,
    pub rows: Vec<(PackedRow, i64)>,
}

impl Changes {
    #[must_use]
    pub fn table(&self) -> &str {
        &self.output.info.table
    }
}

/// A part of what changed up to a tick; with `completeness`, the last part.
pub struct Delivery {
    pub tick_ms: u64,
    pub changes: Vec<Changes>,
    /// What a subscriber gets before its first `completeness`.
    pub snapshot: bool,
    /// All that belongs to the tick has been delivered, and so complete it is.
    pub completeness: Option<Completeness>,
    /// Event times behind it, to measure freshness by.
    pub events_unix_ns: Vec<i64>,
    bytes: u64,
    live: OnceLock<Vec<LiveText>>,
}

impl Delivery {
    #[must_use]
    pub fn new(
        tick_ms: u64,
        changes: Vec<Changes>,
        completeness: Option<Completeness>,
    ) -> Delivery {
        let of_changes = |changes: &Changes| -> usize {
            changes.rows.iter().map(|(row, _)| changes.output.row_bytes(row)).sum()
        };
        let rows: usize = changes.iter().map(of_changes).sum();
        Delivery {
            tick_ms,
            changes,
            snapshot: false,
            completeness,
            events_unix_ns: Vec::new(),
            bytes: rows as u64 + DELIVERY_OVERHEAD_BYTES,
            live: OnceLock::new(),
        }
    }

    /// What changes of one output.
    pub fn changes_of<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Changes> {
        self.changes.iter().filter(move |changes| changes.table() == table)
    }

    /// What it costs while it waits, its text included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As messages of the live protocol, without an id: written by the first who asks, for all.
    #[must_use]
    pub fn live(&self) -> &[LiveText] {
        self.live.get_or_init(|| {
            let changes =
                self.changes.iter().map(|of| changes_text(of, self.tick_ms, self.snapshot));
            let progress = self.completeness.as_ref().map(|completeness| LiveText {
                kind: "progress",
                body: progress_body(self.tick_ms, completeness),
            });
            changes.chain(progress).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_types::{Column, DataType, SemanticType, Value};

    use super::*;

    /// One delivery is the messages of one refresh in their order, written once; what it costs is not less
    /// than what it and its text take, however the text is escaped.
    #[test]
    fn text_is_made_once_and_paid_for() {
        let info = OutputInfo {
            table: "t".to_string(),
            relation: Relation::new(vec![Column::new("s", DataType::String, SemanticType::None)]),
            key: vec![],
            window_from: String::new(),
            pane_ms: 0,
            window: None,
            widgets: vec![],
        };
        let output = Arc::new(Output::new(info));
        let rows: Vec<(PackedRow, i64)> = ["plain", "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\"\\", "é"]
            .iter()
            .map(|text| (PackedRow::pack(&[Value::str(text)]), 1))
            .collect();
        let changes = vec![Changes { output, rows }];
        let delivery = Delivery::new(1_000, changes, Some(Completeness::default()));
        let kinds: Vec<&str> = delivery.live().iter().map(|text| text.kind).collect();
        assert_eq!(kinds, ["changes", "progress"]);
        assert!(std::ptr::eq(delivery.live(), delivery.live()));
        assert!(delivery.bytes() >= delivery.live()[0].body.len() as u64);
    }
}
