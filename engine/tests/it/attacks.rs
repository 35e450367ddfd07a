//! Queries that would take all memory or all time: they end with a code or wait for their turn, and the
//! query beside them goes on.

use std::collections::BTreeSet;

use weir_engine::{EngineConfig, EngineEvent, Install, Limits, QueryId, failure_code};
use weir_types::acc::Acc;
use weir_types::plan::{JoinKind, Side};
use weir_types::split::Shape;
use weir_types::{BatchBuilder, DataType, Expr, RecordBatch, Value};

use crate::harness::{
    Plan, Rig, SEC_NS, TABLE, agg, aggregated, batch, call, column, config, events, install_of,
    raw_rows, sliding,
};

const HEAVY: QueryId = 1;
const LIGHT: QueryId = 2;
/// The light query reads a table that the heavy one does not.
const NODE_OF: QueryId = 1_000_000;

fn limited(workers: usize, limits: Limits) -> EngineConfig {
    EngineConfig { limits, ..config(workers) }
}

fn light() -> (Plan, Plan) {
    aggregated(sliding(10), &[1], &[agg("count", 2, Some(0))])
}

fn rows_of(keys: impl Iterator<Item = i64>) -> RecordBatch {
    let mut builder = BatchBuilder::new(&events());
    for v in keys {
        builder.int64(0, 19_000_000_000);
        builder.string(1, b"constant");
        builder.int64(2, v);
        builder.end_row();
    }
    builder.finish()
}

/// Hands changes on and closes the cluster part's ticks as the node part reports them, until `end` says so.
/// Gives the events in order, but for rows: who keeps those holds the engine up.
pub(crate) fn pump(rig: &Rig, mut end: impl FnMut(&EngineEvent) -> bool) -> Vec<EngineEvent> {
    let mut seen = Vec::new();
    loop {
        let event = match rig.event() {
            EngineEvent::Changes { query, exchange, tick_ms, changes, .. } => {
                rig.engine.push_changes(query - NODE_OF, exchange, tick_ms, changes);
                continue;
            }
            EngineEvent::Frontier { query, tick_ms } if query >= NODE_OF => {
                rig.engine.close_query_tick(query - NODE_OF, tick_ms);
                continue;
            }
            event => event,
        };
        let is_end = end(&event);
        if !matches!(event, EngineEvent::Rows { .. }) {
            seen.push(event);
        }
        if is_end {
            return seen;
        }
    }
}

/// A self-join on a constant key makes a product far above the budget: the query ends with a code, what it
/// held is given back, and the query beside it has shown every tick that was closed meanwhile. Before, the
/// process ran out of memory with the budget untouched.
#[test]
fn a_product_ends_at_the_budget() {
    for workers in [1, 2] {
        let budget = 32 << 20;
        let limits = Limits { query_state_bytes_max: budget, ..Limits::default() };
        let mut rig = Rig::new(limited(workers, limits), 1000);
        let (node, cluster) = light();
        rig.install(LIGHT, node, cluster, 20_000);
        let (node, mut cluster, rows) = raw_rows(sliding(100), None);
        let columns = [(Side::Left, 0), (Side::Left, 1), (Side::Left, 2), (Side::Right, 2)];
        let joined = cluster.join((rows, rows), JoinKind::Inner, &[1], &columns);
        cluster.output(joined, "out");
        rig.install(HEAVY, node, cluster, 20_000);
        rig.engine.push_rows(TABLE, rows_of(0..20_000));
        rig.engine.close_tick(20_000);
        let mut most = 0;
        let mut light_ms = 0;
        let events = pump(&rig, |event| {
            most = most.max(rig.engine.stats().held_bytes);
            if let EngineEvent::Frontier { query: LIGHT, tick_ms } = event {
                light_ms = *tick_ms;
                rig.engine.close_tick(tick_ms + 1000);
            }
            matches!(event, EngineEvent::Failed { .. })
        });
        let Some(EngineEvent::Failed { query, message }) = events.last() else { unreachable!() };
        assert_eq!(*query, HEAVY, "{message}");
        assert_eq!(failure_code(message), "backlog", "{message}");
        assert!(light_ms >= 20_000, "the other query stood still");
        assert!(most < budget * 3 / 2, "{most} bytes were held");
        // What it held goes, and the other query goes on.
        pump(&rig, |event| match event {
            EngineEvent::Frontier { query: LIGHT, tick_ms } => {
                rig.engine.close_tick(tick_ms + 1000);
                rig.engine.stats().held_bytes < 4 << 20
            }
            _ => false,
        });
    }
}

