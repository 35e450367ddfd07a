//! Silence is not recovery: alerts about a node that dies.

use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::fleet::{BusServer, Node};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;

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
