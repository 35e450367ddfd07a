//! The two gates of every request.
//!
//! [`address`] stands before routing and asks what holds whatever is wanted: one `Host`, ours; an
//! `Origin` of ours; nothing that two readers could read in two ways. [`admit`] stands around each
//! route, so behind the router: it goes by what the route says of itself and never looks at a path,
//! which has many spellings. A route that says nothing is closed.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};
use std::sync::Arc;

use super::auth::{Auth, bearer_token};
use super::body;
use super::connections::Newcomer;
use super::counters::Refusal;
use super::{ApiError, ApiState};

/// Session cookies of one request that are looked at: another port of this host can set more.
const COOKIES_MAX: usize = 4;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever has the token, or a session that was opened with it.
    Closed,
    /// Everybody.
    Open,
}

/// What a route takes as its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// At most so many bytes.
    Bytes(usize),
    /// A websocket: frames have their own limits.
    Stream,
}

/// What a route says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) access: Access,
    pub(super) body: Body,
}

/// By what somebody came in; an extension of every admitted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// With the token, or there is none.
    Token,
    Session(String),
}

fn state_of(request: &HttpRequest) -> Result<&web::Data<ApiState>, ApiError> {
    request
        .app_data::<web::Data<ApiState>>()
        .ok_or_else(|| ApiError::internal("the server has no state"))
}

/// Before routing.
pub(super) async fn address(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    check_address(request.request())?;
    next.call(request).await
}

fn check_address(request: &HttpRequest) -> Result<(), ApiError> {
    let state = state_of(request)?;
    let refuse = |refusal, message: String| Err(state.counters.refuse(refusal, message));
    // Each of these decides something; of two, another program may have looked at the other one.
    for name in [header::HOST, header::ORIGIN, header::AUTHORIZATION, header::CONTENT_TYPE] {
        if request.headers().get_all(&name).count() > 1 {
            return refuse(Refusal::Ambiguous, format!("there is more than one `{name}` header"));
        }
    }
    let Some(host) = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return refuse(Refusal::Ambiguous, "a `Host` header is needed".to_string());
    };
    let authority = request.uri().authority().map(|authority| authority.as_str());
    if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
        let message = "the `Host` header is not the request target's authority".to_string();
        return refuse(Refusal::Ambiguous, message);
    }
    if !state.auth.host_allowed(host) {
        let message =
            format!("`{host}` is not a name of this server; allow it with `weir up --host NAME`");
        return refuse(Refusal::Host, message);
    }
    if let Some(origin) = request.headers().get(header::ORIGIN)
        && !Auth::origin_allowed(origin.to_str().unwrap_or_default(), host)
    {
        return refuse(Refusal::Origin, "another page may not call this server".to_string());
    }
    Ok(())
}

/// Around a route.
pub(super) async fn admit(
    policy: Policy,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let state = state_of(request.request())?.clone();
    let caller = check(&state, policy.access, request.request())?;
    if changes_state(request.method()) && !is_json(request.request()) {
        let message = "send `Content-Type: application/json`";
        return Err(state.counters.refuse(Refusal::ContentType, message).into());
    }
    let payload = request.take_payload();
    let payload = match (policy.body, &caller) {
        (Body::Bytes(bytes_max), _) => {
            if announced_bytes(request.request()).is_some_and(|bytes| bytes > bytes_max as u64) {
                let message = format!("this request may have {bytes_max} bytes");
                return Err(state.counters.refuse(Refusal::TooLarge, message).into());
            }
            body::bounded(payload, bytes_max, state.counters.clone())
        }
        (Body::Stream, Some(Caller::Session(id))) => {
            // Ended since the check: there is nothing to wait for.
            let over = state.sessions.find(id, state.now_unix_s());
            body::until(payload, async {
                if let Some(over) = over {
                    over.await
                }
            })
        }
        (Body::Stream, _) => payload,
    };
    request.set_payload(payload);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    next.call(request).await
}

/// Who calls, or why he may not.
pub(super) fn check(
    state: &ApiState,
    access: Access,
    request: &HttpRequest,
) -> Result<Option<Caller>, ApiError> {
    let caller = caller(state, request);
    if caller.is_some()
        && let Some(newcomer) = request.conn_data::<Arc<Newcomer>>()
    {
        newcomer.admit();
    }
    if caller.is_none() && access == Access::Closed {
        return Err(state.counters.refuse(
            Refusal::Unauthorized,
            "a token is needed: it is in the data directory's `token` file, and in the login link \
             that `weir up` prints",
        ));
    }
    Ok(caller)
}

fn caller(state: &ApiState, request: &HttpRequest) -> Option<Caller> {
    if state.auth.token.is_none() {
        return Some(Caller::Token);
    }
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let given = value.to_str().ok().and_then(bearer_token)?;
        return state.auth.is_token(given).then_some(Caller::Token);
    }
    let name = state.auth.cookie_name();
    let cookies = request.cookies().ok()?;
    let mine = cookies.iter().filter(|cookie| cookie.name() == name).take(COOKIES_MAX);
    let now_unix_s = state.now_unix_s();
    let known = |id: &str| state.sessions.find(id, now_unix_s).is_some();
    mine.map(|cookie| cookie.value()).find(|id| known(id)).map(|id| Caller::Session(id.to_string()))
}

fn changes_state(method: &Method) -> bool {
    !method.is_safe()
}

fn is_json(request: &HttpRequest) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn announced_bytes(request: &HttpRequest) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
