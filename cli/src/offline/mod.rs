//! `--rows DIR`: the same compiler, engine and messages, driven by rows in files.
//!
//! The clock is the rows' arrivals: a row is admitted at the first tick at or after its arrival, and
//! ticks at which no view can change are skipped without a message.

pub(crate) mod pipeline;
mod schedule;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_cluster::coordinator::QueryCompleteness;
use weir_cluster::planner::{self, Prepared, ScriptRequest};
use weir_cluster::service::query_actor::{
    Outgoing, completeness_members, progress_body, schema_body,
};
use weir_cluster::view::{OutputChanges, tick_unix_ns};
use weir_sinks::json::with_id;
use weir_sources::rows::{RowsError, TableRows, read_entities, read_table};
use weir_types::batch::{BATCH_ROWS_MAX, unpack_rows};
use weir_types::metadata::MetadataSnapshot;
use weir_types::schema::Relation;
use weir_types::{PackedRow, Value, tables};

use self::pipeline::{Pipeline, PipelineConfig};
use self::schedule::{Schedule, tick_at, windows};
use crate::args::LiveArgs;
use crate::failure::Failure;
use crate::output::{self, AnswerTable};

const SEC_NS: i64 = 1_000_000_000;
const MS_NS: i64 = 1_000_000;

/// A prepared script with the rows of every table that it scans.
struct Loaded {
    prepared: Prepared,
    tables: Vec<(String, Relation, TableRows)>,
    metadata: Arc<MetadataSnapshot>,
}

fn load(
    request: &ScriptRequest,
    dir: &Path,
    tick_ms: u64,
    now_unix_ns: Option<i64>,
) -> Result<Loaded, Failure> {
    let failed = |error: planner::PlanError| {
        output::print_diagnostics(error.diagnostics(), request.text.as_deref().unwrap_or_default());
        Failure::No(error.to_string())
    };
    let prepared = planner::prepare(request, tick_ms, now_unix_ns, &|_| true).map_err(failed)?;
    let mut names: Vec<&str> = prepared.plan.scans().map(|(table, _)| table).collect();
    names.sort_unstable();
    names.dedup();
    let unreadable = |error: RowsError| Failure::from(anyhow::Error::from(error));
    let metadata = Arc::new(read_entities(dir).map_err(unreadable)?);
    let mut loaded = Vec::new();
    for name in names {
        let Some(relation) = tables::relation(name) else { continue };
        let rows = read_table(dir, name, relation).map_err(unreadable)?;
        if rows.future > 0 {
            output::note(&format!("{name}: {} rows dropped: `future`", rows.future));
        }
        loaded.push((name.to_string(), relation.clone(), rows));
    }
    Ok(Loaded { prepared, tables: loaded, metadata })
}

fn time_of(relation: &Relation, row: &PackedRow) -> i64 {
    let values = row.unpack(&relation.types()).unwrap_or_default();
    match relation.time_idx().and_then(|idx| values.get(idx)) {
        Some(Value::Time64Ns(time)) => *time,
        _ => 0,
    }
}

fn admit(pipeline: &mut Pipeline, table: &str, relation: &Relation, rows: &[(i64, PackedRow)]) {
    for chunk in rows.chunks(BATCH_ROWS_MAX) {
        if let Some(batch) = unpack_rows(relation, chunk.iter().map(|(_, row)| row)) {
            pipeline.admit(table, batch);
        }
    }
}

/// Everything is covered and complete: rows in files are not lost.
fn complete_at(tick_ms: u64) -> QueryCompleteness {
    QueryCompleteness {
        complete_to_unix_ns: tick_unix_ns(tick_ms),
        complete: true,
        ..QueryCompleteness::default()
    }
}

pub(crate) struct Answer {
    pub(crate) tables: Vec<AnswerTable>,
    /// The completeness object as JSON text.
    pub(crate) completeness: String,
}

/// `run --rows DIR --now T`
pub(crate) fn run(
    request: &ScriptRequest,
    dir: &Path,
    now_unix_ns: Option<i64>,
    test_faults: bool,
) -> Result<Answer, Failure> {
    let mut loaded = load(request, dir, 1, now_unix_ns)?;
    let last = loaded.tables.iter().filter_map(|(_, _, rows)| rows.rows.last()).map(|row| row.0);
    let now_unix_ns =
        now_unix_ns.unwrap_or_else(|| (last.max().unwrap_or(0) + SEC_NS - 1) / SEC_NS * SEC_NS);
    let tick_ms = u64::try_from(now_unix_ns.div_euclid(MS_NS)).unwrap_or(0).max(1);
    let config = PipelineConfig {
        workers: 1,
        refresh_ms: 1,
        start_ms: tick_ms - 1,
        metadata: loaded.metadata.clone(),
        test_faults,
    };
    let outputs = loaded.prepared.outputs.clone();
    let mut pipeline = Pipeline::start(loaded.prepared.split.clone(), outputs, &config)?;
    for (table, relation, rows) in &mut loaded.tables {
        let admitted = rows.rows.partition_point(|(arrival, _)| *arrival <= now_unix_ns);
        admit(&mut pipeline, table, relation, &rows.rows[..admitted]);
    }
    pipeline.close_tick(tick_ms)?;
    let snapshot = pipeline.view().snapshot(usize::MAX);
    let snapshot = snapshot.map_err(|error| Failure::No(error.to_string()))?;
    let tables: Vec<AnswerTable> = snapshot
        .into_iter()
        .map(|OutputChanges { table, rows }| AnswerTable {
            name: table.table.clone(),
            relation: table.relation.clone(),
            rows,
        })
        .collect();
    pipeline.stop();
    let completeness = format!(
        "{{{},\"truncated\":false,\"tables\":{}}}",
        completeness_members(tick_ms, &complete_at(tick_ms)),
        crate::cmd::run::table_summary(&tables)
    );
    Ok(Answer { tables, completeness })
}

