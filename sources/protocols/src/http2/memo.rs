//! The table of fields that a program keeps of a connection: read, and held to what the stream says.
//!
//! A decoder that has joined midway takes it in place of what it does not know. The table is of a later place than the
//! decoder, so the blocks in between are read ahead: what they put into the table must be in it, at its newest end. A
//! table that differs in any field is refused, and so is one of which it cannot be seen that it is this connection's;
//! what is unknown stays so. Nothing here is believed: it is memory of a program's.

use super::hpack::Table;
use super::parse::{FrameHead, content};
use super::types::{
    BLOCK_BYTES_MAX, CONTINUATION, END_HEADERS, FRAME_HEAD_BYTES, HEADERS, PUSH_PROMISE,
};

/// Of a block so much is compared.
const HEAD_BYTES: usize = 32;
/// Before the entries.
const FIXED_BYTES: usize = 24 + HEAD_BYTES;
/// As the protocol counts: 16 KiB hold no more.
const ENTRIES_MAX: usize = 512;

/// A block, or a part of one, by its length and how it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockHead {
    pub(super) bytes: usize,
    head: [u8; HEAD_BYTES],
}

impl BlockHead {
    pub(super) fn of(block: &[u8]) -> BlockHead {
        let mut head = [0; HEAD_BYTES];
        let count = block.len().min(HEAD_BYTES);
        head[..count].copy_from_slice(&block[..count]);
        BlockHead { bytes: block.len(), head }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Memo {
    /// In the stream.
    pub(super) position: u64,
    /// The sender's, in which all blocks before the position are; else the receiver's, which has read what is whole.
    pub(super) is_senders: bool,
    pub(super) block: BlockHead,
    /// So many entries that block, or part, has put into the table: neither older nor newer is this.
    pub(super) inserted: usize,
    pub(super) table: Table,
}

impl Memo {
    /// As `struct weir_memo` has it. `None`: it contradicts itself.
    pub(super) fn read(position: u64, bytes: &[u8]) -> Option<Memo> {
        let (fixed, mut rest) = bytes.split_at_checked(FIXED_BYTES)?;
        let (numbers, head) = fixed.split_at(FIXED_BYTES - HEAD_BYTES);
        let number = |at: usize| Some(u32::from_le_bytes(*numbers.get(at..)?.first_chunk()?));
        let (count, table_bytes) = (number(0)? as usize, number(4)? as usize);
        let block = BlockHead { bytes: number(12)? as usize, head: head.try_into().ok()? };
        if count == 0 || count > ENTRIES_MAX || block.bytes == 0 {
            return None;
        }
        let mut table = Table::with_room_for(number(8)? as usize);
        for _ in 0..count {
            let (lengths, texts) = rest.split_first_chunk::<8>()?;
            let [a, b, c, d, e, f, g, h] = *lengths;
            let name_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
            let value_bytes = u32::from_le_bytes([e, f, g, h]) as usize;
            let (name, texts) = texts.split_at_checked(name_bytes)?;
            let (value, texts) = texts.split_at_checked(value_bytes)?;
            if !is_name(name) || !is_value(value) {
                return None;
            }
            table.push(name, value);
            rest = texts;
        }
        let (is_senders, inserted) = (number(16)? != 0, number(20)? as usize);
        let is_whole = rest.is_empty() && table.is_of(table_bytes);
        is_whole.then_some(Memo { position, is_senders, block, inserted, table })
    }
}

/// As HTTP/2 has them: without capitals.
fn is_name(name: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    !name.is_empty() && name.iter().all(is_letter)
}

fn is_value(value: &[u8]) -> bool {
    !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
}

/// The blocks of a run of frames.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) all: Vec<Vec<u8>>,
    /// The last block, and the last part of it.
    pub(super) last: Option<[BlockHead; 2]>,
}

impl Blocks {
    /// `may_be_cut`: the last frame need not be whole. `None`: they are no frames, or end within a block.
    pub(super) fn of(frames: &[u8], may_be_cut: bool) -> Option<Blocks> {
        let mut blocks = Blocks::default();
        let mut open: Option<(u32, Vec<u8>)> = None;
        let mut rest = frames;
        while !rest.is_empty() {
            let head = FrameHead::of(rest);
            let whole = head.and_then(|head| {
                let (payload, behind) = rest[FRAME_HEAD_BYTES..].split_at_checked(head.length)?;
                Some((head, payload, behind))
            });
            let Some((head, payload, behind)) = whole else {
                return (may_be_cut && open.is_none()).then_some(blocks);
            };
            rest = behind;
            let part = match (head.kind, &mut open) {
                (PUSH_PROMISE, _) => return None,
                (HEADERS, None) => {
                    open = Some((head.stream, Vec::new()));
                    content(head, payload)?
                }
                (CONTINUATION, Some((stream, _))) if *stream == head.stream => payload,
                (HEADERS | CONTINUATION, _) | (_, Some(_)) => return None,
                (_, None) => continue,
            };
            let (_, block) = open.as_mut()?;
            block.extend_from_slice(part);
            if block.len() > BLOCK_BYTES_MAX {
                return None;
            }
            if head.has(END_HEADERS) {
                let (_, block) = open.take()?;
                blocks.last = Some([BlockHead::of(&block), BlockHead::of(part)]);
                blocks.all.push(block);
            }
        }
        open.is_none().then_some(blocks)
    }
}

/// Whether fields can be those of one message: what begins with a colon comes first, and once.
#[derive(Debug, Default)]
pub(super) struct Order {
    named: Vec<Vec<u8>>,
    is_past: bool,
    pub(super) is_broken: bool,
}

impl Order {
    pub(super) fn see(&mut self, name: Option<&[u8]>) {
        let Some(name) = name else { return };
        if !name.starts_with(b":") {
            self.is_past = true;
            return;
        }
        self.is_broken |= self.is_past || self.named.iter().any(|known| known == name);
        if self.named.len() < 16 {
            self.named.push(name.to_vec());
        }
    }
}