fn long_texts(rows: usize, len: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(&events());
    let text: Vec<u8> = b"jane.doe@example.com 4111 1111 1111 1111 10.0.0.1 ".repeat(len / 50);
    for row in 0..rows {
        let mut text = text.clone();
        text.extend_from_slice(row.to_string().as_bytes());
        builder.int64(0, 19_000_000_000);
        builder.string(1, &text);
        builder.int64(2, 0);
        builder.end_row();
    }
    builder.finish()
}

/// A pattern that takes tens of milliseconds a row, in one batch of which nobody knows that yet: between any two
/// ticks that the query beside it shows, it gets its one slice, which is no more than a row or two. Before, the
/// first slice was as many rows as had room in it, and took seconds.
#[test]
fn a_costly_pattern_is_worked_on_a_row_at_a_time() {
    let mut rig = Rig::new(config(1), 1000);
    let (node, cluster) = aggregated(sliding(10), &[2], &[agg("count", 2, Some(0))]);
    rig.install(LIGHT, node, cluster, 20_000);
    let mut node = Plan::default();
    let scan = node.scan(sliding(100));
    let pattern = Expr::Literal(Value::String(b".*[^a-zA-Z0-9@. ]|.".to_vec()));
    let substitute = Expr::Literal(Value::String(b"x".to_vec()));
    let args = vec![pattern, column(1, DataType::String), substitute];
    let slow = call("replace", args, DataType::String);
    let columns =
        [("time_", column(0, DataType::Time64Ns)), ("k", slow), ("v", column(2, DataType::Int64))];
    let mapped = node.map(scan, &columns);
    node.send(mapped, 0, Shape::Rows { rows_max: None });
    rig.engine.install(install_of(HEAVY + NODE_OF, &node, 20_000));
    rig.engine.push_rows(TABLE, long_texts(1_000, 8_000));
    rig.engine.close_tick(20_000);
    let spent_ns = |rig: &Rig| {
        let stats = rig.engine.stats();
        stats.queries.iter().find(|query| query.query == HEAVY + NODE_OF).unwrap().cpu_ns
    };
    let (mut before_ns, mut most_ns, mut ticks) = (0, 0, 0);
    pump(&rig, |event| {
        if let EngineEvent::Frontier { query: LIGHT, tick_ms } = event {
            let now_ns = spent_ns(&rig);
            most_ns = most_ns.max(now_ns - before_ns);
            before_ns = now_ns;
            ticks += 1;
            rig.engine.close_tick(tick_ms + 1000);
        }
        assert!(!matches!(event, EngineEvent::Frontier { query, .. } if *query == HEAVY + NODE_OF));
        ticks > 40 && before_ns > 0
    });
    assert!(most_ns < 2_000_000_000, "{most_ns} ns between two ticks of the other query");
}

