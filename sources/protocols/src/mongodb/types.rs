//! What MongoDB's messages are made of, and what a row is made of.

use crate::by_id::Held;

/// Length, request id, the id that is answered, kind.
pub(super) const HEAD_BYTES: usize = 16;
/// Servers take 48,000,000 bytes; a little more than that are the answers of some.
pub(super) const MESSAGE_BYTES_MAX: u64 = 50_000_000;
/// Levels of documents within documents: servers refuse more than 180.
pub(super) const DEPTH_MAX: usize = 200;
/// Document sequences of one message: drivers send one or two.
pub(super) const SEQUENCES_MAX: usize = 16;
/// Structure that a column shows beside what others have.
pub(super) const MORE_STRUCTURE_BYTES: usize = 48 * 1024;
/// Longest name of a command that is kept.
pub(super) const COMMAND_BYTES_MAX: usize = 128;

pub(super) const OP_REPLY: u32 = 1;
pub(super) const OP_UPDATE: u32 = 2001;
pub(super) const OP_INSERT: u32 = 2002;
pub(super) const OP_QUERY: u32 = 2004;
pub(super) const OP_GET_MORE: u32 = 2005;
pub(super) const OP_DELETE: u32 = 2006;
pub(super) const OP_KILL_CURSORS: u32 = 2007;
/// What shells and servers of 3.2 to 4.0 said to each other: known, and not read.
pub(super) const OP_COMMAND: u32 = 2010;
pub(super) const OP_COMMAND_REPLY: u32 = 2011;
pub(super) const OP_COMPRESSED: u32 = 2012;
pub(super) const OP_MSG: u32 = 2013;

/// Flags of OP_MSG. Of the lower sixteen bits those that nobody knows are to be refused.
pub(super) const CHECKSUM_PRESENT: u32 = 1;
pub(super) const MORE_TO_COME: u32 = 1 << 1;
pub(super) const FLAGS_UNKNOWN: u32 = 0xffff & !(CHECKSUM_PRESENT | MORE_TO_COME);
/// Of OP_QUERY: answers follow each other until the cursor is at its end.
pub(super) const QUERY_EXHAUST: u32 = 1 << 6;
/// Of OP_REPLY: no such cursor, or the query failed.
pub(super) const REPLY_FAILED: u32 = 3;

/// A message's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) total_bytes: u64,
    pub(super) request_id: i32,
    pub(super) response_to: i32,
    pub(super) op_code: u32,
}

/// A request, as it waits for its response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) command: Vec<u8>,
    /// JSON.
    pub(super) body: Vec<u8>,
    /// Nothing answers it.
    pub(super) is_one_way: bool,
    /// Its answers follow each other, without being asked for.
    pub(super) is_exhaust: bool,
    /// A command in the form of a query: its answer is one document.
    pub(super) is_command: bool,
    /// It could not be read: there will be no row.
    pub(super) is_unread: bool,
}

impl Held for Asked {
    fn held_bytes(&self) -> usize {
        self.command.capacity() + self.body.capacity()
    }
}

/// A response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) request_id: i32,
    pub(super) status: &'static str,
    /// JSON.
    pub(super) body: Vec<u8>,
    /// Another one follows, which answers this one.
    pub(super) has_more: bool,
    /// It could not be read: there will be no row.
    pub(super) is_unread: bool,
}

impl Held for Answer {
    fn held_bytes(&self) -> usize {
        self.body.capacity()
    }
}
