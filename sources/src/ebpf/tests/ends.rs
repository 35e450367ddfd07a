//! When a connection is over, and when it is not: through the tracker, to rows.

use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use weir_types::batch::{StrColumn, u128_at, value_at};
use weir_types::metadata::Address;
use weir_types::{Clock, DataType, RecordBatch, Upid, Value, WallClock};

use super::unseen::{int_column, text_column};
use super::*;
use crate::metadata::{Machine, Model, Observation};
use crate::socket::{SocketTracer, SocketTracerConfig};

const SECOND_NS: i64 = 1_000_000_000;
const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
/// Its body ends with the stream.
const OPEN_END: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end";

/// A capture, the tracer behind it, and what came out so far.
pub(super) struct Traced {
    pub(super) source: EbpfSource,
    tracer: SocketTracer,
    ahead_ns: i64,
    batches: Vec<(&'static str, RecordBatch)>,
}

impl Traced {
    pub(super) fn start(config: &EbpfConfig) -> Option<Traced> {
        let tracer = SocketTracer::new(SocketTracerConfig::default());
        Some(Traced { source: start(config)?, tracer, ahead_ns: 0, batches: Vec::new() })
    }

    /// Takes what has happened up to now.
    pub(super) fn take(&mut self) {
        let tracer = &mut self.tracer;
        while self.source.drain(&mut |event| tracer.on_event(&event)).more {}
    }

    /// Takes what has happened, and lets the tracer's time pass: so much that what is closed ends.
    pub(super) fn settle(&mut self) {
        for _ in 0..4 {
            self.take();
            let tracer = &mut self.tracer;
            self.source.losses(&mut |loss| tracer.lost(loss));
            self.ahead_ns += SECOND_NS;
            let source = &self.source;
            let now_unix_ns = WallClock.now_unix_ns() + self.ahead_ns;
            let batches = self.tracer.flush_asking(now_unix_ns, &mut |key| source.liveness(key));
            self.batches.extend(batches);
        }
    }

    /// What a table lost for a reason.
    pub(super) fn lost(&self, table: &str, reason: &str) -> u64 {
        let counters = self.tracer.counters();
        counters.iter().find(|counters| counters.table == table).unwrap().lost_for(reason)
    }

    /// What all tables lost, for all reasons.
    pub(super) fn lost_in_all(&self) -> u64 {
        self.tracer.counters().iter().flat_map(|table| &table.lost).map(|(_, count)| count).sum()
    }

    /// Role and path of each exchange so far, the clients' first.
    pub(super) fn rows(&self) -> Vec<(i64, String)> {
        let roles = int_column(&self.batches, "http_events", "trace_role");
        let paths = text_column(&self.batches, "http_events", "req_path");
        let mut rows: Vec<(i64, String)> = roles.into_iter().zip(paths).collect();
        rows.sort_by_key(|row| row.0);
        rows
    }

    pub(super) fn ints_of(&self, table: &str, column: &str) -> Vec<i64> {
        int_column(&self.batches, table, column)
    }

    pub(super) fn texts_of(&self, table: &str, column: &str) -> Vec<String> {
        text_column(&self.batches, table, column)
    }

    pub(super) fn texts(&self, column: &str) -> Vec<String> {
        text_column(&self.batches, "http_events", column)
    }

    /// Of each exchange so far whose row it is, and the process at the other end: 0 if it is not known.
    pub(super) fn peers(&mut self) -> BTreeSet<(u32, u32)> {
        let mut model = Model::new(Machine::default(), None);
        for end in self.tracer.take_sockets() {
            model.observe(Observation::End(end));
        }
        let (known, _) = model.take_changed().unwrap();
        let mut peers = BTreeSet::new();
        for (_, batch) in self.batches.iter().filter(|(table, _)| *table == "http_events") {
            let column = |name: &str| batch.column_by_name(name).unwrap();
            for row in 0..batch.num_rows() {
                let text = |name: &str| StrColumn::of(column(name)).unwrap().value(row).to_vec();
                let int = |name: &str| match value_at(column(name), DataType::Int64, row) {
                    Some(Value::Int64(value)) => value,
                    other => panic!("{other:?}"),
                };
                let end = |side: &str| {
                    let [addr, port] = ["addr", "port"].map(|what| format!("{side}_{what}"));
                    Address::of_row(&text(&addr), int(&port))
                };
                let upid = Upid(u128_at(column("upid"), row).unwrap());
                let Some(Value::Time64Ns(time)) =
                    value_at(column("time_"), DataType::Time64Ns, row)
                else {
                    panic!()
                };
                let peer = known.peer(upid, end("local"), end("remote"), time);
                peers.insert((upid.pid(), peer.map_or(0, Upid::pid)));
            }
        }
        peers
    }

