//! Rows for the tests of this crate.

use weir_types::tables::{StirlingError, StirlingErrorRow, TableBuilder};
use weir_types::{RecordBatch, Upid};

/// A row of `stirling_error` for each time and process.
pub(crate) fn errors_at(rows: impl IntoIterator<Item = (i64, Upid)>) -> RecordBatch {
    let mut builder = TableBuilder::<StirlingError>::new();
    for (time_unix_ns, upid) in rows {
        builder.push(&StirlingErrorRow {
            time_: time_unix_ns,
            upid: upid.0,
            source_connector: b"test",
            status: 0,
            error: b"",
            context: b"",
        });
    }
    builder.finish()
}
