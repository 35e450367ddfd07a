//! Arguments of `weir replay`, of `weir record`, and of `weir up` about captures.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Format;
use crate::units::{parse_bytes, parse_duration};

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Captures (pcap or pcapng, also gzipped), or recordings of `weir record`.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write DIR/<file name>.jsonl for each, one row a line.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["script", "output", "func"])]
    pub(crate) out: Option<PathBuf>,
    /// Run this script over the rows of all, as of the last packet: a bundle name, a .pxl file, a
    /// folder, or - for standard input.
    #[arg(long, value_name = "SCRIPT")]
    pub(crate) script: Option<String>,
    /// With --script: run one function of a script with vis.json.
    #[arg(long, value_name = "NAME", requires = "script")]
    pub(crate) func: Option<String>,
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// Drop this part of all events, to see what losses do.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub(crate) loss: f64,
    /// Which ones: the same for the same number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// What rows do not show: `off`, `secrets`, `bodies` or `pii`, as with `weir up`.
    #[arg(long, value_name = "MODE", default_value = "secrets")]
    pub(crate) redact: weir_sources::redact::Mode,
    /// Another name whose values are secrets, wherever it is a name or a part of one.
    #[arg(long, value_name = "NAME")]
    pub(crate) redact_name: Vec<String>,
    /// Script arguments, after --: --name value.
    #[arg(last = true, value_name = "--name value", requires = "script")]
    pub(crate) script_args: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PcapSpeed {
    /// As the packets came; the first one is now.
    Recorded,
    /// At once; the last packet is now.
    Full,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PcapArgs {
    /// Take a capture (pcap, pcapng) as a source, in place of what happens here; with --trace, beside it.
    /// May be given more than once.
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Vec<PathBuf>,
    /// How fast captures are taken. Their times are moved alike.
    #[arg(long, value_enum, value_name = "SPEED", default_value = "recorded", requires = "pcap")]
    pub(crate) pcap_speed: PcapSpeed,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Where to; a recording that is there is replaced once capturing has begun.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Record only these: pid:N, port:N or cgroup:PATH; may be given more than once.
    #[arg(long, value_name = "WHAT")]
    pub(crate) trace: Vec<String>,
    /// End after this long [default: when it is interrupted].
    #[arg(long = "for", value_parser = parse_duration, value_name = "10s")]
    pub(crate) for_: Option<Duration>,
    /// End when the file has this size.
    #[arg(long, value_parser = parse_bytes, default_value = "1GiB", value_name = "N")]
    pub(crate) bytes_max: usize,
    /// `secrets` overwrites the values of headers, URL parameters, form fields and JSON members that are
    /// secrets by their name, in text; `off` records all as it is.
    #[arg(long, value_enum, value_name = "MODE", default_value = "off")]
    pub(crate) redact: RecordRedact,
    /// Another name whose values are secrets, wherever it is a name or a part of one.
    #[arg(long, value_name = "NAME")]
    pub(crate) redact_name: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordRedact {
    Off,
    Secrets,
}
