//! Whole rows of an exchange within their window: a row goes out when its pane expires.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Stream;
use weir_types::PackedRow;
use weir_types::plan::SlidingWindow;
use weir_types::split::Change;

use super::RowStream;
use super::between::between;
use super::publish::{Held, Publish, Publisher, Walk};
use super::runs::{Queue, Waiting};
use super::tick::{Emit, Progress, TickLogic, tick_operator};
use super::window::{Window, change_route};
use crate::budget::Fuel;
use crate::query::{Env, OpError};
use crate::weigh;

pub(super) fn row_window<'s>(
    env: &Rc<Env>,
    stream: Stream<'s, u64, Vec<Change>>,
    sliding: Option<SlidingWindow>,
    publisher: Option<Rc<Publisher>>,
) -> RowStream<'s> {
    let logic = RowWindow {
        window: Window { query: Arc::clone(&env.query), sliding },
        panes: BTreeMap::new(),
        bytes: 0,
    };
    let (exchange, name) = (between(env, change_route), "RowWindow");
    match publisher {
        None => tick_operator(env, stream, exchange, name, logic),
        Some(publisher) => tick_operator(env, stream, exchange, name, Publish { logic, publisher }),
    }
}

struct RowWindow {
    window: Window,
    /// Rows that were taken back, or are there many times, do not pile up.
    panes: BTreeMap<i64, BTreeMap<PackedRow, i64>>,
    bytes: usize,
}

fn entry_bytes(row: &PackedRow) -> usize {
    weigh::map_entry(row, size_of::<i64>())
}

impl RowWindow {
    fn keep(&mut self, pane: i64, row: &PackedRow, diff: i64) {
        let rows = self.panes.entry(pane).or_default();
        if let Some(count) = rows.get_mut(row) {
            *count += diff;
            if *count == 0 {
                rows.remove(row);
                self.bytes -= entry_bytes(row);
            }
        } else {
            // A copy has no room to spare.
            let row = row.clone();
            self.bytes += entry_bytes(&row);
            rows.insert(row, diff);
        }
    }

    /// A slice of the rows that have left the window. True: there are no more.
    fn expire(&mut self, first: i64, emit: &mut Emit, fuel: &mut Fuel) -> bool {
        while let Some(mut pane) = self.panes.first_entry().filter(|entry| *entry.key() < first) {
            while let Some((row, diff)) = pane.get_mut().pop_first() {
                if fuel.is_empty() {
                    pane.get_mut().insert(row, diff);
                    return false;
                }
                fuel.burn(row.0.len());
                self.bytes -= entry_bytes(&row);
                emit.row(row, -diff);
            }
            pane.remove();
        }
        true
    }
}

impl Held for RowWindow {
    /// Of a window that slides: rows that never expire are not kept, nobody may come late to them.
    fn held(&self, walk: &mut Walk, fuel: &mut Fuel, rows: &mut Vec<(PackedRow, i64)>) -> bool {
        let from = walk.row.is_some().then_some(walk.pane);
        for (&pane, kept) in self.panes.range(from.unwrap_or(i64::MIN)..) {
            let after = walk.row.take().map_or(Bound::Unbounded, Bound::Excluded);
            for (row, diff) in kept.range((after, Bound::Unbounded)) {
                fuel.burn(row.0.len());
                rows.push((row.clone(), *diff));
                if fuel.is_empty() {
                    (walk.pane, walk.row) = (pane, Some(row.clone()));
                    return false;
                }
            }
        }
        true
    }
}

impl TickLogic for RowWindow {
    type Waiting = Queue<Change>;

    fn work(
        &mut self,
        tick_ms: u64,
        input: &mut Queue<Change>,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        let first = self.window.first_pane(tick_ms);
        if let Some(first) = first
            && !self.expire(first, emit, fuel)
        {
            return Ok(Progress::More);
        }
        while !fuel.is_empty() {
            let Some(change) = input.pop() else { return Ok(Progress::Done) };
            let Change::Row { row, pane, diff } = change else {
                return Err(OpError::Row("RowWindow: a partial on an exchange of rows"));
            };
            fuel.burn(row.0.len());
            if self.window.is_late(first, pane, diff) {
                continue;
            }
            if first.is_some() {
                self.keep(pane, &row, diff);
            }
            emit.row(row, diff);
        }
        Ok(Progress::More)
    }

    fn due(&self) -> Option<u64> {
        let (&pane, _) = self.panes.first_key_value()?;
        self.window.expiry_tick(pane)
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn give_up(self) -> Box<dyn Send> {
        Box::new(self.panes)
    }
}
