//! Whether what was applied runs, part by part, and what keeps it. Looks, changes nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams};
use serde_json::Value as Json;
use weir_types::{Clock, WallClock};

use super::manifests::Object;
use super::{Cluster, access, apply};
use crate::failure::Failure;
use crate::output;

/// So often it is looked again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Failures to look that are borne one after another: a server may be away for a moment.
const FAILURES_MAX: u32 = 10;
/// Of what keeps parts from running, so much is said.
const REASONS_MAX: usize = 5;
/// So many pods and events are looked at.
const LIST_MAX: u32 = 200;

/// How far a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) text: String,
    pub(super) is_done: bool,
}

/// What the status of a part says.
pub(super) fn progress(kind: &str, object: &Json) -> Progress {
    let status = &object["status"];
    let count = |name: &str| status[name].as_u64().unwrap_or(0);
    let seen = status["observedGeneration"].as_i64().unwrap_or(0)
        >= object["metadata"]["generation"].as_i64().unwrap_or(1);
    let (wanted, updated, ready, what) = match kind {
        "DaemonSet" => (
            count("desiredNumberScheduled"),
            count("updatedNumberScheduled"),
            count("numberReady"),
            "nodes",
        ),
        _ => {
            let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
            (wanted, count("updatedReplicas"), count("readyReplicas"), "pods")
        }
    };
    if !seen {
        let text = "waiting for Kubernetes to take note of it".to_string();
        return Progress { text, is_done: false };
    }
    let is_done = updated >= wanted && ready >= wanted;
    let text = match (wanted, is_done) {
        (0, _) => format!("no {what} take it"),
        (_, true) => format!("{ready} of {wanted} {what} ready"),
        (_, false) if updated < wanted => {
            format!("{ready} of {wanted} {what} ready, {updated} of this version")
        }
        (_, false) => format!("{ready} of {wanted} {what} ready"),
    };
    Progress { text, is_done }
}

/// Why a pod does not run; `None`: it does, or nothing is wrong yet.
pub(super) fn obstacle(pod: &Json) -> Option<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_string();
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let unscheduled = conditions
        .filter(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")
        .map(|condition| text(&condition["message"]));
    let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let waiting = containers.filter_map(|container| {
        let waiting = &container["state"]["waiting"];
        let reason = waiting["reason"].as_str()?;
        if matches!(reason, "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let last = container["lastState"]["terminated"]["exitCode"].as_i64();
        let last = last.map_or_else(String::new, |code| format!(", last exit status {code}"));
        Some(format!("{reason}{last}: {}", text(&waiting["message"])))
    });
    unscheduled.chain(waiting).next().map(|why| format!("{name}: {why}"))
}

/// Waits until all parts are ready, and says each change.
pub(super) async fn wait(
    cluster: &Cluster,
    objects: &[Object],
    time_max: Duration,
) -> Result<(), Failure> {
    let clock = WallClock;
    let since_ns = clock.monotonic_ns();
    let is_part = |object: &&Object| matches!(object.kind, "DaemonSet" | "StatefulSet");
    let parts: Vec<&Object> = objects.iter().filter(is_part).collect();
    let mut said: Vec<String> = vec![String::new(); parts.len()];
    let (mut told, mut failures) = (Vec::new(), 0);
    loop {
        let looked = look(cluster, &parts).await;
        match looked {
            Ok(found) => {
                failures = 0;
                for (idx, progress) in found.iter().enumerate() {
                    if said[idx] != progress.text {
                        said[idx].clone_from(&progress.text);
                        output::note(&format!("{}: {}", parts[idx].title(), progress.text));
                    }
                }
                if found.iter().all(|progress| progress.is_done) {
                    return Ok(());
                }
            }
            Err(Failure::Unreachable(_)) if failures < FAILURES_MAX => failures += 1,
            Err(failure) => return Err(failure),
        }
        for reason in obstacles(cluster).await {
            if !told.contains(&reason) {
                output::note(&format!("  {reason}"));
                told.push(reason);
            }
        }
        let waited = Duration::from_nanos(clock.monotonic_ns().saturating_sub(since_ns));
        if waited >= time_max {
            return Err(late(cluster, &parts, &said, time_max).await);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(cluster: &Cluster, parts: &[&Object]) -> Result<Vec<Progress>, Failure> {
    let mut found = Vec::new();
    for part in parts {
        let api = apply::api(cluster, part.known(), part.namespace.as_deref());
        let object = api.get(&part.name).await.map_err(|error| {
            access::failure(&cluster.server, &format!("look at {}", part.title()), &error)
        })?;
        let json = serde_json::to_value(&object).unwrap_or_default();
        found.push(progress(part.kind, &json));
    }
    Ok(found)
}

/// What pods say; nothing if they may not be looked at.
async fn obstacles(cluster: &Cluster) -> Vec<String> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let params = ListParams::default().labels("app.kubernetes.io/name=weir").limit(LIST_MAX);
    let pods = api.list(&params).await.map_or_else(|_| Vec::new(), |list| list.items);
    let pods = pods.iter().filter_map(|pod| obstacle(&serde_json::to_value(pod).ok()?));
    pods.take(REASONS_MAX).collect()
}

/// It took too long: what is missing, and what Kubernetes warns of.
async fn late(
    cluster: &Cluster,
    parts: &[&Object],
    said: &[String],
    time_max: Duration,
) -> Failure {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let params = ListParams::default().fields("type=Warning").limit(LIST_MAX);
    let events = api.list(&params).await.map_or_else(|_| Vec::new(), |list| list.items);
    let mut lines: Vec<String> =
        parts.iter().zip(said).map(|(part, text)| format!("{}: {text}", part.title())).collect();
    for event in events.iter().rev() {
        let about = event.involved_object.name.as_deref().unwrap_or_default();
        let text = event.message.as_deref().unwrap_or_default();
        let line = format!("{about}: {text}");
        if !lines.contains(&line) && lines.len() < parts.len() + REASONS_MAX {
            lines.push(line);
        }
    }
    Failure::No(format!(
        "not all parts were ready within {} s (--timeout); they are applied, and Kubernetes goes on:\n  {}\n\
         `kubectl -n {} get pods` shows them",
        time_max.as_secs(),
        lines.join("\n  "),
        cluster.namespace
    ))
}
