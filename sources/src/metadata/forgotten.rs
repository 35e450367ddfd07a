//! What was forgotten for newer things before its time, and of which times it was: whoever reads rows
//! of these times from now on finds names missing. What is forgotten because it is too old for any row
//! is not here.

use weir_types::ledger::Span;

/// Between two calls of [`Forgotten::take`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub count: u64,
    /// From when to when what was forgotten was there.
    pub span: Option<Span>,
}

impl Forgotten {
    pub(super) fn note(&mut self, from_unix_ns: i64, to_unix_ns: i64) {
        self.count += 1;
        let (from, to) = (from_unix_ns, to_unix_ns.max(from_unix_ns));
        self.span = Some(match self.span {
            None => Span::new(from, to),
            Some(have) => Span::new(have.from_unix_ns.min(from), have.to_unix_ns.max(to)),
        });
    }

    /// What another one has, too.
    pub fn add(&mut self, other: Forgotten) {
        let Some(span) = other.span else { return };
        self.note(span.from_unix_ns, span.to_unix_ns);
        // One of them is counted by that.
        self.count += other.count - 1;
    }

    pub(super) fn take(&mut self) -> Forgotten {
        std::mem::take(self)
    }
}
