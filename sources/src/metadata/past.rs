//! What is over: ended processes and closed sockets, kept because rows of theirs are still asked
//! about. A view that is opened later finds the names that held when its rows were made.
//!
//! It is kept in parts. The newest one grows; a full one is made into a snapshot of its own, once,
//! which all later snapshots share: what is over costs nothing more, however often what is there
//! changes. Parts are dropped whole, the oldest first, when there are too many or when no row can be
//! as old any more; those dropped for want of room are counted.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use weir_types::Upid;
use weir_types::metadata::{MetadataSnapshot, SocketMeta};

use super::ProcessInfo;

/// Processes of one part, and parts of processes: about 2 KB a process.
const PART_PROCESSES_MAX: usize = 512;
const PROCESS_PARTS_MAX: usize = 16;
/// Sockets of one part, and parts of sockets: about 150 bytes a socket.
const PART_SOCKETS_MAX: usize = 4_096;
const SOCKET_PARTS_MAX: usize = 16;

/// Ended processes that are kept at most.
pub const ENDED_MAX: usize = PART_PROCESSES_MAX * PROCESS_PARTS_MAX;
/// Closed sockets that are kept at most.
pub const CLOSED_MAX: usize = PART_SOCKETS_MAX * SOCKET_PARTS_MAX;

/// What had to be forgotten before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub processes: u64,
    pub sockets: u64,
}

#[derive(Debug)]
struct Part {
    /// The refresh in which it got its last entry.
    newest: u64,
    snapshot: Arc<MetadataSnapshot>,
    count: usize,
}

#[derive(Debug, Default)]
pub(super) struct Past {
    processes: Vec<Arc<ProcessInfo>>,
    sockets: Vec<(SocketAddr, SocketMeta)>,
    process_parts: VecDeque<Part>,
    socket_parts: VecDeque<Part>,
    /// For how many refreshes (about seconds) something is kept.
    keep_refreshes: u64,
    forgotten: Forgotten,
}

/// Makes a snapshot of entries that are over.
pub(super) trait MakePart {
    fn processes(&self, ended: &[Arc<ProcessInfo>]) -> MetadataSnapshot;
    fn sockets(&self, closed: &[(SocketAddr, SocketMeta)]) -> MetadataSnapshot;
}

impl Past {
    pub(super) fn new(keep_refreshes: u64) -> Past {
        Past { keep_refreshes, ..Past::default() }
    }

    pub(super) fn forgotten(&self) -> Forgotten {
        self.forgotten
    }

    pub(super) fn has_process(&self, upid: Upid) -> bool {
        self.processes.iter().any(|info| info.upid == upid)
            || self.process_parts.iter().any(|part| part.snapshot.processes.contains_key(&upid))
    }

    pub(super) fn add_process(
        &mut self,
        info: Arc<ProcessInfo>,
        refresh: u64,
        make: &impl MakePart,
    ) {
        self.processes.push(info);
        if self.processes.len() == PART_PROCESSES_MAX {
            let part = make.processes(&std::mem::take(&mut self.processes));
            self.process_parts.push_back(Part::new(part, refresh, PART_PROCESSES_MAX));
            if self.process_parts.len() >= PROCESS_PARTS_MAX {
                let dropped = self.process_parts.pop_front();
                self.forgotten.processes += dropped.map_or(0, |part| part.count as u64);
            }
        }
    }

    pub(super) fn add_socket(
        &mut self,
        closed: (SocketAddr, SocketMeta),
        refresh: u64,
        make: &impl MakePart,
    ) {
        self.sockets.push(closed);
        if self.sockets.len() == PART_SOCKETS_MAX {
            let part = make.sockets(&std::mem::take(&mut self.sockets));
            self.socket_parts.push_back(Part::new(part, refresh, PART_SOCKETS_MAX));
            if self.socket_parts.len() >= SOCKET_PARTS_MAX {
                let dropped = self.socket_parts.pop_front();
                self.forgotten.sockets += dropped.map_or(0, |part| part.count as u64);
            }
        }
    }

    /// Drops what no row can be about any more. True if there was anything.
    pub(super) fn drop_old(&mut self, refresh: u64) -> bool {
        let keep = self.keep_refreshes;
        let mut dropped = false;
        for parts in [&mut self.process_parts, &mut self.socket_parts] {
            while parts.front().is_some_and(|part| refresh.saturating_sub(part.newest) > keep) {
                parts.pop_front();
                dropped = true;
            }
        }
        dropped
    }

    /// All parts, the oldest first.
    pub(super) fn parts(&self, make: &impl MakePart) -> Vec<Arc<MetadataSnapshot>> {
        let full = self.process_parts.iter().chain(&self.socket_parts);
        let mut parts: Vec<_> = full.map(|part| part.snapshot.clone()).collect();
        if !self.processes.is_empty() {
            parts.push(Arc::new(make.processes(&self.processes)));
        }
        if !self.sockets.is_empty() {
            parts.push(Arc::new(make.sockets(&self.sockets)));
        }
        parts
    }
}

impl Part {
    fn new(snapshot: MetadataSnapshot, newest: u64, count: usize) -> Part {
        Part { newest, snapshot: Arc::new(snapshot), count }
    }
}
