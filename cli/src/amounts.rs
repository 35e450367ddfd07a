//! Figures as people read them: three digits and the largest unit that fits. Values of flags are read elsewhere.

use serde_json::Value as Json;

pub(crate) fn number(of: &Json, name: &str) -> f64 {
    of[name].as_f64().unwrap_or(0.0)
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let (unit, name) = units
        .iter()
        .rev()
        .find(|(unit, _)| value >= *unit)
        .or(units.first())
        .copied()
        .unwrap_or((1.0, ""));
    let value = value / unit;
    let digits = if value >= 100.0 || value == 0.0 { 0 } else { usize::from(value < 10.0) + 1 };
    format!("{value:.digits$}{name}")
}

pub(crate) fn duration(ns: f64) -> String {
    scaled(ns, &[(1.0, " ns"), (1e3, " µs"), (1e6, " ms"), (1e9, " s")])
}

pub(crate) fn bytes(count: f64) -> String {
    const KIB: f64 = 1024.0;
    scaled(count, &[(1.0, " B"), (KIB, " KiB"), (KIB * KIB, " MiB"), (KIB * KIB * KIB, " GiB")])
}

pub(crate) fn rows(count: f64) -> String {
    scaled(count, &[(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")])
}
