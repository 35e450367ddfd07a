//! The websocket: many subscriptions over one connection, each answered by its id. A bad message
//! ends nothing but itself.
//!
//! What waits for the connection waits in its subscriptions' outboxes, on account, and is encoded into
//! frames when the socket has room ([`super::frames`]). A peer that takes nothing for too long, or of
//! which nothing is heard, is closed by us.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::AggregatedMessage;
use futures_util::StreamExt;
use serde::Deserialize;
use tracing::info;

use super::connection::Connection;
use super::frames::{FramePieces, Frames};
use super::status::{StatusOf, tell_status};
use super::{ApiError, ApiState};
use crate::planner::ScriptRequest;
use crate::service::{Admitted, Outbox, Outgoing, ReaderCounters, Subscribe, Wanted, prepare};

/// Largest message from a client that is looked at: a script and its vis.json.
const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// A larger frame than this cannot even be passed over: the connection ends.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// A live connection is asked for a sign of life so often.
const PING_EVERY_NS: u64 = 20_000_000_000;
/// And closed if none came, nor anything else, for so long.
const SILENT_NS_MAX: u64 = 60_000_000_000;
/// How often a connection looks at its timeouts.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Client → server.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ClientMessage {
    Subscribe {
        id: String,
        /// Not a script's answer, but what something of the server is: `alerts` or `sinks`.
        #[serde(default)]
        status: Option<StatusOf>,
        #[serde(flatten)]
        request: Box<ScriptRequest>,
    },
    Unsubscribe {
        id: String,
    },
}

pub(super) async fn upgrade(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<ApiState>,
) -> Result<HttpResponse, actix_web::Error> {
    let Some(admitted) = state.service.readers.admit_websocket() else {
        let max = state.service.readers.limits.websockets_max;
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_connections",
            format!("{max} websockets are open already"),
        )
        .into());
    };
    let connection = Connection::of(&request);
    let (response, _session, stream) = actix_ws::handle(&request, body)?;
    let frames = Arc::new(Frames::new(&state.service));
    let response = response.map_body(|_, inner| FramePieces::body(&frames, inner));
    let stream = stream
        .max_frame_size(FRAME_BYTES_MAX)
        .aggregate_continuations()
        .max_continuation_size(FRAME_BYTES_MAX);
    let now_ns = state.service.clock.monotonic_ns();
    let socket = Socket {
        state,
        frames,
        connection,
        open: BTreeMap::new(),
        heard_ns: now_ns,
        pinged_ns: now_ns,
        _admitted: admitted,
    };
    actix_web::rt::spawn(socket.run(stream));
    Ok(response.map_into_boxed_body())
}

/// One subscription of a connection. Dropped, it leaves its view.
struct Open {
    outbox: Arc<Outbox>,
    /// Compiles, waits for sources and subscribes.
    task: actix_web::rt::task::JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
        self.outbox.leave();
    }
}

struct Socket {
    state: web::Data<ApiState>,
    frames: Arc<Frames>,
    connection: Connection,
    open: BTreeMap<String, Open>,
    heard_ns: u64,
    pinged_ns: u64,
    _admitted: Admitted,
}

