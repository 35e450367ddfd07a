//! Every system call that moves bytes.

use super::*;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A way of writing or reading: given a descriptor and bytes, does one system call.
type Sender = fn(i32, &[u8]) -> isize;
type Receiver = fn(i32, &mut [u8]) -> isize;

pub(super) fn iov(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn write(fd: i32, bytes: &[u8]) -> isize {
    // SAFETY: (here and below) buffers outlive the calls, lengths are theirs.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) }
}
fn sendto(fd: i32, bytes: &[u8]) -> isize {
    // SAFETY: as above.
    unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) }
}
fn writev(fd: i32, bytes: &[u8]) -> isize {
    let (a, rest) = bytes.split_at(1);
    let (b, c) = rest.split_at(rest.len() / 2);
    let parts = [iov(a), iov(&[]), iov(b), iov(c)];
    // SAFETY: as above.
    unsafe { libc::writev(fd, parts.as_ptr(), 4) }
}
fn sendmsg(fd: i32, bytes: &[u8]) -> isize {
    let (a, b) = bytes.split_at(bytes.len() / 3);
    let mut parts = [iov(a), iov(b)];
    // SAFETY: as above; an all-zero msghdr is a valid one.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = 2;
        libc::sendmsg(fd, &raw const message, 0)
    }
}
pub(super) fn mmsg(parts: &mut [libc::iovec]) -> Vec<libc::mmsghdr> {
    parts
        .iter_mut()
        .map(|part| {
            // SAFETY: an all-zero mmsghdr is a valid one.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect()
}
fn sendmmsg(fd: i32, bytes: &[u8]) -> isize {
    let (a, b) = bytes.split_at(bytes.len() / 2);
    let mut parts = [iov(a), iov(b)];
    let mut messages = mmsg(&mut parts);
    // SAFETY: as above.
    let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), 2, 0) };
    assert_eq!(sent, 2);
    messages.iter().map(|message| message.msg_len as isize).sum()
}
fn read(fd: i32, buffer: &mut [u8]) -> isize {
    // SAFETY: as above.
    unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) }
}
fn recvfrom(fd: i32, buffer: &mut [u8]) -> isize {
    // SAFETY: as above.
    unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) }
}
fn readv(fd: i32, buffer: &mut [u8]) -> isize {
    let (a, b) = buffer.split_at_mut(3);
    let parts = [iov(a), iov(b)];
    // SAFETY: as above.
    unsafe { libc::readv(fd, parts.as_ptr(), 2) }
}
fn recvmsg(fd: i32, buffer: &mut [u8]) -> isize {
    let (a, b) = buffer.split_at_mut(5);
    let mut parts = [iov(a), iov(b)];
    // SAFETY: as above; an all-zero msghdr is a valid one.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = 2;
        libc::recvmsg(fd, &raw mut message, 0)
    }
}
fn recvmmsg(fd: i32, buffer: &mut [u8]) -> isize {
    let mut parts = [iov(buffer)];
    let mut messages = mmsg(&mut parts);
    // SAFETY: as above.
    let received = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), 1, 0, std::ptr::null_mut()) };
    assert_eq!(received, 1);
    messages[0].msg_len as isize
}

const CALLS: [(&str, Sender, Receiver); 5] = [
    ("write, read", write, read),
    ("sendto, recvfrom", sendto, recvfrom),
    ("writev, readv", writev, readv),
    ("sendmsg, recvmsg", sendmsg, recvmsg),
    ("sendmmsg, recvmmsg", sendmmsg, recvmmsg),
];

