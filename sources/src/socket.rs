//! The socket tracer: capture events in, batches of `http_events`, `conn_stats` and
//! `stirling_error` out.
//!
//! It glues the connection tracker to the tables: rows get the process's UPID, the ends' addresses
//! and the role, and go into builders that are used again. One thread drives it: `on_event` for
//! each event, `flush` at each tick's edge. It does *not* capture, and it knows no metadata.

use std::collections::VecDeque;

use weir_protocols::columns::{Endpoints, ROLE_CLIENT, ROLE_SERVER};
use weir_protocols::http1::{self, Exchange};
use weir_protocols::redact::Redactor;
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::{BatchBuilder, RecordBatch, Upid, tables};

use crate::capture::{CaptureEvent, ConnKey, Liveness};
use crate::conn::{
    Ask, Ends, ParserPanic, Role, SocketOwner, StatsEntry, StatsKey, Tracker, TrackerCounters,
    TrackerLimits,
};

/// Full batches that wait for `flush`; beyond it the oldest is dropped and counted.
const READY_BATCHES_MAX: usize = 64;
/// With `test_faults`, a request whose path holds this makes the parser panic.
pub const TEST_PANIC_TOKEN: &str = "weir-test-parser-panic";
/// `stirling_error.status` of a broken invariant.
const STATUS_INTERNAL: i64 = 9;

/// How a socket tracer works.
#[derive(Clone, Debug, Default)]
pub struct SocketTracerConfig {
    /// This agent's short id: the high part of every UPID.
    pub asid: u32,
    /// The agent itself, in rows about its own errors.
    pub own_upid: Upid,
    pub limits: TrackerLimits,
    pub http1: http1::Config,
    /// `--test-faults`: requests can ask for a panic ([`TEST_PANIC_TOKEN`]).
    pub test_faults: bool,
}

/// What a table of this source lost, and what it gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounters {
    pub table: &'static str,
    pub rows: u64,
    /// Reason → rows or events that we failed to see or keep, all reasons always present: `gap`,
    /// exchanges of which a half was seen but bytes were missing; `unpaired`, halves of exchanges
    /// that began before the connection was watched; `given_up`, requests forgotten for room.
    pub lost: Vec<(&'static str, u64)>,
    /// Not lost: requests that the peer left without an answer.
    pub unanswered: u64,
    /// Not lost: responses that nobody had asked for.
    pub unasked: u64,
}

impl CaptureCounters {
    /// What was lost for one reason.
    #[must_use]
    pub fn lost_for(&self, reason: &str) -> u64 {
        self.lost.iter().find(|(known, _)| *known == reason).map_or(0, |(_, count)| *count)
    }
}

/// See the module's documentation.
pub struct SocketTracer {
    config: SocketTracerConfig,
    tracker: Tracker,
    sink: Sink,
    conn_stats: BatchBuilder,
    conn_stats_rows: u64,
    errors: BatchBuilder,
    errors_rows: u64,
}

/// Where exchanges become rows.
struct Sink {
    asid: u32,
    test_faults: bool,
    redactor: Redactor,
    http_events: BatchBuilder,
    scratch: Vec<u8>,
    rows: u64,
    ready: VecDeque<RecordBatch>,
    dropped_rows: u64,
}

impl SocketTracer {
    #[must_use]
    pub fn new(config: SocketTracerConfig) -> SocketTracer {
        SocketTracer {
            tracker: Tracker::new(config.limits, config.http1.clone()),
            sink: Sink {
                asid: config.asid,
                test_faults: config.test_faults,
                redactor: config.http1.redactor.clone(),
                http_events: builder("http_events"),
                scratch: Vec::new(),
                rows: 0,
                ready: VecDeque::new(),
                dropped_rows: 0,
            },
            conn_stats: builder("conn_stats"),
            conn_stats_rows: 0,
            errors: builder("stirling_error"),
            errors_rows: 0,
            config,
        }
    }

