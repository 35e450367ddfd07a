//! Against a real collector, where there is one (`~/.cache/weir/otelcol/otelcol`), and a receiver that answers as it
//! is told.

use std::net::TcpStream;

use weir_types::{Column, DataType, SemanticType};

use super::message::{Any, AnyValue, Data, KeyValue, MetricsRequest, Number, NumberPoint};
use super::spec::{Attribute, Signal, Source};
use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery, delivery_of, info};
use crate::testing::{Receiver, Relay, Running, cache, free_port, target, upserts};
use crate::tls::Tls;

fn wide() -> OutputInfo {
    let mut info = info();
    info.relation.columns[0].semantic = SemanticType::ServiceName;
    info.relation.columns[1].semantic = SemanticType::DurationNs;
    info
}

fn sink(url: &str, protocol: Protocol) -> Box<OtelSink> {
    Box::new(OtelSink::new(target(url), protocol, "my sink", BTreeMap::new()))
}

fn text(pair: &KeyValue) -> String {
    match pair.value.as_ref().and_then(|value: &AnyValue| value.value.as_ref()) {
        Some(Any::Text(text)) => format!("{}={text}", pair.key),
        other => format!("{}={other:?}", pair.key),
    }
}

/// Points with their attributes, of all gauges.
fn points(body: &[u8]) -> Vec<(String, String, NumberPoint)> {
    let request = MetricsRequest::decode(body).unwrap();
    let metrics = request.resource_metrics.into_iter().flat_map(|it| it.scope_metrics);
    let mut points = Vec::new();
    for metric in metrics.flat_map(|it| it.metrics) {
        let Some(Data::Gauge(gauge)) = metric.data else { panic!("{metric:?}") };
        for point in gauge.data_points {
            let attributes: Vec<String> = point.attributes.iter().map(text).collect();
            points.push((format!("{} {}", metric.name, metric.unit), attributes.join(","), point));
        }
    }
    points
}

/// Rows are gauges under their own names, at their ticks, with OpenTelemetry's names where a meaning has one; one
/// that is gone says so, also after a reset and a failed attempt; what a receiver did not keep is counted.
#[test]
fn rows_are_gauges() {
    let receiver = Receiver::start();
    let mut line = upserts(sink(&format!("{}/base/?k=v", receiver.url), Protocol::Http), 100);
    line.open().unwrap();
    line.intake.start(0, &wide(), false).unwrap();
    let row = |key: &str, n: i64| PackedRow::pack(&[Value::str(key), Value::Int64(n)]);
    let rows = vec![(row("a\u{0}", 7), 1), (row("b", 8), 1)];
    // One point of it was not kept (partial_success, rejected).
    receiver.will_answer(200, &[0x0a, 2, 8, 1]);
    line.deliver(&delivery_of(wide(), 1_000, rows, true)).unwrap();
    line.flush().unwrap();
    assert_eq!((line.health().rows_sent, line.health().notes.rejected), (2, 1));
    let request = receiver.requests().remove(0);
    assert_eq!(request.path, "/base/v1/metrics?k=v");
    let have = points(&request.body);
    assert_eq!(have.len(), 2);
    let (name, attributes, point) = &have[0];
    assert_eq!((name.as_str(), attributes.as_str()), ("my sink.n ns", "service.name=a\0"));
    assert_eq!((point.time_unix_nano, point.value), (1_000_000_000, Some(Number::Int(7))));

    line.intake.start(0, &wide(), false).unwrap();
    line.deliver(&delivery_of(wide(), 2_000, vec![(row("c", 1), 1)], true)).unwrap();
    receiver.will_answer(503, b"");
    assert!(line.flush().is_err());
    line.flush().unwrap();
    let gone: Vec<String> = points(&receiver.requests().last().unwrap().body)
        .into_iter()
        .filter(|(_, _, point)| point.flags == 1 && point.value.is_none())
        .map(|(_, attributes, _)| attributes)
        .collect();
    assert_eq!(gone, ["service.name=a\0", "service.name=b"]);
}

