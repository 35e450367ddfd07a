//! Filters and maps that stand on each other become one operator, so that rows are taken apart and packed
//! once for all of them, and a retraction is looked up once where an operator remembers its rows.

use std::collections::HashMap;

use weir_types::plan::OpId;

use super::cluster::{QueryOp, QueryProgram};
use super::specs::{Depends, RowSpec};

impl QueryProgram {
    /// The last of each chain does it all; the others are nothing any more.
    pub(super) fn fuse(&mut self) {
        let readers = self.readers();
        for at in 0..self.ops.len() {
            let QueryOp::Rows(below, upper) = &self.ops[at] else { continue };
            let below = *below;
            let QueryOp::Rows(input, lower) = &self.ops[below] else { continue };
            if readers.get(&below) == Some(&1) && may_join(lower, upper) {
                let fused = QueryOp::Rows(*input, lower.clone().with(upper.clone()));
                self.ops[at] = fused;
                self.ops[below] = QueryOp::Nothing;
            }
        }
    }

    fn readers(&self) -> HashMap<OpId, usize> {
        let mut readers = HashMap::new();
        let inputs = self.ops.iter().flat_map(QueryOp::inputs);
        for id in inputs.chain(self.outputs.iter().map(|(op, _)| *op)) {
            *readers.entry(id).or_default() += 1;
        }
        readers
    }
}

/// What reads the clock is computed anew for all rows at every refresh: nothing else should be. What a
/// filter leaves out for good should not be remembered for an operator above it.
fn may_join(lower: &RowSpec, upper: &RowSpec) -> bool {
    let reads_clock = lower.depends == Depends::Clock || upper.depends == Depends::Clock;
    let forgets = lower.depends == Depends::RowOnly && upper.depends != Depends::RowOnly;
    !(reads_clock || forgets && lower.has_filter())
}

impl RowSpec {
    fn has_filter(&self) -> bool {
        self.steps().any(|step| step.filter)
    }

    /// One after the other.
    fn with(mut self, mut upper: RowSpec) -> RowSpec {
        self.depends = self.depends.max(upper.depends);
        let rest = std::mem::take(&mut upper.then);
        self.then.push(upper);
        self.then.extend(rest);
        self
    }

    /// The filters and maps that it stands for.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &RowSpec> {
        std::iter::once(self).chain(&self.then)
    }
}
