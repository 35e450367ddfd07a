//! PostgreSQL, with a client of its own protocol and with psql.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::{Client, Config, NoTls};
use weir_types::random::SplitMix;

use super::*;

/// Debian has its programs in a folder of their version.
const VERSIONS: &str = "/usr/lib/postgresql";
const OPERATIONS: usize = 1_000;
const COLUMNS: [&str; 3] = ["req_cmd", "req", "resp"];
/// As many bytes of a text as a row shows.
const SHOWN_BYTES: usize = 512;

pub(crate) fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).ok()?;
    let bin = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    bin.filter(|bin| bin.join("postgres").is_file()).max()
}

/// `options`: what else it is told.
pub(crate) fn server(bin: &Path, dir: &Path, port: u16, options: &[String]) -> Server {
    let path = |program: &str| bin.join(program).display().to_string();
    let postgres = |program: &str| as_user("postgres", &path(program));
    run(Command::new("chown").arg("postgres").arg(dir));
    let data = dir.join("data");
    run(postgres("initdb")
        .current_dir(dir)
        .arg("-D")
        .arg(&data)
        .args(["-A", "trust", "-U", "postgres", "-N"]));
    let rules = "host all bob 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
    std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let mut command = postgres("postgres");
    command.current_dir(dir).arg("-D").arg(&data).args(["-p", &port.to_string(), "-k"]).arg(dir);
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]).args(options);
    let is_ready = || {
        let mut probe = Command::new(path("pg_isready"));
        probe.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        probe.status().is_ok_and(|status| status.success())
    };
    Server::start(&mut command, "-INT", is_ready)
}

/// A client that writes down what rows there have to be.
struct Logged {
    client: Client,
    /// The relay knows by which port it came.
    want: Vec<Want>,
}

