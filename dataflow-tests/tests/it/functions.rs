//! `weir-functions` against the model: whole batches, plain and dictionary-encoded, against one row
//! at a time; accumulators that are merged and taken back against all values at once.

use proptest::prelude::{Strategy, any};
use weir_dataflow_tests::check::check;
use weir_dataflow_tests::choices::Choices;
use weir_dataflow_tests::generate::{self, exprs, plans, rows};
use weir_dataflow_tests::model::{Row, World, evaluate, multiset};
use weir_functions::EvalCtx;
use weir_functions::aggregate::{AggFn, Input};
use weir_functions::eval::CompiledExpr;
use weir_types::batch::{BatchBuilder, value_at};
use weir_types::plan::{AggCall, EndBound, OpKind, Output, PLAN_VERSION, Scan, StartBound, Window};
use weir_types::{Column, DataType, Expr, Op, Plan, RecordBatch, Relation, SemanticType};

const TEXT_COLUMN: usize = 4;
/// Later than every arrival.
const NOW_UNIX_NS: i64 = rows::BASE_UNIX_NS + 86_400 * rows::SEC_NS;

/// Rows of the table with every type, none of them in the future.
fn some_world(numbers: &[Vec<u16>]) -> World {
    let mut world = generate::world(&[rows::VALUES_TABLE], numbers);
    for table in world.tables.values_mut() {
        table.rows.iter_mut().for_each(|row| row.arrival_unix_ns = NOW_UNIX_NS);
    }
    world
}

fn numbers() -> impl Strategy<Value = (Vec<Vec<u16>>, Vec<u16>)> {
    let row = proptest::collection::vec(any::<u16>(), 0..20);
    (proptest::collection::vec(row, 0..30), proptest::collection::vec(any::<u16>(), 0..40))
}

fn table_rows(world: &World) -> Vec<Row> {
    world.tables[rows::VALUES_TABLE].rows.iter().map(|arrived| arrived.row.clone()).collect()
}

fn batch_of(rows: &[Row], dictionaries: &[usize]) -> RecordBatch {
    let relation = rows::relation(rows::VALUES_TABLE);
    let mut builder = BatchBuilder::with_dictionaries(&relation, dictionaries);
    for row in rows {
        row.iter().enumerate().for_each(|(idx, value)| builder.value(idx, value));
        builder.end_row();
    }
    builder.finish()
}

/// A scan of everything, followed by one operator.
fn plan_of(kind: OpKind, relation: Relation) -> Plan {
    let scanned = rows::relation(rows::VALUES_TABLE);
    let scan = OpKind::Scan(Scan {
        table: rows::VALUES_TABLE.to_string(),
        columns: scanned.columns.iter().map(|column| column.name.clone()).collect(),
        window: Window { start: StartBound::Beginning, end: EndBound::Now },
    });
    Plan {
        version: PLAN_VERSION,
        ops: vec![
            Op { kind: scan, inputs: Vec::new(), relation: scanned },
            Op { kind, inputs: vec![0], relation },
        ],
        outputs: vec![Output { table: "out".to_string(), op: 1 }],
    }
}

/// Row expressions give on whole batches what the model gives row by row: catches a kernel that
/// mixes up rows, treats dictionaries or constants differently, or rounds otherwise.
#[test]
fn expressions_equal_the_model() {
    check(600, numbers(), |(numbers, choices)| {
        let world = some_world(&numbers);
        let rows = table_rows(&world);
        let choices = &mut Choices::new(&choices);
        let data_type = choices.pick(&DataType::ALL);
        let relation = rows::relation(rows::VALUES_TABLE);
        let expr = exprs::expr(&relation, data_type, 3, choices);
        let out = Relation::new(vec![Column::new("x", data_type, SemanticType::None)]);
        let plan = plan_of(OpKind::Map { exprs: vec![expr.clone()] }, out);
        let expected = &evaluate(&plan, &world, NOW_UNIX_NS).map_err(|e| e.to_string())?["out"];
        for dictionaries in [&[][..], &[TEXT_COLUMN]] {
            let actual = evaluated(&expr, &batch_of(&rows, dictionaries))?;
            if let Some(difference) =
                weir_dataflow_tests::drive::difference(expected, &multiset(&actual), &[data_type])
            {
                return Err(format!("{expr:?} on {rows:?}:\n{difference}"));
            }
        }
        Ok(())
    });
}

