//! The metadata snapshot: which process, container, pod and service is which, at one moment. It is
//! built by `weir-sources` (or from a file) and read by metadata functions; it does no look-ups of
//! its own outside itself. Absent facts are empty strings and zeros, as everywhere in PxL.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::upid::Upid;

/// One process and what it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
}

/// A pod; outside Kubernetes each local process stands for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceMeta {
    pub id: String,
    pub name: String,
}

/// Everything known at one moment. Cheap to share (`Arc`), replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct MetadataSnapshot {
    /// Short id of the agent that made it.
    pub asid: u32,
    pub hostname: String,
    pub num_cpus: i64,
    pub cluster_id: String,
    pub cluster_name: String,
    pub processes: HashMap<Upid, Arc<ProcessMeta>>,
    pub pods: HashMap<String, Arc<PodMeta>>,
    /// `namespace/name` → pod id.
    pub pod_names: HashMap<String, String>,
    pub services: HashMap<String, Arc<ServiceMeta>>,
    /// `namespace/name` → service id.
    pub service_names: HashMap<String, String>,
    pub containers: HashMap<String, Arc<ContainerMeta>>,
    /// container name → container id.
    pub container_names: HashMap<String, String>,
    pub replicasets: HashMap<String, Arc<ControllerMeta>>,
    pub replicaset_names: HashMap<String, String>,
    pub deployments: HashMap<String, Arc<ControllerMeta>>,
    pub deployment_names: HashMap<String, String>,
    /// name → id
    pub namespaces: HashMap<String, Arc<NamespaceMeta>>,
    /// IP text → (start, pod id), ascending by start. Host-network pods are not in it.
    pub pod_ips: HashMap<String, Vec<(i64, String)>>,
    /// Cluster IP text → service id.
    pub service_ips: HashMap<String, String>,
    /// (IP text, port) of a socket on this node → its owners, ascending by since when; with port 0,
    /// the process to which the address belongs alone.
    pub sockets: HashMap<(String, i64), Vec<SocketMeta>>,
    /// Networks of pods, where known.
    pub cidrs: Vec<String>,
    /// Network of services, empty if it is not known.
    pub service_cidr: String,
    /// IP text → name, where a name is already known (reverse DNS).
    pub dns: HashMap<String, String>,
    /// Process → JSON array of the libraries that it maps, where somebody asked for them.
    pub libraries: HashMap<Upid, String>,
    /// What is over and still asked about: ended processes with their pods, closed sockets; oldest
    /// part first. A part is shared by all later snapshots, and has no past of its own.
    pub past: Vec<Arc<MetadataSnapshot>>,
}

/// A socket's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMeta {
    pub since_unix_ns: i64,
    pub owner: Upid,
}

/// A key of [`MetadataSnapshot::sockets`], borrowed; hashes as the owned one.
#[derive(Hash)]
struct SocketKey<'a>(&'a str, i64);

impl hashbrown::Equivalent<(String, i64)> for SocketKey<'_> {
    fn equivalent(&self, key: &(String, i64)) -> bool {
        key.0 == self.0 && key.1 == self.1
    }
}

impl MetadataSnapshot {
    /// What is there, then what is over, newest first.
    fn parts(&self) -> impl Iterator<Item = &MetadataSnapshot> {
        std::iter::once(self).chain(self.past.iter().rev().map(|part| &**part))
    }
    #[must_use]
    pub fn process(&self, upid: Upid) -> Option<&Arc<ProcessMeta>> {
        self.parts().find_map(|part| part.processes.get(&upid))
    }
    #[must_use]
    pub fn pod(&self, id: &str) -> Option<&Arc<PodMeta>> {
        self.parts().find_map(|part| part.pods.get(id))
    }
    #[must_use]
    pub fn service(&self, id: &str) -> Option<&Arc<ServiceMeta>> {
        self.parts().find_map(|part| part.services.get(id))
    }
    #[must_use]
    pub fn container(&self, id: &str) -> Option<&Arc<ContainerMeta>> {
        self.parts().find_map(|part| part.containers.get(id))
    }
    #[must_use]
    pub fn pod_of(&self, upid: Upid) -> Option<&Arc<PodMeta>> {
        self.process(upid).and_then(|process| self.pod(&process.pod_id))
    }
    #[must_use]
    pub fn pod_by_name(&self, name: &str) -> Option<&Arc<PodMeta>> {
        self.parts().find_map(|part| part.pods.get(part.pod_names.get(name)?))
    }
    /// The pod that had `ip` at `time_unix_ns` (the last one started at or before it), or, without
    /// a time, the latest one.
    #[must_use]
    pub fn pod_by_ip(&self, ip: &str, time_unix_ns: Option<i64>) -> Option<&Arc<PodMeta>> {
        let found = self.parts().find_map(|part| {
            let owners = part.pod_ips.get(ip)?;
            match time_unix_ns {
                None => owners.last(),
                Some(time) => owners.iter().rev().find(|(start, _)| *start <= time),
            }
        });
        found.and_then(|(_, id)| self.pod(id))
    }
    /// The process that owned the socket of this address and port at `time_unix_ns` (the last one
    /// that had it by then, else the first one ever), or, without a time, has it or had it last.
    /// Where no socket is known, the process to which the address belonged alone.
    #[must_use]
    pub fn socket_owner(&self, ip: &str, port: i64, time_unix_ns: Option<i64>) -> Option<Upid> {
        let owner = |port| {
            let key = SocketKey(ip, port);
            let owners = self.parts().filter_map(|part| part.sockets.get(&key));
            let mut newest_first = owners.flat_map(|owners| owners.iter().rev());
            let mut first: Option<&SocketMeta> = None;
            let had_it = newest_first.find(|owned| {
                first = first.filter(|first| first.since_unix_ns <= owned.since_unix_ns);
                first = first.or(Some(owned));
                time_unix_ns.is_none_or(|time| owned.since_unix_ns <= time)
            });
            had_it.or(first).map(|owned| owned.owner)
        };
        owner(port).or_else(|| owner(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name is what it was when the row was made: a port that changed hands belongs to whom it
    /// belonged then, also if both owners are gone. Catches a look-up of the past with the owners of
    /// now, and parts of the past in the wrong order.
    #[test]
    fn sockets_have_owners_in_time() {
        let part = |owners: &[(i64, i64, u128)]| {
            let mut part = MetadataSnapshot::default();
            for (port, since_unix_ns, owner) in owners {
                let owners = part.sockets.entry(("127.0.0.1".to_string(), *port)).or_default();
                owners.push(SocketMeta { since_unix_ns: *since_unix_ns, owner: Upid(*owner) });
            }
            part
        };
        let past = vec![part(&[(80, 10, 1), (80, 20, 2), (90, 5, 9)]), part(&[(80, 30, 3)])];
        let snapshot = MetadataSnapshot {
            past: past.into_iter().map(Arc::new).collect(),
            ..part(&[(80, 40, 4), (0, 15, 7)])
        };
        let owner = |port, time| snapshot.socket_owner("127.0.0.1", port, time).map(|upid| upid.0);
        for (time, expected) in [(9, 1), (10, 1), (19, 1), (20, 2), (39, 3), (40, 4), (99, 4)] {
            assert_eq!(owner(80, Some(time)), Some(expected), "at {time}");
        }
        assert_eq!(owner(80, None), Some(4));
        assert_eq!(owner(90, None), Some(9));
        assert_eq!(owner(91, Some(20)), Some(7), "by the address alone");
        assert_eq!(snapshot.socket_owner("127.0.0.2", 80, None), None);
    }
}
