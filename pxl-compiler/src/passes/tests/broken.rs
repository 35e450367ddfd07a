//! Ways to break a plan, each at a given operator; false where the operator has nothing to break so.

use weir_types::plan::{OpKind, Plan};
use weir_types::{DataType, Expr, Value};

pub(super) type Break = fn(&mut Plan, usize) -> bool;

pub(super) const KINDS: &[(&str, Break)] = &[
    ("an input above", input_above),
    ("an input of its own", input_self),
    ("an input too many", input_more),
    ("no input", input_gone),
    ("a column out of range", column_out_of_range),
    ("a column of another type", column_type),
    ("a function that is none", unknown_function),
    ("another result", other_result),
    ("a condition that is none", condition_type),
    ("two columns of a name", same_name),
    ("a column more than it makes", column_more),
    ("a type that it does not make", relation_type),
    ("an expression fewer", expression_gone),
    ("an aggregate of other types", agg_types),
    ("an aggregate that is none", agg_unknown),
    ("keys of one side", join_keys),
    ("an operator that nobody reads", unread),
    ("a scan without time", scan_time),
    ("an output of nothing", output_gone),
    ("two outputs of a name", output_twice),
    ("another version", version),
];

fn input_above(plan: &mut Plan, at: usize) -> bool {
    let next = at + 1;
    let has = next < plan.ops.len() && !plan.ops[at].inputs.is_empty();
    if has {
        plan.ops[at].inputs[0] = next;
    }
    has
}

fn input_self(plan: &mut Plan, at: usize) -> bool {
    plan.ops[at].inputs.first_mut().map(|input| *input = at).is_some()
}

fn input_more(plan: &mut Plan, at: usize) -> bool {
    let may = at > 0 && !matches!(plan.ops[at].kind, OpKind::Union);
    if may {
        plan.ops[at].inputs.push(0);
    }
    may
}

fn input_gone(plan: &mut Plan, at: usize) -> bool {
    let had = !plan.ops[at].inputs.is_empty();
    plan.ops[at].inputs.clear();
    had
}

/// Changes the first part of the operator's expressions that `change` wants.
fn change_expr(plan: &mut Plan, at: usize, change: &dyn Fn(&mut Expr) -> bool) -> bool {
    fn walk(expr: &mut Expr, change: &dyn Fn(&mut Expr) -> bool) -> bool {
        change(expr)
            || match expr {
                Expr::Call { args, .. } => args.iter_mut().any(|arg| walk(arg, change)),
                _ => false,
            }
    }
    match &mut plan.ops[at].kind {
        OpKind::Filter { predicate } => walk(predicate, change),
        OpKind::Map { exprs } => exprs.iter_mut().any(|expr| walk(expr, change)),
        _ => false,
    }
}

fn column_out_of_range(plan: &mut Plan, at: usize) -> bool {
    if let OpKind::Aggregate { group, .. } = &mut plan.ops[at].kind
        && let Some(idx) = group.first_mut()
    {
        *idx = 1000;
        return true;
    }
    change_expr(plan, at, &|expr| match expr {
        Expr::Column { idx, .. } => {
            *idx = 1000;
            true
        }
        _ => false,
    })
}

fn column_type(plan: &mut Plan, at: usize) -> bool {
    change_expr(plan, at, &|expr| match expr {
        Expr::Column { data_type, .. } if *data_type != DataType::Float64 => {
            *data_type = DataType::Float64;
            true
        }
        _ => false,
    })
}

fn unknown_function(plan: &mut Plan, at: usize) -> bool {
    change_expr(plan, at, &|expr| match expr {
        Expr::Call { func, .. } => {
            func.push_str("_no_such");
            true
        }
        _ => false,
    })
}

fn other_result(plan: &mut Plan, at: usize) -> bool {
    change_expr(plan, at, &|expr| match expr {
        Expr::Call { data_type, .. } => {
            *data_type = DataType::Uint128;
            true
        }
        _ => false,
    })
}

fn condition_type(plan: &mut Plan, at: usize) -> bool {
    let OpKind::Filter { predicate } = &mut plan.ops[at].kind else { return false };
    *predicate = Expr::Literal(Value::Int64(1));
    true
}

fn same_name(plan: &mut Plan, at: usize) -> bool {
    let columns = &mut plan.ops[at].relation.columns;
    if columns.len() < 2 {
        return false;
    }
    columns[1].name = columns[0].name.clone();
    true
}

fn column_more(plan: &mut Plan, at: usize) -> bool {
    let columns = &mut plan.ops[at].relation.columns;
    let Some(mut column) = columns.last().cloned() else { return false };
    column.name.push_str("_more");
    columns.push(column);
    true
}

fn relation_type(plan: &mut Plan, at: usize) -> bool {
    if matches!(plan.ops[at].kind, OpKind::Scan(_)) {
        return false;
    }
    let Some(column) = plan.ops[at].relation.columns.first_mut() else { return false };
    let other =
        if column.data_type == DataType::Boolean { DataType::Int64 } else { DataType::Boolean };
    column.data_type = other;
    true
}

fn expression_gone(plan: &mut Plan, at: usize) -> bool {
    let OpKind::Map { exprs } = &mut plan.ops[at].kind else { return false };
    exprs.pop().is_some()
}

fn agg_types(plan: &mut Plan, at: usize) -> bool {
    let OpKind::Aggregate { aggs, .. } = &mut plan.ops[at].kind else { return false };
    let Some(data_type) = aggs.first_mut().and_then(|agg| agg.arg_types.first_mut()) else {
        return false;
    };
    let other = if *data_type == DataType::Boolean { DataType::Int64 } else { DataType::Boolean };
    *data_type = other;
    true
}

fn agg_unknown(plan: &mut Plan, at: usize) -> bool {
    let OpKind::Aggregate { aggs, .. } = &mut plan.ops[at].kind else { return false };
    aggs.first_mut().map(|agg| agg.func.push_str("_no_such")).is_some()
}

fn join_keys(plan: &mut Plan, at: usize) -> bool {
    let OpKind::Join { left_on, .. } = &mut plan.ops[at].kind else { return false };
    left_on.pop().is_some()
}

fn unread(plan: &mut Plan, at: usize) -> bool {
    let op = plan.ops[at].clone();
    plan.ops.push(op);
    true
}

fn scan_time(plan: &mut Plan, at: usize) -> bool {
    let op = &mut plan.ops[at];
    let (OpKind::Scan(scan), Some(idx)) = (&mut op.kind, op.relation.time_idx()) else {
        return false;
    };
    scan.columns[idx] = "when".to_string();
    op.relation.columns[idx].name = "when".to_string();
    true
}

fn output_gone(plan: &mut Plan, _at: usize) -> bool {
    plan.outputs[0].op = plan.ops.len();
    true
}

fn output_twice(plan: &mut Plan, _at: usize) -> bool {
    let output = plan.outputs[0].clone();
    plan.outputs.push(output);
    true
}

fn version(plan: &mut Plan, _at: usize) -> bool {
    plan.version += 1;
    true
}
