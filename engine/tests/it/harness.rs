//! A node part and a cluster part in one engine, joined by the test as a server would do it, and small
//! builders for parts and rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use weir_engine::{
    Engine, EngineConfig, EngineEvent, FeedExchange, Install, Intake, Mesh, Part, QueryId,
};
use weir_types::plan::{
    AggCall, EndBound, JoinKind, Op, OpId, OpKind, Output, PLAN_VERSION, Scan, Side, StartBound,
    Window,
};
use weir_types::schema::{Column, Relation};
use weir_types::shared::Shared;
use weir_types::split::{
    ClusterPlan, ExchangeId, Labels, NodeOp, NodePlan, Send, Shape, Source, Step, TableScan,
};
use weir_types::{BatchBuilder, DataType, Expr, PackedRow, RecordBatch, SemanticType, Value};

pub(crate) const SEC_NS: i64 = 1_000_000_000;
pub(crate) const TABLE: &str = "events";
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The test table: time_, k (STRING), v (INT64).
pub(crate) fn events() -> Relation {
    relation(&[("time_", DataType::Time64Ns), ("k", DataType::String), ("v", DataType::Int64)])
}

pub(crate) fn relation(columns: &[(&str, DataType)]) -> Relation {
    let column = |&(name, ty): &(&str, DataType)| Column::new(name, ty, SemanticType::None);
    Relation::new(columns.iter().map(column).collect())
}

