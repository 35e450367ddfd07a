//! A delivery while it is put together, up to the size that one message may have.

use std::sync::Arc;

use weir_sinks::delivery::{Changes, Output};
use weir_types::PackedRow;

/// A delivery ends about here, rows and their text together: what a slow socket takes within its timeout,
/// and what one connection copies at a time.
const DELIVERY_BYTES: usize = if cfg!(test) { 700 } else { 512 << 10 };

/// A delivery that grows.
pub(super) struct Draft {
    pub(super) tick_ms: u64,
    pub(super) changes: Vec<Changes>,
    bytes: usize,
}

impl Draft {
    pub(super) fn new(tick_ms: u64) -> Draft {
        Draft { tick_ms, changes: Vec::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, output: &Arc<Output>, row: PackedRow, diff: i64) {
        self.bytes += output.row_bytes(&row);
        match self.changes.last_mut().filter(|last| Arc::ptr_eq(&last.output, output)) {
            Some(last) => last.rows.push((row, diff)),
            None => {
                let output = Arc::clone(output);
                self.changes.push(Changes { output, rows: vec![(row, diff)] });
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= DELIVERY_BYTES
    }
}
