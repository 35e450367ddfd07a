//! What waits for one subscription: a queue of messages bounded in bytes, between the view that fills
//! it and the connection that empties it. Full is not an error: the view keeps the net change for this
//! reader meanwhile, on the same account. What an ended or departed reader held is free at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use super::budget::{Budget, Client, ReaderCounters, Readers};
use super::message::Outgoing;

/// Text that waits in the queue; what is more is kept as a net change, which is smaller. Room for a refresh
/// in which a thousand requests with their bodies are replaced by others, about six million bytes with their
/// text: it is written once for all readers, a net change for each.
const QUEUE_BYTES_MAX: u64 = if cfg!(test) { 4_000 } else { 8 << 20 };

/// Wakes a view.
pub(crate) type WakeView = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The last messages are in the queue.
    Ended,
    /// Nobody takes anything any more.
    Gone,
}

struct Inner {
    queue: VecDeque<Outgoing>,
    queued_bytes: u64,
    /// The net change that the view keeps for this reader.
    backlog_bytes: u64,
    state: State,
    /// The view wants to know when there is room.
    wants_room: bool,
}

pub struct Outbox {
    inner: Mutex<Inner>,
    own: Budget,
    client: Arc<Client>,
    readers: Arc<Readers>,
    view: OnceLock<WakeView>,
    /// How far the view is, whatever the reader has taken of it; 0: nowhere yet.
    frontier_ms: Arc<AtomicU64>,
    /// From when on the reader is to hear of a frontier though nothing has changed.
    due_ms: OnceLock<Arc<AtomicU64>>,
}

/// What became of an offered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Taken,
    Full,
    Gone,
}

/// What there was to take.
pub enum Popped {
    Message(Outgoing),
    Empty,
    /// Nothing follows.
    Finished,
}

impl Outbox {
    #[must_use]
    pub fn new(client: &Arc<Client>, readers: &Arc<Readers>) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox {
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                queued_bytes: 0,
                backlog_bytes: 0,
                state: State::Open,
                wants_room: false,
            }),
            own: Budget::new(readers.limits.reader_bytes_max),
            client: Arc::clone(client),
            readers: Arc::clone(readers),
            view: OnceLock::new(),
            frontier_ms: Arc::default(),
            due_ms: OnceLock::new(),
        });
        readers.add(&outbox);
        outbox
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes on this reader's account.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.own.used()
    }

    /// Takes from every account or from none. Not under the lock: another reader may be ended for it.
    fn take(&self, bytes: u64) -> bool {
        if !self.own.take(bytes) {
            return false;
        }
        if !self.client.budget.take(bytes) {
            self.own.give(bytes);
            return false;
        }
        if !self.readers.take(self, bytes) {
            self.own.give(bytes);
            self.client.budget.give(bytes);
            return false;
        }
        true
    }

    fn give(&self, bytes: u64) {
        self.own.give(bytes);
        self.client.budget.give(bytes);
        self.readers.give(bytes);
    }

    fn wake_view(&self) {
        if let Some(wake) = self.view.get() {
            wake();
        }
    }
}

/// The view's side.
impl Outbox {
    /// The view has got to a frontier.
    pub(crate) fn reached(&self, tick_ms: u64) {
        self.frontier_ms.store(tick_ms, Ordering::Relaxed);
    }

