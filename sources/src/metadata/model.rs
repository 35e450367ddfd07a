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
//! | objects of Kubernetes | [`super::k8s::OBJECTS_MAX`] | new ones are not taken, counted |
//!
//! The work of an observation does not depend on how much is remembered ([`ModelCounters::touched_total`]).

mod connections;
mod kubernetes;
mod processes;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use weir_types::Upid;
use weir_types::metadata::{EntityKey, MetadataSnapshot, SharedMap};

use super::addresses::Addresses;
use super::ends::{EndCounters, Ends};
use super::entities::Entities;
use super::k8s::{Change, Linked};
use super::reader::{Answer, Order};
use super::scan::Listed;
use super::unix_ends::UnixEnds;
use super::{Forgotten, Machine, Observation, ProcessInfo};
use crate::capture::Process;

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
    /// What the watches of the API server tell, in their order.
    Kubernetes(Vec<Change>),
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
    /// Objects of Kubernetes that found no room.
    pub objects_refused_total: u64,
    pub ends: EndCounters,
    /// Times that a process was put in or taken out, and entries of ends written.
    pub touched_total: u64,
}

impl ModelCounters {
    /// All that found no room: no name will be known of it.
    #[must_use]
    pub fn full_total(&self) -> u64 {
        let left_out = self.orders_left_out_total + self.sockets_left_out_total;
        let refused = self.processes_refused_total + self.objects_refused_total;
        refused + left_out + self.ends.refused_total
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
    /// Of Kubernetes, if it is one of its pods'.
    pod_id: Option<String>,
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
    kubernetes: Linked,
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
        let mut snapshot = entities.empty_snapshot();
        snapshot.follow();
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
            snapshot,
            entities,
            kubernetes: Linked::default(),
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

    /// The snapshot, if there is anything new since the last one, and which of its entries were touched.
    pub fn take_changed(&mut self) -> Option<(Arc<MetadataSnapshot>, Vec<EntityKey>)> {
        let mut touched = self.snapshot.take_touched();
        self.restore_kubernetes(&touched);
        touched.extend(self.snapshot.take_touched());
        let is_new = std::mem::take(&mut self.changed) || !touched.is_empty();
        is_new.then(|| (Arc::new(self.snapshot.clone()), touched))
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
            objects_refused_total: self.kubernetes.refused_total(),
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
        self.forget_kubernetes();
        let connections = &mut self.snapshot.connections;
        self.changed |= self.addresses.forget_old(seconds, keep, connections);
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
            Found::Kubernetes(changes) => self.kubernetes.apply(changes, self.now_unix_ns),
        }
    }

    fn upid(&self, process: Process) -> Upid {
        Upid::new(self.asid, process.pid, process.start_ticks)
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
