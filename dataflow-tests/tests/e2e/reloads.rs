//! A configuration that changes while the server runs, and secrets that it is given beside it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::receivers::{self, Prometheus};
use weir_dataflow_tests::harness::weir::{self, Weir};
use weir_dataflow_tests::harness::{free_port, wait_until};
use weir_types::{Clock, WallClock};

use crate::sinks::elements;

const DEADLINE: Duration = Duration::from_secs(60);
/// What waited for a sink is at its new place by then.
const SOON: Duration = Duration::from_secs(5);
const PATHS: usize = 5;

const ROWS: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-10m')\n\
    df = df[df.trace_role == 2]\n\
    px.display(df[['time_', 'req_path']])\n";
/// Of the last seconds: all series go at once when the traffic is over.
const LATELY: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-10s')\n\
    df = df[df.trace_role == 2]\n\
    px.display(df.groupby('req_path').agg(n=('latency', px.count)))\n";

fn config(dir: &Path, hook: SocketAddr, scraped: SocketAddr) -> String {
    std::fs::write(dir.join("rows.pxl"), ROWS).unwrap();
    std::fs::write(dir.join("lately.pxl"), LATELY).unwrap();
    let text = format!(
        "sinks:\n  \
         lines:\n    type: file\n    inputs: [{{file: rows.pxl}}]\n    \
         encoding: {{mode: append}}\n    path: rows.jsonl\n  \
         hook:\n    type: http\n    framing: lines\n    inputs: [{{file: rows.pxl}}]\n    \
         encoding: {{mode: append}}\n    url: http://{hook}/\n    \
         retry: {{initial: 100ms, max: 1s}}\n  \
         scraped:\n    type: prometheus\n    inputs: [{{file: lately.pxl}}]\n    listen: {scraped}\n"
    );
    let file = dir.join("weir.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

fn requests(addr: SocketAddr, round: usize) {
    let load = Load {
        addr,
        paths: (0..PATHS).map(|n| format!("/{round}/{n}")).collect(),
        requests: 10 * PATHS,
        requests_per_sec: 50,
        connections: 2,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), load.requests);
}

fn numbers(elements: &[Json]) -> BTreeSet<u64> {
    elements.iter().map(|element| element["seq"].as_u64().unwrap()).collect()
}

fn until(weir: &Weir, what: &str, wanted: impl Fn() -> bool) {
    let done = wait_until(DEADLINE, || wanted().then_some(()));
    assert!(done.is_some(), "{what}: {:#?}", weir.log());
}

/// A receiver that refuses everything holds up neither the file nor the exporter beside it; after its url was changed
/// and the server told so by SIGHUP, the new one has all that waited, in order, without a reset. A real Prometheus scrapes
/// the exporter all the while: it is never away, and when the traffic is over all series are gone at once. Catches a
/// reload that begins all sinks anew, and an exporter that gives up its port.
#[test]
fn sinks_go_on_by_a_signal() {
    if !super::can_capture() {
        return;
    }
    if !receivers::are_installed() {
        return weir_types::testing::skipped("there is no Prometheus");
    }
    let dir = tempfile::tempdir().unwrap();
    let (refusing, taking) = (Hook::start(503).unwrap(), Hook::start(200).unwrap());
    let scraped: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let file = config(dir.path(), refusing.addr, scraped);
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &file]).unwrap();
    until(&weir, "the exporter listens", || std::net::TcpStream::connect(scraped).is_ok());
    let prometheus = Prometheus::start(&[scraped]).unwrap();
    requests(nginx.addr, 0);
    let rows = dir.path().join("rows.jsonl");
    until(&weir, "the file has all", || elements(&rows).len() == 10 * PATHS);
    let series = || prometheus.ask("scraped_n").unwrap().len();
    until(&weir, "all are scraped", || series() == PATHS);
    until(&weir, "it is refused", || !refusing.heads().is_empty());

    config(dir.path(), taking.addr, scraped);
    let told_ns = WallClock.monotonic_ns();
    weir.signal(Signal::Hangup).unwrap();
    until(&weir, "the new one has all", || numbers(&taking.json_lines()).len() == 10 * PATHS);
    let took = Duration::from_nanos(WallClock.monotonic_ns() - told_ns);
    eprintln!("what waited was there {took:?} after the signal");
    assert!(took < SOON, "{took:?}");
    requests(nginx.addr, 1);
    until(&weir, "and what comes", || numbers(&taking.json_lines()).len() == 20 * PATHS);
    until(&weir, "the file goes on", || elements(&rows).len() == 20 * PATHS);
    let seqs: Vec<u64> = (1..=20 * PATHS as u64).collect();
    for elements in [taking.json_lines(), elements(&rows)] {
        assert!(elements.iter().all(|element| element["op"] == "append"), "{elements:?}");
        assert_eq!(numbers(&elements).into_iter().collect::<Vec<u64>>(), seqs);
    }
    assert!(refusing.bodies().is_empty());

    until(&weir, "all series are gone", || series() == 0);
    // Of each scrape since the first one.
    let up = prometheus.ask("min_over_time(up{job=\"weir\"}[5m])").unwrap();
    assert_eq!(up.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["1"], "{up:?}");
    let log = weir.log();
    let begun = |line: &&String| line.contains("sink") && line.contains("scraped");
    assert!(!log.iter().filter(begun).any(|line| line.contains("goes on elsewhere")), "{log:#?}");
}

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => left.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// All that a server says of its sinks, in its log and its metrics, and what is in its files and in those of a folder.
pub(crate) fn told(weir: &Weir, dir: &Path) -> Vec<String> {
    let get = |path: &str| weir.get(path).unwrap().text();
    let said = weir.run(&["sinks", "-o", "json"], DEADLINE).unwrap().stdout.join("\n");
    let mut texts = vec![said, weir.log().join("\n"), get("/metrics"), get("/api/v1/sinks")];
    texts.extend([get("/api/v1/stats"), get("/api/v1/queries"), get("/api/v1/alerts")]);
    for file in files(weir.data_dir()).iter().chain(&files(dir)) {
        texts.push(String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned());
    }
    texts
}

