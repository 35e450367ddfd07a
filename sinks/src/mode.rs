//! Which elements a delivery makes, one after another: what was inserted and deleted (`changelog`), what now
//! holds for a key (`upsert`), what was inserted (`append`), what can no longer change (`final`). It can stop
//! between any two and go on later. It numbers nothing and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_types::clock::tick_unix_ns;
use weir_types::plan::SlidingWindow;
use weir_types::{DataType, PackedRow, Value};

use crate::delivery::{Delivery, OutputInfo};
use crate::element::{Body, Described, Op};
use crate::encode::Mode;
use crate::sink::SinkError;

/// What one change may make of rows that are there several times: each copy is an element, and there may be
/// a billion (`df.append(df)`).
const COPIES_BYTES_MAX: u64 = 256 << 20;
/// What a copy costs beside its row.
const COPY_OVERHEAD_BYTES: u64 = 96;

/// A delivery, and how far it is made.
struct Work {
    delivery: Arc<Delivery>,
    changes: usize,
    row: usize,
    /// Of the last row, still to be said.
    copies: Option<(Op, PackedRow, u64)>,
}

/// Rows of bins that the window begins to leave. A bin's row is final as it was when all of it was still
/// inside; what comes after is a part of it.
struct Finals {
    window: SlidingWindow,
    /// The position of the bin's time.
    bin: usize,
    /// Keys whose bins the window's start has reached, and that were said or came too late.
    done: BTreeSet<PackedRow>,
    /// Of the tick that is being delivered: rows that went, and keys that have a new one.
    gone: BTreeMap<PackedRow, PackedRow>,
    new: BTreeSet<PackedRow>,
}

/// Makes the elements of one input.
pub struct Maker {
    mode: Mode,
    output: Option<Arc<Described>>,
    work: Option<Work>,
    /// Of the tick that is being delivered: keys that have a new row, and those that lost theirs.
    upserted: BTreeSet<PackedRow>,
    deleted: BTreeSet<PackedRow>,
    finals: Option<Finals>,
    /// Waiting to be said at the end of the tick.
    finished: Vec<PackedRow>,
}

/// # Errors
/// What the mode needs and the output does not have.
pub fn judge(mode: Mode, info: &OutputInfo) -> Result<(), SinkError> {
    let refused = |why: &str| Err(SinkError::Refused(format!("`{}` {why}", info.table)));
    match mode {
        Mode::Upsert if info.key.is_empty() => {
            refused("has no key, as it is no aggregate: use `mode: changelog` or `append`")
        }
        Mode::Final if bin_of(info).is_none() => {
            refused("has no time bin in its key (`px.bin(df.time_, …)`), so no row is ever final")
        }
        Mode::Final if info.window.is_none() => {
            refused("has no window (`start_time`), so no row is ever final")
        }
        _ => Ok(()),
    }
}

/// The one column of the key that is a time.
fn bin_of(info: &OutputInfo) -> Option<usize> {
    let is_time = |at: &usize| info.relation.columns[*at].data_type == DataType::Time64Ns;
    let mut times = info.key.iter().filter_map(|name| info.relation.index_of(name)).filter(is_time);
    let bin = times.next()?;
    times.next().is_none().then_some(bin)
}

impl Maker {
    #[must_use]
    pub fn new(mode: Mode) -> Maker {
        Maker {
            mode,
            output: None,
            work: None,
            upserted: BTreeSet::new(),
            deleted: BTreeSet::new(),
            finals: None,
            finished: Vec::new(),
        }
    }

    /// # Errors
    /// The mode does not go with such an output.
    pub fn describe(&mut self, output: Arc<Described>) -> Result<(), SinkError> {
        judge(self.mode, &output.info)?;
        self.output = Some(output);
        Ok(())
    }

    /// A snapshot follows, in place of all before.
    pub fn begin_anew(&mut self) {
        self.upserted.clear();
        self.deleted.clear();
        self.work = None;
        self.finished.clear();
        self.finals =
            self.output.as_ref().filter(|_| self.mode == Mode::Final).and_then(|output| {
                Some(Finals {
                    window: output.info.window?,
                    bin: bin_of(&output.info)?,
                    done: BTreeSet::new(),
                    gone: BTreeMap::new(),
                    new: BTreeSet::new(),
                })
            });
    }

    #[must_use]
    pub fn output(&self) -> Option<&Arc<Described>> {
        self.output.as_ref()
    }

