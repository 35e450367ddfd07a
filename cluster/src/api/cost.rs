//! What a script would cost, before it runs: the estimate as JSON. Nothing is installed.

use actix_web::{HttpResponse, web};
use serde_json::{Value as Json, json};

use super::{ApiError, ApiState};
use crate::cost::{CostLimits, CostTotals, Estimate, OperatorCost, SourceCost};
use crate::planner::ScriptRequest;
use crate::service::{EstimateCost, Wanted, prepare};

/// Of the script, with these arguments and this refresh.
pub(super) async fn of_script(
    state: web::Data<ApiState>,
    request: web::Json<ScriptRequest>,
) -> Result<HttpResponse, ApiError> {
    let service = &state.service;
    if let Some(why) = service.absent() {
        return Err(ApiError::unavailable(&why));
    }
    let installable = prepare(service, &request.into_inner(), Wanted::Live).await?;
    let (name, refresh_ms) = (installable.prepared.name.clone(), installable.prepared.refresh_ms);
    let warnings = json!(installable.prepared.warnings);
    let found = service.coordinator.send(EstimateCost(installable)).await;
    let found = found
        .map_err(|error| ApiError::unavailable(&format!("the server is stopping ({error})")))?;
    let mut answer = shown(&found, &service.cost_limits);
    answer["name"] = json!(name);
    answer["refresh_ms"] = json!(refresh_ms);
    answer["diagnostics"] = warnings;
    Ok(HttpResponse::Ok().json(answer))
}

/// A count, as far as one can say it.
fn whole(value: f64) -> u64 {
    value.round() as u64
}

fn shown(found: &Estimate, limits: &CostLimits) -> Json {
    json!({
        "running": found.running,
        "sources": found.sources.iter().map(source).collect::<Vec<_>>(),
        "operators": found.operators.iter().map(operator).collect::<Vec<_>>(),
        "total": totals(&found.total),
        "most": totals(&found.most),
        "assumed": found.assumed,
        "limits": [
            limit("query_cost_max", limits.query_cost_max, found.total.state_bytes),
            limit("query_bytes_max", limits.query_bytes_max, found.total.state_bytes),
        ],
        "within": !found.is_above(limits),
    })
}

fn limit(name: &str, bytes: u64, expected: f64) -> Json {
    let within = bytes == 0 || expected <= bytes as f64;
    json!({ "name": name, "bytes": bytes, "within": within })
}

fn source(cost: &SourceCost) -> Json {
    json!({
        "table": cost.table,
        "shape": cost.shape,
        "feed": cost.feed,
        "nodes": cost.nodes,
        "window_ns": cost.window_ns,
        "panes": cost.panes,
        "table_rows_per_s": cost.table_rows_per_s,
        "passing": cost.passing,
        "rows_to_fill": whole(cost.rows_to_fill),
        "rows_per_s": cost.rows_per_s,
        "rows_kept": whole(cost.rows_kept),
        "groups_kept": cost.groups_kept.map(whole),
        "node_ns_per_row": cost.node_ns_per_row,
        "cpu_ns_per_s": whole(cost.cpu_ns_per_s),
        "fill_cpu_ns": whole(cost.fill_cpu_ns),
        "node_state_bytes": whole(cost.node_state_bytes),
        "state_bytes": whole(cost.state_bytes),
        "bus_bytes_per_s": whole(cost.bus_bytes_per_s),
    })
}

fn operator(cost: &OperatorCost) -> Json {
    json!({
        "op": cost.op,
        "kind": cost.kind,
        "rows": whole(cost.rows),
        "state_bytes": whole(cost.state_bytes),
        "cpu_ns_per_s": whole(cost.cpu_ns_per_s),
        "fill_cpu_ns": whole(cost.fill_cpu_ns),
    })
}

fn totals(total: &CostTotals) -> Json {
    json!({
        "rows_to_fill": whole(total.rows_to_fill),
        "fill_cpu_ns": whole(total.fill_cpu_ns),
        "rows_per_s": total.rows_per_s,
        "cpu_ns_per_s": whole(total.cpu_ns_per_s),
        "node_state_bytes": whole(total.node_state_bytes),
        "state_bytes": whole(total.state_bytes),
        "answer_rows": whole(total.answer_rows),
        "answer_bytes": whole(total.answer_bytes),
        "bus_bytes_per_s": whole(total.bus_bytes_per_s),
    })
}
