//! What a script may cost: nesting of every kind, values and frames that double, and texts that are
//! long in one thing only. Each ends with its code, on a small stack; a test that hangs or aborts
//! fails. Times are not looked at.

use weir_pxl::{
    Cancel, CompileOptions, Compiled, Script, Stage, compile, explain, limits,
    render_script_diagnostics, split,
};
use weir_types::Diagnostic;
use weir_types::plan::OpKind;

const FRAME: &str = "import px\ndf = px.DataFrame('http_events', start_time='-5m')\n";

/// Stack of a thread that compiles: what the compiler needs beyond this it brings along.
const SMALL_STACK_BYTES: usize = 256 * 1024;

fn on_small_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(SMALL_STACK_BYTES);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

fn outcome(text: &str, vis: Option<&str>) -> Result<Compiled, Vec<Diagnostic>> {
    on_small_stack(|| {
        let options = CompileOptions { placeholders: true, ..CompileOptions::default() };
        compile(&Script { name: "cost.pxl", text, vis }, &options)
    })
}

/// The codes of the errors, each once; empty if it compiles.
fn codes(text: &str) -> Vec<String> {
    let mut found = match outcome(text, None) {
        Ok(compiled) => {
            assert!(!split(&compiled.plan).cluster.ops.is_empty());
            Vec::new()
        }
        Err(found) => {
            assert!(found.len() <= limits::ERRORS_MAX + limits::WARNINGS_MAX + 1);
            let script = Script { name: "cost.pxl", text, vis: None };
            let shown = render_script_diagnostics(&found, &script, false);
            assert!(shown.len() < 1 << 20, "{} bytes of findings", shown.len());
            found
        }
    };
    found.retain(|one| one.severity == weir_types::Severity::Error);
    let mut codes: Vec<String> = found.into_iter().map(|one| one.code).collect();
    codes.dedup();
    codes
}

/// One kind of nesting: what opens a level, what stands inside, what closes it.
const KINDS: &[(&str, &str, &str)] = &[
    ("(", "1", ")"),
    ("[", "1", "]"),
    ("{", "1", "}"),
    ("{1: ", "1", "}"),
    ("f(", "1", ")"),
    ("f(a, ", "1", ")"),
    ("f(a=", "1", ")"),
    ("a[", "1", "]"),
    ("a[b, ", "1", "]"),
    ("-", "1", ""),
    ("~-+", "1", ""),
    ("not ", "1", ""),
    ("1 + (", "1", ")"),
    ("1 ** ", "1", ""),
    ("1 + ", "1", ""),
    ("1 - \\\n", "1", ""),
    ("1 - \\\r\n", "1", ""),
    ("1 - \\\r", "1", ""),
    ("1 < ", "1", ""),
    ("a and ", "b", ""),
    ("a or ", "b", ""),
    ("a and b or ", "c", ""),
    ("a if b else ", "c", ""),
    ("a if ", "c", " else b"),
    ("lambda: ", "1", ""),
    ("lambda a, b: ", "1", ""),
    ("lambda a=", "1", ": 1"),
    ("await ", "a", ""),
    ("(yield ", "a", ")"),
    ("(a := ", "1", ")"),
    ("*", "a", ""),
    ("[x for x in ", "a", "]"),
    ("[", "a", " for x in y]"),
    ("a", "", ".b"),
    ("a", "", "()"),
    ("a", "", "[0]"),
    ("a", "", ".b()[0]"),
    ("", "(1", ") + 1"),
    ("f'{", "a", "}'"),
    ("f'{a:{", "b", "}}'"),
    ("f\"{a['", "b", "']}\""),
    ("x = ", "1", ""),
    ("'a' ", "'b'", ""),
    ("x, ", "y", ""),
    ("@", "a", ""),
    ("async ", "def f(): pass", ""),
    ("match ", "x", ""),
    ("case (", "x", ")"),
    ("if a: ", "b", ""),
    ("[)", "", ""),
    ("(]", "", ""),
    ("{)", "", "(}"),
    ("((((']))))'", "", ""),
    ("f'('((((", "", ""),
    ("f'", "(((((((((('", ""),
    ("f\"{x\" + ((((", "", ""),
    ("\"\"\"(((\"\"\" + (", "1", ")"),
];

