//! Lookups over a small cluster: two pods behind services, one of them on the way out.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_functions::{EvalCtx, Placement, WANTED_MAX, scalar};
use weir_types::metadata::connections::{ConnectionEnd, Holder};
use weir_types::metadata::{
    ContainerMeta, ControllerMeta, MetadataSnapshot, NamespaceMeta, PodMeta, ProcessMeta,
    ServiceMeta,
};
use weir_types::{Upid, Value};

use crate::support::*;

pub(crate) const CART: Upid = Upid((1 << 96) | (10 << 64) | 5);
pub(crate) const BARE: Upid = Upid((1 << 96) | (11 << 64) | 5);

fn owner(uid: &str, kind: &str, name: &str) -> Vec<(String, String, String)> {
    vec![(uid.to_string(), kind.to_string(), name.to_string())]
}

fn pods() -> Vec<PodMeta> {
    let cart = PodMeta {
        id: "pod-1".into(),
        name: "shop/cart-1".into(),
        namespace: "shop".into(),
        ip: "10.0.0.1".into(),
        node: "node-a".into(),
        hostname: "cart-host".into(),
        start_unix_ns: 100,
        phase: "Running".into(),
        ready: true,
        qos: "kBurstable".into(),
        labels: r#"{"app":"cart"}"#.into(),
        replicaset_id: "rs-1".into(),
        owners: owner("rs-1", "ReplicaSet", "cart-rs"),
        service_ids: vec!["svc-2".into(), "svc-1".into(), "svc-dead".into(), "unknown".into()],
        ..PodMeta::default()
    };
    let pay = PodMeta {
        id: "pod-2".into(),
        name: "shop/pay-1".into(),
        namespace: "shop".into(),
        ip: "10.0.0.1".into(),
        start_unix_ns: 200,
        stop_unix_ns: 300,
        phase: "Terminated".into(),
        reason: "Evicted".into(),
        service_ids: vec!["svc-2".into()],
        ..PodMeta::default()
    };
    vec![cart, pay]
}

fn workload(id: &str, name: &str, owners: Vec<(String, String, String)>) -> Arc<ControllerMeta> {
    Arc::new(ControllerMeta {
        id: id.into(),
        name: name.into(),
        namespace: "shop".into(),
        owners,
        start_unix_ns: 50,
        stop_unix_ns: 0,
        status: r#"{"replicas":2}"#.into(),
    })
}

pub(crate) fn snapshot() -> MetadataSnapshot {
    let mut metadata = MetadataSnapshot {
        asid: 7,
        hostname: "here".into(),
        num_cpus: 4,
        cluster_id: "c-1".into(),
        cluster_name: "test".into(),
        cidrs: vec!["10.9.2.0/24".into(), "10.8.0.0/16".into(), "fd00::/8".into()],
        service_cidr: "10.96.0.0/12".into(),
        ..MetadataSnapshot::default()
    };
    for pod in pods() {
        metadata.pod_names.insert(pod.name.clone(), pod.id.clone());
        let mut by_ip = metadata.pod_ips.get(&pod.ip).cloned().unwrap_or_default();
        by_ip.push((pod.start_unix_ns, pod.id.clone()));
        metadata.pod_ips.insert(pod.ip.clone(), by_ip);
        metadata.pods.insert(pod.id.clone(), Arc::new(pod));
    }
    for (id, name, stop) in
        [("svc-1", "shop/cart", 0), ("svc-2", "shop/all", 0), ("svc-dead", "shop/old", 9)]
    {
        let service = ServiceMeta {
            id: id.into(),
            name: name.into(),
            namespace: "shop".into(),
            cluster_ip: "10.8.0.1".into(),
            external_ips: vec!["2.2.2.2".into(), "1.1.1.1".into()],
            stop_unix_ns: stop,
            ..ServiceMeta::default()
        };
        metadata.service_names.insert(name.into(), id.into());
        metadata.services.insert(id.into(), Arc::new(service));
    }
    metadata.service_ips.insert("10.8.0.1".into(), "svc-1".into());
    let container = ContainerMeta {
        id: "ctr-1".into(),
        name: "main".into(),
        pod_id: "pod-1".into(),
        state: "Waiting".into(),
        reason: "CrashLoop".into(),
        start_unix_ns: 110,
        ..ContainerMeta::default()
    };
    metadata.container_names.insert("main".into(), "ctr-1".into());
    metadata.containers.insert("ctr-1".into(), Arc::new(container));
    let replicaset = workload("rs-1", "shop/cart-rs", owner("dep-1", "Deployment", "cart"));
    metadata.replicaset_names.insert("shop/cart-rs".into(), "rs-1".into());
    metadata.replicasets.insert("rs-1".into(), replicaset);
    metadata.deployment_names.insert("shop/cart".into(), "dep-1".into());
    metadata.deployments.insert("dep-1".into(), workload("dep-1", "shop/cart", Vec::new()));
    let namespace = NamespaceMeta { id: "ns-1".into(), name: "shop".into() };
    metadata.namespaces.insert("shop".into(), Arc::new(namespace));
    let process = |upid: Upid, pod: &str, container: &str| {
        Arc::new(ProcessMeta {
            upid,
            cmdline: "/bin/cart --port 1".into(),
            container_id: container.into(),
            pod_id: pod.into(),
            node: "node-a".into(),
            node_num_cpus: 16,
            ..ProcessMeta::default()
        })
    };
    metadata.processes.insert(CART, process(CART, "pod-1", "ctr-1"));
    metadata.processes.insert(BARE, process(BARE, "", ""));
    add_connection(&mut metadata);
    metadata.dns.insert("1.2.3.4".into(), "one.example".into());
    metadata
}

