//! Real servers and their ordinary clients: what goes over the wire between them is kept by a relay, and
//! given to the socket tracer as a capture would give it. Rows are compared with what the client knows.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value as Json;
use weir_types::clock::{Clock as _, WallClock};
use weir_types::random::SplitMix;
use weir_types::testing::free_port;

use crate::rows_of::Rows;
use relay::{Faults, Relay, WHOLE_BYTES, Wire};

mod cassandra;
mod finagle;
mod mongodb;
pub(crate) mod mysql;
pub(crate) mod pgsql;
mod rabbitmq;
mod relay;

/// Jars of a server, and its client in Python, in the cache.
const JARS_AND_PYTHON: [&str; 2] = ["lib", "python"];

/// Starting a server on a busy machine.
const READY_NS: u64 = 60_000_000_000;

/// Ends with the test.
pub(crate) struct Server {
    child: Child,
    /// How it is told to end at once.
    signal: &'static str,
}

impl Server {
    fn start(command: &mut Command, signal: &'static str, is_ready: impl Fn() -> bool) -> Server {
        Server::start_within(READY_NS, command, signal, is_ready)
    }

    fn start_within(
        ready_ns: u64,
        command: &mut Command,
        signal: &'static str,
        is_ready: impl Fn() -> bool,
    ) -> Server {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server { child: child.spawn().unwrap(), signal };
        let begin_ns = WallClock.monotonic_ns();
        while !is_ready() {
            assert!(WallClock.monotonic_ns() - begin_ns < ready_ns, "{command:?} is not ready");
            assert!(server.child.try_wait().unwrap().is_none(), "{command:?} has ended");
            std::thread::yield_now();
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args([self.signal, &pid]).status();
        let _ = self.child.wait();
    }
}

/// Where `scripts/test-servers` puts what the system has no packages of.
fn cache(part: &str) -> PathBuf {
    Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/weir").join(part)
}

/// Says so if something is not there of what a server has in the cache, or of its programs.
fn is_missing(server: &str, parts: &[&str]) -> bool {
    let is_there = |part: &&str| {
        let path = cache(server).join(part);
        path.is_file() || std::fs::read_dir(path).is_ok_and(|mut all| all.next().is_some())
    };
    if parts.iter().all(is_there) {
        return false;
    }
    let why = format!("there is no server or client of {server}: {parts:?}");
    weir_types::testing::skipped(why);
    true
}

/// What a program of the server's client says: a script beside this file.
fn python(server: &str, script: &str, args: &[String]) -> String {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", cache(server).join("python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/real").join(script));
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the rows have to be by the clients' logs, each of which is that of one connection, in the order in which they
/// came.
fn want_of(rows: &[Want], logs: &[Vec<Vec<String>>]) -> Vec<Want> {
    let mut ports: Vec<u16> = rows.iter().map(|one| one.client_port).collect();
    ports.dedup();
    assert_eq!(ports.len(), logs.len(), "each has one connection for what it is asked");
    let of = |(port, log): (&u16, &Vec<Vec<String>>)| -> Vec<Want> {
        log.iter().map(|cells| Want { client_port: *port, cells: cells.clone() }).collect()
    };
    ports.iter().zip(logs).flat_map(of).collect()
}

/// A command as another user, for servers that refuse to be root; as oneself if one is not root.
fn as_user(user: &str, program: &str) -> Command {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", program]);
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// What a row has to be: its columns, in the order in which its connection's rows come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Want {
    client_port: u16,
    cells: Vec<String>,
}

fn found(table: &'static str, columns: &[&str], wire: &Wire, faults: &Faults) -> (Rows, Vec<Want>) {
    let rows = Rows::of(table, &wire.rows(faults));
    let cells = |row| columns.iter().map(|column| rows.shown(row, column)).collect();
    let port = |row| u16::try_from(rows.int(row, "remote_port")).unwrap();
    // What the server says of its own accord has its row at once, an answer may wait for certainty.
    let found = in_time(&rows)
        .into_iter()
        .map(|row| Want { client_port: port(row), cells: cells(row) })
        .collect();
    (rows, found)
}

/// Rows by their times, as [`found`] has them.
fn in_time(rows: &Rows) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| rows.int(*row, "time_"));
    order
}

/// A document whatever the order of its keys and the writing of its numbers.
fn normal(text: &str) -> String {
    fn even(value: Json) -> Json {
        match value {
            Json::Number(number) => Json::from(number.as_f64()),
            Json::Array(all) => all.into_iter().map(even).collect(),
            Json::Object(all) => all.into_iter().map(|(key, value)| (key, even(value))).collect(),
            other => other,
        }
    }
    even(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))).to_string()
}

/// Whether a document is what was seen of another: without what was behind a hole.
fn is_part(whole: &Json, seen: &Json) -> bool {
    match (whole, seen) {
        (Json::Object(whole), Json::Object(seen)) => {
            seen.iter().all(|(key, seen)| whole.get(key).is_some_and(|whole| is_part(whole, seen)))
        }
        (Json::Array(whole), Json::Array(seen)) => {
            seen.len() <= whole.len()
                && whole.iter().zip(seen).all(|(whole, seen)| is_part(whole, seen))
        }
        (Json::String(whole), Json::String(seen)) => whole.starts_with(seen),
        _ => whole == seen,
    }
}

