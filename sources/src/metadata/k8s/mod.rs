//! Entities of Kubernetes: objects in, snapshot out. The [`Store`] keeps the newest state of each
//! object; whoever feeds it (a file now, the API server's watches in a cluster) may do so in any
//! order, since nothing is linked before [`Store::snapshot`].
//!
//! Times: a thing starts with its creationTimestamp and stops with its deletionTimestamp. Names are
//! `namespace/name`; where several objects had a name or an address, the one made last has it.
//! Not here: how processes are found, and any look-up by functions (`weir-functions`).

pub mod list;
pub mod objects;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use objects::{Namespace, Node, Object, ObjectMeta, Pod, Service, Workload};

/// See the module's documentation. Ordered by id, so that equal stores give equal snapshots.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pods: BTreeMap<String, Pod>,
    services: BTreeMap<String, Service>,
    endpoints: BTreeMap<String, objects::Endpoints>,
    replicasets: BTreeMap<String, Workload>,
    deployments: BTreeMap<String, Workload>,
    namespaces: BTreeMap<String, Namespace>,
    nodes: BTreeMap<String, Node>,
}

impl Store {
    /// Takes an object in; it takes the place of an earlier state of itself.
    pub fn put(&mut self, object: Object) {
        match object {
            Object::Pod(pod) => drop(self.pods.insert(id(&pod.metadata), *pod)),
            Object::Service(service) => {
                self.services.insert(id(&service.metadata), service);
            }
            Object::Endpoints(endpoints) => {
                self.endpoints.insert(full_name(&endpoints.metadata), endpoints);
            }
            Object::ReplicaSet(workload) => {
                self.replicasets.insert(id(&workload.metadata), workload);
            }
            Object::Deployment(workload) => {
                self.deployments.insert(id(&workload.metadata), workload);
            }
            Object::Namespace(namespace) => {
                self.namespaces.insert(id(&namespace.metadata), namespace);
            }
            Object::Node(node) => drop(self.nodes.insert(node.metadata.name.clone(), node)),
        }
    }

    /// CPUs of the node of that name; 0 if there is none.
    #[must_use]
    pub fn node_num_cpus(&self, node: &str) -> i64 {
        self.nodes.get(node).map_or(0, |node| node.status.capacity.cpu.0)
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
