//! The text that is scraped (exposition format 0.0.4).

use std::collections::BTreeSet;

use weir_types::Value;

use crate::series::{Rows, label, names};

fn push_label(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

fn push_number(out: &mut String, value: &Value) {
    use std::fmt::Write;
    match value {
        Value::Boolean(value) => out.push(if *value { '1' } else { '0' }),
        Value::Int64(value) => write!(out, "{value}").expect("writing to a String cannot fail"),
        Value::Float64(value) if value.is_nan() => out.push_str("NaN"),
        Value::Float64(value) if value.is_infinite() => {
            out.push_str(if *value > 0.0 { "+Inf" } else { "-Inf" });
        }
        Value::Float64(value) => {
            write!(out, "{value:?}").expect("writing to a String cannot fail");
        }
        _ => out.push_str("NaN"),
    }
}

/// All of it. A metric's series stand together.
pub(super) fn scrape<'a>(prefix: &str, shown: impl Iterator<Item = &'a Rows>) -> String {
    let mut out = String::new();
    // Of two outputs with one name the first is shown: a metric may be there once.
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for rows in shown {
        for (metric, text) in families(prefix, rows) {
            if seen.insert(metric) {
                out.push_str(&text);
            }
        }
    }
    out
}

/// The metrics of one output, each with its text.
fn families(prefix: &str, rows: &Rows) -> Vec<(String, String)> {
    let info = &rows.output.info;
    let Ok(columns) = names::columns_of(info) else { return Vec::new() };
    let prefix = names::prefix(prefix, &rows.output);
    let mut families = Vec::new();
    for (at, name) in &columns.values {
        let metric = format!("{prefix}_{name}");
        let help = info.relation.columns[*at].desc.replace('\\', "\\\\").replace('\n', "\\n");
        families.push((metric.clone(), format!("# HELP {metric} {help}\n# TYPE {metric} gauge\n")));
    }
    // Keys that are text only after they were cleaned may meet: a series may be there once.
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for row in rows.now.values() {
        let values = rows.output.values(row);
        let labels = labels(&columns, &values);
        if !seen.insert(labels.clone()) {
            continue;
        }
        for ((at, _), (metric, text)) in columns.values.iter().zip(&mut families) {
            text.push_str(metric);
            text.push_str(&labels);
            text.push(' ');
            match values.get(*at) {
                Some(value) => push_number(text, value),
                None => text.push_str("NaN"),
            }
            text.push('\n');
        }
    }
    families
}

/// `{name="value",…}`
fn labels(columns: &names::Columns, values: &[Value]) -> String {
    let mut labels = String::new();
    for (at, name) in &columns.labels {
        let text = values.get(*at).map(|value| label(value).0).unwrap_or_default();
        labels.push(if labels.is_empty() { '{' } else { ',' });
        labels.push_str(name);
        labels.push_str("=\"");
        push_label(&mut labels, &text);
        labels.push('"');
    }
    if !labels.is_empty() {
        labels.push('}');
    }
    labels
}
