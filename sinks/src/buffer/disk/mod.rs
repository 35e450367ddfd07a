//! Elements in files of the data directory: they outlive the server, also one that was killed. A restart
//! reads the end of the newest file only, whatever there is, and goes on in a new one. A part that is
//! damaged costs what was in it: numbers that are missing are counted, and say so in the output.

pub mod dir;
mod segment;
pub mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::element::{Described, Element, Op};
use crate::sink::{self, SinkError};

use self::dir::BufferDir;
use self::segment::{Read, SegmentReader};
use self::state::{Saved, StateFile};
use super::{Damage, Gaps, Place, Taken};

/// A buffer is at most so many files at a time, and drops its oldest by files.
const SEGMENTS_PER_BUFFER: u64 = 8;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 8 << 20;
/// Of a file that others made larger no more is looked at.
const READ_BYTES_MAX: u64 = SEGMENT_BYTES_MAX + segment::FRAME_BYTES_MAX as u64;
/// Files that are known; what is in more of them is damage.
const SEGMENTS_MAX: usize = 4096;
const SUFFIX: &str = ".seg";
/// A smaller buffer could not be written in files.
pub const DISK_BYTES_MIN: u64 = 1 << 20;

struct Segment {
    id: u64,
    len: u64,
}

/// The file that is written.
struct Writing {
    id: u64,
    file: File,
    len: u64,
    outputs: Vec<Arc<Described>>,
}

struct Reading {
    id: u64,
    reader: SegmentReader,
}

pub struct DiskBuffer {
    dir: BufferDir,
    bytes_max: u64,
    segment_bytes: u64,
    state: StateFile,
    /// In the order of their numbers; those that are read to their end and not acknowledged as well.
    segments: VecDeque<Segment>,
    next_id: u64,
    writing: Option<Writing>,
    reading: Option<Reading>,
    /// Read to its end.
    read_id: u64,
    /// The last number that was given to an element, and the last that is taken.
    given_seq: u64,
    last_seq: u64,
    gaps: Gaps,
    /// What came out before is not known: the first file says.
    is_gap_known: bool,
    /// Taken, and not acknowledged.
    outstanding: usize,
    /// To make the folder again if it is taken away.
    data_dir: PathBuf,
    name: String,
}

fn name_of(id: u64) -> String {
    format!("{id:020}{SUFFIX}")
}

fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

impl DiskBuffer {
    /// # Errors
    /// Its folder cannot be used.
    pub fn open(data_dir: &Path, name: &str, bytes_max: u64) -> Result<DiskBuffer, SinkError> {
        let dir = BufferDir::open(data_dir, name)?;
        let mut state = StateFile::open(&dir)?;
        let mut damage = Damage { elements: 0, parts: u64::from(state.is_damaged) };
        let mut segments: Vec<Segment> = dir
            .names()?
            .into_iter()
            .filter_map(|(name, len)| Some(Segment { id: id_of(&name)?, len }))
            .collect();
        state.begin(!segments.is_empty());
        let saved = *state.saved();
        segments.sort_by_key(|segment| segment.id);
        segments.retain(|segment| {
            let is_done = segment.id < saved.acked_segment;
            if is_done {
                dir.remove(&name_of(segment.id));
            }
            !is_done
        });
        for segment in segments.drain(segments.len().min(SEGMENTS_MAX)..) {
            damage.parts += 1;
            dir.remove(&name_of(segment.id));
        }
        let newest = segments.last().map_or(0, |segment| segment.id).max(saved.acked_segment);
        let found = segments.last().map_or(0, |segment| last_seq_in(&dir, segment.id));
        let given_seq = found.max(saved.written_seq).max(saved.acked_seq);
        let known = Saved { sent_seq: 0, ..saved };
        let is_gap_known = !state.is_damaged && known != Saved::default();
        Ok(DiskBuffer {
            segment_bytes: (bytes_max / SEGMENTS_PER_BUFFER)
                .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            bytes_max: bytes_max.max(DISK_BYTES_MIN),
            segments: segments.into(),
            next_id: newest + 1,
            writing: None,
            reading: None,
            read_id: 0,
            given_seq,
            last_seq: given_seq.max(saved.sent_seq),
            gaps: Gaps { last_seq: saved.acked_seq, dropped: 0, damage },
            is_gap_known,
            outstanding: 0,
            data_dir: data_dir.to_path_buf(),
            name: name.to_string(),
            dir,
            state,
        })
    }