    fn server_rows(&self) -> usize {
        self.rows().iter().filter(|(role, _)| *role == 2).count()
    }

    fn connections(&self) -> u64 {
        self.tracer.tracker_counters().connections
    }
}

fn traced(listener: &TcpListener) -> Option<Traced> {
    Traced::start(&follow_port(listener.local_addr().unwrap().port()))
}

fn ask(pair: &mut Pair) {
    pair.client.write_all(REQUEST).unwrap();
    pair.server.read_exact(&mut vec![0; REQUEST.len()]).unwrap();
}

/// A process that holds this socket as its output, and does what it is told once it is told to go.
fn held_by(socket: OwnedFd, script: &str) -> Child {
    Command::new("sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(socket)
        .spawn()
        .unwrap()
}

fn go(mut child: Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child.wait().unwrap();
}

/// A parent reads the request and closes; its child answers later. Catches ending a connection because
/// one of its holders let go of it.
#[test]
fn a_child_answers_after_its_parent_has_closed() {
    let listener = listen();
    let Some(mut traced) = traced(&listener) else { return };
    let mut pair = Pair::connect(&listener);
    ask(&mut pair);
    let Pair { client, server, .. } = pair;
    let child =
        held_by(server.into(), "printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi'");
    // The parent's copy went with the child's start.
    traced.settle();
    assert_eq!((traced.server_rows(), traced.connections()), (0, 2));
    go(child);
    (&client).read_exact(&mut vec![0; ANSWER.len()]).unwrap();
    traced.settle();
    assert_eq!(traced.rows(), [(1, "/x".to_string()), (2, "/x".to_string())]);
    assert_eq!(traced.connections(), 1, "the child was the server's last holder");
}

/// A descriptor that was copied and closed is not the connection.
#[test]
fn a_copy_is_closed() {
    let listener = listen();
    let Some(mut traced) = traced(&listener) else { return };
    let mut pair = Pair::connect(&listener);
    let copy = pair.server.try_clone().unwrap();
    ask(&mut pair);
    drop(copy);
    traced.settle();
    pair.server.write_all(ANSWER).unwrap();
    traced.settle();
    assert_eq!((traced.server_rows(), traced.connections()), (1, 2));
}

/// A socket on its way in a message is still held, by nobody's descriptor table.
#[test]
fn a_socket_is_handed_over_by_a_message() {
    let listener = listen();
    let Some(mut traced) = traced(&listener) else { return };
    let mut pair = Pair::connect(&listener);
    ask(&mut pair);
    let Pair { client: _client, server, .. } = pair;
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    pass_on(near.as_raw_fd(), server.as_raw_fd());
    drop(server);
    traced.settle();
    assert_eq!(traced.connections(), 2);
    let mut received = take_over(far.as_raw_fd());
    received.write_all(ANSWER).unwrap();
    drop(received);
    traced.settle();
    assert_eq!((traced.server_rows(), traced.connections()), (1, 1));
}

/// Room for one descriptor in a message's control data, aligned for its header.
#[repr(align(8))]
struct Control([u8; 24]);

fn message_with(control: &mut Control, part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (part, 1);
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    message
}

fn pass_on(over: i32, fd: i32) {
    let (mut control, mut part) = (Control([0; 24]), calls::iov(b"x"));
    let message = message_with(&mut control, &mut part);
    // SAFETY: the control data has room for one header and one descriptor.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        assert_eq!(libc::sendmsg(over, &raw const message, 0), 1);
    }
}

fn take_over(from: i32) -> TcpStream {
    let (mut control, mut byte) = (Control([0; 24]), [0_u8]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut message = message_with(&mut control, &mut part);
    // SAFETY: as above; the descriptor that came is nobody else's.
    unsafe {
        assert_eq!(libc::recvmsg(from, &raw mut message, 0), 1);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        TcpStream::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned())
    }
}

/// One of two holders ends: the connection goes on with the other.
#[test]
fn one_of_several_holders_ends() {
    let listener = listen();
    let Some(mut traced) = traced(&listener) else { return };
    let mut pair = Pair::connect(&listener);
    ask(&mut pair);
    let script = "printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi'";
    go(held_by(pair.server.try_clone().unwrap().into(), script));
    traced.settle();
    assert_eq!((traced.server_rows(), traced.connections()), (1, 2));
    ask(&mut pair);
    pair.server.write_all(ANSWER).unwrap();
    traced.settle();
    assert_eq!(traced.server_rows(), 2);
}

/// Whatever ends a stream ends a body that lasts until then, while the client still holds its end:
/// each way gives a row on both sides. Catches ways to close that are not `close`.
#[test]
fn bodies_until_the_end_have_every_end() {
    /// Ends the stream; what it gives back is kept open.
    type End = fn(TcpStream) -> Option<TcpStream>;
    let ends: [(&str, End); 6] = [
        ("close", |server| {
            drop(server);
            None
        }),
        ("shutdown", |server| {
            server.shutdown(std::net::Shutdown::Write).unwrap();
            Some(server)
        }),
        ("dup2", |server| {
            // SAFETY: descriptors of our own.
            unsafe {
                assert!(libc::dup2(2, server.as_raw_fd()) >= 0);
            }
            Some(server)
        }),
        ("close_range", |server| {
            use std::os::fd::IntoRawFd;
            let fd = server.into_raw_fd() as libc::c_long;
            // SAFETY: as above, it is ours alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, fd, fd, 0) }, 0);
            None
        }),
        ("exec", |server| {
            // Its output is the socket until another program takes another one.
            go(held_by(server.into(), "exec true >/dev/null"));
            None
        }),
        ("exit", |server| {
            go(held_by(server.into(), "kill -9 $$"));
            None
        }),
    ];
    for (name, end) in ends {
        let listener = listen();
        let Some(mut traced) = traced(&listener) else { return };
        let mut pair = Pair::connect(&listener);
        ask(&mut pair);
        pair.server.write_all(OPEN_END).unwrap();
        traced.settle();
        assert_eq!(traced.rows(), [], "{name}");
        let Pair { mut client, server, .. } = pair;
        let _kept = end(server);
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        traced.settle();
        assert_eq!(all, OPEN_END);
        let rows = traced.rows();
        assert_eq!(rows.len(), 2, "{name}: {rows:?}");
        assert_eq!(traced.texts("resp_body"), ["until the end", "until the end"], "{name}");
    }
}

/// A connect that is refused or under way is no connection; one that is done is, without a byte.
#[test]
fn connects_that_are_none() {
    let listener = listen();
    // SAFETY: a descriptor of our own; no more than one connection waits from now on.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let address = listener.local_addr().unwrap();
    let Some(mut traced) = traced(&listener) else { return };
    let done = TcpStream::connect(address).unwrap();
    let waiting = begin_connect(address);
    let refused = {
        let closed = listen().local_addr().unwrap();
        TcpStream::connect(closed).unwrap_err()
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    traced.settle();
    assert_eq!(traced.connections(), 1, "only the one that is done");
    drop(waiting);
    traced.settle();
    assert_eq!(traced.connections(), 1);
    drop(done);
    traced.settle();
    assert_eq!(traced.connections(), 0);
}

fn begin_connect(address: SocketAddr) -> OwnedFd {
    let SocketAddr::V4(v4) = address else { panic!("{address}") };
    // SAFETY: the address outlives the call; the descriptor is new, and nobody else's.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        let mut name: libc::sockaddr_in = std::mem::zeroed();
        name.sin_family = libc::AF_INET as u16;
        name.sin_port = v4.port().to_be();
        name.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
        assert_eq!(libc::connect(fd, (&raw const name).cast(), size_of_val(&name) as u32), -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EINPROGRESS));
        OwnedFd::from_raw_fd(fd)
    }
}

/// The kernel is asked, and knows: of an open socket, of one that is gone, of one that never was.
#[test]
fn liveness_is_asked() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    pair.say("hello");
    let seen = drain(&mut source);
    let key =
        seen.iter().find(|event| event.is_from(pair.client_addr)).unwrap().socket.unwrap().key;
    assert_eq!(source.liveness(key), crate::capture::Liveness::Open);
    let other = crate::capture::ConnKey { inode: key.inode + 1, ..key };
    assert_eq!(source.liveness(other), crate::capture::Liveness::Gone);
    drop(pair);
    assert_eq!(source.liveness(key), crate::capture::Liveness::Gone);
}
