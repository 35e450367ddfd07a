//! Numbers of a sink that outlive its process: what was acknowledged, what may have been sent, what was
//! written. Two copies in one file of fixed length, written in turns, each with a checksum: a write that
//! stops halfway spoils one, and the other is the one before.

use std::fs::File;
use std::os::unix::fs::FileExt;

use weir_types::{Clock, WallClock};

use crate::sink::SinkError;

use super::dir::BufferDir;
use super::unwritten;

const NAME: &str = "state";
const MAGIC: &[u8; 8] = b"WEIRSNK1";
/// A copy: magic, six numbers, checksum; each in a sector of its own.
const COPY_BYTES: u64 = 512;
const NUMBERS: usize = 6;
const USED_BYTES: usize = 8 + NUMBERS * 8 + 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Elements up to here may have reached the other end.
    pub sent_seq: u64,
    /// Elements up to here were written down.
    pub written_seq: u64,
    pub acked_seq: u64,
    /// Where the last one that was acknowledged ends.
    pub acked_segment: u64,
    pub acked_offset: u64,
}

pub struct StateFile {
    file: File,
    saved: Saved,
    generation: u64,
    /// Neither copy could be read, though the file was there.
    pub(super) is_damaged: bool,
}

fn bytes_of(saved: &Saved, generation: u64) -> [u8; USED_BYTES] {
    let numbers = [
        generation,
        saved.sent_seq,
        saved.written_seq,
        saved.acked_seq,
        saved.acked_segment,
        saved.acked_offset,
    ];
    let mut bytes = [0; USED_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    for (at, number) in numbers.iter().enumerate() {
        bytes[8 + at * 8..16 + at * 8].copy_from_slice(&number.to_le_bytes());
    }
    let sum = crc32fast::hash(&bytes[..USED_BYTES - 4]);
    bytes[USED_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn read_copy(file: &File, copy: u64) -> Option<(u64, Saved)> {
    let mut bytes = [0; USED_BYTES];
    file.read_exact_at(&mut bytes, copy * COPY_BYTES).ok()?;
    let sum = u32::from_le_bytes(bytes[USED_BYTES - 4..].try_into().ok()?);
    if &bytes[..8] != MAGIC || crc32fast::hash(&bytes[..USED_BYTES - 4]) != sum {
        return None;
    }
    let number =
        |at: usize| bytes[8 + at * 8..16 + at * 8].try_into().map_or(0, u64::from_le_bytes);
    let saved = Saved {
        sent_seq: number(1),
        written_seq: number(2),
        acked_seq: number(3),
        acked_segment: number(4),
        acked_offset: number(5),
    };
    Some((number(0), saved))
}

impl StateFile {
    /// # Errors
    /// It cannot be opened, or may not be.
    pub fn open(dir: &BufferDir) -> Result<StateFile, SinkError> {
        let file = dir.open_or_create(NAME)?;
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        let mut all = [0; 2 * COPY_BYTES as usize];
        let read = file.read_at(&mut all, 0).unwrap_or(0);
        let has_text = all[..read].iter().any(|byte| *byte != 0);
        if len < 2 * COPY_BYTES {
            // Its room is taken now: on a disk that is full later it can still be written.
            let missing = usize::try_from(2 * COPY_BYTES - len).unwrap_or(0);
            file.write_all_at(&vec![0; missing], len).map_err(|error| unwritten(&error))?;
        }
        let copies = [read_copy(&file, 0), read_copy(&file, 1)];
        let newest = copies.into_iter().flatten().max_by_key(|(generation, _)| *generation);
        let is_damaged = has_text && newest.is_none();
        let (generation, saved) = newest.unwrap_or_default();
        let mut state = StateFile { file, saved, generation, is_damaged };
        if is_damaged {
            state.goes_on_safely();
        }
        Ok(state)
    }

    /// What numbers were given before is not known: from here on they are higher than any that can have been, by
    /// the microseconds of the clock. A number given twice would be taken for a repeat, and dropped.
    fn goes_on_safely(&mut self) {
        let now_us = u64::try_from(WallClock.now_unix_ns() / 1_000).unwrap_or(0);
        self.saved.sent_seq = self.saved.sent_seq.max(now_us);
    }

    /// Nobody has saved anything: it was just made, or taken away. From here on somebody has; `has_elements`: there
    /// are some, so that numbers were given.
    pub(super) fn begin(&mut self, has_elements: bool) {
        if self.generation > 0 || self.is_damaged {
            return;
        }
        if has_elements {
            self.goes_on_safely();
        }
        self.save(self.saved);
    }

    #[must_use]
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Outlives this process; the machine only with what is synced later. A failure leaves the copy before,
    /// after which elements are at most sent again.
    pub fn save(&mut self, saved: Saved) {
        self.generation += 1;
        self.saved = saved;
        let bytes = bytes_of(&saved, self.generation);
        drop(self.file.write_all_at(&bytes, (self.generation % 2) * COPY_BYTES));
    }

    pub(super) fn sync(&self) {
        drop(self.file.sync_data());
    }
}
