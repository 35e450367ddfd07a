//! Elements in a file, appended: JSON or CSV lines.
//!
//! A batch is safe once it is in the file: written, synced, and the file still the one at its path. A write
//! that stops halfway is taken back, so a line is whole or not there. A file that was moved away (rotation)
//! is left as it is and a new one begun; one that was removed gets what was written since the last sync
//! again. Links are not followed, and only a plain file of ours is written to, by one process at a time.
//! Half a line at the end, which a crash left, is cut off and counted; what is in the file already does not
//! get there twice.

mod open;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::element::Element;
use crate::encode::{self, Codec};
use crate::sink::{self, Notes, Resume, SinkError, Writer};

use self::open::{Identity, Opened};

/// A file that was replaced while it was written is written to anew so often before it is tried later.
const REPLACED_MAX: usize = 3;

/// The file that is written to.
struct Current {
    file: File,
    identity: Identity,
    /// Up to here it is ours and whole.
    len: u64,
}

pub struct FileSink {
    /// Where a relative path begins.
    base: PathBuf,
    path: PathBuf,
    codec: Codec,
    current: Option<Current>,
    /// Nothing was opened yet: what is there is of a former life.
    is_first: bool,
    /// What was in it then.
    resume: Resume,
    notes: Notes,
}

impl FileSink {
    /// `path`: where to write, from `base` on if it is relative.
    #[must_use]
    pub fn new(base: &Path, path: &Path, codec: Codec) -> FileSink {
        FileSink {
            base: base.to_path_buf(),
            path: path.to_path_buf(),
            codec,
            current: None,
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
            if std::mem::take(&mut self.is_first) && len > 0 {
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
            self.current = Some(Current { file, identity, len });
        }
        self.current.as_mut().ok_or_else(|| SinkError::Retry("the file is closed".to_string()))
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
        let mut attempts = 0;
        while !text.is_empty() && !self.append(header.as_deref(), &text)? {
            attempts += 1;
            if attempts == REPLACED_MAX {
                let text = format!("{} is removed again and again", self.path.display());
                return Err(SinkError::Retry(text));
            }
        }
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
