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
/// The first form had six numbers; those that came after them are 0 there.
const MAGICS: [(&[u8; 8], usize); 2] = [(b"WEIRSNK2", NUMBERS), (b"WEIRSNK1", 6)];
/// A copy: magic, numbers, checksum; each in a sector of its own.
const COPY_BYTES: u64 = 512;
const NUMBERS: usize = 9;
const USED_BYTES: usize = used_bytes(NUMBERS);

const fn used_bytes(numbers: usize) -> usize {
    8 + numbers * 8 + 4
}

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
    /// Up to this tick all was safe when something began to wait in memory.
    pub acked_ms: u64,
    /// Servers that ended while elements waited in memory, and `acked_ms` of the last of them.
    pub losses: u64,
    pub lost_since_ms: u64,
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
        saved.acked_ms,
        saved.losses,
        saved.lost_since_ms,
    ];
    let mut bytes = [0; USED_BYTES];
    bytes[..8].copy_from_slice(MAGICS[0].0);
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
    let (_, numbers) = MAGICS.into_iter().find(|(magic, _)| bytes[..8] == magic[..])?;
    let (text, sum) = bytes[..used_bytes(numbers)].split_last_chunk::<4>()?;
    if crc32fast::hash(text) != u32::from_le_bytes(*sum) {
        return None;
    }
    let number = |at: usize| match at < numbers {
        true => text[8 + at * 8..16 + at * 8].try_into().map_or(0, u64::from_le_bytes),
        false => 0,
    };
    let saved = Saved {
        sent_seq: number(1),
        written_seq: number(2),
        acked_seq: number(3),
        acked_segment: number(4),
        acked_offset: number(5),
        acked_ms: number(6),
        losses: number(7),
        lost_since_ms: number(8),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server before this one has written, in the form of then, is read. Catches numbers that are given again, or
    /// skipped, because of an update.
    #[test]
    fn the_first_form_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = BufferDir::open(dir.path(), "t").unwrap();
        let mut bytes = b"WEIRSNK1".to_vec();
        [3_u64, 41, 42, 40, 7, 99].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        let sum = crc32fast::hash(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes.resize(2 * COPY_BYTES as usize, 0);
        folder.open_or_create(NAME).unwrap().write_all_at(&bytes, 0).unwrap();
        let wanted = Saved {
            sent_seq: 41,
            written_seq: 42,
            acked_seq: 40,
            acked_segment: 7,
            acked_offset: 99,
            ..Saved::default()
        };
        let mut state = StateFile::open(&folder).unwrap();
        assert_eq!((*state.saved(), state.is_damaged), (wanted, false));
        let saved = Saved { losses: 2, acked_ms: 5, lost_since_ms: 4, ..wanted };
        state.save(saved);
        assert_eq!(*StateFile::open(&folder).unwrap().saved(), saved);
    }
}
