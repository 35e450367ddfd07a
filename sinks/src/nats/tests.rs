//! Against a real server, where there is one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::stream;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use nkeys::{KeyPair, KeyPairType};

use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery};
use crate::testing::{Certificates, Relay, Running, free_port};

/// What the server takes of a message.
const BYTES_MAX: usize = 4_096;

struct Nats {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Nats {
    fn spawn(port: u16, dir: &std::path::Path) -> Option<Child> {
        let config = dir.join("nats.conf");
        let store = dir.display();
        let text = format!("max_payload: {BYTES_MAX}\njetstream {{ store_dir: \"{store}\" }}\n");
        std::fs::write(&config, text).unwrap();
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

fn config(port: u16, timeout: Duration) -> NatsConfig {
    NatsConfig {
        name: "out".to_string(),
        servers: vec![format!("nats://127.0.0.1:{port}")],
        subject: "weir.rows".to_string(),
        login: Login::None,
        timeout,
        secrets: vec![],
        tls: Tls::default(),
    }
}

fn line(port: u16, timeout: Duration) -> Line {
    let config = config(port, timeout);
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

/// Of elements that take 4,000 to 4,200 bytes with what stands above them, a byte more each, exactly those are sent that the
/// server takes and the others are counted; what comes behind them arrives, all in order, and all by one connection. Catches a
/// limit that is off by a byte: the server breaks such a connection, and the client makes another one, again and again.
#[test]
fn around_the_limit_each_is_sent_or_counted() {
    let Some(nats) = Nats::start() else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    nats.make_stream(Duration::from_secs(60));
    let relay = Relay::to(nats.port);
    let mut line = line(relay.port, Duration::from_secs(5));
    let send = |line: &mut Line, tick: u64, rows: &[(String, i64)]| {
        let rows: Vec<(&str, i64, i64)> =
            rows.iter().map(|(key, n)| (key.as_str(), *n, 1)).collect();
        line.deliver(&delivery(tick, &rows, true)).unwrap();
        line.flush().unwrap();
    };
    // So that all numbers have as many digits.
    let short: Vec<(String, i64)> = (0..100).map(|n| (format!("{n:02}"), 1)).collect();
    send(&mut line, 1, &short);
    let size = |row: &serde_json::Value| row.to_string().len() + HEADER_BYTES + "out-101".len();
    let size_of_short = size(&nats.messages()[99].1);
    // A key stands there twice, so every other one gets its byte by another digit.
    let key_len = (4_000 - size_of_short) / 2 + short[99].0.len() + 1;
    let long: Vec<(String, i64)> =
        (0..=200).map(|n| ("x".repeat(key_len + n / 2), [1, 10][n % 2])).collect();
    send(&mut line, 2, &long);
    send(&mut line, 3, &[("last".to_string(), 1)]);

    let messages = nats.messages();
    let sizes: Vec<usize> = messages[100..].iter().map(|(_, row)| size(row)).collect();
    let (last, fitting) = sizes.split_last().unwrap();
    let wanted: Vec<usize> = (fitting[0]..=BYTES_MAX).collect();
    assert_eq!(fitting, wanted);
    assert!(fitting[0] <= 4_002 && fitting[0] + long.len() > 4_200 && *last < 200, "{sizes:?}");
    let refused = (long.len() - fitting.len()) as u64;
    let health = line.health();
    assert_eq!((health.rows_refused, health.rows_sent), (refused, 302 - refused));
    let numbers: Vec<u64> = messages.iter().map(|(_, row)| row["seq"].as_u64().unwrap()).collect();
    let fitting = 100 + fitting.len() as u64;
    assert_eq!(numbers, (1..=fitting).chain([302]).collect::<Vec<u64>>());
    assert_eq!(relay.connections(), 1);
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
    let file = dir.path().join("nats.conf");
    let path = |name: &str| files.path(name).display().to_string();
    let text = format!(
        "jetstream {{ store_dir: \"{}\" }}\ntls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", \
         verify: true }}\n",
        dir.path().display(),
        path("server.crt"),
        path("server.key"),
        path("ca.crt")
    );
    std::fs::write(&file, text).unwrap();
    let args = ["-a", "127.0.0.1", "-p", &port.to_string(), "-c", file.to_str().unwrap()]
        .map(str::to_string);
    let is_up = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let Some(mut running) = Running::start(std::path::Path::new("nats-server"), &args, is_up)
    else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    let sink = |tls: Tls| {
        let servers = vec![format!("tls://127.0.0.1:{port}")];
        NatsSink::new(NatsConfig { servers, tls, ..config(port, Duration::from_secs(5)) })
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

/// A server with more in its configuration.
fn guarded(port: u16, text: &str) -> Option<(Running, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nats.conf");
    let storage = format!("jetstream {{ store_dir: \"{}\" }}\n", dir.path().display());
    // With accounts none has JetStream of itself.
    let storage = if text.contains("operator") { String::new() } else { storage };
    std::fs::write(&file, format!("{storage}{text}")).unwrap();
    let args = ["-a", "127.0.0.1", "-p", &port.to_string(), "-c", file.to_str().unwrap()]
        .map(str::to_string);
    let is_up = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    Some((Running::start(std::path::Path::new("nats-server"), &args, is_up)?, dir))
}

/// Claims signed by an issuer, as NATS writes them.
fn signed(issuer: &KeyPair, subject: &str, kind: &serde_json::Value, expires: i64) -> String {
    let claims = serde_json::json!({
        "jti": subject, "iat": 1_600_000_000, "exp": expires, "iss": issuer.public_key(),
        "sub": subject, "name": "of a test", "nats": kind
    });
    let header = serde_json::json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let parts = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = parts.join(".");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

/// A server's configuration with an account, and credentials of its users that end at each of these times.
fn account<const N: usize>(ends: [i64; N]) -> (String, [String; N]) {
    const NEVER: i64 = 9_999_999_999;
    let [operator, account] = [KeyPairType::Operator, KeyPairType::Account].map(KeyPair::new);
    let kind = serde_json::json!({"type": "operator", "version": 2});
    let of_operator = signed(&operator, &operator.public_key(), &kind, NEVER);
    let limits = serde_json::json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1
    });
    let kind = serde_json::json!({"type": "account", "version": 2, "limits": limits});
    let of_account = signed(&operator, &account.public_key(), &kind, NEVER);
    let kind = serde_json::json!({
        "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1
    });
    let config = format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}\n",
        account.public_key()
    );
    let credentials = ends.map(|end| {
        let user = KeyPair::new_user();
        let of_user = signed(&account, &user.public_key(), &kind, end);
        let seed = user.seed().unwrap();
        format!(
            "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    });
    (config, credentials)
}

/// By a password, a token, a key and credentials who is known comes in; a wrong one, none, and credentials that are over
/// do not: that is tried again, says which login it was, and nothing that is secret. Catches a way that is not handed on
/// to the client, and one that is waited for without a word.
#[test]
fn only_who_is_known_comes_in() {
    let user = |password: &str| Login::User { user: "me".into(), password: password.into() };
    let token = |token: &str| Login::Token(token.to_string());
    let seeds = [(); 2].map(|()| KeyPair::new_user().seed().unwrap());
    let public = KeyPair::from_seed(&seeds[0]).unwrap().public_key();
    let [known, other] = seeds.each_ref().map(|seed| Login::of_nkey(seed).unwrap());
    let (of_account, credentials) = account([9_999_999_999, 1_700_000_000]);
    let [valid, over] = credentials.map(|text| Login::of_credentials(text).unwrap());
    for (text, right, wrong, says) in [
        (
            "authorization { user: me, password: \"s3cret-word\" }".to_string(),
            user("s3cret-word"),
            user("wr0ng-word"),
            "user me with this password",
        ),
        (
            "authorization { token: \"s3cret-token\" }".to_string(),
            token("s3cret-token"),
            token("wr0ng-token"),
            "this token",
        ),
        (format!("authorization {{ users: [ {{ nkey: {public} }} ] }}"), known, other, "this key"),
        (of_account, valid, over, "these credentials"),
    ] {
        let port = free_port();
        let Some(_running) = guarded(port, &text) else {
            return weir_types::testing::skipped("there is no nats-server");
        };
        let check = |login: &Login| {
            let timeout = Duration::from_secs(10);
            let config = NatsConfig { login: login.clone(), ..config(port, timeout) };
            NatsSink::new(config).check()
        };
        check(&right).unwrap();
        let error = check(&wrong).unwrap_err();
        assert!(matches!(&error, SinkError::Retry(why) if why.contains(says)), "{says}: {error}");
        for secret in [right.secrets(), wrong.secrets()].concat() {
            assert!(secret.is_empty() || !error.to_string().contains(&secret), "{error}");
        }
        let error = check(&Login::None).unwrap_err();
        assert!(matches!(&error, SinkError::Retry(why) if why.contains("`auth`")), "{error}");
    }
}

/// What holds no login is refused when it is read, and not repeated.
#[test]
fn what_is_no_login_is_refused() {
    let account = KeyPair::new(KeyPairType::Account).seed().unwrap();
    for text in ["", "s3cret", &account] {
        let why = Login::of_nkey(text).map(drop).unwrap_err();
        assert!(why.contains("no seed of a user") && !why.contains("s3cret"), "{why}");
        let why = Login::of_credentials(text.to_string()).map(drop).unwrap_err();
        assert!(why.contains("no JWT") && !why.contains("s3cret"), "{why}");
    }
}

/// Of several addresses one that is there is enough, however the others are silent: gone, or taking connections and
/// saying nothing. Catches one that is silent and takes all the time of an attempt.
#[test]
fn one_server_of_several_is_enough() {
    let Some(nats) = Nats::start() else {
        return weir_types::testing::skipped("there is no nats-server");
    };
    nats.make_stream(Duration::from_secs(60));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [free_port(), silent.local_addr().unwrap().port(), nats.port];
    // They are tried in any order.
    for tick in 1..=4 {
        let timeout = Duration::from_secs(6);
        let servers = ports.map(|port| format!("nats://127.0.0.1:{port}")).to_vec();
        let name = format!("out{tick}");
        let sink = NatsSink::new(NatsConfig { name, servers, ..config(nats.port, timeout) });
        let mut line = Line::in_memory(Mode::Changelog, Box::new(sink));
        line.start(false).unwrap();
        line.deliver(&delivery(tick, &[("a", 1, 1)], true)).unwrap();
        line.flush().unwrap();
        assert_eq!(line.health().acked_ms, Some(tick));
    }
}
