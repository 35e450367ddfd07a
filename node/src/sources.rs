//! Which sources this node runs, put together from `weir-sources`: the eBPF socket tracer, `/proc`,
//! and the metadata that both keep fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;
use weir_engine::Generations;
use weir_sources::ParserConfig;
use weir_sources::capture::{CaptureEvent, Liveness, SocketType};
use weir_sources::dns::{DnsCounters, ReverseDns, SystemResolver};
use weir_sources::ebpf::{EbpfConfig, EbpfSource, Filters};
use weir_sources::metadata::{Found, Observation};
use weir_sources::proc::ProcSource;
use weir_sources::redact::Redactor;
use weir_sources::socket::{self, SocketTracer, SocketTracerConfig};
use weir_types::RecordBatch;
use weir_types::ledger::METADATA;
use weir_types::source::{BlindProcess, Source, TableBatch, TableCounters};
use weir_types::text::with_causes;

use crate::agent::DebugState;
use crate::grace::Grace;
use crate::host::SourceSpec;
use crate::metadata::{Metadata, Names, Observer};

/// After so many drains in a row that gave nothing, the ring is looked at less often.
const QUIET_DRAINS: u32 = 3;
const QUIET_INTERVAL: Duration = Duration::from_millis(50);

/// What to capture, as `--trace` says it; empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub pids: BTreeSet<u32>,
    pub ports: BTreeSet<u16>,
    pub cgroup_ids: BTreeSet<u64>,
}

#[derive(Clone)]
pub struct SourcesConfig {
    pub asid: u32,
    pub hostname: String,
    /// The API's own socket: watching must not create what is watched.
    pub own_listener: SocketAddr,
    pub wanted: Wanted,
    /// How long rows are kept, and with them the names of what is over.
    pub retention: Duration,
    pub test_faults: bool,
    /// What is not kept of what is captured.
    pub redactor: Redactor,
}

impl Wanted {
    /// As `--trace` takes it, but for control groups, which are told by their ids.
    fn texts(&self) -> Vec<String> {
        let pids = self.pids.iter().map(|pid| format!("pid:{pid}"));
        let ports = self.ports.iter().map(|port| format!("port:{port}"));
        let cgroups = self.cgroup_ids.iter().map(|id| format!("cgroup:{id}"));
        pids.chain(ports).chain(cgroups).collect()
    }
}

/// Detaching takes seconds: how many programs are still attached.
#[derive(Default)]
struct StopProgress {
    total: AtomicUsize,
    left: AtomicUsize,
}

/// The node's sources, before and while they run.
pub struct Sources {
    config: SourcesConfig,
    metadata: Arc<Metadata>,
    /// For the debug state.
    dns_counters: Arc<Mutex<DnsCounters>>,
    running: Arc<AtomicUsize>,
    progress: Arc<StopProgress>,
}

/// Counts a source as running until it is gone for good.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Running {
        count.fetch_add(1, Ordering::SeqCst);
        Running(count.clone())
    }
}
impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Sources {
    #[must_use]
    pub fn new(config: SourcesConfig) -> Sources {
        let SourcesConfig { asid, hostname, retention, .. } = &config;
        let metadata = Metadata::new(*asid, hostname, PathBuf::from("/"), *retention);
        Sources {
            metadata: Arc::new(metadata),
            dns_counters: Arc::default(),
            config,
            running: Arc::default(),
            progress: Arc::default(),
        }
    }

    /// Starts to keep the metadata; these are given every new snapshot.
    pub fn publish_metadata_to(&self, engines: &[Arc<Generations>]) {
        self.metadata.start(engines);
    }

    /// Whether the metadata have what was observed before the rows that were flushed last, and what
    /// they lost.
    #[must_use]
    pub fn names(&self) -> Names {
        self.metadata.names()
    }

    /// The state of the metadata, for diagnostics.
    #[must_use]
    pub fn debug_state(&self) -> DebugState {
        let (metadata, dns) = (self.metadata.clone(), self.dns_counters.clone());
        Arc::new(move || {
            let dns = *dns.lock().unwrap_or_else(PoisonError::into_inner);
            debug_state(&metadata, dns)
        })
    }

    /// Sources that have not ended yet.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn stop_progress(&self) -> String {
        let (left, total) =
            (self.progress.left.load(Ordering::SeqCst), self.progress.total.load(Ordering::SeqCst));
        format!("{} of {total} eBPF programs detached", total - left.min(total))
    }

    #[must_use]
    pub fn specs(&self) -> Vec<SourceSpec> {
        let (config, metadata) = (self.config.clone(), self.metadata.clone());
        let (running, progress) = (self.running.clone(), self.progress.clone());
        let ebpf = SourceSpec {
            name: "ebpf",
            tables: socket::table_names(),
            factory: Arc::new(move || {
                let counted = Running::new(&running);
                let tracer =
                    SocketTracing::start(&config, metadata.observer(), counted, progress.clone())?;
                Ok(Box::new(tracer))
            }),
        };
        let (asid, metadata, running) =
            (self.config.asid, self.metadata.clone(), self.running.clone());
        let dns_counters = self.dns_counters.clone();
        let proc = SourceSpec {
            name: "proc",
            tables: &["process_stats", "network_stats"],
            factory: Arc::new(move || {
                let source = ProcSource::new(asid).map_err(|error| error.to_string())?;
                let _running = Running::new(&running);
                Ok(Box::new(ProcAndMetadata {
                    source,
                    observer: metadata.observer(),
                    metadata: metadata.clone(),
                    dns: ReverseDns::start(Arc::new(SystemResolver)),
                    dns_counters: dns_counters.clone(),
                    grace: Grace::default(),
                    rows: Vec::new(),
                    _running,
                }))
            }),
        };
        vec![ebpf, proc]
    }
}

