//! Rows as comma-separated values (RFC 4180): a header line, quotes only where needed.

use weir_types::json::value_to_json;
use weir_types::schema::Relation;
use weir_types::{PackedRow, Value};

fn push_field(out: &mut String, field: &str) {
    if field.contains(['"', ',', '\n', '\r']) {
        out.push('"');
        out.push_str(&field.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(field);
    }
}

/// Column names as a line.
#[must_use]
pub fn header(relation: &Relation) -> String {
    let mut out = String::new();
    for (idx, column) in relation.columns.iter().enumerate() {
        if idx > 0 {
            out.push(',');
        }
        push_field(&mut out, &column.name);
    }
    out.push('\n');
    out
}

/// One row as a line; values as in JSON, strings without their quotes.
#[must_use]
pub fn line(relation: &Relation, row: &PackedRow) -> String {
    let mut out = String::new();
    for (idx, value) in row.unpack(&relation.types()).unwrap_or_default().iter().enumerate() {
        if idx > 0 {
            out.push(',');
        }
        match value {
            Value::String(text) => push_field(&mut out, &String::from_utf8_lossy(text)),
            other => match value_to_json(other) {
                serde_json::Value::String(text) => push_field(&mut out, &text),
                json => push_field(&mut out, &json.to_string()),
            },
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use weir_types::{Column, DataType, SemanticType};

    use super::*;

    /// Commas, quotes and line ends in values stay inside their field.
    #[test]
    fn quotes_where_needed() {
        let relation = Relation::new(vec![
            Column::new("a,b", DataType::String, SemanticType::None),
            Column::new("n", DataType::Float64, SemanticType::None),
        ]);
        assert_eq!(header(&relation), "\"a,b\",n\n");
        let row = PackedRow::pack(&[Value::str("x \"y\"\n"), Value::Float64(1.5)]);
        assert_eq!(line(&relation, &row), "\"x \"\"y\"\"\n\",1.5\n");
    }
}
