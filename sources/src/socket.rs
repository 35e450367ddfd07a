//! The socket tracer: capture events in, batches of the protocols' tables, of `conn_stats` and of
//! `stirling_error` out.
//!
//! It glues the connection tracker to the tables: rows get the process's UPID, the ends' addresses
//! and the role, and go into builders that are used again. One thread drives it: `on_event` for
//! each event, `flush` at each tick's edge. It does *not* capture, and it knows no metadata.

use std::collections::VecDeque;
use std::sync::LazyLock;

use weir_protocols::columns::{Endpoints, ROLE_CLIENT, ROLE_SERVER};
use weir_protocols::{Config, Counters, PROTOCOLS};
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::tables::{
    ConnStats, ConnStatsRow, StirlingError, StirlingErrorRow, Table, TableBuilder,
};
use weir_types::{BatchBuilder, RecordBatch, Upid, tables};

use crate::capture::{CaptureEvent, ConnKey, Liveness, SocketLoss};
use crate::conn::{
    Ask, Ends, ParserPanic, Role, RowEnds, SocketOwner, StatsEntry, StatsKey, StopCopying, Tracker,
    TrackerCounters, TrackerLimits, address_text,
};

/// Full batches that wait for `flush`; beyond it the oldest is dropped and counted.
const READY_BATCHES_MAX: usize = 64;
/// With `test_faults`, a request that holds this makes the parser panic.
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
    pub parsers: Config,
    /// `--test-faults`: requests can ask for a panic ([`TEST_PANIC_TOKEN`]).
    pub test_faults: bool,
    /// Of a connection what both ends do is seen, as in a capture of packets: its rows are those of the
    /// end that accepts or answers, and no end is a process's.
    pub sees_both_ends: bool,
}

/// What a table of this source lost, and what it gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounters {
    pub table: &'static str,
    pub rows: u64,
    /// Reason → rows or events that we failed to see or keep, all reasons always present: `gap`,
    /// exchanges of which a half was seen but bytes were missing; `unpaired`, halves of exchanges
    /// that began before the connection was watched; `given_up`, requests forgotten for
    /// room, or because their connection stopped being understood.
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
    conn_stats: TableBuilder<ConnStats>,
    conn_stats_rows: u64,
    errors: TableBuilder<StirlingError>,
    errors_rows: u64,
}

/// Tables that are not a protocol's.
const OWN_TABLES: [&str; 2] = [ConnStats::DEF.name, StirlingError::DEF.name];

/// Every table that a socket tracer fills.
#[must_use]
pub fn table_names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| {
        let mut names: Vec<&str> = Vec::new();
        for name in PROTOCOLS.iter().flat_map(|def| def.tables).chain(&OWN_TABLES) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        names
    });
    &NAMES
}

/// Where exchanges become rows.
struct Sink {
    asid: u32,
    sees_both_ends: bool,
    /// By protocol, by their places in its declaration.
    tables: Vec<Vec<TableRows>>,
}

struct TableRows {
    table: &'static str,
    has_encrypted: bool,
    builder: BatchBuilder,
    rows: u64,
    ready: VecDeque<RecordBatch>,
    dropped_rows: u64,
}

impl SocketTracer {
    #[must_use]
    pub fn new(config: SocketTracerConfig) -> SocketTracer {
        let panics_at = config.test_faults.then_some(TEST_PANIC_TOKEN);
        let parsers = Config { panics_at, ..config.parsers.clone() };
        SocketTracer {
            tracker: Tracker::new(config.limits, parsers),
            sink: Sink {
                asid: config.asid,
                sees_both_ends: config.sees_both_ends,
                tables: PROTOCOLS
                    .iter()
                    .map(|def| def.tables.iter().map(|table| TableRows::new(table)).collect())
                    .collect(),
            },
            conn_stats: TableBuilder::new(),
            conn_stats_rows: 0,
            errors: TableBuilder::new(),
            errors_rows: 0,
            config,
        }
    }

