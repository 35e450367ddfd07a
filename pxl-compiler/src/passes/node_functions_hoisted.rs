//! Afterwards, on a row-wise path, functions that must run on the node stand before what must run in
//! the cluster part (its functions, and the clock): the value of a node function behind it is
//! computed below and carried up as a column.
//!
//! * **Input:** any plan.
//! * **Output:** no function of the node on a row-wise path behind the cluster part's, as far as it can be
//!   computed below; what cannot stays for `placement_checked` to report.
//! * **Keeps:** outputs and their relations; every row.

use weir_functions::Placement;
use weir_types::plan::OpKind;
use weir_types::{Column, Expr, Op, OpId, Plan, SemanticType};

use super::checked::Checked;
use super::walk::{
    self, Carried, fresh_name, is_row_wise, passed, path_down, trimmed, with_expressions,
};
use super::{Rebuild, is_late, nodes, op_has_placement, op_is_late, substitute_within};
use crate::budget::Budget;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    // True where something of the cluster part stands at or below a row-wise operator.
    let mut late: Vec<bool> = Vec::new();
    for op in &plan.ops {
        if rebuild.is_over() {
            return plan;
        }
        let op = rebuild.renumbered(op);
        let id = if is_row_wise(&op.kind)
            && op_has_placement(&op, Placement::Node)
            && (op_is_late(&op) || late[op.inputs[0]])
        {
            hoist(&mut rebuild, &late, op)
        } else {
            rebuild.push(op)
        };
        mark(&rebuild, &mut late);
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

fn mark(rebuild: &Rebuild<'_>, late: &mut Vec<bool>) {
    for op in &rebuild.ops[late.len()..] {
        let found = is_row_wise(&op.kind) && (op_is_late(op) || late[op.inputs[0]]);
        late.push(found);
    }
}

/// Replaces the node calls of `op` by columns that are computed below all cluster functions. What
/// cannot be moved stays, and `placement_checked` reports it.
fn hoist(rebuild: &mut Rebuild<'_>, late: &[bool], op: Op) -> OpId {
    let mut calls: Vec<Expr> = Vec::new();
    for expr in op.kind.expressions() {
        collect(expr, &mut calls);
    }
    let mut input = op.inputs[0];
    let mut replaced: Vec<(Expr, Expr)> = Vec::new();
    for call in calls {
        // Positions of the original columns stay: new ones go to the end.
        if let Some((carried, idx)) = carry(rebuild, late, input, call.clone()) {
            input = carried;
            let data_type = call.data_type();
            replaced.push((call, Expr::Column { idx, data_type }));
        }
    }
    let column_of = |part: &Expr| {
        let found = replaced.iter().find(|(call, _)| call == part);
        found.map(|(_, column)| column.clone())
    };
    let kind = with_expressions(&op.kind, &mut |expr| walk::replaced(expr, &column_of));
    if matches!(kind, OpKind::Map { .. }) {
        return rebuild.push(Op { kind, inputs: vec![input], relation: op.relation });
    }
    // A filter passes the carried columns on; a map takes them off again.
    let relation = rebuild.ops[input].relation.clone();
    let id = rebuild.push(Op { kind, inputs: vec![input], relation });
    trimmed(rebuild, id, &op.relation)
}

/// The outermost node calls of an expression that hold no cluster call, each once.
fn collect(expr: &Expr, found: &mut Vec<Expr>) {
    let Expr::Call { func, args, .. } = expr else { return };
    let node = crate::registry::placement(func) == Placement::Node;
    if node && !is_late(expr) {
        if !found.contains(expr) {
            found.push(expr.clone());
        }
        return;
    }
    for arg in args {
        collect(arg, found);
    }
}

/// An operator equal to `op` with one more column at its end, which holds `expr` (over `op`'s
/// columns), computed below every cluster function.
fn carry(rebuild: &mut Rebuild<'_>, late: &[bool], op: OpId, expr: Expr) -> Option<(OpId, usize)> {
    let (path, at) = path_down(&rebuild.ops, op, |id, _| stands_late(rebuild, late, id));
    let mut expr = expr;
    for &step in &path {
        let step = &rebuild.ops[step];
        if let OpKind::Map { exprs } = &step.kind {
            expr = substitute_within(&expr, exprs)?;
        }
        if is_late(&expr) || !rebuild.spend(step.relation.len() + nodes(&expr)) {
            return None;
        }
    }
    let mut relation = rebuild.ops[at].relation.clone();
    let mut exprs = passed(&relation);
    let name = fresh_name(&relation, &format!("_hoisted_{}", relation.len()));
    let mut carried = Carried { idx: relation.len(), name: name.clone() };
    relation.columns.push(Column::new(name, expr.data_type(), SemanticType::None));
    exprs.push(expr);
    let mut id = rebuild.push(Op { kind: OpKind::Map { exprs }, inputs: vec![at], relation });
    for &step in path.iter().rev() {
        let mut op = Op { inputs: vec![id], ..rebuild.ops[step].clone() };
        walk::carry(&mut op, &rebuild.ops[id].relation, [&mut carried]);
        id = rebuild.push(op);
    }
    Some((id, carried.idx))
}

/// As `late`, also for operators that this pass has just made.
fn stands_late(rebuild: &Rebuild<'_>, late: &[bool], id: OpId) -> bool {
    if let Some(&found) = late.get(id) {
        return found;
    }
    let op = &rebuild.ops[id];
    is_row_wise(&op.kind) && (op_is_late(op) || stands_late(rebuild, late, op.inputs[0]))
}

/// Nothing besides: whether all could be moved is for `placement_checked` to say, with the place in the script.
pub(crate) fn promise(_plan: &Plan) -> Checked {
    Ok(())
}
