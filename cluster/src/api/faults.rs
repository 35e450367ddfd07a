//! With `--test-faults`: kills a part of the running server, to test that the rest goes on and that it comes
//! back. Without the flag the path does not exist.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::{ApiError, ApiState};
use crate::service::TestPanic;

/// Kills a part that the cluster part does not own; false if it knows none of this name.
pub type KillPart = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Deserialize)]
pub(super) struct Fault {
    /// `cluster_engine`, `coordinator`, or what the composition knows: `node_engine`, `node_thread`.
    kill: String,
}

pub(super) async fn kill(
    state: web::Data<ApiState>,
    fault: web::Json<Fault>,
) -> Result<HttpResponse, ApiError> {
    let Some(kill_part) = &state.kill_part else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "start with --test-faults"));
    };
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
