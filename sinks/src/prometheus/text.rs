//! The text that is scraped (exposition format 0.0.4). A name is a column's, with `_` for each character that
//! names may not have and before a leading digit.

use std::collections::{BTreeMap, BTreeSet};

use weir_types::{DataType, Value};

use super::Shown;
use crate::csv;
use crate::delivery::OutputInfo;

/// Columns by what becomes of them, with their names.
pub(super) struct Columns {
    labels: Vec<(usize, String)>,
    values: Vec<(usize, String)>,
}

pub(super) fn name_of(column: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = column.chars().map(fits).collect();
    let needs_letter = name.chars().next().is_none_or(|first| first.is_ascii_digit());
    if needs_letter { format!("_{name}") } else { name }
}

pub(super) fn columns_of(info: &OutputInfo) -> Result<Columns, String> {
    let (mut labels, mut values) = (Vec::new(), Vec::new());
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (at, column) in info.relation.columns.iter().enumerate() {
        let is_key = info.key.contains(&column.name);
        let is_number =
            matches!(column.data_type, DataType::Int64 | DataType::Float64 | DataType::Boolean);
        if !is_key && !is_number {
            continue;
        }
        let name = name_of(&column.name);
        if is_key && name.starts_with("__") {
            return Err(format!(
                "`{}`: labels that begin with `__` are Prometheus' own: rename the column",
                column.name
            ));
        }
        if let Some(other) = names.insert(name.clone(), &column.name) {
            return Err(format!(
                "`{other}` and `{}` would both be called `{name}`: rename one",
                column.name
            ));
        }
        if is_key { labels.push((at, name)) } else { values.push((at, name)) }
    }
    if values.is_empty() {
        return Err(format!("`{}` has no number that is not in its key", info.table));
    }
    Ok(Columns { labels, values })
}

fn push_label(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
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
pub(super) fn scrape<'a>(prefix: &str, shown: impl Iterator<Item = &'a Shown>) -> String {
    let mut out = String::new();
    let mut seen = BTreeSet::new();
    for shown in shown {
        let info = &shown.output.info;
        let Ok(columns) = columns_of(info) else { continue };
        let prefix = if shown.output.is_one_of_several {
            format!("{}_{}", name_of(prefix), name_of(&info.table))
        } else {
            name_of(prefix)
        };
        let mut families: Vec<(String, String)> = Vec::new();
        for (at, name) in &columns.values {
            let metric = format!("{prefix}_{name}");
            let desc = &info.relation.columns[*at].desc;
            let help = desc.replace('\\', "\\\\").replace('\n', "\\n");
            families
                .push((metric.clone(), format!("# HELP {metric} {help}\n# TYPE {metric} gauge\n")));
        }
        for row in shown.rows.values() {
            let values = shown.output.values(row);
            let mut labels = String::new();
            for (at, name) in &columns.labels {
                let text = values.get(*at).map(csv::field_text).unwrap_or_default();
                labels.push(if labels.is_empty() { '{' } else { ',' });
                labels.push_str(name);
                labels.push_str("=\"");
                push_label(&mut labels, &text);
                labels.push('"');
            }
            if !labels.is_empty() {
                labels.push('}');
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
        for (metric, text) in families {
            // Of two outputs with one name the first is shown: a metric may be there once.
            if seen.insert(metric) {
                out.push_str(&text);
            }
        }
    }
    out
}
