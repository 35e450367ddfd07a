//! The command line by the contract.

mod alerts;
mod deploy;
mod replay;
mod roles;
mod rules;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use alerts::{AlertAddArgs, AlertsArgs, AlertsCommand};
pub(crate) use deploy::{DeployArgs, Preset, ProbeArgs, ProbeWhat};
pub(crate) use replay::{PcapArgs, PcapSpeed, RecordArgs, RecordRedact, ReplayArgs};
pub(crate) use roles::{
    BusArgs, CaptureArgs, ClusterArgs, CommonArgs, KubernetesArgs, KubernetesNodeArgs, NodeArgs,
    ServeArgs,
};
pub(crate) use rules::{RulesArgs, RulesCommand, RulesTestArgs};

use crate::units::{parse_bytes, parse_duration, parse_time};

/// Continuous PxL over eBPF: answers about a running system, kept true.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Server to ask: http://HOST:PORT, HOST:PORT, or HOST for port 7070.
    #[arg(
        long,
        global = true,
        env = "WEIR_SERVER",
        default_value = "http://127.0.0.1:7070",
        value_parser = parse_server,
        value_name = "URL"
    )]
    pub(crate) server: ServerUrl,
    /// Where the server keeps its token and state [default: ~/.local/state/weir].
    #[arg(long, global = true, env = "WEIR_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server: capture, queries and the live page, in one process.
    Up(UpArgs),
    /// Capture on this machine, for a cluster part that is reached over a bus.
    Node(NodeArgs),
    /// Queries and the live page over the nodes of a bus.
    Cluster(ClusterArgs),
    /// Put Weir into a cluster of Kubernetes, and show how far it is.
    Deploy(DeployArgs),
    /// Whether a server or a node is well; exit 1 or 3 if it is not.
    Probe(ProbeArgs),
    /// One answer of a script.
    Run(RunArgs),
    /// Keep answering a script.
    Live(LiveArgs),
    /// Compile scripts without a server; exit 1 if any has an error.
    Check(CheckArgs),
    /// Show how a script is compiled, stage by stage.
    Explain(ExplainArgs),
    /// The bundle's scripts.
    Scripts(ScriptsArgs),
    /// Tables and their columns.
    Schema(NamedArgs),
    /// Functions of the language.
    Funcs(NamedArgs),
    /// What works on this machine, and why not; exit 1 if nothing can be captured.
    Doctor(DoctorArgs),
    /// The server's own numbers.
    Stats(OutputArgs),
    /// Installed queries.
    Queries(OutputArgs),
    /// Nodes and their sources.
    Nodes(OutputArgs),
    /// Sinks, how far they are and what hinders them.
    Sinks(OutputArgs),
    /// Alerts that are pending or fire; rules, receivers and what happened.
    #[command(alias = "alert")]
    Alerts(AlertsArgs),
    /// Judge configuration files.
    Config(ConfigArgs),
    /// Judge and test files of alert rules.
    Rules(RulesArgs),
    /// Captures of packets through the tracker and the parsers, into files of rows or a script.
    Replay(ReplayArgs),
    /// What is captured here into a file that replay reads.
    Record(RecordArgs),
    /// End all sessions of browsers on the server; the token stays.
    Logout,
    /// Measure, and print one JSON object.
    Bench(crate::bench::BenchArgs),
    /// A service of the demo shop.
    #[command(hide = true)]
    DemoService(crate::demo::ServiceArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Jsonl,
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) what: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// No server needed; exit 1 if one of them is wrong, with the reason.
    Check {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Their JSON Schema.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// Only this one.
    pub(crate) name: Option<String>,
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct ScriptsArgs {
    #[command(subcommand)]
    pub(crate) what: Option<ScriptsCommand>,
    #[arg(short, long, value_enum, global = true)]
    pub(crate) output: Option<Format>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScriptsCommand {
    /// Names and what they are for.
    List,
    /// One script's text and arguments.
    Show { name: String },
}

/// Which script, which function, which arguments.
#[derive(Debug, Args)]
pub(crate) struct ScriptArgs {
    /// A bundle name (px/http_data), a .pxl file, a folder with one, or - for standard input.
    pub(crate) script: String,
    /// Run one function of a script with vis.json.
    #[arg(long, value_name = "NAME")]
    pub(crate) func: Option<String>,
    /// Script arguments, after --: --name value.
    #[arg(last = true, value_name = "--name value")]
    pub(crate) script_args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) script: ScriptArgs,
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// Take tables from DIR/<table>.jsonl instead of a server.
    #[arg(long, value_name = "DIR")]
    pub(crate) rows: Option<PathBuf>,
    /// Take the last answer of a view that is there, at once and however old, instead of the next one.
    #[arg(long)]
    pub(crate) stale_ok: bool,
    /// Run it even if it is expected to cost more than the server lets queries cost.
    #[arg(long)]
    pub(crate) force: bool,
    /// With --rows: evaluate at this time (RFC 3339 or ns) [default: the last arrival, rounded up to
    /// a second].
    #[arg(long, value_name = "T", value_parser = parse_time)]
    pub(crate) now: Option<i64>,
    /// Let a test fault in the script panic inside an operator.
    #[arg(long, hide = true)]
    pub(crate) test_faults: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    #[command(flatten)]
    pub(crate) script: ScriptArgs,
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// How often the view changes [default: 1s for windows of a minute and more, else the tick].
    #[arg(long, value_parser = parse_duration, value_name = "100ms")]
    pub(crate) refresh: Option<Duration>,
    /// Run it even if it is expected to cost more than the server lets queries cost.
    #[arg(long)]
    pub(crate) force: bool,
    /// End after this long.
    #[arg(long = "for", value_parser = parse_duration, value_name = "10s")]
    pub(crate) for_: Option<Duration>,
    /// End after so many refreshes.
    #[arg(long, value_name = "N")]
    pub(crate) ticks: Option<u64>,
    /// Take tables from DIR/<table>.jsonl instead of a server; their arrivals are the clock.
    #[arg(long, value_name = "DIR")]
    pub(crate) rows: Option<PathBuf>,
    /// With --rows: the tick.
    #[arg(long, value_parser = parse_duration, default_value = "1s", value_name = "1s")]
    pub(crate) tick: Duration,
    /// With --rows: go on for this long after the last row.
    #[arg(long, value_parser = parse_duration, default_value = "5m", value_name = "5m")]
    pub(crate) drain: Duration,
    /// Worker threads of each engine part, with --rows.
    #[arg(long, default_value_t = 1, hide = true)]
    pub(crate) workers: usize,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Scripts, folders with a .pxl and a vis.json, or folders of such folders.
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// A value for an argument, instead of its default or placeholder.
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub(crate) args: Vec<String>,
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) script: ScriptArgs,
    /// ast, frames, ir, passes, plan or split [default: all].
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    #[arg(short, long, default_value = "text", value_parser = ["text", "table", "json"])]
    pub(crate) output: String,
    /// The dataflow as it runs on the server: rows, bytes and time of each operator.
    #[arg(long, conflicts_with = "stage", group = "on_server")]
    pub(crate) live: bool,
    /// What it would cost on the server: rows, memory, CPU time and bytes on the bus, estimated before it runs.
    #[arg(long, conflicts_with = "stage", group = "on_server")]
    pub(crate) cost: bool,
    /// With --live: the view of this refresh [default: the one that refreshes most often]; with --cost: this refresh
    /// [default: that of `weir live`].
    #[arg(long, value_parser = parse_duration, requires = "on_server")]
    pub(crate) refresh: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Look at one process too.
    pub(crate) pid: Option<u32>,
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Start the demo shop: a few small services with traffic between them.
    #[arg(long)]
    pub(crate) demo: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesNodeArgs,
}

