//! vis.json: arguments, calls, widgets.

use std::collections::BTreeSet;

use weir_pxl::vis::{VariableType, WIDGET_KINDS, parse};
use weir_pxl::{CompileOptions, Script, compile};
use weir_types::Severity;

const SCRIPT: &str = "import px\n\
    def a(start: str, n: int):\n    return px.DataFrame('http_events', start_time=start).head(n)\n\
    def b(start: str):\n    return px.DataFrame('jvm_stats', start_time=start)\n";
const VIS: &str = r#"{
  "variables": [
    { "name": "start_time", "type": "PX_STRING", "defaultValue": "-5m" },
    { "name": "n", "type": "PX_INT64", "defaultValue": "10" },
    { "name": "pod", "type": 1001 },
    { "name": "mode", "type": "PX_STRING", "defaultValue": "x", "validValues": ["x", "y"] }
  ],
  "globalFuncs": [
    { "outputName": "A", "func": { "name": "a", "args": [
      { "name": "start", "variable": "start_time" }, { "name": "n", "variable": "n" }] } }
  ],
  "widgets": [
    { "name": "one", "position": { "x": 0, "y": 0, "w": 4, "h": 3 }, "globalFuncOutputName": "A",
      "displaySpec": { "@type": "types.px.dev/px.vispb.Table" } },
    { "name": "two", "globalFuncOutputName": "A",
      "displaySpec": { "@type": "types.px.dev/px.vispb.TimeseriesChart",
        "timeseries": [{ "value": "latency", "mode": "MODE_LINE" }], "future": 1 } },
    { "func": { "name": "b", "args": [{ "name": "start", "value": "-1m" }] },
      "displaySpec": { "@type": "types.px.dev/px.vispb.Table" } }
  ]
}"#;

fn options(args: &[(&str, &str)]) -> CompileOptions {
    let args = args.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    CompileOptions { args, ..CompileOptions::default() }
}

/// Outputs, their widgets and windows: catches a widget at the wrong table.
#[test]
fn calls_become_outputs() {
    let script = Script { name: "t.pxl", text: SCRIPT, vis: Some(VIS) };
    let compiled = compile(&script, &options(&[("start_time", "-30s")])).unwrap();
    let names: Vec<&str> = compiled.plan.outputs.iter().map(|o| o.table.as_str()).collect();
    assert_eq!(names, ["A", "widget_2"]);
    let widgets: Vec<Vec<&str>> = compiled
        .widgets
        .iter()
        .map(|each| each.iter().map(|widget| widget["name"].as_str().unwrap()).collect())
        .collect();
    assert_eq!(widgets, [vec!["one", "two"], vec![""]]);
    assert_eq!(compiled.widgets[0][1]["displaySpec"]["future"], 1);
    assert_eq!(compiled.window_text, [Some("-30s".to_string()), Some("-1m".to_string())]);
    assert_eq!(compiled.args.len(), 4);
}

/// What a function displays on its way has no widget: catches a debugging output that takes the place
/// of the result in a chart.
#[test]
fn debugging_outputs_have_no_widgets() {
    let text = "import px\ndef f():\n    df = px.DataFrame('jvm_stats')\n    px.debug(df, 'seen')\n    \
                return df[['time_']]\n";
    let vis = r#"{"widgets": [{"name": "w", "func": {"name": "f"}}]}"#;
    let script = Script { name: "t.pxl", text, vis: Some(vis) };
    let compiled = compile(&script, &options(&[])).unwrap();
    let outputs: Vec<(&str, usize)> = compiled
        .plan
        .outputs
        .iter()
        .zip(&compiled.widgets)
        .map(|(output, widgets)| (output.table.as_str(), widgets.len()))
        .collect();
    assert_eq!(outputs, [("_seen", 0), ("w", 1)]);
}

/// One function alone, by its name and by its output's name.
#[test]
fn one_function() {
    let script = Script { name: "t.pxl", text: SCRIPT, vis: Some(VIS) };
    let outputs = |func: &str| -> Vec<String> {
        let options = CompileOptions { func: Some(func.to_string()), ..CompileOptions::default() };
        let compiled = compile(&script, &options).unwrap();
        compiled.plan.outputs.iter().map(|output| output.table.clone()).collect()
    };
    assert_eq!(outputs("a"), ["A"]);
    assert_eq!(outputs("A"), ["A"]);
    assert_eq!(outputs("widget_2"), ["widget_2"]);
}

