//! One maintained view and its readers, moved on in small steps. Plain data: no clock, no actor.
//!
//! Rows are staged by tick as they come. A frontier makes them changes: the view's rows move, each
//! message is encoded once and offered to every reader that is up to date. Readers that are not, be it
//! that their snapshot is not whole yet or that they read too slowly, keep the *net change of what they
//! have*, and get it as one change when they have room: adding up all that a reader was sent gives the
//! view at each `progress`, whatever its pace.
//!
//! A query that was installed anew (its engine or node died) sends its rows from the beginning. The
//! first frontier then publishes the difference between those rows and the ones that readers have.

mod reader;

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::sync::Arc;

use weir_proto::QueryId;
use weir_sinks::json::{ChangesWriter, push_string};
use weir_types::PackedRow;
use weir_types::clock::tick_unix_ns;

use self::reader::{Cursor, Position, Reader};
use super::inbox::{Advance, Item, NewReader, ROW_OVERHEAD_BYTES, ViewInbox};
use super::message::{Outgoing, progress_body, schema_body};
use super::outbox::Offer;
use crate::coordinator::QueryCompleteness;
use crate::view::{OutputInfo, SnapshotLimits, SnapshotTooLarge, ViewState, add};

/// `progress` comes at least this often once the snapshot is complete.
const PROGRESS_EVERY_NS: i64 = 900_000_000;
/// A message of rows ends about here: what a slow socket takes within its timeout, and what one
/// connection copies at a time.
const MESSAGE_TEXT_BYTES: usize = if cfg!(test) { 200 } else { 256 << 10 };
/// Rows of one step: some tens of microseconds.
const STEP_ROWS: usize = 32;
/// Times the limits of a snapshot that a view may hold, staged rows included: one that changes wholly
/// holds both for a moment.
const HELD_FACTOR: usize = 2;

type Staged = BTreeMap<PackedRow, i64>;

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
    Seal(Advance),
    Snapshot {
        from: Cursor,
        after: Option<PackedRow>,
    },
    CatchUp {
        number: u64,
        output: usize,
    },
}

/// A message of rows that grows.
struct Chunk {
    output: usize,
    tick_ms: u64,
    writer: ChangesWriter,
    rows: Vec<(PackedRow, i64)>,
}

