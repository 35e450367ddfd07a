//! Afterwards `asid()`, `_exec_hostname()` and `_exec_host_num_cpus()` name the process of the row
//! they stand in: before any blocking operator they are look-ups by the scanned row's UPID, also
//! where the script dropped that column. Elsewhere they stay as they are, and whoever runs the plan
//! answers for itself.

use weir_types::plan::OpKind;
use weir_types::{DataType, Expr, Op, OpId, Plan};

use super::{Rebuild, expressions, passed};
use crate::budget::Budget;
/// What each means for a row.
const FUNCTIONS: [(&str, &str); 3] = [
    ("asid", "upid_to_asid"),
    ("_exec_hostname", "_upid_to_exec_hostname"),
    ("_exec_host_num_cpus", "_upid_to_exec_num_cpus"),
];

fn for_row(func: &str) -> Option<&'static str> {
    FUNCTIONS.iter().find(|(name, _)| *name == func).map(|(_, for_row)| *for_row)
}

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    for op in &plan.ops {
        if rebuild.is_over() {
            return plan;
        }
        let op = rebuild.renumbered(op);
        let mut found = false;
        for expr in expressions(&op.kind) {
            expr.walk(&mut |part| {
                if let Expr::Call { func, args, .. } = part {
                    found |= args.is_empty() && for_row(func).is_some();
                }
            });
        }
        let bound = if found { carry_upid(&mut rebuild, op.inputs[0]) } else { None };
        let id = match bound {
            Some((input, upid)) => bind(&mut rebuild, op, input, upid),
            None => rebuild.push(op),
        };
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

/// An operator equal to `op` that has the scan's UPID in a column, and that column. `None` behind
/// blocking operators and for tables without one.
fn carry_upid(rebuild: &mut Rebuild<'_>, op: OpId) -> Option<(OpId, usize)> {
    let mut path: Vec<OpId> = Vec::new();
    let mut at = op;
    while matches!(rebuild.ops[at].kind, OpKind::Filter { .. } | OpKind::Map { .. }) {
        path.push(at);
        at = rebuild.ops[at].inputs[0];
    }
    let OpKind::Scan { .. } = &rebuild.ops[at].kind else { return None };
    let relation = &rebuild.ops[at].relation;
    let mut idx = relation
        .index_of("upid")
        .filter(|&idx| relation.columns[idx].data_type == DataType::Uint128)?;
    let mut id = at;
    while let Some(old) = path.pop() {
        let mut op = rebuild.ops[old].clone();
        let changed = op.inputs[0] != id;
        op.inputs[0] = id;
        match &mut op.kind {
            OpKind::Map { exprs } => {
                let here = exprs.iter().position(
                    |expr| matches!(expr, Expr::Column { idx: have, .. } if *have == idx),
                );
                match here {
                    Some(here) => {
                        idx = here;
                        id = if changed { rebuild.push(op) } else { old };
                    }
                    None => {
                        exprs.push(Expr::Column { idx, data_type: DataType::Uint128 });
                        let mut column = rebuild.ops[id].relation.columns[idx].clone();
                        while op.relation.index_of(&column.name).is_some() {
                            column.name.push('_');
                        }
                        op.relation.columns.push(column);
                        idx = op.relation.len() - 1;
                        id = rebuild.push(op);
                    }
                }
            }
            _ => {
                op.relation = rebuild.ops[id].relation.clone();
                id = if changed { rebuild.push(op) } else { old };
            }
        }
    }
    Some((id, idx))
}

fn bind(rebuild: &mut Rebuild<'_>, op: Op, input: OpId, upid: usize) -> OpId {
    let column = Expr::Column { idx: upid, data_type: DataType::Uint128 };
    let kind = match &op.kind {
        OpKind::Filter { predicate } => OpKind::Filter { predicate: bound(predicate, &column) },
        OpKind::Map { exprs } => {
            OpKind::Map { exprs: exprs.iter().map(|expr| bound(expr, &column)).collect() }
        }
        other => other.clone(),
    };
    if matches!(kind, OpKind::Map { .. }) {
        return rebuild.push(Op { kind, inputs: vec![input], relation: op.relation });
    }
    let relation = rebuild.ops[input].relation.clone();
    let wider = relation.len() > op.relation.len();
    let id = rebuild.push(Op { kind, inputs: vec![input], relation });
    if !wider {
        return id;
    }
    let exprs = passed(&op.relation);
    rebuild.push(Op { kind: OpKind::Map { exprs }, inputs: vec![id], relation: op.relation })
}

fn bound(expr: &Expr, upid: &Expr) -> Expr {
    match expr {
        Expr::Call { func, args, data_type } => {
            let (func, args) = match for_row(func) {
                Some(for_row) if args.is_empty() => (for_row, vec![upid.clone()]),
                _ => (func.as_str(), args.iter().map(|arg| bound(arg, upid)).collect()),
            };
            Expr::Call { func: func.to_string(), args, data_type: *data_type }
        }
        other => other.clone(),
    }
}
