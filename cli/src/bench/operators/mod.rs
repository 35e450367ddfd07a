//! `weir bench operators`: what changes cost when the state is twice as large. Each case is a script; it is fed a
//! state of rows, then the same changes every second (rows that come, rows that leave the window), once over a
//! state and once over twice as much. An operator whose cost goes with the changes has a ratio of 1.
//!
//! Counted is the CPU time of the engines' threads while the changes are worked on; the two sizes take turns, and
//! the least of the rounds counts, since other work on the machine only adds. The answer at the end of each
//! pass is compared with an evaluation from the rows by plain code (`reference`), or, where a case has none, with
//! a pipeline that is given all rows at once.

mod cases;
mod reference;

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value as Json, json};
use weir_cluster::view::SnapshotLimits;
use weir_types::clock::tick_unix_ns;
use weir_types::tables::{LetEvents, LetEventsRow, TableBuilder};
use weir_types::{PackedRow, RecordBatch};

use self::cases::{CASES, Case};
use super::let_workload::{ORIGIN_MS, engine_cpu_ns, prepared_as, start_prepared};
use crate::failure::Failure;
use crate::offline::pipeline::Pipeline;
use crate::output;

const REFRESH_MS: u64 = 1_000;
const WINDOW_S: u64 = 300;
/// When the state comes: it stays for the whole run.
const STATE_AT_S: u64 = 200;
/// How much more the larger state may cost.
const RATIO_MAX: f64 = 1.1;
const BATCH_ROWS_MAX: usize = 4_096;

#[derive(Debug, Args)]
pub(crate) struct OperatorsArgs {
    /// Rows of the smaller state.
    #[arg(long, default_value_t = 8_000)]
    pub(crate) rows: u64,
    /// Rows that come, and rows that leave, in a second.
    #[arg(long, default_value_t = 200)]
    pub(crate) changes: u64,
    /// Seconds of changes that are measured.
    #[arg(long, default_value_t = 40)]
    pub(crate) seconds: u64,
    /// Passes over each size; the cheapest counts.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    /// Only this case, or those whose names begin so.
    #[arg(long)]
    pub(crate) only: Option<String>,
}

/// What a script reads: a row of `let_events`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) time_unix_ns: i64,
    /// `pod`: few rows have the same, however many there are.
    pub(super) key: u64,
    /// `status`: 0 or 1.
    pub(super) side: i64,
    /// `latency`: 1 to 100, so that a sketch's buckets are exact.
    pub(super) value: i64,
    /// `req_size`: no two rows have the same.
    pub(super) number: i64,
}

/// Rows of the same `service`: as many groups whatever the state.
const GROUPS: u64 = 8;

impl Row {
    fn new(at_ms: u64, key: u64, number: u64) -> Row {
        let side = match (key % 5, key % 7) {
            (0, _) => 0,
            (_, 0) => 1,
            _ => (number / 2 % 2) as i64,
        };
        let value = 1 + (number * 37 % 100) as i64;
        Row { time_unix_ns: tick_unix_ns(at_ms), key, side, value, number: number as i64 }
    }
    pub(super) fn pod(&self) -> String {
        format!("shop/pod-{:06}", self.key)
    }
    pub(super) fn group(&self) -> u64 {
        self.key % GROUPS
    }
    pub(super) fn service(&self) -> String {
        format!("shop/service-{}", self.group())
    }
}

/// All rows of a pass, by the second at whose end they come.
struct Feed {
    by_second: BTreeMap<u64, Vec<Row>>,
}

impl Feed {
    /// A row leaves the window in the second of changes in which another comes.
    fn new(args: &OperatorsArgs, rows: u64) -> Feed {
        let keys = (rows / 4).max(1);
        let mut by_second: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
        let mut number = 0;
        let mut next = |second: u64, key: u64| {
            number += 1;
            let at_ms = ORIGIN_MS + second * 1000 - 500 + number % 400;
            by_second.entry(second).or_default().push(Row::new(at_ms, key, number));
        };
        // Keys by a stride, so that neighbours in time are none in the order of keys.
        let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys;
        for second in 1..=args.seconds {
            (0..args.changes).for_each(|n| next(second, spread(second * args.changes + n)));
        }
        (0..rows).for_each(|n| next(STATE_AT_S, n / 4));
        for second in 1..=args.seconds {
            (0..args.changes).for_each(|n| next(WINDOW_S + second, spread(n * 31 + second)));
        }
        Feed { by_second }
    }

    /// Rows that the window holds at the end of a second.
    fn at(&self, second: u64) -> Vec<Row> {
        let since = second.saturating_sub(WINDOW_S);
        self.by_second
            .range(since + 1..=second)
            .flat_map(|(_, rows)| rows.iter().copied())
            .collect()
    }
}

fn batches(rows: &[Row]) -> Vec<RecordBatch> {
    let mut builder = TableBuilder::<LetEvents>::new();
    let mut batch = |rows: &[Row]| {
        for row in rows {
            builder.push(&LetEventsRow {
                time_: row.time_unix_ns,
                latency: row.value,
                req_size: row.number,
                resp_size: 0,
                pod: row.pod().as_bytes(),
                service: row.service().as_bytes(),
                remote: b"",
                endpoint: format!("/api/v1/items/{}/stock", row.key).as_bytes(),
                status: row.side,
            });
        }
        builder.finish()
    };
    rows.chunks(BATCH_ROWS_MAX).map(&mut batch).collect()
}

fn start(case: &Case) -> anyhow::Result<Pipeline> {
    let text = format!("{}{}", cases::PRELUDE, case.script);
    start_prepared(prepared_as(case.name, &text, REFRESH_MS)?, 1)
}

