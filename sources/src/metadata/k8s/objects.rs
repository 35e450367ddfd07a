//! Kubernetes objects, only the fields that are read of them. Everything is optional, `null` counts
//! as absent, unknown fields are ignored; a field of the wrong type is an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use weir_types::json::parse_time;

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The label by which an endpoint slice belongs to a service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Structs whose fields may all be absent or `null`, with names as Kubernetes spells them.
macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $ty:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($(#[$attr])*
            #[serde(default, deserialize_with = "null_as_default")]
            pub $field: $ty,)*
        })*
    };
}

impl PodStatus {
    /// Of all containers, those that have ended before the others began included.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        let first = self.init_container_statuses.iter().chain(&self.container_statuses);
        first.chain(&self.ephemeral_container_statuses)
    }
}

/// RFC 3339 text as Unix nanoseconds; 0 where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time(pub i64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("`{text}` is not an RFC 3339 time"));
        parse_time(&text).map(Time).ok_or_else(wrong)
    }
}

objects! {
    ObjectMeta {
        uid: String,
        name: String,
        namespace: String,
        creation_timestamp: Time,
        deletion_timestamp: Time,
        labels: BTreeMap<String, String>,
        owner_references: Vec<OwnerReference>,
    }
    OwnerReference {
        uid: String,
        kind: String,
        name: String,
    }
    Condition {
        #[serde(rename = "type")]
        kind: String,
        status: String,
    }

    Pod {
        metadata: ObjectMeta,
        spec: PodSpec,
        status: PodStatus,
    }
    PodSpec {
        node_name: String,
        hostname: String,
        host_network: bool,
    }
    PodStatus {
        phase: String,
        message: String,
        reason: String,
        qos_class: String,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        #[serde(rename = "hostIP")]
        host_ip: String,
        conditions: Vec<Condition>,
        init_container_statuses: Vec<ContainerStatus>,
        container_statuses: Vec<ContainerStatus>,
        ephemeral_container_statuses: Vec<ContainerStatus>,
    }
    PodIp {
        ip: String,
    }
    ContainerStatus {
        name: String,
        /// How the container before this one ended, if there was one.
        last_state: ContainerState,
        /// With the runtime's prefix, as in `containerd://1f3c…`.
        #[serde(rename = "containerID")]
        container_id: String,
        state: ContainerState,
    }
    /// At most one of them is there.
    ContainerState {
        running: Option<StateDetail>,
        waiting: Option<StateDetail>,
        terminated: Option<StateDetail>,
    }
    StateDetail {
        #[serde(rename = "containerID")]
        container_id: String,
        message: String,
        reason: String,
        started_at: Time,
        finished_at: Time,
    }

    Service {
        metadata: ObjectMeta,
        spec: ServiceSpec,
    }
    ServiceSpec {
        /// `None` for a headless service.
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
    }

    /// Which pods stand behind the service of the same name.
    Endpoints {
        metadata: ObjectMeta,
        subsets: Vec<EndpointSubset>,
    }
    EndpointSubset {
        addresses: Vec<EndpointAddress>,
    }
    EndpointAddress {
        target_ref: ObjectReference,
    }
    /// Some of the pods behind the service that its label [`SERVICE_NAME`] names.
    EndpointSlice {
        metadata: ObjectMeta,
        endpoints: Vec<SliceEndpoint>,
    }
    SliceEndpoint {
        conditions: EndpointConditions,
        target_ref: ObjectReference,
    }
    EndpointConditions {
        ready: Option<bool>,
        serving: Option<bool>,
        terminating: Option<bool>,
    }
    ObjectReference {
        kind: String,
        namespace: String,
        name: String,
        uid: String,
    }

    /// A replica set or a deployment.
    Workload {
        metadata: ObjectMeta,
        spec: WorkloadSpec,
        status: WorkloadStatus,
    }
    WorkloadSpec {
        replicas: i64,
    }
    WorkloadStatus {
        replicas: i64,
        fully_labeled_replicas: i64,
        updated_replicas: i64,
        ready_replicas: i64,
        available_replicas: i64,
        unavailable_replicas: i64,
        observed_generation: i64,
        conditions: Vec<Condition>,
    }

    Namespace {
        metadata: ObjectMeta,
    }

    Node {
        metadata: ObjectMeta,
        spec: NodeSpec,
        status: NodeStatus,
    }
    NodeSpec {
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
    }
    NodeStatus {
        capacity: Capacity,
    }
    Capacity {
        cpu: Quantity,
    }
}

