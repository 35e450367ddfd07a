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

/// Operations whose buffers cannot be read, each kind of them: a gap of known size, counted, of the protocol
/// that the connection speaks, and the process is named. Catches bytes that are in no row and in no count.
fn check_unreadable(build: Build) {
    let listener = listen();
    let config = EbpfConfig { build, ..follow_port(listener.local_addr().unwrap().port()) };
    let Some(mut traced) = Traced::start(&config) else { return };
    let Some(mut ring) = Ring::new() else { return };
    let mut pair = Pair::connect(&listener);
    pair.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    traced.settle();
    let parts = [calls::iov(b"two "), calls::iov(b"parts")];
    let (client, server) = (Fd(pair.client.as_raw_fd()), Fd(pair.server.as_raw_fd()));
    let mut room = [0_u8; 9];
    let into = [calls::iov(&room[..4]), calls::iov(&room[4..])];
    let mut sent = 0;
    let mut move_by = |ring: &mut Ring, write: io_uring::squeue::Entry, read| {
        assert_eq!(ring.one(&write), 9);
        let read = read || !ring.has(60);
        let entry = if read {
            opcode::Readv::new(server, into.as_ptr(), 2).build()
        } else {
            opcode::ReadvFixed::new(server, into.as_ptr(), 2, 1).build()
        };
        assert_eq!(ring.one(&entry), 9);
        sent += 9;
    };
    move_by(&mut ring, opcode::Writev::new(client, parts.as_ptr(), 2).build(), true);
    let mut header = calls::mmsg(&mut parts.clone())[0].msg_hdr;
    (header.msg_iov, header.msg_iovlen) = (parts.as_ptr().cast_mut(), 2);
    move_by(&mut ring, opcode::SendMsg::new(client, &raw const header).build(), true);
    if ring.has(61) {
        let text = *b"two parts";
        let parts = [calls::iov(&text[..4]), calls::iov(&text[4..])];
        let whole = [calls::iov(&text), calls::iov(&room)];
        // SAFETY: the buffers live until the ring is dropped, which is before them.
        unsafe { ring.0.submitter().register_buffers(&whole).unwrap() };
        let entry = opcode::WritevFixed::new(client, parts.as_ptr(), 2, 0).build();
        move_by(&mut ring, entry, false);
        ring.0.submitter().unregister_buffers().unwrap();
    }
    room.reverse();
    traced.settle();
    let counters = traced.source.counters();
    assert_eq!((counters.uring_bytes, counters.unseen_bytes), (2 * sent, 0));
    let lost = |table| traced.lost(table, "io_uring_bytes");
    assert_eq!([lost("http_events"), lost("dns_events"), lost("conn_stats")], [2 * sent, 0, 0]);
    let named = traced.source.blind();
    let own = named.iter().find(|process| process.pid == std::process::id()).unwrap();
    assert_eq!((own.reason, own.bytes), (super::super::BlindReason::IoUring, 2 * sent));
}

#[test]
fn vectors_by_io_uring_are_counted_and_named() {
    check_unreadable(Build::Linux6_2);
}

#[test]
fn vectors_by_io_uring_are_counted_and_named_on_5_8() {
    check_unreadable(Build::Linux5_8);
}
