//! `weir rules`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Format;
use crate::units::parse_duration;

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    #[command(subcommand)]
    pub(crate) what: RulesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// No server needed; exit 1 if one of them is wrong, with file, line and reason.
    Check {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the rules that come with Weir.
    Builtin,
    /// Run test files in promtool's shape, with rows as input; exit 1 if a test fails. With --pcap or --last: what
    /// the rules of rule files would have done.
    Test(RulesTestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RulesTestArgs {
    /// Test files; with --pcap or --last rule files.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Over the rows of a capture (pcap, pcapng) or of a recording of `weir record`; may be given more than once.
    #[arg(long, value_name = "FILE", conflicts_with = "last")]
    pub(crate) pcap: Vec<PathBuf>,
    /// Over what the server still holds of so long.
    #[arg(long, value_parser = parse_duration, value_name = "1h")]
    pub(crate) last: Option<Duration>,
    /// How far looks at that are apart, in whole seconds [default: a 120th of it].
    #[arg(long, value_parser = parse_duration, value_name = "30s", requires = "last")]
    pub(crate) step: Option<Duration>,
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}
