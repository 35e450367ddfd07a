//! What a stream is made of: events as they come, and what it remembers of them.

/// Bytes of one event of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub position: u64,
    pub total_bytes: u64,
    pub time_unix_ns: i64,
    /// The first of `total_bytes`.
    pub payload: &'a [u8],
    /// The last of them, if `payload` does not reach so far; what is in between is lost.
    pub tail: &'a [u8],
}

/// What begins at a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// An event.
    Event,
    /// More of the event before it, behind a part that was not copied.
    Tail,
    /// Bytes whose events were lost; the mark's time is that of the event before them.
    Unseen,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) position: u64,
    pub(super) time_unix_ns: i64,
    pub(super) from: From,
}

/// A segment, or a part of one.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) position: u64,
    pub(super) total_bytes: u64,
    pub(super) time_unix_ns: i64,
    pub(super) payload: &'a [u8],
    pub(super) from: From,
}

#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) total_bytes: u64,
    pub(super) time_unix_ns: i64,
    pub(super) payload: Vec<u8>,
    pub(super) from: From,
}