/// One request and one response by each pair of calls, over one connection: every byte is seen at
/// both ends, once, at its position.
fn check_all_calls(listen_on: &str, build: Build) {
    let listener = TcpListener::bind(listen_on).unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(mut source) = start(&EbpfConfig { build, ..follow_port(port) }) else { return };
    assert_eq!(source.build(), build);
    let pair = Pair::connect(&listener);
    let (client, server) = (pair.client.as_raw_fd(), pair.server.as_raw_fd());
    let (mut requests, mut responses) = (String::new(), String::new());
    for (name, send, receive) in CALLS {
        let mut buffer = [0_u8; 256];
        for (from, to, said, all) in [
            (client, server, format!("request by {name}; "), &mut requests),
            (server, client, format!("a longer response by {name}; "), &mut responses),
        ] {
            assert_eq!(send(from, said.as_bytes()), said.len() as isize, "{name}");
            let mut left = said.len() as isize;
            while left > 0 {
                let received = receive(to, &mut buffer);
                assert!(received > 0, "{name}");
                left -= received;
            }
            all.push_str(&said);
        }
    }
    let seen = drain(&mut source);
    let own = std::process::id();
    for (local, way, expected) in [
        (pair.client_addr, Direction::Egress, &requests),
        (pair.server_addr, Direction::Ingress, &requests),
        (pair.server_addr, Direction::Egress, &responses),
        (pair.client_addr, Direction::Ingress, &responses),
    ] {
        assert_eq!(&text(&seen, local, way), expected, "{local} {way:?}");
        let mut position = 0;
        for (at, total, payload) in data(&seen, local, way) {
            assert_eq!((at, total as usize), (position, payload.len()));
            position += u64::from(total);
        }
    }
    for event in &seen {
        assert_eq!(event.process, Process { pid: own, start_ticks: own_start_ticks() });
        let socket = event.socket.unwrap();
        assert_eq!(socket.socket_type, SocketType::Stream);
        let (fd, peer) = if event.is_from(pair.client_addr) {
            assert_eq!(socket.opened, Opened::Connected);
            (client, pair.server_addr)
        } else {
            assert_eq!(socket.opened, Opened::Accepted);
            (server, pair.client_addr)
        };
        assert_eq!((event.fd, socket.remote), (fd, Some(peer)));
        assert_eq!(socket.key.inode, inode(fd));
    }
    assert_eq!(source.counters().bad_registers + source.counters().faults, 0);
}

pub(super) fn own_start_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    after_name.split_whitespace().nth(19).unwrap().parse().unwrap()
}

fn inode(fd: i32) -> u64 {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    let link = link.to_str().unwrap();
    link.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
}

/// The builds of the programs do the same.
#[test]
fn all_calls_ipv4() {
    check_all_calls("127.0.0.1:0", Build::Linux6_2);
}

#[test]
fn all_calls_ipv4_on_5_15() {
    check_all_calls("127.0.0.1:0", Build::Linux5_15);
}

#[test]
fn all_calls_ipv4_on_5_8() {
    check_all_calls("127.0.0.1:0", Build::Linux5_8);
}

#[test]
fn all_calls_ipv6() {
    check_all_calls("[::1]:0", Build::Linux6_2);
}

#[test]
fn all_calls_ipv6_on_5_8() {
    check_all_calls("[::1]:0", Build::Linux5_8);
}

/// Peeking at bytes neither shows them twice nor moves the position.
#[test]
fn peeking_is_ignored() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    pair.client.write_all(b"peek at me").unwrap();
    let mut buffer = [0_u8; 4];
    assert_eq!(pair.server.peek(&mut buffer).unwrap(), 4);
    pair.server.read_exact(&mut buffer).unwrap();
    assert_eq!(pair.server.peek(&mut buffer).unwrap(), 4);
    let mut rest = [0_u8; 6];
    pair.server.read_exact(&mut rest).unwrap();
    let seen = drain(&mut source);
    assert_eq!(
        data(&seen, pair.server_addr, Direction::Ingress),
        [(0, 4, b"peek".to_vec()), (4, 6, b" at me".to_vec())]
    );
}

/// Of a long call the beginning and the end are copied, each at its position; what is missing between
/// them is a hole of known size.
#[test]
fn long_writes_are_cut() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let pair = Pair::connect(&listener);
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    let reader = std::thread::spawn({
        let mut server = pair.server.try_clone().unwrap();
        move || {
            let mut buffer = vec![0; 100_003];
            server.read_exact(&mut buffer).unwrap();
        }
    });
    let parts: Vec<libc::iovec> = bytes.chunks(10_000).map(iov).collect();
    // SAFETY: the parts outlive the call.
    let sent = unsafe { libc::writev(pair.client.as_raw_fd(), parts.as_ptr(), 10) };
    assert_eq!(sent, 100_000);
    (&pair.client).write_all(b"end").unwrap();
    reader.join().unwrap();
    let seen = drain(&mut source);
    let sent = data(&seen, pair.client_addr, Direction::Egress);
    assert_eq!(sent.len(), 3);
    assert_eq!((sent[0].0, sent[0].1), (0, 100_000 - 4_096));
    assert_eq!(sent[0].2, bytes[..30_720]);
    assert_eq!(sent[1], (100_000 - 4_096, 4_096, bytes[100_000 - 4_096..].to_vec()));
    assert_eq!(sent[2], (100_000, 3, b"end".to_vec()));
    let received = data(&seen, pair.server_addr, Direction::Ingress);
    let mut position = 0;
    for (at, total, payload) in &received {
        assert_eq!(*at, position);
        assert_eq!(payload.len(), (*total as usize).min(30_720));
        let expected = bytes.iter().chain(b"end").skip(position as usize).take(payload.len());
        assert!(payload.iter().eq(expected));
        position += u64::from(*total);
    }
    assert_eq!(position, 100_003);
    let cut: u64 = sent.iter().chain(&received).map(|r| u64::from(r.1) - r.2.len() as u64).sum();
    assert_eq!(source.counters().cut_bytes, cut);
}

