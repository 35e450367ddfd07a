//! Compiling for clients: off the threads that serve, few at a time, within a time, and only as long as
//! the client waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::web;
use serde_json::{Value as Json, json};
use weir_pxl::{Cancel, Deadline};
use weir_types::WallClock;

use super::ApiError;
use crate::planner::{Allowance, PlanError};
use crate::service::Compiles;

/// Longest wait for one's turn.
const TURN_WAIT: Duration = Duration::from_secs(20);

static COMPILED: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
static OUT_OF_TIME: AtomicU64 = AtomicU64::new(0);
static CANCELLED: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicU64 = AtomicU64::new(0);
/// Refused for what they would cost, by the code of their first finding.
static TOO_MUCH: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// Codes of findings that a limit of the compiler makes.
const LIMIT_CODES: [&str; 10] = [
    "too_complex",
    "too_deep",
    "compile_time",
    "value_too_large",
    "name_too_long",
    "copies_max",
    "patterns_max",
    "columns_max",
    "outputs_max",
    "script_too_large",
];

/// Runs a compile. Dropping the future cancels it: what has begun ends within milliseconds.
pub(super) async fn run<T: Send + 'static>(
    compiles: &Compiles,
    work: impl FnOnce(&Allowance) -> Result<T, PlanError> + Send + 'static,
) -> Result<T, ApiError> {
    let turns = Arc::clone(&compiles.turns);
    let turn = tokio::time::timeout(TURN_WAIT, turns.acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        BUSY.fetch_add(1, Ordering::Relaxed);
        let message = "others are compiling scripts: try again";
        return Err(ApiError::new(
            actix_web::http::StatusCode::SERVICE_UNAVAILABLE,
            "compile_busy",
            message,
        ));
    };
    let cancel = Cancel::default();
    let _gone = cancel.on_drop();
    let deadline = Deadline::after(Arc::new(WallClock), compiles.limits.time_max);
    let work_max = Some(compiles.limits.work_max);
    let allowance = Allowance { cancel, deadline: Some(deadline), work_max };
    // The turn goes with the work: who leaves gives it back when the work has ended.
    let done = web::block(move || {
        let result = work(&allowance);
        drop(turn);
        count(&result);
        result
    });
    let result = done.await.map_err(|error| ApiError::unavailable(&error.to_string()))?;
    result.map_err(ApiError::from)
}

fn count<T>(result: &Result<T, PlanError>) {
    let first = result.as_ref().err().and_then(|error| error.diagnostics().first());
    if let Some(first) = first.filter(|first| LIMIT_CODES.contains(&first.code.as_str())) {
        let mut too_much = TOO_MUCH.lock().unwrap_or_else(PoisonError::into_inner);
        *too_much.entry(first.code.clone()).or_default() += 1;
    }
    let counter = match result {
        Ok(_) => &COMPILED,
        Err(_) => match first.map(|first| first.code.as_str()) {
            Some("cancelled") => &CANCELLED,
            Some("compile_time") => &OUT_OF_TIME,
            _ => &REFUSED,
        },
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What became of them, since the program started.
pub(super) fn counts_json() -> Json {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "compiled": count(&COMPILED),
        "refused": count(&REFUSED),
        "out_of_time": count(&OUT_OF_TIME),
        "cancelled": count(&CANCELLED),
        "busy": count(&BUSY),
        "limits": *TOO_MUCH.lock().unwrap_or_else(PoisonError::into_inner),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::CompileLimits;

    /// A compile whose client leaves is told so: catches work that goes on for nobody.
    #[actix_web::test]
    async fn a_client_that_leaves_cancels() {
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        let compiles = Compiles::new(CompileLimits::default());
        let compile = async move {
            run(&compiles, move |allowance| {
                started.send(()).unwrap();
                while !allowance.cancel.is_cancelled() {
                    std::thread::yield_now();
                }
                ended.send(()).unwrap();
                Err::<(), PlanError>(PlanError::NoScript)
            })
            .await
        };
        let client = actix_web::rt::spawn(compile);
        has_started.await.unwrap();
        client.abort();
        has_ended.await.unwrap();
    }
}
