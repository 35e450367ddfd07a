//! Kinds of sinks, forms and settings of `weir.yaml` that need no server of their own, on a running server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value as Json;
use tungstenite::Message;
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;

use crate::sinks::elements;

const DEADLINE: Duration = Duration::from_secs(60);
const EACH: usize = 30;
const PATHS: [&str; 3] = ["/one", "/two", "/three"];
/// What the table calls the second one.
const TWO: &str = "/two,\"quoted\"";
const ALL: usize = EACH * PATHS.len();

const ROWS: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-10m')\n\
    df = df[df.trace_role == 2]\n\
    px.display(df[['time_', 'req_path']])\n";
const PATHS_NOW: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-10m')\n\
    df = df[df.trace_role == 2]\n\
    df.path = px.select(df.req_path == '/two', '/two,\"quoted\"', df.req_path)\n\
    px.display(df.groupby('path').agg(n=('latency', px.count)))\n";
const BINS: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-5s')\n\
    df = df[df.trace_role == 2]\n\
    df.second = px.bin(df.time_, px.seconds(1))\n\
    px.display(df.groupby(['req_path', 'second']).agg(n=('latency', px.count)))\n";

fn config(dir: &Path, sinks: &[(&str, &str, &str)]) -> String {
    for (name, script) in [("rows", ROWS), ("now", PATHS_NOW), ("bins", BINS)] {
        std::fs::write(dir.join(format!("{name}.pxl")), script).unwrap();
    }
    let sink = |(name, input, keys): &(&str, &str, &str)| {
        format!("  {name}: {{inputs: [{{file: {input}.pxl}}], {keys}}}\n")
    };
    let file = dir.join("weir.yaml");
    std::fs::write(&file, format!("sinks:\n{}", sinks.iter().map(sink).collect::<String>()))
        .unwrap();
    file.to_str().unwrap().to_string()
}

fn traffic(addr: SocketAddr, requests_per_sec: u32) {
    let load = Load {
        addr,
        paths: PATHS.map(str::to_string).to_vec(),
        requests: ALL,
        requests_per_sec,
        connections: 3,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), ALL);
}

fn until(weir: &Weir, what: &str, wanted: impl Fn() -> bool) {
    let done = wait_until(DEADLINE, || wanted().then_some(()));
    let sinks = || weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().stdout;
    assert!(done.is_some(), "{what}: {:#?} {:#?}", sinks(), weir.log());
}

/// Messages that a websocket server was sent.
fn websocket() -> (SocketAddr, Arc<Mutex<Vec<Json>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Json>>>::default());
    let kept = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut socket) = tungstenite::accept(stream) else { continue };
            while let Ok(message) = socket.read() {
                if let Message::Text(text) = message {
                    kept.lock().unwrap().push(serde_json::from_str(&text).unwrap());
                }
            }
        }
    });
    (addr, heard)
}

/// The fields of a line of values with commas between, of which some stand in quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut is_quoted) = (vec![String::new()], false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields.last_mut().unwrap().push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            c => fields.last_mut().unwrap().push(c),
        }
    }
    fields
}

/// What upserts and deletes in values with commas between add up to.
fn held(file: &Path) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines();
    assert!(lines.next().is_none_or(|first| first == "op,seq,tick,path,n"), "{text}");
    let mut held = BTreeMap::new();
    // The last line may still be on its way.
    let whole = text.rfind('\n').map_or(0, |end| text[..end].lines().count());
    for line in text.lines().take(whole).skip(1) {
        let fields = fields(line);
        assert_eq!(fields.len(), 5, "{line}");
        match fields[0].as_str() {
            "upsert" => drop(held.insert(fields[3].clone(), fields[4].parse().unwrap())),
            "delete" => drop(held.remove(&fields[3])),
            op => panic!("{op}: {line}"),
        }
    }
    held
}

/// Numbers of elements, from the first without a gap: each row is there once, in order.
fn are_all(elements: &[Json], op: &str) -> bool {
    assert!(elements.iter().all(|element| element["op"] == op), "{elements:?}");
    let seqs: Vec<usize> = elements.iter().map(|it| it["seq"].as_u64().unwrap() as usize).collect();
    assert_eq!(seqs, (1..=seqs.len()).collect::<Vec<_>>());
    elements.len() == ALL
}

