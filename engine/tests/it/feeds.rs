//! Feeds: one window, many readers.

use weir_engine::{
    EngineConfig, EngineEvent, FeedExchange, Install, Intake, Part, TEST_PANIC_LITERAL,
};
use weir_types::plan::{EndBound, StartBound, Window};
use weir_types::split::Shape;
use weir_types::{DataType, Expr, Value};

use crate::harness::{Event, Plan, Rig, agg, aggregated, call, column, config, int, sliding};

/// Node part and feed of a count per key; and a reader that keeps the groups of at least `min`.
fn counts() -> (Plan, Plan) {
    let (node, _) = aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))]);
    let mut feed = Plan::default();
    feed.receive_partial(sliding(10), &[1], &[agg("count", 2, Some(0))]);
    (node, feed)
}

fn reader(min: i64) -> Plan {
    let mut plan = Plan::default();
    let groups = plan.receive_partial(sliding(10), &[1], &[agg("count", 2, Some(0))]);
    let enough =
        call("greaterThanEqual", vec![column(1, DataType::Int64), int(min)], DataType::Boolean);
    let kept = plan.filter(groups, enough);
    plan.output(kept, "out");
    plan
}

/// Node part and feed of whole rows, and a reader that joins them with themselves.
fn rows() -> (Plan, Plan, Plan) {
    let mut node = Plan::default();
    let scan = node.scan(sliding(10));
    node.send(scan, 0, Shape::Rows { rows_max: None });
    let mut feed = Plan::default();
    feed.receive_rows(0, sliding(10), None);
    let mut reader = Plan::default();
    let rows = reader.receive_rows(0, sliding(10), None);
    reader.output(rows, "out");
    (node, feed, reader)
}

fn groups(rows: &[(&str, i64)]) -> Vec<Vec<Value>> {
    rows.iter().map(|&(key, count)| vec![Value::str(key), Value::Int64(count)]).collect()
}

/// A reader that comes late has the whole answer at once, without a tick and without a row of the
/// nodes; both readers follow the same changes; rows leave the window for both. Catches a lost or
/// repeated first state, and one that differs between workers.
#[test]
fn a_late_reader_has_the_whole_answer_at_once() {
    for workers in [1, 2] {
        let mut rig = Rig::new(config(workers), 1000);
        let (node, feed) = counts();
        rig.install_feed(50, node, feed, 20_000);
        rig.install_reader(1, reader(1), 50, 20_000);
        rig.push(&[(19_500, "a", 1), (19_500, "a", 2), (19_900, "b", 1)]);
        rig.tick(20_000);
        assert_eq!(rig.view(1, "out"), groups(&[("a", 2), ("b", 1)]));
        rig.push(&[(20_500, "b", 7), (20_500, "c", 7)]);
        rig.tick(21_000);

        rig.install_reader(2, reader(2), 50, 21_000);
        rig.take_until_frontier(2, 21_000);
        assert_eq!(rig.view(2, "out"), groups(&[("a", 2), ("b", 2)]));

        rig.push(&[(21_500, "c", 1)]);
        rig.tick(22_000);
        assert_eq!(rig.view(1, "out"), groups(&[("a", 2), ("b", 2), ("c", 2)]));
        assert_eq!(rig.view(2, "out"), rig.view(1, "out"));
        rig.tick(30_000);
        assert_eq!(rig.view(1, "out"), groups(&[("b", 1), ("c", 2)]));
        assert_eq!(rig.view(2, "out"), groups(&[("c", 2)]));
    }
}

/// Whole rows: what is in the panes is given, rows that were taken back are not, and a row that is
/// there twice is there twice.
#[test]
fn a_late_reader_of_rows() {
    for workers in [1, 2] {
        let mut rig = Rig::new(config(workers), 1000);
        let (node, feed, reader) = rows();
        rig.install_feed(50, node, feed, 20_000);
        rig.push(&[(12_000, "gone", 1), (19_500, "a", 1), (19_500, "a", 1)]);
        rig.engine.close_tick(20_000);
        rig.install_reader(1, reader.clone(), 50, 20_000);
        rig.tick(21_000);
        rig.tick(23_000);
        rig.install_reader(2, reader, 50, 23_000);
        rig.take_until_frontier(2, 23_000);
        assert_eq!(rig.view(2, "out").len(), 2);
        assert_eq!(rig.view(2, "out"), rig.view(1, "out"));
        rig.tick(31_000);
        assert!(rig.view(2, "out").is_empty() && rig.view(1, "out").is_empty());
    }
}

