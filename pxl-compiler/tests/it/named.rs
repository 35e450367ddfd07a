//! Recorded views, read by name.

use std::sync::Arc;

use weir_pxl::{CompileOptions, Compiled, NamedView, Script, compile, limits};
use weir_types::Diagnostic;

fn view(name: &str, text: &str, labels: &[(&str, &str)]) -> NamedView {
    let labels = labels.iter().map(|(name, text)| ((*name).to_string(), (*text).to_string()));
    NamedView { name: name.to_string(), text: text.to_string(), labels: labels.collect() }
}

fn compiled(views: &[(&str, &str)], text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    compiled_with(views.iter().map(|(name, text)| view(name, text, &[])).collect(), text)
}

fn compiled_with(views: Arc<[NamedView]>, text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    let options = CompileOptions { views, ..CompileOptions::default() };
    compile(&Script { name: "s", text, vis: None }, &options)
}

const ERRORS: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-5m')\n\
    df = df[df.req_path != '/health']\n\
    df.failed = px.select(df.resp_status >= 500, 1.0, 0.0)\n\
    df = df.groupby('req_path').agg(rate=('failed', px.mean))\n\
    px.debug(df)\n\
    px.display(df, 'any name')\n";
const HIGH: &str =
    "import px\ndf = px.DataFrame('err:rate')\ndf = df[df.rate > 0.1]\npx.display(df, 'out')\n";

/// A view is what its script displays: reading it gives the plan that the texts as one give, its window and key
/// included; also through another view. Catches literals that are taken from the wrong text.
#[test]
fn a_view_is_its_script() {
    let whole = format!(
        "{}df = df[df.rate > 0.1]\npx.display(df, 'out')\n",
        ERRORS.replace("px.debug(df)\npx.display(df, 'any name')\n", "")
    );
    let whole = compiled(&[], &whole).unwrap();
    let read = compiled(&[("unused", "import"), ("err:rate", ERRORS)], HIGH).unwrap();
    assert_eq!(read.plan.identity(), whole.plan.identity());
    assert_eq!((&read.key, &read.window_text), (&whole.key, &whole.window_text));
    let through = "import px\npx.display(px.DataFrame('err:rate', select=['rate', 'req_path']))";
    let views = [("through", through), ("err:rate", ERRORS)];
    let second = compiled(&views, &HIGH.replace("err:rate", "through")).unwrap();
    assert_eq!(second.plan.outputs.len(), 1);
    let twice = format!("{HIGH}b = px.DataFrame('err:rate')\npx.display(b, 'all')\n");
    let twice = compiled(&[("err:rate", ERRORS)], &twice).unwrap();
    assert_eq!(twice.plan.scans().count(), 1, "it is evaluated once");
}

/// Views of one name are one with the rows of all, and a view's labels are columns of it, in place of those that it has:
/// the plan is that of the texts as one. Catches labels that are lost, and a second view that is.
#[test]
fn views_of_one_name_are_appended() {
    let of = |table: &str| {
        format!(
            "import px\ndf = px.DataFrame('{table}', start_time='-5m')\npx.display(df[['req_path', 'latency']])\n"
        )
    };
    let text = of("http_events");
    let reads = "import px\npx.display(px.DataFrame('v'), 'out')\n";
    let views = [
        view("v", &text, &[("verb", "read"), ("req_path", "all")]),
        view("other", "import", &[]),
        view("v", &text.replace("-5m", "-1m"), &[("verb", "write")]),
    ];
    let found = compiled_with(views.into(), reads).unwrap();
    let (first, second) = (text.replace("px.display(df[", "a = df[").replace("']])", "']]"), text);
    let second = second
        .replace("import px\n", "")
        .replace("-5m", "-1m")
        .replace("px.display(df[", "b = df[");
    let second = second.replace("']])", "']]");
    let whole = format!(
        "{first}a.req_path = 'all'\na.verb = 'read'\n{second}b.verb = 'write'\npx.display(a.append(b), 'out')\n"
    );
    let whole = compiled(&[], &whole).unwrap();
    assert_eq!(found.plan.identity(), whole.plan.identity());

    // In each row there would be as much.
    let long = "x".repeat(limits::VALUE_BYTES_MAX + 1);
    let views = [view("v", &of("http_events"), &[("verb", &long)])];
    let refused = compiled_with(views.into(), reads).unwrap_err();
    assert_eq!(refused[0].code, "value_too_large", "{}", refused[0].message);
}

/// Where one has not a label of the others, or a text, it is empty in its rows; what else they do not share cannot be one
/// view, and it is said which column that is. Catches a label that moves to rows of another rule, and numbers that are
/// made up.
#[test]
fn what_one_has_not_is_empty() {
    let head = "import px\ndf = px.DataFrame('http_events', start_time='-5m')\n";
    let of = |rest: &str| format!("{head}{rest}");
    let show = "px.display(df[['req_path', 'latency']])\n";
    let reads = "import px\npx.display(px.DataFrame('v'), 'out')\n";
    let views = [
        view("v", &of(show), &[]),
        view("v", &of("px.display(df[['latency', 'resp_body']])"), &[("a b", "x")]),
    ];
    let found = compiled_with(views.into(), reads).unwrap();
    let whole = format!(
        "{head}a = df[['req_path', 'latency']]\na.resp_body = ''\na['a b'] = ''\n\
         b = df[['latency', 'resp_body']]\nb['a b'] = 'x'\nb.req_path = ''\n\
         px.display(a.append(b), 'out')\n"
    );
    let whole = compiled(&[], &whole).unwrap();
    assert_eq!(found.plan.identity(), whole.plan.identity());

    for (other, why) in [
        (
            "df.latency = 1.0\npx.display(df[['req_path', 'latency']])",
            "the column `latency` is INT64 in one and FLOAT64 in another",
        ),
        (
            "px.display(df[['req_path']])",
            "one has no column `latency` (INT64); only STRING columns may be missing",
        ),
        (
            "df.a = nothing\npx.display(df[['req_path', 'latency']])",
            "name 'nothing' is not defined",
        ),
    ] {
        let views = [view("v", &of(show), &[]), view("v", &of(other), &[("latency_of", "x")])];
        let refused = compiled_with(views.into(), reads).unwrap_err();
        assert_eq!(refused.len(), 1, "{refused:#?}");
        assert!(refused[0].message.contains(why), "{refused:#?}");
    }
}

