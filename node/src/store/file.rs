//! The store as an embedded database (SQLite) in one file: who is kept, and the chunks of each pane ([`chunks`]).
//!
//! It is not trusted when it is opened: it may be cut, or of another version, or have bits that turned. Each line
//! has a checksum over all that it says, and a source's line one over all of its chunks; what does not fit is thrown
//! away as a whole source, or as a whole file. What it gives was written like this by this version for this node.
//!
//! A crash of this process loses nothing that was added; one of the machine may lose the last additions, never a part
//! of one.

mod chunks;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use self::chunks::Panes;
use super::{Addition, Dropped, Identity, KeptSource, Pages, PaneStore, StoreError, Stored};

/// "Weir", in the file's header.
const APPLICATION_ID: i32 = 0x5765_6972;
/// Raised with every change of the tables below.
const SCHEMA_VERSION: i32 = 1;
const SCHEMA: &str = "
    CREATE TABLE node (name TEXT NOT NULL);
    CREATE TABLE sources (
        id INTEGER PRIMARY KEY, identity BLOB NOT NULL UNIQUE, to_ms INTEGER NOT NULL,
        used_ms INTEGER NOT NULL, next_seq INTEGER NOT NULL, chunks INTEGER NOT NULL,
        bytes INTEGER NOT NULL, digest INTEGER NOT NULL, sum INTEGER NOT NULL);
    CREATE TABLE chunks (
        source INTEGER NOT NULL, pane INTEGER NOT NULL, seq INTEGER NOT NULL,
        sum INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (source, pane, seq));
";
const PAGE_BYTES: u64 = 4096;
/// What is written beside the file before it is taken over.
const JOURNAL_BYTES_MAX: u64 = 8 << 20;
/// Beside the file, by what SQLite calls them.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

pub struct FileStore {
    path: PathBuf,
    node: String,
    bytes_max: u64,
    connection: Option<Connection>,
    panes: HashMap<(i64, i64), Panes>,
}

/// What a source's line says beside its identity.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    id: i64,
    to_ms: i64,
    used_ms: i64,
    next_seq: i64,
    chunks: i64,
    bytes: i64,
    /// Of the checksums of all its chunks.
    digest: i64,
}

impl Head {
    fn sum(&self, identity: &[u8]) -> i64 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(identity);
        let Head { id, to_ms, used_ms, next_seq, chunks, bytes, digest } = *self;
        for part in [id, to_ms, used_ms, next_seq, chunks, bytes, digest] {
            hasher.update(&part.to_le_bytes());
        }
        i64::from(hasher.finalize())
    }
}

/// What SQLite says, as what is to be done about it.
fn judged(error: rusqlite::Error) -> StoreError {
    /// A file that ends too early.
    const SHORT_READ: i32 = 522;
    let text = error.to_string();
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        return StoreError::Damaged(text);
    };
    match failure.code {
        ErrorCode::SystemIoFailure if failure.extended_code == SHORT_READ => {
            StoreError::Damaged(text)
        }
        ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::SchemaChanged
        | ErrorCode::TypeMismatch
        | ErrorCode::ConstraintViolation
        | ErrorCode::TooBig
        | ErrorCode::Unknown => StoreError::Damaged(text),
        _ => StoreError::Unwritable(text),
    }
}

