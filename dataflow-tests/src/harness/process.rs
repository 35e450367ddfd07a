//! A child process in its own process group, with its output collected. Dropping it ends the group
//! and reaps the child.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_types::{Clock, WallClock};

use super::{HarnessError, Result, io_error, wait_until};

/// Longer output loses its oldest lines.
const OUTPUT_LINES_MAX: usize = 100_000;
const KILL_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
    /// nginx: finish the requests that are under way.
    Quit,
    Kill,
    /// Read the configuration again.
    Hangup,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
            Signal::Quit => "QUIT",
            Signal::Kill => "KILL",
            Signal::Hangup => "HUP",
        }
    }
}

/// Lines of one output stream, filled by a thread of its own.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<LineState>, Condvar)>);

#[derive(Default)]
struct LineState {
    lines: Vec<String>,
    dropped: usize,
    closed: bool,
}

impl Lines {
    fn collect(&self, stream: impl Read) {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_string();
            bytes.clear();
            let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.lines.len() == OUTPUT_LINES_MAX {
                state.lines.remove(0);
                state.dropped += 1;
            }
            state.lines.push(line);
            self.0.1.notify_all();
        }
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.1.notify_all();
    }

    /// Everything so far.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// The lines from number `from` on, waiting until there is one; empty once the stream is
    /// closed or the deadline has passed.
    #[must_use]
    pub fn after(&self, from: usize, deadline: Duration) -> Vec<String> {
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting =
            |state: &mut LineState| !state.closed && state.lines.len() + state.dropped <= from;
        let (state, _) = self
            .0
            .1
            .wait_timeout_while(state, deadline, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        state.lines.iter().skip(from.saturating_sub(state.dropped)).cloned().collect()
    }

    /// The first line that `wanted` accepts.
    pub fn find(&self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let clock = WallClock;
        let end_ns = u128::from(clock.monotonic_ns()) + deadline.as_nanos();
        let mut seen = 0;
        loop {
            let left_ns = end_ns.saturating_sub(u128::from(clock.monotonic_ns()));
            let left = Duration::from_nanos(u64::try_from(left_ns).unwrap_or(u64::MAX));
            let lines = self.after(seen, left);
            if lines.is_empty() {
                return None;
            }
            seen += lines.len();
            if let Some(found) = lines.into_iter().find(|line| wanted(line)) {
                return Some(found);
            }
        }
    }
}

/// A running child.
pub struct Process {
    program: String,
    child: Child,
    status: Option<ExitStatus>,
    readers: Vec<JoinHandle<()>>,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Process {
    /// Starts the command with no input and both outputs collected.
    pub fn start(mut command: Command) -> Result<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command
            .spawn()
            .map_err(|source| HarnessError::Start { program: program.clone(), source })?;
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let mut readers = Vec::new();
        if let Some(stream) = child.stdout.take() {
            let lines = stdout.clone();
            readers.push(std::thread::spawn(move || lines.collect(stream)));
        }
        if let Some(stream) = child.stderr.take() {
            let lines = stderr.clone();
            readers.push(std::thread::spawn(move || lines.collect(stream)));
        }
        Ok(Process { program, child, status: None, readers, stdout, stderr })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its status once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Sends a signal to the child alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(signal, &self.pid().to_string())
    }

    /// Waits for the child's own end.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        wait_until(deadline, || self.ended()).ok_or_else(|| HarnessError::TooLate {
            what: format!("the end of {}", self.program),
            deadline,
            output: self.output(),
        })
    }

    /// Sends a signal and waits for the end.
    pub fn stop(&mut self, signal: Signal, deadline: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(signal)?;
        self.wait(deadline)
    }

    /// Polls `ready`; an error if the child ends or the deadline passes first.
    pub fn wait_ready<T>(
        &mut self,
        deadline: Duration,
        mut ready: impl FnMut(&Process) -> Option<T>,
    ) -> Result<T> {
        let found = wait_until(deadline, || match ready(self) {
            Some(value) => Some(Ok(value)),
            None => self.ended().map(Err),
        });
        match found {
            Some(Ok(value)) => Ok(value),
            Some(Err(status)) => Err(HarnessError::EndedEarly {
                program: self.program.clone(),
                status,
                output: self.output(),
            }),
            None => Err(HarnessError::TooLate {
                what: format!("{} to be ready", self.program),
                deadline,
                output: self.output(),
            }),
        }
    }

    /// Both outputs, for messages.
    #[must_use]
    pub fn output(&self) -> String {
        [self.stdout.all(), self.stderr.all()].concat().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() && self.stop(Signal::Terminate, KILL_DEADLINE).is_err() {
            // Nothing more can be done about an error here than to reap.
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
        // What the child has started and left behind.
        let _ = send(Signal::Kill, &format!("-{}", self.pid()));
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// `to`: a pid, or a process group as its negative.
pub fn send(signal: Signal, to: &str) -> Result<()> {
    Command::new("kill")
        .args([&format!("-{}", signal.name()), "--", to])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(|_| ())
        .map_err(io_error("run kill"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command).unwrap()
    }

    /// Output is collected line by line and the status is the child's: catches lost last lines.
    #[test]
    fn collects_output() {
        let mut process = shell("echo one; echo two >&2; printf three; exit 7");
        assert_eq!(process.wait(Duration::from_secs(20)).unwrap().code(), Some(7));
        assert_eq!(
            process.stdout.find(Duration::from_secs(20), |l| l == "three").as_deref(),
            Some("three")
        );
        assert_eq!(process.stdout.all(), ["one", "three"]);
        assert_eq!(
            process.stderr.find(Duration::from_secs(20), |l| l == "two").as_deref(),
            Some("two")
        );
    }

    /// Dropping ends the child and what it has started, even if it ignores the polite signal.
    #[test]
    fn drop_ends_everything() {
        let process = shell("sleep 1000 & echo $!; exec sleep 1000");
        let other = process.stdout.find(Duration::from_secs(20), |_| true).unwrap();
        let pids = [process.pid().to_string(), other];
        drop(process);
        for pid in pids {
            // A zombie of ours would still be listed; an orphan is reaped by init, maybe later.
            let gone = || {
                let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                state.map_or(true, |stat| stat.contains(") Z ")).then_some(())
            };
            assert!(wait_until(Duration::from_secs(20), gone).is_some(), "{pid} lives on");
        }
    }

    /// A child that ends at once is an error with its output, not a wait until the deadline.
    #[test]
    fn early_end_is_told() {
        let mut process = shell("echo because >&2; exit 3");
        let error = process.wait_ready(Duration::from_secs(20), |_| None::<()>).unwrap_err();
        assert!(matches!(error, HarnessError::EndedEarly { .. }), "{error}");
    }
}
