//! Elements in a file, appended: JSON or CSV lines.
//!
//! A batch is safe once it is in the file: written, synced, and the file still the one at its path. A write
//! that stops halfway is taken back, so a line is whole or not there. A file that is large or old enough is put
//! aside, if that is asked for, under a name with the number of its last element. A file that others moved away
//! is left as it is and a new one begun; one that was removed gets what was written since the last sync
//! again. Links are not followed, and only a plain file of ours is written to, by one process at a time.
//! Half a line at the end, which a crash left, is cut off and counted; what is in the file already does not
//! get there twice.

pub(crate) mod folder;
mod open;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_types::{Clock, WallClock};

use crate::element::{Element, Op};
use crate::encode::{self, Codec};
use crate::sink::{self, Notes, Resume, SinkError, Writer};

use self::folder::{Folder, Name};
use self::open::{Identity, Opened};

/// A file that was replaced while it was written is written to anew so often before it is tried later.
const REPLACED_MAX: usize = 3;

/// When a file is put aside, and how many of those stay. It is looked at when something is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// It would be larger.
    pub bytes_max: Option<u64>,
    /// It was begun so long ago.
    pub every: Option<Duration>,
    /// All stay, unless set.
    pub keep: Option<usize>,
}

/// The file that is written to.
struct Current {
    file: File,
    identity: Identity,
    /// Up to here it is ours and whole.
    len: u64,
    /// When it was made.
    begun_unix_ns: i64,
}

pub struct FileSink {
    /// Where a relative path begins.
    base: PathBuf,
    path: PathBuf,
    codec: Codec,
    rotation: Option<Rotation>,
    current: Option<Current>,
    /// The number of the last element that was written.
    written_seq: u64,
    /// Nothing was opened yet: what is there is of a former life.
    is_first: bool,
    /// What was in it then.
    resume: Resume,
    notes: Notes,
}

impl FileSink {
    /// `path`: where to write, from `base` on if it is relative.
    #[must_use]
    pub fn new(base: &Path, path: &Path, codec: Codec, rotation: Option<Rotation>) -> FileSink {
        FileSink {
            base: base.to_path_buf(),
            path: path.to_path_buf(),
            codec,
            rotation,
            current: None,
            written_seq: 0,
            is_first: true,
            resume: Resume::default(),
            notes: Notes::default(),
        }
    }

    /// The file at the path, opened if there is none open or another one is there now.
    fn current(&mut self) -> Result<&mut Current, SinkError> {
        let there = open::identity_at(&self.base, &self.path);
        let same = self.current.as_ref().is_some_and(|have| there.as_ref() == Some(&have.identity));
        if !same {
            if self.current.take().is_some() {
                self.notes.replaced += 1;
            }
            let codec = self.codec;
            let opened = open::open(&self.base, &self.path, codec)?;
            let Opened { file, identity, len, last, has_half } = opened;
            let is_first = std::mem::take(&mut self.is_first);
            if is_first && len == 0 && self.rotation.is_some() {
                self.resume = self.put_aside_before()?;
            }
            if is_first && len > 0 {
                let Some(seq) = encode::seq_of(&last, codec) else {
                    self.is_first = true;
                    return Err(SinkError::Refused(format!(
                        "{} has other lines in it than this sink writes: move it away",
                        self.path.display()
                    )));
                };
                self.resume = Resume { seq, has_rows: true };
            }
            if has_half {
                // Before anything else, so that who reads the file sees whole lines only.
                file.set_len(len).map_err(|error| failed(&error))?;
                self.notes.halves_cut += 1;
            }
            if is_first {
                self.written_seq = self.resume.seq;
            }
            let begun_unix_ns = begun_unix_ns(&file);
            self.current = Some(Current { file, identity, len, begun_unix_ns });
        }
        self.current.as_mut().ok_or_else(|| SinkError::Retry("the file is closed".to_string()))
    }

    /// What the last one that was put aside ends with: whoever ended right after that left no other file.
    fn put_aside_before(&self) -> Result<Resume, SinkError> {
        let (folder, name) = Folder::of(&self.base, &self.path)?;
        let aside = folder.aside(&Name::of(&name), 1)?;
        Ok(aside
            .last()
            .map_or_else(Resume::default, |(seq, _)| Resume { seq: *seq, has_rows: true }))
    }

