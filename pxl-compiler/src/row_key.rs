//! Which columns of an output tell its rows apart: readers replace rows by them, and an `upsert` sink is possible
//! only with them. Derived from the plan; it changes nothing.

use std::collections::HashMap;

use weir_types::plan::{JoinKind, Op, OpKind, Side};
use weir_types::{OpId, Plan};

use crate::budget::Budget;
use crate::passes::walk::passed_from;

/// The groups of the aggregate below, as far as all of them are still there. A join on the way keeps them if it
/// finds at most one row for each.
pub(crate) fn of(plan: &Plan, output: OpId, budget: &Budget) -> Vec<String> {
    let names = &plan.ops[output].relation;
    // Column of the output → column of the operator at hand.
    let mut at = output;
    let mut columns: HashMap<usize, usize> = (0..names.len()).map(|idx| (idx, idx)).collect();
    loop {
        let op = &plan.ops[at];
        if !budget.spend(1 + columns.len()) {
            return Vec::new();
        }
        match &op.kind {
            OpKind::Filter { .. } | OpKind::Limit { .. } | OpKind::Map { .. } => {
                let passed = |(out, idx)| Some((out, passed_from(&op.kind, idx)?));
                columns = columns.into_iter().filter_map(passed).collect();
                at = op.inputs[0];
            }
            OpKind::Join { columns: of_sides, .. } => {
                let Some((side, input)) = kept_side(plan, op, budget) else { return Vec::new() };
                let passed = |(out, idx): (usize, usize)| {
                    (of_sides[idx].0 == side).then_some((out, of_sides[idx].1))
                };
                columns = columns.into_iter().filter_map(passed).collect();
                at = input;
            }
            OpKind::Aggregate { group, .. } => {
                let mut found: Vec<usize> = Vec::new();
                for idx in 0..group.len() {
                    let out = columns.iter().filter(|(_, have)| **have == idx).map(|(out, _)| *out);
                    match out.min() {
                        Some(out) => found.push(out),
                        None => return Vec::new(),
                    }
                }
                return found.iter().map(|&idx| names.columns[idx].name.clone()).collect();
            }
            _ => return Vec::new(),
        }
    }
}

/// The input of a join whose rows it gives once at most, and nothing else.
fn kept_side(plan: &Plan, join: &Op, budget: &Budget) -> Option<(Side, OpId)> {
    let OpKind::Join { how, left_on, right_on, .. } = &join.kind else { return None };
    let [left, right] = [join.inputs[0], join.inputs[1]];
    let adds_none_of_right = *how != JoinKind::Outer;
    if adds_none_of_right && is_single(plan, right, right_on, budget) {
        return Some((Side::Left, left));
    }
    (*how == JoinKind::Inner && is_single(plan, left, left_on, budget))
        .then_some((Side::Right, right))
}

/// Whether no two rows are equal in these columns: all groups of the aggregate below are among them.
fn is_single(plan: &Plan, mut at: OpId, on: &[usize], budget: &Budget) -> bool {
    let mut on: Vec<usize> = on.to_vec();
    loop {
        let op = &plan.ops[at];
        if !budget.spend(1 + on.len()) {
            return false;
        }
        match &op.kind {
            OpKind::Filter { .. } | OpKind::Limit { .. } | OpKind::Map { .. } => {
                on = on.into_iter().filter_map(|idx| passed_from(&op.kind, idx)).collect();
                at = op.inputs[0];
            }
            OpKind::Aggregate { group, .. } => {
                return (0..group.len()).all(|idx| on.contains(&idx));
            }
            _ => return false,
        }
    }
}
