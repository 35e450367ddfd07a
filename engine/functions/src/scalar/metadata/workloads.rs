//! Replica sets and deployments by id or name.

use std::sync::Arc;

use arrow_array::ArrayRef;
use weir_types::SemanticType;
use weir_types::metadata::{ControllerMeta, MetadataSnapshot};

use super::super::ScalarDef;
use super::{lookup, pods, push_owners, text_of, time_of};
use crate::operand::Call;

pub(in crate::scalar) const DEFS: &[ScalarDef] = &[
    lookup!(
        "replicaset_id_to_replicaset_name", S => S, "replicaset_id",
        |call| text(call, replicaset_by_id, |found| &found.name),
        "Name of the replica set"
    ),
    lookup!(
        "replicaset_id_to_namespace", S => S, "replicaset_id",
        |call| text(call, replicaset_by_id, |found| &found.namespace),
        "Namespace of the replica set"
    )
    .tag(SemanticType::NamespaceName),
    lookup!(
        "replicaset_id_to_status", S => S, "replicaset_id",
        |call| text(call, replicaset_by_id, |found| &found.status),
        "Status of the replica set, JSON"
    ),
    lookup!(
        "replicaset_id_to_start_time", S => T, "replicaset_id",
        |call| time(call, replicaset_by_id, |found| found.start_unix_ns),
        "When the replica set was made"
    ),
    lookup!(
        "replicaset_id_to_stop_time", S => T, "replicaset_id",
        |call| time(call, replicaset_by_id, |found| found.stop_unix_ns),
        "When the replica set was deleted; 0 while it lives"
    ),
    lookup!(
        "replicaset_id_to_owner_references", S => S, "replicaset_id",
        |call| owners(call, replicaset_by_id),
        "Owners of the replica set, JSON"
    ),
    lookup!(
        "replicaset_id_to_deployment_name", S => S, "replicaset_id",
        |call| deployment(call, replicaset_by_id, |found| &found.name),
        "Deployment of the replica set"
    ),
    lookup!(
        "replicaset_id_to_deployment_id", S => S, "replicaset_id",
        |call| deployment(call, replicaset_by_id, |found| &found.id),
        "Id of the replica set's deployment"
    ),
    lookup!(
        "replicaset_name_to_replicaset_id", S => S, "replicaset_name",
        |call| text(call, replicaset_by_name, |found| &found.id),
        "Id of the replica set"
    ),
    lookup!(
        "replicaset_name_to_namespace", S => S, "replicaset_name",
        |call| text(call, replicaset_by_name, |found| &found.namespace),
        "Namespace of the replica set"
    )
    .tag(SemanticType::NamespaceName),
    lookup!(
        "replicaset_name_to_status", S => S, "replicaset_name",
        |call| text(call, replicaset_by_name, |found| &found.status),
        "Status of the replica set, JSON"
    ),
    lookup!(
        "replicaset_name_to_start_time", S => T, "replicaset_name",
        |call| time(call, replicaset_by_name, |found| found.start_unix_ns),
        "When the replica set was made"
    ),
    lookup!(
        "replicaset_name_to_stop_time", S => T, "replicaset_name",
        |call| time(call, replicaset_by_name, |found| found.stop_unix_ns),
        "When the replica set was deleted; 0 while it lives"
    ),
    lookup!(
        "replicaset_name_to_owner_references", S => S, "replicaset_name",
        |call| owners(call, replicaset_by_name),
        "Owners of the replica set, JSON"
    ),
    lookup!(
        "replicaset_name_to_deployment_name", S => S, "replicaset_name",
        |call| deployment(call, replicaset_by_name, |found| &found.name),
        "Deployment of the replica set"
    ),
    lookup!(
        "replicaset_name_to_deployment_id", S => S, "replicaset_name",
        |call| deployment(call, replicaset_by_name, |found| &found.id),
        "Id of the replica set's deployment"
    ),
    lookup!(
        "deployment_id_to_deployment_name", S => S, "deployment_id",
        |call| text(call, deployment_by_id, |found| &found.name),
        "Name of the deployment"
    ),
    lookup!(
        "deployment_id_to_namespace", S => S, "deployment_id",
        |call| text(call, deployment_by_id, |found| &found.namespace),
        "Namespace of the deployment"
    )
    .tag(SemanticType::NamespaceName),
    lookup!(
        "deployment_id_to_status", S => S, "deployment_id",
        |call| text(call, deployment_by_id, |found| &found.status),
        "Status of the deployment, JSON"
    ),
    lookup!(
        "deployment_id_to_start_time", S => T, "deployment_id",
        |call| time(call, deployment_by_id, |found| found.start_unix_ns),
        "When the deployment was made"
    ),
    lookup!(
        "deployment_id_to_stop_time", S => T, "deployment_id",
        |call| time(call, deployment_by_id, |found| found.stop_unix_ns),
        "When the deployment was deleted; 0 while it lives"
    ),
    lookup!(
        "deployment_name_to_deployment_id", S => S, "deployment_name",
        |call| text(call, deployment_by_name, |found| &found.id),
        "Id of the deployment"
    ),
    lookup!(
        "deployment_name_to_namespace", S => S, "deployment_name",
        |call| text(call, deployment_by_name, |found| &found.namespace),
        "Namespace of the deployment"
    )
    .tag(SemanticType::NamespaceName),
    lookup!(
        "deployment_name_to_status", S => S, "deployment_name",
        |call| text(call, deployment_by_name, |found| &found.status),
        "Status of the deployment, JSON"
    ),
    lookup!(
        "deployment_name_to_start_time", S => T, "deployment_name",
        |call| time(call, deployment_by_name, |found| found.start_unix_ns),
        "When the deployment was made"
    ),
    lookup!(
        "deployment_name_to_stop_time", S => T, "deployment_name",
        |call| time(call, deployment_by_name, |found| found.stop_unix_ns),
        "When the deployment was deleted; 0 while it lives"
    ),
];

