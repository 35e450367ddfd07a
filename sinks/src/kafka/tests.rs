//! Against a real broker, where there is one: Kafka's jars in `~/.cache/weir/kafka/lib`, and Java.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};

use super::*;
use crate::pipe::tests::{Line, delivery, info};
use crate::testing::{Certificates, Relay, Running, cache, free_port, upserts};

/// What the broker takes of a batch of records.
const MESSAGE_BYTES_MAX: usize = 10 << 10;
const CONFIG: &str = "process.roles=broker,controller\nnode.id=1\n\
    controller.quorum.voters=1@127.0.0.1:CONTROL\ncontroller.listener.names=CONTROLLER\n\
    listeners=PLAINTEXT://127.0.0.1:PORT,CONTROLLER://127.0.0.1:CONTROL\n\
    advertised.listeners=PLAINTEXT://127.0.0.1:PORT\n\
    listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL:SASL_PLAINTEXT,FEW:SASL_PLAINTEXT,\
    CONTROLLER:PLAINTEXT\nlog.dirs=DIR/data\n\
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

/// Lets in who logs in.
const SASL: &str = "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
    listener.name.few.sasl.enabled.mechanisms=PLAIN\n\
    listener.name.few.plain.sasl.jaas.config=MODULE.plain.PlainLoginModule required user_me=\"WORD\";\n\
    listener.name.sasl.plain.sasl.jaas.config=MODULE.plain.PlainLoginModule required user_me=\"WORD\" \
    user_wild=\"WILD\";\n\
    listener.name.sasl.scram-sha-256.sasl.jaas.config=MODULE.scram.ScramLoginModule required;\n\
    listener.name.sasl.scram-sha-512.sasl.jaas.config=MODULE.scram.ScramLoginModule required;\n";
const WORD: &str = "s3cret-word";
/// What stands in a password of the environment.
const WILD: &str = "pa$1$word \": #'%41\nlast";

fn login(mechanism: Mechanism, user: &str, password: &str) -> Login {
    Login { mechanism, user: user.to_string(), password: password.to_string() }
}

impl Broker {
    fn start() -> Option<Broker> {
        let port = free_port();
        Broker::start_with(port, &[("PLAINTEXT", port)], "", &[], tempfile::tempdir().unwrap())
    }

    /// It is reached by a relay only.
    fn start_behind(relay: &Relay, port: u16) -> Option<Broker> {
        // The last one counts.
        let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{}\n", relay.port);
        let dir = tempfile::tempdir().unwrap();
        Broker::start_with(relay.port, &[("PLAINTEXT", port)], &advertised, &[], dir)
    }

    /// Its port is one for TLS.
    fn start_tls(files: &Certificates) -> Option<Broker> {
        let (dir, ports) = (tempfile::tempdir().unwrap(), [free_port(), free_port()]);
        let pem = files.text("server.key") + &files.text("server.crt");
        std::fs::write(dir.path().join("server.pem"), pem).unwrap();
        let tls = TLS.replace("CA\n", &format!("{}\n", files.path("ca.crt").display()));
        let listeners = [("PLAINTEXT", ports[0]), ("SSL", ports[1])];
        Broker::start_with(ports[1], &listeners, &tls, &[], dir)
    }

    /// Its port is one for those who log in; and another one that takes PLAIN only.
    fn start_sasl() -> Option<(Broker, u16)> {
        let [plain, port, few] = [free_port(), free_port(), free_port()];
        let listeners = [("PLAINTEXT", plain), ("SASL", port), ("FEW", few)];
        let known = ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .map(|name| ["--add-scram".into(), format!("{name}=[name=me,password={WORD}]")]);
        // In a text in quotes, on a line of properties.
        let wild = WILD.replace('"', "\\\\\"").replace('\n', "\\\\n");
        let sasl = SASL.replace("WORD", WORD).replace("WILD", &wild);
        let sasl = sasl.replace("MODULE", "org.apache.kafka.common.security");
        let dir = tempfile::tempdir().unwrap();
        Some((Broker::start_with(port, &listeners, &sasl, &known.concat(), dir)?, few))
    }

    /// The first of the listeners is for those who speak no TLS and do not log in.
    fn start_with(
        port: u16,
        listeners: &[(&str, u16)],
        more: &str,
        users: &[String],
        dir: tempfile::TempDir,
    ) -> Option<Broker> {
        let lib: PathBuf = cache("kafka/lib");
        std::fs::read_dir(&lib).ok()?;
        let plain = listeners[0].1;
        let all: Vec<String> =
            listeners.iter().map(|(name, port)| format!("{name}://127.0.0.1:{port}")).collect();
        let text = CONFIG
            .replace("PLAINTEXT://127.0.0.1:PORT", &all.join(","))
            .replace(":CONTROL", &format!(":{}", free_port()))
            .replace("LIMIT", &MESSAGE_BYTES_MAX.to_string());
        let text = (text + more).replace("DIR", dir.path().to_str().unwrap());
        let file = dir.path().join("server.properties");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let id = "5L6g3nShT-eMCtK--X86sw";
        let users = users.iter().map(String::as_str);
        let how: Vec<&str> = ["format", "-t", id, "-c", file].into_iter().chain(users).collect();
        let format = java(&lib, "kafka.tools.StorageTool", &how);
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
            login: None,
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
        self.records_of(0..3)
    }

