//! What waits for one view: rows and frontiers of its query, readers that come and go. Bounded in
//! bytes, filled by engine workers (rows and frontiers, in their order) and the coordinator (readers), who
//! never wait; emptied by the view. What is
//! too much ends the view with a message, rather than showing it wrong.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use weir_engine::Unread;
use weir_proto::QueryId;
use weir_types::PackedRow;

use super::message::Outgoing;
use super::outbox::Outbox;
use crate::view::OutputInfo;

/// Rows that wait for one view, in bytes: a first answer of a million rows and more.
pub(crate) const INBOX_BYTES_MAX: usize = if cfg!(test) { 100 << 10 } else { 512 << 20 };
/// What a row costs beside its bytes while it waits.
pub(crate) const ROW_OVERHEAD_BYTES: usize = 64;

/// Somebody who follows the view from now on.
pub(crate) struct NewReader {
    pub(crate) number: u64,
    pub(crate) outbox: Arc<Outbox>,
    /// What it is told of each output, in the view's order: readers of one view may have different
    /// descriptions.
    pub(crate) outputs: Vec<OutputInfo>,
    /// Errors of outputs that were left out.
    pub(crate) notices: Vec<Outgoing>,
    /// Its first answer is at a frontier not before this one.
    pub(crate) from_ms: u64,
    /// It has everything up to this frontier already, and wants what changed since.
    pub(crate) since_ms: Option<u64>,
}

pub(crate) enum Item {
    /// Rows of a table before a frontier.
    /// While they wait the engine counts them, and hands out no more than so much.
    Rows {
        run: QueryId,
        tick_ms: u64,
        table: Arc<str>,
        rows: Vec<(PackedRow, i64)>,
        _unread: Unread,
    },
    /// The view's frontier moved.
    Advance {
        run: QueryId,
        tick_ms: u64,
    },
    /// The query was installed anew, as this run: its rows come from the beginning.
    Rebase {
        run: QueryId,
    },
    Join(NewReader),
    Leave(u64),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Item::Rows { rows, .. } => rows_bytes(rows),
            _ => ROW_OVERHEAD_BYTES,
        }
    }
}

pub(crate) fn rows_bytes(rows: &[(PackedRow, i64)]) -> usize {
    rows.iter().map(|(row, _)| row.0.len() + ROW_OVERHEAD_BYTES).sum()
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    /// `Advance` items among them.
    advances: usize,
    overflowed: bool,
    closed: bool,
    /// The query is over: code and message.
    finish: Option<(&'static str, String)>,
}

impl Inner {
    /// A frontier right behind another one of the same query takes its place.
    fn advanced_with(&mut self, item: &Item) -> bool {
        let Item::Advance { run, tick_ms } = item else { return false };
        let Some(Item::Advance { run: waiting, tick_ms: waiting_ms }) = self.items.back_mut()
        else {
            return false;
        };
        let same = run == waiting;
        if same {
            *waiting_ms = (*waiting_ms).max(*tick_ms);
        }
        same
    }
}

/// Shared by the view, the coordinator and the engine's workers.
#[derive(Default)]
pub(crate) struct ViewInbox {
    inner: Mutex<Inner>,
    woken: AtomicBool,
    has_answer: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl ViewInbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the view is woken.
    pub(crate) fn attach(&self, wake: Box<dyn Fn() + Send + Sync>) {
        drop(self.wake.set(wake));
    }

    /// At most one wake is on its way at a time.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }

    /// The view is awake: what comes from now on wakes it again.
    pub(crate) fn awake(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// The view says whether it has an answer that a reader would be given now.
    pub(crate) fn set_has_answer(&self, has_answer: bool) {
        self.has_answer.store(has_answer, Ordering::Release);
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.has_answer.load(Ordering::Acquire)
    }

    /// False if the view is gone.
    pub(crate) fn push(&self, item: Item) -> bool {
        let bytes = item.bytes();
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        if inner.bytes.saturating_add(bytes) > INBOX_BYTES_MAX {
            inner.overflowed = true;
            inner.items.clear();
            inner.bytes = 0;
            inner.advances = 0;
        }
        if inner.advanced_with(&item) {
            // What waits is not more than it was.
        } else if !inner.overflowed {
            inner.bytes += bytes;
            inner.advances += usize::from(matches!(item, Item::Advance { .. }));
            inner.items.push_back(item);
        }
        drop(inner);
        self.wake();
        true
    }

    /// The next item, and whether a later frontier waits behind it.
    pub(crate) fn pop(&self) -> Option<(Item, bool)> {
        let mut inner = self.lock();
        let item = inner.items.pop_front()?;
        inner.bytes = inner.bytes.saturating_sub(item.bytes());
        if matches!(item, Item::Advance { .. }) {
            inner.advances -= 1;
        }
        Some((item, inner.advances > 0))
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.lock().overflowed
    }

    /// Ends the view, before anything that still waits.
    pub(crate) fn finish(&self, code: &'static str, message: String) {
        self.lock().finish = Some((code, message));
        self.wake();
    }

    pub(crate) fn take_finish(&self) -> Option<(&'static str, String)> {
        self.lock().finish.take()
    }

    /// The view is gone. Readers that were on their way to it are told.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.bytes = 0;
        let items = std::mem::take(&mut inner.items);
        drop(inner);
        for item in items {
            if let Item::Join(reader) = item {
                end_lost(&reader.outbox);
            }
        }
    }
}

/// What a reader is told whose view went down.
pub(crate) fn end_lost(outbox: &Outbox) {
    let error = Outgoing::error("view_lost", "the view went down: subscribe again", "");
    outbox.end(vec![error, Outgoing::End("view_lost".into())], false);
}
