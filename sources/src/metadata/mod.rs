//! Entities without Kubernetes: which service, pod, container and process a UPID, an address or an
//! address with a port belongs to, from `/proc` and control groups.
//!
//! Each user process stands for a pod of its own (`names` says how things are called), so that
//! `ctx['pod']` and friends work on a laptop. [`LocalMetadata::refresh`] looks at what changed and
//! gives a snapshot; [`LocalMetadata::look_up`] finds a process that a row mentions before the next
//! refresh would. Processes that ended and sockets that were closed are kept ([`past`]): rows of theirs
//! are still asked about.
//!
//! Cost is bounded: a refresh lists pids, reads only processes that are new, young or next in turn,
//! and looks at a limited number of descriptors for socket owners. It does *not* watch anything,
//! and it does no name lookups.

mod asked;
mod compose;
pub mod k8s;
mod names;
mod past;
mod snapshot;
mod sockets;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use weir_types::Upid;
use weir_types::metadata::MetadataSnapshot;

use crate::capture::{CaptureEvent, Process, ProcessEvent};
use crate::conn::SocketOwner;
use crate::proc::fs::ProcFs;
use crate::proc::parse;
use names::CgroupNames;
use past::Past;
use sockets::{Holder, SocketTable};

pub use past::{CLOSED_MAX, ENDED_MAX, Forgotten};

/// Processes that are known at once; with more of them the newest have no names.
pub const PROCESSES_MAX: usize = 32_768;
/// How long what is over is kept unless said otherwise.
const KEEP: Duration = Duration::from_secs(3_600);
/// New processes that one refresh reads; the others wait for the next.
const READS_PER_REFRESH: usize = 1_024;
/// A process may still run another program or get its name within its first refreshes.
const YOUNG_REFRESHES: u64 = 5;
/// Processes that are read between two refreshes because they started a program.
const EXEC_READS_PER_REFRESH: usize = 256;
/// Each refresh reads this part of the known processes again: pids are used again, names change.
const TURN_REFRESHES: u64 = 30;

/// The namespace of what belongs to no compose project and no slice.
const LOCAL_NAMESPACE: &str = "local";

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    pub upid: Upid,
    pub pid: u32,
    pub start_ticks: u64,
    /// Arguments separated by blanks.
    pub cmdline: String,
    /// Path of the executable, empty if it may not be read.
    pub exe: String,
    pub comm: String,
    /// Without the namespace.
    pub service: String,
    pub namespace: String,
    /// `namespace/executable-pid`.
    pub pod: String,
    /// The container's name, else its id, empty outside containers.
    pub container: String,
    pub container_id: String,
    pub node: String,
    /// Inode of its network namespace, 0 if not known.
    pub netns: u64,
}

#[derive(Debug)]
struct Known {
    info: Arc<ProcessInfo>,
    first_refresh: u64,
}

/// See the module's documentation.
pub struct LocalMetadata {
    machine: snapshot::Machine,
    fs: ProcFs,
    compose: compose::Containers,
    /// Live processes.
    live: HashMap<u32, Known, foldhash::fast::FixedState>,
    /// Ended processes and closed sockets.
    past: Past,
    /// Pids that are no user process, and when that was seen.
    kernel_threads: HashMap<u32, u64, foldhash::fast::FixedState>,
    sockets: SocketTable,
    refreshes: u64,
    exec_reads: usize,
    asked: asked::Asked,
    changed: bool,
    snapshot: Arc<MetadataSnapshot>,
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

impl LocalMetadata {
    /// Reads the machine's `/proc`. `hostname` names the node.
    #[must_use]
    pub fn new(asid: u32, hostname: &str) -> LocalMetadata {
        LocalMetadata::with_root(asid, hostname, Path::new("/"))
    }

    /// Reads a directory that looks like a machine's root (`proc/`, `var/lib/docker/`).
    #[must_use]
    pub fn with_root(asid: u32, hostname: &str, root: &Path) -> LocalMetadata {
        let mut fs = ProcFs::new(&root.join("proc"));
        let stat = fs.read_path("stat").map(<[u8]>::to_vec).unwrap_or_default();
        let (boot_unix_ns, num_cpus) = machine(&stat);
        let ticks_per_second = fs.units().ticks_per_second;
        let hostname = hostname.to_string();
        LocalMetadata {
            machine: snapshot::Machine { asid, hostname, num_cpus, boot_unix_ns, ticks_per_second },
            fs,
            compose: compose::Containers::new(root),
            live: HashMap::default(),
            past: Past::new(KEEP.as_secs()),
            kernel_threads: HashMap::default(),
            sockets: SocketTable::new(asid),
            refreshes: 0,
            exec_reads: 0,
            asked: asked::Asked::default(),
            changed: true,
            snapshot: Arc::new(MetadataSnapshot::default()),
        }
    }

    /// Keeps what is over for so long: as long as rows are.
    #[must_use]
    pub fn keep(self, keep: Duration) -> LocalMetadata {
        LocalMetadata { past: Past::new(keep.as_secs().max(1)), ..self }
    }

