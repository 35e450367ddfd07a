//! The websocket: many subscriptions over one connection, each answered by its id. A bad message
//! ends nothing but itself.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, Session};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::mpsc;
use weir_sinks::json::with_id;

use super::http::prepare;
use super::{ApiError, ApiState, SUBSCRIPTIONS_PER_CLIENT_MAX};
use crate::planner::ScriptRequest;
use crate::service::{Outgoing, SUBSCRIBER_MESSAGES_MAX, Subscribe, Subscribed, Unsubscribe};

/// Largest message from a client.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Client → server.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ClientMessage {
    Subscribe {
        id: String,
        #[serde(flatten)]
        request: ScriptRequest,
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
    let (response, session, stream) = actix_ws::handle(&request, body)?;
    let stream = stream
        .max_frame_size(MESSAGE_BYTES_MAX)
        .aggregate_continuations()
        .max_continuation_size(MESSAGE_BYTES_MAX);
    actix_web::rt::spawn(async move {
        Connection { state, session, subscriptions: HashMap::new() }.run(stream).await;
    });
    Ok(response)
}

struct Open {
    subscribed: Subscribed,
    /// Dropping it ends the forwarding task.
    forward: actix_web::rt::task::JoinHandle<()>,
}

struct Connection {
    state: web::Data<ApiState>,
    session: Session,
    subscriptions: HashMap<String, Open>,
}

impl Connection {
    async fn run(mut self, mut stream: actix_ws::AggregatedMessageStream) {
        while let Some(message) = stream.next().await {
            let going = match message {
                Ok(AggregatedMessage::Text(text)) => self.on_text(&text).await,
                Ok(AggregatedMessage::Ping(bytes)) => self.session.pong(&bytes).await.is_ok(),
                Ok(AggregatedMessage::Close(_)) | Err(_) => false,
                Ok(AggregatedMessage::Binary(_)) => {
                    self.send_error("", "bad_message", "send text, not binary", &[]).await
                }
                Ok(AggregatedMessage::Pong(_)) => true,
            };
            if !going {
                break;
            }
        }
        let open: Vec<Open> = self.subscriptions.drain().map(|(_, open)| open).collect();
        for open in open {
            self.leave(open).await;
        }
        let _ = self.session.close(None).await;
    }

    /// False once the client is gone.
    async fn on_text(&mut self, text: &str) -> bool {
        match serde_json::from_str(text) {
            Ok(ClientMessage::Subscribe { id, request }) => self.subscribe(id, request).await,
            Ok(ClientMessage::Unsubscribe { id }) => match self.subscriptions.remove(&id) {
                Some(open) => {
                    self.leave(open).await;
                    let end = Outgoing::end("unsubscribed");
                    self.session.text(with_id(end.kind, &id, &end.body)).await.is_ok()
                }
                None => {
                    let message = "there is no subscription of this id";
                    self.send_error(&id, "unknown_id", message, &[]).await
                }
            },
            Err(error) => {
                let id = serde_json::from_str::<serde_json::Value>(text)
                    .ok()
                    .and_then(|json| Some(json.get("id")?.as_str()?.to_string()))
                    .unwrap_or_default();
                self.send_error(&id, "bad_message", &error.to_string(), &[]).await
            }
        }
    }

    async fn leave(&self, open: Open) {
        open.forward.abort();
        let Subscribed { query, number } = open.subscribed;
        let _ = self.state.service.coordinator.send(Unsubscribe { query, number }).await;
    }

    async fn send_error(
        &mut self,
        id: &str,
        code: &str,
        message: &str,
        diagnostics: &[weir_types::Diagnostic],
    ) -> bool {
        let members = format!("\"diagnostics\":{}", serde_json::json!(diagnostics));
        let error = Outgoing::error(code, message, &members);
        self.session.text(with_id(error.kind, id, &error.body)).await.is_ok()
    }

    async fn subscribe(&mut self, id: String, request: ScriptRequest) -> bool {
        self.subscriptions.retain(|_, open| !open.forward.is_finished());
        if self.subscriptions.contains_key(&id) {
            let message = "this id is subscribed already: unsubscribe it first";
            return self.send_error(&id, "id_in_use", message, &[]).await;
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_PER_CLIENT_MAX {
            let message =
                format!("one connection may hold {SUBSCRIPTIONS_PER_CLIENT_MAX} subscriptions");
            return self.send_error(&id, "too_many_subscriptions", &message, &[]).await;
        }
        match self.try_subscribe(&request).await {
            Ok((subscribed, inbox)) => {
                let forward = actix_web::rt::spawn(forward(
                    id.clone(),
                    self.session.clone(),
                    inbox,
                    self.state.clone(),
                ));
                self.subscriptions.insert(id, Open { subscribed, forward });
                true
            }
            Err(error) => {
                self.send_error(&id, &error.code, &error.message, &error.diagnostics).await
            }
        }
    }

    async fn try_subscribe(
        &self,
        request: &ScriptRequest,
    ) -> Result<(Subscribed, mpsc::Receiver<Outgoing>), ApiError> {
        let prepared = prepare(&self.state.service, request).await?;
        let (sender, inbox) = mpsc::channel(SUBSCRIBER_MESSAGES_MAX);
        let subscribed = self
            .state
            .service
            .coordinator
            .send(Subscribe { prepared, sender })
            .await
            .map_err(|error| ApiError::unavailable(&error.to_string()))?
            .map_err(|message| ApiError::unavailable(&message))?;
        Ok((subscribed, inbox))
    }
}

/// Hands one subscription's messages to the socket. The channel ends when the query does, or when
/// this reader was too slow for it.
async fn forward(
    id: String,
    mut session: Session,
    mut inbox: mpsc::Receiver<Outgoing>,
    state: web::Data<ApiState>,
) {
    let mut ended = false;
    while let Some(message) = inbox.recv().await {
        ended |= message.kind == "end";
        if session.text(with_id(message.kind, &id, &message.body)).await.is_err() {
            return;
        }
        if message.kind == "changes" && message.tick_unix_ns != 0 {
            let now_unix_ns = state.service.clock.now_unix_ns();
            state.service.freshness.handed_over(
                now_unix_ns,
                message.tick_unix_ns,
                &message.events_unix_ns,
            );
        }
    }
    if !ended {
        let message = "the view ended, or this reader was too slow for it: subscribe again";
        let error = Outgoing::error("view_lost", message, "");
        let end = Outgoing::end("view_lost");
        for outgoing in [error, end] {
            let _ = session.text(with_id(outgoing.kind, &id, &outgoing.body)).await;
        }
    }
}
