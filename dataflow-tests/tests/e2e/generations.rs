//! The core survives its own death: whatever part dies, views go on under the same subscriptions.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tempfile::NamedTempFile;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::socket::Socket;
use weir_dataflow_tests::harness::weir::Weir;

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 40;

const SCAN: &str = "import px\ndf = px.DataFrame('http_events', start_time='-10m')\n";

/// A script that shows the requests per path that a port has served.
fn counts_per_path(port: u16) -> NamedTempFile {
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    let text = format!(
        "{SCAN}df = df[df.trace_role == 2]\ndf = df[df.local_port == {port}]\n\
         df = df.groupby('req_path').agg(n=('latency', px.count))\npx.display(df, 'paths')\n"
    );
    std::fs::write(script.path(), text).unwrap();
    script
}

fn load(nginx: &Nginx) -> Load {
    Load {
        addr: nginx.addr,
        paths: vec!["/a".to_string(), "/b".to_string()],
        requests: REQUESTS,
        requests_per_sec: 0,
        connections: 2,
        keep_alive: true,
    }
}

/// Each part is killed under traffic. The same `weir live` goes on, its frontier never goes back, no count
/// is ever negative, and after each death it holds every request since the start once: what was seen before
/// comes back from history, and is not added to what the reader has. In the end it equals `run`.
#[test]
fn views_go_on_whatever_dies() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let port = nginx.addr.port();
    let weir = Weir::start(&["--trace", &format!("port:{port}"), "--test-faults"]).unwrap();
    let script = counts_per_path(port);
    let script = script.path().to_str().unwrap();
    let mut live = weir.live(script, &["--refresh", "200ms"]).unwrap();
    live.wait_for(DEADLINE, |view| view.progress.is_some()).unwrap();
    let load = load(&nginx);
    let parts = ["cluster_engine", "node_engine", "node_thread", "coordinator", "cluster_engine"];
    let mut sent = 0;
    for part in parts {
        sent += run_load(&load).len();
        live.wait_for(DEADLINE, |view| count(&view.rows("paths")) == sent as i64).unwrap();
        let killed = weir.post("/api/v1/test/fault", &json!({"kill": part})).unwrap();
        assert_eq!(killed.status, 204, "{part}: {}", killed.text());
        sent += run_load(&load).len();
        let frontiers = live.view.frontiers.len();
        live.wait_for(DEADLINE, |view| {
            let rows = count(&view.rows("paths"));
            assert!(rows <= sent as i64, "{part}: {rows} of {sent} requests");
            rows == sent as i64 && view.frontiers.len() > frontiers + 10
        })
        .unwrap();
        assert!(live.view.errors.is_empty(), "{part}: {:?}", live.view.errors);
    }
    let generation = &weir.stats().unwrap()["engine_generation"];
    assert_eq!(generation, 3, "the cluster's engine died twice");
    deaths_are_seen(&weir);
    let answer = weir.run(&["run", script, "-o", "jsonl"], DEADLINE).unwrap();
    let counted = answer.json_lines().into_iter().filter_map(|row| row["n"].as_i64());
    assert_eq!(counted.sum::<i64>(), sent as i64);
    nginx.quit().unwrap();
}

/// The tree of parts tells who died how often, and that all is well again, in `/metrics` and to `weir doctor`.
fn deaths_are_seen(weir: &Weir) {
    let metrics = weir.get("/metrics").unwrap().text();
    let doctor = weir.run(&["doctor", "-o", "json"], DEADLINE).unwrap();
    let report = doctor.json_lines().into_iter().next().unwrap();
    for (path, deaths) in [("weir/cluster/engine", 2), ("weir/cluster/coordinator", 1)] {
        for (metric, value) in [("up", 1), ("restarts_total", deaths), ("deaths_total", deaths)] {
            let line = format!("weir_part_{metric}{{part=\"{path}\"}} {value}\n");
            assert!(metrics.contains(&line), "{line} in {metrics}");
        }
        let parts = report["server"]["parts"].as_array().unwrap();
        let part = parts.iter().find(|part| part["part"] == path).unwrap();
        assert_eq!((&part["state"], &part["deaths"]), (&json!("running"), &json!(deaths)));
        assert_ne!(part["last_reason"], "");
    }
    assert!(metrics.contains("weir_part_group{part=\"weir/cluster/views\",state=\"running\"} "));
    let text = weir.run(&["doctor", "-o", "table"], DEADLINE).unwrap().stdout.join("\n");
    assert!(text.contains("weir/cluster/engine"), "{text}");
    assert!(text.contains("died 2 times"), "{text}");
}

