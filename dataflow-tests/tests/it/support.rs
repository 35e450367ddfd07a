//! Plans and tables by hand, and the one way in which hand-written cases are checked: expected rows
//! against the model, and the model against the engine, at one and two workers and nodes.

use weir_dataflow_tests::drive::{FeedOrder, Feeding, compare, plain_split, pushed_split};
use weir_dataflow_tests::generate::rows::{self, BASE_UNIX_NS, SEC_NS, VALUES_TABLE};
use weir_dataflow_tests::model::{Arrived, Row, Table, World, evaluate, multiset};
use weir_types::plan::{
    AggCall, EndBound, JoinKind, OpKind, Output, PLAN_VERSION, Scan, Side, StartBound, Window,
};
use weir_types::{Column, DataType, Expr, Op, OpId, Plan, Relation, SemanticType, Value};

pub(crate) const MS_NS: i64 = 1_000_000;
pub(crate) const BASE_MS: u64 = (BASE_UNIX_NS / MS_NS) as u64;

pub(crate) fn last(window_ns: i64) -> Window {
    Window { start: StartBound::Relative { window_ns }, end: EndBound::Now }
}

pub(crate) fn everything() -> Window {
    Window { start: StartBound::Beginning, end: EndBound::Now }
}

/// A row of the table with every type; times are after the base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) time_ns: i64,
    pub(crate) late_ns: i64,
    pub(crate) number: i64,
    pub(crate) ratio: f64,
    pub(crate) text: &'static str,
}

pub(crate) fn at(time_ns: i64) -> Sample {
    Sample { time_ns, late_ns: 0, number: 0, ratio: 0.0, text: "" }
}

impl Sample {
    pub(crate) fn late(self, late_ns: i64) -> Sample {
        Sample { late_ns, ..self }
    }
    pub(crate) fn number(self, number: i64) -> Sample {
        Sample { number, ..self }
    }
    pub(crate) fn ratio(self, ratio: f64) -> Sample {
        Sample { ratio, ..self }
    }
    pub(crate) fn text(self, text: &'static str) -> Sample {
        Sample { text, ..self }
    }
}

pub(crate) fn world(samples: &[Sample]) -> World {
    let arrived = samples
        .iter()
        .map(|sample| {
            let time_unix_ns = BASE_UNIX_NS + sample.time_ns;
            Arrived {
                arrival_unix_ns: time_unix_ns + sample.late_ns,
                row: vec![
                    Value::Time64Ns(time_unix_ns),
                    Value::Boolean(sample.number > 0),
                    Value::Int64(sample.number),
                    Value::Float64(sample.ratio),
                    Value::str(sample.text),
                    Value::Time64Ns(BASE_UNIX_NS),
                    Value::Uint128(7),
                ],
            }
        })
        .collect();
    let table = Table { relation: rows::relation(VALUES_TABLE), rows: arrived };
    World { tables: [(VALUES_TABLE.to_string(), table)].into(), ..World::default() }
}

/// A plan under construction; every method adds one operator and gives its id.
#[derive(Default)]
pub(crate) struct Draft {
    ops: Vec<Op>,
}

impl Draft {
    fn push(&mut self, kind: OpKind, inputs: &[OpId], relation: Relation) -> OpId {
        self.ops.push(Op { kind, inputs: inputs.to_vec(), relation });
        self.ops.len() - 1
    }

    fn relation(&self, op: OpId) -> Relation {
        self.ops[op].relation.clone()
    }

    fn idx(&self, op: OpId, name: &str) -> usize {
        self.ops[op].relation.index_of(name).expect("a column of the draft")
    }

    pub(crate) fn scan(&mut self, columns: &[&str], window: Window) -> OpId {
        let table = rows::relation(VALUES_TABLE);
        let kept = columns
            .iter()
            .map(|name| table.columns[table.index_of(name).expect("a column")].clone())
            .collect();
        let kind = OpKind::Scan(Scan {
            table: VALUES_TABLE.to_string(),
            columns: columns.iter().map(|name| (*name).to_string()).collect(),
            window,
        });
        self.push(kind, &[], Relation::new(kept))
    }

    pub(crate) fn column(&self, input: OpId, name: &str) -> Expr {
        let idx = self.idx(input, name);
        Expr::Column { idx, data_type: self.ops[input].relation.columns[idx].data_type }
    }

    pub(crate) fn filter(&mut self, input: OpId, predicate: Expr) -> OpId {
        let relation = self.relation(input);
        self.push(OpKind::Filter { predicate }, &[input], relation)
    }

    pub(crate) fn map(&mut self, input: OpId, exprs: Vec<(&str, Expr)>) -> OpId {
        let columns = exprs
            .iter()
            .map(|(name, expr)| Column::new(*name, expr.data_type(), SemanticType::None))
            .collect();
        let exprs = exprs.into_iter().map(|(_, expr)| expr).collect();
        self.push(OpKind::Map { exprs }, &[input], Relation::new(columns))
    }

