//! One object into a cluster, or out of it, and what that changed.

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams,
};
use kube::core::params::ValidationDirective;
use serde_json::Value as Json;

use super::manifests::{Kind, Object};
use super::{Cluster, MANAGER, access};
use crate::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    pub(super) fn text(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
        }
    }
}

/// Objects of a kind; `None`: they are in no namespace.
pub(super) fn api(cluster: &Cluster, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
    let version = kind.api_version.rsplit('/').next().unwrap_or_default();
    let named = GroupVersionKind::gvk(kind.group(), version, kind.name);
    let resource = ApiResource::from_gvk_with_plural(&named, kind.plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    }
}

pub(super) async fn apply(cluster: &Cluster, object: &Object) -> Result<Outcome, Failure> {
    let api = api(cluster, object.known(), object.namespace.as_deref());
    let failed = |verb: &str, error: &kube::Error| {
        access::failure(&cluster.server, &format!("{verb} {}", object.title()), error)
    };
    let before = api.get_opt(&object.name).await.map_err(|error| failed("look at", &error))?;
    let params = PatchParams {
        dry_run: cluster.dry_run,
        // What is ours stays ours, whoever has changed it by hand.
        force: true,
        field_manager: Some(MANAGER.to_string()),
        field_validation: Some(ValidationDirective::Strict),
    };
    let after = api.patch(&object.name, &params, &Patch::Apply(&object.json)).await;
    let after = after.map_err(|error| failed("apply", &error))?;
    Ok(match before {
        None => Outcome::Created,
        Some(before) if asked_for(&before) == asked_for(&after) => Outcome::Unchanged,
        Some(_) => Outcome::Configured,
    })
}

/// What of an object is asked for: not what the server notes about it.
fn asked_for(object: &DynamicObject) -> Json {
    let mut json = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = json["metadata"].as_object_mut() {
        for noted in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(noted);
        }
    }
    if let Some(members) = json.as_object_mut() {
        members.remove("status");
    }
    json
}

/// False: it was not there.
pub(super) async fn delete(cluster: &Cluster, object: &Object) -> Result<bool, Failure> {
    let api = api(cluster, object.known(), object.namespace.as_deref());
    let params = DeleteParams { dry_run: cluster.dry_run, ..DeleteParams::background() };
    match api.delete(&object.name, &params).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => {
            Err(access::failure(&cluster.server, &format!("delete {}", object.title()), &error))
        }
    }
}
