//! A server wholly on io_uring.

use io_uring::{opcode, types::Fd};

use super::ends::Traced;
use super::unseen::Ring;
use super::*;

/// Accept, receive and send by rings: every exchange is a row at the server, with the role that its
/// accept gives it, and nothing is counted as unseen. Catches bytes that pass by all system calls.
fn check_server(build: Build) {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let config = EbpfConfig { build, ..follow_port(address.port()) };
    let Some(mut traced) = Traced::start(&config) else { return };
    let Some(mut ring) = Ring::new() else { return };
    let client = std::thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        for n in 0..20 {
            let request = format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n");
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 41];
            client.read_exact(&mut answer).unwrap();
        }
    });
    let accept =
        opcode::Accept::new(Fd(listener.as_raw_fd()), std::ptr::null_mut(), std::ptr::null_mut())
            .build();
    let server = ring.one(&accept) as i32;
    let mut buffer = [0_u8; 512];
    for n in 0..20 {
        // By turns the operations for sockets and those for files.
        let (at, room) = (buffer.as_mut_ptr(), buffer.len() as u32);
        let entry = if n % 2 == 0 {
            opcode::Recv::new(Fd(server), at, room).build()
        } else {
            opcode::Read::new(Fd(server), at, room).build()
        };
        assert!(ring.one(&entry) > 20);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n";
        let (at, bytes) = (answer.as_ptr(), answer.len() as u32);
        let entry = if n % 2 == 0 {
            opcode::Send::new(Fd(server), at, bytes).build()
        } else {
            opcode::Write::new(Fd(server), at, bytes).build()
        };
        assert_eq!(ring.one(&entry), answer.len());
    }
    client.join().unwrap();
    assert_eq!(ring.one(&opcode::Close::new(Fd(server)).build()), 0);
    traced.settle();
    let rows = traced.rows();
    let expected: Vec<String> = (0..20).map(|n| format!("/{n}")).collect();
    for role in [1, 2] {
        let paths: Vec<&str> =
            rows.iter().filter(|row| row.0 == role).map(|row| row.1.as_str()).collect();
        assert_eq!(paths, expected, "role {role}");
    }
    let counters = traced.source.counters();
    assert_eq!((counters.unseen_bytes, counters.uring_bytes), (0, 0));
}

#[test]
fn a_server_on_io_uring_has_rows() {
    check_server(Build::Linux6_2);
}

#[test]
fn a_server_on_io_uring_has_rows_on_5_8() {
    check_server(Build::Linux5_8);
}

/// An operation whose buffers cannot be read is a gap of known size, counted, and its process named.
#[test]
fn messages_by_io_uring_are_counted_and_named() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let Some(mut ring) = Ring::new() else { return };
    let pair = Pair::connect(&listener);
    let parts = [calls::iov(b"two "), calls::iov(b"parts")];
    let entry = opcode::Writev::new(Fd(pair.client.as_raw_fd()), parts.as_ptr(), 2).build();
    assert_eq!(ring.one(&entry), 9);
    let seen = drain(&mut source);
    let gap = What::Gap { direction: Direction::Egress, position: 0, bytes: 9 };
    assert!(seen.iter().any(|event| event.is_from(pair.client_addr) && event.what == gap));
    assert_eq!(source.counters().uring_bytes, 9);
    let named = source.blind();
    let own = named.iter().find(|process| process.pid == std::process::id()).unwrap();
    assert_eq!((own.reason, own.bytes), (super::super::BlindReason::IoUring, 9));
}
