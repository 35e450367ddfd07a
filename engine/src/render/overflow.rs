//! Which groups an aggregate holds when there are more than it may, and under which key the rows of the
//! others are counted ([ADR 23](../../../docs/adr/0023-overflow.md)). It merges nothing and knows no window:
//! `pane_window` asks it.
//!
//! Who is let in does not depend on the order in which rows come, on nodes or on workers: keys that came in
//! one refresh are let in by their packed order. With many groups, keys are dealt out to shards, each with
//! its part of the places, so that workers need not ask each other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use weir_types::PackedRow;
use weir_types::row::{RowReader, push_bool, push_f64, push_i64, push_str, push_u128};
use weir_types::split::OVERFLOW_KEY;
use weir_types::value::DataType;

use super::route;
use crate::api::Limits;
use crate::query::QueryShared;
use crate::queue::EngineShared;

/// Shards, where there are places enough for chance to fill them alike; a multiple of most numbers of workers.
const SHARDS: u64 = 64;
/// With fewer places for each shard, one shard has them all.
const SHARD_GROUPS_MIN: usize = 64;
/// Rows of overflow, by times, that an aggregate has at most; a chart of five minutes has three hundred.
const OVERFLOW_TIMES_MAX: usize = 1024;

/// The places of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    shards: u64,
    each: usize,
}

impl Places {
    pub(super) fn of_groups(limits: &Limits) -> Places {
        let max = usize::try_from(limits.query_groups_max).unwrap_or(usize::MAX).max(1);
        let many = SHARD_GROUPS_MIN.saturating_mul(SHARDS as usize);
        if max < many {
            return Places { shards: 1, each: max };
        }
        Places { shards: SHARDS, each: max.div_ceil(SHARDS as usize) }
    }

    /// Of groups of overflow.
    pub(super) fn of_times(limits: &Limits) -> Places {
        let max = usize::try_from(limits.query_groups_max).unwrap_or(usize::MAX);
        Places { shards: 1, each: max.clamp(1, OVERFLOW_TIMES_MAX) }
    }

    /// Equal keys meet in one shard, and a shard on one worker.
    pub(super) fn shard(&self, key: &[u8]) -> u64 {
        if self.shards == 1 { 0 } else { route(key) % self.shards }
    }
}

/// How a key reads under which rows of other groups are counted.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    types: Vec<DataType>,
    /// Times stay, so that there is a row of overflow for each time bin.
    keeps_times: bool,
}

impl Naming {
    /// Of what does not fit into the groups. Without a column that can bear a mark, which neither a time nor
    /// a BOOLEAN can, there is one row for all: else every false one at its own time would read as overflow.
    pub(super) fn with_times(types: Vec<DataType>) -> Naming {
        let bears_no_mark = |ty: &DataType| matches!(ty, DataType::Time64Ns | DataType::Boolean);
        let keeps_times = !types.iter().all(bears_no_mark);
        Naming { types, keeps_times }
    }

    /// Of what does not fit into the overflow of single times.
    pub(super) fn of_all(types: Vec<DataType>) -> Naming {
        Naming { types, keeps_times: false }
    }

    /// The key of overflow for a key. `None`: that has other columns.
    pub(super) fn name(&self, key: &[u8]) -> Option<PackedRow> {
        let mut reader = RowReader::new(key);
        let mut out = Vec::with_capacity(OVERFLOW_KEY.len() + 2 + 8 * self.types.len());
        for &ty in &self.types {
            let raw = reader.next_raw(ty)?;
            if ty == DataType::Time64Ns && self.keeps_times {
                out.extend_from_slice(raw);
            } else {
                push_name(&mut out, ty);
            }
        }
        Some(PackedRow(out))
    }

    /// True for a key of overflow.
    pub(super) fn is_name(&self, key: &[u8]) -> bool {
        let mut reader = RowReader::new(key);
        let mut wanted = Vec::new();
        self.types.iter().all(|&ty| {
            let Some(raw) = reader.next_raw(ty) else { return false };
            if ty == DataType::Time64Ns && self.keeps_times {
                return true;
            }
            wanted.clear();
            push_name(&mut wanted, ty);
            raw == wanted.as_slice()
        })
    }
}

