//! What the store keeps and how it links, where the order of objects or their age matters. What
//! each function answers over a realistic list is tested end to end (`dataflow-tests`).

use serde_json::{Value as Json, json};

use super::*;

fn store(objects: &[Json]) -> Store {
    let text = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let mut store = Store::default();
    list::read(&text).unwrap().into_iter().for_each(|object| store.put(object));
    store
}

fn object(kind: &str, name: &str, uid: &str, minute: u32, rest: &Json) -> Json {
    let mut object = json!({
        "kind": kind,
        "metadata": {"name": name, "namespace": "ns", "uid": uid,
            "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")},
    });
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

/// In whatever order objects come, the one made last has the name and the address. Catches "the
/// last one in the file".
#[test]
fn the_youngest_has_name_and_address() {
    let status = json!({"status": {"podIP": "10.0.0.1", "hostIP": "10.9.9.9"}});
    let old = object("Pod", "p", "old", 1, &status);
    let young = object("Pod", "p", "young", 2, &status);
    for objects in [[old.clone(), young.clone()], [young, old]] {
        let snapshot = store(&objects).snapshot();
        assert_eq!(snapshot.pod_names["ns/p"], "young");
        assert_eq!(snapshot.pod_by_ip("10.0.0.1", None).unwrap().id, "young");
        let between = snapshot.pods["old"].start_unix_ns + 1;
        assert_eq!(snapshot.pod_by_ip("10.0.0.1", Some(between)).unwrap().id, "old");
        assert!(snapshot.pod_by_ip("10.0.0.1", Some(0)).is_none());
    }
}

/// A newer state of an object takes the place of the older one.
#[test]
fn states_replace_each_other() {
    let phase = |phase: &str| object("Pod", "p", "u", 1, &json!({"status": {"phase": phase}}));
    let mut store = store(&[phase("Pending")]);
    let running = list::read(&phase("Running").to_string()).unwrap();
    running.into_iter().for_each(|object| store.put(object));
    let snapshot = store.snapshot();
    assert_eq!(snapshot.pods.len(), 1);
    assert_eq!(snapshot.pods["u"].phase, "Running");
}

/// Endpoints lead to pods by uid, else by name in their own namespace; addresses that are no pods,
/// not ready, or of a service that is not there, lead nowhere.
#[test]
fn endpoints_link_services() {
    let address = |target: Json| json!({"ip": "10.0.0.1", "targetRef": target});
    let subsets = json!({"subsets": [
        {"addresses": [
            address(json!({"kind": "Pod", "name": "by-name"})),
            address(json!({"kind": "Pod", "name": "x", "namespace": "ns", "uid": "by-uid"})),
            address(json!({"kind": "Node", "name": "other"})),
            {"ip": "192.0.2.1"}],
         "notReadyAddresses": [address(json!({"kind": "Pod", "name": "other"}))]},
        {"addresses": [address(json!({"kind": "Pod", "name": "by-name"}))]}]});
    let objects = [
        object("Endpoints", "s", "e1", 1, &subsets),
        object("Endpoints", "gone", "e2", 1, &subsets),
        object("Pod", "by-name", "by-name-uid", 1, &json!({})),
        object("Pod", "renamed", "by-uid", 1, &json!({})),
        object("Pod", "other", "other-uid", 1, &json!({})),
        object("Service", "s", "svc", 1, &json!({})),
    ];
    let snapshot = store(&objects).snapshot();
    let services = |pod: &str| snapshot.pods[pod].service_ids.clone();
    assert_eq!(services("by-name-uid"), ["svc"]);
    assert_eq!(services("by-uid"), ["svc"]);
    assert!(services("other-uid").is_empty());
}

/// Pods on the host's network share its address and are found by none; a second family counts.
#[test]
fn host_network_is_not_indexed() {
    let pod = |name: &str, spec: Json, status: Json| {
        object("Pod", name, name, 1, &json!({"spec": spec, "status": status}))
    };
    let host = "192.0.2.1";
    let snapshot = store(&[
        pod("same", json!({}), json!({"podIP": host, "hostIP": host})),
        pod("flag", json!({"hostNetwork": true}), json!({"podIP": "192.0.2.2", "hostIP": host})),
        pod(
            "own",
            json!({}),
            json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "hostIP": host}),
        ),
        pod("none", json!({}), json!({})),
    ])
    .snapshot();
    let mut ips: Vec<&String> = snapshot.pod_ips.keys().collect();
    ips.sort();
    assert_eq!(ips, ["10.0.0.1", "fd00::1"]);
    assert_eq!(snapshot.pod_ips["10.0.0.1"].len(), 1);
}

/// CPUs are whole numbers, rounded up from a fraction.
#[test]
fn quantities() {
    for (cpu, want) in [(json!("4"), 4), (json!("3920m"), 4), (json!("0.5"), 1), (json!(16), 16)] {
        let node = json!({"status": {"capacity": {"cpu": cpu}}});
        assert_eq!(store(&[object("Node", "n", "u", 1, &node)]).node_num_cpus("n"), want, "{cpu}");
    }
    assert_eq!(Store::default().node_num_cpus("n"), 0);
}
