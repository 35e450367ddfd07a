//! The bundle: every script compiles as it is, and shows what its vis.json promises.

use weir_pxl::{CompileOptions, Script, bundle, compile, render_diagnostics, vis};

/// All of them, with default arguments and placeholders for required ones.
#[test]
fn every_script_compiles() {
    for each in bundle::scripts() {
        let script = Script { name: each.name, text: each.pxl, vis: each.vis };
        let options = CompileOptions { placeholders: true, ..CompileOptions::default() };
        let compiled = compile(&script, &options).unwrap_or_else(|found| {
            panic!("{}\n{}", each.name, render_diagnostics(&found, each.pxl, false))
        });
        assert!(compiled.warnings.is_empty(), "{}: {:?}", each.name, compiled.warnings);
        assert!(!each.short.is_empty() && !each.long.is_empty(), "{}", each.name);
    }
}

/// The names that a Pixie user types.
#[test]
fn has_the_first_scripts() {
    for name in [
        "px/http_data",
        "px/http_request_stats",
        "px/service_stats",
        "px/let_overview",
        "px/service_map",
        "px/processes",
        "px/net_flow",
        "px/schemas",
    ] {
        assert!(bundle::find(name).is_some(), "{name}");
    }
    let names: Vec<&str> = bundle::scripts().iter().map(|script| script.name).collect();
    assert!(names.is_sorted());
}

/// Every column that a displaySpec names is a column of the output that it shows: catches a chart
/// that stays empty for a typo.
#[test]
fn widgets_name_columns_that_exist() {
    for each in bundle::scripts() {
        let Some(vis_text) = each.vis else { continue };
        vis::parse(vis_text).unwrap_or_else(|found| panic!("{}: {found:?}", each.name));
        let script = Script { name: each.name, text: each.pxl, vis: each.vis };
        let options = CompileOptions { placeholders: true, ..CompileOptions::default() };
        let compiled = compile(&script, &options).unwrap();
        for (output, widgets) in compiled.plan.outputs.iter().zip(&compiled.widgets) {
            let relation = &compiled.plan.ops[output.op].relation;
            assert!(!widgets.is_empty(), "{}: nothing shows {}", each.name, output.table);
            for widget in widgets {
                let mut named = Vec::new();
                columns_in(&widget["displaySpec"], "", &mut named);
                for name in named {
                    let found = relation.index_of(&name).is_some();
                    assert!(found, "{} {}: no column {name}", each.name, widget["name"]);
                }
            }
        }
    }
}

/// Strings at places of a displaySpec that mean columns.
fn columns_in(json: &serde_json::Value, key: &str, found: &mut Vec<String>) {
    use serde_json::Value as Json;
    let is_column = key.ends_with("Column")
        || ["value", "series", "label", "prebinCount", "stackBy", "groupBy"].contains(&key)
        || key == "edgeHoverInfo";
    match json {
        Json::String(text) if is_column => found.push(text.clone()),
        Json::Array(items) => items.iter().for_each(|item| columns_in(item, key, found)),
        Json::Object(fields) => {
            for (key, value) in fields {
                if !["xAxis", "yAxis", "title"].contains(&key.as_str()) {
                    columns_in(value, key, found);
                }
            }
        }
        _ => {}
    }
}
