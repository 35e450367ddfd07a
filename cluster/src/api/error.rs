//! Errors as the contract wants them.

use actix_web::error::{JsonPayloadError, PayloadError};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use weir_types::Diagnostic;

use super::body::BODY_TIME_MAX;
use crate::planner::PlanError;

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

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> ApiError {
        let status = match &error {
            PlanError::UnknownScript { .. } => StatusCode::NOT_FOUND,
            PlanError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
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
