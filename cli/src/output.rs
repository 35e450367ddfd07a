//! Printing: rows of an answer in the asked form, diagnostics, and whether somebody is looking.
//!
//! All of the command's output goes through here. Nothing in it panics on a closed stream, and text
//! for people is made harmless first ([`weir_types::text`]); JSON has its own escapes.

use std::io::{IsTerminal, Write};

use serde_json::Value as Json;
use weir_sinks::csv;
use weir_sinks::json::RowWriter;
use weir_types::json::value_from_json;
use weir_types::schema::{Column, Relation};
use weir_types::{DataType, Diagnostic, PackedRow, SemanticType, text};

use crate::args::Format;
use crate::failure::Failure;

/// Rows that `-o table` shows of an answer.
const TABLE_ROWS_MAX: usize = 10_000;
/// The column that names a row's table, as in JSON.
const TABLE_NAME: &str = "_tableName_";

/// The form asked for, or the default: a table for people, lines of JSON for programs.
pub(crate) fn format_or_default(asked: Option<Format>) -> Format {
    asked.unwrap_or(if std::io::stdout().is_terminal() { Format::Table } else { Format::Jsonl })
}

/// A line of data on stdout, as it is. A closed pipe is the end of the command, not an error.
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

/// Lines for people on stdout.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    line(&text::lines(text))
}

/// A record of CSV: data, but nobody's terminal obeys it.
pub(crate) fn csv(record: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() { text(record) } else { line(record) }
}

/// Lines for people on stderr. That nobody reads them is no reason to fail.
pub(crate) fn note(text: &str) {
    raw_note(&text::lines(text));
}

/// A line on stderr that is harmless already: JSON, or ours with colours.
pub(crate) fn raw_note(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Log lines on stderr: one an event, whatever was captured into it. What remains of escapes is the
/// colours of `tracing`, which escapes those in values.
pub(crate) struct LogLines {
    pub(crate) color: bool,
}

impl Write for LogLines {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        let shown = String::from_utf8_lossy(event);
        let keep = |c: char| self.color && c == '\u{1b}';
        let each = |c: char| if keep(c) { c } else { text::printable(c) };
        raw_note(&shown.trim_end_matches('\n').chars().map(each).collect::<String>());
        Ok(event.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One table of an answer.
pub(crate) struct AnswerTable {
    pub(crate) name: String,
    pub(crate) relation: Relation,
    pub(crate) rows: Vec<(PackedRow, i64)>,
}

/// Prints all rows of an answer.
pub(crate) fn print_answer(tables: &[AnswerTable], format: Format) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Jsonl => tables.iter().try_for_each(|table| {
            let writer = RowWriter::new(&table.relation);
            for_each_copy(table, |row| line(&writer.named_row(&table.name, row)))
        }),
        Format::Csv => print_csv(tables),
        Format::Table => tables.iter().try_for_each(print_table),
    }
}

fn for_each_copy(
    table: &AnswerTable,
    mut each: impl FnMut(&PackedRow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for (row, count) in &table.rows {
        for _ in 0..*count {
            each(row)?;
        }
    }
    Ok(())
}

/// One header, whatever the number of tables: that is what readers of CSV take. With several tables
/// the first column names the table, and the others are those of all tables; what a table lacks is
/// empty.
fn print_csv(tables: &[AnswerTable]) -> Result<(), Failure> {
    let many = tables.len() > 1;
    let mut columns: Vec<&str> = if many { vec![TABLE_NAME] } else { Vec::new() };
    for column in tables.iter().flat_map(|table| &table.relation.columns) {
        if !many || !columns.contains(&column.name.as_str()) {
            columns.push(&column.name);
        }
    }
    if !columns.is_empty() {
        csv(&csv::record(&columns))?;
    }
    for table in tables {
        let place = |column: &Column| columns.iter().position(|name| *name == column.name);
        let places: Vec<Option<usize>> = table.relation.columns.iter().map(place).collect();
        for_each_copy(table, |row| {
            let fields = csv::fields(&table.relation, row);
            if !many {
                return csv(&csv::record(&fields));
            }
            let mut record = vec![String::new(); columns.len()];
            record[0].clone_from(&table.name);
            for (place, field) in places.iter().zip(fields) {
                if let Some(place) = place {
                    record[*place] = field;
                }
            }
            csv(&csv::record(&record))
        })?;
    }
    Ok(())
}

fn print_table(table: &AnswerTable) -> Result<(), Failure> {
    text(&format!("Table: {}", text::line(&table.name)))?;
    // A row may stand there a billion times.
    let copies = |(_, count): &(PackedRow, i64)| usize::try_from(*count).unwrap_or(0);
    let rows = table.rows.iter().flat_map(|row| std::iter::repeat_n(&row.0, copies(row)));
    for line in weir_sinks::table::lines(&table.relation, rows.take(TABLE_ROWS_MAX)) {
        text(&line)?;
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

/// Diagnostics as text, with snippets of the script and of its vis.json where they are at hand.
pub(crate) fn print_diagnostics(diagnostics: &[Diagnostic], script: &weir_pxl::Script<'_>) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let rendered = weir_pxl::render_script_diagnostics(diagnostics, script, color);
    if !rendered.is_empty() {
        raw_note(rendered.trim_end_matches('\n'));
    }
}

/// Diagnostics that a server sent; what is unreadable of them is left out.
pub(crate) fn diagnostics_of(json: &Json) -> Vec<Diagnostic> {
    let each = json.as_array().into_iter().flatten();
    each.filter_map(|json| serde_json::from_value(json.clone()).ok()).collect()
}