    /// What had to be forgotten before its time, for want of room.
    #[must_use]
    pub fn forgotten(&self) -> Forgotten {
        self.past.forgotten()
    }

    /// Looks at what changed; the snapshot is the same as before if nothing did.
    pub fn refresh(&mut self) -> Arc<MetadataSnapshot> {
        self.refreshes += 1;
        self.exec_reads = 0;
        let mut pids = Vec::new();
        if self.fs.pids(&mut pids).is_ok() {
            self.end_missing(&pids);
            let mut reads = 0;
            for pid in pids {
                if reads < READS_PER_REFRESH && self.is_due(pid) {
                    reads += 1;
                    self.read(pid);
                }
            }
        }
        self.changed |= self.past.drop_old(self.refreshes);
        let holders: Vec<Holder> = {
            let infos = self.live.values().map(|known| &known.info);
            let holder = |info: &Arc<ProcessInfo>| Holder {
                pid: info.pid,
                start_ticks: info.start_ticks,
                start_unix_ns: self.machine.start_unix_ns(info.start_ticks),
                netns: info.netns,
            };
            infos.map(holder).collect()
        };
        self.changed |= self.sockets.refresh(&mut self.fs, holders);
        self.keep_closed();
        self.take_snapshot()
    }

    /// Reads the process if it is not known yet. The new snapshot if there is anything new since
    /// the last one (what [`LocalMetadata::observed`] and [`LocalMetadata::on_event`] told counts).
    pub fn look_up(&mut self, upid: Upid) -> Option<Arc<MetadataSnapshot>> {
        if upid.asid() == self.machine.asid && upid.pid() > 0 && !self.is_known(upid) {
            self.read(upid.pid());
        }
        self.changed.then(|| self.take_snapshot())
    }

    /// What is known of a live process, read now if need be.
    pub fn lookup_now(&mut self, pid: u32) -> Option<Arc<ProcessInfo>> {
        if !self.live.contains_key(&pid) {
            self.read(pid);
        }
        self.live.get(&pid).map(|known| known.info.clone())
    }

    /// Takes what capture saw of processes: one that starts a program is read at once, one that is
    /// gone before it could be read is known by its short name at least.
    pub fn on_event(&mut self, event: &CaptureEvent<'_>) {
        match event {
            CaptureEvent::Exec { at, .. } => {
                if self.exec_reads < EXEC_READS_PER_REFRESH {
                    self.exec_reads += 1;
                    self.read(at.process.pid);
                }
                self.know_by_event(at);
            }
            CaptureEvent::Exit { at, .. } => {
                self.know_by_event(at);
                let same = |known: &Known| known.info.start_ticks == at.process.start_ticks;
                if self.live.get(&at.process.pid).is_some_and(same) {
                    self.end(at.process.pid);
                }
            }
            _ => {}
        }
    }

    fn know_by_event(&mut self, at: &ProcessEvent) {
        let Process { pid, start_ticks } = at.process;
        let upid = Upid::new(self.machine.asid, pid, start_ticks);
        if self.is_known(upid) || self.kernel_threads.contains_key(&pid) {
            return;
        }
        let name = at.comm.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let comm = String::from_utf8_lossy(name).into_owned();
        let info = ProcessInfo {
            upid,
            pid,
            start_ticks,
            service: comm.replace('/', "_"),
            namespace: LOCAL_NAMESPACE.to_string(),
            pod: format!("{LOCAL_NAMESPACE}/{}-{pid}", comm.replace('/', "_")),
            node: self.machine.hostname.clone(),
            comm,
            ..ProcessInfo::default()
        };
        // Not among the live: whether it still is will be seen by its turn in a refresh.
        self.keep_ended(Arc::new(info));
    }

    /// A socket's owner, as capture saw it: sockets too short-lived for a refresh are known so.
    pub fn observed(&mut self, socket: &SocketOwner) {
        let owner = Upid::new(self.machine.asid, socket.process.pid, socket.process.start_ticks);
        let live = &self.live;
        let alive = |upid: Upid| live.get(&upid.pid()).is_some_and(|known| known.info.upid == upid);
        self.changed |= self.sockets.observed(socket, owner, &alive);
        self.keep_closed();
    }

    fn keep_closed(&mut self) {
        let over = self.sockets.take_over();
        let make = snapshot::Over { machine: &self.machine, now: &self.sockets };
        for closed in over {
            self.past.add_socket(closed, self.refreshes, &make);
        }
    }

    fn keep_ended(&mut self, info: Arc<ProcessInfo>) {
        let make = snapshot::Over { machine: &self.machine, now: &self.sockets };
        self.past.add_process(info, self.refreshes, &make);
        self.changed = true;
    }

    /// The snapshot, if something was observed since the last one.
    pub fn take_changed(&mut self) -> Option<Arc<MetadataSnapshot>> {
        self.changed.then(|| self.take_snapshot())
    }

    /// The last snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<MetadataSnapshot> {
        &self.snapshot
    }

