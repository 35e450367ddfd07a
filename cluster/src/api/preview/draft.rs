//! A rule that is not there yet: the text of a rule file, or a script with a condition over its columns, judged as the
//! server would judge it. What is wrong with it has its line.

use std::collections::HashSet;
use std::sync::Arc;

use actix_web::http::StatusCode;
use weir_pxl::{NamedView, ViewIndex};
use weir_rules::labels::Labels;
use weir_rules::preview::settings;
use weir_rules::state::{AlertRule, Settings};
use weir_rules::yaml::Problem;
use weir_types::{Diagnostic, Severity};

use super::super::ApiError;
use crate::judge::{Condition, Judge, NoTable, recorded, rule_text, runs, shown_by};
use crate::planner::{Allowance, PlanError, ViewText};
use crate::service::{Service, read_by};

/// Alert rules of a draft: each is looked at many times.
const RULES_MAX: usize = 8;
/// What the rule of a script and a condition is called until it has a name.
const NAME: &str = "Draft";

pub(super) enum Draft {
    /// The text of a rule file.
    Rules(String),
    Script {
        text: String,
        when: String,
        hold: Option<String>,
    },
}

/// The alert rules of a draft, each with the views of the draft that it reads, and the text of the rule file that they
/// are.
pub(super) struct Judged {
    pub(super) rules: Vec<(AlertRule, Vec<ViewText>)>,
    pub(super) text: String,
}

/// What is wrong: findings, with the part of the draft that they are of as their file.
type Found = Vec<Diagnostic>;

pub(super) async fn judged(service: &Service, draft: Draft) -> Result<Judged, ApiError> {
    let own = service.views.all();
    let work = move |allowance: &Allowance| Ok(judge(draft, &own, allowance));
    let judged: Result<Judged, Found> = service.compiles.run(work).await?;
    judged.map_err(|diagnostics| {
        let first = diagnostics.first();
        let message = first.map_or_else(String::new, |first| first.message.clone());
        ApiError { diagnostics, ..ApiError::new(StatusCode::BAD_REQUEST, "wrong_rule", message) }
    })
}

pub(super) fn settings_of_draft() -> Settings {
    settings(Labels::default(), "")
}

fn judge(draft: Draft, own: &Arc<[NamedView]>, allowance: &Allowance) -> Result<Judged, Found> {
    match draft {
        Draft::Rules(text) => {
            let found = |problems: &[Problem], _| problems.iter().map(of_rules).collect();
            file(text, own, allowance, &found)
        }
        Draft::Script { text, when, hold } => {
            let shown = shown_by(&text, own, allowance).map_err(of_script)?;
            let condition = Condition {
                name: NAME,
                when: when.trim(),
                hold: hold.as_deref().map(str::trim).filter(|hold| !hold.is_empty()),
                keep_firing: None,
                labels: &[],
                annotations: &[],
            };
            file(rule_text(&condition, &text, &shown), own, allowance, &of_condition)
        }
    }
}

/// Judges the text of a rule file. `told`: how its problems are told, and whether they are of its expressions.
fn file(
    text: String,
    own: &Arc<[NamedView]>,
    allowance: &Allowance,
    told: &dyn Fn(&[Problem], bool) -> Found,
) -> Result<Judged, Found> {
    let mine = ViewIndex::new(recorded(std::iter::once(text.as_str())));
    let names: HashSet<&str> = mine.views().iter().map(|view| view.name.as_str()).collect();
    let others = own.iter().filter(|view| !names.contains(view.name.as_str()));
    let views: Arc<[NamedView]> = mine.views().iter().chain(others).cloned().collect();
    // None of them is compiled if they are more than a server would run.
    if let Ok(written) = weir_rules::file::parse(&text)
        && let Err(why) = runs(std::iter::once(&written))
    {
        return Err(vec![Diagnostic::of_file("wrong_rule", "rules", why)]);
    }
    let allowances = || allowance.clone();
    let (report, columns) = Judge::new(views, &allowances).file("rules", &text);
    if !report.found.is_empty() {
        return Err(told(&report.found, !report.file.groups.is_empty()));
    }
    let all = report.file.groups.iter();
    let all = all.flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    let alerts = all.zip(columns).filter_map(|((group, rule), (columns, _))| {
        let alert = AlertRule::new("draft", group, rule, columns)?;
        let views = read_by(&mine, &rule.expr).iter().map(ViewText::from).collect();
        Some((alert, views))
    });
    let rules: Vec<(AlertRule, Vec<ViewText>)> = alerts.collect();
    match rules.len() {
        0 => Err(vec![Diagnostic::of_file(
            "wrong_rule",
            "rules",
            "there is no alert rule in it".into(),
        )]),
        1..=RULES_MAX => Ok(Judged { rules, text }),
        many => {
            let why = format!("{many} alert rules; {RULES_MAX} are told of at once");
            Err(vec![Diagnostic::of_file("wrong_rule", "rules", why)])
        }
    }
}

fn placed(file: &str, line: usize, column: usize, message: &str) -> Diagnostic {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Diagnostic {
        line: number(line),
        column: number(column),
        end_line: number(line),
        end_column: number(column),
        ..Diagnostic::of_file("wrong_rule", file, message.to_string())
    }
}

fn of_rules(problem: &Problem) -> Diagnostic {
    placed("rules", problem.place.line, problem.place.column, &problem.message)
}

/// The script is right by then: what is wrong with an expression is the condition, all else the duration.
fn of_condition(problems: &[Problem], is_expr: bool) -> Found {
    let file = if is_expr { "when" } else { "for" };
    let own = |message: &str| message.rsplit("\"Draft\": ").next().unwrap_or(message).to_string();
    problems.iter().map(|problem| placed(file, 1, 1, &own(&problem.message))).collect()
}

fn of_script(why: NoTable) -> Found {
    let text = why.to_string();
    match why {
        NoTable::Plan(PlanError::Compile(found)) => {
            let errors = found.into_iter().filter(|it| it.severity == Severity::Error);
            errors.map(|it| Diagnostic { file: "script".to_string(), ..it }).collect()
        }
        NoTable::Plan(_) | NoTable::Shows(_) => vec![placed("script", 1, 1, &text)],
    }
}
