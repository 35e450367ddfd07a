//! Afterwards `asid()`, `_exec_hostname()` and `_exec_host_num_cpus()` name the process of the row
//! they stand in, and `_peer_upid()` the other end of its connection: before any blocking operator
//! they are look-ups by the scanned row's UPID, local address and time, also where the script dropped
//! those columns. Elsewhere they stay as they are, and whoever runs the plan answers for itself.
//!
//! * **Input:** any plan; scans still have all columns of their tables.
//! * **Output:** no such function on a row-wise path above a scan with a UPID.
//! * **Keeps:** outputs and their relations; every row.

use weir_types::plan::OpKind;
use weir_types::{DataType, Expr, Op, OpId, Plan};

use super::Rebuild;
use super::checked::{Checked, holds};
use super::walk::{self, Carried, is_row_wise, passed, path_down, trimmed, with_expressions};
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
type AtHand = [Option<Expr>; CARRIED.len()];

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
        for expr in op.kind.expressions() {
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
fn carry(rebuild: &mut Rebuild<'_>, op: OpId, wanted: usize) -> Option<(OpId, AtHand)> {
    let (mut path, at) = path_down(&rebuild.ops, op, |_, op| is_row_wise(&op.kind));
    let OpKind::Scan(_) = &rebuild.ops[at].kind else { return None };
    let relation = &rebuild.ops[at].relation;
    let mut carried: [Option<Carried>; CARRIED.len()] = CARRIED.map(|(name, data_type)| {
        let idx = relation.index_of(name)?;
        let is_it = relation.columns[idx].data_type == data_type;
        is_it.then(|| Carried { idx, name: name.to_string() })
    });
    carried[wanted..].fill(None);
    carried[UPID].as_ref()?;
    let mut id = at;
    while let Some(old) = path.pop() {
        let mut op = rebuild.ops[old].clone();
        let has_moved = op.inputs[0] != id;
        op.inputs[0] = id;
        let columns = carried.iter_mut().flatten();
        let has_changed = walk::carry(&mut op, &rebuild.ops[id].relation, columns);
        id = if has_moved || has_changed { rebuild.push(op) } else { old };
    }
    let columns = passed(&rebuild.ops[id].relation);
    Some((id, carried.map(|carried| carried.map(|carried| columns[carried.idx].clone()))))
}

fn bind(rebuild: &mut Rebuild<'_>, op: Op, input: OpId, carried: &AtHand) -> OpId {
    let kind = with_expressions(&op.kind, &mut |expr| bound(expr, carried));
    if matches!(kind, OpKind::Map { .. }) {
        return rebuild.push(Op { kind, inputs: vec![input], relation: op.relation });
    }
    let relation = rebuild.ops[input].relation.clone();
    let id = rebuild.push(Op { kind, inputs: vec![input], relation });
    trimmed(rebuild, id, &op.relation)
}

fn bound(expr: &Expr, carried: &AtHand) -> Expr {
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

pub(crate) fn promise(plan: &Plan) -> Checked {
    for (id, op) in plan.ops.iter().enumerate().filter(|(_, op)| is_row_wise(&op.kind)) {
        let (_, bottom) = path_down(&plan.ops, id, |_, op| is_row_wise(&op.kind));
        let bottom = &plan.ops[bottom];
        let has_upid = matches!(bottom.kind, OpKind::Scan(_))
            && bottom
                .relation
                .columns
                .iter()
                .any(|column| (column.name.as_str(), column.data_type) == CARRIED[UPID]);
        for expr in op.kind.expressions() {
            let mut unbound = None;
            expr.walk(&mut |part| match part {
                Expr::Call { func, args, .. } if args.is_empty() && for_row(func).is_some() => {
                    unbound = Some(func.clone());
                }
                _ => {}
            });
            let is_bound = !has_upid || unbound.is_none();
            holds(is_bound, || format!("%{id} asks {unbound:?} of nobody"))?;
        }
    }
    Ok(())
}