type Multiset = BTreeMap<PackedRow, i64>;

fn shown(pipeline: &Pipeline) -> anyhow::Result<Multiset> {
    let all = pipeline.view().snapshot(SnapshotLimits::NONE);
    let all = all.map_err(|_| anyhow::anyhow!("an answer without a limit is too large"))?;
    Ok(all.iter().flat_map(|changes| changes.rows.iter().cloned()).collect())
}

/// One pass: the CPU time of the changes, and whether the answer at its end is right.
fn pass(case: &Case, args: &OperatorsArgs, rows: u64) -> anyhow::Result<(u64, bool)> {
    let feed = Feed::new(args, rows);
    let mut pipeline = start(case)?;
    let close = |pipeline: &mut Pipeline, second: u64, rows: &[Row]| {
        batches(rows).into_iter().for_each(|batch| pipeline.admit("let_events", batch));
        pipeline.close_tick(ORIGIN_MS + second * 1000).map(drop)
    };
    let end = WINDOW_S + args.seconds;
    for (second, rows) in feed.by_second.range(..=WINDOW_S) {
        close(&mut pipeline, *second, rows)?;
    }
    close(&mut pipeline, WINDOW_S, &[])?;
    let before_ns = engine_cpu_ns(&pipeline);
    for (second, rows) in feed.by_second.range(WINDOW_S + 1..) {
        close(&mut pipeline, *second, rows)?;
    }
    let spent_ns = engine_cpu_ns(&pipeline) - before_ns;
    let answer = shown(&pipeline)?;
    pipeline.stop();
    let inside = feed.at(end);
    let expected = match case.reference {
        Some(reference) => reference::packed(reference(&inside)),
        None => {
            let mut fresh = start(case)?;
            close(&mut fresh, end, &inside)?;
            let answer = shown(&fresh)?;
            fresh.stop();
            answer
        }
    };
    if answer != expected {
        let (have, wanted) = (answer.len(), expected.len());
        output::note(&format!("{}: wrong, {have} rows, {wanted} expected", case.name));
    }
    Ok((spent_ns, answer == expected && !answer.is_empty()))
}

fn measure(case: &Case, args: &OperatorsArgs) -> anyhow::Result<Json> {
    let mut least_ns = [u64::MAX; 2];
    let mut verified = true;
    for _ in 0..args.rounds.max(1) {
        for (at, rows) in [args.rows, 2 * args.rows].into_iter().enumerate() {
            let (spent_ns, is_right) = pass(case, args, rows)?;
            least_ns[at] = least_ns[at].min(spent_ns);
            verified &= is_right;
        }
    }
    let changes = (2 * args.changes * args.seconds).max(1);
    let ratio = least_ns[1] as f64 / least_ns[0].max(1) as f64;
    Ok(json!({
        "operator": case.name,
        "cpu_ns_per_change": least_ns.map(|ns| ns / changes),
        "ratio": (ratio * 1000.0).round() / 1000.0,
        "verified": verified,
        "compared_to": if case.reference.is_some() { "reference" } else { "one evaluation" },
    }))
}

pub(crate) fn run(args: &OperatorsArgs) -> Result<(), Failure> {
    if args.seconds == 0 || args.seconds >= STATE_AT_S || args.rows == 0 || args.changes == 0 {
        let usage =
            format!("--seconds is 1 to {}, --rows and --changes at least 1", STATE_AT_S - 1);
        return Err(Failure::Usage(usage));
    }
    let is_wanted =
        |case: &&Case| args.only.as_ref().is_none_or(|only| case.name.starts_with(only));
    let cases: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    if cases.is_empty() {
        let known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        return Err(Failure::Usage(format!("--only: choose one of {}", known.join(", "))));
    }
    let mut measured = Vec::new();
    for case in cases {
        let result = measure(case, args)?;
        output::note(&format!("{} {}", result["operator"], result["ratio"]));
        measured.push(result);
    }
    let ratio = |result: &Json| result["ratio"].as_f64().unwrap_or(f64::MAX);
    let above = |result: &&Json| ratio(result) > RATIO_MAX;
    let report = json!({
        "bench": "operators",
        "verified": measured.iter().all(|result| result["verified"] == true),
        "state_rows": [args.rows, 2 * args.rows],
        "changes_per_s": 2 * args.changes,
        "seconds": args.seconds,
        "rounds": args.rounds,
        "ratio_max": measured.iter().map(ratio).fold(0.0, f64::max),
        "above": measured.iter().filter(above).map(|result| &result["operator"]).collect::<Vec<_>>(),
        "operators": measured,
    });
    output::line(&report.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every case's answer is that of its reference, at both sizes: catches a script that means something else than
    /// the code it is compared with, and an engine that is wrong after rows have left.
    #[test]
    fn cases_are_right() {
        let args = OperatorsArgs { rows: 120, changes: 9, seconds: 4, rounds: 1, only: None };
        for case in CASES {
            for rows in [args.rows, 2 * args.rows] {
                let (_, is_right) = pass(case, &args, rows).unwrap();
                assert!(is_right, "{} over {rows} rows", case.name);
            }
        }
    }

    /// The feed holds its state through the measured time, and as many rows leave as come: catches a comparison
    /// of states that are equally large.
    #[test]
    fn the_state_is_twice_as_large() {
        let args = OperatorsArgs { rows: 100, changes: 5, seconds: 6, rounds: 1, only: None };
        for (rows, held) in [(100, 130), (200, 230)] {
            let feed = Feed::new(&args, rows);
            for second in 0..=args.seconds {
                assert_eq!(feed.at(WINDOW_S + second).len(), held, "at {second}");
            }
        }
    }
}
