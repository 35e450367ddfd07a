//! What the bundle's texts say of rates, on rows that are made up.

use std::time::Duration;

use serde_json::{Value as Json, json};
use weir_dataflow_tests::harness::weir::run;

const DEADLINE: Duration = Duration::from_secs(120);
const SEC_NS: i64 = 1_000_000_000;
/// The start of a bin of ten seconds.
const BASE_NS: i64 = 1_700_000_000 * SEC_NS;

/// The rows of a table that a script gives, at a time.
fn rows(script: &str, dir: &std::path::Path, now_ns: i64, args: &[&str]) -> Vec<Json> {
    let now = now_ns.to_string();
    let dir = dir.to_str().unwrap();
    let mut all = vec!["run", script, "--rows", dir, "--now", &now, "-o", "json"];
    all.extend(args);
    let output = run(&all, DEADLINE).unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    output.json_lines()
}

fn near(value: &Json, wanted: f64) -> bool {
    (value.as_f64().unwrap() - wanted).abs() < 1e-6 * wanted.abs().max(1e-9)
}

/// A machine with one process that keeps half a CPU busy, looked at each second, and one that was there
/// for the first four looks: catches CPU over a bin of which less was looked at, memory of what is gone
/// counted as if it were there, and the newest bin's requests over all of a bin that is not over.
#[test]
fn rates_are_over_what_was_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let process = |upid: &str, second: i64| {
        json!({
            "time_": BASE_NS + second * SEC_NS, "upid": upid,
            "cpu_utime_ns": second * SEC_NS / 2, "rss_bytes": 1_000_000,
        })
        .to_string()
    };
    let (long, short) =
        ("00000001-0000-0007-0000-000000000001", "00000001-0000-0008-0000-000000000001");
    let mut stats: Vec<String> = (0..8).map(|second| process(long, second)).collect();
    stats.extend((0..4).map(|second| process(short, second)));
    std::fs::write(dir.path().join("process_stats.jsonl"), stats.join("\n")).unwrap();
    let request = |number: i64| {
        json!({
            "time_": BASE_NS + number * SEC_NS / 2, "upid": long, "trace_role": 2,
            "remote_addr": "10.0.0.1", "remote_port": 5, "req_path": "/", "resp_status": 200,
            "latency": 5, "resp_body_size": 10,
        })
        .to_string()
    };
    let requests: Vec<String> = (0..16).map(request).collect();
    std::fs::write(dir.path().join("http_events.jsonl"), requests.join("\n")).unwrap();
    let named: Vec<String> = [long, short]
        .map(|upid| json!({"upid": upid, "cmdline": "x", "node": "n"}).to_string())
        .to_vec();
    std::fs::write(dir.path().join("processes.jsonl"), named.join("\n")).unwrap();
    let now_ns = BASE_NS + 8 * SEC_NS;

    let text = dir.path().join("usage.pxl");
    std::fs::write(
        &text,
        "import px\nimport pxviews\n\
         df = px.DataFrame('process_stats', start_time='-1m')\n\
         df.all = 'all'\n\
         px.display(pxviews.usage(df, 'all', px.DurationNanos(px.seconds(10))), 'bins')\n\
         px.display(pxviews.usage_summary(df, 'all'), 'summary')\n\
         h = px.DataFrame('http_events', start_time='-1m')\n\
         bin_ns = px.DurationNanos(px.seconds(10))\n\
         h.bin_start = px.bin(h.time_, bin_ns)\n\
         h = h.groupby('bin_start').agg(n=('latency', px.count))\n\
         h = pxviews.add_passed(h, '-1m', bin_ns)\n\
         h.rate = h.n / h.passed\n\
         px.display(h, 'requests')\n",
    )
    .unwrap();
    let found = rows(text.to_str().unwrap(), dir.path(), now_ns, &[]);
    let of = |table: &str| {
        let rows: Vec<&Json> = found.iter().filter(|row| row["_tableName_"] == table).collect();
        assert_eq!(rows.len(), 1, "{table}: {found:?}");
        rows[0].clone()
    };
    // Seven seconds were looked at; the counters grew by 3.5 s and by 1.5 s.
    for table in ["bins", "summary"] {
        assert!(near(&of(table)["cpu_usage"], 5.0 / 7.0), "{:?}", of(table));
        // One megabyte all the time, another one half of it.
        assert_eq!(of(table)["rss"], 1_500_000);
    }
    // Sixteen requests in the eight seconds that have passed of the bin.
    assert!(near(&of("requests")["rate"], 2e-9), "{:?}", of("requests"));

    // The same through a text of the bundle.
    let args = ["--func", "process_stats", "--", "--start_time", "-1m"];
    let found = rows("px/nodes", dir.path(), now_ns, &args);
    assert!(found.iter().all(|row| near(&row["cpu_usage"], 5.0 / 7.0)), "{found:?}");
    assert!(!found.is_empty());
}
