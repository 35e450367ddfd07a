//! Captured traffic that is made to cost memory.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_dataflow_tests::harness::wait_until;

use crate::scripts::{ask, heavy};
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

/// Requests as fast as a server answers them, a hundred at a time on each connection.
struct Flood {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

const AT_A_TIME: usize = 100;
/// The server echoes it; no answer has the last letter elsewhere.
const FLOOD_PATH: &str = "/flood/item~";

impl Flood {
    fn start(addr: SocketAddr) -> Flood {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = || {
            let (stop, answers) = (stop.clone(), answers.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let _ = Flood::connection(addr, &stop, &answers);
                }
            })
        };
        let threads = (0..4).map(|_| client()).collect();
        Flood { stop, answers, threads }
    }

    fn connection(addr: SocketAddr, stop: &AtomicBool, answers: &AtomicU64) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let request = format!("GET {FLOOD_PATH} HTTP/1.1\r\nHost: h\r\n\r\n");
        let requests = request.repeat(AT_A_TIME);
        let mut buffer = vec![0; 1 << 16];
        while !stop.load(Ordering::SeqCst) {
            stream.write_all(requests.as_bytes())?;
            let mut left = AT_A_TIME;
            while left > 0 {
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                left -= buffer[..count].iter().filter(|&&byte| byte == b'~').count();
            }
            answers.fetch_add(AT_A_TIME as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Tens of thousands of requests a second, and every heavy script asked for meanwhile: what cannot be kept up
/// with is lost and said, what a script cannot have is refused, and the quiet view is on time.
#[test]
fn a_flood_under_heavy_scripts() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    let flood = Flood::start(target.nginx.addr);
    let flows = || (flood.answers.load(Ordering::Relaxed) > 100_000).then_some(());
    assert!(wait_until(Duration::from_secs(30), flows).is_some(), "the flood does not flow");
    for (name, text) in heavy() {
        target.withstands(name, |target| ask(target, name, &text));
    }
    drop(flood);
    target.recovers();
}
