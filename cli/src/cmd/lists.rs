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
                list(&json["columns"], &["name", "type", "semantic", "desc"], format)
            } else {
                output::line(&json.to_string())
            }
        }
    }
}

pub(crate) fn funcs(args: NamedArgs) -> Result<(), Failure> {
    let format = output::format_or_default(args.output);
    let all = planner::functions_json();
    let chosen: Vec<Json> = all
        .into_iter()
        .filter(|func| args.name.as_ref().is_none_or(|name| func["name"] == **name))
        .collect();
    if let Some(name) = args.name
        && chosen.is_empty()
    {
        return Err(Failure::No(format!("there is no function `{name}`: see `weir funcs`")));
    }
    list(&json!(chosen), &["name", "kind", "signatures", "doc"], format)
}
