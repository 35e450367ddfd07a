//! Random valid plans, operator by operator: a growing list of frames, each step applying one
//! operator to one or two of them. Whatever the choices are, the plan is well typed.
//!
//! In two styles. [`Style::Compiled`]: as a compiler's output, where a scan carries `time_`, and below
//! the first blocking operator every map passes it on, which puts rows into panes. [`Style::Script`]:
//! as a user writes, who drops and overwrites `time_`; only what PxL text can say (`pxl_text`).

use weir_types::plan::{
    AggCall, EndBound, JoinKind, OpKind, Output, PLAN_VERSION, Scan, Side, StartBound, Window,
};
use weir_types::{Column, DataType, Expr, Op, OpId, Plan, Relation, SemanticType, Value};

use super::exprs::expr;
use super::rows::{self, BASE_UNIX_NS, SEC_NS};
use crate::choices::Choices;

/// Cross products of cross products would drown the model.
const JOINS_MAX: usize = 2;
const STEPS_MAX: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Compiled,
    Script,
}

/// A plan by the choices; `tables` are those that it may scan.
#[must_use]
pub fn plan(style: Style, tables: &[&str], choices: &mut Choices<'_>) -> Plan {
    let mut builder =
        Builder { style, ops: Vec::new(), frames: Vec::new(), joins: 0, names: 0, choices };
    builder.scan(tables);
    for _ in 0..builder.choices.below(STEPS_MAX + 1) {
        builder.step(tables);
    }
    builder.finish()
}

#[derive(Clone, Copy)]
struct Frame {
    op: OpId,
    /// Only row-wise operators lie between it and its scan.
    row_wise: bool,
    /// A limit lies somewhere below it.
    limited: bool,
}

struct Builder<'a, 'c> {
    style: Style,
    ops: Vec<Op>,
    frames: Vec<Frame>,
    joins: usize,
    names: usize,
    choices: &'a mut Choices<'c>,
}

impl Builder<'_, '_> {
    fn step(&mut self, tables: &[&str]) {
        let frame = self.newest_or_any();
        match self.choices.below(12) {
            // In a script a filter goes before a limit below it, which a plan does not say.
            0 | 1 if self.style == Style::Compiled || !frame.limited => self.filter(frame),
            0 | 1 => self.map(frame),
            2 | 3 => self.map(frame),
            4..=6 => self.aggregate(frame),
            7 => self.limit(frame),
            8 if self.joins < JOINS_MAX => self.join(frame),
            9 => self.union(frame),
            _ => self.scan(tables),
        }
    }

    fn newest_or_any(&mut self) -> Frame {
        let newest = self.frames.len() - 1;
        let idx = if self.choices.one_in(3) { self.choices.below(newest + 1) } else { newest };
        self.frames[idx]
    }

    fn relation(&self, frame: Frame) -> Relation {
        self.ops[frame.op].relation.clone()
    }

    fn push(&mut self, kind: OpKind, inputs: &[Frame], relation: Relation, row_wise: bool) {
        let limited =
            matches!(kind, OpKind::Limit { .. }) || inputs.iter().any(|frame| frame.limited);
        let inputs = inputs.iter().map(|frame| frame.op).collect();
        self.frames.push(Frame { op: self.ops.len(), row_wise, limited });
        self.ops.push(Op { kind, inputs, relation });
    }

    /// A column name that no operator has used.
    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn scan(&mut self, tables: &[&str]) {
        let table = self.choices.pick(tables);
        let relation = rows::relation(table);
        let keep_all = self.choices.one_in(4);
        let mut kept = Vec::new();
        for column in relation.columns {
            if column.name == "time_" || keep_all || self.choices.one_in(3) {
                kept.push(column);
            }
        }
        let columns = kept.iter().map(|column| column.name.clone()).collect();
        let window = self.window();
        let kind = OpKind::Scan(Scan { table: table.to_string(), columns, window });
        self.push(kind, &[], Relation::new(kept), true);
    }

