//! What the bundle's scripts say of rows by hand: numbers that somebody can check with a pencil. The
//! scripts equal the model over any rows (`scripts.rs`); here is what is *true* of a few. A case is
//! data: add one with each fault that is found.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use weir_dataflow_tests::generate::rows::{BASE_UNIX_NS, SEC_NS};
use weir_dataflow_tests::model::{Arrived, Table, World, evaluate};
use weir_pxl::{CompileOptions, Compiled, Script, bundle, compile, render_diagnostics};
use weir_sources::rows::{read_entities, read_table};
use weir_types::json::row_to_json;
use weir_types::tables;

/// The pods `shop/one` and `shop/two` of the namespace's only service, and their processes.
const ONE: &str = "00000001-0000-0007-0000-000000000001";
const TWO: &str = "00000001-0000-0008-0000-000000000001";
/// Another process of `shop/one`, and one of `shop/planner`, which is behind no service.
const ONE_TOO: &str = "00000001-0000-000b-0000-000000000001";
const PLANNER: &str = "00000001-0000-000c-0000-000000000001";
/// A process in no pod.
const HOST: &str = "00000001-0000-0009-0000-000000000001";
/// Process 7 of agent 0, and the one that had this number later.
const FIRST_SEVEN: &str = "00000000-0000-0007-0000-000000000001";
const SECOND_SEVEN: &str = "00000000-0000-0007-0000-000000000002";
/// One that nobody knows.
const UNKNOWN: &str = "00000001-0000-000a-0000-000000000001";

