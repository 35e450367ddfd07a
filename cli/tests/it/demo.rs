//! The demo shop as processes: it serves, two of them live side by side, and it is gone with its
//! parent, also when that is killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

const WAIT_MAX: Duration = Duration::from_secs(20);

struct Service {
    name: String,
    addr: SocketAddr,
    pid: i32,
    /// Becomes readable when the process ends, whoever reaps it.
    pidfd: OwnedFd,
}

struct Shop {
    process: Child,
    services: Vec<Service>,
}

impl Drop for Shop {
    /// For a test that failed half-way: its processes go with their parent.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Shop {
    fn start() -> Shop {
        let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["demo-service", "--all"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdout = process.stdout.take().expect("is piped");
        let lines = BufReader::new(stdout).lines().take(8);
        let services = lines.map(|line| service(&line.expect("is text"))).collect();
        Shop { process, services }
    }

    fn addr(&self, name: &str) -> SocketAddr {
        let service = self.services.iter().find(|service| service.name == name);
        service.expect("is one of the shop's").addr
    }
}

fn service(line: &str) -> Service {
    let json: Value = serde_json::from_str(line).expect("is JSON");
    let pid = i32::try_from(json["pid"].as_i64().expect("is a number")).expect("is a pid");
    let pidfd = pidfd_open(Pid::from_raw(pid).expect("is positive"), PidfdFlags::empty());
    Service {
        name: json["name"].as_str().expect("is text").to_owned(),
        addr: json["addr"].as_str().expect("is text").parse().expect("is an address"),
        pid,
        pidfd: pidfd.expect("is alive"),
    }
}

/// The whole answer to one request on a connection of its own.
fn get(addr: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("connects");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("is a valid timeout");
    let request = format!("GET {target} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    answer
}

/// Waits until the process has ended; false if it has not in time.
fn ends(service: &Service) -> bool {
    let mut fds = [PollFd::new(&service.pidfd, PollFlags::IN)];
    let timeout = Timespec::try_from(WAIT_MAX).expect("fits");
    poll(&mut fds, Some(&timeout)).expect("polls") == 1
}

fn is_running(service: &Service) -> bool {
    let mut fds = [PollFd::new(&service.pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).expect("polls") == 0
}

/// Seven services answer as they should, named in their environment, the load among them; two
/// shops live side by side on addresses of their own, and the end of one does not touch the other.
#[test]
fn shops_serve_side_by_side_and_stop_in_order() {
    let (mut one, two) = (Shop::start(), Shop::start());
    let names: Vec<_> = one.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "frontend",
            "catalog",
            "recommendations",
            "cart",
            "inventory",
            "checkout",
            "payments",
            "shopper"
        ]
    );
    for (mine, other) in one.services.iter().zip(&two.services) {
        assert_ne!(mine.addr.ip(), other.addr.ip());
        let environment = std::fs::read(format!("/proc/{}/environ", mine.pid)).expect("is ours");
        let label = format!("OTEL_SERVICE_NAME={}", mine.name);
        assert!(environment.split(|byte| *byte == 0).any(|entry| entry == label.as_bytes()));
    }
    for shop in [&one, &two] {
        let home = get(shop.addr("frontend"), "/");
        assert!(home.starts_with("HTTP/1.1 200 OK\r\n"), "{home}");
        assert!(home.contains("\"recommended\":["), "{home}");
        let missing = get(shop.addr("frontend"), "/products/9999");
        assert!(missing.starts_with("HTTP/1.1 404 Not Found\r\n"), "{missing}");
        let cart = get(shop.addr("cart"), "/cart/u7");
        assert!(cart.contains("\"user\":\"u7\""), "{cart}");
    }

    drop(one.process.stdin.take());
    let status = one.process.wait().expect("ends");
    assert!(status.success(), "{status}");
    for service in &one.services {
        assert!(!is_running(service), "{} outlived an orderly stop", service.name);
    }
    assert!(two.services.iter().all(is_running));
}

/// SIGKILL leaves the parent no time to clean up: the processes must go by themselves.
#[test]
fn a_killed_parent_takes_the_shop_with_it() {
    let mut shop = Shop::start();
    assert!(shop.services.iter().all(is_running));
    shop.process.kill().expect("is ours");
    shop.process.wait().expect("ends");
    for service in &shop.services {
        assert!(ends(service), "{} outlived its parent", service.name);
    }
}

/// Calls between the services leave from the caller's own address, or the map could not tell who
/// calls: seen in the kernel's table of connections to the inventory, which two services call.
#[test]
fn services_call_from_their_own_addresses() {
    let shop = Shop::start();
    let inventory = shop.addr("inventory");
    // Adding to a cart asks the inventory; while this connection is open, so is the one that the
    // cart opened for it.
    let mut stream = TcpStream::connect(shop.addr("cart")).expect("connects");
    let body = "{\"product\":1}";
    let head = format!("POST /cart/u1/items HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("is sent");
    stream.read_exact(&mut [0; 8]).expect("is answered");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("is readable");
    let callers: Vec<_> =
        table.lines().skip(1).filter_map(|line| caller_of(line, inventory)).collect();
    assert!(callers.contains(&shop.addr("cart").ip().to_string()), "{callers:?}");
    let shops: Vec<_> = shop.services.iter().map(|service| service.addr.ip().to_string()).collect();
    assert!(callers.iter().all(|caller| shops.contains(caller)), "{callers:?}");
}

/// The local address of a `/proc/net/tcp` line whose remote end is `to` (addresses there are in
/// hexadecimal, in the machine's byte order; this test's machines are little-endian).
fn caller_of(line: &str, to: SocketAddr) -> Option<String> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    (remote == to).then(|| local.ip().to_string())
}

fn address(field: &str) -> Option<SocketAddr> {
    let (ip, port) = field.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    Some(SocketAddr::from((ip, u16::from_str_radix(port, 16).ok()?)))
}
