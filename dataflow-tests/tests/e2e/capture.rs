//! What real clients and servers did is what the live view says: no more, no less, no later.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_dataflow_tests::harness::http::{Exchange, Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::{Live, Weir};

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);

fn trace(port: u16) -> String {
    format!("port:{port}")
}

/// Server-side rows of nginx's port, each with a path of its own.
fn per_path(port: u16) -> String {
    format!(
        "import px\n\
         df = px.DataFrame('http_events', start_time='-10m')\n\
         df = df[df.trace_role == 2]\n\
         df = df[df.local_port == {port}]\n\
         df = df.groupby(['req_path', 'resp_status']).agg(n=('latency', px.count), slowest=('latency', px.max))\n\
         px.display(df, 'paths')\n"
    )
}

fn script_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn live(weir: &Weir, script: &tempfile::NamedTempFile) -> Live {
    weir.live(script.path().to_str().unwrap(), &["--refresh", "200ms"]).unwrap()
}

/// (path, status) → (count, slowest latency)
fn seen(live: &Live) -> BTreeMap<(String, i64), (i64, u64)> {
    live.view
        .rows("paths")
        .into_iter()
        .map(|(row, count)| {
            assert_eq!(count, 1, "a group is one row: {row}");
            let key = (
                row["req_path"].as_str().unwrap().to_string(),
                row["resp_status"].as_i64().unwrap(),
            );
            (key, (row["n"].as_i64().unwrap(), row["slowest"].as_u64().unwrap()))
        })
        .collect()
}

fn expected(log: &[Exchange]) -> BTreeMap<(String, i64), i64> {
    let mut counts = BTreeMap::new();
    for exchange in log {
        if let Some(status) = exchange.status {
            *counts.entry((exchange.path.clone(), i64::from(status))).or_insert(0) += 1;
        }
    }
    counts
}

fn total(live: &Live) -> i64 {
    seen(live).values().map(|(n, _)| n).sum()
}

/// The main claim: 10,000 requests at 2,000/s are 10,000 rows on the server's side, each with its
/// status and a latency within the client's own, and nothing is lost. Catches a lost record, a wrong
/// pair, a doubled row, and a clock that is off.
#[test]
fn ten_thousand_requests_are_ten_thousand_rows() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let port = nginx.addr.port();
    let weir = Weir::start(&["--trace", &trace(port)]).unwrap();
    let script = script_file(&per_path(port));
    let mut live = live(&weir, &script);
    live.wait_for(DEADLINE, |view| view.progress.is_some()).unwrap();
    let mut paths: Vec<String> = (0..100).map(|n| format!("/item/{n}")).collect();
    paths.extend(["/missing", "/error", "/moved"].map(str::to_string));
    let log = run_load(&Load {
        addr: nginx.addr,
        paths,
        requests: 10_000,
        requests_per_sec: 2_000,
        connections: 16,
        keep_alive: true,
    });
    assert!(log.iter().all(|exchange| exchange.status.is_some()), "every request was answered");
    live.wait_for(DEADLINE, |view| {
        let rows = view.rows("paths");
        rows.iter().filter_map(|(row, _)| row["n"].as_i64()).sum::<i64>() >= 10_000
    })
    .unwrap();
    let seen = seen(&live);
    let counts: BTreeMap<_, _> = seen.iter().map(|(key, (n, _))| (key.clone(), *n)).collect();
    assert_eq!(counts, expected(&log));
    for ((path, status), (_, slowest_ns)) in &seen {
        let of_client = log
            .iter()
            .filter(|e| e.path == *path && e.status.map(i64::from) == Some(*status))
            .map(|e| e.latency_ns)
            .max()
            .unwrap();
        assert!(*slowest_ns > 0 && *slowest_ns <= of_client, "{path}: {slowest_ns} > {of_client}");
    }
    let lost = weir.lost_of("http_events", log.len()).unwrap();
    assert!(lost.values().all(|count| *count == 0), "{lost:?}");
    let stats = weir.stats().unwrap();
    assert_eq!(stats["tables"]["http_events"]["unpaired"], 0, "{stats}");
}

/// One connection a request, and the server killed and started again midway: what the client saw
/// answered is there, and nothing that was never asked.
#[test]
fn survives_a_killed_server_and_short_connections() {
    if !can_capture() {
        return;
    }
    let nginx =
        Nginx::start(NginxOptions { keep_alive: false, ..NginxOptions::default() }).unwrap();
    let addr = nginx.addr;
    let port = addr.port();
    let weir = Weir::start(&["--trace", &trace(port)]).unwrap();
    let script = script_file(&per_path(port));
    let mut live = live(&weir, &script);
    live.wait_for(DEADLINE, |view| view.progress.is_some()).unwrap();
    let load = Load {
        addr,
        paths: (0..50).map(|n| format!("/short/{n}")).collect(),
        requests: 1_500,
        requests_per_sec: 500,
        connections: 8,
        keep_alive: false,
    };
    let client = std::thread::spawn(move || run_load(&load));
    live.wait_for(DEADLINE, |view| {
        view.rows("paths").iter().filter_map(|(row, _)| row["n"].as_i64()).sum::<i64>() >= 500
    })
    .unwrap();
    nginx.kill().unwrap();
    let again = Nginx::start(NginxOptions { port, keep_alive: false }).unwrap();
    let log = client.join().unwrap();
    let answered = log.iter().filter(|exchange| exchange.status == Some(200)).count();
    assert!(answered > 600, "the load went on after the restart: {answered}");
    let answered = i64::try_from(answered).unwrap();
    live.wait_for(DEADLINE, |view| {
        view.rows("paths").iter().filter_map(|(row, _)| row["n"].as_i64()).sum::<i64>() >= answered
    })
    .unwrap();
    let seen = seen(&live);
    for (key, n) in expected(&log) {
        let have = seen.get(&key).map_or(0, |(have, _)| *have);
        let asked = log.iter().filter(|exchange| exchange.path == key.0).count();
        assert!(have >= n, "{key:?}: {have} rows for {n} answers");
        assert!(have <= i64::try_from(asked).unwrap(), "{key:?}: {have} rows for {asked} requests");
    }
    drop(again);
}

