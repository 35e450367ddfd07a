//! Addresses that processes have for themselves: never the machine's own, which everybody shares,
//! whoever happens to use them now. Loopback addresses count in the machine's own network namespace
//! only.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use weir_types::Upid;
use weir_types::metadata::connections::{Connections, Holder};

use super::Forgotten;

/// Addresses that are remembered; of more, those known the longest are forgotten.
const ADDRESSES_MAX: usize = 16_384;
/// Processes remembered of one address: the newest.
const USERS_MAX: usize = 8;
/// Forgotten ones that may still stand in the order.
const ORDER_SLACK: usize = 1_024;
/// Addresses of one process that its end is noted at.
const OF_PROCESS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Addresses {
    own: HashSet<IpAddr, foldhash::fast::FixedState>,
    own_netns: u32,
    of_process: HashMap<Upid, Vec<IpAddr>, foldhash::fast::FixedState>,
    order: VecDeque<IpAddr>,
    /// (second, address, process) that had it and is over since then.
    ended: VecDeque<(u64, IpAddr, Upid)>,
    pub(super) forgotten_total: u64,
    pub(super) forgotten: Forgotten,
}

fn has_user(users: &[Holder], owner: Upid) -> bool {
    users.iter().any(|user| user.owner == owner)
}

impl Addresses {
    /// Addresses of the machine's interfaces, and their network namespace.
    pub(super) fn set_own(&mut self, own: &[IpAddr], netns: u32, to: &mut Connections) {
        self.own = own.iter().copied().collect();
        self.own_netns = netns;
        to.own_netns = netns;
        for ip in own {
            to.users.remove(ip);
        }
    }

    /// A process uses an address. The address if it is new for it, and its own.
    pub(super) fn used(
        &mut self,
        ip: IpAddr,
        netns: u32,
        owner: Upid,
        since_unix_ns: i64,
        to: &mut Connections,
    ) -> Option<IpAddr> {
        let other_loopback = ip.is_loopback() && netns != self.own_netns;
        // Before the machine's own are known, any could be one.
        if self.own.is_empty() || self.own.contains(&ip) || ip.is_unspecified() || other_loopback {
            return None;
        }
        let have = to.users.get(&ip);
        let is_known = |user: &Holder| user.owner == owner && user.until_unix_ns == i64::MAX;
        if have.is_some_and(|users| users.iter().any(is_known)) {
            return None;
        }
        let mut users = have.map_or(Vec::new(), |users| users.to_vec());
        if have.is_none() {
            self.make_room(since_unix_ns, to);
            self.order.push_back(ip);
        }
        if users.len() == USERS_MAX {
            users.remove(0);
        }
        let at = users.partition_point(|user| user.since_unix_ns <= since_unix_ns);
        users.insert(at, Holder { owner, since_unix_ns, until_unix_ns: i64::MAX });
        to.users.insert(ip, Arc::from(users));
        let of_process = self.of_process.entry(owner).or_default();
        if of_process.len() < OF_PROCESS_MAX && !of_process.contains(&ip) {
            of_process.push(ip);
        }
        Some(ip)
    }

    /// The process is over at that time, and uses nothing any more.
    pub(super) fn process_ended(
        &mut self,
        owner: Upid,
        until_unix_ns: i64,
        second: u64,
        to: &mut Connections,
    ) {
        for ip in self.of_process.remove(&owner).unwrap_or_default() {
            let Some(users) = to.users.get(&ip) else { continue };
            // Newer ones may have pushed it out.
            if !has_user(users, owner) {
                continue;
            }
            self.ended.push_back((second, ip, owner));
            let ended = |user: &Holder| match user.owner == owner {
                true => Holder { until_unix_ns: until_unix_ns.max(user.since_unix_ns), ..*user },
                false => *user,
            };
            let users: Arc<[Holder]> = users.iter().map(ended).collect();
            to.users.insert(ip, users);
        }
        // Of those that are remembered there are no more than this.
        if self.ended.len() > USERS_MAX * to.users.len() + ORDER_SLACK {
            let is_there = |ip: &IpAddr, owner: Upid| {
                to.users.get(ip).is_some_and(|users| has_user(users, owner))
            };
            self.ended.retain(|(_, ip, owner)| is_there(ip, *owner));
        }
    }

    /// Forgets who had an address so long ago that no row can be of it.
    pub(super) fn forget_old(&mut self, second: u64, keep: u64, to: &mut Connections) -> bool {
        let mut any = false;
        while let Some(&(ended, ip, owner)) = self.ended.front()
            && second.saturating_sub(ended) > keep
        {
            self.ended.pop_front();
            let Some(users) = to.users.get(&ip) else { continue };
            let stays = |user: &&Holder| user.owner != owner || user.until_unix_ns == i64::MAX;
            let rest: Vec<Holder> = users.iter().filter(stays).copied().collect();
            if rest.len() == users.len() {
                continue;
            }
            any = true;
            if rest.is_empty() {
                to.users.remove(&ip);
            } else {
                to.users.insert(ip, Arc::from(rest));
            }
        }
        if self.order.len() > 2 * to.users.len() + ORDER_SLACK {
            // One that was forgotten and came back stands there twice.
            let mut seen = HashSet::with_capacity(to.users.len());
            self.order.retain(|ip| to.users.contains_key(ip) && seen.insert(*ip));
        }
        any
    }

    fn make_room(&mut self, now_unix_ns: i64, to: &mut Connections) {
        while to.users.len() >= ADDRESSES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            let users = to.users.get(&oldest).into_iter().flat_map(|users| users.iter());
            for user in users {
                self.forgotten.note(user.since_unix_ns, user.until_unix_ns.min(now_unix_ns));
            }
            self.forgotten_total += u64::from(to.users.remove(&oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has an address after many others keeps it for as long as rows are kept, however many were over
    /// before, and what waits to be forgotten is bounded by what is remembered. Catches a process that is
    /// forgotten in another one's stead.
    #[test]
    fn each_is_forgotten_in_its_own_time() {
        const KEEP: u64 = 100;
        let mut addresses = Addresses::default();
        let mut connections = Connections::default();
        addresses.set_own(&[IpAddr::from([10, 0, 0, 1])], 1, &mut connections);
        let ip = IpAddr::from([10, 0, 0, 2]);
        let process = |number: u32| Upid::new(7, number, 1);
        let last = 3 * ORDER_SLACK as u32;
        for number in 1..=last {
            let since = i64::from(number);
            addresses.used(ip, 2, process(number), since, &mut connections);
            if number < last {
                addresses.process_ended(process(number), since, 1, &mut connections);
            }
        }
        assert!(addresses.ended.len() <= USERS_MAX + ORDER_SLACK + 1, "{}", addresses.ended.len());
        addresses.process_ended(process(last), 5_000_000, 90, &mut connections);
        assert!(addresses.forget_old(150, KEEP, &mut connections));
        let users: Vec<Upid> = connections.users[&ip].iter().map(|user| user.owner).collect();
        assert_eq!(users, [process(last)]);
        assert!(addresses.forget_old(200, KEEP, &mut connections));
        assert!(connections.users.get(&ip).is_none());
    }
}
