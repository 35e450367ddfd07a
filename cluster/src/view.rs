//! The state of one maintained view: the rows of each output as a multiset, and the net changes
//! since the last frontier. Plain data, no actors and no clock: the server's query actor and the
//! offline driver both hold one.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_sinks::json::{RowWriter, changes_body};
use weir_types::PackedRow;
use weir_types::schema::Relation;

/// Rows that a snapshot may have unless the server is told otherwise.
pub const SNAPSHOT_ROWS_MAX: usize = 1_000_000;
/// Packed bytes that a snapshot may have.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

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
    /// vis.json widgets that show this table.
    pub widgets: Vec<serde_json::Value>,
}

struct Output {
    info: Arc<OutputInfo>,
    writer: RowWriter,
    rows: BTreeMap<PackedRow, i64>,
    bytes: usize,
    /// Changes after the last frontier.
    pending: BTreeMap<PackedRow, i64>,
}

/// Net changes of one output at one frontier, or all its rows for a snapshot.
#[derive(Clone, Debug)]
pub struct OutputChanges {
    pub table: Arc<OutputInfo>,
    pub rows: Vec<(PackedRow, i64)>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the snapshot of `{table}` has {rows} rows ({bytes} bytes), more than {rows_max} rows or {SNAPSHOT_BYTES_MAX} bytes: use head(n) in the script"
)]
pub struct SnapshotTooLarge {
    pub table: String,
    pub rows: usize,
    pub bytes: usize,
    pub rows_max: usize,
}

/// A view's outputs at its frontier.
pub struct ViewState {
    outputs: Vec<Output>,
    /// The last frontier, in ticks of milliseconds.
    pub frontier_ms: Option<u64>,
}

fn add(rows: &mut BTreeMap<PackedRow, i64>, row: PackedRow, diff: i64) {
    use std::collections::btree_map::Entry;
    match rows.entry(row) {
        Entry::Occupied(mut have) => {
            *have.get_mut() += diff;
            if *have.get() == 0 {
                have.remove();
            }
        }
        Entry::Vacant(slot) if diff != 0 => {
            slot.insert(diff);
        }
        Entry::Vacant(_) => {}
    }
}

impl ViewState {
    #[must_use]
    pub fn new(outputs: Vec<OutputInfo>) -> ViewState {
        let outputs = outputs
            .into_iter()
            .map(|info| Output {
                writer: RowWriter::new(&info.relation),
                info: Arc::new(info),
                rows: BTreeMap::new(),
                bytes: 0,
                pending: BTreeMap::new(),
            })
            .collect();
        ViewState { outputs, frontier_ms: None }
    }

    #[must_use]
    pub fn outputs(&self) -> Vec<Arc<OutputInfo>> {
        self.outputs.iter().map(|output| output.info.clone()).collect()
    }

    /// Takes in changes that the engine handed out before a frontier.
    pub fn apply(&mut self, table: &str, rows: Vec<(PackedRow, i64)>) {
        if let Some(output) = self.outputs.iter_mut().find(|output| output.info.table == table) {
            for (row, diff) in rows {
                add(&mut output.pending, row, diff);
            }
        }
    }

    /// Moves to a frontier and gives what changed since the last one.
    pub fn advance(&mut self, frontier_ms: u64) -> Vec<OutputChanges> {
        self.frontier_ms = Some(frontier_ms);
        let mut changed = Vec::new();
        for output in &mut self.outputs {
            let pending = std::mem::take(&mut output.pending);
            if pending.is_empty() {
                continue;
            }
            for (row, diff) in &pending {
                let before = output.rows.len();
                add(&mut output.rows, row.clone(), *diff);
                match output.rows.len().cmp(&before) {
                    std::cmp::Ordering::Greater => output.bytes += row.0.len(),
                    std::cmp::Ordering::Less => output.bytes -= row.0.len(),
                    std::cmp::Ordering::Equal => {}
                }
            }
            changed.push(OutputChanges {
                table: output.info.clone(),
                rows: pending.into_iter().collect(),
            });
        }
        changed
    }

    /// The rows of every output at the frontier, refused if one is too large.
    pub fn snapshot(&self, rows_max: usize) -> Result<Vec<OutputChanges>, SnapshotTooLarge> {
        self.outputs
            .iter()
            .map(|output| {
                if output.rows.len() > rows_max || output.bytes > SNAPSHOT_BYTES_MAX {
                    return Err(SnapshotTooLarge {
                        table: output.info.table.clone(),
                        rows: output.rows.len(),
                        bytes: output.bytes,
                        rows_max,
                    });
                }
                let rows = output.rows.iter().map(|(row, count)| (row.clone(), *count)).collect();
                Ok(OutputChanges { table: output.info.clone(), rows })
            })
            .collect()
    }

    /// The shared body of a `changes` message.
    #[must_use]
    pub fn body(&self, changes: &OutputChanges, tick_ms: u64, snapshot: bool) -> String {
        let tick_unix_ns = tick_unix_ns(tick_ms);
        self.outputs.iter().find(|output| Arc::ptr_eq(&output.info, &changes.table)).map_or_else(
            String::new,
            |output| {
                let table = &output.info.table;
                changes_body(&output.writer, table, tick_unix_ns, &changes.rows, snapshot)
            },
        )
    }

    /// Distinct rows and packed bytes over all outputs.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.outputs
            .iter()
            .fold((0, 0), |(rows, bytes), output| (rows + output.rows.len(), bytes + output.bytes))
    }
}

/// A tick as Unix nanoseconds.
#[must_use]
pub fn tick_unix_ns(tick_ms: u64) -> i64 {
    i64::try_from(tick_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use weir_types::{Column, DataType, SemanticType, Value};

    use super::*;

    fn info() -> OutputInfo {
        OutputInfo {
            table: "t".into(),
            relation: Relation::new(vec![Column::new("n", DataType::Int64, SemanticType::None)]),
            key: vec![],
            window_from: "-5m".into(),
            pane_ms: 1000,
            widgets: vec![],
        }
    }
    fn row(n: i64) -> PackedRow {
        PackedRow::pack(&[Value::Int64(n)])
    }

    /// Changes within one frontier cancel out, the snapshot is their sum, and a too large one is
    /// refused rather than cut.
    #[test]
    fn nets_changes_per_frontier() {
        let mut view = ViewState::new(vec![info()]);
        view.apply("t", vec![(row(1), 1), (row(2), 2)]);
        view.apply("t", vec![(row(1), -1)]);
        let changed = view.advance(100);
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].rows, vec![(row(2), 2)]);
        assert!(view.advance(200).is_empty());
        view.apply("t", vec![(row(2), -1), (row(3), 1)]);
        view.advance(300);
        let snapshot = view.snapshot(10).unwrap();
        assert_eq!(snapshot[0].rows, vec![(row(2), 1), (row(3), 1)]);
        assert_eq!(view.snapshot(1).unwrap_err().rows, 2);
        assert_eq!(view.size(), (2, 16));
    }
}