/// A query installed after the traffic shows at once what its window covers, and goes on: back-fill
/// and live neither overlap nor leave a gap.
#[test]
fn a_late_query_sees_the_past_and_the_present() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let port = nginx.addr.port();
    let weir = Weir::start(&["--trace", &trace(port)]).unwrap();
    let load = Load {
        addr: nginx.addr,
        paths: vec!["/past".to_string()],
        requests: 2_000,
        requests_per_sec: 1_000,
        connections: 4,
        keep_alive: true,
    };
    let client = std::thread::spawn(move || run_load(&load));
    let script = script_file(&per_path(port));
    let mut views = Vec::new();
    for _ in 0..4 {
        let mut view = live(&weir, &script);
        view.wait_for(DEADLINE, |view| view.progress.is_some()).unwrap();
        views.push(view);
    }
    let log = client.join().unwrap();
    assert!(log.iter().all(|exchange| exchange.status == Some(200)));
    for mut view in views {
        view.wait_for(DEADLINE, |view| {
            view.rows("paths").iter().filter_map(|(row, _)| row["n"].as_i64()).sum::<i64>() >= 2_000
        })
        .unwrap();
        assert_eq!(total(&view), 2_000);
    }
    // One answer agrees with the live view.
    let run = weir.run(&["run", script.path().to_str().unwrap(), "-o", "json"], DEADLINE).unwrap();
    assert!(run.status.success(), "{run:?}");
    let rows = run.json_lines();
    assert_eq!(rows[0]["n"], 2_000, "{run:?}");
    assert_eq!(rows[0]["_tableName_"], "paths");
}

/// Watching does not create what is watched: the server's own API traffic never becomes a row.
#[test]
fn own_traffic_is_not_captured() {
    if !can_capture() {
        return;
    }
    let port = weir_dataflow_tests::harness::free_port();
    let weir = Weir::start(&["--trace", &trace(port)]).unwrap();
    // The same question without a port filter needs a server that traces everything: its API port
    // is known only once it runs, so filter rows by it.
    let own = Weir::start(&[]).unwrap();
    let api_port = own.addr.port();
    let script = script_file(&format!(
        "import px\n\
         df = px.DataFrame('http_events', start_time='-10m')\n\
         df = df[df.local_port == {api_port} or df.remote_port == {api_port}]\n\
         px.display(df[['time_', 'local_port', 'remote_port', 'req_path']], 'own')\n"
    ));
    let mut live = own.live(script.path().to_str().unwrap(), &["--refresh", "200ms"]).unwrap();
    for _ in 0..20 {
        assert_eq!(own.get("/api/v1/scripts").unwrap().status, 200);
    }
    live.wait_for(DEADLINE, |view| view.frontiers.len() >= 3).unwrap();
    assert!(live.view.rows("own").is_empty(), "{:?}", live.view.rows("own"));
    drop(weir);
}

/// A parser that panics on one connection is reported, and the others go on.
#[test]
fn a_parser_panic_stays_with_its_connection() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let port = nginx.addr.port();
    let weir = Weir::start(&["--trace", &trace(port), "--test-faults"]).unwrap();
    let script = script_file(&per_path(port));
    let mut live = live(&weir, &script);
    live.wait_for(DEADLINE, |view| view.progress.is_some()).unwrap();
    let load = |path: &str, requests| Load {
        addr: nginx.addr,
        paths: vec![path.to_string()],
        requests,
        requests_per_sec: 200,
        connections: 1,
        keep_alive: true,
    };
    let asked = run_load(&load("/weir-test-parser-panic", 1));
    assert_eq!(asked[0].status, Some(200));
    let after = run_load(&load("/after", 50));
    assert!(after.iter().all(|exchange| exchange.status == Some(200)));
    live.wait_for(DEADLINE, |view| {
        view.rows("paths").iter().any(|(row, _)| row["req_path"] == "/after" && row["n"] == 50)
    })
    .unwrap();
    // Counters travel about once a second.
    let panics = wait_until(DEADLINE, || {
        let stats = weir.stats().ok()?;
        stats["tables"]["http_events"]["lost"]["parser_panic"].as_u64().filter(|n| *n > 0)
    });
    assert!(panics.is_some(), "{:?}", weir.stats());
}