    /// Takes one event.
    pub fn on_event(&mut self, event: &CaptureEvent<'_>) {
        let sink = &mut self.sink;
        self.tracker.on_event(event, &mut |row, write| sink.row(row, write));
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
        self.tracker.on_time(now_unix_ns, ask, &mut |row, write| sink.row(row, write));
        for panic in self.tracker.take_panics() {
            self.error_row(&panic);
        }
        let mut batches = Vec::new();
        for rows in self.sink.tables.iter_mut().flatten() {
            rows.take(&mut batches);
        }
        let mut stats = self.tracker.take_stats().unwrap_or_default();
        if self.config.sees_both_ends {
            // They are of processes, of which there are none.
            stats.clear();
        }
        for (key, entry) in stats {
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
        self.tracker.finish(&mut |row, write| sink.row(row, write));
        batches.append(&mut self.flush(now_unix_ns));
        batches
    }

    /// Sockets whose payload is of no use: the kernel need not copy it any more.
    pub fn take_stop_copying(&mut self) -> Vec<StopCopying> {
        self.tracker.take_stop_copying()
    }

    /// Local addresses that came into use since the last call, for
    /// [`crate::metadata::LocalMetadata::observed`]: connections too short for its refreshes.
    pub fn take_sockets(&mut self) -> Vec<SocketOwner> {
        self.tracker.take_sockets()
    }

    /// Nothing more comes of a socket: ends its connection now.
    pub fn over(&mut self, key: ConnKey) {
        let sink = &mut self.sink;
        self.tracker.over(key, &mut |row, write| sink.row(row, write));
    }

    /// Takes what the source has lost: after its events of the same time.
    pub fn lost(&mut self, loss: &SocketLoss) {
        self.tracker.lost(loss);
    }

    /// What each table gave and lost so far. What was lost with a connection whose protocol is not
    /// known may have been any table's.
    #[must_use]
    pub fn counters(&self) -> Vec<CaptureCounters> {
        // Several protocols may fill one table.
        let mut tables: Vec<(&'static str, Vec<(usize, &TableRows)>)> = Vec::new();
        for (protocol, of_protocol) in self.sink.tables.iter().enumerate() {
            for rows in of_protocol {
                match tables.iter_mut().find(|(name, _)| *name == rows.table) {
                    Some((_, filled)) => filled.push((protocol, rows)),
                    None => tables.push((rows.table, vec![(protocol, rows)])),
                }
            }
        }
        let mut all: Vec<CaptureCounters> =
            tables.iter().map(|(table, filled)| self.table_counters(table, filled)).collect();
        all.push(self.conn_stats_counters());
        let (table, rows) = ("stirling_error", self.errors_rows);
        all.push(CaptureCounters { table, rows, ..CaptureCounters::default() });
        all
    }

    /// Of a table that these protocols fill.
    fn table_counters(
        &self,
        table: &'static str,
        filled: &[(usize, &TableRows)],
    ) -> CaptureCounters {
        let protocols: Vec<usize> = filled.iter().map(|(protocol, _)| *protocol).collect();
        let losses = self.tracker.losses().concerning(&protocols);
        let mut parsed = Counters::default();
        protocols.iter().for_each(|protocol| parsed.add(self.tracker.parsed(*protocol)));
        let (mut rows, mut dropped_rows) = (0, 0);
        for (_, of_protocol) in filled {
            rows += of_protocol.rows;
            dropped_rows += of_protocol.dropped_rows;
        }
        CaptureCounters {
            table,
            rows,
            lost: vec![
                ("ring_full", losses.before.records),
                ("skipped_messages", losses.before.messages),
                ("unseen_bytes", losses.before.unseen_bytes),
                ("io_uring_bytes", losses.before.uring_bytes),
                ("batches_full", dropped_rows),
                ("connections_full", losses.connections_evicted),
                ("bytes_full", losses.bytes_forgotten),
                ("parser_panic", losses.parser_panics),
                ("stream_full", losses.stream_overflow_bytes),
                ("gap", parsed.gap),
                ("unpaired", parsed.unpaired),
                ("given_up", parsed.given_up),
            ],
            unanswered: parsed.unanswered,
            unasked: parsed.unasked,
        }
    }

    /// Of connections their opening, their end and their bytes count, not what these said: bytes that
    /// were moved unseen are among them.
    fn conn_stats_counters(&self) -> CaptureCounters {
        let losses = self.tracker.losses().of_streams();
        CaptureCounters {
            table: ConnStats::DEF.name,
            rows: self.conn_stats_rows,
            lost: vec![
                ("ring_full", losses.before.records),
                ("skipped_messages", losses.before.messages),
                ("keys_full", self.tracker.stats_refused()),
                ("connections_full", losses.connections_evicted),
            ],
            ..CaptureCounters::default()
        }
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
        let upid = Upid::new(self.config.asid, key.process.pid, key.process.start_ticks);
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.conn_stats.push(&ConnStatsRow {
            time_: now_unix_ns,
            upid: upid.0,
            remote_addr: key.remote.to_string().as_bytes(),
            remote_port: i64::from(key.remote_port),
            trace_role: role_number(entry.role),
            addr_family: if key.remote.is_ipv4() { 1 } else { 2 },
            protocol: i64::from(entry.protocol),
            ssl: entry.encrypted,
            conn_open: count(entry.opened),
            conn_close: count(entry.closed),
            conn_active: count(entry.opened.saturating_sub(entry.closed)),
            bytes_sent: count(entry.bytes_sent),
            bytes_recv: count(entry.bytes_received),
        });
        self.conn_stats_rows += 1;
    }

    fn error_row(&mut self, panic: &ParserPanic) {
        let Ends { remote_addr, local_addr, .. } = &panic.ends;
        let context =
            format!("{{\"local_addr\":\"{local_addr}\",\"remote_addr\":\"{remote_addr}\"}}");
        self.errors.push(&StirlingErrorRow {
            time_: panic.time_unix_ns,
            upid: self.config.own_upid.0,
            source_connector: b"socket_tracer",
            status: STATUS_INTERNAL,
            error: format!("a parser panicked: {}", panic.message).as_bytes(),
            context: context.as_bytes(),
        });
        self.errors_rows += 1;
    }
}

impl Sink {
    fn row(&mut self, row: &RowEnds<'_>, write: &mut dyn FnMut(&mut BatchBuilder)) {
        let Ends { socket, process, remote_addr, local_addr, .. } = row.ends;
        let [local_port, remote_port] = row.ends.ports();
        // Of a socket with many peers the one that this row is about.
        let other = row.of.peer.filter(|peer| Some(*peer) != socket.remote);
        let other_addr = other.map(|peer| address_text(socket, Some(peer)));
        let mut endpoints = Endpoints {
            time_unix_ns: row.of.time_unix_ns,
            upid: Upid::new(self.asid, process.pid, process.start_ticks).0,
            remote_addr: other_addr.as_deref().unwrap_or(remote_addr),
            remote_port: other.map_or(remote_port, |peer| i64::from(peer.port())),
            local_addr,
            local_port,
            trace_role: role_number(row.role),
            encrypted: row.encrypted,
        };
        if self.sees_both_ends {
            endpoints.upid = 0;
            seen_from_server(&mut endpoints, row.end_role);
        }
        let rows = &mut self.tables[row.protocol][row.of.table];
        match rows.has_encrypted {
            true => endpoints.write(&mut rows.builder),
            false => endpoints.write_without_encrypted(&mut rows.builder),
        }
        write(&mut rows.builder);
        rows.end_row();
    }
}

impl TableRows {
    fn new(table: &'static str) -> TableRows {
        let def = tables::find(table).expect("the registry declares every table of this source");
        TableRows {
            table,
            has_encrypted: def.has_encrypted(),
            builder: def.builder(),
            rows: 0,
            ready: VecDeque::new(),
            dropped_rows: 0,
        }
    }

    fn end_row(&mut self) {
        self.builder.end_row();
        self.rows += 1;
        if self.builder.rows() == BATCH_ROWS_MAX {
            if self.ready.len() == READY_BATCHES_MAX {
                let dropped = self.ready.pop_front();
                self.dropped_rows += dropped.map_or(0, |batch| batch.num_rows() as u64);
            }
            self.ready.push_back(self.builder.finish());
        }
    }

    fn take(&mut self, batches: &mut Vec<(&'static str, RecordBatch)>) {
        batches.extend(self.ready.drain(..).map(|batch| (self.table, batch)));
        if self.builder.rows() > 0 {
            batches.push((self.table, self.builder.finish()));
        }
    }
}

/// Makes the end that accepts the local one, also of what it begins.
fn seen_from_server(endpoints: &mut Endpoints<'_>, end_role: Role) {
    if end_role == Role::Client {
        std::mem::swap(&mut endpoints.local_addr, &mut endpoints.remote_addr);
        std::mem::swap(&mut endpoints.local_port, &mut endpoints.remote_port);
    }
    endpoints.trace_role = ROLE_SERVER;
}

fn role_number(role: Role) -> i64 {
    match role {
        Role::Client => ROLE_CLIENT,
        Role::Server => ROLE_SERVER,
    }
}
