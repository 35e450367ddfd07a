//! What can be said of a condition by those of its parts that are known where it is asked: a condition that
//! is true only where the whole is, and one that is false only where the whole is. It decides for nobody
//! where a part is known.

use weir_types::{DataType, Expr, Value};

use super::is_late_itself;
use crate::registry;

/// Two conditions around a third.
pub(crate) struct Bounds {
    /// Where it is true, the condition is. `None`: nowhere for certain.
    pub(crate) lower: Option<Expr>,
    /// Where the condition is true, it is. `None`: it may be true anywhere.
    pub(crate) upper: Option<Expr>,
}

/// True for what a node can compute if it can compute the arguments, and what has the same value wherever it is
/// computed.
pub(crate) fn is_of_row_alone(expr: &Expr) -> bool {
    match expr {
        Expr::Call { func, .. } => !registry::reads_names(func) && !is_late_itself(expr),
        other => !is_late_itself(other),
    }
}

/// Around a BOOLEAN expression. `is_known` says it of one part by itself; what holds a part that is not known is at
/// best bounded: conditions are taken apart at *and*, *or* and *not* only. Each part is looked at once.
pub(crate) fn bounds(expr: &Expr, is_known: &dyn Fn(&Expr) -> bool) -> Bounds {
    around(expr, is_known).of(expr)
}

/// What is known of an expression.
enum Around {
    /// All of it: it is its own bound, which is made where it is wanted.
    Known,
    Bounds(Bounds),
}

impl Around {
    fn of(self, expr: &Expr) -> Bounds {
        match self {
            Around::Known => Bounds { lower: Some(expr.clone()), upper: Some(expr.clone()) },
            Around::Bounds(bounds) => bounds,
        }
    }
}

/// From the bottom up.
fn around(expr: &Expr, is_known: &dyn Fn(&Expr) -> bool) -> Around {
    let unknown = || Around::Bounds(Bounds { lower: None, upper: None });
    let Expr::Call { func, args, .. } = expr else {
        return if is_known(expr) { Around::Known } else { unknown() };
    };
    let parts: Vec<Around> = args.iter().map(|arg| around(arg, is_known)).collect();
    if is_known(expr) && parts.iter().all(|part| matches!(part, Around::Known)) {
        return Around::Known;
    }
    if !matches!(func.as_str(), "logicalAnd" | "logicalOr" | "logicalNot") {
        return unknown();
    }
    let mut parts = parts.into_iter().zip(args).map(|(part, arg)| part.of(arg));
    // As many as each has: of another number nothing is known.
    Around::Bounds(match (func.as_str(), parts.next(), parts.next(), parts.next()) {
        ("logicalAnd", Some(left), Some(right), None) => Bounds {
            lower: both_of("logicalAnd", left.lower, right.lower),
            upper: either_of("logicalAnd", left.upper, right.upper),
        },
        ("logicalOr", Some(left), Some(right), None) => Bounds {
            lower: either_of("logicalOr", left.lower, right.lower),
            upper: both_of("logicalOr", left.upper, right.upper),
        },
        ("logicalNot", Some(one), None, None) => {
            let not = |expr| call("logicalNot", vec![expr]);
            Bounds { lower: one.upper.map(not), upper: one.lower.map(not) }
        }
        _ => Bounds { lower: None, upper: None },
    })
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
    use weir_types::random::SplitMix;

    use super::*;

    /// Conditions of three known and two unknown columns, at random.
    fn condition(random: &mut SplitMix, depth: usize) -> Expr {
        let kind = random.below(if depth == 0 { 1 } else { 4 });
        let idx = random.below(5) as usize;
        match kind {
            0 => Expr::Column { idx, data_type: DataType::Boolean },
            1 => call("logicalNot", vec![condition(random, depth - 1)]),
            2 => and(condition(random, depth - 1), condition(random, depth - 1)),
            _ => {
                call("logicalOr", vec![condition(random, depth - 1), condition(random, depth - 1)])
            }
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
        let is_known = |part: &Expr| !matches!(part, Expr::Column { idx, .. } if *idx >= 3);
        let is_all_known = |expr: &Expr| expr.columns().iter().all(|&idx| idx < 3);
        let mut random = SplitMix(11);
        let (mut lower_count, mut upper_count) = (0, 0);
        for _ in 0..5_000 {
            let expr = condition(&mut random, 4);
            let Bounds { lower, upper } = bounds(&expr, &is_known);
            assert!(lower.iter().chain(&upper).all(is_all_known), "{expr:?}");
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

    /// A condition as deep as they come is looked at part by part, each once: catches a walk through all that is
    /// below for every part, which a script could make as long as it likes.
    #[test]
    fn each_part_is_looked_at_once() {
        let parts = std::cell::Cell::new(0_usize);
        let is_known = |part: &Expr| {
            parts.set(parts.get() + 1);
            !matches!(part, Expr::Column { idx: 0, .. })
        };
        let column = |idx| Expr::Column { idx, data_type: DataType::Boolean };
        let deep =
            (0..500).fold(column(0), |expr, _| and(expr, call("logicalNot", vec![column(1)])));
        let Bounds { lower, upper } = bounds(&deep, &is_known);
        assert_eq!(lower, None);
        assert_eq!(upper.map(|upper| crate::passes::nodes(&upper)), Some(500 * 2 + 499));
        assert!(parts.get() <= crate::passes::nodes(&deep), "{} looks", parts.get());
    }
}
