//! Where queries share: the window of a feed tells its changes to every dataflow that reads it.
//!
//! The window's own state is all that is kept, whatever the number of readers: it is in memory anyway
//! (a group's last results, the rows of the panes), so a differential arrangement of the same rows would
//! hold them twice. A reader that comes is given the rows that are there, later what changes; the
//! changes of a tick are one run of rows, counted by references, until a reader takes it into its own
//! dataflow, where they count as the reader's.
//!
//! How far a worker's window has come when a reader arrives differs from worker to worker. It is never
//! further than the last tick that was closed for the feed in the order of commands, which is the same for
//! all; a reader starts there at the earliest, and what is older is told it at its start.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use weir_types::PackedRow;

use super::source::{Import, SourceHandle};
use super::tick::{Emit, Progress, TickLogic};
use crate::api::QueryId;
use crate::budget::Fuel;
use crate::query::{OpError, QueryShared};
use crate::weigh;

/// Changed rows of one tick.
pub(super) type Told = Rc<Vec<(PackedRow, u64, i64)>>;

/// Where a walk through a window's rows has come to.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) pane: i64,
    pub(super) slot: usize,
    pub(super) row: Option<PackedRow>,
}

/// A window that can say what it has told in all.
pub(super) trait Held: TickLogic {
    /// A slice of the rows that are there, with their counts; in any order, one row any number of times.
    /// True if that was the last. Nothing changes between the slices of a walk.
    fn held(&self, walk: &mut Walk, fuel: &mut Fuel, rows: &mut Vec<(PackedRow, i64)>) -> bool;
}

struct FeedReader {
    query: Arc<QueryShared>,
    handle: SourceHandle<Import>,
}

impl FeedReader {
    fn push(&self, tick_ms: u64, rows: &Told) {
        let bytes = rows.iter().map(|(row, _, diff)| weigh::row_change(row, *diff)).sum();
        self.handle.push(tick_ms, (Rc::clone(rows), 0), self.handle.count(bytes));
    }

    /// When something of the feed's tick is seen by the reader.
    fn tick_at(&self, tick_ms: u64) -> u64 {
        self.query.refresh_from(tick_ms).max(self.query.start_tick_ms())
    }
}

/// One exchange of a feed on one worker, and who reads it.
#[derive(Default)]
pub(crate) struct Publisher {
    readers: RefCell<Vec<FeedReader>>,
    /// Those that have not been given the rows that are there.
    newcomers: RefCell<Vec<FeedReader>>,
    /// Those that are being given them, and how far that is.
    welcomed: RefCell<(Vec<FeedReader>, Walk)>,
    /// Nothing comes below this any more.
    open_tick_ms: Cell<u64>,
}

impl Publisher {
    /// The window's operator must be activated afterwards: it gives the reader its first rows.
    pub(super) fn add_reader(&self, query: &Arc<QueryShared>, handle: SourceHandle<Import>) {
        self.newcomers.borrow_mut().push(FeedReader { query: Arc::clone(query), handle });
    }

    /// A reader has ended.
    pub(crate) fn forget(&self, query: QueryId) {
        let stays = |reader: &FeedReader| reader.query.id != query;
        self.readers.borrow_mut().retain(stays);
        self.newcomers.borrow_mut().retain(stays);
        self.welcomed.borrow_mut().0.retain(stays);
    }

    /// Gives newcomers a slice of the rows that are there; true if there is nobody to give more.
    fn welcome(&self, window: &impl Held, fuel: &mut Fuel) -> bool {
        let welcomed = &mut *self.welcomed.borrow_mut();
        let (readers, walk) = welcomed;
        if readers.is_empty() {
            *readers = std::mem::take(&mut *self.newcomers.borrow_mut());
            *walk = Walk::default();
        }
        if readers.is_empty() {
            return true;
        }
        let mut rows = Vec::new();
        let is_done = window.held(walk, fuel, &mut rows);
        // The time is set by who takes them in.
        let rows: Vec<_> = rows.into_iter().map(|(row, diff)| (row, 0, diff)).collect();
        let rows = Rc::new(rows);
        for reader in readers.iter().filter(|_| !rows.is_empty()) {
            reader.push(reader.query.start_tick_ms(), &rows);
        }
        if is_done {
            for reader in readers.drain(..) {
                reader.handle.open(reader.tick_at(self.open_tick_ms.get()));
                self.readers.borrow_mut().push(reader);
            }
        }
        is_done && self.newcomers.borrow().is_empty()
    }

    fn tell(&self, tick_ms: u64, rows: Vec<(PackedRow, u64, i64)>) {
        let rows = Rc::new(rows);
        for reader in self.readers.borrow().iter().filter(|reader| reader.query.is_live()) {
            reader.push(reader.tick_at(tick_ms), &rows);
        }
    }

    fn open(&self, tick_ms: u64) {
        if tick_ms <= self.open_tick_ms.replace(tick_ms) {
            return;
        }
        for reader in self.readers.borrow().iter() {
            reader.handle.open(reader.tick_at(tick_ms));
        }
    }
}

/// A window whose changes go to the readers instead of down the feed's own dataflow.
pub(super) struct Publish<L> {
    pub(super) logic: L,
    pub(super) publisher: Rc<Publisher>,
}

impl<L: Held> TickLogic for Publish<L> {
    type Waiting = L::Waiting;

    fn work(
        &mut self,
        tick_ms: u64,
        input: &mut L::Waiting,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        let progress = self.logic.work(tick_ms, input, emit, fuel)?;
        let rows = emit.take();
        if !rows.is_empty() {
            self.publisher.tell(tick_ms, rows);
        }
        Ok(progress)
    }

    /// Between ticks the window stands still.
    fn between_ticks(&mut self, fuel: &mut Fuel) -> bool {
        self.publisher.welcome(&self.logic, fuel)
    }

    fn advanced(&mut self, tick_ms: Option<u64>) {
        if let Some(tick_ms) = tick_ms {
            self.publisher.open(tick_ms);
        }
        self.logic.advanced(tick_ms);
    }

    fn due(&self) -> Option<u64> {
        self.logic.due()
    }

    fn state_bytes(&self) -> usize {
        self.logic.state_bytes()
    }

    fn give_up(self) -> Box<dyn Send> {
        self.logic.give_up()
    }
}
