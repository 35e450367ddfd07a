//! Programs of Go whose memory moves, and whose memory is not what it should be: the kernel's programs read it, and then
//! the agent reads what they have read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use weir_types::{Clock, WallClock};

use super::go::build;
use super::grpc::Begun;
use super::{Capture, Place, Server, free_port, has, log_of};

const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/go_hostile");
const HARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/go_hard");
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

fn hard(program: &Path, place: &Place, port: u16, role: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(place.path("")).arg(port.to_string()).arg(role);
    command
}

/// A Go server whose handlers write from stacks that have just grown, and whose memory is collected all the time, so
/// that they shrink again, and a client that asks it over old and new connections of HTTP/1.1 and HTTP/2: all is
/// answered, and both are read all the while. Catches whatever Go ends a program for.
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
    let mut rows = 0;
    let mut count = |capture: &mut Capture| {
        let http = capture.batches.drain(..).filter(|(table, _)| *table == "http_events");
        rows += http.map(|(_, batch)| batch.num_rows()).sum::<usize>();
    };
    while WallClock.monotonic_ns() - began_ns < seconds * 1_000_000_000 {
        capture.source.wait(Duration::from_millis(20));
        capture.drain();
        count(&mut capture);
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
    count(&mut capture);
    let log = log_of(&String::from_utf8(output.stdout).unwrap());
    eprintln!("{} requests answered, {rows} rows of both ends, {}", log.len(), capture.lost());
    // What each row says is for other tests.
    assert!(rows * 10 > 2 * log.len() * 9, "{rows} rows of {} requests", log.len());
}
