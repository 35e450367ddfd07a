//! A whole node, with its threads, on one side, coordinator and cluster engine on the other, and a source that is
//! the test's: thread and engine of the node die, and what runs on them goes on from history, with no row counted
//! twice and none missing.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use weir_actors::KillSwitch;
use weir_cluster::coordinator::{Book, Coordinator};
use weir_cluster::planner::{ScriptRequest, prepare};
use weir_dataflow_tests::drive::start_engine;
use weir_engine::{Engine, EngineConfig, EngineEvent};
use weir_node::agent::Agent;
use weir_node::runtime::{NodeConfig, NodeRuntime};
use weir_proto::NodeInfo;
use weir_proto::bus::{ClusterPort, in_process};
use weir_sources::source::{Output, Refusal, RunningSource, Source};
use weir_types::source::TableCounters;
use weir_types::split::SplitPlan;
use weir_types::{Clock, ManualClock, PackedRow, Value, tables};

const TICK_MS: u64 = 100;
const STEP_NS: u64 = 20_000_000;
const STEPS_MAX: usize = 30_000;
const TABLE: &str = "let_events";

/// Gives as many rows as it is told, one a flush.
#[derive(Clone, Default)]
struct Drip {
    wanted: Arc<AtomicI64>,
    given: Arc<AtomicI64>,
}

impl Source for Drip {
    fn name(&self) -> Arc<str> {
        "drip".into()
    }
    fn tables(&self) -> Vec<String> {
        vec![TABLE.to_string()]
    }
    fn can_run(&self) -> Result<(), Refusal> {
        Ok(())
    }
    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal> {
        Ok(Box::new(self.clone()))
    }
}

impl RunningSource for Drip {
    fn poll(&mut self, _now_unix_ns: i64, _out: &mut dyn Output) {}
    fn flush(&mut self, now_unix_ns: i64, out: &mut dyn Output) {
        out.counted(TABLE, TableCounters::default());
        if self.given.load(Ordering::SeqCst) >= self.wanted.load(Ordering::SeqCst) {
            return;
        }
        self.given.fetch_add(1, Ordering::SeqCst);
        let def = tables::find(TABLE).unwrap();
        let mut builder = def.builder();
        for (idx, column) in def.columns.iter().enumerate() {
            match column.name {
                "time_" => builder.int64(idx, now_unix_ns),
                _ => builder.value(idx, &column.data_type.zero()),
            }
        }
        builder.end_row();
        out.rows(TABLE, builder.finish());
    }
    fn wait(&mut self, _at_most: Duration) {
        std::thread::yield_now();
    }
}

struct Rig {
    clock: Arc<ManualClock>,
    drip: Drip,
    node: NodeRuntime,
    switch: KillSwitch,
    port: ClusterPort,
    coordinator: Coordinator,
    events: Receiver<EngineEvent>,
    split: Arc<SplitPlan>,
    /// The query's present number.
    run: u64,
    rows: BTreeMap<PackedRow, i64>,
    frontier_ms: u64,
    lives: usize,
}

