//! The conformance micro-cases of the language reference (appendix A), each with its text there:
//! through compiler, model and engine. A.1 is evaluated over columns, so that nothing folds. A.3, all
//! scripts of the bundle, is in `bundle`.

use weir_dataflow_tests::drive::{Feeding, compare, difference};
use weir_dataflow_tests::generate::rows::BASE_UNIX_NS;
use weir_dataflow_tests::model::{Arrived, Row, Table, World, evaluate, multiset};
use weir_pxl::{CompileOptions, Script, compile, render_diagnostics};
use weir_types::{Column, DataType, Relation, SemanticType, Value, json};

use crate::frames::{compiled, gives, refused, shows};
use crate::support::{BASE_MS, MS_NS};

/// Columns of the table that A.1 reads, one row a case.
const COLUMNS: [(&str, DataType); 11] = [
    ("time_", DataType::Time64Ns),
    ("i", DataType::Int64),
    ("j", DataType::Int64),
    ("f", DataType::Float64),
    ("g", DataType::Float64),
    ("h", DataType::Float64),
    ("s", DataType::String),
    ("p", DataType::String),
    ("c", DataType::Boolean),
    ("x", DataType::Boolean),
    ("upid", DataType::Uint128),
];

fn int(value: i64) -> Value {
    Value::Int64(value)
}
fn float(value: f64) -> Value {
    Value::Float64(value)
}
fn text(value: &str) -> Value {
    Value::str(value)
}
fn truth(value: bool) -> Value {
    Value::Boolean(value)
}

