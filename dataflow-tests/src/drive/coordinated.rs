//! The whole way of several queries without a server: node parts with their histories, the bus, the
//! coordinator and the cluster engine, driven tick by tick. What the server does with actors and a
//! clock is done here by one loop; the coordinator decides what queries share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_cluster::coordinator::{Coordinator, Outcome};
use weir_engine::{Engine, EngineConfig, EngineEvent, Limits, QueryId, QueryStats};
use weir_node::stepped::SteppedNode;
use weir_node::store::{FileStore, Keeper, STORE_BYTES_DEFAULT};
use weir_proto::{NodeLink, Report};
use weir_types::batch::RecordBatch;
use weir_types::metadata::MetadataSnapshot;
use weir_types::split::SplitPlan;

use super::{DriveError, Views};

const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
const HISTORY_BYTES: u64 = 256 << 20;

/// Rows by table and reason.
type Lost = BTreeMap<String, BTreeMap<String, u64>>;

/// Who said something.
#[derive(Clone, Copy)]
enum From {
    Node(usize),
    Cluster,
}

struct Node {
    engine: Arc<Engine>,
    node: SteppedNode,
}

struct Query {
    refresh_ms: u64,
    /// One that reads a feed of a shorter refresh begins with its own first refresh from here on.
    installed_ms: u64,
    frontier_ms: Option<u64>,
    views: Views,
}

/// Nodes, a coordinator and the cluster engine.
pub struct Coordinated {
    nodes: Vec<Node>,
    cluster: Arc<Engine>,
    coordinator: Coordinator,
    events: Receiver<(From, EngineEvent)>,
    queries: BTreeMap<QueryId, Query>,
    /// Queries that failed, with what was said of each.
    pub failed: BTreeMap<QueryId, String>,
    now_ms: u64,
}

/// The store of a node.
#[must_use]
pub fn store_path(directory: &Path, node: usize) -> PathBuf {
    directory.join(format!("node-{node}.db"))
}

fn engine(
    config: EngineConfig,
    from: From,
    sender: &Sender<(From, EngineEvent)>,
) -> Result<Arc<Engine>, DriveError> {
    let sender = Mutex::new(sender.clone());
    let emit = Arc::new(move |event| {
        // The receiver goes first only when all is dropped.
        let _ = sender.lock().unwrap_or_else(PoisonError::into_inner).send((from, event));
    });
    Ok(Arc::new(Engine::start(config, emit)?))
}

impl Coordinated {
    pub fn start(
        nodes: usize,
        workers: usize,
        retention_ns: Option<i64>,
        metadata: &Arc<MetadataSnapshot>,
    ) -> Result<Coordinated, DriveError> {
        Self::start_with((nodes, workers), retention_ns, metadata, &Limits::default())
    }

    pub fn start_with(
        (nodes, workers): (usize, usize),
        retention_ns: Option<i64>,
        metadata: &Arc<MetadataSnapshot>,
        limits: &Limits,
    ) -> Result<Coordinated, DriveError> {
        Self::start_stored((nodes, workers), retention_ns, metadata, limits, None)
    }

    /// The same, with a store for each node that goes on with what former ones kept there.
    pub fn start_stored(
        (nodes, workers): (usize, usize),
        retention_ns: Option<i64>,
        metadata: &Arc<MetadataSnapshot>,
        limits: &Limits,
        stores: Option<(&Path, u64)>,
    ) -> Result<Coordinated, DriveError> {
        let config = |name: &str| EngineConfig {
            workers,
            retention_ns,
            test_faults: true,
            limits: limits.clone(),
            ..EngineConfig::new(name)
        };
        let (sender, events) = channel();
        let cluster = engine(config("cluster"), From::Cluster, &sender)?;
        let mut all = Vec::new();
        for number in 0..nodes {
            let name = format!("node-{number}");
            let engine = engine(config(&name), From::Node(number), &sender)?;
            let mut node = SteppedNode::start(&name, &engine, Some(HISTORY_BYTES), metadata);
            if let Some((directory, now_ms)) = stores {
                let store =
                    FileStore::new(&store_path(directory, number), &name, STORE_BYTES_DEFAULT);
                let keeper = Keeper::start(Box::new(store), STORE_BYTES_DEFAULT, now_ms)
                    .map_err(|error| DriveError::Bus(error.to_string()))?;
                node = node.with_store(keeper, now_ms);
            }
            all.push(Node { engine, node });
        }
        let mut rig = Coordinated {
            nodes: all,
            // Without lag: ticks of the tests may be hours apart.
            coordinator: Coordinator::offline(Arc::clone(&cluster), BTreeMap::new()),
            cluster,
            events,
            queries: BTreeMap::new(),
            failed: BTreeMap::new(),
            now_ms: stores.map_or(0, |(_, now_ms)| now_ms),
        };
        rig.pump()?;
        Ok(rig)
    }