/// (time in ms, k, v)
pub(crate) type Event = (i64, &'static str, i64);

pub(crate) fn batch(rows: &[Event]) -> RecordBatch {
    let mut builder = BatchBuilder::with_dictionaries(&events(), &[1]);
    for &(time_ms, k, v) in rows {
        builder.int64(0, time_ms * 1_000_000);
        builder.string(1, k.as_bytes());
        builder.int64(2, v);
        builder.end_row();
    }
    builder.finish()
}

pub(crate) fn sliding(seconds: i64) -> Window {
    Window { start: StartBound::Relative { window_ns: seconds * SEC_NS }, end: EndBound::Now }
}

pub(crate) fn column(idx: usize, data_type: DataType) -> Expr {
    Expr::Column { idx, data_type }
}

pub(crate) fn call(func: &str, args: Vec<Expr>, data_type: DataType) -> Expr {
    Expr::Call { func: func.to_string(), args, data_type }
}

pub(crate) fn int(value: i64) -> Expr {
    Expr::Literal(Value::Int64(value))
}

/// An aggregate of INT64 columns.
pub(crate) fn agg(func: &str, arg: usize, time: Option<usize>) -> AggCall {
    let data_type = match func {
        "quantiles" => DataType::String,
        "mean" => DataType::Float64,
        _ => DataType::Int64,
    };
    AggCall {
        func: func.to_string(),
        args: vec![arg],
        arg_types: vec![DataType::Int64],
        data_type,
        time,
    }
}

/// What a test's operator is: of the node or of the cluster part.
#[derive(Clone)]
enum Kind {
    Scan(Window),
    Send { exchange: u32, shape: Shape },
    Receive { exchange: u32, shape: Shape, window: Window },
    Op(OpKind<ExchangeId>),
    Output(String),
}

/// Builds a part operator by operator: with a scan it is a node's, else a query's or a feed's.
#[derive(Clone, Default)]
pub(crate) struct Plan(Vec<(Kind, Vec<OpId>, Relation)>);

/// Rows of the test table, as a node sends them without doing anything to them.
fn source(window: Window, shape: Shape) -> Source {
    Source { scan: table_scan(window), steps: Vec::new(), time: 0, shape }
}

fn table_scan(window: Window) -> Shared<TableScan> {
    let columns = events().columns.into_iter().map(|column| column.name).collect();
    let scan = Scan { table: TABLE.to_string(), columns, window };
    Shared::new(TableScan { scan, types: events().types() })
}

impl Plan {
    pub(crate) fn part(&self) -> Part {
        let sources = self.sources();
        if self.0.iter().any(|(kind, ..)| matches!(kind, Kind::Scan(_))) {
            return Part::Node(Arc::new(self.node()));
        }
        let sources = sources.into_iter().map(Intake::Own).collect();
        Part::Query { plan: Arc::new(self.cluster()), sources }
    }

    /// What it receives, by exchange.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let mut sources = BTreeMap::new();
        for (kind, ..) in &self.0 {
            if let Kind::Receive { exchange, shape, window } = kind {
                sources.insert(*exchange, source(*window, shape.clone()));
            }
        }
        assert!((0..).zip(sources.keys()).all(|(at, exchange)| at == *exchange), "numbered");
        sources.into_values().collect()
    }

    fn node(&self) -> NodePlan {
        let mut plan = NodePlan::default();
        let mut numbers = BTreeMap::new();
        for (at, (kind, inputs, _)) in self.0.iter().enumerate() {
            let below = || numbers[&inputs[0]];
            let op = match kind {
                Kind::Scan(window) => NodeOp::Scan(table_scan(*window)),
                Kind::Op(OpKind::Filter { predicate }) => NodeOp::Step {
                    below: below(),
                    step: Shared::new(Step::Filter(predicate.clone())),
                },
                Kind::Op(OpKind::Map { exprs }) => {
                    let (exprs, labels) = (exprs.clone(), Labels::default());
                    NodeOp::Step { below: below(), step: Shared::new(Step::Map { exprs, labels }) }
                }
                Kind::Send { exchange, shape } => {
                    assert_eq!(*exchange as usize, plan.sends.len(), "in order");
                    plan.sends.push(Send { from: below(), time: 0, shape: shape.clone() });
                    continue;
                }
                _ => panic!("not on a node"),
            };
            numbers.insert(at, plan.ops.len());
            plan.ops.push(op);
        }
        plan
    }

    fn cluster(&self) -> ClusterPlan {
        let (version, ops, outputs) = (PLAN_VERSION, Vec::new(), Vec::new());
        let mut plan = ClusterPlan { version, ops, outputs };
        let mut numbers = BTreeMap::new();
        for (at, (kind, inputs, relation)) in self.0.iter().enumerate() {
            let inputs: Vec<OpId> = inputs.iter().map(|input| numbers[input]).collect();
            let kind = match kind {
                Kind::Receive { exchange, .. } => OpKind::Scan(*exchange),
                Kind::Op(kind) => kind.clone(),
                Kind::Output(table) => {
                    plan.outputs.push(Output { table: table.clone(), op: inputs[0] });
                    continue;
                }
                Kind::Scan(_) | Kind::Send { .. } => panic!("not in the cluster part"),
            };
            numbers.insert(at, plan.ops.len());
            plan.ops.push(Op { kind, inputs, relation: relation.clone() });
        }
        plan
    }

    pub(crate) fn op(
        &mut self,
        kind: OpKind<ExchangeId>,
        inputs: &[OpId],
        relation: Relation,
    ) -> OpId {
        self.add(Kind::Op(kind), inputs, relation)
    }
    fn add(&mut self, kind: Kind, inputs: &[OpId], relation: Relation) -> OpId {
        self.0.push((kind, inputs.to_vec(), relation));
        self.0.len() - 1
    }
    fn relation(&self, op: OpId) -> Relation {
        self.0[op].2.clone()
    }
    pub(crate) fn scan(&mut self, window: Window) -> OpId {
        self.add(Kind::Scan(window), &[], events())
    }
    pub(crate) fn filter(&mut self, input: OpId, predicate: Expr) -> OpId {
        let relation = self.relation(input);
        self.op(OpKind::Filter { predicate }, &[input], relation)
    }
    pub(crate) fn map(&mut self, input: OpId, columns: &[(&str, Expr)]) -> OpId {
        let types: Vec<_> = columns.iter().map(|(name, e)| (*name, e.data_type())).collect();
        let exprs = columns.iter().map(|(_, expr)| expr.clone()).collect();
        self.op(OpKind::Map { exprs }, &[input], relation(&types))
    }
    pub(crate) fn send(&mut self, input: OpId, exchange: u32, shape: Shape) {
        let relation = self.relation(input);
        self.add(Kind::Send { exchange, shape }, &[input], relation);
    }
    pub(crate) fn receive_rows(
        &mut self,
        exchange: u32,
        window: Window,
        rows_max: Option<u64>,
    ) -> OpId {
        let shape = Shape::Rows { rows_max };
        let kind = Kind::Receive { exchange, shape, window };
        self.add(kind, &[], events())
    }
    pub(crate) fn receive_partial(
        &mut self,
        window: Window,
        group: &[usize],
        aggs: &[AggCall],
    ) -> OpId {
        let shape = Shape::Partial { group: group.to_vec(), aggs: aggs.to_vec() };
        let kind = Kind::Receive { exchange: 0, shape, window };
        self.add(kind, &[], agg_relation(&events(), group, aggs))
    }
    pub(crate) fn aggregate(&mut self, input: OpId, group: &[usize], aggs: &[AggCall]) -> OpId {
        let relation = agg_relation(&self.relation(input), group, aggs);
        let kind = OpKind::Aggregate { group: group.to_vec(), aggs: aggs.to_vec() };
        self.op(kind, &[input], relation)
    }
    pub(crate) fn join(
        &mut self,
        (left, right): (OpId, OpId),
        how: JoinKind,
        on: &[usize],
        columns: &[(Side, usize)],
    ) -> OpId {
        let of = |&(side, idx): &(Side, usize)| {
            self.relation(if side == Side::Left { left } else { right }).columns[idx].clone()
        };
        let relation = Relation::new(columns.iter().map(of).collect());
        let (left_on, right_on) = (on.to_vec(), on.to_vec());
        let kind = OpKind::Join { how, left_on, right_on, columns: columns.to_vec() };
        self.op(kind, &[left, right], relation)
    }
    pub(crate) fn union(&mut self, inputs: &[OpId]) -> OpId {
        let relation = self.relation(inputs[0]);
        self.op(OpKind::Union, inputs, relation)
    }
    pub(crate) fn limit(&mut self, input: OpId, rows_max: u64) -> OpId {
        let relation = self.relation(input);
        self.op(OpKind::Limit { rows_max }, &[input], relation)
    }
    pub(crate) fn output(&mut self, input: OpId, table: &str) {
        let relation = self.relation(input);
        self.add(Kind::Output(table.to_string()), &[input], relation);
    }
}

