//! Silence is not recovery: alerts about a node that dies.

use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::fleet::{BusServer, Node, Way};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;
use weir_types::{Clock, WallClock};

use crate::ports::can_run;

const DEADLINE: Duration = Duration::from_secs(90);

/// Two rules over failing requests of the last seconds, which differ in what they make of an answer that is not complete.
fn rules() -> String {
    let rule = |name: &str, incomplete: &str| {
        format!(
            "  - alert: {name}\n    incomplete: {incomplete}\n    expr: |\n      import px\n      \
             df = px.DataFrame('http_events', start_time='-5s')\n      \
             df = df[df.resp_status >= 500]\n      \
             px.display(df.groupby('req_path').agg(value=('latency', px.count)))\n"
        )
    };
    format!("groups:\n- name: g\n  rules:\n{}{}", rule("Holds", "hold"), rule("Marks", "mark"))
}

fn alerts(cluster: &Weir) -> Vec<Json> {
    cluster.run(&["alerts", "-o", "json"], DEADLINE).unwrap().json_lines()
}

fn names(alerts: &[Json]) -> Vec<&str> {
    let mut names: Vec<&str> =
        alerts.iter().map(|alert| alert["alertname"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

fn until(cluster: &Weir, what: &str, wanted: impl Fn(&[Json]) -> bool) {
    let done = wait_until(DEADLINE, || wanted(&alerts(cluster)).then_some(()));
    assert!(done.is_some(), "{what}: {:#?} {:#?}", alerts(cluster), cluster.log());
}

/// The node that saw a service fail is killed while its alerts fire, and its rows leave the window. The rule that holds
/// goes on firing and says why it cannot know; the one that marks is over. Once the node is back and the window has been
/// seen as a whole, the other one is over as well, and each is told once. Catches a dead node that resolves what it saw.
#[test]
fn a_dead_node_resolves_nothing() {
    if !can_run() {
        return;
    }
    let bus = BusServer::start("").unwrap();
    let hook = Hook::start(200).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("r.yml"), rules()).unwrap();
    let file = dir.path().join("weir.yaml");
    let text = format!(
        "rules: [r.yml]\nreceivers: [{{name: hook, type: webhook, url: 'http://{}/'}}]\n",
        hook.addr
    );
    std::fs::write(&file, text).unwrap();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let start = || Node::start(&bus.url(), "a", &["--trace", &trace]).unwrap();
    let node = start();
    let _other = Node::start(&bus.url(), "b", &["--trace", "port:1"]).unwrap();
    let cluster = Weir::start_cluster(&bus.url(), &["--config", file.to_str().unwrap()]).unwrap();
    let fails = || drop(run_load(&Load::of(nginx.addr, "/error", 5)));
    until(&cluster, "both fire", |alerts| {
        fails();
        names(alerts) == ["Holds", "Marks"]
    });
    drop(node.kill().unwrap());
    until(&cluster, "one is over", |alerts| names(alerts) == ["Holds"]);
    let held = alerts(&cluster).remove(0);
    assert_eq!(held["state"], "firing", "{held}");
    assert_eq!(held["completeness"]["complete"], false, "{held}");
    assert!(held["completeness"]["why"].as_str().unwrap().contains("nodes lag: a"), "{held}");

    let _node = start();
    until(&cluster, "the other one is over", |alerts| alerts.is_empty());
    let done = wait_until(DEADLINE, || (hook.told("req_path").len() >= 4).then_some(()));
    assert!(done.is_some(), "{:?}", hook.told("req_path"));
    let mut told = hook.told("req_path");
    told.sort();
    let wanted = ["firing Holds", "firing Marks", "resolved Holds", "resolved Marks"];
    assert_eq!(told, wanted.map(|text| format!("{text} /error")));
}

/// More than half of what two nodes saw failed, as far as one of them can tell; the other one, whose way to the bus is cut,
/// saw before that that most went well. The alert is pending until its rows arrive, late, and is then taken back: it never
/// fires, and nobody is told. Catches late rows that are added to a window and not to what was made of it.
#[test]
fn late_rows_of_a_node_retract_what_is_pending() {
    if !can_run() {
        return;
    }
    let bus = BusServer::start("").unwrap();
    let way = Way::to(bus.addr).unwrap();
    let hook = Hook::start(200).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // With `hold` it would wait until the ten minutes are whole, since a node may have come after the first answer.
    let rule = "groups:\n- name: g\n  rules:\n  - alert: Half\n    for: 1h\n    incomplete: mark\n    expr: |\n      import px\n      \
                df = px.DataFrame('http_events', start_time='-10m')\n      df = df[df.trace_role == 2]\n      \
                df.failed = px.select(df.resp_status >= 500, 1.0, 0.0)\n      \
                df = df.groupby('req_method').agg(value=('failed', px.mean))\n      \
                px.display(df[df.value > 0.5])\n";
    std::fs::write(dir.path().join("r.yml"), rule).unwrap();
    let file = dir.path().join("weir.yaml");
    let text = format!(
        "rules: [r.yml]\nreceivers: [{{name: hook, type: webhook, url: 'http://{}/'}}]\n",
        hook.addr
    );
    std::fs::write(&file, text).unwrap();
    let (well, ill) = (
        Nginx::start(NginxOptions::default()).unwrap(),
        Nginx::start(NginxOptions::default()).unwrap(),
    );
    let node = |url: String, name: &str, nginx: &Nginx| {
        let trace = format!("port:{}", nginx.addr.port());
        Node::start(&url, name, &["--trace", &trace]).unwrap()
    };
    let _nodes = (node(way.url(), "a", &well), node(bus.url(), "b", &ill));
    let cluster = Weir::start_cluster(&bus.url(), &["--config", file.to_str().unwrap()]).unwrap();
    // Both are heard, and what they saw is judged.
    let script = dir.path().join("seen.pxl");
    let text = "import px\ndf = px.DataFrame('http_events', start_time='-10m')\n\
                df = df[df.trace_role == 2]\n\
                px.display(df.groupby('local_port').agg(n=('latency', px.count)))\n";
    std::fs::write(&script, text).unwrap();
    for nginx in [&well, &ill] {
        assert_eq!(run_load(&Load::of(nginx.addr, "/ok", 1)).len(), 1);
    }
    let there = wait_until(DEADLINE, || {
        let rules = cluster.run(&["alerts", "--rules", "-o", "json"], DEADLINE).unwrap();
        let [rule] = rules.json_lines().try_into().unwrap();
        let seen = ["run", script.to_str().unwrap(), "-o", "jsonl"];
        let seen = cluster.run(&seen, DEADLINE).unwrap().json_lines();
        (rule["state"] == "running" && seen.len() == 2).then_some(())
    });
    assert!(there.is_some(), "{:#?}", cluster.log());

    way.cut(true);
    drop(run_load(&Load::of(well.addr, "/ok", 20)));
    let was_well = WallClock.now_unix_ns();
    drop(run_load(&Load::of(ill.addr, "/error", 5)));
    until(&cluster, "it is pending", |alerts| names(alerts) == ["Half"]);
    let pending = alerts(&cluster).remove(0);
    assert_eq!(pending["state"], "pending", "{pending}");
    let active = weir_types::json::parse_time(pending["active_at"].as_str().unwrap()).unwrap();
    assert!(active > was_well, "{pending}");
    way.cut(false);
    until(&cluster, "it is taken back", |alerts| alerts.is_empty());
    let history = cluster.run(&["alerts", "--history", "-o", "json"], DEADLINE).unwrap();
    let history = history.json_lines();
    let whats: Vec<&str> = history.iter().map(|item| item["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["pending", "retracted"], "{history:#?}");
    assert_eq!(hook.heads(), [""; 0]);
}
