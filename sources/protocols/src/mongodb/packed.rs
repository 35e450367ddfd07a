//! Messages within OP_COMPRESSED: which kind they are, and their bytes.

use super::types::{
    HEAD_BYTES, MESSAGE_BYTES_MAX, OP_DELETE, OP_GET_MORE, OP_INSERT, OP_KILL_CURSORS, OP_MSG,
    OP_QUERY, OP_REPLY, OP_UPDATE,
};
use crate::cursor::Cursor;
use crate::frames::SEEN_BYTES_MAX;
use crate::unpacked;

/// What is in front of the packed bytes.
const FRONT_BYTES: usize = 9;

/// How bytes were packed, by the protocol's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compressor {
    None,
    Snappy,
    Zlib,
    Zstd,
}

/// What a packed message says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed<'a> {
    pub(super) op_code: u32,
    total_bytes: usize,
    compressor: Compressor,
    bytes: &'a [u8],
}

/// The message behind a head of OP_COMPRESSED. `None`: too little of it is there, or nobody knows how it
/// was packed.
pub(super) fn packed(behind_head: &[u8]) -> Option<Packed<'_>> {
    let mut cursor = Cursor::new(behind_head);
    let (op_code, total_bytes) = (cursor.u32_le()?, cursor.u32_le()?);
    let compressor = match cursor.u8()? {
        0 => Compressor::None,
        1 => Compressor::Snappy,
        2 => Compressor::Zlib,
        3 => Compressor::Zstd,
        _ => return None,
    };
    let is_kind = matches!(
        op_code,
        OP_REPLY
            | OP_MSG
            | OP_QUERY
            | OP_UPDATE
            | OP_INSERT
            | OP_DELETE
            | OP_GET_MORE
            | OP_KILL_CURSORS
    );
    let fits = u64::from(total_bytes) <= MESSAGE_BYTES_MAX;
    let bytes = cursor.rest();
    (is_kind && fits).then_some(Packed {
        op_code,
        total_bytes: total_bytes as usize,
        compressor,
        bytes,
    })
}

/// Whether there is room for a packed message in one of that length.
pub(super) fn has_room(total_bytes: u64) -> bool {
    total_bytes >= (HEAD_BYTES + FRONT_BYTES) as u64
}

impl Packed<'_> {
    /// The message's bytes behind its head, as far as they are there and looked at.
    pub(super) fn unpack(&self) -> Vec<u8> {
        let bytes_max = self.total_bytes.min(SEEN_BYTES_MAX);
        match self.compressor {
            Compressor::None => self.bytes[..self.bytes.len().min(bytes_max)].to_vec(),
            Compressor::Snappy => {
                unpacked::snappy(self.bytes, bytes_max).map(|(_, bytes)| bytes).unwrap_or_default()
            }
            Compressor::Zlib => unpacked::zlib(self.bytes, bytes_max),
            Compressor::Zstd => unpacked::zstd(self.bytes, bytes_max),
        }
    }

    /// More comes out than is looked at.
    pub(super) fn is_long(&self) -> bool {
        self.total_bytes > SEEN_BYTES_MAX
    }

    /// How many bytes the message has behind its head.
    pub(super) fn total_bytes(&self) -> usize {
        self.total_bytes
    }
}
