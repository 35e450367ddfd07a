//! The accumulators of one aggregate over many groups, side by side, for rows that are only added: what a
//! node folds a refresh into. Plain numbers stay plain until the refresh is closed.

use weir_types::RecordBatch;
use weir_types::acc::{Acc, SketchBuilder};

use super::{AggFn, AggKind};

/// One accumulator per slot.
pub struct AccColumn(pub(super) Accs);

pub(super) enum Accs {
    Counts(Vec<i64>),
    /// Wrapping.
    Sums(Vec<i64>),
    Quantiles(Vec<SketchBuilder>),
    Others(Vec<Acc>),
}

impl AccColumn {
    pub(super) fn new(agg: &AggFn) -> AccColumn {
        AccColumn(match agg.kind {
            _ if agg.bag => Accs::Others(Vec::new()),
            AggKind::Count | AggKind::SumBool => Accs::Counts(Vec::new()),
            AggKind::SumInt => Accs::Sums(Vec::new()),
            AggKind::QuantilesInt | AggKind::QuantilesFloat => Accs::Quantiles(Vec::new()),
            _ => Accs::Others(Vec::new()),
        })
    }

    /// One more slot, of no rows.
    pub fn push_zero(&mut self, agg: &AggFn) {
        match &mut self.0 {
            Accs::Counts(numbers) | Accs::Sums(numbers) => numbers.push(0),
            Accs::Quantiles(sketches) => sketches.push(SketchBuilder::default()),
            Accs::Others(accs) => accs.push(agg.zero()),
        }
    }

    /// Adds every row of the batch, row *i* to slot `slots[i]`.
    pub fn add_rows(&mut self, agg: &AggFn, batch: &RecordBatch, slots: &[u32]) {
        agg.bind(batch).add_rows(&mut self.0, slots);
    }

    /// Bytes of one slot without what it points to.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        match &self.0 {
            Accs::Counts(_) | Accs::Sums(_) => size_of::<i64>(),
            Accs::Quantiles(_) => size_of::<SketchBuilder>(),
            Accs::Others(_) => size_of::<Acc>(),
        }
    }

    /// Bytes that it holds, roughly: for state budgets.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        match &self.0 {
            Accs::Counts(numbers) | Accs::Sums(numbers) => numbers.len() * self.slot_bytes(),
            Accs::Quantiles(sketches) => {
                let heap: usize = sketches.iter().map(SketchBuilder::heap_bytes).sum();
                heap + sketches.len() * self.slot_bytes()
            }
            Accs::Others(accs) => accs.iter().map(Acc::state_bytes).sum(),
        }
    }

    /// The accumulators, slot by slot.
    #[must_use]
    pub fn into_accs(self) -> Box<dyn Iterator<Item = Acc> + Send> {
        match self.0 {
            Accs::Counts(numbers) => Box::new(numbers.into_iter().map(Acc::Count)),
            Accs::Sums(numbers) => Box::new(numbers.into_iter().map(Acc::SumInt)),
            Accs::Quantiles(sketches) => {
                Box::new(sketches.into_iter().map(|sketch| Acc::Quantiles(sketch.finish())))
            }
            Accs::Others(accs) => Box::new(accs.into_iter()),
        }
    }
}
