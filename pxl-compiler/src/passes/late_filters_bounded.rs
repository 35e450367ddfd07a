//! Afterwards a filter of the cluster part that stands on a node's path has a filter below it, on the node,
//! with what can be told of its condition from the row alone: rows that it would leave out whatever the
//! cluster part knows are not sent. `role == SERVER or the peer is unknown here` sends no client's row
//! whose peer is known.
//!
//! * **Input:** any plan; functions of nodes stand below the cluster part's (`node_functions_hoisted`).
//! * **Output:** the same filters, some with another one below.
//! * **Keeps:** outputs and their relations; every row behind the filters.

use weir_types::plan::OpKind;
use weir_types::{Op, OpId, Plan};

use super::bounds::{bounds, is_constant, is_of_row_alone};
use super::checked::Checked;
use super::walk::{is_row_wise, path_down};
use super::{Rebuild, is_late, nodes, op_is_late};
use crate::budget::Budget;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    for op in &plan.ops {
        if rebuild.is_over() {
            return plan;
        }
        let mut op = rebuild.renumbered(op);
        if let OpKind::Filter { predicate } = &op.kind
            && is_late(predicate)
            && rebuild.spend(nodes(predicate))
            && runs_on_nodes(&rebuild, op.inputs[0])
            && let Some(predicate) = bounds(predicate, &is_of_row_alone).upper
            && !is_constant(&predicate)
        {
            let below = Op { kind: OpKind::Filter { predicate }, ..op.clone() };
            // A filter that is there twice is of no use.
            if rebuild.ops[op.inputs[0]].kind != below.kind {
                op.inputs = vec![rebuild.push(below)];
            }
        }
        let id = rebuild.push(op);
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

fn runs_on_nodes(rebuild: &Rebuild<'_>, id: OpId) -> bool {
    let passes = |_, op: &Op| is_row_wise(&op.kind) && !op_is_late(op) && rebuild.spend(1);
    let (_, at) = path_down(&rebuild.ops, id, passes);
    matches!(rebuild.ops[at].kind, OpKind::Scan(_))
}

/// Nothing besides: how much can be told of a condition is not for a check to say.
pub(crate) fn promise(_plan: &Plan) -> Checked {
    Ok(())
}
