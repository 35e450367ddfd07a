//! The roles of a server: `weir up`, everything in one process; `weir node` and `weir cluster`, the same parts
//! joined by a bus. Starts the parts in order, says when it is ready, and stops them in order; it computes
//! nothing itself.

mod bus;
mod capture;
mod cluster;
mod doctor;
mod kubernetes;
mod node;
mod process;
mod processes;
mod serve;
mod shares;
mod signals;
mod wanted;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};
use weir_actors::KillSwitch;
use weir_cluster::api::Asset;
use weir_cluster::service::{ListNodes, Service, one_node};
use weir_engine::Limits;
use weir_node::runtime::NodeRuntime;
use weir_node::sources::KubernetesConfig;
use weir_proto::bus::in_process;
use weir_types::{Clock, SteadyClock, WallClock};

pub(crate) use cluster::run as cluster;
pub(crate) use doctor::report as doctor_report;
pub(crate) use node::run as node;
pub(crate) use process::{cpu_ns, cpu_ns_of, rss_bytes};
pub(crate) use wanted::parse as parse_trace;

use self::capture::NodeSpec;
use self::serve::{Configured, Nodes};
use self::signals::Signals;
use crate::args::{CommonArgs, QueryArgs, UpArgs};
use crate::data_dir::{self, DataDir};
use crate::demo::Demo;
use crate::failure::Failure;
use crate::output;

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The short id of the one agent of an embedded server.
const ASID: u32 = 1;

/// Connections, probes and what `/proc` is asked take files; the usual soft limit of 1,024 is for
/// programs that still use `select`.
fn raise_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Not allowed: then the server works within what it has.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Logs to stderr: errors and changes of state; `WEIR_LOG` asks for more.
fn init_logs() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new(
            "info,actix_server=warn,async_nats=error,kube_client=error,kube_runtime=error",
        )
    });
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let _already_set = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || output::LogLines { color })
        .with_ansi(color)
        // It would say on stderr that stderr cannot be written, and panic over it.
        .log_internal_errors(false)
        .with_target(false)
        .try_init();
}

pub(crate) fn run(args: UpArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    serve::refuse_not_yet(&args.serve)?;
    let configured = Configured::load(&args.serve)?;
    let kubernetes = kubernetes::of_node(&args.kubernetes)?;
    let listening = serve::bind(&args.serve)?;
    let token = serve::token(&args.serve)?;
    let (directory, data, signals) = begin(directory, token)?;
    let configured = (configured.in_directory(directory), kubernetes);
    actix::System::new().block_on(both(args, configured, data, listening, signals))
}

/// What every process does once its arguments are right: logs, files.
fn begin_without_data() {
    init_logs();
    raise_files_limit();
}

/// What every role does once its arguments are right: that, its directory, signals.
fn begin(
    directory: Option<PathBuf>,
    token: Option<String>,
) -> Result<(PathBuf, DataDir, Signals), Failure> {
    begin_without_data();
    let directory = directory.unwrap_or_else(data_dir::default_path);
    let data = DataDir::open(&directory, token)?;
    let signals = Signals::watch()?;
    Ok((directory, data, signals))
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_string())
        .unwrap_or_else(|_| "localhost".to_string())
}

fn tick_ms(args: &CommonArgs) -> Result<u64, Failure> {
    let tick_ms = u64::try_from(args.tick.as_millis()).unwrap_or(0);
    if !(10..=10_000).contains(&tick_ms) {
        return Err(Failure::Usage("--tick must be between 10ms and 10s".to_string()));
    }
    Ok(tick_ms)
}

fn query_limits(args: &QueryArgs) -> Limits {
    let limits = Limits::of_this_process();
    let set = |value: Option<usize>, default: u64| value.map_or(default, |value| value as u64);
    Limits {
        query_state_bytes_max: set(args.query_bytes_max, limits.query_state_bytes_max),
        state_bytes_max: set(args.queries_bytes_max, limits.state_bytes_max),
        query_groups_max: args.query_groups_max.unwrap_or(limits.query_groups_max),
        ..limits
    }
}

/// Time for a role. Whatever is done to the wall clock, ticks go on and never go back.
fn clock() -> Arc<dyn Clock> {
    Arc::new(SteadyClock::new(WallClock))
}

/// The parts of a running server. The tree stops them in the reverse order of their start.
struct Parts {
    service: Service,
    switch: KillSwitch,
    /// Keeps the node alive.
    node: NodeRuntime,
}

fn start_parts(
    args: &UpArgs,
    bound: std::net::SocketAddr,
    data: &DataDir,
    kubernetes: Option<KubernetesConfig>,
) -> Result<Parts, Failure> {
    let clock = clock();
    let switch = KillSwitch::root("weir");
    let (node_port, cluster_port) = in_process();
    let nodes = Nodes {
        ports: one_node(cluster_port),
        network: None,
        awaited: Vec::new(),
        // It is in this process.
        forget: Duration::MAX,
        mesh: None,
    };
    let service = serve::start((&args.common, &args.serve), nodes, clock.clone(), &switch)?;
    let spec = NodeSpec {
        common: &args.common,
        capture: &args.capture,
        data,
        name: hostname(),
        asid: ASID,
        incarnation: u64::try_from(clock.now_unix_ns()).unwrap_or(0),
        own_listener: Some(bound),
        own_bus: None,
        bus_status: None,
        kubernetes,
        own_rows: Some(serve::own_rows(&service)),
    };
    let node = capture::start(spec, node_port, clock, &switch)?;
    Ok(Parts { service, node, switch })
}

async fn both(
    args: UpArgs,
    (configured, kubernetes): (Configured, Option<KubernetesConfig>),
    data: DataDir,
    listening: (std::net::TcpListener, std::net::SocketAddr),
    signals: Signals,
) -> Result<(), Failure> {
    let bound = listening.1;
    let parts = start_parts(&args, bound, &data, kubernetes)?;
    let demo = if args.demo { Some(Demo::start()?) } else { None };
    let kill_part = args.common.test_faults.then(|| capture::kill_part(&parts.node));
    let Parts { service, switch, node } = parts;
    serve::open((&service, &switch), &args.serve, configured, &data, listening, kill_part)?;
    if wait_ready(&service, &signals).await {
        serve::announce(bound, &data, &args.serve);
    }
    signals.wait().await?;
    info!("stopping: detaching takes some seconds");
    if let Some(demo) = demo {
        demo.stop();
    }
    stop(&switch).await;
    drop(node);
    Ok(())
}

/// True once the node has registered; false if a signal came first.
async fn wait_ready(service: &Service, signals: &Signals) -> bool {
    loop {
        let nodes = service.coordinator.send(ListNodes).await.map_or(0, |nodes| nodes.len());
        if nodes > 0 {
            return true;
        }
        if signals.asked.load(Ordering::SeqCst) {
            return false;
        }
        actix::clock::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops all parts, in their order.
async fn stop(switch: &KillSwitch) {
    let report = switch.kill().await;
    for part in report.overdue {
        warn!(part, "did not stop in time");
    }
    output::note("stopped");
}
