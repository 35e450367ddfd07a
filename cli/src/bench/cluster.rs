//! `weir bench cluster`: many simulated nodes drive the real cluster part in virtual time: its links, its
//! coordinator and its engine, over the LET workload. A few real node parts make what nodes say; each simulated node
//! says what one of them does, under its own name, life and epochs, in real messages and frames.
//!
//! The cluster part's time is measured, the nodes' is not: they would be other machines. A frontier's lag is what it
//! would be if messages came at their ticks and this machine did nothing but the cluster part's work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use crossbeam_channel::{Receiver, unbounded};
use serde_json::{Value as Json, json};
use weir_cluster::coordinator::{Coordinator, Outcome};
use weir_cluster::service::stats;
use weir_cluster::view::ViewState;
use weir_engine::{Engine, EngineEvent};
use weir_node::stepped::SteppedNode;
use weir_proto::bus::ClusterPort;
use weir_proto::message::{FromNode, NodeInfo};
use weir_proto::nats::{SimulatedBus, SimulatedNode};
use weir_proto::{Epoch, Life, NodeLink, Place, QueryId, Report, ToNode};
use weir_types::clock::tick_unix_ns;
use weir_types::metadata::MetadataSnapshot;
use weir_types::{Clock, Value, WallClock};

use super::ClusterArgs;
use super::generator::{Batcher, Generator};
use super::let_workload::{ORIGIN_MS, SEED, TICK_MS, prepared, slices};
use crate::failure::Failure;
use crate::offline::pipeline::engine;
use crate::output;

/// Real node parts: simulated nodes say what one of them does.
const TEMPLATES_MAX: usize = 4;
const STEP_TIMEOUT: Duration = Duration::from_secs(120);
const STATUS_EVERY_TICKS: u64 = 5;
/// All live once.
const INCARNATION: u64 = 1;

/// A real node part.
struct Template {
    node: SteppedNode,
    events: Receiver<EngineEvent>,
    generator: Generator,
    batcher: Batcher,
    /// By query: the epoch that it was installed under.
    epochs: BTreeMap<QueryId, Epoch>,
    running: usize,
    refresh_ms: u64,
}

struct Simulated {
    name: String,
    template: usize,
    end: SimulatedNode,
    port: ClusterPort,
    epochs: BTreeMap<QueryId, Epoch>,
}

struct Rig {
    bus: SimulatedBus,
    templates: Vec<Template>,
    nodes: Vec<Simulated>,
    coordinator: Coordinator,
    engine: Arc<Engine>,
    events: Receiver<EngineEvent>,
    clock: WallClock,
    /// Of this thread, while it did the cluster part's work.
    cluster_thread_ns: u64,
    now_ms: u64,
}

/// What was measured of a run.
struct Measured {
    events: u64,
    refreshes: u64,
    bus_bytes: u64,
    changes: u64,
    cpu_ns: u64,
    lag_ns: hdrhistogram::Histogram<u64>,
    state_bytes: u64,
    rss_bytes: u64,
    rows: usize,
    counted: i64,
    wanted: i64,
}

fn thread_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}

impl Template {
    fn start(args: &ClusterArgs, number: usize) -> anyhow::Result<Template> {
        let (send, events) = unbounded();
        let engine = engine("node", 1, false, move |event| drop(send.send(event)))?;
        let metadata = Arc::new(MetadataSnapshot::default());
        let node = SteppedNode::start("template", &engine, None, &metadata);
        let generator = Generator::new(SEED + number as u64, args.rate).spread(args.services);
        let batcher = Batcher::new(generator.names());
        let epochs = BTreeMap::new();
        let refresh_ms = args.refresh_ms();
        Ok(Template { node, events, generator, batcher, epochs, running: 0, refresh_ms })
    }

    /// Closes a tick of which a refresh may come, and gives what the node says of it.
    fn close(&mut self, tick_ms: u64, with_status: bool) -> anyhow::Result<Vec<FromNode>> {
        self.node.core.close_tick(tick_ms);
        let is_refresh = tick_ms.is_multiple_of(self.refresh_ms);
        let mut open = if is_refresh { self.running } else { 0 };
        while open > 0 {
            let event = self.events.recv_timeout(STEP_TIMEOUT).context("a node part is stuck")?;
            if matches!(event, EngineEvent::Frontier { tick_ms: at, .. } if at >= tick_ms) {
                open -= 1;
            }
            self.node.core.on_event(event);
        }
        if with_status {
            self.node.core.send_status(&BTreeMap::new(), Vec::new(), 0);
        }
        let mut said = Vec::new();
        self.node.carry(tick_ms, &mut |_, _, report| said.push(report.message))?;
        Ok(said)
    }
}