    /// Takes one event.
    pub fn on_event(&mut self, event: &CaptureEvent<'_>) {
        let sink = &mut self.sink;
        self.tracker
            .on_event(event, &mut |ends, role, exchange| sink.exchange(ends, role, exchange));
    }

    /// The rows since the last call, at most 8,192 a batch, by table. Nobody can be asked whether a
    /// socket is still held.
    pub fn flush(&mut self, now_unix_ns: i64) -> Vec<(&'static str, RecordBatch)> {
        self.flush_asking(now_unix_ns, &mut |_| Liveness::Unknown)
    }

    /// As [`SocketTracer::flush`]; `ask` is asked about sockets that are silent, or whose last known
    /// holder has ended.
    pub fn flush_asking(
        &mut self,
        now_unix_ns: i64,
        ask: &mut Ask<'_>,
    ) -> Vec<(&'static str, RecordBatch)> {
        let sink = &mut self.sink;
        let mut emit =
            |ends: &Ends, role, exchange: Exchange<'_>| sink.exchange(ends, role, exchange);
        self.tracker.on_time(now_unix_ns, ask, &mut emit);
        for panic in self.tracker.take_panics() {
            self.error_row(&panic);
        }
        let mut batches: Vec<(&'static str, RecordBatch)> =
            self.sink.ready.drain(..).map(|batch| ("http_events", batch)).collect();
        if self.sink.http_events.rows() > 0 {
            batches.push(("http_events", self.sink.http_events.finish()));
        }
        for (key, entry) in self.tracker.take_stats().unwrap_or_default() {
            self.stats_row(now_unix_ns, &key, &entry);
            if self.conn_stats.rows() == BATCH_ROWS_MAX {
                batches.push(("conn_stats", self.conn_stats.finish()));
            }
        }
        if self.conn_stats.rows() > 0 {
            batches.push(("conn_stats", self.conn_stats.finish()));
        }
        if self.errors.rows() > 0 {
            batches.push(("stirling_error", self.errors.finish()));
        }
        batches
    }

    /// The input is over: every connection ends, and the rest of the rows come out.
    pub fn finish(&mut self, now_unix_ns: i64) -> Vec<(&'static str, RecordBatch)> {
        let mut batches = self.flush(now_unix_ns);
        let sink = &mut self.sink;
        self.tracker.finish(&mut |ends, role, exchange| sink.exchange(ends, role, exchange));
        batches.append(&mut self.flush(now_unix_ns));
        batches
    }

    /// Sockets whose payload is of no use: the kernel need not copy it any more.
    pub fn take_stop_copying(&mut self) -> Vec<ConnKey> {
        self.tracker.take_stop_copying()
    }

    /// Local addresses that came into use since the last call, for
    /// [`crate::metadata::LocalMetadata::observed`]: connections too short for its refreshes.
    pub fn take_sockets(&mut self) -> Vec<SocketOwner> {
        self.tracker.take_sockets()
    }

    /// What each table gave and lost so far.
    #[must_use]
    pub fn counters(&self) -> Vec<CaptureCounters> {
        let tracker = self.tracker.counters();
        let http1 = tracker.http1;
        vec![
            CaptureCounters {
                table: "http_events",
                rows: self.sink.rows,
                lost: vec![
                    ("batches_full", self.sink.dropped_rows),
                    ("connections_full", tracker.connections_evicted),
                    ("bytes_full", tracker.bytes_forgotten),
                    ("parser_panic", tracker.parser_panics),
                    ("stream_full", tracker.stream_overflow_bytes),
                    ("gap", http1.gap),
                    ("unpaired", http1.unpaired),
                    ("given_up", http1.given_up),
                ],
                unanswered: http1.unanswered,
                unasked: http1.unasked,
            },
            CaptureCounters {
                table: "conn_stats",
                rows: self.conn_stats_rows,
                lost: vec![
                    ("keys_full", self.tracker.stats_refused()),
                    ("connections_full", tracker.connections_evicted),
                ],
                ..CaptureCounters::default()
            },
            CaptureCounters {
                table: "stirling_error",
                rows: self.errors_rows,
                ..CaptureCounters::default()
            },
        ]
    }

    /// Keys that the connection statistics hold now.
    #[must_use]
    pub fn stats_keys(&self) -> usize {
        self.tracker.stats_keys()
    }

    /// The tracker's own counters, for self-observation.
    #[must_use]
    pub fn tracker_counters(&self) -> TrackerCounters {
        self.tracker.counters()
    }

    fn stats_row(&mut self, now_unix_ns: i64, key: &StatsKey, entry: &StatsEntry) {
        let builder = &mut self.conn_stats;
        let upid = Upid::new(self.config.asid, key.process.pid, key.process.start_ticks);
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        builder.int64(0, now_unix_ns);
        builder.uint128(1, upid.0);
        builder.string(2, key.remote.to_string().as_bytes());
        builder.int64(3, i64::from(key.remote_port));
        builder.int64(4, role_number(entry.role));
        builder.int64(5, if key.remote.is_ipv4() { 1 } else { 2 });
        builder.int64(6, entry.protocol as i64);
        builder.boolean(7, false);
        builder.int64(8, count(entry.opened));
        builder.int64(9, count(entry.closed));
        builder.int64(10, count(entry.opened.saturating_sub(entry.closed)));
        builder.int64(11, count(entry.bytes_sent));
        builder.int64(12, count(entry.bytes_received));
        builder.end_row();
        self.conn_stats_rows += 1;
    }

    fn error_row(&mut self, panic: &ParserPanic) {
        let builder = &mut self.errors;
        let Ends { remote_addr, local_addr, .. } = &panic.ends;
        let context =
            format!("{{\"local_addr\":\"{local_addr}\",\"remote_addr\":\"{remote_addr}\"}}");
        builder.int64(0, panic.time_unix_ns);
        builder.uint128(1, self.config.own_upid.0);
        builder.string(2, b"socket_tracer");
        builder.int64(3, STATUS_INTERNAL);
        builder.string(4, format!("a parser panicked: {}", panic.message).as_bytes());
        builder.string(5, context.as_bytes());
        builder.end_row();
        self.errors_rows += 1;
    }
}

impl Sink {
    fn exchange(&mut self, ends: &Ends, role: Role, exchange: Exchange<'_>) {
        let asks = |path: &[u8]| String::from_utf8_lossy(path).contains(TEST_PANIC_TOKEN);
        if self.test_faults && asks(&exchange.request.path) {
            // Asked for by --test-faults, to prove that a parser's panic is contained.
            panic!("injected by a test");
        }
        let process = ends.process;
        let [local_port, remote_port] = ends.ports();
        let endpoints = Endpoints {
            time_unix_ns: exchange.time_unix_ns(),
            upid: Upid::new(self.asid, process.pid, process.start_ticks).0,
            remote_addr: &ends.remote_addr,
            remote_port,
            local_addr: &ends.local_addr,
            local_port,
            trace_role: role_number(role),
            encrypted: false,
        };
        let Sink { http_events, redactor, scratch, .. } = self;
        http1::append_row(http_events, &endpoints, &exchange, redactor, scratch);
        self.rows += 1;
        if self.http_events.rows() == BATCH_ROWS_MAX {
            if self.ready.len() == READY_BATCHES_MAX {
                let dropped = self.ready.pop_front();
                self.dropped_rows += dropped.map_or(0, |batch| batch.num_rows() as u64);
            }
            self.ready.push_back(self.http_events.finish());
        }
    }
}

fn role_number(role: Role) -> i64 {
    match role {
        Role::Client => ROLE_CLIENT,
        Role::Server => ROLE_SERVER,
    }
}

fn builder(table: &str) -> BatchBuilder {
    tables::find(table).expect("the registry declares every table of this source").builder()
}
