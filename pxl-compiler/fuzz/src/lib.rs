//! What both targets do with a text: compile it, split the plan, explain it and render what was
//! found. Nothing may panic, and nothing is refused without a reason.

use weir_pxl::{CompileOptions, Script, Stage, compile, explain, render_script_diagnostics, split};

/// Compiles, with the outcome checked.
pub fn try_compile(text: &str, vis: Option<&str>) {
    let script = Script { name: "fuzz.pxl", text, vis };
    let options = CompileOptions { placeholders: true, ..CompileOptions::default() };
    match compile(&script, &options) {
        Ok(compiled) => {
            let parts = split(&compiled.plan);
            assert_eq!(parts.cluster.ops.is_empty(), compiled.plan.outputs.is_empty());
            assert_eq!(compiled.widgets.len(), compiled.plan.outputs.len());
            let explained = explain(&script, &options, &[Stage::Plan, Stage::Split]);
            assert!(explained.text.contains("== plan ==") || compiled.plan.outputs.is_empty());
        }
        Err(found) => {
            assert!(!found.is_empty(), "refused without a reason");
            assert!(!render_script_diagnostics(&found, &script, false).is_empty());
        }
    }
}
