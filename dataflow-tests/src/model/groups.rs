//! Which rows have a group of their own where groups are bounded, from the words of
//! `docs/adr/0023-overflow.md`: all refreshes until now are gone through one after the other, each over all
//! rows that the window shows then. Of the engine it knows nothing but the name of the row of overflow.
//!
//! Bytes are not in it, and neither are shards: it judges aggregates whose groups are few.

use std::collections::{BTreeMap, BTreeSet};

use weir_types::plan::{EndBound, OpKind, Scan};
use weir_types::split::OVERFLOW_KEY;
use weir_types::{DataType, Expr, OpId, PackedRow, Plan, Value};

use super::{Evaluation, Input, ModelError, Row, World};

/// How many groups there may be, and when the view began.
#[derive(Clone, Copy, Debug)]
pub struct GroupBounds {
    pub groups_max: usize,
    pub refresh_ms: u64,
    pub start_ms: u64,
}

/// Rows of overflow by time.
const TIMES_MAX: usize = 1024;
const MS_NS: i64 = 1_000_000;

/// What the rows of an aggregate are counted under.
pub(super) struct Grouped {
    /// A row's key, in the order of the rows of the window.
    pub(super) rows: Vec<(Row, Row)>,
    /// How many found no group though their key is not itself one of overflow.
    pub(super) refused: usize,
}

/// Rows with the number of the table's row that each came from.
type Numbered = Vec<(usize, Row)>;

/// The rows of a chain of row-wise operators above a scan, or `None` if that is something else.
fn chain(plan: &Plan, id: OpId) -> Option<(&Scan, Vec<OpId>)> {
    let op = &plan.ops[id];
    match &op.kind {
        OpKind::Scan(scan) => Some((scan, vec![id])),
        OpKind::Filter { .. } | OpKind::Map { .. }
            if !op.kind.expressions().iter().any(Expr::reads_now) =>
        {
            let (scan, mut ids) = chain(plan, op.inputs[0])?;
            ids.push(id);
            Some((scan, ids))
        }
        _ => None,
    }
}

fn numbered(
    plan: &Plan,
    world: &World,
    ids: &[OpId],
    now_unix_ns: i64,
) -> Result<Numbered, ModelError> {
    let at = |id: OpId| Evaluation { id, op: &plan.ops[id], world, now_unix_ns };
    let OpKind::Scan(scan) = &plan.ops[ids[0]].kind else { return Ok(Numbered::new()) };
    let mut rows = at(ids[0]).numbered_scan(&scan.table, &scan.columns, &scan.window)?;
    for &id in &ids[1..] {
        let relation = &plan.ops[plan.ops[id].inputs[0]].relation;
        let mut kept = Numbered::new();
        for (number, row) in rows {
            let one = [row];
            let made = at(id).rows(&[Input { relation, rows: &one }])?;
            kept.extend(made.into_iter().map(|row| (number, row)));
        }
        rows = kept;
    }
    Ok(rows)
}

/// The key of overflow for a key.
fn name(key: &Row, keeps_times: bool) -> Row {
    let of_value = |value: &Value| match value {
        Value::String(_) => Value::str(OVERFLOW_KEY),
        Value::Int64(_) => Value::Int64(i64::MIN),
        Value::Float64(_) => Value::Float64(f64::NAN),
        Value::Uint128(_) => Value::Uint128(u128::MAX),
        Value::Boolean(_) => Value::Boolean(false),
        Value::Time64Ns(_) if keeps_times => value.clone(),
        Value::Time64Ns(_) => Value::Time64Ns(0),
    };
    key.iter().map(of_value).collect()
}

fn packed(key: &Row) -> PackedRow {
    PackedRow::pack(key)
}

/// A set of places and who has one.
#[derive(Default)]
struct Places {
    /// Rows that are counted in the group of their key.
    own: BTreeMap<usize, PackedRow>,
    /// The others.
    refused: BTreeSet<usize>,
}

impl Places {
    /// A refresh: rows that are gone leave, then keys are let in by their order.
    fn refresh(
        &mut self,
        shown: &[(usize, PackedRow)],
        max: usize,
        is_name: impl Fn(usize) -> bool,
    ) {
        let there: BTreeSet<usize> = shown.iter().map(|(number, _)| *number).collect();
        self.own.retain(|number, _| there.contains(number));
        self.refused.retain(|number| there.contains(number));
        let mut held: BTreeSet<PackedRow> = self.own.values().cloned().collect();
        let known = |number: &usize| self.own.contains_key(number) || self.refused.contains(number);
        let mut new: Vec<(PackedRow, usize)> = shown
            .iter()
            .filter(|(number, _)| !known(number))
            .map(|(number, key)| (key.clone(), *number))
            .collect();
        new.sort();
        for (key, number) in new {
            let has_place = !is_name(number) && (held.contains(&key) || held.len() < max);
            if has_place {
                held.insert(key.clone());
                self.own.insert(number, key);
            } else {
                self.refused.insert(number);
            }
        }
    }
}

