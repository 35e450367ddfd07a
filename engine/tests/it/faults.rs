//! What goes wrong stays where it went wrong, and what is dropped is gone.

use std::sync::Arc;

use weir_engine::{EngineConfig, EngineEvent, Install, Limits, Part, TEST_PANIC_LITERAL};
use weir_types::split::{NodePlan, Shape};
use weir_types::{DataType, Expr, Value};

use crate::attacks::pump;
use crate::harness::{
    Plan, Rig, agg, aggregated, call, column, config, install_of, int, raw_rows, sliding,
};

fn wait_for(rig: &Rig, mut wanted: impl FnMut(&EngineEvent) -> bool) -> EngineEvent {
    loop {
        let event = rig.event();
        if wanted(&event) {
            return event;
        }
    }
}

/// A panic in an operator ends its query with a message, in the node and in the cluster part;
/// another query goes on, and the id can be used again.
#[test]
fn a_panic_ends_one_query_only() {
    for workers in [1, 2] {
        let mut rig = Rig::new(config(workers), 1000);
        let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
        rig.install(1, node, cluster, 20_000);

        let fault = || Expr::Literal(Value::str(TEST_PANIC_LITERAL));
        let broken = call("equal", vec![column(1, DataType::String), fault()], DataType::Boolean);
        let window = sliding(10);
        let mut node = Plan::default();
        let scan = node.scan(window);
        let bad = node.filter(scan, broken.clone());
        node.send(bad, 0, Shape::Rows { rows_max: None });
        let install = |query, plan: Plan| install_of(query, &plan, 20_000);
        rig.engine.install(install(7, node));
        let (_, mut cluster, rows) = raw_rows(window, None);
        let bad = cluster.filter(rows, broken);
        let joined = cluster.join((bad, rows), weir_types::plan::JoinKind::Outer, &[1], &[]);
        cluster.output(joined, "out");
        rig.engine.install(install(8, cluster));

        rig.push(&[(19_000, "a", 1), (19_000, "b", 1)]);
        rig.engine.close_tick(20_000);
        let failed = |query: u64| {
            move |event: &EngineEvent| match event {
                EngineEvent::Failed { query: id, message } => {
                    assert!(message.contains("test fault"), "{message}");
                    *id == query
                }
                _ => false,
            }
        };
        wait_for(&rig, failed(7));
        let row =
            weir_types::PackedRow::pack(&[Value::Time64Ns(1), Value::str("a"), Value::Int64(1)]);
        let pane = 190;
        let change = weir_types::split::Change::Row { row, pane, diff: 1 };
        rig.engine.push_changes(8, 0, 20_000, vec![change]);
        rig.engine.close_query_tick(8, 20_000);
        wait_for(&rig, failed(8));

        let (node, cluster) = aggregated(sliding(10), &[1], &[agg("sum", 2, Some(0))]);
        rig.install(7, node, cluster, 21_000);
        rig.push(&[(20_500, "a", 5)]);
        rig.tick(21_000);
        assert_eq!(rig.view(7, "out"), [[Value::str("a"), Value::Int64(5)]]);
        assert!(!rig.engine.is_dead());
    }
}

/// The other view's rows of the tick in which a query failed are not lost.
#[test]
fn the_same_tick_survives() {
    let mut rig = Rig::new(config(1), 1000);
    let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
    rig.install(1, node, cluster, 20_000);
    let mut node = Plan::default();
    let scan = node.scan(sliding(10));
    let literal = Expr::Literal(Value::str(TEST_PANIC_LITERAL));
    let bad = node.map(scan, &[("time_", column(0, DataType::Time64Ns)), ("x", literal)]);
    node.send(bad, 0, Shape::Rows { rows_max: None });
    rig.engine.install(install_of(9, &node, 20_000));
    rig.push(&[(19_000, "a", 1)]);
    rig.engine.close_tick(20_000);
    wait_for(&rig, |event| matches!(event, EngineEvent::Failed { query: 9, .. }));
    // The tick's changes were sent before or after the failure; the next tick shows them.
    rig.push(&[(20_500, "a", 1)]);
    rig.engine.close_tick(21_000);
    let mut rows = 0;
    while rows < 2 {
        if let EngineEvent::Changes { query, changes, .. } = rig.event() {
            assert_eq!(query, 1_000_001);
            rows += changes.len();
        }
    }
}

