//! The socket tracer with made-up events: connections, roles, processes, bounds, statistics.

use std::collections::HashMap;
use std::net::SocketAddr;

use weir_sources::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Family, IN_PROGRESS, Liveness, LostCounts, Opened,
    Process, ProcessEvent, Socket, SocketEvent, SocketLoss, SocketType,
};
use weir_sources::conn::{StopCopying, TrackerLimits};
use weir_sources::socket::{SocketTracer, SocketTracerConfig, TEST_PANIC_TOKEN};
use weir_types::{RecordBatch, Upid};

use crate::rows_of::Rows;

mod charged;
mod encrypted;
mod handed_over;

const SECOND_NS: i64 = 1_000_000_000;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
const NGINX: Process = Process { pid: 10, start_ticks: 100 };
const WRK: Process = Process { pid: 20, start_ticks: 200 };

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

fn socket(id: u64, opened: Opened, local: &str, remote: &str) -> Socket {
    Socket {
        key: ConnKey { sock: 0xffff_0000 + id, inode: id, generation: 0 },
        family: Family::Inet,
        socket_type: SocketType::Stream,
        opened,
        local: address(local),
        remote: address(remote),
        netns: 1,
    }
}

/// The server's end of a connection from client port `port`.
fn server_end(port: u16) -> Socket {
    let opened = Opened::Accepted;
    socket(u64::from(port), opened, "127.0.0.1:80", &format!("127.0.0.1:{port}"))
}

/// A tracer, a clock, and positions per socket and direction.
struct Net {
    tracer: SocketTracer,
    now_ns: i64,
    /// How far the wall clock has been set ahead of the kernel's.
    wall_ahead_ns: i64,
    positions: HashMap<(ConnKey, Direction), u64>,
    batches: Vec<(&'static str, RecordBatch)>,
}

impl Net {
    fn new() -> Net {
        Net::with(SocketTracerConfig::default())
    }
    fn with(config: SocketTracerConfig) -> Net {
        let config = SocketTracerConfig { asid: 7, own_upid: Upid::new(7, 1, 1), ..config };
        let tracer = SocketTracer::new(config);
        Net {
            tracer,
            now_ns: SECOND_NS,
            wall_ahead_ns: 0,
            positions: HashMap::new(),
            batches: Vec::new(),
        }
    }
    fn at(&self, socket: Socket, process: Process) -> SocketEvent {
        SocketEvent { time_unix_ns: self.now_ns, process, cgroup_id: 0, fd: 5, socket }
    }
    fn move_on(&mut self, socket: Socket, direction: Direction, bytes: usize) -> u64 {
        self.now_ns += 1_000;
        let position = self.positions.entry((socket.key, direction)).or_insert(0);
        let before = *position;
        *position += bytes as u64;
        before
    }
    /// What a call moved from there on, as much of it as is copied.
    fn moved<'b>(
        &self,
        (socket, process): (Socket, Process),
        direction: Direction,
        position: u64,
        bytes: &'b [u8],
    ) -> DataEvent<'b> {
        DataEvent {
            time_unix_ns: self.now_ns,
            process,
            cgroup_id: 0,
            fd: 5,
            socket,
            direction,
            position,
            total_bytes: bytes.len() as u32,
            payload: &bytes[..bytes.len().min(30_720)],
        }
    }
    fn data(&mut self, socket: Socket, process: Process, direction: Direction, bytes: &[u8]) {
        let position = self.move_on(socket, direction, bytes.len());
        let moved = self.moved((socket, process), direction, position, bytes);
        self.tracer.on_event(&CaptureEvent::Data(moved));
    }
    fn read(&mut self, socket: Socket, process: Process, text: &str) {
        self.data(socket, process, Direction::Ingress, text.as_bytes());
    }
    fn write(&mut self, socket: Socket, process: Process, text: &str) {
        self.data(socket, process, Direction::Egress, text.as_bytes());
    }
    fn close(&mut self, socket: Socket, process: Process, last: bool) {
        let at = self.at(socket, process);
        let event = CaptureEvent::Close { at, last, egress_bytes: 0, ingress_bytes: 0 };
        self.tracer.on_event(&event);
    }
    fn exit(&mut self, process: Process) {
        let at = ProcessEvent {
            time_unix_ns: self.now_ns,
            process,
            parent_pid: 1,
            cgroup_id: 0,
            comm: [0; 16],
        };
        self.tracer.on_event(&CaptureEvent::Exit { at, exit_code: 0 });
    }
    /// Time passes as it does in a node: in many small steps.
    fn flush_after(&mut self, ns: i64) {
        let end_ns = self.now_ns + ns;
        loop {
            self.now_ns = end_ns.min(self.now_ns + SECOND_NS);
            let batches = self.tracer.flush(self.now_ns + self.wall_ahead_ns);
            self.batches.extend(batches);
            if self.now_ns == end_ns {
                return;
            }
        }
    }
    fn rows(&mut self, table: &'static str) -> Rows {
        self.flush_after(1_000);
        Rows::of(table, &self.batches)
    }
    fn stopped(&mut self) -> Vec<ConnKey> {
        self.tracer.take_stop_copying().into_iter().map(|stop| stop.key).collect()
    }
    fn unpaired(&self) -> u64 {
        let counters = &self.tracer.counters()[0];
        counters.lost_for("unpaired") + counters.lost_for("gap") + counters.unanswered
    }
}

