//! What a rule would have done: answers of the past, in the order of their times, go through the machine that judges
//! answers of now, and what became of its alerts is counted. No IO and no clock.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use weir_types::Value;
use weir_types::json::{time_text, value_to_json};

use crate::labels::Labels;
use crate::state::{AlertRule, Answer, Change, ChangeKind, Row, RuleId, RuleSet, Settings};

/// What is told one by one of a rule; of more only the number.
pub const EVENTS_MAX: usize = 1_000;

/// Looks at the past, unless it is said how far they are apart.
pub const LOOKS: u32 = 120;

const NANOS_PER_SEC: i64 = 1_000_000_000;

/// The times that are looked at: steps of whole panes apart, on which panes end; the last is the present one's begin.
/// Panes are whole seconds.
pub fn times(last_s: i64, step_s: i64, pane_s: i64, now_unix_ns: i64) -> impl Iterator<Item = i64> {
    let step_s = (step_s + pane_s - 1) / pane_s * pane_s;
    let to_s = now_unix_ns / NANOS_PER_SEC / pane_s * pane_s;
    (0..=last_s / step_s).rev().map(move |back| (to_s - back * step_s) * NANOS_PER_SEC)
}

/// Something that would have happened to an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub at_unix_ns: i64,
    /// `pending`, `firing`, `resolved` or `retracted`.
    pub what: &'static str,
    pub labels: Labels,
    pub value: f64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Answers that were looked at, and those of them that were not complete.
    pub looks: u64,
    pub incomplete: u64,
    /// Of which times these were.
    pub from_unix_ns: Option<i64>,
    pub to_unix_ns: i64,
    /// Alerts that began to fire.
    pub fired: u64,
    /// Of these, those that still fire in the end.
    pub firing: u64,
    pub pending: u64,
    pub resolved: u64,
    pub events: Vec<Event>,
    /// Events that are not among them.
    pub left_out: u64,
    /// Answers that made no alerts, and why the last of them did not.
    pub errors: u64,
    pub last_error: String,
}

pub struct Preview {
    set: RuleSet,
    id: Option<RuleId>,
    name: String,
    report: Report,
}

impl Preview {
    #[must_use]
    pub fn new(rule: AlertRule, settings: Settings) -> Preview {
        let (mut set, name) = (RuleSet::default(), rule.name.clone());
        let id = set.load(settings, vec![rule], 0).first().copied();
        Preview { set, id, name, report: Report::default() }
    }

    /// Takes the answer of a later time: all its rows, or with `snapshot: false` what changed.
    pub fn look(&mut self, answer: &Answer<'_>, changes: &[(i64, Row)]) {
        let Some(id) = self.id else { return };
        let at_unix_ns = answer.at_unix_ns;
        let step = self.set.step(id, answer, changes, at_unix_ns);
        // Nobody is told; what would be is let go of.
        drop(self.set.due(at_unix_ns));
        let report = &mut self.report;
        report.looks += 1;
        report.incomplete += u64::from(!answer.complete);
        report.from_unix_ns.get_or_insert(at_unix_ns);
        report.to_unix_ns = at_unix_ns;
        if let Some(error) = self.set.machine(id).and_then(|machine| machine.error()) {
            report.errors += 1;
            report.last_error = error.to_string();
        }
        step.changes.into_iter().for_each(|change| report.note(at_unix_ns, change));
    }

