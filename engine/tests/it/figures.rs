//! What operators say that they have done.

use weir_types::figures::{OperatorFigures, OperatorPlace, QueryFigures};
use weir_types::plan::{JoinKind, Side};
use weir_types::split::Shape;
use weir_types::{DataType, Expr};

use crate::harness::{Event, Plan, Rig, call, column, config, int, raw_rows, sliding};

const ROWS: &[Event] = &[(14_000, "a", 1), (15_000, "a", 2), (16_000, "b", 3), (17_000, "c", 4)];

fn odd() -> Expr {
    let rest = call("modulo", vec![column(2, DataType::Int64), int(2)], DataType::Int64);
    call("equal", vec![rest, int(1)], DataType::Boolean)
}

/// Rows that reach the cluster part, joined with themselves by key.
fn self_join(plan: &mut Plan, rows: usize) -> usize {
    let columns = [(Side::Left, 1), (Side::Left, 2), (Side::Right, 2)];
    plan.join((rows, rows), JoinKind::Inner, &[1], &columns)
}

fn of(all: &[QueryFigures], query: u64) -> &QueryFigures {
    all.iter().find(|figures| figures.query == query).expect("it runs")
}

fn rows(figures: &QueryFigures, place: OperatorPlace) -> (&str, u64, u64) {
    let at = figures.operators.iter().find(|operator| operator.place == place);
    let OperatorFigures { kind, rows_in, rows_out, .. } = at.expect("there is such an operator");
    (kind, *rows_in, *rows_out)
}

/// Each operator says how many rows it took and gave, on the node and in the cluster part, whatever the number
/// of workers. Catches rows that are counted twice or by none, and operators under each other's names.
#[test]
fn operators_count_their_rows() {
    for workers in [1, 2] {
        let mut node = Plan::default();
        let scan = node.scan(sliding(10));
        let kept = node.filter(scan, odd());
        node.send(kept, 0, Shape::Rows { rows_max: None });
        let mut cluster = Plan::default();
        let received = cluster.receive_rows(0, sliding(10), None);
        let join = self_join(&mut cluster, received);
        cluster.output(join, "out");
        let mut rig = Rig::new(config(workers), 1000);
        rig.install(1, node, cluster, 20_000);
        rig.push(ROWS);
        rig.tick(20_000);
        let all = rig.engine.figures();
        let node = of(&all, 1_000_001);
        assert_eq!(rows(node, OperatorPlace::Op(0)), ("Scan", 4, 4), "{workers}");
        assert_eq!(rows(node, OperatorPlace::Op(1)), ("Filter", 4, 2), "{workers}");
        assert_eq!(rows(node, OperatorPlace::Exchange(0)), ("Send", 2, 2), "{workers}");
        let query = of(&all, 1);
        assert_eq!(rows(query, OperatorPlace::Op(0)), ("RowWindow", 2, 2), "{workers}");
        assert_eq!(rows(query, OperatorPlace::Op(1)), ("Join", 4, 2), "{workers}");
        assert_eq!(rows(query, OperatorPlace::Output(0)), ("Output", 2, 2), "{workers}");
        // The first row leaves, and with it what it was joined to.
        rig.tick(25_000);
        let all = rig.engine.figures();
        assert_eq!(rows(of(&all, 1), OperatorPlace::Op(1)), ("Join", 6, 3), "{workers}");
        assert_eq!(rows(of(&all, 1), OperatorPlace::Output(0)), ("Output", 3, 3), "{workers}");
    }
}