    fn used(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    pub(super) fn push(&mut self, element: &Element) -> Result<bool, SinkError> {
        let output = self.output_number(&element.output);
        let (mut payload, mut frame) = (Vec::new(), Vec::new());
        element.push_bytes(&mut payload, output.unwrap_or(element.output.input));
        segment::push_frame(&mut frame, &payload);
        if payload.len() > segment::FRAME_BYTES_MAX {
            return Err(SinkError::Unfit("a row is too large to be buffered".to_string()));
        }
        let fits = |writing: &Writing| writing.len + frame.len() as u64 <= self.segment_bytes;
        let begins = output.is_none() || !self.writing.as_ref().is_some_and(fits);
        let new = begins.then(|| self.beginning(&element.output));
        let len = frame.len() + new.as_ref().map_or(0, |(text, _)| text.len());
        let is_over = self.used() + len as u64 > self.bytes_max;
        // One that is larger than all of it has to go through all the same.
        if is_over && !(self.is_empty() && self.bytes() == 0) {
            return Ok(false);
        }
        if let Some((text, outputs)) = new {
            self.begin_segment(&text, outputs)?;
        }
        let Some(writing) = &mut self.writing else {
            return Err(SinkError::Retry("the buffer's file is closed".to_string()));
        };
        if let Err(error) = writing.file.write_all_at(&frame, writing.len) {
            // Half a frame is written over, or passed over.
            drop(writing.file.set_len(writing.len));
            return Err(unwritten(&error));
        }
        writing.len += frame.len() as u64;
        if let Some(segment) = self.segments.back_mut() {
            segment.len = writing.len;
        }
        self.last_seq = self.last_seq.max(element.seq);
        self.given_seq = self.last_seq;
        Ok(true)
    }

    /// Where an output stands among those of the file that is written.
    fn output_number(&self, output: &Arc<Described>) -> Option<u16> {
        let writing = self.writing.as_ref()?;
        let at = writing.outputs.iter().position(|have| Arc::ptr_eq(have, output))?;
        u16::try_from(at).ok()
    }

    /// What a new file begins with, whose outputs have their inputs' numbers.
    fn beginning(&self, output: &Arc<Described>) -> (Vec<u8>, Vec<Arc<Described>>) {
        let mut outputs = self.writing.as_ref().map_or(Vec::new(), |it| it.outputs.clone());
        let at = usize::from(output.input);
        while outputs.len() <= at {
            outputs.push(Arc::clone(output));
        }
        outputs[at] = Arc::clone(output);
        (segment::beginning(self.given_seq, self.last_seq + 1, &outputs), outputs)
    }

    fn begin_segment(
        &mut self,
        text: &[u8],
        outputs: Vec<Arc<Described>>,
    ) -> Result<(), SinkError> {
        let name = name_of(self.next_id);
        let file = match self.dir.create(&name) {
            Err(SinkError::Retry(_)) => {
                // Perhaps somebody took the folder away.
                self.dir = BufferDir::open(&self.data_dir, &self.name)?;
                self.dir.create(&name)?
            }
            made => made?,
        };
        if let Err(error) = file.write_all_at(text, 0) {
            self.dir.remove(&name);
            return Err(unwritten(&error));
        }
        if let Some(before) = self.writing.take() {
            drop(before.file.sync_data());
        }
        self.dir.sync();
        let (id, len) = (self.next_id, text.len() as u64);
        self.next_id += 1;
        self.segments.push_back(Segment { id, len });
        self.writing = Some(Writing { id, file, len, outputs });
        Ok(())
    }

    pub(super) fn skip_to(&mut self, seq: u64) {
        if seq > self.last_seq + 1 {
            self.last_seq = seq - 1;
            // The next file says so.
            self.writing = None;
        }
    }

    pub(super) fn note_dropped(&mut self, elements: u64) {
        self.gaps.dropped += elements;
        self.last_seq += elements;
        self.given_seq = self.last_seq;
    }

    pub(super) fn drop_oldest(&mut self) -> u64 {
        let Some(oldest) = self.segments.pop_front() else { return 0 };
        let last_seq = match self.segments.front() {
            Some(next) => after_in(&self.dir, next.id).unwrap_or(self.gaps.last_seq),
            None => self.given_seq,
        };
        if self.writing.as_ref().is_some_and(|writing| writing.id == oldest.id) {
            self.writing = None;
        }
        if self.reading.as_ref().is_some_and(|reading| reading.id == oldest.id) {
            self.reading = None;
        }
        self.read_id = self.read_id.max(oldest.id);
        self.dir.remove(&name_of(oldest.id));
        // Numbers that were not given to elements there are no loss; those dropped before are counted.
        let missing = last_seq.saturating_sub(self.gaps.last_seq + self.gaps.dropped);
        self.gaps.dropped += missing;
        missing
    }

    pub(super) fn sync(&mut self) -> Result<(), SinkError> {
        if self.state.saved().written_seq == self.given_seq {
            return Ok(());
        }
        if let Some(writing) = &self.writing {
            writing.file.sync_data().map_err(|error| unwritten(&error))?;
        }
        self.state.save(Saved { written_seq: self.given_seq, ..*self.state.saved() });
        self.state.sync();
        Ok(())
    }

    /// The next file that was not read, opened. What cannot be is passed over.
    fn open_next(&mut self) -> bool {
        while self.reading.is_none() {
            let Some(id) =
                self.segments.iter().map(|segment| segment.id).find(|id| *id > self.read_id)
            else {
                return false;
            };
            match self.dir.open_file(&name_of(id)) {
                Ok(file) => self.reading = Some(Reading { id, reader: SegmentReader::new(file) }),
                Err(_) => {
                    self.gaps.damage.parts += 1;
                    self.read_id = id;
                    self.dir.remove(&name_of(id));
                    self.segments.retain(|segment| segment.id != id);
                }
            }
        }
        true
    }

    pub(super) fn take(
        &mut self,
        rows_max: usize,
        bytes_max: u64,
    ) -> Result<Vec<Taken>, SinkError> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < rows_max && bytes < bytes_max && self.open_next() {
            let Some(reading) = &mut self.reading else { break };
            let writing = self.writing.as_ref().filter(|writing| writing.id == reading.id);
            let limit = writing
                .map_or_else(|| reading.reader.len().min(READ_BYTES_MAX), |writing| writing.len);
            let before = Place { segment: reading.id, offset: reading.reader.at() };
            match reading.reader.read(limit) {
                Read::Description(description) => {
                    if !std::mem::replace(&mut self.is_gap_known, true) {
                        self.gaps.last_seq = description.after;
                    }
                    let saved = self.state.saved();
                    if reading.id == saved.acked_segment {
                        reading.reader.skip_to(saved.acked_offset);
                    }
                    if let Some(output) = reading.reader.outputs().first().cloned() {
                        let lost = self.gaps.up_to(description.after, 0, &output);
                        bytes += push_lost(&mut taken, lost, before);
                    }
                    self.gaps.last_seq = self.gaps.last_seq.max(description.begins - 1);
                }
                Read::Element(element) => {
                    let place = Place { segment: reading.id, offset: reading.reader.at() };
                    if element.op != Op::Progress {
                        if element.seq <= self.gaps.last_seq {
                            continue;
                        }
                        let output = &element.output;
                        let lost = self.gaps.up_to(element.seq - 1, element.tick_ms, output);
                        bytes += push_lost(&mut taken, lost, before);
                        self.gaps.last_seq = element.seq;
                    }
                    bytes += element.cost_bytes();
                    taken.push(Taken { element, place });
                }
                Read::Damaged => self.gaps.damage.parts += 1,
                Read::End if writing.is_some() => break,
                Read::End => {
                    self.read_id = reading.id;
                    self.reading = None;
                }
            }
        }
        self.outstanding += taken.len();
        self.forget_read();
        Ok(taken)
    }

