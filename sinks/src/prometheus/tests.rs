//! What is scraped, by a client that reads it as the format says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use weir_types::{Clock, Column, DataType, PackedRow, SemanticType, Value, WallClock};

use super::*;
use crate::buffer::{Buffer, WhenFull, memory::MemoryBuffer};
use crate::element::{Body, Described};
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery, delivery_of, info};
use crate::testing::{Running, free_port, get};

fn scrape(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_string()
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn row(key: &str, n: i64, le: f64) -> PackedRow {
    PackedRow::pack(&[Value::str(key), Value::Int64(n), Value::Float64(le)])
}

fn wide() -> OutputInfo {
    let mut info = info();
    info.relation.columns.push(Column::new("le", DataType::Float64, SemanticType::None));
    info
}

/// Series come and go with their rows, all at once, without timestamps; whatever is in a label is escaped; after
/// a reset the old ones are shown until the new ones are complete.
#[test]
fn series_follow_the_rows() {
    let address = free_address();
    let sink = PrometheusSink::new(&address, "my-sink");
    let buffer = Buffer::Memory(MemoryBuffer::new(1 << 20, None));
    let mut line = Line::with(buffer, WhenFull::Block, Mode::Upsert, Box::new(sink), 100);
    line.open().unwrap();
    line.intake.start(0, &wide(), false).unwrap();
    let keys = ["plain", "a\"b", "line\nend", "back\\slash", "é\u{0}"];
    // The last one again, as it is after cleaning: a series is there once.
    let same = "é\u{FFFD}";
    let all = || keys.iter().chain([&same]);
    let rows = all().map(|key| (row(key, 1, f64::INFINITY), 1)).collect();
    line.deliver(&delivery_of(wide(), 1_000, rows, true)).unwrap();
    line.flush().unwrap();
    let address = address.parse().unwrap();
    let text = scrape(address);
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(samples.len(), 10, "{text}");
    assert!(samples.contains(&"my_sink_n{k=\"plain\"} 1"), "{text}");
    assert!(samples.contains(&"my_sink_le{k=\"a\\\"b\"} +Inf"), "{text}");
    assert!(samples.contains(&"my_sink_n{k=\"line\\nend\"} 1"), "{text}");
    assert!(samples.contains(&"my_sink_n{k=\"back\\\\slash\"} 1"), "{text}");
    assert_eq!(text.matches("# TYPE my_sink_n gauge\n").count(), 1);

    let gone = all().map(|key| (row(key, 1, f64::INFINITY), -1)).collect();
    line.deliver(&delivery_of(wide(), 2_000, gone, true)).unwrap();
    line.flush().unwrap();
    assert!(!scrape(address).contains("plain"), "all are gone at the next scrape");

    line.deliver(&delivery_of(wide(), 3_000, vec![(row("old", 1, 0.5), 1)], true)).unwrap();
    line.flush().unwrap();
    line.intake.start(0, &wide(), false).unwrap();
    line.deliver(&delivery_of(wide(), 4_000, vec![(row("new", 2, 0.5), 1)], false)).unwrap();
    line.flush().unwrap();
    let text = scrape(address);
    assert!(text.contains("old") && !text.contains("new"), "{text}");
    line.deliver(&delivery_of(wide(), 4_000, vec![], true)).unwrap();
    line.flush().unwrap();
    let text = scrape(address);
    assert!(text.contains("my_sink_n{k=\"new\"} 2") && !text.contains("old"), "{text}");
    line.pump.close();
    assert!(TcpStream::connect(address).is_err(), "it is closed");
}

/// One that was configured anew for the same address, with other columns and fewer inputs, shows what was shown until it
/// has all of its own, also if that is nothing; the one before it has no say any more. Catches an empty answer in between,
/// old rows that are read as new ones, and rows of inputs that are no more.
#[test]
fn another_one_takes_over() {
    let address = free_address();
    let mut before = PrometheusSink::new(&address, "x");
    before.open().unwrap();
    let upsert = |input: u16, info: &OutputInfo, row: PackedRow| Element {
        output: Arc::new(Described::new(input, false, info)),
        op: Op::Upsert,
        seq: 1,
        tick_ms: 1,
        body: Body::Row(row),
    };
    let mut other = wide();
    other.relation.columns[1].name = "other".to_string();
    let old = [upsert(0, &wide(), row("a", 7, 0.5)), upsert(1, &other, row("b", 8, 0.5))];
    before.write(&old.each_ref(), &mut 0).unwrap();
    let at: std::net::SocketAddr = address.parse().unwrap();
    let shown = scrape(at);
    assert!(shown.contains("x_n{k=\"a\"} 7") && shown.contains("x_other{k=\"b\"} 8"), "{shown}");

    for (tick, n, left) in [(2_000, Some(9), "x_n{k=\"c\"} 9\n"), (4_000, None, "")] {
        let mut next = PrometheusSink::new(&address, "x");
        next.takes_over(before.page().unwrap().upgrade().unwrap(), 1);
        let page = next.page();
        let buffer = Buffer::Memory(MemoryBuffer::new(1 << 20, None));
        let mut line = Line::with(buffer, WhenFull::Block, Mode::Upsert, Box::new(next), 100);
        let shown = scrape(at);
        line.start(false).unwrap();
        before.write(&[&upsert(0, &wide(), row("late", 1, 0.5))], &mut 0).unwrap();
        let rows: Vec<(&str, i64, i64)> = n.iter().map(|n| ("c", *n, 1)).collect();
        line.deliver(&delivery(tick, &rows, false)).unwrap();
        line.flush().unwrap();
        assert_eq!(scrape(at), shown, "nothing is missing, nothing is new");
        line.deliver(&delivery(tick, &[], true)).unwrap();
        line.flush().unwrap();
        let shown = scrape(at);
        let samples: String =
            shown.split_inclusive('\n').filter(|it| !it.starts_with('#')).collect();
        assert_eq!(samples, left);
        before.page = page.and_then(|page| page.upgrade()?.downcast().ok());
    }
    before.close();
    assert!(TcpStream::connect(at).is_err(), "nobody has it any more");
}

/// Series of a Prometheus: labels, and the instants of its samples.
fn ask(prometheus: u16, query: &str) -> Vec<(serde_json::Value, Vec<f64>)> {
    let text = get(&format!("http://127.0.0.1:{prometheus}/api/v1/query?query={query}%5B5m%5D"));
    let json: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
    let series = json["data"]["result"].as_array().unwrap().iter();
    let at = |value: &serde_json::Value| value[0].as_f64().unwrap();
    series
        .map(|it| (it["metric"].clone(), it["values"].as_array().unwrap().iter().map(at).collect()))
        .collect()
}

/// A real Prometheus takes each scrape: a column with a dot, a label `le` that is no bucket's, quotes, line ends and
/// backslashes are what they were; the instants are its own; five rows that go at once are in no scrape that begins later.
/// Catches a text of which it takes nothing, and series that live on for five minutes.
#[test]
fn prometheus_takes_it() {
    let (dir, address, port) = (tempfile::tempdir().unwrap(), free_address(), free_port());
    let config = format!(
        "global: {{scrape_interval: 200ms}}\nscrape_configs: [{{job_name: x, static_configs: \
         [{{targets: ['{address}']}}]}}]\n"
    );
    std::fs::write(dir.path().join("p.yml"), config).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let args = [
        format!("--config.file={}", at("p.yml")),
        format!("--storage.tsdb.path={}", at("data")),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let mut wide = info();
    wide.key = vec!["k".to_string(), "le".to_string()];
    wide.relation.columns[1].name = "a.b".to_string();
    wide.relation.columns.push(Column::new("le", DataType::String, SemanticType::None));
    let texts = [
        ("plain", "0.5"),
        ("a\"b", "+Inf"),
        ("line\nend", "no \"number\n"),
        ("back\\", ""),
        ("é", "0.5"),
    ];
    let rows = |count: i64| -> Vec<(PackedRow, i64)> {
        let row = |(k, le): &(&str, &str)| [Value::str(k), Value::Int64(7), Value::str(le)];
        texts.iter().map(|text| (PackedRow::pack(&row(text)), count)).collect()
    };
    let sink = PrometheusSink::new(&address, "my-sink");
    let mut line = Line::in_memory(Mode::Upsert, Box::new(sink));
    line.open().unwrap();
    line.intake.start(0, &wide, false).unwrap();
    line.deliver(&delivery_of(wide.clone(), 1_000, rows(1), true)).unwrap();
    line.flush().unwrap();
    let is_up = || get(&format!("http://127.0.0.1:{port}/-/ready")).is_some();
    let Some(_running) = Running::start(std::path::Path::new("prometheus"), &args, is_up) else {
        return weir_types::testing::skipped("there is no prometheus");
    };
    let until = |what: &str, wanted: &dyn Fn() -> bool| {
        for _ in 0..600 {
            if wanted() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("{what}: {:?}", ask(port, "my_sink_a_b"));
    };
    until("all are there", &|| ask(port, "my_sink_a_b").len() == texts.len());
    line.deliver(&delivery_of(wide, 2_000, rows(-1), true)).unwrap();
    line.flush().unwrap();
    let gone_at = WallClock.now_unix_ns() as f64 / 1e9;
    let scrapes = || ask(port, "up").remove(0).1;
    until("it goes on", &|| scrapes().iter().filter(|at| **at > gone_at).count() >= 3);

    let series = ask(port, "my_sink_a_b");
    let label = |labels: &serde_json::Value, name: &str| {
        labels[name].as_str().unwrap_or_default().to_string()
    };
    let mut shown: Vec<(String, String)> =
        series.iter().map(|(labels, _)| (label(labels, "k"), label(labels, "le"))).collect();
    let mut wanted = texts.map(|(k, le)| (k.to_string(), le.to_string()));
    shown.sort();
    wanted.sort();
    assert_eq!(shown, wanted);
    let scrapes = scrapes();
    for (labels, at) in &series {
        assert!(at.iter().all(|at| scrapes.contains(at) && *at <= gone_at), "{labels} {at:?}");
    }
    let taken =
        get(&format!("http://127.0.0.1:{port}/api/v1/query?query=min_over_time(up%5B5m%5D)"));
    assert!(taken.as_ref().is_some_and(|text| text.contains(",\"1\"]")), "{taken:?}");
}

/// Names that meet, reserved ones, and views without a number are refused before anything runs.
#[test]
fn names_are_judged() {
    let with = |columns: &[(&str, DataType)], key: &[&str]| {
        let mut info = info();
        info.relation.columns = columns
            .iter()
            .map(|(name, data_type)| Column::new(*name, *data_type, SemanticType::None))
            .collect();
        info.key = key.iter().map(ToString::to_string).collect();
        judge("x", &[info]).map_err(|error| error.to_string()).err().unwrap_or_default()
    };
    let (string, number) = (DataType::String, DataType::Int64);
    assert!(with(&[("a.b", string), ("a_b", number)], &["a.b"]).contains("both be called `a_b`"));
    assert!(with(&[("__name__", string), ("n", number)], &["__name__"]).contains("rename"));
    assert!(with(&[("k", string), ("v", string)], &["k"]).contains("no number"));
    assert_eq!(with(&[("le", string), ("1st", number)], &["le"]), "");
    assert_eq!(names::name_of("1st-é"), "_1st__");
    let mut twice = [info(), info()];
    (twice[0].table, twice[1].table) = ("a".to_string(), "a_n".to_string());
    twice[0].relation.columns[1].name = "n_n".to_string();
    assert!(judge("x", &twice).unwrap_err().to_string().contains("`x_a_n_n`"));
}

/// A request that never ends or is none does not keep others from scraping.
#[test]
fn one_bad_client_disturbs_nobody() {
    let address = free_address();
    let mut sink = PrometheusSink::new(&address, "x");
    sink.open().unwrap();
    let address = address.parse().unwrap();
    let mut silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    silent[0].write_all(b"GET /met").unwrap();
    assert_eq!(scrape(address), "");
    let mut other = PrometheusSink::new(&address.to_string(), "x");
    assert!(
        matches!(other.open(), Err(SinkError::Retry(text)) if text.contains("could not listen"))
    );
    sink.close();
    other.open().unwrap();
    other.close();
}
