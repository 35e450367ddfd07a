//! Sinks to real receivers, as `weir.yaml` says: what they hold in the end is what the traffic was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::receivers::{self, ClickHouse, Collector, Prometheus};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::{Weir, run};

const DEADLINE: Duration = Duration::from_secs(60);
const EACH: usize = 20;
const PATHS: [&str; 3] = ["/one", "/two", "/three"];

/// Responses by path: what a rule records and sinks read by its name.
const RULES: &str = "groups:\n- name: shop\n  rules:\n  - record: shop:paths\n    expr: |\n      \
    import px\n      df = px.DataFrame('http_events', start_time='-10m')\n      \
    df = df[df.trace_role == 2]\n      \
    px.display(df.groupby('req_path').agg(n=('latency', px.count)))\n";

const PATHS_SCRIPT: &str = "import px\n\
    df = px.DataFrame('http_events')\n\
    df = df[df.trace_role == 2]\n\
    px.display(df.groupby('req_path').agg(n=('latency', px.count)))\n";

/// Each response as a point of a metric and as a span.
const EXPORT: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-10m')\n\
    df = df[df.trace_role == 2]\n\
    px.export(df, px.otel.Data(resource={'service.name': 'shop'}, data=[\n\
    \x20   px.otel.metric.Gauge(name='http.latency', value=df.latency, attributes={'path': df.req_path}),\n\
    \x20   px.otel.trace.Span(name=df.req_path, start_time=df.time_, end_time=df.time_)]))\n";

fn config(dir: &Path, house: SocketAddr, prometheus: SocketAddr, collector: SocketAddr) -> String {
    std::fs::write(dir.join("shop.yml"), RULES).unwrap();
    std::fs::write(dir.join("export.pxl"), EXPORT).unwrap();
    let text = format!(
        "rules: [shop.yml]\nsinks:\n  \
         house:\n    type: clickhouse\n    inputs: [{{view: 'shop:paths'}}]\n    \
         url: http://{house}/\n    table: paths\n    encoding: {{mode: upsert}}\n  \
         remote:\n    type: prometheus_remote_write\n    inputs: [{{view: 'shop:paths'}}]\n    \
         url: http://{prometheus}/api/v1/write\n  \
         points:\n    type: opentelemetry\n    inputs: [{{file: export.pxl}}]\n    \
         protocol: grpc\n    url: http://{collector}\n  \
         kept:\n    type: file\n    path: kept/http_events.parquet\n    \
         inputs: [{{text: \"import px\\npx.display(px.DataFrame('http_events'))\"}}]\n    \
         encoding: {{mode: append, codec: parquet}}\n    batch: {{timeout: 300ms}}\n"
    );
    let file = dir.join("weir.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

fn of_house(house: &ClickHouse) -> BTreeMap<String, usize> {
    let rows = house.ask("SELECT req_path, n FROM paths FINAL WHERE NOT _deleted").unwrap();
    let pair = |row: &String| {
        let (path, n) = row.split_once('\t')?;
        Some((path.to_string(), n.parse().ok()?))
    };
    rows.iter().filter_map(pair).collect()
}

fn of_prometheus(prometheus: &Prometheus) -> BTreeMap<String, usize> {
    let series = prometheus.ask("remote_n").unwrap();
    let pair = |(labels, value): &(Json, String)| {
        (labels["req_path"].as_str().unwrap().to_string(), value.parse().unwrap())
    };
    series.iter().map(pair).collect()
}

/// What the script of the rule answers over the files that were kept.
fn of_files(dir: &Path) -> BTreeMap<String, usize> {
    let script = dir.join("paths.pxl");
    std::fs::write(&script, PATHS_SCRIPT).unwrap();
    let (rows, script) = (dir.join("kept"), script.to_str().unwrap().to_string());
    let args = ["run", &script, "--rows", rows.to_str().unwrap(), "-o", "jsonl"];
    let output = run(&args, DEADLINE).unwrap();
    let pair = |row: &Json| {
        (row["req_path"].as_str().unwrap().to_string(), row["n"].as_u64().unwrap() as usize)
    };
    output.json_lines().iter().map(pair).collect()
}

/// Points and spans by path.
fn of_collector(collector: &Collector) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let (mut points, mut spans) = (BTreeMap::new(), BTreeMap::new());
    let empty = vec![];
    let all = |value: &Json| value.as_array().unwrap_or(&empty).clone();
    for request in collector.requests() {
        for resource in all(&request["resourceMetrics"]) {
            assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "shop");
            let metrics = all(&resource["scopeMetrics"][0]["metrics"]);
            for point in metrics.iter().flat_map(|metric| all(&metric["gauge"]["dataPoints"])) {
                let path = point["attributes"][0]["value"]["stringValue"].as_str().unwrap();
                *points.entry(path.to_string()).or_default() += 1;
            }
        }
        for resource in all(&request["resourceSpans"]) {
            for span in all(&resource["scopeSpans"][0]["spans"]) {
                *spans.entry(span["name"].as_str().unwrap().to_string()).or_default() += 1;
            }
        }
    }
    (points, spans)
}

/// A ClickHouse table and Prometheus' series, both of a recorded view, end as the traffic was; what a script exports
/// arrives at a collector, each response as one point and one span; and of the rows that are kept as Parquet files, the
/// same script answers the same offline. Nothing is lost or refused.
#[test]
fn receivers_have_what_was() {
    if !super::can_capture() {
        return;
    }
    if !receivers::are_installed() {
        return weir_types::testing::skipped("there is no ClickHouse, Prometheus or collector");
    }
    let dir = tempfile::tempdir().unwrap();
    let (house, collector) = (ClickHouse::start().unwrap(), Collector::start().unwrap());
    let prometheus = Prometheus::start(&[]).unwrap();
    let file = config(dir.path(), house.0.addr, prometheus.0.addr, collector.0.addr);
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &file]).unwrap();
    let load = Load {
        addr: nginx.addr,
        paths: PATHS.map(str::to_string).to_vec(),
        requests: EACH * PATHS.len(),
        requests_per_sec: 60,
        connections: 3,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), load.requests);
    let wanted: BTreeMap<String, usize> =
        PATHS.map(|path| (path.to_string(), EACH)).into_iter().collect();
    let done = wait_until(DEADLINE, || {
        let (points, spans) = of_collector(&collector);
        let all =
            [of_house(&house), of_prometheus(&prometheus), points, spans, of_files(dir.path())];
        all.iter().all(|have| *have == wanted).then_some(())
    });
    let sinks = weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
    assert!(
        done.is_some(),
        "{:?} {:?} {:?} {:?}\n{sinks:#?}\n{:#?}",
        of_house(&house),
        of_prometheus(&prometheus),
        of_collector(&collector),
        of_files(dir.path()),
        weir.log()
    );
    assert_eq!(sinks.len(), 4, "{sinks:?}");
    for sink in &sinks {
        assert_eq!((&sink["state"], &sink["rows_lost"]), (&"running".into(), &0.into()), "{sink}");
    }
}
