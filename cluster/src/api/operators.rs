//! Running dataflows in `/metrics`: by part and kind of operator, so that the number of series is bounded whatever
//! is installed. Single queries are in `weir_queries` and its like. Names of metrics are part of the contract.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::metrics::{head, line, seconds, single};
use crate::service::figures::{Counts, Sample};

/// Operators of one kind in one part.
#[derive(Clone, Copy, Default)]
struct Kind {
    recent: Counts,
    held_bytes: u64,
}

pub(super) fn write_metrics(out: &mut String, sample: &Sample, left_out_total: u64) {
    let lateness_ns = sample.queries.iter().map(|query| query.lateness_ns).max().unwrap_or(0);
    for (metric, help, value) in [
        ("weir_queries", "Installed queries.", sample.queries.len() as u64),
        ("weir_feeds", "Feeds, which queries share.", sample.feeds.len() as u64),
    ] {
        single(out, metric, "gauge", help, value);
    }
    let (metric, late) = ("weir_query_lateness_max_seconds", seconds(lateness_ns));
    single(out, metric, "gauge", "How late the latest query is.", late);
    let mut kinds: BTreeMap<(&str, &str), Kind> = BTreeMap::new();
    for operator in &sample.operators {
        let kind = kinds.entry((operator.part(), &operator.figures.kind)).or_default();
        kind.recent.add(operator.recent);
        kind.held_bytes += operator.figures.held_bytes;
    }
    let per_s = |count: u64| sample.per_s(count) as u64;
    type Of<'a> = &'a dyn Fn(&Kind) -> u64;
    let per_kind: [(&str, &str, Of<'_>); 3] = [
        ("weir_operator_rows_in_per_second", "Rows, or changes, that operators took.", &|kind| {
            per_s(kind.recent.rows_in)
        }),
        ("weir_operator_rows_out_per_second", "Rows, or changes, that operators gave.", &|kind| {
            per_s(kind.recent.rows_out)
        }),
        ("weir_operator_held_bytes", "What operators keep, and what waits for them.", &|kind| {
            kind.held_bytes
        }),
    ];
    for (metric, help, of) in per_kind {
        head(out, metric, "gauge", help);
        for ((part, kind), value) in &kinds {
            line(out, metric, &[("part", part), ("kind", kind)], of(value));
        }
    }
    let metric = "weir_operator_cpu_seconds_per_second";
    head(out, metric, "gauge", "Time spent in operators: cores.");
    for ((part, kind), value) in &kinds {
        let busy = seconds(per_s(value.recent.busy_ns));
        let _ = writeln!(out, "{metric}{{part=\"{part}\",kind=\"{kind}\"}} {busy}");
    }
    let metric = "weir_operators_left_out_total";
    single(out, metric, "counter", "Operators that samples had no room for.", left_out_total);
}
