//! The answering part of a server: the cluster part with its sinks and alerts, and the API on its port.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use tracing::warn;
use weir_actors::KillSwitch;
use weir_cluster::api::auth::Auth;
use weir_cluster::api::faults::KillPart;
use weir_cluster::api::{self, ApiConfig};
use weir_cluster::coordinator::Identity;
use weir_cluster::service::{
    Alerts, CompileLimits, NodePorts, ReaderLimits, Service, ServiceConfig, Sinks,
};
use weir_cluster::view::SnapshotLimits;
use weir_engine::Mesh;
use weir_node::sources::{OwnRows, TellOwnRows};
use weir_proto::nats::BusStats;
use weir_sources::agent::OwnProcess;
use weir_types::Clock;

use super::{ASSETS, doctor_report, hostname, process, query_limits, tick_ms};
use crate::args::{CommonArgs, ReaderArgs, ServeArgs};
use crate::config;
use crate::data_dir::{self, DataDir};
use crate::failure::Failure;
use crate::output;

/// The cluster part runs no processes of others; no UPID has it.
const CLUSTER_ASID: u32 = 0;

pub(super) fn refuse_not_yet(args: &ServeArgs) -> Result<(), Failure> {
    let not_yet = [("--tls-cert", args.tls_cert.is_some()), ("--tls-key", args.tls_key.is_some())];
    match not_yet.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::Usage(format!("{flag} is not supported yet"))),
        None => Ok(()),
    }
}

/// The token that is to be the server's; `None`: its own.
pub(super) fn token(args: &ServeArgs) -> Result<Option<String>, Failure> {
    args.token_file.as_deref().map(data_dir::token_of_file).transpose()
}

pub(super) fn bind(args: &ServeArgs) -> Result<(TcpListener, SocketAddr), Failure> {
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

/// What the configuration asks for, and where its sinks keep what they have to.
pub(super) struct Configured {
    loaded: config::Loaded,
    directory: PathBuf,
    /// Set by SIGHUP, where there is a configuration.
    hangup: Option<Arc<AtomicBool>>,
}

impl Configured {
    /// Reads the configuration. From here on SIGHUP asks to read it again, and ends nothing.
    pub(super) fn load(args: &ServeArgs) -> Result<Configured, Failure> {
        let hangup = args.config.as_ref().map(|_| config::watch::hangup()).transpose();
        let hangup = hangup.context("could not watch SIGHUP")?;
        let loaded = args.config.as_deref().map(config::load).transpose();
        let loaded = loaded.map_err(|wrong| Failure::No(wrong.why))?.unwrap_or_default();
        Ok(Configured { loaded, directory: PathBuf::new(), hangup })
    }

    pub(super) fn in_directory(self, directory: PathBuf) -> Configured {
        Configured { directory, ..self }
    }
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

/// Who the nodes of a cluster part are.
pub(super) struct Nodes {
    pub(super) ports: NodePorts,
    /// Of a network, not of this process.
    pub(super) network: Option<Arc<BusStats>>,
    /// Who was there when the server ended last.
    pub(super) awaited: Vec<String>,
    pub(super) forget: Duration,
    /// The processes that this is one of.
    pub(super) mesh: Option<Mesh>,
}

/// Starts the cluster part below `switch`.
pub(super) fn start(
    (common, serve): (&CommonArgs, &ServeArgs),
    nodes: Nodes,
    clock: Arc<dyn Clock>,
    switch: &KillSwitch,
) -> Result<Service, Failure> {
    let queries = &common.queries;
    let config = ServiceConfig {
        tick_ms: tick_ms(common)?,
        workers: serve.workers.max(1),
        retention_ns: i64::try_from(common.retention.as_nanos()).unwrap_or(i64::MAX),
        snapshots: SnapshotLimits {
            rows_max: serve.snapshot_rows_max,
            bytes_max: serve.snapshot_bytes_max,
        },
        readers: reader_limits(&serve.readers),
        queries: query_limits(queries),
        query_cost_max: queries.query_cost_max.map(|bytes| bytes as u64),
        compiles: CompileLimits {
            compiles_max: queries.compiles_max,
            time_max: queries.compile_time_max,
            work_max: queries.compile_work_max,
        },
        test_faults: common.test_faults,
        identity: identity(&hostname(), clock.now_unix_ns()),
        node_forget: nodes.forget,
        awaited_nodes: nodes.awaited,
        serves_alone: nodes.network.is_some(),
        network: nodes.network,
        mesh: nodes.mesh,
    };
    let service = Service::start(&config, nodes.ports, clock, switch);
    Ok(service.context("could not start the cluster part")?)
}

/// What the cluster part's samples of the running dataflows are in rows.
pub(super) fn own_rows(service: &Service) -> TellOwnRows {
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

/// Starts sinks, alerts and the API.
pub(super) fn open(
    (service, switch): (&Service, &KillSwitch),
    args: &ServeArgs,
    configured: Configured,
    data: &DataDir,
    (listener, bound): (TcpListener, SocketAddr),
    kill_part: Option<KillPart>,
) -> Result<(), Failure> {
    let Configured { loaded, directory, hangup } = configured;
    let config::Loaded { sinks, alerts, patterns, seen } = loaded;
    let (state, history) = data.alerts();
    Alerts::start(service, switch, state, history, alerts);
    Sinks::start(service, switch, Some(directory), sinks);
    if let (Some(path), Some(hangup)) = (args.config.clone(), hangup) {
        actix::spawn(config::watch::watch(service.clone(), path, patterns, seen, hangup));
    }
    let config = ApiConfig {
        service: service.clone(),
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
        kill_part,
        process: Arc::new(process::report),
    };
    Ok(api::start(switch, listener, config).context("could not start the API")?)
}

/// The contract's two lines. Whoever has closed stdout does not wait for the second.
pub(super) fn announce(bound: SocketAddr, data: &DataDir, args: &ServeArgs) {
    if args.insecure_no_auth {
        warn!("--insecure-no-auth: everybody who can reach the port may come in");
        output::note(&format!("open http://{bound}/"));
    } else if args.token_file.is_some() {
        // Whoever gave it has it; what is said here may be kept where others read it.
        output::note(&format!("open http://{bound}/#token= with the token of --token-file"));
    } else {
        output::note(&format!("open http://{bound}/#token={}", data.token));
    }
    drop(output::line(&format!("ready http://{bound}")));
}
