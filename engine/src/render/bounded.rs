//! The bound of a window's groups: asks who is let in (`overflow`), and keeps what was refused until the tick
//! is over. The window of groups then hands it on, by name of overflow, to a second window, whose own last
//! resort is a single group. It finishes nothing and tells nobody but the query's figures.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;

use weir_types::PackedRow;
use weir_types::split::{Change, ExchangeId};

use super::overflow::{Admission, Naming, Places, Pressure, Verdict};
use super::pane_group::Part;
use super::source::SourceHandle;
use crate::query::{Env, OpError};
use crate::weigh;

/// A part of a pane.
type Paned = (i64, Part);
/// What was refused, by name and pane.
type Refused = BTreeMap<(PackedRow, i64), Part>;

/// Where rows go that find no group.
enum Rest {
    /// To the window of overflow, when the tick is over.
    Spill { handle: SourceHandle<Vec<Change>>, parts: Refused, bytes: usize },
    /// Into one last group. `rows`: in all groups here, which are all of overflow.
    Last { exchange: ExchangeId, rows: i64 },
}

pub(super) struct Bounded {
    admission: Admission<Paned>,
    waiting_bytes: usize,
    rest: Rest,
}

/// A part that waits, beside itself and its key.
const WAITING_BYTES: usize = 96;

fn waiting_bytes(key: &PackedRow, part: &Part) -> usize {
    WAITING_BYTES + key.0.len() + part.bytes()
}

impl Bounded {
    pub(super) fn spilling(
        places: Places,
        naming: Naming,
        handle: SourceHandle<Vec<Change>>,
    ) -> Bounded {
        let rest = Rest::Spill { handle, parts: Refused::new(), bytes: 0 };
        Bounded { admission: Admission::new(places, naming), waiting_bytes: 0, rest }
    }

    pub(super) fn last(places: Places, naming: Naming, exchange: ExchangeId) -> Bounded {
        let rest = Rest::Last { exchange, rows: 0 };
        Bounded { admission: Admission::new(places, naming), waiting_bytes: 0, rest }
    }

    /// A slice of a tick begins, which has so many parts left.
    pub(super) fn begin(&mut self, tick_ms: u64, parts: usize, pressure: Pressure) {
        self.admission.begin(tick_ms, parts);
        // The groups of overflow are few, and rows must be counted somewhere.
        if pressure >= Pressure::Full && matches!(self.rest, Rest::Spill { .. }) {
            self.admission.close();
        }
    }

    pub(super) fn is_name(&self, key: &[u8]) -> bool {
        self.admission.naming().is_name(key)
    }

    /// How many of a part's rows are lost if its key is one of overflow: none if it came so, because it never
    /// had a group of its own; those of before if it was given that name.
    pub(super) fn lost_by_name(&self, rows: i64) -> i64 {
        if matches!(self.rest, Rest::Last { .. }) { rows } else { 0 }
    }

    /// The last group takes nobody's place.
    fn has_place(&self, key: &[u8]) -> bool {
        matches!(self.rest, Rest::Spill { .. }) || !self.is_name(key)
    }

    /// Rows came into a group, which was empty.
    pub(super) fn came(&mut self, key: &[u8], came: i64, was_empty: bool) {
        if let Rest::Last { rows, .. } = &mut self.rest {
            *rows += came;
        }
        if was_empty && self.has_place(key) {
            self.admission.count(key, 1);
        }
    }

    /// Rows left a group, which is empty now.
    pub(super) fn left(&mut self, key: &[u8], gone: i64, is_empty: bool) {
        if let Rest::Last { rows, .. } = &mut self.rest {
            *rows -= gone;
        }
        if is_empty && self.has_place(key) {
            self.admission.count(key, -1);
        }
    }

    pub(super) fn ask(
        &mut self,
        key: PackedRow,
        pane: i64,
        part: Part,
    ) -> (PackedRow, Verdict<Paned>) {
        self.waiting_bytes += waiting_bytes(&key, &part);
        let (key, verdict) = self.admission.ask(key, (pane, part));
        match &verdict {
            Verdict::Admitted((_, part)) => self.waiting_bytes -= waiting_bytes(&key, part),
            Verdict::Waits => {}
            Verdict::Refused(gone) => {
                let bytes = gone.iter().map(|(key, (_, part))| waiting_bytes(key, part));
                self.waiting_bytes -= bytes.sum::<usize>();
            }
        }
        (key, verdict)
    }

    /// Of those who waited.
    pub(super) fn next(&mut self) -> Option<(PackedRow, Vec<Paned>)> {
        let (key, parts) = self.admission.next()?;
        let bytes = parts.iter().map(|(_, part)| waiting_bytes(&key, part));
        self.waiting_bytes -= bytes.sum::<usize>();
        Some((key, parts))
    }

    /// A part that finds no group. If it belongs into the last one, that one's key and the part.
    pub(super) fn refuse(
        &mut self,
        key: &PackedRow,
        pane: i64,
        part: Part,
    ) -> Result<Option<(PackedRow, Part)>, OpError> {
        let name = self.admission.naming().name(&key.0);
        let name = name.ok_or(OpError::Row("PaneWindow: a key with other columns"))?;
        let Rest::Spill { parts, bytes, .. } = &mut self.rest else {
            return Ok(Some((name, part)));
        };
        match parts.entry((name, pane)) {
            Entry::Occupied(mut have) => {
                *bytes -= have.get().bytes();
                have.get_mut().merge(&part);
                *bytes += have.get().bytes();
            }
            Entry::Vacant(slot) => {
                *bytes += waiting_bytes(&slot.key().0, &part);
                slot.insert(part);
            }
        }
        Ok(None)
    }

    /// All of the tick is there.
    pub(super) fn flush(&mut self, env: &Env, tick_ms: u64) {
        match &mut self.rest {
            Rest::Spill { handle, parts, bytes } => {
                *bytes = 0;
                let mut parts = std::mem::take(parts).into_iter().peekable();
                while parts.peek().is_some() {
                    let slice = parts.by_ref().take(env.limits().slice_rows_max.max(1));
                    let changes: Vec<Change> = slice.map(change).collect();
                    let refused: u64 = changes.iter().map(rows).sum();
                    env.engine.overflow_rows_total.fetch_add(refused, Ordering::Relaxed);
                    let held = handle.count(weigh::changes(&changes));
                    handle.push(tick_ms, changes, held);
                }
            }
            Rest::Last { exchange, rows } => {
                let rows = u64::try_from(*rows).unwrap_or(0);
                env.query.note_overflow(*exchange, tick_ms, rows);
            }
        }
    }

    /// Nothing more is refused before a tick.
    pub(super) fn open(&self, tick_ms: u64) {
        if let Rest::Spill { handle, .. } = &self.rest {
            handle.open(tick_ms);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let spilled = match &self.rest {
            Rest::Spill { bytes, .. } => *bytes,
            Rest::Last { .. } => 0,
        };
        self.waiting_bytes + spilled
    }

    /// What it keeps, to be freed elsewhere.
    pub(super) fn give_up(self) -> Box<dyn Send> {
        let spilled = match self.rest {
            Rest::Spill { parts, .. } => parts,
            Rest::Last { .. } => Refused::new(),
        };
        Box::new((self.admission.give_up(), spilled))
    }
}

fn change(((key, pane), part): ((PackedRow, i64), Part)) -> Change {
    Change::Partial { key, pane, rows: part.rows, accs: part.accs.into() }
}

fn rows(change: &Change) -> u64 {
    match change {
        Change::Partial { rows, .. } => u64::try_from(*rows).unwrap_or(0),
        Change::Row { .. } => 0,
    }
}
