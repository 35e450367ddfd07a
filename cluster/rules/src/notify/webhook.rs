//! The payload that Alertmanager gives webhooks, version "4": one a name of alerts.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use weir_types::json::time_text;

use super::{by_name, status};
use crate::labels::{ALERT_NAME, Labels};
use crate::state::Notice;

/// Alerts of a payload; more are a further payload, so that none is left out.
pub const ALERTS_MAX: usize = 500;
/// Alertmanager's word for "not yet over".
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// One payload a name of alerts and so many alerts. What is told again is not in it.
#[must_use]
pub fn bodies(receiver: &str, external_url: &str, notices: &[Notice]) -> Vec<Vec<u8>> {
    let groups = by_name(notices);
    let parts = groups
        .iter()
        .flat_map(|(name, group)| group.chunks(ALERTS_MAX).map(move |part| (name, part)));
    parts
        .map(|(name, part)| payload(receiver, external_url, name, part).to_string().into_bytes())
        .collect()
}

fn payload(receiver: &str, external_url: &str, name: &str, notices: &[&Notice]) -> Json {
    let group = Labels::new(BTreeMap::from([(ALERT_NAME.to_string(), name.to_string())]));
    let alerts: Vec<Json> = notices.iter().map(|notice| alert(notice)).collect();
    json!({
        "receiver": receiver,
        "status": status(notices),
        "alerts": alerts,
        "groupLabels": group,
        "commonLabels": common(notices.iter().map(|notice| notice.labels.map())),
        "commonAnnotations": common(notices.iter().map(|notice| &notice.annotations)),
        "externalURL": external_url,
        "version": "4",
        "groupKey": format!("{{}}:{group}"),
        "truncatedAlerts": 0,
    })
}

fn alert(notice: &Notice) -> Json {
    let firing = notice.is_firing();
    let ends = time_text(notice.ends_unix_ns.max(notice.starts_unix_ns));
    json!({
        "status": if firing { "firing" } else { "resolved" },
        "labels": notice.labels,
        "annotations": notice.annotations,
        "startsAt": time_text(notice.starts_unix_ns),
        "endsAt": if firing { NO_TIME } else { ends.as_str() },
        "generatorURL": notice.generator_url,
        "fingerprint": format!("{:016x}", notice.labels.fingerprint()),
    })
}

/// What all have with the same value.
fn common<'a>(
    mut maps: impl Iterator<Item = &'a BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let mut common = maps.next().cloned().unwrap_or_default();
    for map in maps {
        common.retain(|name, value| map.get(name) == Some(value));
    }
    common
}
