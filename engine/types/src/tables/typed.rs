//! Rows by type: each declared table has a row of named fields, made from its declaration, and a
//! builder that takes nothing else.
//!
//! A column that is forgotten does not compile:
//!
//! ```compile_fail,E0063
//! use weir_types::tables::{ProcExitEvents, ProcExitEventsRow, TableBuilder};
//! let mut rows = TableBuilder::<ProcExitEvents>::new();
//! rows.push(&ProcExitEventsRow { time_: 1, upid: 2, exit_code: 0, signal: 9 });
//! ```
//!
//! Neither does one of another type:
//!
//! ```compile_fail,E0308
//! use weir_types::tables::{ProcExitEvents, ProcExitEventsRow, TableBuilder};
//! let mut rows = TableBuilder::<ProcExitEvents>::new();
//! rows.push(&ProcExitEventsRow { time_: 1, upid: 2, exit_code: 0, signal: "9", comm: b"sh" });
//! ```
//!
//! Nor a row of another table:
//!
//! ```compile_fail,E0308
//! use weir_types::tables::{ProcExitEventsRow, StirlingError, TableBuilder};
//! let mut rows = TableBuilder::<StirlingError>::new();
//! rows.push(&ProcExitEventsRow { time_: 1, upid: 2, exit_code: 0, signal: 9, comm: b"sh" });
//! ```
//!
//! This does:
//!
//! ```
//! use weir_types::tables::{ProcExitEvents, ProcExitEventsRow, TableBuilder};
//! let mut rows = TableBuilder::<ProcExitEvents>::new();
//! rows.push(&ProcExitEventsRow { time_: 1, upid: 2, exit_code: 0, signal: 9, comm: b"sh" });
//! assert_eq!(rows.finish().num_rows(), 1);
//! ```

use std::marker::PhantomData;

use arrow_array::RecordBatch;

use super::TableDef;
use crate::batch::BatchBuilder;

/// A declared table.
pub trait Table {
    const DEF: TableDef;
    /// One row: a field a column, behind the endpoints where it is a protocol's.
    type Row<'a>;
    /// Puts a row's cells in the order of the columns.
    fn put(row: &Self::Row<'_>, cells: &mut Cells<'_>);
}

/// Where the cells of one row go, from the first column on.
pub struct Cells<'a> {
    builder: &'a mut BatchBuilder,
    column_idx: usize,
}

impl<'a> Cells<'a> {
    pub(super) fn of(builder: &'a mut BatchBuilder) -> Cells<'a> {
        Cells { builder, column_idx: 0 }
    }

    /// The last ones: a table's own, behind the endpoints.
    pub(super) fn last(builder: &'a mut BatchBuilder, count: usize) -> Cells<'a> {
        let column_idx = builder.relation().len() - count;
        Cells { builder, column_idx }
    }

    pub(super) fn put(&mut self, cell: impl Cell) {
        cell.put(self.builder, self.column_idx);
        self.column_idx += 1;
    }
}

/// A value of one column.
pub(super) trait Cell {
    fn put(self, builder: &mut BatchBuilder, column_idx: usize);
}

impl Cell for i64 {
    fn put(self, builder: &mut BatchBuilder, column_idx: usize) {
        builder.int64(column_idx, self);
    }
}
impl Cell for f64 {
    fn put(self, builder: &mut BatchBuilder, column_idx: usize) {
        builder.float64(column_idx, self);
    }
}
impl Cell for bool {
    fn put(self, builder: &mut BatchBuilder, column_idx: usize) {
        builder.boolean(column_idx, self);
    }
}
impl Cell for u128 {
    fn put(self, builder: &mut BatchBuilder, column_idx: usize) {
        builder.uint128(column_idx, self);
    }
}
impl Cell for &[u8] {
    fn put(self, builder: &mut BatchBuilder, column_idx: usize) {
        builder.string(column_idx, self);
    }
}

/// Builds batches of one table; it can be used again after `finish`.
pub struct TableBuilder<T> {
    builder: BatchBuilder,
    table: PhantomData<fn() -> T>,
}

impl<T: Table> Default for TableBuilder<T> {
    fn default() -> TableBuilder<T> {
        TableBuilder { builder: T::DEF.builder(), table: PhantomData }
    }
}

impl<T: Table> TableBuilder<T> {
    #[must_use]
    pub fn new() -> TableBuilder<T> {
        TableBuilder::default()
    }

    pub fn push(&mut self, row: &T::Row<'_>) {
        T::put(row, &mut Cells::of(&mut self.builder));
        self.builder.end_row();
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.builder.rows()
    }

    /// The batch of all rows so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        self.builder.finish()
    }
}
