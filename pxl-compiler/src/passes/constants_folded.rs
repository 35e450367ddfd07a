//! Afterwards no row expression computes from constants alone: calls of pure functions on literals
//! are literals, and where the clock cancels out (`stop_time - start_time`, both made of
//! `px.now()`) the plan does not read it.
//!
//! * **Input:** any plan.
//! * **Output:** no call of a pure function on constants alone.
//! * **Keeps:** outputs and their relations; every row.

use weir_types::{Expr, Plan, Value};

use super::Rebuild;
use super::checked::{Checked, holds};
use super::walk::with_expressions;
use crate::budget::{Budget, Cancel};
use crate::objects::fold;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    for op in &plan.ops {
        if rebuild.is_over() {
            return plan;
        }
        let mut op = rebuild.renumbered(op);
        op.kind = with_expressions(&op.kind, &mut |expr| folded(expr, budget));
        let id = rebuild.push(op);
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

fn folded(expr: &Expr, budget: &Budget) -> Expr {
    let Expr::Call { func, args, data_type } = expr else { return expr.clone() };
    let args: Vec<Expr> = args.iter().map(|arg| folded(arg, budget)).collect();
    if let Some(literal) = now_cancelled(func, &args) {
        return literal;
    }
    let values: Option<Vec<Value>> = args
        .iter()
        .map(|arg| match arg {
            Expr::Literal(value) => Some(value.clone()),
            _ => None,
        })
        .collect();
    if let Some(values) = values.filter(|values| !values.is_empty())
        && let Some(value) = fold::within(func, &values, budget)
    {
        return Expr::Literal(value);
    }
    Expr::Call { func: func.clone(), args, data_type: *data_type }
}

/// The difference of two times that move alike.
fn now_cancelled(func: &str, args: &[Expr]) -> Option<Expr> {
    let [left, right] = args else { return None };
    if func != "subtract" {
        return None;
    }
    let (a, b) = (clock(left)?, clock(right)?);
    (a.0 == b.0).then(|| Expr::Literal(Value::Int64(a.1.wrapping_sub(b.1))))
}

/// Factor and offset of an expression that is nothing but the clock.
fn clock(expr: &Expr) -> Option<(i64, i64)> {
    match expr {
        Expr::Now { factor, offset_ns } => Some((*factor, *offset_ns)),
        Expr::Call { func, args, .. } if func == "int64_to_time" => clock(args.first()?),
        _ => None,
    }
}

pub(crate) fn promise(plan: &Plan) -> Checked {
    let budget = Budget::new(Cancel::default(), None, None);
    let is_folded = |expr: &Expr| folded(expr, &budget) == *expr;
    let open = plan.ops.iter().position(|op| !op.kind.expressions().iter().all(is_folded));
    holds(open.is_none() || budget.is_over(), || format!("{open:?} computes a constant"))
}
