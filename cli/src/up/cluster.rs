//! `weir cluster`: the answering part alone, over the nodes of a bus.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use weir_actors::{KillSwitch, Stop};
use weir_cluster::service::{ListNodes, Service, StateStore};
use weir_engine::Mesh;
use weir_proto::nats::{HubConfig, HubState, NatsConfig, NatsHub, Share};
use weir_sources::k8s::Access;

use super::serve::{self, Configured, Nodes};
use super::signals::Signals;
use super::{begin, begin_without_data, bus, clock, hostname, kubernetes, processes, shares, stop};
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
    let bus = bus::config(&args.bus)?;
    let configured = Configured::load(&args.serve)?;
    let kubernetes = kubernetes::access(&args.kubernetes)?;
    let mesh = processes::mesh(&args)?;
    if let Some(mesh) = mesh.clone().filter(|mesh| mesh.process() > 0) {
        begin_without_data();
        let config = hub_config(&args, bus, Some(&mesh));
        return processes::follow(&args, mesh, config, &Signals::watch()?);
    }
    let listening = serve::bind(&args.serve)?;
    let token = serve::token(&args.serve)?;
    let (directory, data, signals) = begin(directory, token)?;
    let configured = configured.in_directory(directory);
    actix::System::new().block_on(open(
        args,
        (bus, kubernetes, mesh),
        (configured, data),
        listening,
        signals,
    ))
}

/// Of several processes each reads a share.
fn hub_config(args: &ClusterArgs, bus: NatsConfig, mesh: Option<&Mesh>) -> HubConfig {
    let forget_ms = args.node_forget.saturating_add(LINK_GRACE).as_millis();
    HubConfig {
        bus,
        hostname: hostname(),
        forget_ms: u64::try_from(forget_ms).unwrap_or(u64::MAX),
        share: mesh.map_or(Share::ALL, |mesh| Share {
            process: mesh.process(),
            processes: mesh.processes(),
        }),
    }
}

async fn open(
    args: ClusterArgs,
    (bus, kubernetes, mesh): (NatsConfig, Option<Access>, Option<Mesh>),
    (configured, data): (Configured, DataDir),
    listening: (TcpListener, SocketAddr),
    signals: Signals,
) -> Result<(), Failure> {
    let clock = clock();
    let switch = KillSwitch::root("weir");
    let config = hub_config(&args, bus, mesh.as_ref());
    let kept = data.nodes();
    let awaited = awaited(&kept)?;
    let started = NatsHub::start(config, Arc::clone(&clock));
    let (mut hub, ports) =
        started.map_err(|error| Failure::No(format!("no thread for the bus: {error}")))?;
    let ports = shares::with_others(mesh.as_ref(), ports)?;
    let (state, network) = (hub.state(), hub.stats());
    let part = switch.part("bus", Stop::call(CLOSE_TIME_MAX, move || hub.close()));
    part.running();
    let forget = args.node_forget;
    let nodes = Nodes { ports, network: Some(network), awaited: awaited.clone(), forget, mesh };
    let service = serve::start((&args.common, &args.serve), nodes, clock, &switch)?;
    if let Some(access) = kubernetes {
        actix::spawn(kubernetes::tell(access, service.clone(), args.common.retention));
    }
    actix::spawn(keep_nodes(service.clone(), kept, awaited));
    let bound = listening.1;
    serve::open((&service, &switch), &args.serve, configured, &data, listening, None)?;
    let mut reached = state.clone();
    let runs = async {
        let serving = reached.wait_for(|state| *state == HubState::Serving);
        tokio::select! {
            ready = serving => if ready.is_ok() {
                serve::announce(bound, &data, &args.serve);
            },
            stopped = signals.wait() => return stopped,
        }
        signals.wait().await
    };
    let failed = tokio::select! {
        why = shares::failure(state) => Some(why),
        done = runs => done.map(|()| None)?,
    };
    info!("stopping");
    stop(&switch).await;
    match failed {
        Some(why) => Err(Failure::No(why)),
        None => Ok(()),
    }
}

/// Who was there when the server ended last. Not to know it is no beginning: answers would be called complete
/// that lack some of them.
fn awaited(kept: &StateStore) -> Result<Vec<String>, Failure> {
    match &kept.saved {
        Ok(names) => Ok(names.lines().map(str::to_string).collect()),
        Err(why) => Err(Failure::No(format!(
            "which nodes there were cannot be read: {why}; without the file `nodes` in the data directory the \
             server begins without knowing them"
        ))),
    }
}

/// Writes down which nodes there are: the next server waits for them, and says so, before it calls an answer
/// complete.
async fn keep_nodes(service: Service, kept: StateStore, mut written: Vec<String>) {
    let since_ns = service.clock.monotonic_ns();
    let waits_ns = u64::try_from(service.node_forget.as_nanos()).unwrap_or(u64::MAX);
    let mut failed = None;
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
        let (text, save) = (names.join("\n"), Arc::clone(&kept.save));
        let saved = actix_web::web::block(move || save(&text)).await;
        match saved.map_err(|error| error.to_string()).flatten() {
            Ok(()) => (written, failed) = (names, None),
            // Tried again, and said once.
            Err(why) if failed.as_ref() != Some(&why) => {
                warn!(why, "which nodes there are could not be written down; trying on");
                failed = Some(why);
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that cannot be read are no empty list.
    #[test]
    fn who_was_there_is_known_or_nothing_begins() {
        let with = |saved| StateStore { saved, ..StateStore::none() };
        let names = |saved| awaited(&with(saved)).map_err(|failure| format!("{failure:?}"));
        assert_eq!(names(Ok(String::new())), Ok(Vec::new()));
        assert_eq!(names(Ok("a\nb.c".to_string())), Ok(vec!["a".to_string(), "b.c".to_string()]));
        assert!(names(Err("no UTF-8".to_string())).unwrap_err().contains("no UTF-8"));
    }
}