struct Case {
    /// What goes wrong without it.
    catches: &'static str,
    script: &'static str,
    output: &'static str,
    args: &'static [(&'static str, &'static str)],
    /// Rows by table; a number of `time_` is in seconds after the base.
    rows: Vec<(&'static str, Vec<Json>)>,
    /// When it is asked, in seconds after the base.
    now_s: i64,
    /// All rows of the output; of their columns those that are named here.
    wanted: Vec<Json>,
}

fn case(catches: &'static str, script: &'static str, output: &'static str) -> Case {
    Case { catches, script, output, args: &[], rows: Vec::new(), now_s: 60, wanted: Vec::new() }
}

impl Case {
    fn args(self, args: &'static [(&'static str, &'static str)]) -> Case {
        Case { args, ..self }
    }
    fn rows(mut self, table: &'static str, rows: Vec<Json>) -> Case {
        self.rows.push((table, rows));
        self
    }
    fn wanted(self, wanted: Vec<Json>) -> Case {
        Case { wanted, ..self }
    }
}

/// A row of a protocol's table, of which one end is the process `upid`.
fn row(second: i64, upid: &str, role: i64, rest: Json) -> Json {
    let mut row = json!({
        "time_": second, "upid": upid, "trace_role": role, "remote_addr": "192.0.2.7",
        "remote_port": 40_000, "local_addr": "10.0.0.1", "local_port": 80, "latency": 1_000_001,
    });
    merge(&mut row, rest);
    row
}

fn http(second: i64, upid: &str, role: i64, rest: Json) -> Json {
    let mut all = json!({"req_method": "GET", "req_path": "/", "resp_status": 200});
    merge(&mut all, rest);
    row(second, upid, role, all)
}

fn conn(second: i64, upid: &str, role: i64, rest: Json) -> Json {
    row(second, upid, role, rest)
}

fn merge(into: &mut Json, from: Json) {
    let Json::Object(from) = from else { panic!("an object") };
    into.as_object_mut().expect("an object").extend(from);
}

/// A look at the process each second from `from` to `to`.
fn looks(upid: &str, from: i64, to: i64) -> Vec<Json> {
    (from..=to).map(|second| json!({"time_": second, "upid": upid, "rss_bytes": 1000})).collect()
}

/// Data tables: filters and ends.
fn ends() -> Vec<Case> {
    let rows = || {
        vec![
            http(10, ONE, 2, json!({})),
            http(11, UNKNOWN, 2, json!({"local_addr": "10.0.0.99"})),
            http(12, UNKNOWN, 1, json!({"local_addr": "10.0.0.98"})),
        ]
    };
    let named = |name: &str, key: &str, script: &str| {
        format!(
            "{{\"label\":\"{name}\",\"script\":\"{script}\",\
             \"args\":{{\"start_time\":\"-5m\",\"{key}\":\"{name}\"}}}}"
        )
    };
    vec![
        case(
            "rows of processes whose names are not known are dropped",
            "px/http_data",
            "http_data",
        )
        .rows("http_events", rows())
        .wanted(vec![
            json!({"destination": named("shop/one", "pod", "px/pod")}),
            json!({"destination": named("10.0.0.99", "ip", "px/ip")}),
            json!({"source": named("10.0.0.98", "ip", "px/ip")}),
        ]),
        case("a filter finds the script of a link", "px/http_data", "http_data")
            .args(&[("source_filter", "start_time")])
            .rows("http_events", rows()),
        case("a filter finds the script of a link", "px/dns_data", "dns_data")
            .args(&[("destination_filter", "px/")])
            .rows("dns_events", vec![row(10, ONE, 1, json!({}))]),
        case(
            "a filter of trace ids finds the link's window",
            "px/http_trace_id",
            "http_trace_data",
        )
        .args(&[("trace_id_filter", "start_time")])
        .rows(
            "http_events",
            vec![http(10, ONE, 2, json!({"req_headers": "{\"traceparent\":\"00-ab-cd-01\"}"}))],
        ),
        case("a header is found in one spelling only", "px/http_trace_id", "http_trace_data")
            .rows(
                "http_events",
                vec![http(10, ONE, 2, json!({"req_headers": "{\"Traceparent\":\"00-ab-cd-01\"}"}))],
            )
            .wanted(vec![json!({
                "trace_id": "{\"label\":\"ab\",\"script\":\"px/http_trace_id\",\"args\":\
                    {\"start_time\":\"-3600s\",\"trace_header_name\":\"traceparent\",\
                    \"trace_id_filter\":\"ab\"}}"
            })]),
        case("the time of a request is that of its bin", "px/pod_edge_stats", "HTTP Traffic")
            .args(&[("requesting_pod", "shop/two"), ("responding_pod", "shop/one")])
            .rows("http_events", vec![http(13, ONE, 2, json!({"remote_addr": "10.0.0.2"}))])
            .wanted(vec![json!({"timestamp": time(13)})]),
    ]
}

/// Latency, errors and throughput.
fn figures() -> Vec<Case> {
    let mut twice = vec![http(12, ONE, 2, json!({})), http(13, ONE, 2, json!({}))];
    twice[1]["remote_addr"] = json!("192.0.2.8");
    // The window begins at 17 s, in the middle of a bin.
    let oldest: Vec<Json> = (15..20).map(|second| http(second, ONE, 2, json!({}))).collect();
    let mysql = |second: i64, latency: i64| {
        row(second, ONE, 2, json!({"req_cmd": 3, "resp_status": 2, "latency": latency}))
    };
    let statements = vec![mysql(1, 100), mysql(11, 300), mysql(12, 300), mysql(13, 300)];
    vec![
        case(
            "the slowest request is below the quantile",
            "px/slow_http_requests",
            "Sample of Slow Requests by Service",
        )
        .args(&[("namespace", "shop")])
        .rows("http_events", vec![http(10, ONE, 2, json!({}))])
        .wanted(vec![json!({"latency": 1_000_001})]),
        case(
            "the slowest request is below the quantile",
            "px/service",
            "Sample of Slow Inbound Requests",
        )
        .args(&[("service", "shop/front")])
        .rows("http_events", vec![http(10, ONE, 2, json!({}))])
        .wanted(vec![json!({"latency": 1_000_001})]),
        case("a series has a point for each peer", "px/service_edge_stats", "LET")
            .rows("http_events", twice)
            .wanted(vec![
                json!({"k8s": "192.0.2.7 to shop/front"}),
                json!({"k8s": "192.0.2.8 to shop/front"}),
            ]),
        case(
            "the oldest bin's requests are over all of the bin",
            "px/service",
            "inbound_let_timeseries",
        )
        .args(&[("service", "shop/front"), ("start_time", "-43s")])
        .rows("http_events", oldest)
        .rows("process_stats", looks(ONE, 0, 60))
        // 18 s and 19 s, of the three seconds that the window has of the bin.
        .wanted(vec![json!({"request_throughput": 2.0 / 3e9})]),
        case("means over busy bins, means of medians", "px/mysql_stats", "Summary")
            .rows("mysql_events", statements)
            .rows("process_stats", looks(ONE, 1, 60))
            // Four requests in a minute, the median one of 300 ns (a quantile's bucket says 301).
            .wanted(vec![
                json!({"total_requests": 4, "request_throughput": 4.0 / 60e9, "latency": 301}),
            ]),
        case("a share of one is one percent", "px/agent_status_diagnostics", "output")
            .rows("GetAgentStatus", vec![json!({"kernel_headers_installed": true})])
            .wanted(vec![json!({"headers_installed_percent": 1.0})]),
    ]
}

/// Connections, processes, and what is counted.
fn counted() -> Vec<Case> {
    let visitor = |second: i64, sent: i64, opened: i64, address: &str| {
        let rest = json!({
            "remote_addr": address, "remote_port": 0, "bytes_sent": sent, "bytes_recv": 7,
            "conn_open": opened,
        });
        conn(second, ONE, 2, rest)
    };
    let once = |address: &str| {
        vec![
            visitor(10, 500, 1, "192.0.2.9"),
            visitor(350, 800, 3, "192.0.2.9"),
            visitor(355, 90, 1, address),
        ]
    };
    let inbound = |rows: Vec<Json>| Case {
        now_s: 360,
        ..case("a visitor that came once moved nothing", "px/inbound_conns", "inbound_conns")
            .args(&[("start_time", "-5m")])
            .rows("conn_stats", rows)
    };
    let mut flow =
        conn(10, ONE, 1, json!({"remote_addr": "192.0.2.9", "bytes_sent": 60, "bytes_recv": 30}));
    flow["conn_active"] = json!(1);
    let served = conn(
        10,
        ONE,
        2,
        json!({"remote_addr": "192.0.2.8", "remote_port": 0, "bytes_sent": 120, "bytes_recv": 6}),
    );
    let mut in_pods = looks(ONE, 0, 9);
    in_pods.extend(looks(HOST, 0, 9));
    vec![
        inbound(once("192.0.2.10")).wanted(vec![
            json!({"remote_addr": "192.0.2.9", "conn_open": 2, "bytes_sent": 300}),
            json!({"remote_addr": "192.0.2.10", "conn_open": 1, "bytes_sent": 90}),
        ]),
        inbound(once("127.0.0.53"))
            .wanted(vec![json!({"remote_addr": "192.0.2.9", "conn_open": 2, "bytes_sent": 300})]),
        // Capture began anew before the window: what was counted before that is no measure.
        inbound(vec![
            visitor(10, 500, 5, "192.0.2.9"),
            visitor(20, 50, 1, "192.0.2.9"),
            visitor(350, 80, 3, "192.0.2.9"),
        ])
        .wanted(vec![json!({"remote_addr": "192.0.2.9", "conn_open": 2, "bytes_sent": 30})]),
        case("a flow is drawn against its direction", "px/net_flow", "net_flow")
            .rows("conn_stats", vec![flow, served])
            .rows("process_stats", looks(ONE, 1, 60))
            .wanted(vec![
                json!({"from_entity": "shop/one", "to_entity": "192.0.2.9",
                       "bytes_sent": 60.0 / 60e9, "bytes_recv": 30.0 / 60e9, "connections": 1}),
                json!({"from_entity": "192.0.2.8", "to_entity": "shop/one",
                       "bytes_sent": 6.0 / 60e9, "bytes_recv": 120.0 / 60e9}),
            ]),
        case("no service is a service", "px/cluster", "Namespaces")
            .rows("process_stats", in_pods.clone())
            .wanted(vec![
                json!({"namespace": "shop", "pod_count": 1, "service_count": 1}),
                json!({"namespace": "", "pod_count": 0, "service_count": 0}),
            ]),
        case("processes in no pod run nowhere", "px/nodes", "Nodes")
            .rows("process_stats", in_pods.clone())
            .wanted(vec![json!({"node": "node-a"})]),
        case("no pod is a pod", "px/cluster", "Nodes")
            .rows("process_stats", in_pods)
            .wanted(vec![json!({"node": "node-a", "pod_count": 1})]),
        case("a pod's memory is that of a process on average", "px/namespace", "Pod List")
            .args(&[("namespace", "shop")])
            .rows("process_stats", [looks(ONE, 0, 9), looks(ONE_TOO, 0, 9)].concat())
            .wanted(vec![json!({"pod": "shop/one", "rss": 2000})]),
    ]
}

/// Names and topics.
fn names() -> Vec<Case> {
    let query = |name: &str, pod: &str| {
        row(
            10,
            pod,
            1,
            json!({
                "req_body": format!("{{\"queries\":[{{\"name\":\"{name}\",\"type\":\"A\"}}]}}"),
                "resp_body": format!("{{\"answers\":[{{\"name\":\"{name}\",\"type\":\"A\",\"addr\":\"192.0.2.1\"}}]}}"),
                "resp_header": "{\"rcode\":0}",
            }),
        )
    };
    let queries = ["db", "www.localbank.example", "printer.local", "api.internal.example"];
    let kafka = |second: i64, cmd: i64, body: &str, topic: &str| {
        row(
            second,
            ONE,
            2,
            json!({
                "req_cmd": cmd, "client_id": "c",
                body: format!(
                    "{{\"topics\":[{{\"name\":\"{topic}\",\"partitions\":[\
                     {{\"index\":0,\"message_set\":{{\"size\":10}}}},\
                     {{\"index\":1,\"message_set\":{{\"size\":5}}}}]}}]}}"
                ),
            }),
        )
    };
    let written = || vec![kafka(1, 0, "req_body", "logs"), kafka(2, 1, "resp", "jobs")];
    vec![
        case("names without a dot have no label", "px/dns_query_summary", "dns_flow")
            .rows("dns_events", vec![query("db", ONE)])
            .wanted(vec![json!({"qname": "db", "num_resolved": 1})]),
        case("pods whose name has certain letters are left out", "px/dns_flow_graph", "dns_flow")
            .rows("dns_events", vec![row(10, PLANNER, 1, json!({}))])
            .wanted(vec![json!({"from_entity": "shop/planner", "count": 1})]),
        case("names that have `.local` in them are inside", "sotw/dns_external_fqdn_list", "fqdn_list")
            .rows("dns_events", queries.iter().map(|name| query(name, ONE)).collect())
            .wanted(vec![
                json!({"fqdn": "db"}),
                json!({"fqdn": "www.localbank.example"}),
                json!({"fqdn": "api.internal.example"}),
            ]),
        case("topics that are only written, or only read, are left out", "px/kafka_overview", "kafka_topics_overview")
            .rows("kafka_events.beta", written())
            .wanted(vec![
                json!({"topic_name": "logs", "num_consumers": 0, "bytes_produced_total": 15}),
                json!({"topic_name": "jobs", "num_producers": 0, "bytes_consumed_total": 15}),
            ]),
        case("a request counts once a partition", "px/kafka_overview", "kafka_brokers")
            .rows("kafka_events.beta", vec![kafka(1, 0, "req_body", "logs")])
            .wanted(vec![json!({"produce_requests": 1, "bytes_produced_total": 15})]),
        case("deliveries that a broker begins are no deliveries", "px/amqp_data", "amqp_consumer_pod_list")
            .args(&[("routing_key", "jobs")])
            .rows("amqp_events", ["jobs", "logs"].map(|key| row(10, ONE, 1, json!({
                "req_class_id": 60, "req_method_id": 60,
                "req_msg": format!("{{\"routing_key\":\"{key}\",\"consumer_tag\":\"t\"}}"),
            }))).to_vec())
            .wanted(vec![json!({"routing_key": "jobs", "source": "shop/one", "consumer_tag": "t"})]),
        case("a program is shown for each process that had its number", "bpftrace/exec_snoop", "results")
            .rows("exec_table", vec![json!({
                "time_": 10, "pid": 7, "pid_start_time": 1, "ppid": 7, "ppid_start_time": 2,
            })])
            .rows("process_stats", [looks(FIRST_SEVEN, 0, 5), looks(SECOND_SEVEN, 6, 9)].concat())
            .wanted(vec![json!({"pod": "shop/one", "parent_pod": "shop/two"})]),
    ]
}

fn time(second: i64) -> String {
    weir_types::json::time_text(BASE_UNIX_NS + second * SEC_NS)
}

/// `DIR/objects.json` and `DIR/processes.jsonl`: two pods behind a service and one behind none, a
/// process on the host.
fn write_entities(dir: &std::path::Path) {
    let made = "2020-01-01T00:00:00Z";
    let pods = [("one", "10.0.0.1"), ("two", "10.0.0.2"), ("planner", "10.0.0.3")];
    let mut items: Vec<Json> = pods
        .iter()
        .map(|(name, ip)| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", "uid": format!("p-{name}"), "creationTimestamp": made},
                "spec": {"nodeName": "node-a"},
                "status": {"phase": "Running", "podIP": ip, "hostIP": "198.51.100.1", "containerStatuses":
                    [{"name": "main", "containerID": format!("containerd://{name}")}]},
            })
        })
        .collect();
    let addresses: Vec<Json> = pods[..2]
        .iter()
        .map(|(name, ip)| json!({"ip": ip, "targetRef": {"kind": "Pod", "name": name, "uid": format!("p-{name}")}}))
        .collect();
    items.push(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "front", "namespace": "shop", "uid": "s-1", "creationTimestamp": made},
        "spec": {"clusterIP": "10.96.0.10"},
    }));
    items.push(json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "front", "namespace": "shop"},
        "subsets": [{"addresses": addresses}],
    }));
    let list = json!({"kind": "List", "apiVersion": "v1", "items": items}).to_string();
    std::fs::write(dir.join("objects.json"), list).expect("a file");
    let processes = [
        (ONE, "one"),
        (TWO, "two"),
        (HOST, ""),
        (ONE_TOO, "one"),
        (PLANNER, "planner"),
        (FIRST_SEVEN, "one"),
        (SECOND_SEVEN, "two"),
    ];
    let lines: Vec<String> = processes
        .iter()
        .map(|(upid, container)| {
            json!({"upid": upid, "cmdline": "x", "container_id": container, "node": "node-a"})
                .to_string()
        })
        .collect();
    std::fs::write(dir.join("processes.jsonl"), lines.join("\n")).expect("a file");
}

