//! From a vis.json and the user's arguments to the list of function calls.

use super::{ArgValue, FuncCall, Variable, Vis};
use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span};
use crate::hint;
use crate::objects::exec::ExecCall;

pub(crate) struct CallOptions<'a> {
    pub(crate) args: &'a [(String, String)],
    /// Only this function (or this output).
    pub(crate) func: Option<&'a str>,
    /// Fill required arguments with a placeholder of their type.
    pub(crate) placeholders: bool,
    pub(crate) vis_text: &'a str,
}

/// The calls that a vis.json asks for; findings where arguments do not fit.
pub(crate) fn plan_calls(
    vis: &Vis,
    options: &CallOptions<'_>,
    findings: &Findings,
) -> Vec<ExecCall> {
    check_names(vis, options, findings);
    let mut calls: Vec<(ExecCall, FuncCall)> = Vec::new();
    for global in &vis.global_funcs {
        let shown = |(_, widget): &(usize, &super::Widget)| {
            widget.func.is_none() && widget.global_output.as_ref() == Some(&global.output)
        };
        let widgets = vis.widgets.iter().enumerate().filter(shown).map(|(at, _)| at).collect();
        calls.push((
            new_call(global.output.clone(), widgets, &global.func, options),
            global.func.clone(),
        ));
    }
    for (at, widget) in vis.widgets.iter().enumerate() {
        let Some(func) = &widget.func else { continue };
        let output =
            if widget.name.is_empty() { format!("widget_{at}") } else { widget.name.clone() };
        calls.push((new_call(output, vec![at], func, options), func.clone()));
    }
    if let Some(wanted) = options.func {
        let by_output = !calls.iter().any(|(call, _)| call.func == wanted);
        calls.retain(
            |(call, _)| {
                if by_output { call.output == wanted } else { call.func == wanted }
            },
        );
        if calls.is_empty() {
            // Not among the widgets: the function's parameters are the variables of that name.
            return vec![direct_call(wanted, vis, options)];
        }
    }
    let mut planned = Vec::new();
    for (mut call, func) in calls {
        call.args = func
            .args
            .iter()
            .filter_map(|(name, value)| {
                resolve(value, vis, options, findings).map(|text| (name.clone(), text))
            })
            .collect();
        planned.push(call);
    }
    planned
}

fn new_call(
    output: String,
    widgets: Vec<usize>,
    func: &FuncCall,
    options: &CallOptions<'_>,
) -> ExecCall {
    let quoted = format!("\"{}\"", func.name);
    let span = options.vis_text.find(&quoted).map(|at| Span {
        source: SourceId::Vis,
        start: u32::try_from(at).unwrap_or(0),
        end: u32::try_from(at + quoted.len()).unwrap_or(0),
    });
    ExecCall { func: func.name.clone(), output, widgets, span, ..ExecCall::default() }
}

/// A function that no widget calls; arguments that it does not take are left out by the evaluator.
fn direct_call(name: &str, vis: &Vis, options: &CallOptions<'_>) -> ExecCall {
    let mut args: Vec<(String, String)> = options.args.to_vec();
    for variable in &vis.variables {
        if !args.iter().any(|(have, _)| *have == variable.name)
            && let Some(value) = default_of(variable, options)
        {
            args.push((variable.name.clone(), value));
        }
    }
    ExecCall {
        func: name.to_string(),
        args,
        output: name.to_string(),
        lenient: true,
        ..ExecCall::default()
    }
}

fn default_of(variable: &Variable, options: &CallOptions<'_>) -> Option<String> {
    let placeholder = || options.placeholders.then(|| variable.kind.placeholder().to_string());
    variable.default.clone().or_else(placeholder)
}

/// The text that an argument stands for: the user's value, else the default.
fn resolve(
    value: &ArgValue,
    vis: &Vis,
    options: &CallOptions<'_>,
    findings: &Findings,
) -> Option<String> {
    let name = match value {
        ArgValue::Value(text) => return Some(text.clone()),
        ArgValue::Variable(name) => name,
    };
    let variable = vis.variables.iter().find(|variable| variable.name == *name)?;
    let given = options.args.iter().rev().find(|(have, _)| have == name).map(|(_, text)| text);
    if let Some(text) = given {
        let valid = &variable.valid_values;
        if !valid.is_empty() && !valid.contains(text) {
            let message = format!("'{text}' is not a valid value of argument '{name}'");
            let hint = format!("valid are {}", valid.join(", "));
            findings.push(Diag::error(Code::ArgumentValue, Span::NONE, message).hint(hint));
        }
        return Some(text.clone());
    }
    let found = default_of(variable, options);
    if found.is_none() {
        let message = format!("missing required argument '{name}'");
        let hint = format!("pass it after `--`: `--{name} {}`", variable.kind.placeholder());
        findings.push(Diag::error(Code::ArgumentMissing, Span::NONE, message).hint(hint));
    }
    found
}

fn check_names(vis: &Vis, options: &CallOptions<'_>, findings: &Findings) {
    for (name, _) in options.args {
        if vis.variables.iter().any(|variable| variable.name == *name) {
            continue;
        }
        let known: Vec<&str> = vis.variables.iter().map(|each| each.name.as_str()).collect();
        let all = format!("the script's arguments are {}", known.join(", "));
        let hint = hint::did_you_mean(name, known, &all);
        let message = format!("the script has no argument '{name}'");
        findings.push(Diag::error(Code::ArgumentUnknown, Span::NONE, message).hint(hint));
    }
}
