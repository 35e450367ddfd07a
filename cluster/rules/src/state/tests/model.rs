//! Random changes, errors, incomplete answers, reloads and restarts, against an evaluator in the manner of
//! Prometheus that looks at all rows each time.

use std::collections::{BTreeMap, BTreeSet};

use weir_types::random::SplitMix;

use super::super::Row;
use super::{SECOND, World, row};

#[derive(Clone, Debug, PartialEq)]
struct Alert {
    active_s: i64,
    fired_s: Option<i64>,
    kept_s: Option<i64>,
}

#[derive(Default)]
struct Model {
    hold_s: i64,
    keep_s: i64,
    limit: usize,
    /// (label, value) → how often.
    rows: BTreeMap<(u64, u64), i64>,
    alerts: BTreeMap<u64, Alert>,
    /// What receivers know to fire, since when.
    told: BTreeMap<u64, i64>,
}

impl Model {
    /// One evaluation over everything; what is told by it.
    fn evaluate(&mut self, at_s: i64, complete: bool) -> BTreeSet<String> {
        let present: BTreeSet<u64> = self.rows.keys().map(|(label, _)| *label).collect();
        let equal = self.rows.values().sum::<i64>() > present.len() as i64;
        let mut told = BTreeSet::new();
        if equal || (self.limit > 0 && present.len() > self.limit) {
            return told;
        }
        for label in &present {
            let new = Alert { active_s: at_s, fired_s: None, kept_s: None };
            let alert = self.alerts.entry(*label).or_insert(new);
            alert.kept_s = None;
            if alert.fired_s.is_none() && at_s - alert.active_s >= self.hold_s {
                alert.fired_s = Some(at_s);
                self.told.insert(*label, at_s);
                told.insert(format!("fired {label} {at_s}"));
            }
        }
        let gone: Vec<u64> =
            self.alerts.keys().filter(|label| !present.contains(*label)).copied().collect();
        for label in gone.into_iter().filter(|_| complete) {
            let alert = self.alerts.get_mut(&label).unwrap();
            let since = *alert.kept_s.get_or_insert(at_s);
            let fired = alert.fired_s.is_some();
            if !fired || at_s - since >= self.keep_s {
                self.alerts.remove(&label);
                if let (true, Some(start)) = (fired, self.told.remove(&label)) {
                    told.insert(format!("resolved {label} {start}"));
                }
            }
        }
        told
    }

    fn yaml(&self, annotation: u64) -> String {
        let Model { hold_s, keep_s, limit, .. } = self;
        format!(
            "  limit: {limit}\n  rules:\n  - {{alert: A, expr: e, for: {hold_s}s, keep_firing_for: {keep_s}s, \
             annotations: {{n: '{annotation} {{{{ $value }}}}'}}}}\n"
        )
    }
}

/// A history: the model and the real thing side by side.
struct History {
    seed: u64,
    random: SplitMix,
    model: Model,
    world: World,
    at_s: i64,
}

impl History {
    fn new(seed: u64) -> History {
        let mut random = SplitMix(seed);
        let mut one_of = |of: [i64; 4]| of[random.below(4) as usize];
        let (hold_s, keep_s, limit) =
            (one_of([0, 0, 3, 7]), one_of([0, 0, 4, 9]), one_of([0, 0, 0, 3]) as usize);
        let model = Model { hold_s, keep_s, limit, ..Model::default() };
        let world = World::new(&model.yaml(0));
        History { seed, random, model, world, at_s: 10 }
    }

    /// Rows that come and go, some of them twice.
    fn change_rows(&mut self) -> Vec<(i64, Row)> {
        let mut changes = Vec::new();
        for _ in 0..self.random.below(5) {
            let key = (self.random.below(5), self.random.below(2));
            let count = self.model.rows.entry(key).or_default();
            let diff = if *count > 0 && self.random.below(5) > 0 { -1 } else { 1 };
            *count += diff;
            changes.push((diff, row(key.0.to_string(), key.1 as f64)));
        }
        self.model.rows.retain(|_, count| *count != 0);
        changes
    }

