//! Equal sub-plans of different queries are maintained once, by way of the real coordinator, nodes, bus
//! and engines.

use std::cell::Cell;
use std::collections::BTreeMap;

use weir_dataflow_tests::check::check;
use weir_dataflow_tests::drive::{
    Coordinated, DriveError, Query, compare_coordinated, difference, pushed_split,
};
use weir_dataflow_tests::generate::rows::{self, SEC_NS};
use weir_dataflow_tests::generate::{self, Style};
use weir_dataflow_tests::model::{Arrived, Table, World, evaluate};
use weir_types::plan::{OpKind, Output};
use weir_types::{BatchBuilder, Op, Plan, Value};

use crate::support::BASE_MS;

const TABLE: &str = "let_events";

/// The same plan with a limit above every output: below it, all can be shared.
fn limited(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for output in &mut plan.outputs {
        let relation = plan.ops[output.op].relation.clone();
        plan.ops.push(Op {
            kind: OpKind::Limit { rows_max: 3 },
            inputs: vec![output.op],
            relation,
        });
        *output = Output { table: output.table.clone(), op: plan.ops.len() - 1 };
    }
    plan
}

/// Random plans, one of them again and again with a limit above or with a longer refresh, installed at
/// different ticks, while the first of them is removed: each equals the model at every frontier, with one and two workers and
/// nodes. Catches a first state that is lost, repeated or of another tick, readers that disturb each
/// other, and a feed that ends while somebody reads it.
#[test]
fn shared_queries_equal_the_model() {
    let (total, shared, cases) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let four = (
        generate::case(Style::Compiled, 40),
        generate::case(Style::Compiled, 1),
        proptest::array::uniform5(0usize..12),
    );
    check(200, four, |(case, other, when)| {
        let plans = [&case.plan, &limited(&case.plan), &other.plan, &case.plan];
        let splits = plans.map(pushed_split);
        let ticks = case.feed.ticks_ms.len();
        let queries: Vec<Query<'_>> = plans
            .into_iter()
            .zip(&splits)
            .zip(when)
            .zip([1, when[0] as u64 % 4 + 1, 1, when[1] as u64 % 3 + 1])
            .map(|(((plan, split), after), refresh_times)| {
                let installed_after = after % ticks;
                Query { plan, split, installed_after, refresh_times }
            })
            .collect();
        let (compared, sharing) = compare_coordinated(&queries, when[4], &case.world, &case.feed)?;
        total.set(total.get() + compared.rows);
        shared.set(shared.get() + sharing);
        cases.set(cases.get() + 1);
        Ok::<_, DriveError>(())
    });
    let (rows, sharing, cases) = (total.get(), shared.get(), cases.get());
    assert!(rows > 20 * cases, "hardly anything was compared: {rows} rows in {cases} cases");
    assert!(2 * sharing > cases, "hardly anything was shared: {sharing} times in {cases} cases");
}

/// A window over the demo's events, grouped by service, and whatever comes after.
fn script(rest: &str) -> Plan {
    let text = format!(
        "import px\ndf = px.DataFrame('let_events', start_time='-30s')\n\
         df = df.groupby('service').agg(n=('latency', px.count), most=('latency', px.max))\n\
         {rest}\npx.display(df, 'out')\n"
    );
    let script = weir_pxl::Script { name: "shared", text: &text, vis: None };
    let compiled = weir_pxl::compile(&script, &weir_pxl::CompileOptions::default());
    compiled.unwrap_or_else(|why| panic!("{text}: {why:?}")).plan
}

/// Twenty of them, all different above the same aggregate.
fn twenty() -> Vec<Plan> {
    let filters = (0..10).map(|n| script(&format!("df = df[df.n > {n}]")));
    let maps = (0..10).map(|n| script(&format!("df.more = df.most + {n}")));
    filters.chain(maps).collect()
}

/// `count` events that arrive at the tick.
fn events(tick_ms: u64, count: usize) -> Vec<Arrived> {
    let relation = rows::relation(TABLE);
    let time_unix_ns = tick_ms as i64 * 1_000_000;
    let event = |number: usize| {
        let value = |column: &weir_types::Column| match column.name.as_str() {
            "time_" => Value::Time64Ns(time_unix_ns - number as i64),
            "service" => Value::str(&format!("s{}", number % 7)),
            "latency" => Value::Int64((number * 7919 % 1000) as i64),
            _ => column.data_type.zero(),
        };
        Arrived { arrival_unix_ns: time_unix_ns, row: relation.columns.iter().map(value).collect() }
    };
    (0..count).map(event).collect()
}

