//! What was handed over and is not written yet: what is not sealed, by tick, and what is, as one addition a source.

use std::collections::BTreeMap;

use weir_types::split::Change;

use crate::store::Addition;

pub(super) fn weight(changes: &[Change]) -> u64 {
    changes.iter().map(weight_of_one).sum()
}

fn weight_of_one(change: &Change) -> u64 {
    let beside = size_of::<Change>() as u64;
    beside + change.content_bytes() as u64
}

/// What a source was added, tick by tick, with the bytes that it waits with.
#[derive(Default)]
pub(super) struct Open(BTreeMap<u64, (Vec<Change>, u64)>);

impl Open {
    pub(super) fn take(&mut self, tick_ms: u64, changes: Vec<Change>, bytes: u64) {
        let of_tick = self.0.entry(tick_ms).or_default();
        of_tick.0.extend(changes);
        of_tick.1 += bytes;
    }

    /// What is sealed up to a tick. Workers go on before all of them are through: what they said of later ticks stays.
    pub(super) fn seal(&mut self, to_ms: u64) -> (Vec<Change>, u64) {
        let later = self.0.split_off(&(to_ms + 1));
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for (of_tick, waits) in std::mem::replace(&mut self.0, later).into_values() {
            changes.extend(of_tick);
            bytes += waits;
        }
        (changes, bytes)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.values().map(|(_, bytes)| bytes).sum()
    }
}

/// An addition, and the bytes that it waits with.
pub(super) struct Sealed {
    pub(super) addition: Addition,
    pub(super) bytes: u64,
}

impl Sealed {
    /// Adds what was sealed later; how many bytes are not wanted any more.
    pub(super) fn fold(&mut self, later: Sealed) -> u64 {
        if later.addition.afresh {
            return std::mem::replace(self, later).bytes;
        }
        let Addition { changes, to_ms, used_ms, first_pane, .. } = later.addition;
        let mut gone = 0;
        if first_pane > self.addition.first_pane {
            self.addition.changes.retain(|change| {
                let stays = !matches!(change, Change::Partial { pane, .. } if *pane < first_pane);
                gone += if stays { 0 } else { weight_of_one(change) };
                stays
            });
            self.addition.first_pane = first_pane;
        }
        self.addition.changes.extend(changes);
        self.addition.to_ms = self.addition.to_ms.max(to_ms);
        self.addition.used_ms = self.addition.used_ms.max(used_ms);
        self.bytes = self.bytes + later.bytes - gone;
        gone
    }
}
