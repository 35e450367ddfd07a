//! The manifests themselves: Kubernetes' own types take every member of them, what they start is what this binary
//! takes, and they ask for no right that nothing needs. What a real API server says is in `server_tests`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::manifests::{KINDS, Object, objects};
use super::rollout::{obstacle, progress};
use super::*;
use crate::args::{Cli, Command as Subcommand, Preset};
use crate::units::parse_bytes;

pub(super) const PRESETS: [Preset; 3] = [Preset::S, Preset::M, Preset::L];

fn all(preset: Preset) -> Vec<Object> {
    objects(preset, "weir", IMAGE).unwrap()
}

pub(super) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn find(objects: &[Object], kind: &str, name: &str) -> Json {
    let found = objects.iter().find(|object| object.kind == kind && object.name == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}")).json.clone()
}

/// Through a type and back. What the type does not know is not there afterwards.
fn typed<T: DeserializeOwned + Serialize>(json: &Json) -> Result<Json, String> {
    let value: T = serde_json::from_value(json.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}

pub(super) fn through_its_type(json: &Json) -> Result<Json, String> {
    match json["kind"].as_str().unwrap_or_default() {
        "Namespace" => typed::<Namespace>(json),
        "PriorityClass" => typed::<PriorityClass>(json),
        "ServiceAccount" => typed::<ServiceAccount>(json),
        "ClusterRole" => typed::<ClusterRole>(json),
        "ClusterRoleBinding" => typed::<ClusterRoleBinding>(json),
        "NetworkPolicy" => typed::<NetworkPolicy>(json),
        "ConfigMap" => typed::<ConfigMap>(json),
        "Service" => typed::<Service>(json),
        "StatefulSet" => typed::<StatefulSet>(json),
        "DaemonSet" => typed::<DaemonSet>(json),
        other => Err(format!("no type for {other}")),
    }
}

/// What is in `json` and not in `back`.
pub(super) fn lost(json: &Json, back: &Json, at: &str, found: &mut Vec<String>) {
    match (json, back) {
        (Json::Object(members), Json::Object(others)) => {
            for (name, value) in members {
                match others.get(name) {
                    Some(other) => lost(value, other, &format!("{at}.{name}"), found),
                    None => found.push(format!("{at}.{name}")),
                }
            }
        }
        (Json::Array(items), Json::Array(others)) if items.len() == others.len() => {
            for (idx, (item, other)) in items.iter().zip(others).enumerate() {
                lost(item, other, &format!("{at}[{idx}]"), found);
            }
        }
        _ if json == back => {}
        _ => found.push(format!("{at}: {json} is not {back}")),
    }
}

/// Catches a misspelt member, one in a wrong place and one of a wrong type, in every document of every preset.
#[test]
fn kubernetes_types_take_all_of_it() {
    for preset in PRESETS {
        let objects = all(preset);
        assert!(objects.len() >= 14, "{}", objects.len());
        for object in &objects {
            let mut found = Vec::new();
            match through_its_type(&object.json) {
                Ok(back) => lost(&object.json, &back, "$", &mut found),
                Err(error) => found.push(error),
            }
            assert!(found.is_empty(), "{preset:?} {}: {found:?}", object.title());
        }
    }
    // The check itself: a misspelt member is found.
    let mut wrong = all(Preset::S).into_iter().find(|object| object.kind == "DaemonSet").unwrap();
    wrong.json["spec"]["template"]["spec"]["hostPid"] = json!(true);
    let (back, mut found) = (through_its_type(&wrong.json).unwrap(), Vec::new());
    lost(&wrong.json, &back, "$", &mut found);
    assert_eq!(found, ["$.spec.template.spec.hostPid"]);
}

fn texts(json: &Json) -> Vec<String> {
    let all = json.as_array().into_iter().flatten().filter_map(Json::as_str);
    all.map(str::to_string).collect()
}

/// The containers of a part, each with all that it starts: itself, and its probes.
pub(super) fn containers(part: &Json) -> Vec<(Json, Vec<Vec<String>>)> {
    let containers = part["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let started = |container: &Json| {
        let mut lines = vec![[texts(&container["command"]), texts(&container["args"])].concat()];
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            lines.push(texts(&container[probe]["exec"]["command"]));
        }
        lines.retain(|line| !line.is_empty());
        lines
    };
    containers.iter().map(|container| (container.clone(), started(container))).collect()
}

