//! `weir.yaml`: what a server does besides answering. Unknown keys are errors; every key can come from the
//! environment as well ([`env`]). A configuration is read and judged as a whole, at the start and whenever it
//! changes ([`watch`]); one that is wrong changes nothing.

mod access;
pub(crate) mod alerts;
mod env;
mod keys;
mod make;
#[cfg(test)]
mod tests;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;
use weir_cluster::service::{AlertsSpec, SinkSpec};
use weir_pxl::ViewIndex;

use crate::failure::Failure;
use crate::text_file;
use env::{Lookup, Overlay, without_values};
use keys::Config;

/// A configuration is smaller.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Each holds what a reader may.
const SINKS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;

/// What sinks and receivers are called.
fn judge_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(fits) {
        let text = "a name consists of up to 64 letters, digits, `_`, `-` and `.`";
        return Err(text.to_string());
    }
    Ok(())
}

/// A file's text, which may not be longer than this.
pub(crate) fn bounded(path: &Path, bytes_max: u64) -> Result<String, String> {
    let text = text_file::read(path, bytes_max);
    let text = text.map_err(|error| format!("could not read {}: {error}", path.display()))?;
    text.ok_or_else(|| format!("{} is longer than {bytes_max} bytes", path.display()))
}

/// The file's text, and the folder from which its relative paths begin.
fn read(path: &Path) -> Result<(String, PathBuf), String> {
    let text = bounded(path, CONFIG_BYTES_MAX)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let base = folder.unwrap_or(Path::new(".")).canonicalize();
    let base = base.map_err(|error| format!("could not read {}: {error}", path.display()))?;
    Ok((text, base))
}

/// A configuration as it is typed, and as it was written.
struct Parsed {
    config: Config,
    json: Json,
    /// Values of the environment: no message may repeat them.
    used: Vec<String>,
}

fn parse(text: &str, names: Vec<String>, lookup: Lookup<'_>) -> Result<Parsed, String> {
    let is_empty = text.trim().is_empty();
    let mut json: Json = match is_empty {
        true => Json::Null,
        false => serde_saphyr::from_str(text).map_err(|error| error.to_string())?,
    };
    let schema = keys::schema();
    let mut overlay = Overlay::new(&schema, names, lookup);
    overlay.put(&mut json)?;
    let used = overlay.used;
    let config = if used.is_empty() && !is_empty {
        // With the line of what is wrong.
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?
    } else {
        let config = Config::deserialize(&json);
        config.map_err(|error| without_values(&error.to_string(), &used))?
    };
    Ok(Parsed { config, json, used })
}

/// Where a sink begins, as far as a search tells.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let begins = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        let rest = line.strip_prefix(name)?.trim_start_matches(['"', '\'']);
        rest.trim_start().starts_with(':').then_some(())
    };
    let from = text.lines().position(|line| line.trim_start().starts_with("sinks"))?;
    let at = text.lines().skip(from + 1).position(|line| begins(line).is_some())?;
    Some(from + at + 2)
}

/// What a configuration asks for.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) sinks: Vec<SinkSpec>,
    pub(crate) alerts: AlertsSpec,
    /// Of rule files, from which folder.
    pub(crate) patterns: Patterns,
    /// How all these files looked before they were read.
    pub(crate) seen: watch::AllSeen,
}

/// Why a configuration is wrong.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) why: String,
    /// The rule files that it names, right or wrong, and how they and the configuration looked before they were read:
    /// when one of them is mended, that is noticed. `None`: it could not be read so far.
    pub(crate) named: Option<Box<(Patterns, watch::AllSeen)>>,
}

/// Rule files as they are named, and the folder from which on.
pub(crate) type Patterns = (PathBuf, Vec<String>);

/// Reads and judges a configuration. Nothing is opened or started.
pub(crate) fn load(path: &Path) -> Result<Loaded, Wrong> {
    load_with(path, names(), &|name| std::env::var_os(name))
}

/// What the environment has for us.
fn names() -> Vec<String> {
    std::env::vars_os()
        // One that is no text names nothing, which is said.
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("WEIR_"))
        .collect()
}

fn load_with(path: &Path, names: Vec<String>, lookup: Lookup<'_>) -> Result<Loaded, Wrong> {
    let before = watch::look(path, &(PathBuf::new(), Vec::new()));
    let (text, base) = read(path).map_err(|why| Wrong { why, named: None })?;
    let parsed = parse(&text, names, lookup).map_err(|why| {
        let why = format!("{}: {why}", path.display());
        Wrong { why, named: None }
    })?;
    let patterns = (base.clone(), parsed.config.rules.clone());
    let seen = watch::look(path, &patterns).with_config_of(before);
    match judged(path, &text, &base, parsed) {
        Ok((sinks, alerts)) => Ok(Loaded { sinks, alerts, patterns, seen }),
        Err(why) => Err(Wrong { why, named: Some(Box::new((patterns, seen))) }),
    }
}

fn judged(
    path: &Path,
    text: &str,
    base: &Path,
    parsed: Parsed,
) -> Result<(Vec<SinkSpec>, AlertsSpec), String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let Parsed { config, json, used } = parsed;
    if config.sinks.len() > SINKS_MAX {
        return Err(wrong(format!("a server may have {SINKS_MAX} sinks")));
    }
    let alerts = alerts::spec(&config, &json, base);
    let alerts = alerts.map_err(|why| wrong(without_values(&why, &used)))?;
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let mut specs = Vec::new();
    let views = ViewIndex::new(Arc::clone(&alerts.views));
    for (name, sink) in config.sinks {
        let at = |why: &str| {
            let line = line_of(text, &name).map_or(String::new(), |line| format!("{line}:"));
            let why = without_values(why, &used);
            format!("{}:{line} sinks.{name}: {why}", path.display())
        };
        judge_name(&name).map_err(|why| at(&why))?;
        if name.starts_with('.') {
            // It has a folder of that name.
            return Err(at("a sink's name does not begin with `.`"));
        }
        if let Some(place) = make::place_of(&sink, base)
            && let Some(other) = taken.insert(place, name.clone())
        {
            return Err(at(&format!("`{other}` writes to this place already")));
        }
        let written = json["sinks"][&name].clone();
        specs.push(make::spec(&name, sink, &written, base, &views).map_err(|why| at(&why))?);
    }
    Ok((specs, alerts))
}

/// `weir config check FILE…`
pub(crate) fn check(paths: &[PathBuf]) -> Result<(), Failure> {
    let mut wrong = 0;
    for path in paths {
        match load(path) {
            Ok(_) => crate::output::line(&format!("{}: ok", path.display()))?,
            Err(Wrong { why, .. }) => {
                Failure::No(why).print(None);
                wrong += 1;
            }
        }
    }
    if wrong > 0 {
        return Err(Failure::No(format!("{wrong} of {} configurations are wrong", paths.len())));
    }
    Ok(())
}

/// `weir config schema`
pub(crate) fn schema() -> Result<(), Failure> {
    crate::output::line(&format!("{:#}", keys::schema()))
}