    /// Takes a delivery, whose elements are asked for by [`Maker::make`].
    ///
    /// # Errors
    /// It would be more than is ever written: nothing of it is taken.
    pub fn take(&mut self, delivery: &Arc<Delivery>) -> Result<(), SinkError> {
        if matches!(self.mode, Mode::Changelog | Mode::Append) {
            let rows = delivery.changes.iter().flat_map(|changes| &changes.rows);
            let bytes = |(row, diff): &(PackedRow, i64)| {
                (row.0.len() as u64 + COPY_OVERHEAD_BYTES)
                    .saturating_mul(diff.unsigned_abs().saturating_sub(1))
            };
            let copies = rows.map(bytes).fold(0u64, u64::saturating_add);
            if copies > COPIES_BYTES_MAX {
                return Err(SinkError::Refused(format!(
                    "one change has copies of rows of more than {COPIES_BYTES_MAX} bytes: let the \
                     script count rows that are equal instead of showing each"
                )));
            }
        }
        self.work = Some(Work { delivery: Arc::clone(delivery), changes: 0, row: 0, copies: None });
        Ok(())
    }

    /// The next element of what was taken; `None`: that was all.
    pub fn make(&mut self) -> Option<(Op, Body)> {
        let output = Arc::clone(self.output.as_ref()?);
        loop {
            let work = self.work.as_mut()?;
            if let Some((op, row, left)) = work.copies.take() {
                if left > 1 {
                    work.copies = Some((op, row.clone(), left - 1));
                }
                return Some((op, Body::Row(row)));
            }
            let Some((row, diff)) = work.next_row(&output.info.table) else {
                let made = self.end();
                if made.is_none() {
                    self.work = None;
                }
                return made;
            };
            match self.mode {
                Mode::Changelog => {
                    let op = if diff > 0 { Op::Insert } else { Op::Delete };
                    work.copies = Some((op, row, diff.unsigned_abs()));
                }
                Mode::Append if diff > 0 => {
                    work.copies = Some((Op::Append, row, diff.unsigned_abs()));
                }
                Mode::Append => {}
                Mode::Upsert => {
                    let key = PackedRow::pack(&output.key_of(&output.values(&row)));
                    if diff > 0 {
                        self.deleted.remove(&key);
                        self.upserted.insert(key);
                        return Some((Op::Upsert, Body::Row(row)));
                    }
                    if !self.upserted.contains(&key) {
                        // Perhaps its new row follows: known when the tick is over.
                        self.deleted.insert(key);
                    }
                }
                Mode::Final => {
                    let tick_ms = work.delivery.tick_ms;
                    if let Some(finals) = &mut self.finals {
                        finals.note(&output, row, diff, tick_ms);
                    }
                }
            }
        }
    }

    /// What only the end of a tick tells.
    fn end(&mut self) -> Option<(Op, Body)> {
        let is_over = self.work.as_ref().is_some_and(|it| it.delivery.completeness.is_some());
        if !is_over {
            return None;
        }
        self.upserted.clear();
        if let Some(key) = self.deleted.pop_first() {
            return Some((Op::Delete, Body::Key(key)));
        }
        if let Some(finals) = &mut self.finals {
            self.finished.extend(finals.end());
        }
        self.finished.pop().map(|row| (Op::Final, Body::Row(row)))
    }
}

impl Work {
    /// The next row of this table that came or went.
    fn next_row(&mut self, table: &str) -> Option<(PackedRow, i64)> {
        while let Some(changes) = self.delivery.changes.get(self.changes) {
            let row = changes.rows.get(self.row).filter(|_| changes.table() == table);
            if let Some((row, diff)) = row {
                self.row += 1;
                return Some((row.clone(), *diff));
            }
            self.changes += 1;
            self.row = 0;
        }
        None
    }
}

impl Finals {
    fn note(&mut self, output: &Described, row: PackedRow, diff: i64, tick_ms: u64) {
        let values = output.values(&row);
        let Some(Value::Time64Ns(bin)) = values.get(self.bin) else { return };
        // The window holds what is later than its start: the bin's first instant is still inside.
        if *bin > self.window.start_at(tick_unix_ns(tick_ms)) {
            return;
        }
        let key = PackedRow::pack(&output.key_of(&values));
        if diff > 0 {
            self.new.insert(key);
        } else {
            self.gone.insert(key, row);
        }
    }

    /// Rows that are final with this tick.
    fn end(&mut self) -> Vec<PackedRow> {
        let (gone, new) = (std::mem::take(&mut self.gone), std::mem::take(&mut self.new));
        let mut finished = Vec::new();
        for (key, row) in gone {
            if !self.done.contains(&key) {
                finished.push(row);
            }
            if !new.contains(&key) {
                self.done.remove(&key);
            }
        }
        // Also those that came when their bin had begun to leave: they were never whole.
        self.done.extend(new);
        finished
    }
}