/// Blocks within blocks, each line one deeper.
fn blocks(head: &str, depth: usize) -> String {
    let lines: String = (0..depth).map(|n| format!("{}{head}\n", " ".repeat(n))).collect();
    format!("{lines}{}x = 1\n", " ".repeat(depth))
}

/// Nesting of every kind, shallow, around the limit and far beyond it, is compiled or refused with a
/// code: catches a kind that is not counted, which ends the process.
#[test]
fn every_kind_of_nesting_is_counted() {
    let limit = limits::SYNTAX_DEPTH_MAX;
    for (open, inner, close) in KINDS {
        for depth in [1, 100, limit / 2, limit - 2, limit - 1, limit, limit + 1, 12_000, 60_000] {
            let bytes = limits::SCRIPT_BYTES_MAX - 100;
            let depth = depth.min(bytes / (open.len() + close.len()).max(1));
            let nested = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            for text in [format!("x = {nested}\n"), format!("import px\n{nested}\ny = 1\n")] {
                let found = codes(&text);
                assert!(!found.is_empty(), "{open}{inner}{close} shows nothing, yet compiles");
            }
        }
    }
    for head in ["def f():", "if x:", "for x in y:", "with a:", "try:", "class A:", "while a:"] {
        for depth in [10, 200, 900] {
            assert!(!codes(&blocks(head, depth)).is_empty());
        }
        // The parser may take what stands in an open bracket for blocks.
        assert!(!codes(&format!("x = (\n{}", blocks(head, 900))).is_empty());
    }
}

/// A chain of terms is not nesting: a sum of 400 and of 1,000 terms compiles, of columns and of
/// constants, and every walk over it fits a small stack. Catches a limit on the tree's depth alone.
#[test]
fn flat_chains_are_accepted() {
    for terms in [400, limits::EXPR_DEPTH_MAX] {
        for term in ["1", "df.latency"] {
            let sum = vec![term; terms].join(" + ");
            let text = format!("{FRAME}df.x = {sum}\npx.display(df)\n");
            assert_eq!(codes(&text), [""; 0], "{terms} terms of {term}");
            // What is done with a plan elsewhere, on the 2 MiB of a thread of the standard library.
            let compiled = outcome(&text, None).unwrap();
            let plan = compiled.plan.clone();
            assert_eq!(plan, compiled.plan);
            assert_eq!(plan.identity(), compiled.plan.identity());
            for op in &plan.ops {
                if let OpKind::Map { exprs } = &op.kind {
                    for expr in exprs {
                        weir_functions::eval::CompiledExpr::new(expr).unwrap();
                    }
                }
            }
            let script = Script { name: "cost.pxl", text: &text, vis: None };
            let explained = explain(&script, &CompileOptions::default(), &Stage::ALL);
            assert!(explained.diagnostics.is_empty());
        }
    }
    let joined = vec!["'a'"; 900].join(" + ");
    assert_eq!(codes(&format!("{FRAME}df.x = {joined}\npx.display(df)\n")), [""; 0]);
    let any = vec!["'/a'"; 900].join(", ");
    let text = format!("{FRAME}df = df[px.equals_any(df.req_path, [{any}])]\npx.display(df)\n");
    assert_eq!(codes(&text), [""; 0]);
    let heads = ".head(5)".repeat(400);
    assert_eq!(codes(&format!("{FRAME}df = df{heads}\npx.display(df)\n")), [""; 0]);
    let terms = vec!["df.latency"; limits::EXPR_DEPTH_MAX + 1].join(" + ");
    assert_eq!(codes(&format!("{FRAME}df.x = {terms}\npx.display(df)\n")), ["too_complex"]);
}

