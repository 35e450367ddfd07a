//! One rule: the rows that it has now, and its alerts.
//!
//! Invariants between steps: (1) `sets` holds exactly the label sets of rows that are there; (2) without an error,
//! a label set in `sets` has an alert, and an alert without one is held (`held`) or kept (`kept_since`); (3) `due`
//! holds at most one time an alert, that at which it has to be looked at though no row changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rows::{Named, Row, name};
use super::{ALERTS_MAX, Alert, AlertRule, Answer, Change, ChangeKind, ROW_BYTES_MAX, SETTLE_NS};
use crate::file::Incomplete;
use crate::labels::Labels;

/// Why a rule's alerts stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("exceeded limit of {limit} with {count} alerts")]
    Limit { limit: usize, count: usize },
    #[error("several rows have the labels {0}")]
    EqualLabels(Labels),
    #[error("the rows are larger than {ROW_BYTES_MAX} bytes")]
    TooLarge,
}

/// What a step gave.
#[derive(Clone, Debug, Default)]
pub struct Step {
    pub changes: Vec<Change>,
    /// Rows were given up: the next answer has to be a snapshot.
    pub wants_snapshot: bool,
}

/// What was counted since the machine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows with NUL, broken UTF-8 or texts that were too long.
    pub repaired: u64,
    /// Of these, rows that had the labels of another one then, and made no alert of their own.
    pub merged: u64,
    /// Rows that were taken away without being there.
    pub negative: u64,
    /// Label sets that got no alert yet because too many are kept.
    pub refused: u64,
    /// Alerts and label sets that were looked at: what the steps cost.
    pub looked: u64,
}

#[derive(Debug, Default)]
struct Set {
    rows: BTreeMap<Row, Entry>,
    source: Labels,
    /// How many rows have these very labels, unrepaired.
    exact: i64,
}

#[derive(Debug)]
struct Entry {
    count: i64,
    repaired: bool,
}

impl Set {
    /// The row that is the alert: one that was not repaired, else the first.
    fn chosen(&self) -> Option<&Row> {
        let exact = self.rows.iter().find(|(_, entry)| !entry.repaired);
        exact.or_else(|| self.rows.iter().next()).map(|(row, _)| row)
    }
}

#[derive(Debug)]
pub struct Machine {
    rule: Arc<AlertRule>,
    external: Labels,
    external_url: Arc<str>,
    rows: BTreeMap<Row, Labels>,
    row_bytes: usize,
    sets: BTreeMap<Labels, Set>,
    /// Label sets that several exact rows have.
    crowded: BTreeSet<Labels>,
    alerts: BTreeMap<Labels, Alert>,
    /// Label sets to be looked at in this step, or in the first one without an error.
    dirty: BTreeSet<Labels>,
    /// Alerts without a row that an answer which was not complete left as they are.
    held: BTreeSet<Labels>,
    due: BTreeSet<(i64, Labels)>,
    /// Rows were given up; changes mean nothing until a snapshot.
    lost_rows: bool,
    error: Option<RuleError>,
    incomplete: Option<String>,
    at_unix_ns: i64,
    /// After a restart: the time of the state, or of the first answer since.
    restored: Option<Restored>,
    pub counters: Counters,
}

#[derive(Clone, Copy, Debug)]
enum Restored {
    Waiting { saved_unix_ns: i64 },
    Settling { until_unix_ns: i64 },
}

impl Machine {
    #[must_use]
    pub fn new(rule: Arc<AlertRule>, external: Labels, external_url: Arc<str>) -> Machine {
        Machine {
            rule,
            external,
            external_url,
            rows: BTreeMap::new(),
            row_bytes: 0,
            sets: BTreeMap::new(),
            crowded: BTreeSet::new(),
            alerts: BTreeMap::new(),
            dirty: BTreeSet::new(),
            held: BTreeSet::new(),
            due: BTreeSet::new(),
            lost_rows: false,
            error: None,
            incomplete: None,
            at_unix_ns: i64::MIN,
            restored: None,
            counters: Counters::default(),
        }
    }

