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
    /// (IP text, port) of a socket on this node → the process that owns it; with port 0, the
    /// process to which the address belongs alone.
    pub sockets: HashMap<(String, i64), Upid>,
    /// Networks of pods, where known.
    pub cidrs: Vec<String>,
    /// Network of services, empty if it is not known.
    pub service_cidr: String,
    /// IP text → name, where a name is already known (reverse DNS).
    pub dns: HashMap<String, String>,
    /// Process → JSON array of the libraries that it maps, where somebody asked for them.
    pub libraries: HashMap<Upid, String>,
}

impl MetadataSnapshot {
    #[must_use]
    pub fn process(&self, upid: Upid) -> Option<&Arc<ProcessMeta>> {
        self.processes.get(&upid)
    }
    #[must_use]
    pub fn pod_of(&self, upid: Upid) -> Option<&Arc<PodMeta>> {
        self.process(upid).and_then(|process| self.pods.get(&process.pod_id))
    }
    #[must_use]
    pub fn pod_by_name(&self, name: &str) -> Option<&Arc<PodMeta>> {
        self.pod_names.get(name).and_then(|id| self.pods.get(id))
    }
    /// The pod that had `ip` at `time_unix_ns` (the last one started at or before it), or, without
    /// a time, the latest one.
    #[must_use]
    pub fn pod_by_ip(&self, ip: &str, time_unix_ns: Option<i64>) -> Option<&Arc<PodMeta>> {
        let owners = self.pod_ips.get(ip)?;
        let found = match time_unix_ns {
            None => owners.last(),
            Some(time) => owners.iter().rev().find(|(start, _)| *start <= time),
        };
        found.and_then(|(_, id)| self.pods.get(id))
    }
}
