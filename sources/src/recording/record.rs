//! Captures on this machine into a recording.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::time::Duration;

use serde::Serialize;
use weir_protocols::redact::Redactor;
use weir_types::source::CaptureFilters;

use super::mask::Mask;
use super::{ANSWERS_MAX, ENTRY_BYTES_MAX, Entry, MAGIC, format};
use crate::capture::{CaptureEvent, ConnKey, DataEvent, Liveness};
use crate::ebpf::{CannotRun, EbpfConfig, EbpfSource, Filters};
use crate::socket::{SocketTracer, SocketTracerConfig};

/// How often rows are asked for.
const TICK: Duration = Duration::from_millis(100);

/// Takes of the kernel's buffer in a row.
const DRAINS_MAX: usize = 64;

/// What is recorded.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    pub filters: CaptureFilters,
    /// Overwrites secrets; `None`: all is recorded as it is.
    pub redactor: Option<Redactor>,
    /// The file's size, at the most: then the recording ends.
    pub bytes_max: u64,
}

/// What has been recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordCounts {
    pub events: u64,
    pub payload_bytes: u64,
    /// Events that the kernel's buffer had no room for.
    pub lost_events: u64,
    pub file_bytes: u64,
    /// It ended because the file was full.
    pub is_full: bool,
}

/// The file that is written.
struct Out {
    file: BufWriter<File>,
    scratch: Vec<u8>,
    mask: Option<Mask>,
    payload: Vec<u8>,
    counts: RecordCounts,
    failed: Option<std::io::Error>,
}

/// See the module's documentation.
pub struct Recorder {
    source: EbpfSource,
    tracer: SocketTracer,
    out: Out,
    bytes_max: u64,
}

impl Out {
    fn entry(&mut self, entry: &Entry<'_>) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&[0; 4]);
        if !format::write(entry, &mut self.scratch) {
            return;
        }
        let bytes = self.scratch.len() - 4;
        debug_assert!(bytes <= ENTRY_BYTES_MAX, "events and ticks are bounded");
        self.scratch[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
        self.counts.file_bytes += self.scratch.len() as u64;
        if let Err(error) = self.file.write_all(&self.scratch) {
            self.failed.get_or_insert(error);
        }
    }

    fn event(&mut self, event: &CaptureEvent<'_>) {
        self.counts.events += 1;
        let (CaptureEvent::Data(data) | CaptureEvent::Plain(data)) = event else {
            if let (CaptureEvent::Close { at, last: true, .. }, Some(mask)) =
                (event, &mut self.mask)
            {
                mask.forget(at.socket.key);
            }
            // It holds what would be masked.
            if matches!(event, CaptureEvent::Memo { .. }) && self.mask.is_some() {
                return;
            }
            return self.entry(&Entry::Event(*event));
        };
        self.counts.payload_bytes += data.payload.len() as u64;
        let Some(mask) = &mut self.mask else { return self.entry(&Entry::Event(*event)) };
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        payload.extend_from_slice(data.payload);
        mask.apply(data.socket.key, data.direction, &mut payload);
        let masked = DataEvent { payload: &payload, ..*data };
        self.entry(&Entry::Event(match event {
            CaptureEvent::Plain(_) => CaptureEvent::Plain(masked),
            _ => CaptureEvent::Data(masked),
        }));
        self.payload = payload;
    }
}

impl Recorder {
    /// Begins. What the file held goes once capturing has begun: whoever may not capture loses no recording.
    ///
    /// # Errors
    /// What is in the way of capturing.
    pub fn start(file: File, config: RecorderConfig) -> Result<Recorder, CannotRun> {
        let RecorderConfig { filters, redactor, bytes_max } = config;
        let CaptureFilters { pids, ports, cgroup_ids } = filters;
        let filters = Filters { pids, ports, cgroup_ids, ..Filters::default() };
        let source = EbpfSource::start(&EbpfConfig { filters, ..EbpfConfig::default() })?;
        let mut out = Out {
            file: BufWriter::with_capacity(1 << 20, file),
            scratch: Vec::new(),
            mask: redactor.map(Mask::new),
            payload: Vec::new(),
            counts: RecordCounts { file_bytes: MAGIC.len() as u64, ..RecordCounts::default() },
            failed: None,
        };
        let emptied = out.file.get_ref().set_len(0).and_then(|()| out.file.rewind());
        out.failed = emptied.and_then(|()| out.file.write_all(&MAGIC)).err();
        let tracer = SocketTracer::new(SocketTracerConfig::default());
        Ok(Recorder { source, tracer, out, bytes_max })
    }

    /// Records for a moment. `false`: the file is full, or cannot be written.
    pub fn step(&mut self, now_unix_ns: i64) -> bool {
        self.source.wait(TICK);
        self.drain();
        self.tick(now_unix_ns);
        self.out.counts.is_full = self.out.counts.file_bytes >= self.bytes_max;
        !self.is_over()
    }

    /// The file is full, or cannot be written.
    fn is_over(&self) -> bool {
        self.out.counts.file_bytes >= self.bytes_max || self.out.failed.is_some()
    }

    /// Takes what the kernel has. Not to the end, should more come than can be written: whether time or the file is
    /// over is looked at in between.
    fn drain(&mut self) {
        for _ in 0..DRAINS_MAX {
            let Recorder { source, tracer, out, .. } = self;
            let drained = source.drain(&mut |event| {
                out.event(&event);
                tracer.on_event(&event);
            });
            if !drained.more || self.is_over() {
                break;
            }
        }
        drop(self.tracer.take_sockets());
        for stop in self.tracer.take_stop_copying() {
            // Its bytes go on being copied, and recorded.
            let _ = self.source.stop_copying(stop);
        }
    }

    fn tick(&mut self, now_unix_ns: i64) {
        let Recorder { source, tracer, out, .. } = self;
        source.losses(&mut |loss| {
            out.counts.lost_events += loss.counts.records;
            out.entry(&Entry::Lost(*loss));
            tracer.lost(loss);
        });
        let mut answers: Vec<(ConnKey, Liveness)> = Vec::new();
        // Rows are of no use here: what they are made of is.
        drop(tracer.flush_asking(now_unix_ns, &mut |key| {
            if answers.len() >= ANSWERS_MAX {
                return Liveness::Unknown;
            }
            let liveness = source.liveness(key);
            answers.push((key, liveness));
            liveness
        }));
        out.entry(&Entry::Tick { now_unix_ns, answers });
    }

    /// Ends the recording, and says what it holds.
    ///
    /// # Errors
    /// It could not be written as a whole.
    pub fn finish(mut self, now_unix_ns: i64) -> std::io::Result<RecordCounts> {
        self.drain();
        self.tick(now_unix_ns);
        self.out.entry(&Entry::End);
        self.source.stop().wait();
        let Out { mut file, counts, failed, .. } = self.out;
        match failed {
            Some(error) => Err(error),
            None => file.flush().map(|()| counts),
        }
    }
}
