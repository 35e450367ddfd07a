//! A directory that looks like a machine's root, with made-up processes.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir_sources::capture::CaptureEvent;
use weir_sources::conn::SocketOwner;
use weir_sources::metadata::reader::{Answer, Order, ProcessReader};
use weir_sources::metadata::scan::SocketScanner;
use weir_sources::metadata::{Found, Model, ModelCounters, Observation};
use weir_types::Upid;
use weir_types::metadata::MetadataSnapshot;

pub(crate) const HOST_NETNS: u64 = 4_026_531_840;

/// A made-up process; written by [`Machine::run`].
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) exe: &'static str,
    /// Arguments, blank-separated.
    pub(crate) cmdline: &'static str,
    pub(crate) cgroup: String,
    pub(crate) environ: &'static str,
    pub(crate) flags: u64,
    pub(crate) netns: u64,
    pub(crate) sockets: Vec<u64>,
}

impl Default for Proc {
    fn default() -> Proc {
        Proc {
            pid: 0,
            start_ticks: 5_000,
            exe: "/usr/sbin/nginx",
            cmdline: "nginx -g x",
            cgroup: "0::/\n".to_string(),
            environ: "PATH=/bin",
            flags: 0x40_0000,
            netns: HOST_NETNS,
            sockets: Vec::new(),
        }
    }
}

pub(crate) struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// Booted at 1,700,000,000 s, two CPUs, one address besides loopback.
    pub(crate) fn new() -> Machine {
        let machine = Machine { dir: tempfile::tempdir().unwrap() };
        machine.write("proc/stat", "cpu  1 2\ncpu0 1 2\ncpu1 1 2\nbtime 1700000000\n");
        machine.write("proc/self/stat", "900 (weir) S 1 900");
        machine.tcp(&[]);
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.5\n        /32 host LOCAL\n\
                    \x20    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.255\n\
                    \x20       /32 link BROADCAST\n";
        machine.write("proc/net/fib_trie", trie);
        machine.run(&Proc { pid: 1, start_ticks: 1, exe: "/sbin/init", ..Proc::default() });
        machine.run(&Proc { pid: 900, start_ticks: 900, exe: "/bin/weir", ..Proc::default() });
        machine
    }
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }
    pub(crate) fn proc(&self) -> PathBuf {
        self.dir.path().join("proc")
    }
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    pub(crate) fn run(&self, process: &Proc) {
        let Proc { pid, start_ticks, flags, .. } = process;
        let dir = format!("proc/{pid}");
        let comm = process.exe.rsplit('/').next().unwrap();
        // Fields 3 to 24, as in a kernel's line.
        let stat = format!(
            "{pid} ({comm}) S 1 1 1 0 -1 {flags} 11 0 22 0 33 44 0 0 20 0 3 0 {start_ticks} 4096000 50"
        );
        self.write(&format!("{dir}/stat"), &stat);
        let io = "rchar: 1\nwchar: 2\nsyscr: 9\nsyscw: 9\nread_bytes: 3\nwrite_bytes: 4\n\
                  cancelled_write_bytes: 9\n";
        self.write(&format!("{dir}/io"), io);
        self.write(&format!("{dir}/cmdline"), &format!("{}\0", process.cmdline.replace(' ', "\0")));
        self.write(&format!("{dir}/cgroup"), &process.cgroup);
        self.write(&format!("{dir}/environ"), &process.environ.replace(' ', "\0"));
        let dev = "Inter-|   Receive  |  Transmit\n face |bytes ...\n\
                   \x20   lo: 900 9 0 0 0 0 0 0 900 9 0 0 0 0 0 0\n\
                   \x20 eth0: 100 10 1 2 0 0 0 0 200 20 3 4 0 0 0 0\n\
                   \x20 eth1: 1 1 1 1 0 0 0 0 1 1 1 1 0 0 0 0\n\
                   veth9a: 5 5 5 5 0 0 0 0 5 5 5 5 0 0 0 0\n";
        self.write(&format!("{dir}/net/dev"), dev);
        let link = |name: &str, target: String| {
            let path = self.dir.path().join(&dir).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = std::fs::remove_file(&path);
            symlink(target, path).unwrap();
        };
        if !process.exe.is_empty() {
            link("exe", process.exe.to_string());
        }
        link("ns/net", format!("net:[{}]", process.netns));
        link("fd/0", "/dev/null".to_string());
        for (idx, inode) in process.sockets.iter().enumerate() {
            link(&format!("fd/{}", idx + 3), format!("socket:[{inode}]"));
        }
    }
    pub(crate) fn exit(&self, pid: u32) {
        std::fs::remove_dir_all(self.dir.path().join(format!("proc/{pid}"))).unwrap();
    }
    /// The host's table of TCP sockets: (hex address and port, the remote one, state, inode).
    pub(crate) fn tcp(&self, sockets: &[(&str, &str, &str, u64)]) {
        let mut text = "  sl  local_address rem_address   st tx_queue rx_queue\n".to_string();
        for (idx, (local, remote, state, inode)) in sockets.iter().enumerate() {
            text.push_str(&format!(
                "{idx:4}: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 \
                 0 0 {inode} 1 0000 100 0 0 10 0\n"
            ));
        }
        self.write("proc/self/net/tcp", &text);
    }
}

