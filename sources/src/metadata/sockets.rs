//! Which process owns a local address and port.
//!
//! The kernel's socket tables name an inode for each socket, the processes' descriptors name the
//! inodes that they hold. Reading all descriptors of all processes each second would cost more than
//! everything else, and the kernel walks its whole hash table for each read of the socket tables
//! (6 ms with 2¹⁸ buckets). So the tables are read rarely, only sockets without a known owner are
//! searched for, within a budget, process by process in turn, and capture tells what it sees
//! ([`SocketTable::observed`]): that is how sockets are known at once.
//!
//! A socket held by several processes (a master and its workers) is the youngest one's: workers do
//! the work. Loopback addresses are those of this process's own network namespace.

use std::net::{IpAddr, SocketAddr};

use hashbrown::{HashMap, HashSet};
use weir_types::Upid;
use weir_types::metadata::SocketMeta;

use crate::conn::SocketOwner;
use crate::proc::fs::ProcFs;
use crate::proc::parse;

/// Sockets that are remembered; beyond it new ones are not.
const SOCKETS_MAX: usize = 65_536;
/// Descriptors that one refresh looks at (each costs a system call).
const FDS_PER_REFRESH: usize = 512;
const FDS_FIRST_REFRESH: usize = 65_536;
/// Descriptors of one process that are looked at.
const FDS_PER_PROCESS: usize = 8_192;
/// A socket without a holder is looked for again after so many refreshes.
const UNHELD_REFRESHES: u64 = 60;
/// Network namespaces whose tables are read.
const NAMESPACES_MAX: usize = 256;
/// A socket that was not seen for so many refreshes (about seconds) is over; long enough to be in
/// the tables in between.
const GONE_REFRESHES: u64 = 65;
/// The tables are read each so many refreshes (about seconds), and soon after the start.
const TABLES_EVERY: u64 = 30;
const TABLES_EARLY: u64 = 6;

#[derive(Clone, Copy, Debug)]
struct Owned {
    owner: Upid,
    since_unix_ns: i64,
    seen: u64,
    /// Found by its own address; else because its owner listens on all addresses.
    exact: bool,
}

#[derive(Debug, Default)]
pub(super) struct SocketTable {
    owners: HashMap<SocketAddr, Owned, foldhash::fast::FixedState>,
    /// inode → holder (pid, start), for inodes that were looked for.
    inodes: HashMap<u64, (u32, u64), foldhash::fast::FixedState>,
    /// inode → when nobody was found to hold it (the process may not be read, or is elsewhere).
    unheld: HashMap<u64, u64, foldhash::fast::FixedState>,
    own_netns: u64,
    asid: u32,
    refreshes: u64,
    /// Pids below this had their turn.
    turn: u32,
    addresses: Vec<IpAddr>,
    /// The tables as they were read last, with each socket's network namespace.
    table: Vec<(parse::TcpSocket, u64)>,
    /// Sockets of it whose holder is still to be found.
    searching: bool,
    /// Closed, or with another owner, since they were taken last.
    over: Vec<(SocketAddr, SocketMeta)>,
}

/// Whether a process is there.
type Alive<'a> = &'a dyn Fn(Upid) -> bool;

/// A process as the search for owners needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
    pub(super) start_unix_ns: i64,
    pub(super) netns: u64,
}

impl SocketTable {
    pub(super) fn new(asid: u32) -> SocketTable {
        SocketTable { asid, ..SocketTable::default() }
    }

    /// Local sockets and their owners.
    pub(super) fn owners(&self) -> impl Iterator<Item = (SocketAddr, SocketMeta)> {
        self.owners.iter().map(|(local, owned)| (*local, owned.meta()))
    }

    /// Sockets that are over since the last call, in the order in which that was seen.
    pub(super) fn take_over(&mut self) -> Vec<(SocketAddr, SocketMeta)> {
        std::mem::take(&mut self.over)
    }

