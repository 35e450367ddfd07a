//! What `px.export` declares: rows of a frame as OpenTelemetry metrics or spans. The declaration is
//! complete and typed; sending it is not the compiler's work.

use std::fmt;

use serde::{Deserialize, Serialize};
use weir_types::Plan;

/// Where OTLP goes. It may hold secrets: shown for debugging it says whether it has a URL and names headers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtelEndpoint {
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// Without TLS.
    pub insecure: bool,
    pub timeout_s: i64,
}

impl fmt::Debug for OtelEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let url = if self.url.is_empty() { "" } else { "***" };
        f.debug_struct("OtelEndpoint")
            .field("url", &url)
            .field("headers", &names)
            .field("insecure", &self.insecure)
            .field("timeout_s", &self.timeout_s)
            .finish()
    }
}

/// A frame and what becomes of its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// One output, `export`, with the columns that are named below.
    pub plan: Plan,
    pub endpoint: OtelEndpoint,
    /// Holds `service.name`.
    pub resource: Vec<OtelAttribute>,
    pub data: Vec<OtelData>,
}

/// The specification, before the frame is compiled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExportSpec {
    pub(crate) endpoint: OtelEndpoint,
    pub(crate) resource: Vec<OtelAttribute>,
    pub(crate) data: Vec<OtelData>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtelAttribute {
    pub name: String,
    pub value: OtelValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtelValue {
    Literal(String),
    Column {
        name: String,
        /// The text may be a JSON array of names: the row stands for one resource each.
        json_array: bool,
    },
}

/// What one row becomes. Fields that name columns hold their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OtelData {
    Gauge {
        name: String,
        description: String,
        /// Always there in a finished [`Export`].
        unit: Option<String>,
        value: String,
        attributes: Vec<OtelAttribute>,
    },
    Summary {
        name: String,
        description: String,
        /// Always there in a finished [`Export`].
        unit: Option<String>,
        count: String,
        sum: String,
        /// Quantile → column.
        quantiles: Vec<(f64, String)>,
        attributes: Vec<OtelAttribute>,
    },
    Span {
        name: OtelValue,
        start_time: String,
        end_time: String,
        trace_id: Option<String>,
        span_id: Option<String>,
        parent_span_id: Option<String>,
        kind: SpanKind,
        attributes: Vec<OtelAttribute>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpanKind {
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

impl SpanKind {
    /// In the order of their numbers in OTLP, with the names of the constants.
    pub(crate) const ALL: [(&'static str, SpanKind); 6] = [
        ("SPAN_KIND_UNSPECIFIED", SpanKind::Unspecified),
        ("SPAN_KIND_INTERNAL", SpanKind::Internal),
        ("SPAN_KIND_SERVER", SpanKind::Server),
        ("SPAN_KIND_CLIENT", SpanKind::Client),
        ("SPAN_KIND_PRODUCER", SpanKind::Producer),
        ("SPAN_KIND_CONSUMER", SpanKind::Consumer),
    ];
}