/// A row that went and that the receiver will not hear of is counted, and only that: other rows go on. Catches what is
/// owed and refused for ever, for which all that comes later is refused, too.
#[test]
fn what_is_owed_keeps_no_row() {
    let receiver = Receiver::start();
    let mut line = upserts(sink(&receiver.url, Protocol::Http), 100);
    line.start(false).unwrap();
    line.deliver(&delivery(1_000, &[("a", 7, 1), ("b", 8, 1)], true)).unwrap();
    line.flush().unwrap();
    line.intake.start(0, &info(), false).unwrap();
    line.deliver(&delivery(2_000, &[("c", 9, 1)], true)).unwrap();
    // The row, what went, the first of it; then all is taken.
    for status in [200, 400, 400] {
        receiver.will_answer(status, b"");
    }
    line.flush().unwrap();
    let health = line.health();
    assert_eq!((health.rows_sent, health.rows_refused, health.notes.rejected), (3, 0, 1));
    let last = points(&receiver.requests().last().unwrap().body);
    assert_eq!((last.len(), last[0].1.as_str(), last[0].2.flags), (1, "k=b", 1));
}

/// A row whose column names more resources than one row may stand for makes as many as it may; the others are
/// counted. Catches a text of the traffic that becomes millions of them.
#[test]
fn resources_of_a_row_are_bounded() {
    let receiver = Receiver::start();
    let (info, mut spec) = declared();
    spec.resource.push(spec.resource[0].clone());
    spec.signals.truncate(1);
    let declared = BTreeMap::from([(0, spec)]);
    let sink = OtelSink::new(target(&receiver.url), Protocol::Http, "x", declared);
    let mut line = Line::in_memory(Mode::Append, Box::new(sink));
    line.open().unwrap();
    line.intake.start(0, &info, false).unwrap();
    let names: Vec<String> = (0..20_000).map(|n| format!("s{n}")).collect();
    let rows = vec![(call(&serde_json::json!(names).to_string(), 5), 1)];
    line.deliver(&delivery_of(info, 3_000, rows, true)).unwrap();
    line.flush().unwrap();
    let request = MetricsRequest::decode(receiver.requests()[0].body.as_slice()).unwrap();
    // The second time each of 64 has 20,000 again.
    assert_eq!(request.resource_metrics.len(), 64);
    assert_eq!(line.health().notes.rejected, 20_000 * 20_000 - 64);
}

fn column(name: &str) -> Source {
    Source::Column { name: name.to_string(), is_json_array: false }
}

fn declared() -> (OutputInfo, Spec) {
    let mut info = info();
    info.key = vec![];
    let times =
        [("time_", DataType::Time64Ns), ("end", DataType::Time64Ns), ("id", DataType::String)];
    for (name, data_type) in times {
        info.relation.columns.push(Column::new(name, data_type, SemanticType::None));
    }
    let literal = |text: &str| Source::Literal(text.to_string());
    let attribute = |name: &str, value: Source| Attribute { name: name.to_string(), value };
    let service = Source::Column { name: "k".to_string(), is_json_array: true };
    let spec = Spec {
        resource: vec![attribute("service.name", service)],
        signals: vec![
            Signal::Summary {
                name: "s".to_string(),
                description: String::new(),
                unit: "By".to_string(),
                count: "n".to_string(),
                sum: "n".to_string(),
                quantiles: vec![(0.5, "n".to_string())],
                attributes: vec![],
            },
            Signal::Span {
                name: literal("call"),
                start_time: "time_".to_string(),
                end_time: "end".to_string(),
                trace_id: Some("id".to_string()),
                span_id: None,
                parent_span_id: None,
                kind: 2,
                attributes: vec![attribute("n", column("n"))],
            },
        ],
    };
    (info, spec)
}

fn call(key: &str, n: i64) -> PackedRow {
    PackedRow::pack(&[
        Value::str(key),
        Value::Int64(n),
        Value::Time64Ns(1_767_225_601_000_000_001),
        Value::Time64Ns(1_767_225_602_000_000_000),
        Value::str("0af7651916cd43dd8448eb211c80319c"),
    ])
}

/// Where a collector listens, by HTTP and by gRPC, and how it is started.
struct Collector {
    ports: [u16; 2],
    args: [String; 2],
}

impl Collector {
    /// More of the sections of HTTP and gRPC. What it takes it writes into `out.jsonl`.
    fn at(dir: &std::path::Path, [http, grpc]: [&str; 2]) -> Collector {
        let ports = [free_port(), free_port()];
        let config = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{}'{http}}}, grpc: {{endpoint: '127.0.0.1:{}'{grpc}}}}}}}}}\n\
             exporters: {{file: {{path: '{}', append: true, flush_interval: 50ms}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    \
             metrics: {{receivers: [otlp], exporters: [file]}}\n    traces: {{receivers: [otlp], exporters: [file]}}\n",
            ports[0],
            ports[1],
            dir.join("out.jsonl").display(),
        );
        let file = dir.join("c.yaml");
        std::fs::write(&file, config).unwrap();
        Collector { ports, args: ["--config".to_string(), format!("file:{}", file.display())] }
    }

    /// `None`: there is none.
    fn start(&self) -> Option<Running> {
        let is_up = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
        Running::start(&cache("otelcol/otelcol"), &self.args, || self.ports.iter().all(is_up))
    }
}