    /// Where that can be read, also when the reader has gone.
    pub(crate) fn frontier(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.frontier_ms)
    }

    /// The reader waits for a time of the view's: it hears of the first frontier that is not before it.
    pub(crate) fn waits_for(&self, due_ms: Arc<AtomicU64>) {
        drop(self.due_ms.set(due_ms));
    }

    pub(crate) fn is_due(&self, tick_ms: u64) -> bool {
        self.due_ms.get().is_some_and(|due_ms| due_ms.load(Ordering::Relaxed) <= tick_ms)
    }

    /// Whom to wake when there is room again.
    pub(crate) fn attach(&self, view: WakeView) {
        drop(self.view.set(view));
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().state == State::Open
    }

    /// True if there is room for a few more messages. Otherwise the view is woken when there is.
    pub(crate) fn has_room(&self) -> bool {
        let mut inner = self.lock();
        let room = inner.queue.is_empty() || inner.queued_bytes < QUEUE_BYTES_MAX / 2;
        inner.wants_room = !room;
        room && inner.state == State::Open
    }

    /// For a message that the reader can do without, because the view keeps its rows instead.
    pub(crate) fn offer(&self, message: &Outgoing) -> Offer {
        let bytes = message.bytes();
        {
            let mut inner = self.lock();
            if inner.state != State::Open {
                return Offer::Gone;
            }
            if !inner.queue.is_empty() && inner.queued_bytes + bytes > QUEUE_BYTES_MAX {
                inner.wants_room = true;
                return Offer::Full;
            }
        }
        self.push(message, bytes)
    }

    /// Once [`Outbox::has_room`] was true.
    pub(crate) fn send(&self, message: &Outgoing) -> Offer {
        self.push(message, message.bytes())
    }

    fn push(&self, message: &Outgoing, bytes: u64) -> Offer {
        if !self.take(bytes) {
            self.lock().wants_room = true;
            return Offer::Full;
        }
        let mut inner = self.lock();
        if inner.state != State::Open {
            drop(inner);
            self.give(bytes);
            return Offer::Gone;
        }
        inner.queue.push_back(message.clone());
        inner.queued_bytes += bytes;
        drop(inner);
        self.client.wake();
        Offer::Taken
    }

    /// The view keeps so many bytes more for this reader. False: it may not.
    pub(crate) fn hold(&self, bytes: u64) -> bool {
        if !self.take(bytes) {
            return false;
        }
        let mut inner = self.lock();
        let open = inner.state == State::Open;
        if open {
            inner.backlog_bytes += bytes;
        }
        drop(inner);
        if !open {
            self.give(bytes);
        }
        open
    }

    pub(crate) fn release(&self, bytes: u64) {
        let mut inner = self.lock();
        let bytes = bytes.min(inner.backlog_bytes);
        inner.backlog_bytes -= bytes;
        drop(inner);
        self.give(bytes);
    }

    /// The last messages; nothing is taken after them. `drop_waiting`: what waits is not sent.
    pub(crate) fn end(&self, messages: Vec<Outgoing>, drop_waiting: bool) {
        let mut inner = self.lock();
        if inner.state != State::Open {
            return;
        }
        inner.state = State::Ended;
        let mut freed = std::mem::take(&mut inner.backlog_bytes);
        let mut dropped = VecDeque::new();
        if drop_waiting {
            freed += std::mem::take(&mut inner.queued_bytes);
            dropped = std::mem::take(&mut inner.queue);
        }
        for message in messages {
            let bytes = message.bytes();
            self.own.force(bytes);
            self.client.budget.force(bytes);
            self.readers.force(bytes);
            inner.queued_bytes += bytes;
            inner.queue.push_back(message);
        }
        drop(inner);
        drop(dropped);
        self.give(freed);
        self.client.wake();
        self.wake_view();
    }

    /// There is no view for it: this is all that it gets.
    pub fn refuse(&self, message: Outgoing) {
        self.end(vec![message], true);
    }

    /// It holds more than it may.
    pub(crate) fn end_too_slow(&self) {
        if !self.is_open() {
            return;
        }
        ReaderCounters::count(&self.readers.counters.too_slow_total);
        let limits = &self.readers.limits;
        let message = format!(
            "this reader is too slow: more than {} bytes wait for it (or {} for its connection, {} \
             for all readers); subscribe again for the newest state",
            limits.reader_bytes_max, limits.client_bytes_max, limits.readers_bytes_max
        );
        let error = Outgoing::error("reader_too_slow", &message, "");
        self.end(vec![error, Outgoing::End("reader_too_slow".into())], true);
    }

    pub(crate) fn count_behind(&self) {
        ReaderCounters::count(&self.readers.counters.behind_total);
    }
}

/// The connection's side.
impl Outbox {
    #[must_use]
    pub fn pop(&self) -> Popped {
        let mut inner = self.lock();
        let Some(message) = inner.queue.pop_front() else {
            return if inner.state == State::Open { Popped::Empty } else { Popped::Finished };
        };
        let bytes = message.bytes();
        inner.queued_bytes -= bytes;
        let has_room = inner.queue.is_empty() || inner.queued_bytes < QUEUE_BYTES_MAX / 2;
        let wake = has_room && std::mem::take(&mut inner.wants_room);
        drop(inner);
        self.give(bytes);
        if wake {
            self.wake_view();
        }
        Popped::Message(message)
    }

