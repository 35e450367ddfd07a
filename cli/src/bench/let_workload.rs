//! `weir bench let`: the LET workload, from PxL text through compiler, split, both engines and the
//! bus to the view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::json;
use weir_cluster::planner::{self, ScriptRequest};
use weir_cluster::service::stats;
use weir_cluster::view::{OutputChanges, tick_unix_ns};
use weir_types::metadata::MetadataSnapshot;
use weir_types::schema::Relation;
use weir_types::{Clock, PackedRow, Value, WallClock};

use super::LetArgs;
use super::generator::{Batcher, Event, Generator, Names, SEC_NS};
use super::reference::{Group, Reference, exact_quantile};
use crate::failure::Failure;
use crate::offline::pipeline::{Pipeline, PipelineConfig};
use crate::output;

const SCRIPT: &str = include_str!("let.pxl");
const SEED: u64 = 42;
const TICK_MS: u64 = 100;
const WINDOW_SECS: usize = 300;
/// 2026-01-01T00:00:00Z
const ORIGIN_MS: u64 = 1_767_225_600_000;
/// A quantile may be this far from the exact one.
const QUANTILE_ERROR_MAX: f64 = 0.01;
/// Seconds between two looks at all quantiles of (b): sorting the window is slow.
const EDGE_QUANTILES_EVERY: u64 = 60;

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
    let measured = measure(args)?;
    let verified = args.verify && {
        output::note("verifying every refresh against an exact reference …");
        verify(args)?;
        true
    };
    let per_event = |ns: u64| (ns as f64 / measured.events as f64 * 10.0).round() / 10.0;
    let report = json!({
        "bench": "let",
        "verified": verified,
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

fn refresh_ms(args: &LetArgs) -> u64 {
    let wanted = u64::try_from(args.refresh.as_millis()).unwrap_or(u64::MAX).max(1);
    wanted.div_ceil(TICK_MS) * TICK_MS
}

fn start(args: &LetArgs) -> anyhow::Result<Pipeline> {
    let request = ScriptRequest {
        script: Some("let".to_string()),
        text: Some(SCRIPT.to_string()),
        refresh_ms: Some(refresh_ms(args)),
        ..ScriptRequest::default()
    };
    let prepared = planner::prepare(&request, TICK_MS, None, &|_| true)
        .map_err(|error| anyhow::anyhow!("{error}: {:?}", error.diagnostics()))?;
    Pipeline::start(
        prepared.split,
        prepared.outputs,
        &PipelineConfig {
            workers: args.workers.max(1),
            refresh_ms: prepared.refresh_ms,
            start_ms: ORIGIN_MS,
            metadata: Arc::new(MetadataSnapshot::default()),
            table_functions: BTreeMap::new(),
            test_faults: false,
        },
    )
}

/// The slices of a second's events that end at each tick.
fn slices(events: &[Event], second_start_ms: u64) -> impl Iterator<Item = (u64, &[Event])> {
    let mut rest = events;
    (1..=1000 / TICK_MS).map(move |idx| {
        let tick_ms = second_start_ms + idx * TICK_MS;
        let end = tick_unix_ns(tick_ms);
        let (now, later) = rest.split_at(rest.partition_point(|e| e.time_unix_ns <= end));
        rest = later;
        (tick_ms, now)
    })
}

fn engine_cpu_ns(pipeline: &Pipeline) -> u64 {
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

/// A view rebuilt from its changes: table → rows by key.
struct Seen {
    relation: Relation,
    rows: BTreeMap<PackedRow, i64>,
}

impl Seen {
    fn apply(&mut self, rows: &[(PackedRow, i64)]) -> anyhow::Result<()> {
        for (row, diff) in rows {
            let count = self.rows.entry(row.clone()).or_insert(0);
            *count += diff;
            ensure!(*count == 0 || *count == 1, "a row occurs {count} times");
            if *count == 0 {
                self.rows.remove(row);
            }
        }
        Ok(())
    }

    fn values(&self, row: &PackedRow) -> anyhow::Result<Vec<Value>> {
        row.unpack(&self.relation.types()).context("a row does not fit its relation")
    }
}

fn verify(args: &LetArgs) -> anyhow::Result<()> {
    let mut pipeline = start(args)?;
    let mut generator = Generator::new(SEED, args.rate);
    let names = generator.names();
    let mut batcher = Batcher::new(names.clone());
    let mut reference = Reference::new(WINDOW_SECS);
    let mut seen: BTreeMap<String, Seen> = pipeline
        .view()
        .outputs()
        .iter()
        .map(|o| (o.table.clone(), Seen { relation: o.relation.clone(), rows: BTreeMap::new() }))
        .collect();
    for second in 0..args.seconds {
        let events = generator.second(tick_unix_ns(ORIGIN_MS), second);
        reference.add(second, &events);
        for (tick_ms, slice) in slices(&events, ORIGIN_MS + second * 1000) {
            batcher.batches(slice).into_iter().for_each(|b| pipeline.admit("let_events", b));
            for changes in pipeline.close_tick(tick_ms)?.unwrap_or_default() {
                let OutputChanges { table, rows } = changes;
                let view = seen.get_mut(&table.table).context("an unknown output")?;
                view.apply(&rows).with_context(|| format!("{} at {tick_ms}", table.table))?;
            }
        }
        let at = format!("second {second}");
        if refresh_ms(args) <= 1000 && 1000 % refresh_ms(args) == 0 {
            compare(&seen, &reference, &names, second).context(at)?;
        }
    }
    pipeline.stop();
    Ok(())
}

fn compare(
    seen: &BTreeMap<String, Seen>,
    reference: &Reference,
    names: &Names,
    second: u64,
) -> anyhow::Result<()> {
    let table = |name: &str| seen.get(name).with_context(|| format!("no output `{name}`"));
    compare_endpoints(table("endpoints")?, reference, names, second).context("(a)")?;
    compare_edges(table("edges")?, reference, names, second).context("(b)")?;
    let slowest = table("slowest")?;
    let expected = reference.slowest_ns();
    ensure!(slowest.rows.len() == expected.len(), "(c) has {} rows", slowest.rows.len());
    for (service, latency_ns) in expected {
        let row =
            PackedRow::pack(&[Value::str(&names.services[service]), Value::Int64(latency_ns)]);
        ensure!(slowest.rows.contains_key(&row), "(c) lacks service {service} {latency_ns}");
    }
    Ok(())
}

/// All of (a) by number of rows, and the newest and the oldest second row by row.
fn compare_endpoints(
    seen: &Seen,
    reference: &Reference,
    names: &Names,
    second: u64,
) -> anyhow::Result<()> {
    ensure!(
        seen.rows.len() == reference.endpoint_rows(),
        "{} rows, not {}",
        seen.rows.len(),
        reference.endpoint_rows()
    );
    let (oldest, _) = reference.window();
    for number in [oldest, second] {
        let groups = reference.by_endpoint(number).context("the second is not in the window")?;
        #[expect(clippy::iter_over_hash_type, reason = "every group is checked on its own")]
        for ((service, endpoint), group) in groups {
            let start = tick_unix_ns(ORIGIN_MS) + number as i64 * SEC_NS;
            let key = [
                Value::str(&names.services[*service]),
                Value::str(&names.endpoints[*endpoint]),
                Value::Time64Ns(start),
            ];
            check_group(seen, &key, group, true)
                .with_context(|| format!("{service}/{endpoint} at second {number}"))?;
        }
    }
    Ok(())
}

fn compare_edges(
    seen: &Seen,
    reference: &Reference,
    names: &Names,
    second: u64,
) -> anyhow::Result<()> {
    let expected = reference.by_edge();
    ensure!(seen.rows.len() == expected.len(), "{} rows, not {}", seen.rows.len(), expected.len());
    for ((service, remote), group) in &expected {
        let key = [Value::str(&names.services[*service]), Value::str(&names.services[*remote])];
        check_group(seen, &key, group, second.is_multiple_of(EDGE_QUANTILES_EVERY))
            .with_context(|| format!("edge {remote} -> {service}"))?;
    }
    Ok(())
}

/// The row after the key: count, errors, bytes exactly, and quantiles within the bound.
fn check_group(seen: &Seen, key: &[Value], group: &Group, quantiles: bool) -> anyhow::Result<()> {
    let prefix = PackedRow::pack(key);
    let (row, _) = seen
        .rows
        .range(prefix.clone()..)
        .next()
        .filter(|(row, _)| row.0.starts_with(&prefix.0))
        .context("no row")?;
    let values = seen.values(row)?;
    let [Value::Int64(count), Value::Int64(errors), Value::Int64(bytes), Value::String(text)] =
        &values[key.len()..]
    else {
        bail!("unexpected columns");
    };
    ensure!(
        (*count, *errors, *bytes) == (group.count, group.errors, group.bytes),
        "{count}, {errors}, {bytes} are not {}, {}, {}",
        group.count,
        group.errors,
        group.bytes
    );
    if quantiles {
        let parsed: serde_json::Value = serde_json::from_slice(text)?;
        let mut latencies_ns = group.latencies_ns.clone();
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let exact = exact_quantile(&mut latencies_ns, quantile) as f64;
            let have = parsed[name].as_f64().context("no quantile")?;
            let error = (have - exact).abs() / exact;
            ensure!(error <= QUANTILE_ERROR_MAX, "{name} is {have}, exactly {exact}");
        }
    }
    Ok(())
}