fn evaluated(expr: &Expr, batch: &RecordBatch) -> Result<Vec<Row>, String> {
    let ctx = EvalCtx { now_unix_ns: NOW_UNIX_NS, ..EvalCtx::default() };
    let compiled = CompiledExpr::new(expr).map_err(|error| error.to_string())?;
    let array = compiled.eval(&ctx, batch).map_err(|error| error.to_string())?;
    (0..batch.num_rows())
        .map(|row| value_at(&array, expr.data_type(), row).map(|value| vec![value]))
        .collect::<Option<_>>()
        .ok_or_else(|| "an array of another type".to_string())
}

/// Aggregates give the same whether rows are added at once, merged from parts or left over after
/// others were taken back: catches drift, lost NaNs and wrong ties.
#[test]
fn aggregates_equal_the_model() {
    check(1500, numbers(), |(numbers, choices)| {
        let world = some_world(&numbers);
        let rows = table_rows(&world);
        let choices = &mut Choices::new(&choices);
        let relation = rows::relation(rows::VALUES_TABLE);
        let call = plans::call(&relation, choices.below(relation.len()), choices);
        let out = Relation::new(vec![Column::new("x", call.data_type, SemanticType::None)]);
        let kind = OpKind::Aggregate { group: Vec::new(), aggs: vec![call.clone()] };
        let expected = evaluate(&plan_of(kind, out), &world, NOW_UNIX_NS);
        let expected = &expected.map_err(|error| error.to_string())?["out"];
        let gone = choices.below(rows.len() + 1);
        for (way, actual) in [
            ("merged", merged(&call, &rows, gone)),
            ("retracted", retracted(&call, &rows, gone)),
            ("subtracted", subtracted(&call, &rows, gone)),
        ] {
            let Some(actual) = actual else { continue };
            let actual = multiset(&[vec![actual]]);
            let types = [call.data_type];
            if let Some(difference) =
                weir_dataflow_tests::drive::difference(expected, &actual, &types)
            {
                return Err(format!("{way} {call:?} of {rows:?}:\n{difference}"));
            }
        }
        Ok(())
    });
}

/// Two parts, merged.
fn merged(call: &AggCall, rows: &[Row], at: usize) -> Option<weir_types::Value> {
    let function = AggFn::new(call, Input::AppendOnly).ok()?;
    let (first, second) = rows.split_at(at);
    let mut total = function.zero();
    for part in [first, second] {
        let batch = batch_of(part, &[TEXT_COLUMN]);
        let bound = function.bind(&batch);
        let mut acc = function.zero();
        (0..part.len()).for_each(|row| bound.add(&mut acc, row, 1));
        total.merge(&acc);
    }
    Some(function.finish(&total))
}

/// All rows and some twice, which are then taken back one by one.
fn retracted(call: &AggCall, rows: &[Row], gone: usize) -> Option<weir_types::Value> {
    let function = AggFn::new(call, Input::Retractable).ok()?;
    let batch = batch_of(rows, &[]);
    let bound = function.bind(&batch);
    let mut acc = function.zero();
    (0..gone).for_each(|row| bound.add(&mut acc, row, 1));
    (0..rows.len()).for_each(|row| bound.add(&mut acc, row, 1));
    (0..gone).for_each(|row| bound.add(&mut acc, row, -1));
    Some(function.finish(&acc))
}

/// As a pane leaves a window; only for accumulators that allow it.
fn subtracted(call: &AggCall, rows: &[Row], gone: usize) -> Option<weir_types::Value> {
    let function = AggFn::new(call, Input::AppendOnly).ok()?;
    if !function.is_group() {
        return None;
    }
    let batch = batch_of(rows, &[]);
    let bound = function.bind(&batch);
    let (mut all, mut pane) = (function.zero(), function.zero());
    (0..gone).for_each(|row| bound.add(&mut pane, row, 1));
    (0..rows.len()).for_each(|row| bound.add(&mut all, row, 1));
    all.merge(&pane);
    all.subtract(&pane);
    Some(function.finish(&all))
}