/// What queries may cost.
#[derive(Clone, Debug, Args)]
pub(crate) struct QueryArgs {
    /// Memory of one query in each part, node and cluster. Without it an eighth of what there is, at most 1 GiB.
    #[arg(long, value_parser = parse_bytes, value_name = "N")]
    pub(crate) query_bytes_max: Option<usize>,
    /// Memory of all queries of a part; above, the largest is ended. Without it a quarter, at most 2 GiB.
    #[arg(long, value_parser = parse_bytes, value_name = "N")]
    pub(crate) queries_bytes_max: Option<usize>,
    /// Refuse queries that are expected to hold more in the cluster part, unless they are asked for with --force;
    /// 0: none. Without it sixteen times --query-bytes-max.
    #[arg(long, value_parser = parse_bytes, value_name = "N")]
    pub(crate) query_cost_max: Option<usize>,
    /// Groups of one aggregate; rows of further ones are counted in the row `__overflow__`.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(crate) query_groups_max: Option<u64>,
    /// Longest time that a script may take to compile.
    #[arg(long, value_parser = parse_duration, default_value = "5s", value_name = "5s")]
    pub(crate) compile_time_max: Duration,
    /// Work that compiling a script may take, in steps of about 10 ns that are the same everywhere.
    #[arg(long, default_value_t = weir_pxl::limits::WORK_MAX, value_name = "N")]
    pub(crate) compile_work_max: u64,
    /// Scripts that compile at the same time; others wait their turn.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) compiles_max: usize,
}

