//! A small made-up cluster: the objects that `kubectl get … -o json` would print, the processes in
//! its pods, and the names of some addresses. Rows of [`super::traffic`] speak of these entities, so
//! that look-ups hit, miss and are ambiguous. It is fixed: what varies are the rows.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};
use weir_types::Upid;

/// A pod with its processes.
#[derive(Clone, Debug)]
pub struct Pod {
    /// `namespace/name`
    pub name: String,
    pub id: String,
    pub ip: String,
    pub upids: Vec<Upid>,
}

/// Everything that rows can speak of.
#[derive(Clone, Debug)]
pub struct Shop {
    /// A `v1` List.
    pub objects: Json,
    /// A line a process, as `processes.jsonl` has them.
    pub processes: Vec<Json>,
    /// `dns.json`
    pub names: Json,
    pub pods: Vec<Pod>,
    pub service_ips: Vec<String>,
}

/// (namespace, workload, replicas, service or none)
const WORKLOADS: [(&str, &str, usize, &str); 6] = [
    ("shop", "front", 2, "front"),
    ("shop", "cart", 2, "cart"),
    ("shop", "db", 1, "db"),
    ("infra", "queue", 1, "queue"),
    ("infra", "batch", 1, ""),
    ("default", "default", 1, "default"),
];
const NODES: [(&str, &str, u32); 2] = [("node-a", "10.0.0.1", 4), ("node-b", "10.0.0.2", 8)];
const CREATED: [&str; 3] = ["2025-12-31T22:00:00Z", "2025-12-31T23:30:00Z", "2026-01-01T00:00:01Z"];

/// An object's `metadata`.
fn meta(namespace: &str, name: &str, uid: &str, created: &str) -> Json {
    json!({"namespace": namespace, "name": name, "uid": uid, "creationTimestamp": created,
           "labels": {"app": name}})
}

#[must_use]
pub fn shop() -> Shop {
    let mut shop = Shop {
        objects: Json::Null,
        processes: Vec::new(),
        names: json!({"203.0.113.9": "pay.example.com", "10.1.0.250": "gone.shop.internal"}),
        pods: Vec::new(),
        service_ips: Vec::new(),
    };
    let mut items: Vec<Json> = Vec::new();
    for (number, (name, ip, cpus)) in NODES.into_iter().enumerate() {
        items.push(json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "uid": format!("node-uid-{number}")},
            "spec": {"podCIDR": format!("10.1.{number}.0/24"),
                     "podCIDRs": [format!("10.1.{number}.0/24")]},
            "status": {"capacity": {"cpu": cpus.to_string()},
                       "addresses": [{"type": "InternalIP", "address": ip},
                                     {"type": "Hostname", "address": name}]}}));
    }
    for (number, namespace) in ["shop", "infra", "default", "empty"].into_iter().enumerate() {
        items.push(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "uid": format!("ns-uid-{number}"),
                         "creationTimestamp": CREATED[0]}}));
    }
    for (number, workload) in WORKLOADS.into_iter().enumerate() {
        add_workload(&mut shop, &mut items, number, workload);
    }
    items.extend(second_service_of_cart(&shop));
    shop.objects = json!({"apiVersion": "v1", "kind": "List", "items": items});
    shop
}

fn add_workload(
    shop: &mut Shop,
    items: &mut Vec<Json>,
    number: usize,
    (namespace, name, replicas, service): (&str, &str, usize, &str),
) {
    let deployment = format!("dep-uid-{number}");
    let replicaset = format!("rs-uid-{number}");
    let counts = json!({"replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas,
                        "availableReplicas": replicas, "fullyLabeledReplicas": replicas,
                        "observedGeneration": 1});
    items.push(json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": meta(namespace, name, &deployment, CREATED[0]),
        "spec": {"replicas": replicas}, "status": counts}));
    let mut owned = meta(namespace, &format!("{name}-7d"), &replicaset, CREATED[0]);
    owned["ownerReferences"] = json!([{"kind": "Deployment", "name": name, "uid": deployment}]);
    items.push(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": owned,
        "spec": {"replicas": replicas}, "status": counts}));
    let first = shop.pods.len();
    for replica in 0..replicas {
        let pod = pod_object(shop, namespace, name, &replicaset);
        items.push(pod);
        if replica == 1 {
            // The second replica is going away.
            let last = items.last_mut().map(|pod| &mut pod["metadata"]);
            if let Some(meta) = last {
                meta["deletionTimestamp"] = json!("2026-01-01T00:10:00Z");
            }
        }
    }
    if !service.is_empty() {
        let ip = format!("10.96.0.{}", number + 1);
        let uid = format!("svc-uid-{number}");
        let mut object = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": meta(namespace, service, &uid, CREATED[0]),
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80}]}});
        if number == 0 {
            object["spec"]["externalIPs"] = json!(["198.51.100.7"]);
        }
        items.push(object);
        items.push(endpoints(namespace, service, &shop.pods[first..]));
        shop.service_ips.push(ip);
    }
}

