//! Pods and containers by id, name or address.

use std::sync::Arc;

use arrow_array::ArrayRef;
use weir_types::SemanticType;
use weir_types::metadata::{ContainerMeta, ControllerMeta, MetadataSnapshot, PodMeta};

use super::super::{ScalarDef, def, overloads};
use super::{coded, lookup, namespace_of, processes, push_list, push_member, push_owners};
use super::{text_of, time_of};
use crate::Placement;
use crate::operand::Call;

pub(in crate::scalar) const DEFS: &[ScalarDef] = &[
    lookup!("pod_id_to_pod_name", S => S, "pod_id", |call| by_id(call, push_name), "Name of the pod")
        .tag(SemanticType::PodName),
    lookup!(
        "pod_id_to_namespace", S => S, "pod_id", |call| by_id(call, push_namespace),
        "Namespace of the pod"
    )
    .tag(SemanticType::NamespaceName),
    lookup!(
        "pod_id_to_node_name", S => S, "pod_id", |call| by_id(call, push_node), "Node of the pod"
    )
    .tag(SemanticType::NodeName),
    lookup!(
        "pod_id_to_pod_labels", S => S, "pod_id", |call| by_id(call, push_labels),
        "Labels of the pod, JSON"
    ),
    lookup!(
        "pod_id_to_service_name", S => S, "pod_id", |call| by_id(call, push_service_names),
        "Running services of the pod"
    )
    .tag(SemanticType::ServiceName),
    lookup!(
        "pod_id_to_service_id", S => S, "pod_id", |call| by_id(call, push_service_ids),
        "Ids of the running services of the pod"
    ),
    lookup!(
        "pod_id_to_replicaset_name", S => S, "pod_id", |call| by_id(call, push_replicaset_name),
        "Replica set of the pod"
    ),
    lookup!(
        "pod_id_to_replicaset_id", S => S, "pod_id", |call| by_id(call, push_replicaset_id),
        "Id of the pod's replica set"
    ),
    lookup!(
        "pod_id_to_deployment_name", S => S, "pod_id", |call| by_id(call, push_deployment_name),
        "Deployment of the pod"
    ),
    lookup!(
        "pod_id_to_deployment_id", S => S, "pod_id", |call| by_id(call, push_deployment_id),
        "Id of the pod's deployment"
    ),
    lookup!(
        "pod_id_to_owner_references", S => S, "pod_id", |call| by_id(call, push_pod_owners),
        "Owners of the pod, JSON"
    ),
    lookup!(
        "pod_id_to_start_time", S => T, "pod_id",
        |call| time_of(call, |metadata, id| metadata.pod(id).map(|pod| pod.start_unix_ns)),
        "When the pod was made"
    ),
    lookup!(
        "pod_id_to_stop_time", S => T, "pod_id",
        |call| time_of(call, |metadata, id| metadata.pod(id).map(|pod| pod.stop_unix_ns)),
        "When the pod was deleted; 0 while it lives"
    ),
    lookup!("pod_name_to_pod_id", S => S, "pod_name", |call| by_name(call, push_id), "Id of the pod"),
    def(
        "pod_name_to_namespace",
        overloads![S => S, namespace],
        &["pod_name"],
        "What stands before the `/` of the name",
        "df.namespace = px.pod_name_to_namespace(df.pod)",
    )
    .tag(SemanticType::NamespaceName),
    lookup!(
        "pod_name_to_pod_ip", S => S, "pod_name", |call| by_name(call, push_ip),
        "Address of the pod"
    )
    .tag(SemanticType::IpAddress),
    lookup!(
        "pod_name_to_service_name", S => S, "pod_name", |call| by_name(call, push_service_names),
        "Running services of the pod"
    )
    .semantic(crate::SemanticRule::When(SemanticType::PodName, SemanticType::ServiceName)),
    lookup!(
        "pod_name_to_service_id", S => S, "pod_name", |call| by_name(call, push_service_ids),
        "Ids of the running services of the pod"
    ),
    lookup!(
        "pod_name_to_replicaset_name", S => S, "pod_name",
        |call| by_name(call, push_replicaset_name), "Replica set of the pod"
    ),
    lookup!(
        "pod_name_to_replicaset_id", S => S, "pod_name", |call| by_name(call, push_replicaset_id),
        "Id of the pod's replica set"
    ),
    lookup!(
        "pod_name_to_deployment_name", S => S, "pod_name",
        |call| by_name(call, push_deployment_name), "Deployment of the pod"
    ),
    lookup!(
        "pod_name_to_deployment_id", S => S, "pod_name", |call| by_name(call, push_deployment_id),
        "Id of the pod's deployment"
    ),
    lookup!(
        "pod_name_to_owner_references", S => S, "pod_name", |call| by_name(call, push_pod_owners),
        "Owners of the pod, JSON"
    ),
    lookup!(
        "pod_name_to_start_time", S => T, "pod_name",
        |call| time_of(call, |metadata, name| {
            metadata.pod_by_name(name).map(|pod| pod.start_unix_ns)
        }),
        "When the pod was made"
    ),
    lookup!(
        "pod_name_to_stop_time", S => T, "pod_name",
        |call| time_of(call, |metadata, name| {
            metadata.pod_by_name(name).map(|pod| pod.stop_unix_ns)
        }),
        "When the pod was deleted; 0 while it lives"
    ),
    lookup!(
        "pod_name_to_status", S => S, "pod_name",
        |call| text_of(call, |metadata, name, out| {
            push_status(out, metadata.pod_by_name(name).map(|pod| &**pod));
        }),
        "Phase, message, reason and readiness of the pod, JSON"
    )
    .tag(SemanticType::PodStatus),
    lookup!(
        "container_id_to_status", S => S, "container_id",
        |call| text_of(call, |metadata, id, out| {
            push_container_status(out, metadata.container(id).map(|container| &**container));
        }),
        "State, message and reason of the container, JSON"
    )
    .tag(SemanticType::ContainerStatus),
    lookup!(
        "container_id_to_start_time", S => T, "container_id",
        |call| time_of(call, |metadata, id| {
            metadata.container(id).map(|container| container.start_unix_ns)
        }),
        "When the container started"
    ),
    lookup!(
        "container_id_to_stop_time", S => T, "container_id",
        |call| time_of(call, |metadata, id| {
            metadata.container(id).map(|container| container.stop_unix_ns)
        }),
        "When the container stopped; 0 while it runs"
    ),
    lookup!(
        "container_name_to_container_id", S => S, "container_name",
        |call| text_of(call, |metadata, name, out| {
            if let Some(id) = metadata.container_names.get(name) {
                out.extend_from_slice(id.as_bytes());
            }
        }),
        "Id of the container of that name"
    ),
    lookup!(
        "container_name_to_start_time", S => T, "container_name",
        |call| time_of(call, |metadata, name| {
            container_by_name(metadata, name).map(|container| container.start_unix_ns)
        }),
        "When the container of that name started"
    ),
    lookup!(
        "container_name_to_stop_time", S => T, "container_name",
        |call| time_of(call, |metadata, name| {
            container_by_name(metadata, name).map(|container| container.stop_unix_ns)
        }),
        "When the container of that name stopped; 0 while it runs"
    ),
    def(
        "ip_to_pod_id",
        overloads![S => S, ip_to_pod_id; S T => S, ip_to_pod_id_at],
        &["ip", "time"],
        "Id of the pod that has the address, or had it at that time",
        "df.pod_id = px.ip_to_pod_id(df.remote_addr, df.time_)",
    )
    .reads_context()
    .placed(Placement::Cluster),
];

