//! Rows and live messages as JSON text, written straight from packed rows without a tree between.
//!
//! The value rules are the contract's and those of `weir_types::json`; a test holds the two equal.

pub mod live;

use weir_types::json::{time_text, uuid_text};
use weir_types::row::{RowReader, decode, read_str};
use weir_types::schema::Relation;
use weir_types::{DataType, PackedRow, Value};

/// The next byte from `from` on that JSON text must escape; eight are looked at at once.
fn next_escaped(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let must = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let mut at = from;
    while let Some(&chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(chunk);
        let below = |limit: u8, word: u64| word.wrapping_sub(ONES * u64::from(limit)) & !word;
        let is = |byte: u8| below(1, word ^ (ONES * u64::from(byte)));
        let found = (below(0x20, word) | is(b'"') | is(b'\\')) & HIGHS;
        if found != 0 {
            // The lowest hit is exact; above it a borrow may have set others.
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|&byte| must(byte)).map(|rest| at + rest)
}

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    let (bytes, mut clean_from) = (text.as_bytes(), 0);
    while let Some(at) = next_escaped(bytes, clean_from) {
        out.push_str(&text[clean_from..at]);
        match bytes[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => write!(out, "\\u{byte:04x}").expect("writing to a String cannot fail"),
        }
        clean_from = at + 1;
    }
    out.push_str(&text[clean_from..]);
    out.push('"');
}

fn push_f64(out: &mut String, value: f64) {
    use std::fmt::Write;
    if value.is_nan() {
        out.push_str("\"NaN\"");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    } else {
        // `{:?}` is the shortest text that reads back to the same bits; JSON takes its exponents.
        write!(out, "{value:?}").expect("writing to a String cannot fail");
    }
}

