//! What functions will give, guessed before a row is seen: how many different values an expression has, which share
//! of rows a filter keeps, how large an accumulator becomes. For estimates only: nothing that is computed depends on
//! it, and it evaluates nothing.

use weir_types::acc::Acc;
use weir_types::expr::Expr;
use weir_types::plan::AggCall;
use weir_types::{DataType, Value};

use crate::aggregate::{AggFn, Input};
use crate::scalar::reads_names;

/// Values of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    /// How many different ones; of an event time, as many as the window has nanoseconds.
    pub distinct: f64,
    /// Packed.
    pub bytes: f64,
    /// Of event times and what is made of them: the time that one value stands for.
    pub span_ns: Option<f64>,
}

/// Names that services, pods and processes have.
const NAMES_DISTINCT: f64 = 30.0;
const TEXT_BYTES: f64 = 24.0;
/// Nobody can say more: a filter of which nothing is known, an order, an equality (values that are asked for are
/// more frequent than others).
const PASS_UNKNOWN: f64 = 0.25;
const PASS_ORDER: f64 = 0.33;
const PASS_EQUAL_MIN: f64 = 0.1;
/// A sketch of values that spread over about five octaves has no more buckets.
const SKETCH_BUCKETS: f64 = 300.0;
const BUCKET_BYTES: f64 = 16.0;
/// Heap of an exact sum of floats.
const FLOAT_SUM_BYTES: f64 = 64.0;
/// A tuple of a bag beside its bytes.
const TUPLE_BYTES: f64 = 64.0;

/// Packed bytes of a value of fixed size; of a text, of a short one.
#[must_use]
pub fn packed_bytes(data_type: DataType) -> f64 {
    match data_type {
        DataType::Boolean => 1.0,
        DataType::Int64 | DataType::Float64 | DataType::Time64Ns => 8.0,
        DataType::Uint128 => 16.0,
        DataType::String => TEXT_BYTES,
    }
}

/// How many of `kinds` there are in so many draws.
#[must_use]
pub fn seen(kinds: f64, draws: f64) -> f64 {
    if kinds < 1.0 || draws <= 0.0 {
        return 0.0;
    }
    // Of so many kinds, hardly one is drawn twice.
    if kinds > 1e6 * draws { draws } else { -kinds * (-draws / kinds).exp_m1() }
}

fn literal_number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(Value::Int64(number) | Value::Time64Ns(number)) => Some(*number as f64),
        Expr::Literal(Value::Float64(number)) => Some(*number),
        _ => None,
    }
}

/// Of an expression over these columns.
#[must_use]
pub fn values(expr: &Expr, columns: &[Values]) -> Values {
    let bytes = packed_bytes(expr.data_type());
    let one = Values { distinct: 1.0, bytes, span_ns: None };
    match expr {
        Expr::Column { idx, .. } => columns.get(*idx).copied().unwrap_or(one),
        Expr::Literal(Value::String(text)) => Values { bytes: text.len() as f64 + 2.0, ..one },
        Expr::Literal(_) | Expr::Now { .. } => one,
        Expr::Call { func, args, data_type } => called(func, args, *data_type, columns),
    }
}