/// All buffers of a call are looked at, as many as the kernel takes: node.js writes three a chunk.
/// Catches a bound that cuts off what still fits into a record.
#[test]
fn many_buffers() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let pair = Pair::connect(&listener);
    let chunks: Vec<String> = (0..1_024).map(|n| format!("{n:x}\r\n")).collect();
    let parts: Vec<libc::iovec> = chunks.iter().map(|chunk| iov(chunk.as_bytes())).collect();
    let whole = chunks.concat().into_bytes();
    // SAFETY: the parts outlive the call.
    let sent = unsafe { libc::writev(pair.client.as_raw_fd(), parts.as_ptr(), 1_024) };
    assert_eq!(sent, whole.len() as isize);
    let seen = drain(&mut source);
    let expected = [(0, whole.len() as u32, whole)];
    assert_eq!(data(&seen, pair.client_addr, Direction::Egress), expected);
}

/// The last bytes of a long call are found wherever its buffers end, also in one that is longer than
/// they are.
#[test]
fn tails_of_many_buffers() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let bytes: Vec<u8> = (0..50_000_u32).map(|i| (i % 241) as u8).collect();
    for piece in [7, 100, 4_096, 9_999, 31_000, 50_000] {
        let pair = Pair::connect(&listener);
        let parts: Vec<libc::iovec> = bytes.chunks(piece.max(50)).map(iov).collect();
        // SAFETY: the parts outlive the call.
        let sent = unsafe {
            libc::writev(pair.client.as_raw_fd(), parts.as_ptr(), parts.len() as libc::c_int)
        };
        assert_eq!(sent, 50_000);
        let seen = drain(&mut source);
        let sent = data(&seen, pair.client_addr, Direction::Egress);
        let [(0, 45_904, head), (45_904, 4_096, tail)] = sent.as_slice() else {
            panic!("{piece}: {sent:?}");
        };
        assert!(*head == bytes[..30_720] && *tail == bytes[45_904..], "{piece}");
    }
}

