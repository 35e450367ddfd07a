//! Row expressions, one row at a time. The everyday functions are written out here from their
//! definitions; what is not (`None`) is left to the caller.

use weir_types::Value;
use weir_types::Value::{Boolean, Float64, Int64, String, Time64Ns};

/// The named function applied to values; `None` if this module does not know that overload.
pub(super) fn call(func: &str, args: &[Value]) -> Option<Value> {
    match args {
        [a] => unary(func, a),
        [a, b] => arithmetic(func, a, b)
            .or_else(|| comparison(func, a, b).map(Boolean))
            .or_else(|| other_binary(func, a, b)),
        [Boolean(condition), a, b] if func == "select" => {
            Some(if *condition { a.clone() } else { b.clone() })
        }
        _ => None,
    }
}

fn unary(func: &str, a: &Value) -> Option<Value> {
    Some(match (func, a) {
        ("negate", Int64(a)) => Int64(a.wrapping_neg()),
        ("negate", Float64(a)) => Float64(-a),
        ("invert", Int64(a)) => Int64(!a),
        ("abs", Int64(a)) => Int64(a.wrapping_abs()),
        ("abs", Float64(a)) => Float64(a.abs()),
        ("floor", Float64(a)) => Int64(a.floor() as i64),
        ("ceil", Float64(a)) => Int64(a.ceil() as i64),
        ("logicalNot", Boolean(a)) => Boolean(!a),
        ("logicalNot", Int64(a)) => Boolean(*a == 0),
        ("time_to_int64", Time64Ns(a)) => Int64(*a),
        ("int64_to_time", Int64(a)) => Time64Ns(*a),
        ("length", String(a)) => Int64(a.len() as i64),
        ("itoa", Int64(a)) => Value::str(&a.to_string()),
        ("tolower", String(a)) => String(a.to_ascii_lowercase()),
        ("toupper", String(a)) => String(a.to_ascii_uppercase()),
        _ => return None,
    })
}

fn both_floats(a: &Value, b: &Value) -> Option<(f64, f64)> {
    Some(match (a, b) {
        (Float64(a), Float64(b)) => (*a, *b),
        (Float64(a), Int64(b)) => (*a, *b as f64),
        (Int64(a), Float64(b)) => (*a as f64, *b),
        _ => return None,
    })
}

fn arithmetic(func: &str, a: &Value, b: &Value) -> Option<Value> {
    if func == "divide" {
        return Some(Float64(match (a, b) {
            (Int64(a), Int64(b)) => *a as f64 / *b as f64,
            _ => both_floats(a, b).map(|(a, b)| a / b)?,
        }));
    }
    if let Some((a, b)) = both_floats(a, b) {
        return Some(Float64(match func {
            "add" => a + b,
            "subtract" => a - b,
            "multiply" => a * b,
            _ => return None,
        }));
    }
    Some(match (func, a, b) {
        ("add", Int64(a), Int64(b)) => Int64(a.wrapping_add(*b)),
        ("add", Time64Ns(a), Int64(b)) | ("add", Int64(a), Time64Ns(b)) => {
            Time64Ns(a.wrapping_add(*b))
        }
        ("add", String(a), String(b)) => String([a.as_slice(), b].concat()),
        ("subtract", Int64(a), Int64(b))
        | ("subtract", Time64Ns(a), Time64Ns(b))
        | ("subtract", Int64(a), Time64Ns(b)) => Int64(a.wrapping_sub(*b)),
        ("subtract", Time64Ns(a), Int64(b)) => Time64Ns(a.wrapping_sub(*b)),
        ("multiply", Int64(a), Int64(b)) => Int64(a.wrapping_mul(*b)),
        _ => return None,
    })
}

