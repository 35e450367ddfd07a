//! Windows, panes, expiry, rows that are late or early: hand-written cases on the very edges.

use weir_types::plan::{EndBound, StartBound, Window};
use weir_types::{DataType, Expr, Plan, Value};

use weir_dataflow_tests::generate::rows::{BASE_UNIX_NS, SEC_NS};
use weir_dataflow_tests::model::{Row, World};

use crate::support::{Draft, MS_NS, at, everything, expect, expect_at, last, secs, world};

fn count_in(window: Window) -> Plan {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], window);
    let count = draft.aggregate(scan, &[], &[("count", "number")]);
    draft.plan(count)
}

fn n(count: i64) -> Vec<Row> {
    vec![vec![Value::Int64(count)]]
}

/// The start of a window is outside, the first nanosecond after it inside, and the window moves by
/// whole panes: catches every off-by-one of pane arithmetic.
#[test]
fn edges_of_a_sliding_window() {
    let plan = count_in(last(SEC_NS));
    let rows = world(&[at(0), at(1), at(100 * MS_NS), at(100 * MS_NS + 1), at(secs(1))]);
    expect_at(
        50,
        &plan,
        &rows,
        &[
            (0, n(1)),
            (50, n(2)),
            (100, n(3)),
            (150, n(4)),
            (950, n(4)),
            // The window is (base, base + 1 s]: the row at the base is out.
            (1000, n(4)),
            // Within a pane nothing leaves.
            (1050, n(4)),
            (1100, n(2)),
            (1150, n(2)),
            (1200, n(1)),
            (2000, n(0)),
        ],
    );
}

/// A window that is no multiple of its pane is rounded up to one.
#[test]
fn windows_are_rounded_up() {
    let rows = world(&[at(100 * MS_NS)]);
    let plan = count_in(last(SEC_NS + 1));
    expect(&plan, &rows, &[(100, n(1)), (1100, n(1)), (1200, n(0))]);
    // 31 s are cut into panes of one second.
    let plan = count_in(last(31 * SEC_NS));
    expect(&plan, &rows, &[(100, n(1)), (31_900, n(1)), (32_000, n(0))]);
}

/// A week in panes of an hour: rows are seen at once, to the nanosecond, and leave hour by hour; a row that is
/// days late corrects what still holds it; the least and the greatest are found again among the hours that are
/// left. Catches panes that are made coarser at the near end, or leave at another hour than their rows.
#[test]
fn a_week_leaves_by_the_hour() {
    let (hour, day) = (secs(3600), secs(86_400));
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], last(7 * day));
    let aggs = [("count", "number"), ("max", "number"), ("min", "number")];
    let all = draft.aggregate(scan, &[], &aggs);
    let plan = draft.plan(all);
    let rows = world(&[
        at(1).number(9),
        at(hour).number(1),
        at(hour + 1).number(5),
        at(3 * day).number(7).late(3 * day + 1),
        at(6 * day).number(2),
    ]);
    let row = |count, max, min| vec![[count, max, min].map(Value::Int64).to_vec()];
    let week_ms = 7 * 86_400_000;
    expect_at(
        1000,
        &plan,
        &rows,
        &[
            (1_000, row(1, 9, 9)),
            (3_600_000, row(2, 9, 1)),
            (3_601_000, row(3, 9, 1)),
            (6 * 86_400_000, row(4, 9, 1)),
            (6 * 86_400_000 + 1_000, row(5, 9, 1)),
            // The first hour is (0, 1 h]: it leaves as a whole, an hour after the week.
            (week_ms + 3_599_000, row(5, 9, 1)),
            (week_ms + 3_600_000, row(3, 7, 2)),
            (week_ms + 2 * 3_600_000, row(2, 7, 2)),
            (week_ms + 3 * 86_400_000, row(1, 2, 2)),
        ],
    );
}

/// A row ahead of the clock waits until its time; ten seconds ahead is the most.
#[test]
fn early_rows_wait() {
    let plan = count_in(last(300 * SEC_NS));
    let rows = world(&[
        at(secs(5)).late(-secs(5)),
        at(secs(10)).late(-secs(10)),
        at(secs(11)).late(-secs(10) - 1),
    ]);
    expect(
        &plan,
        &rows,
        &[(0, n(0)), (1000, n(0)), (4900, n(0)), (5000, n(1)), (10_000, n(2)), (20_000, n(2))],
    );
}

