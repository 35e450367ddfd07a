//! Values, as `helm` takes them for the chart: files and `--set`, over the chart's own, judged by the chart's schema.
//! What they do to the objects is `fit`'s.

pub(super) mod fit;
mod schema;
mod set;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::args::{DeployArgs, Preset};
use crate::config::bounded;
use crate::failure::Failure;

const CHART: &str = include_str!("../../../../deploy/chart/weir/values.yaml");
const SCHEMA: &str = include_str!("../../../../deploy/chart/weir/values.schema.json");
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The version that the chart says the image has.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const IMAGE: &str = "weir";

/// All values, those of the chart included: right by its schema.
#[derive(Debug)]
pub(super) struct Values(Json);

/// One after another: files, then `--set`, then `--set-string`; what comes later wins.
pub(super) fn of(args: &DeployArgs) -> Result<Values, Failure> {
    let mut given = Json::Object(Map::new());
    for path in &args.values {
        merge(&mut given, file(path)?);
    }
    for (texts, is_typed) in [(&args.set, true), (&args.set_string, false)] {
        for text in texts {
            let flag = if is_typed { "--set" } else { "--set-string" };
            set::into(&mut given, text, is_typed)
                .map_err(|why| Failure::Usage(format!("{flag} {text:?}: {why}")))?;
        }
    }
    if let Some(preset) = args.preset {
        let name = name_of(preset);
        if given.get("preset").is_some_and(|given| given != name) {
            let why = format!("--preset is {name}, and the values say {}", given["preset"]);
            return Err(Failure::Usage(why));
        }
        given["preset"] = name.into();
    }
    let mut values = chart()?;
    merge(&mut values, given);
    without_nulls(&mut values);
    let problems = schema::problems(&schema()?, &values);
    match problems.is_empty() {
        true => Ok(Values(values)),
        false => Err(Failure::Usage(format!(
            "the values do not fit the chart's schema:\n  {}",
            problems.join("\n  ")
        ))),
    }
}

fn file(path: &Path) -> Result<Json, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let text = bounded(path, FILE_BYTES_MAX).map_err(Failure::Usage)?;
    if text.trim().is_empty() {
        return Ok(Json::Object(Map::new()));
    }
    let read: Json = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match read {
        Json::Object(_) => Ok(read),
        // A file of comments.
        Json::Null => Ok(Json::Object(Map::new())),
        _ => Err(wrong("values are a mapping".to_string())),
    }
}

fn own(why: impl std::fmt::Display) -> Failure {
    Failure::No(format!("the chart in this binary is wrong: {why}"))
}

fn chart() -> Result<Json, Failure> {
    serde_saphyr::from_str(CHART).map_err(own)
}

fn schema() -> Result<Json, Failure> {
    serde_json::from_str(SCHEMA).map_err(own)
}

/// Mappings go into each other, at whatever depth; everything else takes the place of what was there.
fn merge(into: &mut Json, from: Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Json::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// A null takes away what the chart has.
fn without_nulls(json: &mut Json) {
    if let Json::Object(members) = json {
        members.retain(|_, value| !value.is_null());
        members.values_mut().for_each(without_nulls);
    }
}

fn name_of(preset: Preset) -> &'static str {
    match preset {
        Preset::S => "s",
        Preset::M => "m",
        Preset::L => "l",
    }
}

impl Values {
    /// By names with dots between; null if it is not there.
    pub(super) fn get(&self, path: &str) -> &Json {
        path.split('.').fold(&self.0, |at, name| &at[name])
    }

    pub(super) fn text(&self, path: &str) -> &str {
        self.get(path).as_str().unwrap_or_default()
    }

    pub(super) fn is(&self, path: &str) -> bool {
        self.get(path).as_bool().unwrap_or_default()
    }

    pub(super) fn preset(&self) -> Preset {
        match self.text("preset") {
            "s" => Preset::S,
            "l" => Preset::L,
            _ => Preset::M,
        }
    }

    /// What the preset has, with what the values say of it.
    pub(super) fn size(&self, path: &str) -> &Json {
        self.get(&format!("presets.{}.{path}", self.text("preset")))
    }

    pub(super) fn image(&self) -> String {
        let tag = Some(self.text("image.tag")).filter(|tag| !tag.is_empty());
        let name = Some(self.text("image.repository")).filter(|name| !name.is_empty());
        format!("{}:{}", name.unwrap_or(IMAGE), tag.unwrap_or(VERSION))
    }
}