fn comparison(func: &str, a: &Value, b: &Value) -> Option<bool> {
    const EPSILON: f64 = 2.2e-16;
    if matches!(func, "equal" | "notEqual") {
        let equal = match (a, b) {
            (Float64(a), Float64(b)) if func == "equal" => return Some((a - b).abs() < EPSILON),
            (Float64(a), Float64(b)) => return Some((a - b).abs() > EPSILON),
            _ if a.data_type() == b.data_type() => a == b,
            // Mixed: both as doubles.
            _ => {
                let (a, b) = (as_float(a)?, as_float(b)?);
                a == b
            }
        };
        return Some(equal == (func == "equal"));
    }
    let ordering = match (a, b) {
        (Int64(a), Int64(b)) | (Time64Ns(a), Time64Ns(b)) => Some(a.cmp(b)),
        (String(a), String(b)) => Some(a.cmp(b)),
        // With a NaN every comparison is false.
        (Float64(a), Float64(b)) => a.partial_cmp(b),
        _ => return None,
    };
    match func {
        "lessThan" => Some(ordering.is_some_and(std::cmp::Ordering::is_lt)),
        "lessThanEqual" => Some(ordering.is_some_and(std::cmp::Ordering::is_le)),
        "greaterThan" => Some(ordering.is_some_and(std::cmp::Ordering::is_gt)),
        "greaterThanEqual" => Some(ordering.is_some_and(std::cmp::Ordering::is_ge)),
        _ => None,
    }
}

fn as_float(value: &Value) -> Option<f64> {
    match value {
        Boolean(v) => Some(f64::from(u8::from(*v))),
        Int64(v) => Some(*v as f64),
        Float64(v) => Some(*v),
        _ => None,
    }
}

fn other_binary(func: &str, a: &Value, b: &Value) -> Option<Value> {
    Some(match (func, a, b) {
        ("logicalAnd", Boolean(a), Boolean(b)) => Boolean(*a && *b),
        ("logicalOr", Boolean(a), Boolean(b)) => Boolean(*a || *b),
        ("modulo", Int64(a), Int64(b)) => Int64(remainder(*a, *b)),
        ("bin", Int64(a), Int64(b)) => Int64(binned(*a, *b)),
        ("bin", Time64Ns(a), Int64(b)) | ("bin", Time64Ns(a), Time64Ns(b)) => {
            Time64Ns(binned(*a, *b))
        }
        ("contains", String(a), String(b)) => {
            Boolean(b.is_empty() || a.windows(b.len()).any(|part| part == b))
        }
        _ => return None,
    })
}

/// C's remainder; of a division by zero, 0.
fn remainder(a: i64, b: i64) -> i64 {
    a.checked_rem(b).unwrap_or(0)
}

/// v − (v % size): toward zero, and v itself for size 0.
fn binned(a: i64, size: i64) -> i64 {
    a.wrapping_sub(remainder(a, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conformance cases of the language reference for the functions above.
    #[test]
    fn conforms() {
        let int = |v| Int64(v);
        let cases = [
            ("divide", vec![int(7), int(2)], Float64(3.5)),
            ("modulo", vec![int(-7), int(2)], int(-1)),
            ("modulo", vec![int(7), int(0)], int(0)),
            ("bin", vec![int(17), int(5)], int(15)),
            ("bin", vec![int(-7), int(5)], int(-5)),
            ("bin", vec![int(7), int(0)], int(7)),
            ("floor", vec![Float64(-1.5)], int(-2)),
            ("ceil", vec![Float64(-1.5)], int(-1)),
            ("floor", vec![Float64(f64::NAN)], int(0)),
            ("floor", vec![Float64(1e300)], int(i64::MAX)),
            ("equal", vec![Float64(0.1 + 0.2), Float64(0.3)], Boolean(true)),
            ("notEqual", vec![Float64(f64::NAN), Float64(0.3)], Boolean(false)),
            ("lessThanEqual", vec![Float64(f64::NAN), Float64(f64::NAN)], Boolean(false)),
            ("length", vec![Value::str("é")], int(2)),
            ("contains", vec![Value::str(""), Value::str("")], Boolean(true)),
            ("contains", vec![Value::str("abc"), Value::str("bd")], Boolean(false)),
            ("subtract", vec![Time64Ns(5), Time64Ns(7)], int(-2)),
            ("add", vec![int(5), Time64Ns(7)], Time64Ns(12)),
        ];
        for (func, args, expected) in cases {
            assert_eq!(call(func, &args), Some(expected), "{func}{args:?}");
        }
        assert_eq!(call("lessThan", &[int(1), Float64(2.0)]), None);
    }
}
