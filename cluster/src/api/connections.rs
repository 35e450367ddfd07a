//! Connections before anybody has shown leave to be there. They may not be many, nor stay: whoever
//! connects and dawdles (a head byte by byte, a body that never ends, nothing at all) is shut after
//! [`ANONYMOUS_MAX`], and the oldest of them makes room when there are [`CONNECTIONS_MAX`]. A
//! connection whose request was admitted is left alone; what it may cost is bounded elsewhere.

use std::any::Any;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use weir_types::Clock;

use super::counters::Counters;

/// Open connections. A page holds one or two; beyond this the oldest one without leave is shut, and
/// if all have leave, the new one is told so (503).
pub(super) const CONNECTIONS_MAX: usize = 512;
/// A request without leave needs a head (5 s), at most a login's body (10 s) and its answer.
const ANONYMOUS_MAX: Duration = Duration::from_secs(20);
/// Data that its reader does not take for this long ends the connection (`TCP_USER_TIMEOUT`): an
/// answer that nobody reads would else stay in memory as long as its socket.
const UNREAD_MAX: Duration = Duration::from_secs(60);
/// How often [`Connections::sweep`] looks.
const SWEEP: Duration = Duration::from_secs(1);

/// One connection. It lives as long as the server's own handle of the socket, no longer: the second
/// descriptor here must not keep a closed connection open.
pub(super) struct Connection {
    socket: OwnedFd,
    opened_mono_ns: u64,
    admitted: AtomicBool,
    shut: AtomicBool,
    /// There were too many when it came.
    pub(super) too_many: bool,
    counters: Arc<Counters>,
}

impl Connection {
    /// Somebody has shown leave on it.
    pub(super) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }

    /// Ends it if nobody has shown leave; true if it was this call that did.
    fn shut(&self) -> bool {
        if self.admitted.load(Ordering::Relaxed) || self.shut.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.counters.connections_shut.fetch_add(1, Ordering::Relaxed);
        // It may have ended by itself just now.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counters.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections that are younger than [`ANONYMOUS_MAX`], oldest first.
pub(super) struct Connections {
    young: Mutex<VecDeque<Weak<Connection>>>,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

impl Connections {
    pub(super) fn new(counters: Arc<Counters>, clock: Arc<dyn Clock>) -> Connections {
        Connections { young: Mutex::default(), counters, clock }
    }

    /// For `HttpServer::on_connect`.
    pub(super) fn connected(&self, io: &dyn Any, extensions: &mut Extensions) {
        let Some(stream) = io.downcast_ref::<TcpStream>() else { return };
        let unread_ms = u32::try_from(UNREAD_MAX.as_millis()).unwrap_or(u32::MAX);
        // Both calls fail only for want of descriptors or memory; the connection then goes
        // unsupervised, within the server's own limit.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, unread_ms);
        if let Ok(socket) = stream.as_fd().try_clone_to_owned() {
            extensions.insert(self.enter(socket));
        }
    }

    fn enter(&self, socket: OwnedFd) -> Arc<Connection> {
        let mut young = self.young.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.counters.connections_open.fetch_add(1, Ordering::Relaxed);
        let full = open >= CONNECTIONS_MAX as u64;
        let made_room = full && young.iter().filter_map(Weak::upgrade).any(|old| old.shut());
        if young.len() >= 4 * CONNECTIONS_MAX {
            young.retain(|connection| connection.strong_count() > 0);
        }
        let connection = Arc::new(Connection {
            socket,
            opened_mono_ns: self.clock.monotonic_ns(),
            admitted: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            too_many: full && !made_room,
            counters: self.counters.clone(),
        });
        young.push_back(Arc::downgrade(&connection));
        connection
    }

    /// Shuts those that have dawdled.
    fn shut_old(&self) {
        let mut young = self.young.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ns = self.clock.monotonic_ns();
        let is_old = |connection: &Connection| {
            u128::from(now_ns.saturating_sub(connection.opened_mono_ns)) >= ANONYMOUS_MAX.as_nanos()
        };
        while let Some(oldest) = young.front().map(Weak::upgrade) {
            match oldest {
                Some(connection) if !is_old(&connection) => return,
                Some(connection) => {
                    connection.shut();
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
            connections.shut_old();
        }
    }
}
