//! The harness against real servers: it must be right before it may judge a capture.

use weir_dataflow_tests::harness::http::{Load, request_once, run_load};
use weir_dataflow_tests::harness::nginx::{self, BIG_BODY_BYTES, Nginx, NginxOptions};

fn load(nginx: &Nginx, keep_alive: bool) -> Load {
    Load {
        addr: nginx.addr,
        paths: ["/ok", "/missing", "/moved", "/a/b?c=d"].map(str::to_string).to_vec(),
        requests: 40,
        requests_per_sec: 400,
        connections: 2,
        keep_alive,
    }
}

/// Requests are answered, logged and paced; connections are kept or not as asked: catches a client
/// whose own log is wrong.
#[test]
fn load_against_nginx() {
    if !nginx::is_installed() {
        weir_types::testing::skipped("nginx is not installed");
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let big = request_once(nginx.addr, "GET", "/big", &[], b"").unwrap();
    assert_eq!((big.status, big.body.len()), (200, BIG_BODY_BYTES));
    for (keep_alive, connections) in [(true, 2), (false, 40)] {
        let log = run_load(&load(&nginx, keep_alive));
        let statuses = |wanted| log.iter().filter(|one| one.status == Some(wanted)).count();
        assert_eq!((statuses(200), statuses(404), statuses(302)), (20, 10, 10));
        let mut ports: Vec<_> = log.iter().map(|one| one.local_port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), connections);
        let took_ns = log[log.len() - 1].start_unix_ns - log[0].start_unix_ns;
        assert!(took_ns > 80_000_000, "40 requests at 400/s took {took_ns} ns");
    }
    let addr = nginx.addr;
    assert!(nginx.quit().unwrap().success());
    assert!(request_once(addr, "GET", "/ok", &[], b"").is_err());
}

/// A killed server is gone with its worker, and its port can be used again at once.
#[test]
fn nginx_restarts_on_its_port() {
    if !nginx::is_installed() {
        weir_types::testing::skipped("nginx is not installed");
        return;
    }
    let first =
        Nginx::start(NginxOptions { keep_alive: false, ..NginxOptions::default() }).unwrap();
    let port = first.addr.port();
    assert!(!first.kill().unwrap().success());
    let again = Nginx::start(NginxOptions { port, keep_alive: true }).unwrap();
    let answer = request_once(again.addr, "GET", "/x?y=1", &[], b"").unwrap();
    assert_eq!(answer.text(), "/x?y=1\n");
}
