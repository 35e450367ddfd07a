//! Finds connections and their processes in the kernel's tables, for those that capture does not
//! see: other processes than the chosen ones, and programs that it cannot follow.
//!
//! The tables of each network namespace name an inode for each socket, the processes' descriptors
//! name the inodes that they hold. The kernel walks its whole hash table for each read (6 ms with 2¹⁸
//! buckets; 200 namespaces take seconds), and reading all descriptors of all processes each second
//! would cost more than everything else. So the tables are read rarely, the more rarely the longer it
//! takes, and only sockets that nobody has told of are searched for, within a budget, process by
//! process in turn. It has a thread of its own and nobody waits for it.
//!
//! A socket held by several processes (a master and its workers) is the youngest one's: workers do
//! the work.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use weir_types::Upid;
use weir_types::metadata::MetadataSnapshot;

use super::model::Found;
use crate::proc::fs::ProcFs;
use crate::proc::parse;

/// Connections of the tables that are looked at.
const SOCKETS_MAX: usize = 65_536;
/// Descriptors that one step looks at (each costs a system call).
const FDS_PER_STEP: usize = 512;
const FDS_FIRST_STEP: usize = 65_536;
/// Descriptors of one process that are looked at.
const FDS_PER_PROCESS: usize = 8_192;
/// Network namespaces whose tables are read.
const NAMESPACES_MAX: usize = 256;
/// The tables are read each so many steps (about seconds), and soon after the start; but not so often
/// that reading them takes more than a part of the time.
const TABLES_EVERY: u64 = 30;
const TABLES_EARLY: u64 = 6;
const TABLES_PART: u32 = 20;
/// Connections that are handed on at once.
const LISTED_PER_MESSAGE: usize = 512;

/// A connection of the tables, and the process that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub netns: u32,
    pub owner: Upid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    pid: u32,
    start_ticks: u64,
    netns: u32,
}

pub struct SocketScanner {
    asid: u32,
    fs: ProcFs,
    own_netns: u32,
    steps: u64,
    scan: u64,
    /// The step from which on the tables are read again.
    next_tables: u64,
    /// Pids below this had their turn.
    turn: u32,
    /// The tables as they were read last, with each socket's network namespace.
    table: Vec<(parse::TcpSocket, u32)>,
    /// inode → holder (pid, start), for inodes that were looked for.
    inodes: HashMap<u64, (u32, u64), foldhash::fast::FixedState>,
    searching: bool,
    /// Of this scan: sockets and namespaces of the tables that were not looked at.
    left_out: u64,
}

impl SocketScanner {
    /// Reads a directory that looks like a machine's root.
    #[must_use]
    pub fn new(asid: u32, root: &Path) -> SocketScanner {
        SocketScanner {
            asid,
            fs: ProcFs::new(&root.join("proc")),
            own_netns: 0,
            steps: 0,
            scan: 0,
            next_tables: 0,
            turn: 0,
            table: Vec::new(),
            inodes: HashMap::default(),
            searching: false,
            left_out: 0,
        }
    }

    /// One step, about a second after the last: reads or searches on, and hands on what it found.
    /// `elapsed` tells how long something took; `now_unix_ns` is the time.
    pub fn step(
        &mut self,
        known: &MetadataSnapshot,
        elapsed: &dyn Fn() -> Duration,
        now_unix_ns: i64,
        out: &mut dyn FnMut(Found),
    ) {
        self.steps += 1;
        let processes = self.processes(known);
        if self.steps >= self.next_tables || self.steps == TABLES_EARLY {
            let before = elapsed();
            self.begin_scan(&processes, out);
            let took = elapsed().saturating_sub(before).saturating_mul(TABLES_PART).as_secs();
            self.next_tables = self.steps + TABLES_EVERY.max(took);
        }
        if !self.searching {
            return;
        }
        let budget = if self.steps == 1 { FDS_FIRST_STEP } else { FDS_PER_STEP };
        self.searching = self.find_holders(known, &processes, budget);
        if !self.searching {
            self.hand_on(&processes, out);
            let left_out = self.left_out;
            out(Found::ScanDone { scan: self.scan, now_unix_ns, left_out });
        }
    }

    fn begin_scan(&mut self, processes: &[Holder], out: &mut dyn FnMut(Found)) {
        self.own_netns = own_netns(&mut self.fs);
        let addresses = super::addresses_in(&mut self.fs);
        out(Found::Own { addresses, netns: self.own_netns });
        self.table = self.read_tables(processes);
        let there: HashSet<u64> = self.table.iter().map(|(socket, _)| socket.inode).collect();
        self.inodes.retain(|inode, _| there.contains(inode));
        self.scan += 1;
        self.searching = true;
    }