/// The case's files, as `--rows` takes them.
fn write_rows(case: &Case, dir: &std::path::Path) {
    write_entities(dir);
    for (table, rows) in &case.rows {
        let lines = rows.iter().cloned().map(|mut row| {
            if let Some(second) = row["time_"].as_i64() {
                row["time_"] = json!(BASE_UNIX_NS + second * SEC_NS);
            }
            row.to_string()
        });
        let lines: Vec<String> = lines.collect();
        std::fs::write(dir.join(format!("{table}.jsonl")), lines.join("\n")).expect("a file");
    }
}

/// What the plan reads of the case's files.
fn world(case: &Case, compiled: &Compiled) -> Result<World, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    write_rows(case, dir.path());
    let metadata = read_entities(dir.path()).map_err(|error| error.to_string())?;
    let mut world = World { metadata: Arc::new(metadata), ..World::default() };
    for (name, _) in compiled.plan.scans() {
        let declared = compiled.tracepoints.iter().find(|tracepoint| tracepoint.table == name);
        let relation = match declared {
            Some(tracepoint) => tracepoint.relation.clone(),
            None => tables::relation(name).ok_or("no such table")?.clone(),
        };
        let found = read_table(dir.path(), name, &relation).map_err(|error| error.to_string())?;
        let types = relation.types();
        let rows = found.rows.iter().map(|(arrival, row)| Arrived {
            arrival_unix_ns: *arrival,
            row: row.unpack(&types).expect("a row of the table"),
        });
        let table = Table { rows: rows.collect(), relation };
        world.tables.insert(name.to_string(), table);
    }
    table_functions(&compiled.plan, dir.path(), &mut world)?;
    Ok(world)
}