/// Values that grow with each line are refused by their bytes or their depth: catches a constant that
/// is computed before it is measured, and one that is copied into every expression.
#[test]
fn values_that_grow_are_refused() {
    let doubled = |first: &str, line: &str| format!("import px\na = {first}\n{}", line.repeat(60));
    assert_eq!(codes(&doubled("'ab'", "a = a + a\n")), ["value_too_large"]);
    assert_eq!(codes(&doubled("b'ab'", "a = a + a + a\n")), ["value_too_large"]);
    // Integers wrap, lists share: neither grows.
    let out = "px.display(px.DataFrame('http_events'))\n";
    assert_eq!(codes(&format!("{}{out}", doubled("3", "a = a + a\na = a * a\n"))), [""; 0]);
    assert_eq!(codes(&format!("{}{out}", doubled("[1]", "a = [a, a]\n"))), [""; 0]);
    for line in ["a = [a]\n", "a = (a,)\n", "a = {'x': a}\n"] {
        assert_eq!(codes(&format!("import px\na = 1\n{}", line.repeat(30_000))), ["too_deep"]);
    }
    let column = format!("{FRAME}a = df.req_path\n{}", "a = a + a\n".repeat(40));
    assert_eq!(codes(&format!("{column}df.x = a\npx.display(df)\n")), ["too_complex"]);
    // One long text in many expressions.
    let text = "x".repeat(100_000);
    let uses: String = (0..300).map(|n| format!("df.c{n} = df.req_path + t\n")).collect();
    let found = codes(&format!("{FRAME}t = '{text}'\n{uses}px.display(df)\n"));
    assert_eq!(found, ["value_too_large"]);
    let literal = format!("{FRAME}t = '{}'\n", "x".repeat(limits::VALUE_BYTES_MAX + 1));
    assert_eq!(codes(&literal), ["value_too_large"]);
    let many: String = (0..2000).map(|n| format!("b{n} = t + '{n}'\n")).collect();
    assert_eq!(codes(&format!("import px\nt = '{text}'\n{many}")), ["value_too_large"]);
    let names: String = (0..4000)
        .map(|n| {
            format!("df['{}{n}'] = 1\ndf = df.drop('{}{n}')\n", "n".repeat(40), "n".repeat(40))
        })
        .collect();
    assert!(!codes(&format!("{FRAME}{names}px.display(df)\n")).is_empty());
}

/// A frame appended to itself is a count: 30 times are fine below an aggregate, 40 are too many, and
/// what is shown has a limit of its own. Catches a walk over the graph as a tree, and counts that
/// overflow.
#[test]
fn appended_frames_are_counts() {
    let doubled = |times: usize| format!("{FRAME}{}", "df = df.append(df)\n".repeat(times));
    let counted = "df = df.agg(n=('latency', px.count))\npx.display(df)\n";
    let compiled = outcome(&format!("{}{counted}", doubled(30)), None).unwrap();
    let unions = compiled.plan.ops.iter().filter(|op| matches!(op.kind, OpKind::Union)).count();
    assert_eq!(unions, 30);
    let parts = split(&compiled.plan);
    assert!(parts.cluster.ops.len() < 60 && parts.node().ops.len() < 10);
    assert_eq!(codes(&format!("{}{counted}", doubled(40))), ["copies_max"]);
    assert_eq!(codes(&format!("{}px.display(df)\n", doubled(16))), [""; 0]);
    assert_eq!(codes(&format!("{}px.display(df)\n", doubled(17))), ["copies_max"]);
    assert_eq!(codes(&format!("{}px.display(df.head(5))\n", doubled(32))), [""; 0]);
    let joined = "df = df.append(df).append([df, df])[['upid', 'latency']]\n".repeat(9);
    let merge = "df = df.merge(df, 'inner', 'upid', 'upid')\n";
    let found = codes(&format!("{FRAME}{joined}{merge}{counted}"));
    assert!(found.contains(&"copies_max".to_string()), "a join multiplies: {found:?}");
    let wide = format!("{FRAME}df = df.append([{}])\n{counted}", "df, ".repeat(501));
    assert_eq!(codes(&wide), ["too_complex"]);
    let script = Script { name: "cost.pxl", text: &doubled(30), vis: None };
    assert!(explain(&script, &CompileOptions::default(), &Stage::ALL).text.len() < 1 << 20);
}

