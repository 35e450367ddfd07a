//! Filters and maps of rows in the cluster part that read metadata or the clock: what each live row became is
//! remembered. When the clock has moved, all rows are looked at again; when metadata was changed, those that asked for
//! what was changed ([`super::asked`]), or all if nobody can say what that was.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use weir_functions::EvalCtx;
use weir_types::PackedRow;
use weir_types::metadata::{MetadataSnapshot, reads};

use super::asked::{Asked, Place};
use super::rowwise::{paced, packed_bytes};
use super::runs::{Runs, Waiting};
use super::slots::{Keyed, Slots};
use super::tick::{Emit, Progress, TickLogic};
use crate::budget::{Fuel, Pace};
use crate::prepare::{Depends, RowSpec};
use crate::query::{Env, OpError};
use crate::weigh;

/// Finding who asked for a key takes about a tenth of looking at a row: with more keys all rows are looked at.
const KEYS_PER_ROW_MAX: usize = 8;
/// Who asked is found in one go, others wait for it: with more keys all rows are looked at, which goes by slices.
const KEYS_MAX: usize = 1 << 16;

/// A live row: how often it is there, and what it became.
struct Live {
    row: PackedRow,
    count: i64,
    result: Option<PackedRow>,
    place: Place,
}

/// A row's slot and its entry in the index.
pub(crate) const SLOT_BYTES: usize = size_of::<Option<Live>>() + 8;

fn live_bytes(row: &PackedRow, result: Option<&PackedRow>) -> usize {
    let heap = |row: &PackedRow| weigh::HEAP_BYTES + row.0.len();
    SLOT_BYTES + heap(row) + result.map_or(0, heap)
}

/// What a row became, and what it asked for: ascending, each key once.
type Made = (Option<PackedRow>, Vec<u64>);

impl Keyed for Live {
    type Key = [u8];

    fn key(&self) -> &[u8] {
        &self.row.0
    }
}

/// All live rows, by number, found by their bytes.
#[derive(Default)]
struct Rows {
    live: Slots<Live>,
    asked: Asked,
    bytes: usize,
}

impl Rows {
    fn insert(&mut self, row: PackedRow, count: i64, (result, keys): Made) {
        self.bytes += live_bytes(&row, result.as_ref());
        let slot = self.live.insert(Live { row, count, result, place: Place::default() });
        self.live.get_mut(slot).place = self.asked.put(slot, &keys);
    }

    fn remove(&mut self, slot: u32) -> Live {
        let live = self.live.remove(slot);
        self.take_off(live.place);
        self.bytes -= live_bytes(&live.row, live.result.as_ref());
        live
    }

    fn take_off(&mut self, place: Place) {
        if let Some(moved) = self.asked.remove(place) {
            self.live.get_mut(moved).place = place;
        }
    }

    /// A row became this now. What it was before, if that was something else.
    fn renew(&mut self, slot: u32, (result, keys): Made) -> Option<Option<PackedRow>> {
        let place = self.live.get(slot).place;
        if !self.asked.is_under(place, &keys) {
            self.take_off(place);
            self.live.get_mut(slot).place = self.asked.put(slot, &keys);
        }
        let live = self.live.get_mut(slot);
        if live.result == result {
            return None;
        }
        self.bytes += live_bytes(&live.row, result.as_ref());
        self.bytes -= live_bytes(&live.row, live.result.as_ref());
        Some(std::mem::replace(&mut live.result, result))
    }

    fn state_bytes(&self) -> usize {
        // Room that was given back by rows stays.
        self.bytes + self.live.free() * SLOT_BYTES + self.asked.bytes()
    }
}

pub(super) struct Recompute {
    env: Rc<Env>,
    spec: RowSpec,
    rows: Rows,
    /// What the results were computed with.
    metadata: Arc<MetadataSnapshot>,
    pace: Pace,
    /// The tick that is being worked on.
    current: Option<Walk>,
    last_ms: Option<u64>,
}

/// Rows that are to be looked at again.
enum Anew {
    /// From this slot on.
    Every(usize),
    /// From the last one on.
    Those(Vec<u32>),
}

