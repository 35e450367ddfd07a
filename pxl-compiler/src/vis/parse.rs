//! JSON text to [`Vis`], with findings that point at the offending value.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::places::{At, Places};
use super::specs::{self, WIDGET_KINDS};
use super::{ArgValue, FuncCall, GlobalFunc, Variable, VariableType, Vis, Widget};
use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span};
use crate::hint;
use crate::limits::{VIS_BYTES_MAX, VIS_ITEMS_MAX};
use crate::syntax::lines::LineIndex;

/// `None` only if the text is no JSON object at all.
pub(crate) fn parse_into(text: &str, findings: &Findings) -> Option<Vis> {
    if text.len() > VIS_BYTES_MAX {
        let message = format!("vis.json has {} bytes; the limit is {VIS_BYTES_MAX}", text.len());
        findings.push(Diag::error(Code::VisSyntax, Span::NONE, message));
        return None;
    }
    let json: Json = match serde_json::from_str(text) {
        Ok(json) => json,
        Err(error) => {
            let at = LineIndex::new(text).offset(error.line(), error.column());
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let span = Span { source: SourceId::Vis, start: at.saturating_sub(1), end: at };
            let message = format!("vis.json is not valid JSON: {error}");
            findings.push(Diag::error(Code::VisSyntax, span, message));
            return None;
        }
    };
    let places = Places::of(text);
    let top = places.root(&json);
    let mut reader = VisReader { findings, variables: HashMap::new(), outputs: HashMap::new() };
    if !json.is_object() {
        reader.invalid(top.span(), "vis.json must be an object".to_string(), "");
        return None;
    }
    if !["variables", "globalFuncs", "widgets"].iter().all(|key| reader.fits(top, key)) {
        return None;
    }
    let variables: Vec<Variable> =
        reader.list(top, "variables").filter_map(|at| reader.variable(at)).collect();
    reader.variables = reader.once(top, "variables", "name", "variable");
    let global_funcs: Vec<GlobalFunc> =
        reader.list(top, "globalFuncs").filter_map(|at| reader.global(at)).collect();
    reader.outputs = reader.once(top, "globalFuncs", "outputName", "global func");
    let widgets = reader.list(top, "widgets").filter_map(|at| reader.widget(at)).collect();
    Some(Vis { variables, global_funcs, widgets })
}

struct VisReader<'a> {
    findings: &'a Findings,
    /// Names that are declared.
    variables: HashMap<String, Span>,
    outputs: HashMap<String, Span>,
}