/// A rig over the events, and all that it was given.
struct Demo {
    rig: Coordinated,
    world: World,
    tick_ms: u64,
}

impl Demo {
    fn start(workers: usize) -> Demo {
        let table = Table { relation: rows::relation(TABLE), rows: Vec::new() };
        let world = World { tables: [(TABLE.to_string(), table)].into(), ..World::default() };
        let rig = Coordinated::start(1, workers, Some(3600 * SEC_NS), &world.metadata);
        Demo { rig: rig.expect("engines start"), world, tick_ms: BASE_MS }
    }

    fn tick(&mut self, rows: usize) {
        self.tick_ms += 1000;
        let arrived = events(self.tick_ms, rows);
        let mut builder = BatchBuilder::new(&rows::relation(TABLE));
        for row in &arrived {
            row.row.iter().enumerate().for_each(|(idx, value)| builder.value(idx, value));
            builder.end_row();
        }
        self.rig.admit(0, TABLE, vec![builder.finish()]);
        self.world.tables.get_mut(TABLE).expect("the table").rows.extend(arrived);
        self.rig.close_tick(self.tick_ms).expect("a tick");
    }

    fn install(&mut self, plan: &Plan) -> u64 {
        self.install_every(plan, 1000)
    }

    fn install_every(&mut self, plan: &Plan, refresh_ms: u64) -> u64 {
        self.rig.install(&weir_pxl::split(plan), refresh_ms).expect("an installed query")
    }

    #[track_caller]
    fn check(&self, query: u64, plan: &Plan) {
        let frontier_ms = self.rig.frontier_ms(query).expect("a frontier");
        let now_unix_ns = frontier_ms as i64 * 1_000_000;
        let expected = evaluate(plan, &self.world, now_unix_ns).expect("a plan of the model");
        let types = plan.ops[plan.outputs[0].op].relation.types();
        let have = self.rig.views(query).remove("out").unwrap_or_default();
        assert!(!expected["out"].is_empty(), "something is to be seen");
        if let Some(wrong) = difference(&expected["out"], &have, &types) {
            panic!("query {query} at {frontier_ms}:\n{wrong}");
        }
    }
}

/// The Nth reader costs its deltas: with twenty queries over one aggregate the nodes scan and the
/// windows keep what they do for one. Catches a node part or a window of each query's own.
#[test]
fn twenty_queries_cost_one_aggregate() {
    let plans = twenty();
    let run = |count: usize| {
        let mut demo = Demo::start(2);
        let queries: Vec<u64> = plans[..count].iter().map(|plan| demo.install(plan)).collect();
        for _ in 0..5 {
            demo.tick(500);
        }
        for (&query, plan) in queries.iter().zip(&plans) {
            demo.check(query, plan);
        }
        assert_eq!(demo.rig.feeds(), 1);
        let node = demo.rig.node_stats(0);
        let feed = demo.rig.feeds_of(queries[0]).pop_first().expect("a feed");
        let cluster: BTreeMap<_, _> =
            demo.rig.cluster_stats().into_iter().map(|stats| (stats.query, stats)).collect();
        assert_eq!(cluster.len(), count + 1);
        let rows_in: Vec<u64> = node.iter().map(|stats| stats.rows_in).collect();
        (rows_in, cluster[&feed].rows_in, cluster[&feed].state_bytes)
    };
    let (one, twenty) = (run(1), run(20));
    assert_eq!(one.0, [2500], "each row is scanned once");
    assert!(one.1 > 0 && one.2 > 0);
    assert_eq!(one, twenty);
}

/// A later query over what is there answers at once: no tick, nothing installed on or sent by a node,
/// and the answer is the model's. It lives on when the first one is removed, and the last one takes the
/// feed with it.
#[test]
fn a_second_query_needs_no_back_fill() {
    for workers in [1, 2] {
        let mut demo = Demo::start(workers);
        let (first, second) = (script(""), script("df = df[df.most > 500]"));
        let one = demo.install(&first);
        for _ in 0..40 {
            demo.tick(20);
        }
        let before = demo.rig.node_stats(0);
        let two = demo.install(&second);
        let frontier_ms = demo.rig.wait_for_frontier(two).expect("an answer");
        assert_eq!(frontier_ms, demo.tick_ms);
        demo.check(two, &second);
        assert_eq!(demo.rig.node_stats(0).len(), 1);
        assert_eq!(demo.rig.node_stats(0)[0].rows_in, before[0].rows_in);

        demo.tick(20);
        demo.check(one, &first);
        demo.rig.remove(one).expect("a removal");
        for _ in 0..3 {
            demo.tick(20);
            demo.check(two, &second);
        }
        demo.rig.remove(two).expect("a removal");
        assert_eq!(demo.rig.feeds(), 0);
        while demo.rig.dataflows() > 0 {
            demo.rig.settle().expect("engines answer");
        }
        assert!(demo.rig.node_stats(0).is_empty() && demo.rig.cluster_stats().is_empty());
    }
}

