//! `weir check`, `weir explain` and `weir bench compile` over a folder of scripts, without a server.

use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::weir::run;

const DEADLINE: Duration = Duration::from_secs(60);

/// Writes the files of a folder of scripts.
fn write(root: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

const VIZ: &[u8] = br#"{
  "variables": [{ "name": "pod", "type": "PX_POD" }, { "name": "n", "type": "PX_INT64", "defaultValue": "5" }],
  "widgets": [{ "name": "w", "func": { "name": "f", "args": [
    { "name": "pod", "variable": "pod" }, { "name": "n", "variable": "n" }] },
    "displaySpec": { "@type": "types.px.dev/px.vispb.Table" } }]
}"#;
const WITH_ARGS: &[u8] = b"import px
def f(pod: px.Pod, n: int):
    df = px.DataFrame('process_stats', start_time='-1m')
    return df[df.ctx['pod'] == pod].head(n)
";
const TRACES: &[u8] = b"import px
import pxtrace
program = 'kprobe:x { printf(\"time_:%llu pid:%d comm:%s\", nsecs, pid, comm); }'
pxtrace.UpsertTracepoint('x', 'x_table', program, pxtrace.kprobe(), '5m')
df = px.DataFrame('x_table')
px.display(df[px.contains(df.comm, 'sh')])
";

/// One object a script; the exit status says whether all are fine; placeholders, `viz.json`, tables of
/// tracepoints, unreadable files and `--arg` count as the contract says.
#[test]
fn check_reports_each_script() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(
        root,
        &[
            ("px/args/args.pxl", WITH_ARGS),
            ("px/args/viz.json", VIZ),
            ("px/traces/traces.pxl", TRACES),
            ("px/notes.txt", b"no script"),
        ],
    );
    let check = |args: &[&str]| {
        let path = root.to_str().unwrap();
        run(&[&["check", path, "-o", "json"], args].concat(), DEADLINE).unwrap()
    };
    let fine = check(&[]);
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    let lines = fine.json_lines();
    let keys: Vec<Vec<&String>> =
        lines.iter().map(|line| line.as_object().unwrap().keys().collect()).collect();
    assert_eq!(keys, vec![vec!["path", "ok", "diagnostics"]; 2]);
    let codes = |line: &Json| -> Vec<String> {
        let found = line["diagnostics"].as_array().unwrap().iter();
        found.map(|found| found["code"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(codes(&lines[0]), Vec::<String>::new());
    assert_eq!(codes(&lines[1]), ["no_source"], "a warning only");
    assert_eq!(check(&["--arg", "n=7"]).status.code(), Some(0));
    assert_eq!(check(&["--arg", "n=seven"]).status.code(), Some(1));
    assert_eq!(check(&["--arg", "m=7"]).status.code(), Some(2));
    assert_eq!(check(&["--arg", "m"]).status.code(), Some(2));
    write(
        root,
        &[
            ("bad/typo.pxl", b"import px\npx.display(px.DataFrame('http_event'))\n"),
            ("bad/bytes.pxl", b"import px\n\xff\xfe\n"),
        ],
    );
    let wrong = check(&[]);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    let lines = wrong.json_lines();
    let ok: Vec<bool> = lines.iter().map(|line| line["ok"] == true).collect();
    assert_eq!(ok, [false, false, true, true], "sorted by path");
    assert_eq!(codes(&lines[0]), ["unreadable"]);
    let found = &lines[1]["diagnostics"][0];
    assert_eq!(found["code"], "table_not_found");
    assert_eq!((found["line"].as_u64(), found["column"].as_u64()), (Some(2), Some(25)));
    assert_eq!(found["hint"], "did you mean `http_events`?");
}

/// The other commands of the compiler take the same folder.
#[test]
fn explain_and_bench_take_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("args/args.pxl", WITH_ARGS), ("args/vis.json", VIZ)]);
    let path = dir.path().join("args");
    let path = path.to_str().unwrap();
    let explained = run(&["explain", path, "--stage", "split", "-o", "json"], DEADLINE).unwrap();
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");
    let reason = explained.json_lines()[0]["split"]["cuts"][0]["reason"].to_string();
    assert!(reason.contains("newest 5 rows"), "{reason}");
    let bench = run(&["bench", "compile", path, "--repeat", "2"], DEADLINE).unwrap();
    let figures = &bench.json_lines()[0];
    assert_eq!((figures["verified"].as_bool(), figures["count"].as_u64()), (Some(true), Some(1)));
    let script = figures["scripts"].as_object().unwrap().values().next().unwrap();
    assert!(script["p50_ms"].as_f64() <= script["max_ms"].as_f64(), "{figures}");
}
