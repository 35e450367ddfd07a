//! Whole rows of an exchange within their window: a row goes out when its pane expires.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use differential_dataflow::consolidation::consolidate;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use weir_types::PackedRow;
use weir_types::plan::SlidingWindow;
use weir_types::split::Change;

use super::publish::{Held, Publish, Publisher};
use super::tick::{Emit, TickLogic, tick_operator};
use super::{RowStream, route};
use crate::query::{Env, OpError, QueryShared, tick_unix_ns};

pub(super) fn row_window<'s>(
    env: &Rc<Env>,
    stream: Stream<'s, u64, Vec<Change>>,
    sliding: Option<SlidingWindow>,
    publisher: Option<Rc<Publisher>>,
) -> RowStream<'s> {
    let logic =
        RowWindow { query: Arc::clone(&env.query), sliding, panes: BTreeMap::new(), bytes: 0 };
    let (exchange, name) = (Exchange::new(change_route), "RowWindow");
    match publisher {
        None => tick_operator(env, stream, exchange, name, logic),
        Some(publisher) => tick_operator(env, stream, exchange, name, Publish { logic, publisher }),
    }
}

/// Equal rows and equal group keys meet on one worker.
pub(super) fn change_route(change: &Change) -> u64 {
    match change {
        Change::Row { row, .. } => route(&row.0),
        Change::Partial { key, .. } => route(&key.0),
    }
}

/// The first refresh at which `pane` has left the window.
pub(super) fn expiry_tick(query: &QueryShared, sliding: SlidingWindow, pane: i64) -> u64 {
    let end_ns = pane.saturating_add(1).saturating_mul(sliding.pane_ns);
    query.refresh_from_ns(end_ns.saturating_add(sliding.window_ns))
}

#[derive(Default)]
struct Pane {
    rows: Vec<(PackedRow, i64)>,
    /// Length after the last consolidation.
    consolidated: usize,
}

struct RowWindow {
    query: Arc<QueryShared>,
    sliding: Option<SlidingWindow>,
    panes: BTreeMap<i64, Pane>,
    bytes: usize,
}

const ROW_BYTES: usize = 32;

fn bytes_of(rows: &[(PackedRow, i64)]) -> usize {
    rows.iter().map(|(row, _)| ROW_BYTES + row.0.len()).sum()
}

impl RowWindow {
    fn keep(&mut self, pane: i64, row: &PackedRow, diff: i64) {
        let pane = self.panes.entry(pane).or_default();
        self.bytes += ROW_BYTES + row.0.len();
        pane.rows.push((row.clone(), diff));
        // Rows that were taken back, or are there many times, must not pile up.
        if pane.rows.len() > 1024 && pane.rows.len() > 2 * pane.consolidated {
            self.bytes -= bytes_of(&pane.rows);
            consolidate(&mut pane.rows);
            self.bytes += bytes_of(&pane.rows);
            pane.consolidated = pane.rows.len();
        }
    }

    fn expire(&mut self, first: i64, emit: &mut Emit) {
        while let Some(entry) = self.panes.first_entry().filter(|entry| *entry.key() < first) {
            let rows = entry.remove().rows;
            self.bytes -= bytes_of(&rows);
            rows.into_iter().for_each(|(row, diff)| emit.row(row, -diff));
        }
    }
}

impl Held for RowWindow {
    /// Of a window that slides: rows that never expire are not kept, nobody may come late to them.
    fn held(&self) -> Vec<(PackedRow, i64)> {
        let mut rows: Vec<_> = self.panes.values().flat_map(|pane| pane.rows.clone()).collect();
        consolidate(&mut rows);
        rows
    }
}

impl TickLogic for RowWindow {
    type Item = Change;

    fn run(&mut self, tick_ms: u64, input: Vec<Change>, emit: &mut Emit) -> Result<(), OpError> {
        let first = self.sliding.map(|sliding| sliding.first_pane_at(tick_unix_ns(tick_ms)));
        if let Some(first) = first {
            self.expire(first, emit);
        }
        for change in input {
            let Change::Row { row, pane, diff } = change else {
                return Err(OpError::Row("RowWindow: a partial on an exchange of rows"));
            };
            match first {
                Some(first) if pane < first => {
                    self.query.late_rows.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Some(_) => self.keep(pane, &row, diff),
                None => {}
            }
            emit.row(row, diff);
        }
        Ok(())
    }

    fn due(&self) -> Option<u64> {
        let (&pane, _) = self.panes.first_key_value()?;
        self.sliding.map(|sliding| expiry_tick(&self.query, sliding, pane))
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }
}