/// Functions that call functions twice, and merges of merges, end by their budget.
#[test]
fn calls_and_joins_that_multiply_end() {
    let calls: String =
        (0..40).map(|n| format!("def f{}(x):\n    return f{n}(f{n}(x))\n", n + 1)).collect();
    let first = "import px\ndef f0(x):\n    return x\n";
    assert_eq!(codes(&format!("{first}{calls}y = f40(1)\n")), ["too_complex"]);
    let frames: String =
        (0..40).map(|n| format!("def f{}(df):\n    return f{n}(f{n}(df))\n", n + 1)).collect();
    let first = format!("{FRAME}def f0(df):\n    return df[df.latency > 1]\n");
    assert_eq!(codes(&format!("{first}{frames}px.display(f40(df))\n")), ["too_complex"]);
    let merges = "df = df.merge(df, how='inner', left_on='upid', right_on='upid')\n\
                  df.upid = df.upid_x\n"
        .repeat(30);
    assert!(!codes(&format!("{FRAME}{merges}px.display(df)\n")).is_empty());
    // A node function behind columns that double below the clock.
    let doubling = "df.latency = df.latency + df.latency\n".repeat(60);
    let late = format!("{FRAME}df.t = df.time_ + px.now() * 0 + px.now()\n{doubling}");
    let found = codes(&format!("{late}df.p = px.itoa(df.latency)\npx.display(df)\n"));
    assert!(found.is_empty() || found == ["no_overload"], "{found:?}");
    // Filters below which maps stand that cannot be fused.
    let maps = "df.latency = df.latency + df.latency\ndf = df[df.req_path != 'x']\n".repeat(2400);
    let found = codes(&format!("{FRAME}{maps}px.display(df)\n"));
    assert!(found.is_empty() || found == ["too_complex"], "{found:?}");
}

/// Texts that are long in one thing only: as many errors as are shown, then an end. Catches hints,
/// suggestions and repeated names that are looked for once more for each.
#[test]
fn long_lists_are_linear() {
    let names: String = (0..20_000).map(|n| format!("v{n} = u{n}\n")).collect();
    assert_eq!(codes(&names), ["name_not_defined"]);
    let known: String = (0..12_000).map(|n| format!("some_name_{n} = {n}\n")).collect();
    let wrong: String = (0..100).map(|n| format!("x = some_nmae_{n}\n")).collect();
    assert_eq!(codes(&format!("{known}{wrong}")), ["name_not_defined"]);
    assert_eq!(codes(&format!("x = f({})\n", "a ".repeat(100_000))), ["syntax_error"]);
    assert_eq!(codes(&format!("x = [{}]\n", "a ".repeat(100_000))), ["syntax_error"]);
    assert_eq!(codes(&"f(a b=1)\n".repeat(50_000)), ["syntax_error"]);
    assert_eq!(codes(&format!("x = (\n{}", "a\n".repeat(100_000))), ["syntax_error"]);
    let columns: String = (0..40_000).map(|n| format!("'c{n}', ")).collect();
    for use_of in ["df = df[[{}]]", "df = df.drop([{}])", "df = df.groupby([{}]).agg()"] {
        let line = use_of.replace("{}", &columns);
        assert_eq!(codes(&format!("{FRAME}{line}\npx.display(df)\n")), ["columns_max"]);
    }
    let outs: String = (0..15_000).map(|n| format!("o{n}=('latency', px.sum), ")).collect();
    assert_eq!(codes(&format!("{FRAME}df = df.agg({outs})\npx.display(df)\n")), ["columns_max"]);
    let missing = "df.x = df.nope\n".repeat(4000);
    assert_eq!(codes(&format!("{FRAME}{missing}px.display(df)\n")), ["column_not_found"]);
    let assigned: String = (0..100_000).map(|n| format!("df.c{n}=1\n")).collect();
    let assigned = &assigned[..limits::SCRIPT_BYTES_MAX - 200];
    let assigned = &assigned[..assigned.rfind('\n').unwrap() + 1];
    assert!(!codes(&format!("{FRAME}{assigned}px.display(df)\n")).is_empty());
    let unused = "d = px.DataFrame('http_events')\n".repeat(10_000);
    assert_eq!(codes(&format!("import px\n{unused}")), ["too_complex"]);
    let line = format!("x = undefined_name + '{}'\n", "é".repeat(50_000));
    assert_eq!(codes(&line), ["name_not_defined"]);
}

