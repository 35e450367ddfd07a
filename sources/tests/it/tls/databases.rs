//! Databases over TLS: PostgreSQL and MariaDB, which begin in plain text and go on encrypted, and Redis.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Capture, Place, Server, free_port, has};
use crate::real::{mysql, pgsql};
use crate::rows_of::Rows;

/// What one connection did: the rows' cells, in the order of their times.
type Talk = Vec<Vec<String>>;

/// The connections of each end, by the client's port.
fn talks(rows: &Rows, columns: &[&str]) -> [Vec<Talk>; 2] {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| rows.int(*row, "time_"));
    let mut ends: [BTreeMap<i64, Talk>; 2] = Default::default();
    for row in order {
        assert!(rows.bool(row, "encrypted"));
        let cell = |column: &&str| match *column {
            "req_cmd" | "resp_status" if columns == mysql::COLUMNS => {
                rows.int(row, column).to_string()
            }
            column => rows.text_lossy(row, column),
        };
        let (end, port) = match rows.int(row, "trace_role") {
            1 => (0, "local_port"),
            2 => (1, "remote_port"),
            role => panic!("{role}"),
        };
        let talk = ends[end].entry(rows.int(row, port)).or_default();
        talk.push(columns.iter().map(cell).collect());
    }
    ends.map(|talks| talks.into_values().collect())
}

/// Each connection of either end is one of those wanted, word for word.
fn check_talks(capture: &Capture, ends: [Vec<Talk>; 2], want: &[Talk]) {
    let mut want = want.to_vec();
    want.sort_unstable();
    for mut talks in ends {
        talks.sort_unstable();
        for (found, want) in talks.iter().zip(&want) {
            for (idx, (found, want)) in found.iter().zip(want).enumerate() {
                assert_eq!(found, want, "row {idx} {}", capture.lost());
            }
            assert_eq!(found.len(), want.len(), "{}", capture.lost());
        }
        assert_eq!(talks.len(), want.len());
    }
}

/// A key that belongs to who runs the server.
fn own_key(place: &Place, dir: &Path, user: &str) -> [String; 2] {
    let [key, cert] = ["key.pem", "cert.pem"].map(|name| {
        let own = dir.join(name);
        std::fs::copy(place.path(name), &own).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Command::new("chown").arg(user).arg(&own).status().unwrap().success());
        own.display().to_string()
    });
    [key, cert]
}

/// Statements of a client, and the rows that there have to be.
fn statements(client: usize) -> (String, Talk) {
    let (mut script, mut want) = (String::new(), Talk::new());
    for n in client * 1_000..client * 1_000 + 150 {
        let (sql, answer) = match n % 4 {
            0 => {
                let answer = "ERROR RESPONSE [Severity=ERROR Code=22012 Message=division by zero]";
                (format!("SELECT {n} / 0;"), answer.to_string())
            }
            1 => {
                let rows: String = (1..=9).map(|g| format!("{g},{n}\n")).collect();
                let sql = format!("SELECT g, {n} AS n FROM generate_series(1, 9) g;");
                (sql, format!("g,n\n{rows}SELECT 9"))
            }
            2 => (format!("CREATE TEMP TABLE t{n} (a int);"), "CREATE TABLE".to_string()),
            _ => (format!("SELECT 'x{n}' AS t;"), format!("t\nx{n}\nSELECT 1")),
        };
        writeln!(script, "{sql}").unwrap();
        want.push(vec!["Query".to_string(), sql, answer]);
    }
    (script, want)
}

