//! `POST /api/v1/alerts/preview`: what a rule of the server would have done lately. Its answers as they were at times
//! of the past, about what nodes still hold, are looked at one after another; each is a query, so one preview is made
//! at a time.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use weir_rules::preview::{LOOKS, Preview, Report, times};
use weir_rules::state::{AlertRule, Answer, Columns, Row, Settings};
use weir_sinks::delivery::Completeness;
use weir_types::PackedRow;

use super::run::begin;
use super::{ApiError, ApiState};
use crate::planner::{ScriptRequest, pane_s_of};
use crate::service::{Outgoing, Service, Wanted, prepare};

/// How far back it may go.
const LAST_S_MAX: i64 = 24 * 3_600;
const LAST_S: i64 = 3_600;
const PREVIEW_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// As rules are listed.
    rule: u64,
    /// Seconds up to now.
    #[serde(default = "last_s")]
    last_s: i64,
}

fn last_s() -> i64 {
    LAST_S
}

pub(super) async fn preview(
    state: web::Data<ApiState>,
    asked: web::Json<Asked>,
) -> Result<HttpResponse, ApiError> {
    let Asked { rule: number, last_s } = asked.into_inner();
    if !(1..=LAST_S_MAX).contains(&last_s) {
        return Err(ApiError::bad_request(format!("last_s is 1 to {LAST_S_MAX}")));
    }
    let found = state.service.alerts.rule(number).await;
    let missing = || ApiError::not_found("rule_not_found", format!("there is no rule {number}"));
    let (rule, settings) = found.ok_or_else(missing)?;
    let busy = |_| {
        let text = "another preview is being made";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text)
    };
    let _alone = state.previews.try_lock().map_err(busy)?;
    let made = looked(&state.service, rule, settings, last_s);
    let late = |_| ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "it takes too long");
    let report = tokio::time::timeout(PREVIEW_TIMEOUT, made).await.map_err(late)??;
    Ok(HttpResponse::Ok().json(report.json()))
}

async fn looked(
    service: &Service,
    rule: AlertRule,
    settings: Settings,
    last_s: i64,
) -> Result<Report, ApiError> {
    let script = Some(format!("preview of {}", rule.name));
    let (text, columns) = (Some(rule.expr.clone()), rule.columns.clone());
    let request = ScriptRequest { script, text, ..ScriptRequest::default() };
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