    /// Messages wait to be taken.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// The reader is gone: nothing is kept for it any more.
    pub fn leave(&self) {
        let mut inner = self.lock();
        inner.state = State::Gone;
        let freed =
            std::mem::take(&mut inner.queued_bytes) + std::mem::take(&mut inner.backlog_bytes);
        let dropped = std::mem::take(&mut inner.queue);
        drop(inner);
        drop(dropped);
        self.give(freed);
        self.wake_view();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let inner = self.lock();
        let left = inner.queued_bytes + inner.backlog_bytes;
        drop(inner);
        self.give(left);
    }
}

/// Who takes what an outbox holds, one message after another. Dropped, it leaves its view.
pub(crate) struct OutboxReader {
    pub(crate) client: Arc<Client>,
    pub(crate) outbox: Arc<Outbox>,
}

impl Drop for OutboxReader {
    fn drop(&mut self) {
        self.outbox.leave();
    }
}

impl OutboxReader {
    /// With a client of its own.
    pub(crate) fn new(readers: &Arc<Readers>) -> OutboxReader {
        let client = Client::new(&readers.limits);
        let outbox = Outbox::new(&client, readers);
        OutboxReader { client, outbox }
    }

    /// The next message; `None`: nothing follows.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        self.client.register(cx.waker());
        match self.outbox.pop() {
            Popped::Message(message) => Poll::Ready(Some(message)),
            Popped::Empty => Poll::Pending,
            Popped::Finished => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::ReaderLimits;
    use super::*;

    fn message(bytes: usize) -> Outgoing {
        Outgoing::error("", &"x".repeat(bytes), "")
    }

    fn limits(reader: u64, client: u64, all: u64) -> ReaderLimits {
        ReaderLimits {
            reader_bytes_max: reader,
            client_bytes_max: client,
            readers_bytes_max: all,
            ..ReaderLimits::default()
        }
    }

    /// A queue is bounded in bytes, each account gets back what it gave, and an ended reader keeps
    /// nothing but the reason: catches a byte that is counted once more on one way than on another.
    #[test]
    fn accounts_balance() {
        let readers = Readers::new(limits(8 << 20, 8 << 20, 8 << 20));
        let client = Client::new(&readers.limits);
        let outbox = Outbox::new(&client, &readers);
        let mut taken = 0;
        while outbox.offer(&message(400)) == Offer::Taken {
            taken += 1;
        }
        assert_eq!(taken, QUEUE_BYTES_MAX / 528);
        assert!(outbox.hold(1000) && !outbox.hold(9 << 20));
        assert!(!outbox.has_room());
        assert!(matches!(outbox.pop(), Popped::Message(_)));
        outbox.release(400);
        assert_eq!(readers.held_bytes(), 6 * 528 + 600);
        outbox.end_too_slow();
        assert!(readers.held_bytes() < 1000, "{}", readers.held_bytes());
        assert!(!outbox.hold(1) && outbox.offer(&message(1)) == Offer::Gone);
        outbox.release(600);
        assert!(matches!(outbox.pop(), Popped::Message(Outgoing::Error(_))));
        assert!(matches!(outbox.pop(), Popped::Message(Outgoing::End(_))));
        assert!(matches!(outbox.pop(), Popped::Finished));
        assert_eq!((readers.held_bytes(), client.budget.used()), (0, 0));
    }

    /// When all readers together hold too much, the one that holds most goes, not the one that asks
    /// last: a sleeper does not starve who reads.
    #[test]
    fn the_largest_is_ended() {
        let readers = Readers::new(limits(1 << 20, 1 << 20, 1 << 20));
        let (sleeper, small) = (Client::new(&readers.limits), Client::new(&readers.limits));
        let sleeper = Outbox::new(&sleeper, &readers);
        let small = Outbox::new(&small, &readers);
        assert!(sleeper.hold(900_000));
        assert_eq!(small.offer(&message(200_000)), Offer::Taken);
        assert!(!sleeper.is_open());
        assert!(small.is_open());
        small.leave();
        drop((small, sleeper));
        assert_eq!(readers.held_bytes(), 0);
    }
}
