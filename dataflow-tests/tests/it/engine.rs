//! The engine equals the model at every frontier, for random plans, rows and ways of feeding.

use std::cell::Cell;

use weir_dataflow_tests::check::check;
use weir_dataflow_tests::drive::{Compared, DriveError, compare, plain_split, pushed_split};
use weir_dataflow_tests::generate::{self, Case, Style};
use weir_types::Plan;
use weir_types::split::SplitPlan;

/// Checks random cases, cut by `split`, and that they were worth it.
#[track_caller]
fn equals_the_model(split: impl Fn(&Plan) -> SplitPlan) {
    let total = Cell::new(Compared::default());
    let cases = Cell::new(0);
    check(700, generate::case(Style::Compiled, 60), |case: Case| {
        let compared = compare(&case.plan, &split(&case.plan), &case.world, &case.feed)?;
        let sum = total.get();
        total.set(Compared {
            frontiers: sum.frontiers + compared.frontiers,
            rows: sum.rows + compared.rows,
        });
        cases.set(cases.get() + 1);
        Ok::<_, DriveError>(())
    });
    let Compared { frontiers, rows } = total.get();
    let enough = frontiers > 3 * cases.get() && rows > 20 * cases.get();
    assert!(enough, "hardly anything was compared: {:?} in {} cases", total.get(), cases.get());
}

/// All operators in the cluster part, fed with whole rows: the general path.
#[test]
fn equals_the_model_through_whole_rows() {
    equals_the_model(plain_split);
}

/// As the compiler cuts, on plans that it would never make itself.
#[test]
fn equals_the_model_through_the_compilers_split() {
    equals_the_model(weir_pxl::split);
}

/// Row-wise work, partial aggregates per pane and bounded row exchanges on the nodes: the fast path.
#[test]
fn equals_the_model_through_partials() {
    equals_the_model(pushed_split);
}