/// Several sends of one filter share its rows among workers: each worker filters, and one of them counts, what was
/// there and what was cut. Catches rows and cuts that are counted once for each send.
#[test]
fn sends_of_one_step_count_its_rows_once() {
    let long: &'static str = Box::leak("x".repeat(600 << 10).into_boxed_str());
    let rows_there: Vec<Event> = ROWS.iter().copied().chain([(18_000, long, 5)]).collect();
    for workers in [1, 2, 4] {
        let mut node = Plan::default();
        let scan = node.scan(sliding(10));
        let kept = node.filter(scan, odd());
        let twice = call("add", vec![column(1, DataType::String); 2], DataType::String);
        let time = column(0, DataType::Time64Ns);
        let columns = [("time_", time), ("k", twice), ("v", column(2, DataType::Int64))];
        let mapped = node.map(kept, &columns);
        let mut cluster = Plan::default();
        let received: Vec<usize> = (0..3)
            .map(|exchange| {
                node.send(mapped, exchange, Shape::Rows { rows_max: None });
                cluster.receive_rows(exchange, sliding(10), None)
            })
            .collect();
        let all = cluster.union(&received);
        cluster.output(all, "out");
        let mut rig = Rig::new(config(workers), 1000);
        rig.install(1, node, cluster, 20_000);
        rig.push(&rows_there);
        rig.tick(20_000);
        let figures = rig.engine.figures();
        let node = of(&figures, 1_000_001);
        assert_eq!(rows(node, OperatorPlace::Op(0)), ("Scan", 5, 5), "{workers}");
        assert_eq!(rows(node, OperatorPlace::Op(1)), ("Filter", 5, 3), "{workers}");
        assert_eq!(rows(node, OperatorPlace::Op(2)), ("Map", 3, 3), "{workers}");
        for exchange in 0..3 {
            let sent = rows(node, OperatorPlace::Exchange(exchange));
            assert_eq!(sent, ("Send", 3, 3), "{workers}");
        }
        let cuts = rig.engine.cuts(1_000_001);
        assert_eq!(cuts.iter().collect::<Vec<_>>(), [("cut_text", 1)], "{workers}");
    }
}

/// What operators hold adds up to what the query holds, the time spent in them to its own, and a query that is
/// idle holds nothing that waits: catches state that no operator owns up to.
#[test]
fn operators_add_up_to_the_query() {
    let (node, mut cluster, received) = raw_rows(sliding(10), None);
    let join = self_join(&mut cluster, received);
    cluster.output(join, "out");
    let mut rig = Rig::new(config(1), 1000);
    rig.install(1, node, cluster, 20_000);
    rig.push(ROWS);
    rig.tick(20_000);
    let figures = of(&rig.engine.figures(), 1).clone();
    let stats = rig.engine.stats();
    let stats = stats.queries.iter().find(|stats| stats.query == 1).expect("it runs");
    let held: u64 = figures.operators.iter().map(|operator| operator.held_bytes).sum();
    assert!(stats.state_bytes > 0);
    assert_eq!(held, stats.state_bytes + stats.waiting_bytes);
    let busy: u64 = figures.operators.iter().map(|operator| operator.busy_ns).sum();
    assert!(busy > 0 && busy <= stats.cpu_ns, "{busy} of {}", stats.cpu_ns);
    assert_eq!(figures.refreshes.frontier_tick_ms, Some(20_000));
    assert_eq!(figures.refreshes.refreshes, 1);
    rig.tick(23_000);
    assert_eq!(of(&rig.engine.figures(), 1).refreshes.refreshes, 4, "all that were closed");
}

/// A feed's window tells its rows to readers instead of down its own dataflow: they are counted there, and again
/// by each reader that takes them in.
#[test]
fn a_feed_counts_what_it_tells() {
    let (node, cluster, _) = raw_rows(sliding(10), None);
    let mut rig = Rig::new(config(1), 1000);
    rig.install_feed(7, node, cluster.clone(), 20_000);
    for query in [8, 9] {
        let (mut reader, from) = (cluster.clone(), 0);
        reader.output(from, "out");
        rig.install_reader(query, reader, 7, 20_000);
    }
    rig.push(ROWS);
    rig.tick(20_000);
    let all = rig.engine.figures();
    assert_eq!(rows(of(&all, 7), OperatorPlace::Exchange(0)), ("RowWindow", 4, 4));
    for query in [8, 9] {
        assert_eq!(rows(of(&all, query), OperatorPlace::Op(0)), ("Import", 4, 4));
    }
}
