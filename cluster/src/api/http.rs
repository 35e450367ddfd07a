//! The HTTP paths: questions answered once.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde_json::{Value as Json, json};
use weir_types::tables::TABLES;

use super::{ApiError, ApiState, Asset, metrics};
use crate::planner::{self, PlanError, ScriptRequest};
use crate::service::figures::Sample;
use crate::service::{Happened, ListFeeds, ListNodes, ListQueries, NotCompiled, Service};

type Answer = Result<HttpResponse, ApiError>;

fn ask_failed(error: weir_actors::SendError) -> ApiError {
    ApiError::unavailable(&format!("the server is stopping ({error})"))
}

pub(super) async fn readyz(state: web::Data<ApiState>) -> Answer {
    let nodes = state.service.coordinator.send(ListNodes).await.map_err(ask_failed)?;
    if nodes.is_empty() && !state.service.serves_alone {
        return Err(ApiError::unavailable("no node has registered yet"));
    }
    Ok(HttpResponse::Ok().body("ready\n"))
}

pub(super) async fn scripts() -> HttpResponse {
    let list: Vec<Json> = weir_pxl::bundle::scripts()
        .iter()
        .map(|script| {
            json!({
                "name": script.name,
                "short": script.short,
                "long": script.long,
                "args": planner::arguments_json(script.vis),
                "has_vis": script.vis.is_some(),
            })
        })
        .collect();
    HttpResponse::Ok().json(json!({ "scripts": list }))
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint = weir_pxl::suggest(name, known)
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    format!("there is no {what} `{name}`{hint}")
}

pub(super) async fn script(name: web::Path<String>) -> Answer {
    let found = weir_pxl::bundle::find(&name).ok_or_else(|| {
        let known: Vec<&str> = weir_pxl::bundle::scripts().iter().map(|each| each.name).collect();
        ApiError::not_found("script_not_found", unknown("script", &name, &known))
    })?;
    let vis: Json = found.vis.and_then(|vis| serde_json::from_str(vis).ok()).unwrap_or_default();
    Ok(HttpResponse::Ok().json(json!({
        "name": found.name,
        "pxl": found.pxl,
        "vis": vis,
        "short": found.short,
        "long": found.long,
        "args": planner::arguments_json(found.vis),
    })))
}

/// One table as `weir schema -o json` prints it.
#[must_use]
pub fn table_json(table: &weir_types::tables::TableDef) -> Json {
    json!({
        "name": table.name,
        "desc": table.desc,
        "columns": weir_types::live::columns_of(&table.relation()),
    })
}

pub(super) async fn schema() -> HttpResponse {
    let tables: Vec<Json> = TABLES.iter().map(table_json).collect();
    HttpResponse::Ok().json(json!({ "tables": tables }))
}

pub(super) async fn schema_of(name: web::Path<String>) -> Answer {
    let table = weir_types::tables::find(&name).ok_or_else(|| {
        let known: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        ApiError::not_found("table_not_found", unknown("table", &name, &known))
    })?;
    Ok(HttpResponse::Ok().json(table_json(table)))
}

pub(super) async fn funcs() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "functions": planner::functions_json(None) }))
}

pub(super) async fn queries(state: web::Data<ApiState>) -> Answer {
    let rows = state.service.coordinator.send(ListQueries).await.map_err(ask_failed)?;
    let feeds = state.service.coordinator.send(ListFeeds).await.map_err(ask_failed)?;
    let sample = state.service.figures.now();
    let (mut queries, mut feeds) = (json!(rows), json!(feeds));
    add_figures(&mut queries, "query", &sample);
    add_figures(&mut feeds, "feed", &sample);
    Ok(HttpResponse::Ok().json(json!({ "queries": queries, "feeds": feeds })))
}

/// What each of them does and holds, to lists of queries and of feeds, by their numbers.
fn add_figures(rows: &mut Json, number: &str, sample: &Sample) {
    for row in rows.as_array_mut().into_iter().flatten() {
        let Some(query) = row[number].as_u64() else { continue };
        let total = sample.total(query);
        let late = sample.lateness_ns(query);
        row["lateness_ns"] = json!(late);
        row["rows_in_per_s"] = json!(sample.per_s(total.recent.rows_in).round());
        row["rows_out_per_s"] = json!(sample.per_s(total.recent.rows_out).round());
        row["held_bytes"] = json!(total.held_bytes);
        row["cpu_ns_per_s"] = json!(sample.per_s(total.recent.busy_ns).round());
    }
}

