//! `--rows DIR`: the same compiler, engine and messages, driven by rows in files.
//!
//! The clock is the rows' arrivals: a row is admitted at the first tick at or after its arrival, and
//! ticks at which no view can change are skipped without a message.

mod captured;
pub(crate) mod pipeline;
mod schedule;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_cluster::coordinator::OVERFLOW;
use weir_cluster::planner::{self, Prepared, ScriptRequest};
use weir_cluster::view::SnapshotLimits;
use weir_pxl::table_functions::{self, Answered};
use weir_sinks::delivery::{Changes, Completeness, Delivery};
use weir_sinks::json::live::{completeness_members, end_text, schema_body};
use weir_sinks::json::with_id;
use weir_sources::rows::{RowsError, TableRows, read_entities, read_table, read_table_function};
use weir_types::batch::{BATCH_ROWS_MAX, unpack_rows};
use weir_types::clock::tick_unix_ns;
use weir_types::metadata::MetadataSnapshot;
use weir_types::plan::OpKind;
use weir_types::schema::Relation;
use weir_types::{PackedRow, Value, tables};

use self::pipeline::{Pipeline, PipelineConfig};
use self::schedule::{Schedule, tick_at, windows};
use crate::args::LiveArgs;
use crate::failure::Failure;
use crate::output::{self, AnswerTable};
use crate::script;

pub(crate) use self::captured::{Captured, follow, run_captured};

const SEC_NS: i64 = 1_000_000_000;
const MS_NS: i64 = 1_000_000;

/// A prepared script with the rows of every table that it scans.
struct Loaded {
    prepared: Prepared,
    tables: Vec<(String, Relation, TableRows)>,
    table_functions: BTreeMap<String, Vec<PackedRow>>,
    metadata: Arc<MetadataSnapshot>,
}

/// Compiles a script; what is wrong with it is printed.
fn prepare(
    request: &ScriptRequest,
    tick_ms: u64,
    now_unix_ns: Option<i64>,
) -> Result<Prepared, Failure> {
    let prepared = prepare_quietly(request, tick_ms, now_unix_ns)?;
    output::print_diagnostics(&prepared.warnings, &script::source_of(request).script());
    Ok(prepared)
}

/// The same, of a script that is compiled once more when more is known: warnings are told then.
fn prepare_quietly(
    request: &ScriptRequest,
    tick_ms: u64,
    now_unix_ns: Option<i64>,
) -> Result<Prepared, Failure> {
    let source = script::source_of(request);
    let failed = |error: planner::PlanError| {
        output::print_diagnostics(error.diagnostics(), &source.script());
        Failure::No(error.to_string())
    };
    planner::prepare(request, tick_ms, now_unix_ns, &|_| true).map_err(failed)
}

/// A table's columns, as the script declares it or as it is declared.
fn relation_of<'a>(prepared: &'a Prepared, table: &str) -> Option<&'a Relation> {
    let declared = prepared.declared_tables.iter().find(|(name, _)| name == table);
    declared.map(|(_, relation)| relation).or_else(|| tables::relation(table))
}

