//! The real binary: a server started with `weir up`, and the command line run against it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;

use super::live::LiveView;
use super::process::{Process, Signal};
use super::{HarnessError, Result, http, io_error, wait_until};

/// Attaching and detaching probes takes seconds on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const ANY_PORT: &str = "127.0.0.1:0";
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// `$WEIR_BIN`, else `weir` beside the running test's target directory.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("WEIR_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            // …/target/debug/deps/e2e-0123 → …/target/debug/weir
            let test = std::env::current_exe().map_err(io_error("find the test's own path"))?;
            let dir = test.parent().and_then(Path::parent).unwrap_or(Path::new("."));
            dir.join("weir")
        }
    };
    match path.try_exists() {
        Ok(true) => Ok(path),
        _ => Err(HarnessError::NoBinary(path)),
    }
}

/// What a command gave.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Output {
    /// Every line of stdout as JSON; lines that are none are left out.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Json> {
        self.stdout.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Runs `weir ARGS` without a server of ours.
pub fn run(args: &[&str], deadline: Duration) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(args);
    output_of(command, deadline)
}

/// Runs a command to its end.
pub fn output_of(command: Command, deadline: Duration) -> Result<Output> {
    let mut process = Process::start(command)?;
    let status = process.wait(deadline)?;
    let (stdout, stderr) = (process.stdout.clone(), process.stderr.clone());
    // Joins the readers: both streams are complete afterwards.
    drop(process);
    Ok(Output { status, stdout: stdout.all(), stderr: stderr.all() })
}

/// A running server with its own data directory.
pub struct Weir {
    process: Process,
    pub url: String,
    pub addr: SocketAddr,
    pub token: String,
    data_dir: TempDir,
}

impl Weir {
    /// Starts `weir up` on a free port with these further arguments and waits for its ready line.
    pub fn start(args: &[&str]) -> Result<Weir> {
        let data_dir = tempfile::tempdir().map_err(io_error("make a data directory"))?;
        Weir::start_in(data_dir, args)
    }

    /// As [`Weir::start`], with the data directory of an earlier server.
    pub fn start_in(data_dir: TempDir, args: &[&str]) -> Result<Weir> {
        Weir::start_with(data_dir, Command::new(binary()?), ANY_PORT, args)
    }

    /// The same on a given address: a server that comes back where its clients look for it.
    pub fn start_at(data_dir: TempDir, listen: SocketAddr, args: &[&str]) -> Result<Weir> {
        Weir::start_with(data_dir, Command::new(binary()?), &listen.to_string(), args)
    }

    /// As [`Weir::start`], by a command that ends in the binary: it may come with an environment of
    /// its own, or be a program that becomes it (`unshare`, a shell's `exec`).
    pub fn start_by(command: Command, args: &[&str]) -> Result<Weir> {
        let data_dir = tempfile::tempdir().map_err(io_error("make a data directory"))?;
        Weir::start_with(data_dir, command, ANY_PORT, args)
    }

    fn start_with(
        data_dir: TempDir,
        command: Command,
        listen: &str,
        args: &[&str],
    ) -> Result<Weir> {
        Weir::start_role("up", data_dir, command, listen, args)
    }

    /// `weir cluster` over a bus.
    pub fn start_cluster(bus: &str, args: &[&str]) -> Result<Weir> {
        let data_dir = tempfile::tempdir().map_err(io_error("make a data directory"))?;
        Weir::start_cluster_at(data_dir, ANY_PORT, bus, args)
    }

    /// The same in a directory that another was in, on a given address.
    pub fn start_cluster_at(
        data_dir: TempDir,
        listen: &str,
        bus: &str,
        args: &[&str],
    ) -> Result<Weir> {
        let args = [&["--bus", bus], args].concat();
        Weir::start_role("cluster", data_dir, Command::new(binary()?), listen, &args)
    }