    fn window(&mut self) -> Window {
        const LENGTHS_NS: [i64; 9] = [
            SEC_NS,
            2 * SEC_NS,
            SEC_NS / 2,
            5 * SEC_NS,
            29 * SEC_NS + 1,
            31 * SEC_NS,
            300 * SEC_NS,
            3600 * SEC_NS,
            1,
        ];
        let near = |choices: &mut Choices<'_>| {
            BASE_UNIX_NS + choices.below(40) as i64 * SEC_NS / 10 + choices.below(3) as i64 - 1
        };
        let start = match self.choices.below(8) {
            0..=4 => StartBound::Relative { window_ns: self.choices.pick(&LENGTHS_NS) },
            5 | 6 => StartBound::Beginning,
            _ => StartBound::Absolute { start_unix_ns: near(self.choices) },
        };
        let end = match self.choices.below(8) {
            6 => EndBound::Relative { before_ns: self.choices.pick(&[SEC_NS, 1, SEC_NS / 2 + 7]) },
            7 => EndBound::Absolute { end_unix_ns: near(self.choices) },
            _ => EndBound::Now,
        };
        Window { start, end }
    }

    fn filter(&mut self, frame: Frame) {
        let relation = self.relation(frame);
        let random = self.expr(&relation, DataType::Boolean);
        let predicate = match self.choices.below(3) {
            // Wholly random ones mostly keep all rows or none.
            0 => random,
            _ => mild(&relation, self.choices).unwrap_or(random),
        };
        self.push(OpKind::Filter { predicate }, &[frame], relation, frame.row_wise);
    }

    /// An expression that this style can say.
    fn expr(&mut self, relation: &Relation, data_type: DataType) -> Expr {
        let expr = expr(relation, data_type, 3, self.choices);
        match self.style {
            Style::Compiled => expr,
            Style::Script => sayable(&expr),
        }
    }

    /// Some columns stay, some are computed.
    fn map(&mut self, frame: Frame) {
        let relation = self.relation(frame);
        let script = self.style == Style::Script;
        let new_time = script && relation.time_idx().is_some() && self.choices.one_in(5);
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        for (idx, column) in relation.columns.iter().enumerate() {
            let is_time = Some(idx) == relation.time_idx();
            if is_time && new_time {
                continue;
            }
            let needed = frame.row_wise && is_time && !script;
            if needed || !self.choices.one_in(3) {
                exprs.push(Expr::Column { idx, data_type: column.data_type });
                columns.push(column.clone());
            }
        }
        for _ in 0..=self.choices.below(2) {
            // No text makes an UINT128 of nothing.
            let types = if script { &DataType::ALL[..5] } else { &DataType::ALL };
            let data_type = self.choices.pick(types);
            exprs.push(self.expr(&relation, data_type));
            columns.push(Column::new(self.name("c"), data_type, SemanticType::None));
        }
        if new_time {
            exprs.push(self.expr(&relation, DataType::Time64Ns));
            columns.push(Column::new("time_", DataType::Time64Ns, SemanticType::None));
        }
        if self.choices.one_in(40) {
            exprs.push(Expr::Now { factor: 1, offset_ns: -BASE_UNIX_NS });
            columns.push(Column::new(self.name("now"), DataType::Int64, SemanticType::None));
        }
        self.push(OpKind::Map { exprs }, &[frame], Relation::new(columns), frame.row_wise);
    }

    fn aggregate(&mut self, frame: Frame) {
        let relation = self.relation(frame);
        let mut group = Vec::new();
        for _ in 0..self.choices.below(3) {
            let idx = self.choices.below(relation.len());
            if !group.contains(&idx) {
                group.push(idx);
            }
        }
        let mut columns: Vec<Column> =
            group.iter().map(|&idx| relation.columns[idx].clone()).collect();
        // A distinct (groups, no aggregates) is one of the alternatives; nothing at all is not.
        let least = usize::from(group.is_empty());
        let mut aggs = Vec::new();
        for _ in 0..self.choices.below(4).max(least) {
            let arg = self.choices.below(relation.len());
            let call = call(&relation, arg, self.choices);
            columns.push(Column::new(self.name("a"), call.data_type, SemanticType::None));
            aggs.push(call);
        }
        self.push(OpKind::Aggregate { group, aggs }, &[frame], Relation::new(columns), false);
    }

    fn limit(&mut self, frame: Frame) {
        let relation = self.relation(frame);
        let rows_max = self.choices.pick(&[1, 2, 5, 0, 1000]);
        self.push(OpKind::Limit { rows_max }, &[frame], relation, false);
    }

    fn join(&mut self, left: Frame) {
        let right = self.frames[self.choices.below(self.frames.len())];
        let (left_relation, right_relation) = (self.relation(left), self.relation(right));
        let how = self.choices.pick(&[JoinKind::Inner, JoinKind::Left, JoinKind::Outer]);
        let (mut left_on, mut right_on) = (Vec::new(), Vec::new());
        let keys = if self.joins == 0 { [1, 1, 1, 2, 0] } else { [1, 1, 1, 2, 2] };
        for _ in 0..self.choices.pick(&keys) {
            let l = self.choices.below(left_relation.len());
            let fitting: Vec<usize> = (0..right_relation.len())
                .filter(|&r| right_relation.types()[r] == left_relation.types()[l])
                .collect();
            // A key is given once: the compiler refuses more.
            if !fitting.is_empty() && !left_on.contains(&l) {
                let r = self.choices.pick(&fitting);
                if !right_on.contains(&r) {
                    left_on.push(l);
                    right_on.push(r);
                }
            }
        }
        let mut columns = Vec::new();
        let mut out = Vec::new();
        for (side, relation) in [(Side::Left, &left_relation), (Side::Right, &right_relation)] {
            for (idx, column) in relation.columns.iter().enumerate() {
                let last_chance = side == Side::Right && idx + 1 == relation.len();
                let needed = column.name == "time_" || (last_chance && out.is_empty());
                if !needed && self.choices.one_in(4) {
                    continue;
                }
                columns.push((side, idx));
                let name = if side == Side::Left && column.name == "time_" {
                    column.name.clone()
                } else {
                    self.name("j")
                };
                out.push(Column::new(name, column.data_type, column.semantic));
            }
        }
        self.joins += 1;
        let kind = OpKind::Join { how, left_on, right_on, columns };
        self.push(kind, &[left, right], Relation::new(out), false);
    }

    /// The frame and another one, projected onto its columns.
    fn union(&mut self, first: Frame) {
        let second = self.frames[self.choices.below(self.frames.len())];
        let (wanted, have) = (self.relation(first), self.relation(second));
        let keeps_time = wanted.time_idx().is_some() && have.time_idx().is_some();
        let drops_time = self.style == Style::Compiled && second.row_wise && !keeps_time;
        let unsayable = self.style == Style::Script && !all_types_in(&wanted, &have);
        let second = if have == wanted {
            second
        } else if drops_time || unsayable {
            first
        } else {
            let exprs = wanted.columns.iter().map(|column| projected(column, &have)).collect();
            self.push(OpKind::Map { exprs }, &[second], wanted.clone(), second.row_wise);
            self.frames[self.frames.len() - 1]
        };
        self.push(OpKind::Union, &[first, second], wanted, false);
    }

    fn finish(self) -> Plan {
        let Builder { ops, frames, choices, .. } = self;
        let newest = frames[frames.len() - 1].op;
        let mut outputs = vec![Output { table: "out".to_string(), op: newest }];
        if choices.one_in(3) {
            let op = choices.below(ops.len());
            outputs.push(Output { table: "other".to_string(), op });
        }
        pruned(Plan { version: PLAN_VERSION, ops, outputs })
    }
}