/// The rows of an aggregate over a table, each with the key that it is counted under. `None`: the aggregate is
/// over something else, and not bounded.
pub(super) fn grouped(
    plan: &Plan,
    id: OpId,
    world: &World,
    now_unix_ns: i64,
) -> Result<Option<Grouped>, ModelError> {
    let op = &plan.ops[id];
    let (OpKind::Aggregate { group, .. }, Some(bounds)) = (&op.kind, world.bounds) else {
        return Ok(None);
    };
    let Some((scan, ids)) = chain(plan, op.inputs[0]).filter(|_| !group.is_empty()) else {
        return Ok(None);
    };
    let types = plan.ops[op.inputs[0]].relation.types();
    let bears_mark = |ty: DataType| !matches!(ty, DataType::Time64Ns | DataType::Boolean);
    let keeps_times = group.iter().any(|&column| bears_mark(types[column]));
    let key_of = |row: &Row| -> Row { group.iter().map(|&column| row[column].clone()).collect() };
    let (mut groups, mut times) = (Places::default(), Places::default());
    let times_max = bounds.groups_max.min(TIMES_MAX);
    let mut rows = Numbered::new();
    for at_unix_ns in refreshes(scan, world, &bounds, now_unix_ns) {
        rows = numbered(plan, world, &ids, at_unix_ns)?;
        let keys: BTreeMap<usize, Row> =
            rows.iter().map(|(number, row)| (*number, key_of(row))).collect();
        let shown: Vec<_> = keys.iter().map(|(number, key)| (*number, packed(key))).collect();
        let is_name = |number| packed(&name(&keys[&number], keeps_times)) == packed(&keys[&number]);
        groups.refresh(&shown, bounds.groups_max, is_name);
        let of_times: Vec<_> = groups
            .refused
            .iter()
            .map(|number| (*number, packed(&name(&keys[number], keeps_times))))
            .collect();
        let is_last = |number: usize| {
            packed(&name(&keys[&number], keeps_times)) == packed(&name(&keys[&number], false))
        };
        times.refresh(&of_times, times_max, is_last);
    }
    let mut refused = 0;
    let under = |(number, row): (usize, Row)| {
        let key = key_of(&row);
        let counted = if groups.own.contains_key(&number) {
            key
        } else {
            refused += usize::from(packed(&name(&key, keeps_times)) != packed(&key));
            name(&key, keeps_times && times.own.contains_key(&number))
        };
        (counted, row)
    };
    let rows = rows.into_iter().map(under).collect();
    Ok(Some(Grouped { rows, refused }))
}

/// Every refresh at which rows can come into the window, and now.
fn refreshes(scan: &Scan, world: &World, bounds: &GroupBounds, now_unix_ns: i64) -> Vec<i64> {
    let Some(table) = world.tables.get(&scan.table) else { return vec![now_unix_ns] };
    let refresh_ns = bounds.refresh_ms as i64 * MS_NS;
    let start_ns = bounds.start_ms as i64 * MS_NS;
    let before_ns = match scan.window.end {
        EndBound::Relative { before_ns } => before_ns,
        EndBound::Now | EndBound::Absolute { .. } => 0,
    };
    let mut all = BTreeSet::from([now_unix_ns]);
    for arrived in &table.rows {
        let Some(Value::Time64Ns(time)) =
            table.relation.time_idx().map(|at| arrived.row[at].clone())
        else {
            continue;
        };
        for at in [arrived.arrival_unix_ns, time, time.saturating_add(before_ns)] {
            let refresh = at.div_euclid(refresh_ns) + i64::from(at.rem_euclid(refresh_ns) > 0);
            all.insert(refresh.saturating_mul(refresh_ns).max(start_ns));
        }
    }
    all.into_iter().filter(|at| *at <= now_unix_ns).collect()
}

/// How many rows of all bounded aggregates found no group of their own.
pub fn refused(plan: &Plan, world: &World, now_unix_ns: i64) -> Result<usize, ModelError> {
    let mut sum = 0;
    for id in 0..plan.ops.len() {
        sum += grouped(plan, id, world, now_unix_ns)?.map_or(0, |grouped| grouped.refused);
    }
    Ok(sum)
}
