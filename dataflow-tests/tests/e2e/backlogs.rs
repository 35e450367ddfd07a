//! Sinks that keep what waits in memory, whose server is killed while something does.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::fleet::{BusServer, has_bus_server};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::receivers::{self, Collector, KAFKA, Kafka};
use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{put, wait_until};
use weir_types::{Clock, WallClock};

use crate::kills::{EXPORT, ROWS, make_stream, make_topic, of_bus, of_topic};

const DEADLINE: Duration = Duration::from_secs(120);
/// Requests of a round, each with a path of its own.
const ROUND: usize = 10;
const SINKS: [&str; 5] = ["topic", "bus", "hook", "spans", "state"];

const VIEW: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-60m')\n\
    df = df[df.trace_role == 2]\n\
    px.display(df.groupby('req_path').agg(n=('latency', px.count)))\n";

/// Other ends of which nobody can read what they have been told.
struct Stage {
    kafka: Kafka,
    bus: BusServer,
    collector: Collector,
    hook: Hook,
    state: Hook,
    dir: tempfile::TempDir,
}

impl Stage {
    fn start() -> Option<Stage> {
        if !receivers::are_installed() || !has_bus_server() {
            weir_types::testing::skipped("there is no collector or nats-server");
            return None;
        }
        let Some(kafka) = Kafka::start(KAFKA, None) else {
            weir_types::testing::skipped("there is no Kafka");
            return None;
        };
        let kafka = kafka.unwrap();
        make_topic(kafka.0.addr);
        let bus = BusServer::start("jetstream { store_dir: \"@DIR@\" }").unwrap();
        make_stream(&bus);
        Some(Stage {
            kafka,
            bus,
            collector: Collector::start().unwrap(),
            hook: Hook::start(200).unwrap(),
            state: Hook::start(200).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        })
    }

    fn config(&self) -> String {
        let file = |name: &str, text: &str| put(self.dir.path(), name, text);
        file("rows.pxl", ROWS);
        file("view.pxl", VIEW);
        file("export.pxl", EXPORT);
        let sinks = [
            (
                "rows",
                "append",
                format!("type: kafka, topic: kept, brokers: ['{}']", self.kafka.0.addr),
            ),
            (
                "rows",
                "append",
                format!("type: nats, subject: kept.rows, url: '{}'", self.bus.url()),
            ),
            (
                "rows",
                "append",
                format!("type: http, framing: lines, url: 'http://{}/'", self.hook.addr),
            ),
            (
                "export",
                "append",
                format!(
                    "type: opentelemetry, protocol: grpc, url: 'http://{}'",
                    self.collector.0.addr
                ),
            ),
            (
                "view",
                "upsert",
                format!("type: http, framing: lines, url: 'http://{}/'", self.state.addr),
            ),
        ];
        let sink = |(name, (input, mode, keys)): (&str, (&str, &str, String))| {
            format!(
                "  {name}: {{{keys}, inputs: [{{file: {input}.pxl}}], encoding: {{mode: {mode}}}, \
                 retry: {{initial: 100ms, max: 1s}}}}\n"
            )
        };
        let sinks: String = SINKS.into_iter().zip(sinks).map(sink).collect();
        file("weir.yaml", &format!("sinks:\n{sinks}"))
    }

    /// From now on nobody takes anything.
    fn shut(&mut self) {
        for receiver in [&mut self.kafka.0, &mut self.collector.0] {
            receiver.kill().unwrap();
        }
        self.bus.kill().unwrap();
        for hook in [&self.hook, &self.state] {
            hook.answers(503);
        }
    }

    fn open(&mut self) {
        for receiver in [&mut self.kafka.0, &mut self.collector.0] {
            receiver.again().unwrap();
        }
        self.bus.restart().unwrap();
        for hook in [&self.hook, &self.state] {
            hook.answers(200);
        }
    }

    /// What those have that are told of rows.
    fn elements(&self) -> [Vec<Json>; 3] {
        [of_topic(self.kafka.0.addr), of_bus(&self.bus), self.hook.json_lines()]
    }
}

fn rows(weir: &Weir) -> Vec<Json> {
    let mut rows = weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
    rows.sort_by_key(|row| SINKS.iter().position(|name| row["name"] == *name));
    assert_eq!(rows.len(), SINKS.len(), "{rows:?}");
    rows
}

/// Until every sink is as it should be.
fn until(weir: &Weir, what: &str, wanted: impl Fn(&Json) -> bool) -> Vec<Json> {
    let all = || Some(rows(weir)).filter(|rows| rows.iter().all(&wanted));
    wait_until(DEADLINE, all)
        .unwrap_or_else(|| panic!("{what}: {:#?} {:#?}", rows(weir), weir.log()))
}

