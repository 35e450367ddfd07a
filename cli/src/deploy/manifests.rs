//! The rendered manifests as objects, for a namespace and an image. It knows their words for both, and no server.

use serde_json::Value as Json;

use super::IMAGE;
use crate::args::Preset;
use crate::failure::Failure;

const S: &str = include_str!("../../../deploy/manifests/weir-s.yaml");
const M: &str = include_str!("../../../deploy/manifests/weir-m.yaml");
const L: &str = include_str!("../../../deploy/manifests/weir-l.yaml");
/// The namespace that they were rendered for.
const NAMESPACE: &str = "weir";

/// A kind of Kubernetes that we have objects of. In the order in which they are applied.
pub(super) struct Kind {
    pub(super) api_version: &'static str,
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
}

const fn kind(api_version: &'static str, name: &'static str, plural: &'static str) -> Kind {
    Kind { api_version, name, plural }
}

pub(super) static KINDS: [Kind; 10] = [
    kind("v1", "Namespace", "namespaces"),
    kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses"),
    kind("v1", "ServiceAccount", "serviceaccounts"),
    kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    kind("v1", "ConfigMap", "configmaps"),
    kind("v1", "Service", "services"),
    kind("apps/v1", "StatefulSet", "statefulsets"),
    kind("apps/v1", "DaemonSet", "daemonsets"),
];

impl Kind {
    pub(super) fn group(&self) -> &'static str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

/// One object of the manifests.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) json: Json,
}

impl Object {
    /// `daemonset.apps/weir-node`, as `kubectl` says it.
    pub(super) fn title(&self) -> String {
        let group = self.known().group();
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", self.kind.to_lowercase(), self.name)
    }

    pub(super) fn known(&self) -> &'static Kind {
        KINDS.iter().find(|kind| kind.name == self.kind).unwrap_or(&KINDS[0])
    }
}

fn wrong(why: &str) -> Failure {
    Failure::No(format!("the manifests in this binary are wrong: {why}"))
}

/// All objects, in the order in which they are to be applied.
pub(super) fn objects(
    preset: Preset,
    namespace: &str,
    image: &str,
) -> Result<Vec<Object>, Failure> {
    let text = match preset {
        Preset::S => S,
        Preset::M => M,
        Preset::L => L,
    };
    let mut objects = Vec::new();
    for document in text.split("\n---\n") {
        let json: Json =
            serde_saphyr::from_str(document).map_err(|error| wrong(&error.to_string()))?;
        objects.push(read(json, namespace, image)?);
    }
    objects.sort_by_key(|object| KINDS.iter().position(|kind| kind.name == object.kind));
    Ok(objects)
}

fn read(mut json: Json, namespace: &str, image: &str) -> Result<Object, Failure> {
    let name = json["kind"].as_str().unwrap_or_default();
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
        return Err(wrong(&format!("an object is a {name:?}")));
    };
    if json["apiVersion"] != kind.api_version {
        return Err(wrong(&format!("a {name} is of {}", json["apiVersion"])));
    }
    if kind.name == "Namespace" {
        json["metadata"]["name"] = namespace.into();
    }
    fit(&mut json, namespace, image);
    let text = |value: &Json| value.as_str().map(str::to_string);
    Ok(Object {
        kind: kind.name,
        name: text(&json["metadata"]["name"]).ok_or_else(|| wrong("an object has no name"))?,
        namespace: text(&json["metadata"]["namespace"]),
        json,
    })
}

/// Puts the namespace and the image in the place of those of the manifests, wherever they are named.
fn fit(json: &mut Json, namespace: &str, image: &str) {
    match json {
        Json::Object(members) => {
            for (name, value) in members.iter_mut() {
                let new = match (name.as_str(), value.as_str()) {
                    ("namespace", Some(NAMESPACE)) => Some(namespace.to_string()),
                    // What is in no namespace is named after it.
                    ("name", Some("weir:weir")) => Some(format!("weir:{namespace}")),
                    ("name" | "priorityClassName", Some("weir-weir")) => {
                        Some(format!("weir-{namespace}"))
                    }
                    ("path", Some("/var/lib/weir/weir")) => {
                        Some(format!("/var/lib/weir/{namespace}"))
                    }
                    ("image", Some(IMAGE)) => Some(image.to_string()),
                    _ => None,
                };
                match new {
                    Some(new) => *value = new.into(),
                    None => fit(value, namespace, image),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| fit(item, namespace, image)),
        _ => {}
    }
}