    #[must_use]
    pub fn report(mut self) -> Report {
        let alerts = self.set.alerts().filter(|alert| alert.state == "firing");
        self.report.firing = alerts.count() as u64;
        self.report
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Report {
    fn note(&mut self, at_unix_ns: i64, Change { kind, alert }: Change) {
        let (what, count) = match kind {
            ChangeKind::Pending => ("pending", &mut self.pending),
            ChangeKind::Firing => ("firing", &mut self.fired),
            ChangeKind::Resolved => ("resolved", &mut self.resolved),
            ChangeKind::Retracted => ("retracted", &mut 0),
            ChangeKind::Updated => return,
        };
        *count += 1;
        if self.events.len() == EVENTS_MAX {
            self.left_out += 1;
            return;
        }
        self.events.push(Event { at_unix_ns, what, labels: alert.labels, value: alert.value });
    }

    /// As `weir rules test -o json` prints it.
    #[must_use]
    pub fn json(&self) -> Json {
        let event = |event: &Event| {
            json!({
                "at": time_text(event.at_unix_ns),
                "what": event.what,
                "labels": event.labels,
                "value": value_to_json(&Value::Float64(event.value)),
            })
        };
        json!({
            "from": self.from_unix_ns.map(time_text),
            "to": self.from_unix_ns.map(|_| time_text(self.to_unix_ns)),
            "looks": self.looks,
            "incomplete": self.incomplete,
            "fired": self.fired,
            "firing": self.firing,
            "pending": self.pending,
            "resolved": self.resolved,
            "errors": self.errors,
            "last_error": self.last_error,
            "events": self.events.iter().map(event).collect::<Vec<_>>(),
            "left_out": self.left_out,
        })
    }
}

/// What holds for alerts that nobody is told of.
#[must_use]
pub fn settings(external_labels: Labels, external_url: &str) -> Settings {
    Settings { external_labels, external_url: Arc::from(external_url), ..Settings::default() }
}

#[cfg(test)]
mod tests {
    use weir_types::schema::Relation;
    use weir_types::{Column, DataType, SemanticType};

    use super::*;
    use crate::state::Columns;

    fn preview(rule: &str) -> (Preview, Columns) {
        let text = format!("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x\n    {rule}\n");
        let file = crate::file::parse(&text).unwrap();
        let relation = Relation::new(vec![
            Column::new("svc", DataType::String, SemanticType::None),
            Column::new("value", DataType::Float64, SemanticType::None),
        ]);
        let columns = Columns::of(&relation).unwrap();
        let (group, rule) = (&file.groups[0], &file.groups[0].rules[0]);
        let rule = AlertRule::new("f", group, rule, columns.clone()).unwrap();
        (Preview::new(rule, Settings::default()), columns)
    }

    fn answer(at_s: i64) -> Answer<'static> {
        let at_unix_ns = at_s * 1_000_000_000;
        Answer { at_unix_ns, snapshot: true, complete: true, young: false, why: "" }
    }

    /// Each time that an alert begins to fire counts once, after its `for`; what only was pending does not. Of more
    /// events than are told the number is.
    #[test]
    fn what_would_have_fired_is_counted() {
        let (mut preview, columns) = preview("for: 20s");
        let row = |svc: &str| (1, columns.row(&[Value::str(svc), Value::Float64(2.0)]));
        // a: 10 s to 40 s and 60 s to 90 s; b: one look.
        for at_s in (0..=100).step_by(10) {
            let mut rows = Vec::new();
            if (10..=40).contains(&at_s) || (60..=90).contains(&at_s) {
                rows.push(row("a"));
            }
            if at_s == 50 {
                rows.push(row("b"));
            }
            preview.look(&answer(at_s), &rows);
        }
        let report = preview.report();
        assert_eq!((report.looks, report.fired, report.resolved, report.firing), (11, 2, 2, 0));
        let events: Vec<(i64, &str)> =
            report.events.iter().map(|it| (it.at_unix_ns / 1_000_000_000, it.what)).collect();
        let wanted = [
            (10, "pending"),
            (30, "firing"),
            (50, "resolved"),
            (50, "pending"),
            (60, "retracted"),
            (60, "pending"),
            (80, "firing"),
            (100, "resolved"),
        ];
        let mut sorted = events.clone();
        sorted.sort_by_key(|(at, what)| (*at, *what != "resolved", *what));
        let mut all = wanted.to_vec();
        all.sort_by_key(|(at, what)| (*at, *what != "resolved", *what));
        assert_eq!(sorted, all);

        let (mut preview, columns) = self::preview("labels: {severity: page}");
        for at_s in 0..1_200 {
            let rows = (at_s % 2 == 0).then(|| (1, columns.row(&[Value::str("a")])));
            preview.look(&answer(at_s), &rows.into_iter().collect::<Vec<_>>());
        }
        let report = preview.report();
        assert_eq!((report.fired, report.events.len(), report.left_out), (600, EVENTS_MAX, 200));
        assert_eq!(report.json()["fired"], 600);
    }

    /// An answer that makes no alerts is an error that is told, and one that is not complete is counted.
    #[test]
    fn errors_and_gaps_are_told() {
        let (mut preview, columns) = preview("labels: {severity: page}");
        let row = |svc: &str| (1, columns.row(&[Value::str(svc)]));
        preview.look(&answer(1), &[row("a"), row("a")]);
        preview.look(&Answer { complete: false, ..answer(2) }, &[]);
        let report = preview.report();
        assert_eq!((report.errors, report.incomplete, report.fired), (1, 1, 0));
        assert!(!report.last_error.is_empty());
    }
}
