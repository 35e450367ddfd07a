//! What the API turned away, and how full its own tables are. Every refusal is made here, so that
//! none goes uncounted; who is refused is decided elsewhere.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::StatusCode;

use super::ApiError;

/// Why a request was turned away before its handler could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unauthorized,
    Host,
    Origin,
    /// Two headers where one decides, or a target that contradicts its `Host`.
    Ambiguous,
    ContentType,
    TooLarge,
    TooSlow,
}

impl Refusal {
    const ALL: [Refusal; 7] = [
        Refusal::Unauthorized,
        Refusal::Host,
        Refusal::Origin,
        Refusal::Ambiguous,
        Refusal::ContentType,
        Refusal::TooLarge,
        Refusal::TooSlow,
    ];

    /// The error's code, and the `reason` of its counter.
    fn code(self) -> &'static str {
        match self {
            Refusal::Unauthorized => "unauthorized",
            Refusal::Host => "host_not_allowed",
            Refusal::Origin => "origin_not_allowed",
            Refusal::Ambiguous => "ambiguous_request",
            Refusal::ContentType => "content_type",
            Refusal::TooLarge => "request_too_large",
            Refusal::TooSlow => "request_timeout",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
            Refusal::Host | Refusal::Origin => StatusCode::FORBIDDEN,
            Refusal::Ambiguous => StatusCode::BAD_REQUEST,
            Refusal::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// Counters and gauges of one server's API.
#[derive(Debug, Default)]
pub(super) struct Counters {
    refused: [AtomicU64; Refusal::ALL.len()],
    pub(super) connections: AtomicU64,
    /// Those on which nobody has shown leave yet.
    pub(super) newcomers: AtomicU64,
    /// Those that were closed because of that: after their time, or to make room.
    pub(super) newcomers_closed: AtomicU64,
    /// Sessions that made room for newer ones.
    pub(super) sessions_evicted: AtomicU64,
}

impl Counters {
    /// The refusal's error, counted.
    pub(super) fn refuse(&self, refusal: Refusal, message: impl Into<String>) -> ApiError {
        self.count(refusal);
        ApiError::new(refusal.status(), refusal.code(), message)
    }

    pub(super) fn count(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The `api` object of `weir stats`.
    pub(super) fn json(&self, sessions: usize) -> serde_json::Value {
        let refused: serde_json::Map<String, serde_json::Value> = Refusal::ALL
            .iter()
            .zip(&self.refused)
            .map(|(refusal, count)| (refusal.code().to_string(), load(count).into()))
            .collect();
        serde_json::json!({
            "connections": load(&self.connections),
            "newcomers": load(&self.newcomers),
            "newcomers_closed": load(&self.newcomers_closed),
            "sessions": sessions,
            "sessions_evicted": load(&self.sessions_evicted),
            "refused": refused,
        })
    }

    /// The same as Prometheus' text.
    pub(super) fn write_metrics(&self, out: &mut String, sessions: usize) {
        let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        metric("weir_api_connections", "gauge", "Open.", load(&self.connections));
        metric("weir_api_newcomers", "gauge", "Without leave yet.", load(&self.newcomers));
        let closed = load(&self.newcomers_closed);
        metric("weir_api_newcomers_closed_total", "counter", "Without leave in time.", closed);
        metric("weir_api_sessions", "gauge", "Of browsers.", sessions as u64);
        let evicted = load(&self.sessions_evicted);
        metric("weir_api_sessions_evicted_total", "counter", "Made room.", evicted);
        out.push_str("# HELP weir_api_refused_total Requests turned away.\n");
        out.push_str("# TYPE weir_api_refused_total counter\n");
        for (refusal, count) in Refusal::ALL.iter().zip(&self.refused) {
            let (reason, count) = (refusal.code(), load(count));
            let _ = writeln!(out, "weir_api_refused_total{{reason=\"{reason}\"}} {count}");
        }
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
