//! Real programs that speak TLS to each other over loopback, and the rows of it, against the client's own log.
//!
//! Needs the rights that capture needs, and the programs; without them each test says `skipped` and passes
//! (but not where everything is required).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_sources::ebpf::tls::TlsFile;
use weir_sources::ebpf::{CannotRun, EbpfConfig, EbpfSource, Filters};
use weir_sources::socket::{SocketTracer, SocketTracerConfig};
use weir_types::testing::free_port;
use weir_types::{Clock, RecordBatch, WallClock};

use crate::rows_of::Rows;

mod databases;
mod go;
mod go_memory;
mod grpc;
mod grpcio;
mod http2;
mod pairs;
mod runtimes;
mod rustls;

/// What a client asked and got: its log has a line for each exchange, `path status bytes`.
type Log = BTreeMap<String, (i64, i64)>;

fn log_of(text: &str) -> Log {
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let path = words.next()?.to_string();
        Some((path, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
    };
    let lines: Vec<_> = text.lines().map(|line| parse(line).expect("a line of the log")).collect();
    let count = lines.len();
    let log: Log = lines.into_iter().collect();
    assert_eq!(log.len(), count, "the client asked for each path once");
    log
}

/// A folder with a certificate, and files that programs need.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place::with(&[])
    }
    /// What else `openssl req` is told about the certificate.
    fn with(more: &[&str]) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let made = Command::new("openssl")
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
            .args(
                "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(' '),
            )
            .args(more)
            .arg("-keyout")
            .arg(place.path("key.pem"))
            .arg("-out")
            .arg(place.path("cert.pem"))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        place
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

/// A server, ended with the test.
struct Server(Child);

impl Server {
    /// Runs it, and waits until it listens.
    fn run(command: &mut Command, port: u16) -> Server {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let server = Server(child);
        let began_ns = WallClock.monotonic_ns();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(WallClock.monotonic_ns() - began_ns < 60_000_000_000, "it does not listen");
            std::thread::yield_now();
        }
        server
    }
    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that a master ends its workers.
        let pid = self.0.id().to_string();
        drop(Command::new("kill").arg(&pid).status());
        drop(self.0.wait());
    }
}

/// Whether a program is there; said on stderr if not.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !found.status.success() {
        weir_types::testing::skipped(format!("{program} is not installed"));
    }
    found.status.success()
}

/// Capture of one port, up to rows.
struct Capture {
    source: EbpfSource,
    tracer: SocketTracer,
    batches: Vec<(&'static str, RecordBatch)>,
}

impl Capture {
    /// With room for all that a client of these tests moves: calls of which less is copied on a busy machine,
    /// because the ring fills, hide parts of an exchange, which is told and tested elsewhere.
    fn of_port(port: u16) -> Option<Capture> {
        Capture::with(port, EbpfConfig { ring_bytes: 64 << 20, ..EbpfConfig::default() })
    }

    fn with(port: u16, config: EbpfConfig) -> Option<Capture> {
        let filters = Filters { ports: BTreeSet::from([port]), ..Filters::default() };
        let config = EbpfConfig { filters, ..config };
        let source = match EbpfSource::start(&config) {
            Ok(source) => source,
            Err(
                error @ (CannotRun::MissingCapabilities { .. }
                | CannotRun::NoBtf
                | CannotRun::KernelTooOld { .. }),
            ) => {
                weir_types::testing::skipped(error);
                return None;
            }
            Err(error) => panic!("{}", weir_types::text::with_causes(&error)),
        };
        let off = source.programs().iter().find(|program| program.reason.is_some());
        assert_eq!(off, None);
        let tracer = SocketTracer::new(SocketTracerConfig::default());
        Some(Capture { source, tracer, batches: vec![] })
    }

    fn drain(&mut self) {
        let tracer = &mut self.tracer;
        while self.source.drain(&mut |event| tracer.on_event(&event)).more {}
        for stop in self.tracer.take_stop_copying() {
            self.source.stop_copying(stop).unwrap();
        }
        let source = &self.source;
        let batches =
            self.tracer.flush_asking(WallClock.now_unix_ns(), &mut |key| source.liveness(key));
        self.batches.extend(batches);
    }

    /// Until a file whose path has this part is probed: a new one takes some milliseconds.
    fn wait_until_probed(&mut self, part: &str) {
        let is_probed = |file: &TlsFile| file.path.contains(part) && file.refused.is_none();
        let began_ns = WallClock.monotonic_ns();
        while !self.source.tls_files().iter().any(is_probed) {
            let files = self.source.tls_files();
            assert!(WallClock.monotonic_ns() - began_ns < 60_000_000_000, "{part}: {files:?}");
            self.source.wait(Duration::from_millis(20));
            self.drain();
        }
    }

