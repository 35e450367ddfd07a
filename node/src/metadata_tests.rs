//! Tests of the metadata's threads: nobody waits for `/proc`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Weak;

use weir_actors::KillSwitch;
use weir_sources::capture::{Opened, Process};
use weir_sources::conn::{EndOf, SocketOwner};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = now();
    while !is_so() {
        assert!(since(start) < DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

fn started(pid: u32) -> Observation {
    let process = Process { pid, start_ticks: 5 };
    Observation::Started { process, comm: "curl".to_string(), cmdline: b"curl\0-s\0"[..].into() }
}

fn end(number: u32) -> Observation {
    let local = SocketAddr::from(([127, 0, 0, 1], 1_024 + (number % 60_000) as u16));
    Observation::End(SocketOwner {
        end: EndOf::Ip {
            local,
            remote: SocketAddr::from(([127, 0, (number / 60_000) as u8, 1], 80)),
        },
        netns: 1,
        process: Process { pid: 1, start_ticks: 1 },
        opened: Opened::Connected,
        at_unix_ns: i64::from(number),
        ended: false,
    })
}

/// A directory that looks like a machine's root, with one process.
fn machine(root: &Path, pid: u32) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("proc/stat", "cpu0 1 2\nbtime 1700000000\n");
    write("proc/self/stat", "1 (weir) S 1 1");
    let stat = format!("{pid} (x) S 1 1 1 0 -1 4194304 1 0 2 0 3 4 0 0 20 0 3 0 5 4096000 50");
    write(&format!("proc/{pid}/stat"), &stat);
}

/// While `/proc` does not answer at all, what capture sees is still taken, published and settled:
/// nobody waits for a reader. Catches a lock that is held over IO, and IO on the thread that takes
/// observations.
#[test]
fn nobody_waits_for_proc() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path(), 30);
    // Opening it waits for a writer, who never comes.
    let fifo = dir.path().join("proc/30/cmdline");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let metadata = Metadata::new(7, "here", dir.path().to_path_buf(), Duration::from_secs(60));
    metadata.start(Weak::new(), &KillSwitch::root("test"));
    let (observer, settled) = (metadata.observer(), metadata.names().settled);
    for round in 0..100 {
        observer.observe(started(1_000 + round));
        observer.observe(end(round));
        observer.mark();
        wait_until("an observation waits for a reader", || settled());
        let known = observer.published();
        let process = known.snapshot.process(Upid::new(7, 1_000 + round, 5)).unwrap();
        assert_eq!(process.cmdline, "curl -s");
        assert_eq!(known.snapshot.connections.ends.len(), round as usize + 1);
    }
    assert!(observer.published().awaits(Upid::new(7, 30, 5)), "it has not been read");
    assert_eq!(observer.dropped_total(), 0);
    // Let the reader go.
    drop(std::fs::OpenOptions::new().write(true).open(&fifo).unwrap());
    drop(metadata);
}

/// A queue that nobody empties is bounded in number and bytes, and what it refuses is counted.
#[test]
fn observations_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path(), 30);
    let metadata = Metadata::new(7, "here", dir.path().to_path_buf(), Duration::from_secs(60));
    let observer = metadata.observer();
    let more = u32::try_from(OBSERVATIONS_MAX).unwrap() + 1_000;
    (0..more).for_each(|number| observer.observe(end(number)));
    assert_eq!(observer.dropped_total(), 1_000);

    let metadata = Metadata::new(7, "here", dir.path().to_path_buf(), Duration::from_secs(60));
    let observer = metadata.observer();
    let process = Process { pid: 1, start_ticks: 5 };
    let cmdline: Box<[u8]> = vec![b'a'; 1 << 20].into();
    for _ in 0..20 {
        let comm = String::new();
        observer.observe(Observation::Started { process, comm, cmdline: cmdline.clone() });
    }
    assert!(observer.shared.queued_bytes.load(Ordering::Relaxed) <= OBSERVATION_BYTES_MAX);
    assert_eq!(observer.dropped_total(), 13);
    // What was dropped is in the ledger, once.
    let (ledger, note_lost) = (NodeLedger::default(), metadata.names().note_lost);
    (0..2).for_each(|_| note_lost(&ledger, Span::new(1, 2)));
    assert_eq!(ledger.totals()[METADATA]["observations_full"], 13);
    // It begins, and takes what waited.
    metadata.start(Weak::new(), &KillSwitch::root("test"));
    observer.mark();
    let settled = metadata.names().settled;
    wait_until("what waited is taken", || settled());
    assert_eq!(observer.shared.queued_bytes.load(Ordering::Relaxed), 0);
}

/// Ends them when the test does.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// With 200 network namespaces, whose tables take seconds to read, a second's worth of observations
/// is taken again and again without a drop, while the tables are being read.
#[test]
fn namespaces_hold_nobody_up() {
    const NAMESPACES: usize = 200;
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["-n", "sleep", "600"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        command
    };
    let can = Command::new("unshare").args(["-n", "true"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("WEIR_REQUIRE_ALL").is_none(), "needs root");
        weir_types::testing::skipped("network namespaces need root");
        return;
    }
    let children = Children((0..NAMESPACES).map(|_| unshare().spawn().unwrap()).collect());
    let metadata = Metadata::new(7, "here", PathBuf::from("/"), Duration::from_secs(60));
    metadata.start(Weak::new(), &KillSwitch::root("test"));
    let (observer, settled) = (metadata.observer(), metadata.names().settled);
    let mut number = 0;
    // The machine's own addresses come first; the scan goes on behind them.
    let mut rounds_while_scanning = 0;
    wait_until("the tables are read", || {
        let known = observer.published();
        let began = known.snapshot.connections.own_netns != 0;
        for _ in 0..OBSERVATIONS_MAX / 2 {
            number += 1;
            observer.observe(end(number % 500_000));
        }
        observer.mark();
        wait_until("an observation waits for the tables", || settled());
        rounds_while_scanning += u32::from(began);
        rounds_while_scanning >= 20
    });
    assert_eq!(observer.dropped_total(), 0);
    drop(children);
}
