//! A server of MongoDB's wire protocol, with PyMongo.

use std::net::TcpStream;

use super::*;

const OPERATIONS: u32 = 1_000;
const COLUMNS: [&str; 4] = ["req_cmd", "req_body", "resp_status", "resp_body"];
/// What the library says of its own accord.
const OWN: [&str; 4] = ["hello", "ismaster", "isMaster", "endSessions"];

fn server(port: u16) -> Server {
    let mut command = Command::new("java");
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(cache("mongodb/lib").join("*"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/real/Mongodb.java"));
    command.arg(port.to_string());
    Server::start(&mut command, "-TERM", || TcpStream::connect(("127.0.0.1", port)).is_ok())
}

/// What a client says that there has to be.
fn client(port: u16, seed: u32) -> Vec<Vec<String>> {
    let args = [u32::from(port), seed, OPERATIONS].map(|arg| arg.to_string());
    let text = python("mongodb", "mongodb.py", &args);
    text.lines().map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

fn normal_row(row: &Want) -> Want {
    let mut cells = row.cells.clone();
    for idx in [1, 3] {
        cells[idx] = normal(&cells[idx]);
    }
    Want { client_port: row.client_port, cells }
}

/// A thousand operations of every kind on each of two connections: every row is as the client knows it, in order. With
/// losses and joined midway none is another's.
#[test]
fn a_mongodb_server_and_its_client() {
    if is_missing("mongodb", &JARS_AND_PYTHON) {
        return;
    }
    let port = free_port();
    let server = server(port);
    let relay = Relay::to(port);
    let logs: Vec<_> = [1, 2].map(|seed| client(relay.port, seed)).into();
    drop(server);
    let wire = relay.finish();
    let (_, all) = found("mongodb_events", &COLUMNS, &wire, &Faults::default());
    let is_own = |one: &&Want| OWN.contains(&one.cells[0].as_str());
    assert!(all.iter().any(|row| is_own(&row)));
    let asked: Vec<Want> = all.iter().filter(|one| !is_own(one)).map(normal_row).collect();
    let want: Vec<Want> = want_of(&asked, &logs).iter().map(normal_row).collect();
    assert!(want.len() > 2 * OPERATIONS as usize);
    check_equal(&want, &asked);
    check_with_losses(&wire, &all);
}

/// Whether a row is what was seen of another one: what became of it may be unknown.
fn is_it(whole: &Want, seen: &Want) -> bool {
    let is_part_of = |idx: usize| {
        let read = |row: &Want| serde_json::from_str(&row.cells[idx]).unwrap_or_default();
        is_part(&read(whole), &read(seen))
    };
    let is_status = seen.cells[2].is_empty() || seen.cells[2] == whole.cells[2];
    seen.cells[0] == whole.cells[0] && is_status && is_part_of(1) && is_part_of(3)
}

/// Whatever is lost of what went over the wire, and wherever it is joined, no row is another's.
fn check_with_losses(wire: &Wire, want: &[Want]) {
    let mut all = 0;
    for faults in losses(wire, 30) {
        let (_, found) = found("mongodb_events", &COLUMNS, wire, &faults);
        check_in_order(want, &found, faults.seed, is_it);
        all += found.len();
    }
    assert!(all > 30 * want.len() / 2, "{all} of 30 times {}", want.len());
}
