//! One direction of a connection: its frames, its table of fields, and the block that has not ended.
//!
//! What fields mean is not known here.

use super::hpack::{Decoder, Inserted};
use super::memo::{BlockHead, Blocks, Memo};
use super::parse::FrameHead;
use super::types::HEADERS;
use crate::frames::{Frame, FrameReader};
use crate::stream::StreamBuffer;
use crate::{REORDER_GRACE_NS, Side};

/// No more waits for a table: what a stream holds has a bound.
const HELD_BYTES_MAX: usize = 16 * 1024;

/// A header block that has not ended.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    /// It is one of a request that the server makes up.
    pub(super) is_promise: bool,
    pub(super) ends_stream: bool,
    pub(super) begin_ns: i64,
    pub(super) bytes: Vec<u8>,
    /// Some of its bytes are missing, or had no room.
    pub(super) is_cut: bool,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) reader: FrameReader,
    pub(super) decoder: Decoder,
    pub(super) block: Option<Block>,
    pub(super) has_blocks: bool,
    /// The last block that was read, and the last part of it.
    pub(super) last: Option<[BlockHead; 2]>,
    memo: Option<Memo>,
    /// One is to come.
    is_promised: bool,
    is_holding: bool,
}

impl Half {
    pub(super) fn new(side: Side, from_start: bool) -> Half {
        Half {
            reader: FrameReader::new(side, from_start),
            decoder: Decoder::new(from_start),
            block: None,
            has_blocks: false,
            last: None,
            memo: None,
            is_promised: false,
            is_holding: false,
        }
    }

    /// Header blocks are missing.
    pub(super) fn forget(&mut self) {
        self.decoder.forget();
        self.block = None;
        self.last = None;
    }

    /// What the program remembers at a position; nothing: it will be told.
    pub(super) fn remember(&mut self, position: u64, bytes: &[u8]) {
        self.is_promised = bytes.is_empty() && self.decoder.lacks();
        if !bytes.is_empty() && self.decoder.lacks() {
            self.memo = Memo::read(position, bytes);
        }
    }

    /// Nothing more is told.
    pub(super) fn expect_nothing(&mut self) {
        (self.is_promised, self.is_holding) = (false, false);
    }

    /// Whether a block waits for the table that is to come.
    pub(super) fn holds(&mut self, unread: &[u8], frame: &Frame, now_unix_ns: i64) -> bool {
        self.is_holding = false;
        let is_block = FrameHead::of(unread).is_some_and(|head| head.kind == HEADERS);
        if !self.is_promised || !is_block {
            return false;
        }
        let waited_ns = now_unix_ns.saturating_sub(frame.time_unix_ns);
        if waited_ns >= REORDER_GRACE_NS || unread.len() > HELD_BYTES_MAX {
            self.expect_nothing();
            return false;
        }
        self.is_holding = true;
        true
    }

    pub(super) fn is_holding(&self) -> bool {
        self.is_holding
    }

    /// Takes over what the program remembers, if it is of a place up to which all is there; a frame begins here.
    pub(super) fn look_at_memo(&mut self, stream: &StreamBuffer) {
        let Some(memo) = &self.memo else { return };
        let ahead = memo.position.checked_sub(stream.position());
        let window = match ahead.map(usize::try_from) {
            Some(Ok(bytes)) if bytes <= stream.unread().len() => &stream.unread()[..bytes],
            Some(_) if stream.lost_bytes() == 0 => return,
            // It is of a place that was read, or will not be.
            _ => return self.memo = None,
        };
        if self.block.is_some() {
            return;
        }
        let Some(memo) = self.memo.take() else { return };
        let Some(blocks) = Blocks::of(window, !memo.is_senders) else { return };
        let seen = blocks.last.or(self.last.filter(|_| !memo.is_senders));
        if seen
            .is_some_and(|[block, part]| memo.block == if memo.is_senders { block } else { part })
        {
            let last = Inserted { entries: memo.inserted, bytes: memo.block.bytes };
            self.decoder.adopt(&memo.table, last, &blocks.all);
        }
    }

    /// Storage, as it is.
    pub(super) fn held_bytes(&self) -> usize {
        let block = self.block.as_ref().map_or(0, |block| block.bytes.capacity());
        self.decoder.held_bytes()
            + block
            + self.memo.as_ref().map_or(0, |memo| memo.table.held_bytes())
    }
}
