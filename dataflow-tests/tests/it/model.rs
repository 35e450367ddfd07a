//! The model on its own: what must hold before it may judge anything.

use std::collections::BTreeSet;
use std::sync::Mutex;

use proptest::prelude::{any, prop_assert};
use proptest::test_runner::TestCaseError;
use weir_dataflow_tests::check::check;
use weir_dataflow_tests::generate::{self, Style};
use weir_dataflow_tests::model::{self, evaluate};
use weir_types::plan::OpKind;

/// Every generated plan is well typed and can be evaluated at every tick, and together they reach
/// every operator, every aggregate and views with rows: catches generators that make nonsense, or
/// nothing worth testing.
#[test]
fn generated_cases_are_good() {
    let seen: Mutex<BTreeSet<String>> = Mutex::default();
    check(400, generate::case(Style::Compiled, 40), |case| {
        let mut seen = seen.lock().unwrap();
        for op in &case.plan.ops {
            match &op.kind {
                OpKind::Aggregate { aggs, .. } => {
                    seen.extend(aggs.iter().map(|call| call.func.clone()));
                    seen.insert("aggregate".to_string());
                }
                OpKind::Join { how, .. } => {
                    seen.insert(format!("{how:?} join"));
                }
                kind => {
                    let text = format!("{kind:?}");
                    let name = text.split([' ', '{', '(']).next().unwrap_or_default();
                    seen.insert(name.to_lowercase());
                }
            }
        }
        for &tick_ms in &case.feed.ticks_ms {
            let views = evaluate(&case.plan, &case.world, tick_ms as i64 * 1_000_000)?;
            if views.values().any(|rows| rows.len() > 3) {
                seen.insert("rows".to_string());
            }
        }
        Ok::<_, model::ModelError>(())
    });
    let wanted = [
        "scan",
        "filter",
        "map",
        "aggregate",
        "union",
        "limit",
        "Inner join",
        "Left join",
        "Outer join",
        "count",
        "sum",
        "mean",
        "min",
        "max",
        "any",
        "quantiles",
        "rows",
    ];
    let seen = seen.into_inner().unwrap();
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
}

/// What the sketch reports lies within 1 % of the exact nearest-rank quantile, for integers and
/// doubles of any size: holds the definition itself to the truth.
#[test]
fn quantiles_are_within_one_percent() {
    let integers = proptest::collection::vec(any::<i64>(), 1..200);
    check(300, integers, |mut values| {
        values.sort_unstable();
        for exact in model::nearest_ranks(&values).unwrap() {
            let reported = model::midpoint_of_integer(exact);
            prop_assert!((reported - exact as f64).abs() <= (exact as f64).abs() * 0.01);
        }
        Ok::<_, TestCaseError>(())
    });
    let floats = proptest::collection::vec(proptest::num::f64::NORMAL, 1..200);
    check(300, floats, |mut values| {
        values.sort_by(f64::total_cmp);
        for exact in model::nearest_ranks(&values).unwrap() {
            let reported = model::midpoint_of_float(exact);
            prop_assert!((reported - exact).abs() <= exact.abs() * 0.01);
        }
        Ok::<_, TestCaseError>(())
    });
}

#[test]
fn nearest_ranks_of_few() {
    assert_eq!(model::nearest_ranks(&[1, 2]), Some([1, 1, 1, 1, 2, 2, 2, 2]));
    assert_eq!(model::nearest_ranks::<i64>(&[]), None);
}

/// The way a plan is written as PxL, on one plan with everything: a reader can check it by eye.
#[test]
fn plans_become_readable_scripts() {
    let mut seen = BTreeSet::new();
    let seen = Mutex::new(&mut seen);
    check(200, generate::case(Style::Script, 3), |case| {
        let text = generate::pxl_text::text_of(&case.plan);
        if !text.starts_with("import px\n") || text.contains("inf") || text.contains("NaN") {
            return Err(text);
        }
        for word in ["DataFrame", ".agg(", ".groupby(", ".merge(", ".append(", ".head("] {
            if text.contains(word) {
                seen.lock().unwrap().insert(word);
            }
        }
        Ok(())
    });
    assert_eq!(seen.into_inner().unwrap().len(), 6);
}
