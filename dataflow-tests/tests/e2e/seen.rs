//! A running server seen from inside: `explain --live`, the tables about its own dataflows, and metrics.

use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A view over what the server's dataflows do, itself among them.
const SELF: &str = "import px\n\
    df = px.DataFrame('weir_operators', start_time='-30s')\n\
    df = df.groupby(['part', 'kind']).agg(took=('rows_in', px.sum), gave=('rows_out', px.sum), \
    held=('held_bytes', px.max), busy=('busy', px.sum))\n\
    px.display(df, 'operators')\n";

fn operator<'a>(explained: &'a Json, kind: &str) -> &'a Json {
    let all = explained["operators"].as_array().expect("a list");
    all.iter().find(|operator| operator["kind"] == kind).unwrap_or(&Json::Null)
}

/// A script that does not run is an error that says how to run it; one that runs is shown down to the scan on the
/// node, with what really passed; its figures are rows of a table that a view keeps, and metrics. Catches a
/// dataflow that is shown as it was compiled and not as it runs.
#[test]
fn a_running_dataflow_is_seen() {
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let path = weir.data_dir().join("self.pxl");
    std::fs::write(&path, SELF).unwrap();
    let path = path.to_str().unwrap();
    let explain =
        |output: &str| weir.run(&["explain", "--live", path, "-o", output], DEADLINE).unwrap();
    let before = explain("text");
    assert_eq!(before.status.code(), Some(1), "{before:?}");
    let said = before.stderr.join("\n");
    assert!(said.contains("does not run") && said.contains("weir live"), "{said}");
    let elsewhere = weir.run(&["explain", "--live", "px/no_such_script"], DEADLINE).unwrap();
    assert_eq!(elsewhere.status.code(), Some(1), "{elsewhere:?}");

    let mut live = weir.live(path, &[]).unwrap();
    live.wait_for(DEADLINE, |view| {
        let rows = view.rows("operators");
        let of_self = |kind: &str| rows.iter().any(|(row, _)| row["kind"] == kind);
        ["Scan", "Send", "PaneWindow", "Import", "Output"].iter().all(|kind| of_self(kind))
    })
    .unwrap();
    let seen = wait_until(DEADLINE, || {
        let explained = explain("json").json_lines().pop()?;
        let scan = operator(&explained, "Scan");
        (scan["rows_in_per_s"].as_f64()? > 0.0).then_some(explained)
    });
    let explained = seen.expect("rates come with the second sample");
    assert_eq!(explained["subscribers"], 1);
    let parts: Vec<&str> = ["Output", "Import", "PaneWindow", "Send", "Scan"]
        .iter()
        .map(|kind| operator(&explained, kind)["part"].as_str().unwrap_or("missing"))
        .collect();
    assert_eq!(parts, ["query", "query", "feed", "node", "node"], "{explained}");
    let window = operator(&explained, "PaneWindow");
    assert!(window["held_bytes"].as_u64().unwrap() > 0, "{window}");
    let total: u64 = ["Scan", "Send"]
        .iter()
        .map(|kind| operator(&explained, kind)["cpu_ns"].as_u64().unwrap())
        .sum();
    assert!(total > 0, "{explained}");
    let tree = explain("text").stdout;
    assert!(tree[0].starts_with("self") || tree[0].contains("query"), "{tree:?}");
    assert!(tree.iter().any(|line| line.contains("-> scan weir_operators [")), "{tree:?}");
    assert!(
        tree.iter().any(|line| line.contains("[on 1 node]") && line.contains("/s")),
        "{tree:?}"
    );

    let json =
        |path: &str| -> Json { serde_json::from_slice(&weir.get(path).unwrap().body).unwrap() };
    let listed = json("/api/v1/queries");
    let query = &listed["queries"][0];
    assert!(query["rows_in_per_s"].is_number() && query["lateness_ns"].is_number(), "{query}");
    let of_number = json(&format!("/api/v1/queries/{}", query["query"]));
    assert_eq!(of_number["name"], explained["name"]);
    assert_eq!(weir.get("/api/v1/queries/999999").unwrap().status, 404);
    let metrics = weir.get("/metrics").unwrap().text();
    for wanted in ["weir_queries 1", "weir_operator_held_bytes{part=\"feed\",kind=\"PaneWindow\"} "]
    {
        assert!(metrics.contains(wanted), "{wanted} in {metrics}");
    }
    live.interrupt().unwrap();
}
