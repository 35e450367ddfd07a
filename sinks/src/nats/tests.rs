//! Against a real server, where there is one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::stream;
use futures_util::StreamExt;

use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery};
use crate::testing::{Certificates, Running, free_port};

struct Nats {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Nats {
    fn spawn(port: u16, dir: &std::path::Path) -> Option<Child> {
        let config = dir.join("nats.conf");
        let text = "max_payload: 4096\njetstream { store_dir: \"DIR\" }\n";
        std::fs::write(&config, text.replace("DIR", dir.to_str().unwrap())).unwrap();
        let child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c", config.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        for _ in 0..600 {
            let is_up = TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
                let mut line = String::new();
                let said = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
                drop(stream.write_all(b"PING\r\n"));
                said.is_ok() && line.contains("\"jetstream\":true")
            });
            if is_up {
                return Some(child);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("nats-server does not answer");
    }

    fn start() -> Option<Nats> {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let child = Nats::spawn(port, dir.path())?;
        Some(Nats { child, port, dir })
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn again(&mut self) {
        self.child = Nats::spawn(self.port, self.dir.path()).unwrap();
    }

    fn runtime() -> Runtime {
        one_thread::take(&mut None).unwrap()
    }

    async fn context(&self) -> jetstream::Context {
        let url = format!("nats://127.0.0.1:{}", self.port);
        jetstream::new(async_nats::connect(url).await.unwrap())
    }

    fn make_stream(&self, duplicate_window: Duration) {
        Nats::runtime().block_on(async {
            let config = stream::Config {
                name: "weir".to_string(),
                subjects: vec!["weir.>".to_string()],
                duplicate_window,
                ..stream::Config::default()
            };
            self.context().await.create_stream(config).await.unwrap();
        });
    }

    /// Everything in the stream: ids, and what is in the messages.
    fn messages(&self) -> Vec<(String, serde_json::Value)> {
        Nats::runtime().block_on(async {
            let stream = self.context().await.get_stream("weir").await.unwrap();
            let config =
                pull::Config { deliver_policy: DeliverPolicy::All, ..pull::Config::default() };
            let consumer = stream.create_consumer(config).await.unwrap();
            let mut all = Vec::new();
            let mut messages = consumer.fetch().max_messages(10_000).messages().await.unwrap();
            while let Some(message) = messages.next().await {
                let message = message.unwrap();
                let id = message.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap();
                all.push((id.to_string(), serde_json::from_slice(&message.payload).unwrap()));
            }
            all
        })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn line(port: u16, timeout: Duration) -> Line {
    let config = NatsConfig {
        name: "out".to_string(),
        url: format!("nats://127.0.0.1:{port}"),
        subject: "weir.rows".to_string(),
        user: None,
        token: None,
        timeout,
        secrets: vec![],
        tls: Tls::default(),
    };
    let mut line = Line::in_memory(Mode::Changelog, Box::new(NatsSink::new(config)));
    line.start(false).unwrap();
    line
}

/// Without a stream nothing counts as sent, however well the server takes messages; with one all arrive in order
/// and once, also what is sent again; a server that is killed loses nothing; an element above its limit is
/// counted, and costs neither the others nor the connection. Catches what is published and never acknowledged.
#[test]
fn acknowledged_by_the_stream_only() {
    let Some(mut nats) = Nats::start() else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    let mut line = line(nats.port, Duration::from_secs(5));
    let rows = |from: i64| -> Vec<(String, i64, i64)> {
        (from..from + 400).map(|n| (format!("k{n}"), n, 1)).collect()
    };
    let send = |line: &mut Line, tick: u64, rows: &[(String, i64, i64)]| {
        let rows: Vec<(&str, i64, i64)> =
            rows.iter().map(|(key, n, diff)| (key.as_str(), *n, *diff)).collect();
        line.deliver(&delivery(tick, &rows, true)).unwrap();
    };
    send(&mut line, 1, &rows(0));
    assert!(matches!(line.flush(), Err(SinkError::Retry(_))), "there is no stream");
    assert_eq!((line.health().rows_sent, line.health().acked_ms), (0, None));
    nats.make_stream(Duration::from_secs(60));
    line.flush().unwrap();
    assert_eq!(line.health().rows_sent, 400);

    nats.kill();
    send(&mut line, 2, &rows(400));
    assert!(matches!(line.flush(), Err(SinkError::Retry(_))));
    assert_eq!(line.health().acked_ms, Some(1));
    nats.again();
    line.flush().unwrap();

    let long = "x".repeat(8_000);
    send(&mut line, 3, &[("a".into(), 1, 1), (long, 2, 1), ("b".into(), 3, 1)]);
    line.flush().unwrap();
    let health = line.health();
    assert_eq!((health.rows_sent, health.rows_refused, health.acked_ms), (802, 1, Some(3)));

    let messages = nats.messages();
    let numbers: Vec<u64> = messages.iter().map(|(_, row)| row["seq"].as_u64().unwrap()).collect();
    let wanted: Vec<u64> = (1..=803).filter(|seq| *seq != 802).collect();
    assert_eq!(numbers, wanted);
    assert!(messages.iter().all(|(id, row)| *id == format!("out-{}", row["seq"])));
}

/// Between a client and a server: nothing that the server says gets through while it is deaf.
struct Relay {
    port: u16,
    is_deaf: Arc<AtomicBool>,
}

impl Relay {
    fn to(server: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_deaf = Arc::new(AtomicBool::new(false));
        let deaf = Arc::clone(&is_deaf);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let deaf = Arc::clone(&deaf);
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || passed_on(&up, &server, || true));
                let is_heard = move || !deaf.load(Ordering::SeqCst);
                std::thread::spawn(move || passed_on(&down, &client, is_heard));
            }
        });
        Relay { port, is_deaf }
    }

    fn deafen(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::SeqCst);
    }
}

