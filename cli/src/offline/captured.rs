//! Rows of a replay for a script: only the tables that it reads, bounded in bytes.

use std::sync::Arc;

use weir_cluster::planner::ScriptRequest;
use weir_sources::rows::TableRows;
use weir_types::batch::pack_rows;
use weir_types::metadata::MetadataSnapshot;
use weir_types::{PackedRow, RecordBatch, tables};

use super::{Answer, Loaded, MS_NS, answer_about, prepare, prepare_quietly, relation_of, time_of};
use crate::failure::Failure;

/// What rows of one replay may hold for a script. More are for `--out`, and for `weir run --rows` over
/// parts of that.
const ROWS_BYTES_MAX: usize = 2 << 30;

/// See the module's documentation.
pub(crate) struct Captured {
    tables: Vec<(String, Vec<PackedRow>)>,
    bytes: usize,
}

impl Captured {
    /// Compiles the script, to know what it reads: its mistakes are told before a file is read.
    pub(crate) fn new(request: &ScriptRequest) -> Result<Captured, Failure> {
        let prepared = prepare_quietly(request, 1, None)?;
        let mut names: Vec<String> =
            prepared.plan.scans().map(|(table, _)| table.to_string()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Captured {
            tables: names.into_iter().map(|name| (name, Vec::new())).collect(),
            bytes: 0,
        })
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
    let mut loaded = Vec::new();
    for (name, rows) in captured.tables {
        let Some(relation) = relation_of(&prepared, &name).cloned() else { continue };
        let mut rows: Vec<(i64, PackedRow)> =
            rows.into_iter().map(|row| (time_of(&relation, &row), row)).collect();
        rows.sort_by_key(|(arrival, _)| *arrival);
        loaded.push((name, relation, TableRows { rows, future: Vec::new() }));
    }
    let loaded = Loaded {
        prepared,
        tables: loaded,
        table_functions: std::collections::BTreeMap::new(),
        metadata: Arc::new(MetadataSnapshot::default()),
    };
    answer_about(loaded, now_unix_ns, false)
}
