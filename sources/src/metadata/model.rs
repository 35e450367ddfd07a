//! What is known of this machine, in memory alone: observations and answers of the readers in,
//! snapshots out, and orders of what should be read.
//!
//! | kind | bound | when full |
//! |---|---|---|
//! | processes that are there | [`PROCESSES_MAX`] | new ones have no names, counted |
//! | ended ones | [`ENDED_MAX`] | the oldest go, counted |
//! | both | [`PROCESS_BYTES_MAX`] | the oldest ended ones go, then new ones have no names |
//! | ends of connections | [`super::ENDS_MAX`] | the oldest closed go, then new ones are not taken |
//! | Unix sockets | `UNIX_ENDS_MAX` | the same |
//! | orders | [`ORDERS_MAX`] | left out, counted: a later turn orders again |
//! | libraries | [`LIBRARIES_MAX`] | those not asked for the longest go |
//!
//! The work of an observation does not depend on how much is remembered ([`ModelCounters::touched_total`]).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use weir_types::Upid;
use weir_types::metadata::{MetadataSnapshot, SharedMap};

use super::addresses::Addresses;
use super::ends::{EndCounters, Ends, SeenEnd};
use super::entities::Entities;
use super::reader::{Answer, Order};
use super::scan::Listed;
use super::unix_ends::{SeenUnixEnd, UnixEnds};
use super::{Forgotten, LOCAL_NAMESPACE, Machine, Observation, ProcessInfo, names};
use crate::capture::{Opened, Process};
use crate::conn::{EndOf, SocketOwner};

/// Processes that are known at once.
pub const PROCESSES_MAX: usize = 32_768;
/// Ended processes that are remembered.
pub const ENDED_MAX: usize = 8_192;
/// Texts and entries of all of them.
pub const PROCESS_BYTES_MAX: usize = 128 << 20;
/// Orders that wait.
const ORDERS_MAX: usize = 4_096;
/// Processes whose libraries are known.
const LIBRARIES_MAX: usize = 1_024;
/// How long what is over is kept unless said otherwise.
const KEEP: Duration = Duration::from_secs(3_600);
/// Of the listed processes so many are read in one second; the others have their turn.
const READS_PER_SECOND: usize = 1_024;
/// A process may still run another program or get its name within its first seconds.
const YOUNG_SECONDS: u64 = 5;
/// Each second this part of the known processes is read again: what they are called may change.
const TURN_SECONDS: u64 = 30;
/// Libraries are read again after so long: a process may load more.
const LIBRARIES_SECONDS: u64 = 30;

/// What was found out by reading.
#[derive(Clone, Debug)]
pub enum Found {
    Answer(Answer),
    /// The machine's own addresses and network namespace.
    Own {
        addresses: Vec<IpAddr>,
        netns: u32,
    },
    /// Connections in the kernel's tables.
    Listed {
        scan: u64,
        ends: Vec<Listed>,
    },
    ScanDone {
        scan: u64,
        now_unix_ns: i64,
        /// Sockets and namespaces that there was no room to look at.
        left_out: u64,
    },
    /// Names of addresses that came, changed or went.
    Names(Vec<(IpAddr, Option<String>)>),
    /// Somebody asked for the libraries of these.
    LibrariesWanted(Vec<Upid>),
}

/// All of it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelCounters {
    /// Processes that found no room.
    pub processes_refused_total: u64,
    /// Ended processes forgotten before their time.
    pub processes_forgotten_total: u64,
    pub orders_left_out_total: u64,
    /// Of the kernel's tables.
    pub sockets_left_out_total: u64,
    pub addresses_forgotten_total: u64,
    pub ends: EndCounters,
    /// Times that a process was put in or taken out, and entries of ends written.
    pub touched_total: u64,
}

impl ModelCounters {
    /// All that found no room: no name will be known of it.
    #[must_use]
    pub fn full_total(&self) -> u64 {
        let left_out = self.orders_left_out_total + self.sockets_left_out_total;
        self.processes_refused_total + left_out + self.ends.refused_total
    }

    /// All that was forgotten before its time.
    #[must_use]
    pub fn forgotten_total(&self) -> u64 {
        let ends = self.ends.forgotten_total + self.ends.met_forgotten_total;
        self.processes_forgotten_total + self.addresses_forgotten_total + ends
    }
}

#[derive(Debug)]
struct Known {
    info: Arc<ProcessInfo>,
    ended: bool,
    first_second: u64,
    /// Grows when it starts another program: what was read before is of the former.
    version: u64,
    /// When it was put in, in stamps.
    stamp: u64,
}

