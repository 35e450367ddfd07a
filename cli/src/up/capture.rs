//! The capturing part of a server: its node, with sources, names, history and store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tracing::warn;
use weir_actors::KillSwitch;
use weir_cluster::api::faults::KillPart;
use weir_node::agent::Agent;
use weir_node::runtime::{NodeConfig, NodeRuntime, TellStatus};
use weir_node::sources::{
    Captures, KubernetesConfig, OwnBus, Sources, SourcesConfig, Speed, TellOwnRows,
};
use weir_node::store::{FileStore, Keeper};
use weir_proto::{NodeInfo, NodePort};
use weir_sources::agent::OwnProcess;
use weir_sources::redact::Redactor;
use weir_sources::replay::{Replay, ReplayConfig};
use weir_types::{Clock, Upid};

use super::{hostname, query_limits, tick_ms, wanted};
use crate::args::{CaptureArgs, CommonArgs, PcapArgs, PcapSpeed};
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output;

/// Sources detach within this; tracepoints take seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What a node is made of.
pub(super) struct NodeSpec<'a> {
    pub(super) common: &'a CommonArgs,
    pub(super) capture: &'a CaptureArgs,
    pub(super) data: &'a DataDir,
    pub(super) name: String,
    /// The short id of the node, part of the ids of its processes.
    pub(super) asid: u32,
    /// Of this life.
    pub(super) incarnation: u64,
    /// The API of this process, if it has one.
    pub(super) own_listener: Option<SocketAddr>,
    /// The bus, if there is one between machines.
    pub(super) own_bus: Option<OwnBus>,
    /// How the bus is, if there is one between machines.
    pub(super) bus_status: Option<TellStatus>,
    /// Whose pods these are, where there is a Kubernetes.
    pub(super) kubernetes: Option<KubernetesConfig>,
    /// What runs, if the cluster part is in this process.
    pub(super) own_rows: Option<TellOwnRows>,
}

/// Starts the node below `switch`.
pub(super) fn start(
    spec: NodeSpec<'_>,
    port: NodePort,
    clock: Arc<dyn Clock>,
    switch: &KillSwitch,
) -> Result<NodeRuntime, Failure> {
    let NodeSpec { common, capture, data, name, asid, incarnation, .. } = spec;
    let redactor =
        Redactor::new(capture.redact, &capture.redact_name, Some(weir_engine::push_without_pii));
    let sources = Sources::new(SourcesConfig {
        asid,
        hostname: hostname(),
        own_listener: spec.own_listener,
        own_bus: spec.own_bus,
        filters: wanted::parse(&capture.trace)?,
        tls: !capture.no_tls_capture,
        retention: common.retention,
        test_faults: common.test_faults,
        redactor,
        kubernetes: spec.kubernetes,
        own_rows: spec.own_rows,
    });
    let sources = Arc::new(sources.with_captures(captures(&capture.captures)?));
    let ending = sources.clone();
    let info = NodeInfo { hostname: hostname(), ..NodeInfo::named(&name, incarnation, asid) };
    let config = NodeConfig {
        tick_ms: tick_ms(common)?,
        retention_ns: i64::try_from(common.retention.as_nanos()).unwrap_or(i64::MAX),
        history_bytes: capture.history_bytes as u64,
        queries: query_limits(&common.queries),
        test_faults: common.test_faults,
        own_upid: own_upid(asid),
        store: store(capture, data, &name, clock.now_unix_ns()),
        metadata: Some(sources.metadata()),
        bus_status: spec.bus_status,
        sources_ended: Box::new(move || wait_for_sources(&ending)),
        ..NodeConfig::new(info, Agent::new(sources.debug_state()))
    };
    let node = NodeRuntime::start(config, &sources.all(), port, clock, switch);
    Ok(node.context("could not start the node part")?)
}

/// What is to be taken of files. One that is none is a mistake of whoever names it.
fn captures(args: &PcapArgs) -> Result<Option<Captures>, Failure> {
    for file in &args.pcap {
        let opened = Replay::open(file, ReplayConfig::default());
        opened.map_err(|error| Failure::from(anyhow::Error::from(error)))?;
    }
    let speed = match args.pcap_speed {
        PcapSpeed::Recorded => Speed::Recorded,
        PcapSpeed::Full => Speed::Full,
    };
    Ok((!args.pcap.is_empty()).then(|| Captures { files: args.pcap.clone(), speed }))
}

/// This process, as rows name it.
fn own_upid(asid: u32) -> Upid {
    let started = OwnProcess::new(Path::new("/")).start_ticks().unwrap_or(0);
    Upid::new(asid, std::process::id(), started)
}

/// Where long windows are kept. A server runs without, and says why.
fn store(capture: &CaptureArgs, data: &DataDir, node: &str, now_unix_ns: i64) -> Option<Keeper> {
    if capture.store_bytes == 0 {
        return None;
    }
    let bytes_max = capture.store_bytes as u64;
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
pub(super) fn kill_part(node: &NodeRuntime) -> KillPart {
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
