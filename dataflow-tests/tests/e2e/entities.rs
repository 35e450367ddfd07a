//! Who is who offline: `objects.json`, `processes.jsonl` and `dns.json` beside the rows.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use weir_dataflow_tests::harness::weir::run;

const DEADLINE: Duration = Duration::from_secs(120);
/// What `kubectl get … -o json` prints of two nodes, three services and six pods.
const OBJECTS: &str = include_str!("offline/objects.json");
const NOW: &str = "2026-01-01T00:10:00Z";

/// asid 7, pid 100, the n-th start time.
fn upid(n: u32) -> String {
    format!("00000007-0000-0064-0000-{n:012x}")
}

/// 1: a container of shop/cart-5d4f-a; 2: one of shop/pay-0; 3: on a node, in no container.
fn write_entities(dir: &Path) {
    std::fs::write(dir.join("objects.json"), OBJECTS).unwrap();
    let process = |n, cmdline: &str, container: &str, node: &str| json!({"upid": upid(n), "cmdline": cmdline, "container_id": container, "node": node});
    let processes = [
        process(1, "/bin/cart --port 8080", "c-cart-a", "node-a"),
        process(2, "pay", "docker://c-pay", "node-b"),
        process(3, "/usr/bin/kubelet", "", "node-a"),
    ];
    let lines: String = processes.iter().map(|process| format!("{process}\n")).collect();
    std::fs::write(dir.join("processes.jsonl"), lines).unwrap();
    std::fs::write(dir.join("dns.json"), r#"{"203.0.113.9": "api.example.com"}"#).unwrap();
}

/// The rows that a script gives over a directory.
#[track_caller]
fn answer(dir: &Path, script: &str) -> Vec<Json> {
    let path = dir.join("s.pxl");
    std::fs::write(&path, script).unwrap();
    let args = ["run", path.to_str().unwrap(), "--rows", dir.to_str().unwrap()];
    let output = run(&[&args[..], &["--now", NOW, "-o", "json"]].concat(), DEADLINE).unwrap();
    assert!(output.status.success(), "{output:?}");
    output.json_lines()
}

/// Every metadata function by id or name: expression and answer. The process is shop/cart-5d4f-a's.
#[expect(clippy::too_many_lines, reason = "a flat table")]
fn lookups() -> Vec<(&'static str, Json)> {
    let time = |minute: &str| json!(format!("2026-01-01T00:{minute}.000000000Z"));
    let never = || json!("1970-01-01T00:00:00.000000000Z");
    let owner = r#"[{"uid":"rs-cart","kind":"ReplicaSet","name":"cart-5d4f"}]"#;
    let status = |phase: &str, message: &str, reason: &str, ready: bool| {
        json!(format!(
            r#"{{"phase":"{phase}","message":"{message}","reason":"{reason}","ready":{ready}}}"#
        ))
    };
    let replicaset = r#"{"replicas":2,"fully_labeled_replicas":2,"ready_replicas":1,"available_replicas":1,"requested_replicas":2,"observed_generation":1,"conditions":{}}"#;
    let deployment = r#"{"replicas":2,"updated_replicas":2,"ready_replicas":1,"available_replicas":1,"unavailable_replicas":1,"requested_replicas":2,"observed_generation":3,"conditions":{"Available":"False","Progressing":"True"}}"#;
    vec![
        ("px.upid_to_asid(df.upid)", json!(7)),
        ("px.upid_to_pid(df.upid)", json!(100)),
        ("px.upid_to_string(df.upid)", json!("7:100:1")),
        ("px.upid_to_start_ts(df.upid)", json!("1970-01-01T00:00:00.000000001Z")),
        ("px.has_service_name(df.ctx['service'], 'shop/cart')", json!(true)),
        ("px.upid_to_container_id(df.upid)", json!("c-cart-a")),
        ("px.upid_to_container_name(df.upid)", json!("cart")),
        ("px.upid_to_pod_id(df.upid)", json!("pod-cart-a")),
        ("px.upid_to_pod_name(df.upid)", json!("shop/cart-5d4f-a")),
        ("px.upid_to_namespace(df.upid)", json!("shop")),
        ("px.upid_to_node_name(df.upid)", json!("node-a")),
        ("px.upid_to_hostname(df.upid)", json!("cart-host")),
        ("px.upid_to_cmdline(df.upid)", json!("/bin/cart --port 8080")),
        ("px.upid_to_replicaset_name(df.upid)", json!("shop/cart-5d4f")),
        ("px.upid_to_replicaset_id(df.upid)", json!("rs-cart")),
        ("px.upid_to_deployment_name(df.upid)", json!("shop/cart")),
        ("px.upid_to_deployment_id(df.upid)", json!("dep-cart")),
        ("px.upid_to_service_id(df.upid)", json!(r#"["svc-all","svc-cart"]"#)),
        ("px.upid_to_service_name(df.upid)", json!(r#"["shop/all","shop/cart"]"#)),
        ("px.upid_to_pod_qos(df.upid)", json!("kBurstable")),
        ("px.upid_to_pod_status(df.upid)", status("Running", "", "", true)),
        ("df.ctx['pod']", json!("shop/cart-5d4f-a")),
        ("df.ctx['service']", json!(r#"["shop/all","shop/cart"]"#)),
        ("px.asid()", json!(7)),
        ("px._exec_hostname()", json!("node-a")),
        ("px._exec_host_num_cpus()", json!(8)),
        ("px.pod_id_to_pod_name('pod-pay')", json!("shop/pay-0")),
        ("px.pod_id_to_namespace('pod-proxy')", json!("kube-system")),
        ("px.pod_id_to_pod_labels('pod-cart-a')", json!(r#"{"app":"cart","tier":"web"}"#)),
        ("px.pod_id_to_pod_labels('pod-pay')", json!("{}")),
        ("px.pod_id_to_replicaset_name('pod-cart-b')", json!("shop/cart-5d4f")),
        ("px.pod_id_to_replicaset_id('pod-cart-b')", json!("rs-cart")),
        ("px.pod_id_to_replicaset_id('pod-pay')", json!("")),
        ("px.pod_id_to_deployment_name('pod-cart-b')", json!("shop/cart")),
        ("px.pod_id_to_deployment_id('pod-cart-b')", json!("dep-cart")),
        ("px.pod_id_to_service_id('pod-pay')", json!("svc-all")),
        ("px.pod_id_to_service_name('pod-pay')", json!("shop/all")),
        ("px.pod_id_to_service_name('pod-cart-b')", json!("")),
        ("px.pod_id_to_owner_references('pod-cart-a')", json!(owner)),
        ("px.pod_id_to_owner_references('pod-new')", json!("[]")),
        ("px.pod_id_to_node_name('pod-pay')", json!("node-b")),
        ("px.pod_id_to_start_time('pod-cart-a')", time("01:20")),
        ("px.pod_id_to_stop_time('pod-cart-a')", never()),
        ("px.pod_id_to_stop_time('pod-cart-b')", time("05:00")),
        ("px.pod_name_to_pod_id('shop/pay-0')", json!("pod-pay")),
        ("px.pod_name_to_pod_id('pay-0')", json!("")),
        ("px.pod_name_to_namespace('any/thing')", json!("any")),
        ("px.pod_name_to_service_name('shop/pay-0')", json!("shop/all")),
        ("px.pod_name_to_service_id('shop/pay-0')", json!("svc-all")),
        ("px.pod_name_to_replicaset_name('shop/cart-5d4f-a')", json!("shop/cart-5d4f")),
        ("px.pod_name_to_replicaset_id('shop/cart-5d4f-a')", json!("rs-cart")),
        ("px.pod_name_to_deployment_name('shop/cart-5d4f-a')", json!("shop/cart")),
        ("px.pod_name_to_deployment_id('shop/cart-5d4f-a')", json!("dep-cart")),
        ("px.pod_name_to_owner_references('shop/cart-5d4f-a')", json!(owner)),
        ("px.pod_name_to_pod_ip('shop/pay-0')", json!("10.1.1.77")),
        ("px.pod_name_to_pod_ip('kube-system/proxy-x')", json!("192.168.0.1")),
        ("px.pod_name_to_start_time('shop/pay-0')", time("02:00")),
        ("px.pod_name_to_stop_time('shop/job-1')", time("04:30")),
        ("px.pod_name_to_status('shop/pay-0')", status("Running", "", "", true)),
        (
            "px.pod_name_to_status('shop/cart-5d4f-b')",
            status("Terminated", "shutting down", "Evicted", false),
        ),
        ("px.pod_name_to_status('shop/job-1')", status("Succeeded", "", "", false)),
        ("px.pod_name_to_status('shop/new')", status("Pending", "", "", false)),
        ("px.pod_name_to_status('shop/none')", status("Unknown", "", "", false)),
        (
            "px.container_id_to_status('c-proxy-a')",
            json!(
                r#"{"state":"Waiting","message":"back-off 5m0s restarting","reason":"CrashLoopBackOff"}"#
            ),
        ),
        (
            "px.container_id_to_status('c-migrate-a')",
            json!(r#"{"state":"Terminated","message":"","reason":"Completed"}"#),
        ),
        (
            "px.container_id_to_status('c-cart-a')",
            json!(r#"{"state":"Running","message":"","reason":""}"#),
        ),
        (
            "px.container_id_to_status('containerd://c-cart-a')",
            json!(r#"{"state":"Unknown","message":"","reason":""}"#),
        ),
        ("px.container_id_to_start_time('c-cart-a')", time("01:25")),
        ("px.container_id_to_stop_time('c-cart-a')", never()),
        ("px.container_id_to_stop_time('c-job')", time("02:50")),
        ("px.container_name_to_container_id('pay')", json!("c-pay")),
        ("px.container_name_to_container_id('cart')", json!("c-cart-b")),
        ("px.container_name_to_start_time('job')", time("02:35")),
        ("px.container_name_to_stop_time('job')", time("02:50")),
        ("px.ip_to_pod_id('10.1.0.5')", json!("pod-cart-b")),
        ("px.ip_to_pod_id('10.1.0.5', px.parse_time('2026-01-01T00:02:00Z'))", json!("pod-cart-a")),
        ("px.ip_to_pod_id('192.168.0.1')", json!("")),
        ("px.ip_to_service_id('10.96.0.10')", json!("svc-cart")),
        ("px.ip_to_service_id('10.1.1.77')", json!("svc-all")),
        ("px.ip_to_service_id('None')", json!("")),
        ("px.service_id_to_service_name('svc-old')", json!("shop/old")),
        ("px.service_id_to_cluster_ip('svc-cart')", json!("10.96.0.10")),
        ("px.service_id_to_external_ips('svc-cart')", json!(r#"["198.51.100.10","198.51.100.7"]"#)),
        ("px.service_id_to_external_ips('svc-all')", json!("[]")),
        ("px.service_name_to_service_id('shop/cart')", json!("svc-cart")),
        ("px.service_name_to_namespace('shop/cart')", json!("shop")),
        ("px.replicaset_id_to_replicaset_name('rs-cart')", json!("shop/cart-5d4f")),
        ("px.replicaset_id_to_namespace('rs-cart')", json!("shop")),
        ("px.replicaset_id_to_status('rs-cart')", json!(replicaset)),
        ("px.replicaset_id_to_deployment_name('rs-cart')", json!("shop/cart")),
        ("px.replicaset_id_to_deployment_id('rs-cart')", json!("dep-cart")),
        ("px.replicaset_id_to_start_time('rs-cart')", time("01:10")),
        ("px.replicaset_id_to_stop_time('rs-old')", time("02:00")),
        (
            "px.replicaset_id_to_owner_references('rs-cart')",
            json!(r#"[{"uid":"dep-cart","kind":"Deployment","name":"cart"}]"#),
        ),
        ("px.replicaset_name_to_replicaset_id('shop/cart-5d4f')", json!("rs-cart")),
        ("px.replicaset_name_to_status('shop/cart-5d4f')", json!(replicaset)),
        ("px.replicaset_name_to_deployment_name('shop/cart-5d4f')", json!("shop/cart")),
        ("px.replicaset_name_to_namespace('shop/cart-5d4f')", json!("shop")),
        (
            "px.replicaset_name_to_owner_references('shop/cart-5d4f')",
            json!(r#"[{"uid":"dep-cart","kind":"Deployment","name":"cart"}]"#),
        ),
        ("px.replicaset_name_to_deployment_id('shop/cart-5d4f')", json!("dep-cart")),
        ("px.replicaset_name_to_start_time('shop/cart-0000')", time("00:40")),
        ("px.replicaset_name_to_stop_time('shop/cart-0000')", time("02:00")),
        ("px.deployment_name_to_namespace('shop/cart')", json!("shop")),
        ("px.deployment_name_to_start_time('shop/cart')", time("01:00")),
        ("px.deployment_name_to_stop_time('shop/cart')", never()),
        ("px.deployment_id_to_deployment_name('dep-cart')", json!("shop/cart")),
        ("px.deployment_id_to_namespace('dep-cart')", json!("shop")),
        ("px.deployment_id_to_status('dep-cart')", json!(deployment)),
        ("px.deployment_id_to_start_time('dep-cart')", time("01:00")),
        ("px.deployment_id_to_stop_time('dep-cart')", never()),
        ("px.deployment_name_to_deployment_id('shop/cart')", json!("dep-cart")),
        ("px.deployment_name_to_status('shop/cart')", json!(deployment)),
        ("px.namespace_name_to_namespace_id('shop')", json!("uid-ns-shop")),
        ("px.get_cidrs()", json!(r#"["10.1.0.0/24","10.1.1.64/26","10.1.0.1/32","10.1.1.65/32"]"#)),
        ("px.cidrs_contain_ip(px.get_cidrs(), '10.1.1.79')", json!(true)),
        ("px.nslookup('203.0.113.9')", json!("api.example.com")),
        ("px.nslookup('203.0.113.10')", json!("203.0.113.10")),
        ("px.upid_to_pid(px._peer_upid('10.1.0.5', 8080))", json!(0)),
    ]
}

/// Every lookup, over objects as kubectl prints them, through the compiler and both halves of the
/// engine: catches a field read from the wrong place and a link that is not made.
#[test]
fn every_lookup_answers_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    write_entities(dir.path());
    let row = json!({"time_": "2026-01-01T00:06:00Z", "upid": upid(1)});
    std::fs::write(dir.path().join("process_stats.jsonl"), row.to_string()).unwrap();
    let mut script =
        "import px\ndf = px.DataFrame('process_stats', start_time='-10m')\n".to_string();
    let lookups = lookups();
    for (n, (expression, _)) in lookups.iter().enumerate() {
        script.push_str(&format!("df.a{n} = {expression}\n"));
    }
    script.push_str("px.display(df, 't')\n");
    // A function without a case here would be checked by nothing.
    let entities =
        ["upid", "pod", "container", "service", "replicaset", "deployment", "ip", "namespace"];
    for name in weir_functions::scalar::all().map(|def| def.name) {
        let is_lookup = name.split_once('_').is_some_and(|(of, _)| entities.contains(&of));
        assert!(!is_lookup || script.contains(&format!("px.{name}(")), "no case for {name}");
    }
    let rows = answer(dir.path(), &script);
    assert_eq!(rows.len(), 1);
    let mut wrong = Vec::new();
    for (n, (expression, want)) in lookups.iter().enumerate() {
        let have = &rows[0][format!("a{n}")];
        if have != want {
            wrong.push(format!("{expression}\n  have {have}\n  want {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A process without a pod has its node and nothing else, an unknown one nothing; the pod of a
/// local address stands in for an unknown process. Catches names of this machine that leak in.
#[test]
fn misses_are_empty() {
    let dir = tempfile::tempdir().unwrap();
    write_entities(dir.path());
    let row = |n: u32, addr: &str| json!({"time_": format!("2026-01-01T00:06:0{n}Z"), "upid": upid(n), "local_addr": addr});
    let mut rows =
        [row(2, ""), row(3, ""), row(4, ""), row(5, "10.1.1.77")].map(|row| row.to_string());
    rows[2] = r#"{"time_": "2026-01-01T00:06:04Z"}"#.to_string();
    std::fs::write(dir.path().join("http_events.jsonl"), rows.join("\n")).unwrap();
    let script = "import px\ndf = px.DataFrame('http_events', start_time='-10m')\n\
        df.pod = df.ctx['pod']\ndf.service = df.ctx['service']\ndf.node = df.ctx['node']\n\
        df.cmd = df.ctx['cmdline']\ndf = df.drop(['upid', 'local_addr'])\n\
        df.host = px._exec_hostname()\ndf.cpus = px._exec_host_num_cpus()\ndf.asid = px.asid()\n\
        df = df[['time_', 'pod', 'service', 'node', 'cmd', 'host', 'cpus', 'asid']]\n\
        px.display(df, 't')\n";
    let mut rows = answer(dir.path(), script);
    rows.sort_by_key(|row| row["time_"].to_string());
    let have: Vec<Vec<Json>> = rows
        .iter()
        .map(|row| {
            let columns = ["pod", "service", "node", "cmd", "host", "cpus", "asid"];
            columns.iter().map(|column| row[*column].clone()).collect()
        })
        .collect();
    let want = [
        json!(["shop/pay-0", "shop/all", "node-b", "pay", "node-b", 4, 7]),
        json!(["", "", "", "/usr/bin/kubelet", "node-a", 8, 7]),
        json!(["", "", "", "", "", 0, 0]),
        json!(["shop/pay-0", "", "", "", "", 0, 7]),
    ];
    assert_eq!(json!(have), json!(want));
}

/// Behind an aggregate, a limit or a merge there is no scanned row, so no process either.
#[test]
fn no_process_behind_blocking_operators() {
    let dir = tempfile::tempdir().unwrap();
    write_entities(dir.path());
    let row = json!({"time_": "2026-01-01T00:06:00Z", "upid": upid(1)});
    std::fs::write(dir.path().join("process_stats.jsonl"), row.to_string()).unwrap();
    let source = "px.DataFrame('process_stats', start_time='-10m')[['time_', 'upid']]";
    let cases = [
        ("agg", format!("{source}.groupby('upid').agg(n=('time_', px.count))")),
        ("head", format!("{source}.head(5)")),
        (
            "merge",
            format!(
                "{source}.merge({source}, how='inner', left_on='upid', right_on='upid', suffixes=['', '_r'])"
            ),
        ),
        ("append", format!("{source}.append({source})")),
    ];
    for (name, frame) in cases {
        let script = format!(
            "import px\ndf = {frame}\ndf.asid = px.asid()\ndf.host = px._exec_hostname()\n\
             df.cpus = px._exec_host_num_cpus()\npx.display(df, 't')\n"
        );
        let rows = answer(dir.path(), &script);
        assert!(!rows.is_empty(), "{name}");
        for row in rows {
            let have = json!([row["asid"], row["host"], row["cpus"]]);
            assert_eq!(have, json!([0, "", 0]), "{name}");
        }
    }
}

/// What is wrong in the files is named by file and line, before anything is answered.
#[test]
fn wrong_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("s.pxl");
    std::fs::write(&script, "import px\npx.display(px.DataFrame('process_stats'), 't')\n").unwrap();
    let rows = dir.path().to_str().unwrap();
    let check = |rows: &str, want: &str| {
        let output = run(&["run", script.to_str().unwrap(), "--rows", rows], DEADLINE).unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.join("\n").contains(want), "{want}: {output:?}");
        assert!(output.stdout.is_empty());
    };
    for (file, text, want) in [
        ("objects.json", "{\n\"kind\": \"Pod\", \"status\": {\n\"podIP\": 1}}", "objects.json:3: "),
        ("processes.jsonl", "\n{}\n", "processes.jsonl:2: missing field `upid`"),
        ("dns.json", "[]", "dns.json:1: "),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
        check(rows, want);
        std::fs::remove_file(dir.path().join(file)).unwrap();
    }
    check("/nonexistent/rows", "/nonexistent/rows is not a directory");
}
