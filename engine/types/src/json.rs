//! Values as JSON by the contract: INT64 with all digits, FLOAT64 as number or `"NaN"`,
//! `"Infinity"`, `"-Infinity"`, STRING with U+FFFD for bytes that are not UTF-8, TIME64NS as RFC 3339
//! with nine digits and Z, UINT128 as UUID text; and the way back for rows files.

use serde_json::{Map, Number, Value as Json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::row::PackedRow;
use crate::schema::Relation;
use crate::value::{DataType, Value};

/// `2026-01-01T00:00:01.000000000Z`
#[must_use]
pub fn time_text(time_unix_ns: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_unix_ns))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.nanosecond()
    )
}

/// Reads RFC 3339 (any offset, any number of digits) or integer nanoseconds.
#[must_use]
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(ns) = text.parse::<i64>() {
        return Some(ns);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos()).ok()
}

/// Hyphenated lower-case UUID text: high 8 bytes then low 8 bytes, big-endian.
#[must_use]
pub fn uuid_text(value: u128) -> String {
    let hex = format!("{value:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[must_use]
pub fn parse_uuid(text: &str) -> Option<u128> {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    (hex.len() == 32).then(|| u128::from_str_radix(&hex, 16).ok()).flatten()
}

#[must_use]
pub fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Boolean(v) => Json::Bool(*v),
        Value::Int64(v) => Json::Number(Number::from(*v)),
        Value::Float64(v) => Number::from_f64(*v).map_or_else(
            || {
                let text = if v.is_nan() {
                    "NaN"
                } else if *v > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                Json::String(text.to_string())
            },
            Json::Number,
        ),
        Value::String(v) => Json::String(String::from_utf8_lossy(v).into_owned()),
        Value::Time64Ns(v) => Json::String(time_text(*v)),
        Value::Uint128(v) => Json::String(uuid_text(*v)),
    }
}

/// Reads a value of type `data_type`; `None` if the JSON is of another kind.
#[must_use]
pub fn value_from_json(json: &Json, data_type: DataType) -> Option<Value> {
    Some(match data_type {
        DataType::Boolean => Value::Boolean(json.as_bool()?),
        DataType::Int64 => Value::Int64(json.as_i64()?),
        DataType::Float64 => Value::Float64(match json {
            Json::String(text) => match text.as_str() {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                _ => return None,
            },
            other => other.as_f64()?,
        }),
        DataType::String => match json {
            Json::String(text) => Value::str(text),
            _ => return None,
        },
        DataType::Time64Ns => Value::Time64Ns(match json {
            Json::String(text) => parse_time(text)?,
            other => other.as_i64()?,
        }),
        DataType::Uint128 => Value::Uint128(parse_uuid(json.as_str()?)?),
    })
}

/// One row as an object, keys in column order. `None` if the row does not fit the relation.
#[must_use]
pub fn row_to_json(relation: &Relation, row: &PackedRow) -> Option<Map<String, Json>> {
    let values = row.unpack(&relation.types())?;
    Some(
        relation
            .columns
            .iter()
            .zip(&values)
            .map(|(column, value)| (column.name.clone(), value_to_json(value)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every type survives the way out and back: catches a lost digit or a wrong time zone.
    #[test]
    fn round_trips() {
        for value in [
            Value::Boolean(true),
            Value::Int64(i64::MIN),
            Value::Float64(f64::NEG_INFINITY),
            Value::Float64(0.1),
            Value::str("né"),
            Value::Time64Ns(1_767_225_601_000_000_001),
            Value::Uint128((1 << 96) | (2 << 64) | 3),
        ] {
            let json = value_to_json(&value);
            assert_eq!(value_from_json(&json, value.data_type()), Some(value.clone()), "{json}");
        }
        assert_eq!(time_text(1_767_225_601_000_000_000), "2026-01-01T00:00:01.000000000Z");
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(uuid_text((1 << 96) | (2 << 64) | 3), "00000001-0000-0002-0000-000000000003");
    }
}
