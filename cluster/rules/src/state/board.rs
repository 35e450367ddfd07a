//! What receivers were told: one entry a label set, however many rules have an alert of it.
//!
//! An alert fires while any rule's does. Firing and resolved are told once; Alertmanager forgets what it does not
//! hear again, so it gets what fires anew every resend delay, and what is resolved for a quarter of an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::set::{RuleId, Settings};
use super::{Alert, AlertRule, Change, ChangeKind};
use crate::labels::Labels;
use crate::template::Data;

/// How long what is resolved is told again, as in Prometheus.
const RESOLVED_NS: i64 = 15 * 60 * 1_000_000_000;
/// Resolved alerts that are remembered for it; the oldest go first.
const RESOLVED_MAX: usize = 20_000;
/// An alert that was not heard of for this many resend delays is over for Alertmanager, as in Prometheus.
const VALID_DELAYS: i64 = 4;
/// The annotation of alerts whose answer is not complete.
pub const INCOMPLETE: &str = "incomplete";

/// What a receiver is to be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub kind: NoticeKind,
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    pub starts_unix_ns: i64,
    /// Of a firing alert: when it is over if nothing more is heard.
    pub ends_unix_ns: i64,
    pub generator_url: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeKind {
    Fired,
    Resolved,
    /// It still is what it was: for Alertmanager only.
    Again {
        firing: bool,
    },
}

impl Notice {
    #[must_use]
    pub fn is_firing(&self) -> bool {
        matches!(self.kind, NoticeKind::Fired | NoticeKind::Again { firing: true })
    }
    /// True for what every receiver is told; the rest is for Alertmanager.
    #[must_use]
    pub fn is_news(&self) -> bool {
        !matches!(self.kind, NoticeKind::Again { .. })
    }
}

/// An alert that receivers were told of; what is saved of it outlives a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    labels: Labels,
    /// Rules whose alert fires, each with its alert: known from their states.
    #[serde(skip)]
    firing: BTreeMap<RuleId, (Arc<AlertRule>, Alert)>,
    started_unix_ns: i64,
    resolved_unix_ns: Option<i64>,
    next_unix_ns: i64,
    /// As they were told last.
    annotations: BTreeMap<String, String>,
    generator_url: String,
    /// The resend delay or the group's interval, whichever is longer.
    delay_ns: i64,
}

#[derive(Debug, Default)]
pub(super) struct Board {
    entries: BTreeMap<Labels, Told>,
    next: BTreeSet<(i64, Labels)>,
    /// Resolved entries, the oldest first.
    resolved: BTreeSet<(i64, Labels)>,
    /// With the name of the entry, to which external labels do not belong.
    news: Vec<(Labels, Notice)>,
}

impl Board {
    /// Takes what happened to a rule's alerts.
    pub(super) fn apply(
        &mut self,
        id: RuleId,
        rule: &Arc<AlertRule>,
        changes: &[Change],
        settings: &Settings,
        now_unix_ns: i64,
    ) {
        for Change { kind, alert } in changes {
            match kind {
                ChangeKind::Firing => self.fire(id, rule, alert, settings, now_unix_ns),
                ChangeKind::Updated => self.link(id, rule, alert),
                ChangeKind::Resolved => self.resolve(id, alert, settings, now_unix_ns),
                ChangeKind::Pending | ChangeKind::Retracted => {}
            }
        }
    }

    fn fire(
        &mut self,
        id: RuleId,
        rule: &Arc<AlertRule>,
        alert: &Alert,
        settings: &Settings,
        now_unix_ns: i64,
    ) {
        if let Some(entry) = self.entries.get_mut(&alert.labels)
            && entry.resolved_unix_ns.is_none()
        {
            // Another rule's alert of these labels fires already.
            entry.firing.insert(id, (Arc::clone(rule), alert.clone()));
            return;
        }
        self.drop_entry(&alert.labels);
        let entry = Told {
            labels: alert.labels.clone(),
            firing: BTreeMap::from([(id, (Arc::clone(rule), alert.clone()))]),
            started_unix_ns: alert.fired_unix_ns.unwrap_or(now_unix_ns),
            resolved_unix_ns: None,
            next_unix_ns: 0,
            annotations: annotations(rule, alert, settings),
            generator_url: settings.generator_url(rule),
            delay_ns: settings.resend_ns.max(rule.interval_ns),
        };
        self.entries.insert(alert.labels.clone(), entry);
        self.tell(&alert.labels, NoticeKind::Fired, settings, now_unix_ns);
    }

    /// A rule's alert fires already, and so does its entry.
    pub(super) fn link(&mut self, id: RuleId, rule: &Arc<AlertRule>, alert: &Alert) {
        if let Some(entry) = self.entries.get_mut(&alert.labels)
            && entry.resolved_unix_ns.is_none()
        {
            entry.firing.insert(id, (Arc::clone(rule), alert.clone()));
        }
    }

    fn resolve(&mut self, id: RuleId, alert: &Alert, settings: &Settings, now_unix_ns: i64) {
        let Some(entry) = self.entries.get_mut(&alert.labels) else { return };
        entry.firing.remove(&id);
        if entry.firing.is_empty() && entry.resolved_unix_ns.is_none() {
            self.close(&alert.labels, settings, now_unix_ns);
        }
    }

