//! Captures of packets as a source of rows: the same tracker and parsers as capture has, fed from
//! files.
//!
//! ```text
//!  file ──▶ packets ──▶ packet ──▶ flows ──▶ capture events ──▶ SocketTracer ──▶ rows
//!  (pcap, pcapng)     (link to TCP,  (fragments, order,   (with loss, if
//!                      UDP)           holes, ends)         asked for)
//! ```
//!
//! A capture sees both ends of a connection: each exchange is one row, seen from the end that accepts
//! or answers. The clock is the capture's. Not here: where rows go, and pauses between packets.

mod clock;
mod counters;
mod file;
mod flow;
mod flows;
mod fragments;
mod half;
mod input;
mod packet;
mod pcapng;
mod table;
#[cfg(test)]
mod tests;
mod tunnels;

use std::path::{Path, PathBuf};

use weir_protocols::Config;
use weir_types::RecordBatch;
use weir_types::random::SplitMix;

use self::clock::{Clock, Passed};
use self::file::{CaptureFile, Next};
use self::flow::Events;
use self::flows::Flows;
use self::packet::Cut;
use crate::capture::{CaptureEvent, ConnKey, LostCounts, SocketLoss};
use crate::socket::{SocketTracer, SocketTracerConfig};

pub use counters::{ReplayCounters, TableCounts};
pub use flow::TcpCounters;
pub use packet::Skip;

/// After so many packets, or so many bytes, rows are handed out, however little time has passed: a
/// tracer keeps half a million rows, and an exchange has a few bytes at the least.
const PACKETS_A_FLUSH: u32 = 1_024;
const BYTES_A_FLUSH: u64 = 1 << 20;

/// How captures are replayed.
#[derive(Clone, Debug, Default)]
pub struct ReplayConfig {
    pub parsers: Config,
    /// The part of all events that is dropped, to see what that does.
    pub loss: f64,
    /// Which ones: the same for the same seed.
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is no capture: {why}")]
    NotACapture { path: PathBuf, why: &'static str },
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Behind its last packet.
    Whole,
    /// Within a packet.
    Truncated { at: u64 },
    /// What follows cannot be read.
    Damaged { at: u64, what: &'static str },
}

/// Where rows of a replay go. What it answers ends the replay.
pub type OnRows<'a, E> = dyn FnMut(&'static str, RecordBatch) -> Result<(), E> + 'a;

/// One file on its way through tracker and parsers.
pub struct Replay {
    path: PathBuf,
    file: CaptureFile,
    config: ReplayConfig,
    tracer: SocketTracer,
    flows: Flows,
    clock: Clock,
    loss: Loss,
    counters: ReplayCounters,
    /// The packet that comes next, if one was looked at.
    next: Option<file::Packet>,
    /// By how much times are moved.
    moved_ns: i64,
    ended: Option<Ending>,
    /// Since rows were handed out.
    packets_since: u32,
    bytes_since: u64,
    rows: Vec<(&'static str, RecordBatch)>,
}

impl Replay {
    /// # Errors
    /// What is wrong with the file.
    pub fn open(path: &Path, config: ReplayConfig) -> Result<Replay, ReplayError> {
        Ok(Replay::of(path, CaptureFile::open(path)?, config))
    }

    fn of(path: &Path, file: CaptureFile, config: ReplayConfig) -> Replay {
        Replay {
            path: path.to_path_buf(),
            file,
            tracer: tracer(&config),
            flows: Flows::new(),
            clock: Clock::default(),
            loss: Loss::new(&config),
            config,
            counters: ReplayCounters { files: 1, ..ReplayCounters::default() },
            next: None,
            moved_ns: 0,
            ended: None,
            packets_since: 0,
            bytes_since: 0,
            rows: Vec::new(),
        }
    }

