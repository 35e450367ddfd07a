//! Afterwards operators carry only columns that something above them reads. A limit reads all of
//! its own (its order is by whole rows), a scan always carries `time_`, and outputs keep what they
//! show.
//!
//! * **Input:** any plan.
//! * **Output:** what makes columns (scans, maps, aggregates, joins) makes none that nobody reads.
//! * **Keeps:** outputs and their relations; every row, but for columns that nobody reads.

use std::collections::BTreeSet;

use weir_types::plan::{AggCall, OpKind, Scan, Side};
use weir_types::{Op, OpId, Plan, Relation};

use super::Rebuild;
use super::checked::{Checked, holds};
use super::walk::passed;
use crate::budget::{Budget, Cancel};

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let needed = needed(&plan, budget);
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    // Per old operator: old column → new column.
    let mut moves: Vec<Vec<Option<usize>>> = Vec::with_capacity(plan.ops.len());
    for (old, op) in plan.ops.iter().enumerate() {
        if rebuild.is_over() {
            return plan;
        }
        let keep = &needed[old];
        let inputs: Vec<&[Option<usize>]> =
            op.inputs.iter().map(|&input| moves[input].as_slice()).collect();
        let new = pruned(op, keep, &inputs);
        // Row-wise operators that pass rows through keep what their input has.
        let kept: Vec<usize> = match &op.kind {
            OpKind::Filter { .. } | OpKind::Limit { .. } => {
                let moves = &moves[op.inputs[0]];
                (0..op.relation.len()).filter(|&idx| moves[idx].is_some()).collect()
            }
            _ => keep.iter().copied().collect(),
        };
        let mut moved = vec![None; op.relation.len()];
        for (at, &idx) in kept.iter().enumerate() {
            moved[idx] = Some(at);
        }
        let columns = kept.iter().map(|&idx| op.relation.columns[idx].clone()).collect();
        let inputs = match &op.kind {
            OpKind::Union => {
                op.inputs.iter().map(|&input| branch(&mut rebuild, input, keep, &moves)).collect()
            }
            _ => op.inputs.iter().map(|&input| rebuild.moved(input)).collect(),
        };
        let id = rebuild.push(Op { kind: new, inputs, relation: Relation::new(columns) });
        rebuild.became(id);
        moves.push(moved);
    }
    rebuild.finish(&plan)
}

/// A union's input with exactly the union's columns: it may have more, for others.
fn branch(
    rebuild: &mut Rebuild<'_>,
    input: OpId,
    keep: &BTreeSet<usize>,
    moves: &[Vec<Option<usize>>],
) -> OpId {
    let id = rebuild.moved(input);
    let relation = &rebuild.ops[id].relation;
    let wanted: Vec<usize> = keep.iter().filter_map(|&idx| moves[input][idx]).collect();
    if wanted.iter().copied().eq(0..relation.len()) {
        return id;
    }
    let columns = wanted.iter().map(|&idx| relation.columns[idx].clone()).collect();
    let all = passed(relation);
    let kind = OpKind::Map { exprs: wanted.iter().map(|&idx| all[idx].clone()).collect() };
    rebuild.push(Op { kind, inputs: vec![id], relation: Relation::new(columns) })
}

/// Columns that each operator must produce.
fn needed(plan: &Plan, budget: &Budget) -> Vec<BTreeSet<usize>> {
    let mut needed: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); plan.ops.len()];
    for output in &plan.outputs {
        needed[output.op].extend(0..plan.ops[output.op].relation.len());
    }
    for id in (0..plan.ops.len()).rev() {
        let op = &plan.ops[id];
        widen(op, &mut needed[id]);
        let mine = needed[id].clone();
        if !budget.spend(4 * mine.len() * op.inputs.len()) {
            break;
        }
        for (at, &input) in op.inputs.iter().enumerate() {
            let wanted = wanted_of(plan, id, at, input, &mine);
            needed[input].extend(wanted);
        }
    }
    needed
}

/// Columns that an operator produces in any case.
fn widen(op: &Op, mine: &mut BTreeSet<usize>) {
    let all = op.relation.len();
    match &op.kind {
        OpKind::Scan(_) => mine.extend(op.relation.time_idx()),
        OpKind::Limit { .. } => mine.extend(0..all),
        // Its columns are given by name to whoever evaluates it.
        OpKind::TableFunction { .. } => mine.extend(0..all),
        OpKind::Aggregate { group, .. } => mine.extend(0..group.len()),
        _ => {}
    }
    // Rows without any column cannot be told apart from no rows.
    if mine.is_empty() && all > 0 {
        mine.insert(op.relation.time_idx().unwrap_or(0));
    }
}

