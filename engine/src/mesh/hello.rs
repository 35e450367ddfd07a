//! What processes say to each other before timely does: lines of JSON, bounded in bytes and time, which builds of all
//! versions can read. It decides who fits whom, and connects nobody.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_types::{Clock, WallClock};

use super::MeshConfig;
use crate::api::QueryId;

/// The form of this talk.
const FORM: u32 = 1;
/// Longer lines are nobody's.
const LINE_BYTES_MAX: usize = 16 << 10;

/// The first line, of whoever connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`FORM`].
    pub(super) weir_generation: u32,
    pub(super) process: usize,
    /// To whom it wants to speak.
    pub(super) to: usize,
    /// What must be the same.
    pub(super) terms: BTreeMap<String, String>,
    /// Between two that follow: the generation that both were told.
    #[serde(default)]
    pub(super) generation: Option<String>,
    /// What it died of the last time.
    #[serde(default)]
    pub(super) died_of: Option<QueryId>,
    /// It wants to hand on what nodes say, and is no guest.
    #[serde(default)]
    pub(super) relays: bool,
}

/// Every further line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// You fit, others are missing.
    Waiting(Vec<usize>),
    /// You do not fit: why.
    Refused(String),
    /// All are there.
    Generation(String),
    /// I am connected to all.
    Met,
    /// All are connected: what comes next is timely's.
    Go,
}

fn terms(config: &MeshConfig) -> BTreeMap<String, String> {
    let mut terms = config.terms.clone();
    terms.insert("list of peers".to_string(), config.addresses.join(","));
    terms
}

impl Hello {
    pub(super) fn new(config: &MeshConfig, to: usize) -> Hello {
        Hello {
            weir_generation: FORM,
            process: config.process,
            to,
            terms: terms(config),
            generation: None,
            died_of: None,
            relays: false,
        }
    }

    /// Why it is not let in by this process.
    pub(super) fn misfit(&self, config: &MeshConfig) -> Option<String> {
        let own = terms(config);
        let (there, here) = (self.process, config.process);
        if self.weir_generation != FORM {
            let form = self.weir_generation;
            return Some(format!("process {there} speaks form {form}, process {here} form {FORM}"));
        }
        // Words of others: no longer than they need be.
        let short =
            |text: &str| -> String { weir_types::text::line(text).chars().take(200).collect() };
        for (name, value) in &own {
            let other = self.terms.get(name).map_or("none", String::as_str);
            if other != value {
                let (name, other) = (short(name), short(other));
                return Some(format!(
                    "process {there} was started with another {name} than process {here}: {other} there, {} here",
                    short(value)
                ));
            }
        }
        if self.to != here {
            return Some(format!("process {there} looks for process {} where {here} is", self.to));
        }
        if there == here || there >= config.addresses.len() {
            return Some(format!(
                "there is no other process {there} of {}",
                config.addresses.len()
            ));
        }
        None
    }
}

/// Writes a line.
pub(super) fn say<T: Serialize>(stream: &mut TcpStream, line: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)
}

/// Reads a line and no byte more, within `within`.
pub(super) fn hear<T: for<'de> Deserialize<'de>>(
    stream: &mut TcpStream,
    within_ms: u64,
) -> io::Result<T> {
    let until_ns = WallClock.monotonic_ns() + within_ms * 1_000_000;
    let late = || io::Error::new(io::ErrorKind::TimedOut, "it says nothing");
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let left_ns = until_ns.saturating_sub(WallClock.monotonic_ns());
        if left_ns == 0 {
            return Err(late());
        }
        stream.set_read_timeout(Some(Duration::from_nanos(left_ns.max(1_000_000))))?;
        match stream.read(&mut byte) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has gone")),
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if line.len() == LINE_BYTES_MAX => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its line has no end"));
            }
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(error),
        }
    }
    serde_json::from_slice(&line)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