    /// When the next packet was captured; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_time_unix_ns(&mut self) -> Result<Option<i64>, ReplayError> {
        if self.next.is_none() && self.ended.is_none() {
            match self.read()? {
                Next::Packet(mut packet) => {
                    packet.time_unix_ns = within_times(packet.time_unix_ns) + self.moved_ns;
                    self.next = Some(packet);
                }
                Next::End(ending) => self.ended = Some(ending),
            }
        }
        Ok(self.next.map(|packet| packet.time_unix_ns))
    }

    /// From here on all times are moved.
    pub fn move_times(&mut self, by_ns: i64) {
        self.moved_ns = by_ns;
        if let Some(packet) = &mut self.next {
            packet.time_unix_ns += by_ns;
        }
    }

    fn read(&mut self) -> Result<Next, ReplayError> {
        match self.file.next() {
            Err(error) if file::is_damage(&error) => {
                let (at, what) = (self.file.at(), "its compression is broken");
                Ok(Next::End(Ending::Damaged { at, what }))
            }
            next => next.map_err(|source| ReplayError::Read { path: self.path.clone(), source }),
        }
    }

    /// Takes the next packet in. False at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn step(&mut self) -> Result<bool, ReplayError> {
        self.next_time_unix_ns()?;
        let Some(packet) = self.next.take() else { return Ok(false) };
        match self.clock.packet(packet.time_unix_ns) {
            Passed::Little => {}
            Passed::Steps(steps) => steps.into_iter().for_each(|now| self.pass_time(now)),
            Passed::SetBack => self.restart(),
        }
        self.counters.packets += 1;
        self.counters.bytes += u64::from(packet.wire_bytes);
        let bytes = Cut { bytes: self.file.bytes(), wire_bytes: packet.wire_bytes as usize };
        let mut out = Feed { tracer: &mut self.tracer, loss: &mut self.loss };
        let taken = self.flows.packet(packet.link_type, bytes, packet.time_unix_ns, &mut out);
        if let Err(skip) = taken {
            *self.counters.skipped.entry(skip.name()).or_default() += 1;
        }
        self.packets_since += 1;
        self.bytes_since += self.file.bytes().len() as u64;
        if self.packets_since >= PACKETS_A_FLUSH || self.bytes_since >= BYTES_A_FLUSH {
            self.pass_time(self.clock.now_unix_ns());
        }
        Ok(true)
    }

    /// Lets time pass, also without a packet.
    pub fn pass_time(&mut self, now_unix_ns: i64) {
        (self.packets_since, self.bytes_since) = (0, 0);
        let mut out = Feed { tracer: &mut self.tracer, loss: &mut self.loss };
        self.flows.pass_time(now_unix_ns, &mut out);
        self.rows.append(&mut self.tracer.flush(now_unix_ns));
        for stop in self.tracer.take_stop_copying() {
            self.flows.unwatch(stop.key);
        }
        drop(self.tracer.take_sockets());
    }

    /// Everything up to here is over.
    fn end_all(&mut self) {
        let mut out = Feed { tracer: &mut self.tracer, loss: &mut self.loss };
        self.flows.finish(&mut out);
        self.rows.append(&mut self.tracer.finish(self.clock.now_unix_ns()));
        self.counters.add_tables(&self.tracer.counters());
        self.tracer = tracer(&self.config);
    }

    /// The capture's clock was set back, or another capture follows in the same file: nothing that
    /// was open goes on.
    fn restart(&mut self) {
        self.counters.clock_restarts += 1;
        self.end_all();
    }

    /// Rows that are complete since the last call.
    pub fn take_rows(&mut self) -> Vec<(&'static str, RecordBatch)> {
        std::mem::take(&mut self.rows)
    }