#[derive(Debug)]
struct Libraries {
    read_second: u64,
    asked_second: u64,
}

/// See the module's documentation.
pub struct Model {
    asid: u32,
    keep_seconds: u64,
    seconds: u64,
    /// Grows with all that is put in: tells what a listing of pids cannot know.
    stamp: u64,
    known: HashMap<Upid, Known, foldhash::fast::FixedState>,
    live: HashMap<u32, Upid, foldhash::fast::FixedState>,
    ended: VecDeque<(u64, Upid)>,
    bytes: usize,
    /// Pids that are no user process, and when that was seen.
    kernel_threads: SharedMap<u32, u64>,
    entities: Entities,
    ends: Ends,
    unix_ends: UnixEnds,
    addresses: Addresses,
    libraries: HashMap<Upid, Libraries, foldhash::fast::FixedState>,
    orders: VecDeque<Order>,
    /// The clock of the observations, at least up to the last second.
    now_unix_ns: i64,
    snapshot: MetadataSnapshot,
    changed: bool,
    counters: ModelCounters,
    forgotten: Forgotten,
}

impl Model {
    /// Keeps what is over as long as rows are kept.
    #[must_use]
    pub fn new(machine: Machine, keep: Option<Duration>) -> Model {
        let asid = machine.asid;
        let entities = Entities::new(machine);
        Model {
            asid,
            keep_seconds: keep.unwrap_or(KEEP).as_secs().max(1),
            seconds: 0,
            stamp: 0,
            known: HashMap::default(),
            live: HashMap::default(),
            ended: VecDeque::new(),
            bytes: 0,
            kernel_threads: SharedMap::new(),
            snapshot: entities.empty_snapshot(),
            entities,
            ends: Ends::default(),
            unix_ends: UnixEnds::default(),
            addresses: Addresses::default(),
            libraries: HashMap::default(),
            orders: VecDeque::new(),
            now_unix_ns: 0,
            changed: true,
            counters: ModelCounters::default(),
            forgotten: Forgotten::default(),
        }
    }

    /// The snapshot, if there is anything new since the last one.
    pub fn take_changed(&mut self) -> Option<Arc<MetadataSnapshot>> {
        std::mem::take(&mut self.changed).then(|| Arc::new(self.snapshot.clone()))
    }

    /// What should be read, the most urgent first.
    pub fn take_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    #[must_use]
    pub fn counters(&self) -> ModelCounters {
        let mut ends = self.ends.counters();
        ends.forgotten_total += self.unix_ends.forgotten_total;
        ends.refused_total += self.unix_ends.refused_total;
        ModelCounters {
            ends,
            addresses_forgotten_total: self.addresses.forgotten_total,
            touched_total: self.counters.touched_total + ends.touched_total,
            ..self.counters
        }
    }

    /// What had to go before its time since the last call.
    pub fn take_forgotten(&mut self) -> Forgotten {
        let mut forgotten = self.forgotten.take();
        forgotten.add(self.ends.take_forgotten());
        forgotten.add(self.unix_ends.take_forgotten());
        forgotten.add(self.addresses.forgotten.take());
        forgotten
    }

    /// Pids that are no user process: nothing will be known of them.
    #[must_use]
    pub fn kernel_threads(&self) -> SharedMap<u32, u64> {
        self.kernel_threads.clone()
    }

    /// Once a second: what is due is ordered, what is too old is forgotten.
    pub fn second(&mut self, now_unix_ns: i64) {
        self.seconds += 1;
        self.now_unix_ns = self.now_unix_ns.max(now_unix_ns);
        self.stamp += 1;
        self.order(Order::Pids { stamp: self.stamp });
        let (seconds, keep) = (self.seconds, self.keep_seconds);
        while self.ended.front().is_some_and(|(ended, _)| seconds - ended > keep) {
            self.forget_oldest();
        }
        let connections = &mut self.snapshot.connections;
        self.changed |= self.ends.forget_old(seconds, keep, connections);
        self.changed |= self.unix_ends.forget_old(seconds, keep, connections);
    }