fn refused(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unwritable(format!("{}: {error}", path.display()))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(what.to_string())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl FileStore {
    /// A store in this file, which need not be there, for what this node saw.
    #[must_use]
    pub fn new(path: &Path, node: &str, bytes_max: u64) -> FileStore {
        let (path, node) = (path.to_path_buf(), node.to_string());
        FileStore { path, node, bytes_max, connection: None, panes: HashMap::new() }
    }

    /// Opens the file, with the tables made if there were none. `false`: it is another node's or another version's.
    fn connect(&self) -> Result<(Connection, bool), StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(judged)?;
        // Room for what is freed and not used again yet, and an end to it.
        let pages_max = (self.bytes_max / PAGE_BYTES).saturating_mul(2).max(64);
        connection
            .execute_batch(&format!(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA auto_vacuum = INCREMENTAL;
                 PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
                 PRAGMA journal_size_limit = {JOURNAL_BYTES_MAX}; PRAGMA cache_size = -4096;
                 PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;
                 PRAGMA cell_size_check = ON; PRAGMA max_page_count = {pages_max};"
            ))
            .map_err(judged)?;
        let number = |pragma: &str| -> Result<i32, StoreError> {
            connection.query_row(pragma, [], |row| row.get(0)).map_err(judged)
        };
        let ids = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
        if ids == (0, 0) && number("SELECT count(*) FROM sqlite_schema")? == 0 {
            self.make_tables(&connection)?;
            return Ok((connection, true));
        }
        if ids != (APPLICATION_ID, SCHEMA_VERSION) {
            return Ok((connection, false));
        }
        let name: Option<String> = connection
            .query_row("SELECT name FROM node", [], |row| row.get(0))
            .optional()
            .map_err(judged)?;
        Ok((connection, name.as_ref() == Some(&self.node)))
    }

    fn make_tables(&self, connection: &Connection) -> Result<(), StoreError> {
        let make = format!(
            "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        );
        connection.execute_batch(&make).map_err(judged)?;
        let named = connection.execute("INSERT INTO node (name) VALUES (?1)", params![self.node]);
        named.map(|_| ()).map_err(judged)
    }

    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if self.connection.is_none() {
            let (connection, is_ours) = self.connect()?;
            if !is_ours {
                return Err(damaged("the file was exchanged"));
            }
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or_else(|| damaged("there is no file"))
    }

    /// What of the sources can be used.
    fn usable(&mut self, now_ms: u64) -> Result<(Vec<Stored>, Dropped), StoreError> {
        let mut dropped = Dropped::default();
        let (mut usable, mut gone) = (Vec::new(), Vec::new());
        for (identity, head, sum) in heads(self.connection()?)? {
            let source = KeptSource::known_by(&identity);
            let (to_ms, used_ms) = (unsigned(head.to_ms), unsigned(head.used_ms));
            match source {
                _ if head.sum(&identity) != sum => {
                    dropped.damaged += 1;
                    gone.push(head.id);
                }
                // A clock that was set back would hide rows that are yet to come.
                Some(_) if to_ms > now_ms => {
                    dropped.foreign += 1;
                    gone.push(head.id);
                }
                None => {
                    dropped.foreign += 1;
                    gone.push(head.id);
                }
                Some(source) if is_over(&source, used_ms, now_ms) => {
                    dropped.unused += 1;
                    gone.push(head.id);
                }
                Some(source) => {
                    let identity = Identity::from(identity);
                    usable.push(Stored { identity, source, to_ms, used_ms });
                }
            }
        }
        let transaction = self.connection()?.transaction().map_err(judged)?;
        for id in gone {
            remove(&transaction, id)?;
        }
        transaction.commit().map_err(judged)?;
        Ok((usable, dropped))
    }
}

/// Whether nobody read it for as long as its window.
pub(crate) fn is_over(source: &KeptSource, used_ms: u64, now_ms: u64) -> bool {
    let window_ms = u64::try_from(source.sliding.window_ns / 1_000_000).unwrap_or(0);
    now_ms.saturating_sub(used_ms) > window_ms
}

const HEAD: &str = "id, to_ms, used_ms, next_seq, chunks, bytes, digest";

fn head_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        id: row.get(0)?,
        to_ms: row.get(1)?,
        used_ms: row.get(2)?,
        next_seq: row.get(3)?,
        chunks: row.get(4)?,
        bytes: row.get(5)?,
        digest: row.get(6)?,
    })
}

/// Identity, line and checksum of each source.
fn heads(connection: &Connection) -> Result<Vec<(Vec<u8>, Head, i64)>, StoreError> {
    let text = format!("SELECT {HEAD}, identity, sum FROM sources ORDER BY id");
    let mut statement = connection.prepare(&text).map_err(judged)?;
    let line = |row: &rusqlite::Row<'_>| Ok((row.get(7)?, head_of(row)?, row.get(8)?));
    let rows = statement.query_map([], line).map_err(judged)?;
    rows.collect::<rusqlite::Result<_>>().map_err(judged)
}

/// The line of a source that is there, judged.
fn head(connection: &Connection, identity: &[u8]) -> Result<Option<Head>, StoreError> {
    let text = format!("SELECT {HEAD}, sum FROM sources WHERE identity = ?1");
    let found: Option<(Head, i64)> = connection
        .query_row(&text, params![identity], |row| Ok((head_of(row)?, row.get(7)?)))
        .optional()
        .map_err(judged)?;
    match found {
        Some((head, sum)) if head.sum(identity) != sum => Err(damaged("a source's line")),
        found => Ok(found.map(|(head, _)| head)),
    }
}

fn remove(transaction: &Transaction<'_>, id: i64) -> Result<(), StoreError> {
    for text in ["DELETE FROM chunks WHERE source = ?1", "DELETE FROM sources WHERE id = ?1"] {
        transaction.execute(text, params![id]).map_err(judged)?;
    }
    Ok(())
}

/// Shortens the file by what is free in it. Each step of the statement frees one page.
fn give_back_pages(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection.prepare("PRAGMA incremental_vacuum").map_err(judged)?;
    let mut steps = statement.query([]).map_err(judged)?;
    while steps.next().map_err(judged)?.is_some() {}
    Ok(())
}

fn put(transaction: &Transaction<'_>, identity: &[u8], head: &Head) -> Result<(), StoreError> {
    let text = "UPDATE sources SET to_ms = ?2, used_ms = ?3, next_seq = ?4, chunks = ?5, \
                bytes = ?6, digest = ?7, sum = ?8 WHERE id = ?1";
    let Head { id, to_ms, used_ms, next_seq, chunks, bytes, digest } = *head;
    let sum = head.sum(identity);
    let values = params![id, to_ms, used_ms, next_seq, chunks, bytes, digest, sum];
    transaction.execute(text, values).map(|_| ()).map_err(judged)
}