/// A collector with TLS takes what comes from those who know its authority and whom it knows, by HTTP and by gRPC, over
/// a restart; from others nothing, and it is tried again. Catches a client that does not verify.
#[test]
fn with_tls_both_ends_are_known() {
    let Some(files) = crate::testing::Certificates::make() else {
        return weir_types::testing::skipped("there is no openssl");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path(name).display().to_string();
    let tls = format!(
        ", tls: {{cert_file: '{}', key_file: '{}', client_ca_file: '{}'}}",
        path("server.crt"),
        path("server.key"),
        path("ca.crt")
    );
    let place = Collector::at(dir.path(), [&tls; 2]);
    let Some(mut collector) = place.start() else {
        return weir_types::testing::skipped("there is no OpenTelemetry collector");
    };
    let out = dir.path().join("out.jsonl");
    for (protocol, port) in [(Protocol::Http, place.ports[0]), (Protocol::Grpc, place.ports[1])] {
        let with = |host: &str, tls: Tls| {
            let mut target = target(&format!("https://{host}:{port}"));
            target.tls = tls;
            let mut line =
                upserts(Box::new(OtelSink::new(target, protocol, "x", BTreeMap::new())), 100);
            line.start(false).unwrap();
            line.deliver(&delivery(1_000, &[("a", 7, 1)], true)).unwrap();
            line
        };
        for (host, tls) in [
            ("127.0.0.1", Tls::default()),
            ("127.0.0.1", files.tls(false)),
            // Its certificate is for another name.
            ("localhost", files.tls(true)),
        ] {
            let done = with(host, tls).flush();
            assert!(matches!(done, Err(SinkError::Retry(_))), "{protocol:?} {host} {done:?}");
        }
        let mut known = with("127.0.0.1", files.tls(true));
        known.flush().unwrap();
        collector.kill();
        known.deliver(&delivery(2_000, &[("a", 7, -1), ("a", 8, 1)], true)).unwrap();
        assert!(matches!(known.flush(), Err(SinkError::Retry(_))));
        collector = place.start().unwrap();
        known.flush().unwrap();
        assert_eq!((known.health().rows_sent, known.health().rows_refused), (2, 0));
        // What a collector has not written yet when it is killed is lost in it: the next kill waits for that.
        let is_second = |line: &serde_json::Value| line.to_string().contains("\"asInt\":\"8\"");
        lines(&out, |lines| lines.last().is_some_and(is_second));
        std::fs::write(&out, "").unwrap();
    }
}

/// A real collector takes metrics and spans, by HTTP and by gRPC, over a restart; a row of two services is two
/// resources, and a span that comes again has the same ids.
#[test]
fn a_collector_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let place = Collector::at(dir.path(), [""; 2]);
    let ports = place.ports;
    let start = || place.start();
    let Some(mut collector) = start() else {
        return weir_types::testing::skipped("there is no OpenTelemetry collector");
    };
    for (protocol, port) in [(Protocol::Http, ports[0]), (Protocol::Grpc, ports[1])] {
        let url = format!("http://127.0.0.1:{port}");
        let mut gauges = upserts(sink(&url, protocol), 100);
        gauges.start(false).unwrap();
        gauges.deliver(&delivery(1_000, &[("a", 7, 1)], true)).unwrap();
        gauges.flush().unwrap();
        collector.kill();
        gauges.deliver(&delivery(2_000, &[("a", 7, -1), ("a", 8, 1)], true)).unwrap();
        assert!(matches!(gauges.flush(), Err(SinkError::Retry(_))));
        collector = start().unwrap();
        gauges.flush().unwrap();
        assert_eq!((gauges.health().rows_sent, gauges.health().rows_refused), (2, 0));

        let (info, spec) = declared();
        for _ in 0..2 {
            let declared = BTreeMap::from([(0, spec.clone())]);
            let sink = OtelSink::new(target(&url), protocol, "x", declared);
            let mut line = Line::in_memory(Mode::Append, Box::new(sink));
            line.open().unwrap();
            line.intake.start(0, &info, false).unwrap();
            let rows = vec![(call("[\"one\", \"two\"]", 5), 1), (call("plain", 6), 1)];
            line.deliver(&delivery_of(info.clone(), 3_000, rows, true)).unwrap();
            line.flush().unwrap();
        }
        let wanted = |lines: &[serde_json::Value]| spans(lines).len() >= 6;
        let lines = lines(&out, wanted);
        let text = format!("{lines:?}");
        assert!(text.contains("my sink.n") && text.contains("quantileValues"), "{text}");
        let spans = spans(&lines);
        let mut ids: Vec<&String> = spans.iter().map(|(_, id)| id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!((spans.len(), ids.len()), (6, 3), "{spans:?}");
        let mut services: Vec<&str> = spans.iter().map(|(service, _)| service.as_str()).collect();
        services.sort_unstable();
        assert_eq!(services, ["one", "one", "plain", "plain", "two", "two"]);
        std::fs::write(&out, "").unwrap();
    }
}

/// What a collector with small limits does not take at once comes in parts, in order; a row that is too large alone is
/// counted, and keeps nothing back, nor does it cost the connection by gRPC. Catches a batch that is sent again as it is.
#[test]
fn what_is_too_large_is_split() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let limits = [", max_request_body_size: 1048576", ", max_recv_msg_size_mib: 1"];
    let place = Collector::at(dir.path(), limits);
    let Some(_collector) = place.start() else {
        return weir_types::testing::skipped("there is no OpenTelemetry collector");
    };
    for (protocol, port) in [(Protocol::Http, place.ports[0]), (Protocol::Grpc, place.ports[1])] {
        let relay = Relay::to(port);
        let url = format!("http://127.0.0.1:{}", relay.port);
        let mut line = upserts(sink(&url, protocol), 100);
        line.start(false).unwrap();
        let wide = |n: i64| "x".repeat(if n == 7 { 1_500_000 } else { 100_000 }) + &n.to_string();
        let keys: Vec<String> = (0..30).map(wide).collect();
        let rows: Vec<(&str, i64, i64)> =
            keys.iter().zip(100..).map(|(key, n)| (key.as_str(), n, 1)).collect();
        line.deliver(&delivery(1_000, &rows, true)).unwrap();
        line.flush().unwrap();
        line.deliver(&delivery(2_000, &[("last", 200, 1)], true)).unwrap();
        line.flush().unwrap();
        let health = line.health();
        assert_eq!((health.rows_sent, health.rows_refused, health.acked_ms), (30, 1, Some(2_000)));
        let lines = lines(&out, |lines| {
            lines.last().is_some_and(|line| line.to_string().contains("\"asInt\":\"200\""))
        });
        let came: Vec<i64> = lines.iter().flat_map(numbers).collect();
        let wanted: Vec<i64> = (100..130).filter(|n| *n != 107).chain([200]).collect();
        assert_eq!(came, wanted, "{protocol:?}");
        // By HTTP/1 the server ends a connection whose request it did not read.
        assert!(protocol == Protocol::Http || relay.connections() == 1, "{}", relay.connections());
        std::fs::write(&out, "").unwrap();
    }
}

/// The values of a line's points, as they stand there.
fn numbers(line: &serde_json::Value) -> Vec<i64> {
    let text = line.to_string();
    let after = text.split("\"asInt\":\"").skip(1);
    after.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
}

/// What the collector has written, once it is what is waited for.
fn lines(
    file: &std::path::Path,
    is_all: impl Fn(&[serde_json::Value]) -> bool,
) -> Vec<serde_json::Value> {
    for _ in 0..400 {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line.trim_matches('\0')).ok())
            .collect();
        if is_all(&lines) {
            return lines;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    panic!("{}", std::fs::read_to_string(file).unwrap_or_default());
}

/// Services and span ids.
fn spans(lines: &[serde_json::Value]) -> Vec<(String, String)> {
    let empty = vec![];
    let all = lines.iter().flat_map(|line| line["resourceSpans"].as_array().unwrap_or(&empty));
    let mut spans = Vec::new();
    for resource in all {
        let service = resource["resource"]["attributes"][0]["value"]["stringValue"].as_str();
        for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
            assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(span["startTimeUnixNano"], "1767225601000000001");
            spans
                .push((service.unwrap().to_string(), span["spanId"].as_str().unwrap().to_string()));
        }
    }
    spans
}