/// Many readers cost their own operators only: the feed's state, rows in and the node's part are as
/// with one. Readers that go leave the others their answer, and the last one leaves nothing.
#[test]
fn readers_do_not_multiply_the_work() {
    let mut rig = Rig::new(config(2), 1000);
    let (node, feed) = counts();
    rig.install_feed(50, node, feed, 20_000);
    rig.install_reader(1, reader(1), 50, 20_000);
    let events: Vec<Event> = (0..1000).map(|n| (19_000 + n, "abcdefgh", n)).collect();
    rig.push(&events);
    rig.tick(20_000);
    let stats = |rig: &Rig, id: u64| {
        let stats = rig.engine.stats().queries;
        stats.into_iter().find(|query| query.query == id).expect("it runs")
    };
    let alone = stats(&rig, 50);
    assert!(alone.state_bytes > 0 && alone.rows_in > 0);
    for query in 2..=20 {
        rig.install_reader(query, reader(query as i64), 50, 20_000);
    }
    rig.tick(21_000);
    let shared = stats(&rig, 50);
    assert_eq!(shared.state_bytes, alone.state_bytes);
    assert_eq!((shared.rows_in, shared.operators), (alone.rows_in, alone.operators));
    assert_eq!(stats(&rig, 20).state_bytes, 0, "a filter keeps nothing");
    for query in 1..=19 {
        rig.remove(query);
    }
    rig.push(&[(21_500, "b", 1); 30]);
    rig.tick(22_000);
    assert_eq!(rig.view(20, "out"), groups(&[("abcdefgh", 1000), ("b", 30)]));
}

fn failure(rig: &Rig) -> (u64, String) {
    loop {
        if let EngineEvent::Failed { query, message } = rig.event() {
            return (query, message);
        }
    }
}

/// A reader that panics ends alone; the feed and its other reader go on. A feed that ends takes its
/// readers with it, each told, and only those.
#[test]
fn failures_go_up_and_not_down() {
    for workers in [1, 2] {
        let mut rig = Rig::new(config(workers), 1000);
        let (node, feed) = counts();
        rig.install_feed(50, node.clone(), feed.clone(), 20_000);
        rig.install_reader(1, reader(1), 50, 20_000);
        let mut bad = Plan::default();
        let rows = bad.receive_partial(sliding(10), &[1], &[agg("count", 2, Some(0))]);
        let fault = Expr::Literal(Value::str(TEST_PANIC_LITERAL));
        let args = vec![column(0, DataType::String), fault];
        let kept = bad.filter(rows, call("equal", args, DataType::Boolean));
        bad.output(kept, "out");
        rig.install_reader(2, bad, 50, 20_000);
        rig.forget(2);
        rig.push(&[(19_500, "a", 1)]);
        rig.tolerate(2);
        rig.tick(20_000);
        assert_eq!(rig.view(1, "out"), groups(&[("a", 1)]));

        let (node, other) = aggregated(sliding(10), &[1], &[agg("sum", 2, Some(0))]);
        rig.install(3, node, other, 21_000);
        rig.install_reader(4, reader(1), 50, 20_000);
        for query in [1, 4, 50] {
            rig.forget(query);
        }
        rig.remove(50);
        let mut failed = [failure(&rig).0, failure(&rig).0];
        failed.sort_unstable();
        assert_eq!(failed, [1, 4]);
        rig.push(&[(20_500, "a", 5)]);
        rig.tick(21_000);
        assert_eq!(rig.view(3, "out"), groups(&[("a", 5)]));
        let left = rig.engine.stats().queries;
        assert_eq!(left.len(), 2, "query 3 and its node part: {left:?}");
    }
}

/// What cannot be read is refused with a message rather than answered wrongly: no such feed, an
/// exchange that it does not have, and rows that never expire once they have passed.
#[test]
fn what_cannot_be_read_is_refused() {
    let mut rig = Rig::new(EngineConfig { retention_ns: None, ..config(2) }, 1000);
    rig.install_reader(1, reader(1), 77, 20_000);
    rig.forget(1);
    assert!(failure(&rig).1.contains("no feed 77"));

    let everything = Window { start: StartBound::Beginning, end: EndBound::Now };
    let mut node = Plan::default();
    let scan = node.scan(everything);
    node.send(scan, 0, Shape::Rows { rows_max: None });
    let mut feed = Plan::default();
    feed.receive_rows(0, everything, None);
    let mut all = Plan::default();
    let rows = all.receive_rows(0, everything, None);
    all.output(rows, "out");
    rig.install_feed(50, node, feed, 20_000);
    let at = FeedExchange { feed: 50, exchange: 0 };
    assert!(!rig.engine.holds(at));
    rig.install_reader(1, all.clone(), 50, 20_000);
    rig.push(&[(1_000, "a", 1)]);
    rig.tick(20_000);
    assert_eq!(rig.view(1, "out").len(), 1, "who is there from the start sees all");
    rig.install_reader(2, all.clone(), 50, 20_000);
    rig.forget(2);
    assert!(failure(&rig).1.contains("not kept"));
    let Part::Query { plan, .. } = all.part() else { panic!("a query") };
    let sources = vec![Intake::Feed(FeedExchange { feed: 50, exchange: 3 })];
    let part = Part::Query { plan, sources };
    let (refresh_ms, start_tick_ms) = (1000, 20_000);
    rig.engine.install(Install::new(3, part, refresh_ms, start_tick_ms));
    assert!(failure(&rig).1.contains("exchange 3"));
}
