//! HTTP clients that come without leave, slowly, or in great numbers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::target::{Target, rss_bytes};

/// Ways to write a path that some servers take for the same.
fn spellings(path: &str) -> Vec<String> {
    let first = path.chars().nth(1).map_or(0, u32::from);
    vec![
        path.to_string(),
        path.replacen(&path[1..2], &format!("%{first:02x}"), 1),
        path.replacen(&path[1..2], &format!("%{first:02X}"), 1),
        format!("/{path}"),
        format!("/.{path}"),
        format!("/x/..{path}"),
        format!("/x/%2e%2e{path}"),
        format!("{path}/"),
        format!("{path};a=b"),
        path.to_ascii_uppercase(),
        path.replace('/', "%2f").replacen("%2f", "/", 1),
    ]
}

fn raw(target: &Target, request: &str) -> String {
    let mut stream = TcpStream::connect(target.weir.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    // The head says whether it was let in; a page's first lines say that it is one.
    let mut answer = vec![0; 1 << 16];
    let count = stream.read(&mut answer).unwrap_or(0);
    answer.truncate(count);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Nothing that is said about this host is said without the token, however the path is written: catches a
/// check that reads another path than the routes do.
#[test]
fn paths_in_every_spelling() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    let host = target.weir.addr;
    for path in [
        "/api/v1/stats",
        "/api/v1/queries",
        "/api/v1/scripts",
        "/api/v1/nodes",
        "/api/v1/doctor",
        "/api/v1/live",
        "/metrics",
    ] {
        for spelled in spellings(path) {
            for target_form in [spelled.clone(), format!("http://{host}{spelled}")] {
                let upgrade = "Upgrade: websocket\r\nConnection: close, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
                let plain = format!(
                    "GET {target_form} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                );
                let socket = format!("GET {target_form} HTTP/1.1\r\nHost: {host}\r\n{upgrade}\r\n");
                for request in [plain, socket] {
                    let answer = raw(&target, &request);
                    let status = answer.split(' ').nth(1).unwrap_or("").to_string();
                    let page =
                        answer.contains("<!doctype html") || answer.contains("<!DOCTYPE html");
                    let open = status == "101" || (status == "200" && !page);
                    assert!(!open, "{target_form} answered without a token: {answer}");
                }
            }
        }
    }
    target.stands("paths in every spelling");
    target.recovers();
}

/// Slow heads and bodies in great numbers: they take little memory and are let go.
#[test]
fn slow_clients() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    let before = rss_bytes(target.weir.pid());
    let host = target.weir.addr;
    let mut streams = Vec::new();
    for n in 0..400 {
        let Ok(mut stream) = TcpStream::connect(host) else { continue };
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let head = format!(
            "POST /api/v1/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\n\r\n"
        );
        let text = if n % 2 == 0 { head + &"x".repeat(1_900_000) } else { head[..60].to_string() };
        let _ = stream.write_all(text.as_bytes());
        streams.push(stream);
    }
    let now = rss_bytes(target.weir.pid());
    assert!(now < before + (100 << 20), "{} MiB more", (now - before) >> 20);
    target.stands("four hundred slow clients");
    drop(streams);
    target.recovers();
}

/// Thousands of connections that say nothing, and requests by the thousand on one whose answers nobody reads:
/// others are served meanwhile, and it costs little memory. Catches a place that a silent client keeps.
#[test]
fn floods_of_connections_and_requests() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    let before = rss_bytes(target.weir.pid());
    let silent: Vec<TcpStream> =
        (0..3_000).filter_map(|_| TcpStream::connect(target.weir.addr).ok()).collect();
    assert!(silent.len() > 1_000, "{} connections", silent.len());
    target.stands("thousands of silent connections");
    let host = target.weir.addr;
    let token = &target.weir.token;
    let request = format!(
        "GET /api/v1/funcs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let mut deaf = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        // It is not read any further once enough waits to be written.
        let _ = stream.write_all(request.repeat(5_000).as_bytes());
        deaf.push(stream);
    }
    let now = rss_bytes(target.weir.pid());
    assert!(now < before + (200 << 20), "{} MiB more", (now - before) >> 20);
    target.stands("pipelined requests that nobody reads the answers of");
    drop((silent, deaf));
    target.recovers();
}
