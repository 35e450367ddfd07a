//! One file of a buffer: frames, each with a mark, its length and checksums, so that the next whole one is
//! found behind damage. It begins with what its elements are of, twice, so that one flipped byte does not
//! make all of it unreadable. A file is written by one life of a server and only read by later ones.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::element::{Described, Element};

/// No byte of it begins a character, so text hardly ever contains it.
const MAGIC: [u8; 4] = [0xF5, b'W', 0xF6, b'\n'];
/// Mark, length, checksum of what follows, checksum of these.
const FRAME_HEAD_BYTES: usize = 16;
/// A row is shorter: what says that it is longer is damage, and nothing is made ready for it.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;
/// What is read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// The first byte of what describes the file; elements begin with their op.
const DESCRIBES: u8 = 0xFF;
const VERSION: u32 = 1;

/// What stands at the beginning of a file.
#[derive(Serialize, Deserialize)]
pub(super) struct Description {
    version: u32,
    /// The last number that was given before this file.
    pub(super) after: u64,
    /// The first that may be in it. What is between was never an element.
    pub(super) begins: u64,
    outputs: Vec<serde_json::Value>,
}

/// Appends a frame.
pub(super) fn push_frame(out: &mut Vec<u8>, payload: &[u8]) {
    let from = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let sum = crc32fast::hash(&out[from..]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(payload);
}

/// The beginning of a file.
pub(super) fn beginning(after: u64, begins: u64, outputs: &[Arc<Described>]) -> Vec<u8> {
    let outputs = outputs.iter().map(|output| output.to_json()).collect();
    let description = Description { version: VERSION, after, begins, outputs };
    let mut payload = vec![DESCRIBES];
    payload.extend(serde_json::to_vec(&description).expect("strings and numbers are JSON"));
    let mut out = Vec::with_capacity(2 * payload.len() + 2 * FRAME_HEAD_BYTES);
    push_frame(&mut out, &payload);
    push_frame(&mut out, &payload);
    out
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

/// The length that a frame's head says, if it is whole.
fn head_len(head: &[u8]) -> Option<usize> {
    let is_head = head[..4] == MAGIC && number(head, 12) == crc32fast::hash(&head[..12]);
    let len = number(head, 4) as usize;
    (is_head && len <= FRAME_BYTES_MAX).then_some(len)
}

pub(super) enum Read {
    /// The first of a file.
    Description(Description),
    Element(Element),
    /// Something was passed over.
    Damaged,
    End,
}

/// Reads one file from a place on.
pub(super) struct SegmentReader {
    file: File,
    at: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
    outputs: Option<Vec<Arc<Described>>>,
}

impl SegmentReader {
    pub(super) fn new(file: File) -> SegmentReader {
        SegmentReader { file, at: 0, chunk: Vec::new(), chunk_at: 0, outputs: None }
    }

    /// The end of what was read last.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Goes on from here, once the description is known.
    pub(super) fn skip_to(&mut self, at: u64) {
        self.at = self.at.max(at);
    }

    pub(super) fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Bytes of the file, if it has them.
    fn bytes(&mut self, at: u64, len: usize) -> Option<&[u8]> {
        let ends = at.checked_add(len as u64)?;
        if at < self.chunk_at || ends > self.chunk_at + self.chunk.len() as u64 {
            self.chunk.resize(len.max(CHUNK_BYTES), 0);
            self.chunk_at = at;
            let mut filled = 0;
            while filled < self.chunk.len() {
                let read = self.file.read_at(&mut self.chunk[filled..], at + filled as u64);
                match read {
                    Ok(0) | Err(_) => break,
                    Ok(n) => filled += n,
                }
            }
            self.chunk.truncate(filled);
            self.chunk.shrink_to(len.max(CHUNK_BYTES));
        }
        let from = usize::try_from(at - self.chunk_at).ok()?;
        self.chunk.get(from..from + len)
    }

    /// The frame that begins here, if a whole one does: where it ends.
    fn frame(&mut self, at: u64, limit: u64) -> Option<usize> {
        if at + FRAME_HEAD_BYTES as u64 > limit {
            return None;
        }
        let len = head_len(self.bytes(at, FRAME_HEAD_BYTES)?)?;
        let whole = FRAME_HEAD_BYTES + len;
        if at + whole as u64 > limit {
            return None;
        }
        let bytes = self.bytes(at, whole)?;
        let sum = number(bytes, 8);
        (crc32fast::hash(&bytes[FRAME_HEAD_BYTES..]) == sum).then_some(whole)
    }

    /// Where the next whole frame begins; the limit if there is none.
    fn next_whole(&mut self, from: u64, limit: u64) -> u64 {
        let mut at = from;
        while at + FRAME_HEAD_BYTES as u64 <= limit {
            let len = usize::try_from(limit - at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let Some(bytes) = self.bytes(at, len) else { return limit };
            let found = bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
            match found {
                Some(found) => {
                    at += found as u64;
                    if self.frame(at, limit).is_some() {
                        return at;
                    }
                    at += 1;
                }
                None => at += (len - (MAGIC.len() - 1)) as u64,
            }
        }
        limit
    }

    /// What comes next, up to `limit`.
    pub(super) fn read(&mut self, limit: u64) -> Read {
        if self.at >= limit {
            return Read::End;
        }
        let Some(whole) = self.frame(self.at, limit) else {
            self.at = self.next_whole(self.at + 1, limit);
            return Read::Damaged;
        };
        let at = self.at;
        self.at += whole as u64;
        let Some(bytes) = self.bytes(at, whole) else { return Read::Damaged };
        let payload = bytes[FRAME_HEAD_BYTES..].to_vec();
        if payload.first() == Some(&DESCRIBES) {
            return self.described(&payload[1..], limit);
        }
        let outputs = self.outputs.as_deref().unwrap_or_default();
        Element::from_bytes(&payload, outputs).map_or(Read::Damaged, Read::Element)
    }

    fn described(&mut self, json: &[u8], limit: u64) -> Read {
        if self.outputs.is_some() {
            // The second copy.
            return self.read(limit);
        }
        let Ok(description) = serde_json::from_slice::<Description>(json) else {
            return Read::Damaged;
        };
        let outputs =
            description.outputs.iter().map(|json| Described::from_json(json).map(Arc::new));
        let outputs: Option<Vec<_>> = outputs.collect();
        if description.version != VERSION || outputs.is_none() {
            return Read::Damaged;
        }
        self.outputs = outputs;
        Read::Description(description)
    }

    pub(super) fn outputs(&self) -> &[Arc<Described>] {
        self.outputs.as_deref().unwrap_or_default()
    }
}