/// This binary takes the commands of the containers and of their probes, and they mean what they should: catches a
/// flag that was renamed, a probe of something else, and an address that would be refused.
#[test]
fn the_command_line_takes_what_is_started() {
    for preset in PRESETS {
        let objects = all(preset);
        for (kind, name) in [("DaemonSet", "weir-node"), ("StatefulSet", "weir-cluster")] {
            let part = find(&objects, kind, name);
            let [(container, lines)] = <[_; 1]>::try_from(containers(&part)).unwrap();
            assert_eq!(container["image"], IMAGE);
            assert_eq!(lines.len(), 4, "{name}: itself and three probes");
            for (idx, line) in lines.iter().enumerate() {
                assert_eq!(line[0], "/usr/local/bin/weir");
                let parsed = Cli::try_parse_from(line);
                match (
                    idx,
                    name,
                    parsed.unwrap_or_else(|error| panic!("{line:?}: {error}")).command,
                ) {
                    (0, "weir-node", Subcommand::Node(args)) => {
                        assert_eq!(args.bus.bus, "nats://weir-nats:4222");
                        let limit = &container["resources"]["limits"]["memory"];
                        let limit = limit.as_str().unwrap().replace("i", "iB");
                        assert!(args.capture.history_bytes * 5 / 2 <= parse_bytes(&limit).unwrap());
                    }
                    (0, "weir-cluster", Subcommand::Cluster(args)) => {
                        // Elsewhere everybody might come in, or nobody: it would be refused.
                        assert_eq!(args.serve.listen, "127.0.0.1:7070");
                        assert!(args.serve.token_file.is_some() && !args.serve.insecure_no_auth);
                    }
                    (1.., _, Subcommand::Probe(args)) => {
                        assert_eq!(args.node, name == "weir-node", "{line:?}");
                    }
                    (_, _, other) => panic!("{line:?}: {other:?}"),
                }
            }
            let environment = container["env"].as_array().unwrap();
            assert!(environment.iter().any(|variable| variable["name"] == "WEIR_DATA_DIR"));
            let has_name = environment.iter().any(|variable| {
                variable["name"] == "NODE_NAME"
                    && variable["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
            });
            assert_eq!(has_name, kind == "DaemonSet");
        }
        let [(nats, _)] =
            containers(&find(&objects, "StatefulSet", "weir-nats")).try_into().unwrap();
        assert!(nats["readinessProbe"]["tcpSocket"]["port"] == "nats" && nats["image"].is_string());
    }
}

/// Nodes have the rights that capture needs and no others; the rest has none, and nobody is root but they.
#[test]
fn rights_are_few() {
    let objects = all(Preset::M);
    let node = find(&objects, "DaemonSet", "weir-node");
    let pod = &node["spec"]["template"]["spec"];
    let security = &pod["containers"][0]["securityContext"];
    assert_eq!(
        security["capabilities"],
        json!({"drop": ["ALL"], "add": ["BPF", "PERFMON", "DAC_READ_SEARCH", "SYS_PTRACE"]})
    );
    assert!(security["privileged"].is_null() && security["allowPrivilegeEscalation"] == false);
    assert!(pod["hostPID"] == true && pod["hostNetwork"].is_null() && pod["hostIPC"].is_null());
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    let class = find(&objects, "PriorityClass", "weir-weir");
    assert_eq!(
        (&pod["priorityClassName"], &class["value"]),
        (&json!("weir-weir"), &json!(1_000_000))
    );
    let hosts = pod["volumes"].as_array().unwrap().iter();
    let hosts: Vec<&Json> =
        hosts.map(|volume| &volume["hostPath"]["path"]).filter(|path| !path.is_null()).collect();
    assert_eq!(hosts, ["/sys/kernel/tracing", "/var/lib/weir/weir"]);
    for name in ["weir-cluster", "weir-nats"] {
        let pod = &find(&objects, "StatefulSet", name)["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let security = &pod["containers"][0]["securityContext"];
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
        assert!(pod["hostPID"].is_null() && security["readOnlyRootFilesystem"] == true);
    }
    assert_eq!(objects.iter().filter(|object| object.kind == "NetworkPolicy").count(), 3);
}

/// The role that we give away is what is watched, in both directions: catches a kind that nobody may read, and a right
/// that nobody needs.
#[test]
fn the_role_is_what_is_watched() {
    let role = find(&all(Preset::M), "ClusterRole", "weir:weir");
    let mut found = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        assert_eq!(rule["verbs"], json!(["get", "list", "watch"]));
        for (group, resource) in texts(&rule["apiGroups"]).iter().flat_map(|group| {
            texts(&rule["resources"]).into_iter().map(move |one| (group.clone(), one))
        }) {
            found.insert(format!("{group}/{resource}"));
        }
    }
    let watched = weir_sources::k8s::WATCHED.iter();
    let watched: BTreeSet<String> =
        watched.map(|one| format!("{}/{}", one.group, one.plural)).collect();
    assert_eq!(found, watched);
}

/// Two namespaces share nothing: catches one that takes over, or deletes, what is the other's.
#[test]
fn namespaces_are_apart() {
    let (ours, theirs) = (all(Preset::S), objects(Preset::S, "a-b", "r.example/weir:9").unwrap());
    for (one, other) in ours.iter().zip(&theirs) {
        assert_eq!(one.kind, other.kind);
        assert!(one.namespace != other.namespace || one.name != other.name, "{}", one.title());
        assert!(
            !other.json.to_string().contains(IMAGE)
                && !other.json.to_string().contains("weir:weir")
        );
    }
    let binding = find(&theirs, "ClusterRoleBinding", "weir:a-b");
    assert_eq!(binding["roleRef"]["name"], "weir:a-b");
    assert!(binding["subjects"].as_array().unwrap().iter().all(|one| one["namespace"] == "a-b"));
    let node = find(&theirs, "DaemonSet", "weir-node");
    assert_eq!(node["spec"]["template"]["spec"]["containers"][0]["image"], "r.example/weir:9");
    // The order in which each finds what it needs.
    let order = |kind: &str| KINDS.iter().position(|known| known.name == kind).unwrap();
    assert!(theirs.is_sorted_by_key(|object| order(object.kind)));
}

/// Presets grow, and the page that tells of them tells what they are.
#[test]
fn presets_are_as_documented() {
    let page = root().join("docs/howto/deploy-on-kubernetes.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut before = vec![0; 3];
    for (preset, name) in PRESETS.into_iter().zip(["s", "m", "l"]) {
        let objects = all(preset);
        let mut limits = Vec::new();
        for (kind, part) in [
            ("DaemonSet", "weir-node"),
            ("StatefulSet", "weir-cluster"),
            ("StatefulSet", "weir-nats"),
        ] {
            let part_of = part.trim_start_matches("weir-");
            let container = &containers(&find(&objects, kind, part))[0].0;
            let limit = |what: &str, which: &str| {
                let text = container["resources"][what][which].as_str();
                text.unwrap_or_else(|| panic!("{part}: no {what} of {which}")).to_string()
            };
            let row = format!(
                "| {name} | {part_of} | {} / {} | {} / {} |",
                limit("requests", "cpu"),
                limit("limits", "cpu"),
                limit("requests", "memory"),
                limit("limits", "memory")
            );
            assert!(page.contains(&row), "the page lacks: {row}");
            limits.push(parse_bytes(&limit("limits", "memory").replace('i', "iB")).unwrap());
        }
        assert!(limits.iter().zip(&before).all(|(now, then)| now > then), "{limits:?}");
        before = limits;
    }
    let chart = std::fs::read_to_string(root().join("deploy/chart/weir/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(chart.contains(&format!("\nversion: {version}\nappVersion: {version}\n")));
}

/// What was rendered is of the chart as it is: `scripts/helm render` writes both, and the sums. Works without helm.
#[test]
fn rendered_manifests_are_of_this_chart() {
    let deploy = root().join("deploy");
    let sums = std::fs::read_to_string(deploy.join("manifests/sums")).unwrap();
    let command = ["--check", "--quiet", "--strict", "manifests/sums"];
    let checked = Command::new("sha256sum").args(command).current_dir(&deploy).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "run `scripts/helm render`: {said}");
    let mut listed: Vec<&str> = sums.lines().filter_map(|line| line.split("  ").nth(1)).collect();
    listed.sort_unstable();
    let mut there = Vec::new();
    let mut folders = vec![deploy.join("chart"), deploy.join("manifests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => there.push(path.strip_prefix(&deploy).unwrap().display().to_string()),
            }
        }
    }
    there.retain(|path| path != "manifests/sums");
    there.sort();
    assert_eq!(listed, there);
}

/// Progress is said of what was seen last, and a part is ready only when all of its new pods are.
#[test]
fn progress_of_parts() {
    let set = |status: Json| json!({"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": status});
    let of = |kind: &str, status: Json| progress(kind, &set(status));
    assert!(!of("DaemonSet", json!({})).is_done);
    let old = json!({"observedGeneration": 1, "desiredNumberScheduled": 5, "updatedNumberScheduled": 5, "numberReady": 5});
    assert!(!of("DaemonSet", old).is_done);
    let some = json!({"observedGeneration": 2, "desiredNumberScheduled": 5, "updatedNumberScheduled": 5, "numberReady": 3});
    assert_eq!(of("DaemonSet", some).text, "3 of 5 nodes ready");
    let rolling = json!({"observedGeneration": 2, "desiredNumberScheduled": 5, "updatedNumberScheduled": 2, "numberReady": 5});
    let rolling = of("DaemonSet", rolling);
    assert_eq!(
        (rolling.text.as_str(), rolling.is_done),
        ("5 of 5 nodes ready, 2 of this version", false)
    );
    let done = json!({"observedGeneration": 2, "desiredNumberScheduled": 5, "updatedNumberScheduled": 5, "numberReady": 5});
    assert!(of("DaemonSet", done).is_done);
    assert!(!of("StatefulSet", json!({"observedGeneration": 2, "updatedReplicas": 1})).is_done);
    let done = json!({"observedGeneration": 2, "updatedReplicas": 1, "readyReplicas": 1});
    assert_eq!(
        of("StatefulSet", done),
        super::rollout::Progress { text: "1 of 1 pods ready".into(), is_done: true }
    );
}

/// Why a pod does not run is said by its own words; one that only starts has nothing to say.
#[test]
fn obstacles_of_pods() {
    let pod = |status: Json| json!({"metadata": {"name": "p"}, "status": status});
    let waiting = |reason: &str| {
        pod(json!({"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "m"}},
            "lastState": {"terminated": {"exitCode": 2}}}]}))
    };
    assert_eq!(obstacle(&waiting("ContainerCreating")), None);
    let said = obstacle(&waiting("CrashLoopBackOff")).unwrap();
    assert_eq!(said, "p: CrashLoopBackOff, last exit status 2: m");
    let full = pod(
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]}),
    );
    assert_eq!(obstacle(&full).unwrap(), "p: no room");
    assert_eq!(obstacle(&json!({})), None);
}
