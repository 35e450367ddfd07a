//! `weir.yaml`: what a server does besides answering. Unknown keys are errors; what is not supported yet
//! says so. Read once, at the start.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weir_cluster::planner::{self, Allowance, ScriptRequest};
use weir_cluster::service::SinkSpec;
use weir_sinks::console::ConsoleSink;
use weir_sinks::elements::{Elements, Encoding};
use weir_sinks::file::FileSink;
use weir_sinks::sink::Sink;

use crate::failure::Failure;

/// A configuration is smaller.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// No script is longer; what is read of one.
const SCRIPT_BYTES_MAX: u64 = planner::SCRIPT_BYTES_MAX as u64;
/// Each holds what a reader may.
const SINKS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    sinks: BTreeMap<String, SinkConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Console,
    File,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SinkConfig {
    #[serde(rename = "type")]
    kind: Kind,
    inputs: Vec<Input>,
    #[serde(default)]
    encoding: Encoding,
    path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    script: Option<String>,
    text: Option<String>,
    file: Option<PathBuf>,
    func: Option<String>,
    #[serde(default)]
    args: BTreeMap<String, Scalar>,
    table: Option<String>,
}

/// A script's arguments are texts, however YAML reads them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Scalar::Boolean(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
            Scalar::Text(value) => value.clone(),
        }
    }
}

/// A file's text, which may not be longer than this.
pub(crate) fn bounded(path: &Path, bytes_max: u64) -> Result<String, String> {
    let unreadable = |error| format!("could not read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > bytes_max {
        return Err(format!("{} is longer than {bytes_max} bytes", path.display()));
    }
    Ok(text)
}

/// The file's text, and the folder from which its relative paths begin.
fn read(path: &Path) -> Result<(String, PathBuf), Failure> {
    let unreadable =
        |error: std::io::Error| Failure::No(format!("could not read {}: {error}", path.display()));
    let text = bounded(path, CONFIG_BYTES_MAX).map_err(Failure::No)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let base = folder.unwrap_or(Path::new(".")).canonicalize().map_err(unreadable)?;
    Ok((text, base))
}

/// Reads and judges a configuration. Nothing is opened or started.
pub(crate) fn load(path: &Path) -> Result<Vec<SinkSpec>, Failure> {
    let (text, base) = read(path)?;
    let wrong = |why: String| Failure::No(format!("{}: {why}", path.display()));
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let config: Config = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if config.sinks.len() > SINKS_MAX {
        return Err(wrong(format!("a server may have {SINKS_MAX} sinks")));
    }
    let mut paths: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut specs = Vec::new();
    for (name, sink) in config.sinks {
        let at = |why: &str| wrong(format!("sinks.{name}: {why}"));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(fits) {
            return Err(at("a name consists of up to 64 letters, digits, `_`, `-` and `.`"));
        }
        if let Some(path) = &sink.path
            && let Some(other) = paths.insert(base.join(path), name.clone())
        {
            return Err(at(&format!("`{other}` writes to this path already")));
        }
        specs.push(spec(&name, sink, &base).map_err(|why| at(&why))?);
    }
    Ok(specs)
}

fn spec(name: &str, config: SinkConfig, base: &Path) -> Result<SinkSpec, String> {
    let SinkConfig { kind, inputs, encoding, path } = config;
    let inputs: [Input; 1] = inputs
        .try_into()
        .map_err(|_| "a sink has one input; several are not supported yet".to_string())?;
    let [Input { script, text, file, func, args, table }] = inputs;
    let text = match (&script, text, file) {
        (Some(_), None, None) => None,
        (None, Some(text), None) => Some(text),
        (None, None, Some(file)) => Some(bounded(&base.join(file), SCRIPT_BYTES_MAX)?),
        _ => return Err("an input is one of `script`, `text` and `file`".to_string()),
    };
    let args = args.iter().map(|(name, value)| (name.clone(), value.text())).collect();
    let input = ScriptRequest { script, text, func, args, ..ScriptRequest::default() };
    judge(&input, table.as_deref(), encoding)?;
    let (kind, sink): (&'static str, Box<dyn Sink>) = match (kind, path) {
        (Kind::Console, None) => {
            ("console", Box::new(ConsoleSink::new(std::io::stderr(), encoding)))
        }
        (Kind::Console, Some(_)) => return Err("a console has no `path`".to_string()),
        (Kind::File, Some(path)) => ("file", Box::new(FileSink::new(base, &path, encoding))),
        (Kind::File, None) => return Err("a file needs a `path`".to_string()),
    };
    Ok(SinkSpec { name: name.to_string(), kind, input, table, sink })
}

/// The script compiles, and shows what the sink is to take in the mode in which it is to.
fn judge(input: &ScriptRequest, table: Option<&str>, encoding: Encoding) -> Result<(), String> {
    let compiled = planner::compile(input, None, &Allowance::default());
    let (_, compiled) = compiled.map_err(|error| match error.diagnostics().first() {
        Some(first) => format!("{error}: {}:{}: {}", first.line, first.column, first.message),
        None => error.to_string(),
    })?;
    let outputs = planner::output_infos(&compiled);
    let output = planner::wanted_output(&outputs, table)?;
    Elements::new(encoding).describe(output).map_err(|error| error.to_string())
}

/// `weir config check FILE…`
pub(crate) fn check(paths: &[PathBuf]) -> Result<(), Failure> {
    let mut wrong = 0;
    for path in paths {
        match load(path) {
            Ok(_) => crate::output::line(&format!("{}: ok", path.display()))?,
            Err(error) => {
                error.print(None);
                wrong += 1;
            }
        }
    }
    if wrong > 0 {
        return Err(Failure::No(format!("{wrong} of {} configurations are wrong", paths.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(sink: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("weir.yaml");
        std::fs::write(&path, format!("sinks:\n  a: {{type: console, {sink}}}\n"))
            .expect("written");
        match load(&path) {
            Ok(_) => "ok".to_string(),
            Err(Failure::No(text)) => text,
            Err(_) => panic!("another kind of failure"),
        }
    }

    /// What a sink could never write is refused before anything runs, with the sink's name and what to do.
    /// Catches a configuration that is called right and whose sink fails at once.
    #[test]
    fn scripts_are_judged() {
        let cases = [
            ("inputs: [{script: px/service_stats, func: svc_let}], encoding: {mode: upsert}", "ok"),
            ("inputs: [{script: px/service_stat}]", "there is no script `px/service_stat`"),
            ("inputs: [{script: px/service_stats}]", "name one with `table:`"),
            ("inputs: [{script: px/service_stats, table: No}]", "not `No`"),
            ("inputs: [{text: 'import px; px.display(px.DataFrame(\"nope\"))'}]", "1:36: Table"),
            (
                "inputs: [{text: 'import px; px.display(px.DataFrame(\"http_events\"))'}], \
                 encoding: {mode: upsert}",
                "has no key",
            ),
        ];
        for (sink, wanted) in cases {
            let why = why(sink);
            assert!(why.contains(wanted), "{sink}: {why}");
            assert!(wanted == "ok" || why.contains("sinks.a: "), "{why}");
        }
    }
}