impl Chunk {
    fn new(view: &ViewState, output: usize, tick_ms: u64) -> Chunk {
        let table = &view.info(output).table;
        let writer = ChangesWriter::new(table, tick_unix_ns(tick_ms));
        Chunk { output, tick_ms, writer, rows: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.writer.bytes() >= MESSAGE_TEXT_BYTES
    }
}

pub(crate) struct Maintained {
    view: ViewState,
    run: QueryId,
    /// tick → output → net change.
    staged: BTreeMap<u64, Vec<Staged>>,
    staged_rows: usize,
    staged_bytes: usize,
    agenda: VecDeque<Task>,
    chunk: Option<Chunk>,
    /// Samples of the frontier that is being published; its first message takes them.
    events_unix_ns: Vec<i64>,
    changed: bool,
    /// The rows of the present run are not published yet.
    rebasing: bool,
    readers: Vec<Reader>,
    /// Readers that are no more, for the coordinator.
    gone: Vec<u64>,
    limits: SnapshotLimits,
    last_progress_unix_ns: i64,
    last_completeness: QueryCompleteness,
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
            chunk: None,
            events_unix_ns: Vec::new(),
            changed: false,
            rebasing: false,
            readers: Vec::new(),
            gone: Vec::new(),
            limits,
            last_progress_unix_ns: 0,
            last_completeness: QueryCompleteness::default(),
            serve_next: false,
            too_large: None,
        }
    }

    pub(crate) fn outputs(&self) -> Vec<Arc<OutputInfo>> {
        self.view.outputs()
    }

    pub(crate) fn frontier_ms(&self) -> Option<u64> {
        self.view.frontier_ms
    }

    /// True if a `progress` is due though nothing moved.
    pub(crate) fn is_quiet(&self, now_unix_ns: i64) -> bool {
        now_unix_ns - self.last_progress_unix_ns >= PROGRESS_EVERY_NS
    }

    /// Readers that went by themselves or were ended since the last call.
    pub(crate) fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    /// Why the view cannot go on.
    pub(crate) fn too_large(&self) -> Option<&SnapshotTooLarge> {
        self.too_large.as_ref()
    }

    /// One small step. False: there is nothing to do until something comes.
    pub(crate) fn step(&mut self, inbox: &ViewInbox) -> bool {
        if let Some(task) = self.agenda.pop_front() {
            if let Some(rest) = self.work(task) {
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
            Item::Advance { run, advance } if run == self.run => self.advance(advance, later),
            Item::Rows { .. } | Item::Advance { .. } => {}
            Item::Rebase { run } => {
                self.run = run;
                self.staged.clear();
                (self.staged_rows, self.staged_bytes) = (0, 0);
                self.rebasing = true;
            }
            Item::Join(reader) => self.join(reader),
            Item::Leave(number) => self.readers.retain(|reader| reader.number != number),
            Item::Idle { completeness, now_unix_ns } => {
                self.last_completeness = completeness;
                self.readers.iter_mut().for_each(|reader| reader.is_blocked = false);
                if self.view.frontier_ms.is_some() && self.is_quiet(now_unix_ns) {
                    self.send_progress(now_unix_ns);
                }
            }
        }
    }

    /// Plans the publication of a frontier. One that later ones wait behind is published with them:
    /// the view catches up.
    fn advance(&mut self, advance: Advance, later: bool) {
        self.events_unix_ns.extend(&advance.events_unix_ns);
        let tick_ms = advance.tick_ms;
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
        self.agenda.push_back(Task::Seal(advance));
    }

    fn join(&mut self, new: NewReader) {
        let schemas = new.outputs.iter().map(|info| Outgoing::new("schema", schema_body(info)));
        for hello in schemas.chain(new.notices) {
            // The first messages of an empty queue; who cannot take even those is ended below.
            if new.outbox.send(&hello) == Offer::Full {
                new.outbox.end_too_slow();
            }
        }
        let outputs = self.view.output_count();
        self.readers.push(Reader::new(new.number, new.outbox, outputs, new.from_ms));
    }
}

/// Tasks.
impl Maintained {
    /// A slice of a task; what is left of it.
    fn work(&mut self, task: Task) -> Option<Task> {
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
            Task::Seal(advance) => {
                self.seal(advance);
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
            let table = self.view.info(output).table.clone();
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
            let new_chunk = || Chunk::new(&self.view, output, tick_ms);
            let chunk = self.chunk.get_or_insert_with(new_chunk);
            if has_live {
                chunk.writer.push(self.view.writer(output), &row, diff);
            }
            chunk.rows.push((row.clone(), diff));
            self.view.add_row(output, row, diff);
            if self.chunk.as_ref().is_some_and(Chunk::is_full) {
                self.hand_out();
            }
        }
        // Without a live reader nothing is encoded, but rows are still noted a few at a time.
        if rows.len() == 0 || !has_live {
            self.hand_out();
        }
        (rows.len() > 0).then_some(Task::Publish { tick_ms, output, rows: Some(rows) })
    }

    /// Gives the chunk to everybody who follows, and notes its rows for those who come later.
    fn hand_out(&mut self) {
        let Some(chunk) = self.chunk.take() else { return };
        let Chunk { output, tick_ms, writer, rows } = chunk;
        let message = (writer.rows() > 0).then(|| Outgoing {
            tick_unix_ns: tick_unix_ns(tick_ms),
            events_unix_ns: std::mem::take(&mut self.events_unix_ns).into(),
            ..Outgoing::new("changes", writer.finish(false))
        });
        for reader in &mut self.readers {
            if reader.position == Position::Live
                && let Some(message) = &message
            {
                match reader.outbox.offer(message) {
                    Offer::Taken | Offer::Gone => continue,
                    Offer::Full => reader.falls_behind(),
                }
            }
            if !rows.iter().all(|(row, diff)| reader.note(output, row, *diff)) {
                reader.outbox.end_too_slow();
            }
        }
        self.sweep();
    }