/// Every row is the one that the client's log has there, connection by connection.
fn check_equal(want: &[Want], found: &[Want]) {
    let mut ports: Vec<u16> = want.iter().map(|one| one.client_port).collect();
    ports.sort_unstable();
    ports.dedup();
    for port in ports {
        let of = |all: &[Want]| -> Vec<Want> {
            all.iter().filter(|one| one.client_port == port).cloned().collect()
        };
        let (want, found) = (of(want), of(found));
        for (idx, (want, found)) in want.iter().zip(&found).enumerate() {
            assert_eq!(found, want, "row {idx} of {port}");
        }
        assert_eq!(found.len(), want.len(), "rows of {port}");
    }
}

/// With losses no row is another's: all are in the log, in its order, or the beginning of one that is.
fn check_no_wrong(want: &[Want], found: &[Want], seed: u64) {
    check_in_order(want, found, seed, |one, row| {
        let is_executed = row.cells[0] == "Execute";
        // Nor of the columns whose description was not seen.
        let is_untyped = row.cells[1].starts_with("query=[] ")
            || row.cells[1].contains("=[\\x")
            || row.cells[2].starts_with("\\x");
        let mut cells = one.cells.iter().zip(&row.cells).enumerate();
        // Of a statement that was not seen the types are not known: values are bytes, as they came.
        cells.all(|(idx, (whole, seen))| {
            is_begun(whole, seen)
                || (is_executed && is_untyped && idx == 2)
                || (is_executed && idx == 2 && whole.lines().last() == seen.lines().last())
        })
    });
}

/// Every row is one of the log's, in its order, connection by connection.
fn check_in_order(want: &[Want], found: &[Want], seed: u64, is_it: impl Fn(&Want, &Want) -> bool) {
    let mut ports: Vec<u16> = found.iter().map(|one| one.client_port).collect();
    ports.sort_unstable();
    ports.dedup();
    for port in ports {
        let mut log = want.iter().filter(|one| one.client_port == port);
        for row in found.iter().filter(|one| one.client_port == port) {
            let is_there = log.any(|one| is_it(one, row));
            assert!(is_there, "seed {seed}: {row:?} is not in the log, or not there");
        }
    }
}

/// Whether a text is what was seen of another: its beginning, or with a statement that was not seen.
fn is_begun(whole: &str, seen: &str) -> bool {
    let values = |text: &str| text.split_once("] params=[").map(|(_, values)| values.to_string());
    let is_unknown = seen.starts_with("query=[] params=[");
    whole.starts_with(seen)
        || whole.starts_with(seen.trim_end_matches(']'))
        || (is_unknown && values(whole) == values(seen))
        || (is_unknown && values(seen).is_some_and(|values| values == "]"))
        || is_untyped(whole, seen)
}

/// Binary values are shown as bytes as long as nobody has said of what type they are.
fn is_untyped(whole: &str, seen: &str) -> bool {
    let parts = |text: &str| {
        let (statement, values) = text.split_once("params=[")?;
        Some((statement.to_string(), values.split(", ").map(str::to_string).collect::<Vec<_>>()))
    };
    let (Some((whole_of, whole)), Some((seen_of, seen))) = (parts(whole), parts(seen)) else {
        return false;
    };
    let is_it = |(whole, seen): (&String, &String)| {
        whole.starts_with(seen.trim_end_matches(']')) || seen.starts_with("\\x")
    };
    (whole_of == seen_of || seen_of == "query=[] ")
        && whole.len() >= seen.len()
        && whole.iter().zip(&seen).all(is_it)
}

/// What becomes of a wire, so many times: something lost here and there, and every third time joined midway.
fn losses(wire: &Wire, times: u64) -> impl Iterator<Item = Faults> {
    let (mut random, len) = (SplitMix(9), wire.len() as u64);
    (0..times).map(move |seed| {
        let joined_at = if seed % 3 == 0 { random.below(len / 2) as usize } else { 0 };
        Faults { seed, one_in: 40 + 200 * (seed % 4), joined_at }
    })
}

/// The same, so many times, with losses only.
fn holes(times: u64) -> impl Iterator<Item = Faults> {
    (0..times).map(|seed| Faults { seed, one_in: 40 + 200 * (seed % 4), joined_at: 0 })
}

/// The same, joined anywhere in its first half, as connections are that were open before, and nothing is lost.
fn joins(wire: &Wire, times: u64) -> impl Iterator<Item = Faults> {
    let (mut random, len) = (SplitMix(9), wire.len() as u64);
    (0..times).map(move |seed| {
        let joined_at = random.below(len / 2) as usize;
        Faults { seed: 100 + seed, one_in: 0, joined_at }
    })
}

/// Latencies are those that the client knows, where nobody had to wait for a processor.
fn check_apart(mut apart_ns: Vec<i64>) {
    apart_ns.sort_unstable();
    let apart_ns = apart_ns[apart_ns.len() / 4];
    assert!(apart_ns < 2_000_000, "latencies are {apart_ns} ns apart");
}
