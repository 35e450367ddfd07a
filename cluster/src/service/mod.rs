//! The living cluster part: one coordinator actor, one query actor per maintained view, and what
//! carries the engine's events and the nodes' messages to them.
//!
//! Everything that waits is bounded in bytes: a view's inbox ([`inbox`]), a reader's outbox ([`outbox`],
//! accounts in [`budget`]). Engine workers never wait: rows and frontiers go straight into inboxes
//! ([`router`]). The coordinator and the views have a thread each.

mod alerts;
mod budget;
mod compiles;
mod coordinator_actor;
pub mod figures;
mod health;
mod inbox;
mod maintained;
pub mod message;
mod orders;
mod outbox;
mod plans;
mod prepare;
mod quarantine;
mod query_actor;
mod registry;
mod router;
mod settled;
mod shared_text;
mod sinks;
pub mod stats;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::error;
use weir_actors::{Address, Config, KillSwitch, Part, Stop, Supervisor};
use weir_engine::{EngineConfig, Generations, Limits, Mesh};
use weir_proto::bus::ClusterPort;
use weir_proto::nats::BusStats;
use weir_pxl::{NamedView, ViewIndex};
use weir_types::Clock;

pub use alerts::{
    ALERT_RULES_MAX, AlertFigures, Alerts, AlertsShown, AlertsSpec, Happened, MailServer, MailTo,
    RECORDING_RULES_MAX, RULE_REFRESH_MS, ReceiverRow, ReceiverSpec, RuleRow, STATE_BYTES_MAX,
    Sender, StateStore, Views, read_by,
};
pub use budget::{Admitted, Client, ReaderCounters, ReaderLimits, Readers};
pub use compiles::{CompileLimits, Compiles, NotCompiled};
pub use coordinator_actor::{
    AvailableTables, CoordinatorActor, EstimateCost, FeedRow, ListFeeds, ListNodes, ListQueries,
    Locate, Located, NodeRow, QUERY_COST, QueryRow, RUN_JOINS_WITHIN_MS, Refusal, Since, Sought,
    Subscribe, Subscribed, TakeWide, TestPanic, Unsubscribe, Wanted,
};
pub use figures::Figures;
pub use health::{ActorSummary, Health};
pub use message::Outgoing;
pub use orders::{AskOrder, GiveOrder};
pub(crate) use outbox::{Offer, OutboxReader};
pub use outbox::{Outbox, Popped};
pub use plans::Plans;
pub use prepare::{Installable, prepare};
pub use registry::ViewId;
pub use settled::Settled;
pub use shared_text::SharedText;
pub use sinks::{BufferSpec, InputSpec, SinkRow, SinkSpec, SinkState, Sinks, WriterSpec};
pub use stats::{Freshness, Quantiles};

use crate::coordinator::{Book, BusCounters, CutTotals, Identity};
use crate::cost::CostLimits;
use crate::planner::ScriptRequest;
use crate::view::SnapshotLimits;
use coordinator_actor::{EngineFailed, NodeMessage, Shared};
use router::Router;

pub struct ServiceConfig {
    pub tick_ms: u64,
    pub workers: usize,
    pub retention_ns: i64,
    pub snapshots: SnapshotLimits,
    pub readers: ReaderLimits,
    pub queries: Limits,
    /// A query whose state is expected to be larger is refused; 0: none is. Without it many times what a query may
    /// hold.
    pub query_cost_max: Option<u64>,
    pub compiles: CompileLimits,
    pub test_faults: bool,
    /// This process, as table functions show it.
    pub identity: Identity,
    /// A node that is silent for so long after it began to lag is not waited for any more.
    pub node_forget: Duration,
    /// Nodes that were there when this server ended last.
    pub awaited_nodes: Vec<String>,
    /// The server is one also while no node is there.
    pub serves_alone: bool,
    /// What the network bus counts, if there is one.
    pub network: Option<Arc<BusStats>>,
    /// The processes of the cluster part, if there are several; this is the first.
    pub mesh: Option<Mesh>,
}

impl ServiceConfig {
    fn cost_limits(&self) -> CostLimits {
        let query_bytes_max = self.queries.query_state_bytes_max;
        let absurd = query_bytes_max.saturating_mul(CostLimits::TIMES_QUERY_BYTES);
        CostLimits {
            query_cost_max: self.query_cost_max.unwrap_or(absurd),
            query_bytes_max,
            query_groups_max: self.queries.query_groups_max,
            retention_ns: self.retention_ns,
        }
    }
}

