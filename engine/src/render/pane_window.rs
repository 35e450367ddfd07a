//! Partial accumulators into the finished groups of a sliding window.
//!
//! A group keeps its accumulators per pane and their total. A new pane is merged into the total, an
//! expired one is taken from it; accumulators that only merge (min, max, any) are recombined from
//! the panes that are left, if the expired one could have decided them. Only groups that changed are
//! finished anew. A group with a single pane has no total of its own: with a time bucket in the key
//! that is nearly every group.
//!
//! How many groups there may be, and what becomes of rows of others, `bounded` says. Such rows go on to a
//! second window of the same kind, which has the groups of overflow of all workers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::operators::Concat;
use timely::dataflow::{Scope, Stream};
use weir_types::PackedRow;
use weir_types::acc::Acc;
use weir_types::plan::SlidingWindow;
use weir_types::row::push_value;
use weir_types::split::{Change, ExchangeId};
use weir_types::value::DataType;

use super::between::{Between, between};
use super::bounded::Bounded;
use super::overflow::{Naming, Places, Pressure, Verdict, pressure};
use super::pane_group::{GROUP_BYTES, Group, Part};
use super::partial::ONLY_PANE;
use super::publish::{Held, Publish, Publisher, Walk};
use super::runs::{Queue, Waiting};
use super::slots::Slots;
use super::tick::{Emit, Progress, TickLogic, tick_operator};
use super::window::{Window, change_route};
use super::{RowStream, route, source};
use crate::budget::Fuel;
use crate::prepare::AggSpec;
use crate::query::{Env, OpError};

/// The window of an exchange of partials. `publisher`: asked for one for each window that there is.
pub(super) fn pane_window<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
    stream: Stream<'s, u64, Vec<Change>>,
    (exchange, spec): (ExchangeId, &AggSpec),
    sliding: Option<SlidingWindow>,
    mut publisher: impl FnMut() -> Option<Rc<Publisher>>,
) -> RowStream<'s> {
    let window = |bounded| PaneWindow::new(env, spec, sliding, bounded);
    if spec.group.is_empty() {
        let mut logic = window(None);
        if owns_ungrouped(env, spec) {
            logic.group(PackedRow::default());
        }
        return run(env, stream, between(env, change_route), logic, publisher());
    }
    let types: Vec<DataType> = spec.group.iter().map(|&idx| spec.types[idx]).collect();
    let (spilled, handle) = source::spilled(scope, env);
    let places = Places::of_groups(env.limits());
    let to_shard = move |change: &Change| match change {
        Change::Partial { key, .. } => places.shard(&key.0),
        Change::Row { .. } => 0,
    };
    let naming = Naming::with_times(types.clone());
    let groups = window(Some(Bounded::spilling(places, naming, handle)));
    let groups = run(env, stream, between(env, to_shard), groups, publisher());
    // Workers refuse for themselves; what they refused is one row.
    let last = Bounded::last(Places::of_times(env.limits()), Naming::of_all(types), exchange);
    let rest = run(env, spilled, between(env, |_: &Change| 0), window(Some(last)), publisher());
    groups.concat(rest)
}

fn run<'s, F: FnMut(&Change) -> u64 + 'static>(
    env: &Rc<Env>,
    stream: Stream<'s, u64, Vec<Change>>,
    exchange: Between<F>,
    logic: PaneWindow,
    publisher: Option<Rc<Publisher>>,
) -> RowStream<'s> {
    let name = "PaneWindow";
    match publisher {
        None => tick_operator(env, stream, exchange, name, logic),
        Some(publisher) => tick_operator(env, stream, exchange, name, Publish { logic, publisher }),
    }
}

/// Without group columns there is always one row: one worker tells it.
pub(super) fn owns_ungrouped(env: &Env, spec: &AggSpec) -> bool {
    spec.group.is_empty() && route(&[]) % env.peers as u64 == env.worker as u64
}

/// A result is made of all that an accumulator keeps, which takes so many times longer than walking through it.
pub(super) const FINISH_WALKS: usize = 16;

/// The results of an aggregate, packed.
pub(super) fn finish<'a>(spec: &AggSpec, accs: impl Iterator<Item = &'a Acc>) -> Box<[u8]> {
    let mut out = Vec::with_capacity(spec.aggs.len() * 9);
    for (agg, acc) in spec.aggs.iter().zip(accs) {
        push_value(&mut out, &agg.finish(acc));
    }
    out.into()
}

/// Tells that a group's results were `old` and are `new`.
pub(super) fn emit_change(key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>, emit: &mut Emit) {
    if old == new {
        return;
    }
    let row = |results: &[u8]| PackedRow([key, results].concat());
    if let Some(old) = old {
        emit.row(row(old), -1);
    }
    if let Some(new) = new {
        emit.row(row(new), 1);
    }
}

