//! Entities of Kubernetes: objects in, snapshot out. The [`Store`] keeps the newest state of each
//! object; whoever feeds it (a file, or the API server's watches, [`crate::k8s`]) may do so in any
//! order, since nothing is linked before [`Store::snapshot`].
//!
//! Times: a thing starts with its creationTimestamp and stops with its deletionTimestamp, or when it
//! was gone. Names are `namespace/name`; where several objects had a name, the one made last has it.
//! An address is a pod's until that has ended or is gone. What is gone is kept until it is told to be
//! forgotten ([`Store::forget`]).
//!
//! | kind | bound | when full |
//! |---|---|---|
//! | objects | [`OBJECTS_MAX`] | new ones are not taken, counted |
//! | containers before the present one | [`FORMER_MAX`] | the oldest go |
//!
//! Not here: how processes are found, and any look-up by functions (`weir-functions`).

mod address;
mod linked;
pub mod list;
pub mod objects;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use objects::{
    ContainerState, ContainerStatus, EndpointSlice, Endpoints, Kind, Namespace, Node, Object,
    ObjectMeta, Pod, Service, StateDetail, Workload,
};

pub use linked::Linked;

/// Objects of all kinds, those that are gone included.
pub const OBJECTS_MAX: usize = 131_072;
/// Containers that were replaced within their pods.
pub const FORMER_MAX: usize = 8_192;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Box<Object>),
    /// The object of that key ([`key`]) is gone.
    Gone(Kind, String),
    /// All that there is of a kind, by keys: the rest is gone.
    Listed(Kind, BTreeSet<String>),
}

/// A container that another one took the place of.
#[derive(Clone, Debug)]
struct Former {
    pod: String,
    status: ContainerStatus,
    gone_unix_ns: i64,
}

/// See the module's documentation. Ordered by id, so that equal stores give equal snapshots.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pods: BTreeMap<String, Pod>,
    services: BTreeMap<String, Service>,
    endpoints: BTreeMap<String, Endpoints>,
    slices: BTreeMap<String, EndpointSlice>,
    replicasets: BTreeMap<String, Workload>,
    deployments: BTreeMap<String, Workload>,
    namespaces: BTreeMap<String, Namespace>,
    nodes: BTreeMap<String, Node>,
    /// Those of them that are gone, and when.
    gone: BTreeMap<(Kind, String), i64>,
    former: VecDeque<Former>,
    refused_total: u64,
    /// An address is that of the pod made last by then, whether it has ended or not.
    keeps_addresses: bool,
}

/// Does something to the map of a kind.
macro_rules! of_kind {
    ($store:expr, $kind:expr, |$map:ident| $do:expr) => {
        match $kind {
            Kind::Pod => {
                let $map = &mut $store.pods;
                $do
            }
            Kind::Service => {
                let $map = &mut $store.services;
                $do
            }
            Kind::Endpoints => {
                let $map = &mut $store.endpoints;
                $do
            }
            Kind::EndpointSlice => {
                let $map = &mut $store.slices;
                $do
            }
            Kind::ReplicaSet => {
                let $map = &mut $store.replicasets;
                $do
            }
            Kind::Deployment => {
                let $map = &mut $store.deployments;
                $do
            }
            Kind::Namespace => {
                let $map = &mut $store.namespaces;
                $do
            }
            Kind::Node => {
                let $map = &mut $store.nodes;
                $do
            }
        }
    };
}

impl Store {
    /// For a list in a file, which says how things were at one time and not what was before: addresses go by when pods
    /// were made alone, as with whoever wrote such a list.
    #[must_use]
    pub fn of_list() -> Store {
        Store { keeps_addresses: true, ..Store::default() }
    }

    /// Takes an object in; it takes the place of an earlier state of itself.
    pub fn put(&mut self, object: Object) {
        self.put_at(object, 0);
    }

    /// Takes in what a watch tells at that time.
    pub fn apply(&mut self, change: Change, now_unix_ns: i64) {
        match change {
            Change::Put(object) => self.put_at(*object, now_unix_ns),
            Change::Gone(kind, key) => self.is_gone(kind, key, now_unix_ns),
            Change::Listed(kind, keys) => {
                let have: Vec<String> = of_kind!(self, kind, |map| map.keys().cloned().collect());
                for key in have.into_iter().filter(|key| !keys.contains(key)) {
                    self.is_gone(kind, key, now_unix_ns);
                }
            }
        }
    }

    fn put_at(&mut self, object: Object, now_unix_ns: i64) {
        let (kind, key) = (object.kind(), key(&object));
        let is_new = of_kind!(self, kind, |map| !map.contains_key(&key));
        if is_new && self.len() >= OBJECTS_MAX {
            self.refused_total += 1;
            return;
        }
        self.gone.remove(&(kind, key.clone()));
        match object {
            Object::Pod(pod) => self.put_pod(key, *pod, now_unix_ns),
            Object::Service(service) => drop(self.services.insert(key, service)),
            Object::Endpoints(endpoints) => drop(self.endpoints.insert(key, endpoints)),
            Object::EndpointSlice(slice) => drop(self.slices.insert(key, slice)),
            Object::ReplicaSet(workload) => drop(self.replicasets.insert(key, workload)),
            Object::Deployment(workload) => drop(self.deployments.insert(key, workload)),
            Object::Namespace(namespace) => drop(self.namespaces.insert(key, namespace)),
            Object::Node(node) => drop(self.nodes.insert(key, node)),
        }
    }

