//! One maintained view and its readers, moved on in small steps. Plain data: no clock, no actor.
//!
//! Rows are staged by tick as they come. A frontier makes them changes: the view's rows move, and each
//! delivery is offered, shared, to every reader that is up to date. Readers that are not, be it
//! that their snapshot is not whole yet or that they read too slowly, keep the *net change of what they
//! have*, and get it as one change when they have room: adding up all that a reader was sent gives the
//! view at each `progress`, whatever its pace.
//!
//! A query that was installed anew (its engine or node died) sends its rows from the beginning. The
//! first frontier then publishes the difference between those rows and the ones that readers have.
//!
//! What was delivered lately stays for a while in a bounded log: who comes back with the frontier that it
//! has reached gets what changed since, as one net change.

mod draft;
mod log;
mod reader;
mod serving;

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::sync::Arc;

use weir_proto::QueryId;
use weir_sinks::delivery::{Completeness, Delivery, Output, OutputInfo};
use weir_sinks::json::push_string;
use weir_types::PackedRow;

use self::draft::Draft;
use self::log::Log;
use self::reader::{Cursor, Position, Reader};
use super::inbox::{Item, NewReader, ROW_OVERHEAD_BYTES, ViewInbox};
use super::message::Outgoing;
use super::outbox::Offer;
use crate::view::{SnapshotLimits, SnapshotTooLarge, ViewState, add};

/// `progress` comes at least this often once the snapshot is complete.
const PROGRESS_EVERY_NS: i64 = 900_000_000;
/// Rows of one step: some tens of microseconds.
const STEP_ROWS: usize = 32;
/// Times the limits of a snapshot that a view may hold, staged rows included: one that changes wholly
/// holds both for a moment.
const HELD_FACTOR: usize = 2;

type Staged = BTreeMap<PackedRow, i64>;

/// What a view asks when it has got somewhere.
pub(crate) trait Surroundings {
    fn now_unix_ns(&self) -> i64;
    /// How complete the query's answer at a frontier is.
    fn completeness(&self, run: QueryId, frontier_ms: u64) -> Completeness;
    /// Event times of some rows that are in by a frontier; each is given once.
    fn take_samples(&self, run: QueryId, frontier_ms: u64) -> Vec<i64>;
}

/// Something that takes several steps.
enum Task {
    /// Rows that came are netted at their tick.
    Stage {
        tick_ms: u64,
        output: usize,
        rows: std::vec::IntoIter<(PackedRow, i64)>,
    },
    /// So are those of an earlier tick that is published along.
    Merge {
        tick_ms: u64,
        output: usize,
        rows: btree_map::IntoIter<PackedRow, i64>,
    },
    /// And the rows that readers have are taken away from those of a new run.
    Subtract {
        tick_ms: u64,
        output: usize,
        after: Option<PackedRow>,
    },
    Publish {
        tick_ms: u64,
        output: usize,
        rows: Option<btree_map::IntoIter<PackedRow, i64>>,
    },
    Seal {
        tick_ms: u64,
    },
    Snapshot {
        from: Cursor,
        after: Option<PackedRow>,
    },
    CatchUp {
        number: u64,
        output: usize,
    },
}

pub(crate) struct Maintained {
    view: ViewState,
    run: QueryId,
    /// tick → output → net change.
    staged: BTreeMap<u64, Vec<Staged>>,
    staged_rows: usize,
    staged_bytes: usize,
    agenda: VecDeque<Task>,
    draft: Option<Draft>,
    changed: bool,
    /// The rows of the present run are not published yet.
    rebasing: bool,
    readers: Vec<Reader>,
    /// Readers that are no more, for the coordinator.
    gone: Vec<u64>,
    limits: SnapshotLimits,
    last_progress_unix_ns: i64,
    last_completeness: Completeness,
    log: Log,
    /// A reader is served between two items.
    serve_next: bool,
    too_large: Option<SnapshotTooLarge>,
}

impl Maintained {
    pub(crate) fn new(
        run: QueryId,
        outputs: Vec<OutputInfo>,
        limits: SnapshotLimits,
    ) -> Maintained {
        Maintained {
            view: ViewState::new(outputs),
            run,
            staged: BTreeMap::new(),
            staged_rows: 0,
            staged_bytes: 0,
            agenda: VecDeque::new(),
            draft: None,
            changed: false,
            rebasing: false,
            readers: Vec::new(),
            gone: Vec::new(),
            limits,
            last_progress_unix_ns: 0,
            last_completeness: Completeness::default(),
            log: Log::default(),
            serve_next: false,
            too_large: None,
        }
    }

    pub(crate) fn outputs(&self) -> Vec<Arc<Output>> {
        self.view.outputs()
    }

