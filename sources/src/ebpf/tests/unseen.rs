//! Bytes that no traced call moves: by io_uring, over the same connection as traced calls.

use std::collections::BTreeMap;

use io_uring::{IoUring, opcode, squeue, types::Fd};
use weir_types::batch::value_at;
use weir_types::{Clock, RecordBatch, Value, WallClock, tables};

use super::calls::{iov, mmsg};
use super::*;
use crate::socket::{SocketTracer, SocketTracerConfig};

/// Moves bytes without the system calls that are traced; `None` (said on stderr) where it may not.
pub(super) struct Ring(pub(super) IoUring);

impl Ring {
    pub(super) fn new() -> Option<Ring> {
        match IoUring::new(4) {
            Ok(ring) => Some(Ring(ring)),
            Err(error) => {
                weir_types::testing::skipped(format!("io_uring_setup: {error}"));
                None
            }
        }
    }
    pub(super) fn one(&mut self, entry: &squeue::Entry) -> usize {
        // SAFETY: the entry's buffer outlives this call, which waits for its completion.
        unsafe { self.0.submission().push(entry).unwrap() };
        self.0.submit_and_wait(1).unwrap();
        let result = self.0.completion().next().unwrap().result();
        usize::try_from(result).unwrap()
    }
    /// Whether the kernel has this operation.
    pub(super) fn has(&self, operation: u8) -> bool {
        let mut probe = io_uring::Probe::new();
        self.0.submitter().register_probe(&mut probe).is_ok() && probe.is_supported(operation)
    }
    fn send(&mut self, socket: &TcpStream, bytes: &[u8]) {
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32);
        assert_eq!(self.one(&entry.build()), bytes.len());
    }
    fn receive(&mut self, socket: &TcpStream, count: usize) {
        let mut buffer = vec![0; count];
        let mut got = 0;
        while got < count {
            let rest = &mut buffer[got..];
            let fd = Fd(socket.as_raw_fd());
            let entry = opcode::Recv::new(fd, rest.as_mut_ptr(), rest.len() as u32);
            let received = self.one(&entry.build());
            assert!(received > 0);
            got += received;
        }
    }
}

fn gaps(seen: &[Seen], local: SocketAddr, way: Direction) -> Vec<(u64, u64)> {
    let of_this = seen.iter().filter(|event| event.is_from(local));
    of_this
        .filter_map(|event| match event.what {
            What::Gap { direction, position, bytes } if direction == way => Some((position, bytes)),
            _ => None,
        })
        .collect()
}

/// What io_uring moved before a traced call is a gap of that size in front of it, in each direction
/// on its own, and closing counts what came last. Catches bytes that are missing in positions, so
/// that the parser would join what does not belong together.
fn check_positions(listen_on: &str, build: Build) {
    let listener = TcpListener::bind(listen_on).unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(mut source) = start(&EbpfConfig { build, io_uring: false, ..follow_port(port) })
    else {
        return;
    };
    let Some(mut ring) = Ring::new() else { return };
    let mut pair = Pair::connect(&listener);
    // The first bytes of a connection whose opening was seen are known as well.
    ring.send(&pair.client, b"0123456");
    pair.client.write_all(b"written").unwrap();
    ring.receive(&pair.server, 3);
    let mut rest = [0; 11];
    pair.server.read_exact(&mut rest).unwrap();
    for _ in 0..2 {
        ring.send(&pair.client, &[b'x'; 1000]);
        ring.receive(&pair.server, 1000);
    }
    pair.say("said");
    ring.send(&pair.server, b"last words");
    let (client, server) = (pair.client_addr, pair.server_addr);
    drop(pair);
    let seen = drain(&mut source);
    assert_eq!(gaps(&seen, client, Direction::Egress), [(0, 7), (14, 2000)]);
    assert_eq!(gaps(&seen, server, Direction::Ingress), [(0, 3), (14, 2000)]);
    assert_eq!(gaps(&seen, server, Direction::Egress), []);
    assert_eq!(
        data(&seen, client, Direction::Egress),
        [(7, 7, b"written".to_vec()), (2014, 4, b"said".to_vec())]
    );
    assert_eq!(
        data(&seen, server, Direction::Ingress),
        [(3, 11, b"3456written".to_vec()), (2014, 4, b"said".to_vec())]
    );
    let closes: BTreeMap<bool, What> = seen
        .iter()
        .filter(|event| matches!(event.what, What::Close { .. }))
        .map(|event| (event.is_from(client), event.what.clone()))
        .collect();
    assert_eq!(closes[&true], What::Close { last: true, egress: 2018, ingress: 0 });
    assert_eq!(closes[&false], What::Close { last: true, egress: 10, ingress: 2018 });
    assert_eq!(source.counters().unseen_bytes, 2007 + 2003 + 10);
}

