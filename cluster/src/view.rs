//! The state of one maintained view: the rows of each output as a multiset, and the net changes
//! since the last frontier. Plain data, no actors and no clock: the server's views and the offline
//! driver both hold one. The server moves it row by row, in slices ([`ViewState::add_row`]); the
//! offline driver a frontier at a time ([`ViewState::advance`]).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use weir_sinks::delivery::{Changes, Output};
use weir_types::PackedRow;

pub use weir_sinks::delivery::OutputInfo;

/// Rows that a snapshot may have unless the server is told otherwise.
pub const SNAPSHOT_ROWS_MAX: usize = 1_000_000;
/// Packed bytes that a snapshot may have unless the server is told otherwise.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// The rows of one output.
struct Held {
    output: Arc<Output>,
    rows: BTreeMap<PackedRow, i64>,
    bytes: usize,
    /// Changes after the last frontier.
    pending: BTreeMap<PackedRow, i64>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the snapshot of `{table}` has {rows} rows ({bytes} bytes), more than {} rows or {} bytes: use head(n) in the script",
    limits.rows_max,
    limits.bytes_max
)]
pub struct SnapshotTooLarge {
    pub table: String,
    pub rows: usize,
    pub bytes: usize,
    pub limits: SnapshotLimits,
}

/// What an output may hold for a reader to get all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotLimits {
    pub rows_max: usize,
    pub bytes_max: usize,
}

impl Default for SnapshotLimits {
    fn default() -> SnapshotLimits {
        SnapshotLimits { rows_max: SNAPSHOT_ROWS_MAX, bytes_max: SNAPSHOT_BYTES_MAX }
    }
}

impl SnapshotLimits {
    /// For rows that are in memory anyway.
    pub const NONE: SnapshotLimits = SnapshotLimits { rows_max: usize::MAX, bytes_max: usize::MAX };
}

/// A view's outputs at its frontier.
pub struct ViewState {
    outputs: Vec<Held>,
    /// The last frontier, in ticks of milliseconds.
    pub frontier_ms: Option<u64>,
}

/// Adds to a multiset; a count of zero is no entry.
pub(crate) fn add(rows: &mut BTreeMap<PackedRow, i64>, row: PackedRow, diff: i64) {
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

impl Held {
    fn add(&mut self, row: PackedRow, diff: i64) {
        let bytes = row.0.len();
        let before = self.rows.len();
        add(&mut self.rows, row, diff);
        match self.rows.len().cmp(&before) {
            std::cmp::Ordering::Greater => self.bytes += bytes,
            std::cmp::Ordering::Less => self.bytes -= bytes,
            std::cmp::Ordering::Equal => {}
        }
    }

    fn check(&self, limits: SnapshotLimits) -> Result<(), SnapshotTooLarge> {
        if self.rows.len() <= limits.rows_max && self.bytes <= limits.bytes_max {
            return Ok(());
        }
        Err(SnapshotTooLarge {
            table: self.output.info.table.clone(),
            rows: self.rows.len(),
            bytes: self.bytes,
            limits,
        })
    }
}

impl ViewState {
    #[must_use]
    pub fn new(outputs: Vec<OutputInfo>) -> ViewState {
        let outputs = outputs
            .into_iter()
            .map(|info| Held {
                output: Arc::new(Output::new(info)),
                rows: BTreeMap::new(),
                bytes: 0,
                pending: BTreeMap::new(),
            })
            .collect();
        ViewState { outputs, frontier_ms: None }
    }

    #[must_use]
    pub fn outputs(&self) -> Vec<Arc<Output>> {
        self.outputs.iter().map(|held| Arc::clone(&held.output)).collect()
    }

    /// The position of an output among them.
    #[must_use]
    pub(crate) fn position(&self, table: &str) -> Option<usize> {
        self.outputs.iter().position(|held| held.output.info.table == table)
    }

    pub(crate) fn output_count(&self) -> usize {
        self.outputs.len()
    }

    pub(crate) fn output(&self, output: usize) -> &Arc<Output> {
        &self.outputs[output].output
    }

    /// Adds to one row of an output, at once.
    pub(crate) fn add_row(&mut self, output: usize, row: PackedRow, diff: i64) {
        self.outputs[output].add(row, diff);
    }

    /// The rows of an output from behind `after` on, in their order.
    pub(crate) fn rows_after<'a>(
        &'a self,
        output: usize,
        after: Option<&'a PackedRow>,
    ) -> impl Iterator<Item = (&'a PackedRow, i64)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.outputs[output].rows.range::<PackedRow, _>((from, Bound::Unbounded));
        range.map(|(row, count)| (row, *count))
    }

    /// Refused if an output is too large.
    pub(crate) fn check(&self, limits: SnapshotLimits) -> Result<(), SnapshotTooLarge> {
        self.outputs.iter().try_for_each(|output| output.check(limits))
    }

    /// Takes in changes that the engine handed out before a frontier.
    pub fn apply(&mut self, table: &str, rows: Vec<(PackedRow, i64)>) {
        if let Some(output) = self.outputs.iter_mut().find(|held| held.output.info.table == table) {
            for (row, diff) in rows {
                add(&mut output.pending, row, diff);
            }
        }
    }

    /// Moves to a frontier and gives what changed since the last one.
    pub fn advance(&mut self, frontier_ms: u64) -> Vec<Changes> {
        self.frontier_ms = Some(frontier_ms);
        let mut changed = Vec::new();
        for output in &mut self.outputs {
            let pending = std::mem::take(&mut output.pending);
            if pending.is_empty() {
                continue;
            }
            for (row, diff) in &pending {
                output.add(row.clone(), *diff);
            }
            let rows = pending.into_iter().collect();
            changed.push(Changes { output: Arc::clone(&output.output), rows });
        }
        changed
    }

    /// The rows of every output at the frontier, refused if one is too large.
    pub fn snapshot(&self, limits: SnapshotLimits) -> Result<Vec<Changes>, SnapshotTooLarge> {
        self.check(limits)?;
        let outputs = self.outputs.iter().map(|output| {
            let rows = output.rows.iter().map(|(row, count)| (row.clone(), *count)).collect();
            Changes { output: Arc::clone(&output.output), rows }
        });
        Ok(outputs.collect())
    }

    /// Distinct rows and packed bytes over all outputs.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.outputs
            .iter()
            .fold((0, 0), |(rows, bytes), output| (rows + output.rows.len(), bytes + output.bytes))
    }
}

#[cfg(test)]
mod tests {
    use weir_types::schema::Relation;
    use weir_types::{Column, DataType, SemanticType, Value};

    use super::*;

    fn info() -> OutputInfo {
        OutputInfo {
            table: "t".into(),
            relation: Relation::new(vec![Column::new("n", DataType::Int64, SemanticType::None)]),
            key: vec![],
            window_from: "-5m".into(),
            pane_ms: 1000,
            window: None,
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
        let snapshot = view.snapshot(SnapshotLimits::default()).unwrap();
        assert_eq!(snapshot[0].rows, vec![(row(2), 1), (row(3), 1)]);
        for (rows_max, bytes_max) in [(1, usize::MAX), (10, 15)] {
            let limits = SnapshotLimits { rows_max, bytes_max };
            assert_eq!(view.snapshot(limits).err().unwrap().rows, 2);
        }
        assert_eq!(view.size(), (2, 16));
    }
}