/// A function that takes milliseconds a row, in one large batch: the query beside it shows five more ticks
/// before the slow one has shown its first; then the slow one is right, too. Before, one batch was evaluated
/// as a whole while everybody's frontier stood still.
#[test]
fn a_slow_function_holds_up_its_own_query_only() {
    let mut rig = Rig::new(config(1), 1000);
    let (node, cluster) = aggregated(sliding(10), &[2], &[agg("count", 2, Some(0))]);
    rig.install(LIGHT, node, cluster, 20_000);
    let mut node = Plan::default();
    let scan = node.scan(sliding(100));
    let text = column(1, DataType::String);
    let slow = call("redact_pii_best_effort", vec![text], DataType::String);
    let columns =
        [("time_", column(0, DataType::Time64Ns)), ("k", slow), ("v", column(2, DataType::Int64))];
    let mapped = node.map(scan, &columns);
    node.send(mapped, 0, Shape::Rows { rows_max: None });
    rig.engine.install(install_of(HEAVY + NODE_OF, &node, 20_000));
    rig.engine.push_rows(TABLE, long_texts(16_000, 4_000));
    rig.engine.close_tick(20_000);
    let (mut redacted, mut light_ms) = (0, 0);
    let mut light_when_slow_was_done = 0;
    while light_when_slow_was_done == 0 {
        match rig.event() {
            EngineEvent::Changes { query, changes, .. } if query == HEAVY + NODE_OF => {
                redacted += changes.len();
            }
            EngineEvent::Frontier { query, tick_ms } if query == HEAVY + NODE_OF => {
                assert!(tick_ms >= 20_000);
                light_when_slow_was_done = light_ms;
            }
            EngineEvent::Changes { query, exchange, tick_ms, changes, .. } => {
                rig.engine.push_changes(query - NODE_OF, exchange, tick_ms, changes);
            }
            EngineEvent::Frontier { query, tick_ms } if query > NODE_OF => {
                rig.engine.close_query_tick(query - NODE_OF, tick_ms);
            }
            EngineEvent::Frontier { tick_ms, .. } => {
                light_ms = tick_ms;
                rig.engine.close_tick(tick_ms + 1000);
            }
            EngineEvent::Rows { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(
        light_when_slow_was_done >= 25_000,
        "the light query came to {light_when_slow_was_done}"
    );
    assert_eq!(redacted, 16_000);
    let stats = rig.engine.stats();
    let slow = stats.queries.iter().find(|query| query.query == HEAVY + NODE_OF).unwrap();
    assert!(slow.yields > 5, "{slow:?}");
    assert_eq!(slow.waiting_bytes, 0, "{slow:?}");
}

/// A large first answer comes in bounded events, each row once, and a receiver that does not let go of them
/// stops it at the limit, and nobody else; it goes on when the receiver does.
#[test]
fn a_large_answer_waits_for_its_reader() {
    for workers in [1, 2] {
        let limits =
            Limits { unread_bytes_max: 1 << 20, slice_bytes_max: 64 << 10, ..Limits::default() };
        let mut rig = Rig::new(limited(workers, limits), 1000);
        let (node, cluster) = light();
        rig.install(LIGHT, node, cluster, 20_000);
        let (node, mut cluster, rows) = raw_rows(sliding(100), None);
        cluster.output(rows, "all");
        rig.install(HEAVY, node, cluster, 20_000);
        rig.engine.push_rows(TABLE, rows_of(0..50_000));
        rig.engine.close_tick(20_000);
        // The reader keeps what it gets, and the light query comes to show ten ticks.
        let mut kept = Vec::new();
        let is_done = |event: &EngineEvent| {
            if let EngineEvent::Rows { query: HEAVY, .. } = event {
                kept.push(event.clone());
            }
            let EngineEvent::Frontier { query: LIGHT, tick_ms } = event else { return false };
            rig.engine.close_tick(tick_ms + 1000);
            *tick_ms >= 30_000
        };
        pump(&rig, is_done);
        let of_heavy = || {
            let stats = rig.engine.stats();
            stats.queries.into_iter().find(|query| query.query == HEAVY).unwrap()
        };
        let stats = of_heavy();
        assert!(
            stats.unread_bytes > 0 && stats.unread_bytes <= (1 << 20) + (128 << 10),
            "{stats:?}"
        );
        assert!(stats.frontier_tick_ms.is_none_or(|at| at < 20_000), "{stats:?}");
        // It lets go: the rest comes, no row twice.
        let mut all = BTreeSet::new();
        let mut take = |event: EngineEvent| {
            if let EngineEvent::Rows { query: HEAVY, rows, .. } = event {
                assert!(rows.len() < 2_000, "{} rows at once", rows.len());
                rows.into_iter().for_each(|(row, diff)| assert!(diff == 1 && all.insert(row)));
            }
        };
        kept.into_iter().for_each(&mut take);
        pump(&rig, |event| {
            take(event.clone());
            matches!(event, EngineEvent::Frontier { query: HEAVY, tick_ms } if *tick_ms >= 20_000)
        });
        assert_eq!(all.len(), 50_000);
        assert_eq!(of_heavy().unread_bytes, 0);
    }
}

/// A table united with itself forty times over is each row 2^40 times, and costs no more than the table.
/// Before, it was copied as often.
#[test]
fn a_union_with_itself_copies_nothing() {
    let count = agg("count", 2, None);
    let doubled = |plan: &mut Plan, mut op, times| {
        for _ in 0..times {
            op = plan.union(&[op, op]);
        }
        op
    };
    let mut rig = Rig::new(config(1), 1000);
    let (node, mut cluster, rows) = raw_rows(sliding(10), None);
    let many = doubled(&mut cluster, rows, 40);
    let counted = cluster.aggregate(many, &[1], &[count]);
    cluster.output(counted, "out");
    rig.install(2, node, cluster, 20_000);
    rig.push(&[(19_000, "a", 1), (19_000, "a", 2)]);
    rig.tick(20_000);
    assert_eq!(rig.view(2, "out"), [[Value::str("a"), Value::Int64(2 << 40)]]);
    // Once more than there are numbers: an error, not a wrong count.
    let (node, mut cluster, rows) = raw_rows(sliding(10), None);
    let many = doubled(&mut cluster, rows, 64);
    cluster.output(many, "out");
    rig.install(3, node, cluster, 21_000);
    rig.push(&[(20_500, "a", 1)]);
    rig.engine.close_tick(21_000);
    let events = pump(&rig, |event| matches!(event, EngineEvent::Failed { .. }));
    let Some(EngineEvent::Failed { query, message }) = events.last() else { unreachable!() };
    assert_eq!(*query, 3);
    assert!(message.contains("2^63"), "{message}");
}

/// What all queries hold together is bounded, too, and the largest pays for it.
#[test]
fn the_largest_query_ends_when_all_are_too_large() {
    let limits = Limits { state_bytes_max: 4 << 20, ..Limits::default() };
    let mut rig = Rig::new(limited(1, limits), 1000);
    let (node, cluster) = light();
    rig.install(LIGHT, node, cluster, 20_000);
    let (node, mut cluster, rows) = raw_rows(sliding(100), None);
    cluster.output(rows, "all");
    rig.install(HEAVY, node, cluster, 20_000);
    for tick in 0..60 {
        rig.engine.push_rows(TABLE, rows_of(tick * 1000..(tick + 1) * 1000));
    }
    rig.engine.close_tick(20_000);
    let events = pump(&rig, |event| matches!(event, EngineEvent::Failed { .. }));
    let Some(EngineEvent::Failed { query, message }) = events.last() else { unreachable!() };
    assert!([HEAVY, HEAVY + NODE_OF].contains(query), "{query}: {message}");
    assert_eq!(failure_code(message), "engine_budget", "{message}");
    pump(&rig, |event| matches!(event, EngineEvent::Frontier { query: LIGHT, .. }));
}

/// Rows of a kilobyte count as a kilobyte while they wait for their tick: catches a weight of so many bytes
/// a row, whatever its size.
#[test]
fn waiting_rows_count_their_size() {
    let rig = Rig::new(config(1), 1000);
    let (_, mut cluster, rows) = raw_rows(sliding(100), None);
    cluster.output(rows, "all");
    rig.engine.install(install_of(1, &cluster, 20_000));
    let text = "x".repeat(10_000);
    let row = |v: i64| {
        let values = [Value::Time64Ns(19 * SEC_NS), Value::str(&text), Value::Int64(v)];
        weir_types::PackedRow::pack(&values)
    };
    let change = |v| weir_types::split::Change::Row { row: row(v), pane: 190, diff: 1 };
    rig.engine.push_changes(1, 0, 20_000, (0..100).map(change).collect());
    let waiting = rig.engine.stats().queries[0].waiting_bytes;
    assert!((1_000_000..2_500_000).contains(&waiting), "{waiting}");
    rig.engine.close_query_tick(1, 20_000);
    pump(&rig, |event| matches!(event, EngineEvent::Frontier { .. }));
    let stats = rig.engine.stats().queries[0].clone();
    assert_eq!(stats.waiting_bytes, 0, "{stats:?}");
    assert!((1_000_000..2_500_000).contains(&stats.state_bytes), "{stats:?}");
    // A batch of another query's table is not counted here.
    rig.engine.push_rows(TABLE, batch(&[(19_000, "a", 1)]));
    assert_eq!(rig.engine.stats().queries[0].waiting_bytes, 0);
}

/// A node query that is not live: a function that makes as much as it reads, and a group of what it makes.
fn install_back_filled(rig: &Rig) -> QueryId {
    let mut node = Plan::default();
    let scan = node.scan(sliding(100));
    let upper = call("toupper", vec![column(1, DataType::String)], DataType::String);
    let size = call("length", vec![upper], DataType::Int64);
    let columns = [("time_", column(0, DataType::Time64Ns)), ("size", size)];
    let mapped = node.map(scan, &columns);
    let shape = Shape::Partial { group: vec![1], aggs: vec![agg("count", 1, Some(0))] };
    node.send(mapped, 0, shape);
    let heavy = HEAVY + NODE_OF;
    let install = install_of(heavy, &node, 20_000);
    rig.engine.install(Install { is_live: false, ..install });
    rig.engine.hold(heavy, true);
    heavy
}

/// A history of many times a query's budget is replayed to it without ending it, within the bound that replays
/// have; rows that are pushed meanwhile find room, and the view has all of both once. Catches replayed rows that
/// count as a backlog, and a back-fill that takes the room of live input.
#[test]
fn a_large_history_is_no_backlog() {
    for workers in [1, 2, 4] {
        let limits = Limits {
            query_state_bytes_max: 8 << 20,
            pending_bytes_max: 4 << 20,
            replayed_bytes_max: 6 << 20,
            under_way_bytes_max: 1 << 20,
            ..Limits::default()
        };
        let mut rig = Rig::new(limited(workers, limits.clone()), 1000);
        let (node, cluster) = light();
        rig.install(LIGHT, node, cluster, 20_000);
        let heavy = install_back_filled(&rig);
        // Some 64 MiB, in batches of 2 MiB.
        let mut left: Vec<RecordBatch> = (0..32).map(|_| long_texts(500, 4_000)).collect();
        let (mut most, mut pushed) = (0, 0);
        while !left.is_empty() {
            while rig.engine.takes_replay(heavy)
                && let Some(batch) = left.pop()
            {
                rig.engine.replay(heavy, TABLE, vec![(0, batch)]);
                let stats = rig.engine.stats();
                most = most.max(stats.queries.iter().map(|query| query.replayed_bytes).sum());
            }
            // Not for the query: it is not live.
            if pushed < 500 && rig.engine.backlog_bytes() < 1 << 20 {
                rig.engine.push_rows(TABLE, rows_of(pushed..pushed + 10));
                pushed += 10;
                rig.engine.close_tick(20_000 + u64::try_from(pushed).unwrap() * 100);
            }
            std::thread::yield_now();
        }
        rig.engine.go_live(heavy);
        rig.engine.hold(heavy, false);
        rig.engine.push_rows(TABLE, rows_of(0..7));
        let end_ms = 100_000;
        rig.engine.close_tick(end_ms);
        let mut counted = 0;
        let mut heavy_ms = 0;
        while heavy_ms < end_ms {
            match rig.event() {
                EngineEvent::Changes { query, changes, .. } if query == heavy => {
                    for change in changes {
                        let weir_types::split::Change::Partial { accs, .. } = change else {
                            panic!("{change:?}")
                        };
                        let Acc::Count(count) = accs[0] else { panic!("{accs:?}") };
                        counted += count;
                    }
                }
                EngineEvent::Frontier { query, tick_ms } if query == heavy => heavy_ms = tick_ms,
                EngineEvent::Failed { query, message } => panic!("{query}: {message}"),
                _ => {}
            }
        }
        assert_eq!(counted, 32 * 500 + 7, "{workers} workers");
        assert!(
            most <= limits.replayed_bytes_max + (4 << 20),
            "{most} bytes were replayed at once"
        );
        let stats = rig.engine.stats();
        assert!(stats.tables.iter().all(|table| table.queue_full_rows == 0), "{:?}", stats.tables);
        let of_heavy = stats.queries.iter().find(|query| query.query == heavy).unwrap();
        assert_eq!((of_heavy.replayed_bytes, of_heavy.waiting_bytes), (0, 0), "{of_heavy:?}");
    }
}
