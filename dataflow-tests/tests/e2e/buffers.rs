//! A server that finds the buffers of its sinks damaged.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;
use weir_types::{Clock, WallClock};

const DEADLINE: Duration = Duration::from_secs(60);
/// A server that starts over damaged buffers is ready by then; or in twice the time that it takes here without any, where
/// the machine is so busy that this is longer.
const READY_MAX: Duration = Duration::from_secs(10);
const ROWS: usize = 2_500;
/// What a row takes: its path so often.
const WIDE: usize = 250 << DOUBLINGS;
const DOUBLINGS: usize = 6;

fn config(dir: &Path, hook: &Hook) -> String {
    let wider = "df.req_path = df.req_path + df.req_path\\n".repeat(DOUBLINGS);
    let text = format!(
        "sinks:\n  kept:\n    type: http\n    framing: lines\n    url: http://{}/\n    \
         inputs: [{{text: \"import px\\ndf = px.DataFrame('http_events', start_time='-10m')\\n\
         df = df[df.trace_role == 2]\\n{wider}px.display(df[['time_', 'req_path']])\"}}]\n    \
         encoding: {{mode: append}}\n    buffer: {{type: disk, max_bytes: 256MiB}}\n    \
         retry: {{initial: 100ms, max: 1s}}\n",
        hook.addr
    );
    let file = dir.join("weir.yaml");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

fn sink(weir: &Weir) -> Json {
    weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines().remove(0)
}

fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(data_dir.join("sinks/kept")).unwrap();
    let mut files: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    files
}

/// Cuts one file, changes a byte in the middle of another, and removes a third.
fn damage(files: &[PathBuf]) {
    let open = |file: &PathBuf| OpenOptions::new().read(true).write(true).open(file).unwrap();
    let cut = open(&files[0]);
    cut.set_len(cut.metadata().unwrap().len() / 2).unwrap();
    let mut flipped = open(&files[1]);
    let middle = SeekFrom::Start(flipped.metadata().unwrap().len() / 2);
    let mut byte = [0];
    flipped.seek(middle).unwrap();
    flipped.read_exact(&mut byte).unwrap();
    flipped.seek(middle).unwrap();
    flipped.write_all(&[!byte[0]]).unwrap();
    fs::remove_file(&files[2]).unwrap();
}

/// The most memory that a server has until something is so.
fn most_until(weir: &Weir, is_so: impl Fn() -> bool) -> u64 {
    let mut most = 0;
    let done = wait_until(DEADLINE, || {
        most = most.max(weir.rss_bytes());
        is_so().then_some(())
    });
    assert!(done.is_some(), "{}", sink(weir));
    most
}

/// Killed (-9) with a backlog, of whose files one is then cut, one has another byte and one is gone, a server is ready
/// again in its time, and stops in order while nothing of it can leave; the next one works it off: what is intact arrives
/// in order and once, what is not is counted, and its memory does not grow by the backlog. Catches a server that does not
/// start over what it finds or does not end, a loss that nothing mentions, and a backlog that is read into memory.
#[test]
fn damaged_ones_cost_what_is_damaged() {
    if !super::can_capture() {
        return;
    }
    let hook = Hook::start(503).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), &hook);
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", &trace, "--config", &file];
    let began_ns = WallClock.monotonic_ns();
    let mut weir = Weir::start(&args).unwrap();
    let undamaged = Duration::from_nanos(WallClock.monotonic_ns() - began_ns);
    let load = Load {
        addr: nginx.addr,
        paths: (0..ROWS).map(|n| format!("/{n:>0250}")).collect(),
        requests: ROWS,
        requests_per_sec: 500,
        connections: 2,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), ROWS);
    let is_there =
        || (sink(&weir)["buffer_bytes"].as_u64() > Some((WIDE * ROWS) as u64)).then_some(());
    assert!(wait_until(DEADLINE, is_there).is_some(), "{}", sink(&weir));
    weir.end(Signal::Kill).unwrap();
    let files = segments(weir.data_dir());
    assert!(files.len() > 4, "{files:?}");
    damage(&files);

    let began_ns = WallClock.monotonic_ns();
    // Nothing new comes: what there is, is of before.
    let args = ["--trace", "port:1", "--config", &file];
    let weir = Weir::start_in(weir.into_data_dir(), &args).unwrap();
    let took = Duration::from_nanos(WallClock.monotonic_ns() - began_ns);
    eprintln!("ready after {took:?}, without buffers after {undamaged:?}");
    assert!(took < READY_MAX.max(2 * undamaged), "{took:?}");
    let refused = |weir: &Weir| sink(weir)["last_error"].as_str().unwrap().contains("503");
    most_until(&weir, || refused(&weir));
    let (status, data_dir) = weir.stop(Signal::Terminate).unwrap();
    assert!(status.success(), "{status}");

    let weir = Weir::start_in(data_dir, &args).unwrap();
    let before = most_until(&weir, || refused(&weir));
    let backlog = sink(&weir)["buffer_bytes"].as_u64().unwrap();
    hook.answers(200);
    let most = most_until(&weir, || {
        let row = sink(&weir);
        row["buffer_bytes"] == 0 && row["rows_sent"].as_u64() > Some(0)
    });
    eprintln!(
        "{before} bytes of memory before {backlog} were worked off, {most} at most meanwhile"
    );
    assert!(most < before + backlog / 2, "{before} {most} {backlog}");
    let all = hook.json_lines();
    let numbers: Vec<u64> = all
        .iter()
        .filter(|element| element["op"] == "append")
        .map(|element| element["seq"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let intact = numbers.iter().copied().collect::<BTreeSet<u64>>().len();
    assert_eq!(intact, numbers.len(), "once");
    let lost = sink(&weir)["rows_lost"].as_u64().unwrap();
    // The last file was not touched; what was on its way to it when the server died is not known to anybody.
    let all_there = numbers.last().copied().unwrap_or(0);
    eprintln!("{intact} of {all_there} are intact, {lost} are said to be lost");
    assert!((ROWS / 4..ROWS).contains(&intact) && lost > 0, "{intact}");
    assert_eq!(intact as u64 + lost, all_there, "{}", sink(&weir));
    let is_mark = |element: &Json| element["op"] == "lost" && element["rows"].is_u64();
    assert!(all.iter().any(is_mark), "it is marked where it was");
    let (status, _dir) = weir.stop(Signal::Terminate).unwrap();
    assert!(status.success(), "{status}");
}
