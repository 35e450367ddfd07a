//! A plan with all that can be made of it before it is installed: programs, and the rows of table functions
//! that are constant. Made off the thread that installs, which then compiles nothing.

use std::sync::Arc;

use tracing::warn;
use weir_engine::{Engine, PlanPrograms};
use weir_pxl::table_functions::{self, Answered};
use weir_types::PackedRow;
use weir_types::batch::pack_rows;
use weir_types::plan::{OpId, OpKind};
use weir_types::split::SplitPlan;

/// Cheap to clone.
#[derive(Clone)]
pub struct ReadyPlan {
    pub split: Arc<SplitPlan>,
    pub(super) programs: Arc<PlanPrograms>,
    /// Of table functions that a registry answers, by their operators.
    pub(super) constants: Arc<Vec<(OpId, Vec<PackedRow>)>>,
}

impl ReadyPlan {
    /// For this engine and those that come after it. Takes up to milliseconds.
    #[must_use]
    pub fn new(split: Arc<SplitPlan>, engine: &Engine) -> ReadyPlan {
        let programs = Arc::new(PlanPrograms::new(&split, engine.config()));
        let constants = Arc::new(constants(&split));
        ReadyPlan { split, programs, constants }
    }

    /// What its rows of table functions take.
    pub(crate) fn constant_bytes(&self) -> usize {
        let rows = self.constants.iter().flat_map(|(_, rows)| rows);
        rows.map(|row| row.0.len() + 4 * size_of::<PackedRow>()).sum()
    }
}

fn constants(split: &SplitPlan) -> Vec<(OpId, Vec<PackedRow>)> {
    let mut constants = Vec::new();
    for (idx, op) in split.cluster.ops.iter().enumerate() {
        let OpKind::TableFunction { name, args } = &op.kind else { continue };
        let found = table_functions::find(name);
        if found.is_none_or(|def| def.answered != Answered::Registry) {
            continue;
        }
        match table_functions::evaluate(name, args, &[]) {
            Ok(batch) => constants.push((idx, pack_rows(&batch, &op.relation.types()))),
            Err(error) => warn!(name, %error, "table function without rows"),
        }
    }
    constants
}
