//! `POST /api/v1/run`: one answer, the snapshot at a frontier from now on. It is sent as it is made, as
//! fast as the client takes it; a client that leaves takes its reader, and so its query, with it.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use weir_sinks::json::with_id;
use weir_types::Diagnostic;

use super::connection::Connection;
use super::stream::{Asked, Pieces, StreamBody};
use super::{ApiError, ApiState};
use crate::planner::ScriptRequest;
use crate::service::{
    OutboxReader, Outgoing, RUN_JOINS_WITHIN_MS, ReaderCounters, Service, Subscribe, Wanted,
    prepare,
};

/// Longest wait for the answer to begin.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a running answer looks at whether its client takes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(
    http: HttpRequest,
    state: web::Data<ApiState>,
    request: web::Json<ScriptRequest>,
) -> Result<HttpResponse, ApiError> {
    let late = || ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "no answer in 30 s");
    let connection = Connection::of(&http);
    let begun = begin(&state.service, request.into_inner());
    let (reader, first, warnings) =
        tokio::time::timeout(RUN_TIMEOUT, begun).await.map_err(|_| late())??;
    let asked = Arc::new(Asked::default());
    actix_web::rt::spawn(watch(state.clone(), connection, Arc::downgrade(&asked)));
    let pieces = RunPieces { reader, first: first.into_iter(), state: Stage::Open, warnings };
    let body = StreamBody::new(pieces, asked, Arc::clone(&state.service.clock));
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

/// Up to the first rows: what fails until then has a status of its own.
pub(super) async fn begin(
    service: &Service,
    mut request: ScriptRequest,
) -> Result<(OutboxReader, Vec<Outgoing>, Vec<Diagnostic>), ApiError> {
    if let Some(why) = service.absent() {
        return Err(ApiError::unavailable(&why));
    }
    // Who names a refresh has time for one.
    let within_ms = request.refresh_ms.unwrap_or(RUN_JOINS_WITHIN_MS);
    let wanted = match request.stale_ok {
        true => Wanted::Stale { within_ms },
        false => Wanted::Once { within_ms },
    };
    request.refresh_ms = request.refresh_ms.or(Some(service.tick_ms));
    let accepts_cost = request.accept_cost;
    let installable = prepare(service, &request, wanted).await?;
    let warnings = installable.prepared.warnings.clone();
    let reader = OutboxReader::new(&service.readers);
    let outbox = Arc::clone(&reader.outbox);
    let subscribe = Subscribe { installable, outbox, wanted, since: None, accepts_cost };
    let subscribed = service.coordinator.send(subscribe).await;
    subscribed
        .map_err(|error| ApiError::unavailable(&format!("the server is stopping ({error})")))?
        .map_err(|refusal| ApiError::ended(refusal.code, refusal.message))?;
    let mut first = Vec::new();
    while let Some(message) = std::future::poll_fn(|cx| reader.poll(cx)).await {
        let (begun, ended) = match &message {
            Outgoing::Delivery(_) => (true, false),
            Outgoing::End(_) => (false, true),
            Outgoing::Schema(_) | Outgoing::Error(_) | Outgoing::Status { .. } => (false, false),
        };
        first.push(message);
        if begun {
            return Ok((reader, first, warnings));
        }
        if ended {
            break;
        }
    }
    Err(reason_of(&first))
}

/// What ended the answer before it began.
fn reason_of(messages: &[Outgoing]) -> ApiError {
    let said = messages.iter().rev().find_map(|message| match message {
        Outgoing::Error(note) => Some((note.code.clone(), note.message.clone())),
        _ => None,
    });
    let (code, message) =
        said.unwrap_or_else(|| ("ended".into(), "the query ended without an answer".into()));
    ApiError::ended(&code, message)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Messages have been written.
    Going,
    /// The last one has.
    Closing,
    Done,
}

/// `{"messages":[…],"diagnostics":[…]}`, a message at a time.
struct RunPieces {
    reader: OutboxReader,
    first: std::vec::IntoIter<Outgoing>,
    state: Stage,
    /// Of the script, told at the end.
    warnings: Vec<Diagnostic>,
}

impl RunPieces {
    fn text(&mut self, message: &Outgoing) -> web::Bytes {
        let mut out = String::new();
        for text in &*message.live() {
            if self.state == Stage::Closing {
                break;
            }
            out.push_str(if self.state == Stage::Open { "{\"messages\":[" } else { "," });
            out.push_str(&with_id(text.kind, "run", &text.body));
            let last = matches!(text.kind, "progress" | "end");
            self.state = if last { Stage::Closing } else { Stage::Going };
        }
        out.into()
    }

    fn end(&self) -> web::Bytes {
        format!("],\"diagnostics\":{}}}", serde_json::json!(self.warnings)).into()
    }
}

impl Pieces for RunPieces {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<web::Bytes>> {
        if self.state == Stage::Done {
            return Poll::Ready(None);
        }
        if self.state == Stage::Closing {
            self.state = Stage::Done;
            return Poll::Ready(Some(self.end()));
        }
        let message = match self.first.next() {
            Some(message) => Some(message),
            None => std::task::ready!(self.reader.poll(cx)),
        };
        let Some(message) = message else {
            self.state = Stage::Done;
            return Poll::Ready(Some(self.end()));
        };
        Poll::Ready(Some(self.text(&message)))
    }
}

/// Closes the connection of a client that does not take its answer.
async fn watch(state: web::Data<ApiState>, connection: Connection, asked: Weak<Asked>) {
    let readers = &state.service.readers;
    let timeout_ns = readers.limits.write_timeout_ms * 1_000_000;
    let started_ns = state.service.clock.monotonic_ns();
    loop {
        actix_web::rt::time::sleep(LOOK_EVERY).await;
        let Some(asked) = asked.upgrade() else { return };
        let asked_ns = asked.last_ns().max(started_ns);
        if state.service.clock.monotonic_ns().saturating_sub(asked_ns) > timeout_ns {
            ReaderCounters::count(&readers.counters.stalled_total);
            connection.close_now();
            return;
        }
    }
}
