//! The conformance cases of frames (language reference, appendix A.2): text through compiler, model
//! and engine, each with the columns and rows that it must give.

use weir_dataflow_tests::drive::{FeedOrder, Feeding, compare, difference, run};
use weir_dataflow_tests::generate::rows::{BASE_UNIX_NS, SEC_NS};
use weir_dataflow_tests::model::{Arrived, Row, Table, World, evaluate, multiset};
use weir_pxl::{CompileOptions, Compiled, Script, compile, render_diagnostics};
use weir_types::{Column, DataType, PackedRow, Relation, SemanticType, Value};

use crate::support::{BASE_MS, MS_NS};

/// Columns after `time_`.
type Columns = &'static [(&'static str, DataType, SemanticType)];

const TABLES: [(&str, Columns); 4] = [
    (
        "abc",
        &[
            ("a", DataType::Int64, SemanticType::None),
            ("b", DataType::Int64, SemanticType::None),
            ("c", DataType::Int64, SemanticType::None),
        ],
    ),
    (
        "kv",
        &[("k", DataType::String, SemanticType::None), ("v", DataType::Int64, SemanticType::None)],
    ),
    (
        "kw",
        &[("k", DataType::String, SemanticType::None), ("w", DataType::Int64, SemanticType::None)],
    ),
    (
        "measured",
        &[
            ("latency", DataType::Int64, SemanticType::DurationNs),
            ("size", DataType::Int64, SemanticType::Bytes),
            ("failed", DataType::Boolean, SemanticType::None),
            ("ratio", DataType::Float64, SemanticType::None),
        ],
    ),
];

fn relation(columns: Columns) -> Relation {
    let time = Column::new("time_", DataType::Time64Ns, SemanticType::None);
    let others = columns.iter().map(|(name, ty, semantic)| Column::new(*name, *ty, *semantic));
    Relation::new(std::iter::once(time).chain(others).collect())
}

fn options() -> CompileOptions {
    let tables =
        TABLES.iter().map(|(name, columns)| ((*name).to_string(), relation(columns))).collect();
    CompileOptions { tables, ..CompileOptions::default() }
}

pub(crate) fn compiled(body: &str) -> Result<Compiled, Vec<weir_types::Diagnostic>> {
    let text = format!("import px\n{body}\n");
    compile(&Script { name: "case.pxl", text: &text, vis: None }, &options())
}

/// Rows of the tables, one second apart, all at once there.
fn world(tables: &[(&str, &[Row])]) -> World {
    let mut out = World::default();
    for (name, columns) in TABLES {
        let given = tables.iter().find(|(given, _)| *given == name).map_or(&[][..], |t| t.1);
        let rows = given
            .iter()
            .zip(1..)
            .map(|(values, number)| {
                let time_unix_ns = BASE_UNIX_NS + number * MS_NS;
                let row = [&[Value::Time64Ns(time_unix_ns)][..], values.as_slice()].concat();
                Arrived { arrival_unix_ns: time_unix_ns, row }
            })
            .collect();
        out.tables.insert(name.to_string(), Table { relation: relation(columns), rows });
    }
    out
}

fn s(text: &str) -> Value {
    Value::str(text)
}
fn i(value: i64) -> Value {
    Value::Int64(value)
}
fn ints(values: &[i64]) -> Row {
    values.iter().map(|&value| i(value)).collect()
}
fn keyed(rows: &[(&str, i64)]) -> Vec<Row> {
    rows.iter().map(|&(key, value)| vec![s(key), i(value)]).collect()
}

/// The script's outputs have these columns and rows, by the model and by the engine.
#[track_caller]
pub(crate) fn gives(body: &str, tables: &[(&str, &[Row])], expected: &[(&str, &[&str], Vec<Row>)]) {
    let plan = match compiled(body) {
        Ok(compiled) => compiled.plan,
        Err(found) => panic!("{}", render_diagnostics(&found, body, false)),
    };
    let world = world(tables);
    let now_ms = BASE_MS + 100_000;
    let views = evaluate(&plan, &world, now_ms as i64 * MS_NS).expect("the model knows it all");
    let tables: Vec<&str> = plan.outputs.iter().map(|output| output.table.as_str()).collect();
    assert_eq!(tables, expected.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    for (output, (name, columns, rows)) in plan.outputs.iter().zip(expected) {
        let relation = &plan.ops[output.op].relation;
        let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, *columns, "columns of {name}");
        if let Some(wrong) = difference(&multiset(rows), &views[*name], &relation.types()) {
            panic!("{name}:\n{wrong}\n{body}");
        }
    }
    let feed = Feeding {
        order: FeedOrder::Whole,
        workers: 2,
        nodes: 2,
        tick_ms: 1000,
        refresh_ms: 1000,
        ticks_ms: vec![BASE_MS, BASE_MS + 1000, now_ms],
        installed_after: 0,
        one_row_slices: false,
        groups_max: None,
    };
    if let Err(error) = compare(&plan, &weir_pxl::split(&plan), &world, &feed) {
        panic!("{error}\n{body}");
    }
}

