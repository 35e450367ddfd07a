//! What one compile may cost: work, bytes and time, and a way to stop it from outside.
//!
//! Work is counted in units that are the same on every machine, so that what compiles here compiles
//! there. Time is only looked at where the caller hands in a clock. Whoever counts need not stop at
//! once: what is over stays over, loops look at it, and the compile ends with one finding.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_types::Clock;

use crate::codes::Code;
use crate::diag::{Diag, Findings, Span};
use crate::limits::{
    FOLDED_BYTES_MAX, PATTERN_BYTES_MAX, PATTERNS_MAX, PLAN_NAME_BYTES_MAX, PLAN_VALUE_BYTES_MAX,
    WORK_MAX,
};

/// Stops a compile from another thread: a client that left, a server that stops. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// The compile ends with the finding `cancelled` within a few milliseconds.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Cancels when it is dropped, as a future is that nobody waits for any more.
    #[must_use]
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// See [`Cancel::on_drop`].
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// When a compile has to be done.
#[derive(Clone)]
pub struct Deadline {
    clock: Arc<dyn Clock>,
    at_mono_ns: u64,
    allowed: Duration,
}

impl Deadline {
    #[must_use]
    pub fn after(clock: Arc<dyn Clock>, allowed: Duration) -> Deadline {
        let allowed_ns = u64::try_from(allowed.as_nanos()).unwrap_or(u64::MAX);
        let at_mono_ns = clock.monotonic_ns().saturating_add(allowed_ns);
        Deadline { clock, at_mono_ns, allowed }
    }

    fn is_past(&self) -> bool {
        self.clock.monotonic_ns() >= self.at_mono_ns
    }
}

impl std::fmt::Debug for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deadline").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

/// Which of the limits was met first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Cancelled,
    Time,
    Work,
    /// Constants that were computed.
    FoldedBytes,
    /// Constants that stand in the plan.
    PlanBytes,
    NameBytes,
    Patterns,
    PatternBytes,
}

/// The clock and the flag are looked at after so much work: every millisecond or so.
const LOOK_WORK: u64 = 100_000;

pub(crate) struct Budget {
    cancel: Cancel,
    deadline: Option<Deadline>,
    work_max: u64,
    work: Cell<u64>,
    look_at: Cell<u64>,
    folded_bytes: Cell<usize>,
    plan_bytes: Cell<usize>,
    name_bytes: Cell<usize>,
    patterns: Cell<usize>,
    pattern_bytes: Cell<usize>,
    over: Cell<Option<Over>>,
    /// It has been reported.
    told: Cell<bool>,
}

impl Budget {
    pub(crate) fn new(cancel: Cancel, deadline: Option<Deadline>, work_max: Option<u64>) -> Budget {
        Budget {
            work_max: work_max.unwrap_or(WORK_MAX),
            cancel,
            deadline,
            work: Cell::new(0),
            look_at: Cell::new(0),
            folded_bytes: Cell::new(0),
            plan_bytes: Cell::new(0),
            name_bytes: Cell::new(0),
            patterns: Cell::new(0),
            pattern_bytes: Cell::new(0),
            over: Cell::new(None),
            told: Cell::new(false),
        }
    }

    /// Counts work; false once anything is over.
    #[inline]
    pub(crate) fn spend(&self, work: usize) -> bool {
        let spent = self.work.get().saturating_add(work as u64);
        self.work.set(spent);
        if spent >= self.look_at.get() {
            self.look(spent);
        }
        self.over.get().is_none()
    }

    #[cold]
    fn look(&self, spent: u64) {
        self.look_at.set(spent.saturating_add(LOOK_WORK));
        if self.cancel.is_cancelled() {
            self.exceed(Over::Cancelled);
        } else if spent > self.work_max {
            self.exceed(Over::Work);
        } else if self.deadline.as_ref().is_some_and(Deadline::is_past) {
            self.exceed(Over::Time);
        }
    }

