//! Engines wired as node and cluster wire them: changes of each node go to the cluster engine, which
//! closes a tick when every node has reported it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_engine::{Engine, EngineConfig, EngineError, EngineEvent, Install, Limits, Part, QueryId};
use weir_types::batch::RecordBatch;
use weir_types::split::SplitPlan;

use super::DriveError;
use crate::model::{Multiset, Row, World};

/// An engine that says nothing for so long has lost its way.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// One engine and what it says.
struct Listened {
    engine: Engine,
    events: Receiver<EngineEvent>,
}

/// Starts an engine; what it says can be received.
pub fn start_engine(config: EngineConfig) -> Result<(Engine, Receiver<EngineEvent>), EngineError> {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let emit = Arc::new(move |event| {
        // The receiver goes first only when whoever drives is dropped.
        let _ = sender.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    });
    Ok((Engine::start(config, emit)?, events))
}

impl Listened {
    fn start(config: EngineConfig) -> Result<Listened, DriveError> {
        let (engine, events) = start_engine(config)?;
        Ok(Listened { engine, events })
    }

    /// The next event; an error if none comes or if it says that a query failed.
    fn next(&self, waiting_for: &str) -> Result<EngineEvent, DriveError> {
        match self.events.recv_timeout(ANSWER_DEADLINE) {
            Ok(EngineEvent::Failed { query, message }) => {
                Err(DriveError::Failed { query, message })
            }
            Ok(event) => Ok(event),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(DriveError::Silent { waiting_for: waiting_for.to_string() })
            }
        }
    }
}

/// What a query's outputs hold.
pub type Views = BTreeMap<String, Multiset>;

/// Node engines and a cluster engine.
pub struct Rig {
    nodes: Vec<Listened>,
    cluster: Listened,
    views: BTreeMap<QueryId, Views>,
    refresh_ms: BTreeMap<QueryId, u64>,
    frontiers: BTreeMap<QueryId, u64>,
}

impl Rig {
    pub fn start(
        nodes: usize,
        workers: usize,
        retention_ns: Option<i64>,
    ) -> Result<Rig, DriveError> {
        Rig::start_with(nodes, workers, retention_ns, &Limits::default())
    }

    pub fn start_with(
        nodes: usize,
        workers: usize,
        retention_ns: Option<i64>,
        limits: &Limits,
    ) -> Result<Rig, DriveError> {
        let config = |name: String| EngineConfig {
            workers,
            retention_ns,
            test_faults: true,
            limits: limits.clone(),
            ..EngineConfig::new(name)
        };
        let nodes = (0..nodes)
            .map(|number| Listened::start(config(format!("node-{number}"))))
            .collect::<Result<_, _>>()?;
        Ok(Rig {
            nodes,
            cluster: Listened::start(config("cluster".to_string()))?,
            views: BTreeMap::new(),
            refresh_ms: BTreeMap::new(),
            frontiers: BTreeMap::new(),
        })
    }

    /// Installs both parts; results may appear from `start_tick_ms` on.
    pub fn install(
        &mut self,
        query: QueryId,
        split: &SplitPlan,
        refresh_ms: u64,
        start_tick_ms: u64,
    ) {
        let install = |part| Install::new(query, part, refresh_ms, start_tick_ms);
        self.cluster.engine.install(install(Part::alone(split)));
        let node_part = Arc::new(split.node());
        for node in &self.nodes {
            node.engine.install(install(Part::Node(Arc::clone(&node_part))));
        }
        self.views.insert(query, Views::new());
        self.refresh_ms.insert(query, refresh_ms);
        self.frontiers.insert(query, start_tick_ms.saturating_sub(1));
    }

    pub fn push(&self, node: usize, table: &str, batches: Vec<RecordBatch>) {
        for batch in batches {
            self.nodes[node].engine.push_rows(table, batch);
        }
    }

    /// Every row of the world to the first node, whenever it arrives.
    pub fn push_world(&self, world: &World) {
        for (name, table) in &world.tables {
            let rows: Vec<Row> = table.rows.iter().map(|arrived| arrived.row.clone()).collect();
            let whole = super::FeedOrder::Whole;
            self.push(0, name, super::admission::batches(name, &table.relation, &rows, whole));
        }
    }

    /// Back-fill as a node does it: hold, slices of history, release.
    pub fn hold(&self, query: QueryId, held: bool) {
        for node in &self.nodes {
            node.engine.hold(query, held);
        }
    }
    pub fn replay(&self, node: usize, query: QueryId, table: &str, batches: Vec<RecordBatch>) {
        for batch in batches {
            self.nodes[node].engine.replay(query, table, vec![(0, batch)]);
        }
    }

    /// Contents of a table function, by its position in the cluster plan.
    pub fn push_table_function(&self, query: QueryId, op: usize, rows: Vec<weir_types::PackedRow>) {
        self.cluster.engine.push_table_function(query, op, rows);
    }