/// What `live --rows` visits, in order.
struct Course {
    schedule: Schedule,
    first_ms: u64,
    end_ms: u64,
}

fn course(loaded: &Loaded, args: &LiveArgs, tick_ms: u64) -> Option<Course> {
    let refresh_ms = loaded.prepared.refresh_ms;
    let mut schedule = Schedule::new(tick_ms, refresh_ms);
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for (table, relation, rows) in &loaded.tables {
        let scans: Vec<_> = windows(&loaded.prepared.plan, table).collect();
        for (arrival, row) in &rows.rows {
            let time = time_of(relation, row);
            first = first.min(*arrival);
            last = last.max(*arrival);
            scans.iter().for_each(|window| schedule.add_row(window, *arrival, time));
        }
    }
    if first == i64::MAX {
        return None;
    }
    let as_ms =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let first_ms = tick_at(first, tick_ms);
    let mut end_ms = tick_at(last, tick_ms).saturating_add(as_ms(args.drain));
    if let Some(limit) = args.for_ {
        end_ms = end_ms.min(first_ms.saturating_add(as_ms(limit)));
    }
    if let Some(ticks) = args.ticks {
        let first_refresh_ms = first_ms.div_ceil(refresh_ms) * refresh_ms;
        end_ms = end_ms.min(first_refresh_ms + ticks.saturating_sub(1).saturating_mul(refresh_ms));
    }
    if loaded.prepared.plan.reads_now() {
        schedule.add_every_refresh(first_ms, end_ms);
    }
    // The end is always visited, so that a reader sees how far the answer goes.
    schedule.add_every_refresh(end_ms / refresh_ms * refresh_ms, end_ms);
    Some(Course { schedule, first_ms, end_ms })
}

/// `live --rows DIR`
pub(crate) fn live(
    request: &ScriptRequest,
    dir: &Path,
    args: &LiveArgs,
    interrupted: &AtomicBool,
    print: &mut dyn FnMut(&str) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let tick_ms = u64::try_from(args.tick.as_millis()).unwrap_or(u64::MAX).max(1);
    let loaded = load(request, dir, tick_ms, None)?;
    let id = "q1";
    for info in &loaded.prepared.outputs {
        print(&with_id("schema", id, &schema_body(info)))?;
    }
    let Some(Course { schedule, first_ms, end_ms }) = course(&loaded, args, tick_ms) else {
        let end = Outgoing::end("no rows");
        print(&with_id(end.kind, id, &end.body))?;
        return Ok(());
    };
    let config = PipelineConfig {
        workers: args.workers.max(1),
        refresh_ms: loaded.prepared.refresh_ms,
        start_ms: first_ms.saturating_sub(1),
        metadata: loaded.metadata.clone(),
        test_faults: false,
    };
    let outputs = loaded.prepared.outputs.clone();
    let mut pipeline = Pipeline::start(loaded.prepared.split.clone(), outputs, &config)?;
    let mut next = vec![0; loaded.tables.len()];
    let mut snapshot = true;
    for at_ms in schedule.ticks(first_ms, end_ms) {
        if interrupted.load(Ordering::SeqCst) {
            return Err(Failure::Interrupted);
        }
        for ((table, relation, rows), from) in loaded.tables.iter().zip(&mut next) {
            let rest = &rows.rows[*from..];
            let count = rest.partition_point(|(arrival, _)| *arrival <= tick_unix_ns(at_ms));
            admit(&mut pipeline, table, relation, &rest[..count]);
            *from += count;
        }
        let Some(changed) = pipeline.close_tick(at_ms)? else { continue };
        if !emit(&pipeline, id, at_ms, changed, &mut snapshot, print)? {
            break;
        }
    }
    pipeline.stop();
    let end = Outgoing::end("end of rows");
    print(&with_id(end.kind, id, &end.body))?;
    Ok(())
}

/// Prints one refresh. The first one is the snapshot of every table. False: the reader has enough.
fn emit(
    pipeline: &Pipeline,
    id: &str,
    at_ms: u64,
    changed: Vec<OutputChanges>,
    snapshot: &mut bool,
    print: &mut dyn FnMut(&str) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let first = std::mem::replace(snapshot, false);
    let changed = if first {
        let mut all: Vec<OutputChanges> = Vec::new();
        for table in pipeline.view().outputs() {
            let rows = changed.iter().find(|c| Arc::ptr_eq(&c.table, &table));
            let rows = rows.map(|c| c.rows.clone()).unwrap_or_default();
            all.push(OutputChanges { table, rows });
        }
        all
    } else {
        changed
    };
    for changes in &changed {
        let body = pipeline.view().body(changes, at_ms, first);
        if !print(&with_id("changes", id, &body))? {
            return Ok(false);
        }
    }
    print(&with_id("progress", id, &progress_body(at_ms, &complete_at(at_ms))))
}