    /// True if a `progress` is due though nothing moved.
    fn is_quiet(&self, now_unix_ns: i64) -> bool {
        now_unix_ns - self.last_progress_unix_ns >= PROGRESS_EVERY_NS
    }

    /// Now and then: readers hear of a frontier that stands still, and those that could not take anything
    /// are tried again.
    pub(crate) fn look_around(&mut self, around: &impl Surroundings) {
        self.readers.iter_mut().for_each(|reader| reader.is_blocked = false);
        let now_unix_ns = around.now_unix_ns();
        let Some(frontier_ms) = self.view.frontier_ms else { return };
        // In the middle of a frontier its end is near.
        if self.agenda.is_empty() && self.is_quiet(now_unix_ns) {
            self.last_completeness = around.completeness(self.run, frontier_ms);
            self.send_progress(now_unix_ns);
        }
    }

    /// Readers that went by themselves or were ended since the last call.
    pub(crate) fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    /// Whether a reader would be given an answer now.
    pub(crate) fn has_answer(&self) -> bool {
        self.view.frontier_ms.is_some() && !self.rebasing
    }

    /// Why the view cannot go on.
    pub(crate) fn too_large(&self) -> Option<&SnapshotTooLarge> {
        self.too_large.as_ref()
    }

    /// One small step. False: there is nothing to do until something comes.
    pub(crate) fn step(&mut self, inbox: &ViewInbox, around: &impl Surroundings) -> bool {
        if let Some(task) = self.agenda.pop_front() {
            if let Some(rest) = self.work(task, around) {
                self.agenda.push_front(rest);
            }
            return true;
        }
        if std::mem::take(&mut self.serve_next) && self.serve() {
            return true;
        }
        if let Some((item, later)) = inbox.pop() {
            self.take(item, later);
            self.serve_next = true;
            return true;
        }
        self.serve()
    }

    fn take(&mut self, item: Item, later: bool) {
        match item {
            Item::Rows { run, tick_ms, table, rows, .. } if run == self.run => {
                if let Some(output) = self.view.position(&table) {
                    self.agenda.push_back(Task::Stage { tick_ms, output, rows: rows.into_iter() });
                }
            }
            Item::Advance { run, tick_ms } if run == self.run => self.advance(tick_ms, later),
            Item::Rows { .. } | Item::Advance { .. } => {}
            Item::Rebase { run } => {
                self.run = run;
                self.staged.clear();
                (self.staged_rows, self.staged_bytes) = (0, 0);
                self.rebasing = true;
            }
            Item::Join(reader) => self.join(reader),
            Item::Leave(number) => self.readers.retain(|reader| reader.number != number),
        }
    }

    /// Plans the publication of a frontier. One that later ones wait behind is published with them:
    /// the view catches up.
    fn advance(&mut self, tick_ms: u64, later: bool) {
        if later || self.view.frontier_ms.is_some_and(|frontier_ms| tick_ms < frontier_ms) {
            return;
        }
        let outputs = self.view.output_count();
        let mut due = self.staged.split_off(&(tick_ms + 1));
        std::mem::swap(&mut due, &mut self.staged);
        if let Some((_, latest)) = due.pop_last() {
            self.staged.insert(tick_ms, latest);
        }
        for (output, rows) in due.into_values().flat_map(|outputs| outputs.into_iter().enumerate())
        {
            let rows = rows.into_iter();
            self.agenda.push_back(Task::Merge { tick_ms, output, rows });
        }
        if self.rebasing {
            let subtract = |output| Task::Subtract { tick_ms, output, after: None };
            self.agenda.extend((0..outputs).map(subtract));
        }
        let publish = |output| Task::Publish { tick_ms, output, rows: None };
        self.agenda.extend((0..outputs).map(publish));
        self.agenda.push_back(Task::Seal { tick_ms });
    }

    fn join(&mut self, new: NewReader) {
        let outputs = self.view.output_count();
        let mut reader = Reader::new(new.number, new.outbox, outputs, new.from_ms);
        let resumed = new.since_ms.map(|since_ms| self.resume(&mut reader, since_ms));
        let expired = (resumed == Some(false)).then(|| {
            let message = "what changed since then is not kept any more: a snapshot follows";
            Outgoing::error("resume_expired", message, "")
        });
        let schemas = new.outputs.into_iter().map(|info| Outgoing::Schema(Arc::new(info)));
        for hello in schemas.chain(new.notices).chain(expired) {
            // The first messages of an empty queue; who cannot take even those is ended.
            if reader.outbox.send(&hello) == Offer::Full {
                reader.outbox.end_too_slow();
            }
        }
        self.readers.push(reader);
    }

