//! `/proc` as a source: `process_stats` and `network_stats`, once a second.
//!
//! Every live user process gives a row of `process_stats`; kernel threads give none (they have no
//! memory, no files and no UPID that another table would mention). `network_stats` has one row for
//! each network namespace: the machine's own with an empty `pod_id`, any other with the pod of its
//! oldest process. Interfaces that carry only what others carry too (loopback, bridges, the host's
//! ends of virtual pairs) are left out.
//!
//! Not here: names of processes (`crate::metadata`). The root is a parameter, so that tests read a
//! directory of fixtures.

pub(crate) mod fs;
pub mod look;
mod network;
pub(crate) mod parse;

use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::tables::{NetworkStats, ProcessStats, ProcessStatsRow, Table, TableBuilder};
use weir_types::{RecordBatch, Upid};

use fs::ProcFs;
use network::Namespaces;

/// Rows come this often.
pub const INTERVAL_NS: i64 = 1_000_000_000;
/// Processes that are read in one pass; with more of them the others give no row.
pub const PROCESSES_MAX: usize = 32_768;
/// Network namespaces that give a row in one pass.
pub const NAMESPACES_MAX: usize = 4_096;
/// A pid found to be a kernel thread's is looked at again after so many passes.
const KERNEL_THREAD_PASSES: u32 = 30;

#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: std::io::Error },
}

/// The machine's units, as `/proc/self/auxv` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    pub page_bytes: u64,
    pub ticks_per_second: u64,
}

impl Default for Units {
    fn default() -> Units {
        Units { page_bytes: 4096, ticks_per_second: 100 }
    }
}

/// What the source skipped or could not read; all of it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcCounters {
    pub process_rows: u64,
    pub network_rows: u64,
    /// Passes that could not take every process ([`PROCESSES_MAX`]).
    pub passes_cut: u64,
    /// Network namespaces that found no room in their pass.
    pub namespaces_left_out: u64,
    /// Passes in which the directory itself could not be listed.
    pub passes_failed: u64,
}

/// See the module's documentation.
pub struct ProcSource {
    asid: u32,
    fs: ProcFs,
    units: Units,
    namespaces: Namespaces,
    /// pid → passes until it is looked at again.
    kernel_threads: HashMap<u32, u32, foldhash::fast::FixedState>,
    /// Kubernetes knows the pods here.
    of_pods: bool,
    pids: Vec<u32>,
    process_stats: TableBuilder<ProcessStats>,
    network_stats: TableBuilder<NetworkStats>,
    last_unix_ns: i64,
    counters: ProcCounters,
}

impl ProcSource {
    /// Reads the machine's `/proc`.
    pub fn new(asid: u32) -> Result<ProcSource, ProcError> {
        ProcSource::with_root(asid, Path::new("/proc"))
    }

    /// With room for other than [`NAMESPACES_MAX`].
    #[must_use]
    pub fn with_namespaces_max(mut self, namespaces_max: usize) -> ProcSource {
        self.namespaces = Namespaces::new(namespaces_max);
        self
    }

    /// Network namespaces of pods are those of Kubernetes' pods, by the uids in their control groups.
    #[must_use]
    pub fn with_pods(self, of_pods: bool) -> ProcSource {
        ProcSource { of_pods, ..self }
    }

    /// Reads a directory that looks like `/proc`.
    pub fn with_root(asid: u32, root: &Path) -> Result<ProcSource, ProcError> {
        let mut fs = ProcFs::new(root);
        let mut pids = Vec::new();
        fs.pids(&mut pids)?;
        let units = fs.units();
        Ok(ProcSource {
            asid,
            fs,
            units,
            namespaces: Namespaces::new(NAMESPACES_MAX),
            kernel_threads: HashMap::default(),
            of_pods: false,
            pids,
            process_stats: TableBuilder::new(),
            network_stats: TableBuilder::new(),
            last_unix_ns: i64::MIN,
            counters: ProcCounters::default(),
        })
    }

