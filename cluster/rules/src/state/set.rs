//! All rules of a server: which are there, what their alerts are, what is to be told, and what outlives a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use weir_types::Value;
use weir_types::json::{time_text, value_to_json};

use super::board::{Board, Told, annotations};
use super::machine::{Machine, Step};
use super::rows::Row;
use super::{Alert, AlertRule, Answer, Change, Identity, Notice};
use crate::labels::Labels;

/// Names a rule while the process runs. It is kept over reloads that keep the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

impl RuleId {
    /// As lists say it.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What holds for all rules.
#[derive(Clone, Debug)]
pub struct Settings {
    pub external_labels: Labels,
    /// Under which the server is known to people.
    pub external_url: Arc<str>,
    /// After which Alertmanager is told again; Prometheus takes a minute.
    pub resend_ns: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            external_labels: Labels::default(),
            external_url: Arc::from(""),
            resend_ns: 60_000_000_000,
        }
    }
}

impl Settings {
    /// Where people see the rule.
    #[must_use]
    pub fn generator_url(&self, rule: &AlertRule) -> String {
        let base = self.external_url.trim_end_matches('/');
        let (group, name) = (escaped(&rule.group), escaped(&rule.name));
        format!("{base}/#/alerts?group={group}&rule={name}")
    }
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// An alert as lists show it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub alertname: String,
    /// Whose it is: several rules may have its name.
    pub rule: RuleId,
    /// `pending` or `firing`.
    pub state: &'static str,
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    pub value: f64,
    pub active_unix_ns: i64,
    pub fired_unix_ns: Option<i64>,
    /// Why the rule's last answer was not complete.
    pub incomplete: Option<String>,
    /// Why the rule's alerts stay as they are.
    pub error: Option<String>,
}

impl Listed {
    /// As `weir alerts -o json` prints it.
    #[must_use]
    pub fn json(&self) -> Json {
        let why = self.incomplete.as_deref();
        json!({
            "alertname": self.alertname,
            "rule": self.rule.number(),
            "state": self.state,
            "labels": self.labels,
            "annotations": self.annotations,
            "value": value_to_json(&Value::Float64(self.value)),
            "active_at": time_text(self.active_unix_ns),
            "fired_at": self.fired_unix_ns.map(time_text),
            "completeness": {"complete": why.is_none(), "why": why.unwrap_or_default()},
            "error": self.error,
        })
    }
}

/// What outlives the process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    rules: Vec<SavedRule>,
    board: Vec<Told>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedRule {
    file: String,
    identity: Identity,
    at_unix_ns: i64,
    alerts: Vec<Alert>,
}

#[derive(Debug, Default)]
pub struct RuleSet {
    settings: Settings,
    machines: BTreeMap<RuleId, Machine>,
    board: Board,
    ids: u64,
    /// What became of alerts whose rules are no more.
    ended: Vec<Change>,
}

impl RuleSet {
    #[must_use]
    pub fn new(settings: Settings) -> RuleSet {
        RuleSet { settings, ..RuleSet::default() }
    }

    /// Takes the rules that hold from now on, in place of those that did. A rule that means the same goes on, with
    /// its rows, alerts and id; the others are new, or over: what fired by them is resolved. Ids stand in the
    /// rules' order.
    pub fn load(
        &mut self,
        settings: Settings,
        rules: Vec<AlertRule>,
        now_unix_ns: i64,
    ) -> Vec<RuleId> {
        self.settings = settings;
        let mut old = std::mem::take(&mut self.machines);
        let mut kept: Vec<Option<RuleId>> = vec![None; rules.len()];
        // The same file first, so that a rule that stands in two keeps its own.
        for same_file in [true, false] {
            let mut free: BTreeMap<(Identity, String), Vec<RuleId>> = BTreeMap::new();
            for (id, machine) in old.iter().filter(|(id, _)| !kept.contains(&Some(**id))).rev() {
                let file = if same_file { machine.rule().file.clone() } else { String::new() };
                free.entry((machine.rule().identity(), file)).or_default().push(*id);
            }
            for (rule, kept) in rules.iter().zip(&mut kept).filter(|(_, kept)| kept.is_none()) {
                let file = if same_file { rule.file.clone() } else { String::new() };
                *kept = free.get_mut(&(rule.identity(), file)).and_then(Vec::pop);
            }
        }
        let mut ids = Vec::with_capacity(rules.len());
        for (rule, kept) in rules.into_iter().zip(kept) {
            let rule = Arc::new(rule);
            let (external, url) =
                (self.settings.external_labels.clone(), self.settings.external_url.clone());
            let (id, machine) = match kept.and_then(|id| Some((id, old.remove(&id)?))) {
                Some((id, mut machine)) => {
                    machine.adopt(Arc::clone(&rule), external, url);
                    for alert in machine.alerts().filter(|alert| alert.fired_unix_ns.is_some()) {
                        self.board.link(id, &rule, alert);
                    }
                    (id, machine)
                }
                None => {
                    self.ids += 1;
                    (RuleId(self.ids), Machine::new(rule, external, url))
                }
            };
            self.machines.insert(id, machine);
            ids.push(id);
        }
        for (id, machine) in old {
            let rule = Arc::clone(machine.rule());
            let changes = machine.finish();
            self.board.apply(id, &rule, &changes, &self.settings, now_unix_ns);
            self.ended.extend(changes);
        }
        ids
    }

