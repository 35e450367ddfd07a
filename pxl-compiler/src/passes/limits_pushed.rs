//! Afterwards a limit stands below maps that only add columns at the end of its rows: the order of
//! rows is that of whole packed rows, columns in their order, so what is appended as a function of
//! the others decides nothing. It also stands in the row-wise branches of a union that only it reads:
//! a row that is not among the first of its branch is not among the first of all. Nodes can then
//! choose the newest rows themselves. Maps with functions of the node stay below: behind the limit the
//! row's node is no longer known.
//!
//! * **Input:** any plan.
//! * **Output:** no limit right above a map that adds columns at the end, but in the branches of unions.
//! * **Keeps:** outputs and their relations; every row.

use weir_functions::Placement;
use weir_types::plan::OpKind;
use weir_types::{Op, OpId, Plan};

use super::checked::{Checked, holds};
use super::walk::passed_from;
use super::{Rebuild, in_branch, is_blocking, op_has_placement, readers};
use crate::budget::Budget;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let readers = readers(&plan);
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    // Rebuilt operators that several old ones read.
    let mut shared: Vec<bool> = Vec::new();
    for (old, op) in plan.ops.iter().enumerate() {
        if rebuild.is_over() {
            return plan;
        }
        let op = rebuild.renumbered(op);
        let id = match op.kind {
            OpKind::Limit { .. } => push(&mut rebuild, &shared, op),
            _ => rebuild.push(op),
        };
        shared.resize(rebuild.ops.len(), false);
        shared[id] |= readers[old] > 1;
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

/// A limit above `below`, and in its branches if it is a union.
fn placed(rebuild: &mut Rebuild<'_>, shared: &[bool], kind: OpKind, below: OpId) -> OpId {
    let union = rebuild.ops[below].clone();
    let mut below = below;
    if matches!(union.kind, OpKind::Union) && !shared[below] {
        let free = |id: OpId| !shared[id] && !is_blocking(&rebuild.ops[id].kind);
        let free: Vec<bool> = union.inputs.iter().map(|&input| free(input)).collect();
        if free.contains(&true) {
            let mut inputs = union.inputs.clone();
            for (input, _) in inputs.iter_mut().zip(free).filter(|(_, free)| *free) {
                let relation = rebuild.ops[*input].relation.clone();
                *input = rebuild.push(Op { kind: kind.clone(), inputs: vec![*input], relation });
            }
            below = rebuild.push(Op { inputs, ..union });
        }
    }
    let relation = rebuild.ops[below].relation.clone();
    rebuild.push(Op { kind, inputs: vec![below], relation })
}

/// The limit below as many maps as can be, copies of these above it.
fn push(rebuild: &mut Rebuild<'_>, shared: &[bool], limit: Op) -> OpId {
    let mut path: Vec<OpId> = Vec::new();
    // Maps down to and with the last one that the limit may pass.
    let mut depth = 0;
    let mut at = limit.inputs[0];
    // Top column → column of the operator at hand, as long as it is only passed.
    let mut passed: Vec<Option<usize>> = (0..limit.relation.len()).map(Some).collect();
    while matches!(rebuild.ops[at].kind, OpKind::Map { .. }) {
        if op_has_placement(&rebuild.ops[at], Placement::Node) {
            break;
        }
        if !rebuild.spend(1 + passed.len()) {
            break;
        }
        let kind = &rebuild.ops[at].kind;
        passed = passed.into_iter().map(|idx| passed_from(kind, idx?)).collect();
        path.push(at);
        at = rebuild.ops[at].inputs[0];
        let below = &rebuild.ops[at].relation;
        let same_time = below.time_idx() == limit.relation.time_idx();
        let prefix = (0..below.len()).all(|idx| passed.get(idx) == Some(&Some(idx)));
        if prefix && same_time {
            depth = path.len();
        }
    }
    let below = match path[..depth].last() {
        Some(&lowest) => rebuild.ops[lowest].inputs[0],
        None => limit.inputs[0],
    };
    let mut id = placed(rebuild, shared, limit.kind, below);
    for &map in path[..depth].iter().rev() {
        let op = Op { inputs: vec![id], ..rebuild.ops[map].clone() };
        id = rebuild.push(op);
    }
    id
}

pub(crate) fn promise(plan: &Plan) -> Checked {
    let in_branch = in_branch(plan);
    for (id, op) in plan.ops.iter().enumerate() {
        let OpKind::Limit { .. } = &op.kind else { continue };
        let map = &plan.ops[op.inputs[0]];
        if !matches!(map.kind, OpKind::Map { .. }) || op_has_placement(map, Placement::Node) {
            continue;
        }
        let below = &plan.ops[map.inputs[0]].relation;
        let may_pass = below.time_idx() == map.relation.time_idx()
            && (0..below.len()).all(|idx| passed_from(&map.kind, idx) == Some(idx));
        holds(!may_pass || in_branch[id], || format!("%{id} could stand lower"))?;
    }
    Ok(())
}