    fn close(&mut self, labels: &Labels, settings: &Settings, now_unix_ns: i64) {
        let Some(entry) = self.entries.get_mut(labels) else { return };
        entry.resolved_unix_ns = Some(now_unix_ns);
        self.resolved.insert((now_unix_ns, labels.clone()));
        self.tell(labels, NoticeKind::Resolved, settings, now_unix_ns);
        while self.resolved.len() > RESOLVED_MAX {
            let Some((_, oldest)) = self.resolved.first().cloned() else { return };
            self.drop_entry(&oldest);
        }
    }

    fn drop_entry(&mut self, labels: &Labels) {
        let Some(entry) = self.entries.remove(labels) else { return };
        self.next.remove(&(entry.next_unix_ns, labels.clone()));
        if let Some(at) = entry.resolved_unix_ns {
            self.resolved.remove(&(at, labels.clone()));
        }
    }

    /// Writes a notice, and says when the next one is due.
    fn tell(&mut self, labels: &Labels, kind: NoticeKind, settings: &Settings, now_unix_ns: i64) {
        let Some(entry) = self.entries.get_mut(labels) else { return };
        let mut all = settings.external_labels.map().clone();
        all.extend(labels.map().iter().map(|(name, value)| (name.clone(), value.clone())));
        let valid_ns = entry.delay_ns.saturating_mul(VALID_DELAYS);
        let notice = Notice {
            kind,
            labels: Labels::new(all),
            annotations: entry.annotations.clone(),
            starts_unix_ns: entry.started_unix_ns,
            ends_unix_ns: entry.resolved_unix_ns.unwrap_or(now_unix_ns.saturating_add(valid_ns)),
            generator_url: entry.generator_url.clone(),
        };
        self.news.push((labels.clone(), notice));
        self.next.remove(&(entry.next_unix_ns, labels.clone()));
        entry.next_unix_ns = now_unix_ns.saturating_add(settings.resend_ns.max(1));
        self.next.insert((entry.next_unix_ns, labels.clone()));
    }

    /// Everything that is due by now. What is not complete is said of alerts that fire.
    pub(super) fn due(
        &mut self,
        settings: &Settings,
        now_unix_ns: i64,
        incomplete: &dyn Fn(RuleId) -> Option<String>,
    ) -> Vec<Notice> {
        while let Some((at, labels)) = self.next.first().cloned() {
            if at > now_unix_ns {
                break;
            }
            self.next.remove(&(at, labels.clone()));
            let Some(entry) = self.entries.get_mut(&labels) else { continue };
            let over = |at: i64| now_unix_ns.saturating_sub(at) > RESOLVED_NS;
            if entry.resolved_unix_ns.is_some_and(over) {
                self.drop_entry(&labels);
                continue;
            }
            if let Some((rule, alert)) = entry.firing.values().next() {
                entry.annotations = annotations(rule, alert, settings);
            }
            let firing = entry.resolved_unix_ns.is_none();
            self.tell(&labels, NoticeKind::Again { firing }, settings, now_unix_ns);
        }
        let told = std::mem::take(&mut self.news).into_iter().map(|(labels, mut notice)| {
            if notice.is_firing() {
                let entry = self.entries.get(&labels);
                let why =
                    entry.and_then(|entry| entry.firing.keys().find_map(|id| incomplete(*id)));
                notice.annotations.extend(why.map(|why| (INCOMPLETE.to_string(), why)));
            }
            notice
        });
        told.collect()
    }

    /// When [`Board::due`] has something to do next.
    pub(super) fn next_unix_ns(&self) -> Option<i64> {
        match self.news.is_empty() {
            true => self.next.first().map(|(at, _)| *at),
            false => Some(i64::MIN),
        }
    }

    pub(super) fn save(&self) -> Vec<Told> {
        let plain = |told: &Told| Told { firing: BTreeMap::new(), ..told.clone() };
        self.entries.values().map(plain).collect()
    }

    pub(super) fn restore(&mut self, saved: Vec<Told>) {
        for told in saved {
            let labels = told.labels.clone();
            self.next.insert((told.next_unix_ns, labels.clone()));
            if let Some(at) = told.resolved_unix_ns {
                self.resolved.insert((at, labels.clone()));
            }
            self.entries.insert(labels, told);
        }
    }

    /// After a restart: what fires by no rule any more is over.
    pub(super) fn close_orphans(&mut self, settings: &Settings, now_unix_ns: i64) {
        let orphans = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.resolved_unix_ns.is_none() && entry.firing.is_empty());
        let orphans: Vec<Labels> = orphans.map(|(labels, _)| labels.clone()).collect();
        for labels in orphans {
            self.close(&labels, settings, now_unix_ns);
        }
    }
}

/// Annotations of an alert as it is now; what is empty is left out, what no receiver takes is replaced.
pub(super) fn annotations(
    rule: &AlertRule,
    alert: &Alert,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let data = Data {
        labels: alert.source.map(),
        value: alert.value,
        external_labels: settings.external_labels.map(),
        external_url: &settings.external_url,
    };
    let texts = rule.parts.annotations.iter().map(|annotation| {
        let text = annotation.template.text(&data).replace('\0', "\u{fffd}");
        (annotation.name.clone(), text)
    });
    let mut texts: BTreeMap<String, String> = texts.collect();
    texts.retain(|_, text| !text.is_empty());
    texts
}