/// A comparison that keeps some rows and drops others.
fn mild(relation: &Relation, choices: &mut Choices<'_>) -> Option<Expr> {
    let of_type = |data_type: DataType| {
        let idx = (0..relation.len()).find(|&idx| relation.columns[idx].data_type == data_type)?;
        Some(Expr::Column { idx, data_type })
    };
    let (column, literal) = match choices.below(3) {
        0 => (of_type(DataType::Int64)?, Value::Int64(choices.below(4) as i64)),
        1 => (of_type(DataType::String)?, Value::str(choices.pick(&["a", "b", "/cart"]))),
        _ => {
            let idx = relation.time_idx()?;
            let after_ns = choices.below(20) as i64 * SEC_NS / 10;
            let column = Expr::Column { idx, data_type: DataType::Time64Ns };
            (column, Value::Time64Ns(BASE_UNIX_NS + after_ns))
        }
    };
    let func = choices.pick(&["greaterThanEqual", "lessThan", "notEqual"]);
    let func = if func == "notEqual" && column.data_type() == DataType::Time64Ns {
        "lessThanEqual"
    } else {
        func
    };
    let args = vec![column, Expr::Literal(literal)];
    Some(Expr::Call { func: func.to_string(), args, data_type: DataType::Boolean })
}

/// Without literals that PxL has no text for: bytes that are no plain text, doubles that are no
/// number, the lowest integer, UINT128.
fn sayable(expr: &Expr) -> Expr {
    match expr {
        Expr::Literal(Value::String(bytes)) if !bytes.is_ascii() || bytes.contains(&0) => {
            Expr::Literal(Value::str("b"))
        }
        Expr::Literal(Value::Float64(value)) if !value.is_finite() => {
            Expr::Literal(Value::Float64(0.5))
        }
        Expr::Literal(Value::Int64(i64::MIN)) => Expr::Literal(Value::Int64(-1)),
        Expr::Call { func, args, data_type }
            if args.iter().any(|arg| arg.data_type() == DataType::Uint128) =>
        {
            let columns = args.iter().all(|arg| matches!(arg, Expr::Column { .. }));
            if columns {
                Expr::Call { func: func.clone(), args: args.clone(), data_type: *data_type }
            } else {
                Expr::Literal(Value::Boolean(true))
            }
        }
        Expr::Call { func, args, data_type } => Expr::Call {
            func: func.clone(),
            args: args.iter().map(sayable).collect(),
            data_type: *data_type,
        },
        other => other.clone(),
    }
}

