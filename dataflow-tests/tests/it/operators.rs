//! Aggregates, joins, unions and limits at the places where definitions are easily got wrong.

use weir_dataflow_tests::generate::rows::{BASE_UNIX_NS, SEC_NS};
use weir_dataflow_tests::model::Row;
use weir_types::plan::JoinKind;
use weir_types::{DataType, Value};

use crate::support::{Draft, MS_NS, Sample, at, call, everything, expect, int, last, secs, world};

fn ints(values: &[i64]) -> Row {
    values.iter().map(|&value| Value::Int64(value)).collect()
}

fn time(after_ns: i64) -> Value {
    Value::Time64Ns(BASE_UNIX_NS + after_ns)
}

/// An ungrouped aggregate of nothing is one row of the documented values, before any row came and
/// after the last has gone.
#[test]
fn aggregates_of_nothing() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number", "ratio", "flag", "text"], last(SEC_NS));
    let aggs = [
        ("count", "number"),
        ("sum", "number"),
        ("sum", "ratio"),
        ("sum", "flag"),
        ("mean", "number"),
        ("min", "number"),
        ("max", "number"),
        ("min", "ratio"),
        ("max", "ratio"),
        ("max", "time_"),
        ("any", "text"),
        ("quantiles", "number"),
    ];
    let all = draft.aggregate(scan, &[], &aggs);
    let plan = draft.plan(all);
    let nothing = vec![
        Value::Int64(0),
        Value::Int64(0),
        Value::Float64(0.0),
        Value::Int64(0),
        Value::Float64(f64::NAN),
        Value::Int64(i64::MAX),
        Value::Int64(i64::MIN),
        Value::Float64(f64::MAX),
        Value::Float64(f64::MIN),
        Value::Time64Ns(i64::MIN),
        Value::str(""),
        Value::str(""),
    ];
    let quantiles = "{\"p01\":5.0,\"p10\":5.0,\"p25\":5.0,\"p50\":5.0,\"p75\":5.0,\"p90\":5.0,\
                     \"p95\":5.0,\"p99\":5.0}";
    let one = vec![
        Value::Int64(1),
        Value::Int64(5),
        Value::Float64(0.25),
        Value::Int64(1),
        Value::Float64(5.0),
        Value::Int64(5),
        Value::Int64(5),
        Value::Float64(0.25),
        Value::Float64(0.25),
        time(secs(1)),
        Value::str("x"),
        Value::str(quantiles),
    ];
    let rows = world(&[at(secs(1)).number(5).ratio(0.25).text("x")]);
    expect(&plan, &rows, &[(0, vec![nothing.clone()]), (1000, vec![one]), (2000, vec![nothing])]);
}

/// A group comes with its first row and goes with its last; a distinct is a group without
/// aggregates.
#[test]
fn groups_come_and_go() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number", "text"], last(SEC_NS));
    let groups = draft.aggregate(scan, &["text"], &[("sum", "number")]);
    let plan = draft.plan(groups);
    let rows = world(&[
        at(100 * MS_NS).text("a").number(3),
        at(200 * MS_NS).text("b").number(-3),
        at(300 * MS_NS).text("a").number(i64::MAX),
    ]);
    let row = |text, sum| vec![Value::str(text), Value::Int64(sum)];
    let wrapped = i64::MAX.wrapping_add(3);
    expect(
        &plan,
        &rows,
        &[
            (0, vec![]),
            (100, vec![row("a", 3)]),
            (200, vec![row("a", 3), row("b", -3)]),
            (300, vec![row("a", wrapped), row("b", -3)]),
            (1100, vec![row("a", i64::MAX), row("b", -3)]),
            (1200, vec![row("a", i64::MAX)]),
            (1300, vec![]),
        ],
    );
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "text"], last(SEC_NS));
    let distinct = draft.aggregate(scan, &["text"], &[]);
    let plan = draft.plan(distinct);
    let (a, b) = (vec![Value::str("a")], vec![Value::str("b")]);
    expect(
        &plan,
        &rows,
        &[(300, vec![a.clone(), b.clone()]), (1200, vec![a]), (1300, vec![]), (9000, vec![])],
    );
}

