//! One query from node part to view, driven step by step without a clock: the same compiler, split,
//! engines, messages and bus as the server, only that whoever holds the pipeline says what time it
//! is. Offline rows and the benchmarks use it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, unbounded};
use weir_cluster::coordinator::{Coordinator, Outcome};
use weir_cluster::view::{OutputInfo, ViewState};
use weir_engine::{Engine, EngineConfig, EngineEvent, Limits};
use weir_node::stepped::SteppedNode;
use weir_proto::{NodeLink, QueryId, Report};
use weir_sinks::delivery::Changes;
use weir_types::metadata::MetadataSnapshot;
use weir_types::split::SplitPlan;
use weir_types::{PackedRow, RecordBatch};

/// A step that takes longer is stuck, not slow: the longest ones seen take seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

enum FromEngine {
    Node(EngineEvent),
    Cluster(EngineEvent),
}

pub(crate) struct PipelineConfig {
    pub(crate) workers: usize,
    pub(crate) refresh_ms: u64,
    pub(crate) start_ms: u64,
    pub(crate) metadata: Arc<MetadataSnapshot>,
    /// Rows of table functions that no registry answers.
    pub(crate) table_functions: BTreeMap<String, Vec<PackedRow>>,
    pub(crate) test_faults: bool,
}

pub(crate) struct Pipeline {
    pub(crate) node_engine: Arc<Engine>,
    pub(crate) cluster_engine: Arc<Engine>,
    node: SteppedNode,
    coordinator: Coordinator,
    events: Receiver<FromEngine>,
    view: ViewState,
    query: QueryId,
    refresh_ms: u64,
}

const NODE_NAME: &str = "offline";

/// An engine for rows that are driven, not captured.
pub(crate) fn engine(
    name: &str,
    workers: usize,
    test_faults: bool,
    emit: impl Fn(EngineEvent) + Send + Sync + 'static,
) -> anyhow::Result<Arc<Engine>> {
    let engine = Engine::start(
        EngineConfig {
            workers,
            retention_ns: None,
            test_faults,
            // Whoever drives the clock waits for each refresh: what waits is what was read, and none
            // of it may be dropped.
            limits: Limits { pending_bytes_max: u64::MAX, ..Limits::default() },
            ..EngineConfig::new(name)
        },
        Arc::new(emit),
    )
    .with_context(|| format!("could not start the {name} engine"))?;
    Ok(Arc::new(engine))
}

impl Pipeline {
    /// Starts both engines and installs the query.
    pub(crate) fn start(
        split: Arc<SplitPlan>,
        outputs: Vec<OutputInfo>,
        config: &PipelineConfig,
    ) -> anyhow::Result<Pipeline> {
        let (send, events) = unbounded();
        let send_node = send.clone();
        let node_engine = engine("node", config.workers, config.test_faults, move |event| {
            drop(send_node.send(FromEngine::Node(event)));
        })?;
        let cluster_engine = engine("cluster", config.workers, config.test_faults, move |event| {
            drop(send.send(FromEngine::Cluster(event)));
        })?;
        let node = SteppedNode::start(NODE_NAME, &node_engine, None, &config.metadata);
        let mut pipeline = Pipeline {
            coordinator: Coordinator::offline(
                cluster_engine.clone(),
                config.table_functions.clone(),
            ),
            node_engine,
            cluster_engine,
            node,
            events,
            view: ViewState::new(outputs),
            query: 0,
            refresh_ms: config.refresh_ms,
        };
        pipeline.pump_bus(config.start_ms)?;
        pipeline.query = pipeline.coordinator.new_query_id();
        let query = pipeline.query;
        pipeline.coordinator.install(query, split, config.refresh_ms, config.start_ms)?;
        pipeline.pump_bus(config.start_ms)?;
        Ok(pipeline)
    }

    /// Moves all waiting messages to the other side.
    fn pump_bus(&mut self, now_ms: u64) -> anyhow::Result<()> {
        let Pipeline { node, coordinator, .. } = self;
        let mut failed = None;
        let mut hear = |name: &str, link: &NodeLink, report: Report| {
            let outcome = coordinator.on_message(name, link, report, now_ms);
            if let Outcome::QueryFailed { message, .. } = outcome {
                failed = Some(message);
            }
        };
        while node.pump(now_ms, &mut hear)? {}
        match failed {
            Some(message) => bail!("the query failed on the node: {message}"),
            None => Ok(()),
        }
    }

    pub(crate) fn admit(&mut self, table: &str, batch: RecordBatch) {
        self.node.core.admit(table, batch);
    }

    /// Closes the tick; if it is a refresh, waits until the view is there and gives what changed.
    pub(crate) fn close_tick(&mut self, tick_ms: u64) -> anyhow::Result<Option<Vec<Changes>>> {
        self.node.core.close_tick(tick_ms);
        if !tick_ms.is_multiple_of(self.refresh_ms) {
            return Ok(None);
        }
        loop {
            self.pump_bus(tick_ms)?;
            self.coordinator.on_clock(tick_ms, tick_ms);
            match self.events.recv_timeout(STEP_TIMEOUT) {
                Ok(FromEngine::Node(event)) => self.node.core.on_event(event),
                Ok(FromEngine::Cluster(EngineEvent::Rows { table, rows, .. })) => {
                    self.view.apply(&table, rows);
                }
                Ok(FromEngine::Cluster(EngineEvent::Frontier { tick_ms: at, .. })) => {
                    if at >= tick_ms {
                        return Ok(Some(self.view.advance(tick_ms)));
                    }
                }
                Ok(FromEngine::Cluster(EngineEvent::Failed { message, .. })) => {
                    bail!("the query failed: {message}");
                }
                Ok(FromEngine::Cluster(_)) => {}
                Err(_) => bail!("no answer from the engine within {STEP_TIMEOUT:?}"),
            }
        }
    }

    /// By table: rows whose groups found no room.
    #[must_use]
    pub(crate) fn overflow(&self, tick_ms: u64) -> BTreeMap<String, u64> {
        self.cluster_engine.overflow(self.query, tick_ms)
    }

    pub(crate) fn view(&self) -> &ViewState {
        &self.view
    }

    /// Stops both engines and waits for their threads.
    pub(crate) fn stop(self) {
        let Pipeline { node_engine, cluster_engine, node, coordinator, .. } = self;
        drop((node, coordinator));
        for engine in [node_engine, cluster_engine] {
            if let Ok(engine) = Arc::try_unwrap(engine) {
                engine.shutdown();
            }
        }
    }
}
