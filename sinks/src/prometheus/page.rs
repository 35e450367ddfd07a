//! What is read at an address: the rows that whoever writes them has shown there, and the server that says them. It
//! outlives its writer if another one takes its place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::series::Held;
use crate::sink::SinkError;

use super::serve::Server;
use super::text;

pub(super) struct Shown {
    pub(super) prefix: String,
    pub(super) held: Held,
    /// Whose it is: one that was replaced may still be at work.
    pub(super) writer: u64,
}

pub(super) struct Page {
    listen: String,
    shown: Arc<Mutex<Shown>>,
    server: Mutex<Option<Server>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Page {
    pub(super) fn new(listen: &str) -> Page {
        let shown = Shown { prefix: String::new(), held: Held::default(), writer: 0 };
        let shown = Arc::new(Mutex::new(shown));
        Page { listen: listen.to_string(), shown, server: Mutex::new(None) }
    }

    pub(super) fn is_at(&self, listen: &str) -> bool {
        self.listen == listen
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shown> {
        lock(&self.shown)
    }

    /// It is another writer's from now on. Gives that one's number, and whether something is shown already.
    ///
    /// # Errors
    /// The address is none, or taken.
    pub(super) fn open(&self, prefix: &str) -> Result<(u64, bool), SinkError> {
        let mut server = lock(&self.server);
        if server.is_none() {
            let shown = Arc::clone(&self.shown);
            let text = move || {
                let shown = lock(&shown);
                text::scrape(&shown.prefix, shown.held.outputs.values())
            };
            *server = Some(Server::start(&self.listen, text)?);
        }
        let mut shown = self.lock();
        shown.prefix = prefix.to_string();
        shown.writer += 1;
        Ok((shown.writer, !shown.held.outputs.is_empty()))
    }

    pub(super) fn address(&self) -> Option<std::net::SocketAddr> {
        lock(&self.server).as_ref().map(Server::address)
    }
}
