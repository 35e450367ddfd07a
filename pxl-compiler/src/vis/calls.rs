//! From a vis.json and the user's arguments to the list of function calls.

use super::{ArgValue, FuncCall, Variable, Vis};
use crate::codes::Code;
use crate::diag::{Diag, Findings, Span};
use crate::hint;
use crate::objects::exec::ExecCall;

pub(crate) struct CallOptions<'a> {
    pub(crate) args: &'a [(String, String)],
    /// Only this function (or this output).
    pub(crate) func: Option<&'a str>,
    /// Fill required arguments with a placeholder of their type.
    pub(crate) placeholders: bool,
}

/// The calls that a vis.json asks for; findings where arguments do not fit.
pub(crate) fn plan_calls(
    vis: &Vis,
    options: &CallOptions<'_>,
    findings: &Findings,
) -> Vec<ExecCall> {
    check_given(vis, options, findings);
    let mut calls: Vec<(ExecCall, &FuncCall)> = Vec::new();
    for global in &vis.global_funcs {
        let shown = |(_, widget): &(usize, &super::Widget)| {
            widget.func.is_none() && widget.global_output.as_ref() == Some(&global.output)
        };
        let widgets = vis.widgets.iter().enumerate().filter(shown).map(|(at, _)| at).collect();
        calls.push((new_call(global.output.clone(), widgets, &global.func), &global.func));
    }
    for (at, widget) in vis.widgets.iter().enumerate() {
        let Some(func) = &widget.func else { continue };
        let output =
            if widget.name.is_empty() { format!("widget_{at}") } else { widget.name.clone() };
        calls.push((new_call(output, vec![at], func), func));
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
        for ((name, value), span) in func.args.iter().zip(&func.arg_spans) {
            if let Some(text) = resolve(value, vis, options, findings) {
                call.args.push((name.clone(), text));
                call.arg_spans.push(*span);
            }
        }
        planned.push(call);
    }
    planned
}

fn new_call(output: String, widgets: Vec<usize>, func: &FuncCall) -> ExecCall {
    let span = Some(func.span);
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

/// Arguments from outside: the script has them, and they are valid.
fn check_given(vis: &Vis, options: &CallOptions<'_>, findings: &Findings) {
    for (name, text) in options.args {
        let Some(variable) = vis.variables.iter().find(|variable| variable.name == *name) else {
            let known: Vec<&str> = vis.variables.iter().map(|each| each.name.as_str()).collect();
            let all = match known.is_empty() {
                true => "the script takes no arguments".to_string(),
                false => format!("the script's arguments are {}", known.join(", ")),
            };
            let hint = hint::did_you_mean(name, known, &all);
            let message = format!("the script has no argument '{name}'");
            findings.push(Diag::error(Code::ArgumentUnknown, Span::NONE, message).hint(hint));
            continue;
        };
        let valid = &variable.valid_values;
        if !valid.is_empty() && !valid.contains(text) {
            let message = format!("'{text}' is not a valid value of argument '{name}'");
            let all = format!("valid are {}", valid.join(", "));
            let hint = hint::did_you_mean(text, valid.iter().map(String::as_str), &all);
            findings.push(Diag::error(Code::ArgumentValue, Span::NONE, message).hint(hint));
        }
    }
}
