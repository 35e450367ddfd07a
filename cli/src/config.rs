//! `weir.yaml`: what a server does besides answering. Unknown keys are errors; what is not supported yet
//! says so. Read once, at the start.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weir_cluster::planner::ScriptRequest;
use weir_cluster::service::SinkSpec;
use weir_sinks::console::ConsoleSink;
use weir_sinks::elements::Encoding;
use weir_sinks::file::FileSink;
use weir_sinks::sink::Sink;

use crate::failure::Failure;

/// A configuration is smaller.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
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

/// The file's text, and the folder from which its relative paths begin.
fn read(path: &Path) -> Result<(String, PathBuf), Failure> {
    let unreadable =
        |error: std::io::Error| Failure::No(format!("could not read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        let text = format!("{} is longer than {CONFIG_BYTES_MAX} bytes", path.display());
        return Err(Failure::No(text));
    }
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
        (None, None, Some(file)) => {
            let path = base.join(file);
            let text = std::fs::read_to_string(&path);
            Some(text.map_err(|error| format!("could not read {}: {error}", path.display()))?)
        }
        _ => return Err("an input is one of `script`, `text` and `file`".to_string()),
    };
    let args = args.iter().map(|(name, value)| (name.clone(), value.text())).collect();
    let input = ScriptRequest { script, text, func, args, ..ScriptRequest::default() };
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
