//! Calls one function in every way that the evaluator has and insists on one answer.

use std::sync::Arc;

use weir_functions::eval::CompiledExpr;
use weir_functions::{EvalCtx, scalar};
use weir_types::batch::{BatchBuilder, value_at};
use weir_types::metadata::MetadataSnapshot;
use weir_types::{Column, DataType, Expr, RecordBatch, Relation, SemanticType, Value};

pub(crate) fn s(text: &str) -> Value {
    Value::str(text)
}
pub(crate) fn i(value: i64) -> Value {
    Value::Int64(value)
}
pub(crate) fn f(value: f64) -> Value {
    Value::Float64(value)
}
pub(crate) fn b(value: bool) -> Value {
    Value::Boolean(value)
}
pub(crate) fn t(value: i64) -> Value {
    Value::Time64Ns(value)
}
pub(crate) fn u(value: u128) -> Value {
    Value::Uint128(value)
}

pub(crate) fn relation_of(types: &[DataType]) -> Relation {
    Relation::new(
        types
            .iter()
            .enumerate()
            .map(|(idx, &ty)| Column::new(format!("c{idx}"), ty, SemanticType::None))
            .collect(),
    )
}

/// `dictionaries`: encode STRING columns as dictionaries.
pub(crate) fn batch_of_rows(
    types: &[DataType],
    rows: &[Vec<Value>],
    dictionaries: bool,
) -> RecordBatch {
    let relation = relation_of(types);
    let strings: Vec<usize> = if dictionaries {
        (0..types.len()).filter(|&idx| types[idx] == DataType::String).collect()
    } else {
        Vec::new()
    };
    let mut builder = BatchBuilder::with_dictionaries(&relation, &strings);
    for row in rows {
        for (idx, value) in row.iter().enumerate() {
            builder.value(idx, value);
        }
        builder.end_row();
    }
    builder.finish()
}

pub(crate) fn call_expr(name: &str, args: Vec<Expr>) -> Expr {
    let types: Vec<DataType> = args.iter().map(Expr::data_type).collect();
    let data_type = scalar::resolve(name, &types)
        .unwrap_or_else(|| panic!("no overload of {name} for {types:?}"));
    Expr::Call { func: name.to_string(), args, data_type }
}

pub(crate) fn eval_rows(expr: &Expr, ctx: &EvalCtx, batch: &RecordBatch) -> Vec<Value> {
    let compiled = CompiledExpr::new(expr).unwrap();
    let array = compiled.eval(ctx, batch).unwrap();
    assert_eq!(array.len(), batch.num_rows());
    (0..array.len()).map(|row| value_at(&array, expr.data_type(), row).unwrap()).collect()
}

/// The function over rows of arguments: all columns, plain and as dictionaries, must agree with
/// each row computed alone and, position by position, with literals in place of columns.
pub(crate) fn call_rows(ctx: &EvalCtx, name: &str, rows: &[Vec<Value>]) -> Vec<Value> {
    let types: Vec<DataType> = rows[0].iter().map(Value::data_type).collect();
    let consts = scalar::find(name).unwrap().const_args;
    let column = |idx: usize| Expr::Column { idx, data_type: types[idx] };
    // Literal arguments may differ by row only if the function takes columns there.
    let arg = |idx: usize| match consts.contains(&idx) {
        true => Expr::Literal(rows[0][idx].clone()),
        false => column(idx),
    };
    let expr = call_expr(name, (0..types.len()).map(arg).collect());
    let answers = eval_rows(&expr, ctx, &batch_of_rows(&types, rows, false));
    let coded = eval_rows(&expr, ctx, &batch_of_rows(&types, rows, true));
    assert_eq!(answers, coded, "{name}: dictionaries change the answer");
    for (row, answer) in rows.iter().zip(&answers) {
        let row = std::slice::from_ref(row);
        let alone = eval_rows(&expr, ctx, &batch_of_rows(&types, row, false));
        assert_eq!(&alone[0], answer, "{name}{row:?}: batches change the answer");
        // Every subset of literals of up to four arguments, the first four otherwise.
        for mask in 0..1usize << types.len().min(4) {
            let arg = |idx: usize| match mask >> idx & 1 == 1 || consts.contains(&idx) {
                true => Expr::Literal(row[0][idx].clone()),
                false => column(idx),
            };
            let expr = call_expr(name, (0..types.len()).map(arg).collect());
            for dictionaries in [false, true] {
                let twice = [row[0].clone(), row[0].clone()];
                let batch = batch_of_rows(&types, &twice, dictionaries);
                let again = eval_rows(&expr, ctx, &batch);
                assert_eq!(again, vec![answer.clone(); 2], "{name}{row:?}: literals {mask:b}");
            }
        }
        let def = scalar::find(name).unwrap();
        if def.pure {
            assert_eq!(
                weir_functions::eval::fold(name, &row[0]).as_ref(),
                Some(answer),
                "{name}{row:?}: folded"
            );
        } else {
            assert_eq!(weir_functions::eval::fold(name, &row[0]), None, "{name} reads the context");
        }
    }
    answers
}

pub(crate) fn call(name: &str, args: &[Value]) -> Value {
    call_rows(&EvalCtx::default(), name, &[args.to_vec()]).remove(0)
}

#[track_caller]
pub(crate) fn check(name: &str, args: &[Value], want: &Value) {
    assert_eq!(&call(name, args), want, "{name}({args:?})");
}

pub(crate) fn ctx(metadata: MetadataSnapshot) -> EvalCtx {
    EvalCtx { metadata: Arc::new(metadata), ..EvalCtx::default() }
}
