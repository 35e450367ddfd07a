//! `conn_stats`: how many connections a process has with whom, and how many bytes moved.
//!
//! Cumulative per (process, peer address, peer port); the peer's port is 0 when the traced side is
//! the server, since clients' ports differ each time. Only IP peers and known roles count. A key
//! that changed gives a row each [`super::TrackerLimits::stats_interval_ns`]; a key whose process
//! has exited and whose connections are closed is forgotten after its last row. Costs are those of
//! what changes, not of what is kept.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::connection::{Connection, Counted, Role};
use crate::capture::Process;

/// Keys that are kept; connections that would need another are counted in `refused`.
pub const STATS_KEYS_MAX: usize = 65_536;

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatsKey {
    pub process: Process,
    pub remote: IpAddr,
    /// 0 if the traced side is the server.
    pub remote_port: u16,
}

/// The counts of a key.
#[derive(Clone, Copy, Debug)]
pub struct StatsEntry {
    pub role: Role,
    pub protocol: u8,
    /// As its protocol: of what was seen last.
    pub encrypted: bool,
    pub opened: u64,
    pub closed: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    changed: bool,
    process_gone: bool,
}

/// All keys of a tracker.
#[derive(Debug, Default)]
pub struct ConnStats {
    entries: HashMap<StatsKey, StatsEntry, foldhash::fast::FixedState>,
    /// Keys with something to report, each once.
    changed: Vec<StatsKey>,
    /// The keys of each process.
    by_process: HashMap<Process, Vec<StatsKey>, foldhash::fast::FixedState>,
    /// Room was looked for since the last report: looking again would find no more.
    swept: bool,
    /// Connections that were not counted because there were too many keys.
    pub refused: u64,
}

impl ConnStats {
    /// Takes what is new about a connection. `closed`: it is the last time.
    pub(super) fn take(&mut self, conn: &mut Connection, closed: bool) {
        let key = match conn.counted.key {
            Some(key) => key,
            None => match self.open(conn) {
                Some(key) => key,
                None => return,
            },
        };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let changed = &mut self.changed;
        let Counted { bytes_sent, bytes_received, protocol, .. } = conn.counted;
        let moved = conn.bytes_sent != bytes_sent || conn.bytes_received != bytes_received;
        if moved || closed || protocol != conn.protocol {
            entry.bytes_sent += conn.bytes_sent - bytes_sent;
            entry.bytes_received += conn.bytes_received - bytes_received;
            entry.closed += u64::from(closed);
            entry.protocol = conn.protocol;
            entry.encrypted = conn.is_encrypted;
            entry.change(key, changed);
        }
        conn.counted = Counted {
            key: Some(key),
            bytes_sent: conn.bytes_sent,
            bytes_received: conn.bytes_received,
            protocol: conn.protocol,
            refused: false,
        };
    }

    /// Finds or makes the key of a connection that is not counted yet.
    fn open(&mut self, conn: &mut Connection) -> Option<StatsKey> {
        let (role, remote) = (conn.role()?, conn.ends.socket.remote?);
        let remote_port = if role == Role::Server { 0 } else { remote.port() };
        let remote = remote.ip().to_canonical();
        let key = StatsKey { process: conn.ends.process, remote, remote_port };
        if self.entries.len() >= STATS_KEYS_MAX && !self.entries.contains_key(&key) {
            self.make_room();
            if self.entries.len() >= STATS_KEYS_MAX {
                self.refused += u64::from(!std::mem::replace(&mut conn.counted.refused, true));
                return None;
            }
        }
        if !self.entries.contains_key(&key) {
            self.by_process.entry(key.process).or_default().push(key);
        }
        let entry = self.entries.entry(key).or_insert(StatsEntry {
            role,
            protocol: conn.protocol,
            encrypted: conn.is_encrypted,
            opened: 0,
            closed: 0,
            bytes_sent: 0,
            bytes_received: 0,
            changed: false,
            process_gone: false,
        });
        entry.role = role;
        // One that was open before capture began is open now, and counts.
        entry.opened += 1;
        entry.change(key, &mut self.changed);
        Some(key)
    }

    /// Keys without open connections go; they count from 0 again when they come back. Once a report:
    /// between two reports hardly any become free.
    fn make_room(&mut self) {
        if std::mem::replace(&mut self.swept, true) {
            return;
        }
        let by_process = &mut self.by_process;
        self.entries.retain(|key, entry| {
            let keep = entry.changed || entry.opened > entry.closed;
            if !keep && let Some(keys) = by_process.get_mut(&key.process) {
                keys.retain(|kept| kept != key);
            }
            keep
        });
        self.by_process.retain(|_, keys| !keys.is_empty());
    }

    /// The process's keys are forgotten when all its connections are closed and reported.
    pub(super) fn process_gone(&mut self, process: Process) {
        for key in self.by_process.remove(&process).unwrap_or_default() {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.process_gone = true;
            if entry.is_over() {
                self.entries.remove(&key);
            }
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.entries.len()
    }

    /// The keys that changed since the last call, in order of the keys.
    pub fn take_changed(&mut self) -> Vec<(StatsKey, StatsEntry)> {
        self.swept = false;
        let mut keys = std::mem::take(&mut self.changed);
        keys.sort_unstable();
        let mut changed = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.changed = false;
            changed.push((key, *entry));
            if entry.is_over() {
                self.entries.remove(&key);
            }
        }
        changed
    }
}

impl StatsEntry {
    fn change(&mut self, key: StatsKey, changed: &mut Vec<StatsKey>) {
        if !std::mem::replace(&mut self.changed, true) {
            changed.push(key);
        }
    }

    /// Nothing can come any more, and all is reported.
    fn is_over(&self) -> bool {
        self.process_gone && !self.changed && self.opened <= self.closed
    }
}
