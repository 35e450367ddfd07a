//! Elements in a file, appended: JSON or CSV lines.
//!
//! What was accepted is kept until it is safely in the file: written, synced, and the file still the one
//! at its path. A write that stops halfway is taken back, so a line is whole or not there. A file that was
//! moved away (rotation) is left as it is and a new one begun; one that was removed gets what was written
//! since the last sync again. Links are not followed, and only a plain file of ours is written to, by one
//! process at a time. Half a line at the end, which a crash left, is cut off and counted.

mod open;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::delivery::{Delivery, OutputInfo};
use crate::elements::{self, Elements, Encoding};
use crate::sink::{Sink, SinkError, SinkHealth};

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
    encoding: Encoding,
    elements: Elements,
    current: Option<Current>,
    /// Nothing was opened yet: what is there is of a former life.
    is_first: bool,
    /// Elements that are not safe yet.
    pending: String,
    /// The tick that is whole with them.
    pending_ms: Option<u64>,
    /// What is there is void: a reset comes first.
    resets: bool,
    health: SinkHealth,
}

impl FileSink {
    /// `path`: where to write, from `base` on if it is relative.
    #[must_use]
    pub fn new(base: &Path, path: &Path, encoding: Encoding) -> FileSink {
        FileSink {
            base: base.to_path_buf(),
            path: path.to_path_buf(),
            encoding,
            elements: Elements::new(encoding),
            current: None,
            is_first: true,
            pending: String::new(),
            pending_ms: None,
            resets: false,
            health: SinkHealth::default(),
        }
    }

    /// The file at the path, opened if there is none open or another one is there now.
    fn current(&mut self) -> Result<&mut Current, SinkError> {
        let there = open::identity_at(&self.base, &self.path);
        let same = self.current.as_ref().is_some_and(|have| there.as_ref() == Some(&have.identity));
        if !same {
            if self.current.take().is_some() {
                self.health.replaced += 1;
            }
            let codec = self.encoding.codec;
            let opened = open::open(&self.base, &self.path, codec)?;
            let Opened { file, identity, len, last, has_half } = opened;
            if std::mem::take(&mut self.is_first) && len > 0 {
                let Some(seq) = elements::seq_of(&last, codec) else {
                    self.is_first = true;
                    return Err(SinkError::Refused(format!(
                        "{} has other lines in it than this sink writes: move it away",
                        self.path.display()
                    )));
                };
                self.elements.go_on_after(seq);
                self.resets = true;
            }
            if has_half {
                // Before anything else, so that who reads the file sees whole lines only.
                file.set_len(len).map_err(|error| failed(&error))?;
                self.health.halves_cut += 1;
            }
            self.current = Some(Current { file, identity, len });
        }
        self.current.as_mut().ok_or_else(|| SinkError::Retry("the file is closed".to_string()))
    }

    /// One attempt. False: the file was removed while it was written to.
    fn write(&mut self) -> Result<bool, SinkError> {
        let header = self.elements.header();
        let pending = std::mem::take(&mut self.pending);
        let written = self.current().and_then(|current| {
            let header = header.filter(|_| current.len == 0).unwrap_or_default();
            current.append(header.as_bytes(), pending.as_bytes())
        });
        self.pending = pending;
        self.health.replaced += u64::from(written?);
        // Moved away it holds all; removed, nobody will ever see it.
        let removed = self.current.as_ref().is_some_and(|current| open::is_removed(&current.file));
        if removed {
            self.current = None;
            self.health.replaced += 1;
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
    use std::io::ErrorKind;
    let text = format!("could not write: {error}");
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            SinkError::Full(text)
        }
        _ => SinkError::Retry(text),
    }
}

impl Sink for FileSink {
    fn start(&mut self, output: &OutputInfo, goes_on: bool) -> Result<(), SinkError> {
        self.elements.describe(output)?;
        // Finds out whether something is there, and whether it may be written at all.
        // What was written before a rotation is void with a new snapshot, too.
        let has_rows = self.current()?.len > 0 || self.elements.rows() > 0;
        self.resets |= has_rows && !goes_on;
        Ok(())
    }

    fn deliver(&mut self, delivery: &Arc<Delivery>) {
        if std::mem::take(&mut self.resets) {
            self.health.resets += 1;
            self.elements.push_reset(&mut self.pending, delivery.tick_ms);
        }
        self.elements.push_delivery(&mut self.pending, delivery);
        if delivery.completeness.is_some() {
            self.pending_ms = Some(delivery.tick_ms);
        }
    }

    fn flush(&mut self) -> Result<Option<u64>, SinkError> {
        self.elements.whole()?;
        if !self.pending.is_empty() {
            let mut attempts = 0;
            while !self.write()? {
                attempts += 1;
                if attempts == REPLACED_MAX {
                    let text = format!("{} is removed again and again", self.path.display());
                    return Err(SinkError::Retry(text));
                }
            }
            self.pending.clear();
        }
        self.health.rows_sent = self.elements.rows();
        self.health.acked_ms = self.pending_ms.take().or(self.health.acked_ms);
        Ok(self.health.acked_ms)
    }

    fn stop(&mut self) {
        self.current = None;
    }

    fn health(&self) -> SinkHealth {
        let buffer_bytes = self.pending.len() as u64;
        let rows_waiting = self.elements.rows() - self.health.rows_sent;
        SinkHealth { buffer_bytes, rows_waiting, ..self.health.clone() }
    }
}