fn table_functions(
    plan: &weir_types::Plan,
    dir: &std::path::Path,
    world: &mut World,
) -> Result<(), String> {
    for op in &plan.ops {
        let weir_types::plan::OpKind::TableFunction { name, .. } = &op.kind else { continue };
        let rows = weir_sources::rows::read_table_function(dir, name, &op.relation)
            .map_err(|error| error.to_string())?;
        let types = op.relation.types();
        let rows = rows.iter().map(|row| row.unpack(&types).expect("a row of the function"));
        world.table_functions.insert(name.clone(), rows.collect());
    }
    Ok(())
}

/// The rows of the case's output that the script gives.
fn given(case: &Case) -> Result<Vec<Map<String, Json>>, String> {
    let script = bundle::find(case.script).ok_or("no such script")?;
    let text = Script { name: script.name, text: script.pxl, vis: script.vis };
    let args = case.args.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let options = CompileOptions {
        args: args.collect(),
        placeholders: true,
        unoptimised: true,
        ..CompileOptions::default()
    };
    let compiled =
        compile(&text, &options).map_err(|found| render_diagnostics(&found, script.pxl, false))?;
    let now_unix_ns = BASE_UNIX_NS + case.now_s * SEC_NS;
    let outputs = evaluate(&compiled.plan, &world(case, &compiled)?, now_unix_ns)
        .map_err(|error| error.to_string())?;
    let output = compiled.plan.outputs.iter().find(|output| output.table == case.output);
    let output = output.ok_or_else(|| format!("no output {}", case.output))?;
    let relation = &compiled.plan.ops[output.op].relation;
    let mut given = Vec::new();
    for (row, count) in &outputs[&output.table] {
        let row = row_to_json(relation, row).ok_or("a row that is none")?;
        given.extend((0..*count).map(|_| row.clone()));
    }
    Ok(given)
}

