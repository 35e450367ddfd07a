//! What operators are made of: expressions compiled, columns checked, windows cut into panes.

use std::sync::Arc;

use weir_functions::aggregate::{AggFn, Input};
use weir_functions::eval::CompiledExpr;
use weir_functions::scalar::reads_names;
use weir_types::expr::Expr;
use weir_types::plan::{AggCall, EndBound, JoinKind, Scan, Side, SlidingWindow, Window};
use weir_types::row::PackedRow;
use weir_types::schema::Relation;
use weir_types::split::Shape;
use weir_types::value::{DataType, Value};

use super::Settings;
use crate::api::{TEST_DEATH_LITERAL, TEST_DEATHS_LITERAL, TEST_PANIC_LITERAL};

/// What a row expression depends on besides its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depends {
    RowOnly,
    Metadata,
    Clock,
}

#[derive(Clone)]
pub(crate) struct ScanSpec {
    pub(crate) table: Arc<str>,
    pub(crate) columns: Vec<String>,
    pub(crate) window: Window,
    pub(crate) sliding: Option<SlidingWindow>,
}

/// A filter (one expression) or a map (all of them).
#[derive(Clone)]
pub(crate) struct RowSpec {
    pub(crate) exprs: Arc<[CompiledExpr]>,
    pub(crate) filter: bool,
    pub(crate) depends: Depends,
    /// Panics when evaluated, or takes the worker with it: test faults.
    pub(crate) panics: bool,
    pub(crate) kills: bool,
    pub(crate) kills_each_time: bool,
    pub(crate) input: Arc<Relation>,
    pub(crate) output: Arc<Relation>,
    /// What is done with its rows in the same operator; `depends` is of all.
    pub(crate) then: Vec<RowSpec>,
}

#[derive(Clone)]
pub(crate) struct AggSpec {
    pub(crate) group: Vec<usize>,
    pub(crate) aggs: Arc<[AggFn]>,
    /// Of the rows that go in.
    pub(crate) input: Arc<Relation>,
    pub(crate) types: Vec<DataType>,
}

#[derive(Clone)]
pub(crate) struct JoinSpec {
    pub(crate) how: JoinKind,
    pub(crate) left_on: Vec<usize>,
    pub(crate) right_on: Vec<usize>,
    pub(crate) columns: Vec<(Side, usize)>,
    pub(crate) left_types: Vec<DataType>,
    pub(crate) right_types: Vec<DataType>,
}

#[derive(Clone)]
pub(crate) struct LimitSpec {
    pub(crate) rows_max: u64,
    /// The event-time column that ranks rows.
    pub(crate) time: Option<usize>,
    pub(crate) types: Vec<DataType>,
}

/// Rows that a limit follows.
#[derive(Clone, Copy)]
pub(crate) struct NewestSpec {
    pub(crate) rows_max: u64,
    /// The last column, a BOOLEAN, says which rows are certain to reach the limit. Without it all are.
    pub(crate) has_certain: bool,
}

/// What a send ships, and the window that receives it takes in.
#[derive(Clone)]
pub(crate) enum ShapeSpec {
    Rows,
    Newest(NewestSpec),
    Partial(AggSpec),
}

impl ShapeSpec {
    pub(super) fn new(shape: &Shape, input: &Relation) -> Result<ShapeSpec, String> {
        Ok(match shape {
            Shape::Rows { rows_max: None } => ShapeSpec::Rows,
            &Shape::Rows { rows_max: Some(rows_max) } => {
                ShapeSpec::Newest(NewestSpec { rows_max, has_certain: false })
            }
            &Shape::Candidates { rows_max } => {
                if input.types().last() != Some(&DataType::Boolean) {
                    return Err("nothing says which rows reach the limit".to_string());
                }
                ShapeSpec::Newest(NewestSpec { rows_max, has_certain: true })
            }
            Shape::Partial { group, aggs } => {
                ShapeSpec::Partial(agg_spec(group, aggs, input, Input::AppendOnly)?)
            }
        })
    }
}

impl ScanSpec {
    pub(super) fn new(scan: &Scan, settings: &Settings) -> ScanSpec {
        ScanSpec {
            table: scan.table.as_str().into(),
            columns: scan.columns.clone(),
            window: scan.window,
            sliding: scan.window.sliding(settings.retention_ns),
        }
    }
}

impl RowSpec {
    pub(super) fn of_filter(
        predicate: &Expr,
        input: &Relation,
        settings: &Settings,
    ) -> Result<RowSpec, String> {
        RowSpec::new(std::slice::from_ref(predicate), true, input, input, settings)
    }

