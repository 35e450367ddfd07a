//! Rules over what a server still holds: their answers as they were at times of the past, asked for one after another.
//! Between two looks nothing is seen, and names are those of now.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use weir_cluster::planner::{ScriptRequest, ViewText};
use weir_rules::preview::{self, LOOKS, Report};
use weir_rules::state::Answer;
use weir_types::{Clock, WallClock};

use super::{Ruled, Rules};
use crate::client::Connection;
use crate::cmd::run::{error_of, tables_of};
use crate::failure::Failure;
use crate::{output, script};

/// Looks at the most: each is a query.
const LOOKS_MAX: i64 = 2_000;
const STEP_MIN: Duration = Duration::from_secs(1);
const SEC_NS: i64 = 1_000_000_000;

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The times that are looked at, if they are not too many.
fn times(
    last: Duration,
    step: Option<Duration>,
    pane_s: i64,
    now_unix_ns: i64,
) -> Result<Vec<i64>, Failure> {
    let step = step.unwrap_or((last / LOOKS).max(STEP_MIN));
    if step < STEP_MIN || last < step {
        let text = "--step is at least 1s, and --last at least a step".to_string();
        return Err(Failure::Usage(text));
    }
    let (last_s, step_s) = (ns(last) / SEC_NS, ns(step).saturating_add(SEC_NS - 1) / SEC_NS);
    let count = last_s / step_s;
    if count > LOOKS_MAX {
        let text = format!(
            "that would be {count} looks, and {LOOKS_MAX} are the most: make --step longer"
        );
        return Err(Failure::Usage(text));
    }
    Ok(preview::times(last_s, step_s, pane_s, now_unix_ns).collect())
}

pub(super) fn reports(
    rules: &Rules,
    connection: &Connection,
    last: Duration,
    step: Option<Duration>,
) -> Result<Vec<Report>, Failure> {
    let now_unix_ns = WallClock.now_unix_ns();
    let mut reports = Vec::new();
    for rule in &rules.alerts {
        let times = times(last, step, rule.pane_s, now_unix_ns)?;
        output::note(&format!("{}: looking {} times …", rule.alert.name, times.len()));
        reports.push(report(rules, rule, connection, &times)?);
    }
    Ok(reports)
}

fn report(
    rules: &Rules,
    rule: &Ruled,
    connection: &Connection,
    times: &[i64],
) -> Result<Report, Failure> {
    let asked = rules.judge.request_of(&rule.written);
    let mut request = ScriptRequest {
        script: Some(format!("preview of {}", rule.alert.name)),
        with_views: asked.views.iter().map(ViewText::from).collect(),
        views: Arc::default(),
        ..asked
    };
    let mut preview = rule.preview();
    for at_unix_ns in times {
        request.at_unix_ns = Some(*at_unix_ns);
        let (source, body) = (script::source_of(&request), script::body(&request));
        let answer = connection.post("/api/v1/run", &body).map_err(|why| why.told(&source))?;
        let messages = answer["messages"].as_array().cloned().unwrap_or_default();
        let tables = tables_of(&messages)?;
        let Some(table) = tables.first() else {
            let why = error_of(&messages).unwrap_or_else(|| "the server gave no table".to_string());
            return Err(Failure::No(format!("{}: {why}", rule.alert.name)));
        };
        let types = table.relation.types();
        let rows = table
            .rows
            .iter()
            .filter_map(|(row, count)| Some((*count, rule.columns.row(&row.unpack(&types)?))));
        let rows: Vec<_> = rows.collect();
        let progress = messages.iter().rev().find(|message| message["type"] == "progress");
        let complete = progress.is_some_and(|progress| progress["complete"] == Json::Bool(true));
        let why = if complete {
            ""
        } else {
            "what the server holds does not reach back so far, or something was lost"
        };
        // Rows that leave are gone, though what was before is not held any more.
        let is_empty = |what: &str| match progress.map(|progress| &progress[what]) {
            Some(Json::Array(items)) => items.is_empty(),
            Some(Json::Object(members)) => members.is_empty(),
            _ => false,
        };
        let young = is_empty("lagging") && is_empty("lost");
        let answer = Answer { at_unix_ns: *at_unix_ns, snapshot: true, complete, young, why };
        preview.look(&answer, &rows);
    }
    Ok(preview.report())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks are whole steps apart, the last not after now, and not more than a server is to be asked for.
    #[test]
    fn looks_are_whole_steps() {
        let s = Duration::from_secs;
        let seconds = |last: u64, step: Option<Duration>, now: i64| {
            let times = times(s(last), step, 1, now).expect("it fits");
            times.into_iter().map(|at| at / SEC_NS).collect::<Vec<_>>()
        };
        assert_eq!(seconds(40, Some(s(10)), 105 * SEC_NS), [65, 75, 85, 95, 105]);
        assert_eq!(seconds(2, None, 10 * SEC_NS + 1), [8, 9, 10]);
        assert_eq!(seconds(3_600, None, 7_215 * SEC_NS).len(), 121);
        assert_eq!(seconds(3, Some(Duration::from_millis(1_500)), 9 * SEC_NS), [7, 9]);
        // Of what nodes keep in panes of a minute only their ends can be told.
        let minutes = times(s(180), Some(s(30)), 60, 305 * SEC_NS).expect("it fits");
        assert_eq!(minutes, [120, 180, 240, 300].map(|at| at * SEC_NS));
        assert!(times(s(1), Some(s(10)), 1, 0).is_err());
        assert!(times(s(1), Some(Duration::ZERO), 1, 0).is_err());
        assert!(times(s(86_400), Some(s(1)), 1, 0).is_err());
    }
}