/// To install a part as it is, refreshed once a second.
pub(crate) fn install_of(query: QueryId, plan: &Plan, start_tick_ms: u64) -> Install {
    Install::new(query, plan.part(), 1000, start_tick_ms)
}

fn agg_relation(input: &Relation, group: &[usize], aggs: &[AggCall]) -> Relation {
    let groups = group.iter().map(|&idx| input.columns[idx].clone());
    let results = aggs.iter().enumerate().map(|(at, call)| {
        Column::new(format!("{}{at}", call.func), call.data_type, SemanticType::None)
    });
    Relation::new(groups.chain(results).collect())
}

/// Node and cluster part of `scan → rows`, for the cluster part to go on with.
pub(crate) fn raw_rows(window: Window, rows_max: Option<u64>) -> (Plan, Plan, OpId) {
    let mut node = Plan::default();
    let scan = node.scan(window);
    node.send(scan, 0, Shape::Rows { rows_max });
    let mut cluster = Plan::default();
    let rows = cluster.receive_rows(0, window, rows_max);
    (node, cluster, rows)
}

/// Both parts of `scan → aggregate → output "out"`.
pub(crate) fn aggregated(window: Window, group: &[usize], aggs: &[AggCall]) -> (Plan, Plan) {
    let mut node = Plan::default();
    let scan = node.scan(window);
    let shape = Shape::Partial { group: group.to_vec(), aggs: aggs.to_vec() };
    node.send(scan, 0, shape);
    let mut cluster = Plan::default();
    let groups = cluster.receive_partial(window, group, aggs);
    cluster.output(groups, "out");
    (node, cluster)
}