/// A message of a template as a simulated node says it.
fn as_said_by(node: &BTreeMap<QueryId, Epoch>, message: &FromNode) -> Option<FromNode> {
    let mut message = message.clone();
    let own =
        |query: &QueryId, place: &mut Place| node.get(query).map(|epoch| place.epoch = *epoch);
    match &mut message {
        FromNode::Update { query, place, .. }
        | FromNode::Progress { query, place, .. }
        | FromNode::Cuts { query, place, .. } => own(query, place)?,
        FromNode::Status { running, .. } => {
            for (query, epoch) in running.iter_mut() {
                *epoch = *node.get(query)?;
            }
        }
        FromNode::Losses { .. } | FromNode::Entities { .. } => {}
        _ => return None,
    }
    Some(message)
}

impl Rig {
    fn start(args: &ClusterArgs) -> anyhow::Result<Rig> {
        let (send, events) = unbounded();
        let engine = engine("cluster", args.workers, false, move |event| drop(send.send(event)))?;
        let bus = SimulatedBus::default();
        let count = TEMPLATES_MAX.min(args.nodes);
        let templates: anyhow::Result<Vec<Template>> =
            (0..count).map(|number| Template::start(args, number)).collect();
        let mut nodes = Vec::with_capacity(args.nodes);
        for number in 0..args.nodes {
            let (name, asid) = (format!("node-{number:04}"), number as u32 + 2);
            let joined = bus.join((&name, INCARNATION, asid), ORIGIN_MS);
            let (end, port) = joined.map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
            let template = number % count;
            nodes.push(Simulated { name, template, end, port, epochs: BTreeMap::new() });
        }
        let coordinator = Coordinator::new(Arc::clone(&engine)).with_epochs_from(ORIGIN_MS);
        let mut rig = Rig {
            bus,
            templates: templates?,
            nodes,
            coordinator,
            engine,
            events,
            clock: WallClock,
            cluster_thread_ns: 0,
            now_ms: ORIGIN_MS,
        };
        for number in 0..rig.nodes.len() {
            let info = NodeInfo::named(&rig.nodes[number].name, INCARNATION, number as u32 + 2);
            let message = FromNode::Register { info, sources: Vec::new(), epoch_max: 0 };
            rig.say(number, message)?;
        }
        rig.carry()?;
        Ok(rig)
    }

    fn say(&mut self, number: usize, message: FromNode) -> anyhow::Result<()> {
        let life = Life { incarnation: INCARNATION, generation: 0 };
        Ok(self.nodes[number].end.say(&Report { life, message })?)
    }

    /// Hands on all that is under way: nodes to the cluster part, and its orders to them. Returns how many
    /// changes came.
    fn carry(&mut self) -> anyhow::Result<u64> {
        let (mut changes, now_ms) = (0, self.now_ms);
        let all: Vec<Vec<Vec<u8>>> =
            self.nodes.iter_mut().map(|node| node.end.frames(now_ms)).collect();
        let began_ns = thread_cpu_ns();
        for (node, frames) in self.nodes.iter_mut().zip(&all) {
            self.bus.take(&node.end, frames, now_ms);
            let link: NodeLink = node.port.link.clone();
            while let Some(report) = node.port.try_recv() {
                let report = report?;
                if let FromNode::Update { changes: some, .. } = &report.message {
                    changes += some.len() as u64;
                }
                let outcome = self.coordinator.on_message(&node.name, &link, report, now_ms);
                if let Outcome::QueryFailed { message, .. } = outcome {
                    bail!("a query failed: {message}");
                }
            }
        }
        self.coordinator.on_clock(now_ms, now_ms - ORIGIN_MS);
        self.cluster_thread_ns += thread_cpu_ns() - began_ns;
        self.obey()?;
        Ok(changes)
    }

    /// Nodes do what they were told: the first of each template has that do it, the others know their epochs.
    fn obey(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            let template = &mut self.templates[node.template];
            for order in self.bus.hear(&mut node.end, self.now_ms) {
                let ToNode::Install { query, epoch, .. } = &order else { continue };
                node.epochs.insert(*query, *epoch);
                if !template.epochs.contains_key(query) {
                    template.epochs.insert(*query, *epoch);
                    template.running += 1;
                    template.node.core.handle(order, self.now_ms);
                }
            }
        }
        Ok(())
    }

    fn cluster_cpu_ns(&self) -> u64 {
        let workers = self.engine.stats().workers.iter().map(|worker| worker.cpu_ns).sum::<u64>();
        workers + self.cluster_thread_ns
    }
}

