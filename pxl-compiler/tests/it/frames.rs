//! What frames hold: columns, order, types and tags, case by case from the language reference.

use weir_pxl::{CompileOptions, Compiled, Script, compile, render_diagnostics};
use weir_types::Relation;
use weir_types::plan::OpKind;

pub(crate) fn compiled(text: &str) -> Compiled {
    let script = Script { name: "t.pxl", text, vis: None };
    compile(&script, &CompileOptions::default())
        .unwrap_or_else(|found| panic!("{}", render_diagnostics(&found, text, false)))
}

fn codes(text: &str) -> Vec<String> {
    let script = Script { name: "t.pxl", text, vis: None };
    let found = compile(&script, &CompileOptions::default()).unwrap_err();
    found.into_iter().map(|diagnostic| diagnostic.code).collect()
}

fn relation(compiled: &Compiled, output: usize) -> &Relation {
    &compiled.plan.ops[compiled.plan.outputs[output].op].relation
}

fn columns(body: &str) -> Vec<String> {
    let compiled = compiled(&format!("import px\n{body}\npx.display(df, 't')\n"));
    relation(&compiled, 0).columns.iter().map(|column| column.name.clone()).collect()
}

const ABC: &str = "df = px.DataFrame('jvm_stats')\n\
                   df.a = 1\ndf.b = 2\ndf.c = 3\ndf = df[['a', 'b', 'c']]\n";
const SIDES: &str = "left = px.DataFrame('jvm_stats')\n\
                     left.k = 1\nleft.v = 2\nleft = left[['k', 'v']]\n\
                     right = px.DataFrame('jvm_stats')\n\
                     right.k = 1\nright.w = 2\nright = right[['k', 'w']]\n";

/// Column order after assignments, selections, drops: catches an overwritten column that stays.
#[test]
fn column_order() {
    let of = |rest: &str| columns(&format!("{ABC}{rest}"));
    assert_eq!(of("df.a = df.b"), ["b", "c", "a"]);
    assert_eq!(of("df = df[['a', 'b']]\ndf.x = 1\ndf.y = 2\ndf.x = 3"), ["a", "b", "y", "x"]);
    assert_eq!(of("df = df['b', 'a']"), ["b", "a"]);
    assert_eq!(of("df = df[('b', 'a')]"), ["b", "a"]);
    assert_eq!(of("df = df.drop(['a'])"), ["b", "c"]);
    assert_eq!(of("df = df.drop('a')"), ["b", "c"]);
    assert_eq!(of("df['a b'] = df['a']"), ["a", "b", "c", "a b"]);
    assert_eq!(of("df = df.groupby('a').agg(n=('b', px.count), s=('b', px.sum))"), ["a", "n", "s"]);
    assert_eq!(of("df = df.groupby(['a', 'b']).agg()"), ["a", "b"]);
}

/// Names of merged columns: catches suffixes on columns that do not clash, or in flipped order.
#[test]
fn merge_names() {
    let of = |how: &str, rest: &str| {
        columns(&format!(
            "{SIDES}df = left.merge(right, how='{how}', left_on='k', right_on='k'{rest})"
        ))
    };
    for how in ["inner", "left", "right", "outer"] {
        assert_eq!(of(how, ""), ["k_x", "v", "k_y", "w"], "{how}");
        assert_eq!(of(how, ", suffixes=['', '_x']"), ["k", "v", "k_x", "w"], "{how}");
        assert_eq!(of(how, ", suffixes=('', '_x')"), ["k", "v", "k_x", "w"], "{how}");
    }
    let cross = format!(
        "{SIDES}right = right[['w']]\n\
         df = left.merge(right, how='outer', left_on=[], right_on=[], suffixes=['', ''])"
    );
    assert_eq!(columns(&cross), ["k", "v", "w"]);
}

/// Appended frames match by name: catches a union of columns in different order.
#[test]
fn append_by_name() {
    let flipped = format!("{ABC}other = df[['c', 'b', 'a']]\ndf = df.append(other)");
    assert_eq!(columns(&flipped), ["a", "b", "c"]);
    let itself = format!("{ABC}df = df.append([df, df])");
    assert_eq!(columns(&itself), ["a", "b", "c"]);
    let typed = format!("import px\n{ABC}other = df\nother.a = 'x'\ndf = df.append(other)\n");
    assert_eq!(codes(&format!("{typed}px.display(df)\n")), ["append_schema"]);
}

