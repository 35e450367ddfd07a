//! Against a real broker, where there is one: Kafka's jars in `~/.cache/weir/kafka/lib`, and Java.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};

use super::*;
use crate::pipe::tests::{Line, delivery, info};
use crate::testing::{Certificates, Running, cache, free_port, upserts};

/// What the broker takes of a batch of records.
const MESSAGE_BYTES_MAX: usize = 10 << 10;
const CONFIG: &str = "process.roles=broker,controller\nnode.id=1\n\
    controller.quorum.voters=1@127.0.0.1:CONTROL\ncontroller.listener.names=CONTROLLER\n\
    listeners=PLAINTEXT://127.0.0.1:PORT,CONTROLLER://127.0.0.1:CONTROL\n\
    advertised.listeners=PLAINTEXT://127.0.0.1:PORT\n\
    listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT\nlog.dirs=DIR/data\n\
    offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
    transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
    message.max.bytes=LIMIT\nlog.cleanup.policy=compact\nauto.create.topics.enable=false\n";

struct Broker {
    running: Running,
    args: Vec<String>,
    port: u16,
    /// The port for those who speak no TLS.
    plain: u16,
    _dir: tempfile::TempDir,
}

fn java(lib: &Path, main: &str, args: &[&str]) -> Vec<String> {
    let class_path = format!("{}/*", lib.display());
    let flags = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"];
    let all = flags.iter().copied().chain([class_path.as_str(), main]).chain(args.iter().copied());
    all.map(str::to_string).collect()
}

fn spawn(args: &[String], port: u16) -> Option<Running> {
    // It listens before it answers: the clients wait for that.
    Running::start(Path::new("java"), args, || TcpStream::connect(("127.0.0.1", port)).is_ok())
}

/// What makes a broker listen with TLS as well, for those who have a certificate of the authority.
const TLS: &str = "ssl.keystore.type=PEM\nssl.keystore.location=DIR/server.pem\n\
    ssl.truststore.type=PEM\nssl.truststore.location=CA\nssl.client.auth=required\n";

impl Broker {
    fn start() -> Option<Broker> {
        Broker::start_with(None)
    }

    /// Its port is one for TLS, if there are certificates.
    fn start_with(files: Option<&Certificates>) -> Option<Broker> {
        let lib: PathBuf = cache("kafka/lib");
        std::fs::read_dir(&lib).ok()?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let text = CONFIG
            .replace("PORT", &port.to_string())
            .replace(":CONTROL", &format!(":{}", free_port()))
            .replace("LIMIT", &MESSAGE_BYTES_MAX.to_string())
            .replace("DIR", dir.path().to_str().unwrap());
        let (text, plain) = match files {
            None => (text, port),
            Some(files) => {
                let plain = free_port();
                let pem = files.text("server.key") + &files.text("server.crt");
                std::fs::write(dir.path().join("server.pem"), pem).unwrap();
                let text = text.replace(
                    &format!("PLAINTEXT://127.0.0.1:{port}"),
                    &format!("PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{port}"),
                );
                let tls = TLS
                    .replace("DIR", dir.path().to_str().unwrap())
                    .replace("CA\n", &format!("{}\n", files.path("ca.crt").display()));
                (text + &tls, plain)
            }
        };
        let file = dir.path().join("server.properties");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let id = "5L6g3nShT-eMCtK--X86sw";
        let format = java(&lib, "kafka.tools.StorageTool", &["format", "-t", id, "-c", file]);
        let formatted = Command::new("java").args(format).output().ok()?;
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let args = java(&lib, "kafka.Kafka", &[file]);
        let running = spawn(&args, port)?;
        Some(Broker { running, args, port, plain, _dir: dir })
    }

    fn again(&mut self) {
        self.running.kill();
        self.running = spawn(&self.args, self.port).unwrap();
    }

    fn config(&self, is_upsert: bool) -> KafkaConfig {
        KafkaConfig {
            brokers: vec![format!("127.0.0.1:{}", self.port)],
            topic: "out".to_string(),
            is_upsert,
            user: None,
            timeout: Duration::from_secs(10),
            secrets: vec![],
            tls: None,
        }
    }

    fn sink(&self) -> KafkaSink {
        KafkaSink::new(self.config(true))
    }

    fn work<T>(&self, work: impl AsyncFnOnce(Client) -> T) -> T {
        let runtime = one_thread::take(&mut None).unwrap();
        runtime.block_on(async {
            let address = format!("127.0.0.1:{}", self.plain);
            work(ClientBuilder::new(vec![address]).build().await.unwrap()).await
        })
    }

    fn make_topic(&self) {
        self.work(async |client| {
            let controller = client.controller_client().unwrap();
            controller.create_topic("out", 3, 1, 20_000).await.unwrap();
        });
    }

    /// All records, a partition after another.
    fn records(&self) -> Vec<Record> {
        self.work(async |client| {
            let mut all = Vec::new();
            for partition in 0..3 {
                let handling = UnknownTopicHandling::Retry;
                let one = client.partition_client("out", partition, handling).await.unwrap();
                let end = one.get_offset(OffsetAt::Latest).await.unwrap();
                let mut at = 0;
                while at < end {
                    let (records, _) = one.fetch_records(at, 1..(1 << 20), 100).await.unwrap();
                    at = records.last().unwrap().offset + 1;
                    all.extend(records.into_iter().map(|it| it.record));
                }
            }
            all
        })
    }