/// What stands for all others in a column: what hardly anything else is.
fn push_name(out: &mut Vec<u8>, ty: DataType) {
    match ty {
        DataType::String => push_str(out, OVERFLOW_KEY.as_bytes()),
        DataType::Int64 => push_i64(out, i64::MIN),
        DataType::Float64 => push_f64(out, f64::NAN),
        DataType::Uint128 => push_u128(out, u128::MAX),
        DataType::Time64Ns => push_i64(out, 0),
        DataType::Boolean => push_bool(out, false),
    }
}

/// Keys that came in the present tick and are not held, each with what came for it.
struct Newcomers<P> {
    parts: BTreeMap<(u64, PackedRow), Vec<P>>,
    /// By shard.
    count: Vec<usize>,
}

/// Who is let in.
pub(super) struct Admission<P> {
    places: Places,
    naming: Naming,
    /// Groups that have rows, by shard.
    held: Vec<usize>,
    /// Who came, where there may be more than places.
    newcomers: Newcomers<P>,
    tick_ms: Option<u64>,
    /// All who come in this tick find a place.
    is_roomy: bool,
    /// For the rest of this tick nobody is let in: bytes are short.
    is_closed: bool,
}

/// What becomes of parts of a key that is not held.
pub(super) enum Verdict<P> {
    /// They make a group.
    Admitted(P),
    /// It is seen when all of the tick are there.
    Waits,
    /// They are counted elsewhere: these, and all of a key that had to go for it.
    Refused(Vec<(PackedRow, P)>),
}

impl<P> Admission<P> {
    pub(super) fn new(places: Places, naming: Naming) -> Admission<P> {
        let shards = usize::try_from(places.shards).unwrap_or(1);
        Admission {
            places,
            naming,
            held: vec![0; shards],
            newcomers: Newcomers { parts: BTreeMap::new(), count: vec![0; shards] },
            tick_ms: None,
            is_roomy: true,
            is_closed: false,
        }
    }

    pub(super) fn naming(&self) -> &Naming {
        &self.naming
    }

    /// A tick begins, with so many parts. What has expired has expired.
    pub(super) fn begin(&mut self, tick_ms: u64, parts: usize) {
        if self.tick_ms.replace(tick_ms) != Some(tick_ms) {
            let most = self.held.iter().max().copied().unwrap_or(0);
            self.is_roomy = most.saturating_add(parts) <= self.places.each;
            self.is_closed = false;
        }
    }

    /// Bytes are short.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// A group has its first rows, or its last are gone.
    pub(super) fn count(&mut self, key: &[u8], by: isize) {
        let held = &mut self.held[self.places.shard(key) as usize];
        *held = held.saturating_add_signed(by);
    }

    /// Somebody came who is not held.
    pub(super) fn ask(&mut self, key: PackedRow, part: P) -> (PackedRow, Verdict<P>) {
        if self.is_roomy && !self.is_closed {
            return (key, Verdict::Admitted(part));
        }
        let shard = self.places.shard(&key.0);
        let at = shard as usize;
        let room = self.places.each.saturating_sub(self.held[at]);
        match self.newcomers.parts.entry((shard, key.clone())) {
            Entry::Occupied(mut have) => {
                have.get_mut().push(part);
                return (key, Verdict::Waits);
            }
            Entry::Vacant(_) if room == 0 || self.is_closed => {
                return (key.clone(), Verdict::Refused(vec![(key, part)]));
            }
            Entry::Vacant(slot) => {
                slot.insert(vec![part]);
            }
        }
        self.newcomers.count[at] += 1;
        if self.newcomers.count[at] <= room {
            return (key, Verdict::Waits);
        }
        // Places are few: the last in order goes, whoever came first.
        self.newcomers.count[at] -= 1;
        let last = self.newcomers.parts.range(..(shard + 1, PackedRow::default())).next_back();
        let Some(last) = last.map(|(last, _)| last.clone()) else { return (key, Verdict::Waits) };
        let parts = self.newcomers.parts.remove(&last).unwrap_or_default();
        let gone = parts.into_iter().map(|part| (last.1.clone(), part)).collect();
        (key, Verdict::Refused(gone))
    }

    /// One of those who have a place, when all of the tick are there.
    pub(super) fn next(&mut self) -> Option<(PackedRow, Vec<P>)> {
        let ((shard, key), parts) = self.newcomers.parts.pop_first()?;
        self.newcomers.count[shard as usize] -= 1;
        Some((key, parts))
    }