fn by_id(call: &Call<'_>, write: impl Fn(&MetadataSnapshot, &PodMeta, &mut Vec<u8>)) -> ArrayRef {
    text_of(call, |metadata, id, out| {
        if let Some(pod) = metadata.pod(id) {
            write(metadata, pod, out);
        }
    })
}

fn by_name(call: &Call<'_>, write: impl Fn(&MetadataSnapshot, &PodMeta, &mut Vec<u8>)) -> ArrayRef {
    text_of(call, |metadata, name, out| {
        if let Some(pod) = metadata.pod_by_name(name) {
            write(metadata, pod, out);
        }
    })
}

fn namespace(call: &Call<'_>) -> ArrayRef {
    text_of(call, |_, name, out| {
        out.extend_from_slice(namespace_of(name).unwrap_or_default().as_bytes());
    })
}

fn ip_to_pod_id(call: &Call<'_>) -> ArrayRef {
    text_of(call, |metadata, ip, out| {
        if let Some(pod) = metadata.pod_by_ip(ip, None) {
            out.extend_from_slice(pod.id.as_bytes());
        }
    })
}

fn ip_to_pod_id_at(call: &Call<'_>) -> ArrayRef {
    let (ip, time) = (call.str(0), call.int(1));
    let metadata = &*call.ctx.metadata;
    let id = |row| -> &str {
        let pod = std::str::from_utf8(ip.get(row))
            .ok()
            .and_then(|ip| metadata.pod_by_ip(ip, Some(time.get(row))));
        pod.map_or("", |pod| pod.id.as_str())
    };
    coded(call.rows, id, |id, out| out.extend_from_slice(id.as_bytes()))
}

