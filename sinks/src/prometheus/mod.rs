//! A view as gauges that Prometheus scrapes: one series a row and number, labelled by the row's key. Values
//! have no timestamps; a row that is gone is gone with the next scrape. After a reset the old rows are shown
//! until the new ones are complete.

mod serve;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::delivery::OutputInfo;
use crate::element::Element;
use crate::series::{Held, names};
use crate::sink::{Resume, SinkError, Writer};

use self::serve::Server;

pub struct PrometheusSink {
    listen: String,
    prefix: String,
    held: Arc<Mutex<Held>>,
    server: Option<Server>,
}

/// # Errors
/// Two columns meet in one name, or there is nothing to show.
pub fn judge(prefix: &str, outputs: &[OutputInfo]) -> Result<(), SinkError> {
    names::judge_all(prefix, outputs).map_err(SinkError::Refused)
}

impl PrometheusSink {
    #[must_use]
    pub fn new(listen: &str, prefix: &str) -> PrometheusSink {
        let (listen, prefix) = (listen.to_string(), prefix.to_string());
        PrometheusSink { listen, prefix, held: Arc::default(), server: None }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens, once it does.
    #[must_use]
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(Server::address)
    }
}

impl Writer for PrometheusSink {
    fn open(&mut self) -> Result<Resume, SinkError> {
        let (held, prefix) = (Arc::clone(&self.held), self.prefix.clone());
        let text = move || {
            let held = held.lock().unwrap_or_else(PoisonError::into_inner);
            text::scrape(&prefix, held.outputs.values())
        };
        self.server = Some(Server::start(&self.listen, text)?);
        Ok(Resume::default())
    }

    fn is_lasting(&self) -> bool {
        false
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let mut held = self.lock();
        for element in batch {
            held.apply(element)?;
            *safe += 1;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.server = None;
    }
}
