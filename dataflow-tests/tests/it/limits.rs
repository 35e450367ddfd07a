//! Limits by event time: the newest n are chosen where the rows are, and nothing that can still be among them
//! is dropped. Against the model, by random plans and by hand.

use std::cell::Cell;
use std::collections::BTreeMap;

use weir_dataflow_tests::check::check;
use weir_dataflow_tests::drive::{
    Compared, DriveError, Query, compare, compare_coordinated, pushed_split,
};
use weir_dataflow_tests::generate::Case;
use weir_dataflow_tests::generate::limits;
use weir_dataflow_tests::generate::rows::{BASE_UNIX_NS, SEC_NS};
use weir_types::plan::{JoinKind, OpKind};
use weir_types::split::{Shape, SplitPlan};
use weir_types::{DataType, Expr, Plan, Value};

use crate::support::{Draft, MS_NS, Sample, at, call, everything, expect, int, last, secs, world};

/// How often a source is sent in which way.
fn count_shapes(split: &SplitPlan, counts: &Cell<[usize; 3]>) {
    let mut sum = counts.get();
    for source in &split.sources {
        match source.shape {
            Shape::Rows { rows_max: None } => sum[0] += 1,
            Shape::Rows { rows_max: Some(_) } => sum[1] += 1,
            Shape::Candidates { .. } => sum[2] += 1,
            Shape::Partial { .. } => {}
        }
    }
    counts.set(sum);
}

/// Random plans around limits, cut as the compiler cuts: each view equals the model at every frontier, with
/// late rows, two nodes, expiring panes, one, two and four workers. Catches a floor that is too high, one
/// that is trusted where rows can be lost above it, and rows that come back.
#[test]
fn limits_equal_the_model() {
    let (total, shapes) = (Cell::new(Compared::default()), Cell::new([0; 3]));
    let cases = Cell::new(0);
    check(900, limits::case(120), |case: Case| {
        let split = weir_pxl::split(&case.plan);
        count_shapes(&split, &shapes);
        let compared = compare(&case.plan, &split, &case.world, &case.feed)?;
        total.set(total.get().with(compared));
        cases.set(cases.get() + 1);
        Ok::<_, DriveError>(())
    });
    let ([whole, newest, candidates], cases) = (shapes.get(), cases.get());
    eprintln!("{:?} in {cases} cases", total.get());
    assert!(total.get().rows > 10 * cases, "hardly anything was compared: {:?}", total.get());
    let is_mixed = whole.min(newest).min(candidates) * 10 > cases;
    assert!(is_mixed, "{whole} whole, {newest} newest, {candidates} candidates in {cases} cases");
}

/// The same plan with other bounds, installed later, beside the first: each feed gives a later reader what it
/// holds. By way of the coordinator, which removes the first query on the way.
#[test]
fn limits_share_feeds() {
    let (rows, shared) = (Cell::new(0), Cell::new(0));
    let two = (limits::case(60), proptest::array::uniform4(0usize..12));
    check(200, two, |(case, when): (Case, [usize; 4])| {
        let plans = [case.plan.clone(), with_other_bounds(&case.plan), case.plan.clone()];
        let splits = plans.each_ref().map(weir_pxl::split);
        let ticks = case.feed.ticks_ms.len();
        let queries: Vec<Query<'_>> = plans
            .iter()
            .zip(&splits)
            .zip(when)
            .map(|((plan, split), after)| Query {
                plan,
                split,
                installed_after: after % ticks,
                refresh_times: 1,
            })
            .collect();
        let (compared, sharing) = compare_coordinated(&queries, when[3], &case.world, &case.feed)?;
        rows.set(rows.get() + compared.rows);
        shared.set(shared.get() + sharing);
        Ok::<_, DriveError>(())
    });
    assert!(rows.get() > 1_000 && shared.get() > 50, "{} {}", rows.get(), shared.get());
}

fn with_other_bounds(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for op in &mut plan.ops {
        if let OpKind::Limit { rows_max } = &mut op.kind {
            *rows_max += 1;
        }
    }
    plan
}

fn number(time_ns: i64, number: i64) -> Vec<Value> {
    vec![Value::Time64Ns(BASE_UNIX_NS + time_ns), Value::Int64(number)]
}