fn container_by_name<'a>(
    metadata: &'a MetadataSnapshot,
    name: &str,
) -> Option<&'a Arc<ContainerMeta>> {
    metadata.container(metadata.container_names.get(name)?)
}

pub(super) fn push_id(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    out.extend_from_slice(pod.id.as_bytes());
}
pub(super) fn push_name(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    out.extend_from_slice(pod.name.as_bytes());
}
pub(super) fn push_namespace(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    out.extend_from_slice(pod.namespace.as_bytes());
}
pub(super) fn push_node(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    out.extend_from_slice(pod.node.as_bytes());
}
pub(super) fn push_hostname(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    out.extend_from_slice(pod.hostname.as_bytes());
}
pub(super) fn push_qos(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    out.extend_from_slice(pod.qos.as_bytes());
}
fn push_ip(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    out.extend_from_slice(pod.ip.as_bytes());
}
fn push_labels(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    out.extend_from_slice(pod.labels.as_bytes());
}
fn push_pod_owners(_: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    push_owners(out, &pod.owners);
}

pub(super) fn push_service_ids(metadata: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    let running = pod.service_ids.iter().filter_map(|id| metadata.service(id));
    let running = running.filter(|service| service.stop_unix_ns == 0);
    push_list(out, running.map(|service| service.id.as_str()).collect());
}
pub(super) fn push_service_names(metadata: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
    let running = pod.service_ids.iter().filter_map(|id| metadata.service(id));
    let running = running.filter(|service| service.stop_unix_ns == 0);
    push_list(out, running.map(|service| service.name.as_str()).collect());
}

/// The replica set that owns the pod.
fn replicaset<'a>(metadata: &'a MetadataSnapshot, pod: &PodMeta) -> Option<&'a ControllerMeta> {
    let owner = || pod.owners.iter().find(|(_, kind, _)| kind == "ReplicaSet");
    let known = metadata.replicasets.get(&pod.replicaset_id);
    known.or_else(|| metadata.replicasets.get(&owner()?.0)).map(|found| &**found)
}

/// The deployment that owns a replica set.
pub(super) fn deployment_of<'a>(
    metadata: &'a MetadataSnapshot,
    replicaset: &ControllerMeta,
) -> Option<&'a ControllerMeta> {
    let (uid, _, _) = replicaset.owners.iter().find(|(_, kind, _)| kind == "Deployment")?;
    metadata.deployments.get(uid).map(|found| &**found)
}

fn deployment<'a>(metadata: &'a MetadataSnapshot, pod: &PodMeta) -> Option<&'a ControllerMeta> {
    deployment_of(metadata, replicaset(metadata, pod)?)
}

macro_rules! controller_texts {
    ($($name:ident: $find:ident $field:ident $keep:expr;)*) => {
        $(pub(super) fn $name(metadata: &MetadataSnapshot, pod: &PodMeta, out: &mut Vec<u8>) {
            let keep: fn(&&ControllerMeta) -> bool = $keep;
            if let Some(found) = $find(metadata, pod).filter(keep) {
                out.extend_from_slice(found.$field.as_bytes());
            }
        })*
    };
}

controller_texts! {
    push_replicaset_id: replicaset id |_| true;
    push_replicaset_name: replicaset name |_| true;
    push_deployment_id: deployment id |_| true;
    push_deployment_name: deployment name |_| true;
    push_live_replicaset_id: replicaset id |found| found.stop_unix_ns == 0;
    push_live_replicaset_name: replicaset name |found| found.stop_unix_ns == 0;
    push_live_deployment_id: deployment id |found| found.stop_unix_ns == 0;
    push_live_deployment_name: deployment name |found| found.stop_unix_ns == 0;
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "Unknown" } else { text }
}

pub(super) fn push_status(out: &mut Vec<u8>, pod: Option<&PodMeta>) {
    let unknown = PodMeta::default();
    let pod = pod.unwrap_or(&unknown);
    out.push(b'{');
    push_member(out, "phase", or_unknown(&pod.phase));
    push_member(out, "message", &pod.message);
    push_member(out, "reason", &pod.reason);
    processes::push_flag(out, "ready", pod.ready);
    out.push(b'}');
}

fn push_container_status(out: &mut Vec<u8>, container: Option<&ContainerMeta>) {
    let unknown = ContainerMeta::default();
    let container = container.unwrap_or(&unknown);
    out.push(b'{');
    push_member(out, "state", or_unknown(&container.state));
    push_member(out, "message", &container.message);
    push_member(out, "reason", &container.reason);
    out.push(b'}');
}
