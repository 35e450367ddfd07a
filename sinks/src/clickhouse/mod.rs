//! Rows into a ClickHouse table, by HTTP and `JSONEachRow`. With `upsert` the table is a ReplacingMergeTree by
//! `_key`, versioned by `_seq`: `SELECT … FROM t FINAL WHERE NOT _deleted` is the view. Other modes append, and an
//! element that comes again replaces itself. A success is an empty answer: what ClickHouse says with status 200 may
//! be an exception all the same.

mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::delivery::OutputInfo;
use crate::element::{Described, Element, Op};
use crate::http_client::{Client, Target, escaped};
use crate::sink::{Notes, SinkError, Writer};
use crate::words::Words;

use self::rows::{Server, Statements};

#[derive(Clone)]
pub struct ClickHouseConfig {
    /// `http://HOST:8123/`, with `?database=…` where it is not the default.
    pub target: Target,
    /// `table`, or `database.table`.
    pub table: String,
    /// The table is kept equal to the view; otherwise elements are appended.
    pub is_upsert: bool,
}

pub struct ClickHouseSink {
    client: Client,
    table: String,
    is_upsert: bool,
    server: Option<Server>,
    statements: Option<Arc<Statements>>,
    notes: Notes,
}

/// # Errors
/// Columns that no table can have.
pub fn judge(info: &OutputInfo) -> Result<(), SinkError> {
    rows::judge(info).map_err(SinkError::Refused)
}

/// A statement without rows that is refused: no row is to be given up for it.
fn about_no_row(error: SinkError) -> SinkError {
    match error {
        SinkError::Unfit(text) => SinkError::Retry(text),
        error => error,
    }
}

impl ClickHouseSink {
    #[must_use]
    pub fn new(config: ClickHouseConfig) -> ClickHouseSink {
        ClickHouseSink {
            client: Client::new(config.target),
            table: config.table,
            is_upsert: config.is_upsert,
            server: None,
            statements: None,
            notes: Notes::default(),
        }
    }

    /// A statement, with the rows that it takes.
    fn run(&self, statement: &str, body: &str) -> Result<String, SinkError> {
        let base = self.client.url();
        let separator = if base.contains('?') { '&' } else { '?' };
        // The whole answer is known before its status is.
        let query = escaped(statement);
        let url = format!("{base}{separator}wait_end_of_query=1&query={query}");
        let answer =
            self.client.post_to(&url, &[("content-type", "text/plain")], body.as_bytes())?;
        let text = String::from_utf8_lossy(&answer).trim().to_string();
        if text.contains("DB::Exception") {
            return Err(SinkError::Retry(self.client.said(&text)));
        }
        Ok(text)
    }

    /// One that answers nothing.
    fn order(&self, statement: &str, body: &str) -> Result<(), SinkError> {
        let said = self.run(statement, body)?;
        if said.is_empty() {
            return Ok(());
        }
        Err(SinkError::Retry(self.client.said(&format!("an unexpected answer: {said}"))))
    }

    /// The statements for an output, whose table is made if it is not there.
    fn statements(&mut self, output: &Arc<Described>) -> Result<Arc<Statements>, SinkError> {
        if let Some(made) = self.statements.as_ref().filter(|it| it.is_for(output)) {
            return Ok(Arc::clone(made));
        }
        let server = match self.server {
            Some(server) => server,
            None => {
                let version = self.run("SELECT version()", "").map_err(about_no_row)?;
                *self.server.insert(Server::of(&version))
            }
        };
        let made = Statements::new(&self.table, self.is_upsert, server, output);
        let made = Arc::new(made.map_err(SinkError::Refused)?);
        self.make_table(&made).map_err(about_no_row)?;
        self.statements = Some(Arc::clone(&made));
        Ok(made)
    }

    /// With all columns, also if it is there and was made for fewer.
    fn make_table(&self, statements: &Statements) -> Result<(), SinkError> {
        self.order(&statements.create, "")?;
        let description = self.run(&statements.describe, "")?;
        let adds = statements.adds(&description);
        let adds = adds.map_err(|text| SinkError::Retry(self.client.said(&text)))?;
        adds.iter().try_for_each(|add| self.order(add, ""))
    }

    fn write_words(&mut self, words: &Words<'_>) -> Result<(), SinkError> {
        let statements = self.statements(words.output)?;
        if words.is_reset {
            self.order(&statements.empty, "").map_err(about_no_row)?;
        }
        let (text, cleaned) = statements.upserts(words);
        if !text.is_empty() {
            self.order(&statements.insert, &text)?;
            self.notes.cleaned += cleaned;
        }
        Ok(())
    }

    fn append(&mut self, part: &[&Element]) -> Result<(), SinkError> {
        let statements = self.statements(&part[0].output)?;
        let (text, cleaned) = statements.appends(part);
        if !text.is_empty() {
            self.order(&statements.insert, &text)?;
            self.notes.cleaned += cleaned;
        }
        Ok(())
    }

    fn write_all(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        if self.is_upsert {
            for (words, elements) in Words::of(batch) {
                self.write_words(&words)?;
                *safe += elements;
            }
            return Ok(());
        }
        for part in batch.chunk_by(|a, b| Arc::ptr_eq(&a.output, &b.output)) {
            if part.iter().any(|element| element.op != Op::Progress) {
                self.append(part)?;
            }
            *safe += part.len();
        }
        Ok(())
    }
}

impl Writer for ClickHouseSink {
    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let done = self.write_all(batch, safe);
        if matches!(done, Err(SinkError::Retry(_) | SinkError::RetryAfter(..))) {
            // Perhaps it is another server now, or the table was taken away.
            (self.server, self.statements) = (None, None);
        }
        done
    }

    fn check(&mut self) -> Result<(), SinkError> {
        self.run("SELECT 1", "").map(drop).map_err(about_no_row)
    }

    fn notes(&self) -> Notes {
        self.notes
    }
}
