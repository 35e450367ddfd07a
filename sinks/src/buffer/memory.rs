//! Elements in memory. They go with the process; only the numbers do not, if there is a place for them, so
//! that none is given twice, and the next process knows whether something went.

use std::collections::VecDeque;

use crate::element::{Element, Op};

use super::disk::state::{Saved, StateFile};
use super::{Damage, Gaps, Place, Taken, Went};

/// Dropped at once when room is made, so that it is not made for each element.
const DROPPED_SHARE: u64 = 16;

pub struct MemoryBuffer {
    bytes_max: u64,
    waiting: VecDeque<Element>,
    /// Of those that wait, and of those that were taken and are not acknowledged.
    waiting_bytes: u64,
    taken_bytes: u64,
    waiting_rows: u64,
    taken_rows: u64,
    last_seq: u64,
    /// Of the last one that came in.
    pushed_seq: u64,
    /// Up to here all is safe; 0: that is not known.
    safe_ms: u64,
    gaps: Gaps,
    state: Option<StateFile>,
}

impl MemoryBuffer {
    /// `state`: where numbers outlive the process.
    #[must_use]
    pub fn new(bytes_max: u64, state: Option<StateFile>) -> MemoryBuffer {
        let last_seq = state.as_ref().map_or(0, |state| state.saved().sent_seq);
        MemoryBuffer {
            bytes_max,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            taken_bytes: 0,
            waiting_rows: 0,
            taken_rows: 0,
            last_seq,
            pushed_seq: 0,
            safe_ms: 0,
            gaps: Gaps { last_seq, ..Gaps::default() },
            state,
        }
    }

    pub(super) fn push(&mut self, element: &Element) -> bool {
        let cost = element.cost_bytes();
        // One that is larger than all of it has to go through all the same.
        if self.bytes() + cost > self.bytes_max && self.bytes() > 0 {
            return false;
        }
        self.waiting_bytes += cost;
        self.waiting_rows += u64::from(element.op.is_row());
        self.last_seq = self.last_seq.max(element.seq);
        if element.op != Op::Progress {
            self.pushed_seq = element.seq;
            self.note_waits(element);
        }
        self.waiting.push_back(element.clone());
        true
    }

    /// That something waits is written down once until it is on its way, where that it waited is written.
    fn note_waits(&mut self, element: &Element) {
        let Some(state) = &mut self.state else { return };
        let saved = *state.saved();
        if saved.written_seq <= saved.sent_seq.max(saved.acked_seq) {
            let known = [self.safe_ms, saved.acked_ms, element.tick_ms];
            let acked_ms = known.into_iter().find(|ms| *ms > 0).unwrap_or_default();
            state.save(Saved { written_seq: element.seq, acked_ms, ..saved });
        }
    }

    /// Before anything comes in: elements up to this number are at the other end. Whether there were more, which went
    /// with a process before this one.
    pub(super) fn resume(&mut self, seq: u64) -> bool {
        let Some(state) = &mut self.state else { return false };
        let mut saved = *state.saved();
        let is_lost = saved.written_seq > saved.acked_seq.max(seq);
        if is_lost {
            saved.losses += 1;
            saved.lost_since_ms = saved.acked_ms;
        }
        // It is told once, also if nothing comes in from here on.
        saved.acked_seq = saved.acked_seq.max(saved.written_seq);
        if saved != *state.saved() {
            state.save(saved);
        }
        is_lost
    }

    pub(super) fn note_safe(&mut self, safe_ms: u64) {
        self.safe_ms = safe_ms;
    }

    pub(super) fn went(&self) -> Went {
        let saved = self.state.as_ref().map(|state| *state.saved()).unwrap_or_default();
        Went { times: saved.losses, since_ms: saved.lost_since_ms }
    }

    pub(super) fn skip_to(&mut self, seq: u64) {
        self.last_seq = self.last_seq.max(seq.saturating_sub(1));
        if self.waiting.is_empty() {
            self.gaps.last_seq = self.gaps.last_seq.max(self.last_seq);
        }
    }

    pub(super) fn note_dropped(&mut self, elements: u64) {
        self.gaps.dropped += elements;
        self.last_seq += elements;
    }

    pub(super) fn drop_oldest(&mut self) -> u64 {
        let wanted = self.bytes_max / DROPPED_SHARE;
        let (mut bytes, mut dropped) = (0, 0);
        while bytes <= wanted {
            let Some(element) = self.waiting.pop_front() else { break };
            bytes += element.cost_bytes();
            dropped += u64::from(element.op.is_row());
            // What is no row has a number, too, or none of its own.
            self.gaps.dropped += u64::from(element.op != Op::Progress);
        }
        self.waiting_bytes -= bytes;
        self.waiting_rows -= dropped;
        dropped
    }

    pub(super) fn take(&mut self, rows_max: usize, bytes_max: u64) -> Vec<Taken> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < rows_max {
            let Some(element) = self.waiting.front() else { break };
            let cost = element.cost_bytes();
            if !taken.is_empty() && bytes + cost > bytes_max {
                break;
            }
            if element.op != Op::Progress {
                let before = element.seq.saturating_sub(1);
                let lost = self.gaps.up_to(before, element.tick_ms, &element.output);
                self.gaps.last_seq = self.gaps.last_seq.max(element.seq);
                if let Some(lost) = lost {
                    self.taken_bytes += lost.cost_bytes();
                    bytes += lost.cost_bytes();
                    taken.push(Taken { element: lost, place: Place::default() });
                }
            }
            let Some(element) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= cost;
            self.taken_bytes += cost;
            bytes += cost;
            self.waiting_rows -= u64::from(element.op.is_row());
            self.taken_rows += u64::from(element.op.is_row());
            taken.push(Taken { element, place: Place::default() });
        }
        taken
    }

    pub(super) fn ack(&mut self, taken: &[Taken]) {
        let bytes: u64 = taken.iter().map(|it| it.element.cost_bytes()).sum();
        self.taken_bytes = self.taken_bytes.saturating_sub(bytes);
        let rows = taken.iter().filter(|it| it.element.op.is_row()).count() as u64;
        self.taken_rows = self.taken_rows.saturating_sub(rows);
        if let (Some(state), Some(last)) = (&mut self.state, taken.last()) {
            let saved = *state.saved();
            let acked_ms = if self.safe_ms > 0 { self.safe_ms } else { saved.acked_ms };
            let acked_seq = saved.acked_seq.max(last.element.seq);
            state.save(Saved { acked_seq, acked_ms, ..saved });
        }
    }

    pub(super) fn note_sent(&mut self, seq: u64) {
        if let Some(state) = &mut self.state
            && seq > state.saved().sent_seq
        {
            let written_seq = self.pushed_seq.max(seq);
            state.save(Saved { sent_seq: seq, written_seq, ..*state.saved() });
        }
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(super) fn bytes(&self) -> u64 {
        self.waiting_bytes + self.taken_bytes
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn waiting(&self) -> u64 {
        self.taken_rows + self.waiting_rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn damage(&self) -> Damage {
        self.gaps.damage
    }
}
