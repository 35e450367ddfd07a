//! `weir alerts`: what it shows, and what it adds.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Format;
use crate::units::parse_duration;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AlertsArgs {
    #[command(subcommand)]
    pub(crate) what: Option<AlertsCommand>,
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// The rules instead, and how they are.
    #[arg(long, conflicts_with_all = ["receivers", "history"])]
    pub(crate) rules: bool,
    /// Who is told instead, and how that goes.
    #[arg(long, conflicts_with = "history")]
    pub(crate) receivers: bool,
    /// What happened within a day instead, the newest last.
    #[arg(long)]
    pub(crate) history: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// Make a rule of a script and a condition over its columns; no server needed.
    Add(AlertAddArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AlertAddArgs {
    /// What the alert is called [default: after the script].
    pub(crate) name: Option<String>,
    /// A bundle name, a .pxl file, a folder with one, or - for standard input.
    #[arg(long)]
    pub(crate) script: String,
    /// The function of the script that makes the table.
    #[arg(long, value_name = "NAME")]
    pub(crate) func: Option<String>,
    /// Rows for which this holds are alerts: a PxL condition, like `error_rate > 0.05`.
    #[arg(long)]
    pub(crate) when: String,
    /// How long it has to hold before the alert fires.
    #[arg(long = "for", value_name = "30s")]
    pub(crate) for_: Option<String>,
    /// How long the alert goes on firing when it no longer holds.
    #[arg(long, value_name = "1m")]
    pub(crate) keep_firing_for: Option<String>,
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    #[arg(long, value_name = "NAME=TEXT")]
    pub(crate) annotation: Vec<String>,
    /// The rule file that it is added to, made if it is not there; without it the rule is printed.
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// Print the rule, and what it would have done over what the server still holds; nothing is written.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: of how long.
    #[arg(long, value_parser = parse_duration, value_name = "1h", default_value = "1h", requires = "dry_run")]
    pub(crate) last: Duration,
    /// Script arguments, after --: --name value.
    #[arg(last = true, value_name = "--name value")]
    pub(crate) script_args: Vec<String>,
}
