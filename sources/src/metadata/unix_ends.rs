//! The ends of connections over Unix sockets: which process holds which socket, and which socket is at
//! the other end. A socket is known by its inode. The kernel knows a server's end only once it was
//! accepted, which may be after the client's first bytes: then the server's end says whose it is.
//!
//! Bounded by [`UNIX_ENDS_MAX`] sockets: those closed the longest go first; if all are open, new ones
//! are not taken. An observation touches two entries.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use weir_types::Upid;
use weir_types::metadata::connections::{Connections, USES_MAX, UnixEnd};

use super::Forgotten;

/// Sockets that are remembered, about 300 bytes each.
const UNIX_ENDS_MAX: usize = 32_768;

/// A socket as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenUnixEnd {
    pub(super) inode: u64,
    /// 0 if not known.
    pub(super) peer_inode: u64,
    pub(super) owner: Upid,
    pub(super) since_unix_ns: i64,
}

#[derive(Debug, Default)]
pub(super) struct UnixEnds {
    /// (second, inode, the end of that use), the oldest first.
    closed: VecDeque<(u64, u64, i64)>,
    /// Socket → who said that it is its peer; one entry a socket at most.
    claims: HashMap<u64, u64, foldhash::fast::FixedState>,
    pub(super) refused_total: u64,
    pub(super) forgotten_total: u64,
    forgotten: Forgotten,
}

impl UnixEnds {
    pub(super) fn take_forgotten(&mut self) -> Forgotten {
        self.forgotten.take()
    }

    /// A socket came into use, or changed hands. True if that is new.
    pub(super) fn opened(&mut self, seen: &SeenUnixEnd, to: &mut Connections) -> bool {
        let SeenUnixEnd { inode, owner, since_unix_ns, .. } = *seen;
        let mut uses = to.unix.get(&inode).map_or(Vec::new(), |uses| uses.to_vec());
        if uses.is_empty() && !self.make_room(to) {
            self.refused_total += 1;
            return false;
        }
        let claimed = self.claims.get(&inode).copied().unwrap_or(0);
        let mut peer_inode = if seen.peer_inode == 0 { claimed } else { seen.peer_inode };
        match uses.last_mut().filter(|end| end.until_unix_ns == i64::MAX) {
            Some(open) if open.owner == owner => {
                if open.peer_inode != 0 || peer_inode == 0 {
                    return false;
                }
                open.peer_inode = peer_inode;
            }
            open => {
                if let Some(open) = open {
                    // Another process has it from now on; what it is connected to stays.
                    open.until_unix_ns = since_unix_ns.max(open.since_unix_ns);
                    peer_inode = if peer_inode == 0 { open.peer_inode } else { peer_inode };
                }
                if uses.len() == USES_MAX {
                    let oldest = uses.remove(0);
                    self.forgotten_total += 1;
                    self.forgotten.note(oldest.since_unix_ns, oldest.until_unix_ns);
                }
                let until_unix_ns = i64::MAX;
                uses.push(UnixEnd { owner, peer_inode, since_unix_ns, until_unix_ns });
            }
        }
        to.unix.insert(inode, Arc::from(uses));
        if peer_inode != 0 {
            self.claim(inode, peer_inode, to);
        }
        true
    }

    /// `inode` says that `peer` is its peer: so it is the other way round, too.
    fn claim(&mut self, inode: u64, peer: u64, to: &mut Connections) {
        self.claims.insert(peer, inode);
        let Some(uses) = to.unix.get(&peer) else { return };
        if uses.last().is_some_and(|end| end.peer_inode == 0) {
            let mut uses = uses.to_vec();
            if let Some(last) = uses.last_mut() {
                last.peer_inode = inode;
            }
            to.unix.insert(peer, Arc::from(uses));
        }
    }

    /// Nobody holds the socket any more. True if it was known to be open.
    pub(super) fn closed(
        &mut self,
        inode: u64,
        until_unix_ns: i64,
        to: &mut Connections,
        second: u64,
    ) -> bool {
        let Some(uses) = to.unix.get(&inode) else { return false };
        let mut uses = uses.to_vec();
        let Some(open) = uses.last_mut().filter(|end| end.until_unix_ns == i64::MAX) else {
            return false;
        };
        open.until_unix_ns = until_unix_ns.max(open.since_unix_ns);
        let peer = open.peer_inode;
        if self.claims.get(&peer) == Some(&inode) {
            self.claims.remove(&peer);
        }
        let until_unix_ns = open.until_unix_ns;
        to.unix.insert(inode, Arc::from(uses));
        if self.closed.len() >= UNIX_ENDS_MAX {
            self.forget_for_room(to);
        }
        self.closed.push_back((second, inode, until_unix_ns));
        true
    }

    /// Forgets what was closed so long ago that no row can be of it.
    pub(super) fn forget_old(&mut self, second: u64, keep: u64, to: &mut Connections) -> bool {
        let mut any = false;
        while self.closed.front().is_some_and(|(at, ..)| second.saturating_sub(*at) > keep) {
            any |= self.forget_oldest(to).is_some();
        }
        any
    }

    fn make_room(&mut self, to: &mut Connections) -> bool {
        while to.unix.len() >= UNIX_ENDS_MAX || self.closed.len() >= UNIX_ENDS_MAX {
            if self.closed.is_empty() {
                return false;
            }
            self.forget_for_room(to);
        }
        true
    }

    fn forget_for_room(&mut self, to: &mut Connections) {
        if let Some(end) = self.forget_oldest(to) {
            self.forgotten_total += 1;
            self.forgotten.note(end.since_unix_ns, end.until_unix_ns);
        }
    }

    /// The last use of what is forgotten; `None` if its inode has been in use again since.
    fn forget_oldest(&mut self, to: &mut Connections) -> Option<UnixEnd> {
        let (_, inode, until_unix_ns) = self.closed.pop_front()?;
        let last = *to.unix.get(&inode)?.last()?;
        if last.until_unix_ns != until_unix_ns {
            return None;
        }
        to.unix.remove(&inode);
        Some(last)
    }
}

#[cfg(test)]
#[path = "unix_ends_tests.rs"]
mod tests;
