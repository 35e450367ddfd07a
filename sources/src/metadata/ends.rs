//! The ends of connections that were observed, and who met whom: what changes of
//! [`Connections`], and what is forgotten of it. An observation touches the entries of one connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use weir_types::Upid;
use weir_types::metadata::connections::{
    ConnectionEnd, Connections, Holder, Pair, USES_MAX, canonical,
};

use super::Forgotten;
use crate::capture::Opened;

/// Ends that are remembered, about 300 bytes each. The oldest closed ones go first; if all are open,
/// new ones are not taken.
pub const ENDS_MAX: usize = 131_072;
/// Pairs of a process and a remote address of which is remembered who was there; the oldest go.
const MET_MAX: usize = 65_536;
/// Forgotten ones that may still stand in the order.
const MET_SLACK: usize = 1_024;
/// Processes met at one address: the newest.
const MET_AT_MAX: usize = 8;

/// All of it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndCounters {
    /// Closed ones that had to go before their time.
    pub forgotten_total: u64,
    /// Open ones that found no room.
    pub refused_total: u64,
    /// Of who met whom.
    pub met_forgotten_total: u64,
    /// Entries of the maps that were written or removed.
    pub touched_total: u64,
}

/// One end of a connection as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenEnd {
    pub(super) pair: Pair,
    pub(super) netns: u32,
    pub(super) owner: Upid,
    pub(super) opened: Opened,
    pub(super) since_unix_ns: i64,
}

#[derive(Debug)]
struct Closed {
    pair: Pair,
    end: ConnectionEnd,
    second: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ends {
    count: usize,
    closed: VecDeque<Closed>,
    met_order: VecDeque<(Upid, SocketAddr)>,
    /// Ends that are remembered of a process and a remote address, with and without its port: with the last
    /// one goes who was met there.
    uses: HashMap<(Upid, SocketAddr), u32, foldhash::fast::FixedState>,
    /// Ends that nothing but the kernel's tables tells of, with the last scan that did.
    listed: HashMap<(Pair, u32), u64, foldhash::fast::FixedState>,
    counters: EndCounters,
    forgotten: Forgotten,
}

/// Where a process may be remembered to have met somebody.
fn met_keys((_, remote): Pair, owner: Upid) -> [(Upid, SocketAddr); 2] {
    [(owner, remote), (owner, SocketAddr::new(remote.ip(), 0))]
}

fn is_open(end: &ConnectionEnd, netns: u32) -> bool {
    end.netns == netns && end.until_unix_ns == i64::MAX
}

impl Ends {
    pub(super) fn counters(&self) -> EndCounters {
        self.counters
    }