/// CART asks BARE over loopback; 10.9.9.9 is BARE's alone.
fn add_connection(metadata: &mut MetadataSnapshot) {
    let (client, server) = (("127.0.0.1:40000").parse(), ("127.0.0.1:8080").parse());
    let (client, server): (SocketAddr, SocketAddr) = (client.unwrap(), server.unwrap());
    let until_unix_ns = 60_000_000_000;
    let end = |owner| ConnectionEnd { netns: 5, owner, since_unix_ns: 10, until_unix_ns };
    let holder = |owner| Holder { owner, since_unix_ns: 10, until_unix_ns };
    let connections = &mut metadata.connections;
    connections.ends.insert((client, server), vec![end(CART)].into());
    connections.ends.insert((server, client), vec![end(BARE)].into());
    connections.met.insert((CART, server), vec![holder(BARE)].into());
    connections.users.insert("10.9.9.9".parse().unwrap(), vec![holder(BARE)].into());
}

/// One case alone and beside a miss, whose answer is the type's zero.
#[track_caller]
fn look(ctx: &EvalCtx, name: &str, key: &Value, want: &Value) {
    let miss = match key {
        Value::Uint128(_) => u(99),
        _ => s("no/such"),
    };
    let answers = call_rows(ctx, name, &[vec![key.clone()], vec![miss]]);
    assert_eq!(&answers[0], want, "{name}({key:?})");
    let unknown = match name {
        "upid_to_pod_status" | "pod_name_to_status" => {
            s(r#"{"phase":"Unknown","message":"","reason":"","ready":false}"#)
        }
        "container_id_to_status" => s(r#"{"state":"Unknown","message":"","reason":""}"#),
        "pod_name_to_namespace" | "service_name_to_namespace" => s("no"),
        "nslookup" => s("no/such"),
        _ => want.data_type().zero(),
    };
    assert_eq!(answers[1], unknown, "{name} of an unknown key");
}

#[test]
fn processes() {
    let ctx = ctx(snapshot());
    let services = r#"["shop/all","shop/cart"]"#;
    for (name, want) in [
        ("upid_to_container_id", "ctr-1"),
        ("upid_to_container_name", "main"),
        ("upid_to_cmdline", "/bin/cart --port 1"),
        ("upid_to_pod_id", "pod-1"),
        ("upid_to_pod_name", "shop/cart-1"),
        ("upid_to_namespace", "shop"),
        ("upid_to_node_name", "node-a"),
        ("upid_to_hostname", "cart-host"),
        ("upid_to_service_id", r#"["svc-1","svc-2"]"#),
        ("upid_to_service_name", services),
        ("upid_to_replicaset_id", "rs-1"),
        ("upid_to_replicaset_name", "shop/cart-rs"),
        ("upid_to_deployment_id", "dep-1"),
        ("upid_to_deployment_name", "shop/cart"),
        ("upid_to_pod_qos", "kBurstable"),
        ("upid_to_pod_status", r#"{"phase":"Running","message":"","reason":"","ready":true}"#),
        ("_upid_to_exec_hostname", "node-a"),
    ] {
        look(&ctx, name, &u(CART.0), &s(want));
        assert_eq!(scalar::find(name).unwrap().placement, Placement::Node, "{name}");
    }
    look(&ctx, "_upid_to_exec_num_cpus", &u(CART.0), &i(16));
    look(&ctx, "upid_to_pod_name", &u(BARE.0), &s(""));
    look(&ctx, "upid_to_node_name", &u(BARE.0), &s(""));
    // A process of this agent that is gone already ran here.
    let gone = u(Upid::new(7, 1, 1).0);
    look(&ctx, "_upid_to_exec_hostname", &gone, &s("here"));
    look(&ctx, "_upid_to_exec_num_cpus", &gone, &i(4));

    let pod = |upid: u128, addr: &str, time: i64| {
        let row = vec![u(upid), s(addr), t(time)];
        call_rows(&ctx, "_upid_to_podname_local_addr_fallback", &[row]).remove(0)
    };
    assert_eq!(pod(CART.0, "10.0.0.1", 250), s("shop/cart-1"), "the process decides");
    assert_eq!(pod(BARE.0, "10.0.0.1", 250), s("shop/pay-1"));
    assert_eq!(pod(99, "10.0.0.1", 150), s("shop/cart-1"));
    assert_eq!(pod(99, "10.0.0.1", 50), s(""));

    let rows = ["10.9.9.9", "127.0.0.1", "-"].map(|addr| vec![s(addr), i(8080)]);
    assert_eq!(call_rows(&ctx, "_peer_upid", &rows), [u(BARE.0), u(0), u(0)]);
    let rows = [9, 10].map(|time| vec![s("10.9.9.9"), i(8080), t(time)]);
    assert_eq!(call_rows(&ctx, "_peer_upid", &rows), [u(0), u(BARE.0)]);
    let peer = |upid: Upid, local: i64, remote: i64, seconds: i64| {
        let (addr, time) = (s("127.0.0.1"), t(seconds * 1_000_000_000));
        vec![u(upid.0), addr.clone(), i(local), addr, i(remote), time]
    };
    let rows = [
        peer(CART, 40_000, 8080, 30),
        peer(BARE, 8080, 40_000, 30),
        peer(CART, 40_000, 8080, 90),
        peer(CART, 40_001, 8080, 30),
        peer(CART, -1, 8080, 30),
    ];
    let peers = [u(BARE.0), u(CART.0), u(0), u(0), u(0)];
    assert_eq!(call_rows(&ctx, "_upid_to_connection_peer", &rows), peers);
    let rows = [(CART, "127.0.0.1"), (BARE, "127.0.0.1"), (BARE, "10.9.9.9")]
        .map(|(upid, addr)| vec![u(upid.0), s(addr), i(8080), t(30)]);
    assert_eq!(call_rows(&ctx, "_upid_to_peer_met", &rows), [u(BARE.0), u(0), u(BARE.0)]);
    let rows = [vec![i(3), i(4)]];
    assert_eq!(call_rows(&ctx, "upid", &rows), [u(Upid::new(7, 3, 4).0)]);
}

#[test]
fn pods_and_containers() {
    let ctx = ctx(snapshot());
    let owners = r#"[{"uid":"rs-1","kind":"ReplicaSet","name":"cart-rs"}]"#;
    let services = r#"["shop/all","shop/cart"]"#;
    for (what, want) in [
        ("namespace", "shop"),
        ("service_name", services),
        ("service_id", r#"["svc-1","svc-2"]"#),
        ("replicaset_name", "shop/cart-rs"),
        ("replicaset_id", "rs-1"),
        ("deployment_name", "shop/cart"),
        ("deployment_id", "dep-1"),
        ("owner_references", owners),
    ] {
        look(&ctx, &format!("pod_id_to_{what}"), &s("pod-1"), &s(want));
        look(&ctx, &format!("pod_name_to_{what}"), &s("shop/cart-1"), &s(want));
    }
    look(&ctx, "pod_id_to_service_name", &s("pod-2"), &s("shop/all"));
    look(&ctx, "pod_id_to_pod_name", &s("pod-1"), &s("shop/cart-1"));
    look(&ctx, "pod_id_to_node_name", &s("pod-1"), &s("node-a"));
    look(&ctx, "pod_id_to_pod_labels", &s("pod-1"), &s(r#"{"app":"cart"}"#));
    look(&ctx, "pod_name_to_pod_id", &s("shop/cart-1"), &s("pod-1"));
    look(&ctx, "pod_name_to_pod_ip", &s("shop/cart-1"), &s("10.0.0.1"));
    for (what, cart, pay) in [("start_time", 100, 200), ("stop_time", 0, 300)] {
        look(&ctx, &format!("pod_id_to_{what}"), &s("pod-1"), &t(cart));
        look(&ctx, &format!("pod_name_to_{what}"), &s("shop/pay-1"), &t(pay));
    }
    look(
        &ctx,
        "pod_name_to_status",
        &s("shop/pay-1"),
        &s(r#"{"phase":"Terminated","message":"","reason":"Evicted","ready":false}"#),
    );
    look(
        &ctx,
        "container_id_to_status",
        &s("ctr-1"),
        &s(r#"{"state":"Waiting","message":"","reason":"CrashLoop"}"#),
    );
    look(&ctx, "container_name_to_container_id", &s("main"), &s("ctr-1"));
    look(&ctx, "container_id_to_start_time", &s("ctr-1"), &t(110));
    look(&ctx, "container_name_to_start_time", &s("main"), &t(110));
    look(&ctx, "container_name_to_stop_time", &s("main"), &t(0));
    look(&ctx, "pod_name_to_namespace", &s("a/b/c"), &s(""));
}

#[test]
fn addresses_and_services() {
    let ctx = ctx(snapshot());
    look(&ctx, "ip_to_pod_id", &s("10.0.0.1"), &s("pod-2"));
    let at = |time: i64| call_rows(&ctx, "ip_to_pod_id", &[vec![s("10.0.0.1"), t(time)]]).remove(0);
    assert_eq!((at(99), at(100), at(199), at(1000)), (s(""), s("pod-1"), s("pod-1"), s("pod-2")));
    look(&ctx, "ip_to_service_id", &s("10.8.0.1"), &s("svc-1"));
    look(&ctx, "ip_to_service_id", &s("10.0.0.1"), &s("svc-2"));
    assert_eq!(scalar::find("ip_to_service_id").unwrap().placement, Placement::Cluster);
    look(&ctx, "service_id_to_service_name", &s("svc-1"), &s("shop/cart"));
    look(&ctx, "service_id_to_cluster_ip", &s("svc-1"), &s("10.8.0.1"));
    look(&ctx, "service_id_to_external_ips", &s("svc-1"), &s(r#"["1.1.1.1","2.2.2.2"]"#));
    look(&ctx, "service_name_to_service_id", &s("shop/cart"), &s("svc-1"));
    look(&ctx, "service_name_to_namespace", &s("shop/cart"), &s("shop"));
    look(&ctx, "namespace_name_to_namespace_id", &s("shop"), &s("ns-1"));
    check("has_value", &[s(r#"["a",1,"b"]"#), s("b")], &b(false));
    check("has_value", &[s(r#"["a","b"]"#), s("b")], &b(true));
    check("has_value", &[s("[broken"), s("[broken")], &b(true));
}

#[test]
fn workloads() {
    let ctx = ctx(snapshot());
    let owners = r#"[{"uid":"dep-1","kind":"Deployment","name":"cart"}]"#;
    for (key, value) in [("replicaset_id", "rs-1"), ("replicaset_name", "shop/cart-rs")] {
        let look = |what: &str, want: &Value| {
            look(&ctx, &format!("{key}_to_{what}"), &s(value), want);
        };
        look("namespace", &s("shop"));
        look("owner_references", &s(owners));
        look("status", &s(r#"{"replicas":2}"#));
        look("deployment_name", &s("shop/cart"));
        look("deployment_id", &s("dep-1"));
        look("start_time", &t(50));
        look("stop_time", &t(0));
    }
    look(&ctx, "replicaset_id_to_replicaset_name", &s("rs-1"), &s("shop/cart-rs"));
    look(&ctx, "replicaset_name_to_replicaset_id", &s("shop/cart-rs"), &s("rs-1"));
    look(&ctx, "deployment_id_to_deployment_name", &s("dep-1"), &s("shop/cart"));
    look(&ctx, "deployment_name_to_deployment_id", &s("shop/cart"), &s("dep-1"));
    look(&ctx, "deployment_name_to_status", &s("shop/cart"), &s(r#"{"replicas":2}"#));
    look(&ctx, "deployment_id_to_start_time", &s("dep-1"), &t(50));
}

/// Functions without arguments, beside a column so that batches have rows.
#[test]
fn host() {
    use weir_types::{DataType, Expr};
    let ctx = ctx(snapshot());
    let batch = batch_of_rows(&[DataType::Int64], &[vec![i(0)], vec![i(0)]], false);
    let now = |name: &str| -> Vec<Value> {
        let expr: Expr = call_expr(name, vec![]);
        eval_rows(&expr, &ctx, &batch)
    };
    assert_eq!(now("asid"), [i(7), i(7)]);
    assert_eq!(now("_exec_hostname")[0], s("here"));
    assert_eq!(now("_exec_host_num_cpus")[1], i(4));
    assert_eq!(now("vizier_id")[0], s("c-1"));
    assert_eq!(now("vizier_name")[0], s("test"));
    assert_eq!(
        now("get_cidrs")[0],
        s(r#"["10.9.2.0/24","10.8.0.0/16","fd00::/8","10.9.2.1/32","10.8.0.1/32","10.96.0.0/12"]"#)
    );
}

/// An unknown address stays, and is noted for whoever resolves; what is no address is not.
#[test]
fn reverse_dns() {
    let ctx = ctx(snapshot());
    look(&ctx, "nslookup", &s("1.2.3.4"), &s("one.example"));
    let rows = [vec![s("192.0.2.1")], vec![s("-")]];
    assert_eq!(call_rows(&ctx, "nslookup", &rows), [s("192.0.2.1"), s("-")]);
    let wanted = ctx.wants.take().addresses;
    assert!(wanted.contains(&"192.0.2.1".parse().unwrap()), "{wanted:?}");
    assert!(
        wanted.contains(&"1.2.3.4".parse().unwrap()),
        "asked for again: it may be fresh no longer"
    );
    let batch: Vec<Vec<Value>> = (0..WANTED_MAX as u32 + 9)
        .map(|at| vec![s(&std::net::Ipv4Addr::from_bits(0xC612_0000 | at).to_string())])
        .collect();
    let expr = call_expr(
        "nslookup",
        vec![weir_types::Expr::Column { idx: 0, data_type: weir_types::DataType::String }],
    );
    let types = [weir_types::DataType::String];
    let answers = eval_rows(&expr, &ctx, &batch_of_rows(&types, &batch, false));
    assert_eq!(answers[3], batch[3][0]);
    assert_eq!(ctx.wants.take().addresses.len(), WANTED_MAX);
    assert_eq!(ctx.wants.left_out(), 9, "what is too much is counted");
    assert!(ctx.wants.take().addresses.is_empty(), "taken once");
}

/// Libraries are read when they are asked for: the first answer is empty, and the process is noted.
#[test]
fn libraries() {
    let mut metadata = snapshot();
    metadata.libraries.insert(CART, r#"["/lib/libc.so.6"]"#.into());
    let ctx = ctx(metadata);
    look(&ctx, "shared_libraries", &u(CART.0), &s(r#"["/lib/libc.so.6"]"#));
    let wanted = ctx.wants.take().processes;
    assert!(wanted.contains(&CART) && wanted.contains(&Upid(99)), "{wanted:?}");
}
