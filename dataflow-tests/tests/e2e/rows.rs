//! Rows in files: `run` and `live` are one engine, so their answers agree at every frontier.

use std::time::Duration;

use weir_dataflow_tests::harness::live::LiveView;
use weir_dataflow_tests::harness::weir::run;

const DEADLINE: Duration = Duration::from_secs(120);

/// 60 rows over a minute, some late, some of the future.
fn write_rows(dir: &std::path::Path) {
    let mut text = String::new();
    for n in 0..60i64 {
        let time = 1_767_225_600_000_000_000 + n * 1_000_000_000;
        let arrival = if n % 7 == 0 { time + 20_000_000_000 } else { time };
        text.push_str(&format!(
            "{{\"time_\":{time},\"_arrival_\":{arrival},\"latency\":{},\"resp_status\":{},\"req_path\":\"/{}\"}}\n",
            (n + 1) * 1_000_000,
            if n % 5 == 0 { 500 } else { 200 },
            n % 3
        ));
    }
    text.push_str("{\"time_\":1767225700000000000,\"_arrival_\":1767225600000000000}\n");
    std::fs::write(dir.join("http_events.jsonl"), text).unwrap();
}

const SCRIPT: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-20s')\n\
    df.failure = df.resp_status >= 400\n\
    df = df.groupby('req_path').agg(n=('latency', px.count), failures=('failure', px.sum), q=('latency', px.quantiles), slowest=('latency', px.max))\n\
    px.display(df, 'paths')\n";

/// After every progress message the changes add up to what `run --now` gives at that frontier:
/// catches a missed expiry, a late row that is not applied, and a quantile that drifts.
#[test]
fn live_adds_up_to_run() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(dir.path());
    let script = dir.path().join("s.pxl");
    std::fs::write(&script, SCRIPT).unwrap();
    let (script, rows) = (script.to_str().unwrap(), dir.path().to_str().unwrap());
    for tick in ["1s", "100ms"] {
        let args =
            ["live", script, "--rows", rows, "-o", "jsonl", "--tick", tick, "--drain", "30s"];
        let live = run(&args, DEADLINE).unwrap();
        assert!(live.status.success(), "{live:?}");
        let mut view = LiveView::default();
        let mut checked = 0;
        for line in &live.stdout {
            view.apply_text(line).unwrap();
            if !line.contains("\"type\":\"progress\"") {
                continue;
            }
            let frontier = view.frontiers.last().unwrap().clone();
            // Each answer is a process of its own: look at some frontiers, and always at the last.
            if view.frontiers.len() % 17 != 1 && !frontier.contains("01:29") {
                continue;
            }
            checked += 1;
            let answer =
                run(&["run", script, "--rows", rows, "--now", &frontier, "-o", "json"], DEADLINE)
                    .unwrap();
            assert!(answer.status.success(), "{answer:?}");
            let mut want: Vec<String> = answer
                .json_lines()
                .into_iter()
                .map(|mut row| {
                    row.as_object_mut().unwrap().shift_remove("_tableName_");
                    row.to_string()
                })
                .collect();
            want.sort();
            let mut have: Vec<String> = view
                .rows("paths")
                .into_iter()
                .map(|(row, count)| {
                    assert_eq!(count, 1);
                    row.to_string()
                })
                .collect();
            have.sort();
            assert_eq!(have, want, "at {frontier} with a tick of {tick}");
        }
        assert!(checked >= 3, "{checked} frontiers were compared");
        assert!(view.rows("paths").is_empty(), "everything has left the window");
    }
}

/// Wrong rows are named by file and line, and nothing is printed as an answer.
#[test]
fn wrong_rows_are_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("http_events.jsonl"), "{\"time_\":1}\n{\"latency\":1}\n")
        .unwrap();
    let script = dir.path().join("s.pxl");
    std::fs::write(&script, SCRIPT).unwrap();
    let args = ["run", script.to_str().unwrap(), "--rows", dir.path().to_str().unwrap()];
    let output = run(&args, DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.join("\n").contains("http_events.jsonl:2"), "{output:?}");
    assert!(output.stdout.is_empty());
}
