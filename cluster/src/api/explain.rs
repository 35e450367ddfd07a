//! A running query, operator by operator: the plan as it was installed, with what each operator of it does, down
//! through the feeds that it shares to the scans on nodes. By script, or by number.
//!
//! Nothing is installed for it: what does not run is an error that says how to run it.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::{Value as Json, json};
use weir_pxl::{OperatorTexts, SourceTexts};
use weir_types::figures::OperatorPlace;
use weir_types::json::time_text;

use super::{ApiError, ApiState};
use crate::coordinator::LocatedSource;
use crate::planner::ScriptRequest;
use crate::service::figures::{Counts, OperatorNow, Sample};
use crate::service::{ListQueries, Locate, Located, Sought, Wanted, prepare};

type Answer = Result<HttpResponse, ApiError>;

/// The dataflow of a script, as it runs now.
pub(super) async fn of_script(
    state: web::Data<ApiState>,
    request: web::Json<ScriptRequest>,
) -> Answer {
    let request = request.into_inner();
    let asks_refresh = request.refresh_ms.is_some();
    let wanted = Wanted::Stale { within_ms: 0 };
    let installable = prepare(&state.service, &request, wanted).await?;
    let prepared = installable.prepared;
    // As it was rounded to ticks.
    let refresh_ms = asks_refresh.then_some(prepared.refresh_ms);
    let sought = Sought::Plan(prepared.identity, refresh_ms);
    match located(&state, sought).await? {
        Some(found) => Ok(HttpResponse::Ok().json(shown(&found, &state.service.figures.now()))),
        None => Err(not_running(&state, &prepared.name, refresh_ms).await),
    }
}

/// The same of a query by its number, as `queries` lists it.
pub(super) async fn of_query(state: web::Data<ApiState>, query: web::Path<u64>) -> Answer {
    match located(&state, Sought::Number(*query)).await? {
        Some(found) => Ok(HttpResponse::Ok().json(shown(&found, &state.service.figures.now()))),
        None => {
            let message = format!("no query {query} runs now; `weir queries` lists those that do");
            Err(ApiError::not_found("not_running", message))
        }
    }
}

async fn located(state: &ApiState, sought: Sought) -> Result<Option<Located>, ApiError> {
    let asked = state.service.coordinator.send(Locate(sought)).await;
    asked.map_err(|error| ApiError::unavailable(&format!("the server is stopping ({error})")))
}

/// Nobody reads the script with these arguments; perhaps with others.
async fn not_running(state: &ApiState, name: &str, refresh_ms: Option<u64>) -> ApiError {
    let running = state.service.coordinator.send(ListQueries).await.unwrap_or_default();
    let same: Vec<String> = running
        .iter()
        .filter(|row| row.name == name)
        .map(|row| format!("query {} every {} ms", row.query, row.refresh_ms))
        .collect();
    let with = refresh_ms.map_or_else(String::new, |ms| format!(" with a refresh of {ms} ms"));
    let hint = if same.is_empty() {
        format!("start it with `weir live {name}` or open it on the page, and ask again")
    } else {
        format!(
            "it runs with other arguments, of another function or as another text: {}",
            same.join(", ")
        )
    };
    let message = format!("`{name}` does not run{with}: {hint}");
    ApiError::new(StatusCode::NOT_FOUND, "not_running", message)
}

/// The answer: the query, then its operators from the outputs down, each once.
fn shown(found: &Located, sample: &Sample) -> Json {
    let Located { row, split, sources } = found;
    let now = sample.queries.iter().find(|query| query.query == row.query);
    let refreshes = now.map(|query| query.refreshes).unwrap_or_default();
    let mut operators = Operators { sample, shown: Vec::new() };
    let texts = weir_pxl::operator_texts(split);
    operators.of_query(found, &texts);
    for (at, source) in sources.iter().enumerate() {
        if let (Some(source), Some(texts)) = (source, texts.sources.get(at)) {
            operators.of_source(source, texts);
        }
    }
    let total = sample.total(row.query);
    let mean_ns = refreshes.late_ns_total.checked_div(refreshes.refreshes).unwrap_or(0);
    json!({
        "query": row.query,
        "name": row.name,
        "refresh_ms": row.refresh_ms,
        "subscribers": row.subscribers,
        "frontier": refreshes.frontier_tick_ms.map(|ms| time_text(weir_types::clock::tick_unix_ns(ms))),
        "refreshes": refreshes.refreshes,
        "lateness_ns": now.map_or(0, |query| query.lateness_ns),
        "lateness_mean_ns": mean_ns,
        "over_ns": sample.over_ns,
        "held_bytes": total.held_bytes,
        "cpu_ns_per_s": round(sample.per_s(total.recent.busy_ns)),
        "operators": operators.shown,
    })
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

struct Operators<'a> {
    sample: &'a Sample,
    shown: Vec<Json>,
}

