//! Rows of a replay for a script: only the tables that it reads, bounded in bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_cluster::planner::{Prepared, ScriptRequest};
use weir_sinks::delivery::Changes;
use weir_sources::rows::TableRows;
use weir_types::batch::pack_rows;
use weir_types::clock::tick_unix_ns;
use weir_types::metadata::MetadataSnapshot;
use weir_types::schema::Relation;
use weir_types::{PackedRow, RecordBatch, tables};

use super::pipeline::{Pipeline, PipelineConfig};
use super::schedule::{Schedule, tick_at, windows};
use super::{Answer, Loaded, MS_NS, admit, answer_about, prepare, prepare_quietly, time_of};
use crate::failure::Failure;

/// What rows of one replay may hold for a script. More are for `--out`, and for `weir run --rows` over
/// parts of that.
const ROWS_BYTES_MAX: usize = 2 << 30;

/// A table's rows, with when they arrived.
pub(crate) type TimedTable = (String, Relation, TableRows);

/// Refreshes of one run over a capture: more than a day of them, five a second.
const REFRESHES_MAX: u64 = 500_000;

/// See the module's documentation.
pub(crate) struct Captured {
    tables: Vec<(String, Vec<PackedRow>)>,
    bytes: usize,
}

impl Captured {
    /// Compiles the script, to know what it reads: its mistakes are told before a file is read.
    pub(crate) fn new(request: &ScriptRequest) -> Result<Captured, Failure> {
        let prepared = prepare_quietly(request, 1, None)?;
        Ok(Captured::of(prepared.plan.scans().map(|(table, _)| table)))
    }

    /// Of these tables.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Captured {
        let names: BTreeSet<&str> = names.collect();
        let tables = names.into_iter().map(|name| (name.to_string(), Vec::new()));
        Captured { tables: tables.collect(), bytes: 0 }
    }

    /// Its rows in the order of their times.
    pub(crate) fn in_order(self) -> Vec<TimedTable> {
        let in_order = |(name, rows): (String, Vec<PackedRow>)| {
            let relation = tables::relation(&name)?.clone();
            let rows = rows.into_iter().map(|row| (time_of(&relation, &row), row));
            let mut rows: Vec<(i64, PackedRow)> = rows.collect();
            rows.sort_by_key(|(arrival, _)| *arrival);
            Some((name, relation, TableRows { rows, future: Vec::new() }))
        };
        self.tables.into_iter().filter_map(in_order).collect()
    }

    /// Keeps the rows of a table that the script reads.
    pub(crate) fn take(&mut self, table: &str, batch: RecordBatch) -> Result<(), Failure> {
        let Some((_, rows)) = self.tables.iter_mut().find(|(name, _)| name == table) else {
            return Ok(());
        };
        let Some(relation) = tables::relation(table) else { return Ok(()) };
        let more = pack_rows(&batch, &relation.types());
        self.bytes += more.iter().map(|row| row.0.len() + size_of::<PackedRow>()).sum::<usize>();
        if self.bytes > ROWS_BYTES_MAX {
            return Err(Failure::No(format!(
                "rows_too_large: the rows of these captures take more than {} MiB; write them with \
                 --out, and run the script with `weir run --rows` over a part",
                ROWS_BYTES_MAX >> 20
            )));
        }
        rows.extend(more);
        Ok(())
    }
}

/// The script's answer as of the last packet, rounded up to a tick, a millisecond.
pub(crate) fn run_captured(
    request: &ScriptRequest,
    captured: Captured,
    last_packet_unix_ns: i64,
) -> Result<Answer, Failure> {
    let now_unix_ns = last_packet_unix_ns.saturating_add(MS_NS - 1) / MS_NS * MS_NS;
    let prepared = prepare(request, 1, Some(now_unix_ns))?;
    let loaded = Loaded {
        prepared,
        tables: captured.in_order(),
        table_functions: BTreeMap::new(),
        metadata: Arc::new(MetadataSnapshot::default()),
    };
    answer_about(loaded, now_unix_ns, false)
}

/// Goes through the rows as a server would have had them: `look` hears what changed at each refresh from the first row
/// to the last packet; at the first of all, all that there is.
pub(crate) fn follow(
    prepared: &Prepared,
    tables: &[TimedTable],
    last_packet_unix_ns: i64,
    look: &mut dyn FnMut(i64, &[Changes]),
) -> Result<(), Failure> {
    let refresh_ms = prepared.refresh_ms;
    let mut schedule = Schedule::new(refresh_ms, refresh_ms);
    let is_read = |name: &str| prepared.plan.scans().any(|(table, _)| table == name);
    let tables: Vec<&TimedTable> = tables.iter().filter(|(name, ..)| is_read(name)).collect();
    for (name, relation, rows) in &tables {
        let scans: Vec<_> = windows(&prepared.plan, name).collect();
        for (arrival, row) in &rows.rows {
            let time = time_of(relation, row);
            scans.iter().for_each(|window| schedule.add_row(window, *arrival, time));
        }
    }
    let rows = || tables.iter().map(|(_, _, table)| &table.rows);
    let first = rows().filter_map(|rows| rows.first()).map(|(arrival, _)| *arrival).min();
    let last = rows().filter_map(|rows| rows.last()).map(|(arrival, _)| *arrival).max();
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    let first_ms = tick_at(first, refresh_ms);
    let end_ms = tick_at(last.max(last_packet_unix_ns), refresh_ms);
    if (end_ms - first_ms) / refresh_ms > REFRESHES_MAX {
        let text =
            format!("the rows are of more than {REFRESHES_MAX} refreshes of {refresh_ms} ms");
        return Err(Failure::No(text));
    }
    if prepared.plan.reads_now() {
        schedule.add_every_refresh(first_ms, end_ms);
    }
    let config = PipelineConfig {
        workers: 1,
        refresh_ms,
        start_ms: first_ms.saturating_sub(1),
        metadata: Arc::new(MetadataSnapshot::default()),
        table_functions: BTreeMap::new(),
        test_faults: false,
    };
    let mut pipeline = Pipeline::start(prepared.split.clone(), prepared.outputs.clone(), &config)?;
    let (mut next, mut visits) =
        (vec![0; tables.len()], schedule.ticks(first_ms, end_ms).peekable());
    let mut at_ms = first_ms;
    while at_ms <= end_ms {
        let mut changed = None;
        if visits.next_if(|visit| *visit == at_ms).is_some() {
            for ((name, relation, rows), from) in tables.iter().zip(&mut next) {
                let rest = &rows.rows[*from..];
                let count = rest.partition_point(|(arrival, _)| *arrival <= tick_unix_ns(at_ms));
                admit(&mut pipeline, name, relation, &rest[..count]);
                *from += count;
            }
            changed = pipeline.close_tick(at_ms)?;
        }
        look(tick_unix_ns(at_ms), &changed.unwrap_or_default());
        at_ms += refresh_ms;
    }
    pipeline.stop();
    Ok(())
}
