//! NATS as a real server and its ordinary client speak it: core, headers, requests, JetStream; and a
//! verbose connection, which no client library makes any more.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::pull, stream};
use futures_util::StreamExt;
use serde_json::Value as Json;
use weir_dataflow_tests::harness::fleet::BusServer;
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;
use weir_types::random::SplitMix;

use crate::ports::can_run;

const DEADLINE: Duration = Duration::from_secs(60);
const OPERATIONS: usize = 1_000;
const SCRIPT: &str = "\
import px
df = px.DataFrame('nats_events.beta', start_time='-10m')
px.display(df[['time_', 'trace_role', 'local_port', 'remote_port', 'cmd', 'body', 'resp']], 'rows')
";

/// A row of one side.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    client_port: i64,
    cmd: String,
    body: Json,
    resp: String,
}

impl Row {
    fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }
    /// What tells published and delivered messages apart.
    fn message(&self) -> (String, String, String, Json) {
        let [subject, payload] = ["subject", "payload"].map(|name| self.text(name).to_string());
        (self.cmd.clone(), subject, payload, self.body["headers"].clone())
    }
}

/// The rows of a side, in order.
fn rows(weir: &Weir, script: &Path, role: i64) -> Vec<Row> {
    let rows = weir.rows_of_side(script, role, DEADLINE).unwrap();
    let text = |row: &Json, name: &str| row[name].as_str().unwrap().to_string();
    let client_port = if role == 2 { "remote_port" } else { "local_port" };
    let row = |row: &Json| Row {
        client_port: row[client_port].as_i64().unwrap(),
        cmd: text(row, "cmd"),
        body: serde_json::from_str(&text(row, "body")).unwrap(),
        resp: text(row, "resp"),
    };
    rows.iter().map(row).collect()
}

/// What a client did, by its own log.
#[derive(Debug, Default)]
struct Log {
    published: Vec<(String, String, String, Json)>,
    delivered: Vec<(String, String, String, Json)>,
    stored: usize,
    acknowledged: usize,
}

fn headers(random: &mut SplitMix) -> (async_nats::HeaderMap, Json) {
    let number = random.next_u64() % 100;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("X-Number", number.to_string());
    headers.insert("X-Text", "a: b, c");
    (headers, serde_json::json!({"X-Number": number.to_string(), "X-Text": "a: b, c"}))
}

/// One operation of a seeded mix, awaited to its end.
async fn operate(
    client: &async_nats::Client,
    store: &jetstream::Context,
    all: &mut async_nats::Subscriber,
    random: &mut SplitMix,
    log: &mut Log,
) {
    let subject = format!("app.{}.{}", random.next_u64() % 7, random.next_u64() % 1_000);
    let text = "payload \u{e9}\n\"".repeat((random.next_u64() % 12) as usize);
    let message =
        |cmd: &str, headers: Json| (cmd.to_string(), subject.clone(), text.clone(), headers);
    match random.next_u64() % 6 {
        0..=2 => {
            client.publish(subject.clone(), text.clone().into()).await.unwrap();
            log.published.push(message("PUB", Json::Null));
            log.delivered.push(message("MSG", Json::Null));
        }
        3 => {
            let (map, shown) = headers(random);
            let payload = text.clone().into();
            client.publish_with_headers(subject.clone(), map, payload).await.unwrap();
            log.published.push(message("HPUB", shown.clone()));
            log.delivered.push(message("HMSG", shown));
        }
        4 => {
            let subject = format!("rpc.{}", log.published.len());
            let mut service = client.subscribe(subject.clone()).await.unwrap();
            let (asked, answered) = tokio::join!(client.request(subject, "ask".into()), async {
                let asked = service.next().await.unwrap();
                client.publish(asked.reply.unwrap(), "answer".into()).await.unwrap();
            });
            let () = answered;
            assert_eq!(asked.unwrap().payload, "answer");
            service.unsubscribe().await.unwrap();
            return;
        }
        _ => {
            let acked = store.publish("store.a", "kept".into()).await.unwrap().await.unwrap();
            log.stored += 1;
            assert_eq!(acked.sequence, log.stored as u64);
            return;
        }
    }
    let got = tokio::time::timeout(DEADLINE, all.next()).await.unwrap().unwrap();
    assert_eq!(got.payload, text.as_bytes());
}

async fn mixed_operations(url: &str) -> Log {
    let client = async_nats::connect(url).await.unwrap();
    let store = jetstream::new(client.clone());
    let config = stream::Config {
        name: "kept".to_string(),
        subjects: vec!["store.>".to_string()],
        ..stream::Config::default()
    };
    let stream = store.create_stream(config).await.unwrap();
    let mut all = client.queue_subscribe("app.>", "workers".to_string()).await.unwrap();
    let (mut random, mut log) = (SplitMix(13), Log::default());
    for _ in 0..OPERATIONS {
        operate(&client, &store, &mut all, &mut random, &mut log).await;
    }
    let consumer = stream.create_consumer(pull::Config::default()).await.unwrap();
    let mut messages = consumer.fetch().max_messages(50).messages().await.unwrap();
    while let Some(message) = messages.next().await {
        message.unwrap().ack().await.unwrap();
        log.acknowledged += 1;
    }
    client.flush().await.unwrap();
    log
}

