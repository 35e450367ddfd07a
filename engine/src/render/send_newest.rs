//! Sends the rows that a limit of n can show: of each refresh those that are not outdone by n newer ones
//! ([`super::newest`]). Rows wait as the batches they came in; times alone decide which are packed.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use arrow_array::BooleanArray;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use weir_types::batch::pack_rows;
use weir_types::clock::tick_unix_ns;
use weir_types::split::{Change, ExchangeId};

use super::newest::Floor;
use super::runs::{Runs, Waiting};
use super::send::{Collect, Placed, RowPacker, Silent, send};
use super::{BatchStream, NodeBatch};
use crate::budget::Fuel;
use crate::prepare::NewestSpec;
use crate::query::{Env, OpError};
use crate::weigh;

pub(super) fn newest<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    exchange: ExchangeId,
    packer: RowPacker,
    spec: NewestSpec,
) -> Silent<'s> {
    let floor = Floor::new(spec.rows_max);
    send(
        env,
        stream,
        exchange,
        Newest { packer, spec, floor, ticks: BTreeMap::new(), current: None },
    )
}

/// Rows that may wait beyond twice those that are wanted before they are looked through: each time at least
/// half of them go, so that a row is looked at a few times at most.
const ROWS_MORE: usize = 1024;
/// Looking through so many times takes about half a millisecond. With more, a row is left out where it is
/// packed, a slice at a time.
const CUT_ROWS_MAX: usize = 1 << 17;

struct Newest {
    packer: RowPacker,
    spec: NewestSpec,
    /// Of the refreshes that were handed out.
    floor: Floor,
    ticks: BTreeMap<u64, Candidates>,
    /// The tick that is being handed out.
    current: Option<Outgoing>,
}

/// What a refresh has brought so far.
#[derive(Default)]
struct Candidates {
    batches: VecDeque<NodeBatch>,
    rows: usize,
    bytes: usize,
    /// It is looked through when it has so many rows.
    cut_at: usize,
}

struct Outgoing {
    tick_ms: u64,
    batches: VecDeque<NodeBatch>,
    packed: Runs<Placed>,
    is_sealed: bool,
}

impl Candidates {
    fn push(&mut self, batch: NodeBatch) {
        self.rows += batch.rows.num_rows();
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
    }
}

