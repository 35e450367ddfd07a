//! Rows as comma-separated values (RFC 4180): quotes only where needed. Which columns there are, and
//! where lines end, is the caller's.

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

/// A record without its line end.
#[must_use]
pub fn record(fields: &[impl AsRef<str>]) -> String {
    let mut out = String::new();
    for (idx, field) in fields.iter().enumerate() {
        if idx > 0 {
            out.push(',');
        }
        push_field(&mut out, field.as_ref());
    }
    out
}

/// A value as a field: as in JSON, strings without their quotes.
#[must_use]
pub fn field_text(value: &Value) -> String {
    match value {
        Value::String(text) => String::from_utf8_lossy(text).into_owned(),
        other => match value_to_json(other) {
            serde_json::Value::String(text) => text,
            json => json.to_string(),
        },
    }
}

/// A row's fields.
#[must_use]
pub fn fields(relation: &Relation, row: &PackedRow) -> Vec<String> {
    row.unpack(&relation.types()).unwrap_or_default().iter().map(field_text).collect()
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
        let names: Vec<&str> = relation.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(record(&names), "\"a,b\",n");
        let row = PackedRow::pack(&[Value::str("x \"y\"\n"), Value::Float64(1.5)]);
        assert_eq!(record(&fields(&relation, &row)), "\"x \"\"y\"\"\n\",1.5");
    }
}
