//! Random cases around limits by event time: what may stand between a limit and a node's rows, or may not,
//! several limits of one frame, rows that are late, early, equal or of equal times, and panes that expire.
//! The general generator ([`super::plans`]) meets a limit in one plan of eight; here it is what is tested.

use proptest::prelude::*;
use weir_types::plan::{
    AggCall, EndBound, JoinKind, OpKind, Output, PLAN_VERSION, Scan, Side, StartBound, Window,
};
use weir_types::{Column, DataType, Expr, Op, OpId, Plan, Relation, SemanticType, Value};

use super::rows::{self, BASE_UNIX_NS, SEC_NS, VALUES_TABLE};
use super::{Case, feed_of, world};
use crate::choices::Choices;
use crate::drive::Feeding;
use crate::model::World;

const COLUMNS: [&str; 5] = ["number", "time_", "text", "flag", "ratio"];

/// Random cases with at most `rows_max` rows.
pub fn case(rows_max: usize) -> impl Strategy<Value = Case> {
    let numbers = |max| proptest::collection::vec(any::<u16>(), 0..max);
    let row = proptest::collection::vec(any::<u16>(), 28);
    (proptest::collection::vec(row, 0..rows_max), numbers(60), numbers(48)).prop_map(
        |(rows, plan, feed)| {
            let plan = plan_of(&mut Choices::new(&plan));
            let mut feed_choices = Choices::new(&feed);
            let retention_ns = feed_choices.pick(&[None, Some(2 * SEC_NS)]);
            let world = World { retention_ns, ..world(&[VALUES_TABLE], &rows) };
            Case { world, plan, feed: hurried(feed_of(&mut feed_choices)) }
        },
    )
}

/// The most ticks from one to the next: what reads the clock is computed at each of those between.
const TICKS_BETWEEN_MAX: u64 = 60;

/// Without the long pauses.
fn hurried(mut feed: Feeding) -> Feeding {
    let mut saved_ms = 0;
    for at in 1..feed.ticks_ms.len() {
        feed.ticks_ms[at] -= saved_ms;
        let gap_ms = feed.ticks_ms[at] - feed.ticks_ms[at - 1];
        let more_ms = gap_ms.saturating_sub(TICKS_BETWEEN_MAX * feed.tick_ms);
        saved_ms += more_ms;
        feed.ticks_ms[at] -= more_ms;
    }
    feed
}

struct Builder<'a, 'c> {
    ops: Vec<Op>,
    /// Products of products would drown the model.
    is_joined: bool,
    choices: &'a mut Choices<'c>,
}

/// A plan whose outputs are limits, or stand above one.
#[must_use]
pub fn plan_of(choices: &mut Choices<'_>) -> Plan {
    let mut builder = Builder { ops: Vec::new(), is_joined: false, choices };
    let mut frame = builder.scan();
    for _ in 0..builder.choices.below(5) {
        frame = builder.step(frame);
    }
    let limit = builder.limit(frame);
    let shown = if builder.choices.one_in(3) { builder.step(limit) } else { limit };
    let mut shown = vec![shown];
    if builder.choices.one_in(3) {
        shown.push(builder.limit(frame));
    }
    if builder.choices.one_in(8) {
        shown.push(frame);
    }
    let output = |(at, op)| Output { table: format!("out{at}"), op };
    let outputs = shown.into_iter().enumerate().map(output).collect();
    let mut plan = Plan { version: PLAN_VERSION, ops: builder.ops, outputs };
    plan.drop_unread();
    plan
}

impl Builder<'_, '_> {
    fn push(&mut self, kind: OpKind, inputs: &[OpId], relation: Relation) -> OpId {
        self.ops.push(Op { kind, inputs: inputs.to_vec(), relation });
        self.ops.len() - 1
    }

    fn relation(&self, op: OpId) -> Relation {
        self.ops[op].relation.clone()
    }

    fn column(&self, op: OpId, name: &str) -> Option<Expr> {
        let relation = &self.ops[op].relation;
        let idx = relation.index_of(name)?;
        Some(Expr::Column { idx, data_type: relation.columns[idx].data_type })
    }

    fn scan(&mut self) -> OpId {
        let window_ns =
            self.choices.pick(&[SEC_NS, 2 * SEC_NS, SEC_NS / 2, 5 * SEC_NS, 31 * SEC_NS]);
        let start = match self.choices.below(6) {
            5 => StartBound::Beginning,
            4 => StartBound::Absolute { start_unix_ns: BASE_UNIX_NS + SEC_NS / 2 },
            _ => StartBound::Relative { window_ns },
        };
        let end = if self.choices.one_in(8) {
            EndBound::Relative { before_ns: SEC_NS / 2 }
        } else {
            EndBound::Now
        };
        let table = rows::relation(VALUES_TABLE);
        let columns = COLUMNS.map(str::to_string).to_vec();
        let kept =
            COLUMNS.iter().filter_map(|name| Some(table.columns[table.index_of(name)?].clone()));
        let relation = Relation::new(kept.collect());
        let window = Window { start, end };
        let scan = Scan { table: VALUES_TABLE.to_string(), columns, window };
        self.push(OpKind::Scan(scan), &[], relation)
    }

    fn limit(&mut self, input: OpId) -> OpId {
        let rows_max = self.choices.pick(&[2, 1, 3, 5, 0, 20, 1000]);
        let relation = self.relation(input);
        self.push(OpKind::Limit { rows_max }, &[input], relation)
    }