/// A flood of late rows between the newest ones: those above the floor push older ones out, those below it,
/// and those that the window has left, change nothing. One that was pushed out does not come back
/// when newer ones expire: it has expired before them.
#[test]
fn a_flood_of_late_rows() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], last(2 * SEC_NS));
    let head = draft.limit(scan, 3);
    let plan = draft.plan(head);
    let mut samples: Vec<Sample> = (1..=5).map(|idx| at(idx * 200 * MS_NS).number(idx)).collect();
    // A thousand below the floor, at all sorts of times, and a few above it.
    let below = (0..1_000).map(|idx| at(idx % 550 * MS_NS).late(secs(1)).number(100 + idx));
    samples.extend(below);
    samples.push(at(900 * MS_NS).late(600 * MS_NS).number(50));
    samples.push(at(900 * MS_NS).late(600 * MS_NS).number(51));
    samples.push(at(950 * MS_NS).late(secs(4)).number(60));
    expect(
        &plan,
        &world(&samples),
        &[
            (1000, vec![number(600 * MS_NS, 3), number(800 * MS_NS, 4), number(secs(1), 5)]),
            (1500, vec![number(900 * MS_NS, 50), number(900 * MS_NS, 51), number(secs(1), 5)]),
            (1600, vec![number(900 * MS_NS, 50), number(900 * MS_NS, 51), number(secs(1), 5)]),
            (2800, vec![number(900 * MS_NS, 50), number(900 * MS_NS, 51), number(secs(1), 5)]),
            (2900, vec![number(secs(1), 5)]),
            (3000, vec![]),
            (5000, vec![]),
        ],
    );
}

/// One row ten thousand times, and others of its very time: copies count as rows, and which of equal times
/// are the newest is by their bytes.
#[test]
fn equal_rows_and_equal_times() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], everything());
    let head = draft.limit(scan, 4);
    let plan = draft.plan(head);
    let mut samples = vec![at(100 * MS_NS).number(7); 10_000];
    samples.extend([at(100 * MS_NS).number(8), at(100 * MS_NS).number(9)]);
    samples.extend((0..500).map(|idx| at(100 * MS_NS).number(-idx).late(200 * MS_NS)));
    samples.push(at(400 * MS_NS).number(1));
    let one = |n| number(100 * MS_NS, n);
    expect(
        &plan,
        &world(&samples),
        &[
            (100, vec![one(9), one(8), one(7), one(7)]),
            (300, vec![one(9), one(8), one(7), one(7)]),
            (400, vec![number(400 * MS_NS, 1), one(9), one(8), one(7)]),
            (9_000, vec![number(400 * MS_NS, 1), one(9), one(8), one(7)]),
        ],
    );
}

/// Two rows change in one tick, each to one that sorts before it was: the newer comes in from outside when
/// its former self has left, and not the older one, which is looked at in between.
#[test]
fn rows_that_change_at_once() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number", "text"], last(10 * SEC_NS));
    let groups = draft.aggregate(scan, &["text", "time_"], &[("min", "number")]);
    let head = draft.limit(groups, 1);
    let plan = draft.plan(head);
    let newer = at(200 * MS_NS).text("a").number(5);
    let older = at(100 * MS_NS).text("b").number(5);
    let rows = world(&[newer, older, newer.number(3).late(secs(1)), older.number(3).late(secs(1))]);
    let row =
        |n| vec![Value::str("a"), Value::Time64Ns(BASE_UNIX_NS + 200 * MS_NS), Value::Int64(n)];
    expect(&plan, &rows, &[(500, vec![row(5)]), (1500, vec![row(3)])]);
}