    /// What had to go before its time since the last call.
    pub(super) fn take_forgotten(&mut self) -> Forgotten {
        self.forgotten.take()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// An end came into use, or changed hands. True if that is new.
    pub(super) fn opened(&mut self, seen: &SeenEnd, to: &mut Connections, second: u64) -> bool {
        let seen = SeenEnd { pair: canonical(seen.pair), ..*seen };
        if seen.pair.0.ip().is_unspecified() {
            return false;
        }
        self.listed.remove(&(seen.pair, seen.netns));
        let same = |end: &ConnectionEnd| is_open(end, seen.netns) && end.owner == seen.owner;
        if to.ends.get(&seen.pair).is_some_and(|uses| uses.iter().any(same)) {
            return false;
        }
        if !self.make_room(to) {
            self.counters.refused_total += 1;
            return false;
        }
        let mut uses = self.uses(&seen.pair, to);
        if let Some(open) = uses.iter_mut().find(|end| is_open(end, seen.netns)) {
            // It cannot have had it before the one that had it before.
            open.until_unix_ns = seen.since_unix_ns.max(open.since_unix_ns);
            let end = *open;
            self.closed.push_back(Closed { pair: seen.pair, end, second });
        }
        let SeenEnd { netns, owner, since_unix_ns, .. } = seen;
        let new = ConnectionEnd { netns, owner, since_unix_ns, until_unix_ns: i64::MAX };
        if uses.len() == USES_MAX {
            let oldest = uses.remove(0);
            self.remove_use(seen.pair, oldest.owner, to);
            self.counters.forgotten_total += 1;
            self.forgotten.note(oldest.since_unix_ns, oldest.until_unix_ns.min(since_unix_ns));
        }
        let at = uses.partition_point(|end| end.since_unix_ns <= since_unix_ns);
        uses.insert(at, new);
        self.count += 1;
        for met in met_keys(seen.pair, owner) {
            *self.uses.entry(met).or_default() += 1;
        }
        self.put(seen.pair, uses, to);
        self.meet(&seen, to);
        true
    }

    /// The end is closed. True if it was known to be open.
    pub(super) fn closed(
        &mut self,
        pair: Pair,
        netns: u32,
        until_unix_ns: i64,
        to: &mut Connections,
        second: u64,
    ) -> bool {
        let pair = canonical(pair);
        let mut uses = self.uses(&pair, to);
        let Some(open) = uses.iter_mut().find(|end| is_open(end, netns)) else { return false };
        open.until_unix_ns = until_unix_ns.max(open.since_unix_ns);
        let end = *open;
        self.closed.push_back(Closed { pair, end, second });
        self.put(pair, uses, to);
        true
    }

    /// The kernel's table has this end; what capture saw of it counts more.
    pub(super) fn listed(
        &mut self,
        seen: &SeenEnd,
        scan: u64,
        to: &mut Connections,
        second: u64,
    ) -> bool {
        let key = (canonical(seen.pair), seen.netns);
        if let Some(last) = self.listed.get_mut(&key) {
            *last = scan;
            return false;
        }
        let told = |uses: &Arc<[ConnectionEnd]>| uses.iter().any(|end| is_open(end, key.1));
        if to.ends.get(&key.0).is_some_and(told) {
            return false;
        }
        let is_new = self.opened(seen, to, second);
        if is_new {
            self.listed.insert(key, scan);
        }
        is_new
    }

    /// A scan is over: what it did not find any more is closed.
    pub(super) fn scan_done(
        &mut self,
        scan: u64,
        now_unix_ns: i64,
        to: &mut Connections,
        second: u64,
    ) -> bool {
        let gone: Vec<(Pair, u32)> =
            self.listed.extract_if(|_, last| *last < scan).map(|(key, _)| key).collect();
        for (pair, netns) in &gone {
            self.closed(*pair, *netns, now_unix_ns, to, second);
        }
        !gone.is_empty()
    }

    /// Forgets what was closed so long ago that no row can be of it.
    pub(super) fn forget_old(&mut self, second: u64, keep: u64, to: &mut Connections) -> bool {
        let mut any = false;
        while self.closed.front().is_some_and(|old| second.saturating_sub(old.second) > keep) {
            any |= self.forget_oldest(to).is_some();
        }
        any
    }

    fn uses(&self, pair: &Pair, to: &Connections) -> Vec<ConnectionEnd> {
        to.ends.get(pair).map_or(Vec::new(), |uses| uses.to_vec())
    }

    fn put(&mut self, pair: Pair, uses: Vec<ConnectionEnd>, to: &mut Connections) {
        self.counters.touched_total += 1;
        if uses.is_empty() {
            to.ends.remove(&pair);
        } else {
            to.ends.insert(pair, Arc::from(uses));
        }
    }

    /// False if all are open. Closed ones that later uses of their pair pushed out still wait for
    /// their turn here, and count too.
    fn make_room(&mut self, to: &mut Connections) -> bool {
        while self.count >= ENDS_MAX || self.closed.len() >= ENDS_MAX {
            if self.closed.is_empty() {
                return false;
            }
            if let Some(end) = self.forget_oldest(to) {
                self.counters.forgotten_total += 1;
                self.forgotten.note(end.since_unix_ns, end.until_unix_ns);
            }
        }
        true
    }

    /// `None` if it had been pushed out by later uses of its pair.
    fn forget_oldest(&mut self, to: &mut Connections) -> Option<ConnectionEnd> {
        let Closed { pair, end, .. } = self.closed.pop_front()?;
        let mut uses = self.uses(&pair, to);
        let at = uses.iter().position(|have| *have == end)?;
        uses.remove(at);
        self.put(pair, uses, to);
        self.remove_use(pair, end.owner, to);
        Some(end)
    }

    /// One end less is remembered.
    fn remove_use(&mut self, pair: Pair, owner: Upid, to: &mut Connections) {
        self.count -= 1;
        for key in met_keys(pair, owner) {
            let Some(uses) = self.uses.get_mut(&key) else { continue };
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&key);
                to.met.remove(&key);
            }
        }
        if self.met_order.len() > 2 * to.met.len() + MET_SLACK {
            // One that was forgotten and came back stands there twice.
            let mut seen = HashSet::with_capacity(to.met.len());
            self.met_order.retain(|key| to.met.contains_key(key) && seen.insert(*key));
        }
    }

    /// If the other end is known, both have met.
    fn meet(&mut self, seen: &SeenEnd, to: &mut Connections) {
        let SeenEnd { pair, netns, owner, opened, since_unix_ns } = *seen;
        let Some(other) = to.other_end(pair, netns, since_unix_ns) else { return };
        let since_unix_ns = since_unix_ns.max(other.since_unix_ns);
        let mut sides =
            [(owner, other.owner, pair.1, opened), (other.owner, owner, pair.0, opened)];
        // The one end was connected to if the other one connected.
        sides[1].3 = match opened {
            Opened::Connected => Opened::Accepted,
            Opened::Accepted => Opened::Connected,
            Opened::Unknown => Opened::Unknown,
        };
        for (of, met, at, opened) in sides {
            if opened != Opened::Accepted {
                self.has_met(of, met, at, since_unix_ns, to);
            }
            if opened != Opened::Connected {
                self.has_met(of, met, SocketAddr::new(at.ip(), 0), since_unix_ns, to);
            }
        }
    }

    fn has_met(
        &mut self,
        of: Upid,
        met: Upid,
        at: SocketAddr,
        since_unix_ns: i64,
        to: &mut Connections,
    ) {
        let key = (of, at);
        let have = to.met.get(&key);
        // Of those behind one address without a port, two are as many as any number.
        let told = |all: &Arc<[Holder]>| {
            let last = all.last().is_some_and(|last| last.owner == met);
            last || (at.port() == 0 && (all.len() > 1 || all.iter().any(|one| one.owner == met)))
        };
        if have.is_some_and(told) {
            return;
        }
        let mut all = have.map_or(Vec::new(), |all| all.to_vec());
        if have.is_none() {
            while to.met.len() >= MET_MAX {
                let Some(oldest) = self.met_order.pop_front() else { break };
                // Up to when they met there is not known: up to now.
                if let Some(first) = to.met.get(&oldest).and_then(|met| met.first()) {
                    self.forgotten.note(first.since_unix_ns, since_unix_ns);
                }
                self.counters.met_forgotten_total += u64::from(to.met.remove(&oldest));
            }
            self.met_order.push_back(key);
        }
        if all.len() == MET_AT_MAX {
            all.remove(0);
        }
        let at = all.partition_point(|holder| holder.since_unix_ns <= since_unix_ns);
        all.insert(at, Holder { owner: met, since_unix_ns, until_unix_ns: i64::MAX });
        self.counters.touched_total += 1;
        to.met.insert(key, Arc::from(all));
    }
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod tests;