    /// Files that were read to their end, once nothing of them has to be acknowledged: also those in which
    /// there was nothing whole.
    fn forget_read(&mut self) {
        if self.outstanding > 0 {
            return;
        }
        while let Some(first) = self.segments.front().filter(|first| first.id <= self.read_id) {
            self.dir.remove(&name_of(first.id));
            self.segments.pop_front();
        }
    }

    pub(super) fn ack(&mut self, taken: &[Taken]) {
        let Some(last) = taken.last() else { return };
        let (seq, place) = (last.element.seq, last.place);
        self.outstanding = self.outstanding.saturating_sub(taken.len());
        let saved = self.state.saved();
        self.state.save(Saved {
            acked_seq: saved.acked_seq.max(seq),
            acked_segment: place.segment,
            acked_offset: place.offset,
            ..*saved
        });
        while let Some(first) = self.segments.front().filter(|first| first.id < place.segment) {
            self.dir.remove(&name_of(first.id));
            self.segments.pop_front();
        }
        // Large and of no more use: the next one is begun.
        let is_done = |it: &Writing| {
            it.id == place.segment && it.len == place.offset && it.len >= self.segment_bytes / 2
        };
        if self.writing.as_ref().is_some_and(is_done) {
            self.writing = None;
            self.read_id = self.read_id.max(place.segment);
            self.reading = None;
            self.segments.retain(|segment| segment.id != place.segment);
            self.dir.remove(&name_of(place.segment));
        }
        self.forget_read();
    }