/// Appends one value.
pub fn push_value(out: &mut String, value: &Value) {
    use std::fmt::Write;
    match value {
        Value::Boolean(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::Int64(v) => write!(out, "{v}").expect("writing to a String cannot fail"),
        Value::Float64(v) => push_f64(out, *v),
        Value::String(v) => push_string(out, &String::from_utf8_lossy(v)),
        Value::Time64Ns(v) => {
            out.push('"');
            out.push_str(&time_text(*v));
            out.push('"');
        }
        Value::Uint128(v) => {
            out.push('"');
            out.push_str(&uuid_text(*v));
            out.push('"');
        }
    }
}

/// Appends a packed column; text is not copied before.
fn push_packed(out: &mut String, data_type: DataType, raw: &[u8]) {
    if data_type == DataType::String {
        push_string(out, &String::from_utf8_lossy(&read_str(raw)));
    } else if let Some(value) = decode(data_type, raw) {
        push_value(out, &value);
    }
}

/// A time, the widest value that is no string, with its quotes and comma; less for others.
const VALUE_TEXT_BYTES: usize = 16;

/// Writes rows of one relation as objects, keys in column order.
#[derive(Debug)]
pub struct RowWriter {
    /// `"name":` per column, escaped once.
    keys: Vec<String>,
    keys_bytes: usize,
    types: Vec<weir_types::DataType>,
}

impl RowWriter {
    #[must_use]
    pub fn new(relation: &Relation) -> RowWriter {
        let keys: Vec<String> = relation
            .columns
            .iter()
            .map(|column| {
                let mut key = String::new();
                push_string(&mut key, &column.name);
                key.push(':');
                key
            })
            .collect();
        let keys_bytes = keys.iter().map(|key| key.len() + VALUE_TEXT_BYTES).sum();
        RowWriter { keys, keys_bytes, types: relation.types() }
    }

    /// About what a row's text takes: keys, numbers and times at their widest, strings as if every
    /// second byte were escaped.
    #[must_use]
    pub fn text_bytes(&self, row: &PackedRow) -> usize {
        self.keys_bytes + 2 * row.0.len()
    }

    /// Appends the row's members (without braces), comma-separated. A row that does not fit the
    /// relation gives the members up to there.
    pub fn push_members(&self, out: &mut String, row: &PackedRow) {
        let mut reader = RowReader::new(&row.0);
        for (idx, (key, &data_type)) in self.keys.iter().zip(&self.types).enumerate() {
            let Some(raw) = reader.next_raw(data_type) else { return };
            if idx > 0 {
                out.push(',');
            }
            out.push_str(key);
            push_packed(out, data_type, raw);
        }
    }

    /// Appends the row as an object.
    pub fn push_row(&self, out: &mut String, row: &PackedRow) {
        out.push('{');
        self.push_members(out, row);
        out.push('}');
    }

    /// The row as `weir run -o json` prints it: with `_tableName_` first.
    #[must_use]
    pub fn named_row(&self, table: &str, row: &PackedRow) -> String {
        let mut out = String::with_capacity(128);
        out.push_str("{\"_tableName_\":");
        push_string(&mut out, table);
        if !self.keys.is_empty() {
            out.push(',');
        }
        self.push_members(&mut out, row);
        out.push('}');
        out
    }
}

/// The body of a `changes` message as it grows: everything after `"id":…,`, equal for all subscribers.
pub struct ChangesWriter {
    out: String,
    rows: usize,
}

impl ChangesWriter {
    #[must_use]
    pub fn new(table: &str, tick_unix_ns: i64) -> ChangesWriter {
        let mut out = String::with_capacity(256);
        out.push_str("\"table\":");
        push_string(&mut out, table);
        out.push_str(",\"tick\":\"");
        out.push_str(&time_text(tick_unix_ns));
        out.push_str("\",\"rows\":[");
        ChangesWriter { out, rows: 0 }
    }

    pub fn push(&mut self, writer: &RowWriter, row: &PackedRow, diff: i64) {
        use std::fmt::Write;
        if self.rows > 0 {
            self.out.push(',');
        }
        self.rows += 1;
        write!(self.out, "[{diff},").expect("writing to a String cannot fail");
        writer.push_row(&mut self.out, row);
        self.out.push(']');
    }

    /// Bytes of text so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    #[must_use]
    pub fn finish(mut self, snapshot: bool) -> String {
        let end = if snapshot { "],\"snapshot\":true}" } else { "],\"snapshot\":false}" };
        self.out.push_str(end);
        self.out
    }
}

/// The whole body at once.
#[must_use]
pub fn changes_body(
    writer: &RowWriter,
    table: &str,
    tick_unix_ns: i64,
    rows: &[(PackedRow, i64)],
    snapshot: bool,
) -> String {
    let mut changes = ChangesWriter::new(table, tick_unix_ns);
    rows.iter().for_each(|(row, diff)| changes.push(writer, row, *diff));
    changes.finish(snapshot)
}

/// A message for one subscriber from its type and a shared body.
#[must_use]
pub fn with_id(kind: &str, id: &str, body: &str) -> String {
    let mut out = String::with_capacity(body.len() + id.len() + 32);
    out.push_str("{\"type\":\"");
    out.push_str(kind);
    out.push_str("\",\"id\":");
    push_string(&mut out, id);
    out.push(',');
    out.push_str(body);
    out
}

#[cfg(test)]
mod tests {
    use weir_types::json::{row_to_json, value_to_json};
    use weir_types::{Column, SemanticType};

    use super::*;

    /// Text and tree agree on every kind of value, so that no reader can tell which one wrote it.
    #[test]
    fn text_equals_tree() {
        let values = [
            Value::Boolean(false),
            Value::Int64(i64::MIN),
            Value::Float64(5.0),
            Value::Float64(1e300),
            Value::Float64(f64::NAN),
            Value::String(vec![b'"', b'\\', 1, 10, 0xC3, 0xA9, 0xFF]),
            Value::Time64Ns(1_767_225_601_000_000_001),
            Value::Uint128(u128::MAX),
        ];
        for value in &values {
            let mut text = String::new();
            push_value(&mut text, value);
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(parsed, value_to_json(value), "{text}");
        }
        let relation = Relation::new(
            values
                .iter()
                .enumerate()
                .map(|(idx, v)| Column::new(format!("c\"{idx}"), v.data_type(), SemanticType::None))
                .collect(),
        );
        let row = PackedRow::pack(&values);
        let mut text = String::new();
        RowWriter::new(&relation).push_row(&mut text, &row);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed, serde_json::Value::Object(row_to_json(&relation, &row).unwrap()));
    }

    /// Every byte at every place of a text, alone and beside others that are escaped: catches a borrow
    /// between bytes that are looked at together.
    #[test]
    fn every_byte_at_every_place() {
        for byte in 0..=0x7F_u8 {
            for at in 0..17 {
                for other in [b'a', b'"', 0x1F, 0x20, 0x21, b'[', b'\\', b']', 0x7F] {
                    let mut text = vec![other; 17];
                    text[at] = byte;
                    let text = String::from_utf8(text).unwrap();
                    let mut out = String::new();
                    push_string(&mut out, &text);
                    assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text, "{out}");
                }
            }
        }
        let wide = "é\u{1}日本語\"ü".repeat(5);
        let mut out = String::new();
        push_string(&mut out, &wide);
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), wide);
    }

    /// A whole message reads back as the contract's shape.
    #[test]
    fn changes_message_is_the_contracts() {
        let relation = Relation::new(vec![Column::new("n", DataType::Int64, SemanticType::None)]);
        let rows = [(PackedRow::pack(&[Value::Int64(4)]), -2)];
        let body = changes_body(&RowWriter::new(&relation), "LET", 1_000_000_000, &rows, true);
        let message: weir_types::live::LiveMessage =
            serde_json::from_str(&with_id("changes", "q\"1", &body)).unwrap();
        assert_eq!(
            message,
            weir_types::live::LiveMessage::Changes {
                id: "q\"1".into(),
                table: "LET".into(),
                tick: "1970-01-01T00:00:01.000000000Z".into(),
                rows: vec![(-2, serde_json::json!({"n": 4}))],
                snapshot: true,
            }
        );
    }
}
