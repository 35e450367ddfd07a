//! Arguments of `weir replay`.

use std::path::PathBuf;

use clap::Args;

use super::Format;

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Captures: pcap or pcapng.
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
