//! JSON text to [`Vis`], with findings that point at the offending word.

use serde_json::{Map, Value as Json};

use super::{ArgValue, FuncCall, GlobalFunc, Variable, VariableType, Vis, WIDGET_KINDS, Widget};
use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span};
use crate::hint;
use crate::limits::VIS_BYTES_MAX;
use crate::syntax::lines::LineIndex;

/// `None` only if the text is no JSON object at all.
pub(crate) fn parse_into(text: &str, findings: &Findings) -> Option<Vis> {
    let reader = Reader { text, findings };
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
    let Json::Object(top) = json else {
        reader.invalid("", "vis.json must be an object".to_string(), "");
        return None;
    };
    let vis = Vis {
        variables: reader.list(&top, "variables").filter_map(|v| reader.variable(v)).collect(),
        global_funcs: reader.list(&top, "globalFuncs").filter_map(|v| reader.global(v)).collect(),
        widgets: reader.list(&top, "widgets").filter_map(|v| reader.widget(v)).collect(),
    };
    reader.check(&vis);
    Some(vis)
}

struct Reader<'a> {
    text: &'a str,
    findings: &'a Findings,
}

impl Reader<'_> {
    /// A finding at the first place where `word` stands as a JSON string.
    fn invalid(&self, word: &str, message: String, hint: &str) {
        let quoted = format!("\"{word}\"");
        let span = match self.text.find(&quoted) {
            Some(at) if !word.is_empty() => Span {
                source: SourceId::Vis,
                start: u32::try_from(at).unwrap_or(0),
                end: u32::try_from(at + quoted.len()).unwrap_or(0),
            },
            _ => Span { source: SourceId::Vis, start: 0, end: 0 },
        };
        self.findings.push(Diag::error(Code::VisInvalid, span, message).hint(hint));
    }

    fn list<'j>(&self, top: &'j Map<String, Json>, key: &str) -> impl Iterator<Item = &'j Json> {
        let found = top.get(key);
        if found.is_some_and(|found| !found.is_array() && !found.is_null()) {
            self.invalid(key, format!("'{key}' must be a list"), "");
        }
        found.and_then(Json::as_array).into_iter().flatten()
    }

    fn variable(&self, json: &Json) -> Option<Variable> {
        let name = text_of(json, "name");
        if name.is_empty() {
            self.invalid("variables", "a variable needs a name".to_string(), "");
            return None;
        }
        let kind = match json.get("type") {
            Some(Json::String(kind)) => VariableType::by_name(kind),
            Some(Json::Number(number)) => number.as_u64().and_then(VariableType::by_number),
            _ => None,
        };
        let Some(kind) = kind else {
            let written = text_of(json, "type");
            let hint = hint::did_you_mean(&written, VariableType::names(), "use `PX_STRING`");
            let word = if written.is_empty() { &name } else { &written };
            let message = format!("variable '{name}' has the unknown type '{written}'");
            self.invalid(word, message, &hint);
            return None;
        };
        let valid = json.get("validValues").and_then(Json::as_array).into_iter().flatten();
        Some(Variable {
            kind,
            description: text_of(json, "description"),
            default: json.get("defaultValue").and_then(plain_text),
            valid_values: valid.filter_map(plain_text).collect(),
            name,
        })
    }

    fn func(&self, json: &Json) -> Option<FuncCall> {
        let name = text_of(json, "name");
        if name.is_empty() {
            self.invalid("func", "a func needs a name".to_string(), "");
            return None;
        }
        let mut args = Vec::new();
        for arg in json.get("args").and_then(Json::as_array).into_iter().flatten() {
            let arg_name = text_of(arg, "name");
            let value = match (arg.get("variable"), arg.get("value")) {
                (Some(variable), _) => plain_text(variable).map(ArgValue::Variable),
                (None, Some(value)) => plain_text(value).map(ArgValue::Value),
                // proto3 JSON leaves out an empty string.
                (None, None) => Some(ArgValue::Value(String::new())),
            };
            match value {
                Some(value) if !arg_name.is_empty() => args.push((arg_name, value)),
                _ => {
                    let message = format!("an argument of '{name}' needs a name and a value");
                    self.invalid(&name, message, "");
                }
            }
        }
        Some(FuncCall { name, args })
    }

    fn global(&self, json: &Json) -> Option<GlobalFunc> {
        let output = text_of(json, "outputName");
        if output.is_empty() {
            self.invalid("globalFuncs", "a global func needs an outputName".to_string(), "");
            return None;
        }
        let Some(func) = json.get("func") else {
            self.invalid(&output, format!("global func '{output}' has no func"), "");
            return None;
        };
        Some(GlobalFunc { output, func: self.func(func)? })
    }

    fn widget(&self, json: &Json) -> Option<Widget> {
        if !json.is_object() {
            self.invalid("widgets", "a widget must be an object".to_string(), "");
            return None;
        }
        let func = match json.get("func") {
            Some(func) => Some(self.func(func)?),
            None => None,
        };
        let widget = Widget {
            name: text_of(json, "name"),
            position: json.get("position").cloned().unwrap_or(Json::Null),
            func,
            global_output: json.get("globalFuncOutputName").and_then(plain_text),
            display_spec: json.get("displaySpec").cloned().unwrap_or(Json::Null),
        };
        let kind = widget.kind();
        if !kind.is_empty() && !WIDGET_KINDS.contains(&kind) {
            let hint = hint::did_you_mean(kind, WIDGET_KINDS, "");
            let word = text_of(&widget.display_spec, "@type");
            self.invalid(&word, format!("'{kind}' is not a kind of widget"), &hint);
        }
        Some(widget)
    }

    fn check(&self, vis: &Vis) {
        for (at, variable) in vis.variables.iter().enumerate() {
            if vis.variables[..at].iter().any(|before| before.name == variable.name) {
                let message = format!("variable '{}' is declared twice", variable.name);
                self.invalid(&variable.name, message, "");
            }
            if let Some(default) = &variable.default
                && !default.is_empty()
                && !variable.valid_values.is_empty()
                && !variable.valid_values.contains(default)
            {
                let message =
                    format!("'{default}' is not among the valid values of '{}'", variable.name);
                self.invalid(default, message, "");
            }
        }
        let calls = vis.global_funcs.iter().map(|global| &global.func);
        for func in calls.chain(vis.widgets.iter().filter_map(|widget| widget.func.as_ref())) {
            for (_, value) in &func.args {
                let ArgValue::Variable(name) = value else { continue };
                if !vis.variables.iter().any(|variable| variable.name == *name) {
                    let known = vis.variables.iter().map(|variable| variable.name.as_str());
                    let hint = hint::did_you_mean(name, known, "declare it under `variables`");
                    self.invalid(name, format!("there is no variable '{name}'"), &hint);
                }
            }
        }
        for widget in &vis.widgets {
            if let Some(output) = &widget.global_output
                && !vis.global_funcs.iter().any(|global| global.output == *output)
            {
                let known = vis.global_funcs.iter().map(|global| global.output.as_str());
                let hint = hint::did_you_mean(output, known, "declare it under `globalFuncs`");
                self.invalid(output, format!("there is no global func '{output}'"), &hint);
            }
        }
    }
}

fn text_of(json: &Json, key: &str) -> String {
    json.get(key).and_then(Json::as_str).unwrap_or("").to_string()
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