/// A condition that only the cluster part can tell stands below the limit: rows of which nobody knows yet do
/// not push out those that are certain, and come to be shown when their condition comes true.
#[test]
fn conditions_that_come_true() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], last(5 * SEC_NS));
    let age = call(
        "subtract",
        DataType::Int64,
        vec![
            Expr::Now { factor: 1, offset_ns: 0 },
            call("time_to_int64", DataType::Int64, vec![draft.column(scan, "time_")]),
        ],
    );
    let is_old = call("greaterThan", DataType::Boolean, vec![age, int(SEC_NS)]);
    let is_even = call("equal", DataType::Boolean, vec![draft.column(scan, "number"), int(0)]);
    let either = call("logicalOr", DataType::Boolean, vec![is_even, is_old]);
    let shown = draft.filter(scan, either);
    let head = draft.limit(shown, 2);
    let plan = draft.plan(head);
    let split = weir_pxl::split(&plan);
    assert!(matches!(split.sources[0].shape, Shape::Candidates { rows_max: 2 }), "{split:?}");
    let ms = |at_ms: i64, n: i64| at(at_ms * MS_NS).number(n);
    let rows = world(&[ms(100, 0), ms(200, 1), ms(300, 0), ms(400, 1), ms(500, 1), ms(600, 0)]);
    let row = |at_ms: i64, n: i64| number(at_ms * MS_NS, n);
    let expected = [
        (1000, vec![row(300, 0), row(600, 0)]),
        (2000, vec![row(500, 1), row(600, 0)]),
        (5400, vec![row(500, 1), row(600, 0)]),
        (5600, vec![]),
    ];
    expect_split(&plan, &split, &rows, &expected);
}

/// A left join keeps each row of its left side, so the newest of these are enough; an inner join does not.
#[test]
fn joins_below_a_limit() {
    for (how, is_pushed) in
        [(JoinKind::Left, true), (JoinKind::Inner, false), (JoinKind::Outer, false)]
    {
        let mut draft = Draft::default();
        let left = draft.scan(&["time_", "number"], last(5 * SEC_NS));
        let right = draft.scan(&["time_", "number"], last(5 * SEC_NS));
        let right = draft.aggregate(right, &["number"], &[("count", "time_")]);
        let joined = draft.join(how, [left, right], &[("number", "number")]);
        let head = draft.limit(joined, 2);
        let split = weir_pxl::split(&draft.plan(head));
        let has_bound = |source: &weir_types::split::Source| {
            matches!(source.shape, Shape::Rows { rows_max: Some(2) })
        };
        assert_eq!(split.sources.iter().any(has_bound), is_pushed, "{how:?}");
    }
}

fn expect_split(
    plan: &Plan,
    split: &SplitPlan,
    world: &weir_dataflow_tests::model::World,
    expected: &crate::support::Expected,
) {
    use weir_dataflow_tests::drive::{FeedOrder, Feeding};
    expect(plan, world, expected);
    let ticks_ms =
        expected.iter().map(|(after_ms, _)| crate::support::BASE_MS + after_ms).collect();
    for (workers, nodes) in [(1, 1), (2, 2), (4, 1)] {
        let feed = Feeding {
            order: FeedOrder::Whole,
            workers,
            nodes,
            tick_ms: 100,
            refresh_ms: 100,
            ..Feeding::plain(Vec::clone(&ticks_ms))
        };
        compare(plan, split, world, &feed).unwrap_or_else(|error| panic!("{error}\n{feed:?}"));
    }
}

/// What is sent and kept does not grow with the window: of a hundred panes with fifty rows each, ten rows
/// stay in the views' window, and a node ships no row that newer ones of its refresh outdo.
#[test]
fn state_is_the_rows_that_are_wanted() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], last(300 * SEC_NS));
    let head = draft.limit(scan, 10);
    let plan = draft.plan(head);
    let mut state = BTreeMap::new();
    for seconds in [10, 100] {
        let mut rig = weir_dataflow_tests::drive::Rig::start(1, 1, None).unwrap();
        rig.install(1, &pushed_split(&plan), 1000, crate::support::BASE_MS);
        for second in 1..=seconds {
            let samples: Vec<Sample> =
                (0..50).map(|idx| at(secs(second) - idx * MS_NS).number(idx)).collect();
            rig.push_world(&world(&samples));
            rig.close_tick(crate::support::BASE_MS + 1000 * second as u64).unwrap();
        }
        assert_eq!(rig.views(1)["out"].len(), 10);
        let stats: usize = rig
            .engines()
            .iter()
            .flat_map(|engine| engine.stats().queries)
            .map(|query| usize::try_from(query.state_bytes).unwrap())
            .sum();
        state.insert(seconds, stats);
    }
    assert!(state[&100] <= state[&10] + 64, "{state:?}");
    assert!(state[&100] < 10 * 1_000, "{state:?}");
}
