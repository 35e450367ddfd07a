//! A finite list of numbers read as decisions: what turns shrinkable random data into tables, plans
//! and texts. Once the list is used up every decision is the first one, so a shorter list with
//! smaller numbers means a simpler thing; generators put the simplest alternative first.

/// Decisions, taken one after the other.
pub struct Choices<'a> {
    data: &'a [u16],
    at: usize,
}

impl<'a> Choices<'a> {
    #[must_use]
    pub fn new(data: &'a [u16]) -> Choices<'a> {
        Choices { data, at: 0 }
    }

    /// Any number; 0 once the list is used up.
    pub fn number(&mut self) -> u16 {
        let value = self.data.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        value
    }

    /// A number in 0..`count`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.number()) % count.max(1)
    }

    /// One of the alternatives.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Clone>(&mut self, alternatives: &[T]) -> T {
        let idx = self.below(alternatives.len());
        alternatives[idx].clone()
    }

    /// True for one number in `of`, and false once the list is used up.
    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == of - 1
    }
}
