//! For a `Limit` that follows: which rows of each pane can be among the greatest n at all. Rows that
//! a greater one pushes out are taken back.

use std::collections::BTreeMap;

use weir_types::PackedRow;
use weir_types::clock::tick_unix_ns;
use weir_types::plan::SlidingWindow;

/// A pane's greatest rows by (event time, row), with how often each is there.
#[derive(Default)]
struct Pane {
    rows: BTreeMap<(i64, PackedRow), u64>,
    count: u64,
}

pub(super) struct TopPanes {
    rows_max: u64,
    sliding: Option<SlidingWindow>,
    panes: BTreeMap<i64, Pane>,
    bytes: usize,
}

/// A row in a pane beside its bytes: the entry with its share of a node, and the allocator's.
const ENTRY_BYTES: usize = 88;

impl TopPanes {
    pub(super) fn new(rows_max: u64, sliding: Option<SlidingWindow>) -> TopPanes {
        TopPanes { rows_max, sliding, panes: BTreeMap::new(), bytes: 0 }
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.bytes
    }

    /// The panes of a refresh that have left the window are forgotten.
    pub(super) fn begin(&mut self, tick_ms: u64) {
        if let Some(sliding) = self.sliding {
            let first = sliding.first_pane_at(tick_unix_ns(tick_ms));
            self.expire(first);
        }
    }

    /// Adds copies of a row; tells the changes that it makes.
    pub(super) fn add(
        &mut self,
        (pane_no, time, row): (i64, i64, PackedRow),
        copies: i64,
        mut tell: impl FnMut(i64, PackedRow, i64),
    ) {
        let pane = self.panes.entry(pane_no).or_default();
        let rank = (time, row);
        let is_full = pane.count >= self.rows_max;
        if is_full && pane.rows.first_key_value().is_none_or(|(least, _)| rank <= *least) {
            return;
        }
        // More copies than rows are wanted cannot be among them.
        let copies = u64::try_from(copies).unwrap_or(0).min(self.rows_max);
        tell(pane_no, rank.1.clone(), i64::try_from(copies).unwrap_or(i64::MAX));
        let row_bytes = rank.1.0.len();
        let count = pane.rows.entry(rank).or_insert(0);
        if *count == 0 {
            self.bytes += ENTRY_BYTES + row_bytes;
        }
        *count += copies;
        pane.count += copies;
        while pane.count > self.rows_max
            && let Some(mut least) = pane.rows.first_entry()
        {
            let gone = (*least.get()).min(pane.count - self.rows_max);
            tell(pane_no, least.key().1.clone(), -i64::try_from(gone).unwrap_or(i64::MAX));
            pane.count -= gone;
            *least.get_mut() -= gone;
            if *least.get() == 0 {
                self.bytes -= ENTRY_BYTES + least.key().1.0.len();
                least.remove();
            }
        }
    }

    /// Forgets the panes before `first`: the receiving side lets them expire by itself.
    fn expire(&mut self, first: i64) {
        while let Some(entry) = self.panes.first_entry().filter(|entry| *entry.key() < first) {
            let pane = entry.remove();
            self.bytes -= pane.rows.keys().map(|(_, row)| ENTRY_BYTES + row.0.len()).sum::<usize>();
        }
    }
}