    /// Bytes on the wire of the packets so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counters.bytes
    }

    /// The newest packet's time.
    #[must_use]
    pub fn last_time_unix_ns(&self) -> i64 {
        self.clock.latest_unix_ns()
    }

    /// Takes everything in, and hands out all rows.
    ///
    /// # Errors
    /// The file cannot be read, or rows could not be taken.
    pub fn run<E: From<ReplayError>>(&mut self, on_rows: &mut OnRows<'_, E>) -> Result<Ending, E> {
        let failed = loop {
            match self.step() {
                Ok(true) => self.hand_out(on_rows)?,
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
        };
        // Also of a file that cannot be read on: what is open has its rows, or is lost.
        let ending = self.finish();
        self.hand_out(on_rows)?;
        failed.map_or(Ok(ending), |error| Err(error.into()))
    }

    fn hand_out<E>(&mut self, on_rows: &mut OnRows<'_, E>) -> Result<(), E> {
        self.take_rows().into_iter().try_for_each(|(table, batch)| on_rows(table, batch))
    }

    /// Ends what is open.
    pub fn finish(&mut self) -> Ending {
        self.end_all();
        self.ended.unwrap_or(Ending::Whole)
    }

    /// What was counted so far, complete after [`Replay::finish`].
    #[must_use]
    pub fn counters(&self) -> ReplayCounters {
        let mut counters = self.counters.clone();
        counters.add_tables(&self.tracer.counters());
        counters.tcp = self.flows.tcp;
        counters.fragments_dropped = self.flows.fragments_dropped();
        counters.datagram_flows_evicted = self.flows.datagrams_evicted;
        counters.events_dropped = self.loss.dropped();
        counters
    }
}

/// Before the epoch, and after the year 2116, is no time.
fn within_times(time_unix_ns: i64) -> i64 {
    time_unix_ns.clamp(0, i64::MAX / 2)
}

/// The newest time of all packets of a capture; reads all of it. `None`: it has no packets.
///
/// # Errors
/// What is wrong with the file.
pub fn last_time_unix_ns(path: &Path) -> Result<Option<i64>, ReplayError> {
    let mut file = CaptureFile::open(path)?;
    let mut last = None;
    loop {
        match file.next() {
            Ok(Next::Packet(packet)) => last = last.max(Some(within_times(packet.time_unix_ns))),
            Ok(Next::End(_)) => return Ok(last),
            Err(error) if file::is_damage(&error) => return Ok(last),
            Err(source) => return Err(ReplayError::Read { path: path.to_path_buf(), source }),
        }
    }
}

pub(crate) fn tracer(config: &ReplayConfig) -> SocketTracer {
    SocketTracer::new(SocketTracerConfig {
        parsers: config.parsers.clone(),
        sees_both_ends: true,
        ..SocketTracerConfig::default()
    })
}

/// Drops a part of what comes by.
#[derive(Debug)]
pub(crate) struct Loss {
    part: f64,
    random: SplitMix,
    dropped: u64,
}

impl Loss {
    pub(crate) fn new(config: &ReplayConfig) -> Loss {
        Loss { part: config.loss, random: SplitMix(config.seed), dropped: 0 }
    }

    /// What is lost if this event is dropped; `None`: it stays.
    pub(crate) fn drops(&mut self, event: &CaptureEvent<'_>) -> Option<SocketLoss> {
        let data = event.data()?;
        if self.part <= 0.0 || self.random.unit() >= self.part {
            return None;
        }
        self.dropped += 1;
        let counts = LostCounts { records: 1, ..LostCounts::default() };
        let (key, socket_type) = (Some(data.socket.key), data.socket.socket_type);
        Some(SocketLoss { key, socket_type, counts })
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Events on their way to the tracer.
struct Feed<'a> {
    tracer: &'a mut SocketTracer,
    loss: &'a mut Loss,
}

impl Events for Feed<'_> {
    fn event(&mut self, event: &CaptureEvent<'_>) {
        match self.loss.drops(event) {
            Some(loss) => self.tracer.lost(&loss),
            None => self.tracer.on_event(event),
        }
    }

    fn lost(&mut self, loss: &SocketLoss) {
        self.tracer.lost(loss);
    }

    fn over(&mut self, key: ConnKey) {
        self.tracer.over(key);
    }
}