impl Rig {
    fn start() -> Rig {
        let drip = Drip::default();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000_000_000));
        let (node_port, port) = in_process();
        let info = NodeInfo::named("a", 1, 1);
        let config = NodeConfig {
            tick_ms: TICK_MS,
            test_faults: true,
            ..NodeConfig::new(info, Agent::new(Arc::new(String::new)))
        };
        let switch = KillSwitch::root("weir");
        let sources: [Arc<dyn Source>; 1] = [Arc::new(drip.clone())];
        let node = NodeRuntime::start(config, &sources, node_port, clock.clone(), &switch).unwrap();
        let (engine, events): (Engine, _) = start_engine(EngineConfig::new("cluster")).unwrap();
        let coordinator = Coordinator::new(Arc::new(engine)).with_book(Arc::new(Book::default()));
        let text = format!(
            "import px\ndf = px.DataFrame('{TABLE}', start_time='-10m')\n\
             px.display(df.groupby('service').agg(n=('latency', px.count)))"
        );
        let request = ScriptRequest { text: Some(text), ..ScriptRequest::default() };
        let split = prepare(&request, TICK_MS, None, &|_| true).unwrap().split;
        let mut rig = Rig {
            clock,
            drip,
            node,
            switch,
            port,
            coordinator,
            events,
            split,
            run: 0,
            rows: BTreeMap::new(),
            frontier_ms: 0,
            lives: 0,
        };
        rig.install();
        rig
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now_unix_ns() / 1_000_000).unwrap()
    }

    fn install(&mut self) {
        self.run = self.coordinator.new_query_id();
        self.rows.clear();
        let (split, now_ms) = (self.split.clone(), self.now_ms());
        self.coordinator.install(self.run, split, TICK_MS, now_ms).unwrap();
    }

    /// Lets a moment pass, and moves what is said.
    async fn step(&mut self) {
        self.clock.advance(Duration::from_nanos(STEP_NS));
        actix::clock::sleep(Duration::from_micros(200)).await;
        let (now_ms, mono_ms) = (self.now_ms(), self.clock.monotonic_ns() / 1_000_000);
        while let Some(report) = self.port.try_recv() {
            let (report, link) = (report.unwrap(), self.port.link.clone());
            self.lives +=
                usize::from(matches!(report.message, weir_proto::FromNode::Register { .. }));
            self.coordinator.on_message("a", &link, report, now_ms);
        }
        self.coordinator.on_clock(now_ms, mono_ms);
        for query in self.coordinator.take_resyncs() {
            self.coordinator.remove(query);
            self.install();
        }
        while let Ok(event) = self.events.try_recv() {
            match event {
                EngineEvent::Rows { query, rows, .. } if query == self.run => {
                    for (row, diff) in rows {
                        *self.rows.entry(row).or_default() += diff;
                    }
                    self.rows.retain(|_, count| *count != 0);
                }
                EngineEvent::Frontier { query, tick_ms } if query == self.run => {
                    self.frontier_ms = tick_ms;
                    let (shown, given) = (self.shown(), self.drip.given.load(Ordering::SeqCst));
                    assert!(shown <= given, "{shown} rows are shown of {given}");
                    let answer = self.coordinator.completeness(query, tick_ms);
                    assert!(answer.lost.is_empty(), "{:?}", answer.lost);
                }
                EngineEvent::Failed { message, .. } => panic!("failed: {message}"),
                _ => {}
            }
        }
    }

    /// The count that the answer shows.
    fn shown(&self) -> i64 {
        assert!(self.rows.len() <= 1, "{:?}", self.rows);
        let types = [weir_types::DataType::String, weir_types::DataType::Int64];
        let count = self.rows.keys().next().map(|row| row.unpack(&types).unwrap());
        match count.as_deref() {
            Some([_, Value::Int64(count)]) => *count,
            None => 0,
            other => panic!("{other:?}"),
        }
    }

    /// Until the source has given so many rows, and the answer shows them all in the node's `life`.
    async fn until(&mut self, what: &str, rows: i64, life: usize) {
        self.drip.wanted.store(rows, Ordering::SeqCst);
        for _ in 0..STEPS_MAX {
            self.step().await;
            if self.lives == life && self.shown() == rows {
                return;
            }
        }
        panic!("{what}: {} of {rows}, life {} of {life}", self.shown(), self.lives);
    }
}

/// What a query showed before the node's thread, and then its engine, died is shown again from history, with what
/// came meanwhile: no row twice, none missing, nothing lost. Catches a takeover that begins with an empty window,
/// and one that adds history to what was there.
#[test]
fn a_node_takes_over_from_history() {
    actix::System::new().block_on(async {
        let mut rig = Rig::start();
        rig.until("at first", 30, 1).await;
        rig.node.panic_switch()();
        rig.until("after the thread's death", 50, 2).await;
        rig.node.engine.engine().kill_worker();
        rig.until("after the engine's death", 70, 3).await;
        // Nothing more comes, and nothing more is shown.
        for _ in 0..50 {
            rig.step().await;
        }
        assert_eq!(rig.shown(), 70);
        rig.switch.kill().await;
    });
}
