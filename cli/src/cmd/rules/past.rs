//! `weir rules test RULES… --pcap FILE…` and `… --last 1h`: what rules would have done over traffic of the past, rows
//! of captures or what a server still holds. It says so, and judges nothing: that is for test files.

mod captures;
mod history;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use weir_cluster::judge::{Judge, recorded};
use weir_rules::file::Rule;
use weir_rules::labels::Labels;
use weir_rules::preview::{self, Preview, Report};
use weir_rules::state::{AlertRule, Columns};
use weir_types::json::time_text;

use super::{failed, read};
use crate::args::{Format, RulesTestArgs};
use crate::client::Connection;
use crate::failure::Failure;
use crate::{output, script};

/// Events of a rule that people are shown; `-o json` has more.
const EVENTS_SHOWN: usize = 20;

/// Alert rules, and who knows the views that they may read.
struct Rules {
    alerts: Vec<Ruled>,
    judge: Judge<'static>,
}

/// An alert rule as it is written, and as it runs.
struct Ruled {
    written: Rule,
    columns: Columns,
    /// Seconds between two looks at what a server holds, at least.
    pane_s: i64,
    alert: AlertRule,
}

impl Ruled {
    fn preview(&self) -> Preview {
        Preview::new(self.alert.clone(), preview::settings(Labels::default(), ""))
    }
}

/// Of which past.
pub(crate) enum Past<'a> {
    Captures(&'a [PathBuf]),
    /// What a server holds of the time up to now, looked at so often.
    Server {
        connection: &'a Connection,
        last: Duration,
        step: Option<Duration>,
    },
}

pub(super) fn run(connection: &Connection, args: &RulesTestArgs) -> Result<(), Failure> {
    let past = match args.last {
        Some(last) => Past::Server { connection, last, step: args.step },
        None => Past::Captures(&args.pcap),
    };
    let mut texts = Vec::new();
    for path in &args.files {
        texts.push((path.display().to_string(), read(path).map_err(Failure::No)?));
    }
    of_texts(&texts, &past, output::format_or_default(args.output))
}

/// The same for texts of rule files.
pub(crate) fn of_texts(
    texts: &[(String, String)],
    past: &Past<'_>,
    format: Format,
) -> Result<(), Failure> {
    if format == Format::Csv {
        return Err(Failure::Usage("it is no table: -o table, json or jsonl".to_string()));
    }
    let rules = rules_of(texts)?;
    let reports = match past {
        Past::Captures(files) => captures::reports(&rules, files)?,
        Past::Server { connection, last, step } => {
            history::reports(&rules, connection, *last, *step)?
        }
    };
    let all = rules.alerts.iter().zip(&reports);
    match format {
        Format::Table => all.into_iter().try_for_each(|(rule, report)| shown(rule, report)),
        Format::Json => {
            let all: Vec<Json> = all.map(|(rule, report)| report_json(rule, report)).collect();
            output::line(&json!(all).to_string())
        }
        Format::Jsonl | Format::Csv => all
            .into_iter()
            .try_for_each(|(rule, report)| output::line(&report_json(rule, report).to_string())),
    }
}

fn rules_of(texts: &[(String, String)]) -> Result<Rules, Failure> {
    let views = recorded(texts.iter().map(|(_, text)| text.as_str()));
    let mut alerts = Vec::new();
    let mut judge = Judge::new(views, &script::allowance);
    for (name, text) in texts {
        let (report, columns) = judge.file(name, text);
        if !report.problems.is_empty() {
            output::note(&format!("{name}:"));
            failed(&report.problems);
            return Err(Failure::No(String::new()));
        }
        let all = report.file.groups.iter();
        let all = all.flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        for ((group, rule), (columns, pane_s)) in all.zip(columns) {
            if let Some(alert) = AlertRule::new(name, group, rule, columns.clone()) {
                alerts.push(Ruled { written: rule.clone(), columns, pane_s, alert });
            }
        }
    }
    if alerts.is_empty() {
        return Err(Failure::No("there is no alert rule in it".to_string()));
    }
    Ok(Rules { alerts, judge })
}

fn report_json(Ruled { alert, .. }: &Ruled, report: &Report) -> Json {
    let mut json = json!({"file": alert.file, "group": alert.group, "rule": alert.name});
    if let (Some(into), Json::Object(more)) = (json.as_object_mut(), report.json()) {
        into.extend(more);
    }
    json
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_string() } else { format!("{count} times") }
}

fn shown(Ruled { alert, .. }: &Ruled, report: &Report) -> Result<(), Failure> {
    let Report { looks, fired, firing, events, left_out, .. } = report;
    let Some(from_unix_ns) = report.from_unix_ns else {
        return output::text(&format!("{}: no rows, so it was not looked at", alert.name));
    };
    let (from, to) = (time_text(from_unix_ns), time_text(report.to_unix_ns));
    let fired = if *fired == 0 {
        "not have fired".to_string()
    } else {
        format!("have fired {}", times(*fired))
    };
    let still = if *firing > 0 { format!(", and {firing} fire in the end") } else { String::new() };
    output::text(&format!(
        "{}: would {fired} from {from} to {to} ({looks} looks){still}",
        alert.name
    ))?;
    if report.incomplete > 0 {
        let text = format!("  {} of these answers were not complete", report.incomplete);
        output::text(&text)?;
    }
    if report.errors > 0 {
        output::text(&format!("  {} gave no alerts: {}", report.errors, report.last_error))?;
    }
    for event in events.iter().take(EVENTS_SHOWN) {
        let (at, what) = (time_text(event.at_unix_ns), event.what);
        output::text(&format!("  {at}  {what:<9}  {}  {}", event.labels, event.value))?;
    }
    let more = events.len().saturating_sub(EVENTS_SHOWN) as u64 + left_out;
    if more > 0 { output::text(&format!("  … and {more} more")) } else { Ok(()) }
}