fn measure(args: &ClusterArgs, copies: u64) -> anyhow::Result<Measured> {
    let mut rig = Rig::start(args)?;
    let refresh_ms = args.refresh_ms();
    let prepared = prepared(None, refresh_ms)?;
    let query = rig.coordinator.new_query_id();
    rig.coordinator.install(query, prepared.split, refresh_ms, ORIGIN_MS)?;
    rig.carry()?;
    ensure!(rig.templates.iter().all(|template| template.running > 0), "nothing was installed");
    let mut view = ViewState::new(prepared.outputs);
    let mut sums = Sums::new(&view);
    let mut measured = Measured {
        events: 0,
        refreshes: 0,
        bus_bytes: 0,
        changes: 0,
        cpu_ns: rig.cluster_cpu_ns(),
        lag_ns: stats::new_histogram(),
        state_bytes: 0,
        rss_bytes: 0,
        rows: 0,
        counted: 0,
        wanted: 0,
    };
    let before: u64 = rig.nodes.iter().map(|node| node.end.bytes_sent).sum();
    // When the cluster part is free again, in nanoseconds of virtual time.
    let mut free_ns = 0_u64;
    for second in 0..args.seconds {
        let ticks = next_second(&mut rig, second, copies);
        for (tick_ms, batches) in ticks {
            measured.events += admit(&mut rig, batches);
            let worked_ns = tick(&mut rig, tick_ms, &mut measured.changes)?;
            let began_ns = rig.clock.monotonic_ns();
            if tick_ms % refresh_ms == 0 {
                let changes = answer(&rig, query, tick_ms, &mut view)?;
                sums.add(&changes)?;
                measured.refreshes += 1;
            }
            let worked_ns = worked_ns + (rig.clock.monotonic_ns() - began_ns);
            let came_ns = (tick_ms - ORIGIN_MS) * 1_000_000;
            free_ns = free_ns.max(came_ns) + worked_ns;
            if tick_ms % refresh_ms == 0 {
                measured.lag_ns.saturating_record(free_ns - came_ns);
            }
        }
    }
    measured.cpu_ns = rig.cluster_cpu_ns() - measured.cpu_ns;
    let sent: u64 = rig.nodes.iter().map(|node| node.end.bytes_sent).sum();
    measured.bus_bytes = sent - before;
    measured.state_bytes = rig.engine.stats().queries.iter().map(|query| query.state_bytes).sum();
    measured.rss_bytes = crate::up::rss_bytes();
    measured.rows = view.size().0;
    (measured.counted, measured.wanted) = (sums.edges, measured.events as i64);
    Ok(measured)
}

type Ticks = Vec<(u64, Vec<Vec<weir_types::RecordBatch>>)>;

/// The batches of each tick of a second, by template.
fn next_second(rig: &mut Rig, second: u64, copies: u64) -> Ticks {
    let mut ticks: Ticks = Vec::new();
    for template in &mut rig.templates {
        let events = template.generator.second(tick_unix_ns(ORIGIN_MS), second);
        for (at, (tick_ms, events)) in slices(&events, ORIGIN_MS + second * 1000).enumerate() {
            let copied: Vec<_> =
                events.iter().flat_map(|event| (0..copies).map(move |_| *event)).collect();
            if ticks.len() <= at {
                ticks.push((tick_ms, Vec::new()));
            }
            ticks[at].1.push(template.batcher.batches(&copied));
        }
    }
    ticks
}

/// Nodes take their rows in. Returns how many there are on all simulated ones.
fn admit(rig: &mut Rig, batches: Vec<Vec<weir_types::RecordBatch>>) -> u64 {
    let mut events = 0;
    for (number, (template, batches)) in rig.templates.iter_mut().zip(batches).enumerate() {
        let nodes = rig.nodes.iter().filter(|node| node.template == number).count() as u64;
        for batch in batches {
            events += nodes * batch.num_rows() as u64;
            template.node.core.admit("let_events", batch);
        }
    }
    events
}

/// Closes a tick on all nodes and hands it to the cluster part. Returns how long that was at work.
fn tick(rig: &mut Rig, tick_ms: u64, changes: &mut u64) -> anyhow::Result<u64> {
    rig.now_ms = tick_ms;
    let with_status = (tick_ms / TICK_MS).is_multiple_of(STATUS_EVERY_TICKS);
    let said: anyhow::Result<Vec<Vec<FromNode>>> =
        rig.templates.iter_mut().map(|template| template.close(tick_ms, with_status)).collect();
    let said = said?;
    for number in 0..rig.nodes.len() {
        for message in &said[rig.nodes[number].template] {
            if let Some(message) = as_said_by(&rig.nodes[number].epochs, message) {
                rig.say(number, message)?;
            }
        }
    }
    let before_ns = rig.cluster_thread_ns;
    *changes += rig.carry()?;
    Ok(rig.cluster_thread_ns - before_ns)
}

