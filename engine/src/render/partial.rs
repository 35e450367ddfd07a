//! The hot path of a node: rows into partial accumulators per (group key, pane), for one refresh.
//!
//! A key is first a few 64-bit words: numbers stand for themselves, strings for a small id that is
//! looked up once per dictionary entry. Rows find their slot by those words; the packed key is built
//! when a slot is made. Accumulators lie column by column, so that each aggregate runs over a batch
//! in one tight loop.

use std::hash::{BuildHasher, Hasher};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef};
use hashbrown::{HashMap, HashTable};
use weir_functions::aggregate::{AccColumn, AggFn};
use weir_types::PackedRow;
use weir_types::acc::Acc;
use weir_types::batch::{RecordBatch, StrColumn, push_packed, u128_at};
use weir_types::plan::SlidingWindow;
use weir_types::split::Change;
use weir_types::value::DataType;

use super::NodeBatch;
use crate::prepare::AggSpec;

type Hash = foldhash::fast::RandomState;

/// Strings of one refresh by small numbers.
#[derive(Default)]
struct Interner {
    ids: HashMap<Vec<u8>, u64>,
    bytes: usize,
}

impl Interner {
    fn id(&mut self, text: &[u8]) -> u64 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.ids.len() as u64;
        self.bytes += text.len() + 64;
        self.ids.insert(text.to_vec(), id);
        id
    }
}

/// The accumulators of one refresh.
pub(super) struct PartialTable {
    interner: Interner,
    slots: HashTable<u32>,
    hash: Hash,
    /// Per slot: its words, one after the other.
    words: Vec<u64>,
    stride: usize,
    keys: Vec<PackedRow>,
    panes: Vec<i64>,
    rows: Vec<i64>,
    /// Per aggregate, of all slots.
    accs: Vec<AccColumn>,
    key_bytes: usize,
    acc_bytes: usize,
    /// What accumulators may have grown by since they were looked at.
    unmeasured: usize,
}

/// What a batch needs while it is taken in; kept for its room.
#[derive(Default)]
pub(super) struct Scratch {
    columns: Vec<Vec<u64>>,
    slots: Vec<u32>,
    row: Vec<u64>,
    codes: Vec<u64>,
}

/// What a value may add to a sketch: a bucket with its room to spare, or its part of an array and of the few before.
const BUCKET_BYTES: usize = 40;
/// Looking at the accumulators is not worth less.
const UNMEASURED_MIN: usize = 1 << 20;

const NO_ID: u64 = u64::MAX;
/// Pane of rows that never expire.
pub(super) const ONLY_PANE: i64 = 0;

impl PartialTable {
    pub(super) fn new(spec: &AggSpec) -> PartialTable {
        let of_type = |idx: &usize| if spec.types[*idx] == DataType::Uint128 { 2 } else { 1 };
        PartialTable {
            interner: Interner::default(),
            slots: HashTable::new(),
            hash: Hash::default(),
            words: Vec::new(),
            stride: 1 + spec.group.iter().map(of_type).sum::<usize>(),
            keys: Vec::new(),
            panes: Vec::new(),
            rows: Vec::new(),
            accs: spec.aggs.iter().map(AggFn::column).collect(),
            key_bytes: 0,
            acc_bytes: 0,
            unmeasured: 0,
        }
    }

    pub(super) fn add(
        &mut self,
        spec: &AggSpec,
        time: usize,
        sliding: Option<SlidingWindow>,
        batch: &NodeBatch,
        scratch: &mut Scratch,
    ) {
        let bytes = batch.bytes();
        let batch = &*batch.rows;
        scratch.columns.resize_with(self.stride, Vec::new);
        pane_words(batch.column(time), sliding, &mut scratch.columns[0]);
        let mut next = 1;
        for &idx in &spec.group {
            next += self.column_words(batch.column(idx), spec.types[idx], next, scratch);
        }
        self.find_slots(spec, batch, scratch);
        for (agg, accs) in spec.aggs.iter().zip(&mut self.accs) {
            accs.add_rows(agg, batch, &scratch.slots);
        }
        // An accumulator keeps at most what it was given, or a few buckets more for each value.
        self.unmeasured += bytes + batch.num_rows() * spec.aggs.len() * BUCKET_BYTES;
        if self.unmeasured > UNMEASURED_MIN.max(self.acc_bytes) {
            self.measure();
        }
    }

    /// The words of one group column into `scratch.columns[at..]`; how many words a row has.
    fn column_words(
        &mut self,
        array: &ArrayRef,
        data_type: DataType,
        at: usize,
        scratch: &mut Scratch,
    ) -> usize {
        let out = &mut scratch.columns[at];
        out.clear();
        match data_type {
            DataType::Boolean => out.extend(array.as_boolean().values().iter().map(u64::from)),
            DataType::Int64 => {
                out.extend(array.as_primitive::<Int64Type>().values().iter().map(|&v| v as u64));
            }
            DataType::Time64Ns => {
                let times = array.as_primitive::<TimestampNanosecondType>().values();
                out.extend(times.iter().map(|&v| v as u64));
            }
            DataType::Float64 => {
                let floats = array.as_primitive::<Float64Type>().values();
                out.extend(floats.iter().map(|v| v.to_bits()));
            }
            DataType::String => self.string_words(array, out, &mut scratch.codes),
            DataType::Uint128 => {
                let values = (0..array.len()).map(|row| u128_at(array, row).unwrap_or(0));
                let values: Vec<u128> = values.collect();
                out.extend(values.iter().map(|&v| (v >> 64) as u64));
                let low = &mut scratch.columns[at + 1];
                low.clear();
                low.extend(values.iter().map(|&v| v as u64));
                return 2;
            }
        }
        1
    }