/// PostgreSQL over TLS, and clients with this library, each given a script of its own and where to connect to.
fn postgresql_of(library: &str, command: impl Fn(&Path, &str, &Path) -> String) {
    let Some(bin) = pgsql::programs() else {
        return weir_types::testing::skipped("PostgreSQL is not installed");
    };
    let place = Place::new();
    let (dir, port) = (tempfile::Builder::new().prefix("weir-pg").tempdir().unwrap(), free_port());
    let [key, cert] = own_key(&place, dir.path(), "postgres");
    let options =
        ["ssl=on".to_string(), format!("ssl_key_file={key}"), format!("ssl_cert_file={cert}")];
    let options: Vec<String> =
        options.into_iter().flat_map(|option| ["-c".to_string(), option]).collect();
    let _server = pgsql::server(&bin, dir.path(), port, &options);
    // What asked it whether it is ready is over.
    let Some(mut capture) = Capture::of_port(port) else { return };
    capture.wait_until_probed("libssl.so.3");
    capture.wait_until_probed(library);
    let mut all = String::new();
    let mut want = Vec::new();
    for client in 0..4 {
        let (script, rows) = statements(client);
        let file = place.write(&format!("sql{client}"), &script);
        let to = format!("host=127.0.0.1 port={port} user=postgres sslmode=require");
        writeln!(all, "{} 2>/dev/null &", command(&bin, &to, &file)).unwrap();
        want.push(rows);
    }
    let output = capture.watch(Command::new("sh").args(["-c", &format!("{all} wait")]));
    assert!(output.contains("x3147"), "{output}");
    let rows = capture.rows_of("pgsql_events");
    let ends = talks(&rows, &["req_cmd", "req", "resp"]).map(|talks| {
        let logged_in = talks.into_iter().map(|mut talk| {
            let login = talk.remove(0);
            assert_eq!(login[0], "Startup");
            assert!(login[1].starts_with("user=postgres"), "{login:?}");
            talk
        });
        logged_in.collect()
    });
    check_talks(&capture, ends, &want);
}

/// psql asks in plain text whether the server speaks TLS, and logs in over it. Catches a row of that question, what
/// goes on being looked for in cipher bytes, and a login that is not looked for anew.
#[test]
fn postgresql() {
    postgresql_of("libssl.so.3", |bin, to, script| {
        let psql = bin.join("psql").display().to_string();
        format!("{psql} -X -q -A -t '{to}' -f {}", script.display())
    });
}

/// Says each line of a script; without one it holds the library until its input ends.
const PSYCOPG: &str = r#"
import psycopg2, sys
if len(sys.argv) < 2:
    sys.stdin.read()
    sys.exit()
own = psycopg2.connect(sys.argv[1])
own.autocommit = True
for line in open(sys.argv[2]):
    try:
        cursor = own.cursor()
        cursor.execute(line.strip())
        print(cursor.fetchall())
    except psycopg2.Error: pass
own.close()
"#;

/// Where `scripts/test-servers` puts it, if it did; said on stderr if not.
fn psycopg() -> Option<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let site = Path::new(&home).join(".cache/weir/openssl11/python");
    let is_there = site.join("psycopg2").is_dir();
    if !is_there {
        weir_types::testing::skipped("there is no psycopg2 in ~/.cache/weir");
    }
    (is_there && has("python3")).then_some(site)
}

/// The same of libpq with an OpenSSL 1.1.1 of its own, as wheels for Python have it (`libssl-3e69114b.so.1.1`), at one
/// end and OpenSSL 3 at the other. Catches a name that is not taken for a library's, and functions that are others.
#[test]
fn postgresql_of_openssl_1_1() {
    let Some(site) = psycopg() else { return };
    let script = Place::new();
    let program = script.write("client.py", PSYCOPG);
    // Probes take a moment where nobody has run a library before.
    let mut holder = Command::new("python3");
    let holder = holder.arg(&program).env("PYTHONPATH", &site).stdin(Stdio::piped()).spawn();
    postgresql_of("openssl11/python/psycopg2_binary.libs/libssl-", |_, to, script| {
        let (site, program) = (site.display(), program.display());
        format!("PYTHONPATH={site} python3 {program} '{to}' {}", script.display())
    });
    let mut holder = holder.unwrap();
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
}

