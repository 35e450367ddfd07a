//! The server under attack, what it may have, and what is asked of it meanwhile and afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::http::{Connection, Load, Response, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Process;
use weir_dataflow_tests::harness::weir::{Weir, binary};
use weir_dataflow_tests::harness::{pause, wait_until};
use weir_types::{Clock, WallClock};

/// What the server may have, in bytes.
const MEMORY_MAX: u64 = 2 << 30;
/// The quiet view's refresh.
const REFRESH_NS: i64 = 1_000_000_000;
/// No refresh of the quiet view is later than two, and what compiling it into a message and a debug build add.
const LATE_MAX: Duration = Duration::from_secs(3);
/// A row's way to the reader passes so many threads, each of which may have to wait for a core as long as the
/// control does.
pub(crate) const HOPS: u32 = 8;
/// How often the control looks at the clock.
const CONTROL_NS: u64 = 20_000_000;
/// A refresh that is late by bad luck is in time when the attack is repeated.
pub(crate) const ATTEMPTS: usize = 3;
/// Memory is back within a minute.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// What the quiet view's own state and the allocator's habits add to a young server.
const BACK_SLACK_BYTES: u64 = 48 << 20;
const PRESENT: Duration = Duration::from_secs(30);
const QUIET: &str = "import px
df = px.DataFrame('http_events', start_time='-1m')
df = df.groupby('resp_status').agg(n=('latency', px.count))
px.display(df, 'quiet')
";

/// One attack at a time.
static ATTACKING: Mutex<()> = Mutex::new(());

/// The attack's turn, held while it lasts.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    ATTACKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A memory cgroup; removed when dropped, after its processes have ended.
struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// `None` where we may not make one.
    fn new() -> Option<MemoryLimit> {
        let name = format!("weir-attack-{}-{}", std::process::id(), WallClock.monotonic_ns());
        let first = Path::new("/sys/fs/cgroup/memory").join(&name);
        if std::fs::create_dir(&first).is_ok() {
            std::fs::write(first.join("memory.limit_in_bytes"), MEMORY_MAX.to_string()).ok()?;
            return Some(MemoryLimit(first));
        }
        let second = Path::new("/sys/fs/cgroup").join(&name);
        std::fs::create_dir(&second).ok()?;
        let limited = std::fs::write(second.join("memory.max"), MEMORY_MAX.to_string()).is_ok();
        limited.then_some(MemoryLimit(second))
    }

    /// A command that enters the group and becomes the binary.
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.0.display());
        command.args(["-c", &script, "sh"]).arg(binary().expect("the binary is built"));
        command
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = wait_until(Duration::from_secs(10), || std::fs::remove_dir(&self.0).ok());
    }
}