    /// Those that are there, ascending.
    fn processes(&self, known: &MetadataSnapshot) -> Vec<Holder> {
        let live = known.processes.values().filter(|process| !process.ended);
        let mut processes: Vec<Holder> = live
            .filter(|process| process.upid.asid() == self.asid)
            .map(|process| Holder {
                pid: process.upid.pid(),
                start_ticks: process.upid.start_ticks(),
                netns: process.netns,
            })
            .collect();
        processes.sort_unstable();
        processes
    }

    fn read_tables(&mut self, processes: &[Holder]) -> Vec<(parse::TcpSocket, u32)> {
        let mut sockets = Vec::new();
        let mut left_out = 0;
        let fs = &mut self.fs;
        let mut read = |prefix: &str, netns: u32| {
            for table in ["tcp", "tcp6"] {
                if let Ok(text) = fs.read_path(&format!("{prefix}/net/{table}")) {
                    let room = SOCKETS_MAX.saturating_sub(sockets.len());
                    let mut listed = parse::tcp(text);
                    sockets.extend(listed.by_ref().take(room).map(|socket| (socket, netns)));
                    left_out += listed.count() as u64;
                }
            }
        };
        read("self", self.own_netns);
        let mut not_read = HashSet::<u32>::new();
        let mut done = HashSet::<u32>::from([self.own_netns, 0]);
        for Holder { pid, netns, .. } in processes {
            if done.contains(netns) {
                continue;
            }
            if done.len() < NAMESPACES_MAX {
                done.insert(*netns);
                read(&pid.to_string(), *netns);
            } else {
                not_read.insert(*netns);
            }
        }
        self.left_out = left_out + not_read.len() as u64;
        sockets
    }

    /// Looks for the holders of sockets that have none yet. True if the search goes on next time.
    fn find_holders(
        &mut self,
        known: &MetadataSnapshot,
        processes: &[Holder],
        budget: usize,
    ) -> bool {
        let alive = |holder: &(u32, u64)| {
            processes.binary_search_by_key(holder, |p| (p.pid, p.start_ticks)).is_ok()
        };
        self.inodes.retain(|_, holder| alive(holder));
        // Nobody needs to be asked whose it is: known, or told by capture.
        let is_settled = |socket: &parse::TcpSocket, netns: u32| {
            let ends = known.connections.ends.get(&(socket.local, socket.remote));
            let is_open = || {
                ends.is_some_and(|ends| {
                    ends.iter().any(|end| end.netns == netns && end.until_unix_ns == i64::MAX)
                })
            };
            self.inodes.contains_key(&socket.inode) || is_open()
        };
        let open = self.table.iter().filter(|(socket, netns)| !is_settled(socket, *netns));
        let wanted: HashSet<u64> = open.map(|(socket, _)| socket.inode).collect();
        if wanted.is_empty() {
            return false;
        }
        // A search that was broken off goes on; so each process has its turn once a scan.
        let from = processes.partition_point(|process| process.pid < self.turn);
        let (mut looked_at, mut found) = (0, Vec::new());
        for Holder { pid, start_ticks, .. } in &processes[from..] {
            if looked_at >= budget {
                self.turn = *pid;
                return true;
            }
            found.clear();
            looked_at += 1 + self.fs.socket_inodes(*pid, FDS_PER_PROCESS, &mut found);
            for inode in found.iter().filter(|inode| wanted.contains(*inode)) {
                let holder = self.inodes.entry(*inode).or_insert((*pid, *start_ticks));
                if (holder.1, holder.0) < (*start_ticks, *pid) {
                    *holder = (*pid, *start_ticks);
                }
            }
        }
        self.turn = 0;
        false
    }

    fn hand_on(&self, processes: &[Holder], out: &mut dyn FnMut(Found)) {
        let held = self.table.iter().filter_map(|(socket, netns)| {
            let &(pid, start_ticks) = self.inodes.get(&socket.inode)?;
            let key = (pid, start_ticks);
            processes.binary_search_by_key(&key, |p| (p.pid, p.start_ticks)).ok()?;
            Some(Listed {
                local: socket.local,
                remote: socket.remote,
                netns: *netns,
                owner: Upid::new(self.asid, pid, start_ticks),
            })
        });
        let ends: Vec<Listed> = held.collect();
        for part in ends.chunks(LISTED_PER_MESSAGE) {
            out(Found::Listed { scan: self.scan, ends: part.to_vec() });
        }
    }
}

fn own_netns(fs: &mut ProcFs) -> u32 {
    let own = fs.read_path("self/stat").ok().and_then(|text| {
        std::str::from_utf8(text).ok()?.split_ascii_whitespace().next()?.parse::<u32>().ok()
    });
    let number = own.and_then(|pid| fs.link_number(pid, "ns/net"));
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}