    fn string_words(&mut self, array: &ArrayRef, out: &mut Vec<u64>, codes: &mut Vec<u64>) {
        match StrColumn::of(array) {
            Some(StrColumn::Dictionary { keys, values }) => {
                codes.clear();
                codes.resize(values.len(), NO_ID);
                for &code in keys.values() {
                    let id = &mut codes[code as usize];
                    if *id == NO_ID {
                        *id = self.interner.id(values.value(code as usize));
                    }
                    out.push(*id);
                }
            }
            Some(StrColumn::Plain(values)) => {
                out.extend((0..values.len()).map(|row| self.interner.id(values.value(row))));
            }
            None => out.resize(array.len(), 0),
        }
    }

    fn find_slots(&mut self, spec: &AggSpec, batch: &RecordBatch, scratch: &mut Scratch) {
        scratch.slots.clear();
        let stride = self.stride;
        for row in 0..batch.num_rows() {
            scratch.row.clear();
            scratch.row.extend(scratch.columns[..stride].iter().map(|column| column[row]));
            let words = scratch.row.as_slice();
            let hash = hash_words(&self.hash, words);
            let of_slot = |slot: u32| &self.words[slot as usize * stride..][..stride];
            let found = self.slots.find(hash, |&slot| same_words(of_slot(slot), words)).copied();
            let slot = match found {
                Some(slot) => slot,
                None => self.new_slot(spec, batch, row, hash, words),
            };
            self.rows[slot as usize] += 1;
            scratch.slots.push(slot);
        }
    }

    #[cold]
    fn new_slot(
        &mut self,
        spec: &AggSpec,
        batch: &RecordBatch,
        row: usize,
        hash: u64,
        words: &[u64],
    ) -> u32 {
        let slot = u32::try_from(self.keys.len()).expect("the state budget ends a query before");
        self.words.extend_from_slice(words);
        self.panes.push(words[0] as i64);
        self.rows.push(0);
        let mut key = Vec::new();
        for &idx in &spec.group {
            push_packed(&mut key, batch.column(idx), spec.types[idx], row);
        }
        self.key_bytes += key.len() + self.stride * 8 + 64;
        self.keys.push(PackedRow(key));
        for (agg, accs) in spec.aggs.iter().zip(&mut self.accs) {
            accs.push_zero(agg);
            self.acc_bytes += accs.slot_bytes();
        }
        let (all, stride, state) = (&self.words, self.stride, &self.hash);
        let rehash = |&slot: &u32| hash_words(state, &all[slot as usize * stride..][..stride]);
        self.slots.insert_unique(hash, slot, rehash);
        slot
    }

    /// Accumulators grow inside; they are looked at from time to time.
    fn measure(&mut self) {
        self.unmeasured = 0;
        self.acc_bytes = self.accs.iter().map(AccColumn::state_bytes).sum();
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.key_bytes + self.acc_bytes + self.unmeasured + self.interner.bytes
    }

    /// Everything as changes.
    pub(super) fn into_changes(self) -> Changes {
        Changes {
            bytes: self.state_bytes(),
            keys: self.keys.into_iter(),
            panes: self.panes.into_iter(),
            rows: self.rows.into_iter(),
            columns: self.accs.into_iter().map(AccColumn::into_accs).collect(),
        }
    }
}

/// What a refresh has folded, group by group.
pub(super) struct Changes {
    keys: std::vec::IntoIter<PackedRow>,
    panes: std::vec::IntoIter<i64>,
    rows: std::vec::IntoIter<i64>,
    columns: Vec<Box<dyn Iterator<Item = Acc> + Send>>,
    bytes: usize,
}

impl Changes {
    pub(super) fn state_bytes(&self) -> usize {
        self.bytes
    }
}

impl Iterator for Changes {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        // An equal share, so that nothing is weighed twice.
        self.bytes -= self.bytes.checked_div(self.keys.len()).unwrap_or(0);
        let (key, pane, rows) = (self.keys.next()?, self.panes.next()?, self.rows.next()?);
        let accs = self.columns.iter_mut().filter_map(Iterator::next).collect();
        Some(Change::Partial { key, pane, rows, accs })
    }
}

/// A few words each, of equal number: compared in place, since a call of `memcmp` costs more than that.
fn same_words(left: &[u64], right: &[u64]) -> bool {
    left.iter().zip(right).all(|(left, right)| left == right)
}

fn hash_words(state: &Hash, words: &[u64]) -> u64 {
    let mut hasher = state.build_hasher();
    for &word in words {
        hasher.write_u64(word);
    }
    hasher.finish()
}

/// The pane of each row. Times mostly stay within a pane from row to row.
fn pane_words(times: &ArrayRef, sliding: Option<SlidingWindow>, out: &mut Vec<u64>) {
    out.clear();
    let times = times.as_primitive::<TimestampNanosecondType>().values();
    let Some(sliding) = sliding else {
        out.resize(times.len(), ONLY_PANE as u64);
        return;
    };
    let (mut pane, mut after, mut until) = (0i64, 0i64, 0i64);
    for &time in times {
        if time <= after || time > until {
            pane = sliding.pane_of(time);
            after = pane.saturating_mul(sliding.pane_ns);
            until = after.saturating_add(sliding.pane_ns);
        }
        out.push(pane as u64);
    }
}
