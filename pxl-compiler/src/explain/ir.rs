//! The operator graph and the script's variables as short text.

use std::fmt::Write;

use crate::ir::{Graph, IrKind, NameAt};
use crate::objects::Object;

fn names(names: &[NameAt]) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    names.join(", ")
}

pub(crate) fn graph(graph: &Graph) -> String {
    let mut out = String::new();
    for (id, op) in graph.ops.iter().enumerate() {
        if super::is_long(&mut out) {
            return out;
        }
        let text = match &op.kind {
            IrKind::Source { table, window_text, .. } => {
                format!("source {} start={window_text:?}", table.name)
            }
            IrKind::TableFunction { name, .. } => format!("table function {name}"),
            IrKind::Filter(cond) => format!("filter {cond}"),
            IrKind::Assign { name, expr, .. } => format!("assign {} = {expr}", name.name),
            IrKind::Select(columns) => format!("select [{}]", names(columns)),
            IrKind::Drop(columns) => format!("drop [{}]", names(columns)),
            IrKind::Aggregate { group, outs } => {
                let outs: Vec<String> = outs
                    .iter()
                    .map(|out| {
                        format!("{}={}({})", out.out.name, out.func.name, names(&out.columns))
                    })
                    .collect();
                format!("aggregate by [{}]: {}", names(group), outs.join(", "))
            }
            IrKind::Merge(merge) => format!(
                "{} merge on [{}] = [{}] suffixes {:?}",
                merge.how.name(),
                names(&merge.left_on),
                names(&merge.right_on),
                merge.suffixes
            ),
            IrKind::Stream => "stream".to_string(),
            IrKind::Append => "append".to_string(),
            IrKind::Unite => "unite".to_string(),
            IrKind::Limit(rows_max) => format!("head {rows_max}"),
        };
        let inputs: Vec<String> = op.inputs.iter().map(|input| format!("%{input}")).collect();
        let from =
            if inputs.is_empty() { String::new() } else { format!(" ← {}", inputs.join(", ")) };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "%{id} {text}{from}");
    }
    for sink in &graph.sinks {
        let _ = writeln!(out, "output {:?} ← %{}", sink.name, sink.op);
    }
    out
}

/// What a variable holds.
pub(crate) fn object(object: &Object<'_>) -> String {
    match object {
        Object::Frame(frame) => format!("frame %{}", frame.op),
        Object::Expr(sym) => format!("expression {sym}"),
        Object::Function(function) => {
            let parameters: Vec<String> = function
                .def
                .parameters
                .iter_non_variadic_params()
                .map(|each| each.name().to_string())
                .collect();
            format!("function({})", parameters.join(", "))
        }
        Object::Module(module) => format!("module {}", module.name()),
        other => other.type_name().to_string(),
    }
}