    fn records_of(&self, partitions: std::ops::Range<i32>) -> Vec<Record> {
        self.work(async |client| {
            let mut all = Vec::new();
            for partition in partitions {
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

/// Batches that the broker does not take at once come in parts: each element that it takes is there, in each partition in the
/// order of the numbers but for repeats, the two that are too large are counted, and no connection is made for it. Catches a
/// client that begins anew with each refusal, and parts that overtake each other.
#[test]
fn what_is_too_large_is_split() {
    let port = free_port();
    let relay = Relay::to(port);
    let Some(broker) = Broker::start_behind(&relay, port) else {
        return weir_types::testing::skipped("there is no Kafka");
    };
    broker.make_topic();
    let sink = KafkaSink::new(broker.config(false));
    let mut line = Line::in_memory(crate::encode::Mode::Changelog, Box::new(sink));
    line.start(false).unwrap();
    line.deliver(&delivery(1, &[("first", 1, 1)], true)).unwrap();
    flush(&mut line);
    let connections = relay.connections();
    let key = |n: usize| match n {
        70 | 200 => "x".repeat(2 * MESSAGE_BYTES_MAX) + &n.to_string(),
        _ => format!("{n:0100}"),
    };
    let keys: Vec<String> = (0..300).map(key).collect();
    let rows: Vec<(&str, i64, i64)> = keys.iter().map(|key| (key.as_str(), 1, 1)).collect();
    line.deliver(&delivery(2, &rows, true)).unwrap();
    line.flush().unwrap();
    assert_eq!(relay.connections(), connections, "it goes on with what it has");
    let health = line.health();
    assert_eq!((health.rows_sent, health.rows_refused, health.acked_ms), (299, 2, Some(2)));

    let mut all = std::collections::BTreeSet::new();
    for partition in 0..3 {
        let (mut last, mut new) = (0, 0);
        for record in broker.records_of(partition..partition + 1) {
            let seq: u64 = std::str::from_utf8(&record.headers["seq"]).unwrap().parse().unwrap();
            if all.insert(seq) {
                assert!(seq > last, "{seq} behind {last} in partition {partition}");
                (last, new) = (seq, new + 1);
            }
        }
        assert!(new > 50, "{new} in partition {partition}");
    }
    // The first element is number 1.
    let wanted = (1..=301).filter(|seq| ![72, 202].contains(seq));
    assert_eq!(all, wanted.collect());
}

/// A broker with TLS is reached if its authority is known and ours is known to it, also after it began anew; without,
/// nothing arrives, and it is tried again. Catches a client that does not verify.
#[test]
fn with_tls_both_ends_are_known() {
    let Some(files) = Certificates::make() else {
        return weir_types::testing::skipped("there is no openssl");
    };
    let Some(mut broker) = Broker::start_tls(&files) else {
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
        login: Some(login(Mechanism::Plain, "me", "hidden-word")),
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

/// By each mechanism who is known comes in, and his elements arrive; a wrong password, a user that nobody knows, none at
/// all, a mechanism that the broker does not take and a login where it takes none do not: that is tried again, says what
/// it was, and no password. Catches a mechanism that is another one, a wrong password that is only late, and a password that
/// is not sent byte for byte.
#[test]
fn only_who_is_known_comes_in() {
    let Some((broker, few)) = Broker::start_sasl() else {
        return weir_types::testing::skipped("there is no Kafka");
    };
    broker.make_topic();
    let with = |port: u16, login: Option<Login>| {
        let brokers = vec![format!("127.0.0.1:{port}")];
        Box::new(KafkaSink::new(KafkaConfig { brokers, login, ..broker.config(true) }))
    };
    let why = |port: u16, login: Option<Login>| {
        let error = with(port, login).check().unwrap_err();
        assert!(matches!(error, SinkError::Retry(_)), "{error}");
        let text = error.to_string();
        assert!(!text.contains(WORD) && !text.contains("wr0ng"), "{text}");
        text
    };
    let names = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
    let all = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];
    for (tick, (mechanism, name)) in (1..).zip(all.into_iter().zip(names)) {
        let mut line = upserts(with(broker.port, Some(login(mechanism, "me", WORD))), 100);
        line.start(false).unwrap();
        line.deliver(&delivery(tick, &[(name, 1, 1)], true)).unwrap();
        flush(&mut line);
        assert!(broker.view().contains_key(&format!("[\"{name}\"]")), "{name}");
        for (user, password) in [("me", "wr0ng"), ("nobody", WORD)] {
            let why = why(broker.port, Some(login(mechanism, user, password)));
            let wanted = format!("refuses user {user} with this password ({name})");
            assert!(why.contains(&wanted), "{why}");
        }
    }
    let mut line = upserts(with(broker.port, Some(login(Mechanism::Plain, "wild", WILD))), 100);
    line.start(false).unwrap();
    line.deliver(&delivery(4, &[("wild", 1, 1)], true)).unwrap();
    flush(&mut line);
    assert!(broker.view().contains_key("[\"wild\"]"));
    why(broker.port, None);
    let said = why(few, Some(login(Mechanism::ScramSha256, "me", WORD)));
    assert!(said.contains("takes no SCRAM-SHA-256"), "{said}");
    let said = why(broker.plain, Some(login(Mechanism::Plain, "me", WORD)));
    assert!(said.contains("takes no login on this port"), "{said}");
}
