//! What is scraped, by a client that reads it as the format says.

use std::io::{Read, Write};
use std::net::TcpStream;

use weir_types::{Column, DataType, PackedRow, SemanticType, Value};

use super::*;
use crate::buffer::{Buffer, WhenFull, memory::MemoryBuffer};
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery_of, info};
use crate::testing::free_port;

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