/// Where nodes come from: each once, with its name and its port.
pub type NodePorts = mpsc::Receiver<(String, ClusterPort)>;

/// One node, in this process.
#[must_use]
pub fn one_node(port: ClusterPort) -> NodePorts {
    let (sender, ports) = mpsc::channel(1);
    // There is room for one.
    drop(sender.try_send(("local".to_string(), port)));
    ports
}

/// Handles to the running cluster part.
#[derive(Clone)]
pub struct Service {
    pub coordinator: Address<CoordinatorActor>,
    pub engine: Arc<Generations>,
    pub readers: Arc<Readers>,
    pub freshness: Arc<Freshness>,
    pub health: Arc<Health>,
    pub bus: Arc<BusCounters>,
    pub sinks: Arc<Sinks>,
    pub alerts: Arc<Alerts>,
    /// What of the server is told to sockets.
    pub alerts_text: Arc<SharedText>,
    pub sinks_text: Arc<SharedText>,
    /// Tables that recording rules define.
    pub views: Arc<Views>,
    pub clock: Arc<dyn Clock>,
    pub tick_ms: u64,
    pub compiles: Arc<Compiles>,
    /// What is asked for again compiles nothing.
    pub plans: Arc<Plans>,
    /// What functions left out.
    pub cut_totals: CutTotals,
    /// What runs, operator by operator.
    pub figures: Arc<Figures>,
    /// False while sources start: a table that nothing produces may still come.
    pub settled: Settled,
    /// As configured.
    pub serves_alone: bool,
    pub network: Option<Arc<BusStats>>,
    pub node_forget: Duration,
    /// Alert rules that there are: besides those of readers there may be a query for each.
    pub(crate) rules: Arc<AtomicUsize>,
    /// What readers may ask for.
    pub cost_limits: CostLimits,
}

impl Service {
    /// Starts the cluster part in the current actix system, below `root`, with the nodes that come.
    pub fn start(
        config: &ServiceConfig,
        ports: NodePorts,
        clock: Arc<dyn Clock>,
        root: &KillSwitch,
    ) -> Result<Service, weir_engine::EngineError> {
        let switch = root.child("cluster");
        let router = Arc::new(Router::default());
        let (engine, engine_part) = start_engine(config, &router, &switch)?;
        let (bus, rules): (Arc<BusCounters>, Arc<AtomicUsize>) = Default::default();
        let book = Book::new(Some(config.retention_ns)).awaiting(config.awaited_nodes.clone());
        let book = Arc::new(book);
        let cut_totals = book.cut_totals();
        let (tell_settled, settled) = Settled::new();
        let registry: Arc<Mutex<registry::Registry>> = Arc::default();
        let figures = Figures::new(Arc::clone(&engine), Arc::clone(&registry), Arc::clone(&clock));
        let figures = Arc::new(figures);
        let cost_limits = config.cost_limits();
        let shared = Shared {
            generations: Arc::clone(&engine),
            engine_part,
            router: Arc::clone(&router),
            registry,
            figures: Arc::clone(&figures),
            clock: Arc::clone(&clock),
            tick_ms: config.tick_ms,
            snapshots: config.snapshots,
            test_faults: config.test_faults,
            identity: config.identity.clone(),
            switch: switch.group("views"),
            views: actix::Arbiter::new().handle(),
            registered: Arc::default(),
            book,
            bus: Arc::clone(&bus),
            quarantine: Arc::default(),
            settled: tell_settled,
            node_forget: config.node_forget,
            rules: Arc::clone(&rules),
            cost_limits,
        };
        let config_of_actor = config_of_coordinator();
        let supervised = Supervisor::start(&switch, "coordinator", config_of_actor, move |birth| {
            Ok(CoordinatorActor::new(shared.clone(), birth.address.clone()))
        });
        let coordinator = supervised.addr().clone();
        actix::spawn(pump_engine(router, coordinator.clone()));
        // Messages of many megabytes are decoded apart from the actors.
        actix::Arbiter::new().spawn(pump_nodes(ports, coordinator.clone(), switch.group("links")));
        let health = Arc::new(Health::new(root.clone()));
        actix::spawn(health::watch(Arc::clone(&health)));
        Ok(Service {
            coordinator,
            engine,
            readers: Readers::new(config.readers),
            freshness: Arc::new(Freshness::default()),
            health,
            bus,
            sinks: Arc::default(),
            alerts: Arc::default(),
            alerts_text: Arc::default(),
            sinks_text: Arc::default(),
            views: Arc::default(),
            clock,
            tick_ms: config.tick_ms,
            compiles: Compiles::new(config.compiles),
            plans: Arc::default(),
            cut_totals,
            figures,
            settled,
            serves_alone: config.serves_alone,
            network: config.network.clone(),
            node_forget: config.node_forget,
            rules,
            cost_limits,
        })
    }
}