fn load(prepared: Prepared, dir: &Path) -> Result<Loaded, Failure> {
    let unreadable = |error: RowsError| Failure::from(anyhow::Error::from(error));
    let metadata = Arc::new(read_entities(dir).map_err(unreadable)?);
    let mut names: Vec<&str> = prepared.plan.scans().map(|(table, _)| table).collect();
    names.sort_unstable();
    names.dedup();
    let mut loaded = Vec::new();
    for name in names {
        let Some(relation) = relation_of(&prepared, name) else { continue };
        let rows = read_table(dir, name, relation).map_err(unreadable)?;
        if !rows.future.is_empty() {
            output::note(&format!("{name}: {} rows dropped: `future`", rows.future.len()));
        }
        loaded.push((name.to_string(), relation.clone(), rows));
    }
    let mut table_functions = BTreeMap::new();
    for op in &prepared.plan.ops {
        let OpKind::TableFunction { name, .. } = &op.kind else { continue };
        let def = table_functions::find(name).filter(|def| def.answered != Answered::Registry);
        if let Some(def) = def {
            let rows = read_table_function(dir, name, &def.relation()).map_err(unreadable)?;
            table_functions.insert(name.clone(), rows);
        }
    }
    Ok(Loaded { prepared, tables: loaded, table_functions, metadata })
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

impl Loaded {
    /// Everything is covered and complete: rows in files are not lost, but for those that no view
    /// takes. `overflow`: rows whose groups found no room.
    fn complete_at(&self, tick_ms: u64, overflow: BTreeMap<String, u64>) -> Completeness {
        let at_unix_ns = tick_unix_ns(tick_ms);
        let mut lost: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        let complete = overflow.is_empty();
        for (table, rows) in overflow {
            lost.entry(table).or_default().insert(OVERFLOW.to_string(), rows);
        }
        for (table, _, rows) in &self.tables {
            let count = rows.future.partition_point(|arrival| *arrival <= at_unix_ns);
            if count > 0 {
                lost.entry(table.clone()).or_default().insert("future".to_string(), count as u64);
            }
        }
        Completeness { complete_to_unix_ns: at_unix_ns, complete, lost, ..Completeness::default() }
    }

    /// When the first and the last row arrived, dropped ones included. `None`: there are none.
    fn arrivals(&self) -> Option<(i64, i64)> {
        let of_table = |rows: &TableRows| {
            let kept = [rows.rows.first(), rows.rows.last()].map(|row| row.map(|(at, _)| *at));
            let dropped = [rows.future.first().copied(), rows.future.last().copied()];
            kept.into_iter().chain(dropped).flatten()
        };
        let all = || self.tables.iter().flat_map(|(_, _, rows)| of_table(rows));
        Some((all().min()?, all().max()?))
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
    answer(prepare(request, 1, now_unix_ns)?, dir, now_unix_ns, test_faults)
}

/// The same, of a script that was compiled before.
pub(crate) fn answer(
    prepared: Prepared,
    dir: &Path,
    now_unix_ns: Option<i64>,
    test_faults: bool,
) -> Result<Answer, Failure> {
    let loaded = load(prepared, dir)?;
    let last = loaded.arrivals().map_or(0, |(_, last)| last);
    answer_about(loaded, now_unix_ns.unwrap_or((last + SEC_NS - 1) / SEC_NS * SEC_NS), test_faults)
}

/// The script's answer about all rows that were there by then.
fn answer_about(
    mut loaded: Loaded,
    now_unix_ns: i64,
    test_faults: bool,
) -> Result<Answer, Failure> {
    let tick_ms = u64::try_from(now_unix_ns.div_euclid(MS_NS)).unwrap_or(0).max(1);
    let config = PipelineConfig {
        workers: 1,
        refresh_ms: 1,
        start_ms: tick_ms - 1,
        metadata: loaded.metadata.clone(),
        table_functions: loaded.table_functions.clone(),
        test_faults,
    };
    let outputs = loaded.prepared.outputs.clone();
    let mut pipeline = Pipeline::start(loaded.prepared.split.clone(), outputs, &config)?;
    for (table, relation, rows) in &mut loaded.tables {
        let admitted = rows.rows.partition_point(|(arrival, _)| *arrival <= now_unix_ns);
        admit(&mut pipeline, table, relation, &rows.rows[..admitted]);
    }
    pipeline.close_tick(tick_ms)?;
    let snapshot = pipeline.view().snapshot(SnapshotLimits::NONE);
    let snapshot = snapshot.map_err(|error| Failure::No(error.to_string()))?;
    let tables: Vec<AnswerTable> = snapshot
        .into_iter()
        .map(|Changes { output, rows }| AnswerTable {
            name: output.info.table.clone(),
            relation: output.info.relation.clone(),
            rows,
        })
        .collect();
    let overflow = pipeline.overflow(tick_ms);
    pipeline.stop();
    let completeness = format!(
        "{{{},\"truncated\":false,\"tables\":{}}}",
        completeness_members(tick_ms, &loaded.complete_at(tick_ms, overflow)),
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

/// Without any row there is one refresh, the first after the epoch: what holds of nothing.
fn course(loaded: &Loaded, args: &LiveArgs, tick_ms: u64) -> Course {
    let refresh_ms = loaded.prepared.refresh_ms;
    let mut schedule = Schedule::new(tick_ms, refresh_ms);
    for (table, relation, rows) in &loaded.tables {
        let scans: Vec<_> = windows(&loaded.prepared.plan, table).collect();
        for (arrival, row) in &rows.rows {
            let time = time_of(relation, row);
            scans.iter().for_each(|window| schedule.add_row(window, *arrival, time));
        }
    }
    let Some((first, last)) = loaded.arrivals() else {
        schedule.add_every_refresh(refresh_ms, refresh_ms);
        return Course { schedule, first_ms: refresh_ms, end_ms: refresh_ms };
    };
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
    Course { schedule, first_ms, end_ms }
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
    let loaded = load(prepare(request, tick_ms, None)?, dir)?;
    let id = "q1";
    for info in &loaded.prepared.outputs {
        print(&with_id("schema", id, &schema_body(info)))?;
    }
    let Course { schedule, first_ms, end_ms } = course(&loaded, args, tick_ms);
    let config = PipelineConfig {
        workers: args.workers.max(1),
        refresh_ms: loaded.prepared.refresh_ms,
        start_ms: first_ms.saturating_sub(1),
        metadata: loaded.metadata.clone(),
        table_functions: loaded.table_functions.clone(),
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
        let completeness = loaded.complete_at(at_ms, pipeline.overflow(at_ms));
        if !emit(&pipeline, id, at_ms, completeness, changed, &mut snapshot, print)? {
            break;
        }
    }
    pipeline.stop();
    let end = end_text("end of rows");
    print(&with_id(end.kind, id, &end.body))?;
    Ok(())
}

/// Prints one refresh. The first one is the snapshot of every table. False: the reader has enough.
fn emit(
    pipeline: &Pipeline,
    id: &str,
    at_ms: u64,
    completeness: Completeness,
    changed: Vec<Changes>,
    snapshot: &mut bool,
    print: &mut dyn FnMut(&str) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let first = std::mem::replace(snapshot, false);
    let changed = if first {
        let mut all: Vec<Changes> = Vec::new();
        for output in pipeline.view().outputs() {
            let rows = changed.iter().find(|c| Arc::ptr_eq(&c.output, &output));
            let rows = rows.map(|c| c.rows.clone()).unwrap_or_default();
            all.push(Changes { output, rows });
        }
        all
    } else {
        changed
    };
    let mut delivery = Delivery::new(at_ms, changed, Some(completeness));
    delivery.snapshot = first;
    for text in delivery.live() {
        if !print(&with_id(text.kind, id, &text.body))? {
            return Ok(false);
        }
    }
    Ok(true)
}