pub(crate) fn config(workers: usize) -> EngineConfig {
    EngineConfig { workers, test_faults: true, ..EngineConfig::new("test") }
}

/// An engine with its events.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) events: Receiver<EngineEvent>,
    refresh_ms: u64,
    /// Cluster query → (its output tables' relations, its views).
    views: BTreeMap<(QueryId, String), (Relation, BTreeMap<PackedRow, i64>)>,
    installed: BTreeSet<QueryId>,
    /// Feeds: what runs on the node for other queries. They have no frontier of their own.
    feeds: BTreeSet<QueryId>,
    tolerated: Option<QueryId>,
    /// Another process that reads what nodes send.
    pub(crate) reader: Option<Mesh>,
    /// Events of `Rows` since they were last taken.
    pub(crate) row_events: usize,
}

const NODE_OF: QueryId = 1_000_000;

impl Rig {
    pub(crate) fn new(config: EngineConfig, refresh_ms: u64) -> Rig {
        let (sender, events) = channel();
        let emit = Arc::new(move |event| {
            let _ = sender.send(event);
        });
        let engine = Engine::start(config, emit).expect("threads start");
        let (views, installed, feeds) = Default::default();
        let tolerated = None;
        let reader = None;
        Rig {
            engine,
            events,
            refresh_ms,
            views,
            installed,
            feeds,
            tolerated,
            reader,
            row_events: 0,
        }
    }

    pub(crate) fn install(
        &mut self,
        query: QueryId,
        node: Plan,
        cluster: Plan,
        start_tick_ms: u64,
    ) {
        self.expect_outputs(query, &cluster);
        self.install_parts(query, &node, cluster.part(), start_tick_ms);
        self.installed.insert(query);
    }

    fn expect_outputs(&mut self, query: QueryId, cluster: &Plan) {
        for (kind, _, relation) in &cluster.0 {
            if let Kind::Output(table) = kind {
                let view = (relation.clone(), BTreeMap::new());
                self.views.insert((query, table.clone()), view);
            }
        }
    }

    fn install_parts(&self, query: QueryId, node: &Plan, part: Part, start_tick_ms: u64) {
        let refresh_ms = self.refresh_ms;
        let node = Part::Node(Arc::new(node.node()));
        for (query, part) in [(query, part), (query + NODE_OF, node)] {
            self.engine.install(Install::new(query, part, refresh_ms, start_tick_ms));
        }
    }

    /// A feed of exchange 0.
    pub(crate) fn install_feed(
        &mut self,
        feed: QueryId,
        node: Plan,
        cluster: Plan,
        start_tick_ms: u64,
    ) {
        self.install_parts(feed, &node, Part::Feed(cluster.sources()), start_tick_ms);
        self.feeds.insert(feed);
    }

    /// A query whose exchange 0 is that of the feed.
    pub(crate) fn install_reader(
        &mut self,
        query: QueryId,
        cluster: Plan,
        feed: QueryId,
        start_tick_ms: u64,
    ) {
        self.expect_outputs(query, &cluster);
        let sources = vec![Intake::Feed(FeedExchange { feed, exchange: 0 })];
        let part = Part::Query { plan: Arc::new(cluster.cluster()), sources };
        let refresh_ms = self.refresh_ms;
        self.engine.install(Install::new(query, part, refresh_ms, start_tick_ms));
        self.installed.insert(query);
    }

    /// No longer waits for a query, because it has failed or is about to.
    pub(crate) fn forget(&mut self, query: QueryId) {
        self.installed.remove(&query);
        self.feeds.remove(&query);
    }

    pub(crate) fn remove(&mut self, query: QueryId) {
        self.installed.remove(&query);
        self.feeds.remove(&query);
        self.engine.remove(query);
        self.engine.remove(query + NODE_OF);
    }

    pub(crate) fn push(&self, rows: &[Event]) {
        self.engine.push_rows(TABLE, batch(rows));
    }

