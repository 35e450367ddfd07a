//! What a kind of sink is: a [`Writer`], which brings batches of elements to the other end. It keeps nothing
//! of its own that would be missed: elements wait in a [`crate::buffer`], and [`crate::pipe`] calls the
//! writer on a thread that may block, again and again until they are safe.

use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::buffer::Went;
use crate::element::Element;

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// There is no room now: it is tried again.
    #[error("{0}")]
    Full(String),
    /// It cannot be written just now: it is tried again.
    #[error("{0}")]
    Retry(String),
    /// As `Retry`; the other end has said when.
    #[error("{0}")]
    RetryAfter(String, Duration),
    /// It never will be, as it is configured.
    #[error("{0}")]
    Refused(String),
    /// The other end will never take this batch: in smaller ones that is found which element it is.
    #[error("{0}")]
    Unfit(String),
}

/// What could not be written to a file: a full disk is waited for, as all else is.
pub(crate) fn unwritten(what: &str, error: &std::io::Error) -> SinkError {
    use std::io::ErrorKind;
    let text = format!("could not write{what}: {error}");
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            SinkError::Full(text)
        }
        _ => SinkError::Retry(text),
    }
}

/// Numbers of elements are smaller; what claims to hold a larger one is not what this sink wrote.
pub(crate) const SEQ_END: u64 = u64::MAX / 2;

/// What is at the other end when a writer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// Elements up to this number are there.
    pub seq: u64,
    /// There is something that a snapshot would repeat.
    pub has_rows: bool,
}

/// What a writer has noticed, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Times that what it writes to was replaced or cut by others.
    pub replaced: u64,
    /// Times that half an element, left by a crash, was found at the end and cut off.
    pub halves_cut: u64,
    /// Texts that the other end does not take as they are, and that were cleaned.
    pub cleaned: u64,
    /// Parts of elements that are called safe and are not there: the other end says that it did not keep them, or
    /// refuses the end of a series, or a row stands for more than it may.
    pub rejected: u64,
}

impl Notes {
    /// What came since `before`.
    pub(crate) fn since(self, before: Notes) -> Notes {
        Notes {
            replaced: self.replaced.saturating_sub(before.replaced),
            halves_cut: self.halves_cut.saturating_sub(before.halves_cut),
            cleaned: self.cleaned.saturating_sub(before.cleaned),
            rejected: self.rejected.saturating_sub(before.rejected),
        }
    }
}

impl std::ops::AddAssign for Notes {
    fn add_assign(&mut self, more: Notes) {
        self.replaced += more.replaced;
        self.halves_cut += more.halves_cut;
        self.cleaned += more.cleaned;
        self.rejected += more.rejected;
    }
}

/// What others read from a writer. What it is, only one of the same kind knows.
pub type Page = dyn Any + Send + Sync;

pub trait Writer: Send {
    /// Finds out whether it may write, and what is there. Called until it succeeds, before anything else.
    ///
    /// # Errors
    /// It may not, or not now.
    fn open(&mut self) -> Result<Resume, SinkError> {
        Ok(Resume::default())
    }

    /// The other end keeps what it was given over restarts: its numbers go on, and a reset comes first.
    fn is_lasting(&self) -> bool {
        true
    }

    /// Brings elements to the other end. `safe`: how many of the first are safe there, also when it fails.
    ///
    /// # Errors
    /// Those that are not safe come again.
    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError>;

    /// How often [`Writer::refresh`] is to be called while nothing else is to do; `None`: never.
    fn refreshes(&self) -> Option<Duration> {
        None
    }

    /// Tells the other end again what it would forget.
    ///
    /// # Errors
    /// It is tried again later.
    fn refresh(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Whether the other end is there and lets us in, as far as that can be found out without writing.
    ///
    /// # Errors
    /// It is not, now.
    fn check(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn notes(&self) -> Notes {
        Notes::default()
    }

    /// What is read from it, if others come to read.
    fn page(&self) -> Option<Weak<Page>> {
        None
    }

    /// It follows one of which this page is, with so many inputs: those who read find what that one has shown until
    /// there is something else. Before it is opened.
    fn takes_over(&mut self, _page: Arc<Page>, _inputs: u16) {}

    /// The last call.
    fn close(&mut self) {}
}

/// What a sink says of itself. Counts are since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkHealth {
    /// Everything up to this tick is safe at the other end.
    pub acked_ms: Option<u64>,
    /// Accepted and not safe yet.
    pub buffer_bytes: u64,
    /// Elements about rows that are safe.
    pub rows_sent: u64,
    /// Those that were accepted, are not safe, and would go with this process.
    pub rows_waiting: u64,
    /// Dropped, because the buffer was full.
    pub rows_dropped: u64,
    /// Refused for good by the other end, one by one.
    pub rows_refused: u64,
    /// Missing in a buffer that was damaged.
    pub rows_damaged: u64,
    /// Pieces of the buffer that could not be read.
    pub parts_damaged: u64,
    /// Servers that ended while something waited in memory, the last one with what had come since this tick. Of all
    /// that there were.
    pub went: Went,
    /// Times that what is there was void, and was written anew.
    pub resets: u64,
    pub notes: Notes,
}