/// eBPF capture through tracker and parsers to rows.
struct SocketTracing {
    /// `None` only while it is being stopped.
    ebpf: Option<EbpfSource>,
    tracer: SocketTracer,
    grace: Grace,
    /// Drains in a row that gave nothing.
    quiet_drains: u32,
    observer: Observer,
    progress: Arc<StopProgress>,
    filters: Vec<String>,
    _running: Running,
}

impl SocketTracing {
    fn start(
        config: &SourcesConfig,
        observer: Observer,
        running: Running,
        progress: Arc<StopProgress>,
    ) -> Result<SocketTracing, String> {
        let filters = Filters {
            pids: config.wanted.pids.clone(),
            ports: config.wanted.ports.clone(),
            cgroup_ids: config.wanted.cgroup_ids.clone(),
            ..Filters::default()
        };
        let mut ebpf = EbpfSource::start(&EbpfConfig { filters, ..EbpfConfig::default() })
            .map_err(|error| with_causes(&error))?;
        ebpf.exclude_listener(config.own_listener).map_err(|error| with_causes(&error))?;
        let tracer = SocketTracer::new(SocketTracerConfig {
            asid: config.asid,
            test_faults: config.test_faults,
            parsers: ParserConfig { redactor: config.redactor.clone(), ..ParserConfig::default() },
            ..SocketTracerConfig::default()
        });
        Ok(SocketTracing {
            ebpf: Some(ebpf),
            tracer,
            grace: Grace::default(),
            quiet_drains: 0,
            observer,
            progress,
            filters: config.wanted.texts(),
            _running: running,
        })
    }
}

