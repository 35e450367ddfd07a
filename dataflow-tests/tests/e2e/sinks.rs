//! Sinks on a running server: what a configuration says is written, and adds up to what `run` answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::{Weir, run};

const DEADLINE: Duration = Duration::from_secs(60);
const EACH: usize = 30;
const PATHS: [&str; 3] = ["/one", "/two", "/three"];

fn config(dir: &Path) -> String {
    let script = "import px\\n\
        df = px.DataFrame('http_events', start_time='-10m')\\n\
        df = df[df.trace_role == 2]\\n\
        px.display(df.groupby('req_path').agg(n=('latency', px.count)), 'paths')";
    let path = |name: &str| dir.join(name).display().to_string();
    format!(
        "sinks:\n  \
         upserts:\n    type: file\n    inputs: [{{text: \"{script}\"}}]\n    \
         encoding: {{mode: upsert, codec: json}}\n    path: {}\n  \
         changes:\n    type: file\n    inputs: [{{text: \"{script}\"}}]\n    \
         encoding: {{mode: changelog, codec: json}}\n    path: {}\n",
        path("upserts.jsonl"),
        path("changes.jsonl"),
    )
}

/// What a sink has written into a file so far.
pub(crate) fn elements(file: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may still be on its way.
    text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
}

/// path → count, by adding up what was written.
fn upserted(file: &Path) -> BTreeMap<String, i64> {
    let mut held = BTreeMap::new();
    for element in elements(file) {
        let key = element["key"][0].as_str().unwrap().to_string();
        match element["op"].as_str().unwrap() {
            "upsert" => held.insert(key, element["row"]["n"].as_i64().unwrap()),
            "delete" => held.remove(&key),
            op => panic!("{op}: {element}"),
        };
    }
    held
}

/// The same of a changelog: a row goes before another takes its place.
fn changed(file: &Path) -> BTreeMap<String, i64> {
    let mut held: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for element in elements(file) {
        let key = element["key"][0].as_str().unwrap().to_string();
        let row = (key, element["row"]["n"].as_i64().unwrap());
        *held.entry(row).or_default() += if element["op"] == "insert" { 1 } else { -1 };
    }
    held.retain(|_, count| *count != 0);
    assert!(held.values().all(|count| *count == 1), "{held:?}");
    held.into_keys().collect()
}

/// Two file sinks of one view hold what the traffic was, their numbers go up without a gap, `weir sinks` says
/// that they run and lose nothing, and a file that is no configuration is refused with its line.
#[test]
fn files_add_up() {
    if !super::can_capture() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.yaml");
    std::fs::write(&file, config(dir.path())).unwrap();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", file.to_str().unwrap()]).unwrap();
    let load = Load {
        addr: nginx.addr,
        paths: PATHS.map(str::to_string).to_vec(),
        requests: EACH * PATHS.len(),
        requests_per_sec: 60,
        connections: 3,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), load.requests);
    let wanted: BTreeMap<String, i64> =
        PATHS.map(|path| (path.to_string(), EACH as i64)).into_iter().collect();
    let (upserts, changes) = (dir.path().join("upserts.jsonl"), dir.path().join("changes.jsonl"));
    let done = wait_until(DEADLINE, || {
        (upserted(&upserts) == wanted && changed(&changes) == wanted).then_some(())
    });
    assert!(done.is_some(), "{:?} {:?}", upserted(&upserts), changed(&changes));
    for file in [&upserts, &changes] {
        let numbers: Vec<i64> =
            elements(file).iter().map(|it| it["seq"].as_i64().unwrap()).collect();
        let all: Vec<i64> = (1..).take(numbers.len()).collect();
        assert_eq!(numbers, all, "{}", file.display());
        assert!(numbers.len() > PATHS.len(), "it was written while it changed");
    }
    let sinks = weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
    assert_eq!(sinks.len(), 2, "{sinks:?}");
    for sink in &sinks {
        assert_eq!((&sink["state"], &sink["rows_lost"]), (&"running".into(), &0.into()), "{sink}");
    }

    let wrong = dir.path().join("wrong.yaml");
    std::fs::write(&wrong, "sinks:\n  a:\n    type: fil\n").unwrap();
    let output = run(&["config", "check", wrong.to_str().unwrap()], DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.join(" ").contains("line 3"), "{:?}", output.stderr);
}