/// The case as the reference has it, the same over columns, what the columns hold, the value.
type Scalar = (&'static str, &'static str, Vec<(&'static str, Value)>, Value);

#[expect(clippy::too_many_lines, reason = "one flat table of cases")]
fn scalars() -> Vec<Scalar> {
    let upid = Value::Uint128((1 << 96) | (2 << 64) | 3);
    let s = |value: &str| vec![("s", text(value))];
    let sp = |s: &str, p: &str| vec![("s", text(s)), ("p", text(p))];
    let ij = |i: i64, j: i64| vec![("i", int(i)), ("j", int(j))];
    let cut = |i: i64, j: i64| vec![("s", text("abcd")), ("i", int(i)), ("j", int(j))];
    let link = r#"{"label":"L","script":"px/pod","args":{"start_time":"-5m","pod":"ns/p"}}"#;
    let unknown = r#"{"phase":"Unknown","message":"","reason":"","ready":false}"#;
    let local = r"px.regex_match('127\.0\.0\.[0-9]+', df.s)";
    vec![
        ("7 / 2", "df.i / df.j", ij(7, 2), float(3.5)),
        ("7 % 2", "df.i % df.j", ij(7, 2), int(1)),
        ("-7 % 2", "df.i % df.j", ij(-7, 2), int(-1)),
        ("px.bin(17, 5)", "px.bin(df.i, df.j)", ij(17, 5), int(15)),
        ("px.bin(-7, 5)", "px.bin(df.i, df.j)", ij(-7, 5), int(-5)),
        ("px.bin(12.9, 5)", "px.bin(df.f, df.i)", vec![("f", float(12.9)), ("i", int(5))], int(10)),
        ("px.floor(-1.5)", "px.floor(df.f)", vec![("f", float(-1.5))], int(-2)),
        ("px.ceil(-1.5)", "px.ceil(df.f)", vec![("f", float(-1.5))], int(-1)),
        (
            "px.round(2.345, 1)",
            "px.round(df.f, df.i)",
            vec![("f", float(2.345)), ("i", int(1))],
            text("2.3"),
        ),
        (
            "0.1 + 0.2 == 0.3",
            "df.f + df.g == df.h",
            vec![("f", float(0.1)), ("g", float(0.2)), ("h", float(0.3))],
            truth(true),
        ),
        (
            "px.select(c, x, True) with BOOLEAN x",
            "px.select(df.c, df.x, True)",
            vec![("c", truth(true)), ("x", truth(false))],
            truth(false),
        ),
        ("not a == b", "not df.i == df.j", ij(1, 2), truth(true)),
        ("'px/' + 'pod'", "df.s + df.p", sp("px/", "pod"), text("px/pod")),
        ("px.length('é')", "px.length(df.s)", s("é"), int(2)),
        ("px.substring('abcd', 1, 2)", "px.substring(df.s, df.i, df.j)", cut(1, 2), text("bc")),
        ("px.substring('abcd', 4, 1)", "px.substring(df.s, df.i, df.j)", cut(4, 1), text("")),
        ("px.substring('abcd', 5, 1)", "px.substring(df.s, df.i, df.j)", cut(5, 1), text("")),
        ("px.substring('abcd', -1, 2)", "px.substring(df.s, df.i, df.j)", cut(-1, 2), text("")),
        ("px.find('abc', 'z')", "px.find(df.s, df.p)", sp("abc", "z"), int(-1)),
        ("px.contains(s, '')", "px.contains(df.s, df.p)", sp("abc", ""), truth(true)),
        ("px.contains('', '')", "px.contains(df.s, '')", s(""), truth(true)),
        (
            "px.atoi('12x', 7)",
            "px.atoi(df.s, df.i)",
            vec![("s", text("12x")), ("i", int(7))],
            int(7),
        ),
        (
            "px.atoi(' 12 ', 7)",
            "px.atoi(df.s, df.i)",
            vec![("s", text(" 12 ")), ("i", int(7))],
            int(12),
        ),
        ("px.regex_match: the entire ip", local, s("127.0.0.15"), truth(true)),
        ("px.regex_match: more before it", local, s("1127.0.0.15"), truth(false)),
        ("px.regex_match: more behind it", local, s("127.0.0.15:80"), truth(false)),
        (
            "px.replace('o+', 'foo boo', '0')",
            "px.replace('o+', df.s, df.p)",
            sp("foo boo", "0"),
            text("f0 b0"),
        ),
        (
            r#"px.pluck('{"a":{"b": 1}}','a')"#,
            "px.pluck(df.s, df.p)",
            sp(r#"{"a":{"b": 1}}"#, "a"),
            text(r#"{"b":1}"#),
        ),
        (
            r#"px.pluck('{"a":null}','a')"#,
            "px.pluck(df.s, df.p)",
            sp(r#"{"a":null}"#, "a"),
            text(""),
        ),
        ("px.pluck('x','a')", "px.pluck(df.s, df.p)", sp("x", "a"), text("")),
        (
            r#"px.pluck_float64('{"a":5}','a')"#,
            "px.pluck_float64(df.s, df.p)",
            sp(r#"{"a":5}"#, "a"),
            float(0.0),
        ),
        (
            r#"px.pluck_float64('{"a":5.0}','a')"#,
            "px.pluck_float64(df.s, df.p)",
            sp(r#"{"a":5.0}"#, "a"),
            float(5.0),
        ),
        (
            r#"px.pluck_int64('{"a":5.0}','a')"#,
            "px.pluck_int64(df.s, df.p)",
            sp(r#"{"a":5.0}"#, "a"),
            int(0),
        ),
        (
            r#"px.pluck_array('["x",2]', 1)"#,
            "px.pluck_array(df.s, df.i)",
            vec![("s", text(r#"["x",2]"#)), ("i", int(1))],
            text("2"),
        ),
        (
            r#"px.pluck_array('["x",2]', 9)"#,
            "px.pluck_array(df.s, df.i)",
            vec![("s", text(r#"["x",2]"#)), ("i", int(9))],
            text(""),
        ),
        ("px.split('a;b', ';')", "px.split(df.s, df.p)", sp("a;b", ";"), text(r#"["a","b"]"#)),
        (
            "px.script_reference('L','px/pod',{'start_time':'-5m','pod':'ns/p'})",
            "px.script_reference(df.s, 'px/pod', {'start_time': '-5m', 'pod': df.p})",
            sp("L", "ns/p"),
            text(link),
        ),
        (
            r#"px.has_service_name('["a/b","c/d"]','c/d')"#,
            "px.has_service_name(df.s, df.p)",
            sp(r#"["a/b","c/d"]"#, "c/d"),
            truth(true),
        ),
        (
            "px.has_service_name('a/b','a/b')",
            "px.has_service_name(df.s, df.p)",
            sp("a/b", "a/b"),
            truth(true),
        ),
        (
            r#"px.has_service_name('["a/b"]','a')"#,
            "px.has_service_name(df.s, df.p)",
            sp(r#"["a/b"]"#, "a"),
            truth(false),
        ),
        (
            "px.pod_name_to_namespace('ns/p')",
            "px.pod_name_to_namespace(df.s)",
            s("ns/p"),
            text("ns"),
        ),
        ("px.pod_name_to_namespace('p')", "px.pod_name_to_namespace(df.s)", s("p"), text("")),
        (
            "px.pod_name_to_status('unknown/pod')",
            "px.pod_name_to_status(df.s)",
            s("unknown/pod"),
            text(unknown),
        ),
        (
            "px._match_endpoint('/a/7/b?x=1','/a/*/b')",
            "px._match_endpoint(df.s, df.p)",
            sp("/a/7/b?x=1", "/a/*/b"),
            truth(true),
        ),
        (
            "px.format_duration(-90000000000)",
            "px.format_duration(-90000000000)",
            vec![],
            text("-1m"),
        ),
        ("px.parse_duration('-5m')", "px.parse_duration('-5m')", vec![], int(-300_000_000_000)),
        ("UPID asid", "px.upid_to_asid(df.upid)", vec![("upid", upid.clone())], int(1)),
        ("UPID pid", "px.upid_to_pid(df.upid)", vec![("upid", upid.clone())], int(2)),
        ("UPID text", "px.upid_to_string(df.upid)", vec![("upid", upid.clone())], text("1:2:3")),
        ("UPID asid 1, pid 2, start 3", "px.make_upid(1, 2, 3)", vec![], upid),
    ]
}

/// Compiles, evaluates by the model and by the engine, one row.
fn evaluates(case: &str, expr: &str, values: &[(&str, Value)], wanted: &Value) {
    let body =
        format!("import px\ndf = px.DataFrame('args')\ndf.out = {expr}\npx.display(df[['out']])\n");
    let columns = COLUMNS.iter().map(|(name, ty)| Column::new(*name, *ty, SemanticType::None));
    let relation = Relation::new(columns.collect());
    let tables = vec![("args".to_string(), relation.clone())];
    let script = Script { name: "case.pxl", text: &body, vis: None };
    let plan = match compile(&script, &CompileOptions { tables, ..CompileOptions::default() }) {
        Ok(compiled) => compiled.plan,
        Err(found) => panic!("{case}: {}", render_diagnostics(&found, &body, false)),
    };
    let row: Row = COLUMNS
        .iter()
        .map(|(name, ty)| match values.iter().find(|(have, _)| have == name) {
            Some((_, value)) => value.clone(),
            None if *name == "time_" => Value::Time64Ns(BASE_UNIX_NS),
            None => ty.zero(),
        })
        .collect();
    let rows = vec![Arrived { arrival_unix_ns: BASE_UNIX_NS, row }];
    let table = Table { relation, rows };
    let world = World { tables: [("args".to_string(), table)].into(), ..World::default() };
    let now_unix_ns = (BASE_MS as i64 + 1000) * MS_NS;
    let views =
        evaluate(&plan, &world, now_unix_ns).unwrap_or_else(|error| panic!("{case}: {error}"));
    let expected = multiset(&[vec![wanted.clone()]]);
    if let Some(wrong) = difference(&expected, &views["output"], &[wanted.data_type()]) {
        panic!("{case}:\n{wrong}");
    }
    let found = plan.ops[plan.outputs[0].op].relation.columns[0].data_type;
    assert_eq!(found, wanted.data_type(), "{case}");
    let feed = Feeding::plain(vec![BASE_MS, BASE_MS + 1000]);
    if let Err(error) = compare(&plan, &weir_pxl::split(&plan), &world, &feed) {
        panic!("{case}: {error}");
    }
}

/// A.1: catches any function that gives something else over rows than the reference says.
#[test]
fn a1_scalars() {
    for (case, expr, values, wanted) in scalars() {
        evaluates(case, expr, &values, &wanted);
    }
    assert_eq!(json::uuid_text((1 << 96) | (2 << 64) | 3), "00000001-0000-0002-0000-000000000003");
}

/// A.1, `start_time '2h'`: two hours in the future, hence no row, and a warning that says so.
#[test]
fn a1_start_time_has_an_explicit_sign() {
    let abc = [ints(&[1, 2, 3])];
    let body = "df = px.DataFrame('abc', select=['a'], start_time='2h')";
    let found = compiled(&format!("{body}\npx.display(df)")).expect("only a warning");
    assert_eq!(found.warnings[0].code, "start_in_future");
    shows(body, &[("abc", &abc)], &["a"], vec![]);
}

fn ints(values: &[i64]) -> Row {
    values.iter().map(|&value| int(value)).collect()
}

fn keyed(rows: &[(&str, i64)]) -> Vec<Row> {
    rows.iter().map(|&(key, value)| vec![text(key), int(value)]).collect()
}

const ABC: &str = "df = px.DataFrame('abc', select=['a', 'b', 'c'])";
const SIDES: &str =
    "l = px.DataFrame('kv', select=['k', 'v'])\nr = px.DataFrame('kw', select=['k', 'w'])";
const BY_K: &str = "left_on='k', right_on='k'";

/// Case of the reference, the script after the frame's line, columns, rows: over one row 1, 2, 3.
type Shown = (&'static str, &'static str, &'static [&'static str], &'static [&'static [i64]]);

const A2_ORDER: [Shown; 5] = [
    ("columns a,b,c; df.a = df.b", "df.a = df.b", &["b", "c", "a"], &[&[2, 3, 2]]),
    (
        "columns a,b; df.x=1; df.y=2; df.x=3",
        "df = df[['a', 'b']]\ndf.x = 1\ndf.y = 2\ndf.x = 3",
        &["a", "b", "y", "x"],
        &[&[1, 2, 2, 3]],
    ),
    ("df['b','a']", "df = df['b', 'a']", &["b", "a"], &[&[2, 1]]),
    ("df.drop(['a']) on a,b,c", "df = df.drop(['a'])", &["b", "c"], &[&[2, 3]]),
    (
        "append of a,b and b,a",
        "df = df[['a', 'b']].append(df[['b', 'a']])",
        &["a", "b"],
        &[&[1, 2], &[1, 2]],
    ),
];

/// A.2, order of columns.
#[test]
fn a2_columns() {
    let abc = [ints(&[1, 2, 3])];
    for (case, rest, columns, rows) in A2_ORDER {
        let rows: Vec<Row> = rows.iter().map(|row| ints(row)).collect();
        shows(&format!("{ABC}\n{rest}  # {case}"), &[("abc", &abc)], columns, rows);
    }
}

/// A.2, merges.
#[test]
fn a2_merges() {
    let left = keyed(&[("x", 1)]);
    let right = keyed(&[("x", 5), ("y", 6)]);
    let tables: &[(&str, &[Row])] = &[("kv", &left), ("kw", &right)];
    let merged = |arguments: &str| format!("{SIDES}\ndf = l.merge(r, {arguments})");
    let row = |k: &str, v, k2: &str, w| vec![text(k), int(v), text(k2), int(w)];
    // left k,v, right k,w, default suffixes
    let body = merged(&format!("'inner', {BY_K}"));
    shows(&body, tables, &["k_x", "v", "k_y", "w"], vec![row("x", 1, "x", 5)]);
    // same with suffixes=['','_x']
    let body = merged(&format!("'inner', {BY_K}, suffixes=['', '_x']"));
    shows(&body, tables, &["k", "v", "k_x", "w"], vec![row("x", 1, "x", 5)]);
    // right join, key only on right
    let body = merged(&format!("'right', {BY_K}"));
    let rows = vec![row("x", 1, "x", 5), row("", 0, "y", 6)];
    shows(&body, tables, &["k_x", "v", "k_y", "w"], rows);
    // a key given twice, against two columns
    let body = format!("{SIDES}\nr.k2 = r.k\ndf = l.merge(r, 'inner', ['k', 'k'], ['k', 'k2'])");
    let rows = vec![vec![text("x"), int(1), text("x"), int(5), text("x")]];
    shows(&body, tables, &["k_x", "v", "k_y", "w", "k2"], rows);
    // left 2 rows × right 3 rows, empty keys; inner join 2 equal keys × 3
    let left = keyed(&[("x", 1), ("x", 2)]);
    let right = keyed(&[("x", 1), ("x", 2), ("x", 3)]);
    let tables: &[(&str, &[Row])] = &[("kv", &left), ("kw", &right)];
    let six: Vec<Row> =
        [1, 2].into_iter().flat_map(|v| [1, 2, 3].map(|w| row("x", v, "x", w))).collect();
    for arguments in ["'inner', [], []".to_string(), format!("'inner', {BY_K}")] {
        shows(&merged(&arguments), tables, &["k_x", "v", "k_y", "w"], six.clone());
    }
}

/// A.2, aggregates.
#[test]
fn a2_aggregates() {
    let rows = keyed(&[("x", 1), ("x", 2), ("y", 5)]);
    let frame = "df = px.DataFrame('kv', select=['k', 'v'])";
    let both = "n=('v', px.count), s=('v', px.sum)";
    let groups = vec![vec![text("x"), int(2), int(3)], vec![text("y"), int(1), int(5)]];
    let body = format!("{frame}\ndf = df.groupby('k').agg({both})");
    shows(&body, &[("kv", &rows)], &["k", "n", "s"], groups);
    // groupby(['a','b']).agg()
    let pairs = [ints(&[1, 1, 7]), ints(&[1, 1, 8]), ints(&[1, 2, 9])];
    let body = format!("{ABC}\ndf = df.groupby(['a', 'b']).agg()");
    shows(&body, &[("abc", &pairs)], &["a", "b"], vec![ints(&[1, 1]), ints(&[1, 2])]);
    // ungrouped agg over zero rows
    let body = format!(
        "{frame}\ndf = df.agg({both}, m=('v', px.mean), lo=('v', px.min), hi=('v', px.max))"
    );
    let nothing = vec![int(0), int(0), float(f64::NAN), int(i64::MAX), int(i64::MIN)];
    shows(&body, &[], &["n", "s", "m", "lo", "hi"], vec![nothing]);
    // grouped agg over zero rows
    shows(&format!("{frame}\ndf = df.groupby('k').agg({both})"), &[], &["k", "n", "s"], vec![]);
}

/// A.2, what does not compile.
#[test]
fn a2_refused() {
    for (case, body, code) in [
        (
            "append with different type of a",
            "y = df[['a']]\ny.a = 'text'\ndf = df[['a']].append(y)",
            "append_schema",
        ),
        ("filter on INT64 column", "df = df[df.a]", "filter_type"),
        ("px.Percent(intcol)", "df.p = px.Percent(df.a)", "cast"),
        ("df.latency > 1.5 with INT64 latency", "df = df[df.a > 1.5]", "no_overload"),
    ] {
        refused(&format!("{ABC}\n{body}  # {case}\npx.display(df)"), code);
    }
}

/// A.2, `df.head(2)` then `df[df.x > 1]`, x untouched between: filter applied first.
#[test]
fn a2_head_then_filter() {
    let rows: Vec<Row> = [3, 2, 1, 0].iter().map(|&x| ints(&[x, 0, 0])).collect();
    let body = "df = px.DataFrame('abc').head(2)\ndf = df[df.a > 1]\ndf = df[['a']]";
    shows(body, &[("abc", &rows)], &["a"], vec![ints(&[3]), ints(&[2])]);
    let moved =
        "df = px.DataFrame('abc').head(2)\ndf.a = df.a + 0\ndf = df[df.a > 1]\ndf = df[['a']]";
    shows(moved, &[("abc", &rows)], &["a"], vec![]);
}

/// A.2, names and numbers of outputs.
#[test]
fn a2_outputs() {
    let one = [ints(&[1, 2, 3])];
    // duplicate px.display(df,'t') twice
    let body = "df = px.DataFrame('abc', select=['a'])\npx.display(df, 't')\npx.display(df, 't')";
    let expected: [(&str, &[&str], Vec<Row>); 2] =
        [("t", &["a"], vec![ints(&[1])]), ("t_1", &["a"], vec![ints(&[1])])];
    gives(body, &[("abc", &one)], &expected);
    // exec function returning [df1, df2], prefix p
    let text =
        "import px\ndef p():\n    df = px.DataFrame('jvm_stats')\n    return [df, df[['upid']]]\n";
    let options = CompileOptions { func: Some("p".to_string()), ..CompileOptions::default() };
    let found = compile(&Script { name: "t.pxl", text, vis: None }, &options).expect("a script");
    let names: Vec<&str> = found.plan.outputs.iter().map(|output| output.table.as_str()).collect();
    assert_eq!(names, ["p[0]", "p[1]"]);
    // > 10 000 output rows
    let rows: Vec<Row> = (0..10_001).map(|number| ints(&[number, 0, 0])).collect();
    let all = (0..10_001).map(|number| ints(&[number])).collect();
    shows("df = px.DataFrame('abc', select=['a'])", &[("abc", &rows)], &["a"], all);
}

/// A.2, types and semantic types of results.
#[test]
fn a2_types() {
    use SemanticType::{DurationNs, None, ThroughputBytesPerNs, ThroughputPerNs};
    for (case, statements, wanted) in [
        ("sum of BOOLEAN column", "df = df.agg(y=('failed', px.sum))", (DataType::Int64, None)),
        (
            "mean of DURATION_NS column",
            "df = df.agg(y=('latency', px.mean))",
            (DataType::Float64, DurationNs),
        ),
        (
            "sum of DURATION_NS column",
            "df = df.agg(y=('latency', px.sum))",
            (DataType::Int64, None),
        ),
        (
            "BYTES / DURATION_NS",
            "df.y = df.size / df.latency\ndf = df[['y']]",
            (DataType::Float64, ThroughputBytesPerNs),
        ),
        (
            "count / px.DurationNanos(window)",
            "df = df.agg(n=('latency', px.count))\ndf.y = df.n / px.DurationNanos(px.seconds(9))\n\
             df = df[['y']]",
            (DataType::Float64, ThroughputPerNs),
        ),
    ] {
        let body = format!("df = px.DataFrame('measured')\n{statements}\npx.display(df)");
        let plan = compiled(&body)
            .unwrap_or_else(|found| panic!("{case}: {}", render_diagnostics(&found, &body, false)))
            .plan;
        let column = &plan.ops[plan.outputs[0].op].relation.columns[0];
        assert_eq!((column.data_type, column.semantic), wanted, "{case}");
    }
    let failed = |value: bool| vec![int(1), int(2), truth(value), float(0.5)];
    let measured = [failed(true), failed(false), failed(true)];
    let body = "df = px.DataFrame('measured')\ndf = df.agg(y=('failed', px.sum))";
    shows(body, &[("measured", &measured)], &["y"], vec![ints(&[2])]);
}

/// `df.rolling(w)` is the aggregate over the trailing w, and rows leave it as time goes on.
#[test]
fn rolling_slides() {
    let rows = keyed(&[("x", 1), ("x", 2)]);
    // `shows` looks 100 s later: the rows are gone, an ungrouped row stays.
    let body = "df = px.DataFrame('kv', start_time='-10m')\n\
                df = df.rolling('1m').agg(n=('v', px.count))";
    shows(body, &[("kv", &rows)], &["n"], vec![ints(&[0])]);
    let wider = body.replace("'1m'", "px.minutes(3)");
    shows(&wider, &[("kv", &rows)], &["n"], vec![ints(&[2])]);
}
