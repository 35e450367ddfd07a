//! A view as gauges that Prometheus scrapes: one series a row and number, labelled by the row's key. Values
//! have no timestamps; a row that is gone is gone with the next scrape. After a reset the old rows are shown
//! until the new ones are complete, and so are those of a sink that was configured anew for the same address,
//! which never stops to listen.

mod page;
mod serve;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use crate::delivery::OutputInfo;
use crate::element::{Element, Op};
use crate::series::names;
use crate::sink::{self, Resume, SinkError, Writer};

use self::page::Page;

pub struct PrometheusSink {
    listen: String,
    prefix: String,
    page: Option<Arc<Page>>,
    /// Its own, of those that the page had.
    number: u64,
    /// Inputs of which only what another one has shown is there, and how many there will be.
    older: BTreeSet<u16>,
    inputs: u16,
}

/// # Errors
/// Two columns meet in one name, or there is nothing to show.
pub fn judge(prefix: &str, outputs: &[OutputInfo]) -> Result<(), SinkError> {
    names::judge_all(prefix, outputs).map_err(SinkError::Refused)
}

impl PrometheusSink {
    #[must_use]
    pub fn new(listen: &str, prefix: &str) -> PrometheusSink {
        let page = Some(Arc::new(Page::new(listen)));
        let (listen, prefix) = (listen.to_string(), prefix.to_string());
        PrometheusSink { listen, prefix, page, number: 0, older: BTreeSet::new(), inputs: 0 }
    }

    /// Where it listens, once it does.
    #[must_use]
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.page.as_ref().and_then(|page| page.address())
    }
}

impl Writer for PrometheusSink {
    fn page(&self) -> Option<Weak<sink::Page>> {
        let page = Arc::downgrade(self.page.as_ref()?);
        Some(page)
    }

    fn takes_over(&mut self, page: Arc<sink::Page>, inputs: u16) {
        let page = page.downcast::<Page>().ok().filter(|page| page.is_at(&self.listen));
        if page.is_some() {
            (self.page, self.older, self.inputs) = (page, (0..inputs).collect(), inputs);
        }
    }

    fn open(&mut self) -> Result<Resume, SinkError> {
        let page = self.page.get_or_insert_with(|| Arc::new(Page::new(&self.listen)));
        let (number, has_rows) = page.open(&self.prefix)?;
        self.number = number;
        // What another one has shown is void once the new rows are complete: a reset says so.
        Ok(Resume { has_rows, ..Resume::default() })
    }

    fn is_lasting(&self) -> bool {
        false
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let Some(page) = &self.page else { return Ok(()) };
        let mut shown = page.lock();
        if shown.writer != self.number {
            // Nobody sees what it would say.
            return Ok(());
        }
        for element in batch {
            shown.held.apply(element)?;
            *safe += 1;
            let was_older = element.op == Op::Progress && self.older.remove(&element.output.input);
            if was_older && self.older.is_empty() {
                shown.held.keep_first(self.inputs);
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.page = None;
    }
}