    pub(super) fn of_map(
        exprs: &[Expr],
        input: &Relation,
        output: &Relation,
        settings: &Settings,
    ) -> Result<RowSpec, String> {
        RowSpec::new(exprs, false, input, output, settings)
    }

    fn new(
        exprs: &[Expr],
        filter: bool,
        input: &Relation,
        output: &Relation,
        settings: &Settings,
    ) -> Result<RowSpec, String> {
        let depends = exprs.iter().map(depends_on).max().unwrap_or(Depends::RowOnly);
        let in_range = |idx: usize| idx < input.len();
        if !exprs.iter().flat_map(Expr::columns).all(in_range) {
            return Err("a column is out of range".to_string());
        }
        let compiled: Result<Vec<_>, _> = exprs.iter().map(CompiledExpr::new).collect();
        let test_faults = settings.test_faults;
        Ok(RowSpec {
            exprs: compiled.map_err(|error| error.to_string())?.into(),
            filter,
            depends,
            panics: test_faults && exprs.iter().any(|e| holds(e, TEST_PANIC_LITERAL)),
            kills: test_faults && exprs.iter().any(|e| holds(e, TEST_DEATH_LITERAL)),
            kills_each_time: test_faults && exprs.iter().any(|e| holds(e, TEST_DEATHS_LITERAL)),
            input: Arc::new(input.clone()),
            output: Arc::new(output.clone()),
            then: Vec::new(),
        })
    }
}

impl JoinSpec {
    pub(super) fn new(
        how: JoinKind,
        on: [&[usize]; 2],
        columns: &[(Side, usize)],
        left: &Relation,
        right: &Relation,
    ) -> Result<JoinSpec, String> {
        let [left_on, right_on] = on;
        let fits = left_on.len() == right_on.len()
            && left_on.iter().all(|&idx| idx < left.len())
            && right_on.iter().all(|&idx| idx < right.len())
            && columns.iter().all(|&(side, idx)| match side {
                Side::Left => idx < left.len(),
                Side::Right => idx < right.len(),
            });
        if !fits {
            return Err("a join column is out of range".to_string());
        }
        Ok(JoinSpec {
            how,
            left_on: left_on.to_vec(),
            right_on: right_on.to_vec(),
            columns: columns.to_vec(),
            left_types: left.types(),
            right_types: right.types(),
        })
    }
}

pub(super) fn agg_spec(
    group: &[usize],
    aggs: &[AggCall],
    input: &Relation,
    mode: Input,
) -> Result<AggSpec, String> {
    let types = input.types();
    let time = aggs.iter().filter_map(|call| call.time);
    let columns = aggs.iter().flat_map(|call| call.args.iter().copied());
    if !group.iter().copied().chain(columns).chain(time).all(|idx| idx < types.len()) {
        return Err("an aggregate's column is out of range".to_string());
    }
    let compiled: Result<Vec<_>, _> = aggs.iter().map(|call| AggFn::new(call, mode)).collect();
    Ok(AggSpec {
        group: group.to_vec(),
        aggs: compiled.map_err(|error| error.to_string())?.into(),
        input: Arc::new(input.clone()),
        types,
    })
}

fn depends_on(expr: &Expr) -> Depends {
    let mut found = Depends::RowOnly;
    expr.walk(&mut |expr| {
        let here = match expr {
            Expr::Now { .. } => Depends::Clock,
            Expr::Call { func, .. } if reads_names(func) => Depends::Metadata,
            _ => Depends::RowOnly,
        };
        found = found.max(here);
    });
    found
}

fn holds(expr: &Expr, literal: &str) -> bool {
    let mut found = false;
    expr.walk(&mut |expr| {
        if let Expr::Literal(Value::String(text)) = expr {
            found |= text == literal.as_bytes();
        }
    });
    found
}

/// The packed zero of each type: what a missing side of a join reads as.
pub(crate) fn packed_zeros(types: &[DataType]) -> Vec<u8> {
    let zeros: Vec<Value> = types.iter().map(|data_type| data_type.zero()).collect();
    PackedRow::pack(&zeros).0
}

/// Where a window begins and ends at set times, and how long before now it ends.
pub(crate) fn absolute_bounds(window: &Window) -> (Option<i64>, Option<i64>, i64) {
    let start = window.first_unix_ns();
    match window.end {
        EndBound::Now => (start, None, 0),
        EndBound::Relative { before_ns } => (start, None, before_ns.max(0)),
        EndBound::Absolute { end_unix_ns } => (start, Some(end_unix_ns), 0),
    }
}
