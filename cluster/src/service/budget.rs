//! What readers may hold of the server's memory: bytes per subscription, per client and in all.
//! Taken before the memory is; given back when it is free. Knows nothing of messages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::task::AtomicWaker;

use super::outbox::Outbox;

/// The limits of readers. Each has a flag of `weir up`.
#[derive(Clone, Copy, Debug)]
pub struct ReaderLimits {
    /// What one subscription may hold: messages that wait for its socket, and the net change that
    /// they are behind. A view that changes wholly while its reader sleeps needs twice its size.
    pub reader_bytes_max: u64,
    /// What all subscriptions of one connection may hold.
    pub client_bytes_max: u64,
    /// What all readers may hold. When it is reached, whoever holds most is ended.
    pub readers_bytes_max: u64,
    /// A connection that takes nothing of what waits for it for so long is closed.
    pub write_timeout_ms: u64,
    /// Websockets at a time: each costs a few descriptors and some KiB.
    pub websockets_max: usize,
    /// Subscriptions of one websocket.
    pub subscriptions_max: usize,
}

impl Default for ReaderLimits {
    fn default() -> ReaderLimits {
        ReaderLimits {
            reader_bytes_max: 32 << 20,
            client_bytes_max: 64 << 20,
            readers_bytes_max: 256 << 20,
            write_timeout_ms: 30_000,
            websockets_max: 512,
            subscriptions_max: 64,
        }
    }
}

/// A number of bytes that may be taken.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Budget {
        Budget { bytes_max, used: AtomicU64::new(0) }
    }

    /// All of it or nothing.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// More than there is: what must go out in any case (the reason of an end).
    pub(crate) fn force(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// What happened to readers since the start.
#[derive(Debug, Default)]
pub struct ReaderCounters {
    /// Fell behind and got what changed meanwhile as one net change.
    pub behind_total: AtomicU64,
    /// Ended since they held too much.
    pub too_slow_total: AtomicU64,
    /// Connections that were closed since they took nothing for too long.
    pub stalled_total: AtomicU64,
    /// Connections that were closed since nothing came from them any more, not even a pong.
    pub silent_total: AtomicU64,
    /// Connections and subscriptions that were refused: there are too many.
    pub refused_total: AtomicU64,
}

impl ReaderCounters {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// All readers of a server.
pub struct Readers {
    pub limits: ReaderLimits,
    pub counters: ReaderCounters,
    budget: Budget,
    outboxes: Mutex<Vec<Weak<Outbox>>>,
    websockets: AtomicU64,
}

impl Readers {
    #[must_use]
    pub fn new(limits: ReaderLimits) -> Arc<Readers> {
        Arc::new(Readers {
            budget: Budget::new(limits.readers_bytes_max),
            limits,
            counters: ReaderCounters::default(),
            outboxes: Mutex::default(),
            websockets: AtomicU64::new(0),
        })
    }

    /// Bytes that wait for readers now.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.budget.used()
    }

    #[must_use]
    pub fn websockets(&self) -> u64 {
        self.websockets.load(Ordering::Relaxed)
    }

    /// A place for one more websocket; dropped, it is free again.
    #[must_use]
    pub fn admit_websocket(self: &Arc<Readers>) -> Option<Admitted> {
        let max = self.limits.websockets_max as u64;
        let one_more = |have: u64| (have < max).then_some(have + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.websockets.fetch_update(set, fetch, one_more).is_err() {
            ReaderCounters::count(&self.counters.refused_total);
            return None;
        }
        Some(Admitted(Arc::clone(self)))
    }

    pub(crate) fn add(&self, outbox: &Arc<Outbox>) {
        let mut outboxes = self.outboxes.lock().unwrap_or_else(PoisonError::into_inner);
        outboxes.retain(|outbox| outbox.strong_count() > 0);
        outboxes.push(Arc::downgrade(outbox));
    }

    /// Takes bytes for `asking`. If all readers together hold too much, whoever holds most is ended
    /// for it: false if that is who asks.
    pub(crate) fn take(&self, asking: &Outbox, bytes: u64) -> bool {
        while !self.budget.take(bytes) {
            let Some(largest) = self.largest() else { return false };
            if std::ptr::eq(&*largest, asking) || largest.held_bytes() <= asking.held_bytes() {
                return false;
            }
            largest.end_too_slow();
        }
        true
    }

    pub(crate) fn force(&self, bytes: u64) {
        self.budget.force(bytes);
    }

    pub(crate) fn give(&self, bytes: u64) {
        self.budget.give(bytes);
    }

    fn largest(&self) -> Option<Arc<Outbox>> {
        let outboxes = self.outboxes.lock().unwrap_or_else(PoisonError::into_inner);
        outboxes.iter().filter_map(Weak::upgrade).max_by_key(|outbox| outbox.held_bytes())
    }
}

/// One websocket's place.
pub struct Admitted(Arc<Readers>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.websockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection: its share, and who waits for its messages.
pub struct Client {
    pub(crate) budget: Budget,
    waker: AtomicWaker,
}

impl Client {
    #[must_use]
    pub fn new(limits: &ReaderLimits) -> Arc<Client> {
        Arc::new(Client { budget: Budget::new(limits.client_bytes_max), waker: AtomicWaker::new() })
    }

    /// There is something to take.
    pub fn wake(&self) {
        self.waker.wake();
    }

    pub fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }
}
