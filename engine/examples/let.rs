//! The LET workload against the engine alone, for profiling: `let [rate] [seconds] [workers]
//! [readers]`. Without readers the query receives its exchanges itself, else so many queries import them
//! from a feed. Prints nanoseconds of worker CPU per event once the five-minute window is full. `weir bench let`
//! measures the whole product and checks the answers; this is for finding out where time goes.
#![expect(clippy::print_stdout, reason = "a program that reports on its standard output")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use weir_engine::{Engine, EngineConfig, EngineEvent, FeedExchange, Install, Intake, Part};
use weir_types::plan::{
    AggCall, EndBound, Op, OpKind, Output, PLAN_VERSION, Scan, StartBound, Window,
};
use weir_types::schema::{Column, Relation};
use weir_types::shared::Shared;
use weir_types::split::{ClusterPlan, Labels, Shape, Source, SplitPlan, Step, TableScan};
use weir_types::{Clock, DataType, Expr, RecordBatch, SemanticType, Value, WallClock, tables};

const SEC_NS: i64 = 1_000_000_000;
const WINDOW: Window =
    Window { start: StartBound::Relative { window_ns: 300 * SEC_NS }, end: EndBound::Now };
const NODE: u64 = 1;
const CLUSTER: u64 = 2;

/// A small deterministic generator.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Zipf-like over n values.
    fn skewed(&mut self, n: f64) -> u64 {
        (n.powf(self.unit()) - 1.0) as u64
    }
}

fn batch(random: &mut Random, start_ns: i64, rows: i64) -> RecordBatch {
    let mut builder = tables::find("let_events").expect("the registry has it").builder();
    for row in 0..rows {
        let service = random.skewed(41.0);
        let latency = (1e6 * (-random.unit().ln()).exp()).min(1e10) as i64;
        builder.int64(0, start_ns + 1 + row * (SEC_NS / 10) / rows);
        builder.int64(1, latency);
        builder.int64(2, 100 + (random.next() % 900) as i64);
        builder.int64(3, 100 + (random.next() % 90_000) as i64);
        builder.string(4, format!("ns/pod-{}", random.next() % 200).as_bytes());
        builder.string(5, format!("ns/service-{service}").as_bytes());
        let remote = (service * 7 + random.next() % 5) % 40;
        builder.string(6, format!("ns/service-{remote}").as_bytes());
        builder.string(7, format!("/api/v1/endpoint-{}", random.skewed(21.0)).as_bytes());
        builder.int64(8, if random.unit() < 0.03 { 500 } else { 200 });
        builder.end_row();
    }
    builder.finish()
}

fn relation(columns: &[(&str, DataType)]) -> Relation {
    let column = |&(name, ty): &(&str, DataType)| Column::new(name, ty, SemanticType::None);
    Relation::new(columns.iter().map(column).collect())
}

fn agg(func: &str, arg: usize, data_type: DataType) -> AggCall {
    let func = func.to_string();
    AggCall { func, args: vec![arg], arg_types: vec![DataType::Int64], data_type, time: Some(0) }
}

