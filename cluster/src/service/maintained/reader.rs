//! One reader of a view: how far it is, and the net change that it is behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_types::PackedRow;

use crate::service::inbox::{ROW_OVERHEAD_BYTES, end_lost};
use crate::service::outbox::Outbox;
use crate::view::add;

/// Where a snapshot goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) output: usize,
    /// The last row of that output that was sent.
    pub(super) after: Option<PackedRow>,
}

impl Cursor {
    pub(super) const START: Cursor = Cursor { output: 0, after: None };

    /// Whether the reader has got this row already, as it was.
    fn has_passed(&self, output: usize, row: &PackedRow) -> bool {
        output < self.output
            || output == self.output && self.after.as_ref().is_some_and(|after| row <= after)
    }
}

/// What a reader has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Nothing: it waits for a frontier.
    Waiting,
    /// All rows up to the cursor.
    Snapshot(Cursor),
    /// All but its backlog.
    Behind,
    /// Everything up to the frontier.
    Live,
}

pub(super) struct Reader {
    pub(super) number: u64,
    pub(super) outbox: Arc<Outbox>,
    pub(super) position: Position,
    /// No `progress` yet: what it gets is its snapshot.
    pub(super) is_first: bool,
    pub(super) from_ms: u64,
    /// Its connection, or all readers together, hold too much just now: it is tried again later.
    pub(super) is_blocked: bool,
    /// Of each output: what changed of the rows that it has.
    backlog: Vec<BTreeMap<PackedRow, i64>>,
}

/// What a backlog's row costs.
fn cost(row: &PackedRow) -> u64 {
    (row.0.len() + ROW_OVERHEAD_BYTES) as u64
}

impl Reader {
    pub(super) fn new(number: u64, outbox: Arc<Outbox>, outputs: usize, from_ms: u64) -> Reader {
        Reader {
            number,
            outbox,
            position: Position::Waiting,
            is_first: true,
            from_ms,
            is_blocked: false,
            backlog: vec![BTreeMap::new(); outputs],
        }
    }

    /// A row changed that the reader will not be sent with the others. True if it is no more now than
    /// a reader can be: its account is full otherwise.
    pub(super) fn note(&mut self, output: usize, row: &PackedRow, diff: i64) -> bool {
        let concerned = match &self.position {
            Position::Waiting | Position::Live => false,
            Position::Behind => true,
            Position::Snapshot(cursor) => cursor.has_passed(output, row),
        };
        if !concerned {
            return true;
        }
        let backlog = &mut self.backlog[output];
        let before = backlog.len();
        add(backlog, row.clone(), diff);
        match backlog.len().cmp(&before) {
            std::cmp::Ordering::Greater => self.outbox.hold(cost(row)),
            std::cmp::Ordering::Less => {
                self.outbox.release(cost(row));
                true
            }
            std::cmp::Ordering::Equal => true,
        }
    }

    /// It could not take a message.
    pub(super) fn falls_behind(&mut self) {
        self.position = Position::Behind;
        self.outbox.count_behind();
    }

    pub(super) fn first_backlog(&self) -> Option<usize> {
        self.backlog.iter().position(|rows| !rows.is_empty())
    }

    pub(super) fn pop_backlog(&mut self, output: usize) -> Option<(PackedRow, i64)> {
        let popped = self.backlog[output].pop_first()?;
        self.outbox.release(cost(&popped.0));
        Some(popped)
    }

    pub(super) fn drop_backlog(&mut self) {
        self.backlog.iter_mut().for_each(BTreeMap::clear);
    }
}

impl Drop for Reader {
    /// Whatever took the view down: its readers hear of it.
    fn drop(&mut self) {
        if self.outbox.is_open() {
            end_lost(&self.outbox);
        }
    }
}