    /// Admits what was pushed and brings every query to its refresh at or before `tick_ms`.
    /// Gives the queries whose frontier moved.
    pub fn close_tick(&mut self, tick_ms: u64) -> Result<Vec<QueryId>, DriveError> {
        for node in &self.nodes {
            node.engine.close_tick(tick_ms);
        }
        let mut moved = BTreeMap::new();
        for (&query, &refresh_ms) in &self.refresh_ms {
            let frontier_ms = tick_ms / refresh_ms * refresh_ms;
            if frontier_ms > self.frontiers[&query] {
                moved.insert(query, frontier_ms);
            }
        }
        for number in 0..self.nodes.len() {
            self.collect_node(number, &moved)?;
        }
        for (&query, &frontier_ms) in &moved {
            self.cluster.engine.close_query_tick(query, frontier_ms);
        }
        self.collect_cluster(&moved)?;
        self.frontiers.extend(&moved);
        Ok(moved.into_keys().collect())
    }

    /// Hands a node's changes on until it has reported every expected frontier.
    fn collect_node(
        &self,
        number: usize,
        expected: &BTreeMap<QueryId, u64>,
    ) -> Result<(), DriveError> {
        let mut open = expected.clone();
        while !open.is_empty() {
            match self.nodes[number].next("a node's frontier")? {
                EngineEvent::Changes { query, exchange, tick_ms, changes, .. } => {
                    self.check_tick(query, tick_ms, expected.get(&query))?;
                    self.cluster.engine.push_changes(query, exchange, tick_ms, changes);
                }
                EngineEvent::Frontier { query, tick_ms } => {
                    self.check_tick(query, tick_ms, expected.get(&query))?;
                    if expected.get(&query) == Some(&tick_ms) {
                        open.remove(&query);
                    }
                }
                other => return Err(unexpected("a node", &other)),
            }
        }
        Ok(())
    }

    fn collect_cluster(&mut self, expected: &BTreeMap<QueryId, u64>) -> Result<(), DriveError> {
        let mut open = expected.clone();
        while !open.is_empty() {
            match self.cluster.next("the cluster part's frontier")? {
                EngineEvent::Rows { query, table, tick_ms, rows, .. } => {
                    self.check_tick(query, tick_ms, expected.get(&query))?;
                    if rows.is_empty() || rows.iter().any(|(_, diff)| *diff == 0) {
                        return Err(DriveError::NotConsolidated { table: table.to_string() });
                    }
                    let view = self.views.entry(query).or_default();
                    let view = view.entry(table.to_string()).or_default();
                    for (row, diff) in rows {
                        *view.entry(row).or_default() += diff;
                    }
                    view.retain(|_, count| *count != 0);
                }
                EngineEvent::Frontier { query, tick_ms } => {
                    self.check_tick(query, tick_ms, expected.get(&query))?;
                    if expected.get(&query) == Some(&tick_ms) {
                        open.remove(&query);
                    }
                }
                other => return Err(unexpected("the cluster part", &other)),
            }
        }
        for (table, view) in self.views.values().flatten() {
            if let Some((_, count)) = view.iter().find(|(_, count)| **count < 0) {
                return Err(DriveError::Negative { table: table.clone(), count: *count });
            }
        }
        Ok(())
    }

    /// Nothing may be said about a tick that is emitted already, lies ahead, or is no refresh.
    fn check_tick(
        &self,
        query: QueryId,
        tick_ms: u64,
        expected: Option<&u64>,
    ) -> Result<(), DriveError> {
        let last = self.frontiers.get(&query).copied().unwrap_or(0);
        let refresh_ms = self.refresh_ms.get(&query).copied().unwrap_or(1);
        let fits = tick_ms > last
            && expected.is_some_and(|&expected| tick_ms <= expected)
            && tick_ms.is_multiple_of(refresh_ms);
        if fits { Ok(()) } else { Err(DriveError::WrongTick { query, tick_ms, last }) }
    }

    /// The views of a query at its frontier.
    #[must_use]
    pub fn views(&self, query: QueryId) -> Views {
        self.views.get(&query).cloned().unwrap_or_default()
    }
    #[must_use]
    pub fn frontier_ms(&self, query: QueryId) -> Option<u64> {
        self.frontiers.get(&query).copied()
    }

    /// Rows without a group of their own, by table.
    #[must_use]
    pub fn overflow(&self, query: QueryId, tick_ms: u64) -> BTreeMap<String, u64> {
        self.cluster.engine.overflow(query, tick_ms)
    }

    /// No longer expects anything of a query, for example of one that has failed.
    pub fn forget(&mut self, query: QueryId) {
        self.views.remove(&query);
        self.refresh_ms.remove(&query);
        self.frontiers.remove(&query);
    }

    /// Removes a query everywhere and waits until its state is released.
    pub fn remove(&mut self, query: QueryId) -> Result<(), DriveError> {
        self.forget(query);
        for listened in self.nodes.iter().chain([&self.cluster]) {
            listened.engine.remove(query);
            loop {
                match listened.next("the end of a query")? {
                    EngineEvent::Removed { query: gone } if gone == query => break,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The cluster engine and the node engines, for their figures.
    #[must_use]
    pub fn engines(&self) -> Vec<&Engine> {
        self.nodes.iter().chain([&self.cluster]).map(|listened| &listened.engine).collect()
    }
}

fn unexpected(part: &str, event: &EngineEvent) -> DriveError {
    DriveError::Unexpected { part: part.to_string(), event: format!("{event:?}") }
}