    /// The rows of this second, if it is time for them.
    pub fn poll(&mut self, now_unix_ns: i64) -> Vec<(&'static str, RecordBatch)> {
        let mut batches = Vec::new();
        if now_unix_ns.saturating_sub(self.last_unix_ns) < INTERVAL_NS {
            return batches;
        }
        // Keep to the grid while polls are on time, so that a second has one row, not now and then
        // none.
        let late_ns = now_unix_ns.saturating_sub(self.last_unix_ns) % INTERVAL_NS;
        let on_grid = now_unix_ns.saturating_sub(self.last_unix_ns) < 2 * INTERVAL_NS;
        self.last_unix_ns = if on_grid { now_unix_ns - late_ns } else { now_unix_ns };

        let mut pids = std::mem::take(&mut self.pids);
        if self.fs.pids(&mut pids).is_err() {
            self.counters.passes_failed += 1;
            pids.clear();
        }
        self.counters.passes_cut += u64::from(pids.len() > PROCESSES_MAX);
        self.namespaces.begin_pass();
        for &pid in pids.iter().take(PROCESSES_MAX) {
            self.process(pid, now_unix_ns);
            if self.process_stats.rows() == BATCH_ROWS_MAX {
                batches.push((ProcessStats::DEF.name, self.process_stats.finish()));
            }
        }
        self.pids = pids;
        self.counters.namespaces_left_out += self.namespaces.left_out();
        self.kernel_threads.retain(|_, passes| {
            *passes -= 1;
            *passes > 0
        });
        let Self { of_pods, fs, network_stats, .. } = self;
        let rows = self.namespaces.rows(*of_pods, fs, now_unix_ns, network_stats);
        self.counters.network_rows += rows as u64;
        if self.process_stats.rows() > 0 {
            batches.push((ProcessStats::DEF.name, self.process_stats.finish()));
        }
        if self.network_stats.rows() > 0 {
            batches.push((NetworkStats::DEF.name, self.network_stats.finish()));
        }
        batches
    }

    #[must_use]
    pub fn counters(&self) -> ProcCounters {
        self.counters
    }

    fn process(&mut self, pid: u32, now_unix_ns: i64) {
        if self.kernel_threads.contains_key(&pid) {
            return;
        }
        // It may have exited since the directory was listed: then it gives no row.
        let Some(stat) = self.fs.read(pid, "stat").ok().and_then(parse::stat) else { return };
        if stat.is_kernel_thread() {
            self.kernel_threads.insert(pid, KERNEL_THREAD_PASSES);
            return;
        }
        // Another user's process may not be read: its counters are zeros.
        let io = self.fs.read(pid, "io").ok().map(parse::io).unwrap_or_default();
        self.namespaces.process(&mut self.fs, pid, stat.start_ticks);
        let Units { page_bytes, ticks_per_second } = self.units;
        let tick_ns = 1_000_000_000 / ticks_per_second.max(1);
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.process_stats.push(&ProcessStatsRow {
            time_: now_unix_ns,
            upid: Upid::new(self.asid, pid, stat.start_ticks).0,
            major_faults: count(stat.major_faults),
            minor_faults: count(stat.minor_faults),
            cpu_utime_ns: count(stat.user_ticks.saturating_mul(tick_ns)),
            cpu_ktime_ns: count(stat.kernel_ticks.saturating_mul(tick_ns)),
            num_threads: count(stat.threads),
            vsize_bytes: count(stat.vsize_bytes),
            rss_bytes: count(stat.rss_pages.saturating_mul(page_bytes)),
            rchar_bytes: count(io.rchar_bytes),
            wchar_bytes: count(io.wchar_bytes),
            read_bytes: count(io.read_bytes),
            write_bytes: count(io.write_bytes),
        });
        self.counters.process_rows += 1;
    }
}
