//! Afterwards no filter asks for what is always true: `contains(x, "")`, the form that an optional
//! text argument takes when it is left empty, is gone.
//!
//! * **Input:** any plan.
//! * **Output:** no condition with a part that is always true.
//! * **Keeps:** outputs and their relations; every row.

use weir_types::plan::OpKind;
use weir_types::{Expr, Plan, Value};

use super::Rebuild;
use super::checked::{Checked, holds};
use crate::budget::Budget;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    for op in &plan.ops {
        if rebuild.is_over() {
            return plan;
        }
        let mut op = rebuild.renumbered(op);
        let id = match &op.kind {
            OpKind::Filter { predicate } => match simplified(predicate) {
                Expr::Literal(Value::Boolean(true)) => op.inputs[0],
                predicate => {
                    op.kind = OpKind::Filter { predicate };
                    rebuild.push(op)
                }
            },
            _ => rebuild.push(op),
        };
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

/// The condition without parts that are always true or never.
fn simplified(expr: &Expr) -> Expr {
    let Expr::Call { func, args, data_type } = expr else { return expr.clone() };
    let is = |expr: &Expr, wanted: bool| *expr == Expr::Literal(Value::Boolean(wanted));
    match (func.as_str(), args.as_slice()) {
        ("contains", [_, Expr::Literal(Value::String(part))]) if part.is_empty() => {
            Expr::Literal(Value::Boolean(true))
        }
        ("logicalAnd" | "logicalOr", [left, right]) => {
            // What decides an `and` is false, what decides an `or` is true.
            let decides = func == "logicalOr";
            let (left, right) = (simplified(left), simplified(right));
            if is(&left, decides) || is(&right, decides) {
                Expr::Literal(Value::Boolean(decides))
            } else if is(&left, !decides) && right.data_type() == *data_type {
                right
            } else if is(&right, !decides) && left.data_type() == *data_type {
                left
            } else {
                let args = vec![left, right];
                Expr::Call { func: func.clone(), args, data_type: *data_type }
            }
        }
        _ => expr.clone(),
    }
}

pub(crate) fn promise(plan: &Plan) -> Checked {
    let always = plan.ops.iter().position(|op| match &op.kind {
        OpKind::Filter { predicate } => simplified(predicate) != *predicate,
        _ => false,
    });
    holds(always.is_none(), || format!("{always:?} asks for what is always true"))
}
