//! vis.json: arguments, calls, widgets.

use weir_pxl::vis::{VariableType, parse};
use weir_pxl::{CompileOptions, Script, compile};

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
      "displaySpec": { "@type": "types.px.dev/px.vispb.TimeseriesChart", "future": 1 } },
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
        found.into_iter().map(|diagnostic| diagnostic.code).collect()
    };
    assert_eq!(codes(&[("n", "ten")]), ["exec_argument"]);
    assert_eq!(codes(&[("m", "1")]), ["argument_unknown"]);
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
