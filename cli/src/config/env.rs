//! Keys from the environment: `WEIR_` and the path in capitals, every other character a `_`
//! (`WEIR_SINKS_LET_OUT_URL`). A value is used as it is, byte for byte, and stands in no message. Which keys
//! there are, the schema says.

use serde_json::{Map, Value as Json};

const PREFIX: &str = "WEIR";
/// Keys are not nested deeper.
const DEPTH_MAX: usize = 8;

/// Where variables come from.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<std::ffi::OsString>;

pub(super) struct Overlay<'a> {
    root: &'a Json,
    /// All that begin with `WEIR_`.
    names: Vec<String>,
    lookup: Lookup<'a>,
    /// Values that were used: no message may repeat them.
    pub(super) used: Vec<String>,
}

fn part(key: &str) -> String {
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    key.chars().map(capital).collect()
}

impl<'a> Overlay<'a> {
    pub(super) fn new(root: &'a Json, names: Vec<String>, lookup: Lookup<'a>) -> Overlay<'a> {
        Overlay { root, names, lookup, used: Vec::new() }
    }

    /// Puts what the environment says over what the file says.
    ///
    /// # Errors
    /// A value is not of its key's type, or no text.
    pub(super) fn put(&mut self, config: &mut Json) -> Result<(), String> {
        if !config.is_object() {
            *config = Json::Object(Map::new());
        }
        self.add_sinks(config);
        self.walk(config, self.root, PREFIX, 0)
    }

    /// Sinks that only the environment names, by their type.
    fn add_sinks(&self, config: &mut Json) {
        let known: Vec<String> = config["sinks"]
            .as_object()
            .map(|sinks| sinks.keys().map(|name| part(name)).collect())
            .unwrap_or_default();
        let mut found: Vec<&str> = self
            .names
            .iter()
            .filter_map(|name| name.strip_prefix("WEIR_SINKS_")?.strip_suffix("_TYPE"))
            .collect();
        found.sort_by_key(|name| name.len());
        let mut new: Vec<&str> = Vec::new();
        for name in found {
            let is_buffer = |sink: &str| name.strip_prefix(sink) == Some("_BUFFER");
            let is_known = known.iter().any(|sink| sink == name || is_buffer(sink))
                || new.iter().any(|sink| is_buffer(sink));
            if !is_known {
                new.push(name);
            }
        }
        for name in new {
            config["sinks"][name.to_ascii_lowercase()] = Json::Object(Map::new());
        }
    }

    fn resolved<'b>(&'b self, schema: &'b Json) -> &'b Json {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return &self.root["$defs"][name];
        }
        let choice = schema["anyOf"].as_array().and_then(|all| all.first());
        match choice {
            Some(choice) if schema["anyOf"].as_array().is_some_and(|all| all.len() == 2) => {
                self.resolved(choice)
            }
            _ => schema,
        }
    }

    fn is_about(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|have| have.strip_prefix(name).is_some_and(|r| r.is_empty() || r.starts_with('_')))
    }

    fn walk(
        &mut self,
        at: &mut Json,
        schema: &Json,
        name: &str,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX || !self.is_about(name) {
            return Ok(());
        }
        let schema = self.resolved(schema).clone();
        if let Some(properties) = schema["properties"].as_object() {
            for (key, below) in properties {
                self.child(at, key, below, name, depth)?;
            }
        } else if schema["additionalProperties"].is_object() {
            let keys: Vec<String> =
                at.as_object().map(|have| have.keys().cloned().collect()).unwrap_or_default();
            for key in keys {
                self.child(at, &key, &schema["additionalProperties"], name, depth)?;
            }
        } else if schema["items"].is_object() {
            let len = at.as_array().map_or(0, Vec::len);
            for idx in 0..=len {
                let mut item = at.get(idx).cloned().unwrap_or(Json::Null);
                self.walk(&mut item, &schema["items"], &format!("{name}_{idx}"), depth + 1)?;
                if item.is_null() {
                    continue;
                }
                match at.as_array_mut() {
                    Some(items) if idx < items.len() => items[idx] = item,
                    Some(items) => items.push(item),
                    None => *at = Json::Array(vec![item]),
                }
            }
        } else if let Some(value) = (self.lookup)(name) {
            *at = self.leaf(&schema, name, value)?;
        }
        Ok(())
    }

    fn child(
        &mut self,
        at: &mut Json,
        key: &str,
        schema: &Json,
        name: &str,
        depth: usize,
    ) -> Result<(), String> {
        let mut below = at.get(key).cloned().unwrap_or(Json::Null);
        let before = below.clone();
        self.walk(&mut below, schema, &format!("{name}_{}", part(key)), depth + 1)?;
        if below != before {
            if !at.is_object() {
                *at = Json::Object(Map::new());
            }
            at[key] = below;
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        schema: &Json,
        name: &str,
        value: std::ffi::OsString,
    ) -> Result<Json, String> {
        let Ok(text) = value.into_string() else { return Err(format!("{name} is no UTF-8 text")) };
        let is = |wanted: &str| match &schema["type"] {
            Json::String(have) => have == wanted,
            Json::Array(all) => {
                all.iter().any(|have| have == wanted) && all.iter().all(|have| have != "string")
            }
            _ => false,
        };
        let json = if is("integer") || is("number") {
            text.trim().parse::<u64>().map_err(|_| format!("{name} is not a number"))?.into()
        } else if is("boolean") {
            text.trim().parse::<bool>().map_err(|_| format!("{name} is not true or false"))?.into()
        } else {
            Json::String(text.clone())
        };
        self.used.push(text);
        Ok(json)
    }
}

