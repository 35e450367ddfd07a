//! Stages of small scripts as goldens: each file holds a script and what `explain` says of it.

use weir_pxl::{CompileOptions, Script, Stage, bundle, explain, render_diagnostics};
use weir_types::plan::{EndBound, OpId, OpKind, Plan, StartBound, Window};
use weir_types::random::SplitMix;
use weir_types::{Expr, Value};

use crate::frames::compiled;
use crate::golden;

/// `=== stages` names the stages; the rest of the file is rewritten.
#[test]
fn explain_goldens() {
    let mut failures = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(golden::folder("explain"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let parts = golden::sections(&text);
        let part = |name: &str| -> &str {
            parts.iter().find(|(have, _)| have == name).map_or("", |(_, body)| body.as_str())
        };
        let stages: Vec<Stage> =
            part("stages").split_whitespace().map(|name| Stage::find(name).unwrap()).collect();
        let script = Script { name: "case.pxl", text: part("script"), vis: None };
        let explained = explain(&script, &CompileOptions::default(), &stages);
        let findings = render_diagnostics(&explained.diagnostics, part("script"), false);
        let now = format!(
            "=== script\n{}=== stages\n{}=== result\n{}{findings}",
            part("script"),
            part("stages"),
            explained.text.replace("\n== ", "\n\n== ").trim_end().to_string() + "\n",
        );
        failures.extend(golden::compare(&path, &now).err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn windows(body: &str) -> Vec<Window> {
    let compiled = compiled(&format!("import px\n{body}px.display(df)\n"));
    compiled.plan.scans().map(|(_, window)| window).collect()
}

/// Every way to write a window: catches a sign or an inclusive edge gone wrong.
#[test]
fn windows_are_symbolic() {
    let of = |args: &str| windows(&format!("df = px.DataFrame('jvm_stats'{args})\n"))[0];
    let relative = |seconds: i64| StartBound::Relative { window_ns: seconds * 1_000_000_000 };
    assert_eq!(of("").start, StartBound::Beginning);
    assert_eq!(of(", start_time='-5m'").start, relative(300));
    assert_eq!(of(", start_time=px.now() - px.minutes(5)").start, relative(300));
    assert_eq!(of(", start_time=px.now() + px.parse_duration('-5m')").start, relative(300));
    assert_eq!(of(", start_time=px.parse_time('-5m')").start, relative(300));
    assert_eq!(of(", start_time=px.parse_time(px.now() - px.hours(1))").start, relative(3600));
    assert_eq!(of(", start_time=17").start, StartBound::Absolute { start_unix_ns: 17 });
    let absolute = StartBound::Absolute { start_unix_ns: 1_767_225_600_000_000_000 };
    assert_eq!(of(", start_time='2026-01-01 00:00:00 +0000'").start, absolute);
    assert_eq!(of(", start_time='-5m', end_time=px.now()").end, EndBound::Now);
    let minute = EndBound::Relative { before_ns: 60_000_000_000 };
    assert_eq!(of(", start_time='-5m', end_time='-1m'").end, minute);
    assert_eq!(of(", end_time=99").end, EndBound::Absolute { end_unix_ns: 99 });
    assert_eq!(of(", None, None, None").start, StartBound::Beginning);
}

/// The clock folds where it cancels and stays where it does not.
#[test]
fn now_is_affine() {
    let of = |expr: &str| -> Expr {
        let text = format!(
            "import px\ndf = px.DataFrame('jvm_stats')\ndf.x = {expr}\npx.display(df[['x']])\n"
        );
        let plan = compiled(&text).plan;
        match &plan.ops[plan.outputs[0].op].kind {
            OpKind::Map { exprs } => exprs[0].clone(),
            other => panic!("{other:?}"),
        }
    };
    let int = |value: i64| Expr::Literal(Value::Int64(value));
    assert_eq!(of("px.now() - (px.now() - px.seconds(5))"), int(5_000_000_000));
    assert_eq!(of("px.now() - px.parse_time('-5s')"), int(5_000_000_000));
    assert_eq!(of("px.parse_time('-5s') - px.parse_time('-6s')"), int(1_000_000_000));
    assert_eq!(of("2 * px.now() - px.now() - px.now()"), int(0));
    assert_eq!(of("px.now() + 1"), Expr::Now { factor: 1, offset_ns: 1 });
    assert_eq!(of("-px.now()"), Expr::Now { factor: -1, offset_ns: 0 });
    assert_eq!(of("5 - px.now() * 3"), Expr::Now { factor: -3, offset_ns: 5 });
    assert!(matches!(of("px.now() / 2"), Expr::Call { func, .. } if func == "divide"));
    assert!(
        matches!(of("px.parse_time('-5m')"), Expr::Call { func, .. } if func == "int64_to_time")
    );
}

/// Literals of the reference's micro-cases, folded while compiling.
#[test]
fn literals_fold() {
    let of = |expr: &str| -> Value {
        let text = format!(
            "import px\ndf = px.DataFrame('jvm_stats')\ndf.x = {expr}\npx.display(df[['x']])\n"
        );
        let plan = compiled(&text).plan;
        match &plan.ops[plan.outputs[0].op].kind {
            OpKind::Map { exprs } => match &exprs[0] {
                Expr::Literal(value) => value.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of("7 / 2"), Value::Float64(3.5));
    assert_eq!(of("7 % 2"), Value::Int64(1));
    assert_eq!(of("'px/' + 'pod'"), Value::str("px/pod"));
    assert_eq!(of("0.1 + 0.2 == 0.3"), Value::Boolean(true));
    assert_eq!(of("not 1 == 2"), Value::Boolean(true));
    assert_eq!(of("px.seconds(3) + px.milliseconds(5)"), Value::Int64(3_005_000_000));
    assert_eq!(of("px.format_duration(-90000000000)"), Value::str("-1m"));
    assert_eq!(of("px.parse_duration('-5m')"), Value::Int64(-300_000_000_000));
    assert_eq!(of("px.make_upid(1, 2, 3)"), Value::Uint128((1 << 96) | (2 << 64) | 3));
    assert_eq!(of("'a' 'b' r'\\n' '\\x41'"), Value::str("ab\\nA"));
    assert_eq!(
        of("px.script_reference('L', 'px/pod', {'start_time': '-5m', 'pod': 'ns/p'})"),
        Value::str(
            "{\"label\":\"L\",\"script\":\"px/pod\",\"args\":{\"start_time\":\"-5m\",\"pod\":\"ns/p\"}}"
        )
    );
    assert_eq!(of("[1, (2, 'c')][1][1]"), Value::str("c"));
    assert_eq!(of("-9223372036854775808"), Value::Int64(i64::MIN));
}

/// Ten functions over one table scan it once.
#[test]
fn one_scan_for_many_functions() {
    let mut text = "import px\ndef rows(start: str):\n    \
                    df = px.DataFrame('http_events', start_time=start)\n    \
                    df.pod = df.ctx['pod']\n    return df[df.pod != '']\n"
        .to_string();
    for n in 0..10 {
        text.push_str(&format!(
            "df = rows('-5m')\n\
             px.display(df.groupby('pod').agg(n{n}=('latency', px.count)), 't{n}')\n"
        ));
    }
    assert_eq!(compiled(&text).plan.scans().count(), 1);
}

/// A view with ten functions over one table scans it once, also where they name columns differently,
/// select, filter and aggregate differently: the scan has the union of their columns, and `explain`
/// shows one scan on the node. Catches pruning or filters that split the scan.
#[test]
fn one_scan_for_a_view() {
    let bodies = [
        "df.pod = df.ctx['pod']\n    return df.groupby('pod').agg(n=('latency', px.count))",
        "df.p = df.ctx['pod']\n    return df.groupby('p').agg(slow=('latency', px.max))",
        "df = df[df.resp_status >= 400]\n    return df[['time_', 'req_path', 'resp_status']]",
        "df = df[px.contains(df.req_path, '/api')]\n    return df.agg(n=('req_path', px.count))",
        "return df.drop(['req_body', 'resp_body']).head(10)",
        "df.time_ = px.bin(df.time_, px.seconds(10))\n    \
         return df.groupby('time_').agg(b=('resp_body_size', px.sum))",
        "df = df[['latency', 'req_method']]\n    df.latency = px.abs(df.latency)\n    return df",
        "df.failed = df.resp_status >= 500\n    return df.groupby('remote_addr').agg(f=('failed', px.mean))",
        "other = df.groupby('upid').agg(worst=('latency', px.max))\n    \
         return df.merge(other, 'inner', ['upid', 'latency'], ['upid', 'worst'])[['req_path', 'worst']]",
        "return df[['trace_role']].append(df[['trace_role']])",
    ];
    let mut text = "import px\n".to_string();
    let mut globals = Vec::new();
    for (n, body) in bodies.iter().enumerate() {
        // The same window in different words, and with a selection of columns of its own.
        let source = match n % 3 {
            0 => "px.DataFrame('http_events', start_time=start)",
            1 => "px.DataFrame(table='http_events', start_time=px.now() - px.minutes(5))",
            _ => "px.DataFrame('http_events', start_time='-300s')",
        };
        text.push_str(&format!("def f{n}(start: str):\n    df = {source}\n    {body}\n"));
        globals.push(format!(
            r#"{{"outputName": "o{n}", "func": {{"name": "f{n}", "args": [{{"name": "start", "value": "-5m"}}]}}}}"#
        ));
    }
    let vis = format!(r#"{{"globalFuncs": [{}]}}"#, globals.join(","));
    let script = Script { name: "t.pxl", text: &text, vis: Some(&vis) };
    let explained = explain(&script, &CompileOptions::default(), &[Stage::Plan, Stage::Split]);
    let codes: Vec<&str> = explained.diagnostics.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(
        codes,
        Vec::<&str>::new(),
        "{}",
        render_diagnostics(&explained.diagnostics, &text, false)
    );
    let (plan, split) = explained.text.split_once("== split ==").unwrap();
    assert_eq!(plan.matches("scan http_events").count(), 1, "{plan}");
    assert_eq!(split.matches("scan http_events").count(), 1, "{split}");
    let scan = plan.lines().find(|line| line.contains("scan http_events")).unwrap();
    for column in ["upid", "latency", "req_path", "resp_status", "remote_addr", "resp_body_size"] {
        assert!(scan.contains(column), "{scan}");
    }
    assert_eq!(explained.json["plan"]["outputs"].as_array().unwrap().len(), bodies.len());
    let cuts = explained.json["split"]["cuts"].as_array().unwrap();
    assert!(cuts.iter().all(|cut| !cut["reason"].as_str().unwrap().is_empty()));
}

/// Windows of different length are different scans: catches merging by table alone.
#[test]
fn different_windows_are_different_scans() {
    let text = "import px\n\
                px.display(px.DataFrame('http_events', start_time='-5m').agg(n=('upid', px.count)), 'a')\n\
                px.display(px.DataFrame('http_events', start_time='-1m').agg(n=('upid', px.count)), 'b')\n";
    assert_eq!(compiled(text).plan.scans().count(), 2);
}

/// The same plan, put down in another order: operators, inputs of unions and outputs; with an operator that
/// nobody reads, and other words for what is not shown.
fn put_differently(plan: &Plan, seed: u64) -> Plan {
    let mut random = SplitMix(seed);
    let mut places: Vec<Option<OpId>> = vec![None; plan.ops.len()];
    let mut ops = vec![plan.ops.iter().find(|op| op.inputs.is_empty()).expect("a source").clone()];
    while places.contains(&None) {
        let is_ready = |&id: &OpId| {
            places[id].is_none() && plan.ops[id].inputs.iter().all(|&input| places[input].is_some())
        };
        let ready: Vec<OpId> = (0..plan.ops.len()).filter(is_ready).collect();
        let id = ready[random.below(ready.len() as u64) as usize];
        let mut op = plan.ops[id].clone();
        op.inputs.iter_mut().for_each(|input| *input = places[*input].expect("placed before"));
        if matches!(op.kind, OpKind::Union) {
            op.inputs.reverse();
        }
        let is_shown = plan.outputs.iter().any(|output| output.op == id);
        let time = op.relation.time_idx();
        for (idx, column) in op.relation.columns.iter_mut().enumerate() {
            column.desc.push_str(" in other words");
            if !is_shown && time != Some(idx) {
                column.name.push_str("_differently");
            }
        }
        places[id] = Some(ops.len());
        ops.push(op);
    }
    let mut outputs = plan.outputs.clone();
    outputs.iter_mut().for_each(|output| output.op = places[output.op].expect("placed"));
    outputs.reverse();
    Plan { version: plan.version, ops, outputs }
}

/// A plan is what it computes and shows: the order in which it was put down, numbers and descriptions are no
/// part of its identity; windows, constants and names that are shown are. Catches a number or an order that gets
/// into it, and views of two plans that would be shared.
#[test]
fn a_plan_has_one_identity() {
    let mut identities = std::collections::HashMap::new();
    for (number, each) in bundle::scripts().iter().enumerate() {
        let script = weir_pxl::Script { name: each.name, text: each.pxl, vis: each.vis };
        let options =
            weir_pxl::CompileOptions { placeholders: true, ..weir_pxl::CompileOptions::default() };
        let plan = weir_pxl::compile(&script, &options).unwrap().plan;
        let identity = plan.identity();
        for seed in 0..5 {
            let other = put_differently(&plan, seed * 100 + number as u64);
            assert_eq!(other.identity(), identity, "{}", each.name);
        }
        let mut other = plan.clone();
        other.outputs[0].table.push('2');
        assert_ne!(other.identity(), identity, "{}: another name", each.name);
        let mut other = plan.clone();
        let shown = other.outputs[0].op;
        other.ops[shown].relation.columns[0].name.push('2');
        assert_ne!(other.identity(), identity, "{}: a column of another name", each.name);
        let mut other = plan.clone();
        for op in &mut other.ops {
            if let OpKind::Scan(scan) = &mut op.kind {
                scan.table.push('2');
            }
        }
        let has_scans = plan.scans().next().is_some();
        assert_eq!(other.identity() != identity, has_scans, "{}: other tables", each.name);
        if let Some(twin) = identities.insert(identity, (each.name, plan.clone())) {
            // What shares a view must show the same.
            let (name, twin) = twin;
            let tables = |plan: &Plan| -> Vec<String> {
                plan.outputs.iter().map(|output| output.table.clone()).collect()
            };
            assert_eq!(tables(&twin), tables(&plan), "{name} and {}", each.name);
        }
    }
    assert!(identities.len() > 20, "{} plans", identities.len());
}