#[test]
fn io_uring_is_a_gap_of_known_size() {
    check_positions("127.0.0.1:0", Build::Linux6_2);
    check_positions("[::1]:0", Build::Linux6_2);
}

#[test]
fn io_uring_is_a_gap_of_known_size_on_5_15() {
    check_positions("127.0.0.1:0", Build::Linux5_15);
}

#[test]
fn io_uring_is_a_gap_of_known_size_on_5_8() {
    check_positions("127.0.0.1:0", Build::Linux5_8);
}

/// The end of a stream has a sequence number too, calls of several messages count at their end, and
/// a connection that is older than the capture begins anywhere: none of it is a gap.
#[test]
fn what_is_no_gap() {
    let listener = listen();
    let old = Pair::connect(&listener);
    (&old.client).write_all(b"before the capture").unwrap();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    for stream in [&old.client, &pair.client] {
        let mut parts: Vec<libc::iovec> = (0..40).map(|_| iov(b"message")).collect();
        let mut messages = mmsg(&mut parts);
        // SAFETY: the messages and their parts outlive the call.
        let sent = unsafe { libc::sendmmsg(stream.as_raw_fd(), messages.as_mut_ptr(), 40, 0) };
        assert_eq!(sent, 40);
    }
    pair.client.write_all(b"end").unwrap();
    pair.client.shutdown(std::net::Shutdown::Write).unwrap();
    // The end arrives while the bytes before it still wait, and is read with them.
    let mut all = vec![0; 283];
    let mut server = &pair.server;
    assert_eq!(server.peek(&mut all).unwrap(), 283);
    let mut waits = [0; 300];
    // SAFETY: the buffer outlives the call.
    let got = unsafe {
        let flags = libc::MSG_WAITALL;
        libc::recv(pair.server.as_raw_fd(), waits.as_mut_ptr().cast(), 300, flags)
    };
    assert_eq!(got, 283);
    server.write_all(b"answer").unwrap();
    pair.client.read_exact(&mut all[..6]).unwrap();
    let (old_addr, client) = (old.client_addr, pair.client_addr);
    let server = pair.server_addr;
    drop((old, pair));
    let seen = drain(&mut source);
    // Messages beyond the 32nd are a gap: they were not looked at.
    assert_eq!(gaps(&seen, client, Direction::Egress), [(32 * 7, 8 * 7)]);
    assert_eq!(gaps(&seen, old_addr, Direction::Egress), []);
    assert_eq!(gaps(&seen, server, Direction::Ingress), []);
    assert_eq!(data(&seen, old_addr, Direction::Egress).first().unwrap().0, 0);
    // The old connection's last messages were found when it closed.
    assert_eq!(source.counters().unseen_bytes, 2 * 8 * 7);
}

/// A conversation of which each message may go by a traced call or by io_uring, at either end.
struct Talk {
    pair: Pair,
    ring: Ring,
    ring_bytes: u64,
    /// Paths whose request and response both went by traced calls: at the client, at the server.
    whole: [Vec<String>; 2],
}

impl Talk {
    fn move_bytes(&mut self, by_ring: bool, is_send: bool, client: bool, bytes: &[u8]) {
        let mut stream = if client { &self.pair.client } else { &self.pair.server };
        self.ring_bytes += if by_ring { bytes.len() as u64 } else { 0 };
        match (by_ring, is_send) {
            (true, true) => self.ring.send(stream, bytes),
            (true, false) => self.ring.receive(stream, bytes.len()),
            (false, true) => stream.write_all(bytes).unwrap(),
            (false, false) => stream.read_exact(&mut vec![0; bytes.len()]).unwrap(),
        }
    }

    /// One exchange; the bits of `by_ring` say who goes by io_uring: the client's send, the server's
    /// receive, the server's send, the client's receive.
    fn exchange(&mut self, path: &str, by_ring: u32) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let length = path.len();
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{path}"
        );
        let ring = |bit: u32| by_ring & 1 << bit != 0;
        self.move_bytes(ring(0), true, true, request.as_bytes());
        self.move_bytes(ring(1), false, false, request.as_bytes());
        self.move_bytes(ring(2), true, false, response.as_bytes());
        self.move_bytes(ring(3), false, true, response.as_bytes());
        for (end, whole) in [(0, !ring(0) && !ring(3)), (1, !ring(1) && !ring(2))] {
            if whole {
                self.whole[end].push(path.to_string());
            }
        }
    }
}