/// Views of one plan share a feed, whatever their refresh, if the feed's is a part of theirs: the coarser one
/// has frontiers at its own refreshes only, each the model's, and keeps the feed when the finer one goes. One
/// that would have to wait for long, or whose refreshes are no ticks of the feed, has its own and answers
/// at once. Catches a feed for every refresh, a first answer of a later time than its frontier, and views that
/// stand still.
#[test]
fn one_feed_whatever_the_refresh() {
    let (plain, filtered) = (script(""), script("df = df[df.most > 500]"));
    for workers in [1, 2, 4] {
        let mut demo = Demo::start(workers);
        let fine = demo.install(&plain);
        (0..3).for_each(|_| demo.tick(20));
        let coarse = demo.install_every(&filtered, 5_000);
        assert_eq!(demo.rig.feeds(), 1);
        assert_eq!(
            demo.rig.frontier_ms(coarse),
            None,
            "what is there is newer than its last refresh"
        );
        let mut frontiers = Vec::new();
        for number in 0..12 {
            demo.tick(20 + number);
            demo.check(fine, &plain);
            if let Some(frontier_ms) = demo.rig.frontier_ms(coarse) {
                demo.check(coarse, &filtered);
                frontiers.push(frontier_ms);
            }
        }
        frontiers.dedup();
        assert!(frontiers.len() >= 2 && frontiers.iter().all(|at| at.is_multiple_of(5_000)));
        // No multiple, too many times, and too long.
        for refresh_ms in [700, 11_000, 60_000] {
            let other = demo.install_every(&filtered, refresh_ms);
            assert_eq!(demo.rig.feeds(), 2, "{refresh_ms} ms");
            demo.tick(20);
            // Some have begun before the first event.
            if demo.rig.wait_for_frontier(other).expect("an answer") > BASE_MS {
                demo.check(other, &filtered);
            }
            demo.rig.remove(other).expect("a removal");
            assert_eq!(demo.rig.feeds(), 1);
        }
        demo.rig.remove(fine).expect("a removal");
        (0..7).for_each(|_| demo.tick(30));
        demo.check(coarse, &filtered);
        assert_eq!(demo.rig.frontier_ms(coarse), Some(demo.tick_ms / 5_000 * 5_000));
        demo.rig.remove(coarse).expect("a removal");
        assert_eq!(demo.rig.feeds(), 0);
        while demo.rig.dataflows() > 0 {
            demo.rig.settle().expect("engines answer");
        }
    }
}

/// A panic above the feed ends one query, below it all that read it; then both can be installed anew.
#[test]
fn a_panic_ends_what_depends_on_it() {
    let fault = weir_engine::TEST_PANIC_LITERAL;
    let mut demo = Demo::start(2);
    let healthy = script("");
    let one = demo.install(&healthy);
    demo.tick(10);
    let bad = demo.install(&script(&format!("df = df[df.service != '{fault}' or df.n < 0]")));
    demo.rig.wait_for_failures(1).expect("a failure");
    assert!(demo.rig.failed.remove(&bad).expect("the bad one").contains("test fault"));
    demo.tick(10);
    demo.check(one, &healthy);

    let below = format!(
        "import px\ndf = px.DataFrame('let_events', start_time='-30s')\n\
         df = df[df.endpoint != '{fault}']\n\
         df = df.groupby('service').agg(n=('latency', px.count))\n"
    );
    let plan = |rest: &str| {
        let text = format!("{below}{rest}\npx.display(df, 'out')\n");
        let script = weir_pxl::Script { name: "bad", text: &text, vis: None };
        weir_pxl::compile(&script, &weir_pxl::CompileOptions::default()).expect("it compiles").plan
    };
    let two = [demo.install(&plan("")), demo.install(&plan("df = df[df.n > 1]"))];
    assert_eq!(demo.rig.feeds(), 2);
    demo.tick(10);
    demo.rig.wait_for_failures(2).expect("two failures");
    assert!(two.iter().all(|query| demo.rig.failed.contains_key(query)));
    assert_eq!(demo.rig.feeds(), 1, "the healthy one is left");
    demo.tick(10);
    demo.check(one, &healthy);
    let again = demo.install(&script("df = df[df.n > 2]"));
    demo.tick(10);
    demo.check(again, &script("df = df[df.n > 2]"));
}
