//! The compiler against the plans that texts were written from, and compiled texts through the
//! engine: text, compiler, split and engine together give what the model says the plan means.

use std::fmt::Write as _;

use weir_dataflow_tests::check::check;
use weir_dataflow_tests::drive::{compare, difference};
use weir_dataflow_tests::generate::pxl_text::text_of;
use weir_dataflow_tests::generate::{self, Case, Style, rows};
use weir_dataflow_tests::model::evaluate;
use weir_pxl::{CompileOptions, Compiled, Script, compile, render_diagnostics};

pub(crate) fn compiled(text: &str) -> Result<Compiled, String> {
    let table = (rows::VALUES_TABLE.to_string(), rows::relation(rows::VALUES_TABLE));
    let options = CompileOptions { tables: vec![table], ..CompileOptions::default() };
    compile(&Script { name: "case.pxl", text, vis: None }, &options)
        .map_err(|found| format!("{}\n{text}", render_diagnostics(&found, text, false)))
}

/// What the compiler makes of a script means what the script's plan means: catches every wrong
/// rewrite (pushed filters, fused maps, pruned columns, merged subplans) and lost hidden columns.
#[test]
fn scripts_mean_their_plans() {
    check(1000, generate::case(Style::Script, 40), |case: Case| {
        let text = text_of(&case.plan);
        let optimised = compiled(&text)?.plan;
        for &tick_ms in case.feed.ticks_ms.iter().step_by(3) {
            let now_unix_ns = tick_ms as i64 * 1_000_000;
            let wanted = evaluate(&case.plan, &case.world, now_unix_ns)
                .map_err(|error| error.to_string())?;
            let actual = evaluate(&optimised, &case.world, now_unix_ns)
                .map_err(|error| format!("{error}\n{text}"))?;
            for output in &case.plan.outputs {
                let relation = &case.plan.ops[output.op].relation;
                let (name, types) = (&output.table, relation.types());
                let Some(found) = optimised.outputs.iter().find(|found| found.table == *name)
                else {
                    return Err(format!("no output {name}\n{text}"));
                };
                let names = |relation: &weir_types::Relation| -> Vec<String> {
                    relation.columns.iter().map(|column| column.name.clone()).collect()
                };
                let columns = names(&optimised.ops[found.op].relation);
                if columns != names(relation) {
                    return Err(format!("{name} has columns {columns:?}\n{text}"));
                }
                if let Some(wrong) = difference(&wanted[name], &actual[name], &types) {
                    let mut message = format!("{name} at {tick_ms}:\n{wrong}\n{text}\n");
                    for (id, op) in optimised.ops.iter().enumerate() {
                        let _ = writeln!(message, "{id}: {op:?}");
                    }
                    return Err(message);
                }
            }
        }
        Ok(())
    });
}

/// The same through the engine: text → plan → node part and cluster part → changes.
#[test]
fn compiled_scripts_equal_the_model() {
    check(500, generate::case(Style::Script, 70), |case: Case| {
        let plan = compiled(&text_of(&case.plan))?.plan;
        compare(&case.plan, &weir_pxl::split(&plan), &case.world, &case.feed)
            .map(|_| ())
            .map_err(|error| format!("{error}\n{}", text_of(&case.plan)))
    });
}
