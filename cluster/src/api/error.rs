//! Errors as the contract wants them.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use weir_types::Diagnostic;

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
    pub(crate) fn bad_json(error: &actix_web::error::JsonPayloadError) -> ApiError {
        use actix_web::error::JsonPayloadError;
        match error {
            JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
                ApiError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "request_too_large",
                    format!("the request is larger than {} bytes", super::REQUEST_BYTES_MAX),
                )
            }
            JsonPayloadError::ContentType => ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_type",
                "send `Content-Type: application/json`",
            ),
            other => ApiError::new(StatusCode::BAD_REQUEST, "bad_request", other.to_string()),
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
        HttpResponse::build(self.status).json(serde_json::json!({ "error": error }))
    }
}