impl Operators<'_> {
    /// One operator, wherever it runs: figures of nodes are added up.
    fn add(
        &mut self,
        (id, part, text): (String, &str, &str),
        inputs: &[String],
        running: &[&OperatorNow],
        more: Json,
    ) {
        let sum = |of: fn(&OperatorNow) -> u64| running.iter().map(|now| of(now)).sum::<u64>();
        let recent = Counts {
            rows_in: sum(|now| now.recent.rows_in),
            rows_out: sum(|now| now.recent.rows_out),
            busy_ns: sum(|now| now.recent.busy_ns),
        };
        let sample = self.sample;
        let rows = recent.rows_in.max(recent.rows_out);
        let ns_per_row = if rows == 0 { 0.0 } else { recent.busy_ns as f64 / rows as f64 };
        let mut operator = json!({
            "id": id,
            "part": part,
            "kind": running.first().map(|now| now.figures.kind.as_str()),
            "text": text,
            "inputs": inputs,
            "rows_in_per_s": round(sample.per_s(recent.rows_in)),
            "rows_out_per_s": round(sample.per_s(recent.rows_out)),
            "cpu_ns_per_s": round(sample.per_s(recent.busy_ns)),
            "ns_per_row": round(ns_per_row),
            "held_bytes": sum(|now| now.figures.held_bytes),
            "rows_in": sum(|now| now.figures.rows_in),
            "rows_out": sum(|now| now.figures.rows_out),
            "cpu_ns": sum(|now| now.figures.busy_ns),
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            operator[name] = value.clone();
        }
        self.shown.push(operator);
    }

    /// What is the query's own, from its outputs down.
    fn of_query(&mut self, found: &Located, texts: &OperatorTexts) {
        let (query, plan) = (found.row.query, &found.split.cluster);
        let sample = self.sample;
        let mine: BTreeMap<OperatorPlace, &OperatorNow> =
            sample.operators_of(query).map(|now| (now.figures.place, now)).collect();
        let running = |place| mine.get(&place).copied().into_iter().collect::<Vec<_>>();
        for (at, output) in plan.outputs.iter().enumerate() {
            let text = format!("output {:?}", output.table);
            let place = OperatorPlace::Output(at);
            let inputs = [format!("op{}", output.op)];
            self.add((format!("output{at}"), "query", &text), &inputs, &running(place), json!({}));
        }
        for (at, op) in plan.ops.iter().enumerate().rev() {
            let source = match op.kind {
                weir_types::OpKind::Scan(exchange) => found.sources.get(exchange as usize),
                _ => None,
            };
            let inputs = match source {
                Some(Some(LocatedSource { at, .. })) => vec![feed_id(at.feed, at.exchange)],
                _ => op.inputs.iter().map(|input| format!("op{input}")).collect(),
            };
            let text = texts.cluster.get(at).map_or("", String::as_str);
            let place = OperatorPlace::Op(at);
            self.add((format!("op{at}"), "query", text), &inputs, &running(place), json!({}));
        }
    }

    /// The window of a source, its send, and the steps that give it its rows.
    fn of_source(&mut self, source: &LocatedSource, texts: &SourceTexts) {
        let LocatedSource { at, steps, readers } = source;
        let id = feed_id(at.feed, at.exchange);
        if self.has(&id) {
            return;
        }
        let (send_id, step_id) = (format!("{id}.send"), |op| format!("feed{}.op{op}", at.feed));
        let place = OperatorPlace::Exchange(at.exchange);
        let shared = json!({ "feed": at.feed, "readers": readers });
        let sample = self.sample;
        let found = |place, on_nodes| {
            let all = sample.operators_of(at.feed);
            let here = move |now: &&OperatorNow| {
                now.figures.place == place && now.node.is_some() == on_nodes
            };
            all.filter(here).collect::<Vec<_>>()
        };
        let window = found(place, false);
        self.add((id, "feed", &texts.receive), std::slice::from_ref(&send_id), &window, shared);
        let nodes = |running: &[&OperatorNow]| json!({ "feed": at.feed, "nodes": running.len() });
        let send = found(place, true);
        let last = steps.last().map(|op| step_id(*op));
        self.add((send_id, "node", &texts.send), last.as_slice(), &send, nodes(&send));
        for (idx, op) in steps.iter().enumerate().rev() {
            let id = step_id(*op);
            if self.has(&id) {
                continue;
            }
            let below = idx.checked_sub(1).map(|below| step_id(steps[below]));
            let text = texts.steps.get(idx).map_or("", String::as_str);
            let running = found(OperatorPlace::Op(*op), true);
            self.add((id, "node", text), below.as_slice(), &running, nodes(&running));
        }
    }

    fn has(&self, id: &str) -> bool {
        self.shown.iter().any(|operator| operator["id"] == id)
    }
}

fn feed_id(feed: u64, exchange: u32) -> String {
    format!("feed{feed}.{exchange}")
}
