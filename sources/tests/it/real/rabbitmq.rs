//! RabbitMQ, with Pika.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use weir_sources::capture::Direction;

use super::*;

/// A script that ends with the server.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const OPERATIONS: u32 = 1_000;
/// Erlang, and a script before it: more than others on a busy machine.
const READY_NS: u64 = 180_000_000_000;
const COLUMNS: [&str; 8] = [
    "frame_type",
    "channel",
    "req_class_id",
    "req_method_id",
    "resp_class_id",
    "resp_method_id",
    "req_msg",
    "resp_msg",
];
const RESP_CLASS: usize = 4;
const REQUEST: usize = 6;
const RESPONSE: usize = 7;

/// The server, and Erlang's port mapper, which it leaves behind.
struct Broker {
    server: Option<Server>,
    mapper_port: String,
}

impl Broker {
    fn start(dir: &Path, port: u16) -> Broker {
        let (dir, mapper_port) = (dir.display(), free_port().to_string());
        let write = |name: &str, text: String| {
            let file = format!("{dir}/{name}");
            std::fs::write(&file, text).unwrap();
            file
        };
        let mut command = Command::new(PROGRAM);
        command
            .env("HOME", dir.to_string())
            .env("ERL_EPMD_PORT", &mapper_port)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("weir{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_MNESIA_BASE", format!("{dir}/mnesia"))
            .env("RABBITMQ_LOG_BASE", format!("{dir}/log"))
            .env("RABBITMQ_PID_FILE", format!("{dir}/pid"))
            .env("RABBITMQ_CONF_ENV_FILE", write("env", String::new()))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", write("plugins", "[].".to_string()))
            .env(
                "RABBITMQ_CONFIG_FILE",
                write("rabbitmq.conf", format!("listeners.tcp.1 = 127.0.0.1:{port}\n")),
            )
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            );
        let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        let server = Some(Server::start_within(READY_NS, &mut command, "-TERM", is_ready));
        Broker { server, mapper_port }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.server.take());
        let mut command = Command::new("epmd");
        let ended = command.env("ERL_EPMD_PORT", &self.mapper_port).arg("-kill").output();
        drop(ended);
    }
}

/// What a client says of a method.
struct Said {
    connection: usize,
    /// Who sent the last of it.
    by: String,
    begin_ns: i64,
    end_ns: i64,
    cells: Vec<String>,
}

fn client(port: u16, seed: u32) -> Vec<Said> {
    let text = python(
        "rabbitmq",
        "amqp.py",
        &[u32::from(port), seed, OPERATIONS].map(|arg| arg.to_string()),
    );
    let read = |line: &str| {
        let (connection, by, begin_ns, end_ns, cells) = serde_json::from_str(line).unwrap();
        Said { connection, by, begin_ns, end_ns, cells: normal_cells(cells) }
    };
    text.lines().map(read).collect()
}

fn normal_cells(mut cells: Vec<String>) -> Vec<String> {
    for idx in [REQUEST, RESPONSE] {
        if !cells[idx].is_empty() {
            cells[idx] = normal(&cells[idx]);
        }
    }
    cells
}

/// A row, and what it says of time.
struct Seen {
    row: Want,
    begin_ns: i64,
    end_ns: i64,
    by: &'static str,
}

fn seen(wire: &Wire, faults: &Faults) -> Vec<Seen> {
    let (rows, found) = found("amqp_events", &COLUMNS, wire, faults);
    let moved: HashMap<(u16, i64), Direction> =
        wire.pieces().map(|(port, direction, at_ns, _)| ((port, at_ns), direction)).collect();
    let with_times = |(idx, row): (usize, Want)| {
        let end_ns = rows.int(idx, "time_");
        let by = match moved.get(&(row.client_port, end_ns)) {
            Some(Direction::Ingress) => "client",
            Some(Direction::Egress) => "server",
            None => panic!("nothing was moved when {row:?} ended"),
        };
        let row = Want { cells: normal_cells(row.cells), ..row };
        Seen { row, begin_ns: end_ns - rows.int(idx, "latency"), end_ns, by }
    };
    in_time(&rows).into_iter().zip(found).map(with_times).collect()
}

/// What goes on beside it and is none of it: all of it is refused with the server's greeting.
fn foreign(port: u16) {
    let others: [&[u8]; 3] = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"AMQP\0\x01\0\0", &[0; 64]];
    for other in others {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(other).unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"AMQP\0\0\x09\x01");
    }
}

