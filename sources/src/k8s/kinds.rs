//! Which kinds are watched, and of which of their objects.

use kube::api::{ApiResource, GroupVersionKind};

use crate::metadata::k8s::objects::Kind;

/// A kind as the API server knows it.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    pub kind: Kind,
    pub group: &'static str,
    name: &'static str,
    /// As roles name it.
    pub plural: &'static str,
}

const fn watched(
    kind: Kind,
    group: &'static str,
    name: &'static str,
    plural: &'static str,
) -> Watched {
    Watched { kind, group, name, plural }
}

/// All that are watched. Each is in the role of `deploy/chart`, which a test of `cli` compares with this.
pub const WATCHED: [Watched; 7] = [
    watched(Kind::Namespace, "", "Namespace", "namespaces"),
    watched(Kind::Node, "", "Node", "nodes"),
    watched(Kind::Pod, "", "Pod", "pods"),
    watched(Kind::Service, "", "Service", "services"),
    watched(Kind::EndpointSlice, "discovery.k8s.io", "EndpointSlice", "endpointslices"),
    watched(Kind::ReplicaSet, "apps", "ReplicaSet", "replicasets"),
    watched(Kind::Deployment, "apps", "Deployment", "deployments"),
];

impl Watched {
    pub(super) fn resource(&self) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, "v1", self.name);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}

/// Whose objects are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Pods that are bound to this node; all of everything else.
    Node(String),
    /// All of everything.
    Cluster,
}

impl Scope {
    pub(super) fn fields(&self, kind: Kind) -> Option<String> {
        match (self, kind) {
            (Scope::Node(name), Kind::Pod) => Some(format!("spec.nodeName={name}")),
            _ => None,
        }
    }
}
