//! What the owner of the rules shows of them when it is asked. It changes nothing.

use weir_rules::state::{Machine, RuleId};
use weir_sinks::delivery::Completeness;
use weir_types::json::time_text;

use super::Owner;
use crate::service::alerts::send::Receiver;
use crate::service::alerts::status::{AlertsShown, Figures, RuleRow};

impl Owner<'_> {
    pub(super) fn shown(&self) -> AlertsShown {
        AlertsShown {
            alerts: self.set.alerts().collect(),
            rules: self.ids.iter().filter_map(|id| self.rule_row(*id)).collect(),
            receivers: self.kept.receivers.iter().map(Receiver::row).collect(),
            state_error: self.state_error.clone(),
        }
    }

    fn rule_row(&self, id: RuleId) -> Option<RuleRow> {
        let (machine, running) = (self.set.machine(id)?, self.running.get(&id)?);
        let rule = machine.rule();
        let (pending, firing) = counts(machine);
        let texts = |texts: &[weir_rules::file::Text]| {
            texts.iter().map(|text| (text.name.clone(), text.text.clone())).collect()
        };
        let error = machine.error().map(ToString::to_string);
        let evaluated = machine.at_unix_ns();
        Some(RuleRow {
            id: id.number(),
            group: rule.group.clone(),
            name: rule.name.clone(),
            file: rule.file.clone(),
            expr: rule.expr.clone(),
            state: self.state_of(id),
            for_ns: rule.parts.hold.ns(),
            keep_firing_for_ns: rule.parts.keep_firing.ns(),
            labels: texts(&rule.labels),
            annotations: texts(&rule.parts.annotations),
            pending,
            firing,
            evaluated_at: (evaluated > i64::MIN).then(|| time_text(evaluated)),
            incomplete: machine.incomplete().unwrap_or_default().to_string(),
            last_error: error.unwrap_or_else(|| running.last_error.clone()),
        })
    }

    fn state_of(&self, id: RuleId) -> &'static str {
        let has_error = self.set.machine(id).is_some_and(|machine| machine.error().is_some());
        match self.running.get(&id) {
            Some(running) if running.has_failed => "failed",
            Some(running) if !running.is_running => "waiting",
            _ if has_error => "error",
            _ => "running",
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let mut figures = Figures {
            receivers: self.kept.receivers.iter().map(Receiver::row).collect(),
            steps: self.steps,
            state_errors: self.kept.state_errors,
            state_bytes: self.state_bytes,
            abandoned: self.kept.abandoned,
            history_dropped: self.history.dropped,
            ..Figures::default()
        };
        for id in &self.ids {
            *figures.rules.entry(self.state_of(*id)).or_default() += 1;
            let Some(machine) = self.set.machine(*id) else { continue };
            let (pending, firing) = counts(machine);
            figures.pending += pending as u64;
            figures.firing += firing as u64;
            let counters = machine.counters;
            figures.repaired += counters.repaired;
            figures.merged += counters.merged;
            figures.negative += counters.negative;
            figures.refused += counters.refused;
        }
        figures
    }
}

/// Its alerts that are pending, and those that fire.
fn counts(machine: &Machine) -> (usize, usize) {
    let firing = machine.alerts().filter(|alert| alert.fired_unix_ns.is_some()).count();
    (machine.alerts().count() - firing, firing)
}

/// For people: what an answer lacks.
pub(super) fn why_incomplete(completeness: &Completeness) -> String {
    if completeness.complete {
        return String::new();
    }
    let mut parts = Vec::new();
    if !completeness.lagging.is_empty() {
        parts.push(format!("nodes lag: {}", completeness.lagging.join(", ")));
    }
    for (table, reasons) in &completeness.lost {
        let lost: u64 = reasons.values().sum();
        let reasons: Vec<&str> = reasons.keys().map(String::as_str).collect();
        parts.push(format!("{lost} lost of {table} ({})", reasons.join(", ")));
    }
    if parts.is_empty() {
        let since = time_text(completeness.covers_from_unix_ns);
        parts.push(format!("its window reaches back before {since}"));
    }
    parts.join("; ")
}
