//! Afterwards no map stands on another that only it reads, unless fusing them would compute
//! something twice or mix functions that run in different places. Maps that change nothing are
//! gone.
//!
//! * **Input:** any plan.
//! * **Output:** no map that only passes its input on.
//! * **Keeps:** outputs and their relations; every row; where functions run.

use weir_functions::Placement;
use weir_types::plan::OpKind;
use weir_types::{Expr, Op, Plan};

use super::checked::{Checked, holds};
use super::walk::is_identity;
use super::{Rebuild, op_has_placement, op_is_late, readers, substitute};
use crate::budget::Budget;
use crate::limits::FUSED_NODES_MAX;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let readers = readers(&plan);
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    for op in &plan.ops {
        if rebuild.is_over() {
            return plan;
        }
        let mut new = rebuild.renumbered(op);
        if matches!(op.kind, OpKind::Map { .. }) && readers[op.inputs[0]] == 1 {
            let inner = &rebuild.ops[new.inputs[0]];
            if let Some(fused) = fused(&new, inner) {
                new = fused;
            }
        }
        let drop = matches!(new.kind, OpKind::Map { .. })
            && is_identity(&new, &rebuild.ops[new.inputs[0]].relation);
        let id = if drop { new.inputs[0] } else { rebuild.push(new) };
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

/// One map for two.
fn fused(outer: &Op, inner: &Op) -> Option<Op> {
    let (OpKind::Map { exprs: outer_exprs }, OpKind::Map { exprs: inner_exprs }) =
        (&outer.kind, &inner.kind)
    else {
        return None;
    };
    let either = |is: fn(&Op) -> bool| is(outer) || is(inner);
    if either(op_is_late) && either(|op| op_has_placement(op, Placement::Node)) {
        return None;
    }
    let mut uses = vec![0_usize; inner_exprs.len()];
    for expr in outer_exprs {
        expr.walk(&mut |part| {
            if let Expr::Column { idx, .. } = part {
                uses[*idx] += 1;
            }
        });
    }
    let twice = uses
        .iter()
        .zip(inner_exprs)
        .any(|(&uses, expr)| uses > 1 && matches!(expr, Expr::Call { .. }));
    if twice {
        return None;
    }
    let exprs: Vec<Expr> =
        outer_exprs.iter().map(|expr| substitute(expr, &|idx| inner_exprs[idx].clone())).collect();
    let small = exprs.iter().all(|expr| {
        let mut nodes = 0;
        expr.walk(&mut |_| nodes += 1);
        nodes <= FUSED_NODES_MAX
    });
    small.then(|| Op {
        kind: OpKind::Map { exprs },
        inputs: inner.inputs.clone(),
        relation: outer.relation.clone(),
    })
}

pub(crate) fn promise(plan: &Plan) -> Checked {
    let idle = plan.ops.iter().position(|op| match op.inputs.first() {
        Some(&input) => is_identity(op, &plan.ops[input].relation),
        None => false,
    });
    holds(idle.is_none(), || format!("{idle:?} does nothing"))
}
