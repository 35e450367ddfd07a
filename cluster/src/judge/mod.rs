//! Rule files with a compiler at hand: which views they record, whether their expressions can be alerts, and rules that
//! are made of a script and a condition. It runs nothing.

mod condition;
#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_pxl::{NamedView, ViewIndex};
use weir_rules::check::{ExprProblem, Report, check};
use weir_rules::file::{Rule, RuleFile, reading};
use weir_rules::state::Columns;
use weir_rules::yaml::Problem;

use crate::planner::{self, Allowance, PlanError, ScriptRequest};
use crate::service::{ALERT_RULES_MAX, RECORDING_RULES_MAX, read_by};

pub use condition::{Condition, NoTable, rule_text, shown_by};

/// Who judges the files of one configuration, one after another.
pub struct Judge<'a> {
    /// What any of the expressions may read.
    views: ViewIndex,
    /// What one compile may take.
    allowance: &'a dyn Fn() -> Allowance,
    /// Names of views that were recorded, and whether they were recorded again.
    names: BTreeMap<String, bool>,
}

impl Judge<'_> {
    #[must_use]
    pub fn new(views: Arc<[NamedView]>, allowance: &dyn Fn() -> Allowance) -> Judge<'_> {
        Judge { views: ViewIndex::new(views), allowance, names: BTreeMap::new() }
    }

    /// What asks for a rule's expression.
    #[must_use]
    pub fn request_of(&self, rule: &Rule) -> ScriptRequest {
        let (text, views) = (Some(rule.expr.clone()), read_by(&self.views, &rule.expr));
        ScriptRequest { text, views, ..ScriptRequest::default() }
    }

    /// A file's verdict; and of each of its rules, if it is right, the columns, and how many seconds answers of its past
    /// are apart at least.
    pub fn file(&mut self, name: &str, text: &str) -> (Report, Vec<(Columns, i64)>) {
        let mut columns = Vec::new();
        let mut report =
            check(name, text, &mut |rule| self.with_pane(rule).map(|found| columns.push(found)));
        if report.problems.is_empty() {
            let found = self.at_odds(&report.file);
            report.add(name, found);
            let columns = columns.iter().map(|(columns, _): &(Columns, i64)| columns);
            let newer = |(rule, columns): (&Rule, &Columns)| {
                columns.names().filter_map(|name| rule.newer_name(name)).collect::<Vec<_>>()
            };
            let warnings: Vec<Problem> = report.file.rules().zip(columns).flat_map(newer).collect();
            warnings.iter().for_each(|found| report.warn(name, found));
        }
        (report, columns)
    }

    /// Recording rules of one name are one view, in whichever files they are, so their columns have to go together: said
    /// where the name comes again, once.
    fn at_odds(&mut self, file: &RuleFile) -> Vec<Problem> {
        let names = &mut self.names;
        let again = file.rules().filter(|rule| rule.is_record()).filter(|rule| {
            match names.entry(rule.name.clone()) {
                Entry::Vacant(name) => {
                    name.insert(false);
                    false
                }
                // All of the name are looked at together.
                Entry::Occupied(mut name) => !name.insert(true),
            }
        });
        let again: Vec<&Rule> = again.collect();
        let wrong = |rule: &Rule| {
            let all = Rule { expr: reading(&rule.name), ..rule.clone() };
            let found = self.expr(&all).err()?.into_iter().next()?;
            let view = &rule.name;
            let message = format!("the view `{view}` is recorded several times: {}", found.message);
            Some(Problem { place: rule.place, message })
        };
        again.into_iter().filter_map(wrong).collect()
    }

    /// The expression compiles and shows one table, whose columns can be an alert's. What an alert has nothing of a
    /// recorded view need not have either; but it may not have a table's name.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn expr(&self, rule: &Rule) -> Result<Columns, Vec<ExprProblem>> {
        self.with_pane(rule).map(|(columns, _)| columns)
    }

    /// The same, with how many seconds answers of its past are apart at least.
    fn with_pane(&self, rule: &Rule) -> Result<(Columns, i64), Vec<ExprProblem>> {
        let at_start = |message: String| vec![ExprProblem { line: 1, column: 1, message }];
        if rule.is_record() && weir_types::tables::find(&rule.name).is_some() {
            return Err(at_start(format!("{:?} is a table already", rule.name)));
        }
        let request = self.request_of(rule);
        let compiled = planner::compile(&request, None, &(self.allowance)());
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
                // What recording rules call their labels, they are called.
                let named = request.views.iter().flat_map(|view| view.labels.keys());
                let named = named.map(String::as_str).collect();
                let columns = Columns::with_labels(&output.relation, &named).map_err(at_start)?;
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
}

/// Whether one server may run what files have.
///
/// # Errors
/// They are too many: how many, and how many there may be.
pub fn runs<'a>(files: impl Iterator<Item = &'a RuleFile>) -> Result<(), String> {
    let (mut alerts, mut records) = (0, 0);
    for rule in files.flat_map(RuleFile::rules) {
        match rule.is_record() {
            true => records += 1,
            false => alerts += 1,
        }
    }
    let bounds = [("alert", alerts, ALERT_RULES_MAX), ("recording", records, RECORDING_RULES_MAX)];
    match bounds.into_iter().find(|(_, count, max)| count > max) {
        Some((what, count, max)) => {
            Err(format!("{count} {what} rules; a server runs at most {max}"))
        }
        None => Ok(()),
    }
}

/// What texts of rule files record; a text that is none records nothing.
pub fn recorded<'a>(texts: impl Iterator<Item = &'a str>) -> Arc<[NamedView]> {
    let files: Vec<RuleFile> =
        texts.filter_map(|text| weir_rules::file::parse(text).ok()).collect();
    views_of(files.iter())
}

/// What rule files record: views that any of their expressions may read. A rule that is there twice adds nothing.
pub fn views_of<'a>(files: impl Iterator<Item = &'a RuleFile>) -> Arc<[NamedView]> {
    let records = files.flat_map(RuleFile::rules).filter(|rule| rule.is_record());
    let view = |rule: &Rule| NamedView {
        name: rule.name.clone(),
        text: rule.expr.clone(),
        labels: rule.labels.iter().map(|it| (it.name.clone(), it.text.clone())).collect(),
    };
    let views: BTreeSet<NamedView> = records.map(view).collect();
    views.into_iter().collect()
}
