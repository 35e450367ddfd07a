//! What each operator of a query has done: counters that the operators' frames write, a batch at a time and
//! never a row at a time, and the figures that are made of them. No clock is read here: a frame's time is
//! measured once a run, by the environment that contains its panics.
//!
//! An operator of a plan can be several frames (a join takes its keys first): its input is what the first one
//! took, its output what the last one gave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use weir_types::figures::{OperatorFigures, OperatorPlace};

/// Counters of one frame on one worker.
pub(crate) struct Frame {
    pub(crate) name: &'static str,
    place: OperatorPlace,
    /// It says how many rows there were, and what was cut: on other workers another frame does the same to the same
    /// rows.
    pub(crate) counts: bool,
    rows_in: AtomicU64,
    rows_out: AtomicU64,
    held_bytes: AtomicI64,
    busy_ns: AtomicU64,
    runs: AtomicU64,
}

impl Frame {
    pub(crate) fn new(name: &'static str, place: OperatorPlace, counts: bool) -> Frame {
        Frame {
            name,
            place,
            counts,
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            held_bytes: AtomicI64::new(0),
            busy_ns: AtomicU64::new(0),
            runs: AtomicU64::new(0),
        }
    }

    pub(crate) fn took(&self, rows: usize) {
        if self.counts {
            self.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }
    pub(crate) fn gave(&self, rows: usize) {
        if self.counts {
            self.rows_out.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }
    pub(crate) fn hold(&self, change: i64) {
        self.held_bytes.fetch_add(change, Ordering::Relaxed);
    }
    pub(crate) fn spent(&self, ns: u64) {
        self.busy_ns.fetch_add(ns, Ordering::Relaxed);
        self.runs.fetch_add(1, Ordering::Relaxed);
    }
}

/// The operators that these frames make up. `frames`: of all workers, each worker's in the order in which they
/// were built.
pub(crate) fn figures(frames: &[Arc<Frame>]) -> Vec<OperatorFigures> {
    let mut places: BTreeMap<OperatorPlace, Vec<&Frame>> = BTreeMap::new();
    for frame in frames {
        places.entry(frame.place).or_default().push(frame);
    }
    places.into_iter().filter_map(|(place, frames)| of_place(place, &frames)).collect()
}

fn of_place(place: OperatorPlace, frames: &[&Frame]) -> Option<OperatorFigures> {
    let (first, last) = (frames.first()?, frames.last()?);
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let sum = |of: fn(&Frame) -> &AtomicU64, name: Option<&str>| {
        let named = frames.iter().filter(|frame| name.is_none_or(|name| frame.name == name));
        named.map(|frame| load(of(frame))).sum()
    };
    let held: i64 = frames.iter().map(|frame| frame.held_bytes.load(Ordering::Relaxed)).sum();
    Some(OperatorFigures {
        place,
        kind: last.name.to_string(),
        rows_in: sum(|frame| &frame.rows_in, Some(first.name)),
        rows_out: sum(|frame| &frame.rows_out, Some(last.name)),
        held_bytes: u64::try_from(held).unwrap_or(0),
        busy_ns: sum(|frame| &frame.busy_ns, None),
        runs: sum(|frame| &frame.runs, None),
    })
}

/// How many rows something is that a stream carries.
pub(crate) trait RowCount {
    fn rows(&self) -> usize {
        1
    }
}

impl<D> RowCount for (D, u64, i64) {}
impl RowCount for weir_types::split::Change {}

/// Rows of a container.
pub(crate) fn rows_of<D: RowCount>(items: &[D]) -> usize {
    items.iter().map(RowCount::rows).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A join's rows are those that its keys were taken of and those that came out of it, over all workers, and
    /// not what goes from one of its frames to the next. Catches rows that are counted twice.
    #[test]
    fn an_operator_is_all_of_its_frames() {
        let place = OperatorPlace::Op(3);
        let mut frames = Vec::new();
        for _worker in 0..2 {
            for (name, rows_in, rows_out) in [("Keys", 5, 5), ("Keys", 2, 2), ("Join", 7, 11)] {
                let frame = Frame::new(name, place, true);
                frame.took(rows_in);
                frame.gave(rows_out);
                frame.hold(10);
                frame.spent(100);
                frames.push(Arc::new(frame));
            }
        }
        // Workers build at the same time.
        frames.swap(1, 3);
        frames.push(Arc::new(Frame::new("Output", OperatorPlace::Output(0), true)));
        let all = figures(&frames);
        assert_eq!(all.len(), 2);
        let expected = OperatorFigures {
            place,
            kind: "Join".to_string(),
            rows_in: 14,
            rows_out: 22,
            held_bytes: 60,
            busy_ns: 600,
            runs: 6,
        };
        assert_eq!(all[0], expected);
    }
}