/// The model and its readers, one after the other: a second at a time.
pub(crate) struct LocalMetadata {
    model: Model,
    reader: ProcessReader,
    scanner: SocketScanner,
    last: Arc<MetadataSnapshot>,
    /// What somebody knows who is told of changes only.
    followed: MetadataSnapshot,
}

impl LocalMetadata {
    pub(crate) fn new(machine: &Machine) -> LocalMetadata {
        LocalMetadata::keep(machine, Duration::from_secs(3_600))
    }
    pub(crate) fn keep(machine: &Machine, keep: Duration) -> LocalMetadata {
        let root = machine.root();
        LocalMetadata {
            model: Model::new(weir_sources::metadata::Machine::read(7, "laptop", root), Some(keep)),
            reader: ProcessReader::new(7, root),
            scanner: SocketScanner::new(7, root),
            last: Arc::default(),
            followed: MetadataSnapshot::default(),
        }
    }
    /// What a second brings.
    pub(crate) fn refresh(&mut self) -> Arc<MetadataSnapshot> {
        self.model.second(0);
        self.read();
        let known = self.observed_only();
        let mut found = Vec::new();
        let no_time = || Duration::ZERO;
        self.scanner.step(&known, &no_time, i64::MAX / 2, &mut |one| found.push(one));
        found.into_iter().for_each(|one| self.model.found(one));
        self.observed_only()
    }
    /// Reads what was ordered.
    pub(crate) fn read(&mut self) {
        loop {
            let answers = self.answers();
            if answers.is_empty() {
                return;
            }
            self.give(answers);
        }
    }
    /// The answers to what was ordered, not yet given.
    pub(crate) fn answers(&mut self) -> Vec<Answer> {
        let orders: Vec<Order> = std::iter::from_fn(|| self.model.take_order()).collect();
        orders.iter().map(|order| self.reader.read(order)).collect()
    }
    pub(crate) fn give(&mut self, answers: Vec<Answer>) {
        answers.into_iter().for_each(|answer| self.model.found(Found::Answer(answer)));
    }
    /// The snapshot, without reading anything.
    pub(crate) fn observed_only(&mut self) -> Arc<MetadataSnapshot> {
        drop(self.take_changed());
        self.last.clone()
    }
    pub(crate) fn take_changed(&mut self) -> Option<Arc<MetadataSnapshot>> {
        let (new, touched) = self.model.take_changed()?;
        // Who follows what was touched knows the same.
        touched.iter().for_each(|key| self.followed.apply(new.entity(key)));
        for change in new.entities() {
            assert_eq!(self.followed.entity(&change.key()), change);
        }
        assert_eq!(self.followed.entity_count(), new.entity_count());
        self.last = new.clone();
        Some(new)
    }
    /// A row mentions the process. The snapshot if that brought anything new.
    pub(crate) fn look_up(&mut self, upid: Upid) -> Option<Arc<MetadataSnapshot>> {
        self.model.observe(Observation::Mentioned(upid));
        self.read();
        self.take_changed()
    }
    pub(crate) fn read_libraries(&mut self, upids: &[Upid]) {
        self.model.found(Found::LibrariesWanted(upids.to_vec()));
        self.read();
    }
    pub(crate) fn on_event(&mut self, event: &CaptureEvent<'_>) {
        if let Some(observation) = Observation::of_process(event) {
            self.model.observe(observation);
        }
    }
    pub(crate) fn observed(&mut self, end: &SocketOwner) {
        self.model.observe(Observation::End(*end));
    }
    pub(crate) fn found(&mut self, found: Found) {
        self.model.found(found);
    }
    pub(crate) fn counters(&self) -> ModelCounters {
        self.model.counters()
    }
}