    /// Waits until all that was sealed is in the nodes' stores.
    pub fn sync_stores(&self) {
        for Node { node, .. } in &self.nodes {
            node.core.keeper().into_iter().for_each(Keeper::sync);
        }
    }

    /// Installs a query; its history is replayed with the next ticks.
    pub fn install(&mut self, split: &SplitPlan, refresh_ms: u64) -> Result<QueryId, DriveError> {
        let query = self.coordinator.new_query_id();
        let installed_ms = self.now_ms;
        let new = Query { refresh_ms, installed_ms, frontier_ms: None, views: Views::new() };
        self.queries.insert(query, new);
        let split = Arc::new(split.clone());
        self.coordinator
            .install(query, split, refresh_ms, self.now_ms)
            .map_err(|error| DriveError::Bus(error.to_string()))?;
        self.pump()?;
        Ok(query)
    }

    pub fn remove(&mut self, query: QueryId) -> Result<(), DriveError> {
        self.queries.remove(&query);
        self.coordinator.remove(query);
        self.pump()
    }

    pub fn admit(&mut self, node: usize, table: &str, batches: Vec<RecordBatch>) {
        for batch in batches {
            self.nodes[node].node.core.admit(table, batch);
        }
    }

    /// Closes a tick on all nodes and waits until every query is there. Gives those that moved.
    pub fn close_tick(&mut self, tick_ms: u64) -> Result<Vec<QueryId>, DriveError> {
        self.now_ms = tick_ms;
        for node in &mut self.nodes {
            node.node.core.close_tick(tick_ms);
        }
        let before: BTreeMap<_, _> =
            self.queries.iter().map(|(&id, query)| (id, query.frontier_ms)).collect();
        while self.waits_for(tick_ms) {
            self.pump()?;
            if self.waits_for(tick_ms) {
                self.wait("a frontier")?;
            }
        }
        let moved = |(&id, query): (&QueryId, &Query)| {
            (before.get(&id) != Some(&query.frontier_ms)).then_some(id)
        };
        Ok(self.queries.iter().filter_map(moved).collect())
    }

    fn waits_for(&self, tick_ms: u64) -> bool {
        self.queries.values().any(|query| {
            let due_ms = tick_ms / query.refresh_ms * query.refresh_ms;
            query.installed_ms <= due_ms && query.frontier_ms < Some(due_ms)
        })
    }

    /// Waits for the next frontier of a query, without closing a tick.
    pub fn wait_for_frontier(&mut self, query: QueryId) -> Result<u64, DriveError> {
        loop {
            if let Some(frontier_ms) = self.frontier_ms(query) {
                return Ok(frontier_ms);
            }
            self.wait("the first frontier")?;
        }
    }

    /// Waits until so many queries have failed.
    pub fn wait_for_failures(&mut self, count: usize) -> Result<(), DriveError> {
        while self.failed.len() < count {
            self.wait("a failure")?;
            self.pump()?;
        }
        Ok(())
    }

    /// Takes in what is said for a moment: removals and drained dataflows come without being waited for.
    pub fn settle(&mut self) -> Result<(), DriveError> {
        while let Ok((from, event)) = self.events.recv_timeout(Duration::from_millis(20)) {
            self.take(from, event)?;
        }
        self.pump()
    }

    /// Moves all waiting messages and slices of history.
    fn pump(&mut self) -> Result<(), DriveError> {
        let now_ms = self.now_ms;
        let mut moved = true;
        while std::mem::take(&mut moved) {
            let mut failed = Vec::new();
            let coordinator = &mut self.coordinator;
            let mut hear = |name: &str, link: &NodeLink, report: Report| {
                let outcome = coordinator.on_message(name, link, report, now_ms);
                if let Outcome::QueryFailed { queries, message } = outcome {
                    failed.extend(queries.into_iter().map(|query| (query, message.clone())));
                }
            };
            for Node { node, .. } in &mut self.nodes {
                let pumped = node.pump(now_ms, &mut hear);
                moved |= pumped.map_err(|error| DriveError::Bus(error.to_string()))?;
            }
            failed.into_iter().for_each(|(query, message)| self.fail(query, message));
        }
        Ok(())
    }