/// Engine and model agree about a text's answer, whole and row by row, at one and two workers.
fn agree(body: &str, tables: &[(&str, &[Row])]) {
    let plan = compiled(body).expect("it compiles").plan;
    for (workers, order) in [(1, FeedOrder::Whole), (2, FeedOrder::RowByRow)] {
        let feed = Feeding {
            one_row_slices: false,
            groups_max: None,
            order,
            workers,
            nodes: 2,
            tick_ms: 1000,
            refresh_ms: 1000,
            ticks_ms: vec![BASE_MS, BASE_MS + 1000, BASE_MS + 100_000],
            installed_after: 0,
        };
        if let Err(error) = compare(&plan, &weir_pxl::split(&plan), &world(tables), &feed) {
            panic!("{error}\n{body}");
        }
    }
}

/// A frame appended to itself counts each row as often, through filters, maps, joins, limits and every
/// aggregate, and what is shown has all copies: catches a weight that is lost or applied twice.
#[test]
fn appended_to_itself() {
    let rows: Vec<Row> = (0..6).map(|n| ints(&[n % 3, n, n * n])).collect();
    let tables: &[(&str, &[Row])] = &[("abc", &rows)];
    let starts = [
        "df = px.DataFrame('abc')",
        "df = px.DataFrame('abc')\ndf.d = df.a + df.b",
        "df = px.DataFrame('abc').groupby('a').agg(b=('b', px.sum), c=('c', px.max))",
    ];
    let appends = [
        "df = df.append(df)",
        "df = df.append([df, df])\ndf = df.append(df)",
        "df = df.append(df).append(df[df.b > 2])\ndf = df.append([df, df.head(2), df])",
        "other = df.append(df)\ndf = other.append([df, other])",
    ];
    let ends = [
        "",
        "df = df[df.b != 3]\ndf.e = df.b * 2",
        "df = df.head(4)",
        "df = df.groupby('a').agg(n=('b', px.count), s=('b', px.sum), m=('b', px.mean), \
         lo=('b', px.min), hi=('b', px.max), q=('c', px.quantiles))",
        "df = df.agg(n=('b', px.count), x=('b', px.any))",
        "df = df.merge(df, 'left', 'a', 'b')",
    ];
    for start in starts {
        for append in appends {
            for end in ends {
                agree(&format!("{start}\n{append}\n{end}\npx.display(df)"), tables);
            }
        }
    }
}

/// Thirty times appended to itself: catches counts that only copies could give.
#[test]
fn appended_to_itself_a_billion_times() {
    let rows: Vec<Row> = (0..6).map(|n| ints(&[n % 3, n, n * n])).collect();
    let tables: &[(&str, &[Row])] = &[("abc", &rows)];
    let doubled = "df = df.append(df)\n".repeat(30);
    let plan = compiled(&format!(
        "df = px.DataFrame('abc')\n{doubled}df = df.agg(n=('b', px.count), s=('b', px.sum))\n\
         px.display(df)"
    ))
    .expect("it compiles")
    .plan;
    let feed = Feeding {
        one_row_slices: false,
        groups_max: None,
        order: FeedOrder::Whole,
        workers: 2,
        nodes: 2,
        tick_ms: 1000,
        refresh_ms: 1000,
        ticks_ms: vec![BASE_MS, BASE_MS + 100_000],
        installed_after: 0,
    };
    let mut last = Vec::new();
    run(&weir_pxl::split(&plan), &world(tables), &feed, &mut |_, views| {
        let rows = views.get("output").into_iter().flatten();
        last = rows.map(|(row, count)| (row.clone(), *count)).collect();
        Ok(())
    })
    .expect("it runs");
    let counted = PackedRow::pack(&[i(6 << 30), i(15 << 30)]);
    assert_eq!(last, [(counted, 1)]);
}