/// Any text is a view's name, written as any literal says it, also where another view reads it. Catches a name that is
/// looked for as a word only, and an apostrophe of a comment that hides the rest.
#[test]
fn any_text_is_a_name() {
    for (name, literal) in [
        ("a-b.c", "'a-b.c'"),
        ("ü ☃", "\"ü ☃\""),
        ("it's \"q\"", r#"'it\'s "q"'"#),
        ("a\nb\\", r#"'a\nb\\'"#),
        ("a\u{0}b", r"'a\x00b'"),
        ("x y", "'''x y'''"),
        ("a\\nb", r"r'a\nb'"),
        ("", "''"),
    ] {
        let reads = format!("import px # don't\npx.display(px.DataFrame({literal}), 'out')");
        let found = compiled(&[("other", "import"), (name, ERRORS)], &reads);
        assert!(found.is_ok(), "{name:?}: {found:?}");
        let through = "import px\npx.display(px.DataFrame('in between'), 'out')";
        let found = compiled(&[(name, ERRORS), ("in between", &reads)], through);
        assert!(found.is_ok(), "{name:?}: {found:?}");
    }
    let none = compiled(&[("a b", ERRORS)], "import px # 'a b'\npx.display(px.DataFrame('b'))");
    assert_eq!(none.unwrap_err()[0].code, "table_not_found");
}

/// What a view cannot be is said, where it is read or by its name: itself, nothing, several tables, something
/// wrong; it has its own window, and no table's name. Catches a compiler that never ends.
#[test]
fn wrong_views_are_refused() {
    let own = "import px\npx.display(px.DataFrame('v'))";
    let two = "import px\npx.display(px.DataFrame('http_events'))\npx.display(px.DataFrame('dns_events'))";
    let reads = "import px\npx.display(px.DataFrame('v'))";
    let cases = [
        (own, reads, "recursion_limit", "v"),
        (two, reads, "no_output", "s"),
        ("import px\npx.debug(px.DataFrame('http_events'))", reads, "no_output", "s"),
        ("import px\nx = nothing", reads, "name_not_defined", "v"),
        ("import px\n(", reads, "syntax_error", "v"),
        (
            ERRORS,
            "import px\npx.display(px.DataFrame('v', start_time='-1m'))",
            "argument_value",
            "s",
        ),
        (ERRORS, "import px\npx.display(px.DataFrame('w'))", "table_not_found", "s"),
    ];
    for (view, text, code, file) in cases {
        let found = compiled(&[("v", view)], text).unwrap_err();
        assert_eq!((found[0].code.as_str(), found[0].file.as_str()), (code, file), "{found:#?}");
    }
    let table =
        compiled(&[("http_events", own)], "import px\npx.display(px.DataFrame('http_events'))");
    assert!(table.is_ok(), "a table's name is the table's: {table:?}");
}

/// A script reads so many views, and one more is refused with the number; names of others in its text cost nothing.
/// Catches views that are left out unsaid, and a text that is searched for each of thousands of names.
#[test]
fn how_many_views_one_reads_is_bounded() {
    let view = |n: usize, reads: bool| {
        let text = match reads {
            // A chain: each reads the next.
            true => format!("import px\npx.display(px.DataFrame('v{}'))", n + 1),
            false => ERRORS.to_string(),
        };
        (format!("v{n}"), text)
    };
    let script = "import px\npx.display(px.DataFrame('v0'))";
    for (count, is_fine) in [(20, true), (65, false), (5_000, false)] {
        let views: Vec<(String, String)> = (0..count).map(|n| view(n, n + 1 < count)).collect();
        let views: Vec<(&str, &str)> =
            views.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let done = compiled(&views, script);
        match is_fine {
            true => assert!(done.is_ok(), "{done:?}"),
            false => {
                let found = done.unwrap_err();
                assert_eq!(found[0].code, "too_complex", "{found:?}");
                assert!(found[0].message.contains("64 views"), "{found:?}");
            }
        }
    }
    let mut long = String::from(script);
    (0..50_000).for_each(|n| long.push_str(&format!("\n# v{}", n % 3)));
    let mut views: Vec<(String, String)> = (0..5_000).map(|n| view(n, false)).collect();
    let all = |views: &[(String, String)], text: &str| {
        let views: Vec<(&str, &str)> =
            views.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        compiled(&views, text).is_ok()
    };
    assert!(all(&views, &long));
    // Names that are no words.
    views.extend((0..5_000).map(|n| (format!("a view {n}"), ERRORS.to_string())));
    (0..5_000).for_each(|n| long.push_str(&format!("\nx = 'a view {}'", n % 3)));
    assert!(all(&views, &long));
}
