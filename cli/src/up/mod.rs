//! `weir up`: everything in one process. Starts the parts in order, says when it is ready, and stops
//! them in order; it computes nothing itself.

mod doctor;
mod process;
mod wanted;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tracing::{info, warn};
use weir_actors::KillSwitch;
use weir_cluster::api::auth::Auth;
use weir_cluster::api::faults::KillPart;
use weir_cluster::api::{self, ApiConfig, Asset};
use weir_cluster::coordinator::Identity;
use weir_cluster::service::{
    Alerts, CompileLimits, ListNodes, ReaderLimits, Service, ServiceConfig, Sinks,
};
use weir_cluster::view::SnapshotLimits;
use weir_engine::Limits;
use weir_node::agent::Agent;
use weir_node::runtime::{NodeConfig, NodeRuntime};
use weir_node::sources::{OwnRows, Sources, SourcesConfig, TellOwnRows};
use weir_node::store::{FileStore, Keeper};
use weir_proto::NodeInfo;
use weir_proto::bus::in_process;
use weir_sources::agent::OwnProcess;
use weir_sources::redact::Redactor;
use weir_types::{Clock, SteadyClock, Upid, WallClock};

pub(crate) use doctor::report as doctor_report;
pub(crate) use process::{cpu_ns, cpu_ns_of, rss_bytes};

use crate::args::{QueryArgs, ReaderArgs, UpArgs};
use crate::config;
use crate::data_dir::{self, DataDir};
use crate::demo::Demo;
use crate::failure::Failure;
use crate::output;

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Sources detach within this; tracepoints take seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// The short id of the one agent of an embedded server.
const ASID: u32 = 1;
/// The cluster part runs no processes of others; no UPID has it.
const CLUSTER_ASID: u32 = 0;

fn refuse_not_yet(args: &UpArgs) -> Result<(), Failure> {
    let not_yet = [("--tls-cert", args.tls_cert.is_some()), ("--tls-key", args.tls_key.is_some())];
    match not_yet.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::Usage(format!("{flag} is not supported yet"))),
        None => Ok(()),
    }
}

fn bind(args: &UpArgs) -> Result<(TcpListener, SocketAddr), Failure> {
    let wanted: SocketAddr = args.listen.parse().map_err(|_| {
        Failure::Usage(format!("--listen {}: write ADDR:PORT, like 127.0.0.1:7070", args.listen))
    })?;
    if !wanted.ip().is_loopback() && !args.insecure_no_auth {
        return Err(Failure::Usage(format!(
            "--listen {wanted} is reachable from other machines, and API keys are not supported \
             yet: listen on 127.0.0.1, or say --insecure-no-auth if everybody may come in"
        )));
    }
    let listener = TcpListener::bind(wanted).map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::AddrInUse {
            ": another program (perhaps another `weir up`) listens there; --listen 127.0.0.1:0 \
             picks a free port"
        } else {
            ""
        };
        Failure::No(format!("could not listen on {wanted}: {error}{hint}"))
    })?;
    let bound = listener.local_addr().map_err(|error| Failure::No(error.to_string()))?;
    Ok((listener, bound))
}

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
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,actix_server=warn"));
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
    refuse_not_yet(&args)?;
    // From here on SIGHUP asks to read it again, and ends nothing.
    let hangup = args.config.as_ref().map(|_| config::watch::hangup()).transpose();
    let hangup = hangup.context("could not watch SIGHUP")?;
    let loaded = args.config.as_deref().map(config::load).transpose();
    let loaded = loaded.map_err(Failure::No)?.unwrap_or_default();
    let (listener, bound) = bind(&args)?;
    init_logs();
    raise_files_limit();
    let directory = directory.unwrap_or_else(data_dir::default_path);
    let data = DataDir::open(&directory)?;
    let signals = Signals::watch()?;
    let system = actix::System::new();
    let configured = Configured { loaded, directory, hangup };
    system.block_on(serve(args, configured, data, listener, bound, signals))
}

/// What the configuration asks for, and where its sinks keep what they have to.
struct Configured {
    loaded: config::Loaded,
    directory: PathBuf,
    /// Set by SIGHUP, where there is a configuration.
    hangup: Option<Arc<AtomicBool>>,
}

/// The first signal asks for an orderly stop, the second ends the process.
struct Signals {
    asked: Arc<AtomicBool>,
    /// Gets a byte with each signal.
    woken: UnixStream,
}