    /// Gives a reader that has everything up to `since_ms` what changed since. False: that is not kept.
    fn resume(&self, reader: &mut Reader, since_ms: u64) -> bool {
        let Some(later) = self.log.since(since_ms, self.view.frontier_ms) else { return false };
        reader.position = Position::Behind;
        reader.is_first = false;
        for changes in later.flat_map(|delivery| &delivery.changes) {
            let Some(output) = self.view.position(changes.table()) else { continue };
            if !changes.rows.iter().all(|(row, diff)| reader.note(output, row, *diff)) {
                reader.outbox.end_too_slow();
            }
        }
        true
    }
}

/// Tasks.
impl Maintained {
    /// A slice of a task; what is left of it.
    fn work(&mut self, task: Task, around: &impl Surroundings) -> Option<Task> {
        match task {
            Task::Stage { tick_ms, output, mut rows } => {
                for (row, diff) in rows.by_ref().take(STEP_ROWS) {
                    self.stage(tick_ms, output, row, diff);
                }
                self.check_held(output);
                (rows.len() > 0).then_some(Task::Stage { tick_ms, output, rows })
            }
            Task::Merge { tick_ms, output, mut rows } => {
                for (row, diff) in rows.by_ref().take(STEP_ROWS) {
                    self.unstage(&row);
                    self.stage(tick_ms, output, row, diff);
                }
                (rows.len() > 0).then_some(Task::Merge { tick_ms, output, rows })
            }
            Task::Subtract { tick_ms, output, after } => self.subtract(tick_ms, output, after),
            Task::Publish { tick_ms, output, rows } => self.publish(tick_ms, output, rows),
            Task::Seal { tick_ms } => {
                self.seal(tick_ms, around);
                None
            }
            Task::Snapshot { from, after } => self.snapshot(from, after),
            Task::CatchUp { number, output } => self.catch_up(number, output),
        }
    }

    fn stage(&mut self, tick_ms: u64, output: usize, row: PackedRow, diff: i64) {
        let outputs = self.view.output_count();
        let staged = self.staged.entry(tick_ms).or_insert_with(|| vec![Staged::new(); outputs]);
        let (before, bytes) = (staged[output].len(), row.0.len() + ROW_OVERHEAD_BYTES);
        add(&mut staged[output], row, diff);
        match staged[output].len().cmp(&before) {
            std::cmp::Ordering::Greater => {
                self.staged_rows += 1;
                self.staged_bytes += bytes;
            }
            std::cmp::Ordering::Less => self.forget_staged(bytes),
            std::cmp::Ordering::Equal => {}
        }
    }

    fn unstage(&mut self, row: &PackedRow) {
        self.forget_staged(row.0.len() + ROW_OVERHEAD_BYTES);
    }

    fn forget_staged(&mut self, bytes: usize) {
        self.staged_rows = self.staged_rows.saturating_sub(1);
        self.staged_bytes = self.staged_bytes.saturating_sub(bytes);
    }

    /// No view holds more than a reader could ever be given.
    fn check_held(&mut self, output: usize) {
        let (rows, bytes) = self.view.size();
        let (rows, bytes) = (rows + self.staged_rows, bytes + self.staged_bytes);
        let SnapshotLimits { rows_max, bytes_max } = self.limits;
        if rows > rows_max.saturating_mul(HELD_FACTOR)
            || bytes > bytes_max.saturating_mul(HELD_FACTOR)
        {
            let table = self.view.output(output).info.table.clone();
            self.too_large = Some(SnapshotTooLarge { table, rows, bytes, limits: self.limits });
        }
    }

    fn subtract(&mut self, tick_ms: u64, output: usize, after: Option<PackedRow>) -> Option<Task> {
        let rows = self.view.rows_after(output, after.as_ref()).take(STEP_ROWS);
        let rows: Vec<(PackedRow, i64)> = rows.map(|(row, count)| (row.clone(), count)).collect();
        let after = rows.last()?.0.clone();
        for (row, count) in rows {
            self.stage(tick_ms, output, row, -count);
        }
        Some(Task::Subtract { tick_ms, output, after: Some(after) })
    }

    fn publish(
        &mut self,
        tick_ms: u64,
        output: usize,
        rows: Option<btree_map::IntoIter<PackedRow, i64>>,
    ) -> Option<Task> {
        let mut rows = rows.unwrap_or_else(|| {
            let staged = self.staged.get_mut(&tick_ms).map(|outputs| &mut outputs[output]);
            staged.map(std::mem::take).unwrap_or_default().into_iter()
        });
        let has_live = self.readers.iter().any(|reader| reader.position == Position::Live);
        for (row, diff) in rows.by_ref().take(STEP_ROWS) {
            self.unstage(&row);
            self.changed = true;
            let draft = self.draft.get_or_insert_with(|| Draft::new(tick_ms));
            draft.push(self.view.output(output), row.clone(), diff);
            let full = draft.is_full();
            self.view.add_row(output, row, diff);
            if full {
                self.hand_out(None, Vec::new());
            }
        }
        // Who is behind notes rows a few at a time.
        if !has_live {
            self.hand_out(None, Vec::new());
        }
        (rows.len() > 0).then_some(Task::Publish { tick_ms, output, rows: Some(rows) })
    }