/// Elements on the console, to a websocket server, as values with commas between, and of bins that are over are what the
/// traffic was; of a bin each row comes once, with what it was in the end. Catches a kind or a form that the configuration
/// takes and that does not work once it runs.
#[test]
fn all_have_what_was() {
    if !super::can_capture() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (socket, heard) = websocket();
    let to_socket = format!("type: websocket, url: 'ws://{socket}/in', encoding: {{mode: append}}");
    let sinks = [
        ("said", "rows", "type: console, encoding: {mode: append}"),
        ("socket", "rows", to_socket.as_str()),
        ("table", "now", "type: file, path: now.csv, encoding: {mode: upsert, codec: csv}"),
        ("done", "bins", "type: file, path: done.jsonl, encoding: {mode: final}"),
        ("nowhere", "rows", "type: blackhole, encoding: {mode: append}"),
    ];
    let file = config(dir.path(), &sinks);
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &file]).unwrap();
    traffic(nginx.addr, 45);

    let said = || -> Vec<Json> {
        let lines = weir.log().into_iter().filter(|line| line.starts_with("{\"op\":"));
        lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
    };
    until(&weir, "the console", || are_all(&said(), "append"));
    until(&weir, "the websocket", || are_all(&heard.lock().unwrap(), "append"));
    let wanted: BTreeMap<String, usize> =
        ["/one", TWO, "/three"].map(|path| (path.to_string(), EACH)).into_iter().collect();
    until(&weir, "the table", || held(&dir.path().join("now.csv")) == wanted);
    let finals = || -> Vec<Json> { elements(&dir.path().join("done.jsonl")) };
    let sum = || finals().iter().map(|it| it["row"]["n"].as_u64().unwrap() as usize).sum::<usize>();
    until(&weir, "the bins", || sum() == ALL);
    let bins: BTreeSet<String> = finals()
        .iter()
        .map(|it| format!("{} {}", it["row"]["req_path"], it["row"]["second"]))
        .collect();
    assert_eq!(bins.len(), finals().len(), "each once: {:#?}", finals());
    assert!(bins.len() > PATHS.len() && finals().iter().all(|it| it["op"] == "final"));
    let sinks = weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
    for sink in &sinks {
        assert_eq!((&sink["state"], &sink["rows_lost"]), (&"running".into(), &0.into()), "{sink}");
    }
    assert_eq!(sinks.iter().find(|sink| sink["name"] == "nowhere").unwrap()["rows_sent"], ALL);
}

/// A batch has at most so many rows, or so many bytes, and what is less waits for its time, and no longer. Without any of
/// them it is whatever there is. Catches a setting that is read and not kept to.
#[test]
fn batches_are_as_they_are_set() {
    if !super::can_capture() {
        return;
    }
    const TIMEOUT: Duration = Duration::from_secs(2);
    const ROWS_MAX: usize = 7;
    const BYTES_MAX: usize = 2_048;
    /// What an element takes where it waits, at least.
    const ROW_BYTES: usize = 112;
    let dir = tempfile::tempdir().unwrap();
    let hooks: [Hook; 3] = std::array::from_fn(|_| Hook::start(200).unwrap());
    let keys = ["batch: {max_rows: 7}", "batch: {max_bytes: 2KiB}", "batch: {timeout: 2s}"];
    let keys: Vec<String> = keys
        .iter()
        .zip(&hooks)
        .map(|(batch, hook)| {
            format!(
                "type: http, framing: lines, url: 'http://{}/', encoding: {{mode: append}}, {batch}",
                hook.addr
            )
        })
        .collect();
    let names = ["by_rows", "by_bytes", "by_time"];
    let sinks: Vec<(&str, &str, &str)> =
        names.iter().zip(&keys).map(|(name, keys)| (*name, "rows", keys.as_str())).collect();
    let file = config(dir.path(), &sinks);
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &file]).unwrap();
    // For three times the time that a batch waits.
    traffic(nginx.addr, 15);
    for (hook, name) in hooks.iter().zip(names) {
        until(&weir, name, || are_all(&hook.json_lines(), "append"));
    }
    let sizes = |hook: &Hook| -> Vec<usize> {
        hook.bodies().iter().map(|body| body.lines().count()).collect()
    };
    let [by_rows, by_bytes, by_time] = hooks.each_ref().map(sizes);
    eprintln!("{by_rows:?} {by_bytes:?} {by_time:?}");
    assert!(by_rows.iter().all(|rows| *rows <= ROWS_MAX) && by_rows.contains(&ROWS_MAX));
    assert!(by_bytes.iter().all(|rows| *rows <= BYTES_MAX / ROW_BYTES), "{by_bytes:?}");
    assert!(by_bytes.iter().any(|rows| *rows > ROWS_MAX), "{by_bytes:?}");
    assert!(by_time.iter().any(|rows| rows > by_bytes.iter().max().unwrap()), "{by_time:?}");
    let arrived: Vec<i64> = hooks[2].arrived().iter().map(|(at, _)| *at).collect();
    let took = Duration::from_nanos((arrived[arrived.len() - 1] - arrived[0]).unsigned_abs());
    // One that came late makes the time between them less by that, once.
    let waits = u32::try_from(arrived.len() - 1).unwrap();
    assert!(waits > 0 && took + TIMEOUT / 2 > TIMEOUT * waits, "{took:?} {by_time:?}");
    assert!(by_rows.len() > by_time.len() && by_bytes.len() > by_time.len());
}
