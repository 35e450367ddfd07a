//! Rows of upserts as the time series that they are, for receivers of samples: which rows there are now, which
//! series went, and at which instants samples are. Text and bytes are made elsewhere.

pub(crate) mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_types::{Clock, PackedRow, Value, WallClock};

use crate::csv;
use crate::element::{Body, Described, Element, Op};
use crate::sink::{Notes, SinkError};

/// What is held of all outputs: more is refused and counted.
const ROWS_BYTES_MAX: u64 = 64 << 20;
const ROW_OVERHEAD_BYTES: u64 = 160;

/// The rows of one output, by key.
pub(crate) struct Rows {
    pub(crate) output: Arc<Described>,
    pub(crate) now: BTreeMap<PackedRow, PackedRow>,
    /// After a reset: what will be there once its tick is complete, and what it is.
    next: Option<(Arc<Described>, BTreeMap<PackedRow, PackedRow>)>,
}

/// The rows that are shown.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) outputs: BTreeMap<u16, Rows>,
    bytes: u64,
}

fn bytes_of(key: &PackedRow, row: &PackedRow) -> u64 {
    (key.0.len() + row.0.len()) as u64 + ROW_OVERHEAD_BYTES
}

fn bytes_of_all(rows: &BTreeMap<PackedRow, PackedRow>) -> u64 {
    rows.iter().map(|(key, row)| bytes_of(key, row)).sum()
}

/// A row that went: whose it was, its key, and when.
pub(crate) type Gone = (Arc<Described>, PackedRow, u64);

/// Rows that a reset took away and of which the other end was not told yet. It is told before anything else is
/// looked at, so they are of one reset and take no more than [`Held`] may.
#[derive(Default)]
pub(crate) struct Owed {
    rows: VecDeque<Gone>,
}

impl Owed {
    pub(crate) fn push(&mut self, output: &Arc<Described>, keys: Vec<PackedRow>, at_ms: u64) {
        self.rows.extend(keys.into_iter().map(|key| (Arc::clone(output), key, at_ms)));
    }

