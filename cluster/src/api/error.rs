//! Errors as the contract wants them.

use actix_web::error::{JsonPayloadError, PayloadError};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use weir_types::Diagnostic;

use super::body::BODY_TIME_MAX;
use crate::planner::PlanError;
use crate::service::{NotCompiled, QUERY_COST};

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub status: StatusCode,
    pub code: String,
    pub message: String,
    pub diagnostics: Vec<Diagnostic>,
}

impl ApiError {
    #[must_use]
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> ApiError {
        ApiError { status, code: code.to_string(), message: message.into(), diagnostics: vec![] }
    }
    pub(super) fn unavailable(message: &str) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// What ended an answer before it began, by the code that a reader is told.
    pub(super) fn ended(code: &str, message: impl Into<String>) -> ApiError {
        ApiError::new(status_of_ending(code), code, message)
    }

    pub(super) fn internal(message: &str) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(super) fn not_found(code: &str, message: String) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// A body that broke off: at its limit, at its time, or on the way.
    pub(super) fn bad_body(error: &PayloadError) -> ApiError {
        match error {
            PayloadError::Overflow => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                "the request is larger than this route takes",
            ),
            PayloadError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "request_timeout",
                    format!("the body took longer than {} s", BODY_TIME_MAX.as_secs()),
                )
            }
            other => ApiError::bad_request(other.to_string()),
        }
    }

    pub(super) fn bad_json(error: &JsonPayloadError) -> ApiError {
        match error {
            JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
                ApiError::bad_body(&PayloadError::Overflow)
            }
            JsonPayloadError::Payload(error) => ApiError::bad_body(error),
            JsonPayloadError::ContentType => ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_type",
                "send `Content-Type: application/json`",
            ),
            other => ApiError::bad_request(other.to_string()),
        }
    }
}

/// Whose fault an ending is: the script's, as the same script would end again (4xx), the server's state,
/// which passes (503), or a fault of ours (500).
fn status_of_ending(code: &str) -> StatusCode {
    match code {
        // What the script asks for is too much, wherever and whenever it runs.
        "state_budget" | "backlog" | "snapshot_too_large" | "query_quarantined" | QUERY_COST => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        "no_source" => StatusCode::BAD_REQUEST,
        // What others ask for at the same time, or what has just happened to the server.
        "engine_budget" | "overflow" | "reader_too_slow" | "view_lost" | "ended" | "removed"
        | "queries_max" => StatusCode::SERVICE_UNAVAILABLE,
        // A panic of an operator, or a code that nobody has thought of.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A script that does not compile is its writer's fault, unless there was no time for it, or the compiler
/// found its own work wrong.
fn status_of_findings(diagnostics: &[Diagnostic]) -> StatusCode {
    let has = |code: &str| diagnostics.iter().any(|finding| finding.code == code);
    if has("internal") {
        StatusCode::INTERNAL_SERVER_ERROR
    } else if has("compile_time") {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::BAD_REQUEST
    }
}

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> ApiError {
        let status = match &error {
            PlanError::UnknownScript { .. } => StatusCode::NOT_FOUND,
            PlanError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            PlanError::Compile(diagnostics) => status_of_findings(diagnostics),
            _ => StatusCode::BAD_REQUEST,
        };
        ApiError {
            status,
            code: error.code().to_string(),
            message: error.to_string(),
            diagnostics: error.diagnostics().to_vec(),
        }
    }
}

impl From<NotCompiled> for ApiError {
    fn from(error: NotCompiled) -> ApiError {
        match error {
            NotCompiled::Plan(error) => error.into(),
            NotCompiled::Busy | NotCompiled::Stopping(_) => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), error.to_string())
            }
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }
    fn error_response(&self) -> HttpResponse {
        let mut error = serde_json::json!({"code": self.code, "message": self.message});
        if !self.diagnostics.is_empty() {
            error["diagnostics"] = serde_json::json!(self.diagnostics);
        }
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(serde_json::json!({ "error": error }))
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Each way in which an answer can end has the status of whose fault it is: catches a limit of a
    /// script's that is told as a fault of the server, so that clients repeat it for ever.
    #[test]
    fn endings_say_whose_fault_they_are() {
        for (message, status) in [
            ("state_budget: 5 bytes", 422),
            ("backlog: 5 bytes", 422),
            ("engine_budget: 5 bytes", 503),
            ("Map: panicked: x", 500),
        ] {
            let error = ApiError::ended(weir_engine::failure_code(message), message);
            assert_eq!(error.status.as_u16(), status, "{message}");
        }
        for (code, status) in [("snapshot_too_large", 422), ("overflow", 503), ("view_lost", 503)] {
            assert_eq!(ApiError::ended(code, "").status.as_u16(), status, "{code}");
        }
    }

    /// A finding about the script is a 400, one about this machine a 503, one about the compiler a 500.
    #[test]
    fn findings_say_whose_fault_they_are() {
        let finding = |code: &str| Diagnostic::of_file(code, "", String::new());
        for (code, status) in [("too_complex", 400), ("compile_time", 503), ("internal", 500)] {
            let error = ApiError::from(PlanError::Compile(vec![finding(code)]));
            assert_eq!(error.status.as_u16(), status, "{code}");
        }
    }
}