/// Arguments that do not fit are refused.
#[test]
fn arguments_are_checked() {
    let script = Script { name: "t.pxl", text: SCRIPT, vis: Some(VIS) };
    let codes = |args: &[(&str, &str)]| -> Vec<String> {
        let found = compile(&script, &options(args)).unwrap_err();
        let errors = found.into_iter().filter(|found| found.severity == Severity::Error);
        errors.map(|diagnostic| diagnostic.code).collect()
    };
    assert_eq!(codes(&[("n", "ten")]), ["exec_argument"]);
    assert_eq!(codes(&[("m", "1")]), ["argument_unknown"]);
    // `mode` is used by no call: its valid values count all the same.
    assert_eq!(codes(&[("mode", "z")]), ["argument_value"]);
    assert!(compile(&script, &options(&[("mode", "y"), ("n", " 7 ")])).is_ok());
}

/// What a vis.json can have wrong, each with the text that the finding points at: catches a place
/// taken from another value that reads the same.
#[test]
fn findings_point_into_the_vis() {
    let widget = |spec: &str| {
        format!(
            r#"{{"globalFuncs": [{{"outputName": "A", "func": {{"name": "b", "args":
            [{{"name": "start", "value": "-1m"}}]}}}}],
            "widgets": [{{"globalFuncOutputName": "A", "displaySpec": {spec}}}]}}"#
        )
    };
    let call =
        |rest: &str| format!(r#"{{"variables": [{{"name": "v", "type": "PX_STRING"}}], {rest}}}"#);
    let cases: [(String, &str, &str); 19] = [
        (r#"{"variables": {}}"#.into(), "{}", "'variables' must be a list"),
        (r#"{"variables": [{"type": 4}]}"#.into(), r#"{"type": 4}"#, "needs a 'name'"),
        (r#"{"variables": [{"name": "PX_STR", "type": "PX_STR"}]}"#.into(), r#""PX_STR"}"#, "unknown type"),
        (
            r#"{"variables": [{"name": "a", "type": 4}, {"name": "a", "type": 4}]}"#.into(),
            r#""a", "type": 4}]"#,
            "declared twice",
        ),
        (
            r#"{"variables": [{"name": "a", "type": 4, "defaultValue": "b", "validValues": ["a"]}]}"#.into(),
            r#""b""#,
            "not among the valid values",
        ),
        (call(r#""globalFuncs": [{"func": {"name": "f"}}]"#), r#"{"func""#, "needs a 'outputName'"),
        (call(r#""globalFuncs": [{"outputName": "o"}]"#), r#"{"outputName""#, "has no func"),
        (call(r#""globalFuncs": [{"outputName": "o", "func": {}}]"#), "{}", "needs a 'name'"),
        (
            call(
                r#""globalFuncs": [{"outputName": "o", "func": {"name": "f", "args": [{"name": "w", "variable": "w"}]}}]"#,
            ),
            r#""w"}]"#,
            "there is no variable 'w'",
        ),
        (
            call(
                r#""globalFuncs": [{"outputName": "o", "func": {"name": "f", "args": [{"name": "w", "variable": "v", "value": "x"}]}}]"#,
            ),
            r#""v", "value""#,
            "not both",
        ),
        (call(r#""widgets": [{"globalFuncOutputName": "o"}]"#), r#""o""#, "no global func 'o'"),
        (call(r#""widgets": [{"name": "w"}]"#), r#"{"name": "w"}"#, "needs a func or"),
        (call(r#""widgets": [5]"#), "5", "must be an object"),
        (call(r#""widgets": [{"position": {"x": -1}}]"#), "-1", "whole number"),
        (widget(r#"{"@type": "px.vispb.Tabel"}"#), r#""px.vispb.Tabel""#, "not a kind of widget"),
        (widget(r#"{"@type": "px.vispb.Table", "gutterColumn": 7}"#), "7", "the name of a column"),
        (
            widget(r#"{"@type": "px.vispb.TimeseriesChart", "timeseries": [{"value": "x", "mode": "LINE"}]}"#),
            r#""LINE""#,
            "one of MODE_UNKNOWN",
        ),
        (
            widget(r#"{"@type": "px.vispb.Graph", "edgeThresholds": {"highThreshold": "much"}}"#),
            r#""much""#,
            "must be a number",
        ),
        (widget(r#"{"@type": "px.vispb.BarChart", "bar": []}"#), "[]", "must be an object"),
    ];
    for (json, at, message) in &cases {
        let found = parse(json).unwrap_err();
        let Some(first) = found.iter().find(|found| found.message.contains(message)) else {
            panic!("no '{message}' in {found:?}\n{json}");
        };
        assert_eq!(first.file, "/vis.json");
        let line = json.lines().nth(first.line as usize - 1).unwrap();
        let rest: String = line.chars().skip(first.column as usize - 1).collect();
        assert!(rest.starts_with(at), "{message} points at {rest}");
    }
}

/// Every kind of widget is accepted with every one of its fields, and a column that is not there is a
/// warning that names its place.
#[test]
fn all_widgets_and_their_fields() {
    let specs = [
        r#"{"@type": "px.vispb.Table", "gutterColumn": "req_path"}"#,
        r#"{"@type": "px.vispb.TimeseriesChart", "timeseries": [{"value": "latency", "series": "req_path",
            "stackBySeries": true, "mode": "MODE_AREA"}], "title": "t", "xAxis": {"label": "x"}, "yAxis": {}}"#,
        r#"{"@type": "px.vispb.Graph", "adjacencyList": {"fromColumn": "req_path", "toColumn": "req_path"},
            "edgeWeightColumn": "latency", "nodeWeightColumn": "latency", "edgeColorColumn": "latency",
            "edgeThresholds": {"mediumThreshold": 100, "highThreshold": "300"},
            "edgeHoverInfo": ["latency"], "edgeLength": 500, "enableDefaultHierarchy": true}"#,
        r#"{"@type": "px.vispb.Graph", "dotColumn": "req_path"}"#,
        r#"{"@type": "px.vispb.HistogramChart", "histogram": {"value": "latency", "prebinCount": "latency",
            "maxbins": 5, "minstep": 1.5, "horizontal": false}, "title": "t", "xAxis": {}, "yAxis": {}}"#,
        r#"{"@type": "px.vispb.StackTraceFlameGraph", "stacktraceColumn": "req_path", "countColumn":
            "latency", "percentageColumn": "latency", "namespaceColumn": "req_path", "podColumn": "req_path",
            "containerColumn": "req_path", "pidColumn": "latency", "nodeColumn": "req_path",
            "percentageLabel": "of all", "differenceColumn": "latency"}"#,
        r#"{"@type": "px.vispb.RequestGraph", "requestorPodColumn": "req_path", "responderPodColumn":
            "req_path", "requestorServiceColumn": "req_path", "responderServiceColumn": "req_path",
            "requestorIPColumn": "req_path", "responderIPColumn": "req_path", "p50Column": "latency",
            "p90Column": "latency", "p99Column": "latency", "errorRateColumn": "latency",
            "requestsPerSecondColumn": "latency", "inboundBytesPerSecondColumn": "latency",
            "outboundBytesPerSecondColumn": "latency", "totalRequestCountColumn": "latency"}"#,
        r#"{"@type": "px.vispb.BarChart", "bar": {"value": "latency", "label": "req_path", "stackBy":
            "req_path", "groupBy": "req_path", "horizontal": true}, "title": "t", "xAxis": {}, "yAxis": {}}"#,
        r#"{"@type": "px.vispb.PieChart", "label": "req_path", "value": "latency", "title": "t"}"#,
        r#"{"@type": "px.vispb.GaugeChart", "value": "latency", "title": "t"}"#,
        r#"{"@type": "px.vispb.StatChart", "stat": {"value": "latency"}, "title": "t"}"#,
        r#"{"@type": "px.vispb.TextChart", "body": "text"}"#,
        r#"{"@type": "px.vispb.VegaChart", "spec": "{}"}"#,
    ];
    let kinds: BTreeSet<&str> = WIDGET_KINDS.into_iter().collect();
    let tried: BTreeSet<&str> =
        specs.iter().map(|spec| spec.split(['.', '"']).nth(5).unwrap()).collect();
    assert_eq!(tried, kinds);
    let text = "import px\ndef f():\n    df = px.DataFrame('http_events')\n    \
                return df[['time_', 'latency', 'req_path']]\n";
    for spec in specs {
        let compiled = |spec: &str| {
            let vis = format!(
                r#"{{"global_funcs": [{{"output_name": "A", "func": {{"name": "f"}}}}],
                "widgets": [{{"global_func_output_name": "A", "display_spec": {spec}}}]}}"#
            );
            compile(&Script { name: "t.pxl", text, vis: Some(&vis) }, &options(&[])).unwrap()
        };
        assert_eq!(compiled(spec).warnings, [], "{spec}");
        let wrong =
            spec.replace("\"latency\"", "\"latncy\"").replace("\"req_path\"", "\"rq_path\"");
        let warnings = compiled(&wrong).warnings;
        assert_eq!(warnings.is_empty(), wrong == spec, "{warnings:?}");
        assert!(warnings.iter().all(|found| found.code == "vis_column" && found.line > 1));
    }
}

/// Lists of frames are outputs with numbers; snake_case names of the message count as well.
#[test]
fn lists_of_frames() {
    let text = "import px\ndef f(n: int, names: list):\n    \
                df = px.DataFrame('jvm_stats')[[names[0], names[1]]]\n    return (df.head(n), df)\n";
    let vis = r#"{"variables": [
        {"name": "names", "type": "PX_STRING_LIST", "defaultValue": "['time_', 'upid']"},
        {"name": "n", "type": "PX_INT64", "default_value": 3, "valid_values": ["3", "4"]}],
        "widgets": [{"name": "w", "func": {"name": "f", "args": [
            {"name": "n", "variable": "n"}, {"name": "names", "variable": "names"}]}}]}"#;
    let script = Script { name: "t.pxl", text, vis: Some(vis) };
    let compiled = compile(&script, &options(&[])).unwrap();
    let names: Vec<&str> = compiled.plan.outputs.iter().map(|o| o.table.as_str()).collect();
    assert_eq!(names, ["w[0]", "w[1]"]);
    let codes = |value: &str| -> Vec<String> {
        let found = compile(&script, &options(&[("names", value)])).unwrap_err();
        found.into_iter().map(|found| found.code).collect()
    };
    assert_eq!(codes("'upid'"), ["argument_type"]);
    assert_eq!(codes("['upid']"), ["index_range"]);
    assert_eq!(codes("[x for x in y]"), ["exec_argument"]);
    assert_eq!(codes("[1 < 2 < 3]"), ["exec_argument"]);
}

/// Types by name and number, defaults, valid values.
#[test]
fn variables() {
    let vis = parse(VIS).unwrap();
    let kinds: Vec<VariableType> = vis.variables.iter().map(|variable| variable.kind).collect();
    let wanted =
        [VariableType::String, VariableType::Int64, VariableType::Pod, VariableType::String];
    assert_eq!(kinds, wanted);
    assert_eq!(vis.variables[2].default, None);
    assert_eq!(vis.variables[3].valid_values, ["x", "y"]);
    assert_eq!(vis.widgets[1].kind(), "TimeseriesChart");
    assert!(parse("{}").unwrap().widgets.is_empty());
    assert_eq!(parse("[]").unwrap_err()[0].code, "vis_invalid");
    assert_eq!(parse("{").unwrap_err()[0].code, "vis_syntax");
}

/// A vis.json without functions or widgets runs the module as it is.
#[test]
fn empty_vis_runs_the_module() {
    let text = "import px\npx.display(px.DataFrame('jvm_stats'), 't')\n";
    let script = Script { name: "t.pxl", text, vis: Some("{\"variables\": []}") };
    let compiled = compile(&script, &CompileOptions::default()).unwrap();
    assert_eq!(compiled.plan.outputs[0].table, "t");
}
