//! Random rows of real tables: values from small pools, so that groups and joins meet, mixed with
//! the values that break things (empty and non-UTF-8 strings, zero bytes, extreme integers), event
//! times on, beside and between pane edges, arrivals early, late and far too late.

use weir_types::{Column, DataType, Relation, SemanticType, Upid, Value};

use crate::choices::Choices;
use crate::model::{Arrived, Row};

/// All event times lie around this: 2026-01-01T00:00:00Z, on the edge of every pane width.
pub const BASE_UNIX_NS: i64 = 1_767_225_600 * SEC_NS;
pub const SEC_NS: i64 = 1_000_000_000;
const MS_NS: i64 = 1_000_000;

/// Tables that cases read. The last is not in the registry: it has every data type.
pub const TABLES: [&str; 5] =
    ["http_events", "let_events", "conn_stats", "process_stats", VALUES_TABLE];
pub const VALUES_TABLE: &str = "all_types";

/// The relation of one of [`TABLES`].
#[must_use]
pub fn relation(table: &str) -> Relation {
    if let Some(relation) = weir_types::tables::relation(table) {
        return relation.clone();
    }
    let column = |name: &str, data_type| Column::new(name, data_type, SemanticType::None);
    Relation::new(vec![
        column("time_", DataType::Time64Ns),
        column("flag", DataType::Boolean),
        column("number", DataType::Int64),
        column("ratio", DataType::Float64),
        column("text", DataType::String),
        column("seen", DataType::Time64Ns),
        column("upid", DataType::Uint128),
    ])
}

/// One row of the table.
#[must_use]
pub fn row(relation: &Relation, choices: &mut Choices<'_>) -> Arrived {
    let time_unix_ns = event_time(choices);
    let arrival_unix_ns = time_unix_ns + lateness(choices);
    let values: Row = relation
        .columns
        .iter()
        .map(|column| match column.name.as_str() {
            "time_" => Value::Time64Ns(time_unix_ns),
            "latency" => Value::Int64(latency(choices)),
            "resp_status" | "status" => Value::Int64(choices.pick(&[200, 404, 500, 0])),
            _ => value(column.data_type, choices),
        })
        .collect();
    Arrived { arrival_unix_ns, row: values }
}

fn event_time(choices: &mut Choices<'_>) -> i64 {
    let pane = choices.below(40) as i64 * 100 * MS_NS;
    BASE_UNIX_NS
        + match choices.below(10) {
            // Ties in time, some of them on the edge of a pane.
            0..=2 => pane % SEC_NS,
            3 | 4 => pane,
            5 => pane + 1,
            6 => pane - 1,
            7 => choices.below(20_000) as i64 * MS_NS + 123_457,
            8 => choices.below(900) as i64 * SEC_NS,
            // Long before everything: outside of every sliding window.
            _ => pane - 3 * 86_400 * SEC_NS,
        }
}

fn lateness(choices: &mut Choices<'_>) -> i64 {
    let ms = choices.below(3000) as i64 * MS_NS;
    match choices.below(12) {
        0..=4 => 0,
        5..=6 => ms,
        7 => 10 * ms,
        8 => -ms,
        9 => -10 * SEC_NS,
        10 => -10 * SEC_NS - 1,
        _ => -12 * SEC_NS,
    }
}

fn latency(choices: &mut Choices<'_>) -> i64 {
    match choices.below(4) {
        0 => choices.below(4) as i64,
        1 => choices.below(2000) as i64 * 1000,
        _ => choices.below(60_000) as i64 * MS_NS / 7,
    }
}

/// A value of the type, from a pool of few.
#[must_use]
pub fn value(data_type: DataType, choices: &mut Choices<'_>) -> Value {
    const TEXTS: [&[u8]; 8] =
        [b"a", b"b", b"", b"/cart", b"checkout", b"a\0b", b"a\0", b"\xff\xfe"];
    match data_type {
        DataType::Boolean => Value::Boolean(choices.one_in(2)),
        DataType::Int64 => Value::Int64(match choices.below(12) {
            0..=6 => choices.below(4) as i64,
            7 => -(choices.below(300) as i64),
            8 => i64::from(choices.number()) * 1_000_003,
            9 => i64::MAX,
            10 => i64::MIN,
            _ => i64::from(choices.number()) << choices.below(47),
        }),
        DataType::Float64 => Value::Float64(float(choices)),
        DataType::String => Value::String(choices.pick(&TEXTS).to_vec()),
        DataType::Time64Ns => Value::Time64Ns(match choices.below(4) {
            0 => BASE_UNIX_NS,
            1 => 0,
            2 => -1,
            _ => BASE_UNIX_NS + choices.below(5) as i64 * SEC_NS,
        }),
        DataType::Uint128 => Value::Uint128(match choices.below(6) {
            0 => 0,
            5 => u128::MAX,
            pid => Upid::new(1, pid as u32, 77).0,
        }),
    }
}

fn float(choices: &mut Choices<'_>) -> f64 {
    const ODD: [f64; 12] = [
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        -5e-324,
        1e308,
        -1e308,
        0.1,
        1e16,
    ];
    match choices.below(6) {
        0..=2 => f64::from(choices.number()) / 8.0 - 100.0,
        3 => choices.pick(&ODD),
        _ => f64::from(choices.number()) * 1.1e-3,
    }
}
