//! Whole rows of an exchange that a limit of n follows: the newest n of the window, as far as this worker has
//! them. What newer ones outdo is taken back here, at once and for good ([`super::newest`]): nodes do
//! not tell, since they do not keep it either.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Stream;
use weir_types::PackedRow;
use weir_types::split::Change;

use super::RowStream;
use super::between::between;
use super::newest::Floor;
use super::publish::{Held, Publish, Publisher, Walk};
use super::runs::{Queue, Runs, Waiting};
use super::tick::{Emit, Progress, TickLogic, tick_operator};
use super::window::{Window, change_route};
use crate::budget::Fuel;
use crate::prepare::{NewestSpec, ReceiveSpec};
use crate::query::{Env, OpError};
use crate::weigh;

pub(super) fn newest_window<'s>(
    env: &Rc<Env>,
    stream: Stream<'s, u64, Vec<Change>>,
    spec: &ReceiveSpec,
    newest: NewestSpec,
    publisher: Option<Rc<Publisher>>,
) -> RowStream<'s> {
    let logic = NewestWindow {
        window: Window { query: Arc::clone(&env.query), sliding: spec.sliding },
        spec: spec.clone(),
        newest,
        floor: Floor::new(newest.rows_max),
        rows: BTreeMap::new(),
        bytes: 0,
        current: None,
    };
    let (exchange, name) = (between(env, change_route), "NewestWindow");
    match publisher {
        None => tick_operator(env, stream, exchange, name, logic),
        Some(publisher) => tick_operator(env, stream, exchange, name, Publish { logic, publisher }),
    }
}

/// A row behind its event time.
type Rank = (i64, PackedRow);

struct NewestWindow {
    window: Window,
    spec: ReceiveSpec,
    newest: NewestSpec,
    floor: Floor,
    /// With how often each is there: all that have come and are neither outdone nor expired.
    rows: BTreeMap<Rank, i64>,
    bytes: usize,
    /// What came in the tick that is being worked on.
    current: Option<Arrived>,
}

#[derive(Default)]
struct Arrived {
    rows: Runs<Rank>,
    is_sealed: bool,
}

fn entry_bytes(row: &PackedRow) -> usize {
    weigh::map_entry(row, size_of::<(i64, i64)>())
}

impl NewestWindow {
    /// A slice of the rows that were there and no longer are: their panes have left the window, or newer
    /// ones outdo them. True: there are no more.
    fn drop_oldest(
        &mut self,
        emit: &mut Emit,
        fuel: &mut Fuel,
        stays: impl Fn(&Floor, i64) -> bool,
    ) -> bool {
        while let Some(oldest) = self.rows.first_entry()
            && !stays(&self.floor, oldest.key().0)
        {
            if fuel.is_empty() {
                return false;
            }
            let ((_, row), count) = oldest.remove_entry();
            fuel.burn(row.0.len());
            self.bytes -= entry_bytes(&row);
            emit.row(row, -count);
        }
        true
    }

    /// A row with its time, as it is passed on; counted if it is certain to reach the limit.
    fn arrived(&mut self, mut row: PackedRow, copies: i64) -> Option<Rank> {
        let time = row.i64_at(&self.spec.types, self.spec.time)?;
        // The last column is one byte.
        let is_certain = !self.newest.has_certain || row.0.pop()? != 0;
        if is_certain {
            self.floor.add(time, u64::try_from(copies).ok()?);
        }
        Some((time, row))
    }

    /// A slice of what came in a tick, without what is outdone already. True: that was all.
    fn take_in(
        &mut self,
        first: Option<i64>,
        input: &mut Queue<Change>,
        arrived: &mut Runs<Rank>,
        fuel: &mut Fuel,
    ) -> Result<bool, OpError> {
        while !fuel.is_empty() {
            let Some(change) = input.pop() else { return Ok(true) };
            let Change::Row { row, pane, diff } = change else {
                return Err(OpError::Row("NewestWindow: a partial on an exchange of rows"));
            };
            fuel.burn(row.0.len());
            if self.window.is_late(first, pane, diff) {
                continue;
            }
            if diff < 1 {
                return Err(OpError::Row("NewestWindow: a row that a node takes back"));
            }
            let rank = self.arrived(row, diff).ok_or(OpError::Row("NewestWindow"))?;
            if self.floor.admits(rank.0) {
                arrived.push((rank, diff));
            }
        }
        Ok(false)
    }

    /// A slice of what came and is not outdone by what came with it. True: there is no more.
    fn keep(&mut self, arrived: &mut Runs<Rank>, emit: &mut Emit, fuel: &mut Fuel) -> bool {
        while !fuel.is_empty() {
            let Some((rank, diff)) = arrived.pop() else { return true };
            fuel.burn(rank.1.0.len());
            if !self.floor.admits(rank.0) {
                continue;
            }
            emit.row(rank.1.clone(), diff);
            match self.rows.entry(rank) {
                btree_map::Entry::Occupied(mut have) => *have.get_mut() += diff,
                btree_map::Entry::Vacant(slot) => {
                    self.bytes += entry_bytes(&slot.key().1);
                    slot.insert(diff);
                }
            }
        }
        false
    }
}

impl Held for NewestWindow {
    fn held(&self, walk: &mut Walk, fuel: &mut Fuel, rows: &mut Vec<(PackedRow, i64)>) -> bool {
        let after = walk.row.take().map(|row| (walk.pane, row));
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        for ((time, row), count) in self.rows.range((from, Bound::Unbounded)) {
            fuel.burn(row.0.len());
            rows.push((row.clone(), *count));
            if fuel.is_empty() {
                // Here rows are in the order of time, finer than panes.
                (walk.pane, walk.row) = (*time, Some(row.clone()));
                return false;
            }
        }
        true
    }
}

impl TickLogic for NewestWindow {
    type Waiting = Queue<Change>;

    fn work(
        &mut self,
        tick_ms: u64,
        input: &mut Queue<Change>,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        let mut current = self.current.take().unwrap_or_default();
        let first = self.window.first_pane(tick_ms);
        let mut is_done = false;
        if !current.is_sealed {
            let first_ns = self.window.first_unix_ns(tick_ms);
            self.floor.expire(first_ns);
            if self.drop_oldest(emit, fuel, |_, time| time >= first_ns)
                && self.take_in(first, input, &mut current.rows, fuel)?
            {
                current.rows.seal();
                current.is_sealed = true;
            }
        }
        if current.is_sealed && self.drop_oldest(emit, fuel, Floor::admits) {
            is_done = self.keep(&mut current.rows, emit, fuel);
        }
        if !is_done {
            self.current = Some(current);
        }
        Ok(Progress::done(is_done))
    }

    fn due(&self) -> Option<u64> {
        let ((time, _), _) = self.rows.first_key_value()?;
        let sliding = self.window.sliding?;
        self.window.expiry_tick(sliding.pane_of(*time))
    }

    fn state_bytes(&self) -> usize {
        let arrived = self.current.as_ref().map_or(0, |arrived| arrived.rows.bytes());
        self.bytes + self.floor.state_bytes() + arrived
    }

    fn give_up(self) -> Box<dyn Send> {
        Box::new((self.rows, self.current.map(|arrived| arrived.rows)))
    }
}
