//! The judge: what a plan means at a time t, evaluated slowly and obviously, once, from the rows
//! admitted by then. The engine must show exactly this at every frontier it emits.
//!
//! It shares with the engine the plan, the values and the packed form of results; of the rules it
//! uses only `SlidingWindow`'s rounding (tested where it is declared). No timely, no deltas, no
//! accumulators, no panes: rows are lists of values, joins are nested loops, aggregates look at all
//! their rows, and sums of doubles are added as wide integers. Scalar functions that are not
//! written out in `scalar` are evaluated by `weir-functions` on batches of one row.

mod aggregate;
mod exact;
mod groups;
mod paths;
mod scalar;

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_functions::EvalCtx;
use weir_functions::eval::CompiledExpr;
use weir_types::batch::{BatchBuilder, value_at};
use weir_types::metadata::MetadataSnapshot;
use weir_types::plan::{EndBound, JoinKind, OpKind, Side, SlidingWindow, StartBound, Window};
use weir_types::{Column, DataType, Expr, Op, PackedRow, Plan, Relation, SemanticType, Value};

pub use groups::{GroupBounds, refused};

pub use aggregate::{PERCENTS, midpoint_of_float, midpoint_of_integer, nearest_ranks};

/// A row whose event time lies further ahead of its arrival is dropped.
pub const FUTURE_NS_MAX: i64 = 10_000_000_000;

/// One row, a value per column.
pub type Row = Vec<Value>;

/// Rows of one output with their counts.
pub type Multiset = BTreeMap<PackedRow, i64>;

/// A row as a node received it.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    pub arrival_unix_ns: i64,
    /// The row's values in the table's full schema.
    pub row: Row,
}

/// One table with all rows that ever arrive.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub relation: Relation,
    pub rows: Vec<Arrived>,
}

/// Everything a plan can read.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub tables: BTreeMap<String, Table>,
    /// Contents of table functions by name.
    pub table_functions: BTreeMap<String, Vec<Row>>,
    pub metadata: Arc<MetadataSnapshot>,
    /// Bounds scans without a start; `None`: nothing expires.
    pub retention_ns: Option<i64>,
    /// How many groups an aggregate over a table may have; `None`: any number.
    pub bounds: Option<GroupBounds>,
}

/// Why a plan could not be evaluated: it is wrong, or the model does not know a function.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("operator {op}: the plan is malformed: {what}")]
    Malformed { op: usize, what: String },
    #[error("the model does not know the aggregate {0}")]
    UnknownAggregate(String),
    #[error("the model cannot evaluate {func}: {why}")]
    Scalar { func: String, why: String },
}

/// Every output of the plan at `now_unix_ns`.
pub fn evaluate(
    plan: &Plan,
    world: &World,
    now_unix_ns: i64,
) -> Result<BTreeMap<String, Multiset>, ModelError> {
    let mut done: Vec<Vec<Row>> = Vec::with_capacity(plan.ops.len());
    for (id, op) in plan.ops.iter().enumerate() {
        if op.inputs.iter().any(|&input| input >= id) {
            return Err(malformed(id, "an input does not come before its operator"));
        }
        let inputs: Vec<Input<'_>> = op
            .inputs
            .iter()
            .map(|&input| Input { relation: &plan.ops[input].relation, rows: &done[input] })
            .collect();
        let evaluation = Evaluation { id, op, world, now_unix_ns };
        let rows = match groups::grouped(plan, id, world, now_unix_ns)? {
            Some(grouped) => evaluation.aggregated(grouped.rows)?,
            None => evaluation.rows(&inputs)?,
        };
        check_types(id, op, &rows)?;
        done.push(rows);
    }
    let mut outputs = BTreeMap::new();
    for output in &plan.outputs {
        let rows = done.get(output.op).ok_or_else(|| malformed(output.op, "no such operator"))?;
        outputs.insert(output.table.clone(), multiset(rows));
    }
    Ok(outputs)
}

/// Packed rows with their counts.
#[must_use]
pub fn multiset(rows: &[Row]) -> Multiset {
    let mut out = Multiset::new();
    for row in rows {
        *out.entry(PackedRow::pack(row)).or_default() += 1;
    }
    out
}

/// True if a row of event time `time_unix_ns` lies in the window at `now_unix_ns`.
#[must_use]
pub fn in_window(
    window: &Window,
    retention_ns: Option<i64>,
    now_unix_ns: i64,
    time_unix_ns: i64,
) -> bool {
    let sliding = window.sliding(retention_ns);
    let after_start = sliding.is_none_or(|sliding| time_unix_ns > sliding.start_at(now_unix_ns))
        && match window.start {
            StartBound::Absolute { start_unix_ns } => time_unix_ns >= start_unix_ns,
            StartBound::Then { window_ns, at_unix_ns } => {
                time_unix_ns > SlidingWindow::of(window_ns).start_at(at_unix_ns)
            }
            StartBound::Beginning | StartBound::Relative { .. } => true,
        };
    let before_end = match window.end {
        EndBound::Now => true,
        EndBound::Relative { before_ns } => time_unix_ns <= now_unix_ns - before_ns,
        EndBound::Absolute { end_unix_ns } => time_unix_ns <= end_unix_ns,
    };
    after_start && before_end && time_unix_ns <= now_unix_ns
}

