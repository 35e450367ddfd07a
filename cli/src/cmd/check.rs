//! `weir check`: compile every script under the given paths, without a server.

use std::path::{Path, PathBuf};

use serde_json::json;
use weir_pxl::{CompileOptions, Script};
use weir_types::Severity;

use crate::args::{CheckArgs, Format};
use crate::failure::Failure;
use crate::{output, script};

/// Folders below a path are searched this deep.
const DEPTH_MAX: usize = 16;

fn find_scripts(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.is_file() {
        found.push(path.to_path_buf());
        return Ok(());
    }
    found.extend(script::pxl_files_in(path)?);
    if depth == 0 {
        return Ok(());
    }
    let mut folders: Vec<PathBuf> = std::fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect();
    folders.sort();
    folders.iter().try_for_each(|folder| find_scripts(folder, depth - 1, found))
}

pub(crate) fn run(args: CheckArgs) -> Result<(), Failure> {
    let format = output::format_or_default(args.output);
    let given: Vec<(String, String)> = args
        .args
        .iter()
        .map(|pair| {
            pair.split_once('=')
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .ok_or_else(|| Failure::Usage(format!("`--arg {pair}`: write NAME=VALUE")))
        })
        .collect::<Result<_, _>>()?;
    let mut paths = Vec::new();
    for path in &args.paths {
        if !path.is_file() && !path.is_dir() {
            return Err(Failure::Usage(format!("there is nothing at {}", path.display())));
        }
        find_scripts(path, DEPTH_MAX, &mut paths)?;
    }
    if paths.is_empty() {
        return Err(Failure::Usage("no .pxl file under the given paths".to_string()));
    }
    let mut failed = 0;
    for path in &paths {
        if !check_one(path, &given, format)? {
            failed += 1;
        }
    }
    output::note(&format!("{} scripts checked, {failed} with errors", paths.len()));
    if failed > 0 { Err(Failure::No(String::new())) } else { Ok(()) }
}

fn check_one(path: &Path, given: &[(String, String)], format: Format) -> Result<bool, Failure> {
    let file = script::read_script(path)?;
    let name = path.display().to_string();
    let source = Script { name: &name, text: &file.text, vis: file.vis.as_deref() };
    let options =
        CompileOptions { args: given.to_vec(), placeholders: true, ..CompileOptions::default() };
    let compiled = weir_pxl::compile(&source, &options);
    let diagnostics = match &compiled {
        Ok(compiled) => compiled.warnings.clone(),
        Err(diagnostics) => diagnostics.clone(),
    };
    let ok = compiled.is_ok() && diagnostics.iter().all(|d| d.severity != Severity::Error);
    if format == Format::Table {
        output::print_diagnostics(&diagnostics, &file.text);
        output::line(&format!("{} {name}", if ok { "ok  " } else { "FAIL" }))?;
    } else {
        output::line(&json!({"path": name, "ok": ok, "diagnostics": diagnostics}).to_string())?;
    }
    Ok(ok)
}