    /// `aggs`: function and column; the result is called `function_column`.
    pub(crate) fn aggregate(&mut self, input: OpId, group: &[&str], aggs: &[(&str, &str)]) -> OpId {
        let relation = self.relation(input);
        let group: Vec<usize> = group.iter().map(|name| self.idx(input, name)).collect();
        let mut columns: Vec<Column> =
            group.iter().map(|&idx| relation.columns[idx].clone()).collect();
        let mut calls = Vec::new();
        for (func, name) in aggs {
            let arg = self.idx(input, name);
            let arg_type = relation.columns[arg].data_type;
            let data_type = weir_functions::aggregate::resolve(func, &[arg_type])
                .expect("an overload of the aggregate");
            columns.push(Column::new(format!("{func}_{name}"), data_type, SemanticType::None));
            calls.push(AggCall {
                func: (*func).to_string(),
                args: vec![arg],
                arg_types: vec![arg_type],
                data_type,
                time: relation.time_idx(),
            });
        }
        let kind = OpKind::Aggregate { group, aggs: calls };
        self.push(kind, &[input], Relation::new(columns))
    }

    /// All left columns, then all right columns with `r_` before their names.
    pub(crate) fn join(&mut self, how: JoinKind, inputs: [OpId; 2], on: &[(&str, &str)]) -> OpId {
        let [left, right] = inputs;
        let mut out = Vec::new();
        let mut columns = Vec::new();
        for (side, input, prefix) in [(Side::Left, left, ""), (Side::Right, right, "r_")] {
            for (idx, column) in self.relation(input).columns.into_iter().enumerate() {
                out.push(Column { name: format!("{prefix}{}", column.name), ..column });
                columns.push((side, idx));
            }
        }
        let left_on = on.iter().map(|(name, _)| self.idx(left, name)).collect();
        let right_on = on.iter().map(|(_, name)| self.idx(right, name)).collect();
        let kind = OpKind::Join { how, left_on, right_on, columns };
        self.push(kind, &inputs, Relation::new(out))
    }

    pub(crate) fn union(&mut self, inputs: &[OpId]) -> OpId {
        let relation = self.relation(inputs[0]);
        self.push(OpKind::Union, inputs, relation)
    }

    pub(crate) fn limit(&mut self, input: OpId, rows_max: u64) -> OpId {
        let relation = self.relation(input);
        self.push(OpKind::Limit { rows_max }, &[input], relation)
    }

    /// The plan whose output is `op`.
    pub(crate) fn plan(self, op: OpId) -> Plan {
        let outputs = vec![Output { table: "out".to_string(), op }];
        Plan { version: PLAN_VERSION, ops: self.ops, outputs }
    }
}

pub(crate) fn call(func: &str, data_type: DataType, args: Vec<Expr>) -> Expr {
    Expr::Call { func: func.to_string(), args, data_type }
}

pub(crate) fn int(value: i64) -> Expr {
    Expr::Literal(Value::Int64(value))
}

/// Ticks at these milliseconds after the base, and what the view holds at each.
pub(crate) type Expected = [(u64, Vec<Row>)];

/// Checks the model against `expected` and the engine against the model, in several ways of
/// feeding.
#[track_caller]
pub(crate) fn expect(plan: &Plan, world: &World, expected: &Expected) {
    expect_at(100, plan, world, expected);
}

/// As [`expect`], with another tick (which is the refresh, too).
#[track_caller]
pub(crate) fn expect_at(tick_ms: u64, plan: &Plan, world: &World, expected: &Expected) {
    for (after_ms, rows) in expected {
        let now_unix_ns = BASE_UNIX_NS + *after_ms as i64 * MS_NS;
        let views = evaluate(plan, world, now_unix_ns).expect("a plan that the model knows");
        let types = plan.ops[plan.outputs[0].op].relation.types();
        let wrong = weir_dataflow_tests::drive::difference(&multiset(rows), &views["out"], &types);
        if let Some(wrong) = wrong {
            panic!("the model at +{after_ms} ms:\n{wrong}");
        }
    }
    let ticks_ms: Vec<u64> = expected.iter().map(|(after_ms, _)| BASE_MS + after_ms).collect();
    for (order, workers, nodes) in [
        (FeedOrder::Whole, 1, 1),
        (FeedOrder::RowByRow, 2, 1),
        (FeedOrder::Shuffled { seed: 3 }, 2, 2),
    ] {
        for installed_after in [0, ticks_ms.len() / 2] {
            let feed = Feeding {
                order,
                workers,
                nodes,
                tick_ms,
                refresh_ms: tick_ms,
                ticks_ms: ticks_ms.clone(),
                installed_after,
                one_row_slices: workers == 2 && nodes == 1,
                groups_max: None,
            };
            for (name, split) in [("plain", plain_split(plan)), ("pushed", pushed_split(plan))] {
                if let Err(error) = compare(plan, &split, world, &feed) {
                    panic!("{name} split: {error}\n{feed:?}");
                }
            }
        }
    }
}

pub(crate) const fn secs(count: i64) -> i64 {
    count * SEC_NS
}
