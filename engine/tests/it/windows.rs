//! Windows, panes, late and early rows.

use weir_engine::EngineEvent;
use weir_types::plan::{EndBound, StartBound, Window};
use weir_types::split::{Change, Shape};
use weir_types::{DataType, PackedRow, Value};

use crate::harness::{
    Plan, Rig, SEC_NS, agg, aggregated, call, column, config, install_of, int, raw_rows, sliding,
};

/// Filter, map and a grouped aggregate in a 10-second window with panes of 100 ms: rows come in,
/// late ones correct what was said, and all leave at exactly the end of their pane.
#[test]
fn filters_aggregates_and_expires() {
    let window = sliding(10);
    let aggs = [agg("count", 2, Some(0)), agg("sum", 2, Some(0)), agg("mean", 2, Some(0))];
    let mut node = Plan::default();
    let scan = node.scan(window);
    let v = || column(2, DataType::Int64);
    let big = node.filter(scan, call("greaterThan", vec![v(), int(5)], DataType::Boolean));
    let doubled = node.map(
        big,
        &[
            ("time_", column(0, DataType::Time64Ns)),
            ("k", column(1, DataType::String)),
            ("v", call("multiply", vec![v(), int(2)], DataType::Int64)),
        ],
    );
    let shape = Shape::Partial { group: vec![1], aggs: aggs.to_vec() };
    node.send(doubled, 0, shape);
    let mut cluster = Plan::default();
    let groups = cluster.receive_partial(window, &[1], &aggs);
    cluster.output(groups, "out");

    let mut rig = Rig::new(config(1), 100);
    rig.install(1, node, cluster, 100_000);
    rig.push(&[(99_950, "a", 10), (99_990, "a", 5), (99_999, "b", 7)]);
    rig.tick(100_000);
    assert_eq!(rig.text(), ["a 1 20 20", "b 1 14 14"]);
    // Late, but in the window: a correction. Older than the window: ignored.
    rig.push(&[(95_000, "a", 20), (89_000, "a", 1000)]);
    rig.tick(100_100);
    assert_eq!(rig.text(), ["a 2 60 30", "b 1 14 14"]);
    rig.tick(104_900);
    assert_eq!(rig.text(), ["a 2 60 30", "b 1 14 14"]);
    // A row at 95.0 s is in the pane that ends there: out at 105.0 s and not before.
    rig.tick(105_000);
    assert_eq!(rig.text(), ["a 1 20 20", "b 1 14 14"]);
    rig.tick(109_900);
    assert_eq!(rig.text(), ["a 1 20 20", "b 1 14 14"]);
    rig.tick(110_000);
    assert_eq!(rig.text(), Vec::<String>::new());
    assert_eq!(rig.engine.next_due(1), None);
}

/// An aggregate without groups has a row before any input and after everything has gone.
#[test]
fn ungrouped_always_has_a_row() {
    for workers in [1, 2] {
        let aggs = [agg("count", 2, Some(0)), agg("max", 2, Some(0)), agg("quantiles", 2, Some(0))];
        let (node, cluster) = aggregated(sliding(10), &[], &aggs);
        let mut rig = Rig::new(config(workers), 1000);
        rig.install(1, node, cluster, 50_000);
        rig.tick(50_000);
        let nothing = [format!("0 {} ", i64::MIN)];
        assert_eq!(rig.text(), nothing);
        rig.push(&[(50_500, "a", 3)]);
        rig.tick(51_000);
        assert_eq!(rig.text().len(), 1);
        assert!(rig.text()[0].starts_with("1 3 {\"p01\":3.0"), "{:?}", rig.text());
        rig.tick(70_000);
        assert_eq!(rig.text(), nothing);
    }
}

/// Min, max and any are recombined when the pane that decided them leaves.
#[test]
fn extremes_recombine() {
    let aggs = [agg("min", 2, Some(0)), agg("max", 2, Some(0)), agg("any", 2, Some(0))];
    let (node, cluster) = aggregated(sliding(10), &[1], &aggs);
    let mut rig = Rig::new(config(1), 1000);
    rig.install(1, node, cluster, 20_000);
    rig.push(&[(11_000, "a", 9), (12_000, "a", 1), (13_000, "a", 5), (13_000, "a", 4)]);
    rig.tick(20_000);
    assert_eq!(rig.text(), ["a 1 9 9"]);
    rig.tick(21_000);
    assert_eq!(rig.text(), ["a 1 5 1"]);
    rig.tick(22_000);
    assert_eq!(rig.text(), ["a 4 5 4"]);
    rig.push(&[(22_500, "a", 0)]);
    rig.tick(23_000);
    assert_eq!(rig.text(), ["a 0 0 0"]);
}

/// A row ahead of its time waits for it; one too far ahead is dropped and counted. `next_due` tells
/// when something moves without input.
#[test]
fn early_rows_wait() {
    let (node, mut cluster, rows) = raw_rows(sliding(10), None);
    cluster.output(rows, "out");
    let mut rig = Rig::new(config(1), 1000);
    rig.install(1, node, cluster, 20_000);
    rig.push(&[(23_500, "soon", 1), (19_000, "now", 1), (31_000, "never", 1)]);
    rig.tick(20_000);
    assert_eq!(rig.text(), ["19000ms now 1"]);
    assert_eq!(rig.engine.next_due(1_000_001), Some(24_000));
    assert_eq!(rig.engine.next_due(1), Some(29_000));
    rig.tick(23_000);
    assert_eq!(rig.text(), ["19000ms now 1"]);
    rig.tick(24_000);
    assert_eq!(rig.text(), ["19000ms now 1", "23500ms soon 1"]);
    rig.tick(40_000);
    assert_eq!(rig.text(), Vec::<String>::new());
    let tables = rig.engine.stats().tables;
    assert_eq!((tables[0].rows, tables[0].future_rows), (3, 1));
}

