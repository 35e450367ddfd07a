//! What can be said of a condition by those of its parts that are known where it is asked: a condition that
//! is true only where the whole is, and one that is false only where the whole is. It decides for nobody
//! where a part is known.

use weir_types::{DataType, Expr, Value};

use super::is_late;
use crate::registry;

/// Two conditions around a third.
pub(crate) struct Bounds {
    /// Where it is true, the condition is. `None`: nowhere for certain.
    pub(crate) lower: Option<Expr>,
    /// Where the condition is true, it is. `None`: it may be true anywhere.
    pub(crate) upper: Option<Expr>,
}

/// True for what a node can compute of a row alone, and what has the same value wherever it is computed.
pub(crate) fn is_of_row_alone(expr: &Expr) -> bool {
    let mut reads_names = false;
    expr.walk(&mut |part| {
        if let Expr::Call { func, .. } = part {
            reads_names |= registry::reads_names(func);
        }
    });
    !reads_names && !is_late(expr)
}

/// Around a BOOLEAN expression, in which a part counts if it `is_known`. What holds a part that is not known
/// is at best bounded itself: conditions are taken apart at *and*, *or* and *not* only.
pub(crate) fn bounds(expr: &Expr, is_known: &dyn Fn(&Expr) -> bool) -> Bounds {
    if is_known(expr) {
        let both = Some(expr.clone());
        return Bounds { lower: both.clone(), upper: both };
    }
    match expr {
        Expr::Call { func, args, .. } => match (func.as_str(), args.as_slice()) {
            ("logicalAnd", [left, right]) => {
                let (left, right) = (bounds(left, is_known), bounds(right, is_known));
                Bounds {
                    lower: both_of("logicalAnd", left.lower, right.lower),
                    upper: either_of("logicalAnd", left.upper, right.upper),
                }
            }
            ("logicalOr", [left, right]) => {
                let (left, right) = (bounds(left, is_known), bounds(right, is_known));
                Bounds {
                    lower: either_of("logicalOr", left.lower, right.lower),
                    upper: both_of("logicalOr", left.upper, right.upper),
                }
            }
            ("logicalNot", [of]) => {
                let of = bounds(of, is_known);
                let not = |expr| call("logicalNot", vec![expr]);
                Bounds { lower: of.upper.map(not), upper: of.lower.map(not) }
            }
            _ => Bounds { lower: None, upper: None },
        },
        _ => Bounds { lower: None, upper: None },
    }
}

/// Both conditions at once.
pub(crate) fn and(left: Expr, right: Expr) -> Expr {
    call("logicalAnd", vec![left, right])
}

fn call(func: &str, args: Vec<Expr>) -> Expr {
    Expr::Call { func: func.to_string(), args, data_type: DataType::Boolean }
}

/// `None` decides.
fn both_of(func: &str, left: Option<Expr>, right: Option<Expr>) -> Option<Expr> {
    Some(call(func, vec![left?, right?]))
}

/// `None` says nothing.
fn either_of(func: &str, left: Option<Expr>, right: Option<Expr>) -> Option<Expr> {
    match (left, right) {
        (Some(left), Some(right)) => Some(call(func, vec![left, right])),
        (left, right) => left.or(right),
    }
}

/// True if a condition is the same for all rows.
pub(crate) fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(Value::Boolean(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conditions of three known and two unknown columns, at random.
    fn condition(state: &mut u64, depth: usize) -> Expr {
        let mut below = |end: u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (*state >> 33) % end
        };
        let (kind, idx) = (below(if depth == 0 { 1 } else { 4 }), below(5) as usize);
        match kind {
            0 => Expr::Column { idx, data_type: DataType::Boolean },
            1 => call("logicalNot", vec![condition(state, depth - 1)]),
            2 => and(condition(state, depth - 1), condition(state, depth - 1)),
            _ => call("logicalOr", vec![condition(state, depth - 1), condition(state, depth - 1)]),
        }
    }

    fn value(expr: &Expr, row: u32) -> bool {
        match expr {
            Expr::Column { idx, .. } => row >> idx & 1 == 1,
            Expr::Call { func, args, .. } => match (func.as_str(), args.as_slice()) {
                ("logicalNot", [of]) => !value(of, row),
                ("logicalAnd", [left, right]) => value(left, row) && value(right, row),
                ("logicalOr", [left, right]) => value(left, row) || value(right, row),
                _ => panic!("{func}"),
            },
            _ => panic!("{expr:?}"),
        }
    }

    /// For every row, the lower bound implies the condition and that implies the upper bound, and neither
    /// reads what is not known: catches a wrong side under *not*, and an *or* that forgets a part.
    #[test]
    fn bounds_are_around_it() {
        let is_known = |expr: &Expr| expr.columns().iter().all(|&idx| idx < 3);
        let mut state = 11;
        let (mut lower_count, mut upper_count) = (0, 0);
        for _ in 0..5_000 {
            let expr = condition(&mut state, 4);
            let Bounds { lower, upper } = bounds(&expr, &is_known);
            assert!(lower.iter().chain(&upper).all(is_known), "{expr:?}");
            for row in 0..1 << 5 {
                let it = value(&expr, row);
                assert!(!lower.as_ref().is_some_and(|lower| value(lower, row)) || it, "{expr:?}");
                assert!(upper.as_ref().is_none_or(|upper| value(upper, row)) || !it, "{expr:?}");
            }
            lower_count += usize::from(lower.is_some());
            upper_count += usize::from(upper.is_some());
        }
        assert!(lower_count > 1_000 && upper_count > 1_000, "{lower_count} {upper_count}");
    }
}
