//! The engine equals the model at every frontier, for random plans, rows and ways of feeding.

use std::cell::Cell;

use weir_dataflow_tests::check::check;
use weir_dataflow_tests::drive::{
    Compared, DriveError, Query, Rig, compare, compare_all, plain_split, pushed_split,
};
use weir_dataflow_tests::generate::{self, Case, Style};
use weir_types::Plan;
use weir_types::split::SplitPlan;

/// Checks random cases, cut by `split`, and that they were worth it. What was compared is said.
#[track_caller]
fn equals_the_model(split: impl Fn(&Plan) -> SplitPlan) -> String {
    let total = Cell::new(Compared::default());
    let cases = Cell::new(0);
    check(700, generate::case(Style::Compiled, 80), |case: Case| {
        let compared = compare(&case.plan, &split(&case.plan), &case.world, &case.feed)?;
        total.set(total.get().with(compared));
        cases.set(cases.get() + 1);
        Ok::<_, DriveError>(())
    });
    let Compared { frontiers, rows, .. } = total.get();
    let said = format!("{:?} in {} cases", total.get(), cases.get());
    let enough = frontiers > 3 * cases.get() && rows > 20 * cases.get();
    assert!(enough, "hardly anything was compared: {said}");
    said
}

/// All operators in the cluster part, fed with whole rows: the general path.
#[test]
fn equals_the_model_through_whole_rows() {
    eprintln!("{}", equals_the_model(plain_split));
}

/// As the compiler cuts, on plans that it would never make itself.
#[test]
fn equals_the_model_through_the_compilers_split() {
    eprintln!("{}", equals_the_model(weir_pxl::split));
}

/// Row-wise work, partial aggregates per pane and bounded row exchanges on the nodes: the fast path.
#[test]
fn equals_the_model_through_partials() {
    eprintln!("{}", equals_the_model(pushed_split));
}

/// Several queries side by side, some of them the same and installed later: each equals the model.
/// Catches state that is shared wrongly and readers who disturb each other.
#[test]
fn queries_side_by_side_equal_the_model() {
    let three = (
        generate::case(Style::Compiled, 40),
        generate::case(Style::Compiled, 1),
        proptest::array::uniform4(0usize..12),
    );
    check(150, three, |(case, other, installed_after)| {
        // The other plan reads what the tables of the first hold, and finds the rest empty.
        let splits = [pushed_split(&case.plan), pushed_split(&other.plan)];
        let ticks = case.feed.ticks_ms.len();
        let queries: Vec<Query<'_>> = [(&case.plan, 0), (&other.plan, 1), (&case.plan, 0)]
            .into_iter()
            .zip(installed_after)
            .map(|((plan, split), after)| Query {
                plan,
                split: &splits[split],
                installed_after: after % ticks,
                refresh_times: 1,
            })
            .collect();
        compare_all(&queries, &case.world, &case.feed).map(|_| ())
    });
}

/// A panic in one query's operator is reported, and another query in the same engines goes on.
#[test]
fn a_panic_stays_in_its_query() {
    use crate::support::{BASE_MS, Draft, call, everything};
    use weir_types::{DataType, Expr, Value};
    let plan_with = |literal: &str| {
        let mut draft = Draft::default();
        let scan = draft.scan(&["time_", "text"], everything());
        let args = vec![draft.column(scan, "text"), Expr::Literal(Value::str(literal))];
        let kept = draft.filter(scan, call("notEqual", DataType::Boolean, args));
        let count = draft.aggregate(kept, &[], &[("count", "text")]);
        draft.plan(count)
    };
    let healthy = plan_with("other");
    let faulty = plan_with(weir_engine::TEST_PANIC_LITERAL);
    let world = crate::support::world(&[crate::support::at(0), crate::support::at(1)]);
    for workers in [1, 2] {
        let mut rig = Rig::start(1, workers, None).unwrap();
        rig.install(1, &pushed_split(&healthy), 1000, BASE_MS);
        rig.install(2, &pushed_split(&faulty), 1000, BASE_MS);
        rig.push_world(&world);
        let failed = rig.close_tick(BASE_MS + 1000);
        assert!(matches!(failed, Err(DriveError::Failed { query: 2, .. })), "{failed:?}");
        rig.forget(2);
        rig.push_world(&world);
        rig.close_tick(BASE_MS + 2000).unwrap();
        let count: Vec<_> = rig.views(1)["out"].clone().into_iter().collect();
        assert_eq!(count, [(weir_types::PackedRow::pack(&[Value::Int64(4)]), 1)]);
        assert!(rig.engines().iter().all(|engine| !engine.is_dead()));
    }
}
