//! Objects as people and programs want them: an aligned table, a line of JSON each, or CSV. What the
//! objects are is the commands' business.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use weir_types::text;

use crate::args::Format;
use crate::failure::Failure;
use crate::output;

fn cell(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// Objects as lines of JSON, or their `columns` as a table or CSV.
pub(crate) fn list(items: &Json, columns: &[&str], format: Format) -> Result<(), Failure> {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    let cells = |item: &Json| columns.iter().map(|name| cell(&item[*name])).collect::<Vec<_>>();
    match format {
        Format::Json | Format::Jsonl => {
            items.iter().try_for_each(|item| output::line(&item.to_string()))
        }
        Format::Csv => {
            output::line(&weir_sinks::csv::record(columns))?;
            items.iter().try_for_each(|item| output::csv(&weir_sinks::csv::record(&cells(item))))
        }
        Format::Table => {
            let header = columns.iter().map(|name| name.to_uppercase()).collect();
            let rows: Vec<Vec<String>> =
                std::iter::once(header).chain(items.iter().map(cells)).collect();
            aligned(&rows)
        }
    }
}

fn aligned(rows: &[Vec<String>]) -> Result<(), Failure> {
    let width =
        |idx: usize| rows.iter().map(|row| row[idx].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{:<width$}", text::line(cell)))
            .collect();
        output::text(cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Every number and text in an object, each under its path: `{"name": "process.rss_bytes", "value"}`.
pub(crate) fn flat(object: &Json) -> Json {
    let mut rows = Vec::new();
    let mut open = vec![(String::new(), object)];
    while let Some((path, value)) = open.pop() {
        match value {
            Json::Object(members) => {
                let below = |name: &String| match path.as_str() {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                open.extend(members.iter().rev().map(|(name, value)| (below(name), value)));
            }
            leaf => rows.push(json!({"name": path, "value": leaf})),
        }
    }
    Json::Array(rows)
}

/// Members of an object of objects as a list: each with its name, and all that any of them has.
pub(crate) fn named(object: &Json) -> (Json, Vec<String>) {
    let members = object.as_object().into_iter().flatten();
    let mut keys: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let rows = members
        .map(|(name, value)| {
            let mut row = value.clone();
            for key in value.as_object().into_iter().flatten().map(|(key, _)| key) {
                if seen.insert(key.clone()) {
                    keys.push(key.clone());
                }
            }
            row["name"] = json!(name);
            row
        })
        .collect();
    keys.insert(0, "name".to_string());
    (Json::Array(rows), keys)
}
