//! Random well-typed row expressions over a relation.

use weir_types::{DataType, Expr, Relation};

use super::rows;
use crate::choices::Choices;

/// An expression of the type, at most `depth` calls deep. UINT128 has columns and literals only.
#[must_use]
pub fn expr(
    relation: &Relation,
    data_type: DataType,
    depth: usize,
    choices: &mut Choices<'_>,
) -> Expr {
    let columns: Vec<usize> =
        (0..relation.len()).filter(|&idx| relation.columns[idx].data_type == data_type).collect();
    let leaf = depth == 0 || data_type == DataType::Uint128;
    match choices.below(if leaf { 3 } else { 7 }) {
        0 | 1 if !columns.is_empty() => Expr::Column { idx: choices.pick(&columns), data_type },
        0..=2 => Expr::Literal(rows::value(data_type, choices)),
        _ => {
            let (func, args) = choices.pick(calls(data_type));
            let args = args.iter().map(|&arg| expr(relation, arg, depth - 1, choices)).collect();
            Expr::Call { func: func.to_string(), args, data_type }
        }
    }
}

/// Overloads by result type.
fn calls(data_type: DataType) -> &'static [(&'static str, &'static [DataType])] {
    use DataType::{Boolean as B, Float64 as F, Int64 as I, String as S, Time64Ns as T};
    match data_type {
        B => &[
            ("greaterThanEqual", &[I, I]),
            ("equal", &[S, S]),
            ("lessThan", &[T, T]),
            ("notEqual", &[F, F]),
            ("greaterThan", &[F, F]),
            ("lessThanEqual", &[S, S]),
            ("equal", &[I, F]),
            ("logicalAnd", &[B, B]),
            ("logicalOr", &[B, B]),
            ("logicalNot", &[B]),
            ("contains", &[S, S]),
            ("equal", &[DataType::Uint128, DataType::Uint128]),
        ],
        I => &[
            ("add", &[I, I]),
            ("subtract", &[T, T]),
            ("multiply", &[I, I]),
            ("modulo", &[I, I]),
            ("bin", &[I, I]),
            ("select", &[B, I, I]),
            ("floor", &[F]),
            ("length", &[S]),
            ("abs", &[I]),
            ("negate", &[I]),
            ("time_to_int64", &[T]),
        ],
        F => &[
            ("divide", &[I, I]),
            ("multiply", &[F, I]),
            ("add", &[F, F]),
            ("subtract", &[I, F]),
            ("select", &[B, F, F]),
            ("divide", &[F, F]),
        ],
        S => &[("add", &[S, S]), ("select", &[B, S, S]), ("toupper", &[S]), ("itoa", &[I])],
        T => &[
            ("bin", &[T, I]),
            ("add", &[T, I]),
            ("select", &[B, T, T]),
            ("int64_to_time", &[I]),
            ("subtract", &[T, I]),
        ],
        DataType::Uint128 => &[],
    }
}