/// How long a thread that wants nothing but to look at the clock has to wait for it: what the machine, busy
/// with attackers and other tests, does to everybody.
pub(crate) struct Control {
    stop: Arc<AtomicBool>,
    worst_ns: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    pub(crate) fn start() -> Control {
        let (stop, worst_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (stopped, worst) = (stop.clone(), worst_ns.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let due_ns = WallClock.monotonic_ns() + CONTROL_NS;
                pause(Duration::from_nanos(CONTROL_NS));
                let late_ns = WallClock.monotonic_ns().saturating_sub(due_ns);
                worst.fetch_max(i64::try_from(late_ns).unwrap_or(i64::MAX), Ordering::SeqCst);
            }
        });
        Control { stop, worst_ns, thread: Some(thread) }
    }

    /// The longest since this was asked last.
    pub(crate) fn worst(&self) -> Duration {
        let worst_ns = self.worst_ns.swap(0, Ordering::SeqCst);
        Duration::from_nanos(u64::try_from(worst_ns).unwrap_or(0))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Follows the quiet view and notes by how much its frontier was behind the clock at most.
struct Watch {
    stop: Arc<AtomicBool>,
    worst_ns: Arc<AtomicI64>,
    frontiers: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(weir: &Weir) -> Watch {
        let script = weir.data_dir().join("quiet.pxl");
        std::fs::write(&script, QUIET).unwrap();
        let mut command = Command::new(binary().unwrap());
        command.args(["live", script.to_str().unwrap(), "-o", "jsonl", "--refresh", "1s"]);
        command.env("WEIR_SERVER", &weir.url).env("WEIR_TOKEN", &weir.token);
        let process = Process::start(command).unwrap();
        let (stop, worst_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let frontiers = Arc::new(AtomicI64::new(0));
        let watch = (stop.clone(), worst_ns.clone(), frontiers.clone());
        let thread = std::thread::spawn(move || Watch::follow(&process, &watch));
        let watch = Watch { stop, worst_ns, frontiers, thread: Some(thread) };
        let begun =
            wait_until(PRESENT, || (watch.frontiers.load(Ordering::SeqCst) > 2).then_some(()));
        assert!(begun.is_some(), "the quiet view does not begin");
        watch.worst_ns.store(0, Ordering::SeqCst);
        watch
    }

    fn follow(
        process: &Process,
        (stop, worst, count): &(Arc<AtomicBool>, Arc<AtomicI64>, Arc<AtomicI64>),
    ) {
        let (mut seen, mut frontier) = (0, None::<i64>);
        while !stop.load(Ordering::SeqCst) {
            let lines = process.stdout.after(seen, Duration::from_millis(100));
            seen += lines.len();
            for line in lines {
                let message: Json = serde_json::from_str(&line).unwrap_or(Json::Null);
                if let Some(text) = message["frontier"].as_str() {
                    frontier = weir_types::json::parse_time(text);
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
            if let Some(at) = frontier {
                // How late the refresh is that should have been there by now.
                worst.fetch_max(WallClock.now_unix_ns() - at - REFRESH_NS, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Requests at a quiet pace, so that there are rows.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    fn start(nginx: &Nginx) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (addr, stopped) = (nginx.addr, stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let paths = (0..20).map(|n| format!("/item/{n}")).collect();
                let load = Load {
                    addr,
                    paths,
                    requests: 100,
                    requests_per_sec: 200,
                    connections: 2,
                    keep_alive: true,
                };
                drop(run_load(&load));
            }
        });
        Traffic { stop, thread: Some(thread) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// See the module's documentation.
pub(crate) struct Target {
    pub(crate) weir: Weir,
    pub(crate) nginx: Nginx,
    watch: Watch,
    control: Control,
    before_bytes: u64,
    _traffic: Traffic,
    _limit: MemoryLimit,
    _turn: MutexGuard<'static, ()>,
}

impl Target {
    /// A server that captures nginx with some traffic and further ports; `None` (said) where we cannot.
    pub(crate) fn start(ports: &[u16], arguments: &[&str]) -> Option<Target> {
        Target::start_in(&[], ports, arguments)
    }

    /// The same, with more in its environment.
    pub(crate) fn start_in(
        environment: &[(&str, &str)],
        ports: &[u16],
        arguments: &[&str],
    ) -> Option<Target> {
        let turn = turn();
        let Some(limit) = MemoryLimit::new() else {
            weir_types::testing::skipped("no memory cgroup can be made here");
            return None;
        };
        if !weir_dataflow_tests::harness::nginx::is_installed() {
            weir_types::testing::skipped("nginx is not installed");
            return None;
        }
        let nginx = Nginx::start(NginxOptions::default()).unwrap();
        let ports = ports.iter().copied().chain([nginx.addr.port()]);
        let traces: Vec<String> =
            ports.flat_map(|port| ["--trace".to_string(), format!("port:{port}")]).collect();
        let all: Vec<&str> =
            traces.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let mut command = limit.command();
        command.envs(environment.iter().copied());
        let weir = Weir::start_by(command, &all).unwrap();
        let stats = weir.stats().unwrap();
        if stats["sources"]["ebpf"]["state"] == "refused" {
            weir_types::testing::skipped(format!("cannot capture here: {stats}"));
            return None;
        }
        let traffic = Traffic::start(&nginx);
        let watch = Watch::start(&weir);
        let before_bytes = rss_bytes(weir.pid());
        Some(Target {
            weir,
            nginx,
            watch,
            control: Control::start(),
            before_bytes,
            _traffic: traffic,
            _limit: limit,
            _turn: turn,
        })
    }

    /// Asks `POST /api/v1/run` for the text's answer.
    pub(crate) fn ask(&self, text: &str) -> Response {
        self.post("/api/v1/run", &serde_json::json!({ "text": text }))
    }

    pub(crate) fn post(&self, path: &str, body: &Json) -> Response {
        let body = body.to_string();
        let bearer = format!("Bearer {}", self.weir.token);
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        ];
        let answer = Connection::open(self.weir.addr)
            .and_then(|mut connection| connection.request("POST", path, &headers, body.as_bytes()));
        answer.unwrap_or_else(|error| panic!("no answer: {error}; {:?}", self.last_words()))
    }

    fn last_words(&self) -> Vec<String> {
        let log = self.weir.log();
        log[log.len().saturating_sub(12)..].to_vec()
    }

    /// The server lives, and the quiet view was never late.
    pub(crate) fn stands(&mut self, after: &str) {
        let late = self.lateness(after);
        assert!(late.is_none(), "{}", late.unwrap_or_default());
    }

    /// The server lives. What there is to say if the quiet view was late since the last call.
    fn lateness(&mut self, after: &str) -> Option<String> {
        assert!(self.weir.is_running(), "ended after {after}: {:?}", self.last_words());
        let stats = self.weir.stats();
        assert!(stats.is_ok(), "silent after {after}: {:?}", self.last_words());
        let late_ns = self.watch.worst_ns.swap(0, Ordering::SeqCst);
        let late = Duration::from_nanos(u64::try_from(late_ns).unwrap_or(0));
        let control = self.control.worst();
        let (late_ms, control_ms) = (late.as_millis(), control.as_millis());
        let mib = rss_bytes(self.weir.pid()) >> 20;
        eprintln!("{after}: late by {late_ms} ms at most, control by {control_ms} ms, {mib} MiB");
        (late > LATE_MAX + HOPS * control).then(|| {
            format!(
                "after {after} the quiet view was late by {late_ms} ms, control by {control_ms}"
            )
        })
    }

    /// Attacks until the quiet view has kept its refreshes, at most [`ATTEMPTS`] times: a stall that is the
    /// server's comes each time.
    pub(crate) fn withstands(&mut self, attack: &str, mut attempt: impl FnMut(&mut Target)) {
        let mut late = None;
        for _ in 0..ATTEMPTS {
            attempt(self);
            late = self.lateness(attack);
            if late.is_none() {
                return;
            }
        }
        panic!("each time: {}", late.unwrap_or_default());
    }

    fn kept_bytes(&self) -> u64 {
        let stats = self.weir.stats().unwrap_or_default();
        let tables = stats["tables"].as_object().into_iter().flatten();
        tables.filter_map(|(_, table)| table["bytes"].as_u64()).sum()
    }

    /// Memory comes back to a fifth above what it was.
    pub(crate) fn recovers(mut self) {
        self.stands("all of it");
        // Rows that history keeps, as it should, are no debt.
        let most = self.before_bytes + self.before_bytes / 5 + BACK_SLACK_BYTES + self.kept_bytes();
        let pid = self.weir.pid();
        let back = wait_until(BACK_WITHIN, || (rss_bytes(pid) <= most).then_some(()));
        let (now, before) = (rss_bytes(pid) >> 20, self.before_bytes >> 20);
        eprintln!("memory: {before} MiB before, {now} MiB a while after");
        assert!(back.is_some(), "{now} MiB a minute after, {before} MiB before");
    }
}

/// The resident memory of a process.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) << 10
}

/// The code of an error answer; `None` for an answer that is no error.
pub(crate) fn code_of(answer: &Response) -> Option<String> {
    if answer.status < 400 {
        return None;
    }
    let json: Json = serde_json::from_slice(&answer.body).unwrap_or(Json::Null);
    let code = json["error"]["code"].as_str().unwrap_or_default().to_string();
    assert!(!code.is_empty(), "an error without a code: {} {}", answer.status, answer.text());
    Some(code)
}
