//! What functions left out of their results because a bound was reached: counted on the thread that
//! evaluates, for whoever evaluates to take. Nothing is kept here, and no answer is told of it here.

use std::cell::Cell;

/// Why a value is not all that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A text was longer than a text may be, and ends early.
    TextBytes,
    /// The texts of a column, or of a row, were longer than they may be together: some are empty.
    ColumnBytes,
    /// An SQL statement is too long or too complex to be normalized.
    Statement,
    /// A call has more rules of patterns than are tried.
    RegexRules,
    /// A pattern takes too long on a text: the rest of the text is as if nothing matched there.
    RegexWork,
    /// The functions of a row take too long together: the last ones are left out.
    RowWork,
    /// An aggregate has more values than its result can be made of in time: it is made of some.
    Values,
}

/// All of them, in declared order.
const ALL: [Cut; 7] = [
    Cut::TextBytes,
    Cut::ColumnBytes,
    Cut::Statement,
    Cut::RegexRules,
    Cut::RegexWork,
    Cut::RowWork,
    Cut::Values,
];

impl Cut {
    /// The name that the outside sees.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cut::TextBytes => "cut_text",
            Cut::ColumnBytes => "cut_column",
            Cut::Statement => "cut_statement",
            Cut::RegexRules => "cut_regex_rules",
            Cut::RegexWork => "cut_regex_work",
            Cut::RowWork => "cut_row_work",
            Cut::Values => "cut_values",
        }
    }
}

/// How many values were cut, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cuts([u64; ALL.len()]);

impl Cuts {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Cuts::default()
    }

    #[must_use]
    pub fn get(&self, cut: Cut) -> u64 {
        self.0[cut as usize]
    }

    pub fn add(&mut self, more: &Cuts) {
        self.0.iter_mut().zip(more.0).for_each(|(have, more)| *have += more);
    }

    /// What is here and was not there.
    #[must_use]
    pub fn since(&self, before: &Cuts) -> Cuts {
        let mut cuts = *self;
        cuts.0.iter_mut().zip(before.0).for_each(|(have, had)| *have = have.saturating_sub(had));
        cuts
    }

    /// Reason and count of those that there are.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = ALL.into_iter().map(|cut| (cut.name(), self.get(cut)));
        all.filter(|(_, count)| *count > 0)
    }
}

thread_local! {
    static CUTS: Cell<Cuts> = const { Cell::new(Cuts([0; ALL.len()])) };
}

/// So many values were cut.
pub(crate) fn note(cut: Cut, values: usize) {
    let mut cuts = CUTS.get();
    cuts.0[cut as usize] += values as u64;
    CUTS.set(cuts);
}

/// What was cut on this thread since the last call of [`take`].
pub(crate) fn so_far() -> Cuts {
    CUTS.get()
}

/// As if nothing had been cut since then.
pub(crate) fn reset(so_far: Cuts) {
    CUTS.set(so_far);
}

/// What was cut on this thread since the last call.
pub fn take() -> Cuts {
    CUTS.take()
}
