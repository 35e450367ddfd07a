//! What rows and changes take in memory, in bytes: by capacity, with what the allocator adds.

use weir_types::PackedRow;
use weir_types::acc::Acc;
use weir_types::split::Change;

/// What the allocator adds to a piece of memory, on average: its header, and rounding up.
pub(crate) const HEAP_BYTES: usize = 16;

/// An entry of an ordered map beside its key's and value's own size: nodes are two thirds full, and have
/// links.
pub(crate) const MAP_NUMERATOR: usize = 3;
pub(crate) const MAP_DENOMINATOR: usize = 2;

/// Something that waits or is kept.
pub(crate) trait Weigh {
    /// What it holds elsewhere in memory.
    fn heap_bytes(&self) -> usize;
}

impl Weigh for PackedRow {
    fn heap_bytes(&self) -> usize {
        HEAP_BYTES + self.0.capacity()
    }
}

impl Weigh for i64 {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Weigh for u64 {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Weigh for bool {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl<A: Weigh, B: Weigh, C: Weigh> Weigh for (A, B, C) {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes() + self.1.heap_bytes() + self.2.heap_bytes()
    }
}

impl<A: Weigh, B: Weigh> Weigh for (A, B) {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes() + self.1.heap_bytes()
    }
}

impl Weigh for Change {
    fn heap_bytes(&self) -> usize {
        match self {
            Change::Row { row, .. } => row.heap_bytes(),
            Change::Partial { key, accs, .. } => {
                key.heap_bytes() + HEAP_BYTES + accs.iter().map(Acc::state_bytes).sum::<usize>()
            }
        }
    }
}

/// An entry of a vector.
pub(crate) fn item<T: Weigh>(item: &T) -> usize {
    size_of::<T>() + item.heap_bytes()
}

/// An entry of an ordered map, with `extra` bytes beside its key.
pub(crate) fn map_entry<K: Weigh>(key: &K, extra: usize) -> usize {
    (size_of::<K>() + extra) * MAP_NUMERATOR / MAP_DENOMINATOR + key.heap_bytes()
}

pub(crate) fn changes(changes: &[Change]) -> usize {
    changes.iter().map(item).sum()
}

/// A changed row in a message.
pub(crate) fn row_change(row: &PackedRow, diff: i64) -> usize {
    size_of::<(PackedRow, u64)>() + size_of_val(&diff) + row.heap_bytes()
}
