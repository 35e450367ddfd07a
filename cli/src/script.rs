//! From SCRIPT and what follows `--` to a request: bundle name, file, folder or standard input.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use weir_cluster::planner::{Allowance, ScriptRequest};
use weir_pxl::{Script, bundle};
use weir_types::text::without_bom;

use crate::args::ScriptArgs;
use crate::failure::Failure;

/// A script on disk: its text and the vis.json beside it.
#[derive(Debug)]
pub(crate) struct ScriptFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) vis: Option<String>,
}

/// A script's text, as far as it is at hand, to show where a finding is.
#[derive(Debug, Default)]
pub(crate) struct Source {
    name: String,
    text: String,
    vis: Option<String>,
}

impl Source {
    pub(crate) fn script(&self) -> Script<'_> {
        Script { name: &self.name, text: &self.text, vis: self.vis.as_deref() }
    }
}

/// The text that came with the request, or the bundle's.
pub(crate) fn source_of(request: &ScriptRequest) -> Source {
    let name = request.script.clone().unwrap_or_default();
    if let Some(text) = &request.text {
        return Source { name, text: text.clone(), vis: request.vis.clone() };
    }
    let found = bundle::find(&name);
    Source {
        name,
        text: found.map_or_else(String::new, |found| found.pxl.to_string()),
        vis: found.and_then(|found| found.vis).map(str::to_string),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read {}", path.display()))?;
    Ok(without_bom(&text).to_string())
}

/// The vis.json of a script: in the same folder. A `viz.json` counts as one.
fn vis_beside(pxl: &Path) -> anyhow::Result<Option<String>> {
    let folder = pxl.parent().unwrap_or(Path::new("."));
    for name in ["vis.json", "viz.json"] {
        let path = folder.join(name);
        if path.is_file() {
            return read(&path).map(Some);
        }
    }
    Ok(None)
}

/// Reads a `.pxl` file, or the one in a folder.
pub(crate) fn read_script(path: &Path) -> anyhow::Result<ScriptFile> {
    let pxl = if path.is_dir() { only_pxl_in(path)? } else { path.to_path_buf() };
    // A lone file runs its module body unless it is the only script of its folder.
    let vis = if path.is_dir() || only_pxl_in(pxl.parent().unwrap_or(path)).is_ok_and(|p| p == pxl)
    {
        vis_beside(&pxl)?
    } else {
        None
    };
    Ok(ScriptFile { text: read(&pxl)?, vis, path: pxl })
}

pub(crate) fn pxl_files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("could not read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "pxl"))
        .collect();
    found.sort();
    Ok(found)
}

fn only_pxl_in(folder: &Path) -> anyhow::Result<PathBuf> {
    match pxl_files_in(folder)?.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("{} has no .pxl file", folder.display()),
        _ => bail!("{} has more than one .pxl file: name one", folder.display()),
    }
}

/// `--name value` and `--name=value` pairs.
fn parse_args(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut args = BTreeMap::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--") else {
            return Err(Failure::Usage(format!("`{word}`: script arguments are --name value")));
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, value.to_string()),
            None => {
                let value = words
                    .next()
                    .ok_or_else(|| Failure::Usage(format!("`--{name}` has no value")))?;
                (name, value.clone())
            }
        };
        args.insert(name.to_string(), value);
    }
    Ok(args)
}

/// What to ask for.
pub(crate) fn request(args: &ScriptArgs) -> Result<ScriptRequest, Failure> {
    let mut request = ScriptRequest {
        func: args.func.clone(),
        args: parse_args(&args.script_args)?,
        ..ScriptRequest::default()
    };
    let path = Path::new(&args.script);
    if args.script == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::No(format!("could not read standard input: {error}")))?;
        request.text = Some(without_bom(&text).to_string());
        request.script = Some("<stdin>".to_string());
    } else if path.is_file() || path.is_dir() {
        let file = read_script(path)?;
        request.script = Some(file.path.display().to_string());
        request.text = Some(file.text);
        request.vis = file.vis;
    } else {
        request.script = Some(args.script.clone());
    }
    Ok(request)
}

/// What is asked for, as it is sent: without what is not said, and what only a server may say.
pub(crate) fn body(request: &ScriptRequest) -> Json {
    let ScriptRequest { script, text, vis, func, args, refresh_ms, stale_ok, accept_cost, .. } =
        request;
    let mut body = json!({"args": args});
    if !request.with_views.is_empty() {
        body["with_views"] = json!(request.with_views);
    }
    for (key, value) in [
        ("script", json!(script)),
        ("text", json!(text)),
        ("vis", json!(vis)),
        ("func", json!(func)),
        ("refresh_ms", json!(refresh_ms)),
        ("at_unix_ns", json!(request.at_unix_ns)),
    ] {
        if !value.is_null() {
            body[key] = value;
        }
    }
    if *accept_cost {
        body["accept_cost"] = json!(true);
    }
    if *stale_ok {
        body["stale_ok"] = json!(true);
    }
    body
}

/// What one compile may take.
pub(crate) fn allowance() -> Allowance {
    Allowance { deadline: Some(compile_deadline()), ..Allowance::default() }
}

/// Until when a script has to be compiled.
pub(crate) fn compile_deadline() -> weir_pxl::Deadline {
    let clock = std::sync::Arc::new(weir_types::WallClock);
    weir_pxl::Deadline::after(clock, weir_pxl::limits::COMPILE_TIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways to give a value, and what is wrong with others.
    #[test]
    fn arguments() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let args = parse_args(&words("--pod ns/x --n=5 --empty=")).unwrap();
        assert_eq!(args.get("pod").map(String::as_str), Some("ns/x"));
        assert_eq!(args.get("n").map(String::as_str), Some("5"));
        assert_eq!(args.get("empty").map(String::as_str), Some(""));
        assert!(matches!(parse_args(&words("pod x")), Err(Failure::Usage(_))));
        assert!(matches!(parse_args(&words("--pod")), Err(Failure::Usage(_))));
    }
}
