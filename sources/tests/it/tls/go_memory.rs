//! Programs of Go whose memory moves, and whose memory is not what it should be: the kernel's programs read it, and then
//! the agent reads what they have read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use weir_types::{Clock, WallClock};

use super::go::build;
use super::grpc::Begun;
use super::{Capture, Place, Server, free_port, has, log_of};
use crate::rows_of::Rows;

const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/go_hostile");
const HARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/go_hard");
const CLOSING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/go_closing");
/// Connections of each kind there.
const CLOSED: usize = 20;
/// Of requests after capture has come, a connection.
const ROUNDS: usize = 12;

fn begun(place: &Place, program: &Path, port: u16) -> Begun {
    let mut command = Command::new(program);
    Begun::run(command.arg(place.path("")).arg(port.to_string()))
}

fn built(place: &Place) -> PathBuf {
    let program = place.path("hostile");
    build(Path::new(HOSTILE), &program, "local", &[]);
    program
}

/// Connections that are joined midway of a program whose tables of header fields lie, one kind of lie each; and the
/// program is killed in the midst of it. Each exchange is a row, and nothing of those tables is in any; the field of
/// the one connection whose table is true is there. Catches an address or a length that is believed, and a promised
/// table that is waited for without end.
#[test]
fn tables_that_lie() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    let program = built(&place);
    let port = free_port();
    begun(&place, &program, port).killed(port, &program);
    let port = free_port();
    let Some((mut capture, log)) = begun(&place, &program, port).joined(port, &program) else {
        return;
    };
    let rows = capture.rows();
    let (mut seen, mut known) = (BTreeSet::new(), [0, 0]);
    for row in 0..rows.len() {
        let (path, role) = (rows.text(row, "req_path"), rows.int(row, "trace_role"));
        assert_eq!(log.get(&path), Some(&(rows.int(row, "resp_status"), 0)), "{path}");
        for (which, column) in ["req_headers", "resp_headers"].into_iter().enumerate() {
            let headers = rows.text(row, column).to_lowercase();
            assert!(!headers.contains("evil"), "{path}: {headers}");
            known[which] += usize::from(headers.contains(r#""x-good":"yes""#));
        }
        assert!(seen.insert((path.clone(), role)), "twice: {path}");
    }
    assert_eq!(seen.len(), 2 * log.len(), "{}", capture.lost());
    // The first few may have come before their table was read.
    assert!(known.iter().all(|known| *known > ROUNDS), "{known:?}");
}

/// Connections that another goroutine closes while the one that has asked is within its call: as long as anybody
/// remembers the connection, what was asked is a row; afterwards it is lost and counted. Catches what is said over a
/// descriptor that is closed, of which nothing tells.
#[test]
fn closed_within_a_call() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    let (program, port) = (place.path("closing"), free_port());
    build(Path::new(CLOSING), &program, "local", &[]);
    let Some((mut capture, log)) = begun(&place, &program, port).joined(port, &program) else {
        return;
    };
    let rows = capture.rows();
    let seen: BTreeSet<(String, i64)> = (0..rows.len())
        .map(|row| (rows.text(row, "req_path"), rows.int(row, "trace_role")))
        .collect();
    let of = |name: &str, role: i64| {
        let paths = log.keys().filter(|path| path.starts_with(name));
        paths.filter(|path| seen.contains(&((*path).clone(), role))).count()
    };
    let (at_once, long_before) = (of("/at-once/", 1), of("/long-before/", 1));
    let lost = capture.source.counters().lost_records;
    eprintln!("{at_once} and {long_before} rows, {lost} records lost");
    assert_eq!(
        (of("/at-once/", 2), of("/long-before/", 2)),
        (CLOSED, CLOSED),
        "{}",
        capture.lost()
    );
    assert!(at_once > CLOSED / 2, "{}", capture.lost());
    assert_eq!(at_once + long_before + usize::try_from(lost).unwrap(), 2 * CLOSED);
}

fn hard(program: &Path, place: &Place, port: u16, role: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(place.path("")).arg(port.to_string()).arg(role);
    command
}

/// What was seen of each path: at the client, at the server; and what was not as it should be.
#[derive(Default)]
struct Seen(BTreeMap<String, [u32; 2]>, Vec<(String, (i64, i64))>);

impl Seen {
    fn take(&mut self, capture: &mut Capture) {
        let rows = Rows::of("http_events", &std::mem::take(&mut capture.batches));
        for row in 0..rows.len() {
            let (path, role) = (rows.text(row, "req_path"), rows.int(row, "trace_role"));
            let number: i64 = path.strip_prefix("/hard/").unwrap().parse().unwrap();
            let answer = (rows.int(row, "resp_status"), rows.int(row, "resp_body_size"));
            if answer != (200, number * 37 % 6_000) {
                self.1.push((path, answer)); // It is missing as it should be.
                continue;
            }
            self.0.entry(path).or_default()[role as usize - 1] += 1;
        }
    }
}

/// A Go server whose handlers write from stacks that have just grown, and whose memory is collected all the time, so
/// that they shrink again, and a client that asks it over old and new connections of HTTP/1.1 and HTTP/2. Catches
/// whatever Go ends a program for, and what is read of a stack that has moved.
#[test]
fn go_under_growing_stacks_and_collection() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    let (program, port) = (place.path("hard"), free_port());
    build(Path::new(HARD), &program, "local", &[]);
    let mut server = Server::run(&mut hard(&program, &place, port, "server"), port);
    let Some(mut capture) = Capture::of_port(port) else { return };
    capture.wait_until_probed(&program.to_string_lossy());
    let mut client = hard(&program, &place, port, "200");
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let began_ns = WallClock.monotonic_ns();
    // The long form is in CONTRIBUTING.md.
    let seconds = std::env::var("WEIR_TEST_GO_SECONDS").map_or(8, |text| text.parse().unwrap());
    let mut seen = Seen::default();
    while WallClock.monotonic_ns() - began_ns < seconds * 1_000_000_000 {
        capture.source.wait(Duration::from_millis(20));
        capture.drain();
        seen.take(&mut capture);
    }
    drop(client.stdin.take());
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "a request has failed");
    assert!(server.0.try_wait().unwrap().is_none(), "the server has ended");
    for _ in 0..10 {
        capture.source.wait(Duration::from_millis(20));
        capture.drain();
    }
    capture.batches.extend(capture.tracer.finish(WallClock.now_unix_ns()));
    seen.take(&mut capture);
    let log = log_of(&String::from_utf8(output.stdout).unwrap());
    assert!(
        seen.0.iter().all(|(path, ends)| log.contains_key(path) && ends.iter().all(|n| *n < 2))
    );
    let missing = |end: usize| -> Vec<&String> {
        let is_missing = |path: &&String| seen.0.get(*path).is_none_or(|ends| ends[end] == 0);
        log.keys().filter(is_missing).collect()
    };
    let missing = [missing(0), missing(1)];
    eprintln!(
        "{} requests answered; missing {}, {}",
        log.len(),
        missing[0].len(),
        missing[1].len()
    );
    // Of a thousand one may be missing, and what is counted.
    let count = missing[0].len() + missing[1].len();
    let lost = usize::try_from(capture.source.counters().lost_records).unwrap();
    let all = 2 * log.len();
    assert!(count * 1_000 <= all + lost * 1_000, "{missing:?} {:?} {}", seen.1, capture.lost());
}