/// What an operator reads of its input number `at`.
fn wanted_of(
    plan: &Plan,
    id: OpId,
    at: usize,
    input: OpId,
    mine: &BTreeSet<usize>,
) -> BTreeSet<usize> {
    let op = &plan.ops[id];
    match &op.kind {
        OpKind::Scan(_) | OpKind::TableFunction { .. } => BTreeSet::new(),
        OpKind::Filter { predicate } => mine.iter().copied().chain(predicate.columns()).collect(),
        OpKind::Map { exprs } => mine.iter().flat_map(|&idx| exprs[idx].columns()).collect(),
        OpKind::Aggregate { group, aggs } => {
            let kept = aggs.iter().enumerate().filter(|(at, _)| mine.contains(&(group.len() + at)));
            let args = kept.flat_map(|(_, agg)| agg.args.iter().copied().chain(agg.time));
            group.iter().copied().chain(args).collect()
        }
        OpKind::Join { left_on, right_on, columns, .. } => {
            let (side, on) = match at {
                0 => (Side::Left, left_on),
                _ => (Side::Right, right_on),
            };
            let read = mine.iter().map(|&idx| columns[idx]).filter(|(from, _)| *from == side);
            on.iter().copied().chain(read.map(|(_, idx)| idx)).collect()
        }
        OpKind::Union => mine.clone(),
        OpKind::Limit { .. } => (0..plan.ops[input].relation.len()).collect(),
    }
}

/// The operator's kind with columns renumbered and those that are not needed left out.
fn pruned(op: &Op, keep: &BTreeSet<usize>, inputs: &[&[Option<usize>]]) -> OpKind {
    let to = |at: usize, idx: usize| inputs[at][idx].unwrap_or(0);
    match &op.kind {
        OpKind::Scan(scan) => OpKind::Scan(Scan {
            columns: keep.iter().map(|&idx| scan.columns[idx].clone()).collect(),
            ..scan.clone()
        }),
        OpKind::Filter { predicate } => {
            OpKind::Filter { predicate: predicate.with_columns(&|idx| to(0, idx)) }
        }
        OpKind::Map { exprs } => {
            let kept = keep.iter().map(|&idx| exprs[idx].with_columns(&|idx| to(0, idx)));
            OpKind::Map { exprs: kept.collect() }
        }
        OpKind::Aggregate { group, aggs } => {
            let kept = aggs.iter().enumerate().filter(|(at, _)| keep.contains(&(group.len() + at)));
            let aggs = kept.map(|(_, agg)| AggCall {
                args: agg.args.iter().map(|&idx| to(0, idx)).collect(),
                time: agg.time.map(|idx| to(0, idx)),
                ..agg.clone()
            });
            OpKind::Aggregate {
                group: group.iter().map(|&idx| to(0, idx)).collect(),
                aggs: aggs.collect(),
            }
        }
        OpKind::Join { how, left_on, right_on, columns } => {
            let side = |side: Side| usize::from(side == Side::Right);
            OpKind::Join {
                how: *how,
                left_on: left_on.iter().map(|&idx| to(0, idx)).collect(),
                right_on: right_on.iter().map(|&idx| to(1, idx)).collect(),
                columns: keep
                    .iter()
                    .map(|&idx| (columns[idx].0, to(side(columns[idx].0), columns[idx].1)))
                    .collect(),
            }
        }
        OpKind::Union | OpKind::Limit { .. } | OpKind::TableFunction { .. } => op.kind.clone(),
    }
}

pub(crate) fn promise(plan: &Plan) -> Checked {
    let budget = Budget::new(Cancel::default(), None, None);
    for (id, (op, needed)) in plan.ops.iter().zip(needed(plan, &budget)).enumerate() {
        let passes_on = matches!(op.kind, OpKind::Filter { .. } | OpKind::Limit { .. });
        let all = passes_on || needed.len() == op.relation.len();
        holds(all || budget.is_over(), || format!("nobody reads a column of %{id}"))?;
    }
    Ok(())
}