impl Signals {
    fn watch() -> Result<Signals, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        let register = || -> std::io::Result<UnixStream> {
            let (woken, wakes) = UnixStream::pair()?;
            for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
                signal_hook::flag::register_conditional_shutdown(signal, 130, asked.clone())?;
                signal_hook::flag::register(signal, asked.clone())?;
                signal_hook::low_level::pipe::register(signal, wakes.try_clone()?)?;
            }
            woken.set_nonblocking(true)?;
            Ok(woken)
        };
        let woken =
            register().map_err(|error| Failure::No(format!("could not watch signals: {error}")))?;
        Ok(Signals { asked, woken })
    }

    async fn wait(self) -> Result<(), Failure> {
        let failed = |error| Failure::No(format!("could not wait for signals: {error}"));
        let woken = tokio::net::UnixStream::from_std(self.woken).map_err(failed)?;
        while !self.asked.load(Ordering::SeqCst) {
            woken.readable().await.map_err(failed)?;
            let mut bytes = [0; 16];
            // Nothing to read yet is no failure: the next wait ends when there is.
            let _ = woken.try_read(&mut bytes);
        }
        Ok(())
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_string())
        .unwrap_or_else(|_| "localhost".to_string())
}

fn tick_ms(args: &UpArgs) -> Result<u64, Failure> {
    let tick_ms = u64::try_from(args.tick.as_millis()).unwrap_or(0);
    if !(10..=10_000).contains(&tick_ms) {
        return Err(Failure::Usage("--tick must be between 10ms and 10s".to_string()));
    }
    Ok(tick_ms)
}

/// This process, as rows name it.
fn own_upid() -> Upid {
    let started = OwnProcess::new(Path::new("/")).start_ticks().unwrap_or(0);
    Upid::new(ASID, std::process::id(), started)
}

/// The cluster part among the agents.
fn identity(hostname: &str, started_unix_ns: i64) -> Identity {
    let address = weir_sources::agent::machine_address();
    Identity {
        asid: CLUSTER_ASID,
        hostname: hostname.to_string(),
        ip_address: address.map_or_else(String::new, |address| address.to_string()),
        version: env!("CARGO_PKG_VERSION").to_string(),
        started_unix_ns,
        kernel_headers_installed: OwnProcess::new(Path::new("/")).kernel_headers_installed(),
    }
}

/// The parts of a running server. The tree stops them in the reverse order of their start.
struct Parts {
    service: Service,
    switch: KillSwitch,
    /// Keeps the node alive.
    node: NodeRuntime,
}

