//! `POST /api/v2/alerts`

use serde_json::{Value as Json, json};
use weir_types::json::time_text;

use crate::state::Notice;

/// Alerts of a request, as Prometheus sends them. One that is refused takes these with it, so the sender halves a
/// refused batch until it has found the one.
pub const BATCH_ALERTS_MAX: usize = 256;

/// The body of a request. Alertmanager takes no alert that ends before it starts.
#[must_use]
pub fn body(notices: &[Notice]) -> Vec<u8> {
    let alerts = notices.iter().map(|notice| {
        let ends = notice.ends_unix_ns.max(notice.starts_unix_ns);
        json!({
            "labels": notice.labels,
            "annotations": notice.annotations,
            "startsAt": time_text(notice.starts_unix_ns),
            "endsAt": time_text(ends),
            "generatorURL": notice.generator_url,
        })
    });
    Json::Array(alerts.collect()).to_string().into_bytes()
}

/// The bodies of all requests.
pub fn bodies(notices: &[Notice]) -> impl Iterator<Item = Vec<u8>> {
    notices.chunks(BATCH_ALERTS_MAX).map(body)
}
