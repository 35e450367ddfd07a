//! Sinks over a long time in which everything dies: each receiver is killed and begins again, and so does the server.
//! What they hold in the end is the view, or every row at least once, a repeat by its number; what was answered just
//! before the server was killed or while it was away may be missing, and answers say since when they lack nothing, as
//! a mark among rows that are written once does.
//! `WEIR_KILLS_SECONDS` says how long the traffic goes on (30 unless set; the long form is 600).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use serde_json::Value as Json;
use weir_dataflow_tests::check::number_from_env;
use weir_dataflow_tests::harness::alertmanager::{Hook, SILENT};
use weir_dataflow_tests::harness::fleet::{BusServer, has_bus_server};
use weir_dataflow_tests::harness::http::{Exchange, Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::receivers::{
    self, ClickHouse, Collector, KAFKA, Kafka, Postgres, Prometheus, Receiver, STORE_PASSWORD,
    STORE_USER, Store,
};
use weir_dataflow_tests::harness::weir::{Weir, run};
use weir_dataflow_tests::harness::{Result, free_port, http, pause, put, wait_until};
use weir_types::{Clock, WallClock};

use crate::sinks::elements;

const DEADLINE: Duration = Duration::from_secs(120);
const ROUNDS: u32 = 2;
const GROUPS: usize = 20;
const SINKS: usize = 13;
/// Its number among the receivers.
const COLLECTOR: usize = 3;
const PER_SEC: u32 = 60;
/// What a killed server takes along: what it had not told its sinks (a refresh, and what they had not written down),
/// and what its store had not written (ADR 22). A machine that does other things besides is granted more.
const TAKEN_ALONG_NS: i64 = 5_000_000_000;
/// What a sink whose other end never answers may cost.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

const VIEW: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-60m')\n\
    df = df[df.trace_role == 2]\n\
    df.shop = px.substring(df.req_path, 0, 4)\n\
    px.display(df.groupby('shop').agg(n=('latency', px.count)))\n";
/// Files of rows that a script reads as the table.
const KEPT: &str = "path: kept/http_events.parquet";
const KEPT_SCRIPT: &str =
    "import px\ndf = px.DataFrame('http_events')\npx.display(df[['req_path']])\n";
pub(super) const ROWS: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-60m')\n\
    df = df[df.trace_role == 2]\n\
    px.display(df[['time_', 'req_path']])\n";
pub(super) const EXPORT: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-60m')\n\
    df = df[df.trace_role == 2]\n\
    px.export(df, px.otel.Data(resource={'service.name': 'shop'}, data=[\n\
    \x20   px.otel.trace.Span(name=df.req_path, start_time=df.time_, end_time=df.time_)]))\n";

fn seconds(name: &str, default: u64) -> Duration {
    Duration::from_secs(number_from_env(name).unwrap_or(default))
}

/// All that rows are sent to.
struct Stage {
    house: ClickHouse,
    tables: Postgres,
    store: Store,
    collector: Collector,
    prometheus: Prometheus,
    kafka: Kafka,
    hook: Hook,
    bus: BusServer,
    /// Where the exporter is.
    scraped: SocketAddr,
    dir: tempfile::TempDir,
}

type Counts = BTreeMap<String, i64>;

impl Stage {
    fn start() -> Option<Stage> {
        if !receivers::are_installed() {
            weir_types::testing::skipped("there is no ClickHouse, Prometheus or collector");
            return None;
        }
        let (Some(tables), Some(store)) = (Postgres::start(), Store::start()) else {
            weir_types::testing::skipped("there is no PostgreSQL or no store that speaks S3");
            return None;
        };
        if !has_bus_server() {
            weir_types::testing::skipped("there is no nats-server");
            return None;
        }
        let Some(kafka) = Kafka::start(KAFKA, None) else {
            weir_types::testing::skipped("there is no Kafka");
            return None;
        };
        let kafka = kafka.unwrap();
        make_topic(kafka.0.addr);
        let bus = BusServer::start("jetstream { store_dir: \"@DIR@\" }").unwrap();
        make_stream(&bus);
        let scraped = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Some(Stage {
            house: ClickHouse::start().unwrap(),
            tables: tables.unwrap(),
            store: store.unwrap(),
            collector: Collector::start().unwrap(),
            prometheus: Prometheus::start(&[scraped]).unwrap(),
            kafka,
            hook: Hook::start(200).unwrap(),
            bus,
            scraped,
            dir: tempfile::tempdir().unwrap(),
        })
    }

    fn config(&self) -> String {
        let file = |name: &str, text: &str| put(self.dir.path(), name, text);
        file("view.pxl", VIEW);
        file("rows.pxl", ROWS);
        file("export.pxl", EXPORT);
        let sink = |(name, input, mode, keys): &(&str, &str, &str, String)| {
            format!(
                "  {name}:\n    inputs: [{{file: {input}.pxl}}]\n    encoding: {{mode: {mode}}}\n    \
                 buffer: {{type: disk}}\n    retry: {{initial: 100ms, max: 1s}}\n    {keys}\n"
            )
        };
        let sinks: String = self.sinks().iter().map(sink).collect();
        file("weir.yaml", &format!("sinks:\n{sinks}"))
    }

    /// Name, input, mode and further keys of each.
    fn sinks(&self) -> [(&'static str, &'static str, &'static str, String); SINKS] {
        let [house, tables, store, collector, prometheus, kafka] = [
            &self.house.0,
            &self.tables.0,
            &self.store.0,
            &self.collector.0,
            &self.prometheus.0,
            &self.kafka.0,
        ]
        .map(|receiver| receiver.addr);
        let (view, rows, upsert, append) = ("view", "rows", "upsert", "append");
        let keys = |keys: &[&str]| keys.join("\n    ");
        let url = |url: String| format!("url: {url}");
        let auth = format!("auth: {{user: {STORE_USER}, password: {STORE_PASSWORD}}}");
        let to_house =
            keys(&["type: clickhouse", "table: shops", &url(format!("http://{house}/"))]);
        let to_tables = url(format!("postgres://postgres@{tables}/postgres"));
        let to_tables = keys(&["type: postgres", "table: shops", &to_tables]);
        let to_remote = url(format!("http://{prometheus}/api/v1/write"));
        let to_remote = keys(&["type: prometheus_remote_write", &to_remote]);
        let to_store = url(format!("http://{store}"));
        let place = "path: s3://kept/rows.jsonl";
        let to_store = keys(&["type: file", place, &to_store, &auth, "batch: {timeout: 500ms}"]);
        let to_spans = url(format!("http://{collector}"));
        let to_spans = keys(&["type: opentelemetry", "protocol: grpc", &to_spans]);
        let to_hook = url(format!("http://{}/", self.hook.addr));
        let to_bus = keys(&["type: nats", "subject: kept.rows", &url(self.bus.url())]);
        let brokers = format!("brokers: ['{kafka}']");
        let to_topic = keys(&["type: kafka", "topic: kept", &brokers]);
        let exporter = keys(&["type: prometheus", &format!("listen: {}", self.scraped)]);
        [
            ("file", view, upsert, keys(&["type: file", "path: view.jsonl"])),
            ("changes", view, "changelog", keys(&["type: file", "path: changes.jsonl"])),
            ("lines", rows, append, keys(&["type: file", "path: rows.jsonl"])),
            ("kept", rows, "append, codec: parquet", keys(&["type: file", KEPT])),
            ("house", view, upsert, to_house),
            ("tables", view, upsert, to_tables),
            ("remote", view, upsert, to_remote),
            ("store", rows, append, to_store),
            ("spans", "export", append, to_spans),
            ("hook", rows, append, keys(&["type: http", "framing: lines", &to_hook])),
            ("bus", rows, append, to_bus),
            ("topic", rows, append, to_topic),
            ("scraped", view, upsert, exporter),
        ]
    }

    /// What is done to the receiver of a number; the last two have their own ways.
    fn each(&mut self, number: usize, what: fn(&mut Receiver) -> Result<()>) {
        let receiver = match number {
            0 => &mut self.house.0,
            1 => &mut self.tables.0,
            2 => &mut self.store.0,
            COLLECTOR => &mut self.collector.0,
            4 => &mut self.prometheus.0,
            5 => &mut self.kafka.0,
            _ => return,
        };
        what(receiver).unwrap();
    }

    fn of_file(&self) -> Counts {
        let mut held = Counts::new();
        for element in elements(&self.dir.path().join("view.jsonl")) {
            let key = || element["key"][0].as_str().unwrap().to_string();
            match element["op"].as_str().unwrap() {
                "upsert" => drop(held.insert(key(), element["row"]["n"].as_i64().unwrap())),
                "delete" => drop(held.remove(&key())),
                "reset" => held.clear(),
                op => panic!("{op}: {element}"),
            }
        }
        held
    }

    /// Every change added up, since the last time that everything is said anew.
    fn of_changes(&self) -> Counts {
        let mut held: BTreeMap<(String, i64), i64> = BTreeMap::new();
        for element in elements(&self.dir.path().join("changes.jsonl")) {
            let change = match element["op"].as_str().unwrap() {
                "insert" => 1,
                "delete" => -1,
                "reset" => {
                    held.clear();
                    continue;
                }
                op => panic!("{op}: {element}"),
            };
            let key = element["key"][0].as_str().unwrap().to_string();
            *held.entry((key, element["row"]["n"].as_i64().unwrap())).or_default() += change;
        }
        held.retain(|_, count| *count != 0);
        held.into_keys().collect()
    }

    fn of_house(&self) -> Counts {
        let rows = self.house.ask("SELECT shop, n FROM shops FINAL WHERE NOT _deleted");
        pairs(&rows.unwrap_or_default(), '\t')
    }

    fn of_tables(&self) -> Counts {
        pairs(&self.tables.ask("SELECT shop, n FROM shops"), '|')
    }

    /// What was written, or scraped.
    fn of_prometheus(&self, name: &str) -> Counts {
        let series = self.prometheus.ask(name).unwrap_or_default();
        let pair = |(labels, value): &(Json, String)| {
            Some((labels["shop"].as_str()?.to_string(), value.parse().ok()?))
        };
        series.iter().filter_map(pair).collect()
    }

    /// Paths of what was kept, each of whose files is read; none if there is one that cannot be.
    fn of_kept(&self) -> BTreeSet<String> {
        let (script, kept) = (self.dir.path().join("kept.pxl"), self.dir.path().join("kept"));
        std::fs::write(&script, KEPT_SCRIPT).unwrap();
        let paths = [script.to_str().unwrap(), "--rows", kept.to_str().unwrap()];
        let output = run(&[&["run"], &paths[..], &["-o", "jsonl"]].concat(), DEADLINE).unwrap();
        let path = |row: &Json| row["req_path"].as_str().unwrap().to_string();
        output.json_lines().iter().map(path).collect()
    }

    /// Names of spans.
    fn of_collector(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let empty = vec![];
        let all = |value: &Json| value.as_array().unwrap_or(&empty).clone();
        for request in self.collector.requests() {
            for resource in all(&request["resourceSpans"]) {
                for span in all(&resource["scopeSpans"][0]["spans"]) {
                    found.insert(span["name"].as_str().unwrap().to_string());
                }
            }
        }
        found
    }

    /// As it is scraped.
    fn of_exporter(&self) -> Counts {
        let Ok(answer) = http::request_once(self.scraped, "GET", "/metrics", &[], b"") else {
            return Counts::new();
        };
        let pair = |line: &str| {
            let (shop, n) = line.strip_prefix("scraped_n{shop=\"")?.split_once("\"} ")?;
            Some((shop.to_string(), n.parse().ok()?))
        };
        answer.text().lines().filter_map(pair).collect()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A stream that knows a repeat for a second only: what comes again later is there twice.
pub(crate) fn make_stream(bus: &BusServer) {
    let config = stream::Config {
        name: "kept".to_string(),
        subjects: vec!["kept.>".to_string()],
        duplicate_window: Duration::from_secs(1),
        ..stream::Config::default()
    };
    runtime().block_on(async {
        let context = jetstream::new(async_nats::connect(bus.url()).await.unwrap());
        context.create_stream(config).await.unwrap();
    });
}

/// Everything in the stream. A message's id is that of its element.
pub(crate) fn of_bus(bus: &BusServer) -> Vec<Json> {
    runtime().block_on(async {
        let context = jetstream::new(async_nats::connect(bus.url()).await.unwrap());
        let stream = context.get_stream("kept").await.unwrap();
        // Otherwise a thousand come, until they are acknowledged.
        let reads = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
        let consumer = stream.create_consumer(reads).await.unwrap();
        let messages = consumer.fetch().max_messages(1_000_000).messages().await.unwrap();
        let message = |message: std::result::Result<jetstream::Message, _>| {
            let message = message.ok()?;
            let element: Json = serde_json::from_slice(&message.payload).ok()?;
            let id = message.headers.as_ref()?.get("Nats-Msg-Id")?.to_string();
            assert_eq!(id, format!("bus-{}", element["seq"]));
            Some(element)
        };
        let all: Vec<_> = messages.collect().await;
        all.into_iter().filter_map(message).collect()
    })
}

async fn kafka(addr: SocketAddr) -> Client {
    ClientBuilder::new(vec![addr.to_string()]).build().await.unwrap()
}

pub(crate) fn make_topic(addr: SocketAddr) {
    runtime().block_on(async {
        let controller = kafka(addr).await.controller_client().unwrap();
        controller.create_topic("kept", 1, 1, 20_000).await.unwrap();
    });
}

/// Everything in the topic.
pub(crate) fn of_topic(addr: SocketAddr) -> Vec<Json> {
    runtime().block_on(async {
        let client = kafka(addr).await;
        let topic = client.partition_client("kept", 0, UnknownTopicHandling::Retry).await.unwrap();
        let end = topic.get_offset(OffsetAt::Latest).await.unwrap();
        let (mut at, mut all) = (0, Vec::new());
        while at < end {
            let (records, _) = topic.fetch_records(at, 1..(1 << 20), 100).await.unwrap();
            at = records.last().unwrap().offset + 1;
            let values = records.into_iter().filter_map(|it| it.record.value);
            all.extend(values.map(|value| serde_json::from_slice::<Json>(&value).unwrap()));
        }
        all
    })
}

fn pairs(rows: &[String], between: char) -> Counts {
    let pair = |row: &String| {
        let (key, n) = row.split_once(between)?;
        Some((key.to_string(), n.parse().ok()?))
    };
    rows.iter().filter_map(pair).collect()
}

/// The rows of elements that came at least once. What came again is what it was.
fn once(elements: &[Json]) -> BTreeSet<String> {
    let mut by_seq: BTreeMap<u64, &Json> = BTreeMap::new();
    for element in elements {
        let before = by_seq.insert(element["seq"].as_u64().unwrap(), element);
        assert!(before.is_none_or(|before| before == element), "{before:?} {element}");
        // No element is: what a killed server took along never was one.
        assert!(element["op"] != "lost" || element["rows"].is_null(), "{element}");
    }
    let paths = by_seq.values().filter_map(|element| element["row"]["req_path"].as_str());
    paths.map(str::to_string).collect()
}

/// Since when rows of an output lack nothing, by the last mark among them.
fn marked_since(elements: &[Json]) -> Option<i64> {
    let marks = elements.iter().filter(|element| element["op"] == "lost");
    let times =
        marks.map(|mark| mark["covers_from"].as_str().and_then(weir_types::json::parse_time));
    times.map(|time| time.expect("a mark says since when")).max()
}

/// What is missing in an output happened before what its last mark says, and that mark is of after the last death.
fn judge_marks(name: &str, elements: &[Json], sent: &[Exchange], gaps: &[Gap]) {
    let have = once(elements);
    let since = marked_since(elements).unwrap_or_else(|| panic!("{name} has no mark"));
    let killed_ns = gaps.last().unwrap().killed_ns;
    assert!((killed_ns..=WallClock.now_unix_ns()).contains(&since), "{name}: {killed_ns} {since}");
    let gone = sent.iter().filter(|exchange| !have.contains(&exchange.path));
    let unsaid: Vec<&Exchange> = gone.filter(|exchange| exchange.start_unix_ns >= since).collect();
    assert!(unsaid.is_empty(), "{name}, since {since}: {unsaid:?}");
}

/// Requests for so long, each with a path of its own, which are added to those that were.
fn traffic(addr: SocketAddr, time: Duration, sent: &mut Vec<Exchange>) {
    let requests = (time.as_secs_f64() * f64::from(PER_SEC)) as usize;
    let paths: Vec<String> =
        (sent.len()..sent.len() + requests).map(|n| format!("/{:03}/{n}", n % GROUPS)).collect();
    let load =
        Load { addr, paths, requests, requests_per_sec: PER_SEC, connections: 2, keep_alive: true };
    let log = run_load(&load);
    assert_eq!(log.len(), requests);
    assert!(log.iter().all(|exchange| exchange.status == Some(200)), "{log:?}");
    sent.extend(log);
}

fn view_of(weir: &Weir, stage: &Stage) -> Counts {
    let script = stage.dir.path().join("view.pxl");
    let output = weir.run(&["run", script.to_str().unwrap(), "-o", "jsonl"], DEADLINE).unwrap();
    let pair = |row: &Json| Some((row["shop"].as_str()?.to_string(), row["n"].as_i64()?));
    output.json_lines().iter().filter_map(pair).collect()
}

/// Killed once all that was sent is in the buffers, and back.
fn killed(mut weir: Weir, stage: &Stage, sent: &[Exchange], gaps: &[Gap], args: &[&str]) -> Weir {
    let lines = stage.dir.path().join("rows.jsonl");
    let done = wait_until(DEADLINE, || {
        missing(sent, gaps, &once(&elements(&lines))).is_ok().then_some(())
    });
    assert!(done.is_some(), "{:?}", missing(sent, gaps, &once(&elements(&lines))));
    pause(Duration::from_secs(1));
    weir.end(Signal::Kill).unwrap();
    Weir::start_in(weir.into_data_dir(), args).unwrap()
}

/// A death of the server within traffic; Unix nanoseconds.
struct Gap {
    killed_ns: i64,
    ready_ns: i64,
}

impl Gap {
    /// It may be in no answer.
    fn may_lack(&self, exchange: &Exchange) -> bool {
        (self.killed_ns - TAKEN_ALONG_NS..=self.ready_ns).contains(&exchange.start_unix_ns)
    }

    /// How long it took to begin anew, and how long before its death what it took along began: seconds.
    fn figures(&self, sent: &[Exchange], have: &BTreeSet<String>) -> [f64; 2] {
        let gone = |exchange: &&Exchange| self.may_lack(exchange) && !have.contains(&exchange.path);
        let first = sent.iter().filter(gone).map(|exchange| exchange.start_unix_ns).min();
        let along_ns = self.killed_ns - first.unwrap_or(self.killed_ns);
        [self.ready_ns - self.killed_ns, along_ns].map(|ns| ns as f64 / 1e9)
    }
}

/// Killed in the middle of traffic.
fn killed_within(
    mut weir: Weir,
    addr: SocketAddr,
    slice: Duration,
    sent: &mut Vec<Exchange>,
    args: &[&str],
) -> (Weir, Gap) {
    std::thread::scope(|scope| {
        let client = scope.spawn(|| traffic(addr, slice + slice, sent));
        pause(slice / 2);
        let killed_ns = WallClock.now_unix_ns();
        weir.end(Signal::Kill).unwrap();
        weir = Weir::start_in(weir.into_data_dir(), args).unwrap();
        let gap = Gap { killed_ns, ready_ns: WallClock.now_unix_ns() };
        client.join().unwrap();
        (weir, gap)
    })
}

/// How many are missing; an error names those that must not be, and those that nobody sent.
fn missing(
    sent: &[Exchange],
    gaps: &[Gap],
    have: &BTreeSet<String>,
) -> std::result::Result<usize, String> {
    let mut unknown = have.clone();
    let (mut gone, mut wrong) = (0, Vec::new());
    for exchange in sent {
        if unknown.remove(&exchange.path) {
            continue;
        }
        gone += 1;
        if !gaps.iter().any(|gap| gap.may_lack(exchange)) {
            wrong.push(&exchange.path);
        }
    }
    if wrong.is_empty() && unknown.is_empty() {
        return Ok(gone);
    }
    Err(format!("missing {wrong:?}, unknown {unknown:?}"))
}

/// The view has what was sent, but for what a killed server took along.
fn is_view_of(view: &Counts, sent: &[Exchange], gaps: &[Gap]) -> bool {
    let (mut most, mut least) = (Counts::new(), Counts::new());
    for exchange in sent {
        let shop = &exchange.path[..4];
        *most.entry(shop.to_string()).or_default() += 1;
        let may_lack = gaps.iter().any(|gap| gap.may_lack(exchange));
        *least.entry(shop.to_string()).or_default() += i64::from(!may_lack);
    }
    let fits = |(shop, n): (&String, &i64)| {
        (least[shop]..=*n).contains(&view.get(shop).copied().unwrap_or(0))
    };
    view.keys().all(|shop| most.contains_key(shop)) && most.iter().all(fits)
}

/// Since when the view lacks nothing, as `weir run` says of an answer that is not complete.
fn covers_from(weir: &Weir, stage: &Stage) -> i64 {
    let script = stage.dir.path().join("view.pxl");
    let output = weir.run(&["run", script.to_str().unwrap(), "-o", "json"], DEADLINE).unwrap();
    let last = output.stderr.last().unwrap();
    let said: Json = serde_json::from_str(last).unwrap_or_else(|_| panic!("{last}"));
    assert_eq!(said["complete"], false, "{last}");
    let from = said["covers_from"].as_str().and_then(weir_types::json::parse_time);
    from.unwrap_or_else(|| panic!("{last}"))
}

/// What every sink that is kept equal to the view holds.
fn kept(stage: &Stage) -> [(&'static str, Counts); 7] {
    [
        ("file", stage.of_file()),
        ("changes", stage.of_changes()),
        ("house", stage.of_house()),
        ("tables", stage.of_tables()),
        ("remote", stage.of_prometheus("remote_n")),
        ("scraped", stage.of_exporter()),
        ("scraped by Prometheus", stage.of_prometheus("scraped_n")),
    ]
}

/// What those sinks have that are sent rows as elements.
fn row_elements(stage: &Stage) -> [(&'static str, Vec<Json>); 5] {
    [
        ("lines", elements(&stage.dir.path().join("rows.jsonl"))),
        ("hook", stage.hook.json_lines()),
        ("store", stage.store.lines().unwrap()),
        ("bus", of_bus(&stage.bus)),
        ("topic", of_topic(stage.kafka.0.addr)),
    ]
}

/// The paths of the rows that every other sink has.
fn rows(stage: &Stage) -> [(&'static str, BTreeSet<String>); 7] {
    let [lines, hook, store, bus, topic] =
        row_elements(stage).map(|(name, elements)| (name, once(&elements)));
    [lines, hook, store, bus, topic, ("spans", stage.of_collector()), ("kept", stage.of_kept())]
}

/// Every receiver is killed twice and begins again, and so does the server, with signal 9: once all is written down,
/// and twice in the middle of traffic while a receiver is away. In the end those that are kept equal to the view are,
/// and those that get rows have each at least once; nothing is lost but what a killed server took along, and the view
/// says since when it lacks nothing.
#[test]
fn everything_dies_and_nothing_is_lost() {
    if !super::can_capture() {
        return;
    }
    let Some(mut stage) = Stage::start() else { return };
    let config = stage.config();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", &trace, "--config", &config];
    let mut weir = Weir::start(&args).unwrap();
    let slice = seconds("WEIR_KILLS_SECONDS", 30) / (ROUNDS * 16);
    let (mut sent, mut gaps) = (Vec::new(), Vec::new());
    traffic(nginx.addr, slice, &mut sent);
    for round in 0..ROUNDS {
        for number in 0..8 {
            if number == COLLECTOR {
                // What it has taken and not written down goes with it: all that was sent is written down before.
                let done = wait_until(DEADLINE, || {
                    missing(&sent, &gaps, &stage.of_collector()).is_ok().then_some(())
                });
                let left = missing(&sent, &gaps, &stage.of_collector());
                let sinks = || weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().stdout;
                assert!(done.is_some(), "{left:?} {:#?}", sinks());
            }
            stage.each(number, Receiver::kill);
            stage.hook.answers(if number == 6 { 503 } else { 200 });
            if number == 7 {
                stage.bus.kill().unwrap();
            }
            traffic(nginx.addr, slice, &mut sent);
            // The store of tables is away first, then the broker.
            if number == [1, 5][round as usize] {
                let (again, gap) = killed_within(weir, nginx.addr, slice, &mut sent, &args);
                weir = again;
                let from = covers_from(&weir, &stage);
                let since = gap.killed_ns..=WallClock.now_unix_ns();
                assert!(since.contains(&from), "{since:?} {from}");
                gaps.push(gap);
            }
            stage.each(number, Receiver::again);
            if number == 7 {
                stage.bus.restart().unwrap();
            }
            stage.hook.answers(200);
            traffic(nginx.addr, slice, &mut sent);
        }
        if round == 0 {
            weir = killed(weir, &stage, &sent, &gaps, &args);
        }
    }
    traffic(nginx.addr, slice, &mut sent);

    let done = wait_until(DEADLINE, || {
        let view = view_of(&weir, &stage);
        let is_kept = kept(&stage).iter().all(|(_, have)| *have == view);
        let has_all = |(_, have): &(_, BTreeSet<String>)| missing(&sent, &gaps, have).is_ok();
        (is_kept && is_view_of(&view, &sent, &gaps) && rows(&stage).iter().all(has_all))
            .then_some(())
    });
    let sinks = weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
    let judged = rows(&stage).map(|(name, have)| (name, missing(&sent, &gaps, &have)));
    eprintln!("{} requests, view {:?}, missing {judged:?}", sent.len(), view_of(&weir, &stage));
    for gap in &gaps {
        let [ready, along] = gap.figures(&sent, &rows(&stage)[0].1);
        eprintln!("ready {ready:.1} s after its death; {along:.1} s of rows before it went along");
    }
    assert!(done.is_some(), "{:#?}\n{judged:?}\n{sinks:#?}", kept(&stage));
    for (name, elements) in row_elements(&stage) {
        judge_marks(name, &elements, &sent, &gaps);
    }
    assert_eq!(sinks.len(), SINKS, "{sinks:?}");
    for sink in &sinks {
        assert_eq!((&sink["state"], &sink["rows_lost"]), (&"running".into(), &0.into()), "{sink}");
    }
}

/// A server is killed in the middle of traffic, and comes back: who reads a file of rows, or is told them, finds a mark
/// behind which nothing is missing; before the kill there was none. Catches a hole in a log that looks like a quiet time.
#[test]
fn what_went_along_is_said_among_the_rows() {
    if !super::can_capture() {
        return;
    }
    let hook = Hook::start(200).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.yaml");
    std::fs::write(dir.path().join("rows.pxl"), ROWS).unwrap();
    let sink = |name: &str, keys: &str| {
        format!(
            "  {name}:\n    inputs: [{{file: rows.pxl}}]\n    encoding: {{mode: append}}\n    {keys}\n"
        )
    };
    let to_hook = format!(
        "type: http\n    framing: lines\n    buffer: {{type: disk}}\n    url: http://{}/",
        hook.addr
    );
    let lines = sink("lines", "type: file\n    path: rows.jsonl");
    std::fs::write(&file, format!("sinks:\n{lines}{}", sink("hook", &to_hook))).unwrap();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", &trace, "--config", file.to_str().unwrap()];
    let weir = Weir::start(&args).unwrap();
    let outputs = || [elements(&dir.path().join("rows.jsonl")), hook.json_lines()];
    let mut sent = Vec::new();
    traffic(nginx.addr, Duration::from_secs(1), &mut sent);
    let until_there = |sent: &[Exchange], gaps: &[Gap]| {
        let are_there = wait_until(DEADLINE, || {
            let has_all = |elements: &Vec<Json>| missing(sent, gaps, &once(elements)).is_ok();
            outputs().iter().all(has_all).then_some(())
        });
        assert!(are_there.is_some(), "{:?}", outputs());
    };
    until_there(&sent, &[]);
    assert_eq!(outputs().map(|elements| marked_since(&elements)), [None, None]);
    let slice = Duration::from_secs(2);
    let (weir, gap) = killed_within(weir, nginx.addr, slice, &mut sent, &args);
    traffic(nginx.addr, Duration::from_secs(1), &mut sent);
    let gaps = [gap];
    until_there(&sent, &gaps);
    for (name, elements) in ["lines", "hook"].into_iter().zip(outputs()) {
        let gone = missing(&sent, &gaps, &once(&elements)).unwrap();
        eprintln!("{name}: {gone} of {} are missing", sent.len());
        assert!(gone > 0, "{name}: nobody saw what happened while the server was away");
        judge_marks(name, &elements, &sent, &gaps);
    }
    drop(weir);
}

/// A receiver that takes the connection and never answers costs the server its buffer and nothing else, and no reader
/// waits for it. `WEIR_SILENT_SECONDS` says how long (15 unless set; the long form is 600), `WEIR_SILENT_PER_SEC` how
/// many requests (500; the long form is 2,500, each a row of both ends).
#[test]
fn who_never_answers_costs_a_buffer() {
    if !super::can_capture() {
        return;
    }
    let hook = Hook::start(SILENT).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.yaml");
    let text = format!(
        "sinks:\n  silent:\n    type: http\n    url: http://{}/\n    \
         inputs: [{{text: \"import px\\npx.display(px.DataFrame('http_events', start_time='-5s'))\"}}]\n    \
         encoding: {{mode: append}}\n    buffer: {{max_bytes: 1MiB, when_full: drop_oldest}}\n",
        hook.addr
    );
    std::fs::write(&file, text).unwrap();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let file = file.to_str().unwrap();
    // History has a bound of its own, which is reached before it is measured.
    let args = ["--trace", &trace, "--config", file, "--history-bytes", "8MiB"];
    let weir = Weir::start(&args).unwrap();
    let time = seconds("WEIR_SILENT_SECONDS", 15);
    let per_sec = number_from_env("WEIR_SILENT_PER_SEC").unwrap_or(500);
    let per_sec = u32::try_from(per_sec).unwrap();
    let load = |time: Duration| Load {
        addr: nginx.addr,
        paths: (0..100).map(|n| format!("/{n}")).collect(),
        requests: time.as_secs() as usize * per_sec as usize,
        requests_per_sec: per_sec,
        connections: 4,
        keep_alive: true,
    };
    let sink = || {
        let sinks = weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
        sinks.into_iter().next().unwrap()
    };
    drop(run_load(&load(time / 3)));
    let full = wait_until(DEADLINE, || {
        let sink = sink();
        (sink["rows_lost"].as_u64()? > 0).then_some(sink)
    });
    assert!(full.is_some(), "{} {:#?}", sink(), weir.log());
    let before = weir.rss_bytes();
    let most = std::thread::scope(|scope| {
        let client = scope.spawn(|| run_load(&load(time)).len());
        let mut most = before;
        while !client.is_finished() {
            most = most.max(weir.rss_bytes());
            pause(Duration::from_millis(100));
        }
        client.join().unwrap();
        most
    });
    eprintln!("resident: {before} bytes before, {most} at most; {}", sink());
    assert!(most < before + GROWTH_BYTES_MAX, "{before} {most}");
    assert!(sink()["buffer_bytes"].as_u64().unwrap() <= 2 << 20, "{}", sink());
    // Others are answered meanwhile.
    let script = dir.path().join("count.pxl");
    std::fs::write(&script, VIEW).unwrap();
    let began_ns = WallClock.monotonic_ns();
    let output = weir.run(&["run", script.to_str().unwrap(), "-o", "jsonl"], DEADLINE).unwrap();
    assert!(!output.json_lines().is_empty(), "{output:?}");
    let took = Duration::from_nanos(WallClock.monotonic_ns() - began_ns);
    assert!(took < Duration::from_secs(20), "{took:?}");
}
