//! Keys from the environment: `WEIR_` and the path in capitals, every other character a `_`
//! (`WEIR_SINKS_LET_OUT_URL`). A value is used as it is, byte for byte, and stands in no message. Which keys
//! there are, the schema says. What begins as a section does and names no key, or names two, is an error.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value as Json};

const PREFIX: &str = "WEIR_";
/// Keys are not nested deeper.
const DEPTH_MAX: usize = 8;
/// So many names are looked through for one that was meant, and so many are said.
const KNOWN_MAX: usize = 20_000;
const NEAR_MAX: usize = 3;

/// Where variables come from.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<std::ffi::OsString>;

/// One after the other they lead to a key. Items come in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    Item(usize),
}

/// A key that a variable may mean.
struct Meant<'a> {
    path: Vec<Step>,
    schema: &'a Json,
    /// Of a map whose keys are free, and which has none of that name.
    is_new: bool,
}

/// Where a search is: what of the name is left, if anything is.
#[derive(Clone, Copy)]
struct At<'a, 'b> {
    schema: &'a Json,
    config: &'b Json,
    left: Option<&'b str>,
}

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

/// Whether a key could be called so that no file has.
fn is_part(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty() && !name.starts_with('_') && name.chars().all(fits)
}

/// What is left behind this part, if the name goes on with it.
fn behind<'b>(left: Option<&'b str>, part: &str) -> Option<Option<&'b str>> {
    let rest = left?.strip_prefix(part)?;
    if rest.is_empty() { Some(None) } else { rest.strip_prefix('_').map(Some) }
}

/// `sinks.let-out.inputs[0].text`
fn shown(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Item(idx) => text.extend(["[", &idx.to_string(), "]"]),
        }
    }
    text
}

/// Puts a value there, and what leads to it.
fn set(config: &mut Json, path: &[Step], value: Json) -> Result<(), String> {
    let mut at = config;
    for (depth, step) in path.iter().enumerate() {
        let is_no = |what: &str| format!("`{}` is no {what}", shown(&path[..depth]));
        at = match step {
            Step::Key(key) => {
                if at.is_null() {
                    *at = Json::Object(Map::new());
                }
                let members = at.as_object_mut().ok_or_else(|| is_no("map"))?;
                members.entry(key.clone()).or_insert(Json::Null)
            }
            Step::Item(idx) => {
                if at.is_null() {
                    *at = Json::Array(Vec::new());
                }
                let items = at.as_array_mut().ok_or_else(|| is_no("list"))?;
                let len = items.len();
                if *idx == len {
                    items.push(Json::Null);
                }
                let list = || shown(&path[..depth]);
                items.get_mut(*idx).ok_or_else(|| {
                    format!("there is no item {idx} of `{}`: the next one is {len}", list())
                })?
            }
        };
    }
    *at = value;
    Ok(())
}

