//! What functions ask for: whoever goes by it looks at the right rows again.

use std::sync::Arc;

use weir_functions::eval::CompiledExpr;
use weir_functions::{EvalCtx, scalar};
use weir_types::batch::value_at;
use weir_types::metadata::{EntityChange, MetadataSnapshot, reads};
use weir_types::random::SplitMix;
use weir_types::{DataType, Expr, RecordBatch, Value};

use crate::metadata::{BARE, CART, snapshot};
use crate::support::{batch_of_rows, call_expr};

const TEXTS: &[&str] = &[
    "pod-1",
    "pod-2",
    "shop/cart-1",
    "shop/pay-1",
    "10.0.0.1",
    "10.9.9.9",
    "10.8.0.1",
    "127.0.0.1",
    "svc-1",
    "svc-2",
    "shop/cart",
    "shop/all",
    "ctr-1",
    "main",
    "rs-1",
    "shop/cart-rs",
    "dep-1",
    "shop",
    "1.2.3.4",
    "unix_socket:",
    "unknown",
];
const NUMBERS: &[i64] = &[0, 5, 10, 100, 150, 250, 8080, 40_000, 1_000_000_000];

fn random_value(random: &mut SplitMix, data_type: DataType) -> Value {
    let mut one_of = |count: usize| usize::try_from(random.below(count as u64)).unwrap();
    match data_type {
        DataType::String => Value::str(TEXTS[one_of(TEXTS.len())]),
        DataType::Int64 => Value::Int64(NUMBERS[one_of(NUMBERS.len())]),
        DataType::Time64Ns => Value::Time64Ns(NUMBERS[one_of(NUMBERS.len())]),
        DataType::Uint128 => Value::Uint128([CART.0, BARE.0, 7][one_of(3)]),
        DataType::Boolean => Value::Boolean(one_of(2) == 0),
        DataType::Float64 => Value::Float64(1.5),
    }
}

/// What a function gives for each row, and what it asked for.
fn asked(
    expr: &Expr,
    metadata: &MetadataSnapshot,
    batch: &RecordBatch,
) -> (Vec<Value>, Vec<reads::Read>) {
    let ctx = EvalCtx { metadata: Arc::new(metadata.clone()), ..EvalCtx::default() };
    let compiled = CompiledExpr::new(expr).unwrap();
    let recording = reads::Recording::start();
    let (array, asked) = reads::during(|| compiled.eval(&ctx, batch).unwrap());
    drop(recording);
    let values = (0..batch.num_rows()).map(|row| value_at(&array, expr.data_type(), row).unwrap());
    (values.collect(), asked.unwrap())
}

/// Whichever entry of the metadata goes or comes, each function that reads names has asked for it in every row whose
/// result is another now, whether its arguments are columns, dictionaries or constants. Catches a look-up that is not
/// noted, or for another row: that row's name would be wrong for as long as it is there.
#[test]
fn what_changes_a_row_was_asked_for() {
    let mut random = SplitMix(5);
    let mut now = snapshot();
    let mut pairs = Vec::new();
    for entity in now.entities().collect::<Vec<_>>() {
        for change in [entity.key().over(), entity] {
            let then = now.clone();
            now.apply(change);
            pairs.push((then, now.clone()));
        }
    }
    assert!(pairs.len() > 40, "{}", pairs.len());
    let mut changed_functions = 0;
    for def in scalar::all().filter(|def| scalar::reads_names(def.name)) {
        let mut has_changed = false;
        for overload in def.overloads {
            let types = overload.args;
            let rows: Vec<Vec<Value>> = (0..80)
                .map(|_| types.iter().map(|&of| random_value(&mut random, of)).collect())
                .collect();
            let column = |idx: usize| Expr::Column { idx, data_type: types[idx] };
            let columns = call_expr(def.name, (0..types.len()).map(column).collect());
            let constants = rows[0].iter().cloned().map(Expr::Literal).collect();
            let constants = call_expr(def.name, constants);
            for (expr, coded) in [(&columns, false), (&columns, true), (&constants, false)] {
                let batch = batch_of_rows(types, &rows, coded);
                for (then, now) in &pairs {
                    let keys = now.changed_since(then, usize::MAX).unwrap();
                    let (before, asked_before) = asked(expr, then, &batch);
                    let (after, _) = asked(expr, now, &batch);
                    for row in 0..rows.len() {
                        let is_of_row = |of: u32| of as usize == row || of == reads::ALL_ROWS;
                        let has_asked = asked_before
                            .iter()
                            .any(|(of, key)| is_of_row(*of) && keys.binary_search(key).is_ok());
                        let stays = before[row] == after[row];
                        assert!(stays || has_asked, "{}{:?} of {rows:?}", def.name, rows[row]);
                        has_changed |= !stays;
                    }
                }
            }
        }
        changed_functions += usize::from(has_changed);
    }
    assert!(changed_functions > 60, "only {changed_functions} functions gave anything else");
}

/// A row asks for what it is about and nothing else: of a hundred rows about as many addresses, one change is found by
/// those of its address. Catches rows that are all looked at whenever something changed.
#[test]
fn a_row_asks_for_its_own() {
    let rows: Vec<Vec<Value>> =
        (0..100).map(|row| vec![Value::str(&format!("10.0.1.{}", row % 50))]).collect();
    let expr =
        call_expr("ip_to_pod_id", vec![Expr::Column { idx: 0, data_type: DataType::String }]);
    for coded in [false, true] {
        let then = MetadataSnapshot::default();
        let batch = batch_of_rows(&[DataType::String], &rows, coded);
        let (_, asked) = asked(&expr, &then, &batch);
        let mut now = then.clone();
        now.apply(EntityChange::PodIp("10.0.1.7".to_string(), Some(vec![])));
        let keys = now.changed_since(&then, usize::MAX).unwrap();
        let mut found: Vec<u32> =
            asked.iter().filter(|(_, key)| keys.contains(key)).map(|(row, _)| *row).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, [7, 57]);
    }
}