/// Patterns are counted before any is compiled: catches seven thousand of them in one text.
#[test]
fn patterns_are_counted() {
    let rules: String = (0..7000).map(|n| format!("\\\"r{n}\\\":\\\"a{n}\\\",")).collect();
    let rules = &rules[..rules.len() - 1];
    let call = format!("df.r = px._match_regex_rule('{{{rules}}}', df.req_path)\n");
    let found = codes(&format!("{FRAME}{call}px.display(df)\n"));
    assert!(found.is_empty() || found == ["value_too_large"], "{found:?}");
    let calls: String = (0..200)
        .map(|n| format!("df.c{n} = px.replace('[a-z]{{{n}}}', df.req_path, '')\n"))
        .collect();
    assert_eq!(codes(&format!("{FRAME}{calls}px.display(df)\n")), ["patterns_max"]);
}

/// A vis.json of any size, depth and number of widgets is read or refused.
#[test]
fn vis_files_are_bounded() {
    let script = "import px\ndef f():\n    return px.DataFrame('http_events')\n";
    let refused = |vis: &str| -> String {
        let found = outcome(script, Some(vis)).unwrap_err();
        assert!(found.len() <= limits::ERRORS_MAX + limits::WARNINGS_MAX + 1);
        found[0].code.clone()
    };
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(refused(&deep), "vis_syntax");
    assert_eq!(refused(&format!("{{\"widgets\": {deep}}}")), "vis_syntax");
    let widget = "{\"func\":{\"name\":\"f\"},\"displaySpec\":{\"@type\":\"x/px.vispb.Table\"}}";
    let many = |key: &str, one: &str, count: usize| {
        format!("{{\"{key}\": [{}]}}", vec![one; count].join(","))
    };
    assert_eq!(refused(&many("widgets", widget, 501)), "vis_invalid");
    assert_eq!(refused(&many("widgets", "{}", 150_000)), "vis_invalid");
    assert_eq!(refused(&many("variables", "{}", 150_000)), "vis_invalid");
    assert_eq!(refused(&many("globalFuncs", "{}", 150_000)), "vis_invalid");
    assert_eq!(refused(&" ".repeat(limits::VIS_BYTES_MAX + 1)), "vis_syntax");
    let fields: String = (0..20_000).map(|n| format!(",\"field{n}\":1")).collect();
    let odd = widget.replace("Table\"", &format!("Table\"{fields}"));
    let found = outcome(script, Some(&many("widgets", &odd, 1))).unwrap().warnings;
    assert!(found.len() <= limits::WARNINGS_MAX + 1, "{}", found.len());
    assert_eq!(found.last().unwrap().code, "more_findings");
}

/// Warnings do not take the room of errors: a script that fails fails, however many there are.
#[test]
fn warnings_hide_no_error() {
    let warnings: String = (0..100)
        .map(|n| format!("d{n} = px.DataFrame('http_events', start_time='5m')\n"))
        .collect();
    let found = outcome(&format!("import px\n{warnings}px.display(nope)\n"), None).unwrap_err();
    assert_eq!(found[0].code, "name_not_defined");
}

/// A compile ends when it is told to, from another thread, wherever it is.
#[test]
fn a_cancelled_compile_ends() {
    let calls: String =
        (0..17).map(|n| format!("def f{}(x):\n    return f{n}(f{n}(x))\n", n + 1)).collect();
    let text = format!("import px\ndef f0(x):\n    return x\n{calls}{}", "y = f17(1)\n".repeat(50));
    let cancel = Cancel::default();
    let options = CompileOptions { cancel: cancel.clone(), ..CompileOptions::default() };
    let found = std::thread::scope(|scope| {
        let script = Script { name: "cost.pxl", text: &text, vis: None };
        let compiling = scope.spawn(move || compile(&script, &options).unwrap_err());
        cancel.cancel();
        compiling.join().unwrap()
    });
    assert_eq!(found[0].code, "cancelled");
}