impl Service {
    /// Why nothing can be answered now: not all processes of the cluster part are there.
    #[must_use]
    pub fn absent(&self) -> Option<String> {
        let mesh = self.engine.mesh().filter(|_| self.engine.is_dead())?;
        let missing: Vec<String> = mesh.status().missing.iter().map(usize::to_string).collect();
        Some(match missing.is_empty() {
            true => "the processes of the cluster part begin anew".to_string(),
            false => {
                let missing = missing.join(", ");
                format!("processes of the cluster part are missing: {missing}")
            }
        })
    }

    /// A request with the recorded views that its text may read.
    #[must_use]
    pub fn with_views(&self, request: &ScriptRequest) -> ScriptRequest {
        let Some(text) = &request.text else { return request.clone() };
        let views = match request.with_views.as_slice() {
            [] => self.views.read_by(text),
            given => {
                let is_given = |name: &str| given.iter().any(|view| view.name == name);
                let own = self.views.all();
                let own = own.iter().filter(|view| !is_given(&view.name)).cloned();
                let all: Arc<[NamedView]> = given.iter().map(NamedView::from).chain(own).collect();
                read_by(&ViewIndex::new(all), text)
            }
        };
        ScriptRequest { views, with_views: Vec::new(), ..request.clone() }
    }
}

/// However often it dies, views wait for it: there is no server without it.
fn config_of_coordinator() -> Config {
    Config {
        mailbox_capacity: 4_096,
        restarts_max: u32::MAX,
        backoff_max: Duration::from_secs(2),
        ..Config::default()
    }
}

/// The cluster part's engine, whose events go through the router.
fn start_engine(
    config: &ServiceConfig,
    router: &Arc<Router>,
    switch: &KillSwitch,
) -> Result<(Arc<Generations>, Part), weir_engine::EngineError> {
    let emit = Arc::clone(router);
    let engine = Generations::start(
        EngineConfig {
            workers: config.workers,
            retention_ns: Some(config.retention_ns),
            test_faults: config.test_faults,
            limits: config.queries.clone(),
            mesh: config.mesh.clone(),
            ..EngineConfig::new("cluster")
        },
        Arc::new(move |_generation, event| emit.emit(event)),
    )?;
    let engine = Arc::new(engine);
    let stopped = Arc::clone(&engine);
    let engine_part = switch.part("engine", Stop::call(STOP_MAX, move || stopped.stop()));
    engine_part.running();
    Ok((engine, engine_part))
}

/// A part that takes longer to stop is left behind. Engines finish the step that they are at.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How long to wait for room in the coordinator's mailbox. What has failed meanwhile is kept.
const RETRY: Duration = Duration::from_millis(2);

/// Tells the coordinator that something failed. Waits for no answer.
async fn pump_engine(router: Arc<Router>, coordinator: Address<CoordinatorActor>) {
    loop {
        router.has_news().await;
        while coordinator.try_send(EngineFailed).is_err() {
            if !coordinator.is_open() {
                return;
            }
            actix::clock::sleep(RETRY).await;
        }
    }
}

/// Gives each node that comes a task of its own.
async fn pump_nodes(
    mut ports: NodePorts,
    coordinator: Address<CoordinatorActor>,
    switch: KillSwitch,
) {
    while let Some((name, port)) = ports.recv().await {
        let part = switch.part(&name, Stop::Asked { within: STOP_MAX });
        actix::spawn(pump_node(name, port, coordinator.clone(), part));
    }
}

/// Carries a node's messages on until its link ends.
async fn pump_node(
    name: String,
    mut port: ClusterPort,
    coordinator: Address<CoordinatorActor>,
    part: Part,
) {
    part.running();
    let link = port.link.clone();
    let mut stop = Box::pin(part.stop_requested());
    loop {
        let message = tokio::select! {
            biased;
            () = &mut stop => return,
            message = port.recv() => message,
        };
        match message {
            None => return,
            Some(Ok(report)) => {
                let message = NodeMessage { name: name.clone(), link: link.clone(), report };
                let _ = coordinator.send(message).await;
            }
            Some(Err(error)) => error!(node = name, %error, "unreadable message from a node"),
        }
    }
}

#[cfg(test)]
mod tests;
