//! `weir rules check FILE…` and `weir rules test FILE…`: no server needed. They end and print as promtool does:
//! verdicts on stdout, reasons on stderr, 1 if one file is wrong.

pub(crate) mod past;
mod run;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_cluster::planner::{self, Allowance, PlanError, ScriptRequest};
use weir_pxl::NamedView;
use weir_rules::check::{ExprProblem, Report};
use weir_rules::file::{Rule, RuleFile, RuleKind};
use weir_rules::state::Columns;
use weir_rules::unit;
use weir_rules::yaml::FILE_BYTES_MAX;

use crate::args::RulesTestArgs;
use crate::client::Connection;
use crate::config::bounded;
use crate::failure::Failure;
use crate::{output, script};

fn read(path: &Path) -> Result<String, String> {
    bounded(path, FILE_BYTES_MAX as u64)
}

/// Names of recorded views, and whether they were recorded again.
pub(crate) type Recorded = BTreeMap<String, bool>;

/// `weir rules check FILE…`: a view that one of the files records may be read in all.
pub(crate) fn check(paths: &[PathBuf]) -> Result<(), Failure> {
    let texts: Vec<(String, Result<String, String>)> =
        paths.iter().map(|path| (path.display().to_string(), read(path))).collect();
    let views = recorded(texts.iter().filter_map(|(_, text)| text.as_deref().ok()));
    let (mut wrong, mut names) = (false, Recorded::new());
    for (name, text) in &texts {
        output::text(&format!("Checking {name}"))?;
        let report = match text {
            Ok(text) => judged(name, text, &views, &mut names).0,
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

/// Recording rules of one name are one view, in whichever files they are, so their columns have to be the same: said
/// where the name comes again, once. `names`: those that came before, and whether again.
fn at_odds(
    name: &str,
    file: &RuleFile,
    views: &Arc<[NamedView]>,
    names: &mut Recorded,
) -> Vec<String> {
    let rules = file.groups.iter().flat_map(|group| &group.rules);
    let records = rules.filter(|rule| matches!(rule.kind, RuleKind::Record));
    let again = records.filter(|rule| match names.entry(rule.name.clone()) {
        Entry::Vacant(name) => {
            name.insert(false);
            false
        }
        // All of the name are looked at together.
        Entry::Occupied(mut name) => !name.insert(true),
    });
    let wrong = |rule: &Rule| {
        let all = Rule { expr: reading(&rule.name), ..rule.clone() };
        let found = judge(&all, views).err()?.into_iter().next()?;
        let (place, view) = (rule.place, &rule.name);
        Some(format!(
            "{name}:{}:{}: the view `{view}` is recorded several times: {}",
            place.line, place.column, found.message
        ))
    };
    again.filter_map(wrong).collect()
}

/// The script that shows a recorded view as it is.
pub(crate) fn reading(view: &str) -> String {
    format!("import px\npx.display(px.DataFrame('{view}'), '{view}')\n")
}

/// What texts of rule files record; a text that is none records nothing.
pub(crate) fn recorded<'a>(texts: impl Iterator<Item = &'a str>) -> Arc<[NamedView]> {
    let files: Vec<RuleFile> =
        texts.filter_map(|text| weir_rules::file::parse(text).ok()).collect();
    views_of(files.iter())
}

/// A file's verdict; and of each of its rules, if it is right, the columns, and how many seconds answers of its past are
/// apart at least. `names`: views that are recorded in files before it.
pub(crate) fn judged(
    name: &str,
    text: &str,
    views: &Arc<[NamedView]>,
    names: &mut Recorded,
) -> (Report, Vec<(Columns, i64)>) {
    let mut columns = Vec::new();
    let mut report = weir_rules::check::check(name, text, &mut |rule| {
        with_pane(rule, views).map(|found| columns.push(found))
    });
    if report.problems.is_empty() {
        report.problems = at_odds(name, &report.file, views, names);
    }
    (report, columns)
}

fn failed(problems: &[String]) {
    output::note("  FAILED:");
    for problem in problems {
        output::note(problem);
    }
}

/// What rule files record: views that any of their expressions may read.
pub(crate) fn views_of<'a>(files: impl Iterator<Item = &'a RuleFile>) -> Arc<[NamedView]> {
    let rules = files.flat_map(|file| file.groups.iter().flat_map(|group| &group.rules));
    let records = rules.filter(|rule| matches!(rule.kind, RuleKind::Record));
    let view = |rule: &Rule| NamedView {
        name: rule.name.clone(),
        text: rule.expr.clone(),
        labels: rule.labels.iter().map(|it| (it.name.clone(), it.text.clone())).collect(),
    };
    records.map(view).collect()
}

fn request_of(rule: &Rule, views: &Arc<[NamedView]>) -> ScriptRequest {
    let text = Some(rule.expr.clone());
    ScriptRequest { text, views: Arc::clone(views), ..ScriptRequest::default() }
}

/// The expression compiles and shows one table, whose columns can be an alert's. What an alert has nothing of a
/// recorded view need not have either; but it may not have a table's name.
pub(crate) fn judge(rule: &Rule, views: &Arc<[NamedView]>) -> Result<Columns, Vec<ExprProblem>> {
    with_pane(rule, views).map(|(columns, _)| columns)
}

/// The same, with how many seconds answers of its past are apart at least.
fn with_pane(rule: &Rule, views: &Arc<[NamedView]>) -> Result<(Columns, i64), Vec<ExprProblem>> {
    let at_start = |message: String| vec![ExprProblem { line: 1, column: 1, message }];
    if matches!(rule.kind, RuleKind::Record) && weir_types::tables::find(&rule.name).is_some() {
        return Err(at_start(format!("{:?} is a table already", rule.name)));
    }
    let request = request_of(rule, views);
    let allowance =
        Allowance { deadline: Some(script::compile_deadline()), ..Allowance::default() };
    let compiled = planner::compile(&request, None, &allowance);
    let (_, compiled) = compiled.map_err(|error| match error {
        PlanError::Compile(diagnostics) => {
            let problem = |diagnostic: &weir_types::Diagnostic| ExprProblem {
                line: diagnostic.line as usize,
                column: diagnostic.column as usize,
                message: format!("could not compile expression: {}", diagnostic.message),
            };
            let errors = diagnostics
                .iter()
                .filter(|diagnostic| diagnostic.severity == weir_types::Severity::Error);
            errors.map(problem).collect()
        }
        other => at_start(other.to_string()),
    })?;
    let outputs = planner::output_infos(&compiled);
    match outputs.as_slice() {
        [output] => {
            let columns = Columns::of(&output.relation).map_err(at_start)?;
            Ok((columns, planner::pane_s_of(&compiled.plan)))
        }
        [] => Err(at_start("the expression displays no table".to_string())),
        several => {
            let names: Vec<&str> = several.iter().map(|output| output.table.as_str()).collect();
            let names = names.join("`, `");
            Err(at_start(format!("the expression displays `{names}`; a rule has one table")))
        }
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
            Ok((tests, rules)) => run::run(&tests, &rules),
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
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for file in &tests.rule_files {
        let path = folder.join(file);
        match read(&path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(why) => problems.push(why),
        }
    }
    let views = recorded(texts.iter().map(|(_, text)| text.as_str()));
    let (mut rules, mut names) = (Vec::new(), Recorded::new());
    for (name, text) in texts {
        let (report, _) = judged(&name, &text, &views, &mut names);
        problems.extend(report.problems);
        rules.push((name, report.file));
    }
    if problems.is_empty() { Ok((tests, rules)) } else { Err(problems) }
}