struct PaneWindow {
    env: Rc<Env>,
    window: Window,
    spec: AggSpec,
    groups: Slots<Group>,
    /// Which groups have a part in a pane.
    by_pane: BTreeMap<i64, Vec<u32>>,
    dirty: Vec<u32>,
    bytes: usize,
    /// With groups: how many there may be, and what becomes of the rest.
    bounded: Option<Bounded>,
    pressure: Pressure,
}

impl PaneWindow {
    fn new(
        env: &Rc<Env>,
        spec: &AggSpec,
        sliding: Option<SlidingWindow>,
        bounded: Option<Bounded>,
    ) -> PaneWindow {
        PaneWindow {
            env: Rc::clone(env),
            window: Window { query: Arc::clone(&env.query), sliding },
            spec: spec.clone(),
            groups: Slots::default(),
            by_pane: BTreeMap::new(),
            dirty: Vec::new(),
            bytes: 0,
            bounded,
            pressure: Pressure::None,
        }
    }

    /// The slot of a group, made if need be and marked as changed.
    fn group(&mut self, key: PackedRow) -> u32 {
        let key_bytes = key.0.len();
        let (slot, is_new) = self.groups.find_or_insert(key, Group::new);
        if is_new {
            self.bytes += GROUP_BYTES + key_bytes;
        }
        self.mark(slot);
        slot
    }