impl Logged {
    fn new(relay: u16) -> Logged {
        let mut config = Config::new();
        config.host("127.0.0.1").port(relay).user("postgres").dbname("postgres");
        let client = config.connect(NoTls).unwrap();
        Logged { client, want: Vec::new() }
    }
    fn expect(&mut self, cmd: &str, req: &str, resp: &str) {
        let cut = |text: &str| text[..text.len().min(SHOWN_BYTES)].to_string();
        let req = if req.starts_with("query=[") { req.to_string() } else { cut(req) };
        self.want.push(Want { client_port: 0, cells: vec![cmd.to_string(), req, cut(resp)] });
    }
    /// A statement is prepared, run once with these values, and closed.
    fn expect_run(&mut self, sql: &str, columns: &str, values: &str, resp: &str) {
        self.expect("Parse", sql, "PARSE COMPLETE");
        self.expect("Describe", "type=kStatement name=", columns);
        self.expect_bound(sql, values, resp);
    }
    fn expect_bound(&mut self, sql: &str, values: &str, resp: &str) {
        let text = format!("query=[{sql}] params=[{values}]");
        self.expect("Bind", &text, "BIND COMPLETE");
        self.expect("Execute", &text, resp);
    }
    fn operation(&mut self, n: usize, random: &mut SplitMix) {
        let number = i32::try_from(random.below(2_000)).unwrap() - 1_000;
        let word = format!("w{n}");
        match random.below(12) {
            0 => self.simple(n, number),
            1 => self.insert(n, &word),
            2 => self.several(n, &word),
            3 => self.prepared_once(n, number, &word),
            4 => self.prepared_often(n, random),
            5 => self.refused(n),
            6 => self.portal(n),
            7 => self.copy_in(n, random),
            8 => self.copy_out(n),
            9 => self.notified(n),
            10 => self.large(n, random),
            _ => self.typed(n),
        }
    }
    fn simple(&mut self, n: usize, number: i32) {
        let sql = format!("SELECT {number} AS n, 'x{n}' AS t, NULL AS nothing");
        self.client.simple_query(&sql).unwrap();
        self.expect("Query", &sql, &format!("n,t,nothing\n{number},x{n},[NULL]\nSELECT 1"));
    }
    fn insert(&mut self, n: usize, word: &str) {
        let sql = "INSERT INTO items (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let count = self.client.execute(sql, &[&(n as i32), &word]).unwrap();
        self.expect_run(sql, "NO DATA", &format!("{n}, {word}"), &format!("INSERT 0 {count}"));
    }
    fn several(&mut self, n: usize, word: &str) {
        let sql = format!(
            "BEGIN; UPDATE items SET name = '{word}' WHERE id = -{n}; SELECT 'é{n}' AS é; COMMIT"
        );
        self.client.batch_execute(&sql).unwrap();
        self.expect("Query", &sql, &format!("BEGIN\nUPDATE 0\né\né{n}\nSELECT 1\nCOMMIT"));
    }
    fn prepared_once(&mut self, n: usize, number: i32, word: &str) {
        let sql = format!("SELECT $1::int4 + 1 AS more, $2::text AS word, {n} AS n");
        let row = self.client.query_one(&sql, &[&number, &word]).unwrap();
        assert_eq!(row.get::<_, &str>(1), word);
        self.expect_run(
            &sql,
            "more,word,n",
            &format!("{number}, {word}"),
            &format!("{},{word},{n}\nSELECT 1", number + 1),
        );
    }
    fn prepared_often(&mut self, n: usize, random: &mut SplitMix) {
        let sql =
            format!("SELECT g, $1::bool AS b FROM generate_series(1, $2::int8) g WHERE {n} > 0");
        let statement = self.client.prepare(&sql).unwrap();
        self.expect("Parse", &sql, "PARSE COMPLETE");
        self.expect("Describe", "type=kStatement name=", "g,b");
        for _ in 0..1 + random.below(4) {
            let (count, yes) = (random.below(5) as i64, random.below(2) == 0);
            self.client.query(&statement, &[&yes, &count]).unwrap();
            let b = if yes { "t" } else { "f" };
            let rows: String = (1..=count).map(|g| format!("{g},{b}\n")).collect();
            self.expect_bound(&sql, &format!("{b}, {count}"), &format!("{rows}SELECT {count}"));
        }
    }
    fn refused(&mut self, n: usize) {
        let sql = format!("SELECT {n} / 0");
        let error = self.client.simple_query(&sql).unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
        self.expect(
            "Query",
            &sql,
            "ERROR RESPONSE [Severity=ERROR Code=22012 Message=division by zero]",
        );
        let sql = format!("SELECT * FROM missing{n}");
        self.client.query(&sql, &[]).unwrap_err();
        let error = format!(
            "ERROR RESPONSE [Severity=ERROR Code=42P01 Message=relation \"missing{n}\" does not exist]"
        );
        self.expect("Parse", &sql, &error);
    }
    fn portal(&mut self, n: usize) {
        let sql = format!("SELECT g * $1::int4 AS p FROM generate_series(1, 5) g WHERE {n} >= 0");
        let mut transaction = self.client.transaction().unwrap();
        let portal = transaction.bind(&sql, &[&3]).unwrap();
        for _ in 0..3 {
            transaction.query_portal(&portal, 2).unwrap();
        }
        transaction.commit().unwrap();
        drop(portal);
        let text = format!("query=[{sql}] params=[3]");
        self.expect("Query", "START TRANSACTION", "START TRANSACTION");
        self.expect("Parse", &sql, "PARSE COMPLETE");
        self.expect("Describe", "type=kStatement name=", "p");
        self.expect("Bind", &text, "BIND COMPLETE");
        for rows in ["3\n6", "9\n12", "15\nSELECT 1"] {
            self.expect("Execute", &text, rows);
        }
        self.expect("Query", "COMMIT", "COMMIT");
    }
    fn copy_in(&mut self, n: usize, random: &mut SplitMix) {
        let sql = format!("COPY pile (word) FROM STDIN /* {n} */");
        let lines = 1 + random.below(2_000);
        let mut writer = self.client.copy_in(&sql).unwrap();
        for line in 0..lines {
            writeln!(writer, "word {line} Q\\tZ").unwrap();
        }
        assert_eq!(writer.finish().unwrap(), lines);
        self.expect_run(&sql, "NO DATA", "", &format!("COPY {lines}"));
    }
    fn copy_out(&mut self, n: usize) {
        let sql = format!("COPY (SELECT g FROM generate_series(1, {n}) g) TO STDOUT");
        let mut text = String::new();
        self.client.copy_out(&sql).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), n);
        self.expect_run(&sql, "NO DATA", "", &format!("COPY {n}"));
    }
    fn notified(&mut self, n: usize) {
        self.client.batch_execute(&format!("LISTEN news; NOTIFY news, 'hello {n}'")).unwrap();
        let heard = self.client.notifications().blocking_iter().next().unwrap().unwrap();
        assert_eq!(heard.payload(), format!("hello {n}"));
        let pid = heard.process_id();
        // It comes before the query is over.
        self.expect(
            "NotificationResponse",
            "",
            &format!("pid={pid} channel=news payload=hello {n}"),
        );
        self.expect("Query", &format!("LISTEN news; NOTIFY news, 'hello {n}'"), "LISTEN\nNOTIFY");
    }
    /// Results that are larger than what is copied of a call: one value, or many rows.
    fn large(&mut self, n: usize, random: &mut SplitMix) {
        let count = 10_000 + random.below(20_000);
        let value = format!("SELECT repeat('v{n} ', {count}) AS v");
        let many = format!("SELECT g || ' row {n}' AS v FROM generate_series(1, {count}) g");
        let shown = [
            (&value, format!("{}\nSELECT 1", format!("v{n} ").repeat(SHOWN_BYTES))),
            (&many, (1..SHOWN_BYTES).map(|g| format!("{g} row {n}\n")).collect()),
        ];
        for (sql, rows) in shown {
            if random.below(2) == 0 {
                self.client.simple_query(sql).unwrap();
                self.expect("Query", sql, &format!("v\n{rows}"));
            } else {
                self.client.query(sql, &[]).unwrap();
                self.expect_run(sql, "v", "", &rows);
            }
        }
    }
    fn typed(&mut self, n: usize) {
        let sql = format!(
            "SELECT 1.50::numeric AS a, '2024-02-29 12:00:01.5'::timestamp AS b, '\\xdeadbeef'::bytea AS c, {n}::float8 / 4 AS d, '{{\"k\": 1}}'::jsonb AS e"
        );
        let statement = self.client.prepare(&sql).unwrap();
        self.client.query_raw(&statement, Vec::<i32>::new()).unwrap().count().unwrap();
        let row = format!(
            "1.50,2024-02-29 12:00:01.5,\\xdeadbeef,{},{{\"k\": 1}}\nSELECT 1",
            n as f64 / 4.0
        );
        self.expect_run(&sql, "a,b,c,d,e", "", &row);
    }
}

