//! What tests of many nodes have in common: whether they can run, and a view of how many requests each port has
//! served, which is held to what was asked.

use std::time::Duration;

use serde_json::Value as Json;
use tempfile::NamedTempFile;
use weir_dataflow_tests::harness::fleet::has_bus_server;
use weir_dataflow_tests::harness::weir::{Live, Weir};

use crate::can_capture;

pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Whether there is a bus server here, and sockets can be watched.
pub(crate) fn can_run() -> bool {
    if !has_bus_server() {
        weir_types::testing::skipped("there is no nats-server");
    }
    has_bus_server() && can_capture()
}

/// Requests by the port that served them.
fn script() -> NamedTempFile {
    script_of(
        "df = px.DataFrame('http_events', start_time='-10m')\n\
         df = df[df.trace_role == 2]\n\
         df = df.groupby('local_port').agg(n=('latency', px.count))\npx.display(df, 'ports')\n",
    )
}

pub(crate) fn script_of(text: &str) -> NamedTempFile {
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(script.path(), format!("import px\n{text}")).unwrap();
    script
}

/// The view of it, as it changes, and its script, which is read as the view begins.
pub(crate) fn live(cluster: &Weir) -> (Live, NamedTempFile) {
    let script = script();
    let live = cluster.live(script.path().to_str().unwrap(), &["--refresh", "200ms"]).unwrap();
    (live, script)
}

/// Port and requests, in order.
pub(crate) fn counts(rows: &[(Json, i64)]) -> Vec<(i64, i64)> {
    let count = |row: &Json, times: i64| row["n"].as_i64().unwrap() * times;
    let mut counts: Vec<(i64, i64)> = rows
        .iter()
        .map(|(row, times)| (row["local_port"].as_i64().unwrap(), count(row, *times)))
        .collect();
    counts.sort_unstable();
    counts
}

/// Waits until the view holds exactly what was served, by port; before that nothing is ever there more often.
pub(crate) fn agrees(live: &mut Live, mut served: Vec<(i64, i64)>) {
    served.retain(|(_, requests)| *requests > 0);
    served.sort_unstable();
    live.wait_for(DEADLINE, |view| {
        let have = counts(&view.rows("ports"));
        for (port, count) in &have {
            let most = served.iter().find(|(of, _)| of == port).map_or(0, |(_, served)| *served);
            assert!(*count <= most, "{count} of {most} requests of {port}");
        }
        have == served
    })
    .unwrap();
    assert!(live.view.errors.is_empty(), "{:?}", live.view.errors);
}

/// Who lags, by the last progress. Whoever does is said to, and the answer not to be complete.
pub(crate) fn lagging(live: &Live) -> Vec<String> {
    let progress = live.view.progress.clone().unwrap_or_default();
    let names = progress["lagging"].as_array().into_iter().flatten();
    let lagging: Vec<String> = names.filter_map(|name| name.as_str().map(str::to_string)).collect();
    assert!(lagging.is_empty() || progress["complete"] == false, "{progress}");
    lagging
}

/// Waits until these lag, and no others.
pub(crate) fn are_lagging(live: &mut Live, names: &[&str]) {
    live.wait_for(DEADLINE, |view| {
        let said = view.progress.as_ref().map(|progress| progress["lagging"].clone());
        said == Some(names.to_vec().into())
    })
    .unwrap();
    assert_eq!(lagging(live), names);
}
