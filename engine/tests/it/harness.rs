//! A node fragment and a cluster fragment in one engine, joined by the test as a server would do it,
//! and small builders for fragments and rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use weir_engine::{Engine, EngineConfig, EngineEvent, FeedExchange, Install, QueryId};
use weir_types::plan::{AggCall, EndBound, JoinKind, OpId, OpKind, Side, StartBound, Window};
use weir_types::schema::{Column, Relation};
use weir_types::split::{Fragment, FragmentKind, FragmentOp, Shape};
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

/// Builds a fragment operator by operator.
#[derive(Clone, Default)]
pub(crate) struct Plan(pub(crate) Fragment);

impl Plan {
    pub(crate) fn add(&mut self, kind: FragmentKind, inputs: &[OpId], relation: Relation) -> OpId {
        let pos = self.0.ops.len();
        let hash = pos as u64 + 1;
        self.0.ops.push(FragmentOp { kind, inputs: inputs.to_vec(), relation, hash });
        pos
    }
    fn relation(&self, op: OpId) -> Relation {
        self.0.ops[op].relation.clone()
    }
    pub(crate) fn scan(&mut self, window: Window) -> OpId {
        let columns = events().columns.into_iter().map(|column| column.name).collect();
        let kind = OpKind::Scan { table: TABLE.to_string(), columns, window };
        self.add(FragmentKind::Plan(kind), &[], events())
    }
    pub(crate) fn filter(&mut self, input: OpId, predicate: Expr) -> OpId {
        let relation = self.relation(input);
        self.add(FragmentKind::Plan(OpKind::Filter { predicate }), &[input], relation)
    }
    pub(crate) fn map(&mut self, input: OpId, columns: &[(&str, Expr)]) -> OpId {
        let types: Vec<_> = columns.iter().map(|(name, e)| (*name, e.data_type())).collect();
        let exprs = columns.iter().map(|(_, expr)| expr.clone()).collect();
        self.add(FragmentKind::Plan(OpKind::Map { exprs }), &[input], relation(&types))
    }
    pub(crate) fn send(&mut self, input: OpId, exchange: u32, shape: Shape, window: Window) {
        let kind = FragmentKind::Send { exchange, shape, window, time: 0 };
        let relation = self.relation(input);
        self.add(kind, &[input], relation);
    }
    pub(crate) fn receive_rows(
        &mut self,
        exchange: u32,
        window: Window,
        rows_max: Option<u64>,
    ) -> OpId {
        let shape = Shape::Rows { rows_max };
        let kind = FragmentKind::Receive { exchange, shape, window, input: events() };
        self.add(kind, &[], events())
    }
    pub(crate) fn receive_partial(
        &mut self,
        window: Window,
        group: &[usize],
        aggs: &[AggCall],
    ) -> OpId {
        let shape = Shape::Partial { group: group.to_vec(), aggs: aggs.to_vec() };
        let kind = FragmentKind::Receive { exchange: 0, shape, window, input: events() };
        self.add(kind, &[], agg_relation(&events(), group, aggs))
    }
    pub(crate) fn aggregate(&mut self, input: OpId, group: &[usize], aggs: &[AggCall]) -> OpId {
        let relation = agg_relation(&self.relation(input), group, aggs);
        let kind = OpKind::Aggregate { group: group.to_vec(), aggs: aggs.to_vec() };
        self.add(FragmentKind::Plan(kind), &[input], relation)
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
        self.add(FragmentKind::Plan(kind), &[left, right], relation)
    }
    pub(crate) fn union(&mut self, inputs: &[OpId]) -> OpId {
        let relation = self.relation(inputs[0]);
        self.add(FragmentKind::Plan(OpKind::Union), inputs, relation)
    }
    pub(crate) fn limit(&mut self, input: OpId, rows_max: u64) -> OpId {
        let relation = self.relation(input);
        self.add(FragmentKind::Plan(OpKind::Limit { rows_max }), &[input], relation)
    }
    pub(crate) fn output(&mut self, input: OpId, table: &str) {
        let kind = FragmentKind::Output { table: table.to_string() };
        let relation = self.relation(input);
        self.add(kind, &[input], relation);
    }
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
    node.send(scan, 0, Shape::Rows { rows_max }, window);
    let mut cluster = Plan::default();
    let rows = cluster.receive_rows(0, window, rows_max);
    (node, cluster, rows)
}

/// Both parts of `scan → aggregate → output "out"`.
pub(crate) fn aggregated(window: Window, group: &[usize], aggs: &[AggCall]) -> (Plan, Plan) {
    let mut node = Plan::default();
    let scan = node.scan(window);
    let shape = Shape::Partial { group: group.to_vec(), aggs: aggs.to_vec() };
    node.send(scan, 0, shape, window);
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
        Rig { engine, events, refresh_ms, views, installed, feeds, tolerated, row_events: 0 }
    }

    pub(crate) fn install(
        &mut self,
        query: QueryId,
        node: Plan,
        cluster: Plan,
        start_tick_ms: u64,
    ) {
        self.expect_outputs(query, &cluster);
        self.install_parts(query, node, cluster, start_tick_ms);
        self.installed.insert(query);
    }

    fn expect_outputs(&mut self, query: QueryId, cluster: &Plan) {
        for op in &cluster.0.ops {
            if let FragmentKind::Output { table } = &op.kind {
                let view = (op.relation.clone(), BTreeMap::new());
                self.views.insert((query, table.clone()), view);
            }
        }
    }

    fn install_parts(&self, query: QueryId, node: Plan, cluster: Plan, start_tick_ms: u64) {
        let refresh_ms = self.refresh_ms;
        for (query, fragment) in [(query, cluster.0), (query + NODE_OF, node.0)] {
            let fragment = Arc::new(fragment);
            self.engine.install(Install::new(query, fragment, refresh_ms, start_tick_ms));
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
        self.install_parts(feed, node, cluster, start_tick_ms);
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
        let imports = [(0, FeedExchange { feed, exchange: 0 })].into();
        let fragment = Arc::new(cluster.0);
        let install = Install::new(query, fragment, self.refresh_ms, start_tick_ms);
        self.engine.install(Install { imports, ..install });
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
                self.engine.push_changes(query - NODE_OF, exchange, tick_ms, changes);
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
