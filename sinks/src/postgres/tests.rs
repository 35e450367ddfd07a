//! Against a real server, where there is one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery};
use crate::testing::{Certificates, free_port};

struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    bin: PathBuf,
}

fn bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut all: Vec<PathBuf> =
        versions.filter_map(|it| Some(it.ok()?.path().join("bin"))).collect();
    all.sort();
    all.pop()
}

/// As a user that the server lets be its own.
fn command(bin: &Path, name: &str, dir: &Path) -> Command {
    let program = bin.join(name);
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Server {
    fn spawn(bin: &Path, dir: &Path, port: u16) -> Child {
        let mut command_of = command(bin, "postgres", dir);
        command_of
            .args(["-D", "data", "-p", &port.to_string(), "-k", dir.to_str().unwrap()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        if dir.join("data/server.key").is_file() {
            command_of.args(["-c", "ssl=on"]);
        }
        let mut child = command_of.spawn().unwrap();
        for _ in 0..600 {
            let ready = command(bin, "pg_isready", dir)
                .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
                .status();
            if ready.is_ok_and(|status| status.success()) {
                return child;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        child.kill().unwrap();
        panic!("postgres does not answer: {:?}", child.wait());
    }

    fn start() -> Option<Server> {
        let bin = bin()?;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let made = command(&bin, "initdb", dir.path())
            .args(["-D", "data", "-A", "trust", "-U", "postgres", "-N"])
            .status()
            .ok()?;
        if !made.success() {
            return None;
        }
        let port = free_port();
        let child = Server::spawn(&bin, dir.path(), port);
        Some(Server { child, port, dir, bin })
    }

    fn kill(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // Fast, as after a fault: its connections break.
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap();
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn config(&self) -> PostgresConfig {
        PostgresConfig {
            url: self.url(),
            table: "out\"side".to_string(),
            user: None,
            password: None,
            timeout: Duration::from_secs(10),
            secrets: vec![],
            tls: None,
        }
    }

    fn line(&self, rows_max: usize) -> Line {
        let config = self.config();
        let buffer = crate::buffer::memory::MemoryBuffer::new(64 << 20, None);
        let mut line = Line::with(
            crate::buffer::Buffer::Memory(buffer),
            crate::buffer::WhenFull::Block,
            Mode::Upsert,
            Box::new(PostgresSink::new(config)),
            rows_max,
        );
        line.start(false).unwrap();
        line
    }

    fn rows(&self) -> Vec<(String, i64)> {
        let mut client = Client::connect(&self.url(), NoTls).unwrap();
        let rows = client.query("SELECT k, n FROM \"out\"\"side\" ORDER BY k, n", &[]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        drop(self.child.wait());
    }
}

/// The table is what the view is: at each acknowledged tick while 1,000 keys all change in small batches, after
/// the server was away, and after a reset. No key is named twice in a statement, which the server would refuse;
/// texts that it does not take are cleaned, and counted.
#[test]
fn the_table_is_the_view() {
    let Some(mut server) = Server::start() else {
        return weir_types::testing::skipped("there is no PostgreSQL server");
    };
    let mut line = server.line(37);
    let keys: Vec<String> = (0..1_000).map(|n| format!("{n:04}{}", "k".repeat(n % 50))).collect();
    for tick in 1..=4i64 {
        let mut rows: Vec<(&str, i64, i64)> = Vec::new();
        for key in &keys {
            if tick > 1 {
                rows.push((key, tick - 1, -1));
            }
            rows.push((key, tick, 1));
        }
        line.deliver(&delivery(tick as u64, &rows, true)).unwrap();
        if tick == 3 {
            server.kill();
            assert!(matches!(line.flush(), Err(SinkError::Retry(_))));
            assert_eq!(line.health().acked_ms, Some(2));
            server.child = Server::spawn(&server.bin, server.dir.path(), server.port);
        }
        line.flush().unwrap();
        assert_eq!(line.health().acked_ms, Some(tick as u64));
        let wanted: Vec<(String, i64)> = keys.iter().map(|key| (key.clone(), tick)).collect();
        let mut have = server.rows();
        have.sort();
        assert_eq!(have, wanted);
    }
    // Several words about a key in one batch, the last of which counts.
    line.deliver(&delivery(5, &[("0000", 4, -1), ("new", 1, 1)], true)).unwrap();
    line.deliver(&delivery(6, &[("new", 1, -1), ("new", 2, 1), ("0000", 9, 1)], true)).unwrap();
    line.deliver(&delivery(7, &[("0000", 9, -1)], true)).unwrap();
    line.flush().unwrap();
    let have = server.rows();
    assert_eq!((have.len(), have.contains(&("new".to_string(), 2))), (1_000, true));
    assert!(!have.iter().any(|(key, _)| key == "0000"));

    line.start(false).unwrap();
    line.deliver(&delivery(8, &[("a\0b", 1, 1), ("$1 '; --", 2, 1)], true)).unwrap();
    line.flush().unwrap();
    let wanted = [("$1 '; --".to_string(), 2), ("a\u{FFFD}b".to_string(), 1)];
    let mut have = server.rows();
    have.sort();
    assert_eq!(have, wanted);
    assert_eq!((line.health().notes.cleaned, line.health().rows_refused), (1, 0));
}

/// With TLS its certificate has to be of an authority that we know; whether it is there is found out without writing.
/// Catches a connection in clear, or one that is not verified.
#[test]
fn with_tls_the_server_is_known() {
    let Some(mut server) = Server::start() else {
        return weir_types::testing::skipped("there is no PostgreSQL");
    };
    let Some(files) = Certificates::make() else {
        return weir_types::testing::skipped("there is no openssl");
    };
    let with = |server: &Server, tls: Tls| {
        PostgresSink::new(PostgresConfig { tls: Some(tls), ..server.config() })
    };
    // It has none yet.
    assert!(with(&server, files.tls(false)).check().is_err());
    server.kill();
    let data = server.dir.path().join("data");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&data).unwrap());
    for name in ["server.crt", "server.key"] {
        let file = data.join(name);
        std::fs::copy(files.path(name), &file).unwrap();
        std::os::unix::fs::chown(&file, Some(owner), None).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    }
    server.child = Server::spawn(&server.bin, server.dir.path(), server.port);
    let mut known = with(&server, files.tls(false));
    known.check().unwrap();
    let mut client = known.client.take().unwrap();
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]);
    assert!(row.unwrap().get::<_, bool>(0));
    assert!(matches!(with(&server, Tls::default()).check(), Err(SinkError::Retry(_))));
    let mut required = server.config();
    required.url.push_str("?sslmode=require");
    assert!(PostgresSink::new(required).check().is_err(), "nobody else trusts it");
}

/// Where a password is asked for, who knows it comes in; a wrong one, and none, are tried again, and the password is not
/// said. Catches a password that is not handed on.
#[test]
fn only_who_knows_the_password_comes_in() {
    let Some(mut server) = Server::start() else {
        return weir_types::testing::skipped("there is no PostgreSQL");
    };
    let mut client = Client::connect(&server.url(), NoTls).unwrap();
    client
        .batch_execute(
            "SET password_encryption = 'scram-sha-256'; CREATE USER me PASSWORD 's3cret''word'; \
             GRANT ALL ON SCHEMA public TO me",
        )
        .unwrap();
    drop(client);
    server.kill();
    let rules = server.dir.path().join("data/pg_hba.conf");
    std::fs::write(&rules, "host all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    server.child = Server::spawn(&server.bin, server.dir.path(), server.port);
    let with = |password: Option<&str>| PostgresConfig {
        url: format!("postgres://127.0.0.1:{}/postgres", server.port),
        user: Some("me".to_string()),
        password: password.map(str::to_string),
        ..server.config()
    };
    let sink = Box::new(PostgresSink::new(with(Some("s3cret'word"))));
    let mut line = Line::in_memory(Mode::Upsert, sink);
    line.start(false).unwrap();
    line.deliver(&delivery(1, &[("a", 1, 1)], true)).unwrap();
    line.flush().unwrap();
    assert_eq!((line.health().rows_sent, line.health().acked_ms), (1, Some(1)));
    for (password, says) in [(Some("wr0ng"), "password authentication failed"), (None, "password")]
    {
        let error = PostgresSink::new(with(password)).check().unwrap_err();
        assert!(matches!(&error, SinkError::Retry(why) if why.contains(says)), "{error}");
        let text = error.to_string();
        assert!(!text.contains("s3cret") && !text.contains("wr0ng"), "{text}");
    }
}