    fn step(&mut self, input: OpId) -> OpId {
        match self.choices.below(8) {
            0..=2 => self.filter(input),
            3 | 4 => self.map(input),
            5 => {
                let relation = self.relation(input);
                self.push(OpKind::Union, &[input, input], relation)
            }
            6 => self.other_branch(input),
            _ if self.is_joined => self.filter(input),
            _ => self.join(input),
        }
    }

    /// The frame and another filter of it.
    fn other_branch(&mut self, input: OpId) -> OpId {
        let other = self.filter(input);
        let relation = self.relation(input);
        self.push(OpKind::Union, &[input, other], relation)
    }

    fn filter(&mut self, input: OpId) -> OpId {
        let predicate = self.condition(input, 2);
        let relation = self.relation(input);
        self.push(OpKind::Filter { predicate }, &[input], relation)
    }

    /// Of parts that a node can tell, and of parts that only the cluster part can: what reads the clock.
    fn condition(&mut self, input: OpId, depth: usize) -> Expr {
        let boolean = |func: &str, args| Expr::Call {
            func: func.to_string(),
            args,
            data_type: DataType::Boolean,
        };
        let kind = self.choices.below(if depth == 0 { 3 } else { 6 });
        match kind {
            3 => boolean("logicalNot", vec![self.condition(input, depth - 1)]),
            4 | 5 => {
                let func = ["logicalOr", "logicalAnd"][kind - 4];
                let left = self.condition(input, depth - 1);
                boolean(func, vec![left, self.condition(input, depth - 1)])
            }
            2 => {
                // A row comes to be true, or no longer is, as it grows old.
                let age = self.column(input, "time_").map_or(int(0), |time| Expr::Call {
                    func: "subtract".to_string(),
                    args: vec![
                        Expr::Now { factor: 1, offset_ns: 0 },
                        Expr::Call {
                            func: "time_to_int64".to_string(),
                            args: vec![time],
                            data_type: DataType::Int64,
                        },
                    ],
                    data_type: DataType::Int64,
                });
                let func = self.choices.pick(&["greaterThan", "lessThan"]);
                boolean(func, vec![age, int(self.choices.below(30) as i64 * SEC_NS / 10)])
            }
            1 if let Some(text) = self.column(input, "text") => {
                let literal = self.choices.pick(&["a", "b", "/cart"]);
                let func = self.choices.pick(&["equal", "notEqual"]);
                boolean(func, vec![text, Expr::Literal(Value::str(literal))])
            }
            _ => {
                let number = self.column(input, "number").unwrap_or_else(|| int(1));
                let func = self.choices.pick(&["lessThan", "greaterThanEqual"]);
                boolean(func, vec![number, int(self.choices.below(4) as i64)])
            }
        }
    }

    /// Columns stay, go, or change places; one more is computed, maybe of the clock.
    fn map(&mut self, input: OpId) -> OpId {
        let relation = self.relation(input);
        let (mut exprs, mut columns) = (Vec::new(), Vec::new());
        let turn = self.choices.below(relation.len());
        for at in 0..relation.len() {
            let idx = (at + turn) % relation.len();
            let column = relation.columns[idx].clone();
            if column.name == "time_" || !self.choices.one_in(4) {
                exprs.push(Expr::Column { idx, data_type: column.data_type });
                columns.push(column);
            }
        }
        let new = match self.choices.below(4) {
            0 => Expr::Now { factor: 1, offset_ns: -BASE_UNIX_NS },
            1 => int(7),
            _ => self.condition(input, 1),
        };
        let name = format!("c{}", self.ops.len());
        columns.push(Column::new(name, new.data_type(), SemanticType::None));
        exprs.push(new);
        self.push(OpKind::Map { exprs }, &[input], Relation::new(columns))
    }

    /// With groups of another scan: no row, one row or, for several keys, more.
    fn join(&mut self, left: OpId) -> OpId {
        let Some(Expr::Column { idx: left_on, .. }) = self.column(left, "number") else {
            return self.filter(left);
        };
        self.is_joined = true;
        let scan = self.scan();
        let right = if self.choices.one_in(3) { scan } else { self.counted(scan) };
        let how =
            self.choices.pick(&[JoinKind::Left, JoinKind::Left, JoinKind::Inner, JoinKind::Outer]);
        let (left_relation, right_relation) = (self.relation(left), self.relation(right));
        let Some(right_on) = right_relation.index_of("number") else { return left };
        let mut columns: Vec<(Side, usize)> =
            (0..left_relation.len()).map(|idx| (Side::Left, idx)).collect();
        let mut out = left_relation.columns;
        let last = right_relation.len() - 1;
        columns.push((Side::Right, last));
        let name = format!("j{}", self.ops.len());
        out.push(Column { name, ..right_relation.columns[last].clone() });
        let kind = OpKind::Join { how, left_on: vec![left_on], right_on: vec![right_on], columns };
        self.push(kind, &[left, right], Relation::new(out))
    }

    fn counted(&mut self, input: OpId) -> OpId {
        let relation = self.relation(input);
        let idx = relation.index_of("number").unwrap_or(0);
        let count = AggCall {
            func: "count".to_string(),
            args: vec![idx],
            arg_types: vec![DataType::Int64],
            data_type: DataType::Int64,
            time: relation.time_idx(),
        };
        let columns = vec![
            relation.columns[idx].clone(),
            Column::new("count", DataType::Int64, SemanticType::None),
        ];
        let kind = OpKind::Aggregate { group: vec![idx], aggs: vec![count] };
        self.push(kind, &[input], Relation::new(columns))
    }
}

fn int(value: i64) -> Expr {
    Expr::Literal(Value::Int64(value))
}
