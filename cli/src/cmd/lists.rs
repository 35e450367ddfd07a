//! The commands that show what this build knows: scripts, tables, functions. No server needed.

use serde_json::{Value as Json, json};
use weir_cluster::api::http::table_json;
use weir_cluster::planner;
use weir_pxl::bundle;
use weir_types::tables;

use crate::args::{Format, NamedArgs, ScriptsArgs, ScriptsCommand};
use crate::failure::Failure;
use crate::listing::list;
use crate::output;

pub(crate) fn scripts(args: ScriptsArgs) -> Result<(), Failure> {
    let format = output::format_or_default(args.output);
    match args.what.unwrap_or(ScriptsCommand::List) {
        ScriptsCommand::List => {
            let items: Vec<Json> = bundle::scripts()
                .iter()
                .map(|script| {
                    json!({"name": script.name, "short": script.short, "long": script.long,
                           "args": planner::arguments_json(script.vis)})
                })
                .collect();
            list(&json!(items), &["name", "short"], format)
        }
        ScriptsCommand::Show { name } => {
            let script = find_script(&name)?;
            match format {
                Format::Table => output::line(script.pxl),
                Format::Json | Format::Jsonl => output::line(
                    &json!({"name": script.name, "pxl": script.pxl, "vis": script.vis,
                            "short": script.short, "long": script.long})
                    .to_string(),
                ),
                Format::Csv => Err(Failure::Usage(
                    "scripts show prints the text (-o table) or -o json: a script is no table"
                        .to_string(),
                )),
            }
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
            let known: Vec<&str> = tables::TABLES.iter().map(|table| table.name).collect();
            let table = tables::find(&name)
                .ok_or_else(|| unknown("table", &name, &known, "weir schema"))?;
            let json = table_json(table);
            let columns = ["name", "type", "semantic", "desc"];
            match format {
                Format::Json | Format::Jsonl => output::line(&json.to_string()),
                Format::Csv => list(&json["columns"], &columns, format),
                Format::Table => {
                    output::text(table.desc)?;
                    output::line("")?;
                    list(&json["columns"], &columns, format)
                }
            }
        }
    }
}

pub(crate) fn funcs(args: NamedArgs) -> Result<(), Failure> {
    let format = output::format_or_default(args.output);
    let columns = ["name", "kind", "placement", "doc"];
    let Some(name) = args.name else {
        return list(&json!(planner::functions_json(None)), &columns, format);
    };
    // As scripts write it.
    let bare = name.strip_prefix("px.").unwrap_or(&name);
    let chosen = planner::functions_json(Some(bare));
    if chosen.is_empty() {
        let all = planner::functions_json(None);
        let known: Vec<&str> = all.iter().filter_map(|each| each["name"].as_str()).collect();
        return Err(unknown("function", bare, &known, "weir funcs"));
    }
    match format {
        Format::Table => chosen.iter().try_for_each(print_function),
        _ => list(&json!(chosen), &columns, format),
    }
}

/// There is none of that name; perhaps another was meant.
fn unknown(what: &str, name: &str, known: &[&str], list: &str) -> Failure {
    let hint = weir_pxl::suggest(name, known)
        .map_or_else(|| format!("see `{list}`"), |near| format!("did you mean `{near}`?"));
    Failure::No(format!("there is no {what} `{name}`: {hint}"))
}

/// A script of the bundle.
pub(crate) fn find_script(name: &str) -> Result<&'static bundle::BundleScript, Failure> {
    let known: Vec<&str> = bundle::scripts().iter().map(|script| script.name).collect();
    bundle::find(name).ok_or_else(|| unknown("script", name, &known, "weir scripts list"))
}

/// One function for people: what it does, how it is called, what comes back.
fn print_function(function: &Json) -> Result<(), Failure> {
    let text = |key: &str| function[key].as_str().unwrap_or_default();
    let items = |key: &str| function[key].as_array().map(Vec::as_slice).unwrap_or_default();
    output::text(text("doc"))?;
    if let Some(reason) = function["refusal"].as_str() {
        output::text(&format!("\nrefused: {reason}"))?;
    }
    output::line("")?;
    for signature in items("signatures") {
        output::text(&format!("  {}", signature.as_str().unwrap_or_default()))?;
    }
    output::line("")?;
    let runs = match (text("kind"), text("placement")) {
        ("table", _) => "a source of rows",
        (_, "node") => "on the node that the row comes from, before any agg, join or limit",
        (_, "cluster") => "in the cluster part",
        _ => "anywhere",
    };
    output::text(&format!("kind:      {}", text("kind")))?;
    output::text(&format!("runs:      {runs}"))?;
    if !text("semantic").is_empty() {
        output::text(&format!("semantic:  {}", text("semantic")))?;
    }
    output::text(&format!("example:   {}", text("example")))?;
    for (key, head, columns) in [
        ("named_args", "arguments", &["name", "type", "default", "desc"][..]),
        ("columns", "columns", &["name", "type", "semantic", "desc"]),
    ] {
        if !items(key).is_empty() {
            output::text(&format!("\n{head}:"))?;
            list(&function[key], columns, Format::Table)?;
        }
    }
    Ok(())
}
