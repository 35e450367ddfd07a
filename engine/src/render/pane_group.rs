//! A group of a sliding window: its parts by pane, and their total, from which expired panes are taken. It does
//! not know which panes there should be.

use std::collections::VecDeque;

use weir_types::PackedRow;
use weir_types::acc::Acc;

use super::slots::Keyed;
use crate::prepare::AggSpec;

/// Partial results of some rows.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) rows: i64,
    pub(super) accs: Box<[Acc]>,
}

impl Part {
    pub(super) fn merge(&mut self, other: &Part) {
        self.rows += other.rows;
        self.accs.iter_mut().zip(&other.accs).for_each(|(acc, other)| acc.merge(other));
    }
    pub(super) fn walk_bytes(&self) -> usize {
        self.accs.iter().map(Acc::walk_bytes).sum()
    }
    pub(super) fn bytes(&self) -> usize {
        PART_BYTES + self.accs.iter().map(Acc::state_bytes).sum::<usize>()
    }
}

pub(super) struct Group {
    pub(super) key: PackedRow,
    /// Ascending by pane.
    pub(super) panes: VecDeque<(i64, Part)>,
    /// All panes together, if there are at least two.
    total: Option<Part>,
    /// The results that were told last.
    pub(super) told: Option<Box<[u8]>>,
    pub(super) is_dirty: bool,
}

/// A part beside its accumulators: its place in the group (with room to spare), the allocator's share, and
/// its entry in the list of its pane.
pub(crate) const PART_BYTES: usize = 64;
/// A group beside its key and results: its slot, the least room of its list of panes, its entry in the
/// index, and the allocator's share for each.
pub(crate) const GROUP_BYTES: usize = 320;

impl Keyed for Group {
    type Key = [u8];

    fn key(&self) -> &[u8] {
        &self.key.0
    }
}

impl Group {
    pub(super) fn new(key: PackedRow) -> Group {
        Group { key, panes: VecDeque::new(), total: None, told: None, is_dirty: false }
    }

    pub(super) fn walk_bytes(&self) -> usize {
        self.whole().map_or(0, Part::walk_bytes)
    }

    pub(super) fn whole(&self) -> Option<&Part> {
        self.total.as_ref().or_else(|| self.panes.front().map(|(_, part)| part))
    }

    /// Adds a part; true if its pane is new. `bytes` follows what is held.
    pub(super) fn add(&mut self, pane: i64, part: Part, bytes: &mut usize) -> bool {
        if let Some(total) = &mut self.total {
            *bytes -= total.bytes();
            total.merge(&part);
            *bytes += total.bytes();
        }
        // Mostly it is the newest pane or one after it.
        let at = self.panes.iter().rposition(|(have, _)| *have <= pane);
        if let Some(at) = at.filter(|&at| self.panes[at].0 == pane) {
            let have = &mut self.panes[at].1;
            *bytes -= have.bytes();
            have.merge(&part);
            *bytes += have.bytes();
            return false;
        }
        *bytes += part.bytes();
        self.panes.insert(at.map_or(0, |at| at + 1), (pane, part));
        if self.panes.len() == 2 {
            let mut total = self.panes[0].1.clone();
            total.merge(&self.panes[1].1);
            *bytes += total.bytes();
            self.total = Some(total);
        }
        true
    }

    pub(super) fn has(&self, pane: i64) -> bool {
        self.panes.iter().rev().any(|(have, _)| *have == pane)
    }

    /// Drops the oldest pane; how many rows it had.
    pub(super) fn expire_front(&mut self, spec: &AggSpec, bytes: &mut usize) -> i64 {
        let Some((_, gone)) = self.panes.pop_front() else { return 0 };
        *bytes -= gone.bytes();
        let Some(mut total) = self.total.take() else { return gone.rows };
        *bytes -= total.bytes();
        if self.panes.len() < 2 {
            return gone.rows;
        }
        total.rows -= gone.rows;
        for (idx, (acc, gone)) in total.accs.iter_mut().zip(&gone.accs).enumerate() {
            if acc.is_group() {
                acc.subtract(gone);
            } else if acc == gone {
                *acc = spec.aggs[idx].zero();
                self.panes.iter().for_each(|(_, part)| acc.merge(&part.accs[idx]));
            }
        }
        *bytes += total.bytes();
        self.total = Some(total);
        gone.rows
    }
}