    /// Puts the file aside, if it is time or would be with so many bytes more.
    fn rotate(&mut self, more: u64) -> Result<(), SinkError> {
        let Some(rotation) = self.rotation else { return Ok(()) };
        let written_seq = self.written_seq;
        let current = self.current()?;
        let is_large = rotation.bytes_max.is_some_and(|max| current.len + more > max);
        let age_ns = WallClock.now_unix_ns().saturating_sub(current.begun_unix_ns);
        let age = Duration::from_nanos(u64::try_from(age_ns).unwrap_or(0));
        let is_old = rotation.every.is_some_and(|every| age >= every);
        if current.len == 0 || !(is_large || is_old) {
            return Ok(());
        }
        let (folder, file) = Folder::of(&self.base, &self.path)?;
        let name = Name::of(&file);
        folder.rename(&file, &name.with(&[written_seq]))?;
        folder.sync();
        self.current = None;
        if let Some(keep) = rotation.keep {
            folder.keep_newest(&name, 1, keep);
        }
        Ok(())
    }

    /// One attempt. False: the file was removed while it was written to.
    fn append(&mut self, header: Option<&str>, text: &str) -> Result<bool, SinkError> {
        let current = self.current()?;
        let header = header.filter(|_| current.len == 0).unwrap_or_default();
        let was_cut = current.append(header.as_bytes(), text.as_bytes())?;
        self.notes.replaced += u64::from(was_cut);
        // Moved away it holds all; removed, nobody will ever see it.
        let removed = self.current.as_ref().is_some_and(|current| open::is_removed(&current.file));
        if removed {
            self.current = None;
            self.notes.replaced += 1;
        }
        Ok(!removed)
    }
}

impl Current {
    /// All of it, or none. True: others had cut the file.
    fn append(&mut self, header: &[u8], text: &[u8]) -> Result<bool, SinkError> {
        let len = self.file.metadata().map_err(|error| failed(&error))?.len();
        let was_cut = len < self.len;
        if was_cut {
            // Cut by somebody: what is there now is what goes on.
            self.len = len;
        } else if len > self.len {
            // The rest of a write that could not be taken back.
            self.file.set_len(self.len).map_err(|error| failed(&error))?;
        }
        let written = self.file.write_all(header).and_then(|()| self.file.write_all(text));
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // Should this fail too, the next attempt does it.
            drop(self.file.set_len(self.len));
            return Err(failed(&error));
        }
        self.len += (header.len() + text.len()) as u64;
        Ok(was_cut)
    }
}

/// Where the file system does not say when it was made, it is as old as what was last written.
fn begun_unix_ns(file: &File) -> i64 {
    let made = file.metadata().and_then(|it| it.created().or_else(|_| it.modified())).ok();
    let since = made.and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or_else(
        || WallClock.now_unix_ns(),
        |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
    )
}

fn failed(error: &std::io::Error) -> SinkError {
    sink::unwritten("", error)
}

impl Writer for FileSink {
    fn open(&mut self) -> Result<Resume, SinkError> {
        self.current()?;
        Ok(self.resume)
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let (mut text, mut header) = (String::new(), None);
        for element in batch {
            // Written before a crash, and not acknowledged.
            if element.seq > self.resume.seq {
                encode::push_line(&mut text, self.codec, element);
                header = header.or_else(|| encode::header(self.codec, &element.output));
            }
        }
        if !text.is_empty() {
            self.rotate(text.len() as u64)?;
        }
        let mut attempts = 0;
        while !text.is_empty() && !self.append(header.as_deref(), &text)? {
            attempts += 1;
            if attempts == REPLACED_MAX {
                let text = format!("{} is removed again and again", self.path.display());
                return Err(SinkError::Retry(text));
            }
        }
        let last = batch.iter().rev().find(|element| element.op != Op::Progress);
        self.written_seq = self.written_seq.max(last.map_or(0, |element| element.seq));
        *safe = batch.len();
        Ok(())
    }

    fn notes(&self) -> Notes {
        self.notes
    }

    fn close(&mut self) {
        self.current = None;
    }
}