/// A tick: rows are looked at with the same clock and metadata.
struct Walk {
    ctx: EvalCtx,
    anew: Anew,
    is_through: bool,
    /// Changes that are to be taken in next.
    part: VecDeque<(PackedRow, i64)>,
}

/// What each of so many rows asked for: whatever was asked for all of them is put down for each (`rowwise.rs`).
fn by_row(mut asked: Vec<reads::Read>, rows: usize) -> impl Iterator<Item = Vec<u64>> {
    asked.sort_unstable();
    asked.dedup();
    let mut asked = asked.into_iter().peekable();
    (0..rows).map(move |at| {
        let mut keys = Vec::new();
        while let Some((_, key)) = asked.next_if(|(row, _)| *row as usize == at) {
            keys.push(key);
        }
        keys
    })
}

/// What so many rows become. `None`: they were too many.
fn evaluate<'a>(
    (env, spec): (&Env, &RowSpec),
    pace: &mut Pace,
    ctx: &EvalCtx,
    count: usize,
    rows: impl Iterator<Item = &'a PackedRow> + Clone,
) -> Result<Option<Vec<Made>>, OpError> {
    // With the clock all rows are looked at anyway.
    let recording = (spec.depends == Depends::Metadata).then(reads::Recording::start);
    let evaluate = || {
        let (results, asked) = reads::during(|| spec.rows(ctx, rows));
        results.map(|results| (results, asked.unwrap_or_default()))
    };
    let made_bytes = |(results, _): &(Vec<_>, _)| packed_bytes(results);
    let made = paced(env, pace, count, evaluate, made_bytes)?;
    drop(recording);
    Ok(made.map(|(results, asked)| results.into_iter().zip(by_row(asked, count)).collect()))
}

impl Recompute {
    pub(super) fn new(env: &Rc<Env>, spec: &RowSpec) -> Recompute {
        Recompute {
            env: Rc::clone(env),
            spec: spec.clone(),
            rows: Rows::default(),
            metadata: env.metadata(),
            pace: Pace::new(env.limits()),
            current: None,
            last_ms: None,
        }
    }

    fn metadata_moved(&self) -> bool {
        !Arc::ptr_eq(&self.metadata, &self.env.metadata())
    }

    fn begin(&mut self, tick_ms: u64) -> Walk {
        self.last_ms = Some(tick_ms);
        let ctx = self.env.ctx(tick_ms);
        let anew = self.anew(&ctx);
        self.metadata = Arc::clone(&ctx.metadata);
        Walk { ctx, anew, is_through: false, part: VecDeque::new() }
    }

    fn anew(&self, ctx: &EvalCtx) -> Anew {
        if self.spec.depends == Depends::Clock {
            return Anew::Every(0);
        }
        if self.rows.live.len() == 0 || Arc::ptr_eq(&self.metadata, &ctx.metadata) {
            return Anew::Those(Vec::new());
        }
        let keys_max = self.rows.live.len().saturating_mul(KEYS_PER_ROW_MAX).min(KEYS_MAX);
        match ctx.metadata.changed_since(&self.metadata, keys_max) {
            Some(keys) => Anew::Those(self.rows.asked.who(&keys)),
            None => Anew::Every(0),
        }
    }

