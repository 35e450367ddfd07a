//! `POST /api/v1/alerts/preview`: what a rule of the server, or a draft of one, would have done lately. Its answers as
//! they were at times of the past, about what nodes still hold, are looked at one after another; each is a query, so one
//! preview is made at a time.

mod draft;

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use weir_rules::preview::{LOOKS, Preview, Report, times};
use weir_rules::state::{AlertRule, Answer, Columns, Row, Settings};
use weir_sinks::delivery::Completeness;
use weir_types::PackedRow;

use self::draft::{Draft, Judged};
use super::run::begin;
use super::{ApiError, ApiState};
use crate::planner::{ScriptRequest, ViewText, pane_s_of};
use crate::service::{Outgoing, Service, Wanted, prepare};

/// How far back it may go.
const LAST_S_MAX: i64 = 24 * 3_600;
const LAST_S: i64 = 3_600;
const PREVIEW_TIMEOUT: Duration = Duration::from_secs(120);

/// One of a rule, a rule file's text, and a script's text with a condition.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// As rules are listed.
    rule: Option<u64>,
    /// The text of a rule file.
    rules: Option<String>,
    /// A script's text, and what of its rows is an alert.
    text: Option<String>,
    when: Option<String>,
    #[serde(rename = "for")]
    hold: Option<String>,
    /// Seconds up to now.
    #[serde(default = "last_s")]
    last_s: i64,
}

fn last_s() -> i64 {
    LAST_S
}

enum Of {
    Rule(u64),
    Draft(Draft),
}

impl Asked {
    fn of(self) -> Result<Of, ApiError> {
        let Asked { rule, rules, text, when, hold, .. } = self;
        match (rule, rules, text, when, hold) {
            (Some(rule), None, None, None, None) => Ok(Of::Rule(rule)),
            (None, Some(rules), None, None, None) => Ok(Of::Draft(Draft::Rules(rules))),
            (None, None, Some(text), Some(when), hold) => {
                Ok(Of::Draft(Draft::Script { text, when, hold }))
            }
            _ => {
                let why = "give a `rule` by its number, `rules` as the text of a rule file, or `text` and `when`";
                Err(ApiError::bad_request(why))
            }
        }
    }
}

pub(super) async fn preview(
    state: web::Data<ApiState>,
    asked: web::Json<Asked>,
) -> Result<HttpResponse, ApiError> {
    let (asked, service) = (asked.into_inner(), &state.service);
    let last_s = asked.last_s;
    if !(1..=LAST_S_MAX).contains(&last_s) {
        return Err(ApiError::bad_request(format!("last_s is 1 to {LAST_S_MAX}")));
    }
    let of = asked.of()?;
    let busy = |_| {
        let text = "another preview is being made";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text)
    };
    let _alone = state.previews.try_lock().map_err(busy)?;
    let made = async {
        match of {
            Of::Rule(number) => {
                let found = service.alerts.rule(number).await;
                let missing =
                    || ApiError::not_found("rule_not_found", format!("there is no rule {number}"));
                let (rule, settings) = found.ok_or_else(missing)?;
                looked(service, rule, &[], settings, last_s).await.map(|report| report.json())
            }
            Of::Draft(draft) => of_draft(service, draft, last_s).await,
        }
    };
    let late = |_| ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "it takes too long");
    let made = tokio::time::timeout(PREVIEW_TIMEOUT, made).await.map_err(late)??;
    Ok(HttpResponse::Ok().json(made))
}

/// Each of its alert rules, and the rule file that it is.
async fn of_draft(service: &Service, draft: Draft, last_s: i64) -> Result<Json, ApiError> {
    let Judged { rules, text } = draft::judged(service, draft).await?;
    let mut made = Vec::new();
    for (rule, views) in rules {
        let mut json = json!({"group": rule.group, "rule": rule.name});
        let settings = draft::settings_of_draft();
        let report = looked(service, rule, &views, settings, last_s).await?.json();
        if let (Some(into), Json::Object(more)) = (json.as_object_mut(), report) {
            into.extend(more);
        }
        made.push(json);
    }
    Ok(json!({"rules": made, "text": text}))
}

async fn looked(
    service: &Service,
    rule: AlertRule,
    views: &[ViewText],
    settings: Settings,
    last_s: i64,
) -> Result<Report, ApiError> {
    let script = Some(format!("preview of {}", rule.name));
    let (text, columns) = (Some(rule.expr.clone()), rule.columns.clone());
    let with_views = views.to_vec();
    let request = ScriptRequest { script, text, with_views, ..ScriptRequest::default() };
    let mut preview = Preview::new(rule, settings);
    let pane_s = pane_s_of(&prepare(service, &request, Wanted::Live).await?.prepared.plan);
    let step_s = (last_s / i64::from(LOOKS)).max(1);
    for at_unix_ns in times(last_s, step_s, pane_s, service.clock.now_unix_ns()) {
        let request = ScriptRequest { at_unix_ns: Some(at_unix_ns), ..request.clone() };
        let (rows, Completeness { complete, lagging, lost, .. }) =
            answer(service, request, &columns).await?;
        // Rows that leave are gone, though what was before is not held any more.
        let young = lagging.is_empty() && lost.is_empty();
        let why = if complete { "" } else { "the answer was not complete" };
        let answer = Answer { at_unix_ns, snapshot: true, complete, young, why };
        preview.look(&answer, &rows);
    }
    Ok(preview.report())
}

/// All rows of one answer, and how complete it is.
async fn answer(
    service: &Service,
    request: ScriptRequest,
    columns: &Columns,
) -> Result<(Vec<(i64, Row)>, Completeness), ApiError> {
    let (reader, first, _) = begin(service, request).await?;
    let (mut first, mut rows) = (first.into_iter(), Vec::new());
    loop {
        let message = match first.next() {
            Some(message) => Some(message),
            None => std::future::poll_fn(|cx| reader.poll(cx)).await,
        };
        let Some(message) = message else {
            return Err(ApiError::ended("ended", "the query ended without an answer"));
        };
        let delivery = match message {
            Outgoing::Delivery(delivery) => delivery,
            Outgoing::Error(note) => {
                return Err(ApiError::ended(&note.code, note.message.as_str()));
            }
            Outgoing::Schema(_) | Outgoing::End(_) | Outgoing::Status { .. } => continue,
        };
        for changes in &delivery.changes {
            let types = changes.output.info.relation.types();
            let row =
                |(row, diff): &(PackedRow, i64)| Some((*diff, columns.row(&row.unpack(&types)?)));
            rows.extend(changes.rows.iter().filter_map(row));
        }
        if let Some(completeness) = &delivery.completeness {
            return Ok((rows, completeness.clone()));
        }
    }
}
