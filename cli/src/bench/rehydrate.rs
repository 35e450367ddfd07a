//! `weir bench rehydrate`: the LET workload asked for over a history that is there. How long until its first answer,
//! which is compared with the exact reference, and what a small view beside it notices: that goes on with a refresh
//! each tick, in real time, and so do the events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use crossbeam_channel::{Receiver, unbounded};
use serde_json::json;
use weir_cluster::coordinator::{Coordinator, Outcome};
use weir_cluster::service::{Quantiles, stats};
use weir_cluster::view::ViewState;
use weir_engine::{Engine, EngineEvent};
use weir_node::stepped::SteppedNode;
use weir_proto::{NodeLink, QueryId, Report};
use weir_types::clock::tick_unix_ns;
use weir_types::metadata::MetadataSnapshot;
use weir_types::{Clock, RecordBatch, WallClock};

use super::RehydrateArgs;
use super::generator::{Batcher, Event, Generator};
use super::let_verify::Check;
use super::let_workload::{ORIGIN_MS, SEED, TICK_MS, WINDOW_SECS, prepared, slices};
use crate::failure::Failure;
use crate::offline::pipeline::engine;
use crate::output;

/// The view beside it.
const BESIDE: &str = "import px\ndf = px.DataFrame('let_events', start_time='-5s')\n\
                      df = df.groupby('status').agg(n=('latency', px.count))\npx.display(df)\n";
const REFRESH_MS: u64 = 1_000;
/// All of the events have to be there.
const HISTORY_BYTES: u64 = 64 << 30;
/// How long the view beside it is looked at before anything else happens.
const BEFORE_TICKS: u64 = 50;
const MESSAGES_PAUSE: Duration = Duration::from_millis(2);
/// No answer takes so long.
const ANSWER_NS_MAX: u64 = 300_000_000_000;

enum From {
    Node(EngineEvent),
    Cluster(EngineEvent),
}

/// Node, coordinator and engines, in real time.
struct Rig {
    engines: [Arc<Engine>; 2],
    node: SteppedNode,
    coordinator: Coordinator,
    events: Receiver<From>,
    clock: WallClock,
    /// When the clock showed the first tick.
    started_ns: u64,
    first_ms: u64,
    closed_ns: HashMap<u64, u64>,
    last_ms: u64,
    generator: Generator,
    batcher: Batcher,
    /// Of the second that is under way, those that have not come yet.
    coming: Vec<(u64, Vec<Event>)>,
    all: Vec<(u64, Vec<Event>)>,
    beside: QueryId,
    late_ns: hdrhistogram::Histogram<u64>,
    slice_ns: hdrhistogram::Histogram<u64>,
}

/// What came of a query.
enum Came {
    Rows(Arc<str>, Vec<(weir_types::PackedRow, i64)>),
    Frontier(u64),
}

impl Rig {
    fn start(args: &RehydrateArgs) -> anyhow::Result<Rig> {
        let (send, events) = unbounded();
        let to_node = send.clone();
        let node_engine = engine("node", args.workers, false, move |event| {
            drop(to_node.send(From::Node(event)));
        })?;
        let cluster_engine = engine("cluster", args.workers, false, move |event| {
            drop(send.send(From::Cluster(event)));
        })?;
        let metadata = Arc::new(MetadataSnapshot::default());
        let node = SteppedNode::start("bench", &node_engine, Some(HISTORY_BYTES), &metadata);
        let generator = Generator::new(SEED, args.rate);
        let batcher = Batcher::new(generator.names());
        let mut rig = Rig {
            coordinator: Coordinator::offline(cluster_engine.clone(), BTreeMap::new()),
            engines: [node_engine, cluster_engine],
            node,
            events,
            clock: WallClock,
            started_ns: 0,
            first_ms: 0,
            closed_ns: HashMap::new(),
            last_ms: ORIGIN_MS,
            generator,
            batcher,
            coming: Vec::new(),
            all: Vec::new(),
            beside: 0,
            late_ns: stats::new_histogram(),
            slice_ns: stats::new_histogram(),
        };
        rig.carry()?;
        Ok(rig)
    }

