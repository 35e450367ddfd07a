//! Afterwards a limit stands below maps that only add columns at the end of its rows: the order of
//! rows is that of whole packed rows, columns in their order, so what is appended as a function of
//! the others decides nothing. Nodes can then choose the newest rows themselves. Maps with functions
//! of the node stay below: behind the limit the row's node is no longer known.

use weir_functions::Placement;
use weir_types::plan::OpKind;
use weir_types::{Expr, Op, OpId, Plan};

use super::{Rebuild, op_has_placement};

pub(crate) fn run(plan: Plan) -> Plan {
    let mut rebuild = Rebuild::new(plan.ops.len());
    for op in &plan.ops {
        let op = rebuild.renumbered(op);
        let id = match op.kind {
            OpKind::Limit { .. } => push(&mut rebuild, op),
            _ => rebuild.push(op),
        };
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

/// The limit below as many maps as can be, copies of these above it.
fn push(rebuild: &mut Rebuild, limit: Op) -> OpId {
    let mut path: Vec<OpId> = Vec::new();
    // Maps down to and with the last one that the limit may pass.
    let mut depth = 0;
    let mut at = limit.inputs[0];
    // Top column → column of the operator at hand, as long as it is only passed.
    let mut passed: Vec<Option<usize>> = (0..limit.relation.len()).map(Some).collect();
    while let OpKind::Map { exprs } = &rebuild.ops[at].kind {
        if op_has_placement(&rebuild.ops[at], Placement::Node) {
            break;
        }
        passed = passed
            .into_iter()
            .map(|idx| match exprs.get(idx?) {
                Some(Expr::Column { idx, .. }) => Some(*idx),
                _ => None,
            })
            .collect();
        path.push(at);
        at = rebuild.ops[at].inputs[0];
        let below = &rebuild.ops[at].relation;
        let same_time = below.time_idx() == limit.relation.time_idx();
        let prefix = (0..below.len()).all(|idx| passed.get(idx) == Some(&Some(idx)));
        if prefix && same_time {
            depth = path.len();
        }
    }
    let Some(&lowest) = path[..depth].last() else { return rebuild.push(limit) };
    let below = rebuild.ops[lowest].inputs[0];
    let relation = rebuild.ops[below].relation.clone();
    let mut id = rebuild.push(Op { kind: limit.kind, inputs: vec![below], relation });
    for &map in path[..depth].iter().rev() {
        let op = Op { inputs: vec![id], ..rebuild.ops[map].clone() };
        id = rebuild.push(op);
    }
    id
}