    /// As the server: a query that failed is removed.
    fn fail(&mut self, query: QueryId, message: String) {
        if self.queries.remove(&query).is_some() {
            self.coordinator.remove(query);
            self.failed.insert(query, message);
        }
    }

    fn wait(&mut self, waiting_for: &str) -> Result<(), DriveError> {
        let silent = |_| DriveError::Silent { waiting_for: waiting_for.to_string() };
        let (from, event) = self.events.recv_timeout(ANSWER_DEADLINE).map_err(silent)?;
        self.take(from, event)
    }

    fn take(&mut self, from: From, event: EngineEvent) -> Result<(), DriveError> {
        match (from, event) {
            (From::Node(number), event) => self.nodes[number].node.core.on_event(event),
            (From::Cluster, EngineEvent::Rows { query, table, rows, .. }) => {
                let Some(query) = self.queries.get_mut(&query) else { return Ok(()) };
                let view = query.views.entry(table.to_string()).or_default();
                for (row, diff) in rows {
                    *view.entry(row).or_default() += diff;
                }
                view.retain(|_, count| *count != 0);
            }
            (From::Cluster, EngineEvent::Frontier { query: id, tick_ms }) => {
                let Some(query) = self.queries.get_mut(&id) else { return Ok(()) };
                let last = query.frontier_ms.unwrap_or(0);
                if tick_ms <= last || tick_ms % query.refresh_ms != 0 {
                    return Err(DriveError::WrongTick { query: id, tick_ms, last });
                }
                query.frontier_ms = Some(tick_ms);
                for (table, view) in &query.views {
                    if let Some((_, count)) = view.iter().find(|(_, count)| **count < 0) {
                        return Err(DriveError::Negative { table: table.clone(), count: *count });
                    }
                }
            }
            (From::Cluster, EngineEvent::Failed { query, message }) => {
                for query in self.coordinator.failed(query) {
                    self.fail(query, message.clone());
                }
            }
            (
                From::Cluster,
                EngineEvent::Removed { .. }
                | EngineEvent::Changes { .. }
                | EngineEvent::Died { .. },
            ) => {}
        }
        Ok(())
    }

    #[must_use]
    pub fn frontier_ms(&self, query: QueryId) -> Option<u64> {
        self.queries.get(&query)?.frontier_ms
    }

    #[must_use]
    pub fn views(&self, query: QueryId) -> Views {
        self.queries.get(&query).map(|query| query.views.clone()).unwrap_or_default()
    }

    /// Rows without a group of their own, by table.
    #[must_use]
    pub fn overflow(&self, query: QueryId, tick_ms: u64) -> BTreeMap<String, u64> {
        self.cluster.overflow(query, tick_ms)
    }

    /// Whether its answer at a tick is complete, and what is lost of it, by table and reason.
    #[must_use]
    pub fn completeness(&self, query: QueryId, tick_ms: u64) -> (bool, Lost) {
        let answer = self.coordinator.completeness(query, tick_ms);
        (answer.complete, answer.lost)
    }

    /// The feeds that a query reads.
    #[must_use]
    pub fn feeds_of(&self, query: QueryId) -> BTreeSet<QueryId> {
        self.coordinator.feeds_of(query).into_iter().collect()
    }

    #[must_use]
    pub fn feeds(&self) -> usize {
        self.coordinator.feeds().count()
    }

    /// What runs on a node.
    #[must_use]
    pub fn node_stats(&self, node: usize) -> Vec<QueryStats> {
        self.nodes[node].engine.stats().queries
    }

    /// What runs in the cluster part.
    #[must_use]
    pub fn cluster_stats(&self) -> Vec<QueryStats> {
        self.cluster.stats().queries
    }

    /// What queries hold in all engines.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let engines = self.nodes.iter().map(|node| &node.engine).chain([&self.cluster]);
        engines.map(|engine| engine.stats().held_bytes).sum()
    }

    /// Dataflows of all workers that are there or still drain.
    #[must_use]
    pub fn dataflows(&self) -> u64 {
        let engines = self.nodes.iter().map(|node| &node.engine).chain([&self.cluster]);
        engines.flat_map(|engine| engine.stats().workers).map(|worker| worker.dataflows).sum()
    }
}
