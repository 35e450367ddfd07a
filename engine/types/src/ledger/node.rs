//! A node's own ledger: shared by its parts, and outliving each of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Ledger, Loss, Reach, Span};

/// What a node tells the cluster part of its ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Counts from 0 in a node's life.
    pub sequence: u64,
    /// All that there is, rather than what is new.
    pub whole: bool,
    pub losses: Vec<Loss>,
}

#[derive(Default)]
struct State {
    all: Ledger,
    /// What was not told yet.
    new: Ledger,
    /// Tell all that there is.
    tell_whole: bool,
    sequence: u64,
    /// Grows with each note.
    version: u64,
    /// Table → reason → since the node's start.
    totals: BTreeMap<String, BTreeMap<String, u64>>,
}

impl State {
    /// What to tell, and what it was that is new.
    fn take(&mut self) -> Option<(Told, Ledger)> {
        let whole = std::mem::take(&mut self.tell_whole);
        if !whole && self.new.is_empty() {
            return None;
        }
        let new = std::mem::take(&mut self.new);
        let losses = if whole { self.all.losses().collect() } else { new.losses().collect() };
        Some((Told { sequence: self.sequence, whole, losses }, new))
    }
}

/// A handle; clones are the same ledger.
#[derive(Clone, Default)]
pub struct NodeLedger(Arc<Mutex<State>>);

impl NodeLedger {
    /// A thread that panicked left whole values behind: it only assigns.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a loss down.
    pub fn note(&self, table: &str, reason: &str, reach: Reach, span: Span, count: u64) {
        if count == 0 {
            return;
        }
        let (table, reason) = (table.to_string(), reason.to_string());
        let loss = Loss { table, reason, reach, span, count };
        let mut state = self.state();
        state.all.note(&loss);
        state.new.note(&loss);
        state.version += 1;
        let total = state.totals.entry(loss.table).or_default().entry(loss.reason).or_default();
        *total = total.saturating_add(count);
    }

    /// Hands what is to be told to `send`, if there is anything. If it says that it could not, the
    /// same is told again with what comes next.
    pub fn tell(&self, send: impl FnOnce(Told) -> bool) {
        let Some((told, new)) = self.state().take() else { return };
        let whole = told.whole;
        let sent = send(told);
        let mut state = self.state();
        if sent {
            state.sequence += 1;
        } else {
            state.tell_whole |= whole;
            state.new.add(&new);
        }
    }

    /// The cluster part does not know what was told before.
    pub fn tell_whole(&self) {
        self.state().tell_whole = true;
    }

    /// How many times it has told.
    #[must_use]
    pub fn told_total(&self) -> u64 {
        self.state().sequence
    }

    /// Another one after something was lost.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// Since the node's start: table → reason → count.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        self.state().totals.clone()
    }
}

/// Makes additions of a count that only grows: until who counts begins anew, from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// (table, reason) → what it said last.
    last: BTreeMap<(String, String), u64>,
}

impl Meter {
    /// What was added since the last call.
    pub fn added(&mut self, table: &str, reason: &str, total: u64) -> u64 {
        let last = self.last.entry((table.to_string(), reason.to_string())).or_default();
        let before = std::mem::replace(last, total);
        // Less than before: it counts from 0 again.
        total.checked_sub(before).unwrap_or(total)
    }

    /// Who counts begins anew.
    pub fn restart(&mut self) {
        self.last.clear();
    }
}
