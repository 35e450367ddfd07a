//! For a `Limit` that follows: which rows of each pane can be among the greatest n at all. Rows that
//! a greater one pushes out are taken back.

use std::collections::BTreeMap;

use weir_types::PackedRow;
use weir_types::plan::SlidingWindow;

use crate::query::tick_unix_ns;

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

const ENTRY_BYTES: usize = 80;

impl TopPanes {
    pub(super) fn new(rows_max: u64, sliding: Option<SlidingWindow>) -> TopPanes {
        TopPanes { rows_max, sliding, panes: BTreeMap::new(), bytes: 0 }
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.bytes
    }

    /// The changes that new rows (pane, event time, row) make; not consolidated.
    pub(super) fn add(
        &mut self,
        tick_ms: u64,
        rows: Vec<(i64, i64, PackedRow)>,
    ) -> Vec<((i64, PackedRow), i64)> {
        if let Some(sliding) = self.sliding {
            let first = sliding.first_pane_at(tick_unix_ns(tick_ms));
            self.expire(first);
        }
        let mut changes = Vec::new();
        for (pane_no, time, row) in rows {
            let pane = self.panes.entry(pane_no).or_default();
            let rank = (time, row);
            let is_full = pane.count >= self.rows_max;
            if is_full && pane.rows.first_key_value().is_none_or(|(least, _)| rank <= *least) {
                continue;
            }
            changes.push(((pane_no, rank.1.clone()), 1));
            self.bytes += ENTRY_BYTES + rank.1.0.len();
            *pane.rows.entry(rank).or_insert(0) += 1;
            pane.count += 1;
            if is_full && let Some(mut least) = pane.rows.first_entry() {
                changes.push(((pane_no, least.key().1.clone()), -1));
                self.bytes -= ENTRY_BYTES + least.key().1.0.len();
                pane.count -= 1;
                *least.get_mut() -= 1;
                if *least.get() == 0 {
                    least.remove();
                }
            }
        }
        changes
    }

    /// Forgets the panes before `first`: the receiving side lets them expire by itself.
    fn expire(&mut self, first: i64) {
        while let Some(entry) = self.panes.first_entry().filter(|entry| *entry.key() < first) {
            let pane = entry.remove();
            for ((_, row), count) in pane.rows {
                self.bytes -= (ENTRY_BYTES + row.0.len()) * usize::try_from(count).unwrap_or(0);
            }
        }
    }
}
