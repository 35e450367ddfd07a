//! A running node: its engine, its own thread, whoever keeps the names, and its sources, wired once and in one
//! tree. The thread takes rows from the sources, closes ticks, serves installs, and sends what the engine
//! hands out; it never waits long for one source (`thread`).
//!
//! Thread and engine live in *generations*. When the thread panics or an engine worker dies, both start
//! anew after a short wait: the history, the sources and what waits from them stay, the node registers
//! again, and the cluster part installs its queries anew, filled from the history.

mod source_state;
mod thread;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use weir_actors::{Handle, KillSwitch, Part, Stop};
use weir_engine::{EngineConfig, EngineError, Generations, Limits, RestartPace};
use weir_proto::NodeInfo;
use weir_proto::ToNode;
use weir_proto::bus::{BusError, NodePort};
use weir_proto::message::SourceStatus;
use weir_sources::source::Source;
use weir_types::ledger::NodeLedger;
use weir_types::{Clock, Upid};

use self::source_state::SourceState;
use self::thread::NodeThread;
use crate::agent::Agent;
use crate::core::{CoreConfig, NodeCore};
use crate::events::{Events, engine_events};
use crate::host::{self, FromSource, SourceActor, SourceFeed};
use crate::loss_rows;
use crate::metadata::Metadata;
use crate::orders::{OrderQueue, Orders};
use crate::store::Keeper;

/// Orders from the cluster part that may wait; the bus keeps the others.
const ORDERS_MAX: usize = 64;
/// Messages from sources that may wait. A source then waits for the node: nothing is lost here, and what
/// the source cannot take in meanwhile it counts itself (a full ring, for one).
const FROM_SOURCES_MAX: usize = 1_024;
/// Engine events that may wait: the engine's thread never blocks on it. A query that loses one fails.
const ENGINE_EVENTS_MAX: usize = 262_144;
/// How long a part is waited for when all is stopped: detaching programs takes seconds.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);

/// Says how something is.
pub type TellStatus = Box<dyn Fn() -> SourceStatus + Send>;

pub struct NodeConfig {
    pub info: NodeInfo,
    pub tick_ms: u64,
    pub workers: usize,
    pub retention_ns: i64,
    pub history_bytes: u64,
    pub queries: Limits,
    pub test_faults: bool,
    /// Answers table functions about this node.
    pub agent: Agent,
    /// What long windows are made of, over restarts; without, they begin anew.
    pub store: Option<Keeper>,
    /// What was lost. It outlives the node's thread: the next one goes on with it.
    pub ledger: NodeLedger,
    /// This process, in rows about its losses.
    pub own_upid: Upid,
    /// Who keeps the names of what the sources see; without, no row waits for any.
    pub metadata: Option<Arc<Metadata>>,
    /// How the bus is, if it is one between machines: told with the sources.
    pub bus_status: Option<TellStatus>,
    /// Waits, on a thread that may, until the sources have let go of the machine; called after they were
    /// asked to stop.
    pub sources_ended: Box<dyn FnOnce() + Send>,
}

impl NodeConfig {
    /// A node of this name and process, with what is usual otherwise.
    #[must_use]
    pub fn new(info: NodeInfo, agent: Agent) -> NodeConfig {
        NodeConfig {
            info,
            agent,
            tick_ms: 100,
            workers: 1,
            retention_ns: 3_600_000_000_000,
            history_bytes: 256 << 20,
            queries: Limits::default(),
            test_faults: false,
            store: None,
            ledger: NodeLedger::default(),
            own_upid: Upid::default(),
            metadata: None,
            bus_status: None,
            sources_ended: Box::new(|| ()),
        }
    }
}

/// The running node. Its parts hang in the tree, and are stopped with it: sources, names, thread, engine.
pub struct NodeRuntime {
    pub engine: Arc<Generations>,
    panic_asked: Arc<AtomicBool>,
    test_faults: bool,
    /// Keep the parts alive.
    _hosts: Vec<Arc<Handle<SourceActor>>>,
    _parts: [Part; 2],
}

/// The ways between the sources and the node's thread.
struct Wires {
    rows: Sender<FromSource>,
    from_sources: Receiver<FromSource>,
    orders: BTreeMap<String, Arc<OrderQueue>>,
}

impl Wires {
    fn of(sources: &[Arc<dyn Source>]) -> Wires {
        let (rows, from_sources) = bounded(FROM_SOURCES_MAX);
        let queue = |source: &Arc<dyn Source>| (source.name().to_string(), Arc::default());
        Wires { rows, from_sources, orders: sources.iter().map(queue).collect() }
    }
}