    pub(super) fn note_sent(&mut self, seq: u64) {
        if seq > self.state.saved().sent_seq {
            self.state.save(Saved { sent_seq: seq, ..*self.state.saved() });
        }
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(super) fn bytes(&self) -> u64 {
        let acked = self.state.saved();
        let of = |segment: &Segment| match segment.id.cmp(&acked.acked_segment) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => segment.len.saturating_sub(acked.acked_offset),
            std::cmp::Ordering::Greater => segment.len,
        };
        self.segments.iter().map(of).sum()
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn is_empty(&self) -> bool {
        let Some(newest) = self.segments.back().filter(|newest| newest.id > self.read_id) else {
            return true;
        };
        let writing = self.writing.as_ref().filter(|writing| writing.id == newest.id);
        let reading = self.reading.as_ref().filter(|reading| reading.id == newest.id);
        match (writing, reading) {
            (Some(writing), Some(reading)) => reading.reader.at() >= writing.len,
            _ => false,
        }
    }

    pub(super) fn damage(&self) -> Damage {
        self.gaps.damage
    }
}

fn push_lost(taken: &mut Vec<Taken>, lost: Option<Element>, place: Place) -> u64 {
    let Some(element) = lost else { return 0 };
    let cost = element.cost_bytes();
    taken.push(Taken { element, place });
    cost
}

fn unwritten(error: &std::io::Error) -> SinkError {
    sink::unwritten(" the buffer", error)
}

/// The last number in a file, as far as it can be read.
fn last_seq_in(dir: &BufferDir, id: u64) -> u64 {
    let Ok(file) = dir.open_file(&name_of(id)) else { return 0 };
    let mut reader = SegmentReader::new(file);
    let limit = reader.len().min(READ_BYTES_MAX);
    let mut last_seq = 0;
    loop {
        match reader.read(limit) {
            Read::Description(description) => last_seq = last_seq.max(description.after),
            Read::Element(element) => last_seq = last_seq.max(element.seq),
            Read::Damaged => {}
            Read::End => return last_seq,
        }
    }
}

/// The last number that was given before a file.
fn after_in(dir: &BufferDir, id: u64) -> Option<u64> {
    let mut reader = SegmentReader::new(dir.open_file(&name_of(id)).ok()?);
    let limit = reader.len().min(READ_BYTES_MAX);
    loop {
        match reader.read(limit) {
            Read::Description(description) => return Some(description.after),
            Read::Element(_) | Read::End => return None,
            Read::Damaged => {}
        }
    }
}
