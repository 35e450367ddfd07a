//! Captures of packets as a source of a server: as fast as they were made, or at once.
//!
//! Their times are moved so that scripts find them in their windows: played, the first packet is now;
//! taken at once, the last one is. All of them are moved alike. A capture is taken once: should its reader
//! die, it does not begin again, which would give rows twice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};
use weir_sources::ParserConfig;
use weir_sources::replay::{self, Ending, Replay, ReplayConfig, ReplayError};
use weir_sources::socket;
use weir_sources::source::{Output, Refusal, RunningSource, Source};
use weir_types::source::TableCounters;
use weir_types::text::with_causes;

use super::stop::{Counted, StopProgress};

/// Packets of one poll: some milliseconds, so that orders and the end are not waited for.
const PACKETS_A_POLL: usize = 20_000;
/// Bytes of one poll: as many become rows at most before they are handed over.
const BYTES_A_POLL: u64 = 8 << 20;

/// How fast captures are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// As the packets came.
    Recorded,
    /// At once.
    Full,
}

/// Which captures, and how.
#[derive(Clone, Debug)]
pub struct Captures {
    pub files: Vec<PathBuf>,
    pub speed: Speed,
}

pub(super) struct CapturedPackets {
    captures: Captures,
    parsers: ParserConfig,
    was_started: AtomicBool,
    progress: StopProgress,
}

impl CapturedPackets {
    pub(super) fn new(
        captures: Captures,
        parsers: ParserConfig,
        progress: StopProgress,
    ) -> CapturedPackets {
        CapturedPackets { captures, parsers, was_started: AtomicBool::new(false), progress }
    }
}

fn refused(error: ReplayError) -> Refusal {
    Refusal::new(with_causes(&error))
}

impl Source for CapturedPackets {
    fn name(&self) -> Arc<str> {
        "pcap".into()
    }

    /// Connections are counted of processes, of which captures know none.
    fn tables(&self) -> Vec<String> {
        let all = socket::table_names().iter().filter(|table| **table != "conn_stats");
        all.map(ToString::to_string).collect()
    }

    /// What is wrong with a capture is seen when it is opened.
    fn can_run(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal> {
        if self.was_started.load(Ordering::SeqCst) {
            return Err(Refusal::new("it stopped within its captures, which are taken once"));
        }
        let counted = self.progress.count();
        let mut playing = Vec::new();
        let mut times = Vec::new();
        for file in &self.captures.files {
            let config = ReplayConfig { parsers: self.parsers.clone(), ..ReplayConfig::default() };
            let mut replay = Replay::open(file, config).map_err(refused)?;
            times.extend(match self.captures.speed {
                Speed::Recorded => replay.next_time_unix_ns().map_err(refused)?,
                Speed::Full => replay::last_time_unix_ns(file).map_err(refused)?,
            });
            playing.push(Playing { file: file.clone(), replay, is_over: false });
        }
        let now_is = match self.captures.speed {
            Speed::Recorded => times.into_iter().min(),
            Speed::Full => times.into_iter().max(),
        };
        // From here on rows may come of them: what could not be opened may be tried again.
        self.was_started.store(true, Ordering::SeqCst);
        Ok(Box::new(RunningCaptures { playing, now_is, is_moved: false, _counted: counted }))
    }
}

/// One capture.
struct Playing {
    file: PathBuf,
    replay: Replay,
    is_over: bool,
}

struct RunningCaptures {
    playing: Vec<Playing>,
    /// The time in the captures that is the present when they begin.
    now_is: Option<i64>,
    is_moved: bool,
    _counted: Counted,
}

impl Playing {
    /// When its next packet comes; `None`: there is none any more.
    fn next_unix_ns(&mut self) -> Option<i64> {
        if self.is_over {
            return None;
        }
        match self.replay.next_time_unix_ns() {
            Ok(next) => next,
            Err(error) => {
                warn!(error = with_causes(&error), "a capture cannot be read further");
                self.end();
                None
            }
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        let (file, packets) = (self.file.display().to_string(), self.replay.counters().packets);
        match self.replay.finish() {
            Ending::Whole => info!(file, packets, "capture ended"),
            Ending::Truncated { at } => warn!(file, packets, at, "capture is cut within a packet"),
            Ending::Damaged { at, what } => warn!(file, packets, at, what, "capture is damaged"),
        }
    }
}

impl RunningCaptures {
    fn move_times(&mut self, now_unix_ns: i64) {
        let by_ns = self.now_is.map_or(0, |now_is| now_unix_ns.saturating_sub(now_is));
        self.playing.iter_mut().for_each(|playing| playing.replay.move_times(by_ns));
        self.is_moved = true;
    }

    /// Takes the packets that have come by now, of all captures in the order of their times.
    fn take(&mut self, now_unix_ns: i64) {
        let mut bytes = 0;
        for _ in 0..PACKETS_A_POLL {
            if bytes >= BYTES_A_POLL {
                return;
            }
            let next = self.playing.iter_mut().filter_map(|playing| {
                let next_unix_ns = playing.next_unix_ns().filter(|next| *next <= now_unix_ns)?;
                Some((next_unix_ns, playing))
            });
            let Some((_, first)) = next.min_by_key(|(next_unix_ns, _)| *next_unix_ns) else {
                return;
            };
            let before = first.replay.bytes();
            if let Err(error) = first.replay.step() {
                warn!(error = with_causes(&error), "a capture cannot be read further");
                first.end();
            }
            bytes += first.replay.bytes() - before;
        }
    }
}

impl RunningSource for RunningCaptures {
    fn poll(&mut self, now_unix_ns: i64, out: &mut dyn Output) {
        if !self.is_moved {
            self.move_times(now_unix_ns);
        }
        self.take(now_unix_ns);
        for playing in &mut self.playing {
            for (table, batch) in playing.replay.take_rows() {
                out.rows(table, batch);
            }
        }
    }

    fn flush(&mut self, now_unix_ns: i64, out: &mut dyn Output) {
        let mut tables: BTreeMap<&str, TableCounters> = BTreeMap::new();
        for playing in &mut self.playing {
            match playing.next_unix_ns() {
                Some(next_unix_ns) => playing.replay.pass_time(next_unix_ns.min(now_unix_ns)),
                None if !playing.is_over => playing.end(),
                None => {}
            }
            for (table, batch) in playing.replay.take_rows() {
                out.rows(table, batch);
            }
            for (table, counts) in playing.replay.counters().tables {
                let lost = counts.lost.into_iter();
                tables.entry(table).or_default().add(&TableCounters {
                    lost_total: lost.map(|(reason, count)| (reason.to_string(), count)).collect(),
                    unanswered_total: counts.unanswered,
                    unasked_total: counts.unasked,
                    ..TableCounters::default()
                });
            }
        }
        for (table, counters) in tables {
            out.counted(table, counters);
        }
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let mut sum = weir_sources::replay::ReplayCounters::default();
        self.playing.iter().for_each(|playing| sum.add(&playing.replay.counters()));
        let over = self.playing.iter().filter(|playing| playing.is_over).count();
        let counts = [
            ("captures", self.playing.len() as u64),
            ("captures_over", over as u64),
            ("packets", sum.packets),
            ("bytes", sum.bytes),
            ("skipped_packets", sum.skipped.values().sum()),
            ("missing_bytes", sum.tcp.missing_bytes),
            ("cut_bytes", sum.tcp.cut_bytes),
        ];
        counts.map(|(name, count)| (name.to_string(), count)).into()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(10)
    }
}