    /// Takes in changed rows: those that are known, and as many others as can be evaluated at once.
    fn apply(&mut self, walk: &mut Walk, emit: &mut Emit) -> Result<(), OpError> {
        let bytes = walk.part.iter().map(|(row, _)| row.0.len());
        let count = self.pace.count(bytes, self.env.limits()).min(walk.part.len());
        let mut new: Vec<(PackedRow, i64)> = Vec::new();
        for (row, diff) in walk.part.drain(..count) {
            match self.rows.live.find(&row.0) {
                Some(slot) => self.change(slot, diff, emit),
                None => new.push((row, diff)),
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let rows = new.iter().map(|(row, _)| row);
        let made = evaluate((&self.env, &self.spec), &mut self.pace, &walk.ctx, new.len(), rows)?;
        let Some(made) = made else {
            new.into_iter().rev().for_each(|change| walk.part.push_front(change));
            return Ok(());
        };
        for ((row, count), made) in new.into_iter().zip(made) {
            if let Some(result) = &made.0 {
                emit.row(result.clone(), count);
            }
            self.rows.insert(row, count, made);
        }
        Ok(())
    }

    /// Changes how often a row is there.
    fn change(&mut self, slot: u32, diff: i64, emit: &mut Emit) {
        let live = self.rows.live.get_mut(slot);
        live.count += diff;
        if live.count != 0 {
            if let Some(result) = &live.result {
                emit.row(result.clone(), diff);
            }
        } else if let Some(result) = self.rows.remove(slot).result {
            emit.row(result, diff);
        }
    }

    /// The next rows that are to be looked at, as many as can be evaluated at once.
    fn next(&self, anew: &Anew) -> Vec<u32> {
        let rows: Box<dyn Iterator<Item = u32> + '_> = match anew {
            Anew::Those(those) => Box::new(those.iter().rev().copied()),
            Anew::Every(from) => {
                let there = self.rows.live.from(*from).filter(|(_, live)| live.is_some());
                Box::new(there.filter_map(|(slot, _)| u32::try_from(slot).ok()))
            }
        };
        let mut rows = rows.peekable();
        let mut next = Vec::new();
        let mut bytes = Vec::new();
        while let Some(slot) = rows.next_if(|_| next.len() < self.pace.rows(0, self.env.limits())) {
            next.push(slot);
            bytes.push(self.rows.live.get(slot).row.0.len());
        }
        next.truncate(self.pace.count(bytes.into_iter(), self.env.limits()));
        next
    }

    /// Looks at the next rows anew.
    fn recompute(&mut self, walk: &mut Walk, emit: &mut Emit) -> Result<(), OpError> {
        let slots = self.next(&walk.anew);
        let Some(&last) = slots.last() else {
            walk.is_through = true;
            return Ok(());
        };
        let live = &self.rows.live;
        let rows = slots.iter().map(|&slot| &live.get(slot).row);
        let made = evaluate((&self.env, &self.spec), &mut self.pace, &walk.ctx, slots.len(), rows)?;
        let Some(made) = made else { return Ok(()) };
        match &mut walk.anew {
            Anew::Every(from) => *from = last as usize + 1,
            Anew::Those(those) => those.truncate(those.len() - slots.len()),
        }
        for (slot, made) in slots.into_iter().zip(made) {
            let Some(former) = self.rows.renew(slot, made) else { continue };
            let live = self.rows.live.get(slot);
            if let Some(former) = former {
                emit.row(former, -live.count);
            }
            if let Some(result) = &live.result {
                emit.row(result.clone(), live.count);
            }
        }
        Ok(())
    }
}

impl TickLogic for Recompute {
    type Waiting = Runs<PackedRow>;

    fn work(
        &mut self,
        tick_ms: u64,
        input: &mut Runs<PackedRow>,
        emit: &mut Emit,
        _fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        let mut walk = match self.current.take() {
            Some(walk) => walk,
            None => self.begin(tick_ms),
        };
        if !walk.is_through {
            self.recompute(&mut walk, emit)?;
            if !walk.is_through {
                self.current = Some(walk);
                return Ok(Progress::More);
            }
        }
        let limits = self.env.limits();
        let mut bytes: usize = walk.part.iter().map(|(row, _)| row.0.len()).sum();
        while walk.part.len() < self.pace.rows(0, limits) && bytes < limits.slice_bytes_max {
            let Some((row, diff)) = input.pop() else { break };
            bytes += row.0.len();
            walk.part.push_back((row, diff));
        }
        if walk.part.is_empty() {
            return Ok(Progress::Done);
        }
        self.apply(&mut walk, emit)?;
        self.current = Some(walk);
        Ok(Progress::More)
    }

    fn due(&self) -> Option<u64> {
        let moves = self.spec.depends == Depends::Clock || self.metadata_moved();
        let last_ms = self.last_ms.filter(|_| moves && self.rows.live.len() > 0)?;
        Some(last_ms + self.env.query.refresh_ms)
    }

    fn state_bytes(&self) -> usize {
        self.rows.state_bytes()
    }

    fn give_up(self) -> Box<dyn Send> {
        Box::new(self.rows)
    }
}