    #[must_use]
    pub fn rule(&self) -> &Arc<AlertRule> {
        &self.rule
    }
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }
    #[must_use]
    pub fn error(&self) -> Option<&RuleError> {
        self.error.as_ref()
    }
    /// Why the last answer was not complete.
    #[must_use]
    pub fn incomplete(&self) -> Option<&str> {
        self.incomplete.as_deref()
    }
    /// The first frontier at which something has to be looked at though no row changes.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        let (at, _) = self.due.first().filter(|_| self.error.is_none())?;
        u64::try_from(at.saturating_add(999_999) / 1_000_000).ok()
    }
    /// The last frontier.
    #[must_use]
    pub fn at_unix_ns(&self) -> i64 {
        self.at_unix_ns
    }

    /// Takes a frontier's changes of rows, `[diff, row]`, in any order.
    pub fn step(&mut self, answer: &Answer<'_>, changes: &[(i64, Row)]) -> Step {
        self.at_unix_ns = self.at_unix_ns.max(answer.at_unix_ns);
        self.incomplete = (!answer.complete).then(|| answer.why.to_string());
        self.settle(answer);
        self.apply(answer.snapshot, changes);
        self.error = self.judge();
        let mut step = Step { wants_snapshot: self.lost_rows, ..Step::default() };
        if self.error.is_some() {
            // What is neither a row nor an alert any more needs no look later.
            let (sets, alerts) = (&self.sets, &self.alerts);
            self.dirty.retain(|labels| sets.contains_key(labels) || alerts.contains_key(labels));
            return step;
        }
        let holds = !answer.complete
            && (self.restored.is_some()
                || (self.rule.parts.incomplete == Incomplete::Hold && !answer.young));
        if !holds {
            self.dirty.append(&mut self.held);
        }
        for labels in std::mem::take(&mut self.dirty) {
            self.counters.looked += 1;
            self.look(labels, holds, &mut step.changes);
        }
        self.ripen(holds, &mut step.changes);
        step
    }

    /// The first answers after a restart: time while down does not count, and rows may still be missing.
    fn settle(&mut self, answer: &Answer<'_>) {
        let at = self.at_unix_ns;
        if let Some(Restored::Waiting { saved_unix_ns }) = self.restored {
            let down_ns = at.saturating_sub(saved_unix_ns).max(0);
            for alert in self.alerts.values_mut() {
                if alert.fired_unix_ns.is_none() {
                    alert.active_unix_ns = alert.active_unix_ns.saturating_add(down_ns);
                }
                alert.kept_since_unix_ns =
                    alert.kept_since_unix_ns.map(|since| since.saturating_add(down_ns));
            }
            self.schedule_all();
            self.restored =
                Some(Restored::Settling { until_unix_ns: at.saturating_add(SETTLE_NS) });
        }
        if let Some(Restored::Settling { until_unix_ns }) = self.restored
            && (answer.complete || at >= until_unix_ns)
        {
            self.restored = None;
        }
    }

    /// Takes a part of a frontier's changes, of which [`Machine::step`] brings the last.
    pub fn take(&mut self, snapshot: bool, changes: &[(i64, Row)]) {
        self.apply(snapshot, changes);
    }

    fn apply(&mut self, snapshot: bool, changes: &[(i64, Row)]) {
        if snapshot {
            self.dirty.extend(self.sets.keys().cloned());
            self.dirty.extend(self.alerts.keys().cloned());
            self.forget_rows();
            self.lost_rows = false;
        }
        if self.lost_rows {
            return;
        }
        let mut net: BTreeMap<&Row, i64> = BTreeMap::new();
        for (diff, row) in changes {
            *net.entry(row).or_default() += diff;
        }
        for (row, diff) in net.into_iter().filter(|(_, diff)| *diff != 0) {
            self.change(row, diff);
        }
        if self.row_bytes > ROW_BYTES_MAX {
            self.forget_rows();
            self.lost_rows = true;
        }
    }

    fn forget_rows(&mut self) {
        self.rows.clear();
        self.sets.clear();
        self.crowded.clear();
        self.row_bytes = 0;
    }

    fn change(&mut self, row: &Row, diff: i64) {
        let labels = match self.rows.get(row) {
            Some(labels) => labels.clone(),
            None if diff < 0 => {
                self.counters.negative += 1;
                return;
            }
            None => self.enter(row),
        };
        let Some(set) = self.sets.get_mut(&labels) else { return };
        let Some(entry) = set.rows.get_mut(row) else { return };
        let before = entry.count;
        entry.count = before.saturating_add(diff).max(0);
        self.counters.negative += u64::from(before.saturating_add(diff) < 0);
        if !entry.repaired {
            set.exact += entry.count - before;
        }
        let exact = set.exact;
        if entry.count == 0 {
            set.rows.remove(row);
            self.rows.remove(row);
            self.row_bytes = self.row_bytes.saturating_sub(row.weight());
        }
        if set.rows.is_empty() {
            self.sets.remove(&labels);
        }
        match exact > 1 {
            true => self.crowded.insert(labels.clone()),
            false => self.crowded.remove(&labels),
        };
        self.dirty.insert(labels);
    }

    /// A row that was not there, with a count of 0.
    fn enter(&mut self, row: &Row) -> Labels {
        let named = name(&self.rule, row, &self.external, &self.external_url);
        let Named { source, labels, repaired } = named;
        let set = self.sets.entry(labels.clone()).or_default();
        self.counters.repaired += u64::from(repaired);
        self.counters.merged += u64::from(repaired && !set.rows.is_empty());
        if !repaired || set.rows.is_empty() {
            set.source = source;
        }
        set.rows.insert(row.clone(), Entry { count: 0, repaired });
        self.rows.insert(row.clone(), labels.clone());
        self.row_bytes += row.weight();
        labels
    }

    fn judge(&self) -> Option<RuleError> {
        let count = self.sets.len();
        let limit = match self.rule.limit {
            0 => ALERTS_MAX,
            limit => limit.min(ALERTS_MAX),
        };
        match () {
            () if self.lost_rows => Some(RuleError::TooLarge),
            () if !self.crowded.is_empty() => {
                self.crowded.first().cloned().map(RuleError::EqualLabels)
            }
            () if count > limit => Some(RuleError::Limit { limit, count }),
            () => None,
        }
    }

    /// Brings the alert of a label set in line with its rows.
    fn look(&mut self, labels: Labels, holds: bool, changes: &mut Vec<Change>) {
        let present = self
            .sets
            .get(&labels)
            .and_then(|set| Some((set.source.clone(), set.chosen()?.value())));
        match (present, self.alerts.contains_key(&labels)) {
            (Some((source, value)), true) => self.refresh(&labels, source, value, changes),
            (Some((source, value)), false) => self.begin(labels, source, value, changes),
            (None, true) if holds => {
                self.held.insert(labels);
            }
            (None, true) => self.miss(&labels, changes),
            (None, false) => {}
        }
    }

    fn begin(&mut self, labels: Labels, source: Labels, value: f64, changes: &mut Vec<Change>) {
        if self.alerts.len() >= 2 * ALERTS_MAX {
            // Looked at again in the next step.
            self.counters.refused += 1;
            self.dirty.insert(labels);
            return;
        }
        let at = self.at_unix_ns;
        let waits = !self.rule.parts.hold.is_zero();
        let alert = Alert {
            labels: labels.clone(),
            source,
            value,
            active_unix_ns: at,
            fired_unix_ns: (!waits).then_some(at),
            kept_since_unix_ns: None,
        };
        let kind = if waits { ChangeKind::Pending } else { ChangeKind::Firing };
        changes.push(Change { kind, alert: alert.clone() });
        self.schedule(&alert);
        self.alerts.insert(labels, alert);
    }

    /// The row is there: again, still, or with another value.
    fn refresh(&mut self, labels: &Labels, source: Labels, value: f64, changes: &mut Vec<Change>) {
        self.held.remove(labels);
        self.unschedule(labels);
        let Some(alert) = self.alerts.get_mut(labels) else { return };
        alert.kept_since_unix_ns = None;
        alert.source = source;
        if alert.value.total_cmp(&value).is_ne() {
            alert.value = value;
            if alert.fired_unix_ns.is_some() {
                changes.push(Change { kind: ChangeKind::Updated, alert: alert.clone() });
            }
        }
        let alert = alert.clone();
        self.schedule(&alert);
    }

    /// The row is gone, and the answer may say so.
    fn miss(&mut self, labels: &Labels, changes: &mut Vec<Change>) {
        let Some(alert) = self.alerts.get_mut(labels) else { return };
        if alert.fired_unix_ns.is_none() {
            return self.end(labels, ChangeKind::Retracted, changes);
        }
        let keep_ns = self.rule.parts.keep_firing.ns();
        let since = *alert.kept_since_unix_ns.get_or_insert(self.at_unix_ns);
        if self.at_unix_ns.saturating_sub(since) >= keep_ns {
            return self.end(labels, ChangeKind::Resolved, changes);
        }
        let alert = alert.clone();
        self.schedule(&alert);
    }

    fn end(&mut self, labels: &Labels, kind: ChangeKind, changes: &mut Vec<Change>) {
        self.held.remove(labels);
        self.unschedule(labels);
        if let Some(alert) = self.alerts.remove(labels) {
            changes.push(Change { kind, alert });
        }
    }

    /// When an alert has to be looked at next.
    fn due_of(&self, alert: &Alert) -> Option<i64> {
        let parts = &self.rule.parts;
        match (alert.fired_unix_ns, alert.kept_since_unix_ns) {
            (None, _) => Some(alert.active_unix_ns.saturating_add(parts.hold.ns())),
            (Some(_), Some(since)) => Some(since.saturating_add(parts.keep_firing.ns())),
            (Some(_), None) => None,
        }
    }

    fn schedule(&mut self, alert: &Alert) {
        if let Some(at) = self.due_of(alert) {
            self.due.insert((at, alert.labels.clone()));
        }
    }

    /// Before an alert changes: a row that comes and goes would leave a time each time.
    fn unschedule(&mut self, labels: &Labels) {
        if let Some(at) = self.alerts.get(labels).and_then(|alert| self.due_of(alert)) {
            self.due.remove(&(at, labels.clone()));
        }
    }

    #[cfg(test)]
    pub(super) fn scheduled(&self) -> usize {
        self.due.len()
    }

    fn schedule_all(&mut self) {
        self.due.clear();
        let alerts: Vec<Alert> = self.alerts.values().cloned().collect();
        alerts.iter().for_each(|alert| self.schedule(alert));
    }

    /// Alerts whose time has come.
    fn ripen(&mut self, holds: bool, changes: &mut Vec<Change>) {
        let at = self.at_unix_ns;
        while let Some((due, labels)) = self.due.pop_first() {
            if due > at {
                self.due.insert((due, labels));
                return;
            }
            self.counters.looked += 1;
            let there = self.sets.contains_key(&labels);
            let hold_ns = self.rule.parts.hold.ns();
            let Some(alert) = self.alerts.get_mut(&labels) else { continue };
            match (alert.fired_unix_ns, there) {
                (None, true) if at.saturating_sub(alert.active_unix_ns) >= hold_ns => {
                    alert.fired_unix_ns = Some(at);
                    changes.push(Change { kind: ChangeKind::Firing, alert: alert.clone() });
                }
                (Some(_), false) if alert.kept_since_unix_ns.is_some() => match holds {
                    true => {
                        self.held.insert(labels);
                    }
                    false => self.miss(&labels, changes),
                },
                // Held, or pending without its row for now.
                _ => {}
            }
        }
    }

    /// The same rule with other durations, limits or texts: its alerts go on.
    pub(super) fn adopt(&mut self, rule: Arc<AlertRule>, external: Labels, external_url: Arc<str>) {
        self.rule = rule;
        self.external = external;
        self.external_url = external_url;
        self.schedule_all();
    }

    /// Takes up alerts of an earlier life. Their rows come with the first answer.
    pub(super) fn restore(&mut self, alerts: Vec<Alert>, saved_unix_ns: i64) {
        self.alerts = alerts.into_iter().map(|alert| (alert.labels.clone(), alert)).collect();
        self.restored = Some(Restored::Waiting { saved_unix_ns });
        // Saved once more before an answer has come, it is as old as it was.
        self.at_unix_ns = self.at_unix_ns.max(saved_unix_ns);
    }

    /// The rule is no more.
    pub(super) fn finish(mut self) -> Vec<Change> {
        let ended = std::mem::take(&mut self.alerts).into_values().map(|alert| {
            let fired = alert.fired_unix_ns.is_some();
            let kind = if fired { ChangeKind::Resolved } else { ChangeKind::Retracted };
            Change { kind, alert }
        });
        ended.collect()
    }
}