    fn carry(&mut self) -> anyhow::Result<()> {
        let (now_ms, coordinator) = (self.last_ms, &mut self.coordinator);
        let mut failed = None;
        let mut hear = |name: &str, link: &NodeLink, report: Report| {
            let outcome = coordinator.on_message(name, link, report, now_ms);
            if let Outcome::QueryFailed { message, .. } = outcome {
                failed = Some(message);
            }
        };
        while self.node.carry(now_ms, &mut hear)? {}
        match failed {
            Some(message) => bail!("the query failed on the node: {message}"),
            None => Ok(()),
        }
    }

    /// The events of the next tick, as batches.
    fn next_tick(&mut self) -> (u64, Vec<RecordBatch>) {
        if self.coming.is_empty() {
            let second = (self.last_ms - ORIGIN_MS) / 1000;
            let events = self.generator.second(tick_unix_ns(ORIGIN_MS), second);
            let start_ms = ORIGIN_MS + second * 1000;
            let ticks = slices(&events, start_ms).map(|(at, events)| (at, events.to_vec()));
            self.coming = ticks.collect();
            self.coming.reverse();
            self.all.push((second, events));
        }
        let (tick_ms, events) = self.coming.pop().unwrap_or_default();
        (tick_ms, self.batcher.batches(&events))
    }

    fn close(&mut self, (tick_ms, batches): (u64, Vec<RecordBatch>)) {
        for batch in batches {
            self.node.core.admit("let_events", batch);
        }
        self.node.core.close_tick(tick_ms);
        self.last_ms = tick_ms;
        self.closed_ns.insert(tick_ms, self.clock.monotonic_ns());
    }

    /// All that was before anybody asks.
    fn fill(&mut self, seconds: u64) -> anyhow::Result<()> {
        while self.last_ms < ORIGIN_MS + seconds * 1000 {
            let next = self.next_tick();
            self.close(next);
            self.carry()?;
            while self.events.try_recv().is_ok() {}
        }
        (self.first_ms, self.started_ns) = (self.last_ms, self.clock.monotonic_ns());
        self.closed_ns.clear();
        Ok(())
    }

    fn install(
        &mut self,
        text: Option<&str>,
        refresh_ms: u64,
    ) -> anyhow::Result<(QueryId, ViewState)> {
        let prepared = prepared(text, refresh_ms)?;
        let query = self.coordinator.new_query_id();
        self.coordinator.install(query, prepared.split, refresh_ms, self.last_ms)?;
        Ok((query, ViewState::new(prepared.outputs)))
    }

    /// Goes on for a moment, with ticks as the clock says; what came of `query`.
    fn step(&mut self, query: QueryId) -> anyhow::Result<Vec<Came>> {
        let due_ns = self.started_ns + (self.last_ms + TICK_MS - self.first_ms) * 1_000_000;
        if self.clock.monotonic_ns() >= due_ns {
            let next = self.next_tick();
            self.close(next);
        }
        self.carry()?;
        let began_ns = self.clock.monotonic_ns();
        let left = self.node.core.replay_slice();
        let took_ns = self.clock.monotonic_ns() - began_ns;
        if left {
            self.slice_ns.saturating_record(took_ns);
        }
        let mut came = Vec::new();
        let mut event = self.events.recv_timeout(MESSAGES_PAUSE).ok();
        while let Some(said) = event {
            self.take(said, query, &mut came)?;
            event = self.events.try_recv().ok();
        }
        Ok(came)
    }

    fn take(&mut self, said: From, query: QueryId, came: &mut Vec<Came>) -> anyhow::Result<()> {
        match said {
            From::Node(event) => self.node.core.on_event(event),
            From::Cluster(EngineEvent::Rows { query: of, table, rows, .. }) if of == query => {
                came.push(Came::Rows(table, rows));
            }
            From::Cluster(EngineEvent::Frontier { query: of, tick_ms }) => {
                if of == query {
                    came.push(Came::Frontier(tick_ms));
                }
                let closed_ns = self.closed_ns.get(&tick_ms).filter(|_| of == self.beside);
                if let Some(closed_ns) = closed_ns {
                    self.late_ns.saturating_record(self.clock.monotonic_ns() - closed_ns);
                }
            }
            From::Cluster(EngineEvent::Failed { message, .. }) => {
                bail!("a query failed: {message}")
            }
            From::Cluster(_) => {}
        }
        Ok(())
    }