    fn all_rows(&self) -> Vec<(i64, Row)> {
        let all = self.model.rows.iter();
        all.map(|((label, value), count)| (*count, row(label.to_string(), *value as f64))).collect()
    }

    /// A frontier of both; they have to be the same in what they tell and in what they know.
    fn compare(&mut self, step: u64, complete: bool, snapshot: bool, changes: &[(i64, Row)]) {
        let wanted = self.model.evaluate(self.at_s, complete);
        let (_, told) = self.world.step(0, self.at_s, complete, snapshot, changes);
        let told: BTreeSet<String> =
            told.into_iter().filter(|told| !told.starts_with("again")).collect();
        assert_eq!(told, wanted, "seed {}, step {step}", self.seed);
        let machine = self.world.set.machine(self.world.ids[0]).unwrap();
        let alerts = machine.alerts().map(|alert| {
            let seconds = |at: Option<i64>| at.map(|at| at / SECOND);
            let found = Alert {
                active_s: alert.active_unix_ns / SECOND,
                fired_s: seconds(alert.fired_unix_ns),
                kept_s: seconds(alert.kept_since_unix_ns),
            };
            (alert.labels.get("svc").unwrap().parse().unwrap(), found)
        });
        let alerts: BTreeMap<u64, Alert> = alerts.collect();
        assert_eq!(alerts, self.model.alerts, "seed {}, step {step}", self.seed);
    }

    /// Other durations and another text under the same rule.
    fn reload(&mut self, step: u64) {
        self.model.hold_s = [0, 3, 7][self.random.below(3) as usize];
        self.model.keep_s = [0, 4, 9][self.random.below(3) as usize];
        self.world.load(&self.model.yaml(step), self.at_s);
    }

    /// Time while down is no time. The first answer has all rows.
    fn restart(&mut self, step: u64) {
        self.world.restart(&self.model.yaml(step), self.at_s);
        let down_s = self.random.below(100) as i64;
        self.at_s += down_s;
        for alert in self.model.alerts.values_mut() {
            if alert.fired_s.is_none() {
                alert.active_s += down_s;
            }
            alert.kept_s = alert.kept_s.map(|since| since + down_s);
        }
        let all = self.all_rows();
        self.compare(step, true, true, &all);
    }
}

/// At every frontier the incremental states are those of the evaluator that begins anew, and so is what is told:
/// over changes, equal labels, limits, incomplete answers, snapshots, reloads and restarts.
#[test]
fn increments_equal_the_model() {
    for seed in 0..400 {
        let mut history = History::new(seed);
        for step in 0..60 {
            history.at_s += history.random.below(4) as i64;
            let changes = history.change_rows();
            let snapshot = step == 0 || history.random.below(9) == 0;
            let changes = if snapshot { history.all_rows() } else { changes };
            let complete = history.random.below(4) > 0;
            history.compare(step, complete, snapshot, &changes);
            match history.random.below(12) {
                0 => history.reload(step),
                1 => history.restart(step),
                _ => {}
            }
        }
    }
}

/// A step costs what changed, not what is there: a thousand steps of one change over 20,000 alerts look at two
/// thousand label sets. Catches a scan over all alerts.
#[test]
fn a_step_costs_what_changed() {
    let mut world = World::new("  rules:\n  - {alert: A, expr: e, for: 1h}\n");
    let rows: Vec<_> = (0..19_000).map(|n| (1, row(format!("s{n}"), 1.0))).collect();
    world.at(1, &rows);
    let before = world.set.machine(world.ids[0]).unwrap().counters.looked;
    for step in 0..1_000 {
        let (label, at) = (format!("t{step}"), step + 2);
        world.at(at, &[(1, row(&label, 1.0))]);
        world.at(at, &[(-1, row(&label, 1.0))]);
    }
    let looked = world.set.machine(world.ids[0]).unwrap().counters.looked - before;
    assert_eq!(looked, 2_000);
}