/// Parts that cannot run are refused with a reason, not half-built.
#[test]
fn refuses_what_it_cannot_run() {
    let rig = Rig::new(config(1), 1000);
    let message = |part: Part| {
        rig.engine.install(Install::new(1, part, 1000, 0));
        match rig.event() {
            EngineEvent::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        }
    };
    let mut plan = Plan::default();
    let scan = plan.scan(sliding(10));
    let now = Expr::Now { factor: 1, offset_ns: 0 };
    plan.filter(scan, call("greaterThan", vec![now, int(1)], DataType::Boolean));
    assert!(message(plan.part()).contains("node part"));
    let mut plan = Plan::default();
    let scan = plan.scan(sliding(10));
    let unknown = call("no_such_function", vec![int(1)], DataType::Boolean);
    plan.filter(scan, unknown);
    assert!(message(plan.part()).contains("no_such_function"));
    let mut plan = Plan::default();
    let rows = plan.receive_rows(0, sliding(10), None);
    plan.filter(rows, call("equal", vec![column(9, DataType::Int64), int(1)], DataType::Boolean));
    plan.output(rows, "out");
    assert!(message(plan.part()).contains("out of range"));
    // Numbers of what is not there, as only a message can hold them.
    let Part::Node(node) = raw_rows(sliding(10), None).0.part() else { panic!("a node part") };
    let mut wrong = NodePlan::clone(&node);
    wrong.sends[0].from = 7;
    assert!(message(Part::Node(Arc::new(wrong))).contains("not there"));
    let mut wrong = NodePlan::clone(&node);
    wrong.sends[0].time = 1;
    assert!(message(Part::Node(Arc::new(wrong))).contains("not an event time"));
    let Part::Query { plan, .. } = plan.part() else { panic!("a query") };
    let unfed = Part::Query { plan, sources: Vec::new() };
    assert!(message(unfed).contains("no source 0"));
}

/// A query over its state budget ends with a clear message.
#[test]
fn the_state_budget_holds() {
    let limits = Limits { query_state_bytes_max: 400_000, ..Limits::default() };
    let mut rig = Rig::new(EngineConfig { limits, ..config(1) }, 1000);
    let (node, mut cluster, rows) = raw_rows(sliding(100), None);
    cluster.output(rows, "out");
    rig.install(1, node, cluster, 20_000);
    let mut failed = None;
    for tick in 0..200 {
        let rows: Vec<_> = (0..200).map(|v| (19_000 + tick * 1000, "a", tick * 200 + v)).collect();
        rig.push(&rows);
        let at_ms = u64::try_from(20_000 + tick * 1000).unwrap();
        rig.engine.close_tick(at_ms);
        pump(&rig, |event| match event {
            EngineEvent::Frontier { tick_ms, .. } => *tick_ms >= at_ms,
            EngineEvent::Failed { query, message } => {
                failed = Some((*query, message.clone()));
                true
            }
            _ => false,
        });
        if failed.is_some() {
            break;
        }
    }
    let (query, message) = failed.expect("rows of a hundred seconds are too many");
    assert_eq!(query, 1);
    assert!(message.starts_with("state_budget: "), "{message}");
    assert_eq!(weir_engine::failure_code(&message), "state_budget");
}