/// A password of the environment with everything that YAML, shells and patterns know is used byte for byte; neither it
/// nor how it is sent stands in what the server says of the sink that is refused with it, in its log, its metrics, or any
/// file that it writes.
#[test]
fn secrets_are_used_and_not_told() {
    if !super::can_capture() {
        return;
    }
    const SECRET: &str = "pa$1$word \": #'%41\nlast";
    let sent = STANDARD.encode(format!("me:{SECRET}"));
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start(401).unwrap();
    let scraped: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let file = config(dir.path(), hook.addr, scraped);
    let text = std::fs::read_to_string(&file).unwrap();
    let disk = "framing: lines\n    auth: {user: me}\n    buffer: {type: disk}";
    std::fs::write(&file, text.replace("framing: lines", disk)).unwrap();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let mut command = Command::new(weir::binary().unwrap());
    command.env("WEIR_SINKS_HOOK_AUTH_PASSWORD", SECRET);
    let weir = Weir::start_by(command, &["--trace", &trace, "--config", &file]).unwrap();
    requests(nginx.addr, 0);
    let said = || weir.run(&["sinks", "-o", "json"], DEADLINE).unwrap().stdout.join("\n");
    until(&weir, "it is refused, and says so", || said().contains("HTTP 401"));
    let header = format!("authorization: basic {}", sent.to_lowercase());
    let heads = hook.heads();
    assert!(heads.iter().all(|head| head.to_lowercase().contains(&header)), "{heads:?}");
    assert!(heads[0].contains(&sent), "{heads:?}");

    for text in &told(&weir, dir.path()) {
        for part in [SECRET, "pa$1", "%41", sent.as_str()] {
            assert!(!text.contains(part), "{part}: {text}");
        }
    }
    hook.answers(200);
    until(&weir, "it is let in", || numbers(&hook.json_lines()).len() == 10 * PATHS);
}
