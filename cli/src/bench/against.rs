//! Two binaries in turns: this one and a recorded one, each run as a process of its own with the same arguments, A B
//! A B, so that what else the machine does hits both. What counts is the ratio.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};

use crate::output;

/// What is compared: lower is better.
const FIGURES: [&str; 3] = ["cpu_ns_per_event", "process_cpu_ns_per_event", "rss_bytes"];

/// `args`: of `weir bench`. A report with, of each figure, all values, both medians and this one's share of
/// the other's.
pub(super) fn run(other: &Path, args: &[String], pairs: u32) -> anyhow::Result<Json> {
    let own = std::env::current_exe().context("could not find this program's file")?;
    let mut reports: [Vec<Json>; 2] = [Vec::new(), Vec::new()];
    for pair in 1..=pairs.max(1) {
        for (at, program) in [own.as_path(), other].into_iter().enumerate() {
            reports[at].push(one(program, args)?);
        }
        output::note(&format!("pair {pair} of {pairs}"));
    }
    Ok(compared(&reports))
}

fn one(program: &Path, args: &[String]) -> anyhow::Result<Json> {
    let name = program.display();
    let mut command = Command::new(program);
    command.arg("bench").args(args).stdin(Stdio::null()).stderr(Stdio::inherit());
    let done = command.output().with_context(|| format!("could not run {name}"))?;
    if !done.status.success() {
        bail!("{name} ended with {}", done.status);
    }
    let text = String::from_utf8_lossy(&done.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{name} printed no JSON"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

fn compared([own, other]: &[Vec<Json>; 2]) -> Json {
    let mut figures = serde_json::Map::new();
    for name in FIGURES {
        let values = |reports: &[Json]| -> Vec<f64> {
            reports.iter().filter_map(|report| report[name].as_f64()).collect()
        };
        let (here, there) = (values(own), values(other));
        let (middle, other_middle) = (median(here.clone()), median(there.clone()));
        let ratio = (other_middle > 0.0).then(|| (middle / other_middle * 1e4).round() / 1e4);
        let all = json!({
            "this": here, "other": there, "this_median": middle, "other_median": other_middle,
            "ratio": ratio,
        });
        figures.insert(name.to_string(), all);
    }
    let is_verified = |reports: &[Json]| reports.iter().all(|report| report["verified"] == true);
    json!({
        "pairs": own.len(),
        "verified": is_verified(own),
        "other_verified": is_verified(other),
        "figures": figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ratio is this one's median by the other's, and of what was not verified nothing says so. Catches a
    /// ratio upside down, and one of means that a single disturbed run decides.
    #[test]
    fn a_ratio_is_of_medians() {
        let report =
            |ns: f64, verified: bool| json!({"cpu_ns_per_event": ns, "verified": verified});
        let own = vec![report(100.0, true), report(900.0, true), report(110.0, true)];
        let other = vec![report(220.0, false), report(200.0, true), report(230.0, true)];
        let report = compared(&[own, other]);
        assert_eq!(report["figures"]["cpu_ns_per_event"]["ratio"], 0.5);
        assert_eq!(report["figures"]["rss_bytes"]["ratio"], Json::Null);
        assert_eq!((&report["verified"], &report["other_verified"]), (&json!(true), &json!(false)));
    }
}
