//! What becomes of a rule's rows: pending → firing → resolved, judged at frontiers of its view.
//!
//! A [`RuleSet`] holds a [`Machine`] a rule and the [`Board`] of what was told. Changes of rows and frontiers go
//! in, alerts that changed and notices that are due come out; times are given, nothing waits. Work is
//! proportional to the rows that changed and the alerts that are due.

mod board;
mod machine;
mod rows;
mod set;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::file::{AlertParts, Group, Rule, RuleKind, Text};
use crate::labels::Labels;
pub use board::{INCOMPLETE, Notice, NoticeKind};
pub use machine::{Counters, Machine, RuleError, Step};
pub use rows::{Columns, Row};
pub use set::{Listed, RuleId, RuleSet, Saved, Settings};

/// Alerts of a rule: above it the rule is in error, whatever its own limit.
pub const ALERTS_MAX: usize = 20_000;
/// Rows of a rule in memory; above it the rule is in error until its view is sent anew.
pub const ROW_BYTES_MAX: usize = 64 << 20;
/// After a restart, rows that are missing from answers that are not complete yet are no recovery for so long.
pub const SETTLE_NS: i64 = 5 * 60 * 1_000_000_000;

/// An alerting rule, where it was defined, and what its expression displays.
#[derive(Clone, Debug)]
pub struct AlertRule {
    pub file: String,
    pub group: String,
    pub name: String,
    pub expr: String,
    pub labels: Vec<Text>,
    pub parts: AlertParts,
    /// 0 is none.
    pub limit: usize,
    pub interval_ns: i64,
    pub columns: Columns,
}

impl AlertRule {
    /// None for a recording rule.
    #[must_use]
    pub fn new(file: &str, group: &Group, rule: &Rule, columns: Columns) -> Option<AlertRule> {
        let RuleKind::Alert(parts) = &rule.kind else { return None };
        Some(AlertRule {
            file: file.to_string(),
            group: group.name.clone(),
            name: rule.name.clone(),
            expr: rule.expr.clone(),
            labels: rule.labels.clone(),
            parts: parts.clone(),
            limit: group.limit,
            interval_ns: group.interval.unwrap_or_default().ns(),
            columns,
        })
    }

    /// What makes a rule the same over a reload: its alerts mean the same. Durations, limits and annotations may
    /// change beside it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let labels = self.labels.iter().map(|label| (label.name.clone(), label.text.clone()));
        Identity {
            group: self.group.clone(),
            name: self.name.clone(),
            expr: self.expr.clone(),
            labels: labels.collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    pub group: String,
    pub name: String,
    pub expr: String,
    pub labels: Vec<(String, String)>,
}

/// How far an answer goes.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The frontier: event time.
    pub at_unix_ns: i64,
    /// The rows are all there are, not changes of what was there.
    pub snapshot: bool,
    pub complete: bool,
    /// It lacks nothing but what was before anything was kept: rows that leave it are really gone.
    pub young: bool,
    /// Why it is not complete, for people.
    pub why: &'a str,
}

/// An alert of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub labels: Labels,
    /// The row's own labels: what templates speak of.
    pub source: Labels,
    #[serde(with = "float")]
    pub value: f64,
    pub active_unix_ns: i64,
    /// None while it is pending.
    pub fired_unix_ns: Option<i64>,
    /// Its row is gone, and `keep_firing_for` runs.
    pub kept_since_unix_ns: Option<i64>,
}

/// A value as text: JSON has no NaN and no infinities.
mod float {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.to_string())
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What happened to an alert in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub kind: ChangeKind,
    pub alert: Alert,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Pending,
    /// Also straight from nothing, if the rule has no `for`.
    Firing,
    /// A firing alert has another value.
    Updated,
    Resolved,
    /// It was pending only; nobody was told.
    Retracted,
}
