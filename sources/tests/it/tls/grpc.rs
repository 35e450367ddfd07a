//! gRPC over TLS: grpc-go at both ends, unary calls and streams, and a connection that is joined midway.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use weir_sources::ebpf::EbpfConfig;

use super::go::build;
use super::{Capture, Form, Log, Place, Server, check_as, free_port, has, is_of, log_of};
use crate::rows_of::Rows;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/grpc");
/// Calls of each of three kinds.
const CALLS: usize = 200;

/// The client's log names a call by its method, its number, its end, and the bytes that it asked.
const GRPC: Form = Form { major: 2, encrypted: true, key };

pub(super) fn key(rows: &Rows, row: usize) -> String {
    let headers = |column: &str| -> serde_json::Value {
        serde_json::from_str(&rows.text(row, column)).unwrap()
    };
    let (asked, answered) = (headers("req_headers"), headers("resp_headers"));
    assert_eq!(rows.int(row, "content_type"), 2);
    assert_eq!(rows.text(row, "req_method"), "POST");
    let number = asked["x-id"].as_str().unwrap_or("none");
    let end = answered["grpc-status"].as_str().unwrap_or("none");
    let path = rows.text(row, "req_path");
    format!("{path}#{number}={end}/{}", rows.int(row, "req_body_size"))
}

fn built(place: &Place, name: &str, flags: &[&str]) -> PathBuf {
    let program = place.path(name);
    build(Path::new(SOURCE), &program, "local", flags);
    program
}

fn server(place: &Place, program: &Path, port: u16) -> Server {
    let mut server = Command::new(program);
    Server::run(server.arg(place.path("")).arg(port.to_string()).arg("server"), port)
}

fn pair_of(place: &Place, program: &Path) {
    let port = free_port();
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = server(place, program, port);
    capture.wait_until_probed(&program.to_string_lossy());
    let mut client = Command::new(program);
    client.arg(place.path("")).arg(port.to_string()).args(["client", &CALLS.to_string()]);
    let log = log_of(&capture.watch(&mut client));
    assert_eq!(log.len(), 3 * CALLS);
    check_as(&GRPC, &mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// Unary calls, some of them refused without a message, and streams of messages in one and both directions, all at
/// once on one connection. Catches trailers that are taken for answers, and messages that are counted elsewhere.
#[test]
fn grpc_go_with_symbols_and_without() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    pair_of(&place, &built(&place, "grpc", &[]));
    pair_of(&place, &built(&place, "stripped", &["-ldflags=-s -w"]));
}

/// A client that has made calls, and waits to go on.
pub(super) struct Begun {
    client: Child,
    output: BufReader<ChildStdout>,
}

impl Begun {
    pub(super) fn run(client: &mut Command) -> Begun {
        let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(client.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Begun { client, output }
    }

    /// Has it go on once the program is probed, and kills it before it is done.
    pub(super) fn killed(mut self, port: u16, program: &Path) {
        let Some(mut capture) = Capture::of_port(port) else {
            self.client.kill().unwrap();
            self.client.wait().unwrap();
            return;
        };
        capture.wait_until_probed(&program.to_string_lossy());
        self.client.stdin.take().unwrap().write_all(b"go\n").unwrap();
        self.client.kill().unwrap();
        self.client.wait().unwrap();
        capture.rows();
    }

    /// Has it go on once the program is probed, to its end; and the capture with its log.
    pub(super) fn joined(mut self, port: u16, program: &Path) -> Option<(Capture, Log)> {
        // Where nothing is lost also on a machine that has other things to do: long calls are copied in part while
        // the ring is half full.
        let config = EbpfConfig { ring_bytes: 128 << 20, ..EbpfConfig::default() };
        let Some(mut capture) = Capture::with(port, config) else {
            self.client.kill().unwrap();
            self.client.wait().unwrap();
            return None;
        };
        capture.wait_until_probed(&program.to_string_lossy());
        let mut output = self.output;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            text
        });
        self.client.stdin.take().unwrap().write_all(b"go\n").unwrap();
        capture.watch_child(&mut self.client);
        let log = log_of(&reader.join().unwrap());
        Some((capture, log))
    }
}

