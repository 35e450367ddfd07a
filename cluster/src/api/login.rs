//! The login exchange: the token for a session's cookie, and back.

use std::sync::Arc;

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use tracing::warn;

use super::counters::Refusal;
use super::guard::Caller;
use super::sessions::SESSION_SECS_MAX;
use super::{ApiError, ApiState};

#[derive(serde::Deserialize)]
pub(super) struct Login {
    token: String,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Logout {
    all: bool,
}

fn cookie(state: &ApiState, id: String, max_age: Duration) -> Cookie<'static> {
    Cookie::build(state.auth.cookie_name(), id)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(max_age)
        .finish()
}

/// Keeps the sessions for the next start. If that fails, they hold until then.
async fn save(state: &web::Data<ApiState>) {
    let state: Arc<ApiState> = state.clone().into_inner();
    let saved = web::block(move || state.sessions.save()).await;
    if let Ok(Err(error)) = saved {
        warn!(%error, "sessions could not be saved: the next start will not know them");
    }
}

pub(super) async fn login(
    state: web::Data<ApiState>,
    login: web::Json<Login>,
) -> Result<HttpResponse, ApiError> {
    if state.auth.token.is_none() {
        return Ok(HttpResponse::NoContent().finish());
    }
    if !state.auth.is_token(login.token.trim()) {
        return Err(state.counters.refuse(Refusal::Unauthorized, "this token is not the server's"));
    }
    let id = state
        .sessions
        .create(state.now_unix_s())
        .map_err(|error| ApiError::unavailable(&format!("no session could be made: {error}")))?;
    save(&state).await;
    let age = Duration::seconds(i64::try_from(SESSION_SECS_MAX).unwrap_or(i64::MAX));
    Ok(HttpResponse::NoContent().cookie(cookie(&state, id, age)).finish())
}

/// Ends the caller's session, or all of them with `{"all": true}`.
pub(super) async fn logout(
    request: HttpRequest,
    state: web::Data<ApiState>,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    let wanted = if body.is_empty() {
        Logout::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?
    };
    let caller = request.extensions().get::<Caller>().cloned();
    match caller {
        _ if wanted.all => {
            state.sessions.revoke_all();
        }
        Some(Caller::Session(id)) => state.sessions.revoke(&id),
        _ => {
            let message = "a token is no session: say {\"all\": true} to end all sessions";
            return Err(ApiError::bad_request(message));
        }
    }
    save(&state).await;
    Ok(HttpResponse::NoContent().cookie(cookie(&state, String::new(), Duration::ZERO)).finish())
}
