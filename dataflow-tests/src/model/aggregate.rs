//! Aggregates from their definitions, each over all its rows at once: nothing is merged, nothing
//! taken back.

use weir_types::plan::AggCall;
use weir_types::{DataType, Value};

use super::paths::clusters_text;
use super::{ModelError, Row, exact};

/// The result of one call over the rows of one group.
pub(super) fn evaluate(call: &AggCall, rows: &[Row]) -> Result<Value, ModelError> {
    let column: Vec<&Value> = call
        .args
        .first()
        .map(|&arg| rows.iter().map(|row| &row[arg]).collect())
        .unwrap_or_default();
    let arg_type = call.arg_types.first().copied();
    Ok(match (call.func.as_str(), arg_type) {
        ("count", _) => Value::Int64(rows.len() as i64),
        ("sum", Some(DataType::Boolean)) => Value::Int64(trues(&column)),
        ("sum", Some(DataType::Int64)) => Value::Int64(
            integers(&column).into_iter().fold(0i64, |sum, value| sum.wrapping_add(value)),
        ),
        ("sum", Some(DataType::Float64)) => Value::Float64(exact::sum(&floats(&column))),
        ("mean", Some(data_type)) => Value::Float64(mean(data_type, &column)),
        ("min", Some(data_type)) => extreme(data_type, &column, true),
        ("max", Some(data_type)) => extreme(data_type, &column, false),
        ("any", Some(data_type)) => any(call, rows).unwrap_or(data_type.zero()),
        ("quantiles", Some(data_type)) => quantiles_text(data_type, &column),
        ("_build_request_path_clusters", _) => Value::str(&clusters_text(&texts(&column))),
        (func, _) => return Err(ModelError::UnknownAggregate(func.to_string())),
    })
}

fn trues(column: &[&Value]) -> i64 {
    column.iter().filter(|value| matches!(value, Value::Boolean(true))).count() as i64
}

fn integers(column: &[&Value]) -> Vec<i64> {
    column
        .iter()
        .filter_map(|value| match value {
            Value::Int64(v) | Value::Time64Ns(v) => Some(*v),
            _ => None,
        })
        .collect()
}