/// A script that brings the engine down whenever it runs is ended after the second death and refused from
/// then on, with a code; the view beside it goes on under its subscription, in spite of more deaths within a
/// minute than the server used to forgive. Would catch a script that ends all views.
#[test]
fn a_script_that_kills_is_ended_alone() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let port = nginx.addr.port();
    let weir = Weir::start(&["--trace", &format!("port:{port}"), "--test-faults"]).unwrap();
    let script = counts_per_path(port);
    let mut live = weir.live(script.path().to_str().unwrap(), &["--refresh", "200ms"]).unwrap();
    let load = load(&nginx);
    let mut sent = run_load(&load).len();
    live.wait_for(DEADLINE, |view| count(&view.rows("paths")) == sent as i64).unwrap();
    // In the node part, and behind an aggregate in the cluster part.
    let fatal = "df = df[df.req_path != '__weir_test_deaths__']\n";
    let group = "df = df.groupby('req_path').agg(n=('latency', px.count))\n";
    let show = "px.display(df, 'fatal')\n";
    let kills = [format!("{SCAN}{fatal}{show}"), format!("{SCAN}{group}{fatal}{show}")];
    for (number, text) in kills.iter().enumerate() {
        for attempt in ["until it is ended", "at once"] {
            let answer = weir.post("/api/v1/run", &json!({ "text": text })).unwrap();
            assert_eq!(answer.status, 422, "{number}, {attempt}: {}", answer.text());
            assert!(answer.text().contains("query_quarantined"), "{}", answer.text());
        }
        sent += run_load(&load).len();
        let frontiers = live.view.frontiers.len();
        live.wait_for(DEADLINE, |view| {
            count(&view.rows("paths")) == sent as i64 && view.frontiers.len() > frontiers + 5
        })
        .unwrap();
        assert!(live.view.errors.is_empty(), "{number}: {:?}", live.view.errors);
    }
    nginx.quit().unwrap();
}

fn count(rows: &[(Json, i64)]) -> i64 {
    rows.iter().filter_map(|(row, count)| Some(row["n"].as_i64()? * count)).sum()
}

/// A server that is killed and comes back under three clients that reconnect as soon as its port answers,
/// long before its sources run: each gets its view without an error. Would catch a table that is refused
/// because its source is still starting.
#[test]
fn clients_come_back_after_a_restart() {
    let args = ["--trace", "port:1"];
    let mut weir = Weir::start(&args).unwrap();
    let (addr, token) = (weir.addr, weir.token.clone());
    let text = "import px\npx.display(px.DataFrame('http_events', start_time='-1m'), 'h')\n\
                px.display(px.DataFrame('process_stats', start_time='-1m'), 'p')\n";
    let connect = || {
        let mut socket = Socket::open(addr, &token).ok()?;
        socket.subscribe("tab", text).ok()?;
        Some(socket)
    };
    let mut tabs: Vec<Socket> = (0..3).map(|_| connect().unwrap()).collect();
    let settles = |socket: &mut Socket| {
        let message = socket
            .wait_for(DEADLINE, |m| matches!(m["type"].as_str(), Some("progress" | "error")))
            .unwrap();
        assert_eq!(message["type"], "progress", "{message}");
    };
    tabs.iter_mut().for_each(settles);
    weir.end(Signal::Kill).unwrap();
    let data_dir = weir.into_data_dir();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| Weir::start_at(data_dir, addr, &args).unwrap());
        for tab in &mut tabs {
            *tab = weir_dataflow_tests::harness::wait_until(DEADLINE, connect).unwrap();
        }
        tabs.iter_mut().for_each(settles);
        drop(server.join().unwrap());
    });
}
