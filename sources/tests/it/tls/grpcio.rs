//! gRPC for Python, whose core in C++ has a BoringSSL of its own without symbols: in plain text each call is a row,
//! encrypted none is, and it is said why.

use std::path::{Path, PathBuf};
use std::process::Command;

use weir_sources::ebpf::tls::look;

use super::grpc::key;
use super::{Capture, Form, Place, Server, check_as, free_port, has, is_of, log_of};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/grpcio.py");
/// Calls of each of two kinds.
const CALLS: usize = 300;
const PLAIN: Form = Form { major: 2, key, encrypted: false };

/// Where `scripts/test-servers` puts it, if it did; said on stderr if not.
fn site() -> Option<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let site = Path::new(&home).join(".cache/weir/grpcio/python");
    let is_there = site.join("grpc").is_dir();
    if !is_there {
        weir_types::testing::skipped("there is no gRPC for Python in ~/.cache/weir");
    }
    (is_there && has("python3")).then_some(site)
}

fn command(site: &Path, place: &Place, port: u16, role: &str, form: &str) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", site).arg(PROGRAM).arg(place.path("")).arg(port.to_string());
    command.args([role, form, &CALLS.to_string()]);
    command
}

/// Unary calls, some of them refused, and streams both ways, six at once on one connection. Catches messages that are
/// counted elsewhere, and header fields of another call.
#[test]
fn grpcio_in_plain_text() {
    let Some(site) = site() else { return };
    let (place, port) = (Place::new(), free_port());
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = Server::run(&mut command(&site, &place, port, "server", "plain"), port);
    let log = log_of(&capture.watch(&mut command(&site, &place, port, "client", "plain")));
    assert_eq!(log.len(), 2 * CALLS);
    check_as(&PLAIN, &mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// Catches cipher bytes that are taken for a protocol, and a process that nobody can tell why nothing is seen of.
#[test]
fn grpcio_encrypted_says_why() {
    let Some(site) = site() else { return };
    let (place, port) = (Place::new(), free_port());
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = Server::run(&mut command(&site, &place, port, "server", "tls"), port);
    let looks = look(Path::new("/proc"), server.pid()).unwrap();
    let ours: Vec<_> = looks.iter().filter(|look| look.path.contains("cygrpc")).collect();
    assert!(ours.len() == 1 && ours[0].functions == 0, "{looks:?}");
    assert_eq!(ours[0].reason.as_deref(), Some("its BoringSSL has no symbols"));
    let log = log_of(&capture.watch(&mut command(&site, &place, port, "client", "tls")));
    assert_eq!(log.len(), 2 * CALLS);
    assert_eq!(capture.rows().len(), 0);
}
