//! Whether the user may do all of it, asked before anything is done: what is missing is said at once, and nothing is
//! left half done.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use tokio::task::JoinSet;

use super::manifests::Object;
use super::{Cluster, access};
use crate::failure::Failure;

/// A kind of objects: group, plural, and the namespace that they are in.
type Place = (String, String, Option<String>);

/// Fails if one of `verbs` is not allowed for one of the objects' kinds, or for secrets.
pub(super) async fn check(
    cluster: &Cluster,
    objects: &[Object],
    verbs: &[&'static str],
) -> Result<(), Failure> {
    let mut places: BTreeSet<Place> = objects
        .iter()
        .map(|object| {
            let kind = object.known();
            (kind.group().to_string(), kind.plural.to_string(), object.namespace.clone())
        })
        .collect();
    places.insert((String::new(), "secrets".to_string(), Some(cluster.namespace.clone())));
    let mut asked = JoinSet::new();
    for place in places {
        for verb in verbs.iter().copied() {
            let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
            let (place, review) = (place.clone(), review(&place, verb));
            asked.spawn(async move {
                let answer = reviews.create(&PostParams::default(), &review).await;
                let allowed = answer.map(|answer| answer.status.is_none_or(|said| said.allowed));
                (place, verb, allowed)
            });
        }
    }
    let mut missing: BTreeMap<Place, BTreeSet<&'static str>> = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        let (place, verb, allowed) = answer.map_err(|error| Failure::No(error.to_string()))?;
        match allowed {
            Ok(true) => {}
            Ok(false) => {
                missing.entry(place).or_default().insert(verb);
            }
            // Who may not even ask is told by what fails.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {}
            Err(error) => return Err(access::failure(&cluster.server, "ask for rights", &error)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = missing.iter().map(|(place, verbs)| told(place, verbs)).collect();
    Err(Failure::No(format!(
        "this user may not do it, and nothing was changed (--context, --namespace); missing:\n  {}",
        lines.join("\n  ")
    )))
}

fn review((group, plural, namespace): &Place, verb: &str) -> SelfSubjectAccessReview {
    let attributes = ResourceAttributes {
        group: Some(group.clone()),
        resource: Some(plural.clone()),
        namespace: namespace.clone(),
        verb: Some(verb.to_string()),
        ..ResourceAttributes::default()
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

/// `create, patch clusterroles (rbac.authorization.k8s.io)`
fn told((group, plural, namespace): &Place, verbs: &BTreeSet<&'static str>) -> String {
    let verbs: Vec<&str> = verbs.iter().copied().collect();
    let group = if group.is_empty() { String::new() } else { format!(" ({group})") };
    let place = namespace.as_ref().map_or_else(String::new, |name| format!(" in namespace {name}"));
    format!("{} {plural}{group}{place}", verbs.join(", "))
}
