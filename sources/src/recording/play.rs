//! A recording through the tracker and the parsers.
//!
//! Of a connection of which both ends were recorded the accepting one is played: each exchange is there
//! once. To know, the file is read twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use weir_types::RecordBatch;

use super::{ENTRY_BYTES_MAX, Entry, MAGIC, format};
use crate::capture::{CaptureEvent, ConnKey, Liveness, Opened, Socket, SocketType};
use crate::replay::{self, Ending, Loss, OnRows, ReplayConfig, ReplayCounters, ReplayError};
use crate::socket::SocketTracer;

/// Ends of connections that are remembered; of further ones both ends are played.
const ENDS_MAX: usize = 1 << 20;

/// Bytes of entries without a tick among them, after which rows are handed out all the same.
const BYTES_WITHOUT_TICK_MAX: u64 = 8 << 20;

/// Whether a file is a recording. What cannot be read is none, nor what can be read only once: a recording
/// is read twice.
#[must_use]
pub fn is_recording(path: &Path) -> bool {
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let mut magic = [0; MAGIC.len()];
    let read = |mut file: File| file.read_exact(&mut magic);
    is_file && File::open(path).and_then(read).is_ok() && magic == MAGIC
}

/// The file, entry by entry.
struct Entries {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    bytes: Vec<u8>,
}

/// What came of reading on.
enum Step {
    Entry,
    Ends(Ending),
}

impl Entries {
    fn open(path: &Path) -> Result<Entries, ReplayError> {
        let unreadable = |source| ReplayError::Read { path: path.to_path_buf(), source };
        let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(unreadable)?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).map_err(unreadable)?;
        if magic != MAGIC {
            let why = "it is no recording of this version";
            return Err(ReplayError::NotACapture { path: path.to_path_buf(), why });
        }
        Ok(Entries { path: path.to_path_buf(), file, at: MAGIC.len() as u64, bytes: Vec::new() })
    }

    fn next(&mut self) -> Result<Step, ReplayError> {
        let at = self.at;
        let mut length = [0; 4];
        if !self.read(&mut length)? {
            return Ok(Step::Ends(Ending::Truncated { at }));
        }
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 || length > ENTRY_BYTES_MAX {
            return Ok(Step::Ends(Ending::Damaged { at, what: "an entry of no possible length" }));
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(length, 0);
        let is_whole = self.read(&mut bytes)?;
        self.bytes = bytes;
        Ok(if is_whole { Step::Entry } else { Step::Ends(Ending::Truncated { at }) })
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<bool, ReplayError> {
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(ReplayError::Read { path: self.path.clone(), source }),
        }
    }
}

/// What tells one end of a connection.
type End = (SocketAddr, SocketAddr, SocketType);

/// Which ends were recorded, and how they were opened.
#[derive(Default)]
struct Ends(HashMap<End, Opened>);

impl Ends {
    fn note(&mut self, socket: &Socket) {
        let (Some(local), Some(remote)) = (socket.local, socket.remote) else { return };
        let end = (local, remote, socket.socket_type);
        if self.0.len() < ENDS_MAX || self.0.contains_key(&end) {
            let opened = self.0.entry(end).or_default();
            if *opened == Opened::Unknown {
                *opened = socket.opened;
            }
        }
    }

    /// Whether the other end was recorded, too, and is the one to be played.
    fn is_other(&self, socket: &Socket) -> bool {
        let (Some(local), Some(remote)) = (socket.local, socket.remote) else { return false };
        let of = |end: End| {
            let rank = match self.0.get(&end)? {
                Opened::Accepted => 2,
                Opened::Unknown => 1,
                Opened::Connected => 0,
            };
            // Of two that say nothing the smaller port, then the smaller address, is the server's.
            Some((rank, std::cmp::Reverse((end.0.port(), end.0.ip()))))
        };
        let kind = socket.socket_type;
        match (of((local, remote, kind)), of((remote, local, kind))) {
            (Some(this), Some(other)) => this < other,
            _ => false,
        }
    }
}

