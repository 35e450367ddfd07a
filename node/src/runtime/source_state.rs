//! A source as the node's thread sees it: its state, what it counts, and since when it is down.

use std::collections::BTreeMap;

use weir_proto::message::SourceStatus;
use weir_types::ledger::{Meter, NodeLedger, Reach, Span};
use weir_types::source::{BlindProcess, TableCounters};

use crate::host::Down;

/// A source that is down loses what happens meanwhile, of unknown size: it is counted in seconds.
const DOWN_EVERY_NS: i64 = 1_000_000_000;

/// How a source is, as others read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Starting,
    Running,
    /// Some of its parts do not run.
    Reduced,
    /// It went down and comes back.
    Restarting,
    /// It went down too often and stays down: what happens is lost all the same.
    Failed,
    Refused,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Reduced => "reduced",
            State::Restarting => "restarting",
            State::Failed => "failed",
            State::Refused => "refused",
        }
    }
}

#[derive(Default)]
pub(super) struct SourceState {
    pub(super) state: State,
    pub(super) reason: String,
    pub(super) tables: Vec<String>,
    pub(super) counters: BTreeMap<String, TableCounters>,
    pub(super) flushed_ms: u64,
    pub(super) blind: Vec<BlindProcess>,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) filters: Vec<String>,
    /// Ticks that were closed before it had handed out what it had for them: that came with later ones.
    late_ticks_total: u64,
    meter: Meter,
    /// When its counters were read last.
    counted_unix_ns: i64,
    /// Up to when its being down is in the ledger.
    down_unix_ns: i64,
}

impl SourceState {
    pub(super) fn of(tables: Vec<String>, now_unix_ns: i64) -> SourceState {
        SourceState { tables, counted_unix_ns: now_unix_ns, ..SourceState::default() }
    }

    /// Whether a tick has to wait for it.
    pub(super) fn is_awaited(&self, tick_ms: u64) -> bool {
        matches!(self.state, State::Running | State::Reduced) && self.flushed_ms < tick_ms
    }

    /// A tick is closed, whether it has flushed or not.
    pub(super) fn closed(&mut self, tick_ms: u64) {
        self.late_ticks_total += u64::from(self.is_awaited(tick_ms));
    }

    /// It runs from now on, but for what is missing.
    pub(super) fn runs(&mut self, ledger: &NodeLedger, missing: String, now_unix_ns: i64) {
        if self.state == State::Restarting {
            // The second that it is short of counts, too.
            self.down_unix_ns = self.down_unix_ns.min(now_unix_ns - DOWN_EVERY_NS);
            self.count_down_time(ledger, now_unix_ns);
        }
        self.state = if missing.is_empty() { State::Running } else { State::Reduced };
        self.reason = missing;
        self.meter.restart();
        self.counted_unix_ns = now_unix_ns;
    }

    pub(super) fn is_down(&mut self, reason: String, how: Down) {
        let was_down = self.lacks_rows();
        if !was_down {
            // It counted until then, at the latest.
            self.down_unix_ns = self.counted_unix_ns;
        }
        self.state = match how {
            Down::Restarts => State::Restarting,
            Down::Failed => State::Failed,
            // It was to come back: what happens is lost all the same.
            Down::Refused if was_down => State::Failed,
            Down::Refused => State::Refused,
        };
        self.reason = reason;
    }

    pub(super) fn status(&self, name: &str) -> SourceStatus {
        let mut counts = self.counts.clone();
        counts.insert("late_ticks".to_string(), self.late_ticks_total);
        SourceStatus {
            counts,
            name: name.to_string(),
            state: self.state.name().to_string(),
            reason: self.reason.clone(),
            tables: self.tables.clone(),
            blind: self.blind.clone(),
            filters: self.filters.clone(),
        }
    }

    /// Writes down what it lost since its counters were read last.
    pub(super) fn count(
        &mut self,
        ledger: &NodeLedger,
        at_unix_ns: i64,
        counters: BTreeMap<String, TableCounters>,
    ) {
        let span = Span::new(self.counted_unix_ns.min(at_unix_ns), at_unix_ns);
        for (table, counted) in &counters {
            for (reason, &total) in &counted.lost_total {
                let count = self.meter.added(table, reason, total);
                ledger.note(table, reason, Reach::Everybody, span, count);
            }
        }
        self.counted_unix_ns = at_unix_ns;
        self.counters = counters;
    }

    /// Whether it ran, or was to, and does not.
    fn lacks_rows(&self) -> bool {
        matches!(self.state, State::Restarting | State::Failed)
    }

    /// Writes down that it is down, if it is.
    pub(super) fn count_down_time(&mut self, ledger: &NodeLedger, now_unix_ns: i64) {
        let passed_ns = now_unix_ns.saturating_sub(self.down_unix_ns);
        if !self.lacks_rows() || passed_ns < DOWN_EVERY_NS {
            return;
        }
        let count = u64::try_from(passed_ns / DOWN_EVERY_NS).unwrap_or(0);
        let span = Span::new(self.down_unix_ns, now_unix_ns);
        for table in &self.tables {
            ledger.note(table, "source_down", Reach::Everybody, span, count);
        }
        self.down_unix_ns = now_unix_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000 * DOWN_EVERY_NS;

    fn at(seconds: i64) -> i64 {
        START + seconds * DOWN_EVERY_NS
    }

    fn down_seconds(ledger: &NodeLedger) -> u64 {
        let totals = ledger.totals();
        totals.get("t").and_then(|of| of.get("source_down")).copied().unwrap_or(0)
    }

    /// Each second without the source is a loss once: also where its first start panics, where it panics
    /// again before it runs, and where it is refused after it ran. Catches losses since 1970, seconds that
    /// count with each attempt, and a source that is gone for good and loses nothing.
    #[test]
    fn seconds_without_a_source_count_once() {
        let ledger = NodeLedger::default();
        let mut source = SourceState::of(vec!["t".to_string()], START);
        source.is_down("panicked".to_string(), Down::Restarts);
        source.count_down_time(&ledger, at(2));
        assert_eq!(down_seconds(&ledger), 2);
        source.is_down("panicked again".to_string(), Down::Restarts);
        source.count_down_time(&ledger, at(5));
        assert_eq!(down_seconds(&ledger), 5);
        source.is_down("refused now".to_string(), Down::Refused);
        source.count_down_time(&ledger, at(9));
        assert_eq!((down_seconds(&ledger), source.status("s").state.as_str()), (9, "failed"));

        let ledger = NodeLedger::default();
        let mut never = SourceState::of(vec!["t".to_string()], START);
        never.is_down("no BTF".to_string(), Down::Refused);
        never.count_down_time(&ledger, at(9));
        assert_eq!((down_seconds(&ledger), never.status("s").state.as_str()), (0, "refused"));
    }
}
