//! `weir explain --cost` and `--query-cost-max` on a running server: what is said before anything runs, what is refused,
//! and what is asked for all the same.

use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{put, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// Rows that the server makes by itself as soon as some view runs.
const RUNS: &str = "import px\n\
    df = px.DataFrame('weir_operators', start_time='-30s')\n\
    px.display(df.groupby('kind').agg(rows=('rows_in', px.sum)), 'operators')\n";
const LARGE: &str =
    "import px\npx.display(px.DataFrame('weir_operators', start_time='-10m'), 'rows')\n";

/// A script is estimated before it runs, and above the limit refused with the way around it; wrong scripts and
/// servers that are not there have errors of their own. Catches an estimate that installs what it estimates.
#[test]
fn costs_are_said_before() {
    let weir = Weir::start(&["--trace", "port:1", "--query-cost-max", "1000"]).unwrap();
    let script = |name: &str, text: &str| put(weir.data_dir(), name, text);
    let (runs, large) = (script("runs.pxl", RUNS), script("large.pxl", LARGE));
    let broken = script("broken.pxl", "import px\npx.display(px.DataFrame('no_such_table'))\n");
    let cost = |path: &str, output: &str| {
        weir.run(&["explain", "--cost", path, "-o", output], DEADLINE).unwrap()
    };
    // No table has a row yet.
    let nothing = cost(&runs, "text");
    assert_eq!(nothing.status.code(), Some(0), "{nothing:?}");
    let queries =
        || -> Json { serde_json::from_slice(&weir.get("/api/v1/queries").unwrap().body).unwrap() };
    assert_eq!(queries()["queries"], serde_json::json!([]), "an estimate installs nothing");
    let live = weir.live(&runs, &["--force"]).unwrap();
    let found = wait_until(DEADLINE, || {
        let found = cost(&large, "json");
        let above = found.status.code() == Some(1);
        above.then(|| found.json_lines().pop()).flatten()
    });
    let found = found.expect("rows come while a view runs");
    assert_eq!(found["within"], false);
    assert_eq!(found["limits"][0]["name"], "query_cost_max");
    assert_eq!(found["sources"][0]["table"], "weir_operators");
    assert!(found["total"]["state_bytes"].as_u64().unwrap() > 1_000, "{found}");
    let most = found["most"]["state_bytes"].as_u64().unwrap();
    assert!(most >= found["total"]["state_bytes"].as_u64().unwrap(), "{found}");
    let said = cost(&large, "table").stdout.join("\n");
    for part in ["rows of weir_operators over 600 s", "ABOVE --query-cost-max (1000 B)", "at most"]
    {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let refused = weir.run(&["run", &large], DEADLINE).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let why = refused.stderr.join("\n");
    assert!(why.contains("--query-cost-max") && why.contains("--force"), "{why}");
    let forced = weir.run(&["run", &large, "--force"], DEADLINE).unwrap();
    assert_eq!(forced.status.code(), Some(0), "{forced:?}");
    let running = cost(&runs, "text");
    assert!(running.stdout.join("\n").contains("It runs already"), "{running:?}");

    let wrong = cost(&broken, "text");
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(wrong.stderr.join("\n").contains("no_such_table"), "{wrong:?}");
    let unknown = cost("px/no_such_script", "text");
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    let alone = ["explain", "--cost", &runs, "--server", "127.0.0.1:1"];
    let alone = weir.run(&alone, DEADLINE).unwrap();
    assert_eq!(alone.status.code(), Some(3), "{alone:?}");
    let usage = weir.run(&["explain", "--refresh", "1s", &runs], DEADLINE).unwrap();
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    live.interrupt().unwrap();
}