    /// Whether more may soon be known of this process: nothing is, and it is one of this machine.
    #[must_use]
    pub fn awaits(&self, upid: Upid) -> bool {
        upid.asid() == self.machine.asid
            && upid.pid() > 0
            && self.live.len() < PROCESSES_MAX
            && !self.is_known(upid)
            && !self.kernel_threads.contains_key(&upid.pid())
    }

    fn is_known(&self, upid: Upid) -> bool {
        self.live.get(&upid.pid()).is_some_and(|known| known.info.upid == upid)
            || self.past.has_process(upid)
    }

    fn is_due(&self, pid: u32) -> bool {
        if let Some(known) = self.live.get(&pid) {
            // What was there at the start is not young.
            let is_new = known.first_refresh > 1;
            return (is_new && self.refreshes - known.first_refresh <= YOUNG_REFRESHES)
                || (u64::from(pid) + self.refreshes).is_multiple_of(TURN_REFRESHES);
        }
        match self.kernel_threads.get(&pid) {
            Some(seen) => self.refreshes - seen >= TURN_REFRESHES,
            None => true,
        }
    }

    fn end_missing(&mut self, pids: &[u32]) {
        let gone: Vec<u32> = {
            let missing = |pid: &&u32| pids.binary_search(pid).is_err();
            self.live.keys().filter(missing).copied().collect()
        };
        for pid in gone {
            self.end(pid);
        }
        self.kernel_threads.retain(|pid, _| pids.binary_search(pid).is_ok());
    }

    fn end(&mut self, pid: u32) {
        if let Some(known) = self.live.remove(&pid) {
            self.keep_ended(known.info);
        }
    }

    /// Reads everything about a pid anew.
    fn read(&mut self, pid: u32) {
        let Some(stat) = self.fs.read(pid, "stat").ok().and_then(parse::stat) else { return };
        if stat.is_kernel_thread() {
            self.kernel_threads.insert(pid, self.refreshes);
            return;
        }
        let other = |known: &Known| known.info.start_ticks != stat.start_ticks;
        if self.live.get(&pid).is_some_and(other) {
            self.end(pid);
        }
        if self.live.len() >= PROCESSES_MAX && !self.live.contains_key(&pid) {
            return;
        }
        let info = self.info(pid, &stat);
        let first_refresh = self.refreshes;
        match self.live.get_mut(&pid) {
            Some(known) if *known.info == info => {}
            Some(known) => {
                known.info = Arc::new(info);
                self.changed = true;
            }
            None => {
                self.live.insert(pid, Known { info: Arc::new(info), first_refresh });
                self.changed = true;
            }
        }
    }

    fn info(&mut self, pid: u32, stat: &parse::Stat) -> ProcessInfo {
        let raw = self.fs.read(pid, "cmdline").map(<[u8]>::to_vec).unwrap_or_default();
        let exe = self.fs.link(pid, "exe").unwrap_or_default().to_string_lossy().into_owned();
        let cgroup = self.fs.read(pid, "cgroup").map(names::cgroup).unwrap_or_default();
        let environ = self.fs.read(pid, "environ").unwrap_or_default();
        let otel = names::environment(environ, "OTEL_SERVICE_NAME");
        let netns = self.fs.link_number(pid, "ns/net").unwrap_or(0);
        let executable = names::executable(&exe, &raw, &stat.comm);
        let CgroupNames { container_id, unit, slice } = cgroup;
        let compose = self.compose.find(&container_id);
        let first = |names: [&str; 3]| {
            names.into_iter().find(|name| !name.is_empty()).unwrap_or("").to_string()
        };
        let program = names::program(&executable, &raw);
        let service = otel.unwrap_or_else(|| first([&compose.service, &unit, &program]));
        let namespace = first([&compose.project, &slice, LOCAL_NAMESPACE]);
        ProcessInfo {
            upid: Upid::new(self.machine.asid, pid, stat.start_ticks),
            pid,
            start_ticks: stat.start_ticks,
            cmdline: names::command_line(&raw),
            exe,
            comm: stat.comm.clone(),
            service: service.replace('/', "_"),
            pod: format!("{namespace}/{executable}-{pid}"),
            namespace,
            container: first([&compose.name, &container_id, ""]),
            container_id,
            node: self.machine.hostname.clone(),
            netns,
        }
    }

    fn take_snapshot(&mut self) -> Arc<MetadataSnapshot> {
        if std::mem::take(&mut self.changed) {
            let live = self.live.values().map(|known| &known.info);
            let mut present = self.machine.present(live, &self.sockets);
            self.asked.add_to(&mut present);
            let make = snapshot::Over { machine: &self.machine, now: &self.sockets };
            let past = self.past.parts(&make);
            self.snapshot = Arc::new(MetadataSnapshot { past, ..present });
        }
        self.snapshot.clone()
    }
}

/// Boot time in Unix ns and the number of CPUs, from `/proc/stat`.
fn machine(stat: &[u8]) -> (i64, i64) {
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