/// A window that ends before now holds its rows back; absolute bounds hold for good.
#[test]
fn other_bounds() {
    let relative = Window {
        start: StartBound::Relative { window_ns: 10 * SEC_NS },
        end: EndBound::Relative { before_ns: 5 * SEC_NS },
    };
    let absolute = Window {
        start: StartBound::Absolute { start_unix_ns: 18 * SEC_NS },
        end: EndBound::Absolute { end_unix_ns: 20 * SEC_NS },
    };
    let mut rig = Rig::new(config(1), 1000);
    let (node, mut cluster, rows) = raw_rows(relative, None);
    cluster.output(rows, "out");
    rig.install(1, node, cluster, 20_000);
    let (node, mut cluster, rows) = raw_rows(absolute, None);
    cluster.output(rows, "out");
    rig.install(2, node, cluster, 20_000);
    rig.push(&[(17_000, "a", 1), (18_000, "b", 1), (20_000, "c", 1)]);
    rig.tick(20_000);
    assert_eq!((rig.text().len(), rig.view(2, "out").len()), (0, 2));
    rig.push(&[(20_001, "d", 1)]);
    rig.tick(22_000);
    assert_eq!(rig.text(), ["17000ms a 1"]);
    rig.tick(26_000);
    assert_eq!(rig.text().len(), 4);
    rig.tick(27_000);
    assert_eq!(rig.text().len(), 3);
    rig.tick(100_000);
    assert_eq!((rig.text().len(), rig.view(2, "out").len()), (0, 2));
}

/// Five minutes of ticks closed at once run only where something expires.
#[test]
fn idle_ticks_are_skipped() {
    let (node, cluster) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
    let mut rig = Rig::new(config(1), 100);
    rig.install(1, node, cluster, 20_000);
    rig.push(&[(19_000, "a", 1), (19_500, "a", 1)]);
    rig.tick(20_000);
    rig.row_events = 0;
    rig.tick(320_000);
    // Two panes expire; each is told at its own tick.
    assert_eq!((rig.row_events, rig.text().len()), (2, 0));
}

/// Retention bounds a scan without a start; without retention nothing ever leaves.
#[test]
fn retention_slides() {
    let all = Window { start: StartBound::Beginning, end: EndBound::Now };
    for (retention_ns, left) in [(Some(60 * SEC_NS), 0), (None, 1)] {
        let (node, cluster) = aggregated(all, &[1], &[agg("count", 2, Some(0))]);
        let config = weir_engine::EngineConfig { retention_ns, ..config(1) };
        let mut rig = Rig::new(config, 1000);
        rig.install(1, node, cluster, 20_000);
        rig.push(&[(19_000, "a", 1)]);
        rig.tick(20_000);
        assert_eq!(rig.text(), ["a 1"]);
        rig.tick(200_000);
        assert_eq!(rig.text().len(), left);
    }
}

/// Replayed rows and live rows meet: the frontier stands still while the query is held, and then
/// everything is there once. What was pushed before the install is the back-fill's, not the queue's.
#[test]
fn back_fill_joins_live() {
    let (node, cluster) = aggregated(sliding(60), &[1], &[agg("count", 2, Some(0))]);
    let mut rig = Rig::new(config(2), 1000);
    rig.push(&[(1_000, "earlier", 1)]);
    rig.install(1, node, cluster, 20_000);
    rig.engine.hold(1_000_001, true);
    let slice = |from: i64| crate::harness::batch(&[(from, "a", 1), (from + 1, "a", 1)]);
    rig.engine.replay(1_000_001, "events", vec![(0, slice(5_000))]);
    rig.push(&[(19_900, "a", 1)]);
    rig.engine.close_tick(20_000);
    rig.engine.replay(1_000_001, "events", vec![(0, slice(6_000)), (0, slice(7_000))]);
    rig.engine.close_tick(21_000);
    rig.engine.hold(1_000_001, false);
    rig.tick(22_000);
    assert_eq!(rig.text(), ["a 7"]);
}

/// Rows that come when their pane has left are counted with their copies, those that are taken back too.
#[test]
fn late_copies_are_counted() {
    let (_, mut cluster, received) = raw_rows(sliding(10), None);
    cluster.output(received, "out");
    let engine = Rig::new(config(2), 1000);
    engine.engine.install(install_of(1, &cluster, 20_000));
    let row = PackedRow::pack(&[Value::Time64Ns(1), Value::str("a"), Value::Int64(1)]);
    let change = |diff| Change::Row { row: row.clone(), pane: 0, diff };
    engine.engine.push_changes(1, 0, 20_000, vec![change(3), change(-2)]);
    engine.engine.close_query_tick(1, 20_000);
    while !matches!(engine.event(), EngineEvent::Frontier { tick_ms: 20_000, .. }) {}
    assert_eq!(engine.engine.stats().queries[0].late_rows, 5);
}