    /// What became of alerts whose rules were loaded no more, since it was asked last.
    pub fn take_ended(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.ended)
    }

    /// True while time counts: an alert is pending, or kept without its row.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let waits =
            |alert: &Alert| alert.fired_unix_ns.is_none() || alert.kept_since_unix_ns.is_some();
        self.machines.values().any(|machine| machine.alerts().any(waits))
    }

    /// A part of what [`RuleSet::step`] takes as a whole or ends: changes of many rows come in several.
    pub fn take(&mut self, id: RuleId, snapshot: bool, changes: &[(i64, Row)]) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.take(snapshot, changes);
        }
    }

    /// A frontier of a rule's view; the rows that changed, or all of them.
    pub fn step(
        &mut self,
        id: RuleId,
        answer: &Answer<'_>,
        changes: &[(i64, Row)],
        now_unix_ns: i64,
    ) -> Step {
        let Some(machine) = self.machines.get_mut(&id) else { return Step::default() };
        let step = machine.step(answer, changes);
        let rule = Arc::clone(machine.rule());
        self.board.apply(id, &rule, &step.changes, &self.settings, now_unix_ns);
        step
    }

    /// What is to be told by now. The clock that is meant is the wall's: what fires is told again though its view
    /// stands still.
    pub fn due(&mut self, now_unix_ns: i64) -> Vec<Notice> {
        let machines = &self.machines;
        let incomplete =
            |id: RuleId| machines.get(&id).and_then(Machine::incomplete).map(str::to_string);
        self.board.due(&self.settings, now_unix_ns, &incomplete)
    }

    /// When [`RuleSet::due`] has something to tell.
    #[must_use]
    pub fn next_unix_ns(&self) -> Option<i64> {
        self.board.next_unix_ns()
    }

    #[must_use]
    pub fn machine(&self, id: RuleId) -> Option<&Machine> {
        self.machines.get(&id)
    }

    /// All alerts, rule after rule.
    pub fn alerts(&self) -> impl Iterator<Item = Listed> {
        self.machines.iter().flat_map(|(id, machine)| {
            machine.alerts().map(|alert| Listed {
                alertname: machine.rule().name.clone(),
                rule: *id,
                state: if alert.fired_unix_ns.is_some() { "firing" } else { "pending" },
                labels: alert.labels.clone(),
                annotations: annotations(machine.rule(), alert, &self.settings),
                value: alert.value,
                active_unix_ns: alert.active_unix_ns,
                fired_unix_ns: alert.fired_unix_ns,
                incomplete: machine.incomplete().map(str::to_string),
                error: machine.error().map(ToString::to_string),
            })
        })
    }

    #[must_use]
    pub fn save(&self) -> Saved {
        let rules = self.machines.values().filter(|machine| machine.alerts().next().is_some());
        let rules = rules.map(|machine| SavedRule {
            file: machine.rule().file.clone(),
            identity: machine.rule().identity(),
            at_unix_ns: machine.at_unix_ns(),
            alerts: machine.alerts().cloned().collect(),
        });
        Saved { rules: rules.collect(), board: self.board.save() }
    }

    /// Takes up what an earlier process saved; the rules were loaded before. What fired by rules that are no more
    /// is resolved.
    pub fn restore(&mut self, saved: Saved, now_unix_ns: i64) {
        self.board.restore(saved.board);
        let mut rules = saved.rules;
        for same_file in [true, false] {
            for (id, machine) in &mut self.machines {
                let rule = Arc::clone(machine.rule());
                let identity = rule.identity();
                let fits = |saved: &SavedRule| {
                    saved.identity == identity && (!same_file || saved.file == rule.file)
                };
                if machine.alerts().next().is_some() {
                    continue;
                }
                let Some(idx) = rules.iter().position(fits) else { continue };
                let saved = rules.remove(idx);
                for alert in saved.alerts.iter().filter(|alert| alert.fired_unix_ns.is_some()) {
                    self.board.link(*id, &rule, alert);
                }
                machine.restore(saved.alerts, saved.at_unix_ns);
            }
        }
        self.board.close_orphans(&self.settings, now_unix_ns);
    }
}
