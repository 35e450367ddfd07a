//! `weir bench let`: the LET workload, from PxL text through compiler, split, both engines and the
//! bus to the view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use weir_cluster::planner::{self, Prepared, ScriptRequest};
use weir_cluster::service::stats;
use weir_types::clock::tick_unix_ns;
use weir_types::metadata::MetadataSnapshot;
use weir_types::{Clock, WallClock};

use super::generator::{Batcher, Event, Generator};
use super::{LetArgs, against, let_verify};
use crate::failure::Failure;
use crate::offline::pipeline::{Pipeline, PipelineConfig};
use crate::output;

const SCRIPT: &str = include_str!("let.pxl");
pub(super) const SEED: u64 = 42;
pub(super) const TICK_MS: u64 = 100;
pub(super) const WINDOW_SECS: u64 = 300;
/// 2026-01-01T00:00:00Z
pub(super) const ORIGIN_MS: u64 = 1_767_225_600_000;

struct Measured {
    events: u64,
    engine_cpu_ns: u64,
    pipeline_cpu_ns: u64,
    wall_ns: u64,
    state_bytes: u64,
    tick_to_change: weir_cluster::service::Quantiles,
    rss_bytes: u64,
}

pub(crate) fn run(args: &LetArgs) -> Result<(), Failure> {
    if args.rate == 0 || args.seconds == 0 || args.rate > 10_000_000 {
        return Err(Failure::Usage("--rate is 1 to 10000000, --seconds at least 1".to_string()));
    }
    if let Some(other) = &args.against {
        let mut report = against::run(other, &words(args), args.pairs)?;
        report["bench"] = json!("let");
        report["arguments"] = json!(words(args));
        return output::line(&report.to_string());
    }
    let measured = measure(args)?;
    let compared = if args.verify {
        output::note("verifying every refresh against an exact reference …");
        Some(let_verify::verify(args)?)
    } else {
        None
    };
    let verified = compared.as_ref().is_some_and(|compared| compared.is_all(args));
    let per_event = |ns: u64| (ns as f64 / measured.events as f64 * 10.0).round() / 10.0;
    let report = json!({
        "bench": "let",
        "verified": verified,
        "compared": compared,
        "rate": args.rate,
        "workers": args.workers,
        "seconds": args.seconds,
        "refresh_ms": refresh_ms(args),
        "tick_ms": TICK_MS,
        "paced": args.paced,
        "events": measured.events,
        "cpu_ns_per_event": per_event(measured.engine_cpu_ns),
        "process_cpu_ns_per_event": per_event(measured.pipeline_cpu_ns),
        "events_per_s": measured.events as f64 / (measured.wall_ns as f64 / 1e9),
        "tick_to_change_ns": measured.tick_to_change,
        "state_bytes": measured.state_bytes,
        "rss_bytes": measured.rss_bytes,
    });
    output::line(&report.to_string())
}

/// The same run on another command line.
fn words(args: &LetArgs) -> Vec<String> {
    let mut words: Vec<String> =
        ["let", "--rate", &args.rate.to_string()].map(str::to_string).into();
    for (flag, value) in [
        ("--workers", args.workers.to_string()),
        ("--seconds", args.seconds.to_string()),
        ("--refresh", format!("{}ms", args.refresh.as_millis())),
    ] {
        words.extend([flag.to_string(), value]);
    }
    let switches = [("--paced", args.paced), ("--verify", args.verify)];
    words.extend(switches.iter().filter(|(_, is_on)| *is_on).map(|(flag, _)| (*flag).to_string()));
    words
}

pub(super) fn refresh_ms(args: &LetArgs) -> u64 {
    let wanted = u64::try_from(args.refresh.as_millis()).unwrap_or(u64::MAX).max(1);
    wanted.div_ceil(TICK_MS) * TICK_MS
}

/// The workload's script, or another one, compiled.
pub(super) fn prepared(text: Option<&str>, refresh_ms: u64) -> anyhow::Result<Prepared> {
    prepared_as("let", text.unwrap_or(SCRIPT), refresh_ms)
}