/// Bytes that pass user memory by, or are thrown away in it, are gaps of known size.
#[test]
fn sendfile_splice_and_truncation_are_gaps() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    let file = tempfile_with(b"0123456789abcdef");
    let (client, server) = (pair.client.as_raw_fd(), pair.server.as_raw_fd());
    pair.client.write_all(b"head:").unwrap();
    let mut ends = [0; 2];
    let mut thrown = [0_u8; 8];
    // SAFETY: descriptors are open, the buffers outlive the calls.
    unsafe {
        assert_eq!(libc::sendfile(client, file.as_raw_fd(), std::ptr::null_mut(), 16), 16);
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        let null = std::ptr::null_mut;
        assert_eq!(libc::splice(server, null(), ends[1], null(), 13, 0), 13);
        assert_eq!(libc::splice(ends[0], null(), server, null(), 13, 0), 13);
        let flags = libc::MSG_TRUNC;
        assert_eq!(libc::recv(server, thrown.as_mut_ptr().cast(), 8, flags), 8);
        libc::close(ends[0]);
        libc::close(ends[1]);
    }
    pair.client.write_all(b"tail").unwrap();
    let seen = drain(&mut source);
    let gaps: Vec<_> = seen
        .iter()
        .filter_map(|event| match event.what {
            What::Gap { direction, position, bytes } => {
                Some((event.is_from(pair.client_addr), direction, position, bytes))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        gaps,
        [
            (true, Direction::Egress, 5, 16),
            (false, Direction::Ingress, 0, 13),
            (false, Direction::Egress, 0, 13),
            (false, Direction::Ingress, 13, 8),
        ]
    );
    let sent = data(&seen, pair.client_addr, Direction::Egress);
    assert_eq!(sent, [(0, 5, b"head:".to_vec()), (21, 4, b"tail".to_vec())]);
}

fn tempfile_with(bytes: &[u8]) -> std::fs::File {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"weir-test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just opened, owned by nobody else.
    let mut file = unsafe { <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

/// Datagrams: the peer of each is found, whether the socket is connected or not.
#[test]
fn datagrams() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server_addr = server.local_addr().unwrap();
    let Some(mut source) = start(&follow_port(server_addr.port())) else { return };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client_addr = client.local_addr().unwrap();
    client.send_to(b"query", server_addr).unwrap();
    let mut buffer = [0; 64];
    let (_, peer) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"answer", peer).unwrap();
    client.recv_from(&mut buffer).unwrap();
    client.connect(server_addr).unwrap();
    client.send(b"second").unwrap();
    let seen = drain(&mut source);
    let found: Vec<_> = seen
        .iter()
        .map(|event| {
            let socket = event.socket.unwrap();
            assert_eq!(socket.socket_type, SocketType::Datagram);
            let What::Data { direction, ref payload, .. } = event.what else {
                panic!("{event:?}");
            };
            let payload = String::from_utf8(payload.clone()).unwrap();
            (socket.local, direction, socket.remote, payload)
        })
        .collect();
    let (at_client, at_server) = (Some(client_addr), Some(server_addr));
    let expected = [
        (at_client, Direction::Egress, at_server, "query".to_string()),
        (at_server, Direction::Ingress, at_client, "query".to_string()),
        (at_server, Direction::Egress, at_client, "answer".to_string()),
        (at_client, Direction::Ingress, at_server, "answer".to_string()),
        (at_client, Direction::Egress, at_server, "second".to_string()),
    ];
    assert_eq!(found, expected);
}

/// Many datagrams of one call: each is an event, from its own peer; those beyond the bound are
/// counted.
#[test]
fn many_datagrams_in_one_call() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let Some(mut source) = start(&follow_port(server.local_addr().unwrap().port())) else {
        return;
    };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    let mut parts: Vec<libc::iovec> = (0..40).map(|_| iov(b"datagram")).collect();
    let mut messages = mmsg(&mut parts);
    // SAFETY: the messages and their parts outlive the call.
    let sent = unsafe { libc::sendmmsg(client.as_raw_fd(), messages.as_mut_ptr(), 40, 0) };
    assert_eq!(sent, 40);
    let mut seen = drain(&mut source);
    seen.retain(
        |event| matches!(&event.what, What::Data { payload, .. } if payload == b"datagram"),
    );
    assert_eq!(seen.len(), 32);
    assert_eq!(source.counters().skipped_messages, 8);
}

/// Unix stream sockets of another process are captured; they have no addresses.
#[test]
fn unix_streams() {
    let (mut near, far) = UnixStream::pair().unwrap();
    let mut child = std::process::Command::new("sh")
        .args(["-c", "read go; printf 'from the child'; read end"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::os::fd::OwnedFd::from(far))
        .spawn()
        .unwrap();
    let mut config = follow_self();
    config.filters.pids = BTreeSet::from([child.id()]);
    let started = start(&config);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"go\n").unwrap();
    let mut buffer = [0; 14];
    near.read_exact(&mut buffer).unwrap();
    if let Some(mut source) = started {
        let pid = child.id();
        let mut seen: Vec<Seen> = Vec::new();
        // What it wrote can be read before its call has returned, which tells of it.
        for _ in 0..1_000 {
            seen.extend(drain(&mut source).into_iter().filter(|event| event.process.pid == pid));
            if seen.len() >= 2 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let [names, event] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!(names.what, What::UnixNames { local: Vec::new(), remote: Vec::new() });
        let payload = b"from the child".to_vec();
        let direction = Direction::Egress;
        assert_eq!(event.what, What::Data { direction, position: 0, total: 14, payload });
        let socket = event.socket.unwrap();
        assert_eq!((socket.local, socket.remote), (None, None));
    }
    drop(stdin);
    child.wait().unwrap();
}