    fn cpu_ns(&self) -> u64 {
        let workers = self.engines.iter().flat_map(|engine| engine.stats().workers);
        workers.map(|worker| worker.cpu_ns).sum()
    }
}

struct Measured {
    rows: u64,
    first_answer_ns: u64,
    engine_cpu_ns: u64,
    slice_ns: Quantiles,
    beside_before_ns: Quantiles,
    beside_during_ns: Quantiles,
    rss_bytes: u64,
}

fn measure(args: &RehydrateArgs) -> anyhow::Result<(Measured, Check)> {
    let mut rig = Rig::start(args)?;
    rig.fill(args.seconds)?;
    (rig.beside, _) = rig.install(Some(BESIDE), TICK_MS)?;
    let beside = rig.beside;
    while rig.last_ms < rig.first_ms + BEFORE_TICKS * TICK_MS {
        rig.step(beside)?;
    }
    let before = stats::quantiles_of(&rig.late_ns);
    rig.late_ns.clear();
    rig.slice_ns.clear();
    let rows: u64 = rig.all.iter().map(|(_, events)| events.len() as u64).sum();
    let cpu_ns = rig.cpu_ns();
    let asked_ns = rig.clock.monotonic_ns();
    let (query, mut view) = rig.install(None, REFRESH_MS)?;
    let frontier_ms = 'answer: loop {
        ensure!(rig.clock.monotonic_ns() - asked_ns < ANSWER_NS_MAX, "no answer");
        for came in rig.step(query)? {
            match came {
                Came::Rows(table, rows) => view.apply(&table, rows),
                Came::Frontier(tick_ms) => break 'answer tick_ms,
            }
        }
    };
    let changes = view.advance(frontier_ms);
    let measured = Measured {
        rows,
        first_answer_ns: rig.clock.monotonic_ns() - asked_ns,
        engine_cpu_ns: rig.cpu_ns() - cpu_ns,
        slice_ns: stats::quantiles_of(&rig.slice_ns),
        beside_before_ns: before,
        beside_during_ns: stats::quantiles_of(&rig.late_ns),
        rss_bytes: crate::up::rss_bytes(),
    };
    let mut check = Check::new(&view, rig.generator.names());
    let frontier_ns = tick_unix_ns(frontier_ms);
    for (second, events) in &rig.all {
        let seen = events.partition_point(|event| event.time_unix_ns <= frontier_ns);
        check.reference.add(*second, &events[..seen]);
    }
    let window_ms = (frontier_ms - ORIGIN_MS).saturating_sub(WINDOW_SECS * 1000);
    check.reference.expire(window_ms / 1000);
    check.refresh(changes).context("the first answer")?;
    Ok((measured, check))
}

pub(crate) fn run(args: &RehydrateArgs) -> Result<(), Failure> {
    if args.rate == 0 || args.seconds == 0 || args.rate > 1_000_000 || args.seconds > 3600 {
        let text = "--rate is 1 to 1000000, --seconds 1 to 3600".to_string();
        return Err(Failure::Usage(text));
    }
    let (measured, check) = measure(args)?;
    let compared = &check.compared;
    let verified =
        compared.endpoint_rows > 0 && compared.edge_rows > 0 && compared.slowest_rows > 0;
    let per_row = measured.engine_cpu_ns as f64 / measured.rows as f64;
    let seconds = measured.first_answer_ns as f64 / 1e9;
    let report = json!({
        "bench": "rehydrate",
        "verified": verified,
        "compared": compared,
        "rate": args.rate,
        "seconds": args.seconds,
        "workers": args.workers,
        "refresh_ms": REFRESH_MS,
        "tick_ms": TICK_MS,
        "rows": measured.rows,
        "first_answer_ms": (seconds * 1e4).round() / 10.0,
        "rows_per_s": (measured.rows as f64 / seconds).round(),
        "cpu_ns_per_row": (per_row * 10.0).round() / 10.0,
        "slice_ns": measured.slice_ns,
        "beside_before_ns": measured.beside_before_ns,
        "beside_during_ns": measured.beside_during_ns,
        "rss_bytes": measured.rss_bytes,
    });
    output::line(&report.to_string())
}
