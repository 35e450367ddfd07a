//! What the store keeps and how it links, where the order of objects or their age matters. What
//! each function answers over a realistic list is tested end to end (`dataflow-tests`).

use serde_json::{Value as Json, json};
use weir_types::metadata::MetadataSnapshot;

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

/// A service's endpoints are those of all its slices, whatever family they are of; `null` endpoints are none;
/// what is not ready has no part in it, unless it ends and still answers.
#[test]
fn slices_link_services() {
    let slice = |name: &str, service: &str, endpoints: Json| {
        let labels = json!({"kubernetes.io/service-name": service});
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints})
    };
    let endpoint = |pod: &str, conditions: Json| {
        let target = json!({"kind": "Pod", "namespace": "ns", "name": pod, "uid": pod});
        json!({"addresses": ["10.0.0.1"], "conditions": conditions, "targetRef": target})
    };
    let pods = ["a", "b", "unready", "ending", "other"];
    let mut objects: Vec<Json> =
        pods.iter().map(|name| object("Pod", name, name, 1, &json!({}))).collect();
    objects.extend([
        object("Service", "s", "svc", 1, &json!({})),
        object("Service", "empty", "none", 1, &json!({})),
        slice(
            "s-1",
            "s",
            json!([
                endpoint("a", json!({"ready": true})),
                endpoint("unready", json!({"ready": false, "serving": false}))
            ]),
        ),
        slice(
            "s-2",
            "s",
            json!([endpoint("b", json!({"ready": null})), endpoint("a", json!({})),
            endpoint("ending", json!({"ready": false, "serving": true, "terminating": true})),
            {"addresses": ["192.0.2.1"]}]),
        ),
        slice("empty-1", "empty", Json::Null),
        slice("gone-1", "gone", json!([endpoint("other", json!({}))])),
    ]);
    let mut store = store(&objects);
    let services = |store: &Store, pod: &str| store.snapshot().pods[pod].service_ids.join(",");
    let all = |store: &Store| pods.map(|pod| services(store, pod));
    assert_eq!(all(&store), ["svc", "svc", "", "svc", ""]);
    // An endpoint moves to another slice, and a slice goes.
    let read = |json: Json| Box::new(list::read(&json.to_string()).unwrap().remove(0));
    store.apply(Change::Put(read(slice("s-2", "s", Json::Null))), 1);
    assert_eq!(all(&store), ["svc", "", "", "", ""]);
    store.apply(Change::Put(read(slice("s-1", "s", json!([endpoint("other", json!({}))])))), 2);
    assert_eq!(all(&store), ["", "", "", "", "svc"]);
    store.apply(Change::Gone(Kind::EndpointSlice, "ns/s-1".to_string()), 3);
    assert_eq!(all(&store), [""; 5]);
}

fn minute(minute: i64) -> i64 {
    weir_types::json::parse_time("2026-01-01T00:00:00Z").unwrap() + minute * 60_000_000_000
}

fn with_address(name: &str, made: u32, status: Json) -> Json {
    let mut all = json!({"podIP": "10.0.0.1", "hostIP": "10.9.9.9", "phase": "Running"});
    all.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    object("Pod", name, name, made, &json!({"status": all}))
}

fn finished(phase: &str, minute: u32) -> Json {
    let at = format!("2026-01-01T00:{minute:02}:00Z");
    let state = json!({"terminated": {"finishedAt": at}});
    json!({"phase": phase, "containerStatuses": [{"name": "c", "containerID": "x://1", "state": state}]})
}

/// A pod that has ended has no address any more, whoever was made first: catches an address that stays with a job
/// that is over, and one that a waiting pod is said to have had before it got it.
#[test]
fn an_ended_pod_gives_its_address_back() {
    let job = with_address("job", 20, finished("Succeeded", 30));
    let alone = store(std::slice::from_ref(&job)).snapshot();
    let at = |snapshot: &MetadataSnapshot, time: i64| {
        let pod = snapshot.pod_by_ip("10.0.0.1", Some(minute(time)));
        pod.map(|pod| pod.id.clone()).unwrap_or_default()
    };
    assert_eq!([at(&alone, 19), at(&alone, 25), at(&alone, 31)], ["", "job", ""]);
    assert!(alone.pod_by_ip("10.0.0.1", None).is_none());
    // It waited since before the job was made.
    let waiting = with_address("waiting", 10, json!({}));
    let both = store(&[job.clone(), waiting]).snapshot();
    assert_eq!([at(&both, 15), at(&both, 25), at(&both, 31)], ["", "job", "waiting"]);
    assert_eq!(both.pod_by_ip("10.0.0.1", None).unwrap().id, "waiting");
    let later = with_address("later", 40, finished("Failed", 50));
    let gap = store(&[later, job]).snapshot();
    let times = [25, 35, 45, 55].map(|time| at(&gap, time));
    assert_eq!(times, ["job", "", "later", ""]);
    // It was refused before it ran.
    let refused = store(&[with_address("refused", 5, json!({"phase": "Failed"}))]).snapshot();
    assert_eq!(at(&refused, 6), "");
}