/// Finds a workload by one of its keys.
type Find = for<'a> fn(&'a MetadataSnapshot, &str) -> Option<&'a Arc<ControllerMeta>>;

fn replicaset_by_id<'a>(
    metadata: &'a MetadataSnapshot,
    id: &str,
) -> Option<&'a Arc<ControllerMeta>> {
    metadata.replicasets.get(id)
}
fn replicaset_by_name<'a>(
    metadata: &'a MetadataSnapshot,
    name: &str,
) -> Option<&'a Arc<ControllerMeta>> {
    metadata.replicasets.get(metadata.replicaset_names.get(name)?)
}
fn deployment_by_id<'a>(
    metadata: &'a MetadataSnapshot,
    id: &str,
) -> Option<&'a Arc<ControllerMeta>> {
    metadata.deployments.get(id)
}
fn deployment_by_name<'a>(
    metadata: &'a MetadataSnapshot,
    name: &str,
) -> Option<&'a Arc<ControllerMeta>> {
    metadata.deployments.get(metadata.deployment_names.get(name)?)
}

fn text(call: &Call<'_>, find: Find, field: fn(&ControllerMeta) -> &str) -> ArrayRef {
    text_of(call, |metadata, key, out| {
        if let Some(found) = find(metadata, key) {
            out.extend_from_slice(field(found).as_bytes());
        }
    })
}

fn time(call: &Call<'_>, find: Find, field: fn(&ControllerMeta) -> i64) -> ArrayRef {
    time_of(call, |metadata, key| find(metadata, key).map(|found| field(found)))
}

fn owners(call: &Call<'_>, find: Find) -> ArrayRef {
    text_of(call, |metadata, key, out| {
        if let Some(found) = find(metadata, key) {
            push_owners(out, &found.owners);
        }
    })
}

/// A text of the deployment that owns the replica set.
fn deployment(call: &Call<'_>, find: Find, field: fn(&ControllerMeta) -> &str) -> ArrayRef {
    text_of(call, |metadata, key, out| {
        let owner = find(metadata, key).and_then(|found| pods::deployment_of(metadata, found));
        if let Some(owner) = owner {
            out.extend_from_slice(field(owner).as_bytes());
        }
    })
}
