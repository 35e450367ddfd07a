//! With `--test-faults`: kills a part of the running server, to test that the rest goes on and that it comes
//! back, and gives nodes' sources orders. Without the flag the paths do not exist.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use weir_types::source::{CaptureFilters, OrderOutcome, SourceOrder};

use super::{ApiError, ApiState};
use crate::service::{AskOrder, GiveOrder, TestPanic};

/// A node that has not told within this time what became of an order is not asked any longer.
const ORDER_TIME_MAX: Duration = Duration::from_secs(10);
const ORDER_ASKED_EVERY: Duration = Duration::from_millis(20);

/// Kills a part that the cluster part does not own; false if it knows none of this name.
pub type KillPart = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Deserialize)]
pub(super) struct Fault {
    /// `cluster_engine`, `coordinator`, or what the composition knows: `node_engine`, `node_thread`.
    kill: String,
}

fn no_faults() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "start with --test-faults")
}

pub(super) async fn kill(
    state: web::Data<ApiState>,
    fault: web::Json<Fault>,
) -> Result<HttpResponse, ApiError> {
    let Some(kill_part) = &state.kill_part else { return Err(no_faults()) };
    match fault.kill.as_str() {
        "cluster_engine" => state.service.engine.engine().kill_worker(),
        "coordinator" => {
            let sent = state.service.coordinator.try_send(TestPanic);
            sent.map_err(|error| ApiError::unavailable(&error.to_string()))?;
        }
        part if kill_part(part) => {}
        part => {
            let message = format!("there is no part `{part}`");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message));
        }
    }
    Ok(HttpResponse::NoContent().finish())
}

/// An order to the sources of one node.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ordered {
    node: String,
    filters: CaptureFilters,
}

/// Gives the order, and answers with what became of it.
pub(super) async fn order(
    state: web::Data<ApiState>,
    ordered: web::Json<Ordered>,
) -> Result<HttpResponse, ApiError> {
    if state.kill_part.is_none() {
        return Err(no_faults());
    }
    let Ordered { node, filters } = ordered.into_inner();
    let coordinator = &state.service.coordinator;
    let unavailable = |error: weir_actors::SendError| ApiError::unavailable(&error.to_string());
    let order = GiveOrder { node: node.clone(), order: SourceOrder::SetFilters(filters) };
    let given = coordinator.send(order).await.map_err(unavailable)?;
    let id = given.map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", error.to_string())
    })?;
    let asked = async {
        loop {
            let outcome = coordinator.send(AskOrder { node: node.clone(), id }).await;
            match outcome.map_err(unavailable)? {
                Some(outcome) => return Ok::<_, ApiError>(outcome),
                None => actix_web::rt::time::sleep(ORDER_ASKED_EVERY).await,
            }
        }
    };
    let Ok(outcome) = actix_web::rt::time::timeout(ORDER_TIME_MAX, asked).await else {
        return Err(ApiError::unavailable("the node did not tell what became of it"));
    };
    let answer = match outcome? {
        OrderOutcome::Done => json!({"outcome": "done"}),
        OrderOutcome::Refused { reason } => json!({"outcome": "refused", "reason": reason}),
        OrderOutcome::NotMine => json!({"outcome": "not_mine"}),
    };
    Ok(HttpResponse::Ok().json(answer))
}
