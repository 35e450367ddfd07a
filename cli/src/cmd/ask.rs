//! The commands that show what the server says of itself.

use serde_json::Value as Json;

use crate::args::{Format, OutputArgs};
use crate::client::Connection;
use crate::failure::Failure;
use crate::output;

pub(crate) fn stats(connection: &Connection, args: OutputArgs) -> Result<(), Failure> {
    let stats = connection.get("/api/v1/stats")?;
    if output::format_or_default(args.output) != Format::Table {
        return output::line(&stats.to_string());
    }
    let text = serde_json::to_string_pretty(&stats).unwrap_or_default();
    output::line(&text)
}

pub(crate) fn queries(connection: &Connection, args: OutputArgs) -> Result<(), Failure> {
    let answer = connection.get("/api/v1/queries")?;
    let columns = ["query", "name", "refresh_ms", "subscribers", "feeds", "outputs"];
    list(&answer["queries"], &columns, output::format_or_default(args.output))
}

pub(crate) fn nodes(connection: &Connection, args: OutputArgs) -> Result<(), Failure> {
    let answer = connection.get("/api/v1/nodes")?;
    let columns = ["name", "hostname", "asid", "version", "lagging", "last_heard_ms_ago"];
    let format = output::format_or_default(args.output);
    list(&answer["nodes"], &columns, format)?;
    if format == Format::Table {
        for node in answer["nodes"].as_array().into_iter().flatten() {
            output::line("")?;
            list(&node["sources"], &["name", "state", "reason", "tables"], format)?;
        }
    }
    Ok(())
}

fn cell(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// Objects as lines of JSON, or their `columns` as an aligned table.
pub(crate) fn list(items: &Json, columns: &[&str], format: Format) -> Result<(), Failure> {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if format != Format::Table {
        return items.iter().try_for_each(|item| output::line(&item.to_string()));
    }
    let header: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header)
        .chain(items.iter().map(|item| columns.iter().map(|name| cell(&item[*name])).collect()))
        .collect();
    let width =
        |idx: usize| rows.iter().map(|row| row[idx].chars().count()).max().unwrap_or_default();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(idx, text)| format!("{text:<width$}", width = width(idx)))
            .collect();
        output::line(cells.join("  ").trim_end())?;
    }
    Ok(())
}
