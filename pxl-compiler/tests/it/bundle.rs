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

/// Nothing is found wrong in any vis.json, and every output but those for debugging is shown where
/// there are widgets at all: catches a chart that stays empty for a typo, and widgets at the wrong
/// output.
#[test]
fn widgets_show_what_is_there() {
    for each in bundle::scripts() {
        let Some(vis_text) = each.vis else { continue };
        let vis = vis::parse(vis_text).unwrap_or_else(|found| panic!("{}: {found:?}", each.name));
        let script = Script { name: each.name, text: each.pxl, vis: each.vis };
        let options = CompileOptions { placeholders: true, ..CompileOptions::default() };
        let compiled = compile(&script, &options).unwrap();
        let in_vis = compiled.warnings.iter().filter(|found| found.code.starts_with("vis_"));
        assert_eq!(in_vis.collect::<Vec<_>>(), Vec::<&weir_types::Diagnostic>::new());
        for (output, widgets) in compiled.plan.outputs.iter().zip(&compiled.widgets) {
            let shown = !vis.widgets.is_empty() && !output.table.starts_with('_');
            assert_eq!(shown, !widgets.is_empty(), "{}: widgets of {}", each.name, output.table);
        }
    }
}
