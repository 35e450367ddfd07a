//! An aggregate over rows that come and go (after a join, a limit, another aggregate).

use std::collections::BTreeMap;
use std::rc::Rc;

use differential_dataflow::consolidation::consolidate;
use timely::dataflow::channels::pact::Exchange;
use weir_types::PackedRow;
use weir_types::acc::Acc;
use weir_types::batch::{BATCH_ROWS_MAX, unpack_rows};
use weir_types::row::RowReader;
use weir_types::value::DataType;

use super::pane_window::{emit_change, finish, owns_ungrouped};
use super::tick::{Emit, TickLogic, tick_operator};
use super::{RowStream, route};
use crate::prepare::AggSpec;
use crate::query::{Env, OpError};

pub(super) fn aggregate<'s>(env: &Rc<Env>, stream: RowStream<'s>, spec: &AggSpec) -> RowStream<'s> {
    let mut logic = Aggregate {
        spec: spec.clone(),
        groups: BTreeMap::new(),
        dirty: Vec::new(),
        bytes: 0,
        start_tick_ms: env.query.start_tick_ms(),
    };
    if owns_ungrouped(env, spec) {
        logic.mark(Vec::new());
    }
    let (types, group) = (spec.types.clone(), spec.group.clone());
    let exchange = Exchange::new(move |(row, _, _): &(PackedRow, u64, i64)| {
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

const GROUP_BYTES: usize = 112;

struct Aggregate {
    spec: AggSpec,
    groups: BTreeMap<Vec<u8>, Group>,
    dirty: Vec<Vec<u8>>,
    bytes: usize,
    start_tick_ms: u64,
}

impl Aggregate {
    /// The group of a key, made if need be and marked as changed.
    fn mark(&mut self, key: Vec<u8>) -> &mut Group {
        let spec = &self.spec;
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group {
            rows: 0,
            accs: spec.aggs.iter().map(weir_functions::aggregate::AggFn::zero).collect(),
            told: None,
            is_dirty: false,
            bytes: 0,
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
        }
        Ok(())
    }

    fn tell(&mut self, emit: &mut Emit) {
        for key in std::mem::take(&mut self.dirty) {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            group.is_dirty = false;
            let exists = group.rows > 0 || self.spec.group.is_empty();
            let new = exists.then(|| finish(&self.spec, group.accs.iter()));
            emit_change(&key, group.told.as_deref(), new.as_deref(), emit);
            group.told = new;
            self.bytes -= group.bytes;
            if group.rows == 0 && group.told.is_none() {
                self.groups.remove(&key);
                continue;
            }
            group.bytes = GROUP_BYTES
                + 2 * key.len()
                + group.accs.iter().map(Acc::state_bytes).sum::<usize>()
                + group.told.as_ref().map_or(0, |told| told.len());
            self.bytes += group.bytes;
        }
    }
}

impl TickLogic for Aggregate {
    type Item = (PackedRow, i64);

    fn run(
        &mut self,
        _tick_ms: u64,
        mut input: Vec<(PackedRow, i64)>,
        emit: &mut Emit,
    ) -> Result<(), OpError> {
        consolidate(&mut input);
        for part in input.chunks(BATCH_ROWS_MAX) {
            self.apply(part)?;
        }
        self.tell(emit);
        Ok(())
    }

    fn due(&self) -> Option<u64> {
        (!self.dirty.is_empty()).then_some(self.start_tick_ms)
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }
}