impl VisReader<'_> {
    fn invalid(&self, span: Span, message: String, hint: &str) {
        self.findings.push(Diag::error(Code::VisInvalid, span, message).hint(hint));
    }

    fn list<'j>(&self, top: At<'j>, key: &str) -> impl Iterator<Item = At<'j>> + use<'j> {
        let found = top.get(key);
        if let Some(at) = found.filter(|at| !at.json.is_array()) {
            self.invalid(at.span(), format!("'{key}' must be a list"), "");
        }
        found.into_iter().flat_map(At::items)
    }

    /// Refuses lists of the file that are too long.
    fn fits(&self, top: At<'_>, key: &str) -> bool {
        let Some(at) = top.get(key) else { return true };
        let count = at.json.as_array().map_or(0, Vec::len);
        if count <= VIS_ITEMS_MAX {
            return true;
        }
        let message = format!("'{key}' has {count} entries; the limit is {VIS_ITEMS_MAX}");
        self.invalid(at.span(), message, "");
        false
    }

    /// The names in a list, each of which may stand there once.
    fn once(&self, top: At<'_>, list: &str, key: &str, what: &str) -> HashMap<String, Span> {
        let mut names = HashMap::new();
        for at in top.get(list).into_iter().flat_map(At::items).filter_map(|at| at.get(key)) {
            if names.insert(at.text().to_string(), at.span()).is_some() && !at.text().is_empty() {
                let message = format!("{what} '{}' is declared twice", at.text());
                self.invalid(at.span(), message, "");
            }
        }
        names
    }

    /// The text of a field that must be there.
    fn name<'j>(&self, at: At<'j>, key: &str, what: &str) -> Option<At<'j>> {
        let found = at.get(key).filter(|name| !name.text().is_empty());
        if found.is_none() {
            self.invalid(at.span(), format!("{what} needs a '{key}'"), "");
        }
        found
    }

    fn variable(&self, at: At<'_>) -> Option<Variable> {
        let name = self.name(at, "name", "a variable")?.text().to_string();
        let kind_at = at.get("type");
        let kind = match kind_at.map(|at| at.json) {
            Some(Json::String(kind)) => VariableType::by_name(kind),
            Some(Json::Number(number)) => number.as_u64().and_then(VariableType::by_number),
            _ => None,
        };
        let Some(kind) = kind else {
            let written =
                kind_at.map_or(String::new(), |at| plain_text(at.json).unwrap_or_default());
            let hint = hint::did_you_mean(&written, VariableType::names(), "use `PX_STRING`");
            let message = format!("variable '{name}' has the unknown type '{written}'");
            self.invalid(kind_at.unwrap_or(at).span(), message, &hint);
            return None;
        };
        let valid: Vec<String> =
            self.list(at, "validValues").filter_map(|at| plain_text(at.json)).collect();
        let default_at = at.get("defaultValue");
        let default = default_at.and_then(|at| plain_text(at.json));
        if let (Some(default_at), Some(default)) = (default_at, &default)
            && !default.is_empty()
            && !valid.is_empty()
            && !valid.contains(default)
        {
            let message = format!("'{default}' is not among the valid values of '{name}'");
            let hint = format!("valid are {}", valid.join(", "));
            self.invalid(default_at.span(), message, &hint);
        }
        let description = at.get("description").map_or("", At::text).to_string();
        Some(Variable { kind, description, default, valid_values: valid, name })
    }

    fn func(&self, at: At<'_>) -> Option<FuncCall> {
        let name_at = self.name(at, "name", "a func")?;
        let name = name_at.text().to_string();
        let mut args = Vec::new();
        let mut arg_spans = Vec::new();
        for arg in self.list(at, "args") {
            let Some(arg_name) = self.name(arg, "name", &format!("an argument of '{name}'")) else {
                continue;
            };
            let value = match (arg.get("variable"), arg.get("value")) {
                (Some(variable), Some(_)) => {
                    let message = "an argument has a variable or a value, not both".to_string();
                    self.invalid(variable.span(), message, "");
                    continue;
                }
                (Some(variable), None) => {
                    self.refers(variable, &self.variables, "variable", "variables");
                    plain_text(variable.json).map(ArgValue::Variable)
                }
                (None, Some(value)) => plain_text(value.json).map(ArgValue::Value),
                // proto3 JSON leaves out an empty string.
                (None, None) => Some(ArgValue::Value(String::new())),
            };
            let Some(value) = value else {
                let message = format!("argument '{}' of '{name}' must be a text", arg_name.text());
                self.invalid(arg.span(), message, "");
                continue;
            };
            arg_spans.push(arg.get("variable").or(arg.get("value")).unwrap_or(arg).span());
            args.push((arg_name.text().to_string(), value));
        }
        Some(FuncCall { name, args, span: name_at.span(), arg_spans })
    }

    /// A name that must be declared under `list`.
    fn refers(&self, at: At<'_>, known: &HashMap<String, Span>, what: &str, list: &str) {
        let name = at.text();
        if known.contains_key(name) {
            return;
        }
        let mut names: Vec<&str> = known.keys().map(String::as_str).collect();
        names.sort_unstable();
        let hint = hint::did_you_mean(name, names, &format!("declare it under `{list}`"));
        self.invalid(at.span(), format!("there is no {what} '{name}'"), &hint);
    }

    fn global(&self, at: At<'_>) -> Option<GlobalFunc> {
        let output = self.name(at, "outputName", "a global func")?.text().to_string();
        let Some(func) = at.get("func") else {
            self.invalid(at.span(), format!("global func '{output}' has no func"), "");
            return None;
        };
        Some(GlobalFunc { output, func: self.func(func)? })
    }

    fn widget(&self, at: At<'_>) -> Option<Widget> {
        if !at.json.is_object() {
            self.invalid(at.span(), "a widget must be an object".to_string(), "");
            return None;
        }
        self.position(at);
        let func = match at.get("func") {
            Some(func) => Some(self.func(func)?),
            None => None,
        };
        let output = at.get("globalFuncOutputName");
        if let Some(output) = output {
            self.refers(output, &self.outputs, "global func", "globalFuncs");
        }
        let spec = at.get("displaySpec");
        let mut widget = Widget {
            name: at.get("name").map_or("", At::text).to_string(),
            position: at.get("position").map_or(Json::Null, |at| at.json.clone()),
            func,
            global_output: output.and_then(|at| plain_text(at.json)),
            display_spec: spec.map_or(Json::Null, |at| at.json.clone()),
            columns: Vec::new(),
        };
        if let Some(spec) = spec {
            widget.columns = self.spec(spec, &widget);
        }
        let message = match (&widget.func, &widget.global_output) {
            (Some(_), Some(_)) => "a widget has a func or a globalFuncOutputName, not both",
            (None, None) if !specs::needs_no_rows(widget.kind()) => {
                "a widget needs a func or a globalFuncOutputName"
            }
            _ => return Some(widget),
        };
        self.invalid(at.span(), message.to_string(), "");
        Some(widget)
    }

    fn position(&self, at: At<'_>) {
        let Some(position) = at.get("position") else { return };
        for key in ["x", "y", "w", "h"] {
            if let Some(value) = position.get(key)
                && value.json.as_u64().is_none()
            {
                let message = format!("'{key}' of a position must be a whole number");
                self.invalid(value.span(), message, "");
            }
        }
    }

    fn spec(&self, spec: At<'_>, widget: &Widget) -> Vec<(String, Span)> {
        let kind = widget.kind();
        if !WIDGET_KINDS.contains(&kind) {
            let type_at = spec.get("@type").unwrap_or(spec);
            let hint = hint::did_you_mean(kind, WIDGET_KINDS, "for example Table");
            self.invalid(type_at.span(), format!("'{kind}' is not a kind of widget"), &hint);
            return Vec::new();
        }
        specs::check(spec, kind, self.findings)
    }
}

/// A string; numbers and booleans as they are written; `{"value": "x"}` is a wrapped string.
fn plain_text(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Object(wrapped) => wrapped.get("value").and_then(Json::as_str).map(str::to_string),
        _ => None,
    }
}
