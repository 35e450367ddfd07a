//! `weir rules check FILE…` and `weir rules test FILE…`: no server needed. They end and print as promtool does:
//! verdicts on stdout, reasons on stderr, 1 if one file is wrong.

pub(crate) mod past;
mod run;

use std::path::{Path, PathBuf};

use weir_cluster::judge::{Judge, recorded};
use weir_rules::check::Report;
use weir_rules::file::RuleFile;
use weir_rules::unit;
use weir_rules::yaml::FILE_BYTES_MAX;

use crate::args::RulesTestArgs;
use crate::client::Connection;
use crate::config::alerts::files;
use crate::config::bounded;
use crate::failure::Failure;
use crate::{output, script};

fn read(path: &Path) -> Result<String, String> {
    bounded(path, FILE_BYTES_MAX as u64)
}

/// `weir rules check FILE…`: a view that one of the files records may be read in all.
pub(crate) fn check(paths: &[PathBuf]) -> Result<(), Failure> {
    let texts: Vec<(String, Result<String, String>)> =
        paths.iter().map(|path| (path.display().to_string(), read(path))).collect();
    let views = recorded(texts.iter().filter_map(|(_, text)| text.as_deref().ok()));
    let (mut wrong, mut judge) = (false, Judge::new(views, &script::allowance));
    for (name, text) in &texts {
        output::text(&format!("Checking {name}"))?;
        let report = match text {
            Ok(text) => judge.file(name, text).0,
            Err(why) => Report { problems: vec![format!("{name}: {why}")], ..Report::default() },
        };
        for warning in &report.warnings {
            output::note(&format!("  warning: {warning}"));
        }
        if report.problems.is_empty() {
            output::text(&format!("  SUCCESS: {} rules found", report.rules))?;
        } else {
            wrong = true;
            failed(&report.problems);
        }
        output::line("")?;
    }
    if wrong { Err(Failure::No(String::new())) } else { Ok(()) }
}

fn failed(problems: &[String]) {
    output::note("  FAILED:");
    for problem in problems {
        output::note(problem);
    }
}

/// `weir rules test FILE…`
pub(crate) fn test(connection: &Connection, args: &RulesTestArgs) -> Result<(), Failure> {
    if args.last.is_some() || !args.pcap.is_empty() {
        return past::run(connection, args);
    }
    if args.output.is_some() {
        return Err(Failure::Usage("-o is for --pcap and --last".to_string()));
    }
    let (paths, mut wrong) = (&args.files, false);
    for path in paths {
        output::text(&format!("Unit Testing:  {}", path.display()))?;
        let failures = match read_tests(path) {
            Ok((tests, rules)) => run::run(path, &tests, &rules),
            Err(problems) => problems,
        };
        if failures.is_empty() {
            output::line("  SUCCESS")?;
        } else {
            wrong = true;
            failed(&failures);
        }
        output::line("")?;
    }
    if wrong { Err(Failure::No(String::new())) } else { Ok(()) }
}

type Loaded = (unit::TestFile, Vec<(String, RuleFile)>);

/// A test file and the rule files that it names, from its own folder.
fn read_tests(path: &Path) -> Result<Loaded, Vec<String>> {
    let name = path.display().to_string();
    let text = read(path).map_err(|why| vec![why])?;
    let tests = unit::parse(&text).map_err(|problems| {
        let shown = problems.iter().map(|problem| {
            let place = problem.place;
            format!("{name}:{}:{}: {}", place.line, place.column, problem.message)
        });
        shown.collect::<Vec<_>>()
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut paths, mut texts, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for pattern in &tests.rule_files {
        match files(folder, std::slice::from_ref(pattern)) {
            Ok(found) if found.is_empty() => {
                problems.push(format!("{name}: no file matches the pattern {pattern:?}"));
            }
            Ok(found) => paths.extend(found),
            Err(why) => problems.push(format!("{name}: {why}")),
        }
    }
    for path in paths {
        match read(&path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(why) => problems.push(why),
        }
    }
    let views = recorded(texts.iter().map(|(_, text)| text.as_str()));
    let (mut rules, mut judge) = (Vec::new(), Judge::new(views, &script::allowance));
    for (name, text) in texts {
        let (report, _) = judge.file(&name, &text);
        problems.extend(report.problems);
        rules.push((name, report.file));
    }
    if problems.is_empty() { Ok((tests, rules)) } else { Err(problems) }
}
