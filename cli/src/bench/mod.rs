//! `weir bench`: measurements that anyone can repeat. Each prints one JSON object with its figures,
//! its parameters, and `"verified": true` only if the answer was checked.

mod against;
mod capture;
mod cluster;
mod compile;
mod generator;
mod let_verify;
mod let_workload;
mod operators;
mod programs;
mod reference;
mod rehydrate;
mod rules;
mod views;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::units::{parse_bytes, parse_duration};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) what: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// The LET workload, from PxL text through compiler and engine.
    Let(LetArgs),
    /// The first answer over a history: how soon, and what another view notices of it.
    Rehydrate(RehydrateArgs),
    /// The cluster part over many simulated nodes, in virtual time.
    Cluster(ClusterArgs),
    /// The agent's own cost on real traffic.
    Capture(CaptureArgs),
    /// What views and their subscribers cost over real traffic.
    Views(views::ViewsArgs),
    /// What many alert rules cost over real traffic.
    Rules(rules::RulesArgs),
    /// Each operator's cost by change, over a state and over twice as much.
    Operators(operators::OperatorsArgs),
    /// From PxL text to a split plan.
    Compile(CompileArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LetArgs {
    /// Events per second of event time.
    #[arg(long, default_value_t = 25_000)]
    pub(crate) rate: u64,
    /// Worker threads of each engine part.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
    /// Seconds of event time.
    #[arg(long, default_value_t = 360)]
    pub(crate) seconds: u64,
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    pub(crate) refresh: Duration,
    /// In real time instead of as fast as it goes.
    #[arg(long)]
    pub(crate) paced: bool,
    /// Check every refresh against an exact reference, in a pass of its own.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Another weir, run in turns with this one: what counts is the ratio.
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
    /// With --against: how often each is run.
    #[arg(long, default_value_t = 3, requires = "against")]
    pub(crate) pairs: u32,
}

#[derive(Debug, Args)]
pub(crate) struct RehydrateArgs {
    /// Events per second of event time, in the history and meanwhile.
    #[arg(long, default_value_t = 25_000)]
    pub(crate) rate: u64,
    /// Seconds of history.
    #[arg(long, default_value_t = 300)]
    pub(crate) seconds: u64,
    /// Worker threads of each engine part.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    #[arg(long, default_value_t = 1_000)]
    pub(crate) nodes: usize,
    /// Services on each node, in multiples of 40; an event belongs to one of 20 endpoints of a service.
    #[arg(long, default_value_t = 200)]
    pub(crate) services: usize,
    /// Events per second of event time on each node.
    #[arg(long, default_value_t = 100)]
    pub(crate) rate: u64,
    /// Seconds of event time.
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Worker threads of the cluster part's engine.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    pub(crate) refresh: Duration,
    /// Once more, with each event twice: what crosses the bus is by changed groups, not by events.
    #[arg(long)]
    pub(crate) double: bool,
}

impl ClusterArgs {
    pub(crate) fn refresh_ms(&self) -> u64 {
        let wanted = u64::try_from(self.refresh.as_millis()).unwrap_or(u64::MAX).max(1);
        wanted.div_ceil(let_workload::TICK_MS) * let_workload::TICK_MS
    }
}

#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Requests per second; 0 means as fast as it goes.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) rate: u64,
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    #[arg(long, value_parser = parse_bytes, default_value = "32MiB")]
    pub(crate) history_bytes: usize,
    /// The weir to be measured, instead of this one: to compare two of them in turns.
    #[arg(long, value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    /// Bundle names, .pxl files or folders of them [default: the whole bundle].
    pub(crate) scripts: Vec<String>,
    /// Compiles of each script.
    #[arg(long, default_value_t = 20)]
    pub(crate) repeat: usize,
}

pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    match args.what {
        BenchCommand::Let(args) => let_workload::run(&args),
        BenchCommand::Rehydrate(args) => rehydrate::run(&args),
        BenchCommand::Cluster(args) => cluster::run(&args),
        BenchCommand::Capture(args) => capture::run(&args),
        BenchCommand::Views(args) => views::run(&args),
        BenchCommand::Rules(args) => rules::run(&args),
        BenchCommand::Operators(args) => operators::run(&args),
        BenchCommand::Compile(args) => compile::run(&args),
    }
}
