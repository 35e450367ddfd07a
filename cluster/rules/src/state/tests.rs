//! Rules over time, one case a promise; and random changes against an evaluator that begins anew each time.

mod cases;
mod model;

use std::sync::Arc;

use weir_types::{Column, DataType, Relation, SemanticType, Value};

use super::{AlertRule, Answer, Columns, Row, RuleId, RuleSet, Settings};
use crate::file;

pub(super) const SECOND: i64 = 1_000_000_000;

pub(super) fn columns(names: &[&str]) -> Columns {
    let mut columns: Vec<Column> =
        names.iter().map(|name| Column::new(*name, DataType::String, SemanticType::None)).collect();
    columns.push(Column::new("value", DataType::Float64, SemanticType::None));
    Columns::of(&Relation::new(columns)).unwrap()
}

/// The rules of a file's one group, over a table with the column `svc`.
pub(super) fn rules(yaml: &str) -> Vec<AlertRule> {
    let text = format!("groups:\n- name: g\n{yaml}");
    let file = file::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let group = &file.groups[0];
    let rules = group.rules.iter();
    rules.filter_map(|rule| AlertRule::new("f.yml", group, rule, columns(&["svc"]))).collect()
}

pub(super) fn row(svc: impl AsRef<[u8]>, value: f64) -> Row {
    columns(&["svc"]).row(&[Value::String(svc.as_ref().to_vec()), Value::Float64(value)])
}

/// A set of rules and a clock of seconds.
pub(super) struct World {
    pub(super) set: RuleSet,
    pub(super) ids: Vec<RuleId>,
}

impl World {
    pub(super) fn new(yaml: &str) -> World {
        let mut world = World { set: RuleSet::new(Settings::default()), ids: Vec::new() };
        world.load(yaml, 0);
        world
    }

    pub(super) fn load(&mut self, yaml: &str, at_s: i64) {
        self.ids = self.set.load(settings(), rules(yaml), at_s * SECOND);
    }

    /// A frontier of the first rule: what happened, and what is told.
    pub(super) fn at(&mut self, at_s: i64, changes: &[(i64, Row)]) -> (Vec<String>, Vec<String>) {
        self.step(0, at_s, true, false, changes)
    }

    pub(super) fn step(
        &mut self,
        rule: usize,
        at_s: i64,
        complete: bool,
        snapshot: bool,
        changes: &[(i64, Row)],
    ) -> (Vec<String>, Vec<String>) {
        let now = at_s * SECOND;
        let answer = Answer { at_unix_ns: now, snapshot, complete, young: false, why: "n2 lags" };
        let step = self.set.step(self.ids[rule], &answer, changes, now);
        let changed = step.changes.iter().map(|change| {
            let svc = change.alert.labels.get("svc").unwrap_or("-");
            format!("{:?} {svc}", change.kind).to_lowercase()
        });
        (changed.collect(), self.told(at_s))
    }

    pub(super) fn told(&mut self, at_s: i64) -> Vec<String> {
        let notices = self.set.due(at_s * SECOND);
        let text = |notice: &super::Notice| {
            let svc = notice.labels.get("svc").unwrap_or("-");
            format!("{:?} {svc} {}", notice.kind, notice.starts_unix_ns / SECOND).to_lowercase()
        };
        notices.iter().map(text).collect()
    }

    /// `svc state` of all alerts.
    pub(super) fn alerts(&self) -> Vec<String> {
        let alerts = self.set.alerts();
        alerts.map(|a| format!("{} {}", a.labels.get("svc").unwrap_or("-"), a.state)).collect()
    }

    /// Stops, and begins again from what was saved.
    pub(super) fn restart(&mut self, yaml: &str, at_s: i64) {
        let saved = serde_json::to_string(&self.set.save()).unwrap();
        self.set = RuleSet::new(settings());
        self.load(yaml, at_s);
        self.set.restore(serde_json::from_str(&saved).unwrap(), at_s * SECOND);
    }
}

fn settings() -> Settings {
    Settings { external_url: Arc::from("http://w"), ..Settings::default() }
}