/// Both ends of a loopback connection are seen: two sockets, two rows, one for each role.
#[test]
fn each_end_gives_a_row() {
    let mut net = Net::new();
    let server = server_end(4000);
    let client = socket(99, Opened::Connected, "127.0.0.1:4000", "127.0.0.1:80");
    net.write(client, WRK, &get("/x"));
    net.read(server, NGINX, &get("/x"));
    net.write(server, NGINX, OK);
    net.read(client, WRK, OK);
    let rows = net.rows("http_events");
    assert_eq!(rows.ints("trace_role"), [2, 1]);
    assert_eq!(rows.upid(0), Upid::new(7, 10, 100));
    assert_eq!(rows.upid(1), Upid::new(7, 20, 200));
    assert_eq!(rows.ints("remote_port"), [4000, 80]);
    assert_eq!(rows.ints("local_port"), [80, 4000]);
    assert_eq!(rows.ints("latency"), [1_000, 3_000]);
    assert_eq!(rows.ints("time_"), [SECOND_NS + 3_000, SECOND_NS + 4_000]);
    assert_eq!(rows.ints("resp_body_size"), [2, 2]);
}

/// First bytes: an answer's time is when it began, however slowly its body follows, and the latency
/// goes from a chunked request's first byte to there. Catches downloads whose length is their latency.
#[test]
fn times_are_those_of_first_bytes() {
    let mut net = Net::new();
    let server = server_end(4000);
    let head = "POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for piece in [head, "2\r\nab\r\n", "0\r\n\r\n"] {
        net.read(server, NGINX, piece);
        net.now_ns += SECOND_NS;
    }
    // An interim answer is not the answer.
    net.write(server, NGINX, "HTTP/1.1 103 Early Hints\r\n\r\n");
    net.now_ns += SECOND_NS;
    let began_ns = net.now_ns + 1_000;
    net.write(server, NGINX, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    for _ in 0..2 {
        net.flush_after(SECOND_NS);
        net.write(server, NGINX, "ab");
    }
    let rows = net.rows("http_events");
    assert_eq!(rows.ints("time_"), [began_ns]);
    assert_eq!(rows.ints("latency"), [4 * SECOND_NS + 4_000]);
    assert_eq!(rows.ints("resp_body_size"), [4]);
}

/// 10,000 requests over 16 keep-alive connections give exactly 10,000 server rows, none lost.
#[test]
fn ten_thousand_requests_ten_thousand_rows() {
    let mut net = Net::new();
    for idx in 0..10_000u32 {
        let socket = server_end(5000 + (idx % 16) as u16);
        net.read(socket, NGINX, &get(&format!("/{idx}")));
        net.write(socket, NGINX, &OK.replace("200", if idx % 7 == 0 { "404" } else { "200" }));
        if idx % 512 == 0 {
            net.flush_after(0);
        }
    }
    let rows = net.rows("http_events");
    assert_eq!(rows.len(), 10_000);
    for row in 0..rows.len() {
        let idx: u32 = rows.text(row, "req_path")[1..].parse().unwrap();
        assert_eq!(rows.int(row, "resp_status"), if idx.is_multiple_of(7) { 404 } else { 200 });
        assert_eq!(rows.int(row, "trace_role"), 2);
    }
    let counters = net.tracer.counters();
    assert_eq!((counters[0].rows, counters[0].unanswered), (10_000, 0));
    assert!(counters.iter().all(|table| table.lost.iter().all(|(_, lost)| *lost == 0)));
    assert!(net.batches.iter().all(|(_, batch)| batch.num_rows() <= 8192));
}

