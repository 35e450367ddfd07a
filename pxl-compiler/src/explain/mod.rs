//! `weir explain`: every stage of a compile, as text and as JSON. Reads what `compile` records on
//! its way; it does not compile differently.

pub(crate) mod ast;
pub(crate) mod ir;
mod operators;
pub(crate) mod text;

use serde_json::{Value as Json, json};
use weir_types::{Diagnostic, Plan};

use crate::compile::{CompileOptions, Script, compile_traced, on_large_stack};
use crate::limits::EXPLAIN_BYTES_MAX;
use crate::split::split_with_reasons;

pub use operators::{OperatorTexts, SourceTexts, operator_texts};

/// A stage of a compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The syntax tree.
    Ast,
    /// The script's variables after evaluation.
    Frames,
    /// The operator graph with column names.
    Ir,
    /// The plan after each pass.
    Passes,
    /// The finished plan.
    Plan,
    /// Node part and cluster part, with the reason of each cut.
    Split,
}

impl Stage {
    pub const ALL: [Stage; 6] =
        [Stage::Ast, Stage::Frames, Stage::Ir, Stage::Passes, Stage::Plan, Stage::Split];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Ast => "ast",
            Stage::Frames => "frames",
            Stage::Ir => "ir",
            Stage::Passes => "passes",
            Stage::Plan => "plan",
            Stage::Split => "split",
        }
    }

    #[must_use]
    pub fn find(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// What a compile leaves behind for people to look at. Stages that were not reached are empty.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) ast: String,
    pub(crate) frames: Vec<(String, String)>,
    pub(crate) ir: String,
    pub(crate) passes: Vec<(&'static str, Plan)>,
}

/// The stages of one compile.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    pub text: String,
    pub json: Json,
    /// Errors that ended the compile, and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Compiles and tells what happened at the given stages.
#[must_use]
pub fn explain(script: &Script<'_>, options: &CompileOptions, stages: &[Stage]) -> Explained {
    on_large_stack(|| explain_here(script, options, stages))
}

fn explain_here(script: &Script<'_>, options: &CompileOptions, stages: &[Stage]) -> Explained {
    let mut trace = Trace::default();
    let (plan, diagnostics) = match compile_traced(script, options, Some(&mut trace)) {
        Ok(compiled) => (Some(compiled.plan), compiled.warnings),
        Err(diagnostics) => (None, diagnostics),
    };
    let mut text = String::new();
    let mut all = serde_json::Map::new();
    for stage in Stage::ALL.into_iter().filter(|stage| stages.contains(stage)) {
        let (part, json) = stage_of(stage, &trace, plan.as_ref());
        if !part.is_empty() {
            text.push_str(&format!("== {} ==\n{part}\n", stage.name()));
        }
        all.insert(stage.name().to_string(), json);
    }
    Explained { text, json: Json::Object(all), diagnostics }
}

fn stage_of(stage: Stage, trace: &Trace, plan: Option<&Plan>) -> (String, Json) {
    match stage {
        Stage::Ast => (trace.ast.clone(), lines(&trace.ast)),
        Stage::Frames => {
            let text: String =
                trace.frames.iter().map(|(name, what)| format!("{name} = {what}\n")).collect();
            let json = trace.frames.iter().map(|(name, what)| (name.clone(), json!(what)));
            (text, Json::Object(json.collect()))
        }
        Stage::Ir => (trace.ir.clone(), lines(&trace.ir)),
        Stage::Passes => {
            let mut text = String::new();
            let mut json = Vec::new();
            let mut before = String::new();
            for (name, plan) in &trace.passes {
                if is_long(&mut text) {
                    break;
                }
                let after = text::plan(plan);
                let shown = if after == before { "  (no change)\n" } else { after.as_str() };
                text.push_str(&format!("-- {name}\n{shown}"));
                json.push(json!({ "pass": name, "plan": lines(&after) }));
                before = after;
            }
            (text, Json::Array(json))
        }
        Stage::Plan => match plan {
            Some(plan) => (text::plan(plan), serde_json::to_value(plan).unwrap_or(Json::Null)),
            None => (String::new(), Json::Null),
        },
        Stage::Split => match plan {
            Some(plan) => split_stage(plan),
            None => (String::new(), Json::Null),
        },
    }
}

/// True if a stage's text is long enough: it ends with a mark then.
pub(crate) fn is_long(text: &mut String) -> bool {
    if text.len() <= EXPLAIN_BYTES_MAX {
        return false;
    }
    if !text.ends_with(CUT) {
        text.push_str(CUT);
    }
    true
}

const CUT: &str = "… (cut: there is more)\n";

fn split_stage(plan: &Plan) -> (String, Json) {
    let (split, cuts) = split_with_reasons(plan);
    let node = text::node(&split);
    let cluster = text::cluster(&split);
    let reasons: String =
        cuts.iter().map(|cut| format!("#{}: {}\n", cut.exchange, cut.reason)).collect();
    let text = format!("-- node\n{node}-- cluster\n{cluster}-- why\n{reasons}");
    let cuts: Vec<Json> = cuts
        .iter()
        .map(|cut| json!({ "exchange": cut.exchange, "below": cut.below, "reason": cut.reason }))
        .collect();
    let json = json!({ "node": lines(&node), "cluster": lines(&cluster), "cuts": cuts });
    (text, json)
}

fn lines(text: &str) -> Json {
    Json::Array(text.lines().map(|line| json!(line)).collect())
}