/// Lets the rows go that need not wait for more names, and asks for those of the others.
fn pass(
    observer: &Observer,
    grace: &mut Grace,
    batches: Vec<(&'static str, RecordBatch)>,
    now_unix_ns: i64,
    out: &mut Vec<TableBatch>,
) {
    if batches.is_empty() && grace.is_empty() {
        return;
    }
    let published = observer.published();
    let mut awaits = |upid| {
        let awaits = published.awaits(upid);
        if awaits {
            observer.observe(Observation::Mentioned(upid));
        }
        awaits
    };
    grace.pass(batches, now_unix_ns, &mut awaits, out);
}

/// Names that a script asks for are looked up by this process: watching must not create what is watched.
fn is_own_datagram(event: &CaptureEvent<'_>) -> bool {
    let CaptureEvent::Data(data) = event else { return false };
    data.socket.socket_type == SocketType::Datagram && data.process.pid == std::process::id()
}

impl Source for SocketTracing {
    fn poll(&mut self, _now_unix_ns: i64) {
        let Some(ebpf) = &mut self.ebpf else { return };
        self.quiet_drains = self.quiet_drains.saturating_add(1);
        loop {
            let (tracer, observer) = (&mut self.tracer, &self.observer);
            let drained = ebpf.drain(&mut |event| {
                if is_own_datagram(&event) {
                    return;
                }
                if let Some(observation) = Observation::of_process(&event) {
                    observer.observe(observation);
                }
                tracer.on_event(&event);
            });
            for end in tracer.take_sockets() {
                observer.observe(Observation::End(end));
            }
            if drained.records > 0 {
                self.quiet_drains = 0;
            }
            if !drained.more {
                break;
            }
        }
        for key in self.tracer.take_stop_copying() {
            if let Err(error) = ebpf.stop_copying(key) {
                warn!(%error, "could not stop copying a connection");
            }
        }
    }

    /// Where records come all the time, a wait on the ring would end at once, for a few of them.
    /// Where none do, it ends when many come at once.
    fn wait(&mut self, at_most: Duration) {
        match &self.ebpf {
            Some(ebpf) if self.quiet_drains >= QUIET_DRAINS => {
                ebpf.wait(QUIET_INTERVAL.min(at_most));
            }
            _ => std::thread::park_timeout(self.poll_interval().min(at_most)),
        }
    }

    fn flush(&mut self, now_unix_ns: i64, out: &mut Vec<TableBatch>) {
        // Before any connection is forgotten: what was lost on it is known to be its.
        if let Some(ebpf) = &mut self.ebpf {
            ebpf.losses(&mut |loss| self.tracer.lost(loss));
        }
        let ebpf = self.ebpf.as_ref();
        let batches = self.tracer.flush_asking(now_unix_ns, &mut |key| {
            ebpf.map_or(Liveness::Unknown, |ebpf| ebpf.liveness(key))
        });
        for end in self.tracer.take_sockets() {
            self.observer.observe(Observation::End(end));
        }
        self.observer.mark();
        pass(&self.observer, &mut self.grace, batches, now_unix_ns, out);
    }

    fn counters(&self) -> BTreeMap<String, TableCounters> {
        let in_kernel = self.ebpf.as_ref().map(EbpfSource::counters);
        let of_table = |counters: weir_sources::socket::CaptureCounters| {
            let mut lost_total: BTreeMap<String, u64> =
                counters.lost.iter().map(|(reason, n)| (reason.to_string(), *n)).collect();
            // What has no socket may be missing in each of their tables.
            if counters.table != "stirling_error" {
                let anywhere = in_kernel.map(|kernel| kernel.losses_anywhere());
                let anywhere = anywhere.into_iter().flatten();
                lost_total.extend(anywhere.map(|(name, n)| (name.to_string(), n)));
                let passed = self.grace.passed_full(counters.table);
                lost_total.insert("metadata_grace_full".to_string(), passed);
            }
            let counted = TableCounters {
                lost_total,
                unanswered_total: counters.unanswered,
                unasked_total: counters.unasked,
                metadata_held_count: self.grace.held_rows(counters.table),
            };
            (counters.table.to_string(), counted)
        };
        let mut counters: BTreeMap<_, _> =
            self.tracer.counters().into_iter().map(of_table).collect();
        let untold = self.tracer.tracker_counters().ends_untold;
        // The tables lose nothing with them: a socket's end is told by itself.
        let process_lost = in_kernel.map_or(0, |kernel| kernel.process_lost_records);
        let lost_total = BTreeMap::from([
            ("observations_full".to_string(), untold),
            ("process_ring_full".to_string(), process_lost),
        ]);
        let names = TableCounters { lost_total, ..TableCounters::default() };
        counters.insert(METADATA.to_string(), names);
        counters
    }

    fn filters(&self) -> Vec<String> {
        self.filters.clone()
    }

    fn blind(&self) -> Vec<BlindProcess> {
        let found = self.ebpf.as_ref().map(EbpfSource::blind).unwrap_or_default();
        let told = found.into_iter().map(|process| BlindProcess {
            pid: process.pid,
            reason: process.reason.name().to_string(),
            bytes: process.bytes,
        });
        told.collect()
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.ebpf.as_ref().map(EbpfSource::counters).unwrap_or_default();
        counts.beside_losses().map(|(name, count)| (name.to_string(), count)).into()
    }

    fn missing(&self) -> String {
        let programs = self.ebpf.as_ref().map(EbpfSource::programs).unwrap_or_default();
        let missing: Vec<String> = programs
            .iter()
            .filter_map(|program| {
                Some(format!("{}: {}", program.program, program.reason.as_ref()?))
            })
            .collect();
        missing.join("; ")
    }
}

impl Drop for SocketTracing {
    fn drop(&mut self) {
        let Some(ebpf) = self.ebpf.take() else { return };
        let stopping = ebpf.stop();
        while !stopping.is_done() {
            let (total, left) = stopping.progress();
            self.progress.total.store(total, Ordering::SeqCst);
            self.progress.left.store(left, Ordering::SeqCst);
            std::thread::park_timeout(Duration::from_millis(50));
        }
        self.progress.left.store(0, Ordering::SeqCst);
        stopping.wait();
    }
}

/// `/proc` counters as rows. It also finds out what metadata functions asked for: names of addresses
/// (which take as long as DNS does) and libraries.
struct ProcAndMetadata {
    source: ProcSource,
    metadata: Arc<Metadata>,
    observer: Observer,
    dns: ReverseDns,
    dns_counters: Arc<Mutex<DnsCounters>>,
    grace: Grace,
    rows: Vec<(&'static str, RecordBatch)>,
    _running: Running,
}

impl ProcAndMetadata {
    /// Does not wait: what is found comes with one of the next calls.
    fn answer_functions(&mut self, now_unix_ns: i64) {
        self.dns.poll(now_unix_ns, &weir_engine::dns::take_wanted());
        *self.dns_counters.lock().unwrap_or_else(PoisonError::into_inner) = self.dns.counters();
        let names = self.dns.take_changes();
        if !names.is_empty() {
            self.metadata.found(Found::Names(names));
        }
        let processes = weir_engine::libraries::take_wanted();
        if !processes.is_empty() {
            self.metadata.found(Found::LibrariesWanted(processes));
        }
    }
}

impl Source for ProcAndMetadata {
    fn poll(&mut self, now_unix_ns: i64) {
        self.answer_functions(now_unix_ns);
        self.rows.extend(self.source.poll(now_unix_ns));
    }

    fn flush(&mut self, now_unix_ns: i64, out: &mut Vec<TableBatch>) {
        let rows = std::mem::take(&mut self.rows);
        pass(&self.observer, &mut self.grace, rows, now_unix_ns, out);
    }

    fn counters(&self) -> BTreeMap<String, TableCounters> {
        let counters = self.source.counters();
        let of = |lost: &[(&str, u64)]| TableCounters {
            lost_total: lost.iter().map(|(reason, n)| (reason.to_string(), *n)).collect(),
            ..TableCounters::default()
        };
        let failed = ("passes_failed", counters.passes_failed);
        let cut = ("passes_cut", counters.passes_cut);
        let left_out = ("namespaces_full", counters.namespaces_left_out);
        let mut counters = BTreeMap::from([
            ("process_stats".to_string(), of(&[failed, cut])),
            ("network_stats".to_string(), of(&[failed, cut, left_out])),
        ]);
        let DnsCounters { evicted_total, left_out_total, .. } = self.dns.counters();
        let left_out = evicted_total + left_out_total + weir_engine::dns::left_out();
        counters.insert(METADATA.to_string(), of(&[("names_full", left_out)]));
        counters
    }

    fn missing(&self) -> String {
        String::new()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(100)
    }
}

/// How much is known, as JSON.
fn debug_state(metadata: &Metadata, dns: DnsCounters) -> String {
    let published = metadata.published();
    let snapshot = &published.snapshot;
    let counters = metadata.counters();
    let DnsCounters { found_total, missed_total, evicted_total, left_out_total } = dns;
    format!(
        "{{\"processes\":{},\"pods\":{},\"services\":{},\"containers\":{},\"sockets\":{},\
         \"dropped\":{},\"processes_refused\":{},\"processes_forgotten\":{},\
         \"ends_refused\":{},\"ends_forgotten\":{},\
         \"dns\":{{\"names\":{},\"found\":{found_total},\"missed\":{missed_total},\
         \"evicted\":{evicted_total},\"left_out\":{}}}}}",
        snapshot.processes.len(),
        snapshot.pods.len(),
        snapshot.services.len(),
        snapshot.containers.len(),
        snapshot.connections.ends.len(),
        metadata.observer().dropped_total(),
        counters.processes_refused_total,
        counters.processes_forgotten_total,
        counters.ends.refused_total,
        counters.ends.forgotten_total,
        snapshot.dns.len(),
        left_out_total + weir_engine::dns::left_out(),
    )
}