/// Sums of doubles are exact, and what has expired leaves no trace: no drift, no stuck NaN or
/// infinity, no lost small part beside a huge one.
#[test]
fn double_sums_leave_no_trace() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "ratio"], last(SEC_NS));
    let sums = draft.aggregate(scan, &[], &[("sum", "ratio"), ("mean", "ratio"), ("max", "ratio")]);
    let plan = draft.plan(sums);
    let rows = world(&[
        at(100 * MS_NS).ratio(1e308),
        at(200 * MS_NS).ratio(0.1),
        at(300 * MS_NS).ratio(f64::NAN),
        at(400 * MS_NS).ratio(f64::NEG_INFINITY),
        at(500 * MS_NS).ratio(0.2),
        at(550 * MS_NS).ratio(-1e308),
    ]);
    let row =
        |sum: f64, count: f64, max: f64| vec![[sum, sum / count, max].map(Value::Float64).to_vec()];
    expect(
        &plan,
        &rows,
        &[
            (200, row(1e308, 2.0, 1e308)),
            (400, row(f64::NAN, 4.0, 1e308)),
            (600, row(f64::NAN, 6.0, 1e308)),
            (1100, row(f64::NAN, 5.0, 0.2)),
            (1300, row(f64::NEG_INFINITY, 3.0, 0.2)),
            (1400, row(0.2 - 1e308, 2.0, 0.2)),
            (1500, row(-1e308, 1.0, -1e308)),
        ],
    );
}

/// min, max and any over a window are those of the rows that are left: catches state that only
/// knows the best so far. A tie in time goes to the smaller value.
#[test]
fn extremes_follow_expiry() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], last(SEC_NS));
    let aggs = [("min", "number"), ("max", "number"), ("any", "number")];
    let best = draft.aggregate(scan, &[], &aggs);
    let plan = draft.plan(best);
    let rows = world(&[
        at(100 * MS_NS).number(9),
        at(200 * MS_NS).number(1),
        at(200 * MS_NS).number(7),
        at(300 * MS_NS).number(5),
        // Older than all others, but it comes last.
        at(50 * MS_NS).number(4).late(500 * MS_NS),
    ]);
    expect(
        &plan,
        &rows,
        &[
            (300, vec![ints(&[1, 9, 9])]),
            (600, vec![ints(&[1, 9, 4])]),
            (1100, vec![ints(&[1, 7, 1])]),
            (1200, vec![ints(&[5, 5, 5])]),
            (1300, vec![ints(&[i64::MAX, i64::MIN, 0])]),
        ],
    );
}

/// `head` keeps the newest rows, breaks ties by the whole row, and takes back what it had pushed out
/// when the newer ones go.
#[test]
fn head_keeps_the_newest() {
    let samples: Vec<Sample> = (1..=5)
        .map(|idx| at(idx * 100 * MS_NS).number(idx))
        .chain([at(500 * MS_NS).number(4)])
        .collect();
    let rows = world(&samples);
    let row = |idx: i64, number| vec![time(idx * 100 * MS_NS), Value::Int64(number)];
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], last(SEC_NS));
    let head = draft.limit(scan, 2);
    let plan = draft.plan(head);
    expect(
        &plan,
        &rows,
        &[
            (100, vec![row(1, 1)]),
            (300, vec![row(2, 2), row(3, 3)]),
            (500, vec![row(5, 4), row(5, 5)]),
            (1400, vec![row(5, 4), row(5, 5)]),
            (1500, vec![]),
        ],
    );
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], last(SEC_NS));
    let head = draft.limit(scan, 0);
    let plan = draft.plan(head);
    expect(&plan, &rows, &[(500, vec![]), (1500, vec![])]);
}

/// Without `time_` the smallest rows stay, and the next ones move up when they go.
#[test]
fn head_without_time_keeps_the_smallest() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number", "text"], last(SEC_NS));
    let groups = draft.aggregate(scan, &["text"], &[("count", "number")]);
    let head = draft.limit(groups, 2);
    let plan = draft.plan(head);
    let rows = world(&[
        at(100 * MS_NS).text("b"),
        at(200 * MS_NS).text("c"),
        at(300 * MS_NS).text("a"),
        at(400 * MS_NS).text("c"),
    ]);
    let row = |text, count| vec![Value::str(text), Value::Int64(count)];
    expect(
        &plan,
        &rows,
        &[
            (200, vec![row("b", 1), row("c", 1)]),
            (400, vec![row("a", 1), row("b", 1)]),
            (1100, vec![row("a", 1), row("c", 2)]),
            (1300, vec![row("c", 1)]),
        ],
    );
}