pub(super) fn prepared_as(name: &str, text: &str, refresh_ms: u64) -> anyhow::Result<Prepared> {
    let request = ScriptRequest {
        script: Some(name.to_string()),
        text: Some(text.to_string()),
        refresh_ms: Some(refresh_ms),
        ..ScriptRequest::default()
    };
    planner::prepare(&request, TICK_MS, None, &|_| true)
        .map_err(|error| anyhow::anyhow!("{name}: {error}: {:?}", error.diagnostics()))
}

pub(super) fn start(args: &LetArgs) -> anyhow::Result<Pipeline> {
    start_prepared(prepared(None, refresh_ms(args))?, args.workers.max(1))
}

pub(super) fn start_prepared(prepared: Prepared, workers: usize) -> anyhow::Result<Pipeline> {
    Pipeline::start(
        prepared.split,
        prepared.outputs,
        &PipelineConfig {
            workers,
            refresh_ms: prepared.refresh_ms,
            start_ms: ORIGIN_MS,
            metadata: Arc::new(MetadataSnapshot::default()),
            table_functions: BTreeMap::new(),
            test_faults: false,
        },
    )
}

/// The slices of a second's events that end at each tick.
pub(super) fn slices(
    events: &[Event],
    second_start_ms: u64,
) -> impl Iterator<Item = (u64, &[Event])> {
    let mut rest = events;
    (1..=1000 / TICK_MS).map(move |idx| {
        let tick_ms = second_start_ms + idx * TICK_MS;
        let end = tick_unix_ns(tick_ms);
        let (now, later) = rest.split_at(rest.partition_point(|e| e.time_unix_ns <= end));
        rest = later;
        (tick_ms, now)
    })
}

pub(super) fn engine_cpu_ns(pipeline: &Pipeline) -> u64 {
    [&pipeline.node_engine, &pipeline.cluster_engine]
        .iter()
        .flat_map(|engine| engine.stats().workers)
        .map(|worker| worker.cpu_ns)
        .sum()
}

fn measure(args: &LetArgs) -> anyhow::Result<Measured> {
    let clock = WallClock;
    let mut pipeline = start(args)?;
    let mut generator = Generator::new(SEED, args.rate);
    let mut batcher = Batcher::new(generator.names());
    let mut histogram = stats::new_histogram();
    let (cpu_start, engine_start) = (crate::up::cpu_ns(), engine_cpu_ns(&pipeline));
    let (mut generating_ns, mut events) = (0u64, 0u64);
    let started_ns = clock.monotonic_ns();
    for second in 0..args.seconds {
        let generate_ns = clock.monotonic_ns();
        let of_second = generator.second(tick_unix_ns(ORIGIN_MS), second);
        let ticks: Vec<_> = slices(&of_second, ORIGIN_MS + second * 1000)
            .map(|(tick_ms, events)| (tick_ms, batcher.batches(events)))
            .collect();
        events += of_second.len() as u64;
        generating_ns += clock.monotonic_ns() - generate_ns;
        for (tick_ms, batches) in ticks {
            if args.paced {
                let due_ns = started_ns + (tick_ms - ORIGIN_MS) * 1_000_000;
                let wait_ns = due_ns.saturating_sub(clock.monotonic_ns());
                std::thread::park_timeout(Duration::from_nanos(wait_ns));
            }
            batches.into_iter().for_each(|batch| pipeline.admit("let_events", batch));
            let closed_ns = clock.monotonic_ns();
            if pipeline.close_tick(tick_ms)?.is_some() {
                histogram.saturating_record(clock.monotonic_ns() - closed_ns);
            }
        }
    }
    let wall_ns = (clock.monotonic_ns() - started_ns).saturating_sub(generating_ns);
    let states = |engine: &weir_engine::Engine| -> u64 {
        engine.stats().queries.iter().map(|query| query.state_bytes).sum()
    };
    let measured = Measured {
        events,
        engine_cpu_ns: engine_cpu_ns(&pipeline) - engine_start,
        pipeline_cpu_ns: (crate::up::cpu_ns() - cpu_start).saturating_sub(generating_ns),
        wall_ns,
        state_bytes: states(&pipeline.node_engine) + states(&pipeline.cluster_engine),
        tick_to_change: stats::quantiles_of(&histogram),
        rss_bytes: crate::up::rss_bytes(),
    };
    pipeline.stop();
    Ok(measured)
}