/// 1,000 operations of every kind on several connections, then psql and a login with a password: every
/// row is as the client knows it, in order and at its time, and a statement's name that the server chose
/// to have is the client's; nothing of a password is in any row. Results that are larger than what is
/// copied of a call cost nothing but their end. Other holes cost what they are in, and connections that were
/// open before are told from where they are joined: no row is another's.
#[test]
fn postgresql_and_its_client() {
    let Some(bin) = programs() else {
        weir_types::testing::skipped(format_args!("there is no postgres in {VERSIONS}"));
        return;
    };
    let dir = tempfile::Builder::new().prefix("weir-pg").tempdir().unwrap();
    let port = free_port();
    let server = server(&bin, dir.path(), port, &[]);
    let mut direct = Config::new();
    direct.host("127.0.0.1").port(port).user("postgres");
    direct
        .connect(NoTls)
        .unwrap()
        .batch_execute(
            "CREATE TABLE items (id int PRIMARY KEY, name text); CREATE TABLE pile (word text); \
         CREATE ROLE bob LOGIN PASSWORD 'open sesame'",
        )
        .unwrap();
    let relay = Relay::to(port);
    let mut want = Vec::new();
    let mut random = SplitMix(20);
    for connection in 0..4 {
        let mut logged = Logged::new(relay.port);
        for n in 0..OPERATIONS / 4 {
            logged.operation(1 + n + connection * 1_000, &mut random);
        }
        let Logged { client, want: of_this, .. } = logged;
        client.close().unwrap();
        want.push(of_this);
    }
    let url = format!("host=127.0.0.1 port={} dbname=postgres", relay.port);
    run(Command::new("psql").args([
        &format!("{url} user=postgres"),
        "-XAc",
        "SELECT 918273 AS psql",
    ]));
    run(Command::new("psql").env("PGPASSWORD", "open sesame").args([
        &format!("{url} user=bob"),
        "-XAc",
        "SELECT 918274 AS psql",
    ]));
    drop(server);
    let wire = relay.finish();
    check(&wire, want);
}