    pub fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Forked { process, parent } => self.forked(process, parent),
            Observation::Started { process, comm, cmdline } => {
                self.started(process, comm, &cmdline);
            }
            Observation::Ended { process, comm } => self.has_ended(process, comm),
            Observation::End(end) => self.end_seen(&end),
            Observation::Mentioned(upid) => {
                if upid.asid() == self.asid && upid.pid() > 0 && !self.known.contains_key(&upid) {
                    self.order_process(upid.pid());
                }
            }
        }
    }

    pub fn found(&mut self, found: Found) {
        match found {
            Found::Answer(answer) => self.answered(answer),
            Found::Own { addresses, netns } => {
                self.addresses.set_own(&addresses, netns, &mut self.snapshot.connections);
                self.changed = true;
            }
            Found::Listed { scan, ends } => ends.iter().for_each(|end| self.end_listed(scan, end)),
            Found::ScanDone { scan, now_unix_ns, left_out } => {
                self.counters.sockets_left_out_total += left_out;
                self.now_unix_ns = self.now_unix_ns.max(now_unix_ns);
                let to = &mut self.snapshot.connections;
                self.changed |= self.ends.scan_done(scan, now_unix_ns, to, self.seconds);
            }
            Found::Names(names) => {
                self.changed |= !names.is_empty();
                for (ip, name) in names {
                    match name {
                        Some(name) => self.snapshot.dns.insert(ip.to_string(), name),
                        None => {
                            self.snapshot.dns.remove(&ip.to_string());
                        }
                    }
                }
            }
            Found::LibrariesWanted(upids) => upids.into_iter().for_each(|upid| self.want(upid)),
        }
    }

    fn upid(&self, process: Process) -> Upid {
        Upid::new(self.asid, process.pid, process.start_ticks)
    }

    /// It runs what its parent runs, in the same container and namespaces.
    fn forked(&mut self, process: Process, parent: Process) {
        let upid = self.upid(process);
        if self.known.contains_key(&upid) {
            return;
        }
        match self.known.get(&self.upid(parent)) {
            Some(parent) => {
                let info = ProcessInfo { upid, ..(*parent.info).clone() };
                self.put(info, false);
            }
            None => self.order_process(process.pid),
        }
    }

    /// It runs another program: what its arguments say holds until it was read.
    fn started(&mut self, process: Process, comm: String, cmdline: &[u8]) {
        let upid = self.upid(process);
        // Events of two CPUs may come in any order: what has ended does not begin again.
        let ended = self.known.get(&upid).is_some_and(|known| known.ended);
        let former = self.known.get(&upid).map(|known| (*known.info).clone());
        let mut info = self.by_name(upid, comm, cmdline);
        if let Some(former) = former {
            if !former.service_is_program {
                info.service = former.service;
                info.service_is_program = false;
            }
            info.namespace = former.namespace;
            info.container = former.container;
            info.container_id = former.container_id;
            info.netns = former.netns;
        }
        self.put(info, ended);
        self.stamp += 1;
        if let Some(known) = self.known.get_mut(&upid) {
            known.version = self.stamp;
        }
        if !ended {
            self.order_process(process.pid);
        }
    }

    fn has_ended(&mut self, process: Process, comm: String) {
        let upid = self.upid(process);
        let is_kernel_thread = self.kernel_threads.contains_key(&process.pid);
        if !self.known.contains_key(&upid) && !is_kernel_thread {
            let info = self.by_name(upid, comm, &[]);
            self.put(info, true);
        } else {
            self.end(upid);
        }
    }

    /// What can be said without reading.
    fn by_name(&self, upid: Upid, comm: String, cmdline: &[u8]) -> ProcessInfo {
        let executable = names::executable("", cmdline, &comm);
        ProcessInfo {
            upid,
            cmdline: names::command_line(cmdline),
            service: names::program(&executable, cmdline).replace('/', "_"),
            service_is_program: true,
            executable: executable.replace('/', "_"),
            namespace: LOCAL_NAMESPACE.to_string(),
            comm,
            ..ProcessInfo::default()
        }
    }

    fn end_seen(&mut self, end: &SocketOwner) {
        self.now_unix_ns = self.now_unix_ns.max(end.at_unix_ns);
        let owner = Upid::new(self.asid, end.process.pid, end.process.start_ticks);
        let to = &mut self.snapshot.connections;
        let (pair, netns) = match end.end {
            EndOf::Ip { local, remote } => ((local, remote), end.netns),
            EndOf::Unix { inode, .. } if end.ended => {
                self.changed |= self.unix_ends.closed(inode, end.at_unix_ns, to, self.seconds);
                return;
            }
            EndOf::Unix { inode, peer_inode } => {
                let since_unix_ns = end.at_unix_ns;
                let seen = SeenUnixEnd { inode, peer_inode, owner, since_unix_ns };
                self.changed |= self.unix_ends.opened(&seen, to);
                return;
            }
        };
        if end.ended {
            self.changed |= self.ends.closed(pair, netns, end.at_unix_ns, to, self.seconds);
            return;
        }
        let since_unix_ns = end.at_unix_ns;
        self.open(&SeenEnd { pair, netns, owner, opened: end.opened, since_unix_ns }, None);
    }

    fn end_listed(&mut self, scan: u64, listed: &Listed) {
        let Listed { local, remote, netns, owner } = *listed;
        let since_unix_ns =
            self.known.get(&owner).map_or(0, |known| self.entities.start_unix_ns(&known.info));
        let (pair, opened) = ((local, remote), Opened::Unknown);
        self.open(&SeenEnd { pair, netns, owner, opened, since_unix_ns }, Some(scan));
    }

    fn open(&mut self, seen: &SeenEnd, scan: Option<u64>) {
        let to = &mut self.snapshot.connections;
        self.changed |= match scan {
            None => self.ends.opened(seen, to, self.seconds),
            Some(scan) => self.ends.listed(seen, scan, to, self.seconds),
        };
        let ip = seen.pair.0.ip().to_canonical();
        let used = self.addresses.used(ip, seen.netns, seen.owner, seen.since_unix_ns, to);
        let Some(ip) = used else { return };
        self.changed = true;
        self.give_ip(seen.owner, ip);
    }

    /// The process's pod has the address, if it had none.
    fn give_ip(&mut self, owner: Upid, ip: IpAddr) {
        let Some(process) = self.snapshot.process(owner) else { return };
        let Some(pod) = self.snapshot.pod(&process.pod_id).filter(|pod| pod.ip.is_empty()) else {
            return;
        };
        let mut pod = (**pod).clone();
        pod.ip = ip.to_string();
        self.snapshot.pods.insert(pod.id.clone(), Arc::new(pod));
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Pids { stamp, pids } => self.listed_pids(stamp, &pids),
            Answer::Process { version, info } => self.was_read(version, *info),
            Answer::KernelThread { pid } => {
                self.kernel_threads.insert(pid, self.seconds);
                self.end_pid(pid);
            }
            Answer::Libraries { upid, text } => {
                self.snapshot.libraries.insert(upid, text);
                self.changed = true;
            }
            Answer::Nothing => {}
        }
    }

    fn was_read(&mut self, version: u64, info: ProcessInfo) {
        let known = self.known.get(&info.upid);
        // It has started another program since: that was ordered, too.
        if known.is_some_and(|known| known.version > version) {
            return;
        }
        // Of one that is just ending nothing is left to read: its event said more.
        if known.is_some() && info.exe.is_empty() && info.cmdline.is_empty() {
            return;
        }
        let ended = known.is_some_and(|known| known.ended);
        let other = self.live.get(&info.upid.pid()).filter(|upid| **upid != info.upid);
        if let Some(&other) = other
            && !ended
        {
            self.end(other);
        }
        self.kernel_threads.remove(&info.upid.pid());
        self.put(info, ended);
    }

    /// Puts a process in, in place of what was known of it.
    fn put(&mut self, info: ProcessInfo, ended: bool) {
        let upid = info.upid;
        if let Some(have) = self.known.get(&upid)
            && *have.info == info
            && have.ended == ended
        {
            return;
        }
        let bytes = info.bytes();
        let former = self.take_out(upid);
        if !self.has_room(ended, bytes) {
            self.counters.processes_refused_total += 1;
            self.changed |= former.is_some();
            return;
        }
        self.entities.add(&mut self.snapshot, &info, ended);
        self.counters.touched_total += 1;
        self.bytes += bytes;
        self.changed = true;
        self.stamp += 1;
        let (first_second, version) =
            former.as_ref().map_or((self.seconds, 0), |known| (known.first_second, known.version));
        let known = Known { info: Arc::new(info), ended, first_second, version, stamp: self.stamp };
        self.known.insert(upid, known);
        if !ended {
            self.live.insert(upid.pid(), upid);
        } else if former.is_none_or(|known| !known.ended) {
            self.ended.push_back((self.seconds, upid));
        }
    }

    fn has_room(&mut self, ended: bool, bytes: usize) -> bool {
        while self.bytes + bytes > PROCESS_BYTES_MAX || (ended && self.ended.len() >= ENDED_MAX) {
            if self.ended.is_empty() {
                return false;
            }
            self.counters.processes_forgotten_total += 1;
            self.note_forgotten();
            self.forget_oldest();
        }
        ended || self.live.len() < PROCESSES_MAX
    }

    /// Takes out what is known of a process; its place among the ended stays.
    fn take_out(&mut self, upid: Upid) -> Option<Known> {
        let known = self.known.remove(&upid)?;
        self.entities.remove(&mut self.snapshot, &known.info, known.ended);
        self.counters.touched_total += 1;
        self.bytes -= known.info.bytes();
        if self.live.get(&upid.pid()) == Some(&upid) {
            self.live.remove(&upid.pid());
        }
        Some(known)
    }

    /// The one that is to be forgotten next goes before its time.
    fn note_forgotten(&mut self) {
        const SEC_NS: i64 = 1_000_000_000;
        let Some((ended, upid)) = self.ended.front() else { return };
        let Some(known) = self.known.get(upid) else { return };
        let ago = i64::try_from(self.seconds.saturating_sub(*ended)).unwrap_or(i64::MAX);
        let until_unix_ns = self.now_unix_ns.saturating_sub(ago.saturating_mul(SEC_NS));
        self.forgotten.note(self.entities.start_unix_ns(&known.info), until_unix_ns);
    }

    fn forget_oldest(&mut self) {
        let Some((_, upid)) = self.ended.pop_front() else { return };
        self.changed |= self.take_out(upid).is_some();
        self.snapshot.libraries.remove(&upid);
        self.libraries.remove(&upid);
    }

    fn end_pid(&mut self, pid: u32) {
        if let Some(&upid) = self.live.get(&pid) {
            self.end(upid);
        }
    }

    fn end(&mut self, upid: Upid) {
        let Some(known) = self.known.get(&upid).filter(|known| !known.ended) else { return };
        let info = (*known.info).clone();
        let to = &mut self.snapshot.connections;
        self.addresses.process_ended(upid, self.now_unix_ns, to);
        self.put(info, true);
    }

    fn listed_pids(&mut self, stamp: u64, pids: &[u32]) {
        let is_gone = |(pid, upid): &(&u32, &Upid)| {
            let older = self.known.get(*upid).is_some_and(|known| known.stamp < stamp);
            older && pids.binary_search(pid).is_err()
        };
        let gone: Vec<Upid> = self.live.iter().filter(is_gone).map(|(_, upid)| *upid).collect();
        gone.into_iter().for_each(|upid| self.end(upid));
        let is_gone = |pid: &&u32| pids.binary_search(pid).is_err();
        let gone: Vec<u32> = self.kernel_threads.keys().filter(is_gone).copied().collect();
        for pid in &gone {
            self.kernel_threads.remove(pid);
        }
        let due = pids.iter().filter(|pid| self.is_due(**pid));
        let due: Vec<u32> = due.copied().take(READS_PER_SECOND).collect();
        due.into_iter().for_each(|pid| self.order_process(pid));
    }

    fn is_due(&self, pid: u32) -> bool {
        let known = self.live.get(&pid).and_then(|upid| self.known.get(upid));
        if let Some(known) = known {
            // What was there at the start is not young.
            let is_new = known.first_second > 1;
            return (is_new && self.seconds - known.first_second <= YOUNG_SECONDS)
                || (u64::from(pid) + self.seconds).is_multiple_of(TURN_SECONDS);
        }
        match self.kernel_threads.get(&pid) {
            Some(seen) => self.seconds - seen >= TURN_SECONDS,
            None => true,
        }
    }

    fn order_process(&mut self, pid: u32) {
        self.stamp += 1;
        self.order(Order::Process { pid, version: self.stamp });
    }

    fn order(&mut self, order: Order) {
        if self.orders.len() < ORDERS_MAX {
            self.orders.push_back(order);
        } else {
            self.counters.orders_left_out_total += 1;
        }
    }

    /// Libraries of a process are wanted: they are read unless they were just now.
    fn want(&mut self, upid: Upid) {
        let seconds = self.seconds;
        let Some(known) = self.known.get(&upid).filter(|known| !known.ended) else { return };
        let exe = known.info.exe.clone();
        if let Some(have) = self.libraries.get_mut(&upid) {
            have.asked_second = seconds;
            if seconds - have.read_second < LIBRARIES_SECONDS {
                return;
            }
        }
        if self.libraries.len() >= LIBRARIES_MAX && !self.libraries.contains_key(&upid) {
            let oldest = self.libraries.iter().min_by_key(|(_, have)| have.asked_second);
            if let Some(oldest) = oldest.map(|(upid, _)| *upid) {
                self.libraries.remove(&oldest);
                self.snapshot.libraries.remove(&oldest);
            }
        }
        self.libraries.insert(upid, Libraries { read_second: seconds, asked_second: seconds });
        self.order(Order::Libraries { upid, exe });
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
