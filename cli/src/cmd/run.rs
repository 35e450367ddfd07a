//! `weir run`: one answer, from a server or from rows in files.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use weir_types::PackedRow;
use weir_types::live::ColumnInfo;

use crate::args::RunArgs;
use crate::client::Connection;
use crate::failure::Failure;
use crate::offline;
use crate::output::{self, AnswerTable};
use crate::script;

pub(crate) fn run(connection: &Connection, args: RunArgs) -> Result<(), Failure> {
    let mut request = script::request(&args.script)?;
    let format = output::format_or_default(args.output);
    if let Some(dir) = &args.rows {
        let answer = offline::run(&request, dir, args.now, args.test_faults)?;
        output::print_answer(&answer.tables, format)?;
        output::raw_note(&answer.completeness);
        return Ok(());
    }
    if args.now.is_some() {
        return Err(Failure::Usage("--now needs --rows: a server answers as of now".to_string()));
    }
    (request.stale_ok, request.accept_cost) = (args.stale_ok, args.force);
    let (source, body) = (script::source_of(&request), script::body(&request));
    let answer = connection.post("/api/v1/run", &body).map_err(|failure| failure.told(&source))?;
    output::print_diagnostics(&output::diagnostics_of(&answer["diagnostics"]), &source.script());
    let messages = answer["messages"].as_array().cloned().unwrap_or_default();
    let tables = tables_of(&messages)?;
    output::print_answer(&tables, format)?;
    let failed = print_errors(&messages);
    output::raw_note(&completeness_of(&messages, &tables).to_string());
    if failed && tables.is_empty() { Err(Failure::No(String::new())) } else { Ok(()) }
}

pub(crate) fn tables_of(messages: &[Json]) -> Result<Vec<AnswerTable>, Failure> {
    let wrong = |error: serde_json::Error| Failure::No(format!("unreadable answer: {error}"));
    let mut tables: Vec<AnswerTable> = Vec::new();
    for message in messages {
        let name = message["table"].as_str().unwrap_or_default();
        match message["type"].as_str() {
            Some("schema") => {
                let columns: Vec<ColumnInfo> =
                    serde_json::from_value(message["columns"].clone()).map_err(wrong)?;
                let relation = output::relation_of(&columns);
                tables.push(AnswerTable { name: name.to_string(), relation, rows: Vec::new() });
            }
            Some("changes") => {
                let Some(table) = tables.iter_mut().find(|table| table.name == name) else {
                    continue;
                };
                for change in message["rows"].as_array().into_iter().flatten() {
                    let row = output::row_of(&table.relation, &change[1]);
                    table.rows.push((row, change[0].as_i64().unwrap_or(0)));
                }
                // A large answer that was sent while its view moved on ends with what changed.
                if table.rows.iter().any(|(_, count)| *count < 0) {
                    table.rows = netted(std::mem::take(&mut table.rows));
                }
            }
            _ => {}
        }
    }
    Ok(tables)
}

/// Rows that were taken back are gone.
fn netted(rows: Vec<(PackedRow, i64)>) -> Vec<(PackedRow, i64)> {
    let mut counts: BTreeMap<PackedRow, i64> = BTreeMap::new();
    for (row, count) in rows {
        *counts.entry(row).or_default() += count;
    }
    counts.into_iter().filter(|(_, count)| *count != 0).collect()
}

/// What the answer says that it lacks, if it does.
pub(crate) fn error_of(messages: &[Json]) -> Option<String> {
    let error = messages.iter().find(|message| message["type"] == "error")?;
    Some(error["message"].as_str().unwrap_or_default().to_string())
}

fn print_errors(messages: &[Json]) -> bool {
    let mut failed = false;
    for message in messages.iter().filter(|message| message["type"] == "error") {
        failed = true;
        output::note(&format!(
            "weir: {}: {}",
            message["table"].as_str().unwrap_or("error"),
            message["message"].as_str().unwrap_or_default()
        ));
    }
    failed
}

/// The completeness object of `run`: the fields of `progress`, `truncated` and `tables`.
fn completeness_of(messages: &[Json], tables: &[AnswerTable]) -> Json {
    let progress = messages.iter().rev().find(|message| message["type"] == "progress");
    let mut object = progress.cloned().unwrap_or_else(|| json!({}));
    if let Some(members) = object.as_object_mut() {
        members.shift_remove("type");
        members.shift_remove("id");
        members.insert("truncated".to_string(), json!(false));
        members.insert("tables".to_string(), table_summary(tables));
    }
    object
}

/// name → {rows, columns}
pub(crate) fn table_summary(tables: &[AnswerTable]) -> Json {
    let summary = tables.iter().map(|table| {
        let rows: i64 = table.rows.iter().map(|(_, count)| count).sum();
        let columns: Vec<&str> =
            table.relation.columns.iter().map(|column| column.name.as_str()).collect();
        (table.name.clone(), json!({"rows": rows, "columns": columns}))
    });
    Json::Object(summary.collect())
}