/// What is gone is there until it is forgotten, with the time; its address is free, its name too once somebody
/// else has it; what a new list lacks is gone. Nothing of it stays after that.
#[test]
fn what_is_gone_is_kept_for_a_while() {
    let read = |json: &Json| Box::new(list::read(&json.to_string()).unwrap().remove(0));
    let pod = with_address("p", 1, json!({}));
    let workload = |kind: &str| {
        let mut json = object(kind, "w", kind, 1, &json!({}));
        json["apiVersion"] = json!("apps/v1");
        json
    };
    let mut store = store(&[
        pod.clone(),
        with_address("q", 1, json!({"podIP": "10.0.0.2"})),
        workload("ReplicaSet"),
        workload("Deployment"),
        object("Service", "s", "s", 1, &json!({"spec": {"clusterIP": "10.1.0.1"}})),
        object("Node", "n", "n", 1, &json!({"spec": {"podCIDR": "10.0.0.0/24"}})),
        object("Namespace", "ns", "ns", 1, &json!({})),
    ]);
    store.apply(Change::Gone(Kind::Pod, "p".to_string()), minute(9));
    store.apply(Change::Gone(Kind::Pod, "never there".to_string()), minute(9));
    let listed = |kind: Kind| Change::Listed(kind, BTreeSet::new());
    for kind in [Kind::Service, Kind::ReplicaSet, Kind::Deployment, Kind::Namespace, Kind::Node] {
        store.apply(listed(kind), minute(10));
    }
    store.apply(Change::Listed(Kind::Pod, BTreeSet::from(["q".to_string()])), minute(11));
    let snapshot = store.snapshot();
    assert_eq!(
        (snapshot.pods["p"].stop_unix_ns, snapshot.pods["p"].phase.as_str()),
        (minute(9), "Terminated")
    );
    assert_eq!(snapshot.pods["q"].stop_unix_ns, 0);
    assert_eq!(snapshot.services["s"].stop_unix_ns, minute(10));
    assert_eq!(snapshot.replicasets["ReplicaSet"].stop_unix_ns, minute(10));
    assert_eq!(snapshot.deployments["Deployment"].stop_unix_ns, minute(10));
    assert_eq!(snapshot.pod_names["ns/p"], "p");
    assert!(snapshot.pod_by_ip("10.0.0.1", None).is_none());
    assert_eq!(snapshot.pod_by_ip("10.0.0.1", Some(minute(8))).unwrap().id, "p");
    assert!(snapshot.cidrs.is_empty());
    // One of the same name, and of the same address.
    let mut again = pod;
    again["metadata"]["uid"] = json!("p2");
    again["metadata"]["creationTimestamp"] = json!("2026-01-01T00:05:00Z");
    store.apply(Change::Put(read(&again)), minute(12));
    let snapshot = store.snapshot();
    assert_eq!(snapshot.pod_names["ns/p"], "p2");
    assert_eq!(snapshot.pod_by_ip("10.0.0.1", Some(minute(13))).unwrap().id, "p2");
    assert_eq!(snapshot.pod_by_ip("10.0.0.1", Some(minute(8))).unwrap().id, "p");
    assert!(!store.forget(minute(9)));
    assert!(store.forget(minute(11)));
    let snapshot = store.snapshot();
    assert!(!snapshot.pods.contains_key("p") && snapshot.pods.contains_key("p2"));
    assert_eq!(snapshot.entity_count(), 6, "{:?}", snapshot.entities().collect::<Vec<_>>());
    assert_eq!(store.len(), 2);
}

/// A container that was started anew in its pod is still known by its old id, with how it ended; the list of these
/// is bounded.
#[test]
fn containers_before_are_known() {
    let read = |json: &Json| Box::new(list::read(&json.to_string()).unwrap().remove(0));
    let pod = |id: &str, last: Json| {
        let status = json!({"name": "c", "containerID": format!("cri-o://{id}"),
            "state": {"running": {"startedAt": "2026-01-01T00:01:00Z"}}, "lastState": last});
        object("Pod", "p", "p", 1, &json!({"status": {"containerStatuses": [status]}}))
    };
    let mut store = Store::default();
    store.apply(Change::Put(read(&pod("one", json!({})))), minute(1));
    store.apply(Change::Put(read(&pod("two", json!({})))), minute(2));
    let last = json!({"terminated": {"containerID": "cri-o://two", "reason": "OOMKilled",
        "finishedAt": "2026-01-01T00:03:00Z"}});
    store.apply(Change::Put(read(&pod("three", last))), minute(4));
    let snapshot = store.snapshot();
    let one = |id: &str| {
        let meta = &snapshot.containers[id];
        (meta.pod_id.as_str(), meta.state.as_str(), meta.reason.as_str(), meta.stop_unix_ns)
    };
    assert_eq!(one("one"), ("p", "Terminated", "", minute(2)));
    assert_eq!(one("two"), ("p", "Terminated", "OOMKilled", minute(3)));
    assert_eq!(one("three"), ("p", "Running", "", 0));
    assert_eq!(snapshot.container_names["c"], "three");
    for number in 0..FORMER_MAX + 10 {
        store.apply(Change::Put(read(&pod(&number.to_string(), json!({})))), minute(5));
    }
    assert_eq!(store.former.len(), FORMER_MAX);
    store.apply(Change::Gone(Kind::Pod, "p".to_string()), minute(6));
    assert!(store.forget(minute(7)));
    assert_eq!(store.former.len(), 0);
    assert!(store.is_empty());
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

/// In a list of one time the pod made last by then has the address, also if it has ended: nothing says since when
/// nobody has it.
#[test]
fn a_list_does_not_end_addresses() {
    let pods =
        [with_address("server", 10, json!({})), with_address("job", 20, finished("Succeeded", 30))];
    let mut store = Store::of_list();
    let read = |json: &Json| list::read(&json.to_string()).unwrap().remove(0);
    pods.iter().for_each(|pod| store.put(read(pod)));
    let snapshot = store.snapshot();
    for (time, id) in [(15, "server"), (25, "job"), (35, "job")] {
        assert_eq!(snapshot.pod_by_ip("10.0.0.1", Some(minute(time))).unwrap().id, id);
    }
}