    /// Tells the other end, in parts. What it will never take is counted in `rejected`, and not said again.
    ///
    /// # Errors
    /// It is not there now: what is left is owed still.
    pub(crate) fn pay(
        &mut self,
        rejected: &mut u64,
        mut say: impl FnMut(&[Gone]) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let (mut size, mut in_a_row) = (REFRESH_ROWS, 0);
        while !self.rows.is_empty() {
            let count = size.min(self.rows.len());
            match say(&self.rows.make_contiguous()[..count]) {
                Ok(()) => {
                    self.rows.drain(..count);
                    (size, in_a_row) = ((size * 2).min(REFRESH_ROWS), 0);
                }
                Err(SinkError::Unfit(_)) if count > 1 => size = count.div_ceil(2),
                Err(SinkError::Unfit(_)) => {
                    in_a_row += 1;
                    let refused = if in_a_row < REFUSED_MAX { 1 } else { self.rows.len() };
                    self.rows.drain(..refused);
                    *rejected += refused as u64;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Held {
    /// A reset came, and what is there instead is not complete yet.
    pub(crate) fn is_being_renewed(&self, input: u16) -> bool {
        self.outputs.get(&input).is_some_and(|rows| rows.next.is_some())
    }

    /// Forgets the rows of all inputs behind the first ones.
    pub(crate) fn keep_first(&mut self, inputs: u16) {
        for (_, rows) in self.outputs.split_off(&inputs) {
            let next = rows.next.map_or(0, |(_, next)| bytes_of_all(&next));
            self.bytes = self.bytes.saturating_sub(bytes_of_all(&rows.now) + next);
        }
    }

    /// Takes an element in; the same one again changes nothing. What is returned are the keys that a reset took
    /// away, once it is known which they are.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn apply(&mut self, element: &Element) -> Result<Vec<PackedRow>, SinkError> {
        let rows = self.outputs.entry(element.output.input).or_insert_with(|| Rows {
            output: Arc::clone(&element.output),
            now: BTreeMap::new(),
            next: None,
        });
        if element.op == Op::Reset {
            let next = (Arc::clone(&element.output), BTreeMap::new());
            if let Some((_, before)) = rows.next.replace(next) {
                self.bytes = self.bytes.saturating_sub(bytes_of_all(&before));
            }
            return Ok(Vec::new());
        }
        let (output, held) = match &mut rows.next {
            Some((output, next)) => (output, next),
            None => (&mut rows.output, &mut rows.now),
        };
        if !Arc::ptr_eq(output, &element.output) {
            *output = Arc::clone(&element.output);
        }
        match (element.op, &element.body) {
            (Op::Progress, _) => {
                if let Some((output, next)) = rows.next.take() {
                    rows.output = output;
                    self.bytes = self.bytes.saturating_sub(bytes_of_all(&rows.now));
                    let before = std::mem::replace(&mut rows.now, next);
                    return Ok(before.into_keys().filter(|k| !rows.now.contains_key(k)).collect());
                }
            }
            (Op::Upsert, Body::Row(row)) => {
                let key = PackedRow::pack(&element.output.key_values(&element.body));
                let cost = bytes_of(&key, row);
                let before = held.get(&key).map_or(0, |before| bytes_of(&key, before));
                if self.bytes + cost > ROWS_BYTES_MAX + before {
                    let text = format!("more than {ROWS_BYTES_MAX} bytes of rows to be shown");
                    return Err(SinkError::Unfit(text));
                }
                self.bytes = self.bytes + cost - before;
                held.insert(key, row.clone());
            }
            (Op::Delete, Body::Key(key)) => {
                if let Some(before) = held.remove(key) {
                    self.bytes = self.bytes.saturating_sub(bytes_of(key, &before));
                }
            }
            _ => {}
        }
        Ok(Vec::new())
    }
}

/// A row's place in the series: it is there, or gone and this is its key.
#[derive(Clone, Copy)]
pub(crate) enum Row<'a> {
    There(&'a PackedRow),
    Gone(&'a PackedRow),
}

/// Where samples go, and what they are made into. What is to be said of which rows, and when, is [`Pushed`]'s.
pub(crate) trait Receiver {
    type Made: Default;

    fn push(&self, made: &mut Self::Made, output: &Described, row: Row<'_>, at_ms: u64);

    /// Sends it. Gives how many texts had to be cleaned.
    ///
    /// # Errors
    /// It did not arrive.
    fn send(&mut self, made: Self::Made) -> Result<u64, SinkError>;

    fn notes(&mut self) -> &mut Notes;
}

/// Rows as samples that are pushed.
#[derive(Default)]
pub(crate) struct Pushed {
    held: Held,
    instants: Instants,
    /// Rows that went and were not said to.
    owed: Owed,
}

/// A batch of elements on its way, of which so much is safe.
pub(crate) struct Batch<'a, S: Receiver> {
    made: S::Made,
    instants: Instants,
    safe: &'a mut usize,
}

impl<S: Receiver> Batch<'_, S> {
    /// What becomes samples without being held.
    pub(crate) fn made(&mut self) -> &mut S::Made {
        &mut self.made
    }
}

impl Pushed {
    /// Begins a batch. What is owed is older than all of it.
    ///
    /// # Errors
    /// It did not arrive.
    pub(crate) fn begin<'a, S: Receiver>(
        &mut self,
        to: &mut S,
        safe: &'a mut usize,
    ) -> Result<Batch<'a, S>, SinkError> {
        self.pay(to)?;
        Ok(Batch { made: S::Made::default(), instants: self.instants.clone(), safe })
    }

    /// Takes the element at that place of the batch.
    ///
    /// # Errors
    /// There is no room for it, or what had to be said before did not arrive.
    pub(crate) fn take<S: Receiver>(
        &mut self,
        to: &mut S,
        batch: &mut Batch<'_, S>,
        (at, element): (usize, &Element),
    ) -> Result<(), SinkError> {
        let output = &element.output;
        let at_ms = batch.instants.at(output.input, element.tick_ms);
        if element.op == Op::Progress && self.held.is_being_renewed(output.input) {
            // What came before is older than the end of what turns out to be gone.
            say(to, std::mem::take(&mut batch.made))?;
            (self.instants, *batch.safe) = (batch.instants.clone(), at);
            let gone = self.held.apply(element)?;
            self.owed.push(output, gone, at_ms);
            self.pay(to)?;
            *batch.safe = at + 1;
            return Ok(());
        }
        self.held.apply(element)?;
        match (element.op, &element.body) {
            (Op::Upsert, Body::Row(row)) => {
                to.push(&mut batch.made, output, Row::There(row), at_ms);
            }
            (Op::Delete, Body::Key(key)) => to.push(&mut batch.made, output, Row::Gone(key), at_ms),
            _ => {}
        }
        Ok(())
    }

    /// Ends a batch of so many elements.
    ///
    /// # Errors
    /// It did not arrive.
    pub(crate) fn end<S: Receiver>(
        &mut self,
        to: &mut S,
        batch: Batch<'_, S>,
        count: usize,
    ) -> Result<(), SinkError> {
        say(to, batch.made)?;
        (self.instants, *batch.safe) = (batch.instants, count);
        Ok(())
    }

    /// Says again what did not change.
    ///
    /// # Errors
    /// It did not arrive.
    pub(crate) fn refresh<S: Receiver>(&mut self, to: &mut S) -> Result<(), SinkError> {
        for (input, rows) in &self.held.outputs {
            let at_ms = self.instants.later(*input);
            let all: Vec<&PackedRow> = rows.now.values().collect();
            for part in all.chunks(REFRESH_ROWS) {
                let mut made = S::Made::default();
                for row in part {
                    to.push(&mut made, &rows.output, Row::There(row), at_ms);
                }
                to.send(made)?;
            }
        }
        Ok(())
    }

    /// Says of rows that went that they did.
    fn pay<S: Receiver>(&mut self, to: &mut S) -> Result<(), SinkError> {
        let mut rejected = 0;
        let done = self.owed.pay(&mut rejected, |rows| {
            let mut made = S::Made::default();
            for (output, key, at_ms) in rows {
                to.push(&mut made, output, Row::Gone(key), *at_ms);
            }
            to.send(made).map(drop)
        });
        to.notes().rejected += rejected;
        done
    }
}

/// Says what was not said before: what is said again was counted.
fn say<S: Receiver>(to: &mut S, made: S::Made) -> Result<(), SinkError> {
    let cleaned = to.send(made)?;
    to.notes().cleaned += cleaned;
    Ok(())
}

/// When samples are: at their ticks, but never at or before an instant at which something was said already. For
/// each input, as their ticks do not wait for each other.
#[derive(Clone, Default)]
pub(crate) struct Instants {
    of: BTreeMap<u16, Instant>,
}

#[derive(Clone, Copy, Default)]
struct Instant {
    tick_ms: u64,
    /// What the tick's samples have.
    at_ms: u64,
    /// When the tick came, on the steady clock.
    came: Duration,
}

impl Instants {
    /// Of a tick's samples.
    pub(crate) fn at(&mut self, input: u16, tick_ms: u64) -> u64 {
        let last = self.of.entry(input).or_default();
        if tick_ms > last.tick_ms {
            *last = Instant { tick_ms, at_ms: tick_ms.max(last.at_ms + 1), came: steady() };
        }
        last.at_ms
    }

    /// Of samples that are said again, though no tick came.
    pub(crate) fn later(&mut self, input: u16) -> u64 {
        let last = self.of.entry(input).or_default();
        let passed = u64::try_from(steady().saturating_sub(last.came).as_millis()).unwrap_or(0);
        last.at_ms = (last.tick_ms + passed).max(last.at_ms + 1);
        last.at_ms
    }
}

fn steady() -> Duration {
    Duration::from_nanos(WallClock.monotonic_ns())
}

/// A value as a sample; `None` of what is no number.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Boolean(value) => Some(f64::from(u8::from(*value))),
        // Receivers of samples have no other numbers.
        Value::Int64(value) => Some(*value as f64),
        Value::Float64(value) => Some(*value),
        _ => None,
    }
}

/// A label's text; true if it had to be cleaned.
pub(crate) fn label(value: &Value) -> (String, bool) {
    let text = csv::field_text(value);
    let is_text = match value {
        Value::String(bytes) => std::str::from_utf8(bytes).is_ok(),
        _ => true,
    };
    match text.contains('\0') {
        true => (text.replace('\0', "\u{FFFD}"), true),
        false => (text, !is_text),
    }
}

/// How often receivers are told again what did not change: what they do not hear of for five minutes, Prometheus
/// and its like hold for gone.
pub(crate) const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// So many refused one by one and it is about all of them.
const REFUSED_MAX: usize = 100;
/// Rows that are said again in one request.
pub(crate) const REFRESH_ROWS: usize = 2_000;
