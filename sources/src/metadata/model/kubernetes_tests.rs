//! Tests of what Kubernetes does to the model: whatever comes first, processes and pods find each other, and what
//! both sides have names for is right before, between and after.

use serde_json::{Value as Json, json};
use weir_types::metadata::MetadataSnapshot;

use super::*;
use crate::metadata::k8s::objects::{Kind, Object};
use crate::metadata::k8s::{Change, list};
use crate::metadata::reader::Answer;
use crate::metadata::{Found, Machine};

const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn model() -> Model {
    Model::new(Machine { asid: 7, ..Machine::default() }, Some(std::time::Duration::from_secs(60)))
}

fn upid(pid: u32) -> Upid {
    Upid::new(7, pid, 5)
}

/// A process that was read.
fn read(model: &mut Model, pid: u32, service: &str, container_id: &str) {
    let info = ProcessInfo {
        upid: upid(pid),
        cmdline: "server".to_string(),
        exe: "/bin/server".to_string(),
        executable: "server".to_string(),
        service: service.to_string(),
        namespace: "system".to_string(),
        container: if container_id.is_empty() { String::new() } else { "c".to_string() },
        container_id: container_id.to_string(),
        ..ProcessInfo::default()
    };
    model.found(Found::Answer(Answer::Process { version: u64::MAX, info: Box::new(info) }));
}

fn object(kind: &str, name: &str, rest: &Json) -> Change {
    let mut object = json!({"kind": kind, "metadata": {"name": name, "namespace": "system", "uid": name,
        "creationTimestamp": "2026-01-01T00:00:00Z"}});
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    Change::Put(Box::new(list::read(&object.to_string()).unwrap().remove(0)))
}

fn pod(name: &str, container_id: &str) -> Change {
    let status = json!({"name": "c", "containerID": format!("containerd://{container_id}"),
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}});
    object(
        "Pod",
        name,
        &json!({"status": {"phase": "Running", "podIP": "10.0.0.1",
        "containerStatuses": [status]}}),
    )
}

fn tell(model: &mut Model, changes: Vec<Change>) {
    model.found(Found::Kubernetes(changes));
    model.link_kubernetes();
}

fn entities(snapshot: &MetadataSnapshot) -> Vec<String> {
    let mut all: Vec<String> = snapshot.entities().map(|one| format!("{one:?}")).collect();
    all.sort();
    all
}

/// In whatever order they become known, a process has the pod of its container and stands for none itself; and what
/// was touched, applied elsewhere, makes the same.
#[test]
fn processes_and_pods_find_each_other() {
    let mut seen = Vec::new();
    for process_first in [true, false] {
        let mut model = model();
        let mut there = model.take_changed().unwrap().0.as_ref().clone();
        for step in 0..2 {
            if process_first == (step == 0) {
                read(&mut model, 10, "web", CONTAINER);
                read(&mut model, 11, "cron", "");
            } else {
                tell(
                    &mut model,
                    vec![pod("p", CONTAINER), object("Namespace", "system", &json!({}))],
                );
            }
            if let Some((snapshot, touched)) = model.take_changed() {
                touched.iter().for_each(|key| there.apply(snapshot.entity(key)));
                assert_eq!(entities(&there), entities(&snapshot));
            }
        }
        assert_eq!(there.pod_of(upid(10)).unwrap().name, "system/p");
        assert_eq!(there.pod_of(upid(11)).unwrap().name, "system/server-11");
        assert_eq!(there.containers[CONTAINER].pod_id, "p");
        assert!(!there.service_names.contains_key("system/web"));
        assert_eq!(there.service_names["system/cron"], "local-service-system/cron");
        assert_eq!(there.namespaces["system"].id, "system");
        assert_eq!(there.pod_names.len(), 2);
        seen.push(entities(&there));
    }
    assert_eq!(seen[0], seen[1]);
}

/// Until the pod's state names the container, its control group says whose a process is; what only holds the pod's
/// namespaces is nobody's.
#[test]
fn a_pod_is_known_before_its_container() {
    let mut model = model();
    let tell_of = |model: &mut Model, pid: u32, executable: &str| {
        let info = ProcessInfo {
            upid: upid(pid),
            exe: "/x".to_string(),
            executable: executable.to_string(),
            container: "c".to_string(),
            container_id: format!("{CONTAINER}{pid}"),
            pod_uid: "p".to_string(),
            ..ProcessInfo::default()
        };
        model.found(Found::Answer(Answer::Process { version: u64::MAX, info: Box::new(info) }));
    };
    tell_of(&mut model, 10, "server");
    tell_of(&mut model, 11, "pause");
    tell(&mut model, vec![object("Pod", "p", &json!({}))]);
    tell_of(&mut model, 12, "server");
    let pods =
        |model: &Model| [10, 11, 12].map(|pid| model.snapshot.processes[&upid(pid)].pod_id.clone());
    assert_eq!(pods(&model), ["p", "local-11-5", "p"]);
    tell(&mut model, vec![pod("p", &format!("{CONTAINER}10"))]);
    assert_eq!(pods(&model), ["p", "local-11-5", "p"]);
    assert_eq!(model.snapshot.pods.len(), 2);
}