/// As [`gives`], for the one output `output`.
#[track_caller]
pub(crate) fn shows(body: &str, tables: &[(&str, &[Row])], columns: &[&str], rows: Vec<Row>) {
    gives(&format!("{body}\npx.display(df)"), tables, &[("output", columns, rows)]);
}

#[track_caller]
pub(crate) fn refused(body: &str, code: &str) {
    let found = compiled(body).expect_err("the script is wrong");
    let codes: Vec<&str> = found.iter().map(|diagnostic| diagnostic.code.as_str()).collect();
    assert!(codes.contains(&code), "{codes:?} instead of {code} for\n{body}");
    let placed = found.iter().all(|diagnostic| diagnostic.line > 0 && diagnostic.column > 0);
    assert!(placed, "a finding without a place: {found:?}");
}

/// An assigned column is always last; selections and drops keep the order that they say.
#[test]
fn columns_and_their_order() {
    let abc = [ints(&[1, 2, 3])];
    let abc: &[(&str, &[Row])] = &[("abc", &abc)];
    let frame = "df = px.DataFrame('abc', select=['a', 'b', 'c'])";
    shows(&format!("{frame}\ndf.a = df.b"), abc, &["b", "c", "a"], vec![ints(&[2, 3, 2])]);
    shows(&format!("{frame}\ndf = df['b', 'a']"), abc, &["b", "a"], vec![ints(&[2, 1])]);
    shows(&format!("{frame}\ndf = df[['c', 'a']]"), abc, &["c", "a"], vec![ints(&[3, 1])]);
    shows(&format!("{frame}\ndf = df.drop(['a'])"), abc, &["b", "c"], vec![ints(&[2, 3])]);
    shows(
        "df = px.DataFrame('abc', select=['a', 'b'])\ndf.x = 1\ndf.y = 2\ndf.x = 3",
        abc,
        &["a", "b", "y", "x"],
        vec![ints(&[1, 2, 2, 3])],
    );
    refused(&format!("{frame}\ndf = df[df.a]\npx.display(df)"), "filter_type");
    refused(&format!("{frame}\ndf = df['a', 'a']\npx.display(df)"), "column_twice");
    refused(&format!("{frame}\ndf = df[['d']]\npx.display(df)"), "column_not_found");
}

const LEFT: &str = "l = px.DataFrame('kv', select=['k', 'v'])";
const RIGHT: &str = "r = px.DataFrame('kw', select=['k', 'w'])";

fn merge(arguments: &str) -> String {
    format!("{LEFT}\n{RIGHT}\ndf = l.merge(r, {arguments})")
}

/// Names, multiplicities and zeros of merges.
#[test]
fn merges() {
    let left = keyed(&[("x", 1), ("x", 2)]);
    let right = keyed(&[("x", 10), ("x", 20), ("x", 30), ("y", 40)]);
    let tables: &[(&str, &[Row])] = &[("kv", &left), ("kw", &right)];
    let row = |k: &str, v, k2: &str, w| vec![s(k), i(v), s(k2), i(w)];
    let mut six = Vec::new();
    for v in [1, 2] {
        six.extend([10, 20, 30].map(|w| row("x", v, "x", w)));
    }
    let on = "left_on='k', right_on='k'";
    shows(&merge(&format!("how='inner', {on}")), tables, &["k_x", "v", "k_y", "w"], six.clone());
    shows(
        &merge(&format!("how='inner', {on}, suffixes=['', '_x']")),
        tables,
        &["k", "v", "k_x", "w"],
        six.clone(),
    );
    let with_y = [six, vec![row("", 0, "y", 40)]].concat();
    for how in ["right", "outer"] {
        let body = merge(&format!("how='{how}', {on}"));
        shows(&body, tables, &["k_x", "v", "k_y", "w"], with_y.clone());
    }
    let right = keyed(&[("a", 1), ("b", 2), ("c", 3)]);
    let tables: &[(&str, &[Row])] = &[("kv", &left), ("kw", &right)];
    let mut cross = Vec::new();
    for v in [1, 2] {
        cross.extend([("a", 1), ("b", 2), ("c", 3)].map(|(k, w)| row("x", v, k, w)));
    }
    let body = merge("how='inner', left_on=[], right_on=[]");
    shows(&body, tables, &["k_x", "v", "k_y", "w"], cross);
    refused(
        &format!("{}\npx.display(df)", merge("how='cross', left_on=[], right_on=[]")),
        "join_kind",
    );
}

