//! A node beside the bus server: what Weir does itself over the bus is in no table, from neither end, and what others
//! do over the same server is.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value as Json;
use weir_dataflow_tests::harness::fleet::{BusServer, Node, settles};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;

use crate::ports::{DEADLINE, can_run, script_of};

/// Messages of an application that are published and delivered, over a connection of its own.
fn application(url: &str, messages: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(url).await.unwrap();
        let mut all = client.subscribe("app.>").await.unwrap();
        for number in 0..messages {
            client.publish(format!("app.{number}"), "hello".into()).await.unwrap();
            let got = tokio::time::timeout(DEADLINE, all.next()).await.unwrap().unwrap();
            assert_eq!(got.payload, "hello");
        }
    });
}

/// What is there of the bus's protocol: subjects of the application's, and all else that is ours.
fn rows(cluster: &Weir, script: &str) -> (usize, Vec<Json>) {
    let rows = cluster.run(&["run", script, "-o", "jsonl"], DEADLINE).unwrap().json_lines();
    let rows: Vec<Json> = rows.into_iter().filter(|row| row["cmd"].is_string()).collect();
    let body = |row: &Json| row["body"].as_str().unwrap_or_default().to_string();
    let app = rows.iter().filter(|row| body(row).contains("\"app."));
    let app = app.filter(|row| ["PUB", "MSG"].contains(&row["cmd"].as_str().unwrap())).count();
    let ours = rows.into_iter().filter(|row| body(row).contains("weir"));
    (app, ours.collect())
}

/// A node captures the protocol of its bus at the very server that it uses, with a view over all of it, which would
/// feed itself: a minute's traffic of the bus, over a restart of the server, leaves no row, and every message of an
/// application leaves its rows at both ends. Catches connections of ours that are known from one end only, or not
/// from their beginning, and an exclusion that makes everybody's traffic over the server invisible.
#[test]
fn the_bus_is_not_watched() {
    if !can_run() {
        return;
    }
    let mut bus = BusServer::start("").unwrap();
    let cluster = Weir::start_cluster(&bus.url(), &[]).unwrap();
    let trace = format!("port:{}", bus.addr.port());
    let node = Node::start(&bus.url(), "a", &["--trace", &trace]).unwrap();
    settles(DEADLINE, "the node is there", || {
        let nodes = cluster.run(&["nodes", "-o", "jsonl"], DEADLINE).unwrap();
        nodes.json_lines().iter().any(|node| node["name"] == "a")
    });
    let script = script_of(
        "df = px.DataFrame('nats_events.beta', start_time='-10m')\n\
         px.display(df[['time_', 'trace_role', 'local_port', 'remote_port', 'cmd', 'body']], 'rows')\n",
    );
    let script = script.path().to_str().unwrap();
    let mut live = cluster.live(script, &["--refresh", "200ms"]).unwrap();
    let mut frontiers = 0;
    for round in 1..=2_usize {
        application(&bus.url(), 20);
        // Published and delivered, each seen at both ends.
        let all = 20 * 4 * round;
        let there = wait_until(DEADLINE, || {
            let (app, ours) = rows(&cluster, script);
            assert_eq!(ours, Vec::<Json>::new(), "in round {round}");
            (app >= all).then_some(app)
        });
        assert_eq!(there, Some(all));
        // The bus is at work meanwhile.
        frontiers += 25;
        live.wait_for(Duration::from_secs(120), |view| view.frontiers.len() > frontiers).unwrap();
        assert_eq!(rows(&cluster, script), (all, Vec::new()), "in round {round}");
        if round == 1 {
            bus.restart().unwrap();
        }
    }
    assert!(node.stop().unwrap().success());
}
