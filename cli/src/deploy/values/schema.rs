//! Judges values by JSON Schema: the words that the chart's schema has, and no others. A test holds that it has no
//! others. It is ours because it says what is wrong in helm's words (`at '/image/tag': got integer, want string`). The
//! crate `jsonschema` has others, so that each kind of its errors would need a text here, which is most of this; and it
//! brings 22 packages (0.61, without features).

use regex::Regex;
use serde_json::{Map, Value as Json};

/// What is told; of more there is no use.
const PROBLEMS_MAX: usize = 20;

/// What does not fit, with its place; nothing is success.
pub(super) fn problems(schema: &Json, value: &Json) -> Vec<String> {
    let mut judge = Judge { root: schema, found: Vec::new() };
    judge.value(schema, value, "");
    judge.found.truncate(PROBLEMS_MAX);
    judge.found
}

/// Words that are judged, and those that say nothing about values.
#[cfg(test)]
pub(super) const KNOWN: [&str; 20] = [
    "$ref",
    "$schema",
    "additionalProperties",
    "definitions",
    "enum",
    "items",
    "maximum",
    "maxProperties",
    "minimum",
    "minLength",
    "minProperties",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "properties",
    "required",
    "title",
    "type",
    "description",
];

struct Judge<'s> {
    root: &'s Json,
    found: Vec<String>,
}

impl Judge<'_> {
    fn wrong(&mut self, at: &str, why: impl std::fmt::Display) {
        let at = if at.is_empty() { "/" } else { at };
        self.found.push(format!("at '{at}': {why}"));
    }

    fn fits(&self, schema: &Json, value: &Json, at: &str) -> bool {
        let mut judge = Judge { root: self.root, found: Vec::new() };
        judge.value(schema, value, at);
        judge.found.is_empty()
    }

    /// As deep as the values are; what refers to itself is no deeper.
    fn value(&mut self, schema: &Json, value: &Json, at: &str) {
        let words = match schema {
            Json::Bool(true) => return,
            Json::Object(words) => words,
            _ => return self.wrong(at, "not allowed"),
        };
        if let Some(reference) = words.get("$ref").and_then(Json::as_str) {
            let pointer = reference.trim_start_matches('#');
            let root = self.root;
            match root.pointer(pointer) {
                Some(schema) => self.value(schema, value, at),
                None => self.wrong(at, format!("the schema has no {reference}")),
            }
        }
        if let Some(wanted) = words.get("type") {
            let wanted: Vec<&str> = match wanted {
                Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
                one => one.as_str().into_iter().collect(),
            };
            let got = type_of(value);
            if !wanted
                .iter()
                .any(|wanted| *wanted == got || (*wanted == "number" && got == "integer"))
            {
                return self.wrong(at, format!("got {got}, want {}", wanted.join(" or ")));
            }
        }
        if let Some(Json::Array(known)) = words.get("enum")
            && !known.contains(value)
        {
            let known: Vec<String> = known.iter().map(Json::to_string).collect();
            self.wrong(at, format!("value must be one of {}", known.join(", ")));
        }
        if words.get("not").is_some_and(|not| self.fits(not, value, at)) {
            self.wrong(at, format!("{value} is not allowed"));
        }
        if let Some(Json::Array(ways)) = words.get("oneOf") {
            let fitting = ways.iter().filter(|way| self.fits(way, value, at)).count();
            if fitting != 1 {
                self.wrong(at, "has to be exactly one of the forms that it may have");
            }
        }
        match value {
            Json::String(text) => self.text(words, text, at),
            Json::Number(_) => self.number(words, value, at),
            Json::Array(items) => {
                let Some(schema) = words.get("items") else { return };
                for (idx, item) in items.iter().enumerate() {
                    self.value(schema, item, &format!("{at}/{idx}"));
                }
            }
            Json::Object(members) => self.members(words, members, at),
            Json::Null | Json::Bool(_) => {}
        }
    }

    fn text(&mut self, words: &Map<String, Json>, text: &str, at: &str) {
        if let Some(pattern) = words.get("pattern").and_then(Json::as_str)
            && !matches(pattern, text)
        {
            self.wrong(at, format!("{text:?} does not match pattern '{pattern}'"));
        }
        let least = words.get("minLength").and_then(Json::as_u64).unwrap_or(0);
        if (text.chars().count() as u64) < least {
            self.wrong(at, format!("is shorter than {least}"));
        }
    }

    fn number(&mut self, words: &Map<String, Json>, value: &Json, at: &str) {
        let number = value.as_f64().unwrap_or(f64::NAN);
        let bound = |word: &str| words.get(word).and_then(Json::as_f64);
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            self.wrong(at, format!("{value} is less than {least}"));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            self.wrong(at, format!("{value} is more than {most}"));
        }
    }

    fn members(&mut self, words: &Map<String, Json>, members: &Map<String, Json>, at: &str) {
        for name in words.get("required").and_then(Json::as_array).into_iter().flatten() {
            if name.as_str().is_some_and(|name| !members.contains_key(name)) {
                self.wrong(at, format!("missing property {name}"));
            }
        }
        let count = |word: &str| words.get(word).and_then(Json::as_u64);
        if let Some(least) = count("minProperties").filter(|least| (members.len() as u64) < *least)
        {
            self.wrong(at, format!("needs at least {least} properties"));
        }
        if let Some(most) = count("maxProperties").filter(|most| members.len() as u64 > *most) {
            self.wrong(at, format!("may have at most {most} properties"));
        }
        for (name, value) in members {
            let below = format!("{at}/{name}");
            let known = words.get("properties").and_then(|known| known.get(name));
            let patterns = words.get("patternProperties").and_then(Json::as_object);
            let patterns = patterns.into_iter().flatten();
            let patterns: Vec<&Json> =
                patterns.filter(|(pattern, _)| matches(pattern, name)).map(|(_, it)| it).collect();
            if known.is_none() && patterns.is_empty() {
                match words.get("additionalProperties") {
                    Some(Json::Bool(false)) => {
                        self.wrong(at, format!("additional property '{name}' not allowed"));
                    }
                    Some(schema) => self.value(schema, value, &below),
                    None => {}
                }
            }
            for schema in known.into_iter().chain(patterns) {
                self.value(schema, value, &below);
            }
        }
    }
}

fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_f64() => "number",
        Json::Number(_) => "integer",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

/// Patterns are the chart's own.
fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}