    /// Gives what was drafted to everybody who follows, and notes its rows for those who come later. With
    /// `completeness` the frontier is reached.
    fn hand_out(&mut self, completeness: Option<Completeness>, events_unix_ns: Vec<i64>) {
        let draft = self.draft.take();
        if draft.is_none() && completeness.is_none() {
            return;
        }
        let frontier_ms = self.view.frontier_ms.unwrap_or(0);
        let Draft { tick_ms, changes, .. } = draft.unwrap_or_else(|| Draft::new(frontier_ms));
        let mut delivery = Delivery::new(tick_ms, changes, completeness);
        delivery.events_unix_ns = events_unix_ns;
        let delivery = Arc::new(delivery);
        let message = Outgoing::Delivery(Arc::clone(&delivery));
        for reader in &mut self.readers {
            if reader.position == Position::Live {
                match reader.outbox.offer(&message) {
                    Offer::Taken | Offer::Gone => continue,
                    Offer::Full => reader.falls_behind(),
                }
            }
            for changes in &delivery.changes {
                let Some(output) = self.view.position(changes.table()) else { continue };
                if !changes.rows.iter().all(|(row, diff)| reader.note(output, row, *diff)) {
                    reader.outbox.end_too_slow();
                }
            }
        }
        self.log.push(delivery);
        self.sweep();
    }

    fn seal(&mut self, tick_ms: u64, around: &impl Surroundings) {
        let now_unix_ns = around.now_unix_ns();
        self.staged.remove(&tick_ms);
        if self.rebasing && self.view.frontier_ms == Some(tick_ms) {
            self.log.forget(tick_ms);
        }
        self.view.frontier_ms = Some(tick_ms);
        self.readers.iter().for_each(|reader| reader.outbox.reached(tick_ms));
        self.rebasing = false;
        let events_unix_ns = around.take_samples(self.run, tick_ms);
        let is_due = |reader: &Reader| reader.outbox.is_due(tick_ms);
        let due = self.is_quiet(now_unix_ns) || self.readers.iter().any(is_due);
        if std::mem::take(&mut self.changed) || due {
            self.last_completeness = around.completeness(self.run, tick_ms);
            self.last_progress_unix_ns = now_unix_ns;
            self.hand_out(Some(self.last_completeness.clone()), events_unix_ns);
        }
        self.log.reached(tick_ms);
    }

    /// How complete the standing answer is.
    fn standing(&self) -> Option<Delivery> {
        let completeness = Completeness {
            // What readers have is of a query that is no more.
            complete: self.last_completeness.complete && !self.rebasing,
            ..self.last_completeness.clone()
        };
        Some(Delivery::new(self.view.frontier_ms?, Vec::new(), Some(completeness)))
    }

    fn send_progress(&mut self, now_unix_ns: i64) {
        let Some(standing) = self.standing() else { return };
        let message = Outgoing::Delivery(Arc::new(standing));
        self.last_progress_unix_ns = now_unix_ns;
        for reader in &mut self.readers {
            if reader.position == Position::Live && reader.outbox.offer(&message) == Offer::Full {
                reader.falls_behind();
            }
        }
        self.sweep();
    }

    /// Lets go of readers that are no more.
    fn sweep(&mut self) {
        let gone = &mut self.gone;
        self.readers.retain_mut(|reader| {
            let open = reader.outbox.is_open();
            if !open {
                reader.drop_backlog();
                gone.push(reader.number);
            }
            open
        });
    }
}

/// The end.
impl Maintained {
    /// The view is over: every reader hears why.
    pub(crate) fn finish(&mut self, code: &str, messages: &[Outgoing]) {
        for reader in self.readers.drain(..) {
            let mut last = messages.to_vec();
            last.push(Outgoing::End(code.to_string().into()));
            reader.outbox.end(last, false);
        }
    }
}

/// What readers are told who cannot have a snapshot, without the end.
pub(crate) fn too_large_message(error: &SnapshotTooLarge) -> Outgoing {
    let mut table = String::from("\"table\":");
    push_string(&mut table, &error.table);
    Outgoing::error("snapshot_too_large", &error.to_string(), &table)
}

#[cfg(test)]
mod tests;