fn split() -> SplitPlan {
    use DataType::{Int64, String, Time64Ns};
    let scanned = relation(&[
        ("time_", Time64Ns),
        ("latency", Int64),
        ("resp_size", Int64),
        ("service", String),
        ("remote", String),
        ("endpoint", String),
        ("status", Int64),
    ]);
    let columns: Vec<_> = scanned.columns.iter().map(|column| column.name.clone()).collect();
    let scan = Scan { table: "let_events".to_string(), columns, window: WINDOW };
    let scan = Shared::new(TableScan { scan, types: scanned.types() });
    let column = |idx: usize| Expr::Column { idx, data_type: scanned.columns[idx].data_type };
    let call = |func: &str, args, data_type| Expr::Call { func: func.to_string(), args, data_type };
    let int = |value| Expr::Literal(Value::Int64(value));
    let is_err = call("greaterThanEqual", vec![column(6), int(400)], DataType::Boolean);
    let err = call("select", vec![is_err, int(1), int(0)], Int64);
    let w = call("bin", vec![column(0), int(SEC_NS)], Time64Ns);
    let exprs = (0..6).map(column).chain([err, w]).collect();
    let steps = vec![Shared::new(Step::Map { exprs, labels: Labels::default() })];
    let four = vec![
        agg("count", 1, Int64),
        agg("sum", 6, Int64),
        agg("sum", 2, Int64),
        agg("quantiles", 1, String),
    ];
    let slowest = vec![agg("max", 1, Int64)];
    let shapes = [(vec![3, 5, 7], four.clone()), (vec![3, 4], four), (vec![3], slowest)];
    let (mut sources, mut ops, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for (exchange, (group, aggs)) in (0u32..).zip(shapes) {
        let shape = Shape::Partial { group, aggs };
        let source = Source { scan: scan.clone(), steps: steps.clone(), time: 0, shape };
        let types = source.received_types();
        let out = types.iter().map(|ty| Column::new("r", *ty, SemanticType::None)).collect();
        let (kind, inputs) = (OpKind::Scan(exchange), Vec::new());
        ops.push(Op { kind, inputs, relation: Relation::new(out) });
        outputs.push(Output { table: format!("{exchange}"), op: ops.len() - 1 });
        sources.push(source);
    }
    SplitPlan { sources, cluster: ClusterPlan { version: PLAN_VERSION, ops, outputs } }
}

/// Hands changes on until the queries' frontiers are at the tick; counts changed rows.
fn settle(engine: &Engine, events: &Receiver<EngineEvent>, of: &[u64], at_ms: u64) -> usize {
    let mut count = 0;
    let mut wait: BTreeSet<u64> = of.iter().copied().collect();
    while !wait.is_empty() {
        match events.recv().expect("the engine lives") {
            EngineEvent::Changes { exchange, tick_ms, changes, .. } => {
                engine.push_changes(CLUSTER, exchange, tick_ms, changes);
            }
            EngineEvent::Rows { rows, .. } => count += rows.len(),
            EngineEvent::Frontier { query, tick_ms } if tick_ms == at_ms => {
                wait.remove(&query);
            }
            EngineEvent::Failed { message, .. } => panic!("{message}"),
            _ => {}
        }
    }
    count
}

/// Installs both parts, and the readers. Gives the queries that answer.
fn install(engine: &Engine, readers: u64) -> Vec<u64> {
    let split = split();
    let (refresh_ms, start_tick_ms) = (1000, 1_000_000);
    let install =
        |query, part| engine.install(Install::new(query, part, refresh_ms, start_tick_ms));
    install(NODE, Part::Node(Arc::new(split.node())));
    if readers == 0 {
        install(CLUSTER, Part::alone(&split));
        return vec![CLUSTER];
    }
    install(CLUSTER, Part::Feed(split.sources.clone()));
    let queries: Vec<u64> = (1..=readers).map(|reader| CLUSTER + reader).collect();
    let plan = Arc::new(split.cluster);
    for &query in &queries {
        let at = |exchange| Intake::Feed(FeedExchange { feed: CLUSTER, exchange });
        let sources = (0..).take(split.sources.len()).map(at).collect();
        install(query, Part::Query { plan: Arc::clone(&plan), sources });
    }
    queries
}

fn main() {
    let arg = |at: usize, default: u64| {
        std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (rate, seconds, workers) = (arg(1, 25_000), arg(2, 360), arg(3, 1));
    let (sender, events) = channel();
    let emit = Arc::new(move |event| {
        let _ = sender.send(event);
    });
    let workers = usize::try_from(workers).unwrap_or(1);
    let config = EngineConfig { workers, ..EngineConfig::new("let") };
    let engine = Engine::start(config, emit).expect("threads start");
    let queries = install(&engine, arg(4, 0));
    let clock = WallClock;
    let cpu = |engine: &Engine| -> u64 { engine.stats().workers.iter().map(|w| w.cpu_ns).sum() };
    let mut random = Random(42);
    let full = seconds.saturating_sub(60);
    let (mut cpu_from, mut node_from, mut changed) = (0, 0, 0);
    let (mut ticks_ns, mut of_query) = (Vec::new(), [0u64; 2]);
    for second in 0..seconds {
        if second == full {
            (cpu_from, changed) = (cpu(&engine), 0);
            of_query = [0, 1].map(|at| engine.stats().queries[at].cpu_ns);
        }
        let mut start_ns = 0;
        for part in 0..10 {
            let at_ms = 1_000_000 + second * 1000 + part * 100;
            let rows = i64::try_from(rate / 10).unwrap_or(1);
            let batch = batch(&mut random, i64::try_from(at_ms).unwrap_or(0) * 1_000_000, rows);
            engine.push_rows("let_events", batch);
            start_ns = clock.monotonic_ns();
            engine.close_tick(at_ms + 100);
        }
        let at_ms = 1_000_000 + second * 1000 + 1000;
        changed += settle(&engine, &events, &[NODE], at_ms);
        node_from += clock.monotonic_ns() - start_ns;
        engine.close_query_tick(CLUSTER, at_ms);
        changed += settle(&engine, &events, &queries, at_ms);
        ticks_ns.push(clock.monotonic_ns() - start_ns);
    }
    let measured = (seconds - full) * rate;
    let stats = engine.stats();
    let mut last = ticks_ns.split_off(usize::try_from(full).unwrap_or(0));
    last.sort_unstable();
    println!("worker CPU ns/event {}", (cpu(&engine) - cpu_from) / measured);
    for (at, name) in ["node", "cluster"].iter().enumerate() {
        let spent_ns = stats.queries[at].cpu_ns - of_query[at];
        println!("  {name} operators ns/event {}", spent_ns / measured);
        println!("  {name} state MB {}", stats.queries[at].state_bytes >> 20);
    }
    println!("tick to change ms p50 {:.2}", last[last.len() / 2] as f64 / 1e6);
    println!("tick to change ms max {:.2}", last[last.len() - 1] as f64 / 1e6);
    println!("  of which node ms mean {:.2}", node_from as f64 / seconds as f64 / 1e6);
    println!("changed rows per tick {}", changed as u64 / (seconds - full));
}