fn requests(nginx: &Nginx, round: usize) {
    let load = Load {
        addr: nginx.addr,
        paths: (0..ROUND).map(|n| format!("/{round}/{n}")).collect(),
        requests: ROUND,
        requests_per_sec: 50,
        connections: 2,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), ROUND);
}

/// All is safe at the other end.
fn is_safe(row: &Json) -> bool {
    row["state"] == "running" && row["buffer_bytes"] == 0 && row["acked"].is_string()
}

/// The same of one that was there before.
fn goes_on(row: &Json) -> bool {
    is_safe(row) && row["resets"] == 1
}

/// How often something went, as the row and the metrics say.
fn losses(weir: &Weir, rows: &[Json]) -> BTreeSet<u64> {
    let metrics = weir.get("/metrics").unwrap().text();
    let of = |row: &Json| {
        let times = row["ends_with_loss"].as_u64().unwrap();
        let line = format!("weir_sink_ends_with_loss_total{{sink={}}} {times}\n", row["name"]);
        assert!(metrics.contains(&line), "{line} {metrics}");
        assert_eq!(row["lost_since"].is_null(), times == 0, "{row}");
        times
    };
    rows.iter().map(of).collect()
}

/// A server is killed while a real Kafka, a real NATS, a collector and webhooks are away and their sinks have rows in memory:
/// the next one says of each sink that something went, and since when, in its row, its metrics and its log; a log of rows has
/// a mark, and what is kept equal to the view begins anew. Nothing of that is said after a server that was stopped when all
/// was safe, before as after. Catches a backlog that goes without a word, and an alarm at every restart.
#[test]
fn what_waited_in_memory_is_missed() {
    if !super::can_capture() {
        return;
    }
    let Some(mut stage) = Stage::start() else { return };
    let config = stage.config();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", &trace, "--config", &config];
    let again = |weir: Weir, signal: Signal| {
        let (_, data_dir) = weir.stop(signal).unwrap();
        Weir::start_in(data_dir, &args).unwrap()
    };
    let went = |row: &Json| row["last_error"].as_str().unwrap().contains("waited in memory");
    let mut weir = Weir::start(&args).unwrap();
    requests(&nginx, 0);
    let all_sent = |row: &Json| is_safe(row) && row["rows_sent"].as_u64() >= Some(ROUND as u64);
    until(&weir, "all is safe", all_sent);
    weir = again(weir, Signal::Terminate);
    let rows = until(&weir, "all is safe again", goes_on);
    assert_eq!(losses(&weir, &rows), BTreeSet::from([0]), "{rows:#?}");
    assert!(!rows.iter().any(went), "{rows:#?}");

    stage.shut();
    requests(&nginx, 1);
    let waits = |row: &Json| row["buffer_bytes"].as_u64() > Some(0);
    let rows = until(&weir, "something waits", waits);
    let acked: Vec<String> = rows.iter().map(|row| row["acked"].to_string()).collect();
    let killed_ns = WallClock.now_unix_ns();
    weir.end(Signal::Kill).unwrap();
    stage.open();
    let before = stage.elements().map(|elements| elements.len());
    let told_before = stage.state.json_lines().len();
    let mut weir = Weir::start_in(weir.into_data_dir(), &args).unwrap();
    let rows = until(&weir, "it goes on", |row| goes_on(row) && went(row));
    assert_eq!(losses(&weir, &rows), BTreeSet::from([1]));
    let since: Vec<String> = rows.iter().map(|row| row["lost_since"].to_string()).collect();
    assert_eq!(since, acked, "what was safe last");
    let warned = weir.log();
    let warned = warned.iter().filter(|line| line.contains("what waited in memory"));
    assert_eq!(warned.count(), SINKS.len(), "{:#?}", weir.log());
    for (name, (elements, before)) in SINKS.iter().zip(stage.elements().iter().zip(before)) {
        let marks = elements[before..].iter().filter(|element| element["op"] == "lost");
        let times =
            marks.filter_map(|mark| weir_types::json::parse_time(mark["covers_from"].as_str()?));
        assert!(times.max() >= Some(killed_ns), "{name}: {:?}", &elements[before..]);
    }
    let state = stage.state.json_lines();
    assert_eq!(state[told_before]["op"], "reset", "{state:?}");

    weir = again(weir, Signal::Terminate);
    let rows = until(&weir, "and again", goes_on);
    assert_eq!(losses(&weir, &rows), BTreeSet::from([1]), "it is not counted twice");
    assert!(!rows.iter().any(went), "{rows:#?}");
}