/// Groups, distinct pairs, and what aggregates make of no rows.
#[test]
fn aggregates() {
    let rows = keyed(&[("x", 1), ("x", 2), ("y", 5), ("x", 1)]);
    let tables: &[(&str, &[Row])] = &[("kv", &rows)];
    let frame = "df = px.DataFrame('kv', select=['k', 'v'])";
    shows(
        &format!("{frame}\ndf = df.groupby('k').agg(n=('v', px.count), s=('v', px.sum))"),
        tables,
        &["k", "n", "s"],
        vec![vec![s("x"), i(3), i(4)], vec![s("y"), i(1), i(5)]],
    );
    shows(
        &format!("{frame}\ndf = df.groupby(['k', 'v']).agg()"),
        tables,
        &["k", "v"],
        keyed(&[("x", 1), ("x", 2), ("y", 5)]),
    );
    shows(
        &format!(
            "{frame}\ndf = df.agg(n=('v', px.count), s=('v', px.sum), m=('v', px.mean), \
             lo=('v', px.min), hi=('v', px.max))"
        ),
        &[],
        &["n", "s", "m", "lo", "hi"],
        vec![vec![i(0), i(0), Value::Float64(f64::NAN), i(i64::MAX), i(i64::MIN)]],
    );
    let grouped = format!("{frame}\ndf = df.groupby('k').agg(n=('v', px.count))");
    shows(&grouped, &[], &["k", "n"], vec![]);
    refused(&format!("{frame}\ndf = df.agg()\npx.display(df)"), "aggregate_form");
}

/// Frames are appended by name, whatever their order; types must agree.
#[test]
fn appends() {
    let abc = [ints(&[1, 2, 3])];
    let tables: &[(&str, &[Row])] = &[("abc", &abc)];
    let two =
        "x = px.DataFrame('abc', select=['a', 'b'])\ny = px.DataFrame('abc', select=['b', 'a'])";
    let rows = vec![ints(&[1, 2]), ints(&[1, 2])];
    shows(&format!("{two}\ndf = x.append(y)"), tables, &["a", "b"], rows.clone());
    shows(&format!("{two}\ndf = y.append([y, y])"), tables, &["b", "a"], vec![ints(&[2, 1]); 3]);
    refused(
        &format!("{two}\ny = y[['b']]\ny.a = 'text'\ndf = x.append(y)\npx.display(df)"),
        "append_schema",
    );
}

/// A filter after `head` on unmodified columns applies first; without one the newest rows stay, by
/// the frame's own `time_`.
#[test]
fn heads() {
    let abc: Vec<Row> = (1..=6).map(|number| ints(&[number, 7 - number, 0])).collect();
    let tables: &[(&str, &[Row])] = &[("abc", &abc)];
    let frame = "df = px.DataFrame('abc')\ndf = df.head(2)";
    let rest = "df = df[['a', 'b']]";
    let body = format!("{frame}\n{rest}");
    shows(&body, tables, &["a", "b"], vec![ints(&[5, 2]), ints(&[6, 1])]);
    let body = format!("{frame}\ndf = df[df.b > 3]\n{rest}");
    shows(&body, tables, &["a", "b"], vec![ints(&[2, 5]), ints(&[3, 4])]);
    let smallest = "df = px.DataFrame('abc', select=['b', 'a'])\ndf = df.head(2)";
    shows(smallest, tables, &["b", "a"], vec![ints(&[1, 6]), ints(&[2, 5])]);
}

/// `head` ranks by the `time_` that the frame has then, not by the one that its rows came with:
/// catches a node that ships the newest rows by event time only.
#[test]
fn head_after_new_time() {
    let abc: Vec<Row> = (1..=6).map(|number| ints(&[number, 7 - number, 0])).collect();
    let tables: &[(&str, &[Row])] = &[("abc", &abc)];
    let frame = "df = px.DataFrame('abc')";
    // All rows in one bin: the rest of the row decides.
    let body = format!(
        "{frame}\ndf.time_ = px.bin(df.time_, px.seconds(1))\ndf = df[['b', 'time_']].head(2)\n\
         df = df[['b']]"
    );
    shows(&body, tables, &["b"], vec![ints(&[6]), ints(&[5])]);
    let body =
        format!("{frame}\ndf.time_ = px.int64_to_time(df.b)\ndf = df.head(2)\ndf = df[['a']]");
    shows(&body, tables, &["a"], vec![ints(&[1]), ints(&[2])]);
}

