//! A view as gauges that Prometheus scrapes: one series a row and number, labelled by the row's key. Values
//! have no timestamps; a row that is gone is gone with the next scrape. After a reset the old rows are shown
//! until the new ones are complete.

mod serve;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_types::PackedRow;

use crate::delivery::OutputInfo;
use crate::element::{Body, Described, Element, Op};
use crate::sink::{Resume, SinkError, Writer};

use self::serve::Server;

/// What it holds of all its views: more is refused and counted.
const ROWS_BYTES_MAX: u64 = 64 << 20;
const ROW_OVERHEAD_BYTES: u64 = 160;

/// The rows of one output.
struct Shown {
    output: Arc<Described>,
    rows: BTreeMap<PackedRow, PackedRow>,
    /// After a reset: what will be shown once its tick is complete.
    next: Option<BTreeMap<PackedRow, PackedRow>>,
}

#[derive(Default)]
struct State {
    shown: BTreeMap<u16, Shown>,
    bytes: u64,
}

pub struct PrometheusSink {
    listen: String,
    prefix: String,
    state: Arc<Mutex<State>>,
    server: Option<Server>,
}

/// # Errors
/// Two columns meet in one name, or there is nothing to show.
pub fn judge(info: &OutputInfo) -> Result<(), SinkError> {
    text::columns_of(info).map(|_| ()).map_err(SinkError::Refused)
}

impl PrometheusSink {
    #[must_use]
    pub fn new(listen: &str, prefix: &str) -> PrometheusSink {
        let (listen, prefix) = (listen.to_string(), prefix.to_string());
        PrometheusSink { listen, prefix, state: Arc::default(), server: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens, once it does.
    #[must_use]
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(Server::address)
    }
}

fn bytes_of(key: &PackedRow, row: &PackedRow) -> u64 {
    (key.0.len() + row.0.len()) as u64 + ROW_OVERHEAD_BYTES
}

impl State {
    fn apply(&mut self, element: &Element) -> Result<(), SinkError> {
        let input = element.output.input;
        let shown = self.shown.entry(input).or_insert_with(|| Shown {
            output: Arc::clone(&element.output),
            rows: BTreeMap::new(),
            next: None,
        });
        if !Arc::ptr_eq(&shown.output, &element.output) {
            judge(&element.output.info)?;
            shown.output = Arc::clone(&element.output);
        }
        let bytes = &mut self.bytes;
        let of = |rows: &BTreeMap<PackedRow, PackedRow>| -> u64 {
            rows.iter().map(|(key, row)| bytes_of(key, row)).sum()
        };
        match (element.op, &element.body) {
            (Op::Reset, _) => {
                if let Some(before) = shown.next.replace(BTreeMap::new()) {
                    *bytes = bytes.saturating_sub(of(&before));
                }
            }
            (Op::Progress, _) => {
                if let Some(next) = shown.next.take() {
                    *bytes = bytes.saturating_sub(of(&shown.rows));
                    shown.rows = next;
                }
            }
            (Op::Upsert, Body::Row(row)) => {
                let key = element.output.key_values(&element.body);
                let key = PackedRow::pack(&key);
                let cost = bytes_of(&key, row);
                let rows = shown.next.as_mut().unwrap_or(&mut shown.rows);
                let before = rows.get(&key).map_or(0, |before| bytes_of(&key, before));
                if *bytes + cost > ROWS_BYTES_MAX + before {
                    let text = format!("more than {ROWS_BYTES_MAX} bytes of rows to be scraped");
                    return Err(SinkError::Unfit(text));
                }
                *bytes = *bytes + cost - before;
                rows.insert(key, row.clone());
            }
            (Op::Delete, Body::Key(key)) => {
                let rows = shown.next.as_mut().unwrap_or(&mut shown.rows);
                if let Some(before) = rows.remove(key) {
                    *bytes = bytes.saturating_sub(bytes_of(key, &before));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Writer for PrometheusSink {
    fn open(&mut self) -> Result<Resume, SinkError> {
        let (state, prefix) = (Arc::clone(&self.state), self.prefix.clone());
        let text = move || {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            text::scrape(&prefix, state.shown.values())
        };
        self.server = Some(Server::start(&self.listen, text)?);
        Ok(Resume::default())
    }

    fn is_lasting(&self) -> bool {
        false
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let mut state = self.lock();
        for element in batch {
            state.apply(element)?;
            *safe += 1;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.server = None;
    }
}
