//! Elements in Parquet files, for what is kept long: each batch is a file of its own, `NAME-FIRST-LAST.parquet`, after
//! the numbers of its elements, with the view's columns and `_op`, `_seq`, `_tick`. A file has its name only once it is
//! whole and synced, so that every one that is seen can be read; what a crash left half is taken away at the start.
//! How large files become `batch` says. One process writes at a time.

mod columns;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::delivery::OutputInfo;
use crate::element::{Element, Op};
use crate::file::folder::{Folder, Name};
use crate::sink::{self, Notes, Resume, SinkError, Writer};

/// Numbers in a file's name.
const NUMBERS: usize = 2;

pub struct ParquetSink {
    base: PathBuf,
    path: PathBuf,
    /// So many files stay.
    keep: Option<usize>,
    opened: Option<Opened>,
    notes: Notes,
}

struct Opened {
    folder: Folder,
    name: Name,
    /// What is being written.
    part: String,
    /// Elements up to this number are there.
    seq: u64,
    _lock: File,
}

/// # Errors
/// Columns that would not be told from ours.
pub fn judge(info: &OutputInfo) -> Result<(), SinkError> {
    columns::judge(info).map_err(SinkError::Refused)
}

/// Writes some elements of one output as a file; how many texts were cleaned.
pub(crate) fn write(out: impl Write + Send, elements: &[&Element]) -> Result<u64, SinkError> {
    columns::write(out, elements).map_err(|error| sink::unwritten("", &error))
}

impl ParquetSink {
    /// `path`: what files are called, without their numbers, from `base` on if it is relative.
    #[must_use]
    pub fn new(base: &Path, path: &Path, keep: Option<usize>) -> ParquetSink {
        let (base, path) = (base.to_path_buf(), path.to_path_buf());
        ParquetSink { base, path, keep, opened: None, notes: Notes::default() }
    }

    fn opened(&mut self) -> Result<&mut Opened, SinkError> {
        if self.opened.is_none() {
            let (folder, file) = Folder::of(&self.base, &self.path)?;
            let lock = folder.lock(&format!(".{file}.lock"))?;
            let (name, part) = (Name::of(&file), format!(".{file}.part"));
            folder.remove(&part);
            let there = folder.aside(&name, NUMBERS)?;
            let seq = there.last().map_or(0, |(seq, _)| *seq);
            self.opened = Some(Opened { folder, name, part, seq, _lock: lock });
        }
        self.opened.as_mut().ok_or_else(|| SinkError::Retry("it is closed".to_string()))
    }

    /// A file of some elements of one output.
    fn write_file(&mut self, part: &[&Element]) -> Result<(), SinkError> {
        let opened = self.opened()?;
        // Written before a crash, and not acknowledged.
        let leaves = |element: &&&Element| element.op != Op::Progress && element.seq > opened.seq;
        let elements: Vec<&Element> = part.iter().filter(leaves).copied().collect();
        let (Some(first), Some(last)) = (elements.first(), elements.last()) else { return Ok(()) };
        let (first, last) = (first.seq, last.seq);
        // Of an attempt that failed.
        opened.folder.remove(&opened.part);
        let file = opened.folder.create(&opened.part)?;
        let failed = |error: std::io::Error| sink::unwritten("", &error);
        let written = write(&file, &elements);
        let done = written.and_then(|cleaned| {
            file.sync_all().map_err(failed)?;
            opened.folder.rename(&opened.part, &opened.name.with(&[first, last]))?;
            Ok(cleaned)
        });
        let cleaned = done.inspect_err(|_| opened.folder.remove(&opened.part))?;
        opened.folder.sync();
        opened.seq = last;
        let keep = self.keep;
        if let (Some(keep), Some(opened)) = (keep, &self.opened) {
            opened.folder.keep_newest(&opened.name, NUMBERS, keep);
        }
        self.notes.cleaned += cleaned;
        Ok(())
    }
}

impl Writer for ParquetSink {
    fn open(&mut self) -> Result<Resume, SinkError> {
        let seq = self.opened()?.seq;
        Ok(Resume { seq, has_rows: seq > 0 })
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        for part in batch.chunk_by(|a, b| Arc::ptr_eq(&a.output, &b.output)) {
            let done = self.write_file(part);
            if matches!(done, Err(SinkError::Retry(_))) {
                // Perhaps the folder was taken away.
                self.opened = None;
            }
            done?;
            *safe += part.len();
        }
        Ok(())
    }

    fn notes(&self) -> Notes {
        self.notes
    }

    fn close(&mut self) {
        self.opened = None;
    }
}
