//! Readers that are not up to date: snapshots, in slices that all who are at the same place share, and the net
//! change that a reader is behind.

use std::sync::Arc;

use weir_sinks::delivery::{Changes, Delivery};
use weir_types::PackedRow;

use super::reader::{Cursor, Position, Reader};
use super::{Draft, Maintained, STEP_ROWS, Task, too_large_message};
use crate::service::message::Outgoing;
use crate::service::outbox::Offer;
use crate::view::SnapshotTooLarge;

impl Maintained {
    /// Plans something for one of them. False: nobody needs or can take anything.
    pub(super) fn serve(&mut self) -> bool {
        self.sweep();
        let Some(frontier_ms) = self.view.frontier_ms else { return false };
        if !self.rebasing {
            self.admit_waiting(frontier_ms);
        }
        for reader in &mut self.readers {
            match &reader.position {
                Position::Waiting | Position::Live => continue,
                _ if reader.is_blocked || !reader.outbox.has_room() => continue,
                Position::Snapshot(cursor) => {
                    let (from, after) = (cursor.clone(), cursor.after.clone());
                    self.agenda.push_back(Task::Snapshot { from, after });
                    return true;
                }
                Position::Behind => {
                    let number = reader.number;
                    match reader.first_backlog() {
                        Some(output) => self.agenda.push_back(Task::CatchUp { number, output }),
                        None => self.arrive(number),
                    }
                    return true;
                }
            }
        }
        false
    }

    fn admit_waiting(&mut self, frontier_ms: u64) {
        let due =
            |reader: &Reader| reader.position == Position::Waiting && reader.from_ms <= frontier_ms;
        if !self.readers.iter().any(due) {
            return;
        }
        let refused = self.view.check(self.limits).err();
        for reader in self.readers.iter_mut().filter(|reader| due(reader)) {
            match &refused {
                None => reader.position = Position::Snapshot(Cursor::START),
                Some(error) => reader.outbox.end(too_large_messages(error), false),
            }
        }
        self.sweep();
    }

    /// A slice of a snapshot's message; all readers that are at the same place get it.
    pub(super) fn snapshot(&mut self, from: Cursor, after: Option<PackedRow>) -> Option<Task> {
        let output = from.output;
        let tick_ms = self.view.frontier_ms.unwrap_or(0);
        let draft = self.draft.get_or_insert_with(|| Draft::new(tick_ms));
        let mut last = None;
        let mut rows = 0;
        for (row, count) in self.view.rows_after(output, after.as_ref()).take(STEP_ROWS) {
            draft.push(self.view.output(output), row.clone(), count);
            last = Some(row);
            rows += 1;
            if draft.is_full() {
                break;
            }
        }
        let full = draft.is_full();
        let done = rows < STEP_ROWS && !full;
        let after = last.cloned().or(after);
        if !done && !full {
            return Some(Task::Snapshot { from, after });
        }
        let mut draft = self.draft.take()?;
        if draft.changes.is_empty() {
            // Readers are told of an output without rows, too.
            let output = Arc::clone(self.view.output(output));
            draft.changes.push(Changes { output, rows: Vec::new() });
        }
        let next = if done {
            Cursor { output: output + 1, after: None }
        } else {
            Cursor { output, after }
        };
        self.hand_out_snapshot(&from, &next, &snapshot_message(draft));
        None
    }

    fn hand_out_snapshot(&mut self, from: &Cursor, next: &Cursor, message: &Outgoing) {
        let outputs = self.view.output_count();
        for reader in &mut self.readers {
            let here = matches!(&reader.position, Position::Snapshot(at) if at == from);
            if !here || !reader.outbox.has_room() {
                continue;
            }
            if reader.outbox.send(message) != Offer::Taken {
                reader.is_blocked = true;
                continue;
            }
            reader.position = if next.output < outputs {
                Position::Snapshot(next.clone())
            } else {
                // What changed meanwhile follows, then `progress`.
                Position::Behind
            };
        }
    }

    /// A slice of the net change that a reader is behind.
    pub(super) fn catch_up(&mut self, number: u64, output: usize) -> Option<Task> {
        let tick_ms = self.view.frontier_ms.unwrap_or(0);
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.number == number) else {
            self.draft = None;
            return None;
        };
        let draft = self.draft.get_or_insert_with(|| Draft::new(tick_ms));
        let mut done = false;
        for _ in 0..STEP_ROWS {
            match reader.pop_backlog(output) {
                Some((row, diff)) => draft.push(self.view.output(output), row, diff),
                None => done = true,
            }
            done |= draft.is_full();
            if done {
                break;
            }
        }
        if !done {
            return Some(Task::CatchUp { number, output });
        }
        let draft = self.draft.take()?;
        if !draft.changes.is_empty() {
            let mut delivery = Delivery::new(draft.tick_ms, draft.changes, None);
            delivery.snapshot = reader.is_first;
            let message = Outgoing::Delivery(Arc::new(delivery));
            // Its rows are nowhere else any more.
            if reader.outbox.send(&message) == Offer::Full {
                reader.outbox.end_too_slow();
            }
        }
        None
    }

    /// A reader has everything up to the frontier.
    fn arrive(&mut self, number: u64) {
        let Some(standing) = self.standing() else { return };
        let message = Outgoing::Delivery(Arc::new(standing));
        let found = self.readers.iter_mut().find(|reader| reader.number == number);
        let Some(reader) = found else { return };
        if reader.outbox.send(&message) == Offer::Taken {
            reader.position = Position::Live;
            reader.is_first = false;
        } else {
            reader.is_blocked = true;
        }
    }
}

fn too_large_messages(error: &SnapshotTooLarge) -> Vec<Outgoing> {
    vec![too_large_message(error), Outgoing::End("snapshot_too_large".into())]
}

fn snapshot_message(draft: Draft) -> Outgoing {
    let mut delivery = Delivery::new(draft.tick_ms, draft.changes, None);
    delivery.snapshot = true;
    Outgoing::Delivery(Arc::new(delivery))
}