    fn start_role(
        role: &str,
        data_dir: TempDir,
        mut command: Command,
        listen: &str,
        args: &[&str],
    ) -> Result<Weir> {
        command.args([role, "--listen", listen, "--data-dir"]).arg(data_dir.path()).args(args);
        let mut process = Process::start(command)?;
        let url = process.wait_ready(READY_DEADLINE, |process| {
            let lines = process.stdout.all();
            lines.iter().find_map(|line| line.strip_prefix("ready ").map(str::to_string))
        })?;
        let addr = url
            .trim_start_matches("http://")
            .parse()
            .map_err(|_| HarnessError::NotHttp { peer: url.clone(), what: "no address".into() })?;
        let token = std::fs::read_to_string(data_dir.path().join("token"))
            .map_err(io_error("read the token"))?
            .trim()
            .to_string();
        Ok(Weir { process, url, addr, token, data_dir })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }
    /// Log lines so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.process.stderr.all()
    }
    /// True as long as it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(args).env("WEIR_SERVER", &self.url).env("WEIR_TOKEN", &self.token);
        Ok(command)
    }

    /// Runs `weir ARGS` against this server.
    pub fn run(&self, args: &[&str], deadline: Duration) -> Result<Output> {
        output_of(self.command(args)?, deadline)
    }

    /// The rows of a script of a side (1 client, 2 server), in the order of their times.
    pub fn rows_of_side(&self, script: &Path, role: i64, deadline: Duration) -> Result<Vec<Json>> {
        let script = script.to_string_lossy();
        let run = self.run(&["run", &script, "-o", "jsonl"], deadline)?;
        if !run.status.success() {
            return Err(HarnessError::Live(format!("run: {run:?}")));
        }
        let mut rows = run.json_lines();
        rows.retain(|row| row["trace_role"] == role);
        rows.sort_by_key(|row| row["time_"].as_str().unwrap_or_default().to_string());
        Ok(rows)
    }

    /// `weir stats -o json`.
    pub fn stats(&self) -> Result<Json> {
        let output = self.run(&["stats", "-o", "json"], READY_DEADLINE)?;
        serde_json::from_str(&output.stdout.join("\n"))
            .map_err(|error| HarnessError::Live(format!("stats: {error}: {output:?}")))
    }

    /// Reason → what was lost of a table, once the node has told of so many of its rows: it does so now and
    /// then, so that a table may be younger than what is known of it.
    pub fn lost_of(&self, table: &str, rows_min: usize) -> Result<BTreeMap<String, u64>> {
        let mut last = Json::Null;
        let told = wait_until(READY_DEADLINE, || {
            last = self.stats().ok()?["tables"].take();
            let rows = last[table]["rows"].as_u64()?;
            let lost = last[table]["lost"].as_object()?;
            let counts = lost.iter().map(|(reason, count)| (reason.clone(), count.as_u64()));
            (rows >= rows_min as u64)
                .then(|| counts.map(|(reason, count)| Some((reason, count?))).collect())?
        });
        told.ok_or_else(|| HarnessError::Live(format!("{table}: not {rows_min} rows: {last}")))
    }

    /// `GET path` of the API with the token.
    pub fn get(&self, path: &str) -> Result<http::Response> {
        let bearer = format!("Bearer {}", self.token);
        http::request_once(self.addr, "GET", path, &[("Authorization", &bearer)], b"")
    }

    /// `POST path` of the API with the token.
    pub fn post(&self, path: &str, body: &Json) -> Result<http::Response> {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        http::request_once(self.addr, "POST", path, &headers, body.to_string().as_bytes())
    }

    /// Resident memory.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid()));
        let pages = statm.ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        pages.unwrap_or(0) * 4096
    }

    /// Starts `weir live SCRIPT -o jsonl ARGS`.
    pub fn live(&self, script: &str, args: &[&str]) -> Result<Live> {
        let mut command = self.command(&["live", script, "-o", "jsonl"])?;
        command.args(args);
        Ok(Live { process: Process::start(command)?, seen: 0, view: LiveView::default() })
    }

    /// Sends a signal that ends nothing.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Sends a signal and waits for the end, but leaves alone what the server has started: dropping
    /// this ends that as well.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.stop(signal, STOP_DEADLINE)
    }

    /// Of a server that has ended: its directory for the next one.
    #[must_use]
    pub fn into_data_dir(self) -> TempDir {
        self.data_dir
    }

    /// Orderly stop; gives the status and the data directory for the next start.
    pub fn stop(mut self, signal: Signal) -> Result<(ExitStatus, TempDir)> {
        let status = self.process.stop(signal, STOP_DEADLINE)?;
        Ok((status, self.data_dir))
    }
}

/// A running `weir live`.
pub struct Live {
    process: Process,
    seen: usize,
    pub view: LiveView,
}

impl Live {
    /// Applies messages until `wanted` holds after a progress message.
    pub fn wait_for(
        &mut self,
        deadline: Duration,
        wanted: impl Fn(&LiveView) -> bool,
    ) -> Result<()> {
        use weir_types::{Clock, WallClock};
        let end_ns = u128::from(WallClock.monotonic_ns()) + deadline.as_nanos();
        loop {
            let left_ns = end_ns.saturating_sub(u128::from(WallClock.monotonic_ns()));
            let left = Duration::from_nanos(u64::try_from(left_ns).unwrap_or(u64::MAX));
            let lines = self.process.stdout.after(self.seen, left);
            if lines.is_empty() {
                return Err(HarnessError::TooLate {
                    what: "the wanted live view".to_string(),
                    deadline,
                    output: format!("{:?}\n{}", self.view, self.process.stderr.all().join("\n")),
                });
            }
            for line in lines {
                self.seen += 1;
                self.view.apply_text(&line)?;
                let at_progress = line.contains("\"type\":\"progress\"");
                if at_progress && wanted(&self.view) {
                    return Ok(());
                }
            }
        }
    }

    /// Ends the command as a user's Ctrl-C does.
    pub fn interrupt(mut self) -> Result<(ExitStatus, LiveView)> {
        let status = self.process.stop(Signal::Interrupt, STOP_DEADLINE)?;
        Ok((status, self.view))
    }
}