/// A late row corrects a window that it still belongs to, and is nothing to one that it does not.
#[test]
fn late_rows_correct() {
    let plan = count_in(last(2 * SEC_NS));
    let rows = world(&[
        at(100 * MS_NS),
        at(200 * MS_NS).late(secs(1)),
        at(300 * MS_NS).late(secs(2)),
        at(400 * MS_NS).late(secs(30)),
    ]);
    expect(
        &plan,
        &rows,
        &[(1000, n(1)), (1200, n(2)), (2100, n(1)), (2200, n(0)), (2300, n(0)), (30_400, n(0))],
    );
}

/// Absolute starts and ends are inclusive, and still nothing is seen before its time.
#[test]
fn absolute_bounds_are_inclusive() {
    let window = Window {
        start: StartBound::Absolute { start_unix_ns: BASE_UNIX_NS + secs(1) },
        end: EndBound::Absolute { end_unix_ns: BASE_UNIX_NS + secs(2) },
    };
    let rows = world(&[at(secs(1) - 1), at(secs(1)), at(secs(2)), at(secs(2) + 1)]);
    expect(&count_in(window), &rows, &[(500, n(0)), (1000, n(1)), (2000, n(2)), (9000, n(2))]);
}

/// An end that lags behind now is inclusive, and rows reach it by the clock alone.
#[test]
fn relative_ends_lag() {
    let window = Window {
        start: StartBound::Relative { window_ns: 3 * SEC_NS },
        end: EndBound::Relative { before_ns: SEC_NS },
    };
    let rows = world(&[at(100 * MS_NS), at(secs(1))]);
    expect(
        &count_in(window),
        &rows,
        &[(1000, n(0)), (1100, n(1)), (2000, n(2)), (3000, n(2)), (3100, n(1)), (4000, n(0))],
    );
}

/// Without a start rows stay, unless a retention slides over them.
#[test]
fn retention_bounds_scans_without_start() {
    let rows = world(&[at(100 * MS_NS), at(200 * MS_NS)]);
    expect(&count_in(everything()), &rows, &[(200, n(2)), (3_600_000, n(2))]);
    let bounded = World { retention_ns: Some(2 * SEC_NS), ..rows };
    expect(
        &count_in(everything()),
        &bounded,
        &[(200, n(2)), (2000, n(2)), (2100, n(1)), (2200, n(0))],
    );
}

/// Two scans with different windows each round on their own, also where they are joined to one.
#[test]
fn windows_of_one_plan_are_independent() {
    let mut draft = Draft::default();
    let short = draft.scan(&["time_", "number"], last(SEC_NS));
    let long = draft.scan(&["time_", "number"], last(31 * SEC_NS));
    let short = draft.aggregate(short, &[], &[("count", "number")]);
    let long = draft.aggregate(long, &[], &[("count", "number")]);
    let both = draft.join(weir_types::plan::JoinKind::Inner, [short, long], &[]);
    let plan = draft.plan(both);
    let row = |short, long| vec![vec![Value::Int64(short), Value::Int64(long)]];
    let rows = world(&[at(100 * MS_NS), at(secs(5))]);
    expect(
        &plan,
        &rows,
        &[
            (0, row(0, 0)),
            (100, row(1, 1)),
            (1100, row(0, 1)),
            (5000, row(1, 2)),
            (32_000, row(0, 1)),
            (36_000, row(0, 0)),
        ],
    );
}

/// `px.now()` in a row expression is the tick's time, for rows that came long ago, too.
#[test]
fn now_is_the_tick() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_"], everything());
    let age = draft.map(scan, vec![("now", Expr::Now { factor: 1, offset_ns: -BASE_UNIX_NS })]);
    let plan = draft.plan(age);
    let rows = world(&[at(0)]);
    let now = |after_ns| vec![vec![Value::Int64(after_ns)]];
    expect_at(1000, &plan, &rows, &[(0, now(0)), (1000, now(secs(1))), (7000, now(secs(7)))]);
}

/// Duplicates count, and a filter on a later time lets each row through when it is admitted.
#[test]
fn duplicates_are_rows() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "text"], last(SEC_NS));
    let is_a = crate::support::call(
        "equal",
        DataType::Boolean,
        vec![draft.column(scan, "text"), Expr::Literal(Value::str("a"))],
    );
    let only = draft.filter(scan, is_a);
    let plan = draft.plan(only);
    let row = at(100 * MS_NS).text("a");
    let rows = world(&[row, row, row.text("b"), row.late(200 * MS_NS)]);
    let a = vec![Value::Time64Ns(BASE_UNIX_NS + 100 * MS_NS), Value::str("a")];
    expect(
        &plan,
        &rows,
        &[
            (100, vec![a.clone(), a.clone()]),
            (300, vec![a.clone(), a.clone(), a.clone()]),
            (1000, vec![a.clone(), a.clone(), a]),
            (1100, vec![]),
        ],
    );
}
