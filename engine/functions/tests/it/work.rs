//! How much is evaluated at a stretch: rows that are too much together are given up early, to be done with
//! fewer, and a row is worth the same however many are evaluated with it.

use weir_functions::cuts::{self, Cut, Cuts};
use weir_functions::eval::CompiledExpr;
use weir_functions::work::{self, AT_ONCE};
use weir_functions::{EvalCtx, scalar};
use weir_types::batch::value_at;
use weir_types::{DataType, Expr, RecordBatch, Value};

use crate::support::*;

fn text() -> Expr {
    Expr::Column { idx: 0, data_type: DataType::String }
}

fn literal(text: &str) -> Expr {
    Expr::Literal(s(text))
}

/// A pattern that looks at the rest of a text for each of its letters, and what else may take long.
fn expressions() -> Vec<Expr> {
    let worst = call_expr("replace", vec![literal(".*[^A-Z]|[A-Z]"), text(), literal("x")]);
    let redacted = call_expr("redact_pii_best_effort", vec![text()]);
    let twice = (0..6).fold(text(), |text, _| call_expr("add", vec![text.clone(), text]));
    let matched = call_expr("regex_match", vec![literal("(.*A){9}[^A]"), text()]);
    let parts = call_expr("replace", vec![literal("()A"), text(), literal(&"\\1".repeat(9_000))]);
    vec![worst, redacted, twice, matched, parts]
}

/// All columns of some rows at once, as an operator does it; `None`: that is too much.
fn at_once(exprs: &[CompiledExpr], batch: &RecordBatch) -> Option<Vec<Vec<Value>>> {
    let ctx = EvalCtx::default();
    let evaluate = || exprs.iter().map(|expr| expr.eval(&ctx, batch).unwrap()).collect::<Vec<_>>();
    let (columns, _) = work::within(AT_ONCE, batch.num_rows(), evaluate)?;
    let row = |row| {
        let value = |(column, expr): (_, &CompiledExpr)| value_at(column, expr.data_type(), row);
        columns.iter().zip(exprs).map(|both| value(both).unwrap()).collect()
    };
    Some((0..batch.num_rows()).map(row).collect())
}

/// The rows in slices of at most so many: what is too much is tried again with half of it.
fn in_slices(exprs: &[CompiledExpr], batch: &RecordBatch, most: usize) -> (Vec<Vec<Value>>, Cuts) {
    let _ = cuts::take();
    let (mut rows, mut count) = (Vec::new(), most);
    while rows.len() < batch.num_rows() {
        count = count.min(batch.num_rows() - rows.len());
        match at_once(exprs, &batch.slice(rows.len(), count)) {
            Some(done) => {
                rows.extend(done);
                count = most;
            }
            None => count = (count / 2).max(1),
        }
    }
    (rows, cuts::take())
}

fn texts(lengths: &[usize]) -> RecordBatch {
    let row = |(at, len): (usize, &usize)| vec![s(&format!("{at}{}", "A".repeat(*len)))];
    let rows: Vec<Vec<Value>> = lengths.iter().enumerate().map(row).collect();
    batch_of_rows(&[DataType::String], &rows, false)
}

fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap()
}

/// Rows have the same values and the same cuts, whether each is evaluated alone or with as many as can be:
/// catches results that depend on a slice, which would not be taken back as they were told.
#[test]
fn a_row_is_worth_the_same_in_any_slice() {
    let exprs: Vec<CompiledExpr> =
        expressions().iter().map(|expr| CompiledExpr::new(expr).unwrap()).collect();
    let lengths = [1, 3000, 20, 0, 8000, 70_000, 300, 600_000, 2, 40_000, 1 << 20, 15, 900, 60];
    let batch = texts(&lengths);
    let alone = in_slices(&exprs, &batch, 1);
    assert!(alone.1.get(Cut::RegexWork) > 0 && alone.1.get(Cut::RowWork) > 0, "{:?}", alone.1);
    for most in [2, 5, lengths.len()] {
        let together = in_slices(&exprs, &batch, most);
        assert_eq!(together.1, alone.1, "{most} at once: other cuts");
        assert!(together.0 == alone.0, "{most} at once: other values");
    }
}

/// Each expression over 2,048 texts of 4 KiB: that it is too much is known after a fraction of a second of
/// processor time. Before, a batch was evaluated as a whole, up to a minute and a half of it.
#[test]
fn what_is_too_much_is_given_up_early() {
    let batch = texts(&[4 << 10; 2048]);
    for expr in expressions() {
        let compiled = CompiledExpr::new(&expr).unwrap();
        let start_ns = cpu_ns();
        let whole = at_once(std::slice::from_ref(&compiled), &batch);
        let spent_ms = (cpu_ns() - start_ns) / 1_000_000;
        assert!(whole.is_none(), "{expr:?}: all of it at once");
        assert!(spent_ms < 1000, "{expr:?}: {spent_ms} ms");
        let one = at_once(std::slice::from_ref(&compiled), &batch.slice(0, 1));
        assert!(one.is_some(), "{expr:?}: not even one");
    }
}

/// A row with so many long columns that they would take gigabytes has some of them empty, counted; no two
/// rows together may have more than one alone.
#[test]
fn texts_of_a_row_are_bounded_together() {
    let grown = (0..9).fold(text(), |text, _| call_expr("toupper", vec![text]));
    let exprs: Vec<CompiledExpr> = (0..40).map(|_| CompiledExpr::new(&grown).unwrap()).collect();
    let _ = cuts::take();
    let (rows, cuts) = in_slices(&exprs, &texts(&[1 << 19, 10, 1 << 19]), 3);
    let bytes = |row: &Vec<Value>| -> usize {
        row.iter().map(|value| if let Value::String(text) = value { text.len() } else { 0 }).sum()
    };
    assert!(rows.iter().all(|row| bytes(row) as u64 <= AT_ONCE.made_bytes));
    assert_eq!(bytes(&rows[1]), 40 * 11);
    assert!(cuts.get(Cut::RowWork) + cuts.get(Cut::ColumnBytes) > 0);
}

/// Whatever a function does, it says how much that is: no function over 256 texts of 64 KiB takes more than a
/// second of processor time before it is given up or done.
#[test]
fn every_function_is_bounded_by_the_batch() {
    let rows: Vec<Vec<Value>> =
        (0..256).map(|at| vec![s(&format!("{at}{}", "a:1 /%40\"".repeat(8 << 10)))]).collect();
    let batch = batch_of_rows(&[DataType::String], &rows, false);
    for def in scalar::all().filter(|def| def.refusal.is_none()) {
        for overload in
            def.overloads.iter().filter(|overload| overload.args.contains(&DataType::String))
        {
            let arg = |(at, data_type): (usize, &DataType)| match data_type {
                DataType::String if def.const_args.contains(&at) => literal("(a:1|.)*\\\\"),
                DataType::String => text(),
                other => Expr::Literal(other.zero()),
            };
            let expr = call_expr(def.name, overload.args.iter().enumerate().map(arg).collect());
            let compiled = CompiledExpr::new(&expr).unwrap();
            let start_ns = cpu_ns();
            let _ = at_once(std::slice::from_ref(&compiled), &batch);
            let spent_ms = (cpu_ns() - start_ns) / 1_000_000;
            assert!(spent_ms < 1000, "{}: {spent_ms} ms", def.name);
        }
    }
}
