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

/// Writes a script and gives the rows of `run` and all messages of `live`.
fn answer_and_messages(
    dir: &std::path::Path,
    script: &str,
) -> (Vec<serde_json::Value>, Vec<String>) {
    let path = dir.join("s.pxl");
    std::fs::write(&path, script).unwrap();
    let (path, rows) = (path.to_str().unwrap(), dir.to_str().unwrap());
    let answer = run(&["run", path, "--rows", rows, "-o", "json"], DEADLINE).unwrap();
    assert!(answer.status.success(), "{answer:?}");
    let live = run(&["live", path, "--rows", rows, "-o", "jsonl"], DEADLINE).unwrap();
    assert!(live.status.success(), "{live:?}");
    (answer.json_lines(), live.stdout)
}

/// A tracepoint's table is declared by the script alone, and its rows are read like any other's.
#[test]
fn tracepoint_tables_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let rows = "{\"time_\":1767225600000000000,\"pid\":7,\"comm\":\"curl\",\"more\":1}\n";
    std::fs::write(dir.path().join("opens.jsonl"), rows).unwrap();
    let script = "import px\nimport pxtrace\n\
        program = \"\"\"kprobe:do_sys_open { printf(\"time_:%llu pid:%u comm:%s\", nsecs, pid, comm); }\"\"\"\n\
        pxtrace.UpsertTracepoint('opens', 'opens', program, pxtrace.kprobe(), '10m')\n\
        df = px.DataFrame('opens')\n\
        px.display(df[['pid', 'comm']], 't')\n";
    let (rows, messages) = answer_and_messages(dir.path(), script);
    let want = serde_json::json!([{"_tableName_": "t", "pid": 7, "comm": "curl"}]);
    assert_eq!(serde_json::json!(rows), want);
    let mut view = LiveView::default();
    messages.iter().for_each(|message| view.apply_text(message).unwrap());
    assert_eq!(view.rows("t").len(), 1);
}

/// Table functions: the registry's answer from the registry, all others from a file of their name,
/// with zeros for what it lacks; also where no table has a row.
#[test]
fn table_functions_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let agents = "{\"asid\":7,\"hostname\":\"node-a\",\"agent_state\":\"AGENT_STATE_HEALTHY\"}\n\
                  {\"asid\":8,\"kernel_headers_installed\":true}\n";
    std::fs::write(dir.path().join("GetAgentStatus.jsonl"), agents).unwrap();
    let script = "import px\n\
        df = px.GetAgentStatus(include_kelvin=False)\n\
        px.display(df[['asid', 'hostname', 'kernel_headers_installed']], 'agents')\n\
        px.display(px.GetLinuxHeadersStatus(), 'headers')\n\
        tables = px.GetTables()\n\
        px.display(tables[tables.table_name == 'http_events'], 'tables')\n";
    let (rows, messages) = answer_and_messages(dir.path(), script);
    let of = |table: &str| -> Vec<&serde_json::Value> {
        rows.iter().filter(|row| row["_tableName_"] == table).collect()
    };
    let agents: Vec<_> = of("agents")
        .into_iter()
        .map(|row| {
            serde_json::json!([row["asid"], row["hostname"], row["kernel_headers_installed"]])
        })
        .collect();
    assert_eq!(serde_json::json!(agents), serde_json::json!([[7, "node-a", false], [8, "", true]]));
    assert_eq!((of("headers").len(), of("tables").len()), (0, 1));
    let mut view = LiveView::default();
    messages.iter().for_each(|message| view.apply_text(message).unwrap());
    assert_eq!(view.frontiers.len(), 1, "a snapshot and its progress: {messages:?}");
    assert_eq!((view.rows("agents").len(), view.rows("tables").len()), (2, 1));
    std::fs::write(dir.path().join("GetAgentStatus.jsonl"), "{}\n{\"asid\":\"x\"}\n").unwrap();
    let path = dir.path().join("s.pxl");
    let args = ["run", path.to_str().unwrap(), "--rows", dir.path().to_str().unwrap()];
    let output = run(&args, DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = output.stderr.join("\n");
    assert!(said.contains("GetAgentStatus.jsonl:2: `asid` is not a INT64: \"x\""), "{said}");
}

/// A row too far in the future of its arrival is no answer, but it is told, from its arrival on.
#[test]
fn future_rows_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let rows = "{\"time_\":\"2026-01-01T00:00:30Z\",\"_arrival_\":1767225605000000000}\n";
    std::fs::write(dir.path().join("http_events.jsonl"), rows).unwrap();
    let script = dir.path().join("s.pxl");
    std::fs::write(&script, "import px\npx.display(px.DataFrame('http_events'), 't')\n").unwrap();
    let (script, rows) = (script.to_str().unwrap(), dir.path().to_str().unwrap());
    let lost_at = |now: &[&str]| {
        let args = [&["run", script, "--rows", rows, "-o", "json"], now].concat();
        let output = run(&args, DEADLINE).unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        let completeness: serde_json::Value =
            serde_json::from_str(output.stderr.last().unwrap()).unwrap();
        assert_eq!(completeness["complete"], true);
        completeness["lost"].clone()
    };
    let one = serde_json::json!({"http_events": {"future": 1}});
    assert_eq!(lost_at(&[]), one);
    assert_eq!(lost_at(&["--now", "2026-01-01T00:00:04Z"]), serde_json::json!({}));
    let live = run(&["live", script, "--rows", rows, "-o", "jsonl"], DEADLINE).unwrap();
    let progress = live.stdout.iter().rfind(|line| line.contains("\"progress\"")).unwrap();
    let progress: serde_json::Value = serde_json::from_str(progress).unwrap();
    assert_eq!(progress["lost"], one);
}

/// Nothing is dropped, however much is read at once, and large rows go through: catches the limits
/// of a live server, where what cannot keep up is dropped.
#[test]
fn many_and_large_rows_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..12_000i64)
        .map(|n| format!("{{\"time_\":{},\"resp_body\":\"{}\"}}\n", n + 1, "x".repeat(30_000)))
        .collect();
    std::fs::write(dir.path().join("http_events.jsonl"), rows).unwrap();
    let script = dir.path().join("s.pxl");
    let text = "import px\ndf = px.DataFrame('http_events')\n\
        px.display(df.agg(n=('time_', px.count)), 'n')\n\
        px.display(df[['time_', 'resp_body']].head(4000), 'rows')\n";
    std::fs::write(&script, text).unwrap();
    let (script, rows) = (script.to_str().unwrap(), dir.path().to_str().unwrap());
    let output = run(&["run", script, "--rows", rows, "-o", "json"], DEADLINE).unwrap();
    assert!(output.status.success(), "{:?}", output.stderr);
    let rows = output.json_lines();
    assert_eq!(rows.iter().find(|row| row["_tableName_"] == "n").unwrap()["n"], 12_000);
    assert_eq!(rows.iter().filter(|row| row["_tableName_"] == "rows").count(), 4_000);
}