/// At saturation events are lost at random: no row is invented, none has the wrong status, and
/// every request that is missing lost an event or was counted.
#[test]
fn losses_are_counted_and_invent_nothing() {
    let mut net = Net::new();
    let (mut lost, mut random) = (0u64, weir_types::random::SplitMix(12_345));
    for idx in 0..20_000u32 {
        let socket = server_end(5000 + (idx % 16) as u16);
        let status = 200 + idx % 300;
        let answer = OK.replace("200", &status.to_string());
        for (direction, text) in
            [(Direction::Ingress, get(&format!("/{idx}"))), (Direction::Egress, answer)]
        {
            if random.below(20) == 0 {
                net.move_on(socket, direction, text.len());
                lost += 1;
            } else {
                net.data(socket, NGINX, direction, text.as_bytes());
            }
        }
        if idx % 16 == 0 {
            net.flush_after(10_000_000);
        }
    }
    net.batches.extend(net.tracer.finish(net.now_ns));
    let rows = net.rows("http_events");
    let mut seen = vec![false; 20_000];
    for row in 0..rows.len() {
        let idx: usize = rows.text(row, "req_path")[1..].parse().unwrap();
        assert_eq!(rows.int(row, "resp_status"), 200 + (idx % 300) as i64);
        assert!(!std::mem::replace(&mut seen[idx], true), "twice");
    }
    let missing = 20_000 - rows.len() as u64;
    assert!(missing <= lost + net.unpaired(), "{missing} missing, {lost} lost");
    assert!(missing <= 4 * lost, "{missing} missing, {lost} lost");
}

