//! `rules test`: promtool's test files, with rows as input, and the runner over whoever can answer an expression
//! at a time.
//!
//! A test begins at the Unix epoch, as promtool's do. Its `input_rows` are tables of rows as `weir run --rows`
//! takes them; `time_` may also be a duration since the beginning.

mod read;
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::duration::Millis;
use crate::file::{Group, Rule, RuleFile};
use crate::labels::{ALERT_NAME, Labels};
use crate::state::{AlertRule, Answer, Columns, Row, RuleId, RuleSet, Settings};
pub use read::parse;
pub use samples::{ExprCase, Sample};

/// Looks of a test at its rules: a day at every ten seconds.
const STEPS_MAX: u64 = 10_000;

#[derive(Clone, Debug, Default)]
pub struct TestFile {
    pub rule_files: Vec<String>,
    pub evaluation_interval: Millis,
    /// Values of samples may be the next ones that there are, as promtool's `fuzzy_compare`.
    pub fuzzy: bool,
    pub tests: Vec<Test>,
}

#[derive(Clone, Debug, Default)]
pub struct Test {
    pub name: String,
    pub external_labels: Labels,
    pub external_url: String,
    pub input: Input,
    pub alerts: Vec<AlertCase>,
    pub exprs: Vec<ExprCase>,
}

/// Table → rows.
pub type Input = BTreeMap<String, Vec<Map<String, Json>>>;

/// Which alerts of a name fire at a time.
#[derive(Clone, Debug)]
pub struct AlertCase {
    pub at: Millis,
    pub name: String,
    pub wanted: Vec<Expected>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
}

/// Who answers expressions: the command line has an engine that runs over rows.
pub trait Evaluate {
    /// Says once a test what its tables hold.
    fn begin(&mut self, input: &Input) -> Result<(), String>;
    /// What the expression's table looks like.
    fn columns(&mut self, rule: &Rule) -> Result<Columns, String>;
    /// All its rows at a time.
    fn rows(&mut self, rule: &Rule, columns: &Columns, at_unix_ns: i64)
    -> Result<Vec<Row>, String>;
}

/// Runs a file's tests over its rules; what did not hold, in promtool's form. Nothing is success. `path`: what the
/// file is called where a place in it is told.
pub fn run(
    path: &str,
    file: &TestFile,
    rules: &[(String, RuleFile)],
    evaluate: &mut dyn Evaluate,
) -> Vec<String> {
    let failures = file.tests.iter().flat_map(|test| {
        let name = if test.name.is_empty() {
            String::new()
        } else {
            format!("    name: {},\n", test.name)
        };
        let mut failures = match one(file, test, rules, evaluate) {
            Ok(failures) => failures,
            Err(why) => vec![format!("    {why}")],
        };
        let exprs = test.exprs.iter();
        failures.extend(
            exprs.filter_map(|case| samples::judge(path, case, file.fuzzy, rules, evaluate)),
        );
        failures.into_iter().map(move |failure| format!("{name}{failure}"))
    });
    failures.collect()
}

fn one(
    file: &TestFile,
    test: &Test,
    rules: &[(String, RuleFile)],
    evaluate: &mut dyn Evaluate,
) -> Result<Vec<String>, String> {
    evaluate.begin(&test.input)?;
    let mut set = RuleSet::default();
    let (sources, alert_rules) = alert_rules(rules, evaluate)?;
    let columns: Vec<Columns> = alert_rules.iter().map(|rule| rule.columns.clone()).collect();
    let settings = Settings {
        external_labels: test.external_labels.clone(),
        external_url: Arc::from(test.external_url.as_str()),
        ..Settings::default()
    };
    let ids: Vec<RuleId> = set.load(settings, alert_rules, 0);
    let mut cases: Vec<&AlertCase> = test.alerts.iter().collect();
    cases.sort_by_key(|case| case.at);
    let interval = file.evaluation_interval.millis().max(1);
    let last = cases.last().map_or(0, |case| case.at.millis());
    if last / interval > STEPS_MAX {
        return Err(format!("a test may look at its rules {STEPS_MAX} times"));
    }
    let mut failures = Vec::new();
    let mut cases = cases.into_iter().peekable();
    for step in 0..=last / interval {
        let at_unix_ns = Millis::new(step * interval).ns();
        for ((rule, columns), id) in sources.iter().zip(&columns).zip(&ids) {
            let rows = evaluate.rows(rule, columns, at_unix_ns)?;
            let changes: Vec<(i64, Row)> = rows.into_iter().map(|row| (1, row)).collect();
            let answer =
                Answer { at_unix_ns, snapshot: true, complete: true, young: false, why: "" };
            set.step(*id, &answer, &changes, at_unix_ns);
            if let Some(error) = set.machine(*id).and_then(|machine| machine.error()) {
                let at = Millis::new(step * interval);
                return Err(format!("rule {:?}, time: {at}: {error}", rule.name));
            }
        }
        // A time between two looks is judged by the earlier one.
        while let Some(case) = cases.next_if(|case| case.at.millis() < (step + 1) * interval) {
            failures.extend(compare(case, &set));
        }
    }
    Ok(failures)
}

/// Alerting rules of all files, as they are written and as they run.
fn alert_rules<'r>(
    files: &'r [(String, RuleFile)],
    evaluate: &mut dyn Evaluate,
) -> Result<(Vec<&'r Rule>, Vec<AlertRule>), String> {
    let all = files.iter().flat_map(|(name, file)| {
        file.groups
            .iter()
            .flat_map(move |group: &Group| group.rules.iter().map(move |rule| (name, group, rule)))
    });
    let mut found = (Vec::new(), Vec::new());
    for (name, group, rule) in all {
        let columns =
            evaluate.columns(rule).map_err(|why| format!("{name}: rule {:?}: {why}", rule.name))?;
        if let Some(alert) = AlertRule::new(name, group, rule, columns) {
            found.0.push(rule);
            found.1.push(alert);
        }
    }
    Ok(found)
}

fn compare(case: &AlertCase, set: &RuleSet) -> Option<String> {
    let firing =
        set.alerts().filter(|alert| alert.state == "firing" && alert.alertname == case.name);
    let mut got: Vec<Expected> = firing
        .map(|alert| Expected { labels: alert.labels, annotations: alert.annotations })
        .collect();
    let mut wanted = case.wanted.clone();
    got.sort();
    wanted.sort();
    (got != wanted).then(|| {
        format!(
            "    alertname: {}, time: {}, \n        exp:{}, \n        got:{}",
            case.name,
            case.at,
            listed(&wanted),
            listed(&got)
        )
    })
}

fn listed(alerts: &[Expected]) -> String {
    if alerts.is_empty() {
        return "[]".to_string();
    }
    let mut text = "[".to_string();
    for (idx, alert) in alerts.iter().enumerate() {
        let annotations = Labels::new(alert.annotations.clone());
        text.push_str(&format!(
            "\n            {idx}:\n              Labels:{}\n              Annotations:{annotations}",
            alert.labels
        ));
    }
    text.push_str("\n            ]");
    text
}

/// Labels with the alert's name, which a test need not write.
fn named(mut labels: BTreeMap<String, String>, name: &str) -> Labels {
    labels.insert(ALERT_NAME.to_string(), name.to_string());
    Labels::new(labels)
}