/// A projection needs no literal for UINT128.
fn all_types_in(wanted: &Relation, have: &Relation) -> bool {
    !wanted.types().contains(&DataType::Uint128) || have.types().contains(&DataType::Uint128)
}

/// The column by its name and type, else of its type, else its zero.
fn projected(column: &Column, have: &Relation) -> Expr {
    let data_type = column.data_type;
    let same_type = |idx: &usize| have.columns[*idx].data_type == data_type;
    let by_name = have.index_of(&column.name).filter(same_type);
    match by_name.or_else(|| (0..have.len()).find(same_type)) {
        Some(idx) => Expr::Column { idx, data_type },
        None => Expr::Literal(data_type.zero()),
    }
}

/// A random aggregate of the column.
#[must_use]
pub fn call(relation: &Relation, arg: usize, choices: &mut Choices<'_>) -> AggCall {
    use DataType::{Boolean, Float64, Int64, String, Time64Ns, Uint128};
    let arg_type = relation.columns[arg].data_type;
    let funcs: &[&str] = match arg_type {
        Int64 | Float64 => &["count", "sum", "mean", "min", "max", "any", "quantiles"],
        Boolean => &["count", "sum", "mean", "any"],
        Time64Ns => &["count", "min", "max", "any"],
        String | Uint128 => &["count", "any"],
    };
    let func = choices.pick(funcs);
    let data_type = match (func, arg_type) {
        ("count", _) | ("sum", Boolean) => Int64,
        ("mean", _) => Float64,
        ("quantiles", _) => String,
        _ => arg_type,
    };
    AggCall {
        func: func.to_string(),
        args: vec![arg],
        arg_types: vec![arg_type],
        data_type,
        time: relation.time_idx(),
    }
}

/// Without the operators that no output reads, as a compiled plan is.
fn pruned(plan: Plan) -> Plan {
    let mut used = vec![false; plan.ops.len()];
    for output in &plan.outputs {
        used[output.op] = true;
    }
    // Inputs come before their readers: one pass from the back reaches everything.
    for id in (0..plan.ops.len()).rev() {
        if used[id] {
            plan.ops[id].inputs.iter().for_each(|&input| used[input] = true);
        }
    }
    let mut renumbered = vec![0; plan.ops.len()];
    let mut ops = Vec::new();
    for (id, mut op) in plan.ops.into_iter().enumerate().filter(|(id, _)| used[*id]) {
        op.inputs.iter_mut().for_each(|input| *input = renumbered[*input]);
        renumbered[id] = ops.len();
        ops.push(op);
    }
    let outputs = plan
        .outputs
        .into_iter()
        .map(|output| Output { op: renumbered[output.op], ..output })
        .collect();
    Plan { ops, outputs, ..plan }
}