fn texts(column: &[&Value]) -> Vec<String> {
    column
        .iter()
        .filter_map(|value| match value {
            Value::String(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
        .collect()
}

fn floats(column: &[&Value]) -> Vec<f64> {
    column
        .iter()
        .filter_map(|value| if let Value::Float64(v) = value { Some(*v) } else { None })
        .collect()
}

fn mean(data_type: DataType, column: &[&Value]) -> f64 {
    let sum = match data_type {
        DataType::Boolean => trues(column) as f64,
        DataType::Float64 => exact::sum(&floats(column)),
        _ => integers(column).into_iter().map(i128::from).sum::<i128>() as f64,
    };
    if column.is_empty() { f64::NAN } else { sum / column.len() as f64 }
}

/// The smallest or greatest number; of none, the type's greatest or lowest value.
fn extreme(data_type: DataType, column: &[&Value], smallest: bool) -> Value {
    if data_type == DataType::Float64 {
        let numbers = floats(column).into_iter().filter(|value| !value.is_nan());
        let found = if smallest {
            numbers.min_by(f64::total_cmp).unwrap_or(f64::MAX)
        } else {
            numbers.max_by(f64::total_cmp).unwrap_or(f64::MIN)
        };
        return Value::Float64(found);
    }
    let numbers = integers(column).into_iter();
    let found = if smallest {
        numbers.min().unwrap_or(i64::MAX)
    } else {
        numbers.max().unwrap_or(i64::MIN)
    };
    if data_type == DataType::Time64Ns { Value::Time64Ns(found) } else { Value::Int64(found) }
}

/// The value of the row with the smallest (`time_`, value).
fn any(call: &AggCall, rows: &[Row]) -> Option<Value> {
    let &arg = call.args.first()?;
    rows.iter()
        .map(|row| (call.time.map(|time| row[time].clone()), row[arg].clone()))
        .min()
        .map(|(_, value)| value)
}

/// Percents whose nearest ranks are reported.
pub const PERCENTS: [u64; 8] = [1, 10, 25, 50, 75, 90, 95, 99];

/// What is reported at each of [`PERCENTS`]: the midpoint of the bucket of the value at rank
/// ⌈p·n/100⌉. `None` if there is no number.
fn quantiles(data_type: DataType, column: &[&Value]) -> Option<[f64; PERCENTS.len()]> {
    if data_type == DataType::Float64 {
        let mut values = floats(column);
        values.retain(|value| !value.is_nan());
        values.sort_by(f64::total_cmp);
        nearest_ranks(&values).map(|found| found.map(midpoint_of_float))
    } else {
        let mut values = integers(column);
        values.sort_unstable();
        nearest_ranks(&values).map(|found| found.map(midpoint_of_integer))
    }
}

fn quantiles_text(data_type: DataType, column: &[&Value]) -> Value {
    let Some(found) = quantiles(data_type, column) else { return Value::str("") };
    let fields: Vec<String> = PERCENTS
        .iter()
        .zip(found)
        .map(|(percent, value)| format!("\"p{percent:02}\":{}", double_text(value)))
        .collect();
    Value::String(format!("{{{}}}", fields.join(",")).into_bytes())
}

/// Shortest digits that read back as the value, always with a decimal point or an exponent; the
/// exponent from 10^21 on and below 10^-6.
fn double_text(value: f64) -> String {
    let plain = format!("{value}");
    if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        let text = format!("{value:e}");
        if text.contains('.') { text } else { text.replace('e', ".0e") }
    } else if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

/// The exact values at the nearest ranks of [`PERCENTS`] in sorted values.
#[must_use]
pub fn nearest_ranks<T: Copy>(sorted: &[T]) -> Option<[T; PERCENTS.len()]> {
    let count = sorted.len() as u64;
    (count > 0)
        .then(|| PERCENTS.map(|percent| sorted[((percent * count).div_ceil(100) - 1) as usize]))
}

/// Integers are cut into 64 buckets an octave (exact below 128); the midpoint of the integers in
/// the value's bucket.
#[must_use]
pub fn midpoint_of_integer(value: i64) -> f64 {
    let magnitude = u128::from(value.unsigned_abs());
    let mut width = 1u128;
    while magnitude / width >= 128 {
        width *= 2;
    }
    let first = magnitude / width * width;
    // Twice the midpoint is an integer, so that only the conversion rounds.
    let midpoint = (2 * first + width - 1) as f64 / 2.0;
    if value < 0 { -midpoint } else { midpoint }
}

/// Doubles: 64 buckets an octave by the leading mantissa bits, the midpoint of the interval; the
/// bucket at zero reports zero, infinities the greatest double.
#[must_use]
pub fn midpoint_of_float(value: f64) -> f64 {
    const DROPPED: u64 = (1 << 46) - 1;
    let magnitude = value.abs();
    if magnitude.is_infinite() {
        return f64::MAX.copysign(value);
    }
    let low = f64::from_bits(magnitude.to_bits() & !DROPPED);
    let high = f64::from_bits((magnitude.to_bits() | DROPPED) + 1);
    let midpoint = match (low == 0.0, high.is_finite()) {
        (true, _) if value >= 0.0 => return 0.0,
        (_, true) => low + (high - low) / 2.0,
        (_, false) => low,
    };
    midpoint.copysign(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any as anything, prop_assert, proptest};

    use super::*;

    proptest! {
        /// The definition itself is honest: every midpoint lies within 0.8 % of the value.
        #[test]
        fn midpoints_are_close(integer in anything::<i64>(), float in anything::<f64>()) {
            let close = |value: f64, midpoint: f64| (value - midpoint).abs() <= value.abs() * 0.008;
            prop_assert!(close(integer as f64, midpoint_of_integer(integer)));
            // The buckets of doubles are coarse among subnormals only.
            if float.is_normal() {
                prop_assert!(close(float, midpoint_of_float(float)));
            }
        }
    }

    /// The edges of buckets: catches an off-by-one in the width of a bucket.
    #[test]
    fn known_midpoints() {
        for exact in [0, 1, 127, -127] {
            assert_eq!(midpoint_of_integer(exact), exact as f64);
        }
        assert_eq!(midpoint_of_integer(128), 128.5);
        assert_eq!(midpoint_of_integer(129), 128.5);
        assert_eq!(midpoint_of_integer(-256), -257.5);
        assert_eq!(midpoint_of_float(1.0), 1.0 + 1.0 / 128.0);
        assert_eq!(midpoint_of_float(f64::NEG_INFINITY), f64::MIN);
        assert_eq!(midpoint_of_float(-0.0).to_bits(), 0);
        assert_eq!(nearest_ranks(&[5]), Some([5; PERCENTS.len()]));
        assert_eq!(
            nearest_ranks(&(1..=200).collect::<Vec<_>>()),
            Some([2, 20, 50, 100, 150, 180, 190, 198])
        );
    }
}