fn joined(place: &Place, program: &Path) {
    let port = free_port();
    let server = server(place, program, port);
    let mut client = Command::new(program);
    client.arg(place.path("")).arg(port.to_string()).args(["client", "200", "30"]);
    let Some((mut capture, log)) = Begun::run(&mut client).joined(port, program) else { return };
    assert_eq!(log.len(), 3 * CALLS);
    let rows = capture.rows();
    let cut = capture.lost_of("gap") + capture.lost_of("truncated");
    check_joined(&rows, &log, server.pid(), cut);
}

/// Of a connection that calls were made on before anybody watched, the table of header fields is read where the
/// program keeps it, so the first calls that are seen are known as the client knows them; what is not known says so.
/// Catches fields of another call, and rows of none.
#[test]
fn grpc_joined_midway() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    joined(&place, &built(&place, "grpc", &[]));
    joined(&place, &built(&place, "stripped", &["-ldflags=-s -w"]));
}

/// A call by what is always known of it: bytes asked, bytes answered.
fn sizes(log: &Log) -> BTreeMap<(i64, i64), Vec<&String>> {
    let mut sizes: BTreeMap<(i64, i64), Vec<&String>> = BTreeMap::new();
    for (key, (_, answered)) in log {
        let asked = key.rsplit('/').next().unwrap().parse().unwrap();
        sizes.entry((asked, *answered)).or_default().push(key);
    }
    sizes
}

/// `cut`: so many rows are told to lack something, as parts of long calls where the machine did not keep up.
fn check_joined(rows: &Rows, log: &Log, server: u32, cut: u64) {
    let sizes = sizes(log);
    let mut shorter = 0;
    let mut seen: BTreeMap<(i64, i64, i64), usize> = BTreeMap::new();
    let mut known = [BTreeSet::new(), BTreeSet::new()];
    for row in 0..rows.len() {
        let (role, path) = (rows.int(row, "trace_role"), rows.text(row, "req_path"));
        assert_eq!(is_of(rows.upid(row).pid(), server), role == 2);
        assert!(rows.bool(row, "encrypted"));
        let size = (rows.int(row, "req_body_size"), rows.int(row, "resp_body_size"));
        let Some(could_be) = sizes.get(&size) else {
            shorter += 1;
            assert!(shorter <= cut, "no call of {size:?}: {path}, {cut} are told to be cut");
            continue;
        };
        *seen.entry((role, size.0, size.1)).or_default() += 1;
        let is_known = |column: &str| !rows.text(row, column).contains("<unknown>");
        if ["req_path", "req_headers", "resp_headers"].into_iter().all(is_known) {
            let key = key(rows, row);
            assert_eq!(log.get(&key), Some(&(rows.int(row, "resp_status"), size.1)), "{key}");
            assert!(known[role as usize - 1].insert(key), "twice");
            continue;
        }
        assert!([0, 200].contains(&rows.int(row, "resp_status")), "{path}");
        let is_one = |key: &&String| path == "<unknown>" || key.starts_with(&format!("{path}#"));
        assert!(could_be.iter().any(is_one), "{path} is none of {could_be:?}");
    }
    for ((_, asked, answered), count) in seen {
        assert!(count <= sizes[&(asked, answered)].len(), "{asked} and {answered}: {count} times");
    }
    let all = 2 * log.len();
    assert!(rows.len() * 1_000 >= all * 999 && rows.len() <= all, "{} of {all}", rows.len());
    // All, unless the machine was so busy that a table came later than it is waited for.
    let known = known.map(|known| known.len());
    assert!(known.iter().all(|known| known * 10 >= log.len() * 9), "{known:?}");
}