    /// Ends the compile.
    pub(crate) fn exceed(&self, over: Over) {
        if self.over.get().is_none() {
            self.over.set(Some(over));
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    fn hold(&self, held: &Cell<usize>, bytes: usize, bytes_max: usize, over: Over) -> bool {
        held.set(held.get().saturating_add(bytes));
        if held.get() > bytes_max {
            self.exceed(over);
        }
        self.spend(bytes / 16)
    }

    /// A constant was computed from others.
    pub(crate) fn folded(&self, bytes: usize) -> bool {
        self.hold(&self.folded_bytes, bytes, FOLDED_BYTES_MAX, Over::FoldedBytes)
    }

    /// A constant stands in the plan.
    pub(crate) fn planned(&self, bytes: usize) -> bool {
        self.hold(&self.plan_bytes, bytes, PLAN_VALUE_BYTES_MAX, Over::PlanBytes)
    }

    /// Names of an operator's columns.
    pub(crate) fn named(&self, bytes: usize) -> bool {
        self.hold(&self.name_bytes, bytes, PLAN_NAME_BYTES_MAX, Over::NameBytes)
    }

    /// A call with a pattern that is compiled before it runs.
    pub(crate) fn pattern(&self, bytes: usize) -> bool {
        self.hold(&self.patterns, 1, PATTERNS_MAX, Over::Patterns)
            && self.hold(&self.pattern_bytes, bytes, PATTERN_BYTES_MAX, Over::PatternBytes)
    }

    /// Looks at everything once more, and says what is over: true if the compile has to end.
    pub(crate) fn report(&self, span: Span, findings: &Findings) -> bool {
        if !self.is_over() {
            self.look(self.work.get());
        }
        let Some(over) = self.over.get() else { return false };
        if !self.told.replace(true) {
            findings.push(self.finding(over, span));
        }
        true
    }

    fn finding(&self, over: Over, span: Span) -> Diag {
        let mib = |bytes: usize| bytes >> 20;
        let (code, message, hint) = match over {
            Over::Cancelled => (
                Code::Cancelled,
                "compiling was cancelled".to_string(),
                "nobody waits for the answer any more, or the server stops",
            ),
            Over::Time => (
                Code::CompileTime,
                format!(
                    "compiling takes longer than {} ms",
                    self.deadline.as_ref().map_or(0, |deadline| deadline.allowed.as_millis())
                ),
                "the machine is busy, or the script is too large: make it smaller, or try again",
            ),
            Over::Work => (
                Code::TooComplex,
                format!("compiling the script takes more than {} steps", self.work_max),
                "functions are inlined at each call: calls of calls multiply",
            ),
            Over::FoldedBytes => (
                Code::ValueTooLarge,
                format!(
                    "the constants that the script computes have more than {} MiB in all",
                    mib(FOLDED_BYTES_MAX)
                ),
                "a text that is joined with itself doubles each time",
            ),
            Over::PlanBytes => (
                Code::ValueTooLarge,
                format!(
                    "the constants in the script's expressions have more than {} MiB in all",
                    mib(PLAN_VALUE_BYTES_MAX)
                ),
                "each use of a long text counts: assign it to a column once",
            ),
            Over::NameBytes => (
                Code::NameTooLong,
                format!(
                    "the names of the frames' columns have more than {} MiB in all",
                    mib(PLAN_NAME_BYTES_MAX)
                ),
                "use shorter names, or drop columns that nothing reads",
            ),
            Over::Patterns => (
                Code::PatternsMax,
                format!("the script has more than {PATTERNS_MAX} calls with a pattern"),
                "assign the result to a column and use that",
            ),
            Over::PatternBytes => (
                Code::PatternsMax,
                format!("the script's patterns have more than {} KiB", PATTERN_BYTES_MAX >> 10),
                "each is compiled: use fewer and shorter ones",
            ),
        };
        Diag::error(code, span, message).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over stays over, and the first limit is the one that is told: catches a later one that hides
    /// the cause.
    #[test]
    fn the_first_limit_is_told() {
        let budget = Budget::new(Cancel::default(), None, None);
        assert!(budget.spend(1) && budget.folded(FOLDED_BYTES_MAX));
        assert!(!budget.folded(1));
        assert!(!budget.spend(1), "over stays over");
        assert!(!budget.spend(WORK_MAX as usize));
        let findings = Findings::default();
        assert!(budget.report(Span::NONE, &findings));
        assert_eq!(findings.take()[0].code, Code::ValueTooLarge);
    }

    /// A guard that is dropped cancels what looks at the token.
    #[test]
    fn a_dropped_guard_cancels() {
        let cancel = Cancel::default();
        let guard = cancel.on_drop();
        let budget = Budget::new(cancel.clone(), None, None);
        assert!(budget.spend(2 * LOOK_WORK as usize));
        drop(guard);
        assert!(!budget.spend(2 * LOOK_WORK as usize));
        assert_eq!(budget.over.get(), Some(Over::Cancelled));
    }
}
