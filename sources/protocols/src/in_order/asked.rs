//! What a protocol says of its requests, and of what responses to them look like.

/// What waits for its answer.
pub(crate) trait Asked: Sized + 'static {
    /// What can be told of a response without knowing whose it is.
    type Shape: std::fmt::Debug;

    /// Where a call begins within a response, what follows may look like responses.
    const HAS_PARTS: bool = false;

    /// Whether a response can be that of a group of requests.
    fn fits(_group: &mut dyn Iterator<Item = &Self>, _shape: &Self::Shape) -> bool {
        true
    }

    /// Whether what looks like this can be a part of a response.
    fn may_be_part(_shape: &Self::Shape) -> bool {
        false
    }

    /// What parts of its response look like can be told by [`Asked::may_be_part`].
    fn has_known_parts(&self) -> bool {
        true
    }

    /// Behind it responses are counted as before.
    fn is_counted(&self) -> bool {
        true
    }

    /// Memory beside the value itself.
    fn held_bytes(&self) -> usize;

    /// Forgets what its row would show, for want of room: it gets none. What it is stays known.
    fn forget_text(&mut self);

    /// It gets a row if it is answered: without one it is a loss.
    fn is_owed(&self) -> bool;

    /// How many of the responses that are told one by one it has; `None`: nobody knows.
    fn responses(&self) -> Option<u64> {
        Some(1)
    }

    /// What it is, one bit of many.
    fn mark(&self) -> u32 {
        0
    }

    /// Its response has no parts that could be taken for responses.
    fn is_plain(&self) -> bool {
        false
    }
}
