//! Observations and listings of connections.

use std::net::IpAddr;
use std::sync::Arc;

use weir_types::Upid;

use super::Model;
use crate::capture::Opened;
use crate::conn::{EndOf, SocketOwner};
use crate::metadata::ends::SeenEnd;
use crate::metadata::scan::Listed;
use crate::metadata::unix_ends::SeenUnixEnd;

impl Model {
    pub(super) fn end_seen(&mut self, end: &SocketOwner) {
        self.now_unix_ns = self.now_unix_ns.max(end.at_unix_ns);
        let owner = Upid::new(self.asid, end.process.pid, end.process.start_ticks);
        let to = &mut self.snapshot.connections;
        let (pair, netns) = match end.end {
            EndOf::Ip { local, remote } => ((local, remote), end.netns),
            EndOf::Unix { inode, .. } if end.ended => {
                self.changed |= self.unix_ends.closed(inode, end.at_unix_ns, to, self.seconds);
                return;
            }
            EndOf::Unix { inode, peer_inode } => {
                let since_unix_ns = end.at_unix_ns;
                let seen = SeenUnixEnd { inode, peer_inode, owner, since_unix_ns };
                self.changed |= self.unix_ends.opened(&seen, to);
                return;
            }
        };
        if end.ended {
            self.changed |= self.ends.closed(pair, netns, end.at_unix_ns, to, self.seconds);
            return;
        }
        let since_unix_ns = end.at_unix_ns;
        self.open(&SeenEnd { pair, netns, owner, opened: end.opened, since_unix_ns }, None);
    }

    pub(super) fn end_listed(&mut self, scan: u64, listed: &Listed) {
        let Listed { local, remote, netns, owner } = *listed;
        let since_unix_ns =
            self.known.get(&owner).map_or(0, |known| self.entities.start_unix_ns(&known.info));
        let (pair, opened) = ((local, remote), Opened::Unknown);
        self.open(&SeenEnd { pair, netns, owner, opened, since_unix_ns }, Some(scan));
    }

    fn open(&mut self, seen: &SeenEnd, scan: Option<u64>) {
        let to = &mut self.snapshot.connections;
        self.changed |= match scan {
            None => self.ends.opened(seen, to, self.seconds),
            Some(scan) => self.ends.listed(seen, scan, to, self.seconds),
        };
        let ip = seen.pair.0.ip().to_canonical();
        let used = self.addresses.used(ip, seen.netns, seen.owner, seen.since_unix_ns, to);
        let Some(ip) = used else { return };
        self.changed = true;
        self.give_ip(seen.owner, ip);
    }

    /// The process's pod has the address, if it had none.
    fn give_ip(&mut self, owner: Upid, ip: IpAddr) {
        let Some(process) = self.snapshot.process(owner) else { return };
        let Some(pod) = self.snapshot.pod(&process.pod_id).filter(|pod| pod.ip.is_empty()) else {
            return;
        };
        let mut pod = (**pod).clone();
        pod.ip = ip.to_string();
        self.snapshot.pods.insert(pod.id.clone(), Arc::new(pod));
    }
}