fn malformed(op: usize, what: &str) -> ModelError {
    ModelError::Malformed { op, what: what.to_string() }
}

/// A plan whose operators do not give what their relations say is a bug of the compiler (or of a
/// generator), which must not look like a difference of answers.
fn check_types(id: usize, op: &Op, rows: &[Row]) -> Result<(), ModelError> {
    let types = op.relation.types();
    let fits = |row: &Row| {
        row.len() == types.len()
            && row.iter().zip(&types).all(|(value, &data_type)| value.data_type() == data_type)
    };
    match rows.iter().find(|row| !fits(row)) {
        None => Ok(()),
        Some(row) => Err(malformed(id, &format!("{row:?} does not fit {types:?}"))),
    }
}

struct Input<'a> {
    relation: &'a Relation,
    rows: &'a [Row],
}

struct Evaluation<'a> {
    id: usize,
    op: &'a Op,
    world: &'a World,
    now_unix_ns: i64,
}

impl Evaluation<'_> {
    fn rows(&self, inputs: &[Input<'_>]) -> Result<Vec<Row>, ModelError> {
        match (&self.op.kind, inputs) {
            (OpKind::Scan(scan), []) => self.scan(&scan.table, &scan.columns, &scan.window),
            (OpKind::TableFunction { name, .. }, []) => {
                Ok(self.world.table_functions.get(name).cloned().unwrap_or_default())
            }
            (OpKind::Filter { predicate }, [input]) => self.filter(predicate, input),
            (OpKind::Map { exprs }, [input]) => input
                .rows
                .iter()
                .map(|row| exprs.iter().map(|expr| self.expr(expr, row)).collect())
                .collect(),
            (OpKind::Aggregate { group, .. }, [input]) => {
                let key = |row: &Row| group.iter().map(|&column| row[column].clone()).collect();
                self.aggregated(input.rows.iter().map(|row| (key(row), row.clone())).collect())
            }
            (OpKind::Join { how, left_on, right_on, columns }, [left, right]) => {
                Ok(join(*how, [left, right], [left_on, right_on], columns))
            }
            (OpKind::Union, inputs) => {
                Ok(inputs.iter().flat_map(|input| input.rows.to_vec()).collect())
            }
            (OpKind::Limit { rows_max }, [input]) => Ok(limit(input, *rows_max)),
            (kind, inputs) => {
                Err(malformed(self.id, &format!("{kind:?} with {} inputs", inputs.len())))
            }
        }
    }

    /// The results of groups, by the key that each row is counted under.
    fn aggregated(&self, rows: Vec<(Row, Row)>) -> Result<Vec<Row>, ModelError> {
        let OpKind::Aggregate { group, aggs } = &self.op.kind else {
            return Err(malformed(self.id, "it has no groups"));
        };
        let mut groups: BTreeMap<Row, Vec<Row>> = BTreeMap::new();
        if group.is_empty() {
            groups.insert(Row::new(), Vec::new());
        }
        for (key, row) in rows {
            groups.entry(key).or_default().push(row);
        }
        let finished = |(mut row, rows): (Row, Vec<Row>)| {
            for call in aggs {
                row.push(aggregate::evaluate(call, &rows)?);
            }
            Ok(row)
        };
        groups.into_iter().map(finished).collect()
    }

    fn scan(
        &self,
        table: &str,
        columns: &[String],
        window: &Window,
    ) -> Result<Vec<Row>, ModelError> {
        let rows = self.numbered_scan(table, columns, window)?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// With the number of each row in its table.
    fn numbered_scan(
        &self,
        table: &str,
        columns: &[String],
        window: &Window,
    ) -> Result<Vec<(usize, Row)>, ModelError> {
        let Some(table) = self.world.tables.get(table) else { return Ok(Vec::new()) };
        let time_idx = table.relation.time_idx().ok_or_else(|| malformed(self.id, "no time_"))?;
        let positions: Vec<usize> = columns
            .iter()
            .map(|name| table.relation.index_of(name))
            .collect::<Option<_>>()
            .ok_or_else(|| malformed(self.id, "no such column"))?;
        let mut out = Vec::new();
        for (number, Arrived { arrival_unix_ns, row }) in table.rows.iter().enumerate() {
            let Value::Time64Ns(time_unix_ns) = row[time_idx] else {
                return Err(malformed(self.id, "time_ is no time"));
            };
            let admitted = *arrival_unix_ns <= self.now_unix_ns;
            let future = time_unix_ns > arrival_unix_ns.saturating_add(FUTURE_NS_MAX);
            let inside = in_window(window, self.world.retention_ns, self.now_unix_ns, time_unix_ns);
            if admitted && !future && inside {
                let row = positions.iter().map(|&position| row[position].clone()).collect();
                out.push((number, row));
            }
        }
        Ok(out)
    }

    fn filter(&self, predicate: &Expr, input: &Input<'_>) -> Result<Vec<Row>, ModelError> {
        let mut out = Vec::new();
        for row in input.rows {
            match self.expr(predicate, row)? {
                Value::Boolean(true) => out.push(row.clone()),
                Value::Boolean(false) => {}
                other => return Err(malformed(self.id, &format!("predicate gives {other:?}"))),
            }
        }
        Ok(out)
    }

    fn expr(&self, expr: &Expr, row: &Row) -> Result<Value, ModelError> {
        Ok(match expr {
            Expr::Column { idx, .. } => row
                .get(*idx)
                .cloned()
                .ok_or_else(|| malformed(self.id, "an expression reads a column that is not"))?,
            Expr::Literal(value) => value.clone(),
            Expr::Now { factor, offset_ns } => {
                Value::Int64(self.now_unix_ns.wrapping_mul(*factor).wrapping_add(*offset_ns))
            }
            Expr::Call { func, args, data_type } => {
                let values =
                    args.iter().map(|arg| self.expr(arg, row)).collect::<Result<Row, _>>()?;
                let value = match scalar::call(func, &values) {
                    Some(value) => value,
                    None => self.registry_call(func, &values, *data_type)?,
                };
                if value.data_type() != *data_type {
                    return Err(malformed(self.id, &format!("{func} gives {value:?}")));
                }
                value
            }
        })
    }
}

impl Evaluation<'_> {
    /// A function that the model does not write out: the registry's, on a batch of one row.
    fn registry_call(
        &self,
        func: &str,
        values: &[Value],
        data_type: DataType,
    ) -> Result<Value, ModelError> {
        let columns = values
            .iter()
            .enumerate()
            .map(|(idx, value)| {
                Column::new(format!("c{idx}"), value.data_type(), SemanticType::None)
            })
            .collect();
        let relation = Relation::new(columns);
        let mut builder = BatchBuilder::new(&relation);
        values.iter().enumerate().for_each(|(idx, value)| builder.value(idx, value));
        builder.end_row();
        // Some arguments must be literals: a call with literals only is always allowed.
        let args = values.iter().cloned().map(Expr::Literal).collect();
        let call = Expr::Call { func: func.to_string(), args, data_type };
        let refused = |why: String| ModelError::Scalar { func: func.to_string(), why };
        let ctx = EvalCtx {
            now_unix_ns: self.now_unix_ns,
            metadata: Arc::clone(&self.world.metadata),
            ..EvalCtx::default()
        };
        let array = CompiledExpr::new(&call)
            .and_then(|compiled| compiled.eval(&ctx, &builder.finish()))
            .map_err(|error| refused(error.to_string()))?;
        value_at(&array, data_type, 0).ok_or_else(|| refused("no value came back".to_string()))
    }
}