/// The master accepts, a worker answers: the row is the worker's. The master's close of its copy
/// does not end the connection; the end of the worker does.
#[test]
fn rows_belong_to_the_process_that_answers() {
    let worker = Process { pid: 11, start_ticks: 110 };
    let mut net = Net::new();
    let socket = server_end(4000);
    let at = net.at(socket, NGINX);
    net.tracer.on_event(&CaptureEvent::Accept { at });
    net.read(socket, worker, &get("/a"));
    net.write(socket, worker, OK);
    net.close(socket, NGINX, false);
    net.flush_after(SECOND_NS);
    net.read(socket, worker, &get("/b"));
    net.write(socket, worker, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nuntil close");
    net.exit(worker);
    net.flush_after(SECOND_NS);
    let rows = net.rows("http_events");
    assert_eq!(rows.texts("req_path"), ["/a", "/b"]);
    assert_eq!(rows.upid(0), Upid::new(7, 11, 110));
    assert_eq!(rows.text(1, "resp_body"), "until close");
    assert_eq!(net.tracer.tracker_counters().connections, 0);
}

/// A connection that was open before capture: the role follows from who sends requests.
#[test]
fn connections_older_than_the_agent() {
    let mut net = Net::new();
    let server = Socket { opened: Opened::Unknown, ..server_end(4000) };
    net.write(server, NGINX, "the rest of a body that began before");
    net.read(server, NGINX, &get("/a"));
    net.write(server, NGINX, OK);
    let client = socket(99, Opened::Unknown, "127.0.0.1:4000", "127.0.0.1:80");
    net.read(client, WRK, OK);
    net.write(client, WRK, &get("/b"));
    net.read(client, WRK, OK);
    net.flush_after(SECOND_NS);
    net.write(client, WRK, &get("/c"));
    net.read(client, WRK, OK);
    let rows = net.rows("http_events");
    assert_eq!(rows.texts("req_path")[0], "/a");
    assert_eq!(rows.int(0, "trace_role"), 2);
    assert_eq!(rows.texts("req_path").last().unwrap(), "/c");
    assert_eq!(rows.int(rows.len() - 1, "trace_role"), 1);
}

/// Bodies sent with sendfile are a gap of known size: the row and its size are right.
#[test]
fn sendfile_is_a_gap_of_known_size() {
    let mut net = Net::new();
    let socket = server_end(4000);
    for path in ["/file", "/next"] {
        net.read(socket, NGINX, &get(path));
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: 100000\r\n\r\n";
        net.write(socket, NGINX, head);
        let position = net.move_on(socket, Direction::Egress, 100_000);
        let (at, direction) = (net.at(socket, NGINX), Direction::Egress);
        net.tracer.on_event(&CaptureEvent::Gap { at, direction, position, bytes: 100_000 });
    }
    let rows = net.rows("http_events");
    assert_eq!(rows.texts("req_path"), ["/file", "/next"]);
    assert_eq!(rows.ints("resp_body_size"), [100_000, 100_000]);
    assert_eq!(rows.text(0, "resp_body"), "... [TRUNCATED]");
}

/// Bytes of no known protocol: told once that copying may stop, still counted in `conn_stats`.
#[test]
fn unknown_protocols_are_counted_only() {
    let mut net = Net::new();
    let socket = server_end(4000);
    for _ in 0..20 {
        net.read(socket, NGINX, "\u{1}nothing known");
        net.write(socket, NGINX, "\u{2}nothing of it");
    }
    assert_eq!(net.stopped(), [socket.key]);
    assert!(net.stopped().is_empty());
    net.flush_after(10 * SECOND_NS);
    let rows = net.rows("conn_stats");
    assert_eq!(rows.len(), 1);
    let columns = ["remote_port", "trace_role", "addr_family", "protocol", "conn_open"];
    assert_eq!(columns.map(|column| rows.int(0, column)), [0, 2, 1, 0, 1]);
    assert_eq!((rows.int(0, "bytes_sent"), rows.int(0, "bytes_recv")), (20 * 14, 20 * 14));
    assert_eq!(rows.text(0, "remote_addr"), "127.0.0.1");
    assert_eq!(net.rows("http_events").len(), 0);
}

/// An upgraded connection's bytes are of no use any more.
#[test]
fn upgrades_stop_copying() {
    let mut net = Net::new();
    let socket = server_end(4000);
    net.read(socket, NGINX, "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    net.write(socket, NGINX, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert_eq!(net.stopped(), [socket.key]);
    net.read(socket, NGINX, &get("/not-http-any-more"));
    assert_eq!(net.rows("http_events").texts("req_path"), ["/ws"]);
}

/// `conn_stats` are cumulative per process and peer; unchanged keys are silent; closing counts.
#[test]
fn connection_statistics() {
    let mut net = Net::new();
    let one = socket(1, Opened::Connected, "10.0.0.1:4001", "10.0.0.2:80");
    let two = socket(2, Opened::Connected, "10.0.0.1:4002", "10.0.0.2:80");
    for end in [one, two] {
        net.write(end, WRK, &get("/"));
        net.read(end, WRK, OK);
    }
    net.flush_after(10 * SECOND_NS);
    net.close(one, WRK, true);
    net.flush_after(SECOND_NS);
    net.flush_after(10 * SECOND_NS);
    net.flush_after(10 * SECOND_NS);
    let rows = net.rows("conn_stats");
    assert_eq!(rows.ints("conn_open"), [2, 2]);
    assert_eq!(rows.ints("conn_close"), [0, 1]);
    assert_eq!(rows.ints("conn_active"), [2, 1]);
    assert_eq!(rows.ints("remote_port"), [80, 80]);
    assert_eq!(rows.ints("protocol"), [1, 1]);
    assert_eq!(rows.int(1, "bytes_sent"), 2 * get("/").len() as i64);
}

/// Addresses: IPv4-mapped as IPv4, `-` and −1 when unknown, Unix sockets named as such.
#[test]
fn addresses_are_text() {
    let mut net = Net::new();
    let mut v6 = socket(1, Opened::Accepted, "[::ffff:10.0.0.1]:80", "[2001:db8::1]:4000");
    v6.family = Family::Inet6;
    let mut unix = socket(2, Opened::Accepted, "1.1.1.1:1", "1.1.1.1:1");
    (unix.family, unix.local, unix.remote) = (Family::Unix, None, None);
    let mut unknown = socket(3, Opened::Accepted, "1.1.1.1:1", "1.1.1.1:1");
    (unknown.local, unknown.remote) = (None, None);
    for end in [v6, unix, unknown] {
        net.read(end, NGINX, &get("/"));
        net.write(end, NGINX, OK);
    }
    let rows = net.rows("http_events");
    assert_eq!(rows.texts("remote_addr"), ["2001:db8::1", "unix_socket:", "-"]);
    assert_eq!(rows.texts("local_addr"), ["10.0.0.1", "unix_socket:", "-"]);
    assert_eq!(rows.ints("remote_port"), [4000, -1, -1]);
    net.flush_after(10 * SECOND_NS);
    assert_eq!(net.rows("conn_stats").texts("remote_addr"), ["2001:db8::1"]);
}

/// An end without a name of its own is shown by its peer's; abstract names begin with `@`.
#[test]
fn unix_sockets_are_named() {
    let mut net = Net::new();
    let names: [(&[u8], &[u8], [&str; 2]); 4] = [
        (b"/run/x.sock\0", b"", ["unix_socket:/run/x.sock", "unix_socket:/run/x.sock"]),
        (b"", b"/run/x.sock", ["unix_socket:/run/x.sock", "unix_socket:/run/x.sock"]),
        (b"\0bus", b"/a", ["unix_socket:@bus", "unix_socket:/a"]),
        (b"", b"", ["unix_socket:", "unix_socket:"]),
    ];
    for (id, (local, remote, _)) in names.iter().enumerate() {
        let mut end = socket(id as u64, Opened::Accepted, "1.1.1.1:1", "1.1.1.1:1");
        (end.family, end.local, end.remote) = (Family::Unix, None, None);
        let at = net.at(end, NGINX);
        net.tracer.on_event(&CaptureEvent::UnixNames { at, local, remote, peer_inode: 0 });
        net.tracer.on_event(&CaptureEvent::Accept { at });
        net.read(end, NGINX, &get("/"));
        net.write(end, NGINX, OK);
    }
    let rows = net.rows("http_events");
    assert_eq!(rows.texts("local_addr"), names.map(|(.., shown)| shown[0]));
    assert_eq!(rows.texts("remote_addr"), names.map(|(.., shown)| shown[1]));
}

/// One holder's close is not the end: the exchange goes on with whoever holds the socket still, seen
/// before or not.
#[test]
fn a_close_that_is_not_the_last_ends_nothing() {
    let mut net = Net::new();
    let socket = server_end(4000);
    net.read(socket, NGINX, &get("/a"));
    net.close(socket, NGINX, false);
    net.exit(NGINX);
    net.flush_after(30 * SECOND_NS);
    net.write(socket, WRK, OK);
    assert_eq!(net.rows("http_events").texts("req_path"), ["/a"]);
    net.close(socket, WRK, true);
    net.flush_after(SECOND_NS);
    net.flush_after(SECOND_NS);
    assert_eq!(net.tracer.tracker_counters().connections, 0);
}

/// Once the responses' direction has ended, a body that lasts until then gives its row, though the
/// socket stays, and is open in the statistics. The requests' direction may end at any time.
#[test]
fn the_end_of_a_direction_ends_a_body() {
    let mut net = Net::new();
    let socket = server_end(4000);
    net.read(socket, NGINX, &get("/a"));
    let at = net.at(socket, NGINX);
    let end = |direction| CaptureEvent::End { at, direction, position: 0 };
    net.tracer.on_event(&end(Direction::Ingress));
    net.write(socket, NGINX, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nuntil the end");
    net.flush_after(2 * SECOND_NS);
    assert_eq!(net.rows("http_events").len(), 0);
    net.tracer.on_event(&end(Direction::Egress));
    net.flush_after(2 * SECOND_NS);
    net.flush_after(10 * SECOND_NS);
    let rows = net.rows("http_events");
    assert_eq!((rows.texts("resp_body"), rows.len()), (vec!["until the end".to_string()], 1));
    assert_eq!(net.rows("conn_stats").ints("conn_active"), [1]);
}

/// A connect that is under way is no connection until it is told to be done; one that fails never is.
#[test]
fn connects_under_way_are_not_open() {
    let mut net = Net::new();
    let ends = [4001, 4002].map(|port| {
        let local = format!("10.0.0.1:{port}");
        socket(u64::from(port as u16), Opened::Connected, &local, "10.0.0.2:80")
    });
    for end in ends {
        let at = net.at(end, WRK);
        net.tracer.on_event(&CaptureEvent::Connect { at, error: IN_PROGRESS });
    }
    net.flush_after(10 * SECOND_NS);
    assert_eq!(net.rows("conn_stats").len(), 0);
    for (end, error) in [(ends[0], 0), (ends[1], 111)] {
        let at = net.at(end, Process::default());
        net.tracer.on_event(&CaptureEvent::Connect { at, error });
    }
    net.flush_after(10 * SECOND_NS);
    let rows = net.rows("conn_stats");
    assert_eq!(rows.ints("conn_open"), [1]);
    assert_eq!(rows.upid(0), Upid::new(7, 20, 200), "the process of the call");
}

/// Sockets that nobody holds any more are found by asking, a bounded number at a time; those that are
/// open stay, however silent.
#[test]
fn silent_sockets_are_asked_about() {
    let mut net = Net::new();
    for port in 1..=1_000 {
        net.read(server_end(port), NGINX, &get("/"));
    }
    net.now_ns += 5 * SECOND_NS;
    let mut asked = Vec::new();
    for _ in 0..100 {
        let before = asked.len();
        net.now_ns += SECOND_NS / 10;
        net.tracer.flush_asking(net.now_ns, &mut |key| {
            asked.push(key.inode);
            if key.inode % 2 == 0 { Liveness::Gone } else { Liveness::Open }
        });
        assert!(asked.len() - before <= 64, "{} questions in one call", asked.len() - before);
    }
    assert_eq!(net.tracer.tracker_counters().connections, 500);
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 1_000, "each was asked about");
}

/// A full tracker makes room for each new connection, also where all others were used just now; and
/// what it drops is counted.
#[test]
fn a_full_tracker_drops_what_was_silent_longest() {
    let limits = TrackerLimits { connections_max: 200, ..TrackerLimits::default() };
    let mut net = Net::with(SocketTracerConfig { limits, ..SocketTracerConfig::default() });
    for port in 1..=1_000 {
        net.read(server_end(port), NGINX, &get("/"));
    }
    let counters = net.tracer.tracker_counters();
    assert_eq!(counters.connections, 200);
    assert_eq!(net.tracer.counters()[0].lost_for("connections_full"), 800);
    net.write(server_end(1_000), NGINX, OK);
    assert_eq!(net.rows("http_events").len(), 1);
}

/// Statistics of processes that came and went do not stay, whether they exit before their connection's
/// end is known or after.
#[test]
fn statistics_of_processes_that_have_gone_are_forgotten() {
    let mut net = Net::new();
    for pid in 100..200_u32 {
        let process = Process { pid, start_ticks: 1 };
        let local = format!("10.0.0.1:{pid}");
        let end = socket(u64::from(pid), Opened::Connected, &local, "10.0.0.2:80");
        net.write(end, process, &get("/"));
        if pid % 2 == 0 {
            net.exit(process);
            net.close(end, process, true);
        } else {
            net.close(end, process, true);
            net.flush_after(SECOND_NS);
            net.exit(process);
        }
    }
    net.flush_after(12 * SECOND_NS);
    net.flush_after(12 * SECOND_NS);
    let rows = net.rows("conn_stats");
    let closed: i64 = rows.ints("conn_close").iter().sum();
    assert!(closed >= 100, "{closed}");
    assert_eq!(net.tracer.stats_keys(), 0);
}

/// A parser's panic ends one connection, is counted and reported; the others go on.
#[test]
fn a_parser_panic_is_contained() {
    let mut net = Net::with(SocketTracerConfig { test_faults: true, ..Default::default() });
    let (bad, good) = (server_end(4000), server_end(4001));
    net.read(good, NGINX, &get("/good"));
    net.read(bad, NGINX, &get(&format!("/{TEST_PANIC_TOKEN}")));
    net.write(bad, NGINX, OK);
    net.write(good, NGINX, OK);
    net.read(bad, NGINX, &get("/after"));
    net.write(bad, NGINX, OK);
    assert_eq!(net.rows("http_events").texts("req_path"), ["/good"]);
    let errors = net.rows("stirling_error");
    assert_eq!(errors.texts("error"), ["a parser panicked: injected by a test"]);
    assert_eq!(errors.text(0, "source_connector"), "socket_tracer");
    assert_eq!(net.stopped(), [bad.key]);
    assert!(net.tracer.counters()[0].lost.contains(&("parser_panic", 1)));

    let mut net = Net::new();
    net.read(bad, NGINX, &get(&format!("/{TEST_PANIC_TOKEN}")));
    net.write(bad, NGINX, OK);
    assert_eq!(net.rows("http_events").len(), 1);
}

/// Connections and bytes are bounded; what is dropped for room is counted.
#[test]
fn memory_is_bounded() {
    let limits = TrackerLimits { connections_max: 100, bytes_max: 1 << 20, ..Default::default() };
    let mut net = Net::with(SocketTracerConfig { limits, ..Default::default() });
    let half_a_head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000));
    for port in 1000..3000 {
        net.read(server_end(port), NGINX, &half_a_head);
    }
    let counters = net.tracer.tracker_counters();
    assert_eq!(counters.connections, 100);
    let lost = &net.tracer.counters()[0];
    assert_eq!(lost.lost_for("connections_full"), 1900);
    assert!(counters.held_bytes <= 2 << 20, "{} bytes", counters.held_bytes);
    assert!(lost.lost_for("bytes_full") > 0);
    net.flush_after(2 * 3600 * SECOND_NS);
    assert_eq!(net.tracer.tracker_counters().connections, 0);
    assert_eq!(net.tracer.tracker_counters().held_bytes, 0);
}