fn endpoints(namespace: &str, service: &str, pods: &[Pod]) -> Json {
    let addresses: Vec<Json> = pods
        .iter()
        .map(|pod| {
            let name = pod.name.split_once('/').map_or("", |(_, name)| name);
            json!({"ip": pod.ip, "targetRef": {"kind": "Pod", "namespace": namespace,
                                               "name": name, "uid": pod.id}})
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"namespace": namespace, "name": service, "uid": format!("ep-{service}")},
        "subsets": [{"addresses": addresses, "ports": [{"port": 8080}]}]})
}

/// The cart has two services, so a pod's service can be a list.
fn second_service_of_cart(shop: &Shop) -> [Json; 2] {
    let carts: Vec<Pod> =
        shop.pods.iter().filter(|pod| pod.name.contains("cart")).cloned().collect();
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": meta("shop", "cart-internal", "svc-uid-9", CREATED[1]),
        "spec": {"clusterIP": "None"}});
    [service, endpoints("shop", "cart-internal", &carts)]
}

fn pod_object(shop: &mut Shop, namespace: &str, workload: &str, replicaset: &str) -> Json {
    let number = shop.pods.len();
    let node = number % NODES.len();
    let (node_name, host_ip, _) = NODES[node];
    let name = format!("{workload}-7d-{number}");
    let id = format!("{number:08x}-aaaa-bbbb-cccc-000000000000");
    // The queue runs in the host's network: its address is the node's.
    let on_host = workload == "queue";
    let ip = if on_host { host_ip.to_string() } else { format!("10.1.{node}.{}", 10 + number) };
    let container = format!("c{number}-{workload}");
    let started = CREATED[number % CREATED.len()];
    let ready = number != 4;
    let state = if ready {
        json!({"running": {"startedAt": started}})
    } else {
        json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}})
    };
    let mut meta = meta(namespace, &name, &id, started);
    meta["ownerReferences"] =
        json!([{"kind": "ReplicaSet", "name": format!("{workload}-7d"), "uid": replicaset}]);
    let mut upids = Vec::new();
    for process in 0..=number % 2 {
        let pid = 100 * (number as u32 + 1) + process as u32;
        // One process is of the agent that rows without a process are of.
        let asid = if process == 0 && number == 7 { 0 } else { node as u32 + 1 };
        let upid = Upid::new(asid, pid, 5_000 + u64::from(pid));
        let mut cmdline = format!("/usr/bin/{workload}");
        let _ = write!(cmdline, " --replica {number}");
        shop.processes.push(json!({"upid": uuid(upid), "cmdline": cmdline,
                                   "container_id": container, "node": node_name}));
        upids.push(upid);
    }
    shop.pods.push(Pod { name: format!("{namespace}/{name}"), id, ip: ip.clone(), upids });
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta,
        "spec": {"nodeName": node_name, "hostname": name, "hostNetwork": on_host,
                 "containers": [{"name": workload}]},
        "status": {"phase": if number == 6 { "Pending" } else { "Running" },
            "podIP": ip, "hostIP": host_ip, "qosClass": "Burstable",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [{"name": workload, "containerID": format!("containerd://{container}"),
                                   "ready": ready, "state": state}]}})
}

/// UUID text of a UPID, as rows files have it.
#[must_use]
pub fn uuid(upid: Upid) -> String {
    let hex = format!("{:032x}", upid.0);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