/// Rows that find too much waiting are dropped and counted.
#[test]
fn a_full_queue_is_counted() {
    let limits = Limits { pending_bytes_max: 200_000, ..Limits::default() };
    let rig = Rig::new(EngineConfig { limits, ..config(1) }, 1000);
    for _ in 0..100 {
        rig.push(&[(19_000, "a", 1); 100]);
    }
    let stats = &rig.engine.stats().tables[0];
    assert_eq!(stats.rows, 10_000);
    assert!((5_000..10_000).contains(&stats.queue_full_rows), "{stats:?}");
}

/// Two hundred queries come and go: dataflows, operators' state and answers go with them.
#[test]
fn dropping_releases_everything() {
    for workers in [1, 2] {
        let mut rig = Rig::new(config(workers), 1000);
        let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
        rig.install(1, node, cluster, 20_000);
        rig.push(&[(19_000, "a", 1)]);
        rig.tick(20_000);
        let base = rig.engine.stats();
        let mut removed = 0;
        for round in 0..200u64 {
            let query = 10 + round % 20;
            let (node, mut cluster, rows) = raw_rows(sliding(10), Some(5));
            let counts = cluster.aggregate(rows, &[1], &[agg("count", 2, None)]);
            let join = cluster.join(
                (rows, counts),
                weir_types::plan::JoinKind::Outer,
                &[1],
                &[(weir_types::plan::Side::Left, 1)],
            );
            let top = cluster.limit(join, 3);
            cluster.output(top, "out");
            let tick_ms = 21_000 + round * 1000;
            rig.install(query, node, cluster, tick_ms);
            rig.push(&[(20_500 + i64::try_from(round).unwrap() * 1000, "b", 1)]);
            rig.tick(tick_ms);
            rig.remove(query);
            let mut here = 0;
            while here < 2 {
                match rig.event() {
                    EngineEvent::Removed { query: id } => {
                        assert!(id % 1_000_000 == query, "{id}");
                        here += 1;
                    }
                    EngineEvent::Failed { message, .. } => panic!("{message}"),
                    _ => {}
                }
            }
            removed += here;
        }
        assert_eq!(removed, 400);
        let after = rig.engine.stats();
        // The counts of dataflows are written after a worker's step: ask for one more.
        rig.tick(300_000);
        assert_eq!(after.queries.len(), base.queries.len());
        let end = rig.engine.stats();
        let dataflows = |stats: &weir_engine::EngineStats| -> Vec<u64> {
            stats.workers.iter().map(|worker| worker.dataflows).collect()
        };
        assert_eq!(dataflows(&end), dataflows(&base));
        assert!(end.queries.iter().all(|query| query.state_bytes <= 1_000), "{end:?}");
    }
}

/// Should a worker die all the same, the engine says so, its queries have failed, and stopping it
/// does not hang on the workers that are left.
#[test]
fn a_dead_worker_is_told() {
    for workers in [1, 2] {
        let (sender, events) = std::sync::mpsc::channel();
        let emit = Arc::new(move |event: EngineEvent| {
            assert!(!matches!(event, EngineEvent::Frontier { .. }), "the receiver is broken");
            let _ = sender.send(event);
        });
        let engine = weir_engine::Engine::start(config(workers), emit).unwrap();
        let (node, _) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
        engine.install(install_of(1, &node, 20_000));
        engine.close_tick(20_000);
        let event = events.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        assert!(matches!(event, EngineEvent::Failed { query: 1, .. }), "{event:?}");
        assert!(engine.is_dead());
        engine.shutdown();
    }
}

