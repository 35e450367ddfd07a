//! The metadata snapshot: which process, container, pod and service is which, at one moment. It is
//! built by `weir-sources` (or from a file) and read by metadata functions; it does no look-ups of
//! its own outside itself. Absent facts are empty strings and zeros, as everywhere in PxL. What two
//! snapshots have in common they share, so that one after each change is cheap ([`SharedMap`]).

mod changes;
pub mod connections;
pub mod reads;
mod shared_map;
mod since;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::upid::Upid;
pub use changes::{EntityChange, EntityKey, Machine, Wanted};
use connections::Connections;
pub use shared_map::SharedMap;

/// One process and what it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMeta {
    pub upid: Upid,
    pub cmdline: String,
    pub comm: String,
    pub exe: String,
    /// Without the runtime's prefix; empty outside containers.
    pub container_id: String,
    /// Key into [`MetadataSnapshot::pods`]; empty if it belongs to none.
    pub pod_id: String,
    /// Host name of the node it runs on.
    pub node: String,
    /// CPUs of that node.
    pub node_num_cpus: i64,
    /// Inode of its network namespace, 0 if not known.
    pub netns: u32,
    pub ended: bool,
}

/// A pod; outside Kubernetes each local process stands for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodMeta {
    pub id: String,
    /// `namespace/name`.
    pub name: String,
    pub namespace: String,
    pub ip: String,
    pub host_ip: String,
    pub node: String,
    pub hostname: String,
    pub start_unix_ns: i64,
    /// 0 while it lives.
    pub stop_unix_ns: i64,
    pub phase: String,
    pub message: String,
    pub reason: String,
    pub ready: bool,
    /// `kBurstable`, `kGuaranteed` or `kBestEffort`.
    pub qos: String,
    /// JSON object text.
    pub labels: String,
    pub replicaset_id: String,
    /// (uid, kind, name)
    pub owners: Vec<(String, String, String)>,
    /// Keys into [`MetadataSnapshot::services`].
    pub service_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMeta {
    pub id: String,
    /// `namespace/name`.
    pub name: String,
    pub namespace: String,
    pub cluster_ip: String,
    pub external_ips: Vec<String>,
    pub start_unix_ns: i64,
    pub stop_unix_ns: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMeta {
    pub id: String,
    pub name: String,
    pub pod_id: String,
    /// Running, Waiting, Terminated or Unknown.
    pub state: String,
    pub message: String,
    pub reason: String,
    pub start_unix_ns: i64,
    pub stop_unix_ns: i64,
}

/// A replica set or a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerMeta {
    pub id: String,
    /// `namespace/name`.
    pub name: String,
    pub namespace: String,
    pub owners: Vec<(String, String, String)>,
    pub start_unix_ns: i64,
    pub stop_unix_ns: i64,
    /// Status as compact JSON text in the form that `*_to_status` gives.
    pub status: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceMeta {
    pub id: String,
    pub name: String,
}

/// Everything known at one moment, what is over and still asked about included.
#[derive(Clone, Debug, Default)]
pub struct MetadataSnapshot {
    /// Short id of the agent that made it.
    pub asid: u32,
    pub hostname: String,
    pub num_cpus: i64,
    pub cluster_id: String,
    pub cluster_name: String,
    pub processes: SharedMap<Upid, Arc<ProcessMeta>>,
    pub pods: SharedMap<String, Arc<PodMeta>>,
    /// `namespace/name` → pod id.
    pub pod_names: SharedMap<String, String>,
    pub services: SharedMap<String, Arc<ServiceMeta>>,
    /// `namespace/name` → service id.
    pub service_names: SharedMap<String, String>,
    pub containers: SharedMap<String, Arc<ContainerMeta>>,
    /// container name → container id.
    pub container_names: SharedMap<String, String>,
    pub replicasets: SharedMap<String, Arc<ControllerMeta>>,
    pub replicaset_names: SharedMap<String, String>,
    pub deployments: SharedMap<String, Arc<ControllerMeta>>,
    pub deployment_names: SharedMap<String, String>,
    /// name → id
    pub namespaces: SharedMap<String, Arc<NamespaceMeta>>,
    /// IP text → (start, pod id), ascending by start. Host-network pods are not in it.
    pub pod_ips: SharedMap<String, Vec<(i64, String)>>,
    /// Cluster IP text → service id.
    pub service_ips: SharedMap<String, String>,
    /// Who talks to whom on this node.
    pub connections: Connections,
    /// The same of each node by its short id, where there are several.
    pub by_node: Arc<BTreeMap<u32, Connections>>,
    /// Networks of pods, where known.
    pub cidrs: Vec<String>,
    /// Network of services, empty if it is not known.
    pub service_cidr: String,
    /// IP text → name, where a name is already known (reverse DNS).
    pub dns: SharedMap<String, String>,
    /// Process → JSON array of the libraries that it maps, where somebody asked for them.
    pub libraries: SharedMap<Upid, String>,
}

impl MetadataSnapshot {
    #[must_use]
    pub fn process(&self, upid: Upid) -> Option<&Arc<ProcessMeta>> {
        self.processes.get(&upid)
    }
    #[must_use]
    pub fn pod(&self, id: &str) -> Option<&Arc<PodMeta>> {
        self.pods.get(id)
    }
    #[must_use]
    pub fn service(&self, id: &str) -> Option<&Arc<ServiceMeta>> {
        self.services.get(id)
    }
    #[must_use]
    pub fn container(&self, id: &str) -> Option<&Arc<ContainerMeta>> {
        self.containers.get(id)
    }
    #[must_use]
    pub fn pod_of(&self, upid: Upid) -> Option<&Arc<PodMeta>> {
        self.process(upid).and_then(|process| self.pod(&process.pod_id))
    }
    #[must_use]
    pub fn pod_by_name(&self, name: &str) -> Option<&Arc<PodMeta>> {
        self.pods.get(self.pod_names.get(name)?)
    }
    /// The pod that had `ip` at `time_unix_ns` (the last one started at or before it), or, without
    /// a time, the latest one; else that of the process which has the address for itself.
    #[must_use]
    pub fn pod_by_ip(&self, ip: &str, time_unix_ns: Option<i64>) -> Option<&Arc<PodMeta>> {
        let by_ip = self.pod_ips.get(ip).and_then(|owners| match time_unix_ns {
            None => owners.last(),
            Some(time) => owners.iter().rev().find(|(start, _)| *start <= time),
        });
        let pod = by_ip.and_then(|(_, id)| self.pod(id));
        pod.or_else(|| self.pod_of(self.user_of(ip.parse().ok()?, time_unix_ns)?))
    }
    /// The process which has the address for itself, whoever asks.
    #[must_use]
    pub fn user(&self, address: Address, time_unix_ns: Option<i64>) -> Option<Upid> {
        self.user_of(address.ip?, time_unix_ns)
    }
    fn user_of(&self, ip: IpAddr, time_unix_ns: Option<i64>) -> Option<Upid> {
        if self.by_node.is_empty() {
            return self.connections.user(ip, time_unix_ns);
        }
        only(self.by_node.values().filter_map(|node| node.user(ip, time_unix_ns)))
    }
    /// The process at the other end of a connection of `upid`, at that time.
    #[must_use]
    pub fn peer(
        &self,
        upid: Upid,
        local: Address,
        remote: Address,
        time_unix_ns: i64,
    ) -> Option<Upid> {
        let near = self.connections_of(upid);
        if let Some(inode) = local.unix_inode() {
            return near.unix_peer(inode, time_unix_ns);
        }
        let pair = (local.socket()?, remote.socket()?);
        let netns = near.netns_of(upid, pair, time_unix_ns);
        let netns = netns.unwrap_or_else(|| self.netns_of(upid));
        let end = near.other_end(pair, netns, time_unix_ns).map(|end| end.owner);
        end.or_else(|| self.peer_elsewhere(upid, pair, netns, time_unix_ns))
            .or_else(|| self.user_near(upid, netns, remote, time_unix_ns))
    }
    /// On another node, if there is one of which that can be.
    fn peer_elsewhere(
        &self,
        upid: Upid,
        pair: connections::Pair,
        netns: u32,
        time_unix_ns: i64,
    ) -> Option<Upid> {
        let is_loopback = |end: SocketAddr| end.ip().to_canonical().is_loopback();
        if is_loopback(pair.0) || is_loopback(pair.1) {
            return None;
        }
        let others = self.by_node.iter().filter(|(asid, _)| **asid != upid.asid());
        only(others.filter_map(|(_, node)| node.other_end(pair, netns, time_unix_ns)))
            .map(|end| end.owner)
    }
    /// The same for rows that do not tell their local address.
    #[must_use]
    pub fn peer_met(&self, upid: Upid, remote: Address, time_unix_ns: i64) -> Option<Upid> {
        let met = self.connections_of(upid).met(upid, remote.socket()?, time_unix_ns);
        met.or_else(|| self.user_near(upid, self.netns_of(upid), remote, time_unix_ns))
    }
    fn netns_of(&self, upid: Upid) -> u32 {
        self.process(upid).map_or(0, |process| process.netns)
    }
    /// Connections of the node that the process is on: numbers of sockets and namespaces, and loopback
    /// addresses, mean something there only.
    fn connections_of(&self, upid: Upid) -> &Connections {
        self.by_node.get(&upid.asid()).unwrap_or(&self.connections)
    }
    /// The process which has the address for itself, for `upid` in that network namespace.
    fn user_near(
        &self,
        upid: Upid,
        netns: u32,
        address: Address,
        time_unix_ns: i64,
    ) -> Option<Upid> {
        let ip = address.ip?;
        let near = self.connections_of(upid);
        if ip.to_canonical().is_loopback() {
            let is_own = netns != 0 && netns == near.own_netns;
            return if is_own { near.user(ip, Some(time_unix_ns)) } else { None };
        }
        self.user_of(ip, Some(time_unix_ns))
    }
}

/// The only one there is.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let one = all.next()?;
    all.next().is_none().then_some(one)
}

/// How rows name Unix sockets; the path follows.
pub const UNIX_PREFIX: &str = "unix_socket:";

/// An address and a port as rows have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// `None` where the text is none (`-`, a Unix socket).
    pub ip: Option<IpAddr>,
    pub is_unix: bool,
    /// Of a Unix socket its inode; −1 where it is not known.
    pub port: i64,
}

impl Address {
    #[must_use]
    pub fn of_row(ip: &[u8], port: i64) -> Address {
        let is_unix = ip.starts_with(UNIX_PREFIX.as_bytes());
        let ip = std::str::from_utf8(ip).ok().and_then(|text| text.parse().ok());
        Address { ip, is_unix, port }
    }
    fn unix_inode(&self) -> Option<u64> {
        u64::try_from(self.port).ok().filter(|inode| self.is_unix && *inode != 0)
    }
    fn socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip?, u16::try_from(self.port).ok()?))
    }
}
