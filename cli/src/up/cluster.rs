//! `weir cluster`: the answering part alone, over the nodes of a bus.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};
use weir_actors::{KillSwitch, Stop};
use weir_cluster::service::{ListNodes, Service, StateStore};
use weir_proto::nats::{HubConfig, HubState, NatsConfig, NatsHub};

use super::serve::{self, Configured, Nodes};
use super::signals::Signals;
use super::{begin, bus, clock, hostname, stop};
use crate::args::ClusterArgs;
use crate::data_dir::DataDir;
use crate::failure::Failure;

const CLOSE_TIME_MAX: Duration = Duration::from_secs(3);
/// A link is kept for so long after its node was given up.
const LINK_GRACE: Duration = Duration::from_secs(60);
/// Which nodes there are is written down so often, if it has changed.
const KEEP_NODES_EVERY: Duration = Duration::from_secs(1);

pub(crate) fn run(args: ClusterArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    serve::refuse_not_yet(&args.serve)?;
    if args.processes != 1 {
        return Err(Failure::Usage("--processes: only one is supported yet".to_string()));
    }
    let bus = bus::config(&args.bus)?;
    let configured = Configured::load(&args.serve)?;
    let listening = serve::bind(&args.serve)?;
    let (directory, data, signals) = begin(directory)?;
    let configured = configured.in_directory(directory);
    actix::System::new().block_on(open(args, bus, (configured, data), listening, signals))
}

async fn open(
    args: ClusterArgs,
    bus: NatsConfig,
    (configured, data): (Configured, DataDir),
    listening: (TcpListener, SocketAddr),
    signals: Signals,
) -> Result<(), Failure> {
    let clock = clock();
    let switch = KillSwitch::root("weir");
    let forget_ms = (args.node_forget + LINK_GRACE).as_millis();
    let config = HubConfig {
        bus,
        hostname: hostname(),
        forget_ms: u64::try_from(forget_ms).unwrap_or(u64::MAX),
    };
    let started = NatsHub::start(config, Arc::clone(&clock));
    let (mut hub, ports) =
        started.map_err(|error| Failure::No(format!("no thread for the bus: {error}")))?;
    let (state, network) = (hub.state(), hub.stats());
    let part = switch.part("bus", Stop::call(CLOSE_TIME_MAX, move || hub.close()));
    part.running();
    let kept = data.nodes();
    let awaited: Vec<String> =
        kept.saved.as_deref().unwrap_or_default().lines().map(str::to_string).collect();
    let forget = args.node_forget;
    let nodes = Nodes { ports, network: Some(network), awaited: awaited.clone(), forget };
    let service = serve::start((&args.common, &args.serve), nodes, clock, &switch)?;
    actix::spawn(keep_nodes(service.clone(), kept, awaited));
    let bound = listening.1;
    serve::open((&service, &switch), &args.serve, configured, &data, listening, None)?;
    let asked = Arc::clone(&signals.asked);
    let mut reached = state.clone();
    let runs = async {
        let serving = reached.wait_for(|state| *state == HubState::Serving);
        tokio::select! {
            ready = serving => if ready.is_ok() && !asked.load(Ordering::SeqCst) {
                serve::announce(bound, &data, args.serve.insecure_no_auth);
            },
            () = stop_asked(&asked) => {}
        }
        signals.wait().await
    };
    let failed = tokio::select! {
        why = failure(state) => Some(why),
        done = runs => done.map(|()| None)?,
    };
    info!("stopping");
    stop(&switch).await;
    match failed {
        Some(why) => Err(Failure::No(why)),
        None => Ok(()),
    }
}

async fn stop_asked(asked: &std::sync::atomic::AtomicBool) {
    while !asked.load(Ordering::SeqCst) {
        actix::clock::sleep(Duration::from_millis(100)).await;
    }
}

/// Why the bus cannot go on; never, while it can.
async fn failure(mut state: watch::Receiver<HubState>) -> String {
    let failed = state.wait_for(|state| matches!(state, HubState::Failed(_))).await;
    match failed.as_deref() {
        Ok(HubState::Failed(why)) => why.clone(),
        _ => std::future::pending().await,
    }
}

/// Writes down which nodes there are: the next server waits for them, and says so, before it calls an answer
/// complete.
async fn keep_nodes(service: Service, kept: StateStore, mut written: Vec<String>) {
    let since_ns = service.clock.monotonic_ns();
    let waits_ns = u64::try_from(service.node_forget.as_nanos()).unwrap_or(u64::MAX);
    loop {
        actix::clock::sleep(KEEP_NODES_EVERY).await;
        let Ok(nodes) = service.coordinator.send(ListNodes).await else { return };
        let mut names: Vec<String> = nodes.into_iter().map(|node| node.name).collect();
        if service.clock.monotonic_ns().saturating_sub(since_ns) < waits_ns {
            // Who has not come back yet is still waited for.
            names.extend(written.iter().cloned());
        }
        names.sort();
        names.dedup();
        if names == written {
            continue;
        }
        written = names;
        let (text, save) = (written.join("\n"), Arc::clone(&kept.save));
        let saved = actix_web::web::block(move || save(&text)).await;
        if let Ok(Err(why)) = saved {
            warn!(why, "which nodes there are could not be written down");
        }
    }
}
