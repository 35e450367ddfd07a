//! The grammar and the names of the language (reference, 1.1 to 1.9), form by form.

use weir_pxl::{CompileOptions, Compiled, Script, compile, render_diagnostics};
use weir_types::plan::OpKind;
use weir_types::{DataType, Expr, Value};

use crate::frames::compiled;

/// The literal that an expression folds to, after statements.
fn folded_after(statements: &str, expr: &str) -> Value {
    let text = format!(
        "import px\n{statements}\ndf = px.DataFrame('jvm_stats')\ndf.x = {expr}\n\
         px.display(df[['x']])\n"
    );
    let plan = compiled(&text).plan;
    match &plan.ops[plan.outputs[0].op].kind {
        OpKind::Map { exprs } => match &exprs[0] {
            Expr::Literal(value) => value.clone(),
            other => panic!("{expr}: {other:?}"),
        },
        other => panic!("{expr}: {other:?}"),
    }
}

fn folded(expr: &str) -> Value {
    folded_after("", expr)
}

fn accepted(text: &str) -> bool {
    compile(&Script { name: "t.pxl", text, vis: None }, &CompileOptions::default()).is_ok()
}

const TAIL: &str = "px.display(px.DataFrame('jvm_stats'))\n";

/// String literals are bytes, with any prefix and quote: catches Python 3's text rules.
#[test]
fn strings() {
    let bytes = |expr: &str| match folded(expr) {
        Value::String(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    for (expr, wanted) in [
        (r"'a' + 'b'", &b"ab"[..]),
        (r"'a' 'b'", b"ab"),
        (r#""a" 'b' """c""""#, b"abc"),
        (r"u'a' U'b' b'c' B'd'", b"abcd"),
        (r"r'\n' R'\d' '\n'", b"\\n\\d\n"),
        (r"'\x41\t\\\'\101'", b"A\t\\'A"),
        (r"'\xff\xfe'", b"\xff\xfe"),
        (r"b'\xff'", b"\xff"),
        ("b'\u{e9}'", "\u{e9}".as_bytes()),
        (r"'\d+\.\w'", br"\d+\.\w"),
        (r"'C:\users\Nobody'", br"C:\users\Nobody"),
        ("('a'\n   'b')", b"ab"),
        ("'a' \\\n  'b'", b"ab"),
        ("'''a\nb'''", b"a\nb"),
    ] {
        assert_eq!(bytes(expr), wanted, "{expr}");
    }
}

/// Numbers, and what folds: operators on literals, with the overloads of rows.
#[test]
fn numbers_and_folding() {
    let int = Value::Int64;
    let float = Value::Float64;
    for (expr, wanted) in [
        ("5", int(5)),
        ("-5", int(-5)),
        ("5.", float(5.0)),
        ("1e3", float(1000.0)),
        ("-9223372036854775808", int(i64::MIN)),
        ("1 + 2 * 3", int(7)),
        ("(1 + 2) * 3", int(9)),
        ("7 / 2", float(3.5)),
        ("8 / 2", float(4.0)),
        ("7 % 2", int(1)),
        ("-7 % 2", int(-1)),
        ("+5", int(5)),
        ("-(2 + 3)", int(-5)),
        ("~5", int(-6)),
        ("2 - 3.5", float(-1.5)),
        ("9223372036854775807 + 1", int(i64::MIN)),
        ("not True", Value::Boolean(false)),
        ("not 0", Value::Boolean(true)),
        ("not 1 == 2", Value::Boolean(true)),
        ("1 == 1.0", Value::Boolean(true)),
        ("0.1 + 0.2 == 0.3", Value::Boolean(true)),
        ("'a' < 'b'", Value::Boolean(true)),
        ("True and (1 == 2)", Value::Boolean(false)),
        ("(1 == 2) or (2 >= 2)", Value::Boolean(true)),
        ("'px/' + 'pod'", Value::str("px/pod")),
        ("px.parse_time(7) + 3", Value::Time64Ns(10)),
        ("px.parse_time(7) - px.parse_time(3)", int(4)),
        ("px.parse_time(7) >= px.parse_time(3)", Value::Boolean(true)),
    ] {
        assert_eq!(folded(expr), wanted, "{expr}");
    }
}

/// Compile-time functions of `px`.
#[test]
fn helpers() {
    let int = Value::Int64;
    let new_year = Value::Time64Ns(1_767_225_600_000_000_000);
    for (expr, wanted) in [
        ("px.days(2)", int(172_800_000_000_000)),
        ("px.hours(1)", int(3_600_000_000_000)),
        ("px.minutes(-5)", int(-300_000_000_000)),
        ("px.seconds(unit=3)", int(3_000_000_000)),
        ("px.milliseconds(3)", int(3_000_000)),
        ("px.microseconds(3)", int(3_000)),
        ("px.parse_duration('-5m')", int(-300_000_000_000)),
        ("px.parse_duration('10ms')", int(10_000_000)),
        ("px.parse_duration('1d')", int(86_400_000_000_000)),
        ("px.format_duration(90000000000)", Value::str("1m")),
        ("px.format_duration(px.parse_duration('-36h'))", Value::str("-1d")),
        ("px.parse_time('2026-01-01 00:00:00 +0000')", new_year.clone()),
        ("px.parse_time('2026-01-01 01:00:00 +0100')", new_year.clone()),
        ("px.parse_time('2025-12-31 16:30:00.000 -0730')", new_year.clone()),
        ("px.parse_time(1767225600000000000)", new_year.clone()),
        ("px.parse_time(px.parse_time(1767225600000000000))", new_year.clone()),
        ("px.strptime('2026-01-01 00:00', '%Y-%m-%d %H:%M')", new_year),
        (
            "px.uint128('00000001-0000-0002-0000-000000000003')",
            Value::Uint128(1 << 96 | 2 << 64 | 3),
        ),
        ("px.make_upid(1, 2, 3)", Value::Uint128(1 << 96 | 2 << 64 | 3)),
        ("px.equals_any(2, [1, 2, 3])", Value::Boolean(true)),
        ("px.equals_any('d', ['a', 'b'])", Value::Boolean(false)),
    ] {
        assert_eq!(folded(expr), wanted, "{expr}");
    }
}

/// `equals_any` over a column is a chain of comparisons.
#[test]
fn equals_any_of_a_column() {
    let text = "import px\ndf = px.DataFrame('http_events')\n\
                px.display(df[px.equals_any(df.resp_status, [200, 204, 304])])\n";
    let plan = compiled(text).plan;
    let Some(OpKind::Filter { predicate }) =
        plan.ops.iter().map(|op| &op.kind).find(|kind| matches!(kind, OpKind::Filter { .. }))
    else {
        panic!("no filter");
    };
    let mut calls = Vec::new();
    predicate.walk(&mut |part| {
        if let Expr::Call { func, .. } = part {
            calls.push(func.clone());
        }
    });
    calls.sort();
    assert_eq!(calls, ["equal", "equal", "equal", "logicalOr", "logicalOr"]);
}

/// Scopes: late binding, locals, parameters, functions as values, imports by other names.
#[test]
fn names_and_scopes() {
    for (what, statements, expr, wanted) in [
        ("late binding", "def f():\n    return later\nlater = 7", "f()", 7),
        ("before its definition", "def g():\n    return h()\ndef h():\n    return 3", "g()", 3),
        ("a local", "a = 1\ndef f():\n    a = 2\n    return a\nb = f()", "a * 10 + b", 12),
        ("a parameter", "a = 1\ndef f(a):\n    return a\n", "f(5) * 10 + a", 51),
        ("keywords", "def f(a, b):\n    return a - b", "f(b=1, a=5)", 4),
        (
            "a function as value",
            "def f(g, x):\n    return g(x)\ndef inc(x):\n    return x + 1",
            "f(inc, 4)",
            5,
        ),
        (
            "a nested function",
            "def f(x):\n    def g():\n        return x + 1\n    return g()",
            "f(4)",
            5,
        ),
        ("after return", "def f():\n    return 1\n    return 2", "f()", 1),
        ("renamed module", "import px as p", "p.seconds(1)", 1_000_000_000),
        ("renamed member", "from px import seconds as s, minutes", "s(60) - minutes(1) + 5", 5),
        (
            "a module inside a function",
            "def f():\n    import px as q\n    return q.seconds(1)",
            "f()",
            1_000_000_000,
        ),
        ("lists and tuples", "def f():\n    return [1, (2, 3)]", "f()[1][0]", 2),
        ("assigned attribute", "def f():\n    return 1\nf.limit = 9", "f.limit", 9),
        ("re-bound type", "px.Pod = int\ndef f(p: px.Pod):\n    return p", "f(5)", 5),
        ("annotation", "def f(p: px.DurationNanos, q: int):\n    return p + q", "f(5, 6)", 11),
        (
            "a decorator of the script",
            "def twice(f):\n    def g():\n        return f() * 2\n    return g\n@twice\ndef h():\n    return 4",
            "h()",
            8,
        ),
        ("vega", "@px.vis.vega('{}')\ndef f():\n    return 4", "f()", 4),
        ("a built-in name", "str = 5", "str", 5),
        ("unused is unchecked", "def f():\n    return nonsense.of(some, kind)", "1", 1),
    ] {
        assert_eq!(folded_after(statements, expr), Value::Int64(wanted), "{what}");
    }
    let doc = "def f():\n    'What it\\n does'\n    return 1";
    assert_eq!(folded_after(doc, "f.__doc__"), Value::str("What it\n does"));
    let none = "def f():\n    x = 1";
    assert!(accepted(&format!("import px\n{none}\nf()\n{TAIL}")));
    assert!(accepted(&format!("'doc'\nimport px\n{TAIL}")));
    assert!(accepted(&format!("import px\nfrom px import now as n\nx = n()\n{TAIL}")));
}

/// The one comma that a call may lack or double, wherever only keywords follow.
#[test]
fn commas() {
    let of =
        |call: &str| accepted(&format!("import px\ndef f(a, b, c):\n    return a\n{call}\n{TAIL}"));
    for call in [
        "f(1, 2, 3)",
        "f(1, 2, 3,)",
        "f(1 b=2, c=3)",
        "f(1, b=2 c=3)",
        "f(a=1, b=2\n  c=3)",
        "f(1, b=2,, c=3)",
        "f(1,, b=2, c=3)",
        "f(1, 2, c=3,,)",
        "f(1, f(1 b=2, c=3) c=3)",
        "f(1, b=f(1, b=2 c=3), c=f(1, 2 c=3))",
        "f(a='x' b=[1, 2], c={'k': 1})",
    ] {
        assert!(of(call), "{call} is refused");
    }
    for call in [
        "f(1 2, c=3)",
        "f(1, b=2 c=3 a=1)",
        "f(1 b=2,, c=3)",
        "x = [1 2]",
        "x = {'a': 1 'b': 2}",
        "def g(a b):\n    return a",
        "f(a=1, b=2 3)",
        "x = (1 2)",
    ] {
        assert!(!of(call), "{call} is accepted");
    }
}

/// Layout: comments, blank lines, joined lines, uneven but consistent indentation, semicolons.
#[test]
fn layout() {
    for text in [
        "def f():\n  x = 1\n  return x\ndef g():\n        return 2\n",
        "def f():\n\treturn 1\n",
        "x = 1; y = 2\n",
        "x = (1 +\n  2)\n",
        "x = 1 + \\\n  2\n",
        "\n\n# comment\nx = 1 # more\n",
        "x = [1,\n     2,\n]\n",
        "def f(a, b: str,):\n    return a\n",
        "x = 1\r\ny = 2\r\n",
    ] {
        assert!(accepted(&format!("import px\n{text}{TAIL}")), "{text:?} is refused");
    }
    for text in ["def f():\n    x = 1\n  y = 2\n", "  x = 1\n", "def f():\nreturn 1\n"] {
        assert!(!accepted(&format!("import px\n{text}{TAIL}")), "{text:?} is accepted");
    }
}

/// `None` is "not given" for optional arguments, and frames can be selected in every form.
#[test]
fn forms_of_frames() {
    let columns = |body: &str| -> Vec<String> {
        let text = format!("import px\n{body}px.display(df)\n");
        let compiled = compiled(&text);
        let op = compiled.plan.outputs[0].op;
        compiled.plan.ops[op].relation.columns.iter().map(|c| c.name.clone()).collect()
    };
    let two = ["time_", "upid"];
    assert_eq!(columns("df = px.DataFrame('jvm_stats', ['time_', 'upid'])\n"), two);
    assert_eq!(
        columns(
            "df = px.DataFrame(table='jvm_stats', select=['time_', 'upid'], start_time=None)\n"
        ),
        two
    );
    assert_eq!(columns("df = px.DataFrame('jvm_stats', [], None, None)\n").len(), 7);
    assert_eq!(columns("df = px.DataFrame('jvm_stats')\ndf = df[['time_', 'upid']]\n"), two);
    assert_eq!(
        columns(
            "df = px.DataFrame('jvm_stats')\ndf = df[('time_', 'upid')].filter(df.upid == df.upid)\n"
        ),
        two
    );
    let named = "df = px.DataFrame('jvm_stats', ['time_'])\ndf['head (n)'] = 1\ndf.head = 2\n\
                 df.sum = df['head'] + df['head (n)']\n";
    assert_eq!(columns(named), ["time_", "head (n)", "head", "sum"]);
    assert_eq!(columns("df = px.DataFrame('jvm_stats').stream()\n").len(), 7);
}

/// `df.rolling` is the aggregate over the trailing window: the scan below is that much shorter.
#[test]
fn rolling_narrows_the_window() {
    let window = |body: &str| -> (String, Vec<String>) {
        let text = format!("import px\ndf = px.DataFrame('http_events', start_time='-5m')\n{body}");
        let compiled = compiled(&text);
        let start = compiled.plan.scans().next().unwrap().1.start;
        let op = compiled.plan.outputs[0].op;
        let columns = &compiled.plan.ops[op].relation.columns;
        (format!("{start:?}"), columns.iter().map(|column| column.name.clone()).collect())
    };
    let one_minute = "Relative { window_ns: 60000000000 }";
    let rows = "df.x = df.latency + 1\ndf = df[df.x > 5]\n";
    let (start, columns) =
        window(&format!("{rows}px.display(df.rolling('1m').agg(n=('x', px.count)))\n"));
    assert_eq!((start.as_str(), columns), (one_minute, vec!["n".to_string()]));
    for form in [
        "df.rolling(px.minutes(1), on='time_').groupby('upid').agg(n=('latency', px.count))",
        "df.groupby('upid').rolling('1m').agg(n=('latency', px.count))",
    ] {
        let (start, columns) = window(&format!("px.display({form})\n"));
        assert_eq!(
            (start.as_str(), columns),
            (one_minute, vec!["upid".into(), "n".into()]),
            "{form}"
        );
    }
    let wider = window("px.display(df.rolling('1h').agg(n=('latency', px.count)))\n").0;
    assert_eq!(wider, "Relative { window_ns: 300000000000 }");
}

fn with(text: &str, options: &CompileOptions) -> Compiled {
    let script = Script { name: "t.pxl", text, vis: None };
    compile(&script, options)
        .unwrap_or_else(|found| panic!("{}", render_diagnostics(&found, text, false)))
}

/// Arguments of called functions by annotation, and the times of a scheduled run.
#[test]
fn values_from_outside() {
    let text = "import px\ndef f(b: bool, i: int, x: float, s: str, t: px.Time, p: px.Pod, l: list):\n    \
                df = px.DataFrame('jvm_stats', ['time_'])\n    \
                df.b = b\n    df.i = i\n    df.x = x\n    df.s = s\n    df.t = t\n    df.p = p\n    \
                df.l = l[1]\n    return df\n";
    let args = [
        ("b", "YES"),
        ("i", "-7"),
        ("x", "1.5"),
        ("s", " a\\n"),
        ("t", "99"),
        ("p", "ns/p"),
        ("l", "[px.seconds(1), 'z', df]"),
    ];
    let args: Vec<(String, String)> =
        args.iter().map(|(name, value)| (name.to_string(), value.replace(", df", ""))).collect();
    let options = CompileOptions { func: Some("f".into()), args, ..CompileOptions::default() };
    let plan = with(text, &options).plan;
    let OpKind::Map { exprs } = &plan.ops[plan.outputs[0].op].kind else { panic!("no map") };
    let literals: Vec<&Expr> = exprs.iter().skip(1).collect();
    let wanted = [
        Value::Boolean(true),
        Value::Int64(-7),
        Value::Float64(1.5),
        Value::str(" a\\n"),
        Value::Time64Ns(99),
        Value::str("ns/p"),
        Value::str("z"),
    ];
    for (found, wanted) in literals.iter().zip(wanted) {
        assert_eq!(**found, Expr::Literal(wanted));
    }
    let plugin =
        CompileOptions { plugin_times_unix_ns: Some((17, 99)), ..CompileOptions::default() };
    let text = "import px\npx.display(px.DataFrame('jvm_stats', start_time=px.plugin.start_time, \
                end_time=px.plugin.end_time))\n";
    let window = with(text, &plugin).plan.scans().next().unwrap().1;
    assert_eq!(
        format!("{window:?}"),
        "Window { start: Absolute { start_unix_ns: 17 }, end: Absolute { end_unix_ns: 99 } }"
    );
}

/// Pragmas are lines of exactly one form.
#[test]
fn pragmas() {
    let of = |lines: &str| {
        with(&format!("{lines}import px\n{TAIL}"), &CompileOptions::default()).pragmas
    };
    assert!(of("#px:set explain=true\n").explain);
    assert!(of("#px:set analyze=true\r\n").analyze);
    assert_eq!(of("#px:set max_output_rows_per_table=5\n").max_output_rows_per_table, Some(5));
    assert_eq!(of(" #px:set explain=true\n#px: set explain=true\n#PX:set explain=true\n"), of(""));
    for wrong in
        ["explain", "explain=maybe", "explain = true", "color=red", "max_output_rows_per_table=-1"]
    {
        assert!(!accepted(&format!("#px:set {wrong}\nimport px\n{TAIL}")), "{wrong}");
    }
}

/// Scans and filters over types that have no literal form.
#[test]
fn every_type_groups_and_compares() {
    let text = "import px\ndf = px.DataFrame('http_events')\ndf.f = df.latency / 2\n\
                df = df[df.upid == px.make_upid(1, 2, 3)]\n\
                df = df[df.time_ >= px.strptime('2026-01-01', '%Y-%m-%d')]\n\
                px.display(df.groupby(['f', 'time_', 'req_path', 'upid', 'encrypted']).agg())\n";
    let compiled = compiled(text);
    let types = compiled.plan.ops[compiled.plan.outputs[0].op].relation.types();
    let wanted = [
        DataType::Float64,
        DataType::Time64Ns,
        DataType::String,
        DataType::Uint128,
        DataType::Boolean,
    ];
    assert_eq!(types, wanted);
}
