//! Against a real Prometheus, where there is one, and against a receiver that answers as it is told.

use std::path::Path;

use weir_types::PackedRow;

use super::*;
use crate::element::Op;
use crate::pipe::tests::{Line, delivery, info};
use crate::sink::SinkError;
use crate::testing::{Receiver, Running, free_port, get, target, upserts};

fn line(url: &str, rows_max: usize) -> Line {
    let mut line = upserts(Box::new(RemoteWriteSink::new(target(url), "my.sink")), rows_max);
    line.start(false).unwrap();
    line
}

fn decoded(receiver: &Receiver) -> Vec<WriteRequest> {
    let one = |body: &Vec<u8>| {
        let bytes = snap::raw::Decoder::new().decompress_vec(body).unwrap();
        WriteRequest::decode(bytes.as_slice()).unwrap()
    };
    receiver.requests().iter().map(|request| one(&request.body)).collect()
}

/// Labels → instants and values (as bits: one NaN is not another), of all requests in their order.
type Told = BTreeMap<Vec<(String, String)>, Vec<(i64, u64)>>;

fn told(requests: &[WriteRequest]) -> Told {
    let mut told = Told::new();
    for series in requests.iter().flat_map(|request| &request.timeseries) {
        let labels: Vec<(String, String)> =
            series.labels.iter().map(|it| (it.name.clone(), it.value.clone())).collect();
        let names: Vec<&String> = labels.iter().map(|(name, _)| name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "sorted and unique: {names:?}");
        assert!(labels.iter().all(|(_, value)| !value.is_empty()), "{labels:?}");
        let samples = series.samples.iter().map(|it| (it.timestamp, it.value.to_bits()));
        told.entry(labels).or_default().extend(samples);
    }
    told
}

/// What was answered with 500 goes out again as it was, before what came later; a 400 does not; what is gone has
/// one stale marker behind its last sample, also what went unseen, before a reset. Of no series a sample is older than one
/// that was said before. Catches a retraction that says nothing, and an attempt that is overtaken.
#[test]
fn nothing_is_out_of_order() {
    let receiver = Receiver::start();
    let mut line = line(&receiver.url, 100);
    receiver.will_answer(500, b"late");
    line.deliver(&delivery(1_000, &[("a", 1, 1), ("b", 1, 1), ("", 1, 1)], true)).unwrap();
    assert!(matches!(line.flush(), Err(SinkError::Retry(_))));
    line.deliver(&delivery(2_000, &[("a", 1, -1), ("a", 2, 1), ("b", 1, -1)], true)).unwrap();
    line.flush().unwrap();
    let requests = decoded(&receiver);
    assert_eq!((requests.len(), &requests[0]), (3, &requests[1]));

    // Without its rows, and with one more: what is missing has ended.
    line.intake.start(0, &info(), false).unwrap();
    line.deliver(&delivery(3_000, &[("c", 3, 1)], true)).unwrap();
    receiver.will_answer(200, b"");
    receiver.will_answer(500, b"");
    assert!(line.flush().is_err());
    line.flush().unwrap();
    let name = ("__name__".to_string(), "my_sink_n".to_string());
    let with = |key: &str| vec![name.clone(), ("k".to_string(), key.to_string())];
    let all = told(&decoded(&receiver));
    let is_in_order = |samples: &Vec<(i64, u64)>| samples.is_sorted_by_key(|(at, _)| *at);
    assert!(all.values().all(is_in_order), "{all:?}");
    assert_eq!(all[&with("b")][2..], [(2_000, STALE)], "behind the attempt and its repeat");
    let told = told(&decoded(&receiver)[3..]);
    let twice = |at: i64, bits: u64| vec![(at, bits); 2];
    assert_eq!(told[&with("a")], twice(3_000, STALE));
    assert_eq!(told[&vec![name.clone()]], twice(3_000, STALE), "an empty label is none");
    assert_eq!(told[&with("c")], [(3_000, 3f64.to_bits())]);
    assert!(!told.contains_key(&with("b")), "it has ended already");

    let before = receiver.requests().len();
    receiver.will_answer(400, b"out of bounds");
    line.deliver(&delivery(4_000, &[("c", 3, -1), ("c", 4, 1)], false)).unwrap();
    line.flush().unwrap();
    assert_eq!((receiver.requests().len(), line.health().rows_refused), (before + 1, 1));
    let head = &receiver.requests()[0].head;
    for header in HEADERS {
        assert!(head.contains(&format!("{}: {}", header.0, header.1)), "{head}");
    }
}