    /// Containers that it had before are still asked about.
    fn put_pod(&mut self, key: String, pod: Pod, now_unix_ns: i64) {
        let Some(before) = self.pods.insert(key.clone(), pod) else { return };
        let Some(now) = self.pods.get(&key) else { return };
        let is_there = |id: &str| now.status.containers().any(|status| status.container_id == id);
        let replaced = before
            .status
            .containers()
            .filter(|status| !status.container_id.is_empty() && !is_there(&status.container_id));
        for status in replaced {
            let ended = ended(status, now, now_unix_ns);
            self.former.push_back(Former {
                pod: key.clone(),
                status: ContainerStatus { state: ended, ..status.clone() },
                gone_unix_ns: now_unix_ns,
            });
        }
        let too_many = self.former.len().saturating_sub(FORMER_MAX);
        self.former.drain(..too_many);
    }

    fn is_gone(&mut self, kind: Kind, key: String, now_unix_ns: i64) {
        let stop = |meta: &mut ObjectMeta| {
            let at = &mut meta.deletion_timestamp.0;
            // What was to have some more time may be gone before.
            if *at == 0 || *at > now_unix_ns {
                *at = now_unix_ns;
            }
        };
        let known = match kind {
            Kind::Pod => self.pods.get_mut(&key).map(|pod| stop(&mut pod.metadata)),
            Kind::Service => self.services.get_mut(&key).map(|it| stop(&mut it.metadata)),
            Kind::ReplicaSet => self.replicasets.get_mut(&key).map(|it| stop(&mut it.metadata)),
            Kind::Deployment => self.deployments.get_mut(&key).map(|it| stop(&mut it.metadata)),
            Kind::Namespace => self.namespaces.get_mut(&key).map(|it| stop(&mut it.metadata)),
            // Nobody asks what was behind a service, or where nodes were.
            Kind::Endpoints => return drop(self.endpoints.remove(&key)),
            Kind::EndpointSlice => return drop(self.slices.remove(&key)),
            Kind::Node => return drop(self.nodes.remove(&key)),
        };
        if known.is_some() {
            self.gone.entry((kind, key)).or_insert(now_unix_ns);
        }
    }

    /// Forgets what was gone before that time. True if anything was.
    pub fn forget(&mut self, before_unix_ns: i64) -> bool {
        let is_old = |(_, gone): &(&(Kind, String), &i64)| **gone < before_unix_ns;
        let old: Vec<(Kind, String)> =
            self.gone.iter().filter(is_old).map(|(key, _)| key.clone()).collect();
        for (kind, key) in &old {
            of_kind!(self, kind, |map| drop(map.remove(key)));
            self.gone.remove(&(*kind, key.clone()));
        }
        let former = self.former.len();
        let pods = &self.pods;
        self.former.retain(|one| one.gone_unix_ns >= before_unix_ns && pods.contains_key(&one.pod));
        !old.is_empty() || former != self.former.len()
    }

    /// Objects, those that are gone included.
    #[must_use]
    pub fn len(&self) -> usize {
        let linked =
            self.pods.len() + self.services.len() + self.endpoints.len() + self.slices.len();
        let workloads = self.replicasets.len() + self.deployments.len();
        linked + workloads + self.namespaces.len() + self.nodes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Objects that found no room.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.refused_total
    }

    /// CPUs of the node of that name; 0 if there is none.
    #[must_use]
    pub fn node_num_cpus(&self, node: &str) -> i64 {
        self.nodes.get(node).map_or(0, |node| node.status.capacity.cpu.0)
    }
}

/// How a container ended that is not in its pod's state any more.
fn ended(status: &ContainerStatus, pod: &Pod, now_unix_ns: i64) -> ContainerState {
    let last = pod.status.containers().filter_map(|now| now.last_state.terminated.as_ref());
    let mut told = last.filter(|detail| detail.container_id == status.container_id);
    let detail = told.next().or(status.state.terminated.as_ref()).cloned();
    let detail = detail.unwrap_or_else(|| StateDetail {
        finished_at: objects::Time(now_unix_ns),
        ..status.state.running.clone().unwrap_or_default()
    });
    ContainerState { terminated: Some(detail), ..ContainerState::default() }
}

/// By what a store knows an object: what takes the place of what.
#[must_use]
pub fn key(object: &Object) -> String {
    let meta = object.metadata();
    match object {
        Object::Node(_) => meta.name.clone(),
        Object::Endpoints(_) | Object::EndpointSlice(_) => full_name(meta),
        _ => id(meta),
    }
}

/// A container's id without the runtime's prefix (`containerd://`, `docker://`, `cri-o://`).
#[must_use]
pub fn container_id(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, id)| id)
}

/// `namespace/name`
fn full_name(meta: &ObjectMeta) -> String {
    format!("{}/{}", meta.namespace, meta.name)
}

/// The uid. Every object of an API server has one; written by hand it may lack it, and is then
/// known by its name.
fn id(meta: &ObjectMeta) -> String {
    match (meta.uid.as_str(), meta.namespace.as_str()) {
        ("", "") => meta.name.clone(),
        ("", _) => full_name(meta),
        (uid, _) => uid.to_string(),
    }
}
