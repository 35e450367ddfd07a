//! The store's objects, linked, as the snapshot that metadata functions read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use weir_types::metadata::{
    ContainerMeta, ControllerMeta, MetadataSnapshot, NamespaceMeta, PodMeta, ServiceMeta, SharedMap,
};

use super::objects::{
    Condition, ContainerState, ContainerStatus, EndpointConditions, ObjectMeta, ObjectReference,
    Pod, SERVICE_NAME, StateDetail, Workload,
};
use super::{Store, container_id, full_name, id};

/// How old a thing is, for those that share a name or an address; the last one has it.
type Age = (i64, bool, String);

fn age(meta: &ObjectMeta) -> Age {
    (meta.creation_timestamp.0, meta.deletion_timestamp.0 == 0, id(meta))
}

/// Who has a key: the youngest of those that claim it.
#[derive(Default)]
struct Claims(BTreeMap<String, Age>);

impl Claims {
    fn add(&mut self, key: String, age: Age) {
        if key.is_empty() {
            return;
        }
        let have = self.0.entry(key).or_insert_with(|| age.clone());
        if *have < age {
            *have = age;
        }
    }
    fn owner(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|(_, _, id)| id.as_str())
    }
    fn into_map(self) -> SharedMap<String, String> {
        self.0.into_iter().map(|(key, (_, _, id))| (key, id)).collect()
    }
}

fn owners(meta: &ObjectMeta) -> Vec<(String, String, String)> {
    let owners = meta.owner_references.iter();
    owners.map(|owner| (owner.uid.clone(), owner.kind.clone(), owner.name.clone())).collect()
}

impl Store {
    /// Everything but processes, host facts and names of addresses, which are not Kubernetes'.
    #[must_use]
    pub fn snapshot(&self) -> MetadataSnapshot {
        let mut snapshot = MetadataSnapshot::default();
        self.add_services(&mut snapshot);
        self.add_pods(&mut snapshot);
        let workloads = |of: &BTreeMap<String, Workload>, status: fn(&Workload) -> Json| {
            let mut names = Claims::default();
            let mut found = SharedMap::new();
            for (id, workload) in of {
                names.add(full_name(&workload.metadata), age(&workload.metadata));
                found.insert(id.clone(), Arc::new(controller(id, workload, status)));
            }
            (found, names.into_map())
        };
        (snapshot.replicasets, snapshot.replicaset_names) =
            workloads(&self.replicasets, replicaset_status);
        (snapshot.deployments, snapshot.deployment_names) =
            workloads(&self.deployments, deployment_status);
        for (id, namespace) in &self.namespaces {
            let name = namespace.metadata.name.clone();
            let meta = NamespaceMeta { id: id.clone(), name: name.clone() };
            snapshot.namespaces.insert(name, Arc::new(meta));
        }
        for node in self.nodes.values() {
            let mut cidrs = node.spec.pod_cidrs.clone();
            if !cidrs.contains(&node.spec.pod_cidr) && !node.spec.pod_cidr.is_empty() {
                cidrs.push(node.spec.pod_cidr.clone());
            }
            snapshot.cidrs.append(&mut cidrs);
        }
        snapshot
    }

    fn add_services(&self, snapshot: &mut MetadataSnapshot) {
        let (mut names, mut ips) = (Claims::default(), Claims::default());
        for (id, service) in &self.services {
            let meta = &service.metadata;
            let spec = &service.spec;
            names.add(full_name(meta), age(meta));
            for ip in std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips) {
                if ip != "None" {
                    ips.add(ip.clone(), age(meta));
                }
            }
            let service = ServiceMeta {
                id: id.clone(),
                name: full_name(meta),
                namespace: meta.namespace.clone(),
                cluster_ip: spec.cluster_ip.clone(),
                external_ips: spec.external_ips.clone(),
                start_unix_ns: meta.creation_timestamp.0,
                stop_unix_ns: meta.deletion_timestamp.0,
            };
            snapshot.services.insert(id.clone(), Arc::new(service));
        }
        snapshot.service_names = names.into_map();
        snapshot.service_ips = ips.into_map();
    }

    fn add_pods(&self, snapshot: &mut MetadataSnapshot) {
        let mut names = Claims::default();
        for pod in self.pods.values() {
            names.add(full_name(&pod.metadata), age(&pod.metadata));
        }
        let mut services = self.services_of_pods(&names, snapshot);
        let mut containers = Claims::default();
        for (id, pod) in &self.pods {
            for status in pod.status.containers() {
                add_container(snapshot, &mut containers, id, status);
            }
            let service_ids = services.remove(id).unwrap_or_default();
            snapshot.pods.insert(id.clone(), Arc::new(pod_meta(id, pod, service_ids)));
        }
        for former in &self.former {
            add_container(snapshot, &mut containers, &former.pod, &former.status);
        }
        snapshot.pod_ips = self.pod_ips();
        snapshot.pod_names = names.into_map();
        snapshot.container_names = containers.into_map();
    }

    /// Pod id → ids of the services behind whose ready endpoints it stands.
    fn services_of_pods(
        &self,
        pod_names: &Claims,
        snapshot: &MetadataSnapshot,
    ) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut link = |service: &str, namespace: &str, target: &ObjectReference| {
            let service = snapshot.service_names.get(&format!("{namespace}/{service}"));
            let (Some(service), "Pod") = (service, target.kind.as_str()) else { return };
            let namespace = match target.namespace.as_str() {
                "" => namespace,
                given => given,
            };
            let by_name = format!("{namespace}/{}", target.name);
            let pod = match target.uid.as_str() {
                "" => pod_names.owner(&by_name),
                uid => Some(uid),
            };
            let Some(pod) = pod else { return };
            let services = found.entry(pod.to_string()).or_default();
            if !services.contains(service) {
                services.push(service.clone());
            }
        };
        for endpoints in self.endpoints.values() {
            let meta = &endpoints.metadata;
            for address in endpoints.subsets.iter().flat_map(|subset| &subset.addresses) {
                link(&meta.name, &meta.namespace, &address.target_ref);
            }
        }
        for slice in self.slices.values() {
            let meta = &slice.metadata;
            let Some(service) = meta.labels.get(SERVICE_NAME) else { continue };
            for endpoint in slice.endpoints.iter().filter(|one| serves(&one.conditions)) {
                link(service, &meta.namespace, &endpoint.target_ref);
            }
        }
        found
    }
}

