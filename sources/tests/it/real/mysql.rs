//! MariaDB, with a client on its own library.

use std::path::Path;
use std::process::Command;

use super::*;

const SERVER: &str = "/usr/sbin/mariadbd";
const OPERATIONS: u32 = 350;
pub(crate) const COLUMNS: [&str; 4] = ["req_cmd", "req_body", "resp_status", "resp_body"];

/// `options`: what else it is told.
pub(crate) fn server(dir: &Path, port: u16, options: &[String]) -> Server {
    run(Command::new("chown").arg("mysql").arg(dir));
    let (data, socket) = (dir.join("data"), dir.join("s.sock"));
    let mut install = Command::new("mariadb-install-db");
    install.args([
        "--no-defaults",
        "--user=mysql",
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
    ]);
    run(install.arg(format!("--datadir={}", data.display())));
    let mut command = Command::new(SERVER);
    command.args(["--no-defaults", "--user=mysql", "--bind-address=127.0.0.1", "--local-infile=1"]);
    command.args(["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"]);
    command.args([format!("--port={port}"), format!("--datadir={}", data.display())]);
    command.args([
        format!("--socket={}", socket.display()),
        format!("--pid-file={}/pid", dir.display()),
    ]);
    command.args(options);
    let server = Server::start(&mut command, "-TERM", || admin(&socket, "SELECT 1"));
    for sql in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.items (id int, name text)",
        "CREATE PROCEDURE shop.pair(n int) BEGIN SELECT n; SELECT n UNION SELECT n + 1; END",
    ] {
        assert!(admin(&socket, sql), "{sql}");
    }
    server
}

/// By the server's own socket, beside what is kept.
fn admin(socket: &Path, sql: &str) -> bool {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-uroot", "--delimiter=//", "-S"]).arg(socket).args(["-e", sql]);
    command.output().is_ok_and(|output| output.status.success())
}

pub(crate) fn is_missing() -> bool {
    let has_client = Command::new("perl").args(["-MDBD::MariaDB", "-e", "1"]).output();
    let why = match has_client {
        _ if !Path::new(SERVER).is_file() => format!("there is no {SERVER}"),
        Ok(output) if output.status.success() => return false,
        _ => "perl has no DBD::MariaDB".to_string(),
    };
    weir_types::testing::skipped(why);
    true
}

/// Operations of every kind on several connections, of which one packs its bytes, then a login with a
/// password: every row is as the client knows it, in order; nothing of a password is in any row. With
/// losses and joined midway none is another's.
#[test]
fn mariadb_and_its_client() {
    if is_missing() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("weir-my").tempdir().unwrap();
    let port = free_port();
    let server = server(dir.path(), port, &[]);
    let socket = dir.path().join("s.sock");
    assert!(admin(&socket, "CREATE USER bob@localhost IDENTIFIED BY 'open sesame'"));
    let relay = Relay::to(port);
    let mut logs = Vec::new();
    for (seed, options) in [(1, ""), (2, ""), (3, "mariadb_compression=1")] {
        logs.push(client(relay.port, seed, options, dir.path()));
    }
    let mut login = Command::new("mariadb");
    login.args([
        "--no-defaults",
        "-h127.0.0.1",
        "-ubob",
        "-popen sesame",
        "--skip-ssl",
        "-e",
        "SELECT 43",
    ]);
    run(login.arg(format!("-P{}", relay.port)));
    drop(server);
    check(&relay.finish(), logs);
}

/// A client that prints what rows there have to be.
pub(crate) fn client_of(port: u16, seed: u32, options: &str, dir: &Path) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/real/mysql.pl");
    let mut command = Command::new("perl");
    command.args([script, &port.to_string(), &seed.to_string(), &OPERATIONS.to_string(), options]);
    command.arg(dir.join(format!("lines{seed}")));
    command
}

fn client(port: u16, seed: u32, options: &str, dir: &Path) -> Vec<Vec<String>> {
    let output = client_of(port, seed, options, dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

fn check(wire: &Wire, logs: Vec<Vec<Vec<String>>>) {
    let (_, all) = found("mysql_events", &COLUMNS, wire, &Faults::default());
    let is_login = |one: &&Want| one.cells[0] == "11";
    let ports: Vec<u16> = all.iter().filter(is_login).map(|one| one.client_port).collect();
    assert_eq!(ports.len(), 4);
    assert!(all.iter().all(|row| row.cells.iter().all(|cell| !cell.contains("sesame"))));
    let of = |port: u16| all.iter().filter(move |one| one.client_port == port);
    let bob: Vec<&Want> = of(ports[3]).collect();
    assert_eq!(bob[0].cells, ["11", "user=bob db=", "2", "affected_rows = 0"]);
    assert!(bob.iter().any(|row| row.cells == ["3", "SELECT 43", "2", "Resultset rows = 1"]));
    let mut want = Vec::new();
    for (port, log) in ports.iter().zip(logs) {
        // What the client does of its own accord when it connects.
        let begin = of(*port).take_while(|one| one.cells[1] != "USE shop");
        want.extend(begin.cloned());
        want.extend(log.into_iter().map(|mut cells| {
            cells.resize(COLUMNS.len(), String::new());
            Want { client_port: *port, cells }
        }));
    }
    assert!(want.len() > 3 * OPERATIONS as usize);
    let of_perl: Vec<Want> =
        all.iter().filter(|one| one.client_port != ports[3]).cloned().collect();
    check_equal(&want, &of_perl);
    check_with_losses(wire, &all);
}

/// Whatever is lost of what went over the wire, and wherever it is joined, no row is another's.
fn check_with_losses(wire: &Wire, want: &[Want]) {
    let mut all = 0;
    for faults in holes(40) {
        let (_, found) = found("mysql_events", &COLUMNS, wire, &faults);
        check_in_order(want, &found, faults.seed, is_it);
        all += found.len();
    }
    assert!(all > 40 * want.len() / 4, "{all} of 40 times {}", want.len());
    for faults in joins(wire, 20) {
        let (_, found) = found("mysql_events", &COLUMNS, wire, &faults);
        check_in_order(want, &found, faults.seed, is_it);
        assert!(found.len() > want.len() / 4, "{} rows: {faults:?}", found.len());
    }
}

/// Whether a row is what was seen of another one: what became of it may be unknown, and so its statement.
fn is_it(whole: &Want, seen: &Want) -> bool {
    let [is_command, is_answer] = [0, 3].map(|idx| whole.cells[idx].starts_with(&seen.cells[idx]));
    let is_status = seen.cells[2] == "0" || seen.cells[2] == whole.cells[2];
    is_command && is_answer && is_status && is_statement(&whole.cells[1], &seen.cells[1])
}

fn is_statement(whole: &str, seen: &str) -> bool {
    let parts = |text: &str| {
        let (statement, values) = text.strip_suffix(']')?.split_once("] params=[")?;
        Some((statement.to_string(), values.to_string()))
    };
    match (parts(whole), parts(seen)) {
        (Some(whole), Some(seen)) => whole.0.starts_with(&seen.0) && whole.1.starts_with(&seen.1),
        // It may be cut within a character.
        _ => whole.starts_with(seen.trim_end_matches('\u{fffd}')),
    }
}