impl<'a> Overlay<'a> {
    pub(super) fn new(root: &'a Json, mut names: Vec<String>, lookup: Lookup<'a>) -> Overlay<'a> {
        names.sort();
        Overlay { root, names, lookup, used: Vec::new() }
    }

    /// Puts what the environment says over what the file says.
    ///
    /// # Errors
    /// A variable names no key, or two; a value is not of its key's type, or no text.
    pub(super) fn put(&mut self, config: &mut Json) -> Result<(), String> {
        if config.is_null() {
            *config = Json::Object(Map::new());
        }
        if !config.is_object() {
            // That it is no configuration is said where it is read.
            return Ok(());
        }
        self.add_sinks(config)?;
        let mut all = Vec::new();
        for name in self.names.iter().filter(|name| self.is_ours(name)) {
            all.push((self.the_one(config, name)?, name.clone()));
        }
        // Items one after the other.
        all.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
        for (meant, name) in all {
            let Some(value) = (self.lookup)(&name) else { continue };
            let value = self.leaf(meant.schema, &name, value)?;
            set(config, &meant.path, value).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(())
    }

    /// Whether it begins as a section does. Others are of the command line.
    fn is_ours(&self, name: &str) -> bool {
        let left = name.strip_prefix(PREFIX);
        let sections = self.root["properties"].as_object();
        sections
            .into_iter()
            .flat_map(Map::keys)
            .any(|section| behind(left, &part(section)).is_some())
    }

    /// Sinks that only the environment names, by their type.
    fn add_sinks(&self, config: &mut Json) -> Result<(), String> {
        let mut found: Vec<&String> = self.names.iter().collect();
        found.sort_by_key(|name| name.len());
        for name in found {
            let sink = name.strip_prefix("WEIR_SINKS_").and_then(|it| it.strip_suffix("_TYPE"));
            let Some(sink) = sink.filter(|sink| is_part(sink)) else { continue };
            // Else it is a key of a sink, such as the type of its buffer.
            if self.meant(config, name).is_empty() {
                let path = ["sinks".to_string(), sink.to_ascii_lowercase()].map(Step::Key);
                let new = Json::Object(Map::new());
                set(config, &path, new).map_err(|why| format!("{name}: {why}"))?;
            }
        }
        Ok(())
    }

    fn resolved(&self, schema: &'a Json) -> &'a Json {
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

    fn is_leaf(&self, schema: &'a Json) -> bool {
        let schema = self.resolved(schema);
        let has = |what: &str| schema[what].is_object();
        !has("properties") && !has("additionalProperties") && !has("items")
    }

    /// The key that a variable means.
    fn the_one(&self, config: &Json, name: &str) -> Result<Meant<'a>, String> {
        let mut meant = self.meant(config, name);
        if meant.len() > 1 {
            let paths = meant.iter().map(|it| format!("`{}`", shown(&it.path)));
            let paths = paths.collect::<Vec<_>>().join(" and ");
            return Err(format!("{name} could be {paths}: write it into the file, or rename one"));
        }
        meant.pop().ok_or_else(|| self.unknown(config, name))
    }

    /// The keys that a variable may mean: those that are known, else those that maps with free keys could have.
    fn meant(&self, config: &Json, name: &str) -> Vec<Meant<'a>> {
        let mut found = Vec::new();
        let at = At { schema: self.root, config, left: name.strip_prefix(PREFIX) };
        self.search(at, &mut Vec::new(), &mut found);
        if found.iter().any(|meant| !meant.is_new) {
            found.retain(|meant| !meant.is_new);
        }
        found
    }

    fn search(&self, at: At<'a, '_>, path: &mut Vec<Step>, found: &mut Vec<Meant<'a>>) {
        let schema = self.resolved(at.schema);
        if path.len() > DEPTH_MAX {
            return;
        }
        if let Some(properties) = schema["properties"].as_object() {
            for (key, below) in properties {
                self.search_key(At { schema: below, ..at }, key, path, found);
            }
        } else if schema["additionalProperties"].is_object() {
            let below = At { schema: &schema["additionalProperties"], ..at };
            for key in at.config.as_object().into_iter().flat_map(Map::keys) {
                self.search_key(below, key, path, found);
            }
            let Some(key) = at.left.filter(|left| is_part(left)) else { return };
            if self.is_leaf(below.schema) {
                let mut key = key.to_ascii_lowercase();
                if path.last() == Some(&Step::Key("headers".to_string())) {
                    // No header that anybody takes has another.
                    key = key.replace('_', "-");
                }
                path.push(Step::Key(key));
                let schema = self.resolved(below.schema);
                found.push(Meant { path: path.clone(), schema, is_new: true });
                path.pop();
            }
        } else if schema["items"].is_object() {
            let number = at.left.and_then(|left| left.split('_').next()).unwrap_or_default();
            let idx = number.parse().ok().filter(|idx: &usize| idx.to_string() == number);
            let left = behind(at.left, number);
            if let (Some(idx), Some(left)) = (idx, left) {
                let config = at.config.get(idx).unwrap_or(&Json::Null);
                path.push(Step::Item(idx));
                self.search(At { schema: &schema["items"], config, left }, path, found);
                path.pop();
            }
        } else if at.left.is_none() {
            found.push(Meant { path: path.clone(), schema, is_new: false });
        }
    }

    /// `at`: the schema of the key, and where it would be.
    fn search_key(
        &self,
        at: At<'a, '_>,
        key: &str,
        path: &mut Vec<Step>,
        found: &mut Vec<Meant<'a>>,
    ) {
        if let Some(left) = behind(at.left, &part(key)) {
            path.push(Step::Key(key.to_string()));
            self.search(At { config: &at.config[key], left, ..at }, path, found);
            path.pop();
        }
    }

    fn unknown(&self, config: &Json, name: &str) -> String {
        let mut known = Vec::new();
        let root = At { schema: self.root, config, left: None };
        self.known(root, PREFIX.trim_end_matches('_'), 0, &mut known);
        let near = near(name, &known);
        let near = if near.is_empty() {
            "`weir config schema` prints all keys".to_string()
        } else {
            format!("near it: {}", near.join(", "))
        };
        let sinks = config["sinks"].as_object();
        let has_sink = |left: &str| {
            let mut sinks = sinks.into_iter().flat_map(Map::keys);
            sinks.any(|sink| behind(Some(left), &part(sink)).is_some())
        };
        let left = name.strip_prefix("WEIR_SINKS_");
        let sink = match left.is_some_and(|left| !has_sink(left)) {
            true => "; a sink that no file has needs WEIR_SINKS_NAME_TYPE",
            false => "",
        };
        format!("{name} in the environment is no key; {near}{sink}")
    }

    /// Variables of all keys that there are, and of one more item of each list.
    fn known(&self, at: At<'a, '_>, name: &str, depth: usize, known: &mut Vec<String>) {
        if depth > DEPTH_MAX || known.len() >= KNOWN_MAX {
            return;
        }
        let schema = self.resolved(at.schema);
        let mut below = |schema: &'a Json, config: &Json, key: &str| {
            let at = At { schema, config, left: None };
            self.known(at, &format!("{name}_{}", part(key)), depth + 1, known);
        };
        if let Some(properties) = schema["properties"].as_object() {
            properties.iter().for_each(|(key, schema)| below(schema, &at.config[key], key));
        } else if schema["additionalProperties"].is_object() {
            let members = at.config.as_object().into_iter().flatten();
            members.for_each(|(key, config)| below(&schema["additionalProperties"], config, key));
        } else if schema["items"].is_object() {
            let items = at.config.as_array().into_iter().flatten().chain([&Json::Null]);
            items.enumerate().for_each(|(idx, config)| {
                below(&schema["items"], config, &idx.to_string());
            });
        } else {
            known.push(name.to_string());
        }
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

/// Names that may have been meant: with parts more or less, or with a few letters other.
fn near<'b>(name: &str, known: &'b [String]) -> Vec<&'b str> {
    let has_parts = |all: &str, of: &str| {
        let mut all = all.split('_');
        of.split('_').all(|part| all.any(|it| it == part))
    };
    let (mut found, mut others): (Vec<&str>, Vec<&str>) = known
        .iter()
        .map(String::as_str)
        .partition(|known| has_parts(known, name) || has_parts(name, known));
    found.truncate(NEAR_MAX);
    while found.len() < NEAR_MAX
        && let Some(one) = weir_pxl::suggest(name, &others)
    {
        others.retain(|it| *it != one);
        found.push(one);
    }
    found
}

/// A message without what the environment said.
pub(super) fn without_values(message: &str, used: &[String]) -> String {
    let used = used.iter().filter(|value| value.len() > 2).cloned().collect();
    weir_sinks::secrets::hidden(message, &weir_sinks::secrets::with_forms(used)).into_owned()
}