impl Newest {
    fn times<'b>(&self, batch: &'b NodeBatch) -> &'b [i64] {
        batch.rows.column(self.packer.time).as_primitive::<TimestampNanosecondType>().values()
    }

    /// The times of rows that are certain to reach the limit.
    fn certain<'b>(&self, batch: &'b NodeBatch) -> impl Iterator<Item = i64> + 'b {
        let marks = self.spec.has_certain.then(|| {
            let last = batch.rows.num_columns() - 1;
            batch.rows.column(last).as_boolean()
        });
        let times = self.times(batch).iter().enumerate();
        let is_certain = move |row: usize| marks.is_none_or(|marks| marks.value(row));
        times.filter(move |(row, _)| is_certain(*row)).map(|(_, &time)| time)
    }

    /// Leaves out rows that others of the same refresh, or earlier ones, outdo.
    fn cut(&self, candidates: &mut Candidates) {
        let wanted = usize::try_from(self.spec.rows_max).unwrap_or(usize::MAX);
        if candidates.rows > CUT_ROWS_MAX {
            return;
        }
        let mut least_ns = i64::MIN;
        if candidates.rows >= wanted && wanted > 0 {
            let batches = candidates.batches.iter();
            let mut times: Vec<i64> = batches.flat_map(|batch| self.certain(batch)).collect();
            if let Some(at) = times.len().checked_sub(wanted) {
                least_ns = *times.select_nth_unstable(at).1;
            }
        }
        for batch in std::mem::take(candidates).batches {
            let stays = |&time: &i64| Some(time >= least_ns && self.floor.admits(time));
            let keep: BooleanArray = self.times(&batch).iter().map(stays).collect();
            if let Some(batch) = batch.kept(&keep) {
                candidates.push(batch);
            }
        }
    }

    fn cut_at(&self, rows: usize) -> usize {
        let wanted = usize::try_from(self.spec.rows_max).unwrap_or(usize::MAX);
        wanted.max(rows).saturating_mul(2).saturating_add(ROWS_MORE)
    }

    fn begin(&mut self, tick_ms: u64) -> Outgoing {
        let mut candidates = self.ticks.remove(&tick_ms).unwrap_or_default();
        if let Some(sliding) = self.packer.sliding {
            self.floor.expire(sliding.first_unix_ns_at(tick_unix_ns(tick_ms)));
        }
        self.cut(&mut candidates);
        let packed = Runs::default();
        Outgoing { tick_ms, batches: candidates.batches, packed, is_sealed: false }
    }

    /// Packs the rows of a batch that are not outdone.
    fn pack(&mut self, batch: NodeBatch, packed: &mut Runs<Placed>, fuel: &mut Fuel) {
        let stays = |&time: &i64| Some(self.floor.admits(time));
        let keep: BooleanArray = self.times(&batch).iter().map(stays).collect();
        let Some(batch) = batch.kept(&keep) else { return };
        let certain: Vec<i64> = self.certain(&batch).collect();
        certain.into_iter().for_each(|time| self.floor.add(time, 1));
        let rows = pack_rows(&batch.rows, &self.packer.types);
        for (row, &time) in rows.into_iter().zip(self.times(&batch)) {
            fuel.burn(row.0.len());
            packed.push(((self.packer.pane_of(time), (time, row)), 1));
        }
    }
}

impl Collect for Newest {
    fn add(&mut self, tick_ms: u64, batch: &NodeBatch) -> Result<(), OpError> {
        let mut candidates = self.ticks.remove(&tick_ms).unwrap_or_default();
        candidates.push(batch.clone());
        if candidates.rows > candidates.cut_at.max(self.cut_at(0)) {
            self.cut(&mut candidates);
            candidates.cut_at = self.cut_at(candidates.rows);
        }
        self.ticks.insert(tick_ms, candidates);
        Ok(())
    }

    fn first(&self) -> Option<u64> {
        let current = self.current.as_ref().map(|current| current.tick_ms);
        current.or_else(|| self.ticks.first_key_value().map(|(&tick_ms, _)| tick_ms))
    }

    fn take(&mut self, tick_ms: u64, fuel: &mut Fuel) -> Vec<Change> {
        let mut out = Vec::new();
        let mut current = self.current.take().unwrap_or_else(|| self.begin(tick_ms));
        while !fuel.is_empty()
            && let Some(batch) = current.batches.pop_front()
        {
            self.pack(batch, &mut current.packed, fuel);
        }
        if current.batches.is_empty() && !current.is_sealed {
            current.packed.seal();
            current.is_sealed = true;
        }
        while !fuel.is_empty() && current.is_sealed {
            let Some(((pane, (time, row)), diff)) = current.packed.pop() else { return out };
            fuel.burn(row.0.len());
            // Those that were packed after it may outdo it.
            if self.floor.admits(time) {
                let change = Change::Row { row, pane, diff };
                fuel.burn(weigh::item(&change));
                out.push(change);
            }
        }
        self.current = Some(current);
        out
    }

    fn state_bytes(&self) -> usize {
        let current = self.current.as_ref().map_or(0, |current| {
            let batches = current.batches.iter().map(NodeBatch::bytes).sum::<usize>();
            batches + current.packed.bytes()
        });
        let waiting = self.ticks.values().map(|candidates| candidates.bytes).sum::<usize>();
        current + waiting + self.floor.state_bytes()
    }

    fn give_up(self) -> Box<dyn Send> {
        // Batches are shared within the worker, and go here.
        Box::new(self.current.map(|current| current.packed))
    }
}