/// Types and tags of computed columns: catches a rule of the semantic types that went missing.
#[test]
fn types_and_tags() {
    let body = "df = px.DataFrame('http_events')\n\
                df.fail = df.resp_status >= 400\n\
                df.rate = df.req_body_size / df.latency\n\
                df.ratio = 7 / 2\n\
                df.copy = df.latency\n\
                df.pod = df.ctx['pod']\n\
                df.size = px.Bytes(df.resp_status)\n\
                df = df.groupby('pod').agg(errors=('fail', px.sum), mean=('latency', px.mean),\n\
                    sum=('latency', px.sum), rate=('rate', px.max), ratio=('ratio', px.max),\n\
                    copy=('copy', px.min), size=('size', px.sum), q=('latency', px.quantiles),\n\
                    n=('latency', px.count))\n\
                df.rps = df.n / px.DurationNanos(px.seconds(5))\n";
    let compiled = compiled(&format!("import px\n{body}px.display(df)\n"));
    let found: Vec<String> = relation(&compiled, 0)
        .columns
        .iter()
        .map(|column| format!("{} {} {}", column.name, column.data_type, column.semantic))
        .collect();
    let wanted = [
        "pod STRING POD_NAME",
        "errors INT64 NONE",
        "mean FLOAT64 DURATION_NS",
        "sum INT64 NONE",
        "rate FLOAT64 THROUGHPUT_BYTES_PER_NS",
        "ratio FLOAT64 NONE",
        "copy INT64 DURATION_NS",
        "size INT64 BYTES",
        "q STRING DURATION_NS_QUANTILES",
        "n INT64 NONE",
        "rps FLOAT64 THROUGHPUT_PER_NS",
    ];
    assert_eq!(found, wanted);
}

/// What has no overload is an error: catches an implicit conversion.
#[test]
fn no_conversions() {
    let of = |expr: &str| {
        codes(&format!(
            "import px\ndf = px.DataFrame('http_events')\ndf.x = {expr}\npx.display(df)\n"
        ))
    };
    assert_eq!(of("px.Percent(df.latency)"), ["cast"]);
    assert_eq!(of("df.latency > 1.5"), ["no_overload"]);
    assert_eq!(of("df.time_ > 5"), ["no_overload"]);
    assert_eq!(of("df.req_path + 1"), ["no_overload"]);
    assert_eq!(of("df.encrypted and df.latency"), ["no_overload"]);
}

/// References are by name, against the frame they are used on: catches a snapshot of the frame.
#[test]
fn references_are_by_name() {
    let body = "df = px.DataFrame('http_events')\n\
                slow = df.latency > 5\n\
                df.latency = df.latency * 2\n\
                df = df[slow]\n\
                other = px.DataFrame('http_events')\n\
                other.x = df.resp_status\n\
                px.display(other)\n";
    let compiled = compiled(&format!("import px\n{body}px.display(df)\n"));
    assert_eq!(compiled.plan.outputs.len(), 2);
    let filters = compiled.plan.ops.iter().filter(|op| matches!(op.kind, OpKind::Filter { .. }));
    assert_eq!(filters.count(), 1);
}

/// Functions see module variables as they are when called: catches early binding.
#[test]
fn functions_bind_late() {
    let body = "def data():\n    return px.DataFrame(table)\n\
                table = 'jvm_stats'\n\
                df = data()\n\
                px.Pod = str\n\
                def named(p: px.Pod):\n    return p\n\
                df.x = named('a') + 'b'\n";
    let columns = columns(body);
    assert_eq!(columns.last().map(String::as_str), Some("x"));
    let compiled = compiled(&format!("import px\n{body}px.display(df)\n"));
    assert_eq!(compiled.plan.scans().next().map(|(table, _)| table), Some("jvm_stats"));
}

