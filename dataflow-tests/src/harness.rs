//! For tests with real processes: start them, wait until they are ready, stop and reap them, load
//! them with requests and add up what `weir live` says. Everything stays on loopback, below fresh
//! temporary directories, and nothing outlives the value that stands for it.
//!
//! Waiting is by polling with a deadline, in one place ([`wait_until`]); no test sleeps to
//! synchronise.

pub mod alertmanager;
pub mod fleet;
pub mod hosts;
pub mod http;
pub mod live;
pub mod mail;
pub mod nginx;
pub mod process;
pub mod receivers;
pub mod servers;
pub mod socket;
pub mod weir;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use weir_types::testing::free_port;
use weir_types::{Clock, WallClock};

/// What can go wrong around a test, with what is needed to find out why.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    #[error("could not start {program}")]
    Start { program: String, source: std::io::Error },
    #[error("{program} ended with {status} before it was ready; its output: {output}")]
    EndedEarly { program: String, status: std::process::ExitStatus, output: String },
    #[error("{what} did not happen within {deadline:?}; output so far: {output}")]
    TooLate { what: String, deadline: Duration, output: String },
    #[error("{what} did not come in time")]
    TimedOut { what: &'static str },
    #[error("could not {what}")]
    Io { what: String, source: std::io::Error },
    #[error("{peer} answered what is not HTTP/1: {what}")]
    NotHttp { peer: String, what: String },
    #[error("no weir binary at {0}: build it first or set WEIR_BIN")]
    NoBinary(PathBuf),
    #[error("live message out of order or of a wrong shape: {0}")]
    Live(String),
}

pub type Result<T> = std::result::Result<T, HarnessError>;

fn io_error(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> HarnessError {
    let what = what.into();
    |source| HarnessError::Io { what, source }
}

const POLL_EVERY: Duration = Duration::from_millis(10);

/// Writes a file; its path.
///
/// # Panics
/// It cannot be written.
pub fn put(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path.display().to_string()
}

/// The only place that waits for time to pass.
#[expect(clippy::disallowed_methods, reason = "real processes and paced load need real time")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Asks `poll` every 10 ms until it gives something; `None` once the deadline has passed.
pub fn wait_until<T>(deadline: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let clock = WallClock;
    let end_ns = u128::from(clock.monotonic_ns()) + deadline.as_nanos();
    loop {
        if let Some(found) = poll() {
            return Some(found);
        }
        if u128::from(clock.monotonic_ns()) >= end_ns {
            return None;
        }
        pause(POLL_EVERY);
    }
}
