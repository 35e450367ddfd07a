//! eBPF capture through tracker and parsers to rows, and to what they say of processes and connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;
use weir_sources::ParserConfig;
use weir_sources::capture::{CaptureEvent, Liveness, SocketType};
use weir_sources::ebpf::{self, BLIND_PROCESSES_MAX, EbpfConfig, EbpfSource, Filters};
use weir_sources::metadata::Observation;
use weir_sources::socket::{self, CaptureCounters, SocketTracer, SocketTracerConfig};
use weir_sources::source::{Output, Refusal, RunningSource, Source, Waker};
use weir_types::ledger::METADATA;
use weir_types::source::{BlindProcess, CaptureFilters, OrderOutcome, SourceOrder, TableCounters};
use weir_types::text::with_causes;

use super::stop::{Counted, StopProgress};

/// After so many drains in a row that gave nothing, the ring is looked at less often.
const QUIET_DRAINS: u32 = 3;
const QUIET_INTERVAL: Duration = Duration::from_millis(50);

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

fn refused(error: &(impl std::error::Error + 'static)) -> Refusal {
    Refusal::new(with_causes(error))
}

/// Capture, whether it runs or not.
pub(super) struct SocketCapture {
    tracer: SocketTracerConfig,
    /// The API's own socket: watching must not create what is watched.
    own_listener: Option<SocketAddr>,
    filtering: Filtering,
    tls: bool,
    progress: StopProgress,
}

impl SocketCapture {
    pub(super) fn new(
        tracer: SocketTracerConfig,
        own_listener: Option<SocketAddr>,
        filters: CaptureFilters,
        tls: bool,
        progress: StopProgress,
    ) -> SocketCapture {
        let filtering = Arc::new(Mutex::new(filters));
        SocketCapture { tracer, own_listener, filtering, tls, progress }
    }
}

impl Source for SocketCapture {
    fn name(&self) -> Arc<str> {
        "ebpf".into()
    }

    fn tables(&self) -> Vec<String> {
        socket::table_names().iter().map(ToString::to_string).collect()
    }

    fn can_run(&self) -> Result<(), Refusal> {
        ebpf::machine_can_run().map_err(|error| refused(&error))
    }

    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal> {
        let counted = self.progress.count();
        let filters = in_kernel(filters_of(&self.filtering));
        let config = EbpfConfig { filters, tls: self.tls, ..EbpfConfig::default() };
        let mut ebpf = EbpfSource::start(&config).map_err(|error| refused(&error))?;
        if let Some(own) = self.own_listener {
            ebpf.exclude_listener(own).map_err(|error| refused(&error))?;
        }
        Ok(Box::new(RunningCapture {
            ebpf: Some(ebpf),
            tracer: SocketTracer::new(self.tracer.clone()),
            quiet_drains: 0,
            filtering: self.filtering.clone(),
            looked_away: 0,
            progress: self.progress.clone(),
            _counted: counted,
        }))
    }
}

struct RunningCapture {
    /// `None` only while it is being stopped.
    ebpf: Option<EbpfSource>,
    tracer: SocketTracer,
    /// Drains in a row that gave nothing.
    quiet_drains: u32,
    filtering: Filtering,
    /// How often it has begun to look at what it had not looked at before.
    looked_away: u32,
    progress: StopProgress,
    _counted: Counted,
}

/// Names that a script asks for are looked up by this process: watching must not create what is watched.
fn is_own_datagram(event: &CaptureEvent<'_>) -> bool {
    let CaptureEvent::Data(data) = event else { return false };
    data.socket.socket_type == SocketType::Datagram && data.process.pid == std::process::id()
}

impl RunningCapture {
    fn count(&self, out: &mut dyn Output) {
        let in_kernel = self.ebpf.as_ref().map(EbpfSource::counters);
        for CaptureCounters { table, lost, unanswered, unasked, .. } in self.tracer.counters() {
            let mut lost_total: BTreeMap<String, u64> =
                lost.into_iter().map(|(reason, count)| (reason.to_string(), count)).collect();
            // What has no socket may be missing in each of their tables.
            if table != "stirling_error" {
                let anywhere = in_kernel.as_ref().map(|kernel| kernel.losses_anywhere());
                let anywhere = anywhere.into_iter().flatten();
                lost_total.extend(anywhere.map(|(name, count)| (name.to_string(), count)));
            }
            let counted = TableCounters {
                lost_total,
                unanswered_total: unanswered,
                unasked_total: unasked,
                ..TableCounters::default()
            };
            out.counted(table, counted);
        }
        let untold = self.tracer.tracker_counters().ends_untold;
        // The tables lose nothing with them: a socket's end is told by itself.
        let process_lost = in_kernel.map_or(0, |kernel| kernel.process_lost_records);
        let lost_total = BTreeMap::from([
            ("observations_full".to_string(), untold),
            ("process_ring_full".to_string(), process_lost),
        ]);
        out.counted(METADATA, TableCounters { lost_total, ..TableCounters::default() });
    }
}

impl RunningSource for RunningCapture {
    fn poll(&mut self, _now_unix_ns: i64, out: &mut dyn Output) {
        let Some(ebpf) = &mut self.ebpf else { return };
        self.quiet_drains = self.quiet_drains.saturating_add(1);
        loop {
            let (tracer, looked_away) = (&mut self.tracer, self.looked_away);
            let drained = ebpf.drain(&mut |event| {
                if is_own_datagram(&event) {
                    return;
                }
                if let Some(observation) = Observation::of_process(&event) {
                    out.observe(observation);
                }
                tracer.on_event(&event.after_looking_away(looked_away));
            });
            for end in tracer.take_sockets() {
                out.observe(Observation::End(end));
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

    fn flush(&mut self, now_unix_ns: i64, out: &mut dyn Output) {
        // Before any connection is forgotten: what was lost on it is known to be its.
        if let Some(ebpf) = &mut self.ebpf {
            ebpf.losses(&mut |loss| self.tracer.lost(loss));
        }
        let ebpf = self.ebpf.as_ref();
        let batches = self.tracer.flush_asking(now_unix_ns, &mut |key| {
            ebpf.map_or(Liveness::Unknown, |ebpf| ebpf.liveness(key))
        });
        for end in self.tracer.take_sockets() {
            out.observe(Observation::End(end));
        }
        for (table, batch) in batches {
            out.rows(table, batch);
        }
        self.count(out);
    }

    fn order(&mut self, order: &SourceOrder) -> OrderOutcome {
        let (SourceOrder::SetFilters(filters), Some(ebpf)) = (order, &mut self.ebpf) else {
            return OrderOutcome::NotMine;
        };
        if let Err(error) = ebpf.set_filters(&in_kernel(filters.clone())) {
            return OrderOutcome::refused(with_causes(&error));
        }
        self.looked_away += u32::from(filters.passes_more_than(&filters_of(&self.filtering)));
        *self.filtering.lock().unwrap_or_else(PoisonError::into_inner) = filters.clone();
        OrderOutcome::Done
    }

    fn filters(&self) -> CaptureFilters {
        filters_of(&self.filtering)
    }

    fn blind(&self) -> Vec<BlindProcess> {
        let found = self.ebpf.as_ref().map(EbpfSource::blind).unwrap_or_default();
        let told = found.into_iter().map(|process| BlindProcess {
            pid: process.pid,
            reason: process.reason.name().to_string(),
            bytes: process.bytes,
        });
        // A library that cannot be probed: it is not known how much it says.
        let files = self.ebpf.as_ref().map(EbpfSource::tls_files).unwrap_or_default();
        let refused = files.into_iter().filter(|file| file.refused.is_some());
        let unprobed = refused.flat_map(|file| file.pids).map(|pid| BlindProcess {
            pid,
            reason: "tls_not_probed".to_string(),
            bytes: 0,
        });
        told.chain(unprobed).take(BLIND_PROCESSES_MAX).collect()
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.ebpf.as_ref().map(EbpfSource::counters).unwrap_or_default();
        let mut all: BTreeMap<String, u64> =
            counts.beside_losses().map(|(name, count)| (name.to_string(), count)).into();
        let files = self.ebpf.as_ref().map(EbpfSource::tls_files).unwrap_or_default();
        let refused = files.iter().filter(|file| file.refused.is_some()).count() as u64;
        all.insert("tls_files".to_string(), files.len() as u64 - refused);
        all.insert("tls_files_refused".to_string(), refused);
        all
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
}

impl Drop for RunningCapture {
    fn drop(&mut self) {
        let Some(ebpf) = self.ebpf.take() else { return };
        let stopping = ebpf.stop();
        while !stopping.is_done() {
            let (total, left) = stopping.progress();
            self.progress.set_attached(total, left);
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let (total, _) = stopping.progress();
        self.progress.set_attached(total, 0);
        stopping.wait();
    }
}

/// What a tracer of this node does.
pub(super) fn tracer_config(config: &super::SourcesConfig) -> SocketTracerConfig {
    SocketTracerConfig {
        asid: config.asid,
        test_faults: config.test_faults,
        parsers: ParserConfig { redactor: config.redactor.clone(), ..ParserConfig::default() },
        ..SocketTracerConfig::default()
    }
}