/// Outputs are never cut, and one of a name that is taken gets another.
#[test]
fn outputs() {
    let rows: Vec<Row> = (0..10_050).map(|number| ints(&[number, 0, 0])).collect();
    let expected: Vec<Row> = (0..10_050).map(|number| ints(&[number])).collect();
    shows("df = px.DataFrame('abc', select=['a'])", &[("abc", &rows)], &["a"], expected);
    let one = [ints(&[1, 2, 3])];
    gives(
        "df = px.DataFrame('abc', select=['a'])\npx.display(df, 't')\npx.display(df, 't')",
        &[("abc", &one)],
        &[("t", &["a"], vec![ints(&[1])]), ("t_1", &["a"], vec![ints(&[1])])],
    );
}

/// Types and tags of results.
#[test]
fn types_and_tags() {
    use SemanticType::{DurationNs, None, ThroughputBytesPerNs, ThroughputPerNs};
    let tag_of = |expr: &str, function: &str| {
        let body = format!(
            "df = px.DataFrame('measured')\ndf.x = {expr}\ndf = df.agg(y=('x', {function}))\n\
             px.display(df)"
        );
        let plan = compiled(&body)
            .map_err(|found| render_diagnostics(&found, &body, false))
            .unwrap_or_else(|message| panic!("{message}"))
            .plan;
        let column = &plan.ops[plan.outputs[0].op].relation.columns[0];
        (column.data_type, column.semantic)
    };
    assert_eq!(tag_of("df.latency", "px.mean"), (DataType::Float64, DurationNs));
    assert_eq!(tag_of("df.latency", "px.sum"), (DataType::Int64, None));
    assert_eq!(tag_of("df.failed", "px.sum"), (DataType::Int64, None));
    assert_eq!(tag_of("df.size / df.latency", "px.any"), (DataType::Float64, ThroughputBytesPerNs));
    assert_eq!(
        tag_of("1 / px.DurationNanos(df.latency)", "px.any"),
        (DataType::Float64, ThroughputPerNs)
    );
    let measured = [
        vec![i(1), i(2), Value::Boolean(true), Value::Float64(0.5)],
        vec![i(2), i(2), Value::Boolean(true), Value::Float64(0.5)],
        vec![i(4), i(2), Value::Boolean(false), Value::Float64(0.5)],
    ];
    shows(
        "df = px.DataFrame('measured')\n\
         df = df.agg(n=('failed', px.sum), rate=('failed', px.mean))",
        &[("measured", &measured)],
        &["n", "rate"],
        vec![vec![i(2), Value::Float64(2.0 / 3.0)]],
    );
    let frame = "df = px.DataFrame('measured')";
    refused(&format!("{frame}\ndf.p = px.Percent(df.size)\npx.display(df)"), "cast");
    refused(&format!("{frame}\ndf = df[df.latency > 1.5]\npx.display(df)"), "no_overload");
}

/// Every group of a window that slides is gone once its rows are: from text to engine.
#[test]
fn windows_slide() {
    let body = "df = px.DataFrame('kv', start_time='-5s')\n\
                df = df.groupby('k').agg(n=('v', px.count))\npx.display(df)";
    let plan = compiled(body).expect("a script").plan;
    let rows = keyed(&[("x", 1), ("y", 2)]);
    let world = world(&[("kv", &rows)]);
    let feed = Feeding {
        order: FeedOrder::RowByRow,
        workers: 1,
        nodes: 1,
        tick_ms: 100,
        refresh_ms: 100,
        ticks_ms: [0, 100, 4900, 5000, 5100, 6000].map(|after| BASE_MS + after).to_vec(),
        installed_after: 0,
        one_row_slices: false,
        groups_max: None,
    };
    let compared = compare(&plan, &weir_pxl::split(&plan), &world, &feed).expect("the same");
    assert_eq!((compared.frontiers, compared.rows), (6, 6));
    let gone = evaluate(&plan, &world, BASE_UNIX_NS + 6 * SEC_NS).expect("a plan");
    assert!(gone["output"].is_empty());
}
