//! What a sink is: a subscriber that writes what it is given somewhere else, and says how far it got.
//!
//! Whoever drives it calls [`Sink::deliver`] for one delivery and then [`Sink::flush`] until that
//! succeeds; while it fails nothing more is delivered, and the view keeps one net change for it. So a
//! sink holds no more than one delivery, and nothing that it has accepted is dropped.

use std::sync::Arc;

use crate::delivery::{Delivery, OutputInfo};

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// There is no room now: it is tried again.
    #[error("{0}")]
    Full(String),
    /// It cannot be written just now: it is tried again.
    #[error("{0}")]
    Retry(String),
    /// It never will be, as it is configured.
    #[error("{0}")]
    Refused(String),
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
    /// Those that were accepted and are not.
    pub rows_waiting: u64,
    /// Times that what is there was void, and was written anew.
    pub resets: u64,
    /// Times that what it writes to was replaced or cut by others.
    pub replaced: u64,
    /// Times that half an element, left by a crash, was found at the end and cut off.
    pub halves_cut: u64,
}

pub trait Sink: Send {
    /// The output whose rows follow. `goes_on`: they follow what was delivered last, otherwise a
    /// snapshot comes, in place of everything before.
    ///
    /// # Errors
    /// It cannot write such an output, or not now.
    fn start(&mut self, output: &OutputInfo, goes_on: bool) -> Result<(), SinkError>;

    /// Accepts one delivery. Only after a [`Sink::flush`] that succeeded.
    fn deliver(&mut self, delivery: &Arc<Delivery>);

    /// Brings what was accepted to the other end; gives the tick up to which all is safe there.
    ///
    /// # Errors
    /// Nothing of what was accepted is forgotten: call it again.
    fn flush(&mut self) -> Result<Option<u64>, SinkError>;

    /// The last call.
    fn stop(&mut self);

    fn health(&self) -> SinkHealth;
}