/// A socket's number is used again after it closed: a new connection, nothing of the old one.
#[test]
fn a_closed_socket_number_is_used_again() {
    let mut net = Net::new();
    let first = server_end(4000);
    net.read(first, NGINX, &get("/unanswered"));
    net.close(first, NGINX, true);
    net.flush_after(SECOND_NS);
    let again = Socket { key: ConnKey { inode: 77, ..first.key }, ..first };
    net.read(again, NGINX, &get("/b"));
    net.write(again, NGINX, OK);
    assert_eq!(net.rows("http_events").texts("req_path"), ["/b"]);
    assert_eq!(net.unpaired(), 1);
}

/// The wall clock is set, forwards and back: no request becomes late by it, no connection idle.
#[test]
fn setting_the_clock_loses_nothing() {
    let mut net = Net::new();
    let socket = server_end(4000);
    for (idx, ahead_ns) in [0, 7_200 * SECOND_NS, -7_200 * SECOND_NS, 0].into_iter().enumerate() {
        net.flush_after(SECOND_NS);
        net.read(socket, NGINX, &get(&format!("/{idx}")));
        net.wall_ahead_ns = ahead_ns;
        net.flush_after(3 * SECOND_NS);
        net.write(socket, NGINX, OK);
        net.flush_after(3 * SECOND_NS);
    }
    assert_eq!(net.rows("http_events").texts("req_path"), ["/0", "/1", "/2", "/3"]);
    assert_eq!((net.unpaired(), net.tracer.tracker_counters().connections), (0, 1));
}

