//! The `weir` command: one binary for the server and for everything that asks it.
//!
//! Data goes to stdout, everything else to stderr. Exit status: 0 done, 1 the answer is "no", 2 wrong
//! usage, 3 the server cannot be reached, 130 interrupted.
#![forbid(unsafe_code)]

mod amounts;
mod args;
mod bench;
mod client;
mod cmd;
mod config;
mod data_dir;
mod demo;
mod deploy;
mod failure;
mod listing;
mod offline;
mod output;
mod script;
mod text_file;
mod units;
mod up;

use std::process::ExitCode;

use crate::args::{Cli, Command};
use crate::failure::Failure;

/// Gives freed memory back to the kernel within seconds, by threads of its own: after a burst the system's
/// allocator would keep gigabytes (docs/adr/0010).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let Cli { server, data_dir, command } = cli;
    let connection = client::Connection::new(server.0, data_dir.clone());
    match command {
        Command::Up(args) => up::run(args, data_dir),
        Command::Node(args) => up::node(args, data_dir),
        Command::Cluster(args) => up::cluster(args, data_dir),
        Command::Deploy(args) => deploy::run(&args),
        Command::Probe(args) => cmd::probe::run(&connection, data_dir, &args),
        Command::Run(args) => cmd::run::run(&connection, args),
        Command::Live(args) => cmd::live::run(&connection, args),
        Command::Check(args) => cmd::check::run(args),
        Command::Explain(args) if args.live => cmd::explain_live::run(&connection, args),
        Command::Explain(args) if args.cost => cmd::explain_cost::run(&connection, args),
        Command::Explain(args) => cmd::explain::run(args),
        Command::Scripts(args) => cmd::lists::scripts(args),
        Command::Schema(args) => cmd::lists::schema(args),
        Command::Funcs(args) => cmd::lists::funcs(args),
        Command::Doctor(args) => cmd::doctor::run(&connection, args),
        Command::Stats(args) => cmd::ask::stats(&connection, args),
        Command::Queries(args) => cmd::ask::queries(&connection, args),
        Command::Nodes(args) => cmd::ask::nodes(&connection, args),
        Command::Sinks(args) => cmd::ask::sinks(&connection, args),
        Command::Alerts(args) => match &args.what {
            Some(args::AlertsCommand::Add(add)) => cmd::alert_add::run(&connection, add),
            None => cmd::ask::alerts(&connection, &args),
        },
        Command::Config(args) => match args.what {
            args::ConfigCommand::Check { files } => config::check(&files),
            args::ConfigCommand::Schema => config::schema(),
        },
        Command::Rules(args) => match args.what {
            args::RulesCommand::Check { files } => cmd::rules::check(&files),
            args::RulesCommand::Builtin => output::text(weir_rules::pack::BUILTIN.trim_end()),
            args::RulesCommand::Test(args) => cmd::rules::test(&connection, &args),
        },
        Command::Replay(args) => cmd::replay::run(&args),
        Command::Record(args) => cmd::record::run(&args),
        Command::Logout => cmd::ask::logout(&connection),
        Command::Bench(args) => bench::run(args),
        Command::DemoService(args) => demo::run_service(&args).map_err(Failure::from),
    }
}

fn main() -> ExitCode {
    match dispatch(args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(None);
            failure.exit_code()
        }
    }
}