impl NodeRuntime {
    /// Starts the engine, the node's thread, the metadata and each source, below `switch`.
    ///
    /// # Errors
    /// If threads cannot be started.
    ///
    /// # Panics
    /// Outside an actix system.
    pub fn start(
        mut config: NodeConfig,
        sources: &[Arc<dyn Source>],
        port: NodePort,
        clock: Arc<dyn Clock>,
        switch: &KillSwitch,
    ) -> Result<NodeRuntime, EngineError> {
        let switch = switch.child("node");
        let wires = Wires::of(sources);
        let metadata = config.metadata.clone();
        let feed = SourceFeed {
            clock: clock.clone(),
            tick_ms: config.tick_ms,
            rows: wires.rows.clone(),
            orders: Arc::new(wires.orders.clone()),
            metadata: metadata.clone(),
        };
        let panic_asked = Arc::<AtomicBool>::default();
        let test_faults = config.test_faults;
        let sources_ended = std::mem::replace(&mut config.sources_ended, Box::new(|| ()));
        // Stopped in the reverse order: sources, names, thread, engine.
        let engine = start_engine(&config, &switch)?;
        let generations = engine.generations.clone();
        let part = switch.part("thread", Stop::Asked { within: STOP_TIME_MAX });
        let asked = (part.clone(), panic_asked.clone());
        let thread = node_thread(config, sources, (port, wires), clock, engine, asked)?;
        std::thread::Builder::new()
            .name("node".to_string())
            .spawn(move || thread.supervise())
            .map_err(|error| EngineError::Start(error.to_string()))?;
        if let Some(metadata) = metadata {
            metadata.start(Arc::downgrade(&generations), &switch);
        }
        let below = switch.child("sources");
        let stop_sources = Arc::<AtomicBool>::default();
        let stopped = stop_sources.clone();
        let let_go = move || {
            stopped.store(true, Ordering::SeqCst);
            sources_ended();
        };
        let probes = below.part("probes", Stop::call(STOP_TIME_MAX, let_go));
        probes.running();
        let host = |source: &Arc<dyn Source>| {
            host::start(&below, source.clone(), feed.clone(), stop_sources.clone())
        };
        let _hosts = sources.iter().map(host).collect();
        let _parts = [part, probes];
        Ok(NodeRuntime { engine: generations, panic_asked, test_faults, _hosts, _parts })
    }

    /// What makes the node's thread panic, with test faults.
    pub fn panic_switch(&self) -> impl Fn() + Send + Sync + use<> {
        let (asked, test_faults) = (self.panic_asked.clone(), self.test_faults);
        move || asked.store(test_faults, Ordering::SeqCst)
    }
}

/// The node's engine, and what it says.
struct StartedEngine {
    generations: Arc<Generations>,
    part: Part,
    events: Events,
}

fn start_engine(config: &NodeConfig, switch: &KillSwitch) -> Result<StartedEngine, EngineError> {
    let (emit, events) = engine_events(ENGINE_EVENTS_MAX);
    let engine_config = EngineConfig {
        workers: config.workers,
        retention_ns: Some(config.retention_ns),
        test_faults: config.test_faults,
        limits: config.queries.clone(),
        ..EngineConfig::new("node")
    };
    let generations = Arc::new(Generations::start(engine_config, emit)?);
    let stopped = generations.clone();
    let part = switch.part("engine", Stop::call(STOP_TIME_MAX, move || stopped.stop()));
    part.running();
    Ok(StartedEngine { generations, part, events })
}

/// What the node's thread will do.
fn node_thread(
    config: NodeConfig,
    sources: &[Arc<dyn Source>],
    (port, wires): (NodePort, Wires),
    clock: Arc<dyn Clock>,
    engine: StartedEngine,
    (part, panic_asked): (Part, Arc<AtomicBool>),
) -> Result<NodeThread, EngineError> {
    let now_unix_ns = clock.now_unix_ns();
    let tables = sources.iter().flat_map(|source| source.tables());
    let core = CoreConfig {
        history_bytes: Some(config.history_bytes),
        tables: tables.chain(loss_rows::TABLES.iter().map(ToString::to_string)).collect(),
        started_unix_ns: now_unix_ns,
        // A row is whole at the latest one flush after its event, and admitted one tick later.
        settle_ns: i64::try_from(config.tick_ms).unwrap_or(0) * 1_000_000,
        ledger: Some((config.ledger.clone(), config.own_upid)),
        ..CoreConfig::new(config.info)
    };
    let entities = config.metadata.as_ref().map(|metadata| metadata.entities());
    let mut core = NodeCore::new(core, engine.generations.engine(), port.sender.clone())
        .with_entities(entities.unwrap_or_default());
    if let Some(keeper) = config.store {
        core = core.with_store(keeper, u64::try_from(now_unix_ns / 1_000_000).unwrap_or(0));
    }
    let states =
        sources.iter().map(|source| (source.name(), SourceState::of(source.tables(), now_unix_ns)));
    let tick_ms = config.tick_ms;
    Ok(NodeThread {
        core: core.with_orders(Orders::new(wires.orders)),
        engine: engine.generations,
        part,
        engine_part: engine.part,
        pace: RestartPace::default(),
        panic_asked,
        orders: receive_orders(port)?,
        tick_ms,
        from_sources: wires.from_sources,
        events: engine.events,
        sources: states.collect(),
        ledger: config.ledger,
        last_tick_ms: u64::try_from(now_unix_ns / 1_000_000).unwrap_or(0) / tick_ms * tick_ms,
        last_status_ms: 0,
        agent: config.agent,
        bus_status: config.bus_status,
        names: config.metadata.map(|metadata| metadata.names()).unwrap_or_default(),
        last_answers_ms: 0,
        clock,
    })
}

/// Takes orders off the bus on a thread of their own, which ends with the bus: so the node's thread
/// can wait for them and for everything else at once.
fn receive_orders(mut port: NodePort) -> Result<Receiver<Result<ToNode, BusError>>, EngineError> {
    let (orders, received) = bounded(ORDERS_MAX);
    std::thread::Builder::new()
        .name("node-orders".to_string())
        .spawn(move || {
            while let Some(order) = port.blocking_recv() {
                if orders.send(order).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| EngineError::Start(error.to_string()))?;
    Ok(received)
}

#[cfg(test)]
mod tests;