/// What did not change is said again, later than before, and what comes then is later still.
#[test]
fn what_does_not_change_is_said_again() {
    let receiver = Receiver::start();
    let mut sink = RemoteWriteSink::new(target(&receiver.url), "x");
    let output = std::sync::Arc::new(Described::new(0, false, &info()));
    let upsert = |tick_ms: u64| Element {
        output: output.clone(),
        op: Op::Upsert,
        seq: tick_ms,
        tick_ms,
        body: Body::Row(PackedRow::pack(&[
            weir_types::Value::str("a"),
            weir_types::Value::Int64(7),
        ])),
    };
    let mut safe = 0;
    sink.write(&[&upsert(1_000)], &mut safe).unwrap();
    sink.refresh().unwrap();
    sink.write(&[&upsert(1_001)], &mut safe).unwrap();
    let told = told(&decoded(&receiver));
    let instants: Vec<i64> = told.values().next().unwrap().iter().map(|(at, _)| *at).collect();
    assert_eq!((instants.len(), instants[0]), (3, 1_000));
    assert!(instants.is_sorted_by(|a, b| a < b), "{instants:?}");
}

/// Prometheus takes it: values of all keys, none of those that are gone, and everything after it was away.
#[test]
fn prometheus_takes_it() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    std::fs::write(dir.path().join("p.yml"), "global: {scrape_interval: 15s}\n").unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let args = [
        format!("--config.file={}", at("p.yml")),
        format!("--storage.tsdb.path={}", at("data")),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_string(),
    ];
    let base = format!("http://127.0.0.1:{port}");
    let start = || {
        Running::start(Path::new("prometheus"), &args, || get(&format!("{base}/-/ready")).is_some())
    };
    let Some(mut server) = start() else {
        return weir_types::testing::skipped("there is no prometheus");
    };
    let mut line = line(&format!("{base}/api/v1/write"), 37);
    // Rows of now: Prometheus takes none that are old.
    let now = weir_types::clock::Clock::now_unix_ns(&weir_types::WallClock) / 1_000_000;
    let tick = |n: i64| u64::try_from(now - 60_000 + n * 1_000).unwrap();
    let keys: Vec<String> = (0..200).map(|n| format!("k{n:03}\"\n\\")).collect();
    for n in 1..=3 {
        let mut rows: Vec<(&str, i64, i64)> = Vec::new();
        for key in &keys {
            if n > 1 {
                rows.push((key, n - 1, -1));
            }
            rows.push((key, n, 1));
        }
        line.deliver(&delivery(tick(n), &rows, true)).unwrap();
        if n == 2 {
            server.kill();
            assert!(line.flush().is_err());
            server = start().unwrap();
        }
        line.flush().unwrap();
    }
    let gone: Vec<(&str, i64, i64)> = keys[..5].iter().map(|key| (key.as_str(), 3, -1)).collect();
    line.deliver(&delivery(tick(4), &gone, true)).unwrap();
    line.flush().unwrap();
    let query = |expression: &str, n: i64| -> String {
        let at = tick(n) as f64 / 1_000.0;
        let text = get(&format!("{base}/api/v1/query?query={expression}&time={at}")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["data"]["result"][0]["value"][1].as_str().unwrap_or("none").to_string()
    };
    for (n, count, sum) in
        [(1, "200", "200"), (2, "200", "400"), (3, "200", "600"), (4, "195", "585")]
    {
        assert_eq!(query("count(my_sink_n)", n), count, "{n}");
        assert_eq!(query("sum(my_sink_n)", n), sum, "{n}");
    }
    let health = line.health();
    assert_eq!((health.rows_refused, health.notes.rejected, health.rows_sent), (0, 0, 605));
    drop(server);
}
