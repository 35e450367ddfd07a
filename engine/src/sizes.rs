//! What operators will count for what they keep, from the sizes of rows and accumulators alone, for whoever
//! estimates before anything runs. It goes by the constants that the operators go by, and measures nothing.

use weir_types::PackedRow;

use crate::render::sizes::{GROUP_BYTES, LATER_GROUP_BYTES, LIVE_BYTES, PART_BYTES};
use crate::weigh::{HEAP_BYTES, MAP_DENOMINATOR, MAP_NUMERATOR};

fn map_entry(key_bytes: f64, size: usize) -> f64 {
    (size * MAP_NUMERATOR / MAP_DENOMINATOR + HEAP_BYTES) as f64 + key_bytes
}

/// A group's part in one pane, with accumulators of so many bytes together.
#[must_use]
pub fn pane_part(acc_bytes: f64) -> f64 {
    PART_BYTES as f64 + acc_bytes
}

/// A group of a sliding window beside its parts: `told_bytes` of results.
#[must_use]
pub fn window_group(key_bytes: f64, told_bytes: f64) -> f64 {
    GROUP_BYTES as f64 + key_bytes + told_bytes
}

/// A row in a window.
#[must_use]
pub fn window_row(row_bytes: f64) -> f64 {
    map_entry(row_bytes, size_of::<(PackedRow, i64)>())
}

/// A row in the window of the newest ones, or before a limit.
#[must_use]
pub fn ordered_row(row_bytes: f64) -> f64 {
    map_entry(row_bytes, size_of::<(i64, PackedRow, i64)>())
}

/// A row of one side of a join.
#[must_use]
pub fn join_row(key_bytes: f64, row_bytes: f64) -> f64 {
    map_entry(row_bytes, size_of::<(PackedRow, PackedRow, i64)>()) + key_bytes + HEAP_BYTES as f64
}

/// A group of an aggregate over rows that come and go.
#[must_use]
pub fn later_group(key_bytes: f64, acc_and_told_bytes: f64) -> f64 {
    LATER_GROUP_BYTES as f64 + key_bytes + acc_and_told_bytes
}

/// A row that is looked at again when names or the clock change, and what it became.
#[must_use]
pub fn remembered_row(row_bytes: f64, result_bytes: f64) -> f64 {
    (LIVE_BYTES + 2 * HEAP_BYTES) as f64 + row_bytes + result_bytes
}

/// A group of what a node folds within a refresh.
#[must_use]
pub fn folded_group(key_bytes: f64, acc_bytes: f64) -> f64 {
    // Its words for finding it, its place in the index and the columns.
    96.0 + key_bytes + acc_bytes
}
