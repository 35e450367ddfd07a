//! Joins, unions, limits and second aggregates over rows that come and go.

use std::sync::Arc;

use weir_types::metadata::{MetadataSnapshot, PodMeta};
use weir_types::plan::{JoinKind, OpKind, Side};
use weir_types::row::PackedRow;
use weir_types::split::Shape;
use weir_types::{DataType, Expr, Value};

use crate::harness::{
    Event, Plan, Rig, agg, aggregated, call, column, config, int, raw_rows, relation, sliding,
};

/// Two scans with windows of 10 s and 5 s on one key, joined.
fn joined(how: JoinKind, on: &[usize]) -> (Plan, Plan) {
    let mut node = Plan::default();
    let (long, short) = (sliding(10), sliding(5));
    let odd = |plan: &mut Plan, scan, rest| {
        let rest_of = call("modulo", vec![column(2, DataType::Int64), int(2)], DataType::Int64);
        plan.filter(scan, call("equal", vec![rest_of, int(rest)], DataType::Boolean))
    };
    let scan = node.scan(long);
    let left = odd(&mut node, scan, 1);
    node.send(left, 0, Shape::Rows { rows_max: None });
    let scan = node.scan(short);
    let right = odd(&mut node, scan, 0);
    node.send(right, 1, Shape::Rows { rows_max: None });
    let mut cluster = Plan::default();
    let left = cluster.receive_rows(0, long, None);
    let right = cluster.receive_rows(1, short, None);
    let columns = [(Side::Left, 1), (Side::Left, 2), (Side::Right, 1), (Side::Right, 2)];
    let join = cluster.join((left, right), how, on, &columns);
    cluster.output(join, "out");
    (node, cluster)
}

const JOIN_ROWS: &[Event] =
    &[(11_500, "a", 1), (11_500, "a", 1), (16_000, "a", 2), (16_500, "b", 3), (17_500, "c", 4)];

fn join_over_time(how: JoinKind, on: &[usize], workers: usize) -> Vec<Vec<String>> {
    let (node, cluster) = joined(how, on);
    let mut rig = Rig::new(config(workers), 1000);
    rig.install(1, node, cluster, 20_000);
    rig.push(JOIN_ROWS);
    [20_000, 21_000, 22_000, 30_000]
        .map(|tick_ms| {
            rig.tick(tick_ms);
            rig.text()
        })
        .to_vec()
}

/// Matches multiply; each side leaves by its own window; unmatched rows appear when their partner
/// goes.
#[test]
fn joins_keep_up_with_both_sides() {
    let none: Vec<String> = Vec::new();
    for workers in [1, 2] {
        let inner = join_over_time(JoinKind::Inner, &[1], workers);
        assert_eq!(inner, [vec!["a 1 a 2", "a 1 a 2"], vec![], vec![], vec![]], "{workers}");
        let left = join_over_time(JoinKind::Left, &[1], workers);
        assert_eq!(left[0], ["a 1 a 2", "a 1 a 2", "b 3  0"]);
        assert_eq!(left[1], ["a 1  0", "a 1  0", "b 3  0"]);
        assert_eq!(left[2], ["b 3  0"]);
        assert_eq!(left[3], none);
        let outer = join_over_time(JoinKind::Outer, &[1], workers);
        assert_eq!(outer[0], [" 0 c 4", "a 1 a 2", "a 1 a 2", "b 3  0"]);
        assert_eq!(outer[1], [" 0 c 4", "a 1  0", "a 1  0", "b 3  0"]);
        assert_eq!(outer[2], [" 0 c 4", "b 3  0"]);
        let cross = join_over_time(JoinKind::Inner, &[], workers);
        assert_eq!([cross[0].len(), cross[1].len(), cross[2].len()], [6, 3, 1]);
    }
}

/// The newest rows stay; what pushes one out takes it back; what leaves lets older ones in again.
#[test]
fn limit_follows_time() {
    for (workers, rows_max) in [(1, None), (1, Some(2)), (2, Some(2))] {
        let (node, mut cluster, rows) = raw_rows(sliding(10), rows_max);
        let top = cluster.limit(rows, 2);
        cluster.output(top, "out");
        let mut rig = Rig::new(config(workers), 1000);
        rig.install(1, node, cluster, 20_000);
        rig.push(&[(14_000, "a", 1), (14_000, "a", 1), (13_000, "b", 1)]);
        rig.tick(20_000);
        assert_eq!(rig.text(), ["14000ms a 1", "14000ms a 1"]);
        rig.push(&[(14_000, "a", 2)]);
        rig.tick(21_000);
        assert_eq!(rig.text(), ["14000ms a 1", "14000ms a 2"]);
        rig.push(&[(20_500, "late", 9), (11_500, "older", 9)]);
        rig.tick(22_000);
        assert_eq!(rig.text(), ["14000ms a 2", "20500ms late 9"]);
        rig.tick(24_000);
        assert_eq!(rig.text(), ["20500ms late 9"]);
    }
}