/// Whether requests go to it: it is ready, or is ending and answers what it has.
fn serves(conditions: &EndpointConditions) -> bool {
    let is_ending = conditions.terminating == Some(true) && conditions.serving == Some(true);
    conditions.ready != Some(false) || is_ending
}

fn pod_meta(id: &str, pod: &Pod, service_ids: Vec<String>) -> PodMeta {
    let Pod { metadata, spec, status } = pod;
    let owners = owners(metadata);
    let replicaset = owners.iter().find(|(_, kind, _)| kind == "ReplicaSet");
    let is_ready = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
    PodMeta {
        id: id.to_string(),
        name: full_name(metadata),
        namespace: metadata.namespace.clone(),
        ip: status.pod_ip.clone(),
        host_ip: status.host_ip.clone(),
        node: spec.node_name.clone(),
        hostname: spec.hostname.clone(),
        start_unix_ns: metadata.creation_timestamp.0,
        stop_unix_ns: metadata.deletion_timestamp.0,
        phase: phase(pod).to_string(),
        message: status.message.clone(),
        reason: status.reason.clone(),
        ready: status.conditions.iter().any(is_ready),
        qos: match status.qos_class.as_str() {
            "" => String::new(),
            class => format!("k{class}"),
        },
        labels: json!(metadata.labels).to_string(),
        replicaset_id: replicaset.map(|(uid, _, _)| uid.clone()).unwrap_or_default(),
        owners,
        service_ids,
    }
}

/// A pod that is being deleted is Terminated, unless it had ended before.
fn phase(pod: &Pod) -> &str {
    let phase = pod.status.phase.as_str();
    match phase {
        "Failed" | "Succeeded" => phase,
        _ if pod.metadata.deletion_timestamp.0 != 0 => "Terminated",
        "Running" | "Pending" => phase,
        _ => "Unknown",
    }
}

/// What is known of it already is newer.
fn add_container(
    snapshot: &mut MetadataSnapshot,
    names: &mut Claims,
    pod_id: &str,
    status: &ContainerStatus,
) {
    let container = container_meta(status, pod_id);
    // Before its first start a container has no id yet.
    if container.id.is_empty() || snapshot.containers.contains_key(&container.id) {
        return;
    }
    let age = (container.start_unix_ns, container.stop_unix_ns == 0, container.id.clone());
    names.add(container.name.clone(), age);
    snapshot.containers.insert(container.id.clone(), Arc::new(container));
}

fn container_meta(status: &ContainerStatus, pod_id: &str) -> ContainerMeta {
    let nothing = StateDetail::default();
    let (state, detail) = match &status.state {
        ContainerState { running: Some(detail), .. } => ("Running", detail),
        ContainerState { terminated: Some(detail), .. } => ("Terminated", detail),
        ContainerState { waiting: Some(detail), .. } => ("Waiting", detail),
        ContainerState { .. } => ("Unknown", &nothing),
    };
    ContainerMeta {
        id: container_id(&status.container_id).to_string(),
        name: status.name.clone(),
        pod_id: pod_id.to_string(),
        state: state.to_string(),
        message: detail.message.clone(),
        reason: detail.reason.clone(),
        start_unix_ns: detail.started_at.0,
        stop_unix_ns: detail.finished_at.0,
    }
}

fn controller(id: &str, workload: &Workload, status: fn(&Workload) -> Json) -> ControllerMeta {
    let meta = &workload.metadata;
    ControllerMeta {
        id: id.to_string(),
        name: full_name(meta),
        namespace: meta.namespace.clone(),
        owners: owners(meta),
        start_unix_ns: meta.creation_timestamp.0,
        stop_unix_ns: meta.deletion_timestamp.0,
        status: status(workload).to_string(),
    }
}

/// type → status, in the types' order.
fn conditions(conditions: &[Condition]) -> Json {
    let sorted: BTreeMap<&str, &str> =
        conditions.iter().map(|each| (each.kind.as_str(), each.status.as_str())).collect();
    Json::Object(
        sorted
            .into_iter()
            .map(|(kind, status)| (kind.to_string(), json!(status)))
            .collect::<Map<_, _>>(),
    )
}

fn replicaset_status(workload: &Workload) -> Json {
    let status = &workload.status;
    json!({
        "replicas": status.replicas,
        "fully_labeled_replicas": status.fully_labeled_replicas,
        "ready_replicas": status.ready_replicas,
        "available_replicas": status.available_replicas,
        "requested_replicas": workload.spec.replicas,
        "observed_generation": status.observed_generation,
        "conditions": conditions(&status.conditions),
    })
}

fn deployment_status(workload: &Workload) -> Json {
    let status = &workload.status;
    json!({
        "replicas": status.replicas,
        "updated_replicas": status.updated_replicas,
        "ready_replicas": status.ready_replicas,
        "available_replicas": status.available_replicas,
        "unavailable_replicas": status.unavailable_replicas,
        "requested_replicas": workload.spec.replicas,
        "observed_generation": status.observed_generation,
        "conditions": conditions(&status.conditions),
    })
}