/// A worker that dies by itself: each query fails once, then the engine says that it died, once; what is
/// installed later is answered, the engine's memory of rows is gone, and dropping it ends its threads.
/// Today's engine said nothing to a later install, whose subscribers waited for ever.
#[test]
fn an_engine_dies_aloud_and_another_takes_its_place() {
    for workers in [1, 2] {
        let mut rig = Rig::new(config(workers), 1000);
        for query in [1, 2] {
            let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
            rig.install(query, node, cluster, 20_000);
        }
        rig.push(&[(19_000, "a", 1)]);
        rig.tick(20_000);
        rig.push(&[(20_500, "a", 1)]);
        rig.engine.kill_worker();
        let mut failed = Vec::new();
        loop {
            match rig.event() {
                EngineEvent::Failed { query, .. } => failed.push(query),
                EngineEvent::Died { query, message } => {
                    assert!(message.contains("died"), "{message}");
                    assert_eq!(query, None, "it was working on none");
                    break;
                }
                _ => {}
            }
        }
        failed.sort_unstable();
        assert_eq!(failed, [1, 2, 1_000_001, 1_000_002]);
        assert!(rig.engine.is_dead());
        assert_eq!(rig.engine.backlog_bytes(), 0);

        let (node, _) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
        rig.engine.install(install_of(3, &node, 21_000));
        let event = rig.event();
        assert!(matches!(event, EngineEvent::Failed { query: 3, .. }), "{event:?}");
        rig.engine.push_rows("events", crate::harness::batch(&[(20_000, "a", 1)]));
        assert_eq!(rig.engine.backlog_bytes(), 0, "a dead engine holds on to nothing");
        let events = rig.into_events();
        assert!(events.recv().is_err(), "nothing follows, and no thread is left to say it");

        let mut next = Rig::new(config(workers), 1000);
        let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
        next.install(1, node, cluster, 21_000);
        next.push(&[(20_500, "a", 1)]);
        next.tick(21_000);
        assert_eq!(next.text(), ["a 1"]);
    }
}

/// An expression may kill its worker, too, once: how a whole server is tested.
#[test]
fn a_literal_kills_once() {
    for expect_death in [true, false] {
        let rig = Rig::new(config(1), 1000);
        let literal = Expr::Literal(Value::str(weir_engine::TEST_DEATH_LITERAL));
        let mut node = Plan::default();
        let scan = node.scan(sliding(10));
        let fatal = call("equal", vec![column(1, DataType::String), literal], DataType::Boolean);
        let filtered = node.filter(scan, fatal);
        node.send(filtered, 0, Shape::Rows { rows_max: None });
        rig.engine.install(install_of(1, &node, 20_000));
        rig.push(&[(19_000, "a", 1)]);
        rig.engine.close_tick(20_000);
        let event = rig.event();
        assert_eq!(matches!(event, EngineEvent::Failed { .. }), expect_death, "{event:?}");
        assert_eq!(rig.engine.is_dead(), expect_death);
    }
}

/// Stopping with queries installed and rows under way ends every thread.
#[test]
fn shuts_down_at_once() {
    for workers in [1, 2] {
        let mut rig = Rig::new(config(workers), 1000);
        let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
        rig.install(1, node, cluster, 20_000);
        rig.push(&[(19_000, "a", 1)]);
        rig.engine.close_tick(20_000);
        rig.engine.shutdown();
    }
}

/// An engine that dies says which query its worker was working on, however many there are and wherever the
/// worker was: catches a death for which all queries, or none, must be blamed.
#[test]
fn a_death_has_a_name() {
    for workers in [1, 2, 4] {
        let mut rig = Rig::new(config(workers), 1000);
        for query in [1, 2] {
            let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
            rig.install(query, node, cluster, 20_000);
        }
        let literal = Expr::Literal(Value::str(weir_engine::TEST_DEATHS_LITERAL));
        let mut node = Plan::default();
        let scan = node.scan(sliding(10));
        let fatal = call("equal", vec![column(1, DataType::String), literal], DataType::Boolean);
        let filtered = node.filter(scan, fatal);
        node.send(filtered, 0, Shape::Rows { rows_max: None });
        rig.engine.install(install_of(7, &node, 20_000));
        rig.push(&[(19_000, "a", 1)]);
        rig.engine.close_tick(20_000);
        let died = wait_for(&rig, |event| matches!(event, EngineEvent::Died { .. }));
        assert!(matches!(died, EngineEvent::Died { query: Some(7), .. }), "{died:?}");
        assert_eq!(rig.engine.died_of(), Some(7));
    }
}