/// Without an event time the smallest rows stay, and an expired one makes room.
#[test]
fn limit_without_time_keeps_the_smallest() {
    let (node, mut cluster, rows) = raw_rows(sliding(10), None);
    let v = cluster.map(rows, &[("v", column(2, DataType::Int64))]);
    let top = cluster.limit(v, 2);
    cluster.output(top, "out");
    let mut rig = Rig::new(config(1), 1000);
    rig.install(1, node, cluster, 20_000);
    rig.push(&[(11_000, "a", -5), (12_000, "a", 3), (13_000, "a", 4), (13_000, "a", 7)]);
    rig.tick(20_000);
    assert_eq!(rig.text(), ["-5", "3"]);
    rig.tick(21_000);
    assert_eq!(rig.text(), ["3", "4"]);
    rig.tick(22_000);
    assert_eq!(rig.text(), ["4", "7"]);
}

/// A union adds, also with itself; a second aggregate follows retractions of the first one.
#[test]
fn union_and_second_aggregate() {
    let window = sliding(10);
    let counts = [agg("count", 2, Some(0)), agg("sum", 2, Some(0))];
    let (node, _) = aggregated(window, &[1], &counts);
    let mut cluster = Plan::default();
    let groups = cluster.receive_partial(window, &[1], &counts);
    let twice = cluster.union(&[groups, groups]);
    // Over (k, count, sum): per count, how many groups, the greatest sum, the mean of sums.
    let aggs = [agg("count", 2, None), agg("max", 2, None), agg("mean", 2, None)];
    let second = cluster.aggregate(twice, &[1], &aggs);
    cluster.output(second, "out");
    let distinct = cluster.aggregate(groups, &[1], &[]);
    cluster.output(distinct, "distinct");
    let all = cluster.aggregate(groups, &[], &[agg("sum", 1, None)]);
    cluster.output(all, "all");
    for workers in [1, 2] {
        let mut rig = Rig::new(config(workers), 1000);
        rig.install(1, node.clone(), cluster.clone(), 20_000);
        rig.tick(20_000);
        assert_eq!(rig.view(1, "all"), [[Value::Int64(0)]]);
        rig.push(&[(15_000, "a", 1), (16_000, "a", 4), (16_000, "b", 9), (17_000, "c", 2)]);
        rig.tick(21_000);
        assert_eq!(rig.text(), ["1 4 9 5.5", "2 2 5 5"]);
        assert_eq!(rig.view(1, "distinct"), [[Value::Int64(1)], [Value::Int64(2)]]);
        assert_eq!(rig.view(1, "all"), [[Value::Int64(4)]]);
        // The oldest "a" leaves: its group goes from count 2 to count 1.
        rig.tick(25_000);
        assert_eq!(rig.text(), ["1 6 9 5"]);
        rig.tick(26_000);
        assert_eq!(rig.text(), ["1 2 2 2"]);
        rig.tick(30_000);
        assert_eq!((rig.text().len(), rig.view(1, "distinct").len()), (0, 0));
        assert_eq!(rig.view(1, "all"), [[Value::Int64(0)]]);
    }
}

/// A cluster-side filter and map take back exactly what they gave; one that reads the clock follows
/// it without input.
#[test]
fn rows_follow_the_clock() {
    let (node, mut cluster, rows) = raw_rows(sliding(10), None);
    let age = call(
        "subtract",
        vec![
            Expr::Now { factor: 1, offset_ns: 0 },
            call("multiply", vec![column(2, DataType::Int64), int(1_000_000)], DataType::Int64),
        ],
        DataType::Int64,
    );
    let aged = cluster.map(rows, &[("k", column(1, DataType::String)), ("age", age)]);
    let old = call(
        "greaterThan",
        vec![column(1, DataType::Int64), int(3_000_000_000)],
        DataType::Boolean,
    );
    let old = cluster.filter(aged, old);
    cluster.output(old, "out");
    let mut rig = Rig::new(config(1), 1000);
    rig.install(1, node, cluster, 20_000);
    rig.push(&[(18_000, "a", 18_000), (15_500, "b", 15_500)]);
    rig.tick(20_000);
    assert_eq!(rig.text(), ["b 4500000000"]);
    assert_eq!(rig.engine.next_due(1), Some(21_000));
    rig.tick(22_000);
    assert_eq!(rig.text(), ["a 4000000000", "b 6500000000"]);
    rig.tick(26_000);
    assert_eq!(rig.text(), ["a 8000000000"]);
    rig.tick(28_000);
    assert_eq!(rig.text(), Vec::<String>::new());
    assert_eq!(rig.engine.next_due(1), None);
}

