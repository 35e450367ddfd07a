//! `weir bench capture`: the agent's own cost on real traffic. Starts nginx on loopback and a fixed
//! rate of keep-alive requests, first alone and then under a `weir up` of its own, and compares the
//! CPU time of everything involved, as the kernel accounts it; that of the eBPF programs by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use weir_cluster::service::stats;
use weir_types::{Clock, WallClock};

use super::CaptureArgs;
use super::programs::{Cost, Counting};
use crate::client::Connection;
use crate::failure::Failure;
use crate::output;

const BODY_BYTES: usize = 200;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A child that is ended with its handle.
pub(super) struct Running {
    child: Child,
}

impl Running {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        drop(self.child.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
    let clock = WallClock;
    let until_ns = clock.monotonic_ns() + START_TIMEOUT.as_nanos() as u64;
    while !ready() {
        if clock.monotonic_ns() > until_ns {
            bail!("{what} did not start within {START_TIMEOUT:?}");
        }
        std::thread::park_timeout(POLL);
    }
    Ok(())
}

pub(super) fn start_nginx(dir: &Path, port: u16) -> anyhow::Result<Running> {
    let root = dir.join("www");
    std::fs::create_dir_all(&root)?;
    std::fs::write(root.join("x"), "x".repeat(BODY_BYTES))?;
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", dir.display()))
        .join("\n");
    let conf = format!(
        "daemon off; pid {0}/pid; worker_processes 1; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 100000000; {temp}\n\
         server {{ listen 127.0.0.1:{port}; root {0}/www; }} }}\n",
        dir.display()
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, conf)?;
    // Debian keeps nginx where ordinary users' PATH does not reach.
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .context("nginx is not installed: `apt-get install nginx`")?;
    let child = Command::new(program)
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(&path)
        .args(["-e", "stderr"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("could not start nginx")?;
    let running = Running { child };
    wait_for("nginx", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok(running)
}

/// CPU time of a process, its threads and its direct children, in ns.
fn cpu_ns_with_children(pid: u32) -> u64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let all = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
    all.chain([pid]).map(crate::up::cpu_ns_of).sum()
}

pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) failed: u64,
    cpu_ns: u64,
    latency: stats::Quantiles,
}

/// One thread's fixed share of the requests over one connection.
fn request_loop(
    port: u16,
    interval_ns: u64,
    until_ns: u64,
    done: &AtomicU64,
    failed: &AtomicU64,
) -> anyhow::Result<hdr::Histogram> {
    let clock = WallClock;
    let mut histogram = stats::new_histogram();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = vec![0; 4096];
    let mut next_ns = clock.monotonic_ns();
    while clock.monotonic_ns() < until_ns {
        if interval_ns > 0 {
            next_ns += interval_ns;
            let wait_ns = next_ns.saturating_sub(clock.monotonic_ns());
            std::thread::park_timeout(Duration::from_nanos(wait_ns));
        }
        let sent_ns = clock.monotonic_ns();
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        let mut have = 0;
        loop {
            let read = stream.read(&mut buffer[have..])?;
            have += read;
            if read == 0 || is_whole(&buffer[..have]) {
                break;
            }
        }
        histogram.saturating_record(clock.monotonic_ns() - sent_ns);
        let counter = if buffer.starts_with(b"HTTP/1.1 200") { done } else { failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(histogram)
}

mod hdr {
    pub(super) type Histogram = hdrhistogram::Histogram<u64>;
}

fn is_whole(response: &[u8]) -> bool {
    let head = response.windows(4).position(|part| part == b"\r\n\r\n");
    head.is_some_and(|head| response.len() >= head + 4 + BODY_BYTES)
}

pub(super) fn load(args: &CaptureArgs, port: u16) -> anyhow::Result<Load> {
    let clock = WallClock;
    let (done, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let until_ns = clock.monotonic_ns() + args.seconds * 1_000_000_000;
    let interval_ns = match args.rate {
        0 => 0,
        rate => 1_000_000_000 * args.connections as u64 / rate,
    };
    let cpu_start = crate::up::cpu_ns();
    let threads: Vec<_> = (0..args.connections)
        .map(|_| {
            let (done, failed) = (done.clone(), failed.clone());
            std::thread::spawn(move || request_loop(port, interval_ns, until_ns, &done, &failed))
        })
        .collect();
    let mut all = stats::new_histogram();
    for thread in threads {
        let one = thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
        all.add(&one).context("histograms have one shape")?;
    }
    Ok(Load {
        requests: done.load(Ordering::Relaxed),
        failed: failed.load(Ordering::Relaxed),
        cpu_ns: crate::up::cpu_ns() - cpu_start,
        latency: stats::quantiles_of(&all),
    })
}

pub(super) struct Agent {
    running: Running,
    pub(super) connection: Connection,
}

impl Agent {
    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// `config`: its weir.yaml.
pub(super) fn start_agent(
    args: &CaptureArgs,
    dir: &Path,
    port: u16,
    config: Option<&Path>,
) -> anyhow::Result<Agent> {
    let data_dir: PathBuf = dir.join("data");
    let program = args.agent.clone().map_or_else(std::env::current_exe, Ok)?;
    let mut child = Command::new(program)
        .args(["up", "--listen", "127.0.0.1:0", "--history-bytes"])
        .arg(args.history_bytes.to_string())
        .args(["--trace", &format!("port:{port}"), "--data-dir"])
        .arg(&data_dir)
        .args(config.into_iter().flat_map(|file| [Path::new("--config"), file]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("could not start the agent")?;
    let out = child.stdout.take().context("the agent has no output")?;
    let running = Running { child };
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let url = line.trim().strip_prefix("ready ").context("the agent did not become ready")?;
    let connection = Connection::new(url.to_string(), Some(data_dir));
    Ok(Agent { running, connection })
}

pub(super) fn stats(agent: &Agent) -> anyhow::Result<Json> {
    agent.connection.get("/api/v1/stats").map_err(|_| anyhow::anyhow!("the agent does not answer"))
}

/// The same load once more, and what the agent's programs took for it: counting makes each run dearer, so
/// nothing else is measured here.
fn load_counted(args: &CaptureArgs, port: u16, agent: u32) -> anyhow::Result<(Cost, Load)> {
    let counting = Counting::start(agent)?;
    let idle = counting.read()?;
    std::thread::park_timeout(Duration::from_secs(2));
    let begin = counting.read()?;
    let load = load(args, port)?;
    let cost = counting.read()?.since(begin);
    Ok((cost.without(begin.since(idle)), load))
}

pub(crate) fn run(args: &CaptureArgs) -> Result<(), Failure> {
    if args.connections == 0 || args.seconds == 0 {
        return Err(Failure::Usage("--connections and --seconds are at least 1".to_string()));
    }
    let report = measure(args)?;
    output::line(&report.to_string())
}

fn measure(args: &CaptureArgs) -> anyhow::Result<Json> {
    let dir = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let outcome = measure_in(args, &dir);
    std::fs::remove_dir_all(&dir).with_context(|| format!("could not remove {}", dir.display()))?;
    outcome
}

fn measure_in(args: &CaptureArgs, dir: &Path) -> anyhow::Result<Json> {
    let port = free_port()?;
    let mut nginx = start_nginx(dir, port)?;
    output::note("load without the agent …");
    let nginx_start = cpu_ns_with_children(nginx.pid());
    let alone = load(args, port)?;
    let nginx_alone_ns = cpu_ns_with_children(nginx.pid()) - nginx_start;
    output::note("load with the agent …");
    let mut agent = start_agent(args, dir, port, None)?;
    let before = stats(&agent)?;
    let idle_start = crate::up::cpu_ns_of(agent.running.pid());
    std::thread::park_timeout(Duration::from_secs(2));
    let idle_ns = crate::up::cpu_ns_of(agent.running.pid()) - idle_start;
    let agent_start = crate::up::cpu_ns_of(agent.running.pid());
    let nginx_start = cpu_ns_with_children(nginx.pid());
    let traced = load(args, port)?;
    let nginx_traced_ns = cpu_ns_with_children(nginx.pid()) - nginx_start;
    std::thread::park_timeout(Duration::from_secs(2));
    let agent_ns = crate::up::cpu_ns_of(agent.running.pid()) - agent_start;
    let after = stats(&agent)?;
    output::note("load with the agent, its programs' time counted …");
    let (programs, counted) = load_counted(args, port, agent.running.pid())?;
    agent.running.stop();
    nginx.stop();
    let http = |stats: &Json, key: &str| stats["tables"]["http_events"][key].as_u64().unwrap_or(0);
    let rows = http(&after, "rows") - http(&before, "rows");
    let lost: u64 = after["tables"]["http_events"]["lost"]
        .as_object()
        .map_or(0, |lost| lost.values().filter_map(Json::as_u64).sum());
    let us = |ns: u64, requests: u64| (ns as f64 / requests.max(1) as f64 / 10.0).round() / 100.0;
    let together_alone = us(nginx_alone_ns + alone.cpu_ns, alone.requests);
    let together = us(nginx_traced_ns + traced.cpu_ns + agent_ns, traced.requests);
    Ok(json!({
        "bench": "capture",
        // Both ends of every request are seen: the load's side and nginx's.
        "verified": rows == 2 * traced.requests && traced.failed == 0 && lost == 0,
        "rate": args.rate,
        "connections": args.connections,
        "seconds": args.seconds,
        "requests": traced.requests,
        "failed": traced.failed,
        "rows": rows,
        "lost": lost,
        "unpaired": http(&after, "unpaired"),
        "agent_cpu_us_per_request": us(agent_ns, traced.requests),
        "all_processes_added_us_per_request": ((together - together_alone) * 100.0).round() / 100.0,
        "program_us_per_request": us(programs.run_ns, counted.requests),
        "program_runs_per_request": (programs.runs as f64 / counted.requests.max(1) as f64 * 100.0).round() / 100.0,
        "agent_idle_cpu_ms_per_s": idle_ns as f64 / 2e6,
        "agent_rss_bytes": after["process"]["rss_bytes"],
        "history_bytes": http(&after, "bytes"),
        "latency_ns_untraced": alone.latency,
        "latency_ns_traced": traced.latency,
    }))
}