    /// What it keeps, to be freed elsewhere.
    pub(super) fn give_up(self) -> BTreeMap<(u64, PackedRow), Vec<P>> {
        self.newcomers.parts
    }
}

/// How much of its bytes a query has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pressure {
    None,
    /// No more groups are made.
    Full,
    /// Groups do not even get new panes.
    Brim,
}

/// Bytes are short for a query that holds half of what it may, or more than its share of an engine that is
/// three quarters full: the rest is for what groups grow by, and for what is made of them.
pub(super) fn pressure(query: &QueryShared, engine: &EngineShared) -> Pressure {
    let limits = &engine.config.limits;
    let (own, max) = (query.holdings.state(), limits.query_state_bytes_max);
    if own > max - max / 8 {
        return Pressure::Brim;
    }
    if own > max / 2 {
        return Pressure::Full;
    }
    if engine.meter.held_bytes() > limits.state_bytes_max / 4 * 3 {
        let queries = engine.query_count().max(1) as u64;
        if own > limits.state_bytes_max / 2 / queries {
            return Pressure::Full;
        }
    }
    Pressure::None
}

#[cfg(test)]
mod tests {
    use weir_types::Value;

    use super::*;

    fn key(text: &str) -> PackedRow {
        PackedRow::pack(&[Value::str(text)])
    }

    fn naming() -> Naming {
        Naming::with_times(vec![DataType::String])
    }

    /// In whatever order keys come, those that are first in order are let in, each with all of its parts:
    /// catches a key that is let in because it came early.
    #[test]
    fn the_order_of_keys_decides() {
        for order in [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["b", "d", "a", "c"]] {
            let mut admission = Admission::new(Places { shards: 1, each: 3 }, naming());
            admission.count(&key("held").0, 1);
            admission.begin(1, 8);
            let mut refused = Vec::new();
            for name in order.into_iter().chain(order) {
                if let (_, Verdict::Refused(parts)) = admission.ask(key(name), name) {
                    refused.extend(parts.into_iter().map(|(_, name)| name));
                }
            }
            let admitted: Vec<_> = std::iter::from_fn(|| admission.next()).collect();
            let wanted = [(key("a"), vec!["a", "a"]), (key("b"), vec!["b", "b"])];
            assert_eq!(admitted, wanted, "{order:?}");
            refused.sort_unstable();
            assert_eq!(refused, ["c", "c", "d", "d"], "{order:?}");
        }
    }

    /// Every type has a name, times stay where something else is in the key, and a name is known again.
    #[test]
    fn keys_of_overflow() {
        let types = [
            DataType::Boolean,
            DataType::Int64,
            DataType::Float64,
            DataType::String,
            DataType::Time64Ns,
            DataType::Uint128,
        ];
        let some = PackedRow::pack(&[
            Value::Boolean(true),
            Value::Int64(0),
            Value::Float64(0.0),
            Value::str(""),
            Value::Time64Ns(7),
            Value::Uint128(0),
        ]);
        for (naming, time) in
            [(Naming::with_times(types.to_vec()), 7), (Naming::of_all(types.to_vec()), 0)]
        {
            let name = naming.name(&some.0).unwrap();
            let values = name.unpack(&types).unwrap();
            assert_eq!(values[3], Value::str("__overflow__"));
            assert_eq!(values[4], Value::Time64Ns(time));
            assert!(naming.is_name(&name.0) && !naming.is_name(&some.0));
        }
        // A real group of each time, which is not to be taken for overflow.
        let naming = Naming::with_times(vec![DataType::Boolean, DataType::Time64Ns]);
        let real = PackedRow::pack(&[Value::Boolean(false), Value::Time64Ns(7)]);
        assert!(!naming.is_name(&real.0));
        let times = Naming::with_times(vec![DataType::Time64Ns]);
        let name = times.name(&PackedRow::pack(&[Value::Time64Ns(7)]).0).unwrap();
        assert_eq!(name, PackedRow::pack(&[Value::Time64Ns(0)]));
    }

    /// Many places are shared out so that all workers together have about as many, few are in one hand.
    #[test]
    fn places_are_dealt_out() {
        let places =
            |max| Places::of_groups(&Limits { query_groups_max: max, ..Limits::default() });
        assert_eq!(places(3), Places { shards: 1, each: 3 });
        assert_eq!(places(0), Places { shards: 1, each: 1 });
        assert_eq!(places(1 << 19), Places { shards: 64, each: 8192 });
    }
}
