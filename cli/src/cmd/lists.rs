//! The commands that show what this build knows: scripts, tables, functions. No server needed.

use serde_json::{Value as Json, json};
use weir_cluster::api::http::table_json;
use weir_cluster::planner;
use weir_types::tables;

use super::ask::list;
use crate::args::{Format, NamedArgs, ScriptsArgs, ScriptsCommand};
use crate::failure::Failure;
use crate::output;

pub(crate) fn scripts(args: ScriptsArgs) -> Result<(), Failure> {
    let format = output::format_or_default(args.output);
    match args.what.unwrap_or(ScriptsCommand::List) {
        ScriptsCommand::List => {
            let items: Vec<Json> = weir_pxl::bundle::scripts()
                .iter()
                .map(|script| {
                    json!({"name": script.name, "short": script.short, "long": script.long,
                           "args": planner::arguments_json(script.vis)})
                })
                .collect();
            list(&json!(items), &["name", "short"], format)
        }
        ScriptsCommand::Show { name } => {
            let script = weir_pxl::bundle::find(&name).ok_or_else(|| {
                Failure::No(format!("there is no script `{name}`: see `weir scripts list`"))
            })?;
            if format != Format::Table {
                return output::line(
                    &json!({"name": script.name, "pxl": script.pxl, "vis": script.vis,
                            "short": script.short, "long": script.long})
                    .to_string(),
                );
            }
            output::line(script.pxl)
        }
    }
}

pub(crate) fn schema(args: NamedArgs) -> Result<(), Failure> {
    let format = output::format_or_default(args.output);
    match args.name {
        None => {
            let items: Vec<Json> = tables::TABLES.iter().map(table_json).collect();
            list(&json!(items), &["name", "desc"], format)
        }
        Some(name) => {
            let table = tables::find(&name).ok_or_else(|| {
                Failure::No(format!("there is no table `{name}`: see `weir schema`"))
            })?;
            let json = table_json(table);
            if format == Format::Table {
                output::line(table.desc)?;
                output::line("")?;
                list(&json["columns"], &["name", "type", "semantic", "desc"], format)
            } else {
                output::line(&json.to_string())
            }
        }
    }
}

pub(crate) fn funcs(args: NamedArgs) -> Result<(), Failure> {
    let format = output::format_or_default(args.output);
    let chosen = planner::functions_json(args.name.as_deref());
    let Some(name) = args.name else {
        return list(&json!(chosen), &["name", "kind", "placement", "doc"], format);
    };
    if chosen.is_empty() {
        return Err(Failure::No(format!("there is no function `{name}`: see `weir funcs`")));
    }
    match format {
        Format::Table => chosen.iter().try_for_each(print_function),
        _ => list(&json!(chosen), &[], format),
    }
}

/// One function for people: what it does, how it is called, what comes back.
fn print_function(function: &Json) -> Result<(), Failure> {
    let text = |key: &str| function[key].as_str().unwrap_or_default();
    let items = |key: &str| function[key].as_array().map(Vec::as_slice).unwrap_or_default();
    output::line(text("doc"))?;
    if let Some(reason) = function["refusal"].as_str() {
        output::line(&format!("\nrefused: {reason}"))?;
    }
    output::line("")?;
    for signature in items("signatures") {
        output::line(&format!("  {}", signature.as_str().unwrap_or_default()))?;
    }
    output::line("")?;
    let runs = match (text("kind"), text("placement")) {
        ("table", _) => "a source of rows",
        (_, "node") => "on the node that the row comes from, before any agg, join or limit",
        (_, "cluster") => "in the cluster part",
        _ => "anywhere",
    };
    output::line(&format!("kind:      {}", text("kind")))?;
    output::line(&format!("runs:      {runs}"))?;
    if !text("semantic").is_empty() {
        output::line(&format!("semantic:  {}", text("semantic")))?;
    }
    output::line(&format!("example:   {}", text("example")))?;
    for (key, head, columns) in [
        ("named_args", "arguments", &["name", "type", "default", "desc"][..]),
        ("columns", "columns", &["name", "type", "semantic", "desc"]),
    ] {
        if !items(key).is_empty() {
            output::line(&format!("\n{head}:"))?;
            list(&function[key], columns, Format::Table)?;
        }
    }
    Ok(())
}