/// A Kubernetes quantity as a whole number, rounded up: `4` and `3920m` are both 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantity(pub i64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Whole(i64),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Whole(whole) => return Ok(Quantity(whole)),
            Form::Text(text) => text,
        };
        let (digits, per_unit) = match text.strip_suffix('m') {
            Some(digits) => (digits, 1000.0),
            None => (text.as_str(), 1.0),
        };
        let number: Option<f64> = digits.parse().ok().filter(|number: &f64| number.is_finite());
        let wrong = || serde::de::Error::custom(format!("`{text}` is not a quantity of CPUs"));
        number.map(|number| Quantity((number / per_unit).ceil() as i64)).ok_or_else(wrong)
    }
}

/// The kinds that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    ReplicaSet,
    Deployment,
    Namespace,
    Node,
}

/// One object of a kind that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Pod(Box<Pod>),
    Service(Service),
    Endpoints(Endpoints),
    EndpointSlice(EndpointSlice),
    ReplicaSet(Workload),
    Deployment(Workload),
    Namespace(Namespace),
    Node(Node),
}

impl Object {
    /// Reads an object of that kind; `None` if the kind is none of those that are read.
    pub fn read<'de, D: Deserializer<'de>>(
        api_version: &str,
        kind: &str,
        deserializer: D,
    ) -> Result<Option<Object>, D::Error> {
        // Other groups have kinds of the same name: Knative has a Service too.
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let object = match (group, kind) {
            ("", "Pod") => Object::Pod(Deserialize::deserialize(deserializer)?),
            ("", "Service") => Object::Service(Deserialize::deserialize(deserializer)?),
            ("", "Endpoints") => Object::Endpoints(Deserialize::deserialize(deserializer)?),
            ("discovery.k8s.io", "EndpointSlice") => {
                Object::EndpointSlice(Deserialize::deserialize(deserializer)?)
            }
            ("", "Namespace") => Object::Namespace(Deserialize::deserialize(deserializer)?),
            ("", "Node") => Object::Node(Deserialize::deserialize(deserializer)?),
            ("apps" | "extensions" | "", "ReplicaSet") => {
                Object::ReplicaSet(Deserialize::deserialize(deserializer)?)
            }
            ("apps" | "extensions" | "", "Deployment") => {
                Object::Deployment(Deserialize::deserialize(deserializer)?)
            }
            _ => return Ok(None),
        };
        Ok(Some(object))
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Object::Pod(_) => Kind::Pod,
            Object::Service(_) => Kind::Service,
            Object::Endpoints(_) => Kind::Endpoints,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::ReplicaSet(_) => Kind::ReplicaSet,
            Object::Deployment(_) => Kind::Deployment,
            Object::Namespace(_) => Kind::Namespace,
            Object::Node(_) => Kind::Node,
        }
    }

    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::Pod(pod) => &pod.metadata,
            Object::Service(service) => &service.metadata,
            Object::Endpoints(endpoints) => &endpoints.metadata,
            Object::EndpointSlice(slice) => &slice.metadata,
            Object::ReplicaSet(workload) | Object::Deployment(workload) => &workload.metadata,
            Object::Namespace(namespace) => &namespace.metadata,
            Object::Node(node) => &node.metadata,
        }
    }
}