    fn mark(&mut self, slot: u32) {
        let group = self.groups.get_mut(slot);
        if !group.is_dirty {
            group.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// A slice of the parts that have left the window. True: there are no more.
    fn expire(&mut self, first: i64, fuel: &mut Fuel) -> bool {
        while let Some(mut pane) = self.by_pane.first_entry().filter(|entry| *entry.key() < first) {
            if fuel.is_empty() {
                return false;
            }
            let slot = pane.get_mut().pop();
            if pane.get().is_empty() {
                pane.remove();
            }
            let Some(slot) = slot else { continue };
            let group = self.groups.get_mut(slot);
            fuel.burn(group.walk_bytes());
            let rows = group.expire_front(&self.spec, &mut self.bytes);
            if let Some(bounded) = &mut self.bounded {
                bounded.left(&group.key.0, rows, group.panes.is_empty());
            }
            self.mark(slot);
        }
        true
    }

    /// Takes in a part of a group that is held, or may be.
    fn add(
        &mut self,
        key: PackedRow,
        pane: i64,
        part: Part,
        fuel: &mut Fuel,
    ) -> Result<(), OpError> {
        if self.bounded.is_none() {
            self.put(key, pane, part, fuel);
            return Ok(());
        }
        let found = self.groups.find(&key.0);
        let group = found.map(|slot| self.groups.get(slot));
        if let (Some(slot), Some(group)) = (found, group.filter(|group| !group.panes.is_empty())) {
            if self.pressure < Pressure::Brim || group.has(pane) {
                self.put_at(slot, pane, part, fuel);
                return Ok(());
            }
            return self.refuse(&key, pane, part, fuel);
        }
        let Some(bounded) = &mut self.bounded else { return Ok(()) };
        if bounded.is_name(&key.0) {
            let rows = bounded.lost_by_name(part.rows);
            return self.refuse(&key, pane, Part { rows, ..part }, fuel);
        }
        match bounded.ask(key, pane, part) {
            (key, Verdict::Admitted((pane, part))) => self.put(key, pane, part, fuel),
            (_, Verdict::Waits) => fuel.burn(0),
            (_, Verdict::Refused(gone)) => {
                for (key, (pane, part)) in gone {
                    self.refuse(&key, pane, part, fuel)?;
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, key: PackedRow, pane: i64, part: Part, fuel: &mut Fuel) {
        let slot = self.group(key);
        self.put_at(slot, pane, part, fuel);
    }

    fn put_at(&mut self, slot: u32, pane: i64, part: Part, fuel: &mut Fuel) {
        self.mark(slot);
        let group = self.groups.get_mut(slot);
        if let Some(bounded) = &mut self.bounded {
            bounded.came(&group.key.0, part.rows, group.panes.is_empty());
        }
        if group.add(pane, part, &mut self.bytes) {
            self.by_pane.entry(pane).or_default().push(slot);
        }
        fuel.burn(group.key.0.len() + group.walk_bytes());
    }

    /// A part that finds no group of its own is counted as overflow.
    fn refuse(
        &mut self,
        key: &PackedRow,
        pane: i64,
        part: Part,
        fuel: &mut Fuel,
    ) -> Result<(), OpError> {
        let Some(bounded) = &mut self.bounded else { return Ok(()) };
        fuel.burn(key.0.len() + part.walk_bytes());
        if let Some((name, part)) = bounded.refuse(key, pane, part)? {
            self.put(name, pane, part, fuel);
        }
        Ok(())
    }

    /// A slice of those who came in this tick and have found a place. True: there are no more.
    fn admit(&mut self, fuel: &mut Fuel) -> bool {
        while let Some(bounded) = &mut self.bounded {
            if fuel.is_empty() {
                return false;
            }
            let Some((key, parts)) = bounded.next() else { return true };
            for (pane, part) in parts {
                self.put(key.clone(), pane, part, fuel);
            }
        }
        true
    }

    /// Tells a slice of the groups that changed. True: there are no more.
    fn tell(&mut self, emit: &mut Emit, fuel: &mut Fuel) -> bool {
        while !fuel.is_empty() {
            let Some(slot) = self.dirty.pop() else { return true };
            let group = self.groups.get_mut(slot);
            group.is_dirty = false;
            let zero = || self.spec.aggs.iter().map(weir_functions::aggregate::AggFn::zero);
            let new = match group.whole() {
                Some(whole) => Some(finish(&self.spec, whole.accs.iter())),
                None if self.spec.group.is_empty() => {
                    Some(finish(&self.spec, zero().collect::<Vec<_>>().iter()))
                }
                None => None,
            };
            emit_change(&group.key.0, group.told.as_deref(), new.as_deref(), emit);
            let len = |results: &Option<Box<[u8]>>| results.as_ref().map_or(0, |r| r.len());
            fuel.burn(2 * (group.key.0.len() + len(&new)) + FINISH_WALKS * group.walk_bytes());
            self.bytes = self.bytes + len(&new) - len(&group.told);
            group.told = new;
            if group.told.is_none() {
                self.bytes -= GROUP_BYTES + group.key.0.len();
                self.groups.remove(slot);
            }
        }
        self.dirty.is_empty()
    }
}

impl Held for PaneWindow {
    fn held(&self, walk: &mut Walk, fuel: &mut Fuel, rows: &mut Vec<(PackedRow, i64)>) -> bool {
        for (slot, group) in self.groups.from(walk.slot) {
            if fuel.is_empty() {
                return false;
            }
            walk.slot = slot + 1;
            let Some(group) = group else { continue };
            let Some(told) = group.told.as_deref() else { continue };
            fuel.burn(group.key.0.len() + told.len());
            rows.push((PackedRow([&*group.key.0, told].concat()), 1));
        }
        true
    }
}

impl TickLogic for PaneWindow {
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
            && !self.expire(first, fuel)
        {
            return Ok(Progress::More);
        }
        if let Some(bounded) = &mut self.bounded {
            self.pressure = pressure(&self.env.query, &self.env.engine);
            bounded.begin(tick_ms, input.len(), self.pressure);
        }
        loop {
            if fuel.is_empty() {
                return Ok(Progress::More);
            }
            let Some(change) = input.pop() else { break };
            let Change::Partial { key, pane, rows, accs } = change else {
                return Err(OpError::Row("PaneWindow: a row on an exchange of partials"));
            };
            if accs.len() != self.spec.aggs.len() {
                return Err(OpError::Row("PaneWindow: other aggregates than the plan's"));
            }
            if self.window.is_late(first, pane, rows) {
                fuel.burn(0);
                continue;
            }
            let pane = if first.is_some() { pane } else { ONLY_PANE };
            self.add(key, pane, Part { rows, accs: accs.into() }, fuel)?;
        }
        if !self.admit(fuel) {
            return Ok(Progress::More);
        }
        if let Some(bounded) = &mut self.bounded {
            bounded.flush(&self.env, tick_ms);
        }
        Ok(Progress::done(self.tell(emit, fuel)))
    }

    fn advanced(&mut self, tick_ms: Option<u64>) {
        if let (Some(bounded), Some(tick_ms)) = (&self.bounded, tick_ms) {
            bounded.open(tick_ms);
        }
    }

    fn due(&self) -> Option<u64> {
        if !self.dirty.is_empty() {
            return Some(self.window.query.start_tick_ms());
        }
        let (&pane, _) = self.by_pane.first_key_value()?;
        self.window.expiry_tick(pane)
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.bounded.as_ref().map_or(0, Bounded::bytes)
    }

    fn give_up(self) -> Box<dyn Send> {
        let bounded = self.bounded.map(Bounded::give_up);
        Box::new((self.groups, self.by_pane, bounded))
    }
}
