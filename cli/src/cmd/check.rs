//! `weir check`: compile every script under the given paths, without a server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use weir_node::sources::{Sources, SourcesConfig};
use weir_pxl::{CompileOptions, Script};
use weir_types::source::CaptureFilters;
use weir_types::{Diagnostic, Severity};

use crate::args::{CheckArgs, Format};
use crate::failure::Failure;
use crate::{output, script};

/// Folders below a path are searched this deep.
pub(crate) const DEPTH_MAX: usize = 16;

/// All `.pxl` files under a path, or the file itself.
pub(crate) fn find_scripts(
    path: &Path,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
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
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        return Err(Failure::Usage("no .pxl file under the given paths".to_string()));
    }
    let mut check = Check { given, taken: BTreeSet::new(), sources: tables_with_source(), format };
    if format == Format::Csv {
        output::line("path,ok,code,severity,line,column,message,hint")?;
    }
    let mut failed = 0;
    for path in &paths {
        if !check.one(path)? {
            failed += 1;
        }
    }
    output::note(&format!("{} scripts checked, {failed} with errors", paths.len()));
    if let Some((name, _)) = check.given.iter().find(|(name, _)| !check.taken.contains(name)) {
        return Err(Failure::Usage(format!("`--arg {name}`: no script has such an argument")));
    }
    if failed > 0 { Err(Failure::No(String::new())) } else { Ok(()) }
}

/// Tables that the sources of this program fill, where they may run.
fn tables_with_source() -> Vec<String> {
    let config = SourcesConfig {
        asid: 0,
        hostname: String::new(),
        own_listener: None,
        own_bus: None,
        filters: CaptureFilters::default(),
        tls: true,
        retention: std::time::Duration::ZERO,
        test_faults: false,
        redactor: weir_sources::redact::Redactor::default(),
        kubernetes: None,
        own_rows: None,
    };
    let of_node = weir_node::loss_rows::TABLES.iter().map(ToString::to_string);
    let sources = Sources::new(config).all();
    sources.iter().flat_map(|source| source.tables()).chain(of_node).collect()
}

struct Check {
    given: Vec<(String, String)>,
    /// Arguments that some script has.
    taken: BTreeSet<String>,
    sources: Vec<String>,
    format: Format,
}

impl Check {
    /// True if the script has no error.
    fn one(&mut self, path: &Path) -> Result<bool, Failure> {
        let name = path.display().to_string();
        let file = match script::read_script(path) {
            Ok(file) => file,
            Err(error) => {
                let source = Script { name: &name, text: "", vis: None };
                return self.report(&source, &[unreadable(&name, &error)]);
            }
        };
        let source = Script { name: &name, text: &file.text, vis: file.vis.as_deref() };
        let options = CompileOptions {
            args: self.args_of(file.vis.as_deref()),
            placeholders: true,
            sources: Some(self.sources.clone()),
            deadline: Some(script::compile_deadline()),
            ..CompileOptions::default()
        };
        let diagnostics = match weir_pxl::compile(&source, &options) {
            Ok(compiled) => compiled.warnings,
            Err(diagnostics) => diagnostics,
        };
        self.report(&source, &diagnostics)
    }

    /// The given arguments that this script has: the others are for other scripts.
    fn args_of(&mut self, vis: Option<&str>) -> Vec<(String, String)> {
        let variables = vis.and_then(|vis| weir_pxl::vis::parse(vis).ok()).map(|vis| vis.variables);
        let variables = variables.unwrap_or_default();
        let has = |name: &str| variables.iter().any(|variable| variable.name == name);
        let mine: Vec<_> = self.given.iter().filter(|(name, _)| has(name)).cloned().collect();
        self.taken.extend(mine.iter().map(|(name, _)| name.clone()));
        mine
    }

    fn report(&self, source: &Script<'_>, diagnostics: &[Diagnostic]) -> Result<bool, Failure> {
        let ok = diagnostics.iter().all(|found| found.severity != Severity::Error);
        let name = source.name;
        match self.format {
            Format::Table => {
                output::print_diagnostics(diagnostics, source);
                output::text(&format!("{} {name}", if ok { "ok  " } else { "FAIL" }))?;
            }
            Format::Json | Format::Jsonl => {
                let found = json!({"path": name, "ok": ok, "diagnostics": diagnostics});
                output::line(&found.to_string())?;
            }
            Format::Csv => print_csv(name, ok, diagnostics)?,
        }
        Ok(ok)
    }
}

/// A record for each finding, or one for a script without any.
fn print_csv(path: &str, ok: bool, diagnostics: &[Diagnostic]) -> Result<(), Failure> {
    let record = |found: Option<&Diagnostic>| {
        let text = |of: fn(&Diagnostic) -> String| found.map(of).unwrap_or_default();
        weir_sinks::csv::record(&[
            path.to_string(),
            ok.to_string(),
            text(|found| found.code.clone()),
            text(|found| json!(found.severity).as_str().unwrap_or_default().to_string()),
            text(|found| found.line.to_string()),
            text(|found| found.column.to_string()),
            text(|found| found.message.clone()),
            text(|found| found.hint.clone()),
        ])
    };
    if diagnostics.is_empty() {
        return output::csv(&record(None));
    }
    diagnostics.iter().try_for_each(|found| output::csv(&record(Some(found))))
}

/// A file that cannot be read, or is no text, is a script with an error.
fn unreadable(name: &str, error: &anyhow::Error) -> Diagnostic {
    Diagnostic::of_file("unreadable", name, format!("{error:#}"))
}