fn column(batches: &[(&'static str, RecordBatch)], table: &str, name: &str) -> Vec<Value> {
    let relation = tables::relation(table).unwrap();
    let idx = relation.index_of(name).unwrap();
    let of_table = batches.iter().filter(|(found, _)| *found == table);
    of_table
        .flat_map(|(_, batch)| {
            (0..batch.num_rows()).map(move |row| {
                value_at(batch.column(idx), relation.columns[idx].data_type, row).unwrap()
            })
        })
        .collect()
}

pub(super) fn text_column(
    batches: &[(&'static str, RecordBatch)],
    table: &str,
    name: &str,
) -> Vec<String> {
    let text = |value| match value {
        Value::String(text) => String::from_utf8(text).unwrap(),
        other => panic!("{other:?}"),
    };
    column(batches, table, name).into_iter().map(text).collect()
}

pub(super) fn int_column(
    batches: &[(&'static str, RecordBatch)],
    table: &str,
    name: &str,
) -> Vec<i64> {
    let int = |value| match value {
        Value::Int64(int) => int,
        other => panic!("{other:?}"),
    };
    column(batches, table, name).into_iter().map(int).collect()
}

/// (seen at the client, path, response body)
fn rows(batches: &[(&'static str, RecordBatch)]) -> Vec<(bool, String, String)> {
    let roles = int_column(batches, "http_events", "trace_role");
    let paths = text_column(batches, "http_events", "req_path");
    let bodies = text_column(batches, "http_events", "resp_body");
    let rows = roles.into_iter().zip(paths).zip(bodies);
    rows.map(|((role, path), body)| (role == 1, path, body)).collect()
}

/// HTTP over one connection that mixes traced calls and io_uring in every way: each row pairs a
/// request with its own response, both of them seen; and once only traced calls are used, every
/// exchange is a row again. Catches a wrong pair behind bytes that nobody saw.
#[test]
fn http_through_io_uring_gives_no_wrong_row() {
    let listener = listen();
    let port = listener.local_addr().unwrap().port();
    let config = EbpfConfig { io_uring: false, ..follow_port(port) };
    let Some(mut source) = start(&config) else { return };
    let Some(ring) = Ring::new() else { return };
    let pair = Pair::connect(&listener);
    let mut talk = Talk { pair, ring, ring_bytes: 0, whole: Default::default() };
    for n in 0..8 {
        talk.exchange(&format!("/first/{n}"), 0);
    }
    for n in 0..256_u32 {
        // All sixteen ways, each after each other one.
        talk.exchange(&format!("/mixed/{n}"), if n % 2 == 0 { n / 2 % 16 } else { n / 32 });
    }
    for n in 0..100 {
        talk.exchange(&format!("/last/{n}"), 0);
    }
    let Talk { pair, whole, ring_bytes, .. } = talk;
    drop(pair);
    let mut tracer = SocketTracer::new(SocketTracerConfig::default());
    while source.drain(&mut |event| tracer.on_event(&event)).more {}
    let batches = tracer.finish(WallClock.now_unix_ns());
    assert_eq!(source.counters().unseen_bytes, ring_bytes);
    let rows = rows(&batches);
    for (at_client, path, body) in &rows {
        assert_eq!(path, body, "a wrong pair");
        assert!(whole[usize::from(!at_client)].contains(path), "{path} was not seen whole");
    }
    for at_client in [true, false] {
        let of_end = |prefix: &str| {
            rows.iter().filter(|(at, path, _)| *at == at_client && path.starts_with(prefix)).count()
        };
        assert_eq!(of_end("/first/"), 8, "{rows:?}");
        // The first one may still be in doubt.
        assert!(of_end("/last/") >= 99, "{rows:?}");
        assert!(of_end("/mixed/") > 0, "pairing never began again in between: {rows:?}");
    }
    let unpaired: u64 = tracer
        .counters()
        .iter()
        .map(|table| table.lost_for("unpaired") + table.lost_for("gap"))
        .sum();
    assert!(unpaired > 0, "messages without their other half are counted");
}