/// A thousand operations of every kind from each of two clients: every row is as the client knows it, in order, begins
/// and ends when it did for the client, and nothing else has one. With losses and joined midway none is another's.
#[test]
fn rabbitmq_and_its_client() {
    if is_missing("rabbitmq", &["python", PROGRAM]) {
        return;
    }
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let server = Broker::start(dir.path(), port);
    let relay = Relay::by_calls_of(WHOLE_BYTES, port);
    let logs = [1, 2].map(|seed| client(relay.port, seed));
    foreign(relay.port);
    drop(server);
    let wire = relay.finish();
    let rows = seen(&wire, &Faults::default());
    let mut ports: Vec<u16> = rows.iter().map(|one| one.row.client_port).collect();
    ports.dedup();
    let logs: Vec<Vec<Said>> = logs.into_iter().flat_map(by_connection).collect();
    assert_eq!(ports.len(), logs.len(), "each connection has rows, and nothing else has");
    let mut apart_ns = Vec::new();
    for (port, log) in ports.into_iter().zip(&logs) {
        let rows: Vec<&Seen> = rows.iter().filter(|one| one.row.client_port == port).collect();
        apart_ns.extend(check_log(log, &rows));
    }
    check_apart(apart_ns);
    assert!(rows.len() > 4 * OPERATIONS as usize, "{}", rows.len());
    check_with_losses(&wire, &rows, &logs);
}

fn by_connection(all: Vec<Said>) -> Vec<Vec<Said>> {
    let mut logs: Vec<Vec<Said>> = Vec::new();
    for one in all {
        logs.resize_with(logs.len().max(one.connection + 1), Vec::new);
        logs[one.connection].push(one);
    }
    logs
}

/// What each side completes is in its order; which of two sides was first is not the same at both ends. How far
/// latencies are apart.
fn check_log(log: &[Said], rows: &[&Seen]) -> Vec<i64> {
    let mut apart_ns = Vec::new();
    for by in ["client", "server"] {
        let said: Vec<&Said> = log.iter().filter(|said| said.by == by).collect();
        let seen: Vec<&&Seen> = rows.iter().filter(|seen| seen.by == by).collect();
        for (idx, (said, seen)) in said.iter().zip(&seen).enumerate() {
            assert_eq!(seen.row.cells, said.cells, "row {idx} by the {by}");
            let is_answered = said.cells[RESP_CLASS] != "0";
            let asked_by_client = (by == "client") != is_answered;
            let is_begun = is_in_step(asked_by_client, said.begin_ns, seen.begin_ns);
            let is_ended = is_in_step(by == "client", said.end_ns, seen.end_ns);
            assert!(is_begun && is_ended, "{:?} was at another time", seen.row);
            if is_answered {
                let latencies = [said.end_ns - said.begin_ns, seen.end_ns - seen.begin_ns];
                apart_ns.push((latencies[0] - latencies[1]).abs());
            }
        }
        assert_eq!(seen.len(), said.len(), "rows by the {by}");
    }
    apart_ns
}

/// What a client sends is moved afterwards, what it reads was moved before.
fn is_in_step(is_sent: bool, client_ns: i64, moved_ns: i64) -> bool {
    if is_sent { client_ns <= moved_ns } else { moved_ns <= client_ns }
}

/// Whatever is lost of what went over the wire, and wherever it is joined, no row is another's: there is one that began
/// at that time, with the same answer, or none. A request of which nobody sees that it wants an answer is one, too.
fn check_with_losses(wire: &Wire, want: &[Seen], logs: &[Vec<Said>]) {
    let unanswered: Vec<Want> = logs
        .iter()
        .flatten()
        .filter(|said| said.by == "nobody")
        .map(|said| Want { client_port: 0, cells: said.cells.clone() })
        .collect();
    let mut by_begin: HashMap<(u16, i64), Vec<&Want>> = HashMap::new();
    for one in want {
        by_begin.entry((one.row.client_port, one.begin_ns)).or_default().push(&one.row);
    }
    let mut all = 0;
    for faults in losses(wire, 20) {
        let found = seen(wire, &faults);
        all += found.len();
        for one in found {
            let begun = by_begin.get(&(one.row.client_port, one.begin_ns));
            let is_there = begun.is_some_and(|all| all.iter().any(|whole| is_it(whole, &one.row)))
                || unanswered.iter().any(|whole| is_it(whole, &one.row));
            assert!(is_there, "{faults:?}: {:?} is not in the log", one.row);
        }
    }
    assert!(all > 20 * want.len() / 4, "{all} of 20 times {}", want.len());
}

fn is_it(whole: &Want, seen: &Want) -> bool {
    let is_part_of = |idx: usize| {
        let read = |row: &Want| serde_json::from_str(&row.cells[idx]).unwrap_or_default();
        is_part(&read(whole), &read(seen))
    };
    let is_unanswered = seen.cells[RESP_CLASS] == "0";
    let [whole_of, seen_of] = [whole, seen].map(|row| &row.cells[..REQUEST]);
    whole_of[..RESP_CLASS] == seen_of[..RESP_CLASS]
        && is_part_of(REQUEST)
        && (is_unanswered || (whole_of == seen_of && is_part_of(RESPONSE)))
}
