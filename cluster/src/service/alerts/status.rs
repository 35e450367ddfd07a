//! What is shown of alerts, rules and receivers, and what happened to alerts lately.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use weir_rules::labels::Labels;
use weir_rules::state::{Change, ChangeKind, Listed};
use weir_types::Value;
use weir_types::json::{time_text, value_to_json};

use super::send::ReceiverRow;

/// How long it is remembered what happened.
const HISTORY_NS: i64 = 24 * 3_600 * 1_000_000_000;
/// And of how much; the oldest goes first.
const HISTORY_MAX: usize = 10_000;
const HISTORY_BYTES_MAX: usize = 8 << 20;

/// A rule as lists show it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleRow {
    /// As its alerts name it, as long as the server runs.
    pub id: u64,
    pub group: String,
    pub name: String,
    pub file: String,
    pub expr: String,
    /// `waiting` (for its view), `running`, `failed`, or `error`: its alerts stay as they are.
    pub state: &'static str,
    pub for_ns: i64,
    pub keep_firing_for_ns: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub pending: usize,
    pub firing: usize,
    /// Its last frontier.
    pub evaluated_at: Option<String>,
    /// Why its last answer was not complete; empty: it was.
    pub incomplete: String,
    pub last_error: String,
}

/// Everything that lists show.
#[derive(Clone, Debug, Default)]
pub struct AlertsShown {
    pub alerts: Vec<Listed>,
    pub rules: Vec<RuleRow>,
    pub receivers: Vec<ReceiverRow>,
    pub state_error: String,
}

impl AlertsShown {
    /// As `GET /api/v1/alerts` answers.
    #[must_use]
    pub fn json(&self) -> Json {
        json!({
            "alerts": self.alerts.iter().map(Listed::json).collect::<Vec<_>>(),
            "rules": self.rules,
            "receivers": self.receivers,
            "state_error": self.state_error,
        })
    }
}

/// What `/metrics` says.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub pending: u64,
    pub firing: u64,
    pub rules: BTreeMap<&'static str, u64>,
    pub receivers: Vec<ReceiverRow>,
    /// Steps of rules, and what their rows needed.
    pub steps: u64,
    pub repaired: u64,
    pub merged: u64,
    pub negative: u64,
    pub refused: u64,
    pub state_errors: u64,
    pub state_bytes: u64,
    /// Notices that waited for a receiver that is there no more.
    pub abandoned: u64,
    /// Events of the last day that its history had no room for.
    pub history_dropped: u64,
}

/// Something that happened to an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    pub at_unix_ns: i64,
    /// `pending`, `firing`, `resolved` or `retracted`.
    pub what: String,
    pub labels: Labels,
    /// As text: JSON has no NaN.
    pub value: String,
}

impl Happened {
    #[must_use]
    pub fn json(&self) -> Json {
        let value = self.value.parse().unwrap_or(f64::NAN);
        json!({
            "at": time_text(self.at_unix_ns),
            "what": self.what,
            "alertname": self.labels.alert_name(),
            "labels": self.labels,
            "value": value_to_json(&Value::Float64(value)),
        })
    }

