//! Where queries share: the window of a feed tells its changes to every dataflow that reads it.
//!
//! The window's own state is all that is kept, whatever the number of readers: it is in memory anyway
//! (a group's last results, the rows of the panes), so a differential arrangement of the same rows would
//! hold them twice. A reader that comes is given the rows that are there, later what changes; the
//! changes of a tick are one run of rows, counted by references, until a reader takes it into its own
//! dataflow. Readers are on the same worker, which steps them with the feed: nothing piles up.
//!
//! How far a worker's window has come when a reader arrives differs from worker to worker. It is never
//! further than the last tick that was closed for the feed in the order of commands, which is the same for
//! all; a reader starts there at the earliest, and what is older is told it at its start.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use weir_types::PackedRow;

use super::source::SourceHandle;
use super::tick::{Emit, TickLogic};
use crate::api::QueryId;
use crate::query::{OpError, QueryShared};

/// Changed rows of one tick.
pub(super) type Told = Rc<Vec<(PackedRow, u64, i64)>>;

/// A window that can say what it has told in all.
pub(super) trait Held: TickLogic {
    /// The rows that are there, with their counts; in any order, one row any number of times.
    fn held(&self) -> Vec<(PackedRow, i64)>;
}

struct Reader {
    query: Arc<QueryShared>,
    handle: SourceHandle<Told>,
}

impl Reader {
    /// When something of the feed's tick is seen by the reader.
    fn tick_at(&self, tick_ms: u64) -> u64 {
        self.query.refresh_from(tick_ms).max(self.query.start_tick_ms())
    }
}

/// One exchange of a feed on one worker, and who reads it.
#[derive(Default)]
pub(crate) struct Publisher {
    readers: RefCell<Vec<Reader>>,
    /// Those that have not been given the rows that are there.
    newcomers: RefCell<Vec<Reader>>,
    /// Nothing comes below this any more.
    open_tick_ms: Cell<u64>,
}

impl Publisher {
    /// The window's operator must be activated afterwards: it gives the reader its first rows.
    pub(super) fn add_reader(&self, query: &Arc<QueryShared>, handle: SourceHandle<Told>) {
        self.newcomers.borrow_mut().push(Reader { query: Arc::clone(query), handle });
    }

    /// A reader has ended.
    pub(crate) fn forget(&self, query: QueryId) {
        for readers in [&self.readers, &self.newcomers] {
            readers.borrow_mut().retain(|reader| reader.query.id != query);
        }
    }

    fn welcome(&self, held: impl FnOnce() -> Vec<(PackedRow, i64)>) {
        let newcomers = std::mem::take(&mut *self.newcomers.borrow_mut());
        if newcomers.is_empty() {
            return;
        }
        // The time is set by who takes them in.
        let rows: Vec<_> = held().into_iter().map(|(row, diff)| (row, 0, diff)).collect();
        let rows = Rc::new(rows);
        for reader in newcomers {
            if !rows.is_empty() {
                reader.handle.push(reader.query.start_tick_ms(), Rc::clone(&rows));
            }
            reader.handle.open(reader.tick_at(self.open_tick_ms.get()));
            self.readers.borrow_mut().push(reader);
        }
    }

    fn tell(&self, tick_ms: u64, rows: Vec<(PackedRow, u64, i64)>) {
        let rows = Rc::new(rows);
        for reader in self.readers.borrow().iter().filter(|reader| reader.query.is_live()) {
            reader.handle.push(reader.tick_at(tick_ms), Rc::clone(&rows));
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
    type Item = L::Item;

    fn run(&mut self, tick_ms: u64, input: Vec<L::Item>, emit: &mut Emit) -> Result<(), OpError> {
        self.publisher.welcome(|| self.logic.held());
        self.logic.run(tick_ms, input, emit)?;
        let rows = emit.take();
        if !rows.is_empty() {
            self.publisher.tell(tick_ms, rows);
        }
        Ok(())
    }

    fn advanced(&mut self, frontier_ms: Option<u64>) {
        self.publisher.welcome(|| self.logic.held());
        if let Some(frontier_ms) = frontier_ms {
            self.publisher.open(frontier_ms);
        }
    }

    fn due(&self) -> Option<u64> {
        self.logic.due()
    }

    fn state_bytes(&self) -> usize {
        self.logic.state_bytes()
    }
}