/// A client's port; commands, subjects and answers.
type Verbose = (i64, Vec<[String; 3]>);

/// A verbose and pedantic client: every operation and what the server answers; its port.
fn verbose_operations(port: u16) -> Verbose {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("INFO "));
    let mut random = SplitMix(5);
    let mut log = Vec::new();
    for number in 0..100 {
        let mut asked = String::new();
        let from = log.len();
        if number == 0 {
            asked.push_str("CONNECT {\"verbose\":true,\"pedantic\":true}\r\n");
            log.push(["CONNECT", "", "+OK"]);
        }
        for _ in 0..1 + random.next_u64() % 5 {
            let (line, said) = match random.next_u64() % 6 {
                0 => ("PUB a..b 1\r\nx\r\n", ["PUB", "a..b", "-ERR 'Invalid Publish Subject'"]),
                1 => ("SUB a..b 1\r\n", ["SUB", "a..b", "-ERR 'Invalid Subject'"]),
                2 => ("PING\r\n", ["PING", "", "PONG"]),
                3 => ("UNSUB 99\r\n", ["UNSUB", "", "+OK"]),
                _ => ("PUB nobody 5\r\nhello\r\n", ["PUB", "nobody", "+OK"]),
            };
            asked.push_str(line);
            log.push(said);
        }
        socket.write_all(asked.as_bytes()).unwrap();
        for [cmd, _, resp] in &log[from..] {
            assert_eq!(lines.next().unwrap(), *resp, "{cmd}");
            if resp.contains("Publish") {
                assert_eq!(lines.next().unwrap(), "+OK");
            }
        }
    }
    let log = log.into_iter().map(|said| said.map(str::to_string)).collect();
    (i64::from(socket.local_addr().unwrap().port()), log)
}

fn compare(rows: &[Row], log: &Log, verbose: &Verbose) {
    let of = |cmds: [&str; 2], prefix: &str| -> Vec<_> {
        let is_one = |row: &&Row| {
            cmds.contains(&row.cmd.as_str()) && row.text("subject").starts_with(prefix)
        };
        rows.iter().filter(is_one).map(Row::message).collect()
    };
    assert_eq!(of(["PUB", "HPUB"], "app."), log.published);
    assert_eq!(of(["MSG", "HMSG"], "app."), log.delivered);
    assert_eq!(of(["PUB", "HPUB"], "store.").len(), log.stored);
    assert_eq!(of(["PUB", "HPUB"], "$JS.ACK.").len(), log.acknowledged);
    assert!(of(["PUB", "HPUB"], "rpc.").len() > OPERATIONS / 10);
    let (port, said) = verbose;
    let own = rows.iter().filter(|row| row.client_port == *port && row.cmd != "INFO");
    let said_of =
        |row: &Row| [row.cmd.as_str(), row.text("subject"), row.resp.as_str()].map(str::to_string);
    // What was answered by one call has one time, and so no order.
    let (mut own, mut said) = (own.map(said_of).collect::<Vec<_>>(), said.clone());
    own.sort();
    said.sort();
    assert_eq!(own, said);
    // What is not verbose has no answers, but for a PING.
    for row in rows.iter().filter(|row| row.client_port != *port) {
        assert_eq!(row.resp, if row.cmd == "PING" { "PONG" } else { "" }, "{row:?}");
    }
}

/// A server with JetStream, its client and a seeded mix of 1,000 operations; a verbose connection: the rows of
/// both sides are what the clients' logs say, in order, and nothing is lost or of anything else.
#[test]
fn operations_of_a_real_server() {
    if !can_run() {
        return;
    }
    let server = BusServer::start("jetstream { store_dir: \"@DIR@\" }\n").unwrap();
    let port = server.addr.port();
    let weir = Weir::start(&["--trace", &format!("port:{port}")]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = runtime.block_on(mixed_operations(&server.url()));
    drop(runtime);
    let verbose = verbose_operations(port);
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(script.path(), SCRIPT).unwrap();
    let mut seen = 0;
    for role in [1, 2] {
        let complete = wait_until(DEADLINE, || {
            let rows = rows(&weir, script.path(), role);
            let own = rows.iter().filter(|row| row.client_port == verbose.0);
            (own.count() > verbose.1.len()).then_some(rows)
        });
        let rows = complete.unwrap_or_else(|| rows(&weir, script.path(), role));
        compare(&rows, &log, &verbose);
        seen += rows.len();
    }
    let lost = weir.lost_of("nats_events.beta", seen).unwrap();
    assert!(lost.values().all(|count| *count == 0), "{lost:?}");
    drop(server);
}
