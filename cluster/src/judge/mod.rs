//! Rule files with a compiler at hand: which views they record, whether their expressions can be alerts, and rules that
//! are made of a script and a condition. It runs nothing.

mod condition;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use weir_pxl::NamedView;
use weir_rules::check::{ExprProblem, Report, check};
use weir_rules::file::{Rule, RuleFile, RuleKind, reading};
use weir_rules::state::Columns;
use weir_rules::yaml::Problem;

use crate::planner::{self, Allowance, PlanError, ScriptRequest};

pub use condition::{Condition, NoTable, rule_text, shown_by};

/// Who judges the files of one configuration, one after another.
pub struct Judge<'a> {
    /// What any of the expressions may read.
    views: Arc<[NamedView]>,
    /// What one compile may take.
    allowance: &'a dyn Fn() -> Allowance,
    /// Names of views that were recorded, and whether they were recorded again.
    names: BTreeMap<String, bool>,
}

impl Judge<'_> {
    #[must_use]
    pub fn new(views: Arc<[NamedView]>, allowance: &dyn Fn() -> Allowance) -> Judge<'_> {
        Judge { views, allowance, names: BTreeMap::new() }
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
        }
        (report, columns)
    }

    /// Recording rules of one name are one view, in whichever files they are, so their columns have to be the same: said
    /// where the name comes again, once.
    fn at_odds(&mut self, file: &RuleFile) -> Vec<Problem> {
        let rules = file.groups.iter().flat_map(|group| &group.rules);
        let records = rules.filter(|rule| matches!(rule.kind, RuleKind::Record));
        let names = &mut self.names;
        let again = records.filter(|rule| match names.entry(rule.name.clone()) {
            Entry::Vacant(name) => {
                name.insert(false);
                false
            }
            // All of the name are looked at together.
            Entry::Occupied(mut name) => !name.insert(true),
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
        if matches!(rule.kind, RuleKind::Record) && weir_types::tables::find(&rule.name).is_some() {
            return Err(at_start(format!("{:?} is a table already", rule.name)));
        }
        let request = request_of(rule, &self.views);
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
}

/// What asks for a rule's expression.
#[must_use]
pub fn request_of(rule: &Rule, views: &Arc<[NamedView]>) -> ScriptRequest {
    let text = Some(rule.expr.clone());
    ScriptRequest { text, views: Arc::clone(views), ..ScriptRequest::default() }
}

/// What texts of rule files record; a text that is none records nothing.
pub fn recorded<'a>(texts: impl Iterator<Item = &'a str>) -> Arc<[NamedView]> {
    let files: Vec<RuleFile> =
        texts.filter_map(|text| weir_rules::file::parse(text).ok()).collect();
    views_of(files.iter())
}

/// What rule files record: views that any of their expressions may read.
pub fn views_of<'a>(files: impl Iterator<Item = &'a RuleFile>) -> Arc<[NamedView]> {
    let rules = files.flat_map(|file| file.groups.iter().flat_map(|group| &group.rules));
    let records = rules.filter(|rule| matches!(rule.kind, RuleKind::Record));
    let view = |rule: &Rule| NamedView {
        name: rule.name.clone(),
        text: rule.expr.clone(),
        labels: rule.labels.iter().map(|it| (it.name.clone(), it.text.clone())).collect(),
    };
    records.map(view).collect()
}