fn check(wire: &Wire, logs: Vec<Vec<Want>>) {
    let begin = |port: u16, req: &str| Want {
        client_port: port,
        cells: vec!["Startup".to_string(), req.to_string(), "AUTHENTICATION OK".to_string()],
    };
    let (rows, all) = found("pgsql_events", &COLUMNS, wire, &Faults::default());
    let mut ports: Vec<u16> =
        all.iter().filter(|one| one.cells[0] == "Startup").map(|one| one.client_port).collect();
    assert_eq!(ports.len(), 4 + 2);
    let psql = ports.split_off(4);
    for (port, n) in psql.into_iter().zip([918273, 918274]) {
        let of: Vec<&Want> = all.iter().filter(|one| one.client_port == port).collect();
        assert_eq!(of.len(), 2, "{of:?}");
        let user = if n == 918273 { "postgres" } else { "bob" };
        assert!(of[0].cells[1].starts_with(&format!("user={user} database=postgres ")), "{of:?}");
        assert_eq!(
            of[1].cells,
            ["Query".to_string(), format!("SELECT {n} AS psql"), format!("psql\n{n}\nSELECT 1")]
        );
    }
    assert!(all.iter().all(|row| row.cells.iter().all(|cell| !cell.contains("sesame"))));
    assert!(!wire.has(b"open sesame"));
    // What the client does of its own accord when it connects, and when it drops a statement.
    let is_kept = |one: &Want| one.cells[0] != "Close" && one.cells[0] != "Startup";
    let plain = |mut one: Want| {
        if one.cells[0] == "Describe" {
            one.cells[1].truncate("type=kStatement name=".len());
        }
        one
    };
    let mut want = Vec::new();
    for (log, port) in logs.into_iter().zip(&ports) {
        assert!(
            all.contains(&begin(*port, "client_encoding=UTF8 user=postgres database=postgres"))
        );
        want.extend(log.into_iter().map(|one| Want { client_port: *port, ..one }));
    }
    let of_client = |found: Vec<Want>| -> Vec<Want> {
        let is_it = |one: &Want| is_kept(one) && ports.contains(&one.client_port);
        found.into_iter().filter(is_it).map(plain).collect()
    };
    let found = of_client(all.clone());
    check_no_wrong(&want, &found, 0);
    assert_eq!(found.len(), want.len());
    assert!(want.len() > 2 * OPERATIONS, "{}", want.len());
    let at = |text: &str| (0..rows.len()).find(|at| rows.text_lossy(*at, "req") == text).unwrap();
    for (text, answer) in
        [("SELECT 918273 AS psql", &b"\x06918273"[..]), ("SELECT 918274 AS psql", b"\x06918274")]
    {
        let response_ns = wire.response_ns(answer).unwrap();
        assert_eq!(rows.int(at(text), "time_"), response_ns);
    }
    let times: Vec<i64> = in_time(&rows).into_iter().map(|row| rows.int(row, "time_")).collect();
    check_with_losses(wire, &all, &times);
}

/// Whatever is lost of what went over the wire, and wherever it is joined, no row is another's. `want` is what
/// a capture of all of it gives, row by row at these times.
fn check_with_losses(wire: &Wire, want: &[Want], times: &[i64]) {
    let mut all = 0;
    for faults in holes(40) {
        let (_, found) = found("pgsql_events", &COLUMNS, wire, &faults);
        check_no_wrong(want, &found, faults.seed);
        all += found.len();
    }
    assert!(all > 40 * want.len() / 5, "{all} of 40 times {}", want.len());
    for faults in joins(wire, 20) {
        let (_, found) = found("pgsql_events", &COLUMNS, wire, &faults);
        check_no_wrong(want, &found, faults.seed);
        // Connections that began later are whole. Those that did before may never pause, and nothing else
        // tells which answer is whose.
        let since_unix_ns = wire.time_unix_ns(faults.joined_at);
        let is_older = |port| {
            let first = want.iter().position(|one| one.client_port == port);
            first.is_some_and(|row| times[row] < since_unix_ns)
        };
        let later = |all: &[Want]| all.iter().filter(|one| !is_older(one.client_port)).count();
        assert_eq!(later(&found), later(want), "{faults:?}");
    }
}