/// Waits for the view's frontier at a refresh.
fn answer(
    rig: &Rig,
    query: QueryId,
    tick_ms: u64,
    view: &mut ViewState,
) -> anyhow::Result<Vec<weir_sinks::delivery::Changes>> {
    loop {
        match rig.events.recv_timeout(STEP_TIMEOUT).context("the cluster part is stuck")? {
            EngineEvent::Rows { query: of, table, rows, .. } if of == query => {
                view.apply(&table, rows);
            }
            EngineEvent::Frontier { query: of, tick_ms: at } if of == query && at >= tick_ms => {
                return Ok(view.advance(tick_ms));
            }
            EngineEvent::Failed { message, .. } => bail!("a query failed: {message}"),
            _ => {}
        }
    }
}

/// The events that the view's edges count: each event of the window once.
struct Sums {
    types: Vec<weir_types::DataType>,
    count_at: usize,
    edges: i64,
}

impl Sums {
    fn new(view: &ViewState) -> Sums {
        let outputs = view.outputs();
        let edges = outputs.iter().find(|output| &*output.info.table == "edges");
        let relation = edges.map(|output| &output.info.relation);
        let count_at = relation
            .and_then(|relation| relation.columns.iter().position(|column| column.name == "n"));
        let types = relation.map(|relation| relation.types()).unwrap_or_default();
        Sums { types, count_at: count_at.unwrap_or(0), edges: 0 }
    }

    fn add(&mut self, changes: &[weir_sinks::delivery::Changes]) -> anyhow::Result<()> {
        for changes in changes.iter().filter(|changes| &*changes.output.info.table == "edges") {
            for (row, diff) in changes.rows.iter() {
                let values = row.unpack(&self.types).context("a row of other columns")?;
                let Value::Int64(count) = values[self.count_at] else { bail!("no count") };
                self.edges += count * diff;
            }
        }
        Ok(())
    }
}

fn report(args: &ClusterArgs, measured: &Measured) -> Json {
    let seconds = args.seconds as f64;
    let per_second = |value: u64| (value as f64 / seconds).round();
    json!({
        "verified": measured.counted == measured.wanted && measured.wanted > 0,
        "events": measured.events,
        "events_per_s": per_second(measured.events),
        "view_rows": measured.rows,
        "refreshes": measured.refreshes,
        "cpu_cores": (measured.cpu_ns as f64 / seconds / 1e9 * 1000.0).round() / 1000.0,
        "frontier_lag_ns": stats::quantiles_of(&measured.lag_ns),
        "bus_bytes": measured.bus_bytes,
        "bus_bytes_per_s": per_second(measured.bus_bytes),
        "changed_groups": measured.changes,
        "bus_bytes_per_changed_group":
            (measured.bus_bytes as f64 / measured.changes.max(1) as f64 * 10.0).round() / 10.0,
        "state_bytes": measured.state_bytes,
        "rss_bytes": measured.rss_bytes,
    })
}

pub(crate) fn run(args: &ClusterArgs) -> Result<(), Failure> {
    let is_within = (1..=4_096).contains(&args.nodes)
        && (1..=1_000_000).contains(&args.rate)
        && (1..=300).contains(&args.seconds)
        && args.services >= 40;
    if !is_within {
        let text = "--nodes is 1 to 4096, --rate 1 to 1000000, --seconds 1 to 300 (all stays in the window), \
                    --services at least 40";
        return Err(Failure::Usage(text.to_string()));
    }
    let measured = measure(args, 1)?;
    let mut told = report(args, &measured);
    if args.double {
        let twice = measure(args, 2)?;
        told["doubled"] = report(args, &twice);
        let ratio = twice.bus_bytes as f64 / measured.bus_bytes as f64;
        told["doubled_bus_bytes_ratio"] = json!((ratio * 1000.0).round() / 1000.0);
    }
    told["bench"] = json!("cluster");
    for (name, value) in [
        ("nodes", args.nodes as u64),
        ("services", args.services as u64),
        ("rate_per_node", args.rate),
        ("seconds", args.seconds),
        ("workers", args.workers as u64),
        ("refresh_ms", args.refresh_ms()),
        ("tick_ms", TICK_MS),
    ] {
        told[name] = json!(value);
    }
    output::line(&told.to_string())
}