/// A request waits for its response as long as its connection lives; if that ends without one, the
/// peer gave none: it is counted, and not as a loss.
#[test]
fn unanswered_requests_are_no_loss() {
    let mut net = Net::new();
    let socket = server_end(4000);
    net.read(socket, NGINX, &get("/slow"));
    net.flush_after(100 * SECOND_NS);
    net.write(socket, NGINX, OK);
    net.read(socket, NGINX, &get("/never"));
    net.flush_after(100 * SECOND_NS);
    net.close(socket, NGINX, true);
    assert_eq!(net.rows("http_events").texts("req_path"), ["/slow"]);
    net.flush_after(SECOND_NS);
    let counters = &net.tracer.counters()[0];
    assert_eq!((counters.unanswered, counters.unasked), (1, 0));
    assert!(counters.lost.iter().all(|(_, lost)| *lost == 0));
}

/// Floods of pipelined requests on many connections: what the parsers hold counts by its capacity,
/// and all of them together stay within the tracker's budget.
#[test]
fn pipelined_floods_stay_within_the_budget() {
    let limits = TrackerLimits { bytes_max: 4 << 20, ..TrackerLimits::default() };
    let mut net = Net::with(SocketTracerConfig { limits, ..Default::default() });
    let one = format!("GET / HTTP/1.1\r\nCookie: a\r\nX-Y: {}\r\n\r\n", "\x01".repeat(2_000));
    let flood = one.repeat(14);
    let mut most = 0;
    for round in 0..40 {
        for port in 0..12 {
            net.read(server_end(4000 + port), NGINX, &flood);
            most = most.max(net.tracer.tracker_counters().held_bytes);
        }
        net.flush_after(1_000 * (round + 1));
    }
    assert!(most > 2 << 20, "{most}: it is counted");
    assert!(most < 5 << 20, "{most}: it is bounded");
    assert!(net.tracer.counters()[0].lost_for("given_up") > 1_000);
    for port in 0..12 {
        net.close(server_end(4000 + port), NGINX, true);
    }
    net.flush_after(SECOND_NS);
    assert!(net.tracer.tracker_counters().held_bytes < 1 << 20, "given back");
}