fn reader_limits(args: &ReaderArgs) -> ReaderLimits {
    ReaderLimits {
        reader_bytes_max: args.reader_bytes_max as u64,
        client_bytes_max: args.client_bytes_max as u64,
        readers_bytes_max: args.readers_bytes_max as u64,
        write_timeout_ms: u64::try_from(args.write_timeout.as_millis()).unwrap_or(u64::MAX),
        websockets_max: args.websockets_max,
        subscriptions_max: args.subscriptions_max,
    }
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

/// Where long windows are kept. A server runs without, and says why.
fn store(args: &UpArgs, data: &DataDir, node: &str, now_unix_ns: i64) -> Option<Keeper> {
    if args.store_bytes == 0 {
        return None;
    }
    let bytes_max = args.store_bytes as u64;
    let now_ms = u64::try_from(now_unix_ns / 1_000_000).unwrap_or(0);
    let path = match data.windows() {
        Ok(path) => path,
        Err(Failure::No(why)) => {
            warn!(why, "long windows are not kept");
            return None;
        }
        Err(failure) => {
            warn!(?failure, "long windows are not kept");
            return None;
        }
    };
    let store = FileStore::new(&path, node, bytes_max);
    let keeper = Keeper::start(Box::new(store), bytes_max, now_ms);
    keeper.inspect_err(|error| warn!(%error, "long windows are not kept")).ok()
}

fn start_parts(args: &UpArgs, bound: SocketAddr, data: &DataDir) -> Result<Parts, Failure> {
    // Whatever is done to the wall clock, ticks go on and never go back.
    let clock: Arc<dyn Clock> = Arc::new(SteadyClock::new(WallClock));
    let tick_ms = tick_ms(args)?;
    let retention_ns = i64::try_from(args.retention.as_nanos()).unwrap_or(i64::MAX);
    let sources_config = SourcesConfig {
        asid: ASID,
        hostname: hostname(),
        own_listener: bound,
        filters: wanted::parse(&args.trace)?,
        retention: args.retention,
        test_faults: args.test_faults,
        redactor: Redactor::new(
            args.redact,
            &args.redact_name,
            Some(weir_engine::push_without_pii),
        ),
        // Once the cluster part is there.
        own_rows: None,
    };
    let (node_port, cluster_port) = in_process();
    let config = ServiceConfig {
        tick_ms,
        workers: args.workers.max(1),
        retention_ns,
        snapshots: SnapshotLimits {
            rows_max: args.snapshot_rows_max,
            bytes_max: args.snapshot_bytes_max,
        },
        readers: reader_limits(&args.readers),
        queries: query_limits(&args.queries),
        compiles: CompileLimits {
            compiles_max: args.queries.compiles_max,
            time_max: args.queries.compile_time_max,
            work_max: args.queries.compile_work_max,
        },
        test_faults: args.test_faults,
        identity: identity(&sources_config.hostname, clock.now_unix_ns()),
    };
    let switch = KillSwitch::root("weir");
    let service = Service::start(&config, cluster_port, clock.clone(), &switch)
        .context("could not start the cluster part")?;
    let own_rows = Some(own_rows(&service));
    let sources = Arc::new(Sources::new(SourcesConfig { own_rows, ..sources_config.clone() }));
    let ending = sources.clone();
    let incarnation = u64::try_from(clock.now_unix_ns()).unwrap_or(0);
    let info = NodeInfo::named(&sources_config.hostname, incarnation, ASID);
    let node_config = NodeConfig {
        tick_ms,
        retention_ns,
        history_bytes: args.history_bytes as u64,
        queries: query_limits(&args.queries),
        test_faults: args.test_faults,
        own_upid: own_upid(),
        store: store(args, data, &info.name, clock.now_unix_ns()),
        metadata: Some(sources.metadata()),
        sources_ended: Box::new(move || wait_for_sources(&ending)),
        ..NodeConfig::new(info, Agent::new(sources.debug_state()))
    };
    let node = NodeRuntime::start(node_config, &sources.all(), node_port, clock, &switch)
        .context("could not start the node part")?;
    Ok(Parts { service, node, switch })
}

/// What the cluster part's samples of the running dataflows are in rows.
fn own_rows(service: &Service) -> TellOwnRows {
    let figures = service.figures.clone();
    Arc::new(move |after_unix_ns| {
        let sample = figures.now();
        (sample.at_unix_ns > after_unix_ns).then(|| OwnRows {
            at_unix_ns: sample.at_unix_ns,
            batches: sample.rows(),
            left_out_total: figures.left_out_total(),
        })
    })
}

/// Blocks until they have detached, which takes seconds, and says how far they are.
fn wait_for_sources(sources: &Sources) {
    let (mut waited, step) = (Duration::ZERO, Duration::from_millis(100));
    while sources.running() > 0 && waited < STOP_TIMEOUT {
        std::thread::park_timeout(step);
        waited += step;
        if waited.as_millis().is_multiple_of(1000) {
            output::note(&format!("stopping: {}", sources.stop_progress()));
        }
    }
    if sources.running() > 0 {
        warn!("some sources did not stop in time");
    }
}

/// Test faults of the node.
fn kill_part(node: &NodeRuntime) -> KillPart {
    let (engine, panic_thread) = (node.engine.clone(), node.panic_switch());
    Arc::new(move |part| {
        match part {
            "node_engine" => engine.engine().kill_worker(),
            "node_thread" => panic_thread(),
            _ => return false,
        }
        true
    })
}

async fn serve(
    args: UpArgs,
    configured: Configured,
    data: DataDir,
    listener: TcpListener,
    bound: SocketAddr,
    signals: Signals,
) -> Result<(), Failure> {
    let parts = start_parts(&args, bound, &data)?;
    let Configured { loaded, directory, hangup } = configured;
    let config::Loaded { sinks, alerts, patterns, seen } = loaded;
    let (state, history) = data.alerts();
    Alerts::start(&parts.service, &parts.switch, state, history, alerts);
    Sinks::start(&parts.service, &parts.switch, Some(directory), sinks);
    if let (Some(path), Some(hangup)) = (args.config.clone(), hangup) {
        actix::spawn(config::watch::watch(parts.service.clone(), path, patterns, seen, hangup));
    }
    let demo = if args.demo { Some(Demo::start()?) } else { None };
    let config = ApiConfig {
        service: parts.service.clone(),
        auth: Auth {
            token: (!args.insecure_no_auth).then(|| data.token.clone()),
            listen_ip: bound.ip(),
            listen_port: bound.port(),
            hosts: args.host.clone(),
            local_ips: weir_sources::metadata::local_addresses(),
        },
        sessions: data.sessions()?,
        assets: ASSETS,
        doctor: Arc::new(doctor_report),
        kill_part: args.test_faults.then(|| kill_part(&parts.node)),
        process: Arc::new(process::report),
    };
    api::start(&parts.switch, listener, config).context("could not start the API")?;
    if wait_ready(&parts.service, &signals).await {
        announce(bound, &data, args.insecure_no_auth);
    }
    signals.wait().await?;
    info!("stopping: detaching takes some seconds");
    if let Some(demo) = demo {
        demo.stop();
    }
    stop_parts(parts).await;
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

/// The contract's two lines. Whoever has closed stdout does not wait for the second.
fn announce(bound: SocketAddr, data: &DataDir, open: bool) {
    if open {
        warn!("--insecure-no-auth: everybody who can reach the port may come in");
        output::note(&format!("open http://{bound}/"));
    } else {
        output::note(&format!("open http://{bound}/#token={}", data.token));
    }
    drop(output::line(&format!("ready http://{bound}")));
}

async fn stop_parts(parts: Parts) {
    let report = parts.switch.kill().await;
    for part in report.overdue {
        warn!(part, "did not stop in time");
    }
    output::note("stopped");
}