/// What is gone is kept as long as rows are; then the process stands for itself again, and nothing of the pod is
/// left. Its end, and its being read again, change nothing of whose it is.
#[test]
fn pods_go_when_rows_do() {
    let mut model = model();
    model.second(0);
    read(&mut model, 10, "web", CONTAINER);
    let alone = entities(&model.take_changed().unwrap().0);
    tell(&mut model, vec![pod("p", CONTAINER)]);
    model.second(SEC_NS);
    tell(&mut model, vec![Change::Listed(Kind::Pod, BTreeSet::new())]);
    let gone = model.take_changed().unwrap().0;
    assert_eq!(gone.pod_of(upid(10)).unwrap().phase, "Terminated");
    assert!(gone.pod_by_ip("10.0.0.1", None).is_none());
    for second in 2..=61 {
        model.second(second * SEC_NS);
        model.link_kubernetes();
        assert_eq!(model.snapshot.processes[&upid(10)].pod_id, "p", "{second}");
    }
    model.second(63 * SEC_NS);
    model.link_kubernetes();
    assert_eq!(entities(&model.take_changed().unwrap().0), alone);
    read(&mut model, 12, "web", "");
    model.end(upid(12));
    assert!(model.snapshot.processes[&upid(12)].ended);
}

/// A name that Kubernetes has, too, is Kubernetes' while it has it, whatever processes come and go; then it is the
/// process's again.
#[test]
fn names_of_both() {
    let mut model = model();
    model.second(0);
    read(&mut model, 10, "web", "");
    let namespace = object("Namespace", "system", &json!({}));
    let changes = vec![
        namespace,
        object("Service", "web", &json!({})),
        object("Pod", "server-10", &json!({})),
    ];
    tell(&mut model, changes);
    let check = |model: &mut Model, service: &str, pod: &str| {
        let snapshot = model.take_changed().unwrap().0;
        assert_eq!(snapshot.service_names["system/web"], service);
        assert_eq!(snapshot.pod_names["system/server-10"], pod);
        assert!(snapshot.namespaces.contains_key("system"));
    };
    check(&mut model, "web", "server-10");
    model.end(upid(10));
    read(&mut model, 11, "web", "");
    check(&mut model, "web", "server-10");
    model.end(upid(11));
    (0..2).for_each(|_| model.forget_oldest());
    check(&mut model, "web", "server-10");
    read(&mut model, 10, "web", "");
    for kind in [Kind::Namespace, Kind::Service, Kind::Pod] {
        tell(&mut model, vec![Change::Listed(kind, BTreeSet::new())]);
    }
    (1..63).for_each(|second| model.second(second * SEC_NS));
    model.link_kubernetes();
    check(&mut model, "local-service-system/web", "local-10-5");
}

/// A pod that ends leaves its services' endpoints first: what it served before is still said of it.
#[test]
fn an_ending_pod_keeps_its_services() {
    let mut model = model();
    model.second(SEC_NS);
    let slice = |endpoints: Json| {
        object(
            "EndpointSlice",
            "s-1",
            &json!({"apiVersion": "discovery.k8s.io/v1", "endpoints": endpoints,
            "metadata": {"name": "s-1", "namespace": "system", "labels": {"kubernetes.io/service-name": "s"}}}),
        )
    };
    let target = json!([{"targetRef": {"kind": "Pod", "name": "p", "uid": "p"}}]);
    tell(&mut model, vec![object("Service", "s", &json!({})), pod("p", CONTAINER), slice(target)]);
    assert_eq!(model.snapshot.pods["p"].service_ids, ["s"]);
    let mut ending = pod("p", CONTAINER);
    if let Change::Put(object) = &mut ending
        && let Object::Pod(pod) = object.as_mut()
    {
        pod.metadata.deletion_timestamp.0 = 5;
    }
    tell(&mut model, vec![ending, slice(Json::Null)]);
    assert_eq!(model.snapshot.pods["p"].service_ids, ["s"]);
    tell(&mut model, vec![Change::Gone(Kind::Pod, "p".to_string())]);
    assert_eq!(model.snapshot.pods["p"].service_ids, ["s"]);
    // One that lives and is not ready serves nothing.
    tell(&mut model, vec![pod("q", "other")]);
    assert!(model.snapshot.pods["q"].service_ids.is_empty());
}