impl Socket {
    async fn run(mut self, mut stream: actix_ws::AggregatedMessageStream) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Who does not take our answers is not read either.
            let takes = self.frames.takes_more();
            tokio::select! {
                message = stream.next(), if takes => {
                    let Some(message) = message else { break };
                    self.heard_ns = self.state.service.clock.monotonic_ns();
                    if !self.on_message(message) {
                        break;
                    }
                }
                _ = look.tick() => {
                    if !self.look() {
                        self.connection.close_now();
                        break;
                    }
                }
            }
        }
        self.open.clear();
        self.frames.close(None);
        self.wait_closed().await;
    }

    /// The last frames go out, but not for ever.
    async fn wait_closed(&mut self) {
        let timeout = Duration::from_millis(self.state.service.readers.limits.write_timeout_ms);
        if tokio::time::timeout(timeout, self.frames.closed()).await.is_err() {
            self.connection.close_now();
        }
    }

    /// False: the connection is to be closed.
    fn look(&mut self) -> bool {
        let now_ns = self.state.service.clock.monotonic_ns();
        let readers = &self.state.service.readers;
        if self.frames.waits_since(now_ns) > readers.limits.write_timeout_ms * 1_000_000 {
            info!(
                timeout_ms = readers.limits.write_timeout_ms,
                "a reader took nothing of what waits for it: closed"
            );
            ReaderCounters::count(&readers.counters.stalled_total);
            return false;
        }
        if now_ns.saturating_sub(self.heard_ns) > SILENT_NS_MAX {
            ReaderCounters::count(&readers.counters.silent_total);
            return false;
        }
        if now_ns.saturating_sub(self.pinged_ns) > PING_EVERY_NS {
            self.pinged_ns = now_ns;
            self.frames.ping();
        }
        true
    }

    /// False once the client is gone.
    fn on_message(&mut self, message: Result<AggregatedMessage, actix_ws::ProtocolError>) -> bool {
        match message {
            Ok(AggregatedMessage::Text(text)) => self.on_text(&text),
            Ok(AggregatedMessage::Ping(bytes)) => self.frames.pong(&bytes),
            Ok(AggregatedMessage::Pong(_)) => {}
            Ok(AggregatedMessage::Binary(_)) => {
                self.send_error("", &bad_message("send text, not binary"));
            }
            Ok(AggregatedMessage::Close(_)) => return false,
            Err(actix_ws::ProtocolError::Overflow) => {
                self.send_error("", &too_large(FRAME_BYTES_MAX));
                self.frames.close(Some((1009, "message too large")));
                return false;
            }
            Err(_) => return false,
        }
        true
    }

    fn on_text(&mut self, text: &str) {
        if text.len() > MESSAGE_BYTES_MAX {
            self.send_error("", &too_large(MESSAGE_BYTES_MAX));
            return;
        }
        match serde_json::from_str(text) {
            Ok(ClientMessage::Subscribe { id, status, request }) => {
                self.subscribe(id, *request, status);
            }
            Ok(ClientMessage::Unsubscribe { id }) => match self.open.remove(&id) {
                Some(open) => {
                    drop(open);
                    self.frames.remove(&id);
                    self.frames.say(&id, &Outgoing::End("unsubscribed".into()));
                }
                None => {
                    let message = "there is no subscription of this id";
                    let error = ApiError::new(StatusCode::NOT_FOUND, "unknown_id", message);
                    self.send_error(&id, &error);
                }
            },
            Err(error) => {
                let id = serde_json::from_str::<serde_json::Value>(text)
                    .ok()
                    .and_then(|json| Some(json.get("id")?.as_str()?.to_string()))
                    .unwrap_or_default();
                self.send_error(&id, &bad_message(&error.to_string()));
            }
        }
    }

    fn send_error(&self, id: &str, error: &ApiError) {
        self.frames.say(id, &error_message(error));
    }

    fn subscribe(&mut self, id: String, request: ScriptRequest, status: Option<StatusOf>) {
        let readers = &self.state.service.readers;
        let frames = &self.frames;
        self.open.retain(|id, _| frames.holds(id));
        let refused =
            |code: &str, message: String| ApiError::new(StatusCode::CONFLICT, code, message);
        if self.open.contains_key(&id) {
            let message = "this id is subscribed already: unsubscribe it first".to_string();
            return self.send_error(&id, &refused("id_in_use", message));
        }
        let max = readers.limits.subscriptions_max;
        if self.open.len() >= max {
            ReaderCounters::count(&readers.counters.refused_total);
            let message = format!("one connection may hold {max} subscriptions");
            return self.send_error(&id, &refused("too_many_subscriptions", message));
        }
        let outbox = Outbox::new(self.frames.client(), readers);
        self.frames.add(&id, &outbox);
        let state = self.state.clone();
        let to = Arc::clone(&outbox);
        let task = match status {
            Some(of) => {
                actix_web::rt::spawn(async move { tell_status(&state.service, of, &to).await })
            }
            None => actix_web::rt::spawn(subscribe(state, request, to)),
        };
        self.open.insert(id, Open { outbox, task });
    }
}

/// The whole way from a request to a place among the view's readers. What fails is told by the outbox,
/// which then ends.
async fn subscribe(state: web::Data<ApiState>, request: ScriptRequest, outbox: Arc<Outbox>) {
    let service = &state.service;
    let told = match prepare(service, &request, Wanted::Live).await {
        Ok(installable) => {
            let outbox = Arc::clone(&outbox);
            let (wanted, accepts_cost) = (Wanted::Live, request.accept_cost);
            let subscribe = Subscribe { installable, outbox, wanted, since: None, accepts_cost };
            match service.coordinator.send(subscribe).await {
                Ok(Ok(_)) => return,
                Ok(Err(refusal)) => ApiError::ended(refusal.code, refusal.message),
                Err(error) => ApiError::unavailable(&error.to_string()),
            }
        }
        Err(error) => error.into(),
    };
    outbox.refuse(error_message(&told));
}

fn error_message(error: &ApiError) -> Outgoing {
    let members = format!("\"diagnostics\":{}", serde_json::json!(error.diagnostics));
    Outgoing::error(&error.code, &error.message, &members)
}

fn bad_message(message: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_message", message)
}

fn too_large(bytes_max: usize) -> ApiError {
    let message = format!("a message may have {bytes_max} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", message)
}