fn keyed(samples: &[(i64, &'static str, i64)]) -> Vec<Sample> {
    samples.iter().map(|&(ms, text, number)| at(ms * MS_NS).text(text).number(number)).collect()
}

/// Duplicates multiply, and every kind fills the missing side with zeros: 2 × 3 rows are 6.
#[test]
fn joins_multiply_and_fill() {
    let rows = world(&keyed(&[
        (100, "k", 1),
        (100, "k", 1),
        (100, "k", -1),
        (100, "k", -2),
        (100, "k", -3),
        (100, "l", 5),
        (100, "r", -5),
    ]));
    let expected = |how| -> Vec<Row> {
        let row = |left: &str, l, right: &str, r| {
            vec![Value::str(left), Value::Int64(l), Value::str(right), Value::Int64(r)]
        };
        let mut out = Vec::new();
        for r in [-1, -2, -3] {
            out.extend([row("k", 1, "k", r), row("k", 1, "k", r)]);
        }
        if how != JoinKind::Inner {
            out.push(row("l", 5, "", 0));
        }
        if how == JoinKind::Outer {
            out.push(row("", 0, "r", -5));
        }
        out
    };
    for how in [JoinKind::Inner, JoinKind::Left, JoinKind::Outer] {
        let mut draft = Draft::default();
        let side = |draft: &mut Draft, func: &str| {
            let scan = draft.scan(&["time_", "text", "number"], last(SEC_NS));
            let sign = call(func, DataType::Boolean, vec![draft.column(scan, "number"), int(0)]);
            let rows = draft.filter(scan, sign);
            let exprs = vec![
                ("text", draft.column(rows, "text")),
                ("number", draft.column(rows, "number")),
            ];
            // `time_` goes only where a blocking operator follows: through a distinct-free union.
            let all = draft.union(&[rows]);
            draft.map(all, exprs)
        };
        let left = side(&mut draft, "greaterThan");
        let right = side(&mut draft, "lessThan");
        let join = draft.join(how, [left, right], &[("text", "text")]);
        let plan = draft.plan(join);
        expect(&plan, &rows, &[(0, vec![]), (100, expected(how)), (1100, vec![])]);
    }
}

/// A side that comes later retracts the zeros that stood for it, and brings them back when it goes.
#[test]
fn outer_joins_retract_their_zeros() {
    let mut draft = Draft::default();
    let long = draft.scan(&["time_", "text", "number"], last(29 * SEC_NS));
    let short = draft.scan(&["time_", "text", "number"], last(SEC_NS));
    let long = draft.aggregate(long, &["text"], &[("count", "number")]);
    let short = draft.aggregate(short, &["text"], &[("sum", "number")]);
    let join = draft.join(JoinKind::Outer, [long, short], &[("text", "text")]);
    let plan = draft.plan(join);
    let rows = world(&keyed(&[(100, "a", 1), (2500, "b", 2), (2600, "a", 3)]));
    let row = |left: &str, count, right: &str, sum| {
        vec![Value::str(left), Value::Int64(count), Value::str(right), Value::Int64(sum)]
    };
    expect(
        &plan,
        &rows,
        &[
            (100, vec![row("a", 1, "a", 1)]),
            (1100, vec![row("a", 1, "", 0)]),
            (2500, vec![row("a", 1, "", 0), row("b", 1, "b", 2)]),
            (2600, vec![row("a", 2, "a", 3), row("b", 1, "b", 2)]),
            (3500, vec![row("a", 2, "a", 3), row("b", 1, "", 0)]),
            (29_100, vec![row("a", 1, "", 0), row("b", 1, "", 0)]),
            (32_000, vec![]),
        ],
    );
}

/// A union adds counts, also of a frame with itself.
#[test]
fn unions_add_counts() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], last(SEC_NS));
    let twice = draft.union(&[scan, scan]);
    let sum = draft.aggregate(twice, &["number"], &[("count", "number")]);
    let plan = draft.plan(sum);
    let rows = world(&keyed(&[(100, "", 1), (200, "", 1)]));
    expect(
        &plan,
        &rows,
        &[(100, vec![ints(&[1, 2])]), (200, vec![ints(&[1, 4])]), (1100, vec![ints(&[1, 2])])],
    );
}

