//! Afterwards, on a row-wise path, functions that must run on the node stand before what must run in
//! the cluster part (its functions, and the clock): the value of a node function behind it is
//! computed below and carried up as a column.

use weir_functions::Placement;
use weir_types::plan::OpKind;
use weir_types::{Column, Expr, Op, OpId, Plan, SemanticType};

use super::{
    Rebuild, expressions, is_late, nodes, op_has_placement, op_is_late, passed, substitute_within,
};
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
        let id = if matches!(op.kind, OpKind::Filter { .. } | OpKind::Map { .. })
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
        let row_wise = matches!(op.kind, OpKind::Filter { .. } | OpKind::Map { .. });
        let found = row_wise && (op_is_late(op) || late[op.inputs[0]]);
        late.push(found);
    }
}

/// Replaces the node calls of `op` by columns that are computed below all cluster functions. What
/// cannot be moved stays, and `placement_checked` reports it.
fn hoist(rebuild: &mut Rebuild<'_>, late: &[bool], op: Op) -> OpId {
    let mut calls: Vec<Expr> = Vec::new();
    for expr in expressions(&op.kind) {
        collect(expr, &mut calls);
    }
    let width = rebuild.ops[op.inputs[0]].relation.len();
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
    let kind = match &op.kind {
        OpKind::Filter { predicate } => OpKind::Filter { predicate: replace(predicate, &replaced) },
        OpKind::Map { exprs } => {
            OpKind::Map { exprs: exprs.iter().map(|expr| replace(expr, &replaced)).collect() }
        }
        other => other.clone(),
    };
    if matches!(kind, OpKind::Map { .. }) {
        return rebuild.push(Op { kind, inputs: vec![input], relation: op.relation });
    }
    // A filter passes the carried columns on; a map takes them off again.
    let relation = rebuild.ops[input].relation.clone();
    let id = rebuild.push(Op { kind, inputs: vec![input], relation });
    if rebuild.ops[id].relation.len() == width {
        return id;
    }
    let exprs = passed(&op.relation);
    rebuild.push(Op { kind: OpKind::Map { exprs }, inputs: vec![id], relation: op.relation })
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

fn replace(expr: &Expr, replaced: &[(Expr, Expr)]) -> Expr {
    if let Some((_, column)) = replaced.iter().find(|(call, _)| call == expr) {
        return column.clone();
    }
    match expr {
        Expr::Call { func, args, data_type } => Expr::Call {
            func: func.clone(),
            args: args.iter().map(|arg| replace(arg, replaced)).collect(),
            data_type: *data_type,
        },
        other => other.clone(),
    }
}

/// An operator equal to `op` with one more column at its end, which holds `expr` (over `op`'s
/// columns), computed below every cluster function.
fn carry(rebuild: &mut Rebuild<'_>, late: &[bool], op: OpId, expr: Expr) -> Option<(OpId, usize)> {
    // From `op` down to the last operator above which there is no cluster function.
    let mut path: Vec<Op> = Vec::new();
    let (mut at, mut expr) = (op, expr);
    while stands_late(rebuild, late, at) {
        let step = rebuild.ops[at].clone();
        if let OpKind::Map { exprs } = &step.kind {
            expr = substitute_within(&expr, exprs)?;
        }
        if is_late(&expr) || !rebuild.spend(step.relation.len() + nodes(&expr)) {
            return None;
        }
        at = step.inputs[0];
        path.push(step);
    }
    let mut relation = rebuild.ops[at].relation.clone();
    let mut exprs = passed(&relation);
    let mut name = format!("_hoisted_{}", relation.len());
    while relation.index_of(&name).is_some() {
        name.push('_');
    }
    relation.columns.push(Column::new(name, expr.data_type(), SemanticType::None));
    exprs.push(expr);
    let mut id = rebuild.push(Op { kind: OpKind::Map { exprs }, inputs: vec![at], relation });
    while let Some(step) = path.pop() {
        let below = rebuild.ops[id].relation.clone();
        let last = below.columns.len() - 1;
        let mut carried = below.columns[last].clone();
        let op = match step.kind {
            OpKind::Map { mut exprs } => {
                let mut relation = step.relation;
                while relation.index_of(&carried.name).is_some() {
                    carried.name.push('_');
                }
                exprs.push(Expr::Column { idx: last, data_type: carried.data_type });
                relation.columns.push(carried);
                Op { kind: OpKind::Map { exprs }, inputs: vec![id], relation }
            }
            kind => Op { kind, inputs: vec![id], relation: below },
        };
        id = rebuild.push(op);
    }
    let idx = rebuild.ops[id].relation.len() - 1;
    Some((id, idx))
}

/// As `late`, also for operators that this pass has just made.
fn stands_late(rebuild: &Rebuild<'_>, late: &[bool], id: OpId) -> bool {
    if let Some(&found) = late.get(id) {
        return found;
    }
    let op = &rebuild.ops[id];
    matches!(op.kind, OpKind::Filter { .. } | OpKind::Map { .. })
        && (op_is_late(op) || stands_late(rebuild, late, op.inputs[0]))
}
