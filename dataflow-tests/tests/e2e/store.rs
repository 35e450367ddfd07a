//! Long windows survive the death of the server: a real one, killed, over its own data directory.

use std::fs;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::NamedTempFile;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::weir::Weir;

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 40;

/// Requests per path that a port has served within ten minutes.
fn script(port: u16) -> NamedTempFile {
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    let text = format!(
        "import px\ndf = px.DataFrame('http_events', start_time='-10m')\n\
         df = df[df.trace_role == 2]\ndf = df[df.local_port == {port}]\n\
         df = df.groupby('req_path').agg(n=('latency', px.count))\npx.display(df, 'paths')\n"
    );
    fs::write(script.path(), text).unwrap();
    script
}

fn load(nginx: &Nginx, path: &str) -> usize {
    let load = Load {
        addr: nginx.addr,
        paths: vec![path.to_string()],
        requests: REQUESTS,
        requests_per_sec: 0,
        connections: 2,
        keep_alive: true,
    };
    run_load(&load).len()
}

/// What the store counts, as one of the node's sources.
fn store(weir: &Weir) -> Json {
    weir.stats().unwrap()["sources"]["store"].clone()
}

/// Asks until the answer counts so many requests.
#[track_caller]
fn counted(weir: &Weir, script: &str, want: usize) -> Json {
    let mut last = String::new();
    for _ in 0..120 {
        let answer = weir.run(&["run", script, "-o", "jsonl"], DEADLINE).unwrap();
        let count: i64 = answer.json_lines().iter().filter_map(|row| row["n"].as_i64()).sum();
        if count == want as i64 {
            let said = answer.stderr.iter().rev().find_map(|line| serde_json::from_str(line).ok());
            return said.unwrap_or_default();
        }
        assert!(count < want as i64, "{count} requests where there were {want}");
        last = format!("{answer:?}");
    }
    panic!("never {want} requests: {last}\n{}", weir.log().join("\n"));
}

/// Waits until all that was admitted by now is in the store: what it has is added to every two seconds.
#[track_caller]
fn kept(weir: &Weir) {
    let additions = || store(weir)["counts"]["additions"].as_u64().unwrap_or(0);
    let before = additions();
    for _ in 0..600 {
        if additions() >= before + 3 {
            return;
        }
    }
    panic!("nothing is kept: {}\n{}", store(weir), weir.log().join("\n"));
}

/// Killed with -9 again and again, the server still has what its window held, to the request, and says that it does
/// not know what happened while it was down. Its file with bits turned, filled with nonsense or taken away, it starts and
/// shows what it sees itself, no more, and counts what it dropped.
#[test]
fn long_windows_survive_the_server() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", trace.as_str()];
    let script = script(nginx.addr.port());
    let script = script.path().to_str().unwrap();
    let mut weir = Weir::start(&args).unwrap();
    counted(&weir, script, 0);
    let mut sent = 0;
    for path in ["/one", "/two", "/three"] {
        sent += load(&nginx, path);
        counted(&weir, script, sent);
        kept(&weir);
        let (_, directory) = weir.stop(Signal::Kill).unwrap();
        weir = Weir::start_in(directory, &args).unwrap();
        let said = counted(&weir, script, sent);
        assert_eq!(said["complete"], false, "nobody saw what happened meanwhile: {said}");
    }
    for (what, dropped) in [("turned", true), ("nonsense", true), ("gone", false)] {
        let (_, directory) = weir.stop(Signal::Kill).unwrap();
        for name in ["windows.db", "windows.db-wal"] {
            let file = directory.path().join(name);
            let Ok(mut bytes) = fs::read(&file) else { continue };
            match what {
                "turned" => bytes.iter_mut().step_by(1000).for_each(|byte| *byte ^= 1),
                _ => bytes = b"no store\n".repeat(5000),
            }
            if what == "gone" {
                fs::remove_file(&file).unwrap();
            } else {
                fs::write(&file, bytes).unwrap();
            }
        }
        weir = Weir::start_in(directory, &args).unwrap();
        counted(&weir, script, 0);
        let counts = store(&weir)["counts"].clone();
        assert_eq!(counts["dropped_damaged"].as_u64() > Some(0), dropped, "{what}: {counts}");
        let sent = load(&nginx, "/again");
        counted(&weir, script, sent);
        kept(&weir);
    }
    let (status, _) = weir.stop(Signal::Terminate).unwrap();
    assert!(status.success());
    nginx.quit().unwrap();
}