    /// Stops the engine; what it has said and nobody took.
    pub(crate) fn into_events(self) -> Receiver<EngineEvent> {
        drop(self.engine);
        self.events
    }

    pub(crate) fn event(&self) -> EngineEvent {
        self.events.recv_timeout(WAIT_MAX).expect("the engine answers")
    }

    /// Closes a tick on both sides and takes in everything up to the queries' frontiers.
    pub(crate) fn tick(&mut self, tick_ms: u64) {
        self.engine.close_tick(tick_ms);
        let running = self.engine.stats().queries.into_iter().map(|query| query.query);
        let mut wait: BTreeSet<QueryId> = running.filter(|&query| query > NODE_OF).collect();
        while !wait.is_empty() {
            self.take(tick_ms, &mut wait);
        }
        for &query in self.feeds.iter().chain(&self.installed) {
            self.engine.close_query_tick(query, tick_ms);
        }
        let mut wait = self.installed.clone();
        while !wait.is_empty() {
            self.take(tick_ms, &mut wait);
        }
    }

    /// Takes in what is said until a query's frontier, without closing a tick.
    pub(crate) fn take_until_frontier(&mut self, query: QueryId, tick_ms: u64) {
        let mut wait = BTreeSet::from([query]);
        while !wait.is_empty() {
            self.take(tick_ms, &mut wait);
        }
    }

    /// The query may fail.
    pub(crate) fn tolerate(&mut self, query: QueryId) {
        self.tolerated = Some(query);
    }

    fn take(&mut self, tick_ms: u64, wait: &mut BTreeSet<QueryId>) {
        match self.event() {
            EngineEvent::Changes { query, exchange, tick_ms, changes, .. } => {
                let feed = query - NODE_OF;
                let Some(reader) = &self.reader else {
                    return self.engine.push_changes(feed, exchange, tick_ms, changes);
                };
                let number = reader.deposits().put("node", changes).expect("there is room");
                let at = (reader.process(), number);
                self.engine.take_deposit(feed, exchange, tick_ms, at);
            }
            EngineEvent::Rows { query, table, rows, .. } => {
                self.row_events += 1;
                let (_, view) =
                    self.views.get_mut(&(query, table.to_string())).expect("an output of the plan");
                for (row, diff) in rows {
                    let count = view.entry(row.clone()).or_insert(0);
                    *count += diff;
                    if *count == 0 {
                        view.remove(&row);
                    }
                }
            }
            EngineEvent::Frontier { query, tick_ms: at } if at == tick_ms => {
                wait.remove(&query);
            }
            EngineEvent::Frontier { .. } | EngineEvent::Removed { .. } => {}
            EngineEvent::Failed { query, .. } if self.tolerated == Some(query) => {}
            EngineEvent::Failed { query, message } => panic!("query {query} failed: {message}"),
            EngineEvent::Died { message, .. } => panic!("the engine died: {message}"),
        }
    }

    /// The rows of an output, in order, each as often as it is there.
    pub(crate) fn view(&self, query: QueryId, table: &str) -> Vec<Vec<Value>> {
        let (relation, view) = &self.views[&(query, table.to_string())];
        let types = relation.types();
        let mut out = Vec::new();
        for (row, &count) in view {
            assert!(count > 0, "a negative count is never seen after a frontier");
            let values = row.unpack(&types).expect("the row fits its relation");
            out.extend(std::iter::repeat_n(values, usize::try_from(count).expect("positive")));
        }
        out
    }

    /// The view of query 1 as text, a row a line: for short comparisons.
    pub(crate) fn text(&self) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::Int64(v) => v.to_string(),
            Value::Time64Ns(v) => format!("{}ms", v / 1_000_000),
            Value::String(v) => String::from_utf8_lossy(v).into_owned(),
            Value::Float64(v) => v.to_string(),
            other => format!("{other:?}"),
        };
        let row = |row: &Vec<Value>| row.iter().map(text).collect::<Vec<_>>().join(" ");
        self.view(1, "out").iter().map(row).collect()
    }
}
