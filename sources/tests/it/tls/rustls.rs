//! rustls, with threads and with tokio, at both ends and with curl: in programs as cargo builds them, in one that is
//! optimized as a whole, and in one without symbols.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use weir_sources::ebpf::tls::look;

use super::pairs::curl_config;
use super::{Capture, Place, Server, check, free_port, has, is_of, log_of};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/rustls");
/// What is built of it stays: the crates below it are large.
const BUILT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/rustls");

/// The program, if its crates are there; said on stderr if not.
fn built(profile: &str) -> Option<PathBuf> {
    let cargo = || {
        let mut cargo = Command::new(env!("CARGO"));
        // What is set for the build of the tests is not meant for this one.
        let own = std::env::vars().filter(|(name, _)| name.starts_with("CARGO_"));
        own.filter(|(name, _)| name != "CARGO_HOME")
            .for_each(|(name, _)| _ = cargo.env_remove(name));
        cargo.current_dir(SOURCE).env_remove("RUSTFLAGS");
        cargo
    };
    let fetched = cargo().args(["fetch", "--locked", "--offline"]).output().unwrap();
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr).into_owned();
        weir_types::testing::skipped(format!("no crates (scripts/test-servers): {why}"));
        return None;
    }
    let mut build = cargo();
    build.args(["build", "--locked", "--offline", "--quiet", "--target-dir", BUILT]);
    assert!(build.args(["--profile", profile]).status().unwrap().success());
    Some(Path::new(BUILT).join(profile).join("pair"))
}

/// rustls takes no authority's certificate for a server's.
fn place() -> Place {
    Place::with(&["-addext", "basicConstraints=critical,CA:FALSE"])
}

fn command(program: &Path, place: &Place, port: u16, role: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(place.path("")).arg(port.to_string()).arg(role);
    command
}

fn pair_of(program: &Path, server: &str, client: &str) {
    let (place, port) = (place(), free_port());
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = Server::run(&mut command(program, &place, port, server), port);
    capture.wait_until_probed(&program.to_string_lossy());
    let log = log_of(&capture.watch(&mut command(program, &place, port, client)));
    assert_eq!(log.len(), 600);
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// Connections of threads and of tasks that move between them, each for 25 requests, whose heads and bodies are
/// written one after the other or at once. Catches the first bytes of a connection, which is not where it was when it
/// was made; slices that are told in part; and answers that are told of the connection that was read last.
#[test]
fn rustls_at_both_ends() {
    for profile in ["release", "whole"] {
        let Some(program) = built(profile) else { return };
        pair_of(&program, "server", "client");
        pair_of(&program, "async-server", "async-client");
    }
}

/// The same for programs that were built of it in other ways: `WEIR_RUSTLS_PAIRS` has their paths, separated by colons.
#[test]
fn rustls_of_other_builds() {
    let paths = std::env::var("WEIR_RUSTLS_PAIRS").unwrap_or_default();
    for path in paths.split(':').filter(|path| !path.is_empty()) {
        pair_of(path.as_ref(), "server", "client");
        pair_of(path.as_ref(), "async-server", "async-client");
    }
}

/// A connection that requests were made on before anybody watched, with both ends waiting in a read. Catches bytes that
/// are held back until a handshake is seen.
#[test]
fn rustls_joined_midway() {
    let Some(program) = built("release") else { return };
    let (place, port) = (place(), free_port());
    let server = Server::run(&mut command(&program, &place, port, "async-server"), port);
    let mut client = command(&program, &place, port, "joined");
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let mut capture = Capture::of_port(port);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    });
    if let Some(capture) = &mut capture {
        capture.wait_until_probed(&program.to_string_lossy());
    }
    client.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let Some(mut capture) = capture else {
        client.wait().unwrap();
        return;
    };
    capture.watch_child(&mut client);
    let log = log_of(&reader.join().unwrap());
    assert_eq!(log.len(), 100);
    check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
}

/// curl's OpenSSL at one end, rustls at the other.
#[test]
fn rustls_and_curl() {
    let (true, Some(program)) = (has("curl"), built("release")) else { return };
    for role in ["server", "async-server"] {
        let (place, port) = (place(), free_port());
        let Some(mut capture) = Capture::of_port(port) else { return };
        let server = Server::run(&mut command(&program, &place, port, role), port);
        capture.wait_until_probed(&program.to_string_lossy());
        let mut script = String::from("set -e\n");
        for client in 0..4 {
            let config =
                place.write(&format!("curl{client}"), &curl_config(port, client * 100, 100));
            writeln!(script, "curl -K {} > /dev/fd/1 &", config.display()).unwrap();
        }
        script.push_str("wait\n");
        let log = log_of(&capture.watch(Command::new("sh").args(["-c", &script])));
        assert_eq!(log.len(), 400);
        check(&mut capture, &log, &|pid| is_of(pid, server.pid()));
    }
}

/// Without symbols nothing is read, `doctor` says why, and cipher bytes are no rows.
#[test]
fn stripped_rustls_says_why() {
    let (true, Some(built)) = (has("strip"), built("release")) else { return };
    let (place, port) = (place(), free_port());
    let program = place.path("pair");
    let stripped = Command::new("strip").arg("-o").arg(&program).arg(built).status().unwrap();
    assert!(stripped.success());
    let Some(mut capture) = Capture::of_port(port) else { return };
    let server = Server::run(&mut command(&program, &place, port, "async-server"), port);
    let looks = look(Path::new("/proc"), server.pid()).unwrap();
    let reasons: Vec<_> = looks.iter().map(|look| look.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("rustls is compiled into it, and it has no symbols")]);
    capture.watch(&mut command(&program, &place, port, "async-client"));
    assert_eq!(capture.rows().len(), 0);
}