fn called(func: &str, args: &[Expr], data_type: DataType, columns: &[Values]) -> Values {
    let of_args: Vec<Values> = args.iter().map(|arg| values(arg, columns)).collect();
    let product = of_args.iter().fold(1.0, |all: f64, arg| (all * arg.distinct).min(1e18));
    let span_ns = of_args.iter().find_map(|arg| arg.span_ns);
    let texts = of_args.iter().zip(args).filter(|(_, arg)| arg.data_type() == DataType::String);
    let longest = texts.map(|(values, _)| values.bytes).fold(0.0, f64::max);
    let bytes = match data_type {
        DataType::String if longest > 0.0 => longest,
        other => packed_bytes(other),
    };
    if data_type == DataType::Boolean {
        return Values { distinct: 2.0, bytes, span_ns: None };
    }
    if reads_names(func) {
        return Values { distinct: NAMES_DISTINCT, bytes, span_ns: None };
    }
    let size = args.get(1).and_then(literal_number).filter(|size| *size >= 1.0);
    match (func, size) {
        ("bin", Some(size)) => Values {
            distinct: (product / size).max(1.0),
            bytes,
            span_ns: span_ns.map(|span| span.max(size)),
        },
        ("modulo", Some(size)) => Values { distinct: product.min(size), bytes, span_ns: None },
        ("select", _) => {
            let branches = of_args.iter().skip(1).map(|arg| arg.distinct).sum::<f64>();
            Values { distinct: branches, bytes, span_ns }
        }
        _ => Values { distinct: product, bytes, span_ns },
    }
}

/// The share of rows of which the expression is true.
#[must_use]
pub fn passing(expr: &Expr, columns: &[Values]) -> f64 {
    let Expr::Call { func, args, .. } = expr else {
        return match expr {
            Expr::Literal(Value::Boolean(holds)) => f64::from(u8::from(*holds)),
            _ => 0.5,
        };
    };
    let each: Vec<f64> = match func.as_str() {
        "logicalAnd" | "logicalOr" | "logicalNot" => {
            args.iter().map(|arg| passing(arg, columns)).collect()
        }
        _ => Vec::new(),
    };
    match func.as_str() {
        "logicalAnd" => each.iter().product(),
        "logicalOr" => each.iter().sum::<f64>().min(1.0),
        "logicalNot" => 1.0 - each.first().copied().unwrap_or(0.0) / 2.0,
        "equal" => {
            let kinds = args.iter().map(|arg| values(arg, columns).distinct).fold(1.0, f64::max);
            (1.0 / kinds).max(PASS_EQUAL_MIN)
        }
        "notEqual" => 1.0,
        "lessThan" | "lessThanEqual" | "greaterThan" | "greaterThanEqual" => PASS_ORDER,
        _ => PASS_UNKNOWN,
    }
}