/// Whether the row has the wanted values; numbers with a fraction may differ in the last digits.
fn fits(row: &Map<String, Json>, wanted: &Json) -> bool {
    let wanted = wanted.as_object().expect("an object");
    wanted.iter().all(|(name, value)| match (row.get(name), value) {
        (Some(Json::Number(is)), Json::Number(want)) => {
            let (is, want) = (is.as_f64().unwrap_or(f64::NAN), want.as_f64().unwrap_or(f64::NAN));
            (is - want).abs() <= 1e-9 * want.abs()
        }
        (Some(is), want) => is == want,
        (None, _) => false,
    })
}

/// Each case gives its rows, and no others: catches what `catches` says, and siblings of it.
#[test]
fn scripts_say_what_is_true() {
    let mut wrong = Vec::new();
    for case in [ends(), figures(), counted(), names()].into_iter().flatten() {
        let place = format!("{} ({})", case.script, case.catches);
        match given(&case) {
            Err(why) => wrong.push(format!("{place}: {why}")),
            Ok(given) => {
                let all = case.wanted.iter().all(|want| given.iter().any(|row| fits(row, want)));
                if !all || given.len() != case.wanted.len() {
                    let shown: Vec<String> =
                        given.iter().map(|row| Json::Object(row.clone()).to_string()).collect();
                    wrong.push(format!(
                        "{place}: wanted {:?}, got\n  {}",
                        case.wanted,
                        shown.join("\n  ")
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