/// Two clients of MariaDB, all kinds of operations: the server greets in plain text, the client answers that it goes
/// on encrypted, and logs in. Catches a login whose greeting was in plain text.
#[test]
fn mariadb() {
    if mysql::is_missing() {
        return;
    }
    let place = Place::new();
    let (dir, port) = (tempfile::Builder::new().prefix("weir-my").tempdir().unwrap(), free_port());
    let [key, cert] = own_key(&place, dir.path(), "mysql");
    let options = [format!("--ssl-key={key}"), format!("--ssl-cert={cert}")];
    let _server = mysql::server(dir.path(), port, &options);
    // What asked it whether it is ready is over.
    let Some(mut capture) = Capture::of_port(port) else { return };
    capture.wait_until_probed("libssl.so.3");
    let mut logs = Vec::new();
    let ssl = format!("mariadb_ssl=1;mariadb_ssl_ca_file={cert}");
    for (seed, options) in [(1, ssl.clone()), (2, format!("{ssl};mariadb_compression=1"))] {
        let text = capture.watch(&mut mysql::client_of(port, seed, &options, dir.path()));
        let line = |line: &str| -> Vec<String> {
            let mut cells: Vec<String> = line.split('\t').map(str::to_string).collect();
            cells.resize(mysql::COLUMNS.len(), String::new());
            cells
        };
        logs.push(text.lines().map(line).collect::<Talk>());
    }
    let rows = capture.rows_of("mysql_events");
    let ends = talks(&rows, &mysql::COLUMNS).map(|talks| {
        let logged_in = talks.into_iter().map(|mut talk| {
            assert_eq!(talk[0], ["11", "user=root db=", "2", "affected_rows = 0"]);
            // What the client does of its own accord when it connects.
            let begin = talk.iter().position(|row| row[1] == "USE shop").unwrap();
            talk.split_off(begin)
        });
        logged_in.collect()
    });
    check_talks(&capture, ends, &logs);
}

/// Redis with TLS from the first byte on.
#[test]
fn redis() {
    if !has("redis-server") || !has("redis-cli") {
        return;
    }
    let (place, port) = (Place::new(), free_port());
    let path = |name: &str| place.path(name).display().to_string();
    let Some(mut capture) = Capture::of_port(port) else { return };
    let mut server = Command::new("redis-server");
    server.args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1"]);
    server.args(["--tls-cert-file", &path("cert.pem"), "--tls-key-file", &path("key.pem")]);
    server.args(["--tls-auth-clients", "no", "--save", "", "--dir", &path("")]);
    let _server = Server::run(&mut server, port);
    let mut all = String::new();
    let mut want = Vec::new();
    for client in 0..4 {
        let (script, rows) = commands(client);
        let (file, cert) = (place.write(&format!("commands{client}"), &script), path("cert.pem"));
        let cli = format!("redis-cli --tls --cacert {cert} -h 127.0.0.1 -p {port}");
        writeln!(all, "{cli} < {} &", file.display()).unwrap();
        want.push(rows);
    }
    let output = capture.watch(Command::new("sh").args(["-c", &format!("{all} wait")]));
    assert!(output.contains("v3199"), "{output}");
    let rows = capture.rows_of("redis_events");
    let ends = talks(&rows, &["req_cmd", "req_args", "resp"]).map(|talks| {
        let begun = talks.into_iter().map(|mut talk| {
            // What the client asks of its own accord.
            assert_eq!(talk.remove(0)[..2], ["COMMAND", r#"["DOCS"]"#]);
            talk
        });
        begun.collect()
    });
    check_talks(&capture, ends, &want);
}

/// Commands of a client, and the rows that there have to be.
fn commands(client: usize) -> (String, Talk) {
    let (mut script, mut want) = (String::new(), Talk::new());
    for n in client * 1_000..client * 1_000 + 200 {
        let (command, args, answer) = match n % 5 {
            0 => ("SET", vec![format!("k{n}"), "v".repeat(n * 7 % 400)], "OK".to_string()),
            1 => ("GET", vec![format!("missing{n}")], "<NULL>".to_string()),
            2 => (
                "RPUSH",
                vec![format!("l{client}"), format!("v{n}")],
                (n % 1_000 / 5 + 1).to_string(),
            ),
            3 => ("LPUSH", vec![format!("k{}", n - 3)], wrong_number("lpush")),
            _ => ("ECHO", vec![format!("v{n}")], format!("v{n}")),
        };
        writeln!(script, "{command} \"{}\"", args.join("\" \"")).unwrap();
        let args = serde_json::to_string(&args).unwrap();
        want.push(vec![command.to_string(), args, answer]);
    }
    (script, want)
}

fn wrong_number(command: &str) -> String {
    format!("-ERR wrong number of arguments for '{command}' command")
}
