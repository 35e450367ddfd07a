//! Captured traffic that is made to cost memory.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::target::{Target, rss_bytes};

const GROWTH_MAX_BYTES: u64 = 500 << 20;

/// Connections over which requests come without an end and no answer does: what waits is bounded in bytes,
/// whatever it is made of. Catches budgets that do not count what a parser keeps.
#[test]
fn requests_that_are_never_answered() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(mut target) = Target::start(&[port], &[]) else { return };
    let before = rss_bytes(target.weir.pid());
    let mut ends = Vec::new();
    for _ in 0..8 {
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while server.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        ends.push((client, reader));
    }
    let head = format!(
        "GET /{} HTTP/1.1\r\nHost: h\r\nX-Filler: {}\r\n\r\n",
        "a".repeat(900),
        "b".repeat(900)
    );
    let large = format!(
        "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n{}",
        "c".repeat(20_000)
    );
    for _ in 0..60 {
        for (number, (client, _)) in ends.iter_mut().enumerate() {
            let text = if number % 2 == 0 { head.repeat(200) } else { large.repeat(20) };
            client.write_all(text.as_bytes()).unwrap();
        }
        let now = rss_bytes(target.weir.pid());
        assert!(now < before + GROWTH_MAX_BYTES, "{} MiB more", (now - before) >> 20);
    }
    target.stands("requests that are never answered");
    for (client, reader) in ends {
        drop(client);
        reader.join().unwrap();
    }
    target.recovers();
}

/// Bytes that are no protocol, and heads that never end.
#[test]
fn bytes_that_are_no_protocol() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(mut target) = Target::start(&[port], &[]) else { return };
    for start in [
        "GET /",
        "GET / HTTP/1.1\r\nHost: h\r\nX: ",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "\u{0}\u{1}",
    ] {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while server.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        client.write_all(start.as_bytes()).unwrap();
        for _ in 0..300 {
            client.write_all(&[b'a'; 30_000]).unwrap();
        }
        drop(client);
        reader.join().unwrap();
        target.stands(start);
    }
    target.recovers();
}
