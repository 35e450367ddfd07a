//! Random changes, errors, incomplete answers, reloads and restarts, against an evaluator in the manner of
//! Prometheus that looks at all rows each time.

use std::collections::{BTreeMap, BTreeSet};

use weir_types::random::SplitMix;

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

/// At every frontier the incremental states are those of the evaluator that begins anew, and so is what is told:
/// over changes, equal labels, limits, incomplete answers, snapshots, reloads and restarts.
#[test]
fn increments_equal_the_model() {
    let cases = 400;
    for seed in 0..cases {
        let mut random = SplitMix(seed);
        let mut model = Model {
            hold_s: [0, 0, 3, 7][random.below(4) as usize],
            keep_s: [0, 0, 4, 9][random.below(4) as usize],
            limit: [0, 0, 0, 3][random.below(4) as usize],
            ..Model::default()
        };
        let mut world = World::new(&model.yaml(0));
        let mut at_s = 10;
        let mut snapshot = true;
        for step in 0..60 {
            at_s += random.below(4) as i64;
            let mut changes = Vec::new();
            for _ in 0..random.below(5) {
                let key = (random.below(5), random.below(2));
                let count = model.rows.get(&key).copied().unwrap_or(0);
                let diff = if count > 0 && random.below(5) > 0 { -1 } else { 1 };
                *model.rows.entry(key).or_default() += diff;
                changes.push((diff, row(key.0.to_string(), key.1 as f64)));
            }
            model.rows.retain(|_, count| *count != 0);
            if snapshot || random.below(9) == 0 {
                snapshot = true;
                let all = model.rows.iter();
                changes = all
                    .map(|((label, value), count)| (*count, row(label.to_string(), *value as f64)))
                    .collect();
            }
            let complete = random.below(4) > 0;
            let wanted = model.evaluate(at_s, complete);
            let (_, told) = world.step(0, at_s, complete, snapshot, &changes);
            let told: BTreeSet<String> =
                told.into_iter().filter(|told| !told.starts_with("again")).collect();
            assert_eq!(told, wanted, "seed {seed}, step {step}");
            let alerts: BTreeMap<u64, Alert> = world
                .set
                .machine(world.ids[0])
                .unwrap()
                .alerts()
                .map(|alert| {
                    let seconds = |at: Option<i64>| at.map(|at| at / SECOND);
                    let found = Alert {
                        active_s: alert.active_unix_ns / SECOND,
                        fired_s: seconds(alert.fired_unix_ns),
                        kept_s: seconds(alert.kept_since_unix_ns),
                    };
                    (alert.labels.get("svc").unwrap().parse().unwrap(), found)
                })
                .collect();
            assert_eq!(alerts, model.alerts, "seed {seed}, step {step}");
            snapshot = false;
            match random.below(12) {
                0 => {
                    model.hold_s = [0, 3, 7][random.below(3) as usize];
                    model.keep_s = [0, 4, 9][random.below(3) as usize];
                    world.load(&model.yaml(step), at_s);
                }
                1 => {
                    world.restart(&model.yaml(step), at_s);
                    // Time while down is no time.
                    let down_s = random.below(100) as i64;
                    at_s += down_s;
                    for alert in model.alerts.values_mut() {
                        if alert.fired_s.is_none() {
                            alert.active_s += down_s;
                        }
                        alert.kept_s = alert.kept_s.map(|since| since + down_s);
                    }
                    snapshot = true;
                    // The next answer is at the very time at which the process is back.
                    let all = model.rows.iter();
                    let all: Vec<_> = all
                        .map(|((label, value), count)| {
                            (*count, row(label.to_string(), *value as f64))
                        })
                        .collect();
                    let wanted = model.evaluate(at_s, true);
                    let (_, told) = world.step(0, at_s, true, true, &all);
                    let told: BTreeSet<String> =
                        told.into_iter().filter(|told| !told.starts_with("again")).collect();
                    assert_eq!(told, wanted, "seed {seed}, step {step}, restarted");
                }
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
