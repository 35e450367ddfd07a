//! `weir alerts add`: an alert rule from a script and a condition over its columns. The rule is ordinary: the script
//! becomes a recorded view, the condition an expression over it; both are checked before anything is written.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use weir_cluster::judge::{Condition, Judge, recorded, rule_text, shown_by};
use weir_cluster::planner::{self, ScriptRequest};
use weir_pxl::vis::{self, ArgValue};

use super::rules::past::{self, Past};
use crate::args::{AlertAddArgs, Format, ScriptArgs};
use crate::client::Connection;
use crate::config::bounded;
use crate::failure::Failure;
use crate::{output, script};

pub(crate) fn run(connection: &Connection, args: &AlertAddArgs) -> Result<(), Failure> {
    let request = script::request(&ScriptArgs {
        script: args.script.clone(),
        func: args.func.clone(),
        script_args: args.script_args.clone(),
    })?;
    let view = view_text(&request)?;
    let shown = shown_by(&view, &Arc::default(), &script::allowance());
    let shown = shown.map_err(|error| Failure::No(error.to_string()))?;
    let name = args.name.clone().unwrap_or_else(|| default_name(&args.script, &request));
    let (labels, annotations) = (pairs(&args.label)?, pairs(&args.annotation)?);
    let condition = Condition {
        name: &name,
        when: &args.when,
        hold: args.for_.as_deref(),
        keep_firing: args.keep_firing_for.as_deref(),
        labels: &labels,
        annotations: &annotations,
    };
    let rule = rule_text(&condition, &view, &shown);
    if args.dry_run {
        judged("the rule", &rule)?;
        output::text(rule.trim_end())?;
        let past = Past::Server { connection, last: args.last, step: None };
        return past::of_texts(&[("the rule".to_string(), rule)], &past, Format::Table);
    }
    let Some(file) = &args.file else {
        return judged("the rule", &rule).and_then(|()| output::text(rule.trim_end()));
    };
    let whole = match bounded_or_none(file)? {
        Some(there) if !there.trim().is_empty() => format!("{}\n---\n{rule}", there.trim_end()),
        _ => rule,
    };
    judged(&file.display().to_string(), &whole)?;
    replace(file, &whole)?;
    output::note(&format!("added the rule {name} to {}", file.display()));
    Ok(())
}

fn bounded_or_none(file: &Path) -> Result<Option<String>, Failure> {
    match file.try_exists() {
        Ok(false) => Ok(None),
        _ => bounded(file, weir_rules::yaml::FILE_BYTES_MAX as u64).map(Some).map_err(Failure::No),
    }
}

/// Whoever reads the file meanwhile sees the old or the new one. What is written is a file that was not there, under
/// a name that nobody knows before: no link is followed, and nothing of others is replaced.
fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::No(format!("could not write {}: {error}", file.display()));
    let mut random = [0u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| failed(error.into()))?;
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{:016x}.new", u64::from_ne_bytes(random)));
    let written = write_new(Path::new(&beside), file, text);
    let done = written.and_then(|()| std::fs::rename(&beside, file));
    done.inspect_err(|_| drop(std::fs::remove_file(&beside))).map_err(failed)
}

/// With the rights of the file whose place it takes, if that is there.
fn write_new(path: &Path, of: &Path, text: &str) -> std::io::Result<()> {
    let mut new = std::fs::File::create_new(path)?;
    new.write_all(text.as_bytes())?;
    if let Ok(there) = std::fs::metadata(of) {
        new.set_permissions(there.permissions())?;
    }
    new.sync_all()
}

fn judged(name: &str, text: &str) -> Result<(), Failure> {
    let views = recorded(std::iter::once(text));
    let (report, _) = Judge::new(views, &script::allowance).file(name, text);
    match report.problems.first() {
        Some(first) => Err(Failure::No(first.clone())),
        None => Ok(()),
    }
}

/// The script as one that displays one table by itself: where functions make its tables, with a call of one.
fn view_text(request: &ScriptRequest) -> Result<String, Failure> {
    let source = script::source_of(request);
    let (text, vis) = (source.script().text, source.script().vis);
    if text.is_empty() {
        let error = planner::compile(request, None, &script::allowance()).err();
        return Err(Failure::No(error.map_or_else(String::new, |error| error.to_string())));
    }
    let vis = vis.map(vis::parse).transpose();
    let vis =
        vis.map_err(|_| Failure::No("its vis.json is wrong: `weir check` says how".into()))?;
    let calls: Vec<&vis::FuncCall> = vis
        .iter()
        .flat_map(|vis| {
            let widgets = vis.widgets.iter().filter_map(|widget| widget.func.as_ref());
            widgets.chain(vis.global_funcs.iter().map(|global| &global.func))
        })
        .collect();
    let Some(func) = &request.func else {
        if calls.is_empty() {
            return Ok(text.to_string());
        }
        let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
        return Err(Failure::Usage(format!(
            "name one of its functions with --func: {}",
            names.join(", ")
        )));
    };
    let call = calls.iter().find(|call| call.name == *func);
    let mut given: Vec<(String, String)> = Vec::new();
    match (call, &vis) {
        (Some(call), Some(vis)) => {
            for (name, value) in &call.args {
                let value = match value {
                    ArgValue::Value(text) => text.clone(),
                    ArgValue::Variable(variable) => {
                        let default = vis.variables.iter().find(|it| it.name == *variable);
                        let default = default.and_then(|it| it.default.clone());
                        request.args.get(variable).cloned().or(default).ok_or_else(|| {
                            Failure::Usage(format!("give its argument: -- --{variable} …"))
                        })?
                    }
                };
                given.push((name.clone(), value));
            }
        }
        _ => given.extend(request.args.clone()),
    }
    let given = given.iter().map(|(name, value)| {
        let value = match annotation(text, func, name) {
            Some("int" | "float" | "bool") => value.clone(),
            _ => serde_json::Value::from(value.as_str()).to_string(),
        };
        format!("{name}={value}")
    });
    let given: Vec<String> = given.collect();
    Ok(format!("{}\n\npx.display({func}({}))\n", text.trim_end(), given.join(", ")))
}

/// What a function says of the type of its argument.
fn annotation<'a>(text: &'a str, func: &str, arg: &str) -> Option<&'a str> {
    let from = text.find(&format!("def {func}("))?;
    let arguments = text[from..].split_once('(')?.1.split_once(')')?.0;
    let found = arguments.split(',').find_map(|each| {
        let (name, of) = each.split_once(':')?;
        (name.trim() == arg).then_some(of)
    })?;
    Some(found.split('=').next().unwrap_or_default().trim())
}

fn default_name(script: &str, request: &ScriptRequest) -> String {
    let stem = Path::new(script).file_stem().map_or(script.into(), |stem| stem.to_string_lossy());
    match &request.func {
        Some(func) => format!("{stem}_{func}"),
        None => stem.into_owned(),
    }
}

/// `NAME=VALUE` each.
fn pairs(given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |pair: &String| match pair.split_once('=') {
        Some((name, value)) => Ok((name.to_string(), value.to_string())),
        None => Err(Failure::Usage(format!("`{pair}`: write NAME=VALUE"))),
    };
    given.iter().map(pair).collect()
}
