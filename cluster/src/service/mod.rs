//! The living cluster part: one coordinator actor, one query actor per maintained view, and the
//! pumps that carry the engine's events and the nodes' messages to them.
//!
//! Mailboxes and channels are bounded; who sends waits. The engine's own threads never wait: their
//! events go into a queue of [`ENGINE_EVENTS_MAX`], and should that ever be full, the views that
//! lost an event are ended with an error rather than shown wrong.

mod coordinator_actor;
pub mod query_actor;
pub mod stats;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tracing::error;
use weir_actors::{Address, Config, KillSwitch, Supervisor};
use weir_engine::{Engine, EngineConfig, EngineEvent};
use weir_proto::QueryId;
use weir_proto::bus::ClusterPort;
use weir_types::Clock;

pub use coordinator_actor::{
    AvailableTables, CoordinatorActor, FeedRow, ListFeeds, ListNodes, ListQueries, NodeRow,
    QueryRow, Subscribe, Subscribed, Unsubscribe,
};
pub use query_actor::{Outgoing, QueryActor};
pub use stats::{Freshness, Quantiles};

use crate::coordinator::{Identity, PastLosses};
use coordinator_actor::{EngineFailed, FrontierMoved, NodeMessage, Shared};
use query_actor::Rows;

/// Events of the cluster engine that wait for their actor.
pub const ENGINE_EVENTS_MAX: usize = 65_536;
/// Messages that wait for one subscriber; a slower one is ended with an error.
pub const SUBSCRIBER_MESSAGES_MAX: usize = 1_024;

/// Where rows of a query go, shared by the coordinator (who writes) and the pump (who reads).
pub(crate) type Routes = Arc<Mutex<HashMap<QueryId, Address<QueryActor>>>>;

pub struct ServiceConfig {
    pub tick_ms: u64,
    pub workers: usize,
    pub retention_ns: i64,
    pub snapshot_rows_max: usize,
    pub test_faults: bool,
    /// This process, as table functions show it.
    pub identity: Identity,
}

/// Handles to the running cluster part.
#[derive(Clone)]
pub struct Service {
    pub coordinator: Address<CoordinatorActor>,
    pub engine: Arc<Engine>,
    pub freshness: Arc<Freshness>,
    pub clock: Arc<dyn Clock>,
    pub tick_ms: u64,
    pub snapshot_rows_max: usize,
}

impl Service {
    /// Starts the cluster part in the current actix system, with one node on `port`.
    pub fn start(
        config: &ServiceConfig,
        port: ClusterPort,
        clock: Arc<dyn Clock>,
        switch: &KillSwitch,
    ) -> Result<Service, weir_engine::EngineError> {
        let (events, inbox) = mpsc::channel(ENGINE_EVENTS_MAX);
        let overflow = Arc::new(AtomicBool::new(false));
        let overflowed = overflow.clone();
        let engine = Engine::start(
            EngineConfig {
                workers: config.workers,
                retention_ns: Some(config.retention_ns),
                test_faults: config.test_faults,
                ..EngineConfig::new("cluster")
            },
            Arc::new(move |event| {
                if events.try_send(event).is_err() && !overflowed.swap(true, Ordering::SeqCst) {
                    error!(max = ENGINE_EVENTS_MAX, "engine events overflowed: views are ended");
                }
            }),
        )?;
        let engine = Arc::new(engine);
        let routes = Routes::default();
        let freshness = Arc::new(Freshness::default());
        let shared = Shared {
            engine: engine.clone(),
            routes: routes.clone(),
            clock: clock.clone(),
            tick_ms: config.tick_ms,
            snapshot_rows_max: config.snapshot_rows_max,
            test_faults: config.test_faults,
            identity: config.identity.clone(),
            switch: switch.child("queries"),
            registered: Arc::default(),
            past_losses: PastLosses::default(),
        };
        let mailbox = Config { mailbox_capacity: 4_096, ..Config::default() };
        let supervised = Supervisor::start(switch, "coordinator", mailbox, move |birth| {
            Ok(CoordinatorActor::new(shared.clone(), birth.address.clone()))
        });
        let coordinator = supervised.addr().clone();
        actix::spawn(pump_engine(inbox, routes, coordinator.clone(), overflow));
        actix::spawn(pump_node("local".to_string(), port, coordinator.clone()));
        Ok(Service {
            coordinator,
            engine,
            freshness,
            clock,
            tick_ms: config.tick_ms,
            snapshot_rows_max: config.snapshot_rows_max,
        })
    }
}

fn route(routes: &Routes, query: QueryId) -> Option<Address<QueryActor>> {
    routes.lock().ok()?.get(&query).cloned()
}

/// Carries the engine's events on, in order: rows to their query, frontiers by way of the
/// coordinator, who knows how complete the answer is.
async fn pump_engine(
    mut inbox: mpsc::Receiver<EngineEvent>,
    routes: Routes,
    coordinator: Address<CoordinatorActor>,
    overflow: Arc<AtomicBool>,
) {
    while let Some(event) = inbox.recv().await {
        if overflow.swap(false, Ordering::SeqCst) {
            let _ = coordinator.send(coordinator_actor::FailAll).await;
        }
        match event {
            EngineEvent::Rows { query, table, rows, .. } => {
                if let Some(actor) = route(&routes, query)
                    && actor.send(Rows { table, rows }).await.is_err()
                {
                    let message = "the view panicked".to_string();
                    let _ = coordinator.send(EngineFailed { query, message }).await;
                }
            }
            EngineEvent::Frontier { query, tick_ms } => {
                let _ = coordinator.send(FrontierMoved { query, tick_ms }).await;
            }
            EngineEvent::Failed { query, message } => {
                let _ = coordinator.send(EngineFailed { query, message }).await;
            }
            EngineEvent::Changes { .. } | EngineEvent::Removed { .. } => {}
        }
    }
}

/// Carries a node's messages on until its link ends.
async fn pump_node(name: String, mut port: ClusterPort, coordinator: Address<CoordinatorActor>) {
    let link = port.link.clone();
    while let Some(message) = port.recv().await {
        match message {
            Ok(message) => {
                let name = name.clone();
                let link = link.clone();
                let _ = coordinator.send(NodeMessage { name, link, message }).await;
            }
            Err(error) => error!(node = name, %error, "unreadable message from a node"),
        }
    }
}
