//! Kafka as a real broker and its own client speak it. A Java machine is heavy: one broker for the whole test.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::receivers::{KAFKA, KAFKA_3_9, Kafka};
use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{free_port, wait_until};

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(120);
const OPERATIONS: &str = "1000";
const CLIENT: &str = include_str!("kafka/Client.java");
const SCRIPT: &str = "\
import px
df = px.DataFrame('kafka_events.beta', start_time='-10m')
df = df[['time_', 'trace_role', 'req_cmd', 'client_id', 'req_body', 'resp', 'latency']]
px.display(df, 'rows')
";
/// API keys.
const PRODUCE: i64 = 0;
const FETCH: i64 = 1;
const JOIN_GROUP: i64 = 11;
const CREATE_TOPICS: i64 = 19;
const DESCRIBE_CONFIGS: i64 = 32;

struct Row {
    cmd: i64,
    client: String,
    asked: Json,
    answered: String,
}

impl Row {
    fn answer(&self) -> Json {
        serde_json::from_str(&self.answered).unwrap()
    }
    /// Topic and partition of a Produce, and where it was stored.
    fn produced(&self) -> String {
        let topic = &self.asked["topics"][0];
        let (name, index) =
            (topic["name"].as_str().unwrap_or("?"), &topic["partitions"][0]["index"]);
        if self.answered.is_empty() {
            return format!("oneway {name} {index}");
        }
        let offset = self.answer()["topics"][0]["partitions"][0]["base_offset"].clone();
        format!("acked {name} {index} {offset}")
    }
}

/// The rows of a side, in order.
fn rows(weir: &Weir, script: &Path, role: i64) -> Vec<Row> {
    let rows = weir.rows_of_side(script, role, DEADLINE).unwrap();
    let text = |row: &Json, name: &str| row[name].as_str().unwrap().to_string();
    let row = |row: &Json| Row {
        cmd: row["req_cmd"].as_i64().unwrap(),
        client: text(row, "client_id"),
        asked: serde_json::from_str(&text(row, "req_body")).unwrap(),
        answered: text(row, "resp"),
    };
    rows.iter().map(row).collect()
}

fn compare(rows: &[Row], log: &[String]) {
    let logged = |kind: &str| -> Vec<&String> {
        log.iter().filter(|line| line.split(' ').next() == Some(kind)).collect()
    };
    let of = |cmd: i64, client: &str| -> Vec<&Row> {
        rows.iter().filter(|row| row.cmd == cmd && row.client == client).collect()
    };
    for client in ["acked", "oneway"] {
        let produced = of(PRODUCE, client).into_iter().map(Row::produced);
        // What a broker refused that was not yet the leader, the client has sent again.
        let produced: Vec<String> = produced.filter(|line| !line.ends_with(" -1")).collect();
        assert_eq!(produced.iter().collect::<Vec<_>>(), logged(client));
    }
    let created = of(CREATE_TOPICS, "admin").into_iter().map(|row| {
        let answer = row.answer();
        let (name, code) = (&row.asked["topics"][0]["name"], &answer["topics"][0]["error_code"]);
        format!("create {} {code}", name.as_str().unwrap())
    });
    assert_eq!(created.collect::<Vec<_>>().iter().collect::<Vec<_>>(), logged("create"));
    let described = of(DESCRIBE_CONFIGS, "admin").into_iter().map(|row| {
        format!("describe {}", row.asked["resources"][0]["resource_name"].as_str().unwrap())
    });
    assert_eq!(described.collect::<Vec<_>>().iter().collect::<Vec<_>>(), logged("describe"));
    for cmd in [FETCH, JOIN_GROUP] {
        assert!(!of(cmd, "consumer").is_empty());
    }
    for row in rows {
        assert!(row.asked["api_version"].is_i64(), "{}", row.asked);
    }
}

/// A broker, its client and a seeded mix of 1,000 operations: every Produce, CreateTopics and DescribeConfigs is
/// a row on both sides, with what the client's log says, in order; nothing is lost.
#[test]
fn operations_of_a_real_broker() {
    operations(KAFKA);
}

/// The same with an older broker and its client, which speak other versions of most requests.
#[test]
fn operations_of_an_older_broker() {
    operations(KAFKA_3_9);
}

fn operations(version: &str) {
    let Some(java) = Kafka::java(version, "-Xmx128m") else {
        let why = format!("there is no Kafka in ~/.cache/weir/{version}/lib");
        return weir_types::testing::skipped(why);
    };
    if !can_capture() {
        return;
    }
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let weir = Weir::start(&["--trace", &format!("port:{port}")]).unwrap();
    let broker = Kafka::start(version, Some(port)).unwrap().unwrap();
    let program = dir.path().join("Client.java");
    std::fs::write(&program, CLIENT).unwrap();
    let mut client = Command::new(&java[0]);
    let output = client
        .args(&java[1..])
        .arg(&program)
        .args([&port.to_string(), OPERATIONS])
        .output()
        .unwrap();
    let log: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect();
    assert_eq!(log.last().map(String::as_str), Some("done"), "{output:?}");
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(script.path(), SCRIPT).unwrap();
    let acked = log.iter().filter(|line| line.starts_with("acked ")).count();
    let mut seen = 0;
    for role in [2, 1] {
        let complete = wait_until(DEADLINE, || {
            let rows = rows(&weir, script.path(), role);
            let is_acked = |row: &&Row| row.cmd == PRODUCE && row.client == "acked";
            (rows.iter().filter(is_acked).count() >= acked).then_some(rows)
        });
        let rows = complete.unwrap_or_else(|| rows(&weir, script.path(), role));
        compare(&rows, &log);
        seen += rows.len();
    }
    let lost = weir.lost_of("kafka_events.beta", seen).unwrap();
    assert!(lost.values().all(|count| *count == 0), "{lost:?}");
    drop(broker);
}