/// Bytes of an aggregate's accumulator after so many rows. `rows_go`: of rows that are taken back, too. Nothing for a
/// call that there is not: it does not compile either.
#[must_use]
pub fn accumulator_bytes(call: &AggCall, rows_go: bool, rows: f64, columns: &[Values]) -> f64 {
    let input = if rows_go { Input::Retractable } else { Input::AppendOnly };
    let Ok(agg) = AggFn::new(call, input) else { return 0.0 };
    let args = || call.args.iter().filter_map(|arg| columns.get(*arg));
    let text_bytes = || args().map(|values| values.bytes).sum::<f64>();
    let heap = match agg.zero() {
        Acc::Count(_) | Acc::SumInt(_) | Acc::MeanInt { .. } => 0.0,
        Acc::SumFloat(_) | Acc::MeanFloat { .. } => FLOAT_SUM_BYTES,
        Acc::Quantiles(_) => {
            // Its vector has room to spare.
            BUCKET_BYTES * 1.5 * seen(SKETCH_BUCKETS, rows)
        }
        Acc::Min(_) | Acc::Max(_) | Acc::Any(_) => {
            if call.data_type == DataType::String {
                text_bytes()
            } else {
                0.0
            }
        }
        Acc::Bag(_) => {
            let kinds = args().fold(1.0, |all: f64, values| (all * values.distinct).min(1e18));
            seen(kinds, rows) * (text_bytes() + TUPLE_BYTES)
        }
    };
    size_of::<Acc>() as f64 + heap
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Values = Values { distinct: 60e9, bytes: 8.0, span_ns: Some(1.0) };
    const STATUS: Values = Values { distinct: 12.0, bytes: 8.0, span_ns: None };

    fn column(idx: usize, data_type: DataType) -> Expr {
        Expr::Column { idx, data_type }
    }

    fn call(func: &str, data_type: DataType, args: Vec<Expr>) -> Expr {
        Expr::Call { func: func.to_string(), args, data_type }
    }

    fn int(number: i64) -> Expr {
        Expr::Literal(Value::Int64(number))
    }

    /// A bin of the event time has as many values as the window has bins, and knows how long one is; what is made of
    /// few values has few. Catches a time column that makes each row a group of its own.
    #[test]
    fn bins_are_counted() {
        let time = column(0, DataType::Time64Ns);
        let bin = call("bin", DataType::Time64Ns, vec![time, int(10_000_000_000)]);
        let found = values(&bin, &[TIME, STATUS]);
        assert_eq!((found.distinct, found.span_ns), (6.0, Some(10e9)));
        let class = call("bin", DataType::Int64, vec![column(1, DataType::Int64), int(100)]);
        assert_eq!(values(&class, &[TIME, STATUS]).distinct, 1.0);
        let name = call("upid_to_service_name", DataType::String, vec![TIME_ARG]);
        assert_eq!(values(&name, &[TIME]).distinct, NAMES_DISTINCT);
    }

    const TIME_ARG: Expr = Expr::Column { idx: 0, data_type: DataType::Uint128 };

    /// Shares stay between nothing and all, whatever stands in a filter.
    #[test]
    fn shares_are_shares() {
        let columns = [TIME, STATUS];
        let equal = call("equal", DataType::Boolean, vec![column(1, DataType::Int64), int(404)]);
        let two = |func: &str| call(func, DataType::Boolean, vec![equal.clone(), equal.clone()]);
        assert_eq!(passing(&equal, &columns), PASS_EQUAL_MIN);
        assert!(passing(&two("logicalAnd"), &columns) < PASS_EQUAL_MIN);
        assert!(passing(&two("logicalOr"), &columns) > PASS_EQUAL_MIN);
        let many = (0..20).fold(equal.clone(), |all, _| {
            call("logicalOr", DataType::Boolean, vec![all, equal.clone()])
        });
        assert_eq!(passing(&many, &columns), 1.0);
        assert_eq!(passing(&Expr::Literal(Value::Boolean(false)), &columns), 0.0);
    }

    /// Draws of few kinds find all of them, of many kinds hardly one twice; nothing is made of nothing.
    #[test]
    fn kinds_are_found() {
        assert!((seen(10.0, 1_000.0) - 10.0).abs() < 1e-6);
        assert!((seen(1e12, 1_000.0) - 1_000.0).abs() < 1.0);
        assert_eq!((seen(0.0, 5.0), seen(5.0, 0.0)), (0.0, 0.0));
    }

    /// A sketch grows with its rows up to a bound, a count does not, and a minimum of rows that go keeps them.
    #[test]
    fn accumulators_grow_as_they_do() {
        let agg = |func: &str, result| AggCall {
            func: func.to_string(),
            args: vec![1],
            arg_types: vec![DataType::Int64],
            data_type: result,
            time: None,
        };
        let latency = [TIME, Values { distinct: 1e9, bytes: 8.0, span_ns: None }];
        let bytes =
            |call: &AggCall, rows_go, rows| accumulator_bytes(call, rows_go, rows, &latency);
        let (count, quantiles) =
            (agg("count", DataType::Int64), agg("quantiles", DataType::String));
        assert_eq!(bytes(&count, false, 1.0), bytes(&count, false, 1e6));
        assert!(bytes(&quantiles, false, 1_000.0) > 5.0 * bytes(&quantiles, false, 10.0));
        assert!(bytes(&quantiles, false, 1e9) < 8_000.0);
        let least = agg("min", DataType::Int64);
        assert!(bytes(&least, true, 1_000.0) > 100.0 * bytes(&least, false, 1_000.0));
        assert_eq!(bytes(&agg("no such", DataType::Int64), false, 5.0), 0.0);
    }
}
