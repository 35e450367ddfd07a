//! An aggregate over rows that come and go (after a join, a limit, another aggregate).

use std::collections::BTreeMap;
use std::rc::Rc;

use weir_types::PackedRow;
use weir_types::acc::Acc;
use weir_types::batch::unpack_rows;
use weir_types::row::RowReader;
use weir_types::value::DataType;

use super::between::between;
use super::pane_window::{FINISH_WALKS, emit_change, finish, owns_ungrouped};
use super::runs::{Runs, Waiting};
use super::tick::{Emit, Progress, TickLogic, tick_operator};
use super::{RowStream, route};
use crate::budget::Fuel;
use crate::prepare::AggSpec;
use crate::query::{Env, OpError};
use crate::weigh::Weigh;

pub(super) fn aggregate<'s>(env: &Rc<Env>, stream: RowStream<'s>, spec: &AggSpec) -> RowStream<'s> {
    let mut logic = Aggregate {
        spec: spec.clone(),
        groups: BTreeMap::new(),
        dirty: Vec::new(),
        bytes: 0,
        unmeasured: 0,
        start_tick_ms: env.query.start_tick_ms(),
    };
    if owns_ungrouped(env, spec) {
        logic.mark(Vec::new());
    }
    let (types, group) = (spec.types.clone(), spec.group.clone());
    let exchange = between(env, move |(row, _, _): &(PackedRow, u64, i64)| {
        route(&pick(row, &types, &group).unwrap_or_default())
    });
    tick_operator(env, stream, exchange, "Aggregate", logic)
}

/// The chosen columns of a packed row, packed. `None` if the row does not fit.
pub(super) fn pick(row: &PackedRow, types: &[DataType], columns: &[usize]) -> Option<Vec<u8>> {
    let Some(&last) = columns.iter().max() else { return Some(Vec::new()) };
    let mut reader = RowReader::new(&row.0);
    let raw: Option<Vec<&[u8]>> = types[..=last].iter().map(|&ty| reader.next_raw(ty)).collect();
    let raw = raw?;
    let mut out = Vec::with_capacity(columns.iter().map(|&idx| raw[idx].len()).sum());
    columns.iter().for_each(|&idx| out.extend_from_slice(raw[idx]));
    Some(out)
}

struct Group {
    rows: i64,
    accs: Box<[Acc]>,
    told: Option<Box<[u8]>>,
    is_dirty: bool,
    /// As counted in the state.
    bytes: usize,
}

/// A group beside its key, accumulators and results, with the allocator's share.
pub(crate) const GROUP_BYTES: usize = 192;

struct Aggregate {
    spec: AggSpec,
    groups: BTreeMap<Vec<u8>, Group>,
    dirty: Vec<Vec<u8>>,
    bytes: usize,
    /// What was added to groups since they were told.
    unmeasured: usize,
    start_tick_ms: u64,
}

impl Aggregate {
    /// The group of a key, made if need be and marked as changed.
    fn mark(&mut self, key: Vec<u8>) -> &mut Group {
        let spec = &self.spec;
        let bytes = &mut self.bytes;
        let group = self.groups.entry(key.clone()).or_insert_with(|| {
            let accs = spec.aggs.iter().map(weir_functions::aggregate::AggFn::zero).collect();
            let group = Group {
                rows: 0,
                accs,
                told: None,
                is_dirty: false,
                bytes: GROUP_BYTES + key.len(),
            };
            *bytes += group.bytes;
            group
        });
        if !group.is_dirty {
            group.is_dirty = true;
            self.dirty.push(key);
        }
        group
    }

    fn apply(&mut self, changes: &[(PackedRow, i64)]) -> Result<(), OpError> {
        let rows = changes.iter().map(|(row, _)| row);
        let batch = unpack_rows(&self.spec.input, rows).ok_or(OpError::Row("Aggregate"))?;
        let aggs = self.spec.aggs.clone();
        let bound: Vec<_> = aggs.iter().map(|agg| agg.bind(&batch)).collect();
        for (idx, (row, diff)) in changes.iter().enumerate() {
            let key = pick(row, &self.spec.types, &self.spec.group);
            let group = self.mark(key.ok_or(OpError::Row("Aggregate"))?);
            group.rows += diff;
            for (bound, acc) in bound.iter().zip(&mut group.accs) {
                bound.add(acc, idx, *diff);
            }
            // At most so much: accumulators keep what they were given. Measured when the group is told.
            self.unmeasured += row.heap_bytes();
        }
        Ok(())
    }

    /// Tells a slice of the groups that changed. True: there are no more.
    fn tell(&mut self, emit: &mut Emit, fuel: &mut Fuel) -> bool {
        while !fuel.is_empty() {
            let Some(key) = self.dirty.pop() else { break };
            let Some(group) = self.groups.get_mut(&key) else { continue };
            group.is_dirty = false;
            let exists = group.rows > 0 || self.spec.group.is_empty();
            let new = exists.then(|| finish(&self.spec, group.accs.iter()));
            emit_change(&key, group.told.as_deref(), new.as_deref(), emit);
            let walk_bytes: usize = group.accs.iter().map(Acc::walk_bytes).sum();
            let told_bytes = key.len() + new.as_ref().map_or(0, |new| new.len());
            fuel.burn(2 * told_bytes + FINISH_WALKS * walk_bytes);
            group.told = new;
            self.bytes -= group.bytes;
            if group.rows == 0 && group.told.is_none() {
                self.groups.remove(&key);
                continue;
            }
            group.bytes = GROUP_BYTES
                + key.len()
                + group.accs.iter().map(Acc::state_bytes).sum::<usize>()
                + group.told.as_ref().map_or(0, |told| told.len());
            self.bytes += group.bytes;
        }
        self.dirty.is_empty()
    }
}

impl TickLogic for Aggregate {
    type Waiting = Runs<PackedRow>;

    fn work(
        &mut self,
        _tick_ms: u64,
        input: &mut Runs<PackedRow>,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        let mut part = Vec::new();
        while !fuel.is_empty() {
            let Some(change) = input.pop() else { break };
            fuel.burn(change.0.0.len());
            part.push(change);
        }
        if !part.is_empty() {
            self.apply(&part)?;
        }
        if fuel.is_empty() || !self.tell(emit, fuel) {
            return Ok(Progress::More);
        }
        self.unmeasured = 0;
        Ok(Progress::Done)
    }

    fn due(&self) -> Option<u64> {
        (!self.dirty.is_empty()).then_some(self.start_tick_ms)
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.unmeasured
    }

    fn give_up(self) -> Box<dyn Send> {
        Box::new((self.groups, self.dirty))
    }
}