/// A DNS message with one question about `x.example`; a response has its address, `10.1.2.3`.
fn dns(id: u16, is_response: bool) -> Vec<u8> {
    let flags = if is_response { 0x8180_u16 } else { 0x0100 };
    let mut bytes = Vec::new();
    for word in [id, flags, 1, u16::from(is_response), 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(b"\x01x\x07example\x00\x00\x01\x00\x01");
    if is_response {
        bytes.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x01\x02\x03");
    }
    bytes
}

fn datagrams(id: u64, local: &str, remote: &str) -> Socket {
    let socket_type = SocketType::Datagram;
    Socket { socket_type, ..socket(id, Opened::Unknown, local, remote) }
}

/// One socket of a DNS server with two clients that use the same id, and a client's: each row has its
/// own peer, role and times. Catches datagrams that are passed by, or put into one stream.
#[test]
fn datagrams_of_one_socket_have_many_peers() {
    let mut net = Net::new();
    let from = |port| datagrams(1, "127.0.0.1:53", &format!("127.0.0.1:{port}"));
    let client = datagrams(2, "127.0.0.1:4000", "127.0.0.1:53");
    net.data(client, WRK, Direction::Egress, &dns(7, false));
    net.data(from(4000), NGINX, Direction::Ingress, &dns(7, false));
    net.data(from(5000), NGINX, Direction::Ingress, &dns(7, false));
    net.data(from(5000), NGINX, Direction::Egress, &dns(7, true));
    net.data(from(4000), NGINX, Direction::Egress, &dns(7, true));
    net.data(client, WRK, Direction::Ingress, &dns(7, true));
    let rows = net.rows("dns_events");
    assert_eq!(rows.ints("trace_role"), [2, 2, 1]);
    assert_eq!(rows.ints("remote_port"), [5000, 4000, 53]);
    assert_eq!(rows.ints("local_port"), [53, 53, 4000]);
    assert_eq!(rows.ints("latency"), [1_000, 3_000, 5_000]);
    assert_eq!(rows.upid(2), Upid::new(7, 20, 200));
    let queries = r#"{"queries":[{"name":"x.example","type":"A"}]}"#;
    let answers = r#"{"answers":[{"name":"x.example","type":"A","addr":"10.1.2.3"}]}"#;
    assert_eq!(
        (rows.text(0, "req_body"), rows.text(0, "resp_body")),
        (queries.into(), answers.into())
    );
    assert_eq!(net.rows("conn_stats").len(), 0);
    // Other datagrams are of no use, and the kernel is told so.
    let other = datagrams(3, "127.0.0.1:6000", "127.0.0.1:443");
    for _ in 0..10 {
        net.data(other, WRK, Direction::Egress, b"\x40not a known protocol, but QUIC perhaps");
    }
    assert_eq!(net.stopped(), [other.key]);
}

/// DNS over TCP, its length in a call of its own, two messages in one: two rows; `conn_stats` says so.
#[test]
fn dns_over_tcp() {
    let mut net = Net::new();
    let opened = Opened::Accepted;
    let server = socket(1, opened, "127.0.0.1:53", "127.0.0.1:4000");
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let first = framed(dns(1, false));
    net.data(server, NGINX, Direction::Ingress, &first[..2]);
    net.data(server, NGINX, Direction::Ingress, &first[2..]);
    net.data(server, NGINX, Direction::Ingress, &framed(dns(2, false)));
    net.data(
        server,
        NGINX,
        Direction::Egress,
        &[framed(dns(2, true)), framed(dns(1, true))].concat(),
    );
    net.flush_after(11 * SECOND_NS);
    let rows = Rows::of("dns_events", &net.batches);
    assert_eq!(rows.ints("trace_role"), [2, 2]);
    assert!(rows.text(0, "req_header").starts_with("{\"txid\":2,"));
    assert_eq!(Rows::of("conn_stats", &net.batches).ints("protocol"), [6]);
    let counters = net.tracer.counters();
    let dns = counters.iter().find(|counted| counted.table == "dns_events").unwrap();
    assert_eq!(dns.lost.iter().map(|(_, count)| count).sum::<u64>(), 0);
}
