//! What tells one configuration of a sink from another: whether the one that runs goes on as it is, with another
//! writer, or begins anew; and whether it writes to another place.

use serde_json::Value as Json;
use weir_cluster::service::InputSpec;
use weir_sinks::tls::Tls;

use crate::config::access::print_of;
use crate::config::keys::Kind;

const OF_FEED: [&str; 3] = ["inputs", "encoding", "buffer"];
/// How it writes, not where.
const OF_MANNER: [&str; 10] = [
    "auth",
    "batch",
    "framing",
    "headers",
    "healthcheck",
    "retry",
    "role",
    "rotate",
    "timeout",
    "tls",
];

fn only(written: &Json, wanted: impl Fn(&str) -> bool) -> Json {
    let mut json = written.clone();
    if let Some(keys) = json.as_object_mut() {
        keys.retain(|key, _| wanted(key));
    }
    json
}

/// What makes a sink the one that runs already: what it takes in, and how it writes.
pub(super) fn prints(
    kind: Kind,
    written: &Json,
    inputs: &[InputSpec],
    (tls, creds): (Option<&Tls>, Option<&str>),
) -> (String, String) {
    // Whoever scrapes sees all rows: a new exporter has to be told them again.
    let is_one = kind == Kind::Prometheus;
    let feed = only(written, |key| is_one || OF_FEED.contains(&key));
    let writer = only(written, |key| is_one || !OF_FEED.contains(&key));
    // Of a script in a file its text counts.
    let feed = format!("{feed} {inputs:?}");
    // And of certificates and credentials, which are renewed.
    let creds = creds.map_or(0, print_of);
    (feed, format!("{writer} {:016x} {creds:016x}", tls.map_or(0, print_of)))
}

/// Where it writes to.
pub(super) fn place(kind: Kind, written: &Json) -> String {
    // These know which series there are: another one knows none, wherever it writes to.
    let knows_rows = matches!(kind, Kind::Opentelemetry | Kind::PrometheusRemoteWrite);
    let of_place = |key: &str| knows_rows || !OF_MANNER.contains(&key);
    only(written, |key| !OF_FEED.contains(&key) && of_place(key)).to_string()
}