/// An aggregate of an aggregate sees single rows taken back: min, max, any, quantiles and doubles of
/// changing groups.
#[test]
fn second_level_aggregates() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number", "text"], last(SEC_NS));
    let first = draft.aggregate(scan, &["text"], &[("sum", "number"), ("mean", "number")]);
    let aggs = [
        ("count", "text"),
        ("min", "sum_number"),
        ("max", "sum_number"),
        ("any", "text"),
        ("sum", "mean_number"),
    ];
    let second = draft.aggregate(first, &[], &aggs);
    let plan = draft.plan(second);
    let rows = world(&keyed(&[(100, "b", 10), (200, "a", 3), (300, "b", -20), (400, "c", 7)]));
    let row = |count, min, max, any: &str, sum| {
        vec![vec![
            Value::Int64(count),
            Value::Int64(min),
            Value::Int64(max),
            Value::str(any),
            Value::Float64(sum),
        ]]
    };
    expect(
        &plan,
        &rows,
        &[
            (0, row(0, i64::MAX, i64::MIN, "", 0.0)),
            (100, row(1, 10, 10, "b", 10.0)),
            (200, row(2, 3, 10, "a", 13.0)),
            (300, row(2, -10, 3, "a", -2.0)),
            (400, row(3, -10, 7, "a", 5.0)),
            (1100, row(3, -20, 7, "a", -10.0)),
            (1200, row(2, -20, 7, "b", -13.0)),
            (1300, row(1, 7, 7, "c", 7.0)),
            (1400, row(0, i64::MAX, i64::MIN, "", 0.0)),
        ],
    );
}

/// The rows with the greatest value, by a join with the maximum: the threshold moves both ways.
#[test]
fn threshold_self_join() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number", "text"], last(SEC_NS));
    let best = draft.aggregate(scan, &[], &[("max", "number")]);
    let join = draft.join(JoinKind::Inner, [scan, best], &[("number", "max_number")]);
    let names = draft.aggregate(join, &["text", "number"], &[]);
    let plan = draft.plan(names);
    let rows = world(&keyed(&[(100, "a", 1), (200, "b", 5), (300, "c", 5), (400, "d", 2)]));
    let row = |text: &str, number| vec![Value::str(text), Value::Int64(number)];
    expect(
        &plan,
        &rows,
        &[
            (100, vec![row("a", 1)]),
            (200, vec![row("b", 5)]),
            (400, vec![row("b", 5), row("c", 5)]),
            (1200, vec![row("c", 5)]),
            (1300, vec![row("d", 2)]),
            (1400, vec![]),
        ],
    );
}

/// Quantiles over a window: nearest ranks of the rows that are left, small integers exactly.
#[test]
fn quantiles_follow_expiry() {
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "number"], everything());
    let quantiles = draft.aggregate(scan, &[], &[("quantiles", "number")]);
    let plan = draft.plan(quantiles);
    let samples: Vec<Sample> = (1..=100).map(|number| at(0).number(number)).collect();
    let text = "{\"p01\":1.0,\"p10\":10.0,\"p25\":25.0,\"p50\":50.0,\"p75\":75.0,\"p90\":90.0,\
                \"p95\":95.0,\"p99\":99.0}";
    expect(&plan, &world(&samples), &[(0, vec![vec![Value::str(text)]])]);
    let mut draft = Draft::default();
    let scan = draft.scan(&["time_", "ratio"], last(SEC_NS));
    let quantiles = draft.aggregate(scan, &[], &[("quantiles", "ratio")]);
    let plan = draft.plan(quantiles);
    let rows = world(&[
        at(100 * MS_NS).ratio(f64::NAN),
        at(200 * MS_NS).ratio(f64::INFINITY),
        at(300 * MS_NS).ratio(0.0),
    ]);
    let all = |value: &str| {
        let fields: Vec<String> = ["01", "10", "25", "50", "75", "90", "95", "99"]
            .iter()
            .map(|percent| format!("\"p{percent}\":{value}"))
            .collect();
        vec![vec![Value::String(format!("{{{}}}", fields.join(",")).into_bytes())]]
    };
    expect(
        &plan,
        &rows,
        &[
            (100, vec![vec![Value::str("")]]),
            (200, all("1.7976931348623157e308")),
            (1200, all("0.0")),
            (1300, vec![vec![Value::str("")]]),
        ],
    );
}