fn passed_on(mut from: &TcpStream, mut to: &TcpStream, passes: impl Fn() -> bool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if passes() && to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

/// Acknowledgements stay away for longer than the stream knows what it has: all is sent again, nothing is missing, and
/// what is there twice has the same number, the same id and the same text. Catches numbers that are given anew.
#[test]
fn repeats_beyond_the_window_are_known_by_their_number() {
    let Some(nats) = Nats::start() else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    let window = Duration::from_millis(200);
    nats.make_stream(window);
    let relay = Relay::to(nats.port);
    let mut line = line(relay.port, Duration::from_secs(1));
    let send = |line: &mut Line, tick: u64| {
        let keys: Vec<String> = (0..50).map(|n| format!("{tick}-{n}")).collect();
        let rows: Vec<(&str, i64, i64)> = keys.iter().map(|key| (key.as_str(), 1, 1)).collect();
        line.deliver(&delivery(tick, &rows, true)).unwrap();
    };
    send(&mut line, 1);
    line.flush().unwrap();
    relay.deafen(true);
    send(&mut line, 2);
    assert!(matches!(line.flush(), Err(SinkError::Retry(_))));
    assert_eq!(line.health().acked_ms, Some(1));
    std::thread::park_timeout(window * 3);
    relay.deafen(false);
    send(&mut line, 3);
    while line.flush().is_err() {}
    assert_eq!(line.health().acked_ms, Some(3));

    let messages = nats.messages();
    let mut known = BTreeMap::new();
    for (id, row) in &messages {
        let number = row["seq"].as_u64().unwrap();
        assert_eq!(known.entry(number).or_insert((id, row)), &(id, row));
    }
    assert_eq!(known.into_keys().collect::<Vec<_>>(), (1..=150).collect::<Vec<_>>());
    assert!(messages.len() > 150, "nothing came twice");
}

/// A server that speaks TLS only, and lets in only whom it knows; whether it is there is found out without writing.
#[test]
fn both_ends_are_known() {
    let Some(files) = Certificates::make() else {
        return weir_types::testing::skipped("there is no openssl");
    };
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let config = dir.path().join("nats.conf");
    let path = |name: &str| files.path(name).display().to_string();
    let text = format!(
        "jetstream {{ store_dir: \"{}\" }}\ntls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", \
         verify: true }}\n",
        dir.path().display(),
        path("server.crt"),
        path("server.key"),
        path("ca.crt")
    );
    std::fs::write(&config, text).unwrap();
    let args = ["-a", "127.0.0.1", "-p", &port.to_string(), "-c", config.to_str().unwrap()]
        .map(str::to_string);
    let is_up = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let Some(mut running) = Running::start(std::path::Path::new("nats-server"), &args, is_up)
    else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    let sink = |tls: Tls| {
        NatsSink::new(NatsConfig {
            name: "out".to_string(),
            url: format!("tls://127.0.0.1:{port}"),
            subject: "weir.rows".to_string(),
            user: None,
            token: None,
            timeout: Duration::from_secs(5),
            secrets: vec![],
            tls,
        })
    };
    let mut known = sink(files.tls(true));
    known.check().unwrap();
    known.check().unwrap();
    for tls in [files.tls(false), Tls::default()] {
        assert!(matches!(sink(tls).check(), Err(SinkError::Retry(_))));
    }
    running.kill();
    assert!(matches!(known.check(), Err(SinkError::Retry(_))));
}