pub(super) async fn sinks(state: web::Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "sinks": state.service.sinks.rows() }))
}

pub(super) async fn alerts(state: web::Data<ApiState>) -> Answer {
    let shown = state.service.alerts.shown().await.ok_or_else(no_alerts)?;
    Ok(HttpResponse::Ok().json(shown.json()))
}

pub(super) async fn alerts_history(state: web::Data<ApiState>) -> Answer {
    let history = state.service.alerts.history().await.ok_or_else(no_alerts)?;
    let history: Vec<Json> = history.iter().map(Happened::json).collect();
    Ok(HttpResponse::Ok().json(json!({ "history": history })))
}

fn no_alerts() -> ApiError {
    ApiError::unavailable("alerts are not running: the server starts or stops")
}

pub(super) async fn nodes(state: web::Data<ApiState>) -> Answer {
    let rows = state.service.coordinator.send(ListNodes).await.map_err(ask_failed)?;
    let nodes: Vec<Json> = rows
        .iter()
        .map(|row| {
            let mut node = serde_json::to_value(row).unwrap_or_default();
            let sources = row.sources.iter().map(|source| {
                json!({"name": source.name, "state": source.state, "reason": source.reason,
                       "tables": source.tables})
            });
            node["sources"] = sources.collect();
            node
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "nodes": nodes })))
}

pub(super) async fn stats(state: web::Data<ApiState>) -> Answer {
    let mut stats = metrics::stats_json(&state).await?;
    let (tree, now_unix_ns) = (state.service.health.tree(), state.service.clock.now_unix_ns());
    super::parts::add_json(&mut stats, &tree, now_unix_ns);
    Ok(HttpResponse::Ok().json(stats))
}

pub(super) async fn doctor(state: web::Data<ApiState>) -> HttpResponse {
    let mut report = (state.doctor)();
    if let Some(checks) = report["checks"].as_array_mut() {
        checks.push(actors_check(&state.service));
    }
    let (tree, now_unix_ns) = (state.service.health.tree(), state.service.clock.now_unix_ns());
    super::parts::add_json(&mut report["server"], &tree, now_unix_ns);
    HttpResponse::Ok().json(report)
}

/// Whether the running server's actors keep up.
fn actors_check(service: &Service) -> Json {
    let actors = service.health.summary();
    let sum = |of: fn(&crate::service::ActorSummary) -> u64| actors.values().map(of).sum::<u64>();
    let (stalled, failed) = (sum(|actor| actor.stalled), sum(|actor| actor.failed));
    let (slow, handled) = (sum(|actor| actor.slow_handled), sum(|actor| actor.handled));
    let restarts = sum(|actor| actor.restarts);
    let detail = format!(
        "{stalled} stalled, {failed} failed, {restarts} restarts, {slow} of {handled} handlers \
         took longer than 500 µs"
    );
    json!({"name": "actors", "ok": stalled + failed == 0, "detail": detail})
}

pub(super) async fn prometheus(state: web::Data<ApiState>) -> Answer {
    let text = metrics::metrics_text(&state).await?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}

pub(super) async fn check(state: web::Data<ApiState>, request: web::Json<ScriptRequest>) -> Answer {
    let request = state.service.with_views(&request);
    let checked = state.service.compiles.run(move |allowance| {
        planner::compile(&request, None, allowance).map(|(_, compiled)| compiled.warnings)
    });
    let (ok, diagnostics) = match checked.await {
        Ok(warnings) => (true, warnings),
        Err(NotCompiled::Plan(PlanError::Compile(diagnostics))) => (false, diagnostics),
        Err(error) => return Err(error.into()),
    };
    Ok(HttpResponse::Ok().json(json!({"ok": ok, "diagnostics": diagnostics})))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

/// One of the page's files; hashed names are kept for ever, the page itself is asked for again.
pub(super) fn asset(asset: &'static Asset) -> HttpResponse {
    let cache = if asset.path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    HttpResponse::Ok()
        .content_type(content_type(asset.path))
        .insert_header((header::CACHE_CONTROL, cache))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
             connect-src 'self'; frame-ancestors 'none'",
        ))
        .body(asset.bytes)
}
