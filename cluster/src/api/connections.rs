//! Connections before anybody has shown leave to be there. They may not be many, nor stay: whoever
//! connects and dawdles (a head byte by byte, a body that never ends, nothing at all) is closed after
//! [`NEWCOMER_TIME_MAX`], and the oldest of them makes room when there are [`NEWCOMERS_MAX`]. A
//! connection whose request was admitted is left alone: what it may cost is bounded elsewhere.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::dev::Extensions;
use weir_types::Clock;

use super::connection::Connection;
use super::counters::Counters;

/// Connections without leave at a time; the oldest is closed for a further one. A local client has
/// its leave within milliseconds.
const NEWCOMERS_MAX: u64 = 512;
/// A request without leave needs a head (5 s), at most a login's body (10 s) and its answer.
const NEWCOMER_TIME_MAX: Duration = Duration::from_secs(20);
/// How often [`Connections::sweep`] looks.
const SWEEP: Duration = Duration::from_secs(1);

const WAITING: u8 = 0;
const ADMITTED: u8 = 1;
const CLOSED: u8 = 2;

/// A connection until somebody has shown leave on it.
pub(super) struct Newcomer {
    connection: Connection,
    opened_mono_ns: u64,
    state: AtomicU8,
    counters: Arc<Counters>,
}

impl Newcomer {
    /// True if it was waiting until now.
    fn becomes(&self, state: u8) -> bool {
        let order = Ordering::Relaxed;
        let changed = self.state.compare_exchange(WAITING, state, order, order).is_ok();
        if changed {
            self.counters.newcomers.fetch_sub(1, order);
        }
        changed
    }

    /// Somebody has shown leave on it.
    pub(super) fn admit(&self) {
        self.becomes(ADMITTED);
    }

    /// Ends it if nobody has; true if it was this call that did.
    fn close(&self) -> bool {
        let closes = self.becomes(CLOSED);
        if closes {
            self.counters.newcomers_closed.fetch_add(1, Ordering::Relaxed);
            self.connection.close_now();
        }
        closes
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.becomes(CLOSED);
        self.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections that are younger than [`NEWCOMER_TIME_MAX`], oldest first.
pub(super) struct Connections {
    young: Mutex<VecDeque<Weak<Newcomer>>>,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

impl Connections {
    pub(super) fn new(counters: Arc<Counters>, clock: Arc<dyn Clock>) -> Connections {
        Connections { young: Mutex::default(), counters, clock }
    }

    /// For `HttpServer::on_connect`.
    pub(super) fn connected(&self, io: &dyn Any, extensions: &mut Extensions) {
        let connection = Connection::new(io);
        extensions.insert(connection.clone());
        extensions.insert(self.enter(connection));
    }

    fn enter(&self, connection: Connection) -> Arc<Newcomer> {
        let mut young = self.young.lock().unwrap_or_else(PoisonError::into_inner);
        if self.counters.newcomers.load(Ordering::Relaxed) >= NEWCOMERS_MAX {
            let _made_room = young.iter().filter_map(Weak::upgrade).any(|oldest| oldest.close());
        }
        // What has ended by itself is not waited for.
        if young.len() as u64 >= 4 * NEWCOMERS_MAX {
            young.retain(|newcomer| newcomer.strong_count() > 0);
        }
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        self.counters.newcomers.fetch_add(1, Ordering::Relaxed);
        let newcomer = Arc::new(Newcomer {
            connection,
            opened_mono_ns: self.clock.monotonic_ns(),
            state: AtomicU8::new(WAITING),
            counters: self.counters.clone(),
        });
        young.push_back(Arc::downgrade(&newcomer));
        newcomer
    }

    /// Closes those that have dawdled.
    fn close_old(&self) {
        let mut young = self.young.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ns = self.clock.monotonic_ns();
        let is_old = |newcomer: &Newcomer| {
            u128::from(now_ns.saturating_sub(newcomer.opened_mono_ns))
                >= NEWCOMER_TIME_MAX.as_nanos()
        };
        while let Some(oldest) = young.front().map(Weak::upgrade) {
            match oldest {
                Some(newcomer) if !is_old(&newcomer) => return,
                Some(newcomer) => {
                    newcomer.close();
                }
                None => {}
            }
            young.pop_front();
        }
    }

    /// Runs as long as the server holds its connections.
    pub(super) async fn sweep(connections: Weak<Connections>) {
        loop {
            actix_web::rt::time::sleep(SWEEP).await;
            let Some(connections) = connections.upgrade() else { return };
            connections.close_old();
        }
    }
}