    fn seal(&mut self, advance: Advance) {
        self.staged.remove(&advance.tick_ms);
        self.view.frontier_ms = Some(advance.tick_ms);
        self.rebasing = false;
        self.last_completeness = advance.completeness;
        self.events_unix_ns.clear();
        let due = self.is_quiet(advance.now_unix_ns);
        if std::mem::take(&mut self.changed) || due {
            self.send_progress(advance.now_unix_ns);
        }
    }

    fn progress(&self) -> Option<Outgoing> {
        let frontier_ms = self.view.frontier_ms?;
        let completeness = QueryCompleteness {
            // What readers have is of a query that is no more.
            complete: self.last_completeness.complete && !self.rebasing,
            ..self.last_completeness.clone()
        };
        Some(Outgoing::new("progress", progress_body(frontier_ms, &completeness)))
    }

    fn send_progress(&mut self, now_unix_ns: i64) {
        let Some(message) = self.progress() else { return };
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

/// Readers that are not up to date.
impl Maintained {
    /// Plans something for one of them. False: nobody needs or can take anything.
    fn serve(&mut self) -> bool {
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
    fn snapshot(&mut self, from: Cursor, after: Option<PackedRow>) -> Option<Task> {
        let output = from.output;
        let tick_ms = self.view.frontier_ms.unwrap_or(0);
        let new_chunk = || Chunk::new(&self.view, output, tick_ms);
        let chunk = self.chunk.get_or_insert_with(new_chunk);
        let mut last = None;
        let mut rows = 0;
        for (row, count) in self.view.rows_after(output, after.as_ref()).take(STEP_ROWS) {
            chunk.writer.push(self.view.writer(output), row, count);
            last = Some(row);
            rows += 1;
            if chunk.is_full() {
                break;
            }
        }
        let full = chunk.is_full();
        let done = rows < STEP_ROWS && !full;
        let after = last.cloned().or(after);
        if !done && !full {
            return Some(Task::Snapshot { from, after });
        }
        let chunk = self.chunk.take()?;
        let message = Outgoing::new("changes", chunk.writer.finish(true));
        let next = if done {
            Cursor { output: output + 1, after: None }
        } else {
            Cursor { output, after }
        };
        self.hand_out_snapshot(&from, &next, &message);
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
    fn catch_up(&mut self, number: u64, output: usize) -> Option<Task> {
        let tick_ms = self.view.frontier_ms.unwrap_or(0);
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.number == number) else {
            self.chunk = None;
            return None;
        };
        let new_chunk = || Chunk::new(&self.view, output, tick_ms);
        let chunk = self.chunk.get_or_insert_with(new_chunk);
        let mut done = false;
        for _ in 0..STEP_ROWS {
            match reader.pop_backlog(output) {
                Some((row, diff)) => chunk.writer.push(self.view.writer(output), &row, diff),
                None => done = true,
            }
            done |= chunk.is_full();
            if done {
                break;
            }
        }
        if !done {
            return Some(Task::CatchUp { number, output });
        }
        let chunk = self.chunk.take()?;
        if chunk.writer.rows() > 0 {
            let message = Outgoing::new("changes", chunk.writer.finish(reader.is_first));
            // Its rows are nowhere else any more.
            if reader.outbox.send(&message) == Offer::Full {
                reader.outbox.end_too_slow();
            }
        }
        None
    }

    /// A reader has everything up to the frontier.
    fn arrive(&mut self, number: u64) {
        let Some(message) = self.progress() else { return };
        let found = self.readers.iter_mut().find(|reader| reader.number == number);
        let Some(reader) = found else { return };
        if reader.outbox.send(&message) == Offer::Taken {
            reader.position = Position::Live;
            reader.is_first = false;
        } else {
            reader.is_blocked = true;
        }
    }

    /// The view is over: every reader hears why.
    pub(crate) fn finish(&mut self, code: &str, messages: &[Outgoing]) {
        for reader in self.readers.drain(..) {
            let mut last = messages.to_vec();
            last.push(Outgoing::end(code));
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

fn too_large_messages(error: &SnapshotTooLarge) -> Vec<Outgoing> {
    vec![too_large_message(error), Outgoing::end("snapshot_too_large")]
}

#[cfg(test)]
mod tests;