/// A message without what the environment said.
pub(super) fn without_values(message: &str, used: &[String]) -> String {
    let mut message = message.to_string();
    for value in used.iter().filter(|value| value.len() > 2) {
        message = message.replace(value.as_str(), "***");
    }
    message
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::config::keys;

    fn overlaid(config: Json, env: &[(&str, &str)]) -> Result<(Json, Vec<String>), String> {
        let env: BTreeMap<&str, &str> = env.iter().copied().collect();
        let names = env.keys().map(ToString::to_string).collect();
        let lookup = |name: &str| env.get(name).map(|value| std::ffi::OsString::from(*value));
        let schema = keys::schema();
        let mut overlay = Overlay::new(&schema, names, &lookup);
        let mut config = config;
        overlay.put(&mut config)?;
        Ok((config, overlay.used))
    }

    /// Every key can come from the environment, nested ones and new sinks too, and a value is what it is,
    /// byte for byte: nothing of it is read as YAML or a pattern. Catches a password that is cut at its `#`.
    #[test]
    fn values_are_taken_as_they_are() {
        let nasty = "$1 \": #\n {{x}} 'é";
        let file = json!({"sinks": {"let-out": {"type": "http", "inputs": [{"script": "a"}]}}});
        let (config, used) = overlaid(
            file,
            &[
                ("WEIR_SINKS_LET_OUT_URL", nasty),
                ("WEIR_SINKS_LET_OUT_AUTH_PASSWORD", nasty),
                ("WEIR_SINKS_LET_OUT_BATCH_MAX_ROWS", "7"),
                ("WEIR_SINKS_LET_OUT_BUFFER_TYPE", "disk"),
                ("WEIR_SINKS_LET_OUT_INPUTS_1_SCRIPT", "b"),
                ("WEIR_SINKS_SECOND_TYPE", "console"),
                ("WEIR_SINKS_SECOND_INPUTS_0_TEXT", "import px"),
                ("WEIR_SINKS_SECOND_BUFFER_TYPE", "memory"),
                ("WEIR_TOKEN", "of something else"),
            ],
        )
        .unwrap();
        assert_eq!(
            config,
            json!({"sinks": {
                "let-out": {
                    "type": "http",
                    "inputs": [{"script": "a"}, {"script": "b"}],
                    "url": nasty,
                    "auth": {"password": nasty},
                    "batch": {"max_rows": 7},
                    "buffer": {"type": "disk"},
                },
                "second": {
                    "type": "console",
                    "inputs": [{"text": "import px"}],
                    "buffer": {"type": "memory"},
                },
            }})
        );
        let said = without_values(&format!("cannot use {nasty} there"), &used);
        assert_eq!(said, "cannot use *** there");
        let wrong =
            overlaid(json!({"sinks": {"a": {}}}), &[("WEIR_SINKS_A_BATCH_MAX_ROWS", "seven")]);
        assert_eq!(wrong.unwrap_err(), "WEIR_SINKS_A_BATCH_MAX_ROWS is not a number");
    }
}
