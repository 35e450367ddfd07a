//! Afterwards `asid()`, `_exec_hostname()` and `_exec_host_num_cpus()` name the process of the row
//! they stand in, and `_peer_upid()` the other end of its connection: before any blocking operator
//! they are look-ups by the scanned row's UPID, local address and time, also where the script dropped
//! those columns. Elsewhere they stay as they are, and whoever runs the plan answers for itself.

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
const PEER: &str = "_peer_upid";

/// What the look-ups take of a scanned row.
const UPID: usize = 0;
const CARRIED: [(&str, DataType); 4] = [
    ("upid", DataType::Uint128),
    ("local_addr", DataType::String),
    ("local_port", DataType::Int64),
    ("time_", DataType::Time64Ns),
];

/// Columns of the scanned row, in the order of [`CARRIED`]; `None` where the table has none.
type Carried = [Option<Expr>; CARRIED.len()];

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
        let mut wanted = 0;
        for expr in expressions(&op.kind) {
            expr.walk(&mut |part| {
                if let Expr::Call { func, args, .. } = part {
                    let of_process = args.is_empty() && for_row(func).is_some();
                    let columns =
                        if func == PEER { CARRIED.len() } else { usize::from(of_process) };
                    wanted = wanted.max(columns);
                }
            });
        }
        let bound = if wanted > 0 { carry(&mut rebuild, op.inputs[0], wanted) } else { None };
        let id = match bound {
            Some((input, carried)) => bind(&mut rebuild, op, input, &carried),
            None => rebuild.push(op),
        };
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

/// An operator equal to `op` that has the first `wanted` of [`CARRIED`] in columns, and those.
/// `None` behind blocking operators and for tables without a UPID.
fn carry(rebuild: &mut Rebuild<'_>, op: OpId, wanted: usize) -> Option<(OpId, Carried)> {
    let mut path: Vec<OpId> = Vec::new();
    let mut at = op;
    while matches!(rebuild.ops[at].kind, OpKind::Filter { .. } | OpKind::Map { .. }) {
        path.push(at);
        at = rebuild.ops[at].inputs[0];
    }
    let OpKind::Scan { .. } = &rebuild.ops[at].kind else { return None };
    let relation = &rebuild.ops[at].relation;
    let mut carried: [Option<usize>; CARRIED.len()] = CARRIED.map(|(name, data_type)| {
        relation.index_of(name).filter(|&idx| relation.columns[idx].data_type == data_type)
    });
    carried[wanted..].fill(None);
    carried[UPID]?;
    let mut id = at;
    while let Some(old) = path.pop() {
        let mut op = rebuild.ops[old].clone();
        let mut changed = op.inputs[0] != id;
        op.inputs[0] = id;
        if matches!(op.kind, OpKind::Map { .. }) {
            for idx in carried.iter_mut().flatten() {
                changed |= carry_through(rebuild, &mut op, idx);
            }
        } else {
            op.relation = rebuild.ops[id].relation.clone();
        }
        id = if changed { rebuild.push(op) } else { old };
    }
    let relation = &rebuild.ops[id].relation;
    let column = |idx: usize| Expr::Column { idx, data_type: relation.columns[idx].data_type };
    Some((id, carried.map(|idx| idx.map(column))))
}

/// Finds an input column of a map behind it, or adds it there. True if it was added.
fn carry_through(rebuild: &Rebuild<'_>, op: &mut Op, idx: &mut usize) -> bool {
    let OpKind::Map { exprs } = &mut op.kind else { return false };
    let is_it = |expr: &Expr| matches!(expr, Expr::Column { idx: have, .. } if have == idx);
    if let Some(here) = exprs.iter().position(is_it) {
        *idx = here;
        return false;
    }
    let mut column = rebuild.ops[op.inputs[0]].relation.columns[*idx].clone();
    exprs.push(Expr::Column { idx: *idx, data_type: column.data_type });
    while op.relation.index_of(&column.name).is_some() {
        column.name.push('_');
    }
    op.relation.columns.push(column);
    *idx = op.relation.len() - 1;
    true
}

fn bind(rebuild: &mut Rebuild<'_>, op: Op, input: OpId, carried: &Carried) -> OpId {
    let kind = match &op.kind {
        OpKind::Filter { predicate } => OpKind::Filter { predicate: bound(predicate, carried) },
        OpKind::Map { exprs } => {
            OpKind::Map { exprs: exprs.iter().map(|expr| bound(expr, carried)).collect() }
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

fn bound(expr: &Expr, carried: &Carried) -> Expr {
    let Expr::Call { func, args, data_type } = expr else { return expr.clone() };
    let data_type = *data_type;
    let mut args: Vec<Expr> = args.iter().map(|arg| bound(arg, carried)).collect();
    let for_row = for_row(func).filter(|_| args.is_empty());
    if let (Some(for_row), Some(upid)) = (for_row, &carried[UPID]) {
        return Expr::Call { func: for_row.to_string(), args: vec![upid.clone()], data_type };
    }
    if func != PEER {
        return Expr::Call { func: func.clone(), args, data_type };
    }
    let [upid, local_addr, local_port, time] = carried.clone();
    let (Some(upid), Some(time)) = (upid, time) else {
        return Expr::Call { func: func.clone(), args, data_type };
    };
    if args.len() == 2 {
        args.push(time);
    }
    let (func, of_row) = match (local_addr, local_port) {
        (Some(addr), Some(port)) => ("_upid_to_connection_peer", vec![upid, addr, port]),
        _ => ("_upid_to_peer_met", vec![upid]),
    };
    Expr::Call { func: func.to_string(), args: of_row.into_iter().chain(args).collect(), data_type }
}
