//! What long windows are made of, kept over restarts: per *kept source*, what its rows add up to in each pane.
//!
//! * [`source`]: which sources are kept, and by what they are known.
//! * [`file`]: where they are kept, an embedded database. Another place is another [`PaneStore`].
//! * [`keeper`]: the thread that writes and reads it, so that nobody else waits for a disk.
//!
//! A store holds a prefix of what a node admitted: all rows up to one tick of each source, no more and no less. What
//! came after is the history's, or lost with the process that had it in memory. Who fills a store and who reads it
//! is the core's business (`core/kept.rs`).

pub mod file;
pub mod keeper;
pub mod source;

use std::sync::Arc;

use weir_types::split::Change;

pub use file::FileStore;
pub use keeper::{Keeper, KeeperStats};
pub use source::KeptSource;

/// Default for what is kept on disk.
pub const STORE_BYTES_DEFAULT: u64 = 256 << 20;
/// Least: below it a store would hold hardly any window.
pub const STORE_BYTES_MIN: u64 = 1 << 20;
/// Sources that are kept at a time: each costs its rows' folding once more. Above, what was not read for longest goes.
pub const KEPT_SOURCES_MAX: usize = 64;
/// What is on its way to the disk, in bytes: above, a source is no longer kept.
pub const KEEPING_BYTES_MAX: u64 = 32 << 20;

/// What a source is known by: the same bytes are the same source.
pub type Identity = Arc<[u8]>;

/// A source as it stands in a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub identity: Identity,
    pub source: KeptSource,
    /// All rows up to this tick are in it.
    pub to_ms: u64,
    /// When somebody read it last.
    pub used_ms: u64,
}

/// What a source was added up to a tick.
#[derive(Clone, Debug)]
pub struct Addition {
    pub identity: Identity,
    /// In place of what is there of it.
    pub afresh: bool,
    pub changes: Vec<Change>,
    pub to_ms: u64,
    pub used_ms: u64,
    /// Panes before this one have left.
    pub first_pane: i64,
    /// So many of these stay nevertheless, where there is room.
    pub past_panes: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is there cannot be what was written. It is thrown away.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The disk is full, or may not be written: it is tried again.
    #[error("the store cannot be written: {0}")]
    Unwritable(String),
}

/// Why something was thrown away, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Sources that were damaged, or all of a file that was.
    pub damaged: u64,
    /// Sources of another version, another node or another time.
    pub foreign: u64,
    /// Sources that nobody read for as long as their window.
    pub unused: u64,
}

/// A page of what is read; false: no more is wanted.
pub type Pages<'a> = &'a mut dyn FnMut(Vec<Change>) -> bool;

/// Where partial results are kept. Calls may wait for a disk.
pub trait PaneStore: Send {
    /// What can be used at a time.
    ///
    /// # Errors
    /// It cannot be read.
    fn open(&mut self, now_ms: u64) -> Result<(Vec<Stored>, Dropped), StoreError>;

    /// Adds all of these, or nothing.
    ///
    /// # Errors
    /// It cannot be written, or is damaged.
    fn add(&mut self, additions: &[Addition]) -> Result<(), StoreError>;

    /// All that a source holds from a pane on, after it was looked at as a whole: `opened` is told up to which tick
    /// before the first page. `None` is told if it is not there, or damaged; the latter is an error, too.
    ///
    /// # Errors
    /// It is damaged.
    fn read(
        &mut self,
        identity: &[u8],
        first_pane: i64,
        opened: &mut dyn FnMut(Option<u64>),
        pages: Pages<'_>,
    ) -> Result<(), StoreError>;

    /// Takes a source away.
    ///
    /// # Errors
    /// It cannot be written.
    fn forget(&mut self, identity: &[u8]) -> Result<(), StoreError>;

    /// Takes everything away, whatever state it is in.
    ///
    /// # Errors
    /// It cannot be written.
    fn clear(&mut self) -> Result<(), StoreError>;

    /// Identity, last use and bytes of each source.
    ///
    /// # Errors
    /// It cannot be read.
    fn sizes(&mut self) -> Result<Vec<(Identity, u64, u64)>, StoreError>;
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
