//! Rows as text for people: aligned columns, values formatted by semantic type (durations in their
//! largest sensible unit with three digits, sizes in KiB…, rates per second, percentages). It does
//! not know terminals: colours and redrawing are the command line's.

use weir_types::json::{time_text, uuid_text};
use weir_types::schema::{Column, Relation};
use weir_types::text::line;
use weir_types::{DataType, PackedRow, SemanticType, Value};

/// Wider cells are cut with an ellipsis.
const CELL_CHARS_MAX: usize = 60;

/// Three significant digits, no exponent.
fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 || magnitude == 0.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value.abs() >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{} {}", three_digits(value), units[unit])
}

/// `1.23 ms`
#[must_use]
pub fn duration_text(ns: f64) -> String {
    match ns.abs() {
        x if x < 60e9 => scaled(ns, 1000.0, &["ns", "µs", "ms", "s"]),
        x if x < 3600e9 => format!("{} min", three_digits(ns / 60e9)),
        _ => format!("{} h", three_digits(ns / 3600e9)),
    }
}

/// `12.3 KiB`
#[must_use]
pub fn bytes_text(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

fn by_semantic(number: f64, semantic: SemanticType) -> Option<String> {
    Some(match semantic {
        SemanticType::DurationNs => duration_text(number),
        SemanticType::Bytes => bytes_text(number),
        SemanticType::Percent => format!("{} %", three_digits(number * 100.0)),
        SemanticType::ThroughputPerNs => format!("{} /s", three_digits(number * 1e9)),
        SemanticType::ThroughputBytesPerNs => format!("{}/s", bytes_text(number * 1e9)),
        _ => return None,
    })
}

/// The p50, p90 and p99 of a quantiles text.
fn quantiles_text(json: &str, duration: bool) -> Option<String> {
    let parsed: serde_json::Value = serde_json::from_str(json).ok()?;
    let parts: Option<Vec<String>> = ["p50", "p90", "p99"]
        .iter()
        .map(|key| {
            let value = parsed.get(key)?.as_f64()?;
            Some(if duration { duration_text(value) } else { three_digits(value) })
        })
        .collect();
    Some(parts?.join(" / "))
}

/// One cell as people read it.
#[must_use]
pub fn cell(column: &Column, value: &Value) -> String {
    match value {
        Value::Boolean(v) => v.to_string(),
        Value::Int64(v) => by_semantic(*v as f64, column.semantic).unwrap_or_else(|| v.to_string()),
        Value::Float64(v) => {
            by_semantic(*v, column.semantic).unwrap_or_else(|| three_digits_or_text(*v))
        }
        Value::Time64Ns(v) => time_text(*v),
        Value::Uint128(v) => uuid_text(*v),
        Value::String(v) => {
            let text = String::from_utf8_lossy(v);
            let quantiles = match column.semantic {
                SemanticType::DurationNsQuantiles => quantiles_text(&text, true),
                SemanticType::Quantiles => quantiles_text(&text, false),
                SemanticType::ScriptReference => serde_json::from_str::<serde_json::Value>(&text)
                    .ok()
                    .and_then(|link| Some(link.get("label")?.as_str()?.to_string())),
                _ => None,
            };
            line(&quantiles.unwrap_or_else(|| text.into_owned())).into_owned()
        }
    }
}

fn three_digits_or_text(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:e}") } else { format!("{value:.3}") }
}

fn cut(text: String) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    let mut short: String = text.chars().take(CELL_CHARS_MAX - 1).collect();
    short.push('…');
    short
}

/// The rows as aligned lines, a header first. Numbers stand to the right.
#[must_use]
pub fn lines<'a>(relation: &Relation, rows: impl Iterator<Item = &'a PackedRow>) -> Vec<String> {
    let types = relation.types();
    let cells: Vec<Vec<String>> = rows
        .filter_map(|row| row.unpack(&types))
        .map(|values| relation.columns.iter().zip(&values).map(|(c, v)| cut(cell(c, v))).collect())
        .collect();
    let header: Vec<String> = relation
        .columns
        .iter()
        .map(|column| line(&column.name.to_uppercase()).into_owned())
        .collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|idx| {
            let widest = cells.iter().map(|row| row[idx].chars().count()).max().unwrap_or(0);
            widest.max(header[idx].chars().count())
        })
        .collect();
    let aligned = |row: &[String]| {
        let padded = row.iter().enumerate().map(|(idx, text)| {
            let right = matches!(types[idx], DataType::Int64 | DataType::Float64);
            if right {
                format!("{text:>width$}", width = widths[idx])
            } else {
                format!("{text:<width$}", width = widths[idx])
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    std::iter::once(aligned(&header)).chain(cells.iter().map(|row| aligned(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units follow the semantic type, and the columns line up.
    #[test]
    fn formats_by_meaning() {
        let relation = Relation::new(vec![
            Column::new("service", DataType::String, SemanticType::ServiceName),
            Column::new("latency", DataType::Int64, SemanticType::DurationNs),
            Column::new("rps", DataType::Float64, SemanticType::ThroughputPerNs),
            Column::new("q", DataType::String, SemanticType::DurationNsQuantiles),
        ]);
        let row = PackedRow::pack(&[
            Value::str("cart\u{1b}[2J"),
            Value::Int64(1_234_567),
            Value::Float64(2.5e-8),
            Value::str(r#"{"p50":1000.0,"p90":2000000.0,"p99":3.0e9}"#),
        ]);
        assert_eq!(
            lines(&relation, std::iter::once(&row)),
            [
                "SERVICE   LATENCY      RPS  Q",
                "cart [2J  1.23 ms  25.0 /s  1.00 µs / 2.00 ms / 3.00 s",
            ]
        );
    }

    /// No value, of whatever semantic type, and no name reaches the terminal as more than text.
    #[test]
    fn shows_nothing_but_text() {
        let relation = Relation::new(vec![
            Column::new("a\u{1b}]0;x\u{7}", DataType::String, SemanticType::None),
            Column::new("link", DataType::String, SemanticType::ScriptReference),
        ]);
        let row = PackedRow::pack(&[
            Value::str("\u{202e}\u{9b}2J\r\n"),
            Value::str("{\"label\":\"x\\u001b[2J\\u202e\"}"),
        ]);
        for text in lines(&relation, std::iter::once(&row)) {
            assert_eq!(line(&text), text);
        }
    }
}
