//! `weir alerts add`: an alert rule from a script and a condition over its columns. The rule is ordinary: the script
//! becomes a recorded view, the condition an expression over it; both are checked before anything is written.

use std::io::Write;
use std::path::Path;

use weir_cluster::planner::{self, Allowance, ScriptRequest};
use weir_pxl::vis::{self, ArgValue};
use weir_sinks::delivery::OutputInfo;
use weir_types::DataType;

use super::rules::past::{self, Past};
use super::rules::{self, recorded};
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
    let shown = shown_by(&view)?;
    let name = args.name.clone().unwrap_or_else(|| default_name(&args.script, &request));
    let rule = rule_text(args, &name, &view, &shown)?;
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

/// The time that other compiles have.
fn allowance() -> Allowance {
    Allowance { deadline: Some(script::compile_deadline()), ..Allowance::default() }
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
    let (report, _) = rules::judged(name, text, &views, &mut rules::Recorded::new());
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
        let error = planner::compile(request, None, &allowance()).err();
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

/// The one table that a script displays.
fn shown_by(text: &str) -> Result<OutputInfo, Failure> {
    let request = ScriptRequest { text: Some(text.to_string()), ..ScriptRequest::default() };
    let compiled = planner::compile(&request, None, &allowance());
    let (_, compiled) = compiled.map_err(|error| {
        let first = error.diagnostics().first().map(|first| format!(": {}", first.message));
        Failure::No(format!("{error}{}", first.unwrap_or_default()))
    })?;
    let outputs = planner::output_infos(&compiled);
    match outputs.as_slice() {
        [one] => Ok(one.clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|output| output.table.as_str()).collect();
            Err(Failure::No(format!(
                "a rule is made of one table; the script shows {}",
                names.join(", ")
            )))
        }
    }
}

fn default_name(script: &str, request: &ScriptRequest) -> String {
    let stem = Path::new(script).file_stem().map_or(script.into(), |stem| stem.to_string_lossy());
    match &request.func {
        Some(func) => format!("{stem}_{func}"),
        None => stem.into_owned(),
    }
}

/// A condition with `df.` before each column, and the first number among these.
fn condition(when: &str, shown: &OutputInfo) -> (String, Option<String>) {
    let (mut out, mut value) = (String::new(), None);
    let mut rest = when;
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if c == '\'' || c == '"' {
            let end = rest[1..].find(c).map_or(rest.len(), |end| end + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        if !is_word(c) {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match shown.relation.columns.iter().find(|column| column.name == word) {
            Some(column) => {
                out.push_str(&format!("df.{word}"));
                if matches!(column.data_type, DataType::Int64 | DataType::Float64) {
                    value.get_or_insert(word.to_string());
                }
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    (out, value)
}

/// Rows of equal labels are one alert: of several, of bins of time for example, the worst counts.
fn expression(view: &str, when: &str, shown: &OutputInfo) -> String {
    let (condition, value) = condition(when, shown);
    let texts = shown.relation.columns.iter().filter(|it| it.data_type == DataType::String);
    let texts: Vec<&str> = texts.map(|column| column.name.as_str()).collect();
    let is_one_a_label_set =
        !shown.key.is_empty() && shown.key.iter().all(|key| texts.contains(&key.as_str()));
    let mut text = format!("import px\ndf = px.DataFrame('{view}')\ndf = df[{condition}]\n");
    match (&value, is_one_a_label_set) {
        (Some(column), false) => {
            let worst = if when.contains('<') { "min" } else { "max" };
            let names: Vec<String> = texts.iter().map(|name| format!("'{name}'")).collect();
            let by = if names.is_empty() {
                String::new()
            } else {
                format!(".groupby([{}])", names.join(", "))
            };
            text.push_str(&format!("df = df{by}.agg(value=('{column}', px.{worst}))\n"));
        }
        (Some(column), true) if column != "value" => {
            text.push_str(&format!("df.value = df.{column}\n"));
        }
        _ => {}
    }
    text + "px.display(df)\n"
}

fn rule_text(
    args: &AlertAddArgs,
    name: &str,
    view: &str,
    shown: &OutputInfo,
) -> Result<String, Failure> {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let record = format!("alert:{}", name.chars().map(fits).collect::<String>());
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let block = |text: &str| {
        let lines = text.trim_end().lines().map(|line| match line.is_empty() {
            true => "\n".to_string(),
            false => format!("      {line}\n"),
        });
        lines.collect::<String>()
    };
    let expr = expression(&record, &args.when, shown);
    let mut text = format!(
        "groups:\n- name: {}\n  rules:\n  - record: {record}\n    expr: |\n{}  - alert: {}\n    expr: |\n{}",
        quoted(name),
        block(view),
        quoted(name),
        block(&expr),
    );
    for (key, value) in [("for", &args.for_), ("keep_firing_for", &args.keep_firing_for)] {
        text.extend(value.as_ref().map(|value| format!("    {key}: {}\n", quoted(value))));
    }
    for (key, pairs) in [("labels", &args.label), ("annotations", &args.annotation)] {
        let pairs: Result<Vec<String>, Failure> = pairs
            .iter()
            .map(|pair| {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| Failure::Usage(format!("`{pair}`: write NAME=VALUE")))?;
                Ok(format!("{}: {}", quoted(name), quoted(value)))
            })
            .collect();
        let pairs = pairs?;
        if !pairs.is_empty() {
            text.push_str(&format!("    {key}: {{{}}}\n", pairs.join(", ")));
        }
    }
    Ok(text)
}
