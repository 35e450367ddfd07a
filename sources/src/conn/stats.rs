//! `conn_stats`: how many connections a process has with whom, and how many bytes moved.
//!
//! Cumulative per (process, peer address, peer port); the peer's port is 0 when the traced side is
//! the server, since clients' ports differ each time. Only IP peers and known roles count. A key
//! that changed gives a row each [`super::TrackerLimits::stats_interval_ns`]; a key whose process
//! has exited and whose connections are closed is forgotten after its last row.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::connection::{Connection, Counted, Role};
use super::infer::Protocol;
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
    pub protocol: Protocol,
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
        let Counted { bytes_sent, bytes_received, protocol, .. } = conn.counted;
        let moved = conn.bytes_sent != bytes_sent || conn.bytes_received != bytes_received;
        if moved || closed || protocol != conn.protocol {
            entry.bytes_sent += conn.bytes_sent - bytes_sent;
            entry.bytes_received += conn.bytes_received - bytes_received;
            entry.closed += u64::from(closed);
            entry.protocol = conn.protocol;
            entry.changed = true;
        }
        conn.counted = Counted {
            key: Some(key),
            bytes_sent: conn.bytes_sent,
            bytes_received: conn.bytes_received,
            protocol: conn.protocol,
        };
    }

    /// Finds or makes the key of a connection that is not counted yet.
    fn open(&mut self, conn: &Connection) -> Option<StatsKey> {
        let (role, remote) = (conn.role()?, conn.ends.socket.remote?);
        let remote_port = if role == Role::Server { 0 } else { remote.port() };
        let remote = remote.ip().to_canonical();
        let key = StatsKey { process: conn.ends.process, remote, remote_port };
        if self.entries.len() >= STATS_KEYS_MAX && !self.entries.contains_key(&key) {
            // Keys without open connections count from 0 again when they come back.
            self.entries.retain(|_, entry| entry.changed || entry.opened > entry.closed);
            if self.entries.len() >= STATS_KEYS_MAX {
                self.refused += 1;
                return None;
            }
        }
        let entry = self.entries.entry(key).or_insert(StatsEntry {
            role,
            protocol: conn.protocol,
            opened: 0,
            closed: 0,
            bytes_sent: 0,
            bytes_received: 0,
            changed: true,
            process_gone: false,
        });
        entry.role = role;
        // One that was open before capture began is open now, and counts.
        entry.opened += 1;
        entry.changed = true;
        Some(key)
    }

    /// The process's keys are forgotten when all its connections are closed and reported.
    pub(super) fn process_gone(&mut self, process: Process) {
        for (key, entry) in &mut self.entries {
            entry.process_gone |= key.process == process;
        }
    }

    /// The keys that changed since the last call, in order of the keys.
    pub fn take_changed(&mut self) -> Vec<(StatsKey, StatsEntry)> {
        let mut changed: Vec<(StatsKey, StatsEntry)> = self
            .entries
            .iter_mut()
            .filter_map(|(key, entry)| std::mem::take(&mut entry.changed).then_some((*key, *entry)))
            .collect();
        changed.sort_unstable_by_key(|(key, _)| *key);
        self.entries.retain(|_, entry| !(entry.process_gone && entry.opened <= entry.closed));
        changed
    }
}