    /// Watches until the client has ended; what it wrote to its output.
    fn watch(&mut self, client: &mut Command) -> String {
        let mut client =
            client.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it is there");
        let mut output = client.stdout.take().expect("it is piped");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut output, &mut text).unwrap();
            text
        });
        self.watch_child(&mut client);
        reader.join().unwrap()
    }

    fn watch_child(&mut self, client: &mut Child) {
        while client.try_wait().unwrap().is_none() {
            self.source.wait(Duration::from_millis(20));
            self.drain();
        }
        assert!(client.wait().unwrap().success());
    }

    /// All rows of HTTP, once everything is over; there are none of other protocols.
    fn rows(&mut self) -> Rows {
        self.rows_of("http_events")
    }

    fn rows_of(&mut self, table: &'static str) -> Rows {
        // The servers' last calls may return after the client's end.
        for _ in 0..10 {
            self.source.wait(Duration::from_millis(20));
            self.drain();
        }
        self.batches.extend(self.tracer.finish(WallClock.now_unix_ns()));
        // Handshakes and statistics are told of all.
        let other = self.batches.iter().find(|(name, _)| {
            ![table, "conn_stats", "tls_events"].contains(name) && name.contains("_events")
        });
        assert!(other.is_none(), "rows of another protocol: {other:?}");
        Rows::of(table, &self.batches)
    }

    fn lost_of(&self, reason: &str) -> u64 {
        self.tracer.counters().iter().map(|table| table.lost_for(reason)).sum()
    }

    fn lost(&self) -> String {
        let lost: Vec<String> = self
            .tracer
            .counters()
            .iter()
            .flat_map(|table| table.lost.iter().filter(|(_, count)| *count > 0))
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        format!("{lost:?} {:?}", self.source.counters())
    }
}

/// How a row of HTTP is found in the log, and of which version it is.
struct Form {
    major: i64,
    encrypted: bool,
    key: fn(&Rows, usize) -> String,
}

const HTTP1: Form = Form { major: 1, encrypted: true, key: path };
const HTTP2: Form = Form { major: 2, encrypted: true, key: path };

fn path(rows: &Rows, row: usize) -> String {
    rows.text(row, "req_path")
}

/// Each exchange of the log is a row at the client and one at the server, as the client knows it; there are no
/// others, and all are told to be encrypted where they are.
fn check(capture: &mut Capture, log: &Log, server: &dyn Fn(u32) -> bool) {
    check_as(&HTTP1, capture, log, server);
}

fn check_as(form: &Form, capture: &mut Capture, log: &Log, server: &dyn Fn(u32) -> bool) {
    let rows = capture.rows();
    let mut seen: BTreeMap<(String, i64), u32> = BTreeMap::new();
    for row in 0..rows.len() {
        let (key, role) = ((form.key)(&rows, row), rows.int(row, "trace_role"));
        let Some((status, bytes)) = log.get(&key) else { panic!("nobody asked for {key}") };
        assert_eq!(rows.int(row, "resp_status"), *status, "{key}");
        let size = rows.int(row, "resp_body_size");
        assert_eq!(size, *bytes, "{key}, role {role} … {}", capture.lost());
        assert_eq!(rows.int(row, "major_version"), form.major, "{key}");
        assert_eq!(rows.bool(row, "encrypted"), form.encrypted, "{key}");
        assert_eq!(server(rows.upid(row).pid()), role == 2, "{key}");
        let local = rows.int(row, "local_port");
        assert_eq!(rows.text(row, "remote_addr"), "127.0.0.1");
        assert!(local > 0 && rows.int(row, "remote_port") > 0 && rows.int(row, "latency") > 0);
        *seen.entry((key, role)).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "twice: {twice:?}");
    let missing: Vec<_> = log
        .keys()
        .flat_map(|key| [(key.clone(), 1), (key.clone(), 2)])
        .filter(|key| !seen.contains_key(key))
        .collect();
    // Of a thousand one may be missing.
    let all = 2 * log.len();
    assert!(
        missing.len() * 1_000 <= all,
        "{} of {all} missing: {:?} … {}",
        missing.len(),
        &missing[..missing.len().min(8)],
        capture.lost()
    );
}

/// Whether a process is this one or its child.
fn is_of(pid: u32, ancestor: u32) -> bool {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(Path::new("/proc").join(format!("{pid}/stat"))).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    pid == ancestor || parent(pid) == Some(ancestor)
}