/// See the module's documentation.
pub struct Recording {
    entries: Entries,
    ends: Ends,
    tracer: SocketTracer,
    loss: Loss,
    counters: ReplayCounters,
    last_unix_ns: i64,
    /// Since rows were asked for. A recorder does so ever again; a file may be anybody's.
    bytes_since: u64,
}

impl Recording {
    /// # Errors
    /// What is wrong with the file.
    pub fn open(path: &Path, config: ReplayConfig) -> Result<Recording, ReplayError> {
        let (mut first, mut ends) = (Entries::open(path)?, Ends::default());
        while let Step::Entry = first.next()? {
            match format::read(&first.bytes) {
                Some(Entry::Event(event)) => {
                    event.data().into_iter().for_each(|data| ends.note(&data.socket));
                }
                Some(Entry::End) | None => break,
                Some(_) => {}
            }
        }
        Ok(Recording {
            entries: Entries::open(path)?,
            ends,
            tracer: replay::tracer(&config),
            loss: Loss::new(&config),
            counters: ReplayCounters { files: 1, ..ReplayCounters::default() },
            last_unix_ns: 0,
            bytes_since: 0,
        })
    }

    /// Takes everything in, and hands out all rows.
    ///
    /// # Errors
    /// The file cannot be read, or rows could not be taken.
    pub fn run<E: From<ReplayError>>(&mut self, on_rows: &mut OnRows<'_, E>) -> Result<Ending, E> {
        let ending = loop {
            match self.entries.next()? {
                Step::Ends(ending) => break ending,
                Step::Entry => {}
            }
            let bytes = std::mem::take(&mut self.entries.bytes);
            let entry = format::read(&bytes);
            let rows = match entry {
                Some(Entry::End) => break Ending::Whole,
                Some(entry) => self.take(&entry),
                None => {
                    let (at, what) = (self.entries.at, "an entry of no known kind");
                    break Ending::Damaged { at, what };
                }
            };
            self.bytes_since += bytes.len() as u64;
            self.entries.bytes = bytes;
            for (table, batch) in rows {
                on_rows(table, batch)?;
            }
        };
        for (table, batch) in self.tracer.finish(self.last_unix_ns) {
            on_rows(table, batch)?;
        }
        Ok(ending)
    }

    /// Rows, when they were asked for.
    fn take(&mut self, entry: &Entry<'_>) -> Vec<(&'static str, RecordBatch)> {
        match entry {
            Entry::Event(event) => self.event(event),
            Entry::Lost(loss) => self.tracer.lost(loss),
            Entry::Tick { now_unix_ns, answers } => {
                let answers: HashMap<ConnKey, Liveness> = answers.iter().copied().collect();
                let rows = self.tracer.flush_asking(*now_unix_ns, &mut |key| {
                    answers.get(&key).copied().unwrap_or(Liveness::Unknown)
                });
                return self.handed_out(rows);
            }
            Entry::End => {}
        }
        if self.bytes_since < BYTES_WITHOUT_TICK_MAX {
            return Vec::new();
        }
        let rows = self.tracer.flush(self.last_unix_ns);
        self.handed_out(rows)
    }

    fn handed_out<R>(&mut self, rows: R) -> R {
        self.bytes_since = 0;
        drop((self.tracer.take_stop_copying(), self.tracer.take_sockets()));
        rows
    }

    fn event(&mut self, event: &CaptureEvent<'_>) {
        self.last_unix_ns = self.last_unix_ns.max(event.time_unix_ns());
        if event.socket().is_some_and(|socket| self.ends.is_other(socket)) {
            return;
        }
        if let Some(data) = event.data() {
            self.counters.packets += 1;
            self.counters.bytes += u64::from(data.total_bytes);
        }
        if let Some(loss) = self.loss.drops(event) {
            self.counters.events_dropped = self.loss.dropped();
            return self.tracer.lost(&loss);
        }
        self.tracer.on_event(event);
    }

    /// The newest event's time.
    #[must_use]
    pub fn last_time_unix_ns(&self) -> i64 {
        self.last_unix_ns
    }

    /// What was counted so far; packets are events here.
    #[must_use]
    pub fn counters(&self) -> ReplayCounters {
        let mut counters = self.counters.clone();
        counters.add_tables(&self.tracer.counters());
        counters
    }
}
