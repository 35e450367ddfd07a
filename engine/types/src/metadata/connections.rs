//! Who is at the other end of a connection on this node.
//!
//! A connection is told apart by its network namespace, both address–port pairs and the time; its
//! other end has the mirrored pairs. On one network both ends are in one namespace (loopback, two
//! processes of a host) or in two (a host and a container); with loopback addresses only in one.
//! Where more than one connection could be meant, or nobody was seen at the other end, there is no
//! answer: a peer that was guessed is worse than none. So there is none behind address translation,
//! whose two ends do not mirror each other.
//!
//! A connection over Unix sockets is two sockets, each known by its inode.
//!
//! Not here: who sees connections and when they are forgotten (`weir-sources`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SharedMap;
use crate::upid::Upid;

/// Clocks of two ends, and an end that was first seen a moment after it was used.
pub const SLACK_NS: i64 = 1_000_000_000;
/// Uses of one pair of addresses that are remembered: the newest.
pub const USES_MAX: usize = 8;

/// Local and remote address and port.
pub type Pair = (SocketAddr, SocketAddr);

/// One end of a connection, as one process used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionEnd {
    /// Inode of its network namespace, 0 if not known.
    pub netns: u32,
    pub owner: Upid,
    pub since_unix_ns: i64,
    /// When it was closed or changed hands; `i64::MAX` while it has not.
    pub until_unix_ns: i64,
}

impl ConnectionEnd {
    fn covers(&self, time_unix_ns: i64) -> bool {
        covers(self.since_unix_ns, self.until_unix_ns, time_unix_ns)
    }
}

fn covers(since_unix_ns: i64, until_unix_ns: i64, time_unix_ns: i64) -> bool {
    since_unix_ns <= time_unix_ns.saturating_add(SLACK_NS)
        && time_unix_ns <= until_unix_ns.saturating_add(SLACK_NS)
}

/// A Unix socket, as one process used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixEnd {
    pub owner: Upid,
    /// Inode of the socket at the other end, 0 if not known.
    pub peer_inode: u64,
    pub since_unix_ns: i64,
    /// When it was closed or changed hands; `i64::MAX` while it has not.
    pub until_unix_ns: i64,
}

/// Somebody at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub owner: Upid,
    pub since_unix_ns: i64,
    pub until_unix_ns: i64,
}

/// Everything known of the connections of this node. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// Ascending by since when.
    pub ends: SharedMap<Pair, Arc<[ConnectionEnd]>>,
    /// Process and remote address → who was met there, ascending by since when. The port is 0 for
    /// a process that was connected to, as in rows of `conn_stats`; several processes then are more
    /// than can be told apart.
    pub met: SharedMap<(Upid, SocketAddr), Arc<[Holder]>>,
    /// The network namespace of this machine's own addresses, 0 if not known.
    pub own_netns: u32,
    /// An address → processes that used it, for addresses that are not the machine's own; loopback
    /// ones only of its own namespace.
    pub users: SharedMap<IpAddr, Arc<[Holder]>>,
    /// Inode → who used the socket, ascending by since when.
    pub unix: SharedMap<u64, Arc<[UnixEnd]>>,
}

impl Connections {
    /// The namespace of `owner`'s connection, where it was seen.
    #[must_use]
    pub fn netns_of(&self, owner: Upid, pair: Pair, time_unix_ns: i64) -> Option<u32> {
        let ends = self.ends.get(&canonical(pair))?;
        let is_own = |end: &&ConnectionEnd| end.owner == owner && end.covers(time_unix_ns);
        ends.iter().rev().find(is_own).map(|end| end.netns).filter(|netns| *netns != 0)
    }

    /// The end that mirrors `pair`, seen from `netns`.
    #[must_use]
    pub fn other_end(&self, pair: Pair, netns: u32, time_unix_ns: i64) -> Option<ConnectionEnd> {
        let (local, remote) = canonical(pair);
        let mirrored = self.ends.get(&(remote, local))?;
        if netns == 0 {
            return None;
        }
        if let Some(end) = latest(mirrored, |end| end.netns == netns, time_unix_ns) {
            return Some(end);
        }
        if local.ip().is_loopback() || remote.ip().is_loopback() {
            return None;
        }
        // In another namespace: if no other connection of these addresses is there.
        let end = latest(mirrored, |end| end.netns != 0, time_unix_ns)?;
        let alike = |end: &&ConnectionEnd| end.covers(time_unix_ns);
        let unique = mirrored.iter().filter(alike).all(|other| other.netns == end.netns);
        let own: &[ConnectionEnd] = self.ends.get(&(local, remote)).map_or(&[], |ends| ends);
        let alone = own.iter().filter(alike).all(|other| other.netns == netns);
        (unique && alone).then_some(end)
    }

    /// The process at the other end of a Unix socket, known by its inode.
    #[must_use]
    pub fn unix_peer(&self, inode: u64, time_unix_ns: i64) -> Option<Upid> {
        let use_of = |inode: u64, peer: Option<u64>| {
            let uses = self.unix.get(&inode)?;
            let fits = |end: &&UnixEnd| {
                let is_peer = peer.is_none_or(|peer| end.peer_inode == peer);
                is_peer && covers(end.since_unix_ns, end.until_unix_ns, time_unix_ns)
            };
            let by_then = uses.iter().rfind(|end| fits(end) && end.since_unix_ns <= time_unix_ns);
            by_then.or_else(|| uses.iter().find(fits)).copied()
        };
        let own = use_of(inode, None).filter(|end| end.peer_inode != 0)?;
        use_of(own.peer_inode, Some(inode)).map(|end| end.owner)
    }

    /// Whom the process met at that address, for rows that do not tell their local one. Without a
    /// port: the only one that ever came from there.
    #[must_use]
    pub fn met(&self, owner: Upid, remote: SocketAddr, time_unix_ns: i64) -> Option<Upid> {
        let remote = canonical_address(remote);
        let met = self.met.get(&(owner, remote))?;
        let first = met.first()?;
        if remote.port() == 0 {
            return met.iter().all(|other| other.owner == first.owner).then_some(first.owner);
        }
        let by_then = met.iter().rev().find(|other| other.since_unix_ns <= time_unix_ns);
        by_then.or(Some(first)).map(|other| other.owner)
    }

    /// The process that had the address for itself at that time; without a time, now or last.
    #[must_use]
    pub fn user(&self, ip: IpAddr, time_unix_ns: Option<i64>) -> Option<Upid> {
        let users = self.users.get(&ip.to_canonical())?;
        let time = match time_unix_ns {
            Some(time) => time,
            None => users.iter().map(|user| user.until_unix_ns).max()?,
        };
        let mut there = users
            .iter()
            .filter(|user| user.since_unix_ns <= time && time <= user.until_unix_ns)
            .map(|user| user.owner);
        let one = there.next()?;
        there.all(|other| other == one).then_some(one)
    }
}

/// The last use by then, else one that began a moment later.
fn latest(
    ends: &[ConnectionEnd],
    fits: impl Fn(&ConnectionEnd) -> bool,
    time_unix_ns: i64,
) -> Option<ConnectionEnd> {
    let mut there = ends.iter().filter(|end| fits(end) && end.covers(time_unix_ns));
    let by_then = there.clone().rfind(|end| end.since_unix_ns <= time_unix_ns);
    by_then.or_else(|| there.next()).copied()
}

/// IPv4 addresses in IPv6 sockets as what they are.
#[must_use]
pub fn canonical_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[must_use]
pub fn canonical((local, remote): Pair) -> Pair {
    (canonical_address(local), canonical_address(remote))
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