fn join(
    how: JoinKind,
    [left, right]: [&Input<'_>; 2],
    [left_on, right_on]: [&[usize]; 2],
    columns: &[(Side, usize)],
) -> Vec<Row> {
    let emit = |left: &Row, right: &Row| -> Row {
        columns
            .iter()
            .map(|&(side, idx)| match side {
                Side::Left => left[idx].clone(),
                Side::Right => right[idx].clone(),
            })
            .collect()
    };
    let matches =
        |left: &Row, right: &Row| left_on.iter().zip(right_on).all(|(&l, &r)| left[l] == right[r]);
    let zeros = |input: &Input<'_>| -> Row {
        input.relation.types().into_iter().map(DataType::zero).collect()
    };
    let mut out = Vec::new();
    for l in left.rows {
        let found = out.len();
        out.extend(right.rows.iter().filter(|r| matches(l, r)).map(|r| emit(l, r)));
        if out.len() == found && how != JoinKind::Inner {
            out.push(emit(l, &zeros(right)));
        }
    }
    if how == JoinKind::Outer {
        let alone = |r: &&Row| !left.rows.iter().any(|l| matches(l, r));
        out.extend(right.rows.iter().filter(alone).map(|r| emit(&zeros(left), r)));
    }
    out
}

/// The greatest n by (`time_`, packed row); without `time_` the smallest n by packed row.
fn limit(input: &Input<'_>, rows_max: u64) -> Vec<Row> {
    let mut rows = input.rows.to_vec();
    match input.relation.time_idx() {
        Some(time) => {
            rows.sort_by(|a, b| b[time].cmp(&a[time]).then_with(|| b.cmp(a)));
        }
        None => rows.sort(),
    }
    rows.truncate(usize::try_from(rows_max).unwrap_or(usize::MAX));
    rows
}