/// What readers may cost.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReaderArgs {
    /// What may wait for one subscription before it is ended as too slow.
    #[arg(long, value_parser = parse_bytes, default_value = "32MiB", value_name = "N")]
    pub(crate) reader_bytes_max: usize,
    /// What may wait for all subscriptions of one connection.
    #[arg(long, value_parser = parse_bytes, default_value = "64MiB", value_name = "N")]
    pub(crate) client_bytes_max: usize,
    /// What may wait for all readers; above, whoever holds most is ended.
    #[arg(long, value_parser = parse_bytes, default_value = "256MiB", value_name = "N")]
    pub(crate) readers_bytes_max: usize,
    /// Close a connection that takes nothing of what waits for it for so long.
    #[arg(long, value_parser = parse_duration, default_value = "30s", value_name = "30s")]
    pub(crate) write_timeout: Duration,
    /// Websockets at a time.
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub(crate) websockets_max: usize,
    /// Subscriptions of one websocket.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) subscriptions_max: usize,
}

/// `http://HOST:PORT`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl(pub(crate) String);

/// Port of a server that is named without one.
const DEFAULT_PORT: u16 = 7070;

/// People and scripts name servers as they name them elsewhere: with or without a scheme.
fn parse_server(text: &str) -> Result<ServerUrl, String> {
    let wrong = |why: &str| Err(format!("{why}: write http://HOST:PORT or HOST:PORT"));
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(s, r)| (Some(s), r));
    if scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http")) {
        return wrong("only http:// servers are supported yet");
    }
    let authority = rest.trim_end_matches('/');
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if !authority.chars().all(is_host) {
        return wrong("this is no server's address");
    }
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[host_end..].rfind(':').map(|at| host_end + at) {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    };
    let port = match port {
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return wrong("the port must be a number from 1 to 65535"),
        },
        None if scheme.is_some() => 80,
        None => DEFAULT_PORT,
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    if host.starts_with('[') != host.ends_with(']') || host.contains(':') != host.starts_with('[') {
        return wrong("an IPv6 address stands in brackets");
    }
    Ok(ServerUrl(format!("http://{host}:{port}")))
}

/// Reads the command line. Usage lines are those of `--help`: clap's own, in an error, would list
/// every flag that was given (or set by the environment) as if it were required.
pub(crate) fn parse() -> Cli {
    let parsed = Cli::from_arg_matches(&command().get_matches());
    parsed.unwrap_or_else(|error| error.exit())
}

fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    with_usage(command)
}

fn with_usage(mut command: clap::Command) -> clap::Command {
    let usage = command.render_usage().to_string();
    for below in command.get_subcommands_mut() {
        *below = with_usage(std::mem::take(below));
    }
    let usage = usage.trim_start_matches("Usage:").trim().to_string();
    command.override_usage(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers as people name them; what is none is wrong usage.
    #[test]
    fn servers() {
        for (text, want) in [
            ("http://127.0.0.1:7070", "http://127.0.0.1:7070"),
            ("http://h:1/", "http://h:1"),
            ("HTTP://h", "http://h:80"),
            ("127.0.0.1:7071", "http://127.0.0.1:7071"),
            ("localhost:7071", "http://localhost:7071"),
            ("localhost", "http://localhost:7070"),
            (":7071", "http://127.0.0.1:7071"),
            ("[::1]:7071", "http://[::1]:7071"),
            ("[::1]", "http://[::1]:7070"),
            ("", "http://127.0.0.1:7070"),
        ] {
            assert_eq!(parse_server(text), Ok(ServerUrl(want.to_string())), "{text}");
        }
        for text in
            ["https://h:1", "h:x", "h:0", "h:99999", "::1", "a b", "http://u@h:1", "h/x", "h?x"]
        {
            assert!(parse_server(text).is_err(), "{text}");
        }
    }

    /// An error's usage is that of `--help`: catches flags shown as required because they were given.
    #[test]
    fn usage_is_not_made_up() {
        let error = command().try_get_matches_from(["weir", "run", "--server", "h:1"]).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("Usage: weir run [OPTIONS] <SCRIPT> [-- <--name value>...]"),
            "{said}"
        );
        let error = command().try_get_matches_from(["weir", "scripts", "show", "-o", "json"]);
        assert!(error.unwrap_err().to_string().contains("show [OPTIONS] <NAME>"));
    }

    /// The definition holds together, and values have units.
    #[test]
    fn parses() {
        Cli::command().debug_assert();
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert!(parse_duration("5").is_err());
        assert_eq!(parse_bytes("32MiB"), Ok(32 << 20));
        assert!(parse_bytes("1XB").is_err());
        let cli = Cli::try_parse_from(["weir", "run", "px/pod", "--", "--pod", "ns/n"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.script.script_args, ["--pod", "ns/n"]);
    }
}
