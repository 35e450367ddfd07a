//! A table that is kept equal to a view by upserts and deletes. Each batch is one transaction, in which no key
//! is named twice: the last word about a key counts. `_key` is the primary key: the first 16 bytes of the
//! SHA-256 of the packed key, so that keys of any length fit. NUL becomes U+FFFD, counted.

mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use postgres::config::SslMode;
use postgres::{Client, Config, NoTls};

use crate::delivery::OutputInfo;
use crate::element::Element;
use crate::secrets;
use crate::sink::{Notes, SinkError, Writer};
use crate::tls::{PostgresTls, Tls};
use crate::words::Words;

use self::rows::Statements;

#[derive(Clone)]
pub struct PostgresConfig {
    pub url: String,
    /// `table`, or `schema.table`.
    pub table: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub timeout: Duration,
    /// What stands in no message.
    pub secrets: Vec<String>,
    /// With TLS, if so, or if the URL has `sslmode=require`.
    pub tls: Option<Tls>,
}

pub struct PostgresSink {
    config: PostgresConfig,
    client: Option<Client>,
    statements: Option<Statements>,
    notes: Notes,
}

/// # Errors
/// Columns that no table can have.
pub fn judge(info: &OutputInfo) -> Result<(), SinkError> {
    rows::judge(info).map_err(SinkError::Refused)
}

impl PostgresSink {
    #[must_use]
    pub fn new(config: PostgresConfig) -> PostgresSink {
        PostgresSink { config, client: None, statements: None, notes: Notes::default() }
    }

    fn failed(&self, error: &postgres::Error) -> SinkError {
        let text = weir_types::text::with_causes(error);
        let text = secrets::hidden(&text, &self.config.secrets);
        let text = weir_types::text::line(&text).into_owned();
        // Data exceptions, broken constraints and limits of a row are about what was sent.
        let is_unfit = |code: &str| ["22", "23", "54"].iter().any(|class| code.starts_with(class));
        match error.code() {
            Some(code) if is_unfit(code.code()) => SinkError::Unfit(text),
            _ => SinkError::Retry(text),
        }
    }

    fn connect(&self) -> Result<Client, SinkError> {
        let config = &self.config;
        let wrong = |_| SinkError::Refused("`url` is no postgres:// address".to_string());
        let mut settings: Config = config.url.parse().map_err(wrong)?;
        if let Some(user) = &config.user {
            settings.user(user);
        }
        if let Some(password) = &config.password {
            settings.password(password);
        }
        // Whoever is gone without a word is noticed.
        settings
            .application_name("weir")
            .connect_timeout(config.timeout)
            .tcp_user_timeout(config.timeout)
            .keepalives_idle(config.timeout);
        let tls = config
            .tls
            .clone()
            .or_else(|| (settings.get_ssl_mode() == SslMode::Require).then(Tls::default));
        let connected = match tls {
            Some(tls) => {
                let tls = tls.client_config(&[]).map_err(SinkError::Refused)?;
                settings.ssl_mode(SslMode::Require).connect(PostgresTls(Arc::new(tls)))
            }
            None => settings.connect(NoTls),
        };
        let mut client = connected.map_err(|error| self.failed(&error))?;
        let ms = config.timeout.as_millis();
        client
            .batch_execute(&format!("SET statement_timeout = {ms}; SET client_encoding = 'UTF8'"))
            .map_err(|error| self.failed(&error))?;
        Ok(client)
    }

    fn write_words(&mut self, client: &mut Client, words: &Words<'_>) -> Result<(), SinkError> {
        let made = self.statements.take().filter(|made| made.is_for(words.output));
        let statements = match made {
            Some(made) => made,
            None => {
                let made = Statements::new(&self.config.table, words.output);
                let made = made.map_err(SinkError::Refused)?;
                client.batch_execute(&made.create).map_err(|error| self.failed(&error))?;
                made
            }
        };
        let done = transact(client, &statements, words).map_err(|error| self.failed(&error));
        self.statements = Some(statements);
        self.notes.cleaned += done?;
        Ok(())
    }
}

/// All of it or nothing; how many texts were cleaned.
fn transact(
    client: &mut Client,
    statements: &Statements,
    words: &Words<'_>,
) -> Result<u64, postgres::Error> {
    let mut transaction = client.transaction()?;
    let mut cleaned = 0;
    if words.is_reset {
        transaction.execute(&statements.empty, &[])?;
    }
    if !words.deleted.is_empty() {
        let keys: Vec<&[u8]> = words.deleted.keys().map(<[u8; 16]>::as_slice).collect();
        transaction.execute(&statements.delete, &[&keys])?;
    }
    if !words.rows.is_empty() {
        let columns;
        (columns, cleaned) = rows::columns(words);
        let parameters: Vec<&(dyn postgres::types::ToSql + Sync)> =
            columns.iter().map(|column| &**column as _).collect();
        transaction.execute(&statements.upsert, &parameters)?;
    }
    transaction.commit()?;
    Ok(cleaned)
}

impl Writer for PostgresSink {
    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let mut client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => {
                self.statements = None;
                self.connect()?
            }
        };
        for (words, elements) in Words::of(batch) {
            match self.write_words(&mut client, &words) {
                Ok(()) => *safe += elements,
                Err(error @ SinkError::Unfit(_)) => {
                    self.client = Some(client);
                    return Err(error);
                }
                // A new connection knows best how things are.
                Err(error) => return Err(error),
            }
        }
        self.client = Some(client);
        Ok(())
    }

    fn check(&mut self) -> Result<(), SinkError> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                self.statements = None;
                self.connect()?
            }
        };
        client.simple_query("SELECT 1").map_err(|error| self.failed(&error))?;
        self.client = Some(client);
        Ok(())
    }

    fn notes(&self) -> Notes {
        self.notes
    }

    fn close(&mut self) {
        self.client = None;
    }
}
