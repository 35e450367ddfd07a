//! `weir node`: the capturing part alone. Its cluster part is at the other end of a bus, now or later; it has no
//! page and no API.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};
use weir_actors::{KillSwitch, Stop};
use weir_node::sources::{BusConnection, KubernetesConfig, OwnBus};
use weir_proto::bus::NodeSender;
use weir_proto::message::SourceStatus;
use weir_proto::nats::{
    BusStats, NatsConfig, NatsNode, NatsNodeConfig, NodeBusState, is_node_name,
};
use weir_types::Clock;

use super::capture::{self, NodeSpec};
use super::signals::Signals;
use super::{begin, bus, clock, hostname, kubernetes, stop};
use crate::args::NodeArgs;
use crate::data_dir::{Beat, DataDir};
use crate::failure::Failure;
use crate::output;

/// What was said last may take so long to be heard when a node stops.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(3);
/// How often it writes down that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// How often it looks whether sources have started.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn run(args: NodeArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    let bus = bus::config(&args.bus)?;
    let name = args.name.clone().or_else(|| args.kubernetes.node_name.clone());
    let name = name.unwrap_or_else(hostname);
    if !is_node_name(&name) {
        return Err(Failure::Usage(format!(
            "{name:?} is no name for a node: letters, digits, . and -, at most 253 (--name)"
        )));
    }
    let kubernetes = kubernetes::of_node(&args.kubernetes)?;
    let (_, data, signals) = begin(directory, None)?;
    actix::System::new().block_on(serve(args, (bus, kubernetes), name, data, signals))
}

/// The short id of a node: of its name, so that it is the same in each life and on each cluster part. Two names
/// of one cluster that have the same are told apart by nobody, and the second is refused.
fn asid_of(name: &str) -> u32 {
    // FNV-1a: the same in every build, for ever.
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // 0 is the cluster part's, 1 the embedded server's; it is positive as an INT64 of 32 bits, too.
    (hash & 0x7fff_ffff).max(2)
}

async fn serve(
    args: NodeArgs,
    (bus, kubernetes): (NatsConfig, Option<KubernetesConfig>),
    name: String,
    data: DataDir,
    signals: Signals,
) -> Result<(), Failure> {
    let clock = clock();
    let switch = KillSwitch::root("weir");
    let incarnation = u64::try_from(clock.now_unix_ns()).unwrap_or(0);
    let asid = asid_of(&name);
    let marks = bus.marks();
    let has_started = Arc::new(AtomicBool::new(false));
    let alive = Arc::clone(&clock);
    let config = NatsNodeConfig { bus, name: name.clone(), incarnation, asid };
    let started = NatsNode::start(config, Arc::clone(&clock));
    let (end, port) =
        started.map_err(|error| Failure::No(format!("no thread for the bus: {error}")))?;
    let (state, stats) = (end.state(), end.stats());
    // Stopped last: what the node says when it stops is still carried.
    let mut closing = end;
    let part =
        switch.part("bus", Stop::call(2 * CLOSE_TIME_MAX, move || closing.close(CLOSE_TIME_MAX)));
    part.running();
    let spec = NodeSpec {
        common: &args.common,
        capture: &args.capture,
        data: &data,
        name: name.clone(),
        asid,
        incarnation,
        own_listener: None,
        own_bus: Some(own_bus(marks, Arc::clone(&stats))),
        bus_status: Some(Box::new(move || status(&stats))),
        kubernetes,
        own_rows: None,
    };
    let sender = port.sender.clone();
    let _node = capture::start(spec, port, clock, &switch)?;
    actix::spawn(beat(data.beat(), alive, state.clone(), Arc::clone(&has_started)));
    let runs = async {
        tokio::select! {
            () = ready(&sender, state.clone()) => {
                has_started.store(true, Ordering::SeqCst);
                drop(output::line(&format!("ready {name}")));
            }
            stopped = signals.wait() => return stopped,
        }
        signals.wait().await
    };
    let refused = tokio::select! {
        why = refusal(state.clone()) => Some(why),
        done = runs => done.map(|()| None)?,
    };
    info!("stopping: detaching takes some seconds");
    stop(&switch).await;
    match refused {
        Some(why) => Err(Failure::No(why)),
        None => Ok(()),
    }
}

/// What the node does over its bus is not to be captured.
fn own_bus(marks: Vec<Vec<u8>>, stats: Arc<BusStats>) -> OwnBus {
    let connection = move || {
        let (connected, disconnected) = stats.connections();
        let (is_connected, number) = (connected > disconnected, connected + disconnected);
        BusConnection { is_connected, number }
    };
    OwnBus { marks, connection: Arc::new(connection) }
}

/// Writes down, for ever, that the node lives, and whether it is ready: it has started, and the bus is there.
async fn beat(
    write: impl Fn(Beat) -> Result<(), Failure> + Clone + Send + 'static,
    clock: Arc<dyn Clock>,
    state: watch::Receiver<NodeBusState>,
    has_started: Arc<AtomicBool>,
) {
    let mut has_failed = false;
    loop {
        let is_ready = has_started.load(Ordering::SeqCst) && is_reached(&state.borrow());
        let (beat, write) = (Beat { is_ready, at_unix_ns: clock.now_unix_ns() }, write.clone());
        let written = actix_web::web::block(move || write(beat)).await;
        // Said once: whoever looks for it finds the node dead.
        if !matches!(written, Ok(Ok(()))) && !std::mem::replace(&mut has_failed, true) {
            warn!(why = ?written, "that this node lives could not be written down");
        }
        actix::clock::sleep(BEAT_EVERY).await;
    }
}

fn is_reached(state: &NodeBusState) -> bool {
    matches!(state, NodeBusState::Waiting | NodeBusState::Joined)
}

/// What the bus counts, as the node tells it with its sources.
fn status(stats: &BusStats) -> SourceStatus {
    let counts = stats.list().into_iter().map(|(name, count)| (name.to_string(), count));
    SourceStatus {
        name: "bus".to_string(),
        state: "running".to_string(),
        counts: counts.collect(),
        ..SourceStatus::default()
    }
}

/// Why the node is not let in; never, if it is.
async fn refusal(mut state: watch::Receiver<NodeBusState>) -> String {
    let refused = state.wait_for(|state| matches!(state, NodeBusState::Refused(_))).await;
    match refused.as_deref() {
        Ok(NodeBusState::Refused(why)) => why.clone(),
        _ => std::future::pending().await,
    }
}

/// Ends once the bus server was reached and all sources run or were refused: then the node introduces itself.
/// Whether a cluster part is there already is its own business.
async fn ready(sender: &NodeSender, mut state: watch::Receiver<NodeBusState>) {
    let reached = state.wait_for(is_reached).await.is_ok();
    while !reached || sender.stats().messages_total.load(Ordering::Relaxed) == 0 {
        actix::clock::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The short id of a name is the same in every build, never one of those that others have, and differs for
    /// the names of a large cluster.
    #[test]
    fn short_ids() {
        assert_eq!(asid_of("node-1"), asid_of("node-1"));
        let ids: std::collections::BTreeSet<u32> =
            (0..2_000).map(|number| asid_of(&format!("node-{number}.example"))).collect();
        assert_eq!(ids.len(), 2_000);
        assert!(ids.iter().all(|id| *id >= 2 && *id < 1 << 31));
        assert_eq!(asid_of("a"), 0x640c_292c);
    }
}