fn make(transaction: &Transaction<'_>, identity: &[u8]) -> Result<Head, StoreError> {
    let text = "INSERT INTO sources (identity, to_ms, used_ms, next_seq, chunks, bytes, digest, \
                sum) VALUES (?1, 0, 0, 0, 0, 0, 0, 0)";
    transaction.execute(text, params![identity]).map_err(judged)?;
    Ok(Head { id: transaction.last_insert_rowid(), ..Head::default() })
}

impl PaneStore for FileStore {
    fn open(&mut self, now_ms: u64) -> Result<(Vec<Stored>, Dropped), StoreError> {
        self.panes.clear();
        let (is_ours, is_whole) = match self.connect() {
            Ok((connection, is_ours)) => {
                self.connection = Some(connection);
                (is_ours, true)
            }
            Err(StoreError::Damaged(_)) => (false, false),
            Err(error) => return Err(error),
        };
        if is_ours {
            match self.usable(now_ms) {
                Err(StoreError::Damaged(_)) => {}
                other => return other,
            }
        }
        self.clear()?;
        let foreign = u64::from(is_whole && !is_ours);
        Ok((Vec::new(), Dropped { foreign, damaged: 1 - foreign, unused: 0 }))
    }

    fn add(&mut self, additions: &[Addition]) -> Result<(), StoreError> {
        let mut panes = std::mem::take(&mut self.panes);
        let transaction = self.connection()?.transaction().map_err(judged)?;
        for addition in additions {
            let identity = &*addition.identity;
            let mut there = head(&transaction, identity)?;
            if addition.afresh
                && let Some(former) = there.take()
            {
                remove(&transaction, former.id)?;
                panes.retain(|(source, _), _| *source != former.id);
            }
            let mut head = match there {
                Some(head) => head,
                None => make(&transaction, identity)?,
            };
            chunks::expire(&transaction, &mut head, addition.first_pane)?;
            chunks::append(&transaction, identity, &mut head, &addition.changes, &mut panes)?;
            head.to_ms = head.to_ms.max(signed(addition.to_ms));
            head.used_ms = head.used_ms.max(signed(addition.used_ms));
            put(&transaction, identity, &head)?;
            panes.retain(|(source, pane), _| *source != head.id || *pane >= addition.first_pane);
        }
        transaction.commit().map_err(judged)?;
        // After an error they are counted anew.
        self.panes = panes;
        Ok(())
    }

    fn read(
        &mut self,
        identity: &[u8],
        first_pane: i64,
        opened: &mut dyn FnMut(Option<u64>),
        pages: Pages<'_>,
    ) -> Result<(), StoreError> {
        let looked = self.connection().and_then(|connection| {
            let there = head(connection, identity)?;
            if let Some(head) = &there {
                chunks::check(connection, identity, head)?;
            }
            Ok(there)
        });
        match looked {
            Ok(Some(head)) => {
                opened(Some(unsigned(head.to_ms)));
                chunks::read(self.connection()?, head.id, first_pane, pages)
            }
            Ok(None) => {
                opened(None);
                Ok(())
            }
            Err(error) => {
                opened(None);
                Err(error)
            }
        }
    }

    fn forget(&mut self, identity: &[u8]) -> Result<(), StoreError> {
        let transaction = self.connection()?.transaction().map_err(judged)?;
        let text = "SELECT id FROM sources WHERE identity = ?1";
        let id: Option<i64> = transaction
            .query_row(text, params![identity], |row| row.get(0))
            .optional()
            .map_err(judged)?;
        if let Some(id) = id {
            remove(&transaction, id)?;
        }
        transaction.commit().map_err(judged)?;
        give_back_pages(self.connection()?)?;
        self.panes.retain(|(source, _), _| Some(*source) != id);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.connection = None;
        self.panes.clear();
        let beside = BESIDE.iter().map(|suffix| {
            let mut name = OsString::from(self.path.as_os_str());
            name.push(suffix);
            PathBuf::from(name)
        });
        for path in beside {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(refused(&path, &error));
                }
                _ => {}
            }
        }
        // The file stays whose it was.
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Err(error) if error != Errno::NOENT => return Err(refused(&self.path, &error.into())),
            _ => {}
        }
        self.connection().map(|_| ())
    }

    fn sizes(&mut self) -> Result<Vec<(Identity, u64, u64)>, StoreError> {
        let all = heads(self.connection()?)?.into_iter();
        let size = |(identity, head, _): (Vec<u8>, Head, i64)| {
            let bytes = unsigned(head.bytes) + identity.len() as u64;
            (Identity::from(identity), unsigned(head.used_ms), bytes)
        };
        Ok(all.map(size).collect())
    }
}
