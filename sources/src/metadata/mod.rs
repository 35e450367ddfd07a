//! Entities without Kubernetes: which service, pod, container and process a UPID belongs to, and who
//! is at the other end of its connections, from capture's events, `/proc` and control groups.
//!
//! Each user process stands for a pod of its own (`names` says how things are called), so that
//! `ctx['pod']` and friends work on a laptop. Three parts, none of which waits for another:
//!
//! * [`Observation`] is what capture saw of a process or a connection; whoever captures only hands
//!   it on.
//! * [`reader`] and [`scan`] read `/proc`, on data of their own; they may take seconds.
//! * [`Model`] puts both together, in memory alone, and gives snapshots that share what did not
//!   change: an observation costs the same whatever is remembered.
//!
//! What is over is kept, within bounds: rows of it are still asked about. Threads and queues are not
//! here (`weir-node`), and neither are names of addresses ([`crate::dns`]).

mod addresses;
mod compose;
mod ends;
mod entities;
mod forgotten;
pub mod k8s;
mod model;
pub(crate) mod names;
mod observation;
pub mod reader;
pub mod scan;
mod unix_ends;

use std::net::IpAddr;
use std::path::Path;

use weir_types::Upid;

use crate::proc::fs::ProcFs;
use crate::proc::parse;

pub use ends::{ENDS_MAX, EndCounters};
pub use forgotten::Forgotten;
pub use model::{ENDED_MAX, Found, Model, ModelCounters, PROCESS_BYTES_MAX, PROCESSES_MAX};
pub use observation::Observation;

/// The namespace of what belongs to no compose project and no slice.
const LOCAL_NAMESPACE: &str = "local";

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    pub upid: Upid,
    /// Arguments separated by blanks.
    pub cmdline: String,
    /// Path of the executable, empty if it may not be read.
    pub exe: String,
    pub comm: String,
    /// Base name of what it runs.
    pub executable: String,
    /// Without the namespace.
    pub service: String,
    /// Nothing but the program says what the service is: it changes with it.
    pub service_is_program: bool,
    pub namespace: String,
    /// The container's name, else its id, empty outside containers.
    pub container: String,
    pub container_id: String,
    /// Of the pod of Kubernetes whose control group it is in, empty outside of pods.
    pub pod_uid: String,
    /// Inode of its network namespace, 0 if not known.
    pub netns: u32,
}

impl ProcessInfo {
    /// `namespace/executable-pid`.
    #[must_use]
    pub fn pod(&self) -> String {
        format!("{}/{}-{}", self.namespace, self.executable, self.upid.pid())
    }

    #[must_use]
    pub fn pod_id(&self) -> String {
        local_pod_id(self.upid.pid(), self.upid.start_ticks())
    }

    /// About what it costs to remember it: its texts are in several entries.
    fn bytes(&self) -> usize {
        const ENTRIES_BYTES: usize = 1_024;
        let texts = [&self.cmdline, &self.exe, &self.comm, &self.executable, &self.service];
        let more = [&self.namespace, &self.container, &self.container_id, &self.pod_uid];
        let texts = texts.into_iter().chain(more);
        ENTRIES_BYTES + 2 * texts.map(String::len).sum::<usize>()
    }
}

/// The facts about the machine that every snapshot repeats.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub asid: u32,
    pub hostname: String,
    pub num_cpus: i64,
    boot_unix_ns: i64,
    ticks_per_second: u64,
}

impl Machine {
    /// Of a directory that looks like a machine's root.
    #[must_use]
    pub fn read(asid: u32, hostname: &str, root: &Path) -> Machine {
        let mut fs = ProcFs::new(&root.join("proc"));
        let stat = fs.read_path("stat").map(<[u8]>::to_vec).unwrap_or_default();
        let (boot_unix_ns, num_cpus) = boot_and_cpus(&stat);
        let ticks_per_second = fs.units().ticks_per_second;
        Machine { asid, hostname: hostname.to_string(), num_cpus, boot_unix_ns, ticks_per_second }
    }

    /// When a process began that began so many ticks after boot.
    fn start_unix_ns(&self, start_ticks: u64) -> i64 {
        let tick_ns = 1_000_000_000 / self.ticks_per_second.max(1);
        let since_boot_ns = start_ticks.saturating_mul(tick_ns);
        self.boot_unix_ns.saturating_add(i64::try_from(since_boot_ns).unwrap_or(i64::MAX))
    }
}

/// The id that a local process's pod has; other sources name it in rows (`network_stats`).
#[must_use]
pub fn local_pod_id(pid: u32, start_ticks: u64) -> String {
    format!("local-{pid}-{start_ticks}")
}

/// Addresses of this machine, loopback included; empty if `/proc` does not say.
#[must_use]
pub fn local_addresses() -> Vec<IpAddr> {
    addresses_in(&mut ProcFs::new(Path::new("/proc")))
}

fn addresses_in(fs: &mut ProcFs) -> Vec<IpAddr> {
    let mut found = fs.read_path("net/fib_trie").map(parse::fib_trie).unwrap_or_default();
    found.extend(fs.read_path("net/if_inet6").map(parse::if_inet6).unwrap_or_default());
    found
}

/// Boot time in Unix ns and the number of CPUs, from `/proc/stat`.
fn boot_and_cpus(stat: &[u8]) -> (i64, i64) {
    let (mut boot_unix_ns, mut cpus) = (0, 0);
    for line in String::from_utf8_lossy(stat).lines() {
        let is_cpu = line
            .strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|character: char| character.is_ascii_digit()));
        cpus += i64::from(is_cpu);
        if let Some(seconds) = line.strip_prefix("btime ").and_then(|text| text.trim().parse().ok())
        {
            let seconds: i64 = seconds;
            boot_unix_ns = seconds.saturating_mul(1_000_000_000);
        }
    }
    (boot_unix_ns, cpus)
}
