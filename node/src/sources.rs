//! Which sources this node runs, put together from `weir-sources`: the eBPF socket tracer, `/proc`,
//! and the metadata that both keep fresh.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
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
use weir_types::source::{
    BlindProcess, CaptureFilters, ORDER_ITEMS_MAX, OrderOutcome, Source, SourceOrder, TableBatch,
    TableCounters, Waker,
};
use weir_types::text::with_causes;

use crate::agent::DebugState;
use crate::entities::NodeEntities;
use crate::grace::Grace;
use crate::host::SourceSpec;
use crate::metadata::{Metadata, Names, Observer};

/// After so many drains in a row that gave nothing, the ring is looked at less often.
const QUIET_DRAINS: u32 = 3;
const QUIET_INTERVAL: Duration = Duration::from_millis(50);
/// Addresses of orders that are looked at with the next turn: what several orders name.
const ADDRESSES_WAITING_MAX: usize = 4 * ORDER_ITEMS_MAX;

#[derive(Clone)]
pub struct SourcesConfig {
    pub asid: u32,
    pub hostname: String,
    /// The API's own socket: watching must not create what is watched.
    pub own_listener: SocketAddr,
    /// What to capture, as `--trace` says it, until it is ordered otherwise.
    pub filters: CaptureFilters,
    /// How long rows are kept, and with them the names of what is over.
    pub retention: Duration,
    pub test_faults: bool,
    /// What is not kept of what is captured.
    pub redactor: Redactor,
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

    /// Starts to keep the metadata; the node's engine is given every new snapshot.
    pub fn keep_names_for(&self, engine: &Arc<Generations>) {
        self.metadata.start(Arc::downgrade(engine));
    }

    /// What of it is told to the cluster part.
    #[must_use]
    pub fn entities(&self) -> NodeEntities {
        self.metadata.entities()
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
        let filtering = Arc::new(Mutex::new(config.filters.clone()));
        let ebpf = SourceSpec {
            name: "ebpf",
            tables: socket::table_names(),
            factory: Arc::new(move || {
                let counted = Running::new(&running);
                let (observer, progress) = (metadata.observer(), progress.clone());
                let filtering = filtering.clone();
                let tracer = SocketTracing::start(&config, observer, counted, progress, filtering)?;
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
                    addresses: Vec::new(),
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
    filters: Filtering,
    _running: Running,
}

/// What is captured now: a source that starts anew goes on with it.
type Filtering = Arc<Mutex<CaptureFilters>>;

fn filters_of(filtering: &Filtering) -> CaptureFilters {
    filtering.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// As the kernel's programs take them.
fn in_kernel(filters: CaptureFilters) -> Filters {
    let CaptureFilters { pids, ports, cgroup_ids } = filters;
    Filters { pids, ports, cgroup_ids, ..Filters::default() }
}

impl SocketTracing {
    fn start(
        config: &SourcesConfig,
        observer: Observer,
        running: Running,
        progress: Arc<StopProgress>,
        filtering: Filtering,
    ) -> Result<SocketTracing, String> {
        let filters = in_kernel(filters_of(&filtering));
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
            filters: filtering,
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
            // Whatever moves over sockets is missing in each of their tables.
            if counters.table != "stirling_error" {
                let before = in_kernel.map(|kernel| kernel.losses(counters.has_datagrams));
                let before = before.into_iter().flatten();
                lost_total.extend(before.map(|(name, n)| (name.to_string(), n)));
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
        let lost_total = BTreeMap::from([("observations_full".to_string(), untold)]);
        let names = TableCounters { lost_total, ..TableCounters::default() };
        counters.insert(METADATA.to_string(), names);
        counters
    }

    fn waker(&self) -> Waker {
        let thread = std::thread::current();
        let ring = self.ebpf.as_ref().map(EbpfSource::wake);
        Arc::new(move || {
            thread.unpark();
            if let Some(ring) = &ring {
                ring.wake();
            }
        })
    }

    fn filters(&self) -> CaptureFilters {
        filters_of(&self.filters)
    }

    fn order(&mut self, order: &SourceOrder) -> OrderOutcome {
        let (SourceOrder::SetFilters(filters), Some(ebpf)) = (order, &mut self.ebpf) else {
            return OrderOutcome::NotMine;
        };
        if let Err(error) = ebpf.set_filters(&in_kernel(filters.clone())) {
            return OrderOutcome::refused(with_causes(&error));
        }
        *self.filters.lock().unwrap_or_else(PoisonError::into_inner) = filters.clone();
        OrderOutcome::Done
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
    /// That somebody wants the names of, since the last turn.
    addresses: Vec<IpAddr>,
    dns_counters: Arc<Mutex<DnsCounters>>,
    grace: Grace,
    rows: Vec<(&'static str, RecordBatch)>,
    _running: Running,
}

impl ProcAndMetadata {
    /// Does not wait: what is found comes with one of the next calls.
    fn answer_functions(&mut self, now_unix_ns: i64) {
        self.dns.poll(now_unix_ns, &std::mem::take(&mut self.addresses));
        *self.dns_counters.lock().unwrap_or_else(PoisonError::into_inner) = self.dns.counters();
        let names = self.dns.take_changes();
        if !names.is_empty() {
            self.metadata.found(Found::Names(names));
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
        let left_out = evicted_total + left_out_total;
        counters.insert(METADATA.to_string(), of(&[("names_full", left_out)]));
        counters
    }

    fn missing(&self) -> String {
        String::new()
    }

    /// Names and libraries come with the metadata, later; who still wants them asks again.
    fn order(&mut self, order: &SourceOrder) -> OrderOutcome {
        match order {
            SourceOrder::Resolve { addresses } => {
                let room = ADDRESSES_WAITING_MAX.saturating_sub(self.addresses.len());
                self.addresses.extend(addresses.iter().take(room));
                if addresses.len() > room {
                    return OrderOutcome::refused("too many addresses wait for their names");
                }
            }
            SourceOrder::ListLibraries { processes } => {
                self.metadata.found(Found::LibrariesWanted(processes.clone()));
            }
            SourceOrder::SetFilters(_) => return OrderOutcome::NotMine,
        }
        OrderOutcome::Done
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
        left_out_total,
    )
}