/// What was read from the metadata is read again when they change, and taken back as it was given.
#[test]
fn rows_follow_the_metadata() {
    let (node, mut cluster, rows) = raw_rows(sliding(10), None);
    let name = call("pod_id_to_pod_name", vec![column(1, DataType::String)], DataType::String);
    let named = cluster.map(rows, &[("pod", name), ("v", column(2, DataType::Int64))]);
    let counts = cluster.aggregate(named, &[0], &[agg("sum", 1, None)]);
    cluster.output(counts, "out");
    let mut rig = Rig::new(config(2), 1000);
    let snapshot = |name: &str| {
        let pod = PodMeta { id: "p".into(), name: name.into(), ..PodMeta::default() };
        let pods = [("p".to_string(), Arc::new(pod))].into_iter().collect();
        Arc::new(MetadataSnapshot { pods, ..MetadataSnapshot::default() })
    };
    rig.install(1, node, cluster, 20_000);
    rig.push(&[(15_000, "p", 1), (16_000, "p", 2), (17_000, "q", 4)]);
    rig.tick(20_000);
    assert_eq!(rig.text(), [" 7"]);
    rig.engine.set_metadata(snapshot("ns/one"));
    rig.tick(21_000);
    assert_eq!(rig.text(), [" 4", "ns/one 3"]);
    rig.engine.set_metadata(snapshot("ns/two"));
    rig.push(&[(21_500, "p", 8)]);
    rig.tick(25_000);
    assert_eq!(rig.text(), [" 4", "ns/two 10"]);
    rig.tick(40_000);
    assert_eq!(rig.text(), Vec::<String>::new());
}

/// Table functions stand beside streams: their rows are replaced as a whole.
#[test]
fn table_functions_replace_their_rows() {
    let mut cluster = Plan::default();
    let kind = OpKind::TableFunction { name: "GetAgents".into(), args: vec![] };
    let agents = relation(&[("name", DataType::String)]);
    let source = cluster.op(kind, &[], agents);
    cluster.output(source, "out");
    let mut rig = Rig::new(config(2), 1000);
    rig.install(1, Plan::default(), cluster, 20_000);
    let row = |name: &str| PackedRow::pack(&[Value::str(name)]);
    rig.engine.push_table_function(1, source, vec![row("x"), row("y")]);
    rig.tick(20_000);
    assert_eq!(rig.text(), ["x", "y"]);
    rig.engine.push_table_function(1, source, vec![row("y"), row("z")]);
    rig.tick(21_000);
    assert_eq!(rig.text(), ["y", "z"]);
}

/// A stream of events with repeats, late rows and many keys gives the same at 1 and 2 workers, fed
/// whole or row by row: catches keys on the wrong worker and work lost between workers.
#[test]
fn workers_and_feeds_agree() {
    let window = sliding(10);
    let aggs = [agg("count", 2, Some(0)), agg("quantiles", 2, Some(0)), agg("any", 2, Some(0))];
    let views = |workers: usize, slices: usize| {
        let (node, mut cluster) = aggregated(window, &[1, 2], &aggs);
        let group = cluster.receive_partial(window, &[1, 2], &aggs);
        let second = cluster.aggregate(group, &[0], &[agg("sum", 2, None)]);
        cluster.output(second, "second");
        let mut rig = Rig::new(config(workers), 1000);
        rig.install(1, node, cluster, 10_000);
        let mut out = Vec::new();
        for tick in 10..40i64 {
            let keys = ["a", "b", "c", "d", "e"];
            let rows: Vec<Event> = (0..40)
                .map(|n| {
                    let mixed = (tick * 40 + n).wrapping_mul(0x9E37_79B9) >> 7;
                    let late_ms = if mixed % 7 == 0 { 6_000 } else { 0 };
                    let key = keys[usize::try_from(mixed % 5).unwrap()];
                    (tick * 1000 - late_ms - n * 20, key, mixed % 3)
                })
                .collect();
            rows.chunks(slices).for_each(|rows| rig.push(rows));
            rig.tick(u64::try_from(tick).unwrap() * 1000);
            out.push((rig.text(), rig.view(1, "second")));
        }
        out
    };
    let whole = views(1, 1000);
    assert!(whole[25].0.len() == 15, "all keys are there: {:?}", whole[25].0);
    assert_eq!(whole, views(2, 1));
    assert_eq!(whole, views(3, 7));
}