    fn bytes(&self) -> usize {
        128 + self.labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

#[derive(Default)]
pub(super) struct History {
    items: VecDeque<Happened>,
    bytes: usize,
    /// What went before its day was over, for lack of room.
    pub(super) dropped: u64,
    pub(super) is_changed: bool,
}

impl History {
    pub(super) fn restore(&mut self, items: Vec<Happened>) {
        items.into_iter().for_each(|item| self.push(item));
        self.is_changed = false;
    }

    pub(super) fn note(&mut self, at_unix_ns: i64, changes: &[Change]) {
        for Change { kind, alert } in changes {
            let what = match kind {
                ChangeKind::Pending => "pending",
                ChangeKind::Firing => "firing",
                ChangeKind::Resolved => "resolved",
                ChangeKind::Retracted => "retracted",
                ChangeKind::Updated => continue,
            };
            self.push(Happened {
                at_unix_ns,
                what: what.to_string(),
                labels: alert.labels.clone(),
                value: alert.value.to_string(),
            });
        }
    }

    fn push(&mut self, item: Happened) {
        let oldest_unix_ns = item.at_unix_ns.saturating_sub(HISTORY_NS);
        self.bytes += item.bytes();
        self.items.push_back(item);
        self.is_changed = true;
        while self.items.len() > HISTORY_MAX
            || self.bytes > HISTORY_BYTES_MAX
            || self.items.front().is_some_and(|item| item.at_unix_ns < oldest_unix_ns)
        {
            let Some(gone) = self.items.pop_front() else { return };
            self.bytes -= gone.bytes();
            self.dropped += u64::from(gone.at_unix_ns >= oldest_unix_ns);
        }
    }

    pub(super) fn items(&self) -> Vec<Happened> {
        self.items.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use weir_rules::state::{Alert, RuleId, RuleSet};
    use weir_types::testing::misfits;

    use super::*;

    fn labels() -> Labels {
        let pairs = [("alertname", "A"), ("svc", "x")];
        Labels::new(pairs.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect())
    }

    /// What the API and the websocket say of alerts and sinks is what is published, member for member, whatever the
    /// values: the page's types are made of that.
    #[test]
    fn it_is_what_is_published() {
        let text = include_str!("../../../../docs/api/messages.schema.json");
        let schema: Json = serde_json::from_str(text).unwrap();
        for (value, fired) in [(1.5, None), (f64::NAN, Some(2))] {
            let alert = Listed {
                alertname: "A".to_string(),
                rule: RuleId::default(),
                state: if fired.is_some() { "firing" } else { "pending" },
                labels: labels(),
                annotations: BTreeMap::from([("summary".to_string(), "s".to_string())]),
                value,
                active_unix_ns: 1,
                fired_unix_ns: fired,
                incomplete: fired.map(|_| "nodes lag: n2".to_string()),
                error: None,
            };
            let shown = AlertsShown {
                alerts: vec![alert],
                rules: vec![RuleRow { state: "running", ..RuleRow::default() }],
                receivers: vec![ReceiverRow { state: "running", ..ReceiverRow::default() }],
                state_error: String::new(),
            };
            let mut json = shown.json();
            assert_eq!(
                misfits(&schema, &schema["$defs"]["AlertsStatus"], &json),
                [""; 0],
                "{json}"
            );
            let happened = Happened {
                at_unix_ns: 1,
                what: "firing".to_string(),
                labels: labels(),
                value: value.to_string(),
            };
            json["history"] = json!([happened.json()]);
            json["alerts_total"] = json!(1);
            assert_eq!(
                misfits(&schema, &schema["$defs"]["AlertsStatus"], &json),
                [""; 0],
                "{json}"
            );
        }
        let sink = json!({"sinks": [crate::service::SinkRow::default()]});
        assert_eq!(misfits(&schema, &schema["$defs"]["SinksStatus"], &sink), [""; 0], "{sink}");
        assert!(RuleSet::default().alerts().next().is_none());
    }

    /// What has happened is kept for a day, and within its bounds; the oldest go first.
    #[test]
    fn history_is_bounded() {
        let alert = |at: i64| Change {
            kind: ChangeKind::Firing,
            alert: Alert {
                labels: labels(),
                source: labels(),
                value: 0.0,
                active_unix_ns: at,
                fired_unix_ns: Some(at),
                kept_since_unix_ns: None,
            },
        };
        let mut history = History::default();
        (0..13_000).for_each(|at| history.note(at, &[alert(at)]));
        assert_eq!((history.items().len(), history.dropped), (HISTORY_MAX, 3_000));
        assert_eq!(history.items()[0].at_unix_ns, 3_000);
        history.note(HISTORY_NS + 4_000, &[alert(HISTORY_NS + 4_000)]);
        assert_eq!(history.items()[0].at_unix_ns, 4_000, "a day");
        assert!(history.dropped <= 3_001, "{}", history.dropped);
        let updated = Change { kind: ChangeKind::Updated, ..alert(0) };
        history.note(HISTORY_NS + 9_000, &[updated]);
        assert_eq!(history.items()[0].at_unix_ns, 4_000, "another value is no event");
    }
}