/// Names of outputs, and lists of frames: catches two outputs with one name.
#[test]
fn output_names() {
    let text = "import px\ndf = px.DataFrame('jvm_stats')\n\
                px.display(df, 't')\npx.display(df, 't')\npx.display(df)\npx.debug(df, 'd')\n";
    let names = |compiled: &Compiled| -> Vec<String> {
        compiled.plan.outputs.iter().map(|output| output.table.clone()).collect()
    };
    assert_eq!(names(&compiled(text)), ["t", "t_1", "output", "_d"]);

    let text = "import px\ndef p():\n    df = px.DataFrame('jvm_stats')\n    \
                px.display(df, 'unseen')\n    px.debug(df, 'seen')\n    return [df, df]\n";
    let script = Script { name: "t.pxl", text, vis: None };
    let options = CompileOptions { func: Some("p".to_string()), ..CompileOptions::default() };
    let found = compile(&script, &options).unwrap();
    assert_eq!(names(&found), ["_seen", "p[0]", "p[1]"]);
}

/// The missing comma that Pixie's parser accepts, and where it does not.
#[test]
fn comma_leniency() {
    let of = |args: &str| {
        let text = format!(
            "import px\ndf = px.DataFrame('jvm_stats')\n\
             df = df.merge({args})\npx.display(df)\n"
        );
        let script = Script { name: "t.pxl", text: &text, vis: None };
        compile(&script, &CompileOptions::default()).map(|_| ()).map_err(|found| {
            found.iter().map(|diagnostic| diagnostic.code.clone()).collect::<Vec<_>>()
        })
    };
    assert_eq!(of("df, how='inner', left_on='upid', right_on='upid'"), Ok(()));
    assert_eq!(of("df how='inner', left_on='upid', right_on='upid'"), Ok(()));
    assert_eq!(of("df, how='inner' left_on='upid', right_on='upid'"), Ok(()));
    assert_eq!(of("df, how='inner',, left_on='upid', right_on='upid'"), Ok(()));
    let twice = of("df, how='inner' left_on='upid' right_on='upid'");
    assert_eq!(twice, Err(vec!["syntax_error".to_string()]));
    let positional = of("df 'inner', 'upid', 'upid'");
    assert_eq!(positional, Err(vec!["syntax_error".to_string()]));
}

/// A join keeps the key of a side of which it gives each row once at most: the other one is a single row, or
/// has one for each key of the join. Catches a view that loses its key by a look at something else, and one
/// whose rows are told apart by what is there twice.
#[test]
fn keys_over_joins() {
    let start = "import px\nh = px.DataFrame('http_events', start_time='-30s')\n\
                 df = h.groupby(['req_path', 'resp_status']).agg(n=('latency', px.count))\n\
                 one = h.agg(first=('time_', px.min))\n\
                 per = h.groupby('req_path').agg(m=('latency', px.max))\n";
    let key = |merge: &str| {
        let text =
            format!("{start}df = {merge}\npx.display(df[['req_path', 'resp_status', 'n']])\n");
        compiled(&text).key[0].clone()
    };
    let none: [&str; 0] = [];
    let by_path = "left_on='req_path', right_on='req_path', suffixes=['', '_r']";
    let whole = ["req_path", "resp_status"];
    assert_eq!(key("df.merge(one, how='left', left_on=[], right_on=[])"), whole);
    assert_eq!(key(&format!("df.merge(per, how='left', {by_path})")), whole);
    assert_eq!(key(&format!("df.merge(per, how='inner', {by_path})")), whole);
    assert_eq!(key(&format!("df.merge(per, how='outer', {by_path})")), none);
    assert_eq!(key(&format!("df.merge(df, how='left', {by_path})")), none);
    assert_eq!(key(&format!("df.merge(h, how='inner', {by_path})")), none);
}

/// Group columns are the key of an output as long as all of them are shown.
#[test]
fn keys_of_outputs() {
    let text = "import px\ndf = px.DataFrame('http_events', start_time='-30s')\n\
                df = df.groupby(['req_path', 'resp_status']).agg(n=('latency', px.count))\n\
                df.path = df.req_path\n\
                px.display(df[['path', 'resp_status', 'n']])\n\
                px.display(df[['path', 'n']])\n";
    let compiled = compiled(text);
    assert_eq!(compiled.key[0], ["path", "resp_status"]);
    assert!(compiled.key[1].is_empty());
    assert_eq!(compiled.window_text, [Some("-30s".to_string()), Some("-30s".to_string())]);
}