    /// What a reader of the compacted topic knows: the last word about each key.
    fn view(&self) -> BTreeMap<String, i64> {
        let mut view = BTreeMap::new();
        for record in self.records() {
            let key = String::from_utf8(record.key.unwrap()).unwrap();
            match record.value {
                Some(value) => {
                    let element: serde_json::Value = serde_json::from_slice(&value).unwrap();
                    assert_eq!(key, element["key"].to_string());
                    view.insert(key, element["row"]["n"].as_i64().unwrap());
                }
                None => drop(view.remove(&key)),
            }
        }
        view
    }
}

fn flush(line: &mut Line) {
    // A broker that has just begun to listen says for a while that it has no leader yet.
    for _ in 0..100 {
        match line.flush() {
            Ok(()) => return,
            Err(SinkError::Retry(_)) => std::thread::park_timeout(Duration::from_millis(200)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{:?}", line.flush());
}

/// A compacted topic is what the view is: at each acknowledged tick while 1,000 keys all change in small batches,
/// after the broker was killed, and after a reset by a sink that knows nothing of the keys that went. An element
/// above the broker's limit is counted, alone. Catches keys that stay in the topic for ever.
#[test]
fn the_topic_is_the_view() {
    let Some(mut broker) = Broker::start() else {
        return weir_types::testing::skipped("there is no Kafka");
    };
    let mut line = upserts(Box::new(broker.sink()), 137);
    line.start(false).unwrap();
    line.deliver(&delivery(1, &[("0000", 0, 1)], true)).unwrap();
    assert!(matches!(line.flush(), Err(SinkError::Retry(_))), "there is no topic");
    assert_eq!(line.health().acked_ms, None);
    broker.make_topic();
    let keys: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    for tick in 2..=4i64 {
        let mut rows: Vec<(&str, i64, i64)> = Vec::new();
        for key in &keys {
            if tick > 2 || key == "0000" {
                rows.push((key, tick - 1, -1));
            }
            rows.push((key, tick, 1));
        }
        line.deliver(&delivery(tick as u64, &rows, true)).unwrap();
        if tick == 3 {
            broker.again();
        }
        flush(&mut line);
        assert_eq!(line.health().acked_ms, Some(tick as u64));
        let wanted: BTreeMap<String, i64> =
            keys.iter().map(|key| (format!("[\"{key}\"]"), tick)).collect();
        assert!(broker.view() == wanted, "tick {tick}");
    }
    let long = "x".repeat(2 * MESSAGE_BYTES_MAX);
    line.deliver(&delivery(5, &[("a", 5, 1), (&long, 5, 1), ("0000", 4, -1)], true)).unwrap();
    flush(&mut line);
    assert_eq!((line.health().rows_refused, line.health().acked_ms), (1, Some(5)));
    let view = broker.view();
    assert_eq!((view.len(), view.get("[\"a\"]"), view.get("[\"0000\"]")), (1_000, Some(&5), None));

    // Another life.
    let mut line = upserts(Box::new(broker.sink()), 3);
    line.open().unwrap();
    line.intake.resume(crate::sink::Resume { seq: 9_999, has_rows: true }, true);
    line.intake.start(0, &info(), false).unwrap();
    line.deliver(&delivery(6, &[("b", 1, 1), ("0007", 2, 1), ("c\"\n", 3, 1)], true)).unwrap();
    flush(&mut line);
    let wanted = [("[\"0007\"]", 2), ("[\"b\"]", 1), ("[\"c\\\"\\n\"]", 3)];
    let wanted: BTreeMap<String, i64> =
        wanted.into_iter().map(|(key, n)| (key.to_string(), n)).collect();
    assert_eq!(broker.view(), wanted);
    let last = broker.records().into_iter().rfind(|it| it.value.is_some()).unwrap();
    assert!(last.headers.contains_key("seq"), "{:?}", last.headers);
}

/// A broker with TLS is reached if its authority is known and ours is known to it, also after it began anew; without,
/// nothing arrives, and it is tried again. Catches a client that does not verify.
#[test]
fn with_tls_both_ends_are_known() {
    let Some(files) = Certificates::make() else {
        return weir_types::testing::skipped("there is no openssl");
    };
    let Some(mut broker) = Broker::start_with(Some(&files)) else {
        return weir_types::testing::skipped("there is no Kafka");
    };
    broker.make_topic();
    let with = |tls: Option<Tls>| {
        let config = KafkaConfig { tls, timeout: Duration::from_secs(5), ..broker.config(true) };
        Box::new(KafkaSink::new(config))
    };
    for tls in [None, Some(Tls::default()), Some(files.tls(false))] {
        assert!(matches!(with(tls).check(), Err(SinkError::Retry(_))));
    }
    let mut line = upserts(with(Some(files.tls(true))), 100);
    line.start(false).unwrap();
    line.deliver(&delivery(1, &[("a", 1, 1)], true)).unwrap();
    flush(&mut line);
    broker.again();
    line.deliver(&delivery(2, &[("a", 1, -1), ("a", 2, 1)], true)).unwrap();
    flush(&mut line);
    assert_eq!(broker.view(), BTreeMap::from([("[\"a\"]".to_string(), 2)]));
}

/// Nobody there is no end, and says no secret.
#[test]
fn nobody_there() {
    let config = KafkaConfig {
        brokers: vec![format!("127.0.0.1:{}", free_port())],
        topic: "t".to_string(),
        is_upsert: false,
        user: Some(("me".to_string(), "hidden-word".to_string())),
        timeout: Duration::from_millis(300),
        secrets: vec!["hidden-word".to_string()],
        tls: None,
    };
    let mut line = Line::in_memory(crate::encode::Mode::Append, Box::new(KafkaSink::new(config)));
    line.start(false).unwrap();
    line.deliver(&delivery(1, &[("a", 1, 1)], true)).unwrap();
    let error = line.flush().unwrap_err();
    assert!(matches!(&error, SinkError::Retry(text) if !text.contains("hidden")), "{error}");
}