    /// An address of one of the machine's interfaces.
    pub(super) fn is_machine_address(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip)
    }

    /// True if it was not known. `alive`: whether an earlier owner still lives.
    pub(super) fn observed(&mut self, seen: &SocketOwner, owner: Upid, alive: Alive<'_>) -> bool {
        let (local, netns) = (seen.local, u64::from(seen.netns));
        let foreign = netns != 0 && self.own_netns != 0 && netns != self.own_netns;
        if local.ip().is_unspecified() || (foreign && local.ip().is_loopback()) {
            return false;
        }
        let meta = SocketMeta { since_unix_ns: seen.since_unix_ns, owner };
        // A port that a client connects from is its alone. That of a server is all its workers', as
        // long as they live.
        self.own(local, meta, true, &|old| seen.shared && alive(old))
    }

    /// `shares`: whether the owner up to now still has it, too.
    fn own(&mut self, local: SocketAddr, meta: SocketMeta, exact: bool, shares: Alive<'_>) -> bool {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let seen = self.refreshes;
        let new = Owned { owner: meta.owner, since_unix_ns: meta.since_unix_ns, seen, exact };
        let full = self.owners.len() >= SOCKETS_MAX;
        match self.owners.get_mut(&local) {
            Some(old) if old.owner == meta.owner => {
                *old = Owned { since_unix_ns: old.since_unix_ns, exact: old.exact | exact, ..new };
                false
            }
            Some(old) if old.exact && !exact => {
                old.seen = seen;
                false
            }
            Some(old) if shares(old.owner) => {
                *old = Owned { since_unix_ns: old.since_unix_ns, ..new };
                true
            }
            Some(old) => {
                self.over.push((local, old.meta()));
                // It cannot have had it before the one that had it before.
                let since_unix_ns = new.since_unix_ns.max(old.since_unix_ns.saturating_add(1));
                *old = Owned { since_unix_ns, ..new };
                true
            }
            None if full => false,
            None => {
                self.owners.insert(local, new);
                true
            }
        }
    }

    /// Reads the tables and finds owners among these processes. True if anything changed.
    pub(super) fn refresh(&mut self, fs: &mut ProcFs, mut processes: Vec<Holder>) -> bool {
        self.refreshes += 1;
        processes.sort_unstable();
        if self.refreshes == TABLES_EARLY || self.refreshes % TABLES_EVERY == 1 {
            self.own_netns = own_netns(fs);
            self.addresses = super::addresses_in(fs);
            self.table = self.read_tables(fs, &processes);
            let there: HashSet<u64> = self.table.iter().map(|(socket, _)| socket.inode).collect();
            self.inodes.retain(|inode, _| there.contains(inode));
            self.searching = true;
        }
        if !self.searching {
            return self.forget_gone();
        }
        let table = std::mem::take(&mut self.table);
        let budget = if self.refreshes == 1 { FDS_FIRST_REFRESH } else { FDS_PER_REFRESH };
        self.searching = self.find_holders(fs, &processes, &table, budget);
        let changed = self.apply(&table, &processes);
        self.table = table;
        changed | self.forget_gone()
    }

    /// Takes what is known about the sockets of the tables.
    fn apply(&mut self, table: &[(parse::TcpSocket, u64)], processes: &[Holder]) -> bool {
        let mut changed = false;
        for (socket, netns) in table {
            let Some(&(pid, start_ticks)) = self.inodes.get(&socket.inode) else {
                if let Some(owned) = self.owners.get_mut(&socket.local) {
                    owned.seen = self.refreshes;
                }
                continue;
            };
            let holder = processes.binary_search_by_key(&(pid, start_ticks), |process| {
                (process.pid, process.start_ticks)
            });
            // It may have had the socket as long as it has been there.
            let since_unix_ns = holder.map_or(0, |idx| processes[idx].start_unix_ns);
            let meta = SocketMeta { since_unix_ns, owner: Upid::new(self.asid, pid, start_ticks) };
            let alive = |old: Upid| {
                let key = (old.pid(), old.start_ticks());
                processes.binary_search_by_key(&key, |p| (p.pid, p.start_ticks)).is_ok()
            };
            let own = *netns == self.own_netns;
            if !socket.local.ip().is_unspecified() {
                if own || !socket.local.ip().is_loopback() {
                    changed |= self.own(socket.local, meta, true, &alive);
                }
            } else if own && socket.listening {
                for address in self.addresses.clone() {
                    let local = SocketAddr::new(address, socket.local.port());
                    changed |= self.own(local, meta, false, &alive);
                }
            }
        }
        changed
    }

    fn read_tables(&self, fs: &mut ProcFs, processes: &[Holder]) -> Vec<(parse::TcpSocket, u64)> {
        let mut sockets = Vec::new();
        let mut read = |fs: &mut ProcFs, prefix: &str, netns: u64| {
            for table in ["tcp", "tcp6"] {
                if let Ok(text) = fs.read_path(&format!("{prefix}/net/{table}")) {
                    let room = SOCKETS_MAX.saturating_sub(sockets.len());
                    sockets.extend(parse::tcp(text).take(room).map(|socket| (socket, netns)));
                }
            }
        };
        read(fs, "self", self.own_netns);
        let mut done = HashSet::<u64>::from([self.own_netns, 0]);
        for Holder { pid, netns, .. } in processes {
            if done.len() < NAMESPACES_MAX && done.insert(*netns) {
                read(fs, &pid.to_string(), *netns);
            }
        }
        sockets
    }

    /// Looks for the holders of sockets that have none yet. True if the search goes on next time.
    fn find_holders(
        &mut self,
        fs: &mut ProcFs,
        processes: &[Holder],
        sockets: &[(parse::TcpSocket, u64)],
        budget: usize,
    ) -> bool {
        let alive = |holder: &(u32, u64)| {
            processes.binary_search_by_key(holder, |p| (p.pid, p.start_ticks)).is_ok()
        };
        self.inodes.retain(|_, holder| alive(holder));
        let refreshes = self.refreshes;
        self.unheld.retain(|_, since| refreshes - *since < UNHELD_REFRESHES);
        let wanted: HashSet<u64> = sockets
            .iter()
            .filter(|(socket, _)| !self.is_settled(socket))
            .map(|(socket, _)| socket.inode)
            .collect();
        if wanted.is_empty() {
            return false;
        }
        let from = processes.partition_point(|process| process.pid < self.turn);
        let (mut looked_at, mut found) = (0, Vec::new());
        for Holder { pid, start_ticks, .. } in processes[from..].iter().chain(&processes[..from]) {
            if looked_at >= budget {
                self.turn = *pid;
                return true;
            }
            found.clear();
            looked_at += 1 + fs.socket_inodes(*pid, FDS_PER_PROCESS, &mut found);
            for inode in found.iter().filter(|inode| wanted.contains(*inode)) {
                let holder = self.inodes.entry(*inode).or_insert((*pid, *start_ticks));
                if (holder.1, holder.0) < (*start_ticks, *pid) {
                    *holder = (*pid, *start_ticks);
                }
            }
        }
        let unheld = wanted.into_iter().filter(|inode| !self.inodes.contains_key(inode));
        self.unheld.extend(unheld.map(|inode| (inode, refreshes)));
        false
    }

    /// Nobody needs to be asked whose it is: known, told by capture, or not to be found.
    fn is_settled(&self, socket: &parse::TcpSocket) -> bool {
        let told = || self.owners.get(&socket.local).is_some_and(|owned| owned.exact);
        self.inodes.contains_key(&socket.inode)
            || self.unheld.contains_key(&socket.inode)
            || (!socket.listening && told())
    }

    fn forget_gone(&mut self) -> bool {
        let refreshes = self.refreshes;
        let gone = self.owners.extract_if(|_, owned| refreshes - owned.seen > GONE_REFRESHES);
        let before = self.over.len();
        self.over.extend(gone.map(|(local, owned)| (local, owned.meta())));
        self.over.len() != before
    }
}

impl Owned {
    fn meta(&self) -> SocketMeta {
        SocketMeta { since_unix_ns: self.since_unix_ns, owner: self.owner }
    }
}

fn own_netns(fs: &mut ProcFs) -> u64 {
    let own = fs.read_path("self/stat").ok().and_then(|text| {
        std::str::from_utf8(text).ok()?.split_ascii_whitespace().next()?.parse::<u32>().ok()
    });
    own.and_then(|pid| fs.link_number(pid, "ns/net")).unwrap_or(0)
}
