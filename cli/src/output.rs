//! Printing: rows of an answer in the asked form, diagnostics, and whether somebody is looking.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where a command prints")]

use std::io::{IsTerminal, Write};

use serde_json::Value as Json;
use weir_sinks::json::RowWriter;
use weir_types::json::value_from_json;
use weir_types::schema::{Column, Relation};
use weir_types::{DataType, PackedRow, SemanticType};

use crate::args::Format;
use crate::failure::Failure;

/// Rows that `-o table` shows of an answer.
const TABLE_ROWS_MAX: usize = 10_000;

/// The form asked for, or the default: a table for people, lines of JSON for programs.
pub(crate) fn format_or_default(asked: Option<Format>) -> Format {
    asked.unwrap_or(if std::io::stdout().is_terminal() { Format::Table } else { Format::Jsonl })
}

/// A line on stdout. A closed pipe is the end of the command, not an error.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(Failure::No(String::new()))
        }
        Err(error) => Err(Failure::No(format!("could not write: {error}"))),
    }
}

pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// One table of an answer.
pub(crate) struct AnswerTable {
    pub(crate) name: String,
    pub(crate) relation: Relation,
    pub(crate) rows: Vec<(PackedRow, i64)>,
}

/// Prints all rows of an answer.
pub(crate) fn print_answer(tables: &[AnswerTable], format: Format) -> Result<(), Failure> {
    for (idx, table) in tables.iter().enumerate() {
        match format {
            Format::Json | Format::Jsonl => {
                let writer = RowWriter::new(&table.relation);
                for (row, count) in &table.rows {
                    let text = writer.named_row(&table.name, row);
                    for _ in 0..*count {
                        line(&text)?;
                    }
                }
            }
            Format::Csv => {
                if idx > 0 {
                    line("")?;
                }
                print!("{}", weir_sinks::csv::header(&table.relation));
                for (row, count) in &table.rows {
                    let text = weir_sinks::csv::line(&table.relation, row);
                    for _ in 0..*count {
                        line(text.trim_end_matches('\n'))?;
                    }
                }
            }
            Format::Table => print_table(table)?,
        }
    }
    Ok(())
}

fn print_table(table: &AnswerTable) -> Result<(), Failure> {
    line(&format!("Table: {}", table.name))?;
    // A row may stand there a billion times.
    let copies = |(_, count): &(PackedRow, i64)| usize::try_from(*count).unwrap_or(0);
    let rows = table.rows.iter().flat_map(|row| std::iter::repeat_n(&row.0, copies(row)));
    for text in weir_sinks::table::lines(&table.relation, rows.take(TABLE_ROWS_MAX)) {
        line(&text)?;
    }
    let all = table.rows.iter().fold(0_usize, |sum, row| sum.saturating_add(copies(row)));
    if all > TABLE_ROWS_MAX {
        line(&format!("… and {} more rows", all - TABLE_ROWS_MAX))?;
    }
    line("")
}

/// The relation behind a `schema` message's columns.
pub(crate) fn relation_of(columns: &[weir_types::live::ColumnInfo]) -> Relation {
    let columns = columns.iter().map(|info| {
        let data_type = DataType::ALL.into_iter().find(|ty| ty.name() == info.data_type);
        let semantic = SemanticType::ALL.iter().find(|st| st.name() == info.semantic);
        Column::new(
            &info.name,
            data_type.unwrap_or(DataType::String),
            semantic.copied().unwrap_or_default(),
        )
    });
    Relation::new(columns.collect())
}

/// A row of a message in packed form.
pub(crate) fn row_of(relation: &Relation, row: &Json) -> PackedRow {
    let values: Vec<_> = relation
        .columns
        .iter()
        .map(|column| {
            value_from_json(&row[&column.name], column.data_type)
                .unwrap_or_else(|| column.data_type.zero())
        })
        .collect();
    PackedRow::pack(&values)
}

/// Diagnostics as text with the source they point into.
pub(crate) fn print_diagnostics(diagnostics: &[weir_types::Diagnostic], source: &str) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", weir_pxl::render_diagnostics(diagnostics, source, color));
}

/// The same, also into the vis.json.
pub(crate) fn print_script_diagnostics(
    diagnostics: &[weir_types::Diagnostic],
    script: &weir_pxl::Script<'_>,
) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", weir_pxl::render_script_diagnostics(diagnostics, script, color));
}

/// Diagnostics of a server, whose source is not at hand.
pub(crate) fn print_diagnostics_json(diagnostics: &[Json]) {
    for json in diagnostics {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_string();
        eprintln!(
            "{}:{}:{}: {}[{}]: {}",
            text("file"),
            json["line"],
            json["column"],
            text("severity"),
            text("code"),
            text("message")
        );
        if !text("hint").is_empty() {
            eprintln!("  hint: {}", text("hint"));
        }
    }
}
